"""Pillow's way to resize, to the bit and in less than half the time: compiled from resampling.c when first wanted.

Where it cannot be compiled, or gives other pixels than the Pillow that is installed, Pillow stands in.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from tagcheck import c_library

SOURCE = Path(__file__).with_name("resampling.c")
# In the order of resampling.c.
FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Axis:
    """How a picture is resized along one axis: its `length` in pixels, how many of the background are `before` and `after` it, the
    part of them all from `low` to `high`, which is maybe not a whole number of pixels, and the `count` that it becomes."""

    length: int
    before: int
    after: int
    low: float
    high: float
    count: int

    @property
    def whole(self) -> int:
        """Pixels with the background."""
        return self.before + self.length + self.after


Resize = Callable[[np.ndarray, Sequence[Axis], Sequence[int], Image.Resampling, np.ndarray], None]


def resize(
    picture: np.ndarray, axes: Sequence[Axis], background: Sequence[int], filter: Image.Resampling, out: np.ndarray
) -> None:
    """Put a picture, uint8 (h, w, 3) and contiguous, resized across and then down (`axes`: of w, of h), into `out`, uint8 of their
    counts (down, across, 3), whose rows may lie apart. `filter` is one of `FILTERS`, and everything is rounded after each axis.
    """
    (kernel() or by_pillow)(picture, axes, background, filter, out)


def by_pillow(
    picture: np.ndarray, axes: Sequence[Axis], background: Sequence[int], filter: Image.Resampling, out: np.ndarray
) -> None:
    """`resize` by Pillow, one axis after the other, since it picks the order by the canvas' shape."""
    across, down = axes
    image = Image.fromarray(picture)
    if (across.whole, down.whole) != image.size:
        canvas = Image.new("RGB", (across.whole, down.whole), tuple(background))
        canvas.paste(image, (across.before, down.before))
        image = canvas
    image = image.resize((across.count, image.height), filter, box=(across.low, 0, across.high, image.height))
    out[:] = image.resize((across.count, down.count), filter, box=(0, down.low, across.count, down.high))


class _Axis(ctypes.Structure):
    """`struct axis` of resampling.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("before", "length", "whole", "count")),
        *((name, ctypes.c_float) for name in ("low", "high")),
    )


@cache
def kernel() -> Resize | None:
    """The kernel, compiled if need be; None where this machine cannot have it."""
    made = c_library.loaded(SOURCE, "resampling", _loaded)
    return made if made is not None and _is_right(made) else None


def _loaded(path: Path) -> Resize:
    """Raises OSError or AttributeError for what is no such library."""
    call = ctypes.CDLL(str(path)).tagcheck_resize
    at = ctypes.c_void_p
    call.argtypes = [at, ctypes.POINTER(_Axis), ctypes.c_int, ctypes.c_char_p, at, ctypes.c_int64]

    def by_kernel(
        picture: np.ndarray, axes: Sequence[Axis], background: Sequence[int], filter: Image.Resampling, out: np.ndarray
    ) -> None:
        both = (_Axis * 2)(*(_Axis(one.before, one.length, one.whole, one.count, one.low, one.high) for one in axes))
        place = FILTERS.index(filter)
        if not call(picture.ctypes.data, both, place, bytes(background), out.ctypes.data, out.strides[0]):
            raise MemoryError

    return by_kernel


def _is_right(made: Resize) -> bool:
    """Whether it gives Pillow's pixels, of a picture in some background: a compiler's or a processor's fault must change no picture."""
    # Black and white without an order, by bits of a product: numpy.random takes as long to load as all of this.
    noise = np.arange(45 * 70 * 3, dtype=np.uint32) * np.uint32(2654435761)
    picture = (noise >> 16 & 1).astype(np.uint8).reshape(45, 70, 3) * 255
    background = (255, 128, 3)
    for axes in (
        (Axis(70, 9, 3, 2.25, 81.5, 21), Axis(45, 0, 30, 0.0, 75.0, 19)),
        (Axis(70, 0, 0, 0, 70, 99), Axis(45, 0, 0, 3, 40, 50)),
    ):
        for filter in FILTERS:
            ours, theirs = np.zeros((2, axes[1].count, axes[0].count, 3), np.uint8)
            made(picture, axes, background, filter, ours)
            by_pillow(picture, axes, background, filter, theirs)
            if not np.array_equal(ours, theirs):
                return False
    return True
