"""Reading the findings index: which findings match, in which order, how many, and the counts of the overview.

Lists page by key: a finding's rank is its place in reviewing order, so "the next fifty" starts after a
rank and costs the same at the end of a hundred thousand findings as at the start.
"""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tagcheck.findings import BEFORE_VERDICTS
from tagcheck.review import counts
from tagcheck.review.counts import BANDS
from tagcheck.review.store import ACCEPTED, IGNORED, OPEN, PAIR, QUEUES, UNDONE, Ask, Key, Review

SURE, UNSURE, NEWEST = "sure", "unsure", "newest"
ORDERS = {
    SURE: ("rank", "ASC"),
    UNSURE: ("rank", "DESC"),
    NEWEST: ("newest", "ASC"),
}  # the column that an order walks along
ENOUGH_DECISIONS = 10
RIGHT = "state = ? AND outcome IS NOT ?"  # accepted, and not taken back since
PACED = 500  # events that the pace is measured on
PACE_FROM = 20  # decisions from which on it is believed
USUAL_PACE = 20.0  # a minute, until then
PAUSE = 60  # seconds after which the owner was doing something else
BULK = 60  # changes in one event above which it says nothing about a pace: more than a grid shows
SETTLING = 0.25  # minutes that it takes to get into another subject
COLUMNS = (
    "s.finding, s.rank, s.source, s.issue, s.hash, s.other, s.tag, s.namespace, s.action, s.place, s.confidence, s.why,"
    " s.evidence, s.state, s.current"
)


@dataclass(frozen=True)
class Filter:
    """Which suggestions a view shows. Empty means any; `least` and `most` bound the confidence (0 to 1), both included.

    `or_tag` shows another tag's beside those of `tag`, `series` those on pictures that have this series now, `changed` what
    was ignored and has become surer since.
    """

    state: str = OPEN
    issues: tuple[str, ...] = ()
    tag: str = ""
    or_tag: str = ""
    namespace: str = ""
    page: str = ""
    series: str = ""
    changed: bool = False
    hash: str = ""
    least: float = 0.0
    most: float = 1.0
    order: str = SURE


@dataclass(frozen=True)
class Suggestion:
    """One suggestion of a finding as the index has it, with the decision's version and what became of it."""

    key: Key
    issue: str
    confidence: float
    why: str
    evidence: dict[str, Any]
    state: str
    current: bool
    version: int
    decided_at: str | None
    reason: str | None
    batch: int | None
    confidence_then: float | None
    evidence_then: dict[str, Any] | None
    in_view: bool = True

    @property
    def detectors(self) -> float:
        """What the detector alone said, before earlier decisions moved the confidence."""
        return self.evidence.get(BEFORE_VERDICTS, self.confidence)

    def ask(self) -> Ask:
        """The wish to decide it as it was seen here. The detector's own confidence is what a decision is a test of."""
        return Ask(self.key, self.version, self.issue, self.detectors)


@dataclass(frozen=True)
class Finding:
    """One finding with its suggestions in the report's order; `body` is what else the report says about a pair."""

    id: str
    rank: int
    source: str
    issue: str
    hash: str
    other: str
    confidence: float
    current: bool
    body: dict[str, Any]
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def is_pair(self) -> bool:
        """Whether it is about two pictures."""
        return bool(self.other)


@dataclass(frozen=True)
class Count:
    """How many findings and how many suggestions match."""

    findings: int
    suggestions: int


@dataclass(frozen=True)
class Promise:
    """Of `of` decisions on suggestions like this one, `right` were accepted: `share`, between `low` and `high` (95 %, Wilson)."""

    right: int
    of: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Pace:
    """How many suggestions are decided in a minute, measured on `of` decisions (0: an assumption)."""

    a_minute: float
    of: int


@dataclass(frozen=True)
class Health:
    """How one tag stands: `open` suggestions, of which `expected` are right (`share`, by the detector's confidences and the owner's
    `decided` verdicts on this tag, which alone make `promise`), and how many fixes `a_minute` a session on it would bring.
    """

    tag: str
    open: int
    expected: float
    share: float
    decided: int
    promise: Promise | None
    a_minute: float


@dataclass
class Overview:
    """The numbers of the first page. `by_issue` holds open findings by issue and the confidence band
    (`BANDS`) of the surest suggestion that is open in them.
    """

    queues: dict[str, Count] = field(default_factory=dict)
    by_issue: dict[str, list[int]] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)


