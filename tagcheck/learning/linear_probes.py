"""Linear probes for many tags at once, judged only on pictures they did not see; and how good they are.

Everything here works on arrays and opens no files. The one rule that all of it serves: a picture is never scored by a
model that was trained on it or on a near-duplicate of it. Folds are therefore drawn over groups (`grouped_folds`), and
the probes of all folds come out of one pass over the data: the Gram matrix of a fold's training rows is the Gram matrix
of all rows less that of the fold's own (`RidgePath`).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import linalg, special

from tagcheck.cluster import Share, here

BLOCK = 4096  # rows held in memory at a time
PART = 65_536  # rows whose sums are made by one process
CENTRED_ON = 20_000  # rows of which the middle is taken away before sums are made, for the sake of float32


def grouped_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold, 0 to `folds` - 1, of each row: int64 (n,). Rows with one label are never split.

    `labels` (n,) names each row's group (`tagcheck.similar.pairs.group_labels`). Groups are shuffled by `seed`, then
    given, the largest first, to the fold that is the smallest so far, so that fold sizes differ by no more than the
    largest group. Raises ValueError when there are fewer groups than folds, since one fold would then be empty.

    >>> grouped_folds(np.array([7, 7, 3, 5]), 2, seed=0)[:2].std()
    np.float64(0.0)
    """
    if folds < 2:
        raise ValueError(f"{folds} folds: at least 2 are needed")
    groups, member, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(groups) < folds:
        raise ValueError(f"{len(groups)} groups for {folds} folds")
    order = np.random.default_rng(seed).permutation(len(groups))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of_group = np.empty(len(groups), dtype=np.int64)
    heap = [(0, fold) for fold in range(folds)]
    for group in order:
        filled, fold = heapq.heappop(heap)
        fold_of_group[group] = fold
        heapq.heappush(heap, (filled + int(sizes[group]), fold))
    return fold_of_group[member.reshape(-1)]


