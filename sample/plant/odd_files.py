"""The odd files that every real library has: animated, transparent, damaged, not a picture at all."""

import io
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from sample.paint.brush import Brush
from sample.paint.picture import Picture, imagine, true_tags
from sample.paint.shapes import paint_thing
from sample.paint.sheet import paint
from sample.paint.world import CLOTH_COLOURS
from sample.plant.copies import encode

Imagined = tuple[Picture, list[str]]


class OddFile(NamedTuple):
    """How one odd file is made: its file name's end, what is on it with its true tags, and its bytes."""

    suffix: str
    imagine: Callable[[random.Random], Imagined]
    encode: Callable[[Picture], bytes]


def _character(rng: random.Random) -> Imagined:
    while True:
        picture = replace(imagine(rng, (420, 640)), monochrome=False)
        if len(picture.figures) == 1:
            return picture, true_tags(picture)


def _place(rng: random.Random, grey: bool = False) -> Imagined:
    while True:
        picture = imagine(rng, (420, 640))
        if picture.place in ("city", "beach", "mountain", "snow"):
            bare = {"figures": (), "things": (), "banner": False, "framing": "", "series": ""}
            picture = replace(picture, monochrome=grey, artist=None, **bare)
            return picture, true_tags(picture)


def _thin_place(rng: random.Random) -> Imagined:
    picture = replace(_place(rng)[0], width=880, height=16)
    return picture, [tag for tag in true_tags(picture) if tag not in ("moon", "cloud", "wallpaper")]


def _animated_character(rng: random.Random) -> Imagined:
    picture = replace(_character(rng)[0], artist=None)
    picture = replace(picture, figures=(replace(picture.figures[0], behind=False, eyes_closed=False),))
    return picture, [*true_tags(picture), "animated"]


def _cut_out(rng: random.Random) -> Imagined:
    picture = replace(imagine(rng, (420, 640)), figures=(), framing="", series="", private_tags=())
    return picture, ["no humans", "cat", "animal", "transparent background"]


def _animation(picture: Picture) -> bytes:
    """The character blinks."""
    first, second = (replace(picture.figures[0], eyes_closed=closed) for closed in (False, True))
    open_eyes, closed_eyes = (paint(replace(picture, figures=(figure,)), 360) for figure in (first, second))
    out = io.BytesIO()
    open_eyes.save(out, "GIF", save_all=True, append_images=[closed_eyes], duration=[1200, 200], loop=0)
    return out.getvalue()


def _transparent(picture: Picture) -> bytes:
    image = Image.new("RGBA", (1040, 1040), (0, 0, 0, 0))
    paint_thing(Brush(image, 940, (520, 520), width=0.018), "cat", CLOTH_COLOURS["orange"])
    return encode(image.reduce(2), "png")


def _truncated(picture: Picture) -> bytes:
    data = encode(paint(picture), "jpg")
    return data[: len(data) * 2 // 5]


def _turned(picture: Picture) -> bytes:
    """Stored lying on its side, with the EXIF note that says so."""
    image = paint(picture).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90, exif=exif)
    return out.getvalue()


def _painted(
    suffix: str, change: Callable[[Image.Image], Image.Image] = lambda image: image
) -> Callable[[Picture], bytes]:
    return lambda picture: encode(change(paint(picture)), suffix)


ODD_FILES: dict[str, OddFile] = {
    "animation": OddFile("gif", _animated_character, _animation),
    "transparent": OddFile("png", _cut_out, _transparent),
    "truncated": OddFile("jpg", _character, _truncated),
    "not a picture": OddFile("jpg", _place, lambda picture: b"This is a text file that somebody named .jpg.\n"),
    "empty": OddFile("png", _place, lambda picture: b""),
    "sixteen bits": OddFile(
        "png",
        partial(_place, grey=True),
        _painted("png", lambda image: Image.fromarray(np.uint16(image.convert("L")) * 257)),
    ),
    "palette": OddFile("png", _character, _painted("png", lambda image: image.quantize(64))),
    "four inks": OddFile("jpg", _character, _painted("jpg", lambda image: image.convert("CMYK"))),
    "turned by exif": OddFile("jpg", _character, _turned),
    "very thin": OddFile("png", _thin_place, _painted("png")),
}