def page(
    review: Review, view: Filter, after: str | None = None, before: str | None = None, limit: int = 50
) -> list[Finding]:
    """Up to `limit` findings of a view in its order: those after (or before) the finding with this id, else the first.

    A finding matches when at least one of its suggestions does; its `suggestions` are all of them,
    `in_view` telling which match. The finding named need not match any longer.
    """
    ids = _ids(review, view, after, before, limit)
    return load(review, ids, view)


def step(review: Review, view: Filter, at: str, back: bool = False) -> str | None:
    """The id of the next (or previous) matching finding beside the one with id `at`, None at the end."""
    found = _ids(review, view, None if back else at, at if back else None, 1)
    return found[0] if found else None


def load(review: Review, ids: Sequence[str], view: Filter | None = None) -> list[Finding]:
    """The findings with these ids, in that order; ids that are not there are left out."""
    if not ids:
        return []
    marks = ",".join("?" * len(ids))
    heads = {row["id"]: row for row in review.db.execute(f"SELECT * FROM findings WHERE id IN ({marks})", ids)}
    where, values = _where(view) if view else ("1", [])
    rows = review.db.execute(
        f"SELECT {COLUMNS}, ({where}) AS in_view, d.version, d.decided_at, d.reason, d.batch, d.confidence AS confidence_then,"
        " d.evidence AS evidence_then"
        " FROM suggestions s LEFT JOIN decisions d ON d.hash = s.hash AND d.tag = s.tag AND d.action = s.action AND"
        " d.other = s.other"
        f" WHERE s.finding IN ({marks}) ORDER BY s.place, s.id",
        [*values, *ids],
    )
    by_finding: dict[str, list[Suggestion]] = {}
    for row in rows:
        by_finding.setdefault(row["finding"], []).append(_suggestion(row))
    return [_finding(heads[id], by_finding.get(id, [])) for id in ids if id in heads]


def count(review: Review, view: Filter) -> Count:
    """How many findings and suggestions match a view, exactly."""
    if view.state and _tallied(view):
        return queues(review, view).get(view.state, Count(0, 0))
    where, values = _where(view)
    row = review.db.execute(
        f"SELECT count(*), ifnull(sum(n), 0) FROM (SELECT count(*) AS n FROM suggestions s WHERE {where} GROUP BY s.rank)",
        values,
    ).fetchone()
    return Count(*row)


def queues(review: Review, view: Filter) -> dict[str, Count]:
    """The counts of a view in every queue."""
    if (tallied := _tallied(view)) is not None:
        where, values = tallied
        rows = review.db.execute(
            f"SELECT state, sum(findings), sum(suggestions) FROM tallies WHERE {where} GROUP BY state", values
        )
    else:
        where, values = _where(replace(view, state=""))
        rows = review.db.execute(
            f"SELECT state, count(*), sum(n) FROM (SELECT s.state AS state, count(*) AS n FROM suggestions s WHERE {where}"
            " GROUP BY s.state, s.rank) GROUP BY state",
            values,
        )
    found = {row[0]: Count(row[1], row[2]) for row in rows}
    return {queue: found.get(queue, Count(0, 0)) for queue in QUEUES}


def asks(review: Review, view: Filter, findings: Sequence[str] | None = None) -> list[Ask]:
    """What a bulk action on a view decides: each matching suggestion once, with the version it has now; of these findings only,
    if given.
    """
    where, values = _where(view)
    if findings is not None:
        where += f" AND s.finding IN ({','.join('?' * len(findings))})"
        values = [*values, *findings]
    rows = review.db.execute(
        "SELECT s.hash, s.tag, s.action, s.other, s.issue,"
        f" max(coalesce(json_extract(s.evidence, '$.{BEFORE_VERDICTS}'), s.confidence)) AS confidence, coalesce(d.version, 0) AS"
        " version FROM suggestions s"
        " LEFT JOIN decisions d ON d.hash = s.hash AND d.tag = s.tag AND d.action = s.action AND d.other = s.other"
        f" WHERE {where} GROUP BY s.hash, s.tag, s.action, s.other ORDER BY min(s.rank)",
        values,
    )
    return [
        Ask(Key(row["hash"], row["tag"], row["action"], row["other"]), row["version"], row["issue"], row["confidence"])
        for row in rows
    ]


