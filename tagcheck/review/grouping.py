"""What reports say, brought together: one finding a picture or group of copies, one suggestion a (picture, tag, action).

Several detectors may suggest the same. The table `said` (only while reports are read) has a row for each time; `regroup`
makes one suggestion of them, and findings, which are what a card shows: a picture with all that is suggested for it, or a
group of copies. The pairs of a group of more than `LARGEST` copies or `MOST_PAIRS` pairs are findings of their own.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable

from tagcheck.detectors import DETECTORS, MISTAGGED, PAIRS, SERIES, TAGS
from tagcheck.findings import finding_id
from tagcheck.review.store import GONE, IGNORED, PAIR, SAME, SKIPPED, UNDECIDED, UNDECIDED_STATE

LARGEST, MOST_PAIRS = 1000, 5000  # of a group that is one card
# Whose kind a suggestion is called by where several detectors say it: a series is one, whoever says it.
KIND_OF = sorted(DETECTORS, key=lambda one: (SERIES, TAGS, PAIRS).index(one.reader))


def regroup(db: sqlite3.Connection) -> None:
    """Make the suggestions and findings of what is said now. What was decided and is not said any longer stays, as not current."""
    groups = _groups(db)
    db.create_function("picture_finding", 1, picture_finding, deterministic=True)
    db.create_function("pair_finding", 3, lambda *key: finding_id(key[0], key[1:], []), deterministic=True)
    db.execute("CREATE TEMP TABLE member (hash TEXT PRIMARY KEY, finding TEXT NOT NULL) WITHOUT ROWID")
    named = {finding_id("copies", group, []): group for group in groups}
    members = [(hash, name) for name, group in named.items() for hash in group]
    db.executemany("INSERT INTO member VALUES (?, ?)", members)
    _take_suggestions(db)
    _take_findings(db, named)
    db.execute("DELETE FROM entries")
    both = f"said JOIN suggestions s ON {SAME.format('s', 'said')}"
    db.execute(f"INSERT OR IGNORE INTO entries SELECT entry, s.id FROM {both}")
    db.execute("DROP TABLE member")


def rank(db: sqlite3.Connection) -> None:
    """Number the findings in their orders; lists page by these numbers.

    `rank`: what asks about tags, then pairs whose tags differ, other pairs; the surest first, ties by id. `newest`: the
    picture imported last first, its findings by rank. `tag_rank` of a suggestion: its finding's place among those that
    have its tag, by the confidence of that tag.
    """
    db.execute(
        "UPDATE findings SET rank = r.rank, newest = r.newest FROM ("
        " SELECT id, rank, row_number() OVER (ORDER BY imported DESC, rank) AS newest FROM ("
        "  SELECT f.id, ifnull(p.imported, 0) AS imported,"
        "  row_number() OVER (ORDER BY f.differs DESC, f.confidence DESC, f.id) AS rank"
        "  FROM findings f LEFT JOIN pictures p ON p.hash = f.hash)"
        ") r WHERE r.id = findings.id"
    )
    ranks = "rank = f.rank, newest = f.newest FROM findings f"
    db.execute(f"UPDATE suggestions SET {ranks} WHERE f.id = suggestions.finding")
    db.execute(
        "CREATE TEMP TABLE places AS SELECT tag, finding, row_number() OVER"
        " (PARTITION BY tag ORDER BY max(confidence) DESC, min(rank)) AS place FROM suggestions GROUP BY tag, finding"
    )
    db.execute("CREATE INDEX places_key ON places (finding, tag, place)")
    its = "p.finding = suggestions.finding AND p.tag = suggestions.tag"
    db.execute(f"UPDATE suggestions SET tag_rank = (SELECT place FROM places p WHERE {its})")
    db.execute("DROP TABLE places")


def picture_finding(hash: str) -> str:
    """The id of a picture's own finding."""
    return finding_id("picture", [hash], [])


