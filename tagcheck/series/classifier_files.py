"""The files of a trained series classifier in `series_classifier/`: saved so that a half-written one is never taken for real.

A namespace has three files, four where a network was fine-tuned and kept. The card, `<namespace>_classifier.json`, is
written last and names the others with size and SHA-256: it is the commit point, and until it is replaced the classifier
before stays in force. The others carry the time in their names.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
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
from tagcheck.series import out_of_fold, scoring, tagger_says
from tagcheck.series import probabilities as series_mixing
from tagcheck.series.probabilities import Absence, Mixing, Predictions
from tagcheck.series.scoring import Fitted, Model
from tagcheck.series.tagger_says import Prior

MADE_BY = "train_series_classifier_images.py"
FOLDER = "series_classifier"
CARD = Kind("series_classifier", FOLDER, "classifier", MADE_BY, ("series",))
OUT_OF_FOLD = Kind("series_out_of_fold", FOLDER, "out_of_fold", MADE_BY, ("predictions",))
JUDGED = "judged_since"  # of the predictions: whose were made after the training
LINE = re.compile(rb'\{"hash": ?"([0-9a-f]{64})".*\}')  # a prediction
SHARES = ("unknown_share", "forgotten_share")
_NUMBERS = list_of(number())
_ABSENCE = record({"pictures": number(), "unknown_share": number(), "forgotten_share": number(), "strange": _NUMBERS})
_NOISE = record(
    {"swapped_share": number(), "first": _NUMBERS, "foreign": _NUMBERS, "agreement": number()}
    | {"by_company": either(null, list_of(_ABSENCE))}
)
_FILE = record({"name": text(least=1), "sha256": text()})
_PREDICTION = record(
    {"hash": text(), "probabilities": record(), "predicted": list_of(anything)}
    | {"unknown": number(), "forgotten_share": number()}
)
CARD_SHAPE = record(
    {
        "namespace": text(),
        "created": text(),
        "dataset": anything,
        "fingerprint": text(),
        "embedding": record({"model": either(null, text()), "dimensions": whole(1)}),
        "classes": list_of(list_of(text())),
        "series": list_of(record({"series": text()})),
        "companions": list_of(text()),
        "pictures": record({"without_embedding": whole(0)}),
        "settings": record({"duplicate_cosine": number()}),
        "noise": _NOISE,
        "files": record({"weights": _FILE, "out_of_fold": _FILE}, {"network": _FILE, "folds": _FILE}),
    },
    {
        "noise_without_network": _NOISE,
        "foreign_names": list_of(text()),
        "rests_on": text(),
        "weighed": record({"since": text()}),
        "finetuned": record({"classes_known": anything}),
    },
)


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: its card (settings, scores, fingerprint) and what it predicts with.

    `mixing` weighs embeddings alone; `with_network` also fine-tuned networks of the tensors `network`,
    both None where there is none.
    """

    card: dict[str, Any]
    model: Model
    mixing: Mixing
    series: tuple[str, ...]
    contains: np.ndarray
    with_network: Mixing | None = None
    network: dict[str, np.ndarray] | None = None

    def predict(
        self, embeddings: Embeddings, log_p: np.ndarray | None = None, tag_sets: Sequence[Collection[str]] | None = None
    ) -> Predictions:
        """What is said about pictures that the classifier was not trained on; no retraining.

        `log_p` (n, C) is what the fine-tuned network says of them (`tagcheck.series.finetuning`); without it the
        embeddings alone count. `tag_sets` are their tags, of which those of characters count.
        Raises `BadFile` naming both models when the embeddings are of another one.
        """
        made = self.card["embedding"]
        width = embeddings.matrix.shape[1]
        if width != made["dimensions"] or (embeddings.model or made["model"]) != made["model"]:
            raise BadFile(
                f"the {self.card['namespace']} classifier was trained on embeddings of {made['model']} "
                f"({made['dimensions']} numbers), these are of {embeddings.model} ({width} numbers): run {MADE_BY} again"
            )
        beside = None if tag_sets is None else tagger_says.tag_columns(tag_sets, self.card["companions"])
        found, mixing = scoring.score(self.model, embeddings.matrix, beside=beside), self.mixing
        if log_p is not None and self.with_network is not None:
            networks = np.atleast_2d(np.array(self.card["finetuned"]["classes_known"], dtype=bool))
            known = np.asarray(networks.any(axis=0, keepdims=True))
            found, mixing = out_of_fold.network_heard(found, log_p, known), self.with_network
        own = None if tag_sets is None else tagger_says.tag_columns(tag_sets, self.series).astype(bool)
        return series_mixing.predictions(found, mixing, self.contains, own)


