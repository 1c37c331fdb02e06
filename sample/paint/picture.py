"""A picture before it is painted: who and what is on it, where, in which style, and which tags are true of it."""

import random
from collections import Counter
from dataclasses import dataclass, replace

from sample.paint import world
from sample.paint.world import Artist, Look, Person, Series, weighted

FRAMINGS = ("upper body", "full body", "portrait")
ASPECTS = (3 / 4, 2 / 3, 1.0, 4 / 3, 16 / 9, 9 / 16)  # width to height
COLOUR_WORDS = frozenset(world.HAIR_COLOURS) | frozenset(world.CLOTH_COLOURS) | frozenset(world.EYE_COLOURS)


@dataclass(frozen=True)
class Figure(Person):
    """One character. `outfit` with `colours` (first, second); `arms` "down" | "up" | "wave" | "hip" | "hold"."""

    outfit: str = ""
    colours: tuple[str, str] = ("", "")
    extras: tuple[str, ...] = ()
    pose: str = "standing"
    arms: str = "down"
    held: str = ""
    mouth: str = "smile"
    blush: bool = False
    eyes_closed: bool = False
    behind: bool = False
    emblem: bool = False


@dataclass(frozen=True)
class Thing:
    """An object or animal. `colour` of what can have any, `x` and `y` 0 to 1 of the picture, `size` of its shorter side."""

    kind: str
    colour: str
    x: float
    y: float
    size: float
    angle: float = 0.0


@dataclass(frozen=True)
class Picture:
    """Everything that painting needs. `grain` seeds what is strewn at random (stars, trees, flowers)."""

    width: int
    height: int
    grain: int
    look: Look
    figures: tuple[Figure, ...] = ()
    framing: str = ""
    things: tuple[Thing, ...] = ()
    place: str = "simple"
    time: str = ""
    weather: str = ""
    pattern: str = "plain"
    pattern_colour: str = "white"
    series: str = ""
    artist: Artist | None = None
    monochrome: bool = False
    banner: bool = False
    private_tags: tuple[str, ...] = ()


def imagine(rng: random.Random, longest: tuple[int, int] = (400, 900)) -> Picture:
    """A picture made up from `rng`, its longer side within `longest` pixels."""
    aspect, side = weighted(rng, ASPECTS, 0.6), rng.randint(*longest)
    width, height = (side, round(side / aspect)) if aspect >= 1 else (round(side * aspect), side)
    series = weighted(rng, world.SERIES, 0.75) if rng.random() < 0.68 else None
    look = series.look if series else rng.choice(world.PLAIN_LOOKS)
    count = rng.choices((0, 1, 2), (0.2, 0.62, 0.18))[0]
    places = world.PLACES if count else world.PLACES[1:]
    place = rng.choice(series.places) if series and rng.random() < 0.4 else weighted(rng, places, 0.7)
    picture = Picture(width, height, rng.randrange(1 << 30), look, place=place, series=series.name if series else "")
    picture = replace(
        _patterned(rng, picture),
        artist=rng.choice(world.ARTISTS) if rng.random() < 0.14 else None,
        monochrome=rng.random() < 0.04,
        private_tags=_private_tags(rng, width, height),
    )
    picture = _light(rng, picture)
    return _with_figures(rng, picture, series, count) if count else _without_figures(rng, picture)


def true_tags(picture: Picture) -> list[str]:
    """Every tag that is true of `picture`, sorted, in the owner's spelling."""
    tags = set(picture.private_tags) | _count_tags(picture) | _place_tags(picture)
    for figure in picture.figures:
        tags |= _figure_tags(figure, picture)
    for thing in picture.things:
        tags |= {thing.kind, "animal"} if thing.kind in world.ANIMALS else {thing.kind}
    if picture.series:
        tags.add(f"series:{picture.series}")
    if picture.artist:
        tags.add(f"person:{picture.artist.name}")
    if picture.monochrome:
        tags = {tag for tag in tags if tag.split()[0] not in COLOUR_WORDS} | {"monochrome"}
    return sorted(tags)


