"""Copies are told from similar pictures by what was measured with the owner's own pictures, and by a look at the pixels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from joytag_folder import make_tiny_model_folder
from PIL import Image, ImageDraw

from tagcheck import data_folder
from tagcheck.data_folder import DataFolder
from tagcheck.detectors import NEAR_DUPLICATES
from tagcheck.duplicates import measuring, pixel_difference, same_picture
from tagcheck.embedding import ShardWriter, store
from tagcheck.errors import BadFile
from tagcheck.pictures import preparation
from tagcheck.pictures.preparation import Recipe
from tagcheck.pictures.retouching import CHANGES, changed
from tagcheck.pictures.thumbnails import picture_thumbnail, thumbnail
from tagcheck.similar import Pairs
from tagcheck.similar.pairs import TooManyPairs


def scene(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """Shapes on a shaded ground."""
    rng = np.random.default_rng(seed)
    ground = Image.fromarray(rng.integers(60, 200, (3, 4, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    pen = ImageDraw.Draw(ground)
    for _ in range(9):
        x, y = int(rng.integers(0, width - 30)), int(rng.integers(0, height - 30))
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape(
            [x, y, x + int(rng.integers(15, 90)), y + int(rng.integers(15, 70))],
            fill=tuple(rng.integers(0, 256, 3).tolist()),
        )
    return ground


def redrawn(image: Image.Image) -> Image.Image:
    """An alternate: one thing in the picture is another."""
    other = image.copy()
    width, height = other.size
    ImageDraw.Draw(other).ellipse([width * 0.3, height * 0.3, width * 0.62, height * 0.66], fill=(250, 240, 20))
    return other


def small(image: Image.Image) -> np.ndarray:
    return thumbnail(np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_picture_differs_less_than_a_redrawn_one(how):
    rng = np.random.default_rng(3)
    pictures = [scene(seed) for seed in range(20)]
    rows = [small(one) for one in pictures] + [small(changed(one, how, rng)) for one in pictures]
    rows += [small(redrawn(one)) for one in pictures]
    at = np.arange(20)
    same = pixel_difference.differences(np.stack(rows), at, at + 20)
    other = pixel_difference.differences(np.stack(rows), at, at + 40)
    assert np.quantile(same[:, 1], 0.9) < np.quantile(other[:, 1], 0.1) / 1.5
    assert np.median(same[:, 0]) < np.median(other[:, 0]) / 2


def test_neither_blocks_nor_leaving_unlike_pictures_alone_change_what_pictures_differ_by(monkeypatch):
    rng, scenes = np.random.default_rng(0), [scene(seed) for seed in range(6)]
    rows = np.stack([small(one) for one in (*scenes, *(changed(one, "mirror", rng) for one in scenes[:2]), scenes[0])])
    i, j = np.triu_indices(len(rows), 1)
    whole = pixel_difference.differences(rows, i, j, np.inf)
    monkeypatch.setattr(pixel_difference, "BLOCK", 3)
    monkeypatch.setattr(pixel_difference, "STARTED", 5)
    np.testing.assert_allclose(pixel_difference.differences(rows, i, j, np.inf), whole, atol=1e-3)
    found = pixel_difference.differences(rows, i, j)
    apart = (found == pixel_difference.APART).all(axis=1)
    assert 4 <= (~apart).sum() <= 20 and whole[apart, 0].min() > 0.5
    np.testing.assert_allclose(found[~apart], whole[~apart], atol=1e-3)
    assert pixel_difference.differences(rows, i[:0], j[:0]).shape == (0, 4)
    np.testing.assert_allclose(pixel_difference.differences(rows, np.arange(8), np.arange(8)), 0, atol=0.05)


def icon(hand: int) -> Image.Image:
    """A dial with a white margin, of which only the hand tells one from another."""
    image = Image.new("RGB", (128, 128), "white")
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle([6, 6, 121, 121], 14, fill=(110, 150, 180), outline=(60, 90, 120), width=4)
    pen.pieslice([30, 30, 98, 98], hand, hand + 40, fill="white")
    return image


def test_an_icon_cut_to_its_edge_is_nearer_than_its_look_alike_whichever_is_named_first():
    whole, cut, other = icon(10), icon(10).crop((9, 4, 123, 120)), icon(70)
    pictures = np.stack([small(one) for one in (whole, cut, other)])
    there = pixel_difference.differences(pictures, np.array([0, 0]), np.array([1, 2]))
    back = pixel_difference.differences(pictures, np.array([1, 2]), np.array([0, 0]))
    assert there[0, 1] < 10 < 30 < there[1, 1] and there[0, 3] > 0.1
    np.testing.assert_allclose(back[0], there[0], rtol=0.3, atol=0.2)


def test_a_colour_that_no_change_makes_is_no_copy_however_alike_the_rest_is():
    measured = fake(spread=[1.0, 1.0, 1.0, 0.6, 1.0], weights=[-1.0, -1.0, -1.0, -0.2, -1.0, 4.0])
    plain, coloured = measured.chance(np.full(2, 0.99), np.array([[0.02, 1, 1, 0], [0.02, 1, 60, 0]], np.float32))
    assert plain > 0.9 and coloured < 0.1


def test_blank_pictures_divide_by_nothing():
    rows = np.stack([small(Image.new("RGB", (40, 40), colour)) for colour in ("white", "black", "red")])
    found = pixel_difference.differences(rows, np.array([0, 0, 1]), np.array([1, 2, 2]))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("value", [0, 250, 255])
def test_a_blank_picture_is_no_tone_of_a_drawn_one(value):
    drawn = np.full((3, 96, 96), 255, np.uint8)
    drawn[:, 40:52, 8:88] = 60
    rows = np.stack([thumbnail(one) for one in (np.full((3, 96, 96), value, np.uint8), drawn)])
    there, back = pixel_difference.differences(rows, np.array([0, 1]), np.array([1, 0]))
    assert there[0] > 0.8 and back[0] > 0.8


def test_an_unknown_change_is_an_error_and_tiny_pictures_survive_every_change():
    with pytest.raises(ValueError, match="no such change: fold"):
        changed(scene(0), "fold", np.random.default_rng(0))
    for how in CHANGES:
        assert min(changed(Image.new("RGB", (1, 3)), how, np.random.default_rng(0)).size) >= 1


def two_kinds(seed: int, copies: int, others: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cosines, differences, whether it is a copy) of pairs of a network whose cosines overlap."""
    rng = np.random.default_rng(seed)
    copy = np.arange(copies + others) < copies
    cosine = np.where(copy, rng.beta(30, 2, len(copy)), rng.beta(25, 4, len(copy)))
    left = np.where(copy, rng.gamma(3, 0.03, len(copy)), rng.gamma(8, 0.06, len(copy)))
    patch = np.where(copy, rng.gamma(3, 1.5, len(copy)), rng.gamma(6, 6, len(copy)))
    tint = np.where(copy, rng.gamma(2, 1, len(copy)), rng.gamma(3, 3, len(copy)))
    apart = np.stack([left, patch, tint, np.where(rng.random(len(copy)) < 0.2, 0.1, 0)], axis=1)
    return cosine.astype(np.float32), apart.astype(np.float32), copy


