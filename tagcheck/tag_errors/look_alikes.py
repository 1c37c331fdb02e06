"""For each suggestion the nearest pictures that have the tag, and the nearest that lack it: what a person compares with.

They explain a suggestion and are no part of its confidence. Near-duplicates are among them, since they
are what tells most.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tagcheck.learning.linear_probes import unit_rows

FEW = 4  # pictures of each sort
BLOCK = 4_000_000  # cosines that are held at once


@dataclass(frozen=True)
class Examples:
    """Rows of pictures, the nearest first: up to `FEW` that have the tag, up to `FEW` that lack it."""

    having: list[int]
    lacking: list[int]


def nearest(
    matrix: np.ndarray,
    indices: np.ndarray,
    cosine: np.ndarray,
    asked: Sequence[tuple[int, str]],
    tag_sets: Sequence[frozenset[str]],
) -> list[Examples]:
    """The examples for each asked (row, tag).

    `matrix` (n, d) embeddings; `indices`, `cosine` (n, k) the nearest pictures of each row, as
    `evidence.surroundings` finds them: both sorts are taken from those. Where none of them has the tag, all
    pictures that have it are looked through by the same cosine (of centred rows). `tag_sets` the tags of the n pictures.

    >>> x = np.array([[1, 0], [1, 0.1], [0, 1], [-1, -1]])
    >>> nearest(x, np.array([[1], [0], [1], [2]]), np.ones((4, 1)), [(0, "a")], [frozenset(), frozenset(), frozenset("a"), frozenset()])
    [Examples(having=[2], lacking=[1])]
    """
    by_tag: dict[str, list[int]] = {}
    for place, (_, tag) in enumerate(asked):
        by_tag.setdefault(tag, []).append(place)
    holders = _holders(by_tag, tag_sets)
    mean = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    made: list[Examples] = [Examples([], [])] * len(asked)
    for tag, places in by_tag.items():
        has = np.zeros(len(matrix), dtype=bool)
        has[holders[tag]] = True
        rows = np.array([asked[place][0] for place in places])
        order = np.argsort(-cosine[rows], axis=1, kind="stable")
        near = np.take_along_axis(indices[rows], order, axis=1)
        found = [Examples(one[has[one]][:FEW].tolist(), one[~has[one]][:FEW].tolist()) for one in near]
        lost = [number for number, one in enumerate(found) if not one.having]
        for number, far in zip(lost, _closest(matrix, mean, rows[lost], holders[tag])):
            found[number] = Examples(far, found[number].lacking)
        for place, one in zip(places, found):
            made[place] = one
    return made


def _holders(tags: Iterable[str], tag_sets: Sequence[frozenset[str]]) -> dict[str, np.ndarray]:
    """Rows of the pictures that have each of the tags."""
    rows: dict[str, list[int]] = {tag: [] for tag in tags}
    for row, mine in enumerate(tag_sets):
        for tag in mine & rows.keys():
            rows[tag].append(row)
    return {tag: np.array(found, dtype=np.int64) for tag, found in rows.items()}


def _closest(matrix: np.ndarray, mean: np.ndarray, rows: np.ndarray, among: np.ndarray) -> list[list[int]]:
    """For each row the `FEW` most alike of `among`, itself left out."""
    if not len(rows) or not len(among):
        return [[] for _ in rows]
    theirs = unit_rows(matrix[among] - mean)
    out = []
    step = max(1, BLOCK // len(among))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        alike = unit_rows(matrix[block] - mean) @ theirs.T
        alike[block[:, None] == among[None, :]] = -np.inf
        few = min(FEW, len(among))
        best = np.argpartition(-alike, few - 1, axis=1)[:, :few]
        score = np.take_along_axis(alike, best, axis=1)
        order = np.argsort(-score, axis=1, kind="stable")
        for found, sure in zip(np.take_along_axis(best, order, axis=1), np.take_along_axis(score, order, axis=1)):
            out.append(among[found[sure > -np.inf]].tolist())
    return out
