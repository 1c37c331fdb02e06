"""What happens to pictures on their way through the world: cropped, scaled, recompressed, recoloured, mirrored.

The changes are made in memory, to see what a network makes of a picture's copies. How strong they are is what people and
sites do: a margin cut off, half the size, a low JPEG quality, other brightness, contrast and colour.
"""

import io

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

CROP = "crop"
CHANGES = (CROP, "scale", "recompress", "recolour", "mirror")
MARGIN = (0.015, 0.08)  # of a side, cut off at each edge
FACTOR = (0.4, 0.85)
LOW_QUALITY, QUALITY = (25, 60), (80, 94)
LIGHT, COLOUR = (0.84, 1.18), (0.65, 1.35)
SMALLEST = 8  # pixels a side that are left


def changed(image: Image.Image, how: str, rng: np.random.Generator) -> Image.Image:
    """An RGB picture changed as one of `CHANGES` says, and encoded as JPEG again.

    >>> changed(Image.new("RGB", (100, 50)), "mirror", np.random.default_rng(0)).size
    (100, 50)
    """
    width, height = image.size
    quality = QUALITY
    if how == CROP:
        left, top, right, bottom = rng.uniform(*MARGIN, 4)
        box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        x, y, end, foot = (round(float(edge)) for edge in box)
        image = image.crop((x, y, max(end, x + 1), max(foot, y + 1)))
    elif how == "scale":
        factor = rng.uniform(*FACTOR)
        size = [max(min(SMALLEST, side), round(side * factor)) for side in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    elif how == "recompress":
        quality = LOW_QUALITY
    elif how == "recolour":
        for enhancer, span in (
            (ImageEnhance.Brightness, LIGHT),
            (ImageEnhance.Contrast, LIGHT),
            (ImageEnhance.Color, COLOUR),
        ):
            image = enhancer(image).enhance(float(rng.uniform(*span)))
    elif how == "mirror":
        image = ImageOps.mirror(image)
    else:
        raise ValueError(f"no such change: {how}")
    out = io.BytesIO()
    image.save(out, "JPEG", quality=int(rng.integers(*quality)))
    with Image.open(out) as again:
        return again.convert("RGB")
