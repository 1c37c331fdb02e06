"""What Windows and macOS lack, taken away here: POSIX modules, other consoles, `\\` in paths. The rest needs such a machine."""

from __future__ import annotations

import ntpath
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from tagcheck import children
from tagcheck.library.folder import known_hashes

PROJECT = Path(__file__).resolve().parent.parent
COLLECTED = ("library", "embedding", "test_sqlite.py")  # imported without these names, and of some of them
RUN = ("library/test_sidecar_forms.py", "pictures/test_repairs.py", "test_lock.py", "test_data_folder.py")
RUN += ("writing/test_steps.py", "scripts/test_edges.py::test_a_small_or_odd_library_passes_every_stage[two]")
WITHOUT = f"""
import os, re, sys
import filelock, pytest  # they have ways of their own for systems without these
for name in ("fcntl", "resource"):
    sys.modules[name] = None
for name in ("fork", "posix_fadvise", "nice", "fchown"):
    delattr(os, name)
geteuid = os.geteuid
del os.geteuid


class Chosen:
    def pytest_collection_modifyitems(self, items):
        '''Of each test of these files the first case and the last.'''
        os.geteuid = geteuid  # which filelock uses
        tests = {{}}
        for item in items:
            if item.nodeid.startswith({tuple("tests/" + file for file in RUN)}) and not re.search("linked|one_tag_ch", item.name):
                tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
        items[:] = [item for cases in tests.values() for item in cases[:: max(1, len(cases) - 1)]]
        assert len(items) > 70


files = {[f"tests/{file}" for file in (*COLLECTED, *RUN)]}
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *files], [Chosen()]))
"""


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHONUTF8")} | environment
    with tempfile.TemporaryDirectory() as place:  # locks without fcntl leave their files in it
        env |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), place)
        return subprocess.run([sys.executable, *map(str, command)], cwd=PROJECT, env=env, capture_output=True)


def test_test_files_are_collected_and_sidecars_and_pictures_handled_without_posix_modules():
    done = run("-c", WITHOUT)
    assert done.returncode == 0, done.stdout.decode()[-3000:]


@pytest.mark.parametrize("console", ["cp1252", "cp932", "ascii"])
def test_a_path_that_the_console_lacks_is_printed_all_the_same(tmp_path, console):
    library = tmp_path / "猫 été ✓ \U0001f408"
    library.mkdir()
    Image.new("RGB", (9, 9)).save(library / "a.png")
    (library / "a.txt").write_text("1girl, solo", encoding="utf-8")
    data = tmp_path / "données ✓"
    done = run(
        "dataset_hardcore_mapper.py", "--library", library, "--data-dir", data, PYTHONIOENCODING=console, PYTHONUTF8="0"
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert b"1 picture on" in done.stdout and list(data.glob("mappings/*.json"))


@pytest.mark.parametrize(
    "path, root, expected",
    [
        ("C:\\lib\\a\\b.txt", "C:\\lib", "a/b.txt"),
        ("c:\\lib\\b.txt", "C:\\lib", "b.txt"),
        ("D:\\other\\b.txt", "C:\\lib", "D:/other/b.txt"),
    ],
)
def test_paths_are_kept_with_slashes_and_below_the_library(monkeypatch, path, root, expected):
    monkeypatch.setattr(known_hashes, "os", SimpleNamespace(path=ntpath, sep="\\"))
    assert known_hashes.relative(path, root) == expected


@pytest.mark.skipif(os.name != "posix", reason="a limit of POSIX")
def test_a_lower_hard_limit_on_memory_stops_no_decoder():
    program = """
import io, resource
from PIL import Image
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from tagcheck.pictures.decoder_processes import Decoder
from tagcheck.pictures.file_formats import Limits
out = io.BytesIO(); Image.new("RGB", (20, 20)).save(out, "PNG")
decoder = Decoder(8, Limits()); print(decoder.prepare(out.getvalue())[1]); decoder.close()
"""
    done = run("-c", program, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    assert done.stdout.strip() == b"(20, 20)", done.stderr


def test_the_users_own_python_path_is_kept(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/mine")
    assert children.environment()["PYTHONPATH"].split(os.pathsep) == [str(PROJECT), "/mine"]
    assert children.environment()["PYTHONUTF8"] == "1"


@pytest.mark.skipif(os.name != "posix", reason="kill -9 of POSIX")
def test_a_child_ends_soon_after_its_parent_was_killed(tmp_path):
    child = "import time; from tagcheck import children; children.end_with_parent(); time.sleep(60)"
    program = f"""
import subprocess, sys, time
from tagcheck import children
print(subprocess.Popen([sys.executable, "-c", {child!r}], env=children.environment(), **children.OWN_GROUP).pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        time.sleep(1.5)
        parent.kill()
    for _ in range(150):
        try:
            os.kill(pid, 0)
            if (
                Path(f"/proc/{pid}/stat").exists()
                and Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] == "Z"
            ):
                break
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.kill(pid, 9)
        raise AssertionError("the child lives on")
