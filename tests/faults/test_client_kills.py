"""A real client that is killed after an apply of 100, in its midst, and in the midst of an undo: ledger, page and client agree.

    HYDRUS_TEST_START="xvfb-run -a python hydrus_client.py -d DB" HYDRUS_TEST_URL=http://127.0.0.1:45869 HYDRUS_TEST_KEY=... \\
        HYDRUS_TEST_PLAIN_KEY=... pytest tests/faults/test_client_kills.py

On a client that nobody else uses: `HYDRUS_TEST_START` starts it and it is killed 20 times. Where it asks at a start whether it runs
already, since the killed one is still listed, let a script remove `client_running` from its folder first. It has the services of docs/hydrus.md.
The first key may do everything, the second may not ask it to save (search, edit tags, manage pages). 20 runs, about half an hour.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from review_data import missing, save_dataset, save_mistagged, wrong
from test_hydrus import OWN, REAL_KEY, REAL_URL, Bench, unique_name
from test_webapp import Page

from tagcheck.data_folder import DataFolder
from tagcheck.errors import LibraryError
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.library.hydrus.connection import Connection
from tagcheck.review import Review, queries
from tagcheck.review.queries import Filter
from tagcheck.review.store import ACCEPTED
from tagcheck.writing import Ledger
from tagcheck.writing.ledger import APPLIED, FAILED, OPEN, UNDONE, WRITTEN
from webapp import confirming
from webapp.app import create_app, recover
from webapp.state import Settings

START, PLAIN = os.environ.get("HYDRUS_TEST_START"), os.environ.get("HYDRUS_TEST_PLAIN_KEY")
pytestmark = pytest.mark.skipif(
    not (START and PLAIN and REAL_URL and REAL_KEY), reason="needs a client that it may kill"
)
WRITE, SAVE = "/add_tags/add_tags", "/manage_database/force_commit"
AFTERWARDS = [(seconds, False) for seconds in (1, 10, 40) * 3] + [(seconds, True) for seconds in (1, 10, 40)]
# which request of an apply or undo the client does not live to answer: path, number, whether it has taken it in
MIDST = [(WRITE, 1, False), (WRITE, 1, True), (WRITE, 2, True), (SAVE, 1, False)]


class Client:
    """The client that is started and killed; it is running while nothing is done to it."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(shlex.split(START or ""), start_new_session=True, **quiet)
        until = time.monotonic() + 180
        while time.monotonic() < until:
            with suppress(LibraryError):
                Hydrus(REAL_URL, REAL_KEY, patience=0).services()
                return
            time.sleep(1)
        pytest.fail("the client did not answer within 180 seconds")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    running = Client()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def bench(client: Client) -> Iterator[Bench]:
    """100 pictures in it, saved."""
    there = {one.name: one.key for one in Hydrus(REAL_URL, REAL_KEY).services()}
    made = Bench(REAL_URL, REAL_KEY, own={OWN[0]: there[OWN[0]]})
    for _ in range(100):
        made.add()
    made.hydrus.commit()
    yield made
    made.clear()
    made.hydrus.commit()


