"""Evidence for a tag from the picture's other tags and its embedding: ridge regression on both, out of fold.

A library has up to 30,000 tags, and a few others predict each. So each tag is regressed on the embedding and on the
`SUPPORT` tags with the strongest partial correlation with it given the embedding. Of tags that never occur with it only the
`COMMON` most used are candidates, since for rare ones that means nothing. Tags that are no independent evidence about it
(`tagcheck.tag_errors.relations`) are left out. In a library of at most `SUPPORT` tags this is the regression on all of
them. Work and memory grow with the pairs of tags that occur together, not with the square of the tags.

The embedding is eliminated first: with L the Cholesky factor of its penalised covariance A, and C its covariance with the
tags, what is left between two tags is M - (L^-1 C)'(L^-1 C), and each tag's own system has `SUPPORT` unknowns.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from tagcheck.learning import linear_probes
from tagcheck.learning.linear_probes import FoldedLinear, FoldedMoments, ScoreSums
from tagcheck.tag_errors.relations import Relations

SUPPORT = 64  # other tags that are evidence for a tag
COMMON = 1000  # tags, the most used, of which pairs that never meet are looked at too
HELD_WHOLE = 4_000  # tags of which all that is left between them is held
TAGS_AT_ONCE = 128
ROUNDING = 1e-5
LEAST_PENALTY, PENALTY = 5.0, 0.02  # of a tag's weight: pictures, and in units of the mean variance of the tags


@dataclass(frozen=True)
class Context:
    """One regression a fold: `of_picture` on the embedding, `of_tags` (folds of csr (T, T)) on the other tags."""

    of_picture: FoldedLinear
    of_tags: list[sparse.csr_matrix]
    given: sparse.csr_matrix

    def scores(self, matrix: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Out-of-fold scores (m, T) float32 of the embeddings `matrix` (m, d) of the pictures `rows`."""
        out = self.of_picture.scores(matrix, rows)
        folds = self.of_picture.folds[rows]
        for fold in np.unique(folds):
            here = np.flatnonzero(folds == fold)
            out[here] += (self.given[rows[here]] @ self.of_tags[fold]).toarray()
        return out


def learn(
    sums: FoldedMoments,
    folds: np.ndarray,
    given: sparse.csr_matrix,
    alpha: float,
    related: Relations,
    most: int = SUPPORT,
) -> tuple[Context, ScoreSums]:
    """The regressions, and the sums of their scores over all pictures (`ScoreSums`, (T,) each).

    `sums` the moments of embeddings and tags `given` (n, T) by `folds` (n,); `alpha` as for `linear_probes.RidgePath.models`.
    """
    number, d, tags = sums.cross.shape
    met = [(part.T @ part).tocsr() for part in (given[folds == fold] for fold in range(number))]
    together = sum(met[1:], met[0]).tocsr()
    of_x, bias = np.empty((number, d, tags), np.float32), np.empty((number, tags), np.float32)
    of_y, scored = [], ScoreSums(*np.zeros((3, tags)))
    for fold in range(number):
        mean_x, mean_y, gram, cross = sums.training(fold)
        factor, left = _without_picture(gram, cross, alpha, sums)
        scaled = mean_y * np.sqrt(sums.count.sum() - sums.count[fold])
        between = _Left(left, (together - met[fold]).tocsr(), scaled)
        weights = _own_systems(between, *_support(between, related, most))
        left -= weights.T @ left
        of_x[fold] = linalg.solve_triangular(factor, left.T, trans="T", lower=True, check_finite=False)
        plain = mean_y - mean_x @ of_x[fold] - weights.T @ mean_y
        bias[fold] = plain - sums.centre @ of_x[fold]
        of_y.append(weights)
        _add_scores(scored, sums, fold, of_x[fold], plain, weights, met[fold], given[folds == fold])
    return Context(FoldedLinear(of_x, bias, folds), of_y, given), scored


def _without_picture(
    gram: np.ndarray, cross: np.ndarray, alpha: float, sums: FoldedMoments
) -> tuple[np.ndarray, np.ndarray]:
    """(Cholesky factor L (d, d), (L^-1 C)' (T, d) float32) of the penalised covariance of the embedding."""
    rounding = ROUNDING * float(np.trace(sums.gram.sum(axis=0)))  # of a fold's covariance, a difference of float32 sums
    penalty = max(alpha * np.trace(gram) / len(gram), rounding / len(gram), 1e-6)
    factor = linalg.cholesky(gram + penalty * np.eye(len(gram)), lower=True, check_finite=False)
    left = linalg.solve_triangular(factor, cross, lower=True, check_finite=False)
    return factor.astype(np.float32), np.ascontiguousarray(left.T, dtype=np.float32)


