"""The review store: reports come in whole, decisions outlive them, and nothing decided is ever lost."""

from __future__ import annotations

import itertools
import json
import random
import re
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from review_data import hashes, missing, pair, save_dataset, save_mistagged, save_pairs, save_series, wrong

from tagcheck import data_folder, packed
from tagcheck.changes import TagChange
from tagcheck.data_folder import DATASET, DataFolder, records
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION
from tagcheck.errors import BadFile
from tagcheck.library import NoWrite, TagWrite
from tagcheck.review import counts as counts_store
from tagcheck.review import grouping, queries, report_import
from tagcheck.review.numbers import word_of
from tagcheck.review.queries import Count, Filter
from tagcheck.review.report_import import sync
from tagcheck.review.store import (
    ACCEPTED,
    ADD,
    IGNORED,
    OPEN,
    PAIR,
    QUEUES,
    REMOVE,
    SKIPPED,
    UNDONE,
    Ask,
    Key,
    Review,
    answers,
    decisions,
    pair_decisions,
)
from tagcheck.writing.ledger import Ledger

A, B, C, D = hashes(4)


@pytest.fixture
def review(folder: DataFolder):
    with Review(folder.review) as store:
        yield store


def open_tags(review: Review, **filters) -> list[str]:
    """The tags of all findings of a view, in its order."""
    return [
        one.key.tag
        for finding in queries.page(review, Filter(**filters), limit=1000)
        for one in finding.suggestions
        if one.in_view
    ]


def count(review: Review, view: Filter) -> Count:
    return queries.counted(review, view).of(view.state)


def add(hash: str, tag: str) -> Ask:
    return Ask(Key(hash, tag, ADD))


# --- reading reports --------------------------------------------------------------------------------


def test_findings_come_surest_first_and_pairs_whose_tags_differ_before_pairs_that_agree(review, folder):
    first, second, third, fourth = hashes(8)[4:]
    save_mistagged(folder, missing(A, "x", confidence=0.6), wrong(B, "y", confidence=0.9))
    save_pairs(folder, pair(C, D, 0.99, (), ()), pair(first, second, 0.96, only_in_1=("z",)), pair(third, fourth, 0.97))
    sync(review, folder)
    found = queries.page(review, Filter())
    assert [(one.issue, one.confidence) for one in found] == [
        ("incorrect_tags", 0.9),
        ("missing_tags", 0.6),
        ("near_duplicate", 0.96),
        ("near_duplicate", 0.99),
        ("near_duplicate", 0.97),
    ]


def test_a_finding_is_a_picture_with_all_that_is_said_of_it_or_a_group_of_copies(review, folder):
    save_mistagged(
        folder, missing(A, "x", confidence=0.6), wrong(A, "y", confidence=0.9), missing(C, "z", confidence=0.7)
    )
    save_pairs(folder, pair(B, C, 0.99), pair(C, D, 0.98))
    save_series(folder, incorrect=[{"hash": A, "series": "series:x", "confidence": 0.8}])
    sync(review, folder)
    picture, group = sorted(queries.page(review, Filter()), key=lambda one: len(one.members))
    assert picture.members == (A,) and [one.key.tag for one in picture.suggestions] == ["y", "series:x", "x"]
    assert group.members == (B, C, D) and sum(one.key.action == PAIR for one in group.suggestions) == 2
    assert count(review, Filter()).findings == 2


def test_what_several_detectors_say_stands_once_with_the_tag_detectors_confidence(review, folder):
    said = {"hash": A, "series": "series:x", "confidence": 0.95}
    save_mistagged(folder, missing(A, "series:x", confidence=0.65))
    save_series(folder, incorrect=[said, {**said, "hash": B}])
    sync(review, folder)
    found = {one.key.hash: one for finding in queries.page(review, Filter()) for one in finding.suggestions}
    assert [found[hash].confidence for hash in (A, B)] == [0.65, 0.95]
    assert set(found[A].issues) == {"missing_tags", "missing_series"} and found[A].issue == "missing_series"


def test_a_group_too_large_for_a_card_and_pairs_called_different_stand_alone(review, folder, monkeypatch):
    chain = [pair(one, other) for one, other in itertools.pairwise(hashes(8))]
    for largest, most, sizes in ((1000, 5000, [8]), (7, 5000, [2] * 7), (1000, 6, [2] * 7)):
        monkeypatch.setattr(grouping, "LARGEST", largest)
        monkeypatch.setattr(grouping, "MOST_PAIRS", most)
        save_pairs(folder, *chain)
        sync(review, folder)
        assert [len(one.members) for one in queries.page(review, Filter())] == sizes
    save_pairs(folder, pair(A, B), pair(B, C))
    sync(review, folder)
    assert [len(one.members) for one in queries.page(review, Filter())] == [3]
    review.decide([ask for ask in queries.asks(review, Filter()) if ask.key.hash == A], IGNORED)
    save_pairs(folder, pair(A, B), pair(B, C, 0.97))
    sync(review, folder)
    assert [one.members for one in queries.page(review, Filter())] == [(B, C)]


def test_what_is_rather_wrong_than_right_waits_in_a_folder_of_its_own(review, folder):
    save_mistagged(folder, missing(A, "likely", confidence=0.5), missing(A, "unlikely", confidence=0.49))
    sync(review, folder)
    assert [ask.key.tag for ask in queries.asks(review, Filter())] == ["likely"]
    (ask,) = queries.asks(review, Filter(state="unlikely"))
    assert ask.key.tag == "unlikely"
    review.decide([ask], ACCEPTED)
    review.undo()
    assert [one.key.tag for one in queries.asks(review, Filter(state="unlikely"))] == ["unlikely"]


def test_a_view_of_one_tag_is_in_the_tags_own_order_and_shows_its_confidence(review, folder):
    save_mistagged(
        folder,
        missing(A, "x", confidence=0.6),
        missing(A, "surer", confidence=0.99),
        missing(B, "x", confidence=0.9),
        missing(C, "x", confidence=0.7),
    )
    sync(review, folder)
    view = Filter(tag="x")
    assert [(one.hash, one.sureness) for one in queries.page(review, view)] == [(B, 0.9), (C, 0.7), (A, 0.6)]
    walked = [queries.page(review, view, limit=1)[0].id]
    while following := queries.step(review, view, walked[-1]):
        walked.append(following)
    assert walked == [one.id for one in queries.page(review, view)]


def test_reading_the_same_reports_again_changes_nothing(review, folder):
    save_mistagged(folder, missing(A, "x"))
    sync(review, folder)
    before, revision = list(map(tuple, review.db.execute("SELECT * FROM suggestions"))), review.revision()
    sync(review, folder)
    assert review.revision() == revision
    assert list(map(tuple, review.db.execute("SELECT * FROM suggestions"))) == before


