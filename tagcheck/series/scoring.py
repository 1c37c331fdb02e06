"""Which series is a picture of, or none of the owner's? Learned from stored embeddings, judged out of fold.

1. `labels.label_images`: the owner's series are the classes, and so is a set of series that comes together often.
2. `out_of_fold.out_of_fold`: a PLDA model a fold scores the pictures that it was not fitted on, as is done here;
   near-duplicates share a fold.
3. `mixing.fit_mixing`: a conditional logit over the best candidates and "none of yours" turns scores into
   probabilities. Its likelihood allows for swapped tags and for forgotten ones.

What the tagger knows (`Prior`) and a picture's character tags (`companion_ratios`) are features beside the scores.
docs/decisions/series.md says why it is done so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from tagcheck.learning.linear_probes import unit_rows
from tagcheck.learning.same_class_model import Plda
from tagcheck.series.tagger_says import BLOCK, Prior

CANDIDATES = 24  # classes a picture is weighed between; the others are far below
MOST_FROM_COMPANIONS = 8.0  # however many characters a picture has
LEAST_TUNED = 1e-4  # of a network's probabilities; less is not told apart
EXEMPLARS, LEAST_EXEMPLARS = 2000, 8  # pictures kept of all classes together, and of each at least
FEATURES = 5  # kinds of evidence for a class, see `score`; among them, by place:
TUNED, COMPANIONS = 3, 4
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
    """What a picture is held against: a PLDA model of C classes, what the tagger's tags mean, and `companions` csr (T, C) from
    `companion_ratios`.

    PLDA takes a class for one cloud. Many a series is several (its characters): there the nearest of its pictures tells more.
    `exemplars` (E, r) are some of each class, in PLDA's space and of length 1, those of class c from `starts[c]` on.
    """

    plda: Plda
    exemplars: np.ndarray
    starts: np.ndarray
    prior: Prior
    companions: sparse.csr_matrix


def score(
    model: Model, matrix: np.ndarray, own: np.ndarray | None = None, beside: sparse.csr_matrix | None = None
) -> Candidates:
    """The `CANDIDATES` best classes of each embedding (m, d) under one model, and of `own` (m,) also that class.

    `own` is the class that the owner's tag names (-1 for none): it is weighed whatever its score. The features are, of each class:
    PLDA's log ratio; the log of its pictures; what the tagger says for it; what a fine-tuned network says (`network_heard`); what the
    pictures' character tags, `beside` csr (m, T), say.
    """
    parts = []
    for start in range(0, max(1, len(matrix)), BLOCK):
        rows = slice(start, start + BLOCK)
        mine = None if own is None else own[rows]
        parts.append(_score_block(model, matrix[rows], mine, None if beside is None else beside[rows]))
    return Candidates.joined(parts)


def _score_block(
    model: Model, matrix: np.ndarray, own: np.ndarray | None, beside: sparse.csr_matrix | None
) -> Candidates:
    plda, prior = model.plda, model.prior
    z = plda.project(matrix)
    scores, typical = plda.scores(z), plda.typicality(z)
    picked = _best(scores)
    if own is not None:
        again = (picked == own[:, None]).any(axis=1) | (own < 0)
        picked = np.column_stack([picked, np.where(again, -1, own)])
    at = np.maximum(picked, 0)
    said = np.take_along_axis(scores, at, axis=1)
    picked = np.where((picked >= 0) & np.isfinite(said), picked, -1).astype(np.int32)
    features = np.zeros((*picked.shape, FEATURES), dtype=np.float32)
    features[..., 0], features[..., 2] = said, prior.evidence(matrix, picked)
    features[..., 1] = np.take_along_axis(nearness(model, z), at, axis=1)
    if beside is not None and model.companions.nnz:
        told = (beside @ model.companions).tocsr()
        heard = np.flatnonzero(np.diff(told.indptr))
        told = np.take_along_axis(told[heard].toarray(), at[heard], axis=1)
        features[heard, :, COMPANIONS] = np.minimum(told, MOST_FROM_COMPANIONS)
    features[picked < 0] = 0.0
    return Candidates(picked, features, np.log(np.maximum(typical, 1e-6)).astype(np.float32), *prior.foreign(matrix))


def pick_exemplars(own: np.ndarray, rows: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Some of `rows` for each of `number` classes, drawn by lot: (rows (E,), starts (number,)). `own` (n,) is each picture's class."""
    limit = max(LEAST_EXEMPLARS, EXEMPLARS // number)
    shuffled = np.random.default_rng(0).permutation(rows[own[rows] >= 0])
    order = shuffled[np.argsort(own[shuffled], kind="stable")]
    rank = np.arange(len(order)) - np.searchsorted(own[order], own[order])
    kept = order[rank < limit]
    return kept, np.searchsorted(own[kept], np.arange(number))


def nearness(model: Model, z: np.ndarray) -> np.ndarray:
    """The highest cosine of pictures `z` (m, r), in PLDA's space, with an exemplar of each class, (m, C) float32; of no meaning for a class without."""
    if not len(model.exemplars):
        return np.zeros((len(z), len(model.starts)), np.float32)
    cosine = unit_rows(z) @ model.exemplars.T.astype(np.float32)
    return np.maximum.reduceat(cosine, np.minimum(model.starts, len(model.exemplars) - 1), axis=1)


def _best(scores: np.ndarray) -> np.ndarray:
    """Columns of the `CANDIDATES` highest of each row, in no order."""
    if scores.shape[1] <= CANDIDATES:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(scores, -CANDIDATES, axis=1)[:, -CANDIDATES:]
