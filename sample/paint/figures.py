"""Characters. Units are head radii, (0, 0) is the middle of the head, y points down; the feet stand at about 6.2."""

from sample.paint.brush import Brush, Point, darker, mix
from sample.paint.picture import Figure
from sample.paint.shapes import draw, paint_emblem, paint_thing
from sample.paint.world import ARMS, CLOTH_COLOURS, EYE_COLOURS, GRIPS, HAIR_COLOURS, LEGS, SKIN_TONES, Colour, Look

HIP, FEET = 3.25, 6.0
SHOULDER = (0.78, 1.6)
TROUSERS = ("shirt and pants", "hoodie")


def paint_figure(brush: Brush, figure: Figure, look: Look) -> None:
    ink = figure_colours(figure)
    lift = -0.35 if figure.pose == "jumping" else 0.0
    if figure.pose == "jumping":
        brush.oval(0, FEET + 0.25, 1.1, 0.16, (90, 86, 100), line=False)
    if figure.pose == "sitting":
        draw(brush, "stool", ink)
    body = brush.at(0, lift)
    if figure.held == "umbrella" and not figure.behind:
        _held(body, figure)
    if "cape" in figure.extras:
        low = HIP + (1.9 if figure.pose != "sitting" else 1.0)
        draw(body, "cape", ink, low=low, hem=low + 0.15)
    if not figure.behind and figure.style != "spiky":
        draw(body, f"hair behind {figure.style}", ink)
    _legs(body, figure, ink)
    _torso(body, figure, ink, look)
    _arms(body, figure, ink)
    if figure.held and figure.held != "umbrella":
        _held(body, figure)
        x, y = ARMS[figure.arms][1]
        body.oval(x, y, 0.2, 0.19, ink["glove"] if "gloves" in figure.extras else ink["skin"])
    if "scarf" in figure.extras:
        draw(body, "scarf", ink)
    _head(body, figure, ink, look)


def figure_colours(figure: Figure) -> dict[str, Colour]:
    first, second = (CLOTH_COLOURS[name] for name in figure.colours)
    hair = HAIR_COLOURS[figure.hair]
    return {
        "hair": hair,
        "brow": darker(hair, 0.35) if figure.hair != "white" else (150, 150, 166),
        "bow": (232, 60, 84) if figure.hair != "red" else (70, 120, 226),
        "skin": SKIN_TONES[figure.skin],
        "eyes": EYE_COLOURS[figure.eyes],
        "first": first,
        "second": second,
        "cape": second if figure.outfit != "armor" else first,
        "metal": mix((206, 212, 224), first, 0.35),
        "scarf": second if sum(abs(a - b) for a, b in zip(first, second)) > 150 else (206, 60, 60),
        "glove": (70, 60, 66),
        "shoe": (84, 56, 48),
    }


def _held(brush: Brush, figure: Figure) -> None:
    x, y, size, angle = GRIPS[figure.held]
    in_hand = brush.at(*ARMS[figure.arms][1], size, angle).at(-x, -y)
    colours = [CLOTH_COLOURS[name] for name in ("red", "blue", "yellow", "purple", "green", "pink")]
    chosen = (len(figure.hair) * 7 + figure.skin + len(figure.outfit)) % len(colours)
    paint_thing(in_hand, figure.held, colours[chosen])


def _legs(brush: Brush, figure: Figure, ink: dict[str, Colour]) -> None:
    trousers = figure.outfit in TROUSERS or (figure.outfit == "school uniform" and not figure.girl)
    plate = mix((200, 206, 218), ink["first"], 0.35)
    own = {"overalls": ink["first"], "armor": plate, "coat": (66, 62, 74)}
    colour = own.get(figure.outfit, ink["second" if trousers else "skin"])
    width = 0.52 if figure.outfit in ("overalls", *TROUSERS) else 0.42
    for path in LEGS[figure.pose]:
        brush.limb(path, colour, width)
        x, y = path[-1]
        toe = 0.08 if x > 0 else -0.08
        foot = [(x - 0.24, y - 0.12), (x + 0.24, y - 0.12), (x + 0.3 + toe, y + 0.2), (x - 0.3 + toe, y + 0.2)]
        brush.blob(foot, ink["shoe"])


