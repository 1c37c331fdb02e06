"""`tagger.json` in a model folder: what an ONNX tagger wants to see, and where it says what.

    {"kind": "tagger", "version": 1, "name": "wd-vit-tagger-v3", "model": "model.onnx",
     "size": 448, "fit": "pad", "background": [255, 255, 255], "filter": "bicubic",
     "layout": "NHWC", "colours": "BGR", "range": [0, 255], "mean": [0, 0, 0], "std": [1, 1, 1],
     "labels": {"file": "selected_tags.csv", "form": "csv", "column": "name",
                "category": "category", "leave_out": ["9"]},
     "output": "probabilities"}

docs/decisions/taggers.md explains each key. A key that is missing where there is no plain answer is
an error, and so is one that is not known: it might stand for another computation.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tagcheck import json_files
from tagcheck.errors import BadFile, MissingInput
from tagcheck.json_files import Shape, Wrong, anything, list_of, map_of, matching, number, one_of, record, text, whole
from tagcheck.pictures import Recipe
from tagcheck.pictures.preparation import FILTERS, FITS

FILE, KIND, VERSION = "tagger.json", "tagger", 1
LARGEST_LIST = 256 << 20  # bytes
MOST_TAGS = 2_000_000
SEE = "see docs/decisions/taggers.md"


Row = tuple[str, str, float]  # a tag's name, its category ("" for none), its own threshold (NaN for none)


@dataclass(frozen=True)
class Labels:
    """The file of the tags' names, and how it is written.

    `form` "lines" (one name a line), "json" (a list; or an object of places and names, or of places and objects with
    "tag" and "category"), "vocabulary" (JSON with "idx_to_tag" and "tag_to_category", in the objects named by `inside`),
    or "csv" with a `column` of names, a column `category` and a column `threshold`. Tags of a category in `leave_out` do
    not count, `namespaces` and `thresholds` are by category.
    """

    file: str
    form: str
    column: str = "name"
    category: str | None = None
    threshold: str | None = None
    inside: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    namespaces: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Names:
    """The tags in the order of the network's V outputs: their names, the places of those that count, their namespaces
    ("" for general ones) and their thresholds (V,), NaN for none.
    """

    names: list[str]
    kept: list[int]
    namespaces: list[str]
    thresholds: np.ndarray


@dataclass(frozen=True)
class Descriptor:
    """A model folder's `tagger.json`.

    A pixel p of 0 to 255 becomes ((low + p / 255 * (high - low)) - mean) / std, `mean` and `std` being
    for red, green, blue; then the channels are put into the order of `colours` and the axes into that of `layout`.
    `output` says what the tags' output holds, "probabilities" or "logits"; `output_name` and `embedding`
    are names in the ONNX graph, None for the only output and for what its last linear layer is given.
    """

    name: str
    model: str
    recipe: Recipe
    layout: str
    colours: str
    range: tuple[float, float]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: Labels
    output: str
    output_name: str | None = None
    embedding: str | None = None

    def scale_and_offset(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What a pixel of 0 to 255 is multiplied by, and what is added then; for red, green, blue."""
        low, high = self.range
        scale = tuple((high - low) / 255 / std for std in self.std)
        return scale, tuple((low - mean) / std for mean, std in zip(self.mean, self.std))

    def fingerprint(self, weights_sha256: str) -> str:
        """SHA-256 of everything that an embedding depends on beside the recipe: the file, and what it is given."""
        facts = [weights_sha256, self.layout, self.colours, self.range, self.mean, self.std, self.embedding]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _beside(value: Any) -> None:
    """The name of a file in the same folder, and no way out of it."""
    if not json_files.is_text(value) or not value or Path(value).name != value:
        raise Wrong(f"{value!r} is not the name of a file beside it")


def _span(value: Any) -> None:
    """The numbers that the darkest and the brightest pixel become."""
    list_of(number(), 2, 2)(value)
    if value[0] >= value[1]:
        raise Wrong(f"{value} are not two numbers, the lower first")


def _labels(value: Any) -> None:
    """An object as `Labels` says, without keys that mean nothing in its form."""
    record({"file": _beside, "form": one_of(*FORMS)})(value)
    record({"file": _beside, "form": anything}, FORMS[value["form"]], others=False)(value)


WORD = text(1_000, least=1)
CHANCE = number(1e-9, 1 - 1e-9)
THREE = list_of(number(), 3, 3)
BY_CATEGORY = {"leave_out": list_of(WORD), "namespaces": map_of(WORD), "thresholds": map_of(CHANCE)}
# How a list of tags can be written, each with the keys of `Labels` that it may have.
FORMS: dict[str, dict[str, Shape]] = {
    "lines": {},
    "json": BY_CATEGORY,
    "vocabulary": BY_CATEGORY | {"inside": list_of(WORD)},
    "csv": BY_CATEGORY | dict.fromkeys(("column", "category", "threshold"), WORD),
}
SHAPE = record(
    {
        "kind": one_of(KIND),
        "version": one_of(VERSION),
        "name": matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a word"),
        "model": _beside,
        "size": whole(1, 4096),
        "fit": one_of(*FITS),
        "background": list_of(whole(0, 255), 3, 3),
        "filter": one_of(*FILTERS),
        "layout": one_of("NCHW", "NHWC"),
        "colours": one_of("RGB", "BGR"),
        "range": _span,
        "mean": THREE,
        "std": list_of(number(1e-12), 3, 3),
        "labels": _labels,
        "output": one_of("probabilities", "logits"),
    },
    {"output_name": WORD, "embedding": WORD},
    others=False,
)