def numbered_folds(labels: np.ndarray, numbers: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each row by the `numbers` (n,) of its group's rows, so that a group has the same fold whatever else there is."""
    of_group = np.full(int(labels.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(of_group, labels, (numbers >> np.uint64(1)).astype(np.int64))
    return np.asarray(of_group[labels] % folds)


@dataclass(frozen=True)
class FoldedLinear:
    """One linear model per fold: row i of a matrix is scored by the model that was fitted without fold `folds[i]`.

    `weights` (folds, d, T) float32, `bias` (folds, T) float32, `folds` (n,) int64.
    """

    weights: np.ndarray
    bias: np.ndarray
    folds: np.ndarray

    def scores(self, matrix: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        """Out-of-fold scores (m, T) float32 of `matrix` (m, d), whose rows are `rows` of the fitted ones."""
        folds = self.folds[rows]
        out = np.empty((len(folds), self.weights.shape[2]), dtype=np.float32)
        for fold in np.unique(folds):
            here = folds == fold
            out[here] = matrix[here] @ self.weights[fold]
            out[here] += self.bias[fold]
        return out


@dataclass(frozen=True)
class FoldedMoments:
    """Sums over the rows of each fold, from which every fold's training moments follow by subtraction.

    `count` (folds,), `sum_x` (folds, d), `sum_y` (folds, T), `gram` (folds, d, d) and `cross` (folds, d, T), float64,
    of rows from which `centre` (d,) was taken away first, for the sake of the precision of float32 products.
    """

    count: np.ndarray
    sum_x: np.ndarray
    sum_y: np.ndarray
    gram: np.ndarray
    cross: np.ndarray
    centre: np.ndarray

    def training(self, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(mean of x (d,), mean of y (T,), centred Gram (d, d), centred cross products (d, T)) without one fold."""
        count = self.count.sum() - self.count[fold]
        mean_x = (self.sum_x.sum(axis=0) - self.sum_x[fold]) / count
        mean_y = (self.sum_y.sum(axis=0) - self.sum_y[fold]) / count
        gram = self.gram.sum(axis=0) - self.gram[fold] - count * np.outer(mean_x, mean_x)
        cross = self.cross.sum(axis=0) - self.cross[fold] - count * np.outer(mean_x, mean_y)
        return mean_x, mean_y, gram, cross


class Made(Protocol):
    """What makes rows of an array (n, d) when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Some rows, (m, d) floats."""

    def part(self, rows: slice) -> Made:
        """Some rows alone, unmade."""


def moments(
    matrix: np.ndarray | Made, targets: Any, folds: np.ndarray, block: int = BLOCK, share: Share = here
) -> FoldedMoments:
    """The moments of `matrix` (n, d) and `targets` (n, T; an array or a scipy sparse matrix) by fold, in one pass. Rows of fold -1 count
    for nothing.

    Each `PART` rows are a part for `share`, which needs these rows alone; the sums of the parts are added up in their order, so that
    they are the same to the bit wherever they were made. Memory beyond the result: as much again, and `block` rows of both. Products
    are taken in float32 a block at a time and summed in float64.
    """
    folds = np.asarray(folds)
    number = int(folds.max()) + 1
    centre = np.asarray(matrix[:: max(1, len(folds) // CENTRED_ON)]).mean(axis=0, dtype=np.float64)
    total: list[np.ndarray] = []
    for sums in share(partial(_PartSums, number, centre, block), _Parts(matrix, targets, folds)):
        for whole, own in zip(total, sums):
            whole += own
        total = total or [np.require(one, requirements="W") for one in sums]  # a cluster's are read-only
    count = np.bincount(folds[folds >= 0], minlength=number).astype(np.float64)
    sum_x, sum_y, gram, cross = total
    return FoldedMoments(count, sum_x, sum_y, gram, cross, centre)


@dataclass(frozen=True)
class _Parts(Sequence[Any]):
    """Each `PART` rows of all, cut off when they are asked for: (matrix, targets, folds)."""

    matrix: np.ndarray | Made
    targets: Any
    folds: np.ndarray

    def __len__(self) -> int:
        return -(-len(self.folds) // PART)

    def __getitem__(self, number: Any) -> tuple[np.ndarray | Made, Any, np.ndarray]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        rows = slice(number * PART, min((number + 1) * PART, len(self.folds)))
        some = self.matrix[rows] if isinstance(self.matrix, np.ndarray) else self.matrix.part(rows)
        return some, self.targets[rows], self.folds[rows]


@dataclass(frozen=True)
class _PartSums:
    """Called for a part: its `sum_x`, `sum_y`, `gram` and `cross` (`FoldedMoments`)."""

    number: int
    centre: np.ndarray
    block: int

    def __call__(self, part: tuple[np.ndarray | Made, Any, np.ndarray]) -> tuple[np.ndarray, ...]:
        matrix, targets, folds = part
        d, t = matrix.shape[1], targets.shape[1]
        sums = tuple(np.zeros((self.number, *shape)) for shape in ((d,), (t,), (d, d), (d, t)))
        for fold in range(self.number):
            sum_x, sum_y, gram, cross = (one[fold] for one in sums)
            members = np.flatnonzero(folds == fold)
            for start in range(0, len(members), self.block):
                rows = members[start : start + self.block]
                x = np.asarray(matrix[rows], dtype=np.float32) - self.centre.astype(np.float32)
                y = targets[rows]
                sum_x += x.sum(axis=0, dtype=np.float64)
                sum_y += np.asarray(y.sum(axis=0, dtype=np.float64)).ravel()
                gram += x.T @ x
                cross += (y.T @ x).T  # of a sparse `y` its few entries alone cost
        return sums


class RidgePath:
    """Ridge regression of every target on the matrix for any penalty, one model a fold, fitted on the other folds' rows: from `moments`,
    of which each fold's Gram matrix is decomposed once. An intercept is fitted and not penalised. Hoerl and Kennard, "Ridge
    regression", Technometrics 12, 1970. A tag regressed this way ranks pictures as regularised linear discriminant analysis does.

    >>> x, folds = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 1, 0, 1])
    >>> scores = RidgePath(moments(x, x > 1, folds), folds).models(1e-9).scores(x)
    >>> bool(scores[3, 0] > scores[0, 0])
    True
    """

    def __init__(self, sums: FoldedMoments, folds: np.ndarray) -> None:
        self.sums, self.folds = sums, folds
        self._parts = []
        for fold in range(len(sums.count)):
            mean_x, mean_y, gram, cross = sums.training(fold)
            values, vectors = linalg.eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
            values = np.maximum(values, 0)
            self._parts.append((values, vectors, vectors.T @ cross, mean_x + sums.centre, mean_y))

    def models(self, alpha: float | np.ndarray) -> FoldedLinear:
        """The models for a penalty of `alpha` (one number, or one for each target, (T,)) times the mean eigenvalue of the training
        covariance (trace/d), times the number of rows: which means the same for embeddings of any scale and number.
        """
        weights, bias = [], []
        for values, vectors, projected, mean_x, mean_y in self._parts:
            penalty = np.maximum(np.asarray(alpha) * values.mean(), np.finfo(np.float32).eps)
            solved = vectors @ (projected / (values[:, None] + penalty))
            weights.append(solved.astype(np.float32))
            bias.append((mean_y - mean_x @ solved).astype(np.float32))
        return FoldedLinear(np.stack(weights), np.stack(bias), self.folds)

    def held_out(self, alphas: Sequence[float]) -> ScoreSums:
        """Sums (alphas, T) over the out-of-fold scores of all rows for each penalty, from the moments alone: no row is scored."""
        sums = self.sums
        made = ScoreSums(*np.zeros((3, len(alphas), sums.sum_y.shape[1])))
        for fold, (values, vectors, projected, mean_x, mean_y) in enumerate(self._parts):
            square = (vectors.T @ sums.gram[fold] @ vectors).astype(np.float32)
            half = np.tril(square) + np.tril(square, -1)  # the same for w'Sw, and half of the products
            cross, sum_x = vectors.T @ sums.cross[fold], vectors.T @ sums.sum_x[fold]
            mean = vectors.T @ (mean_x - sums.centre)
            for place, alpha in enumerate(alphas):
                penalty = max(alpha * values.mean(), np.finfo(np.float32).eps)
                weights = (projected / (values[:, None] + penalty)).astype(np.float32)
                squared = linalg.blas.strmm(1.0, half.T, weights.T, side=1).T
                made.add(place, weights, squared, cross, sum_x @ weights, mean_y - mean @ weights, sums, fold)
        return made


class ScoreSums(NamedTuple):
    """Sums over rows of linear scores, (..., T) each: `score`, `score_with` over the rows that have the target, `square`."""

    score: np.ndarray
    score_with: np.ndarray
    square: np.ndarray

    def add(
        self,
        place: Any,
        weights: np.ndarray,
        squared: np.ndarray,
        cross: np.ndarray,
        linear: np.ndarray,
        bias: np.ndarray,
        sums: FoldedMoments,
        fold: int,
    ) -> None:
        """Add the rows of one fold at `place`: `weights` (d, T), `squared` (d, T) whose products with these add up to the squares of the
        scores without their bias (as the second moments of the inputs times the weights do), `cross` (d, T) of inputs and targets,
        `linear` (T,) the sums of the scores without their `bias` (T,).
        """
        count = sums.count[fold]
        self.score[place] += linear + count * bias
        self.score_with[place] += np.einsum("dt,dt->t", weights, cross) + bias * sums.sum_y[fold]
        self.square[place] += np.einsum("dt,dt->t", weights, squared) + bias * (2 * linear + count * bias)


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """The rows (n, d) at length 1; rows of zeros stay zero."""
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(length > 0, length, 1.0)


def logit(p: np.ndarray, smallest: float = 1e-6) -> np.ndarray:
    """log(p / (1 - p)), elementwise, of probabilities kept at least `smallest` away from 0 and 1."""
    return np.asarray(special.logit(np.clip(p, smallest, 1.0 - smallest)))


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10, low: float = 0.0) -> float:
    """How far confidence is from the share that is right, 0 to 1, lower is better.

    `confidence` (m,) in 0 to 1, `right` (m,) 0/1. Bins of equal width from `low` to 1; the absolute
    difference between mean confidence and share right, weighted by the number in the bin (Naeini et
    al. 2015). What lies below `low` is left out; nan when nothing is left.

    >>> expected_calibration_error(np.array([0.8] * 5), np.array([1, 1, 1, 1, 0]))
    0.0
    """
    confidence, right = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    kept = confidence >= low
    if not kept.any():
        return float("nan")
    confidence, right = confidence[kept], right[kept]
    place = np.clip(((confidence - low) / (1.0 - low) * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.abs(np.bincount(place, confidence, bins) - np.bincount(place, right, bins))
    return round(float(gap.sum() / count.sum()), 12)


def average_precision(score: np.ndarray, right: np.ndarray, total: int | None = None) -> float:
    """Area under the precision-recall steps, 0 to 1, higher is better; ties keep the order given.

    `score` (m,) higher is surer, `right` (m,) 0/1. `total` is the number of right ones there are to find, where that is
    more than `score` lists (what is not listed counts as never found). nan when there is nothing to find.
    """
    right = np.asarray(right, dtype=np.float64)[np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")]
    total = int(right.sum()) if total is None else total
    if not total:
        return float("nan")
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float((precision * right).sum() / total)
