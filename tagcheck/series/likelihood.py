"""The likelihood of the owner's tags by candidates of series, and where it is highest. It needs PyTorch, and is loaded to learn alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import optimize
from scipy.special import logit
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from tagcheck.series.odds import LEAST, NO_CANDIDATE, Told
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


def tensors(told: Told) -> Told:
    """The same as tensors."""
    return Told(*map(torch.from_numpy, vars(told).values()))


def odds(found: Told, at: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """`odds.odds` for PyTorch. In its own words: where the search ends depends on the last digits."""
    logits = torch.where(found.present, found.features @ at["weights"], NO_CANDIDATE)
    among = torch.softmax(logits, dim=1)
    top = one_hot(among.argmax(dim=1), among.shape[1]).bool()
    most = among.amax(dim=1).clamp_min(LEAST)
    left = (1.0 - most).clamp_min(LEAST)
    odds = found.against @ at["none"] - torch.logsumexp(logits, dim=1) + at["agreement"] * torch.log(most)
    strange = at["slopes"][2 * found.kind + (odds > 0.0)] * odds + at["offsets"][found.kind]
    sure = torch.sigmoid(at["first_slope"] * (torch.log(most) - torch.log(left)) + at["first_offset"])
    return torch.where(top, sure[:, None], among * ((1.0 - sure) / left)[:, None]), strange


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
        self.found = tensors(Told.of(found))
        self.hit = torch.from_numpy((found.classes == own[:, None]) & (own >= 0)[:, None])
        self.chance = torch.from_numpy(np.where(own >= 0, frequency[np.maximum(own, 0)], 1.0))
        self.has = torch.from_numpy(own >= 0)
        self.struck = torch.arange(len(own)) >= len(own) - len(struck)
        self.weight = torch.where(self.struck, SMALLEST_UNKNOWN * len(tagged) / max(1, len(struck)), 1.0)
        tags = torch.bincount(self.found.kind[self.has], minlength=2).numpy()
        bare = torch.bincount(self.found.kind[~self.has & ~self.struck], minlength=2).numpy()
        likely = KNOWN_OF_UNTAGGED * bare
        pull = (2.0 + KNOWN_WEIGHT * likely) * (1.0 - KNOWN_OF_UNTAGGED)
        forgotten = logit((likely + 0.5) / (likely + tags + 1.0)).tolist(), pull.tolist(), -7.0, 3.0
        swapped = [float(logit(SWAPPED))], [2.0 + SWAPPED_WEIGHT * len(tagged)], -7.0, float(logit(MOST_SWAPPED))
        self.free: Free = FREE | {"forgotten": forgotten, "swapped": swapped}

    def of(self, at: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(log-odds that each picture is of an unknown series, log-likelihood of its tag), (n,)."""
        among, strange = odds(self.found, at)
        forgotten, swapped = at["forgotten"][self.found.kind], torch.sigmoid(at["swapped"])
        unknown, not_unknown = logsigmoid(strange), logsigmoid(-strange)
        fits = torch.log((1.0 - swapped) * (among * self.hit).sum(dim=1) + swapped * self.chance)
        untagged = torch.where(self.struck, unknown, torch.logaddexp(unknown, not_unknown + logsigmoid(forgotten)))
        return strange, torch.where(self.has, fits + not_unknown + logsigmoid(-forgotten), untagged)

    def best(self) -> dict[str, Tensor]:
        """Where the penalised likelihood is highest (L-BFGS)."""
        sizes = [len(start) for start, *_ in self.free.values()]
        pairs = [pair for starts, pulls, *_ in self.free.values() for pair in zip(starts, pulls)]
        start, pull = torch.tensor(pairs, dtype=torch.float64).T
        bounds = [(low, high) for _, pulls, low, high in self.free.values() for _ in pulls]
        # How steep the likelihood is in each number, roughly: the search takes a fifth of the steps when they are alike.
        present = self.found.features[self.found.present]
        spread = [(present - present.mean(dim=0)).square().mean(dim=0), self.found.against.square().mean(dim=0)]
        steep = torch.cat([*spread, torch.ones(len(start) - sum(map(len, spread)))]).nan_to_num().clamp_min(LEAST)
        scale = 1.0 / torch.sqrt(pull + STEEPNESS * len(self.has) * steep)

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            at = torch.tensor(x, requires_grad=True)
            parts = dict(zip(self.free, torch.split(at * scale, sizes)))
            total = 0.5 * (pull * (at * scale - start) ** 2).sum() - (self.weight * self.of(parts)[1]).sum()
            (slope,) = torch.autograd.grad(total, at)
            return float(total.detach()), slope.numpy()

        scaled = [(low / each, high / each) for (low, high), each in zip(bounds, scale.tolist())]
        options = {"ftol": 1e-8, "maxiter": 400}
        with threadpool_limits(1):  # many small steps: threads would spend ten times as long waiting
            found = optimize.minimize(
                loss, (start / scale).numpy(), jac=True, method="L-BFGS-B", bounds=scaled, options=options
            )
        return dict(zip(self.free, torch.split(torch.from_numpy(found.x) * scale, sizes)))