def test_a_suggestion_that_a_new_report_no_longer_makes_is_not_open(review, folder):
    save_mistagged(folder, missing(A, "x"), missing(B, "y"))
    sync(review, folder)
    save_mistagged(folder, missing(B, "y"))
    sync(review, folder)
    assert open_tags(review) == ["y"]


def test_a_report_without_findings_empties_the_list_and_one_that_vanished_does_too(review, folder):
    path = save_mistagged(folder, missing(A, "x"))
    sync(review, folder)
    path.unlink()
    sync(review, folder)
    assert open_tags(review) == [] and queries.overview(review).sources == {}


def test_a_damaged_record_costs_itself_only_and_is_named(review, folder):
    path = save_mistagged(folder, missing(A, "x"), missing(B, "y"))
    save_pairs(folder, pair(C, D))
    path.write_text(path.read_text().replace('"tag": "y"', '"tag": y'))
    problems = sync(review, folder)
    assert path.name in problems["mistagged_images_report"] and "damaged in line" in problems["mistagged_images_report"]
    assert [one.issue for one in queries.page(review, Filter())] == ["missing_tags", "near_duplicate"]
    assert sync(review, folder) == problems  # and it is said again, not only once


@pytest.mark.parametrize(("cut", "says"), [(0.6, "cut off|damaged"), (0.98, "cut off|damaged")])
def test_a_report_that_ends_early_is_refused_whole(folder, review, cut, says):
    path = save_mistagged(folder, missing(A, "x"), missing(B, "y"))
    text = path.read_text()
    path.write_text(text[: int(len(text) * cut)])
    assert sync(review, folder) and open_tags(review) == []
    with pytest.raises(BadFile, match=says):
        list(records(path, MISTAGGED, {}))


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_records_are_the_same_from_any_layout_of_the_same_json(folder, indent):
    path = save_mistagged(folder, missing(A, "x"), wrong(B, "y"))
    streamed, whole = {}, {}
    by_line = list(records(path, MISTAGGED, streamed))
    path.write_text(json.dumps(json.loads(path.read_text()), indent=indent))
    assert list(records(path, MISTAGGED, whole)) == by_line
    assert streamed == whole and streamed["summary"]["errors_found"] == 2
    assert [record for _, record in by_line] == data_folder.load(path, MISTAGGED)["errors"]


def test_a_newer_version_or_another_kind_is_refused_before_anything_is_read(folder):
    path = save_mistagged(folder, missing(A, "x"))
    text = path.read_text()
    path.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(BadFile, match="version 2"):
        next(records(path, MISTAGGED, {}))
    path.write_text(text.replace("mistagged_images_report", "something_else"))
    with pytest.raises(BadFile, match="something_else"):
        next(records(path, MISTAGGED, {}))


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ("2026-11-23T17:00:00", "2026-11-23T17:00:00Z"),
        ("2026-11-23T17:00:00.25+02:00", "2026-11-23T15:00:00Z"),
        ("2026-11-23", "2026-11-23T00:00:00Z"),
        ("0001-01-01T00:00:00", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+02:00", "2026-11-20T08:00:00Z"),
        ("yesterday", "2026-11-20T08:00:00Z"),
        ("", "2026-11-20T08:00:00Z"),
        (None, "2026-11-20T08:00:00Z"),
    ],
)
def test_a_time_as_another_program_writes_it_is_one_in_utc(said, made):
    assert report_import._created({"created": said}, "x_20261120T080000Z.json") == made


def test_an_entry_that_names_only_tags_is_read_with_a_reason_that_is_never_empty(review, folder):
    save_mistagged(folder, {"hash": A, "issue": "missing_tags", "missing_tags": ["series:x"], "confidence": 0.85})
    sync(review, folder)
    (finding,) = queries.page(review, Filter())
    assert finding.suggestions[0].key == Key(A, "series:x", ADD) and finding.suggestions[0].why
    assert finding.confidence == 0.85


def test_tags_of_another_program_are_read_as_libraries_have_them(review, folder):
    save_dataset(folder, {A: ["Blue  Eyes", " ", "blue eyes"], B: []})
    save_mistagged(folder, wrong(A, "Blue  Eyes"), missing(B, " HAT"))
    data_folder.save(
        folder, SERIES_VALIDATION, {"missing_predictions": [{"hash": B, "series": "Series: X", "confidence": 1}]}
    )
    save_pairs(folder, pair(A, B, 0.98, ("Blue Eyes",)))
    assert not sync(review, folder)
    assert queries.picture(review, A)["existing_all_tags"] == ["blue eyes"]
    assert open_tags(review, tag="blue eyes") == ["blue eyes"] and open_tags(review, tag="hat") == ["hat"]
    assert open_tags(review, issues=("incorrect_series",)) == ["series:x"]
    (row,) = [one for one in queries.suggestions(review, Filter()) if one["action"] == PAIR]
    assert json.loads(row["evidence"])["only_in_1"] == ["blue eyes"]


@pytest.mark.parametrize(
    "entry",
    [
        {"hash": "abc", "issue": "missing_tags", "missing_tags": ["x"], "confidence": 1},
        {"hash": A, "issue": "nonsense", "missing_tags": ["x"], "confidence": 1},
        {"hash": A, "issue": "missing_tags", "confidence": 1},
        {"hash": A, "issue": "missing_tags", "missing_tags": ["x"], "confidence": "high"},
        {"hash": A, "issue": ["missing_tags"], "missing_tags": ["x"], "confidence": 1},
        {"hash": A, "issue": "missing_tags", "missing_tags": "x", "confidence": 1},
        {"hash": A, "issue": "missing_tags", "tags": [{"tag": "x", "kind": {}}], "confidence": 1},
        {"hash": A, "issue": "missing_tags", "tags": [{"tag": "x", "kind": "missing", "why": ["y"]}], "confidence": 1},
        {"hash": A, "issue": "missing_tags", "tags": [{"tag": "\ud800", "kind": "missing"}], "confidence": 1},
        {"hash": A, "issue": "missing_tags", "missing_tags": ["x"], "confidence": 1, "id": {"a": 1}},
        {"hash": A, "issue": "missing_tags", "missing_tags": ["x"], "confidence": 1, "other": 2**64},
        None,
    ],
)
def test_an_entry_that_cannot_be_meant_is_named_by_its_place(review, folder, entry):
    data_folder.save(folder, MISTAGGED, {"summary": {}, "errors": [missing(B, "y"), entry]})
    said = sync(review, folder)["mistagged_images_report"]
    assert re.search("1 record cannot be used and is left out: .*(record 2 of 'errors'|line 8)", said)
    assert open_tags(review) == ["y"]


def test_series_predictions_become_additions_and_removals(review, folder):
    """A missing prediction is a tag that the classifier does not see; an incorrect one a series it sees that is no tag."""
    save_series(
        folder,
        missing=[{"hash": B, "series": "series:y", "confidence": 0.7}],
        incorrect=[{"hash": A, "series": "series:x", "confidence": 0.9}],
    )
    sync(review, folder)
    assert [(one.issue, one.suggestions[0].key.action) for one in queries.page(review, Filter())] == [
        ("missing_series", ADD),
        ("incorrect_series", REMOVE),
    ]


