"""The same function as `joytag.Models.ViT.features`, at the machine's speed: for computing, not for training.

What is rewritten, none of it changing what is computed beyond rounding:

- the gains and offsets of the layer norms and the layer scales are folded into the linear layers beside them;
- the stem's channels come last in memory, as its layer norms and the blocks after it want them;
- linear layers of one precision keep their weights packed for the processor, and the GELU is computed
  where the numbers already are (PyTorch's own oneDNN operators; without them, the ordinary ones);
- the stem, and what is added up over the blocks, stay in float32 also where the layers compute in
  bfloat16: a few percent of the time, and most of what bfloat16 would lose (docs/log.md);
- a kernel that is given may compute the attention, or all blocks;
- on a GPU in bfloat16, `torch.compile` makes one kernel of each addition and the layer norm after it, and of what is
  between the stem's convolutions. These take float16 there: TensorFloat-32's 10 bits, beside bfloat16's 7. The GELU is
  its tanh form, which the matrix product applies as it writes: within 5e-4 of the exact one, and bfloat16 rounds by more.
"""

import copy
from collections.abc import Callable
from functools import cache
from subprocess import SubprocessError
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from joytag.Models import Block, ViT, constants, normalise

Attend = Callable[[Tensor, int], Tensor]
# What follows a norm without gain, and precedes a sum without scale: qkv, out, linear1, linear2, each (weight, bias).
Folded = list[tuple[Tensor, Tensor]]


class Kernels(Protocol):
    """What may compute the whole network."""

    def stem(self, stem: nn.Module) -> Callable[[Tensor], Tensor]:
        """What computes as `stem` does, channels last."""

    def blocks(self, layers: list[Folded], heads: int, eps: float) -> Callable[[Tensor], Tensor]:
        """What takes a stream float32 (b, n, d) through all blocks, perhaps in place; `eps` is that of their norms."""


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
            how: tuple[str, list[float], str] = ("gelu", [], "none") if self.gelu else ("none", [], "")
            return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *how))
        if self.gelu and x.device.type == "cuda" and x.dtype == torch.bfloat16:
            y = torch._addmm_activation(self.bias, x.flatten(0, -2), self.weight.T, use_gelu=True)
            return cast(Tensor, y.unflatten(0, x.shape[:-1]))
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y) if self.gelu else y


