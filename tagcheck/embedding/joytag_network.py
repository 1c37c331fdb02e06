"""JoyTag's network: its files, its weights, and how it is computed on this machine."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from joytag.fast import FastViT
from joytag.Models import Block, ViT
from tagcheck import json_files, memory
from tagcheck.embedding import bfloat16_kernels
from tagcheck.embedding.store import TagHead
from tagcheck.errors import BadFile, MissingInput
from tagcheck.json_files import flag, number, record, text, whole
from tagcheck.pictures import Recipe

HEAD = ("head.weight", "head.bias")
WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "config.json", "top_tags.txt"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Bounds of a network that is made at all; what is beyond them is a mistake, or meant to fill the memory.
CONFIG_SHAPE = record(
    optional={
        "image_size": whole(1, 2048),
        "patch_size": whole(1, 1024),
        "d_model": whole(1, 8192),
        "mlp_dim": whole(1, 65536),
        "num_heads": whole(1, 256),
        "num_blocks": whole(1, 128),
        "n_tags": whole(1, 1_000_000),
        "cnn_stem": text(2_000),
        "use_sine": flag,
        "stochdepth_rate": number(0, 1),
        "layerscale_init": number(0, 1),
    }
)
EXTRA_HEAD_ROWS = 9  # old checkpoints have this many rows after the tags
# Operations a picture below which threads of one network wait more than they compute, decoders beside them.
SMALL_WORK = 5e9


@dataclass(frozen=True)
class Published:
    """A model folder's files, read and checked: the network in float32, its tags, its weights' SHA-256."""

    network: ViT
    tags: list[str]
    sha256: str


class JoyTagNetwork:
    """JoyTag ready to compute. Fulfils `Network`."""

    name = "JoyTag"

    def __init__(self, published: Published, device: torch.device, precision: str) -> None:
        network = published.network
        self.device, self.precision = device, precision
        self.sha256, self.id = published.sha256, model_id(published.sha256, precision)
        self.recipe, self.dim, self.tags = Recipe(network.image_size), network.d_model, published.tags
        # About how many operations a picture takes: every parameter meets every token once.
        work = 2.0 * sum(one.numel() for one in network.parameters()) * len(network.pos_embedding.table)
        self.threads = 1 if work < SMALL_WORK else torch.get_num_threads()
        self.lanes = self.threads if device.type == "cpu" else 1
        self.notes: list[str] = []
        head = network.head
        weight, bias = (one.detach().float().numpy() for one in (head.weight, head.bias))
        self.head = TagHead(self.tags, weight, bias, self.id)
        self._fast = fast_network(network, device, precision)

    def compute(self, pixels: Tensor) -> Tensor:
        """As `Network` says; from pinned memory a batch travels by itself, and nothing is waited for."""
        return cast(Tensor, self._fast(pixels.to(self.device, non_blocking=pixels.is_pinned())))


def fast_precision(device: torch.device) -> str:
    """bfloat16 where the device computes it natively, else float32."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and memory.multiplies_bfloat16(torch.cpu) else "float32"


def fast_network(network: ViT, device: torch.device, precision: str) -> FastViT:
    """`network` as it is computed here: by our own kernels where they know such a one and are the faster, else by PyTorch."""
    block = cast(Block, network.blocks[0]) if len(network.blocks) else None
    known = block is not None and network.d_model == block.num_heads * bfloat16_kernels.WIDE
    kernels = bfloat16_kernels.kernels() if known and device.type == "cpu" and precision == "bfloat16" else None
    if kernels is None or block is None or len(network.pos_embedding.table) < bfloat16_kernels.FEWEST_TOKENS:
        return FastViT(network, PRECISIONS[precision], device)
    whole = kernels.tiles and block.mlp.linear1.out_features % 32 == 0
    return FastViT(network, PRECISIONS[precision], device, kernels.attention, kernels if whole else None)


def model_id(sha256: str, precision: str) -> str:
    """The id of these weights computed at this precision."""
    return f"joytag-{sha256[:12]}-{precision}"


def read_folder(folder: Path) -> Published:
    """Read and check the three files of a model folder."""
    for name in (WEIGHTS, CONFIG, VOCABULARY):
        if not (folder / name).is_file():
            below = sorted({path.parent.name for path in folder.glob("*/*.onnx")})
            raise MissingInput(
                f"no {name} in {folder}: a model folder holds {WEIGHTS}, {CONFIG} and {VOCABULARY}, "
                "as fancyfeast/joytag publishes them; another tagger's holds its .onnx file and its list of tags"
                + (f" (there are some below, in {', '.join(below[:5])})" if below else "")
            )
    config = json_files.read(folder / CONFIG, CONFIG_SHAPE, "get it again")
    try:
        with torch.device("meta"):  # shapes alone: a false configuration asks for no memory
            network = ViT.from_config(config)
    except (ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise BadFile(f"{folder / CONFIG} cannot be used: {error}") from None
    tags = read_vocabulary(folder / VOCABULARY, network.n_tags)
    load_weights(network, folder / WEIGHTS)
    with open(folder / WEIGHTS, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Published(network.eval().requires_grad_(False), tags, digest)


def read_vocabulary(path: Path, count: int) -> list[str]:
    """The tags' names in the order of the head's rows, one a line. Raises `BadFile` when there are not `count` different ones."""
    try:
        names = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    tags = [name.strip() for name in names if name.strip()]
    if len(tags) != count:
        raise BadFile(f"{path} has {len(tags)} tags, the network has {count}: it belongs to other weights")
    if len(set(tags)) != count:
        twice = next(tag for tag in tags if tags.count(tag) > 1)
        raise BadFile(f"{path} names {twice!r} twice")
    return tags


def load_weights(network: ViT, path: Path) -> None:
    """Fill `network` strictly from a safetensors file of any floating-point type.

    Raises `BadFile` naming the file and what is missing, too much or of another shape. The head of
    an old checkpoint may have `EXTRA_HEAD_ROWS` more rows than there are tags; they are left out.
    """
    try:
        with safe_open(path, "pt") as file:
            _compare(network, {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, path)  # noqa: SIM118
            found = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise BadFile(f"{path} is not a whole safetensors file ({error}): get it again") from None
    if broken := [name for name, one in found.items() if not one.sum().isfinite()]:
        raise BadFile(f"{path} holds no finite numbers in {broken[0]}: get it again")
    for name in HEAD:
        found[name] = found[name][: network.n_tags]
    network.load_state_dict(found, strict=True, assign=True)


def _compare(network: ViT, found: dict[str, tuple[int, ...]], path: Path) -> None:
    """Hold the shapes that `network` has against those in a file, before any number is read. Raises `BadFile`."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in HEAD:
        if name in found and name in wanted and found[name][:1] == (wanted[name][0] + EXTRA_HEAD_ROWS,):
            found[name] = wanted[name][:1] + found[name][1:]
    wrong = [f"no {name}" for name in wanted if name not in found]
    wrong += [f"an unknown {name}" for name in found if name not in wanted]
    wrong += [
        f"{name} of shape {found[name]} instead of {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise BadFile(f"{path} does not fit {path.with_name(CONFIG).name} beside it: {', '.join(wrong[:3])}{more}")
