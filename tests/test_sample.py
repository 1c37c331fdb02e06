"""The sample library and its network: what is drawn, what is planted in it, what the network makes of it, and the comparison."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from sample import compare_with_planted, draw_library, measure_network, train_network
from sample.paint import sheet as sheets
from sample.paint import world
from sample.paint.picture import Figure, Picture, imagine, true_tags, variant
from sample.plant import errors as planting
from sample.plant import library as drawing
from sample.train import views as augmentation
from sample.train.pictures import KNOWN_SERIES, Training, booru_name, square, vocabulary
from tagcheck import data_folder
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION
from tagcheck.embedding import tagger
from tagcheck.errors import BadFile, MissingInput, UsageError
from tagcheck.pictures import preparation

SEED, PICTURES = 4711, 80
NETWORK = measure_network.NETWORK
# What the committed network has to reach on pictures of a new seed.
AVERAGE_PRECISION, MICRO_F1, NEAR_FOUND = (0.82, 0.8, 0.95)
MIKA = Figure(
    name="",
    girl=True,
    hair="red",
    style="twintails",
    eyes="green",
    skin=0,
    outfit="shirt and skirt",
    colours=("white", "blue"),
    headwear="witch hat",
    arms="hold",
    held="book",
    mouth="open smile",
    pose="sitting",
)
STREET = Picture(600, 800, 5, world.PLAIN_LOOKS[0], (MIKA,), "full body", place="city", time="night")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A small library with its planted.json."""
    out = tmp_path_factory.mktemp("sample")
    assert draw_library.main([str(out), "--seed", str(SEED), "--pictures", str(PICTURES)]) == 0
    return out


