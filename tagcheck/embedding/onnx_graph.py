"""The few things that are needed of an ONNX file and that onnxruntime does not tell: its last linear layer.

An ONNX file is a protobuf message (github.com/onnx/onnx, onnx.proto). Read here are the nodes of its
graph and the tensors that are stored in it, nothing else, and nothing is copied before it is asked
for. That a tensor inside the graph comes out as well needs no rewriting: a protobuf message continued
by another one is both of them merged, so the wanted output is written behind the file's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tagcheck.errors import BadFile

# Field numbers of onnx.proto.
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_OUTPUT = 1, 5, 12
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_FLOAT, ATTRIBUTE_WHOLE, ATTRIBUTE_TENSOR = 1, 2, 3, 5
TENSOR_DIMENSIONS, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_NAME, TENSOR_BYTES, TENSOR_PLACE = 1, 2, 4, 8, 9, 14
VALUE_NAME = 1
TYPES = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
PASSING = {"Identity", "Cast", "Dropout"}  # operators that hand on what they are given


@dataclass(frozen=True)
class Node:
    """One operator: the names of what it is given and makes, and its attributes that are numbers or tensors."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, float | int | memoryview] = field(default_factory=dict)


@dataclass(frozen=True)
class Linear:
    """logits = weight @ embedding + bias: `embedding` the name of its input, `weight` (V, d), `bias` (V,), both float32."""

    embedding: str
    weight: np.ndarray
    bias: np.ndarray


class Graph:
    """The graph of an ONNX file's bytes. Raises `BadFile` naming `name` for bytes that are none."""

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self.maker: dict[str, Node] = {}
        self.stored: dict[str, memoryview] = {}
        self.outputs: list[str] = []
        try:
            for graph in _messages(memoryview(data), MODEL_GRAPH):
                for number, value in _fields(graph):
                    if number == GRAPH_NODE:
                        self._add(_node(value))
                    elif number == GRAPH_INITIALIZER:
                        self.stored[_text(value, TENSOR_NAME)] = value
                    elif number == GRAPH_OUTPUT:
                        self.outputs.append(_text(value, VALUE_NAME))
        except (ValueError, IndexError, TypeError, UnicodeDecodeError) as error:
            raise BadFile(f"{name} is no whole ONNX file ({error}): get it again") from None
        if not self.outputs:
            raise BadFile(f"{name} is no ONNX file: it holds no graph with outputs")

    def _add(self, node: Node) -> None:
        if node.operator == "Constant" and isinstance(node.attributes.get("value"), memoryview):
            self.stored[node.outputs[0]] = node.attributes["value"]
        for output in node.outputs:
            self.maker[output] = node

    def knows(self, name: str) -> bool:
        """Whether a node makes a tensor of this name."""
        return name in self.maker

    def last_linear(self, output: str) -> Linear | None:
        """The linear layer that `output` is made by, through no more than a sigmoid, or None where it is not made so."""
        name = self._behind(output)
        if name in self.maker and self.maker[name].operator == "Sigmoid":
            name = self._behind(self.maker[name].inputs[0])
        node, bias = self.maker.get(name), None
        if node is not None and node.operator == "Add":
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
        while name in self.maker and self.maker[name].operator in PASSING:
            name = self.maker[name].inputs[0]
        return name

    def tensor(self, name: str) -> np.ndarray | None:
        """The floating-point tensor that the file stores as `name`, or None where it stores none, or elsewhere."""
        name = self._behind(name)
        if name in self.maker and self.maker[name].operator == "Transpose":
            turned = self.tensor(self.maker[name].inputs[0])
            return turned.T if turned is not None and turned.ndim == 2 else None
        if name not in self.stored:
            return None
        shape: list[int] = []
        kind, place, values = 0, 0, b""
        for number, value in _fields(self.stored[name]):
            if number == TENSOR_DIMENSIONS:
                shape += [value] if isinstance(value, int) else list(_varints(value))
            elif number == TENSOR_TYPE:
                kind = value
            elif number == TENSOR_PLACE:
                place = value
            elif number == TENSOR_BYTES or (number == TENSOR_FLOATS and isinstance(value, memoryview)):
                values = value
        if kind not in TYPES or place != 0:
            return None
        flat = np.frombuffer(values, TYPES[kind])
        return flat.reshape(shape) if len(flat) == np.prod(shape, dtype=np.int64) else None


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


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field's number and value: a whole number, or the bytes as they stand. Raises ValueError where they end too soon."""
    at = 0
    while at < len(data):
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


def _node(data: memoryview) -> Node:
    inputs, outputs, operator, attributes = [], [], "", {}
    for number, value in _fields(data):
        if number == NODE_INPUT:
            inputs.append(str(value, "utf-8"))
        elif number == NODE_OUTPUT:
            outputs.append(str(value, "utf-8"))
        elif number == NODE_OPERATOR:
            operator = str(value, "utf-8")
        elif number == NODE_ATTRIBUTE:
            name, found = "", None
            for part, content in _fields(value):
                if part == ATTRIBUTE_NAME:
                    name = str(content, "utf-8")
                elif part == ATTRIBUTE_FLOAT:
                    found = float(np.frombuffer(content, "<f4")[0])
                elif part in (ATTRIBUTE_WHOLE, ATTRIBUTE_TENSOR):
                    found = content
            if found is not None:
                attributes[name] = found
    return Node(operator, tuple(inputs), tuple(outputs), attributes)
