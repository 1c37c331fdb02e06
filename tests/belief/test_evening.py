"""The judge of what decisions do to the belief decides what the page would show first, and judges the rest."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from benchmarks.belief_decided import evening, first_cards
from benchmarks.belief_judges import Judge
from tagcheck.tag_errors import Rules, suggestions
from tagcheck.tag_errors.error_model import Cells
from tagcheck.tag_errors.suggestions import Asked, Gathered


def test_a_card_is_all_that_is_listed_of_one_picture_and_the_surest_picture_comes_first():
    row = np.array([0, 0, 1, 1, 2, 3])
    cells = Cells(row, np.arange(6), np.zeros((6, 1)), np.zeros(6, bool), np.array([1, 1, 1, 1, 1, 9.0]))
    error, known = np.array([0.6, 0.1, 0.9, 0.5, 0.7, 1.0]), np.ones(6, dtype=bool)
    assert first_cards(cells, error, known, 1).tolist() == [2, 3]
    assert first_cards(cells, error, known, 2).tolist() == [2, 3, 4]
    assert first_cards(cells, error, known, 9).tolist() == [0, 2, 3, 4]
    assert first_cards(cells, error, known & (row != 1), 1).tolist() == [4]


def library(n: int = 300) -> Judge:
    rng = np.random.default_rng(0)
    truth = rng.random((n, 6)) < 0.3
    matrix = truth @ rng.normal(size=(6, 12)) + rng.normal(size=(n, 12)) * 0.3
    given = (truth & (rng.random((n, 6)) > 0.15)) | (rng.random((n, 6)) < 0.02)
    tags = [f"tag {k}" for k in range(6)]
    return Judge("drawn", tags, truth, given, matrix.astype(np.float32), np.ones((n, 6), dtype=bool))


def test_what_was_decided_is_not_judged_and_what_was_accepted_is_applied():
    judge = library()

    def gather(judge: Judge, before: np.ndarray | None) -> tuple[np.ndarray, Gathered]:
        given, written = (
            None if one is None else sparse.csr_matrix(one.astype(np.float32)) for one in (judge.given, before)
        )
        asked = Asked(judge.matrix, given, judge.tags, written=written)
        return np.arange(6), suggestions.gather(asked, Rules())

    before, decided, applied = evening(judge, gather, 20)
    left = ~before[1].judged
    assert 20 <= left.sum() < 60 and np.array_equal(before[1].given, judge.given)
    assert (before[2][left] >= 0.5).all() and before[2].shape == decided[2].shape == applied[2].shape
    assert np.array_equal(left, ~decided[1].judged) and np.array_equal(left, ~applied[1].judged)
    moved = applied[1].given != judge.given
    assert moved.any() and np.array_equal(moved, left & (judge.truth != judge.given))