@pytest.mark.parametrize("copies, others", [(0, 400), (30, 1000), (150, 60)])
def test_copies_are_learned_among_pairs_that_nobody_judged(copies, others):
    """However many of the library's pairs are copies: none, few or most."""
    cosine, apart, _ = two_kinds(0, 200, 0)
    theirs, their_apart, copy = two_kinds(1, copies, others)
    centre, spread, weights, alone = same_picture.learn((cosine, apart), (theirs, their_apart), two_kinds(2, 0, 100)[1])
    measured = fake(centre=centre.tolist(), spread=spread.tolist(), weights=weights.tolist(), alone=alone.tolist())
    chance = measured.chance(theirs, their_apart)
    told = chance >= same_picture.COPY
    assert not copies or told[copy].mean() > 0.8
    assert (told & ~copy).sum() <= max(3, 0.05 * told.sum())
    assert abs(chance.sum() - copies) < 8 + 0.05 * copies
    by_cosine = measured.chance(np.array([0.7, 0.9, 0.99, 1.0], np.float32), None)
    assert (np.diff(by_cosine) >= 0).all()


def fake(**changes: object) -> same_picture.Measured:
    made: dict[str, object] = {
        "model": "m",
        "preprocess": "p",
        "threshold": 0.8,
        "centre": [-3.0, -2.0, 1.0, 1.0, 0.0],
        "spread": [1.0] * 5,
        "weights": [-1.0] * 5 + [2.0],
        "alone": [-1.0, 0.0],
        "pictures": 50,
        "changes": 100,
        "library": 60,
        "found": {"crop": [0.9, 0.8]},
    }
    return same_picture.Measured(**(made | changes))  # type: ignore[arg-type]


