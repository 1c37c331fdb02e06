"""A finding as the card shows it: its suggestions, the picture's tags with what would change, a pair's difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tagcheck import tags
from tagcheck.review import Ask, Filter, Key, Review
from tagcheck.review.queries import Finding, Suggestion, copy_group, others_on, picture, promise
from tagcheck.review.store import ADD, CHANGED, PAIR, REMOVE, Decision
from webapp import words

PAIR_CHOICES = {
    "left": "Copy left's tags to right",
    "right": "Copy right's tags to left",
    "both": "Copy both ways",
    "neither": "Copies, but leave their tags as they are",
}


@dataclass(frozen=True)
class Row:
    """One suggestion on a card. `value` is what its form sends, `ticked` whether the card's buttons act on it at first."""

    suggestion: Suggestion
    value: str
    number: int
    ticked: bool
    sureness: str
    facts: list[tuple[str, str]]
    pictures: list[tuple[str, list[str]]]
    then: str | None


@dataclass(frozen=True)
class Tag:
    """One tag of a picture: `mark` is "add" or "remove" where a suggestion would change it; `note` says what else is known of
    it.
    """

    name: str
    mark: str = ""
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """One tag that only one side of a pair has. `copy` and `remove` are what the row's forms send, `queues` what was decided.

    `by_key` is False for tags that belong to one copy (file names, sources): "copy all" leaves them out. `refused`: its
    owner has said no to it on the side that lacks it, so it is not to be copied there.
    """

    tag: str
    on_left: bool
    copy: str
    remove: str
    copy_queue: str
    remove_queue: str
    by_key: bool
    refused: bool


@dataclass(frozen=True)
class Picture:
    """One picture of a card: its hash, the dataset's record, its tags by namespace."""

    hash: str
    record: dict[str, Any]
    groups: list[tuple[str, list[Tag]]]

    @property
    def facts(self) -> str:
        """Size and kind in a line."""
        record = self.record
        pixels = f"{record['width']} × {record['height']}" if record.get("width") and record.get("height") else ""
        moving = "animated" if record.get("duration") else ""
        return ", ".join(
            filter(None, [pixels, moving, (record.get("mime") or "").partition("/")[2], words.size(record.get("size"))])
        )

    @property
    def is_video(self) -> bool:
        """Whether a browser plays it instead of drawing it."""
        return (self.record.get("mime") or "") in ("video/mp4", "video/webm")

    @property
    def alt(self) -> str:
        """What stands for the picture where it is not seen."""
        shown = [tag.name for _, group in self.groups for tag in group if tag.mark != ADD]
        return (
            f"Picture {self.hash[:8]}, tagged {', '.join(shown[:12])}"
            if shown
            else f"Picture {self.hash[:8]}, without tags"
        )


@dataclass(frozen=True)
class Card:
    """Everything that the card's template shows. `best` is the hash of the better copy of a pair ("" for none), and why."""

    finding: Finding
    pictures: list[Picture]
    rows: list[Row]
    differences: list[Difference]
    best: tuple[str, str]
    others: list[Any]

    @property
    def undecided(self) -> bool:
        """Whether anything here still waits in the view."""
        return any(row.ticked for row in self.rows)


def make(review: Review, view: Filter, finding: Finding, invisible: Sequence[str]) -> Card:
    """The card of one finding in a view. `invisible` namespaces are those of tags that belong to one copy of a picture."""
    pictures = [_picture(review, hash, finding) for hash in filter(None, (finding.hash, finding.other))]
    differences = _differences(review, finding, pictures, invisible) if finding.is_pair else []
    return Card(
        finding,
        pictures,
        _rows(review, view, finding),
        differences,
        _best(review, finding, pictures),
        others_on(review, finding),
    )


def encode(ask: Ask) -> str:
    """What a form sends for a suggestion: the version that was seen, and the suggestion.

    >>> encode(Ask(Key("ab", "series:x.y", "add"), 3))
    '3.add.ab..series:x.y'
    """
    return f"{ask.version}.{ask.key.action}.{ask.key.hash}.{ask.key.other}.{ask.key.tag}"


def decode(text: str) -> Ask:
    """The other way. Raises ValueError.

    >>> decode('3.add.ab..series:x.y').key.tag
    'series:x.y'
    """
    version, action, hash, other, tag = text.split(".", 4)
    if action not in (ADD, REMOVE, PAIR) or not tag or not hash:
        raise ValueError(f"not a suggestion: {text!r}")
    return Ask(Key(hash, tag, action, other), int(version))


def pair_asks(review: Review, finding: Finding, choice: str, invisible: Sequence[str]) -> list[Ask]:
    """The tags to add for one of `PAIR_CHOICES`; nothing for "neither"."""
    left, right = (
        set((picture(review, hash) or {}).get("existing_all_tags") or []) for hash in (finding.hash, finding.other)
    )
    wanted: list[Key] = []
    on_left, on_right = refused_tags(finding)
    if choice in ("left", "both"):
        wanted += [Key(finding.other, tag, ADD) for tag in sorted(left - right - on_right)]
    if choice in ("right", "both"):
        wanted += [Key(finding.hash, tag, ADD) for tag in sorted(right - left - on_left)]
    return [
        Ask(key, None, finding.issue, finding.confidence) for key in wanted if tags.namespace(key.tag) not in invisible
    ]


