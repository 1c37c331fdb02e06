"""The table of detectors. A new one is a script at the top level and a row here.

`run_error_detection.py` runs the rows in this order, the review store reads their reports, and the page offers
their kinds of findings as filters.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagcheck import files
from tagcheck.data_folder import Kind
from tagcheck.errors import UsageError

TAGS, PAIRS, SERIES = "tags", "pairs", "series"  # how a report's records are laid out: docs/formats.md


@dataclass(frozen=True)
class Detector:
    """One detector.

    `key` names it in addresses of the page, `name` in the summary of a run, `title` on the page. `report` is the
    file it writes and `report.made_by` its script. `reader` says which reader of `tagcheck.review.report_rows` takes
    its records. `issues` are the kinds of its findings, each with the page's words for it. `counts` are the keys of
    the report's summary that add up to the number of findings, `options` those options of `run_error_detection.py`
    that it takes too.
    """

    key: str
    name: str
    title: str
    report: Kind
    reader: str
    issues: dict[str, str]
    counts: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def script(self) -> str:
        return self.report.made_by

    def findings(self, summary: dict[str, Any]) -> int:
        """How many findings a report's summary counts."""
        return sum(count for name in self.counts if isinstance(count := summary.get(name), int))


def _report(name: str, script: str, *records: str, plain: Mapping[str, tuple[str, ...]] | None = None) -> Kind:
    """A report in `reports/` whose files' names start with its own; `records` are its lists of one record a line."""
    return Kind(name, "reports", name, script, records, plain=tuple((plain or {}).items()))


# The lists of a report of tags, with what anybody finds in their entries where the report is large, too.
PLAIN = {"near_pictures": (), "errors": ("hash", "issue", "missing_tags", "incorrect_tags", "confidence")}
PREDICTIONS = ("missing_predictions", "incorrect_predictions")
DETECTORS: list[Detector] = [
    Detector(
        key="mistagged",
        name="mistagged images",
        title="Tag errors",
        report=_report("mistagged_images_report", "find_mistagged_images.py", *PLAIN, plain=PLAIN),
        reader=TAGS,
        issues={
            "missing_tags": "Missing tags",
            "incorrect_tags": "Wrong tags",
            "inconsistent_tags": "Similar pictures disagree",
            "contradictory_tags": "Contradicting tags",
        },
        counts=("errors_found",),
        options=("min_confidence", "max_embeddings", "memory"),
    ),
    Detector(
        key="near_duplicates",
        name="near-duplicates",
        title="Near-duplicates",
        report=_report("near_duplicates_report", "find_near_duplicates.py", "similar_pairs", "groups", "group_details"),
        reader=PAIRS,
        issues={"near_duplicate": "Near-duplicates", "pixel_duplicate": "Same pixels"},
        counts=("total_pairs_found",),
        options=("threshold", "engine", "max_embeddings", "memory"),
    ),
    Detector(
        key="series",
        name="series validation",
        title="Series",
        report=_report("series_validation_report", "validate_series_predictions.py", "per_series", *PREDICTIONS),
        reader=SERIES,
        issues={"missing_series": "Missing series", "incorrect_series": "Wrong series"},
        counts=tuple(f"{name}_count" for name in PREDICTIONS),
        options=("max_embeddings", "memory"),
    ),
]
MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION = (one.report for one in DETECTORS)


def own_report(script: str | Path) -> Kind:
    """The report of a detector that stands beside the table: `find_red_hats.py` writes `red_hats_report_<UTC>.json`."""
    return _report(f"{_own_name(script)}_report", str(script), "errors")


def _own_name(script: str | Path) -> str:
    return Path(script).stem.removeprefix("find_")


def register(scripts: Iterable[str], project: Path) -> None:
    """Put the owner's own scripts into the table, once each; a path that is not absolute is meant from `project`.

    Such a script takes `--data-dir` and `--dataset`, and writes `own_report` with `errors` as the mistagged report has them,
    each with its name as the issue, and `errors_found` in the summary. Raises `UsageError` naming the file.
    """
    for given in scripts:
        path = project / files.named(str(given), "OWN_DETECTORS")
        name = _own_name(path)
        if not path.is_file():
            raise UsageError(f"OWN_DETECTORS names {given}: there is no such file; correct it in config.py")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            raise UsageError(f"OWN_DETECTORS names {given}: a detector's file name has letters, digits and _ alone")
        if any(project / one.script == path for one in DETECTORS):
            continue
        if other := next((one.script for one in DETECTORS if one.key == name), None):
            raise UsageError(f"OWN_DETECTORS names {given}: {other} has this name already; give the file another one")
        words, report = name.replace("_", " "), _report(f"{name}_report", str(path), "errors")
        title = words.capitalize()
        DETECTORS.append(Detector(name, words, title, report, TAGS, {name: title}, ("errors_found",)))


def of(report: Kind) -> Detector | None:
    """The detector that writes this kind of file; None where none does."""
    return next((one for one in DETECTORS if one.report == report), None)


def issues(*readers: str) -> tuple[str, ...]:
    """Every kind of finding, in the table's order; with `readers` those of their detectors only."""
    return tuple(issue for one in DETECTORS if not readers or one.reader in readers for issue in one.issues)


def issue_words() -> dict[str, str]:
    """Every kind of finding with the page's words for it."""
    return {issue: words for one in DETECTORS for issue, words in one.issues.items()}
