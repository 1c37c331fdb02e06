"""Which series is a picture of, or none of the owner's? Learned from stored embeddings, judged out of fold.

The steps, in order:

1. `label_images`: classes are the owner's series; sets of series that come together often (a
   franchise and its part) are classes of their own, so several series per picture are allowed
   exactly where the owner's tags say so.
2. `out_of_fold`: a PLDA model per fold (`tagcheck.plda`) scores the pictures that it was not
   fitted on. Near-duplicates share a fold.
3. `fit_mixing`: a conditional logit over the best candidates and "none of yours" turns scores into
   probabilities. What "none of yours" looks like is learned from the tagged pictures: a model that
   was fitted without a series sees its pictures as those of an unknown one. The owner's tags may be
   wrong, so the likelihood allows for a share of swapped ones (forward correction: Patrini et al.,
   CVPR 2017), and the share of unknown series among the pictures without a tag, which are unknown
   and no negatives, is found by EM (Saerens, Latinne and Decaestecker, Neural Computation 14, 2002).
What the tagger itself knows comes in as one more feature (`Prior`): those of its tags that name a
series of the owner's, are a character that the owner tags on pictures of one, or fire almost only on
pictures of one. So do the character tags that a picture has (`Companions`). A series that the tagger
knows and the model has no pictures of is named by the tagger alone (`Foreign`), as far as that has
turned out right where series were left out of training.

Numbers only; files are `tagcheck.series_files`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import optimize, sparse
from scipy.sparse import csgraph
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from tagcheck import probes, tags
from tagcheck.plda import Plda, fit_plda
from tagcheck.probes import expected_calibration_error

FOLDS = 10
EXEMPLARS = 8000       # pictures kept as they are, of all classes together
EXEMPLARS_A_CLASS = (32, 512)  # at least and at most of one class
NEAREST = 3            # of them that count
CANDIDATES = 24        # classes a picture is weighed between; the others are far below
SET_PICTURES = 3       # pictures (not near-duplicates of each other) that make a set of series a class
PREDICT_FROM = 0.4     # the first series; F1 is highest when cut at half the F1 there is to reach (Lipton et al., ECML 2014)
ALSO_FROM = 0.5        # any further series: both can only be there together, not one or the other
LISTED = 8             # series listed a picture
LISTED_FROM = 0.005    # and from which probability
MOST_SURE = 0.995      # no confidence goes beyond: the model of how tags go wrong is itself only a model
FIRES_FROM = 0.4       # the tagger's published threshold
RULE_PICTURES, RULE_SHARE = 3, 0.8  # tagged pictures on which a tag of the tagger fires, and the share of one class among them
STRANGE_PARTS = 5      # parts of the series, each left out once to see what an unknown series looks like
MIXING_ROWS = 20_000   # pictures that the few mixing weights are fitted on
# What is taken for likely where embeddings tell too little to find it out: shares, and what they weigh, in pictures a picture.
SWAPPED, SWAPPED_WEIGHT, MOST_SWAPPED = 0.04, 0.04, 0.2
UNKNOWN_OF_UNTAGGED, UNKNOWN_WEIGHT, SHARE_WEIGHT = 0.7, 0.1, 0.02
STRAY = 0.1            # how often a picture of an unknown series has a tag of some series, to one of a known series
SMALLEST_UNKNOWN = 0.02  # of all pictures: a picture to come may always be of an unknown series
FEW_TO_COMPARE = 20     # pictures below which two kinds of them are not held against each other
COMPANION_PRIOR = 0.5  # pictures by which the share of a character's series is drawn to what chance gives
MOST_FROM_COMPANIONS = 8.0  # however many characters a picture has
FIRST_WEIGHT, FIRST_SLOPE = 4.0, (1.0, 4.0)  # of the correction of the likeliest series: what its start weighs, and its bounds
FOREIGN_START, FOREIGN_WEIGHT = (1.0, 1.0), 10.0  # slope and offset of the tagger's logit where nothing is known, and its weight
RESTARTS = 8           # of the search for the highest likelihood, at most
LEAST_TUNED = 1e-4     # of a network's probabilities; less is not told apart
RESAMPLES, SURE_GAIN = 400, 0.9  # bootstrap of near-duplicate groups, and in how many of them a gain has to show
BLOCK = 4096
Progress = Callable[[float], None]


class CannotLearn(ValueError):
    """The tags do not suffice to learn from; the message says what is missing."""


@dataclass(frozen=True)
class Labels:
    """What the tags of n pictures say, as classes to tell apart.

    `series` (S,) full tags, the most frequent first. `classes` (C,): the series, as places in
    `series`, that each class stands for; the first S classes are the single series. `membership`
    csr (n, C): how much of a picture belongs to a class, rows sum to 1, or to 0 without a tag.
    `tags` csr (n, S) bool: which series the picture is tagged with.
    """

    series: tuple[str, ...]
    classes: tuple[tuple[int, ...], ...]
    membership: sparse.csr_matrix
    tags: sparse.csr_matrix

    @property
    def tagged(self) -> np.ndarray:
        """(n,) bool: which pictures have a tag at all."""
        return np.diff(self.membership.indptr) > 0

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
    sets = [members for members, count in sorted(frequent.items(), key=lambda one: (-one[1], one[0])) if count >= SET_PICTURES]
    classes = tuple((place,) for place in range(len(series))) + tuple(sets)
    of_set = {members: place for place, members in enumerate(classes)}
    parts = [(of_set[members],) if members in of_set else members for members in as_sets]
    return Labels(
        series, classes, _rows(parts, len(classes), shares=True).astype(np.float32),
        _rows(as_sets, len(series), shares=False).astype(bool),
    )


def _rows(parts: Sequence[tuple[int, ...]], width: int, shares: bool) -> sparse.csr_matrix:
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
        rows = columns.indices[columns.indptr[place]:columns.indptr[place + 1]]
        members = np.unique(groups[rows])
        if len(members) < 2 or len(np.unique(folds[rows])) > 1:
            continue
        moved = groups == members[-1]
        here = folds[rows[0]]
        target = np.argsort(np.where(np.arange(len(sizes)) == here, len(folds) + 1, sizes), kind="stable")[0]
        folds[moved] = target
        sizes = np.bincount(folds, minlength=len(sizes))
    return folds


@dataclass(frozen=True)
class Candidates:
    """For each of n pictures the classes it may be of, and what speaks for each.

    `classes` (n, K) int32, -1 where there are fewer; `features` (n, K, F) float32, higher speaks
    for the class; `unusual` (n, G) float32, what speaks for "none of yours" beside low scores.
    `foreign` (n,) int64 the series that the tagger names loudest among those the model has no pictures of,
    -1 for none, and `foreign_logit` (n,) float32 how loudly.
    """

    classes: np.ndarray
    features: np.ndarray
    unusual: np.ndarray
    foreign: np.ndarray
    foreign_logit: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """(n, K) bool: where there is a candidate."""
        return self.classes >= 0

    def rows(self, which: np.ndarray | slice) -> "Candidates":
        """The candidates of some of the pictures."""
        return Candidates(*(field[which] for field in vars(self).values()))


@dataclass(frozen=True)
class Model:
    """What a picture is held against: a PLDA model of C classes, and pictures of each class as they are.

    PLDA takes a class for one cloud. Many a series is several (its characters): there the nearest of
    its pictures tell more. `exemplars` (E, d) float32 are some pictures of each class; those of
    class c are rows `starts[c]` to `starts[c + 1]`. `companions` csr (T, C) from `companion_ratios`.
    """

    plda: Plda
    exemplars: np.ndarray
    starts: np.ndarray
    prior: "Prior"
    companions: sparse.csr_matrix


@dataclass(frozen=True)
class Prior:
    """The tagger's tags that speak for a class: logit of row r = weight[r] @ embedding + bias[r], for class `of_class[r]`.

    `weight` (R, d), `bias` (R,) float32, `of_class` (R,) int64 ascending. R may be 0. The rows of
    `foreign_weight` (Q, d), `foreign_bias` (Q,) name series without pictures: `foreign_names` (Q,) int64.
    """

    weight: np.ndarray
    bias: np.ndarray
    of_class: np.ndarray
    foreign_weight: np.ndarray
    foreign_bias: np.ndarray
    foreign_names: np.ndarray

    def foreign(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the series without pictures that is named loudest (m,), -1 without any; its logit (m,) float32)."""
        if not len(self.foreign_names):
            return np.full(len(matrix), -1, dtype=np.int64), np.full(len(matrix), -20.0, dtype=np.float32)
        logit = matrix @ self.foreign_weight.T + self.foreign_bias
        best = logit.argmax(axis=1)
        return self.foreign_names[best], logit[np.arange(len(logit)), best].astype(np.float32)

    def evidence(self, matrix: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """How loudly the loudest of a class's tags fires, (m, K) float32: its logit + 3, cut to 0 .. 6; 0 for no tag."""
        out = np.zeros(classes.shape, dtype=np.float32)
        if not len(self.of_class) or not len(matrix):
            return out
        heard, first = np.unique(self.of_class, return_index=True)
        loud = np.maximum.reduceat(np.clip(matrix @ self.weight.T + self.bias + 3.0, 0.0, 6.0), first, axis=1)
        place = np.minimum(np.searchsorted(heard, classes), len(heard) - 1)
        return np.where(heard[place] == classes, np.take_along_axis(loud, place, axis=1), out).astype(np.float32)


@dataclass(frozen=True)
class Tagger:
    """What the tagger says of n pictures: its head `weight` (V, d), `bias` (V,); `fires` csr (n, V) 0/1 the tags it gives.

    `named` (V,) is the class that a tag is called after, -1 for none; `names` (V,) places in `foreign_names`,
    tags of series as the owner would write them, for tags that are a series, else -1; `characters` (V,) the
    column of `beside` csr (n, T), the character tags that the owner gave, that a tag means, -1 for none.
    """

    weight: np.ndarray
    bias: np.ndarray
    fires: sparse.csr_matrix
    named: np.ndarray
    names: np.ndarray
    foreign_names: tuple[str, ...] = ()
    characters: np.ndarray | None = None
    beside: sparse.csr_matrix | None = None

    def prior(self, labels: Labels, rows: np.ndarray) -> Prior:
        """What its tags say about the classes, learned from the tags of some of the pictures alone.

        A tag speaks for the class it is called after, or else for the one that nearly all pictures are of
        that the owner gives this character, or at last for the one that `RULE_SHARE` of the pictures
        are of on which it fires, where that is far from what chance gives. A series that none of the
        pictures is of is foreign.
        """
        there = np.asarray(labels.membership[rows].sum(axis=0)).ravel() > 0
        named = np.where((self.named >= 0) & there[np.maximum(self.named, 0)], self.named, -1)
        if self.characters is not None and self.beside is not None and self.beside.shape[1]:
            of_owner = (self.beside[rows].T @ labels.membership[rows]).tocsr()
            most, among = np.asarray(of_owner.argmax(axis=1)).ravel(), np.asarray(of_owner.sum(axis=1)).ravel()
            pure = of_owner.max(axis=1).toarray().ravel() >= RULE_SHARE * np.maximum(among, 1e-9)
            implied = np.where((among >= 1.0) & pure, most, -1)
            means = np.where(self.characters >= 0, implied[np.maximum(self.characters, 0)], -1)
            named = np.where((named < 0) & (self.names < 0), means, named)
        counts = (self.fires[rows].T @ labels.membership[rows]).tocsr()
        total = np.asarray(counts.sum(axis=1)).ravel()
        best = np.asarray(counts.argmax(axis=1)).ravel()
        share = np.asarray(counts.max(axis=1).toarray()).ravel() / np.maximum(total, 1e-9)
        base = np.asarray(labels.membership[rows].sum(axis=0)).ravel()
        base = base / max(base.sum(), 1e-9)
        rule = (total >= RULE_PICTURES) & (share >= RULE_SHARE) & (share - base[best] >= 0.7 * (1.0 - base[best]))
        foreign = np.flatnonzero((self.names >= 0) & (named < 0))
        of_class = np.where(named >= 0, named, np.where(rule & (self.names < 0), best, -1))
        picked = np.flatnonzero(of_class >= 0)
        picked = picked[np.argsort(of_class[picked], kind="stable")]
        return Prior(
            self.weight[picked], self.bias[picked], of_class[picked].astype(np.int64),
            self.weight[foreign], self.bias[foreign], self.names[foreign],
        )


def listen(
    matrix: np.ndarray, weight: np.ndarray, bias: np.ndarray, names: Sequence[str], labels: Labels,
    owners: Sequence[str | None] | None = None, series_tags: Sequence[str | None] | None = None,
    beside: tuple[sparse.csr_matrix, Sequence[str]] | None = None,
) -> Tagger:
    """What a tagger of `names` (V,), `weight` (V, d) and `bias` (V,) says of embeddings (n, d), at a probability of `FIRES_FROM`.

    `owners` (V,) the owner's tag that each name means (`vocabulary.owners_tags`); where there is none,
    names are compared without case, spaces, punctuation and a "(series)" at the end. `series_tags` (V,)
    the tag that each name that is a series would have, whether the owner has it or not. `beside`: the
    character tags that the owner gave, csr (n, T), and what they are called.
    """
    own = {_bare(tags.split(name)[1]): place for place, name in enumerate(labels.series)}
    exactly = {name: place for place, name in enumerate(labels.series)}
    owners = [None] * len(names) if owners is None else owners
    series_tags = [None] * len(names) if series_tags is None else series_tags
    named = np.array(
        [exactly.get(tag, own.get(_bare(tags.from_booru(name)), -1)) for tag, name in zip(owners, names)], dtype=np.int64
    )
    written = [labels.series[place] if place >= 0 and tag else tag for place, tag in zip(named.tolist(), series_tags)]
    foreign = tuple(sorted({tag for tag in written if tag}))
    at = {tag: place for place, tag in enumerate(foreign)}
    column = {tag: place for place, tag in enumerate(beside[1])} if beside else {}
    from_logit = float(probes.logit(np.array(FIRES_FROM)))
    parts = [
        sparse.csr_matrix(matrix[start:start + BLOCK] @ weight.T + bias >= from_logit, dtype=np.float32)
        for start in range(0, len(matrix), BLOCK)
    ]
    return Tagger(
        weight, bias, sparse.vstack(parts, format="csr"), named,
        np.array([at[tag] if tag else -1 for tag in written], dtype=np.int64), foreign,
        np.array([column.get(tag, -1) for tag in owners], dtype=np.int64), beside[0] if beside else None,
    )


def tag_columns(tag_sets: Sequence[Collection[str]], names: Sequence[str]) -> sparse.csr_matrix:
    """csr (n, T) float32 of 0 and 1: which of the tags `names` (T,) each picture has."""
    column = {name: place for place, name in enumerate(names)}
    places = [tuple(sorted(column[tag] for tag in tags if tag in column)) for tags in tag_sets]
    return _rows(places, len(names), shares=False).astype(np.float32)


def companion_ratios(beside: sparse.csr_matrix, labels: Labels, rows: np.ndarray) -> sparse.csr_matrix:
    """How much likelier a class is where a character tag stands, csr (T, C): log-ratios above 0, from the pictures `rows` alone.

    Shares of few pictures are drawn toward the class's own by `COMPANION_PRIOR` pictures.
    """
    together = (beside[rows].T @ labels.membership[rows]).tocoo()
    total = np.asarray(beside[rows].T @ labels.membership[rows].sum(axis=1)).ravel()
    base = np.asarray(labels.membership[rows].sum(axis=0)).ravel()
    base = base / max(base.sum(), 1e-9)
    share = (together.data + COMPANION_PRIOR * base[together.col]) / (total[together.row] + COMPANION_PRIOR)
    value = np.maximum(np.log(share / np.maximum(base[together.col], 1e-9)), 0.0)
    return sparse.csr_matrix((value.astype(np.float32), (together.row, together.col)), shape=together.shape)


def _bare(name: str) -> str:
    """A name as it is compared: `Fate (series)` and `fate` are one."""
    bare = "".join(one for one in name.lower().removesuffix("(series)") if one.isalnum())
    return bare or name


def pick_exemplars(own: np.ndarray, rows: np.ndarray, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Some of `rows` for each of `number` classes, drawn by lot: (rows (E,), starts (number + 1,)).

    `own` (n,) is each picture's class. About `EXEMPLARS` in all, the same number of every class.
    """
    limit = int(np.clip(EXEMPLARS // number, *EXEMPLARS_A_CLASS))
    shuffled = np.random.default_rng(seed).permutation(rows[own[rows] >= 0])
    order = shuffled[np.argsort(own[shuffled], kind="stable")]
    first = np.searchsorted(own[order], np.arange(number + 1))
    rank = np.arange(len(order)) - first[own[order]]
    kept = order[rank < limit]
    return kept, np.searchsorted(own[kept], np.arange(number + 1))


def nearness(unit: np.ndarray, exemplars: np.ndarray, starts: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How near each picture is to the nearest of a class's exemplars, (m, K) float32, -1 to 1.

    The mean cosine with the `NEAREST` best of them, for each of its candidate `classes` (m, K), -1
    for none. `unit` (m, d) and `exemplars` (E, d) have rows of length 1. A class without exemplars
    gives -1.
    """
    out = np.full(classes.shape, -1.0, dtype=np.float32)
    flat = classes.ravel()
    order = np.argsort(flat, kind="stable")
    bounds = np.searchsorted(flat[order], np.arange(len(starts)))
    with threadpool_limits(1, user_api="blas"):  # thousands of small products: threads would spend ten times as long waiting
        for one in np.flatnonzero(np.diff(bounds) * np.diff(starts)):
            places = order[bounds[one]:bounds[one + 1]]
            cosine = unit[places // classes.shape[1]] @ exemplars[starts[one]:starts[one + 1]].T
            if cosine.shape[1] > NEAREST:
                cosine = np.partition(cosine, -NEAREST, axis=1)[:, -NEAREST:]
            out.ravel()[places] = cosine.mean(axis=1)
    return out


def _unit(matrix: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(length > 0, length, 1.0)


def score(
    model: Model, matrix: np.ndarray, own: np.ndarray | None = None, beside: sparse.csr_matrix | None = None,
    keep: int = CANDIDATES,
) -> Candidates:
    """The `keep` best classes of each embedding (m, d) under one model, and of `own` (m,) also that class.

    `own` is the class that the owner's tag names (-1 for none): it is weighed whatever its score.
    The features are, of each class: PLDA's log ratio; the same, less steep for pictures far from
    everything (as tails heavier than a Gaussian's would make it); the log of its pictures; the
    nearness of its pictures, in the embedding and in PLDA's space; what the tagger says for it; what a
    fine-tuned network says (`witnessed`); what the pictures' character tags, `beside` csr (m, T), say.
    """
    plda = model.plda
    size = (len(matrix), keep + (own is not None))
    classes, values = np.full(size, -1, dtype=np.int32), np.zeros((*size, FEATURES), dtype=np.float32)
    unusual = np.zeros((len(matrix), 2), dtype=np.float32)
    foreign, loud = np.zeros(len(matrix), dtype=np.int64), np.zeros(len(matrix), dtype=np.float32)
    log_counts = np.log(np.maximum(plda.counts, 0.1)).astype(np.float32)
    around = _unit(model.exemplars - plda.centre), _unit(plda.project(model.exemplars))
    for start in range(0, len(matrix), BLOCK):
        rows = slice(start, min(start + BLOCK, len(matrix)))
        z = plda.project(matrix[rows])
        all_scores = plda.scores(z)
        typical = plda.typicality(z)
        picked = _best(all_scores + log_counts, keep)
        if own is not None:
            mine = own[rows][:, None]
            again = (picked == mine).any(axis=1, keepdims=True)
            picked = np.concatenate([picked, np.where(again | (mine < 0), -1, mine)], axis=1)
        there = np.take_along_axis(all_scores, np.maximum(picked, 0), axis=1)
        picked = np.where((picked >= 0) & np.isfinite(there), picked, -1)
        there = np.where(picked >= 0, there, 0.0)
        wide = picked.shape[1]
        classes[rows, :wide] = picked
        values[rows, :wide, 0] = there
        values[rows, :wide, 1] = there / (0.5 + 0.5 * typical[:, None])
        values[rows, :wide, 2] = np.where(picked >= 0, log_counts[np.maximum(picked, 0)], 0.0)
        for feature, seen, exemplars in zip((3, 4), (matrix[rows] - plda.centre, z), around):
            values[rows, :wide, feature] = nearness(_unit(seen), exemplars, model.starts, picked)
        values[rows, :wide, 5] = model.prior.evidence(matrix[rows], picked)
        unusual[rows, 0] = 1.0
        unusual[rows, 1] = np.log(np.maximum(typical, 1e-6))
        foreign[rows], loud[rows] = model.prior.foreign(matrix[rows])
        if beside is not None and model.companions.nnz:
            said = (beside[rows] @ model.companions).tocsr()
            heard = np.flatnonzero(np.diff(said.indptr))
            at = np.maximum(picked[heard], 0)
            found = np.minimum(np.take_along_axis(said[heard].toarray(), at, axis=1), MOST_FROM_COMPANIONS)
            values[start + heard, :wide, COMPANIONS] = np.where(picked[heard] >= 0, found, 0.0)
    return Candidates(classes, values, unusual, foreign, loud)


def _best(scores: np.ndarray, keep: int) -> np.ndarray:
    """Columns of the `keep` highest of each row, in no order."""
    if scores.shape[1] <= keep:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape).copy()
    return np.argpartition(scores, -keep, axis=1)[:, -keep:]


@dataclass(frozen=True)
class Folded:
    """Out-of-fold candidates of n pictures, and what each fold's model could know.

    `folds` (n,); `known` (folds, C) float: pictures of each class in the rows that a fold's model
    was fitted on. `strangers`: candidates of `strange_rows` (m,), tagged pictures, under models that
    were fitted without their series, as if these were unknown; the rows have nothing in common with
    the order of the candidates otherwise. `planted`: candidates of `planted_rows` (p,), tagged pictures,
    out of fold, had their tag been swapped for the class `planted_class` (p,), drawn by frequency.
    `foreign_class` (names,): the owner's series that each of the tagger's is, -1 for one that the owner has not.
    """

    candidates: Candidates
    folds: np.ndarray
    known: np.ndarray
    strangers: Candidates
    strange_rows: np.ndarray
    planted: Candidates
    planted_rows: np.ndarray
    planted_class: np.ndarray
    foreign_class: np.ndarray | None = None

    def learned(self, labels: Labels) -> sparse.csr_matrix:
        """csr (n, S) of 0/1: of each picture's own series, those that the model which judged it had pictures of."""
        of_fold = self.known @ labels.contains() > 0
        row, column = labels.tags.nonzero()
        return sparse.csr_matrix((of_fold[self.folds[row], column].astype(np.float32), (row, column)), shape=labels.tags.shape)


def out_of_fold(
    matrix: np.ndarray, labels: Labels, folds: np.ndarray, seed: int = 0, progress: Progress | None = None,
    tagger: Tagger | None = None, beside: sparse.csr_matrix | None = None,
) -> tuple[Folded, Model]:
    """Scores of every picture by a model that saw neither it nor a near-duplicate; and the model of all pictures.

    `matrix` (n, d) embeddings, `folds` (n,) from `probes.grouped_folds`, `tagger` from `listen`, `beside` csr (n, T)
    the pictures' character tags. All models come out of one pass over the data. Raises `CannotLearn` when
    a fold's model would know fewer than two series.
    """
    tagged = np.flatnonzero(labels.tagged)
    sums = probes.moments(matrix[tagged], labels.membership[tagged], folds[tagged])
    number = int(folds.max()) + 1
    own = labels.single
    found: Candidates | None = None
    known = np.zeros((number, len(labels.classes)))
    swapped = _swap(labels, seed)
    planted: list[tuple[np.ndarray, Candidates]] = []
    for fold in range(number):
        model = _model(matrix, labels, sums, fold, np.flatnonzero(folds != fold), tagger, beside, seed)
        known[fold] = model.plda.counts
        rows = np.flatnonzero(folds == fold)
        part = score(model, matrix[rows], own[rows], _some(beside, rows))
        if found is None:
            found = Candidates(*(np.zeros((len(matrix), *field.shape[1:]), field.dtype) for field in vars(part).values()))
        for name, field in vars(part).items():
            getattr(found, name)[rows] = field
        rows = rows[(swapped[rows] >= 0) & (known[fold][np.maximum(swapped[rows], 0)] > 0)]
        planted.append((rows, score(model, matrix[rows], swapped[rows], _some(beside, rows))))
        if progress:
            progress(0.8 * (fold + 1) / number)
    rows = np.concatenate([rows for rows, _ in planted])
    folded = Folded(
        found, folds, known, *_as_strangers(matrix, labels, found, tagger, beside, seed), _joined([part for _, part in planted]),
        rows, swapped[rows], _foreign_class(tagger, labels),
    )
    return folded, _model(matrix, labels, sums, None, np.arange(len(matrix)), tagger, beside, seed)


def _some(beside: sparse.csr_matrix | None, rows: np.ndarray) -> sparse.csr_matrix | None:
    return None if beside is None else beside[rows]


def _model(
    matrix: np.ndarray, labels: Labels, sums: probes.FoldedMoments, without: int | None, rows: np.ndarray,
    tagger: Tagger | None, beside: sparse.csr_matrix | None, seed: int,
) -> Model:
    """The model of `rows`, whose sums are all of `sums` but those of the part `without`."""
    picked, starts = pick_exemplars(labels.single, rows, len(labels.classes), seed)
    width = matrix.shape[1]
    nothing = np.zeros((0, width), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    prior = tagger.prior(labels, rows) if tagger else Prior(*nothing, *nothing)
    if beside is None:
        companions = sparse.csr_matrix((0, len(labels.classes)), dtype=np.float32)
    else:
        companions = companion_ratios(beside, labels, rows)
    return Model(_fit(sums, without), matrix[picked].astype(np.float32), starts, prior, companions)


def _as_strangers(
    matrix: np.ndarray, labels: Labels, found: Candidates, tagger: Tagger | None, beside: sparse.csr_matrix | None, seed: int
) -> tuple[Candidates, np.ndarray]:
    """(candidates, rows (m,)) of tagged pictures under models that were fitted without their series.

    The series are dealt to up to `STRANGE_PARTS` parts, those that share a picture to one, and each
    part is left out once. With fewer than three, where no two series would be left to tell apart,
    a picture's own series are struck out of the candidates it was `found` to have.
    """
    own, related = labels.single, _kin(labels)
    rows = np.flatnonzero(own >= 0)
    kin = related[own[rows]]
    parts = min(STRANGE_PARTS, len(np.unique(kin)))
    if parts < 3:
        part = found.rows(rows)
        struck = related[np.maximum(part.classes, 0)] == kin[:, None]
        return replace(part, classes=np.where(struck, -1, part.classes)), rows
    held = probes.grouped_folds(kin, parts, seed)
    sums = probes.moments(matrix[rows], labels.membership[rows], held)
    judged = np.random.default_rng(seed).permutation(len(rows))[:MIXING_ROWS]
    made, order = [], []
    for part in range(parts):
        strange = rows[np.sort(judged[held[judged] == part])]
        model = _model(matrix, labels, sums, part, rows[held != part], tagger, beside, seed)
        made.append(score(model, matrix[strange], beside=_some(beside, strange)))
        order.append(strange)
    return _joined(made), np.concatenate(order)


def _foreign_class(tagger: Tagger | None, labels: Labels) -> np.ndarray | None:
    own = {name: place for place, name in enumerate(labels.series)}
    return np.array([own.get(name, -1) for name in tagger.foreign_names], dtype=np.int64) if tagger else None


def _joined(parts: Sequence[Candidates]) -> Candidates:
    return Candidates(*(np.concatenate(fields) for fields in zip(*(vars(one).values() for one in parts))))


def _swap(labels: Labels, seed: int) -> np.ndarray:
    """(n,) a class for each of up to `MIXING_ROWS` pictures that have one, drawn by frequency, not akin to its own; else -1."""
    own, kin, rng = labels.single, _kin(labels), np.random.default_rng([seed, 1])
    rows = rng.permutation(np.flatnonzero(own >= 0))[:MIXING_ROWS]
    frequency = np.bincount(own[own >= 0], minlength=len(labels.classes)).astype(float)
    out = np.full(len(own), -1, dtype=np.int64)
    if len(rows):
        drawn = rng.choice(len(frequency), size=len(rows), p=frequency / frequency.sum())
        out[rows] = np.where(kin[drawn] == kin[own[rows]], -1, drawn)
    return out


def _kin(labels: Labels) -> np.ndarray:
    """(C,) a number for each class, the same for classes that share a series, whether directly or through others."""
    contains = labels.contains().astype(np.float32)
    return csgraph.connected_components(sparse.csr_matrix(contains @ contains.T), directed=False)[1]


def witnessed(
    found: Candidates, log_p: np.ndarray, known: np.ndarray, folds: np.ndarray | None = None, struck: np.ndarray | None = None
) -> Candidates:
    """`found` with what a network that was trained on the pictures says of each candidate class, as one more feature.

    `log_p` (n, C) its log-probabilities, a row of zeros where it has seen nothing; `known` (folds, C)
    bool the classes that each fold's network was trained with, `folds` (n,) which one spoke (default:
    the first). `struck` csr (n, C) bool: classes taken for unknown, their probability goes to the
    others. The feature is the log of how many times more probable than by chance a class is; 0 says nothing.
    """
    features = found.features.copy()
    folds = np.zeros(len(log_p), dtype=np.int64) if folds is None else folds
    for start in range(0, len(log_p), BLOCK):
        rows = slice(start, start + BLOCK)
        left = known[folds[rows]]
        if struck is not None:
            left = left & ~struck[rows].toarray()
        p = np.where(left, np.exp(log_p[rows].astype(np.float32)), 0.0)
        p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-12)
        at = np.maximum(found.classes[rows], 0)
        chance = np.maximum(left.sum(axis=1, keepdims=True), 1)
        value = np.log(np.maximum(np.take_along_axis(p, at, axis=1), LEAST_TUNED) * chance)
        spoke = (log_p[rows] < 0).any(axis=1)[:, None]
        heard = (found.classes[rows] >= 0) & np.take_along_axis(left, at, axis=1) & spoke
        features[rows, :, TUNED] = np.where(heard, value, 0.0)
    return replace(found, features=features)


def with_network(folded: Folded, labels: Labels, log_p: np.ndarray, folds: np.ndarray, known: np.ndarray) -> Folded:
    """`folded` with a network's word on every picture, out of fold as well.

    `log_p` (n, C) of networks that have not seen the picture or a near-duplicate; the network that
    judged row i was trained with the classes `known[folds[i]]` (C,) bool. That a stranger's own
    series is known to the network is hidden by striking it out.
    """
    related, rows = _kin(labels), folded.strange_rows
    of_kin = sparse.csr_matrix((np.ones(len(related), dtype=bool), (related, np.arange(len(related)))))
    own = of_kin[related[labels.single[rows]]]
    strangers = witnessed(folded.strangers, log_p[rows], known, folds[rows], own)
    rows = folded.planted_rows
    planted = witnessed(folded.planted, log_p[rows], known, folds[rows])
    return replace(folded, candidates=witnessed(folded.candidates, log_p, known, folds), strangers=strangers, planted=planted)


def _fit(sums: probes.FoldedMoments, fold: int | None) -> Plda:
    """The model without one fold, or of all rows."""
    left = [place for place in range(len(sums.count)) if place != fold]
    count = sums.count[left].sum()
    counts = sums.sum_y[left].sum(axis=0)
    if (counts > 1e-9).sum() < 2:
        raise CannotLearn("fewer than two series are left when the pictures of one part are held back")
    mean = sums.sum_x[left].sum(axis=0) / count
    gram = sums.gram[left].sum(axis=0) - count * np.outer(mean, mean)
    class_sums = (sums.cross[left].sum(axis=0) - np.outer(mean, counts)).T
    return fit_plda(mean + sums.centre, gram, class_sums, np.where(counts > 1e-9, counts, 0.0))


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


@dataclass(frozen=True)
class Absence:
    """What it means that pictures of one kind have no tag: they are of unknown series, or it is forgotten.

    Of `pictures`, tagged or not, `unknown_share` are of unknown series; of those of known series `forgotten_share` have no
    tag. `strange` turns the log-odds of "none of yours", `Mixing.agreement` times `_agreed` added, into the log of the ratio
    of densities of unknown and known pictures.
    """

    pictures: int
    unknown_share: float
    forgotten_share: float
    strange: Ratio = Ratio()


@dataclass(frozen=True)
class Mixing:
    """How scores become probabilities.

    `weights` (F,) of the features, `none` (G,) of what makes "none of yours"; `swapped` the share of tags that name another
    series than the picture's. `absence` of all pictures, and `by_company`, where both are many enough, that of those whose
    character tags say nothing and of those whose do: who forgets the series mostly forgets the characters, too. `first`
    corrects the log-odds of the likeliest series. `fitting` turns the `tag_odds` of a tag into the log of the ratio of
    densities of right and wrong tags. `foreign` (slope, offset) turns the logit of a series that the tagger names into the
    log-odds that it is this, if none of the known.
    """

    weights: np.ndarray
    none: np.ndarray
    swapped: float
    absence: Absence
    by_company: tuple[Absence, Absence] | None = None
    first: Ratio = Ratio()
    fitting: Ratio = Ratio()
    foreign: tuple[float, float] = FOREIGN_START
    agreement: float = 0.0

    def probabilities(self, found: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """(probability of each candidate class (n, K), of none of the owner's series (n,)); each row sums to 1."""
        among, odds = self._looks(found)
        odds, strange = odds + self.agreement * _agreed(among), np.zeros(len(among))
        for absence, here in self._kinds(found):
            share = absence.unknown_share
            strange[here] = absence.strange(odds[here]) + np.log(share) - np.log1p(-share)
        unknown = np.where(found.present.any(axis=1), probes.sigmoid(strange), 1.0)
        return _first_corrected(among, self.first) * (1.0 - unknown)[:, None], unknown

    def forgotten(self, found: Candidates) -> np.ndarray:
        """Of pictures of its kind and of known series, the share without a tag: (n,), 0 to 1."""
        out = np.zeros(len(found.classes))
        for absence, here in self._kinds(found):
            out[here] = absence.forgotten_share
        return out

    def _kinds(self, found: Candidates) -> list[tuple[Absence, np.ndarray]]:
        if self.by_company is None:
            return [(self.absence, np.ones(len(found.classes), dtype=bool))]
        heard = _in_company(found)
        return [(self.by_company[0], ~heard), (self.by_company[1], heard)]

    def _looks(self, found: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """(probability of each candidate class if it is any (n, K), log-odds of "none of yours" before `strange` (n,))."""
        p = _softmax(_logits(found, _none_features(found), self.weights, self.none, 0.0))
        known = np.maximum(p[:, :-1].sum(axis=1), 1e-12)
        return p[:, :-1] / known[:, None], _log_odds(p[:, -1], known)


def _in_company(found: Candidates) -> np.ndarray:
    """(n,) bool: which pictures have a character tag that speaks for one of their candidates."""
    return (found.features[..., COMPANIONS] > 0).any(axis=1)


def _first_corrected(among: np.ndarray, first: Ratio) -> np.ndarray:
    """Probabilities (n, K) with the log-odds of the highest of each row corrected; the others share what is left as before."""
    if first == Ratio() or not among.size:
        return among
    rows, at, left = _first_of(among)
    sure = np.where(left > 0, probes.sigmoid(first(_log_odds(among[rows, at], left))), among[rows, at])
    out = among * ((1.0 - sure) / np.maximum(left, 1e-300))[:, None]
    out[rows, at] = sure
    return out


def _first_of(among: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(0 .. n - 1, the column of the highest of each row, what the others of the row come to)."""
    rows, at = np.arange(len(among)), among.argmax(axis=1)
    others = among.copy()
    others[rows, at] = 0.0
    return rows, at, others.sum(axis=1)


START_WEIGHTS = np.array([0.3, 0.2, 0.5, 4.0, 4.0, 0.3, 0.5, 0.5])
PULL_TO_START = np.array([1.0, 1.0, 1.0, 0.05, 0.05, 1.0, 1.0, 1.0])  # a cosine spans little, so its weight may be large
START_NONE = np.array([1.0, 0.0, 0.0, 0.0])
NEARNESS = slice(3, 5)  # among the features
TUNED, COMPANIONS = 6, 7
FEATURES = len(START_WEIGHTS)
AGREEMENT = (-10.0, 0.0)  # bounds of what the candidates' agreement may say against "none of yours"


def _logits(found: Candidates, against: np.ndarray, weights: np.ndarray, none: np.ndarray, shift: float) -> np.ndarray:
    """(n, K + 1): the candidates', -inf where there is none, and last that of "none of yours" from `against` (n, G)."""
    classes = np.where(found.present, found.features @ weights, -np.inf)
    return np.concatenate([classes, (against @ none + shift)[:, None]], axis=1)


def _agreed(among: np.ndarray) -> np.ndarray:
    """Log of the share that the likeliest of the candidates has, from their probabilities (n, K): at most 0, and 0 is one alone."""
    return np.log(np.maximum(among.max(axis=1, initial=0.0), 1e-12))


def _none_features(found: Candidates) -> np.ndarray:
    """(n, G): 1, the log of how unusual the picture is, and how near the nearest candidate's pictures are."""
    near = np.where(found.present[..., None], found.features[..., NEARNESS], -1.0).max(axis=1, initial=-1.0)
    return np.concatenate([found.unusual, near], axis=1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    out = np.exp(logits - logits.max(axis=1, keepdims=True))
    return out / out.sum(axis=1, keepdims=True)


def fit_mixing(folded: Folded, labels: Labels, seed: int = 0, among: np.ndarray | None = None) -> Mixing:
    """The mixing weights from out-of-fold candidates; see the module's steps 3.

    Pictures of one class that their fold's model knows count as they are, and again as strangers, in
    equal parts. With `among` (n,) bool the weights are learned from those alone.
    """
    found, own, strangers = folded.candidates, labels.single, folded.strangers
    learnable = (own >= 0) & (folded.known[folded.folds, np.maximum(own, 0)] > 0)
    if among is not None:
        learnable, strangers = learnable & among, strangers.rows(among[folded.strange_rows])
    rows = np.flatnonzero(learnable)
    if len(rows) > MIXING_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MIXING_ROWS, replace=False))
    picked = found.rows(rows)
    frequency = np.asarray(labels.membership.sum(axis=0)).ravel()
    frequency = frequency / frequency.sum()
    target = (picked.classes == own[rows][:, None]).argmax(axis=1)
    weights, none, swapped = _maximise(picked, target, frequency[own[rows]], strangers)
    made = Mixing(weights, none, swapped, Absence(0, 0.0, 0.0), foreign=_trust(folded, labels, among))
    made = _with_absence_as_seen(made, found, labels, rows, among)
    made = replace(made, first=_first(made, picked, own[rows], frequency[own[rows]]))
    return _with_swaps_as_planted(made, folded, labels, frequency, rows, among)


def _with_absence_as_seen(
    made: Mixing, found: Candidates, labels: Labels, rows: np.ndarray, among: np.ndarray | None
) -> Mixing:
    """`made` with "none of yours" held against what is seen: tagged pictures are of known series, the untagged are a mixture.

    What no known picture looks like is of an unknown series; what known pictures mostly look like is, where it has no
    tag, forgotten (Elkan and Noto 2008). Strangers teach what speaks for "none"; here it learns how loudly.
    """
    counted = np.ones(len(labels.tagged), dtype=bool) if among is None else among
    untagged, tagged = np.flatnonzero(~labels.tagged & counted)[:MIXING_ROWS], int((labels.tagged & counted).sum())
    parts = [found.rows(which) for which in (untagged, rows)]
    looks = [made._looks(part) for part in parts]
    odds, agreed = [odds for _, odds in looks], [_agreed(among) for among, _ in looks]
    enough = min(map(len, odds)) >= FEW_TO_COMPARE
    agreement = _agreement(odds, agreed) if enough else 0.0
    scores = [one + agreement * other for one, other in zip(odds, agreed)]
    without = int((~labels.tagged & counted).sum())
    absence = _absence(odds[0], *scores, without, tagged)
    heard, by_company = [_in_company(part) for part in parts], None
    kinds = [[~one for one in heard], heard]
    if min(kinds[0][0].sum(), kinds[0][1].sum(), kinds[1][1].sum()) >= FEW_TO_COMPARE:
        alone, accompanied = (
            _absence(
                odds[0][mixed], scores[0][mixed], scores[1][pure], round(without * mixed.mean()), round(tagged * pure.mean()),
                SHARE_WEIGHT, absence.strange,
            )
            for mixed, pure in kinds
        )
        by_company = alone, accompanied
    return replace(made, agreement=agreement, absence=absence, by_company=by_company)


def _absence(
    odds: np.ndarray, mixed: np.ndarray, pure: np.ndarray, without: int, tagged: int, weight: float = UNKNOWN_WEIGHT,
    strange: Ratio = Ratio(),
) -> Absence:
    """From the log-odds of "none of yours" (m,) of pictures without a tag, the same with the agreement (m,), and that of
    tagged ones (p,), which stand for `without` and `tagged` pictures. The start of the share weighs `weight` a picture;
    where there are too few to compare, `strange` stays as it is.
    """
    total, share = without + tagged, _unknown_share(odds) if without else 0.0
    if min(len(mixed), len(pure)) >= FEW_TO_COMPARE:
        floor, strange = density_ratio(mixed, pure, float(np.clip(1.0 - share, 0.02, 0.9)), weight)
        share = 1.0 - floor
    unknown = share * without
    of_all = float(np.clip(unknown / total, SMALLEST_UNKNOWN, 1.0 - SMALLEST_UNKNOWN)) if total else UNKNOWN_OF_UNTAGGED
    return Absence(total, of_all, (without - unknown + 0.5) / (total - unknown + 1.0), strange)


def _first(made: Mixing, found: Candidates, own: np.ndarray, frequency: np.ndarray) -> Ratio:
    """How to correct the log-odds of the likeliest class, from pictures tagged with the class `own` (m,), of which
    `made.swapped` are swapped for one drawn by `frequency` (m,). (Platt 1999, never flatter: doubt about tags is for `swapped`.)
    """
    among, _ = made._looks(found)
    rows, at, left = _first_of(among)
    x, hit = _log_odds(among[rows, at], left), found.classes[rows, at] == own
    other = np.where(found.classes == own[:, None], among, 0.0).sum(axis=1) / np.maximum(left, 1e-12)
    start = np.array([1.0, 0.0])

    def loss(where: np.ndarray) -> tuple[float, np.ndarray]:
        p = probes.sigmoid(where[0] * x + where[1])
        likelihood = (1.0 - made.swapped) * np.where(hit, p, other * (1.0 - p)) + made.swapped * frequency
        likelihood = np.maximum(likelihood, 1e-12)
        pull = -(1.0 - made.swapped) * np.where(hit, 1.0, -other) * p * (1.0 - p) / likelihood
        away = where - start
        total = -np.log(likelihood).sum() + 0.5 * FIRST_WEIGHT * (away**2).sum()
        return total, np.array([(pull * x).sum(), pull.sum()]) + FIRST_WEIGHT * away

    slope, offset = _lowest(loss, start, [FIRST_SLOPE, (-3.0, 3.0)])
    return Ratio(float(slope), float(offset))


def _agreement(odds: Sequence[np.ndarray], agreed: Sequence[np.ndarray]) -> float:
    """How much `agreed` says beside `odds` about whether a picture is untagged (first of each pair) or tagged (second):
    the ratio of their weights in a logistic regression. What is known looks like one thing; candidates that share a picture
    among them are often all wrong.
    """
    inputs = np.column_stack([np.concatenate(odds), np.concatenate(agreed)])
    untagged = np.repeat([1, 0], [len(one) for one in odds])
    if not np.ptp(inputs, axis=0).all():
        return 0.0
    fitted = LogisticRegression(C=1.0, class_weight="balanced").fit((inputs - inputs.mean(axis=0)) / inputs.std(axis=0), untagged)
    slope, beside = fitted.coef_[0] / inputs.std(axis=0)
    return float(np.clip(beside / slope, *AGREEMENT)) if slope > 0 else 0.0


def _trust(folded: Folded, labels: Labels, among: np.ndarray | None) -> tuple[float, float]:
    """(slope, offset) of how far the tagger is right where it names a series that the model has no pictures of.

    Strangers are just such pictures, and their series is known. (Platt 1999, drawn to `FOREIGN_START`.)
    """
    rows, found = folded.strange_rows, folded.strangers
    kept = (found.foreign >= 0) & (True if among is None else among[rows])
    if folded.foreign_class is None or not kept.any():
        return FOREIGN_START
    own = labels.contains()[labels.single[rows[kept]]]
    meant = folded.foreign_class[found.foreign[kept]]
    right = (meant >= 0) & own[np.arange(len(own)), np.maximum(meant, 0)]
    logit, start = found.foreign_logit[kept].astype(float), np.array(FOREIGN_START)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        p = probes.sigmoid(at[0] * logit + at[1])
        away = p - right
        pull = np.array([(away * logit).sum(), away.sum()])
        total = -np.log(np.maximum(np.where(right, p, 1.0 - p), 1e-12)).sum()
        return total + 0.5 * FOREIGN_WEIGHT * ((at - start) ** 2).sum(), pull + FOREIGN_WEIGHT * (at - start)

    best = _lowest(loss, start, [(0.05, 5.0), (-10.0, 10.0)])
    return float(best[0]), float(best[1])


def _with_swaps_as_planted(
    made: Mixing, folded: Folded, labels: Labels, frequency: np.ndarray, rows: np.ndarray, among: np.ndarray | None
) -> Mixing:
    """`made` with the confidence in a wrong tag held against swaps planted by ourselves: the tags as they are are a mixture
    of right ones and of such.
    """
    which = np.arange(len(folded.planted_rows)) if among is None else np.flatnonzero(among[folded.planted_rows])
    if len(which) < FEW_TO_COMPARE:
        return made
    own = labels.single[rows]
    mixed = _tag_odds(made, folded.candidates.rows(rows), own, frequency)
    pure = _tag_odds(made, folded.planted.rows(which), folded.planted_class[which], frequency)
    floor, fitting = density_ratio(mixed, pure, made.swapped, SWAPPED_WEIGHT)
    return replace(made, swapped=min(floor, MOST_SWAPPED), fitting=fitting)


def _tag_odds(made: Mixing, found: Candidates, own: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """`tag_odds` of the class `own` (m,) of each picture."""
    p, unknown = made.probabilities(found)
    fits = np.where(found.classes == own[:, None], p, 0.0).max(axis=1)
    return tag_odds(given_tagged(fits, unknown), frequency[own])


def _log_odds(p: np.ndarray, against: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, 1e-12)) - np.log(np.maximum(against, 1e-12))


def density_ratio(mixed: np.ndarray, pure: np.ndarray, share: float, weight: float) -> tuple[float, Ratio]:
    """(share, ratio) from two samples of a score: of `mixed` (m,) a share is what `pure` (p,) is made of, the rest lies higher.

    `ratio` is that of the rest's density over the pure one's. The density of `mixed` over that of `pure`
    is share + (1 - share) exp(ratio(x)), and it is found by telling the two samples apart (logistic
    regression; Qin, Biometrika 85, 1998), `share` being the floor it comes down to. The share given is
    what it is taken for where the samples tell too little; it weighs `weight` a row of `mixed`.

    >>> random = np.random.default_rng(0)
    >>> made = np.concatenate([random.normal(0, 1, 2000), random.normal(3, 1, 8000)])
    >>> share, ratio = density_ratio(made, random.normal(0, 1, 10000), 0.5, 0.0)
    >>> round(share, 1), bool(abs(ratio(np.array(1.5))) < 0.3)
    (0.2, True)
    """
    middle, knot = float(np.median(pure)), float((np.median(pure) + np.quantile(mixed, 0.5 + 0.5 * share)) / 2)
    start = np.array([probes.logit(np.array(share)), 0.0, 0.0, 0.0])
    log_size = np.log(len(mixed) / len(pure))
    penalty = np.array([(2.0 + weight * len(mixed)) * share * (1.0 - share), 4.0, 0.0, 1.0])

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        floor = float(probes.sigmoid(at[0]))
        total, pull = 0.0, np.zeros(4)
        for x, sign in ((mixed, 1.0), (pure, -1.0)):
            right = np.maximum(x - knot, 0.0)
            above = np.exp(np.clip(at[2] + (1.0 + at[1]) * (x - middle) + at[3] * right, -60.0, 60.0))
            ratio = floor + above
            score = np.log(ratio) + log_size
            total += np.logaddexp(0.0, -sign * score).sum()
            away = -sign * probes.sigmoid(-sign * score) / ratio
            pull += np.array([
                (away * floor * (1.0 - floor)).sum(), (away * above * (x - middle)).sum(), (away * above).sum(),
                (away * above * right).sum(),
            ])
        apart = at - start
        return total + 0.5 * (penalty * apart**2).sum(), pull + penalty * apart

    bounds = [(-7.0, 3.0), (-0.9, 5.0), (None, None), (-0.9, 5.0)]
    share, slope, offset, bend = _lowest(loss, start, bounds)
    share, slope = float(probes.sigmoid(share)), 1.0 + float(slope)
    offset = float(offset - slope * middle - np.log1p(-share))
    return share, Ratio(slope, offset, max(float(bend), 0.05 - slope), knot)


def _maximise(
    full: Candidates, target: np.ndarray, frequency: np.ndarray, strangers: Candidates
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights, none-weights and share of swapped tags of the highest penalised likelihood (L-BFGS)."""
    split = len(START_WEIGHTS)
    last = np.full(len(strangers.classes), strangers.classes.shape[1])
    each = len(target) / max(1, len(last))  # strangers count as much as all others
    start = np.concatenate([START_WEIGHTS, START_NONE, [probes.logit(np.array(SWAPPED))]])
    normal, strange = _none_features(full), _none_features(strangers)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        swapped = float(probes.sigmoid(at[-1]))
        total, slope = 0.0, np.zeros_like(at)
        for found, against, wanted, other in ((full, normal, target, frequency), (strangers, strange, last, None)):
            p = _softmax(_logits(found, against, at[:split], at[split:-1], 0.0))
            here = p[np.arange(len(p)), wanted]
            other = 1.0 - here if other is None else other
            likelihood = np.maximum((1.0 - swapped) * here + swapped * other, 1e-12)
            share = (1.0 - swapped) * here / likelihood
            weight = each if found is strangers else 1.0
            if found is strangers:  # a swapped tag: the true series is still among the candidates
                share = share - swapped * here / likelihood
            pull = -p * (weight * share[:, None])
            pull[np.arange(len(p)), wanted] += weight * share
            total -= weight * np.log(likelihood).sum()
            slope[:split] -= np.tensordot(pull[:, :-1], found.features, axes=2)  # no candidate, no pull
            slope[split:-1] -= pull[:, -1] @ against
            slope[-1] -= weight * ((other - here) / likelihood).sum() * swapped * (1.0 - swapped)
        away = at - start
        penalty = np.concatenate([PULL_TO_START, np.full(len(START_NONE), 0.1), [2.0 + SWAPPED_WEIGHT * len(target)]])
        return total + 0.5 * (penalty * away**2).sum(), slope + penalty * away

    bounds = [(0.0, None)] * split + [(None, None)] * len(START_NONE) + [(-7.0, float(probes.logit(np.array(MOST_SWAPPED))))]
    best = _lowest(loss, start, bounds)
    return best[:split], best[split:-1], float(probes.sigmoid(best[-1]))


def _lowest(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, bounds: list[Any]) -> np.ndarray:
    """Where `loss` is lowest. Features of very different size make L-BFGS stop half way at a small step: then it begins anew."""
    at, last = start, np.inf
    for _ in range(RESTARTS):
        found = optimize.minimize(loss, at, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-10, "maxiter": 400})
        at = found.x
        if last - found.fun < 1e-5 * abs(found.fun):
            break
        last = found.fun
    return at


def _unknown_share(log_odds: np.ndarray) -> float:
    """The share of unknown series among untagged pictures of these log-odds (m,) of "none of yours" at equal shares, by EM."""
    odds = np.exp(np.clip(log_odds, -20.0, 20.0))
    share, weight = UNKNOWN_OF_UNTAGGED, UNKNOWN_WEIGHT
    for _ in range(200):
        after = float((share * odds / (share * odds + 1.0 - share)).mean() + weight * UNKNOWN_OF_UNTAGGED) / (1.0 + weight)
        if abs(after - share) < 1e-6:
            break
        share = float(np.clip(after, 1e-4, 1 - 1e-4))
    return share


@dataclass(frozen=True)
class Predictions:
    """What is said about n pictures, of S series.

    `ranked` (n, k) int32: the most probable series, the surest first, -1 where there are fewer
    worth listing; `probability` (n, k) float32 of each, 0 to 1: that the picture is of this series
    (several may hold at once). `unknown` (n,): probability that it is of none of the owner's
    series that could be learned. `own` csr (n, S): the probability of the series that the picture is
    tagged with. `foreign` (n,): a series that could not be learned and that the tagger names, -1 for none,
    and `foreign_probability` (n,) of that one, part of `unknown`. `forgotten` (n,): of pictures of its kind and of known
    series, the share without a tag.
    """

    ranked: np.ndarray
    probability: np.ndarray
    unknown: np.ndarray
    own: sparse.csr_matrix
    foreign: np.ndarray
    foreign_probability: np.ndarray
    forgotten: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """(n, k) bool: the series said to be there: the first from `PREDICT_FROM`, further ones from `ALSO_FROM`."""
        cut = np.full(self.ranked.shape[1], ALSO_FROM)
        cut[:1] = PREDICT_FROM
        return (self.ranked >= 0) & (self.probability >= cut)


def predictions(found: Candidates, mixing: Mixing, contains: np.ndarray, tags: sparse.csr_matrix | None = None) -> Predictions:
    """Probabilities of series from candidate classes.

    `contains` (C, S) says which series a class stands for: a series is as probable as its classes
    together. `tags` (n, S): whose probabilities to note in `own`.
    """
    total, series = len(found.classes), contains.shape[1]
    listed = min(LISTED, series)
    ranked, probability = np.full((total, listed), -1, dtype=np.int32), np.zeros((total, listed), dtype=np.float32)
    unknown = np.zeros(total, dtype=np.float32)
    tags = sparse.csr_matrix((total, series), dtype=bool) if tags is None else tags
    own = tags.astype(np.float32)
    stands_for = sparse.csr_matrix(contains.astype(np.float32))
    for start in range(0, total, BLOCK):
        rows = slice(start, min(start + BLOCK, total))
        part = found.rows(rows)
        p, unknown[rows] = mixing.probabilities(part)
        row, column = np.nonzero(part.present)
        of_class = sparse.csr_matrix((p[row, column], (row, part.classes[row, column])), shape=(len(p), contains.shape[0]))
        of_series = np.minimum((of_class @ stands_for).toarray(), 1.0)
        order = np.argsort(-of_series, axis=1, kind="stable")[:, :listed]
        value = np.take_along_axis(of_series, order, axis=1)
        ranked[rows], probability[rows] = np.where(value >= LISTED_FROM, order, -1), np.where(value >= LISTED_FROM, value, 0.0)
        which = np.repeat(np.arange(len(p)), np.diff(own.indptr[start:rows.stop + 1]))
        own.data[own.indptr[start]:own.indptr[rows.stop]] = of_series[which, own.indices[own.indptr[start]:own.indptr[rows.stop]]]
    trust = probes.sigmoid(mixing.foreign[0] * found.foreign_logit + mixing.foreign[1])
    foreign_probability = np.where(found.foreign >= 0, unknown * trust, 0.0)
    return Predictions(ranked, probability, unknown, own, found.foreign, foreign_probability, mixing.forgotten(found))


def agreement(said: Predictions, labels: Labels, learned: sparse.csr_matrix, swapped: float) -> dict[str, float | int | None]:
    """How far out-of-fold predictions agree with the owner's tags, on the pictures that have any.

    Tags that no model could learn out of fold (`Folded.learned`) are left out. `micro_f1` over all
    (picture, series), `macro_f1` the mean over series, `coverage` the share of pictures with a
    prediction, `calibration_error` of `tagged_probability` of the first series (Naeini et al. 2015).
    """
    rows = np.flatnonzero(labels.tagged)
    row, place = np.nonzero(said.predicted[rows])
    tags = learned[rows]
    predicted = sparse.csr_matrix((np.ones(len(row)), (row, said.ranked[rows][row, place])), shape=tags.shape)
    both = np.asarray(predicted.multiply(tags).sum(axis=0)).ravel()
    said_of, has = np.asarray(predicted.sum(axis=0)).ravel(), np.asarray(tags.sum(axis=0)).ravel()
    f1 = 2 * both / np.maximum(said_of + has, 1)
    first = np.maximum(said.ranked[rows, 0], 0)
    right = np.asarray(labels.tags[rows, first]).ravel() & (said.ranked[rows, 0] >= 0)
    frequency = np.asarray(labels.tags.sum(axis=0)).ravel() / labels.tags.sum()
    expected = tagged_probability(said.probability[rows, 0], said.unknown[rows], frequency[first], swapped)
    judged = np.asarray(tags.sum(axis=1)).ravel() > 0
    error = expected_calibration_error(expected[judged], right[judged]) if judged.any() else None
    return {
        "micro_f1": round(float(2 * both.sum() / max(said_of.sum() + has.sum(), 1)), 4),
        "macro_f1": round(float(f1[has > 0].mean()) if (has > 0).any() else 0.0, 4),
        "series_judged": int((has > 0).sum()),
        "coverage": round(float(said.predicted[rows].any(axis=1).mean()), 4),
        "calibration_error": None if error is None else round(error, 4),
    }


def cross_fitted(folded: Folded, labels: Labels, seed: int = 0) -> Predictions:
    """Predictions of which not even the mixing weights have seen the picture: they come from the other half of the folds."""
    half = folded.folds % 2 == 0
    parts = [
        predictions(folded.candidates.rows(here), fit_mixing(folded, labels, seed, ~here), labels.contains(), labels.tags[here])
        for here in (half, ~half)
    ]
    back = np.argsort(np.concatenate([np.flatnonzero(half), np.flatnonzero(~half)]))
    whole = {name: np.concatenate([getattr(part, name) for part in parts])[back] for name in vars(parts[0]) if name != "own"}
    return Predictions(own=sparse.vstack([part.own for part in parts], format="csr")[back], **whole)


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
    before: Predictions, after: Predictions, labels: Labels, learned: sparse.csr_matrix, groups: np.ndarray, seed: int = 0
) -> Gain:
    """How much nearer to the owner's tags `after` is than `before`, over the tagged pictures; `groups` (n,) near-duplicates."""
    rows = np.flatnonzero(labels.tagged)
    shape = len(rows), len(labels.series)
    _, group = np.unique(groups[rows], return_inverse=True)
    member = sparse.csr_matrix((np.ones(len(rows)), (group, np.arange(len(rows)))))
    has = member @ learned[rows]
    counts = []
    for said in (before, after):
        row, place = np.nonzero(said.predicted[rows])
        predicted = sparse.csr_matrix((np.ones(len(row)), (row, said.ranked[rows][row, place])), shape=shape)
        counts.append((member @ predicted.multiply(learned[rows]), member @ predicted))
    rng = np.random.default_rng(seed)
    number = member.shape[0]
    times = np.concatenate([np.ones((1, number)), rng.multinomial(number, np.full(number, 1 / number), RESAMPLES)])
    scores = []
    for both, said_of in counts:
        right, total = (both.T @ times.T).T, (said_of.T @ times.T).T + (has.T @ times.T).T
        counted = (has.T @ times.T).T > 0
        macro = (2 * right / np.maximum(total, 1e-9) * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
        scores.append(np.stack([2 * right.sum(axis=1) / np.maximum(total.sum(axis=1), 1e-9), macro], axis=1))
    apart = (scores[1] - scores[0]).mean(axis=1)
    whole = [tuple(round(float(one), 4) for one in score[0]) for score in scores]
    return Gain(whole[0], whole[1], round(float(apart[0]), 4), round(float((apart[1:] > 0).mean()), 4))


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
    return np.minimum(probability * forgotten / np.maximum(known * forgotten + unknown, 1e-12), MOST_SURE)


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
    return _log_odds(own, 1.0 - own) - np.log(np.maximum(frequency, 1e-12))


def confidence_incorrect(
    own: np.ndarray, frequency: np.ndarray, swapped: float, fitting: Ratio = Ratio()
) -> np.ndarray:
    """Probability that a series a picture *is* tagged with is wrong: (m,), 0 to 1.

    `own` and `frequency` as in `tag_odds`, which `fitting` (`Mixing.fitting`) turns into the ratio of the
    densities of right tags and wrong ones. Either the tag is right (a share 1 - `swapped` of tags) or
    it came in wrongly (Bayes).

    >>> confidence_incorrect(np.array([0.5, 0.0001]), np.array([0.1, 0.1]), 0.05).round(2).tolist()
    [0.01, 0.98]
    """
    right = (1.0 - swapped) * np.exp(np.clip(fitting(tag_odds(own, frequency)), -60.0, 60.0))
    return np.minimum(swapped / (swapped + right), MOST_SURE)


def confidence_instead(probability: np.ndarray, own: np.ndarray, incorrect: np.ndarray) -> np.ndarray:
    """Probability that a tagged picture is of another series predicted, (m,): that its tag is wrong, and then this series right.

    `probability` (m,) of the predicted series, `own` (m,) of the tagged one, `incorrect` (m,) from
    `confidence_incorrect`.
    """
    return incorrect * np.minimum(1.0, probability / np.maximum(1.0 - own, 1e-12))


def confidence_together(probability: np.ndarray, own: np.ndarray, forgotten: float) -> np.ndarray:
    """Probability that a picture rightly tagged with one series lacks a second one that goes with it: (m,), 0 to 1.

    `probability` (m,) of the series that is lacking, `own` (m,) of the tagged one. Both hold with a
    probability of at least probability + own - 1 (Frechet); of the pictures of both, the share
    `forgotten` lacks a tag.

    >>> confidence_together(np.array([0.99, 0.3]), np.array([1.0, 0.6]), 0.1).round(2).tolist()
    [0.91, 0.0]
    """
    both = np.maximum(0.0, probability + own - 1.0)
    return np.minimum(both * forgotten / np.maximum(both * forgotten + own - both, 1e-12), MOST_SURE)


def tagged_probability(probability: np.ndarray, unknown: np.ndarray, frequency: np.ndarray, swapped: float) -> np.ndarray:
    """Probability that a picture which *has* a tag is tagged with this series: (m,), 0 to 1. To be held against tags.

    A tagged picture is of one of the owner's series, unless its tag is wrong: `unknown` (m,) drops
    out, and of all tags the share `swapped` names any series by its `frequency` (m,).
    """
    fits = np.minimum(probability / np.maximum(1.0 - unknown, 1e-6), 1.0)
    return (1.0 - swapped) * fits + swapped * frequency


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The interval that holds a share with a confidence of 95 %, given `successes` of `trials`, (0, 1) without any. Wilson 1927.

    >>> tuple(round(edge, 2) for edge in wilson(8, 10))
    (0.49, 0.94)
    """
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, z * z / trials
    middle = share + spread / 2
    half = z * (share * (1 - share) / trials + spread / (4 * trials)) ** 0.5
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
