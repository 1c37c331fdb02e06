"""Rows at length 1, and their products a tile at a time on all cores, so that no n x n block is ever held.

Each core works on tiles of its own with one thread: a tile fits the core's cache, and no core waits for
another after every small product, which on a busy machine costs more than the products do. Comparing a few new rows with all
takes this module and `short_form`, and no PyTorch, whose import alone takes longer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

TILE = 1024
BLOCK = 1024
SCATTERED = 400  # a block product of this many pairs costs as much as gathering one pair
GATHER = 1_024
UNIT_ROUNDOFF = 2.0**-24  # of float32
SAFE_LENGTHS = (1e-30, 1e30)
Progress = Callable[[float], None]
Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]  # i < j, both int64, and the float32 product of the unit rows


@dataclass(frozen=True)
class UnitRows:
    """Rows that are brought to length 1 as they are taken, which saves a copy of them all.

    `matrix` (n, d) float16 or float32, `scale` (n,) float32: one over each row's length, 0 for a zero row.
    """

    matrix: np.ndarray
    scale: np.ndarray

    @staticmethod
    def of(matrix: np.ndarray, pool: Executor) -> UnitRows:
        """`matrix` (n, d) of any floating type. Raises ValueError naming a row that is not finite, and for another shape.

        Other types, and rows of such a length that float32 could not scale them, are copied once.
        """
        if matrix.ndim != 2:
            raise ValueError(f"a matrix of {matrix.ndim} dimensions: it has to have 2")
        lengths = np.empty(len(matrix))  # one array: small ones would lie between blocks and keep memory apart

        def measure(start: int) -> None:
            lengths[start : start + BLOCK] = _lengths(matrix, start)

        for _ in pool.map(measure, range(0, len(matrix), BLOCK)):
            pass
        some = lengths[lengths > 0]
        safe = not len(some) or (some.min() > SAFE_LENGTHS[0] and some.max() < SAFE_LENGTHS[1])
        if safe and matrix.dtype in (np.float16, np.float32):
            scale = np.zeros(len(lengths))
            np.divide(1.0, lengths, out=scale, where=lengths > 0)
            return UnitRows(matrix, scale.astype(np.float32))
        unit = np.empty(matrix.shape, dtype=np.float32)

        def fill(start: int) -> None:
            unit[start : start + BLOCK] = normalised(matrix[start : start + BLOCK])

        for _ in pool.map(fill, range(0, len(matrix), BLOCK)):
            pass
        return UnitRows(unit, np.asarray(unit.any(axis=1), dtype=np.float32))

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def width(self) -> int:
        """The number of columns."""
        return int(self.matrix.shape[1])

    def take(self, places: np.ndarray | slice) -> np.ndarray:
        """The rows at `places` at length 1, as float32."""
        rows = self.matrix[places].astype(np.float32)
        rows *= self.scale[places, None]
        return rows

    def products(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """The float32 products (m,) of the pairs (i, j) of these rows at length 1."""
        rows, row = np.unique(i, return_inverse=True)
        columns, column = np.unique(j, return_inverse=True)
        product = np.empty(len(i), dtype=np.float32)
        if len(rows) * len(columns) >= SCATTERED * len(i):
            for at in range(0, len(i), GATHER):
                some = slice(at, at + GATHER)
                product[some] = (self.take(i[some]) * self.take(j[some])).sum(axis=1)
            return product
        left = self.take(rows)
        for at in range(0, len(columns), BLOCK):  # so that many columns do not make one great product
            within = np.flatnonzero((column >= at) & (column < at + BLOCK))
            block = left @ self.take(columns[at : at + BLOCK]).T
            product[within] = block[row[within], column[within] - at]
        return product

    def pairs_above(self, low: float, i: np.ndarray, j: np.ndarray) -> Candidates:
        """Those of the pairs (i, j) that have a product of at least `low`."""
        product = self.products(i, j)
        stays = product >= low
        i, j = i[stays], j[stays]
        return np.minimum(i, j), np.maximum(i, j), product[stays]

    @property
    def slack(self) -> float:
        """An upper bound on how far a float32 product of two of these rows is from their true cosine.

        Each number carries the rounding of its scale and of the scaling, 2u a row; the product, in
        any order of summation, adds width * u (Higham, Accuracy and Stability of Numerical
        Algorithms, section 3.1); 4u more cover what is of second order. u = 2^-24.
        """
        return (self.width + 8) * UNIT_ROUNDOFF


def normalised(rows: np.ndarray) -> np.ndarray:
    """`rows` (m, d) in float64 at length 1, zero rows staying zero.

    They are divided by their largest number first, so that no square overflows or vanishes.
    """
    rows = rows.astype(np.float64)
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    rows /= np.where(largest > 0, largest, 1.0)
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows / np.where(length > 0, length, 1.0)


@contextmanager
def workers(begin: Callable[[], None] | None = None) -> Iterator[Executor]:
    """As many threads as NumPy would use for a product, in each of which, and here meanwhile, it uses one. `begin` is called in each."""
    threads = max((one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"), default=1)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads, initializer=begin) as pool:
        try:
            yield pool
        except BaseException:  # Ctrl-C above all: what has not begun is not waited for
            pool.shutdown(cancel_futures=True)
            raise


class Search(Protocol):
    """A search for pairs, a strip of rows at a time, each against itself and all rows after it."""

    size: int  # of what is searched, in rows or parts
    step: int  # of a strip, in the same
    prepared: float  # share of the whole work that is done once the search is made

    def strip(self, start: int) -> Iterator[Candidates | None]:
        """The pairs of the strip from `start` on, some at a time."""


def over_strips(
    search: Search, decide: Callable[[Candidates | None], Candidates | None], pool: Executor, progress: Progress
) -> Iterator[Candidates]:
    """All of a search's strips; yields what `decide` leaves of what they find, in order.

    An error ends it all and is raised here; so does closing the generator, after the tiles in hand.
    """
    over = threading.Event()
    progress(search.prepared)

    def strip(start: int) -> list[Candidates]:
        found = []
        for candidates in search.strip(start):
            if over.is_set():
                break
            if (kept := decide(candidates)) is not None:
                found.append(kept)
        return found

    strips = deque(pool.submit(strip, start) for start in range(0, search.size, search.step))
    try:
        for start in range(0, search.size, search.step):
            yield from strips.popleft().result()
            progress(
                search.prepared
                + (1 - search.prepared) * (1 - (max(0, search.size - start - search.step) / search.size) ** 2)
            )
    finally:
        over.set()
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Short:
    """Coordinates `rows` (n, k) of unit rows whose products are at least `low` wherever those of the whole rows are as high as is asked."""

    rows: np.ndarray
    low: float


class PlainSearch:
    """Pairs of unit rows by their full float32 product: the plain way, and the best one for a few thousand rows.

    With `fresh` (sorted, int64) only pairs with a row among these, which are compared with all rows; where there is a `short` form,
    with those that it leaves.
    """

    def __init__(self, rows: UnitRows, low: float, fresh: np.ndarray | None = None, short: Short | None = None) -> None:
        self.rows, self.low, self.every, self.short = rows, low, fresh is None, short
        self.places = np.arange(len(rows)) if fresh is None else fresh
        self.asked = np.zeros(len(rows), dtype=bool)
        self.asked[self.places] = True
        self.size, self.step, self.prepared = len(self.places), TILE, 0.0

    def strip(self, start: int) -> Iterator[Candidates | None]:
        """The pairs of the strip from `start` on, a tile at a time."""
        some, first = self.places[start : start + TILE], start if self.every else 0  # all rows before have met these
        return (self._tile(some, other) for other in range(first, len(self.rows), TILE))

    def _tile(self, some: np.ndarray, other: int) -> Candidates | None:
        others = np.arange(other, min(other + TILE, len(self.rows)))
        if self.short is not None:
            bound = self.short.rows[some] @ self.short.rows[other : other + TILE].T
            others = others[bound.max(axis=0) >= self.short.low]
        product = self.rows.take(some) @ self.rows.take(others).T
        if not product.size or product.max() < self.low:
            return None
        row, column = np.nonzero(product >= self.low)
        one, two = some[row], others[column]
        once = (one < two) | ~self.asked[two]  # two rows that are asked for meet twice, and each meets itself
        low, high = np.minimum(one, two)[once], np.maximum(one, two)[once]
        return low, high, product[row, column][once]


def _lengths(matrix: np.ndarray, start: int) -> np.ndarray:
    """The lengths in float64 of one block of rows; inf or 0 for float64 rows whose squares leave its range."""
    rows = matrix[start : start + BLOCK]
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ValueError(f"row {start + int(finite.argmin())} holds numbers that are not finite")
    rows = rows.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt(np.einsum("nd,nd->n", rows, rows)))
