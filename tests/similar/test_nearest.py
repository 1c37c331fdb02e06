"""The nearest rows by clusters: nearly all of the true ones, and the share said is the share found."""

from __future__ import annotations

import numpy as np
import pytest

from tagcheck.similar import cluster_search as module
from tagcheck.similar.nearest import RECALL, nearest, top_k


def rows(n: int, seed: int = 0, spread: float = 1.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(n // 100, 5), 32))
    made = centres[rng.integers(len(centres), size=n)] + spread * rng.normal(size=(n, 32))
    return (made / np.sqrt(1 + np.arange(32))).astype(np.float32)


def share(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(one, other)) / len(other) for one, other in zip(found, truth)]))


def test_few_rows_are_compared_with_all():
    matrix = rows(300)
    found = nearest(matrix, 5)
    assert found.recall == 1.0
    assert (found.indices == top_k(matrix, 5)[0]).all()


@pytest.mark.parametrize("spread", [0.2, 1.2])
def test_by_clusters_what_is_said_to_be_found_is_found(spread):
    matrix = rows(4000, spread=spread)
    found = nearest(matrix, 10, exact_below=0)
    truth, cosine = top_k(matrix, 10)
    assert found.recall >= RECALL
    assert abs(share(found.indices, truth) - found.recall) < 0.03
    assert not (found.indices == np.arange(4000)[:, None]).any()
    assert (np.diff(found.cosine, axis=1) <= 1e-6).all() and (found.cosine <= cosine + 1e-5).all()


def test_the_search_widens_until_enough_is_found(monkeypatch):
    monkeypatch.setattr(module, "PROBES", 1)
    matrix = rows(3000, spread=3.0)
    found = nearest(matrix, 10, recall=0.999, exact_below=0)
    assert share(found.indices, top_k(matrix, 10)[0]) >= 0.995


def test_clusters_smaller_than_k_still_give_k_rows(monkeypatch):
    monkeypatch.setattr(module, "PROBES", 1)
    matrix = np.repeat(np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32), 3, axis=0)
    found = nearest(matrix, 50, recall=0.0, exact_below=0)
    assert found.recall < 1
    assert all(len(set(line)) == 50 for line in found.indices.tolist())
