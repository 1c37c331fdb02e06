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
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from tagcheck.errors import BadFile, MissingInput

# The fields of onnx.proto that are read: their numbers, names and what they hold, a table where that is a message.
BYTES = memoryview
Table = dict[int, tuple[str, Any]]
ENTRY: Table = {1: ("key", str), 2: ("value", str)}
TENSOR: Table = {
    1: ("dimensions", int),
    2: ("type", int),
    4: ("numbers", BYTES),
    5: ("halves", int),
    8: ("name", str),
    9: ("numbers", BYTES),
    13: ("beside", ENTRY),
    14: ("place", int),
}
ATTRIBUTE: Table = {1: ("name", str), 2: ("value", float), 3: ("value", int), 5: ("value", BYTES)}
NODE: Table = {1: ("inputs", str), 2: ("outputs", str), 4: ("operator", str), 5: ("attributes", ATTRIBUTE)}
SHAPE: Table = {1: ("axes", {1: ("length", int)})}
VALUE: Table = {1: ("name", str), 2: ("type", {1: ("tensor", {2: ("shape", SHAPE)})})}
MODEL: Table = {
    7: ("graph", {1: ("nodes", NODE), 5: ("stored", TENSOR), 11: ("inputs", VALUE), 12: ("outputs", VALUE)})
}
GRAPH, OUTPUT, NAME = 7, 12, 1  # the fields that `with_output` writes
FLOAT16, BFLOAT16 = 10, 16
TYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"),
    FLOAT16: np.dtype("<f2"),
    11: np.dtype("<f8"),
    BFLOAT16: np.dtype("<u2"),
}
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
MOST_AXES = 32
PASSING = {"Identity", "Cast", "Dropout"}  # operators that hand on what they are given
RESHAPING = PASSING | {"Flatten", "Reshape", "Squeeze"}  # and those that hand it on in another shape

Message = dict[str, list[Any]]


@dataclass(frozen=True)
class Node:
    """One operator: the names of what it is given and makes, and its attributes that are numbers or tensors."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Beside:
    """A tensor's place in another file; `length` None: to its end."""

    file: str
    start: int
    length: int | None

    @property
    def end(self) -> int:
        """How many bytes the file has at least."""
        return self.start + (self.length or 0)


@dataclass(frozen=True)
class Linear:
    """logits = weight @ embedding + bias: `embedding` the name of its input, `weight` (V, d), `bias` (V,), both float32."""

    embedding: str
    weight: np.ndarray
    bias: np.ndarray


