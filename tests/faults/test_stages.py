"""Detectors, training, fine-tuning and extraction that end at any moment of a write leave whole files, and the next run finishes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from joytag_folder import make_tiny_model_folder
from kills import ALL, HOWS, in_child, points
from PIL import Image
from series_library import draw, predicted, write

import advanced_joytag_processing
import find_bad_sources
import find_mistagged_images
import find_near_duplicates
import find_technical_faults
import find_unusual_images
import train_series_classifier_images
import validate_series_predictions
from tagcheck import data_folder, detectors, files
from tagcheck.data_folder import DATASET, MAPPING, DataFolder
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION
from tagcheck.embedding import store
from tagcheck.series import classifier_files

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
REPORTS = {
    find_mistagged_images: MISTAGGED,
    find_near_duplicates: NEAR_DUPLICATES,
    validate_series_predictions: SERIES_VALIDATION,
    find_unusual_images: detectors.own_report("find_unusual_images.py"),
    find_bad_sources: detectors.own_report("find_bad_sources.py"),
    find_technical_faults: detectors.own_report("find_technical_faults.py"),
}
TRAIN, EXTRACT = train_series_classifier_images, advanced_joytag_processing
STAGES: dict[str, tuple[Any, list[str]]] = {
    "mistagged": (find_mistagged_images, []),
    "near-duplicates": (find_near_duplicates, []),
    "validation": (validate_series_predictions, []),
    "unusual": (find_unusual_images, []),
    "sources": (find_bad_sources, []),
    "technical": (find_technical_faults, ["--library", "pictures"]),
    "training": (TRAIN, []),
    "fine-tuning": (
        TRAIN,
        [
            "--finetune",
            "--unfrozen-epochs",
            "1",
            "--unfreeze-last-k",
            "1",
            "--library",
            "pictures",
            "--model-dir",
            "model",
        ],
    ),
    "extraction": (
        EXTRACT,
        ["--model-dir", "model", "--device", "cpu", "--precision", "float32", "--decoders", "1", "--batch-size", "8"],
    ),
}


def made_up(root: Path) -> None:
    """A data folder with a dataset, embeddings and a trained classifier, without pictures."""
    write(DataFolder(root / "data"), draw(series=3, pictures=60))
    assert TRAIN.main(["--data-dir", str(root / "data")]) == 0


def drawn(root: Path) -> None:
    """The same of real pictures that a tiny network embedded. In processes of their own: what was forked from may have no threads."""
    make_tiny_model_folder(root / "model")
    (root / "pictures").mkdir()
    rng = np.random.default_rng(3)
    for number in range(36):
        colours = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8) // (1 + number % 3)
        Image.fromarray(colours).resize((60, 45), Image.Resampling.BICUBIC).save(root / "pictures" / f"{number}.png")
        (root / "pictures" / f"{number}.png.txt").write_text(f"series:s{number % 3}\nsolo\n")
    for script, *more in (
        ("dataset_hardcore_mapper.py", "--library", "pictures"),
        ("advanced_joytag_processing.py", *STAGES["extraction"][1]),
        ("train_series_classifier_images.py",),
        ("find_mistagged_images.py",),
    ):
        subprocess.run([sys.executable, PROJECT / script, "--data-dir", "data", *more], cwd=root, check=True)


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("beginning")
    (root / "data").mkdir()
    drawn(root) if ALL else made_up(root)
    return root


@pytest.mark.parametrize("how", HOWS if ALL else ["kill"])
@pytest.mark.parametrize("stage", STAGES if ALL else ["mistagged"])
def test_a_stage_that_ends_anywhere_leaves_whole_files_and_the_next_run_finishes(
    beginning: Path, tmp_path: Path, stage: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(beginning)
    monkeypatch.setattr(files, "SETTLED_SECONDS", 0)
    module, options = STAGES[stage]
    folder = DataFolder(tmp_path / "data")

    def work() -> None:
        assert module.main(["--data-dir", str(folder.root), *options]) == 0

    def reset() -> None:
        shutil.rmtree(folder.root, ignore_errors=True)
        shutil.copytree(beginning / "data", folder.root)
        if module is EXTRACT:
            for made in ("advanced_embeddings", "datasets"):
                shutil.rmtree(folder.root / made)

    reset()
    assert in_child(work)[0] == 0
    expected = outcome(folder, module)
    reset()
    for point in points(work, reset, seed=5, few=1):
        assert in_child(work, point, how)[0] in HOWS[how], point
        outcome(folder, module)
        assert in_child(work)[0] == 0, point
        assert outcome(folder, module) == expected, point
        assert not list(folder.root.rglob(".*.tmp")), "an orphaned temporary file"
        reset()


def outcome(folder: DataFolder, module: Any) -> Any:
    """What the newest files hold, every file being whole: those of a report, of a classifier, or embeddings and records."""
    for kind in (DATASET, MAPPING, *REPORTS.values()):
        for path in folder.files(kind):
            data_folder.load(path, kind)
    if module is EXTRACT:
        hashes = [hash for path in store.shard_paths(folder.embeddings) for hash in store._load_shard(path)["hashes"]]
        newest = folder.newest(DATASET)
        records = data_folder.load(newest, DATASET)["results"] if newest else []
        return sorted(hashes), records
    if module is TRAIN:
        classifier_files.load(folder, "series")
        return predicted(folder)[1]
    kind = REPORTS[module]
    newest = folder.newest(kind)
    document = data_folder.load(newest, kind) if newest else {}
    return {name: document.get(name) for name in kind.records}
