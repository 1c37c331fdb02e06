"""What reviewing costs an owner who knows the truth: the page walked by keys in a real browser, until nothing waits.

    python benchmarks/review_effort.py demo
    python benchmarks/review_effort.py demo --walk tags --browser /usr/bin/chromium

Reads   DEMO/data, DEMO/library and DEMO/planted.json, as `make demo` leaves them; the data folder is copied, and stays as it is
Writes  nothing; prints one line a walk

The owner ticks what is right and presses the one key that accepts it and ignores the rest, the moment that a card is there.
Counted: keys; scrolls, a press that the page answers by showing rows that were not on the screen; rows answered that were not on
the screen; cards answered before their pictures were drawn; cards whose headline says another number than the report says of what
is asked; and answers in the store that the owner did not give.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from common import PROJECT

from tagcheck import script

SMALL_LAPTOP = {"width": 1366, "height": 768}
WALKS = ("open", "unlikely", "tags", "groups")
ROWS = """() => {
    const box = document.querySelector(".scroll").getBoundingClientRect();
    return [...document.querySelectorAll(".scroll > .suggestions .suggestion")].map((row) => {
        const place = row.querySelector(".line").getBoundingClientRect();
        return { keys: row.dataset.key.split("\\n"), ticked: row.querySelector('input[name="key"]').checked,
            asked: !!row.querySelector('input[name="shown"]'),
            seen: place.top >= box.top - 1 && place.bottom <= Math.min(box.bottom, innerHeight) + 1 };
    });
}"""
# Counts the cards that were left before all their pictures were drawn.
WATCH = """() => {
    sessionStorage.blind = 0;
    let drawn = false;
    const look = () => {
        const drawn_in = (frame) => [...frame.querySelectorAll("img")].some((one) => one.complete && one.naturalWidth);
        drawn ||= [...document.querySelectorAll(".frame")].every(drawn_in);
        requestAnimationFrame(look);
    };
    look();
    new MutationObserver(() => { sessionStorage.blind = Number(sessionStorage.blind) + !drawn; drawn = false; }).observe(holder, { childList: true });
}"""
SETTLED = """id => typeof page === "undefined" || (!page.moving && page.pending === 0 && !page.held.length &&
    (article().dataset.id !== id || document.getElementById("said").innerText !== ""))"""


def main(argv: Sequence[str] | None = None) -> int:
    from playwright.sync_api import sync_playwright  # of the tests' requirements, not the program's

    parser = script.plain_parser(__doc__)
    parser.add_argument("demo", type=Path, metavar="DEMO", help="what `make demo` made")
    walk = "what to walk (default: all, each from the start)"
    parser.add_argument("--walk", choices=WALKS, action="append", help=walk)
    script.add_option(parser, "--browser", "the browser's program", "/usr/bin/chromium", metavar="FILE")
    script.add_option(parser, "--thought", "seconds a card", 1.2, type=float, metavar="S")
    script.add_whole(parser, "--most", "cards of a walk at the most", 1000)
    script.add_whole(parser, "--tags", "sessions on the tags with most suggestions", 12)
    args = parser.parse_args(argv)
    truth = {hash: set(tags) for hash, tags in json.loads((args.demo / "planted.json").read_text())["truth"].items()}
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=args.browser, args=["--no-sandbox", "--disable-gpu"])
        for name in args.walk or WALKS:
            with served(args.demo) as base:
                walk = Walk(browser.new_page(viewport=SMALL_LAPTOP), base, truth, args.most)
                for view in views(name, base, args.tags):
                    walk.view(view)
                walk.check()
                report(name, walk.counted, args.thought)
                walk.tab.goto("about:blank")
        browser.close()
    return 0


@contextmanager
def served(demo: Path) -> Iterator[str]:
    """The page on a copy of the demo's data: its address."""
    with tempfile.TemporaryDirectory() as place, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        data = Path(place) / "data"
        shutil.copytree(demo / "data", data, ignore=shutil.ignore_patterns("review.sqlite3*"))
        words = ["webapp/app.py", "--data-dir", data, "--library", (demo / "library").resolve(), "--port", port]
        command = [sys.executable, *map(str, words)]
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout and b"the page is at" in server.stdout.readline()
            try:
                yield f"http://localhost:{port}/error-review"
            finally:
                server.terminate()


def views(name: str, base: str, tags: int) -> list[str]:
    """The addresses of a walk's views: a folder, the sessions on tags, or all copies."""
    if name == "tags":
        found = sorted(answer(f"{base}/tags.json"), key=lambda row: -row["open"])
        return [f"{base}/card?tag={quote(row['tag'])}" for row in found[:tags]]
    return [f"{base}/card?type=pairs" if name == "groups" else f"{base}/card?state={name}"]


