"""The near-duplicates script on small data folders: the report, and the errors a person meets."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import find_near_duplicates
from tagcheck import cluster, data_folder
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.detectors import NEAR_DUPLICATES
from tagcheck.embedding.store import ShardWriter
from tagcheck.errors import BadFile, MissingInput
from tagcheck.review import queries
from tagcheck.review.queries import Filter
from tagcheck.review.report_import import sync
from tagcheck.review.store import ACCEPTED, FLAGGED, IGNORED, SKIPPED, Ask, Key, Review


def name(word: str) -> str:
    """A picture's hash."""
    return hashlib.sha256(word.encode()).hexdigest()


def picture(word: str, *tags: str, **more: object) -> dict:
    """A record of the dataset."""
    return {"hash": name(word), "existing_all_tags": list(tags), **more}


def library(
    folder: DataFolder, records: list[dict], rows: dict[str, list[float]], model: str = "m", **header: object
) -> None:
    """Write a dataset and the embeddings of some of its pictures."""
    data_folder.save(folder, DATASET, {"model": {"id": "m"}, **header, "results": records})
    with ShardWriter(folder.embeddings, model, "p") as writer:
        for word, row in rows.items():
            writer.add([name(word)], np.array([row]))


def report_of(folder: DataFolder, *options: str) -> dict:
    """The report of a run that has to succeed."""
    assert find_near_duplicates.main(["--data-dir", str(folder.root), *options]) == 0
    return data_folder.load(folder.newest(NEAR_DUPLICATES), NEAR_DUPLICATES)


ELF = [1.0, 0.0, 0.0]
NEARLY_ELF = [1.0, 0.1, 0.0]
ORC = [0.0, 0.0, 1.0]


def test_a_pair_is_reported_with_what_its_tags_disagree_about(folder):
    library(
        folder,
        [
            picture("elf", "elf", "series:woods", "person:ann", "source:here"),
            picture("elf again", "elf", "hat", "filename:elf 2"),
            picture("orc", "orc"),
        ],
        {"elf": ELF, "elf again": NEARLY_ELF, "orc": ORC},
    )
    report = report_of(folder)
    assert report["summary"] == {
        "total_pairs_found": 1,
        "similarity_threshold": 0.95,
        "groups": 1,
        "images_compared": 3,
        "images_without_embedding": 0,
        "images_unusable": 0,
        "pixel_duplicates": 0,
        "pairs_already_judged": 0,
        "pictures_compared_anew": 3,
    }
    (pair,) = report["similar_pairs"]
    first, second = sorted([name("elf"), name("elf again")])
    assert (pair["hash1"], pair["hash2"]) == (first, second)
    assert pair["similarity"] == pytest.approx(1 / np.sqrt(1.01), abs=1e-3)
    assert pair["relation"] == "near_duplicate"
    elf, again = ("1", "2") if first == name("elf") else ("2", "1")
    assert pair["analysis"] == {
        "series_tags_diff": {f"only_in_{elf}": ["series:woods"], f"only_in_{again}": []},
        "person_tags_diff": {f"only_in_{elf}": ["person:ann"], f"only_in_{again}": []},
        "all_tags_diff": {f"only_in_{elf}": ["person:ann", "series:woods"], f"only_in_{again}": ["hat"]},
        "tags_common": ["elf"],
    }
    assert report["groups"] == [[first, second]]


def test_every_pair_is_reported_however_many_and_the_most_similar_first(folder):
    words = [f"copy {number}" for number in range(20)]
    library(
        folder,
        [picture(word) for word in words],
        {word: [1.0, number / 1000, 0.0] for number, word in enumerate(words)},
    )
    report = report_of(folder)
    assert report["summary"]["total_pairs_found"] == len(report["similar_pairs"]) == 190
    similar = [pair["similarity"] for pair in report["similar_pairs"]]
    assert similar == sorted(similar, reverse=True)
    assert report["groups"] == [sorted(map(name, words))]
    assert len({pair["id"] for pair in report["similar_pairs"]}) == 190


