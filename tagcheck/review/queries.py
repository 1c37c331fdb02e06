"""Reading the findings index: which findings match, in which order, how many, and the counts of the overview.

A finding's rank is its place in reviewing order. A page of a list starts after a rank, so the last page costs as much as
the first.
"""

import itertools
import json
import random
import re
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from tagcheck import detectors, sqlite
from tagcheck.best_copy import best_copy
from tagcheck.data_folder import isoformat, utc_now
from tagcheck.dataset import Record
from tagcheck.findings import BEFORE_VERDICTS
from tagcheck.intervals import at_least, wilson
from tagcheck.review import counts, numbers, store
from tagcheck.review.counts import BANDS
from tagcheck.review.numbers import STATES, begin, named_by, named_one, word
from tagcheck.review.store import Ask, Key, Review
from tagcheck.review.taken_back import WHY

PAIR_KINDS = detectors.issues(detectors.PAIRS)
SURE, UNSURE, NEWEST = "sure", "unsure", "newest"
# The column that an order walks along, and the direction.
ORDERS = {SURE: ("rank", "ASC"), UNSURE: ("rank", "DESC"), NEWEST: ("newest", "ASC")}
ENOUGH_DECISIONS = 10
RIGHT = "state = ? AND outcome IS NOT ?"  # accepted, and not taken back since
PACED = 500  # events that the pace is measured on
PACE_FROM = 20  # decisions from which on it is believed
USUAL_PACE = 20.0  # a minute, until then
PAUSE = 60  # seconds after which the owner was doing something else
BREAK = 600  # seconds after which another session begins
SESSION = 5000  # events of one session at the most
BULK = 60  # changes in one event above which it says nothing about a pace: more than a grid shows
SETTLING = 0.25  # minutes that it takes to get into another subject
COLUMNS = (
    "s.finding, s.rank, s.source, s.issue, s.issues, s.hash, s.other, s.tag, s.namespace, s.action, s.place, s.confidence,"
    " s.why, s.evidence, s.state, s.current"
)
DECISION = ("decided_at", "reason", "batch")
DECIDED = "d.version, d.decided_at, d.reason, d.batch, d.confidence AS confidence_then, d.evidence AS evidence_then"
DECIDED_SUGGESTIONS = "suggestions s LEFT JOIN decisions d USING (hash, tag, action, other)"
FIRST_WHY = (  # of the surest tag of a finding, and of its surest pair
    "CASE row_number() OVER (PARTITION BY s.card, s.partner ORDER BY s.sure DESC, s.place, s.id) WHEN 1 THEN s.why"
    " ELSE '' END"
)
BRIEFLY = COLUMNS.replace("s.why", f"{FIRST_WHY} AS why").replace("s.evidence", "'{}' AS evidence") + (
    ", NULL AS version, NULL AS decided_at, NULL AS reason, NULL AS batch, NULL AS confidence_then, NULL AS evidence_then"
)
IN_A_QUEUE = f"s.queue != {STATES.index(store.GONE)}"
STARTS_WITH = (
    "s.id IN (SELECT o.id FROM hashes n JOIN suggested o ON o.picture = n.id OR (o.partner AND o.partner = n.id)"
    f" WHERE {begin('n.name')} >= {begin('?')} AND {begin('n.name')} <= {begin('?')} AND lower(hex(n.name)) >= ? AND lower(hex(n.name)) < ?)"
)
SAMPLED = f"s.id IN (SELECT o.id FROM sample_keys k JOIN suggested o ON {named_by('k', 'o')} WHERE k.sample = ?)"
BATCHED = f"s.id IN (SELECT o.id FROM (SELECT *, '' AS other FROM batches) b JOIN suggested o ON {named_by('b', 'o')} WHERE b.name IN ({{}}))"
STATE = named_one(STATES, "s.queue")
# Of a picture, by the ledger: what the library was found to have, was given or was taken off again since the dataset was made.
WRITTEN_SINCE = (
    "SELECT tag, (action = 'add') = (goal = 'apply') FROM ledger_rows WHERE hash = ? AND status IN ('applied', 'written', 'undone', 'settled')"
    " AND (stored_tag NOTNULL OR status = 'settled')"  # else it was withdrawn before it was written
    " AND changed >= ifnull((SELECT created FROM sources WHERE kind = 'dataset'), '') ORDER BY changed, id"
)
IN_TAG = "tag_rank"  # the column that a view of one tag walks along: the tag's own order


