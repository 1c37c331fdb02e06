"""Decisions: one suggestion, what is ticked on a card, a pair, or everything that a view holds; undo and redo."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, flash, redirect, request, url_for
from werkzeug.datastructures import MultiDict

from tagcheck.review import Ask, Filter, Key, queries
from tagcheck.review.queries import Finding
from tagcheck.review.store import ACCEPTED, DECISIONS, IGNORED, OPEN, PAIR, Decision, Outcome
from webapp import cards, words
from webapp.filters import QUEUE_WORDS, from_query, to_query
from webapp.state import count, review, settings
from webapp.views import part

STATES = (*DECISIONS, OPEN)
NOTHING_TICKED = "Nothing is ticked, so nothing was decided."

blueprint = Blueprint("deciding", __name__, url_prefix="/error-review")


@blueprint.post("/decide")
def decide() -> Response:
    """Decide on a card: `one` (state and suggestion), `pair` (a choice), or `do` (a state) for every ticked `key`."""
    view, finding = from_query(request.args), _finding(request.form.get("finding", ""))
    if (choice := request.form.get("pair")) is not None:
        outcome = _decide_pair(finding, choice)
    else:
        state, asks = _asked(request.form)
        asks = [_completed(ask, finding) for ask in asks]
        if not asks:
            return _answer(view, finding, None, NOTHING_TICKED, stay=True)
        outcome = review().decide(asks, state, _label(state, asks), attach_to=finding.id)
    stay = bool(outcome.conflicts) or (request.form.get("go") != "on" and _left(view, finding))
    return _answer(view, finding, outcome, said(outcome), stay)


@blueprint.post("/decide-many")
def decide_many() -> Response:
    """Decide on all that a view holds (`scope=all`, with the count that was shown) or on the findings ticked in the grid."""
    view = from_query(request.args)
    state, ticked = request.form.get("do", ""), request.form.getlist("finding")
    if state not in STATES:
        abort(400, f"There is no decision {state!r}.")
    everything = request.form.get("scope") == "all"
    asks = queries.asks(review(), view, None if everything else ticked) if everything or ticked else []
    if not asks:
        flash(NOTHING_TICKED)
    elif everything and request.form.get("expect") != str(len(asks)):
        flash(
            f"This view holds {words.plural(len(asks), 'suggestion')} now, not {request.form.get('expect') or 'none'} as"
            " when you looked. Nothing was decided: look again."
        )
    else:
        flash(said(review().decide(asks, state, _label(state, asks))))
    return redirect(url_for("views.findings", **to_query(view, view=request.args.get("view"))), 303)


@blueprint.post("/undo")
def undo() -> Response:
    """Take the last decision back."""
    return _walk(review().undo(), "Undone", "There is nothing to undo.")


@blueprint.post("/redo")
def redo() -> Response:
    """Do again what was undone last."""
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
        lines.append(
            "Decided elsewhere in the meantime, and left so: "
            + "; ".join(_standing(one) for one in outcome.conflicts[:3])
            + _more(outcome.conflicts)
        )
    if outcome.applied:
        lines.append(
            f"{words.plural(len(outcome.applied), 'change')} in the library already: undo that under Applied changes."
        )
    return " ".join(lines) or "Nothing changed."


def _decide_pair(finding: Finding, choice: str) -> Outcome:
    """The pair are copies; tags are copied as chosen, and what the report suggested beside that is answered with no."""
    if choice not in cards.PAIR_CHOICES or not finding.is_pair:
        abort(400, f"There is no choice {choice!r} for this.")
    pair = next(one for one in finding.suggestions if one.key.action == PAIR)
    seen = _version(request.form.get("pair_version"), pair.version)
    asked = [(Ask(pair.key, seen, finding.issue, finding.confidence), ACCEPTED)]
    if review().decision(pair.key).version == seen:  # decided elsewhere meanwhile: all or nothing
        copies = cards.pair_asks(review(), finding, choice, settings().invisible)
        chosen = {ask.key for ask in copies}
        asked += [(ask, ACCEPTED) for ask in copies]
        asked += [
            (one.ask(), IGNORED)
            for one in finding.suggestions
            if one.key not in chosen and one.key.action != PAIR and one.state == OPEN
        ]
    tags = sum(state == ACCEPTED for _, state in asked) - 1
    label = cards.PAIR_CHOICES[choice] + (f": {words.plural(tags, 'tag')} accepted" if tags else "")
    return review().decide_each(asked, label, attach_to=finding.id)


def _asked(form: MultiDict) -> tuple[str, list[Ask]]:
    """(state, what to give it to) of a card's form."""
    one = form.get("one", "")
    state, values = (
        (one.partition(" ")[0], [one.partition(" ")[2]]) if one else (form.get("do", ""), form.getlist("key"))
    )
    if state not in STATES:
        abort(400, f"There is no decision {state!r}.")
    try:
        return state, [cards.decode(value) for value in values]
    except ValueError:
        abort(400, "This form names a suggestion that cannot be meant.")


