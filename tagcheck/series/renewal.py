"""A series classifier over a library that has changed a little: only pictures that are new or have changed are judged anew.

The models of the last training stay, and so do the weights that turn scores into probabilities and what is said of every other
picture. Each picture is judged by a model that saw neither it nor a copy of it: a new one goes to the fold of its copies; one
whose copies are in several folds is left out until the next training, as is a series that only new pictures have.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagcheck import arrays, tags
from tagcheck.embedding import Embeddings
from tagcheck.series import classifier_files
from tagcheck.series.classifier_files import Classifier, Kept
from tagcheck.series.out_of_fold import learned
from tagcheck.series.probabilities import predictions
from tagcheck.series.scoring import Candidates, Model

FEWEST = 10_000  # pictures; of fewer all is learned anew, which takes seconds
MOST = 0.05  # share of the pictures that may have changed
NEW = 2  # pictures of a series that was not there from which on it has to be learned


class TooMuch(Exception):
    """So much has changed that all has to be learned anew; says what."""


@dataclass(frozen=True)
class Pictures:
    """The usable pictures of a library that have an embedding, n rows: `written` are all their tags, `tag_sets` those of the namespace."""

    embedded: Embeddings
    written: Sequence[Collection[str]]
    tag_sets: Sequence[Collection[str]]

    def characters(self) -> Iterator[list[str]]:
        """Of each picture its tags of characters, sorted."""
        return map(tags.InNamespaces(*tags.PERSON_NAMESPACES), self.written)

    def kept(self, folds: np.ndarray, models: Sequence[Model]) -> Kept:
        """What to keep of a training."""
        names = arrays.as_bytes(self.embedded.hashes)
        return Kept(
            names.view(np.uint8).reshape(-1, 32),
            arrays.row_digests(self.embedded.matrix),
            self._tagged(),
            folds,
            models,
        )

    def _tagged(self) -> np.ndarray:
        told = zip(self.tag_sets, self.characters())
        return arrays.digests("\n".join([*sorted(own), "", *some]).encode() for own, some in told)

    def changed(self, kept: Kept) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(the row that each picture had then (n,), -1 for none, whether its embedding is new, whether its tags are)."""
        before = arrays.places(arrays.as_bytes(self.embedded.hashes), kept.hashes.view("V32").ravel())
        fresh = (before < 0) | (kept.embedded[before] != arrays.row_digests(self.embedded.matrix))
        return before, fresh, (before < 0) | (kept.tagged[before] != self._tagged())


def renewed(
    made: Classifier, kept: Kept, lines: dict[str, bytes], again: Iterable[str], now: Pictures, groups: np.ndarray
) -> tuple[list[Any], list[str]]:
    """(the predictions for all pictures by their hashes, those of untouched ones the `lines` of then, the hashes judged anew).

    `again` were judged anew before, and are now too; `groups` (n,) are copies. Raises `TooMuch`.
    """
    before, fresh, retagged = now.changed(kept)
    hashes = now.embedded.hashes
    touched = fresh | retagged | np.isin(hashes, [*again])
    gone = len(kept.hashes) - int((before >= 0).sum())
    if touched.sum() + gone > MOST * len(hashes):
        changed = f"{int(touched.sum()):,} of {len(hashes):,} pictures are new or have changed"
        raise TooMuch(f"{changed}, and {gone:,} are gone")
    known = frozenset(made.series)
    unknown = Counter(tag for row in np.flatnonzero(touched).tolist() for tag in {*now.tag_sets[row]} - known)
    if unknown and unknown.most_common(1)[0][1] >= NEW:
        raise TooMuch(f"{unknown.most_common(1)[0][0]} was not learned")
    there = {hash: lines[hash] for hash, old in zip(hashes, ~touched) if old and hash in lines}
    if len(there) < (~touched).sum() * (1 - MOST):
        raise TooMuch("the predictions of then are not there")
    folds = _folds(kept, groups, before, fresh)
    rows = np.flatnonzero(touched & (folds >= 0))
    judged = _judged(made, kept, now, folds, rows) if len(rows) else ()
    merged: dict[str, Any] = there | {one["hash"]: one for one in judged}
    return [merged[hash] for hash in sorted(merged)], [hashes[row] for row in rows]


def _folds(kept: Kept, groups: np.ndarray, before: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """The fold of each picture (n,): the one it had, that of its copies, or else any; -1 where its copies are in several."""
    number = len(kept.models)
    folds = np.where(before >= 0, kept.folds[before], np.arange(len(before)) % number)
    low, high = np.full(int(groups.max()) + 1, number), np.full(int(groups.max()) + 1, -1)
    np.minimum.at(low, groups[~fresh], folds[~fresh])
    np.maximum.at(high, groups[~fresh], folds[~fresh])
    of_copies = np.where(high[groups] < 0, folds, np.where(low[groups] == high[groups], low[groups], -1))
    return np.where(fresh, of_copies, folds)


def _judged(
    made: Classifier, kept: Kept, now: Pictures, folds: np.ndarray, rows: np.ndarray
) -> Iterator[dict[str, Any]]:
    """What the models of their folds say of some pictures."""
    rows, matrix = rows[np.argsort(folds[rows], kind="stable")], now.embedded.matrix
    parts = []
    for fold in np.unique(folds[rows]):
        here = rows[folds[rows] == fold]
        written = [now.written[row] for row in here]
        parts.append(made.candidates(kept.models[fold], matrix[here], written))
    tag_sets = [now.tag_sets[row] for row in rows]
    labels = made.labels(tag_sets)
    said = predictions(Candidates.joined(parts), made.mixing, labels.contains(), labels.tags)
    told = [now.embedded.hashes[row] for row in rows], tag_sets, made.series, folds[rows], said
    return classifier_files.rows(*told, learned(kept.models, folds[rows], labels), made.card.get("foreign_names", ()))
