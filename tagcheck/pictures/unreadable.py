"""Files that no decoder here could read, remembered, so that a later run need not try them again.

A file's content is its hash, so a reason that lies in the content lasts, until something else decodes
it or other limits hold: these are kept with it as `tools`, and a file whose tools are not today's is
tried again. What may pass by itself (a file that was away, a decoder that ran out of time) is never kept.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tagcheck import json_files
from tagcheck.data_folder import isoformat, utc_now
from tagcheck.files import there, write_json
from tagcheck.json_files import Shape, list_of, one_of, record, text

VERSION = 1
STATUS = one_of("unreadable", "unsupported", "missing")


@dataclass(frozen=True)
class Failure:
    """Why a file could not be read: the `status` and `reason` of its record."""

    status: str
    reason: str


@dataclass(frozen=True)
class Notes:
    """What is known of files beside their embeddings: the values `keys` of each hash, in the file `name` of this `kind`."""

    name: str
    kind: str
    keys: Mapping[str, Shape]
    again: str = "remove it, and nothing but these notes is lost"

    def read(self, folder: Path) -> dict[str, Any] | None:
        """The document, None where there is none. Raises `BadFile`."""
        if not there(folder / self.name):
            return None
        rows = list_of(record({"hash": text(64, 64), **self.keys}))
        shape = record({"kind": one_of(self.kind), "version": one_of(VERSION), "files": rows})
        document: dict[str, Any] = json_files.read(folder / self.name, shape, self.again, most=1 << 30)
        return document

    def write(self, folder: Path, known: Mapping[str, Mapping[str, Any]], **more: Any) -> None:
        """Keep that instead of what was kept; nothing, and nothing kept, is no file."""
        if known or there(folder / self.name):
            files = [{"hash": hash, **one} for hash, one in sorted(known.items())]
            head = {"kind": self.kind, "version": VERSION, "created": isoformat(utc_now())}
            write_json(folder / self.name, head | more | {"files": files}, ("files",))

    def load(self, folder: Path) -> dict[str, str]:
        """The one value that is noted down, by hash. Raises `BadFile`."""
        (key,) = self.keys
        return {row["hash"]: row[key] for row in (self.read(folder) or {"files": []})["files"]}

    def keep(self, folder: Path, known: Mapping[str, str]) -> None:
        """Remember that one value."""
        (key,) = self.keys
        self.write(folder, {hash: {key: one} for hash, one in known.items()})


TRIED_AGAIN = "remove it, and the files in it are tried again"
UNREADABLE = Notes("unreadable.json", "unreadable_files", {"status": STATUS, "reason": text()}, TRIED_AGAIN)
# What is wrong with files whose pixels were read all the same.
DAMAGED = Notes("damaged.json", "damaged_files", {"reason": text()})


def load(folder: Path, tools: Mapping[str, Any]) -> dict[str, Failure]:
    """The files that these very `tools` could not read, by hash. Raises `BadFile` for a file of another kind."""
    document = UNREADABLE.read(folder)
    if document is None or document.get("tools") != json.loads(json.dumps(tools)):
        return {}
    return {row["hash"]: Failure(row["status"], row["reason"]) for row in document["files"]}


def save(folder: Path, tools: Mapping[str, Any], failures: Mapping[str, Failure]) -> None:
    """Keep `failures` as those of `tools`; what was kept before is replaced."""
    UNREADABLE.write(folder, {hash: asdict(one) for hash, one in failures.items()}, tools=dict(tools))
