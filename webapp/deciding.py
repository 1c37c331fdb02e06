"""Decisions: one suggestion, what is ticked on a card, a pair, everything that a view holds, or that after a sample; undo and redo."""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flask import Blueprint, abort, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from tagcheck import tags
from tagcheck.plural import plural
from tagcheck.review import Ask, Filter, Key, queries
from tagcheck.review.queries import Finding, Suggestion
from tagcheck.review.store import ACCEPTED, ADD, DECISIONS, IGNORED, OPEN, PAIR, UNDECIDED, Decision, Outcome
from webapp import cards, words
from webapp.answers import go, place, to_script
from webapp.filters import QUEUE_WORDS, from_query, to_query
from webapp.state import count, review, settings
from webapp.views import SAMPLE, SAMPLE_WORTH, part, reported

STATES = (*DECISIONS, OPEN)
SETTLE = "settle"  # accept what is ticked, and ignore the rest of what is shown
NOTHING_TICKED = "Nothing is ticked, so nothing was decided."
NOTHING_TYPED = "Type the tag first."
LONGEST_TAG = 1000  # characters; neither Hydrus nor a folder takes longer ones
TOO_LONG = f"A tag has {LONGEST_TAG:,} characters at most. Nothing was decided."
HAS_IT = "The picture has what you typed already, so nothing was decided."
TICKED_GONE = "What you ticked is not in this view any longer: it was decided elsewhere, or the newest reports do not say it. Nothing was decided."

blueprint = Blueprint("deciding", __name__, url_prefix="/error-review")

Asked = list[tuple[Ask, str]]
Answer = Response | dict[str, Any]  # to a form, to the page's script


@blueprint.post("/decide")
def decide() -> Answer:
    """Decide on a card: `one` (state and row), `pair` (a choice), `own` (tags that the owner typed), or `do` for every ticked `key`:
    a state, or "settle", which also ignores the rows that are `shown` and not ticked.
    """
    view, finding, nothing = from_query(request.args), reported(request.form.get("finding", "")), NOTHING_TICKED
    if (choice := request.form.get("pair")) is not None:
        asked = _pair_asked(finding, choice)
    elif (own := request.form.get("own")) is not None:
        names = _typed(request.form.get("own_tag", ""))
        nothing = TOO_LONG if max(map(len, names), default=0) > LONGEST_TAG else HAS_IT if names else NOTHING_TYPED
        asked = _own_asked(finding, own, names if nothing == HAS_IT else [])
    else:
        asked = _asked(request.form)
    known, members = {one.key: one for one in finding.suggestions}, set(finding.members)
    asked = [(_completed(ask, known, members), state) for ask, state in asked]
    if not asked:
        return _answer(view, finding, None, nothing, stay=True)
    outcome = review().decide_each(asked, label(asked), attach_to=finding.id)
    now = [one for found in queries.load(review(), [finding.id], view) for one in found.suggestions]
    left = [one.key for one in now if one.state in UNDECIDED]
    shown = {ask.key for ask in _decoded(request.form.getlist("shown"))} or known.keys()  # what stood there unfolded
    waits = view.state in (*UNDECIDED, "") and any(one.in_view for one in now) and not shown.isdisjoint(left)
    stay = bool(outcome.conflicts) or (request.form.get("go") != "on" and waits)
    return _answer(view, finding, outcome, said(outcome) + (f" {_counted(left)} left open." if left else ""), stay)


@blueprint.post("/decide-many")
def decide_many() -> Answer:
    """Decide on all that a view holds (`scope=all`, with the count that was shown) or on the findings ticked in the grid."""
    view = from_query(request.args)
    state, ticked = request.form.get("do", ""), request.form.getlist("finding")
    if state not in STATES:
        abort(400, f"There is no decision {state!r}.")
    everything = request.form.get("scope") == "all"
    asks = queries.asks(review(), view, None if everything else ticked) if everything or ticked else []
    ok = False
    if everything and request.form.get("expect") != str(len(asks)):
        now = f"This view holds {plural(len(asks), 'suggestion')} now"
        message = (
            f"{now}, not {request.form.get('expect') or 'none'} as when you looked. Nothing was decided: look again."
        )
    elif not asks:
        message = TICKED_GONE if ticked else NOTHING_TICKED
    else:
        message, ok = said(review().decide(asks, state, label([(ask, state) for ask in asks]))), True
    if to_script():
        return {"message": message, "ok": ok, "all": everything, **_numbers(view)}
    return go("views.findings", message, **to_query(view, **place()))


@blueprint.post("/sample")
def draw_sample() -> Response:
    """Draw `SAMPLE` of a view at random, and go and look at them."""
    view = from_query(request.args)
    number, of = queries.draw_sample(review(), view, SAMPLE, random.SystemRandom())
    if of < SAMPLE_WORTH:
        few = f"This view holds {plural(of, 'suggestion')}: so few are looked at as quickly as a sample of them."
        return go("views.findings", few, **to_query(view))
    return go("views.card", sample=number)


