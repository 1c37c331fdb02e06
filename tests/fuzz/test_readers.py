"""Random and damaged input for every reader of files: an error in one line that names the file, or a value.

Each draw of hypothesis is one file as drawn, and others that are made from it, or from a good file, by a seed. A file may cost
so much time and memory and no more (`mutants.limited`). `FUZZ_EXAMPLES` says how many files each test tries (`make fuzz`:
100,000).
"""

from __future__ import annotations

import atexit
import codecs
import io
import json
import math
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hydrus_server import HydrusServer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from joytag_folder import make_tiny_model_folder
from mutants import as_bytes, changed, limited, mutants, odd
from onnx import TensorProto, helper, numpy_helper
from onnx_folder import NAMES, descriptor
from PIL import Image
from review_data import hashes, missing, pair, save_mistagged, wrong
from series_library import draw, write

import find_bad_sources
import train_series_classifier_images
from joytag.Models import ViT
from tagcheck import arrays, data_folder, dataset, detectors, single_picture
from tagcheck.belief import of_library
from tagcheck.data_folder import DATASET, MAPPING, RUN_SUMMARY, DataFolder
from tagcheck.detectors import DETECTORS, MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION
from tagcheck.duplicates import kept_pairs
from tagcheck.embedding import joytag_network, published_layouts, store, tagger_json
from tagcheck.embedding.onnx_graph import Graph
from tagcheck.errors import ToolError
from tagcheck.json_files import Unusable, parse
from tagcheck.library.folder import forms, tables
from tagcheck.library.folder.known_hashes import FolderStore
from tagcheck.library.folder.sidecar_text import NotASidecar
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.library.hydrus.connection import Answer, Connection
from tagcheck.pictures import unreadable
from tagcheck.pictures.file_formats import ImageUnreadable, ImageUnsupported, Limits
from tagcheck.pictures.preparation import shown
from tagcheck.review import Filter, Review, by_picture, queries, report_import
from tagcheck.review.store import decisions
from tagcheck.series import classifier_files
from tagcheck.tag_errors import tag_rules, tagger_vocabulary
from webapp import keys

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
FILES = 10 if EXAMPLES < 5_000 else 100  # made of each draw
few = settings(
    max_examples=math.ceil(EXAMPLES / FILES),
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
seeds = st.integers(0, 2**32)
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(), max_size=8)
words = st.sampled_from(
    [
        "kind",
        "version",
        "hash",
        "results",
        "errors",
        "existing_all_tags",
        "a",
        "accept",
        "excludes",
        "implications",
        "exclusive_groups",
        "never_suggest",
        "files",
        "tools",
        "status",
        "reason",
        "dataset",
        "tagger",
        "labels",
    ]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=4), inner, max_size=4)
)
texts = st.binary(max_size=200) | values.map(as_bytes)
HASHES = hashes(6)


