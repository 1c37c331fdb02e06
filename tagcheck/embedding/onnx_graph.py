"""What is needed of an ONNX file and onnxruntime does not tell: its last linear layer, and its inputs without a session.

The package `onnx` reads the file. Weights in a file beside it are read when they are asked for, and only from its folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from tagcheck.errors import BadFile, MissingInput

PASSING = {"Identity", "Cast", "Dropout"}  # operators that hand on what they are given
RESHAPING = PASSING | {"Flatten", "Reshape", "Squeeze"}  # and those that hand it on in another shape


@dataclass(frozen=True)
class Linear:
    """logits = weight @ embedding + bias: `embedding` the name of its input, `weight` (V, d), `bias` (V,), both float32."""

    embedding: str
    weight: np.ndarray
    bias: np.ndarray


class Graph:
    """The graph of an ONNX file's bytes. Raises `BadFile` naming `name` for bytes that are none.

    `inputs` are the shapes by name, an axis of no fixed length being None; `maker` has the node that makes each tensor.
    """

    def __init__(self, data: bytes, name: str, folder: Path | None = None) -> None:
        self.onnx, self.folder = package("onnx"), folder
        try:
            if not data:
                raise ValueError("it is empty")
            graph = self.onnx.load_model_from_string(data).graph
            self.maker: dict[str, Any] = {output: node for node in graph.node for output in node.output}
            self.stored = {tensor.name: tensor for tensor in graph.initializer} | _constants(graph)
            # Older files list their weights as inputs too.
            self.inputs = {one.name: _axes(one) for one in graph.input if one.name not in self.stored}
            self.outputs: list[str] = [one.name for one in graph.output]
            names = {*self.maker, *self.inputs, *self.outputs}.union(*(node.input for node in graph.node))
            if not all(isinstance(one, str) for one in names):
                raise ValueError("names that are no text")
            self._needed: dict[str, int] = {}  # the files that hold tensors, by the bytes that they have at least
            for where in (self._place(tensor) for tensor in self.stored.values() if tensor.external_data):
                end = (where.offset or 0) + (where.length or 0)
                self._needed[where.location] = max(self._needed.get(where.location, 0), end)
        except (ValueError, TypeError, package("google.protobuf.message").DecodeError) as error:
            raise BadFile(f"{name} is not a whole ONNX file ({error}): get it again") from None
        if not self.outputs:
            raise BadFile(f"{name} is not an ONNX file: it holds no graph with outputs")

    def beside(self, folder: Path, model: str) -> list[Path]:
        """The files in `folder` that hold tensors of the network in `model`. Raises `MissingInput` or `BadFile` naming one that is
        not there, is not whole, or lies elsewhere.
        """
        for name, size in sorted(self._needed.items()):
            if not _below(name):
                raise BadFile(f"{folder / model} keeps weights outside its folder ({name!r}): export it again")
            if not (folder / name).is_file():
                raise MissingInput(f"no {name} in {folder}: it holds weights of the network {model}, get it too")
            if (held := (folder / name).stat().st_size) < size:
                says = f"holds {held:,} bytes of the {size:,} or more that {model} has in it"
                raise BadFile(f"{folder / name} {says}: get it again")
        return [folder / name for name in sorted(self._needed)]

    def _place(self, tensor: Any) -> Any:
        """Where a tensor in another file is: its `location`, `offset` and `length`. Raises ValueError where that is not said."""
        where = self.onnx.external_data_helper.ExternalDataInfo(tensor)
        if not isinstance(where.location, str) or not where.location:
            raise ValueError("weights in a file without a name")
        return where

    def made_by_sigmoid(self, output: str) -> bool:
        """Whether a sigmoid makes `output`."""
        node = self.maker.get(self._behind(output, RESHAPING))
        return node is not None and node.op_type == "Sigmoid"

    def last_linear(self, output: str) -> Linear | None:
        """The linear layer that `output` is made by, through no more than a sigmoid, or None where it is not made so.

        A convolution of one pixel is one too, where its picture has a single pixel: whoever takes it so has to try it.
        """
        name = self._behind(output, RESHAPING)
        if self.made_by_sigmoid(output) and self.maker[name].input:
            name = self._behind(self.maker[name].input[0], RESHAPING)
        node, bias = self.maker.get(name), None
        if node is not None and node.op_type == "Add" and len(node.input) == 2:
            sides = [(self.tensor(one), other) for one, other in (node.input, node.input[::-1])]
            bias, name = next(((tensor, other) for tensor, other in sides if tensor is not None), (None, name))
            node = self.maker.get(self._behind(name, RESHAPING)) if bias is not None else None
        if node is None or node.op_type not in ("MatMul", "Gemm", "Conv") or len(node.input) < 2:
            return None
        weight, said = self.tensor(node.input[1]), {one.name: one.i or one.f for one in node.attribute}
        if node.op_type != "MatMul":
            if said.get("transA") or said.get("alpha", 1.0) != 1.0 or said.get("beta", 1.0) != 1.0:
                return None
            own = self.tensor(node.input[2]) if len(node.input) > 2 and node.input[2] else None
            bias = own if bias is None else bias if own is None else bias + own
        if weight is not None and node.op_type == "Conv" and set(weight.shape[2:]) == {1}:
            weight = weight.reshape(weight.shape[:2])
        if weight is None or weight.ndim != 2:
            return None
        rows = weight if node.op_type == "Conv" or said.get("transB") else weight.T
        offsets = np.zeros(len(rows), np.float32) if bias is None else bias.reshape(-1)
        return Linear(node.input[0], np.ascontiguousarray(rows), offsets) if offsets.shape == (len(rows),) else None

    def _behind(self, name: str, passing: Set[str] = PASSING) -> str:
        """The tensor that is handed on as `name`."""
        seen = set()
        while name not in seen and (node := self.maker.get(name)) and node.op_type in passing and node.input:
            seen.add(name)  # a node may be fed by itself
            name = node.input[0]
        return name

    def tensor(self, name: str, turns: int = 8) -> np.ndarray | None:
        """The floating-point tensor that the file stores as `name`, as float32, or None where it stores none, or elsewhere."""
        name = self._behind(name)
        if name in self.maker and self.maker[name].op_type == "Transpose":
            inputs = self.maker[name].input
            turned = self.tensor(inputs[0], turns - 1) if inputs and turns else None
            return turned.T if turned is not None and turned.ndim == 2 else None
        tensor, kinds = self.stored.get(name), self.onnx.TensorProto
        if tensor is None or tensor.data_type not in (kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.BFLOAT16):
            return None
        try:
            if tensor.data_location == kinds.EXTERNAL:
                tensor = kinds(data_type=tensor.data_type, dims=tensor.dims, raw_data=self._from_beside(tensor))
            return np.asarray(self.onnx.numpy_helper.to_array(tensor), np.float32)
        except (ValueError, OSError):  # another shape than its numbers have, or no such file
            return None

    def _from_beside(self, tensor: Any) -> bytes:
        """A tensor's bytes out of the file beside this one. Raises ValueError or OSError where there is none."""
        where = self._place(tensor)
        if self.folder is None or not _below(where.location):
            raise ValueError(f"no file {where.location!r} here")
        return bytes(np.memmap(self.folder / where.location, mode="r")[where.offset or 0 :][: where.length])


