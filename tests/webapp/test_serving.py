"""The page over real connections: what an attacker tries, many who send slowly, and how it ends."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import tried
import web_attacks

from tagcheck.errors import ToolError, UsageError
from webapp import serving
from webapp.app import end_in_words
from webapp.running import Job

PROJECT = web_attacks.TESTS.parent


@pytest.mark.parametrize("attack", web_attacks.ATTACKS, ids=lambda attack: attack.__name__)
def test_nothing_is_let_through(attack):

    with web_attacks.site() as site:
        results = list(attack(site, random.Random(3)))
    tried.count(len(results))
    assert results and [what for what, held in results if not held] == []


def test_a_request_that_comes_too_slowly_is_ended(monkeypatch):
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 0.5)
    with web_attacks.site() as site:
        with socket.create_connection(("127.0.0.1", site.port), timeout=20) as slow:
            begun = time.monotonic()
            with pytest.raises(OSError):
                while time.monotonic() - begun < 15:
                    slow.sendall(b"G")
                    time.sleep(0.2)
            assert time.monotonic() - begun < 12


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(UsageError, match="ports are 0 to 65535"):
        serving.Server(lambda *_: [], "127.0.0.1", port)


def test_where_localhost_means_another_program_too_the_page_says_so():
    """As on macOS, whose AirPlay Receiver has port 5000: a browser asks ::1 first."""
    try:
        other = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with other, pytest.raises(ToolError, match=r"another program answers on \[::1\]:.*choose another --port"):
        serving.Server(lambda *_: [], "127.0.0.1", other.getsockname()[1])


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_few_descriptors_are_enough_and_a_signal_ends_it_in_a_word(folder, tmp_path):
    code = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
sys.argv = ["app.py", "--data-dir", {str(folder.root)!r}, "--library", {str(tmp_path)!r}, "--port", "0"]
runpy.run_path("webapp/app.py", run_name="__main__")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
    served = web_attacks.Site.__new__(web_attacks.Site)
    served.port = port

    assert all(held for _, held in web_attacks.connections(served, random.Random(1), 140))
    before = time.process_time(), os.times().children_user
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0 and said.splitlines()[-1] == "ended" and "error" not in said, (before, said)


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (None, "ended"),
        (
            Job("detect", "Running the detectors"),
            "ended in the middle of running the detectors: run the detectors again",
        ),
        (
            Job("apply", "Writing 2 changes to my tags", lead=lambda job: None),
            "ended in the middle of writing 2 changes to my tags: the next start finishes it",
        ),
    ],
)
def test_what_the_end_leaves_unfinished_is_said(job, said):
    assert end_in_words(job) == said
