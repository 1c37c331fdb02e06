"""The evidence for each series of each picture, from models that did not see it."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from tagcheck.embedding.store import compact
from tagcheck.learning import linear_probes
from tagcheck.learning.linear_probes import unit_rows
from tagcheck.learning.same_class_model import Plda, fit_plda
from tagcheck.series.labels import Labels
from tagcheck.series.scoring import LEAST_TUNED, TUNED, Candidates, Model, Progress, pick_exemplars, score
from tagcheck.series.tagger_says import BLOCK, TRUST_START, Prior, Tagger, companion_ratios

ROUNDING = 3e-5  # of squares, by sums in float32


@dataclass(frozen=True)
class Folded:
    """Out-of-fold candidates of n pictures, the fold (n,) of each, and the pictures of each class that each fold's model `knows` (folds, C).

    `trust` (slope, offset) turns the logit of a series that the tagger names into the log-odds that it is right.
    """

    candidates: Candidates
    folds: np.ndarray
    knows: np.ndarray
    trust: tuple[float, float] = TRUST_START


def out_of_fold(
    matrix: np.ndarray,
    labels: Labels,
    folds: np.ndarray,
    progress: Progress | None = None,
    tagger: Tagger | None = None,
    beside: sparse.csr_matrix | None = None,
) -> tuple[Folded, Model]:
    """Scores of every picture by a model that saw neither it nor a near-duplicate; and the model of all pictures.

    `matrix` (n, d) embeddings, `folds` (n,) from `probes.grouped_folds`, `tagger` from `listen`, `beside` csr (n, T)
    the pictures' character tags. All models come out of one pass over the data. Raises ValueError when
    a fold's model would know fewer than two series.
    """
    own, number = labels.single, int(folds.max()) + 1
    beside = sparse.csr_matrix((len(matrix), 0), dtype=np.float32) if beside is None else beside
    sums = linear_probes.moments(matrix, labels.membership, np.where(labels.tagged, folds, -1))

    def model(rows: np.ndarray, without: int | None = None) -> Model:
        prior = tagger.prior(labels, rows) if tagger else Prior.nothing(matrix.shape[1])
        plda, (picked, starts) = _fit(sums, without), pick_exemplars(own, rows, len(labels.classes))
        exemplars = compact(unit_rows(plda.project(matrix[picked])))
        return Model(plda, exemplars, starts, prior, companion_ratios(beside, labels, rows))

    knows, fields = list[np.ndarray](), list[np.ndarray]()
    for fold in range(number):
        mine = folds == fold
        made = model(np.flatnonzero(~mine), fold)
        knows.append(made.plda.counts)
        part = score(made, matrix[mine], own[mine], beside[mine])
        fields = fields or [np.empty((len(matrix), *one.shape[1:]), one.dtype) for one in vars(part).values()]
        for field, values in zip(fields, vars(part).values()):
            field[mine] = values
        if progress:
            progress(0.8 * (fold + 1) / number)
    trust = tagger.trust(matrix, labels) if tagger else TRUST_START
    return Folded(Candidates(*fields), folds, np.stack(knows), trust), model(np.arange(len(matrix)))


def network_heard(
    found: Candidates, log_p: np.ndarray, known: np.ndarray, folds: np.ndarray | None = None
) -> Candidates:
    """`found` with what a network that was trained on the pictures says of each candidate class, as one more feature.

    `log_p` (n, C) its log-probabilities, a row of zeros where it has seen nothing; `known` (folds, C)
    bool the classes that each fold's network was trained with, `folds` (n,) which one spoke (default:
    the first). The feature is the log of how many times more probable than by chance a class is; 0 says nothing.
    """
    features = found.features.copy()
    folds = np.zeros(len(log_p), dtype=np.int64) if folds is None else folds
    for start in range(0, len(log_p), BLOCK):
        rows = slice(start, start + BLOCK)
        left = known[folds[rows]]
        p = np.where(left, np.exp(log_p[rows].astype(np.float32)), 0.0)
        p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-12)
        at = np.maximum(found.classes[rows], 0)
        chance = np.maximum(left.sum(axis=1, keepdims=True), 1)
        value = np.log(np.maximum(np.take_along_axis(p, at, axis=1), LEAST_TUNED) * chance)
        spoke = (log_p[rows] < 0).any(axis=1, keepdims=True)
        heard = (found.classes[rows] >= 0) & np.take_along_axis(left, at, axis=1) & spoke
        features[rows, :, TUNED] = np.where(heard, value, 0.0)
    return replace(found, features=features)


def _fit(sums: linear_probes.FoldedMoments, without: int | None) -> Plda:
    """The model without one fold, or of all rows."""
    left = np.arange(len(sums.count)) != (-1 if without is None else without)
    count, counts = sums.count[left].sum(), sums.sum_y[left].sum(axis=0)
    mean = sums.sum_x[left].sum(axis=0) / count
    whole = sums.gram[left].sum(axis=0)
    gram, rounding = whole - count * np.outer(mean, mean), ROUNDING * float(np.trace(whole)) / count / len(whole)
    class_sums = (sums.cross[left].sum(axis=0) - np.outer(mean, counts)).T
    return fit_plda(mean + sums.centre, gram, class_sums, np.where(counts > 1e-9, counts, 0.0), rounding)
