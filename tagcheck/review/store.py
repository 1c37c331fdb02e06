"""The owner's decisions, in `review.sqlite3`. They stay when the detectors run again.

A decision belongs to a *suggestion*, (hash, tag, "add" | "remove"), or to a pair of pictures, (hash1, relation, "pair",
hash2). It does not belong to an entry of a report, since the next run groups entries otherwise. The ledger knows what was
written to the library; the outcome is noted beside the decision. Every change is an event of a history, for undo and redo.

The same file has the tables of the findings index, which `tagcheck.review.report_import` fills and
`tagcheck.review.queries` reads. They can be made again from the reports, decisions cannot.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from tagcheck import sqlite
from tagcheck.data_folder import isoformat, utc_now
from tagcheck.files import there
from tagcheck.review import counts, following, near

OPEN, ACCEPTED, IGNORED, SKIPPED, FLAGGED = "open", "accepted", "ignored", "skipped", "flagged"
APPLIED, FAILED, UNDONE = "applied", "failed", "undone"
WAITING = "waiting"  # noted down in the ledger, to be written when the library is back
LOCKED = (APPLIED, WAITING)  # the ledger has it: taken back there, not here
GONE = "gone"  # undecided, and no longer in the newest reports
UNLIKELY = "unlikely"  # undecided, and rather wrong than right: kept in a folder of its own
LIKELY_FROM = 0.5  # the confidence below which a suggestion is "unlikely"
UNDECIDED = (OPEN, UNLIKELY)
DECISIONS = (ACCEPTED, IGNORED, SKIPPED, FLAGGED)
QUEUES = (OPEN, UNLIKELY, ACCEPTED, IGNORED, SKIPPED, FLAGGED, APPLIED, FAILED, UNDONE)
ADD, REMOVE, PAIR = "add", "remove", "pair"
OPPOSITE = {ADD: REMOVE, REMOVE: ADD}
CHANGED = 0.1  # by which a confidence has to grow after a "no" to be called out
MAPPED_BYTES = 2**30  # of the file that are mapped into memory, so that a new connection needs no cache of its own

# The indexes that views read in order. They hold the rank, so they are made again once the ranks are known.
WALKS = {
    "suggestions_rank": "suggestions (rank, state, issue, confidence)",
    "suggestions_state": "suggestions (state, rank, issue, confidence)",
    "suggestions_newest": "suggestions (state, newest, rank, issue, confidence)",
    "suggestions_issue": "suggestions (issue, state, rank, confidence)",
    "suggestions_tag": "suggestions (tag, state, tag_rank, rank, issue, confidence, action)",
    "suggestions_namespace": "suggestions (namespace, state, rank, issue, confidence)",
}
# The indexes that a finding or suggestion is looked up by, beside its name.
LOOKUPS = {
    "findings_hash": "findings (hash)",
    "findings_other": "findings (other) WHERE other != ''",
    "suggestions_finding": "suggestions (finding)",
    "suggestions_other": "suggestions (other) WHERE other != ''",
}
GROWN = "CREATE INDEX suggestions_changed ON suggestions (state, rank) WHERE changed"
# What the dataset says of the pictures that findings are about; `record` is packed.
PICTURES = """
CREATE TABLE pictures (hash TEXT PRIMARY KEY, imported REAL, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE picture_pages (page TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (page, hash)) WITHOUT ROWID;
CREATE TABLE picture_series (series TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (series, hash)) WITHOUT ROWID;
CREATE TABLE library_tags (tag TEXT PRIMARY KEY, uses INTEGER NOT NULL) WITHOUT ROWID
"""
# Suggestions that a detector offers to be decided together: those of a source of wrong tags, say.
BATCHES = """
CREATE TABLE batches (name TEXT NOT NULL, hash TEXT NOT NULL, tag TEXT NOT NULL, action TEXT NOT NULL,
    PRIMARY KEY (name, hash, tag, action)) WITHOUT ROWID
"""
# The tags that the owner does not want to be asked about, as a JSON list among the store's notes.
MUTED = "muted"
# The queue of a suggestion that is not decided; one of a muted tag is in none.
UNDECIDED_STATE = (
    f"CASE WHEN NOT current OR (action != '{PAIR}' AND tag IN (SELECT m.value FROM json_each((SELECT n.value FROM review_meta n"
    f" WHERE n.key = '{MUTED}')) m)) THEN 'gone' WHEN confidence < {LIKELY_FROM} THEN '{UNLIKELY}' ELSE '{OPEN}' END"
)
# Samples of many suggestions alike: how many there were, in which view, and which were drawn to be looked at one by one.
SAMPLES = """
CREATE TABLE samples (id INTEGER PRIMARY KEY, at TEXT NOT NULL, view TEXT NOT NULL, of INTEGER NOT NULL, event INTEGER);
CREATE TABLE sample_keys (sample INTEGER NOT NULL REFERENCES samples, hash TEXT NOT NULL, tag TEXT NOT NULL, action TEXT NOT NULL,
    other TEXT NOT NULL, PRIMARY KEY (sample, hash, tag, action, other)) WITHOUT ROWID
"""
# What is made of what reports say: a finding is what one card shows, a picture with all that is suggested for it, or a group of
# copies; a suggestion stands once, however often it is said. `alone` is what the detector said before earlier decisions moved its
# confidence; `evidence` is packed, with the sentence before it. `entries` lead from the ids of the reports' entries to suggestions.
INDEX = f"""
CREATE TABLE entries (entry INTEGER PRIMARY KEY, suggestion INTEGER NOT NULL);
CREATE TABLE findings (
    id TEXT PRIMARY KEY, rank INTEGER NOT NULL DEFAULT 0, newest INTEGER NOT NULL DEFAULT 0, issue TEXT NOT NULL,
    hash TEXT NOT NULL, other TEXT NOT NULL, members TEXT NOT NULL, confidence REAL NOT NULL, differs INTEGER NOT NULL,
    current INTEGER NOT NULL
);
CREATE TABLE suggestions (
    id INTEGER PRIMARY KEY, finding TEXT NOT NULL, rank INTEGER NOT NULL DEFAULT 0, newest INTEGER NOT NULL DEFAULT 0,
    tag_rank INTEGER NOT NULL DEFAULT 0, source TEXT NOT NULL, issue TEXT NOT NULL, issues TEXT NOT NULL,
    hash TEXT NOT NULL, other TEXT NOT NULL, tag TEXT NOT NULL, namespace TEXT NOT NULL, action TEXT NOT NULL,
    place INTEGER NOT NULL,
    confidence REAL NOT NULL, alone REAL, evidence BLOB NOT NULL, state TEXT NOT NULL, current INTEGER NOT NULL,
    changed INTEGER NOT NULL DEFAULT 0, differs INTEGER NOT NULL DEFAULT 1,
    band INTEGER AS ({counts.BAND})
);
CREATE UNIQUE INDEX suggestions_key ON suggestions (hash, tag, action, other);
"""
# What a "no" was an answer to, without the neighbours' hashes.
SEEN = """(SELECT json_remove(evidence_of(s.evidence), '$.near_with', '$.near_without') FROM suggestions s WHERE s.hash = ?1 AND s.tag = ?2
 AND s.action = ?3 AND s.other = ?4 AND s.current AND ?5 = 'ignored' ORDER BY s.rank LIMIT 1)"""
SCHEMA = f"""
CREATE TABLE review_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE decisions (
    hash TEXT NOT NULL, tag TEXT NOT NULL, action TEXT NOT NULL, other TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL, outcome TEXT, reason TEXT, batch INTEGER,
    version INTEGER NOT NULL, decided_at TEXT NOT NULL, issue TEXT, confidence REAL, evidence TEXT,
    PRIMARY KEY (hash, tag, action, other)
) WITHOUT ROWID;
CREATE INDEX decisions_state ON decisions (state, outcome, action);
CREATE TABLE events (id INTEGER PRIMARY KEY, at TEXT NOT NULL, label TEXT NOT NULL, status TEXT NOT NULL);
CREATE TABLE event_changes (
    event INTEGER NOT NULL REFERENCES events, hash TEXT NOT NULL, tag TEXT NOT NULL, action TEXT NOT NULL, other TEXT NOT NULL,
    before TEXT NOT NULL, after TEXT NOT NULL
);
CREATE INDEX event_changes_event ON event_changes (event);
CREATE TABLE sources (
    kind TEXT PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    created TEXT, records INTEGER NOT NULL, header TEXT NOT NULL, error TEXT
);
CREATE TABLE runs (kind TEXT NOT NULL, name TEXT NOT NULL, created TEXT NOT NULL, summary TEXT NOT NULL,
    PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE copies (hash TEXT PRIMARY KEY, best TEXT NOT NULL, reasons TEXT NOT NULL, members INTEGER NOT NULL) WITHOUT ROWID;
{PICTURES};
{BATCHES};
{INDEX}
{GROWN};
{SAMPLES};
{counts.TABLE};
{counts.MOVES};
{near.TABLE}
"""


# The rows of one `Key`.
ITS = "hash = ? AND tag = ? AND action = ? AND other = ?"
SAME = (
    "{0}.hash = {1}.hash AND {0}.tag = {1}.tag AND {0}.action = {1}.action AND {0}.other = {1}.other"  # of two tables
)
# Accepted changes that are not applied yet.
WAITS = f"state = '{ACCEPTED}' AND outcome IS NULL AND action != '{PAIR}'"


class Key(NamedTuple):
    """What a decision belongs to. For a tag: its picture, the tag, "add" or "remove". For a pair:
    both pictures (`hash` < `other`), the relation in `tag`, and "pair".
    """

    hash: str
    tag: str
    action: str
    other: str = ""

    def opposite(self) -> Key | None:
        """The suggestion that takes this one back, None for a pair."""
        return Key(self.hash, self.tag, OPPOSITE[self.action]) if self.action in OPPOSITE else None


Change = tuple[Key, str, str]  # what was decided on, its state before and after


@dataclass(frozen=True)
class Ask:
    """A wish to decide `key`. `version` is what the owner saw (None: whatever it is now), 0 for never decided."""

    key: Key
    version: int | None = None
    issue: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Decision:
    """The owner's `state`, and `outcome` in the library ("applied", "waiting", "failed", "undone") or None."""

    key: Key
    state: str
    outcome: str | None = None
    reason: str | None = None
    batch: int | None = None
    version: int = 0
    decided_at: str = ""

    @property
    def queue(self) -> str:
        return _queue(self.state, self.outcome)


@dataclass
class Outcome:
    """What became of a request to decide.

    `changed` keys took the new state; `already` had it; `conflicts` were decided elsewhere since the
    owner looked, `applied` stand in the library (or wait for it) and are not touched, `displaced` are
    opposite suggestions that went back to open.
    """

    event: int | None = None
    label: str = ""
    changed: list[Key] = field(default_factory=list)
    already: list[Key] = field(default_factory=list)
    conflicts: list[Decision] = field(default_factory=list)
    applied: list[Key] = field(default_factory=list)
    displaced: list[Key] = field(default_factory=list)


class Review:
    """The store at `path`, made when it is not there. One object per thread; close it, or use it with `with`.

    Raises `BadFile` when the file is no such store or was written by a newer program.

    >>> import tempfile
    >>> review = Review(Path(tempfile.mkdtemp()) / "review.sqlite3")
    >>> key = Key("a" * 64, "series:x", "add")
    >>> review.decide([Ask(key, 0)], "accepted").changed == [key]
    True
    >>> review.undo().changed == [key], review.decision(key).queue
    (True, 'open')
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.db = sqlite.connect(self.path, MIGRATIONS, threads=True)
        self.db.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")
        self._file = self._place()

    def __enter__(self) -> Review:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_current(self) -> bool:
        """Whether the file at its path is still the one that it opened."""
        return self._file is not None and self._file == self._place()

    def _place(self) -> tuple[int, int] | None:
        with suppress(OSError):
            found = self.path.stat()
            return found.st_dev, found.st_ino
        return None

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that no other writer interleaves with; the revision of the store goes up by one."""
        with sqlite.within(self.db):
            yield self.db
            self.db.execute("UPDATE review_meta SET value = value + 1 WHERE key = 'revision'")

    def meta(self, key: str, default: str = "") -> str:
        """A value of the store's own notes."""
        row = self.db.execute("SELECT value FROM review_meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else row["value"]

    def set_meta(self, key: str, value: str) -> None:
        """Keep a value among the store's own notes."""
        with self.writing() as db:
            db.execute("INSERT OR REPLACE INTO review_meta VALUES (?, ?)", (key, value))

    def muted(self) -> list[str]:
        """The tags that the owner does not want to be asked about, sorted."""
        return cast("list[str]", json.loads(self.meta(MUTED, "[]")))

    def mute(self, tag: str, on: bool = True) -> None:
        """Stop asking about a tag, or ask again. Nothing is decided by that, and no other tag is touched."""
        now = sorted({*self.muted(), tag} if on else {*self.muted()} - {tag})
        with self.writing() as db, counts.kept(db, counts.MANY + 1):
            db.execute("INSERT OR REPLACE INTO review_meta VALUES (?, ?)", (MUTED, json.dumps(now)))
            which = f"tag = ? AND action != '{PAIR}' AND state IN (?, ?, ?)"
            db.execute(f"UPDATE suggestions SET state = {UNDECIDED_STATE} WHERE {which}", (tag, *UNDECIDED, GONE))

    def revision(self) -> int:
        """A number that goes up with every write, so that a reader can tell whether anything changed."""
        return int(self.meta("revision", "0"))

    def decision(self, key: Key) -> Decision:
        """The decision on `key` as it stands; open with version 0 when there never was one."""
        row = self.db.execute(f"SELECT * FROM decisions WHERE {ITS}", key).fetchone()
        return Decision(key, OPEN) if row is None else _decision(row)

    def decide(self, asks: Sequence[Ask], state: str, label: str = "", attach_to: str | None = None) -> Outcome:
        """Give each asked suggestion `state` (one of `DECISIONS`, or "open"), all in one event of the history.

        A decision is replaced only where it still has the version that was seen (`Ask.version`), so that two tabs
        do not overwrite each other. Accepting a suggestion puts an opposite one that is accepted and not yet applied
        back to open. `attach_to` is the finding that lists suggestions which no report made (a tag copied across a pair).
        """
        if state not in (*DECISIONS, OPEN):
            raise ValueError(f"no such decision: {state!r}")
        return self.decide_each([(ask, state) for ask in asks], label or state, attach_to)

    def decide_each(self, asked: Sequence[tuple[Ask, str]], label: str, attach_to: str | None = None) -> Outcome:
        """As `decide`, with a state of its own for each suggestion."""
        outcome = Outcome(label=label)
        with self.writing() as db, counts.kept(db, len(asked)):
            changes: list[Change] = []
            for ask, state in asked:
                now = self.decision(ask.key)
                if ask.version is not None and now.version != ask.version:
                    (outcome.already.append(ask.key) if now.queue == state else outcome.conflicts.append(now))
                elif now.outcome in LOCKED:
                    outcome.applied.append(ask.key)
                elif now.queue == state and not (state == IGNORED and self._grown(ask.key)):
                    outcome.already.append(ask.key)
                else:
                    changes += self._displace(ask.key, state, outcome)
                    changes.append(self._set(now, state, ask.issue, ask.confidence))
                    outcome.changed.append(ask.key)
                    if attach_to and ask.key.action != PAIR:
                        _attach(db, attach_to, ask.key, state)
            if changes:
                outcome.event = self._remember(label, changes)
        return outcome

    def undo(self) -> Outcome | None:
        """Take the newest event back; None when there is none. What was applied meanwhile stays and is named."""
        return self._walk("done", "undone", "before", "DESC")

    def redo(self) -> Outcome | None:
        """Do again what was undone last; None when there is nothing, as after any new decision."""
        return self._walk("undone", "done", "after", "ASC")

    def history(self) -> dict[str, sqlite3.Row | None]:
        """The events that `undo` and `redo` would take next: `{"undo": row, "redo": row}` with id, at, label."""
        return {"undo": self._next_event("done", "DESC"), "redo": self._next_event("undone", "ASC")}

    def accepted(self) -> list[Key]:
        """The accepted changes that wait to be applied, by picture and tag."""
        query = f"SELECT hash, tag, action, other FROM decisions WHERE {WAITS} ORDER BY hash, tag, action"
        return [Key(*row) for row in self.db.execute(query)]

    def note_outcomes(self, outcomes: Iterable[tuple[Key, str, str, int]]) -> int:
        """Note and count what became of accepted suggestions: (key, outcome as in `Decision`, reason, batch)."""
        noted, outcomes = 0, list(outcomes)
        with self.writing() as db, counts.kept(db, len(outcomes)):
            for key, result, reason, batch in outcomes:
                now = self.decision(key)
                if now.state != ACCEPTED or (now.outcome, now.reason, now.batch) == (result, reason, batch):
                    continue
                noting = f"UPDATE decisions SET outcome = ?, reason = ?, batch = ?, version = version + 1 WHERE {ITS}"
                db.execute(noting, (result, reason, batch, *key))
                self._mark(key, _queue(now.state, result))
                noted += 1
        return noted

    def waiting(self) -> int:
        """How many accepted changes wait to be applied."""
        return int(self.db.execute(f"SELECT count(*) FROM decisions WHERE {WAITS}").fetchone()[0])

    def _set(self, now: Decision, state: str, issue: str | None = None, confidence: float | None = None) -> Change:
        """Write one decision and say what changed: (key, state before, state after)."""
        key = now.key
        self.db.execute(
            "INSERT INTO decisions (hash, tag, action, other, state, version, decided_at, issue, confidence, evidence)"
            f" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, {SEEN})"
            " ON CONFLICT (hash, tag, action, other) DO UPDATE SET state = excluded.state, outcome = NULL, reason ="
            " NULL, batch = NULL,"
            " version = excluded.version, decided_at = excluded.decided_at, issue = coalesce(excluded.issue, issue),"
            " confidence = coalesce(excluded.confidence, confidence), evidence = excluded.evidence",
            (*key, state, now.version + 1, isoformat(utc_now()), issue, confidence),
        )
        self._mark(key, state)
        return key, now.state, state

    def _displace(self, key: Key, state: str, outcome: Outcome) -> list[Change]:
        opposite = key.opposite() if state == ACCEPTED else None
        now = self.decision(opposite) if opposite else None
        if now is None or now.state != ACCEPTED or now.outcome in LOCKED:
            return []
        outcome.displaced.append(now.key)
        return [self._set(now, OPEN)]

    def _grown(self, key: Key) -> bool:
        """Whether it is surer now than when it was ignored, so that another "no" is an answer to that."""
        return self.db.execute(f"SELECT 1 FROM suggestions WHERE {ITS} AND changed", key).fetchone() is not None

    def _mark(self, key: Key, queue: str) -> None:
        """Move the index's rows of one suggestion to a queue."""
        state, given = (UNDECIDED_STATE, ()) if queue == OPEN else ("?", (queue,))
        self.db.execute(f"UPDATE suggestions SET changed = 0, state = {state} WHERE {ITS}", (*given, *key))

    def _remember(self, label: str, changes: list[Change]) -> int:
        """Add an event to the history; what was undone before it can no longer be redone."""
        self.db.execute("UPDATE events SET status = 'dropped' WHERE status = 'undone'")
        event: int = self.db.execute(
            "INSERT INTO events (at, label, status) VALUES (?, ?, 'done') RETURNING id", (isoformat(utc_now()), label)
        ).fetchone()[0]
        rows = [(event, *key, before, after) for key, before, after in changes]
        self.db.executemany("INSERT INTO event_changes VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return event

    def _next_event(self, status: str, order: str) -> sqlite3.Row | None:
        rows = self.db.execute(f"SELECT * FROM events WHERE status = ? ORDER BY id {order} LIMIT 1", (status,))
        return cast("sqlite3.Row | None", rows.fetchone())

    def _walk(self, status: str, becomes: str, to: str, order: str) -> Outcome | None:
        """Step over one event. What is not as the event left it was changed since (a write, a report), and stays."""
        left_as = "after" if to == "before" else "before"
        with self.writing() as db:
            event = self._next_event(status, order)
            if event is None:
                return None
            outcome = Outcome(event["id"], event["label"])
            rows = db.execute("SELECT * FROM event_changes WHERE event = ? ORDER BY rowid", (event["id"],)).fetchall()
            with counts.kept(db, len(rows)):
                for row in reversed(rows) if to == "before" else rows:
                    now = self.decision(Key(row["hash"], row["tag"], row["action"], row["other"]))
                    if now.outcome in LOCKED:
                        outcome.applied.append(now.key)
                    elif now.outcome is not None or now.state != row[left_as]:
                        outcome.conflicts.append(now)
                    else:
                        self._set(now, row[to])
                        outcome.changed.append(now.key)
            if not outcome.applied or outcome.changed:
                db.execute("UPDATE events SET status = ? WHERE id = ?", (becomes, event["id"]))
        return outcome


def entry_number(id: str) -> int:
    """The number of a report's entry in the table `entries`."""
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big", signed=True)


def _queue(state: str, outcome: str | None) -> str:
    return state if outcome in (None, WAITING) else outcome


def make_indexes(db: sqlite3.Connection, indexes: Mapping[str, str]) -> None:
    for name, columns in indexes.items():
        db.execute(f"CREATE INDEX {name} ON {columns}")


def drop_indexes(db: sqlite3.Connection) -> None:
    """Drop all indexes before many rows change: it is quicker to make them again than to update them."""
    for name in WALKS | LOOKUPS:
        db.execute(f"DROP INDEX IF EXISTS {name}")


def decisions(path: Path, pictures: Mapping[str, str] | None = None) -> dict[tuple[str, str, str], str]:
    """(hash, tag, "add" | "remove") -> what the owner decided: "accepted" (applied or not), "ignored", "skipped",
    "flagged", or "undone" where an applied change was taken back. Empty when there is no store yet.

    With the library's `pictures` (hash -> digest of its pixels, `Dataset.pixels`), decisions on files that are gone also
    count for pictures with the same pixels.
    """
    return {
        (row["hash"], row["tag"], row["action"]): UNDONE if row["outcome"] == UNDONE else row["state"]
        for row in _decided(path, pictures)
        if row["action"] != PAIR
    }


def answers(path: Path) -> list[tuple[str, str, str, float, bool]]:
    """(action, issue, tag, confidence, whether the detector was right) of each suggestion that the owner accepted or
    ignored, where issue and confidence were noted. A change that was taken back does not count: it may have been a slip.
    """
    return [
        (row["action"], row["issue"], row["tag"], row["confidence"], row["state"] == ACCEPTED)
        for row in _decided(path)
        if row["action"] != PAIR
        and row["outcome"] != UNDONE
        and row["state"] in (ACCEPTED, IGNORED)
        and row["issue"]
        and row["confidence"] is not None
    ]


def muted(path: Path) -> frozenset[str]:
    """The tags that the owner does not want to be asked about. Empty without a store."""
    if not there(Path(path)):
        return frozenset()
    with sqlite.read(Path(path)) as db:
        has = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'review_meta'").fetchone()
        row = db.execute("SELECT value FROM review_meta WHERE key = ?", (MUTED,)).fetchone() if has else None
    return frozenset(json.loads(row[0])) if row else frozenset()


def pair_decisions(path: Path, pictures: Mapping[str, str] | None = None) -> dict[tuple[str, str, str], str]:
    """(hash1, hash2, relation) -> what the owner decided about a pair of pictures, hash1 < hash2; `pictures` as for `decisions`."""
    rows = _decided(path, pictures)
    return {(row["hash"], row["other"], row["tag"]): row["state"] for row in rows if row["action"] == PAIR}


def start(path: Path) -> None:
    """Check the whole store and back it up, once when a program begins to use it. Raises `BadFile` or `ToolError`."""
    sqlite.start(path, MIGRATIONS)


def _decided(path: Path, pictures: Mapping[str, str] | None = None) -> list[Any]:
    if not there(Path(path)):
        return []
    with sqlite.read(Path(path)) as db:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'decisions'").fetchone() is None:
            return []
        sqlite.check(db, Path(path), ("decisions",))
        rows: list[Any] = db.execute("SELECT * FROM decisions WHERE state != 'open'").fetchall()
        return rows + (following.inherited(db, pictures) if pictures else [])


def _decision(row: sqlite3.Row) -> Decision:
    key = Key(row["hash"], row["tag"], row["action"], row["other"])
    return Decision(key, row["state"], row["outcome"], row["reason"], row["batch"], row["version"], row["decided_at"])


def _attach(db: sqlite3.Connection, finding: str, key: Key, state: str) -> None:
    """List a suggestion that no report made under a finding."""
    db.execute(
        "INSERT INTO suggestions (finding, rank, newest, tag_rank, source, issue, issues, hash, other, tag, namespace, action,"
        " place, confidence, evidence, state, current)"
        " SELECT id, rank, newest, rank, '', issue, '', ?1, '', ?2, CASE WHEN instr(?2, ':') > 1 THEN substr(?2, 1, instr(?2,"
        " ':') - 1) ELSE '' END,"
        " ?3, 1000, 1, packed('You chose this yourself.', '{}'), ?4, 0 FROM findings WHERE id = ?5"
        " ON CONFLICT (hash, tag, action, other) DO NOTHING",
        (key.hash, key.tag, key.action, state, finding),
    )


def _make(db: sqlite3.Connection) -> None:
    sqlite.run(db, SCHEMA)
    make_indexes(db, LOOKUPS | WALKS)
    counts.make(db)
    counts.make_verdicts(db)
    db.execute("INSERT INTO review_meta VALUES ('revision', '0')")


def _index_verdicts(db: sqlite3.Connection) -> None:
    """From 1 to 2: an index on verdicts."""
    db.execute("DROP INDEX decisions_state")
    db.execute("CREATE INDEX decisions_state ON decisions (state, outcome, action)")


def _add_evidence(db: sqlite3.Connection) -> None:
    """From 2 to 3: the evidence behind a "no"."""
    db.execute("ALTER TABLE decisions ADD COLUMN evidence TEXT")


def _add_guards(db: sqlite3.Connection) -> None:
    """From 3 to 4: decisions are counted and digested (`guarded`)."""


def _remade_later(db: sqlite3.Connection) -> None:
    """From 4 to 5, 5 to 6 and 6 to 7: changes to the index, which the step to 8 makes again from any of these."""


def _remake(db: sqlite3.Connection) -> None:
    """From 4 to 7, to 8: findings are pictures or groups of copies, made again from reports, but what is decided."""
    there = {row["name"] for row in db.execute("SELECT name FROM sqlite_master")}
    had = {row["name"] for row in db.execute("PRAGMA table_info(suggestions)")}
    following.note_pixels(db)  # decisions still follow the pictures that the records tell of
    for name in counts.TRIGGERS:
        db.execute(f"DROP TRIGGER IF EXISTS {name}")
    drop_indexes(db)
    for name in ("suggestions_key", "suggestions_changed", "suggestions_picture"):
        db.execute(f"DROP INDEX IF EXISTS {name}")
    gone = ["tallies", "moves", "findings", "said", "entries"]
    gone += ["pictures", "picture_pages", "picture_series", "library_tags"]
    for name in gone if "issues" in had else [*gone, "sample_keys", "samples"]:
        db.execute(f"DROP TABLE IF EXISTS {name}")
    _keep_decided(db, there, had)
    db.execute("DELETE FROM sources")
    make_indexes(db, LOOKUPS | WALKS)
    counts.make(db)


def _keep_decided(db: sqlite3.Connection, there: Collection[str], had: Collection[str]) -> None:
    """The tables of the index made again, with the suggestions that are decided; `had` are the columns of those before."""
    db.execute("ALTER TABLE suggestions RENAME TO suggestions_before")
    if near.LIST in there:
        db.execute(f"ALTER TABLE {near.LIST} RENAME TO near_before")
    made = [PICTURES, INDEX, GROWN, counts.TABLE, counts.MOVES, near.TABLE, *([] if "issues" in had else [SAMPLES])]
    sqlite.run(db, ";".join(made))
    if near.LIST in there:
        rows = db.execute("SELECT id, hash FROM near_before").fetchall()
        kept = [(number, bytes.fromhex(hash) if isinstance(hash, str) else hash) for number, hash in rows]
        db.executemany(f"INSERT INTO {near.LIST} VALUES (?, ?)", kept)
        db.execute("DROP TABLE near_before")
    evidence = "packed(why, evidence)" if "why" in had else "evidence"
    db.execute(
        "INSERT OR IGNORE INTO suggestions (finding, source, issue, issues, hash, other, tag, namespace, action, place,"
        " confidence, evidence, state, current) SELECT finding, source, issue, issue, hash, other, tag, namespace, action,"
        f" place, confidence, {evidence}, state, 0 FROM suggestions_before WHERE state NOT IN"
        " ('open', 'skipped', 'gone', 'unlikely') ORDER BY current DESC, rank"
    )
    db.execute("DROP TABLE suggestions_before")
    db.execute(
        "UPDATE suggestions SET rank = r.place FROM (SELECT id, dense_rank() OVER (ORDER BY finding) AS place FROM suggestions) r"
        " WHERE r.id = suggestions.id"
    )


def _count_verdicts(db: sqlite3.Connection) -> None:
    """From 8 to 9: the owner's verdicts are counted as they are given."""
    for part in ("INDEX IF EXISTS decisions_issue", "INDEX IF EXISTS decisions_tag", "TABLE IF EXISTS verdicts"):
        db.execute(f"DROP {part}")
    for trigger in ("verdicts_told", "verdicts_changed"):
        db.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    counts.make_verdicts(db)


def _add_batches(db: sqlite3.Connection) -> None:
    """From 9 to 10: batches, which the reports are read again for."""
    db.execute("DROP TABLE IF EXISTS batches")
    db.execute(BATCHES)
    db.execute("DELETE FROM sources")


STEPS: tuple[sqlite.Step, ...] = (_index_verdicts, _add_evidence, _add_guards, *[_remade_later] * 3, _remake)
MIGRATIONS = sqlite.Migrations(
    "review",
    _make,
    (*STEPS, _count_verdicts, _add_batches),
    guarded=("decisions",),
    remade=(
        *("sources", "entries", "pictures", "copies", "picture_pages", "picture_series", "library_tags"),
        *("findings", "suggestions", "tallies", "moves", "batches", near.LIST),
    ),
    key="schema",
)
