"""Handing a view over to the library's own program, where it takes it: a page of these pictures, pairs to judge as duplicates."""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any, cast

from flask import Blueprint, abort, request
from werkzeug.wrappers import Response

from tagcheck.library.hydrus.client import Hydrus
from tagcheck.library.protocol import ALTERNATES, DUPLICATES, FALSE_POSITIVES, POTENTIAL_DUPLICATES
from tagcheck.plural import plural
from tagcheck.review import Review, queries
from tagcheck.review.store import ACCEPTED, IGNORED, PAIR
from webapp import cards, state
from webapp.answers import go, place, table, to_script
from webapp.filters import QUEUE_WORDS, from_query, in_words, to_query
from webapp.state import review
from webapp.views import reported

MOST = 20_000  # pictures on one page of the library's program
NAMED = 3  # pairs that are named

blueprint = Blueprint("sharing", __name__, url_prefix="/error-review")


@blueprint.post("/open")
def open_page() -> Response | dict[str, Any]:
    """Open the pictures of one finding (`finding`), or of the whole view, in a new page of the library's program."""
    library = _able("open_page")
    view = from_query(request.args)
    hashes = list(dict.fromkeys(hash for pictures in _asked() for hash in pictures))
    if len(hashes) > MOST:
        abort(400, f"These are {len(hashes):,} pictures, a page takes {MOST:,}: narrow the view first.")
    name = "tagcheck: " + ("a finding" if "finding" in request.form else in_words(view))[:80]
    shown = library.open_page(hashes, name)
    gone = f"; {len(hashes) - len(shown):,} are not there any more" if len(shown) < len(hashes) else ""
    return _answer(f"{plural(len(shown), 'picture')} opened in a new page: {name}{gone}.")


@blueprint.post("/relate")
def relate() -> Response | dict[str, Any]:
    """Tell the library what one pair, or every pair of the view (`expect` were shown), is (`kind`)."""
    library = _able("set_relationship")
    kind = request.form.get("kind", POTENTIAL_DUPLICATES)
    if kind not in state.RELATIONS:
        abort(400, f"There is no such judgement; there are {', '.join(state.RELATIONS)}.")
    pairs = [pair for pictures in _asked() for pair in _pairs(pictures)]
    if not pairs:
        abort(400, "There is no pair in this view.")
    if "finding" not in request.form and request.form.get("expect", type=int) != len(pairs):
        now = f"it holds {plural(len(pairs), 'pair')} now"
        abort(409, f"Since you looked, this view has changed: {now}. Nothing was pushed.")
    told = library.set_relationship(pairs, kind)
    left = sorted(set(pairs) - set(told))
    words_left = f"; {len(left):,} left as they are, {_why_left(library, left)}" if left else "."
    settled = _settle(kind) if "finding" in request.form else ""
    return _answer(f"{settled}{plural(len(told), 'pair')} handed over as {kind}{words_left}")


def _pairs(pictures: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each pair of a small group; of a large one the first with each other, which says the same."""
    if len(pictures) > len(cards.LETTERS):
        return [(pictures[0], other) for other in pictures[1:]]
    return list(combinations(pictures, 2))


def _why_left(library: Hydrus, pairs: list[tuple[str, str]]) -> str:
    """Why the library's program has not taken pairs over: judged there, waiting there to be judged, gone, or not kept."""
    here = {row.hash for row in library.files([hash for pair in pairs for hash in pair]) if row.status == "ok"}
    reasons: Counter[str] = Counter()
    refused = []
    for pair, found in zip(pairs, library.judged(pairs), strict=True):
        if found is not None:
            judged = POTENTIAL_DUPLICATES if found == POTENTIAL_DUPLICATES else "judged"
            reasons[f"{judged} there already"] += 1
        elif here.issuperset(pair):
            refused.append(pair)
        else:
            reasons["not there any more"] += 1
    if refused:
        named = ", ".join(f"{one[:10]} and {other[:10]}" for one, other in refused[:NAMED])
        more = f" and {len(refused) - NAMED:,} more" if len(refused) > NAMED else ""
        reasons[f"not kept there ({named}{more})"] = len(refused)
    alone = len(reasons) == 1
    return ", ".join(why if alone else f"{count:,} {why}" for why, count in reasons.items()) + "."


@blueprint.get("/worse-copies.<kind>")
def worse_copies(kind: str) -> Response:
    """Every copy that is not the best of its group, with the best one: a list for the owner's own hands; nothing is deleted here."""
    state.refresh(whole=True)
    path = state.settings().folder.review

    def rows() -> Iterator[tuple[str, ...]]:
        with Review(path) as store:
            for group in queries.copy_groups(store):
                best, why = queries.best_of(store, group)
                paths = {hash: str((queries.picture(store, hash) or {}).get("file_path") or "") for hash in group}
                yield from ((paths[hash], hash, paths[best], best, why) for hash in group if hash != best)

    return table(kind, "worse_copies", ("path", "hash", "best_path", "best_hash", "why"), rows())


def _settle(kind: str) -> str:
    """What the library was told about the pictures of a card answers the question here too."""
    state_of = {DUPLICATES: ACCEPTED, ALTERNATES: IGNORED, FALSE_POSITIVES: IGNORED}.get(kind)
    asks = [one.ask() for one in reported(request.form["finding"]).suggestions if one.key.action == PAIR]
    if state_of is None or not asks:
        return ""
    review().decide(asks, state_of, f"{QUEUE_WORDS[state_of]}: the pair, as {kind}")
    return f"{QUEUE_WORDS[state_of]}: the pair. "


def _able(what: str) -> Hydrus:
    library = state.shared().library()
    if not hasattr(library, what):
        abort(400, "This library cannot do that.")
    return cast(Hydrus, library)


def _asked() -> list[tuple[str, ...]]:
    """The pictures of the finding that the form names, else of each that its view holds."""
    if (id := request.form.get("finding")) is None:
        return queries.pictures_of(review(), from_query(request.args))
    return [reported(id).members]


def _answer(message: str) -> Response | dict[str, Any]:
    if to_script():
        return {"message": message, "ok": True}
    query = to_query(from_query(request.args))
    if "finding" in request.form:
        return go("views.card", message, **query, at=request.form["finding"])
    return go("views.findings", message, **query, **place())
