"""A tagger that comes as an ONNX file with a `tagger.json` beside it: pictures -> embeddings, and its tag head.

    pip install onnxruntime onnx     (MIT, Apache-2.0; onnxruntime-gpu where a GPU is to compute)

The head is looked for in the file: where the tags' output is a linear layer of the embedding, that
layer's weights are kept beside the embeddings, as JoyTag's are, and are held against what the
network itself answers before anything is embedded.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from tagcheck.embedding import tagger_json
from tagcheck.embedding.joytag_network import SMALL_WORK
from tagcheck.embedding.onnx_graph import Graph, Linear, package, with_output
from tagcheck.embedding.store import TagHead
from tagcheck.embedding.tagger_json import Descriptor, Names
from tagcheck.errors import BadFile, MissingInput, UsageError, short

NUMBERS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
PRECISIONS = {name: np.dtype(kind).name for name, kind in NUMBERS.items() if kind is not np.uint8}
PATCH = 16  # pixels a side that most networks take together, for guessing the work
# How far a probability of the head may be from the network's own.
NEAR = {"float32": 1e-3, "float64": 1e-3, "float16": 2e-2}
CHUNK = 1 << 20


class OnnxNetwork:
    """An ONNX tagger ready to compute. Fulfils `tagger.Network`."""

    lanes = 1  # onnxruntime has threads of its own, which compute a batch together

    def __init__(self, folder: Path, found: Descriptor, device: torch.device, explicit: bool) -> None:
        """`explicit`: the device was asked for by name. Raises `MissingInput`, `BadFile` or `UsageError`."""
        path = folder / found.model
        if not path.is_file():
            raise MissingInput(f"no {found.model} in {folder}: {tagger_json.FILE} names it as the network")
        data = path.read_bytes()
        graph = Graph(data, str(path), folder)
        beside = graph.beside(folder, found.model)
        self._found, self._path = found, path
        self._output = self._named_output(graph)
        linear = graph.last_linear(self._output)
        self._embedding = self._named_embedding(graph, linear)
        labels = tagger_json.read_labels(folder, found.labels)
        runtime = package("onnxruntime")
        self.device, providers, self.notes = _providers(runtime, device, explicit)
        self.threads = 1 if len(data) / 2 * (found.recipe.size / PATCH) ** 2 < SMALL_WORK else torch.get_num_threads()
        self.sha256 = _digest(memoryview(data), beside)
        if self._embedding not in graph.outputs:
            data = with_output(data, self._embedding)
        del graph  # as large as the file: gone before onnxruntime has its own
        self._session = _session(runtime, data, providers, self.threads, path, beside)
        self._failure = runtime.capi.onnxruntime_pybind11_state.RuntimeException
        self._input = self._only_input()
        types = {one.name: one.type for one in self._session.get_outputs()}
        self.precision = PRECISIONS.get(types[self._embedding], "")
        if not self.precision:
            raise BadFile(f"{path}: {self._embedding!r} holds {types[self._embedding]}, no floating-point numbers")
        self.name, self.recipe = found.name, found.recipe
        self.id = f"{found.name}-{found.fingerprint(self.sha256)[:12]}-{self.precision}"
        self._check(linear, labels)

    def _named_output(self, graph: Graph) -> str:
        name = self._found.output_name
        if name is not None:
            if name not in graph.outputs:
                raise BadFile(
                    f"{self._path} has no output {name!r}, only {', '.join(graph.outputs)}: correct output_name"
                )
            return name
        others = [one for one in graph.outputs if one != self._found.embedding]
        if len(others) != 1:
            raise BadFile(f"{self._path} has the outputs {', '.join(graph.outputs)}: name the tags' one as output_name")
        return others[0]

    def _named_embedding(self, graph: Graph, linear: Linear | None) -> str:
        name = self._found.embedding
        if name is not None:
            if name not in graph.maker:
                raise BadFile(f"{self._path} makes no tensor {name!r}: correct embedding in {tagger_json.FILE}")
            return name
        if linear is None:
            raise BadFile(
                f"{self._path}: {self._output!r} is not made by a linear layer, so where the embedding is has to be said "
                f"as embedding in {tagger_json.FILE}"
            )
        return linear.embedding

    def _only_input(self) -> Any:
        """The one input; its type and its four axes are what the descriptor says."""
        inputs = self._session.get_inputs()
        size = self._found.recipe.size
        wanted = {"NCHW": [3, size, size], "NHWC": [size, size, 3]}[self._found.layout]
        fits = len(inputs) == 1 and inputs[0].type in NUMBERS and len(inputs[0].shape) == 4
        if not fits or any(isinstance(one, int) and one != want for one, want in zip(inputs[0].shape[1:], wanted)):
            said = "; ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs)
            raise BadFile(
                f"{self._path} wants {said}, {tagger_json.FILE} describes one picture of {wanted}: correct size or layout"
            )
        if inputs[0].type == "tensor(uint8)" and self._found.scale_and_offset() != ((1.0,) * 3, (0.0,) * 3):
            raise BadFile(f"{self._path} wants bytes: range, mean and std have to be [0, 255], [0, 0, 0] and [1, 1, 1]")
        return inputs[0]

    def compute(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, S, S) -> float32 (b, d) on the processor. Raises torch.OutOfMemoryError where a GPU has too little."""
        return torch.from_numpy(self._run(pixels, [self._embedding])[0])

    def _run(self, pixels: Tensor, wanted: list[str]) -> list[np.ndarray]:
        """The outputs `wanted` as float32 (b, ...), in batches of the network's own where it has a fixed one."""
        given = self._input_of(pixels)
        fixed = self._input.shape[0] if isinstance(self._input.shape[0], int) else len(given)
        parts: list[list[np.ndarray]] = []
        for at in range(0, len(given), fixed):
            part = given[at : at + fixed]
            held = part
            if len(part) < fixed:
                held = np.concatenate([part, np.zeros((fixed - len(part), *part.shape[1:]), part.dtype)])
            try:
                found = self._session.run(wanted, {self._input.name: held})
            except self._failure as error:
                if "allocate memory" in str(error) or "out of memory" in str(error).lower():
                    raise torch.OutOfMemoryError(str(error).splitlines()[0]) from None
                raise
            parts.append([one[: len(part)].astype(np.float32) for one in found])
        rows = [np.concatenate(one) for one in zip(*parts)]
        return [
            one.reshape(one.shape[:2]) if one.ndim > 2 and one.size == one.shape[0] * one.shape[1] else one
            for one in rows
        ]

    def _input_of(self, pixels: Tensor) -> np.ndarray:
        """What the network wants to see of uint8 (b, 3, S, S)."""
        rows = pixels.cpu().numpy().transpose(0, 2, 3, 1)  # (b, S, S, 3), as they lie in memory
        scale, offset = (np.array(one, np.float32) for one in self._found.scale_and_offset())
        if self._found.colours == "BGR":
            rows, scale, offset = rows[..., ::-1], scale[::-1], offset[::-1]
        kind = NUMBERS[self._input.type]
        if kind is not np.uint8:
            rows = rows.astype(np.float32)
            if (scale != 1).any() or (offset != 0).any():
                rows = rows * scale + offset
        return np.ascontiguousarray(rows if self._found.layout == "NHWC" else rows.transpose(0, 3, 1, 2), dtype=kind)

    def _tried(self) -> list[np.ndarray]:
        """What the network makes of two pictures of noise: their embeddings and tags."""
        noise = np.random.default_rng(0).integers(0, 256, (2, self.recipe.size, self.recipe.size, 3), dtype=np.uint8)
        try:
            found = self._run(torch.from_numpy(noise.transpose(0, 3, 1, 2)), [self._embedding, self._output])
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # as in `_session`, and for outputs that are no arrays with an axis for pictures
            raise BadFile(f"{self._path} cannot compute two pictures ({short(error, 200)})") from None
        if not all(np.isfinite(one).all() for one in found):
            raise BadFile(f"{self._path} gives numbers that are not finite: get it again")
        return found

    def _check(self, linear: Linear | None, labels: Names) -> None:
        """Two pictures of noise through the network: are its outputs as it is said, and does the head give them?"""
        rows, said = self._tried()
        if rows.ndim != 2 or len(rows) != 2:
            raise BadFile(
                f"{self._path}: {self._embedding!r} has the shape {rows.shape} for two pictures, one row each is expected"
            )
        names, kept = labels.names, labels.kept
        if said.ndim != 2 or said.shape[1] != len(names):
            raise BadFile(
                f"{self._path} gives {said.shape[-1]} values for a picture, {self._found.labels.file} has {len(names)} tags: "
                "it belongs to another network, or is of another form"
            )
        if self._found.output == "probabilities" and (said.min() < 0 or said.max() > 1):
            raise BadFile(
                f"{self._path} gives {said.min():.2f} to {said.max():.2f}, no probabilities: output is logits"
            )
        self.dim = rows.shape[1]
        self.tags = [names[place] for place in kept]
        twice = {name for name, times in Counter(self.tags).items() if times > 1}
        if twice:
            raise BadFile(f"{self._path.parent / self._found.labels.file} names {min(twice)!r} twice")
        own = said if self._found.output == "probabilities" else expit(said)
        self.head: TagHead | None = None
        off = np.inf
        if linear is not None and linear.weight.shape == (len(names), self.dim):
            off = np.abs(expit(rows @ linear.weight.T + linear.bias) - own).max()
        if linear is not None and off <= NEAR[self.precision]:
            self.head = TagHead(
                self.tags,
                linear.weight[kept],
                linear.bias[kept],
                self.id,
                [labels.namespaces[place] for place in kept],
                labels.thresholds[kept],
            )
        elif linear is not None and linear.embedding == self._embedding:
            raise BadFile(
                f"{self._path}: its last linear layer gives probabilities up to {off:.2g} off the network's own: "
                f"output in {tagger_json.FILE} is not {self._found.output}"
            )
        else:
            self.notes.append(
                f"no linear layer makes its tags from {self._embedding!r}, so only the library's own tags will count"
            )


