"""Places: what is behind the characters and things. Units are the picture's shorter side."""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageChops

from sample.paint.brush import Brush, darker, lighter, mix
from sample.paint.picture import Picture
from sample.paint.world import CLOTH_COLOURS, CURTAINS, SKIES, WALLS, Colour

Size = tuple[int, int]
WHITE: Colour = (255, 255, 255)


def gradient(size: Size, top: Colour, bottom: Colour) -> Image.Image:
    """A picture that goes from one colour to the other, from above to below."""
    column = Image.new("RGB", (1, 64))
    column.putdata([mix(top, bottom, row / 63) for row in range(64)])
    return column.resize((1, size[1]), Image.Resampling.BILINEAR).resize(size, Image.Resampling.NEAREST)


@dataclass(frozen=True)
class Tone:
    """Colours in the light of a picture's time of day and weather."""

    picture: Picture

    def __call__(self, colour: Colour) -> Colour:
        if self.picture.time == "night":
            return mix(colour, (22, 26, 78), 0.58)
        if self.picture.time == "sunset":
            return mix(colour, (248, 120, 70), 0.28)
        return mix(colour, (150, 156, 170), 0.25) if self.picture.weather == "rain" else colour


def paint_place(picture: Picture, size: Size) -> Image.Image:
    unit = min(size)
    w, h = size[0] / unit, size[1] / unit
    rng = random.Random(picture.grain)
    if picture.place in OPEN:
        image = gradient(size, *_sky_colours(picture))
        for part in (_sky, OPEN[picture.place]):
            part(Brush(image, unit, width=0.0), Tone(picture), rng, w, h)
    elif picture.place in CLOSED:
        image = Image.new("RGB", size)
        CLOSED[picture.place](Brush(image, unit, line=(80, 60, 56), width=0.006), picture, rng, w, h)
    else:
        return _simple(picture, size, w, h)
    light = random.Random(picture.grain + 4)
    return ImageChops.multiply(image, Image.new("RGB", size, tuple(light.randint(226, 255) for _ in range(3))))


def paint_weather(brush: Brush, picture: Picture, w: float, h: float) -> None:
    """Rain or snowflakes in front of everything."""
    rng = random.Random(picture.grain + 1)
    if picture.weather == "rain":
        for _ in range(round(130 * w * h)):
            x, y, length = rng.uniform(0, w * 1.1), rng.uniform(-0.1, h), rng.uniform(0.05, 0.1)
            brush.stroke([(x, y), (x - length * 0.25, y + length)], (206, 222, 244), 0.005)
    elif picture.weather == "snowing":
        for _ in range(round(100 * w * h)):
            radius = rng.uniform(0.005, 0.014)
            brush.oval(rng.uniform(0, w), rng.uniform(0, h), radius, radius, WHITE, line=False)


def _sky_colours(picture: Picture) -> tuple[Colour, Colour]:
    if picture.weather and picture.time == "day":
        return SKIES["grey"]
    top, bottom = SKIES[picture.time]
    return (mix(top, (70, 74, 90), 0.4), mix(bottom, (90, 94, 110), 0.4)) if picture.weather else (top, bottom)


def _sky(brush: Brush, tone: Tone, rng: random.Random, w: float, h: float) -> None:
    if tone.picture.weather:
        return
    if tone.picture.time == "night":
        _stars(brush, rng, w, h * 0.6, 70)
        _moon(brush, rng.choice((0.14, 0.86)) * w, 0.15 * h, 0.075)
    elif tone.picture.time == "sunset":
        brush.oval(rng.choice((0.22, 0.78)) * w, 0.5 * h, 0.12, 0.12, (255, 232, 150))
        for _ in range(3):
            x, y = rng.uniform(0, w), rng.uniform(0.08, 0.3) * h
            brush.oval(x, y, rng.uniform(0.15, 0.3), 0.018, (255, 190, 150))
    else:
        for _place in range(3):
            _cloud(brush, rng.uniform(0, w), rng.uniform(0.05, 0.26) * h, rng.uniform(0.1, 0.17))


