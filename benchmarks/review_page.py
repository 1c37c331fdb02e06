"""How fast the review page answers with 100,000 findings over 50,000 pictures, against reading the JSON at each request.

    python benchmarks/review_page.py
    python benchmarks/review_page.py --findings 10000 --pictures 5000 --repeats 30

Reads   nothing: reports are made up from a seed, in a temporary folder
Writes  nothing; prints one line a view: median, 95th percentile, mean processor time, and the ratio to parsing the report

The application is asked in this process, so a time is what the server needs from request to the
last byte, rendering included, without a network. Reading the reports is measured in a process of its own,
whose memory is then that of the reading; while the reports of a second run are read, a decision a tenth of a
second is made from here, and how long each waits is told.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from common import PROJECT, Spent, spent

from tagcheck import data_folder, script
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION
from tagcheck.errors import MissingInput
from tagcheck.findings import TagFinding, error, finding_id
from tagcheck.review import Ask, Filter, Review, by_picture, queries, report_import
from tagcheck.review.store import ACCEPTED, FLAGGED, IGNORED
from webapp.app import create_app
from webapp.state import Settings

ISSUES = ("missing_tags", "incorrect_tags", "inconsistent_tags", "contradictory_tags")
TAGS = 2000


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.plain_parser(__doc__)
    script.add_whole(parser, "--findings", "findings in the reports", 100_000)
    script.add_whole(parser, "--pictures", "pictures they are about", 50_000, low=2)
    script.add_whole(parser, "--decided", "suggestions decided beforehand", 20_000, low=0)
    script.add_whole(parser, "--repeats", "requests a view", 60, low=2)
    script.add_switch(parser, "--while-reading", "also decide while the reports of a second run are read")
    script.add_option(parser, "--only", "measure the views whose name holds this (default: all)", "", metavar="TEXT")
    script.add_option(parser, "--seed", "of the made-up reports", 1, type=int)
    script.add_option(
        parser, "--folder", "a folder that keeps the reports for another run", None, type=Path, metavar="DIR"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as root:
        folder = DataFolder(args.folder or Path(root))
        folder.root.mkdir(exist_ok=True)
        kept = folder.newest(MISTAGGED) if folder.review.exists() else None
        report = kept or make_reports(folder, args.findings, args.pictures, random.Random(args.seed))
        with Reading(folder.root) as reading:
            pass
        with Review(folder.review) as store:
            counted = queries.count(store, Filter())
        print(
            f"{counted.findings:,} findings, {counted.suggestions:,} suggestions, {args.pictures:,} pictures, seed {args.seed}"
        )
        print(f"reading the reports into the store: {reading}, {folder.review.stat().st_size / 2**20:.0f} MB of file")
        if not kept:
            decide_beforehand(folder, args.decided)
        if args.while_reading:
            decide_while_reading(folder, args, random.Random(args.seed))
        parsing = min(clock(lambda: json.loads(report.read_text(encoding="utf-8"))) for _ in range(3))
        print(
            f"parsing the JSON of one report, as a page without a store would at each request: {parsing * 1000:.0f} ms"
        )
        print(f"load of the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        print(f"{'view':46} {'median':>9} {'p95':>9} {'processor':>10} {'parsing is':>11}")
        for name, ask in views(folder, args).items():
            if args.only not in name:
                continue
            before = decide_one(folder, random.Random(args.seed)) if "after a decision" in name else lambda: None
            times, busy = measure(ask, before, args.repeats)
            median, high = times[len(times) // 2], times[int(len(times) * 0.95)]
            print(
                f"{name:46} {median * 1000:6.1f} ms {high * 1000:6.1f} ms {busy * 1000:7.1f} ms {parsing / median:9.1f} x",
                flush=True,
            )
    return 0


class Reading:
    """The reports read in another process, while something happens here; in words what it took, at the end."""

    took = Spent()

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> Reading:
        self.pool = ProcessPoolExecutor(1, get_context("spawn"))
        self.pool.submit(int).result()  # starting it is no part of the reading
        self.waiting = self.pool.submit(read_reports, self.root)
        return self

    def __exit__(self, *raised: object) -> None:
        self.took = self.waiting.result()
        self.pool.shutdown()

    def __str__(self) -> str:
        took = self.took
        return f"{took.clock:.1f} s ({took.processor:.1f} s of processor), {took.memory / 2**20:.0f} MB of memory"


def read_reports(root: Path) -> Spent:
    """Bring the store up to date."""
    folder = DataFolder(root)
    with spent() as took, Review(folder.review) as store:
        report_import.sync(store, folder)
    return took


def decide_beforehand(folder: DataFolder, count: int) -> None:
    """Decide so many suggestions at once, undo that and do it again, three in four accepted, as an owner of long standing has."""
    with Review(folder.review) as store:
        asks = queries.asks(store, Filter(namespace="", order="unsure"))[-count:] if count else []
        asked = [(ask, ACCEPTED if place % 4 else IGNORED) for place, ask in enumerate(asks)]
        for words, act in (
            ("deciding", lambda: store.decide_each(asked, "benchmark")),
            ("undoing", store.undo),
            ("redoing", store.redo),
        ):
            with spent() as took:
                act()
            print(f"{words} {len(asks):,} at once: {took.clock:.1f} s ({took.processor:.1f} s of processor)")


def decide_while_reading(folder: DataFolder, args: argparse.Namespace, rng: random.Random) -> None:
    """A second run of the detectors ends: decide, and look at the list, while its reports are read."""
    time.sleep(1.1)  # names of reports tell seconds apart
    make_reports(folder, args.findings, args.pictures, random.Random(args.seed + 1))
    decisions, looks = [], []
    with Review(folder.review) as store:
        asks = queries.asks(store, Filter())
        with Reading(folder.root) as reading:
            while not reading.waiting.done():
                ask = rng.choice(asks)
                decisions.append(clock(lambda: store.decide([Ask(ask.key)], FLAGGED)))
                looks.append(clock(lambda: queries.page(store, Filter())))
                time.sleep(0.1)
    print(f"reading the reports of the next run: {reading}")
    print(
        f"meanwhile {len(decisions)} decisions, the slowest {max(decisions) * 1000:.0f} ms, and as many looks at the list,"
        f" the slowest {max(looks) * 1000:.0f} ms"
    )


def make_reports(folder: DataFolder, findings: int, pictures: int, rng: random.Random) -> Path:
    """A dataset and the three reports: 8 in 10 findings about tags, the rest half pairs, half series. The mistagged report's
    path.
    """
    hashes = [f"{rng.getrandbits(256):064x}" for _ in range(pictures)]
    names = [f"{'series:' if number % 20 == 0 else ''}tag number {number}" for number in range(TAGS)]
    weights = [1 / (number + 5) for number in range(TAGS)]  # a few tags are on many pictures, most on few
    same = {"width": 1200, "height": 900, "size": 300_000, "mime": "image/jpeg"}
    records = [
        {"hash": hash, "existing_all_tags": sorted(set(rng.choices(names, weights, k=25))), **same}
        | {"pages": [["Dataset", f"Page {place % 7}"]], "time_imported": 1.7e9 + place}
        for place, hash in enumerate(hashes)
    ]
    data_folder.save(folder, DATASET, {"summary": {}, "results": records})
    about_tags, about_pairs = findings * 8 // 10, findings // 10
    errors = [made_error(rng.choice(hashes), hashes, rng, names, weights) for _ in range(about_tags)]
    errors = sorted({entry["id"]: entry for entry in errors}.values(), key=lambda entry: -entry["confidence"])
    summary = {"total_images_analyzed": pictures, "errors_found": len(errors)}
    path = data_folder.save(folder, MISTAGGED, {"summary": summary, "errors": errors})
    pairs = [made_pair(*sorted(rng.sample(hashes, 2)), rng, names) for _ in range(about_pairs)]
    data_folder.save(
        folder, NEAR_DUPLICATES, {"summary": {"total_pairs_found": len(pairs)}, "similar_pairs": pairs, "groups": []}
    )
    rest = [made_series(rng.choice(hashes), rng) for _ in range(findings - about_tags - about_pairs)]
    half = len(rest) // 2
    said = {"missing_predictions": rest[:half], "incorrect_predictions": rest[half:]}
    data_folder.save(folder, SERIES_VALIDATION, {"summary": {"accuracy": 0.9}, "per_series": [], **said})
    return path


def made_error(hash: str, near: list[str], rng: random.Random, names: list[str], weights: list[float]) -> dict:
    """One entry of the mistagged report, with one to three tags."""
    issue = rng.choices(ISSUES, (6, 3, 2, 1))[0]
    kind = "incorrect" if issue == "incorrect_tags" else "missing"
    chosen = sorted(set(rng.choices(names, weights, k=rng.choice((1, 1, 2, 3)))))
    return error(
        hash,
        issue,
        [
            TagFinding(
                tag,
                kind,
                rng.betavariate(4, 2),
                {
                    "neighbours": 9,
                    "neighbours_with": rng.randrange(10),
                    "tagger": round(rng.random(), 4),
                    "near_with": rng.sample(near, 4),
                    "near_without": rng.sample(near, 4),
                },
                "7 of the 9 closest pictures have it, and the tagger gives it 91 %.",
            )
            for tag in chosen
        ],
    )


def made_pair(one: str, two: str, rng: random.Random, names: list[str]) -> dict:
    """One near-duplicate pair."""
    return {
        "id": finding_id("near_duplicate", [one, two], []),
        "hash1": one,
        "hash2": two,
        "similarity": round(rng.uniform(0.95, 1), 6),
        "relation": "near_duplicate",
        "analysis": {"all_tags_diff": {"only_in_1": rng.sample(names, rng.randrange(3)), "only_in_2": []}},
    }


def made_series(hash: str, rng: random.Random) -> dict:
    """One prediction of the series report."""
    tag = f"series:tag number {rng.randrange(100) * 20}"
    return {
        "id": finding_id("series", [hash], [tag, str(rng.random())]),
        "hash": hash,
        "series": tag,
        "confidence": round(rng.betavariate(5, 2), 4),
    }


# The pages that are asked for; {at} any finding, {early} one with ten after it, {tag} the commonest, {hash} how one begins.
PAGES = {
    "overview": "",
    "overview, after a decision": "",
    "list, first page": "/findings",
    "list, after a decision": "/findings",
    "list, one kind, after a decision": "/findings?type=missing_tags",
    "list, the commonest tag, after a decision": "/findings?tag={tag}",
    "list, one namespace, after a decision": "/findings?ns=series",
    "list, confidence from 0.9, after a decision": "/findings?min=0.9",
    "list, one page of the library, after a decision": "/findings?page=Dataset+/+Page+3",
    "list, in any queue, after a decision": "/findings?state=any",
    "list, anywhere": "/findings?after={at}",
    "list, least sure first": "/findings?sort=unsure&after={at}",
    "list, newest picture first": "/findings?sort=newest&after={at}",
    "list, confidence 0.8 to 0.9": "/findings?min=0.8&max=0.9",
    "list, one kind": "/findings?type=incorrect_tags&after={at}",
    "list, the commonest tag": "/findings?tag={tag}",
    "list, one namespace": "/findings?ns=series",
    "list, one page of the library": "/findings?page=Dataset+/+Page+3",
    "list, hash": "/findings?hash={hash}&state=any",
    "grid, the commonest tag": "/findings?view=grid&tag={tag}",
    "card": "/card?at={at}",
    "the next six cards": "/cards?after={early}",
}


def views(folder: DataFolder, args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """What is measured, by name. Positions in lists are drawn anew for each request."""
    client = create_app(Settings(folder, no_library)).test_client()
    rng = random.Random(args.seed)
    with Review(folder.review) as store:
        ids = [row[0] for row in store.db.execute("SELECT id FROM findings ORDER BY rank")]
        common = queries.choices(store, "tags")[0]
    token = re.search(r'name="csrf" value="(\w+)"', client.get("/error-review/help").text)[1]

    def get(template: str) -> Callable[[], None]:
        def ask() -> None:
            any_of = {"at": rng.choice(ids), "early": rng.choice(ids[:-10]), "hash": f"{rng.getrandbits(16):04x}"}
            address = "/error-review" + template.format(tag=common, **any_of)
            answer = client.get(address)
            if answer.status_code != 200:
                raise SystemExit(f"{address} answered {answer.status_code}")
            answer.get_data()

        return ask

    def decide() -> None:
        card = client.get(f"/error-review/cards?type=tags&at={rng.choice(ids)}").json[0]
        key = re.search(r'name="key" value="([^"]+)"', card["html"])[1].replace("&#39;", "'").replace("&amp;", "&")
        client.post(
            "/error-review/decide?type=tags",
            data={"csrf": token, "finding": card["id"], "do": "ignored", "key": key},
            headers={"Accept": "application/json"},
        )

    with Review(folder.review) as store:
        headers = {"Authorization": f"Bearer {by_picture.token(store)}"}
        hashes = [row[0] for row in store.db.execute("SELECT DISTINCT hash FROM findings")]

    def suggested(count: int) -> Callable[[], None]:
        def ask() -> None:
            some = "&hash=".join(rng.sample(hashes, min(count, len(hashes))))
            assert len(client.get(f"/api/suggest?hash={some}", headers=headers).json) == min(count, len(hashes))

        return ask

    def script_of(count: int) -> Callable[[], None]:
        command = [sys.executable, str(PROJECT / "suggest.py"), "--json", "--data-dir", str(folder.root)]
        return lambda: subprocess.run([*command, *rng.sample(hashes, count)], check=True, capture_output=True) and None

    pages = {name: get(template) for name, template in PAGES.items()}
    answers = {"/api/suggest, one file": suggested(1), "/api/suggest, a selection of 200": suggested(200)}
    programs = {"suggest.py, one file": script_of(1), "suggest.py, a selection of 200": script_of(200)}
    return pages | {"a card and a decision on it": decide} | answers | programs


def measure(ask: Callable[[], None], before: Callable[[], None], repeats: int) -> tuple[list[float], float]:
    """(sorted seconds of each call, mean seconds of processor) of `ask`, `before` being done each time and not counted."""
    ask()
    gc.collect()
    times, busy = [], 0.0
    for _ in range(repeats):
        before()
        start = processor()
        times.append(clock(ask))
        busy += processor() - start
    return sorted(times), busy / repeats


def processor() -> float:
    """Seconds of the processor so far, of this process and of those that it has started."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def decide_one(folder: DataFolder, rng: random.Random) -> Callable[[], None]:
    """Decides another open suggestion at each call: answers are remembered until something is decided."""
    with Review(folder.review) as store:
        asks = queries.asks(store, Filter())
    rng.shuffle(asks)

    def decide() -> None:
        with Review(folder.review) as store:
            store.decide([Ask(asks.pop().key)], rng.choice((ACCEPTED, IGNORED)))

    return decide


def no_library():
    """The page is measured without pictures."""
    raise MissingInput("no library in a benchmark")


def clock(ask: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    ask()
    return time.perf_counter() - start


if __name__ == "__main__":
    raise SystemExit(main())