def answer(address: str) -> Any:
    """What the page says as JSON."""
    with urlopen(address) as found:
        return json.load(found)


class Walk:
    """Decides card after card as the truth has it, and counts what that costs. `said` is what the owner answered."""

    def __init__(self, tab: Any, base: str, truth: dict[str, set[str]], most: int) -> None:
        self.tab, self.base, self.truth, self.most = tab, base, truth, most
        self.counted: Counter[str] = Counter()
        self.said: dict[str, str] = {}
        self.sure: dict[str, set[str]] = {}
        for row in answer(f"{base}/export.json?state=any"):
            self.sure.setdefault(_key(row), set()).add(row["percent"])

    def view(self, address: str) -> None:
        """Walk one view to its end."""
        self.tab.goto(address)
        if self.shown():
            self.tab.evaluate(WATCH)
        while self.counted["cards"] < self.most and (card := self.shown()):
            self.card(card)
        self.counted["unseen"] += self.tab.evaluate("() => Number(sessionStorage.blind || 0)")

    def shown(self) -> str | None:
        """The finding whose card is there, if one is."""
        return next((one.get_attribute("data-id") for one in self.tab.locator("article").all()), None)

    def card(self, card: str) -> None:
        """Answer one card, in as many presses as it takes."""
        first = next(row for row in self.tab.evaluate(ROWS) if row["asked"])
        number = self.tab.locator("#heading .sure").inner_text().removesuffix(" alike")
        known = set.union(*(self.sure.get(key, set()) for key in first["keys"]))
        self.counted["labels"] += number not in known and not number.endswith("right")
        self.counted["cards"] += 1
        self.seen: set[str] = set()
        for _ in range(9):
            given = self.press(card, [row for row in enumerate(self.tab.evaluate(ROWS)) if row[1]["asked"]])
            self.counted["decisions"] += len(given.keys() - self.said.keys())
            self.said |= given
            if self.shown() != card:
                return

    def press(self, card: str, asked: list[tuple[int, dict[str, Any]]]) -> dict[str, str]:
        """Tick what is right of the rows that are asked, press, and see what became of it: the answers that were given."""
        right = [place for place, row in asked if all(map(self.is_right, row["keys"]))]
        for place, row in asked:
            if (place in right) != row["ticked"]:
                self.counted["keys"] += 1
                box = self.tab.locator('.scroll > .suggestions input[name="key"]').nth(place)
                self.tab.keyboard.press(str(place + 1)) if place < 9 else box.click()
            self.look()  # a tick may have scrolled
        self.look()
        hidden = sum(row["keys"][0] not in self.seen for _, row in asked)
        said = self.tab.locator("#said")
        said.evaluate("(one) => one.replaceChildren()")
        self.counted["keys"] += 1
        self.tab.keyboard.press("Enter")
        self.tab.wait_for_function(SETTLED, arg=card)
        if said.count() and "Nothing was decided" in said.inner_text():
            self.counted["scrolls"] += 1
            return {}
        self.counted["hidden"] += hidden
        return {key: "accepted" if place in right else "ignored" for place, row in asked for key in row["keys"]}

    def look(self) -> None:
        """Note the rows that are on the screen."""
        self.seen |= {row["keys"][0] for row in self.tab.evaluate(ROWS) if row["seen"]}

    def is_right(self, key: str) -> bool:
        """Whether a suggestion is right. Pairs of the demo are taken for copies."""
        hash, action, tag = key.split(" ", 2)
        return action == "pair" or (tag in self.truth[hash]) == (action == "add")

    def check(self) -> None:
        """Count the answers in the store that the owner did not give, and those accepted that are not right."""
        for state in ("accepted", "ignored"):
            for row in answer(f"{self.base}/export.json?state={state}"):
                key = _key(row)
                self.counted["wrong"] += self.said.get(key) != state or (state == "accepted" and not self.is_right(key))


def _key(row: dict[str, Any]) -> str:
    return f"{row['hash']} {row['action']} {row['tag']}"


def report(name: str, counted: Counter[str], thought: float) -> None:
    minutes = counted["cards"] * thought / 60
    print(
        f"{name}: {counted['cards']} cards, {counted['decisions']} decisions, {counted['keys']} keys, {counted['scrolls']} scrolls,"
        f" {counted['hidden']} rows answered off the screen, {counted['unseen']} cards left before their pictures were drawn,"
        f" {counted['labels']} headlines of another number, {counted['wrong']} wrong answers,"
        f" {counted['decisions'] / minutes if minutes else 0:.0f} decisions a minute at {thought:g} s a card",
        flush=True,
    )


if __name__ == "__main__":
    script.run(main)
