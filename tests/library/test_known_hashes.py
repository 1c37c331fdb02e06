"""What a folder library remembers beside the folder is checked, backed up, and never thrown away."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tagcheck.data_folder import DataFolder
from tagcheck.library import choose
from tagcheck.library.folder import known_hashes
from tagcheck.library.folder.known_hashes import FolderStore
from tagcheck.sqlite import backups


def fill(path: Path, *steps: tuple[str, bytes | None, bytes | None]) -> None:
    FolderStore(path).keep_versions(steps)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def spoil(path: Path) -> bytes:
    """Bytes of a page of replaced sidecars fall over."""
    data = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'folder_versions'").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    data[(page - 1) * size : (page - 1) * size + 40] = b"\xff" * 40
    path.write_bytes(data)
    return bytes(data)


@pytest.mark.parametrize("backed_up", [True, False])
def test_a_damaged_store_of_sidecars_is_put_aside_and_the_newest_backup_takes_its_place(tmp_path, folder, backed_up):
    pictures, store, said = tmp_path / "pictures", folder.root / "folder.sqlite3", list[str]()
    pictures.mkdir()
    fill(store, ("a.txt", b"old", b"new"))

    def open_it() -> None:
        choose.open_library(str(pictures), folder, choose.LibrarySettings("", "", ""), tell=said.append)

    if backed_up:
        open_it()
        open_it()
        assert len(backups(store)) == 1 and not said, "nothing to add to the backup"
    damaged = spoil(store)
    open_it()
    (line,) = said
    (aside,) = folder.root.glob("folder.sqlite3.damaged-*")
    assert aside.read_bytes() == damaged and aside.name in line and "\n" not in line and str(store) in line
    assert ("takes its place" in line) == backed_up
    assert list(FolderStore(store).versions("a.txt", b"new")) == ([b"old"] if backed_up else [])


def test_another_programs_or_a_newer_ones_file_is_not_put_aside(tmp_path):
    path = tmp_path / "folder.sqlite3"
    fill(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE folder_meta SET value = '99'")
    with pytest.raises(known_hashes.BadFile, match="update the program"):
        known_hashes.start(path, print)
    assert path.exists() and not list(tmp_path.glob("*.damaged*"))
