"""Bytes -> pictures -> uint8 (3, S, S), as JoyTag was trained on them; what cannot be read says why.

The picture that the network sees: RGB with transparent pixels on white, turned as its EXIF says,
centred on a white square of its longer side (offsets rounded down), bicubic to S x S. `PREPROCESS`
names this method; another picture needs another name. Two short cuts keep it the same picture:

- a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, never below twice S (`draft`);
- the white square is never drawn at full size: only the margin that the filter can see is.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from tagcheck.formats import ImageUnreadable, ImageUnsupported, Limits, open_others, spread, to_eight_bits

PREPROCESS = "white-square-bicubic-1"
WHITE = 255
DRAFT_GAP = 2  # a scaled JPEG keeps at least this many pixels for each one that the network sees
BICUBIC_SUPPORT = 2  # in pixels of the coarser of the two grids, to either side

# Formats in which further frames are later moments; in others (TIFF, ICO, MPO, PSD) they are something else.
ANIMATED_FORMATS = frozenset({"GIF", "PNG", "WEBP", "AVIF", "JXL"})

# EXIF orientation -> (how the stored picture is turned, is its left edge the right or bottom one afterwards, is its top edge).
TURNS: dict[int, tuple[Image.Transpose, bool, bool]] = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, True, False),
    3: (Image.Transpose.ROTATE_180, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, True),
    5: (Image.Transpose.TRANSPOSE, False, False),
    6: (Image.Transpose.ROTATE_270, False, True),
    7: (Image.Transpose.TRANSVERSE, True, True),
    8: (Image.Transpose.ROTATE_90, True, False),
}

# What a damaged file of a format that is known starts with.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"8BPS")


@dataclass(frozen=True)
class Picture:
    """An RGB picture as it is stored, maybe decoded at a fraction of its size, and how to look at it.

    `size` is the true (width, height) as stored; `shrink` the true pixels for one of `image`;
    `orientation` the EXIF value, 1 for upright.
    """

    image: Image.Image
    size: tuple[int, int]
    shrink: int = 1
    orientation: int = 1

    def upright(self) -> Image.Image:
        """The picture as a person sees it."""
        turn = TURNS.get(self.orientation)
        return self.image.transpose(turn[0]) if turn else self.image


class _Timed(io.BytesIO):
    """Bytes that cannot be read after a deadline: Pillow asks for more in pieces, which is where it can be stopped."""

    def __init__(self, data: bytes, check: Callable[[], None]) -> None:
        super().__init__(data)
        self._check = check

    def read(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(size)


def deadline(seconds: float, clock: Callable[[], float] = time.monotonic) -> Callable[[], None]:
    """A check that raises `ImageUnreadable` once `seconds` have passed since now."""
    end = clock() + seconds

    def check() -> None:
        if clock() > end:
            raise ImageUnreadable(f"took longer than {seconds:g} s to decode")

    return check


def open_image(data: bytes, size: int | None = None, limits: Limits = Limits()) -> Image.Image:
    """The (first) picture in `data` as RGB, upright, transparency on white.

    With `size`, a large JPEG comes at a fraction of its size, its longer side at least twice `size`.
    Raises `ImageUnreadable` or `ImageUnsupported`.
    """
    return open_pictures(data, size, replace(limits, frames=1))[0].upright()


def open_pictures(data: bytes, size: int | None = None, limits: Limits = Limits()) -> list[Picture]:
    """The picture in `data`, or up to `limits.frames` of an animation, spread evenly over its frames.

    `size` as in `open_image`. Raises `ImageUnreadable` or `ImageUnsupported`.
    """
    if not data:
        raise ImageUnreadable("the file is empty")
    check = deadline(limits.seconds)
    try:
        return _open(data, size, limits, check)
    except Image.DecompressionBombError as error:
        raise ImageUnreadable(f"too large: {error}") from None
    except MemoryError:
        raise ImageUnreadable("not enough memory to decode it") from None
    except NotImplementedError as error:
        raise ImageUnsupported(f"a variant that Pillow cannot decode: {_words(error)}") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        AttributeError,
        ArithmeticError,
    ) as error:
        # Pillow's plug-ins raise any of these for one damaged file.
        raise ImageUnreadable(f"the file is damaged: {_words(error)}") from None


def _open(data: bytes, size: int | None, limits: Limits, check: Callable[[], None]) -> list[Picture]:
    try:
        image = Image.open(_Timed(data, check))
    except UnidentifiedImageError:
        if data.startswith(SIGNATURES):
            raise ImageUnreadable("the file is damaged: its header cannot be read") from None
        return [Picture(to_rgb(one), one.size) for one in open_others(data, limits, check)]
    with image:
        return [_picture(one, size, limits) for one in _frames(image, limits.frames, check)]


def prepare(picture: Picture | Image.Image, size: int) -> np.ndarray:
    """What the network sees: uint8 (3, `size`, `size`), 0 to 255, with the channels last in memory.

    >>> prepare(Image.new("RGB", (40, 20)), 4).shape
    (3, 4, 4)
    """
    if isinstance(picture, Image.Image):
        picture = Picture(to_rgb(picture), picture.size)
    turn = TURNS.get(picture.orientation)
    # Rounding the offset down on the upright picture rounds it up where that edge is turned to the far side.
    side = max(picture.size)
    spare = [side - length for length in picture.size]
    offsets = [(gap + 1) // 2 if turn and far else gap // 2 for gap, far in zip(spare, turn[1:] if turn else (False, False))]
    square = _square(picture, offsets, side, size)
    return np.asarray(square.transpose(turn[0]) if turn else square).transpose(2, 0, 1)


def prepare_bytes(data: bytes, size: int, limits: Limits = Limits()) -> np.ndarray:
    """A file's bytes -> uint8 (f, 3, `size`, `size`), one for each frame that counts (a still picture: f = 1).

    Raises `ImageUnreadable` or `ImageUnsupported`.
    """
    return batch([prepare(picture, size) for picture in open_pictures(data, size, limits)])


def batch(frames: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 (3, S, S) each -> uint8 (b, 3, S, S), the channels last in memory as `prepare` leaves them."""
    out = np.empty((len(frames), *frames[0].shape[1:], 3), np.uint8)
    for place, frame in zip(out, frames):
        place[:] = frame.transpose(1, 2, 0)
    return out.transpose(0, 3, 1, 2)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as RGB: transparent pixels on white, 16 bits a channel scaled to 8."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(to_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] == 255:
            return image.convert("RGB")
        canvas = Image.new("RGBA", image.size, (WHITE,) * 4)
        return Image.alpha_composite(canvas, image).convert("RGB")
    return image.convert("RGB")


