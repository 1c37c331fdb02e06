"""Rank and weigh tag errors in libraries whose true tags are known, beside cleanlab on the same folds.

    python benchmarks/tag_errors.py
    python benchmarks/tag_errors.py --families digits --seeds 101 102 --without-peers
    python benchmarks/tag_errors.py --scale 20000 600 --threads 1

Reads   nothing: libraries are drawn from --seeds (benchmarks/tag_libraries.py)
Writes  nothing: figures on stdout

The peer is cleanlab's self-confidence of every tag's labels (the probability of what is written) under
out-of-fold logistic regression on the standardised embeddings, at scikit-learn's default C = 1 and at
C = 0.01, each in the same folds as ours. All run one after another on the same library. Seeds from 100 on were never looked at while the method was made.

Columns: AP average precision of the ranking; ECE expected calibration error from confidence 0.1 on;
P.8 and R.8 the share right of what is said with 0.8 or more, and the share of all errors that it is;
swap the share of swapped series among the first as many suggestions as there are errors; contra the same for
contradictions, twins for errors that most near-duplicates have right.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from common import alone, memory, spent
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.belief import against, logistic, tagger, usable
from benchmarks.tag_libraries import FAMILIES, Library, duplicate_disagreements, lookalikes
from tagcheck import script
from tagcheck.findings import INCORRECT, MISSING
from tagcheck.learning import linear_probes
from tagcheck.tag_errors import suggestions

KINDS = (MISSING, INCORRECT)
COLUMNS = {"AP": 5, "ECE": 5, "P.8": 5, "R.8": 5, "swap": 5, "contra": 6, "twins": 5}  # and how wide each is printed
TRUSTED = 0.8


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    script.add_option(parser, "--families", "of libraries", list(FAMILIES), choices=sorted(FAMILIES))
    script.add_option(parser, "--seeds", "of the libraries", [101], type=int, metavar="S")
    script.add_whole(parser, "--pictures", "in a library", 4000, low=40)
    script.add_switch(parser, "--without-tagger", "leave the tagger's last layer out")
    script.add_switch(parser, "--without-peers", "leave cleanlab's self-confidence out")
    penalties = "inverse penalties of the peer's regression"
    script.add_option(parser, "--peer-c", penalties, [0.01, 1.0], type=float, metavar="C")
    script.add_whole(parser, "--threads", "for matrix products (default: all)", metavar="T")
    scale_help = "instead, time one library of N pictures and TAGS tags"
    script.add_whole(parser, "--scale", scale_help, low=40, nargs=2, metavar=("N", "TAGS"))
    args = parser.parse_args(argv)
    with threadpool_limits(args.threads):
        if args.scale:
            return scale(*args.scale, args.threads)
        for family in args.families:
            for seed in args.seeds:
                compare(family, seed, args)
    return 0


def compare(family: str, seed: int, args: argparse.Namespace) -> None:
    """Print the table of one library."""
    library = FAMILIES[family](seed, n=args.pictures)
    if args.without_tagger:
        library.head = None
    n, tags = library.truth.shape
    counts = ", ".join(f"{int(library.errors(kind).sum()):,} {kind}" for kind in KINDS)
    print(
        f"\n{family}, seed {seed}: {n:,} pictures, {tags} tags, {library.truth.sum(axis=1).mean():.1f} a picture; {counts}"
    )
    print(f"  {'':22} {'seconds':>7}   {'kind':9} " + " ".join(f"{name:>{width}}" for name, width in COLUMNS.items()))
    start = time.process_time()
    ours, seen = confidence(library)
    show("tagcheck", time.process_time() - start, library, ours)
    learned(library, seen)
    if not args.without_peers:
        folds = linear_probes.grouped_folds(seen.around.labels, suggestions.FOLDS, 0)
        for c in args.peer_c:
            start = time.process_time()
            peers = against(library, logistic(library.matrix, library.given, folds, c))
            show(f"cleanlab, C = {c:g}", time.process_time() - start, library, peers, ours)


def confidence(library: Library) -> tuple[np.ndarray, suggestions.Examined]:
    """Our confidence that each cell is wrong, (n, T), 0 where nothing is suggested."""
    given, enough = sparse.csr_matrix(library.given.astype(np.float32)), usable(library)
    place = {library.tags[column]: int(column) for column in enough}
    seen = suggestions.examine(library.matrix, given[:, enough].tocsr(), list(place), tagger(library, enough))
    sets = [frozenset(library.tags[column] for column in row.indices) for row in given]
    out = np.zeros(library.truth.shape)
    for one in suggestions.suggestions(seen, sets):
        out[one.row, place.get(one.tag, library.tags.index(one.tag))] = one.confidence
    return out, seen


def show(name: str, seconds: float, library: Library, wrong: np.ndarray, ours: np.ndarray | None = None) -> None:
    """One line for each kind of error; with `ours`, how many times better our ranking is."""
    for kind in KINDS:
        row = figures(library, wrong, kind)
        ratio = ""
        if ours is not None:
            ratio = f"   ours is {figures(library, ours, kind)['AP'] / row['AP']:.2f} times as good"
        numbers = " ".join(f"{row[key]:{width}.2f}" for key, width in COLUMNS.items())
        who = f"{name:22} {seconds:7.1f}" if kind == MISSING else " " * 30
        print(f"  {who}   {kind:9} {numbers}{ratio}", flush=True)


def figures(library: Library, wrong: np.ndarray, kind: str) -> dict[str, float]:
    """What the module's text calls columns, for one kind of error; nan where there is nothing to measure."""
    possible = ~library.given if kind == MISSING else library.given
    truth, said = library.errors(kind)[possible], wrong[possible]
    total = int(truth.sum())
    sure = said >= TRUSTED
    budget = np.zeros(library.given.shape, dtype=bool)
    rows, columns = np.nonzero(possible)
    first = np.argsort(-said, kind="stable")[:total]
    budget[rows[first], columns[first]] = True
    twins = duplicate_disagreements(library)
    twins = twins[possible[twins[:, 0], twins[:, 1]]]
    contradictions = library.planted.get("contradiction") if kind == INCORRECT else None
    planted: dict[str, Any] = {"swap": library.planted.get(f"swap_{kind}"), "contra": contradictions, "twins": twins}
    found = {
        name: float(budget[cells[:, 0], cells[:, 1]].mean()) if cells is not None and len(cells) else float("nan")
        for name, cells in planted.items()
    }
    return {
        "AP": linear_probes.average_precision(said, truth),
        "ECE": linear_probes.expected_calibration_error(said, truth, low=0.1),
        "P.8": float(truth[sure].mean()) if sure.any() else float("nan"),
        "R.8": float(truth[sure].sum() / total),
        **found,
    }


