"""A view and its address: filters read from a query string and written back into one, and the words for them."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from flask import abort
from werkzeug.datastructures import MultiDict

from tagcheck import detectors, tags
from tagcheck.detectors import PAIRS, SERIES, TAGS
from tagcheck.review import Filter
from tagcheck.review.queries import NEWEST, ORDERS, SURE, UNSURE
from tagcheck.review.store import OPEN, QUEUES, UNLIKELY

QUEUE_WORDS = {queue: queue.capitalize() for queue in QUEUES} | {UNLIKELY: "Below 50 %"}
ORDER_WORDS = {SURE: "surest first", UNSURE: "least sure first", NEWEST: "newest picture first"}
ANY = "any"
HASH_PREFIX = re.compile(r"[0-9a-f]{0,64}")


def groups() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Kinds of findings that are asked for by one name: all about tags, all pairs, each detector's own."""
    made = {"tags": ("All about tags", detectors.issues(TAGS, SERIES)), "pairs": ("All pairs", detectors.issues(PAIRS))}
    for one in detectors.DETECTORS:
        if tuple(one.issues) not in {issues for _, issues in made.values()}:
            made[one.key] = (one.title, tuple(one.issues))
    return made


def from_query(args: MultiDict[str, str]) -> Filter:
    """The view that a query string asks for. A value that cannot be meant is a 400 in words."""
    given = {name: (args.get(name) or "").strip() for name in args}
    state = _one_of("queue", given.get("state") or OPEN, (*QUEUES, ANY))
    hash = given.get("hash", "").lower()
    if not HASH_PREFIX.fullmatch(hash):
        abort(400, "A picture's hash, or the start of one, is made of the digits 0 to 9 and a to f.")
    named = list(dict.fromkeys(filter(None, map(tags.clean, args.getlist("tag")))))
    if len(named) > 2:
        abort(400, f"A view shows one tag or two, not {len(named)}.")
    tag, or_tag = (*named, "", "")[:2]
    return Filter(
        state="" if state == ANY else state,
        issues=_issues(args.getlist("type")),
        tag=tag,
        or_tag=or_tag,
        namespace=given.get("ns", "").lower(),
        page=args.get("page") or "",
        series=tags.clean(args.get("series") or ""),
        changed=bool(args.get("changed")),
        hash=hash,
        sample=_number("sample", given.get("sample", "")),
        batches=tuple(dict.fromkeys(filter(None, args.getlist("batch")))),
        least=_share(given, "min", "from", 0.0),
        most=_share(given, "max", "to", 1.0),
        order=_one_of("order", given.get("sort") or SURE, ORDERS),
    )


def to_query(view: Filter, /, **more: Any) -> dict[str, Any]:
    """The query arguments of a view, without those that say nothing; `more` (None: leave out) is added."""
    said = {name: value for name, value, _ in _said(view) if value}
    return said | {name: value for name, value in more.items() if value is not None}


def in_words(view: Filter) -> str:
    """A view as a short line: `open, Missing series, tag series:elves, confidence from 0.8`."""
    return ", ".join(words for name, value, words in _said(view) if words and (value or name == "state"))


def _said(view: Filter) -> list[tuple[str, Any, str]]:
    """All that a view may say: its name in an address, its value there ("", 0 or []: it says nothing), and in words."""
    called = [(name, title) for name, (title, issues) in groups().items() if view.issues and issues == view.issues]
    kinds = [title for _, title in called[:1]] or [detectors.issue_words()[issue] for issue in view.issues]
    tag = [view.tag, view.or_tag] if view.or_tag else view.tag
    least, most = f"{view.least * 100:g}", f"{view.most * 100:g}"
    return [
        ("state", (view.state or ANY) * (view.state != OPEN), QUEUE_WORDS.get(view.state, "in any queue").lower()),
        ("type", called[0][0] if called else list(view.issues), " or ".join(kinds).lower()),
        ("tag", tag, f"tag {view.tag} or {view.or_tag}" if view.or_tag else f"tag {view.tag}"),
        ("ns", view.namespace, f"namespace {view.namespace}"),
        ("page", view.page, f"page {view.page}"),
        ("series", view.series, f"on pictures of {view.series}"),
        ("changed", "yes" * view.changed, "surer now than when you ignored it"),
        ("batch", list(view.batches), f"from {' or '.join(view.batches)}"),
        ("hash", view.hash, f"hash {view.hash[:12]}"),
        ("from", least * (view.least > 0), f"from {least} %"),
        ("to", most * (view.most < 1), f"up to {most} %"),
        ("sample", view.sample, f"the sample {view.sample}"),
        ("sort", view.order * (view.order != SURE), ""),
    ]


def _one_of(what: str, name: str, names: Collection[str]) -> str:
    if name not in names:
        abort(400, f"There is no {what} {name!r}. There are: {', '.join(names)}.")
    return name


def _issues(given: list[str]) -> tuple[str, ...]:
    known = {issue: (issue,) for issue in detectors.issues()} | {key: group for key, (_, group) in groups().items()}
    named = [_one_of("kind of finding", name, known) for name in given if name]
    return tuple(dict.fromkeys(issue for name in named for issue in known[name]))


def _share(given: Mapping[str, str], name: str, in_percent: str, default: float) -> float:
    """A share: `in_percent` gives it in percent, `name` from 0 to 1 as older addresses do."""
    field, whole = (in_percent, 100.0) if given.get(in_percent) else (name, 1.0)
    text = given.get(field, "").removesuffix("%").strip()
    if not text:
        return default
    try:
        value = float(text) / whole
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        abort(400, f"{field} is to be a number from 0 to {whole:g}, not {text!r}.")
    return round(value, 6)


def _number(name: str, text: str) -> int:
    if not re.fullmatch("[0-9]{0,12}", text):
        abort(400, f"{name} is to be a whole number, not {text!r}.")
    return int(text or 0)
