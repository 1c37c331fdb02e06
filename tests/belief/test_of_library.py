"""One belief for all reports: weighed once, read back while nothing that it rests on has changed."""

from __future__ import annotations

from pathlib import Path

import documented
import numpy as np
import pytest

from tagcheck import data_folder, dataset, single_picture
from tagcheck.belief import of_library
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.embedding import store
from tagcheck.findings import INCORRECT, MISSING
from tagcheck.review import Ask, Key, Review, by_picture, report_import
from tagcheck.tag_errors import suggestions, telling

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


def test_pieces_of_sentences_are_asked_about_no_picture(folder):
    records = [{"hash": name(row), "existing_all_tags": ["hat", "and a cat"]} for row in range(PICTURES)]
    records[0]["existing_all_tags"] += ["a hat on the head of a cat", "title:a hat on the head of a cat"]
    data_folder.save(folder, DATASET, {"model": {"id": "m"}, "results": records})
    seen = of_library.load_pictures(folder, dataset.load(folder, None), ()).visible
    assert sorted(frozenset().union(*seen)) == ["hat", "title:a hat on the head of a cat"]


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


def second_set(folder: DataFolder, seen: int = PICTURES, of: np.ndarray | None = None) -> None:
    """Embeddings of another tagger, which sees a cape that the first cannot, with its last layer."""
    cape = np.arange(PICTURES) % 3 == 0 if of is None else of
    matrix = np.where(cape, 3.0, -3.0)[:, None] * np.eye(6)[0]
    matrix += np.random.default_rng(1).normal(size=matrix.shape)
    other = DataFolder(folder.root, "wd").embeddings
    with store.ShardWriter(other, "other", "p") as writer:
        writer.add([name(row) for row in range(seen)], matrix[:seen].astype(np.float32))
    store.save_tag_head(other, store.TagHead(["cape"], 2 * np.eye(6)[:1], np.zeros(1), "other"))


NAMES = ["hat", "sword", "boots", "belt", "scarf", "cape"]


def larger(root: Path) -> tuple[DataFolder, np.ndarray, np.ndarray, np.random.Generator]:
    """400 pictures with a tenth of their tags forgotten, of which the tagger sees all but the cape: (data folder, what truly belongs
    (n, 6), what is forgotten (n, 6), the generator).
    """
    n, rng = 400, np.random.default_rng(2)
    true = rng.random((n, 6)) < 0.3
    matrix = np.where(true[:, :5], 3.0, -3.0) + rng.normal(size=(n, 5))
    folder = DataFolder(root)
    with store.ShardWriter(folder.embeddings, "m", "p") as writer:
        writer.add([name(row) for row in range(n)], matrix.astype(np.float32))
    forgotten = true & (rng.random(true.shape) < 0.1)
    keep_sets(folder, [[tag for k, tag in enumerate(NAMES) if true[row, k] > forgotten[row, k]] for row in range(n)])
    return folder, true, forgotten, rng


def keep_sets(folder: DataFolder, tags: list[list[str]]) -> None:
    records = [{"hash": name(row), "existing_all_tags": mine} for row, mine in enumerate(tags)]
    data_folder.save(folder, DATASET, {"model": {"id": "m", "name": "first"}, "results": records})


def test_a_picture_that_came_after_the_detectors_is_answered_from_its_embedding(tmp_path):
    folder, true, _, _ = larger(tmp_path)
    of_library.weigh(folder, dataset.load(folder, None), ())
    n, seen = len(true), np.array([[3.0, -3.0, -3.0, -3.0, -3.0]] * 3)  # a hat and nothing else
    before = dataset.load(folder, None).records
    keep_sets(folder, [sorted(one.tags) for one in before] + [[], ["hat"], ["hat", "scarf"], ["hat"]])
    with store.ShardWriter(folder.embeddings, "m", "p") as writer:
        writer.add([name(n + row) for row in range(3)], seen.astype(np.float32))  # the fourth has no embedding yet
    with Review(folder.review) as review:
        report_import.sync(review, folder)

        def asked(row: int) -> tuple[str | None, list[str], list[str]]:
            (one,) = by_picture.suggested(review, [name(row)], folder)
            return one["by"], *([line["tag"] for line in one[key]] for key in ("add", "remove"))

        assert asked(n) == ("embedding", ["hat"], []) and asked(n + 1) == ("embedding", [], [])
        assert asked(n + 2)[0] == "embedding" and asked(n + 3) == (None, [], []) and asked(2)[0] == "detectors"
        ((line,),) = (one["add"] for one in by_picture.suggested(review, [name(n)], folder))
        assert line["probability"] > 0.5 and line["why"].endswith("the detectors have not examined it yet.")
        review.decide([Ask(Key(name(n), "hat", "add"), 0)], "ignored")
        assert asked(n) == ("embedding", [], [])
        (folder.root / data_folder.SINGLE_PICTURE).write_bytes(b"PK")
        assert asked(n)[0] == "detectors"  # as where a run kept nothing


