"""Model folders as taggers are published: which layout it is, written as the `tagger.json` that it amounts to.

    WD v3              *.onnx, selected_tags.csv
    animetimm, PixAI   *.onnx, selected_tags.csv, preprocess.json, maybe categories.json and thresholds.csv
    Camie v2           *.onnx, *-metadata.json
    cl_tagger 1, 2     *.onnx, tag_mapping.json or model_vocabulary.json

threshold.json is what an export of Camie has instead of thresholds.csv.

Only what the files say is used: a folder that leaves a question open is refused, and the message names the file that
would tell. What was recognised is held against the network when it is loaded, as a hand-written `tagger.json` is.
"""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tagcheck.embedding import tagger_json
from tagcheck.embedding.onnx_graph import Graph
from tagcheck.embedding.tagger_json import FILE, KIND, VERSION, Descriptor, Labels
from tagcheck.errors import BadFile, MissingInput
from tagcheck.files import listed
from tagcheck.json_files import NAME, Wrong, anything, either, list_of, map_of, record, whole
from tagcheck.pictures.preparation import FILTERS

TAG_LISTS = ("selected_tags.csv", "tags_info.csv")
PREPROCESS, CATEGORIES, THRESHOLDS, BY_AIM = "preprocess.json", "categories.json", "thresholds.csv", "threshold.json"
CL1, CL2, CAMIE = "tag_mapping.json", "model_vocabulary.json", "metadata.json"
SMALL_FILES = re.compile(
    rf"{FILE}|.*{CAMIE}|config\.json|" + "|".join((*TAG_LISTS, PREPROCESS, CATEGORIES, THRESHOLDS, BY_AIM, CL1, CL2))
)
# Categories by their names and by a booru's numbers: "" for general tags, None for what is no tag of a picture's content.
MEANINGS: dict[str, str | None] = {
    "general": "",
    "character": "character",
    "copyright": "series",
    "series": "series",
    "artist": "creator",
    "meta": "meta",
    "year": "meta",
    "rating": None,
    "quality": None,
    "model": None,
}
BOORU = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta", "9": "rating", "10": "year"}
# What tells probabilities and embedding of a graph with several outputs, the best first.
PREDICTIONS = ("prediction", "predictions", "predictions_sigmoid", "probabilities")
EITHER = ("output",)  # probabilities where a sigmoid makes it
LOGITS = ("logits", "refined_predictions", "refined_logits", "initial_predictions", "initial_logits")
CATEGORY_NAMES = either(list_of(record({"category": either(whole(), NAME), "name": NAME})), map_of(NAME))
STEPS = {
    "padtosize": "pad_to_size",
    "resize": "resize",
    "centercrop": "center_crop",
    "normalize": "normalize",
    "rescale": "rescale",
} | dict.fromkeys(("maybetotensor", "totensor", "convertrgb"), "as it is")
COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128), "grey": (128, 128, 128)}
IMAGENET: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF: dict[str, Any] = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def recognise(folder: Path) -> tuple[str, Descriptor] | None:
    """(the `tagger.json` that the folder amounts to, as text; the same read), None for a folder without an ONNX file.

    Raises `MissingInput` or `BadFile` naming the file that would tell what is not known.
    """
    models = [path for path in listed(folder, "*.onnx") if path.is_file() and not path.name.startswith(".")]
    if not models:
        return None
    path = next((one for one in models if one.name == "model.onnx"), models[0])
    if len(models) > 1 and path.name != "model.onnx":
        named = ", ".join(one.name for one in models)
        raise BadFile(f"{folder} holds {named}: a {FILE} has to name one as its model; {tagger_json.SEE}")
    graph = Graph(path.read_bytes(), str(path), folder)
    graph.beside(folder, path.name)
    document: dict[str, Any] = {"kind": KIND, "version": VERSION, "name": _name(folder), "model": path.name}
    document |= _outputs(path, graph) | _described(folder, path, graph)
    try:
        tagger_json.SHAPE(document)
    except Wrong as error:
        raise BadFile(f"{folder}: what its files say makes no {FILE} ({error}): get it again, or write one") from None
    return written(document), tagger_json.parse(document)


