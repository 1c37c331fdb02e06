"""Judge the belief in tags on libraries whose truth is known, beside cleanlab, a boosted stack, votes and the tagger alone.

    python benchmarks/belief.py
    python benchmarks/belief.py --judges lookalikes digits --seeds 101 102 --without-peers
    python benchmarks/belief.py --judges sample --planted demo/planted.json --demo demo/data
    python benchmarks/belief.py --judges xray readers icons packages --packages DIR
    python benchmarks/belief.py --judges sample digits --parts 60 200 600 --without-peers
    python benchmarks/belief.py --judges sample packages --decided 100 --without-peers

Reads   with --judges sample what `make demo` left; with what is neither drawn nor packages the folder of --packages
        (benchmarks/belief_judges.py says how to fill it); the rest is drawn
Writes  figures on stdout, and with --cache what took long, so that a change of the error model is judged in minutes

Every drawn family is judged plain, with 5 and with 15 % of pictures of two series, with parents applied, and with
a sub-series. The peers see the same folds: cleanlab's self-confidence (the probability of what is written;
`against`) under logistic regression on standardised embeddings (C = 1 and C = 0.01), gradient boosting of our own
evidence against what is written, the share of the nearest pictures that have the tag, the tagger's probability.

Columns, for missing and for wrong tags: AP average precision; ECE expected calibration error from 0.1
on; and of what is said with 0.8 or more, the share right and how many, for series, for the rest and on pictures
that truly show two series.
"""

import argparse
import hashlib
import inspect
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from common import PROJECT  # noqa: F401  which puts the project on the path
from scipy import sparse
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from benchmarks import belief_judges
from benchmarks.belief_decided import evening
from benchmarks.belief_judges import Judge
from benchmarks.tag_libraries import Harder, Library
from sample.train_network import fit_head
from tagcheck import script
from tagcheck.files import write_atomically
from tagcheck.learning import Tagger, linear_probes
from tagcheck.similar import nearest
from tagcheck.tag_errors import Rules, context, error_model, evidence, relations, suggestions
from tagcheck.tag_errors.evidence import Evidence, FurtherTagger
from tagcheck.tag_errors.suggestions import Asked, Gathered

DRAWN = ("lookalikes", "regions", "digits")
READ = {"xray": belief_judges.xray, "readers": belief_judges.vinbig, "icons": belief_judges.icons}
HARDER = (
    Harder(),
    Harder(crossovers=0.05),
    Harder(crossovers=0.15),
    Harder(parents=True),
    Harder(part=True),
    Harder(0.05, True, True),
)
SURE, LOWEST = 0.8, 0.1
EVIDENCE: list[Any] = [evidence, context, relations, linear_probes, nearest, error_model.collect, suggestions.gather]
T = TypeVar("T")
STACK_CELLS = 200_000
PARTS = 5  # of a library, with --parts


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    cache, table = Cache(args.cache), [SUMMARY]
    with threadpool_limits(args.threads):
        for judge, parts in (one for whole in judges(args) for one in divided(whole, args.parts)):
            print(f"\n{describe(judge)}\n{HEADER}")
            told: dict[str, np.ndarray] = {}
            for name, seconds, told[name] in of_all(parts, args.without_peers, cache):
                print(line(name, seconds, judge, told[name]), flush=True)
            for cards in args.decided if parts == [judge] else ():
                for name, left, said in evening(
                    judge, lambda judge, before: gathered(judge, cache, before=before), cards
                ):
                    print(line(name, 0.0, left, said), flush=True)
            table.append(summary(judge, told))
    print("\n" + "\n".join(table))
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.plain_parser(__doc__)
    every = [*DRAWN, "sample", "packages", *READ]
    script.add_option(parser, "--judges", "the libraries to judge on", list(DRAWN), choices=every)
    script.add_option(parser, "--seeds", "of drawn ones and of packages", [101], type=int, metavar="S")
    script.add_whole(parser, "--forms", "of each drawn family, from the plain one on", len(HARDER))
    script.add_whole(parser, "--pictures", "drawn, and packages at most", 4000, low=40)
    parts = f"judge each library in {PARTS} parts of N pictures by chance, as small libraries are"
    parser.add_argument("--parts", type=int, nargs="+", default=[], metavar="N", help=parts)
    decided = "judge what is left after the first N cards were decided truthfully, and applied; of whole libraries"
    parser.add_argument("--decided", type=int, nargs="+", default=[], metavar="N", help=decided)
    parser.add_argument("--packages", type=Path, metavar="DIR", help="where the fetched packages and features lie")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep evidence and peers' words here, and use what is kept"
    )
    script.add_option(
        parser, "--planted", "of the sample library", Path("demo/planted.json"), type=Path, metavar="FILE"
    )
    script.add_option(parser, "--demo", "the sample library's data folder", Path("demo/data"), type=Path, metavar="DIR")
    script.add_switch(parser, "--without-peers", "ours alone")
    script.add_whole(parser, "--threads", "for matrix products (default: all)", metavar="T")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Cache:
    """What is worked out once and kept in a `folder` (None: nothing is kept), as long as the library and the code of the evidence are the same."""

    folder: Path | None

    def __call__(self, name: str, judge: Judge, make: Callable[[], T]) -> T:
        """What `make` returns, or returned before."""
        if self.folder is None:
            return make()
        rests_on = hashlib.sha256(judge.name.encode())
        for array in (judge.matrix, judge.given):
            rests_on.update(np.ascontiguousarray(array))
        rests_on.update("".join(inspect.getsource(one) for one in EVIDENCE).encode())
        path = self.folder / f"{name}-{rests_on.hexdigest()[:16]}.pickle"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            made = make()
            write_atomically(path, lambda out: pickle.dump(made, out, protocol=5))
        return cast("T", pickle.loads(path.read_bytes()))


