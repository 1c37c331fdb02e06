"""What can go wrong between this program and a Hydrus client, each with the words and the way out that its user gets."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hydrus_server
import pytest
import requests
import urllib3.connection
from hydrus_server import KEY_HEADER, MY_TAGS, REPOSITORY, Call, HydrusServer, Refusal
from urllib3.util import ssl_

from tagcheck.changes import TagChange
from tagcheck.errors import FileUnavailable, LibraryRefused, LibraryUnreachable, UsageError
from tagcheck.library.hydrus import connection
from tagcheck.library.hydrus import popup as hydrus_popup
from tagcheck.library.hydrus.client import CHUNK, Hydrus
from tagcheck.library.hydrus.connection import (
    EDIT_TAGS,
    PAGES,
    PERMISSIONS,
    POPUPS,
    RELATIONSHIPS,
    SEARCH,
    Connection,
    HydrusSaysNo,
)
from tagcheck.library.protocol import CURRENT, PENDING, PETITIONED, NoWrite, TagWrite

NUMBERED = {f"{number}.bin": (b"file %d" % number, [f"tag {number}"]) for number in range(8)}


@pytest.fixture
def server() -> Iterator[HydrusServer]:
    with HydrusServer(NUMBERED) as running:
        yield running
        assert running.alarms == running.refreshed == running.strays == running.committed == []


@pytest.fixture
def hydrus(server: HydrusServer) -> Hydrus:
    return Hydrus(server.url, server.key, patience=5)


@contextmanager
def web_server(answer: Callable[[BaseHTTPRequestHandler], None], secure: ssl.SSLContext | None = None) -> Iterator[str]:
    """Some other web server, whose every answer `answer` gives, maybe over TLS; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer(self)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            """Silent."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if secure is not None:
        running.socket = secure.wrap_socket(running.socket, server_side=True)
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}"
    finally:
        running.shutdown()
        running.server_close()


def say(request: BaseHTTPRequestHandler, status: int, body: str = "", **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body.encode())


# --- the client is away or busy -------------------------------------------------------------------------


def test_a_client_that_is_not_there_is_given_up_quickly() -> None:
    began = time.monotonic()
    with pytest.raises(LibraryUnreachable, match="no Hydrus answers at http://127.0.0.1:1: start Hydrus"):
        Hydrus("http://127.0.0.1:1", "").describe()
    assert time.monotonic() - began < 5


def test_a_client_that_restarts_in_mid_run_is_waited_for(server: HydrusServer) -> None:
    told: list[str] = []
    hydrus = Hydrus(server.url, server.key, tell=told.append)
    rows = hydrus.files(list(server.files))
    first = next(rows)
    server.stop()
    threading.Timer(0.6, server.start).start()
    assert hydrus.read(first.hash) == server.files[first.hash].data
    assert told == [f"no Hydrus answers at {server.url}; trying again for up to 60 s"]


def test_a_client_that_stays_away_is_given_up_after_a_while(server: HydrusServer) -> None:
    hydrus = Hydrus(server.url, server.key, patience=0.5)
    hydrus.describe()
    server.stop()
    with pytest.raises(LibraryUnreachable, match="no Hydrus answers at .*: start Hydrus"):
        hydrus.describe()


def test_a_locked_database_is_waited_for_and_then_named(server: HydrusServer) -> None:
    hydrus = Hydrus(server.url, server.key, patience=0.5)
    server.locked = True
    with pytest.raises(LibraryUnreachable, match="is busy .its database is locked.*wait until it is free"):
        hydrus.services()
    threading.Timer(0.2, lambda: setattr(server, "locked", False)).start()
    assert Hydrus(server.url, server.key).services()


def test_a_client_whose_window_is_busy_is_waited_for_and_then_named(
    server: HydrusServer, hydrus: Hydrus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions about pages are answered by the thread of the client's window."""
    server.before_answer = lambda call: time.sleep(0.5 if call.path.startswith("/manage_pages/") else 0)
    assert hydrus.walk(["dataset"]).pages
    monkeypatch.setattr(connection, "TIMEOUT", (5.0, 0.2))
    with pytest.raises(LibraryUnreachable, match="took the request and did not answer within 0 s"):
        hydrus.walk(["dataset"])


