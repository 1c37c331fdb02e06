"""One record of a report as the rows of the review store that come of it."""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagcheck import detectors
from tagcheck.data_folder import Kind
from tagcheck.dataset import HASH
from tagcheck.detectors import PAIRS, SERIES, TAGS
from tagcheck.errors import BadFile
from tagcheck.findings import INCORRECT, MISSING, finding_id
from tagcheck.json_files import is_text
from tagcheck.review.exporting import percent
from tagcheck.review.store import ADD, PAIR, REMOVE

ACTIONS = {MISSING: ADD, INCORRECT: REMOVE}
NO_REASON = "The report gives no reason."
LONGEST_TAG, LONGEST_WHY = 1_000, 10_000  # characters
ID = re.compile(r"[\w.-]{1,100}", re.ASCII)


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

    @property
    def differs(self) -> bool:
        """Whether tags are in question: always, but for a pair whose tags agree."""
        apart = [self.rows[0].evidence.get(key) for key in ("only_in_1", "only_in_2")]
        return len(self.rows) > 1 or not self.other or apart == [None, None] or any(apart)


def _tags(path: Path, name: str, place: int, record: Any, issues: Collection[str]) -> Found:
    """A picture and its tags that are likely missing or wrong."""
    where = f"{path}: record {place} of {name!r}"
    hash = _hash(where, record, "hash")
    issue = record.get("issue")
    if not isinstance(issue, str) or issue not in issues:
        raise BadFile(f"{where} has issue {ascii(issue)[:60]}; known are {', '.join(issues)}")
    sure = _confidence(where, record)
    rows = []
    for row in _list(where, record, "tags") or _bare_tags(where, record):
        if not isinstance(row, dict) or not _is_tag(row.get("tag")) or _kind(row) not in ACTIONS:
            raise BadFile(f"{where}: an entry of 'tags' has no tag, or a kind other than missing and incorrect")
        rows.append(_suggested(where, row, hash, sure))
    if not rows:
        raise BadFile(f"{where} has no tags")
    id = _id(where, record) or finding_id(issue, [hash], [f"{row.action}:{row.tag}" for row in rows])
    return Found(id, issue, hash, sure, tuple(rows))


def _suggested(where: str, row: dict[str, Any], hash: str, sure: float = 0.0) -> Suggested:
    """The row of a tag; `sure` is its confidence where it has none of its own."""
    said = _confidence(where, row, sure), _why(where, row, NO_REASON), _evidence(row)
    return Suggested(hash, row["tag"], ACTIONS[row["kind"]], *said)