def written(document: dict[str, Any]) -> str:
    """A `tagger.json` as text, one key a line."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def wanted_files(names: Sequence[str]) -> list[str]:
    """Those of a published folder's files that a tagger needs, the large ones last; [] where it holds no ONNX tagger."""
    models = [name for name in names if name.endswith(".onnx")]
    if not models:
        return []
    model = "model.onnx" if "model.onnx" in models else models[0]
    weights = [name for name in names if name.startswith(model) and name != model and "data" in name]
    return [*sorted(name for name in names if SMALL_FILES.fullmatch(name)), model, *weights]


def _name(folder: Path) -> str:
    """The folder's name as a word."""
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:64]
    return word or "tagger"


def _described(folder: Path, model: Path, graph: Graph) -> dict[str, Any]:
    """What the files beside the network say of its input and its tags."""
    camie = sorted(folder.glob(f"*{CAMIE}"))
    tag_list = next((name for name in TAG_LISTS if (folder / name).is_file()), None)
    lists = [name for name in (tag_list, CL1, CL2) if name and (folder / name).is_file()]
    if len(lists) > 1 and not (tag_list and (folder / PREPROCESS).is_file()):
        raise BadFile(f"{folder} holds {' and '.join(lists)}: keep the one that belongs to {model.name}")
    if tag_list is not None:
        labels = _listed(folder, tag_list)
        if (folder / PREPROCESS).is_file():
            return _from_stages(folder / PREPROCESS, model, graph) | {"labels": labels}
        size, layout = _square(model, graph, 448)
        if layout != "NHWC":
            raise MissingInput(
                f"no {PREPROCESS} in {folder}: {model.name} takes pictures as (3, {size}, {size}), and only that file "
                f"tells their colours and range; get it from where {model.name} is from, or write a {FILE}"
            )
        return _input(size, layout=layout, colours="BGR", range=[0, 255], labels=labels)
    for name, side, look in ((CL1, 448, {"colours": "BGR"}), (CL2, 384, {"colours": "RGB", "fit": "stretch"})):
        if (folder / name).is_file():
            document = tagger_json.read_json(folder / name)
            plain = name == CL1 and not (isinstance(document, dict) and "idx_to_tag" in document)
            labels = _with_categories(folder, {"file": name, "form": "json" if plain else "vocabulary"})
            return _input(_planes(model, graph, side), **look, **HALF, labels=labels)
    if len(camie) == 1:
        return _camie(camie[0], model, graph)
    if camie:
        named = ", ".join(one.name for one in camie)
        raise BadFile(f"{folder} holds {named}: keep the one that belongs to {model.name}")
    raise MissingInput(
        f"no list of tags in {folder}: {TAG_LISTS[0]}, {CL1}, {CL2} or a *-{CAMIE} from where {model.name} is from "
        f"would tell what its outputs mean, or write a {FILE}; {tagger_json.SEE}"
    )


def _input(size: int, **more: Any) -> dict[str, Any]:
    """What a network wants to see: white squares, bicubic, colours first, 0 to 1, but for what is said `more`."""
    usual = {"fit": "pad", "background": [255, 255, 255], "filter": "bicubic", "layout": "NCHW", "colours": "RGB"}
    return {"size": size} | usual | {"range": [0, 1], "mean": [0, 0, 0], "std": [1, 1, 1]} | more