def add_and_normalise(x: Tensor, more: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Add `more` to the stream `x` (b, n, d) in place; its layer norm, without gain and offset, in `dtype`."""
    x += more
    return F.layer_norm(x, x.shape[-1:], eps=eps).to(dtype)


class FastBlock(nn.Module):
    """`Models.Block` with everything folded. The stream stays in its own precision, the layers compute in theirs.

    What a block gives is added to the stream by the next one, together with that one's layer norm.
    """

    def __init__(self, block: Block, dtype: torch.dtype, attention: Attend) -> None:
        super().__init__()
        self.num_heads, self.dtype, self.attention = block.num_heads, dtype, attention
        self.eps = block.norm1.eps, block.norm2.eps
        self.join = add_and_normalise
        layers = [(weight.to(dtype), bias.to(dtype)) for weight, bias in folded(block)]
        self.qkv, self.out, self.linear1, self.linear2 = map(Linear, *zip(*layers), (False, False, True, False))

    def forward(self, x: Tensor, more: Tensor) -> Tensor:
        """The stream (b, n, d), added to in place, and what the block before gave (b, n, d) -> what this one gives."""
        y = self.join(x, more, self.eps[0], self.dtype)
        y = self.out(self.attention(self.qkv(y), self.num_heads))
        y = self.join(x, y, self.eps[1], self.dtype)
        return cast(Tensor, self.linear2(self.linear1(y)))


class FastViT(nn.Module):
    """Pixels -> embeddings, from a trained `ViT`, which is left as it is. `attention` computes what `attend` does, or
    `kernels` all of it.
    """

    def __init__(
        self,
        network: ViT,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        attention: Attend = attend,
        kernels: Kernels | None = None,
    ) -> None:
        super().__init__()
        device = torch.device(device)
        if device.type == "cuda" and dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # PyTorch's default for convolutions; its 10 bits are no float32
        network = copy.deepcopy(network).eval().requires_grad_(False).float().to(device)
        stem = network.patch_embeddings.to(memory_format=torch.channels_last)
        self.stem = kernels.stem(stem) if kernels else stem
        self.constants = constants(device)
        self.positions = network.pos_embedding.table
        blocks = [cast(Block, block) for block in network.blocks]
        self.blocks = nn.ModuleList(FastBlock(block, dtype, attention) for block in blocks if kernels is None)
        self.through: Callable[[Tensor], Tensor] = self.by_blocks
        if kernels and blocks:
            self.through = kernels.blocks(list(map(folded, blocks)), blocks[0].num_heads, blocks[0].norm1.eps)
        self.norm = network.norm
        self.start = self.tokens
        if device.type == "cuda" and dtype == torch.bfloat16:
            self._compile(network, device)

    def _compile(self, network: ViT, device: torch.device) -> None:
        """Let PyTorch make fewer kernels, where it can: it needs Triton and a C compiler."""
        pixels = torch.zeros(8, 3, network.image_size, network.image_size, dtype=torch.uint8, device=device)
        start, join = torch.compile(self.half_tokens), torch.compile(add_and_normalise)
        try:
            with torch.inference_mode():
                x = start(_of_any_length(pixels.contiguous(memory_format=torch.channels_last)))
                for more in (torch.zeros((), device=device).expand_as(x), x.bfloat16()):
                    join(_of_any_length(x.clone()), _of_any_length(more), 1e-5, torch.bfloat16)
        except (RuntimeError, OSError, ImportError, SubprocessError):
            return
        self.start = start
        for block in self.blocks:
            cast(FastBlock, block).join = join

    def tokens(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, S, S), 0 to 255, channels last -> float32 (b, n, d)."""
        x = normalise(pixels, self.constants)
        if x.device.type == "cpu" and isinstance(self.stem, nn.Module):
            # Some convolutions of small pictures add up in another order for several of them.
            x = torch.cat([self.stem(one) for one in x.split(1)])
        else:
            x = self.stem(x)
        tokens: Tensor = x.permute(0, 2, 3, 1).flatten(1, 2) + self.positions
        return tokens

    def half_tokens(self, pixels: Tensor) -> Tensor:
        """`tokens`, with convolutions in float16."""
        with torch.autocast(pixels.device.type, torch.float16):
            return self.tokens(pixels).float()

    def by_blocks(self, x: Tensor) -> Tensor:
        """The stream float32 (b, n, d) before all blocks -> after them."""
        more = torch.zeros((), dtype=x.dtype, device=x.device).expand_as(x)
        for block in self.blocks:
            more = block(x, more)  # (b, n, d)
        return x + more

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, S, S), 0 to 255 -> float32 (b, d)."""
        x = self.start(pixels.contiguous(memory_format=torch.channels_last))  # (b, n, d)
        return cast(Tensor, self.norm(self.through(x)).mean(dim=1))  # (b, d)


def folded(block: Block) -> Folded:
    """A block's linear layers with what lies beside them.

    With the gain g and offset o of the norm before: W(g x + o) + b = (W g) x + (W o + b). With the layer scale s behind:
    s (W x + b) = (s W) x + s b.
    """
    found: Folded = []
    norm: nn.LayerNorm | None
    for norm, linear, scale in (
        (block.norm1, block.qkv_proj, None),
        (None, block.out_proj, block.skip_init1.skip),
        (block.norm2, block.mlp.linear1, None),
        (None, block.mlp.linear2, block.skip_init2.skip),
    ):
        weight: Tensor = linear.weight
        bias: Tensor = linear.bias
        if norm is not None:
            weight, bias = weight * norm.weight, weight @ norm.bias + bias
        if scale is not None:
            weight, bias = weight * scale[:, None], bias * scale
        found.append((weight, bias))
    return found


def _of_any_length(x: Tensor) -> Tensor:
    """`x`, for which code is compiled that serves any number of pictures: another for each would take seconds."""
    torch._dynamo.mark_dynamic(x, 0)
    return x


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