def variant(rng: random.Random, picture: Picture) -> Picture:
    """The same characters in the same pose somewhere else with another face: alike, yet another picture."""
    place = rng.choice([place for place in world.PLACES if place != picture.place])
    figures = tuple(
        replace(figure, mouth=rng.choice([one for one in world.MOUTHS if one != figure.mouth]), blush=not figure.blush)
        for figure in picture.figures
    )
    other = replace(picture, grain=rng.randrange(1 << 30), place=place, figures=figures, things=(), private_tags=())
    return _light(rng, _patterned(rng, other))


def _patterned(rng: random.Random, picture: Picture) -> Picture:
    pattern = weighted(rng, world.PATTERNS)
    return replace(picture, pattern=pattern, pattern_colour=weighted(rng, tuple(world.CLOTH_COLOURS)))


def _light(rng: random.Random, picture: Picture) -> Picture:
    """`picture` with a time of day and weather that its place can have."""
    time = weather = ""
    if picture.place in world.OPEN_PLACES:
        time = rng.choices(("day", "night", "sunset"), (0.6, 0.26, 0.14))[0]
        wet, often = ("snowing", 0.6) if picture.place == "snow" else ("rain", 0.1)
        weather = wet if rng.random() < often else ""
    elif picture.place == "room":
        time = rng.choices(("day", "night"), (0.6, 0.4))[0]
    return replace(picture, time=time, weather=weather)


def _private_tags(rng: random.Random, width: int, height: int) -> tuple[str, ...]:
    """What the owner notes that nobody can see in the picture."""
    tags = ["favourite"] if rng.random() < 0.06 else []
    if width / height > 1.7 and width > 700:
        tags.append("wallpaper")
    if rng.random() < 0.18:
        tags.append(f"source:https://pictures.example/{rng.randrange(10**6):06d}")
    if rng.random() < 0.07:
        tags.append(f"title:{rng.choice(world.TITLES)} {rng.randrange(1, 90)}")
    return tuple(tags)


def _with_figures(rng: random.Random, picture: Picture, series: Series | None, count: int) -> Picture:
    people: list[Person | None] = [None] * count
    if series:
        first = weighted(rng, series.people)
        second = weighted(rng, [person for person in series.people if person != first])
        people = [person if rng.random() < 0.88 else None for person in (first, second)[:count]]
    if count == 2 and picture.width < picture.height and rng.random() < 0.75:
        picture = replace(picture, width=picture.height, height=picture.width)
    framing = rng.choices(FRAMINGS, (0.42, 0.36, 0.22 if count == 1 else 0.0))[0]
    figures = tuple(_figure(rng, picture, series, person, framing) for person in people)
    if count == 2 and {figure.name for figure in figures} == {""} and figures[0].hair == figures[1].hair:
        others = [colour for colour in world.HAIR_COLOURS if colour != figures[0].hair]
        figures = (figures[0], replace(figures[1], hair=rng.choice(others)))
    things: tuple[Thing, ...] = ()
    if framing != "portrait" and rng.random() < 0.22:
        kind = weighted(rng, ("cat", "bird", "balloon", "flower", "lantern", "cake"))
        if kind not in {figure.held for figure in figures}:
            side = rng.choice((0.13, 0.87))
            height = 0.2 if kind in ("bird", "balloon") else 0.85
            colour = weighted(rng, tuple(world.CLOTH_COLOURS), 0.3)
            things = (Thing(kind, colour, side, height, rng.uniform(0.2, 0.26)),)
    return replace(picture, figures=figures, framing=framing, things=things)


