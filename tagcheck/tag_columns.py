"""Which pictures have which tags, as sparse matrices."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence, Set
from itertools import count
from typing import overload

import numpy as np
from scipy import sparse


class TagSets(Sequence[frozenset[str]]):
    """The tags of n pictures, held as places among the `names` of all: a set is made each time it is asked for, since a million are 2 GB.

    >>> some = TagSets.of([{"solo"}, {"solo", "sword"}])
    >>> some[0], some.uses()["solo"], some.rows_with({"sword"}).tolist(), some.columns(["sword"]).toarray().tolist()
    (frozenset({'solo'}), 2, [1], [[0.0], [1.0]])
    """

    def __init__(self, names: list[str], places: np.ndarray, ends: np.ndarray) -> None:
        self.names, self._places, self._ends = names, places, ends

    @classmethod
    def of(cls, tag_sets: Iterable[Collection[str]]) -> TagSets:
        """The sets as they are, or of any others."""
        if isinstance(tag_sets, TagSets):
            return tag_sets
        maker = Maker()
        for mine in tag_sets:
            maker.add(mine)
        return maker.made()

    def without(self, hidden: Collection[str]) -> TagSets:
        """The same without some tags."""
        kept = np.array([tag not in hidden for tag in self.names], dtype=bool)[self.places]
        return TagSets(self.names, self.places[kept], self._reached(kept))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> frozenset[str]: ...
    @overload
    def __getitem__(self, place: slice) -> TagSets: ...
    def __getitem__(self, place: int | slice) -> frozenset[str] | TagSets:
        if isinstance(place, slice):
            start, stop, _ = place.indices(len(self))
            return TagSets(self.names, self._places, self._ends[start : max(stop, start) + 1])
        if not 0 <= place < len(self):
            raise IndexError(place)
        return frozenset(self.listed(place))

    def listed(self, place: int) -> list[str]:
        """The tags of one picture, in the order in which they were given."""
        return [self.names[one] for one in self._places[self._ends[place] : self._ends[place + 1]].tolist()]

    @property
    def counts(self) -> np.ndarray:
        """How many tags each picture has, (n,)."""
        return np.diff(self._ends)

    @property
    def places(self) -> np.ndarray:
        """The places in `names` of all pictures' tags, one picture after the other."""
        return self._places[self._ends[0] : self._ends[-1]]

    def _reached(self, which: np.ndarray) -> np.ndarray:
        """How many of all tags that are meant by `which` stand before each picture, and in all, (n + 1,)."""
        return np.asarray(np.append(0, np.cumsum(which))[self._ends - self._ends[0]])

    def uses(self) -> Counter[str]:
        """How many of the pictures have each tag."""
        counts = np.bincount(self.places, minlength=len(self.names))
        return Counter({self.names[tag]: int(counts[tag]) for tag in np.flatnonzero(counts).tolist()})

    def rows_with(self, some: Set[str]) -> np.ndarray:
        """The pictures that have one of some tags."""
        which = np.array([tag in some for tag in self.names], dtype=bool)[self.places]
        return np.flatnonzero(np.diff(self._reached(which)))

    def columns(self, names: Sequence[str]) -> sparse.csr_matrix:
        """csr (n, T) float32 of 0 and 1: which of the tags `names` (T,) each picture has."""
        column = {name: place for place, name in enumerate(names)}
        columns = np.array([column.get(tag, -1) for tag in self.names], dtype=np.int32)[self.places]
        ends, columns = self._reached(columns >= 0), columns[columns >= 0]
        made = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(len(self), len(names)))
        made.sort_indices()
        return made


class Maker:
    """Makes `TagSets`, a picture after the other."""

    def __init__(self) -> None:
        self._place = defaultdict[str, int](count().__next__)
        self._places, self._ends = array("i"), array("q", [0])

    def add(self, mine: Iterable[str]) -> None:
        """The tags of the next picture, each once."""
        self._places.extend(map(self._place.__getitem__, mine))
        self._ends.append(len(self._places))

    def made(self) -> TagSets:
        """Those of all pictures that were added."""
        places, ends = np.frombuffer(self._places, dtype=np.int32), np.frombuffer(self._ends, dtype=np.int64)
        return TagSets(list(self._place), places, ends)


def tag_columns(tag_sets: Iterable[Collection[str]], names: Sequence[str]) -> sparse.csr_matrix:
    """csr (n, T) float32 of 0 and 1: which of the tags `names` (T,) each picture has."""
    return TagSets.of(tag_sets).columns(names)


def values_at(matrix: sparse.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The numbers (k,) of a sparse matrix at single places, `rows` and `columns` (k,). Of none SciPy makes a matrix that is no array."""
    return np.asarray(matrix[rows, columns]).ravel() if len(rows) else np.empty(0, matrix.dtype)


def having(given: sparse.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Whether each of the pictures `rows` (k, c) has the tag `columns` (k,), bool (k, c), by `given` (n, T)."""
    return values_at(given, rows.ravel(), np.repeat(columns, rows.shape[1])).reshape(rows.shape) > 0


def rows_or_nothing(matrix: sparse.csr_matrix, places: np.ndarray) -> sparse.csr_matrix:
    """The rows (k, T) of a sparse matrix at `places` (k,), an empty one for -1.

    >>> rows_or_nothing(sparse.csr_matrix([[1, 2], [0, 4]]), np.array([1, -1])).toarray().tolist()
    [[0, 4], [0, 0]]
    """
    nothing = sparse.csr_matrix((1, matrix.shape[1]), dtype=matrix.dtype)
    return sparse.vstack([matrix, nothing], "csr")[places]