@dataclass(frozen=True)
class Filter:
    """Which suggestions a view shows. Empty means any; `least` and `most` bound the confidence (0 to 1), both included.

    `or_tag` shows another tag's beside those of `tag`, `series` those on pictures that have this series now, `changed` what
    was ignored and has become surer since, `sample` those drawn for a sample, `batches` those that a detector offers together under one of these names.
    """

    state: str = store.OPEN
    issues: tuple[str, ...] = ()
    tag: str = ""
    or_tag: str = ""
    namespace: str = ""
    page: str = ""
    series: str = ""
    changed: bool = False
    hash: str = ""
    sample: int = 0
    batches: tuple[str, ...] = ()
    least: float = 0.0
    most: float = 1.0
    order: str = SURE


@dataclass(frozen=True)
class Suggestion:
    """One suggestion of a finding as the index has it, with the decision's version and what became of it."""

    key: Key
    issue: str
    issues: tuple[str, ...]  # all kinds that it was said under
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
        return float(self.evidence.get(BEFORE_VERDICTS, self.confidence))

    def ask(self) -> Ask:
        """The wish to decide it as it was seen here. The detector's own confidence is what a decision is a test of."""
        return Ask(self.key, self.version, self.issue, self.detectors)


@dataclass(frozen=True)
class Finding:
    """One picture, or a group of copies (`members`), with all that is suggested for it, the surest first."""

    id: str
    rank: int
    issue: str
    hash: str
    other: str
    members: tuple[str, ...]
    confidence: float
    current: bool
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def is_pair(self) -> bool:
        """Whether it is about copies, two or more."""
        return bool(self.other)

    @property
    def shown(self) -> Sequence[Suggestion]:
        """What a view asks about it, the surest first; of copies their tags, else the pairs themselves."""
        asked = [one for one in self.suggestions if one.in_view]
        return [one for one in asked if one.key.action != store.PAIR] or asked

    @property
    def sureness(self) -> float:
        """The confidence to show in a view: that of the surest suggestion that is in it."""
        return max((one.confidence for one in self.shown), default=self.confidence)


@dataclass(frozen=True)
class Count:
    """How many findings and how many suggestions match."""

    findings: int
    suggestions: int


@dataclass(frozen=True)
class Counted:
    """The counts of a view by state ("" for all queues together, if asked for), as they were after move number `place`."""

    by_state: dict[str, Count]
    place: int = 0

    def of(self, state: str) -> Count:
        return self.by_state.get(state, Count(0, 0))

    def queues(self) -> dict[str, Count]:
        return {queue: self.of(queue) for queue in store.QUEUES}


@dataclass(frozen=True)
class Measured:
    """Of `of` decisions on suggestions like this one, `right` were accepted: `share`, between `low` and `high` (95 %, Wilson)."""

    right: int
    of: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Sample:
    """`drawn` of `of` suggestions alike, looked at one by one: `decided` so far, `right` of them accepted. `event` is the step of
    the history in which the others were accepted.
    """

    id: int
    view: Filter
    of: int
    drawn: int
    decided: int
    right: int
    event: int | None

    @property
    def at_least(self) -> float:
        """The share of all that is right, with 95 % certainty."""
        return at_least(self.right, self.decided) if self.decided else 0.0


@dataclass(frozen=True)
class Pace:
    """How many suggestions are decided in a minute, measured on `of` decisions (0: an assumption)."""

    a_minute: float
    of: int


@dataclass(frozen=True)
class Session:
    """What was decided since the last pause: suggestions `accepted` and `ignored`, in so many `seconds`."""

    accepted: int = 0
    ignored: int = 0
    seconds: float = 0.0

    @property
    def decided(self) -> int:
        return self.accepted + self.ignored

    @property
    def minutes(self) -> int:
        return round(self.seconds / 60)

    @property
    def a_minute(self) -> float:
        return 60 * self.decided / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Health:
    """How one tag stands: `open` suggestions, of which `expected` are right (`share`, by the detector's confidences and the owner's
    `decided` verdicts on this tag, which alone make `measured_share`), and how many fixes `a_minute` a session on it would bring.
    """

    tag: str
    open: int
    expected: float
    share: float
    decided: int
    measured_share: Measured | None
    a_minute: float


