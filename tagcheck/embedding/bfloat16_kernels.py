"""Attention, and with AMX a whole network, in bfloat16: compiled from bfloat16_kernels.c when first wanted.

PyTorch leaves the products inside its attention to Intel's library, which knows bfloat16 on Intel's processors alone and
computes in float32 on others: a third of what AMD's can do. With AMX a network takes less than two thirds of PyTorch's time. Where
`kernels` gives None (no compiler, another processor, a wrong result), PyTorch stands in, slower and as exact.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from joytag.fast import FastViT, Folded
from joytag.Models import ChannelNorm, Stem, ViT
from tagcheck import c_library, memory

SOURCE = Path(__file__).with_name("bfloat16_kernels.c")
WIDE = 64  # numbers of a head, and the fewest tokens, that the kernels compute
FEWEST_TOKENS = 6


class Kernels:
    """The loaded library. `works` is false where the processor cannot run it or it is wrong; `tiles` says whether `stem` and
    `blocks` can be had."""

    def __init__(self, path: Path) -> None:
        """Raises OSError or AttributeError for what is no such library."""
        loaded = ctypes.CDLL(str(path))
        self.works = self.tiles = False
        if loaded.tagcheck_attention_works():
            self._attention, self._blocks = loaded.tagcheck_attention, loaded.tagcheck_blocks
            self._convolution = loaded.tagcheck_convolution
            at, number = ctypes.c_void_p, ctypes.c_int64
            self._attention.argtypes = [at, at, number, number, number]
            self._blocks.argtypes = [at, number, number, number, at, number, ctypes.c_float]
            self._convolution.argtypes = [ctypes.POINTER(_Convolution), at, at]
            self.works = _attention_is_right(self.attention)
            self.tiles = bool(loaded.tagcheck_tiles_work()) and _network_is_right(self)

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

    def stem(self, stem: nn.Module) -> Callable[[Tensor], Tensor]:
        """As `joytag.fast.Kernels` says, by one thread. Pixels are rounded to bfloat16 before each convolution that a norm is
        before, its weights are the sum of two such numbers.
        """
        left = list(stem.conv) if isinstance(stem, Stem) else [stem]
        steps: list[Callable[[Tensor], Tensor]] = []
        while left:
            match left:
                case [ChannelNorm() as norm, nn.ReLU(), nn.Conv2d() as conv, *rest] if _known(conv):
                    steps.append(self._convolved(norm.norm, conv))
                case [step, *rest]:
                    steps.append(step)
            left = rest

        def through(x: Tensor) -> Tensor:
            for step in steps:
                x = step(x)
            return x

        return through

    def _convolved(self, norm: nn.LayerNorm, conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        (kernel, _), (stride, _), (padding, _) = conv.kernel_size, conv.stride, cast(tuple[int, int], conv.padding)
        flat = conv.weight.permute(0, 2, 3, 1).flatten(1)
        rounded = flat.bfloat16()
        weights = _packed(torch.cat([rounded, flat - rounded], dim=1))
        bias = conv.bias if conv.bias is not None else torch.zeros(conv.out_channels)
        kept = norm.weight, norm.bias, bias, weights

        def through(x: Tensor) -> Tensor:
            x = x.permute(0, 2, 3, 1).contiguous()
            pictures, height, width, channels = x.shape
            high, wide = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
            sizes = height, width, channels, kernel, stride, padding, conv.out_channels, norm.eps
            task = _Convolution(*(one.data_ptr() for one in kept), *sizes)
            out = torch.empty(pictures * high * wide + 31, conv.out_channels)
            for number, picture in enumerate(x):
                if not self._convolution(task, picture.data_ptr(), out[number * high * wide :].data_ptr()):
                    raise MemoryError("no memory for the network's stem")
            return out[:-31].view(pictures, high, wide, -1).permute(0, 3, 1, 2)

        return through

    def blocks(self, layers: list[Folded], heads: int, eps: float) -> Callable[[Tensor], Tensor]:
        """As `joytag.fast.Kernels` says, by one thread; heads of `WIDE` numbers, and a hidden layer of a multiple of 32."""
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


class _Convolution(ctypes.Structure):
    _fields_ = (
        *[(name, ctypes.c_void_p) for name in ("gain", "offset", "bias", "weights")],
        *[(name, ctypes.c_int64) for name in ("height", "width", "channels", "kernel", "stride", "padding", "columns")],
        ("eps", ctypes.c_float),
    )


def _known(conv: nn.Conv2d) -> bool:
    """Whether the kernel knows such a convolution."""
    alike = all(len(set(size)) == 1 for size in (conv.kernel_size, conv.stride, conv.padding))
    return alike and conv.in_channels % 32 == 0 and conv.out_channels % 32 == 0


def _packed(weight: Tensor) -> Tensor:
    """A layer's weights (o, i) as the tiles take them: 32 outputs, 32 inputs, 16 outputs, pair of inputs, output: the pair."""
    outputs, inputs = weight.shape
    tiles = weight.bfloat16().view(outputs // 32, 2, 16, inputs // 32, 16, 2)
    return tiles.permute(0, 3, 1, 4, 2, 5).contiguous()


@cache
def kernels() -> Kernels | None:
    """The kernels, compiled if need be; None where this machine cannot have them."""
    made = c_library.loaded(SOURCE, "bfloat16", Kernels) if memory.multiplies_bfloat16(torch.cpu) else None
    return made if made is not None and made.works else None


def _attention_is_right(attention: Callable[[Tensor, int], Tensor]) -> bool:
    """Whether it agrees with the formula on numbers that fill no tile: a compiler's or a processor's fault must change no result."""
    b, n, heads = 2, 85, 2
    numbers = torch.randn(b, n, 3 * heads * WIDE, generator=torch.Generator().manual_seed(0))
    qkv = (2 * numbers).bfloat16()
    q, k, v = qkv.double().view(b, n, 3, heads, WIDE).permute(2, 0, 3, 1, 4)  # each (b, heads, n, 64)
    right = ((q @ k.transpose(-1, -2) / WIDE**0.5).softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1)
    return bool(((attention(qkv, heads).double() - right).abs() <= 0.01 + 0.01 * right.abs()).all())


@torch.inference_mode()
def _network_is_right(made: Kernels) -> bool:
    """Whether a small network computed so is nearly the one in float32."""
    stem = "conv:c=32;ln;relu;conv:c=64;ln;relu;conv:c=128"
    sizes = {"image_size": 72, "patch_size": 8, "d_model": 128, "mlp_dim": 192, "num_heads": 2, "num_blocks": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ViT.from_config({**sizes, "n_tags": 1, "cnn_stem": stem, "layerscale_init": 1.0})
        pixels = torch.randint(0, 256, (1, 3, 72, 72), dtype=torch.uint8)
    both = FastViT(network, torch.bfloat16, kernels=made), FastViT(network, torch.float32)
    ours, right = (one.through(one.tokens(pixels)) for one in both)
    return bool((ours - right).norm() < 0.01 * right.norm())
