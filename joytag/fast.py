"""The same function as `joytag.Models.ViT.features`, at the machine's speed: for computing, not for training.

What is rewritten, none of it changing what is computed beyond rounding:

- the gains and offsets of the layer norms and the layer scales are folded into the linear layers beside them;
- the stem's channels come last in memory, as its layer norms and the blocks after it want them;
- linear layers of one precision keep their weights packed for the processor, and the GELU is computed
  where the numbers already are (PyTorch's own oneDNN operators; without them, the ordinary ones);
- the stem, and what is added up over the blocks, stay in float32 also where the layers compute in
  bfloat16: a few percent of the time, and most of what bfloat16 would lose (docs/log.md). On a GPU
  the stem's convolutions then have TensorFloat-32's 10 bits, beside bfloat16's 7.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from joytag.Models import Block, ViT, constants, normalise

Attend = Callable[[Tensor, int], Tensor]


def attend(qkv: Tensor, heads: int) -> Tensor:
    """Queries, keys and values, head by head (b, n, 3 d) -> what each token takes from all of them (b, n, d)."""
    b, n, wide = qkv.shape
    q, k, v = qkv.view(b, n, 3, heads, wide // 3 // heads).permute(2, 0, 3, 1, 4)  # each (b, heads, n, d/heads)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, wide // 3)


class Linear(nn.Module):
    """y = x W^T + b, then the exact GELU where asked for; any leading dimensions. Weights are packed where that is possible."""

    def __init__(self, weight: Tensor, bias: Tensor, gelu: bool = False) -> None:
        super().__init__()
        self.gelu = gelu
        self.packed = weight.device.type == "cpu" and _packing_works(weight.dtype)
        weight = weight.contiguous()
        # A packed weight is opaque to nn.Module's own bookkeeping (it cannot be cast or moved), and needs none here.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self.packed else weight
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., i) -> (..., o)."""
        if self.packed:
            how = ("gelu", [], "none") if self.gelu else ("none", [], "")
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *how)
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y) if self.gelu else y


class FastBlock(nn.Module):
    """`Models.Block` with everything folded. The stream stays in its own precision, the layers compute in theirs."""

    def __init__(self, block: Block, dtype: torch.dtype, attention: Attend) -> None:
        super().__init__()
        self.num_heads, self.dtype, self.attention = block.num_heads, dtype, attention
        self.eps = block.norm1.eps, block.norm2.eps
        self.qkv = _after_norm(block.norm1, block.qkv_proj, dtype)
        self.out = _before_scale(block.out_proj, block.skip_init1.skip, dtype)
        self.linear1 = _after_norm(block.norm2, block.mlp.linear1, dtype, gelu=True)
        self.linear2 = _before_scale(block.mlp.linear2, block.skip_init2.skip, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) -> the same tensor, added to in place."""
        d = x.shape[-1:]
        y = F.layer_norm(x, d, eps=self.eps[0]).to(self.dtype)  # (b, n, d)
        x += self.out(self.attention(self.qkv(y), self.num_heads))
        y = F.layer_norm(x, d, eps=self.eps[1]).to(self.dtype)  # (b, n, d)
        x += self.linear2(self.linear1(y))
        return x


class FastViT(nn.Module):
    """Pixels -> embeddings, from a trained `ViT`, which is left as it is. `attention` computes what `attend` does."""

    def __init__(
        self, network: ViT, dtype: torch.dtype, device: torch.device | str = "cpu", attention: Attend = attend
    ) -> None:
        super().__init__()
        if torch.device(device).type == "cuda" and dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # PyTorch's default for convolutions; its 10 bits are no float32
        network = copy.deepcopy(network).eval().requires_grad_(False).float().to(device)
        self.stem = network.patch_embeddings.to(memory_format=torch.channels_last)
        self.constants = constants(device)
        self.positions = network.pos_embedding.table
        self.blocks = nn.ModuleList(FastBlock(block, dtype, attention) for block in network.blocks)
        self.norm = network.norm

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, S, S), 0 to 255 -> float32 (b, d)."""
        x = self.stem(normalise(pixels.contiguous(memory_format=torch.channels_last), self.constants))
        x = x.permute(0, 2, 3, 1).flatten(1, 2) + self.positions  # (b, n, d), the channels being last already
        for block in self.blocks:
            x = block(x)  # (b, n, d)
        return self.norm(x).mean(dim=1)  # (b, d)


def _after_norm(norm: nn.LayerNorm, linear: nn.Linear, dtype: torch.dtype, gelu: bool = False) -> Linear:
    """A linear layer that takes in the norm's gain g and offset o: W(g x + o) + b = (W g) x + (W o + b)."""
    return Linear((linear.weight * norm.weight).to(dtype), (linear.weight @ norm.bias + linear.bias).to(dtype), gelu)


def _before_scale(linear: nn.Linear, scale: Tensor, dtype: torch.dtype) -> Linear:
    """A linear layer that takes in the layer scale s: s (W x + b) = (s W) x + s b."""
    return Linear((linear.weight * scale[:, None]).to(dtype), (linear.bias * scale).to(dtype))


@cache
def _packing_works(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has its packed linear operators for `dtype`, and they compute what the ordinary one does.

    They are what torch.compile makes of a linear layer on a CPU, and no public interface: so they are tried first.
    """
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    x, weight, bias = (torch.linspace(-1, 1, count, dtype=torch.float32).to(dtype) for count in (3 * 16, 16 * 16, 16))
    x, weight = x.view(3, 16), weight.view(16, 16)
    try:
        packed = torch.ops.mkldnn._linear_pointwise(
            x, torch.ops.mkldnn._reorder_linear_weight(weight), bias, "gelu", [], "none"
        )
    except (RuntimeError, AttributeError, TypeError):
        return False
    return torch.allclose(
        packed.float(), F.gelu(F.linear(x, weight, bias)).float(), atol=2e-2 if dtype == torch.bfloat16 else 1e-5
    )
