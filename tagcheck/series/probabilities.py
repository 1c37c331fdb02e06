"""What is predicted of each picture, and how far that agrees with the owner's tags."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit

from tagcheck.learning import expected_calibration_error
from tagcheck.series.labels import Labels
from tagcheck.series.mixing import Mixing, fit_mixing
from tagcheck.series.out_of_fold import Folded
from tagcheck.series.scoring import Candidates, Rows
from tagcheck.tag_columns import values_at

# The first series; F1 is highest when cut at half the F1 there is to reach (Lipton et al., ECML 2014).
PREDICT_FROM = 0.4
ALSO_FROM = 0.5  # any further series: both can only be there together, not one or the other
LISTED_FROM = 0.005  # what is less probable is not listed
RESAMPLES, SURE_GAIN = 400, 0.9  # bootstrap of near-duplicate groups, and in how many of them a gain has to show


@dataclass(frozen=True)
class Predictions(Rows):
    """What is said about n pictures, of S series.

    `chance` csr (n, S) float32: the probability, 0 to 1, that a picture is of a series (several may hold at once), from `LISTED_FROM`
    on, and of those that it is tagged with whatever it is. `unknown` (n,): that it is of none of the owner's series that could be
    learned. `foreign` (n,): a series that could not be learned and that the tagger names, -1 for none, and `foreign_probability`
    (n,) of that one, part of `unknown`. `forgotten` (n,): of pictures of its kind and of known series, the share without a tag.
    """

    chance: sparse.csr_matrix
    unknown: np.ndarray
    foreign: np.ndarray
    foreign_probability: np.ndarray
    forgotten: np.ndarray

    @property
    def predicted(self) -> sparse.csr_matrix:
        """csr (n, S) bool: the series said to be there."""
        return sure(self.chance)


def sure(chance: sparse.csr_matrix) -> sparse.csr_matrix:
    """csr (n, S) bool: which probabilities say that a series is there: the highest from `PREDICT_FROM`, others from `ALSO_FROM`.

    >>> sure(sparse.csr_matrix([[0.45, 0.42, 0.0], [0.6, 0.5, 0.1]])).toarray().tolist()
    [[True, False, False], [True, True, False]]
    """
    highest = np.repeat(chance.max(axis=1).toarray().ravel(), np.diff(chance.indptr))
    there = chance.data >= np.where(chance.data == highest, PREDICT_FROM, ALSO_FROM)
    found = sparse.csr_matrix((there, chance.indices, chance.indptr), chance.shape, copy=True)
    found.eliminate_zeros()
    return found


def predictions(
    found: Candidates, mixing: Mixing, contains: np.ndarray, tags: sparse.csr_matrix | None = None
) -> Predictions:
    """Probabilities of series from candidate classes.

    `contains` (C, S) says which series a class stands for: a series is as probable as its classes
    together. `tags` (n, S): what the pictures are tagged with.
    """
    p, unknown = mixing.probabilities(found)
    row, column = np.nonzero(found.present)
    of_class = sparse.csr_matrix((p[row, column], (row, found.classes[row, column])), (len(p), len(contains)))
    chance = (of_class @ sparse.csr_matrix(contains.astype(float))).minimum(1.0).tocsr()
    listed = chance >= LISTED_FROM
    chance = chance.multiply(listed if tags is None else listed + tags.astype(bool)).astype(np.float32).tocsr()
    named = np.where(found.foreign >= 0, unknown * expit(mixing.trust[0] * found.foreign_logit + mixing.trust[1]), 0.0)
    return Predictions(chance, unknown, found.foreign, named, mixing.forgotten[found.accompanied.astype(int)])


def tagged_probability(
    probability: np.ndarray, unknown: np.ndarray, frequency: np.ndarray, swapped: float
) -> np.ndarray:
    """Probability that a picture which *has* a tag is tagged with this series: (m,), 0 to 1. To be held against tags.

    A tagged picture is of one of the owner's series, unless its tag is wrong: `unknown` (m,) drops
    out, and of all tags the share `swapped` names any series by its `frequency` (m,).
    """
    fits = np.minimum(probability / np.maximum(1.0 - unknown, 1e-6), 1.0)
    return (1.0 - swapped) * fits + swapped * frequency


def agreement(
    said: Predictions, labels: Labels, learned: sparse.csr_matrix, swapped: float
) -> dict[str, float | int | None]:
    """How far out-of-fold predictions agree with the owner's tags, on the pictures that have any.

    Tags that no model could learn out of fold (`labels.learned`) are left out. `micro_f1` over all
    (picture, series), `macro_f1` the mean over series, `coverage` the share of pictures with a
    prediction, `calibration_error` of `tagged_probability` of the first series (Naeini et al. 2015).
    """
    rows = np.flatnonzero(labels.tagged)
    said, learned, tags = said.rows(rows), learned[rows], labels.tags[rows]
    (micro,), (macro,) = _f1(said, learned, np.ones((1, len(rows))))
    first, highest = np.asarray(said.chance.argmax(axis=1)).ravel(), said.chance.max(axis=1).toarray().ravel()
    right = values_at(tags, np.arange(len(rows)), first) & (highest > 0)
    frequency = np.asarray(tags.sum(axis=0)).ravel() / tags.sum()
    expected = tagged_probability(highest, said.unknown, frequency[first], swapped)
    judged = np.asarray(learned.sum(axis=1)).ravel() > 0
    error = expected_calibration_error(expected[judged], right[judged]) if judged.any() else None
    return {
        "micro_f1": round(float(micro), 4),
        "macro_f1": round(float(macro), 4),
        "series_judged": int((np.asarray(learned.sum(axis=0)) > 0).sum()),
        "coverage": round(float((np.diff(said.predicted.indptr) > 0).mean()), 4),
        "calibration_error": None if error is None else round(error, 4),
    }


def _f1(said: Predictions, tags: sparse.csr_matrix, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(micro, macro) F1 against `tags` csr (m, S), both (k,), each picture counted `times` (k, m); macro over series that occur."""
    predicted = said.predicted.astype(np.float64)
    both, has = times @ predicted.multiply(tags).tocsr(), times @ tags
    total, occurs = times @ predicted + has, has > 0
    macro = (2 * both / np.maximum(total, 1e-9) * occurs).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return 2 * both.sum(axis=1) / np.maximum(total.sum(axis=1), 1e-9), macro


