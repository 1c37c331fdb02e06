"""JoyTag's network: a vision transformer with a convolutional stem, its features and its tag head apart.

Written against measurements of the network that fancyfeast published as JoyTag (Apache-2.0); the parameter names are
those of the published weights, so that they load with `strict=True`. The transformer is that of Dosovitskiy et al., "An
Image is Worth 16x16 Words" (2021), with the convolutional stem of Xiao et al. (2021), the sine positions of Beyer et
al. (2022), the layer scale of Touvron et al. (2021) and, in training, stochastic depth (Huang et al., 2016).

This is the plain network, for training and as the reference of exactness; `joytag.fast` computes the
same function at the machine's speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Mean and standard deviation of the three channels (0 to 1) that pictures are normalised by: CLIP's.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

MOST_NUMBERS = 1 << 26  # in the table of positions
# Keys of a configuration that change nothing in what a trained network computes. The head is linear,
# so that taking the mean over the tokens after it instead of before it is the same function.
IGNORED_KEYS = frozenset({"class", "loss_type", "patch_dropout", "head_mean_after"})


def constants(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """`MEAN` and `STD` as `normalise` takes them."""
    mean, std = (torch.tensor(one, device=device).view(1, 3, 1, 1) for one in (MEAN, STD))
    return mean, std


def normalise(pixels: Tensor, known: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Pixels (b, 3, S, S) of 0 to 255, any dtype -> the float32 input of `ViT`, same shape.

    `known` are the `constants` on the pixels' device; without them they are made, for which a GPU is waited for.
    """
    mean, std = known or constants(pixels.device)
    return (pixels.float() / 255 - mean) / std


class ViT(nn.Module):
    """Pictures -> one embedding each -> one logit for each tag; probability = sigmoid(logit).

    >>> network = ViT(image_size=32, patch_size=16, d_model=8, mlp_dim=16, num_heads=2, num_blocks=1, n_tags=5)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        d_model: int,
        mlp_dim: int,
        num_heads: int,
        num_blocks: int,
        n_tags: int,
        cnn_stem: str | None = None,
        use_sine: bool = True,
        stochdepth_rate: float = 0.0,
        layerscale_init: float | None = None,
    ) -> None:
        super().__init__()
        if (image_size // patch_size) ** 2 * d_model > MOST_NUMBERS:
            raise ValueError(f"image_size {image_size} and patch_size {patch_size} make too many tokens")
        if d_model % num_heads or (use_sine and (d_model % 4 or d_model < 8)) or image_size % patch_size:
            raise ValueError(
                f"d_model {d_model} must be a multiple of num_heads {num_heads} and of 4 (8 or more), "
                f"image_size {image_size} of patch_size {patch_size}"
            )
        side = image_size // patch_size
        if layerscale_init is None:
            layerscale_init = 0.1 if num_blocks <= 18 else 1e-5 if num_blocks <= 24 else 1e-6
        self.image_size, self.n_tags, self.d_model = image_size, n_tags, d_model
        self.patch_embeddings = Stem(cnn_stem) if cnn_stem else nn.Conv2d(3, d_model, patch_size, stride=patch_size)
        made, channels = image_size, 3
        for layer in self.patch_embeddings.modules():
            if isinstance(layer, nn.Conv2d):
                made = (made + 2 * int(layer.padding[0]) - layer.kernel_size[0]) // layer.stride[0] + 1
                channels = layer.out_channels
        if (made, channels) != (side, d_model):
            raise ValueError(f"its cnn_stem makes {made}² tokens of {channels} numbers, not {side}² of {d_model}")
        self.pos_embedding: SinePositions | LearnedPositions = (
            SinePositions(side, d_model) if use_sine else LearnedPositions(side, d_model)
        )
        self.blocks = nn.ModuleList(
            Block(d_model, mlp_dim, num_heads, layerscale_init, stochdepth_rate) for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, n_tags)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ViT:
        """The network that a `config.json` describes, with random parameters.

        Raises ValueError for another class, for keys that are missing and for keys that are not
        known: an unknown key might stand for another computation.
        """
        if config.get("class", "ViT") != "ViT":
            raise ValueError(f"its class is {config['class']!r}, only 'ViT' is known")
        try:
            return cls(**{key: value for key, value in config.items() if key not in IGNORED_KEYS})
        except TypeError as error:
            raise ValueError(
                f"its keys do not describe a network: {str(error).removeprefix('ViT.__init__() ')}"
            ) from None

    def features(self, image: Tensor) -> Tensor:
        """Normalised pictures, float (b, 3, S, S) -> their embeddings (b, d): the mean token, not L2-normalised."""
        x = self.patch_embeddings(image)  # (b, d, S/16, S/16)
        x = x.flatten(2).transpose(1, 2)  # (b, n, d), row by row
        x = self.pos_embedding(x)  # (b, n, d)
        for block in self.blocks:
            x = block(x)  # (b, n, d)
        return cast(Tensor, self.norm(x).mean(dim=1))  # (b, d)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised pictures, float (b, 3, S, S) -> logits (b, n_tags)."""
        return cast(Tensor, self.head(self.features(image)))


