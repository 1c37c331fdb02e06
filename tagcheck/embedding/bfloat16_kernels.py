"""Attention, and with AMX all blocks of a network, in bfloat16: compiled from bfloat16_kernels.c when first wanted.

PyTorch leaves the products inside its attention to Intel's library, which knows bfloat16 on Intel's processors alone and
computes in float32 on others: a third of what AMD's can do. With AMX the blocks take two thirds of PyTorch's time. Where
`kernels` gives None (no compiler, another processor, a wrong result), PyTorch stands in, slower and as exact.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from joytag.fast import FastViT, Folded
from joytag.Models import ViT
from tagcheck import c_library

SOURCE = Path(__file__).with_name("bfloat16_kernels.c")
WIDE = 64  # numbers of a head, and the fewest tokens, that the kernels compute
FEWEST_TOKENS = 6


class Kernels:
    """The loaded library. `works` is false where the processor cannot run it or it is wrong; `tiles` says whether `blocks` works."""

    def __init__(self, path: Path) -> None:
        """Raises OSError or AttributeError for what is no such library."""
        loaded = ctypes.CDLL(str(path))
        self.works = self.tiles = False
        if loaded.tagcheck_attention_works():
            self._attention, self._blocks = loaded.tagcheck_attention, loaded.tagcheck_blocks
            at, number = ctypes.c_void_p, ctypes.c_int64
            self._attention.argtypes = [at, at, number, number, number]
            self._blocks.argtypes = [at, number, number, number, at, number, ctypes.c_float]
            self.works = _attention_is_right(self.attention)
            self.tiles = bool(loaded.tagcheck_blocks_work()) and _blocks_are_right(self)

    def attention(self, qkv: Tensor, heads: int) -> Tensor:
        """Queries, keys and values, head by head (b, n, 3 d), bfloat16 and contiguous -> (b, n, d). One thread computes.

        A picture's result does not depend on those beside it. Raises ValueError for what the kernel does not know.
        """
        b, n, wide = qkv.shape
        if qkv.dtype != torch.bfloat16 or wide != 3 * heads * WIDE or n < FEWEST_TOKENS or not qkv.is_contiguous():
            raise ValueError(
                f"{qkv.dtype} {tuple(qkv.shape)} is not what {heads} heads of {WIDE} in bfloat16 are given"
            )
        out = torch.empty(b, n, wide // 3, dtype=torch.bfloat16)
        if not self._attention(qkv.data_ptr(), out.data_ptr(), b, n, heads):
            raise MemoryError("no memory for attention")
        return out

    def blocks(self, layers: list[Folded], heads: int, eps: float) -> Callable[[Tensor], Tensor]:
        """As `joytag.fast.Stack` says, by one thread; heads of `WIDE` numbers, and a hidden layer of a multiple of 32."""
        kept = [
            [_packed(weight) for weight, _ in one] + [bias.float().contiguous() for _, bias in one] for one in layers
        ]
        parts = torch.tensor([[tensor.data_ptr() for tensor in one] for one in kept])
        hidden = layers[0][2][0].shape[0]

        def through(x: Tensor, kept: object = kept) -> Tensor:
            x = x.contiguous()
            for picture in x:
                at = picture.data_ptr(), len(picture), heads, hidden, parts.data_ptr(), len(parts), eps
                if not self._blocks(*at):
                    raise MemoryError("no memory for the network's blocks")
            return x

        return through


def _packed(weight: Tensor) -> Tensor:
    """A layer's weights (o, i) as the tiles take them: 32 outputs, 32 inputs, 16 outputs, pair of inputs, output: the pair."""
    outputs, inputs = weight.shape
    tiles = weight.bfloat16().view(outputs // 32, 2, 16, inputs // 32, 16, 2)
    return tiles.permute(0, 3, 1, 4, 2, 5).contiguous()


@cache
def kernels() -> Kernels | None:
    """The kernels, compiled if need be; None where this machine cannot have them."""
    made = c_library.loaded(SOURCE, "bfloat16", Kernels) if _wanted() else None
    return made if made is not None and made.works else None


def _wanted() -> bool:
    """Whether this processor multiplies bfloat16."""
    capable = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # before PyTorch 2.10
    return bool(capable.get("avx512_bf16"))


def _attention_is_right(attention: Callable[[Tensor, int], Tensor]) -> bool:
    """Whether it agrees with the formula on numbers that fill no tile: a compiler's or a processor's fault must change no result."""
    b, n, heads = 2, 85, 2
    numbers = torch.randn(b, n, 3 * heads * WIDE, generator=torch.Generator().manual_seed(0))
    qkv = (2 * numbers).bfloat16()
    q, k, v = qkv.double().view(b, n, 3, heads, WIDE).permute(2, 0, 3, 1, 4)  # each (b, heads, n, 64)
    right = ((q @ k.transpose(-1, -2) / WIDE**0.5).softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1)
    return bool(((attention(qkv, heads).double() - right).abs() <= 0.01 + 0.01 * right.abs()).all())


@torch.inference_mode()
def _blocks_are_right(made: Kernels) -> bool:
    """Whether a small network computed so is nearly the one in float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ViT(
            image_size=72,
            patch_size=8,
            d_model=128,
            mlp_dim=192,
            num_heads=2,
            num_blocks=2,
            n_tags=1,
            layerscale_init=1.0,
        )
        x = torch.randn(1, 81, 128)
    ours, exact = FastViT(network, torch.bfloat16, stack=made.blocks), FastViT(network, torch.float32)
    right = exact.through(x.clone())
    return bool((ours.through(x.clone()) - right).norm() < 0.01 * (right - x).norm())
