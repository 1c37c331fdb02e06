"""Every file between stages: its folder, its name, its version; saved atomically, loaded strictly.

The contract is docs/formats.md. "The newest" is decided by the time in a file's name, never by its modification time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tagcheck.errors import BadFile, MissingInput
from tagcheck.files import listed, reading, sweep, there, write_json
from tagcheck.folded import FOLDED, LOST, fold, unfold
from tagcheck.json_files import Unusable, elements, members, parse

LONGEST_LINE = 64 << 20  # characters
UNDECODED = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of bytes that are not UTF-8
LARGEST_WHOLE = 2 << 30  # bytes of a file in another layout than ours
OPENED = "{", "["  # what a line ends with where a value goes on in the next
STAMP = "%Y%m%dT%H%M%SZ"
SINGLE_PICTURE = "single_picture.npz"  # what `tagcheck.single_picture` keeps
EXTRACTION_LOCK = "extraction.lock"  # beside the embeddings: who holds it writes the dataset
SET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")  # of a further tagger's embeddings
STAMP_PATTERN = re.compile(r"_(\d{8}T\d{6}Z)\.json$")


@dataclass(frozen=True)
class Kind:
    """One kind of JSON file: where it stands, what its name starts with, which version is written.

    `records` names the top-level lists that are written one record a line; `made_by` the script
    that writes it, for the message when there is none. `plain` are the lists that are folded where they are large, each with the
    keys that any reader finds in its records all the same (`tagcheck.folded`).
    """

    name: str
    folder: str
    prefix: str
    made_by: str
    records: tuple[str, ...] = ()
    version: int = 1
    plain: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def lists(self) -> tuple[str, ...]:
        """The lists that are written one record a line, that of what is folded among them."""
        return (FOLDED, *self.records) if self.plain else self.records


MAPPING = Kind("dataset_mapping", "mappings", "dataset_mapping", "dataset_hardcore_mapper.py", ("pages",))
EXTRACTED = ("advanced_joytag_complete", "advanced_joytag_processing.py")
DATASET = Kind("dataset", "datasets", *EXTRACTED, ("judged_pairs", "results"))
SUMMARY = "error_detection_summary"
RUN_SUMMARY = Kind(SUMMARY, "reports", SUMMARY, "run_error_detection.py", ("detectors",))


@dataclass(frozen=True)
class DataFolder:
    """The folder that the stages share. Sub-folders are made when something is first written there.

    `named` is another tagger beside the library's own, whose embeddings stand apart.
    """

    root: Path
    named: str | None = None

    @property
    def embeddings(self) -> Path:
        """Shards of embeddings and the tag head."""
        own = self.root / "advanced_embeddings"
        return own / self.named if self.named else own

    def further(self) -> list[DataFolder]:
        """This folder as each further tagger sees it, by name."""
        own = self.root / "advanced_embeddings"
        named = [path for path in listed(own, "*") if SET_NAME.fullmatch(path.name) and path.is_dir()]
        return [DataFolder(self.root, path.name) for path in named if listed(path, "*.pt")]

    def sweep(self) -> None:
        """Remove what killed processes left half written, in every sub-folder that is written to."""
        below = ("", "mappings", "datasets", "reports", "series_classifier", "advanced_embeddings", "backups")
        for one in [*(self.root / name for name in below), *self.root.glob("advanced_embeddings/*/")]:
            sweep(one)

    @property
    def classifier(self) -> Path:
        """The series classifier: model, metrics, out-of-fold predictions."""
        return self.root / "series_classifier"

    @property
    def review(self) -> Path:
        """The owner's decisions and the ledger of writes (SQLite)."""
        return self.root / "review.sqlite3"

    def files(self, kind: Kind) -> list[Path]:
        """All files of one kind, the oldest first by the time in the name. A name without a real time is somebody's copy, not one of them."""
        found = ((stamp_of(path), path) for path in listed(self.root / kind.folder, f"{kind.prefix}_*.json"))
        return [path for when, path in sorted((when, path) for when, path in found if when is not None)]

    def newest(self, kind: Kind) -> Path | None:
        """The newest file of one kind, or None."""
        found = self.files(kind)
        return found[-1] if found else None

    def require(self, kind: Kind, given: str | Path | None = None) -> Path:
        """`given`, or the newest file of this kind. Raises `MissingInput` saying which script makes one."""
        if given is not None:
            path = Path(given)
            if not there(path) or not path.is_file():
                raise MissingInput(f"no file {path}")
            return path
        newest = self.newest(kind)
        if newest is None:
            words = "No processed dataset found: " if kind == DATASET else ""
            where = self.root / kind.folder
            raise MissingInput(f"{words}no {kind.prefix}_*.json in {where}: run {kind.made_by} first")
        return newest


