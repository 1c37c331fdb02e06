"""The few things that are needed of an ONNX file and that onnxruntime does not tell: its last linear layer, and its
inputs without a session.

An ONNX file is a protobuf message (github.com/onnx/onnx, onnx.proto). Read here are the nodes of its
graph and the tensors that are stored in it, nothing else, and nothing is copied before it is asked
for. A tensor that is stored in a file beside it is read from there. That a tensor inside the graph comes out as well needs no rewriting: a protobuf message continued
by another one is both of them merged, so the wanted output is written behind the file's bytes.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tagcheck.errors import BadFile

# Field numbers of onnx.proto.
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_FLOAT, ATTRIBUTE_WHOLE, ATTRIBUTE_TENSOR = 1, 2, 3, 5
TENSOR_DIMENSIONS, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_NAME, TENSOR_BYTES = 1, 2, 4, 8, 9
TENSOR_BESIDE, TENSOR_PLACE = 13, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2
VALUE_NAME, VALUE_TYPE, TYPE_TENSOR, TENSOR_SHAPE, SHAPE_DIMENSION, DIMENSION_VALUE = 1, 2, 1, 2, 1, 1
TYPES: dict[int, np.dtype] = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
MOST_AXES = 32
PASSING = {"Identity", "Cast", "Dropout"}  # operators that hand on what they are given

Value = int | memoryview


@dataclass(frozen=True)
class Node:
    """One operator: the names of what it is given and makes, and its attributes that are numbers or tensors."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, float | Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Linear:
    """logits = weight @ embedding + bias: `embedding` the name of its input, `weight` (V, d), `bias` (V,), both float32."""

    embedding: str
    weight: np.ndarray
    bias: np.ndarray


