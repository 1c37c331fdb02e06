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
from dataclasses import dataclass, replace
from typing import Self

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


class Rows:
    """A dataclass of arrays and sparse matrices with a row a picture."""

    def rows(self, which: np.ndarray | slice) -> Self:
        """The same of some of the pictures."""
        return type(self)(*(field[which] for field in vars(self).values()))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The same of several lots of pictures, one behind the other."""
        fields = zip(*(vars(one).values() for one in parts))
        return cls(*(sparse.vstack(one, "csr") if sparse.issparse(one[0]) else np.concatenate(one) for one in fields))


@dataclass(frozen=True)
class Candidates(Rows):
    """For each of n pictures the classes it may be of, and the evidence for each.

    `classes` (n, K) int32, -1 where there are fewer; `features` (n, K, F) float32, higher speaks
    for the class; `unusual` (n,) float32, the log of how far from everything the picture is.
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

    @property
    def accompanied(self) -> np.ndarray:
        """(n,) bool: which pictures have a character tag that is evidence for one of their candidates."""
        return np.asarray((self.features[..., COMPANIONS] > 0).any(axis=1))


@dataclass(frozen=True)
class Model:
    """What a picture is held against: a PLDA model of C classes, and pictures of each class as they are.

    PLDA takes a class for one cloud. Many a series is several (its characters): there the nearest of
    its pictures tell more. `exemplars` (E,) are the rows of some pictures of each class in the embeddings that it was
    fitted on, those of class c from `starts[c]` to `starts[c + 1]`. `companions` csr (T, C) from `companion_ratios`.
    """

    plda: Plda
    exemplars: np.ndarray
    starts: np.ndarray
    prior: Prior
    companions: sparse.csr_matrix

    def moved(self, now: np.ndarray) -> Model:
        """The model with its exemplars where each row stands `now`, without those that are gone (-1)."""
        there = now[self.exemplars] >= 0
        starts = np.concatenate([[0], np.cumsum(there)])[self.starts]
        return replace(self, exemplars=now[self.exemplars[there]], starts=starts)


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
    with threadpool_limits(1, user_api="blas"):  # many small products: threads would spend ten times as long waiting
        for one in np.flatnonzero(np.diff(bounds) * np.diff(starts)):
            places = order[bounds[one] : bounds[one + 1]]
            cosine = unit[places // classes.shape[1]] @ exemplars[starts[one] : starts[one + 1]].T
            if cosine.shape[1] > NEAREST:
                cosine = np.partition(cosine, -NEAREST, axis=1)[:, -NEAREST:]
            out.ravel()[places] = cosine.mean(axis=1)
    return out


def score(
    model: Model,
    exemplars: np.ndarray,
    matrix: np.ndarray,
    own: np.ndarray | None = None,
    beside: sparse.csr_matrix | None = None,
) -> Candidates:
    """The `CANDIDATES` best classes of each embedding (m, d) under one model, and of `own` (m,) also that class.

    `exemplars` (E, d) are the embeddings of the model's. `own` is the class that the owner's tag names (-1 for none): it is
    weighed whatever its score. The features are, of each class: PLDA's log ratio; the same, less steep for pictures far from
    everything (as tails heavier than a Gaussian's would make it); the log of its pictures; the
    nearness of its pictures, in the embedding and in PLDA's space; what the tagger says for it; what a
    fine-tuned network says (`network_heard`); what the pictures' character tags, `beside` csr (m, T), say.
    """
    exemplars = exemplars.astype(np.float32)
    around = unit_rows(exemplars - model.plda.centre), unit_rows(model.plda.project(exemplars))
    parts = []
    for start in range(0, max(1, len(matrix)), BLOCK):
        rows = slice(start, start + BLOCK)
        mine = None if own is None else own[rows]
        parts.append(_score_block(model, around, matrix[rows], mine, None if beside is None else beside[rows]))
    return Candidates.joined(parts)


def _score_block(
    model: Model,
    around: tuple[np.ndarray, np.ndarray],
    matrix: np.ndarray,
    own: np.ndarray | None,
    beside: sparse.csr_matrix | None,
) -> Candidates:
    plda, prior = model.plda, model.prior
    z, log_counts = plda.project(matrix), np.log(np.maximum(plda.counts, 0.1)).astype(np.float32)
    scores, typical = plda.scores(z), plda.typicality(z)
    picked = _best(scores + log_counts)
    if own is not None:
        again = (picked == own[:, None]).any(axis=1) | (own < 0)
        picked = np.column_stack([picked, np.where(again, -1, own)])
    at = np.maximum(picked, 0)
    said = np.take_along_axis(scores, at, axis=1)
    picked = np.where((picked >= 0) & np.isfinite(said), picked, -1).astype(np.int32)
    features = np.zeros((*picked.shape, FEATURES), dtype=np.float32)
    features[..., 0] = said
    features[..., 1] = said / (0.5 + 0.5 * typical[:, None])
    features[..., 2] = log_counts[at]
    for feature, seen, exemplars in zip((3, 4), (matrix - plda.centre, z), around):
        features[..., feature] = nearness(unit_rows(seen), exemplars, model.starts, picked)
    features[..., 5] = prior.evidence(matrix, picked)
    if beside is not None and model.companions.nnz:
        told = (beside @ model.companions).tocsr()
        heard = np.flatnonzero(np.diff(told.indptr))
        told = np.take_along_axis(told[heard].toarray(), at[heard], axis=1)
        features[heard, :, COMPANIONS] = np.minimum(told, MOST_FROM_COMPANIONS)
    features[picked < 0] = 0.0
    unusual = np.log(np.maximum(typical, 1e-6)).astype(np.float32)
    return Candidates(picked, features, unusual, *prior.foreign(matrix))


def _best(scores: np.ndarray) -> np.ndarray:
    """Columns of the `CANDIDATES` highest of each row, in no order."""
    if scores.shape[1] <= CANDIDATES:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(scores, -CANDIDATES, axis=1)[:, -CANDIDATES:]
