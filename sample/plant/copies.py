"""What happens to pictures on their way through the world: encoded, cropped, scaled, recompressed, recoloured."""

import io
import random

from PIL import Image
from PIL.ImageEnhance import Brightness, Color, Contrast

HOWS = ("crop", "scale", "recompression", "colour")


def encode(image: Image.Image, suffix: str, quality: int = 90) -> bytes:
    """The bytes of `image` as "jpg", "png" or "webp"; `quality` 1 to 100 for the two that lose."""
    out, losing = io.BytesIO(), {"quality": quality}
    ways = {"jpg": ("JPEG", losing), "webp": ("WEBP", losing | {"method": 2}), "png": ("PNG", {"compress_level": 4})}
    image.save(out, ways[suffix][0], **ways[suffix][1])
    return out.getvalue()


def retouch(rng: random.Random, original: bytes, how: str, suffix: str) -> bytes:
    with Image.open(io.BytesIO(original)) as opened:
        image = retouched(rng, opened.convert("RGB"), how)
    return encode(image, suffix, rng.randint(28, 55) if how == "recompression" else rng.randint(82, 93))


def retouched(rng: random.Random, image: Image.Image, how: str) -> Image.Image:
    """`image` cropped by 2 to 7 % at each side, scaled to 50 to 80 %, or with other brightness, contrast and saturation."""
    width, height = image.size
    if how == "crop":
        left, top, right, bottom = (rng.uniform(0.02, 0.07) for _ in range(4))
        edges = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        return image.crop(tuple(map(round, edges)))
    if how == "scale":
        factor = rng.uniform(0.5, 0.8)
        return image.resize((round(width * factor), round(height * factor)), Image.Resampling.LANCZOS)
    if how == "colour":
        for enhancer, low, high in ((Brightness, 0.86, 1.14), (Contrast, 0.86, 1.14), (Color, 0.7, 1.3)):
            image = enhancer(image).enhance(rng.uniform(low, high))
    return image
