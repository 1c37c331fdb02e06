"""JSON sidecars: which strings in them are tags, and how one goes in or out with every other byte left as it is.

Read are Hydrus' own export (a list of tags, or such a list under any key that ends in the word `tags`), gallery-dl's (`tags`, a
list, also of objects with a `name`, or one string; `tag_string` and `tags_artist`, `tags_character` ... beside it), what taggers write
(`tags`, an object of a score for each tag), and a record of a table of captions
(see `tagcheck.library.folder.tables`). The text is not parsed and written anew: each tag is known by where it stands.
"""

from __future__ import annotations

import json
import json.decoder
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tagcheck.library.folder import sidecar_text
from tagcheck.library.folder.sidecar_text import AnySidecar, CannotEdit, Habit, Memory, NotASidecar, Reading, Sidecar
from tagcheck.library.folder.tag_names import core, name, seen
from tagcheck.tags import is_sentence

LARGEST = 16 << 20  # bytes
BLANKS = Reading(blanks=True)
DEEPEST = 60
_PART = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|[^\s,:"\[\]{}]+', re.DOTALL)
scanstring: Callable[[str, int, bool], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]
MAIN = re.compile(
    r"(?!(?:search|query|locked|deleted|removed|rejected|negative|excluded|ignored|banned|blacklist\w*)[ _-])"
    r"(?:[\w -]+[ _-])?tags|tag_string|hashtags",
    re.IGNORECASE,
)
PART = re.compile(r"(?:tags|tag_string)_\w+", re.IGNORECASE)
CAPTION = ("text", "caption", "prompt")  # in a table's record, where no key says "tags"
NOT_TAGS = frozenset({"tags_deleted", "deleted_tags", "tag_string_meta_count"})


class NoTags(NotASidecar):
    """Sound JSON that holds no tags: a sidecar of some other kind."""


@dataclass(frozen=True)
class Node:
    """One value in the text, from `start` to `end`; `value` of a string, `items` of a list, `members` of an object. `scored` are the
    members of one that holds numbers alone, each a node with the key as `value`.
    """

    start: int
    end: int
    value: str | None = None
    items: tuple[Node, ...] | None = None
    members: tuple[tuple[str, Node], ...] | None = None
    scored: tuple[Node, ...] | None = None
    number: bool = False

    @property
    def texts(self) -> list[str]:
        """The strings of a list, and the names of objects in it, "" for what is neither."""
        return [(item.name.value if item.name else item.value) or "" for item in self.items or ()]

    @property
    def name(self) -> Node | None:
        """The string that names an object, as gallery-dl keeps pixiv's tags."""
        members = dict(self.members or ())
        return next(
            (members[key] for key in ("name", "tag") if key in members and members[key].value is not None), None
        )


@dataclass(frozen=True)
class Field:
    """Tags in a list of strings (`listed`), or in one with commas or `blanks`. New ones go to the `main` fields."""

    node: Node
    main: bool
    listed: bool
    blanks: bool = False
    booru: bool = False


def parse(text: str) -> Node:
    """The JSON document as nodes. Raises `NotASidecar`."""
    try:
        json.loads(text, strict=False, parse_int=str)  # it is sound: all that is left to find is what stands where
        parts = _PART.finditer(text)
        return _node(next(parts), parts, 0)
    except (ValueError, RecursionError) as error:
        raise NotASidecar(f"is not whole JSON ({error})") from None


def _node(first: re.Match[str], parts: Iterator[re.Match[str]], depth: int) -> Node:
    """The value whose text begins with `first`, out of the `parts` of a sound document that follow."""
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST}")
    start, mark = first.start(), first[0][0]
    if mark == '"':
        return Node(start, first.end(), value=scanstring(first.string, start + 1, False)[0])
    if mark not in "[{":
        return Node(start, first.end(), number=mark in "-0123456789")
    items, members, keys = [], [], []
    while (part := next(parts))[0] not in "]}":
        if mark == "[":
            items.append(_node(part, parts, depth + 1))
        else:
            key, _ = scanstring(part.string, part.start() + 1, False)
            members.append((key, _node(next(parts), parts, depth + 1)))
            keys.append(part.start())
    if mark == "[":
        return Node(start, part.end(), items=tuple(items))
    scored = [Node(at, one[1].end, value=one[0], members=(one,)) for at, one in zip(keys, members) if one[1].number]
    return Node(
        start, part.end(), members=tuple(members), scored=tuple(scored) if len(scored) == len(members) else None
    )


def strings(data: bytes) -> list[str]:
    """The strings of a JSON sidecar that hold several tags, where commas and blanks alone tell them apart."""
    try:
        found = decode(data).fields
    except NotASidecar:
        return []
    return [field.node.value or "" for field in found if not field.listed and not field.booru]


