"""The page on a Hydrus, the local server and a real client where one is named: it hands pictures and pairs over, writes, and takes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from browser_site import browser, tabs, window
from hydrus_server import AI_TAGS
from review_data import missing, pair, save_dataset, save_mistagged, save_pairs, wrong
from test_hydrus import Bench, bench, unique_name
from test_webapp import Page

from tagcheck.data_folder import DataFolder
from tagcheck.library.hydrus.client import Hydrus
from webapp.app import create_app
from webapp.serving import Server
from webapp.state import Settings


class Shared(Page):
    """The page on a Hydrus client that has six pictures: two with a tag finding, two pairs of near-duplicates."""

    def __init__(self, folder: DataFolder, bench: Bench, hydrus: Hydrus) -> None:
        self.folder, self.bench, self.hydrus = folder, bench, hydrus
        self.hashes = [bench.add() for _ in range(6)]
        self.pairs = [tuple(sorted(self.hashes[2:4])), tuple(sorted(self.hashes[4:6]))]
        self.tag = unique_name("tag")
        save_dataset(folder, {hash: ["solo"] for hash in self.hashes})
        save_mistagged(folder, *(missing(hash, self.tag) for hash in self.hashes[:2]))
        save_pairs(folder, *(pair(*one) for one in self.pairs))
        self.app = create_app(Settings(folder, lambda: hydrus))
        self.client = self.app.test_client()

    def on_page(self, name: str) -> set[str]:
        """The files on the page of that name in the client."""
        return {hash for page in self.hydrus.walk([name]).pages for hash in page.hashes}


@pytest.fixture
def page(folder: DataFolder, bench: Bench) -> Shared:
    return Shared(folder, bench, bench.hydrus)


def test_the_pictures_of_a_view_open_on_a_locked_page(page: Shared) -> None:
    page.bench.may_leave_traces()
    text = page.press(
        page.get(f"/error-review/findings?type=tags&tag={page.tag}"), "Open the pictures of these 2 findings in Hydrus"
    )
    assert "2 pictures opened in a new page: tagcheck:" in text
    name = text.partition("opened in a new page: ")[2].partition(".\n")[0].partition(".<")[0]
    assert page.on_page(name) == set(page.hashes[:2])
    if page.bench.server:
        assert page.bench.server.page(name).kind == "locked"


def test_one_finding_opens_from_its_card_and_what_is_gone_is_said(page: Shared) -> None:
    page.bench.may_leave_traces()
    one, other = page.pairs[0]
    page.bench.post("/add_files/delete_files", {"hash": other})
    page.bench.post("/add_files/delete_files", {"hash": other, "file_service_key": "616c6c206c6f63616c2066696c6573"})
    page.bench.settle()
    text = page.press(page.get(f"/error-review/card?type=pairs&hash={one}"), "Open in Hydrus")
    assert "1 picture opened in a new page: tagcheck: a finding; 1 are not there any more" in text
    assert one in page.on_page("tagcheck: a finding")


@pytest.mark.parametrize("kind", ["potential duplicates", "duplicates", "alternates", "false positives"])
def test_a_pair_is_handed_over_as_what_its_owner_says(page: Shared, kind: str) -> None:
    page.bench.may_leave_traces()
    one, other = page.pairs[0]
    text = page.press(page.get(f"/error-review/card?type=pairs&hash={one}"), kind.capitalize())
    assert f"1 pair handed over as {kind}." in text
    assert page.hydrus.judged([(one, other), page.pairs[1]]) == [kind, None]


def test_a_whole_view_is_handed_over_but_what_was_judged_there_stays(page: Shared) -> None:
    page.bench.may_leave_traces()
    page.hydrus.set_relationship([page.pairs[0]], "alternates")
    text = page.press(page.get("/error-review/findings?type=pairs"), "Push these 2 pairs as duplicates")
    assert "1 pair handed over as duplicates; 1 left as they are, judged there already" in text
    assert page.hydrus.judged(page.pairs) == ["alternates", "duplicates"]
    assert "0 pairs handed over as potential duplicates; 2 left" in page.press(
        page.get("/error-review/findings?type=pairs"), "Push these 2 pairs as potential duplicates"
    )


def test_a_view_that_changed_since_it_was_shown_is_not_pushed(page: Shared) -> None:
    shown = page.get("/error-review/findings?type=pairs")
    page.press(page.get(f"/error-review/card?type=pairs&hash={page.pairs[0][0]}"), "Ignore")
    token = page.token()
    answer = page.client.post(
        "/error-review/relate?type=pairs", data={"csrf": token, "kind": "duplicates", "expect": "2"}
    )
    assert "Push these 2 pairs" in shown and answer.status_code == 409
    assert "holds 1 pair now. Nothing was pushed" in answer.text
    assert page.hydrus.judged(page.pairs) == [None, None]
    assert (
        page.client.post(
            "/error-review/relate?type=pairs", data={"csrf": token, "kind": "twins", "expect": "1"}
        ).status_code
        == 400
    )


def test_a_key_without_the_permission_says_so_and_nothing_happens(folder: DataFolder, bench: Bench) -> None:
    if bench.server is None:
        pytest.skip("the real client was given one key, which has all permissions")
    page = Shared(folder, bench, Hydrus(bench.url, bench.server.add_key("tags only", [2, 3])))
    page.get("/error-review/findings?type=pairs")
    for address, lacking in (("relate", "edit file relationships"), ("open", "manage pages")):
        assert f'lacks the permission "{lacking}"' in page.post(f"/error-review/{address}?type=pairs", expect="2")
    assert bench.server.relationships == {} and bench.server.root.children == []


def test_a_change_is_written_and_what_undo_cannot_make_as_before_is_said(page: Shared) -> None:
    hash, remembers = page.hashes[0], "Hydrus remembers a tag that was added and taken off again as deleted there"
    page.press(page.get(f"/error-review/card?type=tags&hash={hash}"), "Accept A")
    preview = page.get("/error-review/apply")
    assert remembers in preview
    written = page.press(preview, f"Write 1 change to {page.bench.name}")
    assert remembers in written and page.bench.state(hash, page.tag) == "current"
    undone = page.press(written, "Undo the whole batch")
    assert "it is deleted now, and was absent before: Hydrus remembers" in undone and "clear deletion record" in undone
    assert page.bench.state(hash, page.tag) == "deleted"


def test_what_is_undone_exactly_is_not_said_to_be_otherwise(page: Shared) -> None:
    hash = page.hashes[0]
    page.bench.tag(hash, "solo")
    save_mistagged(page.folder, wrong(hash, "solo"))
    page.press(page.get(f"/error-review/card?type=tags&hash={hash}"), "Accept A")
    written = page.press(page.get("/error-review/apply"), f"Write 1 change to {page.bench.name}")
    undone = page.press(written, "Undo the whole batch")
    assert "remembers" not in written + undone and page.bench.state(hash, "solo") == "current"


@pytest.fixture
def address(page: Shared) -> Iterator[str]:
    """The page, served for a browser."""
    server = Server(page.app, "localhost", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_in_a_browser_a_key_opens_the_pictures_and_a_button_judges_the_pair(page: Shared, address: str, window) -> None:
    page.bench.may_leave_traces()
    tab = window()
    one, other = page.pairs[0]
    tab.goto(f"{address}/error-review/card?type=pairs&hash={one}")
    tab.keyboard.press("o")
    tab.wait_for_selector("#said >> text=2 pictures opened in a new page: tagcheck: a finding")
    tab.get_by_role("button", name="Alternates").click()
    tab.wait_for_selector("#said >> text=1 pair handed over as alternates.")
    tab.get_by_role("button", name="Duplicates", exact=True).click()
    tab.wait_for_selector("#said >> text=0 pairs handed over as duplicates; 1 left as they are")
    assert page.hydrus.judged([(one, other), page.pairs[1]]) == ["alternates", None]
    assert {one, other} <= page.on_page("tagcheck: a finding")


def test_why_pairs_are_left_as_they_are_is_said_apart(page: Shared, folder: DataFolder) -> None:
    page.bench.may_leave_traces()
    one, other = page.pairs
    page.hydrus.set_relationship([one], "potential duplicates")
    text = page.press(page.get("/error-review/findings?type=pairs"), "Push these 2 pairs as potential duplicates")
    assert "1 pair handed over as potential duplicates; 1 left as they are, potential duplicates there already." in text
    page.hydrus.set_relationship([other], "alternates")
    page.bench.post("/add_files/delete_files", {"hash": one[0]})
    page.bench.post("/add_files/delete_files", {"hash": one[0], "file_service_key": "616c6c206c6f63616c2066696c6573"})
    page.bench.settle()
    text = page.press(page.get("/error-review/findings?type=pairs"), "Push these 2 pairs as duplicates")
    assert "0 pairs handed over as duplicates; 2 left as they are, " in text and "1 judged there already" in text


def test_pairs_that_hydrus_did_not_keep_are_named(page: Shared) -> None:
    if page.bench.server is None:
        pytest.skip("a real client keeps them")
    one, server = page.pairs[0], page.bench.server

    def forgets(call) -> None:
        if call.path.endswith("get_file_relationships"):
            server.relationships.pop(one, None)

    server.before_answer = forgets
    text = page.press(page.get("/error-review/findings?type=pairs"), "Push these 2 pairs as duplicates")
    assert f"1 left as they are, not kept there ({one[0][:10]} and {one[1][:10]})." in text


def test_the_button_names_every_service_with_its_count(folder: DataFolder, bench: Bench) -> None:
    if bench.server is None:
        pytest.skip("the services of the real client are its owner's")
    page = Shared(folder, bench, bench.hydrus)
    bench.server.tag(page.hashes[0], ["wrong"], AI_TAGS)
    bench.server.tag(page.hashes[0], ["wrong"])
    save_mistagged(folder, missing(page.hashes[1], "hat"), wrong(page.hashes[0], "wrong"))
    for _ in range(2):
        page.press(page.get("/error-review/card?type=tags"), "Accept A")
    assert "3 changes applied" in page.press(
        page.get("/error-review/apply"), "Write 3 changes to my tags: 2, ai suggestions: 1"
    )


def test_a_read_only_key_names_the_permission_at_apply(folder: DataFolder, bench: Bench) -> None:
    if bench.server is None:
        pytest.skip("the real client was given one key, which has all permissions")
    page = Shared(folder, bench, Hydrus(bench.url, bench.server.add_key("reader", [3, 4])))
    page.press(page.get("/error-review/card?type=tags"), "Accept A")
    says = "Nothing can be written: the API key 'reader' lacks the permission \"edit file tags\""
    shown = page.get("/error-review/apply")
    assert says in shown and "1 accepted change waits and will be kept" in shown and "0 writes" not in shown
    assert says in page.post("/error-review/apply", code=409)


def test_a_client_that_is_away_holds_no_view_up(folder: DataFolder, bench: Bench, monkeypatch) -> None:
    if bench.server is None:
        pytest.skip("the real client stays")
    page = Shared(folder, bench, bench.hydrus)
    hash = page.hashes[0]
    page.press(page.get(f"/error-review/card?type=tags&hash={hash}"), "Accept A")
    page.press(page.get("/error-review/apply"), "Write 1 change to my tags")
    assert page.client.get(f"/pictures/{hash}/thumbnail").mimetype.startswith("image/")
    bench.server.locked = True  # it answers, and says that it is busy
    for said in ("is busy", "no Hydrus answers"):
        start = time.monotonic()
        kept = page.client.get(f"/pictures/{hash}/thumbnail")
        assert kept.status_code == 200 and "X-Picture" not in kept.headers
        for one in page.hashes[1:]:
            assert page.client.get(f"/pictures/{one}/thumbnail").headers["X-Picture"] == "unavailable"
        page.get("/error-review/applied/1")
        page.get("/error-review/card?type=tags")
        assert said in page.get("/error-review/apply")
        assert time.monotonic() - start < 3
        bench.server.stop()  # and then it is away