def cross_fitted(folded: Folded, labels: Labels, seed: int = 0) -> Predictions:
    """Predictions of which not even the mixing weights have seen the picture: they come from the other half of the folds."""
    halves = folded.folds % 2 == 0, folded.folds % 2 == 1
    mixings = [fit_mixing(folded, labels, seed, ~here) for here in halves]
    told = [
        predictions(folded.candidates.rows(here), mixing, labels.contains(), labels.tags[here])
        for here, mixing in zip(halves, mixings)
    ]
    return Predictions.joined(told).rows(np.argsort(np.concatenate([np.flatnonzero(here) for here in halves])))


@dataclass(frozen=True)
class Gain:
    """What one set of predictions has over another: micro- and macro-F1 against the tags of both, and how sure the gain is.

    `gain` is that of the mean of the two scores; `sure` the share of resampled libraries (whole
    near-duplicate groups, with replacement: Efron 1979) in which it is above 0.
    """

    before: tuple[float, float]
    after: tuple[float, float]
    gain: float
    sure: float

    @property
    def real(self) -> bool:
        """Whether to go by it."""
        return self.gain > 0 and self.sure >= SURE_GAIN


def gain(
    before: Predictions,
    after: Predictions,
    labels: Labels,
    learned: sparse.csr_matrix,
    groups: np.ndarray,
    seed: int = 0,
) -> Gain:
    """How much nearer to the owner's tags `after` is than `before`, over the tagged pictures; `groups` (n,) near-duplicates."""
    rows = np.flatnonzero(labels.tagged)
    names, group = np.unique(groups[rows], return_inverse=True)
    number = len(names)
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    times = np.concatenate([np.ones((1, number)), drawn])[:, group]
    was, now = (np.stack(_f1(said.rows(rows), learned[rows], times)) for said in (before, after))  # (2, 1 + RESAMPLES)
    apart = (now - was).mean(axis=0)
    (micro, macro), (with_micro, with_macro) = (score[:, 0].round(4).tolist() for score in (was, now))
    sure = round(float((apart[1:] > 0).mean()), 4)
    return Gain((micro, macro), (with_micro, with_macro), round(float(apart[0]), 4), sure)
