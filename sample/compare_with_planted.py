"""Hold the newest reports against the errors that were planted in a sample library: what was found, how much of it is right.

    python sample/compare_with_planted.py --planted demo/planted.json --data-dir demo/data
    python sample/compare_with_planted.py --planted demo/planted.json

Reads planted.json as sample/draw_library.py writes it, the newest dataset and the newest reports; writes nothing. To add a
tag is right where it is true and not written, to take it away where it is written and not true. An error is found when
one of its suggestions is reported; what the owner has fixed since counts no more.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script has only its own folder on the path

from tagcheck import data_folder, dataset, json_files, script
from tagcheck.data_folder import Kind
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES, PREDICTIONS, SERIES_VALIDATION
from tagcheck.errors import BadFile, MissingInput
from tagcheck.json_files import list_of, map_of, one_of, record, string
from tagcheck.review import report_rows
from tagcheck.review.store import ADD, REMOVE

SURE = 0.8  # "surely": what an owner would accept many at a time
LIKELY = 0.5  # the series report lists all; from here on a listed one counts as reported
PRECISION = ("suggestions", "right", "precision", f"from {SURE}", "right", "precision")
TEXTS = list_of(string)
PLANTED = record(
    {
        "kind": one_of("planted_errors"),
        "version": one_of(1),
        "truth": map_of(TEXTS),
        "planted": list_of(record({"hash": string, "kind": string, "missing": TEXTS, "incorrect": TEXTS})),
        **dict.fromkeys(("near_duplicates", "alike"), list_of(TEXTS)),
    }
)

Suggestion = tuple[str, str, str]  # hash, tag, ADD or REMOVE
Report = dict[str, Any]


class Said(NamedTuple):
    suggestion: Suggestion
    confidence: float
    issue: str


@dataclass(frozen=True)
class Library:
    """`truth` and `written` tags by hash; each planted error's kind and the suggestions that would fix it now; the pairs."""

    truth: dict[str, frozenset[str]]
    written: dict[str, frozenset[str]]
    errors: list[tuple[str, frozenset[Suggestion]]]
    pairs: frozenset[tuple[str, ...]]
    alike: frozenset[tuple[str, ...]]

    def is_right(self, one: Said) -> bool:
        """Whether carrying it out brings the picture nearer to the truth."""
        hash, tag, action = one.suggestion
        if hash not in self.truth or hash not in self.written:
            return False
        return (tag in self.truth[hash]) == (action == ADD) == (tag not in self.written[hash])

    def precision(self, name: str, found: Sequence[Said]) -> list[str]:
        """A row: how many of the suggestions are right, and of the sure ones."""
        row = [name]
        for some in (found, [one for one in found if one.confidence >= SURE]):
            right = sum(map(self.is_right, some))
            row += [str(len(some)), str(right), share(right, len(some))]
        return row


def main(argv: list[str] | None = None) -> int:
    made = script.parser(__doc__)
    planted = "the planted.json beside the sample library"
    made.add_argument("--planted", metavar="FILE", type=script.place, required=True, help=planted)
    args = made.parse_args(argv)
    folder = script.data_folder(args)
    if not args.planted.exists():
        raise MissingInput(f"no file {args.planted}: sample/draw_library.py writes it beside the library")
    answers = json_files.read(args.planted, PLANTED, "sample/draw_library.py writes one", data_folder.LARGEST_WHOLE)
    library = held_against(answers, {record.hash: record.tags for record in dataset.load(folder).records})
    known = sum(hash in library.truth for hash in library.written)
    if not known:
        count = len(library.written)
        raise BadFile(
            f"none of the {count} pictures in {folder.root} is in {args.planted}: they are of different libraries"
        )
    kinds = (MISTAGGED, SERIES_VALIDATION, NEAR_DUPLICATES)
    paths = [folder.newest(kind) for kind in kinds]
    reports = [data_folder.load(path, kind) if path else None for path, kind in zip(paths, kinds)]
    mistagged, series, _ = reports
    left = sum(bool(wanted) for _, wanted in library.errors)
    print(f"{known} pictures, {left} of {len(library.errors)} planted errors still in them")
    tables = (partial(tag_tables, series=series), series_table, pair_table)
    for title, kind, report, lines in zip(("TAG ERRORS", "SERIES", "NEAR-DUPLICATES"), kinds, reports, tables):
        missing = f"no report: {kind.made_by} has not been run on this data folder"
        print(f"\n{title}" + ("\n".join(lines(library, report)) if report else f": {missing}"))
    if mistagged is not None:
        found = suggestions(mistagged, MISTAGGED, "errors")
        caught = sum(not wanted.isdisjoint(one.suggestion for one in found) for _, wanted in library.errors)
        right = sum(map(library.is_right, found))
        print(f"\n{caught} of {left} planted errors found, {right} of {len(found)} suggested tags right")
    return 0


