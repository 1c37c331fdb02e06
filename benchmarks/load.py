"""50 readers and 5 deciders at once on the page with 100,000 findings, for a minute.

    python benchmarks/load.py
    python benchmarks/load.py --seconds 10 --findings 10000 --pictures 5000

Reads   nothing: reports are made up from a seed, in a temporary folder; the page is served on the loopback alone
Writes  nothing; one line: requests, errors, median and 99th percentile of the time to an answer, decisions that were
        answered as made and are not in the store, and the page's memory after the first tenth and at the end (Linux)

Each reader looks at a list or a card, over a new connection, and waits a second; each decider decides on a card of its own.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from common import PROJECT, memory
from review_page import make_reports, read_reports

from tagcheck import script
from tagcheck.data_folder import DataFolder
from tagcheck.review import Review

VIEWS = ("", "/findings", "/findings?order=unsure", "/findings?view=grid", "/findings?state=flagged")


class Visitor(threading.Thread):
    """One browser. `times` (s) of its requests, its `errors`, and the findings that it `decided`."""

    def __init__(self, port: int, until: float, seed: int, own: Sequence[str] = ()) -> None:
        super().__init__()
        self.port, self.until, self.chance, self.own = port, until, random.Random(seed), own
        self.times: list[float] = []
        self.errors: list[str] = []
        self.decided: list[str] = []

    def ask(self, path: str, body: str | None = None, cookie: str = "") -> tuple[str, str]:
        """(the answer's text, its cookie); what goes wrong is noted."""
        began = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {
                "Cookie": cookie,
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json" if body else "text/html",
            }
            connection.request("POST" if body else "GET", "/error-review" + path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status not in (200, 302, 303):
                self.errors.append(f"{answer.status} {path}")
            return text, (answer.getheader("Set-Cookie") or "").partition(";")[0]
        except (OSError, HTTPException) as error:
            self.errors.append(f"{type(error).__name__} {path}")
            return "", ""
        finally:
            connection.close()
            self.times.append(time.perf_counter() - began)

    def run(self) -> None:
        time.sleep(self.chance.random())
        text, cookie = self.ask("/findings")
        token = re.search(r'name="csrf" value="(\w+)"', text)
        left = list(self.own)
        while time.time() < self.until:
            if left and token:
                one = left.pop()
                text, _ = self.ask("/decide-many", f"csrf={token[1]}&do=flagged&finding={one}", cookie)
                # Else it is in no view, or an error is noted.
                self.decided += [one] * bool(re.search(r'"ok": ?true', text))
            else:
                self.ask(self.chance.choice(VIEWS))
            time.sleep(1)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as root:
        folder, pictures = DataFolder(args.folder or Path(root) / "data"), Path(root) / "pictures"
        pictures.mkdir()
        folder.root.mkdir(exist_ok=True)
        if not folder.review.exists():
            make_reports(folder, args.findings, args.pictures, random.Random(args.seed))
            read_reports(folder.root)
        with Review(folder.review) as store:
            ids = [row[0] for row in store.db.execute("SELECT id FROM findings LIMIT 5000")]
        command = [sys.executable, str(PROJECT / "webapp/app.py"), "--data-dir", str(folder.root), "--port", "0"]
        page = subprocess.Popen([*command, "--library", str(pictures)], stdout=subprocess.PIPE, text=True)
        try:
            port = int(re.search(r":(\d+)/", page.stdout.readline() if page.stdout else "")[1])  # type: ignore[index]
            until = time.time() + args.seconds
            visitors = [Visitor(port, until, number) for number in range(args.readers)]
            visitors += [Visitor(port, until, -one - 1, ids[one :: args.deciders]) for one in range(args.deciders)]
            for one in visitors:
                one.start()
            time.sleep(args.seconds / 10)
            first = memory("VmRSS", page.pid)
            for one in visitors:
                one.join()
            last = memory("VmRSS", page.pid)
        finally:
            page.terminate()
            page.wait(30)
        said = [one for visitor in visitors for one in visitor.decided]
        with Review(folder.review) as store:
            known = {
                row[0]
                for row in store.db.execute(
                    "SELECT DISTINCT s.finding FROM suggestions s JOIN decisions d USING (hash, tag, action, other)"
                    " WHERE d.state = 'flagged'"
                )
            }
    times = sorted(one for visitor in visitors for one in visitor.times)
    errors = [one for visitor in visitors for one in visitor.errors]
    print(
        f"{len(times):,} requests, {len(errors)} errors{' ' + str(errors[:3]) if errors else ''}, median"
        f" {times[len(times) // 2] * 1000:.0f} ms, p99 {times[int(len(times) * 0.99)] * 1000:.0f} ms; {len(said)} decisions,"
        f" {len(set(said) - known)} lost; memory {first >> 20} MB, then {last >> 20} MB"
    )
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.plain_parser(__doc__)
    script.add_whole(parser, "--findings", "findings in the reports", 100_000)
    script.add_whole(parser, "--pictures", "pictures they are about", 50_000, low=2)
    script.add_whole(parser, "--readers", "readers", 50)
    script.add_whole(parser, "--deciders", "deciders", 5)
    script.add_whole(parser, "--seconds", "how long", 60)
    script.add_option(parser, "--seed", "of the made-up reports", 1, type=int)
    script.add_option(
        parser, "--folder", "a folder that keeps the reports for another run", None, type=Path, metavar="DIR"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    script.run(main)
