"""For each suggestion the nearest pictures that have the tag, and the nearest that lack it: what a person compares with.

They explain a suggestion and are no part of its confidence. Near-duplicates are among them, since they
are what tells most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tagcheck.tag_columns import having, tag_columns

FEW = 4  # pictures of each sort
BLOCK = 4_000_000  # cosines that are held at once
MOST_HOLDERS = 4_000  # pictures of a tag that are looked through


def nearest(
    matrix: np.ndarray,
    indices: np.ndarray,
    cosine: np.ndarray,
    asked: Sequence[tuple[int, str]],
    tag_sets: Sequence[frozenset[str]],
) -> tuple[np.ndarray, np.ndarray]:
    """For each of k asked (row, tag) the rows of pictures that have the tag and of those that lack it, (k, FEW) each, the nearest first, -1
    where there are no more.

    `matrix` (n, d) embeddings; `indices`, `cosine` (n, k) the nearest pictures of each row, as
    `evidence.surroundings` finds them: both sorts are taken from those. Where none of them has the tag, the pictures
    that have it are looked through by the same cosine (of centred rows), of very many an even sample. `tag_sets` the tags of the n pictures.

    >>> x = np.array([[1, 0], [1, 0.1], [0, 1], [-1, -1]])
    >>> nearest(x, np.array([[1], [0], [1], [2]]), np.ones((4, 1)), [(0, "a")], [frozenset(), frozenset(), frozenset("a"), frozenset()])
    (array([[ 2, -1, -1, -1]]), array([[ 1, -1, -1, -1]]))
    """
    names = sorted({tag for _, tag in asked})
    held, column = tag_columns(tag_sets, names), {tag: place for place, tag in enumerate(names)}
    rows, columns = np.array([(row, column[tag]) for row, tag in asked], dtype=np.int64).reshape(-1, 2).T
    mine, of = np.unique(rows, return_inverse=True)
    order = np.argsort(-cosine[mine], axis=1, kind="stable")
    near = np.take_along_axis(indices[mine], order, axis=1)[of]
    has = having(held, near, columns)
    with_it, without = _first(near, has), _first(near, ~has)
    space, holders = Space.centred(matrix), held.tocsc()
    lost = np.flatnonzero(~has.any(axis=1))
    lost = lost[np.argsort(columns[lost], kind="stable")]
    for some in np.split(lost, np.flatnonzero(np.diff(columns[lost])) + 1) if len(lost) else ():
        start, end = holders.indptr[columns[some[0]] :][:2]
        for place, far in zip(some.tolist(), closest(space, rows[some], holders.indices[start:end])):
            with_it[place, : len(far)] = [row for row, _ in far]
    return with_it, without


def _first(near: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The first `FEW` in each row of `near` (k, c) of those that are meant by `which` (k, c) bool, and -1."""
    count = np.cumsum(which, axis=1)
    row, place = np.nonzero(which & (count <= FEW))
    found = np.full((len(near), FEW), -1)
    found[row, count[row, place] - 1] = near[row, place]
    return found


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
