"""A file's bytes as a picture that any browser shows, no larger than asked for: run in a decoder process only."""

import io
from typing import cast

from PIL import Image

from tagcheck.pictures.file_formats import Limits
from tagcheck.pictures.preparation import first_picture

QUALITY = 82


def shown(data: bytes, side: int, limits: Limits) -> tuple[bytes, tuple[int, int]]:
    """The (first) picture in `data` as WebP, upright, transparency kept, at most `side` pixels long; and the file's own
    (width, height) as it is stored. Raises `ImageUnreadable` or `ImageUnsupported`.
    """
    picture, size = first_picture(data, side, limits, _fitted)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=QUALITY, method=2)
    return out.getvalue(), size


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """At most `side` pixels long, at least one wide, in RGB or RGBA."""
    if picture.mode not in ("RGB", "RGBA"):
        transparent = picture.mode in ("LA", "PA", "La", "RGBa") or "transparency" in picture.info
        picture = _eight_bits(picture).convert("RGBA" if transparent else "RGB")
    scale = min(1.0, side / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16- and 32-bit greys scaled to 8 bits; Pillow's own conversion would cut them to white."""
    if picture.mode.startswith("I;16"):
        return picture.convert("I").point(lambda value: value / 257).convert("L")
    if picture.mode in ("I", "F"):
        low, high = cast(tuple[float, float], picture.getextrema())  # of one channel
        scale = 255 / (high - low) if high > low else 0
        return picture.point(lambda value: (value - low) * scale).convert("L")
    return picture
