"""A brush that draws smooth shapes with Pillow in the drawing's own units, whatever the size of the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from sample.paint.world import Colour

Point = tuple[float, float]
CIRCLE = [(math.cos(turn * math.tau / 36), math.sin(turn * math.tau / 36)) for turn in range(36)]


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`one` with a share (0 to 1) of `other` in it.

    >>> mix((0, 0, 0), (200, 100, 0), 0.5)
    (100, 50, 0)
    """
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other))


def darker(colour: Colour, share: float = 0.22) -> Colour:
    """A shade of `colour`, a little towards blue as shadows are."""
    return mix(colour, (24, 18, 52), share)


def lighter(colour: Colour, share: float = 0.35) -> Colour:
    return mix(colour, (255, 255, 255), share)


def smooth(points: Sequence[Point], closed: bool = True) -> list[Point]:
    """A Catmull-Rom curve through `points`, six pieces between two of them."""
    count = len(points)
    out: list[Point] = []
    for place in range(count if closed else count - 1):
        near = range(place - 1, place + 3)
        p0, p1, p2, p3 = (points[one % count if closed else min(max(one, 0), count - 1)] for one in near)
        for step in range(6):
            t = step / 6
            a, b, c, d = -t + 2 * t * t - t**3, 2 - 5 * t * t + 3 * t**3, t + 4 * t * t - 3 * t**3, -t * t + t**3
            x, y = ((a * q0 + b * q1 + c * q2 + d * q3) / 2 for q0, q1, q2, q3 in zip(p0, p1, p2, p3))
            out.append((x, y))
    return out if closed else [*out, points[-1]]


@dataclass
class Brush:
    """Draws on `image` in units of `scale` pixels around `origin`, turned by `angle` degrees, mirrored with `flip`.

    `line` and `width` (in units) are the outline that shapes get; width 0 draws none.
    """

    image: Image.Image
    scale: float
    origin: Point = (0.0, 0.0)
    angle: float = 0.0
    flip: bool = False
    line: Colour = (0, 0, 0)
    width: float = 0.05

    def __post_init__(self) -> None:
        self._draw = ImageDraw.Draw(self.image)
        turn, side = math.radians(self.angle), -1.0 if self.flip else 1.0
        self._xx, self._xy = self.scale * math.cos(turn) * side, -self.scale * math.sin(turn)
        self._yx, self._yy = self.scale * math.sin(turn) * side, self.scale * math.cos(turn)

    def at(self, x: float, y: float, scale: float = 1.0, angle: float = 0.0, flip: bool = False) -> Brush:
        """A brush whose (0, 0) is this one's (x, y), `scale` times as big; outlines keep their width on the paper."""
        turn, flipped = self.angle + (-angle if self.flip else angle), self.flip != flip
        return Brush(self.image, self.scale * scale, self.place((x, y)), turn, flipped, self.line, self.width / scale)

    def place(self, point: Point) -> Point:
        x, y = point
        return self.origin[0] + self._xx * x + self._xy * y, self.origin[1] + self._yx * x + self._yy * y

    def shape(self, points: Sequence[Point], fill: Colour | None, line: bool = True) -> None:
        pixels = [self.place(point) for point in points]
        if fill is not None:
            self._draw.polygon(pixels, fill=fill)
        if line and self.width:
            self._stroke([*pixels, pixels[0], pixels[1]], self.line, self.width)

    def blob(self, points: Sequence[Point], fill: Colour | None, line: bool = True) -> None:
        self.shape(smooth(points), fill, line)

    def oval(
        self, x: float, y: float, rx: float, ry: float, fill: Colour | None, line: bool = True, angle: float = 0.0
    ) -> None:
        turn = math.radians(angle)
        cos, sin = math.cos(turn), math.sin(turn)
        self.shape([(x + a * rx * cos - b * ry * sin, y + a * rx * sin + b * ry * cos) for a, b in CIRCLE], fill, line)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour | None, line: bool = True) -> None:
        self.shape([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, line)

    def stroke(self, points: Sequence[Point], colour: Colour, width: float, curved: bool = True) -> None:
        """A line of its own colour and width (units), smooth through `points`, with round ends."""
        path = smooth(points, closed=False) if curved and len(points) > 2 else list(points)
        self._stroke([self.place(point) for point in path], colour, width)
        half = width * self.scale / 2
        if half >= 1.5:
            for end in (path[0], path[-1]):
                x, y = self.place(end)
                self._draw.ellipse((x - half, y - half, x + half, y + half), fill=colour)

    def limb(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """A stroke with the brush's outline around it: arms, legs, handles."""
        if self.width:
            self.stroke(points, self.line, width + 2 * self.width * 0.8)
        self.stroke(points, colour, width)

    def _stroke(self, pixels: Sequence[Point], colour: Colour, width: float) -> None:
        joint = "curve" if len(pixels) < 14 else None
        self._draw.line(pixels, fill=colour, width=max(1, round(width * self.scale)), joint=joint)