def test_a_group_of_many_copies_is_one_group_whose_pairs_are_counted(folder):
    """60 copies, of which one lacks a tag, and a pair beside them."""
    words = [f"copy {number}" for number in range(60)]
    tagged = [picture(word, "elf", *(["night"] if word != "copy 7" else [])) for word in words]
    library(folder, [*tagged, picture("orc"), picture("orc 2")], dict.fromkeys(words, ELF) | {"orc": ORC, "orc 2": ORC})
    report = report_of(folder)
    summary = report["summary"]
    assert (summary["total_pairs_found"], summary["pairs_listed"], summary["groups"]) == (60 * 59 // 2 + 1, 59 + 1, 2)
    assert sorted(map(len, report["groups"])) == [2, 60] and len(report["similar_pairs"]) == 60
    best = next(one["best_copy"] for one in report["group_details"] if len(one["hashes"]) == 60)
    listed = [{pair["hash1"], pair["hash2"]} for pair in report["similar_pairs"]]
    assert sum(best in pair for pair in listed) == 59 and len(set().union(*listed)) == 62
    assert {best, name("copy 7")} in listed  # whose tags are compared
    with Review(folder.review) as review:
        sync(review, folder)
        assert sorted(len(one.members) for one in queries.page(review, Filter())) == [2, 60]


def test_equal_pixels_are_named_as_such_and_unknown_pixels_are_not(folder):
    library(
        folder,
        [picture("a", pixel_hash="ff"), picture("b", pixel_hash="ff"), picture("c"), picture("d", pixel_hash=None)],
        dict.fromkeys("abcd", ELF),
    )
    report = report_of(folder, "--threshold", "1")
    same = [pair for pair in report["similar_pairs"] if pair["relation"] == "pixel_duplicate"]
    assert [{pair["hash1"], pair["hash2"]} for pair in same] == [{name("a"), name("b")}]
    assert report["summary"]["pixel_duplicates"] == 1 and report["summary"]["total_pairs_found"] == 6


def test_pictures_that_were_not_compared_are_counted(folder, capsys):
    library(
        folder,
        [picture("a"), picture("b"), picture("new"), picture("broken", status="unreadable", reason="truncated")],
        {"a": ELF, "b": ORC, "of no dataset": ELF},
    )
    summary = report_of(folder)["summary"]
    assert (summary["images_compared"], summary["images_without_embedding"], summary["images_unusable"]) == (2, 1, 1)
    assert "2 not compared" in capsys.readouterr().out


def test_a_library_of_one_picture_has_an_empty_report(folder):
    library(folder, [picture("a", "elf")], {"a": ELF})
    report = report_of(folder)
    assert report["similar_pairs"] == report["groups"] == [] and report["summary"]["images_compared"] == 1


def test_finding_nothing_is_a_report_too(folder, capsys):
    library(folder, [picture("a"), picture("b")], {"a": ELF, "b": ORC})
    report = report_of(folder)
    assert report["similar_pairs"] == report["groups"] == []
    assert capsys.readouterr().out.startswith(
        "0 pairs (0 of the same pixels) in 0 groups at or above 0.95 among 2 pictures"
    )


def packed(make, parts, *_):
    """As `cluster.over_parts`, without a cluster: what its workers would be given is packed and unpacked as Ray does it."""
    from ray import cloudpickle

    work = cloudpickle.loads(cloudpickle.dumps(make))()
    return (cloudpickle.loads(cloudpickle.dumps(work(part, 0))) for part in parts)


def test_the_engines_and_two_runs_agree(folder, monkeypatch):
    if not os.environ.get("CLUSTER"):
        monkeypatch.setattr(cluster, "over_parts", packed)
    rng = np.random.default_rng(0)
    words = [f"picture {number}" for number in range(60)]
    centres = rng.normal(size=(15, 6))
    library(
        folder,
        [picture(word) for word in words],
        {word: centres[place % 15] + rng.normal(size=6) / 9 for place, word in enumerate(words)},
    )
    first = report_of(folder)
    for engine in ("auto", "torch", "native", *(["ray"] if find_spec("ray") else [])):
        again = report_of(folder, "--engine", engine)
        assert again["similar_pairs"] == first["similar_pairs"] and again["groups"] == first["groups"]
    assert first["similar_pairs"]


def test_pictures_without_any_embedding_are_an_error_with_the_way_out(folder):
    library(folder, [picture("a"), picture("b")], {"elsewhere": ELF})
    with pytest.raises(MissingInput, match="0 of the 2 readable pictures.*run advanced_joytag_processing.py first"):
        find_near_duplicates.main(["--data-dir", str(folder.root)])
    assert folder.newest(NEAR_DUPLICATES) is None


def test_a_dataset_of_unreadable_pictures_is_an_error(folder):
    library(folder, [picture("a", status="missing", reason="deleted")], {"a": ELF})
    with pytest.raises(MissingInput, match="no readable picture"):
        find_near_duplicates.main(["--data-dir", str(folder.root)])


def test_embeddings_of_another_model_are_refused(folder):
    library(folder, [picture("a"), picture("b")], {"a": ELF, "b": ORC}, model="another")
    with pytest.raises(BadFile, match="is of model another, the dataset is of m"):
        find_near_duplicates.main(["--data-dir", str(folder.root)])


def test_an_embedding_that_is_not_finite_is_named(folder):
    library(folder, [picture("a"), picture("b")], {"a": ELF, "b": ORC})
    (shard,) = folder.embeddings.glob("*.pt")
    document = torch.load(shard, weights_only=True)
    document["embeddings"][1, 0] = torch.nan
    torch.save(document, shard)
    with pytest.raises(BadFile, match=f"the embedding of {name('b')}"):
        find_near_duplicates.main(["--data-dir", str(folder.root)])


def test_it_runs_as_a_user_runs_it(folder, script):
    library(folder, [picture("a"), picture("b")], {"a": ELF, "b": NEARLY_ELF})
    done = script("find_near_duplicates.py", "--data-dir", folder.root, "--threshold", "0.9")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"-> {folder.newest(NEAR_DUPLICATES)}") and done.stdout.count("\n") == 1
    assert "comparing all pairs" in done.stderr


