"""The page as a client sees it, without a script: what it says, what its forms do, and whom it refuses."""

from __future__ import annotations

import hashlib
import html
import io
import json
import math
import mimetypes
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image
from review_data import (
    draw_library,
    hashes,
    missing,
    page_on,
    pair,
    save_dataset,
    save_mistagged,
    save_pairs,
    save_run,
    save_series,
    sidecar,
    wrong,
)

import config
from tagcheck import data_folder
from tagcheck.changes import TagChange
from tagcheck.data_folder import DATASET
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES
from tagcheck.errors import LibraryUnreachable, ToolError
from tagcheck.files import write_json
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.review import Filter, queries
from tagcheck.review.report_import import sync
from tagcheck.review.store import ACCEPTED, ADD, IGNORED, PAIR, Ask, Key, Review
from tagcheck.writing.ledger import Ledger
from webapp import applying_views, running, state
from webapp.app import create_app
from webapp.pictures import THUMBNAIL_SIDE, ThumbnailCache
from webapp.state import Settings

PROJECT = Path(__file__).resolve().parents[2]
TAGS = [["1girl", "night"], ["1girl", "series:elves"], ["outdoors"], ["outdoors", "source:somewhere"]]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Page:
    """The application with a client, the library's folder and the pictures' hashes."""

    def __init__(self, folder, root: Path, hashes: list[str]) -> None:
        self.folder, self.root, self.hashes = folder, root, hashes
        self.app = page_on(folder, root)
        self.client = self.app.test_client()

    def get(self, address: str, code: int = 200) -> str:
        answer = self.client.get(address, follow_redirects=True)
        assert answer.status_code == code, answer.text
        return html.unescape(answer.text)

    def token(self) -> str:
        return re.search(r'name="csrf" value="([0-9a-f]+)"', self.get("/error-review/help"))[1]

    def post(self, address: str, code: int = 200, **form) -> str:
        answer = self.client.post(address, data={"csrf": self.token(), **form}, follow_redirects=True)
        assert answer.status_code == code, answer.text
        return html.unescape(answer.text)

    def press(self, page: str, text: str, **more) -> str:
        """Send the form that a button belongs to, as a browser without scripts would."""
        for form in re.findall(r"<form.*?</form>", page, re.S):
            for button in re.findall(r"<button([^>]*)>(.*?)</button>", form, re.S):
                if re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", button[1])).strip().startswith(text):
                    return self.send(form, button[0], more)
        raise AssertionError(f"no button {text!r}")

    def send(self, form: str, button: str, more: dict) -> str:
        def of(tag: str, name: str) -> str | None:
            found = re.search(rf'\b{name}="([^"]*)"', tag)
            return found and found[1]

        data: dict[str, list[str]] = {}
        for field in re.findall(r"<input[^>]*>", form):
            if (of(field, "type") != "checkbox" or " checked" in field) and " disabled" not in field:
                data.setdefault(of(field, "name"), []).append(of(field, "value") or "")
        if of(button, "name"):
            data[of(button, "name")] = [of(button, "value")]
        answer = self.client.post(
            of(button, "formaction") or of(form, "action"), data=data | more, follow_redirects=True
        )
        assert answer.status_code == 200, answer.text
        return html.unescape(answer.text)

    def queues(self) -> dict[str, int]:
        found = re.findall(r'<span class="count">([\d,]+)</span> (\w+)', self.get("/error-review").split("Queues")[1])
        return {name.lower(): int(number.replace(",", "")) for number, name in found}


@pytest.fixture
def page(folder, tmp_path) -> Page:
    """Four pictures: one lacks a series, one has a wrong tag, and the last two are alike with tags that differ."""
    root = tmp_path / "library"
    names = draw_library(root, TAGS)
    save_dataset(folder, dict(zip(names, TAGS)))
    save_mistagged(
        folder,
        missing(names[0], "series:elves", "long hair", confidence=0.95, near=[names[1]]),
        wrong(names[1], "1girl", confidence=0.7),
    )
    first, second = sorted(names[2:])
    has = dict(zip(names, TAGS))
    save_pairs(
        folder,
        pair(first, second, 0.97, tuple(set(has[first]) - set(has[second])), tuple(set(has[second]) - set(has[first]))),
    )
    save_series(folder)
    return Page(folder, root, names)


# --- reading ----------------------------------------------------------------------------------------


def test_an_address_that_ends_in_a_slash_is_the_same(page):
    assert (
        page.client.get("/error-review/").status_code == page.client.get("/error-review/findings/").status_code == 200
    )


def test_a_script_is_served_as_one_whatever_the_system_calls_it(request):
    """As on a Windows whose registry has `.js` as plain text."""
    for ending in (".js", ".css"):
        mimetypes.add_type("text/plain", ending)
    page = request.getfixturevalue("page")
    for name, kind in (("card.js", "text/javascript"), ("page.css", "text/css")):
        assert page.client.get(f"/static/{name}").mimetype == kind


def test_the_root_leads_to_the_review(page):
    answer = page.client.get("/")
    assert answer.status_code == 302 and answer.location.endswith("/error-review")


def test_the_overview_counts_findings_by_kind_and_names_every_detector(page):
    text = page.get("/error-review")
    assert "3 findings" in text and "dataset of 4 pictures" in text
    assert all(name in text for name in ("Tag errors", "Near-duplicates", "Series", "Missing tags", "Wrong tags"))
    assert page.queues()["open"] == 3


def test_where_nothing_could_be_looked_at_the_overview_never_says_that_all_is_well(folder):
    text = html.unescape(page_on(folder).test_client().get("/error-review").text)
    assert "Nothing could be looked at yet" in text and "No open findings" not in text
    assert text.count("has not run") == 3 and "advanced_joytag_processing.py" in text


def test_a_detector_that_failed_or_whose_report_is_damaged_is_named_beside_no_findings(folder):
    save_mistagged(folder)
    save_series(folder).write_text("{")
    save_run(
        folder,
        {
            "name": "near-duplicates",
            "script": "find_near_duplicates.py",
            "exit_code": 4,
            "message": "shard of another model",
        },
    )
    text = html.unescape(page_on(folder).test_client().get("/error-review").text)
    assert "failed in the last run (exit code 4): shard of another model" in text
    assert "its report cannot be read" in text and "2 detectors did not report" in text


def test_records_that_were_left_out_are_told(folder):
    for kind, key in ((MISTAGGED, "errors"), (DATASET, "results")):
        document = {"kind": kind.name, "version": 1, key: [{"hash": "no hash"}]}
        write_json(folder.root / kind.folder / f"{kind.prefix}_20261120T080000Z.json", document)
    text = page_on(folder).test_client().get("/error-review").text
    assert text.count("1 record cannot be used and is left out") == 2


def test_another_programs_report_is_shown_whatever_its_times_and_counts_look_like(folder):
    for when, created in (("20261120T080000Z", "2026-11-20T08:00:00"), ("20261121T080000Z", "yesterday")):
        report = {"kind": MISTAGGED.name, "created": created, "summary": {"errors_found": "1"}, "errors": []}
        write_json(folder.root / MISTAGGED.folder / f"{MISTAGGED.prefix}_{when}.json", report)
    assert page_on(folder).test_client().get("/error-review").status_code == 200


