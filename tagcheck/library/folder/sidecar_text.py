"""The text of a sidecar: which tags it holds, and how one goes in or out with the rest left as it is. Pure text.

Hydrus exports one tag a line; kohya's trainers and most taggers keep one line of comma-separated tags, or several
such lines, each a caption of its own; image generators put a prompt above its parameters. Other marks than commas,
or blanks alone, part tags where a whole library is so (`tagcheck.library.folder.readings`). The file keeps the
owner's spelling; `tagcheck.library.folder.tag_names` says what is one tag. Why: docs/decisions/sidecars.md.
"""

from __future__ import annotations

import bisect
import itertools
import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from tagcheck import tags
from tagcheck.library.folder.tag_names import (
    BRACKET,
    UNDERSCORED,
    Spellings,
    capitalised,
    capitals,
    core,
    name,
    seen,
    underscored,
)

BOM = b"\xef\xbb\xbf"
CODECS = {BOM: "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"": "utf-8"}  # by what a file begins with
LARGEST = 1 << 20  # bytes; what is larger is some other text that happens to stand beside a picture
LINE_END = re.compile(r"\r\n|\r|\n")
EXTRA = r"\|\|\||;;;|<(?:lora|lyco|hypernet):[^<>\r\n]*>"  # kohya's marks for kept tags, networks named in a prompt
_NUMBER = r"[+-]?(?:\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})"
IN_PROMPT = rf"(?:(?<!\S)|\s?:\s?{_NUMBER}\s(?=(?-i:AND)))(?-i:BREAK|AND)(?![^\s,])"  # `cat :1.2 AND dog :0.8`
PARAMETERS = re.compile(r"(?:^|(?<=[\r\n]))(?:Negative [Pp]rompt:|Steps: \d+(?=[,\r\n]|$))")
LABEL = re.compile(r"(?:parameters\s*?[:\r\n]|(?:positive )?prompt:)\s*", re.IGNORECASE)
_OPENED = re.compile(rf"(?:[(\[{{]|{_NUMBER}::)\s*")
_CLOSED = re.compile(rf"(?<!\\)(?:(?:\s*:\s*{_NUMBER})?\s*[)\]}}]|\s*::)$")
_EITHER = re.compile(rf"(?<![\w.:]){_NUMBER}::|::(?!\w)|(?<!\\)[()\[\]{{}}]")
_ELSE = re.compile(r"[()\[\]{}<]|::|;;;|\|{3}|BREAK|AND")
_WORD = re.compile(r"\S*")
_LAST_WEIGHT = re.compile(rf"\s*:\s*{_NUMBER}\s*$")
_NO_TAG = re.compile(rf"(?:{EXTRA}|[()\[\]{{}}\s]|:\s*{_NUMBER}(?=[)\]}}]))+", re.IGNORECASE)
_PROGRAM = re.compile(r"\\.|[()\[\]{}|:]|[\r\n]", re.DOTALL)
_PAIRS = {")": "(", "]": "[", "}": "{"}
CLEAR = 10  # tags with letters, before the capitals of a folder count: a few may all be proper names
LONGEST_FACE = 50  # characters, with all that stands beside it without a blank
_ESCAPE = re.compile(r"\\[()]")
_LAST_WORD = re.compile(r"(?<![^\s_])[^\s_.]*[^\W_]$")  # with no stop within it
_ABBREVIATED = "mr mrs ms dr prof st jr sr etc vs vol feat ft inc ltd co corp"
ABBREVIATIONS = frozenset(_ABBREVIATED.split())


class NotASidecar(ValueError):
    """These bytes are no sidecar that can be read, and so none that may be written. The message says why."""


class CannotEdit(ValueError):
    """The change cannot be made without changing how the rest of the file reads. The message says why."""


@dataclass(frozen=True)
class Reading:
    """How the text sidecars of a library are taken apart: which characters part tags on a line, and whether blanks do."""

    marks: str = ","
    blanks: bool = False

    @property
    def separator(self) -> re.Pattern[str]:
        """What stands between two tags, where a line does not hold one alone."""
        return _separator(self.marks, self.blanks)


@lru_cache(maxsize=32)
def _separator(marks: str, blanks: bool, prompt: bool = False) -> re.Pattern[str]:
    between = r"\s+" if blanks else rf"\r\n|\r|\n|[{re.escape(marks)}]"
    return re.compile(f"{EXTRA}|{IN_PROMPT}|{between}" if prompt else f"{EXTRA}|{between}", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One tag in the text: `raw` stands at `start` to `end` with its weight, `core` is the tag alone, `name` what it is
    compared by. It is in the caption of number `group`; a new tag may stand before `before` and behind `after`.
    """

    start: int
    end: int
    raw: str
    name: str
    core: str = ""
    group: int = 0
    before: int = 0
    after: int = 0


@dataclass(frozen=True)
class Habit:
    """How an owner writes sidecars, for what one file alone does not show.

    `joint` stands between two tags, `ending` after the last one; `underscores` for spaces, `escapes` before brackets; `bom`,
    `full_name` (`picture.jpg.txt`, not `picture.txt`), `extension` and `template` (a JSON file without tags) are for sidecars
    that have to be made. `capitals`: how tags are capitalised in this folder, where it shows it. `spellings`: how each tag is usually written, the nearest first; `alike`: the same without the files that
    have underscores where this one has blanks (False), or the other way round (True).
    """

    joint: str = "\n"
    ending: str = ""
    underscores: bool = False
    escapes: bool = False
    bom: bytes = b""
    full_name: bool = True
    extension: str = ".txt"
    template: bytes = b""
    capitals: str | None = None
    spellings: Sequence[Spellings] = field(default=(), compare=False)
    alike: Mapping[bool, Sequence[Spellings]] = field(default_factory=dict, compare=False)

    def usual(self, tag: str) -> str | None:
        """The spelling that the owner uses most for this tag, None for a tag that is not in use."""
        found = next(filter(None, (one.of(name(tag)) for one in self.spellings)), None)
        return found and self._as_here(found)

    @property
    def everywhere(self) -> str | None:
        """How tags are capitalised in the whole library."""
        return next(filter(None, (one.capitals()[0] for one in self.spellings)), None)

    def _as_here(self, raw: str) -> str:
        """A spelling with the folder's capitals, where it has those of the whole library and not some of its own, as `NASA` has."""
        subtag = tags.split(raw)[1]
        its = {"title", "first"} if self.everywhere == "title" else {self.everywhere}
        if self.capitals in (None, self.everywhere) or capitals(subtag) not in its:
            return raw
        here = capitalised(subtag.lower(), self.capitals or "lower")
        here = here.replace(" ", "_") if "_" in subtag and " " not in subtag else here
        here = raw[: len(raw) - len(subtag)] + here
        return here if raw.endswith(subtag) and name(here) == name(raw) else raw


@dataclass(frozen=True)
class Memory:
    """How a tag stood in an earlier version: its spelling, the names before it (the nearest first), the captions it was in, its score
    as it was written.
    """

    raw: str
    before: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    score: str = ""


class AnySidecar(ABC):
    """A sidecar taken apart, whatever its form."""

    @property
    @abstractmethod
    def spellings(self) -> list[tuple[str, str]]:
        """(name, spelling) of each tag in it."""

    @property
    def names(self) -> list[str]:
        """The names of its tags, without repeats, in the file's order."""
        return list(dict.fromkeys(name for name, _ in self.spellings))

    @abstractmethod
    def without(self, names: Collection[str], keep_marks: bool = False) -> AnySidecar:
        """The same with the tags of these names cut out; with `keep_marks`, the marks between them stay in the text."""

    @abstractmethod
    def with_tag(self, tag: str, habit: Habit, memory: Memory | None) -> AnySidecar:
        """The same with one more tag, in each list or caption: where it once stood, else last."""

    @abstractmethod
    def memory(self, tag: str) -> Memory | None:
        """How the tag named `tag` stands in this version, or None when it does not."""

    @abstractmethod
    def encode(self) -> bytes:
        """Its bytes."""


@dataclass(frozen=True)
class Sidecar(AnySidecar):
    """A text sidecar taken apart. `lines` is True for one tag a line, False for marks between them, None where one tag
    or none leaves it open. `prompt`: tags stand before this place only, since a generator's parameters follow.
    """

    text: str
    bom: bytes
    lines: bool | None
    entries: tuple[Entry, ...]
    reading: Reading = Reading()
    prompt: int | None = None

    @property
    def spellings(self) -> list[tuple[str, str]]:
        return [(entry.name, entry.core) for entry in self.entries]

    @property
    def groups(self) -> int:
        """How many captions there are: 1, or the lines that each are one of their own."""
        return self.entries[-1].group + 1 if self.entries else 1

    def without(self, names: Collection[str], keep_marks: bool = False) -> Sidecar:
        sidecar = self
        while place := next((place + 1 for place, one in enumerate(sidecar.entries) if one.name in names), 0):
            start, end = _bare(sidecar, place - 1) if keep_marks else _cut(sidecar, place - 1)
            sidecar = sidecar._changed(start, end, "")
        return sidecar

    def with_tag(self, tag: str, habit: Habit, memory: Memory | None) -> Sidecar:
        raw = memory.raw if memory else habit.usual(tag) or spelled(tag, habit)
        if self.reading.blanks and not memory:
            raw = UNDERSCORED.sub("_", raw)
        lines = bool(LINE_END.search(habit.joint)) if self.lines is None and self.prompt is None else bool(self.lines)
        joint = habit.joint if lines == bool(LINE_END.search(habit.joint)) else "\n" if lines else ", "
        if self.reading.blanks and not lines and joint.strip():
            joint = " "
        sidecar = replace(self, lines=lines)
        if not self.entries and self.prompt is not None:
            at = _after_label(self.text, self.prompt)
            return sidecar._changed(at, at, raw if self.text[at:].startswith(("\r", "\n")) else raw + "\n")
        if not self.entries:
            at = len(self.text) - len(self.text.lstrip(" \t"))
            if self.text.startswith(".", at) and not _may_end(raw, "."):
                raw += joint
            return sidecar._changed(at, at, raw + ("" if LINE_END.search(self.text) else habit.ending))
        wanted: Sequence[int] = range(self.groups)
        if memory and memory.groups and max(memory.groups) < self.groups:
            wanted = memory.groups
        for group in sorted(wanted, reverse=True):
            entries = [one for one in self.entries if one.group == group]
            last = {one.name: one.after for one in entries}
            anchor = next((last[one] for one in memory.before if one in last), 0) if memory else entries[-1].after
            if anchor and (lines or anchor != entries[-1].after or _may_end(raw, self.text[anchor : anchor + 1])):
                sidecar = sidecar._changed(anchor, anchor, joint + raw)
            else:
                first = entries[-1 if anchor else 0].before
                sidecar = sidecar._changed(first, first, raw + joint)
        return sidecar

    def memory(self, tag: str) -> Memory | None:
        here = [place for place, entry in enumerate(self.entries) if entry.name == tag]
        if not here:
            return None
        first = self.entries[here[0]]
        before = [one.name for one in reversed(self.entries[: here[0]]) if one.group == first.group]
        return Memory(first.raw, tuple(before), tuple(dict.fromkeys(self.entries[place].group for place in here)))

    def marked(self) -> Sidecar:
        """The same with a mark behind the last tag, so that a full stop there reads as the tag's own; not where lines part tags."""
        if self.lines:
            return self
        end = max((entry.end for entry in self.entries), default=0)
        end += self.text.startswith(".", end)
        return self._changed(end, end, self.reading.marks[0]) if self.text[end - 1 : end] == "." else self

    def encode(self) -> bytes:
        return encoded(self.text, self.bom)

    def _changed(self, start: int, end: int, new: str) -> Sidecar:
        text = self.text[:start] + new + self.text[end:]
        prompt = None if self.prompt is None else self.prompt + len(new) - (end - start)
        return replace(self, text=text, prompt=prompt, entries=_entries(text, self.lines, self.reading, prompt))


def decode(data: bytes, reading: Reading = Reading()) -> Sidecar:
    """Take a sidecar apart. Raises `NotASidecar` for what is not UTF-8 text, is binary, or is too large.

    >>> decode(b"long_hair, 1girl").names
    ['long hair', '1girl']
    """
    return taken_apart(*text_of(data), reading)


def taken_apart(text: str, bom: bytes = b"", reading: Reading = Reading()) -> Sidecar:
    """A text that holds tags, taken apart. Commas behind words are clear, also where blanks part tags in most other files."""
    if reading.blanks and (words := text.split()) and any(_comma_ends(word, words) for word in words):
        reading = Reading()
    found = PARAMETERS.search(text)
    prompt = found.start() if found else None
    lines = False if prompt is not None else _by_lines(text, reading)
    return Sidecar(text, bom, lines, _entries(text, lines, reading, prompt), reading, prompt)


def _comma_ends(word: str, words: Sequence[str]) -> bool:
    """Whether a comma parts tags behind this one of a file's words, or within it where it is the only one."""
    return not tags.is_face(word) and len(word) > 1 and (word.endswith(",") or (len(words) == 1 and "," in word[1:]))


def text_of(data: bytes, largest: int = LARGEST) -> tuple[str, bytes]:
    """(text, the byte-order mark before it): UTF-8, or UTF-16 with such a mark. Raises `NotASidecar`."""
    if len(data) > largest:
        raise NotASidecar(f"is larger than {largest >> 20} MiB, which no list of tags is")
    bom = next(mark for mark in CODECS if data.startswith(mark))
    wide = CODECS[bom] != "utf-8"
    try:
        text = "\0" if b"\0" in data and not wide else data[len(bom) :].decode(CODECS[bom])
    except UnicodeDecodeError as error:
        raise NotASidecar(f"is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    if "\0" in text:
        raise NotASidecar("is not text (or is UTF-16 without a byte-order mark): save it as UTF-8")
    return text, bom


def encoded(text: str, bom: bytes) -> bytes:
    """The bytes of a text, as `text_of` found it."""
    return bom + text.encode(CODECS[bom], "surrogatepass")


def edited(
    data: bytes | None,
    add: Sequence[str],
    remove: Collection[str],
    habit: Habit,
    remembered: Callable[[str], Memory | None] = lambda name: None,
    decode: Callable[[bytes], AnySidecar] = decode,
) -> bytes:
    """The bytes of a sidecar with the tags named in `add` put in and those in `remove` taken out, all else kept.

    `data` None means there is no file yet. `remembered` tells how a tag was once spelled here, and
    where it stood. Raises `NotASidecar`, or `CannotEdit` where the result would not read as meant.
    """
    old = decode(data if data is not None else habit.template or habit.bom)
    unwanted = {name(tag) for tag in remove}
    own = _own(old, habit)
    expected = {one for one in old.names if one not in unwanted} | {name(tag) for tag in add}
    for keep_marks in (False, True):  # a mark that stays can show what the rest no longer does: that commas part tags
        new = old.without(unwanted, keep_marks)
        present = set(new.names)
        # Those that end in a stop come last: none is to be the only one with its stop.
        for tag in sorted(dict.fromkeys(add), key=lambda one: one.endswith(".")):
            if name(tag) not in present:
                new = new.with_tag(tag, own, remembered(name(tag)))
                present.add(name(tag))
        for one in (new, new.marked()) if isinstance(new, Sidecar) else (new,):
            if set(decode(one.encode()).names) == expected:
                return one.encode()
    raise CannotEdit(
        "would read differently afterwards, since a tag in it holds or ends with what parts tags or captions here"
    )


def _own(old: AnySidecar, habit: Habit) -> Habit:
    """The habit of one file. Where it has underscores for spaces, or none, as others there do, files that differ in it show nothing."""
    own, manner = habit_of([old], habit), underscored(core for _, core in old.spellings)
    return own if manner is None or manner != habit.underscores else replace(own, spellings=own.alike.get(manner, ()))


def spelled(tag: str, habit: Habit) -> str:
    """A tag that is not in use yet, as the owner writes others."""
    namespace, subtag = tags.split(tags.clean(tag))
    prefix = next(filter(None, (one.prefix(namespace) for one in habit.spellings)), None) if namespace else ""
    if not tags.is_face(subtag):
        subtag = capitalised(subtag, habit.capitals or habit.everywhere or "lower")
        subtag = BRACKET.sub(r"\\\1", subtag) if habit.escapes and re.search(r"\(.*\)", subtag) else subtag
        subtag = subtag.replace(" ", "_") if habit.underscores else subtag
    if prefix is None:
        prefix = (namespace.replace(" ", "_") if habit.underscores else namespace) + ":"
    return prefix + subtag


def habit_of(sidecars: Iterable[AnySidecar], default: Habit = Habit()) -> Habit:
    """The habit that most of the text sidecars among `sidecars` show; of how tags are spelled also the others, where no text sidecar
    shows it; `default` where none does.
    """
    votes: dict[bool, dict[str, Counter[Any]]] = {False: defaultdict(Counter), True: defaultdict(Counter)}
    for sidecar in sidecars:
        text = isinstance(sidecar, Sidecar)
        for key, value in (_shown(sidecar) if isinstance(sidecar, Sidecar) else _manner(sidecar)).items():
            votes[text][key][value] += 1
    found = votes[False] | votes[True]
    return replace(default, **{key: counter.most_common(1)[0][0] for key, counter in found.items()})


def capitals_of(sidecars: Sequence[AnySidecar]) -> str | None:
    """How tags are capitalised in these sidecars, in those of text where there are some; None where fewer than `CLEAR` show it."""
    counted = Spellings()
    for sidecar in [one for one in sidecars if isinstance(one, Sidecar)] or sidecars:
        for tag, spelling in sidecar.spellings:
            counted.count(tag, spelling)
    how, shown = counted.capitals()
    return how if shown >= CLEAR else None


def _by_lines(text: str, reading: Reading) -> bool | None:
    """Whether there is one tag a line. A tag may hold a comma, so commas must be the rule to count, or end a line."""
    lines = [line.strip() for line in LINE_END.split(text) if line.strip()]
    if reading.blanks:
        several = sum(len(line.split()) > 1 for line in lines)
        return None if not several and len(lines) < 2 else 2 * several < len(lines)
    marked = [len([*reading.separator.finditer(line)]) for line in lines]
    with_mark = [count for count in marked if count]
    if len(lines) < 2:
        stopped = any(line == "." or _stopped(line, 0, len(line), len(line)) for line in lines)
        return False if with_mark or stopped else None
    if any(line.endswith(tuple(reading.marks)) for line in lines):
        return False
    if 2 * len(with_mark) == len(lines):
        return sum(with_mark) == len(with_mark)
    return 2 * len(with_mark) < len(lines)


def _entries(text: str, lines: bool | None, reading: Reading, prompt: int | None) -> tuple[Entry, ...]:
    """The tags in the text, with the captions that they are in."""
    length = len(text) if prompt is None else prompt
    found: list[Entry] = []
    mixed = Spans(mixtures(text))
    for group, (start, end) in enumerate(_captions(text, length, lines, reading, prompt)):
        pattern = LINE_END if lines else _separator(reading.marks, reading.blanks, prompt is not None)
        spans = [*_segments(text, start, end, pattern, mixed)]
        if lines is False and not reading.blanks and spans and _stopped(text, *spans[-1], end):
            spans[-1] = (spans[-1][0], spans[-1][1] - 1)
        for (first, last), (inner_first, inner_last) in zip(spans, _inner(text, spans)):
            raw = text[inner_first:inner_last]
            if name(raw) and not mixed.meets(first, last) and not _no_tag(raw, text):
                spelling = core(seen(raw).strip())
                found.append(Entry(inner_first, inner_last, raw, name(raw), spelling, group, first, last))
    numbers = {group: place for place, group in enumerate(dict.fromkeys(entry.group for entry in found))}
    return tuple(one if numbers[one.group] == one.group else replace(one, group=numbers[one.group]) for one in found)


def _stopped(text: str, start: int, last: int, end: int) -> bool:
    """Whether the last item of a caption (to `end`) has a full stop behind it, as a sentence has, and none of its own as `m.d.`, `mr.`
    and an initial have. A title may be a sentence.
    """
    if text[last - 1 : last] != "." or text[last:end].strip():
        return False
    namespace, subtag = tags.split(text[start : last - 1])
    word = _LAST_WORD.search(subtag)
    own = (
        word is None
        or word[0].lower() in ABBREVIATIONS
        or (len(word[0]) == 1 and word[0].isalpha() and word[0] != subtag)
    )
    return not own and tags.clean(namespace) != "title"


def _may_end(raw: str, behind: str) -> bool:
    """Whether a tag reads as itself at the end of a caption with this behind it: a full stop, or something else."""
    return (
        _stopped(raw + ".", 0, len(raw) + 1, len(raw) + 1)
        if behind == "."
        else not _stopped(raw, 0, len(raw), len(raw))
    )


def _no_tag(raw: str, text: str) -> bool:
    """Whether an item is a network's name, the brackets around one, a full stop alone, or the BREAK of a generator."""
    marks = raw == "." or (_NO_TAG.fullmatch(raw) and not tags.is_face(name(raw)))
    return bool(marks) or (raw == "BREAK" and not text.isupper())


class Spans:
    """Spans of a text, to be asked quickly."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self._starts, self._ends = [start for start, _ in spans], [end for _, end in spans]

    def meets(self, start: int, end: int) -> bool:
        """Whether one of them shares a character with this one."""
        place = bisect.bisect_right(self._ends, start)
        return place < len(self._starts) and self._starts[place] < end


def mixtures(text: str) -> list[tuple[int, int]]:
    """Where a generator's prompt changes or mixes things while it draws: `[cat:dog:0.5]`, `[cat|dog]`, `{cat|dog}`; the outermost
    brackets, in order. Which of them a picture shows is not said, so that such an item is no tag.

    >>> mixtures("hat, [black cat:dog, white:0.5], [coat:0.5]")
    [(5, 31)]
    """
    found: list[tuple[int, int]] = []
    opened: list[tuple[str, int, dict[str, list[int]]]] = []  # bracket, where, the colons and strokes right within it
    for match in _PROGRAM.finditer(text) if "[" in text or "{" in text else ():
        mark, at = match[0], match.start()
        if mark in "\r\n":
            opened.clear()
        elif mark in "([{":
            opened.append((mark, at, {":": [], "|": []}))
        elif mark in ":|" and opened:
            opened[-1][2][mark].append(at)
        elif mark in _PAIRS and opened and opened[-1][0] == _PAIRS[mark]:
            _, start, within = opened.pop()
            colons, strokes = within[":"], within["|"]
            changed = mark == "]" and len(colons) > 1 and re.fullmatch(rf"\s*{_NUMBER}\s*", text[colons[-1] + 1 : at])
            sides = (text[start : strokes[0]], text[strokes[0] : at]) if strokes and mark in "]}" else ()
            if changed or (sides and all(any(letter.isalpha() for letter in side) for side in sides)):
                while found and found[-1][0] > start:
                    found.pop()
                found.append((start, at + 1))
    return found


def _captions(
    text: str, length: int, lines: bool | None, reading: Reading, prompt: int | None
) -> list[tuple[int, int]]:
    """The spans of the captions: each line where several lines of marked tags stand, none of which goes on in the next."""
    if prompt is not None and re.search(IN_PROMPT.replace("BREAK|", ""), text[:length]):
        weight = _LAST_WEIGHT.search(text[:length].rstrip()[-20:])
        length = len(text[:length].rstrip()) - (len(weight[0]) if weight else 0)
    whole = [(0 if prompt is None else _after_label(text, prompt), length)]
    if lines is not False or reading.blanks or prompt is not None:
        return whole
    ends = [*((match.start(), match.end()) for match in LINE_END.finditer(text)), (length, length)]
    spans, start = [], 0
    for end, after in ends:
        if text[start:end].strip():
            spans.append((start, end))
        start = after
    bare = [text[start:end].strip() for start, end in spans]
    wrapped = any(line.endswith(tuple(reading.marks)) for line in bare[:-1])
    several = sum(bool(reading.separator.search(line.rstrip(reading.marks))) for line in bare)
    return whole if wrapped or several < 2 or 2 * several <= len(spans) else spans


def _after_label(text: str, prompt: int) -> int:
    """Where a prompt begins behind a word that says that it is one."""
    found = LABEL.match(text, 0, prompt)
    return found.end() if found else 0


def _segments(text: str, start: int, end: int, pattern: re.Pattern[str], mixed: Spans) -> Iterable[tuple[int, int]]:
    """The spans between the marks, without blanks around them. A mark within a face (`;_;`) or what is `mixed` parts nothing."""
    for stop, after in [*((match.start(), match.end()) for match in pattern.finditer(text, start, end)), (end, end)]:
        if _in_face(text, stop, after) or (stop < after and mixed.meets(stop, after)):
            continue
        raw = text[start:stop]
        if raw.strip():
            first = start + len(raw) - len(raw.lstrip())
            yield first, first + len(raw.strip())
        start = after


def _in_face(text: str, start: int, end: int) -> bool:
    """Whether the mark at `start` belongs to a face that stands alone, as those of `;)` and `|_|` do."""
    if text[start:end] not in (";", "|"):
        return False
    window = max(0, start - LONGEST_FACE)
    first = max(max(text.rfind(blank, window, start) for blank in " ,\n\t") + 1, window)
    found = _WORD.match(text, first, start + LONGEST_FACE)
    word = found[0].lower() if found else ""
    faces = (word, word[:-1] if word[-1:] in (",", ";") else word)
    return any(tags.is_face(face) and start - first < len(face) for face in faces)


def _inner(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans without brackets that several tags share: `(long hair, smile:1.2)`, `((solo, hat), coat)`."""
    inner = list(spans)
    waiting: list[int] = []  # for each open bracket, the span that it stands before
    for place, (start, end) in enumerate(spans):
        raw = text[start:end]
        if tags.is_face(raw):
            continue
        opened = closed = 0
        for mark in _EITHER.findall(raw):
            if mark in ")]}" or mark == "::":
                opened, closed = max(0, opened - 1), closed + (opened == 0)
            else:
                opened += 1
        while opened and (lead := _OPENED.match(text, start, end)) and lead.end() < end:
            waiting.append(place)
            opened, start = opened - 1, lead.end()
        while closed and waiting and (tail := _CLOSED.search(text, start, end)) and tail.start() > start:
            first = waiting.pop()
            lead = _OPENED.match(text, *inner[first])
            inner[first] = (lead.end() if lead else inner[first][0], inner[first][1])
            inner[place] = (inner[place][0], tail.start())
            closed, end = closed - 1, tail.start()
    return inner


def _bare(sidecar: Sidecar, place: int) -> tuple[int, int]:
    """One tag alone, with the blanks around it that stand before a mark or a line end."""
    entry, text = sidecar.entries[place], sidecar.text
    before = text[: entry.start].rstrip(" \t")
    after = text[entry.end :].lstrip(" \t")
    return len(before), len(text) - len(after) if not before else entry.end


def _cut(sidecar: Sidecar, place: int) -> tuple[int, int]:
    """What goes with one tag: it and the mark behind it, or the one before it where that ends no line or weight."""
    entries, text, reading = sidecar.entries, sidecar.text, sidecar.reading
    entry = entries[place]
    start, end = entry.start, entry.end
    before = entries[place - 1] if place and entries[place - 1].group == entry.group else None
    after = entries[place + 1] if place + 1 < len(entries) and entries[place + 1].group == entry.group else None
    if before is None and after is None and sidecar.groups > 1:  # the whole caption, with its line
        line_end = LINE_END.search(text, end)
        line_start = max(text.rfind("\n", 0, start), text.rfind("\r", 0, start)) + 1
        return (line_start, line_end.end()) if line_end else (max(0, line_start - 1), end)
    joint_before = text[before.end : start] if before else None
    joint_after = text[end : after.start] if after else None
    back = _loose(joint_before, sidecar.lines, reading, from_end=True)
    on = _loose(joint_after, sidecar.lines, reading, from_end=False)
    if on is None:
        return start - (back or 0), end
    keep_after = _strong(joint_after) and not _strong(joint_before)
    return (start - back, end) if back and (keep_after or not on) else (start, end + on)


def _strong(joint: str | None) -> bool:
    """Whether more stands between two tags than a mark: a line end, a bracket, a named network."""
    return joint is not None and bool(LINE_END.search(joint) or _ELSE.search(joint))


def _loose(joint: str | None, lines: bool | None, reading: Reading, from_end: bool) -> int | None:
    """How many characters of what stands between two tags may go with one of them; None where there is no other tag."""
    if joint is None:
        return None
    marks = "" if lines else re.escape(reading.marks)
    if re.fullmatch(rf"[\s{marks}]*", joint):
        return len(joint)
    mark = rf"\s*[{marks}]\s*" if marks and not reading.blanks else r"\s+"
    found = re.search(mark + "$" if from_end else "^" + mark, joint)
    return len(found[0]) if found else 0


def _shown(sidecar: Sidecar) -> dict[str, Any]:
    """What one sidecar shows of its owner's habit."""
    text, entries = sidecar.text, sidecar.entries
    if not entries:
        return {}
    end = text[entries[-1].after :]
    shown: dict[str, Any] = {"bom": sidecar.bom, "ending": end if LINE_END.fullmatch(end) else ""}
    pairs = [(one, two) for one, two in itertools.pairwise(entries) if one.group == two.group]
    between = (text[one.after : two.before] for one, two in pairs)
    if joints := Counter(joint for joint in between if not _ELSE.search(joint)):
        shown["joint"] = _joint(joints, bool(sidecar.lines))
    return shown | _manner(sidecar)


def _manner(sidecar: AnySidecar) -> dict[str, Any]:
    """What a sidecar of any form shows of how its owner spells tags."""
    shown: dict[str, Any] = {}
    if (manner := underscored(core for _, core in sidecar.spellings)) is not None:
        shown["underscores"] = manner
    raws = [core for name, core in sidecar.spellings if not tags.is_face(name)]
    escaped = [bool(_ESCAPE.search(raw)) for raw in raws if _ESCAPE.search(raw) or BRACKET.search(raw)]
    if escaped:
        shown["escapes"] = 2 * sum(escaped) > len(escaped)
    return shown


def _joint(joints: Counter[str], lines: bool) -> str:
    """The usual text between two tags: a line end, or what stands between two on one line."""
    ends = [LINE_END.search(joint) for joint, _ in joints.most_common()]
    if lines:
        return next((end[0] for end in ends if end), "\n")
    return next((joint for (joint, _), end in zip(joints.most_common(), ends) if not end), ", ")