@pytest.mark.parametrize("threshold", ["0", "1.5", "-1", "high"])
def test_a_threshold_that_cannot_be_meant_is_a_usage_error(threshold, capsys):
    with pytest.raises(SystemExit) as ended:
        find_near_duplicates.main(["--threshold", threshold])
    assert ended.value.code == 2 and "--threshold" in capsys.readouterr().err


def test_a_tag_that_one_copy_lacks_is_suggested_for_it_with_the_reason(folder):
    library(
        folder,
        [picture("elf", "elf", "hat"), picture("elf again", "elf"), picture("orc", "orc")],
        {"elf": ELF, "elf again": ELF, "orc": ORC},
    )
    (pair,) = report_of(folder)["similar_pairs"]
    (suggestion,) = pair["suggestions"]
    assert (suggestion["hash"], suggestion["tag"], suggestion["kind"]) == (name("elf again"), "hat", "missing")
    assert 0.5 <= suggestion["confidence"] <= 1 and suggestion["evidence"]["other_copy"] == name("elf")
    assert suggestion["why"].startswith("The other copy has 'hat' and this one does not")


def test_a_piece_of_a_sentence_is_not_suggested_for_the_copy_that_lacks_it(folder):
    prose = "an elf with a hat stands in the rain", "and warm skin tones"
    library(
        folder,
        [picture("elf", "elf", "hat", "title:a hat for the elf in the rain", *prose), picture("elf again", "elf")],
        {"elf": ELF, "elf again": ELF},
    )
    (pair,) = report_of(folder)["similar_pairs"]
    assert {one["tag"] for one in pair["suggestions"]} <= {"hat", "title:a hat for the elf in the rain"}
    assert "hat" in {one["tag"] for one in pair["suggestions"]}


def test_a_tag_that_the_owner_took_away_is_not_suggested_again(folder):
    library(
        folder,
        [picture("elf", "elf", "hat"), picture("elf again", "elf", deleted_tags=["hat"])],
        {"elf": ELF, "elf again": ELF},
    )
    (pair,) = report_of(folder)["similar_pairs"]
    assert pair["suggestions"] == [] and sum(map(len, pair["analysis"]["all_tags_diff"].values())) == 1


