"""Numbers in place of hashes and words: what the findings index names again and again stands once, in `hashes` and in `words`.

The similar pictures of a suggestion are kept as such numbers, too: reports name them by hash (old ones) or by place in a list of
their own. So are the tags of the dataset's records.
"""

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from tagcheck.dataset import HASH
from tagcheck.json_files import plain_text
from tagcheck.packed import BETWEEN, packed

KEYS = ("near_with", "near_without")
TAG_LISTS = ("existing_all_tags", "existing_series_tags", "implied_tags", "deleted_tags")
LIST = "near_pictures"  # of a report: the hashes that its suggestions name by place
STATES = ("open", "unlikely", "accepted", "ignored", "skipped", "flagged", "applied", "failed", "undone", "gone")
ACTIONS = ("add", "remove", "pair")
ITS = "hash = ? AND tag = ? AND action = ? AND other = ?"  # the row of a table with full names
HASHES, WORDS = "hashes", "words"


def begin(hash: str) -> str:
    """SQL: how a hash begins."""
    return f"substr({hash}, 1, 6)"


TOGETHER = 32  # texts in a row of `packs`; a text's number is that of the row, times this, and its place there
# Hashes are looked up by how they begin: their whole length in an index would be the largest index of all.
HASHES_TABLE = f"""CREATE TABLE hashes (id INTEGER PRIMARY KEY, name BLOB NOT NULL);
CREATE INDEX hashes_begin ON hashes ({begin("name")})"""
TABLES = f"""
{HASHES_TABLE};
CREATE TABLE words (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE packs (id INTEGER PRIMARY KEY, texts BLOB NOT NULL);
INSERT INTO packs VALUES (0, packed('You chose this yourself.', '{{}}'))
"""


def hash_of(number: str) -> str:
    """SQL: the hash of a number, '' of the number 0."""
    return f"ifnull((SELECT lower(hex(n.name)) FROM hashes n WHERE n.id = {number}), '')"


def word_of(number: str) -> str:
    """SQL: the word of a number."""
    return f"(SELECT n.name FROM words n WHERE n.id = {number})"


def picture(hash: str) -> str:
    """SQL: the number of a hash, NULL where it has none."""
    named = f"{begin('n.name')} = {begin('w.name')} AND n.name = w.name"
    return f"(SELECT n.id FROM (SELECT bytes_of({hash}) AS name) w CROSS JOIN hashes n WHERE {named})"


def number_all(db: sqlite3.Connection, select: str, values: tuple[Any, ...] = ()) -> None:
    """Give numbers to those of the hashes `h.hash` of an SQL table expression that have none."""
    new = f"SELECT DISTINCT bytes_of(h.hash) FROM ({select}) h WHERE h.hash != '' AND {picture('h.hash')} IS NULL"
    db.execute(f"INSERT INTO hashes (name) {new}", values)


def word(text: str) -> str:
    """SQL: the number of a word, NULL where it has none."""
    return f"(SELECT n.id FROM words n WHERE n.name = {text})"


def named_one(names: tuple[str, ...], number: str) -> str:
    """SQL: that of some names that has a place (from 0) among them."""
    return f"CASE {number} {' '.join(f'WHEN {place} THEN {name!r}' for place, name in enumerate(names))} END"


def place_of(names: tuple[str, ...], text: str) -> str:
    """SQL: the place of a text among some names."""
    return f"CASE {text} {' '.join(f'WHEN {name!r} THEN {place}' for place, name in enumerate(names))} END"


def text(number: str) -> str:
    """SQL: the text of a number."""
    return f"text_of((SELECT t.texts FROM packs t WHERE t.id = {number} / {TOGETHER}), {number} % {TOGETHER})"


def named_by(named: str = "", numbered: str = "") -> str:
    """SQL: the row of `suggested` that a row of the table `named` with full names is about, or that four values name."""
    hash, tag, action, other = (f"{named}.{one}" if named else "?" for one in ("hash", "tag", "action", "other"))
    row = f"{numbered}." if numbered else ""
    said = f"{row}picture = {picture(hash)} AND {row}word = {word(tag)} AND {row}act = {place_of(ACTIONS, action)}"
    return f"{said} AND {row}partner = ifnull({picture(other)}, 0)"


