"""Libraries with changes to make in them and a ledger, and what has to be true of them after an apply, however it ended."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hydrus_server import MY_TAGS, HydrusServer
from kills import in_child

from tagcheck.changes import TagChange
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.writing import Ledger
from tagcheck.writing import apply as applying
from tagcheck.writing.ledger import APPLIED, UNDONE

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
    def __init__(self, base: Path, root: Path | None = None) -> None:
        super().__init__(base)
        self.root = root or base / "pictures"
        for number in range(6):
            picture = self.root / f"page {number % 2}" / f"{number}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(b"picture %d" % number)
            if number:
                text = FORMS[number % len(FORMS)].format("wrong_tag")
                picture.with_suffix(".txt").write_text(text, encoding="utf-8", newline="")
        shutil.copytree(self.root, self.root.parent / "beginning")
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
        for old in [*self.root.iterdir()]:  # the folder itself may be another disk
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        shutil.copytree(self.root.parent / "beginning", self.root, dirs_exist_ok=True)


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
