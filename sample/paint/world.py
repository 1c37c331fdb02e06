"""What exists in the sample library's world: colours, clothes, things, places, series and who belongs to them.

Everything here is invented. A name stands in the owner's spelling (spaces, lower case); tables go
from the common to the rare, and `weighted` picks by a Zipf-like law over them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
Colour = tuple[int, int, int]

HAIR_COLOURS: dict[str, Colour] = {
    "black": (44, 42, 58),
    "brown": (122, 76, 46),
    "blonde": (244, 210, 104),
    "blue": (66, 108, 214),
    "pink": (248, 146, 186),
    "red": (200, 46, 44),
    "purple": (146, 84, 190),
    "green": (76, 164, 92),
    "white": (236, 236, 244),
    "orange": (240, 132, 44),
}
EYE_COLOURS: dict[str, Colour] = {
    "blue": (40, 104, 224),
    "brown": (128, 76, 34),
    "red": (216, 30, 40),
    "green": (34, 158, 70),
    "purple": (148, 60, 206),
    "yellow": (238, 186, 20),
}
CLOTH_COLOURS: dict[str, Colour] = {
    "white": (246, 246, 248),
    "black": (52, 52, 62),
    "blue": (58, 98, 196),
    "red": (206, 50, 52),
    "pink": (246, 152, 188),
    "green": (66, 146, 84),
    "yellow": (246, 208, 70),
    "purple": (134, 84, 178),
    "brown": (134, 92, 58),
    "orange": (238, 138, 54),
}
SKIN_TONES: tuple[Colour, ...] = ((255, 226, 204), (248, 208, 178), (222, 172, 132), (164, 112, 78))

HAIR_STYLES = ("long", "short", "twintails", "ponytail", "spiky", "bun", "braid")
HAIR_STYLE_TAGS = {
    "long": ("long hair",),
    "short": ("short hair",),
    "twintails": ("twintails", "long hair"),
    "ponytail": ("ponytail", "long hair"),
    "spiky": ("spiky hair", "short hair"),
    "bun": ("hair bun", "short hair"),
    "braid": ("braid", "long hair"),
}
OUTFITS = (
    "shirt and skirt",
    "dress",
    "school uniform",
    "shirt and pants",
    "hoodie",
    "coat",
    "kimono",
    "armor",
    "overalls",
)
BOYS_OUTFITS = ("shirt and pants", "hoodie", "coat", "armor", "overalls", "kimono")
HEADWEAR = ("hair bow", "cat ears", "witch hat", "straw hat", "beret", "headphones", "crown", "baseball cap", "halo")
HATS = frozenset({"witch hat", "straw hat", "beret", "baseball cap"})
EXTRAS = ("scarf", "glasses", "gloves", "cape", "necktie", "eyepatch")
HELD = ("book", "flower", "sword", "umbrella", "teacup", "staff", "lantern", "balloon", "apple", "guitar")
THINGS = (
    "cat",
    "flower",
    "book",
    "teacup",
    "bird",
    "apple",
    "cake",
    "lantern",
    "umbrella",
    "sword",
    "balloon",
    "clock",
    "guitar",
    "staff",
)
ANIMALS = frozenset({"cat", "bird"})

PLACES = ("simple", "room", "forest", "city", "beach", "field", "snow", "mountain", "classroom", "space", "underwater")
PLACE_TAGS = {
    "room": ("indoors", "window"),
    "classroom": ("indoors", "classroom", "chalkboard"),
    "forest": ("outdoors", "forest", "tree"),
    "city": ("outdoors", "city", "building"),
    "beach": ("outdoors", "beach", "ocean"),
    "field": ("outdoors", "field", "grass"),
    "snow": ("outdoors", "snow", "tree"),
    "mountain": ("outdoors", "mountain"),
    "space": ("space", "starry sky", "planet"),
    "underwater": ("underwater", "bubble", "fish"),
}
OPEN_PLACES = frozenset({"forest", "city", "beach", "field", "snow", "mountain"})
PATTERNS = ("plain", "gradient", "polka dot", "striped")


@dataclass(frozen=True)
class Look:
    """How a series' pictures look.

    `line` outline colour, `line_width` in head radii (0: no outlines), `grade` a colour that all
    pictures are tinted with by `strength` (0 to 1), `backdrop` a texture over the background,
    `emblem` the sign it puts on chests and in a corner, `costume` (outfit, first colour, second
    colour), `extra` what goes with the costume.
    """

    line: Colour = (52, 40, 56)
    line_width: float = 0.055
    shading: str = "cel"
    grade: Colour = (255, 255, 255)
    strength: float = 0.0
    backdrop: str = ""
    emblem: str = ""
    emblem_colours: tuple[Colour, Colour] = ((255, 255, 255), (60, 60, 80))
    costume: tuple[str, str, str] = ("shirt and pants", "white", "blue")
    extra: str = ""


@dataclass(frozen=True)
class Person:
    """Somebody with a name: always the same hair, eyes, skin and headwear. `girl` False for a boy."""

    name: str
    girl: bool
    hair: str
    style: str
    eyes: str
    skin: int = 0
    headwear: str = ""


@dataclass(frozen=True)
class Series:
    """A franchise: its name, its look, and its people, the best known first."""

    name: str
    look: Look
    people: tuple[Person, ...] = field(default=())


SERIES: tuple[Series, ...] = (
    Series(
        "scarlet meridian",
        Look(
            (74, 18, 26),
            0.06,
            "cel",
            (255, 196, 176),
            0.16,
            "rays",
            "flame",
            ((255, 206, 64), (170, 24, 30)),
            ("coat", "red", "black"),
            "gloves",
        ),
        (
            Person("vera castellan", True, "black", "long", "red"),
            Person("tomas wick", False, "blonde", "spiky", "blue", 1),
            Person("odile marsh", True, "white", "braid", "purple"),
            Person("bram holloway", False, "brown", "short", "green", 2),
        ),
    ),
    Series(
        "star harbor academy",
        Look(
            (30, 42, 92),
            0.05,
            "cel",
            (206, 224, 255),
            0.12,
            "sparkle",
            "star",
            ((255, 226, 90), (30, 60, 150)),
            ("school uniform", "white", "blue"),
        ),
        (
            Person("hina tidewater", True, "blue", "twintails", "blue"),
            Person("momo larkspur", True, "pink", "short", "green", 0, "hair bow"),
            Person("sora quill", True, "brown", "ponytail", "brown", 1),
            Person("jun albright", False, "black", "short", "yellow"),
        ),
    ),
    Series(
        "leaf and thunder",
        Look(
            (40, 66, 30),
            0.07,
            "flat",
            (226, 248, 202),
            0.14,
            "",
            "leaf",
            ((150, 214, 84), (36, 92, 44)),
            ("kimono", "green", "yellow"),
        ),
        (
            Person("kaede arrowroot", True, "brown", "ponytail", "green", 1),
            Person("raijin oats", False, "orange", "spiky", "yellow", 2),
            Person("nettle of the hill", True, "green", "short", "brown"),
        ),
    ),
    Series(
        "scarlet meridian zero",
        Look(
            (66, 22, 40),
            0.06,
            "cel",
            (255, 190, 186),
            0.16,
            "rays",
            "ringed flame",
            ((255, 206, 64), (150, 24, 50)),
            ("coat", "red", "white"),
            "gloves",
        ),
        (
            Person("iris castellan", True, "black", "short", "red"),
            Person("marcel dray", False, "white", "spiky", "blue"),
            Person("odette marsh", True, "white", "long", "purple"),
        ),
    ),
    Series(
        "cloud bakery",
        Look(
            (150, 84, 96),
            0.04,
            "soft",
            (255, 226, 234),
            0.26,
            "hearts",
            "heart",
            ((255, 120, 150), (255, 240, 244)),
            ("dress", "pink", "white"),
        ),
        (
            Person("brioche", True, "blonde", "twintails", "brown", 0, "hair bow"),
            Person("nougat", True, "pink", "bun", "purple"),
            Person("uncle rye", False, "brown", "short", "brown", 2),
        ),
    ),
    Series(
        "the ninth gear",
        Look(
            (58, 40, 22),
            0.08,
            "flat",
            (246, 222, 178),
            0.30,
            "grid",
            "gear",
            ((196, 142, 60), (84, 56, 24)),
            ("overalls", "brown", "white"),
            "eyepatch",
        ),
        (
            Person("cog weatherby", True, "red", "short", "green", 1, "beret"),
            Person("piston finch", False, "black", "spiky", "yellow", 3),
            Person("lady sprocket", True, "purple", "bun", "blue", 0, "crown"),
        ),
    ),
    Series(
        "neon sparrows",
        Look(
            (18, 16, 48),
            0.05,
            "cel",
            (206, 186, 255),
            0.24,
            "scanlines",
            "bolt",
            ((60, 250, 230), (220, 40, 190)),
            ("hoodie", "black", "purple"),
        ),
        (
            Person("pixel", True, "blue", "short", "purple", 1, "headphones"),
            Person("riot", True, "pink", "twintails", "yellow", 0, "cat ears"),
            Person("ohm", False, "green", "spiky", "red", 2),
        ),
    ),
    Series(
        "frost heralds",
        Look(
            (70, 96, 140),
            0.045,
            "soft",
            (214, 234, 255),
            0.24,
            "",
            "snowflake",
            ((244, 252, 255), (84, 140, 206)),
            ("armor", "white", "blue"),
            "cape",
        ),
        (
            Person("sigrun", True, "white", "braid", "blue"),
            Person("halvard", False, "blonde", "short", "blue"),
            Person("ylva", True, "blue", "long", "yellow", 0, "crown"),
        ),
    ),
    Series(
        "paper moon detectives",
        Look(
            (30, 30, 34),
            0.09,
            "flat",
            (246, 234, 204),
            0.32,
            "halftone",
            "crescent",
            ((250, 240, 200), (60, 56, 60)),
            ("shirt and pants", "white", "brown"),
            "necktie",
        ),
        (
            Person("dahlia noir", True, "black", "short", "brown", 0, "beret"),
            Person("inspector fogg", False, "white", "short", "blue", 1),
            Person("minnie ledger", True, "orange", "bun", "green"),
        ),
    ),
    Series(
        "saltwater choir",
        Look(
            (20, 74, 92),
            0.0,
            "soft",
            (196, 242, 242),
            0.26,
            "",
            "drop",
            ((150, 232, 240), (18, 110, 140)),
            ("dress", "blue", "white"),
        ),
        (
            Person("coralie", True, "orange", "long", "blue"),
            Person("nerissa", True, "green", "long", "purple", 2),
            Person("brine", True, "white", "twintails", "red"),
        ),
    ),
    Series(
        "witches of hollow lane",
        Look(
            (44, 24, 66),
            0.065,
            "cel",
            (224, 202, 246),
            0.26,
            "",
            "eye",
            ((200, 255, 120), (80, 30, 120)),
            ("dress", "purple", "black"),
            "cape",
        ),
        (
            Person("morwen", True, "purple", "long", "green", 0, "witch hat"),
            Person("hazel thimble", True, "orange", "braid", "brown", 0, "witch hat"),
            Person("bat", True, "black", "twintails", "red", 1, "witch hat"),
        ),
    ),
    Series(
        "desert clockwork",
        Look(
            (96, 56, 24),
            0.06,
            "cel",
            (255, 232, 184),
            0.32,
            "",
            "hourglass",
            ((255, 226, 130), (150, 84, 30)),
            ("coat", "white", "orange"),
            "scarf",
        ),
        (
            Person("samira dune", True, "brown", "long", "green", 3),
            Person("zeki", False, "black", "short", "yellow", 3),
        ),
    ),
    Series(
        "petal guard",
        Look(
            (120, 40, 80),
            0.05,
            "flat",
            (255, 228, 238),
            0.2,
            "petals",
            "blossom",
            ((255, 170, 200), (160, 40, 90)),
            ("armor", "pink", "white"),
        ),
        (Person("rosalind vane", True, "red", "ponytail", "green"), Person("fleur", True, "blonde", "braid", "purple")),
    ),
)
BY_SERIES = {series.name: series for series in SERIES}
LOOK_ALIKES = (("scarlet meridian", "scarlet meridian zero"),)
PLAIN_LOOKS = (
    Look(),
    Look((40, 40, 48), 0.045, "flat"),
    Look((92, 60, 54), 0.05, "soft"),
    Look((36, 48, 70), 0.065, "cel"),
)


@dataclass(frozen=True)
class Artist:
    """Somebody whose hand shows: `habit` is what they do to every picture, `mark` how they sign."""

    name: str
    habit: str
    mark: str


ARTISTS = (
    Artist("ada pell", "hatching", "loop"),
    Artist("r. mosswell", "paper", "square"),
    Artist("ink otter", "frame", "zigzag"),
)


def weighted(rng: random.Random, items: Sequence[T], exponent: float = 0.8) -> T:
    """One of `items`, the k-th (from 1) in proportion to k^-exponent."""
    return rng.choices(items, [(place + 1) ** -exponent for place in range(len(items))])[0]


FAVOURITE_PLACES = {
    "scarlet meridian": ("city", "mountain"),
    "scarlet meridian zero": ("city", "mountain"),
    "star harbor academy": ("classroom", "beach"),
    "leaf and thunder": ("forest", "field"),
    "cloud bakery": ("room", "simple"),
    "the ninth gear": ("room", "city"),
    "neon sparrows": ("city", "simple"),
    "frost heralds": ("snow", "mountain"),
    "paper moon detectives": ("city", "room"),
    "saltwater choir": ("underwater", "beach"),
    "witches of hollow lane": ("forest", "room"),
    "desert clockwork": ("mountain", "simple"),
    "petal guard": ("field", "simple"),
}