class Names:
    """The numbers of one of the tables, from 1 on. New ones are given out at once and put there by `keep`."""

    def __init__(self, db: sqlite3.Connection, table: str) -> None:
        self._db, self._table = db, table
        self._known: dict[Any, int] = {}
        self._new: dict[Any, int] = {}
        self._first = self._next = self._free()

    def _free(self) -> int:
        return int(self._db.execute(f"SELECT ifnull(max(id), 0) + 1 FROM main.{self._table}").fetchone()[0])

    def number(self, name: str | bytes) -> int:
        if name not in self._known:
            same = f" AND {begin('name')} = {begin(':name')}" if self._table == HASHES else ""
            asked = f"SELECT id FROM main.{self._table} WHERE name = :name{same}"
            row = self._db.execute(asked, {"name": name}).fetchone()
            if row is None:
                self._new[name] = self._next
                self._next += 1
            self._known[name] = self._new[name] if row is None else row[0]
        return self._known[name]

    def untaken(self) -> bool:
        """Whether nobody else has given out numbers meanwhile."""
        return self._first == self._free()

    def keep(self) -> None:
        """Put those given out into the store's table."""
        rows = ((number, name) for name, number in self._new.items())
        self._db.executemany(f"INSERT INTO main.{self._table} VALUES (?, ?)", rows)
        self._first = self._next


class Texts:
    """The numbers of texts that are read into the rows of `new_packs`, numbers that no row of `packs` has."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._open = db, list[str]()
        self._row = int(db.execute("SELECT max(id) + 1 FROM main.packs").fetchone()[0])

    def number(self, *texts: str) -> int:
        """The number of the first of some texts, which the others follow."""
        if len(self._open) + len(texts) > TOGETHER:
            self.close()
        self._open += (text.replace(BETWEEN, " ") for text in texts)
        return self._row * TOGETHER + len(self._open) - len(texts)

    def close(self) -> None:
        if self._open:
            self._db.execute("INSERT INTO new_packs VALUES (?, ?)", (self._row, packed(*self._open)))
            self._open.clear()
            self._row += 1


class Numbers:
    """The numbers of `words`, pictures and texts; `listed` is the report's own list of similar pictures."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.words, self.hashes, self.texts = Names(db, WORDS), Names(db, HASHES), Texts(db)
        self.listed: list[Any] = []

    def picture(self, hash: str) -> int:
        return self.hashes.number(bytes.fromhex(hash)) if hash else 0

    def evidence(self, evidence: dict[str, Any]) -> dict[str, Any]:
        """An evidence of the report as it is kept: numbers instead of hashes and of places in the report's list."""
        found = {key: self._pictures(evidence[key]) for key in KEYS if isinstance(evidence.get(key), list)}
        return evidence | found if found else evidence

    def text(self, record: dict[str, Any]) -> int:
        """The number of a record of the dataset: kept without its hash, and with numbers instead of tags."""
        tags = {key: [self.words.number(tag) for tag in record[key]] for key in TAG_LISTS if record.get(key)}
        return self.texts.number(plain_text({key: value for key, value in (record | tags).items() if key != "hash"}))

    def _pictures(self, named: list[Any]) -> list[Any]:
        found = (self._listed(one) if isinstance(one, int) else one for one in named)
        hashes = [one for one in found if isinstance(one, str)]
        return [self.picture(hash) for hash in hashes] if all(map(HASH.fullmatch, hashes)) else hashes

    def _listed(self, place: int) -> Any:
        return self.listed[place] if 0 <= place < len(self.listed) else None


def named(db: sqlite3.Connection, kept: Iterable[str], keys: tuple[str, ...] = KEYS) -> list[dict[str, Any]]:
    """Evidences of suggestions (JSON) with the hashes of their similar pictures again, or records with their tags (`TAG_LISTS`)."""
    name, table = ("name", WORDS) if keys == TAG_LISTS else ("lower(hex(name))", HASHES)
    made = [json.loads(text) for text in kept]
    lists = [one[key] for one in made for key in keys if isinstance(one.get(key), list)]
    numbers = {number for some in lists for number in some if isinstance(number, int)}
    query = f"SELECT id, {name} FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
    names: dict[Any, str] = {row[0]: row[1] for row in db.execute(query, (json.dumps([*numbers]),))} if numbers else {}
    for some in lists:
        some[:] = [names.get(one, one) for one in some if not isinstance(one, int) or one in names]
    return made
