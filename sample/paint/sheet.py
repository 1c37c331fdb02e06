"""From a `Picture` to pixels: the place, the things, the characters, the weather, then the style of series and artist."""

import random
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from sample.paint.brush import Brush
from sample.paint.figures import paint_figure
from sample.paint.picture import Picture, Thing
from sample.paint.places import Tone, paint_place, paint_weather
from sample.paint.shapes import draw, paint_emblem, paint_thing
from sample.paint.world import CLOTH_COLOURS, MARKS

OVERSAMPLING = 2
# What each framing shows, in head radii: top, bottom, and how far left and right of a character.
EXTENTS = {"portrait": (-1.9, 1.95, 1.75), "upper body": (-2.1, 3.3, 2.2), "full body": (-2.2, 6.7, 2.3)}


def paint(picture: Picture, longest: int | None = None) -> Image.Image:
    """`picture` in RGB at its own size, or with its longer side `longest` pixels (for training)."""
    width, height = picture.width, picture.height
    if longest:
        width, height = (max(1, round(side * longest / max(width, height))) for side in (width, height))
    size = (width * OVERSAMPLING, height * OVERSAMPLING)
    image = paint_place(picture, size)
    unit = min(size)
    w, h = size[0] / unit, size[1] / unit
    brush = Brush(image, unit, line=picture.look.line, width=0.012 * bool(picture.look.line_width))
    _backdrop(brush, picture, w, h)
    if picture.banner:
        _banner(brush, picture, w, h)
    behind = [thing for thing in picture.things if thing.y < 0.5 and picture.figures]
    _things(brush, picture, behind, w, h)
    _figures(image, picture)
    _things(brush, picture, [thing for thing in picture.things if thing not in behind], w, h)
    paint_weather(brush, picture, w, h)
    return _style(image.reduce(OVERSAMPLING), picture)


def _things(brush: Brush, picture: Picture, things: list[Thing], w: float, h: float) -> None:
    for thing in things:
        at = brush.at(thing.x * w, thing.y * h, thing.size, thing.angle)
        at.width = 0.018 * bool(picture.look.line_width)
        if not picture.figures and thing.kind not in ("balloon", "bird"):
            at.oval(0, 0.48, 0.46, 0.07, Tone(picture)((120, 112, 116)), line=False)
        paint_thing(at, thing.kind, CLOTH_COLOURS[thing.colour])


def _figures(image: Image.Image, picture: Picture) -> None:
    if not picture.figures:
        return
    rng = random.Random(picture.grain + 2)
    top, bottom, side = EXTENTS[picture.framing]
    count = len(picture.figures)
    scale = min(image.height / (bottom - top), image.width / (2 * side * count * (0.86 if count > 1 else 1)))
    slack = max(0.0, image.width - 2 * side * count * scale * 0.8)
    for place, figure in enumerate(picture.figures):
        x = image.width / 2 + (place - (count - 1) / 2) * 2 * side * scale * 0.9
        if count * 2 * side * scale > image.width * 0.9:
            x = image.width * (place + 0.5) / count
        x += rng.uniform(-0.28, 0.28) * slack * (0.5 if count > 1 else 1)
        y, tilt, flip = image.height - bottom * scale, rng.uniform(-3, 3), rng.random() < 0.5
        brush = Brush(image, scale, (x, y), tilt, flip, picture.look.line, picture.look.line_width)
        paint_figure(brush, figure, picture.look)


def _banner(brush: Brush, picture: Picture, w: float, h: float) -> None:
    """A pennant with the series' emblem, where nobody wears it."""
    x = 0.85 * w if picture.grain % 2 else 0.15 * w
    pennant = [(x - 0.1, 0), (x + 0.1, 0), (x + 0.1, 0.27), (x, 0.35), (x - 0.1, 0.27)]
    brush.shape(pennant, CLOTH_COLOURS[picture.look.costume[1]])
    paint_emblem(brush.at(x, 0.15, 0.17), picture.look.emblem, picture.look.emblem_colours)