def broken_once(server: HydrusServer, path: str) -> list[Call]:
    """The server takes the next request for `path` and closes the connection without an answer."""
    seen: list[Call] = []

    def drop(call: Call) -> None:
        if call.path == path:
            seen.append(call)
            if len(seen) == 1:
                raise ConnectionResetError  # ends the connection

    server.before_answer = drop
    return seen


def test_a_broken_connection_is_tried_again_where_that_is_safe(server: HydrusServer, hydrus: Hydrus) -> None:
    seen = broken_once(server, "/add_tags/add_tags")
    hash = server.names["0.bin"]
    hydrus.write([TagWrite(hash, "hat", MY_TAGS, "absent", CURRENT)])
    assert len(seen) == 2 and server.stored(hash)["0"] == ["hat", "tag 0"]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, '{"error": "disk I/O error"}', "disk I/O error"),
        (200, '{"version": ', "its answer to /api_version is cut or damaged"),
    ],
)
def test_a_question_that_fails_once_is_asked_once_more(status: int, body: str, says: str, times: int) -> None:
    answers = [(status, body)] * times + [(200, '{"version": 95}')]
    told: list[str] = []
    with web_server(lambda request: say(request, *answers.pop(0), Hydrus_Server="client api")) as url:
        asked = Connection(url, "aa" * 32, tell=told.append)
        if times == 1:
            assert asked.get("/api_version")["version"] == 95
        else:
            with pytest.raises(LibraryRefused, match=says):
                asked.get("/api_version")
    assert told == [f"Hydrus failed once ({says}); asking once more"]


def test_a_page_is_never_opened_twice(server: HydrusServer, hydrus: Hydrus) -> None:
    hydrus.describe()
    seen = broken_once(server, "/manage_pages/new_page")
    with pytest.raises(LibraryUnreachable, match="broke off while it was answering: look there whether it was done"):
        hydrus.open_page(list(server.files), "findings")
    assert len(seen) == 1


# --- the key ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "lacking"),
    [
        (lambda hydrus, hash: hydrus.walk(["dataset"]), PAGES),
        (lambda hydrus, hash: list(hydrus.files([hash])), SEARCH),
        (lambda hydrus, hash: hydrus.read(hash), SEARCH),
        (lambda hydrus, hash: hydrus.plan([TagChange(hash, "hat", "add")]), EDIT_TAGS),
        (lambda hydrus, hash: hydrus.write([TagWrite(hash, "hat", MY_TAGS, "absent", CURRENT)]), EDIT_TAGS),
        (lambda hydrus, hash: hydrus.judged([(hash, hash)]), RELATIONSHIPS),
        (lambda hydrus, hash: hydrus.popup("x").__enter__(), POPUPS),
    ],
)
def test_the_permission_that_is_missing_is_named(server: HydrusServer, ask: Callable, lacking: int) -> None:
    hydrus = Hydrus(server.url, server.add_key("small", set(range(14)) - {lacking}))
    with pytest.raises(
        LibraryRefused,
        match=f"the API key 'small' lacks the permission \"{PERMISSIONS[lacking]}\": in Hydrus: services",
    ):
        ask(hydrus, server.names["0.bin"])


def test_a_key_without_any_permission_is_told_which_would_do(server: HydrusServer) -> None:
    hydrus = Hydrus(server.url, server.add_key("nothing", ()))
    with pytest.raises(
        LibraryRefused, match=r"'nothing' needs one of the permissions import and .*, search for and fetch"
    ):
        hydrus.describe()


def test_a_key_without_the_right_to_edit_tags_has_no_services_to_write_to(server: HydrusServer) -> None:
    hydrus = Hydrus(server.url, server.add_key("reader", [3, 4]))
    assert hydrus.services() == [] and hydrus.permissions() == ("reader", {3, 4})
    assert len(list(hydrus.files(list(server.files)))) == len(NUMBERED)


def test_what_the_key_may_not_ask_is_left_out_and_said_once(server: HydrusServer) -> None:
    told: list[str] = []
    hydrus = Hydrus(server.url, server.add_key("reader", [3, 4]), tell=told.append)
    assert hydrus.tag_relations(["elf"]) is None and hydrus.judgements(list(server.files)) is None
    assert ["edit file tags" in told[0], "your siblings and parents are not known" in told[0]] == [True, True]
    assert "edit file relationships" in told[1] and "what was judged in Hydrus" in told[1] and len(told) == 2


