"""The compiled attention is the formula, on every number of tokens, and nothing hangs on whether it can be had."""

from __future__ import annotations

import math

import pytest
import torch

from joytag.fast import FastViT, attend
from joytag.Models import ViT, normalise
from tagcheck.embedding import bfloat16_attention, joytag_network

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
def compiled() -> bfloat16_attention.Attention:
    if bfloat16_attention.kernel() is None:
        pytest.skip("no C compiler, or a processor without bfloat16")
    return bfloat16_attention.kernel()


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


def test_the_network_with_it_is_as_exact_and_a_picture_s_bits_its_own(compiled):
    torch.manual_seed(0)
    network = ViT(**HEADS_OF_64, layerscale_init=1.0).eval()
    pixels = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    fast = FastViT(network, torch.bfloat16, attention=compiled)
    with torch.inference_mode():
        exact, ours, theirs = (
            network.features(normalise(pixels)),
            fast(pixels),
            FastViT(network, torch.bfloat16)(pixels),
        )
    assert (ours - exact).norm() < 1.2 * (theirs - exact).norm() and not torch.equal(ours, theirs)
    assert torch.equal(torch.cat([fast(one) for one in pixels.split(2)]), ours)


def test_it_is_taken_in_bfloat16_on_a_processor_that_has_it_and_nowhere_else(monkeypatch):
    marker = object()
    monkeypatch.setattr(bfloat16_attention, "kernel", lambda: marker)
    network, cpu = ViT(**HEADS_OF_64), torch.device("cpu")
    assert joytag_network.fast_attention(network, cpu, "bfloat16") is marker
    assert joytag_network.fast_attention(network, cpu, "float32") is attend
    assert joytag_network.fast_attention(network, torch.device("cuda"), "bfloat16") is attend
    for other in ({"num_heads": 4}, {"image_size": 32}):  # heads of 32 numbers; four tokens
        assert joytag_network.fast_attention(ViT(**HEADS_OF_64 | other), cpu, "bfloat16") is attend
    monkeypatch.setattr(bfloat16_attention, "kernel", lambda: None)
    assert joytag_network.fast_attention(network, cpu, "bfloat16") is attend
    for capable, wanted in (
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": True, "amx_bf16": True}, True),
        ({"avx2": True}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capable=capable: capable, raising=False)
        assert bfloat16_attention._wanted() == wanted


def test_without_a_compiler_there_is_none_and_a_damaged_library_is_out_of_the_way(compiled, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
        bfloat16_attention.kernel.cache_clear()
        assert bfloat16_attention.kernel() is None
        monkeypatch.delenv("CC")
        bfloat16_attention.kernel.cache_clear()
        assert bfloat16_attention.kernel() is not None
        (library,) = (tmp_path / "tagcheck").iterdir()
        damaged = (
            tmp_path / "other" / "tagcheck" / library.name
        )  # elsewhere, since a loaded library is not loaded again
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(library.read_bytes()[:200])
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
        bfloat16_attention.kernel.cache_clear()
        assert bfloat16_attention.kernel() is None and not damaged.exists()
    finally:
        bfloat16_attention.kernel.cache_clear()


def test_a_kernel_that_computes_something_else_is_not_taken(compiled, monkeypatch):
    assert bfloat16_attention._is_right(compiled)
    assert not bfloat16_attention._is_right(lambda qkv, heads: compiled(qkv, heads) * 1.02)
    assert not bfloat16_attention._is_right(lambda qkv, heads: compiled(qkv.flip(1), heads))