@pytest.fixture(scope="module")
def answered(drawn: Path) -> dict:
    return json.loads((drawn / "planted.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """140 pictures of a seed that nobody else uses, as the committed network sees them."""
    return measure_network.embed_library(
        tagger.load(NETWORK, precision="float32"), drawing.plan_library(52_817, 140), tmp_path_factory.mktemp("seen")
    )


def pictures(library: Path) -> dict[str, Path]:
    """The pictures of a drawn library by their SHA-256."""
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for path in library.rglob("*")
        if path.is_file() and path.suffix != ".txt"
    }


def written_tags(picture: Path) -> set[str]:
    """What the sidecar of a picture says, whichever of the two habits it follows."""
    lines, commas = picture.with_name(picture.name + ".txt"), picture.with_suffix(".txt")
    assert lines.exists() != commas.exists()
    text = (lines if lines.exists() else commas).read_text(encoding="utf-8")
    return set(filter(None, text.splitlines() if lines.exists() else text.split(", ")))


# --- what is true of a picture ------------------------------------------------------------------------


def test_everything_that_a_picture_shows_is_among_its_true_tags():
    assert ", ".join(sorted(true_tags(STREET))) == (
        "1girl, blue skirt, book, building, city, full body, green eyes, hat, holding, holding book, long "
        "hair, moon, night, night sky, open mouth, outdoors, red hair, shirt, sitting, skirt, smile, solo, "
        "starry sky, twintails, white shirt, witch hat"
    )


def test_a_portrait_claims_nothing_below_the_shoulders():
    tags = true_tags(replace(STREET, framing="portrait", figures=(replace(MIKA, held="", arms="down"),)))
    assert not {"skirt", "blue skirt", "sitting", "standing", "holding"} & set(tags)
    assert {"portrait", "white shirt", "red hair"} <= set(tags)


def test_a_monochrome_picture_has_no_colours():
    tags = true_tags(replace(STREET, monochrome=True))
    assert "monochrome" in tags and not [tag for tag in tags if tag.split()[0] in ("red", "green", "white", "blue")]


def test_the_hair_colour_that_is_tagged_is_the_colour_of_the_hair():
    portrait = replace(
        STREET, framing="portrait", place="simple", figures=(replace(MIKA, held="", arms="down", headwear=""),)
    )
    red, green = (
        np.asarray(sheets.paint(replace(portrait, figures=(replace(portrait.figures[0], hair=hair),)), 400), int)
        for hair in ("red", "green")
    )
    differs = np.abs(red - green).sum(2) > 60
    assert differs.mean() > 0.05
    assert (red[differs].mean(0) - green[differs].mean(0))[:2].round().tolist()[0] > 60 and (
        red[differs].mean(0) - green[differs].mean(0)
    )[1] < -40


def test_a_variant_is_another_picture_of_the_same_characters():
    other = variant(random.Random(1), STREET)
    assert [figure.hair for figure in other.figures] == ["red"] and other.place != STREET.place
    assert other.figures[0].mouth != MIKA.mouth


# --- what is planted -----------------------------------------------------------------------------------


def truths(count: int) -> list[list[str]]:
    return [true_tags(imagine(random.Random(f"planting:{number}"))) for number in range(count)]


@pytest.mark.parametrize("kind", planting.KINDS)
def test_a_planted_error_is_exactly_the_difference_to_the_truth(kind):
    rng, made = random.Random(kind), 0
    vocabulary = [tag for tag, _ in Counter(tag for truth in truths(200) for tag in truth).most_common()]
    for truth in truths(200):
        planted = planting.plant(rng, kind, truth, vocabulary)
        if planted is None:
            continue
        made += 1
        assert planted.kind == kind and planted.missing + planted.incorrect
        assert set(planted.missing) <= set(truth) and not set(planted.incorrect) & set(truth)
        assert set(planted.written(truth)) ^ set(truth) == set(planted.missing) | set(planted.incorrect)
        assert not [tag for tag in planted.missing if tag.startswith(planting.INVISIBLE)]
    assert made > 60


def test_a_contradiction_stands_beside_the_true_tag_that_it_excludes():
    rng = random.Random(2)
    for truth in truths(100):
        planted = planting.plant(rng, planting.CONTRADICTORY, truth, [])
        if planted:
            one, other = planted.details["pair"]
            assert {one, other} <= set(planted.written(truth)) and len({one, other} & set(truth)) == 1
            assert any({one, other} <= group for group in planting.EXCLUSIVE)


def test_no_true_tags_exclude_each_other():
    for truth in truths(300):
        for group in planting.EXCLUSIVE if "solo" in truth else planting.ANY_SETS:
            assert len(group & set(truth)) <= 1, truth


# --- the library ----------------------------------------------------------------------------------------


def test_every_difference_between_truth_and_sidecars_is_in_the_answers(drawn, answered):
    by_hash, errors = pictures(drawn / "library"), {one["hash"]: one for one in answered["planted"]}
    assert set(by_hash) == set(answered["truth"]) and len(by_hash) == answered["pictures"] == PICTURES
    for hash, truth in answered["truth"].items():
        error = errors.get(hash, {"missing": [], "incorrect": []})
        assert written_tags(by_hash[hash]) == (set(truth) - set(error["missing"])) | set(error["incorrect"]), hash
    assert sum(answered["summary"].values()) == len(errors) > PICTURES * 0.2


def test_near_duplicates_show_the_same_and_have_the_same_true_tags(drawn, answered):
    by_hash = pictures(drawn / "library")
    assert len(answered["near_duplicates"]) >= 3
    for one, other, how in answered["near_duplicates"]:
        assert one < other and how
        assert answered["truth"][one] == answered["truth"][other]
        small = [
            np.asarray(Image.open(by_hash[hash]).convert("L").resize((16, 16)), float).ravel() for hash in (one, other)
        ]
        assert np.corrcoef(small)[0, 1] > 0.75


def test_the_same_seed_draws_the_same_files_and_another_seed_others(drawn, tmp_path):
    plan = drawing.plan_library(SEED, PICTURES)
    some = drawing.Library([group for group in plan.groups if len(group.items) > 1][:2] + plan.groups[-3:])
    again = drawing.draw(some, tmp_path)
    assert [(drawn / "library" / item.path).read_bytes() for group in some.groups for item in group.items] == [
        (tmp_path / item.path).read_bytes() for group in some.groups for item in group.items
    ]
    assert len(set(again)) == len(again)
    assert drawing.plan_library(SEED + 1, PICTURES).groups[0].picture != plan.groups[0].picture


def test_a_plan_has_the_number_of_pictures_that_was_asked_for():
    for count in (40, 41, 97, 640):
        assert sum(len(group.items) for group in drawing.plan_library(3, count).groups) == count


def test_odd_files_are_what_they_are_called(drawn, answered):
    by_hash = pictures(drawn / "library")
    odd = {what: by_hash[hash] for hash, what in answered["odd_files"]}
    assert odd["empty"].read_bytes() == b""
    for what in ("truncated", "not a picture"):
        with pytest.raises((preparation.ImageUnreadable, preparation.ImageUnsupported)):
            preparation.prepare_bytes(odd[what].read_bytes(), 64)
    opened = {
        what: Image.open(path) for what, path in odd.items() if what not in ("empty", "truncated", "not a picture")
    }
    assert opened["animation"].n_frames == 2 and opened["transparent"].mode == "RGBA" and opened["palette"].mode == "P"
    assert opened["sixteen bits"].mode.startswith("I;16") and opened["four inks"].mode == "CMYK"
    assert opened["turned by exif"].getexif()[0x0112] == 6 and opened["very thin"].height <= 16


def test_a_library_that_is_there_is_left_alone_and_never_drawn_over(drawn, capsys):
    before = sorted(path.stat().st_mtime_ns for path in drawn.rglob("*"))
    assert draw_library.main([str(drawn), "--seed", str(SEED), "--pictures", str(PICTURES)]) == 0
    assert "already" in capsys.readouterr().out
    with pytest.raises(UsageError, match="name another folder"):
        draw_library.main([str(drawn), "--seed", str(SEED + 1), "--pictures", str(PICTURES)])
    assert sorted(path.stat().st_mtime_ns for path in drawn.rglob("*")) == before


@pytest.fixture
def one_thread():
    """Two threads wait for each other most of the time in so small a network."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- training ---------------------------------------------------------------------------------------------


def test_the_vocabulary_knows_common_visible_tags_and_only_a_few_series():
    written = [
        ["red hair", "favourite", "source:x", "person:ada pell", *(f"series:{series.name}" for series in world.SERIES)]
    ] * 10
    assert vocabulary(written) == ["red_hair", *sorted(booru_name(f"series:{name}") for name in KNOWN_SERIES)]


def test_a_view_without_luck_is_the_picture_itself(monkeypatch):
    for name in ("CROP", "COLOUR", "SCALE", "JPEG"):
        monkeypatch.setattr(augmentation, name, 0.0)
    sheet, box = square(sheets.paint(STREET, 200), 96)
    pixels = torch.from_numpy(np.asarray(sheet).copy())[None]
    same = augmentation.view(pixels, torch.tensor([box]), 96, torch.Generator().manual_seed(1))
    inside = slice(14, 82)  # a tall picture: white on both sides, whose edge may blur
    assert torch.equal(same[0, :, :, inside], pixels[0].permute(2, 0, 1)[:, :, inside])


def test_a_cropped_view_stands_in_the_middle_of_white_again(monkeypatch):
    for name in ("COLOUR", "SCALE", "JPEG"):
        monkeypatch.setattr(augmentation, name, 0.0)
    monkeypatch.setattr(augmentation, "CROP", 1.0)
    sheet, box = square(Image.new("RGB", (60, 120), (10, 20, 30)), 64)
    seen = augmentation.view(
        torch.from_numpy(np.asarray(sheet).copy())[None], torch.tensor([box]), 64, torch.Generator().manual_seed(3)
    )[0]
    dark = (seen[0] < 128).any(0).nonzero().flatten().tolist()
    assert (seen[0] < 128).any(1).all(), "the longer side fills the square"
    assert abs(dark[0] - (63 - dark[-1])) <= 1 and 24 <= len(dark) <= 36


@pytest.fixture
def tiny(monkeypatch) -> Training:
    """Pictures of noise for a network of one small block."""
    monkeypatch.setattr(
        train_network,
        "CONFIG",
        train_network.CONFIG
        | {
            "num_blocks": 1,
            "d_model": 16,
            "mlp_dim": 16,
            "num_heads": 2,
            "image_size": 64,
            "cnn_stem": "conv:c=8,k=8,s=8,p=0;ln;relu;conv:c=8,s=2;ln;relu;conv:c=16,k=1,p=0",
        },
    )
    rng = np.random.default_rng(0)
    return Training(
        rng.integers(0, 255, (400, 64, 64, 3), np.uint8),
        np.ones((400, 2), np.float32),
        rng.random((400, 5)) < 0.3,
        list("abcde"),
        rng.integers(0, 9, 400),
    )


def test_training_broken_off_and_gone_on_with_gives_the_same_network(tiny, one_thread):
    data = tiny
    whole, first, second = (train_network.Trainer(data, 4, seed=5) for _ in range(3))
    for step in range(4):
        losses = whole.train_step(step)
    for step in range(2):
        first.train_step(step)
    second.resume(first.state())
    for step in range(2, 4):
        second.train_step(step)
    assert all(np.isfinite(value) for value in losses.values())
    with pytest.raises(UsageError, match="is of --steps 4 --pictures 400 --seed 5: go on with these"):
        train_network.Trainer(data, 4, seed=6).resume(first.state())
    assert all(torch.equal(value, second.average[name]) for name, value in whole.average.items())


def test_steps_share_out_every_picture_once_and_take_their_own_from_few_kinds():
    kinds = np.random.default_rng(1).integers(0, 30, 400).repeat(2)
    data = Training(
        np.zeros((800, 1, 1, 3), np.uint8), np.ones((800, 2), np.float32), np.zeros((800, 1), bool), ["a"], kinds
    )
    trainer = train_network.Trainer(data, 10, seed=3)
    steps = [trainer._rows(step) for step in range(train_network.TOGETHER)]
    rows = [row for step in steps for row in step]
    assert len(set(rows)) == len(rows) == train_network.BATCH * train_network.TOGETHER
    assert all(step[place] + 1 == step[place + 1] for step in steps for place in range(0, train_network.BATCH, 2))
    assert max(len(set(kinds[step])) for step in steps) <= 10


def test_the_fitted_layer_is_a_logistic_regression_for_each_tag():
    rng = np.random.default_rng(4)
    x = rng.normal(3, 2, (300, 5)).astype(np.float32)
    y = x @ rng.normal(0, 1, (5, 3)) + rng.normal(0, 2, (300, 3)) > 1
    weight, bias = (value.numpy() for value in train_network.fit_head(torch.from_numpy(x), torch.from_numpy(y)))
    standard = (x - x.mean(0)) / x.std(0, ddof=1)
    for column in range(3):
        twin = LogisticRegression(C=1 / (2 * len(x) * train_network.PENALTY), max_iter=5000, tol=1e-8).fit(
            standard, y[:, column]
        )
        mine = 1 / (1 + np.exp(-(x @ weight[column] + bias[column])))
        assert np.allclose(twin.predict_proba(standard)[:, 1], mine, atol=0.005)


# --- the committed network -----------------------------------------------------------------------------------


def test_the_network_is_small_and_of_the_published_layout():
    sizes = {path.name: path.stat().st_size for path in NETWORK.iterdir()}
    assert set(sizes) == {"model.safetensors", "config.json", "top_tags.txt"} and sum(sizes.values()) < 3_000_000
    model = tagger.load(NETWORK)  # strictly, or it raises
    assert {"1girl", "red_hair", "sword"} <= set(model.tags)
    unknown = {booru_name(f"series:{series.name}") for series in world.SERIES if series.name not in KNOWN_SERIES}
    assert not unknown & set(model.tags)


def test_the_network_names_the_tags_of_pictures_that_it_never_saw(seen):
    assert measure_network.mean_average_precision(seen, 8) > AVERAGE_PRECISION
    micro, _ = measure_network.f1(seen)
    assert micro > MICRO_F1


def test_near_duplicates_lie_close_together_and_other_pictures_apart(seen):
    unit = seen.embeddings / np.linalg.norm(seen.embeddings, axis=1, keepdims=True)
    cosine = unit @ unit.T
    near = cosine[seen.pairs[:, 0], seen.pairs[:, 1]]
    others = cosine[np.triu(seen.groups[:, None] != seen.groups[None, :], 1)]
    assert np.mean(near >= 0.95) > NEAR_FOUND
    assert np.mean(others >= 0.95) < 0.001


# --- the comparison ----------------------------------------------------------------------------------------


@pytest.fixture
def reported(drawn, answered, folder: DataFolder) -> DataFolder:
    """A data folder whose dataset has the tags as they are written, without any report."""
    by_hash = pictures(drawn / "library")
    rows = [{"hash": hash, "existing_all_tags": sorted(written_tags(path))} for hash, path in sorted(by_hash.items())]
    data_folder.save(folder, DATASET, {"results": rows})
    return folder


def mistagged(answered: dict, keep=lambda place: True, wrong: int = 0) -> dict:
    """A mistagged report that has the planted errors for which `keep` holds, and `wrong` suggestions that are not right."""
    errors = []
    for place, one in enumerate(answered["planted"]):
        if keep(place):
            tags = [
                {"tag": tag, "kind": kind, "confidence": 0.9, "evidence": {}, "why": "x"}
                for kind in ("missing", "incorrect")
                for tag in one[kind]
            ]
            errors.append({"hash": one["hash"], "issue": "missing_tags", "confidence": 0.9, "tags": tags})
    for hash in sorted(answered["truth"])[:wrong]:
        errors.append(
            {
                "hash": hash,
                "issue": "incorrect_tags",
                "confidence": 0.6,
                "tags": [{"tag": "nonsense", "kind": "missing", "confidence": 0.6, "evidence": {}, "why": "x"}],
            }
        )
    return {"settings": {"min_confidence": 0.5}, "summary": {}, "errors": errors}


def compared(drawn: Path, folder: DataFolder, capsys) -> list[str]:
    assert compare_with_planted.main(["--planted", str(drawn / "planted.json"), "--data-dir", str(folder.root)]) == 0
    return capsys.readouterr().out.splitlines()


def row(lines: list[str], name: str) -> list[str]:
    return next(line for line in lines if line.startswith(f"  {name} "))[len(name) + 2 :].split()


def test_missing_reports_are_said_to_be_missing(drawn, reported, capsys):
    text = "\n".join(compared(drawn, reported, capsys))
    for kind in (MISTAGGED, SERIES_VALIDATION, NEAR_DUPLICATES):
        assert f"no report: {kind.made_by} has not been run" in text


def test_a_report_of_exactly_what_was_planted_has_recall_and_precision_one(drawn, answered, reported, capsys):
    data_folder.save(reported, MISTAGGED, mistagged(answered))
    lines = compared(drawn, reported, capsys)
    count = len(answered["planted"])
    tags = sum(len(one["missing"]) + len(one["incorrect"]) for one in answered["planted"])
    assert " ".join(row(lines, "all")) == f"{count} {count} 1.00 {tags} {tags} 1.00 {tags} 1.00 {tags} 1.00"
    assert " ".join(row(lines, "missing_tags")) == f"{tags} {tags} 1.00 {tags} {tags} 1.00"
    assert lines[-1] == f"{count} of {count} planted errors found, {tags} of {tags} suggested tags right"


def test_wrong_suggestions_cost_precision_and_missed_errors_recall(drawn, answered, reported, capsys):
    data_folder.save(reported, MISTAGGED, mistagged(answered, keep=lambda place: place % 2 == 0, wrong=7))
    lines = compared(drawn, reported, capsys)
    count = len(answered["planted"])
    assert row(lines, "all")[:2] == [str(count), str((count + 1) // 2)]
    assert row(lines, "incorrect_tags") == ["7", "0", "0.00", "0", "0", "-"]


def test_what_the_owner_has_mended_no_longer_counts(drawn, answered, reported, capsys):
    rows = [{"hash": hash, "existing_all_tags": tags} for hash, tags in answered["truth"].items()]
    data_folder.save(reported, DATASET, {"results": rows})
    data_folder.save(reported, MISTAGGED, mistagged(answered))
    lines = compared(drawn, reported, capsys)
    assert f"0 of {len(answered['planted'])} planted errors still in them" in lines[0]
    assert row(lines, "all")[:3] == ["0", "0", "-"]


def test_pairs_and_series_are_held_against_the_truth(drawn, answered, reported, capsys):
    pairs = [pair[:2] for pair in answered["near_duplicates"]]
    wrong = sorted(sorted(answered["truth"])[:2])
    data_folder.save(
        reported,
        NEAR_DUPLICATES,
        {
            "summary": {"similarity_threshold": 0.95},
            "groups": [],
            "similar_pairs": [{"hash1": one, "hash2": other} for one, other in [*pairs[:-1], wrong]],
        },
    )
    swapped = next(one for one in answered["planted"] if one["kind"] == "series_swapped")
    entries = {
        "missing_predictions": swapped["incorrect"],
        "incorrect_predictions": [*swapped["missing"], "series:cloud cuckoo land"],
    }
    data_folder.save(
        reported,
        SERIES_VALIDATION,
        {
            "summary": {"correct_predictions": 3, "total_predictions": 4, "accuracy": 0.75, "images_abstained": 2},
            "per_series": [],
            **{
                name: [{"hash": swapped["hash"], "series": tag, "confidence": 0.9} for tag in tags]
                for name, tags in entries.items()
            },
        },
    )
    lines = compared(drawn, reported, capsys)
    assert row(lines, "missing predictions") == ["1", "1", "1.00", "1", "1", "1.00"]
    assert row(lines, "incorrect predictions") == ["2", "1", "0.50", "2", "1", "0.50"]
    count = len(pairs)
    assert " ".join(lines[-1].split()[:4]) == f"{count} {count - 1} {(count - 1) / count:.2f} {count}"


def test_other_files_and_other_libraries_are_refused(drawn, reported, folder, tmp_path):
    other = tmp_path / "planted.json"
    data = ["--data-dir", str(reported.root)]
    with pytest.raises(MissingInput, match="draw_library"):
        compare_with_planted.main(["--planted", str(other), *data])
    for text, says in (
        ('{"kind": "shopping list"}', "planted_errors"),
        ('{"kind": "planted_errors", "version": 1}', "no 'truth'"),
    ):
        other.write_text(text)
        with pytest.raises(BadFile, match=says):
            compare_with_planted.main(["--planted", str(other), *data])
    data_folder.save(folder, DATASET, {"results": [{"hash": "0" * 64, "existing_all_tags": []}]})
    with pytest.raises(BadFile, match="different libraries"):
        compare_with_planted.main(["--planted", str(drawn / "planted.json"), *data])