def utc_now() -> datetime:
    """Now, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def stamp_of(path: Path) -> datetime | None:
    """The time in a file's name, in UTC; None where there is none.

    >>> stamp_of(Path("dataset_mapping_20261123T170500Z.json"))
    datetime.datetime(2026, 11, 23, 17, 5, tzinfo=datetime.timezone.utc)
    """
    found = STAMP_PATTERN.search(path.name)
    try:
        return datetime.strptime(found[1], STAMP).replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


def isoformat(when: datetime) -> str:
    """A time in UTC as `2026-11-23T17:05:00Z`."""
    return f"{when.replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def moment(text: str) -> datetime:
    """The time that `isoformat` wrote. Raises ValueError where it is none.

    >>> moment("2026-11-23T17:05:00Z")
    datetime.datetime(2026, 11, 23, 17, 5, tzinfo=datetime.timezone.utc)
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def save(folder: DataFolder, kind: Kind, document: dict[str, Any], when: datetime | None = None) -> Path:
    """Write `document` as the newest file of its kind and return its path.

    `kind`, `version` and `created` are put in front. A file of the same second, or one whose name
    says it is newer (a clock that was set back), pushes the name one second past it, and so does
    another process that saves in the same moment: no file is ever written over.
    """
    when = when or utc_now()
    while True:
        newest = folder.newest(kind)
        last = stamp_of(newest) if newest else None
        if last is not None:
            when = max(when, last + timedelta(seconds=1))
        path = folder.root / kind.folder / f"{kind.prefix}_{when.strftime(STAMP)}.json"
        head = {"kind": kind.name, "version": kind.version, "created": isoformat(when)}
        whole = fold(head | {key: value for key, value in document.items() if key not in head}, dict(kind.plain))
        with suppress(FileExistsError):
            write_json(path, whole, kind.lists, replace=False)
            return path


def load(path: Path, kind: Kind, unusable: Unusable | None = None) -> dict[str, Any]:
    """Read one file. Raises `BadFile` naming it when it is damaged, of another kind, or newer than this program.

    With `unusable`, a record or value that cannot be read is noted there and left out.
    """
    header: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {}
    for name, record in records(path, kind, header, unusable):
        lists.setdefault(name, []).append(record)
    return header | lists


def records(
    path: Path, kind: Kind, header: dict[str, Any], unusable: Unusable | None = None
) -> Iterator[tuple[str, Any]]:
    """(list name, record) for every record of one file, in the file's order; `header` is filled with the other keys.

    A file laid out as `save` writes it is read line by line; any other layout of the same JSON as a whole. Raises
    `BadFile` naming file and line when it is damaged, `MissingInput` when it vanished. With `unusable`, a record or
    value that cannot be read is noted there and left out, and only a file whose parts cannot be told apart is refused.
    """
    if not kind.plain:
        yield from _records_as_they_stand(path, kind, header, unusable)
        return
    try:
        again = partial(_records_as_they_stand, path, kind, {}, Unusable())
        yield from unfold(_records_as_they_stand(path, kind, header, unusable), again, unusable)
    except ValueError as error:
        raise BadFile(f"{path} is damaged ({error}): {_again(kind)}") from None


def _records_as_they_stand(
    path: Path, kind: Kind, header: dict[str, Any], unusable: Unusable | None
) -> Iterator[tuple[str, Any]]:
    """The same without what is folded."""
    with reading(path, _again(kind)):
        with path.open(encoding="utf-8", errors="surrogateescape") as lines:
            if lines.readline(LONGEST_LINE).rstrip("\r\n") == "{":
                whole = yield from _by_line(path, kind, lines, header, unusable)
                if whole:
                    return
        if path.stat().st_size > LARGEST_WHOLE:
            raise BadFile(f"{path} is too large to be read unless each record stands in a line: {_again(kind)}")
        yield from _by_key(path, kind, path.read_text("utf-8-sig", "surrogateescape"), header, unusable)


def head(path: Path, kind: Kind) -> dict[str, Any]:
    """The keys that stand before the first list of records: enough for summary and date, without reading the rest."""
    header: dict[str, Any] = {}
    next(_records_as_they_stand(path, kind, header, Unusable()), None)
    return header


