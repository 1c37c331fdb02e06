"""Every answer of a client goes through one reader: so large, so long, not compressed, and in the shape that is known of it."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hydrus_server import HydrusServer
from test_hydrus_trouble import say, web_server

from tagcheck.changes import TagChange
from tagcheck.errors import LibraryRefused, LibraryUnreachable, UsageError
from tagcheck.library.hydrus import connection
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.library.hydrus.connection import Connection, shown_address
from tagcheck.library.hydrus.shapes import ANSWERS

KEY = "00" * 32
A = "a" * 64


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads a request and then lets `answer` write whatever it likes."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=[client], daemon=True).start()

    def one(client: socket.socket) -> None:
        with client:
            client.recv(65536)
            try:
                answer(client)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        done.set()
        listener.close()


def dripping(head: bytes, pause: float) -> Callable[[socket.socket], None]:
    """`head` at once, then a byte each `pause` seconds for ever."""

    def answer(client: socket.socket) -> None:
        client.sendall(head)
        while True:
            client.sendall(b" ")
            time.sleep(pause)

    return answer


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n{",
    ],
    ids=["no status", "in a header", "a body of known length", "a body without an end"],
)
def test_an_answer_that_comes_a_byte_at_a_time_is_given_up(monkeypatch, head):
    monkeypatch.setattr(connection, "TIMEOUT", (1.0, 0.6))
    with raw_server(dripping(head, 0.05)) as url:
        start = time.monotonic()
        with pytest.raises(LibraryUnreachable, match="did not answer within"):
            Hydrus(url, KEY).describe()
    assert time.monotonic() - start < 3


def test_an_answer_that_is_too_large_is_not_taken_in(monkeypatch):
    monkeypatch.setattr(connection, "LARGEST_JSON", 100_000)
    body = json.dumps({"version": 95, "padding": "x" * 200_000})
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b"[" * 300_000
    with (
        web_server(lambda request: say(request, 200, body)) as announced,
        raw_server(lambda c: c.sendall(endless)) as silent,
    ):
        for url in (announced, silent):
            with pytest.raises(LibraryRefused, match="sends more than 0 MB"):
                Connection(url, KEY).request("GET", "/api_version", most=100_000)


def test_what_announces_400_megabytes_is_refused_before_they_come():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 419430400\r\n\r\n{"
    with raw_server(dripping(head, 0.05)) as url:
        start = time.monotonic()
        with pytest.raises(LibraryRefused, match="sends more than 201 MB: check API_URL"):
            Hydrus(url, KEY).describe()
    assert time.monotonic() - start < 2


def test_a_compressed_answer_is_not_unpacked():
    bomb = gzip.compress(b" " * 50_000_000)

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.send_header("Content-Length", str(len(bomb)))
        request.end_headers()
        request.wfile.write(bomb)

    with web_server(answer) as url, pytest.raises(LibraryRefused, match="is compressed, which no Hydrus client does"):
        Hydrus(url, KEY).describe()


@pytest.mark.parametrize("body", ["[" * 100_000, "{" * 10, '{"a": ' * 100_000, "NaN", '"text"', "", "null", "\x00"])
def test_what_is_no_object_is_not_taken_for_hydrus(body):
    with web_server(lambda request: say(request, 200, body)) as url:
        with pytest.raises(LibraryRefused, match="is not a Hydrus client API: check API_URL"):
            Hydrus(url, KEY).describe()


ASKS: dict[str, Callable[[Hydrus, str], object]] = {
    "/api_version": lambda one, hash: one.describe(),
    "/verify_access_key": lambda one, hash: one.permissions(),
    "/client_info": lambda one, hash: one.walk(["x"]),
    "/get_services": lambda one, hash: one.services(),
    "/manage_pages/get_pages": lambda one, hash: one.walk(["dataset"]),
    "/manage_pages/get_page_info": lambda one, hash: one.walk(["dataset"]),
    "/get_files/search_files": lambda one, hash: one.search("hat"),
    "/get_files/file_metadata": lambda one, hash: list(one.files([hash])),
    "/add_tags/clean_tags": lambda one, hash: one.plan([TagChange(hash, "hat", "add")]),
    "/add_tags/get_siblings_and_parents": lambda one, hash: one.tag_relations(["hat"]),
    "/manage_file_relationships/get_file_relationships": lambda one, hash: one.judged([(hash, hash)]),
    "/manage_popups/add_popup": lambda one, hash: one.popup("x").__enter__(),
}
WRONG = [
    {},
    {
        "version": "95",
        "basic_permissions": "all",
        "boot_id": 7,
        "pages": [],
        "page_info": 1,
        "hashes": {},
        "metadata": {},
    },
    {"local_tags": {"a": 1}, "tags": "hat", "file_relationships": [], "job_status": None, "basic_permissions": ["3"]},
    {"local_tags": [{"name": "x"}], "pages": {"name": 1}, "page_info": {"page_state": "0"}, "hashes": ["zz"]},
    {"metadata": [{"hash": A}], "tags": {"hat": []}, "file_relationships": {A: {"0": []}}, "job_status": {"key": 1}},
    {"metadata": [{"hash": A, "file_id": 1, "tags": {"x": {"storage_tags": {"0": [1]}}}}], "page_info": {"media": []}},
    {"metadata": [{"hash": 1, "file_id": 1}], "tags": {"hat": {"x": {"ideal_tag": 1}}}, "local_tags": 3},
    {"metadata": [{"hash": A, "file_id": 1, "width": "7"}], "pages": {"name": "x", "page_key": "k", "pages": [None]}},
]


@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_json_of_another_shape_is_an_error_in_words(path, wrong, monkeypatch):
    """Whatever one path answers, the rest as a client does: never a KeyError, TypeError or AttributeError."""
    with HydrusServer({"a.bin": (b"a", ["hat"])}) as server:
        hydrus = Hydrus(server.url, server.key)
        hash = server.names["a.bin"]
        real = Connection.request

        def request(self, method, asked, *args, **more):
            answer = real(self, method, asked, *args, **more)
            if asked != path:
                return answer
            text = json.dumps(wrong).replace(A, hash).encode()
            return connection.Answer(200, "OK", {}, text)

        monkeypatch.setattr(Connection, "request", request)
        try:
            ASKS[path](hydrus, hash)
        except LibraryRefused:
            pass
        else:
            ANSWERS[path](wrong)  # what does not fit would have passed


def test_a_password_in_the_address_is_sent_and_never_shown():
    asked: list[str] = []

    def answer(request):
        asked.append(request.headers.get("Authorization", ""))
        say(request, 200, json.dumps({"version": 95, "hydrus_version": 682}))

    with web_server(answer) as url:
        told: list[str] = []
        hydrus = Hydrus(url.replace("http://", "http://me:s3cret@"), KEY, tell=told.append)
        assert hydrus.connection.url == url and hydrus.connection.get("/api_version")["version"] == 95
        assert asked[0].startswith("Basic ")
    hydrus.connection.patience = 2.0
    with pytest.raises(LibraryUnreachable) as caught:
        hydrus.describe()
    assert "s3cret" not in str(caught.value) + " ".join(told) and "me:" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["ftp://me:s3cret@host", "http://me:s3cret@", "http://me:s3cret@host:port", "me:s3cret@", "http://host/?key=s3cret",
     "http://host/#s3cret", "http://me:s3cret@[::1"],
)  # fmt: skip
def test_an_address_that_is_none_does_not_show_what_is_secret_in_it(url):
    with pytest.raises(UsageError, match="is not a web address") as caught:
        Hydrus(url, KEY)
    assert "s3cret" not in str(caught.value)


def test_a_redirect_is_named_without_its_password():
    assert shown_address("http://a:b@c@host/x@y") == "http://host/x@y"
    with web_server(lambda request: say(request, 302, Location="http://me:s3cret@elsewhere")) as url:
        with pytest.raises(LibraryRefused, match=r"sends elsewhere \(http://elsewhere\)"):
            Hydrus(url, KEY).describe()


# --- a person who waits -------------------------------------------------------------------------------------


def test_a_client_that_answers_nothing_is_said_to_be_slow_within_seconds(monkeypatch):
    monkeypatch.setattr(connection, "HURRIED", (0.5, 0.5))
    with raw_server(lambda client: time.sleep(30)) as url:
        hydrus = Hydrus(url, KEY).hurried()
        start = time.monotonic()
        for _ in range(20):  # the twenty thumbnails of a page
            with pytest.raises(LibraryUnreachable, match="did not answer within"):
                hydrus.thumbnail(A)
    assert time.monotonic() - start < 2


def test_a_locked_client_is_said_to_be_busy_at_once_to_who_waits_and_waited_for_by_who_writes():
    with HydrusServer({"a.bin": (b"a", [])}) as server:
        hydrus = Hydrus(server.url, server.key, patience=10)
        hydrus.describe()
        server.locked = True
        start = time.monotonic()
        with pytest.raises(LibraryUnreachable, match="its database is locked"):
            hydrus.hurried().describe()
        assert time.monotonic() - start < 1
        threading.Timer(1.0, lambda: setattr(server, "locked", False)).start()
        assert hydrus.describe() and time.monotonic() - start > 1


def test_a_client_that_is_back_is_asked_again_at_once_where_nothing_was_waited_for():
    with HydrusServer({}) as server:
        hydrus = Hydrus(server.url, server.key).hurried()
        server.stop()
        with pytest.raises(LibraryUnreachable):
            hydrus.describe()
        server.start()
        assert hydrus.describe()["type"] == "hydrus"
