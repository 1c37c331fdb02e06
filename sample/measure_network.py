"""Measure the sample's small network on a library drawn from a seed that it was not trained on.

    python sample/measure_network.py
    python sample/measure_network.py --network /tmp/candidate --seed 901 --pictures 400

Reads a model folder; the pictures are drawn into a temporary one. Prints how well the network names tags, how well its
embeddings tell series apart that it has no tag for, and how near near-duplicates lie and how far everything else.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script has only its own folder on the path

from sample.plant import library as drawing
from sample.train.pictures import KNOWN_SERIES, booru_name
from tagcheck import script
from tagcheck.embedding import tagger
from tagcheck.pictures import preparation

NETWORK = Path(__file__).resolve().parent / "network"
FEWEST = 5  # pictures with a tag, for its average precision to say anything
NEAR = 0.95  # the project's threshold for near-duplicates
THRESHOLD = 0.4  # the probability from which JoyTag's authors count a tag as there


@dataclass(frozen=True)
class Embedded:
    """A drawn library as the network sees it: `embeddings` (n, d), `probabilities` and `truth` (n, V) by `tags`,
    `series` of each picture ("" for none), `pairs` (m, 2) rows that are near-duplicates, `alike` rows that only look so.
    """

    embeddings: np.ndarray
    probabilities: np.ndarray
    truth: np.ndarray
    tags: list[str]
    series: np.ndarray
    groups: np.ndarray
    pairs: np.ndarray
    alike: np.ndarray


def main(argv: list[str] | None = None) -> int:
    made = script.plain_parser(__doc__)
    network = "the model folder (default: sample/network)"
    script.add_option(made, "--network", network, NETWORK, type=script.place, metavar="DIR")
    script.add_option(made, "--seed", "of the library to measure on", 900, type=int)
    script.add_whole(made, "--pictures", "how many to draw", 640, low=drawing.SMALLEST)
    args = made.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = embed_library(tagger.load(args.network), drawing.plan_library(args.seed, args.pictures), Path(folder))
    print("\n".join([*tag_lines(found), *series_lines(found), *cosine_lines(found)]))
    print(f"{len(found.embeddings)} pictures of seed {args.seed} embedded by {args.network}")
    return 0


def embed_library(model: tagger.Tagger, plan: drawing.Library, root: Path) -> Embedded:
    """Draw every picture of `plan` but the odd files, and embed them."""
    groups = [group for group in plan.groups if not group.items[0].odd]
    drawing.draw(drawing.Library(groups), root)
    items = [(number, group, item) for number, group in enumerate(groups) for item in group.items]
    files = [(root / item.path).read_bytes() for _, _, item in items]
    pixels = np.concatenate([preparation.prepare_bytes(file, model.image_size)[:1] for file in files])
    embeddings = model.embed(pixels)
    names = [{booru_name(tag) for tag in item.truth} for _, _, item in items]
    truth = np.array([[tag in true for tag in model.tags] for true in names])
    label = np.array([number for number, _, _ in items])
    # Odd files come last in a plan: the numbers of groups are the plan's.
    first = np.unique(label, return_index=True)[1]
    alike = first[np.array(plan.alike, int).reshape(-1, 2)]
    same = np.argwhere(np.triu(label[:, None] == label, 1))
    series = np.array([group.picture.series for _, group, _ in items])
    told = (embeddings, model.probabilities(embeddings), truth, model.tags)
    return Embedded(*told, series, label, same, alike)


def average_precisions(found: Embedded, fewest: int = FEWEST) -> dict[str, float]:
    """Of each tag that `fewest` pictures or more have; 0 to 1, higher is better."""
    columns = np.flatnonzero(found.truth.sum(0) >= fewest)
    scores = average_precision_score(found.truth[:, columns], found.probabilities[:, columns], average=None)
    return dict(zip((found.tags[one] for one in columns), scores))


def mean_average_precision(found: Embedded, fewest: int = FEWEST) -> float:
    return float(np.mean(list(average_precisions(found, fewest).values())))


def f1(found: Embedded) -> tuple[float, float]:
    """(micro, macro) F1 of the tags said at `THRESHOLD`; macro over the tags that `FEWEST` pictures or more have."""
    said, seen = found.probabilities >= THRESHOLD, found.truth.sum(0) >= FEWEST
    macro = f1_score(found.truth[:, seen], said[:, seen], average="macro")
    return f1_score(found.truth, said, average="micro"), macro


def tag_lines(found: Embedded) -> list[str]:
    micro, macro = f1(found)
    worst = sorted((score, tag) for tag, score in average_precisions(found).items())[:12]
    return [
        f"tags: mean average precision {mean_average_precision(found):.3f},"
        f" F1 at {THRESHOLD} micro {micro:.3f}, macro {macro:.3f}",
        "      hardest: " + ", ".join(f"{tag} {score:.2f}" for score, tag in worst),
    ]


def series_lines(found: Embedded) -> list[str]:
    """How often a linear probe names the series of pictures it did not see (five folds by group of near-duplicates), of those
    that the network has no tag for and of those that it has one for.
    """
    lines = []
    for known, what in ((False, "no tag"), (True, "a tag")):
        rows = np.flatnonzero((found.series != "") & (np.isin(found.series, KNOWN_SERIES) == known))
        series, inputs = found.series[rows], StandardScaler().fit_transform(found.embeddings[rows])
        fold = np.random.default_rng(0).permutation(found.groups.max() + 1)[found.groups[rows]] % 5
        probe = LogisticRegression(C=0.1, max_iter=500)
        right = np.mean(cross_val_predict(probe, inputs, series, cv=PredefinedSplit(fold)) == series)
        names, counts = np.unique(series, return_counts=True)
        always = f"(always the commonest: {counts.max() / len(rows):.3f})"
        lines.append(f"series: linear probe {right:.3f} of {len(names)} series that it has {what} for {always}")
    return lines


def cosine_lines(found: Embedded) -> list[str]:
    """Quantiles of the cosine by kind of pair, raw and with the mean embedding taken away, and the pairs from `NEAR` on."""
    lines, count = [], len(found.embeddings)
    kind = ((found.series[:, None] == found.series) & (found.series[:, None] != "")).astype(int)
    kind[found.alike[:, 0], found.alike[:, 1]] = 2
    kind[found.pairs[:, 0], found.pairs[:, 1]] = 3
    upper = np.triu_indices(count, 1)
    kinds = kind[upper]
    for name, matrix in (("raw", found.embeddings), ("centred", found.embeddings - found.embeddings.mean(0))):
        unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        cosine = (unit @ unit.T)[upper]
        for number, what in ((3, "near-duplicates"), (2, "alike"), (1, "same series"), (0, "others")):
            values = cosine[kinds == number]
            low, middle, high = np.quantile(values, (0.05, 0.5, 0.999 if number < 2 else 0.95))
            top = f"{'99.9' if number < 2 else '95'} % {high:6.3f}, from {NEAR} on {np.mean(values >= NEAR):.4f}"
            spread = f"5 % {low:6.3f}, median {middle:6.3f}, {top}"
            lines.append(f"cosine {name:8s}{what:16s} {len(values):7d} pairs: {spread}")
        right, said = int(((cosine >= NEAR) & (kinds == 3)).sum()), int((cosine >= NEAR).sum())
        told = f"precision {right / max(1, said):.3f}, recall {right / (kinds == 3).sum():.3f}"
        lines.append(f"cosine {name:8s}at {NEAR}: {said} pairs, {told}")
    return lines


if __name__ == "__main__":
    script.run(main)
