"""Copies of one picture: which is the best to keep, and why; and what two copies' tags differ in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from scipy import sparse

from tagcheck.dataset import Record

BLOCK = 2048
LOSSLESS = ("image/png", "image/apng", "image/bmp", "image/tiff", "image/x-icon", "image/vnd.adobe.photoshop")


def best_copy(copies: Sequence[Record]) -> tuple[int, list[str]]:
    """The place of the copy to keep, and the reasons in words, the decisive ones in the order they were asked.

    More pixels, then a lossless format, then the larger file, then more tags, then the earlier
    import. Between copies of the very same pixels format and size say nothing, so tags and time
    decide, and at last the smaller file. A question to which some copy has no answer is passed over.
    Ties go to the first.
    """
    same_pixels = len({copy.raw.get("pixel_hash") for copy in copies}) == 1 and bool(copies[0].raw.get("pixel_hash"))
    left, reasons = list(range(len(copies))), []
    for value, reason in SAME_PIXELS if same_pixels else ANY_PIXELS:
        values = {place: value(copies[place]) for place in left}
        if None in values.values():
            continue
        best = max(values.values())
        stay = [place for place in left if values[place] == best]
        if len(stay) < len(left):
            reasons.append(reason(copies[stay[0]]))
            left = stay
    return left[0], reasons or ["no copy is better by pixels, format, size, tags or time of import"]


def _pixels(copy: Record) -> int | None:
    width, height = copy.raw.get("width"), copy.raw.get("height")
    return width * height if width and height else None


def _lossless(copy: Record) -> bool | None:
    mime = copy.raw.get("mime")
    return mime in LOSSLESS if mime else None


def _earliness(copy: Record) -> float | None:
    time = copy.raw.get("time_imported")
    return -time if isinstance(time, (int, float)) else None


def _smallness(copy: Record) -> int | None:
    size = copy.raw.get("size")
    return -size if size else None


def _imported(copy: Record) -> str:
    when = datetime.fromtimestamp(copy.raw["time_imported"], UTC)
    return f"imported first ({when:%Y-%m-%d})"


Question = tuple[Callable[[Record], float | None], Callable[[Record], str]]
MOST_TAGS: Question = (lambda copy: len(copy.tags), lambda copy: f"most tags ({len(copy.tags)})")
FIRST: Question = (_earliness, _imported)
ANY_PIXELS: tuple[Question, ...] = (
    (_pixels, lambda copy: f"most pixels ({copy.raw['width']} x {copy.raw['height']})"),
    (_lossless, lambda copy: f"a lossless format ({copy.raw['mime']})"),
    (lambda copy: copy.raw.get("size"), lambda copy: f"the largest file ({copy.raw['size']:,} bytes)"),
    MOST_TAGS,
    FIRST,
)
SAME_PIXELS: tuple[Question, ...] = (
    MOST_TAGS,
    FIRST,
    (_smallness, lambda copy: f"the smallest file of the same pixels ({copy.raw['size']:,} bytes)"),
)


def differences(owned: sparse.csr_matrix, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which tags only one of each pair has: (pair, column, side), sorted; `side` 0 where `i` has it, 1 where `j` has.

    `owned` (n, T) 0/1.
    """
    pairs, columns, sides = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(i), BLOCK):
        block = slice(start, start + BLOCK)
        apart = (owned[i[block]].astype(np.int8) - owned[j[block]].astype(np.int8)).tocoo()
        kept = apart.data != 0
        pairs.append(apart.row[kept].astype(np.int64) + start)
        columns.append(apart.col[kept].astype(np.int64))
        sides.append((apart.data[kept] < 0).astype(np.int64))
    pair, column, side = (np.concatenate(part) for part in (pairs, columns, sides))
    order = np.lexsort((column, pair))
    return pair[order], column[order], side[order]
