"""Handing a view over to the library's own program, where it takes it: a page of these pictures, pairs to judge as duplicates."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, flash, redirect, request, url_for

from tagcheck.errors import ToolError
from tagcheck.library import Library
from tagcheck.library.protocol import ALTERNATES, DUPLICATES, FALSE_POSITIVES, POTENTIAL_DUPLICATES
from tagcheck.review import queries
from webapp import state, words
from webapp.filters import from_query, in_words, to_query
from webapp.state import review

MOST = 20_000  # pictures on one page of the library's program
KINDS = (
    POTENTIAL_DUPLICATES,
    DUPLICATES,
    ALTERNATES,
    FALSE_POSITIVES,
)  # the first is a question, the others are judgements

blueprint = Blueprint("sharing", __name__, url_prefix="/error-review")


@blueprint.post("/open")
def open_page() -> Response | dict[str, Any]:
    """Open the pictures of one finding (`finding`), or of the whole view, in a new page of the library's program."""
    library = _able("open_page")
    view, pairs = from_query(request.args), _asked()
    hashes = list(dict.fromkeys(hash for pair in pairs for hash in pair if hash))
    if len(hashes) > MOST:
        abort(400, f"These are {len(hashes):,} pictures, a page takes {MOST:,}: narrow the view first.")
    name = "tagcheck: " + ("a finding" if "finding" in request.form else in_words(view))[:80]
    shown = library.open_page(hashes, name)
    gone = f"; {len(hashes) - len(shown):,} are not there any more" if len(shown) < len(hashes) else ""
    return _answer(f"{words.plural(len(shown), 'picture')} opened in a new page: {name}{gone}.")


@blueprint.post("/relate")
def relate() -> Response | dict[str, Any]:
    """Tell the library what one pair, or every pair of the view, is (`kind`); it keeps what was judged there.

    A whole view comes with the number of pairs that was shown (`expect`): it may have changed since.
    """
    library = _able("set_relationship")
    kind = request.form.get("kind", POTENTIAL_DUPLICATES)
    if kind not in KINDS:
        abort(400, f"There is no such judgement; there are {', '.join(KINDS)}.")
    pairs = [(one, other) for one, other in _asked() if other]
    if not pairs:
        abort(400, "There is no pair in this view.")
    if "finding" not in request.form and request.form.get("expect", type=int) != len(pairs):
        abort(
            409,
            f"Since you looked, this view has changed: it holds {words.plural(len(pairs), 'pair')} now. Nothing was pushed.",
        )
    told = library.set_relationship(pairs, kind)
    kept = len(pairs) - len(told)
    return _answer(
        f"{words.plural(len(told), 'pair')} handed over as {kind}"
        + (f"; {kept:,} left as they are, judged there already or not there any more." if kept else ".")
    )


def abilities() -> dict[str, Any]:
    """What the library offers beyond tags: whether it can `open` pictures, and as what pairs can be handed over (`relate`).
    Nothing while it cannot be opened.
    """
    try:
        library = state.shared().library()
    except ToolError:
        return {"open": False, "relate": ()}
    return {"open": hasattr(library, "open_page"), "relate": KINDS if hasattr(library, "set_relationship") else ()}


def _able(what: str) -> Library | Any:
    library = state.shared().library()
    if not hasattr(library, what):
        abort(400, "This library cannot do that.")
    return library


def _asked() -> list[tuple[str, str]]:
    """(hash, other or "") of the finding that the form names, else of all that its view holds."""
    if (id := request.form.get("finding")) is None:
        return queries.pictures_of(review(), from_query(request.args))
    found = queries.load(review(), [id])
    if not found:
        abort(404, "This finding is not in the newest reports any longer. Go back to the list.")
    return [(found[0].hash, found[0].other)]


def _answer(message: str) -> Response | dict[str, Any]:
    if request.accept_mimetypes.best == "application/json":
        return {"message": message, "ok": True}
    flash(message)
    query = to_query(from_query(request.args))
    if "finding" in request.form:
        return redirect(url_for("views.card", **query, at=request.form["finding"]), 303)
    return redirect(url_for("views.findings", **query, view=request.args.get("view")), 303)
