"""The evidence for and against each tag of each picture, without looking at whether the tag is written there.

Every kind of evidence is a log-likelihood ratio or close to one, (n, T): above 0 supports the
tag, below 0 speaks against it, and 0 says nothing. All of it is out of fold: a picture's values come from models that
were not fitted on the picture or its near-duplicates.

    probe       ridge regression of the tag on the embedding
    kernel      the same on random waves over its main directions, for curved relations
    context     ridge regression of the tag on the embedding and the other tags of the picture that tell
                most of it (`tagcheck.tag_errors.context`)
    neighbours  share of the nearest pictures that have the tag
    twins       share of the near-duplicates that have it
    tagger      the tagger's own logit, where it knows the tag
    classifier  what a classifier of series (or of another namespace) says, where one was trained

A further tagger, of which there are embeddings too (`FurtherTagger`), adds its own probe, kernel and logit under its name
(`wd/probe`); how much each is worth is learned beside all else.

`probe_share` and `kernel_share` are the values of those regressions. They are not ratios, but estimates of the share of
such pictures that have the tag. They hold where scores are not normally distributed, as the ratios assume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from scipy import linalg, sparse

from tagcheck.cluster import Share, here
from tagcheck.learning import Tagger, linear_probes
from tagcheck.learning.last_layer import tagger_logits
from tagcheck.learning.linear_probes import BLOCK, FoldedLinear, Made, ScoreSums, logit
from tagcheck.similar import pairs
from tagcheck.similar.nearest import nearest
from tagcheck.tag_columns import values_at
from tagcheck.tag_errors import context
from tagcheck.tag_errors.context import Context
from tagcheck.tag_errors.relations import Relations

NAMES = (
    "probe",
    "kernel",
    "context",
    "neighbours",
    "twins",
    "twin_share",
    "twins_without",
    "tagger",
    "tagger_knows",
    "prior",
    "probe_share",
    "kernel_share",
    "classifier",
    "classifier_knows",
)
FURTHER_KINDS = ("probe", "kernel", "tagger", "tagger_knows", "probe_share", "there")
ALPHAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
NEIGHBOURS = 24
REDUCED = 128  # dimensions in which neighbours are looked for
WAVES, WAVED = 1024, 32  # random waves, and how many main directions they run over
CENTRED_ON = 20_000  # rows that tell the main directions
LEAST_TOLD = 0.002  # of a classifier's probabilities; less is not told apart
LIMIT = 12.0  # a log-likelihood ratio beyond this is not believed
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Told:
    """What a classifier says, out of fold, of some `columns` (K,): the probability `chance` csr (n, K), at most `LEAST_TOLD`
    where it is not listed; `judged` (n,) bool the pictures that it speaks of.
    """

    columns: np.ndarray
    chance: sparse.csr_matrix
    judged: np.ndarray

    def ratios(self, rows: Any, prior: np.ndarray) -> np.ndarray:
        """Log-likelihood ratios (m, K) of some rows, 0 where nothing is said; `prior` (K,) log-odds of each tag."""
        chance = np.maximum(self.chance[rows].toarray(), LEAST_TOLD)
        return np.where(self.judged[rows][:, None], logit(chance, LEAST_TOLD) - prior, 0.0)

    def at(self, rows: np.ndarray, slots: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """The ratios (c,) of single cells, (row, place among the `columns`)."""
        chance = np.maximum(values_at(self.chance, rows, slots), LEAST_TOLD)
        return np.where(self.judged[rows], logit(chance, LEAST_TOLD) - prior, 0.0)


@dataclass(frozen=True)
class FurtherTagger:
    """A further tagger's view of the same pictures: `matrix` (n, d) float32, of which rows that are not `there` (n,) bool
    count for nothing; `tagger` its last layer, where it has one for tags of the library.
    """

    name: str
    matrix: np.ndarray
    there: np.ndarray
    tagger: Tagger | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its evidence, in order."""
        return tuple(f"{self.name}/{kind}" for kind in FURTHER_KINDS)


@dataclass(frozen=True)
class Surroundings:
    """The nearest pictures. `indices` int32, `cosine` float32, (n, k), with near-duplicates; `twins` a symmetric 0/1 sparse matrix (n, n) of
    the near-duplicates, `labels` (n,) their groups, `threshold` the cosine from which pictures are near-duplicates; `recall`
    the share of the true nearest that are in `indices`, 1 where all were compared.
    """

    indices: np.ndarray
    cosine: np.ndarray
    twins: sparse.csr_matrix
    labels: np.ndarray
    threshold: float
    recall: float = 1.0


