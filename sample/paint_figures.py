"""Characters. Units are head radii, (0, 0) is the middle of the head, y points down; the feet stand at about 6.2."""

from __future__ import annotations

from sample.brush import Brush, Point, darker, lighter, mix
from sample.paint_things import GRIPS, THINGS, emblem
from sample.picture import Figure
from sample.world import CLOTH_COLOURS, EYE_COLOURS, HAIR_COLOURS, SKIN_TONES, Colour, Look

HIP, FEET = 3.25, 6.0
SHOULDER = (0.78, 1.5)


def paint_figure(brush: Brush, figure: Figure, look: Look) -> None:
    """One character, from the back to the front."""
    ink = figure_colours(figure)
    lift = -0.35 if figure.pose == "jumping" else 0.0
    if figure.pose == "jumping":
        brush.oval(0, FEET + 0.25, 1.1, 0.16, (90, 86, 100), line=False)
    if figure.pose == "sitting":
        _stool(brush)
    body = brush.at(0, lift)
    if figure.held == "umbrella" and not figure.behind:
        _held(body, figure)
    if "cape" in figure.extras:
        _cape(body, ink["second"] if figure.outfit != "armor" else ink["first"], figure.pose)
    if not figure.behind:
        _hair_behind(body, figure, ink["hair"])
    _legs(body, figure, ink)
    _torso(body, figure, ink, look)
    _arms(body, figure, ink)
    if figure.held and figure.held != "umbrella":
        _held(body, figure)
        x, y = _hand(figure)
        body.oval(x, y, 0.2, 0.19, ink["glove"] if "gloves" in figure.extras else ink["skin"])
    if "scarf" in figure.extras:
        body.blob([(-0.62, 1.1), (0, 1.24), (0.62, 1.1), (0.68, 1.4), (0, 1.6), (-0.68, 1.4)], ink["scarf"])
        body.blob([(0.3, 1.45), (0.56, 1.4), (0.64, 2.3), (0.34, 2.34)], ink["scarf"])
    _head(body, figure, ink, look)


def figure_colours(figure: Figure) -> dict[str, Colour]:
    """The colours of one character, by part."""
    first, second = (CLOTH_COLOURS[name] for name in figure.colours)
    return {
        "hair": HAIR_COLOURS[figure.hair],
        "skin": SKIN_TONES[figure.skin],
        "eyes": EYE_COLOURS[figure.eyes],
        "first": first,
        "second": second,
        "scarf": second if sum(abs(a - b) for a, b in zip(first, second)) > 150 else (206, 60, 60),
        "glove": (70, 60, 66),
        "shoe": (84, 56, 48),
    }


def _hand(figure: Figure) -> Point:
    return {"hold": (1.32, 2.02), "up": (1.35, -0.6), "wave": (1.5, 0.1), "hip": (0.75, 2.85), "down": (1.12, 3.15)}[
        figure.arms
    ]


def _stool(brush: Brush) -> None:
    for side in (-1, 1):
        brush.limb([(side * 0.85, HIP + 0.3), (side * 1.0, FEET + 0.2)], (140, 96, 62), 0.16)
    brush.shape([(-1.15, HIP + 0.12), (1.15, HIP + 0.12), (1.05, HIP + 0.45), (-1.05, HIP + 0.45)], (176, 124, 78))


def _held(brush: Brush, figure: Figure) -> None:
    grip, size, angle = GRIPS[figure.held]
    in_hand = brush.at(*_hand(figure), size, angle).at(-grip[0], -grip[1])
    colours = [CLOTH_COLOURS[name] for name in ("red", "blue", "yellow", "purple", "green", "pink")]
    THINGS[figure.held](in_hand, colours[(len(figure.hair) * 7 + figure.skin + len(figure.outfit)) % len(colours)])


def _cape(brush: Brush, colour: Colour, pose: str) -> None:
    low = HIP + 1.9 if pose != "sitting" else HIP + 1.0
    brush.blob(
        [
            (-0.7, 1.25),
            (0.7, 1.25),
            (1.35, 2.6),
            (1.6, low),
            (0.5, low + 0.15),
            (-0.5, low + 0.15),
            (-1.6, low),
            (-1.35, 2.6),
        ],
        darker(colour, 0.1),
    )


