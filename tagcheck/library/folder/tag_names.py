"""What a tag in a sidecar is called, and how its owner spells it. Pure text.

A tag is compared by its *name*: lower case, single spaces, one Unicode form, no invisible characters, weights and
escapes gone, underscores as spaces. The file keeps the owner's spelling. Why: docs/decisions/sidecars.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from tagcheck import tags

LONGEST = 1000  # characters of a tag; what is longer is some other text
ESCAPED = re.compile(r"\\+([()\[\]{}])")
BRACKET = re.compile(r"(?<!\\)([()])")
UNDERSCORED = re.compile(r"\s+")
_WORD = re.compile(r"[^\W\d_]+")
_WEIGHT = r"[+-]?(?:\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})"
_WEIGHTED = re.compile(rf"(.*\S)\s*:\s*{_WEIGHT}\s*", re.DOTALL)
_NOVEL = re.compile(rf"{_WEIGHT}::\s*(.*\S)\s*::", re.DOTALL)
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"  # which make one emoji or syllable of several characters
_FILLERS = re.compile(  # Unicode's Default_Ignorable_Code_Point, as far as its categories do not say so
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def invisible(letter: str) -> bool:
    """Whether a character has no width and no meaning in a tag: joiners, direction marks, soft hyphens, fillers, halves of a pair."""
    return bool(_FILLERS.match(letter)) or (unicodedata.category(letter) in ("Cf", "Cc", "Cs") and not letter.isspace())


def seen(text: str) -> str:
    """`text` without invisible characters, those that an emoji is made of excepted."""
    if text.isascii() and text.isprintable():
        return text
    pairs = zip("a" + text, text)
    return "".join(one for last, one in pairs if not invisible(one) or (one in _JOINERS and not last.isascii()))


def visible(text: str) -> str:
    """`text` without invisible characters, in composed form (NFC)."""
    if text.isascii() and text.isprintable():
        return text
    return unicodedata.normalize("NFC", "".join(one for one in text if not invisible(one)))


@lru_cache(maxsize=1 << 16)
def name(raw: str) -> str:
    """What a tag in a sidecar is compared by and shown as, "" for what is none. The name of a name is the same name.

    >>> name(r"Hatsune_Miku_\\(Vocaloid\\)"), name("series: re:zero"), name("^_^"), name("(long hair:1.2)")
    ('hatsune miku (vocaloid)', 'series:re:zero', '^_^', 'long hair')
    """
    seen = raw if len(raw) <= LONGEST else ""
    for _ in range(20):  # each round takes something off, or is the last
        text = core(visible(seen).strip())
        text = text if tags.is_face(text) else ESCAPED.sub(r"\1", text)
        namespace, subtag = tags.split(tags.clean(text))
        text = tags.join(tags.from_booru(namespace) or namespace, tags.from_booru(subtag) or subtag)
        if text == seen:
            break
        seen = text
    return seen


def core(raw: str) -> str:
    """A tag's own text without the brackets and numbers that give it a weight.

    >>> core("((long hair:1.2))"), core("{{solo}}"), core("1.3::smile::"), core("(o)_(o)"), core("saber (fate)")
    ('long hair', 'solo', 'smile', '(o)_(o)', 'saber (fate)')
    """
    while (inner := _unwrapped(raw)) is not None:
        raw = inner
    return raw


def _unwrapped(raw: str) -> str | None:
    """The inside of one pair of brackets that hold the whole tag, or None where there is none."""
    if novel := _NOVEL.fullmatch(raw):
        return novel[1]
    if len(raw) < 3 or tags.is_face(raw) or _PAIRS.get(raw[0]) != raw[-1] or raw[-2] == "\\":
        return None
    inner = raw[1:-1].strip()
    weighted = _WEIGHTED.fullmatch(inner) if raw[0] in "([" else None
    if tags.is_face(weighted[1] if weighted else inner):
        return weighted[1] if weighted else inner
    depth = 0
    for place, letter in enumerate(raw):
        if place and raw[place - 1] == "\\":
            continue
        depth += (letter == raw[0]) - (letter == raw[-1])
        if depth == 0 and place < len(raw) - 1:
            return None
    if weighted and "|" not in inner:
        return weighted[1]
    letters = sum(letter.isalpha() for letter in inner)
    return inner if (letters >= 2 or _unwrapped(inner)) and "|" not in inner else None


def underscored(spellings: Iterable[str]) -> bool | None:
    """Whether most of a file's tags of several words have underscores between these, not blanks; None where none shows it."""
    subtags = [tags.split(tags.clean(one))[1] for one in spellings]
    words = Counter(letter for subtag in subtags if not tags.is_face(subtag) for letter in "_ " if letter in subtag)
    return words["_"] > words[" "] if words else None