def test_what_was_measured_survives_the_file_and_holds_for_its_own_tagger(tmp_path):
    assert same_picture.load(tmp_path, "m") is None
    same_picture.save(tmp_path, fake())
    assert same_picture.load(tmp_path, "m") == fake() == same_picture.load(tmp_path, None)
    assert same_picture.load(tmp_path, "another") is None
    document = json.loads((tmp_path / same_picture.FILE).read_text())
    (tmp_path / same_picture.FILE).write_text(json.dumps(document | {"version": 3}))
    assert same_picture.load(tmp_path, "m") is None, "it is measured again"


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"kind": "same_picture", "version": 4}', '{"kind": "other", "version": 4}']
    + [
        json.dumps({"kind": "same_picture", "version": 4} | fake().__dict__ | change)
        for change in ({"threshold": 0}, {"weights": [1.0]}, {"spread": [0.0] * 5}, {"more": 1}, {"alone": ["a", "b"]})
    ],
)
def test_a_damaged_file_says_what_to_do(tmp_path, text):
    (tmp_path / same_picture.FILE).write_text(text)
    with pytest.raises(BadFile, match=r"same_picture.json .*remove it and run advanced_joytag_processing.py again"):
        same_picture.load(tmp_path, "m")


def test_the_thumbnail_of_a_padded_picture_leaves_the_background_out():
    image = scene(4, 200, 100)
    frame = preparation.prepare(image, Recipe(64))
    inside = picture_thumbnail(frame, image.size, True).astype(int)
    assert np.abs(inside - small(image)).mean() < 6
    assert np.abs(thumbnail(frame).astype(int) - small(image)).mean() > 20


def test_shards_keep_thumbnails_and_the_newest_counts(tmp_path):
    rows = np.ones((2, 3), np.float32)
    with ShardWriter(tmp_path, "m", "p") as writer:
        writer.add(["a", "b"], rows, None, [np.full(4, 1, np.uint8), np.full(4, 2, np.uint8)])
    found, known = store.load_thumbnails(tmp_path, ["b", "c", "a"], 4)
    assert found.tolist() == [[2] * 4, [0] * 4, [1] * 4] and known.tolist() == [True, False, True]
    with ShardWriter(tmp_path, "m", "p") as writer:
        writer.add(["a"], rows[:1])  # as an older program writes it
    assert store.load_thumbnails(tmp_path, ["b", "a"], 4)[1].tolist() == [True, False]
    assert store.load_thumbnails(tmp_path, ["b"], 9)[1].tolist() == [False]


