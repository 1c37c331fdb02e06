"""A tagger, loaded once: pictures -> embeddings, and the head that turns an embedding into tag probabilities.

That is JoyTag, or the ONNX tagger of a folder with a `tagger.json` (`onnx_network`). The id of a tagger
names its weights and its precision, so that embeddings of different ones never mix.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from tagcheck.embedding import download, joytag_network, published_layouts, tagger_json
from tagcheck.embedding.joytag_network import PRECISIONS, JoyTagNetwork, fast_precision, model_id, read_folder
from tagcheck.embedding.onnx_network import OnnxNetwork
from tagcheck.embedding.store import TagHead
from tagcheck.embedding.tagger_json import Descriptor
from tagcheck.errors import UsageError
from tagcheck.pictures import Recipe, preparation

BATCHES = {"cuda": 256, "mps": 32}  # pictures at once


class Network(Protocol):
    """What a tagger computes with: JoyTag's network here, or `onnx_network.OnnxNetwork`.

    `tags` are V names as the tagger spells them, and `head` their linear layer, None where the network has
    none. `lanes` batches are best computed beside each other, each by one thread of the processor; with 1 the
    network sees to its `threads` itself, as on a GPU. `notes` are what a person should know about the choice.
    """

    name: str
    sha256: str
    id: str
    recipe: Recipe
    dim: int
    tags: list[str]
    threads: int
    lanes: int
    device: torch.device
    notes: list[str]

    @property
    def precision(self) -> str: ...

    @property
    def head(self) -> TagHead | None: ...

    def compute(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, S, S) on the processor -> float32 (b, dim). Raises torch.OutOfMemoryError."""


