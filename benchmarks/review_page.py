"""How fast the review page answers with 100,000 findings over 50,000 pictures, against reading the JSON at each request.

    python benchmarks/review_page.py
    python benchmarks/review_page.py --findings 10000 --pictures 5000 --repeats 30
    python benchmarks/review_page.py --visitors 60

Reads   nothing: reports are made up from a seed, in a temporary folder
Writes  nothing; prints one line a view: median, 95th percentile, mean processor time, and the ratio to parsing the report

The application is asked in this process, so a time is what the server needs from request to the
last byte, rendering included, without a network. Reading the reports is measured in a process of its own,
whose memory is then that of the reading.

--visitors serves the page for so many seconds to 50 readers, each of whom looks at a list or a card and waits a second,
and 5 deciders, each on findings of its own. One line: requests, errors, median and 99th percentile of the time to an
answer, decisions that were answered as made and are not in the store, and the page's memory early and at the end (Linux).
"""

from __future__ import annotations

import argparse
import gc
import html
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPException
from itertools import chain
from pathlib import Path

from common import PROJECT, Spent, alone, memory, spent

from tagcheck import data_folder, script
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION
from tagcheck.errors import MissingInput
from tagcheck.findings import TagFinding, error, finding_id
from tagcheck.review import Ask, Filter, Review, by_picture, queries, report_import
from tagcheck.review.store import ACCEPTED, IGNORED
from webapp.app import create_app
from webapp.state import Settings

