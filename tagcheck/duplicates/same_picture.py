"""What "the same picture" means for one network in one library: measured, kept with the embeddings, asked by every stage.

Some of the owner's own pictures are changed in memory and embedded beside the rest. The cosines of a picture and its
changed self say from which cosine on a pair may be a copy (`threshold`). What then tells copies from similar pictures is a comparison of
their pixels (`pixel_difference`): a logistic regression of both, learned from the changed pictures, which are copies,
and from the library's own pairs above the threshold, of which some share is (learning from positive and unlabelled
examples, by expectation and maximisation: Elkan and Noto 2008, Denis 1998).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, logit

from tagcheck import json_files
from tagcheck.errors import BadFile
from tagcheck.files import there, write_json
from tagcheck.learning.logistic import logistic
from tagcheck.similar.pairs import Pairs

FILE, KIND, VERSION = "same_picture.json", "same_picture", 4
REACH = 0.01  # share of the changed pictures that may be missed
BEYOND = 1.25  # how much further than that the threshold goes: the owner's copies are not ours
COPY = 0.35  # a pair that is less likely a copy never counts as one
LEAST = 0.1  # nor one that the regression alone makes less likely
ROUNDS = 12
USUAL = 9.0  # sum of the squares of three features, in deviations, that one copy in a hundred is beyond
RANDOM_PAIRS = 0.1  # weight of pairs drawn at random, as a share of that of the changed pictures
FAINT = 1.02  # 1 - cosine is counted from here, so that equal rows have a logarithm
PIXELS, COSINE_ALONE = 5, 1  # features with and without thumbnails


@dataclass(frozen=True)
class Measured:
    """What was measured. `threshold` the cosine from which pairs are looked at; the chance that one is a copy is
    sigmoid(weights @ ((features - centre) / spread, 1)), and `alone` the same for the cosine without pixels.

    `pictures` were changed `changes` times in a library of `library` pictures; `found` is what each change did to the cosine
    (the median, and what 95 in 100 are above).
    """

    model: str
    preprocess: str
    threshold: float
    centre: list[float]
    spread: list[float]
    weights: list[float]
    alone: list[float]
    pictures: int
    changes: int
    library: int
    found: dict[str, list[float]]

    def chance(self, cosine: np.ndarray, differences: np.ndarray | None) -> np.ndarray:
        """The chance (m,), 0 to 1, that pairs of these cosines are copies, with or without the `differences` (m, 4) of their pixels."""
        rows = _scaled(_features(cosine, differences), np.array(self.centre), np.array(self.spread))
        weights = np.array(self.alone if differences is None else self.weights)
        return _chance(rows, weights)


def reach(cosine: np.ndarray) -> float:
    """The cosine from which a pair may be a copy, told by the cosines (k,) of pictures and their changed selves."""
    return float(np.clip(1 - BEYOND * (1 - np.quantile(cosine, REACH)), 0.01, 0.999))


def learn(
    copies: tuple[np.ndarray, np.ndarray], pairs: tuple[np.ndarray, np.ndarray], random: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(centre, spread, weights, alone) of `Measured`, from the cosines (k,) and differences (k, 4) of copies and of pairs
    of the library that are as near, of which an unknown share are copies too.

    `random` (r, 4) are the differences of pictures drawn at random: no copies, however near a network holds them. They
    stand for similar pictures where a library has none, so that its own crops are not taken for such.
    """
    good, other = _features(*copies), _features(*pairs)
    bad = _features(np.resize(copies[0], len(random)), random)
    centre, spread = good.mean(axis=0), good.std(axis=0) + 1e-6
    good, other, bad = (_scaled(one, centre, spread) for one in (good, other, bad))
    near = np.quantile(good[:, 1:4], 0.98, axis=0) + 0.3
    start = (other[:, 1:4] <= near).all(axis=1).astype(np.float64)
    weights, share = _from_unlabelled(good, other, bad, start)
    weights[-1] -= logit(parting(_chance(good, weights), _chance(other, weights)))
    alone, _ = _from_unlabelled(good[:, :1], other[:, :1], bad[:0, :1], share, rounds=1)
    return centre, spread, weights, alone


def parting(known: np.ndarray, others: np.ndarray) -> float:
    """The chance, `LEAST` to .5, that parts copies from the library's other pairs with the best F1.

    `known` (k,) are the chances of copies, `others` (m,) those of the library's pairs. Of these as many are taken for copies as
    reach .5, for the share of the known ones that do: where no pair lies below, copies that look odd count too.

    >>> round(parting(np.array([0.2, 0.9, 0.9, 0.9]), np.array([0.01, 0.9, 0.9, 0.9])), 2)
    0.1
    """
    at = np.unique(np.concatenate([known, others, [LEAST, 0.5]]))
    at = at[(at >= LEAST) & (at <= 0.5)]
    reached = 1 - np.searchsorted(np.sort(known), at) / len(known)
    counted = len(others) - np.searchsorted(np.sort(others), at)
    copies = counted[-1] / max(reached[-1], 1e-9)
    f1 = 2 * np.minimum(copies * reached, counted) / np.maximum(counted + copies, 1)
    best = int(np.argmax(f1))
    return float(expit((logit(at[best]) + logit(at[max(best - 1, 0)])) / 2))