def _hair_behind(brush: Brush, figure: Figure, hair: Colour) -> None:
    shade = darker(hair, 0.16)
    if figure.style == "long":
        brush.blob(
            [
                (0, -1.12),
                (0.95, -0.7),
                (1.22, 0.4),
                (1.3, 1.8),
                (1.15, 3.0),
                (0.5, 3.2),
                (0, 3.0),
                (-0.5, 3.2),
                (-1.15, 3.0),
                (-1.3, 1.8),
                (-1.22, 0.4),
                (-0.95, -0.7),
            ],
            shade,
        )
    elif figure.style == "twintails":
        for side in (-1, 1):
            brush.blob(
                [
                    (side * 0.75, -0.75),
                    (side * 1.45, -0.7),
                    (side * 1.95, 0.4),
                    (side * 1.85, 1.8),
                    (side * 1.5, 2.6),
                    (side * 1.35, 1.5),
                    (side * 1.15, 0.3),
                ],
                shade,
            )
    elif figure.style == "ponytail":
        brush.blob([(0.4, -1.0), (1.2, -1.35), (1.9, -0.6), (2.0, 0.8), (1.5, 2.1), (1.45, 0.7), (1.1, -0.2)], shade)
    elif figure.style == "braid":
        brush.blob([(0, -1.12), (0.95, -0.7), (1.1, 0.3), (0.8, 1.0), (-0.8, 1.0), (-1.1, 0.3), (-0.95, -0.7)], shade)
    elif figure.style == "bun":
        brush.oval(0, -1.3, 0.52, 0.48, hair)
        brush.stroke([(-0.3, -1.2), (0, -1.05), (0.3, -1.2)], darker(hair, 0.3), 0.07)
    if figure.style in ("short", "bun"):
        brush.blob(
            [
                (0, -1.12),
                (0.98, -0.7),
                (1.14, 0.2),
                (1.0, 0.85),
                (0.5, 1.0),
                (-0.5, 1.0),
                (-1.0, 0.85),
                (-1.14, 0.2),
                (-0.98, -0.7),
            ],
            shade,
        )


def _legs(brush: Brush, figure: Figure, ink: dict[str, Colour]) -> None:
    trousers = figure.outfit in ("shirt and pants", "hoodie") or (figure.outfit == "school uniform" and not figure.girl)
    colour = ink["second"] if trousers else ink["skin"]
    if figure.outfit == "overalls":
        colour = ink["first"]
    elif figure.outfit == "armor":
        colour = mix((200, 206, 218), ink["first"], 0.35)
    elif figure.outfit == "coat":
        colour = (66, 62, 74)
    width = 0.52 if figure.outfit in ("overalls", "hoodie", "shirt and pants") else 0.42
    if figure.pose == "sitting":
        paths = [[(side * 0.38, HIP - 0.1), (side * 0.62, HIP + 0.5), (side * 0.6, HIP + 1.95)] for side in (-1, 1)]
    elif figure.pose == "jumping":
        paths = [
            [(-0.38, HIP), (-0.75, HIP + 0.85), (-0.4, HIP + 1.75)],
            [(0.38, HIP), (0.95, HIP + 0.7), (1.3, HIP + 1.4)],
        ]
    else:
        paths = [[(side * 0.38, HIP), (side * 0.42, HIP + 1.3), (side * 0.42, FEET - 0.15)] for side in (-1, 1)]
    for path in paths:
        brush.limb(path, colour, width)
        x, y = path[-1]
        side = 1 if x > 0 else -1
        brush.blob(
            [
                (x - 0.24, y - 0.12),
                (x + 0.24, y - 0.12),
                (x + 0.3 + 0.08 * side, y + 0.2),
                (x - 0.3 + 0.08 * side, y + 0.2),
            ],
            ink["shoe"],
        )


def _torso(brush: Brush, figure: Figure, ink: dict[str, Colour], look: Look) -> None:
    wide = 0.84 if figure.girl else 0.95
    waist = 0.62 if figure.girl else 0.8
    brush.limb([(0, 0.85), (0, 1.4)], darker(ink["skin"], 0.1), 0.42)
    low = HIP + 0.15
    upper = [
        (-0.3, 1.2),
        (0.3, 1.2),
        (wide, 1.42),
        (waist + 0.1, 2.4),
        (0.75, low),
        (-0.75, low),
        (-waist - 0.1, 2.4),
        (-wide, 1.42),
    ]
    TORSOS[figure.outfit](brush, upper, figure, ink)
    if figure.emblem and look.emblem and not figure.behind:
        emblem(
            brush.at(0.0 if figure.outfit not in ("coat", "kimono") else 0.48, 2.0, 0.62),
            look.emblem,
            look.emblem_colours,
        )
    if "necktie" in figure.extras and not figure.behind:
        brush.shape(
            [(-0.13, 1.32), (0.13, 1.32), (0.08, 1.5), (0.18, 2.35), (0, 2.55), (-0.18, 2.35), (-0.08, 1.5)],
            (186, 40, 52),
        )
    if look.shading == "cel":
        brush.shape(
            [
                (-wide * 0.98, 1.5),
                (-wide * 0.6, 1.55),
                (-waist * 0.7, 2.4),
                (-0.5, low),
                (-0.74, low),
                (-waist - 0.1, 2.4),
            ],
            darker(ink["first"], 0.26),
            line=False,
        )


