"""One run at a time, and a second is told who is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tagcheck import lock
from tagcheck.errors import UsageError
from tagcheck.lock import sole_run

PROJECT = Path(__file__).resolve().parent.parent
HOLD = """
import sys, time
from pathlib import Path
from tagcheck.lock import sole_run
with sole_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_told_who_is_there(tmp_path: Path) -> None:
    with sole_run(tmp_path / "x.lock"):
        with pytest.raises(
            UsageError, match=f"another run .process {os.getpid()}, started 20.*: wait for it or stop it"
        ):
            with sole_run(tmp_path / "x.lock"):
                pass
    with sole_run(tmp_path / "x.lock"):
        pass


def test_a_kill_leaves_no_lock_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, cwd=PROJECT) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"process {other.pid}"), sole_run(path, 0.1):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    began = time.monotonic()
    with sole_run(path):
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("text", ["", "[" * 5000, '{"pid": "x"}', "[1]", "\ud800"])
def test_a_holder_that_cannot_be_read_is_unknown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.lock"
    with sole_run(path):
        lock._note(path).write_text(text, encoding="utf-8", errors="surrogatepass")
        with pytest.raises(UsageError, match="process unknown"), sole_run(path):
            pass
