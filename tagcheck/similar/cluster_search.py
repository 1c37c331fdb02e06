"""The nearest rows of each row where there are too many to compare all: within the clusters around its own.

Approximate, unlike everything else in this wing, so how much is found is measured each time: on some rows drawn at
random, against all rows. The search widens until that share is what was asked for, all rows are compared, or `MOST_LOOKED`:
where the neighbours of a picture lie all over a library of millions, finding most of them would mean to compare all.
"""

from concurrent.futures import Executor
from itertools import pairwise

import numpy as np
import torch

from tagcheck import memory
from tagcheck.similar.bounded_search import cluster_order, workers
from tagcheck.similar.bounds_in_c import CLUSTER_AXES
from tagcheck.similar.unit_rows import UnitRows

PROBES = 12  # clusters that are looked at first
WIDER = 2  # times as many when too little was found
MOST_LOOKED = 50_000  # rows that one is compared with, however little was found
ASKED = 500  # rows on which it is measured
AT_ONCE = 8_000_000  # products that a thread holds
SPARE = 16  # rows beyond k that are picked by products in half precision, for the exact ones to choose from


def nearest_by_clusters(matrix: np.ndarray, k: int, recall: float) -> tuple[np.ndarray, np.ndarray, float]:
    """(indices int64 (n, k), cosine float32 (n, k), share of the true nearest found): the `k` nearest other rows of each of `matrix` (n, d)
    float32, k > 0: at least `recall` of them, or as many as are among `MOST_LOOKED` rows.
    """
    n = len(matrix)
    random = torch.Generator().manual_seed(0)
    with workers() as pool:
        unit = UnitRows.of(matrix, pool)
        points = torch.from_numpy(unit.take(slice(0, n)))
        order, firsts, centres = _clusters(points, random, pool)
        asked = torch.randperm(n, generator=random)[:ASKED]
        truth = np.concatenate([_true(points, some, k) for some in asked.split(max(1, 8 * AT_ONCE // n))])
        probes = PROBES
        while True:
            near = _around(centres, firsts, probes, k)
            found = _search(points, order, firsts, near, k, pool, asked)
            right = [len(np.intersect1d(found[0][row], truth[place])) for place, row in enumerate(asked)]
            share = float(np.mean(right)) / k
            if share >= recall or probes >= len(centres) or WIDER * probes * n / len(centres) > MOST_LOOKED:
                break
            probes *= WIDER
        indices, cosine = _search(points, order, firsts, near, k, pool, None)
    return indices, cosine, share


def _true(points: torch.Tensor, asked: torch.Tensor, k: int) -> np.ndarray:
    """The `k` rows (m, k) nearest each of those `asked` for, of all."""
    product = points[asked] @ points.T
    product[torch.arange(len(asked)), asked] = -torch.inf
    return np.asarray(product.topk(k, dim=1).indices)


def _clusters(
    points: torch.Tensor, random: torch.Generator, pool: Executor
) -> tuple[torch.Tensor, np.ndarray, torch.Tensor]:
    """(order of the rows, where each cluster begins in it, the clusters' centres)."""
    order, firsts = cluster_order(points[:, :CLUSTER_AXES].contiguous(), random, pool)
    firsts = np.unique(firsts)
    centres = torch.stack([points[order[a:b]].mean(0) for a, b in pairwise(firsts.tolist())])
    return order, firsts, centres


def _around(centres: torch.Tensor, firsts: np.ndarray, probes: int, k: int) -> list[torch.Tensor]:
    """The `probes` clusters nearest each, itself among them; more where these have no more than `k` rows."""
    nearest_first = torch.cdist(centres, centres).argsort(dim=1)
    rows = torch.from_numpy(np.diff(firsts))[nearest_first].cumsum(1)
    enough = (rows <= k).sum(1) + 1
    return [line[: max(probes, some)] for line, some in zip(nearest_first, enough.tolist())]


def _search(
    points: torch.Tensor,
    order: torch.Tensor,
    firsts: np.ndarray,
    near: list[torch.Tensor],
    k: int,
    pool: Executor,
    asked: torch.Tensor | None,
) -> tuple[np.ndarray, np.ndarray]:
    """(indices, cosine) (n, k): of each row, or of those `asked` for, among the rows of the clusters `near` its own."""
    n = len(points)
    rough = points.bfloat16() if memory.multiplies_bfloat16(torch.cpu) else points
    indices, cosine = np.zeros((n, k), dtype=np.int64), np.full((n, k), -1.0, dtype=np.float32)
    wanted = np.ones(n, dtype=bool)
    if asked is not None:
        wanted[:] = False
        wanted[asked.numpy()] = True

    def fill(cluster: int) -> None:
        own = order[firsts[cluster] : firsts[cluster + 1]]
        own = own[torch.from_numpy(wanted[own.numpy()])]
        if not len(own):
            return
        others = torch.cat([order[firsts[one] : firsts[one + 1]] for one in near[cluster].tolist()])
        columns, some = rough[others].T, min(k, len(others))
        for rows in own.split(max(1, AT_ONCE // len(others))):
            likely = others[(rough[rows] @ columns).topk(min(k + SPARE, len(others)), dim=1, sorted=False).indices]
            product = (points[likely] @ points[rows][:, :, None])[:, :, 0]
            value, place = product.masked_fill_(likely == rows[:, None], -torch.inf).topk(some, dim=1)
            indices[rows.numpy(), :some] = likely.gather(1, place).numpy()
            cosine[rows.numpy(), :some] = value.clamp_(-1, 1).numpy()

    for _ in pool.map(fill, range(len(firsts) - 1)):
        pass
    return indices, cosine
