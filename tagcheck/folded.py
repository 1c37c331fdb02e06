"""Large reports: what their records say beyond a few keys is written packed, some hundred records a line.

A line of the list `FOLDED`, which stands before the lists that it belongs to, is `{"list", "count", "how", "packed"}`: `packed` is base 85
(Python's `base64.b85encode`) of an xz stream of columns (`tagcheck.columns.packed`): with "how" "tags" of all `tags` of `count` entries,
those of one name together (`by_entry`); with "xz" of the further keys of each of `count` records or, with `"whole": true`, of the records
themselves. Older files have other ways: with "columns" the columns are JSON alone in a bzip2 stream, with "bz2" a list of objects is, and
without "how" that in a zlib stream. A line `{"list", "count",
"hashes_of"}` stands for the hashes of the records of another list, each once and sorted. What follows from the other keys
(`findings.whole`) is left out. `tagcheck.data_folder` folds and unfolds, so that nobody else need know.
"""

import bz2
import itertools
import lzma
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Protocol, runtime_checkable

from tagcheck import base85
from tagcheck.columns import columns, packed, unpacked, values
from tagcheck.findings import own_id, tags_of, whole
from tagcheck.json_files import parse

FOLDED, ENTRIES = "folded", "errors"
TAGS, XZ, COLUMNS, BZIP2 = "tags", "xz", "columns", "bz2"  # how a line is packed, the two last in older files
LARGE = 5_000  # records of one list from which on they are folded
LOST = object()  # in the place of a record that could not be read
TOGETHER, NAMED = 16_384, 100_000  # records a line, and tags that these name, at most
# Of xz: most bytes are numbers of two, and what comes twice is short, so that looking for more only takes longer.
NUMBERS = [{"id": lzma.FILTER_LZMA2, "lc": 0, "lp": 1, "pb": 1, "mf": lzma.MF_BT2, "nice_len": 16, "depth": 16}]
LARGEST, LARGEST_COUNT = 64 << 20, 10_000_000  # bytes of a line's records, and hashes that a line stands for
STREAMS: dict[Any, Callable[[], Any]] = {
    **dict.fromkeys((TAGS, XZ), partial(lzma.LZMADecompressor, memlimit=LARGEST)),
    COLUMNS: bz2.BZ2Decompressor,
    BZIP2: bz2.BZ2Decompressor,
}


@runtime_checkable
class Columned(Protocol):
    """Entries that are made as columns: what is folded need not be made one by one."""

    def __len__(self) -> int: ...

    def plain(self) -> list[dict[str, Any]]:
        """All of them, with the keys alone that stay in them."""

    def further(self, start: int, stop: int) -> Any:
        """All `tags` of the entries from `start` to `stop`, in the order of `by_entry`, as a column without what follows (`whole`)."""


