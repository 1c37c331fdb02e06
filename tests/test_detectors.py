"""The table of detectors: one script and one row, and the runner, the review store and the page have a new detector."""

from __future__ import annotations

from dataclasses import replace

from review_data import draw_library, missing, page_on, save_dataset

import run_error_detection
from tagcheck import data_folder, detectors, script
from tagcheck.data_folder import RUN_SUMMARY
from tagcheck.detectors import DETECTORS, TAGS, Detector

SHOUTED = Detector(
    key="shouting",
    name="shouted tags",
    title="Shouting",
    report=data_folder.Kind("shouted_report", "reports", "shouted_report", "find_shouted.py", ("loud",)),
    reader=TAGS,
    issues={"shouted_tags": "Tags that shout"},
    counts=("loud_tags",),
)
FINDS_SHOUTED = """
import sys
from pathlib import Path
sys.path[:0] = [{project!r}, {tests!r}]
from test_detectors import SHOUTED
from tagcheck import data_folder
folder = data_folder.DataFolder(Path(sys.argv[sys.argv.index("--data-dir") + 1]))
data_folder.save(folder, SHOUTED.report, {{"summary": {{"loud_tags": 1}}, "loud": [{entry!r}]}})
"""


def test_every_detector_has_a_key_issues_and_words_of_its_own():
    for names in ([one.key for one in DETECTORS], [one.report.name for one in DETECTORS], detectors.issues()):
        assert len(names) == len(set(names))
    assert all((script.PROJECT / one.script).is_file() for one in DETECTORS)
    assert all(all(words for words in one.issues.values()) and one.counts for one in DETECTORS)
    assert detectors.of(DETECTORS[0].report) is DETECTORS[0] and detectors.of(RUN_SUMMARY) is None


def test_a_detector_is_found_by_its_report():
    other = replace(DETECTORS[0].report, name="something_else")
    assert detectors.of(other) is None


def test_one_script_and_one_row_make_a_detector(folder, tmp_path, monkeypatch):
    hashes = draw_library(tmp_path / "library", [["LOUD"], ["calm"]])
    save_dataset(folder, {hashes[0]: ["LOUD"], hashes[1]: ["calm"]})
    entry = missing(hashes[0], "loud", why="It stands there in capitals.") | {"issue": "shouted_tags"}
    project, tests = str(script.PROJECT), str(script.PROJECT / "tests")
    stage = tmp_path / "project"
    stage.mkdir()
    (stage / "find_shouted.py").write_text(FINDS_SHOUTED.format(project=project, tests=tests, entry=entry))
    monkeypatch.setattr(script, "PROJECT", stage)
    monkeypatch.setattr(detectors, "DETECTORS", (SHOUTED,))
    monkeypatch.setattr(run_error_detection, "SHARED", ())  # what our own need takes seconds to import

    assert run_error_detection.main(["--data-dir", str(folder.root)]) == 0
    ran = data_folder.load(folder.newest(RUN_SUMMARY), RUN_SUMMARY)["detectors"]
    assert [(row["name"], row["script"], row["findings"]) for row in ran] == [("shouted tags", "find_shouted.py", 1)]

    monkeypatch.setattr(detectors, "DETECTORS", (*DETECTORS, SHOUTED))
    page = page_on(folder, tmp_path / "library").test_client()
    overview = page.get("/error-review").get_data(as_text=True)
    assert "Shouting" in overview and "Tags that shout" in overview
    for asked in ("shouted_tags", "shouting", "tags"):
        listed = page.get(f"/error-review/findings?type={asked}").get_data(as_text=True)
        assert "It stands there in capitals." in listed and hashes[0][:8] in listed
    assert "It stands there" not in page.get("/error-review/findings?type=mistagged").get_data(as_text=True)
    assert page.get("/error-review/findings?type=whispered").status_code == 400