def _bare_tags(where: str, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The tags of an entry that gives only their names."""
    return [
        {"tag": tag, "kind": kind}
        for key, kind in (("missing_tags", MISSING), ("incorrect_tags", INCORRECT))
        for tag in _list(where, record, key)
    ]


def _pair(path: Path, name: str, place: int, record: Any, issues: Collection[str]) -> Found | None:
    """Two pictures, and the tags that one of them could take from the other or lose."""
    if name != "similar_pairs":
        return None
    where = f"{path}: record {place} of {name!r}"
    first, second = sorted((_hash(where, record, "hash1"), _hash(where, record, "hash2")))
    relation = record.get("relation", "near_duplicate")
    if not isinstance(relation, str) or relation not in issues:
        raise BadFile(f"{where} has relation {ascii(relation)[:60]}; known are {', '.join(issues)}")
    similarity = _confidence(where, record, key="similarity")
    why = (
        "Both files hold exactly the same pixels."
        if relation == "pixel_duplicate"
        else f"The pictures are {percent(similarity)} alike."
    )
    rows = [Suggested(first, relation, PAIR, similarity, _why(where, record, why), _of_each(record, first), second)]
    for row in _list(where, record, "suggestions"):
        if (
            not isinstance(row, dict)
            or row.get("hash") not in (first, second)
            or not _is_tag(row.get("tag"))
            or _kind(row) not in ACTIONS
        ):
            raise BadFile(
                f"{where}: an entry of 'suggestions' has no tag, no hash of the pair, or a kind other than missing and incorrect"
            )
        rows.append(_suggested(where, row, row["hash"]))
    id = _id(where, record) or finding_id(relation, [first, second], [])
    return Found(id, relation, first, similarity, tuple(rows), second)


def _of_each(record: dict[str, Any], first: str) -> dict[str, Any]:
    """What the report says of the one and of the other picture of a pair (`_1` is the first by hash): the tags that only it has,
    and those that the owner has said no to. Empty where the report does not say.
    """
    analysis = record.get("analysis")
    apart = analysis.get("all_tags_diff") if isinstance(analysis, dict) else None
    sides = ("1", "2") if record["hash1"] == first else ("2", "1")
    made: dict[str, Any] = {}
    for prefix, name, given in (("only_in", "only_in", apart), ("refused_in", "in", record.get("refused_tags"))):
        for place, side in zip(("1", "2"), sides):
            if isinstance(given, dict) and isinstance(tags := given.get(f"{name}_{side}"), list):
                made[f"{prefix}_{place}"] = [tag for tag in tags if _is_tag(tag)]
    return made


def _series(path: Path, name: str, place: int, record: Any, issues: Collection[str]) -> Found | None:
    """A series that a picture is tagged with and that the classifier does not see ("missing"), or the reverse."""
    if name == "per_series":
        return None
    where = f"{path}: record {place} of {name!r}"
    hash = _hash(where, record, "hash")
    tag = record.get("series")
    if not _is_tag(tag):
        raise BadFile(f"{where} has no series")
    action = record.get("action", REMOVE if name == "missing_predictions" else ADD)
    if action not in (ADD, REMOVE):
        raise BadFile(f"{where} has action {ascii(action)[:60]}; known are {ADD}, {REMOVE}")
    sure = _confidence(where, record)
    issue, say = ("missing_series", "The series classifier sees it in the picture, and it is not among its tags.")
    if action == REMOVE:
        issue, say = ("incorrect_series", "The series classifier does not see it in the picture.")
    evidence = _evidence(record, ("id", "hash", "series", "confidence", "why", "action"))
    rows = (Suggested(hash, tag, action, sure, _why(where, record, say), evidence),)
    return Found(_id(where, record) or finding_id(issue, [hash], [tag]), issue, hash, sure, rows)


READERS: dict[str, Callable[[Path, str, int, Any, Collection[str]], Found | None]] = {
    TAGS: _tags,
    PAIRS: _pair,
    SERIES: _series,
}


def reader(kind: Kind) -> Callable[[Path, str, int, Any], Found | None] | None:
    """What makes a finding of (path, list, place in the file, record); None where the file is no detector's report."""
    detector = detectors.of(kind)
    if detector is None:
        return None
    read, issues = READERS[detector.reader], tuple(detector.issues)
    return lambda path, name, place, record: read(path, name, place, record, issues)


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


def _is_tag(value: Any) -> bool:
    return is_text(value) and 0 < len(value) <= LONGEST_TAG


def _kind(row: dict[str, Any]) -> str:
    """The kind of a suggestion, "" where it is no text."""
    kind = row.get("kind")
    return kind if isinstance(kind, str) else ""


def _list(where: str, record: dict[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    if value is not None and not isinstance(value, list):
        raise BadFile(f"{where}: {key!r} is not a list")
    return value or []


def _why(where: str, record: dict[str, Any], otherwise: str) -> str:
    value = record.get("why")
    if value is not None and not (is_text(value) and len(value) <= LONGEST_WHY):
        raise BadFile(f"{where}: 'why' is not a sentence")
    return value or otherwise


def _id(where: str, record: dict[str, Any]) -> str:
    """The finding's own id, "" where it has none."""
    value = record.get("id")
    if value is not None and not (isinstance(value, str) and ID.fullmatch(value)):
        raise BadFile(f"{where}: 'id' is not a word of letters, digits, '-', '_' and '.'")
    return value or ""


def _evidence(record: dict[str, Any], leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A row's evidence, with what else the detector wrote beside it."""
    evidence = record.get("evidence")
    kept = record.keys() - {*leave_out, "evidence"} if leave_out else ()
    beside = {key: value for key, value in record.items() if key in kept}
    return beside | (evidence if isinstance(evidence, dict) else {})


def plain_text(value: Any) -> str:
    """JSON to keep in a table. Half of a surrogate pair, as in file names that are not UTF-8, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
