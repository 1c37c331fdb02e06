"""The text of a sidecar: which tags it holds, and how one goes in or out with the rest left as it is. Pure text.

Two habits are read. Hydrus exports one tag a line; kohya's trainers and most taggers keep one line
of comma-separated tags, often with underscores and with booru escapes (`miku_\\(vocaloid\\)`).
Tags are compared by their *name*: cleaned, escapes and underscores gone. The file keeps the
owner's spelling. Why this is so: docs/decisions/sidecars.md.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tagcheck import tags

BOM = b"\xef\xbb\xbf"
LARGEST = 1 << 20  # bytes; what is larger is some other text that happens to stand beside a picture
_LINE_END = re.compile(r"\r\n|\r|\n")
_SEPARATOR = re.compile(r"\r\n|\r|\n|,")
_ESCAPED = re.compile(r"\\([()])")
_BRACKET = re.compile(r"(?<!\\)([()])")


class NotASidecar(ValueError):
    """These bytes are no sidecar that can be read, and so none that may be written. The message says why."""


class CannotEdit(ValueError):
    """The change cannot be made without changing how the rest of the file reads. The message says why."""


@dataclass(frozen=True)
class Entry:
    """One tag in the text: `raw` stands at `start` to `end`, and `name` is what it is compared by."""

    start: int
    end: int
    raw: str
    name: str


@dataclass(frozen=True)
class Sidecar:
    """A sidecar taken apart. `lines` is True for one tag a line, False for commas, None where one tag or none leaves it open."""

    text: str
    bom: bool
    lines: bool | None
    entries: tuple[Entry, ...]

    @property
    def names(self) -> list[str]:
        """The names of its tags, without repeats, in the file's order."""
        return list(dict.fromkeys(entry.name for entry in self.entries))


@dataclass(frozen=True)
class Habit:
    """How an owner writes sidecars, for what one file alone does not show.

    `joint` stands between two tags, `ending` after the last one; `underscores` for spaces,
    `escapes` before brackets; `bom` and `full_name` (`picture.jpg.txt`, not `picture.txt`) are for
    sidecars that have to be made.
    """

    joint: str = "\n"
    ending: str = ""
    underscores: bool = False
    escapes: bool = False
    bom: bool = False
    full_name: bool = True


@dataclass(frozen=True)
class Memory:
    """How a tag stood in an earlier version of the file: its spelling, and the names before it, the nearest first."""

    raw: str
    before: tuple[str, ...] = ()


@lru_cache(maxsize=1 << 16)
def name(raw: str) -> str:
    """What a tag in a sidecar is compared by and shown as: cleaned, `\\(` unescaped, underscores as spaces (kaomoji stay).

    >>> name(r"Hatsune_Miku_\\(Vocaloid\\)"), name("series:re:zero"), name("^_^"), name("mood:^_^")
    ('hatsune miku (vocaloid)', 'series:re:zero', '^_^', 'mood:^_^')
    """
    namespace, subtag = tags.split(tags.clean(_ESCAPED.sub(r"\1", raw)))
    return tags.join(tags.from_booru(namespace) or namespace, tags.from_booru(subtag) or subtag)


