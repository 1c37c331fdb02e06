"""The dataset JSON as the detectors use it: which pictures count, and their tags.

It stands between `advanced_joytag_processing.py`, which writes it, and every stage after.
"""

import itertools
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from tagcheck import data_folder, memory, script, tags
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.errors import BadFile
from tagcheck.json_files import Unusable, Wrong, is_text, list_of, map_of, record, string
from tagcheck.plural import plural
from tagcheck.refusals import Spellings

HASH = re.compile(r"[0-9a-f]{64}")
TAGS_READ = "tags_read"  # of a dataset: when its tags began to be read from the library
TAGS_OLD = "tags_old"  # of a record: its picture was not there then, and the tags are those of an earlier time
TAG_LISTS = ("existing_all_tags", "deleted_tags", "implied_tags")
REPEATED = ("pages", "existing_series_tags")  # what many records say alike
LISTS_BY_TAG = map_of(list_of(string), string)
RELATIONS = record(
    optional={"siblings": map_of(string, string), "parents": LISTS_BY_TAG, "other_siblings": LISTS_BY_TAG}
)
JUDGED = record({"hashes": list_of(string), "judgement": string}, {"others": list_of(string)})
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799  # that a calendar has, from 1970


class Record(NamedTuple):
    """One picture of the dataset. Tags are as the owner sees them, `deleted_tags` as they were stored; see docs/formats.md. They are held
    as tuples, each tag once, a tenth of the memory of sets: each time they are asked for a set is made.

    `raw` is what else the file says of it, `refused` what the deletions cover, each tag with the spelling that was deleted
    (`Spellings.refused`).
    """

    hash: str
    written: Collection[str] = ()
    deleted: Collection[str] = ()
    implied: Collection[str] = ()
    status: str = "ok"
    raw: Mapping[str, Any] = {}
    refused: Mapping[str, str] = {}

    @property
    def tags(self) -> frozenset[str]:
        return frozenset(self.written)

    @property
    def deleted_tags(self) -> frozenset[str]:
        return frozenset(self.deleted)

    @property
    def implied_tags(self) -> frozenset[str]:
        return frozenset(self.implied)


@dataclass(frozen=True)
class Dataset:
    """A dataset file: its path, its header without the records, and the records in the file's order.

    `siblings` maps a tag to the one that its owner sees in its place, `parents` a tag to those that come with
    it; `judged` are pairs of hashes, in order, with what their owner judged them to be in the library's program.
    `most` is how many readable pictures were asked for, `left_out` how many records that costs.
    """

    path: Path
    header: dict[str, Any]
    records: list[Record]
    siblings: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, frozenset[str]] = field(default_factory=dict)
    judged: Mapping[tuple[str, str], str] = field(default_factory=dict)
    spellings: Spellings = field(default_factory=Spellings)
    most: int | None = None
    left_out: int = 0

    @property
    def model(self) -> str | None:
        """The id of the model that made the embeddings, where the file says so."""
        model = self.header.get("model")
        return model.get("id") if isinstance(model, dict) else None

    @property
    def tagger_name(self) -> str:
        """What the tagger is called."""
        model = self.header.get("model")
        return str(model.get("name") or "the tagger") if isinstance(model, dict) else "the tagger"

    @cached_property
    def pixels(self) -> dict[str, str]:
        """Hash -> digest of its pixels ("" where nobody told), of every picture that could be read."""
        return {record.hash: pixels_of(record.raw) for record in self.usable()}

    def usable(self) -> list[Record]:
        """The records whose picture could be read."""
        return [record for record in self.records if record.status == "ok"]

    @property
    def mapped(self) -> int:
        """How many pictures the library has on its mapped pages, those included that wait for their embedding."""
        summary = self.header.get("summary")
        mapped = summary.get("mapped") if isinstance(summary, dict) else None
        here = len(self.records) + self.left_out
        return max(mapped, here) if isinstance(mapped, int) else here

    def share(self, seen: int) -> str:
        """`2,000 of 50,000 pictures`, or `50,000 pictures` where `seen` (with unreadable ones) are all."""
        return f"{seen:,} of {plural(self.mapped, 'picture')}" if self.sampled(seen) else plural(seen, "picture")

    def sampled(self, seen: int) -> dict[str, int | None]:
        """How much of the library a report speaks of, for its summary; nothing where it speaks of all."""
        if seen + sum(record.status != "ok" for record in self.records) >= self.mapped:
            return {}
        return {"pictures_seen": seen, "pictures_mapped": self.mapped, "max_embeddings": self.most}


def pixels_of(row: Mapping[str, Any]) -> str:
    """The digest of a record's pixels, "" where it has none or its picture could not be read."""
    return row.get("pixel_hash") or "" if row.get("status", "ok") == "ok" else ""