def _stars(brush: Brush, rng: random.Random, w: float, h: float, count: int) -> None:
    for _ in range(round(count * w * max(h, 0.5))):
        radius = rng.uniform(0.0025, 0.006)
        brush.oval(rng.uniform(0, w), rng.uniform(0, h), radius, radius, (255, 252, 226))


def _moon(brush: Brush, x: float, y: float, radius: float) -> None:
    brush.oval(x, y, radius, radius, (255, 246, 190), line=False)
    for dx, dy, size in ((-0.3, -0.2, 0.2), (0.3, 0.25, 0.26), (0.1, -0.5, 0.13)):
        brush.oval(x + dx * radius, y + dy * radius, size * radius, size * radius, (236, 224, 160), line=False)


def _cloud(brush: Brush, x: float, y: float, size: float) -> None:
    for dx, dy, radius in ((-0.8, 0.12, 0.42), (-0.25, -0.15, 0.6), (0.4, -0.05, 0.5), (0.9, 0.15, 0.35)):
        brush.oval(x + dx * size, y + dy * size, radius * size, radius * size * 0.8, (255, 255, 255))


def _tree(brush: Brush, tone: Tone, x: float, base: float, size: float, leaf: Colour) -> None:
    top = base - 0.5 * size
    trunk = [(x - 0.05 * size, base), (x - 0.03 * size, top), (x + 0.03 * size, top), (x + 0.05 * size, base)]
    brush.shape(trunk, tone((110, 76, 52)))
    for dx, dy, radius in ((-0.18, -0.5, 0.2), (0.18, -0.52, 0.2), (0, -0.72, 0.25)):
        brush.oval(x + dx * size, base + dy * size, radius * size, radius * size, tone(leaf))
    brush.oval(x - 0.06 * size, base - 0.78 * size, 0.11 * size, 0.1 * size, tone(lighter(leaf, 0.2)))


def _fir(brush: Brush, tone: Tone, x: float, base: float, size: float, snow: bool) -> None:
    brush.box(x - 0.03 * size, base - 0.15 * size, x + 0.03 * size, base, tone((104, 74, 54)))
    for level in range(3):
        y, half = base - (0.12 + level * 0.25) * size, (0.26 - level * 0.055) * size
        brush.shape([(x - half, y), (x, y - 0.4 * size), (x + half, y)], tone((48, 104, 76)))
        if snow:
            edge, tip = y - 0.22 * size, (x, y - 0.4 * size)
            cap = [(x - half * 0.45, edge), tip, (x + half * 0.45, edge), (x, y - 0.17 * size)]
            brush.shape(cap, tone((244, 248, 255)))


def _hill(brush: Brush, rng: random.Random, w: float, h: float, level: float, swing: float, colour: Colour) -> None:
    phase, waves = rng.uniform(0, 6.3), rng.uniform(2.0, 3.5)
    top = [(x / 12 * w, level + swing * math.sin(phase + waves * x / 12 * math.sqrt(w))) for x in range(13)]
    brush.shape([*top, (w, h), (0, h)], colour)


def _forest(brush: Brush, tone: Tone, rng: random.Random, w: float, h: float) -> None:
    _hill(brush, rng, w, h, 0.62 * h, 0.02, tone((66, 122, 70)))
    for row, (base, size) in enumerate(((0.64, 0.42), (0.74, 0.6), (0.9, 0.85))):
        count = (round(9 * w), round(5 * w), 2)[row]
        for place in range(count):
            x = (place + rng.uniform(0.2, 0.8)) / count * w if row < 2 else (0.06, 0.94)[place] * w
            tall = size * rng.uniform(0.85, 1.1) * min(h, 1.15)
            _tree(brush, tone, x, base * h, tall, rng.choice(((58, 128, 66), (76, 148, 72), (44, 108, 70))))
    _hill(brush, rng, w, h, 0.88 * h, 0.015, tone((88, 146, 78)))


