"""The files of a trained series classifier in `series_classifier/`: saved so that a half-written one is never taken for real.

A namespace has three files, four where a network was fine-tuned and kept or where a large library's folds are. The card,
`<namespace>_classifier.json`, is written last and names the others with size and SHA-256: it is the commit point, and until
it is replaced the classifier before stays in force. The others carry the time in their names.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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

from tagcheck import data_folder, json_files, memory
from tagcheck.data_folder import STAMP, DataFolder, Kind
from tagcheck.embedding import Embeddings
from tagcheck.errors import BadFile, MissingInput
from tagcheck.files import listed, there, write_atomically, write_json
from tagcheck.json_files import Wrong, anything, either, list_of, null, number, one_of, record, text, whole
from tagcheck.learning.same_class_model import Plda
from tagcheck.series import probabilities, scoring
from tagcheck.series.labels import Labels, labelled
from tagcheck.series.mixing import Mixing
from tagcheck.series.out_of_fold import network_heard
from tagcheck.series.probabilities import Predictions
from tagcheck.series.said import Said
from tagcheck.series.scoring import Candidates, Model
from tagcheck.series.tagger_says import Prior
from tagcheck.tag_columns import tag_columns

MADE_BY = "train_series_classifier_images.py"
FOLDER = "series_classifier"
CARD = Kind("series_classifier", FOLDER, "classifier", MADE_BY, ("series",))
OUT_OF_FOLD = Kind("series_out_of_fold", FOLDER, "out_of_fold", MADE_BY, ("predictions",))
JUDGED = "judged_since"  # of the predictions: whose were made after the training
LINE = re.compile(rb'\{"hash": ?"([0-9a-f]{64})".*\}')  # a prediction
ALONE, HEARD = "mixing_", "network_mixing_"  # in front of the names of arrays
_FILE = record({"name": text(least=1), "sha256": text()})
_PREDICTION = record(
    {"hash": text(), "probabilities": record(), "predicted": list_of(text())}
    | {"unknown": number(), "forgotten_share": number()}
)


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
        "files": record({"weights": _FILE, "out_of_fold": _FILE}, {"network": _FILE, "folds": _FILE}),
    },
    {"foreign_names": list_of(text()), "rests_on": text(), "weighed": record({"since": text()})}
    | {"finetuned": record({"classes_known": anything})},
)


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: its card (settings, scores, fingerprint) and what it predicts with.

    `mixing` weighs embeddings alone; `with_network` also fine-tuned networks of the
    tensors `network`, None and empty where there is none. `classes` are places in `series` as in `Labels`.
    """

    card: dict[str, Any]
    model: Model
    mixing: Mixing
    series: tuple[str, ...]
    classes: tuple[tuple[int, ...], ...]
    with_network: Mixing | None = None
    network: Mapping[str, np.ndarray] = field(default_factory=dict)

    def labels(self, tag_sets: Sequence[Collection[str]]) -> Labels:
        """The tags of some pictures as classes of this classifier."""
        return labelled(tag_sets, self.series, self.classes)

    def candidates(self, model: Model, matrix: np.ndarray, tag_sets: Sequence[Collection[str]]) -> Candidates:
        """What one of its models says of pictures `matrix` (m, d); of `tag_sets` those of series and characters count."""
        beside = tag_columns(tag_sets, self.card["companions"])
        return scoring.score(model, matrix, self.labels(tag_sets).single, beside)

    def predict(
        self, embeddings: Embeddings, log_p: np.ndarray | None = None, tag_sets: Sequence[Collection[str]] | None = None
    ) -> Predictions:
        """What is said about pictures that the classifier was not trained on; no retraining.

        `log_p` (n, C) is what the fine-tuned network says of them (`tagcheck.series.finetuning`); without it the
        embeddings alone count. `tag_sets` are their tags, of which those of series and characters count.
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
        found, mixing = self.candidates(self.model, embeddings.matrix, tag_sets), self.mixing
        if log_p is not None and self.with_network is not None:
            known = np.atleast_2d(np.array(self.card["finetuned"]["classes_known"], dtype=bool)).max(
                axis=0, keepdims=True
            )
            found, mixing = network_heard(found, log_p, known), self.with_network
        labels = self.labels(tag_sets)
        return probabilities.predictions(found, mixing, labels.contains(), labels.tags)

    def tensors(self) -> dict[str, dict[str, np.ndarray]]:
        """The arrays of its files, by file and name."""
        weights = _arrays(self.model)
        for front, mixing in ((ALONE, self.mixing), (HEARD, self.with_network)):
            weights |= {f"{front}{name}": one for name, one in vars(mixing).items()} if mixing else {}
        return {"weights": weights} | ({"network": dict(self.network)} if self.network else {})


@dataclass(frozen=True)
class Kept:
    """What a large library is judged by when it has changed a little (`tagcheck.series.renewal`): the `models` of the folds, and
    of each picture its hash (n, 32) uint8, digests of its embedding and of the tags that count (n,), its fold (n,).
    """

    hashes: np.ndarray
    embedded: np.ndarray
    tagged: np.ndarray
    folds: np.ndarray
    models: Sequence[Model]

    def arrays(self) -> dict[str, np.ndarray]:
        """The same by name."""
        named = {name: value for name, value in vars(self).items() if name != "models"}
        for fold, model in enumerate(self.models):
            named |= _arrays(model, f"{fold}.")
        return named


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


def rows(
    hashes: Sequence[str],
    tag_sets: Sequence[Collection[str]],
    names: Sequence[str],
    folds: np.ndarray,
    said: Predictions,
    learned: sparse.csr_matrix,
    foreign_names: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """One record a picture, in the order of hashes; see docs/formats.md.

    `names` (S,) the series that `said` numbers, `learned` csr (n, S) of 0/1 which of a picture's own could be
    judged, `foreign_names` those that only the tagger knows.
    """
    predicted = said.predicted
    for row in sorted(range(len(hashes)), key=hashes.__getitem__):
        own = slice(said.own.indptr[row], said.own.indptr[row + 1])
        ranked = zip(said.ranked[row], said.probability[row])
        listed = {names[place]: round(float(p), 4) for place, p in ranked if place >= 0}
        # A tag that hardly fits keeps its digits: how little it fits decides whether it is wrong.
        fits = zip(said.own.indices[own], said.own.data[own])
        listed |= {names[place]: float(f"{p:.3g}") for place, p in fits}
        sure = [names[place] for place in said.ranked[row][predicted[row]]]
        unknown, extra = float(said.unknown[row]), {}
        if said.foreign[row] >= 0 and (p := float(said.foreign_probability[row])) >= probabilities.LISTED_FROM:
            named = foreign_names[said.foreign[row]]
            listed[named], unknown = max(round(p, 4), listed.get(named, 0.0)), unknown - p
            extra = {"named_by_tagger": named}
            if p >= probabilities.PREDICT_FROM:
                sure.append(named)
        known = slice(learned.indptr[row], learned.indptr[row + 1])
        strange = unknown >= said.probability[row].max(initial=0.0)
        yield {
            "hash": hashes[row],
            "fold": int(folds[row]),
            "tags": sorted(tag_sets[row]),
            "predicted": sure,
            "abstained": None if sure else "unknown_series" if strange else "unsure",
            "probabilities": listed,
            "unknown": round(unknown, 4),
            "forgotten_share": round(float(said.forgotten[row]), 4),
            "not_learned": sorted(
                names[place] for place, yes in zip(learned.indices[known], learned.data[known]) if not yes
            ),
        } | extra


def save(
    folder: DataFolder,
    card: dict[str, Any],
    tensors: Mapping[str, Mapping[str, np.ndarray]],
    predictions: Iterable[dict[str, Any] | bytes],
    judged: Sequence[str] | None = None,
) -> Path:
    """Write the arrays by file and name, then predictions, then the card that makes them count; return the card's path.

    `card` holds what describes the classifier, its `namespace` among it; kind, version, time and files are added here. Files
    that it names already stay, others of the namespace are removed at the end. `judged` are the pictures whose
    predictions were made since the training, where only those were.
    """
    stem, when, files = _stem(card["namespace"]), data_folder.utc_now(), dict(card.get("files", {}))
    while listed(folder.classifier, f"{stem}_*_{when.strftime(STAMP)}.*"):
        when += timedelta(seconds=1)
    stamp, created = when.strftime(STAMP), {"created": data_folder.isoformat(when), "namespace": card["namespace"]}
    for name, arrays in tensors.items():
        path = folder.classifier / f"{stem}_{name}_{stamp}.safetensors"
        _write_tensors(path, arrays)
        files[name] = _described(path)
    path = folder.classifier / f"{stem}_out_of_fold_{stamp}.json"
    head = {"kind": OUT_OF_FOLD.name, "version": OUT_OF_FOLD.version, **created}
    head |= {key: card[key] for key in ("dataset", "embedding", "fingerprint")}
    head |= {} if judged is None else {JUDGED: judged}
    write_json(path, head | {"predictions": predictions}, OUT_OF_FOLD.records)
    files["out_of_fold"] = _described(path)
    path = card_path(folder, card["namespace"])
    head = {"kind": CARD.name, "version": CARD.version, **created}
    write_json(path, card | head | {"files": files}, CARD.records)
    names = {one["name"] for one in files.values()}
    for pattern in ("weights_*.safetensors", "network_*.safetensors", "folds_*.safetensors", "out_of_fold_*.json"):
        for old in listed(folder.classifier, f"{stem}_{pattern}"):
            if old.name not in names:
                # Windows lets nobody remove what another process reads: the next training does it.
                with suppress(FileNotFoundError, PermissionError):
                    old.unlink()
    return path


def _write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    content = tensor_bytes({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    write_atomically(path, lambda out: out.write(content))


def _arrays(model: Model, front: str = "") -> dict[str, np.ndarray]:
    """A model by name, with `front` before each."""
    companions = model.companions.tocoo()
    named = vars(model.plda) | {"exemplars": model.exemplars, "starts": model.starts}
    named |= {f"prior_{name}": value for name, value in vars(model.prior).items()}
    named |= {f"companions_{name}": getattr(companions, name) for name in ("row", "col", "data")}
    return {front + name: value for name, value in named.items()}


def _model(arrays: Mapping[str, np.ndarray], companions: int, front: str = "") -> Model:
    """The model out of `_arrays`, with so many companions."""
    plda = Plda(**{name: arrays[front + name] for name in Plda.__dataclass_fields__})
    prior = Prior(**{name: arrays[f"{front}prior_{name}"] for name in Prior.__dataclass_fields__})
    row, column, ratio = (arrays[f"{front}companions_{name}"] for name in ("row", "col", "data"))
    ratios = sparse.csr_matrix((ratio, (row, column)), shape=(companions, len(plda.counts)))
    return Model(plda, arrays[f"{front}exemplars"], arrays[f"{front}starts"], prior, ratios)


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
        mixing, heard = (
            Mixing(**{name: arrays[front + name] for name in Mixing.__dataclass_fields__}) if there else None
            for front, there in ((ALONE, True), (HEARD, "network" in card["files"]))
        )
        if heard:
            path = _checked(folder, card, "network")
            network = read_tensors(path.read_bytes())
        number = {row["series"]: place for place, row in enumerate(card["series"])}
        classes = tuple(tuple(number[name] for name in members) for members in card["classes"])
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadFile(f"{path} and its card do not belong together ({error}): {again}") from None
    assert mixing is not None
    plda, width = model.plda, card["embedding"]["dimensions"]
    sizes = plda.means.shape, plda.basis.shape, model.exemplars.shape[1:], model.starts.shape, mixing.weights.shape
    count, directions = len(classes), len(plda.between)
    right = (count, directions), (width, directions), (directions,), (count,), (scoring.FEATURES,)
    if sizes != right:
        raise BadFile(f"{path} has arrays of other sizes than its card says: {again}")
    return Classifier(card, model, mixing, tuple(number), classes, heard, network)


def load_out_of_fold(folder: DataFolder, namespace: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the card, one record a picture) of a namespace's out-of-fold predictions."""
    card = load_card(folder, namespace)
    return card, list(out_of_fold_rows(folder, card))


