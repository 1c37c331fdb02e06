"""A list of JSON values as columns: what is alike stands together and no key twice, so it packs into fewer bytes in half the time.

The column of objects is `{"keys": {name: column}, "some": {name: [1 or 0 a record]}}`, `some` for the keys that not all have; of lists
`{"lengths": column, "of": column}`; of texts that differ in numbers alone `{"texts": [with a zero byte in the place of each number],
"which": [the place of each value's text], "numbers": [texts]}`; of anything else the list itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain, compress, islice
from typing import Any

NUMBER = re.compile(r"(\d+)")
BLANK = "\0"
ABSENT = object()
PARTS = re.compile(f"{BLANK}|[^{BLANK}]+")
FEWER = 4  # times as few texts without their numbers as with them
MOST = 1 << 20  # values of a column
LONGEST = 64 << 20  # characters of the texts of one


def columns(values: Sequence[Any]) -> Any:
    """The column of some values.

    >>> columns([{"a": [1, 2]}, {"a": [], "b": 0.5}])
    {'keys': {'a': {'lengths': [2, 0], 'of': [1, 2]}, 'b': [0.5]}, 'some': {'b': [0, 1]}}
    """
    kinds = set(map(type, values))
    if kinds == {dict}:
        return _of_records(values)
    if kinds == {list}:
        return {"lengths": list(map(len, values)), "of": columns(list(chain.from_iterable(values)))}
    return _texts(values) if kinds == {str} else list(values)


def _of_records(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each record is looked at once, all of its keys together: they lie far apart in memory."""
    count = Counter(chain.from_iterable(values))
    none = dict.fromkeys(count, ABSENT)
    keys, some = dict[str, Any](), dict[str, list[int]]()
    for name, column in zip(none, zip(*((none | one).values() for one in values))):
        if count[name] < len(values):
            some[name] = [int(one is not ABSENT) for one in column]
            column = tuple(one for one in column if one is not ABSENT)
        keys[name] = columns(column)
    return {"keys": keys, "some": some}


def _texts(values: Sequence[str]) -> Any:
    parts = {one: NUMBER.split(one) for one in dict.fromkeys(values)}
    bare = {one: BLANK.join(some[::2]) for one, some in parts.items()}
    place = {text: number for number, text in enumerate(dict.fromkeys(bare.values()))}
    if len(place) * FEWER > len(parts) or any(BLANK in one for one in parts):
        return list(values)
    numbers = [number for one in values for number in parts[one][1::2]]
    return {"texts": list(place), "which": [place[bare[one]] for one in values], "numbers": numbers}


def values(column: Any, count: int) -> list[Any]:
    """The `count` values of a column. Raises `ValueError`, `LookupError`, `TypeError` or `AttributeError` for what is none of so many.

    >>> values({"lengths": [2, 0], "of": [1, 2]}, 2)
    [[1, 2], []]
    """
    if not 0 <= count <= MOST:
        raise ValueError("it has too many values")
    if isinstance(column, list):
        found = column
    elif "keys" in column:
        found = _records(column, count)
    elif "lengths" in column:
        lengths = values(column["lengths"], count)
        parts = iter(values(column["of"], sum(lengths)))
        found = [list(islice(parts, length)) for length in lengths]
    else:
        texts = [column["texts"][place] for place in column["which"]]
        if sum(map(len, texts)) > LONGEST or sum(text.count(BLANK) for text in texts) != len(column["numbers"]):
            raise ValueError("it is too long, or numbers are missing in it")
        numbers = iter(column["numbers"])
        found = ["".join(part if part != BLANK else next(numbers) for part in PARTS.findall(text)) for text in texts]
    if len(found) != count:
        raise ValueError(f"it has {len(found):,} values instead of {count:,}")
    return found


def _records(column: dict[str, Any], count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, mine in column["keys"].items():
        which = column["some"].get(name)
        if which is not None and len(which) != count:
            raise ValueError(f"it is not told which records have {name!r}")
        having = found if which is None else list(compress(found, which))
        for record, value in zip(having, values(mine, len(having))):
            record[name] = value
    return found