def package(name: str) -> Any:
    """onnxruntime, or a module of `onnx`. Raises `MissingInput` saying how to get them."""
    try:
        return importlib.import_module(name)
    except ImportError:
        way_out = "pip install onnxruntime onnx (or onnxruntime-gpu for the first), and run again"
        raise MissingInput(f"a tagger that is an ONNX file needs {name}: {way_out}") from None


def with_output(data: bytes, name: str) -> bytes:
    """The file's bytes with the tensor `name` of its graph among its outputs: of a message behind another both are read as one."""
    onnx = package("onnx")
    graph = onnx.GraphProto(output=[onnx.ValueInfoProto(name=name)])
    return bytes(data) + bytes(onnx.ModelProto(graph=graph).SerializeToString())


def _constants(graph: Any) -> dict[str, Any]:
    """The tensors of nodes that make nothing else, by name."""
    nodes = [node for node in graph.node if node.op_type == "Constant" and node.output]
    return {node.output[0]: one.t for node in nodes for one in node.attribute if one.name == "value"}


def _axes(value: Any) -> list[int | None]:
    """The axes of an input's description: a length, or None where it is free."""
    return [axis.dim_value if axis.dim_value > 0 else None for axis in value.type.tensor_type.shape.dim]


def _below(name: str) -> bool:
    """Whether a name can only be that of a file in the folder or below it, on any system."""
    return not PureWindowsPath(name).anchor and not name.startswith("/") and ".." not in PureWindowsPath(name).parts
