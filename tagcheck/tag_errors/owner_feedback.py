"""The detector's confidence, calibrated by the owner's decisions.

Each decision tests a confidence: the detector said 0.8, the owner said yes or no. For each kind (tags to add, tags to
remove) `learn` fits, with x = logit(before),

    logit(after) = x + shift + f(x) + d_tag

by penalised maximum likelihood. An owner begins with what is surest, so the decisions say little of what is less sure:

- `f` is a Gaussian process of a short `LENGTH`, so decisions move only what has about the confidence of what was decided.
- `shift` moves all of a kind alike, as another rate of forgetting (or of wrong tags) would. It has room only as far as the
  tags alone do not tell that rate (`unsure`), and more room downwards: that what is surest is right shows little of the rest.
- `d_tag` is mostly small, and large for a few tags (a mixture of two normal priors), so one refusal says little, and a tag
  that is always refused goes down. It is summed over, so many answers about one tag count for their kind about once.

Who has only looked at what is likely wrong has not distorted this: what was decided depends on the confidence, which is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import expit, logsumexp, softmax

from tagcheck.learning.linear_probes import logit

SEVERAL = 3  # tags of a kind that have to be decided on before anything is said of the others
TRUST = 0.5  # of a decision that counts for other tags too: those of one picture and of one evening are alike
ASKED = 30  # suggestions of a kind that are listed or decided at least,
ASKED_FROM = 0.2  # and the least confidence of those that are listed for it
FEWEST = 10  # decisions of a kind; with fewer, its confidence stays as it is
NARROWEST = 0.005  # a confidence this near to 0 or 1 is taken for no surer
WIDTH, LENGTH = 0.4, 0.5  # of `f`: its standard deviation, and how far it holds together, in logits
DOWN, UP = 2.5, 0.5  # standard deviations of `shift` to either side, in units of `unsure`
TAG_SPREAD, FREE_SPREAD = 0.4, 2.0  # standard deviations of `d_tag`: of most tags, and of the few whose term is large
FREE = 0.05  # the share of these few
KNOTS = np.linspace(-2.5, 5.0, 11)  # logits where `f` is fitted; straight between them
OWN = np.linspace(-8.0, 8.0, 65)  # the values of `d_tag` that are summed over
AT = np.linspace(-5.5, 5.5, 111)  # logits at which a curve is kept


class Answer(NamedTuple):
    """A decided suggestion: its kind, its tag, what the detector alone said (0 to 1), and whether it was right."""

    kind: str
    tag: str
    confidence: float
    right: bool


@dataclass(frozen=True)
class Adjustment:
    """Of each kind, and of each of its tags that was decided on, the logits after the decisions for those of `AT` before them;
    `counts` kind -> (right, decided).
    """

    kinds: Mapping[str, np.ndarray]
    tags: Mapping[tuple[str, str], np.ndarray]
    counts: Mapping[str, tuple[int, int]]

    def __call__(self, kind: str, tag: str, confidence: np.ndarray) -> np.ndarray:
        """Confidences, 0 to 1, after the owner's decisions; unchanged for what they do not speak of."""
        curve = self.tags.get((kind, tag), self.kinds.get(kind))
        if curve is None:
            return confidence
        return np.asarray(expit(np.interp(logit(confidence, NARROWEST), AT, curve)))


def learn(decided: Sequence[Answer], unsure: Mapping[str, float] | None = None) -> Adjustment:
    """Fit the terms to decided suggestions; kinds with fewer than `FEWEST` decisions get none.

    `unsure` says of a kind how far its rate is unknown: log(likely / least) of `error_model.Rate`. What tags share is left as it is
    where fewer than `SEVERAL` tags of a kind were decided on.

    >>> said = [Answer("missing", "hat", 0.9, k % 2 == 0) for k in range(60)]
    >>> learn(said)("missing", "hat", np.array([0.9])).round(1)
    array([0.5])
    >>> learn(said)("missing", "dog", np.array([0.9])).round(3)
    array([0.9])
    """
    unsure = unsure or {}
    kinds: dict[str, np.ndarray] = {}
    own: dict[tuple[str, str], np.ndarray] = {}
    counts: dict[str, tuple[int, int]] = {}
    for kind in sorted({one.kind for one in decided}):
        mine = [one for one in decided if one.kind == kind]
        counts[kind] = sum(one.right for one in mine), len(mine)
        if len(mine) < FEWEST:
            continue
        names, tag = np.unique([one.tag for one in mine], return_inverse=True)
        said = logit(np.array([one.confidence for one in mine]), NARROWEST)
        known = _Decided(said, np.where([one.right for one in mine], 1.0, -1.0), tag)
        moved = np.zeros(len(KNOTS))
        if len(names) >= SEVERAL:
            moved = known.fitted(unsure.get(kind, 0.0))
            kinds[kind] = _curve(moved)
        evened = _even(_curve(moved))[:, None] + OWN
        for name, weights in zip(
            names.tolist(), softmax(known.each_tag(_even(said + np.interp(said, KNOTS, moved))), axis=1)
        ):
            own[kind, name] = logit(expit(evened) @ weights, 1e-9)
    return Adjustment(kinds, own, counts)


