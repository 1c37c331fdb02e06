"""Attack the page over real connections, and count what it lets through.

    python tests/web_attacks.py
    python tests/web_attacks.py --seed 7

Seeded; draws a small library, serves it on a free port, and tries: other hosts' names (rebinding), forms of other sites
and without a token, paths that lead out, stored scripts in tags and reasons, requests that are none, bodies and headers
that are too large, cells that start formulas, and connections that send slowly or nothing. Prints a line for each kind:
tried, failed. Ends with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from review_data import hashes, missing, page_on, save_mistagged

from tagcheck.data_folder import DataFolder
from tagcheck.review import Review, exporting
from webapp.serving import LARGEST_BODY, LARGEST_HEADER, Server

SCRIPTS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "'-alert(1)-'",
    "</title><svg/onload=alert(1)>",
)
FORMULAS = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    " =1",
    "\r=1",
    "\n=1",
    "\x00=1",
    "\u00a0=1",
    "\u3000=1",
    "\uff1d1+1",
    "\ufeff=1",
    "\x1f\uff0b1",
)


class Site:
    """The page on a small library, over a real port."""

    def __init__(self, root: Path) -> None:
        self.folder = DataFolder(root / "data")
        self.folder.root.mkdir()
        (root / "pictures").mkdir()
        self.hashes = hashes(len(SCRIPTS))
        save_mistagged(
            self.folder, *[missing(hash, word) | {"why": word} for hash, word in zip(self.hashes, SCRIPTS, strict=True)]
        )
        self.server = Server(page_on(self.folder, root / "pictures"), "127.0.0.1", 0)
        self.port = self.server.server_port

    def get(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as one, suppress(OSError):
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: one.recv(65536), b""))
        return b""

    def decided(self) -> int:
        with Review(self.folder.review) as store:
            return int(store.db.execute("SELECT count(*) FROM decisions").fetchone()[0])


@contextmanager
def site() -> Iterator[Site]:
    """A site that is served while the block runs."""
    # A thread of the page may still have the store open, which Windows does not remove then.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
        made = Site(Path(root))
        thread = threading.Thread(target=made.server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            made.server.shutdown()
            thread.join()
            made.server.server_close()


Attack = Callable[[Site, random.Random], Iterator[tuple[str, bool]]]


def hosts(site: Site, chance: random.Random) -> Iterator[tuple[str, bool]]:
    """Names that are not this machine's are a 400, however long or odd."""
    names = [
        "evil.example",
        "a" * 10_000,
        "a" * 300,
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[",
        "[::1",
        "localhost:x",
    ]
    names += [
        "local\x7fhost",
        "a b",
        "..",
        "a..b",
        "xn--" + "a" * 80,
        "192.168.1.7",
        "0",
        "%00",
        "localhost@evil.example",
        "",
    ]
    names += ["".join(chance.choices("abc.-_:[]@/%01", k=chance.randrange(1, 60))) for _ in range(60)]
    for name in names:
        if name.lower().partition(":")[0] not in ("localhost", "127.0.0.1"):
            answer = site.raw(
                f"GET /error-review HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode("latin-1")
            )
            yield f"host {name[:40]!r}", answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))


def forms(site: Site, chance: random.Random) -> Iterator[tuple[str, bool]]:
    """A form of another site, or without this session's token, changes nothing."""
    own = f"http://127.0.0.1:{site.port}"
    paths = (
        "/error-review/decide",
        "/error-review/decide-many",
        "/error-review/undo",
        "/error-review/run",
        "/error-review/apply",
    )
    for path in paths:
        for headers in (
            {},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": own},
            {"Sec_Fetch_Site": "cross-site"},
        ):
            for token in ("", "csrf=", f"csrf={chance.randbytes(16).hex()}", "csrf=%F0%28"):
                body = f"{token}&do=accepted&finding=x".encode()
                status, _, _ = site.get(path, "POST", body, Content_Type="application/x-www-form-urlencoded", **headers)
                yield f"form {path} {headers} {token}", status in (400, 403, 404, 405) and site.decided() == 0


def paths(site: Site, chance: random.Random) -> Iterator[tuple[str, bool]]:
    """No address leads to a file outside of what is served."""
    outs = [
        "../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/app.py",
        "..\\..\\app.py",
        "....//app.py",
        "%00",
        "/etc/passwd",
    ]
    for before in ("/static/", "/pictures/", "/error-review/", f"/pictures/{site.hashes[0]}/", "/"):
        for out in outs:
            status, _, body = site.get(before + out)
            yield (
                f"path {before}{out}",
                status in (301, 302, 303, 308, 400, 404) and b"root:" not in body and b"import " not in body,
            )


