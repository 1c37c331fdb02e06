"""Fine-tuning: what is frozen is computed once, a kill costs nothing, groups stay whole, and the heads stay unless it surely helps."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from joytag_folder import make_tiny_model_folder
from PIL import Image, ImageDraw
from scipy import sparse

import advanced_joytag_processing as extraction
import dataset_hardcore_mapper as mapper
import train_series_classifier_images as train
import validate_series_predictions as validate
from tagcheck.data_folder import DataFolder
from tagcheck.embedding import joytag_network, store
from tagcheck.errors import BadFile, UsageError
from tagcheck.pictures import preparation
from tagcheck.series import classifier_files, finetuning, out_of_fold, probabilities, scoring
from tagcheck.series.finetuning import PLAIN, Back, CachedTokens, Device, Front, Settings, StreamedTokens, Training
from tagcheck.series.labels import label_images, spread_folds

CPU = Device(torch.device("cpu"))
QUICK = [
    "--unfrozen-epochs",
    "2",
    "--frozen-epochs",
    "2",
    "--unfreeze-last-k",
    "1",
    "--views",
    "2",
    "--finetune-folds",
    "2",
]


def drawn(kind: int, seed: int) -> bytes:
    """A picture of one of three series: bars, dots or rings, in any colours."""
    random = np.random.default_rng(seed)
    back, front = (tuple(int(v) for v in random.integers(0, 256, 3)) for _ in range(2))
    picture = Image.new("RGB", (64, 64), back)
    pen, at = ImageDraw.Draw(picture), int(random.integers(4, 20))
    for step in range(at, 64, 16):
        if kind == 0:
            pen.rectangle((step, 0, step + 5, 64), fill=front)
        else:
            pen.ellipse((step, 20, step + 12, 32), fill=front if kind == 1 else None, outline=front, width=2)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mapped and embedded folder of 66 pictures, six without a series; not to be changed."""
    root = tmp_path_factory.mktemp("pictures")
    make_tiny_model_folder(root / "model")
    (root / "library").mkdir()
    (root / "data").mkdir()
    for number in range(66):
        (root / "library" / f"{number}.png").write_bytes(drawn(number % 3, number))
        (root / "library" / f"{number}.png.txt").write_text("1girl" if number >= 60 else f"series:s{number % 3}")
    data = ["--data-dir", str(root / "data")]
    assert mapper.main([*data, "--library", str(root / "library")]) == 0
    assert extraction.main([*data, "--model-dir", str(root / "model")]) == 0
    return root


@pytest.fixture
def folder(library: Path, tmp_path: Path) -> DataFolder:
    """A data folder of the library of its own."""
    for name in ("mappings", "datasets", "advanced_embeddings"):
        (tmp_path / name).symlink_to(library / "data" / name)
    return DataFolder(tmp_path)


def finetune(folder: DataFolder, library: Path, *options: str) -> int:
    return train.main(
        [
            "--data-dir",
            str(folder.root),
            "--finetune",
            "--library",
            str(library / "library"),
            "--model-dir",
            str(library / "model"),
            *(options if options else QUICK),
        ]
    )


@pytest.fixture
def helps(monkeypatch):
    """Say whether fine-tuning helps, whatever so small a network comes to."""

    def decide(real: bool) -> None:
        found = probabilities.Gain((0.5, 0.5), (0.6, 0.6), 0.1, 0.99 if real else 0.5)
        monkeypatch.setattr(probabilities, "gain", lambda *_: found)

    return decide


class Few:
    """Twelve pictures of two classes, without a library."""

    def __init__(self, model: Path) -> None:
        self.base = joytag_network.read_folder(make_tiny_model_folder(model)).network
        self.frames = [preparation.prepare_bytes(drawn(number % 2, number), 64) for number in range(12)]
        self.read_count = 0
        pixels = torch.from_numpy(np.concatenate(self.frames))
        self.matrix = (
            Back(self.base, 2, 2, torch.zeros(32), torch.ones(32))
            .norm(Front(self.base, 0)(pixels).clone())
            .mean(dim=1)
            .detach()
            .numpy()
        )
        self.targets = sparse.csr_matrix(np.eye(2, dtype=np.float32)[np.arange(12) % 2])

    def read(self, rows):
        for row in rows:
            self.read_count += 1
            yield row, self.frames[row]

    def streamed(self, last: int = 1) -> StreamedTokens:
        return StreamedTokens(Front(self.base, last), self.read, 64, CPU, 0)

    def cached(self, path: Path) -> CachedTokens:
        return CachedTokens(path, self.streamed(), np.arange(12) < 10, 2, (16, 32))

    def training(self, tokens, fold: int = 0, **changed) -> Training:
        torch.manual_seed(0)
        settings = Settings(
            **{"frozen_epochs": 2, "unfrozen_epochs": 3, "unfreeze_last_k": 1, "batch_size": 4, "views": 2} | changed
        )
        return Training(
            self.base, tokens, self.matrix, self.targets, np.arange(8), np.arange(8, 12), settings, CPU, fold
        )


