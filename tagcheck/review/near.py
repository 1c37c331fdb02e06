"""The look-alikes of a suggestion: hashes in old reports, places in a report's own list in new ones, numbers in the store.

A library's pictures are named as look-alikes again and again; eight hashes of 64 letters were most of a report and of the store.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from tagcheck.dataset import HASH

KEYS = ("near_with", "near_without")
LIST = "near_pictures"  # of a report: the hashes that its suggestions name by place
TABLE = f"CREATE TABLE IF NOT EXISTS {LIST} (id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE)"


class Numbers:
    """The numbers of pictures in the store's table, given out as they are asked for; `listed` the report's own list."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self.listed = db, list[Any]()
        self._known: dict[str, int] = {}

    def packed(self, evidence: dict[str, Any]) -> dict[str, Any]:
        """An evidence of the report as it is kept: numbers instead of hashes and of places in the report's list."""
        found = {key: self._pictures(evidence[key]) for key in KEYS if isinstance(evidence.get(key), list)}
        return evidence | found if found else evidence

    def _pictures(self, named: list[Any]) -> list[Any]:
        found = (self._listed(one) if isinstance(one, int) else one for one in named)
        hashes = [one for one in found if one is not None]
        if not all(isinstance(one, str) and HASH.fullmatch(one) for one in hashes):
            return hashes
        return [self._number(hash) for hash in hashes]

    def _listed(self, place: int) -> Any:
        return self.listed[place] if 0 <= place < len(self.listed) else None

    def _number(self, hash: str) -> int:
        if hash not in self._known:
            self._db.execute(f"INSERT OR IGNORE INTO {LIST} (hash) VALUES (?)", (hash,))
            self._known[hash] = self._db.execute(f"SELECT id FROM {LIST} WHERE hash = ?", (hash,)).fetchone()[0]
        return self._known[hash]


def named(db: sqlite3.Connection, kept: Iterable[str]) -> list[dict[str, Any]]:
    """Kept evidences (JSON) with the hashes of their look-alikes again."""
    made = [json.loads(text) for text in kept]
    lists = [one[key] for one in made for key in KEYS if isinstance(one.get(key), list)]
    numbers = {number for some in lists for number in some if isinstance(number, int)}
    rows = db.execute(
        f"SELECT id, hash FROM {LIST} WHERE id IN (SELECT value FROM json_each(?))", (json.dumps([*numbers]),)
    )
    hashes: dict[Any, str] = {row[0]: row[1] for row in rows} if numbers else {}
    for some in lists:
        some[:] = [hashes.get(one, one) for one in some if not isinstance(one, int) or one in hashes]
    return made
