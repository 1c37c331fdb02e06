"""Hold the newest reports against the errors that were planted in a sample library: what was found, how much of it is right.

    python sample/compare_with_planted.py --planted demo/planted.json --data-dir demo/data
    python sample/compare_with_planted.py --planted demo/planted.json

A suggestion is one tag of one picture to add or to take away. To add is right where the tag is true
and not written, to take away where it is written and not true. An error counts as found when one of
its suggestions is reported. What the owner has mended since is counted apart.

Reads:  planted.json as sample/draw_library.py writes it, the newest dataset and the newest reports
Writes: nothing
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A script's own folder is on the path, the project's is not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tagcheck import data_folder, dataset, script
from tagcheck.data_folder import DataFolder, Kind
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION
from tagcheck.errors import BadFile, MissingInput

ADD, REMOVE = "add", "remove"
SURE = 0.8  # "surely": what an owner would accept many at a time
LIKELY = 0.5  # the series report lists all; from here on a listed one counts as reported
NOT_THERE = "no report: {script} has not been run on this data folder"

Suggestion = tuple[str, str, str]  # hash, tag, ADD or REMOVE


@dataclass(frozen=True)
class Planted:
    """What was planted: `truth` by hash, the suggestions that mend each error with its kind, the near-duplicate pairs."""

    truth: Mapping[str, frozenset[str]]
    errors: list[tuple[str, frozenset[Suggestion]]]
    pairs: frozenset[tuple[str, str]]
    alike: frozenset[tuple[str, str]]


def main(argv: list[str] | None = None) -> int:
    """Print one table a report, and say which report there is none of."""
    made = script.parser(__doc__)
    planted = "the planted.json beside the sample library"
    made.add_argument("--planted", metavar="FILE", type=Path, required=True, help=planted)
    args = made.parse_args(argv)
    folder = script.data_folder(args)
    planted = load_planted(args.planted)
    written = {record.hash: record.tags for record in dataset.load(folder).records}
    known = sum(hash in planted.truth for hash in written)
    if not known:
        raise BadFile(
            f"none of the {len(written)} pictures in {folder.root} is in {args.planted}: they belong to different libraries"
        )
    standing = [(kind, still_standing(wanted, written)) for kind, wanted in planted.errors]
    mistagged, series, near = (newest(folder, kind) for kind in (MISTAGGED, SERIES_VALIDATION, NEAR_DUPLICATES))
    print(
        f"{known} pictures, {sum(bool(left) for _, left in standing)} of {len(planted.errors)} planted errors still in them\n"
    )
    tables = (
        tag_tables(planted, standing, written, mistagged, series),
        series_table(planted, written, series),
        pair_table(planted, near),
    )
    print("\n\n".join("\n".join(lines) for lines in tables))
    if mistagged is not None:
        print("\n" + summary(planted, standing, written, mistagged))
    return 0


def load_planted(path: Path) -> Planted:
    """Read planted.json. Raises `MissingInput` or `BadFile`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingInput(f"no file {path}: sample/draw_library.py writes it beside the library") from None
    except ValueError as error:
        raise BadFile(f"{path} is not whole JSON ({error}): remove it and draw the library again") from None
    if not isinstance(document, dict) or document.get("kind") != "planted_errors" or document.get("version") != 1:
        raise BadFile(f"{path} is not a list of planted errors of version 1")
    errors = []
    for one in document["planted"]:
        wanted = [(one["hash"], tag, ADD) for tag in one["missing"]] + [
            (one["hash"], tag, REMOVE) for tag in one["incorrect"]
        ]
        errors.append((one["kind"], frozenset(wanted)))
    return Planted(
        {hash: frozenset(tags) for hash, tags in document["truth"].items()},
        errors,
        frozenset(tuple(sorted(pair[:2])) for pair in document["near_duplicates"]),
        frozenset(tuple(sorted(pair)) for pair in document["alike"]),
    )


