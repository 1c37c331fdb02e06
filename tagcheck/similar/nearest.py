"""The nearest rows of each row: by all products for few rows, else among clusters (`tagcheck.similar.cluster_search`)."""

from dataclasses import dataclass

import numpy as np

from tagcheck.similar.unit_rows import UnitRows, workers

EXACT_BELOW = 60_000  # rows that are compared with all others sooner than clusters are made
RECALL = 0.95
AT_ONCE = 1 << 22  # products that a thread holds
GROUP = 16  # products of which the highest is looked at first


@dataclass(frozen=True)
class Nearest:
    """`indices` int64, `cosine` float32, both (n, k), the nearest first; `recall` the share of the true nearest that are
    among them, measured on a sample (1 where all rows were compared).
    """

    indices: np.ndarray
    cosine: np.ndarray
    recall: float


def nearest(matrix: np.ndarray, k: int, recall: float = RECALL, exact_below: int = EXACT_BELOW) -> Nearest:
    """The `k` nearest other rows of each row by cosine: exactly for few rows, else at least `recall` of them, or as many as are among
    `cluster_search.MOST_LOOKED` rows.

    `matrix` (n, d) float32, its first columns the ones that tell rows apart best (principal directions). Work grows as
    n^1.5, since the clusters are about the root of n, and from a million rows on as n.
    """
    n = len(matrix)
    k = max(0, min(k, n - 1))
    if n < exact_below or k == 0:
        return Nearest(*top_k(matrix, k), 1.0)
    from tagcheck.similar.cluster_search import nearest_by_clusters  # here, since PyTorch takes seconds to load

    return Nearest(*nearest_by_clusters(matrix, k, recall))


def top_k(matrix: np.ndarray, k: int, at_once: int = AT_ONCE) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest other rows of each row by cosine, exactly.

    Returns (indices int64, cosine float32), both (n, min(k, n - 1)), the nearest first. A zero
    row has a cosine of 0 to every other. Memory beside that: the rows at length 1, and about `at_once` products a thread.

    >>> top_k(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), 1)[0].ravel().tolist()[::2]
    [1, 1]
    """
    n = len(matrix)
    k = max(0, min(k, n - 1))
    indices, cosines = np.empty((n, k), dtype=np.int64), np.empty((n, k), dtype=np.float32)
    step = max(1, at_once // max(n, 1))
    with workers() as pool:
        unit = UnitRows.of(matrix, pool).take(slice(0, n))

        def fill(start: int) -> None:
            product = unit[start : start + step] @ unit.T
            product[np.arange(len(product)), np.arange(start, start + len(product))] = -np.inf
            cosine, indices[start : start + step] = _highest(product, k)
            cosines[start : start + step] = np.clip(cosine, -1, 1)

        for _ in pool.map(fill, range(0, n, step) if k else ()):
            pass
    return indices, cosines


def _highest(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(values, columns) of the `k` highest of each line of `values` (m, n), the highest first: they are in the `k` groups of columns with
    the highest maxima.
    """
    lines, n = values.shape
    groups = n // GROUP
    columns = np.broadcast_to(np.arange(n), values.shape)
    if groups >= 2 * k:
        grouped = values[:, : groups * GROUP].reshape(lines, GROUP, groups)
        best = np.argpartition(grouped.max(axis=1), groups - k, axis=1)[:, groups - k :]
        inside = (best[:, :, None] + np.arange(GROUP) * groups).reshape(lines, -1)
        columns = np.hstack([inside, columns[:, groups * GROUP :]])
        values = np.take_along_axis(values, columns, axis=1)
    some = np.argpartition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k :]
    some = np.take_along_axis(some, np.argsort(-np.take_along_axis(values, some, axis=1), axis=1), axis=1)
    return np.take_along_axis(values, some, axis=1), np.take_along_axis(columns, some, axis=1)
