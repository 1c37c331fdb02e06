"""One HTTP connection to a Hydrus client's API: timeouts, sizes, shapes, key, waiting, status codes turned into errors.

Everything that is sent to Hydrus goes through `Connection.request`, and everything that comes back through one reader: so
many bytes at most, in so much time at most, not compressed, and JSON in the shape that is known of it (`hydrus.shapes`).
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationValueError, NewConnectionError, ReadTimeoutError
from urllib3.exceptions import SSLError as Insecure
from urllib3.util import ssl_
from urllib3.util.ssl_match_hostname import CertificateError, match_hostname

from tagcheck.errors import LibraryRefused, LibraryUnreachable, UsageError
from tagcheck.json_files import Wrong, anything
from tagcheck.library.hydrus.shapes import ANSWERS

KEY_HEADER = "Hydrus-Client-API-Access-Key"
TIMEOUT = (5.0, 120.0)  # seconds to connect, and until an answer begins: page calls wait for the GUI
HURRIED = (1.5, 4.0)  # the same where a person waits for a page
BODY_SECONDS = 30.0  # that an answer may take once it has begun, and a second more for each `SLOWEST` bytes
SLOWEST = 100_000
MOMENT = 0.2  # seconds until a client that failed once is asked once more; nobody minds waiting so long
AWAY_SECONDS = 3.0  # at most, that a client which was waited for in vain is not asked again, where a person waits
FIRST_PATIENCE = 1.5  # seconds to keep trying a client that has never answered: most likely it is not running
LARGEST_JSON = 192 * 2**20  # a search that finds two million files is 140 MB
LARGEST_FILE = 2 * 2**30
PIECE = 2**18
KEPT_OPEN = 32  # connections at the most: more than threads that ask at once

TOO_LONG = (413, 414, 431)  # what a reverse proxy says to a long address; Hydrus itself takes 2 MiB
NO_ADDRESS = "is not a web address: it looks like http://localhost:45869"
FAILED = "API connection failed"  # begins every message about a client that cannot be reached

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
CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# How web servers say that http came to their TLS port.
TO_TLS = re.compile(rb"HTTPS (?:port|server)|SSL-enabled", re.IGNORECASE)
CA_BUNDLE = "HYDRUS_CA_BUNDLE"  # the file of the certificate that a client on another machine signed itself
WHERE_KEYS_ARE = "in Hydrus: services > review services > local > client api, edit the key"


class HydrusSaysNo(LibraryRefused):
    """Hydrus answered with an error, or what cannot be read. `status` is the HTTP status, `says` Hydrus' own words."""

    def __init__(self, message: str, status: int, says: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.says = says


@contextmanager
def tolerating(*statuses: int) -> Iterator[None]:
    """Leave the block without an error where Hydrus answers with one of these statuses."""
    try:
        yield
    except HydrusSaysNo as error:
        if error.status not in statuses:
            raise


@dataclass(frozen=True)
class Answer:
    """One answer, read whole."""

    status_code: int
    reason: str
    headers: Mapping[str, str]
    content: bytes


class Connection:
    """Requests to one Hydrus client.

    `patience` is how many seconds to go on trying when a client that has answered before is gone
    (restarting) or answers 503 (its database is locked); `tell` gets one line when waiting begins; `timeout` is (seconds to
    connect, seconds until an answer begins), `TIMEOUT` where none is given.
    Safe to use from several threads. Proxies, certificates and .netrc from the environment are not used and redirects are
    not followed, so that the key goes to the named address only. A password in the address is sent there and never shown (`url` is without it).
    """

    def __init__(
        self,
        url: str,
        key: str,
        patience: float = 60.0,
        tell: Callable[[str], None] | None = None,
        timeout: tuple[float, float] | None = None,
    ) -> None:
        self._address = _base_url(url)
        self.url = shown_address(self._address)
        self.patience = patience
        self.tell = tell or (lambda message: None)
        self._key = key.strip()
        self._timeout = timeout
        self._answered = False
        self._away: tuple[float, str] = (0.0, "")

    def impatient(self) -> Connection:
        """Another connection to the same client, for what nobody should wait for: one try."""
        return Connection(self._address, self._key, 0.0, self.tell)

    def hurried(self) -> Connection:
        """Another connection to the same client, for what a person waits for: one short try, and none for as long as that took in vain."""
        return Connection(self._address, self._key, 0.0, self.tell, HURRIED)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The JSON answer to a GET. Values that are not text are sent as JSON, as the API wants them (`false`, `["a"]`).

        Where the client fails once (500, or an answer that is cut), it is asked once more, unless a person waits.
        """
        try:
            return self._json(path, self.request("GET", path, query=query))
        except HydrusSaysNo as error:
            if not self.patience or HTTPStatus.MULTIPLE_CHOICES <= error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            self.tell(f"Hydrus failed once ({error.says}); asking once more")
            time.sleep(MOMENT)
        return self._json(path, self.request("GET", path, query=query))

    def post(self, path: str, body: Mapping[str, Any], repeat: bool = True) -> dict[str, Any] | None:
        """The JSON answer to a POST, or None for the bodyless 200 that most POSTs give whatever happened."""
        answer = self.request("POST", path, body=body, repeat=repeat)
        return self._json(path, answer) if answer.content else None

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        repeat: bool = True,
        most: int = LARGEST_JSON,
    ) -> Answer:
        """One answered request, of `most` bytes at most. Waits out a client that is restarting or locked.

        `repeat=False` for what must not happen twice: it is then sent again only if it cannot have
        arrived. Raises `LibraryUnreachable`, or `HydrusSaysNo` for any status but 200 and 206.
        """
        params = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (query or {}).items()}
        began = time.monotonic()
        if began < self._away[0]:
            raise LibraryUnreachable(self._away[1])
        try:
            return self._answered_well(method, path, params, body, repeat, most)
        except LibraryUnreachable as error:
            now = time.monotonic()
            if self._timeout == HURRIED and now - began > MOMENT:  # what is refused at once may be asked again at once
                self._away = (now + min(AWAY_SECONDS, now - began), str(error))
            raise

    def _answered_well(
        self, method: str, path: str, params: Mapping[str, str], body: Mapping[str, Any] | None, repeat: bool, most: int
    ) -> Answer:
        """The answer, as `request` has it, of a client that is asked until it answers or patience ends."""
        until, pause = None, 0.2
        while True:
            answer, trouble = self._once(method, path, params, body, repeat, most)
            if answer is not None and answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                self._answered = True
                if answer.status_code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                    return answer
                says = _words(answer)
                raise HydrusSaysNo(self._what_it_means(path, answer, says), answer.status_code, says)
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
        self, method: str, path: str, params: Mapping[str, str], body: Mapping[str, Any] | None, repeat: bool, most: int
    ) -> tuple[Answer | None, str]:
        """The answer to one try, or None where trying again makes sense; and what is wrong, in words."""
        sent: dict[str, Any] = {"redirect": False, "preload_content": False, "decode_content": False}
        if body is None:
            sent["fields"] = params
        else:
            headers = {**self._pool.headers, "Content-Type": "application/json"}
            sent |= {"body": json.dumps(body).encode("utf-8"), "headers": headers}
        timeout = self._timeout or TIMEOUT
        sent["timeout"] = urllib3.Timeout(connect=timeout[0], read=timeout[1])
        try:
            with closing(self._pool.request(method, self._address + path, **sent)) as answer:
                content = self._body(answer, most, timeout)
        except Insecure as error:
            raise LibraryUnreachable(f"{FAILED}: {self._insecure(error)}") from None
        except LocationValueError:
            raise UsageError(f"API_URL {self.url!r} {NO_ADDRESS}") from None
        except (ReadTimeoutError, TimeoutError):
            late = f"Hydrus at {self.url} took the request and did not answer within {timeout[1]:.0f} s"
            raise LibraryUnreachable(f"{FAILED}: {late}") from None
        except HTTPError as error:
            if isinstance(error, (ConnectTimeoutError, NewConnectionError)):  # nothing can have been done
                mute = isinstance(error, ConnectTimeoutError) and self.url.startswith("https") and not self._answered
                return None, f"no Hydrus answers at {self.url}{' (does it want http:// in API_URL?)' if mute else ''}"
            if not repeat:
                broke = f"Hydrus at {self.url} broke off while it was answering"
                raise LibraryUnreachable(f"{broke}: look there whether it was done") from None
            secure = "" if self._answered or self.url.startswith("https") else " (does it want https:// in API_URL?)"
            return None, f"Hydrus at {self.url} broke off{secure}"
        return content, f"Hydrus at {self.url} is busy (its database is locked)"

    def _body(self, answer: urllib3.BaseHTTPResponse, most: int, timeout: tuple[float, float]) -> Answer:
        """The answer, read whole: within its size and its time, and as it is (Hydrus compresses nothing)."""
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            compressed = f"what answers at {self.url} is compressed, which no Hydrus client does"
            raise LibraryRefused(f"{compressed}: check API_URL, and what is in between")
        announced = answer.headers.get("Content-Length", "")
        began, received, parts = time.monotonic(), 0, []
        too_much = announced.isdecimal() and int(announced) > most
        while not too_much and (part := answer.read1(PIECE)):
            parts.append(part)
            received += len(part)
            too_much = received > most
            if time.monotonic() - began > min(BODY_SECONDS, timeout[1]) + received / SLOWEST:
                raise TimeoutError
        if too_much:
            raise LibraryRefused(f"what answers at {self.url} sends more than {most / 1e6:,.0f} MB: check API_URL")
        return Answer(answer.status, answer.reason or "", answer.headers, b"".join(parts))

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        """The open connections, and what is sent with each request."""
        if not (self._key.isascii() and self._key.isprintable()):
            raise LibraryRefused(f"the API key holds characters that no key has: {_SET_THE_KEY}")
        headers = {KEY_HEADER: self._key, "Accept-Encoding": "identity"}
        login, found, _ = urlsplit(self._address).netloc.rpartition("@")
        if found:
            headers |= urllib3.make_headers(basic_auth=unquote(login))
        trusted = _bundle() or DEFAULT_CA_BUNDLE_PATH
        named: dict[str, Any] = {"ca_cert_dir" if os.path.isdir(trusted) else "ca_certs": trusted}
        pool = urllib3.PoolManager(
            maxsize=KEPT_OPEN, headers=headers, retries=False, cert_reqs=ssl.CERT_REQUIRED, **named
        )
        pool.pool_classes_by_scheme = {"http": _WatchedPool, "https": _WatchedSecurePool}
        return pool

    def _insecure(self, error: Insecure) -> str:
        """What is wrong with https at this address."""
        found = _cause(error)
        why = getattr(found, "verify_message", "") or getattr(found, "reason", "") or str(found)
        if not isinstance(found, (ssl.SSLCertVerificationError, CertificateError)):
            return f"nothing at {self.url} speaks an https that is known here ({why}): try http:// in API_URL"
        bundle = _bundle()
        shown = f"the certificate at {self.url} is not"
        if bundle:
            other = f"{shown} the one in {CA_BUNDLE} ({bundle}): {why}"
            return f"{other}. Name the file of the certificate that this client shows"
        way_out = f"name the certificate's file in {CA_BUNDLE}, or use http:// on the same machine"
        return f"{shown} a trusted one ({why}): {way_out}"

    def _json(self, path: str, answer: Answer) -> dict[str, Any]:
        document = _parsed(answer.content)
        if document is None and "Hydrus-Server" in answer.headers:
            cut = f"its answer to {path} is cut or damaged"
            raise HydrusSaysNo(f"Hydrus at {self.url}: {cut}. Run this again", answer.status_code, cut)
        if not isinstance(document, dict):
            raise LibraryRefused(f"what answers at {self.url} is not a Hydrus client API: check API_URL")
        try:
            ANSWERS.get(path, anything)(document)
        except Wrong as error:
            other = f"what answers at {self.url} to {path} is not what Hydrus answers ({error})"
            raise LibraryRefused(f"{other}: check API_URL") from None
        return document

    def _what_it_means(self, path: str, answer: Answer, says: str) -> str:
        """An answer that is an error, with the way out."""
        status = answer.status_code
        if 300 <= status < 400:
            where = shown_address(answer.headers.get("Location", ""))
            return f"{self.url} sends elsewhere ({where}): put the final address in API_URL"
        if "Hydrus-Server" not in answer.headers and status == HTTPStatus.BAD_REQUEST and TO_TLS.search(answer.content):
            return f"what answers at {self.url} wants https: write https:// in API_URL"
        if "Hydrus-Server" not in answer.headers:
            return f"what answers at {self.url} is not a Hydrus client API (HTTP {status}): check API_URL"
        if status == HTTPStatus.FORBIDDEN and path != "/verify_access_key":
            return self._why_forbidden(says)
        unknown = status == HTTPStatus.BAD_REQUEST and KEY_HEADER in says
        if unknown or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return f"{FAILED}: Hydrus at {self.url} does not know this API key: {_SET_THE_KEY}"
        if status == HTTPStatus.BAD_REQUEST and "search results are no longer available" in says:
            return self._sees_some_files(says)
        return f"Hydrus answered {status} to {path}: {says}"

    def _why_forbidden(self, says: str) -> str:
        """403 is an unknown key, a missing permission, or a key that may see some files only."""
        key = f"the API key {self.get('/verify_access_key').get('name')!r}"
        if lacking := re.search(r"permission to: (.+)", says):
            return f'{key} lacks the permission "{lacking[1]}": {WHERE_KEYS_ARE}'
        if some := re.search(r"at least one (?:of )?these permissions: (.+)", says):
            return f"{key} needs one of the permissions {some[1]}: {WHERE_KEYS_ARE}"
        return self._sees_some_files(says)

    def _sees_some_files(self, says: str) -> str:
        """A key with a tag filter is answered 403, or 400 for files that it has not searched for."""
        cannot = f"the API key {self.get('/verify_access_key').get('name')!r} may not see all of this ({says})"
        return f"{cannot}: give it a search permission without a tag filter, {WHERE_KEYS_ARE}"


_SET_THE_KEY = "set HYDRUS_API_KEY or API_KEY in config.py to a key made in Hydrus under services > review services > local > client api"


class _WatchedConnection(HTTPConnection):
    """A connection whose answer has to begin in time as a whole: a timeout of the socket alone begins anew with each byte."""

    def getresponse(self) -> Any:
        seconds = self.timeout if isinstance(self.timeout, (int, float)) else None
        if seconds is None or self.sock is None:
            return super().getresponse()
        cut = threading.Event()

        def end(sock: socket.socket) -> None:
            cut.set()
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        watch = threading.Timer(seconds, end, [self.sock])
        watch.daemon = True
        watch.start()
        try:
            return super().getresponse()
        finally:
            watch.cancel()
            if cut.is_set():  # whatever the end looked like: an error, or headers that seem to be all
                raise TimeoutError


class _WatchedSecureConnection(_WatchedConnection, HTTPSConnection):
    """The same for https. A certificate that is itself in the owner's bundle is taken at any address, since Hydrus makes its own
    for the name "localhost" alone, wherever it runs.
    """

    def connect(self) -> None:
        self.assert_hostname = False  # it is looked at here
        self.ssl_context = self.ssl_context or ssl_.create_urllib3_context()
        if (
            _bundle()
        ):  # what its owner named is trusted by itself, whatever it lacks that Python 3.13 asks of authorities
            self.ssl_context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        try:
            super().connect()
        except TimeoutError:  # in the handshake: nothing was asked yet, and a plain port of Hydrus waits for more
            raise ConnectTimeoutError("the handshake was not answered") from None
        assert isinstance(self.sock, ssl.SSLSocket)
        if self.sock.getpeercert(binary_form=True) not in _certificates(_bundle()):
            match_hostname(self.sock.getpeercert() or {}, self.host.strip("[]").rstrip("."))  # type: ignore[arg-type]


class _WatchedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _WatchedSecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _WatchedSecureConnection


def _bundle() -> str | None:
    """The file that HYDRUS_CA_BUNDLE names, None for none. Raises `UsageError` for one without certificates."""
    named = os.environ.get(CA_BUNDLE, "").strip()
    path = os.path.expanduser(named)
    if not os.path.exists(path):
        if named:
            raise UsageError(f"{CA_BUNDLE}: there is no file {named}")
        return None
    if os.path.isfile(path):
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:  # of the file, or what OpenSSL says of it
            why = error.strerror if not isinstance(error, ssl.SSLError) else "no BEGIN CERTIFICATE in it"
            raise UsageError(f"{CA_BUNDLE}: {named} is not a certificate in PEM form ({why})") from None
    return path


def _certificates(bundle: str | None) -> set[bytes]:
    """Every certificate in a file, as it is sent."""
    if bundle is None or not os.path.isfile(bundle):
        return set()
    with open(bundle, encoding="latin-1") as file:
        return {ssl.PEM_cert_to_DER_cert(one) for one in CERTIFICATE.findall(file.read())}


def shown_address(url: str) -> str:
    """An address without the name and password that it may hold.

    >>> shown_address("http://me:secret@localhost:45869"), shown_address("me:secret@host")
    ('http://localhost:45869', 'host')
    """
    return re.sub(r"^(\w+://)?[^/?#]*@", r"\1", url)


def _base_url(url: str) -> str:
    """`url` with a scheme and without slashes at its end: Hydrus gives an HTML 404 to `//api_version`."""
    url = url.strip()
    if not url:
        raise UsageError(f"API_URL is empty, which {NO_ADDRESS}")
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, half a bracket
        good = False
    if not good or parts.query or parts.fragment:
        shown = shown_address(url.rstrip("/")).partition("?")[0].partition("#")[0]
        raise UsageError(f"API_URL {shown!r} {NO_ADDRESS}")
    return urlunsplit(parts).rstrip("/")


def _cause(error: BaseException) -> BaseException:
    """The error that others were made from."""
    inner = [getattr(error, "reason", None), *error.args[:1]]
    return next((_cause(one) for one in inner if isinstance(one, BaseException)), error)


def _parsed(content: bytes) -> Any:
    """The JSON of an answer, None for what is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _words(answer: Answer) -> str:
    """Hydrus' own message, first line only (a 500 has a whole traceback)."""
    document = _parsed(answer.content)
    says = document.get("error") if isinstance(document, dict) else None
    return str(says).strip().partition("\n")[0][:300] if says else answer.reason
