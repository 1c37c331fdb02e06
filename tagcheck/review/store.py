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
import re
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tagcheck import sqlite, tags
from tagcheck.data_folder import isoformat, utc_now
from tagcheck.dataset import TAGS_READ
from tagcheck.errors import ToolError
from tagcheck.files import there
from tagcheck.review import counts, following, numbers, taken_back
from tagcheck.review.numbers import (
    ACTIONS,
    ITS,
    STATES,
    TOGETHER,
    hash_of,
    named_by,
    named_one,
    picture,
    place_of,
    text,
    word,
    word_of,
)

if TYPE_CHECKING:
    from tagcheck.dataset import Dataset, Record

OPEN, UNLIKELY, ACCEPTED, IGNORED, SKIPPED, FLAGGED, APPLIED, FAILED, UNDONE, GONE = STATES
# "unlikely" is undecided, and rather wrong than right; "gone" is undecided, and no longer in the newest reports.
WAITING = "waiting"  # noted down in the ledger, to be written when the library is back
LOCKED = (APPLIED, WAITING)  # the ledger has it: taken back there, not here
LIKELY_FROM = 0.5  # the confidence below which a suggestion is "unlikely"
UNDECIDED = (OPEN, UNLIKELY)
DECISIONS = (ACCEPTED, IGNORED, SKIPPED, FLAGGED)
QUEUES = STATES[:-1]
ADD, REMOVE, PAIR = ACTIONS
OPPOSITE = {ADD: REMOVE, REMOVE: ADD}
ID = re.compile("[0-9a-f]{16}")  # of a finding
CHANGED = 0.1  # by which a confidence has to grow after a "no" to be called out
MAPPED_BYTES = 2**30  # of the file that are mapped into memory, so that a new connection needs no cache of its own

