"""Files that no decoder here could read, remembered, so that a later run need not try them again.

A file's content is its hash, so a reason that lies in the content lasts, until something else decodes
it or other limits hold: these are kept with it as `tools`, and a file whose tools are not today's is
tried again. What may pass by itself (a file that was away, a decoder that ran out of time) is never kept.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagcheck import json_files
from tagcheck.data_folder import isoformat, utc_now
from tagcheck.errors import BadFile
from tagcheck.files import there, write_json
from tagcheck.json_files import anything, list_of, one_of, record, text

FILE, KIND, VERSION = "unreadable.json", "unreadable_files", 1
ROW = record({"hash": text(64, 64), "status": one_of("unreadable", "unsupported", "missing"), "reason": text()})
SHAPE = record({"kind": anything, "version": anything, "tools": anything, "files": list_of(ROW)})
REPAIRED = "repairs.json"  # beside embeddings that are free of the faults of earlier versions


@dataclass(frozen=True)
class Failure:
    """Why a file could not be read: the `status` and `reason` of its record."""

    status: str
    reason: str


def load(folder: Path, tools: Mapping[str, Any]) -> dict[str, Failure]:
    """The files that these very `tools` could not read, by hash. Raises `BadFile` for a file of another kind."""
    path = folder / FILE
    if not there(path):
        return {}
    again = "remove it, and the files in it are tried again"
    document = json_files.read(path, SHAPE, again, most=1 << 30)
    if document["kind"] != KIND or document["version"] != VERSION:
        raise BadFile(f"{path} is not of kind {KIND!r}, version {VERSION}: {again}")
    if document["tools"] != json.loads(json.dumps(tools)):
        return {}
    return {row["hash"]: Failure(row["status"], row["reason"]) for row in document["files"]}


def save(folder: Path, tools: Mapping[str, Any], failures: Mapping[str, Failure]) -> None:
    """Keep `failures` as those of `tools`; what was kept before is replaced. None, and none kept, is no file."""
    path = folder / FILE
    if not failures and not there(path):
        return
    rows = [{"hash": hash, "status": one.status, "reason": one.reason} for hash, one in sorted(failures.items())]
    head = {"kind": KIND, "version": VERSION, "created": isoformat(utc_now()), "tools": dict(tools)}
    write_json(path, head | {"files": rows}, ("files",))


@dataclass(frozen=True)
class Notes:
    """One thing that is known of files beside their embeddings: `key` of each hash, in the file `name` of this `kind`."""

    name: str
    kind: str
    key: str

    def load(self, folder: Path) -> dict[str, str]:
        """What is noted down, by hash. Raises `BadFile`."""
        path = folder / self.name
        if not there(path):
            return {}
        again = "remove it, and nothing but these notes is lost"
        rows = list_of(record({"hash": text(64, 64), self.key: text()}))
        shape = record({"kind": anything, "version": anything, "files": rows})
        document = json_files.read(path, shape, again, most=1 << 30)
        return {row["hash"]: row[self.key] for row in document["files"]}

    def keep(self, folder: Path, known: Mapping[str, str]) -> None:
        """Remember that; nothing, and nothing kept, is no file."""
        if known or there(folder / self.name):
            files = [{"hash": hash, self.key: one} for hash, one in sorted(known.items())]
            head = {"kind": self.kind, "version": VERSION, "created": isoformat(utc_now())}
            write_json(folder / self.name, head | {"files": files}, ("files",))


# What is wrong with files whose pixels were read all the same.
DAMAGED = Notes("damaged.json", "damaged_files", "reason")
# The digests of pictures that were embedded before shards held them, "" for what has none.
PIXELS = Notes("pixels.json", "pixel_digests", "pixels")


def repaired(folder: Path) -> bool:
    """Whether the embeddings in this folder are free of what earlier versions did wrong to turned TIFF pictures."""
    return there(folder / REPAIRED)


def keep_repairs(folder: Path) -> None:
    """Note down that they are."""
    if not repaired(folder):
        write_json(folder / REPAIRED, {"kind": "repairs", "version": VERSION, "done": ["tiff_turned_once"]})
