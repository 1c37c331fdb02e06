"""Things and animals, and the emblems of the series, each drawn inside a square of side 1 around (0, 0)."""

from __future__ import annotations

import math
from collections.abc import Callable

from sample.brush import Brush, Point, darker, lighter, mix
from sample.world import Colour

STEEL: Colour = (206, 214, 228)
GOLD: Colour = (238, 190, 70)
WOOD: Colour = (146, 96, 56)
PAPER: Colour = (250, 246, 232)


def sword(brush: Brush, colour: Colour) -> None:
    brush.shape([(-0.055, 0.22), (-0.055, -0.38), (0, -0.5), (0.055, -0.38), (0.055, 0.22)], STEEL)
    brush.shape([(0, 0.2), (0, -0.46), (0.045, -0.37), (0.045, 0.2)], darker(STEEL, 0.25), line=False)
    brush.shape([(-0.17, 0.2), (0.17, 0.2), (0.2, 0.27), (-0.2, 0.27)], GOLD)
    brush.box(-0.04, 0.27, 0.04, 0.43, darker(WOOD))
    brush.oval(0, 0.46, 0.055, 0.05, GOLD)


def umbrella(brush: Brush, colour: Colour) -> None:
    brush.stroke([(0, -0.42), (0, 0.38), (0.05, 0.46), (0.13, 0.42)], (70, 60, 70), 0.035)
    rim = [(0.5 - step / 5, -0.06 + (0.05 if step % 2 else 0)) for step in range(6)]
    dome = [(-0.5 * math.cos(turn * math.pi / 10), -0.06 - 0.4 * math.sin(turn * math.pi / 10)) for turn in range(11)]
    brush.shape(dome + rim[1:-1], colour)
    for x0, x1 in ((-0.3, -0.1), (0.1, 0.3)):
        brush.shape(
            [(0, -0.46), (x0, -0.01 if x0 < 0 else -0.06), (x1, -0.06 if x0 < 0 else -0.01)],
            lighter(colour, 0.4),
            line=False,
        )
    brush.stroke([(0, -0.46), (0, -0.5)], (70, 60, 70), 0.03)


def book(brush: Brush, colour: Colour) -> None:
    brush.shape([(-0.46, -0.26), (0, -0.2), (0.46, -0.26), (0.46, 0.3), (0, 0.36), (-0.46, 0.3)], colour)
    brush.shape([(-0.41, -0.28), (0, -0.2), (0, 0.3), (-0.41, 0.24)], PAPER)
    brush.shape([(0.41, -0.28), (0, -0.2), (0, 0.3), (0.41, 0.24)], darker(PAPER, 0.06))
    for row in range(4):
        y = -0.14 + row * 0.09
        brush.stroke([(-0.34, y - 0.02), (-0.07, y + 0.03)], (150, 140, 130), 0.018)
        brush.stroke([(0.07, y + 0.03), (0.34, y - 0.02)], (150, 140, 130), 0.018)


def flower(brush: Brush, colour: Colour) -> None:
    colour = colour if sum(colour) > 260 else (246, 152, 188)
    brush.stroke([(0, -0.1), (0.03, 0.2), (0, 0.5)], (66, 140, 66), 0.045)
    brush.blob([(0.02, 0.36), (0.2, 0.16), (0.26, 0.26)], (86, 170, 80))
    for turn in range(6):
        angle = turn * math.tau / 6
        brush.oval(0.2 * math.cos(angle), -0.2 + 0.2 * math.sin(angle), 0.15, 0.1, colour, angle=math.degrees(angle))
    brush.oval(0, -0.2, 0.11, 0.11, (250, 214, 70))


def balloon(brush: Brush, colour: Colour) -> None:
    brush.stroke([(0, 0.1), (0.05, 0.3), (-0.03, 0.5)], (110, 110, 120), 0.018)
    brush.blob([(0, -0.5), (0.29, -0.36), (0.31, -0.12), (0, 0.14), (-0.31, -0.12), (-0.29, -0.36)], colour)
    brush.shape([(0, 0.12), (0.05, 0.2), (-0.05, 0.2)], colour)
    brush.oval(-0.13, -0.3, 0.05, 0.09, lighter(colour, 0.7), line=False, angle=25)


