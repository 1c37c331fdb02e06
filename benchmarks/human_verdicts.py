"""Rank labels by how likely they are wrong, beside cleanlab, where people have said which of them are.

    python benchmarks/human_verdicts.py DIR
    python benchmarks/human_verdicts.py DIR --datasets cifar10 imdb

Reads   a checkout of https://github.com/cleanlab/label-errors in DIR (Northcutt, Athalye and Mueller,
        "Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks", 2021): original
        labels, cross-validated probabilities, and what five people each said of the labels that
        confident learning had doubted
Writes  nothing: figures on stdout

The peers are cleanlab 2.9's label quality scores (pip install cleanlab) from the same probabilities. For ours
the logits of the probabilities are the embeddings, and the tagger beside them; a label is a tag of a namespace
of which each picture has one. A label counts as wrong where fewer than three of the five people
confirmed it. Only doubted labels were shown to people, so this judges the order among these; and the
peers had a say in which they were.

Columns: AP average precision and AUROC of telling the wrong labels apart, higher is better; the AP
with the 95 % interval of ours less the peer's, from 2,000 resamplings of the judged labels; mean
confidence, and how many were said with 0.8 or more and which share of these is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cleanlab.rank import get_label_quality_scores
from common import PROJECT  # noqa: F401  which puts the project on the path
from scipy import sparse
from sklearn.metrics import roc_auc_score

from tagcheck import script
from tagcheck.errors import MissingInput
from tagcheck.learning import Tagger, linear_probes
from tagcheck.tag_errors import Rules, suggestions

DATASETS = ("mnist", "cifar10", "20news", "imdb")
PEERS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
CONFIRMED = 3  # of five people
RESAMPLINGS = 2000
TRUSTED = 0.8
NAMESPACE = "label"


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="the checkout")
    script.add_option(parser, "--datasets", "(default: all)", list(DATASETS), choices=DATASETS)
    args = parser.parse_args(argv)
    for name in args.datasets:
        probability, label, judged, wrong = read(args.folder, name)
        print(
            f"\n{name}: {len(label):,} labels of {probability.shape[1]}, {len(judged)} judged, {wrong.mean():.0%} of these wrong"
        )
        print(f"  {'':37} {'AP':>5} {'AUROC':>6}   {'ours less this':<16} {'mean':>5} {'from .8':>8} {'wrong':>6}")
        ours = confidence(probability, label)[judged]
        show("tagcheck", ours, wrong)
        for method in PEERS:
            quality = get_label_quality_scores(label, probability, method=method, adjust_pred_probs=False)
            show(f"cleanlab, {method.replace('_', ' ')}", (1 - quality)[judged], wrong, ours)
    return 0


def read(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(probabilities (n, K), labels (n,), rows that people judged (m,), whether each of these is wrong (m,))."""
    paths = [
        folder / "cross_validated_predicted_probabilities" / f"{name}_test_set_pyx.npy",
        folder / "original_test_labels" / f"{name}_test_set_original_labels.npy",
        folder / "mturk" / f"{name}_mturk.json",
    ]
    for path in paths:
        if not path.is_file():
            raise MissingInput(f"no {path}: DIR has to be a checkout of cleanlab/label-errors")
    probability, label = np.load(paths[0]).astype(np.float64), np.load(paths[1]).astype(np.int64)
    probability = np.clip(probability, 1e-7, 1 - 1e-7)
    verdicts = json.loads(paths[2].read_text(encoding="utf-8"))
    if name == "imdb":
        names = json.loads(
            (folder / "dataset_indexing" / "imdb_test_set_index_to_filename.json").read_text(encoding="utf-8")
        )
        row = {file: place for place, file in enumerate(names)}
        judged = [row[one["id"].removeprefix("test/") + ".txt"] for one in verdicts]
    else:
        judged = [one["id"] for one in verdicts]
    wrong = np.array([one["mturk"]["given"] < CONFIRMED for one in verdicts])
    return probability / probability.sum(axis=1, keepdims=True), label, np.array(judged), wrong


def confidence(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Our confidence that each label is wrong, (n,)."""
    n, number = probability.shape
    given = sparse.csr_matrix((np.ones(n, np.float32), (np.arange(n), label)), shape=(n, number))
    tagger = Tagger(np.arange(number), np.eye(number, dtype=np.float32), np.zeros(number, np.float32))
    declared = Rules(namespaces=frozenset({NAMESPACE}))
    names = [f"{NAMESPACE}:{one}" for one in range(number)]
    seen = suggestions.examine(linear_probes.logit(probability).astype(np.float32), given, names, tagger, declared)
    written = seen.cells.given
    out = np.empty(n)
    out[seen.cells.row[written]] = seen.verdict.error[written]
    return out


def show(name: str, said: np.ndarray, wrong: np.ndarray, ours: np.ndarray | None = None) -> None:
    """One line; with `ours`, by how much our average precision is better."""
    sure = said >= TRUSTED
    better = "" if ours is None else "{:+.3f} to {:+.3f}".format(*difference(ours, said, wrong))
    share = f"{wrong[sure].mean():6.2f}" if sure.any() else f"{'-':>6}"
    print(
        f"  {name:37} {linear_probes.average_precision(said, wrong):5.3f} {roc_auc_score(wrong, said):6.3f}   {better:<16} "
        f"{said.mean():5.2f} {int(sure.sum()):>8} {share}",
        flush=True,
    )


def difference(ours: np.ndarray, peer: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of our average precision less the peer's."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLINGS):
        rows = rng.integers(0, len(wrong), len(wrong))
        if wrong[rows].any():
            found.append(
                linear_probes.average_precision(ours[rows], wrong[rows])
                - linear_probes.average_precision(peer[rows], wrong[rows])
            )
    return tuple(np.quantile(found, [0.025, 0.975]))


if __name__ == "__main__":
    script.run(main)