def _square(
    model: Path, graph: Graph, otherwise: int, said: int | None = None, by: Path | None = None
) -> tuple[int, str]:
    """(pixels a side, layout) of the only input; a side that is free is `otherwise`. What the file `by` has `said` must agree."""
    shapes = [shape for shape in graph.inputs.values() if len(shape) == 4]
    if len(shapes) != 1 or len(graph.inputs) != 1:
        wants = "; ".join(f"{name} {shape}" for name, shape in graph.inputs.items())
        raise BadFile(f"{model} wants {wants or 'nothing'}: one picture with four axes is expected of a tagger")
    axes = shapes[0]
    layout = "NHWC" if axes[3] == 3 and axes[1] != 3 else "NCHW"
    height, width = axes[1:3] if layout == "NHWC" else axes[2:4]
    if height != width:
        raise BadFile(f"{model} wants pictures of {width} x {height}: only squares are made here")
    if height and said and height != said:
        raise BadFile(f"{by} says {said} pixels a side, {model.name} takes {height}: get both from the same place")
    return height or otherwise, layout


def _planes(model: Path, graph: Graph, otherwise: int, said: int | None = None, by: Path | None = None) -> int:
    """Pixels a side of a network that takes its colours first, as all of its layout do."""
    size, layout = _square(model, graph, otherwise, said, by)
    if layout != "NCHW":
        raise BadFile(f"{model} takes its colours last, which no network of its layout does: write a {FILE}")
    return size


def _outputs(model: Path, graph: Graph) -> dict[str, Any]:
    """Which output holds the tags, in what form, and which tensor the embedding."""
    names = graph.outputs
    tags = [name for name in (*PREDICTIONS, *EITHER, *LOGITS) if name in names]
    rest = [name for name in names if "embed" not in name.lower()]
    chosen = tags[0] if tags else rest[0] if len(rest) == 1 else None
    if chosen is None:
        raise BadFile(
            f"{model} has the outputs {', '.join(names)}: a {FILE} has to say which holds the tags (output_name)"
        )
    found = _tags_of(chosen, graph)
    embeddings = [name for name in names if "embed" in name.lower()]
    if embeddings:  # a network with two stages has one of each: that of the tags' own
        part = chosen.rpartition("/")[0]
        return found | {"embedding": min(embeddings, key=lambda name: name.rpartition("/")[0] != part)}
    if graph.last_linear(chosen) is not None:
        return found
    # Tags refined by attention have no linear layer of their own: the first guess has, and the picture's embedding goes into it.
    first = next(((name, line) for name in tags if (line := graph.last_linear(name)) is not None), None)
    if first is None:
        raise BadFile(
            f"{model}: {chosen!r} is not made by a linear layer and no output is an embedding: "
            f"a {FILE} has to name the tensor that is one (embedding)"
        )
    return _tags_of(first[0], graph) | {"embedding": first[1].embedding}


def _tags_of(output: str, graph: Graph) -> dict[str, Any]:
    logits = output in LOGITS or (output not in PREDICTIONS and not graph.made_by_sigmoid(output))
    return {"output": "logits" if logits else "probabilities", "output_name": output}


