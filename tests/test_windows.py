"""What Windows does otherwise, imitated: files that another program holds, broken pipes, ports, numbers of processes."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tagcheck import c_library, children, files, script
from tagcheck.library.folder import inside
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.pictures.decoder_processes import Decoder
from tagcheck.pictures.file_formats import ImageUnreadable, Limits
from webapp import serving
from webapp.pictures import ThumbnailCache


class Windows(SimpleNamespace):
    """The module `os` of a Windows on which a scanner holds each file for the first two tries to move or remove it."""

    name = "nt"

    def __init__(self) -> None:
        super().__init__(left={})

    def __getattr__(self, name: str):
        return getattr(os, name)

    def _held(self, path: object) -> None:
        left = self.left.setdefault(str(path), 2)
        self.left[str(path)] = left - 1
        if left > 0:
            raise PermissionError(errno.EACCES, "another program has it", str(path))

    def replace(self, source, target, **handles):
        self._held(source)
        os.replace(source, target, **handles)

    def unlink(self, path, **handles):
        self._held(path)
        os.unlink(path, **handles)


@pytest.fixture
def windows(monkeypatch) -> Windows:
    made = Windows()
    monkeypatch.setattr(files, "os", made)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    return made


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_that_a_scanner_holds_for_a_moment_is_written_all_the_same(windows, tmp_path, replace):
    files.write_atomically(tmp_path / "report.json", lambda out: out.write(b"{}"), replace)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("report.json", b"{}")]


def test_one_that_is_held_for_a_moment_is_removed_and_one_that_is_gone_is_no_error(windows, tmp_path):
    path = tmp_path / "kept.bin"
    path.write_bytes(b"")
    for _ in range(2):
        files.remove(path)
        assert not path.exists()


def test_one_that_is_held_for_good_is_an_error(windows, monkeypatch, tmp_path):
    monkeypatch.setattr(files, "REPLACE_SECONDS", 0.0)
    (tmp_path / "kept.bin").write_bytes(b"")
    with pytest.raises(PermissionError):
        files.remove(tmp_path / "kept.bin")


def test_a_library_that_another_process_has_compiled_and_loaded_meanwhile_is_taken(monkeypatch, tmp_path):
    source = tmp_path / "one.c"
    source.write_text("int one(void) { return 1; }", encoding="utf-8")
    monkeypatch.setattr(c_library, "_cache", lambda: tmp_path)
    if (first := c_library.library(source, "one")) is None:
        pytest.skip("no compiler")
    first.unlink()

    def loaded_meanwhile(temporary, path):
        Path(path).write_bytes(b"")
        raise PermissionError(errno.EACCES, "it is loaded", str(path))

    monkeypatch.setattr(c_library.os, "replace", loaded_meanwhile)
    assert c_library.library(source, "one") == first


def test_a_thumbnail_that_is_just_being_removed_is_made_anew(monkeypatch, tmp_path):
    cache = ThumbnailCache(tmp_path, 1000)
    cache.put("ab" * 32, b"webp")
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(PermissionError(errno.EACCES, "going")))
    assert cache.get("ab" * 32) is None


def test_a_decoder_that_ends_over_a_file_is_told_whatever_the_system_calls_its_pipe():
    class Pipe:
        def write(self, data: bytes) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        close = flush = lambda self: self.write(b"")

    decoder = Decoder(16, Limits())
    process = decoder._start()
    whole, process.stdin = (
        process.stdin,
        Pipe(),
    )  # closed only afterwards: its process ends with it, and another one would be asked
    with whole, pytest.raises(ImageUnreadable, match="the decoder crashed on it"):
        decoder.prepare(b"a picture")


def test_a_reader_that_goes_away_is_no_error_where_it_is_called_an_invalid_argument(monkeypatch):
    def main():
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.delattr(script.select, "poll", raising=False)
    for system, code in (("posix", 1), ("nt", 0)):
        monkeypatch.setattr(script, "os", SimpleNamespace(**vars(os) | {"name": system, "dup2": lambda *_: None}))
        with pytest.raises(SystemExit) as ended:
            script.run(main)
        assert ended.value.code == code


def test_the_page_has_its_port_alone(monkeypatch):
    # Any option that is off by itself.
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_KEEPALIVE, raising=False)
    with serving._bound("127.0.0.1", 0) as bound:
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0


def test_whether_a_process_runs_is_told_on_every_system():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert children.is_running(child.pid) and children.is_running(os.getpid())
    assert not children.is_running(child.pid)


@pytest.mark.skipif(sys.platform != "win32", reason="a priority of Windows")
def test_decoders_give_way_on_windows():
    code = "import ctypes; from tagcheck import children; children.give_way()\n"
    code += "print(ctypes.windll.kernel32.GetPriorityClass(ctypes.c_void_p(-1)))"
    done = subprocess.run([sys.executable, "-c", code], env=children.environment(), stdout=subprocess.PIPE)
    assert int(done.stdout) == children.BELOW_NORMAL


def test_a_picture_or_sidecar_whose_path_is_too_long_is_said_and_not_passed_over(monkeypatch, tmp_path):
    """What Windows lists and then says is not there."""
    folder = tmp_path / ("a" * (inside.LONGEST - len(str(tmp_path)) - len("//cat.jpg.txt") + 1))
    folder.mkdir()
    for name in ("cat.jpg", "cat.jpg.txt", "longest.jpeg"):
        (folder / name).write_bytes(name.encode())

    def short(act):
        def checked(path, *rest, **more):
            if not isinstance(path, int) and len(str(path)) > inside.LONGEST:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
            return act(path, *rest, **more)

        return checked

    path = SimpleNamespace(**vars(os.path) | {"lexists": lambda path: len(path) <= inside.LONGEST})
    fake = SimpleNamespace(**vars(os) | {"name": "nt", "stat": short(os.stat), "open": short(os.open), "path": path})
    monkeypatch.setattr(inside, "BY_HANDLE", False)
    monkeypatch.setattr(inside, "os", fake)
    library = FolderLibrary(tmp_path)
    said = [info.reason for info in library.files([hash for page in library.walk([]).pages for hash in page.hashes])]
    assert len(said) == 2 and all("its path has more than 259 characters: shorten it" in one for one in said)
    assert sorted("tags cannot be read" in one for one in said) == [False, True]