def test_files_in_no_relationship_are_not_asked_about(server: HydrusServer, hydrus: Hydrus) -> None:
    assert hydrus.judgements(list(server.files)) == []
    assert [call.path for call in server.calls][-1] == "/get_files/search_files"


def test_a_key_that_sees_some_files_only_is_told_so(server: HydrusServer, hydrus: Hydrus) -> None:
    """A key with a tag filter is refused whole batches; its 403 is neither an unknown key nor a missing permission."""

    def filtered(call: Call) -> None:
        if call.path == "/get_files/file_metadata":
            says = "You do not seem to have access to all those files! You asked to see 1 files, but you were only authorised to see 0 of them!"
            raise Refusal(403, "InsufficientCredentialsException", says)

    server.before_answer = filtered
    with pytest.raises(LibraryRefused, match="may not see all of this .*without a tag filter"):
        list(hydrus.files(list(server.files)))


def test_a_key_with_a_tag_filter_is_told_so_by_the_400_of_today(server: HydrusServer) -> None:
    hydrus = Hydrus(server.url, server.add_key("some", [2, 3, 4], "allowing all tags except hidden"))
    with pytest.raises(LibraryRefused, match="'some' may not see all of this .*without a tag filter"):
        list(hydrus.files(list(server.files)))
    assert hydrus.key_filter() == "allowing all tags except hidden"
    assert Hydrus(server.url, server.add_key("Can search: x", [3])).key_filter() == ""
    assert Hydrus(server.url, server.key).key_filter() == ""


def test_a_file_that_hydrus_cannot_read_itself_costs_one_row(server: HydrusServer, hydrus: Hydrus) -> None:
    def broken(call: Call) -> None:
        if call.path.startswith("/get_files/") and "metadata" not in call.path and call.asked.get("hash") == hash:
            raise Refusal(500, "OSError", "[Errno 5] Input/output error")

    hash, other, *_ = server.files
    server.before_answer = broken
    with pytest.raises(FileUnavailable, match=r"Hydrus cannot read the file .*: \[Errno 5\] Input/output error"):
        hydrus.read(hash)
    assert hydrus.thumbnail(hash) is None and hydrus.read(other)


@pytest.mark.parametrize("data", [b"file", b"another picture", b""])
def test_bytes_that_are_not_the_file_cost_one_row(server: HydrusServer, hydrus: Hydrus, data: bytes) -> None:
    """An embedding of them would pass for the picture's own for ever."""
    hash, other, *_ = server.files
    server.files[hash].data = data
    with pytest.raises(FileUnavailable, match=f"sends as the file {hash} is not that file") as caught:
        hydrus.read(hash)
    assert caught.value.status == "unreadable" and hydrus.read(other)


@pytest.mark.parametrize("tag", ["::", "::x", "a\0b", "a\u200bb", "-x", "system:x", "x\ud800", "x" * 1100, "a:"])
def test_what_hydrus_would_not_keep_as_it_is_is_refused_before(server: HydrusServer, hydrus: Hydrus, tag: str) -> None:
    """It stores "::" and reads it back, here, as ":"."""
    hash = server.names["0.bin"]
    good, step = hydrus.plan([TagChange(hash, "hat", "add"), TagChange(hash, tag, "add")])
    assert isinstance(good, TagWrite) and isinstance(step, NoWrite) and not step.settled
    assert "Hydrus would store it as" in step.reason or "can store no such tag" in step.reason


@pytest.mark.parametrize("tag", [":d", ":", ": -", ":::x", "::::", "::a:b", "a::b", "re:zero:x", ":a:b", "ü ☃"])
def test_what_hydrus_keeps_is_written_and_reads_back(server: HydrusServer, hydrus: Hydrus, tag: str) -> None:
    hash = server.names["0.bin"]
    (write,) = hydrus.plan([TagChange(hash, tag, "add")])
    if isinstance(write, NoWrite):
        pytest.fail(write.reason)
    hydrus.write([write])
    assert hydrus.states([(hash, tag, MY_TAGS)]) == [CURRENT] and tag in next(hydrus.files([hash])).tags


