"""How scripts end: a signal while they still import, folders and files that may not be read, a shard that is cut off."""

from __future__ import annotations

import ctypes
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tried
from conftest import PROJECT

import find_near_duplicates
from tagcheck import files, script
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.embedding import store
from tagcheck.errors import ToolError
from tagcheck.review.store import decisions

posix = pytest.mark.skipif(os.name != "posix", reason="signals and rights of POSIX")
SCRIPTS = sorted(
    path.relative_to(PROJECT).as_posix()
    for path in (*PROJECT.glob("*.py"), PROJECT / "webapp/app.py")
    if path.name not in ("config.py", "start.py")
)


@posix
@pytest.mark.parametrize("name", SCRIPTS if os.environ.get("FAULTS") == "all" else random.Random(4).sample(SCRIPTS, 4))
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_script_imports_ends_it_in_one_line(tmp_path, name, sent):
    (tmp_path / "config.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    program = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.modules.pop('config', None)\n"
    program += f"sys.argv[:] = [{name!r}]\nsys.path.insert(1, {str(PROJECT)!r})\nimport runpy as r\n"
    program += (
        f"code = compile(open({str(PROJECT / name)!r}).read(), {name!r}, 'exec')\n"
        f"exec(code, {{'__name__': '__main__', '__file__': {str(PROJECT / name)!r}}})"
    )
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if "import config\n" in (PROJECT / name).read_text(encoding="utf-8"):
        assert run.stdout is not None and run.stdout.readline() == "importing\n"
    else:
        time.sleep(0.5)
    run.send_signal(sent)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130 and said.count("\n") == 1 and said.startswith("error: interrupted"), said


def without_rights_of_root() -> None:
    """Let the rights of files hold for this process, also where it is root's."""
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    libc.capget(header, data)
    for place in (0, 1):
        data[place] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, data) == 0


@posix
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="drops capabilities")
@pytest.mark.parametrize(
    "closed", ["datasets", "datasets/file", "advanced_embeddings", "advanced_embeddings/file", "."]
)
def test_what_may_not_be_read_is_named_and_no_stage_is_asked_for(tmp_path, closed):
    data = DataFolder(tmp_path / "data")
    data.root.mkdir()
    store_folder = data.embeddings
    with store.ShardWriter(store_folder, "m", "p") as writer:
        writer.add(["a" * 64, "b" * 64], np.eye(2, dtype=np.float32))
    rows = [{"hash": one * 64, "status": "ok", "existing_all_tags": ["x"]} for one in "ab"]
    files.write_json(
        data.root / "datasets" / f"{DATASET.prefix}_20260101T000000Z.json",
        {"kind": "dataset", "version": 1, "model": {"id": "m"}, "results": rows},
    )
    folder, _, inner = closed.partition("/")
    path = next((data.root / folder).iterdir()) if inner else data.root / folder
    reader, writer_end = os.pipe()
    child = os.fork()
    if child == 0:
        sys.stderr = open(writer_end, "w", buffering=1)  # noqa: SIM115
        without_rights_of_root()
        path.chmod(0)
        try:
            script.run(lambda: find_near_duplicates.main(["--data-dir", str(data.root)]))
        except SystemExit as end:
            os._exit(end.code)  # type: ignore[arg-type]
        os._exit(99)
    os.close(writer_end)
    _, status = os.waitpid(child, 0)
    path.chmod(0o755)
    said = os.read(reader, 10_000).decode()
    assert os.waitstatus_to_exitcode(status) == 1, said
    assert "Traceback" not in said and " first" not in said, said
    assert "may not be read" in said or "Permission denied" in said, said


@posix
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="drops capabilities")
def test_a_data_folder_that_may_not_be_written_is_one_line_of_every_stage_before_its_work(tmp_path, capfd):
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o555)
    more = {"dataset_hardcore_mapper.py": ["--library", str(tmp_path)], "suggest.py": ["a" * 64]}
    more |= {"mark_in_hydrus.py": ["my tags"], "webapp/app.py": ["--port", "0"]}
    for name in SCRIPTS:
        tried.count()
        child = os.fork()
        if child == 0:
            without_rights_of_root()
            sys.argv[:] = [name, "--data-dir", str(data), *more.get(name, [])]
            try:
                runpy.run_path(str(PROJECT / name), run_name="__main__")
            except SystemExit as end:
                os._exit(int(end.code or 0))
            os._exit(99)
        code, said = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), capfd.readouterr().err
        assert code == 1 and said.count("\n") == 1 and f"{data} may not be written" in said, (name, said)


@posix
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="drops capabilities")
def test_decisions_in_a_folder_that_may_not_be_entered_are_one_line(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    child = os.fork()
    if child == 0:
        without_rights_of_root()
        closed.chmod(0)
        try:
            decisions(closed / "review.sqlite3")
        except ToolError as error:
            os._exit(0 if f"{closed} may not be read" in str(error) else 2)
        except BaseException:
            os._exit(3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    closed.chmod(0o755)


def test_a_shard_that_is_cut_off_while_it_is_read_is_named(tmp_path, monkeypatch):
    with store.ShardWriter(tmp_path, "m", "p") as writer:
        writer.add([f"{number:064x}" for number in range(50)], np.ones((50, 64), np.float32))
    (path,) = store.shard_paths(tmp_path)
    real = store._gather

    def gather(*args):
        os.truncate(path, path.stat().st_size // 2)
        return real(*args)

    monkeypatch.setattr(store, "_gather", gather)
    with pytest.raises(store.DamagedShard, match=path.name):
        store.load(tmp_path)


def test_a_data_folder_that_is_removed_while_it_is_written_is_an_error_that_names_the_file(tmp_path):
    data = DataFolder(tmp_path / "data")

    def removed(out) -> None:
        out.write(b"x")
        for path in sorted(data.root.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    with pytest.raises(FileNotFoundError) as error:
        files.write_atomically(data.root / "reports" / "a.json", removed)
    assert error.value.filename == str(data.root / "reports" / "a.json")