def test_when_all_is_decided_and_all_detectors_reported_the_overview_says_so(folder):
    save_mistagged(folder)
    save_pairs(folder)
    save_series(folder)
    assert "every detector has reported" in page_on(folder).test_client().get("/error-review").text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 3),
        ("type=missing_tags", 1),
        ("type=tags", 2),
        ("type=pairs", 1),
        ("type=mistagged", 2),
        ("type=series", 0),
        ("tag=series:elves&tag=1girl", 2),
        ("tag=nothing&tag=long hair", 1),
        ("series=series:elves", 1),
        ("state=ignored&changed=yes", 0),
        ("min=0.9", 2),
        ("max=0.8", 1),
        ("tag=series:elves", 1),
        ("ns=series", 1),
        ("tag=nothing", 0),
        ("page=Dataset / All&type=tags", 2),
        ("state=ignored", 0),
        ("state=any", 3),
    ],
)
def test_filters_stand_in_the_address(page, query, expected):
    assert len(re.findall(r'<li><a href="/error-review/card', page.get(f"/error-review/findings?{query}"))) == expected


def test_a_filter_sends_a_pages_name_with_all_its_blanks(page):
    save_dataset(page.folder, dict(zip(page.hashes, TAGS)), pages=[["My  page "]])
    page.get("/error-review")
    assert '<option value="My  page ">' in page.get("/error-review/findings")
    assert page.get("/error-review/findings?page=My++page+&type=tags").count('<li><a href="/error-review/card') == 2


def test_the_list_finds_a_picture_by_the_start_of_its_hash(page):
    text = page.get(f"/error-review/findings?hash={page.hashes[1][:9]}")
    assert text.count('<li><a href="/error-review/card') == 1 and "1girl" in text


@pytest.mark.parametrize(
    "query", ["type=missing_tags&min=0.8", "tag=a%26b&tag=%C3%BC", "endpoint=x&_scheme=y&_method=POST"]
)
def test_filters_on_the_first_address_lead_to_the_list(page, query):
    answer = page.client.get(f"/error-review?{query}")
    assert (answer.status_code, answer.location) == (302, f"/error-review/findings?{query}")


@pytest.mark.parametrize(
    "query", ["type=x", "tag=a&tag=b&tag=c", "state=x", "sort=x", "min=high", "max=7", "hash=xyz", "min=nan"]
)
def test_a_filter_that_cannot_be_meant_is_refused_in_words(page, query):
    assert "Traceback" not in page.get(f"/error-review/findings?{query}", 400)


def test_a_number_beyond_all_is_refused_in_words(page):
    Ledger(page.folder.review).open_batch("folder", None, "", [])
    large = "9" * 25
    assert "larger than any" in page.get(f"/error-review/applied/{large}.csv", 400)
    for address, form in (("applied/retry", {"batch": large}), ("sample/accept", {"sample": large})):
        assert "Nothing was done: a number is larger" in page.post(f"/error-review/{address}", **form)


def test_the_card_shows_the_reason_what_would_change_and_the_near_picture(page):
    text = page.get("/error-review/card")
    assert "Its neighbours have it." in text and "Of 100 like this about 95 should be right" in text
    assert f"/pictures/{page.hashes[0]}/full" in text and f"/pictures/{page.hashes[1]}/thumbnail" in text
    assert 'class="chip add"' in text and "night" in text


def test_words_of_a_tag_cannot_become_markup(folder, tmp_path):
    root = tmp_path / "library"
    (hash,) = draw_library(root, [["x"]])
    save_dataset(folder, {hash: ["x", "<script>alert(1)</script>"]})
    save_mistagged(folder, missing(hash, '"><img src=x onerror=alert(2)>', why="<b>bold</b>"))
    client = page_on(folder, root).test_client()
    for address in (
        "/error-review/card",
        "/error-review/findings",
        "/error-review/findings?view=grid",
        "/error-review",
    ):
        text = client.get(address, follow_redirects=True).text
        assert "<script>alert" not in text and "<img src=x" not in text and "<b>bold" not in text


def test_an_export_holds_every_suggestion_of_the_view(page):
    lines = page.client.get("/error-review/export.csv?type=tags").text.splitlines()
    assert len(lines) == 4 and lines[0].startswith("finding,issue,state,hash")
    rows = json.loads(page.client.get("/error-review/export.json?min=0.9&type=tags").text)
    assert [(row["tag"], row["action"]) for row in rows] == [("series:elves", "add"), ("long hair", "add")] or len(
        rows
    ) == 2


def test_the_difference_a_batch_and_the_tags_standing_are_exported_too(page):
    tags = page.client.get("/error-review/tags.csv").text.splitlines()
    assert tags[0].startswith("tag,open,expected") and {line.split(",")[0] for line in tags[1:]} == {
        "series:elves",
        "long hair",
        "1girl",
    }
    accept_all_tags(page)
    expected = [
        ("1girl", "remove", "current", "absent"),
        ("long hair", "add", "absent", "current"),
        ("series:elves", "add", "absent", "current"),
    ]
    shown = page.client.get("/error-review/apply.json").json
    assert sorted((row["tag"], row["action"], row["before"], row["after"]) for row in shown) == expected
    assert {row["service"] for row in shown} == {"sidecar files"}
    page.press(page.get("/error-review/apply"), "Write 3 changes")
    written = page.client.get("/error-review/applied/1.json").json
    assert sorted((row["tag"], row["action"], row["before"], row["after"]) for row in written) == expected
    assert {row["status"] for row in written} == {"applied"}
    assert len(page.client.get("/error-review/applied/1.csv").text.splitlines()) == 4
    page.get("/error-review/applied/2.csv", 404)
    page.get("/error-review/export.pdf", 404)


def test_what_its_owner_took_back_in_the_library_is_ignored_and_its_batch_says_so(page):
    accept_all_tags(page)
    page.press(page.get("/error-review/apply"), "Write 3 changes")
    tags = {info.hash: list(info.tags) for info in FolderLibrary(page.root).files(page.hashes)}
    taken = next(names for names in tags.values() if "long hair" in names)
    taken.remove("long hair")
    rows = [{"hash": hash, "existing_all_tags": names} for hash, names in tags.items()]
    data_folder.save(page.folder, DATASET, {"tags_read": "2099-01-01T00:00:00Z", "summary": {}, "results": rows})
    assert "taken back in the library" in page.get("/error-review/card?state=ignored&tag=long hair")
    batch = page.get("/error-review/applied/1")
    assert (
        "1 taken back in the library" in batch and "2 applied" in batch and "Undo the whole batch (2 changes)" in batch
    )
    assert batch.count('name="row"') == 2


def test_a_rule_that_takes_nothing_away_says_nothing_of_suggestions(page):
    shown = page.get("/error-review/rules?never=nobody says this")
    assert "No suggestion that waits is against it" in shown and "0 suggestions" not in shown
    made = page.press(shown, "Make this rule")
    assert "From now on: never suggest nobody says this.<" in made and "reopen what it took away" not in made
    assert "No longer: never suggest nobody says this.<" in page.press(made, "Undo")


