"""For each suggestion the nearest pictures that have the tag, and the nearest that lack it: what a person compares with.

They explain a suggestion and are no part of its confidence. Near-duplicates are among them, since they
are what tells most.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

FEW = 4  # pictures of each sort
BLOCK = 4_000_000  # cosines that are held at once
MOST_HOLDERS = 4_000  # pictures of a tag that are looked through


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
    `evidence.surroundings` finds them: both sorts are taken from those. Where none of them has the tag, the pictures
    that have it are looked through by the same cosine (of centred rows), of very many an even sample. `tag_sets` the tags of the n pictures.

    >>> x = np.array([[1, 0], [1, 0.1], [0, 1], [-1, -1]])
    >>> nearest(x, np.array([[1], [0], [1], [2]]), np.ones((4, 1)), [(0, "a")], [frozenset(), frozenset(), frozenset("a"), frozenset()])
    [Examples(having=[2], lacking=[1])]
    """
    by_tag: dict[str, list[int]] = {}
    for place, (_, tag) in enumerate(asked):
        by_tag.setdefault(tag, []).append(place)
    holders = _holders(by_tag, tag_sets)
    space = Space.centred(matrix)
    made: list[Examples] = [Examples([], [])] * len(asked)
    for tag, places in by_tag.items():
        has = np.zeros(len(matrix), dtype=bool)
        has[holders[tag]] = True
        rows = np.array([asked[place][0] for place in places])
        order = np.argsort(-cosine[rows], axis=1, kind="stable")
        near = np.take_along_axis(indices[rows], order, axis=1)
        found = [Examples(one[has[one]][:FEW].tolist(), one[~has[one]][:FEW].tolist()) for one in near]
        lost = [number for number, one in enumerate(found) if not one.having]
        for number, far in zip(lost, closest(space, rows[lost], holders[tag])):
            found[number] = Examples([row for row, _ in far], found[number].lacking)
        for place, one in zip(places, found):
            made[place] = one
    return made


def _holders(tags: Iterable[str], tag_sets: Sequence[frozenset[str]]) -> dict[str, np.ndarray]:
    """Rows of the pictures that have each of the tags."""
    rows = {tag: array("q") for tag in tags}
    for row, mine in enumerate(tag_sets):
        for tag in mine & rows.keys():
            rows[tag].append(row)
    return {tag: np.array(found, dtype=np.int64) for tag, found in rows.items()}


@dataclass(frozen=True)
class Space:
    """Rows `matrix` (n, d), the middle (d,) that they are seen from, and the length of each from there (n,)."""

    matrix: np.ndarray
    middle: np.ndarray
    length: np.ndarray

    @classmethod
    def of(cls, matrix: np.ndarray, middle: np.ndarray | None = None) -> Space:
        """Seen from `middle`, without it from 0."""
        middle = np.zeros(matrix.shape[1], dtype=np.float32) if middle is None else middle
        square = np.einsum("nd,nd->n", matrix, matrix) - 2 * (matrix @ middle) + middle @ middle
        return cls(matrix, middle, np.sqrt(np.maximum(square, 1e-12)))

    @classmethod
    def centred(cls, matrix: np.ndarray) -> Space:
        """Seen from their mean."""
        return cls.of(matrix, matrix.mean(axis=0, dtype=np.float64).astype(np.float32))

    def cosines(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(rows, others)."""
        own = self.matrix[rows] - self.middle
        along = self.matrix[others] @ own.T - own @ self.middle
        return np.asarray(along.T / (self.length[rows, None] * self.length[others]))


def closest(space: Space, rows: np.ndarray, holders: np.ndarray, few: int = FEW) -> list[list[tuple[int, float]]]:
    """For each of `rows` the `few` most alike of `holders`, itself left out, with their cosines, the nearest first.

    Of very many holders an even sample is looked through.
    """
    among = holders[:: 1 + len(holders) // MOST_HOLDERS]
    if not len(rows) or not len(among):
        return [[] for _ in rows]
    out, few, step = [], min(few, len(among)), max(1, BLOCK // len(among))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        alike = space.cosines(block, among)
        alike[block[:, None] == among[None, :]] = -np.inf
        best = np.argpartition(-alike, few - 1, axis=1)[:, :few]
        score = np.take_along_axis(alike, best, axis=1)
        order = np.argsort(-score, axis=1, kind="stable")
        for found, sure in zip(np.take_along_axis(best, order, axis=1), np.take_along_axis(score, order, axis=1)):
            out.append([(row, like) for row, like in zip(among[found].tolist(), sure.tolist()) if like > -np.inf])
    return out