def test_pairs_that_hydrus_did_not_keep_are_not_among_those_it_was_told(server: HydrusServer, hydrus: Hydrus) -> None:
    a, b, c, d = (server.names[f"{number}.bin"] for number in range(4))

    def forgets(call: Call) -> None:
        if call.path.endswith("get_file_relationships"):
            server.relationships.pop(tuple(sorted((c, d))), None)

    server.before_answer = forgets
    assert hydrus.set_relationship([(a, b), (c, d)], "better") == [(a, b)]


def test_a_message_that_a_killed_run_left_is_taken_away_by_the_next(server: HydrusServer, hydrus: Hydrus) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    for process, machine in (
        (int(ended.stdout), platform.node()),
        (os.getpid(), platform.node()),
        (int(ended.stdout), "x"),
    ):
        hydrus.connection.post(
            "/manage_popups/add_popup",
            {"status_title": f"of {process} on {machine}", "api_data": {"tagcheck": machine, "process": process}},
        )
    hydrus.connection.post("/manage_popups/add_popup", {"status_title": "somebody's", "api_data": [1]})
    server.arriving.clear()
    with hydrus.popup("tagcheck: mapping"):
        shown = [one["status_title"] for one in server.popups.values()]
    assert shown == [
        f"of {os.getpid()} on {platform.node()}",
        f"of {int(ended.stdout)} on x",
        "somebody's",
        "tagcheck: mapping",
    ]


@pytest.mark.parametrize("key", ["ключ", "“aa”", "aa\nbb", "aa\0bb", "aa\r\nX: y"])
def test_a_key_of_characters_that_no_key_has_is_said_to_be_one_and_never_sent(server: HydrusServer, key: str) -> None:
    hydrus = Hydrus(server.url, key)
    for _ in range(2):
        with pytest.raises(LibraryRefused, match="characters that no key has: set HYDRUS_API_KEY"):
            hydrus.permissions()
    assert server.calls == []


def test_the_key_travels_in_the_header_of_every_request_and_nowhere_else(server: HydrusServer, hydrus: Hydrus) -> None:
    hydrus.walk(["dataset"])
    hydrus.write(hydrus.plan([TagChange(server.names["0.bin"], "hat", "add")]))
    assert len(server.calls) > 8
    for call in server.calls:
        assert call.headers[KEY_HEADER] == server.key
        assert server.key not in call.path + json.dumps(call.asked)


