"""From the evidence for each candidate series of a picture to probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from tagcheck.series.scoring import NEARNESS, Candidates

NO_CANDIDATE, LEAST = -1e9, 1e-12


@dataclass(frozen=True)
class Told:
    """Candidates as `odds` takes them: `features` (n, K, F) float64, `present` (n, K), the `kind` (n,) of each picture, and `against`
    (n, G), which speaks for "none": 1, the log of how unusual the picture is, and how near the nearest candidate's pictures are.
    """

    features: np.ndarray
    present: np.ndarray
    kind: np.ndarray
    against: np.ndarray

    @classmethod
    def of(cls, found: Candidates) -> Told:
        near = np.where(found.present[..., None], found.features[..., NEARNESS], -1.0).max(axis=1, initial=-1.0)
        against = np.column_stack([np.ones(len(near)), found.unusual, near])
        return cls(found.features.astype(np.float64), found.present, found.accompanied.astype(int), against)


class Said(NamedTuple):
    """What `odds.odds` comes to on the way, for n pictures with K candidates.

    `among` (n, K): softmax of the candidates' scores; `top` (n,): the column of the highest, `most` (n,), and what it leaves to the
    others, `left` (n,). `odds` (n,) against every candidate, the `part` (n,) of the slopes that they take, and `strange` (n,).
    `sure` (n,): probability of the top candidate.
    """

    among: np.ndarray
    top: np.ndarray
    most: np.ndarray
    left: np.ndarray
    odds: np.ndarray
    part: np.ndarray
    strange: np.ndarray
    sure: np.ndarray


def on_the_way(found: Told, at: Mapping[str, np.ndarray]) -> Said:
    """What `odds` says, with what it is made of."""
    scores = found.features.reshape(-1, found.features.shape[-1]) @ at["weights"]
    logits = np.where(found.present, scores.reshape(found.present.shape), NO_CANDIDATE)
    highest = logits.max(axis=1)
    among = np.exp(logits - highest[:, None])
    sums = among.sum(axis=1)
    among /= sums[:, None]
    top = among.argmax(axis=1)
    most = np.maximum(among.max(axis=1), LEAST)
    left = np.maximum(1.0 - most, LEAST)
    odds = found.against @ at["none"] - highest - np.log(sums) + at["agreement"] * np.log(most)
    part = 2 * found.kind + (odds > 0.0)
    strange = at["slopes"][part] * odds + at["offsets"][found.kind]
    sure = expit(at["first_slope"] * (np.log(most) - np.log(left)) + at["first_offset"])
    return Said(among, top, most, left, odds, part, strange, sure)


def odds(found: Told, at: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(probability of each candidate class if it is any (n, K), log-odds that the picture is of an unknown series (n,)), with the
    numbers of `Mixing`.
    """
    said = on_the_way(found, at)
    among = said.among * ((1.0 - said.sure) / said.left)[:, None]
    among[np.arange(len(among)), said.top] = said.sure
    return among, said.strange
