"""The one reader of JSON from files: what a file may hold is bounded and checked before anything is done with it.

`parse` takes a text apart within bounds (depth, size of numbers, no NaN); `read` does so with a whole small file and
holds it against a shape; `Unusable` counts records that had to be left out, and names the first of them. A shape is a
function of a value that raises `Wrong`, saying what is wrong and where in the value: `text`, `whole`, `number`, `flag`,
`matching`, `one_of`, `list_of`, `map_of`, `record`, `either`.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from tagcheck.errors import BadFile
from tagcheck.files import reading
from tagcheck.plural import plural

DEPTH = 64  # of lists and objects in each other
SMALL = 64 << 20  # bytes of a file that is read as a whole
WHOLE_LOW, WHOLE_HIGH = -(2**63), 2**63 - 1
NUMBERS = 20_000  # that are kept by their digits
NAMED = 3  # of the records that had to be left out
CORRECT = "correct it or remove it"
Shape = Callable[[Any], None]

_PARTS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)

_BLANK = " \t\r\n"
_BLANKS = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[^,:\]}\s]+")


class Wrong(ValueError):
    """A value has not the shape that it should have."""


def parse(text: str, depth: int = DEPTH) -> Any:
    """The value of a JSON text. Raises `ValueError` when it is none, or beyond the bounds: lists and objects nested more
    than `depth` deep, whole numbers over 64 bit, decimal numbers over those of a double, NaN and infinities.

    >>> parse('{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    """
    if text.count("[") + text.count("{") > depth and _depth(text) > depth:
        raise ValueError(f"lists and objects are nested more than {depth} deep")
    try:
        if text.startswith(("{", "[")):  # no blank before it, and mostly none after
            value, end = _strict.raw_decode(text)
            if end == len(text):
                return value
        return _strict.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read(path: Path, shape: Shape | None = None, again: str = CORRECT, most: int = SMALL) -> Any:
    """The value of a small JSON file, held against `shape`. Raises `MissingInput`, or `BadFile` with `again`, the way out."""
    try:
        with reading(path, again):
            if path.stat().st_size > most:
                raise BadFile(f"{path} has more than {most:,} bytes: {again}")
            value = parse(path.read_text(encoding="utf-8-sig"))
        if shape is not None:
            shape(value)
        return value
    except Wrong as error:
        raise BadFile(f"{path}: {error}: {again}") from None
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): {again}") from None
    except ValueError as error:
        raise BadFile(f"{path} is not JSON ({error}): {again}") from None


def members(text: str) -> dict[str, tuple[int, int]]:
    """Where the value of each key of a JSON object begins and ends; the values are not looked at. Raises `ValueError`."""
    found: dict[str, tuple[int, int]] = {}
    if not text.startswith("{", _after(text, 0)):
        raise ValueError("it is no object")
    at = _after(text, text.index("{") + 1)
    while not text.startswith("}", at):
        end = _end_of_value(text, at)
        key = parse(text[at:end])
        at = _after(text, end)
        if not isinstance(key, str) or not text.startswith(":", at):
            raise ValueError(f"a key and a colon are expected at character {at:,}")
        at = _after(text, at + 1)
        found[key] = at, (end := _end_of_value(text, at))
        at = _next(text, end, "}")
    if text[at + 1 :].strip(_BLANK):
        raise ValueError(f"more after the end, at character {at + 1:,}")
    return found


def elements(text: str, start: int) -> list[tuple[int, int]]:
    """Where each element of the JSON list that begins at `start` begins and ends. Raises `ValueError`."""
    found = []
    at = _after(text, start + 1)
    while not text.startswith("]", at):
        end = _end_of_value(text, at)
        found.append((at, end))
        at = _next(text, end, "]")
    return found


def _after(text: str, at: int) -> int:
    """The first place from `at` on that is no blank."""
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks else at


def _next(text: str, end: int, closing: str) -> int:
    """Where the next part begins, after a value that ended at `end`."""
    at = _after(text, end)
    if text.startswith(closing, at):
        return at
    if not text.startswith(",", at):
        raise ValueError(f"a comma is expected at character {at:,}")
    return _after(text, at + 1)


def _end_of_value(text: str, start: int) -> int:
    if text[start : start + 1] in ("[", "{", '"'):
        deep = 0
        for found in _PARTS.finditer(text, start):
            part = found[0]
            if part == '"':
                break
            deep += (part in "[{") - (part in "]}")
            if deep <= 0:
                return found.end()
        raise ValueError("it is cut off")
    scalar = _SCALAR.match(text, start)
    if scalar is None:
        raise ValueError(f"a value is expected at character {start:,}")
    return scalar.end()


def _depth(text: str) -> int:
    deep = deepest = 0
    for found in _PARTS.finditer(text):
        deep += (found[0] in "[{") - (found[0] in "]}")
        deepest = max(deepest, deep)
    return deepest


def _whole_number(digits: str) -> int:
    if len(digits) > 20 or not WHOLE_LOW <= (value := int(digits)) <= WHOLE_HIGH:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return value


class _DecimalNumbers(dict[str, float]):
    """Numbers by their digits, each worked out once while there is room: the probabilities of a file repeat."""

    def __missing__(self, digits: str) -> float:
        if math.isinf(value := float(digits)):
            raise ValueError(f"{digits[:20]} is too large a number")
        if len(self) < NUMBERS:
            self[digits] = value
        return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


_strict = json.JSONDecoder(
    parse_int=_whole_number, parse_float=_DecimalNumbers().__getitem__, parse_constant=_no_number
)