def out_of_fold_rows(folder: DataFolder, card: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One record a picture of a card's out-of-fold predictions, one after another: a million of them are 2 GB."""
    path = _checked(folder, card, "out_of_fold")
    for place, (_, row) in enumerate(data_folder.records(path, OUT_OF_FOLD, {}), 1):
        try:
            _PREDICTION(row)
        except Wrong as error:
            again = f"run {_made_by(card['namespace'])} again ({error})"
            raise BadFile(f"{path}: record {place} of 'predictions' is not whole: {again}") from None
        yield row


_HELD: dict[str, Said] = {}  # what was read before by its digest


def said(folder: DataFolder, card: dict[str, Any]) -> Said:
    """A card's out-of-fold predictions. Raises `MissingInput` or `BadFile` naming the file."""
    path = _checked(folder, card, "out_of_fold")
    held = _HELD.get(card["files"]["out_of_fold"]["sha256"])
    try:
        return held or Said.of(out_of_fold_rows(folder, card))
    except (ValueError, TypeError) as error:
        raise BadFile(
            f"{path} holds a prediction that is none ({error}): run {_made_by(card['namespace'])} again"
        ) from None


@memory.uncollected()
def hold(folder: DataFolder) -> None:
    """Keep the predictions of all classifiers in memory, for forks of this process. What cannot be read is left to who asks for it."""
    _HELD.clear()
    for path in listed(folder.classifier, "*_classifier.json"):
        with suppress(BadFile, MissingInput):
            card = load_card(folder, str(data_folder.load(path, CARD).get("namespace", "")))
            _HELD[card["files"]["out_of_fold"]["sha256"]] = said(folder, card)


def load_kept(folder: DataFolder, card: dict[str, Any]) -> tuple[Kept, dict[str, bytes], list[str]]:
    """(what was kept of the training, the lines of the out-of-fold predictions by hash, those of them made since).

    Raises `BadFile` or `MissingInput`.
    """
    path = _checked(folder, card, "folds")
    try:
        arrays = read_tensors(path.read_bytes())
        number = sum(name.endswith(".centre") for name in arrays)
        models = [_model(arrays, len(card["companions"]), f"{fold}.") for fold in range(number)]
        kept = Kept(models=models, **{name: one for name, one in arrays.items() if "." not in name})
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadFile(f"{path} cannot be read ({error}): run {MADE_BY} again") from None
    path = _checked(folder, card, "out_of_fold")
    again: list[str] = data_folder.head(path, OUT_OF_FOLD).get(JUDGED) or []
    return kept, {found[1].decode(): found[0] for found in LINE.finditer(path.read_bytes())}, again


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
