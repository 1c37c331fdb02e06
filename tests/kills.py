"""Processes that end at a chosen moment: killed, interrupted, or told that the disk is full, before or after a call that writes.

The calls are fsync, replace, link and unlink, the commits to SQLite and what is sent to Hydrus. `FAULTS=all` tries every
point (default: a seeded few).
"""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
from collections.abc import Callable
from typing import Any

import torch
import tried

from tagcheck import sqlite

CALLS = ("fsync", "replace", "link", "unlink")
FEW = 4
Work = Callable[[], object]


def watched(event: Callable[[str], None]) -> None:
    """Let `event` be called before and after each of `CALLS` in this process."""

    def around(name: str, real: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            event(f"before {name}")
            found = real(*args, **named)
            event(f"after {name}")
            return found

        return call

    for name in CALLS:
        setattr(os, name, around(name, getattr(os, name)))
    execute, sendall = sqlite._Connection.execute, socket.socket.sendall

    def committed(db: Any, *args: Any) -> Any:
        if args[0] == "COMMIT":
            event("before commit")
        found = execute(db, *args)
        if args[0] == "COMMIT":
            event("after commit")
        return found

    sqlite._Connection.execute = committed
    socket.socket.sendall = around("send", sendall)


def in_child(work: Work, at: int | None = None, how: str = "kill") -> tuple[int, int]:
    """(exit code, or minus the signal; how many events there were) of `work` in a child to which `how` happens at event `at`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        seen = 0

        def event(what: str) -> None:
            nonlocal seen
            seen += 1
            if seen - 1 == at:
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if how == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)
                if how == "full" and what.startswith("before") and "unlink" not in what:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        code = 1
        try:
            torch.set_num_threads(1)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            watched(event)
            work()
            code = 0
        except KeyboardInterrupt:
            code = 130
        except OSError as error:
            code = 28 if error.errno == errno.ENOSPC else 1
        except Exception as error:
            code = 28 if "No space left" in str(error) else 1
        finally:
            os.write(writer, str(seen).encode())
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as told:
        said = told.read()
    _, status = os.waitpid(child, 0)
    tried.count(at is not None)
    return os.waitstatus_to_exitcode(status), int(said or 0)


ALL = os.environ.get("FAULTS") == "all"


def points(work: Work, reset: Work, seed: int, few: int = FEW) -> list[int]:
    """Which events something is to happen at."""
    code, count = in_child(work)
    reset()
    assert code == 0 and count
    every = list(range(count))
    return every if ALL else sorted(random.Random(seed).sample(every, min(few, count)))


HOWS = {"kill": (-signal.SIGKILL,), "interrupt": (130, 0), "full": (28, 0)}
