"""From evidence to the probability that a tag is missing or wrong, when nobody says which tags are right.

The model. Let z be whether tag t truly belongs to picture i, y whether it is written there, and e
the evidence. A tag that belongs is forgotten at the rate m, a tag that does not belong is written
at the rate a:

    P(z = 1 | e) = pi(e)                                          a logistic regression on the evidence
    P(y = 0 | z = 1) = m_i                                        how lazily picture i is tagged
    P(y = 1 | z = 0) = a_t = kappa * frequency of t

    P(y = 1 | e)        = pi (1 - m) + (1 - pi) a
    P(z = 1 | y = 0, e) = pi m / (pi m + (1 - pi)(1 - a))         the tag is missing
    P(z = 0 | y = 1, e) = (1 - pi) a / (pi (1 - m) + (1 - pi) a)  the tag is incorrect

Where the evidence is strongest, tags are written at the rate 1 - m (a plateau below 1); where there
is none they are written at the rate a (a floor above 0). Both are read off the data (Elkan and Noto
2008 for the plateau; Scott, Blanchard and Handy 2013 for both ends), and pi is then fitted by
expectation maximisation with them held (Dempster, Laird and Rubin 1977).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tagcheck import evidence
from tagcheck.evidence import Evidence, blocks
from tagcheck.probes import logit, sigmoid

HINGES = {"probe": (-2, 0, 2, 5), "context": (-2, 0, 2, 5), "tagger": (-2, 0, 2, 5), "neighbours": (0, 2)}
ROUNDS = 6             # of expectation maximisation
FIT_CELLS = 300_000    # cells a fit looks at
CHUNK = 500_000        # cells expanded at a time
LAZY_PRIOR = 4.0       # the library's own rate counts as this many tags of a picture
SMALLEST = 1e-9


@dataclass(frozen=True)
class Cells:
    """Cells (picture, tag) that may be wrong, sorted by picture, then tag. All arrays (m,), `features` (m, len(NAMES)).

    All written tags are here; of the unwritten ones those with any evidence, each of `weight` 1, and a
    sample of the rest, which stand for all of it by a `weight` above 1.
    """

    row: np.ndarray
    column: np.ndarray
    features: np.ndarray
    given: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Verdict:
    """What the model says of each cell, all (m,): `belongs` is pi, `miss` and `wrong` the rates m and a,
    `error` the probability that the cell is as it should not be: missing where it is not written, incorrect where it is.
    """

    belongs: np.ndarray
    miss: np.ndarray
    wrong: np.ndarray
    error: np.ndarray
    miss_rate: float
    wrong_rate: float


def collect(found: Evidence, rng: np.random.Generator, most: int | None = None, background: int = 100_000) -> Cells:
    """The cells worth looking at. `most` bounds the unwritten ones (default: 5 for each written tag, at least 300,000)."""
    n, tags = found.given.shape
    most = most or max(300_000, 5 * found.given.nnz)
    cut = _cut(found, rng, most)
    unwritten = max(n * tags - found.given.nnz, 1)
    keep = min(1.0, background / unwritten)
    parts = []
    skipped = sampled = 0
    for rows in blocks(n, 1024):
        made = found.block(rows)
        given = found.given[rows].toarray() > 0
        promising = given | (_promise(made) >= cut)
        sample = ~promising & (rng.random(promising.shape) < keep)
        skipped += int((~promising).sum())
        sampled += int(sample.sum())
        i, t = np.nonzero(promising | sample)
        features = np.stack([made[name][i, t] for name in evidence.NAMES], axis=1)
        parts.append((i + rows.start, t, features, given[i, t], sample[i, t]))
    row, column, features, given, sample = (np.concatenate(part) for part in zip(*parts))
    weight = np.where(sample, skipped / max(sampled, 1), 1.0).astype(np.float32)
    return Cells(row.astype(np.int32), column.astype(np.int32), features, given, weight)


def _promise(made: dict[str, np.ndarray]) -> np.ndarray:
    strongest = made["probe"]
    for name in ("context", "tagger", "neighbours", "twins"):
        strongest = np.maximum(strongest, made[name])
    return strongest + made["prior"]


def _cut(found: Evidence, rng: np.random.Generator, most: int) -> float:
    """The promise above which about `most` unwritten cells lie, told from a sample of pictures."""
    n = found.given.shape[0]
    seen = []
    starts = np.arange(0, n, 256)
    for start in rng.choice(starts, min(len(starts), 8), replace=False):
        rows = slice(int(start), min(int(start) + 256, n))
        seen.append(np.where(found.given[rows].toarray() > 0, -np.inf, _promise(found.block(rows))))
    sample = np.concatenate(seen)
    share = most / n / sample.shape[1]
    return -np.inf if share >= 1 else float(np.quantile(sample, 1 - share))


def fit(cells: Cells, frequency: np.ndarray, rng: np.random.Generator) -> Verdict:
    """The model of this module, fitted to the cells. `frequency` (T,) is the share of pictures that have each tag."""
    y = cells.given.astype(np.float64)
    share = frequency[cells.column]
    sample = _sample(cells, rng)
    design = _Design(cells, sample)
    written = sigmoid(design.linear(_logistic(design.of_sample, y[sample], cells.weight[sample])))
    miss_rate, kappa = _plateau(written, y), _floor(written, y, cells.weight, share)
    wrong = np.minimum(kappa * share, 0.3)
    belongs = np.clip((written - wrong) / (1 - miss_rate - wrong), 1e-6, 1 - 1e-6)
    certain = cells.weight == 1
    for _ in range(ROUNDS):
        miss = _laziness(belongs, y, certain, cells.row, miss_rate)
        truth = _truth(belongs, miss, wrong, y)
        miss = _laziness(truth, y, certain, cells.row, miss_rate)
        truth = _truth(belongs, miss, wrong, y)
        belongs = sigmoid(design.linear(_logistic(design.of_sample, truth[sample], cells.weight[sample])))
        belongs = np.clip(belongs, SMALLEST, 1 - SMALLEST)
    truth = _truth(belongs, miss, wrong, y)
    return Verdict(belongs, miss, wrong, np.where(cells.given, 1 - truth, truth), miss_rate, kappa)


def _truth(belongs: np.ndarray, miss: np.ndarray, wrong: np.ndarray, y: np.ndarray) -> np.ndarray:
    """P(z = 1 | y, e)."""
    there = belongs * np.where(y > 0, 1 - miss, miss)
    return there / (there + (1 - belongs) * np.where(y > 0, wrong, 1 - wrong))


def _laziness(truth: np.ndarray, y: np.ndarray, certain: np.ndarray, row: np.ndarray, rate: float) -> np.ndarray:
    """The rate at which tags of each cell's picture are forgotten, told from the picture's other cells."""
    weight = truth * certain
    lost = weight * (1 - y)
    total, missing = np.bincount(row, weight)[row] - weight, np.bincount(row, lost)[row] - lost
    return np.clip((missing + LAZY_PRIOR * rate) / (total + LAZY_PRIOR), 0.005, 0.95)


def _plateau(written: np.ndarray, y: np.ndarray) -> float:
    """1 - the share of tags written where the evidence is strongest: the 15 % of written tags that are expected most."""
    expected = np.sort(written[y > 0])[::-1]
    if not len(expected):
        return 0.1
    top = written >= expected[int(0.15 * len(expected))]
    return float(np.clip((np.sum(top * (1 - y)) + 0.5) / (np.sum(top) + 5), 0.005, 0.6))


def _floor(written: np.ndarray, y: np.ndarray, weight: np.ndarray, share: np.ndarray) -> float:
    """Wrong tags in units of the tag's frequency: the half of all cells where a tag is expected least."""
    lift = written / share
    order = np.argsort(lift)
    low = order[: int(np.searchsorted(np.cumsum(weight[order]), 0.5 * weight.sum())) + 1]
    return float(np.clip((np.sum(y[low]) + 0.5) / (np.sum(weight[low] * share[low]) + 25), 0.001, 0.5))