def _skirt(brush: Brush, colour: Colour, low: float, pleats: int = 0, flare: float = 1.25, top: float = 2.75) -> None:
    brush.shape(
        [(-0.68, top), (0.68, top), (flare, low), (flare * 0.4, low + 0.1), (-flare * 0.4, low + 0.1), (-flare, low)],
        colour,
    )
    for fold in range(1, pleats):
        share = fold / pleats * 2 - 1
        brush.stroke([(share * 0.66, top + 0.1), (share * flare, low)], darker(colour, 0.35), 0.05)


def _shirt(brush: Brush, upper: list[Point], figure: Figure, ink: dict[str, Colour]) -> None:
    brush.shape(upper, ink["first"])
    if not figure.behind:
        for side in (-1, 1):
            brush.shape(
                [(0, 1.5), (side * 0.14, 1.16), (side * 0.42, 1.22), (side * 0.34, 1.56)], lighter(ink["first"], 0.25)
            )
        brush.stroke([(0, 1.5), (0, 3.2)], darker(ink["first"], 0.35), 0.04)
        for row in range(3):
            brush.oval(0.1, 1.8 + row * 0.45, 0.05, 0.05, darker(ink["first"], 0.5), line=False)
    if figure.outfit == "shirt and skirt":
        _skirt(brush, ink["second"], 4.2)


def _dress(brush: Brush, upper: list[Point], figure: Figure, ink: dict[str, Colour]) -> None:
    brush.shape(upper, ink["skin"])
    brush.shape(
        [(-0.58, 1.75), (-0.2, 1.85), (0.2, 1.85), (0.58, 1.75), (0.66, 2.4), (0.64, 2.8), (-0.64, 2.8), (-0.66, 2.4)],
        ink["first"],
    )
    for side in (-1, 1):
        brush.stroke([(side * 0.45, 1.85), (side * 0.38, 1.28)], ink["first"], 0.1)
    _skirt(brush, ink["first"], 4.75, flare=1.5)
    brush.shape([(-1.42, 4.5), (1.42, 4.5), (1.5, 4.75), (0.6, 4.85), (-0.6, 4.85), (-1.5, 4.75)], ink["second"])
    brush.box(-0.68, 2.62, 0.68, 2.86, ink["second"])


def _uniform(brush: Brush, upper: list[Point], figure: Figure, ink: dict[str, Colour]) -> None:
    brush.shape(upper, ink["first"])
    if figure.girl:
        _skirt(brush, ink["second"], 4.25, pleats=7)
    collar = ink["second"]
    if figure.behind:
        return
    for side in (-1, 1):
        brush.shape([(side * 0.25, 1.16), (side * 0.82, 1.4), (side * 0.7, 1.85), (0, 2.2), (side * 0.1, 1.75)], collar)
        brush.stroke([(side * 0.7, 1.5), (side * 0.58, 1.78), (side * 0.08, 2.03)], (250, 250, 250), 0.05, curved=False)
    brush.shape([(0, 2.12), (-0.42, 2.5), (-0.1, 2.42), (0, 2.2), (0.1, 2.42), (0.42, 2.5)], (214, 50, 60))
    brush.oval(0, 2.16, 0.13, 0.11, (214, 50, 60))


