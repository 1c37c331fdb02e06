"""What is suggested for a picture that no detector has examined yet, from its stored embedding.

The last run of the detectors kept a small model (`tagcheck.single_picture`). It does not use similar pictures or copies, so
it suggests less than they will.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tagcheck import dataset
from tagcheck.data_folder import DATASET, SINGLE_PICTURE, DataFolder
from tagcheck.errors import BadFile, MissingInput
from tagcheck.refusals import Noes, Spellings
from tagcheck.review import queries
from tagcheck.review.store import ADD, LIKELY_FROM, REMOVE, Review

if TYPE_CHECKING:
    from tagcheck.single_picture import Kept

MOST = 20_000  # pictures that wait for the detectors and have their records in the store
WHY = "The picture alone makes it {} likely; the detectors have not examined it yet."
WHY_WRONG = "The picture alone makes it {} likely that it is wrong; the detectors have not examined it yet."


def examined(folder: DataFolder) -> bytes | None:
    """The hashes of the pictures that the detectors had examined when they ran last, 32 bytes each; None where that is not kept."""
    damaged = (OSError, KeyError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile)
    with suppress(*damaged), zipfile.ZipFile(folder.root / SINGLE_PICTURE) as kept:
        if kept.getinfo("examined.npy").compress_type != zipfile.ZIP_STORED:  # which may ask for any amount of memory
            return None
        data = kept.read("examined.npy")  # without NumPy: loading that takes longer than the answer
        return data[10 + int.from_bytes(data[8:10], "little") :]
    return None


def suggested(review: Review, folder: DataFolder, hashes: Sequence[str]) -> dict[str, list[tuple[str, dict[str, Any]]]]:
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
            out[hash] = _of_picture(review, kept, spellings, dataset.record_of(raw[hash], spellings), row)
    return out


def _of_picture(
    review: Review, kept: Kept, spellings: Spellings, record: dataset.Record, row: Any
) -> list[tuple[str, dict[str, Any]]]:
    hash = record.hash
    rows = review.db.execute("SELECT tag, action, state FROM decisions WHERE hash = ?", (hash,))
    decided = {(hash, one["tag"], one["action"]): one["state"] for one in rows}
    noes = Noes.of(spellings, decided, frozenset(review.muted()))
    errors = kept.says.errors(row, [tag in record.tags for tag in kept.names]).tolist()
    scored = zip(errors, kept.names, kept.never.tolist())
    out = []
    for chance, tag, never in sorted((-chance, tag, never) for chance, tag, never in scored if chance >= LIKELY_FROM):
        adding = tag not in record.tags
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