@dataclass(frozen=True)
class Kept:
    """What a large library is judged by when it has changed a little (`tagcheck.series.renewal`): the `fitted` models of the
    folds, and of each picture its hash (n,) of 32 bytes, digests of its embedding and of the tags that count (n,), its fold (n,).
    """

    hashes: np.ndarray
    embedded: np.ndarray
    tagged: np.ndarray
    folds: np.ndarray
    fitted: Sequence[Fitted]

    def arrays(self) -> dict[str, np.ndarray]:
        """The same by name."""
        parts = {f"{fold}.{name}": one for fold, part in enumerate(self.fitted) for name, one in _arrays(part).items()}
        named = {name: getattr(self, name) for name in ("embedded", "tagged", "folds")}
        return parts | named | {"hashes": self.hashes.view(np.uint8).reshape(-1, 32)}


def card_path(folder: DataFolder, namespace: str) -> Path:
    """Where the card of one namespace's classifier stands."""
    return folder.classifier / f"{_stem(namespace)}_classifier.json"


def work_folder(folder: DataFolder, namespace: str) -> Path:
    """Where a fine-tuning keeps what it goes on from when it was stopped; gone once it is done."""
    return folder.classifier / f"{_stem(namespace)}_finetuning"


def fingerprint(model: str | None, rows: Iterable[tuple[str, Collection[str]]]) -> str:
    """SHA-256 over the embedding model and every picture's hash and tags of the namespace: the data that was learned from."""
    digest = hashlib.sha256(f"{model}\n".encode())
    for hash, tags in sorted((hash, sorted(tags)) for hash, tags in rows):
        digest.update(json.dumps([hash, tags], ensure_ascii=False).encode("utf-8"))
    return digest.hexdigest()


