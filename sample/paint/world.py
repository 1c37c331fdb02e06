"""What exists in the sample library's invented world, read from `world.toml` and `series.toml`."""

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Colour = tuple[int, int, int]


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _colour(value: str) -> Colour:
    red, green, blue = bytes.fromhex(value.removeprefix("#"))
    return red, green, blue


_WORLD = _read("world.toml")
_TAGS, _NAMES = _WORLD["tags"], {kind: tuple(names) for kind, names in _WORLD["names"].items()}
HAIR_COLOURS, EYE_COLOURS, CLOTH_COLOURS = (
    {name: _colour(value) for name, value in _WORLD["colours"][part].items()} for part in ("hair", "eyes", "cloth")
)
SKIN_TONES: tuple[Colour, ...] = ((255, 226, 204), (248, 208, 178), (222, 172, 132), (164, 112, 78))
HAIR_STYLE_TAGS, MOUTHS, PLACE_TAGS, CLOTHES_TAGS = (_TAGS[part] for part in ("hair", "mouth", "place", "clothes"))
HAIR_STYLES, OUTFITS, BOYS_OUTFITS = tuple(HAIR_STYLE_TAGS), tuple(CLOTHES_TAGS), _NAMES["boys_outfits"]
HEADWEAR, HATS, EXTRAS, HELD = (_NAMES[kind] for kind in ("headwear", "hats", "extras", "held"))
THINGS, ANIMALS, PATTERNS, TITLES = (_NAMES[kind] for kind in ("things", "animals", "patterns", "titles"))
PLACES, OPEN_PLACES = _NAMES["places"], _NAMES["open_places"]
GRIPS, ARMS, LEGS, MARKS = (_WORLD[part] for part in ("grips", "arms", "legs", "marks"))
SKIES, WALLS, CURTAINS = (
    {name: tuple(map(_colour, pair)) for name, pair in _WORLD["skies"].items()},
    *(tuple(map(_colour, _WORLD["room"][part])) for part in ("walls", "curtains")),
)


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
    look = {name: _colour(value) if name in ("line", "grade") else value for name, value in row["look"].items()}
    sign = row["sign"] | {"emblem_colours": tuple(map(_colour, row["sign"]["emblem_colours"]))}
    sign["costume"] = tuple(sign["costume"])
    people = tuple(Person(name, sex == "girl", *more) for name, sex, *more in row["people"])
    return Series(row["name"], Look(**look, **sign), people, tuple(row["places"]))


SERIES = tuple(map(_series, _read("series.toml")["series"]))
BY_SERIES = {series.name: series for series in SERIES}
LOOK_ALIKES = (("scarlet meridian", "scarlet meridian zero"),)
PLAIN_LOOKS = (Look(), Look((40, 40, 48), 0.045, "flat"), Look((92, 60, 54), 0.05, "soft"), Look((36, 48, 70), 0.065))


@dataclass(frozen=True)
class Artist:
    """Somebody whose hand shows: `habit` is what they do to every picture, `mark` how they sign."""

    name: str
    habit: str
    mark: str


ARTISTS = tuple(Artist(**row) for row in _WORLD["artists"])


def weighted(rng: random.Random, items: Sequence[T], exponent: float = 0.8) -> T:
    """One of `items`, the k-th (from 1) in proportion to k^-exponent."""
    return rng.choices(items, [(place + 1) ** -exponent for place in range(len(items))])[0]