class Graph:
    """The graph of an ONNX file's bytes. Raises `BadFile` naming `name` for bytes that are none.

    `inputs` are the shapes by name, an axis of no fixed length being None; `beside` the names of the files in `folder`
    that hold tensors of it.
    """

    def __init__(self, data: bytes | memoryview, name: str, folder: Path | None = None) -> None:
        self.maker: dict[str, Node] = {}
        self.stored: dict[str, memoryview] = {}
        self.inputs: dict[str, list[int | None]] = {}
        self.outputs: list[str] = []
        self.folder = folder
        try:
            for graph in _messages(memoryview(data), MODEL_GRAPH):
                for number, value in _fields(graph):
                    if number == GRAPH_NODE:
                        self._add(_node(_bytes(value)))
                    elif number == GRAPH_INITIALIZER:
                        self.stored[_text(_bytes(value), TENSOR_NAME)] = _bytes(value)
                    elif number == GRAPH_INPUT:
                        self.inputs[_text(_bytes(value), VALUE_NAME)] = _shape(_bytes(value))
                    elif number == GRAPH_OUTPUT:
                        self.outputs.append(_text(_bytes(value), VALUE_NAME))
            for stored in self.inputs.keys() & self.stored.keys():  # older files list their weights as inputs too
                del self.inputs[stored]
            self.beside = sorted(
                {
                    _beside(value)["location"]
                    for value in self.stored.values()
                    if any(number == TENSOR_BESIDE for number, _ in _fields(value))
                }
            )
        except (ValueError, IndexError, TypeError, KeyError, UnicodeDecodeError) as error:
            raise BadFile(f"{name} is no whole ONNX file ({error}): get it again") from None
        if not self.outputs:
            raise BadFile(f"{name} is no ONNX file: it holds no graph with outputs")

    @staticmethod
    def of_file(path: Path) -> Graph:
        """The graph of a file, which is mapped and not read as a whole."""
        with open(path, "rb") as file:
            if not file.seek(0, 2):
                raise BadFile(f"{path} is no whole ONNX file (it is empty): get it again")
            return Graph(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), str(path), path.parent)

    def _add(self, node: Node) -> None:
        value = node.attributes.get("value")
        if node.operator == "Constant" and isinstance(value, memoryview):
            self.stored[node.outputs[0]] = value
        for output in node.outputs:
            self.maker[output] = node

    def knows(self, name: str) -> bool:
        """Whether a node makes a tensor of this name."""
        return name in self.maker

    def made_by_sigmoid(self, output: str) -> bool:
        """Whether a sigmoid makes `output`."""
        name = self._behind(output)
        return name in self.maker and self.maker[name].operator == "Sigmoid"

    def last_linear(self, output: str) -> Linear | None:
        """The linear layer that `output` is made by, through no more than a sigmoid, or None where it is not made so."""
        name = self._behind(output)
        if name in self.maker and self.maker[name].operator == "Sigmoid":
            if not self.maker[name].inputs:
                return None
            name = self._behind(self.maker[name].inputs[0])
        node, bias = self.maker.get(name), None
        if node is not None and node.operator == "Add" and len(node.inputs) == 2:
            sides = [(self.tensor(one), other) for one, other in (node.inputs, node.inputs[::-1])]
            bias, name = next(((tensor, other) for tensor, other in sides if tensor is not None), (None, name))
            node = self.maker.get(self._behind(name)) if bias is not None else None
        if node is None or node.operator not in ("MatMul", "Gemm") or len(node.inputs) < 2:
            return None
        weight = self.tensor(node.inputs[1])
        if node.operator == "Gemm":
            said = node.attributes
            if said.get("transA") or said.get("alpha", 1.0) != 1.0 or said.get("beta", 1.0) != 1.0:
                return None
            own = self.tensor(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
            bias = own if bias is None else bias if own is None else bias + own
        if weight is None or weight.ndim != 2:
            return None
        rows = weight if node.operator == "Gemm" and node.attributes.get("transB") else weight.T
        offsets = np.zeros(len(rows), np.float32) if bias is None else bias.reshape(-1)
        if offsets.shape != (len(rows),):
            return None
        return Linear(node.inputs[0], np.ascontiguousarray(rows, np.float32), offsets.astype(np.float32))

    def _behind(self, name: str) -> str:
        """The tensor that is handed on as `name`."""
        seen = set()
        while name not in seen and (node := self.maker.get(name)) and node.operator in PASSING and node.inputs:
            seen.add(name)  # a node may be fed by itself
            name = node.inputs[0]
        return name

    def tensor(self, name: str, turns: int = 8) -> np.ndarray | None:
        """The floating-point tensor that the file stores as `name`, or None where it stores none, or elsewhere."""
        name = self._behind(name)
        if name in self.maker and self.maker[name].operator == "Transpose":
            inputs = self.maker[name].inputs
            turned = self.tensor(inputs[0], turns - 1) if inputs and turns else None
            return turned.T if turned is not None and turned.ndim == 2 else None
        if name not in self.stored:
            return None
        shape: list[int] = []
        kind, place, values = 0, 0, memoryview(b"")
        for number, value in _fields(self.stored[name]):
            if number == TENSOR_DIMENSIONS:
                shape += [value] if isinstance(value, int) else list(_varints(value))
            elif isinstance(value, int):
                kind = value if number == TENSOR_TYPE else kind
                place = value if number == TENSOR_PLACE else place
            elif number in (TENSOR_BYTES, TENSOR_FLOATS):
                values = value
        numbers = TYPES.get(kind)
        if numbers is None or (place == 0 and len(values) % numbers.itemsize):
            return None
        flat = np.frombuffer(values, numbers) if place == 0 else self._from_beside(self.stored[name], numbers)
        if flat is None:
            return None
        fits = len(shape) <= MOST_AXES and min(shape, default=0) >= 0 and len(flat) == math.prod(shape)
        return flat.reshape(shape) if fits else None

    def _from_beside(self, stored: memoryview, kind: np.dtype) -> np.ndarray | None:
        """A tensor's numbers out of the file beside this one, None where there is none or it is too short."""
        said = _beside(stored)
        try:
            name, start = said.get("location", ""), int(said.get("offset", 0))
            length = int(said.get("length", -1))
        except ValueError:
            return None
        path = self.folder / name if self.folder is not None and name and Path(name).name == name else None
        if path is None or not path.is_file():
            return None
        size = path.stat().st_size
        length = size - start if length < 0 else length
        if not 0 <= start <= start + length <= size:
            return None
        with open(path, "rb") as file:
            file.seek(start)
            found = file.read(length)
        return np.frombuffer(found, kind) if len(found) == length and length % kind.itemsize == 0 else None


def with_output(data: bytes, name: str) -> bytes:
    """The file's bytes with the tensor `name` of its graph among its outputs."""
    value = _written(VALUE_NAME, name.encode())
    return bytes(data) + _written(MODEL_GRAPH, _written(GRAPH_OUTPUT, value))


def _written(number: int, body: bytes) -> bytes:
    """A field that holds bytes."""
    return bytes([number << 3 | LENGTH]) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Each field's number and value: a whole number, or the bytes as they stand. Raises ValueError where they end too soon."""
    at = 0
    while at < len(data):
        value: Value
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _read_varint(data, at)
        else:
            length = {EIGHT_BYTES: 8, FOUR_BYTES: 4}.get(kind)
            if length is None:
                if kind != LENGTH:
                    raise ValueError(f"a field of kind {kind}")
                length, at = _read_varint(data, at)
            if at + length > len(data):
                raise ValueError("it ends too soon")
            value = data[at : at + length]
            at += length
        yield key >> 3, value


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of too many digits")


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _read_varint(data, at)
        yield value


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, value in _fields(data) if number == wanted and isinstance(value, memoryview))


