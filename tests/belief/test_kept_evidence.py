"""A large library is weighed in full once; then what has changed is, and the report says how much and why."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from tagcheck import data_folder, dataset
from tagcheck.belief import kept_evidence, of_library
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.embedding import store

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


def tagged(folder: DataFolder, n: int, odd: int = -1) -> None:
    kinds = np.random.default_rng(0).integers(2, size=MANY + 2)
    tags = [["hat" if kind else "sword", *(["odd"] if row == odd else [])] for row, kind in enumerate(kinds)]
    records = [{"hash": f"{row:064x}", "existing_all_tags": tags[row]} for row in range(n)]
    data_folder.save(folder, DATASET, {"model": {"id": "m"}, "results": records})


def weighed(folder: DataFolder, anew: bool = False) -> of_library.Weighed:
    return of_library.weigh(folder, dataset.load(folder, None), (), anew=anew)


def test_only_what_has_changed_is_weighed_again(large):
    first = weighed(large).work
    assert (first.anew, first.why) == (MANY, "no run is kept")
    tagged(large, MANY + 2)
    again = weighed(large)
    assert 2 <= again.work.anew <= 4 and again.work.since  # and who looks like a copy
    assert f"{again.work.anew} of {MANY + 2} pictures were weighed anew" in " ".join(again.pictures.notes)
    assert weighed(large, anew=True).work.why == "it was asked for"
    (large.root / "tag_rules.json").write_text('{"never": ["sword"]}')
    assert "your own rules" in weighed(large).work.why


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
