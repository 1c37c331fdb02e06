"""Random and damaged input for every reader of small files: an error in one line that names the file, or a value.

`FUZZ_EXAMPLES` says how many examples each test tries (`make fuzz`: 100,000).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagcheck import data_folder, dataset
from tagcheck.data_folder import DATASET, MAPPING, DataFolder
from tagcheck.detectors import DETECTORS
from tagcheck.embedding import store, tagger_json
from tagcheck.embedding.onnx_graph import Graph
from tagcheck.errors import ToolError
from tagcheck.json_files import Unusable, parse
from tagcheck.library.folder import forms, tables
from tagcheck.library.folder.known_hashes import FolderStore
from tagcheck.library.folder.sidecar_text import BOM, NotASidecar
from tagcheck.pictures import unreadable
from tagcheck.review import Review
from tagcheck.review.store import decisions
from tagcheck.series import classifier_files
from tagcheck.tag_errors import tag_rules, tagger_vocabulary
from webapp import keys

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
few = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

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
texts = st.binary(max_size=200) | values.map(
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
)

READERS: dict[str, Callable[[Path], object]] = {
    "tag_rules.json": tag_rules.load,
    "tag_map.json": tagger_vocabulary.load,
    "tag_map.csv": tagger_vocabulary.load,
    "unreadable.json": lambda folder: unreadable.load(folder, {}),
    "tagger.json": tagger_json.read,
    "review_keys.json": keys.load,
    "a.pt": store.load,
    "tag_head.pt": store.load_tag_head,
}


@pytest.mark.parametrize("name", READERS)
@few
@given(data=texts)
def test_a_small_file_is_read_or_named_in_one_line(name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / name).write_bytes(data)
        try:
            READERS[name](Path(root))
        except ToolError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("kind", (DATASET, MAPPING, *(one.report for one in DETECTORS)), ids=lambda kind: kind.name)
@few
@given(value=st.dictionaries(words, values, max_size=5), indent=st.sampled_from([None, 1]))
def test_a_file_between_stages_is_read_or_named(kind: data_folder.Kind, value: dict, indent: int | None) -> None:
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "x.json"
        text = json.dumps({"kind": kind.name, "version": 1} | value, indent=indent)
        path.write_text(text, encoding="utf-8")
        with suppress(ToolError):
            data_folder.load(path, kind, Unusable())


@few
@given(rows=st.lists(st.dictionaries(words, values, max_size=5) | values, max_size=4))
def test_a_wrong_record_of_a_dataset_costs_itself(rows: list) -> None:
    good = {"hash": "a" * 64, "existing_all_tags": ["x"]}
    with tempfile.TemporaryDirectory() as root:
        folder = DataFolder(Path(root))
        (folder.root / "datasets").mkdir()
        lines = ",\n".join(json.dumps(row) for row in [good, *rows])
        path = folder.root / "datasets" / f"{DATASET.prefix}_20260101T000000Z.json"
        path.write_text('{\n"kind": "dataset",\n"version": 1,\n"results": [\n' + lines + "\n]\n}\n", encoding="utf-8")
        assert "a" * 64 in {record.hash for record in dataset.load(folder, tell=lambda _: None).records}


@few
@given(data=st.binary(max_size=80))
def test_an_onnx_file_is_read_or_named(data: bytes) -> None:
    try:
        graph = Graph(data, "x.onnx")
    except ToolError:
        return
    for name in [*graph.outputs, *graph.maker]:
        graph.last_linear(name)
        graph.made_by_sigmoid(name)


@few
@given(text=st.text(st.sampled_from('[]{}",:0123456789eE.+-\\\\u NaInfity'), max_size=60))
def test_a_text_is_json_within_the_bounds_or_a_value_error(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert json.loads(json.dumps(found)) == found


pieces = st.lists(
    st.sampled_from(
        [*"{}[]<>,:\"'\\\n\r\t =/&#;()", "<rdf:li>", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "&b;", "tags", "1girl"]
    )
    | st.text(st.characters(), max_size=4),
    max_size=40,
).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("form", [*forms.ENDINGS, forms.RECORD])
@few
@given(data=texts | pieces, empty=st.booleans())
def test_a_sidecar_is_taken_apart_or_refused_and_gives_its_bytes_back(form: str, data: bytes, empty: bool) -> None:
    try:
        sidecar = forms.decode(form, data, forms.Readings({}), empty)
    except NotASidecar:
        return
    assert (sidecar.encode() == data or not data.removeprefix(BOM).strip()) and all(
        isinstance(name, str) for name in sidecar.names
    )


@pytest.mark.parametrize("name", ["metadata.jsonl", "meta_a.json"])
@few
@given(data=texts | pieces)
def test_a_table_of_captions_is_read_or_refused(name: str, data: bytes) -> None:
    try:
        table = tables.read(name, data)
    except NotASidecar:
        return
    for key in table.records:
        with suppress(NotASidecar):
            forms.decode(forms.RECORD, table.record(key) or b"", forms.Readings({}))
    assert table.changed({}) == data


card_keys = st.sampled_from(
    ["noise", "files", "series", "classes", "embedding", "settings", "pictures", "companions", "name"]
)


@few
@given(value=st.dictionaries(card_keys, values | st.dictionaries(card_keys, values, max_size=4), max_size=9))
def test_a_series_card_is_read_or_named(value: dict) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = DataFolder(Path(root))
        path = classifier_files.card_path(folder, "series")
        path.parent.mkdir()
        path.write_text(json.dumps({"kind": "series_classifier", "version": 1, "namespace": "series"} | value))
        with pytest.raises(ToolError):
            classifier_files.load(folder, "series")


@few
@given(data=st.binary(max_size=300), at=st.integers(0, 9_000), store_of=st.sampled_from(["folder", "review"]))
def test_a_damaged_store_is_read_or_named(data: bytes, at: int, store_of: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / f"{store_of}.sqlite3"
        if at % 2:
            (FolderStore(path).hashes("") if store_of == "folder" else Review(path).close())
        with open(path, "r+b" if path.exists() else "wb") as file:
            file.seek(at)
            file.write(data)
        with suppress(ToolError):
            FolderStore(path).hashes("") if store_of == "folder" else decisions(path)
