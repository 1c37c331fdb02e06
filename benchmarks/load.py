"""50 readers and 5 deciders at once on the page with 100,000 findings, for a minute.

    python benchmarks/load.py
    python benchmarks/load.py --seconds 10 --findings 10000 --pictures 5000

Reads   nothing: reports are made up from a seed, in a temporary folder; the page is served on the loopback alone
Writes  nothing; one line: requests, errors, median and 99th percentile of the time to an answer, decisions that were
        answered as made and are not in the store, and the page's memory after the first tenth and at the end (Linux)

Each reader looks at a list or a card, over a new connection, and waits a second; each decider decides on a card of its own.
"""

import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from common import PROJECT, memory
from review_page import make_reports, read_reports

from tagcheck import script
from tagcheck.data_folder import DataFolder
from tagcheck.review import Review

VIEWS = ("", "/findings", "/findings?order=unsure", "/findings?view=grid", "/findings?state=flagged")
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
FLAGGED = """SELECT DISTINCT s.finding FROM suggestions s JOIN decisions d USING (hash, tag, action, other)
    WHERE d.state = 'flagged'"""


@dataclass
class Noted:
    """The `times` (s) of all requests, the `errors`, and the findings that were `decided`."""

    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    decided: list[str] = field(default_factory=list)


class Visitor(threading.Thread):
    """One browser."""

    def __init__(self, port: int, until: float, seed: int, own: Sequence[str], noted: Noted) -> None:
        super().__init__()
        self.port, self.until, self.chance, self.left = port, until, random.Random(seed), list(own)
        self.noted = noted

    def ask(self, path: str, body: str | None = None, cookie: str = "") -> tuple[str, str]:
        """(the answer's text, its cookie); what goes wrong is noted."""
        began = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            given = {"Cookie": cookie} | (FORM if body else {"Accept": "text/html"})
            connection.request("POST" if body else "GET", "/error-review" + path, body, given)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status not in (200, 302, 303):
                self.noted.errors.append(f"{answer.status} {path}")
            return text, (answer.getheader("Set-Cookie") or "").partition(";")[0]
        except (OSError, HTTPException) as error:
            self.noted.errors.append(f"{type(error).__name__} {path}")
            return "", ""
        finally:
            connection.close()
            self.noted.times.append(time.perf_counter() - began)

    def run(self) -> None:
        time.sleep(self.chance.random())
        text, cookie = self.ask("/findings")
        token = re.search(r'name="csrf" value="(\w+)"', text)
        while time.time() < self.until:
            if self.left and token:
                one = self.left.pop()
                text, _ = self.ask("/decide-many", f"csrf={token[1]}&do=flagged&finding={one}", cookie)
                # Else it is in no view, or an error is noted.
                self.noted.decided += [one] * bool(re.search(r'"ok": ?true', text))
            else:
                self.ask(self.chance.choice(VIEWS))
            time.sleep(1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    script.add_whole(parser, "--findings", "findings in the reports", 100_000)
    script.add_whole(parser, "--pictures", "pictures they are about", 50_000, low=2)
    script.add_whole(parser, "--readers", "readers", 50)
    script.add_whole(parser, "--deciders", "deciders", 5)
    script.add_whole(parser, "--seconds", "how long", 60)
    script.add_option(parser, "--seed", "of the made-up reports", 1, type=int)
    kept = "a folder that keeps the reports for another run"
    script.add_option(parser, "--folder", kept, None, type=Path, metavar="DIR")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as root:
        folder = DataFolder(args.folder or Path(root) / "data")
        folder.root.mkdir(exist_ok=True)
        if not folder.review.exists():
            make_reports(folder, args.findings, args.pictures, random.Random(args.seed))
            read_reports(folder)
        with Review(folder.review) as store:
            ids = [row[0] for row in store.db.execute("SELECT id FROM findings LIMIT 5000")]
        own = [*[()] * args.readers, *(ids[one :: args.deciders] for one in range(args.deciders))]
        noted, first, last = visited(folder, Path(root), own, args.seconds)
        with Review(folder.review) as store:
            known = {row[0] for row in store.db.execute(FLAGGED)}
    times, errors, said = sorted(noted.times), noted.errors, noted.decided
    print(
        f"{len(times):,} requests, {len(errors)} errors{' ' + str(errors[:3]) if errors else ''}, median"
        f" {times[len(times) // 2] * 1000:.0f} ms, p99 {times[int(len(times) * 0.99)] * 1000:.0f} ms; {len(said)} decisions,"
        f" {len(set(said) - known)} lost; memory {first >> 20} MB, then {last >> 20} MB"
    )
    return 0


def visited(folder: DataFolder, root: Path, own: list[Sequence[str]], seconds: int) -> tuple[Noted, int, int]:
    """(what visitors noted, one for each of `own` findings; the page's bytes of memory early and at the end)."""
    pictures = root / "pictures"
    pictures.mkdir()
    where = ["--data-dir", str(folder.root), "--port", "0", "--library", str(pictures)]
    command = [sys.executable, str(PROJECT / "webapp/app.py"), *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        try:
            port = int(re.search(r":(\d+)/", page.stdout.readline() if page.stdout else "")[1])  # type: ignore[index]
            until, noted = time.time() + seconds, Noted()
            visitors = [Visitor(port, until, number, findings, noted) for number, findings in enumerate(own)]
            for one in visitors:
                one.start()
            time.sleep(seconds / 10)
            first = memory("VmRSS", page.pid)
            for one in visitors:
                one.join()
            return noted, first, memory("VmRSS", page.pid)
        finally:
            page.terminate()


if __name__ == "__main__":
    script.run(main)
