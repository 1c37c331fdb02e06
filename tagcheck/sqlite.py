"""SQLite files as this project keeps them: durable, checked, backed up, and with errors that name the file and the way out.

A file holds the tables of one or more parts (`Migrations`), each with a version of its own in the table `<name>_meta`.
`connect` makes what is not there yet and brings older tables up to date, after a backup. Of guarded tables the number
of rows and a digest of them are kept in the table `guards`, by triggers of each connection, in the transaction of every
change, so that rows that a damaged disk lost in silence are noticed (`check`). `read` needs no right to write, neither to the file
nor to its folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from tagcheck import packed
from tagcheck.errors import BadFile, ToolError, UsageError
from tagcheck.files import remove, replace_over, sync_folder, there, write_atomically

BUSY_SECONDS = 120.0  # reading the reports of a large library keeps other writers waiting for a part of that
BACKUPS, KEPT_BACKUPS = "backups", 10
OURS = 0o600  # what is in these files is its owner's alone
SYNCHRONOUS = "FULL"  # what was committed outlives a power cut
GUARDS = """CREATE TABLE IF NOT EXISTS guards (
    name TEXT PRIMARY KEY, columns TEXT NOT NULL, rows INTEGER NOT NULL, digest INTEGER NOT NULL
)"""
# Why a file cannot be used, by how the name of SQLite's error begins.
WHY = {
    ("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_CANTOPEN"): (
        "is the file or its folder write-protected, or the disk full? Grant the right to it or choose another --data-dir"
    ),
    ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"): "another program has it; end that, then try again",
    ("SQLITE_IOERR", "SQLITE_NOLFS"): "is the disk full, or damaged?",
}
Step = Callable[[sqlite3.Connection], None]


class Damaged(BadFile):
    """The file is not what was written. Its message names it and the way out."""


@dataclass(frozen=True)
class Migrations:
    """The tables of one part of a file. `make` makes them as they are now; `steps[0]` brings version 1 to 2, and so on.

    `key` is where the version stands in `<name>_meta`. Rows of `guarded` tables are counted and digested; those of
    `remade` tables can be made again from other files, and backups leave them out.
    """

    name: str
    make: Step
    steps: tuple[Step, ...] = ()
    guarded: tuple[str, ...] = ()
    remade: tuple[str, ...] = ()
    key: str = "version"

    @property
    def version(self) -> int:
        """The version that `make` makes."""
        return len(self.steps) + 1


def connect(path: Path | None, migrations: Migrations, threads: bool = False) -> sqlite3.Connection:
    """A connection for reading and writing, with the tables of `migrations` in the file; `path` None keeps all in memory.

    Transactions are begun and ended by the caller (`within`). With `threads` any thread may use it, one at a time.
    Raises `BadFile` when the file is no database, another program's, or a newer program's, and `ToolError` when it
    cannot be used (full disk, no right, a lock that lasts); so does everything that is done with the connection.
    """
    with _explained(path):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, OURS))
        db = _open(path, path or ":memory:", threads)
        try:
            durable = f"synchronous = {SYNCHRONOUS}"
            for pragma in ("journal_mode = WAL", durable, "foreign_keys = ON", "temp_store = MEMORY"):
                db.execute(f"PRAGMA {pragma}")
            _prepare(db, path, migrations)
        except BaseException:
            db.close()
            raise
        return db


@contextmanager
def read(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for reading only, one state of the file from start to end; tables may be of any version.

    Where the folder may not be written, a write-ahead log that nobody can open there is read in a copy.
    """
    with ExitStack() as stack, _explained(path):
        try:
            db = _reader(path, path)
        except BadFile:
            raise
        except ToolError:
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
            for ending in ("", "-wal"):
                with suppress(FileNotFoundError):
                    shutil.copyfile(f"{path}{ending}", f"{copy}{ending}")
            db = _reader(path, copy)
        with closing(db):
            yield db
            db.execute("ROLLBACK")


@contextmanager
def within(connection: sqlite3.Connection, write: bool = True) -> Iterator[None]:
    """One transaction, on the disk at its end, taken back on an error or a kill; nobody waits without `write`."""
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def transaction(path: Path, migrations: Migrations) -> Iterator[sqlite3.Connection]:
    """A connection of its own with one transaction; see `connect` and `within`."""
    with closing(connect(path, migrations)) as connection, within(connection):
        yield connection