# The indexes that views read in order. They hold the rank, so they are made again once the ranks are known.
WALKS = {
    "suggestions_rank": "suggested (rank, queue, kind, sure)",
    "suggestions_state": "suggested (queue, rank, kind, sure)",
    "suggestions_newest": "suggested (queue, newest, kind, sure)",
    "suggestions_issue": "suggested (kind, queue, rank, sure)",
    "suggestions_tag": "suggested (word, queue, tag_rank, rank, kind, sure)",
    "suggestions_namespace": "suggested (space, queue, rank, kind, sure)",
}
# The indexes that a suggestion is looked up by, beside its name.
LOOKUPS = {"suggestions_other": "suggested (partner) WHERE partner"}
# What the dataset says of the pictures that findings are about; `record` is the number of a text.
PICTURES = """
CREATE TABLE records (picture INTEGER PRIMARY KEY, imported REAL, record INTEGER NOT NULL);
CREATE TABLE picture_pages (page INTEGER NOT NULL, picture INTEGER NOT NULL, PRIMARY KEY (page, picture)) WITHOUT ROWID;
CREATE TABLE picture_series (series INTEGER NOT NULL, picture INTEGER NOT NULL, PRIMARY KEY (series, picture)) WITHOUT ROWID;
CREATE TABLE library_tags (tag TEXT PRIMARY KEY, uses INTEGER NOT NULL) WITHOUT ROWID
"""
# What a detector offers beside findings: which copy is the best of each group, and suggestions to be decided together: those of a
# source of wrong tags, say.
OFFERED = """
CREATE TABLE copies (hash TEXT PRIMARY KEY, best TEXT NOT NULL, reasons TEXT NOT NULL, members INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (name TEXT NOT NULL, hash TEXT NOT NULL, tag TEXT NOT NULL, action TEXT NOT NULL,
    PRIMARY KEY (name, hash, tag, action)) WITHOUT ROWID
"""
# The tags that the owner does not want to be asked about, as a JSON list among the store's notes.
MUTED = "muted"
# The queue of a suggestion that is not decided, as its place in `STATES`; one of a muted tag is in none.
UNDECIDED_QUEUE = (
    f"CASE WHEN NOT current OR (NOT partner AND word IN (SELECT w.id FROM words w JOIN json_each((SELECT n.value FROM"
    f" review_meta n WHERE n.key = '{MUTED}')) m ON w.name = m.value)) THEN {STATES.index(GONE)} WHEN sure < {round(LIKELY_FROM * counts.SCALE)}"
    f" THEN {STATES.index(UNLIKELY)} ELSE {STATES.index(OPEN)} END"
)
# What is made of what reports say: a finding is what one card shows, a picture with all that is suggested for it, or a group of
# copies; a suggestion stands once, however often it is said. Hashes and words are numbers here (`tagcheck.review.numbers`), ids of
# findings the numbers that their digits are, and confidences whole millionths (`sure`), and `said` is the number of a text,
# the sentence, which the evidence follows; the views `findings`, `suggestions` and `pictures`
# say them in full. `alone` is what the detector said before earlier decisions moved its confidence. `members` is empty where these are `picture` and `partner`. `entries` lead from the ids of the reports' entries to suggestions.
INDEX = f"""
CREATE TABLE entries (entry INTEGER PRIMARY KEY, suggestion INTEGER NOT NULL);
CREATE TABLE cards (
    id INTEGER PRIMARY KEY, rank INTEGER NOT NULL DEFAULT 0, newest INTEGER NOT NULL DEFAULT 0, kind INTEGER NOT NULL,
    picture INTEGER NOT NULL, partner INTEGER NOT NULL, members TEXT NOT NULL, sure INTEGER NOT NULL, differs INTEGER NOT NULL,
    current INTEGER NOT NULL
);
CREATE TABLE suggested (
    id INTEGER PRIMARY KEY, card INTEGER NOT NULL, rank INTEGER NOT NULL DEFAULT 0, newest INTEGER NOT NULL DEFAULT 0,
    tag_rank INTEGER NOT NULL DEFAULT 0, said_by INTEGER NOT NULL, kind INTEGER NOT NULL, kinds INTEGER NOT NULL,
    picture INTEGER NOT NULL, partner INTEGER NOT NULL, word INTEGER NOT NULL, space INTEGER NOT NULL, act INTEGER NOT NULL,
    place INTEGER NOT NULL,
    sure INTEGER NOT NULL, alone REAL, said INTEGER NOT NULL, queue INTEGER NOT NULL, current INTEGER NOT NULL,
    changed INTEGER NOT NULL DEFAULT 0, differs INTEGER NOT NULL DEFAULT 1,
    band INTEGER AS ({counts.band_of("sure", counts.SCALE)})
);
CREATE UNIQUE INDEX suggestions_key ON suggested (picture, word, act, partner);
CREATE VIEW findings AS SELECT printf('%016x', id) AS id, id AS card, rank, newest, {word_of("kind")} AS issue,
    {hash_of("picture")} AS hash, {hash_of("partner")} AS other, picture, partner, CASE WHEN members != '' THEN members WHEN partner
    THEN json_array({hash_of("picture")}, {hash_of("partner")}) ELSE json_array({hash_of("picture")}) END AS members,
    sure / {counts.SCALE} AS confidence, differs, current FROM cards;
CREATE VIEW suggestions AS SELECT s.*, {named_one(STATES, "queue")} AS state, {named_one(ACTIONS, "act")} AS action, printf('%016x', card) AS finding, {word_of("said_by")} AS source, {word_of("kind")} AS issue,
    {word_of("kinds")} AS issues, {hash_of("picture")} AS hash, {hash_of("partner")} AS other, {word_of("word")} AS tag,
    {word_of("space")} AS namespace, sure / {counts.SCALE} AS confidence,
    {text("said")} AS why, {text("(said + 1)")} AS evidence FROM suggested s;
CREATE VIEW pictures AS SELECT {hash_of("picture")} AS hash, imported, {text("record")} AS record FROM records;
"""
# What a "no" was an answer to, without the neighbours' hashes.
SEEN = """(SELECT json_remove(s.evidence, '$.near_with', '$.near_without') FROM suggestions s
 WHERE s.id = ?10 AND s.current AND ?5 = 'ignored')"""
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
{PICTURES};
{OFFERED};
{INDEX}
CREATE INDEX suggestions_changed ON suggested (queue, rank) WHERE changed;
-- Samples of many suggestions alike: how many there were, in which view, and which were drawn to be looked at one by one.
CREATE TABLE samples (id INTEGER PRIMARY KEY, at TEXT NOT NULL, view TEXT NOT NULL, of INTEGER NOT NULL, event INTEGER);
CREATE TABLE sample_keys (sample INTEGER NOT NULL REFERENCES samples, hash TEXT NOT NULL, tag TEXT NOT NULL, action TEXT NOT NULL,
    other TEXT NOT NULL, PRIMARY KEY (sample, hash, tag, action, other)) WITHOUT ROWID;
{counts.TABLE};
{counts.MOVES};
{numbers.TABLES}
"""


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


Change = tuple[Key, str, str]  # what was decided on, its queue before and after


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

    def value(self, query: str, *values: Any) -> Any:
        """The first value of the first row of a query, None where there is no row."""
        row = self.db.execute(query, values).fetchone()
        return None if row is None else row[0]

    def meta(self, key: str, default: str = "") -> str:
        kept = self.value("SELECT value FROM review_meta WHERE key = ?", key)
        return default if kept is None else str(kept)

    def set_meta(self, key: str, value: str) -> None:
        with self.writing() as db:
            db.execute("INSERT OR REPLACE INTO review_meta VALUES (?, ?)", (key, value))

    def secret(self, key: str) -> str:
        """64 random hex digits under `key` of the notes, made when they are first asked for."""
        if not (kept := self.meta(key)):
            kept = secrets.token_hex(32)
            self.set_meta(key, kept)
        return kept

    def muted(self) -> list[str]:
        """The tags that the owner does not want to be asked about, sorted."""
        return cast("list[str]", json.loads(self.meta(MUTED, "[]")))

    def mute(self, tag: str, on: bool = True) -> None:
        """Stop asking about a tag, or ask again. Nothing is decided by that, and no other tag is touched."""
        with self.writing() as db, counts.kept(db, counts.MANY + 1):
            now = sorted({*self.muted(), tag} if on else {*self.muted()} - {tag})
            db.execute("INSERT OR REPLACE INTO review_meta VALUES (?, ?)", (MUTED, json.dumps(now)))
            which = f"word = {word('?')} AND NOT partner AND queue IN (?, ?, ?)"
            asked = map(STATES.index, (*UNDECIDED, GONE))
            db.execute(f"UPDATE suggested SET queue = {UNDECIDED_QUEUE} WHERE {which}", (tag, *asked))

    def revision(self) -> int:
        """A number that goes up with every write, so that a reader can tell whether anything changed."""
        return int(self.meta("revision", "0"))

    def decision(self, key: Key) -> Decision:
        """The decision on `key` as it stands; open with version 0 when there never was one."""
        row = self.db.execute(f"SELECT * FROM decisions WHERE {ITS}", key).fetchone()
        told = ("state", "outcome", "reason", "batch", "version", "decided_at")
        return Decision(key, OPEN) if row is None else Decision(key, *(row[name] for name in told))

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

    def accepted(self) -> list[Key]:
        """The accepted changes that wait to be applied, by picture and tag."""
        query = f"SELECT hash, tag, action, other FROM decisions WHERE {WAITS} ORDER BY hash, tag, action"
        return [Key(*row) for row in self.db.execute(query)]

    def note_outcomes(self, outcomes: Iterable[tuple[Collection[str], str, str, int]]) -> int:
        """Note and count what became of accepted suggestions: (hash, tag and action, outcome as in `Decision`, reason, batch)."""
        noted, outcomes = 0, list(outcomes)
        with self.writing() as db, counts.kept(db, len(outcomes)):
            for named, result, reason, batch in outcomes:
                now = self.decision(key := Key(*named))
                if now.state != ACCEPTED or (now.outcome, now.reason, now.batch) == (result, reason, batch):
                    continue
                noting = f"UPDATE decisions SET outcome = ?, reason = ?, batch = ?, version = version + 1 WHERE {ITS}"
                db.execute(noting, (result, reason, batch, *key))
                self._mark(key, _queue(now.state, result))
                noted += 1
        return noted

    @contextmanager
    def held(self, keys: Sequence[Key]) -> Iterator[None]:
        """While these accepted changes are written nobody decides on them anew. Raises `ToolError` where somebody just has."""
        with self.writing() as db:
            hold = f"UPDATE decisions SET outcome = '{WAITING}', version = version + 1 WHERE {ITS} AND {WAITS}"
            if db.executemany(hold, keys).rowcount < len(keys):
                raise ToolError("something else was decided since you looked: nothing was written, look again")
        try:
            yield
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Let what is held (by a process that was killed, too), and is in no batch of the ledger, be decided on again."""
        with self.writing() as db:
            free = "UPDATE decisions SET outcome = NULL, version = version + 1 WHERE state = ?"
            db.execute(f"{free} AND outcome = ? AND batch IS NULL", (ACCEPTED, WAITING))

    def take_back(self) -> list[Key]:
        """Count the applied changes that the dataset shows to be taken back in the library as ignored, and give them."""
        header = json.loads(self.value("SELECT header FROM sources WHERE kind = 'dataset'") or "{}")
        changes = taken_back.written(self.db) if header.get(TAGS_READ) else []
        hashes = json.dumps(sorted({one["hash"] for one in changes}))
        query = "SELECT hash, record FROM pictures WHERE hash IN (SELECT value FROM json_each(?))"
        kept = self.db.execute(query, (hashes,)).fetchall() if changes else []
        named = numbers.named(self.db, [row["record"] for row in kept], numbers.TAG_LISTS)
        records = {row["hash"]: record for row, record in zip(kept, named, strict=True)}
        refused = [Key(*one) for one in sorted(taken_back.found(changes, records, header).refused)]
        if refused:
            with self.writing() as db, counts.kept(db, len(refused)):
                for key in refused:
                    ignoring = (
                        f"UPDATE decisions SET state = '{IGNORED}', outcome = NULL, reason = ?, version = version + 1"
                    )
                    db.execute(f"{ignoring} WHERE {ITS}", (taken_back.WHY, *key))
                    self._mark(key, IGNORED)
        return refused

    def waiting(self) -> int:
        """How many accepted changes wait to be applied."""
        return int(self.value(f"SELECT count(*) FROM decisions WHERE {WAITS}"))

    def copies(self) -> int:
        """How many pairs the owner called copies: they stay accepted, and nothing is written for them."""
        return int(self.value(f"SELECT count(*) FROM decisions WHERE state = '{ACCEPTED}' AND action = '{PAIR}'"))

    def _set(self, now: Decision, queue: str, issue: str | None = None, confidence: float | None = None) -> Change:
        """Write one decision and say what changed: (key, queue before, queue after). What an undo brings back to "failed" or "undone"
        is not to be written again.
        """
        key = now.key
        state, outcome = (ACCEPTED, queue) if queue in (FAILED, UNDONE) else (queue, None)
        self.db.execute(
            "INSERT INTO decisions (hash, tag, action, other, state, version, decided_at, issue, confidence, evidence, outcome)"
            f" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, {SEEN}, ?11)"
            " ON CONFLICT (hash, tag, action, other) DO UPDATE SET state = excluded.state, outcome = excluded.outcome, reason ="
            " NULL, batch = NULL,"
            " version = excluded.version, decided_at = excluded.decided_at, issue = coalesce(excluded.issue, issue),"
            " confidence = coalesce(excluded.confidence, confidence), evidence = excluded.evidence",
            (*key, state, now.version + 1, isoformat(utc_now()), issue, confidence, self.number(key), outcome),
        )
        self._mark(key, queue)
        return key, now.queue, queue

    def _displace(self, key: Key, state: str, outcome: Outcome) -> list[Change]:
        opposite = key.opposite() if state == ACCEPTED else None
        now = self.decision(opposite) if opposite else None
        if now is None or (now.state, now.outcome) != (ACCEPTED, None):
            return []
        outcome.displaced.append(now.key)
        return [self._set(now, OPEN)]

    def number(self, key: Key) -> int | None:
        """The suggestion's own number in the index; None where no report makes it."""
        return cast("int | None", self.value(f"SELECT id FROM suggested WHERE {named_by()}", *key))

    def _grown(self, key: Key) -> bool:
        """Whether it is surer now than when it was ignored, so that another "no" is an answer to that."""
        return bool(self.value("SELECT changed FROM suggested WHERE id = ?", self.number(key)))

    def _mark(self, key: Key, queue: str) -> None:
        """Move the index's row of one suggestion to a queue."""
        place = UNDECIDED_QUEUE if queue == OPEN else str(STATES.index(queue))
        self.db.execute(f"UPDATE suggested SET changed = 0, queue = {place} WHERE id = ?", (self.number(key),))

    def _remember(self, label: str, changes: list[Change]) -> int:
        """Add an event to the history; what was undone before it can no longer be redone."""
        self.db.execute("UPDATE events SET status = 'dropped' WHERE status = 'undone'")
        new = "INSERT INTO events (at, label, status) VALUES (?, ?, 'done') RETURNING id"
        event = int(self.value(new, isoformat(utc_now()), label))
        rows = [(event, *key, before, after) for key, before, after in changes]
        self.db.executemany("INSERT INTO event_changes VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return event

    def _walk(self, status: str, becomes: str, to: str, order: str) -> Outcome | None:
        """Step over one event. What is not as the event left it was changed since (a write, a report), and stays."""
        left_as = "after" if to == "before" else "before"
        with self.writing() as db:
            newest = f"SELECT * FROM events WHERE status = ? ORDER BY id {order} LIMIT 1"
            event = db.execute(newest, (status,)).fetchone()
            if event is None:
                return None
            outcome = Outcome(event["id"], event["label"])
            rows = db.execute("SELECT * FROM event_changes WHERE event = ? ORDER BY rowid", (event["id"],)).fetchall()
            with counts.kept(db, len(rows)):
                for row in reversed(rows) if to == "before" else rows:
                    now = self.decision(Key(row["hash"], row["tag"], row["action"], row["other"]))
                    if now.outcome in LOCKED:
                        outcome.applied.append(now.key)
                    elif now.queue != row[left_as]:
                        outcome.conflicts.append(now)
                    else:
                        self._set(now, row[to])
                        outcome.changed.append(now.key)
            if not outcome.applied or outcome.changed:
                db.execute("UPDATE events SET status = ? WHERE id = ?", (becomes, event["id"]))
        return outcome


def card_number(id: str) -> int:
    """The number of a finding in the table `cards`: what its 16 hex digits are; 0 of what is no such id."""
    return int.from_bytes(bytes.fromhex(id), "big", signed=True) if ID.fullmatch(id) else 0


def entry_number(id: str) -> int:
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


def decisions(
    path: Path, pictures: Mapping[str, str] | None = None, data: Dataset | None = None
) -> dict[tuple[str, str, str], str]:
    """(hash, tag, "add" | "remove") -> what the owner decided: "accepted" (applied or not), "ignored", "skipped",
    "flagged", or "undone" where an applied change was taken back on the page; one that the dataset shows to be taken back in the
    library is "ignored" (`tagcheck.review.taken_back`). Empty when there is no store yet.

    With the library's `pictures` (hash -> digest of its pixels, `Dataset.pixels`), decisions on files that are gone also
    count for pictures with the same pixels.
    """
    return {
        (row["hash"], row["tag"], row["action"]): UNDONE if row["outcome"] == UNDONE else row["state"]
        for row in _decided(path, pictures, data)
        if row["action"] != PAIR
    }


def answers(path: Path, data: Dataset | None = None) -> list[tuple[str, str, str, float, bool]]:
    """(action, issue, tag, confidence, whether the detector was right) of each suggestion that the owner accepted or
    ignored, where issue and confidence were noted. A change that was taken back on the page does not count: it may have been a
    slip; one that the dataset shows to be taken back in the library was wrong.
    """
    return [
        (row["action"], row["issue"], row["tag"], row["confidence"], row["state"] == ACCEPTED)
        for row in _decided(path, data=data)
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
    kept = "SELECT value FROM review_meta WHERE key = ?"
    with sqlite.read(Path(path)) as db:
        row = db.execute(kept, (MUTED,)).fetchone() if sqlite.has(db, "review_meta") else None
    return frozenset(json.loads(row[0])) if row else frozenset()


def pair_decisions(path: Path, pictures: Mapping[str, str] | None = None) -> dict[tuple[str, str, str], str]:
    """(hash1, hash2, relation) -> what the owner decided about a pair of pictures, hash1 < hash2; `pictures` as for `decisions`."""
    rows = _decided(path, pictures)
    return {(row["hash"], row["other"], row["tag"]): row["state"] for row in rows if row["action"] == PAIR}


def start(path: Path) -> None:
    """Check the whole store and back it up, once when a program begins to use it. Raises `BadFile` or `ToolError`."""
    sqlite.start(path, MIGRATIONS)


def _decided(path: Path, pictures: Mapping[str, str] | None = None, data: Dataset | None = None) -> list[Any]:
    if not there(Path(path)):
        return []
    with sqlite.read(Path(path)) as db:
        if not sqlite.has(db, "decisions"):
            return []
        sqlite.check(db, Path(path), ("decisions",))
        rows: list[Any] = db.execute("SELECT * FROM decisions WHERE state != 'open'").fetchall()
        if data is not None and (changes := taken_back.written(db)):
            wanted = {one["hash"] for one in changes}
            records = {one.hash: _as_written(one) for one in data.records if one.hash in wanted}
            refused, lost = taken_back.found(changes, records, data.header)
            rows = [_after(dict(row), refused, lost) for row in rows]
        return rows + (following.inherited(db, pictures) if pictures else [])


def _as_written(record: Record) -> dict[str, Any]:
    """A record with the tags that its file has."""
    lists = {"existing_all_tags": record.written, "deleted_tags": record.deleted, "implied_tags": record.implied}
    return {**record.raw, **lists, "status": record.status}


def _after(row: dict[str, Any], refused: Collection[tuple[str, str, str]], lost: Collection[Any]) -> dict[str, Any]:
    """A row of `decisions` as it is once the dataset has shown what its owner took back, or an older copy of the library lacks."""
    key = row["hash"], row["tag"], row["action"]
    if key in refused:
        return row | {"state": IGNORED, "outcome": None}
    return row | {"outcome": UNDONE} if key in lost else row


def _attach(db: sqlite3.Connection, finding: str, key: Key, state: str) -> None:
    """List a suggestion that no report made under a finding."""
    space = tags.namespace(key.tag)
    numbers.number_all(db, "SELECT ? AS hash", (key.hash,))
    db.executemany("INSERT OR IGNORE INTO words (name) VALUES (?)", [("",), (key.tag,), (space,)])
    none = word("''")
    db.execute(
        "INSERT OR IGNORE INTO suggested (card, rank, newest, tag_rank, said_by, kind, kinds, picture, partner, word, space, act,"
        " place, sure, said, queue, current)"
        f" SELECT id, rank, newest, rank, {none}, kind, {none}, {picture('?')}, 0, {word('?')}, {word('?')}, ?, 1000, {counts.SCALE},"
        " 0, ?, 0 FROM cards WHERE id = ?",
        (key.hash, key.tag, space, ACTIONS.index(key.action), STATES.index(state), card_number(finding)),
    )


def _make(db: sqlite3.Connection, earlier: Collection[str] = ()) -> None:
    """Make the tables that are not there; with the suggestions that are decided, where those of before had such columns."""
    sqlite.run(db, re.sub("CREATE (TABLE|INDEX) ", r"CREATE \1 IF NOT EXISTS ", SCHEMA))
    if earlier:
        _keep_decided(db, "packed(d.why, d.evidence)" if "why" in earlier else "d.evidence")
    make_indexes(db, LOOKUPS | WALKS)
    counts.make(db)
    counts.make_verdicts(db)
    db.execute("INSERT OR IGNORE INTO review_meta VALUES ('revision', '0')")


def _remake(db: sqlite3.Connection) -> None:
    """From any earlier version to 11: what the owner decided stays, with what was said of it; the reports are read again."""
    had = {row["name"] for row in db.execute("PRAGMA table_info(suggestions)")}
    if "card" in had:
        return  # they are the tables of today
    following.note_pixels(db)  # decisions still follow the pictures that the records tell of
    undecided = (*UNDECIDED, SKIPPED, GONE)
    db.execute(f"CREATE TEMP TABLE decided AS SELECT * FROM suggestions WHERE state NOT IN {undecided}")
    acts = "SELECT type, name FROM sqlite_master WHERE tbl_name = 'decisions' AND type IN ('index', 'trigger') AND sql NOTNULL"
    for kind, name in db.execute(acts).fetchall():
        db.execute(f"DROP {kind} {name}")
    samples = ("sample_keys", "samples") if "issues" not in had else ()
    for name in (*REMADE, *samples):
        db.execute(f"DROP TABLE IF EXISTS {name}")
    if not any(row["name"] == "evidence" for row in db.execute("PRAGMA table_info(decisions)")):
        db.execute("ALTER TABLE decisions ADD COLUMN evidence TEXT")  # behind a "no", from version 3 on
    _make(db, had)
    db.execute("DROP TABLE decided")


def _keep_decided(db: sqlite3.Connection, said: str) -> None:
    """Put the suggestions of the table `decided` among those of today; `said` is the SQL of their packed texts."""
    if sqlite.has(db, numbers.LIST):
        hashes = "SELECT id, iif(typeof(hash) = 'text', bytes_of(hash), hash)"
        db.execute(f"INSERT INTO hashes {hashes} FROM {numbers.LIST}")  # the texts name similar pictures by these
        db.execute(f"DROP TABLE {numbers.LIST}")
    numbers.number_all(db, "SELECT hash FROM decided UNION SELECT other FROM decided")
    for name in ("source", "issue", "tag", "namespace"):
        db.execute(f"INSERT OR IGNORE INTO words (name) SELECT {name} FROM decided")
    db.execute(f"INSERT INTO packs SELECT id, {said} FROM decided d")
    source, issue, tag, namespace = (word(f"d.{name}") for name in ("source", "issue", "tag", "namespace"))
    db.execute(
        "INSERT OR IGNORE INTO suggested (card, said_by, kind, kinds, picture, partner, word, space, act, place, sure, said, queue,"
        f" current) SELECT dense_rank() OVER (ORDER BY finding), {source}, {issue}, {issue}, {picture('d.hash')},"
        f" ifnull({picture('d.other')}, 0), {tag}, {namespace}, {place_of(ACTIONS, 'action')}, place, round(confidence * {counts.SCALE}), d.id * {TOGETHER},"
        f" {place_of(STATES, 'state')}, 0"
        " FROM decided d ORDER BY current DESC, rank"
    )
    db.execute("UPDATE suggested SET rank = card")


def _index_beginnings(db: sqlite3.Connection) -> None:
    """From version 11 to 12: hashes are looked up by how they begin, which takes a third of the index."""
    if not sqlite.has(db, "hashes_begin"):
        db.execute("CREATE TEMP TABLE named AS SELECT * FROM hashes")
        again = "INSERT INTO hashes SELECT * FROM named; DROP TABLE named"
        sqlite.run(db, f"DROP TABLE hashes; {numbers.HASHES_TABLE}; {again}")


REMADE = (
    *("sources", "entries", "records", "copies", "picture_pages", "picture_series", "library_tags", "batches"),
    *("cards", "suggested", "tallies", "moves", numbers.HASHES, numbers.WORDS, "packs"),
    *("pictures", "findings", "suggestions", "said"),  # of a store before version 11
)
MIGRATIONS = sqlite.Migrations(
    "review",
    _make,
    # One step brings all earlier versions to 11; the last counts what was taken back as no verdict.
    (*[lambda db: None] * 9, _remake, _index_beginnings, counts.make_verdicts),
    guarded=("decisions",),
    remade=(*REMADE, numbers.LIST),
    key="schema",
)