class Graph:
    """The graph of an ONNX file's bytes. Raises `BadFile` naming `name` for bytes that are none.

    `inputs` are the shapes by name, an axis of no fixed length being None.
    """

    def __init__(self, data: bytes | memoryview, name: str, folder: Path | None = None) -> None:
        self.maker: dict[str, Node] = {}
        self.stored: dict[str, Message] = {}
        self.inputs: dict[str, list[int | None]] = {}
        self.outputs: list[str] = []
        self.folder = folder
        try:
            for graph in _read(memoryview(data), MODEL)["graph"]:
                self.stored |= {_one(one, "name"): one for one in graph["stored"]}
                for node in graph["nodes"]:
                    self._add(node)
                self.inputs |= {_one(one, "name"): _axes(one) for one in graph["inputs"]}
                self.outputs += [_one(one, "name") for one in graph["outputs"]]
            beside = [_beside(one) for one in self.stored.values() if one["beside"]]
        except (ValueError, IndexError, TypeError, KeyError) as error:
            raise BadFile(f"{name} is not a whole ONNX file ({error}): get it again") from None
        self._needed = {one.file: max(other.end for other in beside if other.file == one.file) for one in beside}
        for stored in self.inputs.keys() & self.stored.keys():  # older files list their weights as inputs too
            del self.inputs[stored]
        if not self.outputs:
            raise BadFile(f"{name} is not an ONNX file: it holds no graph with outputs")

    @staticmethod
    def of_file(path: Path) -> Graph:
        """The graph of a file, which is mapped and not read as a whole."""
        with open(path, "rb") as file:
            if not file.seek(0, 2):
                raise BadFile(f"{path} is not a whole ONNX file (it is empty): get it again")
            return Graph(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), str(path), path.parent)

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

    def _add(self, said: Message) -> None:
        attributes = {_one(one, "name"): one["value"][-1] for one in said["attributes"] if one["value"]}
        node = Node(_one(said, "operator"), said["inputs"], said["outputs"], attributes)
        value = attributes.get("value")
        if node.operator == "Constant" and isinstance(value, BYTES):
            self.stored[node.outputs[0]] = _read(value, TENSOR)
        self.maker |= dict.fromkeys(node.outputs, node)

    def knows(self, name: str) -> bool:
        """Whether a node makes a tensor of this name."""
        return name in self.maker

    def made_by_sigmoid(self, output: str) -> bool:
        """Whether a sigmoid makes `output`."""
        name = self._behind(output, RESHAPING)
        return name in self.maker and self.maker[name].operator == "Sigmoid"

    def last_linear(self, output: str) -> Linear | None:
        """The linear layer that `output` is made by, through no more than a sigmoid, or None where it is not made so.

        A convolution of one pixel is one too, where its picture has a single pixel: whoever takes it so has to try it.
        """
        name = self._behind(output, RESHAPING)
        if name in self.maker and self.maker[name].operator == "Sigmoid":
            if not self.maker[name].inputs:
                return None
            name = self._behind(self.maker[name].inputs[0], RESHAPING)
        node, bias = self.maker.get(name), None
        if node is not None and node.operator == "Add" and len(node.inputs) == 2:
            sides = [(self.tensor(one), other) for one, other in (node.inputs, node.inputs[::-1])]
            bias, name = next(((tensor, other) for tensor, other in sides if tensor is not None), (None, name))
            node = self.maker.get(self._behind(name, RESHAPING)) if bias is not None else None
        if node is None or node.operator not in ("MatMul", "Gemm", "Conv") or len(node.inputs) < 2:
            return None
        weight, said = self.tensor(node.inputs[1]), node.attributes
        if node.operator != "MatMul":
            if said.get("transA") or said.get("alpha", 1.0) != 1.0 or said.get("beta", 1.0) != 1.0:
                return None
            own = self.tensor(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
            bias = own if bias is None else bias if own is None else bias + own
        if weight is not None and node.operator == "Conv" and set(weight.shape[2:]) == {1}:
            weight = weight.reshape(weight.shape[:2])
        if weight is None or weight.ndim != 2:
            return None
        rows = weight if node.operator == "Conv" or said.get("transB") else weight.T
        offsets = np.zeros(len(rows), np.float32) if bias is None else bias.reshape(-1)
        if offsets.shape != (len(rows),):
            return None
        return Linear(node.inputs[0], np.ascontiguousarray(rows, np.float32), offsets.astype(np.float32))

    def _behind(self, name: str, passing: Set[str] = PASSING) -> str:
        """The tensor that is handed on as `name`."""
        seen = set()
        while name not in seen and (node := self.maker.get(name)) and node.operator in passing and node.inputs:
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
        said = self.stored.get(name)
        kind = 0 if said is None else _one(said, "type", 0)
        if said is None or (numbers := TYPES.get(kind)) is None:
            return None
        held = self._from_beside(said) if _one(said, "place", 0) else (said["numbers"] or [b""])[-1]
        if not held and said["halves"]:  # each in a whole number of its own
            held = np.array([one & 0xFFFF for one in said["halves"]], "<u2").tobytes()
        shape = said["dimensions"]
        if held is None or len(held) % numbers.itemsize or len(shape) > MOST_AXES or min(shape, default=0) < 0:
            return None
        flat = np.frombuffer(held, numbers)
        if kind == BFLOAT16:
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return flat.reshape(shape) if len(flat) == math.prod(shape) else None

    def _from_beside(self, said: Message) -> bytes | None:
        """A tensor's bytes out of the file beside this one, None where there is none or it is too short."""
        where = _beside(said) if said["beside"] else None
        path = self.folder / where.file if where and self.folder is not None and _below(where.file) else None
        if where is None or path is None or not path.is_file():
            return None
        size = path.stat().st_size
        length = size - where.start if where.length is None else where.length
        if not 0 <= where.start <= where.start + length <= size:
            return None
        with open(path, "rb") as file:
            file.seek(where.start)
            return file.read(length)


def with_output(data: bytes, name: str) -> bytes:
    """The file's bytes with the tensor `name` of its graph among its outputs."""
    return bytes(data) + _written(GRAPH, _written(OUTPUT, _written(NAME, name.encode())))


def _written(number: int, body: bytes) -> bytes:
    """A field that holds bytes."""
    return bytes([number << 3 | LENGTH]) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read(data: memoryview, table: Table) -> Message:
    """What the fields of `table` hold, by name, in their order; other fields are passed over.

    Raises ValueError or IndexError where the bytes end too soon, or where a field holds another kind of thing.
    """
    found: Message = {name: [] for name, _ in table.values()}
    for number, value in _fields(data):
        if number not in table:
            continue
        name, kind = table[number]
        if kind is int:
            found[name] += [value] if isinstance(value, int) else _varints(value)
        elif isinstance(value, int):
            raise ValueError("a number where bytes belong")
        elif kind is float:
            found[name].append(float(np.frombuffer(value, "<f4")[0]))
        else:
            found[name].append(value if kind is BYTES else str(value, "utf-8") if kind is str else _read(value, kind))
    return found


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field's number and value: a whole number, or the bytes as they stand. Raises ValueError where they end too soon."""
    at = 0
    while at < len(data):
        value: int | memoryview
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


def _one(said: Message, name: str, otherwise: Any = "") -> Any:
    """The last of the values, as protobuf has it."""
    return said[name][-1] if said[name] else otherwise


def _axes(said: Message) -> list[int | None]:
    """The axes of an input's description: a length, or None where it is free."""
    shapes = (shape for kind in said["type"] for tensor in kind["tensor"] for shape in tensor["shape"])
    lengths = [_one(axis, "length", 0) for shape in shapes for axis in shape["axes"]]
    return [one if one > 0 else None for one in lengths]


def _beside(said: Message) -> Beside:
    """Where the numbers of a tensor in another file are. Raises ValueError or KeyError where that is not said."""
    told = {_one(one, "key"): _one(one, "value") for one in said["beside"]}
    return Beside(told["location"], int(told.get("offset", 0)), int(told["length"]) if "length" in told else None)


def _below(name: str) -> bool:
    """Whether a name can only be that of a file in the folder or below it, on any system."""
    return not PureWindowsPath(name).anchor and not name.startswith("/") and ".." not in PureWindowsPath(name).parts
