"""What a folder library remembers outside the folder: hashes of files that did not change, replaced versions of sidecars."""

import hashlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import RLock

from tagcheck.data_folder import isoformat, utc_now
from tagcheck.errors import BadFile
from tagcheck.files import there
from tagcheck.library.folder.survey import Survey
from tagcheck.sqlite import Damaged, Migrations, backup, backups, check, connect, put_aside, put_back, read, run, within

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
CREATE TABLE IF NOT EXISTS folder_surveys (root BLOB PRIMARY KEY, document TEXT NOT NULL);
"""


def _make_relative(db: sqlite3.Connection) -> None:
    """Version 2 knows earlier sidecars by their path below the library, of every root that is known, and has the surveys."""
    run(db, SCHEMA)
    known = {os.fsdecode(row["root"]) for row in db.execute("SELECT DISTINCT root FROM folder_hashes")}
    for one in sorted(filter(None, known), key=len, reverse=True):
        start = os.fsencode(one.rstrip("/\\"))
        for mark in (b"/", b"\\"):
            query = "SELECT path, id FROM folder_versions WHERE substr(path, 1, ?) = ?"
            rows = db.execute(query, (len(start) + 1, start + mark)).fetchall()
            shortened = [(bytes(path)[len(start) + 1 :].replace(mark, b"/"), number) for path, number in rows]
            db.executemany("UPDATE folder_versions SET path = ? WHERE id = ?", shortened)


MIGRATIONS = Migrations(
    "folder", lambda db: run(db, SCHEMA), (_make_relative,), remade=("folder_hashes", "folder_surveys")
)


def start(path: Path, tell: Callable[[str], None]) -> None:
    """Check the file when a run begins to use it, and back up the replaced sidecars in it where the newest backup lacks some.

    A damaged one is put aside, not deleted, the newest whole backup takes its place, and `tell` gets a line: hashes are made
    again, but undoing a write to the byte needs the sidecars.
    """
    if not there(path):
        return
    try:
        with closing(connect(path, MIGRATIONS)) as db:
            check(db, path)
            kept = _replaced_sidecars(db)
        newest = backups(path)[-1:]
        if kept[0] and not any(_kept_in(one) == kept for one in newest):
            backup(path, MIGRATIONS)
    except Damaged as error:
        aside, found = put_aside(path), put_back(path)
        reason = str(error).removeprefix(f"{path} ").partition(": move ")[0]
        instead = f"the backup {found.name} takes its place" if found else "there is no backup, a new file is made"
        tell(
            f"warning: {path} {reason}. It is kept as {aside.name} and {instead}; files are hashed again, and what was"
            " applied since is undone tag by tag instead of to the byte"
        )


def _replaced_sidecars(db: sqlite3.Connection) -> tuple[int, int]:
    number, last = db.execute("SELECT count(*), ifnull(max(id), 0) FROM folder_versions").fetchone()
    return number, last


def _kept_in(path: Path) -> tuple[int, int] | None:
    with suppress(BadFile), read(path) as db:
        return _replaced_sidecars(db)
    return None


class FolderStore:
    """Hashes and earlier sidecars in one SQLite file; with `path` None, in memory. Any thread may use it.

    Earlier sidecars are known by their path below `root`, with slashes, so that they are found again after the folder was
    moved or the data folder was taken to another system.
    """

    def __init__(self, path: Path | None, root: str = "") -> None:
        self._path, self._root, self._at = path, root, (os.fsencode(root),)
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

    def key(self, path: str, record: str | None = None) -> str:
        """What a sidecar, or a record of a table, is remembered by."""
        return relative(path, self._root) + ("" if record is None else f"\0{record}")

    def survey(self) -> Survey | None:
        """How the sidecars under this root are read and spelled, as the last walk found it; None before the first."""
        with self._open(write=False) as db:
            row = db.execute("SELECT document FROM folder_surveys WHERE root = ?", self._at).fetchone()
        return Survey.loads(row["document"]) if row else None

    def keep_survey(self, survey: Survey) -> None:
        with self._open() as db:
            db.execute("INSERT OR REPLACE INTO folder_surveys VALUES (?, ?)", (*self._at, survey.dumps()))

    def hashes(self) -> dict[str, tuple[int, int, str]]:
        """(size, mtime_ns, hash) of every path known under this root."""
        with self._open(write=False) as db:
            query = "SELECT path, size, mtime_ns, hash FROM folder_hashes WHERE root = ?"
            return {os.fsdecode(path): tuple(row) for path, *row in db.execute(query, self._at)}

    def keep_hashes(self, rows: Iterable[tuple[str, int, int, str]]) -> None:
        kept = [(*self._at, os.fsencode(path), *looks) for path, *looks in rows]
        with self._open() as db:
            db.executemany("INSERT OR REPLACE INTO folder_hashes VALUES (?, ?, ?, ?, ?)", kept)

    def forget_hashes(self, paths: Iterable[str]) -> None:
        gone = [(*self._at, os.fsencode(path)) for path in paths]
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
        here, found = _id(content), dict[str, bytes | None]()
        latest = (
            "SELECT content, content_id FROM folder_versions WHERE path = ? AND next_id = ? ORDER BY id DESC LIMIT 1"
        )
        with self._open(write=False) as db:
            row = {"content_id": here}
            while row := db.execute(latest, (os.fsencode(path), row["content_id"])).fetchone():
                if row["content_id"] in (here, *found):
                    break
                found[row["content_id"]] = row["content"]
        return iter(found.values())

    def was_replaced(self, path: str, content: bytes | None) -> bool:
        """Whether our own writes once replaced just this content of the file, by its digest; None: no file."""
        with self._open(write=False) as db:
            query = "SELECT 1 FROM folder_versions WHERE path = ? AND content_id = ? LIMIT 1"
            return db.execute(query, (os.fsencode(path), _id(content))).fetchone() is not None

    def replaced(self, path: str) -> Iterator[bytes]:
        """Every content of this file that was ever replaced, the latest first."""
        query = "SELECT content FROM folder_versions WHERE path = ? AND content IS NOT NULL ORDER BY id DESC"
        with self._open(write=False) as db:
            return iter([row["content"] for row in db.execute(query, (os.fsencode(path),))])


def relative(path: str, root: str) -> str:
    """A path below `root` from there on, any other whole; with slashes on every system."""
    drives = {os.path.splitdrive(one)[0].lower() for one in (path, root)}
    inside = root and os.path.isabs(path) and len(drives) == 1 and os.path.commonpath([root, path]) == root
    return (os.path.relpath(path, root) if inside else path).replace(os.sep, "/")


def _id(content: bytes | None) -> str:
    return "absent" if content is None else hashlib.sha256(content).hexdigest()
