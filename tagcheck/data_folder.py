"""Every file between stages: its folder, its name, its version; saved atomically, loaded strictly.

The contract is docs/formats.md. "The newest" is decided by the time in a file's name, never by
its modification time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from tagcheck.errors import BadFile, MissingInput
from tagcheck.files import no_number, write_atomically, write_json_records

STAMP = "%Y%m%dT%H%M%SZ"
STAMP_PATTERN = re.compile(r"_(\d{8}T\d{6}Z)\.json$")


@dataclass(frozen=True)
class Kind:
    """One kind of JSON file: where it stands, what its name starts with, which version is written.

    `records` names the top-level lists that are written one record a line; `made_by` the script
    that writes it, for the message when there is none.
    """

    name: str
    folder: str
    prefix: str
    made_by: str
    records: tuple[str, ...] = ()
    version: int = 1


MAPPING = Kind("dataset_mapping", "mappings", "dataset_mapping", "dataset_hardcore_mapper.py", ("pages",))
DATASET = Kind(
    "dataset", "datasets", "advanced_joytag_complete", "advanced_joytag_processing.py", ("judged_pairs", "results")
)
RUN_SUMMARY = Kind(
    "error_detection_summary", "reports", "error_detection_summary", "run_error_detection.py", ("detectors",)
)


@dataclass(frozen=True)
class DataFolder:
    """The folder that the stages share. Sub-folders are made when something is first written there."""

    root: Path

    @property
    def embeddings(self) -> Path:
        """Shards of embeddings and the tag head."""
        return self.root / "advanced_embeddings"

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
        found = ((stamp_of(path), path) for path in (self.root / kind.folder).glob(f"{kind.prefix}_*.json"))
        return [path for when, path in sorted((when, path) for when, path in found if when is not None)]

    def newest(self, kind: Kind) -> Path | None:
        """The newest file of one kind, or None."""
        found = self.files(kind)
        return found[-1] if found else None

    def require(self, kind: Kind, given: str | Path | None = None) -> Path:
        """`given`, or the newest file of this kind. Raises `MissingInput` saying which script makes one."""
        if given is not None:
            path = Path(given)
            if not path.is_file():
                raise MissingInput(f"no file {path}")
            return path
        newest = self.newest(kind)
        if newest is None:
            raise MissingInput(f"no {kind.prefix}_*.json in {self.root / kind.folder}: run {kind.made_by} first")
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
    """`2026-11-23T17:05:00Z`."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


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
        whole = head | {key: value for key, value in document.items() if key not in head}
        with suppress(FileExistsError):
            write_atomically(path, partial(write_json_records, document=whole, records=kind.records), replace=False)
            return path


def load(path: Path, kind: Kind) -> dict[str, Any]:
    """Read one file strictly. Raises `BadFile` naming it when it is damaged, of another kind, or newer than this program."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingInput(f"no file {path}") from None
    except UnicodeDecodeError as error:
        raise BadFile(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): remove it and run {kind.made_by} again"
        ) from None
    try:
        document = json.loads(text, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{path} is not whole JSON ({error}): remove it and run {kind.made_by} again") from None
    if not isinstance(document, dict) or document.get("kind") != kind.name:
        says = document.get("kind") if isinstance(document, dict) else type(document).__name__
        raise BadFile(f"{path} is not a {kind.name} (it says {says!r})")
    version = document.get("version", 1)
    if not isinstance(version, int) or version > kind.version:
        raise BadFile(f"{path} has version {version!r}, this program reads up to {kind.version}: update the program")
    for name in kind.records:
        if not isinstance(document.get(name, []), list):
            raise BadFile(f"{path}: {name!r} is not a list")
    return document


def records(path: Path, kind: Kind, header: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(list name, record) for every record of one file, in the file's order; `header` is filled with the other keys.

    A file laid out as `save` writes it is read line by line; any other layout of the same
    JSON as a whole. Raises `BadFile` naming file and line when it is damaged, `MissingInput` when it
    vanished.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            if lines.readline().rstrip("\r\n") == "{":
                whole = yield from _by_line(path, kind, lines, header)
                if whole:
                    return
    except FileNotFoundError:
        raise MissingInput(f"no file {path}") from None
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not UTF-8 text ({error.reason}): remove it and run {kind.made_by} again") from None
    document = load(path, kind)
    header.update((key, value) for key, value in document.items() if key not in kind.records)
    for name in kind.records:
        yield from ((name, record) for record in document.get(name) or [])


def head(path: Path, kind: Kind) -> dict[str, Any]:
    """The keys that stand before the first list of records: enough for summary and date, without reading the rest."""
    header: dict[str, Any] = {}
    next(records(path, kind, header), None)
    return header


def _by_line(path: Path, kind: Kind, lines: Iterable[str], header: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Records of a file in our layout; returns False, before anything was yielded, when it is laid out otherwise."""
    inside: str | None = None
    checked = False
    for number, line in enumerate(lines, 2):
        text = line.strip()
        if inside is not None:
            if text in ("]", "],"):
                inside = None
            else:
                yield inside, _parse(path, kind, number, text.removesuffix(","))
        elif text == "}":
            if not checked:
                _check(path, kind, header)
            return True
        else:
            name, colon, value = text.partition(": ")
            if not colon or not line.startswith('"'):
                if checked:
                    raise BadFile(f"{path} is damaged in line {number}: remove it and run {kind.made_by} again")
                return False
            name = name.strip('"')
            if name in kind.records and value == "[":
                if "kind" not in header:
                    return False
                inside = name
            else:
                header[name] = _parse(path, kind, number, value.removesuffix(","))
            if not checked and "kind" in header and ("version" in header or inside):
                _check(path, kind, header)
                checked = True
    raise BadFile(f"{path} is cut off: remove it and run {kind.made_by} again")


def _parse(path: Path, kind: Kind, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadFile(
            f"{path} is damaged in line {number} ({error.msg}): remove it and run {kind.made_by} again"
        ) from None


def _check(path: Path, kind: Kind, header: dict[str, Any]) -> None:
    if header.get("kind") != kind.name:
        raise BadFile(f"{path} is not a {kind.name} (it says {header.get('kind')!r})")
    version = header.get("version", 1)
    if not isinstance(version, int) or version > kind.version:
        raise BadFile(f"{path} has version {version!r}, this program reads up to {kind.version}: update the program")
