"""The dataset JSON as the detectors use it: which pictures count, and their tags.

It stands between `advanced_joytag_processing.py`, which writes it, and every stage after.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tagcheck import artifacts, tags
from tagcheck.artifacts import DATASET, DataFolder
from tagcheck.errors import BadFile

HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Record:
    """One picture of the dataset. Tags are as the owner sees them; see docs/formats.md."""

    hash: str
    tags: frozenset[str]
    deleted_tags: frozenset[str] = frozenset()
    implied_tags: frozenset[str] = frozenset()
    status: str = "ok"
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Dataset:
    """A dataset file: its path, its header without the records, and the records in the file's order."""

    path: Path
    header: dict[str, Any]
    records: list[Record]

    @property
    def model(self) -> str | None:
        """The id of the model that made the embeddings, where the file says so."""
        model = self.header.get("model")
        return model.get("id") if isinstance(model, dict) else None

    def usable(self) -> list[Record]:
        """The records whose picture could be read."""
        return [record for record in self.records if record.status == "ok"]


def load(folder: DataFolder, given: str | Path | None = None) -> Dataset:
    """The newest dataset, or the one given. Raises `MissingInput` or `BadFile` naming the file and record."""
    path = folder.require(DATASET, given)
    document = artifacts.load(path, DATASET)
    rows = document.pop("results", None)
    if rows is None:
        raise BadFile(f"{path} has no 'results': run {DATASET.made_by} again")
    records = [_record(path, place, row) for place, row in enumerate(rows)]
    first: dict[str, int] = {}
    for place, record in enumerate(records):
        if first.setdefault(record.hash, place) != place:
            raise BadFile(f"{path}: record {place + 1} of 'results' has the hash of record {first[record.hash] + 1}: a picture has one record")
    return Dataset(path, document, records)


def _record(path: Path, place: int, row: Any) -> Record:
    where = f"{path}: record {place + 1} of 'results'"
    if not isinstance(row, dict):
        raise BadFile(f"{where} is not an object")
    hash = row.get("hash")
    if not isinstance(hash, str) or not HASH.fullmatch(hash):
        raise BadFile(f"{where} has no hash of 64 lower-case hex digits")
    status = row.get("status") or "ok"
    if not isinstance(status, str):
        raise BadFile(f"{where}: 'status' is not a word")
    return Record(
        hash, _tag_set(where, row, "existing_all_tags", required=True), _tag_set(where, row, "deleted_tags"),
        _tag_set(where, row, "implied_tags"), status, row,
    )


def _tag_set(where: str, row: dict[str, Any], key: str, required: bool = False) -> frozenset[str]:
    value = row.get(key)
    if value is None and not required:
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise BadFile(f"{where}: {key!r} is not a list of tags")
    return frozenset(filter(None, map(tags.clean, value)))
