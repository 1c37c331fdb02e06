"""The files of a trained series classifier in `series_classifier/`: saved so that a half-written one is never taken for real.

A namespace has three files, four where a network was fine-tuned and kept. The card, `<namespace>_classifier.json`, is written last
and names the others with size and SHA-256: it is the commit point, and until it is replaced the classifier before stays in force.
The others carry the time in their names.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensor_bytes
from scipy import sparse

from tagcheck import data_folder, json_files
from tagcheck.data_folder import STAMP, DataFolder, Kind
from tagcheck.embedding import Embeddings
from tagcheck.errors import BadFile, MissingInput
from tagcheck.files import listed, there, write_atomically, write_json
from tagcheck.json_files import Wrong, anything, either, list_of, null, number, one_of, record, text, whole
from tagcheck.learning.same_class_model import Plda
from tagcheck.series import probabilities, scoring
from tagcheck.series.labels import labelled
from tagcheck.series.mixing import Mixing
from tagcheck.series.out_of_fold import network_heard
from tagcheck.series.probabilities import Predictions
from tagcheck.series.said import Said
from tagcheck.series.scoring import Model
from tagcheck.series.tagger_says import Prior
from tagcheck.tag_columns import tag_columns

MADE_BY = "train_series_classifier_images.py"
FOLDER = "series_classifier"
CARD = Kind("series_classifier", FOLDER, "classifier", MADE_BY, ("series",))
_FILE = record({"name": text(least=1), "sha256": text()})


def _time(value: Any) -> None:
    """A time as `data_folder.isoformat` writes it."""
    try:
        data_folder.moment(value)
    except (TypeError, ValueError):
        raise Wrong(f"{value!r} is no time like 2026-11-23T17:05:00Z") from None


CARD_SHAPE = record(
    {
        "namespace": text(),
        "created": _time,
        "fingerprint": text(),
        "dataset": anything,
        "embedding": record({"model": either(null, text()), "dimensions": whole(1)}),
        "classes": list_of(list_of(text())),
        "series": list_of(record({"series": text()})),
        "companions": list_of(text()),
        "pictures": record({"without_embedding": whole(0)}),
        "settings": record({"duplicate_cosine": number()}),
        "noise": record({"swapped_share": number()}),
        "files": record({"weights": _FILE, "out_of_fold": _FILE}, {"network": _FILE}),
    },
    {"foreign_names": list_of(text()), "rests_on": text(), "weighed": record({"since": text()})}
    | {"finetuned": record({"classes_known": anything})},
)


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: its card (settings, scores, fingerprint) and what it predicts with.

    `network` are the tensors of fine-tuned networks, empty where there are none. `classes` are places in `series` as in `Labels`.
    """

    card: dict[str, Any]
    model: Model
    mixing: Mixing
    series: tuple[str, ...]
    classes: tuple[tuple[int, ...], ...]
    network: Mapping[str, np.ndarray] = field(default_factory=dict)

    def predict(
        self, embeddings: Embeddings, log_p: np.ndarray | None = None, tag_sets: Sequence[Collection[str]] | None = None
    ) -> Predictions:
        """What is said about pictures that the classifier was not trained on; no retraining.

        `log_p` (n, C) is what the fine-tuned network says of them (`tagcheck.series.finetuning`), None where it says nothing. `tag_sets` are their tags, of which those of series and characters count.
        Raises `BadFile` naming both models when the embeddings are of another one.
        """
        made = self.card["embedding"]
        width = embeddings.matrix.shape[1]
        if width != made["dimensions"] or (embeddings.model or made["model"]) != made["model"]:
            raise BadFile(
                f"the {self.card['namespace']} classifier was trained on embeddings of {made['model']} "
                f"({made['dimensions']} numbers), these are of {embeddings.model} ({width} numbers): run {MADE_BY} again"
            )
        tag_sets = [()] * len(embeddings.matrix) if tag_sets is None else tag_sets
        labels = labelled(tag_sets, self.series, self.classes)
        beside = tag_columns(tag_sets, self.card["companions"])
        found = scoring.score(self.model, embeddings.matrix, labels.single, beside)
        if log_p is not None:
            known = np.atleast_2d(np.array(self.card["finetuned"]["classes_known"], dtype=bool))
            found = network_heard(found, log_p, known.max(axis=0, keepdims=True))
        return probabilities.predictions(found, self.mixing, labels.contains(), labels.tags)

    def tensors(self) -> dict[str, dict[str, np.ndarray]]:
        """The arrays of its files, by file and name."""
        weights = _arrays(self.model) | {f"mixing_{name}": one for name, one in vars(self.mixing).items()}
        return {"weights": weights} | ({"network": dict(self.network)} if self.network else {})