def test_a_copys_tag_that_a_no_covers_is_neither_suggested_nor_offered(folder):
    library(
        folder,
        [picture("elf", "elf", "one girl", "sword"), picture("elf again", "elf", deleted_tags=["1girl"])],
        {"elf": ELF, "elf again": ELF},
        tag_relations={"siblings": {"1girl": "one girl"}, "parents": {"sword": ["weapon"]}},
    )
    with Review(folder.review) as store:
        store.decide([Ask(Key(name("elf again"), "weapon", "add"), 0)], "ignored")
    (pair,) = report_of(folder)["similar_pairs"]
    side = "in_1" if pair["hash1"] == name("elf again") else "in_2"
    assert pair["suggestions"] == [] and pair["refused_tags"][side] == ["one girl", "sword"]


def test_a_removal_that_was_ignored_is_not_suggested_of_a_pair(folder):
    pictures = [picture("elf", "elf", "hat"), picture("elf again", "elf")]
    pictures += [picture(f"other {n}", "elf") for n in range(60)]
    rows = {"elf": ELF, "elf again": ELF} | {f"other {n}": ORC for n in range(60)}
    library(folder, pictures, rows)
    (pair,) = [one for one in report_of(folder, "--threshold", "0.999")["similar_pairs"] if name("elf") in one.values()]
    (first,) = pair["suggestions"]
    action = "add" if first["kind"] == "missing" else "remove"
    with Review(folder.review) as store:
        store.decide([Ask(Key(first["hash"], "hat", action), 0)], "ignored")
    (again,) = [
        one for one in report_of(folder, "--threshold", "0.999")["similar_pairs"] if name("elf") in one.values()
    ]
    assert again["suggestions"] == []


def test_each_group_names_its_best_copy_and_what_its_copies_disagree_about(folder):
    library(
        folder,
        [
            picture("small", "elf", width=10, height=10),
            picture("large", "elf", "hat", width=20, height=20),
            picture("orc", "orc"),
        ],
        {"small": ELF, "large": NEARLY_ELF, "orc": ORC},
    )
    report = report_of(folder)
    (group,) = report["group_details"]
    assert group["best_copy"] == name("large") and group["reasons"] == ["most pixels (20 x 20)"]
    assert group["hashes"] == report["groups"][0] and group["tags_on_some"] == {"hat": 1}


def test_pairs_that_were_judged_do_not_come_back_and_those_put_off_do(folder):
    words = ["a", "b", "c", "d"]
    library(folder, [picture(word) for word in words], dict.fromkeys(words, ELF))
    first = report_of(folder)["similar_pairs"]
    with Review(folder.review) as store:
        for pair, state in zip(first, (IGNORED, ACCEPTED, SKIPPED, FLAGGED)):
            key = Key(pair["hash1"], pair["relation"], "pair", pair["hash2"])
            store.decide([Ask(key, 0)], state)
    again = report_of(folder)
    assert [pair["id"] for pair in again["similar_pairs"]] == [pair["id"] for pair in first[2:]]
    assert again["summary"]["total_pairs_found"] == 4 and again["summary"]["pairs_already_judged"] == 2


def test_pictures_judged_as_no_copies_are_no_group_and_judged_as_copies_are_one(folder):
    words = ["a", "b"]
    library(folder, [picture(word) for word in words], dict.fromkeys(words, ELF))
    first, second = sorted(map(name, words))
    key = Key(first, "near_duplicate", "pair", second)
    for state, groups in ((IGNORED, []), (ACCEPTED, [[first, second]])):
        with Review(folder.review) as store:
            store.decide([Ask(key)], state)
        report = report_of(folder)
        assert report["groups"] == groups and report["similar_pairs"] == []
        assert report["summary"]["pairs_already_judged"] == 1


def many_known(folder: DataFolder) -> tuple[list[list[str]], list[list[str]]]:
    """Twelve copies at a cosine of 0.995 or so and twelve pairs that are only alike, at 0.96: apart by the cosine alone."""
    rows, copied, alike = {}, [], []
    for number in range(24):
        row = np.zeros(24)
        row[number] = 1
        near = row.copy()
        near[(number + 1) % 24] = 0.1 if number < 12 else 0.29
        rows |= {f"{number}": row, f"{number} again": near}
        (copied if number < 12 else alike).append([name(f"{number}"), name(f"{number} again")])
    library(folder, [picture(word) for word in rows], rows)
    return copied, alike