@blueprint.post("/sample/accept")
def accept_sample() -> Response:
    """Accept all others of the view that a sample was drawn from, if they are as many as was said."""
    number = request.form.get("sample", 0, int)
    drawn = queries.sample(review(), number)
    if drawn is None:
        abort(404, f"There is no sample {number}.")
    asks = queries.asks(review(), drawn.view)
    if drawn.decided < drawn.drawn:
        return go("views.card", "The sample is not decided yet: nothing was accepted.", sample=number)
    if request.form.get("expect") != str(len(asks)):
        now = f"There are {plural(len(asks), 'other')} now: look again. Nothing was accepted."
        return go("views.card", now, sample=number)
    sampled = f"after a sample of {drawn.decided}, {drawn.right} of them right"
    least = f"with 95 % certainty at least {int(drawn.at_least * 100)} %"
    said_so = f"Accepted: {plural(len(asks), 'suggestion')}, {sampled}: {least}"
    outcome = review().decide(asks, ACCEPTED, said_so)
    queries.note_sample(review(), number, outcome.event)
    return go("views.overview", said(outcome))


@blueprint.post("/mute")
def mute() -> Response:
    """Ask about a tag no longer (`on`), or again. No verdict: nothing else changes."""
    tag, on = request.form.get("tag", "").strip(), request.form.get("on") == "1"
    if not tag:
        abort(400, "This form has no tag.")
    review().mute(tag, on)
    muted = f"{tag} is muted: it is not asked about, and no other tag is touched."
    return go("views.overview", muted if on else f"{tag} is asked about again.")


@blueprint.post("/undo")
def undo() -> Answer:
    return _walk(review().undo(), "Undone", "There is nothing to undo.")


@blueprint.post("/redo")
def redo() -> Answer:
    return _walk(review().redo(), "Done again", "There is nothing to do again.")


def said(outcome: Outcome) -> str:
    """What happened, in a line or a few."""
    lines = []
    if outcome.changed:
        lines.append(f"{outcome.label}.")
    if outcome.already and not outcome.changed:
        lines.append("That was decided already.")
    if outcome.displaced:
        lines.append(f"The opposite went back to open: {_names(outcome.displaced)}.")
    if outcome.conflicts:
        those = "; ".join(map(_standing, outcome.conflicts[:3])) + _more(outcome.conflicts)
        lines.append(f"Decided elsewhere in the meantime, and left so: {those}")
    if outcome.applied:
        many = plural(len(outcome.applied), "change")
        lines.append(f"{many} in the library already: undo that under Applied changes.")
    return " ".join(lines) or "Nothing changed."


def label(asked: Sequence[tuple[Ask, str]]) -> str:
    """All that was decided: `Accepted: add series:elves; ignored: remove solo`, or with counts where there are many."""
    parts: list[str] = []
    for state in dict.fromkeys(state for _, state in asked):
        keys = [ask.key for ask, given in asked if given == state]
        verb = "Reopened" if state == OPEN else QUEUE_WORDS[state]
        told = _names(keys) if len(keys) <= 5 else _counted(keys)
        parts.append(f"{verb if not parts else verb.lower()}: {told}")
    return "; ".join(parts)


def _pair_asked(finding: Finding, choice: str) -> Asked:
    """These are copies, and tags are copied as chosen. Nothing else is answered."""
    if choice not in cards.PAIR_CHOICES or not finding.is_pair:
        abort(400, f"There is no choice {choice!r} for this.")
    pair = next(one for one in finding.suggestions if one.key.action == PAIR)
    seen = _version(request.form.get("pair_version"), pair.version)
    asked: Asked = [(Ask(pair.key, seen), ACCEPTED)]
    if review().decision(pair.key).version == seen:  # decided elsewhere meanwhile: all or nothing
        asked += [(ask, ACCEPTED) for ask in cards.pair_asks(review(), finding, choice, settings().invisible)]
    return asked


def _typed(text: str) -> list[str]:
    """The tags that the owner typed: several with commas between, but for what is one tag of the library as it is."""
    whole = tags.clean(text)
    return [whole] if queries.uses(review(), whole) else tags.typed(text)


def _own_asked(finding: Finding, own: str, names: Sequence[str]) -> Asked:
    """Typed tags: added, or in the place of a suggested one (`instead`), which is ignored or removed."""
    if not names:
        return []
    how, _, value = own.partition(" ")
    if how not in ("add", "instead"):
        abort(400, f"There is no choice {own!r} for this.")
    instead = _decoded([value]) if how == "instead" else []
    hashes = dict.fromkeys(ask.key.hash for ask in instead) or finding.members
    has = {hash: cards.tags_of(review(), hash) for hash in hashes}
    keys = [Key(hash, tag, ADD) for tag in names for hash in hashes if tag not in has[hash]]
    added = [(Ask(key, review().decision(key).version), ACCEPTED) for key in keys]
    return added + [
        (ask, IGNORED if ask.key.action == ADD else ACCEPTED) for ask in instead if ask.key.tag not in names
    ]


