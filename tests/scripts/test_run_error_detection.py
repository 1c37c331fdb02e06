"""The chain of detectors: one that fails costs its own report only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import warm

import run_error_detection
from tagcheck import data_folder, forked, script
from tagcheck.data_folder import DATASET, RUN_SUMMARY
from tagcheck.detectors import MISTAGGED
from tagcheck.errors import MissingInput
from tagcheck.review import Ask, Key, Review

WRITES_A_REPORT = """
import sys
from pathlib import Path
sys.path.insert(0, {project!r})
from tagcheck import data_folder, detectors
folder = data_folder.DataFolder(Path(sys.argv[sys.argv.index("--data-dir") + 1]))
data_folder.save(folder, detectors.{kind}, {{"summary": {summary!r}, "options": sys.argv[5:]}})
print("done")
"""
FAILS = "import sys; print('looking', file=sys.stderr); sys.exit(print('error: no embeddings: run the other one first', file=sys.stderr) or 3)"
CRASHES = "raise RuntimeError('boom')"
WRITES_NOTHING = "print('all fine')"
HANGS = "import time, sys; print('started', flush=True); time.sleep(60)"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that stands for the project's root, to put detector scripts in."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.setattr(script, "PROJECT", root)
    monkeypatch.setattr(run_error_detection, "SHARED", ("tagcheck.single_picture",))  # not what takes seconds to import

    def write(name: str, text: str, kind: str = "", summary: dict | None = None) -> None:
        real = str(Path(__file__).resolve().parents[2])
        (root / name).write_text(text.format(project=real, kind=kind, summary=summary) if kind else text)

    return write


@pytest.fixture
def dataset(folder):
    return data_folder.save(folder, DATASET, {"results": []})


def all_three(project) -> None:
    project("find_mistagged_images.py", WRITES_A_REPORT, "MISTAGGED", {"errors_found": 4})
    project("find_near_duplicates.py", WRITES_A_REPORT, "NEAR_DUPLICATES", {"total_pairs_found": 2})
    project(
        "validate_series_predictions.py",
        WRITES_A_REPORT,
        "SERIES_VALIDATION",
        {"missing_predictions_count": 1, "incorrect_predictions_count": 3},
    )


def summary_rows(folder) -> dict[str, dict]:
    document = data_folder.load(folder.newest(RUN_SUMMARY), RUN_SUMMARY)
    return {row["script"]: row for row in document["detectors"]}


def test_all_detectors_run_and_the_summary_names_their_reports(project, folder, dataset, capsys):
    all_three(project)
    assert run_error_detection.main(["--data-dir", str(folder.root)]) == 0
    rows = summary_rows(folder)
    assert [row["findings"] for row in rows.values()] == [4, 2, 4]
    assert all((folder.root / "reports" / row["report"]).is_file() for row in rows.values())
    assert "3 of 3 detectors ran, 10 findings" in capsys.readouterr().out


def test_a_failed_detector_leaves_the_others_reports_and_gives_its_exit_code(project, folder, dataset, capsys):
    all_three(project)
    project("find_near_duplicates.py", FAILS)
    assert run_error_detection.main(["--data-dir", str(folder.root)]) == 3
    rows = summary_rows(folder)
    assert rows["find_near_duplicates.py"]["report"] is None
    assert rows["find_near_duplicates.py"]["findings"] is None
    assert rows["find_near_duplicates.py"]["message"] == "no embeddings: run the other one first"
    assert rows["find_mistagged_images.py"]["findings"] == 4
    assert "near-duplicates: FAILED (exit code 3): no embeddings" in capsys.readouterr().out


def test_a_crash_is_told_by_its_last_line(project, folder, dataset):
    all_three(project)
    project("find_mistagged_images.py", CRASHES)
    assert run_error_detection.main(["--data-dir", str(folder.root)]) == 1
    assert summary_rows(folder)["find_mistagged_images.py"]["message"] == "RuntimeError: boom"


def test_our_own_detectors_share_what_was_loaded_and_a_killed_one_is_told(project, folder, dataset):
    all_three(project)
    project("find_mistagged_images.py", "import sys; print('tagcheck.single_picture' in sys.modules); sys.exit(7)")
    project("find_near_duplicates.py", "import os; os.kill(os.getpid(), 9)")
    assert run_error_detection.main(["--data-dir", str(folder.root)]) == 7
    rows = summary_rows(folder)
    assert rows["find_mistagged_images.py"]["message"] == str(forked.CAN_FORK)
    assert rows["find_near_duplicates.py"]["exit_code"] == 128 + 9


def test_a_summary_behind_the_findings_is_counted(project, folder, dataset):
    all_three(project)
    project(
        "find_mistagged_images.py",
        """