def _frames(image: Image.Image, wanted: int, check: Callable[[], None]) -> Iterator[Image.Image]:
    """The still picture itself, or frames of an animation, one after the other in the same object."""
    count = getattr(image, "n_frames", 1) if image.format in ANIMATED_FORMATS else 1
    places = spread(count, wanted) if wanted > 1 else [0]
    for place in places:
        check()
        if count > 1:
            image.seek(place)
        yield image


def _picture(image: Image.Image, size: int | None, limits: Limits) -> Picture:
    true_size = image.size
    shrink = 1
    if size is not None and image.format in ("JPEG", "MPO"):
        shrink = _draft(image, size)
    limits.check_size(*image.size)
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    image.load()
    rgb = to_rgb(image)
    return Picture(rgb.copy() if rgb is image else rgb, true_size, shrink, orientation)


def _draft(image: Image.Image, size: int) -> int:
    """Set a JPEG up to be decoded at a fraction; returns the whole number that it is divided by."""
    wanted = max(image.size) // (DRAFT_GAP * size)
    if wanted < 2:
        return 1
    width = image.width
    done = image.draft(None, (max(1, image.width // wanted), max(1, image.height // wanted)))
    return round(width / done[1][2]) if done else 1


def _square(picture: Picture, offsets: list[int], side: int, size: int) -> Image.Image:
    """The picture on its white square of `side` true pixels, at `size` x `size`.

    Equal to pasting it on the whole square and resizing that: what is left out are pixels further
    from the picture than the filter reaches.
    """
    if side == size and picture.shrink == 1:
        square = Image.new("RGB", (size, size), (WHITE,) * 3)
        square.paste(picture.image, tuple(offsets))
        return square
    ratio = side / size / picture.shrink  # pixels of `image` for one of the result
    margins, spans, boxes = [], [], []
    for offset, length in zip(offsets, picture.size):
        start, extent = offset / picture.shrink, length / picture.shrink
        rest = (side - offset - length) / picture.shrink
        reach = BICUBIC_SUPPORT * max(ratio, 1.0)
        first = max(0, math.floor((start - reach) / ratio - 0.5))
        last = min(size, math.ceil((start + extent + reach) / ratio + 0.5))
        seen = math.ceil(2 * reach + 2 * ratio) + 1
        before, after = min(math.ceil(start), seen), min(math.ceil(rest), seen)
        margins.append((before, after))
        spans.append((first, last))
        boxes.append((first * ratio - start + before, last * ratio - start + before))
    image = picture.image
    canvas_size = tuple(sum(margin) + length for margin, length in zip(margins, image.size))
    if canvas_size != image.size:
        canvas = Image.new("RGB", canvas_size, (WHITE,) * 3)
        canvas.paste(image, (margins[0][0], margins[1][0]))
        image = canvas
    # One axis after the other, since Pillow rounds in between and picks the order by the canvas' shape; a square goes this way.
    (left, right), (top, bottom) = [(max(low, 0.0), min(high, float(most))) for (low, high), most in zip(boxes, image.size)]
    seen_size = tuple(last - first for first, last in spans)
    resized = image.resize((seen_size[0], image.height), Image.Resampling.BICUBIC, box=(left, 0, right, image.height))
    resized = resized.resize(seen_size, Image.Resampling.BICUBIC, box=(0, top, seen_size[0], bottom))
    if seen_size == (size, size):
        return resized
    square = Image.new("RGB", (size, size), (WHITE,) * 3)
    square.paste(resized, (spans[0][0], spans[1][0]))
    return square


def _words(error: BaseException) -> str:
    """One short line of what a library said."""
    text = " ".join(str(error).split())[:160]
    return text or type(error).__name__