def captions(data: bytes) -> list[str]:
    """The caption of a table's record that has no tags beside it."""
    try:
        root = parse(sidecar_text.text_of(data, LARGEST)[0])
    except NotASidecar:
        return []
    return [] if fields(root) else [one.node.value or "" for one in fields(root, table=True)]


def fields(root: Node, table: bool = False) -> list[Field]:
    """Where tags stand in a document, or in one record of a table."""
    if root.items is not None:
        return [Field(root, True, True)] if _listed(root) and not any(item.members for item in root.items) else []
    found = [*_fields(root, False)]
    mains = [field for field in found if field.main]
    if table and not found:
        members = dict(root.members or ())
        said = [members[key] for key in CAPTION if key in members and members[key].value is not None]
        if said:  # the first that holds no sentence, where several are there
            return [Field(min(said, key=lambda one: is_sentence(one.value or "")), True, False)]
    return found if mains else [replace(field, main=True) for field in found]


def _fields(node: Node, inside: bool) -> Iterator[Field]:
    members = node.members or ()
    first = next((key for key, _ in members if key == "general"), members[0][0] if members else "")
    for key, value in members:
        main, part = bool(MAIN.fullmatch(key)), bool(PART.fullmatch(key))
        if key in NOT_TAGS or not (main or part or inside or value.members):
            continue
        if value.scored is not None and (main or part or inside):
            yield Field(replace(value, items=value.scored), main or (inside and key == first), True)
        elif value.members is not None:
            yield from _fields(value, inside or main)
        elif value.items is not None and _listed(value):
            yield Field(value, main or (inside and key == first), True)
        elif value.value is not None and (main or part):
            booru = key.lower().startswith("tag_string")
            yield Field(value, main, False, booru or "," not in value.value, booru)


def _listed(node: Node) -> bool:
    """Whether a list holds strings or named objects, with numbers and nulls among them at the most, which are no tags."""
    items = node.items or ()
    return not items or (
        any(node.texts) and all(item.items is None and (item.members is None or item.name) for item in items)
    )


@dataclass(frozen=True)
class JsonSidecar(AnySidecar):
    """A JSON sidecar taken apart."""

    text: str
    bom: bytes
    table: bool = False
    blanks: tuple[bool, ...] | None = None  # of each field, as it was when the file was read
    escaped: bool = False  # whether it writes escapes for what is not ASCII
    reading: Reading = BLANKS  # of strings that do not tell by themselves

    @cached_property
    def fields(self) -> list[Field]:
        """Where its tags stand."""
        found = fields(parse(self.text), self.table)
        if self.table or not self.reading.blanks:
            return [replace(field, blanks=field.booru) for field in found]
        return [replace(field, blanks=blank) for field, blank in zip(found, self.blanks)] if self.blanks else found

    def _inner(self, field: Field) -> Sidecar:
        """A string that holds several tags."""
        reading = BLANKS if field.blanks else Reading(self.reading.marks)
        return sidecar_text.taken_apart(field.node.value or "", reading=reading)

    def _written(self, text: str) -> JsonSidecar:
        return replace(self, text=text, blanks=tuple(field.blanks for field in self.fields))

    @property
    def spellings(self) -> list[tuple[str, str]]:
        found = []
        for field in self.fields:
            if field.listed:
                found += [(name(raw), core(seen(raw).strip())) for raw in field.node.texts]
            else:
                found += self._inner(field).spellings
        return [(one, raw) for one, raw in found if one]

    def without(self, names: Collection[str], keep_marks: bool = False) -> JsonSidecar:
        sidecar = self
        for number in range(len(self.fields)):
            field = sidecar.fields[number]
            if not field.listed:
                new = self._inner(field).without(names, keep_marks).text
                sidecar = sidecar._written(_with_string(sidecar.text, field.node, new, self.escaped))
                continue
            for place, raw in reversed([*enumerate(field.node.texts)]):
                if name(raw) in names:
                    sidecar = sidecar._written(_without_item(sidecar.text, sidecar.fields[number].node, place))
        return sidecar

    def with_tag(self, tag: str, habit: Habit, memory: Memory | None) -> JsonSidecar:
        sidecar = self
        if not any(field.main for field in self.fields):
            raise CannotEdit("has no list that a tag could be put into")
        for number in range(len(self.fields)):
            field = sidecar.fields[number]
            if field.main and field.listed:
                raw = memory.raw if memory else habit.usual(tag) or _new(tag, field, habit)
                sidecar = sidecar._written(_with_item(sidecar.text, field.node, raw, memory, self.escaped))
            elif field.main:
                inner = self._inner(field)
                usual = replace(habit, joint=" " if field.blanks else ", ", ending="")
                new = inner.with_tag(tag, sidecar_text.habit_of([inner], usual), memory).text
                sidecar = sidecar._written(_with_string(sidecar.text, field.node, new, self.escaped))
        return sidecar

    def memory(self, tag: str) -> Memory | None:
        for field in filter(lambda one: one.main, self.fields):
            if not field.listed:
                if found := self._inner(field).memory(tag):
                    return found
                continue
            here = field.node.texts
            for place, raw in enumerate(here):
                if name(raw) == tag:
                    before = tuple(name(one) for one in reversed(here[:place]))
                    return Memory(raw, before, score=_score_of(self.text, field.node, place))
        return None

    def encode(self) -> bytes:
        return sidecar_text.encoded(self.text, self.bom)