def test_the_trend_counts_the_reports_of_one_run_together(folder):
    """Two whole runs, the second an hour after the first, and a detector alone the day after."""
    runs = [
        (MISTAGGED, "2026-05-01T10:00:00Z", {"errors_found": 9}),
        (NEAR_DUPLICATES, "2026-05-01T10:04:00Z", {"total_pairs_found": 4}),
        (MISTAGGED, "2026-05-01T11:00:00Z", {"errors_found": 8}),
        (NEAR_DUPLICATES, "2026-05-01T11:04:00Z", {"total_pairs_found": 4}),
        (MISTAGGED, "2026-05-02T10:00:00Z", {"errors_found": 3}),
    ]
    with Review(folder.review) as store, store.writing() as db:
        db.executemany(
            "INSERT INTO runs VALUES (?, ?, ?, ?)",
            [(kind.name, created, created, json.dumps(summary)) for kind, created, summary in runs],
        )
    text = page_on(folder).test_client().get("/error-review").text
    table = text.split("Found and fixed</h2>")[1]
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th>(.*?)</tr>', table)
    numbers = [(label, re.findall(r'class="number">(\d*)<', cells)) for label, cells in rows]
    assert numbers == [
        ("2026-05-01 10:00", ["9", "4"]),
        ("2026-05-01 11:00", ["8", "4"]),
        ("2026-05-02 10:00", ["3", ""]),
    ]


def test_a_card_says_where_what_is_accepted_is_written_to_and_which_copy_is_better(page):
    assert "Written to <strong>sidecar files</strong>" in page.get("/error-review/card")
    card = page.get("/error-review/card?type=pairs")
    assert card.count("better copy</span>") == 1 and "looks like the better copy" in card


def test_a_large_group_of_copies_shows_what_differs_without_a_dataset(folder):
    first, *others = hashes(8)
    save_pairs(folder, *(pair(first, one, 0.97, (), (f"tag {one[-1]}",)) for one in others))
    card = page_on(folder).test_client().get("/error-review/card", follow_redirects=True)
    assert card.status_code == 200 and len(re.findall('<td class="cell">', card.text)) % card.text.count("<figure") == 0


def test_a_library_that_does_not_answer_holds_no_card_up(page, folder, monkeypatch):
    asked, answer = [], threading.Event()

    class Slow(FolderLibrary):
        def services(self):
            asked.append(1)
            answer.wait(20)
            return super().services()

    monkeypatch.setattr(state, "PATIENCE", 0.01)
    page.app = create_app(Settings(folder, lambda: Slow(page.root)))
    page.client = page.app.test_client()
    for _ in range(3):
        assert "Written to" not in page.get("/error-review/card") and asked == [1]
    (asker,) = [one for one in threading.enumerate() if one.name == "target"]
    answer.set()
    asker.join(20)
    assert "Written to <strong>sidecar files" in page.get("/error-review/card") and asked == [1]


def test_what_was_ignored_and_is_surer_now_is_said_on_the_overview_and_on_its_card(page):
    page.press(page.get("/error-review/card?tag=1girl"), "Ignore X")
    assert "is surer now" not in page.get("/error-review")
    save_mistagged(page.folder, wrong(page.hashes[1], "1girl", confidence=0.95))
    text = page.get("/error-review")
    assert "1 finding</a> is surer now than then" in text and page.queues()["ignored"] == 1
    assert "surer now than when you ignored it" in page.get("/error-review/findings?state=ignored")
    card = page.get("/error-review/card?state=ignored&changed=yes")
    assert "It was 70 % when you decided, and is 95 % now." in card
    assert "nothing is left here" in page.press(card, "Ignore X") and page.queues()["ignored"] == 1


def test_a_tag_that_looks_like_a_formula_is_exported_as_text(folder):
    save_mistagged(folder, missing("a" * 64, "=1+1"))
    assert ",'=1+1," in page_on(folder).test_client().get("/error-review/export.csv").text


# --- deciding by forms ------------------------------------------------------------------------------


def test_accepting_a_card_goes_on_to_the_next_finding(page):
    text = page.press(page.get("/error-review/card"), "Accept A")
    assert "Accepted: add series:elves, add long hair." in text or "Accepted: add long hair, add series:elves." in text
    assert "Wrong tags" in text
    assert page.queues() | {"open": 2, "accepted": 1} == page.queues()


def test_a_suggestion_that_is_not_ticked_stays_open_on_the_card(page):
    card = page.get("/error-review/card")
    boxes = re.findall(r'name="key" value="([^"]+)" checked', card)
    text = page.press(card, "Ignore X", key=[boxes[0]])
    assert "Ignored:" in text and text.count(" checked") == 1
    assert page.queues()["open"] == 3 and page.queues()["ignored"] == 1
    views = [page.get(f"/error-review/card?state={state}") for state in ("ignored", "open")]
    headings = [re.search(r'id="heading"[^>]*>([^<]*)<', view)[1].strip() for view in views]
    assert headings == ["Add long hair", "Add series:elves"]


def test_nothing_ticked_decides_nothing(page):
    assert "Nothing is ticked" in page.press(page.get("/error-review/card"), "Accept A", key=[])
    assert page.queues()["accepted"] == 0


def test_one_suggestion_is_decided_by_its_own_button(page):
    page.press(page.get("/error-review/card"), "Accept add")
    with Review(page.folder.review) as store:
        assert len(store.accepted()) == 1


def test_what_is_done_on_a_later_page_of_a_grid_leads_back_to_that_page(page, monkeypatch):
    monkeypatch.setattr("webapp.views.GRID", 1)
    later = re.search(r'id="later" rel="next" href="([^"]*)"', page.get("/error-review/findings?view=grid"))[1]
    shown = re.search(r'name="finding" value="([^"]*)"', page.get(later))[1]
    page.press(page.get("/error-review/card?sort=unsure"), "Flag F")
    text = page.press(page.get(later), "Undo the last decision")
    assert "Undone:" in text and f'name="finding" value="{shown}"' in text
    last = later
    while found := re.search(r'id="later" rel="next" href="([^"]*)"', page.get(last)):
        last = found[1]
    one = re.search(r'name="finding" value="([^"]*)"', page.get(last))[1]
    text = page.press(page.get(last), "Flag the ticked", finding=one)
    assert "Flagged:" in text and "Nothing here" not in text and 'name="finding"' in text


@pytest.mark.parametrize(
    ("button", "queue"),
    [("Accept A", "accepted"), ("Ignore X", "ignored"), ("Skip S", "skipped"), ("Flag F", "flagged")],
)
def test_every_decision_can_be_undone_and_redone_by_a_form(page, button, queue):
    text = page.press(page.get("/error-review/card"), button)
    assert page.queues()[queue] == 1
    text = page.press(text, "Undo")
    assert "Undone:" in text and page.queues() | {"open": 3, queue: 0} == page.queues()
    page.press(text, "Redo")
    assert page.queues()[queue] == 1


def test_what_was_ignored_can_be_reopened_from_its_queue(page):
    page.press(page.get("/error-review/card"), "Ignore X")
    page.press(page.get("/error-review/card?state=ignored"), "Reopen")
    assert page.queues()["open"] == 3