def test_the_key_does_not_follow_a_redirect_or_a_proxy(
    server: HydrusServer, hydrus: Hydrus, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def catch(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        say(request, 200, "{}")

    with (
        web_server(catch) as elsewhere,
        web_server(lambda request: say(request, 302, Location=elsewhere)) as redirecting,
    ):
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere)
        with pytest.raises(LibraryRefused, match=f"sends elsewhere .{elsewhere}.*put the final address in API_URL"):
            Hydrus(redirecting, server.key).describe()
        assert hydrus.describe()["type"] == "hydrus"
    assert asked == []


# --- the address ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["{}/", "{}///", " {} "])
def test_slashes_and_spaces_round_the_address_do_no_harm(server: HydrusServer, shape: str) -> None:
    assert Hydrus(shape.format(server.url), server.key).describe()["url"] == server.url


def test_an_address_without_a_scheme_is_http(server: HydrusServer) -> None:
    assert Hydrus(server.url.removeprefix("http://"), server.key).describe()["url"] == server.url


def certificate(folder: Path, name: str, subject: str = "hydrus network", signer: str = "") -> Path:
    """A certificate for "localhost" alone, as Hydrus makes its own; its key stands beside it."""
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/C=HN/O={subject}"]
    more = ["-addext", "subjectAltName=DNS:localhost"]
    if signer:
        more += ["-CA", str(folder / f"{signer}.pem"), "-CAkey", str(folder / f"{signer}.key")]
    if name == "bare":
        more += ["-addext", "subjectKeyIdentifier=none", "-addext", "authorityKeyIdentifier=none"]
    files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
    subprocess.run(["openssl", "req", "-x509", "-days", "2", *new, *more, *files], check=True, capture_output=True)
    return folder / f"{name}.pem"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client's own certificate, another one, and files that are none."""
    if not shutil.which("openssl"):
        pytest.skip("makes certificates with openssl")
    folder = tmp_path_factory.mktemp("certificates")
    certificate(folder, "own")
    certificate(folder, "bare")
    certificate(folder, "other", "other network")
    certificate(folder, "signed", "signed by other", signer="other")
    (folder / "words.pem").write_text("hello")
    (folder / "empty.pem").write_text("")
    return folder


@contextmanager
def over_tls(folder: Path, name: str) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    with web_server(lambda request: say(request, 200, '{"version": 95}'), context) as address:
        yield address.replace("http://", "https://")


def api_version(url: str) -> object:
    return Connection(url, "aa" * 32, patience=0.2).get("/api_version")["version"]


@pytest.mark.parametrize(
    ("shown", "bundle", "host", "says"),
    [
        ("own", "own.pem", "localhost", ""),
        ("own", "own.pem", "127.0.0.1", ""),  # Hydrus' own names "localhost", wherever it runs
        ("own", "~/own.pem", "127.0.0.1", ""),
        ("bare", "bare.pem", "127.0.0.1", ""),
        ("bare", None, "localhost", "is not a trusted one"),
        ("bare", "other.pem", "localhost", "not the one in HYDRUS_CA_BUNDLE"),
        ("signed", "other.pem", "localhost", ""),
        ("signed", "other.pem", "127.0.0.1", r"not the one in HYDRUS_CA_BUNDLE \(.*other.pem\): .*127.0.0.1"),
        ("own", None, "localhost", "is not a trusted one .*: name the certificate's file in HYDRUS_CA_BUNDLE"),
        ("own", " ", "localhost", "is not a trusted one .*: name the certificate's file in HYDRUS_CA_BUNDLE"),
        ("own", "other.pem", "localhost", r"not the one in HYDRUS_CA_BUNDLE \(.*other.pem\): self.signed"),
        ("own", "none.pem", "localhost", "HYDRUS_CA_BUNDLE: there is no file .*none.pem"),
        ("own", "~nosuchuser/own.pem", "localhost", "HYDRUS_CA_BUNDLE: there is no file ~nosuchuser/own.pem"),
        ("own", "words.pem", "localhost", "words.pem is not a certificate in PEM form"),
        ("own", "empty.pem", "localhost", "empty.pem is not a certificate in PEM form"),
        ("own", "own.key", "localhost", "own.key is not a certificate in PEM form"),
    ],
)
def test_a_client_that_signed_its_own_certificate_is_trusted_by_its_file_alone(
    certificates: Path, monkeypatch: pytest.MonkeyPatch, shown: str, bundle: str | None, host: str, says: str
) -> None:
    monkeypatch.setenv("HOME", str(certificates))
    monkeypatch.setenv("USERPROFILE", str(certificates))
    lenient = ssl_.create_urllib3_context

    def strict(**options: Any) -> ssl.SSLContext:
        """As from Python 3.13 on."""
        context = lenient(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    for module in (ssl_, urllib3.connection):
        monkeypatch.setattr(module, "create_urllib3_context", strict)
    if bundle is not None:
        whole = bundle if bundle[0] in " ~" else str(certificates / bundle)
        monkeypatch.setenv(connection.CA_BUNDLE, whole)
    with over_tls(certificates, shown) as url:
        url = url.replace("127.0.0.1", host)
        if says:
            with pytest.raises((LibraryUnreachable, UsageError), match=says):
                api_version(url)
        else:
            assert api_version(url) == 95


def test_http_and_https_at_each_others_ports_say_so(certificates: Path) -> None:
    with over_tls(certificates, "own") as url:
        for plain in (url.replace("https", "http"), url.removeprefix("https://")):
            with pytest.raises(LibraryUnreachable, match="does it want https:// in API_URL"):
                api_version(plain)
    with web_server(lambda request: say(request, 200, '{"version": 95}')) as url:
        with pytest.raises(LibraryUnreachable, match="speaks an https that is known here .*: try http:// in API_URL"):
            api_version(url.replace("http", "https"))
    said = "Client sent an HTTP request to an HTTPS server."
    with web_server(lambda request: say(request, 400, said)) as url:
        with pytest.raises(LibraryRefused, match="wants https: write https:// in API_URL"):
            api_version(url)


def test_https_at_a_port_that_waits_for_a_line_of_http_as_a_real_client_does_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as waiting:
        url = f"https://127.0.0.1:{waiting.getsockname()[1]}"
        with pytest.raises(LibraryUnreachable, match=r"no Hydrus answers at .* \(does it want http:// in API_URL\?\)"):
            Connection(url, "aa" * 32, patience=0, timeout=(0.2, 2)).get("/api_version")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "ftp://localhost:45869",
        "http://local host",
        "http://localhost:65536",
        "http://localhost:x",
        "localhost:70000",
        "http://" + "a" * 300,
    ],
)
def test_what_is_no_address_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="is not a web address: it looks like http://localhost:45869"):
        Hydrus(url, "").describe()


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>hello</html>"), (200, "[1]"), (404, "not here"), (403, "no"), (500, "oops")]
)
def test_another_program_at_the_address_is_not_taken_for_hydrus(status: int, body: str) -> None:
    with web_server(lambda request: say(request, status, body)) as url:
        with pytest.raises(LibraryRefused, match=f"what answers at {url} is not a Hydrus client API"):
            Hydrus(url, "00" * 32).describe()