_HELD: dict[tuple[Any, ...], tuple["Dataset", Unusable]] = {}  # see `hold`


def hold(folder: DataFolder, given: str | Path | None = None, most: int | None = None) -> None:
    """Read a dataset for the processes that are forked from this one: as long as its file stays as it is, `load` gives it to them.
    Raises as `load`.
    """
    path = folder.require(DATASET, given)
    _HELD.clear()
    _HELD[_stamp(path, most)] = read = _read(path, most)
    _ = read[0].pixels  # which all of them ask for


def _stamp(path: Path, most: int | None) -> tuple[Any, ...]:
    about = path.stat()
    return str(path), about.st_size, about.st_mtime_ns, about.st_ino, most


def load(
    folder: DataFolder,
    given: str | Path | None = None,
    most: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Dataset:
    """The newest dataset, or the one given; with `most`, no more readable pictures than that, spread over pages, series and
    time (`tagcheck.spread`). Raises `MissingInput` or `BadFile` naming the file.

    A record that cannot be used is left out; `tell` (default: standard error) gets a line with their number and the first.
    """
    path = folder.require(DATASET, given)
    found, unusable = _HELD.get(_stamp(path, most)) or _read(path, most)
    if unusable:
        (tell or script.say)(f"warning: {path}: {unusable}")
    return found


@memory.uncollected()
def _read(path: Path, most: int | None) -> tuple[Dataset, Unusable]:
    """A dataset, and what of it could not be used."""
    unusable, document = Unusable(), dict[str, Any]()
    records: dict[str, Record] = {}
    pairs, before = list[Any](), None
    siblings, parents, spellings = _relations(path, None)
    for place, row in rows(path, document, unusable):
        if not place:
            pairs.append(row)
            continue
        if (found := document.get("tag_relations")) is not before:
            (siblings, parents, spellings), before = _relations(path, found), found
        record = record_of(row, spellings)
        if record.hash in records:
            unusable.note(f"record {place} of 'results' has the hash of an earlier one: a picture has one record")
        else:
            records[record.hash] = record
    if document.pop("results", None) is None and not records and not unusable:
        raise BadFile(f"{path} has no 'results': run {DATASET.made_by} again")
    if (found := document.get("tag_relations")) is not before:  # it stands behind the records
        siblings, parents, spellings = _relations(path, found)
        for hash, one in records.items():
            if deleted := one.deleted_tags:
                records[hash] = one._replace(refused=spellings.refused(deleted, one.tags))
    if unusable and not records:
        raise BadFile(f"{path}: {unusable}: run {DATASET.made_by} again")
    judged = dict(_judged(document.pop("judged_pairs", None) or pairs, unusable))
    kept = list(records.values()) if most is None else _spread(list(records.values()), most)
    left_out = len(records) - len(kept)
    return Dataset(path, document, kept, siblings, parents, judged, spellings, most, left_out), unusable


def rows(path: Path, header: dict[str, Any], unusable: Unusable) -> Iterator[tuple[int, Any]]:
    """(place in 'results', record) of each record that can be used, and (0, row) of each judged pair, in the file's order.

    `header` is filled with the other keys. The tags of a record are cleaned, each once. A record without hash or tags is left out and
    noted; a value beside them that is not as docs/formats.md says is taken out of its record, and noted too.
    """
    place, known, alike = 0, _Known(), dict[str, Any]()
    for name, row in data_folder.records(path, DATASET, header, unusable):
        if name != "results":
            yield 0, row
            continue
        place += 1
        try:
            _check(row, known)
        except Wrong as error:
            unusable.note(f"record {place} of 'results'{error}")
            continue
        for key in _beside(row, alike):
            del row[key]
            unusable.note(f"{key!r} of record {place} of 'results'", "value")
        yield place, row


def _spread(records: list[Record], most: int) -> list[Record]:
    """The records without the readable ones beyond the first `most` in spread order, in the file's order."""
    # Loaded here: it needs NumPy, which a program that only answers a question need not load.
    from tagcheck.spread import Placed, spread_order

    def placed(row: Mapping[str, Any]) -> Placed:
        pages = tuple(" / ".join(page) if isinstance(page, list) else page for page in row.get("pages") or ())
        series, time = tuple(row.get("existing_series_tags") or ()), float(row.get("time_imported") or 0.0)
        return Placed(row["hash"], pages, series, time)

    readable = [record for record in records if record.status == "ok"]
    kept = {readable[place].hash for place in spread_order([placed(one.raw) for one in readable])[:most]}
    return [record for record in records if record.status != "ok" or record.hash in kept]


def spellings(path: Path) -> Spellings:
    """How the library of a dataset shows tags, where that stands before its records."""
    return _relations(path, data_folder.head(path, DATASET).get("tag_relations"))[2]


def _relations(path: Path, found: Any) -> tuple[dict[str, str], dict[str, frozenset[str]], Spellings]:
    """Siblings, parents, and both with the siblings of every tag service, out of the header's `tag_relations`."""
    said = {} if found is None else found
    try:
        RELATIONS(said)
    except Wrong as error:
        raise BadFile(f"{path}: 'tag_relations': {error}: run {DATASET.made_by} again") from None
    shown = {tags.clean(tag): tags.clean(ideal) for tag, ideal in (said.get("siblings") or {}).items()}
    parents, everywhere = (
        {tags.clean(tag): frozenset(map(tags.clean, some)) for tag, some in (said.get(name) or {}).items()}
        for name in ("parents", "other_siblings")
    )
    for tag, ideal in shown.items():
        everywhere[tag] = everywhere.get(tag, frozenset()) | {ideal}
    return shown, parents, Spellings(everywhere, parents)


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _judged(found: list[Any], unusable: Unusable) -> Iterator[tuple[tuple[str, str], str]]:
    """Each judged pair out of the header's `judged_pairs`; where a pair has two judgements (two copies in a group of alternates), "duplicates"."""
    ordered = sorted(found, key=lambda one: isinstance(one, dict) and one.get("judgement") == "duplicates")
    for place, one in enumerate(ordered, 1):
        try:
            JUDGED(one)
        except Wrong:
            unusable.note(f"'judged_pairs' has an entry ({place}) without 'judgement' and 'hashes'")
            continue
        for first, second in itertools.product(one["hashes"], one.get("others") or one["hashes"]):
            if first != second:
                yield (min(first, second), max(first, second)), one["judgement"]


class _Known(dict[Any, str]):
    """The tags that were seen, each cleaned once, as the one text that stands for it in memory, however many pictures have it."""

    def __missing__(self, tag: Any) -> str:
        if not is_text(tag):
            raise TypeError(tag)
        cleaned = self[tag] = sys.intern(tags.clean(tag))
        return cleaned


def _check(row: Any, known: _Known) -> None:
    """Clean the tags of a row of `results`. Raise `Wrong`, saying what is wrong with it."""
    if not isinstance(row, dict):
        raise Wrong(" is not an object")
    hash, status = row.get("hash"), row.get("status")
    if not isinstance(hash, str) or not HASH.fullmatch(hash):
        raise Wrong(" has no hash of 64 lower-case hex digits")
    if status is not None and not isinstance(status, str):
        raise Wrong(": 'status' is not a word")
    for key in TAG_LISTS:
        value = row.get(key)
        if value is None and key != "existing_all_tags":
            continue
        try:
            if not isinstance(value, list):
                raise TypeError
            row[key] = [*filter(None, dict.fromkeys(map(known.__getitem__, value)))]
        except TypeError:
            raise Wrong(f": {key!r} is not a list of tags") from None


def _beside(row: dict[str, Any], alike: dict[str, Any]) -> list[str]:
    """The keys beside hash, status and tags whose values are not as they should be. Of `REPEATED` ones those that were right stand
    in `alike`, as they are written, and take the place of the same in other rows.
    """
    wrong = []
    for key, value in row.items():
        if key not in BESIDE or value is None:
            continue
        written = repr(value) if key in REPEATED else ""
        if written in alike:
            row[key] = alike[written]
        elif not BESIDE[key](value):
            wrong.append(key)
        elif written:
            alike[written] = value
    return wrong


def _pages(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(page, str) or _texts(page) for page in value)


def _count(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _second(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and FIRST_SECOND <= value <= LAST_SECOND


# What may stand beside hash, status and tags in a record.
BESIDE: dict[str, Callable[[Any], bool]] = {
    "pages": _pages,
    "existing_series_tags": lambda value: isinstance(value, list) and all(map(is_text, value)),
    "time_imported": _second,
    **dict.fromkeys(("width", "height", "size", "duration"), _count),
    **dict.fromkeys(("mime", "file_path", "pixel_hash", "reason", "damaged"), lambda value: isinstance(value, str)),
}


def record_of(row: dict[str, Any], spellings: Spellings) -> Record:
    """A row that `rows` gave as a record."""
    shown, deleted, implied = (tuple(row.get(key) or ()) for key in TAG_LISTS)
    refused = spellings.refused(deleted, frozenset(shown)) if deleted else {}
    beside = {key: value for key, value in row.items() if key not in TAG_LISTS}
    return Record(row["hash"], shown, deleted, implied, row.get("status") or "ok", beside, refused)
