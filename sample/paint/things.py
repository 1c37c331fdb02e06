"""Things and animals, and the emblems of the series, each drawn inside a square of side 1 around (0, 0)."""

from sample.paint.brush import Brush, Point, mix
from sample.paint.shapes import draw
from sample.paint.world import Colour

FUR: tuple[Colour, ...] = ((70, 66, 76), (226, 150, 76), (240, 236, 230), (150, 146, 150))
FEATHERS: tuple[Colour, ...] = ((80, 150, 226), (240, 206, 70), (226, 84, 72), (110, 190, 110))
# Where a hand holds a thing (in the thing's own square), how big it is then in head radii, and how it is turned.
GRIPS: dict[str, tuple[Point, float, float]] = {
    "sword": ((0, 0.35), 4.2, 14),
    "umbrella": ((0, 0.32), 5.0, -14),
    "book": ((0, 0.1), 1.8, 0),
    "flower": ((0.01, 0.32), 1.9, 8),
    "balloon": ((-0.02, 0.48), 3.0, 6),
    "lantern": ((0, -0.48), 1.7, 0),
    "guitar": ((0.0, 0.0), 3.2, -52),
    "apple": ((0, 0.2), 1.0, 0),
    "staff": ((0, 0.12), 5.0, 4),
    "teacup": ((0.32, 0.1), 1.3, 0),
}


def paint_thing(brush: Brush, kind: str, colour: Colour) -> None:
    """A thing in `colour`, where it can have any; an animal in a colour of its kind."""
    if kind in ("cat", "bird"):
        colours = FUR if kind == "cat" else FEATHERS
        colour = colours[sum(colour) % len(colours)]
    elif kind == "flower" and sum(colour) <= 260:
        colour = (246, 152, 188)
    draw(brush, f"thing {kind}", {"colour": colour, "handle": mix((250, 246, 232), colour, 0.5)})


def paint_emblem(brush: Brush, kind: str, colours: tuple[Colour, Colour]) -> None:
    """A series' sign in its two colours: the sign itself, and the disc it stands on."""
    ink = dict(zip(("sign", "ground"), colours))
    brush.oval(0, 0, 0.5, 0.5, ink["ground"])
    inside = brush.at(0, 0, 0.78)
    inside.width = 0.0
    draw(inside, f"emblem {kind}", ink)
    if kind == "ringed flame":
        draw(inside.at(0, 0, 0.72), "emblem flame", ink)
