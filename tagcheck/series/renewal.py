"""A series classifier over a library that has changed a little: only pictures that are new or have changed are judged anew.

The models of the last training stay, and so do the weights that turn scores into probabilities and what is said of every other
picture. Each picture is judged by a model that saw neither it nor a copy of it: a new one goes to the fold of its copies; one
whose copies are in several folds is left out until the next training, as is a series that only new pictures have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagcheck import arrays
from tagcheck.series import classifier_files
from tagcheck.series.classifier_files import Classifier, Kept
from tagcheck.series.labels import labelled
from tagcheck.series.out_of_fold import learned
from tagcheck.series.probabilities import predictions
from tagcheck.series.scoring import Candidates, score
from tagcheck.series.tagger_says import tag_columns

FEWEST = 10_000  # pictures; of fewer all is learned anew, which takes seconds
MOST = 0.05  # share of the pictures that may have changed
NEW = 2  # pictures of a series that was not there from which on it has to be learned


class TooMuch(Exception):
    """So much has changed that all has to be learned anew; says what."""


@dataclass(frozen=True)
class Now:
    """The library as it is: `matrix` (n, d) the embeddings of `hashes`, `tag_sets` their tags of the namespace, `characters` those of
    characters, `groups` (n,) copies.
    """

    hashes: list[str]
    matrix: np.ndarray
    tag_sets: list[frozenset[str]]
    characters: Sequence[Iterable[str]]
    groups: np.ndarray

    def kept(self, folds: np.ndarray, fitted: Sequence[Any]) -> Kept:
        """What to keep of a training."""
        names = arrays.as_bytes(self.hashes)
        return Kept(names, arrays.digests(self.matrix), self._tagged(), folds, fitted)

    def _tagged(self) -> np.ndarray:
        told = zip(self.tag_sets, self.characters)
        return arrays.digests("\n".join([*sorted(own), "", *sorted(some)]).encode() for own, some in told)

    def changed(self, kept: Kept) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(the row that each picture had then (n,), -1 for none, whether its embedding is new, whether its tags are)."""
        before = arrays.places(arrays.as_bytes(self.hashes), kept.hashes)
        fresh = (before < 0) | (kept.embedded[before] != arrays.digests(self.matrix))
        return before, fresh, (before < 0) | (kept.tagged[before] != self._tagged())


def renewed(
    made: Classifier, kept: Kept, lines: dict[str, bytes], again: Iterable[str], now: Now
) -> tuple[list[Any], list[str]]:
    """(the predictions for all pictures by their hashes, those of untouched ones the `lines` of then, the hashes judged anew).

    `again` were judged anew before, and are now too. Raises `TooMuch`.
    """
    before, fresh, retagged = now.changed(kept)
    touched = fresh | retagged | np.isin(now.hashes, [*again])
    gone = len(kept.hashes) - int((before >= 0).sum())
    if touched.sum() + gone > MOST * len(now.hashes):
        changed = f"{int(touched.sum()):,} of {len(now.hashes):,} pictures are new or have changed"
        raise TooMuch(f"{changed}, and {gone:,} are gone")
    unknown = Counter(tag for row in np.flatnonzero(touched) for tag in now.tag_sets[row] - set(made.series))
    if unknown and unknown.most_common(1)[0][1] >= NEW:
        raise TooMuch(f"{unknown.most_common(1)[0][0]} was not learned")
    folds = _folds(kept, now.groups, before, fresh)
    rows = np.flatnonzero(touched & (folds >= 0))
    there = {hash: lines[hash] for hash, old in zip(now.hashes, ~touched) if old and hash in lines}
    if len(there) < (~touched).sum() * (1 - MOST):
        raise TooMuch("the predictions of then are not there")
    judged = _judged(made, kept, now, before, folds, rows) if len(rows) else []
    merged: dict[str, Any] = there | {one["hash"]: one for one in judged}
    return [merged[hash] for hash in sorted(merged)], [now.hashes[row] for row in rows]


def _folds(kept: Kept, groups: np.ndarray, before: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """The fold of each picture (n,): the one it had, that of its copies, or else any; -1 where its copies are in several."""
    number = len(kept.fitted)
    folds = np.where(before >= 0, kept.folds[before], np.arange(len(before)) % number)
    low, high = np.full(int(groups.max()) + 1, number), np.full(int(groups.max()) + 1, -1)
    np.minimum.at(low, groups[~fresh], folds[~fresh])
    np.maximum.at(high, groups[~fresh], folds[~fresh])
    of_copies = np.where(high[groups] < 0, folds, np.where(low[groups] == high[groups], low[groups], -1))
    return np.where(fresh, of_copies, folds)


def _judged(
    made: Classifier, kept: Kept, now: Now, before: np.ndarray, folds: np.ndarray, rows: np.ndarray
) -> list[dict[str, Any]]:
    """What the models of their folds say of some pictures."""
    rows = rows[np.argsort(folds[rows], kind="stable")]
    tag_sets, number = [now.tag_sets[row] for row in rows], {name: place for place, name in enumerate(made.series)}
    classes = tuple(tuple(number[name] for name in members) for members in made.card["classes"])
    labels = labelled(tag_sets, made.series, classes)
    beside = tag_columns([frozenset(now.characters[row]) for row in rows], made.card["companions"])
    stands = np.full(len(kept.hashes), -1, dtype=np.int64)
    stands[before[before >= 0]] = np.flatnonzero(before >= 0)
    parts = []
    for fold in np.unique(folds[rows]):
        here = np.flatnonzero(folds[rows] == fold)
        model = kept.fitted[fold].over(now.matrix, stands)
        parts.append(score(model, now.matrix[rows[here]], labels.single[here], beside[here]))
    said = predictions(Candidates.joined(parts), made.mixing, made.contains, labels.tags)
    known = np.stack([one.plda.counts for one in kept.fitted])
    told = [now.hashes[row] for row in rows], tag_sets, made.series, folds[rows], said
    return classifier_files.rows(*told, learned(known, folds[rows], labels), made.card.get("foreign_names", ()))
