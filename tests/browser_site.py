"""The page served to a real browser: what the browser tests share."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from review_data import page_on

from tagcheck.review.store import Review
from webapp.serving import Server

PLACES = (
    "/usr/bin/chromium-headless-shell",
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # In fewer processes: what they tell each other is a sixth of what the browser takes.
    "--in-process-gpu",
    "--enable-features=NetworkServiceInProcess2",
    "--renderer-process-limit=1",
]


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
        self.server = Server(page_on(self.folder, self.root), "127.0.0.1", self.port)
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


@pytest.fixture(scope="module")
def tabs() -> dict:
    """The tabs that are open, by size and options: a new window and its processes cost more than most tests."""
    return {}


@pytest.fixture
def window(browser, tabs) -> Iterator[Callable]:
    """`window(width, height, **options)` -> a tab in a window that no other site has seen; the test fails when a console
    shows an error.
    """
    used = set()

    def opened(width: int = 1366, height: int = 768, **options):
        like = (width, height, *sorted(options.items()))
        if like not in tabs:
            tabs[like] = open_tab(browser.new_context(viewport={"width": width, "height": height}, **options))
        used.add(like)
        return tabs[like]

    yield opened
    problems = []
    for like in used:
        kept = tabs.pop(like)
        problems += [problem for tab in kept.context.pages for problem in tab.problems]
        clear(kept)
        tabs[like] = kept
    assert problems == []


def clear(tab) -> None:
    """Make a tab, and its window, as they were when they were opened.

    Each tab comes to rest first: Chromium forgets that it was told to close a page which is on its way to the next
    address, and the test would wait for ever.
    """
    for one in tab.context.pages:
        come_to_rest(one)
        if one is not tab:
            one.close()
    tab.unroute_all(behavior="ignoreErrors")
    tab.context.clear_cookies()
    tab.mouse.move(0, 0)
    tab.set_viewport_size(tab.size)
    tab.problems.clear()


def come_to_rest(tab) -> None:
    """Leave for an empty page. What the old page had begun may come between, so it is tried more than once."""
    from playwright.sync_api import Error

    with suppress(Error):
        if tab.evaluate("typeof page") != "undefined":
            settle(tab, timeout=3_000)
    for last in (False, False, False, True):
        try:
            tab.goto("about:blank", timeout=3_000)
        except Error:
            if last and tab.url != "about:blank":
                raise
        else:
            return


def open_tab(context):
    page = context.new_page()
    page.problems, page.size = [], page.viewport_size
    page.on(
        "console", lambda message: page.problems.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.set_default_timeout(30_000)
    return page


def settle(tab, timeout: float = 30_000) -> None:
    """Wait until everything decided was sent and answered, and a page that goes on to another by itself is there.

    Chromium loses an address that it is given while a page is on its way to another one.
    """
    tab.wait_for_function(
        "() => typeof page === 'undefined' || !(page.pending || page.moving || page.releasing || page.held.length)",
        timeout=timeout,
    )


def ready(tab) -> None:
    """Wait until the next card stands ready, as it does for a person who looks at one."""
    tab.wait_for_function(
        "() => typeof page !== 'undefined' && !page.moving && drawn() && (page.ahead.length || page.ended)"
    )
