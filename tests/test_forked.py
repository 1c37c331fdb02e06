"""A fork of this process that is a script behaves as the script's own process does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tagcheck import forked

pytestmark = pytest.mark.skipif(not forked.CAN_FORK, reason="processes cannot fork here")
SAYS = """
import json, os, sys
print(json.dumps([__name__, sys.argv[1:], sys.path[0], os.environ["OWN"], sys.stdin.read(), "tagcheck.errors" in sys.modules]))
print("on stderr: \\u2713", file=sys.stderr)
os.write(2, b"past Python\\n")
"""
ENDS = {
    "nothing": ("pass", 0),
    "a code": ("import sys; sys.exit(3)", 3),
    "words": ("import sys; sys.exit('so it ends')", 1),
    "an error": ("raise RuntimeError('boom')", 1),
    "a signal": ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
    "a thread that goes on": (
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
        0,
    ),
}


def both(script) -> list[tuple[str, int | None]]:
    """(what it says, its exit code) of a script as a fork and as a process."""
    command, env = [str(script), "--one", "two"], {"PYTHONPATH": os.getcwd(), "PYTHONUTF8": "1", "OWN": "é"}
    with forked.Fork(command, env) as fork:
        said = fork.stdout.read().decode()
    done = subprocess.run(
        [sys.executable, *command], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return [(said, fork.returncode), (done.stdout.decode(), done.returncode)]


def test_it_has_its_arguments_environment_and_streams_and_what_was_loaded_before(tmp_path):
    script = tmp_path / "says.py"
    script.write_text(SAYS, encoding="utf-8")
    (fork, code), (process, other) = both(script)
    assert code == other == 0
    assert sorted(fork.replace(", true]", ", false]").splitlines()) == sorted(process.splitlines())
    assert ", true]" in fork


@pytest.mark.parametrize("how", ENDS)
def test_it_ends_as_a_process_does(how, tmp_path):
    text, code = ENDS[how]
    script = tmp_path / "ends.py"
    script.write_text(text)
    fork, process = both(script)
    assert fork[1] == process[1] == code
    assert fork[0].splitlines()[-1:] == process[0].splitlines()[-1:]


def test_it_can_be_waited_for_and_ended(tmp_path):
    script = tmp_path / "hangs.py"
    script.write_text("import time; print('here', flush=True); time.sleep(60)")
    with forked.Fork([str(script)], dict(os.environ)) as fork:
        assert fork.stdout.read(4) == b"here"
        with pytest.raises(subprocess.TimeoutExpired):
            fork.wait(timeout=0.01)
        fork.terminate()
        fork.wait(timeout=30)
    assert fork.returncode not in (0, None)
