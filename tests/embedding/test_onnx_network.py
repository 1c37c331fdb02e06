"""A second tagger comes as an ONNX file with a descriptor, and no stage notices; what does not fit is said by name."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
from joytag_folder import make_tiny_model_folder
from onnx import helper, numpy_helper
from onnx_folder import DIMENSIONS, NAMES, by_hand, descriptor, make_onnx_folder, network, weights

import advanced_joytag_processing as stage
from tagcheck import data_folder, dataset
from tagcheck.data_folder import MAPPING, DataFolder
from tagcheck.embedding import onnx_graph, store, tagger
from tagcheck.errors import BadFile, MissingInput, UsageError
from tagcheck.pictures import preparation
from tagcheck.pictures.preparation import Recipe


def picture(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    colours = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_onnx_folder(tmp_path_factory.mktemp("wd"))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return preparation.batch([preparation.prepare(picture(seed), 448) for seed in range(5)])


def describe(folder: Path, **changes: object) -> Path:
    (folder / "tagger.json").write_text(json.dumps(descriptor(**changes)))
    return folder


# --- what it computes --------------------------------------------------------------------------------


def test_embeddings_and_probabilities_are_those_of_the_network(folder, pixels):
    model = tagger.load(folder, "cpu")
    rows, probabilities = by_hand(pixels, weights())
    np.testing.assert_allclose(model.embed(pixels), rows, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.probabilities(model.embed(pixels)), probabilities[:, 2:], atol=1e-5)
    assert model.tags == NAMES[2:] == model.network.head.tags  # the ratings are left out
    assert (model.dim, model.image_size, model.precision) == (DIMENSIONS, 448, "float32")
    assert model.describe()["name"] == "wd-like" and "wd-like" in model.sentence()


def test_the_embedding_may_come_out_by_itself_or_be_named_or_be_found(tmp_path, pixels):
    rows = by_hand(pixels, weights())[0]
    for number, (how, changes) in enumerate(
        [
            ({}, {"embedding": "norm/embedding"}),
            ({"outputs": 2}, {"output_name": "output"}),
            ({"outputs": 2}, {"embedding": "norm/embedding"}),
            ({"last": "matmul"}, {}),
            ({"last": "constant"}, {}),
            ({"sigmoid": False}, {"output": "logits"}),
        ]
    ):
        model = tagger.load(make_onnx_folder(tmp_path / str(number), changes=changes, **how), "cpu")
        np.testing.assert_allclose(model.embed(pixels), rows, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(model.network.head.weight, weights()["head"][2:])
        np.testing.assert_array_equal(model.network.head.bias, weights()["bias"][2:])


@pytest.mark.parametrize("layout, colours", [("NCHW", "RGB"), ("NHWC", "RGB"), ("NCHW", "BGR"), ("NHWC", "BGR")])
def test_layout_colours_and_range_are_as_described(tmp_path, layout, colours):
    """A grey network would not notice: this one weighs each channel differently."""
    low, high, mean, std = -1.0, 1.0, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    changes = {"layout": layout, "colours": colours, "range": [low, high], "mean": mean, "std": std, "size": 64}
    model = tagger.load(make_onnx_folder(tmp_path, layout=layout, size=64, changes=changes), "cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)
    x = (pictures / 255 * 2 - 1 - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    expected = by_hand(x[:, ::-1] if colours == "BGR" else x, weights(), nhwc_bgr=False)[0]
    np.testing.assert_allclose(model.embed(pictures), expected, rtol=1e-3, atol=1e-6)


def test_a_network_that_wants_bytes_gets_bytes(tmp_path, pixels):
    model = tagger.load(make_onnx_folder(tmp_path, kind=onnx.TensorProto.UINT8), "cpu")
    np.testing.assert_allclose(model.embed(pixels), by_hand(pixels, weights())[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(BadFile, match="wants bytes: range, mean and std have to be"):
        tagger.load(describe(tmp_path, range=[0, 1]), "cpu")


@pytest.mark.parametrize("batch", ["b", 2])
def test_a_pictures_bits_do_not_depend_on_its_batch(tmp_path, batch, pixels):
    model = tagger.load(make_onnx_folder(tmp_path, batch=batch), "cpu", batch_size=5)
    whole = model.embed(pixels)
    assert whole.shape == (5, DIMENSIONS)
    for size in (1, 3, 4):
        model.batch_size = size
        assert model.embed(pixels).tobytes() == whole.tobytes()


def test_tags_that_no_linear_layer_makes_leave_the_say_to_the_library(tmp_path, pixels):
    make_onnx_folder(tmp_path, last="square")
    model = tagger.load(describe(tmp_path, embedding="norm/embedding"), "cpu")
    assert model.network.head is None and "only the library's own tags will count" in model.sentence()
    np.testing.assert_allclose(model.embed(pixels), by_hand(pixels, weights())[0], rtol=1e-4, atol=1e-5)


# --- identity ----------------------------------------------------------------------------------------


def test_the_id_changes_with_the_file_and_with_all_that_the_network_is_given(tmp_path, folder):
    ids = [tagger.load(folder, "cpu").id]
    own = make_onnx_folder(tmp_path / "other weights", weights(1))
    ids.append(tagger.load(own, "cpu").id)
    make_onnx_folder(tmp_path / "a")
    for changes in ({"colours": "RGB"}, {"range": [0, 1]}, {"mean": [1, 2, 3]}, {"std": [2, 2, 2]}):
        ids.append(tagger.load(describe(tmp_path / "a", **changes), "cpu").id)
    assert len(set(ids)) == len(ids) and all(one.startswith("wd-like-") and one.endswith("-float32") for one in ids)
    recipes = [
        tagger.load(describe(tmp_path / "a", **changes), "cpu").preprocess_id
        for changes in ({}, {"fit": "stretch"}, {"background": [0, 0, 0]}, {"filter": "lanczos"})
    ]
    assert recipes == [
        "white-square-bicubic-1-448",
        "white-stretched-bicubic-1-448",
        "000000-square-bicubic-1-448",
        "white-square-lanczos-1-448",
    ]
    assert (
        tagger.load(describe(tmp_path / "a", labels={"file": "selected_tags.csv", "form": "csv"}), "cpu").id == ids[0]
    )


def test_precision_and_device_that_the_file_does_not_have_are_refused(folder):
    with pytest.raises(UsageError, match="--precision bfloat16: .*model.onnx computes in float32"):
        tagger.load(folder, "cpu", "bfloat16")
    assert tagger.load(folder, "cpu", "float32").precision == "float32"


# --- what does not fit -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, says",
    [
        (
            {"size": 224},
            r"wants input: tensor\(float\) .*describes one picture of \[224, 224, 3\]: correct size or layout",
        ),
        ({"layout": "NCHW"}, "correct size or layout"),
        (
            {"output": "logits"},
            "its last linear layer gives .* off the network's own: output in tagger.json is not logits",
        ),
        ({"output_name": "elsewhere"}, "has no output 'elsewhere', only output"),
        ({"embedding": "elsewhere"}, "makes no tensor 'elsewhere'"),
        ({"embedding": "rectified"}, r"'rectified' has the shape \(2, 24, 14, 14\) for two pictures"),
        (
            {"labels": {"file": "selected_tags.csv", "form": "lines"}},
            "gives 7 values for a picture, selected_tags.csv has 8 tags",
        ),
        (
            {"labels": {"file": "selected_tags.csv", "form": "csv", "column": "tag"}},
            "has no column 'tag', only tag_id, name",
        ),
        (
            {"labels": {"file": "../secret", "form": "lines"}},
            "'labels': 'file': '../secret' is not the name of a file beside it",
        ),
        (
            {"labels": {"file": "a", "form": "xml"}},
            "'labels': 'form': 'xml' is not one of lines, json, vocabulary, csv",
        ),
        ({"labels": {"file": "a", "form": "lines", "column": "b"}}, "'labels': a key 'column' that is not known"),
        ({"labels": None}, "'labels': None is not an object"),
        ({"layout": "HWC"}, "'layout': 'HWC' is not one of NCHW, NHWC"),
        ({"background": [256, 0, 0]}, "'background': entry 1: 256 is not a whole number from 0 to 255"),
        ({"filter": ["bicubic"]}, "'filter': a list is not one of box, bilinear, bicubic, lanczos"),
        ({"std": [1, 0, 1]}, "'std': entry 2: 0 is not a number from 1e-12"),
        ({"range": [1, 0]}, r"'range': \[1, 0\] are not two numbers, the lower first"),
        ({"size": True}, "'size': True is not a whole number from 1 to 4,096"),
        ({"sice": 448}, "a key 'sice' that is not known: see docs/decisions/taggers.md"),
        ({"kind": "other"}, "'kind': 'other' is not one of tagger"),
        ({"version": 2}, "'version': 2 is not one of 1"),
        ({"name": "a b"}, "'name': 'a b' is not a word: see docs/decisions/taggers.md"),
    ],
)
def test_a_descriptor_that_does_not_fit_is_refused_by_name(tmp_path_factory, folder, changes, says):
    own = tmp_path_factory.mktemp("own")
    for path in folder.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    with pytest.raises(BadFile, match=says):
        tagger.load(describe(own, **changes), "cpu")


def test_a_network_that_gives_no_numbers_or_takes_one_picture_alone_is_refused(tmp_path):
    own, kept = make_onnx_folder(tmp_path), weights()
    onnx.save(network(kept | {"bias": kept["bias"] * np.nan}), own / "model.onnx")
    with pytest.raises(BadFile, match="model.onnx gives numbers that are not finite"):
        tagger.load(own, "cpu")
    alone = network(kept)
    (flat,) = (node for node in alone.graph.node if node.op_type == "Flatten")
    flat.CopyFrom(helper.make_node("Reshape", ["pooled", "one"], ["norm/embedding"]))
    alone.graph.initializer.append(numpy_helper.from_array(np.array([1, 24]), "one"))
    onnx.save(alone, own / "model.onnx")
    with pytest.raises(BadFile, match="model.onnx cannot compute two pictures"):
        tagger.load(own, "cpu")


def test_files_that_are_missing_or_damaged_are_named(tmp_path):
    own = make_onnx_folder(tmp_path)
    whole = (own / "model.onnx").read_bytes()
    for data in (b"", b"no protobuf at all", whole[:-1000], whole[: len(whole) // 2]):
        (own / "model.onnx").write_bytes(data)
        with pytest.raises(BadFile, match="model.onnx"):
            tagger.load(own, "cpu")
    (own / "model.onnx").unlink()
    with pytest.raises(MissingInput, match="no model.onnx in"):
        tagger.load(own, "cpu")
    (own / "model.onnx").write_bytes(whole)
    (own / "selected_tags.csv").unlink()
    with pytest.raises(MissingInput, match="no selected_tags.csv in"):
        tagger.load(own, "cpu")
    (own / "tagger.json").write_text("{")
    with pytest.raises(BadFile, match="tagger.json is not JSON"):
        tagger.load(own, "cpu")


@pytest.mark.parametrize("package", ["onnxruntime", "onnx"])
def test_without_a_package_the_way_out_is_said(folder, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingInput, match=f"needs {package}: pip install onnxruntime onnx"):
        tagger.load(folder, "cpu")


def test_a_gpu_that_onnxruntime_cannot_use_is_said_loudly(folder, monkeypatch):
    from tagcheck.embedding import onnx_network

    class WithoutGpu:
        @staticmethod
        def get_available_providers() -> list[str]:
            return ["CPUExecutionProvider"]

    with pytest.raises(
        UsageError, match="--device cuda: this onnxruntime was built without CUDA: pip install onnxruntime-gpu"
    ):
        onnx_network._providers(WithoutGpu, torch.device("cuda"), explicit=True)
    device, providers, notes = onnx_network._providers(WithoutGpu, torch.device("cuda"), explicit=False)
    assert (device.type, providers) == ("cpu", ["CPUExecutionProvider"]) and "THE GPU IS NOT USED" in notes[0]


def test_labels_may_be_lines_or_json(tmp_path):
    own = make_onnx_folder(tmp_path)
    (own / "tags.txt").write_text("\n".join(NAMES) + "\n\n")
    (own / "list.json").write_text(json.dumps(NAMES))
    (own / "places.json").write_text(json.dumps({str(place): name for place, name in enumerate(NAMES)}))
    (own / "names.json").write_text(json.dumps({name: place for place, name in enumerate(NAMES)}))
    for file, form in (("tags.txt", "lines"), ("list.json", "json"), ("places.json", "json"), ("names.json", "json")):
        assert tagger.load(describe(own, labels={"file": file, "form": form}), "cpu").tags == NAMES
    (own / "list.json").write_text(json.dumps({"a": 0, "b": 0}))
    with pytest.raises(BadFile, match="neither a list of names nor an object"):
        tagger.load(describe(own, labels={"file": "list.json", "form": "json"}), "cpu")
    (own / "tags.txt").write_text("\n".join(["a"] * 7))
    with pytest.raises(BadFile, match="names 'a' twice"):
        tagger.load(describe(own, labels={"file": "tags.txt", "form": "lines"}), "cpu")


# --- the graph ---------------------------------------------------------------------------------------


def test_an_output_written_behind_the_file_is_what_the_onnx_package_reads_there():
    made = network(weights())
    read = onnx.load_model_from_string(onnx_graph.with_output(made.SerializeToString(), "norm/embedding"))
    assert [one.name for one in read.graph.output] == ["output", "norm/embedding"]
    assert len(read.graph.node) == len(made.graph.node)
    assert onnx_graph.Graph(onnx_graph.with_output(made.SerializeToString(), "x" * 300), "a").outputs == [
        "output",
        "x" * 300,
    ]


@pytest.mark.parametrize("last", ["gemm", "matmul", "constant"])
def test_the_last_linear_layer_is_found_as_the_exporters_write_it(last):
    found = onnx_graph.Graph(network(weights(), last=last).SerializeToString(), "a").last_linear("output")
    assert found.embedding == "norm/embedding"
    np.testing.assert_array_equal(found.weight, weights()["head"])
    np.testing.assert_array_equal(found.bias, weights()["bias"])


def test_a_layer_that_is_scaled_on_its_way_is_not_taken_for_a_plain_one():
    for name, value in (("alpha", 0.5), ("beta", 2.0), ("transA", 1)):
        model = network(weights())
        gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
        gemm.attribute.append(onnx.helper.make_attribute(name, value))
        assert onnx_graph.Graph(model.SerializeToString(), "a").last_linear("output") is None


# --- all the way -------------------------------------------------------------------------------------


def test_the_stage_runs_with_it_and_its_embeddings_never_mix_with_joytags(tmp_path, folder):
    data, pictures = DataFolder(tmp_path / "data"), tmp_path / "pictures"
    data.root.mkdir(), pictures.mkdir()
    hashes = []
    for seed in range(3):
        out = io.BytesIO()
        picture(seed).save(out, "PNG")
        (pictures / f"{seed}.png").write_bytes(out.getvalue())
        hashes.append(hashlib.sha256(out.getvalue()).hexdigest())
    data_folder.save(
        data,
        MAPPING,
        {
            "library": {"type": "folder", "path": str(pictures)},
            "root": ["dataset"],
            "pages": [{"path": ["dataset"], "page_key": "k", "hashes": hashes}],
        },
    )
    arguments = ["--data-dir", str(data.root), "--device", "cpu", "--decoders", "1", "--model-dir"]
    assert stage.main([*arguments, str(folder)]) == 0
    found = dataset.load(data)
    model = tagger.load(folder, "cpu")
    assert found.model == model.id and found.header["model"]["preprocess"] == "white-square-bicubic-1-448"
    held = store.load(data.embeddings, hashes, model=model.id)
    expected = model.embed([preparation.prepare(picture(seed), 448) for seed in range(3)])
    np.testing.assert_array_equal(held.matrix, expected.astype(np.float16).astype(np.float32))
    assert store.load_tag_head(data.embeddings, model.id).tags == NAMES[2:]
    joytag = str(make_tiny_model_folder(tmp_path / "joytag"))
    with pytest.raises(BadFile, match="holds embeddings of wd-like-.* this run would make joytag-"):
        stage.main([*arguments, joytag])
    assert stage.main([*arguments, joytag, "--name", "joytag"]) == 0  # beside them it may stand
    beside = DataFolder(data.root, "joytag")
    assert data.further() == [beside] and len(data.files(data_folder.DATASET)) == 1
    seen = store.load(beside.embeddings)
    assert seen.hashes == sorted(hashes) and store.load_tag_head(beside.embeddings, seen.model) is not None
    assert store.load(data.embeddings).model == model.id
    with pytest.raises(UsageError, match="has the same tagger"):
        stage.main([*arguments, str(folder), "--name", "again"])
    with pytest.raises(SystemExit, match="2"):
        stage.main([*arguments, joytag, "--name", "../up"])
    other = make_onnx_folder(tmp_path / "other", changes={"colours": "RGB"})
    with pytest.raises(BadFile, match="holds embeddings of wd-like-"):
        stage.main([*arguments, str(other)])


def test_a_tagger_without_a_head_removes_that_of_another(tmp_path, folder):
    store.save_tag_head(tmp_path, tagger.load(folder, "cpu").network.head)
    store.save_tag_head(tmp_path, None)
    assert store.load_tag_head(tmp_path) is None
    store.save_tag_head(tmp_path, None)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("filter", ["box", "bilinear", "bicubic", "lanczos"])
def test_a_recipe_gives_what_pillow_gives_in_the_obvious_way(fit, filter):
    image, colour = picture(3, 700, 430), (10, 200, 30)
    if fit == "pad":
        square = Image.new("RGB", (700, 700), colour)
        square.paste(image, (0, 135))
    else:
        square = image
    plain = np.asarray(square.resize((96, 96), Image.Resampling[filter.upper()])).transpose(2, 0, 1)
    ours = preparation.prepare(image, Recipe(96, fit, colour, filter))
    assert np.abs(ours.astype(int) - plain).max() <= 2


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("3a170a100a017912017922084964656e7469747962030a0179"),  # an Identity that is fed by itself
        bytes.fromhex("3a130a0c12017922075369676d6f696462030a0179"),  # a Sigmoid without an input
    ],
)
def test_a_graph_in_a_circle_or_without_inputs_ends(data):
    graph = onnx_graph.Graph(data, "x.onnx")
    assert graph.last_linear("y") is None
    graph.made_by_sigmoid("y")