def card_path(folder: DataFolder, namespace: str) -> Path:
    """Where the card of one namespace's classifier stands."""
    return folder.classifier / f"{_stem(namespace)}_classifier.json"


def work_folder(folder: DataFolder, namespace: str) -> Path:
    """Where a fine-tuning keeps what it goes on from when it was stopped; gone once it is done."""
    return folder.classifier / f"{_stem(namespace)}_finetuning"


def fingerprint(model: str | None, rows: Iterable[tuple[str, Collection[str]]]) -> str:
    """SHA-256 over the embedding model and every picture's hash and tags of the namespace: the data that was learned from."""
    told = sorted((hash, tuple(sorted(tags))) for hash, tags in rows)
    written = {tags: json.dumps(tags, ensure_ascii=False) for tags in {tags for _, tags in told}}
    text = "".join(f'["{hash}", {written[tags]}]' for hash, tags in told)
    return hashlib.sha256(f"{model}\n{text}".encode()).hexdigest()


def save(folder: DataFolder, card: dict[str, Any], tensors: Mapping[str, Mapping[str, np.ndarray]]) -> Path:
    """Write the arrays by file and name, then the card that makes them count; return the card's path.

    `card` holds what describes the classifier, its `namespace` among it; kind, version, time and files are added here. Files
    that it names already stay, others of the namespace are removed at the end.
    """
    stem, when, files = _stem(card["namespace"]), data_folder.utc_now(), dict(card.get("files", {}))
    while listed(folder.classifier, f"{stem}_*_{when.strftime(STAMP)}.*"):
        when += timedelta(seconds=1)
    for name, arrays in tensors.items():
        path = folder.classifier / f"{stem}_{name}_{when.strftime(STAMP)}.safetensors"
        _write_tensors(path, arrays)
        files[name] = _described(path)
    path = card_path(folder, card["namespace"])
    head = {"kind": CARD.name, "version": CARD.version, "created": data_folder.isoformat(when)}
    write_json(path, card | head | {"files": files}, CARD.records)
    names = {one["name"] for one in files.values()}
    for old in listed(folder.classifier, f"{stem}_*_*Z.*"):
        if old.name not in names:
            # Windows lets nobody remove what another process reads: the next training does it.
            with suppress(FileNotFoundError, PermissionError):
                old.unlink()
    return path