def _city(brush: Brush, tone: Tone, rng: random.Random, w: float, h: float) -> None:
    night = tone.picture.time == "night"
    for layer, (low, high, shade) in enumerate(((0.36, 0.6, (150, 160, 184)), (0.2, 0.46, (104, 112, 140)))):
        x = -0.05
        while x < w:
            width, height = rng.uniform(0.13, 0.24), rng.uniform(low, high) * h
            top = 0.86 * h - height
            wall = mix(shade, rng.choice(((200, 150, 130), (140, 160, 200), (150, 150, 150))), 0.3)
            brush.box(x, top, x + width, 0.9 * h, tone(wall))
            for row in range(int(height / 0.055)):
                for column in range(int(width / 0.05)):
                    lit = rng.random() < 0.5
                    pane = (255, 224, 120) if night and lit else tone((196, 214, 236)) if not night else (30, 32, 66)
                    wx, wy = x + 0.016 + column * 0.048, top + 0.02 + row * 0.055
                    if layer == 1 or night:
                        brush.box(wx, wy, wx + 0.024, wy + 0.028, pane)
            x += width + rng.uniform(0, 0.02)
    brush.box(0, 0.86 * h, w, h, tone((120, 120, 130)))
    for place in range(round(4 * w)):
        x = (place + 0.25) / round(4 * w) * w
        brush.box(x, 0.93 * h, x + 0.11, 0.945 * h, tone((236, 232, 214)))


def _beach(brush: Brush, tone: Tone, rng: random.Random, w: float, h: float) -> None:
    brush.box(0, 0.5 * h, w, h, tone((52, 142, 204)))
    for _ in range(round(16 * w)):
        x, y = rng.uniform(0, w), rng.uniform(0.52, 0.66) * h
        brush.box(x, y, x + rng.uniform(0.05, 0.14), y + 0.006, tone((130, 200, 236)))
    shore = 0.72 * h
    _hill(brush, rng, w, h, shore - 0.015, 0.02, tone((236, 248, 252)))
    _hill(brush, rng, w, h, shore + 0.02, 0.02, tone((244, 220, 162)))
    x = rng.choice((0.1, 0.9)) * w
    brush.stroke([(x, 0.86 * h), (x + 0.03, 0.66 * h), (x + 0.07, 0.48 * h)], tone((150, 108, 66)), 0.035)
    for turn in range(6):
        angle = math.radians(-200 + turn * 44)
        tip = (x + 0.07 + 0.2 * math.cos(angle), 0.48 * h + 0.12 * math.sin(angle) + 0.05)
        bend = ((x + 0.07 + tip[0]) / 2, 0.46 * h + 0.09 * math.sin(angle))
        brush.blob([(x + 0.07, 0.48 * h), bend, tip], tone((60, 150, 80)))


def _field(brush: Brush, tone: Tone, rng: random.Random, w: float, h: float) -> None:
    _hill(brush, rng, w, h, 0.56 * h, 0.04, tone((140, 196, 110)))
    _hill(brush, rng, w, h, 0.66 * h, 0.03, tone((108, 180, 88)))
    petals = rng.choice(((250, 120, 150), (250, 220, 90), (255, 255, 255), (190, 130, 230)))
    for _ in range(round(60 * w)):
        y = rng.uniform(0.7, 0.99)
        x, size = rng.uniform(0, w), 0.012 + 0.05 * (y - 0.66)
        brush.stroke([(x, y * h), (x, y * h + 2.2 * size)], tone((60, 130, 60)), 0.25 * size)
        for turn in range(5):
            angle = turn * math.tau / 5
            px, py = x + 0.6 * size * math.cos(angle), y * h + 0.6 * size * math.sin(angle)
            brush.oval(px, py, 0.45 * size, 0.45 * size, tone(petals))
        brush.oval(x, y * h, 0.35 * size, 0.35 * size, tone((250, 200, 60)))


