"""The page in a real browser, on a small library drawn for the test: keys, forms, writing and taking back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_site import Site, browser, open_tab, ready, settle, tabs, window
from review_data import (
    draw_library,
    missing,
    pair,
    save_dataset,
    save_mistagged,
    save_pairs,
    save_series,
    sidecar,
    wrong,
)

from tagcheck.changes import TagChange
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.review import queries
from tagcheck.review.queries import Filter
from tagcheck.review.report_import import sync
from tagcheck.review.store import ACCEPTED, FLAGGED, IGNORED, SKIPPED, Review
from tagcheck.writing import apply
from tagcheck.writing.ledger import Ledger, outcomes
from webapp import views

COUNT = 60


@pytest.fixture
def site(folder, tmp_path) -> Iterator[Site]:
    """Sixty pictures that lack a series, ten of them with a wrong tag beside, and the last two alike."""
    root = tmp_path / "library"
    tags = [["1girl", f"number {number}"] for number in range(COUNT)]
    hashes = draw_library(root, tags)
    save_dataset(folder, dict(zip(hashes, tags)))
    entries = [missing(hash, "series:elves", confidence=0.99 - number / 200) for number, hash in enumerate(hashes)]
    save_mistagged(folder, *entries, *[wrong(hash, "1girl", confidence=0.6) for hash in hashes[:10]])
    first, second = sorted(hashes[-2:])
    only = [tuple(tags[hashes.index(one)][1:]) for one in (first, second)]
    save_pairs(folder, pair(first, second, 0.98, *only))
    save_series(folder)
    made = Site(folder, root, hashes)
    yield made
    made.stop()


@pytest.fixture
def tab(window, site):
    """A tab of 1366 x 768 that fails the test when its console shows an error."""
    return window()


def test_a_fix_is_accepted_applied_and_undone(tab, site):
    tab.goto(site.address("/"))
    assert tab.url.endswith("/error-review")
    tab.get_by_role("link", name="Review, surest first").click()
    assert tab.locator("article h2").inner_text().startswith("Add series:elves, and 1 more")
    shown = tab.locator("article").get_attribute("data-id")
    ready(tab)
    tab.keyboard.press("a")
    tab.wait_for_function("id => document.querySelector('article').dataset.id !== id", arg=shown)
    tab.wait_for_selector("#said >> text=Accepted: add series:elves, remove 1girl.")
    with Review(site.folder.review) as store:
        store.decide([one for one in queries.asks(store, Filter(state=ACCEPTED)) if one.key.tag == "1girl"], IGNORED)
    tab.get_by_role("link", name="Apply", exact=True).click()
    assert sidecar(site.root, 0) == ["1girl", "number 0"]
    tab.get_by_role("button", name="Write 1 change to sidecar files").click()
    tab.wait_for_selector("#said >> text=1 change applied")
    assert sidecar(site.root, 0) == ["1girl", "number 0", "series:elves"]
    tab.get_by_role("button", name="Undo the whole batch (1 change)").click()
    tab.wait_for_selector("#said >> text=1 change taken back")
    assert sidecar(site.root, 0) == ["1girl", "number 0"]


def test_an_evening_of_decisions_by_keys(tab, site):
    """Fifty decisions, some undone, applied, a batch undone, the server restarted in between: nothing is lost."""
    tab.goto(site.address("/error-review/card?type=missing_tags&tag=series:elves"))
    for number in range(50):
        ready(tab)
        tab.keyboard.press("x" if number % 5 == 4 else "a")
    settle(tab)
    assert (site.queue("accepted"), site.queue("ignored")) == (40, 10)
    for key in ("u", "Backspace", "Control+z"):
        tab.keyboard.press(key)
        settle(tab)
    assert (site.queue("accepted"), site.queue("ignored")) == (38, 9)
    tab.keyboard.press("Control+Shift+z")
    tab.wait_for_function("() => document.getElementById('said').innerText.includes('Done again')")
    tab.wait_for_load_state("networkidle")
    site.restart()
    tab.keyboard.press("f")
    settle(tab)
    tab.reload()
    tab.wait_for_load_state("networkidle")
    # Pictures that were on their way when the server ended.
    assert all("net::ERR_" in problem for problem in tab.problems)
    tab.problems.clear()
    assert (site.queue("accepted"), site.queue("ignored"), site.queue("flagged")) == (39, 9, 1)
    tab.goto(site.address("/error-review/apply"))
    tab.get_by_role("button", name="Write 39 changes").click()
    tab.wait_for_selector("text=39 changes applied")
    assert sum("series:elves" in sidecar(site.root, number) for number in range(COUNT)) == 39
    tab.get_by_role("button", name="Undo the whole batch (39 changes)").click()
    tab.wait_for_selector("text=39 changes taken back")
    assert not any("series:elves" in sidecar(site.root, number) for number in range(COUNT))
    assert (site.queue("undone"), site.queue("ignored"), site.queue("flagged")) == (39, 9, 1)


def test_the_next_finding_is_laid_out_within_a_tenth_of_a_second_of_the_key(tab, site):
    tab.goto(site.address("/error-review/card?type=missing_tags"))
    tab.wait_for_load_state("networkidle")
    times = []
    for _ in range(15):
        ready(tab)
        times.append(
            tab.evaluate("""() => {
            const start = performance.now(), shown = document.querySelector("article").dataset.id;
            document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true }));
            document.querySelector(".bar").getBoundingClientRect();  // lays the new card out
            return document.querySelector("article").dataset.id === shown ? 1e9 : performance.now() - start;
        }""")
        )
    settle(tab)
    print(f"key to the next finding laid out: median {sorted(times)[7]:.0f} ms, slowest {max(times):.0f} ms")
    assert sorted(times)[7] < 100, times
    assert site.queue("accepted") == 15


def test_from_key_press_to_the_next_finding_drawn_is_under_a_tenth_of_a_second_at_the_median(tab, site):
    """Real key presses, timed in the page from the browser's own time of the event to the second frame after it."""
    tab.goto(site.address("/error-review/card?type=missing_tags"))
    tab.wait_for_load_state("networkidle")
    tab.evaluate("""() => {
        window.drawn = [];
        document.addEventListener("keydown", (event) => {
            const shown = document.querySelector("article").dataset.id;
            requestAnimationFrame(() => requestAnimationFrame(() => {
                window.drawn.push(document.querySelector("article").dataset.id === shown ? 1e9 : performance.now() - event.timeStamp);
            }));
        }, true);  // before the page's own listener
    }""")
    for press in range(15):
        ready(tab)
        tab.keyboard.press("x")
        tab.wait_for_function("count => window.drawn.length === count", arg=press + 1)
    times = tab.evaluate("window.drawn")
    print(f"key to the next finding drawn: median {sorted(times)[7]:.0f} ms, slowest {max(times):.0f} ms")
    assert sorted(times)[7] < 100, times
    settle(tab)
    assert site.queue("ignored") == 15


