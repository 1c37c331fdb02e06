"""A list of JSON values as columns: what is alike stands together and no key twice, so it packs into fewer bytes in half the time.

The column of objects is `{"keys": {name: column}, "some": {name: [1 or 0 a record]}}`, `some` for the keys that not all have; of lists
`{"lengths": column, "of": column}`; of texts that differ in numbers alone `{"texts": [with a zero byte in the place of each number],
"which": [the place of each value's text], "numbers": column}`; of anything else the list itself. Numbers and hashes stand behind the JSON,
see `packed`.
"""

from __future__ import annotations

import json
import re
import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, compress, islice
from typing import Any

NUMBER = re.compile(r"(\d+)")
SHORT = re.compile(r"0|[1-9][0-9]{0,8}")  # a number that is no other text as a whole number
HASH = re.compile("[0-9a-f]{64}")
BLANK = "\0"
ABSENT = object()
PARTS = re.compile(f"{BLANK}|[^{BLANK}]+")
FEWER = 4  # times as few texts without their numbers as with them
MOST = 1 << 22  # values of a column
LONGEST = 64 << 20  # characters of the texts of one
SIZES = {1: "B", 2: "H", 4: "I"}  # bytes of a number that is written behind the JSON, and Python's name for them
DIGEST = 32  # bytes of a hash
SCALES = {places: 10.0**places for places in range(7)}