def test_two_tabs_with_the_same_card_cannot_overwrite_each_other(page):
    first, second = page.get("/error-review/card?type=missing_tags"), page.get("/error-review/card?type=missing_tags")
    page.press(first, "Ignore X")
    text = page.press(second, "Accept A")
    assert "Decided elsewhere in the meantime" in text and "is ignored" in text
    assert page.queues()["ignored"] == 1 and page.queues()["accepted"] == 0


def test_a_pairs_tags_are_copied_both_ways_but_for_those_that_belong_to_one_copy(page):
    card = page.get("/error-review/card?type=pairs")
    assert "source:somewhere" in card and "(this copy's own)" in card
    page.press(card, "Both ⇄")
    assert page.queues()["accepted"] == 1
    with Review(page.folder.review) as store:
        assert store.accepted() == []


def test_a_tag_that_was_refused_on_one_copy_is_not_copied_there(folder, tmp_path):
    names = draw_library(tmp_path / "library", [["elf", "hat", "one girl"], ["elf"]])
    first, second = sorted(names)
    tags = {names[0]: ["elf", "hat", "one girl"], names[1]: ["elf"]}
    save_dataset(folder, tags)
    sides = ("in_2", "in_1") if first == names[0] else ("in_1", "in_2")
    only = [("hat", "one girl"), ()] if first == names[0] else [(), ("hat", "one girl")]
    save_pairs(folder, pair(first, second, 0.97, *only) | {"refused_tags": {sides[0]: ["one girl"], sides[1]: []}})
    page = Page(folder, tmp_path / "library", names)
    card = page.get("/error-review/card?type=pairs")
    assert "you said no to it" in card and not re.search(r'value="accepted \d+\.add\.[^"]*one girl', card)
    page.press(card, "Both ⇄")
    with Review(folder.review) as store:
        assert [(key.hash, key.tag) for key in store.accepted()] == [(names[1], "hat")]


def test_where_only_pairs_are_accepted_the_difference_says_that_nothing_is_written_for_them(page):
    with Review(page.folder.review) as store:
        sync(store, page.folder)
        store.decide([ask for ask in queries.asks(store, Filter()) if ask.key.action == PAIR], ACCEPTED)
    said = re.sub(r"\s+", " ", page.get("/error-review/apply"))
    assert "1 pair that you called copies stays accepted: there is nothing to write." in said


def test_one_differing_tag_of_a_pair_is_copied_by_its_own_button_and_undone(page):
    card = page.get("/error-review/card?type=pairs")
    value = re.search(r'name="one" value="(accepted \d+[.]add[.][^"]*source:somewhere)"', card)[1]
    text = page.post(
        "/error-review/decide?type=pairs", finding=re.search(r'name="finding" value="(\w+)"', card)[1], one=value
    )
    assert "to be copied" in text
    with Review(page.folder.review) as store:
        assert [(key.tag, key.action) for key in store.accepted()] == [("source:somewhere", "add")]
    page.press(text, "Undo")
    with Review(page.folder.review) as store:
        assert store.accepted() == []


def test_a_grid_decides_on_what_is_ticked_and_on_all_only_with_the_count_that_was_shown(page):
    grid = page.get("/error-review/findings?view=grid&type=tags")
    first = re.search(r'name="finding" value="(\w+)"', grid)[1]
    assert "Nothing is ticked" in page.press(grid, "Accept the ticked")
    assert "Accepted: " in page.press(grid, "Accept the ticked", finding=[first])
    assert "not in this view any longer" in page.press(grid, "Ignore the ticked", finding=[first])
    assert page.queues()["accepted"] == 1
    assert "Nothing was decided: look again" in page.press(grid, "Accept all", expect="3")
    assert page.queues()["accepted"] == 1
    page.press(page.get("/error-review/findings?view=grid&type=tags"), "Ignore all 1")
    assert page.queues() | {"accepted": 1, "ignored": 1, "open": 1} == page.queues()


def test_a_bulk_decision_on_one_tag_leaves_the_cards_other_tags_open(page):
    page.press(page.get("/error-review/findings?view=grid&tag=series:elves"), "Accept all 1")
    with Review(page.folder.review) as store:
        assert [key.tag for key in store.accepted()] == ["series:elves"]
    assert "long hair" in page.get("/error-review/card?tag=long hair")


@pytest.mark.parametrize("form", [{"finding": "nonsense", "do": "accepted"}, {"do": "accepted"}])
def test_a_form_about_a_finding_that_is_not_there_is_refused(page, form):
    page.post("/error-review/decide", 404, **form)


@pytest.mark.parametrize(
    "form",
    [
        {"do": "burn"},
        {"one": "accepted nonsense"},
        {"do": "accepted", "key": "x.add.aa..t"},
        {"do": "accepted", "key": "0.add." + "b" * 64 + "..t"},
        {"pair": "left"},
    ],
)
def test_a_form_that_cannot_be_meant_changes_nothing(page, form):
    finding = re.search(r'name="finding" value="(\w+)"', page.get("/error-review/card"))[1]
    page.post("/error-review/decide", 400, finding=finding, **form)
    assert page.queues()["open"] == 3


def test_decisions_stay_when_the_server_is_started_anew(page):
    token, card = page.token(), page.get("/error-review/card")
    page.press(card, "Ignore X")
    again = Page(page.folder, page.root, page.hashes)
    again.client._cookies.update(page.client._cookies)
    assert again.queues()["ignored"] == 1
    # An old form still counts.
    assert again.client.post("/error-review/undo", data={"csrf": token}, follow_redirects=True).status_code == 200
    assert again.queues()["ignored"] == 0


def test_a_script_is_told_what_changed_and_gets_the_next_cards(page):
    page.get("/error-review")
    cards = page.client.get("/error-review/cards").json
    assert [sorted(card) for card in cards] == [["html", "id", "pictures", "url"]] * 3
    value = re.search(r'name="key" value="([^"]+)"', cards[1]["html"])[1]
    answer = page.client.post(
        "/error-review/decide",
        data={"csrf": page.token(), "finding": cards[1]["id"], "do": "accepted", "key": html.unescape(value)},
        headers={"Accept": "application/json"},
    ).json
    assert answer["ok"] and answer["left"] == 2 and answer["waiting"] == 1 and not answer["stay"]


# --- applying ---------------------------------------------------------------------------------------


def accept_all_tags(page: Page) -> str:
    page.press(page.get("/error-review/findings?view=grid&type=tags"), "Accept all 3")
    return page.get("/error-review/apply")


def test_nothing_is_written_before_the_difference_was_shown_and_confirmed(page):
    text = accept_all_tags(page)
    assert "3 writes" in text and "Write 3 changes to sidecar files" in text
    assert all(tag in text for tag in ("series:elves", "long hair", "1girl"))
    assert "<td>without it</td><td><strong>with it</strong></td>" in text  # a sidecar knows no "current"
    assert sidecar(page.root, 0) == TAGS[0] and sidecar(page.root, 1) == TAGS[1]


def test_what_ticks_count_for_is_said_where_the_difference_has_several_pages(page, monkeypatch):
    said = "ticks count on this page alone"
    assert said not in accept_all_tags(page)
    monkeypatch.setattr(applying_views, "ROWS", 2)
    text = page.get("/error-review/apply")
    assert said in text and text.count('name="write"') == 2


