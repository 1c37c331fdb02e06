"""Measure what "the same picture" means for a network: the owner's own pictures, changed in memory, beside the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tagcheck.duplicates import pixel_difference, same_picture
from tagcheck.duplicates.same_picture import Measured
from tagcheck.embedding import Embeddings, Tagger, store
from tagcheck.errors import FileUnavailable
from tagcheck.pictures import preparation
from tagcheck.pictures.file_formats import ImageUnreadable, ImageUnsupported, Limits
from tagcheck.pictures.preparation import Recipe
from tagcheck.pictures.retouching import CHANGES, CROP, changed
from tagcheck.similar import Pairs
from tagcheck.similar import pairs as pair_search

FEWEST = 40  # pictures below which nothing is measured
SHARE, MOST, AT_LEAST = 10, 200, 100  # one picture in SHARE is changed, but at least and at most so many
TIMES = 2  # changes of each: a crop, which is the hardest to tell from a look-alike, and one of the others
ORDINARY = 20_000  # pictures among which ordinary pairs are looked for
PAIRS_A_PICTURE = 20
NARROWER = 0.8  # what a threshold's distance from 1 is taken times when there are too many pairs above it
DRAWN = 200  # pairs at random
AGAIN = 4  # times as many pictures after which it is measured again


def wanted(folder: Path, model: Tagger, pictures: int) -> bool:
    """Whether there is something to measure: nothing was, for this tagger, or the library has grown much since."""
    if pictures < FEWEST:
        return False
    found = same_picture.load(folder, model.id)
    return found is None or found.preprocess != model.preprocess_id or pictures > AGAIN * found.library


def measure(
    folder: Path, hashes: Sequence[str], model: Tagger, read: Callable[[str], bytes], limits: Limits
) -> Measured | None:
    """Measure for the embeddings in `folder` of the pictures `hashes`; None where too few can be read or have a thumbnail."""
    rng = np.random.default_rng(0)
    drawn = sorted(hashes[row] for row in rng.permutation(len(hashes))[:ORDINARY].tolist())
    found = store.load(folder, drawn, model.id)
    thumbnails, known = store.load_thumbnails(folder, found.hashes, pixel_difference.BYTES)
    candidates = rng.permutation(np.flatnonzero(known))
    rows, kinds, frames, small = _changed(found.hashes, candidates, _count(len(hashes)), model, read, limits, rng)
    if len(frames) < FEWEST:
        return None
    embedded = np.concatenate(
        [model.embed(np.stack(frames[at : at + model.batch_size])) for at in range(0, len(frames), model.batch_size)]
    )
    n, k = len(found.hashes), len(rows)
    cosine = pair_search.pair_cosines(np.concatenate([found.matrix, embedded]), rows, n + np.arange(k))
    apart = pixel_difference.differences(np.concatenate([thumbnails, np.stack(small)]), rows, n + np.arange(k))
    threshold, pairs = _ordinary(found.matrix, known, same_picture.reach(cosine))
    kept = cosine >= threshold
    centre, spread, weights, alone = same_picture.learn(
        (cosine[kept], apart[kept]),
        (pairs.cosine, pixel_difference.differences(thumbnails, pairs.i, pairs.j)),
        _strangers(thumbnails, known, rng),
    )
    did = {how: np.quantile(cosine[kinds == how], [0.5, 0.05]).round(4).tolist() for how in CHANGES if how in kinds}
    return Measured(
        model=model.id,
        preprocess=model.preprocess_id,
        threshold=round(threshold, 4),
        centre=centre.round(6).tolist(),
        spread=spread.round(6).tolist(),
        weights=weights.round(6).tolist(),
        alone=alone.round(6).tolist(),
        pictures=len(set(rows.tolist())),
        changes=k,
        library=len(hashes),
        found=did,
    )


def picture_thumbnail(frame: np.ndarray, size: tuple[int, int] | None, recipe: Recipe) -> np.ndarray:
    """The thumbnail of a prepared picture, uint8 (3, S, S), of true (width, height) `size`, without its background."""
    side = frame.shape[-1]
    if size is None or recipe.fit != "pad":
        return pixel_difference.thumbnail(frame)
    width, height = (max(1, round(length / max(size) * side)) for length in size)
    left, top = (side - width) // 2, (side - height) // 2
    return pixel_difference.thumbnail(frame[:, top : top + height, left : left + width])


def _count(pictures: int) -> int:
    """How many pictures are changed."""
    return min(MOST, max(AT_LEAST, pictures // SHARE))


def _changed(
    hashes: Sequence[str],
    candidates: np.ndarray,
    count: int,
    model: Tagger,
    read: Callable[[str], bytes],
    limits: Limits,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Up to `count` pictures, `TIMES` changes of each: their rows, the changes' names, what the network sees, thumbnails."""
    rows: list[int] = []
    kinds: list[str] = []
    frames: list[np.ndarray] = []
    small: list[np.ndarray] = []
    for row in candidates.tolist():
        if len(rows) >= TIMES * count:
            break
        try:
            image = preparation.open_image(read(hashes[row]), None, limits)
        except (FileUnavailable, ImageUnreadable, ImageUnsupported):
            continue
        for how in (CROP, str(rng.choice([one for one in CHANGES if one != CROP]))):
            other: Image.Image = changed(image, how, rng)
            frame = preparation.prepare(other, model.recipe)
            rows.append(row)
            kinds.append(how)
            frames.append(frame)
            small.append(picture_thumbnail(frame, other.size, model.recipe))
    return np.array(rows, dtype=np.int64), np.array(kinds), frames, small