def refused_tags(finding: Finding) -> tuple[set[str], set[str]]:
    """The tags of a pair that its owner has said no to on the left and on the right picture, as the report says."""
    said = finding.body.get("refused_tags")
    found = (said.get(side) if isinstance(said, dict) else None for side in ("in_1", "in_2"))
    left, right = (set(tags) if isinstance(tags, list) else set() for tags in found)
    return left, right


def best_copy(pictures: Sequence[Picture]) -> tuple[str, str]:
    """Which of two copies to keep (its hash), and why: more pixels, else the larger file, else more tags, else the earlier import."""
    left, right = (one.record for one in pictures)
    for why, low, high in (
        (
            "more pixels",
            (left.get("width") or 0) * (left.get("height") or 0),
            (right.get("width") or 0) * (right.get("height") or 0),
        ),
        ("the larger file", left.get("size") or 0, right.get("size") or 0),
        ("more tags", len(left.get("existing_all_tags") or ()), len(right.get("existing_all_tags") or ())),
        ("imported first", -(left.get("time_imported") or 0), -(right.get("time_imported") or 0)),
    ):
        if low != high:
            return pictures[low < high].hash, f"{'Left' if low > high else 'Right'} looks like the better copy ({why})."
    return "", "Neither copy is better by pixels, size, tags or import time."


def _best(review: Review, finding: Finding, pictures: Sequence[Picture]) -> tuple[str, str]:
    """The report's word on which copy to keep, else what the dataset's records say; see `Card`."""
    if not finding.is_pair:
        return "", ""
    group, best = copy_group(review, finding.hash), best_copy(pictures)
    if group is None:
        return best
    where = {finding.hash: "Left", finding.other: "Right"}.get(group["best"], f"A third picture ({group['best'][:10]})")
    said = f"{where} is called the best copy" + (f" of {group['members']}" if group["members"] > 2 else "")
    hash = group["best"] if group["best"] in (finding.hash, finding.other) else best[0]
    return hash, f"{said}: {group['reasons']}." if group["reasons"] else f"{said}."


def _rows(review: Review, view: Filter, finding: Finding) -> list[Row]:
    rows = []
    for number, one in enumerate(finding.suggestions, 1):
        facts, shown = words.evidence(one.evidence, leave_out=(finding.hash, finding.other))
        sure = (
            ""
            if one.key.action == PAIR or not one.current
            else words.sureness(one.confidence, promise(review, one.issue, one.detectors))
        )
        then = None
        if one.confidence_then is not None and one.current and abs(one.confidence_then - one.detectors) >= CHANGED:
            then = f"It was {words.percent(one.confidence_then)} when you decided, and is {words.percent(one.detectors)} now."
            changes = words.changes(one.evidence_then, one.evidence) if one.evidence_then else []
            then += f" What changed: {'; '.join(changes)}." if changes else ""
        rows.append(Row(one, encode(one.ask()), number, one.in_view, sure, facts, shown, then))
    return rows


def _picture(review: Review, hash: str, finding: Finding) -> Picture:
    record = picture(review, hash) or {"hash": hash}
    implied, deleted = set(record.get("implied_tags") or ()), set(record.get("deleted_tags") or ())
    changes = {
        one.key.tag: one.key.action for one in finding.suggestions if one.key.hash == hash and one.key.action != PAIR
    }
    names = set(record.get("existing_all_tags") or ()) | {tag for tag, action in changes.items() if action == ADD}

    def tag(name: str) -> Tag:
        note = (
            "added by your siblings and parents"
            if name in implied
            else "you once removed it"
            if name in deleted
            else ""
        )
        return Tag(name, changes.get(name, ""), note)

    return Picture(hash, record, [(space, [tag(name) for name in group]) for space, group in words.by_namespace(names)])


def _differences(
    review: Review, finding: Finding, pictures: Sequence[Picture], invisible: Sequence[str]
) -> list[Difference]:
    has = [set(one.record.get("existing_all_tags") or ()) for one in pictures]
    analysis = finding.body.get("analysis")
    if not any(has) and isinstance(analysis, dict):  # a report without its dataset still says what differs
        difference = analysis.get("all_tags_diff") or {}
        has = [set(difference.get("only_in_1") or ()), set(difference.get("only_in_2") or ())]
    rows = []
    refused = refused_tags(finding)
    for tag in sorted(has[0] ^ has[1], key=lambda tag: (tags.namespace(tag) == "", tag)):
        on_left = tag in has[0]
        copy = review.decision(Key(finding.other if on_left else finding.hash, tag, ADD))
        remove = review.decision(Key(finding.hash if on_left else finding.other, tag, REMOVE))
        rows.append(
            Difference(
                tag,
                on_left,
                _value(copy),
                _value(remove),
                copy.queue,
                remove.queue,
                tags.namespace(tag) not in invisible,
                tag in refused[on_left],
            )
        )
    return rows


def _value(decision: Decision) -> str:
    return encode(Ask(decision.key, decision.version))