def _sample(cells: Cells, rng: np.random.Generator) -> np.ndarray:
    """Places of at most `FIT_CELLS` cells, written ones drawn apart from the others so that there are enough of them."""
    if len(cells) <= FIT_CELLS:
        return np.arange(len(cells))
    return np.sort(rng.choice(len(cells), FIT_CELLS, replace=False))


class _Design:
    """The columns of the logistic regression: evidence, bent at a few places, standardised."""

    def __init__(self, cells: Cells, sample: np.ndarray) -> None:
        self.cells = cells
        raw = self._expand(cells.features[sample])
        self.mean, self.width = raw.mean(axis=0), raw.std(axis=0) + 1e-6
        self.of_sample = ((raw - self.mean) / self.width).astype(np.float64)

    def _expand(self, features: np.ndarray) -> np.ndarray:
        columns = []
        for place, name in enumerate(evidence.NAMES):
            x = features[:, place]
            columns.append(x)
            columns += [np.maximum(x - bend, 0) for bend in HINGES.get(name, ())]
        return np.stack(columns, axis=1)

    def linear(self, coefficients: np.ndarray) -> np.ndarray:
        """The linear predictor of all cells, (m,)."""
        out = np.empty(len(self.cells))
        scaled = coefficients[:-1] / self.width
        for rows in blocks(len(out), CHUNK):
            out[rows] = self._expand(self.cells.features[rows]) @ scaled
        return out + coefficients[-1] - self.mean @ scaled