def run(db: sqlite3.Connection, script: str) -> None:
    """Run several statements with semicolons between them, within the transaction that is open."""
    for statement in filter(str.strip, script.split(";")):
        db.execute(statement)


def start(path: Path, migrations: Migrations) -> None:
    """To be called once when a program begins to use a file that is there: its rights, a check of the whole file, a backup."""
    if not there(path):
        return
    with _explained(path):
        for one in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            with suppress(FileNotFoundError, PermissionError):
                one.chmod(OURS)
    with closing(connect(path, migrations)) as db:
        check(db, path)
    backup(path, migrations)


def has(db: sqlite3.Connection, name: str) -> bool:
    """Whether there is a table, or an index, of this name."""
    return db.execute("SELECT 1 FROM main.sqlite_master WHERE name = ?", (name,)).fetchone() is not None


def check(db: sqlite3.Connection, path: Path, tables: tuple[str, ...] = ()) -> None:
    """Raise `BadFile` where the file (or, where given, only these tables of it) is damaged, or guarded rows were lost or changed."""
    for argument in (f"({name})" for name in tables) if tables else ("",):
        problem = db.execute(f"PRAGMA quick_check{argument}").fetchone()[0]
        if problem != "ok":
            raise Damaged(f"{path} is damaged ({' '.join(problem.split())}): {way_back(path)}")
    if not has(db, "guards"):
        return
    for name, columns, rows, digest in db.execute("SELECT name, columns, rows, digest FROM guards").fetchall():
        if tables and name not in tables:
            continue
        real = {row[0] for row in db.execute("SELECT name FROM pragma_table_info(?)", (name,))}
        words = [str(name), *str(columns).split(", ")]  # which go into SQL
        if not real.issuperset(words[1:]) or not all(re.fullmatch(r"\w+", word, re.ASCII) for word in words):
            raise Damaged(f"{path} is damaged (in its table 'guards'): {way_back(path)}")
        found = _count(db, name, columns)
        if found != (rows, digest):
            lost = f"has {found[0]} rows in {name!r} where {rows} were kept"
            changed = f"has rows in {name!r} that are not as they were kept"
            by_hand = "(or, if you changed it yourself, empty its table 'guards')"
            raise Damaged(f"{path} {lost if found[0] != rows else changed}: {way_back(path)} {by_hand}")


def backup(path: Path, migrations: Migrations) -> Path:
    """A dated copy in `backups/` beside the file, of one state of it, complete but for rows that can be made again. The last ten stay."""
    folder, when = path.parent / BACKUPS, datetime.now(UTC)

    def write(out: IO[bytes]) -> None:
        os.chmod(out.name, OURS)
        with closing(_open(path, out.name)) as copy:
            copy.execute("ATTACH ? AS source", (str(path),))
            with within(copy):
                _copy(copy, migrations.remade)

    with _explained(path):
        folder.mkdir(mode=0o700, exist_ok=True)
        while True:
            named = folder / f"{path.stem}_{when:%Y%m%dT%H%M%SZ}{path.suffix}"
            with suppress(FileExistsError):
                if not named.exists():
                    write_atomically(named, write, replace=False)
                    break
            when += timedelta(seconds=1)
        for old in backups(path)[:-KEPT_BACKUPS]:
            remove(old)
    return named


def backups(path: Path) -> list[Path]:
    """The backups of a file, the oldest first; a copy by another name is somebody's own."""
    dated = re.compile(rf"{re.escape(path.stem)}_\d{{8}}T\d{{6}}Z{re.escape(path.suffix)}")
    return sorted(one for one in (path.parent / BACKUPS).glob("*") if dated.fullmatch(one.name))