def decode(data: bytes, table: bool = False, reading: Reading = BLANKS, captions: bool = True) -> JsonSidecar:
    """Take a JSON sidecar apart, or a record of a `table`, whose `captions` count as tags or not. Raises `NotASidecar` for
    what is damaged, `NoTags` for what holds none.

    >>> decode(b'{"tags": ["long_hair", "solo"]}').names
    ['long hair', 'solo']
    """
    text, bom = sidecar_text.text_of(data, LARGEST)
    escaped = text.isascii() and bool(re.search(r"\\u[0-9a-fA-F]{4}", text))
    sidecar = JsonSidecar(text or '{"tags": []}', bom, table, escaped=escaped, reading=reading)
    if not sidecar.fields or not (captions or fields(parse(sidecar.text))):
        raise NoTags("holds no tags that are known here")
    return sidecar


def _new(tag: str, field: Field, habit: Habit) -> str:
    """A tag that is not in use yet, as the others of its list and of the library are written."""
    lines = "\n".join(raw.replace("\n", " ") for raw in field.node.texts)
    own = sidecar_text.habit_of([sidecar_text.taken_apart(lines + "\n")], habit)
    return sidecar_text.spelled(tag, own)


def _without_item(text: str, node: Node, place: int) -> str:
    items: Any = node.items
    if place:
        return text[: items[place - 1].end] + text[items[place].end :]
    if len(items) > 1:
        return text[: items[0].start] + text[items[1].start :]
    return text[: node.start + 1] + text[node.end - 1 :]


def _with_item(text: str, node: Node, raw: str, memory: Memory | None, escaped: bool) -> str:
    items: Any = node.items
    new = json.dumps(raw, ensure_ascii=escaped)
    if node.scored is not None:
        new += _colon(text, node) + ((memory.score if memory else "") or _certain(text, node))
    elif items and items[-1].name:
        new = _like(text, items[-1], new)
    if not items:
        return text[: node.start + 1] + new + text[node.end - 1 :]
    if len(items) > 1:
        joint = text[items[0].end : items[1].start]
    else:
        lead = text[node.start + 1 : items[0].start]
        joint = "," + (lead or " ")
    last = {name(one): item.end for one, item in zip(node.texts, items, strict=True)}
    anchor = next((last[one] for one in memory.before if one in last), 0) if memory else items[-1].end
    if anchor:
        return text[:anchor] + joint + new + text[anchor:]
    return text[: items[0].start] + new + joint + text[items[0].start :]


def _score_of(text: str, node: Node, place: int) -> str:
    """The score of a tag as it is written, "" in a list without scores."""
    if node.scored is None:
        return ""
    ((_, value),) = node.scored[place].members or ()
    return text[value.start : value.end]


def _certain(text: str, node: Node) -> str:
    """The score of a tag that somebody has put there: 1, or the highest where they go further, as percentages do."""
    here = [_score_of(text, node, place) for place in range(len(node.scored or ()))]
    highest = max(here, key=float, default="1.0")
    return highest if float(highest) > 1 else "1" if here and all(one.lstrip("-").isdigit() for one in here) else "1.0"


def _colon(text: str, node: Node) -> str:
    """What stands between a key and its number."""
    for one in node.scored or ():
        ((_, value),) = one.members or ()
        key = _PART.match(text, one.start)
        return text[key.end() : value.start] if key else ": "
    return ": "


def _like(text: str, item: Node, new: str) -> str:
    """An object like another one, of this name; what else the other says is null."""
    made, end = "", item.start
    for _, value in item.members or ():
        made += text[end : value.start] + (new if value == item.name else "null")
        end = value.end
    return made + text[end : item.end]


def _with_string(text: str, node: Node, new: str, escaped: bool) -> str:
    """The text with a string's value changed, its untouched ends written as they were."""
    old = node.value or ""
    if new == old:
        return text
    head = _alike(old, new)
    tail = _alike(old[head:][::-1], new[head:][::-1])
    offsets = _offsets(text, node)
    middle = json.dumps(new[head : len(new) - tail], ensure_ascii=escaped)[1:-1]
    return text[: offsets[head]] + middle + text[offsets[len(old) - tail] :]


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return next((place for place, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))


def _offsets(text: str, node: Node) -> list[int]:
    """Where each character of a string's value begins in the text, and where its last one ends."""
    offsets, at = [], node.start + 1
    escape = re.compile(
        r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL
    )
    while (found := escape.match(text, at, node.end - 1)) is not None:
        offsets.append(at)
        at = found.end()
    return [*offsets, at]