def surroundings(matrix: np.ndarray, k: int = NEIGHBOURS, copies: pairs.Pairs | None = None) -> Surroundings:
    """The nearest pictures of each, and which of them are near-duplicates, from embeddings (n, d).

    Rows are centred first, since the mean of all pictures says nothing about two of them. Neighbours are searched in the
    first `REDUCED` principal directions, and within clusters where there are very many pictures
    (`tagcheck.similar.nearest`); their cosines are exact. `copies` are near-duplicates that were found by other means too.
    """
    n, d = matrix.shape
    mean, vectors = main_directions(matrix, min(REDUCED, d))
    reduced, length = np.empty((n, vectors.shape[1]), dtype=np.float32), np.empty(n, dtype=np.float32)
    for rows in blocks(n):
        own = matrix[rows] - mean
        reduced[rows], length[rows] = own @ vectors, np.sqrt(np.einsum("nd,nd->n", own, own))
    found_near = nearest(reduced, k)
    del reduced
    indices, cosine = found_near.indices.astype(np.int32), found_near.cosine
    for rows in blocks(n, 64):  # whose neighbours fit the processor's cache
        own = (matrix[rows] - mean) / np.maximum(length[rows, None], 1e-12)
        along = (matrix[indices[rows]] @ own[:, :, None])[:, :, 0] - own @ mean[:, None]
        cosine[rows] = along / np.maximum(length[indices[rows]], 1e-12)
    return with_twins(indices, cosine, found_near.recall, copies)


def with_twins(
    indices: np.ndarray,
    cosine: np.ndarray,
    recall: float,
    copies: pairs.Pairs | None = None,
    threshold: float | None = None,
) -> Surroundings:
    """The surroundings by the nearest of each: near-duplicates are the `copies`, or those from `threshold` on, or one read off here."""
    n = len(indices)
    if copies is not None:
        twins = sparse.csr_matrix((np.ones(len(copies), dtype=np.float32), (copies.i, copies.j)), shape=(n, n))
        least = float(copies.cosine.min()) if len(copies) else 1.0
        return Surroundings(indices, cosine, twins + twins.T, pairs.group_labels(n, copies.i, copies.j), least, recall)
    if threshold is None:
        threshold = twin_threshold(cosine.max(axis=1)) if cosine.size else 1.0
    while True:
        i, place = np.nonzero(cosine >= threshold)
        labels = pairs.group_labels(n, i, indices[i, place])
        if np.bincount(labels).max() <= max(0.02 * n, 20) or threshold >= 1 - 1e-6:
            break
        threshold = 1 - (1 - threshold) / 2  # a chain of similar pictures, not a group of copies
    found = sparse.csr_matrix((np.ones(len(i), dtype=np.float32), (i, indices[i, place])), shape=(n, n))
    return Surroundings(indices, cosine, found.maximum(found.T).tocsr(), labels, float(threshold), recall)


