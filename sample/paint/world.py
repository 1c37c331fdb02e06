"""What exists in the sample library's invented world, by the owner's spelling: tables go from the common to the rare."""

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Colour = tuple[int, int, int]


def _palette(text: str) -> dict[str, Colour]:
    """`black #2c2a3a brown #7a4c2e` as colours by their names."""
    words = text.split()
    return {name: _colour(value) for name, value in zip(words[::2], words[1::2])}


def _colour(value: str) -> Colour:
    red, green, blue = bytes.fromhex(value.removeprefix("#"))
    return red, green, blue


HAIR_COLOURS = _palette(
    "black #2c2a3a brown #7a4c2e blonde #f4d268 blue #426cd6 pink #f892ba red #c82e2c "
    "purple #9254be green #4ca45c white #ececf4 orange #f0842c"
)
EYE_COLOURS = _palette("blue #2868e0 brown #804c22 red #d81e28 green #229e46 purple #943cce yellow #eeba14")
CLOTH_COLOURS = _palette(
    "white #f6f6f8 black #34343e blue #3a62c4 red #ce3234 pink #f698bc green #429254 "
    "yellow #f6d046 purple #8654b2 brown #865c3a orange #ee8a36"
)
SKIN_TONES: tuple[Colour, ...] = ((255, 226, 204), (248, 208, 178), (222, 172, 132), (164, 112, 78))

HAIR_STYLE_TAGS = {
    "long": ("long hair",),
    "short": ("short hair",),
    "twintails": ("twintails", "long hair"),
    "ponytail": ("ponytail", "long hair"),
    "spiky": ("spiky hair", "short hair"),
    "bun": ("hair bun", "short hair"),
    "braid": ("braid", "long hair"),
}
HAIR_STYLES = tuple(HAIR_STYLE_TAGS)
OUTFITS = (
    *("shirt and skirt", "dress", "school uniform", "shirt and pants", "hoodie", "coat", "kimono", "armor", "overalls"),
)
BOYS_OUTFITS = ("shirt and pants", "hoodie", "coat", "armor", "overalls", "kimono")
HEADWEAR = ("hair bow", "cat ears", "witch hat", "straw hat", "beret", "headphones", "crown", "baseball cap", "halo")
HATS = frozenset({"witch hat", "straw hat", "beret", "baseball cap"})
EXTRAS = ("scarf", "glasses", "gloves", "cape", "necktie", "eyepatch")
HELD = ("book", "flower", "sword", "umbrella", "teacup", "staff", "lantern", "balloon", "apple", "guitar")
THINGS = (
    *("cat", "flower", "book", "teacup", "bird", "apple", "cake"),
    *("lantern", "umbrella", "sword", "balloon", "clock", "guitar", "staff"),
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
    """How a series' pictures look: `line` of the outlines, `line_width` in head radii (0: none), `grade` a tint by `strength`
    (0 to 1), `backdrop` a texture, `emblem` on chests and in a corner, `costume` (outfit and two colours) and an `extra`.
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
    """A franchise: its name, its look, its people, the best known first, and where they mostly are."""

    name: str
    look: Look
    people: tuple[Person, ...]
    places: tuple[str, ...]


def _series(row: dict[str, Any]) -> Series:
    """A row of `series.toml`."""
    look = {name: _colour(value) if name in ("line", "grade") else value for name, value in row["look"].items()}
    sign = row["sign"] | {"emblem_colours": tuple(map(_colour, row["sign"]["emblem_colours"]))}
    sign["costume"] = tuple(sign["costume"])
    people = tuple(Person(name, sex == "girl", *more) for name, sex, *more in row["people"])
    return Series(row["name"], Look(**look, **sign), people, tuple(row["places"]))


_ROWS = tomllib.loads(Path(__file__).with_name("series.toml").read_text(encoding="utf-8"))["series"]
SERIES = tuple(map(_series, _ROWS))
BY_SERIES = {series.name: series for series in SERIES}
LOOK_ALIKES = (("scarlet meridian", "scarlet meridian zero"),)
PLAIN_LOOKS = (Look(), Look((40, 40, 48), 0.045, "flat"), Look((92, 60, 54), 0.05, "soft"), Look((36, 48, 70), 0.065))


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
