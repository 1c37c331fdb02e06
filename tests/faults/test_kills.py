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
from typing import Any

import numpy as np
import pytest
from hydrus_server import MY_TAGS, HydrusServer
from kills import HOWS, in_child, points

import dataset_hardcore_mapper
from tagcheck import data_folder, files
from tagcheck.changes import TagChange
from tagcheck.data_folder import MAPPING, DataFolder
from tagcheck.embedding import store
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.writing import Ledger
from tagcheck.writing import apply as applying
from tagcheck.writing.ledger import APPLIED, UNDONE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
# --- stages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
def test_the_mapper_leaves_a_whole_mapping_or_none(tmp_path, how):
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

FORMS = ["1girl, long_hair, {}\n", "1girl\r\nLong Hair\r\n{}\r\n", "﻿{},1girl,solo,", "{}\n", "series:x\n{}\n1girl"]
ADDED, REMOVED = "blue sky", "wrong tag"


class Scene:
    """A library, changes to make in it, and a ledger."""

    def __init__(self, base: Path) -> None:
        self.base, self.changes = base, list[TagChange]()

    def ledger(self) -> Ledger:
        return Ledger(self.base / "review.sqlite3")

    def apply(self) -> None:
        applying.apply(self.ledger(), self.library(), self.changes)

    def recover(self) -> None:
        applying.recover(self.ledger(), self.library())

    def undo(self) -> None:
        applying.undo(self.ledger(), self.library(), self.ledger().batches()[0].id)

    def forget(self) -> None:
        for path in self.base.glob("*.sqlite3*"):
            path.unlink()


class FolderScene(Scene):
    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.root = base / "pictures"
        for number in range(6):
            picture = self.root / f"page {number % 2}" / f"{number}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(b"picture %d" % number)
            if number:
                text = FORMS[number % len(FORMS)].format("wrong_tag")
                picture.with_suffix(".txt").write_text(text, encoding="utf-8", newline="")
        shutil.copytree(self.root, base / "beginning")
        hashes = [hash for page in self.library().walk([]).pages for hash in page.hashes]
        wrong = [info.hash for info in self.library().files(hashes) if REMOVED in info.tags]
        self.changes = [TagChange(hash, ADDED, "add") for hash in hashes]
        self.changes += [TagChange(hash, REMOVED, "remove") for hash in wrong]
        self.forget()

    def library(self) -> FolderLibrary:
        return FolderLibrary(self.root, self.base / "folder.sqlite3")

    def state(self) -> dict[str, Any]:
        return {str(path): path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file()}

    def reset(self) -> None:
        self.forget()
        shutil.rmtree(self.root)
        shutil.copytree(self.base / "beginning", self.root)


class HydrusScene(Scene):
    def __init__(self, base: Path, server: HydrusServer) -> None:
        super().__init__(base)
        self.server = server
        self.hashes = [server.add_file(b"picture %d" % number) for number in range(4)]
        self.changes = [TagChange(one, ADDED, "add") for one in self.hashes]
        self.changes += [TagChange(one, REMOVED, "remove") for one in self.hashes]
        self.reset()

    def library(self) -> Hydrus:
        return Hydrus(self.server.url, self.server.key)

    def state(self) -> dict[str, Any]:
        """Deletion records ("2") do not count: the API can take no tag off without one."""
        return {
            hash: {status: sorted(tags) for status, tags in self.server.stored(hash, MY_TAGS).items() if status != "2"}
            for hash in self.hashes
        }

    def reset(self) -> None:
        self.forget()
        with self.server.guard:
            for hash in self.hashes:
                self.server.mappings[MY_TAGS].pop(hash, None)
                self.server.tag(hash, ["1girl", REMOVED])


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


def agree(scene: Scene, beginning: dict[str, Any], end: dict[str, Any]) -> None:
    if not scene.ledger().batches():
        assert scene.state() == beginning, "written, but not in the ledger"
        return
    rows = scene.ledger().rows()
    assert {row.change for row in rows} == set(scene.changes) and {row.status for row in rows} == {APPLIED}
    assert scene.state() == end
    in_child(scene.undo, len(rows))  # killed in its midst
    scene.recover()
    scene.undo()
    assert {row.status for row in scene.ledger().rows()} == {UNDONE} and scene.state() == beginning
