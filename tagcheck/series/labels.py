"""The owner's series tags as classes, and pictures spread over folds so that every class is in each."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from scipy import sparse

from tagcheck.tag_columns import tag_columns

FOLDS = 10
SET_PICTURES = 3  # pictures (not near-duplicates of each other) that make a set of series a class
SET_SHARE = 0.5  # and of the pictures of its rarest series: a part and its whole, not series that meet now and then


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


def label_images(tag_sets: Sequence[Collection[str]], groups: np.ndarray) -> Labels:
    """The classes of n pictures from their series tags. `groups` (n,) names each picture's near-duplicate group.

    A set of two or more series becomes a class when pictures of at least `SET_PICTURES` groups have
    exactly it and they are `SET_SHARE` of those of its rarest series; a picture with another set counts in equal parts for each of its series.

    >>> labels = label_images([frozenset({"series:a"}), frozenset({"series:a", "series:b"}), frozenset()], np.arange(3))
    >>> labels.series, labels.membership.toarray().tolist()
    (('series:a', 'series:b'), [[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    """
    support = Counter(tag for tags in tag_sets for tag in tags)
    series = tuple(sorted(support, key=lambda tag: (-support[tag], tag)))
    number = {tag: place for place, tag in enumerate(series)}
    several = ((tags, group) for tags, group in zip(tag_sets, groups.tolist()) if len(tags) > 1)
    seen = {(tuple(sorted(number[tag] for tag in tags)), group) for tags, group in several}
    frequent = Counter(members for members, _ in seen)
    rarest = {members: SET_SHARE * support[series[members[-1]]] for members in frequent}
    sets = [members for members in frequent if frequent[members] >= max(SET_PICTURES, rarest[members])]
    sets.sort(key=lambda members: (-frequent[members], members))
    return labelled(tag_sets, series, (*((place,) for place in range(len(series))), *sets))


def labelled(
    tag_sets: Sequence[Collection[str]], series: tuple[str, ...], classes: tuple[tuple[int, ...], ...]
) -> Labels:
    """The tags of n pictures as classes that are known; other tags count for nothing."""
    owned = tag_columns(tag_sets, series)
    of_set = {members: place for place, members in enumerate(classes)}
    rows = (tuple(owned.indices[start:end].tolist()) for start, end in pairwise(owned.indptr.tolist()))
    parts = [(of_set[members],) if members in of_set else members for members in rows]
    sizes = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    shares = np.repeat(1.0 / np.maximum(sizes, 1), sizes).astype(np.float32)
    columns = np.fromiter(chain.from_iterable(parts), dtype=np.int64, count=len(shares))
    ends = np.concatenate([[0], np.cumsum(sizes)])
    membership = sparse.csr_matrix((shares, columns, ends), shape=(len(parts), len(classes)))
    return Labels(series, classes, membership, owned.astype(bool))


def group_counts(labels: Labels, groups: np.ndarray) -> np.ndarray:
    """In how many near-duplicate groups (n,) each series has pictures: int64 (S,). One cannot be judged out of fold."""
    row, column = labels.tags.nonzero()
    pairs = np.unique(np.stack([column, groups[row]]), axis=1)
    return np.bincount(pairs[0], minlength=len(labels.series))


def learned(labels: Labels, group_counts: np.ndarray) -> sparse.csr_matrix:
    """csr (n, S) of 0/1: of each picture's own series, those that a model without its fold has pictures of (`spread_folds`)."""
    return labels.tags.multiply(group_counts >= 2).tocsr().astype(np.float32)


def spread_folds(folds: np.ndarray, groups: np.ndarray, labels: Labels) -> np.ndarray:
    """Folds (n,) in which no series with pictures of two or more groups stands in one fold alone.

    Otherwise the model of that fold would know nothing of the series. Whole groups are moved, one a
    series, to the fold that is smallest by then; twice, since a move may leave another series alone.
    """
    folds, columns = folds.copy(), labels.tags.tocsc()
    for place in np.tile(np.argsort(np.diff(columns.indptr), kind="stable"), 2):
        rows = columns.indices[columns.indptr[place] : columns.indptr[place + 1]]
        if (groups[rows] != groups[rows[0]]).any() and (folds[rows] == folds[rows[0]]).all():
            sizes = np.bincount(folds)
            sizes[folds[rows[0]]] = len(folds) + 1
            folds[groups == groups[rows].max()] = sizes.argmin()
    return folds
