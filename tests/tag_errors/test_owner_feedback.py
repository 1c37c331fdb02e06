"""Decisions move the confidence towards what they show, by as much as there are of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tagcheck.tag_errors.owner_feedback import FEWEST, Answer, learn


def said(confidence: float, right: int, wrong: int, tag: str = "hat", kind: str = "missing") -> list[Answer]:
    return [Answer(kind, f"{kind}_tags", tag, confidence, k < right) for k in range(right + wrong)]


def test_without_enough_decisions_nothing_changes():
    learned = learn(said(0.9, 0, FEWEST - 1))
    assert not learned.terms and learned("missing", "missing_tags", "hat", 0.9) == 0.9
    assert learned.counts == {"missing": (0, FEWEST - 1)}
    assert learn([])("missing", "missing_tags", "hat", 0.3) == 0.3


@pytest.mark.parametrize("right, wrong, low, high", [(5, 5, 0.5, 0.8), (100, 100, 0.49, 0.56), (0, 300, 0.0, 0.05)])
def test_the_confidence_moves_to_the_share_that_was_right(right, wrong, low, high):
    after = learn(said(0.9, right, wrong))("missing", "missing_tags", "hat", 0.9)
    assert low <= after <= high


def test_decisions_that_agree_with_the_confidence_leave_it():
    learned = learn(said(0.9, 90, 10, "hat") + said(0.6, 60, 40, "dog"))
    for confidence in (0.5, 0.6, 0.75, 0.9):
        assert learned("missing", "missing_tags", "cat", confidence) == pytest.approx(confidence, abs=0.03)


def test_one_kind_says_nothing_about_the_other():
    learned = learn(said(0.9, 10, 90, kind="incorrect"))
    assert learned("missing", "missing_tags", "hat", 0.9) == 0.9
    assert learned("incorrect", "incorrect_tags", "hat", 0.9) < 0.3


def test_a_tag_that_was_often_wrong_loses_more_than_the_others():
    learned = learn(said(0.9, 5, 45, "blurry") + said(0.9, 45, 5, "hat") + said(0.9, 45, 5, "dog"))
    blurry, hat, new = (learned("missing", "missing_tags", tag, 0.9) for tag in ("blurry", "hat", "cat"))
    assert blurry < 0.3 < new < hat


def test_surer_stays_surer():
    learned = learn(said(0.95, 10, 40) + said(0.5, 5, 45))
    scores = [learned("missing", "missing_tags", "hat", x) for x in np.linspace(0.01, 0.99, 25)]
    assert all(a <= b for a, b in itertools.pairwise(scores)) and scores[0] >= 0 and scores[-1] <= 1


def test_many_refusals_of_one_tag_say_little_of_the_others_and_refusals_of_many_tags_more():
    one = [Answer("missing", "missing_tags", "hat", 0.95, False)] * 13
    many = [Answer("missing", "missing_tags", f"tag {k}", 0.95, False) for k in range(13)]
    after_one, after_many = (learn(said)("missing", "missing_tags", "sword", 0.95) for said in (one, many))
    assert after_one > 0.85
    assert learn(one)("missing", "missing_tags", "hat", 0.95) < 0.4
    assert after_many < after_one - 0.1


@pytest.mark.parametrize("others", [0, 1])
def test_what_is_said_of_one_or_two_tags_leaves_all_others_as_they_are(others):
    answers = said(0.9, 0, 13) + [one for k in range(others) for one in said(0.9, 0, 7, f"dog {k}")]
    learned = learn(answers)
    others_now = [learned("missing", "missing_tags", "sword", x) for x in (0.5, 0.9, 0.99)]
    assert others_now == pytest.approx([0.5, 0.9, 0.99], abs=1e-12)
    assert learned("missing", "missing_tags", "hat", 0.9) < 0.2


def test_tags_count_and_not_decisions():
    """Three tags right once each, and one wrong often or once: the others hear the same of it."""
    right = [one for k in range(9) for one in said(0.9, 1, 0, f"tag {k}")]
    once, often = (learn(right + said(0.9, 0, times)) for times in (1, 50))
    assert often("missing", "missing_tags", "sword", 0.9) == pytest.approx(
        once("missing", "missing_tags", "sword", 0.9), abs=0.02
    )


def test_fourteen_refusals_of_as_many_tags_lower_the_others_and_do_not_empty_the_list():
    learned = learn([Answer("missing", "missing_tags", f"tag {k}", 0.9, False) for k in range(14)])
    assert 0.6 < learned("missing", "missing_tags", "sword", 0.9) < 0.85
