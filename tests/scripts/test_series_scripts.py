"""Training and validating series on a data folder, as a user does it, and what happens when something is amiss."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy.special import logit
from series_library import MODEL, Drawn, draw, picture_hash, predicted, write

import config
import train_series_classifier_images as train
import validate_series_predictions as validate
from tagcheck import data_folder, dataset, files
from tagcheck.belief import believed
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.detectors import SERIES_VALIDATION
from tagcheck.embedding import store as embedding_store
from tagcheck.embedding.store import Embeddings
from tagcheck.errors import BadFile, MissingInput, UsageError
from tagcheck.review import store as review_store
from tagcheck.series import classifier_files, renewal
from tagcheck.series.classifier_files import Classifier


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    made = draw(series=8, pictures=600, seed=11)
    made.tagged[-1], made.groups[-1] = 77, len(made.groups) - 1  # the only picture of a series
    return made


@pytest.fixture(scope="module")
def trained(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a trained classifier, to be copied and not changed."""
    root = tmp_path_factory.mktemp("trained")
    write(DataFolder(root), drawn)
    assert train.main(["--data-dir", str(root)]) == 0
    return root


@pytest.fixture
def own_copy(trained: Path, tmp_path: Path) -> DataFolder:
    return DataFolder(Path(shutil.copytree(trained, tmp_path / "copy")))


def report(folder: DataFolder) -> dict:
    return data_folder.load(folder.newest(SERIES_VALIDATION), SERIES_VALIDATION)


def change_tags(folder: DataFolder, change) -> None:
    """Write a newer dataset in which `change(row)` has changed the records."""
    document = data_folder.load(folder.newest(DATASET), DATASET)
    for row in document["results"]:
        change(row)
    data_folder.save(folder, DATASET, document)


def validated(folder: DataFolder) -> dict:
    assert validate.main(["--data-dir", str(folder.root)]) == 0
    return report(folder)


def matched(folder: DataFolder) -> list[validate.Judged]:
    """What the report tells of each picture."""
    data = dataset.load(folder)
    believes = believed(folder, data, config.INVISIBLE_NAMESPACES)
    return validate.match(data, *validate.predictions(folder, data, "series"), "series", believes)[0]