class Unusable:
    """Records, and values in records, that had to be left out: how many, and the first of them in words."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.first: dict[str, list[str]] = {}

    def note(self, what: object, kind: str = "record") -> None:
        """One record more, or a "value" of a record that is used without it."""
        self.counts[kind] += 1
        if self.counts[kind] <= NAMED:
            self.first.setdefault(kind, []).append(str(what))

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """In one line; empty where all could be used."""
        return "; ".join(map(self._left_out, sorted(self.counts)))

    def _left_out(self, kind: str) -> str:
        count = self.counts[kind]
        more = f" and {count - NAMED} more" if count > NAMED else ""
        some = plural(count, f"{kind} cannot be used and is", f"{kind}s cannot be used and are")
        return f"{some} left out: {'; '.join(self.first[kind])}{more}"


# --- shapes ------------------------------------------------------------------------------------------------


def is_text(value: Any) -> TypeGuard[str]:
    """Whether it is text that can be stored and shown: no half of a surrogate pair in it."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def string(value: Any) -> None:
    """Any text, also such as cannot be stored."""
    if not isinstance(value, str):
        raise Wrong(f"{_shown(value)} is no text")


def text(most: int = 10_000, least: int = 0) -> Shape:
    """Text of `least` to `most` characters, all of which can be stored and shown."""

    def check(value: Any) -> None:
        if not is_text(value):
            raise Wrong(f"{_shown(value)} is no text")
        if not least <= len(value) <= most:
            raise Wrong(f"{_shown(value)} has {len(value):,} characters, {least:,} to {most:,} can be")

    return check


def matching(pattern: str, called: str) -> Shape:
    """Text that matches a pattern as a whole; in an error it is not `called`, "a word" for example."""
    known = re.compile(pattern)

    def check(value: Any) -> None:
        if not isinstance(value, str) or not known.fullmatch(value):
            raise Wrong(f"{_shown(value)} is not {called}")

    return check


def whole(low: int = WHOLE_LOW, high: int = WHOLE_HIGH) -> Shape:
    """A whole number in these bounds."""
    return _bounded(int, "whole number", low, high)


def number(low: float = -math.inf, high: float = math.inf) -> Shape:
    return _bounded((int, float), "number", low, high)


def _bounded(types: Any, called: str, low: float, high: float) -> Shape:
    def check(value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, types) or not low <= value <= high:
            raise Wrong(f"{_shown(value)} is not a {called} from {low:,} to {high:,}")

    return check


def flag(value: Any) -> None:
    """true or false."""
    if not isinstance(value, bool):
        raise Wrong(f"{_shown(value)} is neither true nor false")


def one_of(*values: Any) -> Shape:

    def check(value: Any) -> None:
        if not any(value is one or (value == one and type(value) is type(one)) for one in values):
            raise Wrong(f"{_shown(value)} is not one of {', '.join(map(str, values))}")

    return check


def list_of(shape: Shape, most: int = 10_000_000, least: int = 0) -> Shape:
    """A list of `least` to `most` values."""

    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise Wrong(f"{_shown(value)} is not a list")
        if len(value) > most:
            raise Wrong(f"the list has more than {most:,} entries")
        if len(value) < least:
            raise Wrong(f"the list has {plural(len(value), 'entry', 'entries')}, {least} or more are expected")
        for place, one in enumerate(value, 1):
            try:
                shape(one)
            except Wrong as error:
                raise Wrong(f"entry {place}: {error}") from None

    return check


NAME = text(most=1_000)


def map_of(shape: Shape, named: Shape = NAME) -> Shape:
    """An object of any keys of the shape `named`."""

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise Wrong(f"{_shown(value)} is not an object")
        for key, one in value.items():
            named(key)
            try:
                shape(one)
            except Wrong as error:
                raise Wrong(f"{key!r}: {error}") from None

    return check


def record(
    needed: Mapping[str, Shape] | None = None, optional: Mapping[str, Shape] | None = None, others: bool = True
) -> Shape:
    """An object that has the keys `needed`; `optional` ones may be absent or null. Other keys are not looked at, or, without `others`,
    wrong.
    """
    needed = needed or {}
    every = [*needed.items(), *(optional or {}).items()]

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise Wrong(f"{_shown(value)} is not an object")
        if not others and (unknown := sorted(value.keys() - dict(every).keys())):
            raise Wrong(f"a key {unknown[0]!r} that is not known")
        for key, shape in every:
            if key not in value and key in needed:
                raise Wrong(f"no {key!r}")
            try:
                if value.get(key) is not None or key in needed:
                    shape(value[key])
            except Wrong as error:
                raise Wrong(f"{key!r}: {error}") from None

    return check


def either(*shapes: Shape) -> Shape:
    """A value of any of these shapes."""

    def check(value: Any) -> None:
        said = []
        for shape in shapes:
            try:
                shape(value)
                return
            except Wrong as error:
                said.append(str(error))
        raise Wrong(" and ".join(dict.fromkeys(said)))

    return check


def anything(value: Any) -> None:
    """Any value."""


def null(value: Any) -> None:
    """null."""
    if value is not None:
        raise Wrong(f"{_shown(value)} is not null")


def _shown(value: Any) -> str:
    """A value in an error, cut to a few words."""
    said = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else ascii(value)
    return said if len(said) <= 60 else f"{said[:57]}..."


def plain_text(value: Any) -> str:
    """JSON to keep in a table. Half of a surrogate pair, as in file names that are not UTF-8, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
