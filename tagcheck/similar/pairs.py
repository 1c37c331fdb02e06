"""All pairs of rows at or above a cosine, exactly, and groups of them. Numbers only, no files.

Nothing here holds an n x n block: products are made a tile at a time, so memory stays linear in n.

What "exactly" means: a pair belongs to the result when its cosine, computed in float64 from the rows as given and
rounded to float32, is at or above the threshold rounded to float32. Products in float32 only sort out what is clearly
above or below; whatever lies within their rounding error of the threshold is decided in float64. So every engine gives
the same set, and rows that are equal up to a factor pair at a threshold of 1.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tagcheck.errors import UsageError
from tagcheck.similar.main_axes import SHORT, short_form
from tagcheck.similar.unit_rows import (
    BLOCK,
    Candidates,
    PlainSearch,
    Progress,
    Search,
    UnitRows,
    normalised,
    over_strips,
    workers,
)

ENGINES = ("auto", "torch", "native")
DENSE = 16  # products of rows for each pair that is asked for, up to which all of them are made at once
FLOAT64_ROUNDOFF = 2.0**-50  # of one term of a sum, and of the lengths of its rows
FEWEST_SHORT = 5_000  # rows from which on a few are compared with all by a short form first


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows: `i` < `j` int64 (m,), sorted by (i, j); `cosine` float32 (m,), -1 to 1, within 1e-6 of the true one."""

    i: np.ndarray
    j: np.ndarray
    cosine: np.ndarray

    def __len__(self) -> int:
        return len(self.i)

    def part(self, kept: np.ndarray) -> Pairs:
        """Those of the pairs that are `kept`, bool (m,) or their places."""
        return Pairs(self.i[kept], self.j[kept], self.cosine[kept])


Part = Callable[[int, int], Pairs]


class TooManyPairs(UsageError):
    """More pairs than the caller's limit: at this threshold the answer would not fit."""


def hold(count: int, limit: int | None, threshold: float) -> None:
    """Raise `TooManyPairs` for more than `limit` pairs."""
    if limit is not None and count > limit:
        raise TooManyPairs(f"more than {limit:,} pairs at or above {threshold:g}: use a higher threshold")


def near_pairs(
    matrix: np.ndarray,
    threshold: float,
    engine: str = "auto",
    progress: Progress | None = None,
    limit: int | None = None,
) -> Pairs:
    """Every pair of rows whose cosine is at or above `threshold`, none left out.

    `matrix` (n, d) of any floating type, rows of any length; a zero row pairs with nothing. `threshold` above 0, up to
    1. `engine` "torch", or "native" for the compiled kernel where the machine can have it, or "auto", which takes a graphics
    card for many rows where there is one; the pairs are the same. `progress` is told the share of the work that is done, 0 to 1. Raises ValueError
    naming a row that is not finite and for a threshold out of range, `TooManyPairs` when more than `limit` pairs are found.

    >>> rows = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 0.0]])
    >>> pairs = near_pairs(rows, 0.9)
    >>> pairs.i.tolist(), pairs.j.tolist(), pairs.cosine.round(3).tolist()
    ([0], [2], [0.9950000047683716])
    """
    # here, since PyTorch takes seconds to load and only a whole search needs it
    from tagcheck.similar import bounded_search

    progress = progress or (lambda share: None)
    with bounded_search.workers() as pool:
        search, decide = _begun(matrix, threshold, engine, limit, pool, progress)
        return _sorted_pairs(list(over_strips(search, decide, pool, progress)))


def with_fresh(
    matrix: np.ndarray,
    threshold: float,
    known: Pairs,
    fresh: np.ndarray,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Pairs:
    """`near_pairs` where the pairs `known` of all other rows are at hand: the rows `fresh` (sorted) are compared with all.

    >>> rows = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    >>> with_fresh(rows, 0.9, near_pairs(rows[:2], 0.9), np.array([2])).j.tolist()
    [2]
    """
    with workers() as pool:
        rows = UnitRows.of(matrix, pool)
        decide = _Decision(matrix, threshold, rows.slack, limit)
        decide.count = len(known)
        many = len(rows) >= FEWEST_SHORT and min(len(fresh), rows.width) >= 2 * SHORT
        low = threshold - rows.slack
        search = PlainSearch(rows, low, fresh, short_form(rows, low, pool) if many else None)
        found = list(over_strips(search, decide, pool, progress or (lambda share: None)))
    return _sorted_pairs([(known.i, known.j, known.cosine), *found])


def in_parts(matrix: np.ndarray, threshold: float, limit: int | None = None) -> Part:
    """`near_pairs` a part at a time: a function of (part, parts) that returns the pairs of that part.

    The parts together are all pairs, each once (`joined`). What all parts need is worked out here, once.
    """
    search, decide = _begun(matrix, threshold, "auto", limit, ThreadPoolExecutor(1), lambda share: None)

    def part(place: int, parts: int) -> Pairs:
        strips = range(0, search.size, search.step)[place::parts]
        found = (decide(candidates) for start in strips for candidates in search.strip(start))
        return _sorted_pairs([one for one in found if one is not None])

    return part


def joined(parts: Iterable[Pairs]) -> Pairs:
    """The pairs of all parts as `near_pairs` gives them."""
    return _sorted_pairs([(part.i, part.j, part.cosine) for part in parts])


def _begun(
    matrix: np.ndarray, threshold: float, engine: str, limit: int | None, pool: Executor, progress: Progress
) -> tuple[Search, _Decision]:
    """The search for pairs of rows, and what decides about those that it finds."""
    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold of {threshold}: it has to be above 0 and at most 1")
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r}: there are {', '.join(ENGINES)}")
    rows = UnitRows.of(matrix, pool)
    decide = _Decision(matrix, threshold, rows.slack, limit)
    return _search(rows, threshold - rows.slack, engine, pool, progress), decide


