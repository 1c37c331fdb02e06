"""From evidence to the probability of an error: what the model must get right on cells small enough to reason about."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit

from tagcheck.tag_errors import error_model, evidence
from tagcheck.tag_errors.error_model import Cells, Rate, Verdict


def test_the_linear_predictor_does_not_depend_on_how_cells_are_cut(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, len(evidence.NAMES))).astype(np.float32)
    design, of_sample = error_model._Design.of(evidence.NAMES, features)
    coefficients = rng.normal(size=of_sample.shape[1])
    whole = design.linear(coefficients, features)
    monkeypatch.setattr(error_model, "CHUNK", 7)
    np.testing.assert_allclose(
        design.linear(coefficients, features), whole, rtol=1e-6, atol=1e-6
    )  # float32 sums of terms up to 8
    np.testing.assert_allclose(whole, of_sample @ coefficients, rtol=1e-4, atol=1e-4)


def test_tags_that_come_back_with_another_do_not_hide_how_often_tags_are_forgotten():
    rng = np.random.default_rng(1)
    n = 6000
    column = np.arange(n) % 2
    features = np.zeros((n, len(evidence.NAMES)), np.float32)
    strong = rng.random(n) < 0.4
    features[:, 0] = np.where(strong, 4 + column, -4) + rng.normal(size=n)
    given = strong & ((column == 1) | (rng.random(n) < 0.75))  # the second is never lost
    cells = Cells(np.arange(n), column, features, given, np.ones(n, np.float32))
    frequency = np.bincount(column, given, 2) / (n / 2)
    by_all, by_hand = (
        error_model.learn(cells, frequency, np.zeros(2, int), np.array(some)).forgotten.likely
        for some in ([True, True], [True, False])
    )
    assert by_all < 0.1
    assert 0.2 < by_hand < 0.3


def test_cells_as_they_were_written_before_leave_those_that_stand_for_others():
    now, before = (sparse.csr_matrix(np.array(one, np.float32)) for one in ([[1, 0], [1, 0]], [[0, 0], [1, 1]]))
    given, weight = np.array([True, False, True, False]), np.array([1, 1, 1, 1], np.float32)
    cells = Cells(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.zeros((4, 1), np.float32), given, weight)
    assert cells.as_written(before, now).given.tolist() == [False, False, True, True]
    of_many = Cells(cells.row, cells.column, cells.features, given, np.array([1, 1, 1, 9], np.float32))
    assert of_many.as_written(before, now).given.tolist() == [False, False, True, False]
    assert given.tolist() == [True, False, True, False]


def test_the_plateau_is_that_of_most_not_that_of_the_few_that_were_tagged_with_care():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        expected = np.sort(rng.random(3000))[::-1]
        y = (expected > 0.4) & (rng.random(3000) > 0.15)
        y[:360] = True  # the strongest evidence of all: copies, and nothing forgotten there
        assert 0.11 < error_model._plateau(expected, y.astype(float)).likely < 0.19


def test_where_tags_fade_from_the_first_step_on_what_is_forgotten_is_told_by_the_very_end():
    for seed in range(20):
        expected = np.sort(np.random.default_rng(seed).random(4000))[::-1]
        drawn = np.random.default_rng([seed, 1]).random(4000)
        fading, level = (
            error_model._plateau(expected, y) for y in (drawn < 0.88 * expected, drawn < 0.88 * (expected > 0.4))
        )
        assert fading.least < min(0.23, fading.likely - 0.01)  # .12 are forgotten
        assert fading.least / fading.likely <= fading.sure < level.sure > 0.88
        assert level.least > 0.09


def test_no_more_is_said_than_the_least_of_what_is_not_known_of_a_rate():
    said, nothing = np.array([0.1, 0.6, 0.9]), np.zeros(3)
    for given in (np.zeros(3, bool), np.ones(3, bool)):
        alone = [
            error_model.as_far_as_known(said, given, Verdict(nothing, nothing, nothing, said, rate, rate, nothing))
            for rate in (Rate(0.4, 0.1, 1.0), Rate(0.4, 0.1, 0.5), Rate(0.4, 0.1, 0.0))
        ]
        np.testing.assert_allclose(alone[0], said)
        np.testing.assert_allclose(alone[1], (alone[0] + alone[2]) / 2)
        assert np.all(alone[2] < said) and np.all(np.diff(alone[2]) > 0)
    odds = 0.6 / 0.4 * 0.1 / 0.4  # of a written tag: wrong ones a fourth as frequent
    assert alone[2][1] == pytest.approx(odds / (1 + odds))


def test_the_rates_of_a_small_library_are_drawn_to_what_is_usual():
    for pictures, plateau, floor in ((20, (0.2, 0.3), (0.05, 0.15)), (4000, (0.38, 0.42), (0.21, 0.25))):
        cells, share = np.arange(pictures) / pictures, np.ones(pictures)
        lost, wrong = (np.arange(pictures) % 5 < 2), np.arange(pictures) % 4 == 0
        assert plateau[0] < error_model._plateau(1 - cells / 2, (~lost).astype(float)).likely < plateau[1]
        assert floor[0] < error_model._floor(cells, wrong.astype(float), share, share) < floor[1]


def test_how_well_a_rare_tag_is_seen_is_told_by_other_rare_ones():
    uses = np.array([400, *[4] * 20])
    column = np.repeat(np.arange(21), uses)
    n = len(column)
    cells = Cells(np.arange(n), column, np.zeros((n, 1)), np.ones(n, bool), np.ones(n, np.float32), ("probe",))
    belongs = np.where(column == 0, 0.99, np.where(column == 1, 0.9, 0.3))  # of the rare ones one is seen well
    frequent, lucky, rare, *_ = error_model._shows(belongs, np.ones(n), cells, 21)
    assert (
        frequent > 0.95 and 0.375 < lucky < 0.45 and 0.225 < rare < 0.315
    )  # less a fourth: one of four may look like no other


def test_chances_come_true_at_the_low_end_too():
    rng = np.random.default_rng(0)
    linear = rng.uniform(-6, 4, 20_000)
    true = expit(np.where(linear < -2, 2 * linear + 2, linear))  # falls twice as fast there
    cells = Cells(
        np.arange(20_000), np.zeros(20_000, int), linear[:, None], np.ones(20_000, bool), np.ones(20_000), ("probe",)
    )
    half = linear > -1  # of the cells of a fit are written
    bend = error_model._bend(linear, (rng.random(20_000) < true).astype(float), np.ones(20_000), half)
    bent, low = error_model._on_lines(np.array([[0.0, 1.0]]), linear, cells, bend), linear < -4
    assert abs(bent[low].sum() / true[low].sum() - 1) < 0.4 < expit(linear[low]).sum() / true[low].sum() - 1


def test_the_evidence_bends_at_the_same_place_where_fewer_tags_are_written():
    rng = np.random.default_rng(0)
    linear, given = np.r_[rng.normal(-4, 2, 5000), rng.normal(3, 2, 5000)], np.arange(10_000) >= 5000
    few = np.flatnonzero(~given | (rng.random(10_000) < 0.2))
    all_of_them, fewer = (
        error_model._bend(linear[some], given[some].astype(float), np.ones(len(some)), given[some])[0]
        for some in (np.arange(10_000), few)
    )
    assert all_of_them == fewer == np.quantile(linear[~given], error_model.SUM_BEND)


def test_the_cells_of_a_fit_stand_for_all_and_are_the_same_every_time(monkeypatch):
    rng = np.random.default_rng(0)
    n, features = 20_000, np.zeros((20_000, len(evidence.NAMES)), np.float32)
    features[:, 0] = 3 * rng.normal(size=n)
    cells = Cells(np.arange(n), np.zeros(n, int), features, rng.random(n) < 0.1, np.ones(n, np.float32))
    monkeypatch.setattr(error_model, "FIT_CELLS", 1000)
    (places, weight), again = error_model._sample(cells), error_model._sample(cells)[0]
    assert np.array_equal(places, again) and len(np.unique(places)) == len(places) <= 2002
    stands_for = weight * n / weight.sum()
    for kind in (cells.given, ~cells.given):
        assert abs(stands_for[kind[places]].sum() / kind.sum() - 1) < 0.05
        seen = kind[places]
        expected = expit(features[kind, 0].astype(float)).mean()
        assert abs(np.average(expit(features[places[seen], 0]), weights=weight[seen]) / expected - 1) < 0.02


def test_what_the_evidence_explains_at_its_low_end_is_not_taken_for_wrong_tags():
    rng = np.random.default_rng(0)
    n, wrong = 100_000, 0.04 * 0.1
    belongs = np.sort(rng.random(n)) * 0.02
    shows = rng.random(n) < belongs
    y = shows | (rng.random(n) < wrong)
    said = y * belongs / (belongs + (1 - belongs) * wrong)
    found = error_model._wrong_rate(belongs, said, cells_of(np.zeros(n, int), y), np.array([0.1]), usual=0.1)
    assert 0.03 < found.likely < 0.065 < y[: n // 2].mean() / 0.1


def test_tags_that_an_error_blurs_count_for_how_often_tags_are_wrong():
    rng = np.random.default_rng(0)
    column = np.repeat(np.arange(100), 1000)
    blurred = column < 50  # the wrong tags are among these, of which the evidence sees less on every picture
    y = rng.random(len(column)) < np.where(blurred, 0.08 * 0.1, 0)
    belongs = expit(np.where(blurred, -7, -14) + rng.normal(size=len(column)))
    found = error_model._wrong_rate(belongs, np.zeros(len(column)), cells_of(column, y), np.full(100, 0.1), usual=0.04)
    assert 0.035 < found.likely < 0.045


def cells_of(column, given):
    """Cells of one picture each, without evidence."""
    n = len(column)
    return Cells(np.arange(n), column, np.zeros((n, 0), np.float32), given, np.ones(n, np.float32))