@cache
def place(name: str) -> Path:
    """A folder that lasts for the tests."""
    path = Path(tempfile.mkdtemp(prefix=f"fuzz_{name}_", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    atexit.register(shutil.rmtree, path, True)
    return path


def refused_or_read(reader: Callable[[], object]) -> None:
    """Within the limits, a value or an error in one line."""
    with limited():
        try:
            reader()
        except ToolError as error:
            assert "\n" not in str(error), str(error)


# --- small files ----------------------------------------------------------------------------------------

RULES = {
    "exclusive_groups": [["a", "b"]],
    "excludes": {"a": ["c"]},
    "implications": {"a": ["d"]},
    "never_suggest": ["x*"],
}
FAILED = {"hash": HASHES[0], "status": "unreadable", "reason": "cut off"}
UNREADABLE = {"kind": "unreadable_files", "version": 1, "tools": {}, "files": [FAILED]}
DAMAGED = {"kind": "damaged_files", "version": 1, "files": [{"hash": HASHES[0], "reason": "x"}]}
SMALL: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "tag_rules.json": (tag_rules.load, as_bytes(RULES)),
    "tag_map.json": (tagger_vocabulary.load, as_bytes({"miku": "character:miku", "sketch": None})),
    "tag_map.csv": (tagger_vocabulary.load, b'miku,4,100,"hatsune,vocaloid"\n"quoted ""x""",0,5,\n'),
    "unreadable.json": (lambda folder: unreadable.load(folder, {}), as_bytes(UNREADABLE)),
    "damaged.json": (unreadable.DAMAGED.load, as_bytes(DAMAGED)),
    "tagger.json": (tagger_json.read, as_bytes(descriptor())),
    "review_keys.json": (keys.load, as_bytes({"accept": ["A"], "settle": ["Enter", "Ctrl+Shift+Z"]})),
}


@pytest.mark.parametrize("name", SMALL)
@few
@given(data=texts, seed=seeds)
def test_a_small_file_is_read_or_named_in_one_line(name: str, data: bytes, seed: int) -> None:
    reader, good = SMALL[name]
    folder, rng = place(name), Random(seed)
    for one in (data, *mutants(good, FILES - 1, rng)):
        (folder / name).write_bytes(one)
        refused_or_read(lambda: reader(folder))


@few
@given(
    data=st.binary(max_size=300), at=st.integers(0, 9_000), store_of=st.sampled_from(["folder", "review"]), seed=seeds
)
def test_a_damaged_store_is_read_or_named(data: bytes, at: int, store_of: str, seed: int) -> None:
    folder, rng = place("store"), Random(seed)
    path = folder / f"{store_of}.sqlite3"
    for number in range(FILES):
        for left in folder.glob("*.sqlite3*"):
            left.unlink()
        made = bytearray(_good_store(store_of) if (at + number) % 3 else b"")
        start = at if not number else rng.randrange(len(made) + 1)
        made[start : start + len(data)] = data
        path.write_bytes(made if number % 2 else changed(bytes(made), rng))
        refused_or_read(lambda: _hashes(path) if store_of == "folder" else decisions(path))


def _hashes(path: Path) -> None:
    FolderStore(path).hashes()


@cache
def _good_store(of: str) -> bytes:
    path = place("good store") / f"{of}.sqlite3"
    _hashes(path) if of == "folder" else Review(path).close()
    return path.read_bytes()


# --- files between stages ----------------------------------------------------------------------------------

RECORD = {
    "hash": HASHES[0],
    "status": "ok",
    "existing_all_tags": ["x", "series:y"],
    "existing_series_tags": ["series:y"],
    "joytag_tags": [["x", 0.9], ["z", 0.2]],
    "pages": [["Dataset", "All"]],
    "width": 10,
    "height": 20,
    "size": 300,
    "mime": "image/png",
    "pixels": "f" * 64,
}
SERIES_ENTRY = {"hash": HASHES[0], "series": "series:y", "confidence": 0.7}
GROUP = {"hashes": HASHES[:2], "best_copy": HASHES[0], "reasons": ["more pixels"]}
DOCUMENTS: dict[data_folder.Kind, dict[str, Any]] = {
    DATASET: {"summary": {}, "results": [RECORD]},
    MAPPING: {"library": {"type": "folder"}, "pages": [{"path": ["Dataset"], "hashes": HASHES[:2]}]},
    RUN_SUMMARY: {"detectors": [{"script": "find_mistagged_images.py", "exit_code": 0}]},
    MISTAGGED: {"summary": {}, "errors": [missing(HASHES[0], "y", near_with=[HASHES[1]]), wrong(HASHES[1], "z")]},
    NEAR_DUPLICATES: {
        "summary": {},
        "similar_pairs": [pair(*HASHES[:2], only_in_1=("x",))],
        "groups": [HASHES[:2]],
        "group_details": [GROUP],
    },
    SERIES_VALIDATION: {
        "summary": {"accuracy": 0.9},
        "per_series": [],
        "missing_predictions": [SERIES_ENTRY],
        "incorrect_predictions": [SERIES_ENTRY | {"hash": HASHES[1]}],
    },
} | {one.report: {"summary": {}, "errors": [missing(HASHES[0], "y")]} for one in DETECTORS[3:]}


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.name)
@few
@given(value=st.dictionaries(words, values, max_size=5), indent=st.sampled_from([None, 0, 1]), seed=seeds)
def test_a_file_between_stages_is_read_or_named(
    kind: data_folder.Kind, value: dict[str, Any], indent: int | None, seed: int
) -> None:
    path = place(kind.name) / "x.json"
    head = {"kind": kind.name, "version": 1}
    good = json.dumps(head | DOCUMENTS[kind], indent=indent).encode()
    for data in (as_bytes(head | value), *mutants(good, FILES - 1, Random(seed))):
        path.write_bytes(data)
        refused_or_read(lambda: data_folder.load(path, kind, Unusable()))


def _lines(head: str, name: str, rows: Sequence[Any]) -> bytes:
    lines = b",\n".join(map(as_bytes, rows))
    return head.encode() + b'"' + name.encode() + b'": [\n' + lines + b"\n]\n}\n"


