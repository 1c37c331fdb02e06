"""The evidence for and against a tag: each kind of evidence where it alone can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from tagcheck.learning import linear_probes
from tagcheck.similar import Pairs
from tagcheck.tag_columns import tag_columns
from tagcheck.tag_errors import error_model, evidence, suggestions, tag_rules
from tagcheck.tag_errors.relations import learn_relations
from tagcheck.tag_errors.suggestions import Asked


def gathered(matrix: np.ndarray, given: np.ndarray) -> evidence.Evidence:
    sparse_given = sparse.csr_matrix(given.astype(np.float32))
    around = evidence.surroundings(matrix)
    related = learn_relations(sparse_given, [str(tag) for tag in range(given.shape[1])])
    return evidence.gather(matrix, sparse_given, around, linear_probes.grouped_folds(around.labels, 5, 0), related)


def test_the_kernel_tells_a_tag_that_no_straight_line_can():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(600, 8)).astype(np.float32)
    given = np.column_stack([matrix[:, 0] * matrix[:, 1] > 0, matrix[:, 2] > 0.5])  # a chessboard, a half-space
    made = gathered(matrix, given).block(slice(0, 600))
    told = {
        name: [linear_probes.average_precision(made[name][:, t], given[:, t]) for t in (0, 1)]
        for name in ("probe", "kernel")
    }
    assert told["probe"][0] < 0.65 and told["kernel"][0] > 0.9
    assert told["probe"][1] > 0.95 and told["kernel"][1] > 0.9


def test_a_regression_on_random_waves_is_near_to_one_with_the_kernel_itself():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    waves = evidence.Waves.over(x, count=20_000)[:]
    waves -= waves.mean(axis=0)
    width = np.median(np.linalg.norm(x[rng.integers(0, 200, 2000)] - x[rng.integers(0, 200, 2000)], axis=1))
    kernel = np.exp(-0.5 * np.square(np.linalg.norm(x[:, None] - x, axis=2) / width))
    centre = np.eye(200) - 1 / 200
    approximate = 2 * (waves @ waves.T) / 20_000
    assert np.abs(approximate - centre @ kernel @ centre).max() < 0.06


def test_a_library_of_nothing_but_copies_is_examined():
    rng = np.random.default_rng(2)
    # Every neighbour of a picture is its copy.
    matrix = np.repeat(rng.normal(size=(2, 6)), 30, axis=0).astype(np.float32)
    given = np.zeros((60, 2), bool)
    given[:30, 0] = given[30:, 1] = True
    given[3, 0] = False
    seen = suggestions.examine(Asked(matrix, sparse.csr_matrix(given.astype(np.float32)), ["a", "b"]))
    found = suggestions.suggestions(seen, [frozenset("ab"[t] for t in np.flatnonzero(row)) for row in given])
    assert all(0 <= one.confidence <= 1 for one in found)


def test_a_library_of_copies_of_one_picture_is_examined():
    matrix = np.random.default_rng(2).normal(size=(40, 6)).astype(np.float32)
    given = np.arange(80).reshape(40, 2) % 3 > 0
    one, other = np.triu_indices(40, 1)
    copies = Pairs(one, other, np.full(len(one), 0.99, np.float32))
    asked = Asked(matrix, sparse.csr_matrix(given.astype(np.float32)), ["a", "b"], copies=copies)
    for numbers, some in ((None, asked), (np.zeros(40, np.uint64), replace(asked, copies=None))):
        seen = suggestions.examine(some, numbers=numbers)
        assert ((seen.verdict.error >= 0) & (seen.verdict.error <= 1)).all()


def test_what_two_declared_rules_say_of_a_tag_is_suggested_once_and_weighed_once():
    matrix = np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)
    sets = [{"kind:a"} if row % 2 else {"kind:b"} for row in range(40)]
    sets[0] |= {"kind:a", "2girls", "3girls", "4girls"}
    names = ["kind:a", "kind:b"]
    seen = suggestions.examine(Asked(matrix, tag_columns(sets, names), names))
    apart = {"kind:a": frozenset({"kind:b"}), "kind:b": frozenset({"kind:a"})}
    shipped = tag_rules.load()
    once, twice = (
        suggestions.suggestions(seen, [frozenset(one) for one in sets], replace(shipped, **more))
        for more in (
            {"namespaces": frozenset({"kind"})},
            {"namespaces": frozenset({"kind"}), "excludes": shipped.excludes | apart},
        )
    )
    tags = [one.tag for one in once if one.row == 0]
    assert sorted(set(tags)) == tags and {"2girls", "3girls", "4girls", "multiple girls"} <= set(tags)
    assert once[:] == twice[:]


def test_embeddings_of_two_numbers_are_enough_to_work_with():
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(300, 2)).astype(np.float32)
    given = np.column_stack([matrix[:, 0] > 0, matrix[:, 1] > 0])
    wrong = rng.permutation(300)[:20]
    given[wrong, 0] ^= True
    seen = suggestions.examine(Asked(matrix, sparse.csr_matrix(given.astype(np.float32)), ["a", "b"]))
    sets = [frozenset("ab"[t] for t in np.flatnonzero(row)) for row in given]
    told = [one for one in suggestions.suggestions(seen, sets) if one.confidence >= 0.5]
    assert len(told) >= 5 and np.mean([one.row in wrong and one.tag == "a" for one in told]) > 0.8


def test_a_classifier_speaks_for_what_it_judged_and_is_silent_on_the_rest():
    chance = sparse.csr_matrix(np.array([[0.9, 0.0], [0.0, 0.0], [0.0, 0.5]]))
    told = evidence.Told(np.array([1, 3]), chance, np.array([True, False, True]))
    ratios = told.ratios(slice(0, 3), np.full(2, -2.0))
    assert ratios[0, 0] > 4 and ratios[0, 1] < -4
    assert not ratios[1].any()
    assert ratios[2, 1] == 2.0
    of_another = evidence.classifiers_say([told], np.array([0, 2]), np.array([0, 2]), np.zeros(4))
    assert not of_another.any()


def test_a_picture_of_which_nothing_is_likely_has_no_cell():
    rng = np.random.default_rng(6)
    made = gathered(rng.normal(size=(60, 4)).astype(np.float32), rng.random((60, 3)) > 0.5)
    none = np.empty(0, np.int64)
    assert evidence.Block(made, np.array([3])).at(none, none).shape == (0, len(evidence.NAMES))


def test_less_memory_changes_nothing_where_all_cells_fit(monkeypatch):
    monkeypatch.setattr(suggestions, "DRAWN", 1)
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(500, 16)).astype(np.float32)
    given = (matrix @ rng.normal(size=(16, 80)) > 3).astype(np.float32)
    given[:5] = 1
    names = [str(tag) for tag in range(80)]
    asked = Asked(matrix, sparse.csr_matrix(given), names)
    much, little = (suggestions.examine(asked, memory=some) for some in (2**32, 1))
    np.testing.assert_array_equal(much.cells.column, little.cells.column)
    np.testing.assert_allclose(much.verdict.error, little.verdict.error, atol=1e-4)


def test_where_cells_do_not_fit_some_stand_for_the_unlikely_ones_and_the_same_is_said(monkeypatch):
    monkeypatch.setattr(suggestions, "DRAWN", 1)
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(1500, 16)).astype(np.float32)
    belongs = matrix @ rng.normal(size=(16, 40)) > 5
    given = sparse.csr_matrix((belongs & (rng.random(belongs.shape) > 0.1)).astype(np.float32))
    asked = Asked(matrix, given, [str(tag) for tag in range(40)])
    whole = suggestions.examine(asked)
    monkeypatch.setattr(error_model, "LEAST_LOOKED_AT", 10_000)
    monkeypatch.setattr(error_model, "FEW", 1000)
    some = suggestions.examine(asked, memory=1)
    assert (some.cells.weight == 1).sum() < 0.5 * len(whole.cells) and some.cells.given.sum() == given.nnz
    assert abs(some.cells.weight.sum() / belongs.size - 1) < 0.01
    said = []
    for seen in (whole, some):
        made = np.zeros(belongs.shape)
        made[seen.cells.row, seen.cells.column] = seen.verdict.error * (seen.cells.weight == 1)
        said.append(made)
    assert (said[0] > 0.5).sum() > 100 and np.abs(said[0] - said[1]).max() < 0.1


def test_where_nearly_all_cells_fit_they_are_looked_at():
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(200, 16)).astype(np.float32)
    given = sparse.csr_matrix((matrix @ rng.normal(size=(16, 20)) > 3).astype(np.float32))
    found = suggestions.gather(Asked(matrix, given, [str(tag) for tag in range(20)])).found
    assert given.nnz > 10
    assert error_model._cut(found, rng, 200 * 20 - 10) == -np.inf


def test_few_pictures_are_judged_by_the_mean_of_several_draws_of_the_folds_and_many_by_one(monkeypatch):
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(90, 16)).astype(np.float32)
    given = sparse.csr_matrix((matrix @ rng.normal(size=(16, 20)) > 3).astype(np.float32))
    asked = Asked(matrix, given, [str(tag) for tag in range(20)])
    several = suggestions.gather(asked)
    monkeypatch.setattr(suggestions, "DRAWN", 1)
    each = []
    for seed in range(suggestions.DRAWS):
        monkeypatch.setattr(suggestions, "SEED", seed)
        each.append(suggestions.gather(asked))
    assert all(one.of_one_draw is None for one in each)
    probe = evidence.NAMES.index("probe")
    values = [one.cells.features for one in each]
    assert np.abs(values[0] - values[1])[:, probe].max() > 0.1
    np.testing.assert_array_equal(several.of_one_draw, values[0])
    np.testing.assert_allclose(several.cells.features, np.mean(values, axis=0), atol=1e-4)


def test_the_votes_of_neighbours_add_up_where_some_are_copies_and_leave_the_neighbours_in_their_order():
    matrix = np.random.default_rng(3).normal(size=(60, 6)).astype(np.float32)
    matrix[1::4] = matrix[::4]
    around = evidence.surroundings(matrix)
    before = around.indices.copy()
    votes, total = evidence.Votes.of(around)[np.arange(len(matrix))]
    assert np.allclose(np.asarray(votes.sum(axis=1)).ravel(), total) and (around.indices == before).all()


def test_meetings_of_tags_do_not_depend_on_how_many_are_counted_at_a_time(monkeypatch):
    monkeypatch.setattr(tag_rules, "TAGS_AT_ONCE", 7)
    right = sparse.random(60, 20, 0.3, "csr", random_state=0)
    one, other = np.random.default_rng(0).integers(0, 20, (2, 50))
    np.testing.assert_allclose(tag_rules.meetings_of(right, one, other), (right.T @ right).toarray()[one, other])