def _providers(runtime: Any, device: torch.device, explicit: bool) -> tuple[torch.device, list[Any], list[str]]:
    """Where it will compute. A GPU that is wanted and cannot be used is never passed over in silence."""
    if device.type == "cpu":
        return device, ["CPUExecutionProvider"], []
    if "CUDAExecutionProvider" in runtime.get_available_providers():
        # TensorFloat-32 would give other embeddings than a processor does.
        return device, [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"], []
    says = "this onnxruntime was built without CUDA: pip install onnxruntime-gpu in its place"
    if explicit:
        raise UsageError(f"--device cuda: {says}, or use --device cpu")
    return torch.device("cpu"), ["CPUExecutionProvider"], [f"THE GPU IS NOT USED: {says}"]


def _digest(data: memoryview, beside: list[Path]) -> str:
    """SHA-256 of the file's own bytes, and of the files that hold some of its weights, where there are any."""
    made = hashlib.sha256(data)
    for path in beside:
        with open(path, "rb") as file:
            while piece := file.read(CHUNK):
                made.update(piece)
    return made.hexdigest()


def _session(runtime: Any, data: bytes, providers: list[Any], threads: int, path: Path, beside: list[Path]) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # The decoders want the processor meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if beside:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        session = runtime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # onnxruntime raises some ten kinds for one damaged file, all of Exception alone
        raise BadFile(f"{path} cannot be used by onnxruntime ({short(error, 200)})") from None
    if providers[0] != "CPUExecutionProvider" and "CUDAExecutionProvider" not in session.get_providers():
        raise UsageError("--device cuda: onnxruntime found no usable GPU or CUDA libraries; use --device cpu")
    return session
