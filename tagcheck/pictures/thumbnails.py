"""What is kept of a picture beside its embedding, to see whether two pictures show the same pixels.

A thumbnail is the whole picture's brightness at `SIDE` x `SIDE` and its two colour differences at `COARSE` x `COARSE`.
"""

import numpy as np
from PIL import Image

SIDE, COARSE = 32, 8
BYTES = SIDE * SIDE + 2 * COARSE * COARSE


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """uint8 (3, H, W) -> uint8 (BYTES,): brightness, then the two colour differences around 128."""
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).convert("YCbCr")
    bands = image.split()
    parts = [bands[0].resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None)]
    parts += [band.resize((COARSE, COARSE), Image.Resampling.BOX) for band in bands[1:]]
    return np.concatenate([np.asarray(part).reshape(-1) for part in parts])


def picture_thumbnail(frame: np.ndarray, size: tuple[int, int], padded: bool) -> np.ndarray:
    """The thumbnail of a prepared picture, uint8 (3, S, S), of (width, height) `size` in whatever unit, without the background that
    it was `padded` with.
    """
    side = frame.shape[-1]
    if not padded:
        return thumbnail(frame)
    width, height = (max(1, round(length / max(size) * side)) for length in size)
    left, top = (side - width) // 2, (side - height) // 2
    return thumbnail(frame[:, top : top + height, left : left + width])
