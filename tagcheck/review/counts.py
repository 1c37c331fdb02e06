"""Counts of the findings index, kept up to date as suggestions move between queues.

A tally is a row of the table `tallies`. It counts, for one `scope` ("all", or the "issue", "tag" or "namespace" called
`name`) and one `state`, the `findings` that have a suggestion there, these `suggestions`, and `expected`, the sum of their
confidences in ten-thousandths. The scopes "all" and "issue" are split by confidence band too: a suggestion by its own
confidence, a finding by that of its surest suggestion there. Elsewhere `band` is 0. A finding may have suggestions of
several issues and tags, so findings do not add up over them.

Triggers update the tallies in the transaction that moves a suggestion; `make` counts everything again. Triggers also note
every move in `moves`, so that the counts of any view can be updated (`since`). The table `verdicts` counts, for each tag
and for each issue by confidence band, the suggestions about tags that the owner accepted or ignored (`answers`), and
those that were right (`yes`): accepted. What was taken back after it was written is no answer, as in `store.answers`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from tagcheck.review.numbers import STATES, named_one, word_of

BANDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # the lower ends of the confidence bands
ALL, ISSUE, TAG, NAMESPACE = "all", "issue", "tag", "namespace"
FACTOR = 10_000  # confidences are summed as whole numbers, which do not drift
SCALE = 1e6  # and kept so, in millionths
MANY = 2_000  # moves at once above which counting anew is quicker than moving


def band_of(column: str, scale: float = 1) -> str:
    """SQL: the place in `BANDS` of a column."""
    return f"CASE {' '.join(f'WHEN {column} >= {low * scale:g} THEN {BANDS.index(low)}' for low in BANDS[:0:-1])} ELSE 0 END"


TABLE = """
CREATE TABLE tallies (
    scope TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL, band INTEGER NOT NULL,
    findings INTEGER NOT NULL, suggestions INTEGER NOT NULL, expected INTEGER NOT NULL,
    PRIMARY KEY (scope, name, state, band)
) WITHOUT ROWID
"""
MOVES = """
CREATE TABLE moves (id INTEGER PRIMARY KEY AUTOINCREMENT, suggestion INTEGER NOT NULL, before TEXT NOT NULL)
"""
VERDICTS = """
CREATE TABLE verdicts (scope TEXT NOT NULL, name TEXT NOT NULL, band INTEGER NOT NULL, yes INTEGER NOT NULL, answers INTEGER NOT NULL,
    PRIMARY KEY (scope, name, band)) WITHOUT ROWID
"""
EVERYTHING = 0  # in the place of a suggestion: any may have moved
# The number of the name of a row of `suggested` in each scope.
COLUMNS = {ALL: "''", ISSUE: "kind", TAG: "word", NAMESPACE: "space"}
BANDED = (ALL, ISSUE)
TRIGGERS = ("tallies_moving", "tallies_moved", "tallies_added")


def make(db: sqlite3.Connection) -> None:
    """Count everything, and keep the counts from here on."""
    db.execute("DELETE FROM tallies")
    for statement in _tallies("true", ""):
        db.execute(statement)
    db.execute("DELETE FROM moves")
    db.execute("INSERT INTO moves (suggestion, before) VALUES (?, '')", (EVERYTHING,))
    note = "INSERT INTO moves (suggestion, before) VALUES (NEW.id, {});"
    # A finding is counted out of the two queues before one of its suggestions moves, and in again after that.
    theirs = "rank = OLD.rank AND queue IN (OLD.queue, NEW.queue)"
    new = "rank = NEW.rank AND queue = NEW.queue"
    moving, moved = (f"{when} UPDATE OF queue ON suggested WHEN OLD.queue != NEW.queue" for when in ("BEFORE", "AFTER"))
    added = [*_tallies(f"{new} AND id != NEW.id", "-"), *_tallies(new, "")]
    acts = (
        (moving, _tallies(theirs, "-")),
        (moved, [note.format(named_one(STATES, "OLD.queue")), *_tallies(theirs, "")]),
        ("AFTER INSERT ON suggested", [note.format("''"), *added]),
    )
    for name, (when, statements) in zip(TRIGGERS, acts, strict=True):
        db.execute(f"CREATE TRIGGER {name} {when} BEGIN {''.join(statements)} END")


def make_verdicts(db: sqlite3.Connection) -> None:
    """Count the owner's verdicts, and keep the counts from here on."""
    for old in ("TRIGGER IF EXISTS verdicts_told", "TRIGGER IF EXISTS verdicts_changed", "TABLE IF EXISTS verdicts"):
        db.execute(f"DROP {old}")
    db.execute(VERDICTS)
    for statement in _verdicts("d", "", "FROM decisions d"):
        db.execute(statement)
    told, taken = "".join(_verdicts("NEW", "+")), "".join(_verdicts("OLD", "-"))
    db.execute(f"CREATE TRIGGER verdicts_told AFTER INSERT ON decisions BEGIN {told} END")
    db.execute(f"CREATE TRIGGER verdicts_changed AFTER UPDATE ON decisions BEGIN {taken} {told} END")