@pytest.fixture(scope="module")
def judged(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """A copy with its report, not to be changed either."""
    folder = DataFolder(Path(shutil.copytree(trained, tmp_path_factory.mktemp("judged") / "copy")))
    validated(folder)
    return folder


def test_every_picture_is_predicted_out_of_fold(trained: Path, drawn: Drawn):
    card, rows = predicted(DataFolder(trained))
    assert [row["hash"] for row in rows] == sorted(drawn.hashes)
    fold_of = {row["hash"]: row["fold"] for row in rows}
    for copy, source in enumerate(drawn.groups):
        assert fold_of[picture_hash(copy)] == fold_of[picture_hash(int(source))], "near-duplicates share a fold"
    assert card["scores"]["micro_f1"] > 0.85


def test_the_card_says_what_was_learned_from_what(trained: Path, drawn: Drawn):
    card = json.loads((trained / "series_classifier" / "series_classifier.json").read_text())
    assert card["embedding"] == {"model": MODEL, "preprocess": "test", "dimensions": 32}
    by_name = {row["series"]: row for row in card["series"]}
    assert by_name["series:s0"]["pictures"] == int((drawn.tagged == 0).sum())
    assert by_name["series:s77"] == {"series": "series:s77", "pictures": 1, "groups": 1, "learned_out_of_fold": False}
    assert card["pictures"]["tagged"] == int((drawn.tagged >= 0).sum())


def test_the_summary_line_counts_and_names_the_file(own_copy: DataFolder, capsys):
    train.main(["--data-dir", str(own_copy.root)])
    said = capsys.readouterr()
    line = said.out.strip()
    assert "copies at 0.95" in said.err, "how far the search for copies is"
    assert line.startswith("9 series tags learned from ") and "1 of them with too few" in line
    assert line.endswith("series_classifier.json") and "\n" not in line


def test_training_twice_leaves_one_classifier_with_the_same_predictions(own_copy: DataFolder):
    first = predicted(own_copy)
    train.main(["--data-dir", str(own_copy.root)])
    second = predicted(own_copy)
    assert first[1] == second[1] and first[0]["fingerprint"] == second[0]["fingerprint"]
    assert len(list(own_copy.classifier.iterdir())) == 3


def test_the_report_counts_what_it_lists(judged: DataFolder, drawn: Drawn):
    found = report(judged)
    summary = found["summary"]
    correct, missing = summary["correct_predictions"], summary["missing_predictions_count"]
    incorrect = summary["incorrect_predictions_count"]
    assert summary["total_predictions"] == correct + missing + incorrect
    assert summary["accuracy"] == pytest.approx(correct / summary["total_predictions"], abs=1e-4)
    assert (len(found["missing_predictions"]), len(found["incorrect_predictions"])) == (missing, incorrect)
    assert correct == sum(row["correct"] for row in found["per_series"])
    assert correct + incorrect == sum(row["predicted"] for row in found["per_series"])
    assert summary["tags_not_judged"] == 1


def test_planted_errors_are_at_the_top_of_the_lists(judged: DataFolder, drawn: Drawn):
    found = report(judged)
    number = {hash: row for row, hash in enumerate(drawn.hashes)}
    sure = [one for one in found["missing_predictions"] if one["confidence"] >= 0.8]
    wrong = [drawn.truth[number[one["hash"]]] != int(one["series"][8:]) for one in sure]
    swapped = int(((drawn.tagged >= 0) & (drawn.tagged != drawn.truth)).sum()) - 1
    assert np.mean(wrong) > 0.9 and sum(wrong) > 0.8 * swapped
    sure = [one for one in found["incorrect_predictions"] if one["confidence"] >= 0.8]
    assert np.mean([drawn.truth[number[one["hash"]]] == int(one["series"][8:]) for one in sure]) > 0.85
    for kind in ("missing_predictions", "incorrect_predictions"):
        confidence = [one["confidence"] for one in found[kind]]
        assert confidence == sorted(confidence, reverse=True)


def test_a_finding_says_what_to_do_why_and_which_pictures_are_alike(judged: DataFolder, drawn: Drawn):
    found = report(judged)
    number = {hash: row for row, hash in enumerate(drawn.hashes)}
    removal, addition = found["missing_predictions"][0], found["incorrect_predictions"][0]
    assert (removal["action"], addition["action"]) == ("remove", "add")
    assert removal["series"] in removal["evidence"]["tagged"] and removal["series"] in removal["why"]
    assert addition["series"] not in addition["evidence"]["tagged"]
    near = addition["evidence"]["neighbours"]
    unit = drawn.matrix / np.linalg.norm(drawn.matrix, axis=1, keepdims=True)
    row = number[addition["hash"]]
    with_it = np.flatnonzero(drawn.tagged == int(addition["series"][8:]))
    best = with_it[np.argmax(unit[with_it] @ unit[row])]
    assert near[0]["hash"] == picture_hash(int(best))
    assert near[0]["cosine"] == pytest.approx(float(unit[best] @ unit[row]), abs=1e-3)


def test_a_series_that_only_the_tagger_knows_is_suggested_in_the_owners_spelling(folder: DataFolder, tmp_path: Path):
    drawn = draw(series=6, pictures=700, unknown=0.35, forgotten=0, swapped=0, duplicates=0, noise=0.3, seed=21)
    numbers = [0, 1, 2, 6, 7]
    shown = (drawn.truth[:, None] == np.array(numbers)) * 6.0
    drawn.matrix = np.concatenate([drawn.matrix, shown], axis=1).astype(np.float32)
    write(folder, drawn)
    weight = np.concatenate([np.zeros((5, 32)), 1.5 * np.eye(5)], axis=1).astype(np.float32)
    names = ["s0_alias", "s1", "s2", "far_away", "never"]
    embedding_store.save_tag_head(
        folder.embeddings, embedding_store.TagHead(names, weight, np.full(5, -5, np.float32), MODEL)
    )
    shared = tmp_path / "map.csv"
    shared.write_text('s0,3,9,"s0_alias"\ns1,3,9,\ns2,3,9,\nfar_away,3,9,\nnever,3,9,\n')
    folder.root.joinpath("tag_map.json").write_text('{"never": null}')
    assert train.main(["--data-dir", str(folder.root), "--tag-map", str(shared)]) == 0
    found = validated(folder)
    number = {hash: row for row, hash in enumerate(drawn.hashes)}
    named = [one for one in found["incorrect_predictions"] if one["series"] == "series:far away"]
    assert len(named) > 0.7 * (drawn.truth == 6).sum()
    assert np.mean([drawn.truth[number[one["hash"]]] == 6 for one in named]) > 0.9
    assert np.mean([one["confidence"] for one in named]) > 0.6 and named[0]["action"] == "add"
    assert not [one for one in found["incorrect_predictions"] if "never" in one["series"]], "what the owner never wants"
    card = classifier_files.load(folder, "series").card
    assert card["foreign_names"] == ["series:far away", "series:s0", "series:s1", "series:s2"]
    with pytest.raises(MissingInput, match="no tag map"):
        train.main(["--data-dir", str(folder.root), "--tag-map", str(tmp_path / "none.csv")])


def test_finding_ids_stay_from_run_to_run(own_copy: DataFolder):
    first, second = validated(own_copy), validated(own_copy)
    for kind in ("missing_predictions", "incorrect_predictions"):
        assert [one["id"] for one in first[kind]] == [one["id"] for one in second[kind]]


def test_per_series_numbers_are_what_counting_gives(judged: DataFolder, drawn: Drawn):
    rows = {row["series"]: row for row in report(judged)["per_series"]}
    said = {one.record.hash: one for one in matched(judged)}
    tagged = [hash for hash, tags in zip(drawn.hashes, drawn.tag_sets()) if "series:s0" in tags]
    hits = sum("series:s0" in said[hash].predicted for hash in tagged)
    assert rows["series:s0"]["support"] == len(tagged) and rows["series:s0"]["correct"] == hits
    low, high = rows["series:s0"]["recall_interval"]
    assert low < rows["series:s0"]["recall"] < high
    assert rows["series:s77"]["not_judged"] == 1 and "cannot be judged" in rows["series:s77"]["note"]


def test_what_the_tagger_names_and_could_not_be_judged_is_no_recall():
    one = SimpleNamespace(own={"series:x"}, predicted={"series:x"}, known=set())
    (row,) = validate.per_series([one, SimpleNamespace(**vars(one) | {"known": {"series:x"}})], {"series": []})
    assert (row["correct"], row["support"], row["precision"], row["recall"]) == (2, 1, 1.0, 1.0)


def test_the_calibration_table_covers_every_judged_picture_with_a_tag(judged: DataFolder, drawn: Drawn):
    found = report(judged)
    assert sum(row["count"] for row in found["calibration"]) == int((drawn.tagged >= 0).sum()) - 1
    assert found["summary"]["calibration_error"] < 0.05


def test_the_reliability_diagram_shows_every_filled_bin(judged: DataFolder):
    found = report(judged)
    drawing = ElementTree.parse(judged.newest(SERIES_VALIDATION).with_suffix(".svg")).getroot()
    points = [
        (float(one.get("cx")), float(one.get("cy"))) for one in drawing.iter("{http://www.w3.org/2000/svg}circle")
    ]
    filled = [row for row in found["calibration"] if row["count"]]
    wanted = [(40 + 300 * row["mean_probability"], 320 - 300 * row["share_right"]) for row in filled]
    assert np.array(points) == pytest.approx(np.array(wanted), abs=0.1)


def test_a_tag_that_the_owner_took_away_is_not_suggested_again(own_copy: DataFolder):
    top = validated(own_copy)["incorrect_predictions"][0]
    change_tags(own_copy, lambda row: row.update(deleted_tags=[top["series"]]) if row["hash"] == top["hash"] else None)
    after = validated(own_copy)
    assert top["id"] not in {one["id"] for one in after["incorrect_predictions"]}
    assert after["summary"]["not_listed"]["deleted"] == 1


def test_a_tag_that_a_parent_adds_is_not_asked_to_be_removed(own_copy: DataFolder):
    top = validated(own_copy)["missing_predictions"][0]
    change_tags(own_copy, lambda row: row.update(implied_tags=[top["series"]]) if row["hash"] == top["hash"] else None)
    after = validated(own_copy)
    assert top["id"] not in {one["id"] for one in after["missing_predictions"]}
    assert after["summary"]["not_listed"]["implied"] == 1


def test_what_the_owner_ignored_does_not_come_back(own_copy: DataFolder):
    before = validated(own_copy)
    top = before["missing_predictions"][0]
    with review_store.Review(own_copy.review) as store:
        store.decide([review_store.Ask(review_store.Key(top["hash"], top["series"], "remove"))], review_store.IGNORED)
    after = validated(own_copy)
    assert top["id"] not in {one["id"] for one in after["missing_predictions"]}
    assert after["summary"]["not_listed"]["ignored"] == 1
    counts = [one["summary"]["missing_predictions_count"] for one in (before, after)]
    assert counts[0] == counts[1], "it still counts as a disagreement"


def test_tags_are_taken_as_they_are_today(own_copy: DataFolder, capsys):
    top = validated(own_copy)["missing_predictions"][0]
    change_tags(own_copy, lambda row: row.update(existing_all_tags=["1girl"]) if row["hash"] == top["hash"] else None)
    capsys.readouterr()
    after = validated(own_copy)
    assert top["id"] not in {one["id"] for one in after["missing_predictions"]}
    assert after["summary"]["predictions"]["images_retagged_since"] == 1
    assert "1 picture got other series tags" in capsys.readouterr().err


def test_a_series_that_the_owner_has_renamed_is_not_suggested_by_its_old_name(own_copy: DataFolder):
    assert any(one["series"] == "series:s0" for one in validated(own_copy)["incorrect_predictions"])
    rename = {"series:s0": "series:new name"}
    change_tags(
        own_copy, lambda row: row.update(existing_all_tags=[rename.get(tag, tag) for tag in row["existing_all_tags"]])
    )
    after = validated(own_copy)
    assert all(one["series"] != "series:s0" for one in after["incorrect_predictions"])
    assert after["summary"]["not_listed"]["retired"] > 0
    renamed = next(row for row in after["per_series"] if row["series"] == "series:new name")
    assert renamed["recall"] > 0.8, "what is believed of it is not what the classifier learned"
    assert renamed["note"] == "new since the classifier was trained"


def test_pictures_without_a_prediction_are_counted(own_copy: DataFolder, capsys):
    document = data_folder.load(own_copy.newest(DATASET), DATASET)
    document["results"] += [
        {"hash": picture_hash(9000 + number), "existing_all_tags": ["series:s0"]} for number in range(3)
    ]
    data_folder.save(own_copy, DATASET, document)
    assert validated(own_copy)["summary"]["images_without_prediction"] == 3
    assert "3 have no prediction" in capsys.readouterr().err


def test_what_is_predicted_is_what_is_believed_and_else_what_the_classifier_says(judged: DataFolder, drawn: Drawn):
    data = dataset.load(judged)
    believes = believed(judged, data, config.INVISIBLE_NAMESPACES)
    chance, said = believes.belongs(["series:s0", "series:s77"]), {row["hash"]: row for row in predicted(judged)[1]}
    place = {hash: row for row, hash in enumerate(believes.hashes)}
    for one in matched(judged):
        row = place[one.record.hash]
        assert one.probability("series:s0") == pytest.approx(chance[row, 0])
        assert one.probability("series:s77") == said[one.record.hash]["probabilities"].get("series:s77", 0.0)
        assert ("series:s0" in one.predicted) >= (chance[row, 0] >= 0.5)
    assert chance[:, 0].nnz > (drawn.tagged == 0).sum() and not chance[:, 1].nnz, "one picture is too few to judge"


def test_both_series_of_a_picture_that_shows_two_are_predicted(folder: DataFolder):
    drawn = draw(series=6, pictures=900, unknown=0.1, forgotten=0, swapped=0, duplicates=0, noise=0.3, seed=3)
    other = np.random.default_rng(0).permutation(900)
    two = (
        (np.arange(900) % 10 == 0) & (drawn.truth < 6) & (drawn.truth[other] < 6) & (drawn.truth != drawn.truth[other])
    )
    drawn.matrix[two] += drawn.matrix[other[two]]
    write(folder, drawn)
    also = {hash: f"series:s{one}" for hash, one, both in zip(drawn.hashes, drawn.truth[other], two) if both}
    change_tags(folder, lambda row: row["existing_all_tags"].extend([also[row["hash"]]] if row["hash"] in also else []))
    assert train.main(["--data-dir", str(folder.root)]) == 0
    validated(folder)
    found = [one for one in matched(folder) if one.record.hash in also]
    whole = np.mean([one.predicted == one.own for one in found])
    alone = {row["hash"]: set(row["predicted"]) for row in predicted(folder)[1]}
    assert whole > 0.4 and whole > np.mean([alone[one.record.hash] == one.own for one in found]) + 0.2


def test_pictures_that_came_later_are_judged_without_training(own_copy: DataFolder):
    more = draw(series=8, pictures=700, seed=11)
    document = data_folder.load(own_copy.newest(DATASET), DATASET)
    hashes = [picture_hash(10_000 + row) for row in range(60)]
    seen = embedding_store.load(own_copy.embeddings).matrix[:30]
    with embedding_store.ShardWriter(own_copy.embeddings, MODEL, "test") as shard:
        shard.add(hashes, np.concatenate([more.matrix[600:630], seen]))
    document["results"] += [{"hash": hash, "existing_all_tags": ["series:s0"]} for hash in hashes[:30]]
    document["results"] += [{"hash": hash, "existing_all_tags": []} for hash in hashes[30:]]
    data_folder.save(own_copy, DATASET, document)
    before = (own_copy.classifier / "series_classifier.json").read_bytes()
    found = validated(own_copy)
    assert found["summary"]["images_without_prediction"] == 0
    assert (own_copy.classifier / "series_classifier.json").read_bytes() == before
    later = [one for one in found["missing_predictions"] if one["hash"] in hashes[:30]]
    assert later and all(one["action"] == "remove" for one in later)
    assert [one for one in found["incorrect_predictions"] if one["hash"] in hashes[30:]], "those without a tag, too"


def test_predictions_of_other_pictures_altogether_are_refused(own_copy: DataFolder):
    other = [{"hash": picture_hash(9000), "existing_all_tags": []}]
    data_folder.save(own_copy, DATASET, {"model": {"id": MODEL}, "results": other})
    with pytest.raises(MissingInput, match="no picture of .* has a series prediction"):
        validate.main(["--data-dir", str(own_copy.root)])


def test_a_dataset_of_another_model_is_refused(own_copy: DataFolder):
    document = data_folder.load(own_copy.newest(DATASET), DATASET)
    data_folder.save(own_copy, DATASET, document | {"model": {"id": "other-model"}})
    with pytest.raises(BadFile, match="test-model.*other-model"):
        validate.main(["--data-dir", str(own_copy.root)])


def test_new_pictures_are_predicted_without_training(trained: Path, drawn: Drawn):
    classifier = classifier_files.load(DataFolder(trained), "series")
    new = draw(series=8, pictures=600, seed=11).matrix[:300] + np.float32(0.02)
    said = classifier.predict(Embeddings([picture_hash(row) for row in range(300)], new, MODEL, "test"))
    highest, sure = np.asarray(said.chance.argmax(axis=1)).ravel(), np.diff(said.predicted.indptr) > 0
    first = [classifier.series[place] if some else None for place, some in zip(highest, sure)]
    truth = [f"series:s{one}" if one < drawn.series else None for one in drawn.truth[:300]]
    assert np.mean([a == b for a, b in zip(first, truth)]) > 0.9


def test_embeddings_of_another_model_are_refused(trained: Path):
    classifier = classifier_files.load(DataFolder(trained), "series")
    with pytest.raises(BadFile, match="trained on embeddings of test-model .32 numbers., these are of other .32"):
        classifier.predict(Embeddings([picture_hash(0)], np.zeros((1, 32), np.float32), "other", "test"))
    with pytest.raises(BadFile, match="16 numbers"):
        classifier.predict(Embeddings([picture_hash(0)], np.zeros((1, 16), np.float32), MODEL, "test"))


def test_only_what_is_new_is_judged_and_nearly_as_after_learning_from_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(renewal, "FEWEST", 100)
    drawn = draw(series=6, pictures=620, seed=4)
    first = Drawn(drawn.matrix[:600], drawn.truth[:600], drawn.tagged[:600].copy(), drawn.groups[:600], 6)
    folder, given = DataFolder(tmp_path), ["--data-dir", str(tmp_path)]
    write(folder, first)
    assert train.main(given) == 0
    since, before = predicted(folder)
    drawn.tagged[5] = (drawn.tagged[5] + 1) % 6
    write(folder, drawn)
    capsys.readouterr()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch", None)
        assert train.main(given) == 0
    told, (card, rows) = capsys.readouterr().out, predicted(folder)
    new = [row for row in range(600, 620) if picture_hash(row) in {one["hash"] for one in rows}]
    assert 15 < len(new) < 20 and all(drawn.groups[row] >= 600 for row in new), "copies are left to the next training"
    said = f"{len(new)} of 620 pictures are judged by the classifier of {since['created']}, which has not seen them"
    assert said in told
    counted = {"anew": len(new), "pictures": 620, "why": "", "since": since["created"], "retagged": 1, "trained": 600}
    assert card["weighed"] == counted
    now, then = ({row["hash"]: row for row in some} for some in (rows, before))
    assert [*now] == sorted({*then, *map(picture_hash, new)}), "copies of what was learned from are left out"
    retagged = then[picture_hash(5)] | {"tags": [f"series:s{drawn.tagged[5]}"]}
    assert all(now[hash] == (retagged if hash == retagged["hash"] else one) for hash, one in then.items())
    assert all(now[picture_hash(row)]["fold"] == -1 for row in new)
    assert train.main(given) == 0
    assert predicted(folder)[0]["weighed"] == counted | {"anew": 0} and predicted(folder)[1] == rows

    assert train.main([*given, "--anew"]) == 0
    full = {row["hash"]: row for row in predicted(folder)[1]}
    assert "weighed" not in classifier_files.load_card(folder, "series")
    assert np.mean([abs(now[hash]["unknown"] - full[hash]["unknown"]) for hash in now]) < 0.05
    assert np.mean([now[hash]["predicted"] == full[hash]["predicted"] for hash in now]) > 0.95
    for tagged, why in ((77, "series:s77 was not learned"), (0, "43 of 620 pictures are new or have changed")):
        drawn.tagged[600:603] = tagged
        drawn.tagged[20:60] = (drawn.tagged[20:60] + (0 if tagged else 1)) % 6
        write(folder, drawn)
        capsys.readouterr()
        assert train.main(given) == 0
        assert f"all pictures are learned from anew: {why}" in capsys.readouterr().err


def test_a_classifier_of_another_make_is_asked_to_be_trained_again(own_copy: DataFolder):
    made = classifier_files.load(own_copy, "series")
    earlier = made.tensors()
    del earlier["weights"]["mixing_agreement"]
    card = classifier_files.load_card(own_copy, "series")
    path = classifier_files.save(own_copy, card, earlier)
    with pytest.raises(
        BadFile, match="do not belong together .*mixing_agreement.*: run train_series_classifier_images.py"
    ):
        classifier_files.load(own_copy, "series")
    path.write_text(json.dumps(card | {"noise": {}}))
    with pytest.raises(
        BadFile, match="not the whole card of a series classifier: run train_series_classifier_images.py again"
    ):
        classifier_files.load(own_copy, "series")


@pytest.mark.parametrize(
    "name, value", [("chance.indices", np.full(9, 99)), ("unknown", np.zeros(3)), ("tags.data", None)]
)
def test_predictions_that_are_none_are_named(own_copy: DataFolder, name: str, value: np.ndarray | None):
    card = classifier_files.load_card(own_copy, "series")
    arrays = classifier_files.said(own_copy, card).arrays() | {name: value}
    classifier_files.save(
        own_copy, card, {"out_of_fold": {name: one for name, one in arrays.items() if one is not None}}
    )
    with pytest.raises(BadFile, match="series_out_of_fold_.* and its card do not belong together"):
        classifier_files.said(own_copy, classifier_files.load_card(own_copy, "series"))


def test_a_classifier_made_at_no_time_is_named(own_copy: DataFolder):
    path = classifier_files.card_path(own_copy, "series")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"created": "2026-13-01T00:00:00Z"}))
    with pytest.raises(BadFile, match="created.* is no time like"):
        classifier_files.load_card(own_copy, "series")