def test_leaving_right_after_a_decision_loses_none(tab, site):
    tab.goto(site.address("/error-review/card?type=missing_tags"))
    for _ in range(3):
        ready(tab)
        tab.keyboard.press("x")
    tab.get_by_role("link", name="Overview").click()
    tab.wait_for_selector("h1 >> text=Error review")
    assert site.queue("ignored") == 3


def test_what_is_decided_while_the_server_is_away_is_sent_when_it_is_back(tab, site):
    tab.goto(site.address("/error-review/card?type=missing_tags"))
    tab.wait_for_function("() => typeof page !== 'undefined' && page.ahead.length >= 4")
    site.stop()
    for key in ("x", "a", "x"):
        tab.keyboard.press(key)
    tab.wait_for_selector("#said >> text=kept here and sent when it does")
    assert tab.evaluate("page.pending") == 3 and site.queue("ignored") == site.queue("accepted") == 0
    site.start()
    settle(tab)
    assert (site.queue("ignored"), site.queue("accepted")) == (2, 1)
    assert all("net::ERR_" in problem for problem in tab.problems)  # the browser's own notes
    tab.problems.clear()


def test_two_tabs_at_once_lose_no_decision(tab, site):
    other, slow = open_tab(tab.context), list[Any]()
    # The next cards come after the answer.
    other.route("**/*after=*", lambda route: slow.append(route), times=1)
    for one in (tab, other):
        one.goto(site.address("/error-review/card?type=missing_tags"))
    shown = tab.locator("article").get_attribute("data-id")
    tab.keyboard.press("x")
    settle(tab)
    other.keyboard.press("a")
    other.wait_for_selector("#said >> text=Decided elsewhere in the meantime")
    ready(other)
    with other.expect_response("**/*after=*") as answer:
        slow.pop().continue_()
    answer.value.finished()
    other.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert "Decided elsewhere in the meantime" in other.locator("#said").inner_text()
    assert other.locator("article").get_attribute("data-id") == shown
    assert (site.queue("ignored"), site.queue("accepted")) == (1, 0)


