"""Only what has changed is weighed anew, and that says what weighing all says, nearly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from tagcheck.tag_errors import renewal, suggestions
from tagcheck.tag_errors.renewal import Known, Now
from tagcheck.tag_errors.suggestions import Asked, Examined

N, TAGS, NEW, GONE = 600, 12, 9, 3


def library(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    has = rng.random((n, TAGS)) < 0.25
    matrix = has @ rng.normal(size=(TAGS, 24)) + rng.normal(size=(n, 24))
    has &= rng.random(has.shape) > 0.1
    matrix[10], has[10] = matrix[9] + 1e-3, has[9]  # copies
    return matrix.astype(np.float32), has


def examined(matrix: np.ndarray, has: np.ndarray, numbers: np.ndarray) -> Examined:
    return suggestions.examine(asked(matrix, has), numbers=numbers)


def asked(matrix: np.ndarray, has: np.ndarray) -> Asked:
    return Asked(matrix, sparse.csr_matrix(has.astype(np.float32)), [f"t{k}" for k in range(TAGS)])


def errors(seen: Examined) -> dict[tuple[int, int], float]:
    kept = np.flatnonzero(seen.cells.given | (seen.verdict.error > 0.01))
    return {(int(seen.cells.row[k]), int(seen.cells.column[k])): float(seen.verdict.error[k]) for k in kept}


def apart(one: Examined, other: Examined) -> np.ndarray:
    a, b = errors(one), errors(other)
    return np.array([abs(a.get(cell, 0.0) - b.get(cell, 0.0)) for cell in a.keys() | b.keys()])


@pytest.fixture(scope="module")
def changed() -> tuple[Known, Now]:
    """What is kept of `N` pictures, and these with some gone, some new, one that has another tag and one that is a new copy."""
    matrix, has = library(N + NEW)
    numbers = np.random.default_rng(1).integers(2**63, size=N + NEW, dtype=np.uint64)
    known = Known.of(examined(matrix[:N], has[:N], numbers[:N]))
    before = np.r_[np.arange(N), np.full(NEW, -1)][GONE:]
    matrix[N] = matrix[20] + 1e-3
    has[50, 0] ^= True
    given = sparse.csr_matrix(has[GONE:].astype(np.float32))
    return known, Now(before, before < 0, numbers[GONE:], matrix[GONE:], given)


def test_it_says_what_weighing_all_says(changed):
    known, now = changed
    known = over(known, now)
    gathered, rows = renewal.renewed(known, now)
    assert set(rows) >= {50 - GONE, 20 - GONE, *range(N - GONE, N - GONE + NEW)} and len(rows) < 2 * NEW
    has = now.given.toarray() > 0
    again = suggestions.concluded(gathered, asked(now.matrix, has), known.single, known.exclusions)
    full = examined(now.matrix, has, now.numbers)
    assert apart(again, full).mean() < 0.01 and np.quantile(apart(again, full), 0.99) < 0.15
    assert full.gathered is not None and np.mean(gathered.folds == full.gathered.folds) > 0.98
    near = full.around.indices
    assert np.mean([len(np.intersect1d(*pair)) for pair in zip(again.around.indices, near)]) > 0.98 * near.shape[1]


def test_much_that_has_changed_is_weighed_in_full(changed):
    known, now = changed
    with pytest.raises(renewal.TooMuch, match="300 of 606 pictures are new or embedded anew, and 0 are gone"):
        renewal.renewed(known, replace(now, before=np.r_[np.arange(N), np.full(6, -1)], fresh=np.arange(606) < 300))
    odd = now.given.toarray()
    odd[:, 0] = 1
    with pytest.raises(renewal.TooMuch, match="1 tag is used far more or less"):
        renewal.renewed(known, replace(now, given=sparse.csr_matrix(odd)))


def over(known: Known, now: Now) -> Known:
    """As it is read: with the embeddings of now."""
    found = known.gathered.found
    probe, context = (replace(one, inputs=now.matrix) for one in (found.probe, found.context))
    kernel = replace(found.kernel, inputs=replace(found.kernel.inputs, matrix=now.matrix))
    found = replace(found, matrix=now.matrix, probe=probe, context=context, kernel=kernel)
    return replace(known, gathered=replace(known.gathered, found=found))
