"""The ledger of writes: what was to be changed in the library, what became of it, and what it takes to go back.

Tables `ledger_*` in review.sqlite3. Every step is a transaction that is on the disk before the next begins.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagcheck.changes import TagChange
from tagcheck.data_folder import isoformat, utc_now
from tagcheck.errors import UsageError
from tagcheck.files import there
from tagcheck.library import NoWrite, TagWrite
from tagcheck.lock import sole_run
from tagcheck.sqlite import Migrations, read, run, transaction

OPEN = "open"  # noted down, and maybe written: a crash, or a library that is away
WRITTEN = "written"  # written and read back, and the library may not have it for good yet
APPLIED = "applied"  # written, read back, and kept for good
FAILED = "failed"  # not written, and `reason` says why
SETTLED = "settled"  # the library was as wanted before
UNDONE = "undone"  # taken back, or withdrawn before it was written
URGENCY = (OPEN, FAILED, WRITTEN, APPLIED, UNDONE, SETTLED)  # which row counts for a change that took several writes
GO = "apply"  # where an open row is going: forward,
BACK = "undo"  # or back
# In the review store's words; "waiting": the ledger has it, and what becomes of it is still to come.
OUTCOMES = dict(zip(URGENCY, ("waiting", "failed", "waiting", "applied", "undone", "applied"), strict=True))

SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ledger_batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, library TEXT NOT NULL, service TEXT, reason TEXT NOT NULL, created TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS ledger_rows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, batch INTEGER NOT NULL REFERENCES ledger_batches (id),
    hash TEXT NOT NULL, tag TEXT NOT NULL, action TEXT NOT NULL,
    stored_tag TEXT, service TEXT, before TEXT, after TEXT,
    status TEXT NOT NULL, goal TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', created TEXT NOT NULL, changed TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ledger_rows_by_picture ON ledger_rows (hash, tag, id);
CREATE INDEX IF NOT EXISTS ledger_rows_by_batch ON ledger_rows (batch, id);
CREATE INDEX IF NOT EXISTS ledger_rows_by_status ON ledger_rows (status, id);
"""
OF_LIBRARY = "stored_tag IS NOT NULL AND batch IN (SELECT id FROM ledger_batches WHERE library = ?)"
# Whether something else was noted since about the same tag, picture and service; what failed or needed nothing changed nothing.
OVERTAKEN = f"""EXISTS (
    SELECT 1 FROM ledger_rows n WHERE n.hash = ledger_rows.hash AND n.id > ledger_rows.id AND n.stored_tag = ledger_rows.stored_tag
    AND n.service = ledger_rows.service AND n.status NOT IN ('{FAILED}', '{SETTLED}')
"""


@dataclass(frozen=True)
class LedgerRow:
    """One change of one picture on one tag service.

    `tag` and `action` are what the owner accepted; `stored_tag` is what is written on `service`, from state `before` to
    `after`. These four are None while a change waits for a library that was away when it was accepted, and where
    nothing is to be written. `goal` is "apply", or "undo" once it is (to be) taken back. Times are UTC, ISO 8601.
    """

    id: int
    batch: int
    hash: str
    tag: str
    action: str
    stored_tag: str | None
    service: str | None
    before: str | None
    after: str | None
    status: str
    goal: str
    reason: str
    created: str
    changed: str

    @property
    def change(self) -> TagChange:
        return TagChange(self.hash, self.tag, self.action)

    @property
    def write(self) -> TagWrite | None:
        """The write forward, None where none is planned."""
        if self.stored_tag is None or self.service is None or self.before is None or self.after is None:
            return None
        return TagWrite(self.hash, self.stored_tag, self.service, self.before, self.after, self.change)


@dataclass(frozen=True)
class Batch:
    """One apply: which library it went to (its kind and place), the service asked for, and how many rows stand where."""

    id: int
    library: str
    service: str | None
    reason: str
    created: str
    counts: dict[str, int]