def test_a_classifier_comes_back_as_it_was_saved(own_copy: DataFolder):
    before = classifier_files.load(own_copy, "series")
    card = classifier_files.load_card(own_copy, "series")
    other = replace(before.mixing, none=np.array([0.25, -3.0]), forgotten=np.array([-1.0, 0.5]))
    made = replace(before, mixing=other, network={"0.mean": np.ones(3, np.float32)})
    classifier_files.save(own_copy, card, made.tensors())
    after = classifier_files.load(own_copy, "series")
    assert after.network["0.mean"].tolist() == [1, 1, 1]
    for one, again in ((other, after.mixing), (before.model.plda, after.model.plda)):
        for name, value in vars(one).items():
            assert np.array_equal(getattr(again, name), value), name


@pytest.mark.parametrize("crash_at", ["weights", "out_of_fold", "classifier.json"])
def test_a_training_that_dies_while_saving_leaves_the_old_classifier_in_force(
    own_copy: DataFolder, monkeypatch, crash_at: str
):
    before = predicted(own_copy)
    rename = {"series:s1": "series:s0"}
    change_tags(
        own_copy, lambda row: row.update(existing_all_tags=[rename.get(tag, tag) for tag in row["existing_all_tags"]])
    )
    whole = files.write_atomically

    def dies(path: Path, *more) -> None:
        if crash_at in path.name:
            raise OSError(28, "No space left on device", str(path))
        whole(path, *more)

    for module in (files, classifier_files):
        monkeypatch.setattr(module, "write_atomically", dies)
    with pytest.raises(OSError, match="No space left"):
        train.main(["--data-dir", str(own_copy.root)])
    assert predicted(own_copy) == before
    assert len(classifier_files.load(own_copy, "series").series) == 9


