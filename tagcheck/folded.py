"""Large reports: what their records say beyond a few keys is written packed, some hundred records a line.

A line of the list `FOLDED`, which stands before the lists that it belongs to, is `{"list", "count", "how", "packed"}`: `packed` is base 85
(Python's `base64.b85encode`) of an xz stream of the columns (`tagcheck.columns.packed`) of the further keys of each of `count` records; or,
with `"whole": true`, of the records themselves. Older files have other ways: with "how" "columns" the columns are JSON alone in a bzip2
stream, with "bz2" a list of objects is, and without "how" that in a zlib stream. A line `{"list", "count",
"hashes_of"}` stands for the hashes of the records of another list, each once and sorted. What follows from the other keys
(`findings.whole`) is left out. `tagcheck.data_folder` folds and unfolds, so that nobody else need know.
"""

import bz2
import itertools
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

from tagcheck import base85
from tagcheck.columns import columns, packed, unpacked, values
from tagcheck.findings import own_id, whole
from tagcheck.json_files import parse

FOLDED, ENTRIES = "folded", "errors"
XZ, COLUMNS, BZIP2 = "xz", "columns", "bz2"  # how a line is packed, the two last in older files
LARGE = 5_000  # records of one list from which on they are folded
TOGETHER = 4096  # records a line
# Of xz: most bytes are numbers of two, and what comes twice is short, so that looking for more only takes longer.
NUMBERS = [{"id": lzma.FILTER_LZMA2, "lc": 0, "lp": 1, "pb": 1, "mf": lzma.MF_BT2, "nice_len": 8, "depth": 4}]
LARGEST, LARGEST_COUNT = 64 << 20, 10_000_000  # bytes of a line's records, and hashes that a line stands for
STREAMS: dict[Any, Callable[[], Any]] = {
    XZ: partial(lzma.LZMADecompressor, memlimit=LARGEST),
    COLUMNS: bz2.BZ2Decompressor,
    BZIP2: bz2.BZ2Decompressor,
}


@runtime_checkable
class Columned(Protocol):
    """Records that are made as columns: what is folded need not be made one by one."""

    def __len__(self) -> int: ...

    def plain(self) -> list[dict[str, Any]]:
        """All of them, with the keys alone that stay in them."""

    def further(self, start: int, stop: int) -> Any:
        """What else the records from `start` to `stop` say, as a column, without what follows (`findings.whole`)."""


def fold(document: dict[str, Any], plain: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The document with its large lists folded. `plain`: the lists, each with the keys that stay in its records."""
    large = {name: keys for name, keys in plain.items() if len(document.get(name) or ()) >= LARGE}
    if not large:
        return document
    short = {name: _short(document[name], keys) for name, keys in large.items()}
    own = hashes_of(short.get(ENTRIES) or document.get(ENTRIES) or ())
    lines = [line for name, keys in large.items() for line in _lines(name, keys, document[name], own)]
    made: dict[str, Any] = {}
    for name, value in document.items():
        if name in large and FOLDED not in made:
            made[FOLDED] = lines
        made[name] = short.get(name, value)
    return made


def _short(records: Any, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    if isinstance(records, Columned):
        return records.plain()
    return [{key: one[key] for key in keys if key in one} for one in records if keys]


def _lines(name: str, keys: tuple[str, ...], records: Any, own: list[str]) -> Iterator[dict[str, Any]]:
    """The lines of a list; one line stands for the hashes `own` where they come first in it."""
    done = len(own) if not keys and own and [*itertools.islice(records, len(own))] == own else 0
    if done:
        yield {"list": name, "count": done, "hashes_of": ENTRIES}
    for start in range(done, len(records), TOGETHER):
        stop = min(start + TOGETHER, len(records))
        text = base85.encoded(lzma.compress(packed(_column(records, keys, start, stop)), filters=NUMBERS))
        yield {"list": name, "count": stop - start, "how": XZ, "packed": text} | ({} if keys else {"whole": True})


def _column(records: Any, keys: tuple[str, ...], start: int, stop: int) -> Any:
    if isinstance(records, Columned):
        return records.further(start, stop)
    return columns([_further(one, keys) for one in records[start:stop]] if keys else records[start:stop])


def hashes_of(records: Iterable[Any]) -> list[str]:
    """The hashes of some records, each once, sorted."""
    found = (one.get("hash") for one in records if isinstance(one, dict))
    return sorted({hash for hash in found if isinstance(hash, str)})


def _further(record: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    follows = {"id"} if record.get("id") == own_id(record) else set()
    return {key: record[key] for key in record if key not in keys and key not in follows}


def unfold(
    read: Iterable[tuple[str, Any]], again: Callable[[], Iterable[tuple[str, Any]]], unusable: Any = None
) -> Iterator[tuple[str, Any]]:
    """(list name, record) as they were before, of those of a file that may be folded; `again` reads it once more. Raises `ValueError` where a line of it cannot be
    read, or, with `unusable`, notes that and gives the records with the keys that they have.
    """
    waiting: dict[str, list[dict[str, Any]]] = {}
    begun: dict[str, Iterator[Any]] = {}
    for name, record in read:
        if name != FOLDED:
            if name in waiting and name not in begun:
                begun[name] = _rest(waiting.pop(name), unusable)
            rest = next(begun[name], None) if name in begun else None
            if isinstance(rest, dict) and isinstance(record, dict):
                record = whole({**record, **rest})
            yield name, record
        elif isinstance(record, dict) and isinstance(record.get("list"), str):
            if record.get("whole") is True or "hashes_of" in record:
                yield from ((record["list"], one) for one in _rest([record], unusable, again))
            else:
                waiting.setdefault(record["list"], []).append(record)


def _rest(
    lines: list[dict[str, Any]], unusable: Any, again: Callable[[], Iterable[tuple[str, Any]]] = lambda: ()
) -> Iterator[Any]:
    """The further keys of one record after the other, None of those that cannot be read."""
    for place, line in enumerate(lines, 1):
        try:
            yield from _unpacked(line, again)
        except (ValueError, OSError, lzma.LZMAError, zlib.error, LookupError, TypeError, AttributeError) as error:
            said = f"line {place} of {FOLDED!r} cannot be unfolded ({error})"
            if unusable is None:
                raise ValueError(said) from None
            unusable.note(said)
            count = line.get("count")
            most = LARGEST_COUNT if "hashes_of" in line else TOGETHER
            yield from itertools.repeat(None, count if isinstance(count, int) and 0 <= count <= most else 0)


def _unpacked(line: dict[str, Any], again: Callable[[], Iterable[tuple[str, Any]]]) -> list[Any]:
    if "hashes_of" in line:
        found: Any = hashes_of(one for name, one in again() if name == line["hashes_of"])
    else:
        how = line.get("how")
        stream = STREAMS[how]() if how in STREAMS else zlib.decompressobj()
        text = stream.decompress(base85.decoded(line["packed"]), LARGEST)
        if not stream.eof:
            raise ValueError("it is cut off, or too large")
        if how == XZ:
            return unpacked(text, line["count"], parse)
        found = parse(text.decode())
        if how == COLUMNS:
            return values(found, line["count"])
    if not isinstance(found, list) or len(found) != line["count"]:
        raise ValueError("it has not as many records as it says")
    return found
