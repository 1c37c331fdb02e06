"""Judge the belief in tags on libraries whose truth is known, beside cleanlab, a boosted stack, votes and the tagger alone.

    python benchmarks/belief.py
    python benchmarks/belief.py --judges lookalikes digits --seeds 101 102 --without-peers
    python benchmarks/belief.py --judges sample --planted demo/planted.json --demo demo/data
    python benchmarks/belief.py --judges xray readers icons packages mnist cifar10 20news imdb --packages DIR

Reads   with --judges sample what `make demo` left; with what is neither drawn nor packages the folder of --packages
        (benchmarks/belief_judges.py says how to fill it); the rest is drawn
Writes  nothing: figures on stdout

Every drawn family is judged plain, with 5 and with 15 % of pictures of two series, with parents applied, and with
a sub-series. The peers see the same folds: cleanlab's self-confidence (the probability of what is written;
`against`) under logistic regression on standardised embeddings (C = 1 and C = 0.01), gradient boosting of our own
evidence against what is written, the share of the nearest pictures that have the tag, the tagger's probability.

Columns, for missing and for wrong tags: AP average precision; ECE expected calibration error from 0.1
on; and of what is said with 0.8 or more, the share right and how many, for series, for the rest and on pictures
that truly show two series.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import PROJECT  # noqa: F401  which puts the project on the path
from scipy import sparse
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from benchmarks import belief_judges
from benchmarks.belief_judges import Judge
from benchmarks.tag_libraries import Harder, Library
from tagcheck import script
from tagcheck.learning import Tagger, linear_probes
from tagcheck.tag_errors import Examined, Rules, evidence, suggestions
from tagcheck.tag_errors.evidence import FurtherTagger
from tagcheck.tag_errors.relations import learn_relations

LABELS = ("mnist", "cifar10", "20news", "imdb")
DRAWN = ("lookalikes", "regions", "digits")
HARDER = (
    Harder(),
    Harder(crossovers=0.05),
    Harder(crossovers=0.15),
    Harder(parents=True),
    Harder(part=True),
    Harder(0.05, True, True),
)
SURE, LIKELY, LOWEST = 0.8, 0.5, 0.1
STACK_CELLS = 200_000


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    every = [*DRAWN, "sample", "xray", "readers", "icons", "packages", *LABELS]
    script.add_option(parser, "--judges", "the libraries to judge on", list(DRAWN), choices=every)
    script.add_option(parser, "--seeds", "of drawn ones", [101], type=int, metavar="S")
    script.add_whole(parser, "--pictures", "drawn", 4000, low=40)
    parser.add_argument("--packages", type=Path, metavar="DIR", help="where the fetched packages and features lie")
    script.add_option(
        parser, "--planted", "of the sample library", Path("demo/planted.json"), type=Path, metavar="FILE"
    )
    script.add_option(parser, "--demo", "the sample library's data folder", Path("demo/data"), type=Path, metavar="DIR")
    script.add_switch(parser, "--without-peers", "ours alone")
    script.add_whole(parser, "--threads", "for matrix products (default: all)", metavar="T")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads):
        for judge in judges(args):
            print(f"\n{describe(judge)}\n{HEADER}")
            told: dict[str, np.ndarray] = {}
            for name, seconds, told[name] in methods(judge, args.without_peers):
                print(line(name, seconds, judge, told[name]), flush=True)
            print(line("held-out, alone", *one_by_one(judge)), flush=True)
            if judge.second is not None:
                print("\n".join(two_taggers(judge, told["tagcheck"], told["with the second"])), flush=True)
    return 0


def judges(args: argparse.Namespace) -> Iterator[Judge]:
    """The libraries asked for, one at a time."""
    for name in args.judges:
        if name in DRAWN:
            for seed in args.seeds:
                yield from (belief_judges.drawn(name, seed, harder, args.pictures) for harder in HARDER)
        elif name in LABELS:
            yield belief_judges.labels(args.packages, name)
        elif name == "packages":
            yield belief_judges.packages()
        elif name == "sample":
            yield belief_judges.sample(args.planted, args.demo)
        else:
            make = {"xray": belief_judges.xray, "readers": belief_judges.vinbig, "icons": belief_judges.icons}[name]
            yield make(args.packages)


def describe(judge: Judge) -> str:
    wrong = (judge.truth != judge.given) & judge.judged
    missing, incorrect = (wrong & ~judge.given).sum(), (wrong & judge.given).sum()
    return (
        f"{judge.name}: {len(judge.truth):,} pictures, {len(judge.tags):,} tags, {judge.given.sum(axis=1).mean():.1f} a "
        f"picture; {missing:,} missing, {incorrect:,} wrong; {int(judge.crossing.sum()):,} pictures of two series"
    )


def methods(judge: Judge, alone: bool) -> Iterator[tuple[str, float, np.ndarray]]:
    """(name, seconds of processor, how likely each cell is wrong (n, T)) of ours and, if not `alone`, of the peers."""
    start = time.process_time()
    said, seen = ours(judge)
    yield "tagcheck", time.process_time() - start, said
    if judge.second is not None:
        start = time.process_time()
        said_by_both, _ = ours(judge, second=True)
        yield "with the second", time.process_time() - start, said_by_both
    if alone:
        return
    groups = seen.around.labels
    if groups.max() < suggestions.FOLDS:  # in two columns everything lies near everything
        groups = np.arange(len(groups))
    folds = linear_probes.grouped_folds(groups, suggestions.FOLDS, 0)
    for c in (1.0, 0.01):
        start = time.process_time()
        said = against(judge, logistic(judge.matrix, judge.given, folds, c))
        yield f"cleanlab, C = {c:g}", time.process_time() - start, said
    start = time.process_time()
    said = against(judge, boosted(judge, folds))
    yield "boosted stack", time.process_time() - start, said
    yield "neighbours' votes", 0.0, against(judge, votes(seen.around, judge.given))
    if judge.head is not None:
        yield "tagger alone", 0.0, against(judge, tagger_alone(judge))


def one_by_one(judge: Judge) -> tuple[float, Judge, np.ndarray]:
    """What `suggest.py` says of pictures that come after the detectors have run: (seconds, the judge of these, how likely each cell is
    wrong), of a quarter of the pictures, by the model that is learned from the rest.
    """
    start, late = time.process_time(), np.random.default_rng(0).random(len(judge.given)) < 0.25
    early = replace(judge, matrix=judge.matrix[~late], given=judge.given[~late], second=None)
    columns, (_, seen) = usable(early), ours(early)
    said = np.zeros(judge.given.shape)
    for row in np.flatnonzero(late):
        said[row, columns] = seen.single.errors(judge.matrix[row], judge.given[row, columns])
    return time.process_time() - start, replace(judge, judged=judge.judged & late[:, None]), said


def usable(judge: Judge | Library) -> np.ndarray:
    """The columns with enough uses to be learned."""
    return np.flatnonzero(judge.given.sum(axis=0) >= suggestions.FEWEST_USES)


def tagger(judge: Judge | Library, columns: np.ndarray) -> Tagger | None:
    """The tagger's last layer for the `columns` that it knows."""
    if judge.head is None:
        return None
    known, weight, bias = judge.head
    new = {int(column): slot for slot, column in enumerate(columns)}
    kept = np.array([column in new for column in known.tolist()])
    return Tagger(np.array([new[column] for column in known[kept].tolist()]), weight[kept], bias[kept])