def test_damaged_predictions_are_named_before_all_tags_are_weighed(own_copy: DataFolder, monkeypatch):
    next(own_copy.classifier.glob("series_out_of_fold_*")).unlink()
    monkeypatch.setattr(validate, "believed", lambda *_: pytest.fail("weighed in vain"))
    with pytest.raises(BadFile, match="is named by its card and is not there"):
        validate.main(["--data-dir", str(own_copy.root)])


@pytest.mark.parametrize("name", ["weights", "out_of_fold"])
def test_a_damaged_file_is_named(own_copy: DataFolder, name: str):
    path = next(own_copy.classifier.glob(f"series_{name}_*"))
    path.write_bytes(path.read_bytes()[:-20])
    load = classifier_files.load if name == "weights" else predicted
    with pytest.raises(BadFile, match=rf"{path.name} is not what its card says.*run train_series"):
        load(own_copy, "series")
    path.unlink()
    with pytest.raises(BadFile, match=f"{path.name} is named by its card and is not there"):
        load(own_copy, "series")


@pytest.mark.parametrize(
    "text, says",
    [
        ("{", "is cut off"),
        ('{"kind": "dataset"}', "not a series_classifier"),
        ('{"kind": "series_classifier"}', "not the whole card"),
    ],
)
def test_a_damaged_card_is_named(own_copy: DataFolder, text: str, says: str):
    classifier_files.card_path(own_copy, "series").write_text(text)
    with pytest.raises(BadFile, match=f"series_classifier.json.*{says}"):
        classifier_files.load(own_copy, "series")