def _hoodie(brush: Brush, upper: list[Point], figure: Figure, ink: dict[str, Colour]) -> None:
    brush.blob(
        [(-0.85, 1.45), (-0.55, 1.0), (0.55, 1.0), (0.85, 1.45), (0.4, 1.75), (-0.4, 1.75)], darker(ink["first"], 0.15)
    )
    brush.shape([(-0.35, 1.45), (0.35, 1.45), *upper[2:]], ink["first"])
    brush.box(-0.78, HIP - 0.1, 0.78, HIP + 0.2, darker(ink["first"], 0.2))
    if not figure.behind:
        brush.shape([(-0.45, 2.6), (0.45, 2.6), (0.62, 3.1), (-0.62, 3.1)], darker(ink["first"], 0.12))
        for side in (-1, 1):
            brush.stroke([(side * 0.2, 1.6), (side * 0.24, 2.3)], (244, 244, 240), 0.07)


def _coat(brush: Brush, upper: list[Point], figure: Figure, ink: dict[str, Colour]) -> None:
    brush.shape([*upper[:4], (1.2, 4.7), (-1.2, 4.7), *upper[6:]], ink["first"])
    if figure.behind:
        return
    brush.shape([(-0.22, 1.2), (0.22, 1.2), (0, 2.3)], (250, 248, 244))
    for side in (-1, 1):
        brush.shape([(side * 0.2, 1.14), (side * 0.62, 1.24), (side * 0.56, 1.8), (0, 2.5)], ink["second"])
    brush.stroke([(0, 2.5), (0, 4.65)], darker(ink["first"], 0.4), 0.05)
    brush.box(-0.72, 2.72, 0.72, 2.96, (96, 66, 46))
    brush.box(-0.16, 2.68, 0.16, 3.0, (236, 196, 90))


def _kimono(brush: Brush, upper: list[Point], figure: Figure, ink: dict[str, Colour]) -> None:
    low = 5.5 if figure.pose != "sitting" else 4.3
    brush.shape([*upper[:4], (0.95, low), (-0.95, low), *upper[6:]], ink["first"])
    if not figure.behind:
        brush.shape([(-0.3, 1.14), (0.3, 1.14), (0.0, 1.8)], ink["skin"])
        brush.stroke([(-0.34, 1.14), (0.12, 2.4)], (250, 248, 244), 0.16)
        brush.stroke([(0.34, 1.14), (-0.2, 2.4)], (250, 248, 244), 0.16)
        brush.stroke([(0.1, 3.0), (0.3, low)], darker(ink["first"], 0.3), 0.05)
    brush.box(-0.76, 2.35, 0.76, 3.0, ink["second"])
    brush.stroke([(-0.74, 2.68), (0.74, 2.68)], lighter(ink["second"], 0.5), 0.1)


def _armor(brush: Brush, upper: list[Point], figure: Figure, ink: dict[str, Colour]) -> None:
    metal = mix((206, 212, 224), ink["first"], 0.35)
    _skirt(brush, ink["second"], 4.0, pleats=4, flare=1.1)
    brush.shape(upper, metal)
    brush.blob([(-0.7, 1.5), (0.7, 1.5), (0.66, 2.1), (0, 2.4), (-0.66, 2.1)], lighter(metal, 0.4))
    brush.stroke([(0, 1.5), (0, 2.36)], darker(metal, 0.3), 0.05)
    for row in (2.6, 2.9):
        brush.stroke([(-0.72, row), (0, row + 0.1), (0.72, row)], darker(metal, 0.35), 0.06)


def _overalls(brush: Brush, upper: list[Point], figure: Figure, ink: dict[str, Colour]) -> None:
    brush.shape(upper, ink["second"])
    brush.shape(
        [(-0.52, 1.95), (0.52, 1.95), (0.74, 2.5), (0.78, HIP + 0.3), (-0.78, HIP + 0.3), (-0.74, 2.5)], ink["first"]
    )
    for side in (-1, 1):
        brush.stroke([(side * 0.4, 2.05), (side * 0.55, 1.3)], ink["first"], 0.2)
        brush.oval(side * 0.4, 2.06, 0.09, 0.09, (240, 200, 80))
    if not figure.behind:
        brush.box(-0.25, 2.35, 0.25, 2.75, darker(ink["first"], 0.15))


TORSOS = {
    "shirt and skirt": _shirt,
    "shirt and pants": _shirt,
    "dress": _dress,
    "school uniform": _uniform,
    "hoodie": _hoodie,
    "coat": _coat,
    "kimono": _kimono,
    "armor": _armor,
    "overalls": _overalls,
}


