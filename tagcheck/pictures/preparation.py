"""Bytes -> pictures -> uint8 (3, S, S), as a network was trained on them; what cannot be read says why.

The picture that JoyTag sees: RGB with transparent pixels on white, turned as its EXIF says, centred on a white square
of its longer side (offsets rounded down), bicubic to S x S. A `Recipe` says what is different for another network, and
its `id` names the method; another picture needs another name. Two short cuts keep it the same picture:

- a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, never below twice S (`draft`);
- the white square is never drawn at full size: only the margin that the filter can see is.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features

from tagcheck.errors import short
from tagcheck.pictures import repairs
from tagcheck.pictures.file_formats import (
    ImagePassing,
    ImageUnreadable,
    ImageUnsupported,
    Limits,
    kind_of,
    open_others,
    spread,
    to_eight_bits,
)
from tagcheck.pictures.resampling import Axis, resize
from tagcheck.pictures.thumbnails import picture_thumbnail

METHOD = 1  # of this module; another one where the same recipe gives another picture
REPAIRS = 2  # of files that are damaged beside their pixels: with more of them, unreadable files are tried again
WHITE = (255, 255, 255)
FITS = {"pad": "square", "stretch": "stretched"}
# Name -> Pillow's filter, and how far it reaches to either side, in pixels of the coarser of the two grids.
FILTERS = {
    "box": (Image.Resampling.BOX, 0.5),
    "bilinear": (Image.Resampling.BILINEAR, 1.0),
    "bicubic": (Image.Resampling.BICUBIC, 2.0),
    "lanczos": (Image.Resampling.LANCZOS, 3.0),
}
SHOWN_QUALITY = 82  # of the WebP that a browser gets
DRAFT_GAP = 2  # a scaled JPEG keeps at least this many pixels for each one that the network sees

# Pillow's formats that are opened, whatever a file's name says. Others start programs (EPS), or nobody keeps pictures in them.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PSD", "ICO", "JPEG2000", "PPM", "QOI", "TGA") + (
    ("AVIF",) if features.check("avif") else ()
)
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

LYING = frozenset({5, 6, 7, 8})  # orientations that make the width the height

# What a damaged file of a format that is known starts with.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"8BPS")

# What Pillow's plug-ins raise for one damaged file.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
)


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes a network's input of `size` x `size`.

    `fit`: "pad" on a square of its longer side, or "stretch". `background` (red, green, blue) is that
    square's colour and what stands behind transparent pixels. `filter`: one of `FILTERS`.

    >>> Recipe(448).id, Recipe(224, "stretch", (128, 128, 128), "lanczos").id
    ('white-square-bicubic-1-448', '808080-stretched-lanczos-1-224')
    """

    size: int
    fit: str = "pad"
    background: tuple[int, int, int] = WHITE
    filter: str = "bicubic"

    def __post_init__(self) -> None:
        if self.size < 1 or self.fit not in FITS or self.filter not in FILTERS:
            raise ValueError(f"no such recipe: {self}")

    @property
    def id(self) -> str:
        """Names the method and everything that changes the picture."""
        colour = "white" if self.background == WHITE else bytes(self.background).hex()
        return f"{colour}-{FITS[self.fit]}-{self.filter}-{METHOD}-{self.size}"

    @staticmethod
    def of(recipe: Recipe | int) -> Recipe:
        """A number alone is the size of JoyTag's recipe."""
        return Recipe(recipe) if isinstance(recipe, int) else recipe


@dataclass(frozen=True)
class Picture:
    """A picture as it is stored, `rgb` uint8 (height, width, 3), maybe decoded at a fraction of its size, and how to look at it.

    `size` is the true (width, height) as stored; `shrink` the true pixels for one of `rgb`;
    `orientation` the EXIF value, 1 for upright; `damaged` what is wrong with the file beside these pixels; `pixels` their
    digest (`pixel_digest`), None of a frame of an animation.
    """

    rgb: np.ndarray
    size: tuple[int, int]
    shrink: int = 1
    orientation: int = 1
    damaged: str | None = None
    pixels: str | None = None