def test_other_namespaces_are_saved_beside(own_copy: DataFolder):
    before = predicted(own_copy)
    change_tags(
        own_copy,
        lambda row: row["existing_all_tags"].extend(
            ["per_son:" + tag[7:] for tag in row["existing_all_tags"] if tag.startswith("series:")]
        ),
    )
    assert train.main(["--data-dir", str(own_copy.root), "--namespace", "per_son"]) == 0
    assert predicted(own_copy) == before
    assert classifier_files.load(own_copy, "per_son").series[0] == "per_son:s0"
    assert validate.main(["--data-dir", str(own_copy.root), "--namespace", "per_son"]) == 0
    assert report(own_copy)["namespace"] == "per_son"


def test_validating_before_training_says_what_to_run(folder: DataFolder, drawn: Drawn):
    write(folder, drawn, with_embeddings=False)
    with pytest.raises(MissingInput, match="run train_series_classifier_images.py first"):
        validate.main(["--data-dir", str(folder.root)])


def test_without_embeddings_there_is_nothing_to_train_on(folder: DataFolder, drawn: Drawn):
    write(folder, drawn, with_embeddings=False)
    with pytest.raises(MissingInput, match="no embeddings in"):
        train.main(["--data-dir", str(folder.root)])
    with embedding_store.ShardWriter(folder.embeddings, MODEL, "test") as shard:
        shard.add([picture_hash(9000)], np.ones((1, 32)))
    with pytest.raises(MissingInput, match="none of the 600 pictures"):
        train.main(["--data-dir", str(folder.root)])


