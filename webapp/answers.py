"""What a form is answered with: the next page and what happened for a person, numbers for the page's script."""

from typing import Any

from flask import flash, redirect, request, url_for
from werkzeug.wrappers import Response


def to_script() -> bool:
    """Whether the page's script asks, and not a form."""
    return bool(request.accept_mimetypes.best == "application/json")


def go(endpoint: str, message: str = "", **values: Any) -> Response:
    """Show a page, with what happened on it."""
    if message:
        flash(message)
    return redirect(url_for(endpoint, **values), 303)