def suggestions(review: Review, view: Filter) -> sqlite3.Cursor:
    """The matching suggestions as rows, in the view's order, for an export: read a row at a time."""
    where, values = _where(view)
    column, direction = ORDERS[view.order]
    return review.db.execute(
        f"SELECT {COLUMNS} FROM suggestions s WHERE {where} ORDER BY s.{column} {direction}, s.place", values
    )


def choices(review: Review, what: str) -> list[str]:
    """What the filters offer: the commonest "tags", all "namespaces", the library's "pages" and "series" with findings."""
    return json.loads(review.meta(f"choices_{what}", "[]"))


def picture(review: Review, hash: str) -> dict[str, Any] | None:
    """The dataset's record of one picture, with what was applied since put into its tags; None when there is none."""
    row = review.db.execute("SELECT record FROM pictures WHERE hash = ?", (hash,)).fetchone()
    if row is None:
        return None
    record = json.loads(row["record"])
    tags = set(record.get("existing_all_tags") or [])
    created = review.db.execute("SELECT created FROM sources WHERE kind = 'dataset'").fetchone()
    for change in review.db.execute(
        "SELECT tag, action FROM decisions WHERE hash = ? AND outcome = 'applied' AND decided_at >= ?",
        (hash, created["created"] if created else ""),
    ):
        (tags.add if change["action"] == "add" else tags.discard)(change["tag"])
    return record | {"existing_all_tags": sorted(tags)}


def others_on(review: Review, finding: Finding, limit: int = 8) -> list[sqlite3.Row]:
    """Other findings about the same picture or pair: id, issue, confidence."""
    hashes = [finding.hash, finding.other or finding.hash]
    return review.db.execute(
        "SELECT id, issue, confidence FROM findings WHERE current AND id != ? AND id IN"
        " (SELECT id FROM findings WHERE hash IN (?, ?) UNION SELECT id FROM findings WHERE other != '' AND other IN (?,"
        " ?)) ORDER BY rank LIMIT ?",
        (finding.id, *hashes, *hashes, limit),
    ).fetchall()


def copy_group(review: Review, hash: str) -> sqlite3.Row | None:
    """The group of copies that a picture is in, as the report has it: best, reasons, members; None where it has none."""
    return review.db.execute("SELECT best, reasons, members FROM copies WHERE hash = ?", (hash,)).fetchone()


def overview(review: Review) -> Overview:
    """Everything the first page counts, from the index alone."""
    made = Overview(queues=queues(review, Filter(state="")))
    rows = review.db.execute(
        "SELECT issue, band, findings FROM tallies WHERE scope = ? AND name = '' AND state = ? AND findings > 0",
        (counts.ALL, OPEN),
    )
    for row in rows:
        made.by_issue.setdefault(row["issue"], [0] * len(BANDS))[row["band"]] = row["findings"]
    for row in review.db.execute("SELECT * FROM sources"):
        made.sources[row["kind"]] = dict(row) | {"header": json.loads(row["header"])}
    made.runs = [
        dict(row) | {"summary": json.loads(row["summary"])}
        for row in review.db.execute("SELECT * FROM runs ORDER BY created, kind")
    ]
    return made


def promise(review: Review, issue: str, confidence: float) -> Promise | None:
    """How often the owner accepted what had this issue and a confidence of the same band; None below `ENOUGH_DECISIONS`."""
    place = counts.band(confidence)
    high = BANDS[place + 1] if place + 1 < len(BANDS) else 2.0
    row = review.db.execute(
        f"SELECT ifnull(sum({RIGHT}), 0) AS right, count(*) AS of FROM decisions"
        " WHERE issue = ? AND confidence >= ? AND confidence < ? AND state IN (?, ?) AND action != ?",
        (ACCEPTED, UNDONE, issue, BANDS[place], high, ACCEPTED, IGNORED, PAIR),
    ).fetchone()
    return interval(row["right"], row["of"])