def to_ask(confidence: np.ndarray, listed: np.ndarray, decided: int) -> np.ndarray:
    """Which suggestions (m,) of one kind are listed beside those that are `listed` (m,) bool, where these and the ones that were `decided`
    are fewer than `ASKED`.

    Where the tags alone do not tell how often they are forgotten or wrong, nothing may be sure, and nothing would be decided. Those that
    are asked are spread over the logits from `ASKED_FROM` on: if the likeliest alone were, their answers would be carried too far.
    """
    out = np.zeros(len(confidence), dtype=bool)
    room = ASKED - int(listed.sum()) - decided
    unsure = np.flatnonzero(~listed & (confidence >= ASKED_FROM))
    if room <= 0 or not len(unsure):
        return out
    unsure = unsure[np.argsort(-confidence[unsure], kind="stable")]
    said = logit(confidence[unsure], NARROWEST)
    part = np.floor((said[0] - said) / (said[0] - said[-1] + 1e-9) * room)
    first = np.unique(part, return_index=True)[1]
    others = np.setdiff1d(np.arange(len(unsure)), first)
    out[unsure[np.append(first, others)[:room]]] = True
    return out


class _Decided(NamedTuple):
    """Decided suggestions (k,) of one kind: the logits `said`, `right` 1 or -1, and the number of each one's `tag`."""

    said: np.ndarray
    right: np.ndarray
    tag: np.ndarray

    def each_tag(self, score: np.ndarray) -> np.ndarray:
        """The log-likelihood of each value of `OWN`, with its prior, for each tag (tags, len(OWN)), by evened logits `score` (k,)."""
        said = -np.logaddexp(0, -self.right[:, None] * (score[:, None] + OWN))
        of_tag = sparse.csr_matrix((np.ones(len(self.tag)), (self.tag, np.arange(len(self.tag)))))
        return np.asarray(of_tag @ said + LOG_PRIOR)

    def fitted(self, unsure: float) -> np.ndarray:
        """`shift + f` at the `KNOTS`."""
        from scipy import optimize  # here, since loading it takes a quarter of a second and only decisions need it

        between = np.column_stack([np.interp(self.said, KNOTS, one) for one in np.eye(len(KNOTS))])

        def moved(terms: np.ndarray) -> np.ndarray:
            shift = unsure * (DOWN if terms[0] < 0 else UP)
            return np.column_stack([np.full(len(KNOTS), shift), SMOOTH])

        def loss(terms: np.ndarray) -> tuple[float, np.ndarray]:
            score = self.said + between @ moved(terms) @ terms
            each = self.each_tag(_even(score))
            off = expit(-self.right[:, None] * (_even(score)[:, None] + OWN))
            slope = self.right * np.sum(softmax(each, axis=1)[self.tag] * off, axis=1) * np.interp(score, MEANS, SLOPES)
            down = -TRUST * (slope @ between @ moved(terms)) + terms
            return float(-TRUST * logsumexp(each, axis=1).sum() + terms @ terms / 2), down

        found = optimize.minimize(loss, np.zeros(len(KNOTS) + 1), jac=True, method="L-BFGS-B").x
        return np.asarray(moved(found) @ found)


def _curve(moved: np.ndarray) -> np.ndarray:
    """The logits after for those of `AT`: moved by what is `moved` at the `KNOTS`, surer staying surer."""
    return np.asarray(np.maximum.accumulate(AT + np.interp(AT, KNOTS, moved)))


def _prior() -> np.ndarray:
    """How likely each value of `OWN` is for a tag."""
    usual, free = (np.exp(-np.square(OWN / spread) / 2) for spread in (TAG_SPREAD, FREE_SPREAD))
    return np.asarray((1 - FREE) * usual / usual.sum() + FREE * free / free.sum())


def _even(score: np.ndarray) -> np.ndarray:
    """The logits by which a tag that nothing is known of is right as often as logits `score` say, over all values of `OWN`."""
    return np.asarray(np.interp(score, MEANS, EVEN))


PRIOR = _prior()
LOG_PRIOR = np.log(PRIOR)
EVEN = np.linspace(-12.0, 12.0, 481)
MEANS = logit(expit(EVEN[:, None] + OWN) @ PRIOR, 1e-12)
SLOPES = np.gradient(EVEN, MEANS)
SMOOTH = np.linalg.cholesky(
    WIDTH**2 * np.exp(-np.square((KNOTS[:, None] - KNOTS) / LENGTH) / 2) + 1e-6 * np.eye(len(KNOTS))
)
