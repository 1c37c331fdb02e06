"""One belief for all reports: weighed once, read back while nothing that it rests on has changed."""

from __future__ import annotations

import numpy as np
import pytest

from tagcheck import data_folder, dataset
from tagcheck.belief import of_library
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.embedding import store
from tagcheck.findings import INCORRECT, MISSING
from tagcheck.tag_errors import suggestions

PICTURES = 60


def name(row: int) -> str:
    return f"{row:064x}"


@pytest.fixture
def folder(tmp_path) -> DataFolder:
    """Pictures of hats and pictures of swords; one of each kind is tagged as the other."""
    rng = np.random.default_rng(0)
    hat = np.arange(PICTURES) % 2 == 0
    matrix = (np.where(hat, 3.0, -3.0)[:, None] * np.eye(8)[0] + rng.normal(size=(PICTURES, 8))).astype(np.float32)
    tags = ["hat" if one else "sword" for one in hat]
    tags[0], tags[1] = "sword", "hat"
    made = DataFolder(tmp_path)
    with store.ShardWriter(made.embeddings, "m", "p") as writer:
        writer.add([name(row) for row in range(PICTURES)], matrix)
    keep(made, tags)
    return made


def keep(folder: DataFolder, tags: list[str]) -> None:
    records = [{"hash": name(row), "existing_all_tags": [tag]} for row, tag in enumerate(tags)]
    data_folder.save(folder, DATASET, {"model": {"id": "m"}, "results": records})


def test_what_is_believed_is_what_is_suggested_and_what_was_not_asked_is_none(folder):
    made = of_library.weigh(folder, dataset.load(folder, None), ())
    believes = of_library.believed(folder, dataset.load(folder, None), ())
    assert made.found
    for one in made.found:
        assert believes(name(one.row), one.tag, one.kind) == pytest.approx(one.confidence, abs=1e-6)
    assert believes(name(0), "unheard of", MISSING) is None
    assert believes("f" * 64, "hat", INCORRECT) is None
    assert believes(name(2), "hat", INCORRECT) < suggestions.FLOOR  # not listed


def test_it_is_weighed_once_for_all_reports_and_anew_when_a_tag_has_changed(folder, monkeypatch):
    first = of_library.believed(folder, dataset.load(folder, None), ())
    monkeypatch.setattr(of_library, "examine", lambda *_: pytest.fail("weighed again"))
    again = of_library.believed(folder, dataset.load(folder, None), ())
    assert again.hashes == first.hashes and again.names == first.names
    np.testing.assert_array_equal(again.cells, first.cells)
    np.testing.assert_array_equal(again.confidence, first.confidence)
    keep(folder, ["hat" if row % 2 == 0 else "sword" for row in range(PICTURES)])
    with pytest.raises(pytest.fail.Exception, match="weighed again"):
        of_library.believed(folder, dataset.load(folder, None), ())


def test_a_damaged_file_is_weighed_anew(folder):
    first = of_library.believed(folder, dataset.load(folder, None), ())
    path = folder.root / of_library.FILE
    path.write_bytes(path.read_bytes()[:-40])
    again = of_library.believed(folder, dataset.load(folder, None), ())
    np.testing.assert_array_equal(again.confidence, first.confidence)


def test_without_embeddings_nothing_is_believed(tmp_path):
    folder = DataFolder(tmp_path)
    keep(folder, ["hat"] * 3)
    believes = of_library.believed(folder, dataset.load(folder, None), ())
    assert believes(name(0), "hat", INCORRECT) is None
