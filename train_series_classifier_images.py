"""Learn the owner's series from their own tags, and say of every picture which series it is, or none of them.

    python train_series_classifier_images.py
    python train_series_classifier_images.py --namespace person --data-dir ~/tagging
    python train_series_classifier_images.py --finetune --unfreeze-last-k 2 --unfrozen-epochs 16

Heads are trained on the stored embeddings, in seconds, without the pictures. Every picture is
predicted by a model that saw neither it nor a near-duplicate of it. A picture without a series tag
is unknown, not a proven negative: the tag may just have been forgotten.

With --finetune the last blocks of the tagger's network are trained on the pictures, too: one network for each of three
folds of near-duplicate groups, so that what they say of a picture is out of fold as well. It is weighed beside the
heads and kept only where the two together surely agree better with the tags than the heads alone; else the heads stay.
Later runs without --finetune judge with it what is new. Ctrl-C or a kill loses at most a minute: the same command goes on.

Reads:  datasets/advanced_joytag_complete_<UTC>.json, advanced_embeddings/*.pt (and tag_head.pt, where there is one);
        with --finetune also the library's pictures and the tagger's files
Writes: series_classifier/<namespace>_classifier.json, <namespace>_weights_<UTC>.safetensors,
        <namespace>_out_of_fold_<UTC>.safetensors; with --finetune, where it was worth it, also
        <namespace>_network_<UTC>.safetensors
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
import json
import shutil
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

import config
from tagcheck import changed, dataset, files, script, tags
from tagcheck.data_folder import DataFolder
from tagcheck.dataset import Dataset
from tagcheck.duplicates import measuring
from tagcheck.embedding import Embeddings, store
from tagcheck.errors import BadFile, MissingInput, ToolError, UsageError, told_as
from tagcheck.files import write_atomically
from tagcheck.learning import linear_probes
from tagcheck.library import choose
from tagcheck.lock import sole_run
from tagcheck.pictures import decoder_processes
from tagcheck.plural import plural
from tagcheck.script import run
from tagcheck.series import (
    Classifier,
    Labels,
    classifier_files,
    out_of_fold,
    probabilities,
    renewal,
    scoring,
    tagger_says,
)
from tagcheck.series.classifier_files import card_path
from tagcheck.series.labels import FOLDS, SET_PICTURES, group_counts, label_images, learned, spread_folds
from tagcheck.series.mixing import fit_mixing
from tagcheck.series.renewal import Pictures
from tagcheck.series.said import Said
from tagcheck.series.settings import PARTS, Settings
from tagcheck.tag_columns import tag_columns
from tagcheck.tag_errors import tagger_vocabulary

SEED = 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    made = script.parser(__doc__)
    script.add_dataset(made)
    namespace = "the namespace to learn, of which a picture mostly has one tag"
    script.add_option(made, "--namespace", namespace, config.SERIES_NAMESPACE, metavar="NAME")
    tag_map = (
        "CSV of name, category, count and aliases that tells which of the tagger's tags are series and characters "
        f"(default: {tagger_vocabulary.SHARED_MAP} in the data folder, where there is one)"
    )
    made.add_argument("--tag-map", metavar="FILE", type=script.path, help=tag_map)
    script.add_switch(made, "--anew", "learn from all pictures, also where little has changed since the last training")
    add_finetuning(made.add_argument_group("fine-tuning, on the pictures themselves"))
    return made.parse_args(argv)


def add_finetuning(made: argparse._ArgumentGroup) -> None:
    """The options of --finetune."""
    script.add_switch(made, "--finetune", "also train the last blocks of the tagger's network (default: no)")
    script.add_library(made, "the one that was mapped")
    model = "the tagger's folder, as the embeddings were made with (default: JoyTag's, fetched once from the hub)"
    script.add_option(made, "--model-dir", model, config.MODEL_DIR, metavar="DIR", type=script.path)
    device = "where to train (default: auto, the GPU where there is one)"
    script.add_option(made, "--device", device, "auto", choices=script.DEVICES)
    for option, name, what in (
        ("--unfrozen-epochs", "epochs", "passes over the pictures at most"),
        ("--unfreeze-last-k", "blocks", "blocks that are trained, from the last"),
        ("--batch-size", "batch_size", "pictures in a step"),
    ):
        script.add_whole(made, option, what, getattr(Settings, name), dest=name)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    namespace = script.namespace_of(args)
    folder = script.data_folder(args)
    data = dataset.load(folder, args.dataset, args.max_embeddings)
    pictures = gather(folder, data, namespace)
    groups, cosine = measuring.copy_groups(folder.embeddings, pictures.embedded)
    rests = rests_on(folder, data, pictures, namespace, args.tag_map)
    anew = args.anew or args.finetune or data.most is not None or not card_path(folder, namespace).exists()
    if not anew and judged_anew(folder, data, pictures, groups, namespace, rests):
        return 0
    labels = label_images(pictures.tag_sets, groups)
    try:
        group_counts = check_learnable(labels, groups, namespace, data)
    except MissingInput as error:
        classifier_files.keep_nothing(folder, namespace, data.path.name, str(error))
        print(f"nothing to learn from: {error}")
        return 0

    tagged = int(labels.tagged.sum())
    script.say(f"learning {len(labels.series)} {namespace} tags from {tagged:,} tagged of {data.share(len(groups))}")
    folds = spread_folds(linear_probes.grouped_folds(groups, min(FOLDS, len(np.unique(groups))), SEED), groups, labels)
    beside, companions = told_beside(pictures, namespace)
    heard = listen(folder, data, pictures, labels, namespace, args.tag_map)
    with script.shown_share("out of fold") as progress:
        folded, model = out_of_fold.out_of_fold(pictures.embedded.matrix, labels, folds, progress, heard, beside)
        progress(1.0)
    known, network, tuned = learned(labels, group_counts), dict[str, np.ndarray](), dict[str, Any]()
    if args.finetune:
        with sole_run(folder.classifier / "finetuning.lock"):
            folded, network, tuned = finetuned(args, namespace, folder, pictures, labels, groups, known, folded)
            shutil.rmtree(classifier_files.work_folder(folder, namespace))
        print(verdict(tuned))
    mixing = fit_mixing(folded, labels, SEED)
    said = probabilities.predictions(folded.candidates, mixing, labels.contains(), labels.tags)
    scores = probabilities.agreement(said, labels, known, float(mixing.swapped[0]))
    card = describe(data, pictures, labels, group_counts, cosine, model.prior)
    card |= {"namespace": namespace, "scores": scores, "noise": mixing.noise(), "companions": companions}
    card |= {"foreign_names": [*heard.foreign_names] if heard else [], "rests_on": rests}
    card |= {"finetuned": tuned} if tuned else {}
    made = Classifier(card, model, mixing, labels.series, labels.classes, network)
    told = Said.of(said, pictures.embedded.hashes, folds, labels.tags).in_order()
    path = classifier_files.save(folder, card, made.tensors() | {"out_of_fold": told.arrays()})
    print(f"{outcome(namespace, labels, group_counts, said, scores)}: {path}")
    return 0


def rests_on(folder: DataFolder, data: Dataset, pictures: Pictures, namespace: str, tag_map: str | None) -> str:
    """A digest of all but pictures and tags that a training rests on."""
    own = (folder.root / name for name in changed.OWN_FILES)
    read = [folder.embeddings / store.TAG_HEAD, *own, *([Path(tag_map)] if tag_map else [])]
    about = namespace, pictures.embedded.model, pictures.embedded.preprocess, data.siblings
    return changed.method(("series", "learning"), read, *about)


def judged_anew(
    folder: DataFolder, data: Dataset, now: Pictures, groups: np.ndarray, namespace: str, rests: str
) -> bool:
    """Judge what is new since the last training by its model; False, and why in a line, where all has to be learned anew."""
    try:
        made = classifier_files.load(folder, namespace)
        if len(now.tag_sets) < renewal.FEWEST and not made.network:
            return False
        if made.card.get("rests_on") != rests:
            raise renewal.TooMuch("the program, the tagger or your own files are other than they were")
        then = classifier_files.said(folder, made.card)
        said, weighed = renewal.renewed(made, then, now, groups, lambda hashes: network_says(folder, made, hashes))
    except (renewal.TooMuch, BadFile, MissingInput) as error:
        script.say(f"all pictures are learned from anew: {error}")
        return False
    several = sum(len(one) > 1 for one in now.tag_sets)
    counted = counts(data, now, len(said.hashes), sum(map(bool, now.tag_sets)), several)
    card = made.card | counted | {"weighed": weighed}
    path = classifier_files.save(folder, card, {"out_of_fold": said.arrays()})
    print(
        f"{weighed['anew']:,} of {weighed['pictures']:,} pictures are judged by the classifier of {weighed['since']}, which has not "
        f"seen them; what it says of the others stays: {path}"
    )
    return True


def network_says(folder: DataFolder, made: Classifier, hashes: list[str]) -> np.ndarray | None:
    """What the fine-tuned network says of pictures that came after the training, (n, C); None where the classifier has none.

    None also, and a line why, where the library's pictures or the network's files are out of reach: then the
    stored embeddings alone count.
    """
    base = made.card.get("finetuned", {}).get("base", {})
    if not made.network or "folder" not in base:
        return None
    from tagcheck.embedding import joytag_network, tagger  # here, since PyTorch takes seconds to load
    from tagcheck.series import finetuning

    try:
        published = joytag_network.read_folder(Path(base["folder"]))
        if published.sha256 != base["weights_sha256"]:
            raise BadFile(f"{base['folder']} holds another network than the one that was fine-tuned")
        library = choose.mapped_library(folder, config, None, script.say)
        read = decoder_processes.frames_of(library, hashes, published.network.image_size)
        network, tuned = published.network.to(tagger.choose_device("auto")), made.card["finetuned"]
        known, blocks = np.array(tuned["classes_known"], dtype=bool), tuned["settings"]["blocks"]
        return finetuning.new_log_probabilities(network, made.network, known, read, len(hashes), blocks)
    except ToolError as error:
        script.say(f"new pictures are judged without the fine-tuned network: {error}")
        return None


def outcome(
    namespace: str, labels: Labels, group_counts: np.ndarray, said: probabilities.Predictions, scores: dict[str, Any]
) -> str:
    """What was learned, and how well it agrees with the tags, in a line."""
    abstained = int((np.diff(said.predicted.indptr) == 0).sum())
    return (
        f"{plural(len(labels.series), f'{namespace} tag')} learned from {plural(int(labels.tagged.sum()), 'picture')} "
        f"({int((group_counts < 2).sum())} of them with too few pictures to be judged), {len(said.unknown):,} predicted out of fold "
        f"({abstained:,} abstained), micro-F1 {scores['micro_f1']:.3f}, macro-F1 {scores['macro_f1']:.3f} against the tags"
    )


def gather(folder: DataFolder, data: Dataset, namespace: str) -> Pictures:
    """The pictures to learn from. Raises `MissingInput` when there are no pictures, embeddings or tags."""
    of_hash = {record.hash: record.written for record in data.usable()}
    if not of_hash:
        raise MissingInput(f"{data.path} has no usable picture: run advanced_joytag_processing.py first")
    embedded = store.load(folder.embeddings, of_hash, model=data.model)
    if not embedded.hashes:
        raise MissingInput(
            f"No embeddings found: none of the {plural(len(of_hash), 'picture')} of {data.path} has an embedding: run advanced_joytag_processing.py first"
        )
    written = [of_hash[hash] for hash in embedded.hashes]
    return Pictures(embedded, written, [*map(tuple, map(tags.InNamespaces(namespace), written))])


def told_beside(pictures: Pictures, namespace: str) -> tuple[sparse.csr_matrix, list[str]]:
    """(the character tags of each picture that at least two pictures have, csr (n, T), what they are called)."""
    of_characters = tags.InNamespaces(*tags.PERSON_NAMESPACES)
    count = Counter(tag for one in pictures.written for tag in of_characters(one))
    companions = sorted(tag for tag, times in count.items() if times >= 2 and tags.namespace(tag) != namespace)
    return tag_columns(pictures.written, companions), companions


def listen(
    folder: DataFolder, data: Dataset, pictures: Pictures, labels: Labels, namespace: str, tag_map: str | None
) -> tagger_says.Tagger | None:
    """What the tagger says of the pictures, or None where there is no tag head of the embeddings' model.

    Its names are the owner's by their own map, the shared one and their siblings. Which of its tags are
    series is known from the shared map alone.
    """
    embedded = pictures.embedded
    head = store.load_tag_head(folder.embeddings, embedded.model, embedded.matrix.shape[1])
    if head is None:
        return None
    shared = files.named(tag_map, "TAG_MAP") if tag_map else None
    if shared and not shared.is_file():
        raise MissingInput(f"no tag map {shared}: name a CSV file of name, category, count and aliases")
    known = tagger_vocabulary.load(folder.root, data.siblings, shared)
    known = tagger_vocabulary.with_categories(known, head.tags, head.namespaces)
    owners = tagger_vocabulary.owners_tags(head.tags, frozenset().union(*pictures.written), known)
    return tagger_says.listen(
        embedded.matrix,
        head.weight,
        head.bias,
        head.tags,
        labels,
        owners,
        [of_namespace(name, owner, known, namespace) for name, owner in zip(head.tags, owners)],
    )


def of_namespace(name: str, owner: str | None, known: tagger_vocabulary.TagMap, namespace: str) -> str | None:
    """The tag of the namespace that one of the tagger's names stands for, had the owner it; None where it is something else."""
    if owner is not None:
        return owner if tags.namespace(owner) == namespace else None
    if known.namespaces.get(known.current.get(name, name)) != namespace:
        return None
    spelled = [known.siblings.get(one, one) for one in tagger_vocabulary.spellings(name, known)]
    return next((one for one in spelled if tags.namespace(one) == namespace), None)


