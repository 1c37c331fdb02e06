"""The compiled kernel for the first bound: made from native.c by the system's C compiler when it is first wanted.

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
from concurrent.futures import Executor
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import torch

from tagcheck.tiles import BLOCK, TILE, UNIT_ROUNDOFF

SOURCE = Path(__file__).with_name("native.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC")
COMPILING_SECONDS = 60
SMALLEST = 0.02  # of the largest coordinate, so that sums of steps stay within 32 bits
NEVER = -(2**30)  # the constant of a column that does not exist
LANES = 16
STEPS = {2: 127, 1: 63}  # most steps of a coordinate on the left, by level: AVX2's products need one bit to spare


class Kernel:
    """The loaded library. `level` 2 for AVX-512 with VNNI, 1 for AVX2."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self.level = int(self._library.tagcheck_level())
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self._library.tagcheck_scan.restype = None
        self._library.tagcheck_scan.argtypes = [
            number, pointer, pointer, pointer, pointer, pointer, number, number, number, number, pointer, pointer,
        ]

    def scan(
        self, left: np.ndarray, left_ends: np.ndarray, right: np.ndarray, right_ends: np.ndarray, constants: np.ndarray, diagonal: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rows, columns) of a tile that have a pair whose bound is not negative, as places in the tile.

        `left` uint8 (r, w), `left_ends` float32 (r, 2), `right` int8 (g, w / 4, 16, 4), `right_ends`
        float32 (g, 2, 16), `constants` int32 (g, 16), as native.c says; all contiguous, g even.
        """
        rows, columns = np.zeros(len(left), dtype=np.uint8), np.zeros(len(right), dtype=np.uint16)
        places = (array.ctypes.data for array in (left, left_ends, right, right_ends, constants))
        self._library.tagcheck_scan(
            self.level, *places, left.shape[1], len(left), len(right), diagonal, rows.ctypes.data, columns.ctypes.data
        )
        bits = np.unpackbits(columns.astype("<u2").view(np.uint8), bitorder="little")
        return np.flatnonzero(rows), np.flatnonzero(bits)


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
    return loaded if loaded.level in STEPS and _is_right(loaded) else None


class Scanner:
    """The first bound of rows in the kernel's form. Called with two tiles' starts, it names the rows and columns left.

    `heads` (n, 1 + w) float32 with the mean coordinate first, w a multiple of 4; `rest` (n,) float32
    upper bounds of what they leave out; `order` the order of the rows; `low` and `margin` as in
    `tagcheck.pruned`, the margin without what rounding to steps costs.
    """

    def __init__(
        self, loaded: Kernel, heads: torch.Tensor, rest: torch.Tensor, order: torch.Tensor, low: float, margin: float, pool: Executor
    ) -> None:
        n, width = heads.shape[0], heads.shape[1] - 1
        self.kernel, self.n = loaded, n
        steps = STEPS[loaded.level]
        largest = max(SMALLEST, *pool.map(lambda block: float(block[:, 1:].abs().max()), heads.split(BLOCK)))
        self.scale = largest / steps * (largest / 127)
        groups = 2 * -(-n // (2 * LANES))
        self.left, self.left_ends = np.empty((n, width), np.uint8), np.empty((n, 2), np.float32)
        self.right = np.zeros((groups, width // 4, LANES, 4), np.int8)
        self.right_ends = np.zeros((groups, 2, LANES), np.float32)
        self.constants = np.full((groups, LANES), NEVER, np.int32)

        def fill(start: int) -> tuple[float, float]:
            place = order[start:start + BLOCK]
            head = heads[place]
            coordinates = head[:, 1:]
            left = (coordinates * (steps / largest)).round_().clamp_(-steps, steps)
            right = (coordinates * (127 / largest)).round_().clamp_(-127, 127)
            self.left[start:start + BLOCK] = (left + (steps + 1)).numpy().astype(np.uint8)
            self.left_ends[start:start + BLOCK] = torch.stack([head[:, 0], rest[place]], dim=1).numpy()
            self._fill_right(start, right.numpy().astype(np.int8), self.left_ends[start:start + BLOCK], steps + 1)
            return (
                float((coordinates - left * (largest / steps)).norm(dim=1).max()),
                float((coordinates - right * (largest / 127)).norm(dim=1).max()),
            )

        worst_left, worst_right = (max(worst) for worst in zip(*pool.map(fill, range(0, n, BLOCK))))
        # Rounding moved the left row by at most worst_left, the right one by worst_right, neither longer than
        # 1.01 before. What the kernel adds up in float32, in three roundings, is nowhere beyond `most`.
        most = 2 * (steps + 1) * 127 * width * self.scale + 4
        margin += 1.01 * worst_left + (1.01 + worst_left) * worst_right + 8 * UNIT_ROUNDOFF * most
        self.constants[self.constants > NEVER] += int(np.ceil((margin - low) / self.scale))

    def __call__(self, start: int, other: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows and the columns of two tiles that have a pair left, as places in their tiles."""
        groups = slice(other // LANES, min(-(-(other + TILE) // LANES), len(self.right)))
        rows = slice(start, start + TILE)
        found = self.kernel.scan(
            self.left[rows], self.left_ends[rows], self.right[groups], self.right_ends[groups], self.constants[groups], start == other
        )
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    def _fill_right(self, start: int, steps: np.ndarray, ends: np.ndarray, offset: int) -> None:
        """Lay `steps` (m, w) out in groups of columns, with the constant that takes the left's offset back."""
        column = np.arange(start, start + len(steps))
        group, lane = column // LANES, column % LANES
        self.right[group, :, lane, :] = steps.reshape(len(steps), -1, 4)
        self.right_ends[group, :, lane] = ends / np.float32(self.scale)
        self.constants[group, lane] = -offset * steps.sum(axis=1, dtype=np.int64)


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
        subprocess.run([compiler, *FLAGS, "-o", temporary, str(SOURCE)], check=True, capture_output=True, timeout=COMPILING_SECONDS)
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
    """Whether the kernel agrees with numpy on a small tile: a compiler's or a processor's fault must not cost a pair."""
    random = np.random.default_rng(0)
    steps = STEPS[loaded.level]
    left = random.integers(0, 2 * steps + 1, size=(13, 32)).astype(np.uint8)
    right = random.integers(-127, 128, size=(4, 8, LANES, 4)).astype(np.int8)
    left_ends, right_ends = random.normal(size=(13, 2)).astype(np.float32), random.normal(size=(4, 2, LANES)).astype(np.float32) * 1e5
    constants = random.integers(-10**5, 10**5, size=(4, LANES)).astype(np.int32)
    columns = right.transpose(0, 2, 1, 3).reshape(4 * LANES, 32)
    product = left.astype(np.float64) @ columns.T.astype(np.float64) + constants.reshape(-1)
    product += left_ends.astype(np.float64) @ right_ends.astype(np.float64).transpose(1, 0, 2).reshape(2, -1)
    for diagonal in (False, True):
        seen = np.triu(product >= 0, 1) if diagonal else product >= 0
        rows, found = loaded.scan(left, left_ends, right, right_ends, constants, diagonal)
        if rows.tolist() != np.flatnonzero(seen.any(axis=1)).tolist() or found.tolist() != np.flatnonzero(seen.any(axis=0)).tolist():
            return False
    return True
