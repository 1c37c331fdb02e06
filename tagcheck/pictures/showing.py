"""A file's bytes as a picture that any browser shows, no larger than asked for: run in a decoder process only."""

import io

from PIL import Image

from tagcheck.pictures.file_formats import Limits
from tagcheck.pictures.preparation import first_picture, has_alpha, to_rgb

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
        picture = picture.convert("RGBA") if has_alpha(picture) else to_rgb(picture)
    scale = min(1.0, side / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
