"""What is suggested for single pictures, for a program that asks about the file in front of its user.

For a picture that no detector has examined yet that comes from its stored embedding. The last run of the detectors kept a
small model (`tagcheck.single_picture`). It does not use similar pictures or copies, so it suggests less than they will.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tagcheck import dataset, tags
from tagcheck.data_folder import DATASET, SINGLE_PICTURE, DataFolder
from tagcheck.errors import BadFile, MissingInput
from tagcheck.refusals import Noes, Spellings
from tagcheck.review import numbers, queries
from tagcheck.review.store import ADD, LIKELY_FROM, OPEN, PAIR, REMOVE, UNDECIDED, UNDONE, Review

if TYPE_CHECKING:
    from tagcheck.single_picture import Kept

TOKEN = "suggest_token"  # the secret of the store that a program shows the page to be answered
MOST = 1000  # pictures at once
MISSING, WRONG, COPY = tags.MARKS
WHY = "The picture alone makes it {} likely; the detectors have not examined it yet."
WHY_WRONG = "The picture alone makes it {} likely that it is wrong; the detectors have not examined it yet."


def suggested(review: Review, hashes: Sequence[str], folder: DataFolder | None = None) -> list[dict[str, Any]]:
    """For each picture its `add` and `remove` (tag, probability, why; the surest first) and its `copies`, as far as the owner has
    not decided them. `by` says where that is from: "detectors", "embedding" for a picture in the `folder` that they have not
    examined yet, None where nothing is known of it.
    """
    found = [_of_picture(review, hash) for hash in dict.fromkeys(hashes)]
    known = None if folder is None else examined(folder)
    if folder is not None and known is not None:
        quiet = [one for one in found if not any(one[key] for key in (ADD, REMOVE, "copies"))]
        new = {one["hash"]: one for one in quiet if bytes.fromhex(one["hash"]) not in known}
        alone = _unexamined(review, folder, list(new)) if new else {}
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
    query = "SELECT DISTINCT hash, action FROM suggestions WHERE current AND state = ? AND confidence >= ?"
    found = {(hash, kinds[action]) for hash, action in review.db.execute(query, (OPEN, least)) if action in kinds}
    for group in queries.copy_groups(review):
        best, _ = queries.best_of(review, group)
        found.update((hash, COPY) for hash in group if hash != best)
    return found


def examined(folder: DataFolder) -> bytes | None:
    """The hashes of the pictures that the detectors had examined when they ran last, 32 bytes each; None where that is not kept."""
    damaged = (OSError, KeyError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile)
    with suppress(*damaged), zipfile.ZipFile(folder.root / SINGLE_PICTURE) as kept:
        if kept.getinfo("examined.npy").compress_type != zipfile.ZIP_STORED:  # which may ask for any amount of memory
            return None
        data = kept.read("examined.npy")  # without NumPy: loading that takes longer than the answer
        return data[10 + int.from_bytes(data[8:10], "little") :]
    return None


def _unexamined(
    review: Review, folder: DataFolder, hashes: Sequence[str]
) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """By hash, (action, {"tag", "probability", "why"}) of what is likely and not refused, the surest first."""
    from tagcheck import single_picture  # which needs NumPy, unlike an answer from the reports

    kept, newest = single_picture.load(folder.root), folder.newest(DATASET)
    raw = {hash: one for hash in hashes if (one := queries.picture(review, hash)) is not None}
    if kept is None or newest is None:
        return {}
    found = _embeddings(folder, set(raw), kept.model, kept.says.weight.shape[1])
    out = {}
    with suppress(BadFile, MissingInput):
        spellings = dataset.spellings(newest)
        for hash, row in found.items():
            out[hash] = _from_embedding(review, kept, spellings, dataset.record_of(raw[hash], spellings), row)
    return out


def _from_embedding(
    review: Review, kept: Kept, spellings: Spellings, record: dataset.Record, row: Any
) -> list[tuple[str, dict[str, Any]]]:
    hash, written = record.hash, record.tags
    state = f"CASE outcome WHEN '{UNDONE}' THEN outcome ELSE state END AS state"
    rows = review.db.execute(f"SELECT tag, action, {state} FROM decisions WHERE hash = ?", (hash,))
    decided = {(hash, one["tag"], one["action"]): one["state"] for one in rows}
    noes = Noes.of(spellings, decided, frozenset(review.muted()))
    errors = kept.says.errors(row, [tag in written for tag in kept.names]).tolist()
    scored = zip(errors, kept.names, kept.never.tolist())
    out = []
    for chance, tag, never in sorted((-chance, tag, never) for chance, tag, never in scored if chance >= LIKELY_FROM):
        adding = tag not in written
        action = ADD if adding else REMOVE
        if (hash, tag, action) in decided or (never and adding) or noes.why_not(record, tag, adding):
            continue
        why = (WHY if adding else WHY_WRONG).format(f"{min(-chance, 0.99):.0%}")
        out.append((action, {"tag": tag, "probability": round(-chance, 4), "why": why}))
    added = [one["tag"] for action, one in out if action == ADD]
    coming = {brought for tag in added for brought in spellings.brings(tag) - {tag}}
    return [(action, one) for action, one in out if action == REMOVE or one["tag"] not in coming]


def _embeddings(folder: DataFolder, wanted: set[str], model: str, length: int) -> dict[str, Any]:
    """The stored embeddings (d,) of pictures by the model that was asked for; the newest shard that has one counts."""
    from tagcheck import pt_files  # likewise

    found: dict[str, Any] = {}
    for path in sorted(folder.embeddings.glob("embeddings_*.pt"), reverse=True):
        with suppress(OSError, pt_files.Refused):
            found = (pt_files.rows_of(path, wanted - found.keys()) or {}) | found
        if len(found) == len(wanted):
            break
    return {hash: row for hash, (made_by, row) in found.items() if made_by == model and len(row) == length}
