"""Scripts as forks of a process that has loaded what they need: PyTorch alone takes two seconds to import."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

from tagcheck import interruption

# On macOS a fork of a process that has used the system's libraries may hang.
CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"


class Fork:
    """A script as a fork of this process, used as the `subprocess.Popen` of its `command` without the interpreter: with nothing on
    stdin, and one pipe for stdout and stderr. No thread that computes may have been started before (OpenMP's hang in a fork).
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        read, write = os.pipe()
        self._process = get_context("fork").Process(target=_run, args=(command, env, read, write))
        self._process.start()
        os.close(write)
        self.stdout = os.fdopen(read, "rb", 0)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, timeout: float | None = None) -> None:
        """Raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if timeout is not None and self._process.is_alive():
            raise subprocess.TimeoutExpired(self._process.name, timeout)

    def __enter__(self) -> Fork:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stdout.close()
        self.wait()


def _run(command: Sequence[str], env: Mapping[str, str], read: int, write: int) -> None:
    interruption.end_at_once()
    os.close(read)
    become(command, env, [os.open(os.devnull, os.O_RDONLY), write, os.dup(write)])
    runpy.run_path(command[0], run_name="__main__")


def become(command: Sequence[str], env: Mapping[str, str], streams: Sequence[int]) -> None:
    """Take the arguments, the environment and the three streams of another program, all text in UTF-8."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(env)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.argv = [*command]
    more = [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part]
    first = "" if command[0] == "-c" else str(Path(command[0]).resolve().parent)
    sys.path[:] = [first, *more, *(part for part in sys.path[1:] if part not in more)]