def _without_figures(rng: random.Random, picture: Picture) -> Picture:
    if rng.random() < 0.4:
        return replace(picture, banner=bool(picture.series))
    kinds = rng.sample(world.THINGS, 1 if rng.random() < 0.6 else 2)
    kinds[0] = weighted(rng, world.THINGS, 0.5)
    kinds = list(dict.fromkeys(kinds))
    wide, colours = picture.width >= picture.height, tuple(world.CLOTH_COLOURS)
    places = [(0.5, 0.56)] if len(kinds) == 1 else [(0.28, 0.56), (0.72, 0.56)] if wide else [(0.42, 0.3), (0.58, 0.73)]
    places = [(x + rng.uniform(-0.07, 0.07), y + rng.uniform(-0.05, 0.05)) for x, y in places]
    sizes = (0.45, 0.75) if len(kinds) == 1 else (0.36, 0.5)
    things = tuple(
        Thing(kind, weighted(rng, colours, 0.3), x, y, rng.uniform(*sizes), rng.uniform(-15, 15))
        for kind, (x, y) in zip(kinds, places)
    )
    return replace(picture, things=things, banner=bool(picture.series))


def _figure(rng: random.Random, picture: Picture, series: Series | None, person: Person | None, framing: str) -> Figure:
    person = person or _nobody(rng)
    in_costume = series is not None and rng.random() < 0.72
    outfit, colours = _clothes(rng, picture, person, series if in_costume else None)
    extras = _extras(rng, picture, outfit, series if in_costume else None)
    held = _held(rng, picture) if framing != "portrait" and rng.random() < 0.4 else ""
    poses = (
        rng.choices(("standing", "sitting", "jumping"), (0.62, 0.24, 0.14)) if framing == "full body" else ["standing"]
    )
    behind = framing != "portrait" and not held and rng.random() < 0.05
    arms = "hold" if held else "down"
    if not held and framing != "portrait":
        arms = rng.choices(("down", "wave", "up", "hip"), (0.5, 0.2, 0.14, 0.16))[0]
    return Figure(
        **vars(person),
        outfit=outfit,
        colours=colours,
        extras=extras,
        pose=poses[0],
        arms=arms,
        held=held,
        mouth=rng.choices(tuple(world.MOUTHS), (0.4, 0.2, 0.22, 0.18))[0],
        blush=rng.random() < 0.2,
        eyes_closed=rng.random() < 0.1,
        behind=behind,
        emblem=in_costume,
    )


def _nobody(rng: random.Random) -> Person:
    """Somebody without a name."""
    girl = rng.random() < 0.7
    styles = [style for style in world.HAIR_STYLES if style != "spiky"]
    style = weighted(rng, styles, 0.5) if girl else rng.choice(("short", "spiky"))
    hair, eyes = (weighted(rng, tuple(one), by) for one, by in ((world.HAIR_COLOURS, 0.6), (world.EYE_COLOURS, 0.5)))
    skin = rng.choices((0, 1, 2, 3), (5, 3, 2, 1))[0]
    return Person("", girl, hair, style, eyes, skin, weighted(rng, world.HEADWEAR, 0.6) if rng.random() < 0.36 else "")


def _held(rng: random.Random, picture: Picture) -> str:
    if picture.weather == "rain" and rng.random() < 0.7:
        return "umbrella"
    if picture.time == "night" and rng.random() < 0.25:
        return "lantern"
    return "book" if picture.place == "classroom" and rng.random() < 0.4 else weighted(rng, world.HELD, 0.5)


def _clothes(
    rng: random.Random, picture: Picture, person: Person, series: Series | None
) -> tuple[str, tuple[str, str]]:
    if series:
        outfit, first, second = series.look.costume
        return outfit if person.girl or outfit != "dress" else "shirt and pants", (first, second)
    outfits = world.OUTFITS if person.girl else world.BOYS_OUTFITS
    if picture.place == "classroom" and rng.random() < 0.5:
        outfit = "school uniform"
    elif picture.place == "snow" and rng.random() < 0.6:
        outfit = "coat"
    else:
        outfit = weighted(rng, outfits, 0.6)
    first = weighted(rng, tuple(world.CLOTH_COLOURS), 0.45)
    second = weighted(rng, [colour for colour in world.CLOTH_COLOURS if colour != first], 0.6)
    return outfit, ("white" if outfit == "school uniform" else first, second)