@few
@given(rows=st.lists(st.dictionaries(words, values, max_size=5) | values, max_size=4), seed=seeds)
def test_a_wrong_record_of_a_dataset_costs_itself(rows: list[Any], seed: int) -> None:
    rng, folder = Random(seed), DataFolder(place("dataset"))
    (folder.root / "datasets").mkdir(exist_ok=True)
    path = folder.root / "datasets" / f"{DATASET.prefix}_20260101T000000Z.json"
    rows += [odd(RECORD | {"hash": rng.choice(HASHES[1:])}, rng) for _ in range(FILES - len(rows))]
    path.write_bytes(_lines('{\n"kind": "dataset",\n"version": 1,\n', "results", [RECORD, *rows]))
    with limited():
        assert HASHES[0] in {record.hash for record in dataset.load(folder, tell=lambda _: None).records}


ENTRIES = {
    MISTAGGED: (
        "errors",
        [missing(HASHES[1], "y", near_with=[HASHES[2]]), wrong(HASHES[2], "z")],
        missing(HASHES[0], "good"),
    ),
    NEAR_DUPLICATES: ("similar_pairs", [pair(*HASHES[1:3], only_in_1=("x",))], pair(HASHES[0], HASHES[5])),
    SERIES_VALIDATION: ("missing_predictions", [SERIES_ENTRY], SERIES_ENTRY | {"series": "series:good"}),
}


@pytest.mark.parametrize("kind", ENTRIES, ids=lambda kind: kind.name)
@few
@given(rows=st.lists(values, max_size=3), seed=seeds)
def test_a_wrong_entry_of_a_report_costs_itself_on_the_page(kind: data_folder.Kind, rows: list[Any], seed: int) -> None:
    name, like, good = ENTRIES[kind]
    folder, rng = DataFolder(place(f"page_{kind.name}")), Random(seed)
    (folder.root / "reports").mkdir(exist_ok=True)
    rows += [odd(rng.choice(like), rng) for _ in range(FILES - len(rows))]
    head = f'{{\n"kind": "{kind.name}",\n"version": 1,\n"summary": {{}},\n'
    (folder.root / "reports" / f"{kind.prefix}_20260101T000000Z.json").write_bytes(_lines(head, name, [good, *rows]))
    for left in folder.root.glob("*.sqlite3*"):
        left.unlink()
    with limited(), Review(folder.review) as review:
        report_import.sync(review, folder)
        found = queries.page(review, Filter(state=""), limit=1000)
        assert any(HASHES[0] in one.members for one in found)


@few
@given(rows=st.lists(values, max_size=3), seed=seeds)
def test_a_stage_that_reads_a_report_leaves_out_its_wrong_entries(rows: list[Any], seed: int) -> None:
    folder, rng = DataFolder(place("sources")), Random(seed)
    for name in ("reports", "datasets"):
        (folder.root / name).mkdir(exist_ok=True)
    came = RECORD | {"time_imported": 1.7e9, "existing_all_tags": ["x", "source:https://a.example/1"]}
    records = [came, *(odd(came | {"hash": hash}, rng) for hash in HASHES[1:])]
    (folder.root / "datasets" / f"{DATASET.prefix}_20260101T000000Z.json").write_bytes(
        _lines('{\n"kind": "dataset",\n"version": 1,\n', "results", records)
    )
    rows += [odd(wrong(rng.choice(HASHES), "x"), rng) for _ in range(FILES - len(rows))]
    head = f'{{\n"kind": "{MISTAGGED.name}",\n"version": 1,\n'
    (folder.root / "reports" / f"{MISTAGGED.prefix}_20260101T000000Z.json").write_bytes(_lines(head, "errors", rows))
    made = detectors.own_report("find_bad_sources.py")
    for left in folder.files(made):
        left.unlink()
    refused_or_read(lambda: find_bad_sources.main(["--data-dir", str(folder.root)]))


# --- a tagger's files ----------------------------------------------------------------------------------


@cache
def small_network(planes: bool = False) -> onnx.ModelProto:
    """A network of a published tagger's form, colours last or in `planes`: pictures in, tags out, hardly any weights."""
    head = np.ones((len(NAMES), 3), np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["embedding"], axes=[2, 3] if planes else [1, 2], keepdims=0),
        helper.make_node("Gemm", ["embedding", "head", "bias"], ["logits"], transB=1),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    stored = [numpy_helper.from_array(head, "head"), numpy_helper.from_array(head[:, 0], "bias")]
    shape = ["b", 3, 8, 8] if planes else ["b", 8, 8, 3]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    made = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["b", len(NAMES)])
    return helper.make_model(helper.make_graph(nodes, "tagger", [given], [made], stored), ir_version=9)