def put_aside(path: Path) -> Path:
    """Give a damaged file, and what SQLite keeps beside it, another name; the new name. Nothing of it is lost."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
    for ending in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            replace_over(f"{path}{ending}", f"{aside}{ending}")
    sync_folder(path.parent)
    return aside


def put_back(path: Path) -> Path | None:
    """Copy the newest whole backup to where the file was, and return the backup; None where there is no whole one."""
    for found in reversed(backups(path)):
        with suppress(ToolError):
            with read(found) as db:
                check(db, found)
            write_atomically(path, lambda out: out.write(found.read_bytes()))  # noqa: B023  called at once
            path.chmod(OURS)
            return found
    return None


def way_back(path: Path) -> str:
    """What to do about a damaged file, in words."""
    found = backups(path)
    instead = f"put the newest backup, {found[-1]}, in its place" if found else "a new one is made"
    return f"move {path.name}, {path.name}-wal and {path.name}-shm away, and {instead}"


def _copy(copy: sqlite3.Connection, remade: tuple[str, ...]) -> None:
    """All of the attached `source`: tables, their rows, then what would act on the rows."""
    parts = copy.execute("SELECT type, name, sql FROM source.sqlite_master WHERE sql IS NOT NULL").fetchall()
    tables = [row for row in parts if row["type"] == "table" and not row["name"].startswith("sqlite_")]
    for row in tables:
        copy.execute(row["sql"])
    for row in tables:
        if row["name"] not in remade:
            copy.execute(f'INSERT INTO main."{row["name"]}" SELECT * FROM source."{row["name"]}"')
    if any("AUTOINCREMENT" in row["sql"].upper() for row in tables):
        copy.execute("DELETE FROM main.sqlite_sequence")
        copy.execute("INSERT INTO main.sqlite_sequence SELECT * FROM source.sqlite_sequence")
    for row in parts:
        if row["type"] in ("index", "trigger", "view"):
            copy.execute(row["sql"])


def _open(path: Path | None, place: Path | str, threads: bool = False, uri: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(
        place, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=not threads, uri=uri, factory=_Connection
    )
    db.path = path
    db.row_factory = sqlite3.Row
    db.create_function("row_digest", -1, _digest, deterministic=True)
    db.create_aggregate("digest_of", 1, _Digest)
    db.create_function("bytes_of", 1, _bytes, deterministic=True)
    db.create_function("packed", 2, packed.packed, deterministic=True)
    db.create_function("text_of", 2, packed.text_of, deterministic=True)
    return db


def _reader(path: Path, place: Path) -> sqlite3.Connection:
    db = _open(path, f"{place.absolute().as_uri()}?mode=ro", uri=True)
    try:
        db.execute("BEGIN")
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path | None, migrations: Migrations) -> None:
    """Make the tables, or bring them up to date; then see that they are ours."""
    version = _version(db, path, migrations)
    if version != migrations.version:
        if version is not None and path is not None:
            backup(path, migrations)
        with within(db):
            version = _version(db, path, migrations)  # another process may have done it meanwhile
            if version is None:
                migrations.make(db)
            for step in migrations.steps[version - 1 :] if version else ():
                step(db)
            noting = f"INSERT OR REPLACE INTO {migrations.name}_meta (key, value) VALUES (?, ?)"
            db.execute(noting, (migrations.key, str(migrations.version)))
    for name in migrations.guarded:
        _guard(db, name)
    there = _columns(db)
    for table, names in _expected(migrations).items():
        if missing := names - there.get(table, set()):
            lacks = f"its table {table!r} lacks {min(missing)!r}" if table in there else f"no table {table!r}"
            raise BadFile(_foreign(path, lacks))


def _version(db: sqlite3.Connection, path: Path | None, migrations: Migrations) -> int | None:
    """The version of the tables; None where there are none."""
    if not has(db, f"{migrations.name}_meta"):
        return None
    row = db.execute(f"SELECT value FROM {migrations.name}_meta WHERE key = ?", (migrations.key,)).fetchone()
    if row is None:
        return None
    try:
        version = int(row[0])
    except (TypeError, ValueError):
        version = 0
    if version < 1:
        raise BadFile(_foreign(path, f"its version is {row[0]!r}"))
    if version > migrations.version:
        newer = f"{path} has {migrations.key} {version} of {migrations.name}"
        raise BadFile(f"{newer}, this program reads up to {migrations.version}: update the program")
    return version


def _foreign(path: Path | None, why: str) -> str:
    return f"{path} has not the tables of this program ({why}): move it away, or use another --data-dir"


def _columns(db: sqlite3.Connection) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    both = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_xinfo(m.name) c WHERE m.type = 'table'"
    for table, column in db.execute(both):
        found.setdefault(table, set()).add(column)
    return found


@lru_cache
def _expected(migrations: Migrations) -> dict[str, set[str]]:
    with closing(_open(None, ":memory:")) as db:
        migrations.make(db)
        return _columns(db)


# --- guarded tables: a count and a digest of their rows --------------------------------------------------


def _guard(db: sqlite3.Connection, table: str) -> None:
    """Keep count and digest of a table's rows in all that this connection does. The digest is the exclusive or of the rows' own."""
    names = [row["name"] for row in db.execute(f"PRAGMA table_info({table})")]
    columns = ", ".join(names)
    if not _guarded(db, table, columns):
        with within(db):
            db.execute(GUARDS)
            if not _guarded(db, table, columns):
                row = table, columns, *_count(db, table, columns)
                db.execute("INSERT OR REPLACE INTO guards VALUES (?, ?, ?, ?)", row)
    old, new = (f"row_digest({', '.join(f'{row}.{name}' for name in names)})" for row in ("OLD", "NEW"))
    for event, count, digests in (("INSERT", 1, (new,)), ("DELETE", -1, (old,)), ("UPDATE", 0, (old, new))):
        moved = "".join(
            f" UPDATE guards SET digest = (digest | {one}) - (digest & {one}) WHERE name = '{table}';"
            for one in digests
        )
        db.execute(
            f"CREATE TEMP TRIGGER {table}_guard_{event.lower()} AFTER {event} ON {table} BEGIN"
            f" UPDATE guards SET rows = rows + {count} WHERE name = '{table}';{moved} END"
        )


def _guarded(db: sqlite3.Connection, table: str, columns: str) -> bool:
    known = "SELECT 1 FROM guards WHERE (name, columns) = (?, ?)"
    return has(db, "guards") and db.execute(known, (table, columns)).fetchone() is not None


def _count(db: sqlite3.Connection, table: str, columns: str) -> tuple[int, int]:
    rows, digest = db.execute(f"SELECT count(*), digest_of(row_digest({columns})) FROM {table}").fetchone()
    return rows, digest or 0


def _digest(*values: Any) -> int:
    digest = hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _bytes(digits: Any) -> bytes | None:
    with suppress(TypeError, ValueError):
        return bytes.fromhex(digits)
    return None


class _Digest:
    def __init__(self) -> None:
        self.value = 0

    def step(self, one: int) -> None:
        self.value ^= one

    def finalize(self) -> int:
        return self.value


# --- errors ------------------------------------------------------------------------------------------------


class _Connection(sqlite3.Connection):
    """A connection whose every error is explained."""

    path: Path | None = None

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(factory or _Cursor)

    def execute(self, *args: Any) -> Any:
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor().executemany(*args)


def _with_words(name: str) -> Any:
    """The method of this name of a cursor, its errors explained."""
    method = getattr(sqlite3.Cursor, name)

    def call(cursor: Any, *args: Any) -> Any:
        with _explained(cursor.connection.path):
            try:
                return method(cursor, *args)
            except (sqlite3.Error, UnicodeDecodeError):
                # While the error is known, its statement would keep the file open, also after the connection is closed, and
                # Windows moves no open file.
                cursor.close()
                raise

    return call


class _Cursor(sqlite3.Cursor):
    connection: _Connection
    execute, executemany, fetchone, fetchall = map(_with_words, ("execute", "executemany", "fetchone", "fetchall"))

    def __next__(self) -> Any:  # once a row, so without what `_with_words` costs
        try:
            return super().__next__()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self.close()
            raise explained(error, self.connection.path) from error


@contextmanager
def _explained(path: Path | None) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise explained(error, path) from error
    except OverflowError:
        raise UsageError("a number is larger than any that is kept here") from None
    except OSError as error:
        cannot = f"{path} cannot be used ({error.strerror or error})"
        raise ToolError(f"{cannot}: is the folder write-protected, or the disk full?") from error


def explained(error: sqlite3.Error | UnicodeDecodeError, path: Path | None) -> Exception:
    """The same error as one that names the file and the way out; a mistake in a statement stays what it is."""
    name = getattr(error, "sqlite_errorname", None) or ""
    said = " ".join(str(error).split())[:300]
    undecoded = isinstance(error, UnicodeDecodeError) or said.startswith("Could not decode")
    if undecoded or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")):
        return Damaged(f"{path} is not a whole database ({said}): {way_back(path) if path else 'start again'}")
    if name.startswith("SQLITE_FULL"):
        return ToolError(f"{path} cannot be written, the disk is full ({said}): free some space, then try again")
    if why := next((why for names, why in WHY.items() if name.startswith(names)), ""):
        return ToolError(f"{path} cannot be used ({said}): {why}")
    if name == "SQLITE_ERROR" and said.startswith(("no such", "table ", "index ", "malformed", "unsupported")):
        return BadFile(_foreign(path, said))
    return error
