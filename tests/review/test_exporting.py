"""Suggestions as other programs import them: by the page and by the command line, the same text."""

from __future__ import annotations

import json
import subprocess
import sys

import documented
import pytest
from review_data import draw_library, hashes, missing, page_on, pair, save_mistagged, save_pairs, wrong

import suggest
from tagcheck import children, data_folder
from tagcheck.data_folder import DATASET, DataFolder

ONE, OTHER, FAR = hashes(3)
PLACE = "/home/me/my pictures/one #1.png"


@pytest.fixture
def found(folder: DataFolder) -> DataFolder:
    about: dict[str, dict[str, str]] = {ONE: {"file_path": PLACE}, OTHER: {}, FAR: {"mime": "image/png"}}
    records = [{"hash": hash, "existing_all_tags": ["solo"], **more} for hash, more in about.items()]
    data_folder.save(folder, DATASET, {"summary": {}, "results": records})
    save_mistagged(
        folder,
        missing(ONE, "hat", confidence=0.7, why="<b>Its</b> neighbours"),
        wrong(ONE, "solo", confidence=0.95),
        missing(FAR, "1girl", "cape", confidence=0.9),
    )
    save_pairs(folder, pair(ONE, OTHER))
    return folder


def exported(folder: DataFolder, capsys, kind: str, *options: str) -> str:
    assert suggest.main(["--data-dir", str(folder.root), "--export", kind, *options]) == 0
    return capsys.readouterr().out


def test_fiftyone_gets_a_classification_with_confidence_for_each_suggestion_of_a_picture(found, capsys):
    made = json.loads(exported(found, capsys, "fiftyone"))
    assert made["classes"] is None and set(made["labels"]) == {PLACE, f"f{FAR[:2]}/{FAR}"}
    # As FiftyOne's importer documents a classification.
    for one in (one for some in made["labels"].values() for one in some):
        assert one.keys() == {"label", "confidence", "attributes"} and isinstance(one["label"], str)
        assert 0 <= one["confidence"] <= 1 and all(isinstance(said, str) for said in one["attributes"].values())
    solo, hat, copy = sorted(made["labels"][PLACE], key=lambda one: ("other" in one["attributes"], -one["confidence"]))
    assert (solo["label"], solo["confidence"], solo["attributes"]["action"]) == ("solo", 0.95, "remove")
    assert (hat["label"], hat["attributes"]["issue"]) == ("hat", "missing_tags")
    assert copy["attributes"]["action"] == "pair" and copy["attributes"]["other"] == OTHER
    assert len(json.loads(exported(found, capsys, "fiftyone", "--min-confidence", "0.92"))["labels"][PLACE]) == 2


def test_both_programs_take_it_as_the_page_says(found, capsys, tmp_path, monkeypatch):
    """Where they are installed: fiftyone with a database (FIFTYONE_DATABASE_URI), label-studio-sdk."""
    pytest.importorskip("fiftyone")
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    (form,), (program,) = (
        documented.blocks("docs/detectors.md", "xml"),
        documented.blocks("docs/detectors.md", "python")[:1],
    )
    (tmp_path / "labels.json").write_text(exported(found, capsys, "fiftyone"), encoding="utf-8")
    file = tmp_path / "Hydrus Network" / "db" / "client_files" / f"f{FAR[:2]}" / f"{FAR}.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    tasks, made = json.loads(exported(found, capsys, "labelstudio")), {}
    exec(program, made)
    assert {len(one.tagcheck.classifications) for one in made["dataset"]} == {2, 3}
    for task in tasks:
        asked = interface.LabelInterface(form)
        assert asked.validate_task({"data": task["data"]})
        assert [asked.validate_prediction(one, return_errors=True) for one in task["predictions"]] == [[]]


def test_label_studio_gets_a_task_a_picture_with_the_likely_choices_ticked(found, capsys):
    far, one = sorted(json.loads(exported(found, capsys, "labelstudio")), key=lambda task: task["data"]["hash"] == ONE)
    assert one["data"]["image"] == "/data/local-files/?d=home/me/my%20pictures/one%20%231.png"
    assert far["data"]["image"] == f"/data/local-files/?d=f{FAR[:2]}/{FAR}.png"
    assert [(row["value"], row["html"]) for row in one["data"]["add"]] == [
        ("hat", "hat (70 %): &lt;b>Its&lt;/b> neighbours")
    ]
    (said,) = one["predictions"]
    ticked = {row["from_name"]: row["value"]["choices"] for row in said["result"]}
    assert ticked == {"add": ["hat"], "remove": ["solo"]} and said["score"] == 0.95
    # A choice as its forms have it.
    for result in (result for task in (far, one) for result in task["predictions"][0]["result"]):
        assert result["type"] == "choices" and result["to_name"] == "image" and 0 <= result["score"] <= 1
        assert set(result["value"]["choices"]) <= {
            row["value"] for task in (far, one) for row in task["data"][result["from_name"]]
        }
    assert far["predictions"][0]["result"][0]["value"]["choices"] == ["1girl", "cape"] and far["data"]["remove"] == []


@pytest.mark.parametrize(
    "kind, ending",
    [("csv", "csv"), ("json", "json"), ("fiftyone", "fiftyone.json"), ("labelstudio", "labelstudio.json")],
)
def test_the_page_and_the_command_line_give_the_same_file(found, capsys, tmp_path, kind, ending):
    draw_library(tmp_path / "library", [["x"]])
    answer = page_on(found, tmp_path / "library").test_client().get(f"/error-review/export.{kind}?min=0.5")
    assert answer.headers["Content-Disposition"].endswith(f"Z.{ending}")
    assert answer.text.replace("\r", "") == exported(found, capsys, kind).replace("\r", "")


def test_the_labelling_form_that_the_page_documents_has_the_names_that_the_tasks_use(found, capsys):
    (form,) = documented.blocks("docs/detectors.md", "xml")
    task = json.loads(exported(found, capsys, "labelstudio"))[0]
    for name in ("add", "remove"):
        assert f'<Choices name="{name}" toName="image"' in form and f'value="${name}"' in form and name in task["data"]
    assert '<Image name="image" value="$image"/>' in form


@pytest.mark.parametrize("options", [("--export", "csv"), ("--export", "fiftyone"), ("--json", ONE)])
def test_what_programs_read_is_utf8_whatever_the_code_page(folder, options):
    data_folder.save(folder, DATASET, {"summary": {}, "results": [{"hash": ONE, "existing_all_tags": []}]})
    save_mistagged(folder, missing(ONE, "猫 \U0001f408", confidence=0.9))
    environment = children.environment(PYTHONUTF8="0", PYTHONIOENCODING="cp1252")
    command = [sys.executable, "suggest.py", "--data-dir", str(folder.root), *options]
    said = subprocess.run(command, cwd=children.PROJECT, env=environment, stdout=subprocess.PIPE, check=True).stdout
    assert "猫 \U0001f408" in said.decode("utf-8") or "猫 \U0001f408" in json.dumps(
        json.loads(said), ensure_ascii=False
    )
    assert b"\r\r" not in said and said.endswith(b"\r\n" if "csv" in options else b"\n")
