"""What pixels and first bytes say of a file's technical state: how bright, sharp and coloured it is, and its true format."""

from pathlib import PurePath

import numpy as np
from PIL import Image

from tagcheck.pictures.file_formats import kind_of

PLAIN = 25.0  # variance of the brightness below which there is nothing that could be sharp
STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"8BPS": "Photoshop",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
OTHERS = {"heif": "HEIF", "avif": "AVIF", "jpegxl": "JPEG XL"}
ENDINGS = {
    "JPEG": "jpg jpeg jpe jfif",
    "PNG": "png apng",
    "GIF": "gif",
    "BMP": "bmp dib",
    "Photoshop": "psd",
    "TIFF": "tif tiff",
    "HEIF": "heic heif hif",
    "AVIF": "avif avifs",
    "JPEG XL": "jxl",
    "WebP": "webp",
}


def misnamed(path: str, data: bytes) -> str | None:
    """A sentence where a picture's name says another format than its first bytes do; None for all that agrees or is not known.

    >>> misnamed("a/b.png", b"GIF89a"), misnamed("b.jpeg", b"\\xff\\xd8\\xff"), misnamed("b.mp4", b"GIF89a")
    ('Its name ends in .png and it is a GIF file.', None, None)
    """
    ending = PurePath(path).suffix.lstrip(".").lower()
    name = next((name for start, name in STARTS.items() if data.startswith(start)), OTHERS.get(kind_of(data) or ""))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        name = "WebP"
    if name is None or ending in ENDINGS[name].split() or not any(ending in some.split() for some in ENDINGS.values()):
        return None
    return f"Its name ends in .{ending} and it is a {name} file."


def brightness(picture: Image.Image) -> float:
    """What 99 % of the pixels are not brighter than, 0 to 255."""
    return float(np.percentile(_light(picture), 99))


def sharpness(picture: Image.Image) -> float | None:
    """The variance of the Laplacian for one of the brightness; None where there is nothing that could be sharp."""
    light = _light(picture)
    spread = float(light.var())
    if min(light.shape) < 3 or spread < PLAIN:
        return None
    edges = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:] - 4 * light[1:-1, 1:-1]
    return float(edges.var()) / spread


def colour(picture: Image.Image) -> float:
    """The difference of the strongest and the weakest colour that 99 % of the pixels do not exceed, 0 for grey."""
    pixels = np.asarray(picture, np.int16)
    return float(np.percentile(pixels.max(axis=2) - pixels.min(axis=2), 99))


def _light(picture: Image.Image) -> np.ndarray:
    light: np.ndarray = np.asarray(picture, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return light
