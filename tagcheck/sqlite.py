"""SQLite files as this project keeps them: durable, shared by processes, and with errors that say which file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tagcheck.errors import BadFile, ToolError

BUSY_SECONDS = 30.0


@contextmanager
def transaction(path: Path, schema: str = "", write: bool = True) -> Iterator[sqlite3.Connection]:
    """A connection of its own with one transaction: kept at the end, taken back on any error or kill.

    When the block has ended, what it wrote is on the disk (WAL with a full sync), also through a
    power cut. `schema` is run before, and makes what is not there yet. With `write` False nobody
    has to wait for this one. Raises `BadFile` when the file is no database, `ToolError` when it
    cannot be read or written.
    """
    with closing(connect(path)) as connection, within(connection, path, schema, write):
        yield connection


def connect(path: Path | None, threads: bool = False) -> sqlite3.Connection:
    """A connection to use with `within`; `path` None keeps all in memory. With `threads` any thread may use it, one at a time."""
    with _named(path):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path or ":memory:", timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=not threads
        )
        connection.row_factory = sqlite3.Row
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def within(connection: sqlite3.Connection, path: Path | None, schema: str = "", write: bool = True) -> Iterator[None]:
    """One transaction on a connection; see `transaction`."""
    with _named(path):
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            for statement in filter(str.strip, schema.split(";")):
                connection.execute(statement)
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextmanager
def _named(path: Path | None) -> Iterator[None]:
    """SQLite's errors, as errors that name the file and the way out."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ToolError(
            f"{path} cannot be used ({error}): is the disk full, the folder write-protected, or another program busy?"
        ) from error
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise BadFile(f"{path} is not a whole database ({error}): move it away, and a new one is made") from error