import json, sys
from pathlib import Path
about = {"kind": "mistagged_images_report", "version": 1, "errors": [{"hash": "00"}], "summary": {"errors_found": 9}}
place = Path(sys.argv[2]) / "reports"
place.mkdir(exist_ok=True)
(place / "mistagged_images_report_20260101T000000Z.json").write_text(json.dumps(about))
""",
    )
    assert run_error_detection.main(["--data-dir", str(folder.root)]) == 0
    assert summary_rows(folder)["find_mistagged_images.py"]["findings"] == 9


def test_a_detector_that_says_it_is_done_but_wrote_nothing_has_failed(project, folder, dataset):
    all_three(project)
    project("validate_series_predictions.py", WRITES_NOTHING)
    assert run_error_detection.main(["--data-dir", str(folder.root)]) == 1
    assert summary_rows(folder)["validate_series_predictions.py"]["report"] is None


def test_options_reach_only_the_detectors_that_have_them(project, folder, dataset):
    all_three(project)
    run_error_detection.main(["--data-dir", str(folder.root), "--min-confidence", "0.7", "--threshold", "0.9"])
    given = {
        path.name.split("_report")[0]: json.loads(path.read_text())["options"]
        for path in (folder.root / "reports").glob("*_report_*")
    }
    assert given == {
        "mistagged_images": ["--min-confidence=0.7"],
        "near_duplicates": ["--threshold=0.9"],
        "series_validation": [],
    }


def test_without_a_dataset_nothing_runs(project, folder):
    with pytest.raises(MissingInput, match="run advanced_joytag_processing.py first"):
        run_error_detection.main(["--data-dir", str(folder.root)])
    assert folder.newest(RUN_SUMMARY) is None


def test_stopping_the_run_stops_the_detector_and_writes_no_summary(project, folder, dataset):
    for name in ("find_mistagged_images.py", "find_near_duplicates.py", "validate_series_predictions.py"):
        project(name, HANGS)
    code = (
        "import sys, pathlib, run_error_detection; from tagcheck import script; "
        f"script.PROJECT = pathlib.Path({str(script.PROJECT)!r}); script.run(lambda: run_error_detection.main(sys.argv[1:]))"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [warm.python(), "-c", code, "--data-dir", str(folder.root)],
        cwd=root,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    while "started" not in process.stderr.readline():
        assert process.poll() is None
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 130
    assert time.monotonic() - start < 15
    assert folder.newest(RUN_SUMMARY) is None


# --- only where something has changed ----------------------------------------------------------------------


@pytest.fixture
def chain(project, folder, capsys):
    """Run the chain with --since last on detectors that find one thing a tagged picture; what it said."""
    all_three(project)
    finds = """
for row in __import__("json").load(open(sys.argv[sys.argv.index("--dataset") + 1]))["results"]:
    errors.append({{"id": row["hash"][:4] + str(len(row["existing_all_tags"])), "hash": row["hash"]}})
"""
    head, save = WRITES_A_REPORT.split("data_folder.save(")
    body = f"{head}errors = []\n{finds}\ndata_folder.save({save}".replace('"options"', '"errors": errors, "options"')
    project("find_mistagged_images.py", body, "MISTAGGED", {"errors_found": 4})

    def run(tags: dict[str, list[str]] | None, *options: str) -> tuple[str, int]:
        if tags is not None:
            records = [{"hash": key * 64, "existing_all_tags": mine} for key, mine in tags.items()]
            data_folder.save(folder, DATASET, {"model": {"id": "m"}, "results": records})
        assert run_error_detection.main(["--data-dir", str(folder.root), "--since", "last", *options]) == 0
        said = capsys.readouterr()
        return said.err + said.out, len(folder.files(RUN_SUMMARY))

    return run


def test_a_timer_looks_only_where_something_has_changed_and_says_what(chain, folder):
    said, runs = chain({"a": ["hat"], "b": ["cape"], "c": []})
    assert "no run before this one" in said and runs == 1
    said, runs = chain({"c": [], "a": ["hat"], "b": ["cape"]})  # mapped again, the same
    assert "nothing has changed since" in said and "no detector was run" in said and runs == 1
    said, runs = chain({"a": ["hat", "scarf"], "b": ["cape"], "d": []})
    assert "1 picture is new, 1 has changed, 1 is gone" in said and runs == 2
    assert "mistagged images: 4 findings, 2 of them new," in said
    document = data_folder.load(folder.newest(RUN_SUMMARY), RUN_SUMMARY)
    assert {name: document["since"][name] for name in ("new", "other", "gone")} == {"new": 1, "other": 1, "gone": 1}
    assert document["detectors"][0]["new_findings"] == 2
    assert chain(None)[1] == 2


def decide(folder):
    with Review(folder.review) as review:
        review.decide([Ask(Key("a" * 64, "hat", "add"), 0)], "ignored")


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda folder: (folder.root / "tag_rules.json").write_text("{}"), "your rules or your map of tags changed"),
        (
            lambda folder: (folder.embeddings / "x").mkdir(parents=True) or (folder.embeddings / "x/1.pt").touch(),
            "the embeddings",
        ),
        (decide, "your decisions changed"),
        (
            lambda folder: folder.newest(DATASET).rename(
                folder.root / f"datasets/{DATASET.prefix}_20300101T000000Z.json"
            ),
            "is gone",
        ),
        (lambda folder: folder.newest(MISTAGGED).unlink(), "that run was not whole"),
        (lambda folder: folder.newest(RUN_SUMMARY).write_text("{"), "no run before this one"),
    ],
)
def test_whatever_the_findings_rest_on_counts_as_a_change(chain, folder, change, says):
    chain({"a": ["hat"]})
    change(folder)
    said, _ = chain(None)
    assert says in said and "3 of 3 detectors ran" in said
    assert "no detector was run" in chain(None)[0]


def test_other_settings_look_again_and_without_the_option_every_run_looks(chain, folder):
    chain({"a": ["hat"]})
    assert "the settings changed" in chain(None, "--min-confidence", "0.8")[0]
    assert run_error_detection.main(["--data-dir", str(folder.root), "--min-confidence", "0.8"]) == 0
    assert len(folder.files(RUN_SUMMARY)) == 3