def _extras(rng: random.Random, picture: Picture, outfit: str, series: Series | None) -> tuple[str, ...]:
    extras = {series.look.extra} if series and series.look.extra else set()
    if picture.place == "snow" and rng.random() < 0.5:
        extras.add("scarf")
    if rng.random() < 0.22:
        extras.add(weighted(rng, world.EXTRAS, 0.7))
    covered = "scarf" in extras or outfit in ("hoodie", "armor", "kimono", "school uniform", "coat")
    return tuple(sorted(extras - {"necktie"} if covered else extras))


def _count_tags(picture: Picture) -> set[str]:
    sexes = Counter("girl" if figure.girl else "boy" for figure in picture.figures)
    tags = {f"{count}{one}{'s' * (count > 1)}" for one, count in sexes.items()}
    if not picture.figures:
        kinds = {thing.kind for thing in picture.things}
        return {"no humans"} | ({"still life"} if kinds and not kinds & set(world.ANIMALS) else set())
    return tags | ({"solo"} if len(picture.figures) == 1 else set()) | {picture.framing}


def _place_tags(picture: Picture) -> set[str]:
    tags = set(world.PLACE_TAGS.get(picture.place, ()))
    if picture.place == "simple":
        look = picture.pattern_colour if picture.pattern == "plain" else picture.pattern
        tags |= {"simple background", f"{look} background"}
    if not picture.figures and not picture.things:
        tags.add("scenery")
    if picture.place in world.OPEN_PLACES:
        tags.add(picture.time)
        if picture.time == "night":
            tags |= {"night sky"} | ({"moon", "starry sky"} if not picture.weather else set())
        if picture.time == "day" and not picture.weather:
            tags |= {"blue sky", "cloud"}
    if picture.place == "room":
        tags |= {picture.time} | ({"moon"} if picture.time == "night" else set())
    tags |= {"flower"} if picture.place == "field" else set()
    return tags | ({picture.weather} if picture.weather else set())


def _figure_tags(figure: Figure, picture: Picture) -> set[str]:
    tags = {f"{figure.hair} hair", *world.HAIR_STYLE_TAGS[figure.style]}
    if figure.behind:
        tags.add("from behind")
    else:
        tags |= {"closed eyes"} if figure.eyes_closed else {f"{figure.eyes} eyes"}
        tags |= set(world.MOUTHS[figure.mouth]) | ({"blush"} if figure.blush else set())
    if figure.headwear:
        tags |= {figure.headwear} | ({"hat"} if figure.headwear in world.HATS else set())
    tags |= _clothes_tags(figure, picture.framing)
    if picture.framing == "full body":
        tags.add(figure.pose)
    if picture.framing != "portrait":
        tags |= {"up": {"arms up"}, "wave": {"waving"}, "hip": {"hand on hip"}}.get(figure.arms, set())
        if figure.held:
            tags |= {figure.held, "holding", f"holding {figure.held}"}
    if figure.name:
        tags.add(f"character:{figure.name}")
    return tags


def _clothes_tags(figure: Figure, framing: str) -> set[str]:
    """Only what the framing shows: a portrait ends below the shoulders, an upper body above the knees."""
    above, hips, legs = world.CLOTHES_TAGS[figure.outfit]
    if figure.outfit == "school uniform" and not figure.girl:
        hips = ""
    seen = [above, hips if framing != "portrait" else "", legs if framing == "full body" else ""]
    text = ", ".join(filter(None, seen)).format(first=figure.colours[0], second=figure.colours[1])
    tags = {*text.split(", "), *figure.extras}
    if figure.behind:
        tags -= {"glasses", "necktie", "eyepatch", "sailor collar"}
    return tags if framing != "portrait" else tags - {"gloves"}