def test_a_pairs_suggested_copies_stand_under_the_pair_with_the_best_copy(review, folder):
    copy = {
        "hash": B,
        "tag": "x",
        "kind": "missing",
        "confidence": 0.8,
        "why": "The other copy has it.",
        "evidence": {"other_copy": A},
    }
    data_folder.save(
        folder,
        NEAR_DUPLICATES,
        {
            "summary": {},
            "similar_pairs": [pair(A, B, only_in_1=("x",)) | {"suggestions": [copy]}],
            "groups": [[A, B]],
            "group_details": [{"hashes": [A, B], "best_copy": B, "reasons": ["more pixels (9 x 9)"]}],
        },
    )
    sync(review, folder)
    (finding,) = queries.page(review, Filter())
    assert [one.key for one in finding.suggestions] == [Key(A, "near_duplicate", PAIR, B), Key(B, "x", ADD)]
    assert queries.best_of(review, [A, B]) == (B, "more pixels (9 x 9)")
    assert "group_details" not in queries.overview(review).sources["near_duplicates_report"]["header"]


def test_without_the_reports_word_the_page_asks_the_reports_rule(review, folder):
    records = {
        A: {"mime": "image/jpeg", "width": 9, "height": 9, "size": 9},
        B: {"mime": "image/png", "width": 9, "height": 9, "size": 5},
    }
    results = [{"hash": hash, "existing_all_tags": [], **raw} for hash, raw in records.items()]
    data_folder.save(folder, DATASET, {"results": results})
    save_pairs(folder, pair(A, B))
    sync(review, folder)
    assert queries.best_of(review, [A, B]) == (B, "a lossless format (image/png)")


def test_only_pictures_that_a_finding_is_about_are_kept(review, folder):
    save_dataset(folder, {A: ["x"], B: ["y"], C: ["z"]})
    save_pairs(folder, pair(A, B))
    sync(review, folder)
    assert queries.picture(review, A)["existing_all_tags"] == ["x"] and queries.picture(review, B)
    assert queries.picture(review, C) is None
    assert queries.overview(review).sources["dataset"]["records"] == 3


def test_the_trend_remembers_reports_that_were_removed_since(review, folder):
    first = save_mistagged(folder, missing(A, "x"), missing(B, "y"))
    sync(review, folder)
    first.unlink()
    later = data_folder.utc_now() + timedelta(hours=1)
    data_folder.save(folder, MISTAGGED, {"summary": {"errors_found": 1}, "errors": [missing(A, "x")]}, when=later)
    sync(review, folder)
    assert [run["summary"]["errors_found"] for run in queries.overview(review).runs] == [2, 1]


# --- decisions --------------------------------------------------------------------------------------


def test_an_ignored_suggestion_stays_ignored_however_the_next_report_groups_it(review, folder):
    save_mistagged(folder, missing(A, "x", "y"))
    sync(review, folder)
    review.decide([add(A, "x")], IGNORED)
    save_mistagged(folder, missing(A, "x", "z", confidence=0.99), missing(A, "y"))
    sync(review, folder)
    assert sorted(open_tags(review)) == ["y", "z"]
    assert open_tags(review, state=IGNORED) == ["x"]
    (row,) = [one for one in queries.page(review, Filter(state=IGNORED))[0].suggestions if one.in_view]
    assert row.current and row.confidence == 0.99


def test_an_ignored_suggestion_stays_listed_when_no_report_makes_it_any_longer(review, folder):
    save_mistagged(folder, missing(A, "x"))
    sync(review, folder)
    review.decide([add(A, "x")], IGNORED)
    save_mistagged(folder, missing(B, "y"))
    sync(review, folder)
    assert open_tags(review, state=IGNORED) == ["x"]
    review.undo()
    # Undecided again, and nobody suggests it.
    assert open_tags(review, state=IGNORED) == [] and open_tags(review) == ["y"]


def test_what_was_ignored_stays_so_but_says_what_changed_when_it_is_much_surer_now(review, folder):
    """At 0.55 it was ignored; 0.6 is no news, 0.9 is. Another "no" is an answer to that; a yes is one too."""
    grown = Filter(state=IGNORED, changed=True)

    def found(confidence: float, **evidence) -> list:
        save_mistagged(folder, missing("a" * 64, "night", confidence=confidence, near_with=["b" * 64], **evidence))
        sync(review, folder)
        assert count(review, Filter()).findings == 0  # it never comes back by itself
        return queries.page(review, grown)

    save_mistagged(
        folder, missing("a" * 64, "night", confidence=0.55, tagger=0.31, neighbours_with=2, near_with=["c" * 64])
    )
    sync(review, folder)
    review.decide(queries.asks(review, Filter()), IGNORED)
    assert found(0.6, tagger=0.35, neighbours_with=2) == [] and found(0.1, tagger=0.1, neighbours_with=0) == []
    (one,) = found(0.9, tagger=0.92, neighbours_with=7)
    assert one.suggestions[0].evidence_then == {"tagger": 0.31, "neighbours_with": 2}
    assert review.decide(queries.asks(review, grown), IGNORED).changed == [one.suggestions[0].key]
    assert queries.page(review, grown) == [] and found(0.95, tagger=0.95, neighbours_with=8) == []
    assert review.decide([Ask(one.suggestions[0].key)], IGNORED).already == [one.suggestions[0].key]
    review.decide([Ask(one.suggestions[0].key)], ACCEPTED)
    assert review.db.execute("SELECT evidence FROM decisions").fetchone()[0] is None


def test_one_decision_settles_the_same_suggestion_of_two_detectors(review, folder):
    save_mistagged(folder, missing(A, "series:x"))
    save_series(folder, incorrect=[{"hash": A, "series": "series:x", "confidence": 0.9}])
    sync(review, folder)
    assert count(review, Filter()) == Count(1, 1)
    review.decide(queries.asks(review, Filter(issues=("missing_series",))), ACCEPTED)
    assert open_tags(review) == [] and review.accepted() == [Key(A, "series:x", ADD)]


def test_skipping_holds_until_the_detectors_run_again(review, folder):
    save_mistagged(folder, missing(A, "x"))
    sync(review, folder)
    review.decide([add(A, "x")], SKIPPED)
    sync(review, folder)
    assert open_tags(review) == []
    save_mistagged(folder, missing(A, "x"))
    sync(review, folder)
    assert open_tags(review) == ["x"]


