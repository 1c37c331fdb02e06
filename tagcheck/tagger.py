"""JoyTag, loaded once: pictures -> embeddings, and the head that turns an embedding into tag probabilities.

The id of a tagger names its weights and its precision, so that embeddings of different ones never mix.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from joytag.fast import FastViT
from joytag.Models import ViT
from tagcheck import images, weights
from tagcheck.embeddings import TagHead
from tagcheck.errors import BadFile, MissingInput, UsageError

WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "config.json", "top_tags.txt"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
EXTRA_HEAD_ROWS = 9  # old checkpoints have this many rows after the tags
SMALL_WORK = 5e9  # operations a picture below which threads of one network wait more than they compute, decoders beside them


@dataclass(frozen=True)
class Published:
    """A model folder's files, read and checked: the network in float32, its tags, its weights' SHA-256."""

    network: ViT
    tags: list[str]
    sha256: str


class Tagger:
    """A network ready to embed. Made by `load`."""

    def __init__(self, published: Published, device: torch.device, precision: str, batch_size: int) -> None:
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self.threads = 1 if _work(published.network) < SMALL_WORK else torch.get_num_threads()
        self.decoders = os.cpu_count() or 1 if device.type == "cuda" else 2
        self.tags = published.tags
        self.sha256 = published.sha256
        self.id = model_id(published.sha256, precision)
        self.dim, self.image_size = published.network.d_model, published.network.image_size
        self.preprocess_id = f"{images.PREPROCESS}-{self.image_size}"
        head = published.network.head
        self._head = TagHead(self.tags, head.weight.detach().float().numpy(), head.bias.detach().float().numpy(), self.id)
        self._network = FastViT(published.network, PRECISIONS[precision], device)

    def describe(self) -> dict[str, Any]:
        """What the dataset file says about the model."""
        return {
            "id": self.id,
            "name": "JoyTag",
            "weights_sha256": self.sha256,
            "precision": self.precision,
            "preprocess": self.preprocess_id,
            "dim": self.dim,
            "tags": len(self.tags),
            "device": str(self.device),
        }

    def tag_head(self) -> TagHead:
        """The last layer, which turns stored embeddings into probabilities without the pictures."""
        return self._head

    def sentence(self) -> str:
        """What was chosen, for people."""
        where = (
            torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"the processor (threads: {self.threads})"
        )
        return f"JoyTag {self.sha256[:12]} on {where}: {self.precision}, batches of {self.batch_size}"

    def embed(self, pictures: np.ndarray | Tensor | Sequence[Image.Image | np.ndarray]) -> np.ndarray:
        """uint8 (b, 3, S, S) as `images.prepare` makes them, or a list of PIL pictures or of such arrays without b.

        Returns their embeddings, float32 (b, d), not L2-normalised.
        """
        if isinstance(pictures, (list, tuple)):
            pictures = images.batch(
                [images.prepare(one, self.image_size) if isinstance(one, Image.Image) else one for one in pictures]
            )
        pixels = torch.as_tensor(pictures)
        if pixels.dtype != torch.uint8 or pixels.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(
                f"a batch of {pixels.dtype} {tuple(pixels.shape)}, not uint8 (b, 3, {self.image_size}, {self.image_size})"
            )
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            return torch.cat(list(self._computed(pixels))).cpu().numpy()
        finally:
            torch.set_num_threads(threads)

    def _computed(self, pixels: Tensor) -> Iterator[Tensor]:
        """The embeddings a batch at a time; where a batch does not fit the device's memory, it is halved from there on."""
        at = 0
        while at < len(pixels):
            part = pixels[at : at + self.batch_size]
            try:
                rows = self._network(self._on_device(part))
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
                self.batch_size = (self.batch_size + 1) // 2
                torch.cuda.empty_cache()
            else:
                at += len(part)
                yield rows

    def _on_device(self, pixels: Tensor) -> Tensor:
        """The batch where it is computed; to a GPU it travels as bytes, from pinned memory, while the one before is computed."""
        if self.device.type == "cpu":
            return pixels
        return pixels.pin_memory().to(self.device, non_blocking=True)

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """(b, d) embeddings -> (b, n_tags) probabilities, 0 to 1, in the order of `tags`."""
        return 1 / (1 + np.exp(-(embeddings @ self._head.weight.T + self._head.bias)))


