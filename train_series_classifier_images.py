"""Learn the owner's series from their own tags, and say of every picture which series it is, or none of them.

    python train_series_classifier_images.py
    python train_series_classifier_images.py --namespace person --data-dir ~/tagging

Heads are trained on the stored embeddings, in seconds, without the pictures. Every picture is
predicted by a model that saw neither it nor a near-duplicate of it. A picture without a series tag
is unknown, not a proven negative: the tag may just have been forgotten.

Reads:  datasets/advanced_joytag_complete_<UTC>.json, advanced_embeddings/*.pt (and tag_head.pt, where there is one)
Writes: series_classifier/<namespace>_classifier.json, <namespace>_weights_<UTC>.safetensors,
        <namespace>_out_of_fold_<UTC>.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import config
from tagcheck import cli, dataset, embeddings, neighbors, probes, series, series_files, tags
from tagcheck.artifacts import DataFolder
from tagcheck.cli import run
from tagcheck.dataset import Dataset
from tagcheck.embeddings import Embeddings
from tagcheck.errors import BadFile, MissingInput, UsageError

DUPLICATE_COSINES = (0.95, 0.97, 0.98, 0.99, 0.995, 0.999)  # from the first at which groups stay small
LARGEST_GROUP = 0.1      # of all pictures: a larger "group of near-duplicates" is none
PAIRS_A_PICTURE = 100    # more near-duplicate pairs than this are none either
SEED = 0


@dataclass(frozen=True)
class Pictures:
    """The usable pictures of a dataset that have an embedding: n rows."""

    embedded: Embeddings
    tag_sets: list[frozenset[str]]
    without_embedding: int


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    made = cli.parser(__doc__)
    cli.add_dataset(made)
    made.add_argument(
        "--namespace", metavar="NAME", default=config.SERIES_NAMESPACE,
        help="the namespace to learn, of which a picture mostly has one tag (default: %(default)s)",
    )
    return made.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    namespace = args.namespace.strip().rstrip(":").lower()
    if not namespace:
        raise UsageError("--namespace is empty: name one, such as series or person")
    folder = cli.data_folder(args)
    data = dataset.load(folder, args.dataset)
    pictures = gather(folder, data, namespace)
    groups, cosine = duplicate_groups(pictures.embedded)
    labels = series.label_images(pictures.tag_sets, groups)
    group_counts = check_learnable(labels, groups, namespace, data)

    cli.say(f"learning {len(labels.series)} {namespace} tags from {int(labels.tagged.sum()):,} of {len(groups):,} pictures")
    folds = probes.grouped_folds(groups, min(series.FOLDS, len(np.unique(groups))), SEED)
    folds = series.spread_folds(folds, groups, labels)
    tagger = listen(folder, pictures.embedded, labels)
    with cli.progress((), total=100, what="out of fold", unit="%") as bar:
        folded, model = series.out_of_fold(pictures.embedded.matrix, labels, folds, SEED, shown_on(bar), tagger)
        mixing = series.fit_mixing(folded, labels, SEED)
        said = series.predictions(folded.candidates, mixing, labels.contains(), labels.tags)
        bar.update(100 - bar.n)

    learned = folded.learned(labels)
    scores = series.agreement(said, labels, learned, mixing.swapped)
    card = describe(data, pictures, labels, group_counts, cosine, scores) | {"tagger_tags_used": len(model.prior.of_class)}
    path = series_files.save(folder, namespace, card, model, mixing, records(pictures, labels, folds, said, learned))
    abstained = int((~said.predicted.any(axis=1)).sum())
    print(
        f"{len(labels.series):,} {namespace} tags learned from {int(labels.tagged.sum()):,} pictures "
        f"({int((group_counts < 2).sum())} of them with too few pictures to be judged), {len(groups):,} predicted out of fold "
        f"({abstained:,} abstained), micro-F1 {scores['micro_f1']:.3f}, macro-F1 {scores['macro_f1']:.3f} "
        f"against the tags: {path}"
    )
    return 0


def gather(folder: DataFolder, data: Dataset, namespace: str) -> Pictures:
    """The pictures to learn from. Raises `MissingInput` when there are no pictures, embeddings or tags."""
    of_hash = {record.hash: frozenset(tags.in_namespace(record.tags, namespace)) for record in data.usable()}
    if not of_hash:
        raise MissingInput(f"{data.path} has no usable picture: run advanced_joytag_processing.py first")
    embedded = embeddings.load(folder.embeddings, of_hash, model=data.model)
    if not embedded.hashes:
        raise MissingInput(
            f"none of the {len(of_hash):,} pictures of {data.path} has an embedding: run advanced_joytag_processing.py first"
        )
    wrong = np.flatnonzero(~np.isfinite(embedded.matrix).all(axis=1))
    if len(wrong):
        raise BadFile(
            f"the embedding of {embedded.hashes[wrong[0]]} in {folder.embeddings} holds numbers that are not finite: "
            "remove the shard and run advanced_joytag_processing.py again"
        )
    return Pictures(embedded, [of_hash[hash] for hash in embedded.hashes], len(of_hash) - len(embedded.hashes))


def duplicate_groups(embedded: Embeddings) -> tuple[np.ndarray, float]:
    """(near-duplicate group of each picture (n,), the cosine it was found at).

    Embeddings of some models lie so close together that at the first threshold half a library is
    one chain of near-duplicates; then the next threshold is tried.
    """
    n = len(embedded.hashes)
    for cosine in DUPLICATE_COSINES:
        with cli.progress((), total=100, what=f"near-duplicates at {cosine:g}", unit="%") as bar:
            try:
                pairs = neighbors.near_pairs(embedded.matrix, cosine, progress=shown_on(bar), limit=PAIRS_A_PICTURE * n)
            except neighbors.TooManyPairs:
                continue
        labels = neighbors.group_labels(n, pairs.i, pairs.j)
        if np.bincount(labels).max() <= max(LARGEST_GROUP * n, 2):
            return labels, cosine
    cli.say(f"too many pictures look alike even at a cosine of {cosine:g}: only those of one and the same embedding share a fold")
    return np.unique(embedded.matrix, axis=0, return_inverse=True)[1].reshape(-1), 1.0


def listen(folder: DataFolder, embedded: Embeddings, labels: series.Labels) -> series.Tagger | None:
    """What the tagger says of the pictures, or None where there is no tag head of the embeddings' model."""
    head = embeddings.load_tag_head(folder.embeddings, embedded.model)
    return series.listen(embedded.matrix, head.weight, head.bias, head.tags, labels) if head else None


