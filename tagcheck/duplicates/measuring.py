"""Measure what "the same picture" means for a network: the owner's own pictures, changed in memory, beside the rest."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from tagcheck import script
from tagcheck.duplicates import kept_pairs, pixel_difference, same_picture
from tagcheck.duplicates.same_picture import Measured
from tagcheck.embedding import Embeddings, store
from tagcheck.errors import FileUnavailable
from tagcheck.pictures import preparation
from tagcheck.pictures.decoder_processes import Decoders
from tagcheck.pictures.file_formats import ImageUnreadable, ImageUnsupported, Limits
from tagcheck.pictures.preparation import Recipe
from tagcheck.pictures.retouching import CHANGES, CROP, changed
from tagcheck.pictures.thumbnails import BYTES, picture_thumbnail
from tagcheck.similar import Pairs
from tagcheck.similar import pairs as pair_search

if TYPE_CHECKING:  # a detector measures nothing
    from tagcheck.embedding.tagger import Tagger

FEWEST = 40  # pictures below which nothing is measured
SHARE, MOST, AT_LEAST = 10, 200, 100  # one picture in SHARE is changed, but at least and at most so many
TIMES = 2  # changes of each: a crop, which is the hardest to tell from a similar picture, and one of the others
FINER = 2  # a picture that is changed has at most so many pixels a side for each one that the network sees
ORDINARY = 20_000  # pictures among which ordinary pairs are looked for
PAIRS_A_PICTURE = 20
LEARNED_FROM = 20_000  # pairs of the library, at most, that tell what pairs look like that are no copies
# Where nothing was measured, copies are told by the first of these at which groups stay small.
COPY_COSINES = (0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
LARGEST_GROUP = 0.1  # of all pictures: a larger "group of copies" is none
MOST_COPIES = 100  # more pairs for each picture are none either
NARROWER = 0.8  # what a threshold's distance from 1 is taken times when there are too many pairs above it
SAME = 1e-6  # what the cosine of rows that are the same but for rounding is below 1 by
DRAWN = 200  # pairs at random
AGAIN = 4  # times as many pictures after which it is measured again


class _Change(NamedTuple):
    """A changed picture: which of `CHANGES`, what the network sees, uint8 (3, S, S), and its thumbnail."""

    how: str
    frame: np.ndarray
    thumbnail: np.ndarray


def wanted(folder: Path, model: Tagger, pictures: int) -> bool:
    """Whether there is something to measure: nothing was, for this tagger, or the library has grown much since."""
    if pictures < FEWEST:
        return False
    found = same_picture.load(folder, model.id)
    return found is None or found.preprocess != model.preprocess_id or pictures > AGAIN * found.library


def changes(folder: Path, model: Tagger, pictures: int) -> int:
    """How many changed pictures `measure` embeds for a library of so many pictures, 0 where it is not `wanted`."""
    return TIMES * _to_change(pictures) if wanted(folder, model, pictures) else 0


def _to_change(pictures: int) -> int:
    return min(pictures, MOST, max(AT_LEAST, pictures // SHARE))


def measure(
    folder: Path, hashes: Sequence[str], model: Tagger, read: Callable[[str], bytes], limits: Limits
) -> Measured | None:
    """Measure for the embeddings in `folder` of the pictures `hashes`; None where too few can be read or have a
    thumbnail, or where the network sees hardly a difference between any of them.
    """
    rng = np.random.default_rng(0)
    drawn = sorted(hashes[row] for row in rng.permutation(len(hashes))[:ORDINARY].tolist())
    found = store.load(folder, drawn, model.id)
    thumbnails, known = store.load_thumbnails(folder, found.hashes, BYTES)
    candidates, count = rng.permutation(np.flatnonzero(known)), _to_change(len(hashes))
    rows, changes = _changed(found.hashes, candidates, count, model, read, limits, rng)
    if len(changes) < FEWEST:
        return None
    kinds = np.array([change.how for change in changes])
    embedded = model.embed([change.frame for change in changes])
    small = np.stack([change.thumbnail for change in changes])
    n, k = len(found.hashes), len(rows)
    cosine = pair_search.pair_cosines(np.concatenate([found.matrix, embedded]), rows, n + np.arange(k))
    differences = partial(pixel_difference.differences, unlike=np.inf)
    apart = differences(np.concatenate([thumbnails, small]), rows, n + np.arange(k))
    try:
        threshold, pairs = _ordinary(found.matrix, known, same_picture.reach(cosine))
    except pair_search.TooManyPairs:
        return None
    kept = cosine >= threshold
    if kept.sum() < FEWEST:  # where most of the library is as alike as copies are
        return None
    a, b = rng.choice(np.flatnonzero(known), size=(2, DRAWN))
    if len(pairs) > LEARNED_FROM:
        pairs = pairs.part(rng.permutation(len(pairs))[:LEARNED_FROM])
    centre, spread, weights, alone = same_picture.learn(
        (cosine[kept], apart[kept]),
        (pairs.cosine, differences(thumbnails, pairs.i, pairs.j)),
        differences(thumbnails, a[a != b], b[a != b]),
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


def _changed(
    hashes: Sequence[str],
    candidates: np.ndarray,
    count: int,
    model: Tagger,
    read: Callable[[str], bytes],
    limits: Limits,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[_Change]]:
    """Up to `count` pictures, `TIMES` changes of each; the rows of these."""
    found: list[tuple[int, _Change]] = []
    workers = min(os.cpu_count() or 1, count)
    with closing(Decoders(workers, model.recipe, limits)) as decoders, ThreadPoolExecutor(workers) as pool:

        def work(data: bytes, seed: int) -> list[_Change]:
            return _changes(decoders, data, model.recipe, np.random.default_rng(seed))

        files = _readable(hashes, candidates, read)
        while len(found) < TIMES * count and (
            some := list(islice(files, min(2 * workers, count - len(found) // TIMES)))
        ):
            seeds = rng.integers(1 << 32, size=len(some)).tolist()
            for (row, _), changes in zip(some, pool.map(work, (data for _, data in some), seeds)):
                found += [(row, change) for change in changes]
    return np.array([row for row, _ in found], dtype=np.int64), [change for _, change in found]


def _readable(
    hashes: Sequence[str], candidates: np.ndarray, read: Callable[[str], bytes]
) -> Iterator[tuple[int, bytes]]:
    """(row, its file's bytes) of the pictures that can be read."""
    for row in candidates.tolist():
        try:
            yield row, read(hashes[row])
        except FileUnavailable:
            continue


def _changes(decoders: Decoders, data: bytes, recipe: Recipe, rng: np.random.Generator) -> list[_Change]:
    """`TIMES` changes of one picture, none of a file that cannot be decoded."""
    try:
        shown, _ = decoders.show(data, FINER * recipe.size)
    except (ImageUnreadable, ImageUnsupported):
        return []
    with Image.open(io.BytesIO(shown)) as opened:
        image = preparation.to_rgb(opened)
    found = []
    for how in (CROP, str(rng.choice([one for one in CHANGES if one != CROP]))):
        other = changed(image, how, rng)
        frame = preparation.prepare(other, recipe)
        found.append(_Change(how, frame, picture_thumbnail(frame, other.size, recipe.fit == "pad")))
    return found


def _ordinary(matrix: np.ndarray, known: np.ndarray, threshold: float) -> tuple[float, Pairs]:
    """(a threshold at which the library has no more than `PAIRS_A_PICTURE`, its pairs above it that have thumbnails).

    Of pictures with the same embedding the first stands for all: these are copies, and not what ordinary pairs look like.
    """
    rows = np.ascontiguousarray(matrix)
    _, first = np.unique(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))), return_index=True)
    first.sort()
    while True:
        try:
            pairs = pair_search.near_pairs(matrix[first], threshold, limit=PAIRS_A_PICTURE * len(first))
            break
        except pair_search.TooManyPairs:
            threshold = 1 - NARROWER * (1 - threshold)
            if 1 - threshold < SAME:
                raise
    i, j = first[pairs.i], first[pairs.j]
    kept = known[i] & known[j]
    return threshold, Pairs(i[kept], j[kept], pairs.cosine[kept])