def _features(cosine: np.ndarray, differences: np.ndarray | None) -> np.ndarray:
    """What the chance is learned from, (m, 5), or (m, 1) without pixels; about normal for copies, larger for similar pictures."""
    far = np.log(FAINT - np.minimum(cosine, 1.0).astype(np.float64))[:, None]
    if differences is None:
        return np.asarray(far)
    left, patch, tint, share = differences.astype(np.float64).T
    return np.column_stack([far, np.log(left + 0.02), np.log1p(patch), np.log1p(tint), 5 * share])


def _scaled(rows: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.asarray((rows - centre[: rows.shape[1]]) / spread[: rows.shape[1]])


def _chance(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The chance (m,) that scaled features say, less where they are further off than those of changed pictures ever are.

    A regression gives each feature a straight line, so what the look-alikes of this library seldom show (another colour
    alone) would hardly count; that the features of copies are about normal bounds it.
    """
    apart = np.sum(np.maximum(rows[:, 1:4], 0) ** 2, axis=1)
    linear = rows @ weights[:-1] + weights[-1] - np.maximum(apart - USUAL, 0) / 2
    return np.asarray(expit(np.clip(linear, -40, 40)))


def _from_unlabelled(
    good: np.ndarray, other: np.ndarray, bad: np.ndarray, start: np.ndarray, rounds: int = ROUNDS
) -> tuple[np.ndarray, np.ndarray]:
    """(weights, chances of `other`): each round takes `other` for copies by the chances of the one before (`start`)."""
    chance = start
    weights = np.zeros(good.shape[1] + 1)
    fitted: np.ndarray | None = None
    rows = np.concatenate([good, other, other, bad])
    rows = np.column_stack([rows, np.ones(len(rows))])
    kind = np.repeat([1, 1, 0, 0], [len(good), len(other), len(other), len(bad)])
    drawn = np.full(len(bad), RANDOM_PAIRS * len(good) / max(1, len(bad)))
    for _ in range(rounds):
        counted = np.concatenate([np.ones(len(good)), chance, 1 - chance, drawn]) + 1e-3
        fitted = logistic(rows, kind, counted, start=fitted)
        # The changed pictures are copies beside the library's own: its share of copies is that of `other`.
        share = np.clip(chance.mean() if len(chance) else 0.5, 1e-3, 1 - 1e-3)
        trained = (len(good) + chance.sum()) / max(float((1 - chance).sum() + drawn.sum()), 1e-3)
        offset = np.log(share / (1 - share)) - np.log(trained)
        weights = np.append(fitted[:-1], fitted[-1] + offset)
        chance = _chance(other, weights)
    return weights, chance


def among(
    measured: Measured,
    pairs: Pairs,
    differences: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """(whether each of `pairs` is a copy (m,), the chance of it (m,)).

    `differences(i, j)` gives what `pixel_difference.differences` does, and for which pairs there are thumbnails at all.
    """
    chance = measured.chance(pairs.cosine, None)
    if differences is not None and len(pairs):
        apart, known = differences(pairs.i, pairs.j)
        chance = np.where(known, measured.chance(pairs.cosine, apart), chance)
    return chance >= copy_from(chance), chance


def copy_from(chance: np.ndarray) -> float:
    """The chance from which a pair counts as a copy, `COPY` to .5: where the expected F1 of those that count is highest.

    That is half of the F1 reached (Lipton, Elkan and Naryanaswamy 2014): where most pairs are told apart for certain, more
    likely than not is asked for.

    >>> round(float(copy_from(np.array([1.0] * 99 + [0.4, 0.0]))), 3), copy_from(np.array([0.3, 0.2]))
    (0.499, 0.35)
    """
    likely = np.sort(chance)[::-1]
    reached = 2 * np.cumsum(likely) / (np.arange(1, len(likely) + 1) + max(likely.sum(), 1e-9))
    return max(COPY, reached.max() / 2) if len(likely) else COPY


def save(folder: Path, measured: Measured) -> None:
    """Write it beside the embeddings."""
    write_json(folder / FILE, {"kind": KIND, "version": VERSION} | asdict(measured))


def load(folder: Path, model: str | None) -> Measured | None:
    """What was measured for `model`; None where nothing was, or for another one, or by another version. Raises `BadFile` naming the file."""
    path = folder / FILE
    if not there(path):
        return None
    document = json_files.read(path, again=WAY_OUT)
    if not isinstance(document, dict) or document.pop("kind", None) != KIND:
        raise BadFile(f"{path} is not of kind {KIND!r}: {WAY_OUT}")
    if document.pop("version", None) != VERSION:
        return None
    try:
        found = Measured(**document)
        numbers = [found.threshold, *found.centre, *found.spread, *found.weights, *found.alone]
        sizes = [len(found.centre), len(found.spread), len(found.weights) - 1, len(found.alone)]
        sound = np.isfinite(numbers).all() and sizes == [PIXELS, PIXELS, PIXELS, COSINE_ALONE + 1]
    except TypeError:
        sound = False
    if not sound or not 0 < found.threshold <= 1 or min(found.spread) <= 0:
        raise BadFile(f"{path} does not hold what was measured: {WAY_OUT}")
    return found if model is None or found.model == model else None


WAY_OUT = "remove it and run advanced_joytag_processing.py again"