@dataclass
class Overview:
    """The numbers of the first page. `by_issue` holds open suggestions, by issue and confidence band (`BANDS`)."""

    queues: dict[str, Count] = field(default_factory=dict)
    by_issue: dict[str, list[int]] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)


def page(
    review: Review,
    view: Filter,
    after: str | None = None,
    before: str | None = None,
    limit: int = 50,
    brief: bool = False,
) -> list[Finding]:
    """Up to `limit` findings of a view in its order: those after (or before) the finding with this id, else the first.

    A finding matches when at least one of its suggestions does; its `suggestions` are all of them,
    `in_view` telling which match. The finding named need not match any longer.
    """
    return load(review, _ids(review, view, after, before, limit), view, brief)


def step(review: Review, view: Filter, at: str, back: bool = False) -> str | None:
    """The id of the next (or previous) matching finding beside the one with id `at`, None at the end."""
    found = _ids(review, view, None if back else at, at if back else None, 1)
    return found[0] if found else None


def load(review: Review, ids: Sequence[str], view: Filter | None = None, brief: bool = False) -> list[Finding]:
    """The findings with these ids that are there, in that order; `brief`: only what matches, without its evidence."""
    if not ids:
        return []
    cards = review.db.execute(f"SELECT * FROM findings WHERE card IN ({_marks(ids)})", [*map(store.card_number, ids)])
    heads = {row["id"]: row for row in cards}
    where, values = _where(view, by_row=True) if view else ("1", [])
    columns, table = (BRIEFLY, "suggestions s") if brief else (f"{COLUMNS}, {DECIDED}", DECIDED_SUGGESTIONS)
    rows = review.db.execute(
        f"SELECT {columns}, ({where}) AS in_view FROM {table}"
        f" WHERE s.rank IN ({_marks(heads)}){' AND in_view' if brief else ''} ORDER BY s.sure DESC, s.place, s.id",
        [*values, *(row["rank"] for row in heads.values())],
    )
    by_finding: dict[str, list[Suggestion]] = {}
    found = rows.fetchall()
    evidences = itertools.repeat({}) if brief else numbers.named(review.db, (row["evidence"] for row in found))
    for row, evidence in zip(found, evidences):
        by_finding.setdefault(row["finding"], []).append(_suggestion(row, evidence))
    return [_finding(heads[id], by_finding.get(id, [])) for id in ids if id in heads]


def counted(review: Review, view: Filter, known: Counted | None = None) -> Counted:
    """A view's counts in every queue, also together if it is of any queue. With `known` counts, only moves since are counted."""
    if (tallied := _tallied(view)) is not None and view.state:
        where, values = tallied
        sums = f"SELECT state, sum(findings), sum(suggestions) FROM tallies WHERE {where} GROUP BY state"
        return Counted({row[0]: Count(row[1], row[2]) for row in review.db.execute(sums, values)})
    with sqlite.within(review.db, write=False):
        place, moved = counts.since(review.db, known.place if known else None)
        if known is None or moved is None or view.changed:
            return Counted(_count_all(review, view), place)
        return Counted(_count_moved(review, view, known.by_state, moved), place) if moved else known


def _count_all(review: Review, view: Filter) -> dict[str, Count]:
    where, values = _where(replace(view, state=""))
    each = f"SELECT {STATE} AS state, count(*) AS n FROM suggested s WHERE {where} GROUP BY"
    by_state = f"SELECT state, count(*), sum(n) FROM ({each} s.queue, s.rank) GROUP BY state"
    together = f"SELECT '', count(*), ifnull(sum(n), 0) FROM ({each} s.rank)"
    rows = [row for query in [by_state] + [together] * (not view.state) for row in review.db.execute(query, values)]
    return {state: Count(findings, suggestions) for state, findings, suggestions in rows}


def _count_moved(review: Review, view: Filter, found: dict[str, Count], before: dict[int, str]) -> dict[str, Count]:
    """The counts `found`, updated for suggestions that were in the states `before`: only their findings are read."""
    where, values = _where(replace(view, state=""), by_row=True)
    rows = review.db.execute(
        f"SELECT s.id, s.rank, {STATE} FROM (SELECT DISTINCT m.rank FROM json_each(?) e JOIN suggested m ON m.id = e.value) r"
        f" CROSS JOIN suggested s ON s.rank = r.rank WHERE {where.replace(IN_A_QUEUE, '1')}",
        [json.dumps(list(before)), *values],
    ).fetchall()
    numbers = {state: [one.findings, one.suggestions] for state, one in found.items()}
    for sign, states in ((-1, before), (1, {})):
        seen = set()
        for id, rank, now in rows:
            state = states.get(id, now)
            for queue in {state, "" if "" in found else state} if state not in ("", store.GONE) else ():
                number = numbers.setdefault(queue, [0, 0])
                number[0] += sign * ((rank, queue) not in seen)
                number[1] += sign
                seen.add((rank, queue))
    return {state: Count(*both) for state, both in numbers.items()}


