"""The compiled kernel for the bounds: made from bounds_in_c.c by the system's C compiler when it is first wanted.

Where there is no compiler, no room for the result, or a processor that the kernel does not know, `kernel` gives None
and the search goes on in torch, slower and with the same pairs. The library is kept in the user's cache under a name
that tells the source and the machine, so that it is compiled once and never taken for another.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tagcheck import c_library
from tagcheck.similar.main_axes import SPARE, Heads
from tagcheck.similar.unit_rows import BLOCK

SOURCE, NAME = Path(__file__).with_name("bounds_in_c.c"), "bound"
LEVELS = (2, 1)  # AVX-512 with BW, AVX2
LANES = 32  # columns of a group
PACKED = 8  # pairs of coordinates that are packed at once
PART = 2_048  # most rows of a part, whose packed steps have to fit a core's cache
ROOM = 65_536  # pairs that a call may find before it asks for room; LANES * PART at least
STEPS_LEFT, STEPS_RIGHT = 63, 127  # most steps of a coordinate: the kernel's products of two pairs have to fit 16 bits
REACH = 32_000  # units that a bound may be from zero, to fit them as well, with what rounding adds
FURTHEST = 2**16  # steps that two places of 16 bits on a line cannot be apart, and all that a reach needs
MIDDLE = 96  # coordinates of the long bound that are looked at first
LONG = 2**14  # steps to 1 of the long bound's coordinates
CLUSTER_AXES = 32  # that parts are told apart by, after the mean
EARLY = 0.75  # share of the first bound's axes that the kernel takes before it looks for the first time

Fields = dict[str, Any]  # of `struct search`: bounds_in_c.c says what each is; arrays are contiguous


class _Search(ctypes.Structure):
    """`struct search` of bounds_in_c.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("left", "right", "left_starts", "right_starts", "longs")),
        *((name, ctypes.c_void_p) for name in ("points", "point_starts", "centres", "firsts", "groups")),
        *((name, ctypes.c_float) for name in ("reach", "length")),
        *((name, ctypes.c_int32) for name in ("early", "pairs", "stride", "middle", "width", "low", "point_pairs")),
        *((name, ctypes.c_int64) for name in ("most", "part", "other", "group", "parts", "room")),
        ("found", ctypes.c_void_p),
    ]


class Kernel:
    """The loaded library. `level` 2 for AVX-512 with BW, 1 for AVX2, 0 where it knows neither or is wrong."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.tagcheck_search.restype = ctypes.c_int64
        self._library.tagcheck_search.argtypes = [ctypes.c_int, ctypes.POINTER(_Search)]
        self.level = int(self._library.tagcheck_level())
        while self.level and not _is_right(self):
            self.level -= 1

    def strip(self, fields: Fields, part: int) -> Iterator[np.ndarray]:
        """The pairs (m, 2) int32 of a row of `part` and a later one that stay, some at a time."""
        found = np.empty((ROOM, 2), dtype=np.int32)
        held = fields | {"part": part, "other": part, "room": ROOM, "found": found}
        search = _Search(
            **{name: one.ctypes.data if isinstance(one, np.ndarray) else one for name, one in held.items()}
        )
        while search.other < search.parts:
            count = self._library.tagcheck_search(self.level, search)
            if count < 0:
                raise MemoryError("no room for the rows of two parts")
            yield found[:count]


@cache
def kernel() -> Kernel | None:
    """The kernel, compiled if need be; None where this machine cannot have it."""
    made = c_library.loaded(SOURCE, NAME, Kernel)
    return made if made is not None and made.level else None


class Scanner:
    """The bounds of rows in the kernel's form. `strip(part)` names the pairs that are left.

    `cut` says what is known of the rows; of its axes the early bound keeps a part of the `first`, an odd number, the next
    one these, the long one all. The rows are in parts that begin at the places `firsts` of their order; `low` as in
    `tagcheck.similar.bounded_search`.

    A short row is X = (m - m0, h_1 .. h_k, r - r0), where m is the mean coordinate, r bounds what is left out, m0 and
    r0 are about their means. So m m' + h h' + r r' = X X' + (m0 m + r0 r) + (m0 m' + r0 r') - m0^2 - r0^2: all numbers
    of the product are small, and what is large is a number for the row and one for the column.
    """

    def __init__(self, loaded: Kernel, cut: Heads, first: int, firsts: np.ndarray, low: float, pool: Executor) -> None:
        self.kernel, self.size, self.step = loaded, len(firsts) - 1, 1
        margin = 4 * cut.defect + SPARE  # without what rounding to steps costs
        rows = _ShortRows(cut, (max(1, int(first * EARLY) // 2 * 2 - 1), first))
        axes = cut.heads[:, 1 : 1 + CLUSTER_AXES]
        self.fields = _bounds(rows, low, margin, pool) | _points(axes, cut.order, firsts, low, margin, pool)

    def strip(self, part: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The rows of `part` and the columns of the pairs that are left, as places in the order, some at a time."""
        for found in self.kernel.strip(self.fields, part):
            i, j = found.T.astype(np.int64)
            yield i, j


