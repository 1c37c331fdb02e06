"""A detector is a script and a name in config.py: the chain runs it, its findings are on the page, and two are shipped so."""

from __future__ import annotations

import importlib
import json
import re
from configparser import ConfigParser

import documented
import numpy as np
import pytest
from review_data import missing, save_dataset, save_mistagged, wrong

import config
import find_bad_sources
import find_unusual_images
import run_error_detection
from tagcheck import data_folder, detectors, script
from tagcheck.data_folder import DATASET, RUN_SUMMARY, DataFolder
from tagcheck.embedding import ShardWriter
from tagcheck.errors import MissingInput, UsageError
from tagcheck.review import Review
from webapp.app import create_app
from webapp.state import Settings


@pytest.fixture
def table(monkeypatch):
    """The table of detectors as it was, afterwards."""
    monkeypatch.setattr(detectors, "DETECTORS", list(detectors.DETECTORS))
    return detectors.DETECTORS


def library(folder: DataFolder, count: int = 60) -> tuple[list[str], set[int]]:
    """Two series of `count` pictures, six of them with the other's tag; hashes, and the rows that are wrong."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2, 16)) * 3
    own = np.repeat([0, 1], count)
    rows = centres[own] + rng.standard_normal((2 * count, 16))
    said = own.copy()
    swapped = set(range(0, 2 * count, 20))
    for row in swapped:
        said[row] = 1 - own[row]
    names = [f"{row:064x}" for row in range(2 * count)]
    with ShardWriter(folder.embeddings, "m", "p") as writer:
        writer.add(names, rows.astype(np.float32))
    results = [{"hash": name, "existing_all_tags": [f"series:{'ab'[tag]}", "solo"]} for name, tag in zip(names, said)]
    data_folder.save(folder, DATASET, {"model": {"id": "m"}, "results": results})
    return names, swapped


@pytest.mark.parametrize("most", [5000, 45])
def test_pictures_unlike_their_series_are_found_with_a_chance(folder, monkeypatch, most):
    monkeypatch.setattr(find_unusual_images, "MOST", most)
    monkeypatch.setattr(find_unusual_images, "BLOCK", 16)
    names, swapped = library(folder)
    find_unusual_images.main(["--data-dir", str(folder.root)])
    kind = detectors.own_report("find_unusual_images.py")
    report = data_folder.load(folder.newest(kind), kind)
    found = {names.index(error["hash"]) for error in report["errors"]}
    assert swapped <= found and len(found - swapped) <= 1
    assert report["summary"] == {"total_images_analyzed": 120, "errors_found": len(found)}
    assert all("unlike the other" in error["tags"][0]["why"] for error in report["errors"])


def test_a_dataset_of_whose_pictures_none_is_embedded_is_not_one_without_faults(folder):
    library(folder)
    data_folder.save(folder, DATASET, {"results": [{"hash": "f" * 64, "existing_all_tags": ["series:a"]}]})
    with pytest.raises(MissingInput, match="No embeddings found"):
        find_unusual_images.main(["--data-dir", str(folder.root)])


def test_tags_that_came_together_and_look_wrong_are_one_batch(folder, capsys, monkeypatch, table):
    names = [f"{row:064x}" for row in range(200)]
    results = [
        {
            "hash": name,
            "existing_all_tags": ["a", "b", "c"]
            + (["source:https://bad.example/1"] if row < 40 else ["url:worse.example"] if row < 60 else []),
            "pages": [["Dataset", "good"]],
            "time_imported": 1_700_000_000 + 7200 * (row % 50),
        }
        for row, name in enumerate(names)
    ]
    data_folder.save(folder, DATASET, {"results": results})
    save_mistagged(
        folder, *(wrong(names[row], "b", confidence=0.9) for row in [*range(0, 40, 2), *range(40, 60), 77, 150])
    )
    find_bad_sources.main(["--data-dir", str(folder.root)])
    kind = detectors.own_report("find_bad_sources.py")
    report = data_folder.load(folder.newest(kind), kind)
    assert [one["source"] for one in report["sources"]] == ["site worse.example", "site bad.example"]
    assert {error["hash"] for error in report["errors"]} == {names[row] for row in (*range(0, 40, 2), *range(40, 60))}
    assert "160 tags came from site bad.example" in report["errors"][0]["tags"][0]["why"]
    assert "site bad.example: 160 tags" in capsys.readouterr().out

    # On the page each source is a view, and several are one; one press of a button decides all of it.
    monkeypatch.setattr(config, "OWN_DETECTORS", ["find_bad_sources.py"])
    page = create_app(Settings(folder, lambda: None)).test_client()
    view = "view=grid&type=bad_sources&batch=site+bad.example"
    both = page.get(f"/error-review/findings?{view}&batch=site+worse.example").get_data(as_text=True)
    assert "Accept all 40" in both and both.count(" selected>site ") == 2
    grid = page.get(f"/error-review/findings?{view}").get_data(as_text=True)
    token = re.search(r'name="csrf" value="(\w+)"', grid)[1]
    assert "Accept all 20" in grid and "from site bad.example" in grid
    form = {"csrf": token, "scope": "all", "expect": "20", "do": "accepted"}
    assert page.post(f"/error-review/decide-many?{view}", data=form).status_code == 303
    with Review(folder.review) as review:
        assert {key.hash for key in review.accepted()} == {names[row] for row in range(0, 40, 2)}


def test_a_script_named_in_the_settings_joins_the_chain_the_summary_and_the_page(folder, tmp_path, monkeypatch, table):
    own = tmp_path / "find_red_hats.py"
    real = str(script.PROJECT)
    own.write_text(
        f"""import sys