def test_undo_and_redo_walk_along_the_decisions(review, folder):
    save_mistagged(folder, missing(A, "x"), missing(B, "y"))
    sync(review, folder)
    review.decide([add(A, "x")], ACCEPTED)
    review.decide([add(A, "x"), add(B, "y")], IGNORED)
    assert len(review.undo().changed) == 2 and review.accepted() == [Key(A, "x", ADD)]
    assert review.undo().changed == [Key(A, "x", ADD)] and review.undo() is None
    assert review.redo().changed == [Key(A, "x", ADD)] and len(review.redo().changed) == 2 and review.redo() is None
    assert sorted(open_tags(review, state=IGNORED)) == ["x", "y"]


def test_a_new_decision_ends_what_could_be_redone(review):
    review.decide([add(A, "x")], ACCEPTED)
    review.undo()
    review.decide([add(B, "y")], IGNORED)
    assert review.redo() is None and review.undo().changed == [Key(B, "y", ADD)] and review.undo() is None


def test_accepting_puts_an_accepted_opposite_back_to_open_and_undo_restores_both(review):
    plus, minus = Key(A, "x", ADD), Key(A, "x", REMOVE)
    review.decide([Ask(plus)], ACCEPTED)
    assert review.decide([Ask(minus)], ACCEPTED).displaced == [plus]
    assert review.accepted() == [minus]
    review.undo()
    assert review.accepted() == [plus]


def test_two_tabs_that_decide_differently_do_not_overwrite_each_other(review, folder):
    seen = [Ask(Key(A, "x", ADD), review.decision(Key(A, "x", ADD)).version)]
    with Review(folder.review) as other:
        assert other.decide(seen, IGNORED).changed
    outcome = review.decide(seen, ACCEPTED)
    assert [one.queue for one in outcome.conflicts] == [IGNORED] and not outcome.changed
    assert review.decision(Key(A, "x", ADD)).queue == IGNORED


def test_two_tabs_that_decide_the_same_agree(review):
    seen = [Ask(Key(A, "x", ADD), 0)]
    review.decide(seen, IGNORED)
    outcome = review.decide(seen, IGNORED)
    assert outcome.already and not outcome.conflicts


def test_many_writers_at_once_lose_no_decision(review, folder):
    def decide(number: int) -> None:
        with Review(folder.review) as store:
            for tag in range(20):
                store.decide([add(f"{number:064x}", f"tag {tag}")], ACCEPTED)
                store.mute(f"tag {tag} of {number}")

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(review.accepted()) == len(review.muted()) == 80
    assert review.db.execute("SELECT count(*) FROM events").fetchone()[0] == 80


def test_what_was_applied_is_not_decided_anew_nor_undone_here(review):
    key = Key(A, "x", ADD)
    review.decide([Ask(key)], ACCEPTED)
    review.note_outcomes([(key, "applied", "", 1)])
    assert review.decide([Ask(key)], IGNORED).applied == [key]
    assert review.undo().applied == [key] and review.decision(key).queue == "applied"


def test_a_change_that_failed_can_be_accepted_again(review):
    key = Key(A, "x", ADD)
    review.decide([Ask(key)], ACCEPTED)
    review.note_outcomes([(key, "failed", "the file is gone", 1)])
    assert review.decision(key).reason == "the file is gone" and review.accepted() == []
    review.decide([Ask(key)], ACCEPTED)
    assert review.accepted() == [key]


@pytest.mark.parametrize("outcome", ["failed", "undone"])
def test_undo_brings_back_what_failed_or_was_taken_back_and_not_a_wish_to_write_it(review, outcome):
    plus, minus = Key(A, "x", ADD), Key(A, "x", REMOVE)
    review.decide([Ask(plus)], ACCEPTED)
    review.note_outcomes([(plus, outcome, "", 1)])
    review.decide([Ask(plus)], IGNORED)
    assert review.undo().changed == [plus] and review.decision(plus).queue == outcome
    assert review.redo().changed == [plus] and review.decision(plus).queue == IGNORED
    review.undo()
    assert review.accepted() == [] and review.decide([Ask(minus)], ACCEPTED).displaced == []
    assert review.decision(plus).queue == outcome


def test_a_change_that_waits_for_the_library_is_not_applied_twice(review):
    key = Key(A, "x", ADD)
    review.decide([Ask(key)], ACCEPTED)
    review.note_outcomes([(key, "waiting", "", 1)])
    assert review.accepted() == [] and review.decision(key).queue == ACCEPTED
    assert review.decide([Ask(key)], IGNORED).applied == [key]


def test_outcomes_of_changes_that_nobody_accepted_here_are_left_alone(review):
    assert review.note_outcomes([(Key(A, "x", ADD), "applied", "", 1)]) == 0
    assert review.decision(Key(A, "x", ADD)).queue == OPEN


def test_a_picture_has_the_tags_that_were_written_and_not_those_taken_back_since_the_dataset(review, folder):
    save_dataset(folder, {A: ["y", "z"]})
    save_mistagged(folder, missing(A, "x"), wrong(A, "y"))
    sync(review, folder)
    states = {ADD: ("absent", "current"), REMOVE: ("current", "absent")}
    writes = [
        TagWrite(A, tag, "sidecar", *states[action], TagChange(A, tag, action))
        for tag, action in (("x", ADD), ("y", REMOVE), ("z", ADD))
    ]
    steps = [*writes, NoWrite(TagChange(A, "w", ADD), "has the tag already", settled=True)]
    ledger = Ledger(folder.review)
    batch = ledger.open_batch("folder", None, "", steps)
    assert queries.picture(review, A)["existing_all_tags"] == ["w", "y", "z"]
    first, second, third, _ = ledger.rows(batch)
    ledger.mark([replace(first, status="written"), replace(second, status="applied")])
    ledger.mark([replace(third, status=UNDONE, goal="undo")])
    assert queries.picture(review, A)["existing_all_tags"] == ["w", "x"]
    later = {"results": [{"hash": A, "existing_all_tags": ["v"]}]}
    data_folder.save(folder, DATASET, later, data_folder.utc_now() + timedelta(hours=1))
    sync(review, folder)
    assert queries.picture(review, A)["existing_all_tags"] == ["v"]


# --- what detectors ask -----------------------------------------------------------------------------


def test_detectors_learn_what_was_decided_also_without_a_store(review, folder, tmp_path):
    review.decide([add(A, "x")], IGNORED)
    review.decide([Ask(Key(B, "y", REMOVE))], ACCEPTED)
    review.note_outcomes([(Key(B, "y", REMOVE), "applied", "", 1)])
    review.decide([Ask(Key(A, "near_duplicate", PAIR, B))], IGNORED)
    review.decide([add(C, "z")], IGNORED)
    review.undo()
    assert decisions(folder.review) == {(A, "x", ADD): IGNORED, (B, "y", REMOVE): ACCEPTED}
    assert pair_decisions(folder.review) == {(A, B, "near_duplicate"): IGNORED}
    assert decisions(tmp_path / "none.sqlite3") == {} and pair_decisions(tmp_path / "none.sqlite3") == {}
    assert not (tmp_path / "none.sqlite3").exists()


