"""All the way: a Hydrus with pages and a planted error, every script as a process, the page, the tag changed and taken back.

The Hydrus is the local server that answers as a real client does; the pictures are drawn, the
network is the sample's, everything else is what an owner runs.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import warm

from tagcheck import data_folder
from tagcheck.data_folder import DATASET, MAPPING, RUN_SUMMARY, DataFolder
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION
from tagcheck.embedding.store import shard_paths
from tagcheck.review import queries
from tagcheck.review.queries import Filter
from tagcheck.review.store import ACCEPTED, IGNORED, Ask, Key, Review
from tests.hydrus_server import MY_TAGS, HydrusServer

PROJECT = Path(__file__).resolve().parents[2]
PICTURES = 140
BEGINS = os.environ.get("END_TO_END_TAG", "")  # what the ignored tag begins with: `series:`, say
SEED = os.environ.get("END_TO_END_SEED", "11")  # of the library that is drawn; the last test holds on others, too
SCRIPTS = (
    ("dataset_hardcore_mapper.py",),
    ("advanced_joytag_processing.py", "--model-dir", str(PROJECT / "sample" / "network")),
    ("train_series_classifier_images.py",),
    ("run_error_detection.py",),
)


@dataclass
class Chain:
    """A Hydrus whose pictures went through every stage: what was planted, and what each script said."""

    server: HydrusServer
    folder: DataFolder
    planted: dict
    said: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HYDRUS_API_URL": self.server.url,
            "HYDRUS_API_KEY": self.server.key,
            "DATASET_DIR": str(self.folder.root),
        }

    def run(self, name: str, *options: str) -> str:
        done = subprocess.run(
            [warm.python(), str(PROJECT / name), *options],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd="/",
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        assert self.server.key not in done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    root = tmp_path_factory.mktemp("end_to_end")
    subprocess.run(
        [
            warm.python(),
            str(PROJECT / "sample" / "draw_library.py"),
            str(root),
            "--pictures",
            str(PICTURES),
            "--seed",
            SEED,
        ],
        check=True,
    )
    (root / "data").mkdir()
    with HydrusServer(root / "library") as server:
        made = Chain(
            server, DataFolder(root / "data"), json.loads((root / "planted.json").read_text(encoding="utf-8")), {}
        )
        for name, *options in SCRIPTS:
            made.said[name] = made.run(name, *options)
        yield made


class Browser:
    """A person without JavaScript: addresses, and the forms that buttons belong to."""

    def __init__(self, url: str) -> None:
        self.url, self.session = url, requests.Session()
        self.session.trust_env = False

    def get(self, address: str) -> str:
        page = self._page(self.session.get(self.url + address, timeout=60))
        while 'id="first"' in page:  # the first reports are being read
            time.sleep(0.2)
            page = self._page(self.session.get(self.url + address, timeout=60))
        return page

    def press(self, page: str, text: str) -> str:
        """Send the form of the button that begins with `text`."""
        for form in re.findall(r"<form.*?</form>", page, re.S):
            for attributes, inside in re.findall(r"<button([^>]*)>(.*?)</button>", form, re.S):
                if re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", inside)).strip().startswith(text):
                    return self._send(form, attributes)
        raise AssertionError(f"no button {text!r} in {page}")

    def _send(self, form: str, button: str) -> str:
        data: list[tuple[str, str]] = []
        for field in re.findall(r"<input[^>]*>", form):
            if _of(field, "type") != "checkbox" or " checked" in field:
                data.append((_of(field, "name"), _of(field, "value")))
        if _of(button, "name"):
            data.append((_of(button, "name"), _of(button, "value")))
        target = _of(button, "formaction") or _of(form.partition(">")[0], "action")
        return self._page(self.session.post(self.url + target, data=data, timeout=120))

    @staticmethod
    def _page(answer: requests.Response) -> str:
        assert answer.status_code == 200, answer.text
        return answer.text


def _of(element: str, name: str) -> str:
    found = re.search(rf'\b{name}="([^"]*)"', element)
    return html.unescape(found[1]) if found else ""


@contextmanager
def review_page(chain: Chain):
    """`python webapp/app.py` as a process on a free port."""
    process = subprocess.Popen(
        [warm.python(), str(PROJECT / "webapp" / "app.py"), "--port", "0"],
        env=chain.environment,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = process.stdout.readline()
        yield Browser(re.search(r"http://localhost:\d+", line)[0])
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()


def report(chain: Chain, kind: data_folder.Kind) -> dict:
    return data_folder.load(chain.folder.newest(kind), kind)


@dataclass(frozen=True)
class Suggestion:
    """A tag that the mistagged report would add, and the finding that says so."""

    finding: str
    hash: str
    tag: str


def suggestions(chain: Chain) -> list[Suggestion]:
    """Every tag that the mistagged report would add, the surest first."""
    found = [
        (tag["confidence"], Suggestion(one["id"], one["hash"], tag["tag"]))
        for one in report(chain, MISTAGGED)["errors"]
        for tag in one["tags"]
        if tag["kind"] == "missing"
    ]
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])]


def decide(browser: Browser, one: Suggestion, button: str) -> None:
    """Press the button of that very tag on the finding's card; a card of one tag has one button for all."""
    card = browser.get(f"/error-review/card?state=any&at={one.finding}")
    browser.press(card, button if card.count('name="key"') == 1 else f"{button} add {one.tag}")