def _arms(brush: Brush, figure: Figure, ink: dict[str, Colour]) -> None:
    sleeve = {"dress": ink["skin"], "armor": mix((206, 212, 224), ink["first"], 0.35), "overalls": ink["second"]}.get(
        figure.outfit, ink["first"]
    )
    short = figure.outfit in ("shirt and skirt", "overalls") and figure.girl
    for side in (-1, 1):
        path = _arm_path(figure.arms if side == 1 or figure.arms == "up" else "down", side)
        width = 0.36 if figure.girl else 0.42
        if short:
            brush.limb(path, ink["skin"], width - 0.06)
            middle = ((path[0][0] + path[1][0]) / 2, (path[0][1] + path[1][1]) / 2)
            brush.limb([path[0], middle], sleeve, width + 0.08)
        elif figure.outfit == "kimono":
            (x0, y0), (x1, y1), (x2, y2) = path
            brush.limb(path, ink["skin"], width - 0.06)
            drop = 0.75
            brush.shape(
                [
                    (x0 - side * 0.1, y0 - 0.18),
                    (x1 + side * 0.1, y1 - 0.2),
                    ((x1 + x2) / 2 + side * 0.16, (y1 + y2) / 2 - 0.16),
                    ((x1 + x2) / 2 + side * 0.05, (y1 + y2) / 2 + drop),
                    (x1 - side * 0.1, y1 + drop * 0.8),
                    (x0 - side * 0.06, y0 + 0.5),
                ],
                sleeve,
            )
        else:
            brush.limb(path, sleeve, width)
        hand = ink["glove"] if "gloves" in figure.extras else ink["skin"]
        x, y = path[-1]
        if "gloves" in figure.extras:
            ax, ay = path[1]
            brush.limb([(x + (ax - x) * 0.35, y + (ay - y) * 0.35), (x, y)], hand, width)
        brush.oval(x, y, 0.2, 0.2, hand)
        if figure.arms == "wave" and side == 1:
            for spread in (-0.16, -0.05, 0.06, 0.17):
                brush.limb([(x + spread * 0.7, y - 0.1), (x + spread * 1.5, y - 0.36)], hand, 0.09)
        if figure.outfit == "armor":
            brush.blob(
                [(side * 0.6, 1.3), (side * 0.95, 1.18), (side * 1.3, 1.5), (side * 1.15, 1.95), (side * 0.7, 1.75)],
                lighter(sleeve, 0.4),
            )


def _arm_path(arms: str, side: int) -> list[Point]:
    x, y = SHOULDER
    end = {
        "hold": [(1.25, 2.45), (1.32, 2.02)],
        "up": [(1.45, 0.75), (1.35, -0.6)],
        "wave": [(1.5, 1.3), (1.5, 0.1)],
        "hip": [(1.5, 2.35), (0.78, 2.85)],
        "down": [(1.08, 2.35), (1.12, 3.15)],
    }[arms]
    return [(side * x, y + 0.1), *((side * px, py) for px, py in end)]


def _head(brush: Brush, figure: Figure, ink: dict[str, Colour], look: Look) -> None:
    if figure.behind:
        _back_of_head(brush, figure, ink["hair"])
    else:
        for side in (-1, 1):
            brush.oval(side * 0.98, 0.12, 0.15, 0.2, ink["skin"])
        brush.blob(
            [
                (0, -1.0),
                (0.8, -0.72),
                (1.0, 0.05),
                (0.82, 0.62),
                (0.3, 1.0),
                (0, 1.06),
                (-0.3, 1.0),
                (-0.82, 0.62),
                (-1.0, 0.05),
                (-0.8, -0.72),
            ],
            ink["skin"],
        )
        _face(brush, figure, ink)
        _fringe(brush, figure, ink["hair"], look)
        if "eyepatch" in figure.extras:
            brush.stroke([(-0.95, -0.45), (0.98, 0.3)], (40, 36, 44), 0.07)
            brush.blob([(0.16, -0.02), (0.72, -0.02), (0.72, 0.3), (0.44, 0.46), (0.16, 0.3)], (40, 36, 44))
        if "glasses" in figure.extras:
            for side in (-1, 1):
                brush.stroke(
                    [
                        (side * 0.42 + 0.33 * x, 0.2 + 0.3 * y)
                        for x, y in (
                            (1, 0),
                            (0.7, 0.7),
                            (0, 1),
                            (-0.7, 0.7),
                            (-1, 0),
                            (-0.7, -0.7),
                            (0, -1),
                            (0.7, -0.7),
                            (1, 0),
                        )
                    ],
                    (50, 44, 60),
                    0.07,
                )
            brush.stroke([(-0.1, 0.18), (0.1, 0.18)], (50, 44, 60), 0.07)
    if figure.headwear:
        HEADWEAR[figure.headwear](brush, ink)


