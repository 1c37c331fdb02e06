"""Taggers as they are published are recognised, and what a folder leaves open is asked for by the file that would tell."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import documented
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper
from onnx_folder import NAMES, by_hand, make_onnx_folder, network, weights

from tagcheck.embedding import download, published_layouts, store, tagger
from tagcheck.errors import BadFile, MissingInput, UsageError
from tagcheck.tag_errors import tagger_vocabulary

TAGS = ["general", "1girl", "long_hair", "hatsune_miku", "vocaloid"]
CATEGORIES = [9, 0, 0, 4, 3]
NAMED = ["rating", "general", "general", "character", "copyright"]
WIDE = 8
SIDE = 32


def graph(
    outputs: tuple[str, ...], *, layout: str = "NCHW", side: int | None = SIDE, refined: bool = False
) -> onnx.ModelProto:
    """A network of one mean a channel, a layer of `WIDE` and one linear layer to the tags, with `outputs` of it.

    `refined` makes "refined_predictions" out of a product, as an attention over the tags would.
    """
    rng = np.random.default_rng(0)
    stored = {
        "mix": rng.standard_normal((3, WIDE)).astype(np.float32),
        "head": rng.standard_normal((WIDE, len(TAGS))).astype(np.float32),
        "bias": rng.standard_normal(len(TAGS)).astype(np.float32),
    }
    nodes = [helper.make_node("Transpose", ["input"], ["planes"], perm=[0, 3, 1, 2])] if layout == "NHWC" else []
    nodes += [
        helper.make_node("GlobalAveragePool", ["planes" if nodes else "input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("MatMul", ["means", "mix"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "head"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["prediction"]),
        helper.make_node("Identity", ["prediction"], ["output"]),
        helper.make_node("Identity", ["logits"], ["initial_predictions"]),
    ]
    if refined:
        nodes.append(helper.make_node("Mul", ["logits", "prediction"], ["refined_predictions"]))
    axes = [side or "h", side or "w"]
    shape = ["b", *axes, 3] if layout == "NHWC" else ["b", 3, *axes]
    made = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", WIDE if name == "embedding" else len(TAGS)])
            for name in outputs
        ],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def put(folder: Path, model: onnx.ModelProto, files: dict[str, object], name: str = "model.onnx") -> Path:
    """`folder` with the network and its files: text as it is, rows as CSV, anything else as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / name)
    for file, content in files.items():
        if file.endswith(".csv"):
            with open(folder / file, "w", newline="") as out:
                csv.writer(out).writerows(content)  # type: ignore[arg-type]
        else:
            (folder / file).write_text(json.dumps(content))
    return folder


def listed(*more: str, values: Callable[[int], list[object]] = lambda place: []) -> list[list[object]]:
    head = ["tag_id", "name", "category", "count", *more]
    return [head, *([place, TAGS[place], CATEGORIES[place], 9, *values(place)] for place in range(len(TAGS)))]


def stages(*, fit: str = "pad_to_size", **normal: object) -> list[dict[str, object]]:
    first = {"type": "pad_to_size", "size": [40, 40], "background_color": "white", "interpolation": "bilinear"}
    return [
        *([first] if fit == "pad_to_size" else []),
        {"type": "resize", "size": [SIDE, SIDE], "interpolation": "bicubic", "antialias": True},
        {"type": "center_crop", "size": [SIDE, SIDE]},
        {"type": "maybe_to_tensor"},
        {"type": "normalize", **(normal or {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]})},
    ]


def wd(folder: Path) -> Path:
    return put(folder, graph(("output",), layout="NHWC"), {"selected_tags.csv": listed()})


def animetimm(folder: Path) -> Path:
    files = {
        "selected_tags.csv": listed("best_threshold", values=lambda place: [0.2 + place / 10]),
        "preprocess.json": {"test": stages(), "val": stages()},
        "categories.json": [{"category": 0, "name": "general"}, {"category": 4, "name": "character"}],
        "thresholds.csv": [
            ["category", "name", "alpha", "threshold"],
            [0, "general", 1, 0.31],
            [4, "character", 1, 0.5],
        ],
    }
    return put(folder, graph(("embedding", "logits", "prediction")), files)


def deepghs(folder: Path) -> Path:
    """No thresholds of the tags, pictures stretched, half as mean and deviation: PixAI as it was exported."""
    files = {
        "selected_tags.csv": listed("ips", values=lambda place: ['["vocaloid"]' if place == 3 else "[]"]),
        "preprocess.json": {"stages": stages(fit="stretch", mean=0.5, std=0.5)},
        "thresholds.csv": [["category", "name", "threshold"], [0, "general", 0.3], [4, "character", 0.85]],
    }
    return put(folder, graph(("embedding", "logits", "prediction")), files)


def vocabulary(categories: list[str]) -> dict[str, object]:
    return {
        "idx_to_tag": {str(place): name for place, name in enumerate(TAGS)},
        "tag_to_idx": {name: place for place, name in enumerate(TAGS)},
        "tag_to_category": dict(zip(TAGS, categories)),
    }


