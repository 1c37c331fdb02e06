"""What the owner's own decisions say about how far the detector's confidence can be trusted, and the confidence after it.

A decision is a test: the detector said 0.8, the owner said yes or no. `learn` fits

    logit(after) = logit(before) + a_kind + b_kind (logit(before) - logit(0.8)) + c_issue + d_tag

by penalised maximum likelihood (Platt scaling, 1999, started from the identity and with offsets as in a
mixed model). Every term is drawn to 0 by a normal prior, so that few decisions change little. A tag's own term is the
widest: thirteen refusals of one tag say something of that tag and little of others, while refusals of many tags
say something of their kind.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse

from tagcheck.learning.linear_probes import logit, sigmoid

FEWEST = 10  # decisions of a kind; with fewer, its confidence stays as it is
CENTRE = float(logit(np.array(0.8)))
NARROWEST = 0.005  # a confidence this near to 0 or 1 is taken for no surer
FLATTEST = -0.9  # a slope below -1 would turn the order round
# Standard deviations of the terms, in logits. A tag's own is the widest: many answers about one tag are about that tag, and only
# what several tags agree about is about their kind.
SPREAD = {"kind": 0.6, "slope": 0.2, "issue": 0.3, "tag": 1.5}


class Answer(NamedTuple):
    """A decided suggestion: its kind and issue, its tag, what the detector alone said (0 to 1), and whether it was right."""

    kind: str
    issue: str
    tag: str
    confidence: float
    right: bool


@dataclass(frozen=True)
class Adjustment:
    """The fitted terms in logits, by kind, (kind, issue) and (kind, tag); `counts` kind -> (right, decided)."""

    offsets: Mapping[str, float] = field(default_factory=dict)
    slopes: Mapping[str, float] = field(default_factory=dict)
    issues: Mapping[tuple[str, str], float] = field(default_factory=dict)
    tags: Mapping[tuple[str, str], float] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.offsets)

    def __call__(self, kind: str, issue: str, tag: str, confidence: float) -> float:
        """The confidence, 0 to 1, after the owner's decisions; unchanged for a kind that has too few of them."""
        if kind not in self.offsets:
            return confidence
        before = float(logit(np.array(confidence), NARROWEST))
        after = before + self.offsets[kind] + self.slopes[kind] * (before - CENTRE)
        after += self.issues.get((kind, issue), 0.0) + self.tags.get((kind, tag), 0.0)
        return float(sigmoid(np.array(after)))


def learn(decided: Sequence[Answer]) -> Adjustment:
    """Fit the terms to decided suggestions; kinds with fewer than `FEWEST` decisions get none.

    >>> said = [Answer("missing", "missing_tags", "hat", 0.9, k % 2 == 0) for k in range(60)]
    >>> round(learn(said)("missing", "missing_tags", "hat", 0.9), 1)
    0.5
    """
    counts: dict[str, tuple[int, int]] = {}
    for one in decided:
        right, of = counts.get(one.kind, (0, 0))
        counts[one.kind] = right + bool(one.right), of + 1
    used = [one for one in decided if counts[one.kind][1] >= FEWEST]
    if not used:
        return Adjustment(counts=counts)
    before = logit(np.array([one.confidence for one in used]), NARROWEST)
    ones = np.ones(len(used))
    parts = (
        ("kind", [one.kind for one in used], ones),
        ("slope", [one.kind for one in used], before - CENTRE),
        ("issue", [(one.kind, one.issue) for one in used], ones),
        ("tag", [(one.kind, one.tag) for one in used], ones),
    )
    names, blocks = [], []
    for part, keys, values in parts:
        distinct, block = _indicator(keys, values)
        names += [(part, key) for key in distinct]
        blocks.append(block)
    spread = np.array([SPREAD[part] for part, _ in names])
    lowest = np.array([FLATTEST if part == "slope" else -np.inf for part, _ in names])
    terms = _fit(
        sparse.hstack(blocks).tocsr(), before, np.array([one.right for one in used], dtype=float), spread, lowest
    )
    found: dict[str, dict] = {part: {} for part in SPREAD}
    for (part, key), value in zip(names, terms.tolist()):
        found[part][key] = value
    return Adjustment(found["kind"], found["slope"], found["issue"], found["tag"], counts)


def _indicator(keys: Sequence[Hashable], values: np.ndarray) -> tuple[list, sparse.csr_matrix]:
    """(the distinct keys, a matrix (m, keys) with each row's value in the column of its key)."""
    place = {key: column for column, key in enumerate(sorted(set(keys)))}
    columns = np.array([place[key] for key in keys])
    return list(place), sparse.csr_matrix((values, (np.arange(len(keys)), columns)), shape=(len(keys), len(place)))


def _fit(
    x: sparse.csr_matrix, start: np.ndarray, right: np.ndarray, spread: np.ndarray, lowest: np.ndarray
) -> np.ndarray:
    """Coefficients of a logistic regression with the offset `start`, each at least `lowest` and drawn to 0 by a normal prior
    of width `spread`.
    """

    def loss(terms: np.ndarray) -> tuple[float, np.ndarray]:
        score = start + x @ terms
        value = np.sum(np.logaddexp(0, score) - right * score) + 0.5 * np.sum((terms / spread) ** 2)
        return float(value), x.T @ (sigmoid(score) - right) + terms / spread**2

    return optimize.minimize(
        loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", bounds=[(low, None) for low in lowest]
    ).x
