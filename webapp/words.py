"""How numbers, times and evidence read on the page."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from flask import Flask
from markupsafe import Markup

from tagcheck import detectors, tags
from tagcheck.dataset import HASH
from tagcheck.findings import BEFORE_VERDICTS
from tagcheck.plural import plural
from tagcheck.review.exporting import percent
from tagcheck.review.queries import Finding, Measured
from tagcheck.review.store import ADD, PAIR
from webapp.filters import QUEUE_WORDS

CHIPS = 12  # suggestions of a finding that a list or tile shows
UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))
EVIDENCE_WORDS = {
    "probability": "Series classifier",
    "tagger_probability": "JoyTag",
    "tagger": "JoyTag",
    "near_with": "Similar pictures with this tag",
    "near_without": "Similar pictures without it",
    "neighbours": "Similar pictures",
    "neighbours_with": "Similar pictures with it",
    "neighbours_with_tag": "Share of the similar pictures with it",
    "twins": "Copies",
    "twins_with": "Copies with it",
    "uses": "Pictures of the library with it",
    "expected": "Picture and its other tags",
    "forgotten_here": "Share of tags that this picture seems to lack",
    "other_copy": "The other copy",
    "tagged": "Tagged",
    "predicted": "Predicted",
    "taggers": "What each tagger says",
    "weighed": "For (+) and against (-), in logits",
    "before_verdicts": "By the detector alone, before your decisions",
    "only_in_1": "Only one has",
    "only_in_2": "Only the other has",
    "refused_in_1": "You said no on the one",
    "refused_in_2": "You said no on the other",
    "rule": "Rule",
    "against": "Excluded by",
    "follows_from": "Comes with",
    "brings": "Brings",
}
UNSTEADY = (BEFORE_VERDICTS, "weighed")  # evidence that moves a little with every run
FIGURES = {"expected": "picture and tags", "probability": "series classifier", "tagger": "JoyTag"}
FIGURES |= {"tagger_probability": "JoyTag"}
SHARES = (*FIGURES, "forgotten_here", BEFORE_VERDICTS, "neighbours_with_tag", "unknown")


def install(app: Flask) -> None:
    for one in (ago, percent, size, plural, of_100, chips, measured_words):
        app.template_filter()(one)
    app.context_processor(
        lambda: {"issue_words": detectors.issue_words(), "queue_words": QUEUE_WORDS, "most_chips": CHIPS}
    )


def ago(when: str | None, now: datetime | None = None) -> str:
    """A UTC time as its distance from now.

    >>> ago("2026-11-23T17:00:00Z", datetime(2026, 11, 23, 18, 5, tzinfo=UTC))
    '1 hour ago'
    """
    if not when:
        return "never"
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(when)).total_seconds()
    for unit, name in UNITS:
        if seconds >= unit:
            return f"{plural(int(seconds // unit), name)} ago"
    return "just now"


def chips(finding: Finding) -> Markup:
    """What is suggested, in a line or a few: of many, the surest."""
    first, more = finding.shown[:CHIPS], len(finding.shown) - CHIPS
    shown = [_chip(one.key.action, one.key.tag) for one in first]
    return Markup(" ".join([*shown, f"and {more} more"] if more > 0 else shown))


@lru_cache(4096)
def _chip(action: str, tag: str) -> Markup:
    if action == PAIR:
        return Markup('<span class="chip">copies</span>')
    said = Markup('<span class="unseen">{0}</span><span aria-hidden="true">{1}</span>').format
    return Markup('<span class="chip {}">{} {}</span>').format(action, said(action, "+" if action == ADD else "−"), tag)


def of_100(share: float) -> str:
    """How many of a hundred a share is, as its percentage says.

    >>> of_100(0.864), of_100(1.0)
    ('86', '99')
    """
    return percent(share).removesuffix(" %")


def size(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{count / 1024:.0f} kB"


def measured_words(measured_share: Measured) -> str:
    """`83 are right, from 214 of your decisions (between 77 and 88)`."""
    low, share, high = (of_100(one) for one in (measured_share.low, measured_share.share, measured_share.high))
    return f"{share} are right, from {measured_share.of:,} of your decisions (between {low} and {high})"


def figures(given: dict[str, Any]) -> list[str]:
    """The reason in at most three short figures.

    >>> figures({"neighbours": 10, "neighbours_with": 8, "expected": 0.993, "tagger": 0.2})
    ['similar pictures 8 of 10', 'picture and tags 99 %', 'JoyTag 20 %']
    """
    made = []
    if given.get("twins"):
        made.append(f"copies {given.get('twins_with', 0)} of {given['twins']}")
    if isinstance(given.get("neighbours"), int) and given["neighbours"]:
        made.append(f"similar pictures {given.get('neighbours_with', 0)} of {given['neighbours']}")
    for key, name in FIGURES.items():
        if isinstance(given.get(key), float | int):
            made.append(f"{name} {percent(given[key])}")
    if not made and given.get("against"):
        made.append(f"excluded by {given['against']}")
    return made[:3]


def by_namespace(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Tags grouped by namespace, those without one last."""
    groups: dict[str, list[str]] = {}
    for tag in sorted(names):
        groups.setdefault(tags.namespace(tag), []).append(tag)
    return sorted(groups.items(), key=lambda group: (group[0] == "", group[0]))