def packed(column: Any) -> bytes:
    """A column as JSON, a line's end, and the numbers and hashes of its lists.

    In the JSON `{"at", "bytes", "low"}` stands for a list of whole numbers: where the first begins behind the line's end, the bytes of each
    (1, 2 or 4, the lowest first), and what is taken from all of them; with "places" they are decimal numbers times 10 to the power of that.
    `{"at", "bytes": 32}` stands for a list of hashes.

    >>> packed(columns([{"a": 0.5}, {"a": 2.25}]))
    b'{"keys":{"a":{"at":0,"bytes":1,"low":50,"places":2}},"some":{}}\\n\\x00\\xaf'
    """
    behind = bytearray()
    apart = partial(_apart, behind)
    text = json.dumps(column, default=apart, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n" + behind


def _apart(behind: bytearray, some: Any) -> Any:
    """Put hashes or numbers `behind` and say where they are; a list where these are too large or have too many places."""
    import numpy as np  # here: a program that only answers a question need not load it

    at = len(behind)
    if isinstance(some, bytes):
        behind += some
        return {"at": at, "bytes": DIGEST}
    found = np.asarray(some)
    if not len(found):
        return []
    for places, scale in [(None, 1)] if found.dtype.kind == "i" else SCALES.items():
        with np.errstate(over="ignore"):
            whole = np.rint(found * scale)
        if np.array_equal(whole / scale, found) and np.isfinite(whole).all():
            low, high = int(whole.min()), int(whole.max())
            size = next((size for size in SIZES if high - low < 256**size), None)
            if size is not None and max(-low, high) < 2**53:
                behind += (whole - low).astype(f"<u{size}").tobytes()
                return {"at": at, "bytes": size, "low": low} | ({} if places is None else {"places": places})
    return some.tolist()


def columns(values: Sequence[Any]) -> Any:
    """The column of some values, its numbers as arrays.

    >>> columns([{"a": ["x"]}, {"a": [], "b": 0.5}])
    {'keys': {'a': {'lengths': array('q', [1, 0]), 'of': ['x']}, 'b': array('d', [0.5])}, 'some': {'b': array('q', [0, 1])}}
    """
    kinds = set(map(type, values))
    if kinds == {dict}:
        return _of_records(values)
    if kinds == {list}:
        return {"lengths": array("q", map(len, values)), "of": columns(list(chain.from_iterable(values)))}
    if kinds in ({int}, {float}):
        with suppress(OverflowError):
            return array("q" if kinds == {int} else "d", values)
    return _texts(values) if kinds == {str} else list(values)


def put(record: dict[str, Any], name: str, column: Any, which: Any) -> None:
    """Let those of a column's records of which `which` (n,) is true have the key `name` with the values of `column`; of a key that
    others have already, both columns are NumPy's or Python's arrays.
    """
    if not which.any():
        return
    if name in record["keys"]:
        before = record["some"].pop(name, which | True) > 0
        both = before.astype(record["keys"][name].dtype)
        both[before], both[which] = record["keys"][name], column
        which = which | before
        column = both[which]
    record["keys"][name] = column
    if not which.all():
        record["some"][name] = which.astype(int)


def _of_records(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each record is looked at once, all of its keys together: they lie far apart in memory."""
    count = Counter(chain.from_iterable(values))
    none = dict.fromkeys(count, ABSENT)
    keys, some = dict[str, Any](), dict[str, Any]()
    for name, column in zip(none, zip(*((none | one).values() for one in values))):
        if count[name] < len(values):
            some[name] = array("q", (one is not ABSENT for one in column))
            column = tuple(one for one in column if one is not ABSENT)
        keys[name] = columns(column)
    return {"keys": keys, "some": some}


def _texts(values: Sequence[str]) -> Any:
    if all(map(HASH.fullmatch, values)):
        return bytes.fromhex("".join(values))
    parts = {one: NUMBER.split(one) for one in dict.fromkeys(values)}
    bare = {one: BLANK.join(some[::2]) for one, some in parts.items()}
    place = {text: number for number, text in enumerate(dict.fromkeys(bare.values()))}
    if len(place) * FEWER > len(parts) or any(BLANK in one for one in parts):
        return list(values)
    numbers = [number for one in values for number in parts[one][1::2]]
    short = numbers and all(map(SHORT.fullmatch, set(numbers)))
    which = array("q", (place[bare[one]] for one in values))
    return {"texts": list(place), "which": which, "numbers": array("q", map(int, numbers)) if short else numbers}


def unpacked(data: bytes, count: int, parse: Any = json.loads) -> list[Any]:
    """The `count` values that were `packed`. Raises as `values`."""
    text, _, behind = data.partition(b"\n")
    return values(parse(text.decode()), count, behind)


def values(column: Any, count: int, behind: bytes = b"") -> list[Any]:
    """The `count` values of a column, whose numbers stand `behind`. Raises `ValueError`, `LookupError`, `TypeError` or `AttributeError` for
    what is none of so many.

    >>> values({"lengths": [2, 0], "of": [1, 2]}, 2)
    [[1, 2], []]
    """
    if not 0 <= count <= MOST:
        raise ValueError("it has too many values")
    if isinstance(column, list):
        found = column
    elif not isinstance(column, dict):
        found = column.tolist()
    elif "keys" in column:
        found = _records(column, count, behind)
    elif "lengths" in column:
        lengths = values(column["lengths"], count, behind)
        parts = iter(values(column["of"], sum(lengths), behind))
        found = [list(islice(parts, length)) for length in lengths]
    elif "bytes" in column:
        found = _behind(column["at"], column, count, behind)
    else:
        texts = [column["texts"][place] for place in values(column["which"], count, behind)]
        blanks = sum(text.count(BLANK) for text in texts)
        if sum(map(len, texts)) > LONGEST:
            raise ValueError("it is too long")
        numbers = map(str, values(column["numbers"], blanks, behind))
        found = ["".join(part if part != BLANK else next(numbers) for part in PARTS.findall(text)) for text in texts]
    if len(found) != count:
        raise ValueError(f"it has {len(found):,} values instead of {count:,}")
    return found


def _behind(at: int, column: dict[str, Any], count: int, behind: bytes) -> list[Any]:
    size = column["bytes"]
    mine = behind[at : at + count * size]
    if len(mine) != count * size:
        raise ValueError("numbers are missing in it")
    if size == DIGEST:
        return [mine[place : place + size].hex() for place in range(0, len(mine), size)]
    found, low = array(SIZES[size], mine), column["low"]
    if sys.byteorder == "big":
        found.byteswap()
    if "places" in column:
        scale = SCALES[column["places"]]
        return [(one + low) / scale for one in found]
    return [one + low for one in found]


def _records(column: dict[str, Any], count: int, behind: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, mine in column["keys"].items():
        having = found
        if name in column["some"]:
            having = list(compress(found, values(column["some"][name], count, behind)))
        for record, value in zip(having, values(mine, len(having), behind)):
            record[name] = value
    return found