def asks(review: Review, view: Filter, findings: Sequence[str] | None = None) -> list[Ask]:
    """What a bulk action decides: each matching suggestion once, as it is now; of these `findings` only, if given."""
    where, values = _where(view)
    if findings is not None:
        where += f" AND s.rank IN (SELECT rank FROM cards WHERE id IN ({_marks(findings)}))"
        values = [*values, *map(store.card_number, findings)]
    named = "s.hash, s.tag, s.action, s.other, coalesce(d.version, 0), s.issue, coalesce(s.alone, s.confidence)"
    query = f"SELECT {named} FROM {DECIDED_SUGGESTIONS} WHERE {where} ORDER BY s.rank, s.id"
    return [Ask(Key(*row[:4]), *row[4:]) for row in review.db.execute(query, values)]


def suggestions(review: Review, view: Filter, by_picture: bool = False) -> sqlite3.Cursor:
    """The matching suggestions, a row at a time, in the view's order or with those of a picture together (for an export)."""
    where, values = _where(view)
    column, direction = _walk(view)
    order = "s.hash, s.confidence DESC, s.tag" if by_picture else f"s.{column} {direction}, s.place"
    return review.db.execute(f"SELECT {COLUMNS} FROM suggestions s WHERE {where} ORDER BY {order}", values)


def choices(review: Review, what: str) -> list[str]:
    """What the filters offer: all "namespaces", the library's "pages" and "series" with findings, "batches"."""
    return cast("list[str]", json.loads(review.meta(f"choices_{what}", "[]")))


def picture(review: Review, hash: str) -> dict[str, Any] | None:
    """The dataset's record of one picture, its tags with what was written or taken back since; None where there is no record."""
    its = f"SELECT {numbers.text('record')} FROM records WHERE picture = {numbers.picture('?')}"
    kept = review.value(its, hash)
    if kept is None:
        return None
    record = {"hash": hash} | numbers.named(review.db, [kept], numbers.TAG_LISTS)[0]
    tags = set(record.get("existing_all_tags") or [])
    for tag, has in review.db.execute(WRITTEN_SINCE, (hash,)) if sqlite.has(review.db, "ledger_rows") else ():
        (tags.add if has else tags.discard)(tag)
    return record | {"existing_all_tags": sorted(tags)}


def best_of(review: Review, members: Sequence[str]) -> tuple[str, str]:
    """The copy to keep of some pictures and why: the report's word, else the same rule asked of the dataset's records."""
    group = review.db.execute("SELECT best, reasons FROM copies WHERE hash = ?", (members[0],)).fetchone()
    if group is not None and group["best"] in members:
        return group["best"], group["reasons"]
    raw = [(hash, picture(review, hash) or {}) for hash in members]
    tagged = [Record(hash, frozenset(one.get("existing_all_tags") or ()), raw=one) for hash, one in raw]
    place, reasons = best_copy(tagged)
    return members[place], "; ".join(reasons)


def copy_groups(review: Review) -> list[tuple[str, ...]]:
    """Every group of copies that the owner has not called different."""
    asked = "EXISTS (SELECT 1 FROM suggested s WHERE s.rank = f.rank AND s.partner AND s.queue != ?)"
    query = f"SELECT members FROM findings f WHERE partner AND current AND {asked} ORDER BY rank"
    return [tuple(json.loads(row[0])) for row in review.db.execute(query, (STATES.index(store.IGNORED),))]


def taken_back(review: Review) -> set[tuple[str, str, str]]:
    """The applied changes, (hash, tag, action), that their owner took back in the library."""
    rows = review.db.execute(
        "SELECT hash, tag, action FROM decisions WHERE state = ? AND reason = ?", (store.IGNORED, WHY)
    )
    return {(row["hash"], row["tag"], row["action"]) for row in rows}