class _Left:
    """What is left of the covariance of T tags, times the number of pictures, beside the picture: made whole for few tags, else a
    part at a time. `met` (T, T) says how often tags meet, `scaled` (T,) are their means times the root of the number of pictures,
    `told` (T, d) from `_without_picture`.
    """

    def __init__(self, told: np.ndarray, met: sparse.csr_matrix, scaled: np.ndarray) -> None:
        self.told, self.met, self.scaled = told, met, scaled
        self.whole = self._lines(slice(None)) if len(told) <= HELD_WHOLE else None

    def lines(self, rows: slice) -> np.ndarray:
        """That between the tags `rows` and all, (m, T)."""
        return self._lines(rows) if self.whole is None else self.whole[rows]

    def between(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """That between the tags of each line of `one` (m, k) and of `other` (m, l), (m, k, l)."""
        if self.whole is not None:
            return np.asarray(self.whole[one[:, :, None], other[:, None]])
        # To look up single places of a sparse matrix takes ten times as long.
        met = np.stack([self.met[mine].toarray()[:, theirs] for mine, theirs in zip(one, other)])
        told = self.told[one] @ self.told[other].transpose(0, 2, 1)
        return np.asarray(met - self.scaled[one][:, :, None] * self.scaled[other][:, None] - told)

    def _lines(self, rows: slice) -> np.ndarray:
        return np.asarray(self.met[rows] - np.outer(self.scaled[rows], self.scaled) - self.told[rows] @ self.told.T)


def _support(left: _Left, related: Relations, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(columns, whether there are so many), both (T, K): for each tag the others that tell most of it beside the picture."""
    tags, uses = len(left.told), left.met.diagonal()
    own = np.einsum("td,td->t", left.told, left.told, dtype=np.float64)
    own = np.sqrt(np.maximum(uses - left.scaled**2 - own, 0) + LEAST_PENALTY)
    common = np.zeros(tags, dtype=bool)
    common[np.argsort(-uses, kind="stable")[:COMMON]] = True
    width = min(most, tags)
    columns, there = np.zeros((tags, width), dtype=np.int64), np.zeros((tags, width), dtype=bool)
    for start in range(0, tags, TAGS_AT_ONCE):
        rows = slice(start, min(start + TAGS_AT_ONCE, tags))
        strength = np.abs(left.lines(rows)) / (own[rows, None] * own)
        asked = (left.met[rows].toarray() > 0) | (common[rows, None] & common)
        strength[~asked | related.bearing(rows)] = -1
        np.fill_diagonal(strength[:, rows], -1)
        columns[rows] = np.argpartition(-strength, width - 1, axis=1)[:, :width]
        there[rows] = np.take_along_axis(strength, columns[rows], axis=1) >= 0
    return columns, there


def _own_systems(left: _Left, others: np.ndarray, there: np.ndarray) -> sparse.csr_matrix:
    """The weights (T, T) csr of each tag's (a column's) `others`, each from its own small system."""
    tags, width = others.shape
    penalty = LEAST_PENALTY + PENALTY * float((left.met.diagonal() - left.scaled**2).sum()) / tags
    found = np.zeros((tags, width), dtype=np.float32)
    for start in range(0, tags, TAGS_AT_ONCE):
        mine = np.arange(start, min(start + TAGS_AT_ONCE, tags))
        some, real = others[mine], there[mine]
        both = left.between(some, np.column_stack([some, mine]))
        pair = np.where(real[:, :, None] & real[:, None], both[:, :, :-1], 0)
        pair[:, np.arange(width), np.arange(width)] += penalty
        own = np.where(real[:, :, None], both[:, :, -1:], 0)
        found[mine] = np.linalg.solve(pair, own)[:, :, 0]
    target = np.broadcast_to(np.arange(tags)[:, None], others.shape)
    return sparse.csr_matrix((found[there], (others[there], target[there])), shape=(tags, tags))


def _add_scores(
    scored: ScoreSums,
    sums: FoldedMoments,
    fold: int,
    weights: np.ndarray,
    bias: np.ndarray,
    of_tags: sparse.csr_matrix,
    met: sparse.csr_matrix,
    given: sparse.csr_matrix,
) -> None:
    """Add the scores of the pictures of one fold, `given` their tags, without scoring the embeddings."""
    cross, sum_y, linear = sums.cross[fold], sums.sum_y[fold], sums.sum_x[fold] @ weights
    between = (of_tags.T @ np.ascontiguousarray(cross.T, dtype=np.float32)).T
    scored.add(
        slice(None),
        weights,
        sums.gram[fold].astype(np.float32) @ weights + 2 * between,
        cross,
        linear,
        bias,
        sums,
        fold,
    )
    by_tags = of_tags.T @ sum_y
    scored.score[:] += by_tags
    scored.score_with[:] += np.asarray(met.multiply(of_tags).sum(axis=0)).ravel()
    scored.square[:] += 2 * bias * by_tags
    for start in range(0, given.shape[0], linear_probes.BLOCK):
        said = given[start : start + linear_probes.BLOCK] @ of_tags
        scored.square[:] += np.bincount(said.indices, said.data.astype(np.float64) ** 2, len(bias))