def test_a_file_that_is_no_store_is_named(folder):
    folder.review.write_bytes(b"this is not a database, it only stands where one should" * 40)
    with pytest.raises(BadFile, match="review.sqlite3"):
        Review(folder.review)
    with pytest.raises(BadFile, match="review.sqlite3"):
        decisions(folder.review)


def test_a_store_of_a_newer_program_is_refused(review, folder):
    review.set_meta("schema", "99")
    with pytest.raises(BadFile, match="schema 99"):
        Review(folder.review)


def test_a_transaction_that_breaks_leaves_no_trace(review):
    with pytest.raises(sqlite3.IntegrityError), review.writing() as db:
        db.execute("INSERT INTO review_meta VALUES ('a', '1')")
        db.execute("INSERT INTO review_meta VALUES ('a', '2')")
    assert review.meta("a") == ""


# --- views ------------------------------------------------------------------------------------------


@pytest.fixture
def filled(review, folder: DataFolder):
    """Forty pictures with one to three missing tags each, and some wrong ones; every confidence twice."""
    names = hashes(40)
    entries = [
        missing(
            hash,
            *[f"series:{number % 3}", f"tag {number % 5}", "night"][: number % 3 + 1],
            confidence=0.5 + number // 2 * 0.02,
        )
        for number, hash in enumerate(names)
    ]
    entries += [wrong(hash, "outdoors", confidence=0.55 + number * 0.01) for number, hash in enumerate(names[::3])]
    save_mistagged(folder, *entries)
    data_folder.save(
        folder,
        DATASET,
        {
            "summary": {},
            "results": [
                {
                    "hash": hash,
                    "existing_all_tags": ["outdoors"],
                    "pages": [["Dataset", "All"]],
                    "time_imported": number * 7 % 13,
                    "existing_series_tags": ["series:elves"] if number % 3 else [],
                }
                for number, hash in enumerate(names)
            ],
        },
    )
    sync(review, folder)
    review.decide(queries.asks(review, Filter(tag="night", least=0.8)), IGNORED)
    return review


VIEWS = [
    Filter(),
    Filter(order="unsure"),
    Filter(order="newest"),
    Filter(tag="night"),
    Filter(namespace="series", least=0.6, most=0.8),
    Filter(issues=("incorrect_tags",)),
    Filter(state=IGNORED),
    Filter(state=""),
    Filter(hash="0" * 62 + "1"),
    Filter(page="Dataset / All", tag="outdoors"),
    Filter(page="elsewhere"),
    Filter(tag="tag 2", or_tag="outdoors"),
    Filter(tag="night", or_tag="tag 2", state="", order="newest"),
    Filter(series="series:elves", tag="outdoors"),
    Filter(series="series:elves", state=""),
    Filter(series="series:none"),
    Filter(state=IGNORED, changed=True),
    Filter(tag="tag 2", state="", order="unsure"),
]


def slowly(review: Review, view: Filter) -> list[str]:
    """The finding ids of a view in its order, by reading everything and asking each row."""
    found = {}
    for row in review.db.execute(
        "SELECT s.*, f.confidence AS surest, p.imported FROM suggestions s JOIN findings f ON f.id = s.finding JOIN"
        " pictures p ON p.hash = f.hash"
    ):
        page, series = (
            {
                one[0]
                for one in review.db.execute(
                    f"SELECT {word_of(name)} FROM {table} WHERE picture = ?", (row["picture"],)
                )
            }
            for table, name in (("picture_pages", "page"), ("picture_series", "series"))
        )
        if (
            (row["state"] in (view.state,) if view.state else row["state"] in QUEUES)
            and (not view.issues or row["issue"] in view.issues)
            and (not view.tag or row["tag"] in (view.tag, view.or_tag))
            and (not view.series or view.series in series)
            and (not view.changed or row["changed"])
            and view.namespace in ("", row["namespace"])
            and (not view.page or view.page in page)
            and row["hash"].startswith(view.hash)
            and view.least <= row["confidence"] <= view.most
        ):
            sure = row["confidence"] if view.tag and not view.or_tag and view.order != "newest" else row["surest"]
            place = (-row["imported"] if view.order == "newest" else 0, -sure, -row["surest"], row["finding"])
            found[row["finding"]] = min(place, found.get(row["finding"], place))
    return sorted(found, key=found.get, reverse=view.order == "unsure")


@pytest.mark.parametrize("view", VIEWS)
def test_pages_by_key_walk_a_view_as_a_slow_reader_would(filled, view):
    expected = slowly(filled, view)
    walked, after = [], None
    while found := queries.page(filled, view, after=after, limit=7):
        walked += [one.id for one in found]
        after = found[-1].id
    assert walked == expected and count(filled, view).findings == len(expected)
    assert (
        queries.counted(filled, replace(view, state=OPEN)).queues()[view.state].findings == len(expected)
        if view.state
        else True
    )
    back, before = [], expected[-1] if expected else None
    while before and (found := queries.page(filled, view, before=before, limit=7)):
        back = [one.id for one in found] + back
        before = found[0].id
    assert back == expected[:-1]


def test_a_page_goes_on_from_a_finding_that_was_decided_meanwhile(filled):
    first, second, third = queries.page(filled, Filter(), limit=3)
    filled.decide([one.ask() for one in second.suggestions], ACCEPTED)
    assert queries.step(filled, Filter(), second.id) == third.id
    assert queries.step(filled, Filter(), second.id, back=True) == first.id


def test_a_bulk_decision_takes_only_the_suggestions_that_match(filled):
    view = Filter(tag="outdoors", least=0.6)
    asks = queries.asks(filled, view)
    assert {ask.key.tag for ask in asks} == {"outdoors"} and all(ask.confidence >= 0.6 for ask in asks)
    outcome = filled.decide(asks, ACCEPTED)
    assert len(outcome.changed) == len(asks) == len(filled.accepted())
    filled.undo()
    assert filled.accepted() == []


def test_the_overview_counts_open_findings_by_kind_and_band(filled):
    made = queries.overview(filled)
    assert {issue: sum(counts) for issue, counts in made.by_issue.items()} == {
        issue: count(filled, Filter(issues=(issue,))).suggestions for issue in made.by_issue
    }
    for place, low in enumerate(queries.BANDS):
        high = queries.BANDS[place + 1] if place + 1 < len(queries.BANDS) else 2
        inside = [
            one
            for finding in queries.page(filled, Filter(issues=("missing_tags",)), limit=100)
            for one in finding.shown
            if low <= one.confidence < high
        ]
        assert made.by_issue["missing_tags"][place] == len(inside)