def load(
    model_dir: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    keep: str | None = None,
) -> Tagger:
    """The tagger of a folder with model.safetensors, config.json and top_tags.txt; without one JoyTag's, fetched at first use.

    `precision` auto is that of `keep`, the id of a model that there are embeddings of, where it has
    the same weights, else what is fast on this machine. Raises `MissingInput` for a file that is not
    there, `BadFile` for one that is not what it should be, `UsageError` for a device that this
    machine does not have.
    """
    chosen = choose_device(device)
    published = read_folder(Path(model_dir) if model_dir else weights.ensure(weights.FOLDER))
    if precision == "auto":
        kept = [name for name in PRECISIONS if keep == model_id(published.sha256, name)]
        precision = kept[0] if kept else fast_precision(chosen)
    return Tagger(published, chosen, precision, batch_size or default_batch_size(chosen))


def fast_precision(device: torch.device) -> str:
    """bfloat16 where the device computes it natively, else float32."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if hasattr(torch.cpu, "get_capabilities"):
        capable = torch.cpu.get_capabilities()
        return "bfloat16" if capable.get("amx_bf16") or capable.get("avx512_bf16") else "float32"
    checks = [
        getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    ]  # before PyTorch 2.10
    return "bfloat16" if any(check() for check in checks if check) else "float32"


def default_batch_size(device: torch.device) -> int:
    """Pictures at once that keep the device busy and fit its memory."""
    return 256 if device.type == "cuda" else 8


def _work(network: ViT) -> float:
    """About how many operations one picture takes: every parameter meets every token once."""
    return 2.0 * sum(parameter.numel() for parameter in network.parameters()) * len(network.pos_embedding.table)


def model_id(sha256: str, precision: str) -> str:
    """The id of these weights computed at this precision."""
    return f"joytag-{sha256[:12]}-{precision}"


def choose_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises `UsageError` when a GPU is asked for and cannot be used."""
    if device == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda
        why = "this PyTorch was built without CUDA" if built is None else f"PyTorch (CUDA {built}) finds no usable GPU or driver"
        raise UsageError(f"--device cuda: {why}; use --device cpu, or install a PyTorch build that fits the GPU's driver")
    return torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")


def read_folder(folder: Path) -> Published:
    """Read and check the three files of a model folder."""
    for name in (WEIGHTS, CONFIG, VOCABULARY):
        if not (folder / name).is_file():
            raise MissingInput(
                f"no {name} in {folder}: a model folder holds {WEIGHTS}, {CONFIG} and {VOCABULARY}, "
                "as fancyfeast/joytag publishes them"
            )
    try:
        network = ViT.from_config(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise BadFile(f"{folder / CONFIG} cannot be used: {error}") from None
    tags = read_vocabulary(folder / VOCABULARY, network.n_tags)
    load_weights(network, folder / WEIGHTS)
    with open(folder / WEIGHTS, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Published(network.eval().requires_grad_(False), tags, digest)


def read_vocabulary(path: Path, count: int) -> list[str]:
    """The tags' names in the order of the head's rows, one a line. Raises `BadFile` when there are not `count` different ones."""
    try:
        names = path.read_text(encoding="utf-8").split("\n")
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
        found = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadFile(f"{path} is no whole safetensors file ({error}): get it again") from None
    for name in ("head.weight", "head.bias"):
        if name in found and len(found[name]) == network.n_tags + EXTRA_HEAD_ROWS:
            found[name] = found[name][: network.n_tags]
    wanted = network.state_dict()
    wrong = [f"no {name}" for name in wanted if name not in found]
    wrong += [f"an unknown {name}" for name in found if name not in wanted]
    wrong += [
        f"{name} of shape {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise BadFile(f"{path} does not fit {path.with_name(CONFIG).name} beside it: {', '.join(wrong[:3])}{more}")
    network.load_state_dict({name: tensor.float() for name, tensor in found.items()}, strict=True)