def _completed(ask: Ask, finding: Finding) -> Ask:
    """The wish with issue and confidence as the finding has them; it may only concern the finding's own pictures."""
    if ask.key.hash not in (finding.hash, finding.other) or ask.key.other not in ("", finding.other):
        abort(400, "This form names a suggestion of another finding.")
    known = next((one for one in finding.suggestions if one.key == ask.key), None)
    if known is None and not finding.is_pair:
        abort(400, "This form names a suggestion that is not in the newest reports. Reload the page.")
    return Ask(ask.key, ask.version, finding.issue, known.confidence if known else finding.confidence)


def _finding(id: str) -> Finding:
    found = queries.load(review(), [id]) if id else []
    if not found:
        abort(404, "This finding is not in the newest reports any longer. Go back to the list.")
    return found[0]


def _left(view: Filter, finding: Finding) -> bool:
    """Whether something on this card still waits in the view."""
    found = queries.load(review(), [finding.id], view)
    return bool(found) and any(one.in_view for one in found[0].suggestions) and view.state in (OPEN, "")


def _version(text: str | None, default: int) -> int:
    try:
        return int(text) if text else default
    except ValueError:
        abort(400, "This form carries no number where one belongs.")


def _answer(
    view: Filter, finding: Finding, outcome: Outcome | None, message: str, stay: bool
) -> Response | dict[str, Any]:
    """To a script, what happened and the numbers that changed; to a form, the next card."""
    if request.accept_mimetypes.best == "application/json":
        fresh = queries.load(review(), [finding.id], view) if stay else []
        return {
            "message": message,
            "ok": outcome is not None and not outcome.conflicts,
            "stay": stay,
            "left": count(view).findings,
            "waiting": review().waiting(),
            "decided": [
                [key.hash, key.action, key.tag] for key in (outcome.changed + outcome.already if outcome else [])
            ],
            "card": part(view, fresh[0]) if fresh else None,
        }
    flash(message)
    at = finding.id if stay else queries.step(review(), view, finding.id)
    return redirect(url_for("views.card", **to_query(view, at=at)), 303)


def _walk(outcome: Outcome | None, verb: str, nothing: str) -> Response | dict[str, Any]:
    """Answer an undo or redo, and show the finding that it was about."""
    view = from_query(request.args)
    message, at = nothing, None
    if outcome is not None:
        message = f"{verb}: {outcome.label}." if outcome.changed else said(outcome)
        if outcome.changed and (outcome.conflicts or outcome.applied):
            message += (
                f" {words.plural(len(outcome.conflicts) + len(outcome.applied), 'other')} changed since and stayed."
            )
        at = _waiting(view, queries.finding_of(review(), outcome.changed[0])) if outcome.changed else None
    if request.accept_mimetypes.best == "application/json":
        found = queries.load(review(), [at], view) if at else []
        return {
            "message": message,
            "ok": outcome is not None and bool(outcome.changed),
            "card": part(view, found[0]) if found else None,
            "left": count(view).findings,
            "waiting": review().waiting(),
        }
    flash(message)
    if request.form.get("from") == "findings":
        return redirect(url_for("views.findings", **to_query(view, view=request.args.get("view"))), 303)
    return redirect(url_for("views.card", **to_query(view, at=at or request.args.get("at"))), 303)


def _waiting(view: Filter, id: str | None) -> str | None:
    """This finding if something on it waits in the view, else the next that does."""
    found = queries.load(review(), [id], view) if id else []
    if not found or any(one.in_view for one in found[0].suggestions):
        return id
    return queries.step(review(), view, id) or id


def _label(state: str, asks: list[Ask]) -> str:
    """`Accepted: add series:elves`, or with a count where there are many."""
    verb = "Reopened" if state == OPEN else QUEUE_WORDS[state]
    if len(asks) > 3:
        return f"{verb}: {words.plural(len(asks), 'suggestion')}"
    return f"{verb}: {_names([ask.key for ask in asks])}"


def _names(keys: list[Key]) -> str:
    return ", ".join("the pair" if key.action == PAIR else f"{key.action} {key.tag}" for key in keys[:5]) + _more(
        keys, 5
    )


def _standing(decision: Decision) -> str:
    when = words.ago(decision.decided_at) if decision.decided_at else "by a new report"
    return f"{_names([decision.key])} is {decision.queue} ({when})"


def _more(many: list[Any], shown: int = 3) -> str:
    return f" and {len(many) - shown:,} more" if len(many) > shown else ""
