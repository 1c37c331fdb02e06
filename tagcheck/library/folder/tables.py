"""Files that hold the captions of many pictures: Hugging Face's `metadata.jsonl` and kohya's `meta_*.json`.

A record is handled as a sidecar of its picture. Only the record's own bytes change.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tagcheck.json_files import members
from tagcheck.library.folder.sidecar_text import NotASidecar, encoded, text_of

LARGEST = 1 << 30  # bytes
NAMES = re.compile(r"metadata\.jsonl|meta_.+\.json", re.IGNORECASE)
_LINE = re.compile(r"[^\r\n]+")


@dataclass(frozen=True)
class Table:
    """A table's text, and where the record of each picture stands in it. `damaged`: how many lines are no JSON."""

    text: str
    bom: bytes
    records: dict[str, tuple[int, int]] = field(default_factory=dict)
    damaged: int = 0

    def record(self, key: str) -> bytes | None:
        return self.text[slice(*self.records[key])].encode() if key in self.records else None

    def changed(self, new: Mapping[str, bytes]) -> bytes:
        """The bytes of the table with some records changed."""
        text = self.text
        for key in sorted(new, key=lambda key: self.records[key], reverse=True):
            start, end = self.records[key]
            text = text[:start] + new[key].decode() + text[end:]
        return encoded(text, self.bom)


def is_table(name: str) -> bool:
    """Whether a file of this name holds the captions of many pictures.

    >>> is_table("metadata.jsonl"), is_table("meta_lat.json"), is_table("metadata.json")
    (True, True, False)
    """
    return bool(NAMES.fullmatch(name))


def read(path: str, data: bytes) -> Table:
    """Take a table apart. Raises `NotASidecar` for what is no such table."""
    text, bom = text_of(data, LARGEST)
    if path.lower().endswith(".jsonl"):
        return _lines(text, bom)
    try:
        records = {key: span for key, span in members(text).items() if isinstance(json.loads(text[slice(*span)]), dict)}
        return Table(text, bom, records)
    except (ValueError, RecursionError) as error:
        raise NotASidecar(f"is not whole JSON ({error})") from None


def _lines(text: str, bom: bytes) -> Table:
    records: dict[str, tuple[int, int]] = {}
    damaged = 0
    for line in _LINE.finditer(text):
        if not line[0].strip():
            continue
        try:
            name = json.loads(line[0])["file_name"]
        except (ValueError, KeyError, TypeError, RecursionError):
            damaged += 1
            continue
        if isinstance(name, str):
            records.setdefault(name, line.span())
    return Table(text, bom, records, damaged)


class Finder:
    """Which picture a record's key means: a path below the table's folder, an absolute one, or either without its ending; else
    the only picture below that folder that has the name, since a table may have been written on another machine.
    """

    def __init__(self, pictures: list[str]) -> None:
        self.whole = {os.path.normpath(path): path for path in pictures}
        self.stems: dict[str, list[str]] = {}
        self.names: dict[str, list[str]] = {}
        for path in pictures:
            stem = os.path.splitext(os.path.normpath(path))[0]
            self.stems.setdefault(stem, []).append(path)
            for name in {os.path.basename(path), os.path.basename(stem)}:
                self.names.setdefault(name, []).append(path)

    def find(self, folder: str, key: str) -> list[str]:
        """The pictures that a key of a table in `folder` means."""
        path = os.path.normpath(os.path.join(folder, key.replace("\\", "/")))
        if path in self.whole:
            return [self.whole[path]]
        if path in self.stems:
            return self.stems[path]
        start = os.path.join(folder, "")
        named = [one for one in self.names.get(os.path.basename(path), ()) if one.startswith(start)]
        return named if len(named) == 1 else []