def test_the_promise_is_measured_on_the_owners_own_decisions(review):
    asks = [Ask(Key(f"{number:064x}", "x", ADD), None, "missing_tags", 0.85) for number in range(20)]
    assert queries.measured_share(review, "missing_tags", 0.85) is None
    review.decide(asks[:15], ACCEPTED)
    review.decide(asks[15:], IGNORED)
    made = queries.measured_share(review, "missing_tags", 0.88)
    assert (made.right, made.of, made.share) == (15, 20, 0.75) and made.low < 0.75 < made.high
    assert queries.measured_share(review, "missing_tags", 0.95) is None
    assert queries.measured_share(review, "incorrect_tags", 0.85) is None


def test_the_index_answers_from_its_indexes(filled):
    plan = filled.db.execute(
        "EXPLAIN QUERY PLAN SELECT DISTINCT s.card, s.rank FROM suggested s WHERE s.queue = 0 AND s.rank > 5"
        " ORDER BY s.rank LIMIT 50"
    ).fetchall()
    assert "suggestions_state" in plan[0]["detail"] and not any(
        "TEMP B-TREE FOR ORDER BY" in row["detail"] for row in plan
    )


def standing(review: Review) -> list[tuple]:
    """The tallies as they are kept, without those that came down to nothing."""
    return [
        tuple(row)
        for row in review.db.execute(
            "SELECT * FROM tallies WHERE findings != 0 OR suggestions != 0 OR expected != 0 ORDER BY scope, name, state, band"
        )
    ]


def counted(review: Review) -> list[tuple]:
    """The tallies counted by reading every suggestion."""
    findings, sums = {}, {}
    for row in review.db.execute("SELECT * FROM suggestions"):
        names = (("all", ""), ("issue", row["issue"]), ("tag", row["tag"]), ("namespace", row["namespace"]))
        for scope, name in names:
            band = counts_store.band(row["confidence"]) if scope in ("all", "issue") else 0
            place = (scope, name, row["state"])
            one = sums.setdefault((*place, band), [0, 0])
            one[0] += 1
            one[1] += round(row["confidence"] * counts_store.FACTOR)
            findings[place, row["finding"]] = max(band, findings.get((place, row["finding"]), 0))
    made = {key: (0, *both) for key, both in sums.items()}
    for (place, _), band in findings.items():
        before = made.get((*place, band), (0, 0, 0))
        made[(*place, band)] = (before[0] + 1, *before[1:])
    return sorted((*key, *numbers) for key, numbers in made.items())


def told(review: Review) -> list[tuple]:
    """The owner's verdicts counted by reading every decision."""
    made = {}
    for row in review.db.execute("SELECT * FROM decisions"):
        if row["state"] in (ACCEPTED, IGNORED) and row["outcome"] != UNDONE and row["action"] != PAIR:
            right = row["state"] == ACCEPTED
            places = [("tag", row["tag"], 0)]
            if row["issue"] and row["confidence"] is not None:
                places.append(("issue", row["issue"], counts_store.band(row["confidence"])))
            for place in places:
                yes, answers = made.get(place, (0, 0))
                made[place] = yes + right, answers + 1
    return sorted((*place, *both) for place, both in made.items())


@pytest.mark.parametrize("many", [2000, 3])
def test_the_tallies_are_what_counting_everything_gives_whatever_happens(filled, folder, monkeypatch, many):
    """Decisions, displaced opposites, copies attached to a pair, undo, redo, outcomes of writes, new reports: by moves, and anew."""
    monkeypatch.setattr(counts_store, "MANY", many)
    rng = random.Random(1)
    save_pairs(folder, pair(A, B, 0.97, ("x",), ("y",)), pair(B, C, 0.96))
    sync(filled, folder)
    assert standing(filled) == counted(filled)
    on_pair = queries.page(filled, Filter(issues=("near_duplicate",)), limit=1)[0].id
    kept: dict[Filter, queries.Counted] = {}
    views = [
        Filter(least=0.8),
        Filter(state=""),
        Filter(state="", tag="night"),
        Filter(issues=("missing_tags", "near_duplicate")),
    ]
    for turn in range(120):
        open_now = queries.asks(filled, Filter(state=rng.choice([OPEN, OPEN, IGNORED, ACCEPTED, ""])))
        act = rng.randrange(6)
        if act < 3 and open_now:
            asks = rng.sample(open_now, min(len(open_now), rng.choice((1, 2, 7))))
            filled.decide(asks, rng.choice((ACCEPTED, IGNORED, SKIPPED, OPEN)))
        elif act == 3:
            rng.choice((filled.undo, filled.redo))()
        elif act == 4:
            filled.decide([Ask(Key(B, f"copied {turn}", ADD))], ACCEPTED, attach_to=on_pair)
        else:
            waiting = filled.accepted()[:3]
            filled.note_outcomes(
                (key, rng.choice(("applied", "failed", "undone", "waiting")), "", turn + 1) for key in waiting
            )
        assert standing(filled) == counted(filled), turn
        verdicts = filled.db.execute("SELECT * FROM verdicts WHERE answers != 0 ORDER BY scope, name, band")
        assert [tuple(row) for row in verdicts] == told(filled), turn
        for view in views:
            kept[view] = queries.counted(filled, view, kept.get(view))
            assert kept[view].queues() == queries.counted(filled, replace(view, state=OPEN)).queues(), (turn, view)
            assert view.state or kept[view].of("") == queries.counted(filled, view).of(""), (turn, view)
        if turn % 40 == 39:
            save_mistagged(
                folder,
                *[missing(hash, f"tag {turn}", "night", confidence=0.5 + rng.random() / 2) for hash in hashes(9)],
            )
            sync(filled, folder)
            assert standing(filled) == counted(filled)


NAMED = "finding, rank, newest, tag_rank, source, issue, issues, hash, other, tag, namespace, action, place, confidence, alone, packed(why, evidence) AS evidence, state"
OF_SCHEMA_10 = (
    *(f"DROP TRIGGER IF EXISTS {name}" for name in counts_store.TRIGGERS),
    f"CREATE TABLE s AS SELECT id, {NAMED}, current, changed, differs FROM suggestions",
    "CREATE TABLE f AS SELECT id, rank, newest, issue, hash, other, members, confidence, differs, current FROM findings",
    "CREATE TABLE p AS SELECT hash, imported, packed('', '{\"pixel_hash\": \"11\"}') AS record FROM pictures",
    "CREATE TABLE near_pictures AS SELECT id, name AS hash FROM hashes",
    *(f"DROP VIEW {name}" for name in ("suggestions", "findings", "pictures")),
    *(
        f"DROP TABLE {name}"
        for name in ("suggested", "cards", "records", "picture_pages", "picture_series", "hashes", "words", "packs")
    ),
    *(
        f"ALTER TABLE {was} RENAME TO {name}"
        for was, name in (("s", "suggestions"), ("f", "findings"), ("p", "pictures"))
    ),
    "CREATE TABLE picture_pages (page TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (page, hash)) WITHOUT ROWID",
    "CREATE UNIQUE INDEX suggestions_key ON suggestions (hash, tag, action, other)",
    "CREATE INDEX suggestions_rank ON suggestions (rank, state, issue, confidence)",
)
OF_SCHEMA_3 = (
    *OF_SCHEMA_10,
    "DROP TABLE IF EXISTS moves",
    "ALTER TABLE suggestions DROP COLUMN changed",
    "ALTER TABLE decisions DROP COLUMN evidence",
)