def health(review: Review, pace: Pace) -> list[Health]:
    """How every tag with open suggestions stands: the sessions that mend most in a minute first."""
    rows = review.db.execute(
        "SELECT name, sum(suggestions), sum(expected) FROM tallies WHERE scope = ? AND state = ? AND name != issue GROUP BY name"
        " HAVING sum(suggestions) > 0",  # a pair has its kind for a tag
        (counts.TAG, OPEN),
    ).fetchall()
    verdicts = {
        row["tag"]: (row["right"], row["of"])
        for row in review.db.execute(
            f"SELECT tag, sum({RIGHT}) AS right, count(*) AS of FROM decisions WHERE state IN (?, ?) AND action != ? GROUP BY tag",
            (ACCEPTED, UNDONE, ACCEPTED, IGNORED, PAIR),
        )
    }
    made = [
        _health(name, open, expected / counts.FACTOR, *verdicts.get(name, (0, 0)), pace)
        for name, open, expected in rows
    ]
    return sorted(made, key=lambda one: (-one.a_minute, one.tag))


def _health(tag: str, open: int, expected: float, right: int, of: int, pace: Pace) -> Health:
    """The detector's estimate counts as much as `ENOUGH_DECISIONS` of the owner's own on this tag."""
    share = (right + ENOUGH_DECISIONS * expected / open) / (of + ENOUGH_DECISIONS)
    return Health(
        tag, open, share * open, share, of, interval(right, of), share * open / (open / pace.a_minute + SETTLING)
    )


def pace(review: Review) -> Pace:
    """How many suggestions the owner decides in a minute of working, by the newest `PACED` events of the history."""
    rows = review.db.execute(
        "SELECT e.at, (SELECT count(*) FROM event_changes c WHERE c.event = e.id) FROM events e ORDER BY e.id DESC LIMIT ?",
        (PACED,),
    ).fetchall()
    spent, decided = 0.0, 0
    for (at, changes), (before, _) in itertools.pairwise(rows):
        gap = (_time(at) - _time(before)).total_seconds()
        if gap <= PAUSE and changes <= BULK:
            spent += gap
            decided += changes
    return Pace(USUAL_PACE, 0) if decided < PACE_FROM or not spent else Pace(60 * decided / spent, decided)


def verdicts(review: Review, issues: Sequence[str]) -> dict[str, list[Promise | None]]:
    """The promise of each confidence band (`tallies.BANDS`) for those of the issues that have one anywhere."""
    made = {issue: [promise(review, issue, low) for low in BANDS] for issue in issues}
    return {issue: promises for issue, promises in made.items() if any(promises)}


def interval(right: int, of: int, enough: int = ENOUGH_DECISIONS) -> Promise | None:
    """A share with its 95 % interval (Wilson 1927), None when there are fewer than `enough` decisions.

    >>> made = interval(83, 100)
    >>> round(made.low, 2), made.share, round(made.high, 2)
    (0.74, 0.83, 0.89)
    """
    if of < enough:
        return None
    z, share = 1.96, right / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return Promise(right, of, share, max(middle - half, 0.0), min(middle + half, 1.0))


def _ids(review: Review, view: Filter, after: str | None, before: str | None, limit: int) -> list[str]:
    """Finding ids of one page. A rank is one finding's, so distinct ranks are distinct findings. A finding that is
    not known (any longer) is no place to go on from: the list then starts at its beginning.
    """
    where, values = _where(view)
    if _large(review, view):
        where = where.replace(
            "s.hash IN", "+s.hash IN"
        )  # looked up while walking along the order, which soon finds enough
    column, direction = ORDERS[view.order]
    backwards = before is not None
    start = review.db.execute(
        f"SELECT {column} FROM findings WHERE id = ?", (before if backwards else after,)
    ).fetchone()
    if start is not None:
        where += f" AND s.{column} {'<' if (direction == 'ASC') == backwards else '>'} ?"
        values = [*values, start[0]]
    if backwards:
        direction = "DESC" if direction == "ASC" else "ASC"
    rows = review.db.execute(
        f"SELECT DISTINCT s.finding, s.{column} FROM suggestions s WHERE {where} ORDER BY s.{column} {direction} LIMIT ?",
        [*values, limit],
    )
    found = [row[0] for row in rows]
    return found[::-1] if backwards else found


def _large(review: Review, view: Filter) -> bool:
    """Whether a page of the library, or a series, holds so many pictures that it is no place to start from."""
    tables = (("picture_pages", "page", view.page), ("picture_series", "series", view.series))
    return any(
        review.db.execute(f"SELECT 1 FROM {table} WHERE {column} = ? LIMIT 1 OFFSET 999", (value,)).fetchone()
        for table, column, value in tables
        if value
    )


