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
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagcheck.errors import BadFile, MissingInput
from tagcheck.pictures import Recipe
from tagcheck.pictures.preparation import FILTERS, FITS

FILE, KIND, VERSION = "tagger.json", "tagger", 1
SEE = "see docs/decisions/taggers.md"


@dataclass(frozen=True)
class Labels:
    """The file of the tags' names: `form` "lines", "json" or "csv"; of a CSV the `column` of names, and the
    `category` column's values that are `leave_out`.
    """

    file: str
    form: str
    column: str = "name"
    category: str | None = None
    leave_out: tuple[str, ...] = ()


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


def read(folder: Path) -> Descriptor | None:
    """The descriptor in `folder`, None where there is none. Raises `BadFile` naming the key that is wrong."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadFile(f"{path} is not JSON ({error}): {SEE}") from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise BadFile(f"{path} is not of kind {KIND!r}: {SEE}")
    if document.get("version") != VERSION:
        raise BadFile(f"{path} has version {document.get('version')!r}, this program reads {VERSION}: {SEE}")
    keys = _Keys(path, document, "", {"kind", "version"})
    found = Descriptor(
        name=keys.take("name", _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"), "a word"),
        model=keys.take("model", _file_name, "the name of a file beside it"),
        recipe=Recipe(
            keys.take("size", lambda value: _whole(value) and 1 <= value <= 4096, "a whole number from 1 to 4096"),
            keys.take("fit", FITS.__contains__, _one_of(FITS)),
            tuple(
                keys.take(
                    "background",
                    lambda value: _three(value) and all(_whole(one) and 0 <= one <= 255 for one in value),
                    "three whole numbers from 0 to 255",
                )
            ),
            keys.take("filter", FILTERS.__contains__, _one_of(FILTERS)),
        ),
        layout=keys.take("layout", ("NCHW", "NHWC").__contains__, "NCHW or NHWC"),
        colours=keys.take("colours", ("RGB", "BGR").__contains__, "RGB or BGR"),
        range=_floats(
            keys.take("range", lambda value: _numbers(value, 2) and value[0] < value[1], "two numbers, the lower first")
        ),
        mean=_floats(keys.take("mean", _three, "three numbers")),
        std=_floats(keys.take("std", lambda value: _three(value) and min(value) > 0, "three numbers above 0")),
        labels=_labels(_Keys(path, keys.take("labels", lambda value: isinstance(value, dict), "an object"), "labels.")),
        output=keys.take("output", ("probabilities", "logits").__contains__, "probabilities or logits"),
        output_name=keys.take("output_name", _text, "a name in the graph", None),
        embedding=keys.take("embedding", _text, "a name in the graph", None),
    )
    keys.done()
    return found


def _labels(keys: _Keys) -> Labels:
    form = keys.take("form", ("lines", "json", "csv").__contains__, "lines, json or csv")
    found = Labels(
        keys.take("file", _file_name, "the name of a file beside it"),
        form,
        *(
            (
                keys.take("column", _text, "the name of a column", "name"),
                keys.take("category", _text, "the name of a column", None),
                tuple(
                    keys.take(
                        "leave_out",
                        lambda value: isinstance(value, list) and all(map(_text, value)),
                        "a list of words",
                        [],
                    )
                ),
            )
            if form == "csv"
            else ()
        ),
    )
    keys.done()
    return found


def read_labels(folder: Path, labels: Labels) -> tuple[list[str], list[bool]]:
    """The tags in the order of the network's outputs, and for each whether it counts. Raises naming the file."""
    path = folder / labels.file
    if not path.is_file():
        raise MissingInput(f"no {labels.file} in {folder}: {FILE} names it as the file of labels")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if labels.form == "csv":
            return _csv_labels(path, text, labels)
        names = (
            _json_labels(path, json.loads(text))
            if labels.form == "json"
            else [line.strip() for line in text.splitlines()]
        )
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise BadFile(f"{path} is no {labels.form} in UTF-8 ({error})") from None
    while names and not names[-1]:
        names.pop()
    return names, [bool(name) for name in names]


def _csv_labels(path: Path, text: str, labels: Labels) -> tuple[list[str], list[bool]]:
    rows = csv.DictReader(text.splitlines())
    there = rows.fieldnames or ()
    missing = [name for name in (labels.column, labels.category) if name is not None and name not in there]
    if missing:
        raise BadFile(f"{path} has no column {missing[0]!r}, only {', '.join(there or ['none'])}")
    names, counts = [], []
    for row in rows:
        names.append((row[labels.column] or "").strip())
        category = "" if labels.category is None else (row[labels.category] or "").strip()
        counts.append(bool(names[-1]) and category not in labels.leave_out)
    return names, counts


def _json_labels(path: Path, document: Any) -> list[str]:
    """A list of names, an object from place to name, or one from name to place."""
    if isinstance(document, dict):
        pairs = [
            (place, name) if isinstance(place, str) and place.isdigit() else (name, place)
            for place, name in document.items()
        ]
        try:
            places = {int(place): name for place, name in pairs}
        except (TypeError, ValueError):
            places = {}
        document = [places.get(place) for place in range(len(pairs))]
    if not isinstance(document, list) or not all(isinstance(name, str) for name in document):
        raise BadFile(f"{path} is neither a list of names nor an object of places and names")
    return [name.strip() for name in document]


class _Keys:
    """Takes keys out of an object, each once, and complains by name about what is missing, wrong or left."""

    def __init__(self, path: Path, document: dict[str, Any], prefix: str, taken: set[str] = frozenset()) -> None:
        self.path, self.document, self.prefix, self.taken = path, document, prefix, set(taken)

    def take(self, name: str, good: Callable[[Any], bool], expected: str, default: Any = ...) -> Any:
        self.taken.add(name)
        value = self.document.get(name)
        if value is None and default is not ...:
            return default
        try:
            fine = value is not None and good(value)
        except TypeError:  # an unhashable value asked for in a table
            fine = False
        if not fine:
            said = f"has no {self.prefix}{name}" if name not in self.document else f"has {self.prefix}{name} {value!r}"
            raise BadFile(f"{self.path} {said}, {expected} is expected: {SEE}")
        return value

    def done(self) -> None:
        left = sorted(set(self.document) - self.taken)
        if left:
            raise BadFile(f"{self.path} has a key {self.prefix}{left[0]} that is not known: {SEE}")


def _matching(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _file_name(value: Any) -> bool:
    """A name and no way out of the folder."""
    return _text(value) and Path(value).name == value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list) and len(value) == count and all(_whole(one) or isinstance(one, float) for one in value)
    )


def _three(value: Any) -> bool:
    return _numbers(value, 3)


def _floats(value: list[float]) -> tuple[float, ...]:
    return tuple(float(one) for one in value)


def _one_of(names: Any) -> str:
    return "one of " + ", ".join(names)