def test_an_unticked_row_leaves_out_its_change_wherever_else_it_would_be_written(page):
    data = (page.root / "picture 000.png").read_bytes()
    for name, tags in (("lacks.png", ""), ("has.png", "long hair\n")):
        (page.root / name).write_bytes(data)
        (page.root / f"{name}.txt").write_text(tags)
    text = accept_all_tags(page)
    shown = re.findall(r'name="write" value="([^"]*)"', text)
    twice = next(value for value in shown if shown.count(value) == 2)
    assert twice.endswith("add long hair")
    form = {name: re.search(rf'name="{name}" value="([^"]*)"', text)[1] for name in ("digest", "service")}
    ticked = [value for at, value in enumerate(shown) if at != shown.index(twice)]
    assert "1 change left out" in page.post("/error-review/apply", shown=shown, write=ticked, **form)
    assert sidecar(page.root, 0) == [*TAGS[0], "series:elves"]
    assert (page.root / "lacks.png.txt").read_text() == "series:elves\n"


def test_applying_writes_the_sidecars_and_undoing_the_batch_restores_them(page):
    before = [(path.name, path.read_bytes()) for path in sorted(page.root.glob("*.txt"))]
    text = page.press(accept_all_tags(page), "Write 3 changes")
    assert "3 changes applied" in text
    assert set(sidecar(page.root, 0)) == {*TAGS[0], "series:elves", "long hair"} and sidecar(page.root, 1) == [
        "series:elves"
    ]
    assert page.queues() | {"applied": 2, "accepted": 0} == page.queues()
    text = page.press(page.get("/error-review/applied/1"), "Undo the whole batch (3 changes)")
    assert "3 changes taken back" in text
    assert [(path.name, path.read_bytes()) for path in sorted(page.root.glob("*.txt"))] == before
    assert page.queues() | {"undone": 2, "applied": 0} == page.queues()


def test_what_came_of_an_apply_is_said_once_and_the_detectors_page_is_itself_again(page):
    assert "3 changes applied" in page.press(accept_all_tags(page), "Write 3 changes")
    text = page.get("/error-review/run")
    assert "Run the detectors" in text and "changes applied" not in text


def test_while_changes_are_written_every_tab_says_so_and_is_told_how_it_ended(page, monkeypatch):
    monkeypatch.setattr(applying_views, "MOMENT", 0)
    going, write = threading.Event(), FolderLibrary.write
    monkeypatch.setattr(FolderLibrary, "write", lambda *rest: (going.wait(20), write(*rest)))
    shown = accept_all_tags(page)
    page.client.environ_base["HTTP_REFERER"] = "http://localhost/error-review/apply"
    text = page.press(shown, "Write 3 changes")
    assert "<h1>Changes</h1>" in text and "Changes (running)" in text and "Detectors" not in text
    text = page.post("/error-review/applied/recover")
    assert "<h1>Apply</h1>" in text and "Something else is still running" in text
    followed = re.search(r'data-ended="([^"]*)"', page.get("/error-review/run"))[1]
    going.set()
    wait_for(page, "done")
    for address in ("/error-review/run", followed):
        assert "3 changes applied" in page.get(address)
    assert "<h1>Detectors</h1>" in page.get("/error-review/run")


def test_what_is_being_written_is_not_undone_here_meanwhile(page, monkeypatch):
    said, write = [], FolderLibrary.write

    def slowly(self, writes, reason=""):
        with Review(page.folder.review) as store:
            said.append(store.undo())
        write(self, writes, reason)

    shown = accept_all_tags(page)
    monkeypatch.setattr(FolderLibrary, "write", slowly)
    assert "3 changes applied" in page.press(shown, "Write 3 changes")
    assert said[0].applied and not said[0].changed
    assert page.queues() | {"applied": 2, "accepted": 0} == page.queues()


def test_what_was_decided_anew_before_it_was_noted_down_is_not_written_nor_held_for_good(page, monkeypatch):
    def undone(ledger, library, changes, *_, **__):
        raise LibraryUnreachable("away")

    monkeypatch.setattr("tagcheck.writing.apply.apply", undone)
    assert "away" in page.press(accept_all_tags(page), "Write 3 changes")
    with Review(page.folder.review) as store:
        first, *others = store.accepted()
        store.decide([Ask(first)], IGNORED)
        with pytest.raises(ToolError, match="look again"), store.held([first, *others]):
            pass
        assert store.accepted() == others
        with store.writing() as db:  # as a process that is killed leaves them
            db.execute("UPDATE decisions SET outcome = 'waiting' WHERE state = 'accepted'")
        assert store.accepted() == []
        applying_views.catch_up(store)
        assert store.accepted() == others


def test_one_change_of_a_batch_can_be_undone_alone(page):
    page.press(accept_all_tags(page), "Write 3 changes")
    page.press(page.get("/error-review/applied/1"), "Undo remove 1girl")
    assert sorted(sidecar(page.root, 1)) == sorted(TAGS[1]) and "series:elves" in sidecar(page.root, 0)


def test_a_difference_that_changed_since_it_was_shown_is_not_written(page):
    shown = accept_all_tags(page)
    page.press(page.get("/error-review/card?state=accepted&type=incorrect_tags"), "Reopen")
    text = page.press(shown, "Write 3 changes")
    assert "Nothing was written" in text and "every row ticked" in text and "Write 2 changes" in text
    value = re.search(r'name="write" value="([^"]* add long hair)"', shown)[1]
    text = page.press(shown, "Write 3 changes", shown=[value], write=[])
    assert "what you unticked is unticked still" in text and sidecar(page.root, 0) == TAGS[0]
    ticked = re.findall(r'name="write" value="[^"]* (add [^"]*)" data-writes="1"( checked)?', text)
    assert dict(ticked) == {"add long hair": "", "add series:elves": " checked"}


def test_a_change_that_the_library_has_already_is_noted_and_not_written(page):
    path = page.root / "picture 001.png.txt"
    path.write_text("series:elves\n")
    text = accept_all_tags(page)
    assert "1 change needs no write" in text
    page.press(text, "Write 2 changes")
    assert page.queues()["applied"] == 2


def test_what_failed_is_listed_with_its_reason_and_can_be_tried_again(page):
    picture = page.root / "picture 001.png"
    data = picture.read_bytes()
    shown = accept_all_tags(page)
    assert "cannot be written" not in shown
    picture.unlink()
    text = page.get("/error-review/apply")
    if "Write" in text and "1 cannot be written" in text:
        text = page.press(text, "Write 2 changes")
    assert page.queues()["failed"] == 1, text
    picture.write_bytes(data)
    text = page.press(page.get("/error-review/applied/1"), "Try the 1 failed again")
    assert "Write 1 change to" in text
    page.press(text, "Write 1 change")
    assert sidecar(page.root, 1) == ["series:elves"] and page.queues()["failed"] == 0


