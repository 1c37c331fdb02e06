"""A disk that is full in the middle of an apply, for the ledger, for the library or for both: a real one, of half a megabyte."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tried
from kills import ALL
from scenes import FolderScene, agree

from tagcheck.errors import ToolError
from tagcheck.writing.ledger import FAILED

PAGE = 4096
SIZE = 512 * 1024


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of its own at `place`; skips the test where this process may not mount one."""
    place.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", place], capture_output=True)
    if made.returncode:
        pytest.skip("may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path, free: int) -> Path:
    """A file that leaves so many bytes of the disk."""
    path = disk / "filler"
    about = os.statvfs(disk)
    path.write_bytes(bytes(max(0, about.f_bavail * about.f_frsize - free)))
    return path


@pytest.mark.skipif(os.name != "posix", reason="mounts a file system")
@pytest.mark.parametrize("disk", ["ledger", "library", "both"])
def test_a_full_disk_in_the_middle_of_an_apply_is_one_line_and_nothing_is_lost(tmp_path: Path, disk: str) -> None:
    small = tmp_path / "small"
    with small_disk(small):
        base, root = (small if disk != "library" else tmp_path), (small if disk != "ledger" else tmp_path) / "pictures"
        scene = FolderScene(base, root)
        beginning = scene.state()
        scene.apply()
        end = scene.state()
        refused = 0
        for pages in range(64) if ALL else (1, 9, 17):
            scene.reset()
            scene.ledger().batches()
            filler = fill(small, pages * PAGE)
            try:
                scene.apply()
            except (ToolError, OSError) as error:
                refused += 1
                assert "\n" not in str(error) and any(word in str(error) for word in ("full", "space")), error
            tried.count()
            filler.unlink()
            scene.recover()
            failed = [row for row in scene.ledger().rows() if row.status == FAILED]
            if failed:  # the library refused some, each row says why, and they can be applied again
                refused += 1
                assert all("space" in row.reason for row in failed)
                scene.apply()
                assert scene.state() == end
            else:
                agree(scene, beginning, end)
        assert refused
