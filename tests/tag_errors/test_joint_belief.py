"""Tags that bear on each other are weighed together: swaps, pictures of two series, children and their parents."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit

from tagcheck.learning.linear_probes import logit
from tagcheck.tag_errors import evidence, joint_belief
from tagcheck.tag_errors.error_model import Cells, Rate, Verdict
from tagcheck.tag_errors.joint_belief import Habits, settle
from tagcheck.tag_errors.relations import Relations, learn_relations

MISS, WRONG = 0.1, 0.001
NOTHING = np.empty(0, dtype=np.int64)


def one_space(tags: int) -> Relations:
    """All tags in one namespace, nothing else."""
    space = np.zeros(tags, dtype=np.int64)
    pairs = NOTHING.reshape(0, 2)
    return Relations(("series",), space, np.array([False]), pairs, NOTHING, NOTHING, np.empty(0), np.empty(0))


def weighed(given: np.ndarray, belongs: np.ndarray, relations: Relations) -> tuple[np.ndarray, Habits]:
    """The error (n, T) of each cell, of pictures whose tags by themselves are believed by Bayes, and the habits."""
    n, tags = given.shape
    row, column = np.repeat(np.arange(n), tags), np.tile(np.arange(tags), n)
    cells = Cells(
        row, column, np.zeros((n * tags, len(evidence.NAMES)), np.float32), given.ravel(), np.ones(n * tags, np.float32)
    )
    pi = belongs.ravel()
    shows = pi * np.where(cells.given, 1 - MISS, MISS)
    truth = shows / (shows + (1 - pi) * np.where(cells.given, WRONG, 1 - WRONG))
    error = np.where(cells.given, 1 - truth, truth)
    rate = np.full(n * tags, MISS)
    verdict = Verdict(
        pi, rate, np.full(n * tags, WRONG), error, Rate(MISS, MISS, 1.0), Rate(0.01, 0.01, 1.0), np.ones(tags)
    )
    made, habits = settle(cells, verdict, relations, np.maximum(given.mean(axis=0), 0.01))
    return made.error.reshape(n, tags), habits


def pictures(
    *kinds: tuple[int, set[int], set[int]], tags: int = 4, low: float = 0.0001
) -> tuple[np.ndarray, np.ndarray]:
    """(written, how likely by the evidence), (n, tags): for each kind how many, what is written, what they look like."""
    given, belongs = [], []
    for count, written, looks in kinds:
        given += [[tag in written for tag in range(tags)]] * count
        belongs += [[0.6 if tag in looks else low for tag in range(tags)]] * count
    return np.array(given), np.array(belongs)


@pytest.mark.parametrize(
    "missing, wrong, expected",
    [
        (0.5215, 0.5196, (True, False)),  # it belongs on both
        (0.51, 0.55, (False, True)),  # on neither
        (0.999, 0.999, (True, True)),  # then they are two pictures
        (0.4, 0.9, (False, True)),
    ],
)
def test_a_tag_is_not_missing_on_a_picture_and_wrong_on_its_copy(missing, wrong, expected):
    error, given = np.array([missing, wrong, 0.9]), np.array([False, True, True])
    cells = Cells(np.arange(3), np.zeros(3, np.int64), np.zeros((3, 1), np.float32), given, np.ones(3, np.float32))
    verdict = Verdict(error, error, error, error, Rate(MISS, MISS, 1.0), Rate(0.01, 0.01, 1.0), np.ones(1))
    twins = sparse.csr_matrix(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], np.float32))
    made = joint_belief.of_one_mind(cells, verdict, twins).error
    assert tuple(made[:2] >= 0.5) == expected and made[2] == 0.9
    if expected == (True, False):
        assert made[0] + made[1] == pytest.approx(1)


PLAIN = [(40, {tag}, {tag}) for tag in range(4)]


def test_a_tag_that_is_often_written_for_another_is_suspected_more_than_one_that_never_is():
    error, _ = weighed(*pictures(*PLAIN, (12, {1}, {0}), (1, {3}, {0}), low=0.02), one_space(4))
    usual, rare = error[160], error[-1]
    assert usual[0] > rare[0] + 0.1  # the tag that is missing
    assert usual[1] > rare[3] + 0.1  # the tag that stands in its place


def test_less_is_said_of_a_tag_that_stands_alone_than_of_one_beside_a_right_one():
    row, column = np.array([0, 1, 1, 2, 2]), np.array([0, 0, 1, 0, 1])
    cells = Cells(row, column, np.zeros((5, 1), np.float32), np.arange(5) < 4, np.ones(5, np.float32))
    error = np.array([0.9, 0.9, 0.1, 0.9, 0.1])  # alone, beside a right one, and beside one that is not written
    made = joint_belief._as_far_as_it_shows(error, cells, np.full(2, 0.6), one_space(2), np.log([0.01]))
    np.testing.assert_allclose(made[[0, 3]], expit(0.6**joint_belief.POWER * logit(0.9)))
    assert made[0] < 0.75 < made[1] < 0.9


def test_without_swaps_the_tags_are_left_alone():
    error, habits = weighed(*pictures(*PLAIN), one_space(4))
    assert error.max() < 0.05
    assert habits.swapped["series"] <= 0.02


def test_tags_that_the_evidence_confuses_are_not_swapped():
    confused = (30, {2}, {0})  # looks like the first more or less, and is not it
    given, belongs = pictures(*PLAIN, confused)
    belongs[160:, 0], belongs[160:, 2] = 0.4, 0.05
    _, habits = weighed(given, belongs, one_space(4))
    assert habits.swapped["series"] < 0.015


@pytest.mark.parametrize("share", [0.05, 0.15, 0.4])
def test_two_series_that_both_show_are_both_right_however_many_cross(share):
    crossing = max(int(160 * share), 1)
    error, _ = weighed(*pictures(*PLAIN, (crossing, {0, 1}, {0, 1}), (1, {2, 3}, {2})), one_space(4))
    assert error[160 : 160 + crossing, :2].max() < 0.2
    assert error[-1, 3] > 0.5  # the one that does not show is still wrong
    assert error[-1, 2] < 0.2


@pytest.mark.parametrize("without", [0, 1260])
def test_two_tags_meet_at_most_as_often_as_by_chance_among_the_pictures_that_have_one(without):
    beside = [(60, {tag, (tag + 1) % 3}, {tag}) for tag in range(3)]
    given, belongs = pictures(*((300, {tag}, {tag}) for tag in range(3)), *beside, (without, set(), set()), low=0.0003)
    _, habits = weighed(given, belongs, one_space(4))
    assert habits.meeting["series"] == pytest.approx(1 if not without else len(given) / 1260, rel=0.03)


def test_what_is_for_one_of_two_values_and_against_the_other_counts_once():
    """The evidence takes 1 in 25 pictures for the other kind; each picture is of one of both, and nothing is wrong."""
    kind = np.arange(500) % 2
    looks = np.where(np.arange(500) < 20, 1 - kind, kind)
    given, belongs = (np.arange(2) == one[:, None] for one in (kind, looks))
    error, _ = weighed(given, np.where(belongs, 0.96, 0.04), one_space(2))
    assert error.max() < 0.3


def test_the_chance_that_two_cross_is_a_pairs_own():
    """A series and its part nearly always go together; a pair that never did before has to show more."""
    often = (60, {0, 1}, {0, 1})
    given, belongs = pictures(*PLAIN, often, (1, {0, 1}, {0}), (1, {0, 2}, {0}))
    error, _ = weighed(given, belongs, one_space(4))
    assert error[-2, 1] < error[-1, 2] - 0.2


def test_swaps_are_found_as_before_where_pictures_cross():
    swaps = (8, {1}, {0})
    without, _ = weighed(*pictures(*PLAIN, swaps), one_space(4))
    beside, _ = weighed(*pictures(*PLAIN, swaps, (12, {2, 3}, {2, 3})), one_space(4))
    assert without[160, 1] > 0.8
    assert beside[160, 1] > 0.8


def test_what_is_weighed_is_the_sum_over_all_sets():
    rng = np.random.default_rng(0)
    odds, says, met = rng.normal(size=(1, 3)), rng.normal(size=(1, 3)), np.zeros((1, 3, 3))
    met[0, 0, 1], met[0, 1, 2] = -1.0, 2.0
    belief = joint_belief._weigh(odds, says, met, np.zeros((1, 3, 3)), np.zeros((1, 3, 3)), np.zeros((1, 3)))[0][0]
    weight = {}
    for members in product((0, 1), repeat=3):
        z = np.array(members)
        weight[members] = np.exp(z @ (odds + says)[0] - z[0] * z[1] + 2 * z[1] * z[2])
    total = sum(weight.values())
    slow = [sum(value for members, value in weight.items() if members[tag]) / total for tag in range(3)]
    np.testing.assert_allclose(belief, slow)


def child_and_parent(stroke: float) -> Relations:
    """Tag 1 follows from tag 0."""
    alone, one = np.full(2, -1, dtype=np.int64), np.array([1], dtype=np.int64)
    pairs = NOTHING.reshape(0, 2)
    return Relations((), alone, np.empty(0, bool), pairs, one - 1, one, np.array([stroke]), np.array([0.01]))


def test_a_wrong_child_takes_the_parent_with_it_that_it_brought():
    given, belongs = np.array([[True, True]]), np.array([[0.0005, 0.02]])
    brought, _ = weighed(given, belongs, child_and_parent(1.0))
    by_hand, _ = weighed(given, belongs, child_and_parent(0.0))
    assert brought[0].min() > 0.5
    assert by_hand[0, 1] < 0.1  # whoever wrote the parent by hand meant it


def test_a_right_child_is_right_about_its_parent():
    error, _ = weighed(np.array([[True, False]]), np.array([[0.9, 0.05]]), child_and_parent(0.0))
    assert error[0, 1] > 0.9  # the parent is missing
    assert error[0, 0] < 0.1


def test_belief_in_a_child_is_what_its_own_evidence_says_whatever_the_parent():
    for parent in (0.02, 0.5, 0.9):
        error, _ = weighed(np.array([[True, True]]), np.array([[0.01, parent]]), child_and_parent(1.0))
        alone = expit(logit(np.array(0.01)) + np.log((1 - MISS) / WRONG))
        assert error[0, 0] == pytest.approx(1 - alone, abs=0.03)


def test_a_parent_that_never_stands_alone_is_missing_only_where_its_child_is():
    """The evidence sees the parent better than the child; on the last picture neither is written."""
    both = [(True, True, 0.8, 0.95)] * 60
    by_itself = [(False, True, 0.004, 0.95)] * 60
    last = [(False, False, 0.02, 0.95)]
    said = {}
    for name, rows in (("never", both + both + last), ("often", both + by_itself + last)):
        table = np.array(rows)
        error, _ = weighed(table[:, :2] > 0, table[:, 2:], child_and_parent(1.0))
        said[name] = error[-1, 1]
    assert said["often"] > 0.5
    assert said["never"] < said["often"] / 2


def written(n: int, **tags: np.ndarray) -> tuple[sparse.csr_matrix, list[str]]:
    columns = np.column_stack([tags[name] for name in tags]).astype(np.float32)
    assert len(columns) == n
    return sparse.csr_matrix(columns), list(tags)


def test_a_parent_that_is_always_there_is_told_from_a_tag_that_mostly_is():
    rng = np.random.default_rng(0)
    n = 3000
    child, other = rng.random(n) < 0.08, rng.random(n) < 0.08
    parent, often = child | (rng.random(n) < 0.1), (other & (rng.random(n) < 0.93)) | (rng.random(n) < 0.1)
    given, names = written(n, child=child, parent=parent, other=other, often=often)
    found = learn_relations(given, names)
    assert [(names[c], names[p]) for c, p in zip(found.child, found.parent)] == [("child", "parent")]
    bears = found.bearing(slice(0, 4))
    assert np.argwhere(np.triu(bears, 1)).tolist() == [[0, 1]]
    np.testing.assert_array_equal(found.bearing(slice(1, 3)), bears.T[1:3])


def test_tags_that_mostly_come_with_another_are_told_from_those_written_by_hand():
    child, alone = np.arange(300) < 30, np.arange(300) >= 280
    given, names = written(300, child=child, parent=child | alone, seldom=child | (np.arange(300) >= 200))
    found = learn_relations(given, names, {"child": ["parent", "seldom"]})
    assert found.mostly_brought(given).tolist() == [False, True, False]


def test_what_nearly_every_picture_has_follows_from_no_tag():
    n = 116
    trigger, freckles, curly = np.arange(n) >= 0, np.arange(n) >= 2, np.arange(n) >= 9
    weapon, sword = np.arange(n) < 70, np.arange(n) < 60
    given, names = written(n, trigger=trigger, freckles=freckles, curly=curly, weapon=weapon, sword=sword)
    found = learn_relations(given, names)
    assert [(names[child], names[parent]) for child, parent in zip(found.child, found.parent)] == [("sword", "weapon")]


def test_declared_parents_count_however_rare_they_are():
    rng = np.random.default_rng(1)
    child = np.arange(300) < 3
    given, names = written(300, child=child, parent=child | (rng.random(300) < 0.1))
    assert not len(learn_relations(given, names).child)
    found = learn_relations(given, names, {"child": ["parent", "unknown"]})
    assert found.stroke.tolist() == [1.0]


def test_only_namespaces_of_few_values_are_weighed_together():
    rng = np.random.default_rng(2)
    many = {f"look:{k}": rng.random(400) < 0.5 for k in range(12)}
    few = {f"series:{k}": np.arange(400) % 5 == k for k in range(4)}
    given, names = written(400, **many, **few)
    assert learn_relations(given, names).spaces == ("series",)