@pytest.mark.parametrize(
    "tagged, says",
    [
        ([], "has a series: tag, so there is nothing to learn"),
        ([0, 0, 0, 0], "there are 1 such .series:s0."),
        ([0, 1, 2, 3], "there are 0 such .none."),
    ],
)
def test_too_few_tags_are_nothing_to_learn_from_and_no_failure(
    folder: DataFolder, tagged: list[int], says: str, capsys
):
    few = draw(series=4, pictures=30, unknown=0, forgotten=0, swapped=0, duplicates=0)
    few.tagged[:] = -1
    few.tagged[: len(tagged)] = tagged
    write(folder, few)
    assert train.main(["--data-dir", str(folder.root)]) == 0
    assert re.search(says, capsys.readouterr().out) and not list(folder.classifier.glob("*_classifier.json"))
    assert validate.main(["--data-dir", str(folder.root)]) == 0
    report = data_folder.load(folder.newest(SERIES_VALIDATION), SERIES_VALIDATION)
    assert report["summary"]["total_predictions"] == 0 and re.search(says, report["nothing_to_learn"])


def test_four_tagged_pictures_of_two_series_are_learned(folder: DataFolder):
    few = draw(series=2, pictures=4, unknown=0, forgotten=0, swapped=0, duplicates=0)
    few.tagged[:] = [0, 0, 1, 1]
    write(folder, few)
    assert train.main(["--data-dir", str(folder.root)]) == 0
    assert len(predicted(folder)[1]) == 4
    assert validate.main(["--data-dir", str(folder.root)]) == 0


