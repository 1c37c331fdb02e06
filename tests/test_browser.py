"""The page in a real browser, on a small library drawn for the test: keys, forms, writing and taking back."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from review_data import (
    draw_library,
    missing,
    page_on,
    pair,
    save_dataset,
    save_mistagged,
    save_pairs,
    save_series,
    sidecar,
    wrong,
)
from werkzeug.serving import make_server

from tagcheck import applying, review_index
from tagcheck.folder import FolderLibrary
from tagcheck.ledger import Ledger
from tagcheck.library import TagChange
from tagcheck.review import ACCEPTED, FLAGGED, Review
from tagcheck.review_import import sync
from tagcheck.review_index import Filter
from webapp.applying_views import note

PLACES = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
COUNT = 60


def chromium() -> str:
    """The browser to use. Without one the tests are skipped, or fail where CI says that there has to be one."""
    found = next((place for place in PLACES if Path(place).exists()), None) or shutil.which("chromium")
    if found is None:
        reason = f"no Chromium (looked for {', '.join(PLACES)}): install it to test the page in a browser"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


class Site:
    """The page, served from a thread; `restart` ends the server and starts another on the same port."""

    def __init__(self, folder, root: Path, hashes: list[str]) -> None:
        self.folder, self.root, self.hashes = folder, root, hashes
        self.port = 0
        self.start()

    def start(self) -> None:
        self.server = make_server("127.0.0.1", self.port, page_on(self.folder, self.root), threaded=True)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def address(self, path: str) -> str:
        return f"http://localhost:{self.port}{path}"

    def queue(self, name: str) -> int:
        with Review(self.folder.review) as store:
            return store.db.execute("SELECT count(*) FROM suggestions WHERE state = ?", (name,)).fetchone()[0]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture
def site(folder, tmp_path) -> Iterator[Site]:
    """Sixty pictures that lack a series, ten of them with a wrong tag beside, and two that are alike."""
    root = tmp_path / "library"
    tags = [["1girl", f"number {number}"] for number in range(COUNT)]
    hashes = draw_library(root, tags)
    save_dataset(folder, dict(zip(hashes, tags)))
    entries = [missing(hash, "series:elves", confidence=0.99 - number / 200) for number, hash in enumerate(hashes)]
    save_mistagged(folder, *entries, *[wrong(hash, "1girl", confidence=0.6) for hash in hashes[:10]])
    first, second = sorted(hashes[:2])
    only = [tuple(tags[hashes.index(one)][1:]) for one in (first, second)]
    save_pairs(folder, pair(first, second, 0.98, *only))
    save_series(folder)
    made = Site(folder, root, hashes)
    yield made
    made.stop()


@pytest.fixture
def tab(browser, site):
    """A tab of 1366 x 768 that fails the test when its console shows an error."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    yield open_tab(context)
    problems = [problem for page in context.pages for problem in page.problems]
    context.close()
    assert problems == []


def open_tab(context):
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.set_default_timeout(20_000)
    return page


def settle(tab) -> None:
    """Wait until everything decided was sent and answered."""
    tab.evaluate("page.sending")


def ready(tab) -> None:
    """Wait until the next card stands ready, as it does for a person who looks at one."""
    tab.evaluate("""() => new Promise((done) => {
        const look = () => (!page.moving && (page.ahead.length || page.ended) ? done() : setTimeout(look, 3));
        look();
    })""")


def test_a_fix_is_accepted_applied_and_undone(tab, site):
    tab.goto(site.address("/"))
    assert tab.url.endswith("/error-review")
    tab.get_by_role("link", name="Review, surest first").click()
    assert tab.locator("article h2").inner_text().startswith("Missing tags")
    shown = tab.locator("article").get_attribute("data-id")
    tab.keyboard.press("a")
    tab.wait_for_function("id => document.querySelector('article').dataset.id !== id", arg=shown)
    tab.wait_for_selector("#said >> text=Accepted: add series:elves")
    tab.get_by_role("link", name="Apply", exact=True).click()
    assert sidecar(site.root, 0) == ["1girl", "number 0"]
    tab.get_by_role("button", name="Write 1 change to sidecar files").click()
    assert "1 change applied" in tab.locator("#said").inner_text()
    assert sidecar(site.root, 0) == ["1girl", "number 0", "series:elves"]
    tab.get_by_role("button", name="Undo the whole batch (1 change)").click()
    assert "1 change taken back" in tab.locator("#said").inner_text()
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
    assert all("ERR_CONNECTION" in problem for problem in tab.problems)  # pictures that were on their way when the server ended
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
        times.append(tab.evaluate("""() => {
            const start = performance.now(), shown = document.querySelector("article").dataset.id;
            document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true }));
            document.querySelector(".bar").getBoundingClientRect();  // lays the new card out
            return document.querySelector("article").dataset.id === shown ? 1e9 : performance.now() - start;
        }"""))
    settle(tab)
    assert sorted(times)[7] < 100, times
    assert site.queue("accepted") == 15