def _verdicts(row: str, sign: str, table: str = "") -> list[str]:
    """The statements that count a row of `decisions` in or out, for its tag and for its issue."""
    level = band_of(f"{row}.confidence")
    return [
        f"INSERT INTO verdicts SELECT '{scope}', {name}, {band}, {sign}({row}.state = 'accepted'), {sign}1 {table}"
        f" WHERE {row}.state IN ('accepted', 'ignored') AND {row}.outcome IS NOT 'undone' AND {row}.action != 'pair' AND {known} IS NOT NULL"
        " ON CONFLICT (scope, name, band) DO UPDATE SET yes = yes + excluded.yes, answers = answers + excluded.answers;"
        for scope, name, band, known in (
            (TAG, f"{row}.tag", "0", f"{row}.tag"),
            (ISSUE, f"{row}.issue", level, f"{row}.issue || {row}.confidence"),
        )
    ]


def drop(db: sqlite3.Connection) -> None:
    """Stop updating the counts, before many rows change; `make` counts them again."""
    for name in TRIGGERS:
        db.execute(f"DROP TRIGGER IF EXISTS {name}")


@contextmanager
def kept(db: sqlite3.Connection, moves: int) -> Iterator[None]:
    """Within it about `moves` suggestions move: many are counted once at the end, few as they move."""
    if moves <= MANY:
        yield
        return
    drop(db)
    yield
    make(db)


def since(db: sqlite3.Connection, place: int | None) -> tuple[int, dict[int, str] | None]:
    """(number of the newest move, the state that each suggestion had before it moved after move `place`, "" for a new one).

    None instead of the states where all may have moved, or without a `place`.
    """
    newest = db.execute("SELECT ifnull(max(id), 0) FROM moves").fetchone()[0]
    if place is None:
        return newest, None
    before: dict[int, str] = {}
    for row in db.execute("SELECT suggestion, before FROM moves WHERE id > ? ORDER BY id", (place,)):
        before.setdefault(*row)
    return newest, None if EVERYTHING in before else before


def band(confidence: float) -> int:
    """The place in `BANDS` of a confidence.

    >>> band(0.3), band(0.5), band(0.93), band(1.0)
    (0, 1, 5, 6)
    """
    return max(place for place, low in enumerate(BANDS) if confidence >= low)


def _tallies(which: str, sign: str) -> list[str]:
    """The statements that count the suggestions of a condition, all of a finding in a queue, in ("") or out ("-").

    A finding is in the band of its surest suggestion there. Each has its own rank, and the indexes hold all that is counted.
    """
    out = []
    for scope, column in COLUMNS.items():
        name, band = "t.name" if scope == ALL else word_of("t.name"), "band" if scope in BANDED else "0"
        out.append(
            f"INSERT INTO tallies SELECT '{scope}', {name}, {named_one(STATES, 'queue')}, band, {sign}sum(f), {sign}sum(s), {sign}sum(e)"
            f" FROM (SELECT {column} AS name, queue, max({band}) AS band, 1 AS f, 0 AS s, 0 AS e FROM suggested WHERE {which}"
            " GROUP BY 1, queue, rank UNION ALL"
            f" SELECT {column}, queue, {band} AS level, 0, count(*), sum(CAST(round(sure / {SCALE / FACTOR}) AS INTEGER)) FROM suggested"
            f" WHERE {which} GROUP BY 1, queue, level) t GROUP BY t.name, queue, band ON CONFLICT (scope, name, state, band) DO UPDATE SET"
            " findings = findings + excluded.findings, suggestions = suggestions + excluded.suggestions,"
            " expected = expected + excluded.expected;"
        )
    return out