def test_the_pages_of_hydrus_are_mapped_and_never_refreshed(chain):
    mapping = report(chain, MAPPING)
    assert mapping["root"] == ["Dataset"] and mapping["library"]["type"] == "hydrus"
    hashes = {hash for page in mapping["pages"] for hash in page["hashes"]}
    assert hashes == set(chain.planted["truth"])
    assert not chain.server.refreshed and not chain.server.alarms
    assert chain.server.key not in (chain.folder.newest(MAPPING)).read_text(encoding="utf-8")


def test_every_mapped_file_has_a_record_and_odd_files_say_why(chain):
    dataset = report(chain, DATASET)
    records = {record["hash"]: record for record in dataset["results"]}
    assert set(records) == set(chain.planted["truth"])
    odd = [record for record in records.values() if record.get("status", "ok") != "ok"]
    assert odd and all(record["reason"] for record in odd)


def test_all_three_detectors_reported_on_that_dataset(chain):
    summary = report(chain, RUN_SUMMARY)
    assert [row["exit_code"] for row in summary["detectors"]] == [0, 0, 0]
    assert all(
        report(chain, kind)["dataset"] == summary["dataset"] for kind in (MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION)
    )


def test_planted_errors_are_among_the_surest_findings(chain):
    truth, written = (
        chain.planted["truth"],
        {record["hash"]: set(record["existing_all_tags"]) for record in report(chain, DATASET)["results"]},
    )
    surest = suggestions(chain)[:10]
    right = sum(one.tag in truth[one.hash] and one.tag not in written[one.hash] for one in surest)
    assert len(surest) == 10 and right >= 7, surest


def test_an_accepted_fix_reaches_hydrus_and_a_batch_can_be_taken_back(chain):
    one = suggestions(chain)[0]
    before = chain.server.stored(one.hash)
    with review_page(chain) as browser:
        assert "/error-review/card" in browser.get("/")
        decide(browser, one, "Accept")
        assert chain.server.stored(one.hash) == before  # deciding writes nothing
        preview = browser.get("/error-review/apply")
        assert html.escape(one.tag) in preview and "my tags" in preview
        browser.press(preview, "Write 1 change to my tags")
        assert "Undo the whole batch" in _finished(browser)
        assert one.tag in chain.server.stored(one.hash)["0"]

        browser.press(browser.get("/error-review/applied/1"), "Undo the whole batch")
        _finished(browser)
    assert chain.server.stored(one.hash)["0"] == before["0"]