def test_keys_do_nothing_while_typing_and_arrows_belong_to_the_zoom(tab, site):
    tab.goto(site.address("/error-review/findings"))
    tab.keyboard.press("/")
    tab.keyboard.type("auxfu?")
    assert site.queue("ignored") == site.queue("accepted") == 0 and tab.locator("#filter-tag").input_value() == "auxfu?"
    tab.goto(site.address("/error-review/card?type=missing_tags"))
    shown = tab.locator("article").get_attribute("data-id")
    tab.keyboard.press("z")
    tab.keyboard.press("ArrowRight")
    assert tab.locator("article").get_attribute("data-id") == shown
    assert "scale(3)" in tab.locator("img.full").get_attribute("style")
    tab.keyboard.press("0")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("id => document.querySelector('article').dataset.id !== id", arg=shown)
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_function("id => document.querySelector('article').dataset.id === id", arg=shown)
    tab.keyboard.press("?")
    tab.wait_for_selector("dialog#help[open]")
    assert "accept what is ticked" in tab.locator("dialog#help").inner_text()
    assert tab.evaluate("document.getElementById('help').scrollTop") == 0
    tab.keyboard.press("x")  # belongs to the open dialog
    tab.keyboard.press("Escape")
    assert not tab.locator("dialog#help").is_visible() and site.queue("ignored") == 0


def test_what_keys_do_to_the_picture_buttons_do_too(tab, site):
    """The buttons are there where a script can do it, those for pairs on pairs alone; the keys stay with the card after a click."""
    tab.goto(site.address("/error-review/card?type=missing_tags"))
    tools = tab.locator("#tools")

    def style() -> str:
        return tab.locator("img.full").first.get_attribute("style") or ""

    for name, expected in (
        ("Zoom Z", "scale(3)"),
        ("− zoom out", "scale(2)"),
        ("+ zoom in", "scale(3)"),
        ("Whole 0", ""),
    ):
        tools.get_by_role("button", name=name, exact=True).click()
        assert expected in style() and bool(expected) == bool(style()), name
    assert not tools.get_by_role("button", name="Flicker").is_visible()
    tab.keyboard.press(" ")  # skips, and does not press the button that was clicked last
    settle(tab)
    assert site.queue("skipped") == 1
    tools.get_by_role("button", name="Keys").click()
    tab.wait_for_selector("dialog#help[open]")
    tab.goto(site.address("/error-review/card?type=pairs"))
    for name in ("flicker", "difference"):
        button = tools.locator(f'[data-tool="{name}"]')
        button.click()
        assert tab.locator(".stage").get_attribute("data-mode") == name
        assert button.get_attribute("aria-pressed") == "true"
        button.click()
        assert tab.locator(".stage").get_attribute("data-mode") == "side"
        assert button.get_attribute("aria-pressed") == "false"
    tab.get_by_role("link", name="Grid G").click()
    tab.wait_for_selector(".tile .two")


