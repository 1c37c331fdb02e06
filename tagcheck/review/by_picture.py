"""What is suggested for single pictures, for a program that asks about the file in front of its user."""

import os
from collections.abc import Sequence
from typing import Any

from tagcheck.data_folder import DataFolder
from tagcheck.review import numbers, queries, unexamined
from tagcheck.review.store import ADD, OPEN, PAIR, REMOVE, UNDECIDED, Review

TOKEN = "suggest_token"
MOST = 1000  # pictures at once
MARKS = MISSING, WRONG, COPY = ("tagcheck:missing", "tagcheck:wrong", "tagcheck:copy")  # tags that can be searched for


def suggested(review: Review, hashes: Sequence[str], folder: DataFolder | None = None) -> list[dict[str, Any]]:
    """For each picture its `add` and `remove` (tag, probability, why; the surest first) and its `copies`, as far as the owner has
    not decided them. `by` says where that is from: "detectors", "embedding" for a picture in the `folder` that they have not
    examined yet, None where nothing is known of it.
    """
    found = [_of_picture(review, hash) for hash in dict.fromkeys(hashes)]
    known = None if folder is None else unexamined.examined(folder)
    if folder is not None and known is not None:
        quiet = [one for one in found if not any(one[key] for key in (ADD, REMOVE, "copies"))]
        new = {one["hash"]: one for one in quiet if bytes.fromhex(one["hash"]) not in known}
        alone = unexamined.suggested(review, folder, list(new)) if new else {}
        for hash, one in new.items():
            one["by"] = "embedding" if hash in alone else None
            for action, entry in alone.get(hash, ()):
                one[action].append(entry)
    return found


def _of_picture(review: Review, hash: str) -> dict[str, Any]:
    found: dict[str, Any] = {"hash": hash, "by": "detectors", "add": [], "remove": [], "copies": []}
    # Two indexes, one for each side of a pair, make this the same few rows however many there are.
    rows = review.db.execute(
        f"""SELECT hash, other, tag, action, confidence, why FROM suggestions
        WHERE picture = {numbers.picture("?1")} AND current AND state IN {UNDECIDED}
        UNION ALL SELECT hash, other, tag, action, confidence, why FROM suggestions
        WHERE partner = {numbers.picture("?1")} AND partner AND action = '{PAIR}' AND current AND state IN {UNDECIDED}
        ORDER BY 5 DESC, 3""",
        (hash,),
    )
    for row in rows:
        entry = {"tag": row["tag"], "probability": round(row["confidence"], 4), "why": row["why"]}
        if row["action"] == PAIR:
            other = row["other"] if row["hash"] == hash else row["hash"]
            found["copies"].append({"hash": other, "likeness": entry["probability"], "why": row["why"]})
        else:
            found[row["action"]].append(entry)
    return found


def marks(review: Review, least: float) -> set[tuple[str, str]]:
    """(hash, mark) of the pictures of which something is open and at least so likely; of copies all but the best."""
    kinds = {ADD: MISSING, REMOVE: WRONG}
    rows = review.db.execute(
        "SELECT DISTINCT hash, action FROM suggestions WHERE current AND state = ? AND confidence >= ?", (OPEN, least)
    )
    found = {(row["hash"], kinds[row["action"]]) for row in rows if row["action"] in kinds}
    for group in queries.copy_groups(review):
        best, _ = queries.best_of(review, group)
        found.update((hash, COPY) for hash in group if hash != best)
    return found


def token(review: Review) -> str:
    """What a program shows the page to be answered; made once, kept in the store."""
    kept = review.meta(TOKEN)
    if not kept:
        kept = os.urandom(32).hex()
        review.set_meta(TOKEN, kept)
    return kept
