"""What all tests share: the project's root on the path, a data folder, and scripts run as a user runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tagcheck.data_folder import DataFolder

PROJECT = Path(__file__).resolve().parent.parent

# A run in the background of a shell ignores Ctrl-C and hands that on to every script it starts; the tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
