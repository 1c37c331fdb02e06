"""Decisions move the confidence towards what they show, by as much as there are of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tagcheck.tag_errors.owner_feedback import ASKED, ASKED_FROM, FEWEST, Answer, learn, to_ask


def said(confidence: float, right: int, wrong: int, tag: str = "hat", kind: str = "missing") -> list[Answer]:
    return [Answer(kind, tag, confidence, k < right) for k in range(right + wrong)]


def test_without_enough_decisions_nothing_changes():
    learned = learn(said(0.9, 0, FEWEST - 1))
    assert not learned.kinds and not learned.tags and learned("missing", "hat", 0.9) == 0.9
    assert learned.counts == {"missing": (0, FEWEST - 1)}
    assert learn([])("missing", "hat", 0.3) == 0.3


@pytest.mark.parametrize("right, wrong, low, high", [(5, 5, 0.5, 0.8), (100, 100, 0.49, 0.56), (0, 300, 0.0, 0.05)])
def test_the_confidence_moves_to_the_share_that_was_right(right, wrong, low, high):
    after = learn(said(0.9, right, wrong))("missing", "hat", 0.9)
    assert low <= after <= high


def test_decisions_that_agree_with_the_confidence_leave_it():
    learned = learn(said(0.9, 90, 10, "hat") + said(0.6, 60, 40, "dog"))
    for confidence in (0.5, 0.6, 0.75, 0.9):
        assert learned("missing", "cat", confidence) == pytest.approx(confidence, abs=0.03)


def test_one_kind_says_nothing_about_the_other():
    learned = learn(said(0.9, 10, 90, kind="incorrect"))
    assert learned("missing", "hat", 0.9) == 0.9
    assert learned("incorrect", "hat", 0.9) < 0.3


def test_a_tag_that_was_often_wrong_loses_more_than_the_others():
    learned = learn(said(0.9, 5, 45, "blurry") + said(0.9, 45, 5, "hat") + said(0.9, 45, 5, "dog"))
    blurry, hat, new = (learned("missing", tag, 0.9) for tag in ("blurry", "hat", "cat"))
    assert blurry < 0.3 < new < hat


def test_surer_stays_surer():
    learned = learn(said(0.95, 10, 40) + said(0.5, 5, 45))
    scores = [learned("missing", "hat", x) for x in np.linspace(0.01, 0.99, 25)]
    assert all(a <= b for a, b in itertools.pairwise(scores)) and scores[0] >= 0 and scores[-1] <= 1


def test_many_refusals_of_one_tag_say_little_of_the_others_and_refusals_of_many_tags_more():
    one = [Answer("missing", "hat", 0.95, False)] * 13
    many = [Answer("missing", f"tag {k}", 0.95, False) for k in range(13)]
    after_one, after_many = (learn(said)("missing", "sword", 0.95) for said in (one, many))
    assert after_one > 0.85
    assert learn(one)("missing", "hat", 0.95) < 0.4
    assert after_many < after_one - 0.04


@pytest.mark.parametrize("others", [0, 1])
def test_what_is_said_of_one_or_two_tags_leaves_all_others_as_they_are(others):
    answers = said(0.9, 0, 13) + [one for k in range(others) for one in said(0.9, 0, 7, f"dog {k}")]
    learned = learn(answers)
    others_now = [learned("missing", "sword", x) for x in (0.5, 0.9, 0.99)]
    assert others_now == pytest.approx([0.5, 0.9, 0.99], abs=1e-12)
    assert learned("missing", "hat", 0.9) < 0.2


def test_tags_count_and_not_decisions():
    """Three tags right once each, and one wrong often or once: the others hear the same of it."""
    right = [one for k in range(9) for one in said(0.9, 1, 0, f"tag {k}")]
    once, often = (learn(right + said(0.9, 0, times)) for times in (1, 50))
    assert often("missing", "sword", 0.9) == pytest.approx(once("missing", "sword", 0.9), abs=0.02)


def test_fourteen_refusals_of_as_many_tags_lower_the_others_and_do_not_empty_the_list():
    learned = learn([Answer("missing", f"tag {k}", 0.9, False) for k in range(14)])
    assert 0.6 < learned("missing", "sword", 0.9) < 0.85


def of_many_tags(confidence: float, right: int, wrong: int) -> list[Answer]:
    return [Answer("missing", f"tag {k}", confidence, k < right) for k in range(right + wrong)]


def test_what_is_surest_being_right_leaves_what_is_far_less_sure_as_it_is():
    learned = learn(of_many_tags(0.94, 300, 3))
    assert learned("missing", "sword", 0.94) > 0.96
    assert learned("missing", "sword", np.array([0.15, 0.3, 0.5])) == pytest.approx([0.15, 0.3, 0.5], abs=0.02)


def test_where_the_rate_is_not_known_what_was_decided_moves_all_and_most_of_all_downwards():
    known, unknown = (learn(of_many_tags(0.85, 20, 60), {"missing": unsure}) for unsure in (0.0, 0.4))
    assert known("missing", "sword", 0.3) > 0.25 > 0.2 > unknown("missing", "sword", 0.3)
    assert unknown("missing", "sword", 0.85) < 0.5
    upwards = learn(of_many_tags(0.85, 80, 0), {"missing": 0.4})
    assert 0.3 <= upwards("missing", "sword", 0.3) < 0.4


def test_one_refusal_of_a_tag_says_little_of_its_other_suggestions():
    learned = learn(of_many_tags(0.9, 27, 3))
    refused, others = learned("missing", "tag 29", 0.9), learned("missing", "sword", 0.9)
    assert others - 0.2 < refused < others


def test_where_few_are_sure_less_sure_ones_spread_over_the_confidences_are_asked_about():
    confidence = np.concatenate([[0.6, 0.55], np.linspace(0.48, 0.01, 500)])
    listed = confidence >= 0.5
    asked = to_ask(confidence, listed, 10)
    assert asked.sum() == ASKED - 2 - 10 and not (asked & listed).any()
    said = np.sort(confidence[asked])
    assert ASKED_FROM <= said[0] < 0.23 and said[-1] == 0.48 and np.diff(said).max() < 0.04


def test_nobody_is_asked_about_what_is_unlikely_or_where_enough_is_listed_or_decided():
    confidence = np.linspace(0.01, 0.49, 100)
    none = np.zeros(100, dtype=bool)
    assert not to_ask(confidence * 0.4, none, 0).any()
    assert not to_ask(confidence, none, ASKED).any()
    assert not to_ask(np.append(confidence, np.full(ASKED, 0.5)), np.arange(100 + ASKED) >= 100, 0).any()
    assert not to_ask(confidence[:0], none[:0], 0).any()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_all_are_asked_about_where_there_are_only_a_few(count):
    assert to_ask(np.full(count, 0.3), np.zeros(count, dtype=bool), 0).all()