def test_a_pair_is_compared_and_its_tags_copied(tab, site):
    tab.goto(site.address("/error-review/card?type=pairs"))
    tab.wait_for_load_state("networkidle")
    tab.keyboard.press("+")
    assert len({picture.get_attribute("style") for picture in tab.locator("img.full").all()}) == 1
    for key, mode in (("d", "difference"), ("d", "side"), ("v", "flicker"), ("v", "side")):
        tab.keyboard.press(key)
        assert tab.locator(".stage").get_attribute("data-mode") == mode
    tab.keyboard.press("b")
    # What is suggested beside the copying stays, and is said.
    tab.wait_for_selector("#said >> text=2 additions left open.")
    with Review(site.folder.review) as store:
        assert sorted(key.tag for key in store.accepted()) == ["number 58", "number 59"]


def test_in_the_grid_a_range_is_ticked_and_counted(tab, site):
    tab.goto(site.address("/error-review/findings?view=grid&tag=series:elves"))
    boxes = tab.locator('input[name="finding"]')
    boxes.nth(2).click()
    boxes.nth(9).click(modifiers=["Shift"])
    assert tab.locator("#picked").inner_text().startswith("8 of")
    tab.get_by_role("button", name="Accept the ticked").click()
    tab.wait_for_selector("#said >> text=Accepted: 8 additions")
    tab.wait_for_function("() => document.getElementById('suggestions').textContent === '52 suggestions'")
    tab.get_by_text("that match, on every page of this list").click()
    tab.get_by_role("button", name="Ignore all 52").click()
    tab.wait_for_selector("#said >> text=Ignored: 52 additions")
    assert (site.queue("accepted"), site.queue("ignored")) == (8, 52)
    tab.wait_for_load_state()
    tab.keyboard.press("u")
    tab.wait_for_selector("text=Undone: Ignored: 52 additions")
    assert site.queue("ignored") == 0


def test_ctrl_a_ticks_the_page_and_then_takes_all_that_match_with_their_exact_count(tab, site, monkeypatch):
    monkeypatch.setattr(views, "GRID", 20)
    tab.route("**/findings?*after=*", lambda route: route.fulfill(status=503, body=""))  # the next page does not come
    tab.goto(site.address("/error-review/findings?view=grid"))
    tab.keyboard.press("Control+a")
    assert tab.locator("#picked").inner_text() == "20 of 20 shown ticked"
    assert tab.locator("#take-all").inner_text() == "Take all 59 findings that match"
    tab.keyboard.press("Escape")
    assert tab.locator("#picked").inner_text().startswith("Tick pictures") and not tab.locator("#take-all").is_visible()
    tab.keyboard.press("x")
    assert tab.locator("#picked").inner_text().startswith("Nothing is ticked") and site.queue("ignored") == 0
    tab.keyboard.press("Control+a")
    tab.keyboard.press("Control+a")
    assert tab.locator("#picked").inner_text() == "All 71 suggestions on 59 findings, on every page of this list."
    tab.locator('input[name="finding"]').first.click()  # one tick changed: no longer all that match
    assert tab.locator("#picked").inner_text() == "19 of 20 shown ticked"
    assert tab.get_by_role("button", name="Ignore the ticked").is_visible()
    tab.locator('input[name="finding"]').first.click()
    tab.locator("#take-all").click()
    tab.get_by_role("button", name="Ignore all 71").and_(tab.locator("#many button")).click()
    tab.wait_for_selector("#said >> text=Ignored: 60 additions, 10 removals, 1 pair")
    tab.wait_for_selector("text=Nothing here")
    assert site.queue("ignored") == 71
    tab.keyboard.press("u")
    tab.wait_for_selector("text=Undone: Ignored: 60 additions, 10 removals, 1 pair")
    assert site.queue("open") == 71
    tab.goto(site.address("/error-review/findings?view=grid&tag=1girl"))
    tab.keyboard.press("Control+a")
    assert tab.locator("#picked").inner_text() == "10 of 10 shown ticked"
    assert not tab.locator("#take-all").is_visible()
    tab.keyboard.press("f")
    tab.wait_for_selector("#said >> text=Flagged: 10 removals")
    assert all("503" in problem for problem in tab.problems)
    tab.problems.clear()