# --- fine-tuning --------------------------------------------------------------------------------------


def verdict(tuned: dict[str, Any]) -> str:
    """What fine-tuning came to, in words."""
    heads, both = tuned["heads"], tuned["with_network"]
    kept = "better than the heads alone, so it is kept"
    dropped = "not surely better than the heads alone, so these are kept and the network is dropped"
    return (
        f"fine-tuned, on held-out groups: micro-F1 {both['micro_f1']:.3f} (heads alone {heads['micro_f1']:.3f}), macro-F1 "
        f"{both['macro_f1']:.3f} ({heads['macro_f1']:.3f}), a gain in {tuned['sure']:.0%} of resampled libraries: "
        f"{kept if tuned['kept'] else dropped}"
    )


def finetuned(
    args: argparse.Namespace,
    namespace: str,
    folder: DataFolder,
    pictures: Pictures,
    labels: Labels,
    groups: np.ndarray,
    known: sparse.csr_matrix,
    folded: out_of_fold.Folded,
) -> tuple[out_of_fold.Folded, dict[str, np.ndarray], dict[str, Any]]:
    """Train the networks and weigh what they say beside the heads: (the candidates, with their word where that is surely better, their
    tensors where it is, what fine-tuning came to, for the card)."""
    settings = Settings(epochs=args.epochs, blocks=args.blocks, batch_size=args.batch_size, seed=SEED)
    base, where = base_network(args, pictures.embedded)
    start = time.monotonic()
    found = train_networks(args, folder, namespace, pictures, labels, groups, base, settings)
    told = out_of_fold.network_heard(folded.candidates, found.log_p.astype(np.float16), found.known, found.folds)
    heard = replace(folded, candidates=told)
    before, after = (probabilities.cross_fitted(one, labels, SEED) for one in (folded, heard))
    apart = probabilities.gain(before, after, labels, known, groups, SEED)
    readable = (found.log_p < 0).any(axis=1)
    rows = np.flatnonzero(labels.tagged & readable)
    alone = found.log_p[rows].argmax(axis=1) == np.asarray(labels.membership[rows].argmax(axis=1)).ravel()
    losses = np.array([row["held_losses"] for row in found.history])
    card = {
        "kept": apart.real,
        "settings": asdict(settings),
        "heads": dict(zip(("micro_f1", "macro_f1"), apart.before)),
        "with_network": dict(zip(("micro_f1", "macro_f1"), apart.after)),
        "gain": apart.gain,
        "sure": apart.sure,
        "network_alone_of_tagged": round(float(alone.mean()), 4) if len(rows) else None,
        "base": {"weights_sha256": base.sha256, "preprocess": pictures.embedded.preprocess, "folder": str(where)},
        "best_epochs": losses.argmin(axis=0).tolist(),
        "classes_known": found.known.tolist(),
        "pictures_unreadable": int((~readable).sum()),
        "history": found.history,
        "seconds": round(time.monotonic() - start, 1),
    }
    return (heard, found.tensors, card) if apart.real else (folded, {}, card)