def _logistic(design: np.ndarray, target: np.ndarray, weight: np.ndarray, penalty: float = 1e-5, rounds: int = 40) -> np.ndarray:
    """Weighted logistic regression by Newton's method; targets 0 to 1. Coefficients, the intercept last."""
    x = np.column_stack([design, np.ones(len(design))])
    weight = weight / weight.mean()
    ridge = np.full(x.shape[1], penalty * len(x))
    ridge[-1] = 1e-9 * len(x)
    beta = np.zeros(x.shape[1])
    beta[-1] = logit(np.average(target, weights=weight))
    loss = _loss(x, beta, target, weight, ridge)
    for _ in range(rounds):
        p = sigmoid(x @ beta)
        gradient = x.T @ (weight * (p - target)) + ridge * beta
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while (now := _loss(x, beta - scale * step, target, weight, ridge)) > loss + 1e-9 and scale > 1e-3:
            scale /= 2
        beta, loss = beta - scale * step, now
        if np.abs(scale * step).max() < 1e-5:
            break
    return beta


def _loss(x: np.ndarray, beta: np.ndarray, target: np.ndarray, weight: np.ndarray, ridge: np.ndarray) -> float:
    score = x @ beta
    return float(np.sum(weight * (np.logaddexp(0, score) - target * score)) + 0.5 * np.sum(ridge * beta ** 2))


def settle_groups(cells: Cells, verdict: Verdict, groups: Sequence[np.ndarray], leaks: Sequence[float], frequency: np.ndarray, n: int) -> Verdict:
    """The verdict, made to know that a picture has at most one tag of each group.

    For picture i and group g the hypotheses are "only s belongs" for every s in g, and "none does".
    A written tag that does not belong got there at the rate a, or in place of the right one by a
    swap, at a rate rho that is estimated with the rest. `leaks` says for each group which share of
    pictures does have two; with that probability the tags are judged one by one as before.
    """
    error = verdict.error.copy()
    for group, leak in zip(groups, leaks):
        inside = np.flatnonzero(np.isin(cells.column, group))
        if not len(inside):
            continue
        place = np.full(len(frequency), -1)
        place[group] = np.arange(len(group))
        truth = _settle(
            cells.row[inside], place[cells.column[inside]], cells.given[inside], verdict.belongs[inside], verdict.miss[inside],
            np.minimum(verdict.wrong_rate * frequency[group], 0.3), frequency[group], n,
        )
        settled = np.where(cells.given[inside], 1 - truth, truth)
        error[inside] = (1 - leak) * settled + leak * error[inside]
    return replace(verdict, error=error)


def _settle(
    row: np.ndarray, column: np.ndarray, given: np.ndarray, belongs: np.ndarray, miss: np.ndarray, wrong: np.ndarray,
    frequency: np.ndarray, n: int, rounds: int = 8,
) -> np.ndarray:
    """P(this tag is the one that belongs) of each cell of one group, (m,). Cells not listed have no chance."""
    pictures, at = np.unique(row, return_inverse=True)
    odds = logit(belongs, SMALLEST)
    written = np.bincount(at, given)
    # Relative to "nothing belongs": a written tag explained by belonging, an unwritten one by forgetting.
    plain = odds + np.where(given, np.log(np.maximum(1 - miss, 1e-3)) - np.log(wrong[column]), np.log(miss) - np.log1p(-wrong[column]))
    share = frequency / frequency.sum()
    other = np.bincount(at, given * share[column])[at]       # how common the written tag is, where it is one
    other_wrong = np.bincount(at, given * np.log(wrong[column]))[at]
    swappable = ~given & (written[at] == 1)
    rho = 0.02
    for _ in range(rounds):
        with np.errstate(divide="ignore"):
            swapped = np.where(swappable, odds + np.log(rho * np.maximum(other, 1e-12)) - other_wrong, -np.inf)
        likelihood = np.logaddexp(plain, swapped)
        top = np.zeros(len(pictures))
        np.maximum.at(top, at, likelihood)
        total = np.exp(-top) + np.bincount(at, np.exp(likelihood - top[at]))
        truth = np.exp(likelihood - top[at]) / total[at]
        by_swap = truth * np.exp(np.minimum(swapped - likelihood, 0))
        rho = float(np.clip((by_swap.sum() + 0.5) / (np.sum(written == 1) + 20), 1e-4, 0.3))
    return truth
