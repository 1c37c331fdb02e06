"""From the evidence for each candidate series of a picture to probabilities. `likelihood` has the same for PyTorch, which learns by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logsumexp, softmax

from tagcheck.series.scoring import NEARNESS, Candidates

NO_CANDIDATE, LEAST = -1e9, 1e-12


@dataclass(frozen=True)
class Told:
    """Candidates as `odds` takes them: `features` (n, K, F) float64, `present` (n, K), the `kind` (n,) of each picture, and `against`
    (n, G), which speaks for "none": 1, the log of how unusual the picture is, and how near the nearest candidate's pictures are.
    NumPy's arrays, or PyTorch's.
    """

    features: Any
    present: Any
    kind: Any
    against: Any

    @classmethod
    def of(cls, found: Candidates) -> Told:
        near = np.where(found.present[..., None], found.features[..., NEARNESS], -1.0).max(axis=1, initial=-1.0)
        against = np.column_stack([np.ones(len(near)), found.unusual, near])
        return cls(found.features.astype(np.float64), found.present, found.accompanied.astype(int), against)


def odds(found: Told, at: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(probability of each candidate class if it is any (n, K), log-odds that the picture is of an unknown series (n,)), with the
    numbers of `Mixing`.
    """
    logits = np.where(found.present, found.features @ at["weights"], NO_CANDIDATE)
    among = softmax(logits, axis=1)
    top = among.argmax(axis=1)[:, None] == np.arange(among.shape[1])
    most = np.maximum(among.max(axis=1), LEAST)
    left = np.maximum(1.0 - most, LEAST)
    strange = found.against @ at["none"] - logsumexp(logits, axis=1) + at["agreement"] * np.log(most)
    strange = at["slopes"][2 * found.kind + (strange > 0.0)] * strange + at["offsets"][found.kind]
    sure = expit(at["first_slope"] * (np.log(most) - np.log(left)) + at["first_offset"])
    return np.where(top, sure[:, None], among * ((1.0 - sure) / left)[:, None]), strange
