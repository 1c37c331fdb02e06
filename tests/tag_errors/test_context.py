"""The regression on embedding and other tags: the same as the textbook's where all tags fit, near to it where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from tagcheck.learning import linear_probes
from tagcheck.tag_errors import context
from tagcheck.tag_errors.relations import Relations, learn_relations


def library(n: int = 1500, tags: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, 12) and tags (n, T), each of one topic or two, so that tags are evidence for each other."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(n, 12)).astype(np.float32)
    topics = rng.normal(size=(n, 8))
    wanted = matrix @ rng.normal(size=(12, tags)) * 0.3 + topics @ (
        rng.normal(size=(8, tags)) * (rng.random((8, tags)) < 0.2)
    )
    level = np.quantile(wanted, 1 - rng.uniform(0.02, 0.2, tags), axis=0).diagonal()
    return matrix, (wanted + 0.5 * rng.normal(size=wanted.shape) > level).astype(np.float32)


def textbook(matrix: np.ndarray, given: np.ndarray, folds: np.ndarray, related: Relations, alpha: float) -> np.ndarray:
    """Each tag by one ridge regression a fold on the embedding and all tags that do not bear on it, out of fold."""
    out = np.zeros(given.shape)
    tags = given.shape[1]
    for fold in np.unique(folds):
        train = folds != fold
        middle = matrix[train].mean(axis=0)
        x, y = matrix[train] - middle, given[train] - given[train].mean(axis=0)
        of_tags = context.LEAST_PENALTY + context.PENALTY * np.square(y).sum() / tags
        for tag in range(tags):
            free = ~related.bearing(slice(tag, tag + 1))[0] & (np.arange(tags) != tag)
            inputs = np.column_stack([x, y[:, free]]).astype(np.float64)
            penalty = np.r_[np.full(x.shape[1], alpha * np.square(x).sum() / x.shape[1]), np.full(free.sum(), of_tags)]
            weights = np.linalg.solve(inputs.T @ inputs + np.diag(penalty), inputs.T @ y[:, tag])
            held = np.column_stack(
                [matrix[~train] - middle, given[~train][:, free] - given[train][:, free].mean(axis=0)]
            )
            out[~train, tag] = held @ weights + given[train, tag].mean()
    return out


@pytest.mark.parametrize(("most", "near"), [(90, 2e-4), (64, 0.2), (32, 0.35)])
def test_scores_are_those_of_the_textbook_within_a_bound(most, near):
    matrix, given = library()
    folds = np.arange(len(matrix)) % 3
    names = [f"series:{tag}" if tag < 6 else str(tag) for tag in range(given.shape[1])]
    related = learn_relations(sparse.csr_matrix(given), names, single=frozenset(["series"]))
    sums = linear_probes.moments(matrix, sparse.csr_matrix(given), folds)
    made, summed = context.learn(sums, folds, sparse.csr_matrix(given), 0.1, related, most)
    scores = made.scores(matrix, np.arange(len(matrix)))
    apart = scores - textbook(matrix, given, folds, related, 0.1)
    assert np.sqrt(np.mean(apart**2)) < near * scores.std()
    quality = [linear_probes.average_precision(some.ravel(), given.ravel()) for some in (scores, scores - apart)]
    assert quality[0] > quality[1] - 0.005  # with fewer to learn from it ranks no worse
    np.testing.assert_allclose(summed.score, scores.sum(axis=0), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(summed.score_with, (scores * given).sum(axis=0), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(summed.square, (scores**2).sum(axis=0), rtol=1e-4, atol=1e-2)


def test_a_pair_that_never_meets_speaks_where_both_are_common():
    rng = np.random.default_rng(1)
    n = 2000
    first = rng.random(n) < 0.4
    given = sparse.csr_matrix(np.column_stack([first, ~first & (rng.random(n) < 0.9)]).astype(np.float32))
    matrix, folds = rng.normal(size=(n, 4)).astype(np.float32), np.arange(n) % 3
    related = learn_relations(sparse.csr_matrix((n, 2)), ["a", "b"])
    made, _ = context.learn(linear_probes.moments(matrix, given, folds), folds, given, 0.1, related)
    scores = made.scores(matrix, np.arange(n))
    assert scores[first, 1].mean() < 0.1 and scores[~first, 1].mean() > 0.8


def test_of_many_tags_what_is_left_between_them_is_made_a_part_at_a_time_and_is_the_same(monkeypatch):
    matrix, given = library()
    folds, tags = np.arange(len(matrix)) % 3, sparse.csr_matrix(given)
    related = learn_relations(tags, [str(tag) for tag in range(given.shape[1])])
    sums, made = linear_probes.moments(matrix, tags, folds), []
    for held, at_once in ((1000, 128), (0, 7)):
        monkeypatch.setattr(context, "HELD_WHOLE", held)
        monkeypatch.setattr(context, "TAGS_AT_ONCE", at_once)
        made.append(context.learn(sums, folds, tags, 0.1, related, 20)[0].scores(matrix, np.arange(len(matrix))))
    np.testing.assert_allclose(made[0], made[1], atol=1e-5)