def _bounds(rows: _ShortRows, low: float, margin: float, pool: Executor) -> Fields:
    """The rows in steps, left and right, with the numbers beside their products, and the long rows."""
    heads, n = rows.cut.heads, len(rows.cut.heads)
    starts = range(0, n, BLOCK)
    largest, length, side = (max(values) for values in zip(*pool.map(rows.extent, starts)))
    beside = [margin - low - rows.mean**2 - rest**2 for rest in rows.rest]
    left_step, right_step = _steps(largest, length, side, max(map(abs, beside)), rows.width)
    unit = left_step * right_step
    stride = -(-rows.width // (2 * PACKED)) * 2 * PACKED
    left, right = np.zeros((n, stride), np.uint8), np.zeros((n, stride), np.int8)
    left_starts, right_starts = np.empty((n, 2), np.int16), np.empty((n, 2), np.int16)
    middle = min(MIDDLE, -(-(1 + heads.shape[1]) // 16) * 16)
    longs = np.zeros((n, -(-(2 + max(middle, heads.shape[1])) // 16) * 16), np.int16)
    longest = length + left_step / 2 * rows.width**0.5  # of a row on the left, after rounding

    def fill(start: int) -> float:
        part = slice(start, start + BLOCK)
        short, sides = rows.take(start)
        steps = [
            (short / step).round_().clamp_(-most, most)
            for step, most in ((left_step, STEPS_LEFT), (right_step, STEPS_RIGHT))
        ]
        # X Y = left right + (X - left) Y + left (Y - right), of which the last two are within the numbers below.
        off_left = rows.lengths(short - steps[0] * left_step) * length
        off_right = rows.lengths(short - steps[1] * right_step) * longest + torch.tensor(beside, dtype=torch.float64)
        numbers = [np.ceil(((sides + off) / unit).numpy()).astype(np.int64) for off in (off_left, off_right)]
        left[part, : rows.width], right[part, : rows.width] = (steps[0] + STEPS_LEFT).numpy(), steps[1].numpy()
        for bound, own in enumerate(rows.parts):  # the left's offset is taken back
            numbers[1][:, bound] -= STEPS_LEFT * right[part][:, own].sum(axis=1, dtype=np.int64)
        for number in numbers:
            number[:, 1] -= number[:, 0]
        left_starts[part], right_starts[part] = numbers
        return rows.fill_long(part, longs[part], middle)

    worst = max(pool.map(fill, starts))
    # Rounding moved no row by more than `worst`; a product of two rows no longer than 1.01 by at most 2.03 * worst.
    long_low = int(np.floor((low - margin - 2.03 * worst) * LONG**2))
    made: Fields = {"left": left, "right": right, "left_starts": left_starts, "right_starts": right_starts}
    numbers = {"early": (rows.parts[0][-1] - 1) // 2, "pairs": rows.width // 2, "stride": stride // 2, "low": long_low}
    return made | numbers | {"longs": longs, "middle": middle, "width": longs.shape[1]}


def _points(
    points: torch.Tensor, order: torch.Tensor, firsts: np.ndarray, low: float, margin: float, pool: Executor | None
) -> Fields:
    """The `points` (n, k) of the rows in steps, part by part, and how far apart those of a pair can be.

    Two unit rows with a product of `low` are sqrt(2 - 2 low) apart, and not further along fewer axes.
    """
    axes = points.shape[1]
    pairs = -(-axes // 2)
    step = max(1e-6, float(points.abs().max())) / STEPS_RIGHT
    sizes = np.diff(firsts)
    groups = np.concatenate([[0], np.cumsum(-(-sizes // LANES))])
    made, starts = np.zeros((groups[-1], pairs, LANES, 2), np.int8), np.zeros((groups[-1], LANES), np.int16)
    centres = np.zeros((len(sizes), 2 * pairs), np.float32)

    def fill(part: int) -> tuple[float, float]:
        own = points[order[firsts[part] : firsts[part + 1]]] / step
        steps = own.round()
        centres[part, :axes] = own.mean(0)
        some = slice(groups[part], groups[part + 1])
        wide = np.zeros(((groups[part + 1] - groups[part]) * LANES, 2 * pairs), np.int16)
        wide[: len(own), :axes] = steps.numpy()
        wide[len(own) :] = wide[len(own) - 1]
        made[some] = wide.reshape(-1, LANES, pairs, 2).transpose(0, 2, 1, 3)
        starts[some] = (-STEPS_LEFT * wide.sum(axis=1, dtype=np.int64)).astype(np.int16).reshape(-1, LANES)
        return float((own - steps).norm(dim=1).max()), float(steps.norm(dim=1).max())

    off, longest = (max(values) for values in zip(*(pool.map if pool else map)(fill, range(len(sizes)))))
    apart = (2 - 2 * (low - margin)) ** 0.5 + margin
    # A direction of whole steps can be longer by half a step in each axis.
    length = REACH / max(longest, 1) - pairs**0.5
    # Where points hardly differ a step is tiny and the reach huge: along a direction it would leave the kernel's 32 bits.
    reach = min((apart / step + 2 * off) * (1 + 1e-5), FURTHEST)
    arrays: Fields = {"points": made, "point_starts": starts, "centres": centres, "firsts": firsts, "groups": groups}
    counts = {"point_pairs": pairs, "most": int(sizes.max()), "parts": len(sizes)}
    return arrays | counts | {"reach": reach, "length": length}


class _ShortRows:
    """The rows X of `Scanner` for both of its short bounds, a block at a time, in the kernel's order of coordinates:

    mean, the early axes, the length of what they leave out, 0, the other axes, the length of what all leave out, and
    a 0 where their number is odd. `width` of them; `parts` are the places of the early bound's and the other's.
    """

    def __init__(self, cut: Heads, widths: tuple[int, int]) -> None:
        self.cut, self.widths = cut, widths
        sample = cut.heads[:BLOCK]
        self.mean = float(sample[:, 0].mean())
        self.rest = [float(cut.rests(sample[:, : 1 + width]).mean()) for width in widths]
        early = 1 + widths[0]
        self.width = early + 2 + -(-(widths[1] - widths[0] + 1) // 2) * 2
        places = np.arange(self.width)
        self.parts = (places[: early + 2], np.delete(places, [early, early + 1]))

    def take(self, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(X (m, width) float32, what stands beside each of the two products (m, 2) float64) of the rows from `start` on."""
        place = self.cut.order[start : start + BLOCK]
        early, all_ = 1 + self.widths[0], 1 + self.widths[1]
        head, nonzero = self.cut.heads[:, :all_][place], self.cut.nonzero[place]
        made = torch.zeros(len(place), self.width)
        made[:, :early] = head[:, :early]
        made[:, 0] -= self.mean
        made[:, early + 2 : early + 2 + all_ - early] = head[:, early:all_]
        ends = [early, early + 2 + all_ - early]
        for end, rest, width in zip(ends, self.rest, (early, all_)):
            made[:, end] = self.cut.rests(head[:, :width]) - rest
        made *= nonzero[:, None]
        means = self.mean * (made[:, 0].double() + self.mean)
        sides = [means + rest * (made[:, end].double() + rest) for end, rest in zip(ends, self.rest)]
        return made, torch.stack(sides, dim=1)

    def fill_long(self, part: slice, made: np.ndarray, middle: int) -> float:
        """Lay out long rows: some of the coordinates and the length of what these leave out in the first `middle`
        places, the other coordinates, the length of what all leave out. Returns how far rounding moved one at most.
        """
        place = self.cut.order[part]
        head, nonzero = self.cut.heads[place], self.cut.nonzero[place] * LONG
        steps = (head * LONG).round_()
        first = min(middle - 1, head.shape[1])
        made[:, :first], made[:, middle : middle + head.shape[1] - first] = (
            steps[:, :first].numpy(),
            steps[:, first:].numpy(),
        )
        made[:, middle - 1] = (self.cut.rests(head[:, :first]) * nonzero).ceil_().numpy()
        made[:, -1] = (self.cut.rests(head) * nonzero).ceil_().numpy()
        return float((head - steps / LONG).norm(dim=1).max())

    def lengths(self, short: torch.Tensor) -> torch.Tensor:
        """The lengths (m, 2) float64 of rows in the coordinates of either bound."""
        return torch.stack([short[:, part].norm(dim=1) for part in map(torch.from_numpy, self.parts)], dim=1).double()

    def extent(self, start: int) -> tuple[float, float, float]:
        """The largest coordinate, the greatest length and the largest number beside a product, of the rows from `start` on."""
        short, sides = self.take(start)
        return float(short.abs().max()), float(self.lengths(short).max()), float(sides.abs().max())


def _steps(largest: float, length: float, side: float, beside: float, width: int) -> tuple[float, float]:
    """The size of a step on the left and on the right: as small as coordinates up to `largest` in 63 and 127 steps, and
    the whole bound in 16 bits, allow. The other numbers bound what a bound adds up from, as `Scanner` has them.
    """
    largest = max(largest, 1e-3)
    while True:
        left_step, right_step = largest / STEPS_LEFT, largest / STEPS_RIGHT
        off = left_step / 2 * width**0.5
        if (length + off) ** 2 + 2 * side + beside + 2 * off * (length + off) < REACH * left_step * right_step:
            return left_step, right_step
        largest *= 1.05


def _is_right(loaded: Kernel) -> bool:
    """Whether the kernel agrees with numpy on some rows: a compiler's or a processor's fault must not cost a pair."""
    random = np.random.default_rng(0)
    n, early, pairs = 110, 3, 9
    left = random.integers(0, 2 * STEPS_LEFT + 1, size=(n, 4 * PACKED)).astype(np.uint8)
    right = random.integers(-STEPS_RIGHT, STEPS_RIGHT + 1, size=left.shape).astype(np.int8)
    before, after = (random.integers(-(2**15), 2**15, size=(n, 2)).astype(np.int16) for _ in range(2))
    longs = random.integers(-1_000, 1_000, size=(n, 48)).astype(np.int16)
    fields: Fields = {
        "left": left,
        "right": right,
        "left_starts": before,
        "right_starts": after,
        "longs": longs,
        "low": 1_500_000,
    }
    fields |= {"early": early, "pairs": pairs, "stride": left.shape[1] // 2, "middle": 16, "width": longs.shape[1]}
    rows, columns = left.astype(np.int64), right.astype(np.int64)

    def stays(places: list[int], count: int) -> np.ndarray:
        beside = before[:, None, :count].sum(2, dtype=np.int64) + after[None, :, :count].sum(2, dtype=np.int64)
        return np.asarray((rows[:, places] @ columns[:, places].T + beside).astype(np.int16) >= 0)

    main, others = list(range(2 * early)), list(range(2 * early + 2, 2 * pairs))
    long = longs.astype(np.int64)
    but, first = np.delete(long, 15, axis=1), long[:, :16]
    may = np.triu(stays(main + others, 2) & (first @ first.T >= fields["low"]) & (but @ but.T >= fields["low"]), 1)
    spread = torch.from_numpy(random.integers(-STEPS_RIGHT, STEPS_RIGHT + 1, size=(n, 6)).astype(np.float32))
    fields |= _points(spread, torch.arange(n), np.array([0, 33, 34, 70, n]), 0.5, 0.0, None) | {"reach": 150.0}
    near = (torch.cdist(spread, spread) <= 150).numpy()
    # The kernel may leave out what is too far apart, and the others only where its block has one that must stay.
    must = may & near & stays([*main, 2 * early, 2 * early + 1], 1)
    found = np.zeros((n, n), dtype=bool)
    for part in range(fields["parts"]):
        for some in loaded.strip(fields, part):
            found[some[:, 0], some[:, 1]] = True
    return bool(must.any()) and not (found & ~may).any() and not (must & ~found).any()
