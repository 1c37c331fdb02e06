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
from tagcheck.review.numbers import STATES, hash_of, named_by, picture, place_of, word, word_of
from tagcheck.review.store import GONE, IGNORED, PAIR, SKIPPED, UNDECIDED, UNDECIDED_QUEUE, card_number

LARGEST, MOST_PAIRS = 1000, 5000  # of a group that is one card
# Whose kind a suggestion is called by where several detectors say it: a series is one, whoever says it.
KIND_OF = sorted(DETECTORS, key=lambda one: (SERIES, TAGS, PAIRS).index(one.reader))


def regroup(db: sqlite3.Connection) -> None:
    """Make the suggestions and findings of what is said now. What was decided and is not said any longer stays, as not current."""
    groups = _groups(db)
    db.create_function("card_of", -1, card_of, deterministic=True)
    db.execute("CREATE TEMP TABLE member (picture INTEGER PRIMARY KEY, card INTEGER NOT NULL)")
    named = {card_of("copies", *group): group for group in groups}
    members = [(hash, card) for card, group in named.items() for hash in group]
    db.executemany(f"INSERT INTO member VALUES ({picture('?')}, ?)", members)
    _take_suggestions(db)
    _take_cards(db, named)
    db.execute("DELETE FROM entries")
    same = "s.picture = said.picture AND s.word = said.word AND s.act = said.act AND s.partner = said.partner"
    db.execute(f"INSERT OR IGNORE INTO entries SELECT entry, s.id FROM said JOIN suggested s ON {same}")
    db.execute("DROP TABLE member")


def rank(db: sqlite3.Connection) -> None:
    """Number the findings in their orders; lists page by these numbers.

    `rank`: what asks about tags, then pairs whose tags differ, other pairs; the surest first, ties by id. `newest`: the
    picture imported last first, its findings by rank. `tag_rank` of a suggestion: its finding's place among those that
    have its tag, by the confidence of that tag.
    """
    db.execute(
        "UPDATE cards SET rank = r.rank, newest = r.newest FROM ("
        " SELECT id, rank, row_number() OVER (ORDER BY imported DESC, rank) AS newest FROM ("
        "  SELECT f.id, ifnull(p.imported, 0) AS imported,"
        "  row_number() OVER (ORDER BY f.differs DESC, f.sure DESC, f.id < 0, f.id) AS rank"
        "  FROM cards f LEFT JOIN records p ON p.picture = f.picture)"
        ") r WHERE r.id = cards.id"
    )
    ranks = "rank = f.rank, newest = f.newest FROM cards f"
    db.execute(f"UPDATE suggested SET {ranks} WHERE f.id = suggested.card")
    db.execute(
        "CREATE TEMP TABLE places AS SELECT word, card, row_number() OVER"
        " (PARTITION BY word ORDER BY max(sure) DESC, min(rank)) AS place FROM suggested GROUP BY word, card"
    )
    db.execute("CREATE INDEX places_key ON places (card, word, place)")
    its = "p.card = suggested.card AND p.word = suggested.word"
    db.execute(f"UPDATE suggested SET tag_rank = (SELECT place FROM places p WHERE {its})")
    db.execute("DROP TABLE places")


def card_of(kind: str, *hashes: str) -> int:
    """The number of the finding of a kind that is about these pictures."""
    return card_number(finding_id(kind, hashes, []))