TAG_ROWS = "\n".join(f"{number},{number},{4 if number > 4 else 0},7,0.4" for number in range(len(NAMES)))
SELECTED = f"tag_id,name,category,count,best_threshold\n{TAG_ROWS}\n".encode()
CATEGORIES = as_bytes([{"category": 0, "name": "general"}, {"category": 4, "name": "character"}])
THRESHOLDS = b"category,name,threshold\n0,general,0.35\n4,character,0.8\n"
STEPS = [
    {"type": "pad_to_size", "size": [8, 8], "interpolation": "bicubic", "background_color": "white"},
    {"type": "resize", "size": 8, "interpolation": "bicubic"},
    {"type": "center_crop", "size": [8, 8]},
    {"type": "maybe_to_tensor"},
    {"type": "normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
]
INDEX = {str(number): str(number) for number in range(len(NAMES))}
MAPPED = {number: {"tag": number, "category": "general"} for number in INDEX}
VOCABULARY = {"idx_to_tag": INDEX, "tag_to_category": dict.fromkeys(INDEX, "general")}
CAMIE = {"model_info": {"img_size": 8}, "dataset_info": {"tag_mapping": VOCABULARY}}
BESIDE: dict[str, dict[str, bytes]] = {
    "selected_tags.csv": {"selected_tags.csv": SELECTED, "categories.json": CATEGORIES},
    "categories.json": {"selected_tags.csv": SELECTED, "categories.json": CATEGORIES},
    "thresholds.csv": {"selected_tags.csv": SELECTED, "thresholds.csv": THRESHOLDS},
    "preprocess.json": {"selected_tags.csv": SELECTED, "preprocess.json": as_bytes({"test": STEPS})},
    "tag_mapping.json": {"tag_mapping.json": as_bytes(MAPPED)},
    "model_vocabulary.json": {"model_vocabulary.json": as_bytes(VOCABULARY)},
    "camie-metadata.json": {"camie-metadata.json": as_bytes(CAMIE)},
}


@pytest.mark.parametrize("name", BESIDE)
@few
@given(data=texts, seed=seeds)
def test_a_taggers_published_files_are_read_or_named(name: str, data: bytes, seed: int) -> None:
    folder = place(f"layout {name}")
    if not (folder / "model.onnx").exists():
        planes = name in ("tag_mapping.json", "model_vocabulary.json", "camie-metadata.json")
        (folder / "model.onnx").write_bytes(small_network(planes).SerializeToString())
        for other, content in BESIDE[name].items():
            (folder / other).write_bytes(content)
        assert published_layouts.recognise(folder)
    for one in (data, *mutants(BESIDE[name][name], FILES - 1, Random(seed))):
        (folder / name).write_bytes(one)
        refused_or_read(lambda: _recognised(folder))


def _recognised(folder: Path) -> None:
    found = published_layouts.recognise(folder)
    if found is not None:
        tagger_json.read_labels(folder, found[1].labels)


NAMED = st.sampled_from(["input", "a", "b", "c", "head", "bias", "output", ""])
nodes = st.lists(
    st.tuples(
        st.sampled_from(
            ["Gemm", "MatMul", "Add", "Sigmoid", "Identity", "Cast", "Constant", "Transpose", "Dropout", "Mul"]
        ),
        st.lists(NAMED, max_size=3),
        st.lists(NAMED, min_size=1, max_size=2),
    ),
    max_size=8,
)
SIZES = st.sampled_from([0, 1, 2, 3, 7, 2**31, 2**62, -1])
tensors = st.lists(
    st.tuples(NAMED, st.lists(SIZES, max_size=4), st.sampled_from([1, 10, 11, 7, 0, 99]), st.binary(max_size=48)),
    max_size=4,
)


def _graph(nodes: Sequence[tuple[str, list[str], list[str]]], tensors: Sequence[tuple[Any, ...]], rng: Random) -> bytes:
    made = []
    for operator, inputs, outputs in nodes:
        node = helper.make_node(operator, inputs, outputs)
        if operator in ("Gemm", "Transpose"):
            node.attribute.append(helper.make_attribute("transB", rng.choice((0, 1))))
            node.attribute.append(helper.make_attribute("perm", rng.choice(([1, 0], [0, 1], [5]))))
        made.append(node)
    stored = []
    for name, dims, kind, raw in tensors:
        tensor = onnx.TensorProto(name=name, data_type=kind, raw_data=raw)
        tensor.dims.extend(dims)
        if rng.random() < 0.2:
            tensor.ClearField("raw_data")
            tensor.float_data.extend([1.0] * rng.randrange(9))
        if rng.random() < 0.1:
            tensor.data_location = TensorProto.EXTERNAL
            where = rng.choice(("../x", "/etc/passwd", "x.data", "", "."))
            for key, value in (("location", where), ("offset", rng.choice(("0", "-1", str(2**70)))), ("length", "12")):
                tensor.external_data.add(key=key, value=value)
        stored.append(tensor)
        if rng.random() < 0.2:
            made.append(helper.make_node("Constant", [], [name], value=tensor))
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [rng.choice((1, "b", None)), 8, 8, 3])
    out = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["b", 7])
    return helper.make_model(helper.make_graph(made, "g", [given], [out], stored), ir_version=9).SerializeToString()