def scripts(site: Site, chance: random.Random) -> Iterator[tuple[str, bool]]:
    """What a report or an address says is text on the page, and no script runs but the page's own."""
    for path in (
        "/error-review",
        "/error-review/findings",
        "/error-review/card",
        "/error-review/findings?view=grid",
        "/error-review/help",
    ):
        for query in ("", *SCRIPTS):
            address = f"{path}{'&' if '?' in path else '?'}tag=" + "".join(f"%{byte:02x}" for byte in query.encode())
            status, headers, body = site.get(address)
            held = status in (200, 302, 303) and "'self'" in headers.get("content-security-policy", "")
            text = body.decode()
            yield (
                f"script in {address}",
                held and not re.search(r"<script>alert|<img src=x|<svg/onload|href=\"javascript:", text),
            )


def requests(site: Site, chance: random.Random) -> Iterator[tuple[str, bool]]:
    """What is no request, or too large, is an error of the client's, never of the server's."""
    head = f"Host: 127.0.0.1:{site.port}\r\n".encode()
    cases = [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n" + head + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"A" * 100_000,
    ]
    cases += [b"GET / HTTP/1.1\r\n" + head + b"X: " + b"a" * (LARGEST_HEADER + 1000) + b"\r\n\r\n"]
    cases += [
        b"POST / HTTP/1.1\r\n" + head + b"Content-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ]
    cases += [b"POST / HTTP/1.1\r\n" + head + f"Content-Length: {LARGEST_BODY + 1}\r\n\r\n".encode()]
    cases += [b"POST / HTTP/1.1\r\n" + head + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nzz"]
    cases += [
        b"GET /" + chance.randbytes(chance.randrange(1, 200)) + b" HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n"
        for _ in range(60)
    ]
    queries = (
        "at",
        "state",
        "issue",
        "tag",
        "page",
        "series",
        "least",
        "most",
        "order",
        "after",
        "before",
        "view",
        "hash",
    )
    values = ("", "-1", "nan", "1e999", "9" * 40, "%00", "%ff%fe", "%ed%a0%80", "'", "[]", "a" * 5000)
    for name in queries:
        for value in values:
            cases.append(
                f"GET /error-review/findings?{name}={value} HTTP/1.1\r\n".encode() + head + b"Connection: close\r\n\r\n"
            )
            cases.append(
                f"GET /error-review/card?{name}={value} HTTP/1.1\r\n".encode() + head + b"Connection: close\r\n\r\n"
            )
    for data in cases:
        answer = site.raw(data)
        yield f"request {data[:70]!r}", not re.match(rb"HTTP/1.\d 5(?!05)", answer)


def cells(site: Site, chance: random.Random) -> Iterator[tuple[str, bool]]:
    """No cell of an export starts a formula, also behind what a spreadsheet passes over."""
    for word in FORMULAS:
        text = "".join(exporting.as_csv(["tag"], [{"tag": word + "x"}]))
        yield f"cell {word!r}", list(csv.reader(io.StringIO(text, newline="")))[1][0].startswith("'")


def connections(site: Site, chance: random.Random, slow: int = 300) -> Iterator[tuple[str, bool]]:
    """Many connections that send nothing, or a byte now and then, do not keep others from an answer."""
    held: list[socket.socket] = []
    try:
        for place in range(slow):
            one = socket.create_connection(("127.0.0.1", site.port), timeout=10)
            with suppress(OSError):
                one.sendall(b"GET / HTTP/1.1\r\nX: " if place % 2 else b"")
            held.append(one)
            if place % 20 == 19:
                yield f"answer beside {place + 1} slow connections", _quick(site)
    finally:
        for one in held:
            one.close()
    yield f"answer after {slow} were closed at once", _quick(site)


def _quick(site: Site) -> bool:
    start = time.monotonic()
    return site.get("/error-review/help")[0] == 200 and time.monotonic() - start < 5


ATTACKS: tuple[Attack, ...] = (hosts, forms, paths, scripts, requests, cells, connections)


def run(seed: int = 1, tell: Callable[[str], None] = print) -> list[str]:
    """Try all; what was let through, in words."""
    failed: list[str] = []
    for attack in ATTACKS:
        with site() as served:
            results = list(attack(served, random.Random(seed)))
        bad = [what for what, held in results if not held]
        tell(f"{attack.__name__:12} {len(results):5} tried, {len(bad)} failed: {(attack.__doc__ or '').strip()}")
        failed += bad
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn (default: 1)")
    failed = run(parser.parse_args().seed)
    for what in failed:
        print(f"FAILED {what}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
