"""What reviewing costs an owner who knows the truth: the page walked by keys in a real browser, until nothing waits.

    python benchmarks/review_effort.py demo
    python benchmarks/review_effort.py demo --walk tags --project ../as-it-was --browser /usr/bin/chromium

Reads   DEMO/data, DEMO/library and DEMO/planted.json, as `make demo` leaves them; the data folder is copied, and stays as it is
Writes  nothing; prints one line a walk

The owner ticks what is right and presses the one key that accepts it and ignores the rest (on a page without such a key: accept,
then ignore what is left), the moment that a card is there. Counted: keys; scrolls, a press that the page answers by showing rows
that were not on the screen; rows answered that were not on the screen; cards answered before their pictures were drawn; cards whose
headline says another number than the report says of what is asked; and answers in the store that the owner did not give. A
checkout of before is walked by the same keys with --project.
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

ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
SMALL_LAPTOP = {"width": 1366, "height": 768}
WALKS = ("open", "unlikely", "tags", "groups")
ROWS = """() => {
    const box = document.querySelector(".scroll").getBoundingClientRect();
    const rows = [...document.querySelectorAll(".scroll > .suggestions .suggestion")];
    const marked = rows.some((row) => row.querySelector('input[name="shown"]'));
    return rows.map((row) => {
        const place = row.querySelector(".line").getBoundingClientRect();
        const tick = row.querySelector('input[name="key"]');
        return { keys: row.dataset.key.split("\\n"), ticked: tick.checked,
            asked: marked ? !!row.querySelector('input[name="shown"]') : tick.checked,
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
    new MutationObserver(() => { sessionStorage.blind = Number(sessionStorage.blind) + !drawn; drawn = false; }).observe(document.getElementById("card"), { childList: true });
}"""
SETTLED = """id => typeof page === "undefined" || (!page.moving && page.pending === 0 && !(page.held || []).length &&
    (document.querySelector("article").dataset.id !== id || document.getElementById("said").innerText !== ""))"""
HEADLINE = "() => document.querySelector('#heading .sure, .scroll h2 .sure').innerText"


def main(argv: Sequence[str] | None = None) -> int:
    from playwright.sync_api import sync_playwright  # of the tests' requirements, not the program's

    parser = script.plain_parser(__doc__)
    parser.add_argument("demo", type=Path, metavar="DEMO", help="what `make demo` made")
    walk = "what to walk (default: all, each from the start)"
    parser.add_argument("--walk", choices=WALKS, action="append", help=walk)
    script.add_option(parser, "--project", "the checkout whose page is walked", PROJECT, type=Path, metavar="DIR")
    script.add_option(parser, "--browser", "the browser's program", "/usr/bin/chromium", metavar="FILE")
    script.add_option(parser, "--thought", "seconds a card", 1.2, type=float, metavar="S")
    script.add_whole(parser, "--most", "cards of a walk at the most", 1000)
    script.add_whole(parser, "--tags", "sessions on the tags with most suggestions", 12)
    args = parser.parse_args(argv)
    truth = {hash: set(tags) for hash, tags in json.loads((args.demo / "planted.json").read_text())["truth"].items()}
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=args.browser, args=ARGUMENTS)
        for name in args.walk or WALKS:
            with served(args.project, args.demo) as base:
                context = browser.new_context(viewport=SMALL_LAPTOP)
                walk = Walk(context.new_page(), base, truth, args.most)
                for view in views(name, base, args.tags):
                    walk.view(view)
                walk.check()
                report(name, walk.counted, args.thought)
                walk.tab.goto("about:blank")
                context.close()
        browser.close()
    return 0


@contextmanager
def served(project: Path, demo: Path) -> Iterator[str]:
    """The page of a checkout on a copy of the demo's data: its address."""
    with tempfile.TemporaryDirectory() as place, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        data = Path(place) / "data"
        shutil.copytree(demo / "data", data, ignore=shutil.ignore_patterns("review.sqlite3*"))
        library = (demo / "library").resolve()
        words = ["webapp/app.py", "--data-dir", data, "--library", library, "--port", port]
        command = [sys.executable, *map(str, words)]
        with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
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
            share = row["confidence"]
            self.sure.setdefault(_key(row), set()).update((f"{share * 100:.0f} %", f"{min(share * 100, 99.9):.1f} %"))
            self.sure[_key(row)].add(f"{min(round(share * 100), 99)} %")

    def view(self, address: str) -> None:
        """Walk one view to its end."""
        self.tab.goto(address)
        if self.tab.locator("article").count():
            self.tab.evaluate(WATCH)
        while self.counted["cards"] < self.most and self.tab.locator("article").count():
            self.card()
        self.counted["unseen"] += self.tab.evaluate("() => Number(sessionStorage.blind || 0)")

    def card(self) -> None:
        """Answer one card, in as many presses as it takes."""
        shown = self.tab.locator("article").get_attribute("data-id")
        rows = self.tab.evaluate(ROWS)
        self.label(next(row for row in rows if row["asked"]))
        self.counted["cards"] += 1
        self.seen: set[str] = set()
        for _ in range(9):
            for key, state in self.press(shown, self.tab.evaluate(ROWS)).items():
                self.counted["decisions"] += key not in self.said
                self.said[key] = state
            if not self.tab.locator("article").count() or self.tab.locator("article").get_attribute("data-id") != shown:
                return

    def label(self, row: dict[str, Any]) -> None:
        """Whether the headline is the number of the first row that is asked."""
        number = self.tab.evaluate(HEADLINE).removesuffix(" alike")
        known = set.union(*(self.sure.get(key, set()) for key in row["keys"]))
        self.counted["labels"] += number not in known and not number.endswith("right")

    def press(self, shown: str, rows: list[dict[str, Any]]) -> dict[str, str]:
        """Tick what is right, press, and see what became of it: the answers that were given."""
        settles = self.tab.locator('[data-action="settle"]').count() > 0
        asked = [(place, row) for place, row in enumerate(rows) if row["asked"]]
        right = [place for place, row in asked if all(self.is_right(key) for key in row["keys"])]
        wanted = right if settles or right else [place for place, _ in asked]
        state = "accepted" if right else "ignored"
        for place, row in asked:
            if (place in wanted) != row["ticked"]:
                self.counted["keys"] += 1
                self.tab.keyboard.press(str(place + 1)) if place < 9 else self.tick(place)
        for row in (*rows, *self.tab.evaluate(ROWS)):  # a tick may have scrolled
            self.seen |= {row["keys"][0]} if row["seen"] else set()
        hidden = [row for place, row in asked if row["keys"][0] not in self.seen and (settles or place in wanted)]
        said = self.tab.locator("#said")
        said.evaluate("(one) => one.replaceChildren()")
        self.counted["keys"] += 1
        self.tab.keyboard.press("Enter" if settles else "a" if right else "x")
        self.tab.wait_for_function(SETTLED, arg=shown)
        if said.count() and "Nothing was decided" in said.inner_text():
            self.counted["scrolls"] += 1
            return {}
        self.counted["hidden"] += len(hidden)
        given = {key: state if place in wanted else "ignored" for place, row in asked for key in row["keys"]}
        return given if settles else {key: given[key] for place in wanted for key in rows[place]["keys"]}

    def tick(self, place: int) -> None:
        """A row beyond the ninth has no key: it is clicked."""
        self.tab.locator('.scroll > .suggestions input[name="key"]').nth(place).click()

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