def newest(folder: DataFolder, kind: Kind) -> dict[str, Any] | None:
    """The newest report of a kind, or None where there is none."""
    path = folder.newest(kind)
    return data_folder.load(path, kind) if path else None


def still_standing(wanted: Iterable[Suggestion], written: Mapping[str, frozenset[str]]) -> frozenset[Suggestion]:
    """Those suggestions that still change something."""
    return frozenset(
        (hash, tag, action)
        for hash, tag, action in wanted
        if hash in written and (tag in written[hash]) == (action == REMOVE)
    )


def is_right(planted: Planted, written: Mapping[str, frozenset[str]], suggestion: Suggestion) -> bool:
    """Whether carrying it out brings the picture nearer to the truth."""
    hash, tag, action = suggestion
    if hash not in planted.truth or hash not in written:
        return False
    true, there = tag in planted.truth[hash], tag in written[hash]
    return (true and not there) if action == ADD else (there and not true)


def tag_suggestions(report: dict[str, Any]) -> list[tuple[Suggestion, float, str]]:
    """Each tag of the mistagged report once with its highest confidence and that entry's issue, the surest first."""
    best: dict[Suggestion, tuple[float, str]] = {}
    for entry in report["errors"]:
        for one in entry["tags"]:
            key = (entry["hash"], one["tag"], ADD if one["kind"] == "missing" else REMOVE)
            best[key] = max(best.get(key, (0.0, "")), (one["confidence"], entry["issue"]))
    return sorted(((key, *value) for key, value in best.items()), key=lambda one: (-one[1], one[0]))


def series_suggestions(report: dict[str, Any]) -> list[tuple[Suggestion, float, str]]:
    """Likewise of the series report: a tag that was not predicted may be wrong, a predicted one that is not there forgotten."""
    found = [
        ((entry["hash"], entry["series"], action), entry["confidence"], name)
        for name, action in (("missing_predictions", REMOVE), ("incorrect_predictions", ADD))
        for entry in report[name]
    ]
    return sorted(found, key=lambda one: (-one[1], one[0]))


def tag_tables(
    planted: Planted,
    standing: list[tuple[str, frozenset[Suggestion]]],
    written: Mapping[str, frozenset[str]],
    mistagged: dict[str, Any] | None,
    series: dict[str, Any] | None,
) -> list[str]:
    """Recall by planted kind, then precision by reported issue."""
    if mistagged is None:
        return ["TAG ERRORS: " + NOT_THERE.format(script=MISTAGGED.made_by)]
    found = tag_suggestions(mistagged)
    total = sum(len(left) for _, left in standing)
    reported, top = {one[0] for one in found}, {one[0] for one in found[:total]}
    by_series = {one[0] for one in series_suggestions(series) if one[1] >= LIKELY} if series else set()
    rows = [
        recall_row(kind, [left for name, left in standing if name == kind and left], reported, top, by_series)
        for kind in dict.fromkeys(name for name, _ in standing)
    ]
    rows.append(recall_row("all", [left for _, left in standing if left], reported, top, by_series))
    least = mistagged.get("settings", {}).get("min_confidence")
    lines = [
        f"TAG ERRORS: planted, and found in the mistagged report of {mistagged['created']} (confidence from {least}),"
        f" in its first {total} suggestions, or there or in the series report"
    ]
    head = f"kind|errors|found|recall|tags|found|recall|first {total}|recall|with series|recall"
    lines += table(head.split("|"), rows)
    lines += ["", "and of what that report says"]
    issues = sorted({issue for _, _, issue in found})
    rows = [precision_row(issue, [one for one in found if one[2] == issue], planted, written) for issue in issues]
    rows += [
        precision_row(f"to {action}", [one for one in found if one[0][2] == action], planted, written)
        for action in (ADD, REMOVE)
    ]
    rows.append(precision_row("all", found, planted, written))
    return lines + table(("issue", "suggestions", "right", "precision", f"from {SURE}", "right", "precision"), rows)