def _search(rows: UnitRows, low: float, engine: str, pool: Executor, progress: Progress) -> Search:
    """The search that suits the machine and the number of rows."""
    from tagcheck.similar import bounded_search, gpu_search  # here, as in `near_pairs`

    card = gpu_search.card() if engine == "auto" and len(rows) >= gpu_search.FEWEST_ROWS else None
    if card is not None and gpu_search.fits(len(rows), rows.width, card):
        return gpu_search.DeviceSearch(rows, low, card, pool)
    search = bounded_search.PrunedSearch(rows, low, pool, engine != "torch", progress)
    return search if search.worthwhile else PlainSearch(rows, low)


def pair_cosines(matrix: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The cosines (m,) float32 of the row pairs (`i`, `j`) of `matrix` (n, d), computed in float64; 0 for zero rows.

    >>> pair_cosines(np.eye(2), np.array([0, 0]), np.array([0, 1])).tolist()
    [1.0, 0.0]
    """
    cosine = np.empty(len(i), dtype=np.float32)
    for start in range(0, len(i), BLOCK):
        part = slice(start, start + BLOCK)
        (rows, row), (others, other) = (np.unique(one[part], return_inverse=True) for one in (i, j))
        cosine[part] = np.einsum("nd,nd->n", normalised(matrix[rows])[row], normalised(matrix[others])[other])
    return cosine


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
    return np.asarray(rank[labels])


def groups(n: int, i: np.ndarray, j: np.ndarray) -> list[list[int]]:
    """The connected groups of two or more rows, each sorted, the one with the lowest first member first.

    >>> groups(5, np.array([1, 0]), np.array([4, 2]))
    [[0, 2], [1, 4]]
    """
    labels = group_labels(n, i, j)
    order = np.argsort(labels, kind="stable")
    bounds = np.flatnonzero(np.diff(labels[order])) + 1
    return [part.tolist() for part in np.split(order, bounds) if len(part) > 1]


class _Decision:
    """Which candidates belong to the result: clear ones by their product, borderline ones by float64."""

    def __init__(self, matrix: np.ndarray, threshold: float, slack: float, limit: int | None) -> None:
        self.matrix, self.threshold, self.slack, self.limit = matrix, threshold, slack, limit
        self.count = 0
        self.lock = threading.Lock()

    def __call__(self, candidates: Candidates | None) -> Candidates | None:
        """Those of `candidates` that stay; called from several threads. Raises `TooManyPairs`."""
        if candidates is None:
            return None
        i, j, cosine = candidates
        keep = cosine >= self.threshold + self.slack
        borderline = np.flatnonzero(~keep)
        cosine[borderline] = self._cosines(i[borderline], j[borderline])
        keep[borderline] = cosine[borderline] >= np.float32(self.threshold)
        with self.lock:
            self.count += int(keep.sum())
            hold(self.count, self.limit, self.threshold)
        return i[keep], j[keep], np.minimum(cosine[keep], np.float32(1))

    def _cosines(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """`pair_cosines`, by one product in float64 where most pairs of few rows are asked for. What is so near to where
        float32 rounds to the threshold that the order of a sum could decide is summed as `pair_cosines` does.
        """
        rows, others = np.unique(i), np.unique(j)
        if len(rows) * len(others) > DENSE * len(i):
            return pair_cosines(self.matrix, i, j)
        product = normalised(self.matrix[rows]) @ normalised(self.matrix[others]).T
        exact = product[np.searchsorted(rows, i), np.searchsorted(others, j)]
        least = np.float32(self.threshold)
        edge = (float(least) + float(np.nextafter(least, np.float32(0)))) / 2
        near = np.flatnonzero(np.abs(exact - edge) < self.matrix.shape[1] * FLOAT64_ROUNDOFF)
        cosine = exact.astype(np.float32)
        cosine[near] = pair_cosines(self.matrix, i[near], j[near])
        return np.asarray(cosine)


def _sorted_pairs(found: list[Candidates]) -> Pairs:
    """All candidates as one `Pairs`, sorted by (i, j)."""
    if not found:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    i, j, cosine = (np.concatenate(part) for part in zip(*found))
    order = np.lexsort((j, i))
    return Pairs(i[order].astype(np.int64), j[order].astype(np.int64), cosine[order].astype(np.float32))
