"""The likelihood of the owner's tags by candidates of series, how steep it is in each number, and where it is highest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit, log_expit, logit
from threadpoolctl import threadpool_limits

from tagcheck.series.odds import LEAST, Said, Told, on_the_way
from tagcheck.series.scoring import Candidates

# What is taken for likely where a library tells too little: shares, and what they weigh, in pictures a picture.
SWAPPED, SWAPPED_WEIGHT, MOST_SWAPPED = 0.04, 0.04, 0.2
KNOWN_OF_UNTAGGED, KNOWN_WEIGHT = 0.3, 0.1
SMALLEST_UNKNOWN = 0.02  # of all pictures: a picture to come may always be of an unknown series
STRUCK = 2000  # tagged pictures, about, that are also taken for ones of an unknown series
Free = dict[str, tuple[Sequence[float], Sequence[float], float, float]]
# What is learned: where it begins, how strongly it is drawn there, and its bounds.
FREE: Free = {
    "weights": ((0.3, 0.2, 0.5, 4.0, 4.0, 0.3, 0.5, 0.5), (1.0, 1.0, 1.0, 0.05, 0.05, 1.0, 1.0, 1.0), 0.0, np.inf),
    "none": ((1.0, 0.0, 0.0, 0.0), (0.1, 0.1, 0.1, 0.1), -np.inf, np.inf),
    "agreement": ((0.0,), (0.1,), -10.0, 0.0),
    "slopes": ((1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0), 0.05, 6.0),
    "offsets": ((0.0, 0.0), (0.5, 0.5), -10.0, 10.0),
    "first_slope": ((1.0,), (4.0,), 1.0, 4.0),
    "first_offset": ((0.0,), (1.0,), -6.0, 6.0),
}
# Of the likelihood a picture, in units of the square of what a number is multiplied by: only roughly right.
STEEPNESS = 0.05


class Likelihood:
    """The likelihood of n pictures with candidates `found` and the class `own` (n,) that their tag names, -1 for none.

    `frequency` (C,) is that of the classes. Behind the pictures stand those that are taken for unknown ones.
    """

    def __init__(self, found: Candidates, own: np.ndarray, frequency: np.ndarray) -> None:
        tagged = np.flatnonzero(own >= 0)
        struck = tagged[:: 1 + len(tagged) // STRUCK]
        some = found.rows(struck)
        some = replace(some, classes=np.where(some.classes == own[struck][:, None], -1, some.classes))
        found = Candidates.joined([found, some])
        own = np.concatenate([own, np.full(len(struck), -1)])
        self.found, self.rows = Told.of(found), np.arange(len(own))
        self.hit = (found.classes == own[:, None]) & (own >= 0)[:, None]
        self.chance = np.where(own >= 0, frequency[np.maximum(own, 0)], 1.0)
        self.has, self.struck = own >= 0, self.rows >= len(own) - len(struck)
        self.weight = np.where(self.struck, SMALLEST_UNKNOWN * len(tagged) / max(1, len(struck)), 1.0)
        tags = np.bincount(self.found.kind[self.has], minlength=2)
        bare = np.bincount(self.found.kind[~self.has & ~self.struck], minlength=2)
        likely = KNOWN_OF_UNTAGGED * bare
        pull = (2.0 + KNOWN_WEIGHT * likely) * (1.0 - KNOWN_OF_UNTAGGED)
        forgotten = logit((likely + 0.5) / (likely + tags + 1.0)).tolist(), pull.tolist(), -7.0, 3.0
        swapped = [float(logit(SWAPPED))], [2.0 + SWAPPED_WEIGHT * len(tagged)], -7.0, float(logit(MOST_SWAPPED))
        self.free: Free = FREE | {"forgotten": forgotten, "swapped": swapped}

    def of(self, at: Mapping[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        """(log-likelihood of all tags, weighted, its slope in each of the numbers), with the numbers of `best`."""
        said = on_the_way(self.found, at)
        total, by_strange, by_own, slopes = self._of_tags(said, at)
        return total, slopes | self._back(said, at, by_strange, by_own)

    def _own(self, said: Said) -> tuple[np.ndarray, np.ndarray]:
        """(whether the top candidate is the picture's own class (n,), which other one is (n, K))."""
        other = self.hit.copy()
        other[self.rows, said.top] = False
        return self.hit[self.rows, said.top], other

    def _of_tags(
        self, said: Said, at: Mapping[str, np.ndarray]
    ) -> tuple[float, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """(The log-likelihood, its slope in `said.strange` (n,), in the probability of the picture's own class (n,), and in the
        shares of tags that are forgotten and swapped)."""
        kind, has, struck = self.found.kind, self.has, self.struck
        first, other = self._own(said)
        own = np.where(first, said.sure, (said.among * other).sum(axis=1) * (1.0 - said.sure) / said.left)
        forgotten, swapped = at["forgotten"][kind], expit(at["swapped"])
        fits = (1.0 - swapped) * own + swapped * self.chance
        unknown, log_not = expit(said.strange), log_expit(-said.strange)
        bare = np.logaddexp(log_expit(said.strange), log_not + log_expit(forgotten))
        tagged = np.log(fits, where=has, out=np.zeros(len(has))) + log_not + log_expit(-forgotten)
        each = np.where(has, tagged, np.where(struck, log_expit(said.strange), bare))
        share, weight = expit(forgotten), self.weight
        not_struck = np.exp(log_not - bare)  # of the bare, for one unit of either way to be so
        by_strange = weight * np.where(
            has, -unknown, np.where(struck, 1.0 - unknown, unknown * not_struck * (1.0 - share))
        )
        by_forgotten = weight * np.where(has, -share, np.where(struck, 0.0, not_struck * share * (1.0 - share)))
        per_fit = np.where(has, weight / np.where(has, fits, 1.0), 0.0)
        by_swapped = (per_fit * (self.chance - own)).sum() * swapped * (1.0 - swapped)
        shares = {"forgotten": np.bincount(kind, by_forgotten, 2), "swapped": by_swapped}
        return float(weight @ each), by_strange, per_fit * (1.0 - swapped), shares

    def _back(
        self, said: Said, at: Mapping[str, np.ndarray], by_strange: np.ndarray, by_own: np.ndarray
    ) -> dict[str, np.ndarray]:
        """From the slopes in `said.strange` and in the own class' probability to those in the numbers that they come from."""
        found, (first, other) = self.found, self._own(said)
        log_most = np.log(said.most)
        rest, unsure = (said.among * other).sum(axis=1) / said.left, (1.0 - said.sure) / said.left
        by_first = by_own * (first - rest) * said.sure * (1.0 - said.sure)
        by_odds = by_strange * at["slopes"][said.part]
        by_left = -by_own * rest * unsure - by_first * at["first_slope"] / said.left
        by_most = (by_odds * at["agreement"] + by_first * at["first_slope"]) / said.most
        by_most -= np.where(1.0 - said.most > LEAST, by_left, 0.0)
        by_among = other * (by_own * unsure)[:, None]
        by_among[self.rows, said.top] += by_most
        by_logit = said.among * (by_among - ((by_among * said.among).sum(axis=1) + by_odds)[:, None])
        by_logit[~found.present] = 0.0
        return {
            "weights": by_logit.ravel() @ found.features.reshape(-1, found.features.shape[-1]),
            "none": by_odds @ found.against,
            "agreement": by_odds @ log_most[:, None],
            "slopes": np.bincount(said.part, by_strange * said.odds, 4),
            "offsets": np.bincount(found.kind, by_strange, 2),
            "first_slope": by_first @ (log_most - np.log(said.left))[:, None],
            "first_offset": by_first.sum(keepdims=True),
        }

    def best(self) -> dict[str, np.ndarray]:
        """Where the penalised likelihood is highest (L-BFGS)."""
        from scipy import optimize  # here, since loading it takes a quarter of a second and only a training needs it

        ends = np.cumsum([len(start) for start, *_ in self.free.values()])[:-1]
        pairs = [pair for starts, pulls, *_ in self.free.values() for pair in zip(starts, pulls)]
        start, pull = np.array(pairs).T
        bounds = [(low, high) for _, pulls, low, high in self.free.values() for _ in pulls]
        # How steep the likelihood is in each number, roughly: the search takes a fifth of the steps when they are alike.
        present = self.found.features[self.found.present]
        centred = present - present.sum(axis=0) / max(1, len(present))
        spread = [np.square(each).sum(axis=0) / max(1, len(each)) for each in (centred, self.found.against)]
        steep = np.concatenate([*spread, np.ones(len(start) - sum(map(len, spread)))])
        scale = 1.0 / np.sqrt(pull + STEEPNESS * len(self.has) * np.maximum(steep, LEAST))

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            off = x * scale - start
            total, slopes = self.of(dict(zip(self.free, np.split(x * scale, ends))))
            slope = np.concatenate([slopes[name] for name in self.free])
            return 0.5 * float(pull @ off**2) - total, (pull * off - slope) * scale

        scaled = [(low / each, high / each) for (low, high), each in zip(bounds, scale.tolist())]
        options = {"ftol": 1e-8, "maxiter": 400}
        with threadpool_limits(1):  # many small steps: threads would spend ten times as long waiting
            found = optimize.minimize(loss, start / scale, jac=True, method="L-BFGS-B", bounds=scaled, options=options)
        return dict(zip(self.free, np.split(found.x * scale, ends)))