def camie(folder: Path) -> Path:
    document = {
        "model_info": {"img_size": SIDE, "patch_size": 16},
        "dataset_info": {"total_tags": len(TAGS), "tag_mapping": vocabulary(NAMED)},
    }
    model = graph(("initial_predictions", "refined_predictions"), refined=True)
    return put(folder, model, {"camie-tagger-v2-metadata.json": document}, "camie-tagger-v2.onnx")


def cl_one(folder: Path) -> Path:
    mapping = {str(place): {"tag": TAGS[place], "category": NAMED[place].title()} for place in range(len(TAGS))}
    return put(folder, graph(("output",)), {"tag_mapping.json": mapping})


def cl_two(folder: Path) -> Path:
    put(folder, graph(("logits",)), {"model_vocabulary.json": vocabulary([one.title() for one in NAMED])})
    beside = onnx.load(folder / "model.onnx")
    onnx.save_model(
        beside, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )
    return folder


LAYOUTS = {
    wd: ("NHWC", "BGR", "pad", (255, 255, 255), [0, 255], [0] * 3, [1] * 3),
    animetimm: ("NCHW", "RGB", "pad", (255, 255, 255), [0, 1], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    deepghs: ("NCHW", "RGB", "stretch", (255, 255, 255), [0, 1], [0.5] * 3, [0.5] * 3),
    camie: ("NCHW", "RGB", "pad", (124, 116, 104), [0, 1], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    cl_one: ("NCHW", "BGR", "pad", (255, 255, 255), [0, 1], [0.5] * 3, [0.5] * 3),
    cl_two: ("NCHW", "RGB", "stretch", (255, 255, 255), [0, 1], [0.5] * 3, [0.5] * 3),
}


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_a_published_folder_is_the_tagger_json_that_it_amounts_to(tmp_path, make):
    folder = make(tmp_path / "some tagger (v1)")
    text, found = published_layouts.recognise(folder)
    layout, colours, fit, background, span, mean, std = LAYOUTS[make]
    assert (found.layout, found.colours, found.recipe.fit) == (layout, colours, fit)
    assert (found.recipe.background, found.recipe.size) == (background, SIDE)
    assert (list(found.range), list(found.mean), list(found.std)) == (span, mean, std)
    model = tagger.load(folder, "cpu")
    assert text in model.sentence() and model.network.name == "some-tagger-v1"

    # Written into the folder, the text says the same.
    (folder / "tagger.json").write_text(text)
    again = tagger.load(folder, "cpu")
    assert again.id == model.id and again.preprocess_id == model.preprocess_id and text not in again.sentence()


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_pictures_reach_the_network_as_it_was_trained_on_them(tmp_path, make):
    """Embeddings of noise are those computed by hand from the colours' means, in the network's order and range."""
    model = tagger.load(make(tmp_path / "tagger"), "cpu")
    pixels = np.random.default_rng(1).integers(0, 256, (3, 3, SIDE, SIDE), dtype=np.uint8)
    _, colours, _, _, span, mean, std = LAYOUTS[make]
    means = pixels.mean(axis=(2, 3)) / 255 * (span[1] - span[0]) + span[0]
    means = (means - np.array(mean)) / np.array(std)
    rng = np.random.default_rng(0)
    mix, head, bias = rng.standard_normal((3, WIDE)), rng.standard_normal((WIDE, len(TAGS))), rng.standard_normal(5)
    rows = np.tanh((means[:, ::-1] if colours == "BGR" else means) @ mix)
    np.testing.assert_allclose(model.embed(pixels), rows, atol=1e-4)
    expected = 1 / (1 + np.exp(-(rows @ head + bias)))[:, 1:]  # of Camie's first guess, which is a linear layer of it
    np.testing.assert_allclose(model.probabilities(rows.astype(np.float32)), expected, atol=1e-4)


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_categories_become_namespaces_and_ratings_are_no_tags(tmp_path, make):
    head = tagger.load(make(tmp_path / "tagger"), "cpu").network.head
    assert head.tags == TAGS[1:] and head.namespaces == ["", "", "character", "series"]
    known = tagger_vocabulary.with_categories(tagger_vocabulary.TagMap(), head.tags, head.namespaces)
    library = ["character:hatsune miku", "person:hatsune miku", "long hair", "series:vocaloid"]
    assert tagger_vocabulary.owners_tags(head.tags, library, known) == [None, "long hair", library[0], library[3]]


def test_published_thresholds_move_the_prior_and_survive_the_file(tmp_path):
    own = tagger.load(animetimm(tmp_path / "own"), "cpu").network.head
    np.testing.assert_allclose(own.thresholds, [0.3, 0.4, 0.5, 0.6], atol=1e-6)  # each tag's before its category's
    categories = tagger.load(deepghs(tmp_path / "categories"), "cpu").network.head
    np.testing.assert_allclose(categories.thresholds, [0.3, 0.3, 0.85, np.nan])
    store.save_tag_head(tmp_path, categories)
    kept = store.load_tag_head(tmp_path, categories.model)
    assert kept.namespaces == categories.namespaces
    logit = np.log(np.array([0.3, 0.3, 0.85]) / (1 - np.array([0.3, 0.3, 0.85])))
    moved = 1 / (1 + np.exp(-(logit + kept.prior_bias()[:3] - kept.bias[:3])))
    np.testing.assert_allclose(moved, store.AT_THRESHOLD, atol=1e-5)
    assert kept.prior_bias()[3] == kept.bias[3]
    assert (tagger.load(wd(tmp_path / "none"), "cpu").network.head.prior_bias() == weights_bias()).all()


def weights_bias() -> np.ndarray:
    rng = np.random.default_rng(0)
    rng.standard_normal((3, WIDE)), rng.standard_normal((WIDE, len(TAGS)))
    return rng.standard_normal(len(TAGS)).astype(np.float32)[1:]


def test_the_wd_network_of_the_other_tests_needs_no_tagger_json(tmp_path):
    folder = make_onnx_folder(tmp_path / "wd-like")
    described = tagger.load(folder, "cpu")
    (folder / "tagger.json").unlink()
    (folder / "model.onnx").rename(folder / "wd.onnx")
    (folder / "._wd.onnx").write_bytes(b"\0\5\x16\7")  # what macOS keeps of a file on a disk of another system
    found = tagger.load(folder, "cpu")
    assert found.id == described.id and found.tags == NAMES[2:]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 448, 448), dtype=np.uint8)
    np.testing.assert_allclose(found.embed(pixels), by_hand(pixels, weights())[0], rtol=1e-4, atol=1e-5)