def _asked(form: MultiDict[str, str]) -> Asked:
    state, _, row = form.get("one", "").partition(" ")
    state, values = (state, [row]) if state else (form.get("do", ""), form.getlist("key"))
    if state not in (*STATES, SETTLE):
        abort(400, f"There is no decision {state!r}.")
    ticked = _decoded(values)
    if state != SETTLE:
        return [(ask, state) for ask in ticked]
    taken = {ask.key for ask in ticked}
    rest = [ask for ask in _decoded(form.getlist("shown")) if ask.key not in taken]
    return [(ask, ACCEPTED) for ask in ticked] + [(ask, IGNORED) for ask in rest]


def _decoded(values: Iterable[str]) -> list[Ask]:
    try:
        return [cards.decode(line) for value in values for line in re.split(r"\r?\n", value)]  # a line each of a row
    except ValueError:
        abort(400, "This form names a suggestion that cannot be meant.")


def _completed(ask: Ask, suggestions: Mapping[Key, Suggestion], members: set[str]) -> Ask:
    """The wish with issue and confidence as the finding has them; it may only concern the finding's own pictures."""
    if not {ask.key.hash, ask.key.other or ask.key.hash} <= members:
        abort(400, "This form names a suggestion of another finding.")
    known = suggestions.get(ask.key)
    if known is None and ask.key.action == PAIR:
        abort(400, "This form names a suggestion that is not in the newest reports. Reload the page.")
    if known is None:
        return Ask(ask.key, ask.version)  # the owner's own: no answer to a detector
    return Ask(ask.key, ask.version, known.issue, known.detectors)


def _version(text: str | None, default: int) -> int:
    try:
        return int(text) if text else default
    except ValueError:
        abort(400, "This form carries no number where one belongs.")


def _answer(view: Filter, finding: Finding, outcome: Outcome | None, message: str, stay: bool) -> Answer:
    """To a script, what happened and the numbers that changed; to a form, the next card."""
    if to_script():
        done = outcome.changed + outcome.already if outcome else []
        ok, decided = outcome is not None and not outcome.conflicts, [[key.hash, key.action, key.tag] for key in done]
        card = _part(view, finding.id if stay else None)
        return {"message": message, "ok": ok, "stay": stay, "decided": decided, "card": card, **_numbers(view)}
    at = finding.id if stay else queries.step(review(), view, finding.id)
    return go("views.card", message, finding.id, **to_query(view, at=at))


def _walk(outcome: Outcome | None, verb: str, nothing: str) -> Answer:
    """Answer an undo or redo, and show the finding that it was about."""
    view = from_query(request.args)
    message, at = nothing, None
    if outcome is not None:
        message = f"{verb}: {outcome.label}." if outcome.changed else said(outcome)
        if outcome.changed and (others := len(outcome.conflicts) + len(outcome.applied)):
            message += f" {plural(others, 'other')} changed since and stayed."
        at = _waiting(view, queries.finding_of(review(), outcome.changed[0])) if outcome.changed else None
    if to_script():
        ok = outcome is not None and bool(outcome.changed)
        return {"message": message, "ok": ok, "card": _part(view, at), **_numbers(view)}
    if request.form.get("from") == "findings":
        return go("views.findings", message, **to_query(view, **place()))
    return go("views.card", message, **to_query(view, at=at or request.args.get("at")))


def _part(view: Filter, id: str | None) -> dict[str, Any] | None:
    there = queries.load(review(), [id], view) if id else []
    return part(view, there[0]) if there else None


def _numbers(view: Filter) -> dict[str, int]:
    """What the page shows of a view and of what is accepted, after a decision."""
    left = count(view)
    return {"left": left.findings, "suggestions": left.suggestions, "waiting": review().waiting()}


def _waiting(view: Filter, id: str | None) -> str | None:
    """This finding if something on it waits in the view, else the next that does."""
    there = queries.load(review(), [id], view) if id else []
    if not there or any(one.in_view for one in there[0].suggestions):
        return id
    return queries.step(review(), view, there[0].id) or id


def _names(keys: Sequence[Key]) -> str:
    """`the pair, add solo`: a pair is named once, and a tag once for all copies."""
    named = list(dict.fromkeys("the pair" if key.action == PAIR else f"{key.action} {key.tag}" for key in keys))
    return ", ".join(named[:5]) + _more(named, 5)


def _counted(keys: Sequence[Key]) -> str:
    """`2 additions, 1 removal`."""
    kinds = (("add", "addition"), ("remove", "removal"), (PAIR, "pair"))
    counted = [(sum(key.action == action for key in keys), name) for action, name in kinds]
    return ", ".join(plural(number, name) for number, name in counted if number)


def _standing(decision: Decision) -> str:
    when = words.ago(decision.decided_at) if decision.decided_at else "by a new report"
    return f"{_names([decision.key])} is {decision.queue} ({when})"


def _more(many: Sequence[Any], shown: int = 3) -> str:
    return f" and {len(many) - shown:,} more" if len(many) > shown else ""
