"""One record of a report as the rows of the review store that come of it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from tagcheck import detectors, tags
from tagcheck.data_folder import Kind
from tagcheck.dataset import HASH
from tagcheck.detectors import PAIRS, SERIES, TAGS
from tagcheck.findings import INCORRECT, MISSING, finding_id
from tagcheck.json_files import Shape, Wrong, is_text, list_of, matching, number, one_of, record, text
from tagcheck.review.exporting import percent
from tagcheck.review.store import ADD, PAIR, REMOVE

ACTIONS = {MISSING: ADD, INCORRECT: REMOVE}
NO_REASON = "The report gives no reason."
LONGEST_TAG, LONGEST_WHY = 1_000, 10_000  # characters

hash_of_picture = matching(HASH.pattern, "a hash of 64 lower-case hex digits")
id_of_finding = matching(r"[A-Za-z0-9_.-]{1,100}", "a word of letters, digits, '-', '_' and '.'")
TAG = text(LONGEST_TAG, 1)
SAID = {"confidence": number(), "why": text(LONGEST_WHY), "id": id_of_finding}
ROW = record({"tag": TAG, "kind": one_of(*ACTIONS)}, SAID)
GROUP = record({"best_copy": hash_of_picture, "hashes": list_of(hash_of_picture)})
PICTURE = record(
    {"hash": hash_of_picture},
    SAID | {"tags": list_of(ROW), "missing_tags": list_of(TAG), "incorrect_tags": list_of(TAG)},
)
SIMILAR = record(
    {"hash1": hash_of_picture, "hash2": hash_of_picture}, SAID | {"similarity": number(), "suggestions": list_of(ROW)}
)
PREDICTION = record({"hash": hash_of_picture, "series": TAG}, SAID | {"action": one_of(ADD, REMOVE)})


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
    """One finding of a report: what `findings` and `suggestions` keep of it. A pair whose tags agree does not `differ`."""

    id: str
    issue: str
    rows: tuple[Suggested, ...]
    differs: bool = True


def _tags(name: str, record: dict[str, Any], issues: Collection[str]) -> Found:
    hash, issue, sure = record["hash"], str(record.get("issue")), _confidence(record)
    one_of(*issues)(record.get("issue"))
    kinds = (("missing_tags", MISSING), ("incorrect_tags", INCORRECT))
    bare = [{"tag": tag, "kind": kind} for key, kind in kinds for tag in record.get(key) or ()]
    rows = [_suggested(row, hash, sure) for row in record.get("tags") or bare]
    if not rows:
        raise Wrong("it has no tags")
    id = record.get("id") or finding_id(issue, [hash], [f"{row.action}:{row.tag}" for row in rows])
    return Found(id, issue, tuple(rows))


def _suggested(row: dict[str, Any], hash: str, sure: float = 0.0) -> Suggested:
    """The row of a tag; `sure` is its confidence where it has none of its own."""
    said = _confidence(row, sure), row.get("why") or NO_REASON, _evidence(row)
    return Suggested(hash, _tag(row["tag"]), ACTIONS[row["kind"]], *said)


def _tag(said: str) -> str:
    """A tag as libraries have it, which another program may write otherwise. Raises `Wrong` for blanks alone."""
    if not (tag := tags.clean(said)):
        raise Wrong(f"{said!r} is no tag")
    return tag


def _pair(name: str, record: dict[str, Any], issues: Collection[str]) -> Found:
    """Two pictures, and the tags that one of them could take from the other or lose."""
    first, second = sorted((record["hash1"], record["hash2"]))
    if first == second:
        raise Wrong("'hash2' is 'hash1'")
    relation = record.get("relation", "near_duplicate")
    one_of(*issues)(relation)
    similarity = _confidence(record, key="similarity")
    why = f"The pictures are {percent(similarity)} alike."
    if relation == "pixel_duplicate":
        why = "Both files hold exactly the same pixels."
    apart = _of_each(record, first)
    rows = [Suggested(first, relation, PAIR, similarity, record.get("why") or why, apart, second)]
    for row in record.get("suggestions") or ():
        one_of(first, second)(row.get("hash"))
        rows.append(_suggested(row, row["hash"]))
    only = [apart.get(key) for key in ("only_in_1", "only_in_2")]
    id = record.get("id") or finding_id(relation, [first, second], [])
    return Found(id, relation, tuple(rows), len(rows) > 1 or only == [None, None] or any(only))


def _of_each(record: dict[str, Any], first: str) -> dict[str, Any]:
    """The tags that only one picture of a pair has, and those that its owner refused there (`_1`: the first by hash)."""
    analysis = record.get("analysis")
    apart = analysis.get("all_tags_diff") if isinstance(analysis, dict) else None
    sides = ("1", "2") if record["hash1"] == first else ("2", "1")
    made: dict[str, Any] = {}
    for prefix, name, given in (("only_in", "only_in", apart), ("refused_in", "in", record.get("refused_tags"))):
        for place, side in zip(("1", "2"), sides):
            if isinstance(given, dict) and isinstance(found := given.get(f"{name}_{side}"), list):
                cleaned = map(tags.clean, filter(is_text, found))
                made[f"{prefix}_{place}"] = [tag for tag in cleaned if 0 < len(tag) <= LONGEST_TAG]
    return made


def _series(name: str, record: dict[str, Any], issues: Collection[str]) -> Found:
    """A series that a picture is tagged with and that the classifier does not see ("missing"), or the reverse."""
    hash, tag, sure = record["hash"], _tag(record["series"]), _confidence(record)
    action = record.get("action") or (REMOVE if name == "missing_predictions" else ADD)
    issue, say = ("missing_series", "The series classifier sees it in the picture, and it is not among its tags.")
    if action == REMOVE:
        issue, say = ("incorrect_series", "The series classifier does not see it in the picture.")
    evidence = _evidence(record, ("id", "hash", "series", "confidence", "why", "action"))
    rows = (Suggested(hash, tag, action, sure, record.get("why") or say, evidence),)
    return Found(record.get("id") or finding_id(issue, [hash], [tag]), issue, rows)


READERS: dict[str, tuple[Shape, Callable[[str, dict[str, Any], Collection[str]], Found]]] = {
    TAGS: (PICTURE, _tags),
    PAIRS: (SIMILAR, _pair),
    SERIES: (PREDICTION, _series),
}
NOT_FINDINGS = ("groups", "per_series")  # lists that count what the others say


def reader(kind: Kind) -> Callable[[str, Any], Found | None] | None:
    """What makes a finding of (list, record), or raises `Wrong`; None where the file is no detector's report."""
    detector = detectors.of(kind)
    if detector is None:
        return None
    shape, read = READERS[detector.reader]
    issues = tuple(detector.issues)

    def make(name: str, record: Any) -> Found | None:
        if name in NOT_FINDINGS:
            return None
        shape(record)
        return read(name, record, issues)

    return make


def _confidence(record: dict[str, Any], default: float = 0.0, key: str = "confidence") -> float:
    value = record.get(key)
    return min(max(float(default if value is None else value), 0.0), 1.0)


def _evidence(record: dict[str, Any], leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A row's evidence, with what else the detector wrote beside it."""
    evidence = record.get("evidence")
    beside = {key: value for key, value in record.items() if leave_out and key not in (*leave_out, "evidence")}
    return beside | (evidence if isinstance(evidence, dict) else {})
