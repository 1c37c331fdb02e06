"""Extraction by the workers of a Ray cluster: the same rows as on one machine, also where a worker, a node or the driver is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT
from test_extraction import Shelf, picture, shelf

from tagcheck import cluster
from tagcheck.embedding import store
from tagcheck.errors import UsageError

ray = pytest.importorskip("ray")
PICTURES = 36  # too few for copies to be measured


def hashes_in_shards(folder: Path) -> list[str]:
    return [hash for path in store.shard_paths(folder) for hash in store._load_shard(path)["hashes"]]


long = pytest.mark.skipif(not os.environ.get("CLUSTER"), reason="starts more clusters: CLUSTER=1")


@pytest.fixture
def rows_of_one_machine(shelf) -> dict[str, np.ndarray]:
    for seed in range(PICTURES):
        shelf.put(f"{seed}.png", picture(seed))
    shelf.run()
    rows = shelf.rows()
    for path in store.shard_paths(shelf.data.embeddings):
        path.unlink()
    return rows


def assert_the_same(shelf: Shelf, rows: dict[str, np.ndarray]) -> None:
    found = hashes_in_shards(shelf.data.embeddings)
    assert len(found) == len(set(found)) == len(rows), "nothing lost, nothing twice"
    now = shelf.rows()
    assert all((now[hash] == row).all() for hash, row in rows.items()), "to the bit"


def workers_of(driver: int) -> list[int]:
    """The processes of Ray workers that have made their actor, below a driver."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines()[1:]
    parent = {int(pid): int(above) for pid, above, *_ in (line.split(None, 2) for line in listed)}

    def under(pid: int) -> bool:
        while pid in parent:
            if pid == driver:
                return True
            pid = parent[pid]
        return False

    return [
        int(line.split(None, 1)[0]) for line in listed if "ray::Worker" in line and under(int(line.split(None, 1)[0]))
    ]


def started(shelf: Shelf, *more: object, workers: int = 2) -> subprocess.Popen:
    """The stage with parts of four pictures, so that a kill meets one in its midst; no worker waits for work to come."""
    code = "import sys; import advanced_joytag_processing as stage; stage.PART = (4, 4); sys.exit(stage.main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *shelf.arguments("--engine", "ray", "--workers", workers, *more)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "RAY_enable_worker_prestart": "0"}
        | {"RAY_prestart_worker_first_driver": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def until(what, seconds: float = 90.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def test_a_worker_that_is_killed_costs_nothing(shelf, rows_of_one_machine):
    process = started(shelf, workers=1)
    until(lambda: store.shard_paths(shelf.data.embeddings))
    os.kill(until(lambda: workers_of(process.pid))[0], signal.SIGKILL)
    assert process.wait(timeout=120) == 0, process.stderr.read().decode()[-2000:]
    assert_the_same(shelf, rows_of_one_machine)


@long
def test_with_a_store_a_killed_worker_and_a_killed_driver_cost_nothing(shelf, rows_of_one_machine, tmp_path):
    place = tmp_path / "shared"
    store_option = ("--store", f"file://{place}")
    process = started(shelf, *store_option)
    until(lambda: store.shard_paths(place))
    os.kill(until(lambda: workers_of(process.pid))[0], signal.SIGKILL)
    until(lambda: len(store.shard_paths(place)) >= 4)
    process.kill()
    process.wait()
    assert not store.shard_paths(shelf.data.embeddings), "workers write to the store alone"
    again = started(shelf, *store_option)
    assert again.wait(timeout=120) == 0, again.stderr.read().decode()[-2000:]
    assert_the_same(shelf, rows_of_one_machine)
    assert hashes_in_shards(place) == hashes_in_shards(shelf.data.embeddings)


@long
def test_a_driver_that_is_killed_is_started_again_and_goes_on(shelf, rows_of_one_machine):
    process = started(shelf)
    until(lambda: len(store.shard_paths(shelf.data.embeddings)) >= 2)
    process.kill()
    process.wait()
    before = set(hashes_in_shards(shelf.data.embeddings))
    assert before and len(before) < PICTURES
    again = started(shelf)
    assert again.wait(timeout=120) == 0, again.stderr.read().decode()[-2000:]
    assert_the_same(shelf, rows_of_one_machine)


@long
def test_what_the_work_raises_comes_through_and_a_part_that_ends_every_worker_is_named():
    def make():
        def work(part: int, begun: int) -> int:
            if part == 2:
                raise UsageError("part two")
            if part == 3:
                os._exit(1)
            return 10 * part + begun

        return work

    assert sorted(cluster.over_parts(make, [0, 1], workers=2)) == [0, 10]
    with pytest.raises(UsageError, match="part two"):
        list(cluster.over_parts(make, [0, 2], workers=1))
    with pytest.raises(cluster.WorkersLost, match="4 workers ended in the same part"):
        list(cluster.over_parts(make, [3], workers=1))
