"""Which series is a picture of, or none of the owner's? Learned from stored embeddings, judged out of fold.

The steps, in order:

1. `label_images`: classes are the owner's series; sets of series that come together often (a
   franchise and its part) are classes of their own, so several series per picture are allowed
   exactly where the owner's tags say so.
2. `out_of_fold`: a PLDA model per fold (`tagcheck.learning.same_class_model`) scores the pictures that it was not
   fitted on. Near-duplicates share a fold.
3. `series_mixing.fit_mixing`: a conditional logit over the best candidates and "none of yours" turns scores into
   probabilities. What "none of yours" looks like is learned from the tagged pictures: a model that
   was fitted without a series sees its pictures as those of an unknown one. The owner's tags may be
   wrong, so the likelihood allows for a share of swapped ones (forward correction: Patrini et al.,
   CVPR 2017), and the share of unknown series among the pictures without a tag, which are unknown
   and no negatives, is found by EM (Saerens, Latinne and Decaestecker, Neural Computation 14, 2002)
   and by holding them against the tagged ones, apart for pictures with and without telling characters.

What the tagger itself knows comes in as one more feature (`Prior`): those of its tags that name a
series of the owner's, are a character that the owner tags on pictures of one, or fire almost only on
pictures of one. So do the character tags that a picture has (`companion_ratios`). A series that the tagger
knows and the model has no pictures of is named by the tagger alone (`Prior.foreign`), as far as that has
turned out right where series were left out of training.

Here are the first two; numbers only, files are `tagcheck.series_files`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from threadpoolctl import threadpool_limits

from tagcheck import tags
from tagcheck.learning import linear_probes
from tagcheck.learning.same_class_model import Plda, fit_plda

FOLDS = 10
EXEMPLARS = 8000  # pictures kept as they are, of all classes together
EXEMPLARS_A_CLASS = (32, 512)  # at least and at most of one class
NEAREST = 3  # of them that count
CANDIDATES = 24  # classes a picture is weighed between; the others are far below
SET_PICTURES = 3  # pictures (not near-duplicates of each other) that make a set of series a class
FIRES_FROM = 0.4  # the tagger's published threshold
RULE_PICTURES, RULE_SHARE = (
    3,
    0.8,
)  # tagged pictures on which a tag of the tagger fires, and the share of one class among them
STRANGE_PARTS = 5  # parts of the series, each left out once to see what an unknown series looks like
MIXING_ROWS = 20_000  # pictures that the few mixing weights are fitted on
COMPANION_PRIOR = 0.5  # pictures by which the share of a character's series is drawn to what chance gives
MOST_FROM_COMPANIONS = 8.0  # however many characters a picture has
LEAST_TUNED = 1e-4  # of a network's probabilities; less is not told apart
BLOCK = 4096
FEATURES = 8  # what speaks for a class, see `score`; among them, by place:
NEARNESS, TUNED, COMPANIONS = slice(3, 5), 6, 7
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
    sets = [
        members
        for members, count in sorted(frequent.items(), key=lambda one: (-one[1], one[0]))
        if count >= SET_PICTURES
    ]
    classes = tuple((place,) for place in range(len(series))) + tuple(sets)
    of_set = {members: place for place, members in enumerate(classes)}
    parts = [(of_set[members],) if members in of_set else members for members in as_sets]
    return Labels(
        series,
        classes,
        _rows(parts, len(classes), shares=True).astype(np.float32),
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

    def rows(self, which: np.ndarray | slice) -> Candidates:
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
    prior: Prior
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
            self.weight[picked],
            self.bias[picked],
            of_class[picked].astype(np.int64),
            self.weight[foreign],
            self.bias[foreign],
            self.names[foreign],
        )


def listen(
    matrix: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    names: Sequence[str],
    labels: Labels,
    owners: Sequence[str | None] | None = None,
    series_tags: Sequence[str | None] | None = None,
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
        [exactly.get(tag, own.get(_bare(tags.from_booru(name)), -1)) for tag, name in zip(owners, names)],
        dtype=np.int64,
    )
    written = [labels.series[place] if place >= 0 and tag else tag for place, tag in zip(named.tolist(), series_tags)]
    foreign = tuple(sorted({tag for tag in written if tag}))
    at = {tag: place for place, tag in enumerate(foreign)}
    column = {tag: place for place, tag in enumerate(beside[1])} if beside else {}
    from_logit = float(linear_probes.logit(np.array(FIRES_FROM)))
    parts = [
        sparse.csr_matrix(matrix[start : start + BLOCK] @ weight.T + bias >= from_logit, dtype=np.float32)
        for start in range(0, len(matrix), BLOCK)
    ]
    return Tagger(
        weight,
        bias,
        sparse.vstack(parts, format="csr"),
        named,
        np.array([at[tag] if tag else -1 for tag in written], dtype=np.int64),
        foreign,
        np.array([column.get(tag, -1) for tag in owners], dtype=np.int64),
        beside[0] if beside else None,
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
    with threadpool_limits(
        1, user_api="blas"
    ):  # thousands of small products: threads would spend ten times as long waiting
        for one in np.flatnonzero(np.diff(bounds) * np.diff(starts)):
            places = order[bounds[one] : bounds[one + 1]]
            cosine = unit[places // classes.shape[1]] @ exemplars[starts[one] : starts[one + 1]].T
            if cosine.shape[1] > NEAREST:
                cosine = np.partition(cosine, -NEAREST, axis=1)[:, -NEAREST:]
            out.ravel()[places] = cosine.mean(axis=1)
    return out


def _unit(matrix: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(length > 0, length, 1.0)


def score(
    model: Model,
    matrix: np.ndarray,
    own: np.ndarray | None = None,
    beside: sparse.csr_matrix | None = None,
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
        return sparse.csr_matrix(
            (of_fold[self.folds[row], column].astype(np.float32), (row, column)), shape=labels.tags.shape
        )


def out_of_fold(
    matrix: np.ndarray,
    labels: Labels,
    folds: np.ndarray,
    seed: int = 0,
    progress: Progress | None = None,
    tagger: Tagger | None = None,
    beside: sparse.csr_matrix | None = None,
) -> tuple[Folded, Model]:
    """Scores of every picture by a model that saw neither it nor a near-duplicate; and the model of all pictures.

    `matrix` (n, d) embeddings, `folds` (n,) from `probes.grouped_folds`, `tagger` from `listen`, `beside` csr (n, T)
    the pictures' character tags. All models come out of one pass over the data. Raises `CannotLearn` when
    a fold's model would know fewer than two series.
    """
    tagged = np.flatnonzero(labels.tagged)
    sums = linear_probes.moments(matrix[tagged], labels.membership[tagged], folds[tagged])
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
            found = Candidates(
                *(np.zeros((len(matrix), *field.shape[1:]), field.dtype) for field in vars(part).values())
            )
        for name, field in vars(part).items():
            getattr(found, name)[rows] = field
        rows = rows[(swapped[rows] >= 0) & (known[fold][np.maximum(swapped[rows], 0)] > 0)]
        planted.append((rows, score(model, matrix[rows], swapped[rows], _some(beside, rows))))
        if progress:
            progress(0.8 * (fold + 1) / number)
    rows = np.concatenate([rows for rows, _ in planted])
    folded = Folded(
        found,
        folds,
        known,
        *_as_strangers(matrix, labels, found, tagger, beside, seed),
        _joined([part for _, part in planted]),
        rows,
        swapped[rows],
        _foreign_class(tagger, labels),
    )
    return folded, _model(matrix, labels, sums, None, np.arange(len(matrix)), tagger, beside, seed)


def _some(beside: sparse.csr_matrix | None, rows: np.ndarray) -> sparse.csr_matrix | None:
    return None if beside is None else beside[rows]


def _model(
    matrix: np.ndarray,
    labels: Labels,
    sums: linear_probes.FoldedMoments,
    without: int | None,
    rows: np.ndarray,
    tagger: Tagger | None,
    beside: sparse.csr_matrix | None,
    seed: int,
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
    matrix: np.ndarray,
    labels: Labels,
    found: Candidates,
    tagger: Tagger | None,
    beside: sparse.csr_matrix | None,
    seed: int,
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
    held = linear_probes.grouped_folds(kin, parts, seed)
    sums = linear_probes.moments(matrix[rows], labels.membership[rows], held)
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
    found: Candidates,
    log_p: np.ndarray,
    known: np.ndarray,
    folds: np.ndarray | None = None,
    struck: np.ndarray | None = None,
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
    return replace(
        folded, candidates=witnessed(folded.candidates, log_p, known, folds), strangers=strangers, planted=planted
    )


def _fit(sums: linear_probes.FoldedMoments, fold: int | None) -> Plda:
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
