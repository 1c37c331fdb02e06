"""What one embedding says by itself of the tags of its picture: a small model, kept for pictures that no detector has examined.

`tagcheck.tag_errors.distilled` learns it from what the detectors believe, `tagcheck.review.by_picture` asks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from tagcheck import arrays
from tagcheck.data_folder import SINGLE_PICTURE

VERSION = 1
BENDS = (-2.0, 0.0, 2.0, 5.0)  # of a log-likelihood ratio
LIMIT = 12.0  # a ratio beyond this is not believed
FORM = {
    "weight": "f2",
    "bias": "f1",
    "columns": "i1",
    "own_weight": "f2",
    "own_bias": "f1",
    "prior": "f1",
    "missing": "f1",
    "wrong": "f1",
    "names": arrays.TEXTS,
    "model": arrays.TEXTS,
    "never": "b1",
}


@dataclass(frozen=True)
class SinglePicture:
    """Ratios are linear in an embedding x (d,): `weight` (T, d) and `bias` (T,) of what was learned from the owner's tags, `own_weight`
    (K, d) and `own_bias` (K,) of the tagger's own last layer for the tags at `columns` (K,). `missing` and `wrong` are the
    coefficients of two logistic regressions on `features` of them and of `prior` (T,), the log-odds of each tag.
    """

    weight: np.ndarray
    bias: np.ndarray
    columns: np.ndarray
    own_weight: np.ndarray
    own_bias: np.ndarray
    prior: np.ndarray
    missing: np.ndarray
    wrong: np.ndarray

    def errors(self, x: np.ndarray, written: Sequence[bool]) -> np.ndarray:
        """How likely each tag of a picture is an error (T,): wrong where it is `written` (T,), missing where it is not."""
        own, knows = np.zeros((2, len(self.prior)))
        own[self.columns], knows[self.columns] = self.own_weight @ x + self.own_bias, 1
        rows = features(self.weight @ x + self.bias, own, knows, self.prior)
        linear = np.where(np.array(written, dtype=bool), rows @ self.wrong, rows @ self.missing)
        return np.asarray(1 / (1 + np.exp(-np.clip(linear, -40, 40))))


def features(learned: np.ndarray, own: np.ndarray, knows: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The columns (m, k) of the regressions: both ratios, bent at a few places, whether the tagger knows the tag, and its log-odds."""
    columns = []
    for ratio in (np.clip(learned, -LIMIT, LIMIT), np.clip(own, -LIMIT, LIMIT)):
        columns += [ratio, *(np.maximum(ratio - bend, 0) for bend in BENDS)]
    return np.column_stack([*columns, knows, prior, np.ones(len(prior))])


@dataclass(frozen=True)
class Kept:
    """The model with the `names` of its tags, the embeddings' `model`, and the `never` suggested ones (T,)."""

    says: SinglePicture
    names: list[str]
    model: str
    never: np.ndarray


def save(folder: Path, kept: Kept, examined: Sequence[str]) -> None:
    """Write it into the data folder, with the hashes of the pictures that the detectors have `examined`."""
    made = {one.name: getattr(kept.says, one.name) for one in fields(SinglePicture)}
    made |= {"names": kept.names, "model": [f"{VERSION} {kept.model}"], "never": kept.never}
    made["examined"] = np.frombuffer(bytes.fromhex("".join(examined)), np.uint8)
    arrays.save(folder / SINGLE_PICTURE, made)


def load(folder: Path) -> Kept | None:
    """What was kept; None for no file, a damaged one or one of another version."""
    held = arrays.load(folder / SINGLE_PICTURE, FORM)
    if held is None:
        return None
    says = SinglePicture(*(held[one.name] for one in fields(SinglePicture)))
    version, _, model = held["model"][0].partition(" ")
    tags, own = len(held["names"]), len(says.columns)
    lengths = [(tags, (says.weight, says.bias, says.prior, held["never"])), (own, (says.own_weight, says.own_bias))]
    sound = (
        version == str(VERSION)
        and all(len(one) == length for length, some in lengths for one in some)
        and says.weight.shape[1:] == says.own_weight.shape[1:]
        and bool(((says.columns >= 0) & (says.columns < tags)).all())
        and len(says.missing) == len(says.wrong) == features(*np.zeros((4, 1))).shape[1]
    )
    return Kept(says, held["names"], model, held["never"]) if sound else None
