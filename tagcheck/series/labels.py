"""The owner's series tags as classes, and pictures spread over folds so that every class is in each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

FOLDS = 10
SET_PICTURES = 3  # pictures (not near-duplicates of each other) that make a set of series a class


class CannotLearn(ValueError):
    """The tags do not suffice to learn from; the message says what is missing."""


@dataclass(frozen=True)
class Labels:
    """What the tags of n pictures say, as classes to tell apart.

    `series` (S,) full tags, the most frequent first. `classes` (C,): the series, as places in `series`, that each class
    stands for; the first S classes are the single series. `membership` csr (n, C): how much of a picture belongs to a
    class, rows sum to 1, or to 0 without a tag. `tags` csr (n, S) bool: which series the picture is tagged with.
    """

    series: tuple[str, ...]
    classes: tuple[tuple[int, ...], ...]
    membership: sparse.csr_matrix
    tags: sparse.csr_matrix

    @property
    def tagged(self) -> np.ndarray:
        """(n,) bool: which pictures have a tag at all."""
        return np.asarray(np.diff(self.membership.indptr) > 0)

    @property
    def single(self) -> np.ndarray:
        """(n,) the one class of each picture, -1 for pictures without a tag or with a set of series that is no class."""
        one = np.diff(self.membership.indptr) == 1
        out = np.full(self.membership.shape[0], -1, dtype=np.int64)
        out[one] = self.membership.indices[self.membership.indptr[:-1][one]]
        return out

    def contains(self) -> np.ndarray:
        """(C, S) bool: which series each class stands for."""
        out = np.zeros((len(self.classes), len(self.series)), dtype=bool)
        for place, members in enumerate(self.classes):
            out[place, list(members)] = True
        return out


def label_images(tag_sets: Sequence[frozenset[str]], groups: np.ndarray) -> Labels:
    """The classes of n pictures from their series tags. `groups` (n,) names each picture's near-duplicate group.

    A set of two or more series becomes a class when pictures of at least `SET_PICTURES` groups have
    exactly it; a picture with a rarer set counts in equal parts for each of its series.

    >>> labels = label_images([frozenset({"series:a"}), frozenset({"series:a", "series:b"}), frozenset()], np.arange(3))
    >>> labels.series, labels.membership.toarray().tolist()
    (('series:a', 'series:b'), [[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    """
    support = Counter(tag for tags in tag_sets for tag in tags)
    series = tuple(sorted(support, key=lambda tag: (-support[tag], tag)))
    number = {tag: place for place, tag in enumerate(series)}
    as_sets = [tuple(sorted(number[tag] for tag in tags)) for tags in tag_sets]
    seen = {(members, group) for members, group in zip(as_sets, groups.tolist()) if len(members) > 1}
    frequent = Counter(members for members, _ in seen)
    sets = [
        members
        for members, count in sorted(frequent.items(), key=lambda one: (-one[1], one[0]))
        if count >= SET_PICTURES
    ]
    classes = tuple((place,) for place in range(len(series))) + tuple(sets)
    return labelled(tag_sets, series, classes)


def labelled(
    tag_sets: Sequence[frozenset[str]], series: tuple[str, ...], classes: tuple[tuple[int, ...], ...]
) -> Labels:
    """The tags of n pictures as classes that are known; other tags count for nothing."""
    number = {tag: place for place, tag in enumerate(series)}
    as_sets = [tuple(sorted(number[tag] for tag in tags if tag in number)) for tags in tag_sets]
    of_set = {members: place for place, members in enumerate(classes)}
    parts = [(of_set[members],) if members in of_set else members for members in as_sets]
    return Labels(
        series,
        classes,
        _tagged_rows(parts, len(classes), shares=True).astype(np.float32),
        _tagged_rows(as_sets, len(series), shares=False).astype(bool),
    )


def _tagged_rows(parts: Sequence[tuple[int, ...]], width: int, shares: bool) -> sparse.csr_matrix:
    sizes = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    columns = np.fromiter((column for part in parts for column in part), dtype=np.int64, count=int(sizes.sum()))
    values = np.repeat(1.0 / np.maximum(sizes, 1), sizes) if shares else np.ones(len(columns))
    return sparse.csr_matrix((values, columns, np.concatenate([[0], np.cumsum(sizes)])), shape=(len(parts), width))


def group_counts(labels: Labels, groups: np.ndarray) -> np.ndarray:
    """In how many near-duplicate groups (n,) each series has pictures: int64 (S,). One cannot be judged out of fold."""
    row, column = labels.tags.nonzero()
    pairs = np.unique(np.stack([column, groups[row]]), axis=1)
    return np.bincount(pairs[0], minlength=len(labels.series))


def spread_folds(folds: np.ndarray, groups: np.ndarray, labels: Labels) -> np.ndarray:
    """Folds (n,) in which no series with pictures of two or more groups stands in one fold alone.

    Otherwise the model of that fold would know nothing of the series. Whole groups are moved, one a
    series, to the fold that is smallest by then.
    """
    folds = folds.copy()
    sizes = np.bincount(folds)
    columns = labels.tags.tocsc()
    for place in np.argsort(np.diff(columns.indptr), kind="stable"):
        rows = columns.indices[columns.indptr[place] : columns.indptr[place + 1]]
        members = np.unique(groups[rows])
        if len(members) < 2 or len(np.unique(folds[rows])) > 1:
            continue
        moved = groups == members[-1]
        here = folds[rows[0]]
        target = np.argsort(np.where(np.arange(len(sizes)) == here, len(folds) + 1, sizes), kind="stable")[0]
        folds[moved] = target
        sizes = np.bincount(folds, minlength=len(sizes))
    return folds
