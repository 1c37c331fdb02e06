"""The project's scripts as processes that need not load PyTorch: one process has loaded it, and forks for each.

`python()` is an interpreter for `subprocess`. Given a script of the project, or a program after `-c`, it asks that process
for a fork, which has the caller's arguments, environment, folder and streams and ends with the script's exit code; anything
else it hands to the real interpreter. What starts `sys.executable` in a fork comes here too. Loading PyTorch takes two
seconds, and the tests start some three hundred scripts. All workers of a run share one such process (`share`), and are forks
of it themselves. Decoding processes, of which they start some two hundred, are forks of one that has loaded no more than those.
"""

from __future__ import annotations

import array
import atexit
import functools
import gc
import importlib
import marshal
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import NoReturn

PROJECT = Path(__file__).resolve().parent.parent
SHARED = "TAGCHECK_WARM_PYTHON"
DECODER = "tagcheck.pictures.decoder_processes"  # has little address space: it is a fork of a process without PyTorch
LOADED = (
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "sample.measure_network",
    "scipy.sparse.csgraph",
    "scipy.stats",
    "tagcheck.belief",
    "tagcheck.duplicates",
    "tagcheck.embedding.tagger",
    "tagcheck.library.choose",
    "tagcheck.script",
    "tagcheck.series",
    "tagcheck.series.mixing",
    "tagcheck.writing",
    "tqdm",
    "waitress",
    "webapp.views",
)
# What a fork can be given afterwards (the last is Ray's); any other variable of Python's own is for the real interpreter.
GIVEN = {"PYTHONPATH", "PYTHONUTF8", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONBREAKPOINT"}
LAUNCHER = """#!{python} -SE
import _signal, _socket, marshal, os, sys  # json, signal and socket would double what starting takes
rest = sys.argv[2:] if sys.argv[1:2] == ["-u"] else sys.argv[1:]
script, program = rest[0] if rest else "", rest[:1] == ["-c"]
decoder = rest[:2] == ["-m", {decoder!r}]
own = {{name for name in os.environ if name.startswith("PYTHON")}} - {given}
if own or not (program or decoder or os.path.abspath(script).startswith({project!r} + os.sep) and script.endswith(".py")):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
caller = _socket.socket(_socket.AF_UNIX)
caller.connect({decoders!r} if decoder else {address!r})
asked = marshal.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), os.getpgrp()])
streams = b"".join(stream.to_bytes(4, sys.byteorder) for stream in (0, 1, 2))
caller.sendmsg([len(asked).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
caller.sendall(asked)
answer = open(caller.fileno())
pid = int(answer.readline())
for number in (_signal.SIGINT, _signal.SIGTERM):
    _signal.signal(number, lambda number, frame: os.kill(pid, number))
code = int(answer.readline() or -9)
if code < 0:
    _signal.signal(-code, _signal.SIG_DFL) if -code != _signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@functools.cache
def python() -> str:
    """The interpreter to start scripts with; the real one where processes cannot fork."""
    if not hasattr(os, "fork"):
        return sys.executable
    if SHARED in os.environ:
        return os.environ[SHARED]
    place = Path(tempfile.mkdtemp(prefix="warm-"))
    launcher = place / "python"
    addresses = {"address": str(place / "socket"), "decoders": str(place / "decoders")}
    text = LAUNCHER.format(python=sys.executable, given=GIVEN, project=str(PROJECT), decoder=DECODER, **addresses)
    launcher.write_text(text, encoding="utf-8")
    launcher.chmod(0o700)
    told, tell = os.pipe()
    keeper = subprocess.Popen(
        [sys.executable, __file__, str(place), str(tell)],
        env={**os.environ, "PYTHONUTF8": "1"},
        pass_fds=[tell],
        process_group=0,  # no Ctrl-C at the terminal reaches it
        stdin=subprocess.PIPE,  # it ends when we do
    )
    os.close(tell)
    os.read(told, 1)  # it listens now, or has ended
    os.close(told)
    assert keeper.stdin
    atexit.register(keeper.stdin.close)
    return str(launcher)


def share() -> str:
    """Let the processes that this one starts from now on have one such interpreter together; it."""
    return os.environ.setdefault(SHARED, python())


def wait_for_no_disk() -> None:
    """Let nothing be flushed to the disk here: no test cuts the power, and waiting for it is half of what many take."""
    from tagcheck import sqlite

    os.fsync, sqlite.SYNCHRONOUS = lambda handle: None, "OFF"


def keep(place: Path, tell: int) -> None:
    """Listen, and fork for each caller: decoders before anything else is loaded, scripts after it."""
    with socket.socket(socket.AF_UNIX) as scripts, socket.socket(socket.AF_UNIX) as decoders:
        for server, name in ((scripts, "socket"), (decoders, "decoders")):
            server.bind(str(place / name))
            server.listen(64)
        os.close(tell)
        sys.path[0] = str(PROJECT)
        importlib.import_module(DECODER).Image.preinit()
        importlib.import_module("tagcheck.forked")
        if not os.fork():
            scripts.close()
            _answer(decoders, place)
        decoders.close()
        for name in LOADED:
            importlib.import_module(name)
        wait_for_no_disk()
        assert "config" not in sys.modules  # which reads the environment
        _answer(scripts, place)


def _answer(server: socket.socket, place: Path) -> NoReturn:
    atexit._clear()  # what was loaded has nothing to do at a script's end, and takes as long as a fork for it
    gc.freeze()
    threading.Thread(target=_end_with_stdin, args=(place,), daemon=True).start()
    callers: set[socket.socket] = set()
    while True:
        caller, _ = server.accept()
        try:
            size, more, *_ = caller.recvmsg(4, socket.CMSG_SPACE(3 * 4))
            streams = array.array("i", more[0][2])
            with caller.makefile("rb") as asked:
                argv, env, folder, group = marshal.loads(asked.read(int.from_bytes(size, "big")))
        except (EOFError, IndexError, OSError, ValueError):  # it was killed
            caller.close()
            continue
        if not (pid := os.fork()):
            for other in (server, caller, *callers):
                other.close()
            with suppress(OSError):
                os.setpgid(0, group)  # of another session: no Ctrl-C at a terminal there
            _become(argv, env, folder, list(streams), str(place / "python"))
        for stream in streams:
            os.close(stream)
        callers.add(caller)
        threading.Thread(target=_tell_end, args=(caller, pid, callers), daemon=True).start()


def _end_with_stdin(place: Path) -> None:
    sys.stdin.buffer.read()
    shutil.rmtree(place, ignore_errors=True)
    os._exit(0)


def _tell_end(caller: socket.socket, pid: int, callers: set[socket.socket]) -> None:
    """Tell the caller which process its script is, and how it ended; end it where the caller does."""
    ended = threading.Event()
    threading.Thread(target=_end_with_caller, args=(caller, pid, ended), daemon=True).start()
    with suppress(OSError):
        caller.sendall(b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    ended.set()
    with suppress(OSError):
        caller.sendall(b"%d\n" % code)
    callers.discard(caller)


def _end_with_caller(caller: socket.socket, pid: int, ended: threading.Event) -> None:
    with suppress(OSError):
        caller.recv(1)
    with suppress(ProcessLookupError):
        if not ended.is_set():
            os.kill(pid, signal.SIGKILL)
    caller.close()


def _become(argv: list[str], env: dict[str, str], folder: str, streams: list[int], launcher: str) -> None:
    """Be the script: its arguments, environment, folder and streams. Ends this process with its exit code."""
    from tagcheck import children, forked

    os.chdir(folder)
    if argv[0] == "-u":  # a worker of pytest, whose tests start the real interpreter where they name it
        del argv[0]
    else:
        sys.executable = children.PYTHON = launcher
    program = argv.pop(1) if argv[0] == "-c" else None
    if argv[0] == "-m":
        program = f"import sys; from {argv.pop(1)} import main; main(sys.argv[1:])"
    forked.become(argv, env, streams)
    sys.dont_write_bytecode = bool(env.get("PYTHONDONTWRITEBYTECODE"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code: object = 0
    try:
        if program is None:
            runpy.run_path(str(Path(argv[0]).resolve()), run_name="__main__")
        else:
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(program, "<string>", "exec"), vars(main))
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), int(sys.argv[2]))