sys.path.insert(0, {real!r})
from tagcheck import data_folder, detectors, findings
from tagcheck.findings import TagFinding
folder = data_folder.DataFolder(__import__("pathlib").Path(sys.argv[sys.argv.index("--data-dir") + 1]))
error = findings.error("{1:064x}", "red_hats", [TagFinding("red hat", "missing", 0.9, {{}}, "It is red.")])
data_folder.save(folder, detectors.own_report(__file__), {{"summary": {{"errors_found": 1}}, "errors": [error]}})
"""
    )
    monkeypatch.setattr(config, "OWN_DETECTORS", [str(own)])
    monkeypatch.setattr(detectors, "DETECTORS", [])  # the shipped ones would take their time
    save_dataset(folder, {f"{1:064x}": ["solo"]})
    assert run_error_detection.main(["--data-dir", str(folder.root)]) == 0
    rows = data_folder.load(folder.newest(RUN_SUMMARY), RUN_SUMMARY)["detectors"]
    assert [(row["name"], row["findings"], row["exit_code"]) for row in rows] == [("red hats", 1, 0)]
    page = create_app(Settings(folder, lambda: None)).test_client()
    assert "red hat" in page.get("/error-review/findings").get_data(as_text=True)


def test_the_report_that_the_page_of_documentation_shows_is_read(folder, tmp_path, table):
    own = tmp_path / "find_red_hats.py"
    own.write_text("")
    detectors.register([str(own)], script.PROJECT)
    sample = documented.samples("docs/detectors.md")[1]
    save_dataset(folder, {f"{1:064x}": ["solo"]})
    (folder.root / "reports").mkdir(exist_ok=True)
    (folder.root / "reports" / "red_hats_report_20261123T170500Z.json").write_text(json.dumps(sample))
    page = create_app(Settings(folder, lambda: None)).test_client()
    assert "red hat" in page.get("/error-review/findings").get_data(as_text=True)


@pytest.mark.parametrize("name", ["find_unusual_images.py", "find_bad_sources.py", "find_technical_faults.py"])
def test_a_shipped_detector_is_a_short_script(name):
    assert len((script.PROJECT / name).read_text(encoding="utf-8").splitlines()) < 150


def test_the_timers_that_the_page_of_documentation_shows_call_the_stages_as_they_are():
    page = "docs/detectors.md"
    service, timer = (ConfigParser(strict=False, interpolation=None) for _ in range(2))
    for made, text in zip((service, timer), documented.blocks(page, "ini"), strict=True):
        made.read_string(text)
    assert timer["Timer"]["OnCalendar"] and timer["Install"]["WantedBy"] == "timers.target"
    unit, batch, task = documented.blocks(page, "ini")[0], *documented.blocks(page, "bat")
    for text in (unit, batch):
        called = re.findall(r"python (\w+)\.py( --[^&\n]*)?", text)
        for name, options in called:
            importlib.import_module(name).parse_args(options.split())
        assert [name for name, _ in called] == [
            "dataset_hardcore_mapper",
            "advanced_joytag_processing",
            "run_error_detection",
        ]
    assert service["Service"]["Type"] == "oneshot" and "schtasks /Create" in task


def test_a_name_that_is_no_detector_is_said_at_once(tmp_path, table):
    with pytest.raises(UsageError, match=r"OWN_DETECTORS names .*find_nothing.py: there is no such file"):
        detectors.register([str(tmp_path / "find_nothing.py")], script.PROJECT)
    odd = tmp_path / "odd name.py"
    odd.write_text("")
    with pytest.raises(UsageError, match=r"letters, digits and _"):
        detectors.register([str(odd)], script.PROJECT)
    (tmp_path / "find_series.py").write_text("")
    with pytest.raises(UsageError, match=r"find_series.py: validate_series_predictions.py has this name already"):
        detectors.register([str(tmp_path / "find_series.py")], script.PROJECT)
    detectors.register(["find_bad_sources.py"], script.PROJECT)
    detectors.register(["find_bad_sources.py", "find_near_duplicates.py"], script.PROJECT)  # once is enough
    assert len(table) == 4
    assert [one.key for one in table].count("bad_sources") == 1
    assert detectors.issue_words()["bad_sources"] == "Bad sources"
