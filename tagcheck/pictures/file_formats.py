"""What Pillow alone cannot open: HEIC, JPEG XL and videos, each by a package that the owner may install.

    pip install pi-heif       HEIC, HEIF (BSD, with LGPL decoders)
    pip install imagecodecs   JPEG XL    (BSD)
    pip install av            videos     (BSD, with FFmpeg)

They are found by what a file starts with, whatever its name says, and imported when the first such
file comes. Without the package a file is "unsupported", and the reason names the package.
"""

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from tagcheck.errors import ToolError, short

HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
MOST_BRANDS = 256  # bytes of the box that names them
JPEGXL_STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
LFS = b"version https://git-lfs.github.com/spec/"  # what stands in the place of a picture that was not fetched
# Matroska/WebM, Flash, MPEG, ASF, Ogg.
VIDEO_STARTS = (b"\x1aE\xdf\xa3", b"FLV\x01", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"\x30\x26\xb2\x75", b"OggS")
PACKET = 188  # bytes of an MPEG transport stream, each beginning with 0x47
BEYOND_LIMITS = ("too large", "took longer", "not enough memory")  # how reasons begin that do not lie in the file
FORWARD = 300  # frames decoded after the key frame before the wanted moment, at most


class ImageUnreadable(ToolError):
    """The file is damaged, empty, or beyond the limits. Its message is the reason in a record."""

    status = "unreadable"
    lasting = True  # looking again would find the same, with the same decoders and limits


class ImagePassing(ImageUnreadable):
    """Time or memory ran out, or the decoder was lost: it may be the machine's state, and go well another time."""

    lasting = False


class ImageUnsupported(ToolError):
    """The file is of a kind that cannot be read here. Its message is the reason in a record."""

    status = "unsupported"
    lasting = True


@dataclass(frozen=True)
class Limits:
    """What one file may cost: `pixels` decoded for one frame, `seconds` in all, `frames` of an animation, `bytes` of the file."""

    pixels: int = 100_000_000
    seconds: float = 60.0
    frames: int = 4
    bytes: int = 512_000_000

    def check_size(self, width: int, height: int) -> None:
        """Raises `ImageUnreadable` for a picture of more than `pixels`."""
        if width * height > self.pixels:
            raise ImageUnreadable(f"too large: {width} x {height} pixels, the limit is {self.pixels}")