def _torso(brush: Brush, figure: Figure, ink: dict[str, Colour], look: Look) -> None:
    wide, waist = (0.84, 0.62) if figure.girl else (0.95, 0.8)
    brush.limb([(0, 0.85), (0, 1.4)], darker(ink["skin"], 0.1), 0.42)
    flags = frozenset({"front"} if not figure.behind else ()) | frozenset({"girl"} if figure.girl else ())
    hem = 5.5 if figure.pose != "sitting" else 4.3
    draw(brush, f"torso {figure.outfit}", ink, flags, wide=wide, waist=waist + 0.1, low=hem)
    if figure.emblem and look.emblem and not figure.behind:
        x = 0.0 if figure.outfit not in ("coat", "kimono") else 0.48
        paint_emblem(brush.at(x, 2.0, 0.62), look.emblem, look.emblem_colours)
    if "necktie" in figure.extras and not figure.behind:
        draw(brush, "necktie", ink)
    if look.shading == "cel":
        low = HIP + 0.15
        left = [(-wide * 0.98, 1.5), (-wide * 0.6, 1.55), (-waist * 0.7, 2.4)]
        left += [(-0.5, low), (-0.74, low), (-waist - 0.1, 2.4)]
        brush.shape(left, darker(ink["first"], 0.26), line=False)


def _arms(brush: Brush, figure: Figure, ink: dict[str, Colour]) -> None:
    for side in (-1, 1):
        arms = figure.arms if side == 1 or figure.arms == "up" else "down"
        path = [(side * x, y) for x, y in (SHOULDER, *ARMS[arms])]
        _sleeve(brush, figure, ink, path, side)
        hand = ink["glove"] if "gloves" in figure.extras else ink["skin"]
        x, y = path[-1]
        if "gloves" in figure.extras:
            ax, ay = path[1]
            brush.limb([(x + (ax - x) * 0.35, y + (ay - y) * 0.35), (x, y)], hand, 0.36 if figure.girl else 0.42)
        brush.oval(x, y, 0.2, 0.2, hand)
        if figure.arms == "wave" and side == 1:
            for spread in (-0.16, -0.05, 0.06, 0.17):
                brush.limb([(x + spread * 0.7, y - 0.1), (x + spread * 1.5, y - 0.36)], hand, 0.09)
    if figure.outfit == "armor":
        draw(brush, "pauldrons", ink)


def _sleeve(brush: Brush, figure: Figure, ink: dict[str, Colour], path: list[Point], side: int) -> None:
    """The arm from shoulder to hand, in what the outfit has for it."""
    sleeve = ink[{"dress": "skin", "armor": "metal", "overalls": "second"}.get(figure.outfit, "first")]
    width = 0.36 if figure.girl else 0.42
    (x0, y0), (x1, y1), (x2, y2) = path
    if figure.outfit in ("shirt and skirt", "overalls") and figure.girl:
        brush.limb(path, ink["skin"], width - 0.06)
        brush.limb([path[0], ((x0 + x1) / 2, (y0 + y1) / 2)], sleeve, width + 0.08)
    elif figure.outfit == "kimono":
        brush.limb(path, ink["skin"], width - 0.06)
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        upper = [(x0 - side * 0.1, y0 - 0.18), (x1 + side * 0.1, y1 - 0.2), (x + side * 0.16, y - 0.16)]
        lower = [(x + side * 0.05, y + 0.75), (x1 - side * 0.1, y1 + 0.75 * 0.8), (x0 - side * 0.06, y0 + 0.5)]
        brush.shape(upper + lower, sleeve)
    else:
        brush.limb(path, sleeve, width)


def _head(brush: Brush, figure: Figure, ink: dict[str, Colour], look: Look) -> None:
    if figure.behind:
        draw(brush, "back of head long" if figure.style == "long" else "back of head", ink)
        if figure.style == "braid":
            draw(brush.at(0, 0.6), "braid", ink)
        elif figure.style not in ("long", "short"):
            draw(brush, f"back of head {figure.style}", ink)
    else:
        draw(brush, "head", ink)
        _face(brush, figure, ink)
        _fringe(brush, figure, ink, look)
        for what in ("eyepatch", "glasses"):
            if what in figure.extras:
                draw(brush, what, ink)
    if figure.headwear:
        draw(brush, f"headwear {figure.headwear}", ink)


def _face(brush: Brush, figure: Figure, ink: dict[str, Colour]) -> None:
    draw(brush, "closed eyes" if figure.eyes_closed else "eyes of a girl" if figure.girl else "eyes of a boy", ink)
    brows = "brows drawn together" if figure.mouth == "frown" else "brows"
    draw(brush, brows, ink, brow=0.06 if figure.girl else 0.1)
    if figure.blush:
        draw(brush, "blush", ink)
    draw(brush, "nose", ink)
    draw(brush, f"mouth {figure.mouth}", ink)


def _fringe(brush: Brush, figure: Figure, ink: dict[str, Colour], look: Look) -> None:
    draw(brush, "fringe spiky" if figure.style == "spiky" else "fringe", ink)
    if figure.style not in ("spiky", "bun"):
        draw(brush, "locks", ink)
    if look.shading != "flat":
        draw(brush, "shine", ink)
    if figure.style in ("twintails", "ponytail"):
        draw(brush, f"ribbons {figure.style}", ink)
    elif figure.style == "braid":
        draw(brush.at(-0.95, 0.85), "braid", ink)
