"""A finding: what is likely wrong, on which pictures, what would fix it, how sure, and an id that stays.

The same finding has the same id in every run, so that what the owner decided about it holds.
"""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

MISSING = "missing"
INCORRECT = "incorrect"
KINDS = (MISSING, INCORRECT)
# In the evidence: what the detector alone said, where earlier decisions moved the confidence.
BEFORE_VERDICTS = "before_verdicts"


def finding_id(kind: str, hashes: Iterable[str], tags: Iterable[str]) -> str:
    """16 hex digits: the start of sha256 over the kind, the sorted hashes and the sorted tags, one a line.

    >>> finding_id("missing_tags", ["b", "a"], ["x"]) == finding_id("missing_tags", ["a", "b"], ["x"])
    True
    """
    text = "\n".join([kind, *sorted(hashes), "", *sorted(tags)])
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def whole(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with what follows from its other keys and is left out: its `id`; the confidence of the first of its `tags`; the tag and the
    kind of each, where these are all of its missing or all of its incorrect ones in their order.

    >>> whole({"missing_tags": ["hat"], "confidence": 0.5, "tags": [{"why": "So."}]})
    {'missing_tags': ['hat'], 'confidence': 0.5, 'tags': [{'tag': 'hat', 'kind': 'missing', 'confidence': 0.5, 'why': 'So.'}]}
    """
    made, rows = dict(entry), entry.get("tags")
    if "id" not in entry and (id := own_id(entry)):
        made["id"] = id
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        mine: list[dict[str, Any]] = [
            {"tag": tag, "kind": kind} for kind in KINDS for tag in entry.get(f"{kind}_tags") or ()
        ]
        if len(mine) != len(rows) or any("tag" in row for row in rows):
            mine = [{} for _ in rows]
        if "confidence" in entry:
            mine[0]["confidence"] = entry["confidence"]
        made["tags"] = [own | row for own, row in zip(mine, rows)]
    return made


def tags_of(entry: dict[str, Any]) -> list[str]:
    """The tags of an entry of `error`: its missing ones, then its incorrect ones."""
    return [tag for kind in KINDS for tag in entry.get(f"{kind}_tags") or ()]


def own_id(entry: dict[str, Any]) -> str | None:
    """The id of an entry of `error`, from its other keys; None of what is no such entry."""
    lists = [(kind, entry.get(f"{kind}_tags") or []) for kind in KINDS]
    hash, issue = entry.get("hash"), entry.get("issue")
    if not (isinstance(hash, str) and isinstance(issue, str) and all(isinstance(one, list) for _, one in lists)):
        return None
    with suppress(UnicodeEncodeError):
        return finding_id(issue, [hash], [f"{kind}:{tag}" for kind, tags in lists for tag in tags])
    return None


@dataclass(frozen=True)
class TagFinding:
    """One tag of one picture: `kind` "missing" (should be there) or "incorrect" (should not).

    `confidence` 0 to 1, the probability that the suggestion is right. `evidence` numbers by name;
    `why` one sentence for the owner, never empty.
    """

    tag: str
    kind: str
    confidence: float
    evidence: dict[str, Any] = field(default_factory=dict)
    why: str = ""


def error(hash: str, issue: str, found: Iterable[TagFinding]) -> dict[str, Any]:
    """One entry of the mistagged report's `errors`: the tags of one picture under one issue, the surest first."""
    rows = sorted(found, key=lambda one: (-one.confidence, one.tag))
    id = finding_id(issue, [hash], [f"{one.kind}:{one.tag}" for one in rows])
    entry: dict[str, Any] = {"id": id, "hash": hash, "issue": issue}
    for key, kind in (("missing_tags", MISSING), ("incorrect_tags", INCORRECT)):
        if tags := [one.tag for one in rows if one.kind == kind]:
            entry[key] = tags
    entry["confidence"] = round(max(one.confidence for one in rows), 4)
    entry["tags"] = []
    for one in rows:
        row = {"tag": one.tag, "kind": one.kind, "confidence": round(one.confidence, 4)}
        entry["tags"].append({**row, "evidence": one.evidence, "why": one.why})
    return entry