class Ledger:
    """The ledger in one SQLite file, which is made when something is first noted down.

    Raises `BadFile` when the file is no database or was written by a newer program, `ToolError`
    when it cannot be written; nothing has been done to the library then.
    """

    PATIENCE = 60.0  # seconds that another writer is waited for

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def exclusive(self, seconds: float = PATIENCE) -> AbstractContextManager[None]:
        """Hold the right to write to libraries by this ledger; one process and thread at a time has it.

        Waits up to `seconds`, then raises `UsageError` saying who has it. The system gives it back
        when a process ends, however it ends.
        """
        return sole_run(self.path.with_name(self.path.name + ".lock"), seconds)

    def batches(self) -> list[Batch]:
        with self._reading() as db:
            if db is None:
                return []
            counts: dict[int, dict[str, int]] = {}
            for batch, *counted in db.execute("SELECT batch, status, count(*) FROM ledger_rows GROUP BY batch, status"):
                counts.setdefault(batch, {}).update([counted])
            rows = db.execute("SELECT * FROM ledger_batches ORDER BY id DESC")
            return [Batch(**row, counts=counts.get(row["id"], {})) for row in rows]

    def rows(self, batch: int | None = None, status: str | None = None) -> list[LedgerRow]:
        """Rows in the order they were noted down, all of them or those of one batch and/or status."""
        terms = {"batch": batch, "status": status}
        asked = {name: value for name, value in terms.items() if value is not None}
        return self._select(" AND ".join(f"{name} = ?" for name in asked) or "1", list(asked.values()))

    def pick(self, ids: Sequence[int]) -> list[LedgerRow]:
        """The rows with these ids, in that order. Raises `UsageError` for an id that is not there."""
        rows = self._select("id IN (SELECT value FROM json_each(?))", [json.dumps(list(ids))])
        found = {row.id: row for row in rows}
        lost = [id for id in ids if id not in found]
        if lost:
            raise UsageError(f"no row {lost[0]} in the ledger {self.path}")
        return [found[id] for id in ids]

    def last_words(self, library: str, statuses: Sequence[str], after: int, most: int) -> list[LedgerRow]:
        """The first `most` rows behind the row `after` that have one of `statuses` and are the last about their tag, picture and service."""
        where = f"id > ? AND status IN ({', '.join('?' * len(statuses))}) AND {OF_LIBRARY} AND NOT {OVERTAKEN})"
        return self._select(where, [after, *statuses, library], most)

    def overtaken(self, library: str) -> list[LedgerRow]:
        """The written rows that are not the last about their tag, picture and service, where those behind them are written too."""
        return self._select(f"status = ? AND {OF_LIBRARY} AND {OVERTAKEN} AND n.status != ?)", [WRITTEN, library, OPEN])

    def not_known(self, since: str) -> int:
        """How many writes the library has, or has not any more, that were made or taken back after a dataset of that time was read."""
        later = "iif(goal = ?, created > ?, created <= ? AND changed > ?)"
        query = f"SELECT count(*) FROM ledger_rows WHERE status IN (?, ?, ?) AND stored_tag NOTNULL AND {later}"
        with self._reading() as db:
            asked = (APPLIED, WRITTEN, UNDONE, GO, since, since, since)
            return 0 if db is None else int(db.execute(query, asked).fetchone()[0])

    def library_of(self, batch: int) -> str:
        """The library a batch went to. Raises `UsageError` when there is no such batch."""
        found = [one.library for one in self.batches() if one.id == batch]
        if not found:
            raise UsageError(f"no batch {batch} in the ledger {self.path}")
        return found[0]

    # --- noting down: each of these is on the disk when it returns ----------------------------------

    def open_batch(
        self, library: str, service: str | None, reason: str, steps: Iterable[TagChange | TagWrite | NoWrite]
    ) -> int:
        """Note down a batch with everything that is to happen, and return its number.

        A `TagWrite` (with its `change`) becomes an open row, a `TagChange` an open row still to be
        planned, a `NoWrite` a settled or failed one.
        """
        now = isoformat(utc_now())
        with self._writing() as db:
            batch: int = db.execute(
                "INSERT INTO ledger_batches (library, service, reason, created) VALUES (?, ?, ?, ?) RETURNING id",
                (library, service, reason, now),
            ).fetchone()["id"]
            self._insert(db, batch, steps, now)
        return batch

    def plan_row(self, row: LedgerRow, steps: Sequence[TagWrite | NoWrite]) -> None:
        """Put what a waiting change takes, now that it could be planned, in the place of its row."""
        with self._writing() as db:
            db.execute("DELETE FROM ledger_rows WHERE id = ? AND status = ? AND stored_tag IS NULL", (row.id, OPEN))
            self._insert(db, row.batch, steps, row.created)

    def mark(self, rows: Iterable[LedgerRow]) -> None:
        """Store status, goal and reason of these rows as they now are, all or none."""
        now = isoformat(utc_now())
        with self._writing() as db:
            db.executemany(
                "UPDATE ledger_rows SET status = ?, goal = ?, reason = ?, changed = ? WHERE id = ?",
                [(row.status, row.goal, row.reason, now, row.id) for row in rows],
            )

    def _insert(
        self, db: sqlite3.Connection, batch: int, steps: Iterable[TagChange | TagWrite | NoWrite], created: str
    ) -> None:
        now = isoformat(utc_now())
        rows = []
        for step in steps:
            change = step if isinstance(step, TagChange) else step.change
            if change is None:
                raise ValueError(f"a write without the change that it is for: {step}")
            written: tuple[str | None, ...] = (None,) * 4
            status, why = OPEN, ""
            if isinstance(step, TagWrite):
                written = (step.tag, step.service, step.before, step.after)
            elif isinstance(step, NoWrite):
                status, why = SETTLED if step.settled else FAILED, step.reason
            rows.append((batch, change.hash, change.tag, change.action, *written, status, GO, why, created, now))
        db.executemany(
            "INSERT INTO ledger_rows (batch, hash, tag, action, stored_tag, service, before, after, status, goal, reason, created, changed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    def _select(self, where: str, values: list[Any], most: int = -1) -> list[LedgerRow]:
        with self._reading() as db:
            query = f"SELECT * FROM ledger_rows WHERE {where} ORDER BY id LIMIT ?"
            return [] if db is None else [LedgerRow(**row) for row in db.execute(query, [*values, most])]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """The file as it is now, None where nothing was noted down yet."""
        if not there(self.path):
            yield None
            return
        with read(self.path) as db:
            found = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'ledger_rows'").fetchone()
            yield db if found else None

    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self.path, MIGRATIONS)


def outcomes(rows: Iterable[LedgerRow]) -> list[tuple[tuple[str, str, str], str, str, int]]:
    """((hash, tag, action), outcome, reason, batch) of each change: the last batch's, and what needs most attention."""
    found: dict[tuple[str, str, str], LedgerRow] = {}
    for row in rows:
        last = found.setdefault((row.hash, row.tag, row.action), row)
        if (-row.batch, URGENCY.index(row.status)) < (-last.batch, URGENCY.index(last.status)):
            found[row.hash, row.tag, row.action] = row
    return [(key, OUTCOMES[row.status], row.reason, row.batch) for key, row in found.items()]


MIGRATIONS = Migrations(
    "ledger",
    lambda db: run(db, SCHEMA),
    # Version 1 knew no rows that are written and not confirmed yet; its tables are the same.
    (lambda db: None,),
    guarded=("ledger_batches", "ledger_rows"),
)