def _snow(brush: Brush, tone: Tone, rng: random.Random, w: float, h: float) -> None:
    _hill(brush, rng, w, h, 0.6 * h, 0.04, tone((222, 232, 246)))
    for _ in range(round(6 * w)):
        _fir(brush, tone, rng.uniform(0, w), rng.uniform(0.62, 0.72) * h, rng.uniform(0.24, 0.4) * min(h, 1.15), True)
    _hill(brush, rng, w, h, 0.74 * h, 0.03, tone((244, 248, 255)))
    for x in (0.07, 0.95):
        _fir(brush, tone, x * w, 0.88 * h, 0.6 * min(h, 1.15), True)


def _mountain(brush: Brush, tone: Tone, rng: random.Random, w: float, h: float) -> None:
    for peaks, base, shade in ((3, 0.7, (136, 146, 172)), (2, 0.76, (104, 112, 136))):
        for place in range(round(peaks * max(1, w))):
            x, top = (place + rng.uniform(0.2, 0.8)) / round(peaks * max(1, w)) * w, rng.uniform(0.24, 0.4) * h
            half = (base * h - top) * 0.75
            brush.shape([(x - half, base * h), (x, top), (x + half, base * h)], tone(shade))
            brush.shape([(x, top), (x + half, base * h), (x + 0.2 * half, base * h)], tone(darker(shade, 0.15)))
            tall, edge = base * h - top, top + (base * h - top) * 0.28
            cap = [(x - half * 0.28, edge), (x, top), (x + half * 0.28, edge)]
            cap += [(x + 0.1 * half, top + tall * 0.2), (x - 0.08 * half, top + tall * 0.33)]
            brush.shape(cap, tone((246, 250, 255)))
    _hill(brush, rng, w, h, 0.74 * h, 0.02, tone((120, 150, 100)))


def _room(brush: Brush, picture: Picture, rng: random.Random, w: float, h: float) -> None:
    wall = mix(rng.choice(WALLS), (150, 130, 120), rng.uniform(0, 0.25))
    wall = mix(wall, (60, 52, 90), 0.4) if picture.time == "night" else wall
    brush.image.paste(wall, (0, 0, *brush.image.size))
    stripes, floor = rng.choice((0, 5, 7, 9, 13)), rng.uniform(0.7, 0.8)
    for place in range(0, round(stripes * w), 2):
        brush.box(place / stripes, 0, (place + 1) / stripes, floor * h, darker(wall, 0.05), line=False)
    boards = mix(rng.choice(((176, 120, 78), (120, 80, 56), (206, 168, 120), (140, 130, 126))), wall, 0.12)
    brush.box(0, floor * h, w, h, boards, line=False)
    for row in range(4):
        top, low = (floor + edge + 0.07 * row for edge in (0.05, 0.055))
        brush.box(0, top * h, w, low * h, darker(boards, 0.25), line=False)
    left = rng.random() < 0.5
    _window(brush, rng, picture.time == "night", left, w, h)
    top = rng.uniform(0.1, 0.32)
    x = rng.uniform(0.66, 0.73) * w if left else rng.uniform(0.02, 0.09) * w
    _shelf(brush, rng, x, top * h, rng.uniform(0.2, 0.27) * w, (floor - 0.02 - top) * h)