def _ordinary(matrix: np.ndarray, known: np.ndarray, threshold: float) -> tuple[float, Pairs]:
    """(a threshold at which the library has no more than `PAIRS_A_PICTURE`, its pairs above it that have thumbnails)."""
    while True:
        try:
            pairs = pair_search.near_pairs(matrix, threshold, limit=PAIRS_A_PICTURE * len(matrix))
            break
        except pair_search.TooManyPairs:
            threshold = 1 - NARROWER * (1 - threshold)
    kept = known[pairs.i] & known[pairs.j]
    i, j, cosine = pairs.i[kept], pairs.j[kept], pairs.cosine[kept]
    return threshold, Pairs(i, j, cosine)


def _strangers(thumbnails: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The differences of pictures drawn at random."""
    a, b = rng.choice(np.flatnonzero(known), size=(2, DRAWN))
    return pixel_difference.differences(thumbnails, a[a != b], b[a != b])


def copies(folder: Path, hashes: Sequence[str], measured: Measured, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """(whether each of the pairs of `hashes` is a copy (m,), the chance of it), by cosine and stored thumbnails."""
    asked = np.unique(np.concatenate([pairs.i, pairs.j]))
    thumbnails, known = store.load_thumbnails(folder, [hashes[row] for row in asked.tolist()], pixel_difference.BYTES)

    def differences(i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = np.searchsorted(asked, i), np.searchsorted(asked, j)
        return pixel_difference.differences(thumbnails, a, b), known[a] & known[b]

    return same_picture.among(measured, pairs, differences)


def known_copies(folder: Path, found: Embeddings, progress: Callable[[float], None] | None = None) -> Pairs | None:
    """The copies among pictures with embeddings, as they were measured; None where nothing was, or too many pairs are alike."""
    measured = same_picture.load(folder, found.model)
    if measured is None or len(found.hashes) < 2:
        return None
    try:
        pairs = pair_search.near_pairs(
            found.matrix, measured.threshold, limit=2 * PAIRS_A_PICTURE * len(found.hashes), progress=progress
        )
    except pair_search.TooManyPairs:
        return None
    kept, _ = copies(folder, found.hashes, measured, pairs)
    return Pairs(pairs.i[kept], pairs.j[kept], pairs.cosine[kept])
