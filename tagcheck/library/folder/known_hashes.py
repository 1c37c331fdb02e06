"""What a folder library remembers outside the folder: hashes of files that did not change, replaced versions of sidecars."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from tagcheck.data_folder import isoformat, utc_now
from tagcheck.sqlite import Migrations, connect, within

SCHEMA = """
CREATE TABLE IF NOT EXISTS folder_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS folder_hashes (
    root BLOB NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, hash TEXT NOT NULL,
    PRIMARY KEY (root, path)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folder_versions (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL, content BLOB, content_id TEXT NOT NULL, next_id TEXT NOT NULL, replaced TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS folder_versions_by_path ON folder_versions (path, next_id);
"""


def _make(db: sqlite3.Connection) -> None:
    for statement in filter(str.strip, SCHEMA.split(";")):
        db.execute(statement)


MIGRATIONS = Migrations("folder", _make)


class FolderStore:
    """Hashes and earlier sidecars in one SQLite file; with `path` None, in memory. Any thread may use it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def _open(self, write: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction; the connection stays for the next one, since it is asked for each sidecar that changes."""
        with self._lock:
            if self._connection is None:
                self._connection = connect(self._path, MIGRATIONS, threads=True)
                weakref.finalize(self, self._connection.close)
            with within(self._connection, write):
                yield self._connection

    def hashes(self, root: str) -> dict[str, tuple[int, int, str]]:
        """(size, mtime_ns, hash) of every path known under this root."""
        with self._open(write=False) as db:
            rows = db.execute(
                "SELECT path, size, mtime_ns, hash FROM folder_hashes WHERE root = ?", (os.fsencode(root),)
            )
            return {os.fsdecode(path): (size, mtime_ns, hash) for path, size, mtime_ns, hash in rows}

    def keep_hashes(self, root: str, rows: Iterable[tuple[str, int, int, str]]) -> None:
        """Remember (path, size, mtime_ns, hash)."""
        with self._open() as db:
            db.executemany(
                "INSERT OR REPLACE INTO folder_hashes VALUES (?, ?, ?, ?, ?)",
                [(os.fsencode(root), os.fsencode(path), size, mtime_ns, hash) for path, size, mtime_ns, hash in rows],
            )

    def forget_hashes(self, root: str, paths: Iterable[str]) -> None:
        """Forget files that are gone."""
        gone = [(os.fsencode(root), os.fsencode(path)) for path in paths]
        if gone:
            with self._open() as db:
                db.executemany("DELETE FROM folder_hashes WHERE root = ? AND path = ?", gone)

    def keep_versions(self, steps: Sequence[tuple[str, bytes | None, bytes | None]]) -> None:
        """Remember (path, content, next content) before the one is replaced by the other; None: no file."""
        now = isoformat(utc_now())
        with self._open() as db:
            db.executemany(
                "INSERT INTO folder_versions (path, content, content_id, next_id, replaced) VALUES (?, ?, ?, ?, ?)",
                [(os.fsencode(path), old, _id(old), _id(new), now) for path, old, new in steps],
            )

    def versions(self, path: str, content: bytes | None) -> Iterator[bytes | None]:
        """The versions that led to `content` by our own writes, the latest first. Ends where somebody else wrote."""
        seen = {_id(content)}
        with self._open(write=False) as db:
            found = []
            while True:
                row = db.execute(
                    "SELECT content, content_id FROM folder_versions WHERE path = ? AND next_id = ? ORDER BY id DESC LIMIT 1",
                    (os.fsencode(path), _id(content)),
                ).fetchone()
                if row is None or row["content_id"] in seen:
                    break
                content = row["content"]
                seen.add(row["content_id"])
                found.append(content)
        return iter(found)

    def was_replaced(self, path: str, content: bytes | None) -> bool:
        """Whether our own writes once replaced just this content of the file, by its digest; None: no file."""
        with self._open(write=False) as db:
            query = "SELECT 1 FROM folder_versions WHERE path = ? AND content_id = ? LIMIT 1"
            return db.execute(query, (os.fsencode(path), _id(content))).fetchone() is not None

    def replaced(self, path: str) -> Iterator[bytes]:
        """Every content of this file that was ever replaced, the latest first."""
        with self._open(write=False) as db:
            rows = db.execute(
                "SELECT content FROM folder_versions WHERE path = ? AND content IS NOT NULL ORDER BY id DESC",
                (os.fsencode(path),),
            ).fetchall()
        return (row["content"] for row in rows)


def _id(content: bytes | None) -> str:
    return "absent" if content is None else hashlib.sha256(content).hexdigest()
