"""The compiled kernel for the bounds: made from native.c by the system's C compiler when it is first wanted.

Where there is no compiler, no room for the result, or a processor that the kernel does not know,
`kernel` gives None and the search goes on in torch, slower and with the same pairs. The library is
kept in the user's cache under a name that tells the source and the machine, so that it is compiled
once and never taken for another.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import torch

from tagcheck.tiles import BLOCK

SOURCE = Path(__file__).with_name("native.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC")
COMPILING_SECONDS = 60
LEVELS = (2, 1)  # AVX-512 with BW, AVX2
LANES = 32       # columns of a group
ROWS = 4         # rows of a block
STRIP = 256      # rows of a call, whole blocks: their steps fit the innermost cache
ROOM = 16_384    # pairs that a call may find before it asks for room; STRIP * LANES at least
STEPS_LEFT, STEPS_RIGHT = 63, 127  # most steps of a coordinate: the kernel's products of two pairs have to fit 16 bits
REACH = 32_000   # units that a bound may be from zero, to fit them as well, with what rounding adds
LONG = 2**14     # steps to 1 of the long bound's coordinates
SPARE = 2.0**-15  # for what the margins' own numbers are rounded by

Rests = Callable[[torch.Tensor], torch.Tensor]


class _Search(ctypes.Structure):
    """`struct search` of native.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("left", "right", "left_starts", "right_starts", "longs")),
        *((name, ctypes.c_int32) for name in ("early", "pairs", "width", "low")),
        *((name, ctypes.c_int64) for name in ("row", "end", "group", "groups", "count", "room")),
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

    def strip(
        self, left: np.ndarray, left_starts: np.ndarray, right: np.ndarray, right_starts: np.ndarray, longs: np.ndarray,
        early: int, low: int, start: int, end: int,
    ) -> Iterator[np.ndarray]:
        """The pairs (m, 2) int32 of a row from `start` to `end` and a later column that stay, some at a time.

        `left` uint8 (b, p, 4, 2, 2), `left_starts` int16 (4 b, 2), `right` int8 (g, p, 32, 2), `right_starts`
        int16 (g, 2, 32), `longs` int16 (n, w), as native.c says; all contiguous. `start` is a multiple of 4.
        """
        found = np.empty((ROOM, 2), dtype=np.int32)
        search = _Search(
            *(array.ctypes.data for array in (left, right, left_starts, right_starts, longs)),
            early, left.shape[1], longs.shape[1], low,
            start, -(-end // ROWS) * ROWS, start // LANES, len(right), len(longs), ROOM, found.ctypes.data,
        )
        while search.group < search.groups:
            yield found[:self._library.tagcheck_search(self.level, search)]


@cache
def kernel() -> Kernel | None:
    """The kernel, compiled if need be; None where this machine cannot have it."""
    path = _library()
    if path is None:
        return None
    try:
        loaded = Kernel(path)
    except (OSError, AttributeError):  # damaged, or no such library: out of the way, so that the next run makes it anew
        with suppress(OSError):
            path.unlink()
        return None
    return loaded if loaded.level else None


class Scanner:
    """The bounds of rows in the kernel's form. `strip(start)` names the pairs that are left.

    `heads` (n, 1 + w) float32 with the mean coordinate first; `rests` gives upper bounds of what such heads leave
    out; `widths` the axes of the early bound, an odd number, and of the next; the long one has all w. `order` the
    order of the rows; `nonzero` which rows have a direction; `low` and `margin` as in `tagcheck.pruned`, the margin
    without what rounding to steps costs.

    A short row is X = (m - m0, h_1 .. h_k, r - r0), where m is the mean coordinate, r bounds what is left out, m0 and
    r0 are about their means. So m m' + h h' + r r' = X X' + (m0 m + r0 r) + (m0 m' + r0 r') - m0^2 - r0^2: all numbers
    of the product are small, and what is large is a number for the row and one for the column.
    """

    step = STRIP

    def __init__(
        self, loaded: Kernel, heads: torch.Tensor, rests: Rests, widths: tuple[int, int], nonzero: torch.Tensor,
        order: torch.Tensor, low: float, margin: float, pool: Executor,
    ) -> None:
        self.kernel, self.n = loaded, len(heads)
        self.early = (1 + widths[0]) // 2
        rows = _ShortRows(heads, rests, widths, nonzero, order)
        starts = range(0, self.n, BLOCK)
        largest, length, side = (max(values) for values in zip(*pool.map(rows.extent, starts)))
        beside = [margin - low - rows.mean**2 - rest**2 for rest in rows.rest]
        left_step, right_step = _steps(largest, length, side, max(map(abs, beside)), rows.width)
        pairs, groups = rows.width // 2, -(-self.n // LANES)
        blocks = -(-self.n // ROWS)
        self.left, self.left_starts = np.zeros((blocks, pairs, ROWS, 2, 2), np.uint8), np.zeros((blocks * ROWS, 2), np.int16)
        self.right, self.right_starts = np.zeros((groups, pairs, LANES, 2), np.int8), np.zeros((groups, 2, LANES), np.int16)
        self.longs = np.zeros((self.n, -(-(heads.shape[1] + 1) // 16) * 16), np.int16)
        longest = length + left_step / 2 * rows.width**0.5  # of a row on the left, after rounding

        def fill(start: int) -> float:
            part = slice(start, start + BLOCK)
            short, sides = rows.take(start)
            left = (short / left_step).round_().clamp_(-STEPS_LEFT, STEPS_LEFT)
            right = (short / right_step).round_().clamp_(-STEPS_RIGHT, STEPS_RIGHT)
            # X Y = left right + (X - left) Y + left (Y - right), of which the last two are within the numbers below.
            off_left = rows.lengths(short - left * left_step) * length
            off_right = rows.lengths(short - right * right_step) * longest + torch.tensor(beside, dtype=torch.float64)
            unit = left_step * right_step
            numbers = [np.ceil(((sides + off) / unit).numpy()).astype(np.int64) for off in (off_left, off_right)]
            steps = right.numpy().astype(np.int64)
            for bound, own in enumerate(rows.parts):  # the left's offset is taken back
                numbers[1][:, bound] -= (STEPS_LEFT * steps[:, own]).sum(axis=1)
            for number in numbers:
                number[:, 1] -= number[:, 0]
            place = np.arange(start, start + len(left))
            made = (left + STEPS_LEFT).numpy().astype(np.uint8).reshape(len(left), pairs, 1, 2)
            self.left[place // ROWS, :, place % ROWS], self.left_starts[place] = made, numbers[0]
            group, lane = place // LANES, place % LANES
            self.right[group, :, lane, :] = steps.reshape(len(right), pairs, 2)
            self.right_starts[group, :, lane] = numbers[1]
            return self._fill_long(part, heads[order[part]], rests, nonzero[order[part]])

        worst = max(pool.map(fill, starts))
        # Rounding moved no row by more than `worst`; a product of two rows no longer than 1.01 by at most 2.03 * worst.
        self.low = int(np.floor((low - margin - 2.03 * worst) * LONG**2))

    def strip(self, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The rows from `start` on and the columns of the pairs that are left, as places in the order, some at a time."""
        end = min(start + STRIP, self.n)
        for found in self.kernel.strip(
            self.left, self.left_starts, self.right, self.right_starts, self.longs, self.early, self.low, start, end
        ):
            i, j = torch.from_numpy(found.T.astype(np.int64))
            yield i, j

    def _fill_long(self, part: slice, head: torch.Tensor, rests: Rests, nonzero: torch.Tensor) -> float:
        """Lay out the long rows; returns how far rounding moved one at most."""
        steps = (head * LONG).round_()
        self.longs[part, :head.shape[1]] = steps.numpy()
        self.longs[part, head.shape[1]] = (rests(head) * nonzero * LONG).ceil_().numpy()
        return float((head - steps / LONG).norm(dim=1).max())


class _ShortRows:
    """The rows X of `Scanner` for both of its short bounds, a block at a time, in the kernel's order of coordinates:

    mean, the early axes, the length of what they leave out, 0, the other axes, the length of what all leave out, and
    a 0 where their number is odd. `width` of them; `parts` are the places of the early bound's and the other's.
    """

    def __init__(
        self, heads: torch.Tensor, rests: Rests, widths: tuple[int, int], nonzero: torch.Tensor, order: torch.Tensor
    ) -> None:
        self.heads, self.rests, self.widths, self.nonzero, self.order = heads, rests, widths, nonzero, order
        sample = heads[:BLOCK]
        self.mean = float(sample[:, 0].mean())
        self.rest = [float(rests(sample[:, :1 + width]).mean()) for width in widths]
        early = 1 + widths[0]
        self.width = early + 2 + -(-(widths[1] - widths[0] + 1) // 2) * 2
        places = np.arange(self.width)
        self.parts = (places[:early + 2], np.delete(places, [early, early + 1]))

    def take(self, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(X (m, width) float32, what stands beside each of the two products (m, 2) float64) of the rows from `start` on."""
        place = self.order[start:start + BLOCK]
        head, nonzero = self.heads[place], self.nonzero[place]
        early, all_ = 1 + self.widths[0], 1 + self.widths[1]
        made = torch.zeros(len(place), self.width)
        made[:, :early] = head[:, :early]
        made[:, 0] -= self.mean
        made[:, early + 2:early + 2 + all_ - early] = head[:, early:all_]
        ends = [early, early + 2 + all_ - early]
        for end, rest, width in zip(ends, self.rest, (early, all_)):
            made[:, end] = self.rests(head[:, :width]) - rest
        made *= nonzero[:, None]
        means = self.mean * (made[:, 0].double() + self.mean)
        sides = [means + rest * (made[:, end].double() + rest) for end, rest in zip(ends, self.rest)]
        return made, torch.stack(sides, dim=1)

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


def _library() -> Path | None:
    """The compiled library's path, None where there is no compiler or it fails."""
    source = SOURCE.read_bytes()
    machine = "-".join((platform.system(), platform.machine(), *FLAGS))
    name = f"bound-{hashlib.sha256(source + machine.encode()).hexdigest()[:16]}{'.dll' if os.name == 'nt' else '.so'}"
    path = _cache() / name
    if path.exists():
        return path
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=path.suffix, dir=path.parent)
    except OSError:
        return None
    os.close(handle)
    try:
        command = [compiler, *FLAGS, "-o", temporary, str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILING_SECONDS)
        os.replace(temporary, path)
    except (subprocess.SubprocessError, OSError):
        return None
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _cache() -> Path:
    """The user's cache folder."""
    if os.name == "nt":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "tagcheck"


def _is_right(loaded: Kernel) -> bool:
    """Whether the kernel agrees with numpy on some rows: a compiler's or a processor's fault must not cost a pair."""
    random = np.random.default_rng(0)
    n, early, pairs, low = 76, 3, 9, 1_500_000
    steps = random.integers(0, 2 * STEPS_LEFT + 1, size=(n, pairs, 2)).astype(np.uint8)
    right = np.zeros((-(-n // LANES), pairs, LANES, 2), np.int8)
    right[:] = random.integers(-STEPS_RIGHT, STEPS_RIGHT + 1, size=right.shape)
    starts = [random.integers(-(2**15), 2**15, size=shape).astype(np.int16) for shape in ((n, 2), (len(right), 2, LANES))]
    longs = random.integers(-1_000, 1_000, size=(n, 48)).astype(np.int16)
    columns = right.transpose(0, 2, 1, 3).reshape(-1, 2 * pairs)[:n].astype(np.int64)
    column_starts = starts[1].transpose(0, 2, 1).reshape(-1, 2)[:n].astype(np.int64)
    rows, row_starts = steps.reshape(n, -1).astype(np.int64), starts[0].astype(np.int64)

    def stays(places: list[int], bounds: int) -> np.ndarray:
        beside = row_starts[:, None, :bounds].sum(2) + column_starts[None, :, :bounds].sum(2)
        return (rows[:, places] @ columns[:, places].T + beside).astype(np.int16) >= 0

    main, others = list(range(2 * early)), list(range(2 * early + 2, 2 * pairs))
    may = np.triu(stays(main + others, 2) & (longs.astype(np.int64) @ longs.astype(np.int64).T >= low), 1)
    must = may & stays(main + [2 * early, 2 * early + 1], 1)  # the others only where the kernel's block has one that must
    blocks = steps.reshape(n // ROWS, ROWS, pairs, 1, 2).transpose(0, 2, 1, 3, 4)
    left = np.ascontiguousarray(np.broadcast_to(blocks, (n // ROWS, pairs, ROWS, 2, 2)))
    for start, end in ((0, n), (36, 52)):
        found = np.zeros((n, n), dtype=bool)
        for part in loaded.strip(left, starts[0], right, starts[1], longs, early, low, start, end):
            found[part[:, 0], part[:, 1]] = True
        taken = (np.arange(n) >= start) & (np.arange(n) < end)
        if (found & ~(may & taken[:, None])).any() or (must & taken[:, None] & ~found).any():
            return False
    return bool(must.any())
