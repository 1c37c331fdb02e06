"""Pairs above a cosine without most of the work: an upper bound rules out nearly all of them, for certain.

The unit rows are rotated so that axis 0 is their mean direction and the next axes are their top
principal axes, and cut after k of these. What the cut leaves out of a row has a length, and by
Cauchy-Schwarz two left-out parts cannot contribute more to the dot product than the product of
their lengths. So with that length as one more coordinate, the short dot product is never below
the true one, and a pair whose short product stays below the threshold is ruled out for certain.

A k-means orders the rows so that the pairs that stay gather in few tiles. In a tile, rows
and columns with something left go on to a longer bound, and what is left then to the full product
in float32. Nothing is gathered pair by pair unless the pairs lie scattered.

The compiled kernel has another bound before all these: two unit rows with a cosine of c are sqrt(2 - 2 c)
apart, and no further along any direction. Between two clusters that direction is the line through
their centres, so most rows of most clusters are never compared at all (bounds_in_c.c).
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from tagcheck.similar import unit_rows
from tagcheck.similar.bounds_in_c import CLUSTER_AXES, PART, Scanner, kernel
from tagcheck.similar.main_axes import Heads, defects, principal_axes, project, shortened, some_of
from tagcheck.similar.unit_rows import TILE, Candidates, Progress, UnitRows

WIDTHS = (32, 48, 64, 96, 128, 256)  # axes that the first bound may keep; the last is what the second keeps
FEWEST_ROWS = 5_000  # below, the plain products are over before the axes are found
SAMPLE = 10_000
TRIAL = 1_024
HOPELESS = 0.05  # share of pairs left by the longest bound from which bounding is not worth it
PLAIN_LEAVES = (4.0, 1e-4)  # measured: where a wider first bound begins to cost more than it saves later,
COMPILED_LEAVES = (4.0, 2e-4)  # and for the kernel, which looks again at a pair for next to nothing
COMPILED_EVEN = (600_000, 0.5)  # measured: rows for which comparing takes as long as preparing, and with which power
PLAIN_EVEN = (17_000, 1.0)  # of their number it grows faster
MEASURED, PROJECTED = 0.15, 0.55  # measured: shares of preparing that are done before and after rows are projected
CLUSTER_ROWS = 100  # fewest rows to a cluster, on average; the clusters are no more than the root of the number of rows
CLUSTER_ROUNDS = 4
NEAREST = 1_024  # points whose distances to all centres fit a core's cache


class PrunedSearch:
    """Pairs of unit rows with a product of at least `low`, tile by tile of the rows in an order of its own.

    With `compiled` the first bound is made by the compiled kernel, where the machine can have it.
    `worthwhile` is False where bounds would rule out too little: then use the plain way. `progress` is told the share
    of the whole work, this one's preparation and the search, that is done.
    """

    def __init__(
        self, rows: UnitRows, low: float, pool: Executor, compiled: bool = True, progress: Progress = lambda share: None
    ) -> None:
        self.rows, self.low = rows, low
        self.worthwhile = False
        widths = [width for width in WIDTHS if width <= rows.width // 2]
        if len(rows) < FEWEST_ROWS or not widths:
            return
        random = np.random.default_rng(0)
        axes = principal_axes(rows, some_of(len(rows), SAMPLE, random), widths[-1], random, pool)
        loaded = kernel() if compiled else None
        sample = rows.take(some_of(len(rows), TRIAL, random))
        first = choose_width(
            torch.from_numpy(sample @ axes), widths, low, *(COMPILED_LEAVES if loaded else PLAIN_LEAVES)
        )
        if first is None:
            return
        self.worthwhile = True
        even, power = COMPILED_EVEN if loaded else PLAIN_EVEN
        self.prepared = 1 / (1 + (len(rows) / even) ** power)

        def projected(share: float) -> None:
            progress(self.prepared * (MEASURED + share * (PROJECTED - MEASURED)))

        heads = torch.from_numpy(project(rows, axes, pool, projected))
        drawn = torch.Generator().manual_seed(0)
        self.order, firsts = cluster_order(heads[:, 1 : 1 + CLUSTER_AXES], drawn, pool)
        cut = Heads(heads, self.order, torch.from_numpy(rows.scale > 0), defects(rows, axes))
        self.bounds: Scanner | _PlainBounds = (
            Scanner(loaded, cut, first, firsts, low, pool) if loaded else _PlainBounds(cut, first, low)
        )
        self.size, self.step = self.bounds.size, self.bounds.step

    def strip(self, start: int) -> Iterator[Candidates | None]:
        """The pairs with a product of at least `low` of the ordered rows from `start` on and those after them."""
        return (self._full(i, j) if len(i) else None for i, j in self.bounds.strip(start))

    def _full(self, i: np.ndarray, j: np.ndarray) -> Candidates | None:
        """Which of the pairs (i, j) of ordered rows have a full product of at least `low`, as rows of the input."""
        order = self.order.numpy()
        return self.rows.pairs_above(self.low, order[i], order[j])


@contextmanager
def workers() -> Iterator[Executor]:
    """Those of `unit_rows`, in each of which, and here meanwhile, torch uses one thread, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with unit_rows.workers(partial(torch.set_num_threads, 1)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


class _PlainBounds:
    """The bounds as products in float32, a tile at a time: of a few axes, and of all for the rows and columns that these leave."""

    def __init__(self, cut: Heads, first: int, low: float) -> None:
        self.size, self.step = len(cut.heads), TILE
        ordered = replace(cut, heads=cut.heads[cut.order].numpy(), nonzero=cut.nonzero[cut.order].numpy())
        self.short, self.long = (shortened(ordered, width, low) for width in (1 + first, cut.heads.shape[1]))

    def strip(self, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The rows and the columns of the pairs that are left, as places in the order."""
        return (self._tile(start, other) for other in range(start, self.size, TILE))

    def _tile(self, start: int, other: int) -> tuple[np.ndarray, np.ndarray]:
        bound = self.short.rows[start : start + TILE] @ self.short.rows[other : other + TILE].T
        if start == other:
            bound = np.triu(bound, 1)
        row = start + np.flatnonzero(bound.max(axis=1) >= self.short.low)
        if not len(row):
            return row, row
        column = other + np.flatnonzero(bound.max(axis=0) >= self.short.low)
        one, two = np.nonzero(self.long.rows[row] @ self.long.rows[column].T >= self.long.low)
        one, two = row[one], column[two]
        return one[one < two], two[one < two]


def choose_width(heads: torch.Tensor, widths: list[int], low: float, times: float, plus: float) -> int | None:
    """How many axes the first bound should keep: the fewest that leave at most `times` the share of pairs that
    the most axes would leave, and `plus`.

    `heads` (m, 1 + widths[-1]) of a sample of rows. None when even the most leave too many pairs.
    """
    left = {}
    for width in widths:
        head = heads[:, : 1 + width]
        rest = (1 - head.square().sum(1)).clamp_(min=0).sqrt_()
        bound = torch.addmm(torch.outer(rest, rest), head, head.T)
        left[width] = float((bound >= low - 0.005).float().mean()) - 1 / len(heads)
    if left[widths[-1]] > HOPELESS:
        return None
    return next(width for width in widths if left[width] <= times * left[widths[-1]] + plus)


def cluster_order(points: torch.Tensor, random: torch.Generator, pool: Executor) -> tuple[torch.Tensor, np.ndarray]:
    """An order (n,) of the rows of `points` (n, k) in which near ones stand near: by k-means clusters, each next to a
    near one. And where its parts begin: a cluster is one part, or several where it has more than `PART` rows; at the
    end stands n.
    """
    n = len(points)
    clusters = max(1, min(int(n**0.5), n // CLUSTER_ROWS))
    centres, sample = (points[torch.randperm(n, generator=random)[:some]] for some in (clusters, 40 * clusters))
    for _ in range(CLUSTER_ROUNDS):
        label = _nearest(sample, centres, pool)
        size = torch.bincount(label, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, label, sample)
        centres = torch.where((size > 0)[:, None], sums / size.clamp(min=1)[:, None], centres)
    distance = torch.cdist(centres, centres)
    rank = torch.empty(clusters, dtype=torch.int64)
    place = 0
    for step in range(clusters):
        rank[place] = step
        distance[:, place] = torch.inf
        place = int(distance[place].argmin())
    label = rank[_nearest(points, centres, pool)]
    ends = torch.bincount(label, minlength=clusters).cumsum(0).tolist()
    firsts = [first for start, end in zip([0, *ends], ends) for first in range(start, end, PART)]
    return label.argsort(stable=True), np.array([*firsts, n])


def _nearest(points: torch.Tensor, centres: torch.Tensor, pool: Executor) -> torch.Tensor:
    """The place of the nearest centre of each point."""
    half, turned = -centres.square().sum(1) / 2, centres.T.contiguous()
    nearest = torch.empty(len(points), dtype=torch.int64)

    def fill(start: int) -> None:
        near = torch.addmm(half, points[start : start + NEAREST], turned)
        torch.argmax(near, 1, out=nearest[start : start + NEAREST])

    for _ in pool.map(fill, range(0, len(points), NEAREST)):
        pass
    return nearest