def test_a_second_tagger_is_weighed_beside_the_first_and_says_what_it_saw(tmp_path):
    folder, true, forgotten, rng = larger(tmp_path)
    n = len(true)
    rows = np.flatnonzero(forgotten[:, 5]).tolist()

    def capes() -> list[suggestions.Suggestion]:
        made = of_library.weigh(folder, dataset.load(folder, None), ())
        mine = [one.tag == "cape" and one.kind == MISSING and one.confidence > 0.5 for one in made.found]
        return telling.with_evidence(made.seen, made.found.where(np.array(mine)))

    assert not capes()
    with store.ShardWriter(DataFolder(tmp_path, "wd").embeddings, "other", "p") as writer:
        seen = np.where(true[:, 5:], 3.0, -3.0) + rng.normal(size=(n, 6)) * np.r_[1, np.full(5, 3)]
        writer.add([name(row) for row in range(n)], seen.astype(np.float32))
    store.save_tag_head(
        DataFolder(tmp_path, "wd").embeddings, store.TagHead(["cape"], 2 * np.eye(6)[:1], np.zeros(1), "other")
    )
    found = capes()
    assert len({one.row for one in found} & set(rows)) >= 0.75 * len(rows) >= 6 and len(found) <= len(rows) + 2
    said = found[0].evidence["taggers"]
    (documented_one,) = (one for one in documented.samples("docs/taggers.md") if "taggers" in one)
    shapes = sorted(sorted(one) for one in documented_one["taggers"].values())
    assert shapes == sorted(sorted(one) for one in said.values())
    assert said["wd"]["own"] > 0.9 and said["wd"]["learned"] > 0.8 > said["first"]["learned"]
    assert "own" not in said["first"]
    assert "wd gives it" in found[0].why and found[0].evidence["weighed"]["wd/tagger"] > 2


def test_a_second_tagger_says_nothing_of_pictures_that_it_has_not_seen(folder):
    second_set(folder, seen=45)
    made = of_library.weigh(folder, dataset.load(folder, None), ())
    assert "wd was asked about 45 of the 60 pictures" in made.pictures.notes
    names, rows = made.seen.cells.names, made.seen.cells.row
    own = made.seen.cells.features[:, [names.index(one) for one in names if one.startswith("wd/")]]
    assert (own[rows >= 45] == 0).all() and (own[rows < 45] != 0).any()


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:99]), "cannot be read"),
        (
            lambda path: store.save_tag_head(path.parent, store.TagHead(["x"], np.ones((1, 6)), np.ones(1), "z")),
            "is of model z",
        ),
        (lambda path: path.unlink(), "no embeddings"),
    ],
)
def test_a_second_tagger_whose_files_are_damaged_is_left_out_alone(folder, spoil, why):
    second_set(folder)
    spoil(next((folder.embeddings / "wd").glob("embeddings_*.pt")))
    made = of_library.weigh(folder, dataset.load(folder, None), ())
    assert made.found and any(
        note.startswith("wd was not used") and why in note.lower() + note for note in made.pictures.notes
    )


def test_the_first_tagger_again_or_one_that_has_seen_too_few_is_left_out(folder):
    with store.ShardWriter(DataFolder(folder.root, "again").embeddings, "m", "p") as writer:
        writer.add([name(row) for row in range(PICTURES)], np.ones((PICTURES, 8), np.float32))
    second_set(folder, seen=5)
    notes = of_library.weigh(folder, dataset.load(folder, None), ()).pictures.notes
    assert "again was not used: it is the first tagger again" in notes
    assert "wd was not used: it has seen 5 pictures" in notes


def test_without_embeddings_nothing_is_believed(tmp_path):
    folder = DataFolder(tmp_path)
    keep(folder, ["hat"] * 3)
    believes = of_library.believed(folder, dataset.load(folder, None), ())
    assert believes(name(0), "hat", INCORRECT) is None