def train_networks(
    args: argparse.Namespace,
    folder: DataFolder,
    namespace: str,
    pictures: Pictures,
    labels: Labels,
    groups: np.ndarray,
    base: Any,
    settings: Settings,
) -> Any:
    """Train on the library's pictures the network of `base`, a `joytag_network.Published`, or go on where an earlier run was stopped; a
    `finetuning.Trained`.
    """
    from tagcheck.series.finetuning import Training  # here, since PyTorch takes seconds to load

    work = work_folder(folder, namespace, pictures, settings, base.sha256)
    library = choose.mapped_library(folder, config, args, None)
    read = decoder_processes.frames_of(library, pictures.embedded.hashes, base.network.image_size)
    parts = linear_probes.grouped_folds(groups, min(PARTS * settings.folds, len(np.unique(groups))), SEED)
    parts = spread_folds(parts, groups, labels)
    training = Training(base.network, read, pictures.embedded.matrix, labels.membership, parts, settings)
    total = settings.epochs * len(training.tagged)
    with script.progress((), total=total, what="fine-tuning", unit="picture") as bar:

        def show(count: int, loss: float) -> None:
            bar.update(count)
            bar.set_postfix({"loss": f"{loss:.3f}"}, refresh=False)

        return training.run(work / "checkpoint.pt", show)


