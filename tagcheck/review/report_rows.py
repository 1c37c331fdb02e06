"""One record of a report as the rows of the review store that come of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tagcheck import detectors
from tagcheck.data_folder import Kind
from tagcheck.dataset import HASH
from tagcheck.detectors import PAIRS, SERIES, TAGS
from tagcheck.errors import BadFile
from tagcheck.findings import INCORRECT, MISSING, finding_id
from tagcheck.review.store import ADD, PAIR, REMOVE

ACTIONS = {MISSING: ADD, INCORRECT: REMOVE}
NO_REASON = "The report gives no reason."


@dataclass(frozen=True)
class Suggested:
    """One row to be: a tag of a finding, or the pair itself."""

    hash: str
    tag: str
    action: str
    confidence: float
    why: str
    evidence: dict[str, Any]
    other: str = ""


@dataclass(frozen=True)
class Found:
    """One finding of a report: what `findings` and `suggestions` keep of it."""

    id: str
    issue: str
    hash: str
    confidence: float
    rows: tuple[Suggested, ...]
    other: str = ""
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether tags are in question: always, but for a pair whose tags agree."""
        analysis = self.body.get("analysis")
        difference = analysis.get("all_tags_diff") if isinstance(analysis, dict) else None
        return len(self.rows) > 1 or not self.other or not isinstance(difference, dict) or any(difference.values())


def _tags(path: Path, name: str, place: int, record: Any, issues: Collection[str]) -> Found:
    """A picture and its tags that are likely missing or wrong."""
    where = f"{path}: record {place} of {name!r}"
    hash = _hash(where, record, "hash")
    issue = record.get("issue")
    if issue not in issues:
        raise BadFile(f"{where} has issue {issue!r}; known are {', '.join(issues)}")
    sure = _confidence(where, record)
    rows = []
    for row in record.get("tags") or _bare_tags(record):
        if not isinstance(row, dict) or not isinstance(row.get("tag"), str) or row.get("kind") not in ACTIONS:
            raise BadFile(f"{where}: an entry of 'tags' has no tag, or a kind other than missing and incorrect")
        rows.append(
            Suggested(
                hash,
                row["tag"],
                ACTIONS[row["kind"]],
                _confidence(where, row, sure),
                row.get("why") or NO_REASON,
                _evidence(row),
            )
        )
    if not rows:
        raise BadFile(f"{where} names no tags")
    id = record.get("id") or finding_id(issue, [hash], [f"{row.action}:{row.tag}" for row in rows])
    return Found(str(id), issue, hash, sure, tuple(rows))


def _bare_tags(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The tags of an entry that gives only their names."""
    return [
        {"tag": tag, "kind": kind}
        for key, kind in (("missing_tags", MISSING), ("incorrect_tags", INCORRECT))
        for tag in record.get(key) or []
    ]


def _pair(path: Path, name: str, place: int, record: Any, issues: Collection[str]) -> Found | None:
    """Two pictures, and the tags that one of them could take from the other or lose."""
    if name != "similar_pairs":
        return None
    where = f"{path}: record {place} of {name!r}"
    first, second = sorted((_hash(where, record, "hash1"), _hash(where, record, "hash2")))
    relation = record.get("relation", "near_duplicate")
    if relation not in issues:
        raise BadFile(f"{where} has relation {relation!r}; known are {', '.join(issues)}")
    similarity = _confidence(where, record, key="similarity")
    why = (
        "Both files hold exactly the same pixels."
        if relation == "pixel_duplicate"
        else f"The pictures are alike (cosine {similarity:.3f})."
    )
    rows = [Suggested(first, relation, PAIR, similarity, record.get("why") or why, {}, second)]
    for row in record.get("suggestions") or ():
        if (
            not isinstance(row, dict)
            or row.get("hash") not in (first, second)
            or not isinstance(row.get("tag"), str)
            or row.get("kind") not in ACTIONS
        ):
            raise BadFile(
                f"{where}: an entry of 'suggestions' has no tag, no hash of the pair, or a kind other than missing and incorrect"
            )
        rows.append(
            Suggested(
                row["hash"],
                row["tag"],
                ACTIONS[row["kind"]],
                _confidence(where, row),
                row.get("why") or NO_REASON,
                _evidence(row),
            )
        )
    id = record.get("id") or finding_id(relation, [first, second], [])
    return Found(
        str(id),
        relation,
        first,
        similarity,
        tuple(rows),
        second,
        {key: record[key] for key in ("analysis", "refused_tags") if key in record},
    )


def _series(path: Path, name: str, place: int, record: Any, issues: Collection[str]) -> Found | None:
    """A missing prediction is a series that the picture is tagged with and the classifier does not see; an incorrect one the
    reverse.
    """
    if name == "per_series":
        return None
    where = f"{path}: record {place} of {name!r}"
    hash = _hash(where, record, "hash")
    tag = record.get("series")
    if not isinstance(tag, str) or not tag:
        raise BadFile(f"{where} has no series")
    action = record.get("action", REMOVE if name == "missing_predictions" else ADD)
    if action not in (ADD, REMOVE):
        raise BadFile(f"{where} has action {action!r}; known are {ADD}, {REMOVE}")
    sure = _confidence(where, record)
    issue, say = ("missing_series", "The series classifier sees it in the picture, and it is not among its tags.")
    if action == REMOVE:
        issue, say = ("incorrect_series", "The series classifier does not see it in the picture.")
    evidence = _evidence(record, ("id", "hash", "series", "confidence", "why", "action"))
    rows = (Suggested(hash, tag, action, sure, record.get("why") or say, evidence),)
    return Found(str(record.get("id") or finding_id(issue, [hash], [tag])), issue, hash, sure, rows)


READERS: dict[str, Callable[[Path, str, int, Any, Collection[str]], Found | None]] = {
    TAGS: _tags,
    PAIRS: _pair,
    SERIES: _series,
}


def reader(kind: Kind) -> Callable[[Path, str, int, Any], Found | None] | None:
    """What makes a finding of (path, list, place in the file, record); None where the file is no detector's report."""
    detector = detectors.of(kind)
    return None if detector is None else partial(READERS[detector.reader], issues=tuple(detector.issues))


def _hash(where: str, record: Any, key: str) -> str:
    hash = record.get(key) if isinstance(record, dict) else None
    if not isinstance(hash, str) or not HASH.fullmatch(hash):
        raise BadFile(f"{where} has no {key} of 64 lower-case hex digits")
    return hash


def _confidence(where: str, record: dict[str, Any], default: float = 0.0, key: str = "confidence") -> float:
    value = record.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadFile(f"{where}: {key} is not a number")
    return min(max(float(value), 0.0), 1.0)


def _evidence(record: dict[str, Any], leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A row's evidence, with what else the detector wrote beside it."""
    evidence = record.get("evidence")
    beside = (
        {key: value for key, value in record.items() if key not in leave_out and key != "evidence"} if leave_out else {}
    )
    return beside | (evidence if isinstance(evidence, dict) else {})


def plain_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