class _Timed(io.BytesIO):
    """Bytes that cannot be read after a deadline: Pillow asks for more in pieces, which is where it can be stopped."""

    def __init__(self, data: bytes, check: Callable[[], None]) -> None:
        super().__init__(data)
        self._check = check

    def read(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(size)


def deadline(seconds: float) -> Callable[[], None]:
    """A check that raises `ImageUnreadable` once `seconds` have passed since now."""
    end = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > end:
            raise ImagePassing(f"took longer than {seconds:g} s to decode")

    return check


def open_pictures(data: bytes, recipe: Recipe, limits: Limits = Limits()) -> list[Picture]:
    """The picture in `data`, or up to `limits.frames` of an animation, spread evenly over its frames.

    A large JPEG comes at a fraction of its size, at least twice what the recipe makes of it.
    Raises `ImageUnreadable` or `ImageUnsupported`.
    """
    try:
        with _explained(data, limits) as check:
            found = _open(data, recipe, limits, check)
            return [replace(one, damaged=one.damaged or repairs.noticed(data)) for one in found]
    except ImagePassing:
        raise
    except ImageUnreadable:
        repaired = _repaired(data, recipe, limits)
        if repaired is None:
            raise
        return repaired


def _repaired(data: bytes, recipe: Recipe, limits: Limits) -> list[Picture] | None:
    """The pictures of a file that is damaged beside its pixels, or the whole frames of an animation; None for any other."""
    repair = repairs.repair(data)
    if repair is None:
        return None
    try:
        with _explained(repair.data, limits) as check:
            found = _open(repair.data, recipe, limits, check)
            twin = _open(repair.twin, recipe, limits, check) if repair.twin else found
    except ImageUnreadable:
        return None
    if not all(np.array_equal(one.rgb, other.rgb) for one, other in zip(found, twin)):
        return None
    return [replace(one, damaged=repair.reason) for one in found]


def shown(data: bytes, side: int, limits: Limits) -> tuple[bytes, tuple[int, int]]:
    """The (first) picture in `data` as WebP, which any browser shows: upright, transparency kept, at most `side` pixels long; and
    the file's own (width, height) as it is stored. Raises `ImageUnreadable` or `ImageUnsupported`.
    """
    try:
        return _shown(data, side, limits)
    except ImagePassing:
        raise
    except ImageUnreadable:
        repair = repairs.repair(data)
        if repair is None:
            raise
        return _shown(repair.data, side, limits)


def _shown(data: bytes, side: int, limits: Limits) -> tuple[bytes, tuple[int, int]]:
    out = io.BytesIO()
    with _explained(data, limits) as check:
        image = _known(data, check) or open_others(data, replace(limits, frames=1), check)[0]
        with image:
            size = image.size
            if image.format in ("JPEG", "MPO"):
                image.draft("RGB", (2 * side, 2 * side))
            limits.check_size(*image.size)
            image.load()
            turn = TURNS.get(_orientation(image))
            picture = image.transpose(turn[0]) if turn else image
            picture = picture.convert("RGBA") if has_alpha(picture) else to_rgb(picture)
            scale = min(1.0, side / max(picture.size))
            fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            if fitted != picture.size:
                picture = picture.resize(fitted, Image.Resampling.LANCZOS, reducing_gap=2.0)
    picture.save(out, "WEBP", quality=SHOWN_QUALITY, method=2)
    return out.getvalue(), size


@contextmanager
def _explained(data: bytes, limits: Limits) -> Iterator[Callable[[], None]]:
    """A check of the time, and whatever is raised inside as `ImageUnreadable` or `ImageUnsupported`."""
    if not data:
        raise ImageUnreadable("the file is empty")
    try:
        yield deadline(limits.seconds)
    except Image.DecompressionBombError as error:
        raise ImageUnreadable(f"too large: {error}") from None
    except MemoryError:
        raise ImagePassing("not enough memory to decode it") from None
    except NotImplementedError as error:
        raise ImageUnsupported(f"a variant that Pillow cannot decode: {short(error)}") from None
    except DAMAGE as error:
        raise ImageUnreadable(f"the file is damaged: {short(error)}") from None


def _open(data: bytes, recipe: Recipe, limits: Limits, check: Callable[[], None]) -> list[Picture]:
    image = _known(data, check)
    if image is None:
        others = open_others(data, limits, check)
        still = len(others) == 1 and kind_of(data) != "video"
        found = [(one, np.asarray(to_rgb(one, recipe.background))) for one in others]
        return [Picture(rgb, one.size, pixels=pixel_digest(one, rgb) if still else None) for one, rgb in found]
    with image:
        animated = image.format in ANIMATED_FORMATS
        try:
            return [_picture(one, recipe, limits) for one in _frames(image, limits.frames, check)]
        except (ImageUnreadable, ImageUnsupported, MemoryError, Image.DecompressionBombError):
            raise
        except DAMAGE as error:
            if not animated:
                raise
            try:
                return _good_frames(data, recipe, limits, check)
            except DAMAGE:
                raise error from None


def _good_frames(data: bytes, recipe: Recipe, limits: Limits, check: Callable[[], None]) -> list[Picture]:
    """Frames of an animation that was cut off, from those that are whole. Raises what the first frame raises."""
    count = 0
    with Image.open(_Timed(data, check)) as image:
        try:
            while True:
                check()
                image.seek(count)
                image.load()
                count += 1
        except ImagePassing:
            raise
        except DAMAGE:
            if count < 2:  # a still picture, or an animation without one whole later frame
                raise
    with Image.open(_Timed(data, check)) as image:
        found = []
        for place in spread(count, limits.frames) if limits.frames > 1 else [0]:
            check()
            image.seek(place)
            found.append(replace(_picture(image, recipe, limits, moves=True), damaged=repairs.CUT))
        return found


def _known(data: bytes, check: Callable[[], None]) -> Image.Image | None:
    """A file of one of `FORMATS`, opened and not yet decoded; None for another kind."""
    try:
        return Image.open(_Timed(data, check), formats=FORMATS)
    except UnidentifiedImageError:
        if data.startswith(SIGNATURES) or data[:4] + data[8:12] == b"RIFFWEBP":
            raise ImageUnreadable("the file is damaged: its header cannot be read") from None
        return None


def prepare(picture: Picture | Image.Image, recipe: Recipe | int) -> np.ndarray:
    """What the network sees: uint8 (3, S, S), 0 to 255, with the channels last in memory.

    >>> prepare(Image.new("RGB", (40, 20)), 4).shape
    (3, 4, 4)
    """
    recipe = Recipe.of(recipe)
    if isinstance(picture, Image.Image):
        picture = Picture(np.asarray(to_rgb(picture, recipe.background)), picture.size)
    turn = TURNS.get(picture.orientation)
    sides = (max(picture.size),) * 2 if recipe.fit == "pad" else picture.size
    # Rounding the offset down on the upright picture rounds it up where that edge is turned to the far side.
    spare = [side - length for side, length in zip(sides, picture.size)]
    far = turn[1:] if turn else (False, False)
    offsets = [(gap + turned) // 2 for gap, turned in zip(spare, far)]
    square = _square(picture, offsets, sides, recipe)
    upright = np.asarray(Image.fromarray(square).transpose(turn[0])) if turn else square
    return upright.transpose(2, 0, 1)


class Decoded(NamedTuple):
    """A file's `frames` uint8 (f, 3, S, S), one for each that counts (a still picture: f = 1), its (width, height) upright, what is
    wrong with it beside its pixels, the digest of these (`pixel_digest`), and the thumbnail of its first frame, uint8
    (`thumbnails.BYTES`,).
    """

    frames: np.ndarray
    size: tuple[int, int]
    damaged: str | None
    pixels: str | None
    thumbnail: np.ndarray


def prepare_file(data: bytes, recipe: Recipe | int, limits: Limits = Limits()) -> Decoded:
    """A file's bytes as the network sees them. Raises `ImageUnreadable` or `ImageUnsupported`."""
    recipe = Recipe.of(recipe)
    pictures = open_pictures(data, recipe, limits)
    width, height = pictures[0].size
    size = (height, width) if pictures[0].orientation in LYING else (width, height)
    pixels = pictures[0].pixels if len(pictures) == 1 else None
    frames = batch([prepare(picture, recipe) for picture in pictures])
    small = picture_thumbnail(frames[0], size, recipe.fit == "pad")
    return Decoded(frames, size, pictures[0].damaged, pixels, small)


def pixel_digest(image: Image.Image, rgb: np.ndarray, orientation: int = 1, shrink: int = 1) -> str:
    """SHA-256 of the pixels that a person sees, whatever file they are in: upright, with their transparency and all their bits.

    `rgb` is that of `to_rgb(image)`. Of a JPEG that was decoded at a fraction, of that fraction's pixels, so it equals only such.
    """
    exact = None
    if image.mode.startswith("I") or image.mode == "F":
        exact = image
    elif has_alpha(image) and (clear := image.convert("RGBA")).getchannel("A").getextrema()[0] != 255:
        exact = clear
    turn = TURNS.get(orientation)
    if turn:
        exact = (exact or Image.fromarray(rgb)).transpose(turn[0])
    mode, size, data = (
        (exact.mode, exact.size, exact.tobytes()) if exact else ("RGB", rgb.shape[1::-1], rgb.reshape(-1).data)
    )
    digest = hashlib.sha256(f"{shrink} {mode} {size}".encode())
    digest.update(data)
    return digest.hexdigest()


def prepare_bytes(data: bytes, recipe: Recipe | int, limits: Limits = Limits()) -> np.ndarray:
    """The pictures of `prepare_file` alone."""
    return prepare_file(data, recipe, limits).frames


def batch(frames: Sequence[np.ndarray], out: np.ndarray | None = None) -> np.ndarray:
    """uint8 (3, S, S) each -> uint8 (b, 3, S, S), the channels last in memory as `prepare` leaves them.

    `out`, uint8 (b, S, S, 3), is the memory that they are put into, where given.
    """
    if out is None:
        out = np.empty((len(frames), *frames[0].shape[1:], 3), np.uint8)
    for place, frame in zip(out, frames):
        place[:] = frame.transpose(1, 2, 0)
    return out.transpose(0, 3, 1, 2)


def to_rgb(image: Image.Image, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """Any of Pillow's modes as RGB: transparent pixels on `background`, 16 bits a channel scaled to 8."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(to_eight_bits(np.asarray(image))).convert("RGB")
    if has_alpha(image):
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] == 255:
            return image.convert("RGB")
        canvas = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(canvas, image).convert("RGB")
    return image.convert("RGB")


def has_alpha(image: Image.Image) -> bool:
    """Whether pixels may be transparent."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _frames(image: Image.Image, wanted: int, check: Callable[[], None]) -> Iterator[Image.Image]:
    """The still picture itself, or frames of an animation, one after the other in the same object."""
    count = getattr(image, "n_frames", 1) if image.format in ANIMATED_FORMATS else 1
    places = spread(count, wanted) if wanted > 1 else [0]
    for place in places:
        check()
        if count > 1:
            image.seek(place)
        yield image


def _picture(image: Image.Image, recipe: Recipe, limits: Limits, moves: bool | None = None) -> Picture:
    true_size = image.size
    shrink = _draft(image, recipe) if image.format in ("JPEG", "MPO") else 1
    limits.check_size(*image.size)
    image.load()
    if image.format == "TIFF":  # Pillow turns these while it reads them
        true_size = image.size
    orientation = _orientation(image)
    rgb = np.asarray(to_rgb(image, recipe.background))
    if moves is None:
        moves = image.format in ANIMATED_FORMATS and getattr(image, "n_frames", 1) > 1
    pixels = None if moves else pixel_digest(image, rgb, orientation, shrink)
    return Picture(rgb, true_size, shrink, orientation, pixels=pixels)


def _orientation(image: Image.Image) -> int:
    """How its EXIF says that it is turned; upright where that cannot be read, as viewers show it."""
    try:
        value: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1
    return value


def _draft(image: Image.Image, recipe: Recipe) -> int:
    """Set a JPEG up to be decoded at a fraction; returns the whole number that it is divided by."""
    side = max(image.size) if recipe.fit == "pad" else min(image.size)
    wanted = side // (DRAFT_GAP * recipe.size)
    if wanted < 2:
        return 1
    width = image.width
    done = image.draft(None, (max(1, image.width // wanted), max(1, image.height // wanted)))
    return round(width / done[1][2]) if done else 1


def _square(picture: Picture, offsets: Sequence[int], sides: Sequence[int], recipe: Recipe) -> np.ndarray:
    """The picture `offsets` into its background of `sides` true pixels, at the recipe's size: uint8 (S, S, 3).

    Equal to pasting it on the whole background and resizing that: what is left out are pixels further
    from the picture than the filter reaches.
    """
    size, (filter, support) = recipe.size, FILTERS[recipe.filter]
    (height, width), shrink = picture.rgb.shape[:2], picture.shrink
    square = np.frombuffer(bytearray(recipe.background) * size**2, np.uint8).reshape(size, size, 3)
    if tuple(sides) == (size, size) and shrink == 1:
        square[offsets[1] : offsets[1] + height, offsets[0] : offsets[0] + width] = picture.rgb
        return square
    places, axes = [], []
    for offset, true, side, length in zip(offsets, picture.size, sides, (width, height)):
        ratio = side / size / shrink  # pixels of `rgb` for one of the result
        start, extent, rest = offset / shrink, true / shrink, (side - offset - true) / shrink
        reach = support * max(ratio, 1.0)
        first = max(0, math.floor((start - reach) / ratio - 0.5))
        last = min(size, math.ceil((start + extent + reach) / ratio + 0.5))
        seen = math.ceil(2 * reach + 2 * ratio) + 1
        before, after = min(math.ceil(start), seen), min(math.ceil(rest), seen)
        low, high = (max(0.0, place * ratio - start + before) for place in (first, last))
        places.append(slice(first, last))
        axes.append(Axis(length, before, after, low, min(high, float(before + length + after)), last - first))
    resize(picture.rgb, axes, recipe.background, filter, square[places[1], places[0]])
    return square