def as_it_was(path: Path, schema: int, *statements: str) -> None:
    """Turn a store of today into one of an older schema."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.create_function("packed", 2, packed.packed)
        db.create_function("text_of", 2, packed.text_of)
        for statement in (*statements, f"UPDATE review_meta SET value = '{schema}' WHERE key = 'schema'"):
            db.execute(statement)


def test_a_store_of_schema_10_keeps_decisions_and_what_was_decided_stays_on_its_card(filled, folder):
    filled.decide(queries.asks(filled, Filter(tag="outdoors")), ACCEPTED)
    decided = [tuple(row) for row in filled.db.execute("SELECT * FROM decisions ORDER BY hash, tag")]
    kept = "SELECT hash, other, tag, action, issue, namespace, confidence, state, why FROM suggestions WHERE state != 'open'"
    shown = [tuple(row) for row in filled.db.execute(f"{kept} AND state != 'unlikely' ORDER BY hash, tag")]
    as_it_was(folder.review, 10, *OF_SCHEMA_10)
    with Review(folder.review) as upgraded:
        assert [tuple(row) for row in upgraded.db.execute("SELECT * FROM decisions ORDER BY hash, tag")] == decided
        assert [tuple(row) for row in upgraded.db.execute(f"{kept} ORDER BY hash, tag")] == shown
        assert standing(upgraded) == counted(upgraded) and shown
        assert dict(upgraded.db.execute("SELECT hash, pixels FROM pixels")).keys() <= {row[0] for row in decided}
        sync(upgraded, folder)
        assert standing(upgraded) == counted(upgraded) and len(upgraded.accepted()) > 0
        assert count(upgraded, Filter(state=ACCEPTED)).suggestions == len(upgraded.accepted())


def test_a_store_of_schema_2_keeps_its_decisions_and_learns_to_say_what_changed(filled, folder):
    before = filled.db.execute("SELECT hash, tag, state FROM decisions ORDER BY hash, tag").fetchall()
    as_it_was(folder.review, 2, *OF_SCHEMA_3)
    with Review(folder.review) as upgraded:
        assert upgraded.meta("schema") == "13" and len(before) == 3
        assert upgraded.db.execute("SELECT hash, tag, state FROM decisions ORDER BY hash, tag").fetchall() == before
        sync(upgraded, folder)
        ask = queries.asks(upgraded, Filter(tag="outdoors"))[0]
        assert upgraded.decide([ask], IGNORED).changed == [ask.key]
        save_mistagged(folder, wrong(ask.key.hash, "outdoors", confidence=0.99))
        sync(upgraded, folder)
        assert count(upgraded, Filter(state=IGNORED, changed=True)).suggestions == 1


def test_a_store_of_schema_1_is_given_its_tallies(filled, folder):
    filled.decide(queries.asks(filled, Filter(tag="outdoors")), ACCEPTED)
    older = "DROP TABLE tallies", "DROP INDEX decisions_state", "DROP INDEX suggestions_rank"
    as_it_was(folder.review, 1, *OF_SCHEMA_3, *older, "CREATE INDEX decisions_state ON decisions (state, outcome)")
    with Review(folder.review) as upgraded:
        assert standing(upgraded) == counted(upgraded) and upgraded.meta("schema") == "13"
        assert queries.counted(upgraded, Filter()).queues()["accepted"].suggestions == len(upgraded.accepted()) > 0
        upgraded.undo()
        assert standing(upgraded) == counted(upgraded)


def test_a_store_of_schema_12_counts_what_was_taken_back_as_no_verdict(filled, folder):
    filled.decide(queries.asks(filled, Filter(tag="outdoors")), ACCEPTED)
    filled.note_outcomes([(key, UNDONE, "", 1) for key in filled.accepted() if key.tag == "outdoors"])
    as_it_was(folder.review, 12, "UPDATE verdicts SET yes = 0, answers = 9")
    with Review(folder.review) as upgraded:
        verdicts = "SELECT * FROM verdicts WHERE answers != 0 ORDER BY scope, name, band"
        assert [tuple(row) for row in upgraded.db.execute(verdicts)] == told(upgraded)
        assert ("tag", "outdoors") not in [row[:2] for row in told(upgraded)]


def test_a_tags_health_joins_the_detectors_estimate_with_the_owners_verdicts(review, folder):
    names = hashes(60)
    save_mistagged(
        folder,
        *[missing(hash, "good", confidence=0.9) for hash in names],
        *[wrong(hash, "bad", confidence=0.6) for hash in names],
    )
    sync(review, folder)
    pace = queries.pace(review)
    assert (pace.a_minute, pace.of) == (20, 0)
    good, bad = queries.health(review, pace)
    assert (good.tag, good.open, good.decided, good.measured_share) == (
        "good",
        60,
        0,
        None,
    ) and good.share == pytest.approx(0.9)
    assert good.expected == pytest.approx(54) and good.a_minute == pytest.approx(54 / 3.25)
    review.decide(queries.asks(review, Filter(tag="good"))[:30], IGNORED)
    bad, good = queries.health(review, pace)
    assert (good.tag, good.open, good.decided) == ("good", 30, 30) and good.measured_share.share == 0
    assert good.share == pytest.approx(9 / 40) and bad.share == pytest.approx(0.6)


def test_the_pace_is_measured_on_working_time_alone(review):
    times = ["10:00:00", "10:00:02", "10:00:04", "11:30:00"] + [f"11:30:{second:02}" for second in range(3, 60, 3)]
    with review.writing() as db:
        for number, time in enumerate(times, 1):
            db.execute("INSERT INTO events VALUES (?, ?, 'x', 'done')", (number, f"2026-11-23T{time}Z"))
            db.execute("INSERT INTO event_changes VALUES (?, ?, 'x', 'add', '', 'open', 'accepted')", (number, A))
    made = queries.pace(review)
    # The long break counts for nothing.
    assert made.of == len(times) - 2 and made.a_minute == pytest.approx(60 * 21 / (4 + 57))


def test_a_session_counts_what_stands_and_not_what_it_took_back(review):
    review.decide([add(A, "x"), add(A, "y"), add(A, "z")], ACCEPTED)
    review.decide([add(A, "x")], IGNORED)
    review.decide([add(A, "y")], OPEN)
    made = queries.session(review)
    assert (made.accepted, made.ignored) == (1, 1)


def test_the_store_keeps_the_ledgers_tables_company(review, folder):
    review.decide([add(A, "x")], ACCEPTED)
    Ledger(Path(folder.review)).open_batch("folder", None, "", [TagChange(A, "x", ADD)])
    with Review(folder.review) as again:
        assert again.accepted() == [Key(A, "x", ADD)]


def test_a_growing_dataset_costs_no_decision(review, folder):
    save_dataset(folder, {A: [], B: []})
    save_mistagged(folder, missing(A, "x", "y"), missing(B, "x"))
    sync(review, folder)
    review.decide([add(A, "x")], ACCEPTED)
    review.decide([add(B, "x")], IGNORED)
    save_dataset(folder, {A: [], B: [], C: [], D: []})
    save_mistagged(folder, missing(C, "x"), missing(A, "x", "y"), missing(D, "z"))
    sync(review, folder)
    states = {key: state for key, state in decisions(folder.review).items() if state in (ACCEPTED, IGNORED)}
    assert states == {(A, "x", ADD): ACCEPTED, (B, "x", ADD): IGNORED}
    assert sorted(open_tags(review)) == ["x", "y", "z"]


def test_a_tag_of_the_owners_own_while_reports_are_read_takes_no_number_twice(review, folder, monkeypatch):
    save_dataset(folder, {A: [], B: [], C: []})
    save_pairs(folder, pair(A, B))
    sync(review, folder)
    on_pair = queries.page(review, Filter())[0].id
    save_mistagged(folder, missing(C, "new", "newer"))
    take, turns = report_import._take, []

    def meanwhile(*args):
        taken = take(*args)
        turns.append(
            review.decide([Ask(Key(B, f"own {len(turns)}", ADD))] * (len(turns) < 2), ACCEPTED, attach_to=on_pair)
        )
        return taken

    monkeypatch.setattr(report_import, "_take", meanwhile)
    assert not sync(review, folder) and len(turns) == 3
    assert review.accepted() == [Key(B, "own 0", ADD), Key(B, "own 1", ADD)]
    assert sorted(open_tags(review)) == ["near_duplicate", "new", "newer"]
    assert [one.key.tag for one in queries.page(review, Filter(state=ACCEPTED))[0].shown] == ["own 0", "own 1"]


def test_decisions_follow_a_picture_whose_file_has_another_hash_and_the_same_pixels(review, folder):
    """A's metadata was changed: C has its pixels. D, decided on by itself, has B's, and B is there still."""

    def dataset(**pixels: str) -> dict[str, str]:
        rows = [{"hash": globals()[name], "existing_all_tags": [], "pixel_hash": one} for name, one in pixels.items()]
        data_folder.save(folder, DATASET, {"summary": {}, "results": rows})
        return {row["hash"]: row["pixel_hash"] for row in rows}

    dataset(A="11", B="22")
    save_mistagged(folder, missing(A, "yes", "no", "flag", "later", "done"), wrong(A, "kept"), missing(B, "x"))
    save_pairs(folder, pair(A, B))
    sync(review, folder)
    for tag, state in {"done": ACCEPTED, "yes": ACCEPTED, "no": IGNORED, "flag": "flagged"}.items():
        review.decide([add(A, tag)], state)
    review.note_outcomes([(Key(A, "done", ADD), "applied", "", 1)])
    review.decide([Ask(Key(A, "kept", REMOVE), confidence=0.8, issue="incorrect_tags")], IGNORED)
    review.decide([Ask(Key(A, "near_duplicate", PAIR, B))], IGNORED)
    review.decide([add(B, "x")], IGNORED)

    now = dataset(B="22", C="11", D="22")
    seen = decisions(folder.review, now)  # by a detector, before the page reads the dataset
    expected = {
        (C, "yes", ADD): ACCEPTED,
        (C, "no", ADD): IGNORED,
        (C, "flag", ADD): "flagged",
        (C, "kept", REMOVE): IGNORED,
    }
    expected[B, "x", ADD] = IGNORED
    assert {key: state for key, state in seen.items() if key[0] != A} == expected
    pairs = {(*sorted((B, C)), "near_duplicate"): IGNORED}
    assert pairs.items() <= pair_decisions(folder.review, now).items()

    save_mistagged(folder, missing(C, "yes", "no", "later"), missing(B, "x"), missing(D, "x"))
    save_pairs(folder)
    sync(review, folder)
    seen = decisions(folder.review)
    assert {key: state for key, state in seen.items() if key[0] != A} == expected
    assert pairs.items() <= pair_decisions(folder.review).items()
    assert review.accepted() == [Key(C, "yes", ADD)]
    assert sorted(open_tags(review)) == ["later", "x"] and open_tags(review, state=ACCEPTED) == ["yes"]
    assert sorted(open_tags(review, state=IGNORED)) == ["kept", "near_duplicate", "no", "x"]
    assert [answer[2] for answer in answers(folder.review)] == ["kept"]  # one answer, not two
    revision = review.revision()
    sync(review, folder)
    assert review.revision() == revision

    for _ in range(6):  # the history goes along
        review.undo()
    assert review.accepted() == [] and {review.decision(Key(C, tag, ADD)).queue for tag in ("yes", "no", "flag")} == {
        OPEN
    }
    dataset(A="11", B="22")  # the old file is back, from a backup: its noes are there
    assert decisions(folder.review, {A: "11", B: "22"})[A, "no", ADD] == IGNORED


def test_a_picture_that_became_another_loses_what_was_decided_and_keeps_its_own(review, folder):
    rows = [{"hash": A, "existing_all_tags": [], "pixel_hash": "11"}, {"hash": B, "existing_all_tags": []}]
    data_folder.save(folder, DATASET, {"summary": {}, "results": rows})
    save_mistagged(folder, missing(A, "x", "y"), missing(B, "z"))
    sync(review, folder)
    review.decide([add(A, "x"), add(A, "y"), add(B, "z")], IGNORED)
    review.decide([add(C, "y")], ACCEPTED)  # from a report of another time
    rows = [{"hash": C, "existing_all_tags": [], "pixel_hash": "11"}, {"hash": D, "existing_all_tags": []}]
    data_folder.save(folder, DATASET, {"summary": {}, "results": rows})
    sync(review, folder)
    seen = decisions(folder.review)
    assert (seen[C, "x", ADD], seen[C, "y", ADD]) == (IGNORED, ACCEPTED) and (D, "z", ADD) not in seen


def test_a_store_of_schema_11_is_given_its_shorter_index(filled, folder):
    shown = [tuple(row) for row in filled.db.execute("SELECT id, hash, tag, why FROM suggestions ORDER BY id")]
    as_it_was(folder.review, 11, "DROP INDEX hashes_begin")
    with Review(folder.review) as upgraded:
        assert [
            tuple(row) for row in upgraded.db.execute("SELECT id, hash, tag, why FROM suggestions ORDER BY id")
        ] == shown
        assert len(upgraded.db.execute("PRAGMA index_info(hashes_begin)").fetchall()) == 1