def test_a_batch_that_a_crash_left_open_is_finished_at_the_next_apply(page):
    key = Key(page.hashes[0], "series:elves", ADD)
    with Review(page.folder.review) as store:
        store.decide([Ask(key)], ACCEPTED)
    Ledger(page.folder.review).open_batch(
        f"folder {page.root.resolve()}", None, "", [TagChange(key.hash, key.tag, key.action)]
    )
    again = Page(page.folder, page.root, page.hashes)
    assert "Finish what is left open" in again.get("/error-review/applied")
    again.press(again.get("/error-review/applied"), "Finish what is left open")
    assert "series:elves" in sidecar(page.root, 0)
    with Review(page.folder.review) as store:
        assert store.decision(key).queue == "applied"


def test_with_the_library_away_the_page_still_reads_and_decides_and_keeps_what_waits(folder, page):
    def away():
        raise LibraryUnreachable("nobody answers at http://localhost:45869: is Hydrus running?")

    client = create_app(Settings(folder, away)).test_client()
    assert "3 findings" in client.get("/error-review").text
    picture = client.get(f"/pictures/{page.hashes[0]}/full")
    assert picture.status_code == 200 and picture.mimetype == "image/svg+xml" and "is Hydrus" in picture.text
    page.press(page.get("/error-review/card"), "Accept A")
    text = html.unescape(client.get("/error-review/apply?by=picture").text)
    assert "nobody answers" in text and "2 accepted changes wait" in text
    assert 'href="/error-review/apply?by=picture">Try again' in text
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', text)[1]
    for where in ("/error-review/apply", "/error-review", "/error-review/applied/undo"):
        headers = {"Referer": f"http://localhost{where}"}
        answer = client.post("/error-review/apply", data={"csrf": token}, headers=headers)
        assert answer.location == where.removesuffix("/applied/undo")  # that address has no page
    assert "Nothing was done: nobody answers" in html.unescape(client.get("/error-review/apply").text)