def connected(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The groups that pairs make, each sorted.

    >>> connected([("a", "b"), ("c", "d"), ("b", "e")])
    [['a', 'b', 'e'], ['c', 'd']]
    """
    above: dict[str, str] = {}

    def top(one: str) -> str:
        while above.setdefault(one, one) != one:
            above[one] = above[above[one]]
            one = above[one]
        return one

    for first, second in pairs:
        above[top(first)] = top(second)
    groups: dict[str, list[str]] = {}
    for one in sorted(above):
        groups.setdefault(top(one), []).append(one)
    return sorted(groups.values())


def _groups(db: sqlite3.Connection) -> list[list[str]]:
    """The groups of copies small enough for a card. A pair that the owner called no copies holds none together."""
    decided = f"said s LEFT JOIN decisions d ON {SAME.format('d', 's')}"
    query = f"SELECT s.hash, s.other FROM {decided} WHERE s.action = ? AND ifnull(d.state, '') != ?"
    pairs = [(hash, other) for hash, other in db.execute(query, (PAIR, IGNORED))]
    groups = connected(pairs)
    first = {hash: group[0] for group in groups for hash in group}
    counted = Counter(first[hash] for hash, _ in pairs)
    return [group for group in groups if len(group) <= LARGEST and counted[group[0]] <= MOST_PAIRS]


def _take_suggestions(db: sqlite3.Connection) -> None:
    """Each suggestion once: its confidence, reason and evidence from the tag error detector, else from who is surest."""
    kinds = " ".join(f"WHEN '{one.report.name}' THEN {place}" for place, one in enumerate(KIND_OF))
    first, same = "PARTITION BY hash, tag, action, other", "hash, tag, action, other"
    both = (
        f"SELECT *, row_number() OVER ({first} ORDER BY source != '{MISTAGGED.name}', confidence DESC, entry) AS nth,"
        f" first_value(issue) OVER ({first} ORDER BY CASE source {kinds} END, entry) AS kind,"
        f" group_concat(issue) OVER ({first}) AS kinds, max(differs) OVER ({first}) AS apart FROM said"
    )
    place = (
        "CASE WHEN action != 'pair' THEN ifnull((SELECT finding FROM member m WHERE m.hash = {row}hash), picture_finding({row}hash))"
        " ELSE ifnull((SELECT a.finding FROM member a JOIN member b ON a.finding = b.finding"
        "  WHERE a.hash = {row}hash AND b.hash = {row}other), pair_finding({row}tag, {row}hash, {row}other)) END"
    )
    db.execute("UPDATE suggestions SET current = 0")
    db.execute(
        "INSERT INTO suggestions (finding, source, issue, issues, hash, other, tag, namespace, action, place, confidence, alone,"
        " evidence, state, current, differs)"
        f" SELECT {place.format(row='f.')}, source, kind, kinds, hash, other, tag, namespace, action, place, confidence, alone,"
        f" evidence, 'open', 1, apart FROM ({both}) f WHERE nth = 1"
        f" ON CONFLICT ({same}) DO UPDATE SET finding = excluded.finding, source = excluded.source, issue = excluded.issue,"
        " issues = excluded.issues, confidence = excluded.confidence, alone = excluded.alone, evidence = excluded.evidence,"
        " place = excluded.place, differs = excluded.differs, current = 1"
    )
    queue = "SELECT coalesce(nullif(d.outcome, 'waiting'), d.state) FROM decisions d"
    its = f"{SAME.format('d', 'suggestions')} AND d.state != 'open'"
    db.execute(f"UPDATE suggestions SET state = coalesce(({queue} WHERE {its}), {UNDECIDED_STATE})")
    passed = (*UNDECIDED, GONE, SKIPPED)
    db.execute("DELETE FROM suggestions WHERE NOT current AND state IN (?, ?, ?, ?)", passed)
    db.execute(f"UPDATE suggestions SET finding = {place.format(row='suggestions.')} WHERE NOT current")


def _take_findings(db: sqlite3.Connection, named: dict[str, list[str]]) -> None:
    """A finding for each that suggestions name. Its confidence is that of its surest tag; of pairs alone, how alike they are."""
    db.execute("DELETE FROM findings")
    tagged = "CASE WHEN action != 'pair' THEN confidence END"
    db.execute(
        "INSERT INTO findings (id, issue, hash, other, members, confidence, differs, current)"
        " SELECT finding, coalesce(max(CASE WHEN action = 'pair' THEN issue END), min(issue)), min(hash), max(other), '',"
        f" coalesce(max({tagged}), max(confidence)), CASE WHEN max(action != 'pair') THEN 2 ELSE max(differs) END, max(current)"
        " FROM suggestions GROUP BY finding"
    )
    both = "CASE WHEN other = '' THEN json_array(hash) ELSE json_array(hash, other) END"
    db.execute(f"UPDATE findings SET members = {both}")
    db.executemany(
        "UPDATE findings SET hash = ?, other = ?, members = ? WHERE id = ?",
        [(group[0], group[1], json.dumps(group), name) for name, group in named.items()],
    )
