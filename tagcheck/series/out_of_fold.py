"""The evidence for each series of each picture, from models that did not see it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from tagcheck.learning import linear_probes
from tagcheck.learning.same_class_model import Plda, fit_plda
from tagcheck.series.labels import CannotLearn, Labels
from tagcheck.series.scoring import (
    LEAST_TUNED,
    MIXING_ROWS,
    STRANGE_PARTS,
    TUNED,
    Candidates,
    Fitted,
    Model,
    Progress,
    pick_exemplars,
    score,
)
from tagcheck.series.tagger_says import BLOCK, Prior, Tagger, companion_ratios


@dataclass(frozen=True)
class Folded:
    """Out-of-fold candidates of n pictures, and what each fold's model could know.

    `folds` (n,); `known` (folds, C) float: pictures of each class in the rows that a fold's model
    was fitted on. `unknown`: candidates of `unknown_rows` (m,), tagged pictures, under models that
    were fitted without their series, as if these were unknown; the rows have nothing in common with
    the order of the candidates otherwise. `foreign_class` (names,): the owner's series that each of the tagger's is, -1 for one that the owner has not.
    `fitted` are the folds' models.
    """

    candidates: Candidates
    folds: np.ndarray
    known: np.ndarray
    unknown: Candidates
    unknown_rows: np.ndarray
    foreign_class: np.ndarray | None = None
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
    pictures, tagged = _Pictures(matrix, labels, tagger, beside, seed), np.flatnonzero(labels.tagged)
    sums = linear_probes.moments(matrix[tagged], labels.membership[tagged], folds[tagged])
    number = int(folds.max()) + 1
    own = labels.single
    found: Candidates | None = None
    fitted = list[Fitted]()
    known = np.zeros((number, len(labels.classes)))
    for fold in range(number):
        fitted.append(pictures.fitted(sums, fold, np.flatnonzero(folds != fold)))
        known[fold] = fitted[-1].plda.counts
        rows = np.flatnonzero(folds == fold)
        part = pictures.scored(fitted[-1], rows, own[rows])
        if found is None:
            found = _room(part, len(matrix))
        for name, field in vars(part).items():
            getattr(found, name)[rows] = field
        if progress:
            progress(0.8 * (fold + 1) / number)
    if found is None:
        raise CannotLearn("no picture is in a fold")
    folded = Folded(found, folds, known, *_as_unknown(pictures, found), _foreign_class(tagger, labels), fitted)
    return folded, pictures.fitted(sums, None, np.arange(len(matrix))).over(matrix)


def _room(part: Candidates, count: int) -> Candidates:
    """Zeros of the form of `part`, for `count` pictures."""
    return Candidates(*(np.zeros((count, *field.shape[1:]), field.dtype) for field in vars(part).values()))


@dataclass(frozen=True)
class _Pictures:
    """What models are learned from and score: see `out_of_fold`."""

    matrix: np.ndarray
    labels: Labels
    tagger: Tagger | None
    beside: sparse.csr_matrix | None
    seed: int

    def fitted(self, sums: linear_probes.FoldedMoments, without: int | None, rows: np.ndarray) -> Fitted:
        """The model of `rows`, whose sums are all of `sums` but those of the part `without`."""
        labels, width, classes = self.labels, self.matrix.shape[1], len(self.labels.classes)
        picked, starts = pick_exemplars(labels.single, rows, classes, self.seed)
        nothing = np.zeros((0, width), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        prior = self.tagger.prior(labels, rows) if self.tagger else Prior(*nothing, *nothing)
        companions = sparse.csr_matrix((0, classes), dtype=np.float32)
        if self.beside is not None:
            companions = companion_ratios(self.beside, labels, rows)
        return Fitted(_fit(sums, without), picked, starts, prior, companions)

    def scored(self, fitted: Fitted, rows: np.ndarray, own: np.ndarray | None = None) -> Candidates:
        """The candidates of `rows`; `own` (m,) are classes to weigh in any case."""
        return score(
            fitted.over(self.matrix), self.matrix[rows], own, None if self.beside is None else self.beside[rows]
        )


def _as_unknown(pictures: _Pictures, found: Candidates) -> tuple[Candidates, np.ndarray]:
    """(candidates, rows (m,)) of tagged pictures under models that were fitted without their series.

    The series are dealt to up to `STRANGE_PARTS` parts, those that share a picture to one, and each
    part is left out once. With fewer than three, where no two series would be left to tell apart,
    a picture's own series are struck out of the candidates it was `found` to have.
    """
    labels, seed = pictures.labels, pictures.seed
    own, related = labels.single, _components(labels)
    rows = np.flatnonzero(own >= 0)
    component = related[own[rows]]
    parts = min(STRANGE_PARTS, len(np.unique(component)))
    if parts < 3:
        part = found.rows(rows)
        struck = related[np.maximum(part.classes, 0)] == component[:, None]
        return replace(part, classes=np.where(struck, -1, part.classes)), rows
    held = linear_probes.grouped_folds(component, parts, seed)
    sums = linear_probes.moments(pictures.matrix[rows], labels.membership[rows], held)
    judged = np.random.default_rng(seed).permutation(len(rows))[:MIXING_ROWS]
    made, order = [], []
    for without in range(parts):
        strange = rows[np.sort(judged[held[judged] == without])]
        made.append(pictures.scored(pictures.fitted(sums, without, rows[held != without]), strange))
        order.append(strange)
    return joined(made), np.concatenate(order)


def _foreign_class(tagger: Tagger | None, labels: Labels) -> np.ndarray | None:
    own = {name: place for place, name in enumerate(labels.series)}
    return np.array([own.get(name, -1) for name in tagger.foreign_names], dtype=np.int64) if tagger else None


def joined(parts: Sequence[Candidates]) -> Candidates:
    return Candidates(*(np.concatenate(fields) for fields in zip(*(vars(one).values() for one in parts))))


def _components(labels: Labels) -> np.ndarray:
    """(C,) a number for each class, the same for classes that share a series, whether directly or through others."""
    contains = labels.contains().astype(np.float32)
    return np.asarray(csgraph.connected_components(sparse.csr_matrix(contains @ contains.T), directed=False)[1])


def network_heard(
    found: Candidates,
    log_p: np.ndarray,
    known: np.ndarray,
    folds: np.ndarray | None = None,
    struck: sparse.csr_matrix | None = None,
) -> Candidates:
    """`found` with what a network that was trained on the pictures says of each candidate class, as one more feature.

    `log_p` (n, C) its log-probabilities, a row of zeros where it has seen nothing; `known` (folds, C)
    bool the classes that each fold's network was trained with, `folds` (n,) which one spoke (default:
    the first). `struck` csr (n, C) bool: classes taken for unknown, their probability goes to the
    others. The feature is the log of how many times more probable than by chance a class is; 0 says nothing.
    """
    features = found.features.copy()
    folds = np.zeros(len(log_p), dtype=np.int64) if folds is None else folds
    for start in range(0, len(log_p), BLOCK):
        rows = slice(start, start + BLOCK)
        left = known[folds[rows]]
        if struck is not None:
            left = left & ~struck[rows].toarray()
        p = np.where(left, np.exp(log_p[rows].astype(np.float32)), 0.0)
        p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-12)
        at = np.maximum(found.classes[rows], 0)
        chance = np.maximum(left.sum(axis=1, keepdims=True), 1)
        value = np.log(np.maximum(np.take_along_axis(p, at, axis=1), LEAST_TUNED) * chance)
        spoke = (log_p[rows] < 0).any(axis=1, keepdims=True)
        heard = (found.classes[rows] >= 0) & np.take_along_axis(left, at, axis=1) & spoke
        features[rows, :, TUNED] = np.where(heard, value, 0.0)
    return replace(found, features=features)


def with_network(folded: Folded, labels: Labels, log_p: np.ndarray, folds: np.ndarray, known: np.ndarray) -> Folded:
    """`folded` with a network's word on every picture, out of fold as well.

    `log_p` (n, C) of networks that have not seen the picture or a near-duplicate; the network that
    judged row i was trained with the classes `known[folds[i]]` (C,) bool. That an unknown picture's own
    series is known to the network is hidden by striking it out.
    """
    related, rows = _components(labels), folded.unknown_rows
    sharing = sparse.csr_matrix((np.ones(len(related), dtype=bool), (related, np.arange(len(related)))))
    own = sharing[related[labels.single[rows]]]
    unknown = network_heard(folded.unknown, log_p[rows], known, folds[rows], own)
    return replace(folded, candidates=network_heard(folded.candidates, log_p, known, folds), unknown=unknown)


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
