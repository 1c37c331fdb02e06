"""The similar pictures of a suggestion: hashes in old reports, places in a report's own list in new ones, numbers in the store.

A library's pictures are named as similar again and again; eight hashes of 64 letters were most of a report and of the store.
"""

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from tagcheck.dataset import HASH

KEYS = ("near_with", "near_without")
LIST = "near_pictures"  # of a report: the hashes that its suggestions name by place
TABLE = f"CREATE TABLE {LIST} (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE)"


class Numbers:
    """The numbers of pictures in the store's table; `new` are those given out since, to be put there; `listed` is the report's own list."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self.listed = db, list[Any]()
        self._known: dict[str, int] = {}
        self.new: dict[str, int] = {}
        self._next: int = db.execute(f"SELECT ifnull(max(id), 0) + 1 FROM {LIST}").fetchone()[0]

    def keep(self) -> None:
        """Put those given out into the store's table."""
        rows = ((number, bytes.fromhex(hash)) for hash, number in self.new.items())
        self._db.executemany(f"INSERT INTO {LIST} VALUES (?, ?)", rows)

    def packed(self, evidence: dict[str, Any]) -> dict[str, Any]:
        """An evidence of the report as it is kept: numbers instead of hashes and of places in the report's list."""
        found = {key: self._pictures(evidence[key]) for key in KEYS if isinstance(evidence.get(key), list)}
        return evidence | found if found else evidence

    def _pictures(self, named: list[Any]) -> list[Any]:
        found = (self._listed(one) if isinstance(one, int) else one for one in named)
        hashes = [one for one in found if isinstance(one, str)]
        if not all(map(HASH.fullmatch, hashes)):
            return hashes
        return [self._number(hash) for hash in hashes]

    def _listed(self, place: int) -> Any:
        return self.listed[place] if 0 <= place < len(self.listed) else None

    def _number(self, hash: str) -> int:
        if hash not in self._known:
            row = self._db.execute(f"SELECT id FROM {LIST} WHERE hash = ?", (bytes.fromhex(hash),)).fetchone()
            if row is None:
                self.new[hash] = self._next
                self._next += 1
            self._known[hash] = self.new[hash] if row is None else row[0]
        return self._known[hash]


def named(db: sqlite3.Connection, kept: Iterable[str]) -> list[dict[str, Any]]:
    """Evidences of suggestions (JSON) with the hashes of their similar pictures again."""
    made = [json.loads(text) for text in kept]
    lists = [one[key] for one in made for key in KEYS if isinstance(one.get(key), list)]
    numbers = {number for some in lists for number in some if isinstance(number, int)}
    rows = db.execute(
        f"SELECT id, lower(hex(hash)) FROM {LIST} WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps([*numbers]),),
    )
    hashes: dict[Any, str] = {row[0]: row[1] for row in rows} if numbers else {}
    for some in lists:
        some[:] = [hashes.get(one, one) for one in some if not isinstance(one, int) or one in hashes]
    return made
