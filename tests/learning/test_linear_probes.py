"""Probes are out of fold, agree with a slow twin, and calibration means what it says."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit

from tagcheck import cluster
from tagcheck.learning import linear_probes


def test_a_group_is_never_split_and_folds_are_balanced():
    labels = np.repeat(np.arange(60), np.arange(60) % 5 + 1)
    folds = linear_probes.grouped_folds(labels, 5, seed=3)
    assert all(len(set(folds[labels == label])) == 1 for label in range(60))
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 5
    assert (folds == linear_probes.grouped_folds(labels, 5, seed=3)).all()
    assert (folds != linear_probes.grouped_folds(labels, 5, seed=4)).any()


def test_more_folds_than_groups_is_an_error():
    with pytest.raises(ValueError, match="2 groups for 5 folds"):
        linear_probes.grouped_folds(np.array([1, 1, 2]), 5, seed=0)


def slow_ridge(x, y, folds, alpha):
    """The textbook's way: every fold fitted from its own training rows."""
    out = np.empty(y.shape)
    for fold in np.unique(folds):
        train = folds != fold
        mean_x, mean_y = x[train].mean(axis=0), y[train].mean(axis=0)
        centred = x[train] - mean_x
        gram = centred.T @ centred
        penalty = alpha * np.trace(gram) / x.shape[1] * np.eye(x.shape[1])
        weights = np.linalg.solve(gram + penalty, centred.T @ (y[train] - mean_y))
        out[~train] = (x[~train] - mean_x) @ weights + mean_y
    return out


def fit_ridge(matrix, targets, folds, alpha=0.2, **more):
    return linear_probes.RidgePath(linear_probes.moments(matrix, targets, folds, **more), folds).models(alpha)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_downdated_ridge_is_the_textbooks_ridge(form):
    rng = np.random.default_rng(0)
    x = rng.normal(5, 2, (300, 12))
    y = (x @ rng.normal(size=(12, 7)) + rng.normal(size=(300, 7)) > 0).astype(float)
    folds = linear_probes.grouped_folds(np.arange(300) // 3, 4, seed=1)
    x32 = x.astype(np.float32)
    quick = fit_ridge(x32, form(y), folds, 0.3, block=64).scores(x32)
    assert np.allclose(quick, slow_ridge(x, y, folds, 0.3), atol=2e-4)


def test_a_row_never_sees_its_own_label_nor_its_folds():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 6)).astype(np.float32), rng.integers(0, 2, (200, 3)).astype(float)
    folds = linear_probes.grouped_folds(np.arange(200) // 2, 5, seed=0)
    before = fit_ridge(x, y, folds).scores(x)
    changed = y.copy()
    changed[folds == 2] = 1 - changed[folds == 2]
    after = fit_ridge(x, changed, folds).scores(x)
    assert np.array_equal(before[folds == 2], after[folds == 2])
    assert not np.allclose(before[folds != 2], after[folds != 2])


def test_columns_that_say_nothing_do_no_harm():
    x = np.zeros((20, 3), dtype=np.float32)
    scores = fit_ridge(x, np.ones((20, 1)), np.arange(20) % 2).scores(x)
    assert np.allclose(scores, 1.0)


def test_calibration_error_is_the_gap_between_said_and_true():
    said = np.array([0.95] * 10 + [0.55] * 10 + [0.05] * 100)
    right = np.array([1] * 9 + [0] + [1] * 3 + [0] * 7 + [0] * 100)
    assert linear_probes.expected_calibration_error(said, right, low=0.1) == pytest.approx((0.05 * 10 + 0.25 * 10) / 20)
    assert np.isnan(linear_probes.expected_calibration_error(said, right, low=0.99))


def test_average_precision_counts_what_is_not_listed_as_never_found():
    assert linear_probes.average_precision([0.9, 0.5, 0.1], [1, 0, 1]) == pytest.approx((1 + 2 / 3) / 2)
    assert linear_probes.average_precision([0.9, 0.5, 0.1], [1, 0, 1], total=4) == pytest.approx((1 + 2 / 3) / 4)
    assert np.isnan(linear_probes.average_precision([0.9], [0]))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_a_part_needs_its_own_rows_alone_and_the_sums_are_those_of_all(form, monkeypatch):
    rng = np.random.default_rng(5)
    matrix, given, folds = (
        rng.normal(size=(50, 4)).astype(np.float32),
        rng.random((50, 3)) < 0.3,
        rng.integers(-1, 3, 50),
    )
    whole = linear_probes.moments(matrix, form(given.astype(np.float32)), folds)
    monkeypatch.setattr(linear_probes, "PART", 20)
    seen = []

    def elsewhere(
        make, parts
    ):  # as by another process: what is sent is copied, and what comes back cannot be written to
        for part in parts:
            seen.append([one.shape[0] for one in part])
            sums = pickle.loads(pickle.dumps(make))()(pickle.loads(pickle.dumps(part)))
            yield tuple(np.frombuffer(one.tobytes()).reshape(one.shape) for one in sums)

    here, there = (
        linear_probes.moments(matrix, form(given.astype(np.float32)), folds, share=one)
        for one in (cluster.here, elsewhere)
    )
    assert seen == [[20, 20, 20], [20, 20, 20], [10, 10, 10]]
    x = matrix - here.centre.astype(np.float32)
    for fold in range(3):
        mine = folds == fold
        assert here.count[fold] == mine.sum() and np.array_equal(here.sum_y[fold], given[mine].sum(axis=0))
        assert np.allclose(here.gram[fold], x[mine].T @ x[mine], atol=1e-5)
        assert np.allclose(here.cross[fold], x[mine].T @ given[mine], atol=1e-5)
        assert np.allclose(here.gram[fold], whole.gram[fold], atol=1e-5)
    for name in ("sum_x", "sum_y", "gram", "cross"):
        assert np.array_equal(getattr(here, name), getattr(there, name))