class OwnProgram(FolderLibrary):
    """A library whose own program can show a page and judge pairs, as Hydrus can."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened, self.related = [], []

    def open_page(self, hashes, name):
        self.opened.append((list(hashes), name))
        return list(hashes)

    def set_relationship(self, pairs, kind):
        self.related.append((list(pairs), kind))
        return list(pairs)[:1]


def test_a_view_is_handed_to_the_librarys_own_program_where_it_has_one(folder, page):
    library = OwnProgram(page.root)
    page.app = create_app(Settings(folder, lambda: library))
    page.client = page.app.test_client()
    text = page.press(page.get("/error-review/findings?type=tags"), "Open the pictures of these 2 findings")
    assert "2 pictures opened in a new page" in text and library.opened[0][0] == page.hashes[:2]
    text = page.press(page.get("/error-review/findings?type=pairs"), "Push these 1 pair as potential duplicates")
    assert "1 pair handed over" in text and library.related == [
        ([tuple(sorted(page.hashes[2:]))], "potential duplicates")
    ]
    page.press(page.get("/error-review/card?type=pairs"), "Open in Hydrus")
    assert library.opened[1][0] == sorted(page.hashes[2:])


def test_a_library_without_a_program_of_its_own_offers_none(page):
    assert "Hydrus" not in page.get("/error-review/findings?type=pairs") + page.get("/error-review/card?type=pairs")
    page.post("/error-review/open", 400)


# --- running the detectors --------------------------------------------------------------------------


def test_the_detectors_run_from_the_page_and_what_failed_is_said(page, monkeypatch):
    monkeypatch.setattr(running, "SCRIPT", "tests/pretend_detectors.py")
    text = page.press(page.get("/error-review/run"), "Run the detectors")
    assert "Running the detectors" in text
    state = wait_for(page, "failed")
    assert state["error"] == "near-duplicates: FAILED (exit code 3): no embeddings"
    assert "no embeddings" in page.get("/error-review/run")
    assert page.queues()["open"] == 2  # what the detector that ran found, and the pair of before


def test_what_was_written_is_in_the_dataset_before_the_detectors_run_again(page, monkeypatch):
    monkeypatch.setattr(running, "SCRIPT", "tests/pretend_detectors.py")
    before = data_folder.load(page.folder.newest(DATASET), DATASET)
    time.sleep(1 - time.time() % 1)  # files and batches tell seconds apart
    page.press(page.get(f"/error-review/card?hash={page.hashes[0]}"), "Accept")
    page.press(page.get("/error-review/apply"), "Write ")
    page.press(page.get("/error-review/run"), "Run them on the tags of before")
    wait_for(page, "failed")
    assert data_folder.load(page.folder.newest(DATASET), DATASET) == before
    page.press(page.get("/error-review/run"), "Run the detectors")
    wait_for(page, "failed", line="1 of 3 detectors ran")
    now = data_folder.load(page.folder.newest(DATASET), DATASET)
    tags = {one["hash"]: one["existing_all_tags"] for one in now["results"]}
    assert tags[page.hashes[0]] == ["1girl", "long hair", "night"] and len(tags) == 4
    assert now["results"][1]["existing_series_tags"] == ["series:elves"]
    assert "stale" not in page.get("/error-review/run")


def test_a_run_can_be_stopped_and_only_one_runs_at_a_time(page, monkeypatch):
    monkeypatch.setattr(running, "SCRIPT", "tests/pretend_detectors.py")
    monkeypatch.setenv("PRETEND_SECONDS", "60")
    page.post("/error-review/run")
    now = wait_for(page, "running", line="looking: 50 %")
    assert (now["done"], now["total"]) == (150, 300)
    assert "Something is still running" in page.post("/error-review/run")
    text = page.press(page.get("/error-review/run"), "Stop")
    assert wait_for(page, "cancelled")["line"].startswith("Stopped.") and "Run the detectors" in text


def wait_for(page: Page, state: str, line: str = "") -> dict:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        now = page.client.get("/error-review/run/status").json
        if now["state"] == state and now["line"].startswith(line):
            return now
        time.sleep(0.02)
    raise AssertionError(now)


# --- pictures ---------------------------------------------------------------------------------------


def test_a_thumbnail_is_small_made_once_and_cached_by_the_browser_for_good(page):
    Image.new("RGB", (2000, 10), "red").save(page.root / "thin.png")
    hash = sha256(page.root / "thin.png")
    answer = page.client.get(f"/pictures/{hash}/thumbnail")
    assert Image.open(io.BytesIO(answer.data)).size == (THUMBNAIL_SIDE, 2)
    assert "immutable" in answer.headers["Cache-Control"] and answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (page.folder.root / "cache" / "thumbnails" / hash[:2] / f"{hash}.webp").exists()
    (page.root / "thin.png").unlink()
    assert page.client.get(f"/pictures/{hash}/thumbnail").data == answer.data
    again = page.client.get(f"/pictures/{hash}/thumbnail", headers={"If-None-Match": f'"{hash}"'})
    assert again.status_code == 304 and not again.data


def test_a_file_goes_out_as_it_is_where_browsers_show_it_and_rendered_where_not(page):
    Image.new("I;16", (40, 30), 40000).save(page.root / "scan.tiff")
    hash = sha256(page.root / "scan.tiff")
    as_is = page.client.get(f"/pictures/{page.hashes[0]}/full")
    assert as_is.mimetype == "image/png" and as_is.data == (page.root / "picture 000.png").read_bytes()
    rendered = page.client.get(f"/pictures/{hash}/full")
    assert rendered.mimetype == "image/webp"
    grey = Image.open(io.BytesIO(rendered.data)).convert("L").getpixel((5, 5))
    assert abs(grey - 40000 / 257) < 4


def test_transparency_survives_in_a_thumbnail(page):
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(page.root / "clear.png")
    hash = sha256(page.root / "clear.png")
    assert (
        Image.open(io.BytesIO(page.client.get(f"/pictures/{hash}/thumbnail").data)).convert("RGBA").getpixel((9, 9))[3]
        == 0
    )


def bomb(pixels: int) -> bytes:
    """A small PNG file of so many pixels, all of them black."""
    side = math.isqrt(pixels)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packer, rows = zlib.compressobj(9), bytes(1 + 3 * side)
    data = b"".join(packer.compress(rows) for _ in range(side // 50)) + packer.flush()
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def test_a_picture_beyond_the_limits_or_in_postscript_is_a_drawn_note_and_opened_by_no_process_of_the_page(
    page, monkeypatch
):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded in the page's own process"))
    (page.root / "huge.png").write_bytes(bomb(248_000_000))
    (page.root / "cat.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    for name, says in (("huge.png", "too large"), ("cat.jpg", "cannot be shown")):
        for place in ("thumbnail", "full"):
            answer = page.client.get(f"/pictures/{sha256(page.root / name)}/{place}")
            assert answer.headers["X-Picture"] == "unavailable" and says in " ".join(
                re.sub("<[^>]*>", " ", answer.text).split()
            )
    (page.root / "fine.png").write_bytes(b"")
    assert page.client.get(f"/pictures/{page.hashes[1]}/thumbnail").mimetype == "image/webp"


@pytest.mark.parametrize(
    "name, package, whole", [("t.heic", "pi_heif", "webp"), ("t.jxl", "imagecodecs", "webp"), ("t.webm", "av", "video")]
)
def test_heic_jpeg_xl_and_videos_are_shown_by_the_limited_decoder(page, monkeypatch, name, package, whole):
    """Of a video the thumbnail alone is drawn: it is shown as it is. Cut off, each is a drawn note."""
    pytest.importorskip(package)
    monkeypatch.setitem(sys.modules, package, None)  # the page's own process does not decode it
    data = (Path(__file__).parents[1] / "data/formats" / name).read_bytes()
    (page.root / name).write_bytes(data)
    (page.root / f"cut {name}").write_bytes(data[: len(data) // 8])
    thumbnail, full = (page.client.get(f"/pictures/{sha256(page.root / name)}/{one}") for one in ("thumbnail", "full"))
    assert thumbnail.mimetype == "image/webp" and Image.open(io.BytesIO(thumbnail.data)).size[0] >= 64
    assert full.data == data if whole == "video" else Image.open(io.BytesIO(full.data)).size == (64, 48)
    cut = page.client.get(f"/pictures/{sha256(page.root / f'cut {name}')}/thumbnail")
    assert cut.headers["X-Picture"] == "unavailable" and "cannot be shown" in cut.text


def test_a_file_that_is_no_picture_or_not_there_is_a_drawn_note(page):
    (page.root / "text.png").write_text("not a picture")
    hash = sha256(page.root / "text.png")
    for address in (f"/pictures/{hash}/full", f"/pictures/{hash}/thumbnail", f"/pictures/{'0' * 64}/full"):
        answer = page.client.get(address)
        assert answer.status_code == 200 and answer.headers["X-Picture"] == "unavailable"
        assert answer.headers["Cache-Control"] == "no-store"
    assert page.client.get("/pictures/..%2f..%2fetc%2fpasswd/full").status_code == 404
    assert page.client.get("/pictures/ABC/full").status_code == 404


def test_a_file_that_could_hold_a_script_is_never_sent_as_it_is(page):
    (page.root / "drawing.png").write_text('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>')
    hash = sha256(page.root / "drawing.png")
    answer = page.client.get(f"/pictures/{hash}/full")
    assert "alert" not in answer.text and "sandbox" in answer.headers["Content-Security-Policy"]


def test_the_thumbnail_cache_keeps_to_its_limit_and_drops_the_longest_unused(tmp_path):
    cache = ThumbnailCache(tmp_path, 100)
    for number, name in enumerate("abc"):
        cache.put(name * 64, bytes(30))
        os.utime(cache.path(name * 64), (number, number))
    cache.get("a" * 64)
    cache.put("d" * 64, bytes(30))
    assert [bool(cache.get(name * 64)) for name in "abcd"] == [True, False, True, True]


# --- who may talk to it -----------------------------------------------------------------------------


def test_every_answer_forbids_foreign_scripts_and_frames(page):
    for address in ("/error-review", "/error-review/card", "/static/page.css", "/nothing"):
        headers = page.client.get(address, follow_redirects=True).headers
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY" and headers["X-Content-Type-Options"] == "nosniff"


def test_no_page_holds_a_script_or_style_of_its_own(page):
    for address in (
        "/error-review",
        "/error-review/card",
        "/error-review/findings",
        "/error-review/findings?view=grid",
        "/error-review/apply",
        "/error-review/help",
        "/error-review/run",
    ):
        text = page.get(address)
        assert not re.search(r"<script(?![^>]*(src=|application/json))", text) and not re.search(
            r"\sstyle=|\son\w+=|<style", text
        )


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.5:5000", "[::2]"])
def test_a_foreign_host_name_is_turned_away(page, host):
    assert page.client.get("/error-review", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_this_machines_names_are_answered(page, host):
    assert page.client.get("/error-review", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:9999"},
    ],
)
def test_a_form_from_another_site_is_turned_away(page, headers):
    token = page.token()
    answer = page.client.post("/error-review/undo", data={"csrf": token}, headers=headers)
    assert answer.status_code == 403
    assert (
        page.client.post("/error-review/undo", data={"csrf": token}, headers={"Origin": "http://localhost"}).status_code
        == 303
    )


@pytest.mark.parametrize("token", [None, "", "0" * 32])
def test_a_form_without_this_browsers_token_is_turned_away(page, token):
    page.token()
    assert page.client.post("/error-review/undo", data={} if token is None else {"csrf": token}).status_code == 403
    assert page.app.test_client().post("/error-review/undo", data={"csrf": ""}).status_code == 403


def test_a_message_of_any_length_is_said_once_on_the_next_page(page):
    """A browser drops a cookie of more than 4 kB."""
    tag = "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))
    finding = re.search(r'name="finding" value="([^"]+)"', page.get("/error-review/card"))[1]
    form = {"csrf": page.token(), "finding": finding, "own": "add", "own_tag": tag}
    answer = page.client.post("/error-review/decide", data=form)
    assert len(answer.headers.get("Set-Cookie", "")) < 4000
    line = f"<p>Accepted: add {tag}"
    assert line in page.get("/error-review") and line not in page.get("/error-review")


@pytest.mark.parametrize(
    "tag, said",
    [
        ("x" * 1001, "A tag has 1,000 characters at most. Nothing was decided."),
        ("1girl", "The picture has what you typed already, so nothing was decided."),
        ("1girl, 1girl,", "The picture has what you typed already, so nothing was decided."),
        (", ,", "Type the tag first."),
        (f"hat, {'x' * 1001}", "A tag has 1,000 characters at most. Nothing was decided."),
        (" ", "Type the tag first."),
    ],
)
def test_an_own_tag_that_changes_nothing_is_told_why(page, tag, said):
    card = page.get("/error-review/card?type=incorrect_tags")
    finding = re.search(r'name="finding" value="([^"]+)"', card)[1]
    form = {"csrf": page.token(), "finding": finding, "own": "add", "own_tag": tag}
    answer = page.client.post("/error-review/decide", data=form)
    assert f"<p>{said}" in page.get(answer.headers["Location"])


@pytest.mark.parametrize(
    "typed, added",
    [
        ("hat, Blue Sky,1girl", {"hat", "blue sky"}),
        ("hat\r\ncoat", {"hat", "coat"}),
        ('"title:oh, hello", hat', {"title:oh, hello", "hat"}),
        ("title:known, as it is", {"title:known, as it is"}),
    ],
)
def test_several_tags_are_typed_with_commas_and_one_that_holds_a_comma_in_quotes(page, typed, added):
    """What the library has as one tag stays one."""
    tags = {hash: ["1girl", "title:known, as it is"] * (hash == page.hashes[-1]) for hash in page.hashes}
    save_dataset(page.folder, tags | {page.hashes[0]: ["1girl"]})
    card = page.get(f"/error-review/card?hash={page.hashes[0]}")
    finding = re.search(r'name="finding" value="([^"]+)"', card)[1]
    page.client.post(
        "/error-review/decide", data={"csrf": page.token(), "finding": finding, "own": "add", "own_tag": typed}
    )
    with Review(page.folder.review) as store:
        assert {key.tag for key in store.accepted()} == added


def test_the_last_of_several_typed_tags_is_completed(page):
    save_dataset(page.folder, {page.hashes[0]: ["hat", "oh, hello"]})
    page.get("/error-review")
    ask = "/error-review/complete"
    assert page.client.get(ask, query_string={"q": "coat, ha", "many": 1}).json == [["coat, hat", 1]]
    assert page.client.get(ask, query_string={"q": "oh, he", "many": 1}).json == [["oh, hello", 1]]
    assert page.client.get(ask, query_string={"q": "coat, ha"}).json == []


def test_of_many_suggestions_a_list_and_a_tile_show_the_surest(page):
    save_mistagged(page.folder, missing(page.hashes[0], *(f"tag {number:02}" for number in range(60))))
    save_pairs(page.folder)
    for view in ("", "?view=grid"):
        text = page.get(f"/error-review/findings{view}")
        assert text.count('class="chip') == 12 and "and 48 more" in text
        assert "tag 11" in text and "tag 12" not in text


def test_a_picture_never_sets_a_cookie_so_that_no_late_one_swallows_a_message(page):
    page.token()
    assert "Set-Cookie" not in page.client.get(f"/pictures/{page.hashes[0]}/thumbnail").headers
    assert "Set-Cookie" not in page.client.get("/static/page.css").headers


def test_every_address_that_changes_something_takes_only_posts(page):
    changing = [rule.rule for rule in page.app.url_map.iter_rules() if "POST" in rule.methods]
    assert len(changing) >= 10
    for rule in page.app.url_map.iter_rules():
        if (
            "POST" in rule.methods
            and "GET" not in rule.methods
            and not any(other.rule == rule.rule and "GET" in other.methods for other in page.app.url_map.iter_rules())
        ):
            assert page.client.get(rule.rule).status_code == 405
        if "POST" in rule.methods:
            assert page.client.post(rule.rule).status_code == 403


def test_a_way_back_leads_nowhere_else(page):
    evil = (
        "http://evil.example/error-review/apply",
        "http://localhost//evil.example",
        "http://localhost/\\evil.example",
        "",
    )
    for came, to in (
        *((one, "/error-review") for one in evil),
        ("http://localhost/error-review/card?at=1", "/error-review/card?at=1"),
    ):
        form = {"csrf": page.token(), "theme": "dark"}
        answer = page.client.post("/error-review/looks", data=form, headers={"Referer": came})
        assert answer.location == to
    assert 'data-theme="dark"' in page.get("/error-review")


def test_the_access_key_is_nowhere_on_the_page(page, monkeypatch):
    monkeypatch.setattr(config, "API_KEY", "feedfacefeedface")
    for address in ("/error-review", "/error-review/card", "/error-review/apply", "/error-review/run"):
        assert "feedface" not in page.get(address)


# --- the program ------------------------------------------------------------------------------------


def test_the_web_app_imports_no_torch():
    code = "import sys; sys.path.insert(0, 'webapp'); import app; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_the_command_names_a_missing_data_folder_and_a_taken_port(script, folder, tmp_path):
    done = script("webapp/app.py", "--data-dir", tmp_path / "none")
    assert done.returncode == 3 and "no data folder" in done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = script(
            "webapp/app.py", "--data-dir", folder.root, "--library", tmp_path, "--port", taken.getsockname()[1]
        )
    assert done.returncode == 1 and "choose another --port" in done.stderr and "Traceback" not in done.stderr


def test_the_command_refuses_a_store_that_is_none(script, folder, tmp_path):
    folder.review.write_bytes(b"no database" * 100)
    done = script("webapp/app.py", "--data-dir", folder.root, "--library", tmp_path, "--port", 0)
    assert done.returncode == 4 and "review.sqlite3" in done.stderr


def test_a_tag_is_muted_and_asked_about_again_and_no_other_is_touched(page):
    before = page.queues()
    text = page.press(page.get("/error-review"), "Mute series:elves")
    assert "series:elves is muted" in text and "Muted tags" in text
    with Review(page.folder.review) as store:
        assert store.muted() == ["series:elves"] and store.accepted() == []
        states = dict(store.db.execute("SELECT tag, state FROM suggestions WHERE action != 'pair'").fetchall())
        assert states["series:elves"] == "gone" and states["long hair"] == "open" and states["1girl"] == "open"
    assert page.queues()["ignored"] == 0
    page.press(text, "Unmute series:elves")
    assert page.queues() == before


def test_a_muted_tag_of_a_newer_report_stays_muted(page):
    with Review(page.folder.review) as store:
        store.mute("series:elves")
    save_mistagged(page.folder, missing(page.hashes[1], "series:elves", "hat"))
    page.get("/error-review")
    with Review(page.folder.review) as store:
        found = dict(store.db.execute("SELECT tag, state FROM suggestions WHERE current AND action = 'add'").fetchall())
    assert found == {"series:elves": "gone", "hat": "open"}


def test_what_decisions_did_to_a_run_is_shown(page):
    said = "by your decisions the suggestions of 0.5 or more went from 370 to 368, those of 0.9 or more from 188 to 187"
    path = save_mistagged(page.folder, missing(page.hashes[0], "hat"))
    document = json.loads(path.read_text())
    document["summary"]["notes"] = ["300 tags are used fewer than 8 times", said]
    path.write_text(json.dumps(document))
    text = page.get("/error-review")
    assert said in text and "fewer than 8 times" not in text