def base_network(args: argparse.Namespace, embedded: Embeddings) -> tuple[Any, Path]:
    """The network that the embeddings are of, where it is to be trained, and its folder. Raises `BadFile` for another network's folder."""
    from tagcheck.embedding import download, joytag_network, tagger  # here, since they take seconds to load

    device = tagger.choose_device(args.device)
    if not (embedded.model or "").startswith("joytag-"):
        raise UsageError(
            f"--finetune: the embeddings are of {embedded.model}, and only networks of JoyTag's make can be trained"
        )
    where = Path(args.model_dir).resolve() if args.model_dir else download.ensure(download.FOLDER)
    with told_as("Model loading failed"):
        base = joytag_network.read_folder(where)
    ids = [joytag_network.model_id(base.sha256, precision) for precision in joytag_network.PRECISIONS]
    if embedded.model not in ids:
        raise BadFile(
            f"the embeddings are of {embedded.model}, the network to fine-tune is {base.sha256[:12]}: "
            "name the folder of theirs with --model-dir"
        )
    if args.blocks > len(base.network.blocks):
        raise UsageError(f"--unfreeze-last-k {args.blocks}: the network has {len(base.network.blocks)} blocks")
    script.say(f"fine-tuning the last {args.blocks} of {len(base.network.blocks)} blocks on {device.type}")
    base.network.to(device)
    return base, where