def lantern(brush: Brush, colour: Colour) -> None:
    brush.stroke([(-0.18, -0.3), (0, -0.5), (0.18, -0.3)], (70, 60, 60), 0.035)
    brush.box(-0.22, -0.32, 0.22, -0.24, (96, 70, 50))
    brush.blob([(-0.22, -0.24), (0.22, -0.24), (0.3, 0.06), (0.22, 0.34), (-0.22, 0.34), (-0.3, 0.06)], (255, 190, 80))
    brush.oval(0, 0.06, 0.15, 0.2, (255, 238, 160), line=False)
    for x in (-0.12, 0.12):
        brush.stroke([(x, -0.22), (x * 1.3, 0.06), (x, 0.33)], (170, 96, 40), 0.02)
    brush.box(-0.22, 0.34, 0.22, 0.42, (96, 70, 50))


def guitar(brush: Brush, colour: Colour) -> None:
    brush.box(-0.04, -0.42, 0.04, 0.05, darker(WOOD))
    brush.box(-0.07, -0.5, 0.07, -0.4, darker(WOOD, 0.4))
    brush.blob(
        [
            (-0.16, 0.0),
            (0.16, 0.0),
            (0.13, 0.14),
            (0.24, 0.3),
            (0.14, 0.48),
            (-0.14, 0.48),
            (-0.24, 0.3),
            (-0.13, 0.14),
        ],
        (206, 130, 60),
    )
    brush.oval(0, 0.2, 0.075, 0.075, (60, 36, 26))
    brush.box(-0.09, 0.36, 0.09, 0.39, (60, 36, 26), line=False)
    for x in (-0.02, 0.0, 0.02):
        brush.stroke([(x, -0.42), (x, 0.37)], (236, 228, 214), 0.008)


def apple(brush: Brush, colour: Colour) -> None:
    brush.blob(
        [(0, -0.2), (0.22, -0.27), (0.38, -0.05), (0.26, 0.3), (0, 0.36), (-0.26, 0.3), (-0.38, -0.05), (-0.22, -0.27)],
        (214, 44, 44),
    )
    brush.oval(-0.18, -0.05, 0.06, 0.1, (255, 170, 160), line=False, angle=20)
    brush.stroke([(0, -0.2), (0.02, -0.32), (0.07, -0.42)], (96, 60, 36), 0.045)
    brush.blob([(0.05, -0.34), (0.22, -0.44), (0.3, -0.34), (0.16, -0.28)], (90, 170, 70))


def staff(brush: Brush, colour: Colour) -> None:
    brush.stroke([(0, -0.28), (0, 0.5)], WOOD, 0.05)
    brush.stroke([(-0.03, -0.2), (-0.14, -0.3), (-0.1, -0.44), (0.0, -0.47)], WOOD, 0.04)
    brush.stroke([(0.03, -0.2), (0.14, -0.3), (0.1, -0.44), (0.0, -0.47)], WOOD, 0.04)
    brush.oval(0, -0.33, 0.085, 0.085, (110, 220, 250))
    brush.oval(-0.025, -0.36, 0.025, 0.025, (255, 255, 255), line=False)


def teacup(brush: Brush, colour: Colour) -> None:
    brush.oval(0, 0.3, 0.42, 0.09, PAPER)
    brush.stroke([(0.26, -0.08), (0.44, -0.06), (0.4, 0.14), (0.22, 0.17)], mix(PAPER, colour, 0.5), 0.055)
    brush.blob(
        [(-0.32, -0.16), (0.32, -0.16), (0.28, 0.14), (0.13, 0.3), (-0.13, 0.3), (-0.28, 0.14)], lighter(colour, 0.3)
    )
    brush.oval(0, -0.16, 0.32, 0.075, PAPER)
    brush.oval(0, -0.15, 0.27, 0.055, (168, 96, 50), line=False)
    for x in (-0.1, 0.1):
        brush.stroke([(x, -0.26), (x + 0.05, -0.34), (x - 0.03, -0.41), (x + 0.02, -0.49)], (226, 226, 232), 0.03)


def cat(brush: Brush, colour: Colour) -> None:
    colour = FUR[sum(colour) % len(FUR)]
    brush.limb([(0.2, 0.4), (0.42, 0.34), (0.42, 0.06), (0.34, -0.04)], colour, 0.08)
    brush.blob([(0, -0.06), (0.2, 0.06), (0.26, 0.46), (-0.26, 0.46), (-0.2, 0.06)], colour)
    for side in (-1, 1):
        brush.shape([(side * 0.05, -0.36), (side * 0.24, -0.5), (side * 0.25, -0.2)], colour)
        brush.shape([(side * 0.11, -0.36), (side * 0.21, -0.43), (side * 0.22, -0.27)], (246, 170, 176), line=False)
    brush.oval(0, -0.18, 0.27, 0.22, colour)
    for side in (-1, 1):
        brush.oval(side * 0.11, -0.19, 0.05, 0.065, (236, 200, 60))
        brush.oval(side * 0.11, -0.19, 0.018, 0.055, (20, 20, 24), line=False)
        brush.oval(side * 0.1, 0.45, 0.09, 0.05, lighter(colour, 0.3))
        for lift in (-0.02, 0.03):
            brush.stroke([(side * 0.12, -0.09), (side * 0.36, -0.1 + lift)], lighter(colour, 0.75), 0.012)
    brush.shape([(-0.03, -0.12), (0.03, -0.12), (0, -0.085)], (240, 130, 140), line=False)
    brush.stroke([(-0.06, -0.06), (-0.02, -0.04), (0, -0.08), (0.02, -0.04), (0.06, -0.06)], darker(colour, 0.6), 0.014)