def _window(brush: Brush, rng: random.Random, night: bool, left: bool, w: float, h: float) -> None:
    x0 = rng.uniform(0.03, 0.1) * w if left else rng.uniform(0.55, 0.64) * w
    y0 = rng.uniform(0.06, 0.15) * h
    x1, y1 = x0 + rng.uniform(0.26, 0.34) * w, y0 + rng.uniform(0.28, 0.4) * h
    brush.box(x0 - 0.02, y0 - 0.02, x1 + 0.02, y1 + 0.02, (250, 246, 240))
    brush.box(x0, y0, x1, y1, (26, 32, 84) if night else (156, 208, 250))
    if night:
        for _ in range(8):
            brush.oval(rng.uniform(x0, x1), rng.uniform(y0, y1), 0.004, 0.004, (255, 252, 226), line=False)
        _moon(brush, x0 + 0.22 * (x1 - x0), y0 + 0.26 * (y1 - y0), 0.045)
    else:
        brush.oval((x0 + x1) / 2, y1 - 0.02, 0.1, 0.02, (240, 248, 255), line=False)
    brush.box((x0 + x1) / 2 - 0.008, y0, (x0 + x1) / 2 + 0.008, y1, (250, 246, 240), line=False)
    brush.box(x0, (y0 + y1) / 2 - 0.008, x1, (y0 + y1) / 2 + 0.008, (250, 246, 240), line=False)
    curtain = rng.choice(CURTAINS)
    for edge, away in ((x0, -1), (x1, 1)):
        hem = [(edge + away * 0.05, y1 + 0.06), (edge - 0.04 + away * 0.03, y1 + 0.06)]
        brush.shape([(edge - 0.03, y0 - 0.03), (edge + 0.05, y0 - 0.03), *hem], curtain)


def _shelf(brush: Brush, rng: random.Random, x: float, y: float, width: float, height: float) -> None:
    brush.box(x, y, x + width, y + height, (136, 92, 60))
    for row in range(3):
        top = y + 0.02 + row * height / 3
        brush.box(x + 0.02, top, x + width - 0.02, top + height / 3 - 0.03, (84, 56, 42), line=False)
        edge = x + 0.025
        while edge < x + width - 0.06:
            thick = rng.uniform(0.018, 0.03)
            high, low = top + rng.uniform(0.0, 0.03), top + height / 3 - 0.03
            brush.box(edge, high, edge + thick, low, rng.choice(tuple(CLOTH_COLOURS.values())), line=False)
            edge += thick + 0.004


def _classroom(brush: Brush, picture: Picture, rng: random.Random, w: float, h: float) -> None:
    brush.image.paste((238, 230, 208), (0, 0, *brush.image.size))
    brush.box(0, 0.72 * h, w, h, (196, 158, 112), line=False)
    brush.box(0.06 * w, 0.08 * h, 0.94 * w, 0.5 * h, (150, 106, 66))
    brush.box(0.08 * w, 0.1 * h, 0.92 * w, 0.48 * h, (44, 92, 74))
    for row in range(4):
        x = 0.11 * w
        while x < 0.88 * w:
            length = rng.uniform(0.02, 0.09)
            y = (0.16 + row * 0.085) * h
            brush.stroke([(x, y), (x + length, y + rng.uniform(-0.01, 0.01))], (214, 228, 218), 0.007)
            x += length + 0.03
    for x in (0.02, 0.72):
        brush.box(x * w, 0.74 * h, (x + 0.26) * w, 0.78 * h, (206, 150, 92))
        for leg in (0.02, 0.22):
            brush.box((x + leg) * w, 0.78 * h, (x + leg + 0.015) * w, 0.97 * h, (120, 120, 130), line=False)


def _space(brush: Brush, picture: Picture, rng: random.Random, w: float, h: float) -> None:
    brush.image.paste(gradient(brush.image.size, (10, 8, 32), (44, 22, 74)))
    brush.width = 0.0
    for _ in range(3):
        x, y, size_ = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.15, 0.3)
        cloud = rng.choice(((58, 30, 96), (34, 36, 92), (76, 30, 80)))
        brush.oval(x, y, size_, size_ * 0.4, cloud, angle=rng.uniform(-40, 40))
    _stars(brush, rng, w, h, 130)
    x, y, radius = rng.choice((0.16, 0.84)) * w, rng.uniform(0.14, 0.24) * h, rng.uniform(0.11, 0.15)
    colour = rng.choice(((230, 150, 90), (110, 190, 220), (200, 120, 200)))
    brush.oval(x, y, radius, radius, colour)
    brush.oval(x + 0.2 * radius, y + 0.25 * radius, 0.75 * radius, 0.25 * radius, darker(colour))
    brush.oval(x - 0.2 * radius, y - 0.35 * radius, 0.6 * radius, 0.16 * radius, lighter(colour, 0.3))
    ring = [(x - 1.7 * radius, y + 0.4 * radius), (x, y + 0.22 * radius), (x + 1.7 * radius, y - 0.4 * radius)]
    brush.stroke(ring, (244, 226, 180), 0.02)


