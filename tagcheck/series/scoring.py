"""Which series is a picture of, or none of the owner's? Learned from stored embeddings, judged out of fold.

1. `labels.label_images`: the owner's series are the classes, and so is a set of series that comes together often.
2. `out_of_fold.out_of_fold`: a PLDA model a fold scores the pictures that it was not fitted on, as is done here;
   near-duplicates share a fold.
3. `probabilities.fit_mixing`: a conditional logit over the best candidates and "none of yours" turns scores into
   probabilities. Its likelihood allows for swapped tags and for forgotten ones.

What the tagger knows (`Prior`) and a picture's character tags (`companion_ratios`) are features beside the scores.
docs/decisions/series.md says why it is done so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from tagcheck.learning.linear_probes import unit_rows
from tagcheck.learning.same_class_model import Plda
from tagcheck.series.tagger_says import BLOCK, Prior

EXEMPLARS = 8000  # pictures kept as they are, of all classes together
EXEMPLARS_A_CLASS = (32, 512)  # at least and at most of one class
NEAREST = 3  # of them that count
CANDIDATES = 24  # classes a picture is weighed between; the others are far below
MIXING_ROWS = 20_000  # pictures that the few mixing weights are fitted on
MOST_FROM_COMPANIONS = 8.0  # however many characters a picture has
LEAST_TUNED = 1e-4  # of a network's probabilities; less is not told apart
FEATURES = 8  # kinds of evidence for a class, see `score`; among them, by place:
NEARNESS, TUNED, COMPANIONS = slice(3, 5), 6, 7
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Candidates:
    """For each of n pictures the classes it may be of, and the evidence for each.

    `classes` (n, K) int32, -1 where there are fewer; `features` (n, K, F) float32, higher speaks
    for the class; `unusual` (n, G) float32, the evidence for "none of yours" beside low scores.
    `foreign` (n,) int64 the series that the tagger names loudest among those the model has no pictures of,
    -1 for none, and `foreign_logit` (n,) float32 how loudly.
    """

    classes: np.ndarray
    features: np.ndarray
    unusual: np.ndarray
    foreign: np.ndarray
    foreign_logit: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """(n, K) bool: where there is a candidate."""
        return self.classes >= 0

    def rows(self, which: np.ndarray | slice) -> Candidates:
        """The candidates of some of the pictures."""
        return Candidates(*(field[which] for field in vars(self).values()))

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """The candidates of several lots of pictures, one behind the other."""
        return cls(*(np.concatenate(fields) for fields in zip(*(vars(one).values() for one in parts))))


@dataclass(frozen=True)
class Model:
    """What a picture is held against: a PLDA model of C classes, and pictures of each class as they are.

    PLDA takes a class for one cloud. Many a series is several (its characters): there the nearest of
    its pictures tell more. `exemplars` (E, d) float32 are some pictures of each class; those of
    class c are rows `starts[c]` to `starts[c + 1]`. `companions` csr (T, C) from `companion_ratios`.
    """

    plda: Plda
    exemplars: np.ndarray
    starts: np.ndarray
    prior: Prior
    companions: sparse.csr_matrix


@dataclass(frozen=True)
class Fitted:
    """A model without its exemplars: of these it has the `rows` (E,) in the embeddings that it was fitted on."""

    plda: Plda
    rows: np.ndarray
    starts: np.ndarray
    prior: Prior
    companions: sparse.csr_matrix

    def over(self, matrix: np.ndarray, now: np.ndarray | None = None) -> Model:
        """The model with its exemplars out of `matrix` (n, d), where each row stands `now` (-1: nowhere)."""
        rows, starts = self.rows, self.starts
        if now is not None:
            there = now[rows] >= 0
            rows, starts = now[rows[there]], np.concatenate([[0], np.cumsum(there)])[starts]
        return Model(self.plda, matrix[rows].astype(np.float32), starts, self.prior, self.companions)


def pick_exemplars(own: np.ndarray, rows: np.ndarray, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Some of `rows` for each of `number` classes, drawn by lot: (rows (E,), starts (number + 1,)).

    `own` (n,) is each picture's class. About `EXEMPLARS` in all, the same number of every class.
    """
    limit = int(np.clip(EXEMPLARS // number, *EXEMPLARS_A_CLASS))
    shuffled = np.random.default_rng(seed).permutation(rows[own[rows] >= 0])
    order = shuffled[np.argsort(own[shuffled], kind="stable")]
    first = np.searchsorted(own[order], np.arange(number + 1))
    rank = np.arange(len(order)) - first[own[order]]
    kept = order[rank < limit]
    return kept, np.searchsorted(own[kept], np.arange(number + 1))


def nearness(unit: np.ndarray, exemplars: np.ndarray, starts: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How near each picture is to the nearest of a class's exemplars, (m, K) float32, -1 to 1.

    The mean cosine with the `NEAREST` best of them, for each of its candidate `classes` (m, K), -1 for none. `unit` (m,
    d) and `exemplars` (E, d) have rows of length 1. A class without exemplars gives -1.
    """
    out = np.full(classes.shape, -1.0, dtype=np.float32)
    flat = classes.ravel()
    order = np.argsort(flat, kind="stable")
    bounds = np.searchsorted(flat[order], np.arange(len(starts)))
    with threadpool_limits(
        1, user_api="blas"
    ):  # thousands of small products: threads would spend ten times as long waiting
        for one in np.flatnonzero(np.diff(bounds) * np.diff(starts)):
            places = order[bounds[one] : bounds[one + 1]]
            cosine = unit[places // classes.shape[1]] @ exemplars[starts[one] : starts[one + 1]].T
            if cosine.shape[1] > NEAREST:
                cosine = np.partition(cosine, -NEAREST, axis=1)[:, -NEAREST:]
            out.ravel()[places] = cosine.mean(axis=1)
    return out


def score(
    model: Model, matrix: np.ndarray, own: np.ndarray | None = None, beside: sparse.csr_matrix | None = None
) -> Candidates:
    """The `CANDIDATES` best classes of each embedding (m, d) under one model, and of `own` (m,) also that class.

    `own` is the class that the owner's tag names (-1 for none): it is weighed whatever its score.
    The features are, of each class: PLDA's log ratio; the same, less steep for pictures far from
    everything (as tails heavier than a Gaussian's would make it); the log of its pictures; the
    nearness of its pictures, in the embedding and in PLDA's space; what the tagger says for it; what a
    fine-tuned network says (`network_heard`); what the pictures' character tags, `beside` csr (m, T), say.
    """
    plda = model.plda
    size = (len(matrix), CANDIDATES + (own is not None))
    classes, values = np.full(size, -1, dtype=np.int32), np.zeros((*size, FEATURES), dtype=np.float32)
    unusual = np.zeros((len(matrix), 2), dtype=np.float32)
    foreign, loud = np.zeros(len(matrix), dtype=np.int64), np.zeros(len(matrix), dtype=np.float32)
    log_counts = np.log(np.maximum(plda.counts, 0.1)).astype(np.float32)
    around = unit_rows(model.exemplars - plda.centre), unit_rows(plda.project(model.exemplars))
    for start in range(0, len(matrix), BLOCK):
        rows = slice(start, min(start + BLOCK, len(matrix)))
        z = plda.project(matrix[rows])
        all_scores = plda.scores(z)
        typical = plda.typicality(z)
        picked = _best(all_scores + log_counts)
        if own is not None:
            mine = own[rows][:, None]
            again = (picked == mine).any(axis=1, keepdims=True)
            picked = np.concatenate([picked, np.where(again | (mine < 0), -1, mine)], axis=1)
        there = np.take_along_axis(all_scores, np.maximum(picked, 0), axis=1)
        picked = np.where((picked >= 0) & np.isfinite(there), picked, -1)
        there = np.where(picked >= 0, there, 0.0)
        wide = picked.shape[1]
        classes[rows, :wide] = picked
        values[rows, :wide, 0] = there
        values[rows, :wide, 1] = there / (0.5 + 0.5 * typical[:, None])
        values[rows, :wide, 2] = np.where(picked >= 0, log_counts[np.maximum(picked, 0)], 0.0)
        for feature, seen, exemplars in zip((3, 4), (matrix[rows] - plda.centre, z), around):
            values[rows, :wide, feature] = nearness(unit_rows(seen), exemplars, model.starts, picked)
        values[rows, :wide, 5] = model.prior.evidence(matrix[rows], picked)
        unusual[rows, 0] = 1.0
        unusual[rows, 1] = np.log(np.maximum(typical, 1e-6))
        foreign[rows], loud[rows] = model.prior.foreign(matrix[rows])
        if beside is not None and model.companions.nnz:
            heard, found = _characters_say(beside[rows] @ model.companions, picked)
            values[start + heard, :wide, COMPANIONS] = found
    return Candidates(classes, values, unusual, foreign, loud)


def _characters_say(said: sparse.spmatrix, picked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the rows whose character tags say something, what they say for each of the classes `picked`)."""
    said = said.tocsr()
    heard = np.flatnonzero(np.diff(said.indptr))
    at = np.maximum(picked[heard], 0)
    found = np.minimum(np.take_along_axis(said[heard].toarray(), at, axis=1), MOST_FROM_COMPANIONS)
    return heard, np.where(picked[heard] >= 0, found, 0.0)


def _best(scores: np.ndarray) -> np.ndarray:
    """Columns of the `CANDIDATES` highest of each row, in no order."""
    if scores.shape[1] <= CANDIDATES:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape).copy()
    return np.argpartition(scores, -CANDIDATES, axis=1)[:, -CANDIDATES:]
