"""Applied changes that their owner took back by hand, in the library: a no to what the detectors said, not a yes.

The dataset shows it: it was read after the change was written, and the picture's tags are as before. A picture that is gone, or
whose tags could not be read then, shows nothing, and neither does a change that is not confirmed yet. Where much of a batch is as
before, an older copy of the library was put back: that is no answer.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tagcheck.changes import put_back
from tagcheck.dataset import TAGS_OLD, TAGS_READ
from tagcheck.sqlite import has

WHY = "taken back in the library"
# What the ledger says of the changes that count as applied: their batch, whether Hydrus has them, and when they were there for good.
WRITTEN = """
SELECT d.hash, d.tag, d.action, d.batch, max(b.library = 'hydrus') AS hydrus, max(r.changed) AS written
FROM decisions d JOIN ledger_rows r ON (r.hash, r.tag, r.action, r.batch) = (d.hash, d.tag, d.action, d.batch)
JOIN ledger_batches b ON b.id = d.batch WHERE d.state = 'accepted' AND d.outcome = 'applied' GROUP BY d.hash, d.tag, d.action
"""
KEPT, BEFORE = "kept", "as before"
# In Hydrus: its owner took the tag off, which leaves a record; or there is none, as in an older copy, or the tag shows as another now.
TAKEN_OFF, NEVER = "taken off", "as if never written"
Key = tuple[str, str, str]  # hash, tag, "add" | "remove"


class Found(NamedTuple):
    """Changes that read as before: those that their owner took back, and those that an older copy of the library lacks."""

    refused: frozenset[Key] = frozenset()
    lost: frozenset[Key] = frozenset()


def written(db: sqlite3.Connection) -> list[Any]:
    """The changes that count as applied, as `WRITTEN` has them."""
    return db.execute(WRITTEN).fetchall() if has(db, "ledger_rows") else []


def found(changes: Iterable[Any], records: Mapping[str, Mapping[str, Any]], header: Mapping[str, Any]) -> Found:
    """Which of the `changes` (`written`) the `records` of a dataset (by hash, as its file has them) show as before."""
    since = str(header.get(TAGS_READ) or "")
    batches: dict[int, list[tuple[Key, str]]] = defaultdict(list)
    for one in changes:
        record = records.get(one["hash"])
        if one["written"] < since and record is not None and _tells(record):
            batches[one["batch"]].append(((one["hash"], one["tag"], one["action"]), _read(one, record)))
    refused, lost = set[Key](), set[Key]()
    for rows in batches.values():
        copied = put_back(sum(how in (BEFORE, NEVER) for _, how in rows), len(rows))
        refused |= {key for key, how in rows if how == TAKEN_OFF or (how == BEFORE and not copied)}
        lost |= {key for key, how in rows if how in (BEFORE, NEVER) and copied}
    return Found(frozenset(refused), frozenset(lost))


def _tells(record: Mapping[str, Any]) -> bool:
    return record.get("status", "ok") == "ok" and not record.get(TAGS_OLD)


def _read(one: Any, record: Mapping[str, Any]) -> str:
    """How a change reads in the dataset."""
    there = one["tag"] in record["existing_all_tags"]
    if one["action"] == "remove":
        return BEFORE if there and one["tag"] not in (record.get("implied_tags") or ()) else KEPT
    if there:
        return KEPT
    if not one["hydrus"]:
        return BEFORE
    return TAKEN_OFF if one["tag"] in (record.get("deleted_tags") or ()) else NEVER