def decoders() -> dict[str, str]:
    """What decodes pictures here, with versions: with another one, a file that could not be read may be readable."""
    from importlib import metadata  # here, since every decoding process would load it, a sixth of its start

    found = {"pillow": PIL.__version__}
    for name in ("pi-heif", "imagecodecs", "av"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` of `count` places, the middles of as many equal parts.

    >>> spread(100, 4), spread(2, 4)
    ([12, 37, 62, 87], [0, 1])
    """
    wanted = min(count, wanted)
    return [(2 * part + 1) * count // (2 * wanted) for part in range(wanted)]


def kind_of(data: bytes) -> str | None:
    """ "heif", "avif", "jpegxl", "video", or None for what is none of them.

    >>> kind_of(b"\\0\\0\\0\\x18ftypheic"), kind_of(b"\\0\\0\\0\\x18ftypisom"), kind_of(b"GIF89a")
    ('heif', 'video', None)
    """
    if data[4:8] == b"ftyp":
        if data[8:12] in HEIF_BRANDS:  # of which "mif1" says what the file is made of, and others what is in it
            others = data[16 : min(int.from_bytes(data[:4], "big"), MOST_BRANDS)]
            return "avif" if b"avif" in others else "heif"
        return "avif" if data[8:12] in AVIF_BRANDS else "video"
    if data.startswith(JPEGXL_STARTS):
        return "jpegxl"
    if data.startswith(VIDEO_STARTS) or (data.startswith(b"RIFF") and data[8:12] == b"AVI "):
        return "video"
    if len(data) > 3 * PACKET and set(data[: 3 * PACKET : PACKET]) == {0x47}:
        return "video"
    return None


def open_others(data: bytes, limits: Limits, check: Callable[[], None]) -> list[Image.Image]:
    """The picture, or the frames, of a file that Pillow does not know. `check` raises when time is up.

    Raises `ImageUnsupported`, `ImageUnreadable`, and what the packages raise for a damaged file.
    """
    openers = {"heif": _heif, "avif": _avif, "jpegxl": _jpegxl, "video": _video}
    kind = kind_of(data)
    if data.startswith(LFS):
        raise ImageUnsupported(
            "a pointer of Git LFS, not the picture itself: run git lfs pull in its folder, and map again"
        )
    if kind is None:
        raise ImageUnsupported("not a picture of a kind that can be read here")
    return openers[kind](data, limits, check)


def _package(name: str, way_out: str) -> Any:
    """A package that not everybody has. Raises `ImageUnsupported`, with the way out, where it is missing."""
    try:
        return import_module(name)
    except ImportError:
        raise ImageUnsupported(f"{way_out}, and run again") from None


def _heif(data: bytes, limits: Limits, check: Callable[[], None]) -> list[Image.Image]:
    pi_heif = _package("pi_heif", "a HEIC picture: pip install pi-heif")
    check()
    file = pi_heif.open_heif(data, convert_hdr_to_8bit=True)
    limits.check_size(*file.size)
    return [file.to_pillow()]


def _avif(data: bytes, limits: Limits, check: Callable[[], None]) -> list[Image.Image]:
    """Pillow reads AVIF itself, so a file that comes here is one that it does not open."""
    if not features.check("avif"):
        raise ImageUnsupported("an AVIF picture, and this Pillow was built without AVIF")
    raise ImageUnreadable("the file is damaged: its header cannot be read")


def _jpegxl(data: bytes, limits: Limits, check: Callable[[], None]) -> list[Image.Image]:
    imagecodecs = _package("imagecodecs", "a JPEG XL picture: pip install imagecodecs")
    check()
    try:
        values = imagecodecs.jpegxl_decode(data)
    except RuntimeError as error:  # JpegxlError is one, and not all that it raises
        raise ImageUnreadable(f"the file is damaged: {short(error)}") from None
    if values.dtype != np.uint8:
        values = to_eight_bits(values)
    frames = [values[place] for place in spread(len(values), limits.frames)] if values.ndim == 4 else [values]
    limits.check_size(*frames[0].shape[1::-1])
    return [Image.fromarray(frame[:, :, 0] if frame.ndim == 3 and frame.shape[2] == 1 else frame) for frame in frames]


def _video(data: bytes, limits: Limits, check: Callable[[], None]) -> list[Image.Image]:
    av = _package("av", "a video: pip install av")
    try:
        with av.open(io.BytesIO(data)) as file:
            if not file.streams.video:
                raise ImageUnsupported("a sound or video file without pictures")
            stream = file.streams.video[0]
            limits.check_size(stream.codec_context.width, stream.codec_context.height)
            start, length = file.start_time or 0, file.duration or 0  # microseconds
            parts = 2 * limits.frames
            moments = [start + part * length // parts for part in range(1, parts, 2)] if length else [start]
            return [_frame_at(file, stream, moment, start, check).to_image() for moment in moments]
    except (av.FFmpegError, StopIteration) as error:
        said = short(error) if str(error) else "no picture in it can be decoded"
        raise ImageUnreadable(f"the file is damaged: {said}") from None


def _frame_at(file: Any, stream: Any, moment: int, start: int, check: Callable[[], None]) -> Any:
    """The last frame that begins at or before `moment` (microseconds), or the first that can be decoded.

    A format without an index may be entered behind the last key frame, from where nothing can be decoded: then it
    is decoded from its `start`. Raises StopIteration where that gives nothing either.
    """
    shown = None
    for place in dict.fromkeys((moment, start)):
        file.seek(place, backward=True)
        for count, frame in enumerate(file.decode(stream)):
            check()
            if shown is not None and (frame.time or 0) * 1e6 > moment:
                break
            shown = frame
            if count >= FORWARD:
                break
        if shown is not None:
            return shown
    raise StopIteration


def to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Values of more than 8 bits as uint8. 16-bit numbers by their type; others by their highest value: floats
    up to 1 are 0 to 1, up to 255 as they are, up to 65,535 as 16 bits, beyond that 0 to the highest.
    """
    sixteen = values.dtype.itemsize == 2 and values.dtype.kind == "u"
    whole = values.dtype.kind in "iu"
    values = np.nan_to_num(values.astype(np.float32))
    highest = values.max(initial=0)
    if highest > 65535:
        scale = 255 / highest
    elif sixteen or highest > 255:
        scale = 1 / 257
    else:
        scale = 1.0 if whole or highest > 1 else 255.0
    return np.asarray(np.clip(values * scale + 0.5, 0, 255).astype(np.uint8))