def connected(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The groups that pairs make, each sorted.

    >>> connected([("a", "b"), ("c", "d"), ("b", "e")])
    [['a', 'b', 'e'], ['c', 'd']]
    """
    group_of: dict[str, list[str]] = {}
    for pair in pairs:
        small, large = sorted((group_of.setdefault(one, [one]) for one in pair), key=len)
        if small is not large:
            large += small
            group_of.update(dict.fromkeys(small, large))
    return sorted(sorted(group) for one, group in group_of.items() if one == group[0])


def _groups(db: sqlite3.Connection) -> list[list[str]]:
    """The groups of copies small enough for a card. A pair that the owner called no copies holds none together."""
    said = f"SELECT {hash_of('picture')} AS hash, {hash_of('partner')} AS other, {word_of('word')} AS tag, '{PAIR}' AS action FROM said"
    decided = f"({said} WHERE partner) LEFT JOIN decisions d USING (hash, tag, action, other)"
    query = f"SELECT hash, other FROM {decided} WHERE ifnull(d.state, '') != ?"
    pairs = [(hash, other) for hash, other in db.execute(query, (IGNORED,))]
    groups = connected(pairs)
    first = {hash: group[0] for group in groups for hash in group}
    counted = Counter(first[hash] for hash, _ in pairs)
    return [group for group in groups if len(group) <= LARGEST and counted[group[0]] <= MOST_PAIRS]


def _take_suggestions(db: sqlite3.Connection) -> None:
    """Each suggestion once: its confidence, reason and evidence from the tag error detector, else from who is surest."""
    kinds = " ".join(f"WHEN {word(repr(one.report.name))} THEN {place}" for place, one in enumerate(KIND_OF))
    same = "picture, word, act, partner"
    first = f"PARTITION BY {same}"
    both = (
        f"SELECT *, row_number() OVER ({first} ORDER BY said_by IS NOT {word(repr(MISTAGGED.name))}, sure DESC, entry) AS nth,"
        f" first_value(kind) OVER ({first} ORDER BY CASE said_by {kinds} END, entry) AS called,"
        f" group_concat({word_of('kind')}) OVER ({first}) AS all_kinds, max(differs) OVER ({first}) AS apart FROM said"
    )
    db.execute(f"CREATE TEMP TABLE once AS SELECT * FROM ({both}) WHERE nth = 1")
    db.execute("INSERT OR IGNORE INTO words (name) SELECT DISTINCT all_kinds FROM once")
    place = (
        f"CASE WHEN NOT partner THEN ifnull((SELECT card FROM member m WHERE m.picture = f.picture), card_of('picture', {hash_of('f.picture')}))"
        " ELSE ifnull((SELECT a.card FROM member a JOIN member b ON a.card = b.card WHERE a.picture = f.picture AND b.picture = f.partner),"
        f" card_of({word_of('f.word')}, {hash_of('f.picture')}, {hash_of('f.partner')})) END"
    )
    db.execute("UPDATE suggested SET current = 0")
    room = "(SELECT count(*) FROM once)"  # in the place of ranks, so that rows do not grow then, which would split their pages
    db.execute(
        "INSERT INTO suggested (rank, newest, tag_rank, card, said_by, kind, kinds, picture, partner, word, space, act, place, sure, alone,"
        " said, queue, current, differs)"
        f" SELECT {room}, {room}, {room}, {place}, said_by, called, {word('all_kinds')}, picture, partner, word, space, act, place, sure, alone,"
        f" said, 0, 1, apart FROM once f WHERE true"
        f" ON CONFLICT ({same}) DO UPDATE SET card = excluded.card, said_by = excluded.said_by, kind = excluded.kind,"
        " kinds = excluded.kinds, sure = excluded.sure, alone = excluded.alone, said = excluded.said,"
        " place = excluded.place, differs = excluded.differs, current = 1"
    )
    db.execute("DROP TABLE once")
    db.execute(f"UPDATE suggested SET queue = {UNDECIDED_QUEUE}")
    queue = place_of(STATES, "coalesce(nullif(d.outcome, 'waiting'), d.state)")
    decided = f"decisions d JOIN suggested s ON {named_by('d', 's')} WHERE d.state != 'open'"
    db.execute(
        f"UPDATE suggested SET queue = f.queue FROM (SELECT s.id, {queue} AS queue FROM {decided}) f WHERE f.id = suggested.id"
    )
    passed = [*map(STATES.index, (*UNDECIDED, GONE, SKIPPED))]
    db.execute("DELETE FROM suggested WHERE NOT current AND queue IN (?, ?, ?, ?)", passed)
    db.execute(f"UPDATE suggested AS f SET card = {place} WHERE NOT current")


def _take_cards(db: sqlite3.Connection, named: dict[int, list[str]]) -> None:
    """A finding for each that suggestions name. Its confidence is that of its surest tag; of pairs alone, how alike they are."""
    db.execute("DELETE FROM cards")
    tagged = "CASE WHEN NOT partner THEN sure END"
    db.execute(
        "INSERT INTO cards (id, kind, picture, partner, members, sure, differs, current)"
        f" SELECT card, {word('kind')}, picture, partner, '', sure, differs, current FROM (SELECT card,"
        f" coalesce(max(CASE WHEN partner THEN {word_of('kind')} END), min({word_of('kind')})) AS kind,"
        f" min(picture) AS picture, max(partner) AS partner, coalesce(max({tagged}), max(sure)) AS sure,"
        " CASE WHEN max(NOT partner) THEN 2 ELSE max(differs) END AS differs, max(current) AS current FROM suggested GROUP BY card)"
    )
    db.executemany(
        f"UPDATE cards SET picture = {picture('?')}, partner = {picture('?')}, members = ? WHERE id = ?",
        [(group[0], group[1], json.dumps(group) if len(group) > 2 else "", card) for card, group in named.items()],
    )