def _where(view: Filter) -> tuple[str, list[Any]]:
    """The SQL condition on `suggestions s` that a filter stands for, and its values."""
    terms, values = ["s.state != 'gone'"], []

    def add(term: str, *given: Any) -> None:
        terms.append(term)
        values.extend(given)

    if view.state:
        terms.clear()
        add("s.state = ?", view.state)
    if view.issues:
        add(f"s.issue IN ({','.join('?' * len(view.issues))})", *view.issues)
    if view.or_tag:
        add("s.tag IN (?, ?)", view.tag, view.or_tag)
    elif view.tag:
        add("s.tag = ?", view.tag)
    if view.namespace:
        add("s.namespace = ?", view.namespace)
    if view.page:
        add("s.hash IN (SELECT hash FROM picture_pages WHERE page = ?)", view.page)
    if view.series:
        add("s.hash IN (SELECT hash FROM picture_series WHERE series = ?)", view.series)
    if view.changed:
        add("s.changed")
    if view.hash:
        add(
            "s.id IN (SELECT id FROM suggestions WHERE hash >= ? AND hash < ? UNION SELECT id FROM suggestions WHERE"
            " other != '' AND other >= ? AND other < ?)",
            *(view.hash, view.hash + "g") * 2,
        )
    if view.least > 0:
        add("s.confidence >= ?", view.least)
    if view.most < 1:
        add("s.confidence <= ?", view.most)
    return " AND ".join(terms), values


def _tallied(view: Filter) -> tuple[str, list[Any]] | None:
    """The SQL condition on `tallies` for a view that asks for no more than kinds and one tag or namespace; None for others."""
    finer = view.page or view.series or view.changed or view.or_tag or view.hash or view.least > 0 or view.most < 1
    if finer or (view.tag and view.namespace):
        return None
    scope = counts.TAG if view.tag else counts.NAMESPACE if view.namespace else counts.ALL
    where, values = "scope = ? AND name = ?", [scope, view.tag or view.namespace]
    if view.issues:
        where += f" AND issue IN ({','.join('?' * len(view.issues))})"
        values += view.issues
    return where, values


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _suggestion(row: sqlite3.Row) -> Suggestion:
    return Suggestion(
        Key(row["hash"], row["tag"], row["action"], row["other"]),
        row["issue"],
        row["confidence"],
        row["why"],
        json.loads(row["evidence"]),
        row["state"],
        bool(row["current"]),
        row["version"] or 0,
        row["decided_at"],
        row["reason"],
        row["batch"],
        row["confidence_then"],
        json.loads(row["evidence_then"]) if row["evidence_then"] else None,
        bool(row["in_view"]),
    )


def _finding(row: sqlite3.Row, rows: list[Suggestion]) -> Finding:
    return Finding(
        row["id"],
        row["rank"],
        row["source"],
        row["issue"],
        row["hash"],
        row["other"],
        row["confidence"],
        bool(row["current"]),
        json.loads(row["body"]),
        tuple(rows),
    )


def finding_of(review: Review, key: Key) -> str | None:
    """The finding to show a suggestion under, the current one of highest rank; None when no report has it."""
    row = review.db.execute(
        "SELECT finding FROM suggestions WHERE hash = ? AND tag = ? AND action = ? AND other = ? ORDER BY current DESC,"
        " rank LIMIT 1",
        (key.hash, key.tag, key.action, key.other),
    ).fetchone()
    return row["finding"] if row else None


def distinct(review: Review, view: Filter) -> int:
    """How many different suggestions match: what a bulk action on the view decides, where two detectors say the same."""
    where, values = _where(view)
    return review.db.execute(
        f"SELECT count(*) FROM (SELECT DISTINCT s.hash, s.tag, s.action, s.other FROM suggestions s WHERE {where})",
        values,
    ).fetchone()[0]


def pictures_of(review: Review, view: Filter) -> list[tuple[str, str]]:
    """(hash, other hash or "") of every finding of a view, in its order."""
    where, values = _where(view)
    column, direction = ORDERS[view.order]
    rows = review.db.execute(
        f"SELECT hash, other FROM findings WHERE rank IN (SELECT s.rank FROM suggestions s WHERE {where}) ORDER BY"
        f" {column} {direction}",
        values,
    )
    return [tuple(row) for row in rows]
