"""One HTTP connection to a Hydrus client's API: timeout, key, waiting, status codes turned into errors.

Everything that is sent to Hydrus goes through `Connection.request`. What each answer means was
found on a running client (v682, API 95); docs/decisions/hydrus.md has the short account.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import NewConnectionError

from tagcheck.errors import LibraryRefused, LibraryUnreachable, UsageError

KEY_HEADER = "Hydrus-Client-API-Access-Key"
TIMEOUT = (5.0, 120.0)  # seconds to connect, and between two bytes of an answer: page calls wait for the GUI
FIRST_PATIENCE = 1.5  # seconds to keep trying a client that has never answered: most likely it is not running

OK = 200
PARTIAL = 206
BAD_REQUEST = 400
NO_KEY = 401
FORBIDDEN = 403
NOT_FOUND = 404
TOO_LONG = (413, 414, 431)  # what a reverse proxy says to a long address; Hydrus itself takes 2 MiB
BUSY = 503
FAILED = "API connection failed"  # begins what is said where no talk with Hydrus comes about

# The names that Hydrus shows for the permissions of a key.
SEARCH, EDIT_TAGS, PAGES, DATABASE, RELATIONSHIPS, POPUPS = 3, 2, 4, 6, 8, 10
PERMISSIONS = {
    EDIT_TAGS: "edit file tags",
    SEARCH: "search for and fetch files",
    PAGES: "manage pages",
    DATABASE: "manage database",
    RELATIONSHIPS: "edit file relationships",
    POPUPS: "manage popups",
}
WHERE_KEYS_ARE = "in Hydrus: services > review services > local > client api, edit the key"


class HydrusSaysNo(LibraryRefused):
    """Hydrus answered with an error. `status` is the HTTP status, `says` Hydrus' own words."""

    def __init__(self, message: str, status: int, says: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.says = says


class Connection:
    """Requests to one Hydrus client.

    `patience` is how many seconds to go on trying when a client that has answered before is gone
    (restarting) or answers 503 (its database is locked); `tell` gets one line when waiting begins.
    Safe to use from several threads: each has its own keep-alive session. Proxies, certificates
    and .netrc from the environment are not used and redirects are not followed, so that the key
    goes to the named address only.
    """

    def __init__(self, url: str, key: str, patience: float = 60.0, tell: Callable[[str], None] | None = None) -> None:
        self.url = _base_url(url)
        self.patience = patience
        self.tell = tell or (lambda message: None)
        self._key = key.strip()
        self._local = threading.local()
        self._answered = False

    def impatient(self) -> Connection:
        """Another connection to the same client, for what nobody should wait for: one try."""
        return Connection(self.url, self._key, 0.0, self.tell)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The JSON answer to a GET. Values that are not text are sent as JSON, as the API wants them (`false`, `["a"]`)."""
        return self._json(self.request("GET", path, query=query))

    def post(self, path: str, body: Mapping[str, Any], repeat: bool = True) -> dict[str, Any] | None:
        """The JSON answer to a POST, or None for the bodyless 200 that most POSTs give whatever happened."""
        answer = self.request("POST", path, body=body, repeat=repeat)
        return self._json(answer) if answer.content else None

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        repeat: bool = True,
    ) -> requests.Response:
        """One answered request. Waits out a client that is restarting or locked.

        `repeat=False` for what must not happen twice: it is then sent again only if it cannot have
        arrived. Raises `LibraryUnreachable`, or `HydrusSaysNo` for any status but 200 and 206.
        """
        params = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (query or {}).items()}
        until, pause = None, 0.2
        while True:
            answer, trouble = self._once(method, path, params, body, repeat)
            if answer is not None and answer.status_code != BUSY:
                self._answered = True
                if answer.status_code in (OK, PARTIAL):
                    return answer
                raise self._error(path, answer)
            if until is None:
                patience = self.patience if answer is not None or self._answered else min(self.patience, FIRST_PATIENCE)
                until = time.monotonic() + patience
                if patience > FIRST_PATIENCE:
                    self.tell(f"{trouble}; trying again for up to {patience:.0f} s")
            if time.monotonic() + pause > until:
                raise LibraryUnreachable(
                    f"{FAILED}: {trouble}: start Hydrus, or wait until it is free, and run this again"
                )
            time.sleep(pause)
            pause = min(pause * 2, 4.0)

    def _once(
        self, method: str, path: str, params: Mapping[str, str], body: Mapping[str, Any] | None, repeat: bool
    ) -> tuple[requests.Response | None, str]:
        """The answer to one try, or None where trying again makes sense; and what is wrong, in words."""
        data = None if body is None else json.dumps(body).encode("utf-8")
        headers = {"Content-Type": "application/json"} if data is not None else {}
        try:
            answer = self._session().request(
                method,
                self.url + path,
                params=params,
                data=data,
                headers=headers,
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        except requests.exceptions.InvalidHeader:
            raise LibraryRefused(f"the API key holds characters that no key has: {_SET_THE_KEY}") from None
        except requests.exceptions.SSLError:
            raise LibraryUnreachable(
                f"{FAILED}: the certificate at {self.url} is not a trusted one: use http:// on the same machine"
            ) from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
            raise UsageError(f"API_URL {self.url!r} is no web address: it looks like http://localhost:45869") from None
        except requests.exceptions.ReadTimeout:
            raise LibraryUnreachable(
                f"{FAILED}: Hydrus at {self.url} took the request and did not answer within {TIMEOUT[1]:.0f} s"
            ) from None
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            self._drop_session()
            if not repeat and not _never_sent(error):
                raise LibraryUnreachable(
                    f"Hydrus at {self.url} broke off while it was answering: look there whether it was done"
                ) from None
            return None, f"no Hydrus answers at {self.url}" if _never_sent(error) else f"Hydrus at {self.url} broke off"
        return answer, f"Hydrus at {self.url} is busy (its database is locked)"

    def _session(self) -> requests.Session:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False
            session.headers[KEY_HEADER] = self._key
        return session

    def _drop_session(self) -> None:
        self._session().close()
        del self._local.session

    def _json(self, answer: requests.Response) -> dict[str, Any]:
        try:
            document = answer.json()
        except requests.exceptions.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise LibraryRefused(f"what answers at {self.url} is not a Hydrus client API: check API_URL")
        return document

    def _error(self, path: str, answer: requests.Response) -> LibraryRefused:
        status, says = answer.status_code, _words(answer)
        if 300 <= status < 400:
            return HydrusSaysNo(
                f"{self.url} sends elsewhere ({answer.headers.get('Location')}): put the final address in API_URL",
                status,
            )
        if "Hydrus-Server" not in answer.headers:
            return HydrusSaysNo(
                f"what answers at {self.url} is not a Hydrus client API (HTTP {status}): check API_URL", status, says
            )
        if status == FORBIDDEN and path != "/verify_access_key":
            return HydrusSaysNo(self._why_forbidden(says), status, says)
        if status in (NO_KEY, FORBIDDEN) or (status == BAD_REQUEST and KEY_HEADER in says):
            return HydrusSaysNo(
                f"{FAILED}: Hydrus at {self.url} does not know this API key: {_SET_THE_KEY}", status, says
            )
        return HydrusSaysNo(f"Hydrus answered {status} to {path}: {says}", status, says)

    def _why_forbidden(self, says: str) -> str:
        """403 is an unknown key, a missing permission, or a key that may see some files only."""
        key = self.get("/verify_access_key")
        lacking = re.search(r"permission to: (.+)", says)
        if lacking:
            return f'the API key {key.get("name")!r} lacks the permission "{lacking[1]}": {WHERE_KEYS_ARE}'
        return f"the API key {key.get('name')!r} may not see all of this ({says}): give it a search permission without a tag filter, {WHERE_KEYS_ARE}"


_SET_THE_KEY = "set HYDRUS_API_KEY or API_KEY in config.py to a key made in Hydrus under services > review services > local > client api"


def _base_url(url: str) -> str:
    """`url` with a scheme and without slashes at its end: Hydrus gives an HTML 404 to `//api_version`."""
    url = url.strip()
    if "://" not in url:
        url = f"http://{url}"
    url = url.rstrip("/")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UsageError(f"API_URL {url!r} is no web address: it looks like http://localhost:45869")
    return url


def _never_sent(error: requests.exceptions.RequestException) -> bool:
    """True where no connection came about, so that nothing can have been done."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(cause, NewConnectionError)


def _words(answer: requests.Response) -> str:
    """Hydrus' own message, first line only (a 500 has a whole traceback)."""
    try:
        document = answer.json()
    except requests.exceptions.JSONDecodeError:
        return answer.reason or ""
    says = document.get("error") if isinstance(document, dict) else None
    return str(says).strip().partition("\n")[0][:300] if says else answer.reason or ""
