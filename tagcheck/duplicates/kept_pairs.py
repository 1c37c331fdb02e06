"""Near-duplicate pairs kept between runs: only pictures that are new, or embedded anew, are compared again.

The file `pairs.npz` beside the embeddings holds the pairs at one threshold, with the hash of each picture and a digest of its
embedding. Pairs of pictures that have the same embedding as then are taken over, the others are compared with all: the result is that of
comparing everything, and the file may be deleted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagcheck import arrays
from tagcheck.embedding.store import Embeddings
from tagcheck.similar import Pairs, pairs

FILE = "pairs.npz"
VERSION = 1
FORM = {"version": "i0", "threshold": "f0", "hashes": "V1", "digests": "u1", "i": "i1", "j": "i1", "cosine": "f1"}
MOST_ANEW = 0.2  # share of pictures up to which it is quicker to compare only these with all
MOST_KEPT = 5_000_000  # pairs


@dataclass(frozen=True)
class Found:
    """All pairs, and how many pictures were compared with all others."""

    pairs: Pairs
    anew: int


def near_pairs(
    folder: Path,
    found: Embeddings,
    threshold: float,
    engine: str = "auto",
    progress: Callable[[float], None] | None = None,
    limit: int | None = None,
) -> Found:
    """`pairs.near_pairs` of the embeddings of `folder`, with what was kept there of an earlier run; keeps the result."""
    digests, hashes = arrays.row_digests(found.matrix), arrays.as_bytes(found.hashes)
    kept = _taken_over(folder / FILE, hashes, digests, threshold)
    if kept is not None:
        known, fresh = kept
        pairs.hold(len(known), limit, threshold)
        made = pairs.with_fresh(found.matrix, threshold, known, fresh, limit, progress) if len(fresh) else known
    else:
        made, fresh = pairs.near_pairs(found.matrix, threshold, engine, progress, limit), np.arange(len(hashes))
    if len(fresh) and len(made) <= MOST_KEPT:
        _keep(folder / FILE, hashes, digests, threshold, made)
    return Found(made, len(fresh))


def _taken_over(
    path: Path, hashes: np.ndarray, digests: np.ndarray, threshold: float
) -> tuple[Pairs, np.ndarray] | None:
    """(the kept pairs of these pictures, by their rows, the rows that have to be compared anew); None where it is better to begin anew."""
    held = arrays.load(path, FORM)
    if held is None or (int(held["version"]), float(held["threshold"])) != (VERSION, threshold):
        return None
    then, embedded, i, j, cosine = (held[name] for name in ("hashes", "digests", "i", "j", "cosine"))
    if len(then) != len(embedded) or not len(i) == len(j) == len(cosine):
        return None
    if len(i) and not 0 <= min(i.min(), j.min()) <= max(i.max(), j.max()) < len(then):
        return None
    before = arrays.places(hashes, then)
    same = before >= 0
    same[same] = embedded[before[same]] == digests[same]
    fresh = np.flatnonzero(~same)
    if len(fresh) > MOST_ANEW * len(hashes):
        return None
    now = np.full(len(then), -1, dtype=np.int64)
    now[before[same]] = np.flatnonzero(same)
    a, b = now[i], now[j]
    there = (a >= 0) & (b >= 0)
    return pairs.joined([Pairs(np.minimum(a, b)[there], np.maximum(a, b)[there], cosine[there])]), fresh


def _keep(path: Path, hashes: np.ndarray, digests: np.ndarray, threshold: float, made: Pairs) -> None:
    lists = {"hashes": hashes, "digests": digests, "i": made.i, "j": made.j, "cosine": made.cosine}
    arrays.save(path, lists | {"version": np.array(VERSION), "threshold": np.array(threshold)})
