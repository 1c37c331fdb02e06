"""Newer reports while the page is used: read beside the requests, by one thread, and what goes wrong is said."""

from __future__ import annotations

import html
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from review_data import hashes, missing, page_on, pair, save_dataset, save_mistagged, save_pairs

from tagcheck.review import report_import
from tagcheck.review.store import ACCEPTED, Ask, Key, Review
from webapp import state

FIRST, SECOND, THIRD = hashes(3)


@pytest.fixture
def app(folder):
    """The page on one finding that it has read."""
    save_dataset(folder, {FIRST: ["x"], SECOND: ["x"]})
    save_mistagged(folder, missing(FIRST, "old"))
    made = page_on(folder)
    assert findings(made) == 1
    return made


def look(app) -> str:
    answer = app.test_client().get("/error-review/findings")
    assert answer.status_code == 200
    return html.unescape(answer.text)


def findings(app) -> int:
    return len(re.findall(r'<li><a href="/error-review/card', look(app)))


def readers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "reader"]


def wait_for_readers() -> None:
    for one in readers():
        one.join(20)


def failing(monkeypatch, error: Exception) -> list[int]:
    """Let reading the reports fail; a list that grows with each try."""
    tries: list[int] = []

    def sync(*_):
        tries.append(1)
        raise error

    monkeypatch.setattr(report_import, "sync", sync)
    return tries


def test_reports_that_take_long_are_read_beside_the_requests_which_show_what_was_there_before(app, folder, monkeypatch):
    monkeypatch.setattr(state, "MOMENT", 0.05)
    save_pairs(folder, pair(SECOND, THIRD))
    with Review(folder.review) as other, other.writing():  # another program writes, so the reading waits
        for _ in range(3):
            text = look(app)
            assert "Newer reports are being read" in text and "1 finding" in text
            assert len(readers()) == 1
    wait_for_readers()
    text = look(app)
    assert "2 findings" in text and "being read" not in text


def test_many_requests_at_once_start_one_reading(app, folder, monkeypatch):
    monkeypatch.setattr(state, "MOMENT", 0.05)
    begun = []
    sync = report_import.sync
    monkeypatch.setattr(report_import, "sync", lambda *given: begun.append(1) or sync(*given))
    save_pairs(folder, pair(SECOND, THIRD))
    with Review(folder.review) as other, other.writing(), ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: findings(app), range(16))) == {1}
    wait_for_readers()
    assert findings(app) == 2 and len(begun) == 1


def test_few_reports_are_there_at_the_first_look(app, folder, monkeypatch):
    monkeypatch.setattr(state, "MOMENT", 20.0)  # the machine may be busy
    save_mistagged(folder, missing(FIRST, "new", "newer"))
    assert "2 suggestions" in look(app) and readers() == []


def test_the_page_says_that_the_first_reports_are_being_read_and_then_shows_them(folder, monkeypatch):
    save_mistagged(folder, missing(FIRST, "new"))
    made = page_on(folder)
    monkeypatch.setattr(state, "FIRST", 0.05)
    with Review(folder.review) as other, other.writing():  # another program writes, so the reading waits
        answer = made.test_client().get("/error-review")
        assert answer.status_code == 200 and answer.headers["Refresh"] == "2"
        assert "are being read for the first time" in answer.text and "No open findings" not in answer.text
        assert "read for the first time" in look(made)
    wait_for_readers()
    assert findings(made) == 1


def test_who_asks_for_all_waits_for_the_first_reports(folder, monkeypatch):
    save_mistagged(folder, missing(FIRST, "new"))
    monkeypatch.setattr(state, "FIRST", 0.0)
    assert "new" in page_on(folder).test_client().get("/error-review/export.csv").text


def test_nobody_waits_to_decide_while_a_report_is_read(app, folder, monkeypatch):
    monkeypatch.setattr(state, "MOMENT", 0.05)
    reading, decided = threading.Event(), threading.Event()
    records = report_import.records

    def slow(*given):
        reading.set()
        assert decided.wait(20)
        yield from records(*given)

    monkeypatch.setattr(report_import, "records", slow)
    save_mistagged(folder, missing(FIRST, "old"), missing(SECOND, "new"))
    look(app)
    assert reading.wait(20)
    key = Key(FIRST, "old", "add")
    with Review(folder.review) as store:
        store.db.execute("PRAGMA busy_timeout = 100")
        assert store.decide([Ask(key)], ACCEPTED).changed == [key]
        decided.set()
        wait_for_readers()
        assert store.decision(key).queue == ACCEPTED
    assert findings(app) == 1


def test_a_decision_while_reports_are_read_waits_its_turn_and_is_kept(app, folder):
    save_mistagged(folder, missing(FIRST, "old"), missing(SECOND, "new"))
    with ThreadPoolExecutor(2) as pool, Review(folder.review) as store:
        looked = pool.submit(findings, app)
        store.decide([Ask(Key(FIRST, "old", "add"))], ACCEPTED)
        looked.result()
        assert store.decision(Key(FIRST, "old", "add")).queue == ACCEPTED
    wait_for_readers()
    assert findings(app) == 1


def test_why_reports_cannot_be_read_is_said_on_every_page_and_tried_again(app, folder, monkeypatch):
    sync = report_import.sync
    tries = failing(monkeypatch, sqlite3.OperationalError("database or disk is full"))
    monkeypatch.setattr(state, "AGAIN", 600.0)  # four pages take their time on a busy machine
    save_pairs(folder, pair(SECOND, THIRD))
    for address in ("/error-review", "/error-review/findings", "/error-review/card", "/error-review/help"):
        text = html.unescape(app.test_client().get(address, follow_redirects=True).text)
        assert "Newer reports could not be read: database or disk is full. What you see is from before" in text
    assert findings(app) == 1 and len(tries) == 1  # a machine that has just refused is left alone for a while
    monkeypatch.setattr(state, "AGAIN", 0.0)
    look(app)
    assert len(tries) == 2
    monkeypatch.setattr(report_import, "sync", sync)
    text = look(app)
    assert "2 findings" in text and "could not be read" not in text


def test_trouble_is_over_when_another_program_has_read_the_reports(app, folder, monkeypatch):
    sync = report_import.sync
    failing(monkeypatch, OSError("no space left on device"))
    save_pairs(folder, pair(SECOND, THIRD))
    assert "no space left on device" in look(app)
    with Review(folder.review) as store:
        sync(store, folder)
    text = look(app)
    assert "2 findings" in text and "could not be read" not in text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reading_that_breaks_as_nobody_expected_does_not_pass_for_one_that_worked(app, folder, monkeypatch):
    failing(monkeypatch, ZeroDivisionError("a fault of the program"))
    save_pairs(folder, pair(SECOND, THIRD))
    assert "Newer reports could not be read: reading them broke off" in look(app)