def shown_on(bar: Any) -> Callable[[float], None]:
    """What to tell a share of the work done, so that `bar`, of 100 steps, shows it."""
    return lambda share: bar.update(round(share * 100) - bar.n)


def check_learnable(labels: series.Labels, groups: np.ndarray, namespace: str, data: Dataset) -> np.ndarray:
    """How many groups of near-duplicates each series has pictures in, (S,).

    Raises `MissingInput` saying why nothing can be learned.
    """
    if not labels.series:
        raise MissingInput(
            f"no picture of {data.path} with an embedding has a {namespace}: tag, so there is nothing to learn: "
            "tag some pictures, then run advanced_joytag_processing.py and this again"
        )
    counts = series.group_counts(labels, groups)
    enough = [name for name, count in zip(labels.series, counts) if count >= 2]
    if len(enough) < 2:
        raise MissingInput(
            f"{len(labels.series)} {namespace} tags on {int(labels.tagged.sum())} pictures, but to tell them apart it takes two "
            f"with at least two pictures each that are not near-duplicates, and there are {len(enough)} such "
            f"({', '.join(enough) or 'none'}): tag more pictures"
        )
    return counts


def describe(
    data: Dataset, pictures: Pictures, labels: series.Labels, group_counts: np.ndarray, cosine: float,
    scores: dict[str, Any],
) -> dict[str, Any]:
    """The model card, less what saving adds."""
    support = np.asarray(labels.tags.sum(axis=0)).ravel()
    embedded = pictures.embedded
    return {
        "dataset": data.path.name,
        "fingerprint": series_files.fingerprint(embedded.model, zip(embedded.hashes, pictures.tag_sets)),
        "embedding": {"model": embedded.model, "preprocess": embedded.preprocess, "dimensions": int(embedded.matrix.shape[1])},
        "settings": {
            "method": "plda and nearest pictures", "folds": series.FOLDS, "seed": SEED, "duplicate_cosine": cosine,
            "predict_from": series.PREDICT_FROM, "candidates": series.CANDIDATES, "set_pictures": series.SET_PICTURES,
        },
        "pictures": {
            "predicted": len(embedded.hashes), "tagged": int(labels.tagged.sum()),
            "with_several": int((np.diff(labels.tags.indptr) > 1).sum()), "without_embedding": pictures.without_embedding,
        },
        "scores": scores,
        "classes": [[labels.series[place] for place in members] for members in labels.classes],
        "series": [
            {"series": name, "pictures": int(pictured), "groups": int(count), "learned_out_of_fold": bool(count >= 2)}
            for name, pictured, count in zip(labels.series, support, group_counts)
        ],
    }


def records(
    pictures: Pictures, labels: series.Labels, folds: np.ndarray, said: series.Predictions, learned: Any
) -> list[dict[str, Any]]:
    """One record a picture, in the order of hashes; see docs/formats.md."""
    out = []
    predicted, names = said.predicted, labels.series
    for row, hash in enumerate(pictures.embedded.hashes):
        own = slice(labels.tags.indptr[row], labels.tags.indptr[row + 1])
        ranked = zip(said.ranked[row], said.probability[row])
        probabilities = {names[place]: round(float(p), 4) for place, p in ranked if place >= 0}
        # A tag that hardly fits keeps its digits: how little it fits decides whether it is wrong.
        probabilities |= {names[place]: float(f"{p:.3g}") for place, p in zip(said.own.indices[own], said.own.data[own])}
        sure = [names[place] for place in said.ranked[row][predicted[row]]]
        unknown = float(said.unknown[row])
        out.append({
            "hash": hash, "fold": int(folds[row]), "tags": sorted(pictures.tag_sets[row]), "predicted": sure,
            "abstained": None if sure else "unknown_series" if unknown >= said.probability[row].max(initial=0.0) else "unsure",
            "probabilities": probabilities, "unknown": round(unknown, 4),
            "not_learned": sorted(names[place] for place, known in zip(learned.indices[own], learned.data[own]) if not known),
        })
    return sorted(out, key=lambda one: one["hash"])


if __name__ == "__main__":
    run(main)
