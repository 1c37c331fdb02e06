"""A large library is weighed in full once; then what has changed is, and the report says how much and why."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

import find_mistagged_images
from tagcheck import data_folder, dataset
from tagcheck.belief import kept_evidence, of_library
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.detectors import MISTAGGED
from tagcheck.embedding import store
from tagcheck.review import Ask, Key, Review, report_import
from tagcheck.tag_errors import error_model, renewal
from tagcheck.tag_errors.evidence import FurtherTagger

MANY = 200


@pytest.fixture
def large(tmp_path, monkeypatch) -> DataFolder:
    monkeypatch.setattr(kept_evidence, "FEWEST", MANY)
    rng = np.random.default_rng(0)
    kinds = rng.integers(2, size=MANY + 2)
    made = DataFolder(tmp_path)
    with store.ShardWriter(made.embeddings, "m", "p") as writer:
        rows = 3.0 * kinds[:, None] * np.eye(8)[0] + rng.normal(size=(MANY + 2, 8))
        writer.add([f"{row:064x}" for row in range(MANY + 2)], rows.astype(np.float32))
    tagged(made, MANY)
    return made


def tagged(
    folder: DataFolder, n: int, bare: Collection[int] = (), deleted: Collection[int] = (), further: str = ""
) -> None:
    """All pictures but `bare` ones have a tag; those that are `deleted` have lost it by their owner's hand. Five have a `further` one."""
    kinds = np.random.default_rng(0).integers(2, size=MANY + 2)
    tags = ["hat" if kind else "sword" for kind in kinds]
    records: list[dict[str, Any]] = [{"hash": f"{row:064x}", "existing_all_tags": [tags[row]]} for row in range(n)]
    for row in bare:
        records[row]["existing_all_tags"] = []
    for row in range(5 if further else 0):
        records[row]["existing_all_tags"].append(further)
    for row in deleted:
        records[row] |= {"existing_all_tags": [], "deleted_tags": [tags[row]]}
    data_folder.save(folder, DATASET, {"model": {"id": "m"}, "results": records})


def weighed(folder: DataFolder, invisible: Collection[str] = (), **more: Any) -> of_library.Weighed:
    return of_library.weigh(folder, dataset.load(folder, None), invisible, **more)


def test_only_what_has_changed_is_weighed_again(large, monkeypatch):
    first = weighed(large).work
    assert (first.anew, first.why) == (MANY, "no run is kept")
    tagged(large, MANY + 2)
    collect, held = error_model.collect, list[int]()
    monkeypatch.setattr(error_model, "collect", lambda *about, **more: held.append(about[2]) or collect(*about, **more))
    again = weighed(large, memory=2**29)
    assert held == [2**29], "no more than was given"
    assert 2 <= again.work.anew <= 4 and again.work.since  # and who looks like a copy
    assert f"{again.work.anew} of {MANY + 2} pictures were weighed anew" in " ".join(again.pictures.notes)
    assert again.work.new_tags == 0 and "new since then" not in " ".join(again.pictures.notes)
    tagged(large, MANY + 2, further="hilt")
    with_new = weighed(large)
    assert (
        with_new.work.new_tags == 1
        and "1 tag that is new since then will be judged by a run with --anew" in " ".join(with_new.pictures.notes)
    )
    assert "hilt" in weighed(large, anew=True).seen.tags
    tagged(large, MANY + 2)
    assert weighed(large, anew=True).work.why == "it was asked for"
    assert weighed(large).work.since and "settings" in weighed(large, invisible=["hat"]).work.why
    (large.root / "tag_rules.json").write_text('{"never": ["sword"]}')
    assert "your own rules" in weighed(large).work.why


def listed(folder: DataFolder) -> tuple[dict[tuple[int, str], dict[str, Any]], dict[str, Any]]:
    """The missing tags of a report, each with its row, and the summary."""
    assert find_mistagged_images.main(["--data-dir", str(folder.root), "--min-confidence", "0.02"]) == 0
    report = data_folder.load(folder.require(MISTAGGED), MISTAGGED)
    rows = [(int(entry["hash"], 16), one) for entry in report["errors"] for one in entry["tags"]]
    return {(row, one["tag"]): one for row, one in rows if one["kind"] == "missing"}, report["summary"]


def test_what_was_decided_since_a_run_in_full_shows(large):
    bare = range(40)
    tagged(large, MANY, bare)
    first, summary = listed(large)
    assert summary["weighed"]["why"] == "no run is kept"
    sure = sorted((cell for cell, one in first.items() if one["confidence"] > 0.5), key=lambda cell: cell[0])
    gone, *ignored, left = sure
    assert len(ignored) > 20 and left[0] >= 30
    tagged(large, MANY, bare, deleted=[gone[0]])
    with Review(large.review) as review:
        report_import.sync(review, large)
        said = [(Key(f"{row:064x}", tag, "add"), first[row, tag]["confidence"]) for row, tag in ignored]
        review.decide([Ask(key, 0, "missing_tags", sure) for key, sure in said], "ignored")
    again, summary = listed(large)
    assert summary["weighed"]["since"] and summary["weighed"]["anew"] < MANY / 20
    assert not {gone, *ignored} & again.keys()
    assert summary["left_out"]["deleted_before"] == 1 and summary["left_out"]["ignored_before"] == len(ignored)
    assert left not in again, "its tag was refused wherever it was suggested"


def test_a_tagger_that_was_not_heard_then_costs_a_run_in_full(tmp_path):
    kept = kept_evidence.Kept(
        "", "", np.empty(0, "V32"), np.empty(0, np.uint64), np.empty((0, 0), bool), [], tmp_path, 0
    )
    with pytest.raises(renewal.TooMuch, match="taggers"):
        kept.then(
            np.empty(0, "V32"), np.empty(0, np.uint64), [FurtherTagger("wd", np.empty((0, 2)), np.empty(0, bool))]
        )


def test_a_file_that_cannot_be_read_costs_a_run_in_full(large):
    seen = weighed(large).seen
    assert seen is not None
    path = large.root / kept_evidence.FILE
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    foreign = (
        data + kept_evidence.SUM(data).digest() for data in (pickle.dumps(print), pickle.dumps(data_folder.save))
    )
    for data in (b"", whole[:30], whole[:-9], *foreign, flipped):
        path.write_bytes(data)
        assert kept_evidence.load(large.root, "") == "kept_evidence.bin cannot be read"
    assert weighed(large).work.why == "kept_evidence.bin cannot be read"