def held_against(answers: dict[str, Any], written: dict[str, frozenset[str]]) -> Library:
    """The planted errors as they stand today: what the owner has fixed since changes nothing any more."""
    errors = []
    for one in answers["planted"]:
        now = written.get(one["hash"])
        fixes = [(tag, ADD) for tag in one["missing"]] + [(tag, REMOVE) for tag in one["incorrect"]]
        left = [fix for fix in fixes if now is not None and (fix[0] in now) == (fix[1] == REMOVE)]
        errors.append((one["kind"], frozenset((one["hash"], *fix) for fix in left)))
    truth = {hash: frozenset(tags) for hash, tags in answers["truth"].items()}
    pairs = [frozenset(tuple(sorted(pair[:2])) for pair in answers[name]) for name in ("near_duplicates", "alike")]
    return Library(truth, written, errors, *pairs)


def suggestions(report: Report, kind: Kind, *lists: str) -> list[Said]:
    """Each suggestion in some lists of a report once with its highest confidence and that entry's issue, the surest first."""
    read = report_rows.reader(kind)
    best: dict[Suggestion, tuple[float, str]] = {}
    for found in (read(name, one) for name in lists for one in report[name]):
        for row in found.rows:
            key = (row.hash, row.tag, row.action)
            best[key] = max(best.get(key, (0.0, "")), (row.confidence, found.issue))
    return sorted((Said(key, *value) for key, value in best.items()), key=lambda one: (-one.confidence, one.suggestion))


def tag_tables(library: Library, mistagged: Report, series: Report | None) -> list[str]:
    """Recall by planted kind, then precision by reported issue."""
    found = suggestions(mistagged, MISTAGGED, "errors")
    total = sum(len(left) for _, left in library.errors)
    reported = {one.suggestion for one in found}
    told = suggestions(series, SERIES_VALIDATION, *PREDICTIONS) if series else []
    likely = {one.suggestion for one in told if one.confidence >= LIKELY}
    among = (reported, {one.suggestion for one in found[:total]}, reported | likely)
    rows = [
        recall_row(kind or "all", [left for name, left in library.errors if left and kind in ("", name)], among)
        for kind in (*dict.fromkeys(name for name, _ in library.errors), "")
    ]
    least = mistagged.get("settings", {}).get("min_confidence")
    head = f"kind|errors|found|recall|tags|found|recall|first {total}|recall|with series|recall"
    report = f"the mistagged report of {mistagged['created']} (confidence from {least})"
    where = f"in {report}, in its first {total} suggestions, or there or in the series report"
    lines = [f": planted, and found {where}", *table(head.split("|"), rows), "", "and of what that report says"]
    issues = sorted({one.issue for one in found})
    rows = [library.precision(issue, [one for one in found if one.issue == issue]) for issue in issues]
    by_action = {action: [one for one in found if one.suggestion[2] == action] for action in (ADD, REMOVE)}
    rows += [library.precision(f"to {action}", some) for action, some in by_action.items()]
    return lines + table(("issue", *PRECISION), [*rows, library.precision("all", found)])


def recall_row(kind: str, errors: list[frozenset[Suggestion]], among: tuple[set[Suggestion], ...]) -> list[str]:
    """One row of the recall table: errors of which something is reported, and tags that are in each of `among`."""
    tags = frozenset().union(*errors)
    caught = sum(bool(wanted & among[0]) for wanted in errors)
    row = [kind, str(len(errors)), str(caught), share(caught, len(errors)), str(len(tags))]
    for one in among:
        row += [str(len(tags & one)), share(len(tags & one), len(tags))]
    return row


def series_table(library: Library, report: Report) -> list[str]:
    """The series report: its accuracy against the tags as written, and how many of its suggestions are right."""
    summary = report["summary"]
    rows = [
        library.precision(name.replace("_", " "), suggestions(report, SERIES_VALIDATION, name)) for name in PREDICTIONS
    ]
    right, total = summary["correct_predictions"], summary["total_predictions"]
    agree = f"{right} of {total} predictions agree with the tags as written"
    abstained = f"({summary['accuracy']:.3f}), {summary.get('images_abstained', 0)} pictures abstained"
    what = "of the suggestions to take away (missing) and to add (incorrect)"
    return [f": {agree} {abstained}; {what}", *table(("", *PRECISION), rows)]


def pair_table(library: Library, report: Report) -> list[str]:
    """The near-duplicates report: planted pairs found, and what else it reports."""
    pairs = {tuple(sorted((pair["hash1"], pair["hash2"]))) for pair in report["similar_pairs"]}
    right, whole, said = len(pairs & library.pairs), len(library.pairs), len(pairs)
    cells = [whole, right, share(right, whole), said, share(right, said), len(pairs & library.alike)]
    head = ("planted", "found", "recall", "reported", "precision", "reported that are only alike")
    title = f" at a cosine of {report['summary']['similarity_threshold']}"
    alike = "(alike: the same characters in the same pose in another place)"
    return [f"{title} {alike}", *table(head, [map(str, cells)])]


def share(part: int, whole: int) -> str:
    """`part` of `whole` to two digits, "-" of nothing.

    >>> share(1, 3), share(0, 0)
    ('0.33', '-')
    """
    return f"{part / whole:.2f}" if whole else "-"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines with columns of one width, the first to the left and numbers to the right."""
    cells = [list(head), *map(list, rows)]
    first, *widths = [max(map(len, column)) for column in zip(*cells)]
    return [
        "  ".join(["  " + row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], widths))])
        for row in cells
    ]


if __name__ == "__main__":
    script.run(main)
