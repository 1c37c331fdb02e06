"""The tagger's tag names in the owner's own spelling.

A tagger that learned from a booru says `hatsune_miku`; the owner writes `character:hatsune miku`. In
the data folder an owner may keep `tag_map.json` (an object: the tagger's name to the owner's tag, or
null for "never") and `tag_map.csv` (name, category, count, aliases: the form that tag-completion
tools share), which gives today's names for old ones and says what is a series or a character. Where
the library has siblings, the dataset file has them too, and a name is the tag that its owner sees.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tagcheck import json_files, tags
from tagcheck.errors import BadFile
from tagcheck.files import there
from tagcheck.json_files import either, map_of, null, text

OWN_MAP, SHARED_MAP = "tag_map.json", "tag_map.csv"
CATEGORIES = {"1": "creator", "3": "series", "4": "character", "5": "meta"}


@dataclass(frozen=True)
class TagMap:
    """What the owner's two files and the library say. `own` the tagger's name -> tag or None; `current` any booru
    name -> today's; `aliases` today's name -> its other names; `namespaces` today's name -> namespace ("" for
    general); `siblings` a tag -> the tag that the owner sees in its place.
    """

    own: Mapping[str, str | None] = field(default_factory=dict)
    current: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    namespaces: Mapping[str, str] = field(default_factory=dict)
    siblings: Mapping[str, str] = field(default_factory=dict)


def load(folder: Path, siblings: Mapping[str, str] | None = None, shared: Path | None = None) -> TagMap:
    """The maps in `folder`, empty where there are none, with the library's `siblings` (`Dataset.siblings`).

    `shared` is another place of the map that is shared. Raises `BadFile` naming the file and line.
    """
    own: dict[str, str | None] = {}
    path = folder / OWN_MAP
    if there(path):
        document = json_files.read(
            path, map_of(either(null, text(1_000))), "it is not an object of names and tags, correct it"
        )
        own = {name: None if tag is None else tags.clean(tag) for name, tag in document.items()}
    current, aliases, namespaces = _shared(shared or folder / SHARED_MAP)
    return TagMap(own, current, aliases, namespaces, siblings or {})


def with_categories(known: TagMap, names: Sequence[str], namespaces: Sequence[str] | None) -> TagMap:
    """`known`, and the namespaces that a tagger's own files give its `names`, where `known` has none of its own.

    >>> spellings("miku", with_categories(TagMap(), ["miku"], ["character"]))
    ['character:miku', 'miku']
    """
    if namespaces is None:
        return known
    told = {known.current.get(name, name): space for name, space in zip(names, namespaces) if space}
    return replace(known, namespaces=told | dict(known.namespaces))


def _shared(path: Path) -> tuple[dict[str, str], dict[str, tuple[str, ...]], dict[str, str]]:
    current: dict[str, str] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    namespaces: dict[str, str] = {}
    if not there(path):
        return current, aliases, namespaces
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{path} is not a CSV file in UTF-8 ({error}): correct it or remove it") from None
    for line, row in enumerate(rows, 1):
        if len(row) < 2:
            raise BadFile(
                f"{path}, line {line}: name, category, count and aliases are expected: correct it or remove it"
            )
        if line == 1 and row[0] == "name":
            continue
        name, others = row[0], tuple(one.strip() for one in (row[3] if len(row) > 3 else "").split(",") if one.strip())
        aliases[name], namespaces[name] = others, CATEGORIES.get(row[1].strip(), "")
        for other in others:
            current.setdefault(other, name)
    current |= {name: name for name in aliases}
    return current, aliases, namespaces


def spellings(name: str, known: TagMap) -> list[str]:
    """Every tag that the tagger's name may stand for, before siblings, the likeliest first. [] for what its owner never wants.

    It is what the owner's own map says, or else the name as it is, today's name and its other names, each in its
    category's namespace first and then without.

    >>> spellings("hatsune_miku", TagMap(namespaces={"hatsune_miku": "character"}))
    ['character:hatsune miku', 'hatsune miku']
    """
    if name in known.own:
        tag = known.own[name]
        return [] if tag is None else [tag]
    today = known.current.get(name, name)
    space = known.namespaces.get(today, "")
    found = []
    for one in dict.fromkeys((name, today, *known.aliases.get(today, ()))):
        plain = tags.from_booru(one)
        if space:
            # A colon within the name ("re:zero") is no namespace there, so a space after it stays.
            within = one.lower() if tags.is_face(one) else one.replace("_", " ")
            found += [tags.clean(tags.join(space, within)), tags.join(space, plain)]
        found.append(plain)
    return list(dict.fromkeys(found))


def owners_tags(names: Iterable[str], library: Iterable[str], known: TagMap) -> list[str | None]:
    """The tag of the library that each of the tagger's names means, or None.

    The first of its spellings that the library has, or that has a sibling there; at last any
    namespace, where exactly one tag of the library has that subtag.

    >>> owners_tags(["hatsune_miku", "hat"], ["character:hatsune miku", "hat"], TagMap())
    ['character:hatsune miku', 'hat']
    """
    there = set(library)
    by_subtag: dict[str, list[str]] = {}
    for tag in sorted(there):
        by_subtag.setdefault(tags.split(tag)[1], []).append(tag)
    return [_owners_tag(name, there, by_subtag, known) for name in names]


def _owners_tag(name: str, there: set[str], by_subtag: Mapping[str, list[str]], known: TagMap) -> str | None:
    for spelling in spellings(name, known):
        for tag in (known.siblings.get(spelling, spelling), spelling):
            if tag in there:
                return tag
    if name in known.own:
        return None
    for one in dict.fromkeys((name, known.current.get(name, name))):
        for subtag in (tags.from_booru(one), one.replace("_", " ").lower()):
            if len(by_subtag.get(subtag, ())) == 1:
                return by_subtag[subtag][0]
    return None
