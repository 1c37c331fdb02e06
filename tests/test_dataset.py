"""The dataset JSON as the detectors read it: strict about what they rely on, silent about the rest."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tagcheck import dataset
from tagcheck.data_folder import DATASET, DataFolder, save
from tagcheck.errors import BadFile, MissingInput
from tagcheck.refusals import Noes

A, B = "a" * 64, "b" * 64


def put(folder: DataFolder, *rows: object, **header: object) -> Path:
    return save(folder, DATASET, {**header, "results": list(rows)})


def test_without_a_dataset_the_script_that_makes_one_is_named(folder):
    with pytest.raises(
        MissingInput,
        match=r"no advanced_joytag_complete_\*.json in .*datasets: run advanced_joytag_processing.py first",
    ):
        dataset.load(folder)


def test_only_hash_and_tags_are_required(folder):
    path = put(folder, {"hash": A, "existing_all_tags": []})
    found = dataset.load(folder)
    assert found.path == path and found.model is None
    assert found.records == [dataset.Record(A, raw={"hash": A})]
    assert found.records[0].status == "ok" and found.usable() == found.records


def test_tags_are_cleaned_and_the_rest_of_a_record_stays_within_reach(folder):
    put(
        folder,
        {
            "hash": A,
            "existing_all_tags": ["Long  Hair", "series:X", "", "long hair"],
            "deleted_tags": ["Solo "],
            "implied_tags": ["series:x"],
            "width": 7,
            "future": [1],
        },
        model={"id": "m"},
        mapping="x.json",
    )
    found = dataset.load(folder)
    (record,) = found.records
    assert (record.tags, record.deleted_tags, record.implied_tags) == (
        {"long hair", "series:x"},
        {"solo"},
        {"series:x"},
    )
    assert record.raw["width"] == 7 and record.raw["future"] == [1] and found.model == "m"
    assert found.header["mapping"] == "x.json"


def test_pictures_that_could_not_be_read_are_records_but_not_usable(folder):
    put(
        folder,
        {"hash": A, "existing_all_tags": ["x"], "status": "unreadable", "reason": "truncated"},
        {"hash": B, "existing_all_tags": [], "status": None},
    )
    found = dataset.load(folder)
    assert [record.status for record in found.records] == ["unreadable", "ok"]
    assert [record.hash for record in found.usable()] == [B]


def test_the_records_keep_the_files_order(folder):
    put(folder, {"hash": B, "existing_all_tags": []}, {"hash": A, "existing_all_tags": []})
    assert [record.hash for record in dataset.load(folder).records] == [B, A]


def test_a_given_file_is_read_instead_of_the_newest(folder):
    old = put(folder, {"hash": A, "existing_all_tags": []})
    put(folder, {"hash": B, "existing_all_tags": []})
    assert dataset.load(folder, str(old)).records[0].hash == A
    with pytest.raises(MissingInput, match="no file nowhere"):
        dataset.load(folder, "nowhere")


@pytest.mark.parametrize(
    "row, says",
    [
        ([], "record 2 of 'results' is not an object"),
        ({"existing_all_tags": []}, "record 2 of 'results' has no hash of 64 lower-case hex digits"),
        ({"hash": "A" * 64, "existing_all_tags": []}, "has no hash"),
        ({"hash": "a" * 63, "existing_all_tags": []}, "has no hash"),
        ({"hash": "a" * 64 + "\n", "existing_all_tags": []}, "has no hash"),
        ({"hash": 7, "existing_all_tags": []}, "has no hash"),
        ({"hash": A}, "record 2 of 'results': 'existing_all_tags' is not a list of tags"),
        ({"hash": A, "existing_all_tags": "1girl"}, "'existing_all_tags' is not a list of tags"),
        ({"hash": A, "existing_all_tags": ["1girl", None]}, "'existing_all_tags' is not a list of tags"),
        ({"hash": A, "existing_all_tags": [], "deleted_tags": {"x": 1}}, "'deleted_tags' is not a list of tags"),
        ({"hash": A, "existing_all_tags": [], "implied_tags": [3]}, "'implied_tags' is not a list of tags"),
        ({"hash": A, "existing_all_tags": [], "status": 3}, "'status' is not a word"),
        ({"hash": B, "existing_all_tags": []}, "record 2 of 'results' has the hash of an earlier one"),
    ],
)
def test_a_record_that_cannot_be_meant_is_left_out_and_named_by_file_and_number(folder, row, says):
    path = put(folder, {"hash": B, "existing_all_tags": []}, row)
    said = []
    assert [record.hash for record in dataset.load(folder, tell=said.append).records] == [B]
    assert len(said) == 1 and re.search(f"{path}: 1 record cannot be used and is left out: .*{says}", said[0])


@pytest.mark.parametrize(
    "key, value",
    [
        *(("time_imported", value) for value in (1e20, -1e20, "yesterday", True, [])),
        *(("pages", value) for value in (0.5, "Dataset", [0.5], [["a", 1]], {})),
        *(("existing_series_tags", value) for value in ("series:x", [None], 1)),
        *(("width", value) for value in ("10", -1, [10], True)),
        *(("mime", value) for value in (5, ["image/png"])),
        ("pixel_hash", 7),
    ],
)
def test_a_value_beside_the_tags_that_cannot_be_meant_is_left_out_and_named(folder, key, value):
    path = put(
        folder, {"hash": A, "existing_all_tags": ["x"], key: value, "size": 5}, {"hash": B, "existing_all_tags": []}
    )
    said = []
    first = dataset.load(folder, tell=said.append).records[0]
    assert first.hash == A and first.tags == {"x"} and key not in first.raw and first.raw["size"] == 5
    assert said == [f"warning: {path}: 1 value cannot be used and is left out: {key!r} of record 1 of 'results'"]


def test_a_dataset_of_which_nothing_can_be_used_is_refused(folder):
    put(folder, {"hash": "x"}, {"hash": B})
    with pytest.raises(BadFile, match="2 records cannot be used.*run advanced_joytag_processing.py again"):
        dataset.load(folder)


def test_a_dataset_without_records_key_is_named(folder):
    path = save(folder, DATASET, {})
    with pytest.raises(BadFile, match="has no 'results': run advanced_joytag_processing.py again"):
        dataset.load(folder)
    path.write_text(json.dumps({"kind": "dataset_mapping"}))
    with pytest.raises(BadFile, match="is not a dataset"):
        dataset.load(folder)


def test_ten_thousand_records_load_within_seconds(folder):
    names = [f"tag number {number}" for number in range(500)]
    put(
        folder,
        *(
            {
                "hash": f"{number:064x}",
                "existing_all_tags": [names[(number * 7 + step * 13) % 500] for step in range(30)],
            }
            for number in range(10_000)
        ),
    )
    start = time.process_time()
    assert len(dataset.load(folder).records) == 10_000
    assert time.process_time() - start < 4


def test_siblings_parents_and_judged_pairs_come_with_the_dataset(folder):
    assert dataset.load(folder, put(folder, {"hash": A, "existing_all_tags": []})).judged == {}
    c, d = "c" * 64, "d" * 64
    judged = [
        {"judgement": "duplicates", "hashes": [B, A]},
        {"judgement": "alternates", "hashes": [A, B, c]},
        {"judgement": "false positives", "hashes": [A], "others": [d]},
    ]
    put(
        folder,
        {"hash": A, "existing_all_tags": [], "deleted_tags": ["weapon"]},
        judged_pairs=judged,
        tag_relations={"siblings": {"Elf": "race:Elves"}, "parents": {"sword": ["Weapon"]}},
    )
    found = dataset.load(folder)
    assert found.siblings == {"elf": "race:elves"} and found.parents == {"sword": {"weapon"}}
    assert found.judged == {(A, B): "duplicates", (A, c): "alternates", (B, c): "alternates", (A, d): "false positives"}
    (record,) = found.records
    assert record.refused == {"weapon": "weapon"}
    noes = Noes(found.spellings)
    assert noes.adding(record, "weapon") and noes.adding(record, "sword") and not noes.adding(record, "hat")


def test_a_deleted_spelling_speaks_for_the_tag_that_is_seen_on_whichever_service(folder):
    put(
        folder,
        {"hash": A, "existing_all_tags": ["solo"], "deleted_tags": ["1girl", "lone"]},
        {"hash": B, "existing_all_tags": ["one girl"], "deleted_tags": ["1girl"]},
        tag_relations={
            "siblings": {"1girl": "a girl", "lone": "solo"},
            "other_siblings": {"1girl": ["one girl"]},
            "parents": {"schoolgirl": ["one girl"]},
        },
    )
    found = dataset.load(folder)
    one, other = found.records
    assert set(one.refused) == {"1girl", "a girl", "one girl"}  # "solo" is seen: a spelling was cleared away
    assert not other.refused
    noes = Noes(found.spellings)
    assert noes.adding(one, "schoolgirl") and not noes.adding(other, "schoolgirl")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"tag_relations": []}, "'tag_relations': a list is not an object"),
        ({"tag_relations": {"siblings": {"a": 1}}}, "'siblings'"),
        ({"tag_relations": {"parents": {"a": "b"}}}, "'parents'"),
        ({"tag_relations": {"other_siblings": {"a": [1]}}}, "'other_siblings'"),
        ({"judged_pairs": {}}, "'judged_pairs' is not a list"),
    ],
)
def test_damaged_relations_and_judgements_are_named(folder, header, says):
    put(folder, {"hash": A, "existing_all_tags": []}, **header)
    with pytest.raises(BadFile, match=says):
        dataset.load(folder)


@pytest.mark.parametrize("one", ["a", {"judgement": "duplicates"}, {"hashes": [A, B]}, {"judgement": 1, "hashes": []}])
def test_a_judgement_that_cannot_be_meant_is_left_out_and_named(folder, one):
    good = {"judgement": "duplicates", "hashes": [A, B]}
    put(folder, {"hash": A, "existing_all_tags": []}, judged_pairs=[one, good])
    said = []
    assert dataset.load(folder, tell=said.append).judged == {(A, B): "duplicates"} and "'judged_pairs'" in said[0]


def test_a_sample_is_spread_over_pages_and_says_of_how_many(folder):
    rows = [
        {"hash": f"{row:064x}", "existing_all_tags": [], "pages": [["all", "rare" if row == 77 else "large"]]}
        for row in range(100)
    ]
    put(folder, *rows, {"hash": A, "existing_all_tags": [], "status": "unreadable"}, summary={"mapped": 150})
    found = dataset.load(folder, most=10)
    assert len(found.usable()) == 10 and f"{77:064x}" in {one.hash for one in found.records}
    assert (found.share(10), found.sampled(10)) == (
        "10 of 150 pictures",
        {"pictures_seen": 10, "pictures_mapped": 150, "max_embeddings": 10},
    )
    assert found.records == dataset.load(folder, most=10).records
    assert len(dataset.load(folder, most=500).usable()) == 100


def test_one_that_is_held_is_read_again_where_its_file_is_another(folder, capsys, monkeypatch):
    monkeypatch.setattr(dataset, "_HELD", {})
    path = put(folder, {"hash": A, "existing_all_tags": []}, {"hash": "no hash"})
    dataset.hold(folder)
    assert capsys.readouterr().err == ""
    first = dataset.load(folder)
    assert first is dataset.load(folder, path) and first is not dataset.load(folder, path, 1)
    assert capsys.readouterr().err.count("record 2 of 'results' has no hash") == 3
    path.write_text(path.read_text().replace(A, B))
    assert [one.hash for one in dataset.load(folder).records] == [B]