def learned(library: Library, seen: suggestions.Examined) -> None:
    """One line on the learned exclusions: of the sure ones, how many never meet in truth."""
    column = {tag: place for place, tag in enumerate(library.tags)}
    pairs = [pair for pair in seen.exclusions if pair.confidence >= TRUSTED]
    apart = [
        not (library.truth[:, column[seen.tags[pair.one]]] & library.truth[:, column[seen.tags[pair.other]]]).any()
        for pair in pairs
    ]
    share = f"{100 * np.mean(apart):.0f} % of them never meet in truth" if apart else "none"
    print(f"  learned exclusions at {TRUSTED:g}: {len(pairs)}, {share}")


def scale(n: int, tags: int, threads: int | None) -> int:
    """Time one big library, alone. It is drawn in a process of its own, so that the memory told is what finding takes."""
    matrix, given, names = alone(draw_big, n, tags)
    sets = [frozenset(names[column] for column in row.indices) for row in given]
    with spent() as took:
        seen = suggestions.examine(matrix, given, names)
        found = suggestions.suggestions(seen, sets, lowest=0.5)
    print(
        f"{n:,} pictures, {len(names):,} tags, {threads or 'all'} threads: {took.clock:.0f} s, "
        f"{took.processor:.0f} s of processor, {memory() / 2**30:.1f} GiB at most, {len(found):,} suggestions from 0.5 on"
    )
    return 0


def draw_big(n: int, tags: int) -> tuple[np.ndarray, sparse.csr_matrix, list[str]]:
    """(embeddings, tags as written, names) of a library of the family `lookalikes`, tags of too few uses left out."""
    library = lookalikes(0, n=n, general=max(tags - 87, 1), head=False)
    enough = usable(library)
    given = sparse.csr_matrix(library.given[:, enough].astype(np.float32))
    return library.matrix, given, [library.tags[column] for column in enough]


if __name__ == "__main__":
    script.run(main)