def test_a_library_of_one_and_the_same_picture_has_nothing_to_learn_from(folder: DataFolder, capsys):
    few = draw(series=2, pictures=12, unknown=0, forgotten=0, swapped=0, duplicates=0)
    few.matrix[:] = few.matrix[0]
    few.tagged[:] = [0, 1] * 6
    write(folder, few)
    assert train.main(["--data-dir", str(folder.root)]) == 0
    assert "nothing to learn from" in capsys.readouterr().out


def test_an_embedding_that_is_no_number_is_named(folder: DataFolder):
    few = draw(series=2, pictures=12)
    write(folder, few)
    path = embedding_store.shard_paths(folder.embeddings)[0]
    shard = torch.load(path, weights_only=True)
    shard["embeddings"][3, 0] = float("nan")
    torch.save(shard, path)
    with pytest.raises(BadFile, match=f"embedding of {picture_hash(3)} .*not finite"):
        train.main(["--data-dir", str(folder.root)])


def test_an_empty_namespace_is_a_usage_error(folder: DataFolder):
    with pytest.raises(UsageError, match="--namespace is empty"):
        train.main(["--data-dir", str(folder.root), "--namespace", " "])


def test_as_processes_they_end_with_the_exit_codes_of_the_house(script, folder: DataFolder):
    nothing = script("train_series_classifier_images.py", "--data-dir", folder.root)
    assert nothing.returncode == 3 and "run advanced_joytag_processing.py first" in nothing.stderr
    assert nothing.stdout == ""
    write(folder, draw(series=3, pictures=60))
    done = script("train_series_classifier_images.py", "--data-dir", folder.root)
    assert done.returncode == 0 and done.stdout.count("\n") == 1