def test_the_threshold_is_calibrated_by_pairs_that_a_file_lists(folder, tmp_path, capsys):
    copied, _alike = many_known(folder)
    assert report_of(folder)["summary"]["total_pairs_found"] == 24
    known = tmp_path / "known.json"
    known.write_text(json.dumps({"near_duplicates": copied}))
    report = report_of(folder, "--calibrate", str(known))
    assert 0.96 < report["summary"]["similarity_threshold"] < 0.996 and report["settings"]["calibrated"]
    assert sorted([pair["hash1"], pair["hash2"]] for pair in report["similar_pairs"]) == sorted(
        sorted(pair) for pair in copied
    )
    assert report["calibration"][-1]["precision"] == 1 and report["calibration"][0]["recall"] == 1
    assert (
        "set from 12 known pairs: 100% of the pairs are copies, 100% of the copies are found" in capsys.readouterr().err
    )


def test_the_threshold_is_calibrated_by_what_the_owner_judged(folder):
    copied, alike = many_known(folder)
    with Review(folder.review) as store:
        for pairs, state in ((copied, ACCEPTED), (alike, IGNORED)):
            store.decide([Ask(Key(min(pair), "near_duplicate", "pair", max(pair))) for pair in pairs], state)
    report = report_of(folder, "--calibrate")
    assert 0.96 < report["summary"]["similarity_threshold"] < 0.996
    assert report["summary"]["pairs_already_judged"] == 12 and len(report["groups"]) == 12


def test_calibration_without_known_pairs_says_what_it_needs(folder, tmp_path):
    library(folder, [picture("a"), picture("b")], {"a": ELF, "b": ORC})
    with pytest.raises(MissingInput, match="0 pairs are known.*needs 20"):
        find_near_duplicates.main(["--data-dir", str(folder.root), "--calibrate"])
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[1]")
    with pytest.raises(BadFile, match="wrong.json: a list is not an object"):
        find_near_duplicates.main(["--data-dir", str(folder.root), "--calibrate", str(wrong)])


def test_a_threshold_that_ordinary_pictures_pass_is_warned_about(folder, capsys):
    library(
        folder,
        [picture(word) for word in "abcdef"],
        {word: [9.0, place / 9, 0.0] for place, word in enumerate("abcdef")},
    )
    report = report_of(folder)
    assert report["ordinary_cosines"]["at_or_above_threshold"] == 1 and report["ordinary_cosines"]["median"] > 0.99
    assert "careful: 100.0% of pictures drawn at random" in capsys.readouterr().err


def test_help_says_units_and_defaults(capsys):
    with pytest.raises(SystemExit) as ended:
        find_near_duplicates.main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "0.95 where nothing was" in " ".join(said.split())
    assert "95 % of the pairs are copies" in " ".join(said.split())


def test_pairs_that_were_judged_in_the_librarys_own_program_are_left_out(folder):
    words = ("elf", "same elf", "elf sketch", "other elf", "new elf")
    judged = [
        {"judgement": "duplicates", "hashes": [name("elf"), name("same elf")]},
        {"judgement": "alternates", "hashes": [name("elf"), name("same elf"), name("elf sketch")]},
        {
            "judgement": "false positives",
            "hashes": [name("elf"), name("same elf"), name("elf sketch")],
            "others": [name("other elf")],
        },
    ]
    library(
        folder,
        [picture(word) for word in words],
        {word: [1.0, place / 100, 0.0] for place, word in enumerate(words)},
        judged_pairs=judged,
    )
    report = report_of(folder)
    assert {frozenset((pair["hash1"], pair["hash2"])) for pair in report["similar_pairs"]} == {
        frozenset((name("new elf"), name(word))) for word in words[:4]
    }
    assert report["summary"]["pairs_already_judged"] == 6


def test_a_tag_that_would_bring_a_deleted_one_back_is_not_copied(folder):
    library(
        folder,
        [picture("elf", "elf", "sword", "hat"), picture("elf again", "elf", deleted_tags=["weapon"])],
        {"elf": ELF, "elf again": ELF},
        tag_relations={"siblings": {}, "parents": {"sword": ["weapon"]}},
    )
    (pair,) = report_of(folder)["similar_pairs"]
    assert [(one["tag"], one["kind"]) for one in pair["suggestions"] if one["kind"] == "missing"] == [
        ("hat", "missing")
    ]