ISSUES = ("missing_tags", "incorrect_tags", "inconsistent_tags", "contradictory_tags")
TAGS = 2000
READERS, DECIDERS = 50, 5
LOOKED_AT = ("", "/findings", "/findings?order=unsure", "/findings?view=grid", "/findings?state=flagged")
FLAGGED_FINDINGS = """SELECT DISTINCT s.finding FROM suggestions s JOIN decisions d USING (hash, tag, action, other)
    WHERE d.state = 'flagged'"""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.plain_parser(__doc__)
    script.add_whole(parser, "--findings", "findings in the reports", 100_000)
    script.add_whole(parser, "--pictures", "pictures they are about", 50_000, low=2)
    script.add_whole(parser, "--decided", "suggestions decided beforehand", 20_000, low=0)
    script.add_whole(parser, "--repeats", "requests a view", 60, low=2)
    script.add_whole(parser, "--visitors", "instead, so many seconds of many visitors at once", low=10)
    script.add_option(parser, "--only", "measure the views whose name holds this (default: all)", "", metavar="TEXT")
    script.add_option(parser, "--seed", "of the made-up reports", 1, type=int)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as root:
        folder = DataFolder(Path(root))
        report = make_reports(folder, args.findings, args.pictures, random.Random(args.seed))
        took = alone(read_reports, folder)
        with Review(folder.review) as store:
            held = queries.counted(store, Filter()).queues()["open"]
            print(f"{held.findings:,} findings, {held.suggestions:,} suggestions, {args.pictures:,} pictures")
            print(f"reading the reports: {told(took)}, {folder.review.stat().st_size / 2**20:.0f} MB of file")
            if args.visitors:
                print(visited(folder, store, args.visitors))
                return 0
            decide_beforehand(store, args.decided)
        parsing = min(clock(lambda: json.loads(report.read_text(encoding="utf-8"))) for _ in range(3))
        print(f"parsing the JSON of one report, as a page without a store would: {parsing * 1000:.0f} ms")
        print(f"load of the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        print(f"{'view':46} {'median':>9} {'p95':>9} {'processor':>10} {'parsing is':>11}")
        for name, ask in views(folder, args.seed).items():
            if args.only not in name:
                continue
            before = decide_one(folder, random.Random(args.seed)) if "after a decision" in name else lambda: None
            times, busy = measure(ask, before, args.repeats)
            shown = [1000 * seconds for seconds in (times[len(times) // 2], times[int(len(times) * 0.95)], busy)]
            ratio = parsing / times[len(times) // 2]
            print("{:46} {:6.1f} ms {:6.1f} ms {:7.1f} ms {:9.1f} x".format(name, *shown, ratio), flush=True)
    return 0


def read_reports(folder: DataFolder) -> Spent:
    """Bring the store up to date."""
    with spent() as took, Review(folder.review) as store:
        report_import.sync(store, folder)
    return took


def told(took: Spent) -> str:
    return f"{took.clock:.1f} s ({took.processor:.1f} s of processor), {took.memory / 2**20:.0f} MB of memory"


def decide_beforehand(store: Review, count: int) -> None:
    """Decide so many suggestions at once, undo that and do it again, three in four accepted, as an owner of long standing has."""
    asks = queries.asks(store, Filter(namespace="", order="unsure"))[-count:] if count else []
    asked = [(ask, ACCEPTED if place % 4 else IGNORED) for place, ask in enumerate(asks)]
    acts = {"deciding": lambda: store.decide_each(asked, "benchmark"), "undoing": store.undo, "redoing": store.redo}
    for words, act in acts.items():
        with spent() as took:
            act()
        print(f"{words} {len(asks):,} at once: {told(took)}")


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
    why = "7 of the 9 closest pictures have it, and the tagger gives it 91 %."
    found = []
    for tag in sorted(set(rng.choices(names, weights, k=rng.choice((1, 1, 2, 3))))):
        sure, says = rng.betavariate(4, 2), {"neighbours": 9, "neighbours_with": rng.randrange(10)}
        says |= {
            "tagger": round(rng.random(), 4),
            "near_with": rng.sample(near, 4),
            "near_without": rng.sample(near, 4),
        }
        found.append(TagFinding(tag, kind, sure, says, why))
    return error(hash, issue, found)


def made_pair(one: str, two: str, rng: random.Random, names: list[str]) -> dict:
    """One near-duplicate pair."""
    pair = {"id": finding_id("near_duplicate", [one, two], []), "hash1": one, "hash2": two}
    pair |= {"similarity": round(rng.uniform(0.95, 1), 6), "relation": "near_duplicate"}
    return pair | {"analysis": {"all_tags_diff": {"only_in_1": rng.sample(names, rng.randrange(3)), "only_in_2": []}}}


def made_series(hash: str, rng: random.Random) -> dict:
    """One prediction of the series report."""
    tag = f"series:tag number {rng.randrange(100) * 20}"
    id = finding_id("series", [hash], [tag, str(rng.random())])
    return {"id": id, "hash": hash, "series": tag, "confidence": round(rng.betavariate(5, 2), 4)}


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


def views(folder: DataFolder, seed: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name. Positions in lists are drawn anew for each request."""
    client, rng = create_app(Settings(folder, no_library)).test_client(), random.Random(seed)
    with Review(folder.review) as store:
        ids = [row[0] for row in store.db.execute("SELECT id FROM findings ORDER BY rank")]
        common = queries.complete(store, "tag number")[0][0]  # they come by the number of pictures
        headers = {"Authorization": f"Bearer {store.secret(by_picture.TOKEN)}"}
        hashes = [row[0] for row in store.db.execute("SELECT DISTINCT hash FROM findings")]
    token = re.search(r'name="csrf" value="(\w+)"', client.get("/error-review/help").text)[1]

    def ask(template: str) -> None:
        any_of = {"at": rng.choice(ids), "early": rng.choice(ids[:-10]), "hash": f"{rng.getrandbits(16):04x}"}
        address = "/error-review" + template.format(tag=common, **any_of)
        answer = client.get(address)
        if answer.status_code != 200:
            raise SystemExit(f"{address} answered {answer.status_code}")
        answer.get_data()

    def decide() -> None:
        card = client.get(f"/error-review/cards?type=tags&at={rng.choice(ids)}").json[0]
        key = html.unescape(re.search(r'name="key" value="([^"]+)"', card["html"])[1])
        data = {"csrf": token, "finding": card["id"], "do": "ignored", "key": key}
        client.post("/error-review/decide?type=tags", data=data, headers={"Accept": "application/json"})

    def suggested(count: int) -> None:
        some = rng.sample(hashes, min(count, len(hashes)))
        assert len(client.get(f"/api/suggest?hash={'&hash='.join(some)}", headers=headers).json) == len(some)

    def by_script(count: int) -> None:
        command = [sys.executable, str(PROJECT / "suggest.py"), "--json", "--data-dir", str(folder.root)]
        subprocess.run([*command, *rng.sample(hashes, count)], check=True, capture_output=True)

    made: dict[str, Callable[[], object]] = {name: partial(ask, template) for name, template in PAGES.items()}
    made["a card and a decision on it"] = decide
    for what, count in (("one file", 1), ("a selection of 200", 200)):
        made |= {f"/api/suggest, {what}": partial(suggested, count), f"suggest.py, {what}": partial(by_script, count)}
    return made


def visited(folder: DataFolder, store: Review, seconds: int) -> str:
    """What `READERS` and `DECIDERS` see of the page that is served for so many seconds, in a line."""
    ids = [row[0] for row in store.db.execute("SELECT id FROM findings LIMIT 5000")]
    own = [*[[]] * READERS, *(ids[one::DECIDERS] for one in range(DECIDERS))]
    where = ["--data-dir", str(folder.root), "--port", "0", "--library", str(folder.root)]
    command = [sys.executable, str(PROJECT / "webapp/app.py"), *where]
    with ThreadPoolExecutor(len(own)) as pool, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        try:
            address = re.search(r"http://\S+:\d+", page.stdout.readline())[0] + "/error-review"
            until = time.time() + seconds
            visits = [pool.submit(visit, address, until, mine, random.Random(n)) for n, mine in enumerate(own)]
            time.sleep(seconds / 10)
            early = memory("VmRSS", page.pid)
            times, errors, decided = ([*chain(*some)] for some in zip(*(one.result() for one in visits)))
            held = f"memory {early >> 20} MB, then {memory('VmRSS', page.pid) >> 20} MB"
        finally:
            page.terminate()
    lost = len({*decided} - {row[0] for row in store.db.execute(FLAGGED_FINDINGS)})
    middle, slow = (1000 * sorted(times)[int(len(times) * share)] for share in (0.5, 0.99))
    took = f"median {middle:.0f} ms, p99 {slow:.0f} ms; {len(decided)} decisions, {lost} lost"
    return f"{len(times):,} requests, {len(errors)} errors {errors[:3] or ''}, {took}; {held}"


def visit(
    address: str, until: float, own: list[str], chance: random.Random
) -> tuple[list[float], list[str], list[str]]:
    """One browser: (seconds of each request, errors, which of its `own` findings were answered as decided)."""
    times, errors, decided = [], [], []
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def ask(path: str, form: str | None = None) -> str:
        given = urllib.request.Request(address + path, form and form.encode())
        given.add_header("Accept", "application/json" if form else "text/html")
        began = time.perf_counter()
        try:
            with browser.open(given, timeout=60) as answer:
                return answer.read().decode()
        except (OSError, HTTPException) as error:
            errors.append(f"{error} {path}")
            return ""
        finally:
            times.append(time.perf_counter() - began)

    time.sleep(chance.random())
    token = re.search(r'name="csrf" value="(\w+)"', ask("/findings"))
    while time.time() < until:
        if own and token:
            one = own.pop()
            # Else it is in no view, or an error is noted.
            decided += [one] * ('"ok":true' in ask("/decide-many", f"csrf={token[1]}&do=flagged&finding={one}"))
        else:
            ask(chance.choice(LOOKED_AT))
        time.sleep(1)
    return times, errors, decided


def measure(ask: Callable[[], object], before: Callable[[], None], repeats: int) -> tuple[list[float], float]:
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