def _back_of_head(brush: Brush, figure: Figure, hair: Colour) -> None:
    long = figure.style == "long"
    low = 3.0 if long else 0.95
    brush.blob(
        [
            (0, -1.15),
            (0.9, -0.78),
            (1.12, 0.1),
            (1.1 if long else 0.9, low * 0.75),
            (0.5, low),
            (0, low * 0.97),
            (-0.5, low),
            (-1.1 if long else -0.9, low * 0.75),
            (-1.12, 0.1),
            (-0.9, -0.78),
        ],
        hair,
    )
    for x in (-0.5, -0.1, 0.35):
        brush.stroke([(x * 0.6, -0.8), (x, 0.1), (x * 1.1, low * 0.8)], darker(hair, 0.25), 0.05)
    if figure.style == "bun":
        brush.oval(0, -1.05, 0.52, 0.48, hair)
    elif figure.style == "ponytail":
        brush.blob([(-0.25, -0.5), (0.25, -0.5), (0.5, 0.8), (0.2, 2.6), (-0.2, 2.6), (-0.5, 0.8)], lighter(hair, 0.1))
        brush.oval(0, -0.5, 0.26, 0.16, (206, 50, 60))
    elif figure.style == "braid":
        _braid(brush, hair, 0.0, 0.6)
    elif figure.style == "twintails":
        for side in (-1, 1):
            brush.blob(
                [(side * 0.8, -0.6), (side * 1.45, -0.6), (side * 1.9, 0.5), (side * 1.7, 2.3), (side * 1.3, 1.2)], hair
            )
    elif figure.style == "spiky":
        brush.shape(
            [
                (-1.1, 0.4),
                (-1.35, -0.2),
                (-1.05, -0.4),
                (-1.2, -1.0),
                (-0.65, -0.95),
                (-0.4, -1.5),
                (0.05, -1.1),
                (0.5, -1.55),
                (0.7, -0.95),
                (1.25, -1.0),
                (1.05, -0.35),
                (1.35, -0.1),
                (1.1, 0.4),
            ],
            hair,
        )


def _face(brush: Brush, figure: Figure, ink: dict[str, Colour]) -> None:
    hair = darker(ink["hair"], 0.35) if figure.hair != "white" else (150, 150, 166)
    for side in (-1, 1):
        x = side * 0.42
        if figure.eyes_closed:
            brush.stroke([(x - 0.25, 0.16), (x - 0.1, 0.3), (x + 0.1, 0.3), (x + 0.25, 0.16)], (44, 30, 44), 0.09)
        else:
            tall = 0.34 if figure.girl else 0.26
            brush.oval(x, 0.2, 0.25, tall, (255, 255, 255), line=False)
            brush.oval(x, 0.22, 0.2, tall * 0.92, ink["eyes"], line=False)
            brush.oval(x, 0.12, 0.19, tall * 0.55, darker(ink["eyes"], 0.35), line=False)
            brush.oval(x, 0.22, 0.09, tall * 0.45, (22, 18, 30), line=False)
            brush.oval(x - 0.07, 0.08, 0.07, 0.08, (255, 255, 255), line=False)
            lash = 0.11 if figure.girl else 0.08
            brush.stroke([(x - 0.27, 0.14), (x - 0.1, -0.14), (x + 0.1, -0.14), (x + 0.27, 0.14)], (40, 26, 40), lash)
            if figure.girl:
                brush.stroke([(x + side * 0.25, 0.1), (x + side * 0.38, 0.06)], (40, 26, 40), 0.06)
        inner, outer = (-0.2, -0.42) if figure.mouth == "frown" else (-0.38, -0.32)
        brush.stroke(
            [(x - side * 0.2, inner), (x, -0.41), (x + side * 0.22, outer)], hair, 0.06 if figure.girl else 0.1
        )
        if figure.blush:
            brush.oval(side * 0.62, 0.52, 0.2, 0.12, (250, 120, 120), line=False)
            for shift in (-0.1, 0, 0.1):
                brush.stroke(
                    [(side * 0.62 + shift - 0.03, 0.58), (side * 0.62 + shift + 0.03, 0.46)], (226, 70, 84), 0.035
                )
    brush.stroke([(0.0, 0.42), (0.04, 0.5)], darker(ink["skin"], 0.3), 0.05)
    if figure.mouth == "smile":
        brush.stroke([(-0.26, 0.68), (-0.1, 0.8), (0.1, 0.8), (0.26, 0.68)], (120, 40, 50), 0.065)
    elif figure.mouth == "open smile":
        brush.blob([(-0.3, 0.64), (0, 0.68), (0.3, 0.64), (0.18, 0.88), (0, 0.94), (-0.18, 0.88)], (150, 36, 48))
        brush.oval(0, 0.87, 0.12, 0.06, (244, 130, 130), line=False)
    elif figure.mouth == "open":
        brush.oval(0, 0.77, 0.13, 0.17, (150, 36, 48))
    else:
        brush.stroke([(-0.22, 0.82), (-0.08, 0.72), (0.08, 0.72), (0.22, 0.82)], (120, 40, 50), 0.065)


