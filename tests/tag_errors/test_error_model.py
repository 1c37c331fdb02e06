"""From evidence to the probability of an error: what the model must get right on cells small enough to reason about."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from tagcheck.tag_errors import error_model, evidence
from tagcheck.tag_errors.error_model import Cells


def test_the_linear_predictor_does_not_depend_on_how_cells_are_cut(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, len(evidence.NAMES))).astype(np.float32)
    design, of_sample = error_model._Design.of(evidence.NAMES, features)
    coefficients = rng.normal(size=of_sample.shape[1])
    whole = design.linear(coefficients, features)
    monkeypatch.setattr(error_model, "CHUNK", 7)
    np.testing.assert_allclose(design.linear(coefficients, features), whole, rtol=1e-6)
    np.testing.assert_allclose(whole, of_sample @ coefficients, rtol=1e-4, atol=1e-4)


def test_refused_suggestions_teach_how_often_tags_are_forgotten():
    rng = np.random.default_rng(0)
    n = 4000
    features = np.zeros((n, len(evidence.NAMES)), np.float32)
    strong = np.arange(n) < n // 2
    features[:, 0] = np.where(strong, 4, -4) + rng.normal(size=n)
    given = strong & (rng.random(n) < 0.8)  # one in five of those that look like it is not tagged so
    cells = Cells(np.arange(n), np.zeros(n, int), features, given, np.ones(n, np.float32))
    frequency = np.array([given.mean()])
    refused = np.where(strong & ~given, -1, 0).astype(np.int8)
    refused[np.flatnonzero(refused)[::2]] = 0  # the owner looked at every second one and said no
    alone = error_model.fit(cells, frequency, np.random.default_rng(1))
    after = error_model.fit(cells, frequency, np.random.default_rng(1), answered=refused)
    open_ones = strong & ~given & (refused == 0)
    assert after.error[open_ones].mean() < alone.error[open_ones].mean() - 0.1


def test_the_plateau_is_that_of_most_not_that_of_the_few_that_were_tagged_with_care():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        expected = np.sort(rng.random(3000))[::-1]
        y = (expected > 0.4) & (rng.random(3000) > 0.15)
        y[:360] = True  # the strongest evidence of all: copies, and nothing forgotten there
        assert 0.11 < error_model._plateau(expected, y.astype(float)).likely < 0.19


def test_chances_come_true_at_the_low_end_too():
    rng = np.random.default_rng(0)
    linear = rng.uniform(-6, 4, 20_000)
    true = expit(np.where(linear < -2, 2 * linear + 2, linear))  # falls twice as fast there
    cells = Cells(
        np.arange(20_000), np.zeros(20_000, int), linear[:, None], np.ones(20_000, bool), np.ones(20_000), ("probe",)
    )
    bend = error_model._bend(linear, (rng.random(20_000) < true).astype(float), np.ones(20_000))
    bent, low = error_model._on_lines(np.array([[0.0, 1.0]]), linear, cells, bend), linear < -4
    assert abs(bent[low].sum() / true[low].sum() - 1) < 0.4 < expit(linear[low]).sum() / true[low].sum() - 1