def _underwater(brush: Brush, picture: Picture, rng: random.Random, w: float, h: float) -> None:
    brush.image.paste(gradient(brush.image.size, (86, 196, 222), (12, 62, 122)))
    brush.width = 0.0
    for _ in range(4):
        x = rng.uniform(0, w)
        ray = [(x, 0), (x + 0.09, 0), (x - 0.12, 0.6 * h), (x - 0.3, 0.6 * h)]
        brush.shape(ray, mix((86, 196, 222), (140, 224, 240), 0.4))
    _hill(brush, rng, w, h, 0.9 * h, 0.02, (206, 190, 140))
    for _ in range(round(5 * w)):
        x, tall = rng.uniform(0, w), rng.uniform(0.12, 0.3)
        points = [(x + 0.02 * math.sin(step * 1.7), 0.95 * h - tall * step / 5) for step in range(6)]
        brush.stroke(points, rng.choice(((40, 140, 90), (200, 84, 110), (70, 160, 80))), 0.024)
    for place in range(4):
        x, y, size_ = (0.1, 0.9, 0.16, 0.84)[place] * w, rng.uniform(0.12, 0.75) * h, rng.uniform(0.04, 0.06)
        colour, side = rng.choice(((250, 170, 60), (250, 230, 110), (240, 110, 110))), rng.choice((-1, 1))
        end = x - side * size_ * 1.6
        tail = [(x - side * size_ * 0.8, y), (end, y - size_ * 0.55), (end, y + size_ * 0.55)]
        brush.shape(tail, darker(colour))
        brush.oval(x, y, size_, size_ * 0.6, colour)
        brush.oval(x + side * size_ * 0.55, y - size_ * 0.12, size_ * 0.12, size_ * 0.12, (20, 24, 40))
    for _ in range(round(26 * w)):
        x, y, radius = rng.uniform(0, w), rng.uniform(0, 0.9) * h, rng.uniform(0.008, 0.022)
        brush.oval(x, y, radius, radius, (176, 230, 244))
        brush.oval(x, y, radius * 0.72, radius * 0.72, (96, 184, 214))
        brush.oval(x - radius * 0.3, y - radius * 0.3, radius * 0.2, radius * 0.2, (255, 255, 255))


def _simple(picture: Picture, size: Size, w: float, h: float) -> Image.Image:
    colour = CLOTH_COLOURS[picture.pattern_colour]
    if picture.pattern == "gradient":
        return gradient(size, lighter(colour, 0.75), mix(colour, (255, 255, 255), 0.15))
    image = Image.new("RGB", size, colour if picture.pattern == "plain" else lighter(colour, 0.75))
    brush = Brush(image, min(size), width=0.0)
    if picture.pattern == "polka dot":
        for row in range(int(h / 0.11) + 2):
            for column in range(int(w / 0.13) + 2):
                x = column * 0.13 + (row % 2) * 0.065
                brush.oval(x, row * 0.11, 0.03, 0.03, mix(colour, (255, 255, 255), 0.15))
    elif picture.pattern == "striped":
        for place in range(-12, int((w + h) / 0.14) + 2):
            x = place * 0.14
            stripe = [(x, 0), (x + 0.07, 0), (x + 0.07 + 0.5 * h, h), (x + 0.5 * h, h)]
            brush.shape(stripe, mix(colour, (255, 255, 255), 0.2))
    return image


OPEN = {one.__name__[1:]: one for one in (_forest, _city, _beach, _field, _snow, _mountain)}
CLOSED = {one.__name__[1:]: one for one in (_room, _classroom, _space, _underwater)}
