"""One run at a time on one folder: a second is told who is there and since when.

The system drops the lock when the process ends, however it ends, so that a kill leaves none behind. Who holds it stands
in the lock's own file; on Windows, which lets nobody read a locked file, in one beside it.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tagcheck.data_folder import isoformat, utc_now
from tagcheck.errors import UsageError


@contextmanager
def sole_run(path: Path, seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock at `path` while the block runs, waiting up to `seconds` for it.

    Raises `UsageError` with the other run's process id and start time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=seconds, poll_interval=0.05, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"another run ({_holder(path)}) is at work in {path.parent}: wait for it or stop it first"
        ) from None
    try:
        _note(path).write_text(json.dumps({"pid": os.getpid(), "started": isoformat(utc_now())}), encoding="utf-8")
        yield
    finally:
        lock.release()


def _note(path: Path) -> Path:
    return path if os.name == "posix" else path.with_name(path.name + ".holder")


def _holder(path: Path) -> str:
    try:
        said = json.loads(_note(path).read_text(encoding="utf-8"))
        return f"process {int(said['pid'])}, started {str(said['started'])[:40]}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "process unknown: it is just starting"