FUR: tuple[Colour, ...] = ((70, 66, 76), (226, 150, 76), (240, 236, 230), (150, 146, 150))
FEATHERS: tuple[Colour, ...] = ((80, 150, 226), (240, 206, 70), (226, 84, 72), (110, 190, 110))


def bird(brush: Brush, colour: Colour) -> None:
    colour = FEATHERS[sum(colour) % len(FEATHERS)]
    brush.shape([(-0.24, 0.1), (-0.5, 0.02), (-0.48, 0.16), (-0.22, 0.24)], darker(colour))
    for x in (-0.02, 0.1):
        brush.stroke([(x, 0.28), (x, 0.46), (x + 0.08, 0.47)], (226, 150, 50), 0.03)
    brush.blob(
        [
            (-0.3, 0.1),
            (-0.05, -0.1),
            (0.05, -0.3),
            (0.24, -0.38),
            (0.38, -0.24),
            (0.32, 0.1),
            (0.12, 0.32),
            (-0.12, 0.3),
        ],
        colour,
    )
    brush.blob([(0.08, 0.0), (0.28, 0.04), (0.14, 0.28), (0.02, 0.24)], lighter(colour, 0.6), line=False)
    brush.blob([(-0.26, 0.1), (0.02, -0.06), (0.08, 0.1), (-0.14, 0.24)], darker(colour, 0.3))
    brush.shape([(0.36, -0.26), (0.5, -0.18), (0.36, -0.14)], (244, 170, 50))
    brush.oval(0.24, -0.24, 0.035, 0.04, (20, 20, 24), line=False)
    brush.oval(0.25, -0.255, 0.012, 0.012, (255, 255, 255), line=False)


def cake(brush: Brush, colour: Colour) -> None:
    brush.oval(0, 0.36, 0.48, 0.1, PAPER)
    brush.shape(
        [(-0.36, -0.02), (0.36, -0.02), (0.36, 0.32), (0.2, 0.39), (-0.2, 0.39), (-0.36, 0.32)], (240, 206, 150)
    )
    brush.stroke([(-0.35, 0.19), (0, 0.24), (0.35, 0.19)], (226, 90, 110), 0.06)
    drip = [
        (-0.36, -0.04),
        (-0.36, 0.08),
        (-0.24, 0.13),
        (-0.13, 0.06),
        (0, 0.15),
        (0.12, 0.06),
        (0.25, 0.12),
        (0.36, 0.06),
        (0.36, -0.04),
    ]
    brush.blob(drip, (255, 246, 240))
    brush.oval(0, -0.04, 0.36, 0.09, (255, 250, 246))
    for x in (-0.2, 0.2):
        brush.blob([(x, 0.0), (x - 0.08, -0.12), (x, -0.16), (x + 0.08, -0.12)], (224, 50, 60))
    brush.box(-0.025, -0.32, 0.025, -0.06, lighter(colour, 0.4))
    brush.blob([(0, -0.48), (0.05, -0.38), (0, -0.32), (-0.05, -0.38)], (255, 180, 60), line=False)


def clock(brush: Brush, colour: Colour) -> None:
    for side in (-1, 1):
        brush.oval(side * 0.24, -0.36, 0.14, 0.1, GOLD, angle=side * 35)
        brush.limb([(side * 0.22, 0.32), (side * 0.3, 0.46)], GOLD, 0.05)
    brush.oval(0, 0, 0.4, 0.4, colour)
    brush.oval(0, 0, 0.32, 0.32, PAPER)
    for hour in range(12):
        angle = hour * math.tau / 12
        brush.stroke(
            [(0.26 * math.cos(angle), 0.26 * math.sin(angle)), (0.3 * math.cos(angle), 0.3 * math.sin(angle))],
            (60, 56, 60),
            0.025,
        )
    brush.stroke([(0, 0), (0.0, -0.24)], (40, 36, 44), 0.035)
    brush.stroke([(0, 0), (0.16, 0.08)], (40, 36, 44), 0.045)
    brush.oval(0, 0, 0.035, 0.035, (200, 50, 50), line=False)