def test_a_path_that_this_version_does_not_have_is_an_error_with_its_status(server: HydrusServer) -> None:
    with pytest.raises(HydrusSaysNo, match="Hydrus answered 404 to /nope") as caught:
        Connection(server.url, server.key).get("/nope")
    assert caught.value.status == 404


def test_an_address_that_is_too_long_for_a_proxy_is_sent_in_halves(server: HydrusServer) -> None:
    """Hydrus takes 2 MiB; nginx takes 8 kB unless told otherwise."""
    hashes = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(CHUNK)]
    hashes[7] = server.names["0.bin"]
    sizes: list[int] = []

    def relay(request: BaseHTTPRequestHandler) -> None:
        sizes.append(len(request.path))
        if len(request.path) > 8000:
            return say(request, 414, "<html>414 Request-URI Too Large</html>")
        answer = requests.get(server.url + request.path, headers={KEY_HEADER: request.headers[KEY_HEADER]}, timeout=5)
        say(request, answer.status_code, answer.text, Hydrus_Server=answer.headers["Hydrus-Server"])
        return None

    with web_server(relay) as proxy:
        rows = list(Hydrus(proxy, server.key).files(hashes))
    assert [row.hash for row in rows] == hashes and [row.status for row in rows].count("ok") == 1
    assert max(sizes) > 8000 and len(sizes) > 3


# --- searches ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "query", "limited", "warned"),
    [
        ({}, "tag 0", False, False),
        ({"tag_services": ["my tags"]}, "tag 0", True, False),
        ({"machine_services": ["ai suggestions", "downloader tags", "fake tag repo"]}, "tag 0", True, False),
        ({"tag_services": ["my tags", "fake tag repo"]}, "tag 0", False, True),
        ({"machine_services": ["ai suggestions"]}, '[["tag 0", "system:inbox"]]', False, True),
        ({"machine_services": ["ai suggestions"]}, "system:inbox", False, False),
    ],
)
def test_a_search_is_limited_to_one_service_that_counts_and_else_says_where_it_looks(
    server: HydrusServer, options: dict, query: str, limited: bool, warned: bool
) -> None:
    """Hydrus searches one tag service or all of them."""
    told: list[str] = []
    Hydrus(server.url, server.key, tell=told.append, **options).search(query)
    (asked,) = [call.asked for call in server.calls if call.path == "/get_files/search_files"]
    assert asked.get("tag_service_key") == (MY_TAGS if limited else None)
    assert [line for line in told if "also on those whose tags do not count" in line] == told and len(told) == warned


# --- files ------------------------------------------------------------------------------------------------


def test_files_are_asked_for_as_they_are_needed(server: HydrusServer, hydrus: Hydrus) -> None:
    """Memory stays flat: one chunk is in use, and one on its way."""
    hashes = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(5 * CHUNK)]
    rows = hydrus.files(hashes)

    def chunks() -> list[int]:
        return [
            len(json.loads(call.asked["hashes"])) for call in server.calls if call.path == "/get_files/file_metadata"
        ]

    next(rows)
    time.sleep(0.2)
    assert chunks() == [CHUNK] * 2
    list(rows)
    assert chunks() == [CHUNK] * 5


def test_metadata_is_asked_for_without_the_service_list_and_by_hash_only(server: HydrusServer, hydrus: Hydrus) -> None:
    list(hydrus.files(list(server.files)))
    (asked,) = [call.asked for call in server.calls if call.path == "/get_files/file_metadata"]
    assert asked["include_services_object"] == "false" and set(asked) == {"hashes", "include_services_object"}