def test_a_joytag_folder_with_an_onnx_file_beside_is_still_joytags(tmp_path):
    from joytag_folder import make_tiny_model_folder

    folder = make_tiny_model_folder(tmp_path)
    onnx.save(network(weights()), folder / "model.onnx")
    assert tagger.load(folder, "cpu").network.name == "JoyTag"


def camie_export(folder: Path) -> Path:
    """Camie as it was exported again: both its stages in one file, thresholds by category and by what they aim at."""
    model = graph(("embedding", "logits", "output"))
    first = {"initial/embedding": ("means", 3), "initial/logits": ("logits", 5), "initial/output": ("prediction", 5)}
    last = [*model.graph.output]
    del model.graph.output[:]
    for name, (source, width) in first.items():
        model.graph.node.append(helper.make_node("Identity", [source], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", width]))
    model.graph.output.extend(last)
    aims = {name: {"balanced": {"threshold": 0.4}, "micro_opt": {"threshold": 0.2}} for name in NAMED}
    files = {"selected_tags.csv": listed(), "preprocess.json": {"stages": stages()}, "threshold.json": aims}
    return put(folder, model, files)


def without(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def resaved(change: Callable[[onnx.ModelProto], object], **form: Any) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        (path,) = folder.glob("*.onnx")
        model = onnx.load(path)
        change(model)
        onnx.save_model(model, path, **form)

    return save


def in_a_folder_below(folder: Path) -> None:
    (folder / "weights").mkdir()
    (folder / "model.onnx.data").rename(folder / "weights" / "part.bin")
    keep_at(folder, "weights/part.bin")


def keep_at(folder: Path, location: str) -> None:
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for one in tensor.external_data:
            one.value = location if one.key == "location" else one.value
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def in_halves(model: onnx.ModelProto) -> None:
    for stored in model.graph.initializer:
        stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored).astype(np.float16), stored.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16


def one_at_a_time(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def edited(*kinds: str) -> Callable[[onnx.ModelProto], None]:
    """The same network written in other ways."""

    def change(model: onnx.ModelProto) -> None:
        for kind in kinds:
            WRITTEN[kind](model.graph)

    return change


def stored_anew(graph: Any, name: str, made: Any) -> None:
    (old,) = (one for one in graph.initializer if one.name == name)
    old.CopyFrom(made(numpy_helper.to_array(old)))


def in_bfloat16(graph: Any) -> None:
    def halved(values: np.ndarray) -> Any:
        made = TensorProto(name="short", data_type=TensorProto.BFLOAT16, dims=values.shape)
        made.raw_data = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        return made

    stored_anew(graph, "head", halved)
    graph.node.insert(0, helper.make_node("Cast", ["short"], ["head"], to=TensorProto.FLOAT))


def number_by_number(graph: Any) -> None:
    for one in graph.initializer:
        stored_anew(graph, one.name, lambda a, one=one: helper.make_tensor(one.name, one.data_type, a.shape, a.ravel()))


def by_convolution(graph: Any) -> None:
    turned = lambda values: numpy_helper.from_array(np.ascontiguousarray(values.T)[..., None, None], "head")
    stored_anew(graph, "head", turned)
    graph.initializer.append(numpy_helper.from_array(np.array([0, WIDE, 1, 1]), "one pixel"))
    (at,) = (place for place, node in enumerate(graph.node) if node.output[0] == "product")
    graph.node[at].CopyFrom(helper.make_node("Reshape", ["embedding", "one pixel"], ["pixel"]))
    graph.node[at + 1].CopyFrom(helper.make_node("Conv", ["pixel", "head", "bias"], ["map"]))
    graph.node.insert(at + 2, helper.make_node("Flatten", ["map"], ["logits"]))


def with_candidates(graph: Any) -> None:
    graph.initializer.append(numpy_helper.from_array(np.arange(3), "three"))
    graph.node.append(helper.make_node("Identity", ["three"], ["selected_candidates"]))
    graph.output.append(helper.make_tensor_value_info("selected_candidates", TensorProto.INT64, [3]))


def features_for_embedding(graph: Any) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["features" if name == "embedding" else name for name in names]
    graph.output[0].name = "features"


def weights_as_inputs(graph: Any) -> None:
    graph.input.extend(helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in graph.initializer)


def of_bytes(graph: Any) -> None:
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    graph.node[0].input[0] = "floats"
    graph.node.insert(0, helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT))


WAYS = (
    in_bfloat16,
    number_by_number,
    by_convolution,
    with_candidates,
    features_for_embedding,
    weights_as_inputs,
    of_bytes,
)
WRITTEN = {one.__name__: one for one in WAYS}


def head(*names: str, categories: Sequence[object] = tuple(CATEGORIES)) -> Callable[[Path], None]:
    """The list of tags with these names of columns, its own categories, and a threshold of .2, .3, ... where there is a column."""

    def write(folder: Path) -> None:
        with open(folder / "selected_tags.csv", "w", newline="") as out:
            rows = ([at, TAGS[at], categories[at], 0.2 + at / 10] for at in range(len(TAGS)))
            csv.writer(out).writerows([names, *(row[: len(names)] for row in rows)])

    return write


def preprocessed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / "preprocess.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return write


def as_classes(said: dict[str, Any]) -> dict[str, Any]:
    words = {"pad_to_size": "PadToSize", "center_crop": "CenterCrop", "maybe_to_tensor": "ToTensor"}
    return {"test": [one | {"type": words.get(one["type"], one["type"].title())} for one in said["test"]]}


def of_a_side(said: dict[str, Any]) -> dict[str, Any]:
    return {
        "test": [one | ({"size": SIDE, "max_size": None} if one["type"] == "resize" else {}) for one in said["test"]]
    }


def columns(*order: str, **more: str) -> Callable[[Path], None]:
    """The list of tags with these columns in this order, `more` of one value each, and Windows' line ends and mark."""

    def write(folder: Path) -> None:
        path = folder / "selected_tags.csv"
        rows = [row | more for row in csv.DictReader(path.read_text().splitlines())]
        with open(path, "w", newline="", encoding="utf-8-sig") as out:
            made = csv.DictWriter(out, order, extrasaction="ignore")
            made.writeheader()
            made.writerows(rows)

    return write


def mapping(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (path,) = (path for path in folder.glob("*.json") if path.name in ("tag_mapping.json", "model_vocabulary.json"))
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return write


def renamed(one: str, other: str) -> Callable[[Path], None]:
    return lambda folder: (folder / one).rename(folder / other) and None


def beside(name: str, content: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(json.dumps(content)) and None


BESIDE = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
SPACES = ["", "", "character", "series"]
CL_OLD = vocabulary([one.title() for one in NAMED])
NO_CATEGORIES, OWN, BY_CATEGORY = [""] * 5, [0.3, 0.4, 0.5, 0.6], [0.31, 0.31, 0.5, None]


@pytest.mark.parametrize(
    "make, change, spaces, thresholds",
    [
        (wd, columns("tag_id", "name", "category"), SPACES, None),
        (wd, columns("count", "category", "id", "name", "ips", "tag_id", id="7", ips="[]"), SPACES, None),
        (wd, columns("tag_id", "name", "count"), NO_CATEGORIES, None),
        (wd, renamed("selected_tags.csv", "tags_info.csv"), SPACES, None),
        (wd, renamed("model.onnx", "wd-vit-tagger-v3.onnx"), SPACES, None),
        (wd, resaved(in_halves), SPACES, None),
        (wd, resaved(one_at_a_time), SPACES, None),
        (wd, resaved(lambda model: None, **BESIDE), SPACES, None),
        (animetimm, without("thresholds.csv", "categories.json"), SPACES, OWN),
        (animetimm, columns("name", "category"), SPACES, BY_CATEGORY),
        (
            deepghs,
            lambda folder: (folder / "thresholds.csv").write_text("category,threshold\nGeneral,0.3\ncharacter,0.85\n"),
            SPACES,
            [0.3, 0.3, 0.85, None],
        ),
        (animetimm, columns("best_threshold", "category", "alpha", "name", alpha="1"), SPACES, OWN),
        (animetimm, resaved(in_halves), SPACES, OWN),
        (animetimm, resaved(one_at_a_time, **BESIDE), SPACES, OWN),
        (animetimm, beside("meta.json", {"tags": 5}), SPACES, OWN),
        (deepghs, without("thresholds.csv"), SPACES, None),
        (deepghs, resaved(in_halves), SPACES, [0.3, 0.3, 0.85, None]),
        (camie_export, lambda folder: None, SPACES, [0.4] * 4),
        (camie_export, without("threshold.json"), SPACES, None),
        (cl_one, mapping(lambda found: CL_OLD), SPACES, None),
        (cl_one, mapping(lambda found: dict(reversed(found.items()))), SPACES, None),
        (cl_one, mapping(lambda found: {place: one["tag"] for place, one in found.items()}), NO_CATEGORIES, None),
        (cl_one, renamed("model.onnx", "model_optimized.onnx"), SPACES, None),
        (cl_one, resaved(in_halves), SPACES, None),
        (cl_two, mapping(lambda found: found | {"idx_to_tag": TAGS}), SPACES, None),
        (cl_two, beside("model_metadata.json", {"num_tags": 5}), SPACES, None),
        (cl_two, in_a_folder_below, SPACES, None),
        (wd, head("Tag_ID", " Name", "Category "), SPACES, None),
        (wd, head("tag_id", "name", "category", categories=[9.0, 0.0, 0.0, 4.0, 3.0]), SPACES, None),
        (wd, head("tag_id", "name", "category", categories=NAMED), SPACES, None),
        (wd, head("id", "name", "category", "threshold"), SPACES, OWN),
        *((wd, resaved(edited(kind)), SPACES, None) for kind in ("in_bfloat16", "number_by_number", "by_convolution")),
        *((wd, resaved(edited(kind)), SPACES, None) for kind in ("weights_as_inputs", "of_bytes")),
        (wd, resaved(lambda model: (in_halves(model), number_by_number(model.graph))), SPACES, None),
        (animetimm, resaved(edited("with_candidates", "features_for_embedding")), SPACES, OWN),
        (animetimm, beside("categories.json", {"0": "general", "4": "character", "9": "rating"}), SPACES, OWN),
        (animetimm, preprocessed(as_classes), SPACES, OWN),
        (animetimm, preprocessed(of_a_side), SPACES, OWN),
        (animetimm, preprocessed(lambda said: said["test"]), SPACES, OWN),
        (deepghs, resaved(edited("by_convolution", "weights_as_inputs")), SPACES, [0.3, 0.3, 0.85, None]),
        (camie, resaved(edited("with_candidates")), SPACES, None),
        (camie, resaved(in_halves), SPACES, None),
        (camie, resaved(one_at_a_time), SPACES, None),
        (camie, renamed("camie-tagger-v2.onnx", "model.onnx"), SPACES, None),
        (cl_one, mapping(lambda found: list(found.values())), SPACES, None),
        (
            cl_one,
            mapping(lambda found: {at: one | {"category": CATEGORIES[int(at)]} for at, one in found.items()}),
            SPACES,
            None,
        ),
        (cl_one, mapping(lambda found: {one["tag"]: int(at) for at, one in found.items()}), NO_CATEGORIES, None),
        (cl_two, resaved(edited("number_by_number")), SPACES, None),
    ],
)
def test_optional_files_odd_columns_and_other_forms_are_read(tmp_path, make, change, spaces, thresholds):
    folder = make(tmp_path / "tagger")
    change(folder)
    model = tagger.load(folder, "cpu")
    head = model.network.head
    assert head.tags == TAGS[5 - len(spaces) :] and head.namespaces == spaces
    np.testing.assert_allclose(head.thresholds, np.array(thresholds or [None] * len(spaces), float), atol=1e-6)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 3, SIDE, SIDE), dtype=np.uint8)
    plain = tagger.load(make(tmp_path / "plain"), "cpu")
    np.testing.assert_allclose(model.embed(pixels), plain.embed(pixels), atol=5e-3)


def test_an_output_that_no_tag_belongs_to_is_left_out(tmp_path):
    folder = cl_one(tmp_path / "tagger")
    mapping(lambda found: {place: one for place, one in found.items() if place != "2"})(folder)
    assert tagger.load(folder, "cpu").tags == ["1girl", "hatsune_miku", "vocaloid"]


NO_PREPROCESS = lambda folder: (animetimm(folder) / "preprocess.json").unlink()
NO_TAGS = lambda folder: (wd(folder) / "selected_tags.csv").unlink()
NO_WEIGHTS = lambda folder: (cl_two(folder) / "model.onnx.data").unlink()
CUT_WEIGHTS = lambda folder: os.truncate(cl_two(folder) / "model.onnx.data", 40)


def described(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """The same damage where a tagger.json describes the folder."""

    def make(folder: Path) -> None:
        found = published_layouts.recognise(cl_two(folder))
        (folder / "tagger.json").write_text(found[0])
        change(folder)

    return make


def kept_at(location: str) -> Callable[[Path], object]:
    return lambda folder: keep_at(cl_two(folder), location)


def steps(*some: dict[str, object]) -> Callable[[Path], object]:
    return lambda folder: (animetimm(folder) / "preprocess.json").write_text(json.dumps({"test": list(some)}))


def cut_by(count: int, path: Path) -> None:
    os.truncate(path, path.stat().st_size - count)


def changed_metadata(folder: Path, **more: object) -> None:
    (path,) = folder.glob("*metadata.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


PAD = {"type": "pad_to_size", "size": [40, 40], "background_color": "white"}
RESIZED = {"type": "resize", "size": [SIDE, SIDE], "interpolation": "bicubic"}


ABSENT = [
    (NO_PREPROCESS, "no preprocess.json in .*only that file tells their colours and range"),
    (NO_TAGS, "no list of tags in .*selected_tags.csv, tag_mapping.json"),
    (NO_WEIGHTS, "no model.onnx.data in .*holds weights of the network"),
    (described(NO_WEIGHTS), "no model.onnx.data in .*holds weights of the network"),
    (kept_at("weights/part.bin"), "no weights/part.bin in "),
]
DAMAGED = [
    (CUT_WEIGHTS, "model.onnx.data holds 40 bytes of the [0-9,]+ or more that model.onnx has in it"),
    (described(CUT_WEIGHTS), "model.onnx.data holds 40 bytes"),
    (kept_at("../model.onnx.data"), "keeps weights outside its folder"),
    (kept_at("/etc/hostname"), "keeps weights outside its folder"),
    (steps({"type": "resize", "size": 32}, {"type": "center_crop", "size": [32, 32]}), "cuts the middle out"),
    (steps({"type": "sharpen"}), "has a step 'sharpen' that is not known"),
    (steps({"type": "pad_to_size", "size": 9, "background_color": "beige"}), "'beige', which is not a known colour"),
    (steps(PAD | {"background_color": [1.0, 1.0, 1.0]}, RESIZED), "'background': entry 1: 1.0 is not a whole number"),
    (steps({"type": "resize", "size": [32, 32], "interpolation": "nearest"}), "resizes by 'nearest'"),
    (steps({"type": "normalize", "mean": 0, "std": 1}), "neither pads .* nor stretches"),
    (steps(PAD, RESIZED | {"size": [48, 48]}), "preprocess.json says 48 pixels a side, model.onnx takes 32"),
    (steps(RESIZED, PAD | {"size": [40, 40]}), "preprocess.json says 40 pixels a side, model.onnx takes 32"),
    (steps(PAD, RESIZED | {"size": [36, 36]}, {"type": "center_crop", "size": [32, 32]}), "cuts the middle"),
    (steps(PAD, RESIZED | {"size": ["32", "32"]}), "a step 'resize' of size"),
    (steps(PAD, RESIZED, {"type": "rescale", "rescale_factor": "x"}), "'rescale' with factor 'x'"),
    (steps(PAD, RESIZED, {"type": "normalize", "mean": 0.5}), "preprocess.json .* 'normalize' with std None"),
    (steps(PAD, RESIZED, {"type": "normalize", "mean": 0, "std": 0}), "'normalize' with std 0"),
    (steps(PAD, RESIZED, {"type": "normalize", "mean": 123.6, "std": 58.4}), "off a range of .0, 1., or"),
    (steps(PAD, RESIZED, *[{"type": "normalize", "mean": 0.5, "std": 0.5}] * 2), "or does so twice"),
    (lambda folder: (animetimm(folder) / "thresholds.csv").write_text("<!DOCTYPE html>"), "no column 'category'"),
    (
        lambda folder: (animetimm(folder) / "thresholds.csv").write_text("category,threshold\n0,35\n"),
        "a threshold of 35",
    ),
    (lambda folder: beside("categories.json", [{"category": None}])(animetimm(folder)), "'category': None is not"),
    (lambda folder: cut_by(12, wd(folder) / "selected_tags.csv"), "is cut off: line [0-9]+ has fewer cells"),
    (lambda folder: cl_one(wd(folder)), "holds selected_tags.csv and tag_mapping.json: keep the one"),
    (
        lambda folder: beside("tag_mapping.json", {"0": "a"})(cl_two(folder)),
        "holds tag_mapping.json and model_vocabulary.json",
    ),
    (
        lambda folder: changed_metadata(camie(folder), model_info={"img_size": 64}),
        "metadata.json says 64 pixels a side, camie-tagger-v2.onnx takes 32",
    ),
    (lambda folder: (animetimm(folder) / "preprocess.json").write_text("[]"), "no list of steps"),
    (lambda folder: (animetimm(folder) / "preprocess.json").write_text("{"), "is not JSON"),
    (lambda folder: (wd(folder) / "selected_tags.csv").write_text("a,b\n1,2\n"), "no column of names"),
    (lambda folder: (wd(folder) / "model.onnx").write_bytes(b""), "is empty"),
    (lambda folder: (cl_one(folder) / "tag_mapping.json").write_text("[1]"), "list of names nor an object"),
    (
        lambda folder: renamed("model_vocabulary.json", "model_metadata.json")(cl_two(folder)),
        "no dataset_info with a tag_mapping.*model_vocabulary.json would tell",
    ),
    (
        lambda folder: beside("older-metadata.json", {})(camie(folder)),
        "keep the one that belongs to camie-tagger-v2.onnx",
    ),
    (
        lambda folder: onnx.save(graph(("output",), layout="NHWC"), cl_one(folder) / "model.onnx"),
        "takes its colours last",
    ),
    (
        lambda folder: beside("threshold.json", [])(camie_export(folder)),
        "threshold.json: a list is not an object: get it again",
    ),
    (lambda folder: columns("tag_id", "category")(wd(folder)), "no column of names, only 'tag_id'"),
    (
        lambda folder: mapping(lambda found: {"tag_to_idx": found["tag_to_idx"]})(cl_two(folder)),
        "neither a list of names",
    ),
    (
        lambda folder: (
            put(folder, graph(("output",), layout="NHWC"), {}, "a.onnx")
            and put(folder, graph(("output",), layout="NHWC"), {}, "b.onnx")
        ),
        "holds a.onnx, b.onnx",
    ),
]


@pytest.mark.parametrize(
    "error, damage, says", [*((MissingInput, *one) for one in ABSENT), *((BadFile, *one) for one in DAMAGED)]
)
def test_what_is_not_recognised_says_which_file_would_tell(tmp_path, error, damage, says):
    folder = tmp_path / "tagger"
    damage(folder)
    with pytest.raises(error, match=says):
        tagger.load(folder, "cpu")


# --- by name -----------------------------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: which files a repository has, and each file's size, digest, commit and bytes."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        if server.token and self.headers["Authorization"] != f"Bearer {server.token}":
            return self._send(401, b"", body, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
        repositories = {"someone/tagger": server.files} | server.repositories
        parts = self.path.partition("?")[0].removeprefix("/api/models").strip("/").split("/")
        files = repositories.get("/".join(parts[:2]), {})
        if self.path.startswith("/api/models/") and files:
            listing = {"id": "/".join(parts), "sha": server.commit, "siblings": [{"rfilename": name} for name in files]}
            return self._send(200, json.dumps(listing).encode(), body, {"Content-Type": "application/json"})
        name = "/".join(parts[4:])
        if name not in files:
            return self._send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        digest = hashlib.sha256(files[name]).hexdigest()
        commit = server.commit if parts[3] == "main" else parts[3]
        return self._send(200, files[name], body, {"ETag": f'"{digest}"', "X-Repo-Commit": commit})

    def _send(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.repositories, server.asked, server.token = {}, {}, [], None  # type: ignore[attr-defined]
    server.commit = "c" * 40  # type: ignore[attr-defined]
    server.address = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def published(folder: Path, under: str = "") -> dict[str, bytes]:
    return {under + path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_tagger_is_fetched_by_its_name_once(hub, tmp_path):
    hub.files = published(animetimm(tmp_path / "there")) | {"README.md": b"#", "model.safetensors": b"large"}
    folder = download.ensure_model("someone/tagger", tmp_path / "here", hub.address, pause=0)
    assert folder == tmp_path / "here" / "someone" / "tagger"
    kept = {path.name for path in folder.iterdir()} - {download.LISTED, download.PINNED}
    assert kept == set(hub.files) - {"README.md", "model.safetensors"}
    assert tagger.load(folder, "cpu").network.name == "tagger"
    asked = len(hub.asked)
    assert download.ensure_model("someone/tagger", tmp_path / "here", hub.address) == folder and len(hub.asked) == asked


def test_files_that_are_fetched_in_two_runs_are_of_one_commit(hub, tmp_path, monkeypatch):
    hub.files = published(animetimm(tmp_path / "there"))
    with monkeypatch.context() as patch:
        whole = download._fetch
        patch.setattr(download, "_fetch", lambda path, *rest: (whole(path, *rest), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            download.ensure_model("someone/tagger", tmp_path / "here", hub.address)
    folder = tmp_path / "here" / "someone" / "tagger"
    hub.commit, before = "d" * 40, hub.asked.copy()
    assert (folder / download.PINNED).exists() and len(published(folder)) < len(hub.files)
    assert download.ensure_model("someone/tagger", tmp_path / "here", hub.address) == folder
    assert [path for path in hub.asked[len(before) :] if "c" * 40 not in path] == []
    assert set(published(folder)) == {*hub.files, download.LISTED, download.PINNED}


def test_a_file_that_was_deleted_comes_back_of_the_commit_of_the_others_and_all_of_them_of_the_newest(hub, tmp_path):
    hub.files = published(animetimm(tmp_path / "there"))
    folder = download.ensure_model("someone/tagger", tmp_path / "here", hub.address)
    hub.commit, before = "d" * 40, len(hub.asked)
    for gone, commit in ((list(hub.files)[:1], "c" * 40), (hub.files, "d" * 40)):
        for name in gone:
            (folder / name).unlink()
        download.ensure_model("someone/tagger", tmp_path / "here", hub.address)
        assert (folder / download.PINNED).read_text() == commit and published(folder).items() >= hub.files.items()
        assert all(("c" * 40 in path) == (commit[0] == "c") for path in hub.asked[before:])
        before = len(hub.asked)


def test_a_tagger_that_is_not_for_everybody_is_fetched_with_the_owners_token(hub, tmp_path, monkeypatch):
    hub.files, hub.token = published(animetimm(tmp_path / "there")), "hf_owners"
    monkeypatch.setenv("HF_TOKEN", "hf_strangers")
    with pytest.raises(MissingInput, match="does not tell the files of someone/tagger .*GatedRepo.*--model-dir"):
        download.ensure_model("someone/tagger", tmp_path / "here", hub.address)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    folder = download.ensure_model("someone/tagger", tmp_path / "here", hub.address)
    assert published(folder).items() >= hub.files.items()


def test_a_folder_of_a_repository_is_named_after_it(hub, tmp_path):
    hub.files = published(cl_two(tmp_path / "there"), "v2/") | published(cl_one(tmp_path / "other"), "v1/")
    with pytest.raises(MissingInput, match="holds no .onnx file; it has some in v1, v2: add the folder to the name"):
        download.ensure_model("someone/tagger", tmp_path / "here", hub.address)
    folder = download.ensure_model("someone/tagger/v2", tmp_path / "here", hub.address)
    assert tagger.load(folder, "cpu").tags == TAGS[1:]


def test_a_name_that_cannot_be_had_says_both_ways_out(hub, tmp_path):
    with pytest.raises(UsageError, match="OWNER/NAME of a repository is expected"):
        download.ensure_model("../secrets", tmp_path, hub.address)
    with pytest.raises(MissingInput, match=r"does not tell the files of no/body .*--model-dir"):
        download.ensure_model("no/body", tmp_path, hub.address)


def test_the_stage_takes_a_tagger_by_name_and_prints_what_it_recognised(hub, tmp_path, script, monkeypatch):
    from PIL import Image

    from tagcheck.embedding.download import FOLDER

    hub.files = published(animetimm(tmp_path / "there"))
    pictures, data = tmp_path / "pictures", tmp_path / "data"
    pictures.mkdir()
    for number in range(3):
        colour = (80 * number, 40, 90)
        Image.new("RGB", (50, 40), colour).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text("long hair")
    name = "someone/tagger"
    assert script("dataset_hardcore_mapper.py", "--library", pictures, "--data-dir", data).returncode == 0
    env = {"HF_ENDPOINT": hub.address, "TAGCHECK_MODELS": str(tmp_path / "models")}
    done = script("advanced_joytag_processing.py", "--data-dir", data, "--model", name, env=env)
    assert done.returncode == 0, done.stderr
    assert '"output_name": "prediction"' in done.stderr and "recognised, as if" in done.stderr
    assert store.load(data / "advanced_embeddings").matrix.shape == (3, WIDE)
    assert not (FOLDER / "someone").exists()
    both = script(
        "advanced_joytag_processing.py", "--data-dir", data, "--model", name, "--model-dir", pictures, env=env
    )
    assert both.returncode == 2 and "name two taggers" in both.stderr


# --- the page about it -------------------------------------------------------------------------------------------------

PAGE = "docs/taggers.md"


def test_every_command_of_the_page_runs(hub, tmp_path):
    """With a small tagger of each layout where the page's commands look for it."""
    from PIL import Image

    put(tmp_path / "taggers" / "wd-vit-tagger-v3", graph(("output",), layout="NHWC"), {"selected_tags.csv": listed()})
    camie(tmp_path / "taggers" / "camie-tagger-v2")
    hub.repositories = {
        "animetimm/caformer_s18.dbv4-full": published(animetimm(tmp_path / "a")),
        "cella110n/cl_tagger": published(cl_one(tmp_path / "b"), "cl_tagger_1_02/"),
    }
    (tmp_path / "Pictures").mkdir()
    for number in range(3):
        Image.new("RGB", (50, 40), (80 * number, 40, 90)).save(tmp_path / "Pictures" / f"{number}.png")
        (tmp_path / "Pictures" / f"{number}.txt").write_text("long hair")
    told = documented.commands(PAGE)
    assert len(told) >= 8
    for command in told:
        done = documented.run(command, tmp_path, HF_ENDPOINT=hub.address, TAGCHECK_MODELS=str(tmp_path / "models"))
        assert done.returncode == 0, (command, done.stderr)
    seen = (store.load(tmp_path / "tags-wd" / "advanced_embeddings" / name) for name in ("", "camie"))
    assert len({one.model for one in seen}) == 2


def test_the_samples_of_the_page_are_tagger_jsons(tmp_path):
    found = documented.samples(PAGE)
    text, _ = published_layouts.recognise(make_onnx_folder(tmp_path / "wd-vit-tagger-v3"))
    (written,) = (one for one in found if one.get("kind") == "tagger")
    assert written == json.loads(text)