def test_what_was_fixed_ignored_or_settled_in_hydrus_does_not_come_back(chain):
    found = suggestions(chain)[1:]
    fixed, ignored, refused = found[:3]
    child = next(one for one in found[3:] if one.tag not in {other.tag for other in found[:3]})
    pair = report(chain, NEAR_DUPLICATES)["similar_pairs"][0]
    known = tagger_note(chain)
    assert any("day" in record["existing_all_tags"] for record in report(chain, DATASET)["results"])
    with review_page(chain) as browser:
        decide(browser, fixed, "Accept")
        decide(browser, ignored, "Ignore")
        browser.press(browser.get("/error-review/apply"), "Write 1 change to my tags")
        _finished(browser)
    # Meanwhile in Hydrus: a tag is deleted by hand, so is the parent of another, a pair is judged, "day" gets another name.
    chain.server.tag(refused.hash, [refused.tag], MY_TAGS, "2")
    chain.server.parents[MY_TAGS][child.tag] = {"taken off by hand"}
    chain.server.tag(child.hash, ["taken off by hand"], MY_TAGS, "2")
    chain.server.relationships[pair["hash1"], pair["hash2"]] = "1"
    chain.server.siblings[MY_TAGS]["day"] = "time:day"
    shards = [path.name for path in shard_paths(chain.folder.embeddings)]

    assert " 0 embedded" in chain.run(
        "advanced_joytag_processing.py", "--model-dir", str(PROJECT / "sample" / "network")
    )
    chain.run("run_error_detection.py")

    assert [path.name for path in shard_paths(chain.folder.embeddings)] == shards
    records = {record["hash"]: record for record in report(chain, DATASET)["results"]}
    assert fixed.tag in records[fixed.hash]["existing_all_tags"]
    shown = {tag for record in records.values() for tag in record["existing_all_tags"]}
    # JoyTag's "day" means it now.
    assert "time:day" in shown and "day" not in shown and tagger_note(chain).split()[0] == known.split()[0]
    with review_page(chain) as browser:
        rows = browser.session.get(browser.url + "/error-review/export.json?state=open", timeout=60).json()
    open_now = {(row["hash"], row["tag"]) for row in rows}
    assert open_now and not {(one.hash, one.tag) for one in (fixed, ignored, refused, child)} & open_now
    assert report(chain, MISTAGGED)["summary"]["left_out"]["deleted_before"] >= 2
    pairs = report(chain, NEAR_DUPLICATES)
    assert pairs["summary"]["pairs_already_judged"] == 1
    assert (pair["hash1"], pair["hash2"]) not in {(one["hash1"], one["hash2"]) for one in pairs["similar_pairs"]}


def test_after_a_batch_that_was_undone_and_a_tag_that_was_ignored_a_new_run_finds_what_is_left(chain):
    """Accept, apply, undo, ignore by tag, run again: the findings of before less what was decided, within 5 %."""
    with review_page(chain) as browser:
        before = open_rows(browser)
        undone = [row for row in sorted(before) if row[2] == "add"][:3]
        with Review(chain.folder.review) as store:
            store.decide([Ask(Key(*row)) for row in undone], ACCEPTED)
        browser.press(browser.get("/error-review/apply"), "Write 3 changes to my tags")
        _finished(browser)
        newest = max(map(int, re.findall(r'href="/error-review/applied/(\d+)"', browser.get("/error-review/applied"))))
        browser.press(browser.get(f"/error-review/applied/{newest}"), "Undo the whole batch")
        _finished(browser)
        tag, _ = Counter(row[1] for row in before - set(undone) if row[1].startswith(BEGINS)).most_common(1)[0]
        with Review(chain.folder.review) as store:
            ignored = store.decide(queries.asks(store, Filter(tag=tag)), IGNORED).changed
    chain.run("advanced_joytag_processing.py", "--model-dir", str(PROJECT / "sample" / "network"))
    chain.run("run_error_detection.py")
    with review_page(chain) as browser:
        after = open_rows(browser)
    left = before - set(undone) - {(key.hash, key.tag, key.action) for key in ignored}
    assert len(ignored) >= (2 if BEGINS else 3) and len(left) >= 20
    assert abs(len(after) - len(left)) <= 0.05 * len(left), (len(before), len(left), len(after))
    assert len(after & left) >= 0.9 * len(left)


def open_rows(browser: Browser) -> set[tuple[str, str, str]]:
    """What is open on the page and concerns a tag: hash, tag, action."""
    rows = browser.session.get(browser.url + "/error-review/export.json?state=open", timeout=60).json()
    return {(row["hash"], row["tag"], row["action"]) for row in rows if row["action"] in ("add", "remove")}


def tagger_note(chain: Chain) -> str:
    """How many of the library's tags the tagger knows, as the report says it."""
    return next(note for note in report(chain, MISTAGGED)["summary"]["notes"] if "are known to the tagger" in note)


def _finished(browser: Browser) -> str:
    """The newest batch's page, once it is written."""
    for _ in range(200):
        numbers = re.findall(r'href="/error-review/applied/(\d+)"', browser.get("/error-review/applied"))
        if numbers:
            page = browser.get(f"/error-review/applied/{max(map(int, numbers))}")
            if "left open" not in page:
                return page
    raise AssertionError("nothing was applied")