def read(folder: Path) -> Descriptor | None:
    """The descriptor in `folder`, None where there is none. Raises `BadFile` naming the key that is wrong."""
    path = folder / FILE
    return parse(read_json(path, SHAPE)) if path.is_file() else None


def read_json(path: Path, shape: Shape | None = None, again: str = SEE) -> Any:
    """A JSON file in UTF-8. Raises `BadFile` naming it."""
    return json_files.read(path, shape, again, most=LARGEST_LIST)


def parse(document: dict[str, Any]) -> Descriptor:
    """The descriptor that `document` holds, which has the `SHAPE` of one."""
    said = {key: one for key, one in document.items() if one is not None}
    labels: dict[str, Any] = {key: one for key, one in said.pop("labels").items() if one is not None}
    labels |= {key: tuple(labels[key]) for key in ("inside", "leave_out") if key in labels}
    recipe = Recipe(said.pop("size"), said.pop("fit"), tuple(said.pop("background")), said.pop("filter"))
    numbers: dict[str, Any] = {key: tuple(map(float, said.pop(key))) for key in ("range", "mean", "std")}
    del said["kind"], said["version"]
    return Descriptor(recipe=recipe, labels=Labels(**labels), **numbers, **said)


def read_rows(folder: Path, labels: Labels) -> list[Row]:
    """Name, category and threshold of each tag, in the order of the network's outputs. Raises naming the file."""
    path = folder / labels.file
    if not path.is_file():
        raise MissingInput(f"no {labels.file} in {folder}: {FILE} names it as the file of labels")
    try:
        if path.stat().st_size > LARGEST_LIST:
            raise BadFile(f"{path} has more than {LARGEST_LIST:,} bytes, too many for a list of tags")
        text = path.read_text(encoding="utf-8-sig")
        if labels.form == "csv":
            rows = _csv_rows(path, text, labels)
        elif labels.form == "lines":
            rows = [(line.strip(), "", math.nan) for line in text.splitlines()]
        else:
            rows = _json_rows(path, json_files.parse(text), labels)
    except (ValueError, OSError, csv.Error) as error:
        raise BadFile(f"{path} is no {labels.form} in UTF-8 ({error})") from None
    while labels.form != "csv" and rows and not rows[-1][0]:
        rows.pop()
    return rows


def read_labels(folder: Path, labels: Labels) -> Names:
    """The tags in the order of the network's outputs. Raises naming the file."""
    rows = read_rows(folder, labels)
    return Names(
        [name for name, _, _ in rows],
        [at for at, (name, category, _) in enumerate(rows) if name and category not in labels.leave_out],
        [labels.namespaces.get(category, "") for _, category, _ in rows],
        np.array(
            [labels.thresholds.get(category, math.nan) if own != own else own for _, category, own in rows], np.float32
        ),
    )


def _csv_rows(path: Path, text: str, labels: Labels) -> list[Row]:
    rows = csv.DictReader(text.splitlines())
    there = rows.fieldnames or ()
    columns = [name for name in (labels.column, labels.category, labels.threshold) if name is not None]
    missing = [name for name in columns if name not in there]
    if missing:
        raise BadFile(f"{path} has no column {missing[0]!r}, only {', '.join(there or ['none'])}")

    def cell(row: dict[str, str | None], column: str | None) -> str:
        return "" if column is None else (row[column] or "").strip()

    found = []
    for row in rows:
        if None in row.values():
            raise BadFile(f"{path} is cut off: line {rows.line_num} has fewer cells than the first; get it again")
        # A number may have gone through a table of floats.
        category = re.sub(r"^(\d+)\.0$", r"\1", cell(row, labels.category))
        found.append((cell(row, labels.column), category, _threshold(cell(row, labels.threshold))))
    return found


def _threshold(text: str) -> float:
    """A threshold between 0 and 1; NaN for anything else."""
    try:
        found = float(text)
    except ValueError:
        return math.nan
    return found if 0 < found < 1 else math.nan


def _json_rows(path: Path, document: Any, labels: Labels) -> list[Row]:
    """What a list of names says, or an object from place to name, from name to place, or from place to tag and category."""
    categories: Any = {}
    if labels.form == "vocabulary":
        for name in labels.inside:
            document = document.get(name) if isinstance(document, dict) else None
        document = document if isinstance(document, dict) else {}
        document, categories = document.get("idx_to_tag"), document.get("tag_to_category") or {}
    if isinstance(document, dict):
        pairs = [(place, name) if _place(place) is not None else (name, place) for place, name in document.items()]
        places = {at: name for place, name in pairs if (at := _place(place)) is not None}
        # A place that no name is at is an output that is no tag.
        last = max(places, default=-1)
        document = (
            [places.get(at, "") for at in range(last + 1)] if len(places) == len(pairs) and last < MOST_TAGS else None
        )
    if not isinstance(document, list) or not isinstance(categories, dict):
        raise BadFile(f"{path} is neither a list of names nor an object of places and names")
    rows = []
    for one in document:
        said = one if isinstance(one, dict) else {"tag": one}
        tag = said.get("tag")
        if not json_files.is_text(tag):
            raise BadFile(f"{path} is neither a list of names nor an object of places and names")
        rows.append((tag.strip(), str(said.get("category", categories.get(tag, ""))), math.nan))
    return rows


def _place(value: Any) -> int | None:
    """A place among the outputs; None for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
