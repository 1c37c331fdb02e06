"""How sure it is that a series tag is wrong, missing or swapped, from out-of-fold probabilities and how often tags go wrong.

Bayes throughout; the probabilities come from `tagcheck.series.probabilities` and never looked at the picture's own tags.
"""

from dataclasses import dataclass

import numpy as np

MOST_SURE = 0.995  # no confidence goes beyond: the model of how tags go wrong is itself only a model
STRAY = 0.1  # how often a picture of an unknown series has a tag of some series, to one of a known series


@dataclass(frozen=True)
class Ratio:
    """The log of a ratio of two densities, rising with x: `offset` + `slope` x, and `bend` times what x lies above `knot`.

    >>> Ratio(1.0, 0.0, 2.0, 3.0)(np.array([1.0, 4.0])).tolist()
    [1.0, 6.0]
    """

    slope: float = 1.0
    offset: float = 0.0
    bend: float = 0.0
    knot: float = 0.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(m,) -> (m,)."""
        return self.offset + self.slope * x + self.bend * np.maximum(x - self.knot, 0.0)


def log_odds(p: np.ndarray, against: np.ndarray) -> np.ndarray:
    """Log of the ratio of two probabilities, (m,), each at least 1e-12."""
    return np.asarray(np.log(np.maximum(p, 1e-12)) - np.log(np.maximum(against, 1e-12)))


def confidence_missing(probability: np.ndarray, unknown: np.ndarray, forgotten: np.ndarray | float) -> np.ndarray:
    """Probability that a picture *without* a series tag is of the series predicted: (m,), 0 to 1.

    `probability` (m,) of that series and `unknown` (m,) of no series of the owner's, both out of
    fold and both said without looking at the picture's tags. That it has no tag is evidence too:
    pictures of unknown series never have one, of the known ones only the share `forgotten`.
    (Bayes; `forgotten` (m,) or one for all, as `Predictions.forgotten`.)

    >>> confidence_missing(np.array([0.9]), np.array([0.1]), 0.1).round(2).tolist()
    [0.47]
    """
    known = np.maximum(1.0 - unknown, probability)
    return np.asarray(np.minimum(probability * forgotten / np.maximum(known * forgotten + unknown, 1e-12), MOST_SURE))


def given_tagged(own: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Probability of a series, (m,), 0 to 1, given that the picture has a tag of some series, be it right or wrong.

    `own` (m,) the series' and `unknown` (m,) that of none of the owner's, both said without looking at the tags.
    Pictures of unknown series mostly have no tag, `STRAY` as often as the others.

    >>> given_tagged(np.array([0.3, 0.3]), np.array([0.0, 0.7])).round(2).tolist()
    [0.3, 0.81]
    """
    return np.minimum(own / np.maximum(1.0 - (1.0 - STRAY) * unknown, 1e-6), 1.0)


def tag_odds(own: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """How much better a tag fits the picture than by chance, as a log-ratio (m,); low where it is wrong.

    `own` (m,) the series' out-of-fold probability (`given_tagged`); `frequency` (m,) its share among all tags: a
    wrong tag is taken for one drawn by frequency.
    """
    return np.asarray(log_odds(own, 1.0 - own) - np.log(np.maximum(frequency, 1e-12)))


def confidence_incorrect(
    own: np.ndarray, frequency: np.ndarray, swapped: float, fitting: Ratio = Ratio()
) -> np.ndarray:
    """Probability that a series a picture *is* tagged with is wrong: (m,), 0 to 1.

    `own` and `frequency` as in `tag_odds`, which `fitting` (`Mixing.fitting`) turns into the ratio of the densities of
    right tags and wrong ones. Either the tag is right (a share 1 - `swapped` of tags) or it came in wrongly (Bayes).

    >>> confidence_incorrect(np.array([0.5, 0.0001]), np.array([0.1, 0.1]), 0.05).round(2).tolist()
    [0.01, 0.98]
    """
    right = (1.0 - swapped) * np.exp(np.clip(fitting(tag_odds(own, frequency)), -60.0, 60.0))
    return np.asarray(np.minimum(swapped / (swapped + right), MOST_SURE))


def confidence_instead(probability: np.ndarray, own: np.ndarray, incorrect: np.ndarray) -> np.ndarray:
    """Probability that a tagged picture is of another series predicted, (m,): that its tag is wrong, and then this series right.

    `probability` (m,) of the predicted series, `own` (m,) of the tagged one, `incorrect` (m,) from
    `confidence_incorrect`.
    """
    return incorrect * np.minimum(1.0, probability / np.maximum(1.0 - own, 1e-12))


def confidence_together(probability: np.ndarray, own: np.ndarray, forgotten: float) -> np.ndarray:
    """Probability that a picture rightly tagged with one series lacks a second one that goes with it: (m,), 0 to 1.

    `probability` (m,) of the series that is lacking, `own` (m,) of the tagged one. Both hold with a probability of at
    least probability + own - 1 (Frechet); of the pictures of both, the share `forgotten` lacks a tag.

    >>> confidence_together(np.array([0.99, 0.3]), np.array([1.0, 0.6]), 0.1).round(2).tolist()
    [0.91, 0.0]
    """
    both = np.maximum(0.0, probability + own - 1.0)
    return np.asarray(np.minimum(both * forgotten / np.maximum(both * forgotten + own - both, 1e-12), MOST_SURE))


def tagged_probability(
    probability: np.ndarray, unknown: np.ndarray, frequency: np.ndarray, swapped: float
) -> np.ndarray:
    """Probability that a picture which *has* a tag is tagged with this series: (m,), 0 to 1. To be held against tags.

    A tagged picture is of one of the owner's series, unless its tag is wrong: `unknown` (m,) drops
    out, and of all tags the share `swapped` names any series by its `frequency` (m,).
    """
    fits = np.minimum(probability / np.maximum(1.0 - unknown, 1e-6), 1.0)
    return (1.0 - swapped) * fits + swapped * frequency
