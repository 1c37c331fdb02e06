"""Weighted logistic regression of few columns, by Newton's method."""

import numpy as np
from scipy.special import logit

AT_ONCE = 1024  # rows of which a product stays in the processor's cache


def logistic(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ridge: float = 1.0,
    start: np.ndarray | None = None,
    rounds: int = 100,
    near: float = 1e-5,
) -> np.ndarray:
    """The coefficients (k,) of a logistic regression of `target` (m,), 0 to 1, on `x` (m, k), whose last column is of ones.

    Minimised are the weighted log losses and half of `ridge` times the squared coefficients, the intercept's left out
    (scikit-learn's C is 1 / `ridge`), until a step moves none by `near`, from `start` on. Where all weights are 0 they are 0.

    >>> x = np.column_stack([[-2.0, -1.0, 1.0, 2.0], np.ones(4)])
    >>> bool(logistic(x, np.array([0, 0, 1, 1]), ridge=1)[0] > 0)
    True
    """
    weight = np.ones(len(x)) if weight is None else weight
    penalty = np.full(x.shape[1], float(ridge))
    penalty[-1] = 1e-9 * len(x)
    if start is None:
        start = np.zeros(x.shape[1])
        start[-1] = logit(np.clip(weight @ target / max(weight.sum(), 1e-300), 1e-6, 1 - 1e-6))
    beta, (loss, p) = start, _loss(x, start, target, weight, penalty)
    for _ in range(rounds):
        off, root = weight * (p - target), np.sqrt(weight * p * (1 - p))[:, None]
        gradient, hessian = penalty * beta, np.diag(penalty)
        for rows in (slice(start, start + AT_ONCE) for start in range(0, len(x), AT_ONCE)):
            gradient += off[rows] @ x[rows]
            curved = x[rows] * root[rows]
            hessian += curved.T @ curved  # of one array with itself: half of the products are made
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while (now := _loss(x, beta - scale * step, target, weight, penalty))[0] > loss + 1e-9 and scale > 1e-3:
            scale /= 2
        beta, (loss, p) = beta - scale * step, now
        if np.abs(scale * step).max() < near:
            break
    return beta


def _loss(
    x: np.ndarray, beta: np.ndarray, target: np.ndarray, weight: np.ndarray, penalty: np.ndarray
) -> tuple[float, np.ndarray]:
    """(the loss, the probabilities): both come out of one exponential."""
    score = x @ beta
    small = np.exp(-np.abs(score))
    p = np.where(score >= 0, 1.0, small) / (1 + small)
    loss = weight @ (np.log1p(small) + np.maximum(score, 0) - target * score)
    return float(loss + 0.5 * np.sum(penalty * beta**2)), p