@pytest.fixture
def few(tmp_path: Path) -> Few:
    return Few(tmp_path / "model")


def test_the_two_parts_together_are_the_network(few: Few):
    pixels = torch.from_numpy(np.concatenate(few.frames))
    back = Back(few.base, 1, 2, torch.zeros(32), torch.ones(32))
    back.head = torch.nn.Identity()
    from joytag.Models import normalise

    with torch.inference_mode():
        assert torch.allclose(back(Front(few.base, 1)(pixels)), few.base.features(normalise(pixels)), atol=1e-5)


def test_tokens_on_disk_are_those_computed_and_cost_no_picture_twice(few: Few, tmp_path: Path):
    cached = few.cached(tmp_path / "tokens")
    told = []
    assert cached.fill(told.append) == 0 and sum(told) == 12
    assert few.read_count == 12
    rows = np.array([7, 11, 0])
    for epoch in (PLAIN, 0, 1):
        found, tokens = next(iter(cached.batches(rows, epoch, 8)))
        assert found.tolist() == rows.tolist() and tokens.shape == (3, 16, 32)
    streamed = next(iter(few.streamed().batches(rows, PLAIN, 8)))[1]
    assert torch.allclose(next(iter(cached.batches(rows, PLAIN, 8)))[1], streamed, atol=1e-2)
    one, two = (next(iter(cached.batches(rows, epoch, 8)))[1] for epoch in (0, 1))
    assert not torch.equal(one[0], two[0]), "another view in the next epoch"
    assert torch.equal(one[1], two[1]), "a picture without a tag has one view"
    few.read_count = 0
    few.cached(tmp_path / "tokens").fill(told.append)
    assert few.read_count == 0, "what an earlier run computed is not computed again"


def test_a_picture_that_cannot_be_read_is_left_out(few: Few, tmp_path: Path):
    few.read = lambda rows: iter([(row, None if row == 3 else few.frames[row]) for row in rows])
    cached = few.cached(tmp_path / "tokens")
    assert cached.fill(lambda _: None) == 1
    assert [rows.tolist() for rows, _ in cached.batches(np.array([2, 3, 4]), PLAIN, 2)] == [[2, 4]]
    training = few.training(cached)
    assert (training.log_probabilities(np.array([2, 3]))[1] == 0).all()


def test_views_differ_repeat_and_are_never_mirrored():
    picture = np.zeros((1, 3, 64, 64), np.uint8)
    picture[..., 32:] = 200
    change = finetuning.augmentation(64)
    views = [finetuning.view(picture, number, 5, 0, change).float() for number in range(40)]
    assert torch.equal(views[3], finetuning.view(picture, 3, 5, 0, change).float())
    assert not torch.equal(views[3], views[4])
    assert all(
        one[..., 56:].mean() >= one[..., :8].mean() for one in views if one.max() > 0 and one[..., :8].max() < 255
    )


