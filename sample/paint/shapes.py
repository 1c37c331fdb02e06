"""Reads `shapes.txt` and draws its parts: each section there is one part, each line one step. A thing, an
animal or a series' emblem is drawn inside a square of side 1 around (0, 0).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from sample.paint.brush import Brush, Point, darker, lighter, mix
from sample.paint.world import Colour

STEP = re.compile(
    r"(?:when (?P<when>\w+) )?(?P<both>both )?(?:around (?P<turns>\d+) (?P<centre>\S+) )?"
    r"(?P<what>shape|blob|oval|box|star|stroke|limb)(?P<star>\*?) (?P<colour>\S+) (?:(?P<width>[\d.]+) )?(?P<points>\S+,.*)"
)
TINTED = re.compile(r"(#[0-9a-f]{6}|[a-z]+)(?:([+-])([\d.]+))?")
FUR: tuple[Colour, ...] = ((70, 66, 76), (226, 150, 76), (240, 236, 230), (150, 146, 150))
FEATHERS: tuple[Colour, ...] = ((80, 150, 226), (240, 206, 70), (226, 84, 72), (110, 190, 110))
SECTIONS = {  # the lines of every part by its name
    head.strip("]"): lines
    for head, *lines in map(str.splitlines, Path(__file__).with_name("shapes.txt").read_text("utf-8").split("\n[")[1:])
}


@dataclass(frozen=True)
class Step:
    """One line: what is drawn through which points, whether mirrored too, how often it is turned around `centre`."""

    what: str
    colour: str
    points: tuple[tuple[float, ...], ...]
    width: float
    starred: bool
    both: bool
    turns: int
    centre: Point
    when: str


@lru_cache(maxsize=1024)
def steps(part: str, **values: float) -> list[Step]:
    """The steps of a part, with these numbers in the place of its {names}."""
    return [_step(line.format(**values)) for line in SECTIONS[part]]


def draw(
    brush: Brush, part: str, ink: Mapping[str, Colour], flags: frozenset[str] = frozenset(), **values: float
) -> None:
    """Draw a part with the colours of `ink`; lines that begin with `when X` only where X is in `flags`."""
    wanted = [step for step in steps(part, **values) if not step.when or step.when in flags]
    for both, together in groupby(wanted, lambda step: step.both):
        lines = list(together)
        for side in (-1, 1) if both else (1,):
            for step in lines:
                for turn in range(step.turns):
                    _draw(brush, step, tinted(step.colour, ink), side, turn * math.tau / step.turns)


def tinted(colour: str, ink: Mapping[str, Colour]) -> Colour:
    """`#rrggbb` or a name in `ink`, made darker (`-0.2`) or lighter (`+0.2`) by a share.

    >>> tinted("#102030", {}), tinted("sign+0.5", {"sign": (55, 155, 255)})
    ((16, 32, 48), (155, 205, 255))
    """
    name, sign, share = TINTED.fullmatch(colour).groups()
    found = ink[name] if name in ink else tuple(bytes.fromhex(name[1:]))
    return found if not sign else (darker if sign == "-" else lighter)(found, float(share))


def _step(line: str) -> Step:
    found = STEP.fullmatch(line)
    if found is None:
        raise ValueError(f"shapes.txt: not a step: {line!r}")
    points = tuple(tuple(map(float, point.split(","))) for point in found["points"].split())
    x, y = map(float, (found["centre"] or "0,0").split(","))
    return Step(
        *(found["what"], found["colour"], points, float(found["width"] or 0), bool(found["star"]), bool(found["both"])),
        *(int(found["turns"] or 1), (x, y), found["when"] or ""),
    )


def _draw(brush: Brush, step: Step, colour: Colour, side: int, turn: float) -> None:
    """One step, mirrored where `side` is -1, turned by `turn` (radians) around its centre."""
    if step.what == "oval":
        middle, (rx, ry), *angle = step.points
        (x, y), degrees = _turned(middle, step.centre, turn), angle[0][0] if angle else 0.0
        if rx != ry:
            degrees += math.degrees(turn)
        brush.oval(side * x, y, rx, ry, colour, not step.starred, side * degrees)
        return
    if step.what == "star":
        (count, inner) = step.points[0]
        brush.shape(star(int(count), inner), colour, not step.starred)
        return
    points = [(side * x, y) for x, y in (_turned(point, step.centre, turn) for point in step.points)]
    if step.what == "stroke":
        brush.stroke(points, colour, step.width, not step.starred)
    elif step.what == "limb":
        brush.limb(points, colour, step.width)
    elif step.what == "box":
        brush.box(*points[0], *points[1], colour, not step.starred)
    else:
        getattr(brush, step.what)(points, colour, not step.starred)


def _turned(point: tuple[float, ...], centre: Point, turn: float) -> Point:
    if not turn:
        return point[0], point[1]
    x, y, cos, sin = point[0] - centre[0], point[1] - centre[1], math.cos(turn), math.sin(turn)
    return centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos


def star(points: int, inner: float) -> list[Point]:
    """The corners of a star, its points 0.48 from the middle, the corners between them `inner`."""
    turns = [(math.radians(-90 + step * 180 / points), inner if step % 2 else 0.48) for step in range(points * 2)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle, radius in turns]


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
