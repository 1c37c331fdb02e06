"""What the owner is asked, and what a key answers, in a real browser: each picture once, with the number that belongs to the tag."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from browser_site import Site, browser, ready, settle, tabs, window
from review_data import draw_library, missing, pair, save_dataset, save_mistagged, save_pairs, save_series, wrong

from tagcheck.data_folder import DataFolder
from tagcheck.detectors import MISTAGGED
from tagcheck.findings import TagFinding, error
from tagcheck.review import Filter, queries
from tagcheck.review.report_import import sync
from tagcheck.review.store import ACCEPTED, IGNORED, PAIR, Ask, Review

COUNT = 50
SURER = (8, 17, 31)  # places of pictures whose surest suggestion is another tag of the same finding
TAGS = [f"tag {letter}" for letter in "abcdefgh"]


def entry(hash: str, issue: str, *rows: tuple[str, str, float]) -> dict:
    """A report entry of (kind, tag, confidence)."""
    evidence = {"neighbours": 10, "neighbours_with": 8, "expected": 0.993, "tagger": 0.991}
    return error(hash, issue, [TagFinding(tag, kind, sure, evidence, "8 of 10 have it.") for kind, tag, sure in rows])


@pytest.fixture
def site(folder: DataFolder, tmp_path) -> Iterator[Site]:
    """Fifty pictures of which each lacks `solo`, less and less surely; some lack eight surer tags beside; a swapped series; a
    group of three copies with a wrong tag on one; suggestions that two detectors make with two confidences.
    """
    root = tmp_path / "library"
    tags = [["1girl"] for _ in range(COUNT)]
    tags[0] = ["1girl", "series:old"]
    tags[-3:] = [["1girl", "hat"], ["1girl", "hat", "dog"], ["1girl"]]
    hashes = draw_library(root, tags)
    save_dataset(folder, dict(zip(hashes, tags)), file_path="/pictures/somewhere.png")
    entries = [
        entry(
            hash,
            "missing_tags",
            ("missing", "solo", 0.95 - 0.008 * place),
            *[("missing", "surer", 0.97)] * (place in SURER),
        )
        for place, hash in enumerate(hashes[:-3])
    ]
    entries += [entry(hash, "inconsistent_tags", *(("missing", tag, 0.98) for tag in TAGS)) for hash in hashes[:-3:5]]
    entries += [
        entry(hashes[0], "contradictory_tags", ("incorrect", "series:old", 0.9), ("missing", "series:new", 0.88)),
        missing(hashes[1], "doubtful", confidence=0.3),
        wrong(hashes[-2], "dog", confidence=0.9),
        missing(hashes[-1], "hat", confidence=0.93),
    ]
    save_mistagged(folder, *entries)
    save_pairs(folder, pair(hashes[-3], hashes[-2], 0.99, (), ("dog",)), pair(hashes[-2], hashes[-1], 0.98))
    save_series(folder, incorrect=[{"hash": hashes[0], "series": "series:new", "confidence": 0.6}])
    made = Site(folder, root, hashes)
    yield made
    made.stop()


@pytest.fixture
def tab(window, site):
    return window()


def decided(site: Site) -> dict[tuple[str, str], str]:
    """(action, tag) -> what was decided."""
    with Review(site.folder.review) as store:
        rows = store.db.execute("SELECT action, tag, state FROM decisions WHERE state != 'open'").fetchall()
    return {(row["action"], row["tag"]): row["state"] for row in rows}


def rows(tab) -> list[str]:
    found = tab.locator("article .scroll > .suggestions .line label").all()
    return [re.sub(r"^\d ", "", re.sub(r"\s+", " ", one.inner_text()).strip()) for one in found]


def test_a_session_on_a_tag_shows_the_tags_own_number_in_its_own_order_and_what_is_accepted_is_on_the_screen(tab, site):
    tab.goto(site.address("/error-review/findings?tag=solo"))
    numbers = [float(one.inner_text().removesuffix(" %")) for one in tab.locator(".list .sure").all()]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) == COUNT - 3 and max(numbers) == 95
    tab.goto(site.address("/error-review/card?tag=solo"))
    for number in numbers[:12]:
        ready(tab)
        assert tab.locator("h2 .sure").inner_text() == f"{number:g} %"
        assert rows(tab) == ["add solo"]
        seen = tab.evaluate("""() => {
            const box = document.querySelector(".scroll").getBoundingClientRect();
            const row = document.querySelector(".suggestion:has(input:checked) .line").getBoundingClientRect();
            return row.top >= box.top && row.bottom <= box.bottom;
        }""")
        assert seen
        tab.keyboard.press("a")
    settle(tab)
    assert site.queue("accepted") == 12 and set(decided(site)) == {("add", "solo")}


def test_a_picture_is_one_card_with_each_tag_once_and_a_swap_in_one_row(tab, site):
    with Review(site.folder.review) as store:
        sync(store, site.folder)
        assert queries.counted(store, Filter()).queues()["open"].findings == COUNT - 2
        id = queries.finding_of(store, queries.asks(store, Filter(tag="series:new"))[0].key)
    tab.goto(site.address(f"/error-review/card?at={id}"))
    assert sorted(rows(tab)) == sorted(["series: old → new", "add solo", *[f"add {tag}" for tag in TAGS]])
    line = tab.locator(".suggestion", has_text="old → new")
    assert line.locator(".sure").inner_text() == "88 %"  # the tag detector's, and of two the less sure
    reason = line.locator(".more").get_attribute("title")  # of many rows each stands in one line
    assert "similar pictures 8 of 10" in reason and "JoyTag 99 %" in reason
    in_view = """() => [...document.querySelectorAll(".suggestion .line")].every((row) =>
        row.getBoundingClientRect().bottom <= document.querySelector(".scroll").getBoundingClientRect().bottom)"""
    assert tab.evaluate(in_view)  # ten rows, and what a key accepts is on the screen
    tab.keyboard.press("Enter")
    settle(tab)
    assert {("remove", "series:old"), ("add", "series:new")} <= set(decided(site))


def test_a_decision_is_never_said_to_have_changed_where_no_detector_ran(tab, site):
    tab.goto(site.address("/error-review/card?tag=series:new"))
    tab.keyboard.press("a")
    settle(tab)
    tab.goto(site.address("/error-review/findings?state=accepted"))
    for link in [one.get_attribute("href") for one in tab.locator(".list a").all()]:
        tab.goto(site.address(link))
        assert "when you decided" not in tab.locator("article").inner_text()


def test_nothing_is_answered_that_was_not_on_the_screen(tab, site):
    """Ten rows in a low window: the first presses bring the rows below up, and only then is anything decided."""
    tab.set_viewport_size({"width": 1366, "height": 570})
    tab.goto(site.address(f"/error-review/card?hash={site.hashes[0]}"))
    tab.keyboard.press("a")
    tab.wait_for_selector("#said >> text=Nothing was decided: look, and press again.")
    assert decided(site) == {}
    while not decided(site):
        seen = tab.locator(".suggestions .line[data-seen]").count()
        tab.keyboard.press("a")
        settle(tab)
    assert seen == 10 and len(decided(site)) == 11


def test_a_key_waits_for_the_picture_that_it_is_about(tab, site):
    waiting, late = [], [True]
    tab.route("**/pictures/**", lambda route: waiting.append(route) if late else route.continue_())
    tab.goto(site.address("/error-review/card?tag=solo"), wait_until="commit")
    tab.wait_for_function("() => typeof page !== 'undefined' && page.ahead.length")
    tab.keyboard.press("a")
    tab.wait_for_timeout(300)
    assert tab.evaluate("page.held.length + page.pending") == 1 and site.queue("accepted") == 0
    late.clear()
    for route in waiting:
        route.continue_()
    tab.wait_for_selector("#said >> text=Accepted: add solo")


def test_a_finger_that_goes_to_one_side_turns_the_card(tab, site):
    tab.goto(site.address("/error-review/card?tag=solo"))
    shown = tab.locator("article").get_attribute("data-id")
    for start, end, same in ((300, 120, False), (120, 300, True)):
        ready(tab)
        tab.evaluate(
            """([start, end]) => ["pointerdown", "pointerup"].forEach((kind, place) => document.querySelector(".frame").dispatchEvent(
            new PointerEvent(kind, { pointerType: "touch", pointerId: 7, clientX: place ? end : start, clientY: 200 })))""",
            [start, end],
        )
        tab.wait_for_function(
            f"id => (document.querySelector('article').dataset.id === id) === {str(same).lower()}", arg=shown
        )


def test_one_key_accepts_what_is_ticked_and_ignores_the_rest_and_the_buttons_name_both(tab, site):
    tab.goto(site.address(f"/error-review/card?hash={site.hashes[5]}"))
    assert tab.locator('[data-action="accept"]').inner_text().split() == ["Accept", "A", "9"]
    tab.keyboard.press("1")
    tab.keyboard.press("2")
    settling = tab.locator('[data-action="settle"]').inner_text()
    assert settling.startswith("Accept 7, ignore 2")
    tab.keyboard.press("Enter")
    settle(tab)
    assert sorted(decided(site).values()) == ["accepted"] * 7 + ["ignored"] * 2


def test_what_is_accepted_alone_leaves_the_rest_open_and_says_so(tab, site):
    tab.goto(site.address(f"/error-review/card?hash={site.hashes[5]}"))
    tab.keyboard.press("1")
    tab.keyboard.press("a")
    settle(tab)
    assert "1 addition left open." in tab.locator("#said").inner_text()
    assert list(decided(site).values()) == ["accepted"] * 8 and tab.locator(".suggestion.open").count() == 1


def test_copies_are_one_card_and_what_is_suggested_is_the_first_button(tab, site):
    tab.goto(site.address(f"/error-review/card?hash={site.hashes[-1]}"))
    assert tab.locator("figure").count() == 3
    green = tab.locator(".bar .accept")
    assert green.count() == 1 and green.get_attribute("data-action") == "accept"
    suspected = tab.locator(".difference .suspected").all()
    assert sorted(row.locator("th").inner_text() for row in suspected) == ["dog", "hat"]
    tab.keyboard.press("a")
    settle(tab)
    assert decided(site) == {(PAIR, "near_duplicate"): ACCEPTED, ("remove", "dog"): ACCEPTED, ("add", "hat"): ACCEPTED}


def test_a_large_group_of_copies_is_one_card_that_shows_the_best_and_those_that_disagree(tab, site, folder):
    save_mistagged(folder, missing(site.hashes[29], "hat", confidence=0.9))
    save_dataset(folder, {hash: [] if place == 27 else ["1girl"] for place, hash in enumerate(site.hashes)})
    save_pairs(folder, *(pair(site.hashes[20], other) for other in site.hashes[21:30]))
    save_series(folder)
    tab.goto(site.address(f"/error-review/card?hash={site.hashes[22]}"))
    assert tab.locator("figure").count() == 6 and "4 more copies" in tab.locator("details.folded").inner_text()
    shown = [one.get_attribute("src").split("/")[-2] for one in tab.locator("figure img").all()]
    assert shown[1:3] == [site.hashes[29], site.hashes[27]]
    assert rows(tab) == ["these are copies of one picture", "add hat on B"]
    tab.keyboard.press("a")
    settle(tab)
    assert site.queue("open") == 0 and site.queue("accepted") == 10


def test_copying_both_ways_answers_no_removal(tab, site, folder):
    save_pairs(folder, pair(site.hashes[-3], site.hashes[-2], 0.99, (), ("dog",)))
    tab.goto(site.address(f"/error-review/card?hash={site.hashes[-2]}"))
    tab.keyboard.press("b")
    settle(tab)
    said = tab.locator("#said").inner_text()
    assert "1 removal left open." in said and IGNORED not in decided(site).values()


def test_n_ignores_on_every_card(tab, site):
    for view in (f"hash={site.hashes[7]}", "type=pairs"):
        tab.goto(site.address(f"/error-review/card?{view}"))
        ready(tab)
        tab.keyboard.press("n")
        settle(tab)
    assert set(decided(site).values()) == {IGNORED} and (PAIR, "near_duplicate") in decided(site)


def test_the_headline_is_what_was_measured_and_nothing_is_ever_certain(tab, site):
    with Review(site.folder.review) as store:
        sync(store, site.folder)
        asks = [ask for ask in queries.asks(store, Filter(tag="solo")) if 0.9 <= ask.confidence < 0.95]
        store.decide(asks[1:], ACCEPTED)
    tab.goto(site.address("/error-review/findings?tag=solo&sort=unsure"))
    for address in ("", "/findings", "/findings?view=grid", "/card?tag=tag a", "/card?type=pairs", "/export.csv"):
        text = tab.context.request.get(site.address(f"/error-review{address}")).text()
        assert re.search(r"\d %", text) and not re.search(r"100 %|\d\.\d+ ?%", text), address  # one notation everywhere
    tab.goto(site.address(f"/error-review/card?tag=tag a&hash={site.hashes[10]}"))
    assert tab.locator("h2 .sure").inner_text() == "98 %"
    with Review(site.folder.review) as store:
        store.decide(list(queries.asks(store, Filter(tag="tag a"))[:10]), ACCEPTED)
        store.decide(list(queries.asks(store, Filter(tag="tag b"))[:10]), IGNORED)
    tab.goto(site.address(f"/error-review/card?tag=tag c&hash={site.hashes[10]}"))
    assert tab.locator("h2 .sure").inner_text() == "50 % right"
    assert "from 20 of your decisions" in tab.locator(".suggestion").first.inner_text()
    assert "the detectors say 98 %" in tab.locator(".suggestion").first.inner_text()


def test_what_is_below_50_percent_is_not_among_what_waits(tab, site):
    tab.goto(site.address("/error-review/findings?tag=doubtful"))
    assert "Nothing here" in tab.locator(".empty").inner_text()
    tab.goto(site.address("/error-review"))
    assert "below 50 %" not in tab.locator("[aria-labelledby=kinds]").inner_text()
    tab.goto(site.address("/error-review/findings?tag=doubtful&state=unlikely"))
    assert tab.locator(".list .sure").inner_text() == "30 %"
    tab.goto(site.address(f"/error-review/card?hash={site.hashes[1]}"))
    boxes = tab.locator(".suggestions input[type=checkbox]").all()
    assert [box.is_checked() for box in boxes] == [True, False]


def test_an_own_tag_is_completed_added_and_written_in_the_place_of_a_suggested_one(tab, site):
    tab.goto(site.address(f"/error-review/card?tag=solo&hash={site.hashes[2]}"))
    tab.keyboard.press("t")
    tab.keyboard.type("ha")
    tab.wait_for_function("() => document.querySelector('#own-tags option')?.value === 'hat'")
    assert tab.locator("#own-tags option").first.get_attribute("label") == "hat (2)"
    tab.keyboard.type("t")
    tab.keyboard.press("Enter")
    settle(tab)
    assert decided(site) == {("add", "hat"): ACCEPTED}
    tab.goto(site.address(f"/error-review/card?tag=solo&hash={site.hashes[3]}"))
    tab.locator("#own-tag").fill("duo")
    tab.locator("[data-own]", has_text="instead").click()
    settle(tab)
    assert decided(site)["add", "duo"] == ACCEPTED and decided(site)["add", "solo"] == IGNORED


def test_lines_that_are_pasted_become_several_tags(tab, site):
    tab.goto(site.address(f"/error-review/card?tag=solo&hash={site.hashes[2]}"))
    ready(tab)
    tab.keyboard.press("t")
    tab.evaluate("""() => {
        const clipboardData = new DataTransfer();
        clipboardData.setData("text", "blue sky\\r\\n hat\\n");
        document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    }""")
    assert tab.locator("#own-tag").input_value() == "blue sky, hat"
    tab.keyboard.press("Enter")
    settle(tab)
    assert decided(site) == {("add", "blue sky"): ACCEPTED, ("add", "hat"): ACCEPTED}


def test_a_rule_says_first_what_it_takes_away_and_can_be_undone(tab, site):
    tab.goto(site.address(f"/error-review/card?tag=solo&hash={site.hashes[2]}"))
    tab.get_by_role("link", name="Never suggest solo …").click()
    assert f"takes away {COUNT - 3} suggestions" in tab.locator("main").inner_text()
    assert decided(site) == {} and not (site.folder.root / "tag_rules.json").exists()
    tab.get_by_role("button", name="Make this rule").click()
    assert site.queue("ignored") == COUNT - 3
    rules = json.loads((site.folder.root / "tag_rules.json").read_text())
    # Those that the program comes with stay.
    assert rules["never_suggest"][-1] == "solo" and len(rules["never_suggest"]) > 1
    tab.get_by_role("button", name="Undo, and reopen what it took away").click()
    assert site.queue("ignored") == 0 and "None yet" in tab.locator("main").inner_text()
    tab.goto(site.address("/error-review/rules?apart=1girl"))
    tab.get_by_label("The other tag").fill("solo")
    tab.get_by_role("button", name="See what that takes away").click()
    assert f"takes away {COUNT - 3} suggestions" in tab.locator("main").inner_text()
    tab.get_by_role("button", name="Make this rule").click()
    assert "solo" in json.loads((site.folder.root / "tag_rules.json").read_text())["excludes"]["1girl"]


def test_the_grid_keeps_its_place_brings_the_next_page_and_is_one_tab_stop(tab, site, monkeypatch):
    monkeypatch.setattr("webapp.views.GRID", 20)
    tab.goto(site.address("/error-review/findings?view=grid&tag=solo"))
    tab.wait_for_function("count => document.querySelectorAll('.tile').length === count", arg=COUNT - 3)
    assert tab.evaluate("[...document.querySelectorAll('.tile input')].filter((one) => one.tabIndex === 0).length") == 1
    tab.keyboard.press("ArrowRight")  # from nowhere into the grid, at its tab stop
    assert tab.evaluate("document.activeElement === document.querySelector('.tile input')")
    tab.locator(".tile input").nth(30).focus()
    tab.evaluate("() => { window.stayed = true; }")
    tab.keyboard.press(" ")
    tab.keyboard.press("Shift+ArrowRight")
    after = tab.locator(".tile").nth(32).get_attribute("data-hash")
    top = tab.evaluate("scrollY")
    tab.keyboard.press("x")
    tab.wait_for_selector("#said >> text=Ignored: add solo")
    assert tab.evaluate("window.stayed") and abs(tab.evaluate("scrollY") - top) < 200
    assert tab.evaluate("document.activeElement.closest('.tile').dataset.hash") == after
    assert site.queue("ignored") == 2 and tab.locator(".tile").count() == COUNT - 5
    for key, left in (("u", 0), ("Control+y", 2), ("u", 0)):
        tab.keyboard.press(key)
        tab.wait_for_function("count => document.querySelectorAll('.tile').length === count", arg=COUNT - 3 - left)
        assert (
            tab.evaluate("window.stayed") and abs(tab.evaluate("scrollY") - top) < 200 and site.queue("ignored") == left
        )
    assert tab.locator(".tile").nth(32).get_attribute("data-hash") == after
    for key in (" ", "Shift+ArrowRight", "x"):
        tab.keyboard.press(key)
    tab.keyboard.press("Enter")
    assert tab.locator(".large img").is_visible()
    tab.keyboard.press("Escape")
    tab.keyboard.press(" ")
    tab.keyboard.press("i")
    assert tab.locator("#picked").inner_text().startswith(f"{COUNT - 6} of {COUNT - 5}")


def test_a_wish_about_thousands_of_tiles_arrives(tab, site):
    """Browsers send no more than 64 KiB of what may outlive its page."""
    tab.goto(site.address("/error-review/findings?view=grid&tag=solo"))
    more = "for (let n = 0; n < 3000; n += 1) many.append(Object.assign(document.createElement('input'), {name: 'finding', value: String(n).padStart(16, '0')}))"
    tab.evaluate(f"() => {{ {more} }}")
    tab.locator(".tile input").first.check()
    tab.keyboard.press("x")
    tab.wait_for_selector("#said >> text=Ignored: add solo", timeout=5000)
    assert site.queue("ignored") == 1


def test_a_sample_makes_a_promise_before_the_others_are_accepted(tab, site):
    tab.goto(site.address("/error-review/findings?tag=solo"))
    tab.get_by_role("button", name=f"Try 20 of {COUNT - 3}").click()
    for number in range(20):
        ready(tab)
        tab.keyboard.press("a" if number else "x")
    tab.wait_for_selector("text=19 of 20 were right. With 95 % certainty at least 78 %")
    assert site.queue("accepted") == 19
    tab.get_by_role("button", name=f"Accept the other {COUNT - 23}").click()
    assert "after a sample of 20, 19 of them right" in tab.locator("#said").inner_text()
    assert (site.queue("accepted"), site.queue("ignored")) == (COUNT - 4, 1)
    tab.goto(site.address("/error-review/apply"))
    tab.get_by_role("button", name=f"Write {COUNT - 4} changes").click()
    tab.wait_for_selector(f"text={COUNT - 4} changes applied")
    tab.goto(site.address("/error-review/applied/1"))
    # The batch keeps the sample.
    assert f"{COUNT - 23} changes of these: Accepted" in tab.locator("p.note").inner_text()


def test_the_overview_starts_with_the_next_session_and_its_end_says_what_was_done(tab, site):
    tab.goto(site.address("/error-review"))
    start = tab.locator(".next a.primary")
    assert start.bounding_box()["y"] < 400 and tab.locator(".next img").count() == 6
    tab.goto(site.address("/error-review/card?tag=series:new"))
    tab.keyboard.press("a")
    tab.wait_for_selector("h1 >> text=Done: nothing is left here")
    assert "This session: 2 suggestions accepted, 0 ignored" in tab.locator("#session-done").inner_text()
    tab.keyboard.press("u")
    tab.wait_for_selector("article")
    tab.keyboard.press("a")
    tab.wait_for_selector("h1 >> text=Done: nothing is left here")
    assert tab.evaluate("document.activeElement.id") == "next-session"
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".tile, article")


def test_a_run_that_answers_cut_by_half_says_so(tab, site):
    runs = [("2026-05-01T10:00:00Z", 370), ("2026-05-01T12:00:00Z", 82)]
    with Review(site.folder.review) as store:
        sync(store, site.folder)
        store.decide(queries.asks(store, Filter(tag="solo"))[:13], IGNORED)
        with store.writing() as db:
            db.execute("DELETE FROM runs")
            db.execute("UPDATE decisions SET decided_at = '2026-05-01T11:00:00Z'")
            for created, found in runs:
                summary = json.dumps({"errors_found": found})
                db.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", (MISTAGGED.name, created, created, summary))
    tab.goto(site.address("/error-review"))
    note = tab.locator("p.note").first.inner_text()
    assert "82 found, after 370 in the run before" in note and "decided 13 in between" in note


def test_a_row_of_the_difference_can_be_left_out_and_what_is_not_in_the_dataset_is_said(tab, site, monkeypatch):
    tab.goto(site.address(f"/error-review/card?hash={site.hashes[5]}"))
    tab.keyboard.press("a")
    settle(tab)
    tab.goto(site.address("/error-review/apply"))
    boxes = tab.locator('.changes input[name="write"]')
    assert boxes.count() == 9 and "current" not in tab.locator("main").inner_text()
    boxes.first.uncheck()
    tab.get_by_role("link", name="picture", exact=True).click()
    tab.wait_for_selector('.changes input[name="write"]:not(:checked)')
    monkeypatch.setattr("webapp.applying_views.ROWS", 3)
    tab.get_by_role("link", name="tag", exact=True).click()
    tab.get_by_role("link", name="Later (6 more)").click()
    tab.get_by_role("link", name="Later (3 more)").wait_for()
    with Review(site.folder.review) as store:  # in another tab
        store.decide([Ask(store.accepted()[-1])], IGNORED)
        tab.get_by_role("button", name="Write 8 of 9 changes").click()
        tab.wait_for_selector("#said >> text=what you unticked is unticked still")
        store.undo()
    tab.reload()
    tab.get_by_role("button", name="Write 8 of 9 changes").click()
    tab.wait_for_selector("#said >> text=8 changes applied")  # at once, or by way of the page that follows the job
    assert site.queue("accepted") == 1 and "1 change left out" in tab.locator("#said").inner_text()
    tab.goto(site.address("/error-review/run"))
    assert "8 changes that you wrote" in tab.locator("#stale").inner_text()


def test_a_long_reason_takes_two_lines_of_a_card_until_its_row_is_opened(tab, site):
    with Review(site.folder.review) as store:
        sync(store, site.folder)
        ask, *_ = queries.asks(store, Filter(hash=site.hashes[5]))
        store.decide([ask], ACCEPTED)
        store.note_outcomes([(ask.key, "undone", "it is deleted now, and was absent before " * 10, 1)])
    tab.goto(site.address(f"/error-review/card?state=undone&hash={site.hashes[5]}"))
    note = tab.locator(".suggestion .note")
    folded = note.bounding_box()["height"]
    tab.locator(".suggestion:has(> .note) .more > summary").first.click()
    assert note.bounding_box()["height"] > 2 * folded


def test_a_burst_of_keys_loses_none_and_decides_nothing_that_was_not_shown(tab, site):
    tab.goto(site.address("/error-review/card?tag=solo"))
    tab.evaluate("""() => {
        window.seen = [document.querySelector("article").dataset.id];
        new MutationObserver(() => seen.push(document.querySelector("article").dataset.id)).observe(
            document.getElementById("card"), { childList: true });
    }""")
    for _ in range(30):
        tab.keyboard.press("a")
    tab.wait_for_function("() => page.pending === 0 && !page.held.length && !page.moving", timeout=60_000)
    assert site.queue("accepted") == 30
    assert len(set(tab.evaluate("window.seen"))) >= 31


def test_messages_cover_nothing_and_focus_goes_to_the_new_card(tab, site):
    tab.goto(site.address("/error-review/card?tag=solo"))
    ready(tab)
    tab.keyboard.press("a")
    settle(tab)
    said, card = (tab.locator(one).bounding_box() for one in ("#said", "article"))
    tab.evaluate("say('a message of many words '.repeat(40))")
    assert tab.locator("article").bounding_box() == card  # however long it is, the card stays where it was
    tab.evaluate("say('Accepted: add solo')")
    assert said["y"] + said["height"] <= card["y"] and "Accepted: add solo" in tab.locator("#said").inner_text()
    assert tab.evaluate("document.activeElement.id") == "heading"
    assert "Add solo" in tab.locator("#asked").inner_text()
    shown = tab.locator("article").get_attribute("data-id")
    tab.get_by_role("button", name="Hide pictures").click()
    tab.wait_for_selector("html.hide-pictures article")
    assert tab.locator("article").get_attribute("data-id") == shown


def test_what_was_decided_is_said_of_its_own_card_and_no_longer_than_beside_the_next_one(tab, site):
    said = tab.locator("#said")
    tab.goto(site.address("/error-review/card?tag=solo"))
    ready(tab)
    tab.keyboard.press("a")
    tab.wait_for_selector("#said >> text=Previous card: Accepted: add solo.")
    settle(tab)
    tab.keyboard.press("ArrowRight")
    settle(tab)
    assert said.inner_text() == ""
    ready(tab)
    tab.keyboard.press("n")
    tab.wait_for_selector("#said >> text=Previous card: Ignored: add solo.")
    settle(tab)
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_function("() => document.getElementById('said').innerText === ''")
    tab.keyboard.press("Backspace")
    tab.wait_for_selector("#said >> text=Undone: Ignored: add solo.")
    settle(tab)
    tab.keyboard.press("ArrowRight")
    settle(tab)
    assert said.inner_text() == ""
    tab.evaluate("say('Side by side.')")
    tab.keyboard.press("ArrowRight")
    settle(tab)
    assert said.inner_text() == ""


FAINT = """() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => colour.map((one) => one / 255).map((one) => (one <= .03928 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4))
        .reduce((sum, one, place) => sum + one * [.2126, .7152, .0722][place], 0);
    const ground = (one) => {
        for (; one; one = one.parentElement) {
            const colour = numbers(getComputedStyle(one).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour.slice(0, 3);
        }
    };
    const faint = (one) => {
        let seen = 1;
        for (let above = one; above; above = above.parentElement) seen *= Number(getComputedStyle(above).opacity);
        const under = ground(one);
        const over = numbers(getComputedStyle(one).color).slice(0, 3).map((part, place) => part * seen + under[place] * (1 - seen));
        const [high, low] = [light(over), light(under)].sort((a, b) => b - a);
        return (high + .05) / (low + .05) < 4.5;
    };
    const own = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    return [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility() && own(one) && !one.closest(".unseen, .skip, [aria-hidden], option"))
        .filter(faint).map((one) => one.outerHTML.slice(0, 90));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_its_ground(window, site, scheme):
    tab = window(color_scheme=scheme)
    for place in ("card?tag=solo", "card?type=pairs", "findings?view=grid", "findings", "help", "apply"):
        tab.goto(site.address(f"/error-review/{place}"))
        assert tab.evaluate(FAINT) == [], place


def test_a_decision_that_the_server_refuses_is_shown_again_with_the_reason(tab, site):
    tab.goto(site.address("/error-review/card?tag=solo"))
    ready(tab)
    shown = tab.locator("article").get_attribute("data-id")
    refused = {
        "status": 500,
        "content_type": "application/json",
        "body": '{"message": "The disk is full.", "ok": false}',
    }
    tab.route("**/decide*", lambda route: route.fulfill(**refused))
    tab.keyboard.press("a")
    tab.wait_for_function(f"() => document.querySelector('article')?.dataset.id === '{shown}'")
    tab.wait_for_selector("#said >> text=The disk is full.")
    tab.problems.clear()  # the browser's own line about the 500


def test_without_a_script_what_was_decided_is_said_as_of_the_card_before(window, site):
    tab = window(java_script_enabled=False)
    tab.goto(site.address("/error-review/card?tag=solo"))
    tab.locator('button[data-action="accept"]').click()
    assert tab.locator("#said").inner_text().startswith("Previous card: Accepted: add solo.")
    tab.locator('a[data-action="next"]').click()
    assert tab.locator("#said").inner_text() == ""


@pytest.mark.parametrize("size", [(390, 844), (683, 384), (1366, 480)])
def test_on_small_windows_nothing_is_fixed_and_the_card_starts_at_its_picture(window, site, size):
    tab = window(*size)
    tab.goto(site.address("/error-review/card?tag=solo"))
    ready(tab)
    tab.keyboard.press("a")
    settle(tab)
    place = "getComputedStyle(document.querySelector('.panel .bar')).position"
    assert tab.evaluate(place) == "static"
    assert abs(tab.locator(".stage").bounding_box()["y"]) < 60
    row = tab.locator(".suggestion .line").first.bounding_box()
    assert row["y"] + row["height"] <= size[1]
    touch = "getComputedStyle(document.querySelector('.frame')).touchAction"
    assert "pan-y" in tab.evaluate(touch)  # one finger scrolls
    if size[0] < 480:
        tab.goto(site.address("/error-review/findings?view=grid&tag=solo"))
        tab.keyboard.press("/")  # its fields are folded there
        assert tab.evaluate("document.activeElement.id") == "filter-tag"
        assert tab.locator("#many .bar").bounding_box()["height"] < 125  # two rows
    small = tab.evaluate("""() => [...document.querySelectorAll("button:not(.unseen), a.button, input, summary")].filter((one) => {
        const box = one.getBoundingClientRect();
        return box.width && one.type !== "hidden" && (box.width < 24 || box.height < 24);
    }).map((one) => one.outerHTML.slice(0, 80))""")
    assert small == []


def test_the_card_knows_where_its_picture_is_and_the_worse_copies_are_a_list(tab, site):
    tab.goto(site.address(f"/error-review/card?hash={site.hashes[-1]}"))
    assert "/pictures/somewhere.png" in tab.locator(".where-is").first.inner_text()
    assert tab.locator("[data-copy]").first.is_visible()
    lines = tab.context.request.get(site.address("/error-review/worse-copies.csv")).text().splitlines()
    assert lines[0] == "path,hash,best_path,best_hash,why" and len(lines) == 3