@few
@given(data=st.binary(max_size=80), nodes=nodes, tensors=tensors, seed=seeds)
def test_an_onnx_file_is_read_or_named(data: bytes, nodes: list[Any], tensors: list[Any], seed: int) -> None:
    rng, folder = Random(seed), place("onnx")
    some = [_graph(rng.sample(nodes, len(nodes)), tensors, rng) for _ in range(max(1, FILES // 4))]
    some += [
        changed(rng.choice((some[0], small_network().SerializeToString())), rng) for _ in range(FILES - len(some) - 1)
    ]
    for one in (data, *some):
        with limited(), suppress(ToolError):
            graph = Graph(one, "x.onnx", folder)
            for name in [*graph.outputs, *graph.maker]:
                graph.made_by_sigmoid(name)
                with suppress(ToolError):
                    graph.last_linear(name)


def _safetensors(header: Any, size: int, said: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else as_bytes(header)
    return struct.pack("<Q", len(text) if said is None else said) + text + bytes(size)


@cache
def _network() -> tuple[ViT, bytes]:
    folder = make_tiny_model_folder(place("joytag"))
    config = json.loads((folder / "config.json").read_text())
    return ViT.from_config(config), (folder / "model.safetensors").read_bytes()


offsets = st.integers(-1, 200) | st.sampled_from([2**31, 2**62, 2**63, 2**64])
entries = st.dictionaries(
    st.sampled_from(["pos_embedding.table", "head.weight", "head.bias", "__metadata__", "x", ""]),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F16", "F32", "BF16", "I64", "BOOL", "F8_E4M3", "x"]),
            "shape": st.lists(offsets, max_size=4),
            "data_offsets": st.tuples(offsets, offsets),
        }
    )
    | values,
    max_size=4,
)


@few
@given(header=entries, size=st.integers(0, 200), said=st.none() | st.integers(0, 2**64 - 1), seed=seeds)
def test_a_networks_weights_are_read_or_named(header: Any, size: int, said: int | None, seed: int) -> None:
    network, good = _network()
    path, rng = place("weights") / "model.safetensors", Random(seed)
    length = struct.unpack("<Q", good[:8])[0]
    whole = json.loads(good[8 : 8 + length])
    made = [_safetensors(header, size, said), good]
    for _ in range(FILES - 2):
        if rng.random() < 0.5:
            text = as_bytes(odd(whole, rng))
            made.append(struct.pack("<Q", len(text)) + text + good[8 + length :])
        else:
            made.append(changed(good[: 8 + length], rng) + good[8 + length :])
    for one in made:
        path.write_bytes(one)
        refused_or_read(lambda: joytag_network.load_weights(network, path))


@few
@given(data=texts, seed=seeds)
def test_a_networks_configuration_is_read_or_named(data: bytes, seed: int) -> None:
    _network()
    folder, good = place("joytag"), json.loads((place("joytag") / "config.json").read_text())
    try:
        for one in (data, *mutants(as_bytes(good), FILES - 1, Random(seed))):
            (folder / "config.json").write_bytes(one)
            refused_or_read(lambda: joytag_network.read_folder(folder))
    finally:
        (folder / "config.json").write_text(json.dumps(good))


@cache
def _pt_files() -> dict[str, bytes]:
    folder = place("pt")
    with store.ShardWriter(folder, "m", "p") as writer:
        small = [np.arange(6, dtype=np.uint8)] * 3
        writer.add(HASHES[:3], np.ones((3, 4), np.float32), [(3, 2)] * 3, small, HASHES[:3])
    store.save_tag_head(folder, store.TagHead(["a", "b"], np.ones((2, 4), np.float32), np.zeros(2, np.float32), "m"))
    return {"a.pt": store.shard_paths(folder)[0].read_bytes(), "tag_head.pt": (folder / "tag_head.pt").read_bytes()}


def _repacked(good: bytes, rng: Random, document: bytes | None) -> bytes:
    """The archive with its pickle changed, or another one, and sums that are right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as made:
        for one in archive.infolist():
            content = archive.read(one)
            if one.filename.endswith("data.pkl"):
                content = document if document is not None else changed(content, rng)
            elif rng.random() < 0.1:
                content = changed(content, rng)
            made.writestr(one.filename, content)
    return out.getvalue()


tensor_like = st.builds(
    lambda shape, dtype: torch.zeros(shape, dtype=dtype),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from([torch.float16, torch.float32, torch.int64, torch.bool, torch.complex64, torch.bfloat16]),
)
pt_keys = st.sampled_from(
    ["kind", "version", "hashes", "embeddings", "model", "preprocess", "weight", "bias", "tags", "thumbnails", "sizes"]
)
pt_values = (
    st.sampled_from(["embeddings", "tag_head", "m", "p", HASHES[:1], HASHES[:2], [1], 1]) | tensor_like | scalars
)
documents = st.dictionaries(pt_keys, pt_values, max_size=8) | tensor_like | scalars | st.lists(tensor_like, max_size=3)


PT_READERS: dict[str, list[Callable[[Path], object]]] = {
    "tag_head.pt": [store.load_tag_head],
    "a.pt": [
        store.load,
        store.found_model,
        lambda folder: store.embedded(folder, "m", "p", pixels={}),
        lambda folder: store.load_thumbnails(folder, HASHES[:3], 6),
        lambda folder: by_picture._embeddings(DataFolder(folder.parent), set(HASHES[:2]), "m", 4),
    ],
}


@pytest.mark.parametrize("name", PT_READERS)
@few
@given(data=st.binary(max_size=200), document=documents, seed=seeds)
def test_a_file_of_tensors_is_read_or_named(name: str, data: bytes, document: Any, seed: int) -> None:
    good, rng, folder = _pt_files()[name], Random(seed), place(f"read {name}") / "advanced_embeddings"
    folder.mkdir(exist_ok=True)
    out = io.BytesIO()
    torch.save(document, out)
    some = [data, out.getvalue(), good, _repacked(good, rng, data)]
    some += [_repacked(good, rng, None) if rng.random() < 0.6 else changed(good, rng) for _ in range(FILES - len(some))]
    for one in some:
        (folder / name.replace("a.pt", "embeddings_a.pt")).write_bytes(one)
        for reader in PT_READERS[name]:
            refused_or_read(lambda: reader(folder))  # noqa: B023


@cache
def _kept_files() -> tuple[Path, dict[str, bytes]]:
    folder, rng = place("kept"), np.random.default_rng(1)
    says = single_picture.SinglePicture(
        rng.random((3, 4)),
        np.zeros(3),
        np.array([1]),
        np.ones((1, 4)),
        np.zeros(1),
        np.zeros(3),
        np.ones(13),
        np.ones(13),
    )
    single_picture.save(folder, single_picture.Kept(says, ["a", "b", "c"], "m", np.zeros(3, bool)), HASHES)
    kept_pairs.near_pairs(folder, store.Embeddings(HASHES, np.ones((6, 4), np.float32), "m", "p"), 0.9)
    about = {"hashes": HASHES, "names": ["a", "b"], "version": ["1"], "rests_on": ["x"]}
    arrays.save(folder / of_library.FILE, about | {"cells": np.arange(4), "confidence": np.ones(4)})
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


def _taken_over(folder: Path) -> None:
    hashes, digests = arrays.as_bytes(HASHES), arrays.row_digests(np.ones((6, 4), np.float32))
    if (found := kept_pairs._taken_over(folder / kept_pairs.FILE, hashes, digests, 0.9)) is not None:
        assert not len(found[0]) or 0 <= found[0].i.min() <= found[0].j.max() < 6


def _said(folder: Path) -> None:
    by_picture.examined(DataFolder(folder))
    if (kept := single_picture.load(folder)) is not None and kept.says.weight.shape[1] == 4:
        assert len(kept.says.errors(np.ones(4), [False] * len(kept.names))) == len(kept.names)


@few
@given(data=st.binary(max_size=200), seed=seeds)
def test_what_is_kept_between_runs_is_read_or_made_anew(data: bytes, seed: int) -> None:
    folder, files = _kept_files()
    readers = {kept_pairs.FILE: _taken_over, data_folder.SINGLE_PICTURE: _said}
    readers[of_library.FILE] = lambda folder: arrays.load(folder / of_library.FILE, of_library.FORM)
    rng = Random(seed)
    for number in range(FILES):
        name = rng.choice(sorted(readers))
        good = files[name]
        one = changed(good, rng) if number % 3 else _other_arrays(good, rng)
        (folder / name).write_bytes(one if number else data)
        with limited():
            readers[name](folder)
        (folder / name).write_bytes(good)


def _other_arrays(good: bytes, rng: Random) -> bytes:
    """The same file with one of its arrays of another kind, shape or content, compressed, or gone."""
    with np.load(io.BytesIO(good)) as held:
        made = {name: held[name] for name in held.files}
    name, out = rng.choice(sorted(made)), io.BytesIO()
    others = (np.array("x"), np.full(3, -1), np.array([np.nan]), np.full((2, 2), 2**40), np.array([b"\xff"]))
    made[name] = rng.choice((*others, made[name].ravel()[:1], made[name][None]))
    if rng.random() < 0.1:
        del made[name]
    (np.savez_compressed if rng.random() < 0.1 else np.savez)(out, **made)
    return out.getvalue()


@cache
def _classifier() -> tuple[DataFolder, dict[str, Any], dict[Path, bytes]]:
    folder = DataFolder(place("classifier"))
    write(folder, draw(series=3, pictures=60))
    train_series_classifier_images.main(["--data-dir", str(folder.root)])
    card = json.loads(classifier_files.card_path(folder, "series").read_text())
    classifier_files.load(folder, "series")
    paths = (folder.classifier / card["files"][name]["name"] for name in ("weights", "out_of_fold"))
    return folder, card, {path: path.read_bytes() for path in paths}


@few
@given(value=st.dictionaries(st.sampled_from(["noise", "files", "series", "classes", "embedding"]), values), seed=seeds)
def test_a_series_classifier_is_read_or_named(value: dict[str, Any], seed: int) -> None:
    folder, card, contents = _classifier()
    card_path, rng = classifier_files.card_path(folder, "series"), Random(seed)
    for number, (name, (path, content)) in product(range(FILES), zip(("weights", "out_of_fold"), contents.items())):
        length = 8 + struct.unpack("<Q", content[:8])[0]
        made = odd(card, rng) if number else card | value
        path.write_bytes(content)
        if number % 3 == 2:  # other arrays, with a card that knows their digest
            path.write_bytes(changed(content[:length], rng) + content[length:])
            made = card | {"files": card["files"] | {name: classifier_files._described(path)}}
        card_path.write_bytes(as_bytes(made))
        refused_or_read(lambda: classifier_files.load(folder, "series"))
        refused_or_read(lambda: classifier_files.said(folder, classifier_files.load_card(folder, "series")))
        path.write_bytes(content)


# --- what the library says, sidecars and pictures --------------------------------------------------------


@few
@given(text=st.text(st.sampled_from('[]{}",:0123456789eE.+-\\\\u NaInfity'), max_size=60), seed=seeds)
def test_a_text_is_json_within_the_bounds_or_a_value_error(text: str, seed: int) -> None:
    for one in mutants(text.encode(), FILES, Random(seed)):
        with suppress(ValueError), limited():
            found = parse(one.decode("utf-8", "replace"))
            assert json.loads(json.dumps(found)) == found


pieces = st.lists(
    st.sampled_from(
        [*"{}[]<>,:\"'\\\n\r\t =/&#;()", "<rdf:li>", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "&b;", "tags", "1girl"]
    )
    | st.text(st.characters(), max_size=4),
    max_size=40,
).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass"))
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>1girl</rdf:li>
<rdf:li>a &amp; b</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""
SIDECARS = {
    ".xmp": XMP,
    ".json": b'{"tags": ["1girl", "a_b"], "rating": "s"}',
    forms.RECORD: b'{"text": "1girl, solo", "n": 1}',
}


@pytest.mark.parametrize("form", [*forms.ENDINGS, forms.RECORD])
@few
@given(data=texts | pieces, empty=st.booleans(), seed=seeds)
def test_a_sidecar_is_taken_apart_or_refused_and_gives_its_bytes_back(
    form: str, data: bytes, empty: bool, seed: int
) -> None:
    good = SIDECARS.get(form, b"1girl, long hair,\r\nseries:x\n")
    for one in (data, *mutants(good, FILES - 1, Random(seed))):
        with limited():
            try:
                sidecar = forms.decode(form, one, forms.Readings({}), empty)
            except NotASidecar:
                continue
            assert sidecar.encode() == one or is_blank(one)
            assert all(isinstance(name, str) for name in sidecar.names)


def is_blank(data: bytes) -> bool:
    """Whether a file holds no more than blanks: such a one is made anew."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return not data.decode("utf-16" if wide else "utf-8-sig", "replace").strip()


TABLES = {
    "metadata.jsonl": b'{"file_name": "a.png", "text": "1girl, solo"}\n{"file_name": "b.png", "tags": ["x"]}\n',
    "meta_a.json": b'{"a.png": {"tags": "1girl, solo", "caption": "x"}, "b": {"tags": "y"}}',
}


@pytest.mark.parametrize("name", TABLES)
@few
@given(data=texts | pieces, seed=seeds)
def test_a_table_of_captions_is_read_or_refused(name: str, data: bytes, seed: int) -> None:
    for one in (data, *mutants(TABLES[name], FILES - 1, Random(seed))):
        with limited():
            try:
                table = tables.read(name, one)
            except NotASidecar:
                continue
            for key in table.records:
                with suppress(NotASidecar):
                    forms.decode(forms.RECORD, table.record(key) or b"", forms.Readings({}))
            assert table.changed({}) == one


@cache
def _pictures() -> list[bytes]:
    made = []
    for kind, mode in (
        *(("PNG", mode) for mode in ("RGB", "RGBA", "P", "1", "I;16", "L")),
        *(("JPEG", mode) for mode in ("RGB", "CMYK", "L")),
        *((kind, "RGB") for kind in ("GIF", "WEBP", "BMP", "TIFF", "AVIF")),
    ):
        out = io.BytesIO()
        Image.effect_noise((9, 7), 90).convert("RGB" if kind == "AVIF" else mode).save(out, kind)
        made.append(out.getvalue())
    frames, out = [Image.new("P", (8, 8), number) for number in range(3)], io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return [*made, out.getvalue()]


@few
@given(data=st.binary(max_size=100), which=st.integers(0, 100), seed=seeds)
def test_a_picture_is_shown_or_refused(data: bytes, which: int, seed: int) -> None:
    good = _pictures()[which % len(_pictures())]
    limits = Limits(pixels=10_000_000)
    for one in (data, good[:12] + data, *(changed(good, rng) for rng in [Random(seed)] for _ in range(FILES - 2))):
        with limited(), suppress(ImageUnreadable, ImageUnsupported):
            shown(one, 64, limits)


@cache
def _answers() -> tuple[list[str], dict[str, Answer]]:
    """The hashes of a client's files, and what it answers to everything that `_asked` asks."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    pictures = {f"{number}.png": (out.getvalue() + bytes([number]), ["1girl", "series:x"]) for number in range(3)}
    heard: dict[str, Answer] = {}
    once = Connection._once
    with HydrusServer(pictures, {"dataset": {"cats": list(pictures)}}) as server:

        def listen(self: Connection, method: str, path: str, *args: Any) -> tuple[Answer | None, str]:
            found = once(self, method, path, *args)
            if found[0] is not None:
                heard[path] = found[0]
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "_once", listen)
            for ask in _asked(Hydrus(server.url, server.key, patience=0), list(server.files)):
                ask()
        return list(server.files), heard


def _asked(library: Hydrus, known: list[str]) -> Iterator[Callable[[], object]]:
    yield library.describe
    yield library.permissions
    yield lambda: library.walk(["dataset"])
    yield lambda: library.search("1girl")
    yield lambda: list(library.files(known))
    yield lambda: library.tag_relations(["1girl", "series:x"])
    yield lambda: library.judgements(known)
    yield lambda: library.judged([(known[0], known[1])])
    yield lambda: library.states([(known[0], "1girl", one.key) for one in library.services()])


@few
@given(data=texts, which=st.integers(0, 10**6), seed=seeds)
def test_what_hydrus_answers_is_understood_or_refused_in_one_line(data: bytes, which: int, seed: int) -> None:
    known, heard = _answers()
    paths = sorted(path for path, answer in heard.items() if answer.content.startswith(b"{"))
    path, rng = paths[which % len(paths)], Random(seed)
    for one in (data, *mutants(heard[path].content, FILES - 1, rng)):
        other = Answer(200, "OK", heard[path].headers, one)

        def answer(self: Connection, method: str, asked: str, *_: Any) -> tuple[Answer | None, str]:
            return (other if asked == path else heard[asked]), ""  # noqa: B023

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "_once", answer)
            for ask in _asked(Hydrus("http://localhost:1", "0" * 64, patience=0), known):
                refused_or_read(ask)