def uses(review: Review, tag: str) -> int:
    """How many pictures of the library have a tag."""
    return int(review.value("SELECT uses FROM library_tags WHERE tag = ?", tag) or 0)


def complete(review: Review, start: str, limit: int = 20) -> list[tuple[str, int]]:
    """The library's commonest tags that hold these words: (tag, pictures), those that start with them first."""
    pattern = "".join(f"\\{one}" if one in "\\%_" else one for one in start)
    rows = review.db.execute(
        "SELECT tag, uses FROM library_tags WHERE tag LIKE ?1 ESCAPE '\\'"
        " ORDER BY tag NOT LIKE ?2 ESCAPE '\\' AND tag NOT LIKE ?3 ESCAPE '\\', uses DESC, tag LIMIT ?4",
        (f"%{pattern}%", f"{pattern}%", f"%:{pattern}%", limit),
    )
    return [tuple(row) for row in rows]


def ignored_in(review: Review, event: int) -> list[Key]:
    """What one event of the history ignored and is ignored still."""
    both = "event_changes JOIN decisions USING (hash, tag, action, other)"
    query = f"SELECT hash, tag, action, other FROM {both} WHERE event = ? AND after = ?2 AND state = ?2"
    return [Key(*row) for row in review.db.execute(query, (event, store.IGNORED))]


def pictures_with(review: Review, tags: Sequence[str]) -> int:
    """How many of the pictures that have a record here have all these tags."""
    one = f"EXISTS (SELECT 1 FROM json_each(p.record, '$.existing_all_tags') t WHERE t.value = {word('?')})"
    has = " AND ".join([one] * len(tags))
    read = f"SELECT {numbers.text('record')} AS record FROM records ORDER BY records.record LIMIT -1"  # the limit lets each be unpacked but once
    return int(review.value(f"SELECT count(*) FROM ({read}) p WHERE {has}", *tags))


def draw_sample(review: Review, view: Filter, size: int, rng: random.Random) -> tuple[int, int]:
    """Draw so many of a view's suggestions at random, to be looked at one by one: (the sample's number, how many it is drawn from)."""
    found = asks(review, view)
    drawn = rng.sample(found, min(size, len(found)))
    with review.writing() as db:
        new = "INSERT INTO samples (at, view, of) VALUES (?, ?, ?) RETURNING id"
        number = int(review.value(new, isoformat(utc_now()), json.dumps(asdict(view)), len(found)))
        db.executemany("INSERT INTO sample_keys VALUES (?, ?, ?, ?, ?)", [(number, *ask.key) for ask in drawn])
    return number, len(found)


def sample(review: Review, number: int) -> Sample | None:
    """A sample as it stands; None where there is none with this number."""
    row = review.db.execute("SELECT * FROM samples WHERE id = ?", (number,)).fetchone()
    if row is None:
        return None
    given = json.loads(row["view"])
    view = Filter(**given | {name: tuple(given.get(name, ())) for name in ("issues", "batches")})
    counted = review.db.execute(
        f"SELECT count(*) AS drawn, ifnull(sum({RIGHT}), 0) AS right, ifnull(sum(state IN (?, ?)), 0) AS decided FROM sample_keys"
        " LEFT JOIN decisions USING (hash, tag, action, other) WHERE sample = ?",
        (store.ACCEPTED, store.UNDONE, store.ACCEPTED, store.IGNORED, number),
    ).fetchone()
    return Sample(number, view, row["of"], counted["drawn"], counted["decided"], counted["right"], row["event"])


def note_sample(review: Review, number: int, event: int | None) -> None:
    """Keep with a sample the step of the history that it was the reason for."""
    with review.writing() as db:
        db.execute("UPDATE samples SET event = ? WHERE id = ?", (event, number))


def samples_behind(review: Review, batch: int) -> list[tuple[str, int]]:
    """(what was accepted after which sample, how many changes of a batch of the ledger come from that), the oldest first."""
    query = (
        "SELECT e.label, count(*) FROM samples s JOIN events e ON e.id = s.event JOIN event_changes c ON c.event = e.id"
        " JOIN ledger_rows r USING (hash, tag, action) WHERE r.batch = ? GROUP BY s.id"
    )
    return [tuple(row) for row in review.db.execute(query, (batch,))]


