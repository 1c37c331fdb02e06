"""Which copy is best and what a tag on one copy means, on cases that can be checked in the head."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from tagcheck.best_copy import ALL_ALIKE, best_copy
from tagcheck.dataset import Record
from tagcheck.duplicates import tags_to_share, threshold
from tagcheck.learning.last_layer import Tagger


def copy(name: str, *tags: str, **raw: object) -> Record:
    return Record(name, frozenset(tags), raw=raw)


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        ({"width": 20, "height": 10, "size": 5}, {"width": 10, "height": 10, "size": 9}, "most pixels (20 x 10)"),
        (
            {"width": 9, "height": 9, "mime": "image/png", "size": 5},
            {"width": 9, "height": 9, "mime": "image/jpeg", "size": 7},
            "a lossless format (image/png)",
        ),
        (
            {"width": 9, "height": 9, "mime": "image/jpeg", "size": 7000},
            {"width": 9, "height": 9, "mime": "image/jpeg", "size": 5},
            "the largest file (7,000 bytes)",
        ),
        ({"size": 7}, {"size": 5, "width": 10, "height": 10}, "the largest file (7 bytes)"),
        ({"time_imported": 86400}, {"time_imported": 86401}, "imported first (1970-01-02)"),
        (
            {"pixel_hash": "ff", "size": 5},
            {"pixel_hash": "ff", "size": 7},
            "the smallest file of the same pixels (5 bytes)",
        ),
        (
            {"pixel_hash": "ff", "mime": "image/jpeg", "size": 7, "time_imported": 1},
            {"pixel_hash": "ff", "mime": "image/png", "size": 5, "time_imported": 2},
            "imported first (1970-01-01)",
        ),
    ],
)
def test_the_better_copy_is_named_with_the_deciding_reason(better, worse, reason):
    assert best_copy([copy("b", **worse), copy("a", **better)]) == (1, [reason])
    assert best_copy([copy("a", **better), copy("b", **worse)]) == (0, [reason])


def test_reasons_add_up_until_one_copy_is_left():
    many = [
        copy("a", width=2, height=2, size=9),
        copy("b", width=3, height=3, size=4),
        copy("c", "hat", width=3, height=3, size=4),
    ]
    assert best_copy(many) == (2, ["most pixels (3 x 3)", "most tags (1)"])


def test_equal_copies_are_not_told_apart_by_force():
    assert best_copy([copy("a"), copy("b")]) == (
        0,
        ["no copy is better by pixels, format, size, tags or time of import"],
    )


def library(seed: int = 0, n: int = 400) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Pictures of four kinds that are easy to see; tag k is on nearly all pictures of kind k, tag 4 on any."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 4
    matrix = (np.eye(12)[kind] * 4 + rng.normal(size=(n, 12)) + 3).astype(np.float32)
    owned = np.column_stack([(kind == one) & (rng.random(n) < 0.9) for one in range(4)] + [rng.random(n) < 0.3])
    return matrix, sparse.csr_matrix(owned.astype(np.float32))


def nearest(matrix: np.ndarray, labels: np.ndarray, k: int = 24) -> np.ndarray:
    """The `k` rows most like each, seen from the middle of all, -1 for those of its own label."""
    centred = matrix - matrix.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    near = np.argsort(-(unit @ unit.T), axis=1)[:, :k]
    return np.where(labels[near] == labels[:, None], -1, near)


def test_differences_are_those_of_the_sets():
    _, owned = library()
    rng = np.random.default_rng(1)
    i, j = rng.integers(400, size=(2, 5000))
    sets = [set(np.flatnonzero(row)) for row in owned.toarray()]
    expected = [
        (pair, int(tag), int(tag in sets[b]))
        for pair, (a, b) in enumerate(zip(i, j))
        for tag in sorted(sets[a] ^ sets[b])
    ]
    assert list(zip(*(part.tolist() for part in tags_to_share.differences(owned, i, j)))) == expected


def test_without_pairs_nothing_differs_and_nothing_is_asked():
    matrix, owned = library()
    none = np.empty(0, np.int64)
    assert [len(part) for part in tags_to_share.differences(owned, none, none)] == [0, 0, 0]
    assert len(tags_to_share.support(matrix, owned, np.full((400, 3), -1), none, none, None).having) == 0
    assert tags_to_share.forgetting(owned, none, none, 0) == tags_to_share.FORGETTING[0]


def test_forgetting_is_recovered_from_pairs_that_forget():
    rng = np.random.default_rng(2)
    belongs = rng.random((3000, 20)) < 0.3
    owned = sparse.csr_matrix((np.repeat(belongs, 2, axis=0) & (rng.random((6000, 20)) > 0.2)).astype(np.float32))
    i, j = np.arange(0, 6000, 2), np.arange(1, 6000, 2)
    apart = len(tags_to_share.differences(owned, i, j)[0])
    assert tags_to_share.forgetting(owned, i, j, apart) == pytest.approx(0.2, abs=0.01)


def test_neighbours_are_asked_and_copies_of_the_picture_are_not():
    matrix, owned = library()
    labels = np.arange(400)
    labels[:200] = np.arange(200) // 2 * 2
    rows, columns = np.repeat(np.arange(0, 400, 7), 5), np.tile(np.arange(5), 58)
    near = nearest(matrix, labels)
    said = tags_to_share.support(matrix, owned, near, rows, columns, None)
    for row, column, having, asked in zip(rows, columns, said.having, said.asked):
        order = [other for other in near[row] if other >= 0]
        assert (having, asked) == (owned.toarray()[order, column].sum(), len(order))
    assert (said.asked[: 5 * 29] < 24).all() and (said.asked[-5:] == 23).all()


def test_the_tagger_is_asked_where_it_knows_the_tag():
    matrix, owned = library()
    tagger = Tagger(np.array([2]), np.eye(12, dtype=np.float32)[[2]], np.array([-5.0], dtype=np.float32))
    nobody = np.empty((400, 0), dtype=np.int32)
    said = tags_to_share.support(matrix, owned, nobody, np.array([2, 2]), np.array([2, 3]), tagger)
    assert said.tagger[0] == pytest.approx(1 / (1 + np.exp(5 - matrix[2, 2])), rel=1e-5) and np.isnan(said.tagger[1])


def test_the_more_an_owner_forgets_the_likelier_a_tag_of_one_copy_belongs_on_both():
    by_hand = 0.1 * 0.1 * 0.9 / (0.1 * 0.1 * 0.9 + 0.9 * 0.003 * 0.997)
    chance = tags_to_share.belongs_on_both(np.array([0.1, 0.1]), 0.1)
    assert chance[0] == pytest.approx(by_hand) and tags_to_share.belongs_on_both(np.array([0.1]), 0.02)[0] < chance[0]


def test_precision_and_recall_by_threshold_are_counted():
    table = threshold.precision_by_threshold(
        np.array([0.915, 0.925, 0.925, 0.965, 0.995], dtype=np.float32),
        np.array([0.0, 1.0, 0.0, 1.0, 1.0]),
        4,
        lowest=0.915,
    )
    by_threshold = {row["threshold"]: (row["pairs"], row["precision"], row["recall"]) for row in table}
    assert by_threshold[0.915] == (5, 0.6, 0.75) and by_threshold[0.92] == (4, 0.75, 0.75)
    assert by_threshold[0.995] == (1, 1.0, 0.25)
    assert min(by_threshold) == 0.915 and max(by_threshold) == 0.995 and by_threshold[0.96] == (2, 1.0, 0.5)
    assert threshold.calibrated_threshold(table, 0.7) == 0.92 and threshold.calibrated_threshold(table[:1], 0.7) is None


def test_judged_pairs_need_not_be_drawn_evenly():
    rng = np.random.default_rng(3)
    cosine = rng.uniform(0.9, 1, size=4000)
    copy = rng.random(4000) < (cosine - 0.9) * 10
    judged = rng.random(4000) < np.where(cosine > 0.97, 0.5, 0.05)
    chance = threshold.copy_chance(cosine, cosine[judged], copy[judged])
    assert abs(chance.mean() - copy.mean()) < 0.05 < abs(copy[judged].mean() - copy.mean())
    assert (np.diff(chance[np.argsort(cosine)]) >= 0).all()


def test_pictures_that_only_look_alike_are_less_likely_copies_the_more_their_tags_differ():
    rng = np.random.default_rng(0)
    owned = sparse.csr_matrix((rng.random((60, 12)) < 0.4).astype(np.float32)).tolil()
    owned[1], owned[3] = owned[0], 1 - owned[2].toarray()
    matrix = rng.normal(size=(60, 8)).astype(np.float32)
    near = nearest(matrix, np.arange(60))
    chance = tags_to_share.copy_chance_by_tags(owned.tocsr(), np.array([0, 2]), np.array([1, 3]), matrix, near)
    assert chance[0] > 0.8
    assert chance[1] < 0.2
