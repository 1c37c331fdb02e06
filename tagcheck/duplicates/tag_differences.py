"""What the tags of two copies of one picture differ in."""

import numpy as np
from scipy import sparse

BLOCK = 2048


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
