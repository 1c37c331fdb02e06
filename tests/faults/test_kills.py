"""A process that ends at any moment of a write leaves nothing half done, nothing lost and nothing twice.

Each is run in a child that is killed, interrupted or told that the disk is full before and after its calls of fsync, replace,
link and unlink, its commits to SQLite and what it sends to Hydrus. What it left is read, the stage is run again, and the outcome is that of a run that was left
alone. `FAULTS=all` tries every point (default: a seeded few).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hydrus_server import HydrusServer
from kills import HOWS, in_child, points
from scenes import FolderScene, HydrusScene, agree

import dataset_hardcore_mapper
from tagcheck import data_folder, files
from tagcheck.data_folder import MAPPING, DataFolder
from tagcheck.embedding import store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# --- stages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
def test_the_mapper_leaves_a_whole_mapping_or_none(tmp_path, how, monkeypatch):
    monkeypatch.setattr(files, "SETTLED_SECONDS", 0.1)
    pictures, data = tmp_path / "pictures", DataFolder(tmp_path / "data")
    pictures.mkdir()
    data.root.mkdir()
    for number in range(5):
        (pictures / f"{number}.jpg").write_bytes(b"%d" % number)
        os.utime(pictures / f"{number}.jpg", (1, 1))

    def work() -> None:
        dataset_hardcore_mapper.main(["--library", str(pictures), "--data-dir", str(data.root)])

    def reset() -> None:
        shutil.rmtree(data.root)
        data.root.mkdir()

    for point in points(work, reset, seed=1):
        assert in_child(work, point, how)[0] in HOWS[how]
        for path in data.files(MAPPING):
            assert len(data_folder.load(path, MAPPING)["pages"][0]["hashes"]) == 5
        time.sleep(files.SETTLED_SECONDS)
        assert in_child(work)[0] == 0
        assert len(data_folder.load(data.newest(MAPPING), MAPPING)["pages"][0]["hashes"]) == 5
        assert not list(data.root.rglob(".*.tmp")), "an orphaned temporary file"
        reset()


@pytest.mark.parametrize("how", HOWS)
def test_no_embedding_is_stored_twice_or_lost_once_it_was_said_to_be_there(tmp_path, how):
    """The extraction's loop: rows are added, shards are written, and the rest is written at the end however it ends."""
    hashes = [f"{number:064x}" for number in range(7)]

    def work() -> None:
        done = store.embedded(tmp_path, "m", "p")
        with store.ShardWriter(tmp_path, "m", "p", rows=3) as writer:
            for number, hash in enumerate(hashes):
                if hash not in done:
                    writer.add([hash], np.full((1, 2), number, np.float32))

    def reset() -> None:
        for path in [*tmp_path.glob("*"), *tmp_path.glob(".*.tmp")]:
            path.unlink(missing_ok=True)

    for point in points(work, reset, seed=2):
        assert in_child(work, point, how)[0] in HOWS[how]
        assert in_child(work)[0] == 0
        stored = Counter(hash for path in store.shard_paths(tmp_path) for hash in store._load_shard(path)["hashes"])
        assert stored == dict.fromkeys(hashes, 1)
        assert store.load(tmp_path, hashes).matrix[:, 0].tolist() == list(range(7))
        reset()


# --- applying ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "hydrus"])
def scene(request, tmp_path):
    if request.param == "folder":
        yield FolderScene(tmp_path)
        return
    with HydrusServer({}, pages={}) as server:
        yield HydrusScene(tmp_path, server)


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_an_apply_that_ends_anywhere_is_finished_once_and_can_be_undone(scene, how):
    beginning = scene.state()
    scene.apply()
    end = scene.state()
    assert end != beginning
    scene.reset()
    for point in points(scene.apply, scene.reset, seed=3):
        assert in_child(scene.apply, point, how)[0] in HOWS[how]
        in_child(scene.recover, point // 2, how)
        scene.recover()
        agree(scene, beginning, end)
        scene.reset()
