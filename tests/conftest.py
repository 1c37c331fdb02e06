"""What all tests share: the project's root on the path, a data folder, and scripts run as a user runs them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import tried
import warm

from tagcheck import children
from tagcheck.data_folder import DataFolder

TESTS = Path(__file__).resolve().parent
PROJECT = TESTS.parent

# A run in the background of a shell ignores Ctrl-C and hands that on to every script it starts; the tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


warm.wait_for_no_disk()

# Whole runs of scripts, browsers, training, processes that are killed: `pytest -m "not slow"` leaves them out. A folder, a
# file, or what the names of tests of a file begin with.
SLOW = (
    "test_doctor.py",
    "test_sample.py",
    "portable.py",
    "belief/",
    "duplicates/",
    "embedding/",
    "faults/",
    "fuzz/",
    "learning/",
    "series/",
    "similar/",
    "tag_errors/",
    "library/test_hydrus_server.py",
    "library/test_folder.py::test_two_processes",
    "library/test_sidecar_forms.py::test_one_tag_changed",
    "pictures/test_decoder_processes.py",
    "webapp/test_browser",
    "webapp/test_serving.py",
    "webapp/test_sharing.py::test_in_a_browser",
    "writing/test_apply.py::test_a_kill_at",
    "writing/test_apply.py::test_two_processes",
    "scripts/test_edges.py",
    "scripts/test_end_to_end.py",
    "scripts/test_extraction",
    "scripts/test_find_mistagged.py",
    "scripts/test_find_near_duplicates.py::test_it_runs",
    "scripts/test_run_error_detection.py",
    "scripts/test_series_scripts.py",
    "scripts/test_suggest.py",
    "scripts/test_technical_faults.py",
)

WHOLE_FILES = tuple(one for one in SLOW if "::" not in one)


# The files that take longest begin, so that no processor waits at the end for another one's last file.
LONGEST = (
    "webapp/test_browser.py",
    "series/test_finetuning.py",
    "webapp/test_browser_review.py",
    "scripts/test_end_to_end.py",
    "scripts/test_extraction.py",
    "scripts/test_extraction_cluster.py",
    "duplicates/test_same_picture.py",
    "portable.py",
    "webapp/test_webapp.py",
    "webapp/test_browser_pictures.py",
    "scripts/test_series_scripts.py",
    "scripts/test_suggest.py",
    "embedding/test_published_layouts.py",
    "faults/test_kills.py",
    "scripts/test_edges.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """The workers of a run have one process that forks scripts together, and are forks of it."""
    if config.getoption("numprocesses", None) and (shared := warm.share()) != sys.executable:
        config.option.tx = [f"popen//python={shared}"] * len(config.option.tx)
    children.PYTHON = os.environ.get(warm.SHARED, sys.executable)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is left out as a whole is not even imported."""
    if config.getoption("markexpr", "") != "not slow" or not collection_path.is_relative_to(TESTS):
        return None
    return collection_path.relative_to(TESTS).as_posix().startswith(WHOLE_FILES) or None


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """No file of tests/ has examples: looking for them takes as long as finding its tests."""
    return [found for found in (yield) if type(found).__name__ != "DoctestModule"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of `SLOW` and those with a browser, and begin with those of `LONGEST`."""
    again = config.pluginmanager.hasplugin("rerunfailures")
    places = {}
    for item in items:
        if again and "browser" in getattr(item, "fixturenames", ()):
            # On a busy machine it now and then loses an address that it was given: the report counts what was tried again.
            # Not an option for all tests: with it each one waits for the process that counts.
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun="TimeoutError: (Page|Locator|Frame)"))
        if item.path.is_relative_to(TESTS):
            file = item.path.relative_to(TESTS).as_posix()
            if f"{file}::{item.name}".startswith(SLOW):
                item.add_marker(pytest.mark.slow)
            if file in LONGEST:
                places[item] = LONGEST.index(file)
    items.sort(key=lambda item: places.get(item, len(LONGEST)))
    gc.freeze()  # what is loaded by now stays: no search for garbage looks at it again


@pytest.fixture(autouse=True)
def the_page_waits_for_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a test shows its few reports, and a form what came of its write, at the first look, however busy the machine is."""
    for module, name in (("webapp.state", "FIRST"), ("webapp.applying_views", "MOMENT")):
        if module in sys.modules:
            monkeypatch.setattr(sys.modules[module], name, 120.0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Report how many cases a test tried: one, unless it counted (`tried.count`)."""
    tried.cases = 0
    yield
    item.user_properties.append(("tried", tried.cases or 1))


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """An empty data folder."""
    root = tmp_path / "data"
    root.mkdir()
    return DataFolder(root)


@pytest.fixture
def script():
    """Run a script of the project as a process: `script("find_near_duplicates.py", "--data-dir", d, env={...})`."""

    def run(
        name: str, *args: object, env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [warm.python(), str(PROJECT / name), *map(str, args)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=PROJECT,
            env={**os.environ, **(env or {})},
        )

    return run