def test_pairs_without_thumbnails_are_told_by_their_cosine():
    pairs = Pairs(np.array([0, 0]), np.array([1, 2]), np.array([0.9, 0.9], np.float32))

    def differences(i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full((2, 4), 90, np.float32), np.array([True, False])

    _, chance = same_picture.among(fake(), pairs, differences)
    assert chance[0] < chance[1] == fake().chance(pairs.cosine, None)[1]
    assert same_picture.among(fake(), pairs, None)[1][0] == chance[1]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> tuple[DataFolder, Path]:
    """40 scenes, a copy of each fifth and a redrawn alternate of another fifth, embedded by a network that learned nothing."""
    root = tmp_path_factory.mktemp("same")
    pictures, data, model = root / "pictures", root / "data", make_tiny_model_folder(root / "model")
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        image = scene(number)
        image.save(pictures / f"{number:02d}.png")
        if number % 5 == 0:
            changed(image, CHANGES[number // 5 % 5], rng).save(pictures / f"{number:02d}-copy.png")
        if number % 5 == 1:
            redrawn(image).save(pictures / f"{number:02d}-redrawn.png")
    for path in pictures.glob("*.png"):
        path.with_suffix(".txt").write_text("scene")
    import advanced_joytag_processing
    import dataset_hardcore_mapper

    dataset_hardcore_mapper.main(["--library", str(pictures), "--data-dir", str(data)])
    advanced_joytag_processing.main(["--data-dir", str(data), "--model-dir", str(model)])
    return DataFolder(data), model


def reported(folder: DataFolder) -> tuple[dict[str, object], set[tuple[str, ...]]]:
    report = data_folder.load(folder.newest(NEAR_DUPLICATES), NEAR_DUPLICATES)
    records = data_folder.load(folder.newest(data_folder.DATASET), data_folder.DATASET)["results"]
    names = {record["hash"]: Path(record["file_path"]).stem for record in records}
    return report, {tuple(sorted((names[one["hash1"]], names[one["hash2"]]))) for one in report["similar_pairs"]}


def test_the_report_has_the_copies_and_no_redrawn_alternate(library):
    import find_near_duplicates

    folder, _ = library
    find_near_duplicates.main(["--data-dir", str(folder.root)])
    report, pairs = reported(folder)
    measured = same_picture.load(folder.embeddings, report["model"])
    assert report["summary"]["similarity_threshold"] == measured.threshold and report["settings"]["measured"]
    copies = {(f"{number:02d}", f"{number:02d}-copy") for number in range(0, 40, 5)}
    assert len(pairs & copies) >= 7 and not [pair for pair in pairs if "redrawn" in "".join(pair)]
    assert all(0.35 <= pair["copy_chance"] <= 1 for pair in report["similar_pairs"])
    assert report["summary"]["pairs_ruled_out_by_pixels"] > 0

    find_near_duplicates.main(["--data-dir", str(folder.root), "--threshold", "0.97"])  # which wins
    report, _ = reported(folder)
    assert report["summary"]["similarity_threshold"] == 0.97 and not report["settings"]["measured"]
    assert all(pair["similarity"] >= 0.97 and "copy_chance" not in pair for pair in report["similar_pairs"])


def test_pairs_of_pictures_that_an_earlier_version_embedded_are_counted_and_named(library, tmp_path, capsys):
    import find_near_duplicates

    shutil.copytree(library[0].root, tmp_path / "data")
    folder = DataFolder(tmp_path / "data")
    for path in store.shard_paths(folder.embeddings):
        shard = torch.load(path, weights_only=True)
        torch.save({name: one for name, one in shard.items() if not name.startswith("thumbnails")}, path)
    find_near_duplicates.main(["--data-dir", str(folder.root)])
    report, _ = reported(folder)
    blind = report["summary"]["pairs_without_thumbnails"]
    assert blind > 0 and f"{blind:,} pairs were judged by the cosine alone" in capsys.readouterr().err
    assert (
        data_folder.load(library[0].newest(NEAR_DUPLICATES), NEAR_DUPLICATES)["summary"].get(
            "pairs_without_thumbnails", 0
        )
        == 0
    )


def test_it_is_measured_once_and_again_when_the_library_has_grown(library, capsys, monkeypatch):
    import advanced_joytag_processing

    folder, model = library
    before = (folder.embeddings / same_picture.FILE).read_bytes()
    options = ["--data-dir", str(folder.root), "--model-dir", str(model)]
    advanced_joytag_processing.main(options)
    assert "measuring" not in capsys.readouterr().err
    monkeypatch.setattr(measuring, "AGAIN", 0.5)
    advanced_joytag_processing.main(options)
    assert "measuring" in capsys.readouterr().err
    assert (folder.embeddings / same_picture.FILE).read_bytes() == before  # the same pictures give the same


def test_the_other_stages_take_the_same_copies(library):
    folder, _ = library
    found = store.load(folder.embeddings)
    copies = measuring.known_copies(folder.embeddings, found)
    from tagcheck.tag_errors import evidence

    around = evidence.surroundings(found.matrix, copies=copies)
    assert around.twins.nnz == 2 * len(copies) > 0 and around.labels[copies.i[0]] == around.labels[copies.j[0]]

    groups, _ = measuring.copy_groups(folder.embeddings, found)
    assert len(np.unique(groups)) == len(np.unique(around.labels)) > 40


def test_a_thousand_copies_of_one_picture_hold_up_no_measuring():
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.repeat(rng.standard_normal((1, 64)), 1000, axis=0), rng.standard_normal((40, 64))])
    threshold, pairs = measuring._ordinary(rows.astype(np.float16), np.ones(len(rows), dtype=bool), 0.9)
    assert threshold == 0.9 and len(pairs) == 0
    alike = (1 + 1e-5 * rng.standard_normal((50, 64))).astype(np.float32)
    with pytest.raises(TooManyPairs):
        measuring._ordinary(alike, np.ones(len(alike), dtype=bool), 0.9)


def test_few_pictures_are_not_measured(tmp_path):
    class Model:
        id, preprocess_id = "m", "p"

    assert not measuring.wanted(tmp_path, Model(), 39) and measuring.wanted(tmp_path, Model(), 40)
    same_picture.save(tmp_path, fake(library=40))
    assert not measuring.wanted(tmp_path, Model(), 160) and measuring.wanted(tmp_path, Model(), 161)
    Model.preprocess_id = "q"
    assert measuring.wanted(tmp_path, Model(), 50)
