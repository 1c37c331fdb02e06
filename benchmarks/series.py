"""The series classifier against scikit-learn's one-vs-rest logistic regression and an MLP head, in one run, on made-up libraries.

    python benchmarks/series.py
    python benchmarks/series.py --series 1000 --pictures 10000 --kinds clouds
    python benchmarks/series.py --series 1000 --pictures 10000 --kinds clouds --width 192   # crowded: the hard case
    python benchmarks/series.py --kinds prior

A library has Zipf frequencies, similar series, strong directions that have nothing to do with series, heavy tails,
near-duplicates with tags of their own, forgotten and swapped tags, and a fifth of its pictures are of unknown series.
`clouds`: a series is a mean with some characters round it. `looks`: several far-apart characters. `digits`:
scikit-learn's real digits, each "series" one to three of them. `prior`: what the tagger and character tags add where
series have few pictures or none.

All are trained on four fifths of the groups of near-duplicates and scored on the rest, against the truth: macro- and
micro-F1 (each peer at its own best cut, ours at its fixed one), AUROC of telling unknown series apart, expected
calibration error. How sure swapped and forgotten tags are, and the sample library, are for `benchmarks/belief.py`.

Writes nothing; prints a table to stdout.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from common import PROJECT  # noqa: F401  which puts the project on the path
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier

from tagcheck import script
from tagcheck.learning import expected_calibration_error, linear_probes
from tagcheck.series import out_of_fold, probabilities, scoring, tagger_says
from tagcheck.series.labels import FOLDS, label_images, spread_folds
from tagcheck.tag_columns import tag_columns

CUTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
MLP_EPOCHS = 40
KINDS = ("clouds", "looks", "digits", "prior")


@dataclass(frozen=True)
class Library:
    """n pictures: embeddings (n, d), true series (n,) (-1: unknown to the owner), tag (n,) (-1: none), near-duplicates (n,)."""

    matrix: np.ndarray
    truth: np.ndarray
    tag: np.ndarray
    groups: np.ndarray
    series: int


def main(argv: list[str] | None = None) -> int:
    made = script.plain_parser(__doc__)
    script.add_whole(made, "--series", "series of a library", 100)
    script.add_whole(made, "--pictures", "pictures of a library", 6000)
    script.add_whole(made, "--width", "numbers of an embedding, JoyTag's without", 768)
    script.add_option(made, "--kinds", "which libraries (default: all)", list(KINDS), choices=KINDS)
    script.add_option(made, "--seeds", "of the libraries", [101], type=int)
    script.add_switch(made, "--without-peers", "only ours, for quick looks")
    args = made.parse_args(argv)
    for seed in args.seeds:
        for kind in args.kinds:
            if kind == "prior":
                prior(seed)
                continue
            library = draw(kind, args.series, args.pictures, args.width, seed)
            compare(f"{kind}, seed {seed}", library, not args.without_peers)
    return 0


# --- libraries ----------------------------------------------------------------------------------------


def draw(kind: str, number: int, pictures: int, width: int, seed: int) -> Library:
    """One library of a kind, with planted errors."""
    rng = np.random.default_rng([seed, number, pictures])
    if kind == "digits":
        matrix, truth, number = digits(rng)
    else:
        matrix, truth = made_up(rng, number, pictures, width, looks=kind == "looks")
    matrix, truth, groups = with_duplicates(rng, matrix, truth)
    tag = with_errors(rng, truth, number)
    return Library(matrix.astype(np.float32), truth, tag, groups, number)


def made_up(
    rng: np.random.Generator, number: int, pictures: int, width: int, looks: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of series with Zipf frequencies, a third in similar pairs; a fifth of the pictures are of unknown ones."""
    others = max(10, number // 3)
    total = number + others
    means = rng.normal(size=(total, width)) * (0.25 if looks else 0.55)
    pairs = rng.permutation(total)[: total // 3 // 2 * 2].reshape(-1, 2)
    means[pairs[:, 1]] = means[pairs[:, 0]] * 0.7 + means[pairs[:, 1]] * 0.7
    characters = rng.normal(size=(total, 6, width)) * (1.0 if looks else 0.35)
    share = 1 / np.arange(1, number + 1)
    truth = rng.choice(number, pictures, p=share / share.sum())
    truth[: min(4 * number, pictures)] = np.arange(min(4 * number, pictures)) % number  # the rarest have a few, too
    strange = rng.random(pictures) < 0.2
    truth[strange] = number + rng.integers(0, others, int(strange.sum()))
    which = np.minimum(rng.geometric(0.35, pictures) - 1, 5)
    scenes = rng.normal(size=(width // 4, width)) * np.linspace(2.5, 0.3, width // 4)[:, None] / np.sqrt(width // 4) * 2
    tails = np.sqrt(3 / rng.chisquare(5, pictures))[:, None]
    matrix = means[truth] + characters[truth, which] + rng.normal(size=(pictures, len(scenes))) @ scenes
    return matrix + rng.normal(size=(pictures, width)) * tails, np.where(truth < number, truth, -1)


def digits(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
    """scikit-learn's 1,797 digits: series are {0, 1}, {2, 3, 4}, {5}, {6}, {7}; 8 and 9 are unknown."""
    data = load_digits()
    of_digit = np.array([0, 0, 1, 1, 1, 2, 3, 4, -1, -1])
    order = rng.permutation(len(data.target))
    return data.data[order], of_digit[data.target[order]], 5


def with_duplicates(
    rng: np.random.Generator, matrix: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tenth more pictures, each a near-duplicate of one there is."""
    source = rng.integers(0, len(matrix), len(matrix) // 10)
    copies = matrix[source] + rng.normal(size=(len(source), matrix.shape[1])) * 0.05 * matrix.std()
    groups = np.concatenate([np.arange(len(matrix)), source])
    return np.concatenate([matrix, copies]), np.concatenate([truth, truth[source]]), groups


def with_errors(rng: np.random.Generator, truth: np.ndarray, number: int) -> np.ndarray:
    """The owner's tags: 8 % forgotten, 4 % another series by frequency."""
    tag, chance = truth.copy(), rng.random(len(truth))
    frequency = np.bincount(truth[truth >= 0], minlength=number).astype(float)
    for row in np.flatnonzero((chance > 0.96) & (truth >= 0)):
        other = frequency.copy()
        other[truth[row]] = 0
        tag[row] = rng.choice(number, p=other / other.sum())
    tag[chance < 0.08] = -1
    return tag


# --- ours and the peers -------------------------------------------------------------------------------


def compare(what: str, library: Library, peers: bool) -> None:
    """Train each on four fifths, score on the rest, print a line each and the ratios."""
    unknown, tagged = library.truth < 0, library.tag >= 0
    print(
        f"\n{what}: {len(unknown):,} pictures, {library.series} series, {unknown.mean():.0%} unknown, "
        f"{(~tagged)[~unknown].mean():.1%} forgotten, {(tagged & (library.tag != library.truth)).sum()} swapped"
    )
    train = np.random.default_rng(7).random(len(library.groups))[library.groups] < 0.8
    known = np.unique(library.truth[~train & (library.truth >= 0)])
    truth, scores = library.truth[~train], {}
    print(f"  {'method':<15}{'macro-F1':>9}{'micro-F1':>9}{'unknown AUROC':>15}{'ECE':>7}{'CPU s':>9}")
    for name, method in {"ours": ours, **(PEERS if peers else {})}.items():
        start = time.process_time()
        said, probability, strange = method(library, train)
        seconds, cuts = time.process_time() - start, (0.0,) if name == "ours" else CUTS
        scores[name] = max((f1(truth, np.where(probability >= cut, said, -1), known) for cut in cuts), key=sum)
        shown, area = said >= 0, roc_auc_score(truth < 0, strange)
        error = expected_calibration_error(probability[shown], (said == truth)[shown])
        macro, micro = scores[name]
        print(f"  {name:<15}{macro:>9.3f}{micro:>9.3f}{area:>15.3f}{error:>7.3f}{seconds:>9.1f}", flush=True)
    others = [both for name, both in scores.items() if name != "ours"]
    if others:
        macro, micro = (scores["ours"][place] / max(both[place] for both in others) for place in (0, 1))
        print(f"  ours / better peer: macro-F1 {macro:.2f}x, micro-F1 {micro:.2f}x")


def f1(truth: np.ndarray, said: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """(macro over the series that occur, micro over all). A picture of an unknown series counts against whoever names one."""
    macro = f1_score(truth, said, labels=known, average="macro", zero_division=0)
    return macro, f1_score(truth, said, labels=np.arange(truth.max() + 1), average="micro")


def ours(library: Library, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(series said or -1, its probability, probability of an unknown series) of the pictures held back."""
    tags, groups = library.tag[train].tolist(), library.groups[train]
    labels = label_images([frozenset({f"series:{one}"} if one >= 0 else ()) for one in tags], groups)
    folds = spread_folds(linear_probes.grouped_folds(groups, FOLDS, 0), groups, labels)
    folded, model = out_of_fold.out_of_fold(library.matrix[train], labels, folds)
    mixing, number = probabilities.fit_mixing(folded, labels), np.array([int(name[7:]) for name in labels.series])
    found = scoring.score(model, library.matrix[train][model.exemplars], library.matrix[~train])
    said = probabilities.predictions(found, mixing, labels.contains())
    predicted = np.where(said.predicted[:, 0], number[np.maximum(said.ranked[:, 0], 0)], -1)
    return predicted, said.probability[:, 0], said.unknown


def standardised(library: Library, train: np.ndarray) -> np.ndarray:
    """The embeddings (n, d) less their mean over the deviation, as the training pictures have them."""
    mine = library.matrix[train]
    return (library.matrix - mine.mean(axis=0)) / (mine.std(axis=0) + 1e-6)


def one_vs_rest(library: Library, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's logistic regression, one a series, on standardised embeddings of the pictures that have a tag."""
    x = standardised(library, train)
    rows = train & (library.tag >= 0)
    fitted = OneVsRestClassifier(LogisticRegression(max_iter=60, tol=1e-3), n_jobs=1).fit(x[rows], library.tag[rows])
    p = np.asarray(fitted.predict_proba(x[~train]))
    return fitted.classes_[p.argmax(axis=1)], p.max(axis=1), 1 - p.max(axis=1)


def mlp_head(library: Library, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's network of one hidden layer, stopped by a tenth of the pictures that have a tag."""
    x = standardised(library, train)
    rows = train & (library.tag >= 0)
    # Of series of one picture no tenth can be held back by class, so the tenth is drawn from all.
    made = MLPClassifier((512,), alpha=1e-2, max_iter=MLP_EPOCHS, random_state=0)
    order = np.random.default_rng(0).permutation(np.flatnonzero(rows))
    held, learned, best, kept = order[: len(order) // 10], order[len(order) // 10 :], -1.0, made
    for _ in range(MLP_EPOCHS):
        made.partial_fit(x[learned], library.tag[learned], classes=np.unique(library.tag[rows]))
        now = made.score(x[held], library.tag[held])
        if now > best:
            best, kept = now, deepcopy(made)
    p = kept.predict_proba(x[~train])
    return kept.classes_[p.argmax(axis=1)], p.max(axis=1), 1 - p.max(axis=1)


PEERS: dict[str, Callable] = {"one-vs-rest LR": one_vs_rest, "MLP head": mlp_head}


def prior(seed: int) -> None:
    """40 series of the owner's with 1 to 40 pictures, 20 more that only the tagger knows, and 20 that nobody knows.

    The tagger names seven in ten series and sees them in 87 of 100 of their pictures (JoyTag's median recall), in one of a
    hundred others, too; half of the pictures have the tag of one of three characters of their series.
    """
    rng = np.random.default_rng([seed, 5])
    number, total, width = 40, 80, 96
    sizes = np.concatenate([np.geomspace(1, 40, number).round().astype(int), np.full(total - number, 15)])
    truth = np.repeat(np.arange(total), sizes)
    matrix = rng.normal(size=(total, width))[truth] * 0.35 + rng.normal(size=(len(truth), width))
    names = [f"s{one}" for one in range(60) if one % 10 < 7 or one >= number]
    of = np.array([int(name[1:]) for name in names])
    fires, stray = (rng.random((len(truth), len(of))) < share for share in (0.87, 0.002))
    seen = np.where(truth[:, None] == of, fires, stray)
    matrix = np.concatenate([matrix, seen * 6.0 - 3.0 + rng.normal(size=seen.shape)], axis=1).astype(np.float32)
    weight = np.concatenate([np.zeros((len(of), width)), np.eye(len(of))], axis=1).astype(np.float32)
    tag = np.where((truth < number) & (rng.random(len(truth)) < 0.9), truth, -1)
    people = [f"character:{one}" for one in range(3 * total)]
    has = rng.random(len(truth)) < 0.5
    shown = [[people[3 * one + rng.integers(3)]] if some else [] for one, some in zip(truth, has)]
    beside = tag_columns(shown, people)
    written = [frozenset({f"series:s{one}"} if one >= 0 else ()) for one in tag.tolist()]
    labels = label_images(written, np.arange(len(tag)))
    folds = spread_folds(linear_probes.grouped_folds(np.arange(len(tag)), FOLDS, 0), np.arange(len(tag)), labels)
    called = [f"series:{name}" for name in names]
    tagger = tagger_says.listen(matrix, weight, np.zeros(len(of), np.float32), names, labels, None, called)
    print(
        f"\nprior, seed {seed}: {len(truth):,} pictures, {number} series of the owner's with 1 to 40, 20 only the tagger knows"
    )
    for what, heard, along in (
        ("embedding alone", None, None),
        ("and characters", None, beside),
        ("and the tagger", tagger, None),
        ("and both", tagger, beside),
    ):
        folded, _ = out_of_fold.out_of_fold(matrix, labels, folds, tagger=heard, beside=along)
        said = probabilities.predictions(folded.candidates, probabilities.fit_mixing(folded, labels), labels.contains())
        foreign = np.array(heard.foreign_names if heard else [""])[np.maximum(said.foreign, 0)]
        named = (said.foreign >= 0) & (said.foreign_probability > said.probability[:, 0])
        first = np.where(named, foreign, np.array(labels.series)[np.maximum(said.ranked[:, 0], 0)])
        p = np.where(named, said.foreign_probability, said.probability[:, 0])
        prior_line(what, first == np.char.add("series:s", truth.astype(str)), p, truth, sizes[truth], number)


def prior_line(
    what: str, right: np.ndarray, p: np.ndarray, truth: np.ndarray, pictures: np.ndarray, number: int
) -> None:
    """What is found of series of 1 to 4 `pictures`, of 5 or more, and of those from `number` on, which have no tag."""
    shown = p >= probabilities.PREDICT_FROM
    parts = {
        "1 to 4 pictures": (truth < number) & (pictures < 5),
        "5 or more": (truth < number) & (pictures >= 5),
        "none, the tagger knows it": (truth >= number) & (truth < 60),
    }
    recall = "; ".join(f"{name}: {(right & shown)[where].mean():.2f}" for name, where in parts.items())
    print(
        f"  {what:<16} series found out of fold, {recall}; precision {right[shown].mean():.2f}, calibration error "
        f"{expected_calibration_error(p, right):.3f}",
        flush=True,
    )


if __name__ == "__main__":
    script.run(main)
