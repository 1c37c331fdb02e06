"""Accepting many similar suggestions after a sample: some are drawn at random and looked at one by one, then the others are accepted together."""

import random

from flask import Blueprint, abort, flash, redirect, request, url_for
from werkzeug.wrappers import Response

from tagcheck.review import queries
from tagcheck.review.store import ACCEPTED
from webapp import words
from webapp.deciding import said
from webapp.filters import from_query, to_query
from webapp.state import review
from webapp.views import SAMPLE, SAMPLE_WORTH

blueprint = Blueprint("sampling", __name__, url_prefix="/error-review")


@blueprint.post("/sample")
def draw() -> Response:
    """Draw `SAMPLE` of a view at random, and go and look at them."""
    view = from_query(request.args)
    number, of = queries.draw_sample(review(), view, SAMPLE, random.SystemRandom())
    if of < SAMPLE_WORTH:
        flash(f"This view holds {words.plural(of, 'suggestion')}: so few are looked at as quickly as a sample of them.")
        return redirect(url_for("views.findings", **to_query(view)), 303)
    return redirect(url_for("views.card", sample=number), 303)


@blueprint.post("/sample/accept")
def accept() -> Response:
    """Accept all others of the view that a sample was drawn from, if they are as many as was said."""
    number = request.form.get("sample", 0, int)
    drawn = queries.sample(review(), number)
    if drawn is None:
        abort(404, f"There is no sample {number}.")
    asks = queries.asks(review(), drawn.view)
    if drawn.decided < drawn.drawn:
        flash("The sample is not decided yet: nothing was accepted.")
    elif request.form.get("expect") != str(len(asks)):
        flash(f"There are {words.plural(len(asks), 'other')} now: look again. Nothing was accepted.")
    else:
        outcome = review().decide(
            asks, ACCEPTED, f"Accepted: {words.plural(len(asks), 'suggestion')}, {in_words(drawn)}"
        )
        queries.note_sample(review(), number, outcome.event)
        flash(said(outcome))
        return redirect(url_for("views.overview"), 303)
    return redirect(url_for("views.card", sample=number), 303)


def in_words(drawn: queries.Sample) -> str:
    """`after a sample of 20, 19 of them right: with 95 % certainty at least 78 %`."""
    return (
        f"after a sample of {drawn.decided}, {drawn.right} of them right: with 95 % certainty at least"
        f" {int(drawn.at_least * 100)} %"
    )
