"""What a request is answered with: the next page and what happened for a person, numbers for the page's script, files to keep."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from flask import abort, current_app, redirect, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from tagcheck.review import Filter, Review
from tagcheck.review.exporting import KINDS, as_csv, as_json
from webapp.security import token

MESSAGES = 20  # that wait for a browser at most
BEFORE = "Previous card: "  # before what is said of it beside the next one


def to_script() -> bool:
    """Whether the page's script asks, and not a form."""
    return bool(request.accept_mimetypes.best == "application/json")


def go(endpoint: str, message: str = "", of: str | None = None, **values: Any) -> Response:
    """Show a page, with what happened on it, or on the card `of` that finding."""
    tell(message, of=of or "")
    return redirect(url_for(endpoint, **values), 303)


def back() -> str:
    """The address of the page that a form was sent from, as the browser says; else the overview's."""
    came = urlsplit(request.referrer or "")
    pages = current_app.create_url_adapter(request)
    with suppress(HTTPException):
        if pages and came.netloc == request.host and pages.match(came.path, "GET"):
            return urlunsplit(("", "", *came[2:]))
    return url_for("views.overview")


def tell(*messages: str, of: str = "") -> None:
    """Have the next page of this browser say these. They are kept here: a cookie of more than 4 kB is lost, with what it said."""
    waiting: dict[str, deque[tuple[str, str]]] = current_app.extensions["tagcheck_messages"]
    waiting.setdefault(token(), deque(maxlen=MESSAGES)).extend((one, of) for one in messages if one)


def told(shown: str = "") -> Sequence[str]:
    """What waits to be said to this browser, once. Beside the card of the finding `shown`, what is of another card says so."""
    waiting: dict[str, deque[tuple[str, str]]] = current_app.extensions["tagcheck_messages"]
    return [BEFORE + text if shown and of not in ("", shown) else text for text, of in waiting.pop(token(), ())]


def place() -> dict[str, str | None]:
    """Where on the list or grid of a view its owner is, for the address that leads back there."""
    return {name: request.args.get(name) for name in ("view", "after", "before")}


def table(kind: str, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """The rows, with a value for each of `columns`, as CSV for spreadsheets or as JSON for programs."""
    if kind not in ("csv", "json"):
        abort(404, "There is an export as CSV and one as JSON.")
    found = (dict(zip(columns, row)) for row in rows)
    return _file(f"{name}_", kind, as_csv(columns, found) if kind == "csv" else as_json(found))


def view_as_file(kind: str, path: Path, view: Filter) -> Response:
    """The suggestions of a view in the store at `path`, as one of `KINDS`."""
    if kind not in KINDS:
        abort(404, f"There is an export as {', '.join(KINDS)}.")
    ending, text = KINDS[kind]

    def lines() -> Iterator[str]:
        with Review(path) as store:  # the request's own is closed when the first line goes out
            yield from text(store, view)

    return _file("findings_", ending, lines())


def _file(name: str, ending: str, lines: Iterator[str]) -> Response:
    """A file named after what it holds and the time."""
    response = Response(lines, mimetype="text/csv; charset=utf-8" if ending == "csv" else "application/json")
    response.headers["Content-Disposition"] = f"attachment; filename={name}{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{ending}"
    return response
