"""Pairs above a cosine without most of the work: an upper bound rules out nearly all of them, for certain.

The unit rows are rotated so that axis 0 is their mean direction and the next axes are their top
principal axes, and cut after k of these. What the cut leaves out of a row has a length, and by
Cauchy-Schwarz two left-out parts cannot contribute more to the dot product than the product of
their lengths. So with that length as one more coordinate, the short dot product is never below
the true one, and a pair whose short product stays below the threshold is ruled out for certain.

The short products are made in bfloat16. Their error is bounded from the data (`_Signed`), and the
threshold, less that bound, is one more coordinate: so the sign of a product says whether the pair
stays, and the rounding of the result, which keeps signs, costs nothing.

A k-means orders the rows so that the pairs that stay gather in few tiles. In a tile, rows
and columns with something left go on to a longer bound, and what is left then to the full product
in float32. Nothing is gathered pair by pair unless the pairs lie scattered.

The compiled kernel has another bound before all these: two unit rows with a cosine of c are sqrt(2 - 2 c)
apart, and no further along any direction. Between two clusters that direction is the line through
their centres, so most rows of most clusters are never compared at all (bounds_in_c.c).
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from time import perf_counter

import numpy as np
import torch

from tagcheck.similar import unit_rows
from tagcheck.similar.bounds_in_c import CLUSTER_AXES, PART, Scanner, kernel
from tagcheck.similar.main_axes import SPARE, Heads, defects, principal_axes, project, some_of
from tagcheck.similar.unit_rows import BLOCK, TILE, UNIT_ROUNDOFF, Candidates, Progress, UnitRows

WIDTHS = (32, 48, 64, 96, 128, 256)  # axes that the first bound may keep; the last is what the second keeps
FEWEST_ROWS = 5_000  # below, the plain products are over before the axes are found
SAMPLE = 10_000
TRIAL = 1_024
HOPELESS = 0.05  # share of pairs left by the longest bound from which bounding is not worth it
TORCH_LEAVES = (4.0, 1e-4)  # measured: where a wider first bound begins to cost more than it saves later,
COMPILED_LEAVES = (4.0, 2e-4)  # and for the kernel, which looks again at a pair for next to nothing
COMPILED_EVEN = (600_000, 0.5)  # measured: rows for which comparing takes as long as preparing, and with which power
TORCH_EVEN = (17_000, 1.0)  # of their number it grows faster
MEASURED, PROJECTED = 0.15, 0.55  # measured: shares of preparing that are done before and after rows are projected
CLUSTER_ROWS = 100  # fewest rows to a cluster, on average; the clusters are no more than the root of the number of rows
CLUSTER_ROUNDS = 4
NEAREST = 1_024  # points whose distances to all centres fit a core's cache
ROUND = 64
_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}  # whose sign is the number's, and quicker to look at


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
            torch.from_numpy(sample @ axes), widths, low, *(COMPILED_LEAVES if loaded else TORCH_LEAVES)
        )
        if first is None:
            return
        self.worthwhile = True
        even, power = COMPILED_EVEN if loaded else TORCH_EVEN
        self.prepared = 1 / (1 + (len(rows) / even) ** power)

        def projected(share: float) -> None:
            progress(self.prepared * (MEASURED + share * (PROJECTED - MEASURED)))

        heads = torch.from_numpy(project(rows, axes, pool, projected))
        drawn = torch.Generator().manual_seed(0)
        self.order, firsts = cluster_order(heads[:, 1 : 1 + CLUSTER_AXES], drawn, pool)
        cut = Heads(heads, self.order, torch.from_numpy(rows.scale > 0), defects(rows, axes))
        self.bounds: Scanner | _TorchBounds = (
            Scanner(loaded, cut, first, firsts, low, pool) if loaded else _TorchBounds(cut, first, low, pool)
        )
        self.size, self.step = self.bounds.size, self.bounds.step

    def strip(self, start: int) -> Iterator[Candidates | None]:
        """The pairs with a product of at least `low` of the ordered rows from `start` on and those after them."""
        return (self._full(i, j) if len(i) else None for i, j in self.bounds.strip(start))

    def _full(self, i: torch.Tensor, j: torch.Tensor) -> Candidates | None:
        """Which of the pairs (i, j) of ordered rows have a full product of at least `low`, as rows of the input."""
        return self.rows.pairs_above(self.low, self.order[i].numpy(), self.order[j].numpy())


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


class _Scratch(threading.local):
    """A tile's products, one buffer for each thread: a fresh one for every tile would be paged in anew each time."""

    def product(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """left @ right.T, valid until this thread's next call."""
        size = len(left) * len(right)
        buffer = getattr(self, "buffer", None)
        if buffer is None or buffer.numel() < size or buffer.dtype != left.dtype:
            self.buffer = buffer = torch.empty(size, dtype=left.dtype)
        return torch.mm(left, right.T, out=buffer[:size].view(len(left), len(right)))


class _TorchBounds:
    """The bounds in torch, a tile at a time."""

    def __init__(self, cut: Heads, first: int, low: float, pool: Executor) -> None:
        dtype = product_dtype()
        self.size, self.step, self.scratch = len(cut.heads), TILE, _Scratch()
        self.left = _Signed(replace(cut, heads=cut.heads[:, : 1 + first]), low, dtype, pool)
        self.right = self.left.right(slice(None))
        self.long = _Signed(cut, low, dtype, pool)

    def strip(self, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The rows and the columns of the pairs that are left, as places in the order."""
        return (self._tile(start, other) for other in range(start, len(self.right), TILE))

    def _tile(self, start: int, other: int) -> tuple[torch.Tensor, torch.Tensor]:
        bound = self.scratch.product(self.left.rows[start : start + TILE], self.right[other : other + TILE])
        bits = bound.view(_BITS[bound.dtype])
        if start == other:
            bits.masked_fill_(torch.ones(bits.shape, dtype=torch.bool).tril_(), -1)
        row = (bits.amax(1) >= 0).nonzero().squeeze(1)
        if not len(row):
            return row, row
        column = (bits.amax(0) >= 0).nonzero().squeeze(1)
        left, right = self.long.rows[_filled(row) + start], self.long.right(_filled(column) + other)
        product = torch.mm(left, right.T)
        stays = (product.view(_BITS[product.dtype]) >= 0)[: len(row), : len(column)]
        if start == other:
            stays &= column[None, :] > row[:, None]
        one, two = stays.nonzero(as_tuple=True)
        return row[one] + start, column[two] + other


class _Signed:
    """The rows' first coordinates with what bounds the rest, ready for products whose sign decides.

    A row is [m, m', m, h_1 .. h_k, r, 1, 1] on the left and [m, m, m', h_1 .. h_k, r, o, o'] on the
    right: the mean coordinate in a high part m and a low part m' (it is the largest, and would
    carry the largest rounding error), the others h, the length r of what is left out, and an
    offset o + o' = margin - low. The product of two rows is then at least their cosine - low.
    """

    def __init__(self, cut: Heads, low: float, dtype: torch.dtype, pool: Executor) -> None:
        n, width = cut.heads.shape
        self.rows = torch.empty(n, width + 5, dtype=dtype)

        def fill(start: int) -> float:
            place = cut.order[start : start + BLOCK]
            head = cut.heads[place]
            rest = cut.rests(head) * cut.nonzero[place]
            made = self.rows[start : start + BLOCK]
            made[:, 0] = head[:, 0]
            made[:, 1] = head[:, 0] - made[:, 0].float()
            made[:, 2] = made[:, 0]
            made[:, 3:-3] = head[:, 1:]
            made[:, -3] = _rounded_up(rest, dtype)
            made[:, -2:] = 1
            return float((head[:, 1:] - made[:, 3:-3].float()).norm(dim=1).max())

        worst = max(pool.map(fill, range(0, n, BLOCK)))
        # Rounding moved each row's h by at most `worst`, so a product of two rows no longer than 1.01 by
        # at most 2.03 * worst. The mean coordinate's two parts are right to 2^-16, their product to 2^-14;
        # sums in float32 of terms of at most 3 in all to 3 * width * 2u; the axes' defect counts twice.
        margin = 2.03 * worst + 2.0**-14 + 6 * (width + 6) * UNIT_ROUNDOFF + 4 * cut.defect + SPARE
        offset = torch.tensor(margin - low)
        high = offset.to(dtype)
        self.offset = torch.stack([high, (offset - high.float()).to(dtype)])

    def right(self, places: torch.Tensor | slice) -> torch.Tensor:
        """The rows at `places` as they stand on the right of a product."""
        made = self.rows[places].clone() if isinstance(places, slice) else self.rows[places]
        made[:, 2] = made[:, 1]
        made[:, 1] = made[:, 0]
        made[:, -2:] = self.offset
        return made


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


@cache
def product_dtype() -> torch.dtype:
    """The type for short products: bfloat16 where products of it are summed in float32 and made quicker, else float32.

    Summed in bfloat16, 1 + 256 * 2^-9 would stay 1, and the bound's margin would not hold. Quicker they are where
    the processor can multiply bfloat16; where it cannot (AVX2 alone) they take up to a hundred times as long.
    """
    left = torch.full((256, 257), 2.0**-9, dtype=torch.bfloat16)
    left[:, 0] = 1
    right = torch.ones(256, 257, dtype=torch.bfloat16).T
    if not bool((torch.mm(left, right) == 1.5).all()):
        return torch.float32
    return torch.bfloat16 if _seconds(left, right) < _seconds(left.float(), right.float()) else torch.float32


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    """How long a product takes when nothing comes between."""
    taken = []
    for _ in range(5):
        start = perf_counter()
        torch.mm(left, right)
        taken.append(perf_counter() - start)
    return min(taken)


def _filled(places: torch.Tensor) -> torch.Tensor:
    """`places` with the first repeated up to a round number. Products come in few shapes then; torch keeps a
    compiled product for each, which takes longer to make than to use, and takes memory.
    """
    return torch.nn.functional.pad(places, (0, -len(places) % ROUND), value=int(places[0]))


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


def _rounded_up(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Numbers of at least 0 in a narrower type, never below `values`."""
    rounded = values.to(dtype)
    return torch.where(rounded.float() < values, torch.nextafter(rounded, torch.ones_like(rounded) * 4), rounded)