def test_keys_that_the_owner_changed_hold_on_cards_in_the_grid_and_in_the_help(tab, site):
    tab.goto(site.address("/error-review/help"))
    tab.get_by_text("Change the keys").click()
    tab.get_by_label("accept what is ticked", exact=True).fill("x")
    tab.get_by_role("button", name="Keep these keys").click()
    assert "X would mean two things on the card" in tab.get_by_role("alert").inner_text()
    assert len(tab.problems) == 1 and "409" in tab.problems.pop()  # the browser's own note of the refusal
    tab.get_by_label("accept what is ticked", exact=True).fill("q")
    tab.get_by_label("tick or untick the first tag, the second, and so on").fill("F1 F2")
    tab.get_by_role("button", name="Keep these keys").click()
    tab.wait_for_selector("#said >> text=These keys are kept.")
    tab.goto(site.address("/error-review/card?type=missing_tags"))
    ready(tab)
    tab.keyboard.press("a")
    tab.keyboard.press("F1")
    tab.keyboard.press("q")
    settle(tab)
    assert "Nothing is ticked" in tab.locator("#said").inner_text() and site.queue("accepted") == 0
    tab.keyboard.press("F1")
    tab.keyboard.press("q")
    settle(tab)
    assert site.queue("accepted") == 1
    tab.keyboard.press("?")
    tab.wait_for_selector("dialog#help[open]")
    assert "Q\taccept what is ticked" in tab.locator("dialog#help").inner_text().replace(" \t", "\t")
    tab.goto(site.address("/error-review/findings?view=grid&tag=1girl"))
    tab.locator('input[name="finding"]').first.click()
    tab.keyboard.press("q")
    tab.wait_for_selector("#said >> text=Accepted: remove 1girl")
    tab.goto(site.address("/error-review"))
    tab.keyboard.press("?")
    tab.wait_for_selector("dialog#help[open]")


@pytest.mark.parametrize("size", [(1366, 768), (390, 844)])
def test_the_buttons_are_on_the_screen_and_never_move(window, site, size):
    """On a card and a pair, at a small laptop's size and a phone's: in sight without scrolling, and where they were before."""
    tab = window(*size)
    for kind in ("missing_tags", "incorrect_tags", "pairs"):
        tab.goto(site.address(f"/error-review/card?type={kind}"))
        tab.wait_for_load_state("networkidle")
        places = []
        for _ in range(3 if kind != "pairs" else 1):
            ready(tab)
            boxes = [
                tab.locator(f'[data-action="{name}"]').bounding_box()
                for name in ("accept", "ignore", "skip", "flag", "undo")
            ]
            assert all(box["x"] >= 0 and box["x"] + box["width"] <= size[0] for box in boxes), (kind, boxes)
            assert all(box["y"] >= 0 and box["y"] + box["height"] <= size[1] for box in boxes), (kind, boxes)
            assert all(box["height"] >= 24 and box["width"] >= 24 for box in boxes)  # WCAG 2.2, target size
            tab.wait_for_function("() => [...document.querySelectorAll('.frame img')].every(one => one.complete)")
            assert tab.locator(".frame").first.bounding_box()["height"] > 0.4 * size[1]
            places.append(boxes)
            tab.keyboard.press("ArrowRight")
        assert places.count(places[0]) == len(places)