THINGS: dict[str, Callable[[Brush, Colour], None]] = {
    "sword": sword,
    "umbrella": umbrella,
    "book": book,
    "flower": flower,
    "balloon": balloon,
    "lantern": lantern,
    "guitar": guitar,
    "apple": apple,
    "staff": staff,
    "teacup": teacup,
    "cat": cat,
    "bird": bird,
    "cake": cake,
    "clock": clock,
}
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


def _star(points: int, inner: float, turn: float = -90.0) -> list[Point]:
    out = []
    for step in range(points * 2):
        angle, radius = math.radians(turn + step * 180 / points), 0.48 if step % 2 == 0 else inner
        out.append((radius * math.cos(angle), radius * math.sin(angle)))
    return out


def emblem(brush: Brush, kind: str, colours: tuple[Colour, Colour]) -> None:
    """A series' sign in its two colours: the sign itself, and the disc it stands on."""
    sign, ground = colours
    brush.oval(0, 0, 0.5, 0.5, ground)
    inside = brush.at(0, 0, 0.78)
    inside.width = 0.0
    if kind in ("flame", "ringed flame"):
        if kind == "ringed flame":
            inside.oval(0, 0, 0.56, 0.56, lighter(sign, 0.6))
            inside.oval(0, 0, 0.44, 0.44, ground)
        size = 0.72 if kind == "ringed flame" else 1.0
        flame = inside.at(0, 0, size)
        flame.blob(
            [(0, -0.5), (0.14, -0.2), (0.32, 0.08), (0.2, 0.42), (-0.2, 0.42), (-0.32, 0.08), (-0.1, -0.12)], sign
        )
        flame.blob([(0, -0.05), (0.12, 0.18), (0, 0.38), (-0.12, 0.18)], ground)
    elif kind == "star":
        inside.shape(_star(5, 0.2), sign)
    elif kind == "leaf":
        inside.blob([(0, -0.5), (0.3, -0.1), (0.18, 0.3), (0, 0.46), (-0.18, 0.3), (-0.3, -0.1)], sign)
        inside.stroke([(0, -0.3), (0, 0.5)], ground, 0.07)
    elif kind == "heart":
        inside.blob(
            [
                (0, 0.46),
                (-0.42, 0.0),
                (-0.34, -0.34),
                (-0.12, -0.36),
                (0, -0.18),
                (0.12, -0.36),
                (0.34, -0.34),
                (0.42, 0.0),
            ],
            sign,
        )
    elif kind == "gear":
        inside.shape(_star(9, 0.34), sign)
        inside.oval(0, 0, 0.17, 0.17, ground)
    elif kind == "bolt":
        inside.shape([(0.1, -0.5), (-0.28, 0.06), (-0.02, 0.06), (-0.12, 0.5), (0.28, -0.1), (0.02, -0.1)], sign)
    elif kind == "snowflake":
        for turn in range(3):
            angle = turn * math.pi / 3 + math.pi / 2
            inside.stroke(
                [(0.46 * math.cos(angle), 0.46 * math.sin(angle)), (-0.46 * math.cos(angle), -0.46 * math.sin(angle))],
                sign,
                0.11,
            )
        inside.oval(0, 0, 0.15, 0.15, sign)
    elif kind == "crescent":
        inside.oval(0, 0, 0.44, 0.44, sign)
        inside.oval(0.18, -0.08, 0.36, 0.36, ground)
    elif kind == "drop":
        inside.blob(
            [(0, -0.5), (0.12, -0.2), (0.3, 0.12), (0.18, 0.42), (-0.18, 0.42), (-0.3, 0.12), (-0.12, -0.2)], sign
        )
    elif kind == "eye":
        inside.blob([(-0.5, 0), (-0.2, -0.28), (0.2, -0.28), (0.5, 0), (0.2, 0.28), (-0.2, 0.28)], sign)
        inside.oval(0, 0, 0.17, 0.22, ground)
    elif kind == "hourglass":
        inside.shape([(-0.34, -0.44), (0.34, -0.44), (0.05, 0), (0.34, 0.44), (-0.34, 0.44), (-0.05, 0)], sign)
    elif kind == "blossom":
        for turn in range(5):
            angle = turn * math.tau / 5 - math.pi / 2
            inside.oval(0.26 * math.cos(angle), 0.26 * math.sin(angle), 0.19, 0.19, sign)
        inside.oval(0, 0, 0.12, 0.12, (255, 236, 150))
