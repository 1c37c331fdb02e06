"""Short texts of the review store, some compressed together: the evidence of suggestions, and the dataset's records.

They are much alike, so they are compressed as if they went on from `BEFORE`, a text that all of them share words with. What was packed
once has to be readable for ever: `BEFORE` never changes; another one would need another first byte.
"""

import zlib
from functools import lru_cache

BETWEEN = "\0"  # what parts the texts
BEFORE = (
    b'{"hash": "", "status": "ok", "existing_all_tags": ["1girl", "solo", "creator:", "person:", "character:", "tag '
    b'"], "existing_series_tags": ["series:"], "implied_tags": [], "deleted_tags": [], "existing_tags_by_service": {}, "pages": [["'
    b'"]], "time_imported": 17000000, "pixel_hash": "", "size": 100000, "width": 1200, "height": 1600, "mime": "image/jpeg", '
    b'"image/png", "duration": null, "file_path": "/", "embedding": "predictions": "is_trashed": false}"similarity": 0.9, '
    b'"rule": "single-valued namespace", "learned exclusion", "against": "", "brings": [""], "follows_from": "", '
    b'"before_verdicts": 0., "taggers": {"": {"learned": 0.00, "own": 0.99}}, "probability": 0., "copy_probability": 0., '
    b'"only_in_1": [], "only_in_2": [], "refused_in_1": [], "refused_in_2": [], "other_copy": "", "1 of 2 near-duplicates has it, '
    b"10 of the 10 closest pictures have it, the picture and its other tags make it over 99 % likely, the tagger gives it under 1 % "
    b"and it is used only 12 times. The picture and its other tags make it under 1 % likely and the tagger gives it over 99 %."
    b'\0{"expected": 0.9, "neighbours": 10, "neighbours_with": 0, "twins": 0, "twins_with": 0, "uses": 12, "forgotten_here": 0.0, '
    b'"weighed": {"probe": 12.0, "kernel": -0.5, "context": 12.0, "neighbours": -1.02, "twins": 4.0, "tagger": 12.0, '
    b'"classifier": 3.0, "prior": -2.5}, "tagger": 0.9, "near_with": [10, 11, 12, 13], "near_without": [14, 15, 16, 17]}'
)


def packed(*texts: str) -> bytes:
    """Some texts as one. Those without a zero byte in them come back by `parts`.

    >>> parts(packed("It looks like it.", '{"expected": 0.9}'))
    ['It looks like it.', '{"expected": 0.9}']
    """
    made = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, BEFORE)
    return made.compress(BETWEEN.join(texts).encode("utf-8", "replace")) + made.flush()


@lru_cache(maxsize=64)
def parts(kept: bytes | str) -> list[str]:
    """The texts again; a text that was never packed is its own only part."""
    if isinstance(kept, str):
        return [kept]
    return zlib.decompressobj(-15, BEFORE).decompress(kept).decode("utf-8", "replace").split(BETWEEN)


def text_of(kept: bytes | str, place: int) -> str | None:
    """One of the texts that are packed together; the last where `place` is -1."""
    return parts(kept)[place] if kept is not None else None