def judges(args: argparse.Namespace) -> Iterator[Judge]:
    """The libraries asked for, one at a time."""
    for name in args.judges:
        if name in DRAWN:
            for seed in args.seeds:
                yield from (belief_judges.drawn(name, seed, harder, args.pictures) for harder in HARDER[: args.forms])
        elif name == "packages":
            yield from (belief_judges.packages(seed, args.pictures) for seed in args.seeds)
        elif name == "sample":
            yield belief_judges.sample(args.planted, args.demo)
        else:
            yield READ[name](args.packages)


def divided(judge: Judge, sizes: list[int]) -> Iterator[tuple[Judge, list[Judge]]]:
    """(what is judged, the libraries that are weighed for it): the whole, or for each of `sizes` `PARTS` parts of so many pictures."""
    if not sizes:
        yield judge, [judge]
    for size in sizes:
        rows = [np.sort(np.random.default_rng(part).permutation(len(judge.given))[:size]) for part in range(PARTS)]
        parts = [judge.some(mine) for mine in rows]
        seen = np.concatenate([np.isin(np.arange(len(judge.tags)), usable(part)) & part.judged for part in parts])
        name = f"{judge.name}, {PARTS} of {size}"
        yield replace(judge.some(np.concatenate(rows)), name=name, judged=seen), parts


def describe(judge: Judge) -> str:
    wrong = (judge.truth != judge.given) & judge.judged
    missing, incorrect = (wrong & ~judge.given).sum(), (wrong & judge.given).sum()
    return (
        f"{judge.name}: {len(judge.truth):,} pictures, {len(judge.tags):,} tags, {judge.given.sum(axis=1).mean():.1f} a "
        f"picture; {missing:,} missing, {incorrect:,} wrong; {int(judge.crossing.sum()):,} pictures of two series"
    )


def of_all(parts: list[Judge], alone: bool, cache: Cache) -> Iterator[tuple[str, float, np.ndarray]]:
    """As `methods`, of all parts of a library together."""
    for told in zip(*(methods(part, alone, cache) for part in parts)):
        names, seconds, said = zip(*told)
        yield names[0], sum(seconds), np.concatenate(said)


def methods(judge: Judge, alone: bool, cache: Cache) -> Iterator[tuple[str, float, np.ndarray]]:
    """(name, seconds of processor, how likely each cell is wrong (n, T)) of ours and, if not `alone`, of the peers; what is kept takes no time."""
    start = time.process_time()
    said, seen = ours(judge, cache)
    yield "tagcheck", time.process_time() - start, said
    if judge.second is not None:
        start = time.process_time()
        said_by_both, _ = ours(judge, cache, second=True)
        yield "with the second", time.process_time() - start, said_by_both
    if alone:
        return
    around, folds = seen.found.around, seen.folds
    if around.labels.max() < suggestions.FOLDS:  # in two columns everything lies near everything
        folds = linear_probes.grouped_folds(np.arange(len(folds)), suggestions.FOLDS, 0)
    peers: dict[str, Callable[[], np.ndarray]] = {
        "cleanlab, C = 1": lambda: logistic(judge.matrix, judge.given, folds, 1.0),
        "cleanlab, C = 0.01": lambda: logistic(judge.matrix, judge.given, folds, 0.01),
        "boosted stack": lambda: boosted(judge, seen.found, folds),
        "neighbours' votes": lambda: votes(around, judge.given),
    }
    if judge.head is not None:
        peers["tagger alone"] = lambda: tagger_alone(judge)
    for name, make in peers.items():
        start = time.process_time()
        said = cache(name.replace(" ", "_"), judge, lambda make=make: make().astype(np.float32))
        yield name, time.process_time() - start, against(judge, said)


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


def ours(judge: Judge, cache: Cache, second: bool = False) -> tuple[np.ndarray, Gathered]:
    """Our probability that each cell is wrong, (n, T), and all that was found; with the judge's `second` network as a further tagger."""
    columns, seen = gathered(judge, cache, second)
    out = np.zeros(judge.given.shape)
    out[seen.cells.row, columns[seen.cells.column]] = seen.believe()[0].error
    return out, seen


