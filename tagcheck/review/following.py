"""Decisions follow the picture: a file whose metadata changed has another hash and the same pixels, and keeps them.

The store keeps the digest of the pixels (`pixel_hash` of the dataset) of every picture that was decided on. Where such a
picture is gone and others have its pixels, what was ignored, accepted or flagged counts for those: for good when the page
reads a new dataset (`follow`), and for a detector that runs before that (`inherited`).
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from tagcheck.review.numbers import ITS, named_by, number_all, picture
from tagcheck.sqlite import has

PIXELS = "CREATE TABLE IF NOT EXISTS pixels (hash TEXT PRIMARY KEY, pixels TEXT NOT NULL) WITHOUT ROWID"
# Decisions of the owner that are not in the library yet; a change that failed may have failed since its file had become another.
FOLLOWS = "state IN ('accepted', 'ignored', 'flagged') AND (outcome IS NULL OR outcome = 'failed')"
DECIDED = f"SELECT hash FROM decisions WHERE {FOLLOWS}"
DECIDED += f" UNION SELECT other FROM decisions WHERE other != '' AND {FOLLOWS}"
# Of the pictures that the store has a record of.
RECORDED = (
    "SELECT hash, json_extract(text_of(record, -1), '$.pixel_hash') AS pixels FROM pictures"
    f" WHERE hash IN ({DECIDED}) AND json_type(text_of(record, -1), '$.pixel_hash') = 'text'"
)

Key = tuple[str, str, str, str]  # hash, tag, action, other


def note_pixels(db: sqlite3.Connection) -> dict[str, str]:
    """Keep the pixels of the pictures that were decided on, from the records that are there now; gives all that are kept."""
    db.execute(PIXELS)
    db.execute(f"DELETE FROM pixels WHERE hash NOT IN ({DECIDED})")
    db.execute(f"INSERT OR REPLACE INTO pixels {RECORDED}")
    return dict(db.execute("SELECT hash, pixels FROM pixels").fetchall())


def pixels_decided(db: sqlite3.Connection) -> str:
    """The query of the pixels of pictures that were decided on; nothing is written."""
    return f"SELECT pixels FROM ({RECORDED})" + " UNION SELECT pixels FROM pixels" * has(db, "pixels")


def heirs(known: Mapping[str, str], pictures: Mapping[str, str]) -> dict[str, list[str]]:
    """Each picture of `known` (hash -> its pixels) that is not among `pictures` (likewise) -> those of the same pixels, sorted.

    >>> heirs({"a": "x", "b": "y"}, {"b": "y", "c": "x", "d": "y"})
    {'a': ['c']}
    """
    gone = {hash: pixels for hash, pixels in known.items() if hash not in pictures}
    same: dict[str, list[str]] = {pixels: [] for pixels in gone.values()}
    for hash, pixels in sorted(pictures.items()):
        if pixels in same:
            same[pixels].append(hash)
    return {hash: same[pixels] for hash, pixels in gone.items() if same[pixels]}


def inherited(db: sqlite3.Connection, pictures: Mapping[str, str]) -> list[dict[str, Any]]:
    """The decisions that go over to `pictures` (hash -> its pixels), as rows of the table; of a store of any version."""
    known = dict(db.execute("SELECT hash, pixels FROM pixels").fetchall()) if has(db, "pixels") else {}
    if has(db, "pictures"):
        known |= dict(db.execute(RECORDED).fetchall())
    found = heirs(known, pictures)
    rows = [dict(row) for row in db.execute(f"SELECT * FROM decisions WHERE {FOLLOWS}")] if found else []
    moved = [(row, key) for row in rows for key in _keys(db, row, found)]
    return [row | {"hash": key[0], "other": key[3], "outcome": None} for row, key in moved]


def follow(db: sqlite3.Connection, found: Mapping[str, Collection[str]]) -> int:
    """Let the decisions on the pictures of `found` (`heirs`) go over to their heirs, with their place in the history; counts them."""
    moved = 0
    for row in db.execute(f"SELECT * FROM decisions WHERE {FOLLOWS}").fetchall() if found else ():
        old = (row["hash"], row["tag"], row["action"], row["other"])
        new = [*_keys(db, row, found)]
        for key in new:
            db.execute(
                "INSERT INTO decisions (hash, tag, action, other, state, version, decided_at, issue, confidence, evidence)"
                f" SELECT ?, ?, ?, ?, state, 1, decided_at, issue, confidence, evidence FROM decisions WHERE {ITS}",
                (*key, *old),
            )
        if new:
            moved += len(new)
            moving = f"UPDATE OR IGNORE event_changes SET hash = ?, other = ? WHERE {ITS}"
            db.execute(moving, (new[0][0], new[0][3], *old))
            moved_to = f"picture = {picture('?')}, partner = ifnull({picture('?')}, 0)"
            number_all(db, "SELECT ? AS hash UNION SELECT ?", (new[0][0], new[0][3]))
            db.execute(f"UPDATE OR IGNORE suggested SET {moved_to} WHERE {named_by()}", (new[0][0], new[0][3], *old))
            db.execute(f"DELETE FROM suggested WHERE {named_by()}", old)
            # A no stays where it was, too, should the old file come back; it is one answer and not two (so without confidence).
            # A yes would be written twice.
            db.execute(
                f"UPDATE decisions SET state = iif(state = 'accepted', 'open', state), outcome = NULL, reason = NULL,"
                f" confidence = NULL, version = version + 1 WHERE {ITS}",
                old,
            )
    return moved


def _keys(db: sqlite3.Connection, row: Any, found: Mapping[str, Iterable[str]]) -> Iterator[Key]:
    """The keys, not decided yet, that a decision goes over to; none where its pictures are there still."""
    hash, other = row["hash"], row["other"]
    if hash in found or other in found:
        for pair in product(found.get(hash, [hash]), found.get(other, [other])):
            first, second = sorted(pair) if other else pair
            key = first, row["tag"], row["action"], second
            if first != second and not db.execute(f"SELECT 1 FROM decisions WHERE {ITS}", key).fetchone():
                yield key
