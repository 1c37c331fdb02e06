"""The edge of every script: one line and one exit code for each way to end."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tagcheck import errors, script
from tagcheck.errors import (
    BadFile,
    Cancelled,
    FileUnavailable,
    LibraryRefused,
    LibraryUnreachable,
    MissingInput,
    ToolError,
    UsageError,
    WritesRefused,
)

PROJECT = Path(__file__).resolve().parent.parent


def end(main, capsys) -> tuple[int, str]:
    """The exit code of a script with this main, and what it says on stderr."""
    with pytest.raises(SystemExit) as caught:
        script.run(main)
    said = capsys.readouterr()
    assert said.out == ""
    return caught.value.code, said.err


def raising(error: BaseException):
    def main():
        raise error

    return main


# --- exit codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, code",
    [
        (ToolError("x"), 1),
        (UsageError("x"), 2),
        (MissingInput("x"), 3),
        (BadFile("x"), 4),
        (LibraryUnreachable("x"), 5),
        (LibraryRefused("x"), 5),
        (FileUnavailable("x"), 5),
        (WritesRefused({"a": "x"}), 5),
        (Cancelled("x"), 130),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(error, code, capsys):
    assert end(raising(error), capsys) == (code, "error: x\n")


def test_every_error_of_the_family_is_in_the_test_above():
    family = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, ToolError)}
    assert family == {
        ToolError,
        UsageError,
        MissingInput,
        BadFile,
        LibraryUnreachable,
        LibraryRefused,
        FileUnavailable,
        WritesRefused,
        Cancelled,
        errors.LibraryError,
    }


def test_done_is_zero_and_a_code_is_handed_on(capsys):
    assert end(lambda: None, capsys) == (0, "") == end(lambda: 0, capsys)
    assert end(lambda: 3, capsys) == (3, "")


def test_a_message_of_many_lines_is_one_line(capsys):
    assert end(raising(BadFile("first\nsecond\t third")), capsys) == (4, "error: first second third\n")


def test_ctrl_c_is_130_and_says_that_one_can_go_on(capsys):
    code, said = end(raising(KeyboardInterrupt()), capsys)
    assert code == 130 and said.startswith("error: interrupted; what was finished is kept")


@pytest.mark.parametrize(
    "number, way_out",
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EFBIG, "free some space"),
        (errno.EACCES, "grant the right"),
        (errno.EROFS, "grant the right"),
        (errno.EIO, "see what is wrong there"),
        (errno.ENAMETOOLONG, "see what is wrong there"),
    ],
)
def test_what_the_machine_refuses_is_one_line_with_the_file(number, way_out, capsys):
    code, said = end(raising(OSError(number, "strange thing", "/some/file")), capsys)
    assert code == 1 and said.startswith("error: strange thing (/some/file): ") and way_out in said
    assert said.count("\n") == 1


def test_no_memory_is_one_line(capsys):
    assert end(raising(MemoryError()), capsys)[1].startswith("error: not enough memory: close")
    assert end(raising(MemoryError("Unable to allocate 9 GiB")), capsys)[1].startswith(
        "error: not enough memory (Unable to allocate 9 GiB): "
    )
    of_pytorch = type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.\nTried to allocate 2 GiB")
    assert "not enough memory (CUDA out of memory. Tried" in end(raising(of_pytorch), capsys)[1]
    said = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
    assert end(raising(RuntimeError(said)), capsys)[1].startswith("error: not enough memory ([enforce fail")


@pytest.mark.parametrize(
    "error", [ValueError("bug"), RuntimeError("bug"), OSError("of a network library"), BrokenPipeError(32, "")]
)
def test_our_own_mistakes_stay_tracebacks(error):
    with pytest.raises(type(error)):
        script.run(raising(error))


def run_as_script(body: str, *shell: str) -> subprocess.CompletedProcess:
    """A script of these lines as a process, its output led where `shell` says."""
    program = f"from tagcheck.script import run\ndef main():\n{body}\nrun(main)"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$0" -c "$1" {" ".join(shell)}', sys.executable, program],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )


def test_an_output_that_is_closed_is_no_error(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with pytest.raises(SystemExit) as ended:
        script.run(lambda: script.say("said") or print("done"))
    assert ended.value.code == 0 and os.get_inheritable(sys.stderr.fileno())


def test_a_reader_that_goes_away_is_no_error():
    done = run_as_script("    for number in range(100000): print(number)", "| head -n 1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no Linux")
@pytest.mark.parametrize("lines", [1, 10_000])
def test_a_full_disk_under_the_output_is_said(lines):
    done = run_as_script(f"    for _ in range({lines}): print('done')", "> /dev/full")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: No space left on device: free some space where the output is written")


# --- options -------------------------------------------------------------------------------------------


def test_help_is_the_scripts_docstring_with_the_data_folder(capsys):
    made = script.parser("Does it.\n\n    python x.py\n")
    script.add_dataset(made)
    script.add_library(made, "hydrus")
    with pytest.raises(SystemExit):
        made.parse_args(["--help"])
    said = capsys.readouterr().out
    assert all(
        words in said
        for words in ("    python x.py", "--data-dir DIR", "--dataset FILE", "--library hydrus|DIR", "default: hydrus")
    )


def test_options_of_a_cluster_without_one_are_a_usage_error(capsys):
    made = script.parser("A script.")
    script.add_cluster(made)
    for more in (["--workers", "2"], ["--address", "auto"]):
        assert script.parsed(made, ["--engine", "ray", *more])
        with pytest.raises(SystemExit, match="2"):
            script.parsed(made, more)
    assert "are for --engine ray" in capsys.readouterr().err


def test_options_are_not_guessed_from_their_beginnings(capsys):
    with pytest.raises(SystemExit) as caught:
        script.parser("x").parse_args(["--data", "x"])
    assert caught.value.code == 2 and "unrecognized arguments: --data" in capsys.readouterr().err


def folder_for(given: str | None, **options):
    return script.data_folder(argparse.Namespace(data_dir=given), **options).root


def test_the_data_folder_is_the_option_else_the_environment_else_the_project(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.delenv("DATASET_DIR", raising=False)
    assert folder_for(None) == PROJECT
    monkeypatch.setenv("DATASET_DIR", str(tmp_path / "a"))
    assert folder_for(None) == tmp_path / "a" and folder_for(str(tmp_path / "b")) == tmp_path / "b"


def test_a_data_folder_that_is_not_there_is_a_typing_error_but_for_the_first_stage(tmp_path, monkeypatch):
    for path in (tmp_path / "new", tmp_path / "file"):
        (tmp_path / "file").write_text("x")
        with pytest.raises(
            MissingInput, match="no data folder .*: make it, or name another with --data-dir or DATASET_DIR"
        ):
            folder_for(str(path))
    assert folder_for(str(tmp_path / "new" / "deep"), create=True).is_dir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_for("~/new") == tmp_path / "new"


def test_a_file_in_the_data_folders_place_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    code, said = end(lambda: folder_for(str(tmp_path / "file"), create=True) and 0, capsys)
    assert code == 1 and "file" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "kind, text, says",
    [
        (script.bounded(float, 0, 1), "1.5", "1.5 is not between 0 and 1"),
        (script.bounded(float, 0, 1), "nan", "nan is not between"),
        (script.bounded(float, 0, 1), "x", "invalid number value: 'x'"),
        (script.bounded(int, 1), "0", "0 is less than 1"),
        (script.bounded(int, 1), "1.5", "invalid whole_number value: '1.5'"),
    ],
)
def test_numbers_out_of_range_are_usage_errors_in_words(kind, text, says, capsys):
    made = script.parser("x")
    made.add_argument("--n", type=kind)
    with pytest.raises(SystemExit) as caught:
        made.parse_args(["--n", text])
    assert caught.value.code == 2 and f"argument --n: {says}" in capsys.readouterr().err


def test_results_alone_go_to_stdout(capsys):
    assert list(script.progress(range(3), what="counting")) == [0, 1, 2]
    script.say("a word")
    said = capsys.readouterr()
    assert said.out == "" and "counting" in said.err and "a word" in said.err


SCRIPTS = [*sorted(PROJECT.glob("*.py")), PROJECT / "webapp" / "app.py", *sorted(PROJECT.glob("sample/*.py"))]
PATHS = ("DIR", "FILE", "hydrus|DIR", "OUT", "WORK")


class Options(Exception):
    """The parser of a script, caught on its way."""


def parser_of(path: Path, monkeypatch) -> argparse.ArgumentParser | None:
    """The parser that a script makes; None for a file that is no script."""
    if "parse_args(" not in path.read_text(encoding="utf-8"):
        return None

    def caught(made, *_):
        raise Options(made)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", caught)
    module = importlib.import_module(".".join(path.relative_to(PROJECT).with_suffix("").parts))
    with pytest.raises(Options) as options:
        getattr(module, "parse_args", module.main)([])
    return options.value.args[0]


@pytest.mark.parametrize("script_file", SCRIPTS, ids=lambda path: path.stem)
def test_a_user_or_port_that_is_none_is_a_usage_error_in_every_option(script_file, monkeypatch):
    made = parser_of(script_file, monkeypatch)
    for action in made._actions if made else ():
        wrong = {**dict.fromkeys(PATHS, "~nosuchuser/x"), "HOST:PORT": "localhost:65536"}.get(action.metavar)
        wrong = "65536" if "--port" in action.option_strings else wrong
        if wrong:
            with pytest.raises(argparse.ArgumentTypeError, match="no such user|is not between [01]"):
                action.type(wrong)
        if action.metavar in PATHS:
            with pytest.raises(argparse.ArgumentTypeError, match="is empty"):
                action.type("")


@pytest.mark.parametrize(
    "option, wrong", [("--port", "65536"), ("--library", "~nosuchuser"), ("--data-dir", "~nosuchuser")]
)
def test_the_page_does_not_start_with_a_user_or_port_that_is_none(option, wrong, capsys):
    from webapp import app

    with pytest.raises(SystemExit) as caught:
        app.main([option, wrong])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and ("no such user" in said or "65536 is not between 0 and 65535" in said)


def test_a_bar_without_a_terminal_is_ascii(monkeypatch):
    log = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stderr", log)
    assert list(script.progress(range(3), what="looking")) == [0, 1, 2]
    log.flush()
    assert b"looking: 100%|###" in log.buffer.getvalue()
