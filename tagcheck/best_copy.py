"""Which of several copies of one picture to keep, and why: one rule for the report and for the page."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from tagcheck.dataset import Record

LOSSLESS = ("image/png", "image/apng", "image/bmp", "image/tiff", "image/x-icon", "image/vnd.adobe.photoshop")
ALL_ALIKE = "no copy is better by pixels, format, size, tags or time of import"


def best_copy(copies: Sequence[Record]) -> tuple[int, list[str]]:
    """The place of the copy to keep, and the reasons in words, the decisive ones in the order they were asked.

    More pixels, then a lossless format, then the larger file, then more tags, then the earlier import. Between copies
    of the very same pixels format and size say nothing, so tags and time decide, and at last the smaller file. A
    question to which some copy has no answer is passed over. Ties go to the first.
    """
    pixels = copies[0].raw.get("pixel_hash")
    same_pixels = bool(pixels) and all(copy.raw.get("pixel_hash") == pixels for copy in copies)
    left, reasons = list(range(len(copies))), []
    for value, reason in SAME_PIXELS if same_pixels else ANY_PIXELS:
        values = {place: answer for place in left if (answer := value(copies[place])) is not None}
        if len(values) < len(left):
            continue
        best = max(values.values())
        stay = [place for place in left if values[place] == best]
        if len(stay) < len(left):
            reasons.append(reason(copies[stay[0]]))
            left = stay
    return left[0], reasons or [ALL_ALIKE]


def _pixels(copy: Record) -> float | None:
    return (copy.raw.get("width") or 0) * (copy.raw.get("height") or 0) or None


def _imported(copy: Record) -> datetime | None:
    time = copy.raw.get("time_imported")
    return None if time is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time)


Question = tuple[Callable[[Record], float | None], Callable[[Record], str]]
MOST_TAGS: Question = (lambda copy: len(copy.tags), lambda copy: f"most tags ({len(copy.tags)})")
FIRST: Question = (
    lambda copy: -when.timestamp() if (when := _imported(copy)) else None,
    lambda copy: f"imported first ({_imported(copy):%Y-%m-%d})",
)
MOST_PIXELS: Question = (_pixels, lambda copy: f"most pixels ({copy.raw['width']} x {copy.raw['height']})")
WITHOUT_LOSS: Question = (
    lambda copy: mime in LOSSLESS if (mime := copy.raw.get("mime")) else None,
    lambda copy: f"a lossless format ({copy.raw['mime']})",
)
LARGEST: Question = (
    lambda copy: copy.raw.get("size") or None,
    lambda copy: f"the largest file ({copy.raw['size']:,} bytes)",
)
SMALLEST: Question = (
    lambda copy: -size if (size := copy.raw.get("size")) else None,
    lambda copy: f"the smallest file of the same pixels ({copy.raw['size']:,} bytes)",
)
ANY_PIXELS = (MOST_PIXELS, WITHOUT_LOSS, LARGEST, MOST_TAGS, FIRST)
SAME_PIXELS = (MOST_TAGS, FIRST, SMALLEST)
