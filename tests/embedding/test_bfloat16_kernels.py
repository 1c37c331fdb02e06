"""The compiled kernels are the formula, on every number of tokens, and nothing hangs on whether they can be had."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from joytag.fast import FastViT, attend
from joytag.Models import ViT, normalise
from tagcheck import memory
from tagcheck.embedding import bfloat16_kernels, joytag_network

HEADS_OF_64 = {
    "image_size": 64,
    "patch_size": 16,
    "d_model": 128,
    "mlp_dim": 64,
    "num_heads": 2,
    "num_blocks": 2,
    "n_tags": 5,
}


@pytest.fixture
def compiled() -> Callable[[torch.Tensor, int], torch.Tensor]:
    if bfloat16_kernels.kernels() is None:
        pytest.skip("no C compiler, or a processor without bfloat16")
    return bfloat16_kernels.kernels().attention


def formula(qkv: torch.Tensor, heads: int) -> torch.Tensor:
    """softmax(Q K^T / 8) V in float64, head by head."""
    rows = []
    for picture in qkv.double():
        q, k, v = (part.split(64, dim=1) for part in picture.chunk(3, dim=1))
        rows.append(torch.cat([(q[h] @ k[h].T / 8).softmax(1) @ v[h] for h in range(heads)], dim=1))
    return torch.stack(rows)


def numbers(b: int, n: int, heads: int, size: float = 1.5) -> torch.Tensor:
    return (size * torch.randn(b, n, 3 * 64 * heads, generator=torch.Generator().manual_seed(n))).bfloat16()


@pytest.mark.parametrize("n", [6, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 79, 95, 100, 112, 127, 128, 129, 196, 784])
def test_any_number_of_tokens_gives_the_formula_to_bfloat16_s_rounding(n, compiled):
    qkv = numbers(2, n, 3)
    right = formula(qkv, 3)
    off = (compiled(qkv, 3).double() - right).norm() / right.norm()
    assert off < 0.003 and off < 1.1 * (attend(qkv, 3).double() - right).norm() / right.norm()


def test_scores_far_apart_and_scores_all_alike_stay_numbers(compiled):
    apart = numbers(1, 40, 1, size=60.0)  # scores in the thousands: all weight on one key
    torch.testing.assert_close(compiled(apart, 1).double(), formula(apart, 1), atol=1e-6, rtol=0.01)
    alike = torch.ones(1, 50, 192).bfloat16()
    assert torch.equal(compiled(alike, 1), torch.ones(1, 50, 64).bfloat16())


def test_what_is_no_number_stays_none_and_in_its_head(compiled):
    qkv = numbers(1, 20, 2)
    qkv[0, 3, 128 + 5] = math.nan  # a key of the first head
    found = compiled(qkv, 2)
    assert found[0, :, :64].isnan().all() and found[0, :, 64:].isfinite().all()


def test_what_the_kernel_does_not_know_is_refused(compiled):
    for qkv, heads in (
        (numbers(1, 5, 1), 1),
        (numbers(1, 8, 1).float(), 1),
        (numbers(1, 8, 2), 4),
        (numbers(1, 8, 1)[:, ::2], 1),
    ):
        with pytest.raises(ValueError, match="is not what"):
            compiled(qkv, heads)


def computed(network: ViT) -> tuple[FastViT, FastViT]:
    """`network` in bfloat16 by all our kernels, and by PyTorch alone."""
    return joytag_network.fast_network(network, torch.device("cpu"), "bfloat16"), FastViT(network, torch.bfloat16)


STEM = {"cnn_stem": "conv:c=64;ln;relu;conv:c=64;ln;relu;conv:c=64;ln;relu;conv:c=128"}
SHAPES = [
    {"image_size": 160, "mlp_dim": 160},  # 100 tokens, a hidden layer that is not several times as wide
    {"image_size": 480, "num_blocks": 1, "mlp_dim": 256},  # 900 tokens, more than are multiplied at once
    {"num_blocks": 1, "mlp_dim": 68},  # which the blocks do not know
]


@pytest.mark.parametrize(
    ("by", "shape"), [("blocks", one) for one in (STEM, *SHAPES)] + [("attention", one) for one in SHAPES]
)
def test_the_network_with_them_is_as_exact_and_a_picture_s_bits_its_own(by, shape, compiled, monkeypatch):
    kernels = bfloat16_kernels.kernels()
    monkeypatch.setattr(kernels, "tiles", kernels.tiles and by == "blocks")
    torch.manual_seed(0)
    network = ViT(**HEADS_OF_64 | shape, layerscale_init=1.0).eval()
    for parameter in network.parameters():  # norms with gains and offsets too
        parameter.data += 0.05 * torch.randn(parameter.shape)
    size = network.image_size
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    fast, torchs = computed(network)
    with torch.inference_mode():
        exact, ours, theirs = network.features(normalise(pixels)), fast(pixels), torchs(pixels)
    assert (ours - exact).norm() < 1.2 * (theirs - exact).norm() and not torch.equal(ours, theirs)
    assert torch.equal(torch.cat([fast(one) for one in pixels.split(1)]), ours)


def test_they_are_taken_in_bfloat16_on_a_processor_that_has_it_and_nowhere_else(compiled, monkeypatch):
    network, cpu = ViT(**HEADS_OF_64), torch.device("cpu")

    def by(network: ViT, precision: str = "bfloat16") -> str:
        made = joytag_network.fast_network(network, cpu, precision)
        if made.through != made.by_blocks:
            return "blocks"
        return "torch" if made.blocks[0].attention is attend else "attention"

    kernels = bfloat16_kernels.kernels()
    monkeypatch.setattr(kernels, "tiles", False)
    assert by(network) == "attention" and by(network, "float32") == "torch"
    monkeypatch.setattr(kernels, "tiles", True)
    assert by(network) == "blocks" and by(ViT(**HEADS_OF_64 | {"mlp_dim": 72})) == "attention"
    for other in ({"num_heads": 4}, {"image_size": 32}):  # heads of 32 numbers; four tokens
        assert by(ViT(**HEADS_OF_64 | other)) == "torch"
    monkeypatch.setattr(bfloat16_kernels, "kernels", lambda: None)
    assert by(network) == "torch"
    for capable, wanted in (
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": True, "amx_bf16": True}, True),
        ({"avx2": True}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capable=capable: capable, raising=False)
        assert memory.multiplies_bfloat16(torch.cpu) == wanted


def test_without_a_compiler_there_is_none_and_a_damaged_library_is_out_of_the_way(compiled, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
        bfloat16_kernels.kernels.cache_clear()
        assert bfloat16_kernels.kernels() is None
        monkeypatch.delenv("CC")
        bfloat16_kernels.kernels.cache_clear()
        assert bfloat16_kernels.kernels() is not None
        (library,) = (tmp_path / "tagcheck").iterdir()
        # Elsewhere, since a loaded library is not loaded again.
        damaged = tmp_path / "other" / "tagcheck" / library.name
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(library.read_bytes()[:200])
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
        bfloat16_kernels.kernels.cache_clear()
        assert bfloat16_kernels.kernels() is None and not damaged.exists()
    finally:
        bfloat16_kernels.kernels.cache_clear()


def test_a_kernel_that_computes_something_else_is_not_taken(compiled, monkeypatch):
    right, kernels = bfloat16_kernels._attention_is_right, bfloat16_kernels.kernels()
    assert right(compiled)
    assert not right(lambda qkv, heads: compiled(qkv, heads) * 1.02)
    assert not right(lambda qkv, heads: compiled(qkv.flip(1), heads))
    if not kernels.tiles:
        pytest.skip("a processor without AMX")
    assert bfloat16_kernels._network_is_right(kernels)
    packed = bfloat16_kernels._packed
    monkeypatch.setattr(bfloat16_kernels, "_packed", lambda weight: packed(weight.flip(1)))
    assert not bfloat16_kernels._network_is_right(kernels)