def test_without_javascript_every_step_is_a_form(window, site):
    tab = window(390, 844, java_script_enabled=False)
    tab.goto(site.address("/error-review/card?type=missing_tags"))
    shown = tab.locator("article").get_attribute("data-id")
    tab.locator('[data-action="accept"]').click()
    assert tab.locator("article").get_attribute("data-id") != shown
    for action, queue in (("ignore", "ignored"), ("skip", "skipped"), ("flag", "flagged")):
        tab.locator(f'[data-action="{action}"]').click()
        assert site.queue(queue) == 1
    tab.locator('[data-action="undo"]').click()
    assert site.queue("flagged") == 0
    tab.get_by_role("link", name="Apply", exact=True).click()
    tab.get_by_role("button", name="Write 1 change to").click()
    tab.wait_for_selector("#said >> text=1 change applied")
    assert "series:elves" in sidecar(site.root, 0)
    tab.get_by_role("button", name="Undo the whole batch").click()
    assert "series:elves" not in sidecar(site.root, 0)
    tab.goto(site.address("/error-review"))
    tab.get_by_role("button", name="Hide pictures").click()
    assert not tab.locator("html.hide-pictures").is_hidden()
    tab.get_by_role("button", name="Theme: system").click()
    assert tab.locator("html").get_attribute("data-theme") == "dark"


def test_without_javascript_pairs_single_tags_bulk_actions_filters_and_keys_are_forms_too(window, site):
    tab = window(java_script_enabled=False)

    def said() -> str:
        return tab.locator("#said").inner_text()

    for choice, tags in (("left", 1), ("right", 1), ("both", 2), ("neither", 0)):
        tab.goto(site.address("/error-review/card?type=pairs"))
        tab.locator(f'[data-action="{choice}"]').click()
        assert site.queue("accepted") == tags + 1, choice
        tab.get_by_role("button", name="Undo the last decision").click()
        assert site.queue("accepted") == 0 and "Undone" in said()
        tab.locator('[data-action="redo"]').click()
        assert site.queue("accepted") == tags + 1 and "Done again" in said()
        tab.locator('[data-action="undo"]').click()
    tab.goto(site.address("/error-review/card?type=pairs"))
    tab.locator(".difference button", has_text="add number").first.click()
    assert site.queue("accepted") == 1
    tab.locator(".difference button", has_text="do not add").click()
    assert site.queue("accepted") == 0
    tab.locator(".difference button", has_text="remove number").first.click()
    assert site.queue("accepted") == 1
    tab.goto(site.address("/error-review/findings"))
    tab.locator("#filter-tag").fill("1girl")
    tab.get_by_role("button", name="Show").click()
    assert "tag=1girl" in tab.url and "10 findings" in tab.locator(".summary").inner_text()
    tab.get_by_role("link", name="As a grid").click()
    tab.locator('input[name="finding"]').first.check()
    tab.get_by_role("button", name="Skip the ticked").click()
    assert site.queue("skipped") == 1
    tab.get_by_text("All 9 suggestions that match").click()
    tab.get_by_role("button", name="Flag all 9").click()
    assert site.queue("flagged") == 9 and "Flagged: 9 removals" in said()
    tab.goto(site.address("/error-review/findings?state=flagged&view=grid"))
    tab.locator('input[name="finding"]').first.check()
    tab.get_by_role("button", name="Reopen the ticked").click()
    assert site.queue("flagged") == 8
    tab.get_by_role("button", name="Undo the last decision").click()
    assert site.queue("flagged") == 9
    tab.goto(site.address("/error-review/help"))
    tab.get_by_text("Change the keys").click()
    tab.get_by_label("flag, to look at later").fill("")
    tab.get_by_role("button", name="Keep these keys").click()
    assert "These keys are kept." in said()
    tab.get_by_text("Change the keys").click()
    tab.get_by_role("button", name="Back to the keys that the page comes with").click()
    assert "as the page comes with them" in said()