def _write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    content = tensor_bytes({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    write_atomically(path, lambda out: out.write(content))


def _arrays(model: Model) -> dict[str, np.ndarray]:
    """A model by name."""
    companions = model.companions.tocoo()
    named = vars(model.plda) | {"exemplars": model.exemplars, "starts": model.starts}
    named |= {f"prior_{name}": value for name, value in vars(model.prior).items()}
    return named | {f"companions_{name}": getattr(companions, name) for name in ("row", "col", "data")}


def _model(arrays: Mapping[str, np.ndarray], companions: int) -> Model:
    """The model out of `_arrays`, with so many companions."""
    plda = Plda(**{name: arrays[name] for name in Plda.__dataclass_fields__})
    prior = Prior(**{name: arrays[f"prior_{name}"] for name in Prior.__dataclass_fields__})
    row, column, ratio = (arrays[f"companions_{name}"] for name in ("row", "col", "data"))
    ratios = sparse.csr_matrix((ratio, (row, column)), shape=(companions, len(plda.counts)))
    return Model(plda, arrays["exemplars"], arrays["starts"], prior, ratios)


def load_card(folder: DataFolder, namespace: str) -> dict[str, Any]:
    """The card of one namespace's classifier. Raises `MissingInput` when none was trained, `BadFile` when it is damaged."""
    path = card_path(folder, namespace)
    if not there(path):
        raise MissingInput(f"no classifier for {namespace!r} in {folder.classifier}: run {_made_by(namespace)} first")
    card = data_folder.load(path, CARD)
    try:
        CARD_SHAPE(card)
        one_of(namespace)(card["namespace"])
    except Wrong as error:
        again = f"run {_made_by(namespace)} again ({error})"
        raise BadFile(f"{path} is not the whole card of a {namespace} classifier: {again}") from None
    return card


def load(folder: DataFolder, namespace: str) -> Classifier:
    """The classifier of a namespace, ready to predict. Raises `MissingInput` or `BadFile` naming the file."""
    card, again = load_card(folder, namespace), f"run {_made_by(namespace)} again"
    path = _checked(folder, card, "weights")
    try:
        arrays, network = read_tensors(path.read_bytes()), dict[str, np.ndarray]()
        model = _model(arrays, len(card["companions"]))
        mixing = Mixing(**{name: arrays[f"mixing_{name}"] for name in Mixing.__dataclass_fields__})
        if "network" in card["files"]:
            path = _checked(folder, card, "network")
            network = read_tensors(path.read_bytes())
        number = {row["series"]: place for place, row in enumerate(card["series"])}
        classes = tuple(tuple(number[name] for name in members) for members in card["classes"])
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadFile(f"{path} and its card do not belong together ({error}): {again}") from None
    plda, width = model.plda, card["embedding"]["dimensions"]
    sizes = plda.means.shape, plda.basis.shape, model.exemplars.shape[1:], model.starts.shape, mixing.weights.shape
    count, directions = len(classes), len(plda.between)
    right = (count, directions), (width, directions), (directions,), (count,), (scoring.FEATURES,)
    if sizes != right:
        raise BadFile(f"{path} has arrays of other sizes than its card says: {again}")
    return Classifier(card, model, mixing, tuple(number), classes, network)


def said(folder: DataFolder, card: dict[str, Any]) -> Said:
    """A card's out-of-fold predictions. Raises `MissingInput` or `BadFile` naming the file."""
    path = _checked(folder, card, "out_of_fold")
    try:
        return Said.read(read_tensors(path.read_bytes()), len(card["series"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        again = f"run {_made_by(card['namespace'])} again"
        raise BadFile(f"{path} and its card do not belong together ({error}): {again}") from None


def _checked(folder: DataFolder, card: dict[str, Any], name: str) -> Path:
    """One of the files that a card names, if it is as it was when the card was written."""
    again = f"run {_made_by(card['namespace'])} again"
    if name not in card["files"]:
        raise MissingInput(f"the {card['namespace']} classifier has no {name}: {again}")
    path = folder.classifier / Path(card["files"][name]["name"]).name
    try:
        found = _described(path)
    except (FileNotFoundError, IsADirectoryError, ValueError):  # a name with a zero byte is a ValueError
        raise BadFile(f"{path} is named by its card and is not there: {again}") from None
    if found["sha256"] != card["files"][name]["sha256"]:
        raise BadFile(f"{path} is not what its card says (damaged or changed): {again}")
    return path


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _stem(namespace: str) -> str:
    """A namespace as the start of a file name, whatever characters it holds; no two share one."""
    return quote(namespace, safe=" ").replace("_", "%5F")


def _made_by(namespace: str) -> str:
    return MADE_BY + ("" if namespace == "series" else f" --namespace {namespace}")


def keep_nothing(folder: DataFolder, namespace: str, dataset: str, reason: str) -> None:
    """Note down that this dataset has nothing to learn from; a classifier of earlier days stays."""
    noted = {"kind": "nothing_to_learn", "version": 1, "dataset": dataset, "reason": reason}
    write_json(folder.classifier / f"{_stem(namespace)}_nothing_to_learn.json", noted)


def nothing(folder: DataFolder, namespace: str) -> str | None:
    """Why there is no classifier, where the last training found nothing to learn from; None where there is one."""
    path = folder.classifier / f"{_stem(namespace)}_nothing_to_learn.json"
    if not there(path) or card_path(folder, namespace).exists():
        return None
    with suppress(BadFile):
        return str(json_files.read(path, record({"reason": text()}), f"run {MADE_BY} again")["reason"])
    return None