def _listed(folder: Path, name: str) -> dict[str, Any]:
    """The labels of a published list of tags: categories from categories.json, thresholds from the list or thresholds.csv."""
    try:
        with open(folder / name, encoding="utf-8-sig", newline="") as file:
            columns = next(csv.reader(file), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{folder / name} is not a CSV file in UTF-8 ({error}): get it again") from None
    spelled = {one.strip().lower(): one for one in reversed(columns)}
    column = next((spelled[one] for one in ("name", "tag") if one in spelled), None)
    if column is None:
        raise BadFile(
            f"{folder / name} has no column of names, only {', '.join(map(repr, columns[:9])) or 'none'}: get it again"
        )
    labels: dict[str, Any] = {"file": name, "form": "csv", "column": column}
    known = dict(BOORU)
    if "category" in spelled:
        known |= _categories(folder / CATEGORIES)
        labels = _with_categories(folder, labels | {"category": spelled["category"]}, known)
    if best := next((spelled[one] for one in ("best_threshold", "threshold") if one in spelled), None):
        labels["threshold"] = best
    by_category = _category_thresholds(folder / THRESHOLDS, known) or _balanced_thresholds(folder / BY_AIM, known)
    if by_category:
        labels["thresholds"] = by_category
    return labels


def _categories(path: Path) -> dict[str, str]:
    """What each category is called, by its number: a list of objects, or one object; nothing where there is no such file."""
    said = tagger_json.read_json(path, CATEGORY_NAMES, "get it again") if path.is_file() else {}
    pairs = [(one["category"], one["name"]) for one in said] if isinstance(said, list) else said.items()
    return {str(number): name for number, name in pairs}


def _category_thresholds(path: Path, names: dict[str, str]) -> dict[str, float]:
    """The first threshold of each category in thresholds.csv, which has its number or its name; nothing where there is no such file."""
    if not path.is_file():
        return {}
    found: dict[str, float] = {}
    number = {name.lower(): category for category, name in names.items()}
    try:
        rows = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        if missing := {"category", "threshold"} - {*(rows.fieldnames or ())}:
            raise ValueError(f"no column {min(missing)!r}")
        for row in rows:
            category, said = str(row["category"] or "").strip(), float(row["threshold"] or "")
            category = number.get(category.lower(), category)
            if not 0 <= said <= 1:
                raise ValueError(f"a threshold of {said:g}")
            if category and category not in found and 0 < said < 1:
                found[category] = said
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise BadFile(f"{path} is not a CSV file of categories and thresholds ({error}): get it again") from None
    return found


def _balanced_thresholds(path: Path, names: dict[str, str]) -> dict[str, float]:
    """The balanced threshold of each category in threshold.json, by the categories' numbers; nothing where there is no such file."""
    said = tagger_json.read_json(path, map_of(anything), "get it again") if path.is_file() else {}
    found = {}
    for category, name in names.items():
        aims = said.get(name)
        aim = aims.get("balanced") if isinstance(aims, dict) else None
        chance = aim.get("threshold") if isinstance(aim, dict) else None
        if isinstance(chance, float) and 0 < chance < 1:
            found[category] = chance
    return found


def _with_categories(folder: Path, labels: dict[str, Any], names: Mapping[str, str] = BOORU) -> dict[str, Any]:
    """The labels with what the categories mean that their list of tags has; `names` says what a number stands for."""
    spaces, left_out = {}, []
    for category in sorted({category for _, category, _ in tagger_json.read_rows(folder, Labels(**labels))}):
        name = names.get(category, category).strip().lower()
        space = MEANINGS.get(name, "")
        if space is None:
            left_out.append(category)
        elif space:
            spaces[category] = space
    made: dict[str, Any] = labels | ({"namespaces": spaces} if spaces else {})
    return made | ({"leave_out": left_out} if left_out else {})


def _camie(path: Path, model: Path, graph: Graph) -> dict[str, Any]:
    """Camie's metadata: the size and the tags; its pictures stand on the mean colour of ImageNet."""
    document = tagger_json.read_json(path)
    facts = document if isinstance(document, dict) else {}
    tags, info = (facts.get(name) for name in ("dataset_info", "model_info"))
    if not isinstance(tags, dict) or "tag_mapping" not in tags:
        raise BadFile(
            f"{path} has no dataset_info with a tag_mapping, so it is not Camie's of version 2: {CL2} would tell the tags of "
            f"a cl_tagger, {TAG_LISTS[0]} with {PREPROCESS} those of an export; or write a {FILE}"
        )
    size = info.get("img_size") if isinstance(info, dict) else None
    inside = ["dataset_info", "tag_mapping"]
    labels = _with_categories(path.parent, {"file": path.name, "form": "vocabulary", "inside": inside})
    side = _planes(model, graph, size if isinstance(size, int) else 512, size if isinstance(size, int) else None, path)
    return _input(side, background=[124, 116, 104], filter="lanczos", **IMAGENET, labels=labels)


def _from_stages(path: Path, model: Path, graph: Graph) -> dict[str, Any]:
    """What preprocess.json says: its list of steps for testing."""
    document = tagger_json.read_json(path)
    held = document if isinstance(document, dict) else {"test": document}
    steps = next((held[name] for name in ("test", "stages", "val") if name in held), None)
    if not isinstance(steps, list) or not steps or not all(isinstance(step, dict) for step in steps):
        raise BadFile(f"{path} has no list of steps called test, stages or val: get it again, or write a {FILE}")
    made = _input(0, fit="")
    for step in steps:
        _take_step(path, step, made)
    kinds = [str(step.get("type")).lower() for step in steps]
    if kinds.count("normalize") > 1 or not all(made["range"][0] <= mean <= made["range"][1] for mean in made["mean"]):
        raise BadFile(
            f"{path} takes means of {made['mean']} off a range of {made['range']}, or does so twice: write a {FILE}; "
            f"{tagger_json.SEE}"
        )
    made["size"], made["layout"] = _square(model, graph, made["size"], made["size"], path)
    if not made["size"]:
        raise BadFile(f"{path} says no size and {model.name} takes any: write a {FILE}")
    if not made["fit"]:
        raise BadFile(f"{path} neither pads pictures to a square nor stretches them: write a {FILE}; {tagger_json.SEE}")
    return made


def _take_step(path: Path, step: dict[str, Any], made: dict[str, Any]) -> None:
    """Put one step of preprocess.json into `made`. Raises `BadFile` for a step that no recipe here does."""
    called, size = str(step.get("type")), step.get("size")
    kind = STEPS.get(re.sub("[_ ]", "", called.lower()), called)
    sides = size if isinstance(size, list) else [size] * 2 if size is not None else []
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise BadFile(f"{path} has a step {kind!r} of size {size!r}: get it again, or write a {FILE}")
    if kind in ("resize", "pad_to_size") and step.get("interpolation"):
        made["filter"] = str(step["interpolation"]).lower()
        if made["filter"] not in FILTERS:
            raise BadFile(f"{path} resizes by {made['filter']!r}, known are {', '.join(FILTERS)}: write a {FILE}")
    if kind == "pad_to_size":
        made["fit"] = made["fit"] or "pad"
        said = step.get("background_color", "white")
        colour = COLOURS.get(said) if isinstance(said, str) else said
        if not isinstance(colour, (list, tuple)) or len(colour) != 3:
            raise BadFile(f"{path} pads with {said!r}, which is not a known colour: write a {FILE}")
        made["background"] = list(colour)
    elif kind == "resize" and len(sides) == 2 and isinstance(size, list) and len(set(sides)) == 1:
        made["fit"] = made["fit"] or "stretch"
    elif kind == "normalize":
        made["mean"] = _numbers(path, kind, "mean", step.get("mean"), 3, -math.inf)
        made["std"] = _numbers(path, kind, "std", step.get("std"), 3, 0)
    elif kind == "rescale":
        factor = step.get("rescale_factor", step.get("factor", 1 / 255))
        made["range"] = [0, _numbers(path, kind, "factor", factor, 1, 0)[0] * 255]
    elif kind not in STEPS.values():
        raise BadFile(f"{path} has a step {kind!r} that is not known: write a {FILE}; {tagger_json.SEE}")
    if kind == "center_crop" and (not made["fit"] or sides != [made["size"]] * 2):
        raise BadFile(
            f"{path} cuts the middle out of a picture, which no recipe here does: write a {FILE} with fit pad or stretch"
        )
    if sides and made["fit"]:
        made["size"] = sides[0]


def _numbers(path: Path, kind: str, name: str, said: Any, count: int, least: float) -> list[float]:
    """`count` numbers of a step above `least`, where one stands for all."""
    found = said if isinstance(said, list) else [said] * count
    sound = (isinstance(one, (int, float)) and not isinstance(one, bool) and one > least for one in found)
    if len(found) != count or not all(sound):
        raise BadFile(f"{path} has a step {kind!r} with {name} {said!r}: get it again, or write a {FILE}")
    return found
