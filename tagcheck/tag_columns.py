"""Which pictures have which tags, as a sparse matrix."""

from array import array
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from scipy import sparse


def tag_columns(tag_sets: Iterable[Collection[str]], names: Sequence[str]) -> sparse.csr_matrix:
    """csr (n, T) float32 of 0 and 1: which of the tags `names` (T,) each picture has."""
    column = {name: place for place, name in enumerate(names)}
    columns, ends = array("i"), array("q", [0])
    for mine in tag_sets:
        columns.extend(sorted(column[tag] for tag in mine if tag in column))
        ends.append(len(columns))
    shape = len(ends) - 1, len(names)
    return sparse.csr_matrix((np.ones(len(columns), dtype=np.float32), columns, ends), shape=shape)


def having(given: sparse.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Whether each of the pictures `rows` (k, c) has the tag `columns` (k,), bool (k, c), by `given` (n, T)."""
    if not rows.size:
        return np.zeros(rows.shape, dtype=bool)
    found = given[rows.ravel(), np.repeat(columns, rows.shape[1])]
    return np.asarray(found).reshape(rows.shape) > 0