def fold(document: dict[str, Any], plain: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The document with its large lists folded. `plain`: the lists, each with the keys that stay in its records."""
    large = {name: keys for name, keys in plain.items() if len(document.get(name) or ()) >= LARGE}
    if not large:
        return document
    short = {name: _short(document[name], keys) for name, keys in large.items()}
    own = hashes_of(short.get(ENTRIES) or document.get(ENTRIES) or ())
    lines = [line for name, keys in large.items() for line in _lines(name, keys, document[name], short[name], own)]
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


def _lines(
    name: str, keys: tuple[str, ...], records: Any, short: list[dict[str, Any]], own: list[str]
) -> Iterator[dict[str, Any]]:
    """The lines of a list; one line stands for the hashes `own` where they come first in it."""
    done = len(own) if not keys and own and [*itertools.islice(records, len(own))] == own else 0
    if done:
        yield {"list": name, "count": done, "hashes_of": ENTRIES}
    named = [0, *itertools.accumulate(len(tags_of(one)) for one in short)]
    stop = done
    while (start := stop) < len(records):
        stop = min(start + TOGETHER, len(records))
        if short:
            stop = min(stop, max(start + 1, bisect_right(named, named[start] + NAMED) - 1))
        how, column = TAGS, records.further(start, stop) if isinstance(records, Columned) else None
        if column is None:
            how, some = XZ, records[start:stop]
            column = columns([_further(one, keys) for one in some] if keys else some)
        text = base85.encoded(lzma.compress(packed(column), filters=NUMBERS))
        yield {"list": name, "count": stop - start, "how": how, "packed": text} | ({} if keys else {"whole": True})


def by_entry(entries: Sequence[dict[str, Any]], rows: Callable[[int], list[Any]]) -> list[list[Any]]:
    """The `tags` of each entry. `rows` gives those of all, so many, sorted by the tags that the entries name (`tags_of`), and those of one
    name in the order of the entries: they have much in common.
    """
    names = [tag for one in entries for tag in tags_of(one)]
    order = sorted(range(len(names)), key=names.__getitem__)
    found = [row for _, row in sorted(zip(order, rows(len(names)), strict=True), key=itemgetter(0))]
    left = iter(found)
    return [[*itertools.islice(left, len(tags_of(one)))] for one in entries]


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
    """(list name, record) as they were before, of those of a file that may be folded, with `LOST` for each that could not be read; `again`
    reads it once more. Raises `ValueError` where a line of it cannot be read, or, with `unusable`, notes that and gives the records with
    the keys that they have.
    """
    waiting: dict[str, list[dict[str, Any]]] = {}
    for name, found in itertools.groupby(read, itemgetter(0)):
        records = (record for _, record in found)
        if name == FOLDED:
            for line in records:
                if not (isinstance(line, dict) and isinstance(line.get("list"), str)):
                    continue
                if line.get("whole") is True or "hashes_of" in line:
                    some = _rest(1, line, [], again, unusable)
                    yield from (
                        (line["list"], one) for one in (itertools.repeat(None, _count(line)) if some is None else some)
                    )
                else:
                    waiting.setdefault(line["list"], []).append(line)
            continue
        for place, line in enumerate(waiting.pop(name, ()), 1):
            short = [*itertools.islice(records, _count(line))]
            rest = _rest(place, line, short, again, unusable) or ()
            for record, more in itertools.zip_longest(short, itertools.islice(rest, len(short))):
                if record is not LOST:
                    both = isinstance(record, dict) and isinstance(more, dict)
                    yield name, whole({**record, **more}) if both else record
        yield from ((name, record) for record in records if record is not LOST)


def _count(line: dict[str, Any]) -> int:
    """How many records a line says that it is of, 0 where that cannot be."""
    count, most = line.get("count"), LARGEST_COUNT if "hashes_of" in line else TOGETHER
    return count if isinstance(count, int) and 0 <= count <= most else 0


def _rest(
    place: int, line: dict[str, Any], short: list[Any], again: Callable[[], Iterable[tuple[str, Any]]], unusable: Any
) -> list[Any] | None:
    """What a line says: of whole records these, else the further keys of each of the records `short`; None where that cannot be read."""
    try:
        return _unpacked(line, short, again)
    except (ValueError, OSError, lzma.LZMAError, zlib.error, LookupError, TypeError, AttributeError) as error:
        said = f"line {place} of {FOLDED!r} cannot be unfolded ({error})"
        if unusable is None:
            raise ValueError(said) from None
        unusable.note(said)
        return None


def _unpacked(line: dict[str, Any], short: list[Any], again: Callable[[], Iterable[tuple[str, Any]]]) -> list[Any]:
    if "hashes_of" in line:
        found: Any = hashes_of(one for name, one in again() if name == line["hashes_of"])
    else:
        how = line.get("how")
        stream = STREAMS[how]() if how in STREAMS else zlib.decompressobj()
        text = stream.decompress(base85.decoded(line["packed"]), LARGEST)
        if not stream.eof:
            raise ValueError("it is cut off, or too large")
        if how == TAGS:
            return [{"tags": mine} for mine in by_entry(short, lambda count: unpacked(text, count, parse))]
        if how == XZ:
            return unpacked(text, line["count"], parse)
        found = parse(text.decode())
        if how == COLUMNS:
            return values(found, line["count"])
    if not isinstance(found, list) or len(found) != line["count"]:
        raise ValueError("it has not as many records as it says")
    return found