def work_folder(folder: DataFolder, namespace: str, pictures: Pictures, settings: Settings, base: str) -> Path:
    """The folder of an earlier run with the same data and settings that was stopped, or an empty one."""
    work = classifier_files.work_folder(folder, namespace)
    data = classifier_files.fingerprint(pictures.embedded.model, zip(pictures.embedded.hashes, pictures.tag_sets))
    key = json.dumps(asdict(settings) | {"data": data, "base": base}, sort_keys=True)
    path = work / "run.json"
    if work.exists():
        if path.exists() and path.read_text(encoding="utf-8") == key:
            script.say(f"continuing the fine-tuning in {work}")
            return work
        script.say(f"{work} is of other pictures, tags or settings, so training starts again")
        shutil.rmtree(work)
    write_atomically(path, lambda out: out.write(key.encode("utf-8")))
    return work


def check_learnable(labels: Labels, groups: np.ndarray, namespace: str, data: Dataset) -> np.ndarray:
    """How many groups of near-duplicates each series has pictures in, (S,).

    Raises `MissingInput` saying why nothing can be learned.
    """
    if not labels.series:
        raise MissingInput(
            f"no picture of {data.path} with an embedding has a {namespace}: tag, so there is nothing to learn: "
            "tag some pictures, then run advanced_joytag_processing.py and this again"
        )
    counts = group_counts(labels, groups)
    enough = [name for name, count in zip(labels.series, counts) if count >= 2]
    if len(enough) < 2:
        raise MissingInput(
            f"{plural(len(labels.series), f'{namespace} tag')} on {plural(int(labels.tagged.sum()), 'picture')}, but to tell them apart it takes two "
            f"with at least two pictures each that are not near-duplicates, and there are {len(enough)} such "
            f"({', '.join(enough) or 'none'}): tag more pictures"
        )
    return counts