@dataclass(frozen=True)
class Votes:
    """How the pictures `around` each one vote for their tags: near-duplicates not at all, nearer ones count more, by where their cosine
    lies from `middle` in units of `spread`. They are made for the rows that are asked for: those of a million pictures take 200 MB.
    """

    around: Surroundings
    middle: float
    spread: float

    @classmethod
    def of(cls, around: Surroundings) -> Votes:
        """Measured by the cosines of all pictures that are no near-duplicates."""
        found = around.cosine[around.labels[around.indices] != around.labels[:, None]].astype(np.float64)
        if not len(found):
            return cls(around, 0.0, 1.0)
        return cls(around, float(np.quantile(found, 0.9)), float(found.std() + 1e-6))

    def __getitem__(self, rows: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
        """The votes csr (m, n) of some rows, and their total weight (m,), float32."""
        around, (n, k) = self.around, self.around.indices.shape
        indices, cosine = around.indices[rows], around.cosine[rows].astype(np.float64)
        no_copy = around.labels[indices] != around.labels[rows][:, None]
        near = np.exp(np.minimum((cosine - self.middle) / self.spread, np.log(3.0)))
        weight = np.where(no_copy, near, 0).astype(np.float32)
        total, ends = weight.sum(axis=1), np.arange(len(rows) + 1) * k
        made = sparse.csr_matrix((weight.ravel(), indices.ravel(), ends), shape=(len(rows), n))
        made.sum_duplicates()  # which puts them in order, in place
        made.eliminate_zeros()  # in place too
        return made, total


def twin_threshold(nearest: np.ndarray) -> float:
    """The cosine between near-duplicates and merely similar pictures: the minimum between two modes of `nearest`.

    `nearest` (n,) is each picture's highest cosine to another. On the scale log(1 - cosine) ordinary pictures form one
    mode, near-duplicates a lower one. Without a second mode, only outliers of the first count as near-duplicates.

    >>> round(twin_threshold(np.r_[np.full(900, 0.6), np.full(100, 0.999)]), 1)
    1.0
    """
    distance = np.log(np.maximum(1.0 - np.asarray(nearest, dtype=np.float64), 1e-7))
    middle = np.median(distance)
    spread = np.percentile(distance, 75) - np.percentile(distance, 25) + 0.02
    low, high = min(distance.min(), middle - 4 * spread) - 0.3, distance.max() + 0.3
    count, edges = np.histogram(distance, bins=80, range=(low, high))
    smooth = np.convolve(count, np.hanning(9) / np.hanning(9).sum(), mode="same")
    centres = (edges[:-1] + edges[1:]) / 2
    top = int(np.argmax(smooth))
    outside = middle - 2.5 * spread
    best = outside
    left = smooth[:top]
    if len(left) > 2:
        # The deepest place with a hill on its left: least remaining height against the lower of both hills.
        hill = np.maximum.accumulate(left)
        depth = np.where(hill > 0.002 * len(distance), left / np.minimum(hill, smooth[top]).clip(1e-9), 1.0)
        lowest = depth.min()
        if lowest < 0.5:
            best = float(centres[:top][depth <= lowest + 1e-9].mean())
    return float(1.0 - np.exp(min(best, middle - spread)))


@dataclass(frozen=True)
class Ratio:
    """A score turned into a log-likelihood ratio, by tag: two normal curves of one width. All arrays (T,).

    `middle` is the score where both are equally likely, `slope` the ratio per unit of score, shrunk where the difference
    of the means is uncertain; `separation` the squared distance of the means in units of the width.
    """

    middle: np.ndarray
    slope: np.ndarray
    separation: np.ndarray

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Ratios of scores (m, T), kept within `LIMIT` of 0."""
        out = score - self.middle.astype(np.float32)
        out *= self.slope.astype(np.float32)
        return np.clip(out, -LIMIT, LIMIT, out=out)

    def at(self, score: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Ratios of single scores (c,), each of its `column`."""
        return np.asarray(np.clip((score - self.middle[column]) * self.slope[column], -LIMIT, LIMIT))


def ratio_of(sums: ScoreSums, with_tag: np.ndarray, count: int) -> Ratio:
    """The ratio by the sums of the scores of `count` pictures, of which `with_tag` (T,) have each tag; leading axes are kept."""
    without = np.maximum(count - with_tag, 1)
    having = np.maximum(with_tag, 1)
    mean1, mean0 = sums.score_with / having, (sums.score - sums.score_with) / without
    within = (sums.square - having * mean1**2 - without * mean0**2) / max(count, 1)
    within = np.maximum(within, 1e-9 + 1e-6 * (mean1 - mean0) ** 2)
    separation = (mean1 - mean0) ** 2 / within
    known = np.maximum(1 - (1 / having + 1 / without) / np.maximum(separation, 1e-9), 0)
    known *= (with_tag >= 2) & (with_tag <= count - 2)
    slope = np.maximum(mean1 - mean0, 0) / within * known
    return Ratio((mean1 + mean0) / 2, slope, separation * known * (mean1 > mean0))


Model = TypeVar("Model", FoldedLinear, Context)


@dataclass(frozen=True)
class Scored(Generic[Model]):
    """What a regression on `inputs` (n, d) says, out of fold: its `model`, and how its values read as ratios."""

    model: Model
    inputs: np.ndarray | Made
    ratio: Ratio

    def values(self, rows: np.ndarray) -> np.ndarray:
        """The values of some rows, (m, T) float32."""
        return self.model.scores(self.inputs[rows], rows)


@dataclass(frozen=True)
class Heard:
    """What a `FurtherTagger` says of every cell, out of fold, and how its last layer reads as ratios."""

    further: FurtherTagger
    probe: Scored[FoldedLinear]
    kernel: Scored[FoldedLinear]
    ratio: Ratio | None

    def says(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """(which of the rows it has seen, and of these the values of its probe, of its kernel and its logits)."""
        seen = np.flatnonzero(self.further.there[rows])
        some, tagger = rows[seen], self.further.tagger
        logits = np.empty((len(some), 0)) if tagger is None else tagger_logits(tagger, self.further.matrix[some])
        return seen, self.probe.values(some), self.kernel.values(some), logits

    def strongest(self, said: tuple[np.ndarray, ...], out: np.ndarray) -> None:
        """Raise `out` (m, T) to the strongest of its words, as `says` gave them."""
        seen, probe, kernel, logits = said
        strongest = np.maximum(self.probe.ratio(probe), self.kernel.ratio(kernel))
        if self.ratio is not None and self.further.tagger is not None:
            columns = self.further.tagger.columns
            strongest[:, columns] = np.maximum(strongest[:, columns], self.ratio(logits))
        out[seen] = np.maximum(out[seen], strongest)

    def at(self, said: tuple[np.ndarray, ...], i: np.ndarray, t: np.ndarray) -> Iterator[np.ndarray]:
        """Each kind of its evidence of the cells (row of the block, column), in the order of `FURTHER_KINDS`."""
        seen, probe, kernel, logits = said
        place = np.minimum(np.searchsorted(seen, i), max(len(seen) - 1, 0))
        there = seen[place] == i if len(seen) else np.zeros(len(i), dtype=bool)
        cells, row = np.flatnonzero(there), place[there]
        own, knows = np.zeros((2, len(i)), dtype=np.float32)
        if self.ratio is not None and self.further.tagger is not None:
            known, slot = _known(self.further.tagger.columns, t[cells])
            own[cells[known]], knows[cells[known]] = self.ratio.at(logits[row[known], slot], slot), 1
        values = probe[row, t[cells]], kernel[row, t[cells]]
        made = [one.ratio.at(value, t[cells]) for one, value in zip((self.probe, self.kernel), values)]
        for one in (*made, own, knows, values[0], np.ones(len(cells))):
            out = np.zeros(len(i), dtype=np.float32)
            out[cells] = one if len(one) == len(cells) else one[cells]
            yield out


@dataclass(frozen=True)
class Evidence:
    """All evidence of n pictures for T tags, worked out a block of rows at a time. See the module for what each kind is."""

    given: sparse.csr_matrix
    frequency: np.ndarray
    probe: Scored[FoldedLinear]
    kernel: Scored[FoldedLinear]
    context: Scored[Context]
    votes: Votes
    around: Surroundings
    tagger: Tagger | None
    tagger_ratio: Ratio | None
    told: Sequence[Told]
    matrix: np.ndarray
    heard: Sequence[Heard] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The kinds of evidence, in order: `NAMES`, then those of each further tagger."""
        return (*NAMES, *(name for one in self.heard for name in one.further.names))

    @property
    def learned_bytes(self) -> int:
        """The size of the regressions."""
        of_tags = sum(one.data.nbytes + one.indices.nbytes for one in self.context.model.of_tags)
        models = [self.probe.model, self.kernel.model, self.context.model.of_picture]
        models += [part.model for one in self.heard for part in (one.probe, one.kernel)]
        return int(of_tags + sum(one.weights.nbytes for one in models))

    def over(
        self,
        given: sparse.csr_matrix,
        around: Surroundings,
        folds: np.ndarray,
        told: Sequence[Told],
        further: Sequence[FurtherTagger],
    ) -> Evidence:
        """The same regressions and ratios over a library that has changed: its tags `given` (n, T), folds (n,) and what speaks of them.

        The embeddings are put in where this was read (`tagcheck.belief.kept`).
        """
        given = given.astype(np.float32, copy=False).tocsr()
        probe, kernel = (replace(one, model=replace(one.model, folds=folds)) for one in (self.probe, self.kernel))
        of_picture = replace(self.context.model.of_picture, folds=folds)
        beside = replace(self.context, model=Context(of_picture, self.context.model.of_tags, given))
        heard = []
        for one, now in zip(self.heard, further):
            own, waved = (replace(part, model=replace(part.model, folds=folds)) for part in (one.probe, one.kernel))
            heard.append(Heard(now, own, waved, one.ratio))
        frequency = (np.asarray(given.sum(axis=0), dtype=np.float64).ravel() + 0.5) / (len(folds) + 1)
        learned = frequency, probe, kernel, beside, Votes.of(around), around
        return Evidence(given, *learned, self.tagger, self.tagger_ratio, told, self.matrix, heard)

    def block(self, rows: slice) -> dict[str, np.ndarray]:
        """All evidence of some rows: name to (m, T) float32, in the order of `names`."""
        made = Block(self, np.arange(self.given.shape[0])[rows])
        shape = made.given.shape
        i, t = np.indices(shape).reshape(2, -1)
        return dict(zip(self.names, np.moveaxis(made.at(i, t).reshape(*shape, -1), 2, 0)))

    def at(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Every kind of evidence, in the order of `names`, of m cells sorted by `row`, (m, len(names)) float32."""
        out = np.empty((len(row), len(self.names)), dtype=np.float32)
        for rows in blocks(self.given.shape[0], 256):
            cells = slice(*np.searchsorted(row, (rows.start, rows.stop)))
            out[cells] = Block(self, np.arange(rows.start, rows.stop)).at(row[cells] - rows.start, column[cells])
        return out

    def blocks(self, size: int, some: np.ndarray | None = None) -> list[np.ndarray]:
        """The rows of all pictures, or of `some`, at most `size` at a time, those of one fold together: a product with few rows is a
        slow one.
        """
        folds = self.probe.model.folds
        order = np.argsort(folds, kind="stable") if some is None else some[np.argsort(folds[some], kind="stable")]
        return [np.sort(order[rows]) for rows in blocks(len(order), size)]


class Block:
    """The evidence of some `rows` (m,) of pictures: what all of it says at its strongest, and each kind for single cells."""

    def __init__(self, found: Evidence, rows: np.ndarray) -> None:
        self.found, self.rows = found, rows
        self.given = found.given[rows]
        self.regressions = {name: getattr(found, name).values(rows) for name in ("probe", "kernel", "context")}
        tagger = found.tagger
        self.logits = None if tagger is None else tagger_logits(tagger, found.matrix[rows])
        self.heard = [one.says(rows) for one in found.heard]
        twins = found.around.twins[rows]
        self.twins = np.asarray(twins.sum(axis=1)).ravel()
        near, self.vote_weight = found.votes[rows]
        self.having, self.votes = (twins @ found.given).tocsr(), (near @ found.given).tocsr()
        for one in (self.having, self.votes):
            one.sort_indices()
        self.prior = logit(found.frequency).astype(np.float32)

    def strongest(self) -> np.ndarray:
        """The strongest word for each tag with its log-odds beforehand, (m, T) float32; what speaks against it is not weighed."""
        found = self.found
        out = np.zeros(self.given.shape, dtype=np.float32)
        for name, values in self.regressions.items():
            np.maximum(out, getattr(found, name).ratio(values), out=out)
        if self.logits is not None and found.tagger is not None and found.tagger_ratio is not None:
            columns = found.tagger.columns
            out[:, columns] = np.maximum(out[:, columns], found.tagger_ratio(self.logits))
        for some, say in ((self.votes, self._neighbours), (self.having, self._twins)):
            i, t = np.repeat(np.arange(len(self.rows)), np.diff(some.indptr)), some.indices
            out[i, t] = np.maximum(out[i, t], say(some.data, i, t))
        for one in found.told:
            says = one.ratios(self.rows, self.prior[one.columns])
            out[:, one.columns] = np.maximum(out[:, one.columns], says)
        for heard, said in zip(found.heard, self.heard):
            heard.strongest(said, out)
        out += self.prior
        return out

    def at(self, i: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Every kind of evidence, in the order of `names`, of c cells (row of the block, column): (c, len(names)) float32."""
        found, values = self.found, {name: one[i, t] for name, one in self.regressions.items()}
        having = values_at(self.having, i, t)
        number = self.twins[i]
        made = {name: getattr(found, name).ratio.at(one, t) for name, one in values.items()}
        made |= {
            "probe_share": values["probe"],
            "kernel_share": values["kernel"],
            "neighbours": self._neighbours(values_at(self.votes, i, t), i, t),
            "twins": np.where(number > 0, self._twins(having, i, t), 0),
            "twin_share": having / np.maximum(number, 1),
            "twins_without": (number > 0) & (having == 0),
            "prior": self.prior[t],
        }
        made["tagger"], made["tagger_knows"] = np.zeros((2, len(i)), dtype=np.float32)
        if self.logits is not None and found.tagger is not None and found.tagger_ratio is not None:
            cells, slot = _known(found.tagger.columns, t)
            made["tagger"][cells] = found.tagger_ratio.at(self.logits[i[cells], slot], slot)
            made["tagger_knows"][cells] = 1
        made["classifier"], made["classifier_knows"] = classifiers_say(found.told, self.rows[i], t, self.prior)
        further = (column for one, said in zip(found.heard, self.heard) for column in one.at(said, i, t))
        return np.stack([*(made[name] for name in NAMES), *further], axis=1).astype(np.float32)

    def _neighbours(self, votes: np.ndarray, i: np.ndarray, t: np.ndarray) -> np.ndarray:
        expected = 4 * self.found.frequency[t]
        return np.asarray(logit((votes + expected) / (self.vote_weight[i] + 4), 1e-4) - self.prior[t])

    def _twins(self, having: np.ndarray, i: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.asarray(logit((having + 0.5 * self.found.frequency[t]) / (self.twins[i] + 0.5), 1e-4) - self.prior[t])


def classifiers_say(told: Sequence[Told], rows: np.ndarray, t: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """(ratio, whether one knows it) (2, c) of single cells (picture, column); `prior` (T,) log-odds of each tag."""
    out = np.zeros((2, len(t)), dtype=np.float32)
    for one in told:
        cells, slot = _known(one.columns, t)
        out[0, cells] = one.at(rows[cells], slot, prior[t[cells]])
        out[1, cells] = one.judged[rows[cells]]
    return out


def _known(columns: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which of the columns `t` are among the sorted `columns`, and where)."""
    place = np.minimum(np.searchsorted(columns, t), max(len(columns) - 1, 0))
    cells = np.flatnonzero(columns[place] == t) if len(columns) else np.empty(0, np.int64)
    return cells, place[cells]


def gather(
    matrix: np.ndarray,
    given: sparse.csr_matrix,
    around: Surroundings,
    folds: np.ndarray,
    related: Relations,
    tagger: Tagger | None = None,
    told: Sequence[Told] = (),
    progress: Progress = lambda share: None,
    further: Sequence[FurtherTagger] = (),
    share: Share = here,
) -> Evidence:
    """Learn everything that `Evidence` gives out.

    `matrix` (n, d) float32, `given` (n, T) 0/1 sparse, `folds` (n,) with no group of twins split. `related` says which tags are
    no evidence about each other: a wrong series would hide the right one, a wrong child would be supported by the parent that
    it brought. Memory: some ten arrays (`FOLDS`, d, T); nothing of the size of pictures times tags.
    """
    n = len(matrix)
    given = given.astype(np.float32, copy=False).tocsr()
    with_tag = np.asarray(given.sum(axis=0), dtype=np.float64).ravel()
    waves = Waves.over(matrix)
    kernel, _ = _best_probes(linear_probes.moments(waves, given, folds, share=share), folds, waves, with_tag)
    progress(0.4)
    sums = linear_probes.moments(matrix, given, folds, share=share)
    probe, alpha = _best_probes(sums, folds, matrix, with_tag)
    progress(0.6)
    model, scored = context.learn(sums, folds, given, alpha, related)
    beside = Scored(model, matrix, ratio_of(scored, with_tag, n))
    progress(0.9)
    frequency = (with_tag + 0.5) / (n + 1)
    ratio = None if tagger is None else _tagger_ratio(tagger, matrix, given)
    heard = [_heard(one, given, folds) for one in further]
    learned = frequency, probe, kernel, beside, Votes.of(around), around
    return Evidence(given, *learned, tagger, ratio, told, matrix, heard)


def _heard(further: FurtherTagger, given: sparse.csr_matrix, folds: np.ndarray) -> Heard:
    """The evidence of a further tagger, learned from the pictures that it has seen, as `gather` does."""
    seen = np.flatnonzero(further.there)
    matrix, given, some = further.matrix[seen], given[seen], folds[seen]
    with_tag = np.asarray(given.sum(axis=0), dtype=np.float64).ravel()
    waves = Waves.over(matrix)
    learned = []
    for rows, every in ((matrix, further.matrix), (waves, replace(waves, matrix=further.matrix))):
        made, _ = _best_probes(linear_probes.moments(rows, given, some), some, rows, with_tag)
        learned.append(Scored(replace(made.model, folds=folds), every, made.ratio))
    ratio = None if further.tagger is None else _tagger_ratio(further.tagger, matrix, given)
    probe, kernel = learned
    return Heard(further, probe, kernel, ratio)


def _tagger_ratio(tagger: Tagger, matrix: np.ndarray, given: sparse.csr_matrix) -> Ratio:
    sums = ScoreSums(*np.zeros((3, len(tagger.columns))))
    known = given[:, tagger.columns]
    for rows in blocks(len(matrix)):
        logits = tagger_logits(tagger, matrix[rows])
        sums.score[:] += logits.sum(axis=0, dtype=np.float64)
        sums.score_with[:] += np.asarray(known[rows].multiply(logits).sum(axis=0, dtype=np.float64)).ravel()
        sums.square[:] += np.einsum("nt,nt->t", logits, logits, dtype=np.float64)
    return ratio_of(sums, np.asarray(known.sum(axis=0), dtype=np.float64).ravel(), len(matrix))


def main_directions(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(mean (d,), the first `count` principal directions (d, count), the main one first), float32, from a sample of many rows."""
    mean = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample = matrix[:: max(1, len(matrix) // CENTRED_ON)] - mean
    d = matrix.shape[1]
    _, vectors = linalg.eigh(sample.T @ sample, subset_by_index=(d - count, d - 1))
    return mean, np.ascontiguousarray(vectors[:, ::-1], dtype=np.float32)


@dataclass(frozen=True)
class Waves:
    """cos(w'x + b) of random w and b, for x the main directions of the embeddings `matrix` (n, d); rows are made when asked for.

    A linear regression on these is a smooth one of any shape on x, near to that with a Gaussian kernel as wide as
    the median distance of two pictures (Rahimi and Recht, "Random Features for Large-Scale Kernel Machines", 2007).
    """

    matrix: np.ndarray
    mean: np.ndarray
    vectors: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray

    @classmethod
    def over(cls, matrix: np.ndarray, count: int | None = None) -> Waves:
        """`count` waves over the first `WAVED` directions of the embeddings; without it up to `WAVES`, by their number."""
        n, d = matrix.shape
        count = min(WAVES, max(n // 2, 16)) if count is None else count
        rng = np.random.default_rng(0)
        mean, vectors = main_directions(matrix, min(WAVED, d))
        vectors = np.ascontiguousarray(vectors[:, ::-1])
        one, other = ((matrix[rows] - mean) @ vectors for rows in rng.integers(0, n, (2, 2000)))
        width = max(float(np.median(np.linalg.norm(one - other, axis=1))), 1e-12)
        frequency = (rng.normal(size=(vectors.shape[1], count)) / width).astype(np.float32)
        return cls(matrix, mean, vectors, frequency, rng.uniform(0, 2 * np.pi, count).astype(np.float32))

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.matrix), len(self.phase)

    def part(self, rows: slice) -> Waves:
        """Those of some rows alone."""
        return replace(self, matrix=self.matrix[rows])

    def __getitem__(self, rows: Any) -> np.ndarray:
        waves = (self.matrix[rows] - self.mean) @ self.vectors @ self.frequency
        waves += self.phase
        return np.asarray(np.cos(waves, out=waves))


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover 0 to n."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _best_probes(
    sums: linear_probes.FoldedMoments, folds: np.ndarray, inputs: np.ndarray | Made, with_tag: np.ndarray
) -> tuple[Scored[FoldedLinear], float]:
    """Probes with the penalty that parts each tag best out of fold, and the penalty that is best for most.

    The choice of a rare tag leans on what is good for all tags, since its own few pictures choose at random.
    """
    path = linear_probes.RidgePath(sums, folds)
    scored = path.held_out(ALPHAS)
    gain = np.log(ratio_of(scored, with_tag, len(folds)).separation + 0.05)
    own = with_tag / (with_tag + 100)
    pick = (own * gain + (1 - own) * gain.mean(axis=1, keepdims=True)).argmax(axis=0)
    chosen = ScoreSums(*(part[pick, np.arange(len(pick))] for part in scored))
    model = path.models(np.array(ALPHAS)[pick])
    return Scored(model, inputs, ratio_of(chosen, with_tag, len(folds))), ALPHAS[int(np.bincount(pick).argmax())]