def test_leaving_right_after_a_decision_loses_none(tab, site):
    tab.goto(site.address("/error-review/card?type=missing_tags"))
    for _ in range(3):
        ready(tab)
        tab.keyboard.press("x")
    tab.get_by_role("link", name="Overview").click()
    tab.wait_for_selector("h1 >> text=Error review")
    assert site.queue("ignored") == 3


def test_two_tabs_at_once_lose_no_decision(tab, site):
    other = open_tab(tab.context)
    for one in (tab, other):
        one.goto(site.address("/error-review/card?type=missing_tags"))
    tab.keyboard.press("x")
    settle(tab)
    other.keyboard.press("a")
    settle(other)
    assert "Decided elsewhere in the meantime" in other.locator("#said").inner_text()
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
    tab.keyboard.press("x")  # belongs to the open dialog
    tab.keyboard.press("Escape")
    assert not tab.locator("dialog#help").is_visible() and site.queue("ignored") == 0


def test_a_pair_is_compared_and_its_tags_copied(tab, site):
    tab.goto(site.address("/error-review/card?type=pairs"))
    tab.wait_for_load_state("networkidle")
    tab.keyboard.press("+")
    assert len({picture.get_attribute("style") for picture in tab.locator("img.full").all()}) == 1
    for key, mode in (("d", "difference"), ("d", "side"), ("v", "flicker"), ("v", "side")):
        tab.keyboard.press(key)
        assert tab.locator(".stage").get_attribute("data-mode") == mode
    tab.keyboard.press("b")
    tab.wait_for_selector("text=Nothing here")
    with Review(site.folder.review) as store:
        assert sorted(key.tag for key in store.accepted()) == ["number 0", "number 1"]


def test_in_the_grid_a_range_is_ticked_and_counted(tab, site):
    tab.goto(site.address("/error-review/findings?view=grid&tag=series:elves"))
    boxes = tab.locator('input[name="finding"]')
    boxes.nth(2).click()
    boxes.nth(9).click(modifiers=["Shift"])
    assert tab.locator("#picked").inner_text().startswith("8 of")
    tab.get_by_role("button", name="Accept the ticked").click()
    tab.wait_for_selector("#said >> text=Accepted: 8 suggestions")
    tab.get_by_text("All 52 suggestions that match").click()
    tab.get_by_role("button", name="Ignore all 52").click()
    tab.wait_for_selector("#said >> text=Ignored: 52 suggestions")
    assert (site.queue("accepted"), site.queue("ignored")) == (8, 52)
    tab.wait_for_load_state()
    tab.keyboard.press("u")
    tab.wait_for_selector("text=Undone: Ignored: 52 suggestions")
    assert site.queue("ignored") == 0


def test_without_javascript_every_step_is_a_form(browser, site):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    tab = open_tab(context)
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
    assert "1 change applied" in tab.locator("#said").inner_text() and "series:elves" in sidecar(site.root, 0)
    tab.get_by_role("button", name="Undo the whole batch").click()
    assert "series:elves" not in sidecar(site.root, 0)
    tab.goto(site.address("/error-review"))
    tab.get_by_role("button", name="Theme: system").click()
    assert tab.locator("html").get_attribute("data-theme") == "dark"
    context.close()
    assert tab.problems == []


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
    "detectors": "/error-review/run",
    "keys": "/error-review/help",
    "not found": "/error-review/applied/99",
}
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.mark.parametrize(
    ("look", "views"),
    [("light", tuple(VIEWS)), ("dark", ("overview", "grid", "pair", "batch")), ("phone", ("overview", "card", "batch"))],
)
def test_every_view_is_accessible_by_axe(browser, site, look, views):
    """WCAG 2.2 A and AA as far as axe-core can tell: no violation on any view, and nothing is wider than the window."""
    axe = pytest.importorskip(
        "axe_playwright_python", reason="axe-playwright-python is not installed: pip install -r tests/requirements.txt"
    )
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    size = {"width": 390, "height": 844} if look == "phone" else {"width": 1366, "height": 768}
    context = browser.new_context(viewport=size, color_scheme="dark" if look == "dark" else "light", reduced_motion="reduce")
    tab = open_tab(context)
    write_a_batch(site)
    found = {}
    for name in views:
        tab.goto(site.address(VIEWS[name]))
        tab.evaluate(script)
        broken = tab.evaluate(
            "(tags) => axe.run({ runOnly: tags }).then((seen) => seen.violations.map((one) => [one.id,"
            " one.nodes.map((node) => node.html)]))",
            WCAG,
        )
        wide = tab.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        if broken or wide > 0:
            found[name] = broken, f"{wide} pixels too wide"
    context.close()
    assert found == {}


def write_a_batch(site: Site) -> None:
    """Three accepted changes, applied, and two more that wait; one flagged."""
    with Review(site.folder.review) as store:
        sync(store, site.folder)
        asks = review_index.asks(store, Filter(tag="series:elves"))
        store.decide(asks[:3], ACCEPTED)
        changes = [TagChange(ask.key.hash, ask.key.tag, ask.key.action) for ask in asks[:3]]
        note(store, applying.apply(Ledger(site.folder.review), FolderLibrary(site.root), changes).rows)
        store.decide(asks[3:5], ACCEPTED)
        store.decide(asks[5:6], FLAGGED)