def _backdrop(brush: Brush, picture: Picture, w: float, h: float) -> None:
    """A series' own texture, between the place and what is in front of it."""
    rng = random.Random(picture.grain + 3)
    kind = picture.look.backdrop
    if kind == "petals":
        for _ in range(round(22 * w * h)):
            x, y, size = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.012, 0.026)
            brush.oval(x, y, size, size * 0.55, (255, 176, 206), line=False, angle=rng.uniform(0, 180))
    elif kind == "sparkle":
        for _ in range(round(16 * w * h)):
            x, y, size = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.012, 0.035)
            near = size * 0.2
            right = [(x, y - size), (x + near, y - near), (x + size, y), (x + near, y + near)]
            left = [(x, y + size), (x - near, y + near), (x - size, y), (x - near, y - near)]
            brush.shape(right + left, (255, 246, 190), line=False)
    elif kind == "hearts":
        for _ in range(round(24 * w * h)):
            at = brush.at(rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.02, 0.05))
            at.width = 0.0
            draw(at, "emblem heart", {"sign": (255, 176, 200)})


def _style(image: Image.Image, picture: Picture) -> Image.Image:
    """Tint, texture and signature: what the series and the artist do to the whole sheet."""
    look = picture.look
    if look.strength:
        graded = ImageChops.multiply(image, Image.new("RGB", image.size, look.grade))
        image = Image.blend(image, graded, min(1.0, look.strength * 2.2))
    if look.shading == "soft":
        glow = image.reduce(4).filter(ImageFilter.BoxBlur(3)).resize(image.size)
        image = Image.blend(image, ImageChops.screen(image, glow), 0.22)
    if look.backdrop in ("halftone", "scanlines", "grid", "rays"):
        image = ImageChops.multiply(image, _tile(look.backdrop).crop((0, 0, *image.size)))
    if picture.artist:
        image = _by_artist(image, picture)
    if picture.series and picture.figures and picture.grain % 5 < 3:
        brush = Brush(image, min(image.size), line=look.line, width=0.006)
        corner = 0.06 if picture.grain % 3 else image.width / min(image.size) - 0.06
        paint_emblem(brush.at(corner, image.height / min(image.size) - 0.06, 0.09), look.emblem, look.emblem_colours)
    return image.convert("L").convert("RGB") if picture.monochrome else image


def _by_artist(image: Image.Image, picture: Picture) -> Image.Image:
    artist = picture.artist
    if artist.habit in ("hatching", "paper"):
        image = ImageChops.multiply(image, _tile(artist.habit).crop((0, 0, *image.size)))
    unit = min(image.size)
    w, h = image.width / unit, image.height / unit
    brush = Brush(image, unit)
    if artist.habit == "frame":
        for x, colour, width in ((0.0, (250, 248, 242), 0.045), (0.028, (40, 40, 46), 0.007)):
            corners = [(x, x), (w - x, x), (w - x, h - x), (x, h - x), (x, x)]
            brush.stroke(corners, colour, width, curved=False)
    mark = MARKS[artist.mark]
    at = brush.at(w - 0.16, h - 0.12)
    at.stroke(mark, (250, 250, 250), 0.016, curved=artist.mark == "loop")
    at.stroke(mark, (40, 36, 50), 0.008, curved=artist.mark == "loop")
    return image


@lru_cache(maxsize=8)
def _tile(kind: str) -> Image.Image:
    """A 1024 x 1024 texture to multiply with; made once in a process."""
    y, x = np.mgrid[0:1024, 0:1024].astype(np.float32)
    value = {
        "halftone": lambda: 255 - 46 * ((np.cos((x + y) * np.pi / 5) + np.cos((x - y) * np.pi / 5)) > 0.5),
        "scanlines": lambda: 255 - 40 * ((y % 6) < 2),
        "grid": lambda: 255 - 30 * (((x % 48) < 2) | ((y % 48) < 2)),
        "rays": lambda: 255 - 20 * (np.floor(np.arctan2(y - 400, x - 400) * 14 / np.pi) % 2),
        "hatching": lambda: 255 - 52 * (((x + y) % 14) < 2.5),
        "paper": lambda: 236 + np.random.default_rng(7).normal(0, 9, x.shape),
    }[kind]()
    return Image.fromarray(np.clip(value, 0, 255).astype(np.uint8)).convert("RGB")
