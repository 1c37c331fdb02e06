"""What only a graphics card can show: these run where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from joytag_folder import make_tiny_model_folder

from joytag.fast import FastViT
from joytag.Models import ViT
from tagcheck.embedding import tagger
from tagcheck.similar import pairs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card here")
SMALL = {
    "image_size": 64,
    "patch_size": 16,
    "d_model": 64,
    "mlp_dim": 128,
    "num_heads": 2,
    "num_blocks": 3,
    "n_tags": 9,
}
STEM = "conv:c=16;ln;relu;conv:c=24;ln;relu;conv:c=32;ln;relu;conv:c=48;ln;relu;conv:c=64,s=1,k=1,p=0"


@pytest.mark.parametrize("stem", [None, STEM])
@pytest.mark.parametrize("dtype, near", [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_the_card_computes_what_the_processor_does(stem, dtype, near):
    torch.manual_seed(0)
    network = ViT(**SMALL, cnn_stem=stem).eval()
    exact, on_card = FastViT(network, torch.float32), FastViT(network, dtype, "cuda")
    for count in (1, 5, 32):
        pixels = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8)
        torch.testing.assert_close(on_card(pixels.cuda()).cpu(), exact(pixels), atol=near, rtol=near)


def test_a_batch_beyond_the_cards_memory_is_halved_until_it_fits(tmp_path):
    model = tagger.load(make_tiny_model_folder(tmp_path / "model"), "cuda", "float32", batch_size=8192)
    pixels = np.random.default_rng(0).integers(0, 256, (8192, 3, model.image_size, model.image_size), dtype=np.uint8)
    expected = model.embed(pixels[:64])
    _, total = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + pixels.nbytes // 2) / total)
    try:
        found = model.embed(pixels)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert model.batch_size < 8192
    np.testing.assert_allclose(found[:64], expected, atol=1e-5)


def test_pairs_are_the_same_on_the_card():
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((400, 32)), 60, axis=0) + 0.35 * rng.standard_normal((24_000, 32))
    ours, theirs = (pairs.near_pairs(rows, 0.9, engine) for engine in ("auto", "torch"))
    assert len(ours) > 1000 and (ours.i == theirs.i).all() and (ours.j == theirs.j).all()