class Tagger:
    """A network ready to embed. Made by `load`.

    `ahead` is how many batches may be on their way while the next is gathered: on a GPU one, on a processor one in
    each lane; none where there is but one thread, which has nothing to compute beside.
    """

    def __init__(self, network: Network, batch_size: int) -> None:
        self.network, self.batch_size = network, batch_size
        self.device, self.precision, self.threads = network.device, network.precision, network.threads
        self.id, self.sha256, self.dim, self.tags = network.id, network.sha256, network.dim, network.tags
        self.recipe, self.image_size, self.preprocess_id = network.recipe, network.recipe.size, network.recipe.id
        aside = self.device.type != "cpu"  # the processor is free beside it
        self.decoders = os.cpu_count() or 1 if aside else max(2, -(-network.lanes // 4))
        self.ahead = 1 if aside else network.lanes if network.lanes > 1 else 0
        several = network.lanes > 1
        self._lanes = ThreadPoolExecutor(network.lanes, "lane", torch.set_num_threads, (1,)) if several else None

    def describe(self) -> dict[str, Any]:
        """What the dataset file says about the model."""
        return {
            "id": self.id,
            "name": self.network.name,
            "weights_sha256": self.sha256,
            "precision": self.precision,
            "preprocess": self.preprocess_id,
            "dim": self.dim,
            "tags": len(self.tags),
            "device": str(self.device),
        }

    def sentence(self) -> str:
        """What was chosen, for people."""
        where = device_name(self.device) or f"the processor (threads: {self.threads})"
        said = f"{self.network.name} {self.sha256[:12]} on {where}: {self.precision}, batches of {self.batch_size}"
        return "; ".join([said, *self.network.notes])

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (3, S, S) each, as `preparation.prepare` makes them -> float32 (b, d), not L2-normalised."""
        starts = range(0, len(pictures), self.batch_size)
        begun = [self.begin(pictures[start : start + starts.step]) for start in starts]
        return np.concatenate([one.rows() for one in begun])

    def begin(self, pictures: Sequence[np.ndarray]) -> Begun:
        """One batch as `embed` takes it; where the tagger has an `ahead`, it is computed while the caller gathers the next."""
        pixels = self._pixels(pictures)
        if self._lanes:
            future = self._lanes.submit(self._compute, pixels)
            return Begun(future.result, future.cancel)
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            return Begun.of(self._compute(pixels))
        finally:
            torch.set_num_threads(threads)

    def _compute(self, pixels: Tensor) -> Tensor:
        return torch.cat(list(self._computed(pixels)))

    def _pixels(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """The pictures as one tensor; for a GPU in pinned memory, which it can fetch from by itself."""
        side, first = self.image_size, pictures[0]
        if first.dtype != np.uint8 or first.shape != (3, side, side):
            raise ValueError(f"pictures of {first.dtype} {first.shape}, not uint8 (3, {side}, {side})")
        rows = torch.empty((len(pictures), side, side, 3), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        preparation.batch(pictures, rows.numpy())  # into the tensor's own memory
        return rows.permute(0, 3, 1, 2)

    def _computed(self, pixels: Tensor) -> Iterator[Tensor]:
        """The embeddings a batch at a time; where a batch does not fit the device's memory, it is halved from there on."""
        at = 0
        while at < len(pixels):
            part = pixels[at : at + self.batch_size]
            rows = None
            try:
                rows = self.network.compute(part)
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
            if rows is None:  # only out here is the memory free that the failed attempt held
                self.batch_size = (min(self.batch_size, len(part)) + 1) // 2
                torch.cuda.empty_cache()
            else:
                at += len(part)
                yield rows

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """(b, d) embeddings -> (b, n_tags) probabilities, 0 to 1, in the order of `tags`. Raises ValueError where it has no head."""
        head = self.network.head
        if head is None:
            raise ValueError(f"{self.network.name} has no head")
        return np.asarray(expit(embeddings @ head.weight.T + head.bias))


@dataclass(frozen=True)
class Begun:
    """Embeddings that may still be on their way: `wait` gives them, (b, d) on the processor; `cancel` gives them up."""

    wait: Callable[[], Tensor]
    cancel: Callable[[], object] = lambda: None

    @staticmethod
    def of(rows: Tensor) -> Begun:
        """What was computed, on its way to the processor: sent at once, since later it would wait for later batches too."""
        if rows.device.type != "cuda":
            return Begun(rows.cpu)
        held = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        held.copy_(rows, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def wait() -> Tensor:
            done.synchronize()
            return held

        return Begun(wait)

    def rows(self) -> np.ndarray:
        """float32 (b, d), waited for."""
        return self.wait().numpy()


def load(
    model_dir: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    keep: str | None = None,
) -> Tagger:
    """The tagger of a folder; without one JoyTag's, fetched at first use.

    A folder holds a tagger.json and what it names, a tagger in one of `published_layouts`, or model.safetensors,
    config.json and top_tags.txt as JoyTag publishes them. `precision` auto is that of `keep`, the id of a model that there are embeddings
    of, where it has the same weights, else what is fast on this machine. Raises `MissingInput` for a
    file that is not there, `BadFile` for one that is not what it should be, `UsageError` for a device
    or a precision that is not available.
    """
    chosen = choose_device(device)
    folder = Path(model_dir) if model_dir else download.ensure(download.FOLDER)
    described, text = describe(folder)
    if described is None:
        published = read_folder(folder)
        if precision == "auto":
            kept = [name for name in PRECISIONS if keep == model_id(published.sha256, name)]
            precision = kept[0] if kept else fast_precision(chosen)
        network: Network = JoyTagNetwork(published, chosen, precision)
    else:
        if device == "mps":
            raise UsageError("--device mps: ONNX taggers run on the processor on a Mac; use --device cpu")
        chosen = torch.device("cpu") if chosen.type == "mps" else chosen
        network = OnnxNetwork(folder, described, chosen, explicit=device == "cuda")
        if precision not in ("auto", network.precision):
            stored = f"{folder / described.model} computes in {network.precision}, as it was stored"
            raise UsageError(f"--precision {precision}: {stored}")
        if text:
            network.notes.append(f"recognised, as if {folder / tagger_json.FILE} said:\n{text}")
    overlooked = overlooked_gpu() if device == "auto" else None
    if overlooked:
        network.notes.append(f"THE GPU IS NOT USED: {overlooked}")
    return Tagger(network, batch_size or default_batch_size(network.device, network.lanes))


def describe(folder: Path) -> tuple[Descriptor | None, str]:
    """What an ONNX tagger's folder says of it, by its `tagger.json` or (with that as text) by the layout in which it was
    published; None for a folder in JoyTag's own.
    """
    described = tagger_json.read(folder)
    in_joytags = all((folder / name).is_file() for name in (joytag_network.WEIGHTS, joytag_network.VOCABULARY))
    if described is not None or in_joytags:
        return described, ""
    recognised = published_layouts.recognise(folder)
    return (None, "") if recognised is None else (recognised[1], recognised[0])


def overlooked_gpu() -> str | None:
    """Why an NVIDIA GPU that is in this machine is not used, or None where none is overlooked."""
    if torch.cuda.is_available() or not (os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi")):
        return None
    way_out = "install a build that fits the GPU's driver" if torch.version.cuda is None else "look at nvidia-smi"
    return f"{_no_cuda()}: {way_out}, or say --device cpu"


def _no_cuda() -> str:
    if torch.version.cuda is None:
        return "this PyTorch was built without CUDA"
    return f"PyTorch (CUDA {torch.version.cuda}) finds no usable GPU or driver"


def default_batch_size(device: torch.device, lanes: int) -> int:
    """Pictures at once that keep the device busy and fit its memory; in lanes few, which is as fast and sooner at an end."""
    return BATCHES.get(device.type, 2 if lanes > 1 else 8)


def choose_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one: NVIDIA's, else Apple's. Raises `UsageError` when one is asked for and cannot be used."""
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, here in usable.items() if here))
    if usable[device]:
        return torch.device(device)
    if device == "mps":
        raise UsageError("--device mps: PyTorch finds no GPU of Apple's here; use --device cpu")
    raise UsageError(
        f"--device cuda: {_no_cuda()}; use --device cpu, or install a PyTorch build that fits the GPU's driver"
    )


def device_name(device: torch.device) -> str:
    """What a GPU is called; "" for the processor."""
    apples = "Apple's GPU" if device.type == "mps" else ""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else apples
