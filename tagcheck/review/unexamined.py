"""What is suggested for a picture that no detector has examined yet, from its stored embedding.

The last run of the detectors kept a small model (`tagcheck.single_picture`). It knows no neighbours and no copies, so it says less
than they will.
"""

from __future__ import annotations

import zipfile
from contextlib import suppress
from typing import Any

from tagcheck import dataset
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.errors import BadFile, MissingInput
from tagcheck.refusals import Noes
from tagcheck.review import queries
from tagcheck.review.store import ADD, LIKELY_FROM, REMOVE, Review

FILE = "single_picture.npz"
MOST = 20_000  # pictures that wait for the detectors and have their records in the store
WHY = "The picture alone makes it {} likely; the detectors have not examined it yet."
WHY_WRONG = "The picture alone makes it {} likely that it is wrong; the detectors have not examined it yet."


def examined(folder: DataFolder) -> bytes | None:
    """The hashes of the pictures that the detectors had examined when they ran last, 32 bytes each; None where that is not kept."""
    with suppress(OSError, KeyError, zipfile.BadZipFile), zipfile.ZipFile(folder.root / FILE) as kept:
        data = kept.read(
            "examined.npy"
        )  # read without NumPy, which takes longer to load than a question to be answered
        return data[10 + int.from_bytes(data[8:10], "little") :]
    return None


def suggested(review: Review, folder: DataFolder, hash: str) -> list[tuple[str, dict[str, Any]]] | None:
    """(action, {"tag", "probability", "why"}) that is likely and that the owner has not refused, the surest first; None for a picture
    that has no record or embedding.
    """
    from tagcheck import single_picture  # which needs NumPy, unlike an answer from the reports

    raw, kept, newest = queries.picture(review, hash), single_picture.load(folder.root), folder.newest(DATASET)
    found = None if raw is None or kept is None else _embedding(folder, hash, kept.model, kept.says.weight.shape[1])
    if raw is None or kept is None or newest is None or found is None:
        return None
    try:
        spellings = dataset.spellings(newest)
        record = dataset.record_of(f"the record of {hash}", raw, spellings)
    except (BadFile, MissingInput):
        return None
    rows = review.db.execute("SELECT tag, action, state FROM decisions WHERE hash = ?", (hash,))
    decided = {(hash, row["tag"], row["action"]): row["state"] for row in rows}
    noes = Noes.of(spellings, decided, frozenset(review.muted()))
    errors = kept.says.errors(found, [tag in record.tags for tag in kept.names]).tolist()
    likely = sorted(
        (-chance, tag, never)
        for chance, tag, never in zip(errors, kept.names, kept.never.tolist())
        if chance >= LIKELY_FROM
    )
    out = []
    for chance, tag, never in likely:
        adding = tag not in record.tags
        action = ADD if adding else REMOVE
        if (hash, tag, action) in decided or (never and adding) or noes.why_not(record, tag, adding):
            continue
        why = (WHY if adding else WHY_WRONG).format(f"{min(-chance, 0.99):.0%}")
        out.append((action, {"tag": tag, "probability": round(-chance, 4), "why": why}))
    coming = {
        brought for action, one in out if action == ADD for brought in spellings.brings(one["tag"]) - {one["tag"]}
    }
    return [(action, one) for action, one in out if action == REMOVE or one["tag"] not in coming]


def _embedding(folder: DataFolder, hash: str, model: str, length: int) -> Any:
    """The stored embedding (d,) of a picture by the model that was asked for; the newest shard that has it counts."""
    from tagcheck import pt_files  # likewise

    for path in sorted(folder.embeddings.glob("embeddings_*.pt"), reverse=True):
        with suppress(OSError, pt_files.Refused):
            found = pt_files.row_of(path, hash)
            if found is not None:
                return found[1] if found[0] == model and len(found[1]) == length else None
    return None
