"""One run at a time on one folder: a second is told who is there and since when.

The system drops the lock when the process ends, however it ends, so that a kill leaves none behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tagcheck.data_folder import isoformat, utc_now
from tagcheck.errors import UsageError

if os.name == "nt":
    import msvcrt

    BEYOND = 1 << 20  # Windows locks bytes against reading too: one far behind the text is locked

    def _try_lock(file: IO[bytes]) -> bool:
        file.seek(BEYOND)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def sole_run(path: Path) -> Iterator[None]:
    """Hold the lock at `path` while the block runs. Raises `UsageError` with the other run's process id and start time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        if not _try_lock(file):
            raise UsageError(f"another run ({_holder(path)}) is at work in {path.parent}: wait for it or stop it first")
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "started": isoformat(utc_now())}).encode())
        file.flush()
        yield


def _holder(path: Path) -> str:
    try:
        said = json.loads(path.read_text())
        return f"process {said['pid']}, started {said['started']}"
    except (ValueError, KeyError, TypeError):
        return "process unknown: it is just starting"