def two_taggers(judge: Judge, alone: np.ndarray, both: np.ndarray) -> Iterator[str]:
    """What each network alone says is more likely wrong than not, where they agree and where not: how many of these cells are
    wrong in truth, and how likely `both` together make it; `alone` is what the first says.
    """
    assert judge.second is not None
    other = replace(judge, matrix=judge.second, head=None, second=None)
    first, second = alone >= LIKELY, ours(other)[0] >= LIKELY
    wrong = judge.truth != judge.given
    for kind, possible in (("missing", ~judge.given & judge.judged), ("wrong", judge.given & judge.judged)):
        for who, cells in (
            ("both", first & second),
            ("first alone", first & ~second),
            ("second alone", second & ~first),
        ):
            if (cells & possible).any():
                right, believed = wrong[cells & possible].mean(), both[cells & possible].mean()
                yield f"  {kind:7} by {who:12} {right:.2f} of {(cells & possible).sum():,} right, believed {believed:.2f}"


def ours(judge: Judge, second: bool = False) -> tuple[np.ndarray, Examined]:
    """Our probability that each cell is wrong, (n, T), and all that was found; with the judge's `second` network as a further tagger."""
    columns = usable(judge)
    given = sparse.csr_matrix(judge.given[:, columns].astype(np.float32))
    seen = suggestions.examine(
        judge.matrix,
        given,
        [judge.tags[c] for c in columns],
        tagger(judge, columns),
        Rules(namespaces=judge.namespaces),
        further=[FurtherTagger("second", judge.second, np.ones(len(judge.second), bool))] if second else [],
    )
    out = np.zeros(judge.given.shape)
    out[seen.cells.row, columns[seen.cells.column]] = seen.verdict.error
    return out, seen


def against(judge: Judge | Library, expected: np.ndarray) -> np.ndarray:
    """How likely each cell is wrong from how likely each tag is: 1 - the self-confidence of what stands there."""
    return np.where(judge.given, 1 - expected, expected)