def overview(review: Review) -> Overview:
    """Everything the first page counts, from the index alone."""
    made = Overview(queues=counted(review, Filter()).queues())
    query = "SELECT name, band, sum(suggestions) FROM tallies WHERE scope = ? AND state = ? GROUP BY name, band"
    for issue, band, number in review.db.execute(query, (counts.ISSUE, store.OPEN)):
        if number:
            made.by_issue.setdefault(issue, [0] * len(BANDS))[band] = number
    for row in review.db.execute("SELECT * FROM sources"):
        made.sources[row["kind"]] = dict(row) | {"header": json.loads(row["header"])}
    for row in review.db.execute("SELECT * FROM runs ORDER BY created, kind"):
        made.runs.append(dict(row) | {"summary": json.loads(row["summary"])})
    return made


def measured_share(review: Review, issue: str, confidence: float) -> Measured | None:
    """How often the owner accepted what had this issue and a confidence of the same band; None below `ENOUGH_DECISIONS`."""
    query = "SELECT yes, answers FROM verdicts WHERE scope = ? AND name = ? AND band = ?"
    row = review.db.execute(query, (counts.ISSUE, issue, counts.band(confidence))).fetchone()
    return interval(*row) if row else None


def health(review: Review, pace: Pace, most: int = -1, namespace: str = "") -> list[Health]:
    """How every tag with open suggestions stands, or the first `most`, or those of a namespace: the sessions that fix most in a
    minute first. The detector's estimate counts as much as `ENOUGH_DECISIONS` of the owner's own on a tag.
    """
    first, last = (f"{namespace}:", f"{namespace};") if namespace else ("", "\U0010ffff")
    enough, pairs = float(ENOUGH_DECISIONS), json.dumps(PAIR_KINDS)
    rows = review.db.execute(
        f"SELECT name, open, share, yes, answers, share * open / (open / ? + {SETTLING}) AS a_minute FROM (SELECT t.name, suggestions AS"
        f" open, ifnull(yes, 0) AS yes, ifnull(answers, 0) AS answers, (ifnull(yes, 0) + {enough} * expected / {counts.FACTOR}.0 /"
        f" suggestions) / (ifnull(answers, 0) + {enough}) AS share FROM tallies t LEFT JOIN verdicts v ON v.scope = t.scope AND"
        f" v.name = t.name AND v.band = 0 WHERE t.scope = '{counts.TAG}' AND t.name >= ? AND t.name < ? AND state = '{store.OPEN}' AND suggestions > 0"
        " AND t.name NOT IN (SELECT value FROM json_each(?)))"  # a pair has its kind for a tag
        " ORDER BY a_minute DESC, name LIMIT ?",
        (pace.a_minute, first, last, pairs, most),
    )
    return [
        Health(tag, open, share * open, share, answers, interval(yes, answers), a_minute)
        for tag, open, share, yes, answers, a_minute in rows
    ]


def pace(review: Review) -> Pace:
    """How many suggestions the owner decides in a minute of working, by the newest `PACED` events of the history."""
    changes = "(SELECT count(*) FROM event_changes c WHERE c.event = e.id) AS changes"
    newest = f"SELECT e.id, strftime('%s', e.at) AS at, {changes} FROM events e ORDER BY e.id DESC LIMIT ?"
    spent, decided = review.db.execute(
        f"SELECT ifnull(sum(gap), 0.0), ifnull(sum(changes), 0) FROM (SELECT at - lag(at) OVER (ORDER BY id) AS gap, changes FROM ({newest}))"
        " WHERE gap <= ? AND changes <= ?",
        (PACED, PAUSE, BULK),
    ).fetchone()
    return Pace(USUAL_PACE, 0) if decided < PACE_FROM or not spent else Pace(60 * decided / spent, decided)


def session(review: Review) -> Session:
    """The decisions since the last pause of `BREAK` seconds, but those that it took back: how many, and how long they took."""
    answered = "(SELECT coalesce(sum((c.after = {0}) - (c.before = {0})), 0) FROM event_changes c WHERE c.event = e.id)"
    rows = review.db.execute(
        f"SELECT e.at, {answered.format('?1')}, {answered.format('?2')} FROM events e WHERE e.status = 'done' ORDER BY e.id DESC LIMIT ?3",
        (store.ACCEPTED, store.IGNORED, SESSION),
    )
    accepted, ignored, last, ended = 0, 0, utc_now(), None
    for at, more_accepted, more_ignored in rows:
        now = datetime.fromisoformat(at)
        if (last - now).total_seconds() > BREAK:
            break
        last, ended = now, ended or now
        accepted, ignored = accepted + more_accepted, ignored + more_ignored
    return Session(max(accepted, 0), max(ignored, 0), (ended - last).total_seconds() if ended else 0.0)


