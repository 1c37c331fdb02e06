"""All pairs of rows at or above a cosine, exactly; groups of them; nearest neighbours. Numbers only, no files.

Nothing here holds an n x n block: products are made a tile at a time, so memory stays linear in n.

What "exactly" means: a pair belongs to the result when its cosine, computed in float64 from the
rows as given and rounded to float32, is at or above the threshold rounded to float32. Products in
float32 only sort out what is clearly above or below; whatever lies within their rounding error of
the threshold is decided in float64. So every engine gives the same set, and rows that are equal
up to a factor pair at a threshold of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tagcheck.errors import UsageError

ENGINES = ("auto", "torch", "native")
TILE = 2048
DECIDE_ROWS = 4096
Progress = Callable[[float], None]
Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows: `i` < `j` int64 (m,), sorted by (i, j); `cosine` float32 (m,), -1 to 1, within 1e-6 of the true one."""

    i: np.ndarray
    j: np.ndarray
    cosine: np.ndarray

    def __len__(self) -> int:
        return len(self.i)


class NotFinite(ValueError):
    """A row holds infinity or no number; `row` says which."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} holds numbers that are not finite")
        self.row = row


class TooManyPairs(UsageError):
    """More pairs than the caller's limit: at this threshold the answer would not fit."""


def near_pairs(
    matrix: np.ndarray, threshold: float, engine: str = "auto", progress: Progress | None = None, limit: int | None = None
) -> Pairs:
    """Every pair of rows whose cosine is at or above `threshold`, none left out.

    `matrix` (n, d) of any floating type, rows of any length; a zero row pairs with nothing.
    `threshold` above 0, up to 1. `progress` is told the share of the work that is done, 0 to 1.
    Raises `NotFinite` naming a row, ValueError for a threshold out of range, `TooManyPairs` when
    more than `limit` pairs are found.

    >>> rows = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 0.0]])
    >>> pairs = near_pairs(rows, 0.9)
    >>> pairs.i.tolist(), pairs.j.tolist(), pairs.cosine.round(3).tolist()
    ([0], [2], [0.9950000047683716])
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold of {threshold}: it has to be above 0 and at most 1")
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r}: there are {', '.join(ENGINES)}")
    unit = unit_rows(matrix)
    slack = rounding_slack(unit.shape[1])
    found: list[Candidates] = []
    count = 0
    for i, j, cosine in _plain_tiles(unit, threshold - slack, progress or (lambda share: None)):
        kept = _decide(matrix, i, j, cosine, threshold, slack)
        count += len(kept[0])
        if limit is not None and count > limit:
            raise TooManyPairs(f"more than {limit:,} pairs at or above {threshold:g}: use a higher threshold")
        found.append(kept)
    return _sorted_pairs(found)


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """The rows of `matrix` (n, d) at length 1, as float32 (n, d); zero rows stay zero.

    Lengths are taken in float64 after a division by the row's largest number, so that rows of any
    size keep their direction. Raises `NotFinite` naming a row.
    """
    if matrix.ndim != 2:
        raise ValueError(f"a matrix of {matrix.ndim} dimensions: it has to have 2")
    unit = np.empty(matrix.shape, dtype=np.float32)
    for start in range(0, len(matrix), DECIDE_ROWS):
        unit[start:start + DECIDE_ROWS] = _normalised(matrix[start:start + DECIDE_ROWS], start)
    return unit


def rounding_slack(width: int) -> float:
    """An upper bound on how far a float32 product of two float32 unit rows of `width` numbers is from the true cosine.

    Rounding the rows costs at most 2u, the product in any order of summation at most width * u
    (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), where u = 2^-24; two
    more u cover the second-order terms and the lengths' own rounding.
    """
    return (width + 4) * 2.0**-24


def group_labels(n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The connected group of each of `n` rows under the pairs (i, j): int64 (n,), numbered by first member.

    A row without a pair has a label of its own, so the labels serve as groups for folds.

    >>> group_labels(4, np.array([0]), np.array([2])).tolist()
    [0, 1, 0, 2]
    """
    graph = coo_array((np.ones(len(i), dtype=bool), (i, j)), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    _, first = np.unique(labels, return_index=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[labels]


def groups(n: int, i: np.ndarray, j: np.ndarray) -> list[list[int]]:
    """The connected groups of two or more rows, each sorted, the one with the lowest first member first.

    >>> groups(5, np.array([1, 0]), np.array([4, 2]))
    [[0, 2], [1, 4]]
    """
    labels = group_labels(n, i, j)
    order = np.argsort(labels, kind="stable")
    bounds = np.flatnonzero(np.diff(labels[order])) + 1
    return [part.tolist() for part in np.split(order, bounds) if len(part) > 1]


def top_k(matrix: np.ndarray, k: int, block: int = TILE) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest other rows of each row by cosine, exactly.

    Returns (indices int64, cosine float32), both (n, min(k, n - 1)), the nearest first. A zero
    row has a cosine of 0 to every other. Products are `block` x `block`.

    >>> top_k(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), 1)[0].ravel().tolist()[::2]
    [1, 1]
    """
    unit = torch.from_numpy(unit_rows(matrix))
    n = len(unit)
    k = max(0, min(k, n - 1))
    indices, cosines = np.empty((n, k), dtype=np.int64), np.empty((n, k), dtype=np.float32)
    if k == 0:
        return indices, cosines
    for start in range(0, n, block):
        rows = unit[start:start + block]
        best, where = torch.empty(len(rows), 0), torch.empty(len(rows), 0, dtype=torch.int64)
        for low in range(0, n, block):
            product = rows @ unit[low:low + block].T
            if low == start:
                product.fill_diagonal_(-torch.inf)
            value, column = product.topk(min(k, product.shape[1]), dim=1)
            best, pick = torch.cat([best, value], dim=1).topk(min(k, best.shape[1] + value.shape[1]), dim=1)
            where = torch.cat([where, column + low], dim=1).gather(1, pick)
        indices[start:start + block], cosines[start:start + block] = where.numpy(), best.clamp_(-1, 1).numpy()
    return indices, cosines


def _plain_tiles(unit: np.ndarray, low: float, progress: Progress) -> Iterator[Candidates]:
    """Candidates (i, j, float32 product) with i < j and a product of at least `low`, a tile of rows x rows at a time."""
    rows = torch.from_numpy(unit)
    n = len(rows)
    buffer = torch.empty(min(n, TILE) * min(n, TILE))
    for start in range(0, n, TILE):
        left = rows[start:start + TILE]
        for other in range(start, n, TILE):
            right = rows[other:other + TILE]
            product = torch.mm(left, right.T, out=buffer[:len(left) * len(right)].view(len(left), len(right)))
            if other == start:
                product.masked_fill_(torch.ones(product.shape, dtype=torch.bool).tril_(), -2.0)
            if product.numel() and float(product.max()) >= low:
                row, column = (product >= low).nonzero(as_tuple=True)
                yield (row + start).numpy(), (column + other).numpy(), product[row, column].numpy()
        stop = min(start + TILE, n)
        progress(1 - ((n - stop) / n) ** 2)


def _decide(matrix: np.ndarray, i: np.ndarray, j: np.ndarray, cosine: np.ndarray, threshold: float, slack: float) -> Candidates:
    """The candidates that belong to the result: clear ones by their product, borderline ones by float64."""
    keep = cosine >= threshold + slack
    borderline = np.flatnonzero(~keep)
    for start in range(0, len(borderline), DECIDE_ROWS):
        part = borderline[start:start + DECIDE_ROWS]
        cosine[part] = _true_cosine(matrix, i[part], j[part])
        keep[part] = cosine[part] >= np.float32(threshold)
    return i[keep], j[keep], np.minimum(cosine[keep], np.float32(1))


def _true_cosine(matrix: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Cosines of the row pairs (i, j) in float64, rounded to float32."""
    left, right = _normalised(matrix[i]), _normalised(matrix[j])
    return np.einsum("nd,nd->n", left, right).astype(np.float32)


def _normalised(rows: np.ndarray, first: int = 0) -> np.ndarray:
    """`rows` (m, d) in float64 at length 1. `first` is the number of the first row, for the error."""
    rows = rows.astype(np.float64)
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    if not np.isfinite(largest).all():
        raise NotFinite(first + int(np.flatnonzero(~np.isfinite(largest))[0]))
    rows /= np.where(largest > 0, largest, 1.0)
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows / np.where(length > 0, length, 1.0)


def _sorted_pairs(found: list[Candidates]) -> Pairs:
    """All candidates as one `Pairs`, sorted by (i, j)."""
    if not found:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    i, j, cosine = (np.concatenate(part) for part in zip(*found))
    order = np.lexsort((j, i))
    return Pairs(i[order].astype(np.int64), j[order].astype(np.int64), cosine[order].astype(np.float32))