@pytest.mark.parametrize("steps", (1, 3, 5))
def test_a_killed_training_goes_on_to_the_network_it_would_have_become(few: Few, tmp_path: Path, steps: int):
    whole = few.training(few.streamed())
    whole.run(lambda *_: None)
    broken, left = few.training(few.streamed()), [steps]

    def kill(training: Training, pictures: int) -> None:
        left[0] -= pictures > 0
        if left[0] == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.run(kill)
    torch.save(broken.state(), tmp_path / "checkpoint.pt")
    resumed = few.training(few.streamed())
    resumed.resume(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    resumed.run(lambda *_: None)
    assert resumed.at.history == whole.at.history
    for name, value in whole.back.state_dict().items():
        assert torch.equal(value, resumed.back.state_dict()[name]), name


def test_training_learns_and_stops_when_nothing_gets_better(few: Few):
    training = few.training(few.streamed(), unfrozen_epochs=60, patience=3, block_rate=3e-3)
    training.run(lambda *_: None)
    history = training.at.history
    assert len(history) - 1 == training.at.best_epoch + 3 or len(history) == 61
    assert min(row["loss"] for row in history) < history[0]["loss"]
    said = training.log_probabilities(np.arange(8, 12))
    again = finetuning.agreement(said.argmax(axis=1), np.arange(8, 12) % 2)
    assert again == pytest.approx(training.at.best_score, abs=1e-4), (
        "the network of the best epoch is the one that is left"
    )


@pytest.mark.parametrize("balance", finetuning.BALANCES)
def test_every_way_of_balancing_trains(few: Few, balance: str):
    training = few.training(few.streamed(), balance=balance, unfrozen_epochs=1)
    training.run(lambda *_: None)
    assert training.focal == (balance == "focal") and np.isfinite(training.at.history[-1]["loss"])


def test_rare_classes_are_weighed_up_only_where_sizes_are_far_apart():
    of = lambda *counts: sparse.csr_matrix(np.eye(len(counts))[np.repeat(np.arange(len(counts)), counts)])
    assert finetuning.class_weights(of(5, 4, 3), "auto")[0].tolist() == [1, 1, 1]
    weights = finetuning.class_weights(of(100, 4, 4), "auto")[0]
    assert weights[1] == weights[2] > weights[0]
    assert float((weights * torch.tensor([100, 4, 4])).sum() / 108) == pytest.approx(1, rel=1e-4)


def test_a_network_that_saw_nothing_says_nothing_and_a_struck_class_goes_to_the_others():
    found = scoring.Candidates(
        np.array([[0, 1], [0, 1], [1, -1]], np.int32),
        np.zeros((3, 2, scoring.FEATURES), np.float32),
        np.zeros((3, 2), np.float32),
        np.full(3, -1),
        np.zeros(3, np.float32),
    )
    log_p = np.log(np.array([[0.6, 0.2, 0.2], [1.0, 1.0, 1.0], [0.6, 0.2, 0.2]]))
    heard = out_of_fold.witnessed(found, log_p, np.ones((1, 3), bool)).features[..., scoring.TUNED]
    assert heard[0] == pytest.approx(np.log([1.8, 0.6]), abs=1e-5)
    assert heard[1].tolist() == [0, 0] and heard[2, 1] == 0
    struck = sparse.csr_matrix(np.array([[True, False, False]] * 3))
    assert out_of_fold.witnessed(found, log_p, np.ones((1, 3), bool), struck=struck).features[
        0, :, scoring.TUNED
    ] == pytest.approx([0, 0])


def test_predictions_gain_nothing_over_themselves():
    from series_library import draw

    made = draw(series=6, pictures=300, seed=2)
    labels = label_images(made.tag_sets(), made.groups)
    from tagcheck.learning import linear_probes

    folds = spread_folds(linear_probes.grouped_folds(made.groups, 10, 0), made.groups, labels)
    folded, _ = out_of_fold.out_of_fold(made.matrix, labels, folds)
    learned, said = folded.learned(labels), probabilities.cross_fitted(folded, labels)
    same = probabilities.gain(said, said, labels, learned, made.groups)
    assert same.gain == 0 and not same.real
    # An oracle of the tags, heard as a network is, makes them better beyond doubt.
    log_p = np.log(np.where(labels.membership.toarray() > 0, 0.99, 0.01 / len(labels.classes)))
    heard = out_of_fold.with_network(
        folded, labels, log_p, np.zeros(300, np.int64), np.ones((1, len(labels.classes)), bool)
    )
    better = probabilities.gain(said, probabilities.cross_fitted(heard, labels), labels, learned, made.groups)
    assert better.real and better.after[0] > better.before[0]


def test_a_network_that_helps_is_kept_and_predicts_new_pictures(folder: DataFolder, library: Path, helps, capsys):
    helps(True)
    assert finetune(folder, library) == 0
    assert "better than the heads alone, so it is kept" in capsys.readouterr().out
    names = {path.name.split("_2")[0] for path in folder.classifier.iterdir()}
    assert names == {
        "series_classifier.json",
        "series_weights",
        "series_out_of_fold",
        "series_network",
        "series_finetuning.svg",
        "finetuning.lock",
    }
    made = classifier_files.load(folder, "series")
    base = joytag_network.read_folder(library / "model")
    front, back = finetuning.restored(base.network, made.card["finetuned"]["settings"]["unfreeze_last_k"], made.network)
    stored = store.load(folder.embeddings)
    paths = {artifacts_hash(path): path for path in (library / "library").glob("*.png")}
    frames = torch.from_numpy(
        np.concatenate([preparation.prepare_bytes(paths[hash].read_bytes(), 64) for hash in stored.hashes])
    )
    with torch.inference_mode():
        log_p = torch.log_softmax(back(front(frames)), dim=1).numpy()
    said = made.predict(stored, log_p)
    assert np.allclose(said.unknown + said.probability.sum(axis=1), 1, atol=0.1)
    assert not np.allclose(said.probability, made.predict(stored).probability), "the network has a say"
    assert validate.main(["--data-dir", str(folder.root)]) == 0
    with pytest.raises(ValueError, match="do not fit"):
        finetuning.restored(base.network, 2, made.network)
    assert train.main(["--data-dir", str(folder.root)]) == 0
    assert not list(folder.classifier.glob("*_network_*")), "a later training without pictures has no network"


def artifacts_hash(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_network_that_does_not_help_is_dropped_and_the_heads_stay(folder: DataFolder, library: Path, helps, capsys):
    assert train.main(["--data-dir", str(folder.root)]) == 0
    heads = classifier_files.load_out_of_fold(folder, "series")[1]
    helps(False)
    assert finetune(folder, library) == 0
    assert "not surely better than the heads alone" in capsys.readouterr().out
    card, rows = classifier_files.load_out_of_fold(folder, "series")
    assert rows == heads and not card["finetuned"]["kept"] and "network" not in card["files"]
    ElementTree.fromstring(classifier_files.curve_path(folder, "series").read_text())
    assert not classifier_files.work_folder(folder, "series").exists()


def test_no_network_learns_from_a_group_that_it_judges_or_is_stopped_by(
    folder: DataFolder, library: Path, helps, monkeypatch
):
    helps(True)
    monkeypatch.setattr(train, "duplicate_groups", lambda embedded: (np.arange(len(embedded.hashes)) // 3, 0.95))
    seen, judging = [], []
    whole, judged = train.Cut._trained, train.Cut.judged

    def noted(self, tokens, rows, held, *more):
        seen.append((set(self.groups[rows]), set(self.groups[held])))
        return whole(self, tokens, rows, held, *more)

    def asked(self, tokens, rows, unseen, *more):
        judging.append(set(self.groups[unseen]))
        return judged(self, tokens, rows, unseen, *more)

    monkeypatch.setattr(train.Cut, "_trained", noted)
    monkeypatch.setattr(train.Cut, "judged", asked)
    assert finetune(folder, library) == 0
    assert len(seen) == 3 and len(judging) == 2
    for (learned, held), unseen in zip(seen, judging):
        assert held and not learned & unseen and not held & unseen and not learned & held
    assert not seen[2][1], "the network of all pictures holds none back"


def test_a_killed_run_keeps_what_it_had_and_another_one_goes_on(
    folder: DataFolder, library: Path, helps, monkeypatch, capsys
):
    helps(True)
    whole = Training.run

    def killed(self, tick):
        if self.fold == 1:
            raise KeyboardInterrupt
        return whole(self, tick)

    monkeypatch.setattr(Training, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune(folder, library)
    work = classifier_files.work_folder(folder, "series")
    assert {path.name for path in work.iterdir()} >= {"tokens", "network_0.safetensors", "checkpoint.pt"}
    assert not folder.classifier.joinpath("series_classifier.json").exists()
    folds = []
    monkeypatch.setattr(Training, "run", lambda self, tick: folds.append(self.fold) or whole(self, tick))
    assert finetune(folder, library) == 0
    assert folds == [1, 2] and "going on with" in capsys.readouterr().err


def test_other_settings_begin_anew(folder: DataFolder, library: Path, helps, capsys):
    helps(False)
    work = classifier_files.work_folder(folder, "series")
    work.mkdir(parents=True)
    (work / "run.json").write_text("{}")
    assert finetune(folder, library) == 0
    assert "is begun anew" in capsys.readouterr().err


def test_without_room_for_the_tokens_they_are_computed_in_every_epoch(folder: DataFolder, library: Path, helps, capsys):
    helps(False)
    assert finetune(folder, library, *QUICK[2:], "--unfrozen-epochs", "1", "--cache-gigabytes", "0") == 0
    assert "it is computed in every epoch instead" in capsys.readouterr().err


def test_another_network_than_that_of_the_embeddings_is_refused(folder: DataFolder, library: Path, tmp_path: Path):
    other = make_tiny_model_folder(tmp_path / "other")
    base = joytag_network.read_folder(other)
    from safetensors.torch import save_file

    save_file({name: value + 1 for name, value in base.network.state_dict().items()}, other / "model.safetensors")
    with pytest.raises(BadFile, match="the network to fine-tune is"):
        train.main(["--data-dir", str(folder.root), "--finetune", "--model-dir", str(other)])
    with pytest.raises(UsageError, match="has 2 blocks"):
        finetune(folder, library, "--unfreeze-last-k", "3")


def test_the_curves_show_every_network():
    history = [
        {"phase": "frozen", "epoch": 0, "loss": 2.0, "held_loss": 1.5, "held_score": 0.5},
        {"phase": "unfrozen", "epoch": 1, "loss": 1.0, "held_loss": 1.2, "held_score": 0.7},
    ]
    drawing = finetuning.curves(
        [history, [{"phase": "frozen", "epoch": 0, "loss": 1.0}]], ["network 1", "the final one"]
    )
    titles = [one.text for one in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["network 1: loss", "network 1: held loss", "network 1: held score", "the final one: loss"]
    assert json.dumps(history)