def _fringe(brush: Brush, figure: Figure, hair: Colour, look: Look) -> None:
    if figure.style == "spiky":
        brush.shape(
            [
                (-1.08, 0.3),
                (-1.4, -0.1),
                (-1.08, -0.35),
                (-1.35, -0.9),
                (-0.8, -0.9),
                (-0.65, -1.5),
                (-0.15, -1.15),
                (0.3, -1.65),
                (0.55, -1.1),
                (1.2, -1.2),
                (1.05, -0.6),
                (1.45, -0.35),
                (1.1, -0.05),
                (1.08, 0.3),
                (0.9, -0.2),
                (0.62, 0.05),
                (0.45, -0.35),
                (0.12, 0.0),
                (-0.08, -0.38),
                (-0.42, 0.05),
                (-0.6, -0.35),
                (-0.92, -0.1),
            ],
            hair,
        )
    else:
        brush.shape(
            [
                *smooth_cap(),
                (0.92, 0.15),
                (0.8, -0.32),
                (0.5, -0.1),
                (0.36, -0.5),
                (0.05, -0.12),
                (-0.15, -0.5),
                (-0.45, -0.08),
                (-0.6, -0.42),
                (-0.86, 0.1),
            ],
            hair,
        )
        if figure.style != "bun":
            for side in (-1, 1):
                brush.blob(
                    [
                        (side * 0.98, -0.3),
                        (side * 1.14, 0.2),
                        (side * 1.02, 0.9),
                        (side * 0.86, 0.55),
                        (side * 0.84, 0.0),
                    ],
                    hair,
                )
    if look.shading != "flat":
        brush.stroke([(-0.62, -0.72), (-0.2, -0.88), (0.25, -0.87), (0.62, -0.7)], lighter(hair, 0.45), 0.1)
    if figure.style == "twintails":
        for side in (-1, 1):
            brush.oval(side * 0.98, -0.72, 0.2, 0.24, (226, 60, 80))
    elif figure.style == "ponytail":
        brush.oval(0.66, -1.02, 0.24, 0.18, (226, 60, 80))
    elif figure.style == "braid":
        _braid(brush, hair, -0.95, 0.85)


def smooth_cap() -> list[Point]:
    """The upper edge of a head of hair, from the left ear to the right."""
    return [
        (-1.06, 0.3),
        (-1.16, -0.15),
        (-1.06, -0.6),
        (-0.78, -0.98),
        (-0.4, -1.18),
        (0, -1.24),
        (0.4, -1.18),
        (0.78, -0.98),
        (1.06, -0.6),
        (1.16, -0.15),
        (1.06, 0.3),
    ]


def _braid(brush: Brush, hair: Colour, x: float, top: float) -> None:
    for link in range(6):
        brush.oval(
            x + (0.05 if link % 2 else -0.05),
            top + link * 0.34,
            0.24 - link * 0.012,
            0.24,
            hair,
            angle=35 if link % 2 else -35,
        )
    brush.oval(x, top + 1.98, 0.17, 0.11, (226, 60, 80))
    brush.blob([(x - 0.1, top + 2.04), (x + 0.1, top + 2.04), (x + 0.14, top + 2.4), (x - 0.14, top + 2.4)], hair)


def _bow(brush: Brush, ink: dict[str, Colour]) -> None:
    colour = (232, 60, 84) if HAIR_COLOURS["red"] != ink["hair"] else (70, 120, 226)
    for side in (-1, 1):
        brush.blob([(0.62, -1.05), (0.62 + side * 0.5, -1.42), (0.62 + side * 0.56, -0.8)], colour)
    brush.oval(0.62, -1.06, 0.14, 0.14, darker(colour, 0.2))


