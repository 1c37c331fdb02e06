"""The evidence by the workers of a Ray cluster is that of one machine, also where a worker or a node is lost in the middle."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from tagcheck import cluster
from tagcheck.learning import linear_probes
from tagcheck.tag_errors import suggestions
from tagcheck.tag_errors.evidence import Waves
from tagcheck.tag_errors.suggestions import Asked

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(not os.environ.get("CLUSTER"), reason="starts clusters: CLUSTER=1")


def library(n: int = 400, tags: int = 30) -> tuple[np.ndarray, sparse.csr_matrix, list[str]]:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(tags, 32))
    has = rng.random((n, tags)) < 0.15
    matrix = (has @ directions + rng.normal(size=(n, 32))).astype(np.float32)
    return (
        matrix,
        sparse.csr_matrix((has & (rng.random(has.shape) > 0.1)).astype(np.float32)),
        [f"t{k}" for k in range(tags)],
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_the_cells_are_those_of_one_machine(workers, monkeypatch):
    monkeypatch.setattr(linear_probes, "PART", 150)
    alone = suggestions.examine(Asked(*library()))
    with cluster.shared(workers=workers) as share:
        shared = suggestions.examine(Asked(*library()), share=share)
    for name in ("row", "column", "given", "weight"):
        assert np.array_equal(getattr(alone.cells, name), getattr(shared.cells, name))
    assert np.allclose(alone.cells.features, shared.cells.features, atol=1e-4)
    assert np.allclose(alone.verdict.error, shared.verdict.error, atol=1e-3)


def test_the_sums_are_those_of_one_machine_to_the_bit(monkeypatch):
    monkeypatch.setattr(linear_probes, "PART", 90)
    matrix, given, _ = library()
    folds, waves = np.arange(len(matrix)) % 5, Waves.over(matrix, 64)
    with cluster.shared(workers=2) as share:
        for rows in (matrix, waves):
            alone, shared = (linear_probes.moments(rows, given, folds, share=one) for one in (cluster.here, share))
            for name in ("sum_x", "sum_y", "gram", "cross"):
                assert np.array_equal(getattr(alone, name), getattr(shared, name)), name


def test_a_lost_node_costs_nothing_and_nothing_is_done_twice(tmp_path):
    from ray.cluster_utils import Cluster

    def make():  # within the test, since workers cannot import it
        def done(part: int) -> int:
            (tmp_path / f"{os.getpid()}-{part}").touch()
            time.sleep(0.5)
            return part**2

        return done

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        other = nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        lost = threading.Thread(target=lose, args=(nodes, other, tmp_path))
        lost.start()
        with cluster.shared(nodes.address) as share:
            assert list(share(make, range(12))) == [part**2 for part in range(12)]
        lost.join()
        assert other not in nodes.list_all_nodes()
        begun = [path.name.split("-") for path in tmp_path.iterdir()]  # (process, part)
        assert len({process for process, _ in begun}) >= 2
        assert 12 <= len(begun) <= 13  # the part in hand alone is done again
    finally:
        nodes.shutdown()


def lose(nodes, node, folder: Path) -> None:
    """End a node once both work."""
    until = time.monotonic() + 120
    while len({path.name.split("-")[0] for path in folder.iterdir()}) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    nodes.remove_node(node, allow_graceful=False)