def logistic(matrix: np.ndarray, given: np.ndarray, folds: np.ndarray, c: float) -> np.ndarray:
    """Out-of-fold probabilities (n, T) of one logistic regression a tag on standardised embeddings, all tags at once.

    The sum of the losses is minimised for all tags together (L-BFGS), which is the same as one by one.
    """
    x = torch.from_numpy(((matrix - matrix.mean(axis=0)) / (matrix.std(axis=0) + 1e-9)).astype(np.float32))
    y = torch.from_numpy(given.astype(np.float32))
    out = np.zeros(given.shape)
    for fold in range(folds.max() + 1):
        train, test = torch.from_numpy(folds != fold), torch.from_numpy(folds == fold)
        weight = torch.zeros(x.shape[1] + 1, y.shape[1], requires_grad=True)
        here, wanted = x[train], y[train]
        share = wanted.mean(dim=0).clamp(1e-4, 1 - 1e-4)
        with torch.no_grad():
            weight[-1] = torch.logit(share)
        solver = torch.optim.LBFGS([weight], max_iter=200, history_size=10, line_search_fn="strong_wolfe")

        def loss(weight=weight, here=here, wanted=wanted, solver=solver) -> torch.Tensor:
            solver.zero_grad()
            score = here @ weight[:-1] + weight[-1]
            total = torch.nn.functional.binary_cross_entropy_with_logits(score, wanted, reduction="sum")
            total = (total + weight[:-1].square().sum() / (2 * c)) / len(here)
            total.backward()
            return total

        solver.step(loss)
        with torch.no_grad():
            out[folds == fold] = torch.sigmoid(x[test] @ weight[:-1] + weight[-1]).numpy()
    return out


def boosted(judge: Judge, folds: np.ndarray) -> np.ndarray:
    """Out-of-fold probabilities (n, T) by gradient boosting of our evidence against what is written."""
    columns = usable(judge)
    given = sparse.csr_matrix(judge.given[:, columns].astype(np.float32))
    around = evidence.surroundings(judge.matrix)
    related = learn_relations(given, [judge.tags[column] for column in columns])
    found = evidence.gather(judge.matrix, given, around, folds, related, tagger(judge, columns))
    rng = np.random.default_rng(0)
    made = found.block(slice(0, len(judge.given)))
    features = np.stack([made[name] for name in evidence.NAMES], axis=2)
    written, half = judge.given[:, columns], folds % 2
    out = np.zeros(judge.given.shape)
    for part in (0, 1):
        row, column = np.nonzero((half != part)[:, None] & (written | (rng.random(written.shape) < 0.1)))
        picked = rng.permutation(len(row))[:STACK_CELLS]
        row, column = row[picked], column[picked]
        y = written[row, column]
        weight = np.where(y, 1.0, 10.0)
        model = HistGradientBoostingClassifier(max_iter=150, random_state=0).fit(features[row, column], y, weight)
        here = np.flatnonzero(half == part)
        for start in range(0, len(here), 256):
            rows = here[start : start + 256]
            flat = features[rows].reshape(-1, features.shape[2])
            out[np.ix_(rows, columns)] = model.predict_proba(flat)[:, 1].reshape(len(rows), -1)
    return out


def votes(around: evidence.Surroundings, given: np.ndarray) -> np.ndarray:
    """The share (n, T) of the nearest pictures that have each tag."""
    out = np.zeros(given.shape)
    for start in range(0, len(given), 256):
        out[start : start + 256] = given[around.indices[start : start + 256]].mean(axis=1)
    return out


def tagger_alone(judge: Judge) -> np.ndarray:
    """The tagger's probability (n, T), and what is written where it does not know the tag."""
    columns, weight, bias = judge.head
    out = judge.given.astype(np.float64)
    out[:, columns] = expit((judge.matrix @ weight.T + bias).astype(np.float64))
    return out


HEADER = f"  {'':18} {'seconds':>7} " + "  ".join(
    f"{kind + ' AP':>10} {'ECE':>4} {'series':>10} {'the rest':>11} {'crossing':>10}" for kind in ("missing", "wrong")
)


def line(name: str, seconds: float, judge: Judge, said: np.ndarray) -> str:
    """One method's row of the table."""
    parts = []
    for possible in (~judge.given, judge.given):
        possible = possible & judge.judged
        possible[:, np.setdiff1d(np.arange(len(judge.tags)), usable(judge))] = False
        row, column = np.nonzero(possible)
        sure, right = said[row, column], (judge.truth != judge.given)[row, column]
        series = judge.series[column]
        kinds = [series, ~series, series & judge.crossing[row]]
        cells = [share(sure[kind], right[kind]) for kind in kinds]
        ap, error = float("nan"), float("nan")
        if len(sure):
            ap = linear_probes.average_precision(sure, right)
            error = linear_probes.expected_calibration_error(sure, right, low=LOWEST)
        parts.append(f"{ap:10.3f} {error:4.2f} {cells[0]:>10} {cells[1]:>11} {cells[2]:>10}")
    return f"  {name:18} {seconds:7.1f} " + "  ".join(parts)


def share(sure: np.ndarray, right: np.ndarray) -> str:
    """`.97 of 120`: the share right of what is said with `SURE` or more."""
    said = sure >= SURE
    return f"{right[said].mean():.2f} of {int(said.sum())}" if said.any() else "-"


if __name__ == "__main__":
    script.run(main)