def decode(data: bytes) -> Sidecar:
    """Take a sidecar apart. Raises `NotASidecar` for what is not UTF-8 text, is binary, or is too large.

    >>> decode(b"long_hair, 1girl").names
    ['long hair', '1girl']
    """
    if len(data) > LARGEST:
        raise NotASidecar(f"is larger than {LARGEST >> 20} MiB, which no list of tags is")
    if b"\0" in data:
        raise NotASidecar("is not text (or is UTF-16): save it as UTF-8")
    bom = data.startswith(BOM)
    try:
        text = data[len(BOM) if bom else 0 :].decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotASidecar(f"is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    lines = _by_lines(text)
    return Sidecar(text, bom, lines, _entries(text, lines))


def edited(
    data: bytes | None,
    add: Sequence[str],
    remove: Collection[str],
    habit: Habit,
    remembered: Callable[[str], Memory | None] = lambda name: None,
) -> bytes:
    """The bytes of a sidecar with the tags named in `add` put in and those in `remove` taken out, all else kept.

    `data` None means there is no file yet. `remembered` tells how a tag was once spelled here, and
    where it stood. Raises `NotASidecar`, or `CannotEdit` where the result would not read as meant.
    """
    old = decode(data if data is not None else (BOM if habit.bom else b""))
    unwanted = {name(tag) for tag in remove}
    new = _without(old, unwanted)
    present = set(new.names)
    for tag in dict.fromkeys(add):
        if name(tag) not in present:
            new = _with(new, tag, habit_of([old], habit), remembered(name(tag)))
            present.add(name(tag))
    result = (BOM if old.bom else b"") + new.text.encode("utf-8")
    expected = {one for one in old.names if one not in unwanted} | {name(tag) for tag in add}
    if set(decode(result).names) != expected:
        raise CannotEdit("would read differently afterwards, since a tag in it holds a comma")
    return result


def habit_of(sidecars: Iterable[Sidecar], default: Habit = Habit()) -> Habit:
    """The habit that most of `sidecars` show; `default` where they show none."""
    votes: dict[str, Counter] = {key: Counter() for key in ("joint", "ending", "underscores", "escapes", "bom")}
    for sidecar in sidecars:
        for key, value in _shown(sidecar).items():
            votes[key][value] += 1
    return replace(default, **{key: counter.most_common(1)[0][0] for key, counter in votes.items() if counter})


def memory(sidecar: Sidecar, tag: str) -> Memory | None:
    """How the tag named `tag` stands in this version, or None when it does not."""
    for place, entry in enumerate(sidecar.entries):
        if entry.name == tag:
            return Memory(entry.raw, tuple(one.name for one in reversed(sidecar.entries[:place])))
    return None


def _by_lines(text: str) -> bool | None:
    """One tag a line, or commas? A tag in a line may hold a comma (`title:hello, world`), so commas must be the rule to
    count, or end a line.
    """
    lines = [line.strip() for line in _LINE_END.split(text) if line.strip()]
    with_comma = [line for line in lines if "," in line]
    if len(lines) < 2:
        return False if with_comma else None
    if any(line.endswith(",") for line in lines):
        return False
    if 2 * len(with_comma) == len(lines):
        return sum(line.count(",") for line in with_comma) == len(with_comma)
    return 2 * len(with_comma) < len(lines)


def _entries(text: str, lines: bool | None) -> tuple[Entry, ...]:
    found, start = [], 0
    pattern = _LINE_END if lines else _SEPARATOR
    for end, after in [*((match.start(), match.end()) for match in pattern.finditer(text)), (len(text), len(text))]:
        raw = text[start:end].strip()
        if raw:
            first = start + len(text[start:end]) - len(text[start:end].lstrip())
            found.append(Entry(first, first + len(raw), raw, name(raw)))
        start = after
    return tuple(found)


def _shown(sidecar: Sidecar) -> dict[str, Any]:
    """What one sidecar shows of its owner's habit."""
    shown: dict[str, Any] = {}
    text, entries = sidecar.text, sidecar.entries
    if not entries:
        return shown
    shown["bom"] = sidecar.bom
    shown["ending"] = text[entries[-1].end :] if _LINE_END.fullmatch(text[entries[-1].end :]) else ""
    if len(entries) > 1:
        joints = Counter(text[one.end : two.start] for one, two in itertools.pairwise(entries))
        shown["joint"] = _joint(joints, bool(sidecar.lines))
    subtags = [tags.split(tags.clean(entry.raw))[1] for entry in entries]
    words = Counter(letter for subtag in subtags if subtag not in tags.KAOMOJI for letter in "_ " if letter in subtag)
    if words:
        shown["underscores"] = words["_"] > words[" "]
    brackets = Counter(
        bool(_ESCAPED.search(entry.raw))
        for entry in entries
        if _ESCAPED.search(entry.raw) or _BRACKET.search(entry.raw)
    )
    if brackets:
        shown["escapes"] = brackets[True] > brackets[False]
    return shown


def _joint(joints: Counter, lines: bool) -> str:
    """The usual text between two tags: a line end, or what stands between two on one line."""
    ends = [_LINE_END.search(joint) for joint, _ in joints.most_common()]
    if lines:
        return next((end[0] for end in ends if end), "\n")
    return next((joint for (joint, _), end in zip(joints.most_common(), ends) if not end), ", ")


def _without(sidecar: Sidecar, names: Collection[str]) -> Sidecar:
    """Cut the tags of these names out, each with the separator that belonged to it."""
    while True:
        entries, text = sidecar.entries, sidecar.text
        place = next((place for place, entry in enumerate(entries) if entry.name in names), None)
        if place is None:
            return sidecar
        entry = entries[place]
        start, end = entry.start, entry.end
        before = text[entries[place - 1].end : start] if place else None
        after = text[end : entries[place + 1].start] if place + 1 < len(entries) else None
        if after is not None and (before is None or not _LINE_END.search(after) or _LINE_END.search(before)):
            end = entries[place + 1].start
        elif before is not None:
            start = entries[place - 1].end
        text = text[:start] + text[end:]
        sidecar = replace(sidecar, text=text, entries=_entries(text, sidecar.lines))


def _with(sidecar: Sidecar, tag: str, habit: Habit, memory: Memory | None) -> Sidecar:
    """Put one tag in: where it once stood, else behind the last."""
    raw = memory.raw if memory else _spelled(tag, habit)
    text, entries = sidecar.text, sidecar.entries
    lines = "," not in habit.joint if sidecar.lines is None else sidecar.lines
    joint = habit.joint if lines == ("," not in habit.joint) else "\n" if lines else ", "
    if not entries:
        ending = _LINE_END.search(text + habit.ending)
        text = raw + (ending[0] if ending else "")
    else:
        last = {entry.name: entry.end for entry in entries}
        anchor = next((last[one] for one in memory.before if one in last), 0) if memory else entries[-1].end
        if anchor:
            text = text[:anchor] + joint + raw + text[anchor:]
        else:
            text = text[: entries[0].start] + raw + joint + text[entries[0].start :]
    return replace(sidecar, text=text, lines=lines, entries=_entries(text, lines))


def _spelled(tag: str, habit: Habit) -> str:
    namespace, subtag = tags.split(tags.clean(tag))
    if habit.underscores:
        namespace, subtag = namespace.replace(" ", "_"), subtag.replace(" ", "_")
    raw = tags.join(namespace, subtag)
    return _BRACKET.sub(r"\\\1", raw) if habit.escapes else raw