def rows(
    hashes: Sequence[str],
    tag_sets: Sequence[Collection[str]],
    names: Sequence[str],
    folds: np.ndarray,
    said: Predictions,
    learned: sparse.csr_matrix,
    foreign_names: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """One record a picture, in the order of hashes; see docs/formats.md.

    `names` (S,) the series that `said` numbers, `learned` csr (n, S) of 0/1 which of a picture's own could be
    judged, `foreign_names` those that only the tagger knows.
    """
    out = []
    predicted = said.predicted
    for row, hash in enumerate(hashes):
        own = slice(said.own.indptr[row], said.own.indptr[row + 1])
        ranked = zip(said.ranked[row], said.probability[row])
        probabilities = {names[place]: round(float(p), 4) for place, p in ranked if place >= 0}
        # A tag that hardly fits keeps its digits: how little it fits decides whether it is wrong.
        fits = zip(said.own.indices[own], said.own.data[own])
        probabilities |= {names[place]: float(f"{p:.3g}") for place, p in fits}
        sure = [names[place] for place in said.ranked[row][predicted[row]]]
        unknown, extra = float(said.unknown[row]), {}
        if said.foreign[row] >= 0 and (p := float(said.foreign_probability[row])) >= series_mixing.LISTED_FROM:
            named = foreign_names[said.foreign[row]]
            probabilities[named], unknown = max(round(p, 4), probabilities.get(named, 0.0)), unknown - p
            extra = {"named_by_tagger": named}
            if p >= series_mixing.PREDICT_FROM:
                sure.append(named)
        known = slice(learned.indptr[row], learned.indptr[row + 1])
        strange = unknown >= said.probability[row].max(initial=0.0)
        missed = (names[place] for place, yes in zip(learned.indices[known], learned.data[known]) if not yes)
        made = {
            "hash": hash,
            "fold": int(folds[row]),
            "tags": sorted(tag_sets[row]),
            "predicted": sure,
            "abstained": None if sure else "unknown_series" if strange else "unsure",
            "probabilities": probabilities,
            "unknown": round(unknown, 4),
            "forgotten_share": round(float(said.forgotten[row]), 4),
            "not_learned": sorted(missed),
        }
        out.append(made | extra)
    return sorted(out, key=lambda one: one["hash"])


def save(
    folder: DataFolder,
    namespace: str,
    card: dict[str, Any],
    model: Model,
    mixing: Mixing,
    predictions: list[dict[str, Any]],
    when: datetime | None = None,
    with_network: Mixing | None = None,
    network: dict[str, np.ndarray] | None = None,
    kept: Kept | None = None,
) -> Path:
    """Write weights, then predictions, then the card that makes them count; return the card's path.

    `card` holds what describes the classifier, `classes` (lists of series) among it; kind, version,
    time, namespace and files are added here. `with_network` and `network` belong to a fine-tuned
    network whose word the predictions have heard. Older files of the namespace are removed at the end.
    """
    tensors = {"weights": _arrays(model) | {"exemplars": model.exemplars.astype(np.float16)}}
    tensors["weights"] |= {"weights": mixing.weights, "none": mixing.none}
    if with_network is not None and network is not None:
        tensors["weights"] |= {"network_weights": with_network.weights, "network_none": with_network.none}
        tensors["network"] = network
    if kept is not None:
        tensors["folds"] = kept.arrays()
    when, described = _free_second(folder, namespace, when), dict[str, Any]()
    for name, some in tensors.items():
        path = folder.classifier / f"{_stem(namespace)}_{name}_{when.strftime(STAMP)}.safetensors"
        _write_tensors(path, some)
        described[name] = _described(path)
    noise = {"noise": _noise(with_network or mixing)}
    noise |= {"noise_without_network": _noise(mixing)} if with_network else {}
    return _commit(folder, namespace, when, card | noise | {"files": described}, predictions)


def save_renewed(
    folder: DataFolder, namespace: str, card: dict[str, Any], predictions: list[Any], judged: list[str]
) -> Path:
    """Write predictions anew, those of the pictures `judged` and lines of before, and the `card`, which keeps all other files."""
    return _commit(folder, namespace, _free_second(folder, namespace), card, predictions, judged)


def _free_second(folder: DataFolder, namespace: str, when: datetime | None = None) -> datetime:
    """The first second from `when` on that no file of the namespace has in its name."""
    when = when or data_folder.utc_now()
    while listed(folder.classifier, f"{_stem(namespace)}_*_{when.strftime(STAMP)}.*"):
        when += timedelta(seconds=1)
    return when


def _commit(
    folder: DataFolder,
    namespace: str,
    when: datetime,
    card: dict[str, Any],
    predictions: list[Any],
    judged: list[str] | None = None,
) -> Path:
    stem, created = _stem(namespace), data_folder.isoformat(when)
    out_of_fold = folder.classifier / f"{stem}_out_of_fold_{when.strftime(STAMP)}.json"
    head = {"kind": OUT_OF_FOLD.name, "version": OUT_OF_FOLD.version, "created": created, "namespace": namespace}
    head |= {key: card[key] for key in ("dataset", "embedding", "fingerprint")}
    head |= {} if judged is None else {JUDGED: judged}
    write_json(out_of_fold, head | {"predictions": predictions}, OUT_OF_FOLD.records)
    files = card["files"] | {"out_of_fold": _described(out_of_fold)}
    head = {"kind": CARD.name, "version": CARD.version, "created": created, "namespace": namespace}
    path = card_path(folder, namespace)
    write_json(path, card | head | {"files": files}, CARD.records)
    names = {one["name"] for one in files.values()}
    for pattern in ("weights_*.safetensors", "network_*.safetensors", "folds_*.safetensors", "out_of_fold_*.json"):
        for old in listed(folder.classifier, f"{stem}_{pattern}"):
            if old.name not in names:
                with suppress(FileNotFoundError):
                    old.unlink()
    return path


def _arrays(model: Model | Fitted) -> dict[str, np.ndarray]:
    """What is kept of a model beside its exemplars, by name."""
    companions = model.companions.tocoo()
    return vars(model.plda) | {
        "starts": model.starts,
        **({"rows": model.rows} if isinstance(model, Fitted) else {}),
        **{f"prior_{name}": value for name, value in vars(model.prior).items()},
        "companions_row": companions.row,
        "companions_column": companions.col,
        "companions_value": companions.data,
    }


def _parts(arrays: dict[str, np.ndarray], companions: int) -> tuple[Plda, np.ndarray, Prior, sparse.csr_matrix]:
    """PLDA, the starts of the classes' exemplars, what the tagger knows, and the companions, out of `_arrays`."""
    plda = Plda(**{name: arrays[name] for name in Plda.__dataclass_fields__})
    prior = Prior(**{name: arrays[f"prior_{name}"] for name in Prior.__dataclass_fields__})
    places = arrays["companions_row"], arrays["companions_column"]
    shape = companions, len(plda.counts)
    return plda, arrays["starts"], prior, sparse.csr_matrix((arrays["companions_value"], places), shape=shape)


def _write_tensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    content = tensor_bytes({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    write_atomically(path, lambda out: out.write(content))


def _noise(mixing: Mixing) -> dict[str, Any]:
    """What the card says of a mixing's numbers; of all pictures together and of both kinds."""
    kinds = [asdict(one) for one in mixing.absence]
    count = np.array([one["pictures"] for one in kinds]) + 1e-9
    whole = {key: float(np.average([one[key] for one in kinds], weights=count)) for key in SHARES}
    whole |= {"pictures": sum(one["pictures"] for one in kinds), "strange": kinds[0]["strange"]}
    rates = {"swapped_share": mixing.swapped, "agreement": mixing.agreement}
    return rates | whole | {"by_company": kinds, "first": [*mixing.first, 0.0, 0.0], "foreign": mixing.foreign}


def load_card(folder: DataFolder, namespace: str) -> dict[str, Any]:
    """The card of one namespace's classifier. Raises `MissingInput` when none was trained, `BadFile` when it is damaged."""
    path = card_path(folder, namespace)
    if not there(path):
        raise MissingInput(
            f"no classifier for {namespace!r} in {folder.classifier}: run {MADE_BY}{_option(namespace)} first"
        )
    card = data_folder.load(path, CARD)
    try:
        CARD_SHAPE(card)
        one_of(namespace)(card["namespace"])
    except Wrong as error:
        raise BadFile(
            f"{path} is not the whole card of a {namespace} classifier: run {MADE_BY}{_option(namespace)} again ({error})"
        ) from None
    return card


def load(folder: DataFolder, namespace: str) -> Classifier:
    """The classifier of a namespace, ready to predict. Raises `MissingInput` or `BadFile` naming the file."""
    card = load_card(folder, namespace)
    path, content = _content(folder, card, "weights")
    try:
        arrays = read_tensors(content)
        plda, starts, prior, companions = _parts(arrays, len(card["companions"]))
        model = Model(plda, arrays["exemplars"].astype(np.float32), starts, prior, companions)
        tuned, network = None, None
        if "network" in card["files"]:
            tuned = _mixing(arrays["network_weights"], arrays["network_none"], card["noise"])
            path, content = _content(folder, card, "network")
            network = read_tensors(content)
        mixing = _mixing(arrays["weights"], arrays["none"], card["noise_without_network"] if tuned else card["noise"])
        names = tuple(row["series"] for row in card["series"])
        contains = np.zeros((len(card["classes"]), len(names)), dtype=bool)
        for place, members in enumerate(card["classes"]):
            contains[place, [names.index(name) for name in members]] = True
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        again = f"run {MADE_BY}{_option(card['namespace'])} again"
        raise BadFile(f"{path} and its card do not belong together ({error}): {again}") from None
    sizes = plda.means.shape, plda.basis.shape, model.exemplars.shape[1:], model.starts.shape, mixing.weights.shape
    directions, width = len(plda.between), card["embedding"]["dimensions"]
    if sizes != ((len(contains), directions), (width, directions), (width,), (len(contains) + 1,), (scoring.FEATURES,)):
        raise BadFile(
            f"{path} has arrays of other sizes than its card says: run {MADE_BY}{_option(card['namespace'])} again"
        )
    return Classifier(card, model, mixing, names, contains, tuned, network)


def _mixing(weights: np.ndarray, none: np.ndarray, noise: dict[str, Any]) -> Mixing:
    kinds = noise["by_company"] or [noise, noise]  # a card of before may know one kind alone
    absence = [
        Absence(one["pictures"], one["unknown_share"], one["forgotten_share"], tuple(one["strange"])) for one in kinds
    ]
    slope, offset = noise["first"][:2]
    shares = noise["swapped_share"], (absence[0], absence[1]), (slope, offset), tuple(noise["foreign"])
    return Mixing(weights, none, *shares, noise["agreement"])


def load_out_of_fold(folder: DataFolder, namespace: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the card, one record a picture) of a namespace's out-of-fold predictions."""
    card = load_card(folder, namespace)
    path, _ = _content(folder, card, "out_of_fold")
    rows = data_folder.load(path, OUT_OF_FOLD).get("predictions", [])
    for place, row in enumerate(rows, 1):
        try:
            _PREDICTION(row)
        except Wrong as error:
            again = f"run {MADE_BY}{_option(namespace)} again ({error})"
            raise BadFile(f"{path}: record {place} of 'predictions' is not whole: {again}") from None
    return card, rows


def load_kept(folder: DataFolder, card: dict[str, Any]) -> tuple[Kept, dict[str, bytes], list[str]]:
    """(what was kept of the training, the lines of the out-of-fold predictions by hash, those of them made since).

    Raises `BadFile` or `MissingInput`.
    """
    path, content = _content(folder, card, "folds")
    try:
        arrays, parts = read_tensors(content), dict[int, dict[str, np.ndarray]]()
        for name, one in arrays.items():
            fold, dot, rest = name.partition(".")
            if dot:
                parts.setdefault(int(fold), {})[rest] = one
        fitted = []
        for fold in range(len(parts)):
            plda, *others = _parts(parts[fold], len(card["companions"]))
            fitted.append(Fitted(plda, parts[fold]["rows"], *others))
        hashes = arrays["hashes"].reshape(-1).view("V32")
        kept = Kept(hashes, arrays["embedded"], arrays["tagged"], arrays["folds"], fitted)
        out_of_fold, content = _content(folder, card, "out_of_fold")
        again: list[str] = data_folder.head(out_of_fold, OUT_OF_FOLD).get(JUDGED) or []
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadFile(f"{path} cannot be read ({error}): run {MADE_BY} again") from None
    return kept, {found[1].decode(): found[0] for found in LINE.finditer(content)}, again


def _content(folder: DataFolder, card: dict[str, Any], name: str) -> tuple[Path, bytes]:
    """One of the files that a card names, as it was when the card was written."""
    path = folder.classifier / Path(card["files"][name]["name"]).name
    again = f"run {MADE_BY}{_option(card['namespace'])} again"
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, ValueError):  # a name with a zero byte is a ValueError
        raise BadFile(f"{path} is named by its card and is not there: {again}") from None
    if hashlib.sha256(content).hexdigest() != card["files"][name]["sha256"]:
        raise BadFile(f"{path} is not what its card says (damaged or changed): {again}")
    return path, content


def _described(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"name": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _stem(namespace: str) -> str:
    """A namespace as the start of a file name, whatever characters it holds; no two share one."""
    return quote(namespace, safe=" ").replace("_", "%5F")


def _option(namespace: str) -> str:
    return "" if namespace == "series" else f" --namespace {namespace}"


def keep_nothing(folder: DataFolder, namespace: str, dataset: str, reason: str) -> None:
    """Note down that this dataset has nothing to learn from; a classifier of earlier days stays."""
    write_json(
        folder.classifier / f"{namespace}_nothing_to_learn.json",
        {"kind": "nothing_to_learn", "version": 1, "dataset": dataset, "reason": reason},
    )


def nothing(folder: DataFolder, namespace: str) -> str | None:
    """Why there is no classifier, where the last training found nothing to learn from; None where there is one."""
    path = folder.classifier / f"{namespace}_nothing_to_learn.json"
    if not there(path) or (folder.classifier / f"{namespace}_classifier.json").exists():
        return None
    try:
        return str(json_files.read(path, record({"reason": text()}), f"run {MADE_BY} again")["reason"])
    except BadFile:
        return None