VIEWS = {
    "overview": "/error-review",
    "list": "/error-review/findings",
    "grid": "/error-review/findings?view=grid",
    "card": "/error-review/card?type=tags",
    "pair": "/error-review/card?type=pairs",
    "nothing left": "/error-review/card?tag=nothing",
    "apply": "/error-review/apply",
    "batches": "/error-review/applied",
    "batch": "/error-review/applied/1",
    "rules": "/error-review/rules?never=series:elves",
    "detectors": "/error-review/run",
    "keys": "/error-review/help",
    "not found": "/error-review/applied/99",
}
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


LOOKS = (((1366, 768), "light"), ((390, 844), "light"), ((683, 384), "dark"))  # a small laptop, a phone, at 200 % zoom


# By how much a page is wider than its window, and on a laptop one of its tables, with a series of many words to choose.
WIDER = """async () => {
    const boxes = [document.documentElement];
    if (innerWidth > 1000) {
        for (const select of document.querySelectorAll(".filters select")) select.add(new Option("series:" + "long ".repeat(60)));
        await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));  // it is measured by then
        boxes.push(...document.querySelectorAll(".wide"));
    }
    return Math.max(...boxes.map((one) => one.scrollWidth - one.clientWidth));
}"""


def test_every_view_is_accessible_by_axe(window, site, monkeypatch):
    """WCAG 2.2 A and AA as far as axe-core can tell: no violation on any view, and nothing is wider than the window, or than 320 pixels."""
    axe = pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python is not installed: pip install -r tests/requirements.txt"
    )
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    for name in ("PAGE", "GRID"):
        monkeypatch.setattr(views, name, 12)  # of every kind of row and tile there is one among them
    tab = window(reduced_motion="reduce")
    write_a_batch(site)
    decide_much(site)
    found = {}
    for name, address in VIEWS.items():
        tab.goto(site.address(address))
        tab.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        tab.evaluate(script)
        for (width, height), look in LOOKS:
            tab.set_viewport_size({"width": width, "height": height})
            tab.emulate_media(color_scheme=look)
            broken = tab.evaluate(
                "(tags) => axe.run({ runOnly: tags, resultTypes: ['violations'] }).then((seen) => seen.violations.map("
                "(one) => [one.id, one.nodes.map((node) => node.html)]))",
                WCAG,
            )
            wide = tab.evaluate(WIDER)
            if broken or wide > 0:
                found[name, width, look] = broken, f"{wide} pixels too wide"
        tab.set_viewport_size({"width": 320, "height": 568})
        if (wide := tab.evaluate(WIDER)) > 0:
            found[name, 320] = f"{wide} pixels too wide"
    assert found == {}
    tab.problems[:] = [problem for problem in tab.problems if "404" not in problem]  # a picture that is not there


def write_a_batch(site: Site) -> None:
    """Three accepted changes and one that nobody suggested, applied, and two more that wait; one flagged."""
    with Review(site.folder.review) as store:
        sync(store, site.folder)
        asks = queries.asks(store, Filter(tag="series:elves"))
        store.decide(asks[:3], ACCEPTED)
        changes = [TagChange(ask.key.hash, ask.key.tag, ask.key.action) for ask in asks[:3]]
        changes.append(TagChange(asks[0].key.hash, "x" * 300, "add"))  # as long as nobody's table is wide
        done = apply.apply(Ledger(site.folder.review), FolderLibrary(site.root), changes)
        store.note_outcomes(outcomes(done.rows))
        store.decide(asks[3:5], ACCEPTED)
        store.decide(asks[5:6], FLAGGED)


def decide_much(site: Site) -> None:
    """Twenty verdicts, so that the overview has a measured share, a pace and sessions to show."""
    with Review(site.folder.review) as store:
        for number, ask in enumerate(queries.asks(store, Filter(tag="series:elves"))[10:30]):
            store.decide([ask], IGNORED if number % 4 == 0 else SKIPPED if number % 7 == 0 else ACCEPTED)
