"""Pairs are kept between runs: what changed is compared anew, and the result is always that of comparing everything."""

from __future__ import annotations

import numpy as np
import pytest

from tagcheck.duplicates import kept_pairs
from tagcheck.embedding import Embeddings
from tagcheck.similar import pairs

N, THRESHOLD = 1500, 0.9


def library(seed: int, n: int = N) -> Embeddings:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, 24)).astype(np.float32)
    matrix[n // 2 :: 3] = matrix[: n // 2 : 3][: len(matrix[n // 2 :: 3])] + 0.05
    return Embeddings([f"{number:064x}" for number in range(n)], matrix, "m", None)


def some(found: Embeddings, rows: np.ndarray) -> Embeddings:
    return Embeddings([found.hashes[row] for row in rows], found.matrix[rows], "m", None)


def same_as_from_nothing(found: Embeddings, made: pairs.Pairs) -> None:
    plain = pairs.near_pairs(found.matrix, THRESHOLD)
    assert np.array_equal(plain.i, made.i) and np.array_equal(plain.j, made.j) and len(plain) > 100
    assert np.allclose(plain.cosine, made.cosine, atol=1e-6)


def test_only_what_is_new_gone_or_embedded_anew_is_compared_again(tmp_path):
    every, rng = library(0), np.random.default_rng(1)
    first = some(every, np.sort(rng.permutation(N)[: N - 100]))
    made = kept_pairs.near_pairs(tmp_path, first, THRESHOLD)
    assert made.anew == N - 100
    same_as_from_nothing(first, made.pairs)
    assert kept_pairs.near_pairs(tmp_path, first, THRESHOLD).anew == 0

    later = some(every, rng.permutation(N)[: N - 20])  # in another order, some gone, some new
    new = len(set(later.hashes) - set(first.hashes))
    later.matrix[:7] = later.matrix[7:14] + 0.01  # embedded anew
    embedded = sum(hash in set(first.hashes) for hash in later.hashes[:7])
    made = kept_pairs.near_pairs(tmp_path, later, THRESHOLD)
    assert made.anew == new + embedded < 120
    same_as_from_nothing(later, made.pairs)


def test_another_threshold_many_new_pictures_or_a_damaged_file_begin_anew(tmp_path):
    every = library(0)
    kept_pairs.near_pairs(tmp_path, some(every, np.arange(N // 2)), THRESHOLD)
    assert kept_pairs.near_pairs(tmp_path, every, THRESHOLD).anew == N
    assert kept_pairs.near_pairs(tmp_path, every, 0.95).anew == N
    file = tmp_path / kept_pairs.FILE
    for damaged in (b"", b"PK\x03\x04", file.read_bytes()[:-200], file.read_bytes().replace(b"cosine", b"cosina")):
        file.write_bytes(damaged)
        made = kept_pairs.near_pairs(tmp_path, every, THRESHOLD)
        assert made.anew == N
        same_as_from_nothing(every, made.pairs)


def test_too_many_pairs_are_refused_as_without_what_was_kept(tmp_path):
    every = library(0)
    kept_pairs.near_pairs(tmp_path, some(every, np.arange(N - 100)), THRESHOLD)
    with pytest.raises(pairs.TooManyPairs, match="more than 50 pairs"):
        kept_pairs.near_pairs(tmp_path, every, THRESHOLD, limit=50)


@pytest.mark.parametrize("spread", (0.3, 3.0))
def test_a_few_hundred_new_rows_among_thousands_have_the_pairs_that_all_comparisons_find(spread):
    """The short form of rows rules out most of them where they lie in clusters (.3), and hardly any where they lie anywhere (3)."""
    rng = np.random.default_rng(0)
    rows = (
        rng.normal(size=(12, 160))[rng.integers(12, size=6000)] + spread * rng.normal(size=(6000, 160)) / 4 + 0.5
    ).astype(np.float32)
    copied = rng.permutation(6000)[:300]
    rows[copied] = rows[(copied + 1) % 6000] + rng.normal(size=(300, 160)).astype(np.float32) * 0.05
    rows[7] = 0
    every, fresh = pairs.near_pairs(rows, 0.95, "torch"), np.sort(np.append(rng.permutation(6000)[:400], 7))
    known = every.part(~(np.isin(every.i, fresh) | np.isin(every.j, fresh)))
    found = pairs.with_fresh(rows, 0.95, known, np.unique(fresh))
    assert len(known) < len(every) and found.i.tolist() == every.i.tolist() and found.j.tolist() == every.j.tolist()
    assert np.allclose(found.cosine, every.cosine, atol=1e-6)
