"""Attention in bfloat16, compiled from bfloat16_attention.c when first wanted: faster than PyTorch's own.

PyTorch leaves the products inside its attention to Intel's library, which knows bfloat16 on Intel's processors alone and
computes in float32 on others: a third of what AMD's can do. With AMX ours is 1.5 times as fast. Where `kernel` gives None (no
compiler, another processor, a wrong result), PyTorch's attention stands in, slower and as exact.
"""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tagcheck import c_library

SOURCE = Path(__file__).with_name("bfloat16_attention.c")
WIDE = 64  # numbers of a head, and the fewest tokens, that the kernel computes
FEWEST_TOKENS = 6


class Attention:
    """The loaded library. `works` is false where the processor cannot run it or it is wrong."""

    def __init__(self, path: Path) -> None:
        """Raises OSError or AttributeError for what is no such library."""
        loaded = ctypes.CDLL(str(path))
        self._compute = loaded.tagcheck_attention
        self._compute.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3]
        self.works = bool(loaded.tagcheck_attention_works()) and _is_right(self)

    def __call__(self, qkv: Tensor, heads: int) -> Tensor:
        """Queries, keys and values, head by head (b, n, 3 d), bfloat16 and contiguous -> (b, n, d). One thread computes.

        A picture's result does not depend on those beside it. Raises ValueError for what the kernel does not know.
        """
        b, n, wide = qkv.shape
        if qkv.dtype != torch.bfloat16 or wide != 3 * heads * WIDE or n < FEWEST_TOKENS or not qkv.is_contiguous():
            raise ValueError(
                f"{qkv.dtype} {tuple(qkv.shape)} is not what {heads} heads of {WIDE} in bfloat16 are given"
            )
        out = torch.empty(b, n, wide // 3, dtype=torch.bfloat16)
        if not self._compute(qkv.data_ptr(), out.data_ptr(), b, n, heads):
            raise MemoryError("no memory for attention")
        return out


@cache
def kernel() -> Attention | None:
    """The kernel, compiled if need be; None where this machine cannot have it."""
    made = c_library.loaded(SOURCE, "attention", Attention) if _wanted() else None
    return made if made is not None and made.works else None


def _wanted() -> bool:
    """Whether this processor multiplies bfloat16."""
    capable = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # before PyTorch 2.10
    return bool(capable.get("avx512_bf16"))


def _is_right(attention: Attention) -> bool:
    """Whether it agrees with the formula on numbers that fill no tile: a compiler's or a processor's fault must change no result."""
    b, n, heads = 2, 85, 2
    numbers = torch.randn(b, n, 3 * heads * WIDE, generator=torch.Generator().manual_seed(0))
    qkv = (2 * numbers).bfloat16()
    q, k, v = qkv.double().view(b, n, 3, heads, WIDE).permute(2, 0, 3, 1, 4)  # each (b, heads, n, 64)
    right = ((q @ k.transpose(-1, -2) / WIDE**0.5).softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1)
    return bool(((attention(qkv, heads).double() - right).abs() <= 0.01 + 0.01 * right.abs()).all())