def copies(
    folder: Path, hashes: Sequence[str], measured: Measured, pairs: Pairs
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(whether each of the pairs of `hashes` is a copy (m,), the chance of it, whether both have a thumbnail), by cosine
    and stored thumbnails.
    """
    asked = np.unique(np.concatenate([pairs.i, pairs.j]))
    thumbnails, known = store.load_thumbnails(folder, [hashes[row] for row in asked.tolist()], BYTES)

    def differences(i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = np.searchsorted(asked, i), np.searchsorted(asked, j)
        return pixel_difference.differences(thumbnails, a, b), known[a] & known[b]

    both = known[np.searchsorted(asked, pairs.i)] & known[np.searchsorted(asked, pairs.j)]
    return *same_picture.among(measured, pairs, differences), both


def known_copies(folder: Path, found: Embeddings) -> Pairs | None:
    """The copies among pictures with embeddings, as they were measured; None where nothing was, or too many pairs are alike."""
    measured = same_picture.load(folder, found.model)
    if measured is None or len(found.hashes) < 2:
        return None
    try:
        pairs = kept_pairs.near_pairs(
            folder, found, measured.threshold, limit=2 * PAIRS_A_PICTURE * len(found.hashes)
        ).pairs
    except pair_search.TooManyPairs:
        return None
    return pairs.part(copies(folder, found.hashes, measured, pairs)[0])


def copy_groups(folder: Path, found: Embeddings) -> tuple[np.ndarray, float]:
    """(the group of copies of each picture (n,), the cosine that they were found at).

    Where it was measured what copies look like to the tagger, these are the groups. Else embeddings of some models lie so close
    together that at the first cosine half a library is one chain of copies; then the next one is tried.
    """
    n = len(found.hashes)
    for pairs, cosine in _likely_copies(folder, found):
        labels = pair_search.group_labels(n, pairs.i, pairs.j)
        if np.bincount(labels).max() <= max(LARGEST_GROUP * n, 2):
            return labels, cosine
    script.say("too many pictures look alike: only those of one and the same embedding count as copies")
    return np.unique(found.matrix, axis=0, return_inverse=True)[1].reshape(-1), 1.0


def _likely_copies(folder: Path, found: Embeddings) -> Iterator[tuple[Pairs, float]]:
    """(pairs, their cosine) of what may be the copies, the likeliest first."""
    known = known_copies(folder, found)
    if known is not None:
        yield known, float(known.cosine.min()) if len(known) else 1.0
    limit = MOST_COPIES * len(found.hashes)
    for cosine in COPY_COSINES:
        with script.shown_share(f"copies at {cosine:g}") as progress:
            try:
                if known is None and cosine == COPY_COSINES[0]:  # then near-duplicates are looked for at this, too
                    pairs = kept_pairs.near_pairs(folder, found, cosine, progress=progress, limit=limit).pairs
                else:
                    pairs = pair_search.near_pairs(found.matrix, cosine, progress=progress, limit=limit)
            except pair_search.TooManyPairs:
                continue
        yield pairs, cosine
