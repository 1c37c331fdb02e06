"""Who may talk to the page: requests for this machine's names, and forms that this page itself served.

Against another site that the owner's browser has open: the Host header must be a name of this
machine (DNS rebinding), a POST must come from this origin and carry the token of this browser's
session (CSRF), and the pages can neither be framed nor run a script that is not in static/.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, abort, request, session
from markupsafe import Markup

from tagcheck.review import Review

CSRF = "csrf"
POLICY = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
FILE_POLICY = "default-src 'none'; sandbox"
HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
HEADERS |= dict.fromkeys(
    ("Referrer-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy"), "same-origin"
)


def install(app: Flask, review: Review, host: str, place: str) -> None:
    """Guard an application. The session's secret is made once and kept in the store, so that forms survive a restart."""
    app.config.update(
        SECRET_KEY=review.secret("secret"),
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        PERMANENT_SESSION_LIFETIME=400 * 86400,
        # A late answer about a picture must not bring back the cookie of before a message was put into it.
        SESSION_REFRESH_EACH_REQUEST=False,
        # Browsers send a cookie to every port of a host: each data folder gets its own.
        SESSION_COOKIE_NAME="tagcheck_" + hashlib.sha256(place.encode()).hexdigest()[:8],
    )
    setattr(app, "wsgi_app", Hosts(app.wsgi_app, host))  # noqa: B010  as Flask documents it for middleware
    app.before_request(_check)
    app.after_request(_headers)
    app.context_processor(lambda: {"csrf": csrf_field})


class Hosts:
    """Answers requests for this machine's names alone, spelled as a browser spells them; nothing else ever looks at others."""

    def __init__(self, app: Callable[..., Iterable[bytes]], host: str) -> None:
        self.app, self.host = app, host

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        name = HOST.fullmatch(environ.get("HTTP_HOST") or environ.get("SERVER_NAME") or "")
        if name and trusted(name[1], self.host) and environ.get("QUERY_STRING", "").isascii():
            return self.app(environ, start_response)
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
        start_response("400 Bad Request", headers)
        return [b"This page answers to localhost only. Open it by the address that it printed at its start.\n"]


def token() -> str:
    """What this browser's session is known by, and its forms carry; made at first."""
    if CSRF not in session:
        session[CSRF] = secrets.token_hex(16)
        session.permanent = True
    return str(session[CSRF])


def csrf_field() -> Markup:
    """The field with the token that this browser's forms carry."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(token())


def trusted(name: str, host: str) -> bool:
    """Whether a Host header's name (without port) may be asked for when serving on `host`.

    An address in numbers cannot be rebound, so where the owner serves to the network every such
    address is fine; a name must be one of this machine's.

    >>> trusted("localhost", "127.0.0.1"), trusted("evil.example", "127.0.0.1"), trusted("192.168.1.7", "127.0.0.1")
    (True, False, False)
    >>> trusted("192.168.1.7", "0.0.0.0"), trusted("evil.example", "0.0.0.0")
    (True, False)
    """
    name = name.lower().strip("[]")
    if name in ("localhost", "127.0.0.1", "::1", host.lower()):
        return True
    if is_loopback(host):
        return False
    if name == socket.gethostname().lower():
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether an address to serve on reaches this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check() -> None:
    if request.method in ("GET", "HEAD"):
        return
    here = request.host_url.rstrip("/")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    if request.headers.get("Origin", here) != here or site != "same-origin":
        abort(403, "This came from another site and was not done.")
    given = request.form.get(CSRF) or request.headers.get("X-CSRF-Token", "")
    if not hmac.compare_digest(given.encode(), session.get(CSRF, "").encode()) or not given:
        other = "This form was opened in another session (are cookies off?)"
        abort(403, f"{other}. Nothing was done: reload the page and try again.")


def _headers(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.update(HEADERS)
    return response