def _cat_ears(brush: Brush, ink: dict[str, Colour]) -> None:
    for side in (-1, 1):
        brush.shape([(side * 0.3, -1.08), (side * 0.86, -1.78), (side * 1.02, -0.68)], ink["hair"])
        brush.shape([(side * 0.48, -1.06), (side * 0.8, -1.5), (side * 0.88, -0.82)], (250, 170, 180), line=False)


def _witch_hat(brush: Brush, ink: dict[str, Colour]) -> None:
    brush.shape([(-0.92, -0.78), (-0.4, -1.7), (0.35, -2.55), (0.28, -1.9), (0.92, -0.78)], (70, 52, 104))
    brush.shape([(-0.92, -0.8), (-0.78, -1.06), (0.76, -1.06), (0.92, -0.8)], (240, 190, 70))
    brush.oval(0, -0.76, 1.75, 0.25, (70, 52, 104))


def _straw_hat(brush: Brush, ink: dict[str, Colour]) -> None:
    brush.blob([(-0.95, -0.75), (-0.85, -1.4), (0, -1.72), (0.85, -1.4), (0.95, -0.75)], (238, 206, 122))
    brush.shape([(-0.97, -0.8), (-0.94, -1.08), (0.94, -1.08), (0.97, -0.8)], (206, 60, 60))
    brush.oval(0, -0.72, 1.75, 0.26, (238, 206, 122))
    brush.stroke([(-1.4, -0.7), (0, -0.58), (1.4, -0.7)], (206, 168, 84), 0.05)


def _beret(brush: Brush, ink: dict[str, Colour]) -> None:
    brush.blob(
        [(-1.05, -0.75), (-1.2, -1.25), (-0.3, -1.62), (0.75, -1.5), (1.35, -1.1), (1.0, -0.72), (0, -0.92)],
        (176, 60, 70),
    )
    brush.stroke([(0.1, -1.55), (0.16, -1.75)], (176, 60, 70), 0.1)


def _cap(brush: Brush, ink: dict[str, Colour]) -> None:
    brush.blob([(-1.12, -0.55), (-1.0, -1.15), (0, -1.5), (1.0, -1.15), (1.12, -0.55), (0, -0.72)], (60, 110, 200))
    brush.blob([(0.2, -0.78), (1.1, -0.72), (1.85, -0.5), (1.7, -0.36), (0.9, -0.45), (0.1, -0.55)], (44, 84, 160))
    brush.oval(0, -1.46, 0.1, 0.07, (44, 84, 160))


def _headphones(brush: Brush, ink: dict[str, Colour]) -> None:
    brush.stroke([(-1.12, 0.0), (-1.1, -0.85), (0, -1.4), (1.1, -0.85), (1.12, 0.0)], (60, 60, 70), 0.16)
    for side in (-1, 1):
        brush.oval(side * 1.1, 0.1, 0.25, 0.38, (226, 70, 90))
        brush.oval(side * 1.16, 0.1, 0.12, 0.22, (60, 60, 70))


def _crown(brush: Brush, ink: dict[str, Colour]) -> None:
    brush.shape(
        [(-0.72, -0.95), (-0.86, -1.62), (-0.42, -1.28), (0, -1.78), (0.42, -1.28), (0.86, -1.62), (0.72, -0.95)],
        (250, 204, 70),
    )
    brush.oval(0, -1.15, 0.12, 0.12, (216, 40, 60))
    for side in (-1, 1):
        brush.oval(side * 0.45, -1.1, 0.08, 0.08, (60, 130, 226))


def _halo(brush: Brush, ink: dict[str, Colour]) -> None:
    ring = [
        (0.75 * x, -1.68 + 0.2 * y)
        for x, y in ((1, 0), (0.7, 0.7), (0, 1), (-0.7, 0.7), (-1, 0), (-0.7, -0.7), (0, -1), (0.7, -0.7), (1, 0))
    ]
    brush.stroke(ring, (255, 214, 80), 0.15)
    brush.stroke(ring, (255, 246, 190), 0.06)


HEADWEAR = {
    "hair bow": _bow,
    "cat ears": _cat_ears,
    "witch hat": _witch_hat,
    "straw hat": _straw_hat,
    "beret": _beret,
    "baseball cap": _cap,
    "headphones": _headphones,
    "crown": _crown,
    "halo": _halo,
}