def gathered(
    judge: Judge, cache: Cache, second: bool = False, before: np.ndarray | None = None
) -> tuple[np.ndarray, Gathered]:
    """The columns that can be learned, and the evidence, perhaps with the judge's `second` network beside; `before` (n, T) bool are the tags
    before decisions were applied.
    """
    columns = usable(judge)
    further = [FurtherTagger("second", judge.second, np.ones(len(judge.given), bool))] if second else []
    given, written = (
        None if one is None else sparse.csr_matrix(one[:, columns].astype(np.float32)) for one in (judge.given, before)
    )
    head, names = tagger(judge, columns), [judge.tags[c] for c in columns]
    asked = Asked(judge.matrix, given, names, head, written, further=further)
    name = "evidence-of-two" if second else "evidence" if before is None else "evidence-applied"
    return columns, cache(name, judge, lambda: suggestions.gather(asked, Rules()))


def against(judge: Judge | Library, expected: np.ndarray) -> np.ndarray:
    """How likely each cell is wrong from how likely each tag is: 1 - the self-confidence of what stands there."""
    return np.where(judge.given, 1 - expected, expected)


def logistic(matrix: np.ndarray, given: np.ndarray, folds: np.ndarray, c: float) -> np.ndarray:
    """Out-of-fold probabilities (n, T) of one logistic regression a tag on standardised embeddings, all tags at once."""
    x, y, out = torch.from_numpy(matrix), torch.from_numpy(given), np.zeros(given.shape)
    for fold in range(folds.max() + 1):
        train = torch.from_numpy(folds != fold)
        weight, bias = fit_head(x[train], y[train], 1 / (2 * c * int(train.sum())), rounds=200)
        out[folds == fold] = torch.sigmoid(x[~train] @ weight.T + bias).numpy()
    return out


def boosted(judge: Judge, found: Evidence, folds: np.ndarray) -> np.ndarray:
    """Out-of-fold probabilities (n, T) by gradient boosting of our evidence against what is written."""
    columns = usable(judge)
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


SUMMARY = """\
| library | AP missing | AP wrong | ECE | missing from .8 | wrong from .8 | wrong, two series |
|---|---|---|---|---|---|---|"""
HEADER = f"  {'':18} {'seconds':>7} " + "  ".join(
    f"{kind + ' AP':>10} {'ECE':>4} {'series':>10} {'the rest':>11} {'crossing':>10}" for kind in ("missing", "wrong")
)


@dataclass(frozen=True)
class Figures:
    """How good a method is at one kind of error: average precision, expected calibration error, and what it says for sure."""

    ap: float
    ece: float
    sure: str
    by_kind: list[str]


def figures(judge: Judge, said: np.ndarray) -> list[Figures]:
    """Of missing and of wrong tags."""
    made = []
    for possible in (~judge.given, judge.given):
        possible = possible & judge.judged
        possible[:, np.setdiff1d(np.arange(len(judge.tags)), usable(judge))] = False
        row, column = np.nonzero(possible)
        sure, right = said[row, column], (judge.truth != judge.given)[row, column]
        series = judge.series[column]
        kinds = [share(sure[kind], right[kind]) for kind in (series, ~series, series & judge.crossing[row])]
        if len(sure):
            ap = linear_probes.average_precision(sure, right)
            error = linear_probes.expected_calibration_error(sure, right, low=LOWEST)
            made.append(Figures(ap, error, share(sure, right), kinds))
        else:
            made.append(Figures(float("nan"), float("nan"), "-", kinds))
    return made


def line(name: str, seconds: float, judge: Judge, said: np.ndarray) -> str:
    """One method's row of the table."""
    parts = (
        f"{one.ap:10.3f} {one.ece:4.2f} {one.by_kind[0]:>10} {one.by_kind[1]:>11} {one.by_kind[2]:>10}"
        for one in figures(judge, said)
    )
    return f"  {name:18} {seconds:7.1f} " + "  ".join(parts)


def summary(judge: Judge, told: dict[str, np.ndarray]) -> str:
    """One library's row of the last table: ours, with the best peer in brackets."""
    (missing, wrong), peers = (
        figures(judge, told["tagcheck"]),
        [n for n in told if n not in ("tagcheck", "with the second")],
    )
    others = [figures(judge, told[name]) for name in peers]
    cells = [judge.name]
    for place, mine in enumerate((missing, wrong)):
        best = max((one[place].ap, name) for one, name in zip(others, peers)) if peers else None
        cells.append(f"{mine.ap:.3f}" + (f" ({best[0]:.3f}, {best[1]})" if best else ""))
    cells += [f"{missing.ece:.2f}, {wrong.ece:.2f}", missing.sure, wrong.sure, wrong.by_kind[2]]
    return f"| {' | '.join(cells)} |"


def share(sure: np.ndarray, right: np.ndarray) -> str:
    """`.97 of 120`: the share right of what is said with `SURE` or more."""
    said = sure >= SURE
    return f"{right[said].mean():.2f} of {int(said.sum())}" if said.any() else "-"


if __name__ == "__main__":
    script.run(main)
