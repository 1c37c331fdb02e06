"""A view and its address: filters read from a query string and written back into one, and the words for them."""

import re
from collections.abc import Mapping
from typing import Any

from flask import abort
from werkzeug.datastructures import MultiDict

from tagcheck import detectors, tags
from tagcheck.detectors import PAIRS, SERIES, TAGS
from tagcheck.review import Filter
from tagcheck.review.queries import NEWEST, ORDERS, SURE, UNSURE
from tagcheck.review.store import QUEUES, UNLIKELY

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


def from_query(args: MultiDict[str, str] | Mapping[str, str]) -> Filter:
    """The view that a query string asks for. A value that cannot be meant is a 400 in words."""
    state = args.get("state") or "open"
    if state not in (*QUEUES, ANY):
        abort(400, f"There is no queue {state!r}. There are: {', '.join(QUEUES)}, {ANY}.")
    order = args.get("sort") or SURE
    if order not in ORDERS:
        abort(400, f"There is no order {order!r}. There are: {', '.join(ORDERS)}.")
    hash = (args.get("hash") or "").strip().lower()
    if not HASH_PREFIX.fullmatch(hash):
        abort(400, "A picture's hash, or the start of one, is made of the digits 0 to 9 and a to f.")
    named = list(dict.fromkeys(filter(None, map(tags.clean, _all(args, "tag")))))
    if len(named) > 2:
        abort(400, f"A view shows one tag or two, not {len(named)}.")
    return Filter(
        state="" if state == ANY else state,
        issues=_issues(_all(args, "type")),
        tag=named[0] if named else "",
        or_tag=named[1] if len(named) > 1 else "",
        namespace=(args.get("ns") or "").strip().lower(),
        page=args.get("page") or "",
        series=tags.clean(args.get("series") or ""),
        changed=bool(args.get("changed")),
        hash=hash,
        sample=_number(args, "sample"),
        batches=tuple(dict.fromkeys(filter(None, _all(args, "batch")))),
        least=_share(args, "min", "from", 0.0),
        most=_share(args, "max", "to", 1.0),
        order=order,
    )


def to_query(view: Filter, /, **more: Any) -> dict[str, Any]:
    """The query arguments of a view, without those that say nothing; `more` (None: leave out) is added."""
    called = [name for name, (_, issues) in groups().items() if view.issues and issues == view.issues]
    said = {
        "state": (view.state or ANY) if view.state != "open" else "",
        "type": called[0] if called else list(view.issues),
        "tag": [view.tag, view.or_tag] if view.or_tag else view.tag,
        "ns": view.namespace,
        "page": view.page,
        "series": view.series,
        "hash": view.hash,
        "changed": "yes" if view.changed else "",
        "sample": view.sample,
        "batch": list(view.batches),
        "from": f"{view.least * 100:g}" if view.least > 0 else "",
        "to": f"{view.most * 100:g}" if view.most < 1 else "",
        "sort": view.order if view.order != SURE else "",
    }
    said = {name: value for name, value in said.items() if value}
    return said | {name: value for name, value in more.items() if value is not None}


def in_words(view: Filter) -> str:
    """A view as a short line: `open, Missing series, tag series:elves, confidence from 0.8`."""
    said = [QUEUE_WORDS[view.state].lower() if view.state else "in any queue"]
    kind = to_query(view).get("type")
    if isinstance(kind, str):
        said.append(groups()[kind][0].lower())
    elif kind:
        said.append(" or ".join(detectors.issue_words()[issue].lower() for issue in kind))
    if view.tag:
        said.append(f"tag {view.tag} or {view.or_tag}" if view.or_tag else f"tag {view.tag}")
    finer = {
        f"namespace {view.namespace}": view.namespace,
        f"page {view.page}": view.page,
        f"on pictures of {view.series}": view.series,
        "surer now than when you ignored it": view.changed,
        f"from {' or '.join(view.batches)}": view.batches,
        f"hash {view.hash[:12]}": view.hash,
        f"from {view.least * 100:g} %": view.least > 0,
        f"up to {view.most * 100:g} %": view.most < 1,
        f"the sample {view.sample}": view.sample,
    }
    return ", ".join([*said, *(words for words, holds in finer.items() if holds)])


def _issues(given: list[str]) -> tuple[str, ...]:
    found: list[str] = []
    known = {issue: (issue,) for issue in detectors.issues()} | {key: group for key, (_, group) in groups().items()}
    for name in filter(None, given):
        if name not in known:
            abort(400, f"There is no kind of finding {name!r}. There are: {', '.join(known)}.")
        found += known[name]
    return tuple(dict.fromkeys(found))


def _all(args: MultiDict[str, str] | Mapping[str, str], name: str) -> list[str]:
    return args.getlist(name) if isinstance(args, MultiDict) else [args.get(name, "")]


def _share(args: Mapping[str, str], name: str, in_percent: str, default: float) -> float:
    """A share: `in_percent` gives it in percent, `name` from 0 to 1 as older addresses do."""
    field, whole = (in_percent, 100.0) if (args.get(in_percent) or "").strip() else (name, 1.0)
    text = (args.get(field) or "").strip().removesuffix("%").strip()
    if not text:
        return default
    try:
        value = float(text) / whole
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        abort(400, f"{field} is to be a number from 0 to {whole:g}, not {text!r}.")
    return round(value, 6)


def _number(args: Mapping[str, str], name: str) -> int:
    text = (args.get(name) or "").strip()
    if not text.isascii() or not (text.isdigit() or not text) or len(text) > 12:
        abort(400, f"{name} is to be a whole number, not {text!r}.")
    return int(text or 0)