class Written(Page):
    """The page, with 50 tags to add and 50 to remove, accepted."""

    def __init__(self, folder: DataFolder, client: Client, bench: Bench, key: str) -> None:
        self.folder, self.running, self.bench, self.key = folder, client, bench, key
        self.hashes, new, old = bench.added, unique_name("new"), unique_name("old")
        bench.post(WRITE, {"hashes": self.hashes[50:], "service_keys_to_tags": {bench.service: [old]}})
        bench.hydrus.commit()
        save_dataset(folder, {hash: [old] if number >= 50 else [] for number, hash in enumerate(self.hashes)})
        findings = [missing(hash, new) for hash in self.hashes[:50]] + [wrong(hash, old) for hash in self.hashes[50:]]
        save_mistagged(folder, *findings)
        self.open()
        self.get("/error-review")
        with Review(folder.review) as store:
            assert store.decide(queries.asks(store, Filter()), ACCEPTED).changed

    @property
    def library(self) -> Hydrus:
        return Hydrus(REAL_URL, self.key, tag_services=[self.bench.service], patience=2)

    def open(self) -> None:
        """Start the page, which looks for what was left and reads again what was written."""
        self.app = create_app(Settings(self.folder, lambda: self.library))
        self.client, self.shared = self.app.test_client(), self.app.extensions["tagcheck"]
        self.said: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("webapp.app.script.say", self.said.append)
            patch.setattr(confirming, "begin", lambda shared: confirming.look(shared, everything=True))
            recover(self.shared)

    def write(self) -> str:
        return self.press(self.get("/error-review/apply"), "Write 100 changes")

    def undo(self) -> str:
        return self.press(self.get("/error-review/applied/1"), "Undo the whole batch")

    def starts_again(self) -> Counter[str]:
        """Client and page start, and what is not certain is read again until it is; the rows of the ledger by status."""
        self.running.start()
        self.open()
        until = time.monotonic() + 90
        while (found := Counter(row.status for row in Ledger(self.folder.review).rows()))[WRITTEN]:
            assert time.monotonic() < until, found
            time.sleep(3)
            confirming.look(self.shared)
        return found

    def agrees(self) -> None:
        """Ledger, page and client say the same of every change, and what was lost was told."""
        rows, library = Ledger(self.folder.review).rows(), self.library
        assert len(rows) == 100
        writes = [row.write if row.status == APPLIED else library.undo_of(row.write) for row in rows]
        now = library.states([(write.hash, write.tag, write.service) for write in writes])
        for row, write, state in zip(rows, writes, now):
            as_before = {write.after, row.before} if row.status in (UNDONE, FAILED) else {write.after}
            assert state in as_before, (row, state)
        counts, queues = Counter(row.status for row in rows), self.queues()
        assert (queues["applied"], queues["failed"]) == (counts[APPLIED], counts[FAILED])
        lost = sum("the library has lost this" in row.reason for row in rows)
        assert (f"{lost} changes lost by the library" in self.shared.lost + " ".join(self.said)) == bool(lost)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch, client: Client):
    """Have the client killed at a request: `killed(path, number, afterwards)`."""

    def at(path: str, number: int, taken_in: bool) -> None:
        seen, post = Counter(), Connection.post

        def kills(self: Connection, asked: str, *args, **named):
            seen[asked] += 1
            if (asked, seen[asked]) == (path, number):
                if taken_in:
                    post(self, asked, *args, **named)
                client.kill()
            return post(self, asked, *args, **named)

        monkeypatch.setattr(Connection, "post", kills)

    yield at
    monkeypatch.undo()


@pytest.mark.parametrize(("seconds", "may_save"), AFTERWARDS)
def test_a_client_killed_after_an_apply_has_kept_or_lost_it_and_its_owner_is_told(
    folder: DataFolder, client: Client, bench: Bench, seconds: int, may_save: bool
) -> None:
    page = Written(folder, client, bench, REAL_KEY if may_save else PLAIN)
    assert ("100 changes applied" if may_save else "100 changes written, being confirmed") in page.write()
    time.sleep(seconds)
    client.kill()
    found = page.starts_again()
    print(dict(found))
    page.agrees()
    assert found[APPLIED] == 100 if may_save else found[APPLIED] + found[FAILED] == 100


@pytest.mark.parametrize(("path", "number", "taken_in"), MIDST)
@pytest.mark.parametrize("back", [False, True], ids=["apply", "undo"])
def test_an_apply_and_an_undo_in_whose_midst_the_client_was_killed_are_finished(
    folder: DataFolder, client: Client, bench: Bench, killed, path: str, number: int, taken_in: bool, back: bool
) -> None:
    page = Written(folder, client, bench, REAL_KEY)
    if back:
        page.write()
    killed(path, number, taken_in)
    page.undo() if back else page.write()
    assert {row.status for row in Ledger(folder.review).rows()} & {OPEN, WRITTEN}
    found = page.starts_again()
    print(dict(found))
    page.agrees()
    assert found == {UNDONE if back else APPLIED: 100}