def _by_line(
    path: Path, kind: Kind, lines: TextIO, header: dict[str, Any], unusable: Unusable | None
) -> Generator[tuple[str, Any], None, bool]:
    """Records of a file in our layout; returns False, before anything was yielded, when it is laid out otherwise."""
    checked = begun = False
    numbered = enumerate(iter(lambda: lines.readline(LONGEST_LINE), ""), 2)
    for number, line in numbered:
        text = line.strip()
        where = f"{path} is damaged in line {number}"
        if text == "}":
            if not checked:
                _check(path, kind, header)
            return True
        name, colon, value = text.partition(": ")
        name = name.strip('"')
        a_list = name in kind.lists and value == "["
        goes_on = value in OPENED and not a_list
        if not colon or not line.startswith('"') or goes_on:
            if begun or (checked and not goes_on):
                raise BadFile(f"{where}: {_again(kind)}")
            return False
        if name in kind.lists and value.startswith("[") and value not in ("[", "[]", "[],"):
            if not begun:
                return False  # a list within one line, as another program writes it
            for begin, stop in elements(value, 0):
                yield from _records(name, value[begin:stop], where, kind, unusable)
        elif not a_list:
            for _, one in _records(name, value.removesuffix(","), where, kind, unusable):
                header[name] = one
                if name in kind.lists and one is not None and not isinstance(one, list):
                    raise BadFile(f"{path}: {name!r} is not a list")
        if not checked and "kind" in header and ("version" in header or a_list):
            _check(path, kind, header)
            checked = True
        if a_list:
            if not checked or not (yield from _list_by_line(path, kind, name, numbered, unusable, begun)):
                return False
            begun = True
    raise BadFile(f"{path} is cut off: {_again(kind)}")


def _list_by_line(
    path: Path, kind: Kind, name: str, numbered: Iterator[tuple[int, str]], unusable: Unusable | None, begun: bool
) -> Generator[tuple[str, Any], None, bool]:
    """The records of a list up to its end; returns False where the first, if nothing has `begun`, goes on in the next line."""
    for number, line in numbered:
        text = line.strip()
        if text in ("]", "],"):
            return True
        if text in OPENED and not begun:
            return False
        begun = True
        yield from _records(name, text.removesuffix(","), f"{path} is damaged in line {number}", kind, unusable)
    raise BadFile(f"{path} is cut off: {_again(kind)}")


def _by_key(
    path: Path, kind: Kind, text: str, header: dict[str, Any], unusable: Unusable | None
) -> Iterator[tuple[str, Any]]:
    """The same of any other layout: the top-level keys are told apart first, each value is read for itself."""
    where = f"{path} is not whole JSON"
    try:
        if not text.lstrip().startswith("{"):
            header["kind"] = type(parse(text)).__name__
            places = {}
        else:
            places = members(text)
    except ValueError as error:
        raise BadFile(f"{where} ({error}): {_again(kind)}") from None
    lists = {name: places.pop(name) for name in kind.lists if name in places}
    for name, (start, end) in places.items():
        for _, one in _records(name, text[start:end], where, kind, unusable):
            header[name] = one
    _check(path, kind, header)
    for name, (start, end) in lists.items():
        if text[start:end] == "null":
            continue
        if text[start] != "[":
            raise BadFile(f"{path}: {name!r} is not a list")
        try:
            found = elements(text, start)
        except ValueError as error:
            raise BadFile(f"{where} ({error}): {_again(kind)}") from None
        for number, (begin, stop) in enumerate(found, 1):
            yield from _records(name, text[begin:stop], f"{where} in record {number} of {name!r}", kind, unusable)
        if not found:
            header[name] = []


def _records(name: str, text: str, where: str, kind: Kind, unusable: Unusable | None) -> Iterator[tuple[str, Any]]:
    """(name, value) of one value's text; none, and a note, where it cannot be read (`LOST` where the place of a record counts)."""
    try:
        if not (text.isascii() and name.isascii()) and UNDECODED.search(name + text):
            raise ValueError("it holds bytes that are not UTF-8")
        yield name, parse(text)
    except ValueError as error:
        said = f"{where} ({error.msg if isinstance(error, json.JSONDecodeError) else error})"
        if unusable is None:
            raise BadFile(f"{said}: {_again(kind)}") from None
        unusable.note(said)
        if kind.plain and name in kind.lists:
            yield name, LOST


def _check(path: Path, kind: Kind, header: dict[str, Any]) -> None:
    if header.get("kind") != kind.name:
        raise BadFile(f"{path} is not a {kind.name} (it says {repr(header.get('kind'))[:80]})")
    version = header.get("version", 1)
    if not isinstance(version, int) or version > kind.version:
        newer = f"{path} has version {repr(version)[:40]}"
        raise BadFile(f"{newer}, this program reads up to {kind.version}: update the program")


def _again(kind: Kind) -> str:
    return f"remove it and run {kind.made_by} again"
