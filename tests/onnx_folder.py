"""Model folders with an ONNX tagger in them, of WD v3's shape but with random weights.

The layers are those that matter to whoever reads such a file: pictures as (b, S, S, 3), blue first,
0 to 255; a picture's embedding inside the graph; a `Gemm` to the tags; a sigmoid.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CATEGORIES = [9, 9, 0, 0, 0, 4, 4]  # two ratings, three general tags, two characters
NAMES = ["general", "explicit", "1girl", "long_hair", "^_^", "hatsune_miku", 'name_"quoted",_with_comma']
DIMENSIONS = 24


def descriptor(**changes: object) -> dict[str, object]:
    """The tagger.json of these networks, which is that of a published WD v3."""
    return {
        "kind": "tagger",
        "version": 1,
        "name": "wd-like",
        "model": "model.onnx",
        "size": 448,
        "fit": "pad",
        "background": [255, 255, 255],
        "filter": "bicubic",
        "layout": "NHWC",
        "colours": "BGR",
        "range": [0, 255],
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "labels": {
            "file": "selected_tags.csv",
            "form": "csv",
            "column": "name",
            "category": "category",
            "leave_out": ["9"],
        },
        "output": "probabilities",
    } | changes


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights: a convolution of 32 x 32 pixels, and the tags' layer."""
    rng = np.random.default_rng(seed)
    return {
        "conv": (rng.standard_normal((DIMENSIONS, 3, 32, 32)) / 5000).astype(np.float32),
        "head": rng.standard_normal((len(NAMES), DIMENSIONS)).astype(np.float32),
        "bias": rng.standard_normal(len(NAMES)).astype(np.float32),
    }


def by_hand(pictures: np.ndarray, kept: dict[str, np.ndarray], nhwc_bgr: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (b, 3, S, S) -> embeddings (b, d) and probabilities (b, V), in the obvious way."""
    x = pictures.astype(np.float64)[:, ::-1] if nhwc_bgr else pictures
    b, _, side, _ = x.shape
    blocks = x.reshape(b, 3, side // 32, 32, side // 32, 32)
    maps = np.einsum("bchiwj,dcij->bdhw", blocks, kept["conv"].astype(np.float64))
    rows = np.maximum(maps, 0).mean(axis=(2, 3))
    return rows, 1 / (1 + np.exp(-(rows @ kept["head"].T + kept["bias"])))


def network(
    kept: dict[str, np.ndarray],
    *,
    size: int = 448,
    last: str = "gemm",
    layout: str = "NHWC",
    batch: object = "b",
    outputs: int = 1,
    sigmoid: bool = True,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """`last`: how the tags' layer is written, "gemm" | "matmul" | "constant" | "square" (which is not linear)."""
    nodes, stored = [], [numpy_helper.from_array(kept["conv"], "conv"), numpy_helper.from_array(kept["bias"], "bias")]
    name = "input"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [name], ["floats"], to=TensorProto.FLOAT))
        name = "floats"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [name], ["planes"], perm=[0, 3, 1, 2]))
        name = "planes"
    nodes += [
        helper.make_node("Conv", [name, "conv"], ["maps"], strides=[32, 32]),
        helper.make_node("Relu", ["maps"], ["rectified"]),
        helper.make_node("GlobalAveragePool", ["rectified"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["norm/embedding"]),
    ]
    name = "norm/embedding"
    if last == "square":
        nodes.append(helper.make_node("Mul", [name, name], ["squared"]))
        name = "squared"
    if last == "matmul":
        stored.append(numpy_helper.from_array(np.ascontiguousarray(kept["head"].T), "head"))
        nodes.append(helper.make_node("MatMul", [name, "head"], ["product"]))
        nodes.append(helper.make_node("Add", ["bias", "product"], ["logits"]))
    elif last == "constant":
        nodes += [
            helper.make_node("Constant", [], ["head"], value=numpy_helper.from_array(kept["head"], "")),
            helper.make_node("Transpose", ["head"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", [name, "turned"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
        ]
    else:
        stored.append(numpy_helper.from_array(kept["head"], "head"))
        nodes.append(helper.make_node("Gemm", [name, "head", "bias"], ["logits"], transB=1))
    if sigmoid:
        nodes.append(helper.make_node("Sigmoid", ["logits"], ["output"]))
    shape = [batch, size, size, 3] if layout == "NHWC" else [batch, 3, size, size]
    made = [helper.make_tensor_value_info("output" if sigmoid else "logits", TensorProto.FLOAT, [batch, len(NAMES)])]
    if outputs == 2:
        made.append(helper.make_tensor_value_info("norm/embedding", TensorProto.FLOAT, [batch, DIMENSIONS]))
    graph = helper.make_graph(nodes, "tagger", [helper.make_tensor_value_info("input", kind, shape)], made, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def make_onnx_folder(
    folder: Path, kept: dict[str, np.ndarray] | None = None, changes: dict[str, object] | None = None, **how: object
) -> Path:
    """`folder`, with model.onnx, selected_tags.csv and tagger.json."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(network(kept or weights(), **how), folder / "model.onnx")
    quoted = ['"' + name.replace('"', '""') + '"' if '"' in name else name for name in NAMES]
    rows = [
        f"{number},{name},{category},{100 - number}" for number, (name, category) in enumerate(zip(quoted, CATEGORIES))
    ]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows]) + "\n")
    (folder / "tagger.json").write_text(json.dumps(descriptor(**(changes or {}))))
    return folder