def decided_between(review: Review, start: str, end: str) -> int:
    """How many suggestions stand accepted or ignored since a decision between two times."""
    query = "SELECT count(*) FROM decisions WHERE state IN (?, ?) AND action != ? AND decided_at BETWEEN ? AND ?"
    return int(review.value(query, store.ACCEPTED, store.IGNORED, store.PAIR, start, end))


def verdicts(review: Review, issues: Sequence[str]) -> dict[str, list[Measured | None]]:
    """The share that was right in each confidence band (`counts.BANDS`) for those of the issues that have one anywhere."""
    query = "SELECT name, band, yes, answers FROM verdicts WHERE scope = ?"
    rows = review.db.execute(query, (counts.ISSUE,))
    found = {(issue, band): interval(yes, answers) for issue, band, yes, answers in rows}
    made = {issue: [found.get((issue, place)) for place in range(len(BANDS))] for issue in issues}
    return {issue: shares for issue, shares in made.items() if any(shares)}


def interval(right: int, of: int) -> Measured | None:
    """A share with its 95 % interval (Wilson 1927), None when there are fewer than `ENOUGH_DECISIONS`.

    >>> made = interval(83, 100)
    >>> round(made.low, 2), made.share, round(made.high, 2)
    (0.74, 0.83, 0.89)
    """
    return None if of < ENOUGH_DECISIONS else Measured(right, of, right / of, *wilson(right, of))


def _ids(review: Review, view: Filter, after: str | None, before: str | None, limit: int) -> list[str]:
    """Finding ids of one page (each has its own rank); from the start where `after` or `before` is not known."""
    where, values = _where(view, by_row=_large(review, view))  # the walk along the order soon finds enough
    column, direction = _walk(view)
    backwards = before is not None
    start = _place(review, view, column, before if backwards else after)
    if start is not None:
        where += f" AND s.{column} {'<' if (direction == 'ASC') == backwards else '>'} ?"
        values = [*values, start]
    if backwards:
        direction = "DESC" if direction == "ASC" else "ASC"
    rows = review.db.execute(
        f"SELECT DISTINCT printf('%016x', s.card), s.{column} FROM suggested s WHERE {where} ORDER BY s.{column} {direction} LIMIT ?",
        [*values, limit],
    )
    found = [row[0] for row in rows]
    return found[::-1] if backwards else found


def _walk(view: Filter) -> tuple[str, str]:
    """The column that a view walks along, and the direction: with one tag, that tag's own order."""
    column, direction = ORDERS[view.order]
    return (IN_TAG if view.tag and not view.or_tag and column == "rank" else column), direction


def _place(review: Review, view: Filter, column: str, finding: str | None) -> int | None:
    """Where a finding stands in that order."""
    if not finding:
        return None
    sql, values = f"SELECT {column} FROM cards WHERE id = ?", list[Any]([store.card_number(finding)])
    if column == IN_TAG:
        rank = "(SELECT rank FROM cards WHERE id = ?)"
        sql, values = f"SELECT tag_rank FROM suggested WHERE rank = {rank} AND word = {word('?')}", [*values, view.tag]
    return cast("int | None", review.value(sql, *values))


def _large(review: Review, view: Filter) -> bool:
    """Whether the view's page or series has 1,000 pictures or more, so that a search should not start from them."""
    tables = (("picture_pages", "page", view.page), ("picture_series", "series", view.series))
    return any(
        review.value(f"SELECT 1 FROM {table} WHERE {column} = {word('?')} LIMIT 1 OFFSET 999", value)
        for table, column, value in tables
        if value
    )


