"""From the evidence for each candidate series of a picture to probabilities, learned in one likelihood of the owner's tags.

The candidates and "none of yours" share a softmax (a conditional logit: McFadden 1974). A picture with a tag is of its series or, of a
share, its tag is one drawn by frequency (forward correction: Patrini et al., CVPR 2017). A picture without a tag is of an unknown series
or forgotten, so what no tagged picture looks like is unknown (Elkan and Noto 2008).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, log_expit, logit
from threadpoolctl import threadpool_limits

from tagcheck.series.labels import Labels
from tagcheck.series.out_of_fold import Folded
from tagcheck.series.scoring import Candidates

ROWS = 20_000  # pictures that the few numbers are fitted on
# What is taken for likely where a library tells too little: shares, and what they weigh, in pictures a picture.
SWAPPED, SWAPPED_WEIGHT, MOST_SWAPPED = 0.04, 0.04, 0.2
KNOWN_OF_UNTAGGED, KNOWN_WEIGHT = 0.3, 0.1
SMALLEST_UNKNOWN = 0.02  # of all pictures: a picture to come may always be of an unknown series
STRUCK = 2000  # tagged pictures, about, that are also taken for ones of an unknown series
NO_CANDIDATE, LEAST = -1e9, 1e-12
# What is learned: where it begins, how strongly it is drawn there, and its bounds.
FREE: dict[str, tuple[Any, Any, float, float]] = {
    "weights": ((0.5, 4.0, 0.3, 0.5, 0.5), (1.0, 0.05, 1.0, 1.0, 1.0), 0.0, np.inf),
    "none": ((1.0, 0.0, 0.0, 0.0), (0.1, 0.1, 0.1, 0.1), -np.inf, np.inf),
    "agreement": ((0.0,), (0.1,), -10.0, 0.0),
}


@dataclass(frozen=True)
class Mixing:
    """How scores become probabilities, as arrays of float64.

    `weights` (F,) of the features; `none` (G,) of what makes "none of yours" (`against`), to which `agreement` (1,) adds the log of
    the share that the likeliest class has of all candidates. `trust` (2,) is that of `Folded`.

    Shares, 0 to 1: `swapped` (1,) of the tags name another series than the picture's; of the pictures of each kind, without and with
    characters that tell something, `unknown` (2,) are of unknown series, and of those of known ones `forgotten` (2,) have no tag.
    Kinds are told apart since who forgets the series mostly forgets the characters, too.
    """

    weights: np.ndarray
    none: np.ndarray
    agreement: np.ndarray
    trust: np.ndarray
    swapped: np.ndarray
    unknown: np.ndarray
    forgotten: np.ndarray

    def probabilities(self, found: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """(probability of each candidate class (n, K), of none of the owner's series (n,)); each row sums to 1."""
        among, odds = shares(found, vars(self))
        unknown = expit(odds)
        return np.asarray(among * (1.0 - unknown)[:, None]), unknown

    def noise(self) -> dict[str, Any]:
        """What the card tells of it: the share of swapped tags; of both kinds of pictures those of unknown series, and those without a tag."""
        both = {"unknown_share": self.unknown.tolist(), "forgotten_share": self.forgotten.tolist()}
        return {"swapped_share": float(self.swapped[0]), **both}


def against(found: Candidates) -> np.ndarray:
    """What speaks for "none", (n, G): 1, the log of how unusual the picture is, whether it has characters that tell something."""
    near = np.where(found.present, found.features[..., 1], -1.0).max(axis=1, initial=-1.0)
    return np.column_stack([np.ones(len(near)), found.unusual, found.accompanied, near])


def shares(found: Candidates, at: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(probability of each candidate class if it is any (n, K), log-odds of none of them (n,)), with the numbers of `Mixing`."""
    logits = np.where(found.present, found.features.astype(np.float64) @ at["weights"], NO_CANDIDATE)
    highest = logits.max(axis=1)
    among = np.exp(logits - highest[:, None])
    sums = among.sum(axis=1)
    among /= sums[:, None]
    return among, against(found) @ at["none"] - highest - np.log(sums) + at["agreement"] * np.log(among.max(axis=1))


class Likelihood:
    """The likelihood of n pictures with candidates `found` and the class `own` (n,) that their tag names, -1 for none.

    `frequency` (C,) is that of the classes. Behind the pictures stand those that are taken for unknown ones: where all have a tag
    nothing else would be unknown.
    """

    def __init__(self, found: Candidates, own: np.ndarray, frequency: np.ndarray) -> None:
        tagged = np.flatnonzero(own >= 0)
        struck = tagged[:: 1 + len(tagged) // STRUCK]
        some = found.rows(struck)
        some = replace(some, classes=np.where(some.classes == own[struck][:, None], -1, some.classes))
        self.found = Candidates.joined([found, some])
        own = np.concatenate([own, np.full(len(struck), -1)])
        self.kind, self.against = self.found.accompanied.astype(int), against(self.found)
        self.hit = (self.found.classes == own[:, None]) & (own >= 0)[:, None]
        self.chance = np.where(own >= 0, frequency[np.maximum(own, 0)], 1.0)
        self.has, self.struck = own >= 0, np.arange(len(own)) >= len(own) - len(struck)
        self.weight = np.where(self.struck, SMALLEST_UNKNOWN * len(tagged) / max(1, len(struck)), 1.0)
        tags = np.bincount(self.kind[self.has], minlength=2)
        likely = KNOWN_OF_UNTAGGED * np.bincount(self.kind[~self.has & ~self.struck], minlength=2)
        pull = (2.0 + KNOWN_WEIGHT * likely) * (1.0 - KNOWN_OF_UNTAGGED)
        forgotten = logit((likely + 0.5) / (likely + tags + 1.0)), pull, -7.0, 3.0
        swapped = (logit(SWAPPED),), (2.0 + SWAPPED_WEIGHT * len(tagged),), -7.0, logit(MOST_SWAPPED)
        self.free = FREE | {"forgotten": forgotten, "swapped": swapped}

    def of(self, at: Mapping[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        """(log-likelihood of all tags, weighted, its slope in each of the numbers), with the numbers of `best`."""
        among, odds = shares(self.found, at)
        has, struck, weight = self.has, self.struck, self.weight
        forgotten, swapped = at["forgotten"][self.kind], expit(at["swapped"])
        fits = (1.0 - swapped) * (among * self.hit).sum(axis=1) + swapped * self.chance
        unknown, not_unknown, share = log_expit(odds), log_expit(-odds), expit(forgotten)
        bare = np.logaddexp(unknown, not_unknown + log_expit(forgotten))
        each = np.where(has, np.log(fits) + not_unknown + log_expit(-forgotten), np.where(struck, unknown, bare))
        left = np.where(struck, 0.0, np.exp(not_unknown - bare))  # of the bare, for one unit of either way to be so
        by_odds = weight * np.where(has, -expit(odds), np.where(struck, expit(-odds), expit(odds) * left * (1 - share)))
        by_forgotten = weight * np.where(has, -share, left * share * (1.0 - share))
        per_fit = np.where(has, weight / fits, 0.0)
        by_among = self.hit * (per_fit * (1.0 - swapped))[:, None]
        by_logit = among * (by_among - (by_among * among).sum(axis=1, keepdims=True))
        top = among == among.max(axis=1, keepdims=True)
        by_logit += by_odds[:, None] * (at["agreement"] * (top - among) - among)
        own = (among * self.hit).sum(axis=1)
        by_logit[~self.found.present] = 0.0
        return float(weight @ each), {
            "weights": np.tensordot(by_logit, self.found.features, 2),
            "none": by_odds @ self.against,
            "agreement": by_odds @ np.log(among.max(axis=1, keepdims=True)),
            "forgotten": np.bincount(self.kind, by_forgotten, 2),
            "swapped": (per_fit * (self.chance - own)).sum() * swapped * (1.0 - swapped),
        }

    def best(self) -> dict[str, np.ndarray]:
        """Where the penalised likelihood is highest (L-BFGS)."""
        from scipy import optimize  # here, since loading it takes a quarter of a second and only a training needs it

        start, pull = (np.concatenate([one[place] for one in self.free.values()]) for place in (0, 1))
        bounds = [(low, high) for begins, _, low, high in self.free.values() for _ in begins]
        ends = np.cumsum([len(begins) for begins, *_ in self.free.values()])[:-1]

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            total, slopes = self.of(dict(zip(self.free, np.split(x, ends))))
            slope = np.concatenate([slopes[name] for name in self.free])
            return 0.5 * float(pull @ (x - start) ** 2) - total, pull * (x - start) - slope

        options = {"ftol": 1e-9, "maxiter": 400}
        with threadpool_limits(1):  # many small steps: threads would spend ten times as long waiting
            found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return dict(zip(self.free, np.split(found.x, ends)))


def fit_mixing(folded: Folded, labels: Labels, seed: int = 0, among: np.ndarray | None = None) -> Mixing:
    """How scores become probabilities, at the highest penalised likelihood of the owner's tags, of pictures that are of one class
    which their fold's model knows or have no tag. With `among` (n,) bool it is learned from those alone.
    """
    own, counted = labels.single, np.ones(len(labels.tagged), dtype=bool) if among is None else among
    learnable = (own >= 0) & (folded.knows[folded.folds, np.maximum(own, 0)] > 0)
    taught = np.random.default_rng(seed).permutation(np.flatnonzero(counted & (learnable | ~labels.tagged)))
    rows = np.sort(taught[:ROWS])
    frequency, found = np.asarray(labels.membership.sum(axis=0)).ravel(), folded.candidates.rows(rows)
    best = Likelihood(found, own[rows], frequency / max(frequency.sum(), LEAST)).best()
    unknown, kind = expit(shares(found, best)[1]), found.accompanied.astype(int)
    count = np.bincount(kind, minlength=2)
    share = np.where(count > 0, np.bincount(kind, unknown, minlength=2) / np.maximum(count, 1), 0.5)
    numbers = best | {name: expit(best[name]) for name in ("swapped", "forgotten")}
    return Mixing(**numbers, trust=np.array(folded.trust), unknown=share)