def test_a_file_without_a_picture_has_no_render_and_no_thumbnail_of_its_own(
    server: HydrusServer, hydrus: Hydrus
) -> None:
    hash = server.names["0.bin"]  # to Hydrus a video
    assert hydrus.render(hash) is None and hydrus.thumbnail(hash) is None
    assert hydrus.read(hash) == b"file 0"


def test_hydrus_is_not_asked_to_draw_what_is_gone_or_enormous(server: HydrusServer, hydrus: Hydrus) -> None:
    gone, enormous = (server.files[server.names[name]] for name in ("0.bin", "1.bin"))
    gone.state, enormous.width, enormous.height, enormous.mime, enormous.duration = (
        "deleted",
        14000,
        14000,
        "image/png",
        None,
    )
    assert hydrus.render(gone.hash) is None and hydrus.render(enormous.hash) is None
    assert not [call for call in server.calls if call.path == "/get_files/render"]


def test_a_trashed_file_can_still_be_read(server: HydrusServer, hydrus: Hydrus) -> None:
    one, other = (server.files[server.names[name]] for name in ("0.bin", "1.bin"))
    one.state, other.state = "trashed", "deleted"
    assert hydrus.read(one.hash) == b"file 0"
    with pytest.raises(FileUnavailable, match="The client does not have this file"):
        hydrus.read(other.hash)


def test_a_file_of_another_machine_is_not_called_deleted(server: HydrusServer, hydrus: Hydrus) -> None:
    server.files[server.names["0.bin"]].state = "remote"
    assert next(hydrus.files([server.names["0.bin"]])).reason == "not on this machine"


# --- tags -------------------------------------------------------------------------------------------------


def test_a_repositorys_tag_is_petitioned_with_the_reason_and_restored(server: HydrusServer, hydrus: Hydrus) -> None:
    hash = server.names["0.bin"]
    server.tag(hash, ["hat"], REPOSITORY)
    (write,) = hydrus.plan([TagChange(hash, "hat", "remove")])
    assert (write.before, write.after) == (CURRENT, PETITIONED)
    hydrus.write([write], reason="no hat here")
    assert hydrus.states([(hash, "hat", REPOSITORY)]) == [PETITIONED]
    sent = server.calls[-2].asked["service_keys_to_actions_to_tags"]
    assert sent == {REPOSITORY: {"4": [["hat", "no hat here"]]}}
    row = next(hydrus.files([hash]))
    assert "hat" not in row.tags and row.deleted_tags == ("hat",)
    again, add = hydrus.plan([TagChange(hash, "hat", "remove"), TagChange(hash, "hat", "add")])
    assert isinstance(again, NoWrite) and again.settled
    assert isinstance(add, NoWrite) and not add.settled and "its removal is asked for" in add.reason
    hydrus.write([hydrus.undo_of(write)])
    assert server.stored(hash, REPOSITORY) == {"0": ["hat"]}


def test_a_tag_deleted_on_a_repository_is_not_pended(server: HydrusServer, hydrus: Hydrus) -> None:
    hash = server.names["0.bin"]
    server.tag(hash, ["hat"], REPOSITORY, "2")
    (answer,) = hydrus.plan([TagChange(hash, "hat", "add")])
    assert isinstance(answer, NoWrite) and "removed from this picture before (fake tag repo)" in answer.reason
    hydrus.write([TagWrite(hash, "hat", REPOSITORY, "absent", PENDING)])
    assert server.stored(hash, REPOSITORY) == {"2": ["hat"]}


def test_few_calls_carry_many_changes(server: HydrusServer, hydrus: Hydrus) -> None:
    hashes = list(server.files)
    hydrus.write([TagWrite(hash, tag, MY_TAGS, "absent", CURRENT) for hash in hashes for tag in ("hat", "coat")])
    hydrus.write([TagWrite(hash, "hat", MY_TAGS, CURRENT, "deleted") for hash in hashes])
    sent = [call.asked for call in server.calls if call.path == "/add_tags/add_tags"]
    assert len(sent) == 2 and {len(asked["hashes"]) for asked in sent} == {len(hashes)}
    for asked in sent:
        assert asked["create_new_deleted_mappings"] is False and asked["override_previously_deleted_mappings"] is False