class Stem(nn.Module):
    """The convolutions in front, from a description like `conv:c=64;ln;relu;conv:c=128,k=1`.

    `conv` has c channels out, kernel k (3), stride s (2), padding p (1) and always a bias; `ln` is a
    layer norm over the channels of each pixel; `bn`, `relu` and `gelu` are what they are called.
    """

    def __init__(self, description: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for part in description.split(";"):
            name, _, text = part.partition(":")
            options = dict(option.split("=", 1) for option in text.split(",") if "=" in option)
            if name == "conv" and options.keys() <= {"c", "k", "s", "p"} and "c" in options:
                numbers = {"k": 3, "s": 2, "p": 1} | {key: int(value) for key, value in options.items()}
                if not (
                    1 <= numbers["c"] <= 8192
                    and 1 <= numbers["k"] <= 64
                    and 1 <= numbers["s"] <= 64
                    and 0 <= numbers["p"] <= 64
                ):
                    raise ValueError(f"its cnn_stem has a layer {part!r} beyond all bounds")
                layers.append(nn.Conv2d(channels, numbers["c"], numbers["k"], numbers["s"], numbers["p"]))
                channels = numbers["c"]
            elif name in ("ln", "bn", "relu", "gelu") and not text:
                made = {"ln": ChannelNorm, "bn": nn.BatchNorm2d}.get(name)
                layers.append(made(channels) if made else nn.ReLU() if name == "relu" else nn.GELU())
            else:
                raise ValueError(f"its cnn_stem has a layer {part!r} that is not known")
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(b, 3, S, S) -> (b, d, S/patch, S/patch)."""
        return cast(Tensor, self.conv(x))


class ChannelNorm(nn.Module):
    """A layer norm over the channels of each pixel, (b, c, h, w) -> the same shape; no copy where channels lie last in memory."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def sine_table(side: int, d_model: int) -> Tensor:
    """Fixed positions of a square of `side` x `side` tokens, row by row: float32 (side * side, d_model), -1 to 1.

    The first half of a row tells the column x, the second half the row y, each as sines and then
    cosines of d_model / 4 frequencies that fall geometrically from 1 to 1/10000.
    """
    cpu = torch.device("cpu")  # also in a network that is made on the meta device, as the weights' file has no table
    omega = 10_000.0 ** -(torch.arange(d_model // 4, dtype=torch.float64, device=cpu) / (d_model // 4 - 1))
    y, x = torch.meshgrid(torch.arange(side, device=cpu), torch.arange(side, device=cpu), indexing="ij")
    angles = [place.reshape(-1, 1) * omega for place in (x, y)]
    return torch.cat([function(angle) for angle in angles for function in (torch.sin, torch.cos)], dim=1).float()


class SinePositions(nn.Module):
    """Adds the sine table. No parameters, and nothing of it in the weights file."""

    table: Tensor

    def __init__(self, side: int, d_model: int) -> None:
        super().__init__()
        self.register_buffer("table", sine_table(side, d_model), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)."""
        return x + self.table


class LearnedPositions(nn.Module):
    """Adds a learned vector for each place."""

    def __init__(self, side: int, d_model: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(side * side, d_model)

    @property
    def table(self) -> Tensor:
        """(n, d), as `SinePositions.table`."""
        return self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)."""
        return x + self.table


class Block(nn.Module):
    """One pre-norm transformer block: attention, then an MLP, each times a learned scale and added to what came in."""

    def __init__(
        self, d_model: int, mlp_dim: int, num_heads: int, layerscale_init: float, stochdepth_rate: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(d_model)
        self.qkv_proj = nn.Linear(d_model, 3 * d_model)
        self.out_proj = nn.Linear(d_model, d_model)
        self.skip_init1 = LayerScale(d_model, layerscale_init)
        self.norm2 = nn.LayerNorm(d_model)
        self.mlp = MLP(d_model, mlp_dim)
        self.skip_init2 = LayerScale(d_model, layerscale_init)
        self.drop = StochasticDepth(stochdepth_rate)

    def attention(self, x: Tensor) -> Tensor:
        """Every token looks at every token: (b, n, d) -> (b, n, d)."""
        b, n, d = x.shape
        q, k, v = (
            self.qkv_proj(x).view(b, n, 3, self.num_heads, d // self.num_heads).permute(2, 0, 3, 1, 4)
        )  # each (b, heads, n, d/heads)
        x = F.scaled_dot_product_attention(q, k, v)  # (b, heads, n, d/heads)
        return cast(Tensor, self.out_proj(x.transpose(1, 2).reshape(b, n, d)))

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)."""
        x = x + self.drop(self.skip_init1(self.attention(self.norm1(x))))
        return cast(Tensor, x + self.drop(self.skip_init2(self.mlp(self.norm2(x)))))


class MLP(nn.Module):
    """Two linear layers with the exact (erf) GELU between them."""

    def __init__(self, d_model: int, mlp_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(d_model, mlp_dim)
        self.linear2 = nn.Linear(mlp_dim, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)."""
        return cast(Tensor, self.linear2(F.gelu(self.linear1(x))))


class LayerScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, d_model: int, init: float) -> None:
        super().__init__()
        self.skip = nn.Parameter(torch.full((d_model,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.skip


class StochasticDepth(nn.Module):
    """In training leaves out the branch of a picture with probability `rate`; otherwise does nothing."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * kept / (1 - self.rate)