def _text(data: memoryview, wanted: int) -> str:
    return next((str(value, "utf-8") for value in _messages(data, wanted)), "")


def _shape(value: memoryview) -> list[int | None]:
    """The axes of an input's description: a length, or None where it is free."""
    found: list[int | None] = []
    for kind in _messages(value, VALUE_TYPE):
        for tensor in _messages(kind, TYPE_TENSOR):
            for shape in _messages(tensor, TENSOR_SHAPE):
                for axis in _messages(shape, SHAPE_DIMENSION):
                    lengths = [one for number, one in _fields(axis) if number == DIMENSION_VALUE]
                    found.append(lengths[0] if lengths and isinstance(lengths[0], int) and lengths[0] > 0 else None)
    return found


def _beside(stored: memoryview) -> dict[str, str]:
    """Where the numbers of a tensor in another file are: "location", "offset", "length"."""
    entries = _messages(stored, TENSOR_BESIDE)
    return {_text(entry, ENTRY_KEY): _text(entry, ENTRY_VALUE) for entry in entries}


def _node(data: memoryview) -> Node:
    names: dict[int, list[str]] = {NODE_INPUT: [], NODE_OUTPUT: [], NODE_OPERATOR: [""]}
    attributes: dict[str, float | Value] = {}
    for number, value in _fields(data):
        if number in names:
            names[number].append(str(_bytes(value), "utf-8"))
        elif number == NODE_ATTRIBUTE:
            name, found = _attribute(_bytes(value))
            if found is not None:
                attributes[name] = found
    return Node(names[NODE_OPERATOR][-1], tuple(names[NODE_INPUT]), tuple(names[NODE_OUTPUT]), attributes)


def _attribute(data: memoryview) -> tuple[str, float | Value | None]:
    name = ""
    found: float | Value | None = None
    for part, content in _fields(data):
        if part == ATTRIBUTE_NAME:
            name = str(_bytes(content), "utf-8")
        elif part == ATTRIBUTE_FLOAT:
            found = float(np.frombuffer(_bytes(content), "<f4")[0])
        elif part in (ATTRIBUTE_WHOLE, ATTRIBUTE_TENSOR):
            found = content
    return name, found


def _bytes(value: Value) -> memoryview:
    """A field's value that must not be a number."""
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value