def test_a_step_that_hydrus_does_not_have_is_refused(server: HydrusServer, hydrus: Hydrus) -> None:
    with pytest.raises(LibraryRefused, match="cannot make 'hat' go from deleted to petitioned on 'fake tag repo'"):
        hydrus.write([TagWrite(server.names["0.bin"], "hat", REPOSITORY, "deleted", PETITIONED)])


def test_a_client_too_old_to_respect_deletions_is_not_written_to(
    server: HydrusServer, hydrus: Hydrus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydrus_server.HYDRUS_VERSION", 560)
    with pytest.raises(
        LibraryRefused, match="Hydrus v560 cannot yet respect tags that its owner has deleted: update it to v580"
    ):
        hydrus.plan([TagChange(server.names["0.bin"], "hat", "add")])


def test_a_client_too_old_to_be_asked_for_siblings_and_judgements_is_read_without_them(
    server: HydrusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydrus_server.HYDRUS_VERSION", 441)
    for path in ("/add_tags/get_siblings_and_parents", "/manage_file_relationships/get_file_relationships"):
        monkeypatch.delitem(hydrus_server.ROUTES, ("GET", path))
    told: list[str] = []
    hydrus, names = Hydrus(server.url, server.key, tell=told.append), [*server.names.values()]
    monkeypatch.setattr(hydrus, "_found", lambda *asked, **more: names)
    assert hydrus.tag_relations(["hat"]) is None and hydrus.judgements(names) is None
    assert [one.partition(", so ")[0] for one in told] == ["Hydrus v441 cannot be asked"] * 2
    assert all("update it to v580 or newer" in one for one in told)


def test_two_services_of_one_name_must_be_told_apart_by_key(
    server: HydrusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hydrus_server.SERVICES, hydrus_server.AI_TAGS, ("My Tags", hydrus_server.LOCAL_TAG))
    with pytest.raises(
        UsageError, match="tag services to count: 2 tag services are called 'my tags'; there are 'My Tags'"
    ):
        Hydrus(server.url, server.key, tag_services=["my tags"]).describe()
    assert Hydrus(server.url, server.key, tag_services=[MY_TAGS]).describe()["tag_services"] == [MY_TAGS]


def test_a_popup_that_its_owner_closed_counts_as_cancelled(
    server: HydrusServer, hydrus: Hydrus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hydrus_popup, "EVERY", 0.0)
    with hydrus.popup("long work") as popup:
        popup.update(0, 2, "beginning")
        assert not popup.cancelled
        server.popups.clear()
        popup.update(1, 2, "still at it")
        assert popup.cancelled


def test_a_popup_comes_back_after_a_restart(
    server: HydrusServer, hydrus: Hydrus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hydrus_popup, "EVERY", 0.0)
    with hydrus.popup("long work") as popup:
        popup.update(0, 3, "beginning")
        server.popups.clear()
        server.restart()
        popup.update(1, 3, "still at it")
        assert not popup.cancelled and [one["popup_gauge_1"] for one in server.popups.values()] == [[1, 3]]
    assert server.popups == {}


def test_a_popup_never_holds_up_or_ends_the_work(server: HydrusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydrus_popup, "EVERY", 0.0)
    told: list[str] = []
    with Hydrus(server.url, server.key, tell=told.append).popup("long work") as popup:
        popup.update(0, 3, "beginning")
        server.locked = True
        began = time.monotonic()
        popup.update(1, 3, "while the database is locked")
        server.locked = False
        server.stop()
        popup.update(2, 3, "while it is away: not even tried for half a minute")
        assert time.monotonic() - began < 2 and not popup.cancelled
    server.start()
    assert [line.partition(":")[0] for line in told] == [
        "no progress is shown in Hydrus for now",
        "the message in Hydrus could not be taken away",
    ]


def test_a_popup_goes_away_also_when_the_work_fails(server: HydrusServer, hydrus: Hydrus) -> None:
    with pytest.raises(ZeroDivisionError), hydrus.popup("long work"):
        assert len(server.popups) == 1
        1 / 0
    assert server.popups == {}


def test_several_threads_may_read_at_once(server: HydrusServer, hydrus: Hydrus) -> None:
    read: dict[str, bytes] = {}
    threads = [
        threading.Thread(target=lambda hash=hash: read.update({hash: hydrus.read(hash)})) for hash in server.files
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == {hash: one.data for hash, one in server.files.items()}