@dataclass
class Spellings:
    """How often the owner writes each tag in which way, and each namespace; counted over a library."""

    tags: dict[str, Counter[str]] = field(default_factory=dict)
    namespaces: dict[str, Counter[str]] = field(default_factory=dict)
    _capitals: tuple[str | None, int] | None = field(default=None, repr=False, compare=False)

    def count(self, name: str, raw: str, times: int = 1) -> None:
        """One more `raw` for the tag of this name, or some `times` more."""
        self.tags.setdefault(name, Counter())[raw] += times
        self._capitals = None
        namespace, subtag = tags.split(raw)
        if namespace and (at := raw.find(subtag, len(namespace))) > 0:
            self.namespaces.setdefault(tags.split(name)[0], Counter())[raw[:at]] += times

    def add(self, other: Spellings) -> None:
        """All that `other` has counted, too."""
        self._capitals = None
        for mine, its in ((self.tags, other.tags), (self.namespaces, other.namespaces)):
            for key, counted in its.items():
                mine.setdefault(key, Counter()).update(counted)

    def capitals(self) -> tuple[str | None, int]:
        """(how most tags are capitalised, see `capitals`; None where no tag shows it, "lower" where nothing is usual; how many show it)."""
        if self._capitals is None:
            found: Counter[str] = Counter()
            for spellings in self.tags.values():
                for raw, count in spellings.items():
                    if how := capitals(tags.split(raw)[1]):
                        found[how] += count
            self._capitals = (_usual_capitals(found) if found else None, found.total())
        return self._capitals

    def of(self, name: str) -> str | None:
        """The spelling used most for this tag; the first seen of equals."""
        found = self.tags.get(name)
        return found.most_common(1)[0][0] if found else None

    def prefix(self, namespace: str) -> str | None:
        """How this namespace is written in front of a tag, colon and blanks with it; else as others are."""
        if found := self.namespaces.get(namespace):
            return found.most_common(1)[0][0]
        after = Counter[str]()
        capital = Counter[bool]()
        for prefixes in self.namespaces.values():
            for prefix, count in prefixes.items():
                after[prefix[prefix.rindex(":") :]] += count
                capital[prefix[:1].isupper()] += count
        if not after:
            return None
        return (namespace.capitalize() if capital.most_common(1)[0][0] else namespace) + after.most_common(1)[0][0]


def _usual_capitals(found: Counter[str]) -> str:
    """How most of the tags that were counted by `capitals` are capitalised; "lower" where nothing is usual."""
    if not found.keys() & {"title", "lower"}:
        return "first" if found["first"] > found["upper"] else "upper"
    found["title"] += found["first"] if found["title"] else 0  # one word alone is the same in both
    how, count = found.most_common(1)[0]
    return how if 2 * count > found.total() - (found["first"] if how == "title" else 0) else "lower"


def capitals(subtag: str) -> str | None:
    """How a tag is capitalised: "lower", "first" (its first word alone), "title" (each word), "upper"; None without letters.

    >>> capitals("Long Hair"), capitals("long hair"), capitals("Solo"), capitals("^_^")
    ('title', 'lower', 'first', None)
    """
    words = [word for word in _WORD.findall(subtag.replace("_", " ")) if word.lower() != word.upper()]
    if not words or tags.is_face(subtag) or subtag[0].isdigit():
        return None
    if all(word.islower() for word in words):
        return "lower"
    if all(word.isupper() for word in words) and sum(map(len, words)) > 1:
        return "upper"
    if len(words) > 1 and all(word[0].isupper() for word in words):
        return "title"
    return "first" if words[0][0].isupper() else None


def capitalised(subtag: str, how: str) -> str:
    """`subtag` (lower case) written as `capitals` names it.

    >>> capitalised("straße am meer", "upper"), capitalised("cat's ears", "title")
    ('STRAßE AM MEER', "Cat's Ears")
    """
    if how == "upper":
        return "".join(map(_upper, subtag))
    if how == "title":
        return re.sub(r"(?<![\w'])[^\W\d_]", lambda found: _upper(found[0]), subtag.replace("_", " "))
    return _upper(subtag[:1]) + subtag[1:] if how == "first" else subtag


def _upper(letter: str) -> str:
    """A capital letter, where the way back leads to the same one: that of `ß` is two letters, and of `ı` it is `i`'s."""
    return letter.upper() if letter.upper().lower() == letter else letter