def evidence(
    given: dict[str, Any], leave_out: Sequence[str] = ()
) -> tuple[list[tuple[str, str]], list[tuple[str, list[str]]]]:
    """(numbers and words, pictures) of evidence: each list of hashes is a row of pictures, without `leave_out`."""
    facts: list[tuple[str, str]] = []
    shown: list[tuple[str, list[str]]] = []
    for name, value in given.items():
        words = EVIDENCE_WORDS.get(name, name.replace("_", " ").capitalize())
        hashes = _hashes(value)
        if hashes:
            others = [hash for hash in hashes if hash not in leave_out]
            shown += [(words, others)] if others else []
        elif text := _fact(value, name in SHARES):
            facts.append((words, text))
    return facts, shown


def changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What of a suggestion's evidence is other than it was: shares that moved by a tenth, numbers that moved by a tenth of
    themselves, and words.

    >>> changes({"tagger": 0.31, "neighbours_with": 2, "uses": 100}, {"tagger": 0.92, "neighbours_with": 7, "uses": 100})
    ['JoyTag was 31 %, is 92 %', 'Similar pictures with it was 2, is 7']
    """
    found = []
    for name in dict.fromkeys([*then, *now]):
        before, after = then.get(name), now.get(name)
        old, new = _fact(before, name in SHARES), _fact(after, name in SHARES)
        if name in UNSTEADY or old == new or _hashes(before) or _hashes(after) or _close(before, after):
            continue
        known = EVIDENCE_WORDS.get(name, name.replace("_", " "))
        found.append(f"{known} was {old or 'not known'}, is {new or 'not known'}")
    return found


def _close(then: Any, now: Any) -> bool:
    numbers = isinstance(then, float | int) and isinstance(now, float | int)
    return numbers and abs(then - now) < max(0.1 if isinstance(now, float) else 1, abs(then) / 10)


def _hashes(value: Any) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return []
    found = [one.get("hash") if isinstance(one, dict) else one for one in value]
    return [one for one in found if isinstance(one, str) and HASH.fullmatch(one)][:8]


def _fact(value: Any, share: bool = False) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if share and isinstance(value, float | int):
        return percent(value)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 10 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return re.sub(r"\s+", " ", value)
    if isinstance(value, list):
        return ", ".join(filter(None, map(_fact, value)))
    if isinstance(value, dict):
        told = {name: _fact(one) for name, one in value.items()}
        inner = {name: f"{name} ({told[name]})" for name, one in value.items() if isinstance(one, dict)}
        return ", ".join(inner.get(name, f"{name.replace('_', ' ')} {text}") for name, text in told.items() if text)
    return ""