def summary(
    planted: Planted,
    standing: list[tuple[str, frozenset[Suggestion]]],
    written: Mapping[str, frozenset[str]],
    mistagged: dict[str, Any],
) -> str:
    """The mistagged report in one line."""
    found = [one[0] for one in tag_suggestions(mistagged)]
    left = [wanted for _, wanted in standing if wanted]
    caught = sum(not wanted.isdisjoint(found) for wanted in left)
    right = sum(is_right(planted, written, one) for one in found)
    return f"{caught} of {len(left)} planted errors found, {right} of {len(found)} suggested tags right"


def recall_row(
    kind: str,
    errors: list[frozenset[Suggestion]],
    reported: set[Suggestion],
    top: set[Suggestion],
    by_series: set[Suggestion],
) -> list[str]:
    """One row of the recall table."""
    tags = frozenset().union(*errors)
    caught = sum(bool(wanted & reported) for wanted in errors)
    listed, first, either = (len(tags & among) for among in (reported, top, reported | by_series))
    counts = ((caught, len(errors)), (listed, len(tags)), (first, len(tags)), (either, len(tags)))
    cells = [cell for part, whole in counts for cell in (str(part), share(part, whole))]
    return [kind, str(len(errors)), *cells[:2], str(len(tags)), *cells[2:]]


def precision_row(
    name: str, found: list[tuple[Suggestion, float, str]], planted: Planted, written: Mapping[str, frozenset[str]]
) -> list[str]:
    """One row of the precision table."""
    right = sum(is_right(planted, written, one[0]) for one in found)
    sure = [one for one in found if one[1] >= SURE]
    surely_right = sum(is_right(planted, written, one[0]) for one in sure)
    cells = [len(found), right, share(right, len(found)), len(sure), surely_right, share(surely_right, len(sure))]
    return [name, *map(str, cells)]


def series_table(planted: Planted, written: Mapping[str, frozenset[str]], report: dict[str, Any] | None) -> list[str]:
    """The series report: its accuracy against the tags as written, and how many of its suggestions are right."""
    if report is None:
        return ["SERIES: " + NOT_THERE.format(script=SERIES_VALIDATION.made_by)]
    summary = report["summary"]
    found = series_suggestions(report)
    rows = [
        precision_row(name.replace("_", " "), [one for one in found if one[2] == name], planted, written)
        for name in ("missing_predictions", "incorrect_predictions")
    ]
    return [
        f"SERIES: {summary['correct_predictions']} of {summary['total_predictions']} predictions agree with the tags as written"
        f" ({summary['accuracy']:.3f}), {summary.get('images_abstained', 0)} pictures abstained; of the suggestions to take away"
        " (missing) and to add (incorrect)",
        *table(("", "suggestions", "right", "precision", f"from {SURE}", "right", "precision"), rows),
    ]


def pair_table(planted: Planted, report: dict[str, Any] | None) -> list[str]:
    """The near-duplicates report: planted pairs found, and what else it reports."""
    if report is None:
        return ["NEAR-DUPLICATES: " + NOT_THERE.format(script=NEAR_DUPLICATES.made_by)]
    pairs = {tuple(sorted((pair["hash1"], pair["hash2"]))) for pair in report["similar_pairs"]}
    right = len(pairs & planted.pairs)
    whole, said = len(planted.pairs), len(pairs)
    cells = [whole, right, share(right, whole), said, share(right, said), len(pairs & planted.alike)]
    return [
        f"NEAR-DUPLICATES at a cosine of {report['summary']['similarity_threshold']}"
        " (alike: the same characters in the same pose in another place)",
        *table(
            ("planted", "found", "recall", "reported", "precision", "reported that are only alike"), [map(str, cells)]
        ),
    ]


def share(part: int, whole: int) -> str:
    """`part` of `whole` to two digits, "-" of nothing.

    >>> share(1, 3), share(0, 0)
    ('0.33', '-')
    """
    return f"{part / whole:.2f}" if whole else "-"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines with columns of one width, the first to the left and numbers to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths))
        )
        for row in cells
    ]


if __name__ == "__main__":
    script.run(main)
