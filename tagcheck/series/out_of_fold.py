"""The evidence for each series of each picture, from models that did not see it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from tagcheck.learning import linear_probes
from tagcheck.learning.same_class_model import Plda, fit_plda
from tagcheck.series.labels import CannotLearn, Labels
from tagcheck.series.scoring import LEAST_TUNED, TUNED, Candidates, Fitted, Model, Progress, pick_exemplars, score
from tagcheck.series.tagger_says import BLOCK, Prior, Tagger, companion_ratios


@dataclass(frozen=True)
class Folded:
    """Out-of-fold candidates of n pictures, and what each fold's model could know.

    `folds` (n,); `known` (folds, C) float: pictures of each class in the rows that a fold's model was fitted on. `named_logit`
    (n,) how loudly the tagger names a series, `named_right` (n,) 1 or 0 whether the picture has its tag, -1 where that is not known.
    `fitted` are the folds' models.
    """

    candidates: Candidates
    folds: np.ndarray
    known: np.ndarray
    named_logit: np.ndarray
    named_right: np.ndarray
    fitted: Sequence[Fitted] = ()

    def learned(self, labels: Labels) -> sparse.csr_matrix:
        """What `learned` says of these."""
        return learned(self.known, self.folds, labels)


def learned(known: np.ndarray, folds: np.ndarray, labels: Labels) -> sparse.csr_matrix:
    """csr (n, S) of 0/1: of each picture's own series, those that the model which judged it had pictures of."""
    of_fold = known @ labels.contains() > 0
    row, column = labels.tags.nonzero()
    values = of_fold[folds[row], column].astype(np.float32)
    return sparse.csr_matrix((values, (row, column)), shape=labels.tags.shape)


def out_of_fold(
    matrix: np.ndarray,
    labels: Labels,
    folds: np.ndarray,
    seed: int = 0,
    progress: Progress | None = None,
    tagger: Tagger | None = None,
    beside: sparse.csr_matrix | None = None,
) -> tuple[Folded, Model]:
    """Scores of every picture by a model that saw neither it nor a near-duplicate; and the model of all pictures.

    `matrix` (n, d) embeddings, `folds` (n,) from `probes.grouped_folds`, `tagger` from `listen`, `beside` csr (n, T)
    the pictures' character tags. All models come out of one pass over the data. Raises `CannotLearn` when
    a fold's model would know fewer than two series.
    """
    own, tagged = labels.single, np.flatnonzero(labels.tagged)
    sums = linear_probes.moments(matrix[tagged], labels.membership[tagged], folds[tagged])
    number = int(folds.max()) + 1

    def model(without: int | None) -> Fitted:
        rows = np.flatnonzero(folds != without) if without is not None else np.arange(len(matrix))
        picked, starts = pick_exemplars(own, rows, len(labels.classes), seed)
        prior = tagger.prior(labels, rows) if tagger else Prior.nothing(matrix.shape[1])
        companions = sparse.csr_matrix((0, len(labels.classes)), dtype=np.float32)
        if beside is not None:
            companions = companion_ratios(beside, labels, rows)
        return Fitted(_fit(sums, without), picked, starts, prior, companions)

    parts, fitted, rows_of = [], [], [np.flatnonzero(folds == fold) for fold in range(number)]
    for fold, rows in enumerate(rows_of):
        fitted.append(model(fold))
        along = None if beside is None else beside[rows]
        parts.append(score(fitted[-1].over(matrix), matrix[rows], own[rows], along))
        if progress:
            progress(0.8 * (fold + 1) / number)
    found = Candidates.joined(parts).rows(np.argsort(np.concatenate(rows_of), kind="stable"))
    known = np.array([one.plda.counts for one in fitted])
    return Folded(found, folds, known, *_named(matrix, labels, tagger), fitted), model(None).over(matrix)


def _named(matrix: np.ndarray, labels: Labels, tagger: Tagger | None) -> tuple[np.ndarray, np.ndarray]:
    """`Folded.named_logit` and `named_right`, of whatever series the tagger knows by name."""
    right = np.full(len(matrix), -1)
    if tagger is None:
        return np.zeros(len(matrix)), right
    meant, logit = tagger.by_name().foreign(matrix)
    own = {name: place for place, name in enumerate(labels.series)}
    place = np.array([own.get(name, -1) for name in (*tagger.foreign_names, "")])[meant]
    rows = np.flatnonzero(labels.tagged & (meant >= 0))
    has = np.asarray(labels.tags[rows, np.maximum(place[rows], 0)]).ravel()
    right[rows] = has & (place[rows] >= 0)
    return logit, right


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


def _fit(sums: linear_probes.FoldedMoments, fold: int | None) -> Plda:
    """The model without one fold, or of all rows."""
    left = [place for place in range(len(sums.count)) if place != fold]
    count = sums.count[left].sum()
    counts = sums.sum_y[left].sum(axis=0)
    if (counts > 1e-9).sum() < 2:
        raise CannotLearn("fewer than two series are left when the pictures of one part are held back")
    mean = sums.sum_x[left].sum(axis=0) / count
    gram = sums.gram[left].sum(axis=0) - count * np.outer(mean, mean)
    class_sums = (sums.cross[left].sum(axis=0) - np.outer(mean, counts)).T
    return fit_plda(mean + sums.centre, gram, class_sums, np.where(counts > 1e-9, counts, 0.0))