def describe(
    data: Dataset, pictures: Pictures, labels: Labels, group_counts: np.ndarray, cosine: float, prior: tagger_says.Prior
) -> dict[str, Any]:
    """What the card says of the data and of what was learned from them."""
    support = np.asarray(labels.tags.sum(axis=0)).ravel()
    embedded, several = pictures.embedded, int((np.diff(labels.tags.indptr) > 1).sum())
    return counts(data, pictures, len(embedded.hashes), int(labels.tagged.sum()), several) | {
        "embedding": {
            "model": embedded.model,
            "preprocess": embedded.preprocess,
            "dimensions": int(embedded.matrix.shape[1]),
        },
        "settings": {
            "method": "plda and nearest pictures",
            "folds": FOLDS,
            "seed": SEED,
            "duplicate_cosine": cosine,
            "predict_from": probabilities.PREDICT_FROM,
            "candidates": scoring.CANDIDATES,
            "set_pictures": SET_PICTURES,
        },
        "fingerprint": classifier_files.fingerprint(embedded.model, zip(embedded.hashes, pictures.tag_sets)),
        "tagger_tags_used": int((prior.means >= 0).sum()),
        "tagger_series_without_pictures": int((prior.means < 0).sum()),
        "classes": [[labels.series[place] for place in members] for members in labels.classes],
        "series": [
            {"series": name, "pictures": int(pictured), "groups": int(count), "learned_out_of_fold": bool(count >= 2)}
            for name, pictured, count in zip(labels.series, support, group_counts)
        ],
    }


def counts(data: Dataset, pictures: Pictures, predicted: int, tagged: int, several: int) -> dict[str, Any]:
    """What the card says of the pictures."""
    embedded = pictures.embedded
    lacking = len({record.hash for record in data.usable()}) - len(embedded.hashes)
    numbers = {"predicted": predicted, "tagged": tagged, "with_several": several, "without_embedding": lacking}
    return {"dataset": data.path.name, "pictures": numbers}


if __name__ == "__main__":
    run(main)
