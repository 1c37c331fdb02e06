"""Fine-tuning: what is frozen is computed once, a kill costs nothing, groups stay whole, and the heads stay unless it surely helps."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from joytag_folder import make_tiny_model_folder
from PIL import Image, ImageDraw
from scipy import sparse
from series_library import predicted

import advanced_joytag_processing as extraction
import dataset_hardcore_mapper as mapper
import train_series_classifier_images as train
import validate_series_predictions as validate
from joytag.Models import normalise
from tagcheck.data_folder import DataFolder
from tagcheck.embedding import joytag_network, store
from tagcheck.errors import BadFile, UsageError
from tagcheck.pictures import preparation
from tagcheck.series import classifier_files, finetuning, out_of_fold, probabilities, scoring
from tagcheck.series.finetuning import Back, Settings, Training
from tagcheck.series.labels import group_counts, label_images, learned, spread_folds

CPU = torch.device("cpu")
QUICK = ["--unfrozen-epochs", "2", "--unfreeze-last-k", "1"]


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
    """A mapped and embedded folder of 36 pictures, four without a series; not to be changed."""
    root = tmp_path_factory.mktemp("pictures")
    make_tiny_model_folder(root / "model")
    (root / "library").mkdir()
    (root / "data").mkdir()
    for number in range(36):
        (root / "library" / f"{number}.png").write_bytes(drawn(number % 3, number))
        (root / "library" / f"{number}.png.txt").write_text("1girl" if number >= 32 else f"series:s{number % 3}")
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
    """Twenty-four pictures of two classes in eight groups, without a library; the last two have no tag."""

    def __init__(self, model: Path) -> None:
        self.base = joytag_network.read_folder(make_tiny_model_folder(model)).network
        self.frames = [preparation.prepare_bytes(drawn(number % 2, number), 64) for number in range(24)]
        pixels = torch.from_numpy(np.concatenate(self.frames))
        with torch.no_grad():
            self.matrix = self.base.features(normalise(pixels)).numpy()
        self.targets = sparse.csr_matrix(np.eye(2, dtype=np.float32)[np.arange(24) % 2] * (np.arange(24) < 22)[:, None])

    def read(self, rows):
        return (self.frames[row] for row in rows)

    def training(self, read=None, **changed) -> Training:
        settings = Settings(**{"epochs": 3, "blocks": 1, "batch_size": 4} | changed)
        return Training(self.base, read or self.read, self.matrix, self.targets, np.arange(24) // 2, settings)


@pytest.fixture
def few(tmp_path: Path) -> Few:
    return Few(tmp_path / "model")


def quiet(*_) -> None:
    pass


def test_the_frozen_part_and_the_trained_one_make_the_network(few: Few):
    pixels = torch.from_numpy(np.concatenate(few.frames))
    for blocks in (1, 2):
        back = Back(few.base, blocks, 2, torch.zeros(32), torch.ones(32))
        embedding = back.norm(run_blocks(back, finetuning.tokens_of(few.base, blocks, pixels))).mean(dim=1)
        assert torch.allclose(embedding, torch.from_numpy(few.matrix), atol=1e-5)


def run_blocks(back: Back, tokens: torch.Tensor) -> torch.Tensor:
    for block in back.blocks:
        tokens = block(tokens)
    return tokens


def test_a_picture_that_cannot_be_read_is_left_out(few: Few, tmp_path: Path):
    training = few.training(lambda rows: (None if row == 3 else few.frames[row] for row in rows), epochs=1)
    found = training.run(tmp_path / "checkpoint.pt", quiet)
    assert (found.log_p[3] == 0).all() and (found.log_p[[2, 4, 23]] < 0).all()


def test_views_differ_and_are_never_mirrored():
    picture = torch.zeros((3, 64, 64), dtype=torch.uint8)
    picture[..., 32:] = 200
    change = finetuning.views(64)
    torch.manual_seed(0)
    seen = [change(picture).float() for _ in range(40)]
    assert not torch.equal(seen[3], seen[4])
    assert all(
        one[..., 56:].mean() >= one[..., :8].mean() for one in seen if one.max() > 0 and one[..., :8].max() < 255
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory):
    """What a training that nobody ends comes to."""
    place = tmp_path_factory.mktemp("whole")
    return Few(place / "model").training().run(place / "checkpoint.pt", quiet)


@pytest.mark.parametrize("steps", (1, 3, 8))
def test_a_killed_training_goes_on_to_the_networks_it_would_have_become(few: Few, whole, tmp_path: Path, steps: int):
    left = [steps]

    def kill(count: int, loss: float) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        few.training().run(tmp_path / "checkpoint.pt", kill)
    gone_on: list[int] = []
    resumed = few.training().run(tmp_path / "checkpoint.pt", lambda count, loss: gone_on.append(count))
    assert resumed.history == whole.history and sum(gone_on) == 3 * 22
    for name, value in whole.tensors.items():
        assert np.array_equal(value, resumed.tensors[name]), name


def test_training_learns_and_stops_when_nothing_gets_better(few: Few, tmp_path: Path):
    training = few.training(epochs=60, patience=2, rate=3e-3)
    found = training.run(tmp_path / "checkpoint.pt", quiet)
    losses = np.array([row["held_losses"] for row in found.history])
    assert len(losses) == 60 or max(losses.argmin(axis=0)) == len(losses) - 1 - 2
    for fold, held in enumerate(training.held):
        rows, said = next(training._plain(np.flatnonzero(held)))
        loss = -few.targets[rows].multiply(said[fold]).sum() / len(rows)
        assert loss == pytest.approx(losses[:, fold].min(), abs=1e-4), "the network of the best epoch is the one left"


def test_no_network_learns_from_a_group_that_it_judges_or_is_stopped_by(few: Few):
    training = few.training()
    groups = np.arange(24) // 2
    for fold in range(3):
        judged, held, learned = (
            set(groups[rows]) for rows in (training.folds == fold, training.held[fold], training.learns[fold])
        )
        assert judged and held and learned
        assert not learned & judged and not learned & held and not held & judged
    assert not training.learns[:, 22:].any() and not training.held[:, 22:].any(), "no tag, nothing to learn"


def test_rare_classes_are_weighed_up(few: Few):
    few.targets = sparse.csr_matrix(np.eye(2, dtype=np.float32)[(np.arange(24) >= 16).astype(int)])
    weights = few.training().weights
    assert float(weights[1] / weights[0]) == pytest.approx((16 / 8) ** 0.5)


def test_stored_networks_say_of_new_pictures_what_their_mean_is(few: Few, tmp_path: Path):
    training = few.training(epochs=1)
    found = training.run(tmp_path / "checkpoint.pt", quiet)
    told = finetuning.new_log_probabilities(few.base, found.tensors, found.known, few.read, 5, 1)
    _, each = next(training._plain(np.arange(5)))
    assert np.allclose(np.exp(told), np.exp(each).mean(axis=0), atol=1e-5)
    with pytest.raises(BadFile, match="do not fit"):
        finetuning.new_log_probabilities(few.base, found.tensors, found.known, few.read, 5, 2)


def test_a_network_that_saw_nothing_says_nothing():
    found = scoring.Candidates(
        np.array([[0, 1], [0, 1], [1, -1]], np.int32),
        np.zeros((3, 2, scoring.FEATURES), np.float32),
        np.zeros(3, np.float32),
        np.full(3, -1),
        np.zeros(3, np.float32),
    )
    log_p = np.log(np.array([[0.6, 0.2, 0.2], [1.0, 1.0, 1.0], [0.6, 0.2, 0.2]]))
    heard = out_of_fold.network_heard(found, log_p, np.ones((1, 3), bool)).features[..., scoring.TUNED]
    assert heard[0] == pytest.approx(np.log([1.8, 0.6]), abs=1e-5)
    assert heard[1].tolist() == [0, 0] and heard[2, 1] == 0


def test_predictions_gain_nothing_over_themselves():
    from series_library import draw

    made = draw(series=6, pictures=300, seed=2)
    labels = label_images(made.tag_sets(), made.groups)
    from tagcheck.learning import linear_probes

    folds = spread_folds(linear_probes.grouped_folds(made.groups, 10, 0), made.groups, labels)
    folded, _ = out_of_fold.out_of_fold(made.matrix, labels, folds)
    known, said = learned(labels, group_counts(labels, made.groups)), probabilities.cross_fitted(folded, labels)
    same = probabilities.gain(said, said, labels, known, made.groups)
    assert same.gain == 0 and not same.real
    # An oracle of the tags, heard as a network is, makes them better beyond doubt.
    log_p = np.log(np.where(labels.membership.toarray() > 0, 0.99, 0.01 / len(labels.classes)))
    every = np.ones((1, len(labels.classes)), bool)
    heard = replace(folded, candidates=out_of_fold.network_heard(folded.candidates, log_p, every))
    better = probabilities.gain(said, probabilities.cross_fitted(heard, labels), labels, known, made.groups)
    assert better.real and better.after[0] > better.before[0]


def test_a_network_that_helps_is_kept_and_predicts_pictures_that_come_later(
    library: Path, tmp_path: Path, helps, monkeypatch, capsys
):
    helps(True)
    data, pictures, model = (tmp_path / name for name in ("data", "library", "model"))
    for copy in (data, pictures, model):
        shutil.copytree(library / copy.name, copy)
    folder, here = DataFolder(data), ["--data-dir", str(data)]
    assert train.main([*here, "--finetune", "--model-dir", str(model), *QUICK]) == 0
    assert "better than the heads alone, so it is kept" in capsys.readouterr().out
    names = {path.name.split("_2")[0] for path in folder.classifier.iterdir()}
    kept = ("series_classifier.json", "series_weights", "series_out_of_fold", "series_network", "finetuning.lock")
    assert names == set(kept)
    made = classifier_files.load(folder, "series")
    stored = store.load(folder.embeddings)
    told = [made.predict(stored, log_p).chance for log_p in (train.network_says(folder, made, stored.hashes), None)]
    assert not np.allclose(*(one.toarray() for one in told)), "the networks have a say"
    for number in range(100, 104):
        (pictures / f"{number}.png").write_bytes(drawn(number % 3, number))
    assert mapper.main([*here, "--library", str(pictures)]) == 0
    assert extraction.main([*here, "--model-dir", str(model)]) == 0
    monkeypatch.setattr(finetuning, "new_log_probabilities", asked := Noted(finetuning.new_log_probabilities))
    # To so small a network all pictures look alike.
    monkeypatch.setattr(train.measuring, "copy_groups", lambda _, embedded: (np.arange(len(embedded.hashes)), 2.0))
    shutil.copytree(folder.classifier, tmp_path / "before")
    capsys.readouterr()
    assert train.main(here) == 0
    assert "4 of 40 pictures are judged by the classifier of" in capsys.readouterr().out
    assert asked.results[0].shape == (4, 3) and (asked.results[0] < 0).all()
    with_networks = predicted(folder)[1]
    shutil.rmtree(folder.classifier)
    shutil.copytree(tmp_path / "before", folder.classifier)
    (model / "model.safetensors").unlink()
    assert train.main(here) == 0
    assert "judged without the fine-tuned network" in capsys.readouterr().err
    assert predicted(folder)[1] != with_networks
    assert train.main([*here, "--anew"]) == 0
    assert not list(folder.classifier.glob("*_network_*")), "a later training without pictures has no network"


class Noted:
    """A function that keeps what it gave."""

    def __init__(self, function) -> None:
        self.function, self.results = function, []

    def __call__(self, *args, **named):
        self.results.append(self.function(*args, **named))
        return self.results[-1]


def test_a_network_that_does_not_help_is_dropped_the_heads_stay_and_work_at_other_settings_begins_anew(
    folder: DataFolder, library: Path, helps, capsys
):
    assert train.main(["--data-dir", str(folder.root)]) == 0
    heads = predicted(folder, "series")[1]
    helps(False)
    work = classifier_files.work_folder(folder, "series")
    work.mkdir(parents=True)
    (work / "run.json").write_text("{}")
    assert finetune(folder, library) == 0
    said = capsys.readouterr()
    assert "not surely better than the heads alone" in said.out and "training starts again" in said.err
    card, rows = predicted(folder, "series")
    assert rows == heads and not card["finetuned"]["kept"] and "network" not in card["files"]
    assert not work.exists()


def test_a_stopped_run_keeps_what_it_had_and_another_one_goes_on(
    folder: DataFolder, library: Path, helps, monkeypatch, capsys
):
    helps(True)
    whole = Training._judge
    monkeypatch.setattr(Training, "_judge", lambda self: raise_interrupt() if self.epoch else whole(self))
    with pytest.raises(KeyboardInterrupt):
        finetune(folder, library)
    work = classifier_files.work_folder(folder, "series")
    assert {path.name for path in work.iterdir()} == {"run.json", "checkpoint.pt"}
    assert not folder.classifier.joinpath("series_classifier.json").exists()
    monkeypatch.setattr(Training, "_judge", whole)
    epochs = []
    monkeypatch.setattr(Training, "_judge", lambda self: epochs.append(self.epoch) or whole(self))
    assert finetune(folder, library) == 0
    assert epochs == [1] and "continuing the fine-tuning" in capsys.readouterr().err


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def test_another_network_than_that_of_the_embeddings_is_refused(folder: DataFolder, library: Path, tmp_path: Path):
    other = make_tiny_model_folder(tmp_path / "other")
    base = joytag_network.read_folder(other)
    from safetensors.torch import save_file

    save_file({name: value + 1 for name, value in base.network.state_dict().items()}, other / "model.safetensors")
    with pytest.raises(BadFile, match="the network to fine-tune is"):
        train.main(["--data-dir", str(folder.root), "--finetune", "--model-dir", str(other)])
    with pytest.raises(UsageError, match="has 2 blocks"):
        finetune(folder, library, "--unfreeze-last-k", "3")
