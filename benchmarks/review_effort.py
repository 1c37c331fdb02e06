"""What reviewing costs an owner who knows the truth: the page walked by keys in a real browser, until nothing waits.

    python benchmarks/review_effort.py demo
    python benchmarks/review_effort.py demo --folder open --browser /usr/bin/chromium

Reads   DEMO/data, DEMO/library and DEMO/planted.json, as `make demo` leaves them; the data folder is copied, and stays as it is
Writes  nothing; prints one line a folder: cards, keys, scrolls, cards decided before a picture on them was drawn, wrong
        answers, and decisions a minute at a fixed time of thought for each card

The owner unticks what is wrong, ticks what is right, and presses the one key that accepts what is ticked and ignores the rest. A row
that is not on the screen costs a scroll. An answer is wrong where the store then says other than the truth.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import PROJECT  # noqa: F401  which puts the project on the path
from werkzeug.serving import make_server

from tagcheck import script
from tagcheck.data_folder import DataFolder
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.review import Review
from webapp.app import create_app
from webapp.state import Settings

FOLDERS = ("open", "unlikely")
ROWS = """() => {
    const box = document.querySelector(".scroll").getBoundingClientRect();
    return [...document.querySelectorAll(".scroll > .suggestions .suggestion")].map((row) => {
        const place = row.querySelector(".line").getBoundingClientRect();
        const tick = row.querySelector('input[name="key"]');
        return { keys: row.dataset.key.split("\\n"), ticked: tick.checked, asked: !!row.querySelector('input[name="shown"]'),
            seen: place.top >= box.top && place.bottom <= Math.min(box.bottom, innerHeight) };
    });
}"""
DRAWN = "() => [...document.querySelectorAll('img.full')].every((one) => one.complete && one.naturalWidth)"
NEXT = """id => typeof page === "undefined" || (!page.moving && page.pending === 0 && document.querySelector("article").dataset.id !== id)"""


def main(argv: Sequence[str] | None = None) -> int:
    from playwright.sync_api import sync_playwright  # of the tests' requirements, not the program's

    parser = script.plain_parser(__doc__)
    parser.add_argument("demo", type=Path, metavar="DEMO", help="what `make demo` made")
    parser.add_argument("--folder", choices=FOLDERS, action="append", help="what to walk (default: both, in turn)")
    script.add_option(parser, "--browser", "the browser's program", "/usr/bin/chromium", metavar="FILE")
    script.add_option(parser, "--thought", "seconds a card", 1.2, type=float, metavar="S")
    script.add_whole(parser, "--most", "cards at the most", 1000)
    args = parser.parse_args(argv)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    truth = {hash: set(tags) for hash, tags in json.loads((args.demo / "planted.json").read_text())["truth"].items()}
    with tempfile.TemporaryDirectory() as place, sync_playwright() as started:
        root = Path(place) / "data"
        shutil.copytree(args.demo / "data", root, ignore=shutil.ignore_patterns("review.sqlite3*"))
        folder = DataFolder(root)
        app = create_app(Settings(folder, lambda: FolderLibrary(args.demo / "library"), "library"))
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = started.chromium.launch(executable_path=args.browser, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1366, "height": 768})
        for name in args.folder or FOLDERS:
            tab.goto(f"http://localhost:{server.server_port}/error-review/card?state={name}")
            counted = walk(tab, truth, args.most)
            report(name, counted, args.thought, wrong_answers(folder, truth))
        browser.close()
        server.shutdown()
    return 0


def walk(tab: Any, truth: dict[str, set[str]], most: int) -> Counter[str]:
    """Decide card after card, as the truth has it; what it cost."""
    counted: Counter[str] = Counter()
    while counted["cards"] < most and tab.locator("article").count():
        shown = tab.locator("article").get_attribute("data-id")
        tab.wait_for_function(DRAWN)
        counted["unseen"] += not tab.evaluate(DRAWN)
        rows = tab.evaluate(ROWS)
        for place, row in enumerate(rows):
            if not row["asked"]:
                continue
            counted["decisions"] += len(row["keys"])
            counted["scrolls"] += not row["seen"]
            if all(is_right(key, truth) for key in row["keys"]) != row["ticked"]:
                counted["keys"] += 1
                tab.keyboard.press(str(place + 1)) if place < 9 else tick(tab, place)
        tab.keyboard.press("Enter")
        counted["keys"] += 1
        counted["cards"] += 1
        tab.wait_for_function(NEXT, arg=shown)
    return counted


def tick(tab: Any, place: int) -> None:
    """A row beyond the ninth has no key: it is clicked."""
    tab.locator('.scroll > .suggestions input[name="key"]').nth(place).click()


def is_right(key: str, truth: dict[str, set[str]]) -> bool:
    """Whether a suggestion is right. Pairs of the demo are taken for copies."""
    hash, action, tag = key.split(" ", 2)
    return action == "pair" or (tag in truth[hash]) == (action == "add")


def wrong_answers(folder: DataFolder, truth: dict[str, set[str]]) -> int:
    """Decisions that say other than the truth. A swap of which one part is right is one answer, and is ignored whole."""
    with Review(folder.review) as store:
        rows = store.db.execute("SELECT hash, action, tag, state FROM decisions WHERE action != 'pair'").fetchall()
    return sum(
        row["state"] == "accepted" and not is_right(f"{row['hash']} {row['action']} {row['tag']}", truth)
        for row in rows
    )


def report(name: str, counted: Counter[str], thought: float, wrong: int) -> None:
    minutes = counted["cards"] * thought / 60
    print(
        f"{name}: {counted['cards']} cards, {counted['decisions']} decisions, {counted['keys']} keys, {counted['scrolls']} scrolls,"
        f" {counted['unseen']} pictures unseen, {wrong} wrong answers,"
        f" {counted['decisions'] / minutes if minutes else 0:.0f} decisions a minute at {thought:g} s a card",
        flush=True,
    )


if __name__ == "__main__":
    script.run(main)
