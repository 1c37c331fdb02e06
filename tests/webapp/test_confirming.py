"""What the page says of writes that the library may not keep, and of those that it lost."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from hydrus_server import HydrusServer
from review_data import missing, save_dataset, save_mistagged
from test_webapp import Page, wait_for

from tagcheck import data_folder
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.writing import Ledger
from tagcheck.writing import apply as applying
from webapp import applying_views, confirming, state
from webapp.app import create_app, recover
from webapp.state import Settings


class Written(Page):
    """The page on a client whose key may not ask it to save, with two findings accepted and written."""

    def __init__(self, folder, server):
        self.folder, self.server = folder, server
        self.hashes = [server.add_file(f"file {n}".encode(), ["solo"]) for n in range(2)]
        server.save()
        save_dataset(folder, {hash: ["solo"] for hash in self.hashes})
        save_mistagged(folder, *(missing(hash, "hat") for hash in self.hashes))
        self.restarted(server.add_key("no database", {2, 3, 4, 8, 10}))
        for _ in self.hashes:
            self.press(self.get("/error-review/card?type=tags"), "Accept A")
        self.text = self.press(self.get("/error-review/apply"), "Write 2 changes to my tags")

    def restarted(self, key, patience=0.2):
        self.app = create_app(Settings(self.folder, lambda: Hydrus(self.server.url, key, patience=patience)))
        self.client = self.app.test_client()
        self.shared = self.app.extensions["tagcheck"]

    def dies(self):
        self.server.kill()
        self.server.start()

    def statuses(self):
        return [row.status for row in Ledger(self.folder.review).rows()]


@pytest.fixture
def page(folder):
    with HydrusServer({}, pages={}) as server:
        yield Written(folder, server)


def test_a_write_that_is_not_certain_is_not_called_applied(page):
    assert "2 changes written, being confirmed until the library has surely saved" in page.text
    assert "0 changes applied" not in page.text and page.statuses() == ["written"] * 2
    assert page.queues()["applied"] == 0 and "2 written, being confirmed" in page.text
    again = page.press(page.text, "Read the 2 being confirmed again")
    assert "0 changes confirmed, 2 still being confirmed" in again


def test_a_minute_later_it_is(page, monkeypatch):
    now = data_folder.utc_now() + timedelta(seconds=61)
    monkeypatch.setattr(applying, "utc_now", lambda: now)
    page.server.save()
    assert confirming.look(page.shared).kept == 2
    assert page.queues()["applied"] == 2 and page.statuses() == ["applied"] * 2


def test_the_timer_looks_again_by_itself(page, monkeypatch):
    page.dies()
    monkeypatch.setattr(confirming, "PAUSE", 0.05)
    page.shared.confirming = None  # the one that was started after the write waits for a minute
    confirming.wake(page.shared)
    for _ in range(100):
        if page.statuses() == ["failed"] * 2:
            break
        time.sleep(0.05)
    assert page.statuses() == ["failed"] * 2


def test_what_the_client_lost_is_said_on_every_page_and_can_be_reopened(page):
    page.dies()
    assert confirming.look(page.shared).lost == 2
    assert "2 changes lost by the library" in page.get("/error-review")
    batch = page.get("/error-review/applied/1")
    assert "the library has lost this" in batch and page.queues()["failed"] == 2
    assert "lost by the library" not in page.get("/error-review")  # it was looked at
    assert "2 changes reopened" in page.press(batch, "Reopen the 2 failed")
    assert page.queues()["open"] == 2 and page.queues()["failed"] == 0


def test_what_the_client_lost_is_written_again_after_a_question(page):
    page.dies()
    page.restarted(page.server.key)
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("webapp.app.script.say", said.append)
        recover(page.shared)
    assert "2 changes lost by the library" in " ".join(said)
    preview = page.press(page.get("/error-review/applied/1"), "Try the 2 failed again")
    assert "hat" not in str(page.server.mappings)
    assert "2 changes applied" in page.press(preview, "Write 2 changes to my tags")
    assert page.queues()["applied"] == 2 and all("hat" in page.server.stored(hash)["0"] for hash in page.hashes)


def test_a_card_says_where_tags_go_as_soon_as_the_client_is_back(page, monkeypatch):
    monkeypatch.setattr(state, "PATIENCE", 20)
    page.restarted(page.server.key)
    page.server.stop()
    card = "/error-review/card?type=tags&state=accepted"
    assert "once you apply" not in page.get(card)
    page.server.start()
    assert "Written to <strong>my tags</strong> once you apply" in page.get(card)


def test_a_batch_names_its_tag_service_while_the_client_is_away(page):
    page.server.stop()
    page.restarted(page.server.key)
    assert page.get("/error-review/applied/1").count("<td>my tags</td>") == 2
    assert page.get("/error-review/applied/1.csv").count(",my tags,") == 2


def test_an_undo_is_confirmed_too(page):
    text = page.press(page.text, "Undo the whole batch")
    assert "2 changes taken back, being confirmed" in text and "Undo the whole batch" not in text
    assert "2 taken back, being confirmed" in text and "2 written" not in text


def test_the_page_says_what_a_write_waits_for(page, monkeypatch):
    monkeypatch.setattr(applying_views, "MOMENT", 0)
    page.restarted(page.server.key, patience=20)
    page.shared.writer().describe()  # it has answered before, so it is waited for
    page.server.stop()
    page.post("/error-review/applied/undo", batch=1)
    wait_for(page, "running", "no Hydrus answers at")
    assert "trying again for up to 20 s" in page.get("/error-review/run")
    page.server.start()
    assert not wait_for(page, "done")["line"]


def test_an_undo_that_a_client_which_is_away_left_open_is_called_one(page):
    page.server.stop()
    text = page.press(page.text, "Undo the whole batch")
    assert "2 undo left open" in text
    page.server.start()
    text = page.press(text, "Finish what is left open")
    assert "2 changes taken back, being confirmed" in text and "2 changes written" not in text
