"""Processes of our own, on every system: what they get from us, what they may use, and that they end when we do."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable  # which starts them
PARENT = "TAGCHECK_PARENT"
WATCH_SECONDS = 1.0
NICENESS = 5
BELOW_NORMAL = 0x4000
SYNCHRONIZE, FOREVER = 0x00100000, 0xFFFFFFFF
ACCESS_DENIED = 5
THIS_PROCESS = -1  # as a handle, which has 64 bits

# For Popen: a group of its own, which Ctrl-C at our terminal does not reach and `end` ends as a whole.
# CREATE_NEW_PROCESS_GROUP.
OWN_GROUP: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {"creationflags": 0x200}


def environment(**more: str) -> dict[str, str]:
    """The environment of a child: ours, with the project on the path, text in UTF-8, and whom to follow."""
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1", PARENT: str(os.getpid()), **more}


def end(process: subprocess.Popen[Any]) -> None:
    """Ask a process that was started with `OWN_GROUP`, and what it started, to end; on Windows they are ended."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    else:  # its children see that it is gone (`end_with_parent`)
        process.terminate()


def give_way() -> None:
    """Let other processes go first."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    elif sys.platform == "win32":
        import ctypes

        ctypes.windll.kernel32.SetPriorityClass(ctypes.c_void_p(THIS_PROCESS), BELOW_NORMAL)


def limit_memory(most: int) -> None:
    """Hold this process to `most` bytes of address space where the system can (macOS and Windows cannot)."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def end_with_parent() -> None:
    """End this process soon after the one that started it by `environment` has ended, however that ended."""
    parent = os.environ.get(PARENT, "")
    if not parent.isdigit():
        return
    if sys.platform == "win32":
        threading.Thread(target=_follow_on_windows, args=(int(parent),), daemon=True).start()
    elif os.getppid() == int(parent):  # else it was started by something in between, which has its own end
        threading.Thread(target=_follow, args=(int(parent),), daemon=True).start()


def is_running(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        if not (handle := kernel.OpenProcess(SYNCHRONIZE, False, process)):
            return ctypes.get_last_error() == ACCESS_DENIED  # it is another user's
        ended = kernel.WaitForSingleObject(handle, 0) == 0
        kernel.CloseHandle(handle)
        return not ended
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # else it is another user's
    return True


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10 * WATCH_SECONDS)  # what is in hand is finished or cleared away
    os._exit(1)


def _follow_on_windows(parent: int) -> None:
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    if handle := kernel.OpenProcess(SYNCHRONIZE, False, parent):
        kernel.WaitForSingleObject(handle, FOREVER)
        os._exit(1)
