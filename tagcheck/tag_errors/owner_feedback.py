"""The detector's confidence, calibrated by the owner's decisions.

Each decision tests a confidence: the detector said 0.8, the owner said yes or no. `learn` fits

    logit(after) = logit(before) + a_kind + b_kind (logit(before) - logit(0.8)) + c_issue + d_tag

by penalised maximum likelihood (Platt scaling, 1999, started from the identity and with offsets as in a mixed model).
Every term has a normal prior with mean 0, so that few decisions change little. The prior of a tag's own term is the
widest: thirteen refusals of one tag change that tag and hardly any other, refusals of many tags change their kind.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import expit

from tagcheck.learning.linear_probes import logit

SEVERAL = 3  # tags of a kind that have to be decided on before anything is said of the others
TRUST = 0.5  # of a decision that counts for other tags too: an owner looks at what is likely wrong, one tag at a time
FEWEST = 10  # decisions of a kind; with fewer, its confidence stays as it is
CENTRE = float(logit(np.array(0.8)))
NARROWEST = 0.005  # a confidence this near to 0 or 1 is taken for no surer
FLATTEST = -0.9  # a slope below -1 would turn the order round
# Standard deviations of the terms, in logits. A tag's own is the widest: many answers about one tag are about that tag, and only
# what several tags agree about is about their kind.
SPREAD = {"kind": 0.5, "slope": 0.15, "issue": 0.25, "tag": 1.5}

Part = tuple[str, Sequence[Any], np.ndarray]  # (name, the key of each decision, what its term is multiplied with)


class Answer(NamedTuple):
    """A decided suggestion: its kind and issue, its tag, what the detector alone said (0 to 1), and whether it was right."""

    kind: str
    issue: str
    tag: str
    confidence: float
    right: bool


@dataclass(frozen=True)
class Adjustment:
    """The fitted `terms` in logits, by the name of each and its kind, (kind, issue) or (kind, tag); `counts` kind -> (right, decided)."""

    terms: Mapping[tuple[str, Any], float]
    counts: Mapping[str, tuple[int, int]]

    @property
    def kinds(self) -> list[str]:
        """Those of which there are enough decisions, sorted."""
        return sorted(key for name, key in self.terms if name == "kind")

    def __call__(self, kind: str, issue: str, tag: str, confidence: np.ndarray) -> np.ndarray:
        """Confidences, 0 to 1, after the owner's decisions; unchanged for a kind that has too few of them."""
        if ("kind", kind) not in self.terms:
            return confidence
        before = logit(confidence, NARROWEST)
        after = before + self.terms["kind", kind] + self.terms["slope", kind] * (before - CENTRE)
        after += sum(self.terms.get(one, 0.0) for one in (("issue", (kind, issue)), ("tag", (kind, tag))))
        moved: np.ndarray = expit(after)
        return moved


def learn(decided: Sequence[Answer]) -> Adjustment:
    """Fit the terms to decided suggestions; kinds with fewer than `FEWEST` decisions get none.

    The terms that tags share are fitted to tags, not to decisions: each tag counts once, with the weight `TRUST`, since an
    owner chooses what to look at. They are 0 where fewer than `SEVERAL` tags of a kind were decided on. The rest goes into
    the tag's own term.

    >>> said = [Answer("missing", "missing_tags", "hat", 0.9, k % 2 == 0) for k in range(60)]
    >>> learn(said)("missing", "missing_tags", "hat", np.array([0.9])).round(1)
    array([0.5])
    >>> learn(said)("missing", "missing_tags", "dog", np.array([0.9])).round(3)
    array([0.9])
    """
    counts: dict[str, tuple[int, int]] = {}
    for one in decided:
        right, of = counts.get(one.kind, (0, 0))
        counts[one.kind] = right + bool(one.right), of + 1
    used = [one for one in decided if counts[one.kind][1] >= FEWEST]
    if not used:
        return Adjustment({}, counts)
    is_right = np.array([one.right for one in used], dtype=float)
    before = logit(np.array([one.confidence for one in used]), NARROWEST)
    tags = [(one.kind, one.tag) for one in used]
    times = Counter(tags)
    several = Counter(kind for kind, _ in times)
    weight = np.array([TRUST / times[tag] if several[tag[0]] >= SEVERAL else 0.0 for tag in tags])
    kinds, ones = [one.kind for one in used], np.ones(len(used))
    parts: list[Part] = [("kind", kinds, ones), ("slope", kinds, before - CENTRE)]
    parts.append(("issue", [(one.kind, one.issue) for one in used], ones))
    shared, moved = _terms(parts, before, is_right, weight)
    own, _ = _terms([("tag", tags, ones)], before + moved, is_right, ones)
    return Adjustment(shared | own, counts)


def _terms(
    parts: Sequence[Part], start: np.ndarray, right: np.ndarray, weight: np.ndarray
) -> tuple[dict[tuple[str, Any], float], np.ndarray]:
    """The fitted terms by the name of their part and their key, and what they add to each decision's logit."""
    names = [(part, key) for part, keys, _ in parts for key in sorted(set(keys))]
    place = {name: column for column, name in enumerate(names)}
    columns = np.array([place[part, key] for part, keys, _ in parts for key in keys])
    rows, values = np.tile(np.arange(len(start)), len(parts)), np.concatenate([values for *_, values in parts])
    x = sparse.csr_matrix((values, (rows, columns)), shape=(len(start), len(names)))
    spread = np.array([SPREAD[part] for part, _ in names])
    lowest = np.array([FLATTEST if part == "slope" else -np.inf for part, _ in names])
    terms = _fit(x, start, right, weight, spread, lowest)
    return dict(zip(names, terms.tolist())), x @ terms


def _fit(
    x: sparse.csr_matrix,
    start: np.ndarray,
    right: np.ndarray,
    weight: np.ndarray,
    spread: np.ndarray,
    lowest: np.ndarray,
) -> np.ndarray:
    """Coefficients of a logistic regression of weighted rows with the offset `start`, each at least `lowest` and drawn to 0 by a
    normal prior of width `spread`.
    """
    from scipy import optimize  # here, since loading it takes a quarter of a second and only decisions need it

    def loss(terms: np.ndarray) -> tuple[float, np.ndarray]:
        score = start + x @ terms
        value = np.sum(weight * (np.logaddexp(0, score) - right * score)) + 0.5 * np.sum((terms / spread) ** 2)
        return float(value), x.T @ (weight * (expit(score) - right)) + terms / spread**2

    least = [(low, None) for low in lowest]
    return np.asarray(optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", bounds=least).x)
