"""SQLite files as this project keeps them: durable, shared by processes, and with errors that say which file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tagcheck.errors import BadFile, ToolError

BUSY_SECONDS = 30.0


@contextmanager
def transaction(path: Path | str, schema: str = "", write: bool = True) -> Iterator[sqlite3.Connection]:
    """A connection of its own with one transaction: kept at the end, taken back on any error or kill.

    When the block has ended, what it wrote is on the disk (WAL with a full sync), also through a
    power cut. `schema` is run before, and makes what is not there yet. With `write` False nobody
    has to wait for this one. Raises `BadFile` when the
    file is no database, `ToolError` when it cannot be written.
    """
    try:
        if not str(path).startswith("file:"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, uri=str(path).startswith("file:"))) as connection:
            connection.isolation_level = None
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                for statement in filter(str.strip, schema.split(";")):
                    connection.execute(statement)
                yield connection
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise ToolError(f"{path} cannot be used ({error}): is the disk full, write-protected, or another program busy with it?") from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise BadFile(f"{path} is not a whole database ({error}): move it away, and a new one is made") from error
