"""start.py: which build of PyTorch, how much is downloaded, and that each way of use is understood."""

from __future__ import annotations

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import start

PROJECT = Path(__file__).resolve().parent.parent


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A list of small builds on this machine: name -> the names of its wheels."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(start, "CPU_BUILD", f"http://127.0.0.1:{server.server_port}")

    def fill(**packages: list[str]) -> None:
        for name, files in packages.items():
            (tmp_path / name).mkdir()
            lines = [f'<a href="/{name}/{file.replace("+", "%2B")}#sha256=0">{file}</a><br/>' for file in files]
            (tmp_path / name / "index.html").write_text("\n".join(lines))
            for file in files:
                (tmp_path / name / file).write_bytes(b"x" * 1000)

    yield fill
    server.shutdown()


def wheel(
    name: str, version: str, python: str = f"cp311 cp{sys.version_info.major}{sys.version_info.minor}"
) -> list[str]:
    return [f"{name}-{version}-{tag}-{tag}-manylinux_2_28_x86_64.whl" for tag in dict.fromkeys(python.split())]


def test_the_newest_small_builds_that_belong_together_are_taken(index):
    index(
        torch=[
            *wheel("torch", "2.9.1+cpu"),
            *wheel("torch", "2.10.0+cpu"),
            *wheel("torch", "2.11.0+cpu"),
            *wheel("torch", "2.12.0"),
        ],
        torchvision=[
            *wheel("torchvision", "0.24.1+cpu"),
            *wheel("torchvision", "0.25.0+cpu"),
            *wheel("torchvision", "0.27.0+cpu"),
        ],
    )
    found = start.cpu_builds()
    assert list(found) == ["torch==2.10.0+cpu", "torchvision==0.25.0+cpu"]


@pytest.mark.parametrize("there", [{}, {"torch": ["torch-2.9.0+cpu-cp39-cp39-linux_x86_64.whl"], "torchvision": []}])
def test_where_no_small_build_fits_none_is_taken(index, there):
    index(**there)
    assert start.cpu_builds() == {}


def test_sizes_come_from_where_the_files_are(index, tmp_path):
    index(torch=wheel("torch", "2.9.0+cpu"))
    file = next((tmp_path / "torch").glob("*.whl"))
    assert (
        start.size_of(file.as_uri())
        == start.size_of(f"{start.CPU_BUILD}/torch/{file.name.replace('+', '%2B')}")
        == 1000
    )
    assert start.size_of("http://127.0.0.1:1/x.whl") == 0


@pytest.mark.parametrize("port", ["0", "65536", "99999", "-1", "x"])
def test_a_port_that_is_none_is_a_usage_error(port, capsys):
    with pytest.raises(SystemExit) as caught:
        start.parse_args(["serve", f"--port={port}"])
    assert caught.value.code == 2


def test_a_folder_that_holds_something_else_is_never_removed(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(start.Failed, match="holds something else"):
        start.run_stages(tmp_path)
    assert (tmp_path / "mine.txt").exists()


def test_it_needs_the_standard_library_alone():
    tree = ast.parse((PROJECT / "start.py").read_text(encoding="utf-8"))
    names = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names - {"tagcheck"} <= sys.stdlib_module_names  # its own, for the interruption, is as bare


def test_a_locked_environment_takes_the_lock_alone_and_checks_each_file(monkeypatch, tmp_path):
    asked = []

    def pip(*words, quiet=False):
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, stdout='{"install": []}')

    monkeypatch.setattr(start, "pip", pip)
    monkeypatch.setattr(start, "check_torch", lambda: None)
    monkeypatch.setattr(start, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(start, "VENV", tmp_path)
    start.make_environment("auto", locked=True)
    start.make_environment("auto", locked=True)
    (*_, installing) = asked
    assert len(asked) == 2 and installing[-1] == str(start.LOCK) and "--require-hashes" in installing
    pinned = re.findall(r"^([\w.-]+)==", start.LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    wanted = re.findall(r"^([\w.-]+)", start.REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name.replace("_", "-") for name in wanted} <= set(pinned)
    monkeypatch.setattr(start, "PYTHON", tmp_path / "gone" / "python")
    monkeypatch.setattr("venv.create", lambda *_, **options: None)
    start.make_environment("auto", locked=True)
    assert len(asked) == 4  # what was installed for a Python that is there no more counts for nothing


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_the_page_and_what_serves_it_in_a_word(tmp_path):
    (tmp_path / "data").mkdir()
    code = f"""
import sys
from pathlib import Path
import start
start.PYTHON, start.show = sys.executable, lambda port: None
start.script.run(lambda: start.serve(Path({str(tmp_path)!r}), 0))
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, start_new_session=True, **pipes)
    assert "Ctrl-C ends it" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0 and said.splitlines()[-1] == "ended" and "error" not in said, said


def test_a_pytorch_that_cannot_be_loaded_is_said_and_tried_again_next_time(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('[WinError 126] Error loading c10.dll')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(start, "PYTHON", sys.executable)
    monkeypatch.setattr(start, "VENV", tmp_path)
    monkeypatch.setattr(start, "download", lambda *_: "nothing")
    monkeypatch.setattr(start, "pip", lambda *_, **__: subprocess.CompletedProcess([], 0))
    for _ in range(2):
        with pytest.raises(
            start.Failed, match=r"cannot be loaded \(OSError: \[WinError 126\] Error loading c10.dll\): "
        ):
            start.install(start.REQUIREMENTS, "what the scripts need")
    (tmp_path / "torch.py").write_text("", encoding="utf-8")
    start.install(start.REQUIREMENTS, "what the scripts need")
    assert start.installed(start.REQUIREMENTS)


def test_a_demo_whose_drawing_was_stopped_is_drawn_anew_and_another_folder_is_left_alone(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(start, "stage", lambda *words: asked.append(words[0]))
    (tmp_path / "demo" / start.DRAWING).mkdir(parents=True)
    start.run_stages(tmp_path / "demo")
    assert asked[0] == "sample/draw_library.py" and not (tmp_path / "demo").exists()
    (tmp_path / "mine" / start.DRAWING).mkdir(parents=True)
    (tmp_path / "mine" / "picture.png").write_bytes(b"")
    with pytest.raises(start.Failed, match="holds something else than a sample"):
        start.run_stages(tmp_path / "mine")


def test_where_another_program_has_the_port_the_browser_is_not_shown_it(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(start, "stage", lambda *words: pytest.fail("the page was started"))
    monkeypatch.setattr(start.sys, "platform", "darwin")
    monkeypatch.setattr(start, "show", lambda port: pytest.fail("it was shown"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(start.Failed, match=r"another program answers on port \d+ \(AirPlay Receiver"):
            start.serve(tmp_path, other.getsockname()[1])
