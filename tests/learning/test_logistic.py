"""The logistic regression is scikit-learn's."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from tagcheck.learning.logistic import logistic


def test_coefficients_are_those_of_scikit_learn_with_weights_and_far_apart_classes():
    rng = np.random.default_rng(0)
    for apart in (0.5, 3.0, 40.0):
        kind = rng.random(300) < 0.2
        x = rng.normal(size=(300, 3)) + apart * kind[:, None]
        weight = rng.uniform(0.1, 3, 300)
        theirs = LogisticRegression(C=0.5, max_iter=10_000, tol=1e-8).fit(x, kind, weight)
        ours = logistic(np.column_stack([x, np.ones(300)]), kind, weight, ridge=2.0)
        np.testing.assert_allclose(ours, np.r_[theirs.coef_[0], theirs.intercept_], rtol=2e-3, atol=2e-3)


def test_where_nothing_counts_nothing_is_learned():
    x = np.column_stack([[-1.0, 1.0], np.ones(2)])
    np.testing.assert_allclose(logistic(x, np.array([0.0, 1.0]), np.zeros(2)), 0, atol=1e-6)
