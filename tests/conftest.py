"""What all tests share: the project's root on the path, a data folder, and scripts run as a user runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tagcheck.data_folder import DataFolder

TESTS = Path(__file__).resolve().parent
PROJECT = TESTS.parent

# A run in the background of a shell ignores Ctrl-C and hands that on to every script it starts; the tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Whole runs of scripts, browsers, training: `pytest -m "not slow"` leaves them out.
SLOW = (
    *(
        "test_sample.py",
        "webapp/test_browser",
        "series/",
        "scripts/test_end_to_end.py",
        "scripts/test_series_scripts.py",
    ),
    *("scripts/test_extraction", "scripts/test_find_mistagged.py", "library/test_hydrus_server.py", "similar/"),
    *(
        "embedding/",
        "tag_errors/",
        "learning/",
        "duplicates/",
        "belief/",
        "faults/",
        "pictures/test_decoder_processes.py",
    ),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of `SLOW` files and folders."""
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """An empty data folder."""
    root = tmp_path / "data"
    root.mkdir()
    return DataFolder(root)


@pytest.fixture
def script():
    """Run a script of the project as a process: `script("find_near_duplicates.py", "--data-dir", d, env={...})`."""

    def run(
        name: str, *args: object, env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(PROJECT / name), *map(str, args)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=PROJECT,
            env={**os.environ, **(env or {})},
        )

    return run