def _where(view: Filter, by_row: bool = False) -> tuple[str, list[Any]]:
    """A filter as an SQL condition on `suggestions s`, and its values; `by_row` where few rows are read, or many match."""
    of = f"EXISTS (SELECT 1 FROM {{0}} p WHERE p.{{1}} = {word('?')} AND p.picture = s.picture)"
    of = of if by_row else f"s.picture IN (SELECT picture FROM {{0}} WHERE {{1}} = {word('?')})"
    told: list[tuple[str, tuple[Any, ...]]] = [  # each counts where it has values
        ("s.queue = ?", (STATES.index(view.state) if view.state in STATES else -1,) if view.state else ()),
        (f"s.kind IN ({', '.join([word('?')] * len(view.issues))})", view.issues),
        (
            f"s.word IN ({word('?')}, {word('?')})" if view.or_tag else f"s.word = {word('?')}",
            _given(view.tag, view.or_tag),
        ),
        (f"s.space = {word('?')}", _given(view.namespace)),
        (f"s.sure >= {counts.SCALE} * ?", _given(max(view.least, 0))),
        (f"s.sure <= {counts.SCALE} * ?", (view.most,) if view.most < 1 else ()),
        (of.format("picture_pages", "page"), _given(view.page)),
        (of.format("picture_series", "series"), _given(view.series)),
        (STARTS_WITH, _starting(view.hash) if view.hash else ()),
        (SAMPLED, _given(view.sample)),
        (BATCHED.format(_marks(view.batches)), view.batches),
    ]
    terms = [term for term, values in told if values] + ["s.changed"] * view.changed
    return " AND ".join(terms if view.state else [IN_A_QUEUE, *terms]), [one for _, values in told for one in values]


def _starting(hash: str) -> tuple[Any, ...]:
    """The values of `STARTS_WITH`: bounds of whole bytes, which an index knows, and of the digits themselves."""
    digits = hash if re.fullmatch("[0-9a-f]{1,64}", hash) else ""
    return bytes.fromhex(digits.ljust(64, "0")), bytes.fromhex(digits.ljust(64, "f")), hash, hash + "g"


def _given(*values: Any) -> tuple[Any, ...]:
    """Those values that say something."""
    return tuple(filter(None, values))


def _marks(values: Collection[Any]) -> str:
    return ",".join("?" * len(values))


def _tallied(view: Filter) -> tuple[str, list[Any]] | None:
    """The SQL condition on `tallies` for a view that asks for no more than one kind, tag or namespace; None for others."""
    finer = view != Filter(view.state, view.issues, view.tag, namespace=view.namespace, order=view.order)
    named = {counts.TAG: view.tag, counts.NAMESPACE: view.namespace, counts.ISSUE: "".join(view.issues)}
    asked = [(scope, name) for scope, name in named.items() if name]
    if finer or len(asked) > 1 or len(view.issues) > 1:
        return None
    return "scope = ? AND name = ?", list(asked[0] if asked else (counts.ALL, ""))


def _suggestion(row: sqlite3.Row, evidence: dict[str, Any]) -> Suggestion:
    key = Key(row["hash"], row["tag"], row["action"], row["other"])
    issues = tuple(dict.fromkeys(row["issues"].split(","))) if row["issues"] else ()
    then = json.loads(row["evidence_then"]) if row["evidence_then"] else None
    plain = {name: row[name] for name in ("issue", "confidence", "why", "state", *DECISION, "confidence_then")}
    plain |= {"current": bool(row["current"]), "in_view": bool(row["in_view"]), "version": row["version"] or 0}
    return Suggestion(key=key, issues=issues, evidence=evidence, evidence_then=then, **plain)


def _finding(row: sqlite3.Row, rows: list[Suggestion]) -> Finding:
    plain = {name: row[name] for name in ("id", "rank", "issue", "hash", "other", "confidence")}
    members = tuple(json.loads(row["members"]))
    return Finding(members=members, current=bool(row["current"]), suggestions=tuple(rows), **plain)


def finding_of(review: Review, key: Key) -> str | None:
    """The finding that has a suggestion; None when no report has it."""
    return cast("str | None", review.value("SELECT finding FROM suggestions WHERE id = ?", review.number(key)))


def found_as(review: Review, id: str) -> str | None:
    """The finding that shows what a report's entry with this id says; None where no report has such an entry."""
    found = "SELECT s.finding FROM entries e JOIN suggestions s ON s.id = e.suggestion WHERE e.entry = ?"
    return cast("str | None", review.value(found, store.entry_number(id)))


def pictures_of(review: Review, view: Filter) -> list[tuple[str, ...]]:
    """The pictures of every finding of a view, in its order."""
    where, values = _where(view)
    column, direction = ORDERS[view.order]
    those = f"SELECT members FROM findings WHERE card IN (SELECT s.card FROM suggested s WHERE {where})"
    rows = review.db.execute(f"{those} ORDER BY {column} {direction}", values)
    return [tuple(json.loads(row[0])) for row in rows]
