"""What is suggested for single pictures, for a program that asks about the file in front of its user."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from tagcheck.review.store import ADD, PAIR, REMOVE, UNDECIDED, Review

TOKEN = "suggest_token"
MOST = 1000  # pictures at once
KEYS = {ADD: "add", REMOVE: "remove"}


def suggested(review: Review, hashes: Sequence[str]) -> list[dict[str, Any]]:
    """For each picture its `add` and `remove` (tag, probability, why; the surest first) and its `copies`, as far as the owner has
    not decided them. Nothing is suggested for a picture that was not examined.
    """
    return [_of_picture(review, hash) for hash in dict.fromkeys(hashes)]


def _of_picture(review: Review, hash: str) -> dict[str, Any]:
    found: dict[str, Any] = {"hash": hash, "add": [], "remove": [], "copies": []}
    # Two indexes, one for each side of a pair, make this the same few rows however many there are.
    rows = review.db.execute(
        f"""SELECT hash, other, tag, action, confidence, why FROM suggestions WHERE hash = ?1 AND current AND state IN {UNDECIDED}
        UNION ALL SELECT hash, other, tag, action, confidence, why FROM suggestions
        WHERE other = ?1 AND other != '' AND action = '{PAIR}' AND current AND state IN {UNDECIDED}
        ORDER BY 5 DESC, 3""",
        (hash,),
    )
    for row in rows:
        entry = {"tag": row["tag"], "probability": round(row["confidence"], 4), "why": row["why"]}
        if row["action"] in KEYS:
            found[KEYS[row["action"]]].append(entry)
        elif row["action"] == PAIR:
            other = row["other"] if row["hash"] == hash else row["hash"]
            found["copies"].append({"hash": other, "likeness": round(row["confidence"], 4), "why": row["why"]})
    return found


def token(review: Review) -> str:
    """What a program shows the page to be answered; made once, kept in the store."""
    kept = review.meta(TOKEN)
    if not kept:
        kept = secrets.token_urlsafe(32)
        review.set_meta(TOKEN, kept)
    return kept
