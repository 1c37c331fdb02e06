"""From evidence to the probability that a tag is missing or wrong, when nobody says which tags are right.

The model. Let z be whether tag t truly belongs to picture i, y whether it is written there, and e
the evidence. A tag that belongs is forgotten at the rate m, a tag that does not belong is written
at the rate a:

    P(z = 1 | e) = pi(e)                                          a logistic regression on the evidence
    P(y = 0 | z = 1) = m_i * often_t                              how many tags picture i lacks, how often t is forgotten
    P(y = 1 | z = 0) = a_t = kappa * frequency of t

    P(y = 1 | e)        = pi (1 - m) + (1 - pi) a
    P(z = 1 | y = 0, e) = pi m / (pi m + (1 - pi)(1 - a))         the tag is missing
    P(z = 0 | y = 1, e) = (1 - pi) a / (pi (1 - m) + (1 - pi) a)  the tag is incorrect

Where the evidence is strongest, tags are written at the rate 1 - m (a plateau below 1); where there
is none they are written at the rate a (a floor above 0). Both are read off the data (Elkan and Noto
2008 for the plateau; Scott, Blanchard and Handy 2013 for both ends). Expectation maximisation then fits pi
and, where tags are expected least, parts the floor into what pi explains and what is left for a
(Dempster, Laird and Rubin 1977).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import sparse
from scipy.special import expit

from tagcheck import memory as machine
from tagcheck.cluster import Share, here
from tagcheck.learning.logistic import logistic
from tagcheck.tag_columns import values_at
from tagcheck.tag_errors import evidence
from tagcheck.tag_errors.evidence import Block, Evidence, blocks

RATIO_BENDS, SHARE_BENDS = (-2, 0, 2, 5), (0.1, 0.3, 0.6)
HINGES = {
    "probe": RATIO_BENDS,
    "kernel": RATIO_BENDS,
    "context": RATIO_BENDS,
    "tagger": RATIO_BENDS,
    "classifier": RATIO_BENDS,
    "neighbours": (0, 2),
    "probe_share": SHARE_BENDS,
    "kernel_share": SHARE_BENDS,
}
SUM_BEND = (
    0.7  # of the unwritten cells of a fit: written ones are as many in a large library, a fifth of them in a small one
)
ROUNDS = 10  # of expectation maximisation
RIDGE = 6.0  # on the coefficients of standardised evidence
BEND_RIDGE = 0.6  # on those of the bend in the sum of all evidence
FIT_CELLS = 60_000  # cells a fit looks at, of written and of unwritten ones each
RATIOS = ("probe", "kernel", "context", "neighbours", "twins", "tagger", "classifier")
CHUNK = 8192  # cells expanded at a time
PART = 2**19  # cells of which intermediate values are held at a time
UNLIKELY, FEW = 3e-4, 200_000  # unwritten cells less likely than this by the evidence alone, and how many stand for all
UNWRITTEN = 3  # unwritten cells that are looked at, for each written one
LEAST_LOOKED_AT = 300_000  # unwritten cells that are looked at in any case
OUT = UNLIKELY / 3  # by a first fit: below this no later one finds a cell likely
ALONE, BACKGROUND, OTHERS = range(3)  # a cell stands for itself, for those without much evidence, or for unlikely ones
CELL_BYTES = 180  # of one cell, with all that the fit makes of it
BLOCK_BYTES = 400  # of one cell of a block, with some to spare: blocks take a sixth of the memory
CUT_CELLS = 20_000_000  # cells that tell which ones are worth looking at
EVENNESS = (10.0, 200.0)  # bounds of how many tags of a picture the library's own rate counts as
TAG_SPREAD = (0.5, 0.15)  # how much tags' own intercepts and slopes differ
RATE_PRIOR = 100.0  # events: what a tag's own rates are weighed against
SPACE_PRIOR = 30.0  # events: what a namespace's rates are weighed against
SPACE_USES = 50, 20.0  # a namespace has a plateau of its own from here on, and what its uses are weighed against
SPACE_BOUNDS = (0.2, 8.0)  # of how much more often than all tags those of a namespace are forgotten
RATES_EVERY = 3  # rounds after which the library's rate of forgetting is read off again, at what is believed by then
SHOWN_PRIOR = 10.0  # uses: what the share of a tag's own uses that the evidence expects is weighed against
LEVEL = 0.1  # steps of one level differ by this share at most, beside chance
NEAR_END = 6  # steps that tell what a rate comes to at the very end
BY_CHANCE = 1.5  # standard errors that chance makes up
USUALLY_FORGOTTEN, USUALLY_WRONG = (0.15, 10.0), (0.05, 20.0)  # what m and kappa are drawn to, and by how many events
FLOOR_LEVELS = (
    0.1,
    0.2,
    0.3,
)  # the floor is the mean of its readings with these as `LEVEL`: one reading rests on few events
LOWEST = 0.4  # of what chance gives: where tags are expected least, and the rate of wrong ones is read off
TOLERANCE = 1.5  # a floor this much above the library's still counts as wrong tags
SMALLEST = 1e-9
CELL_ARRAYS = ("row", "column", "features", "given", "weight")


@dataclass(frozen=True)
class Cells:
    """Cells (picture, tag) that may be wrong, sorted by picture, then tag. All arrays (m,), `features` (m, len(names)) float32, of the
    kinds of evidence `names`.

    All written tags are here; of the unwritten ones those with any evidence, each of `weight` 1, and a
    sample of the rest, which stand for all of it by a `weight` above 1. `cut` is the strength from which evidence counts as some.
    Where memory is short, features are float16, and cells with evidence that likely do not belong are among the rest.
    """

    row: np.ndarray
    column: np.ndarray
    features: np.ndarray
    given: np.ndarray
    weight: np.ndarray
    names: tuple[str, ...] = evidence.NAMES
    cut: float = -np.inf

    def __len__(self) -> int:
        return len(self.row)

    def some(self, which: np.ndarray) -> Cells:
        """Those at `which` places, in that order."""
        own = (one[which] for one in (self.row, self.column, self.features, self.given, self.weight))
        return replace(self, **dict(zip(CELL_ARRAYS, own)))

    def as_written(self, written: sparse.csr_matrix, now: sparse.csr_matrix) -> Cells:
        """The same with what was `written` (n, T) at another time than `now`; those that stand for others stay as they are."""
        other = np.zeros(written.shape[0], dtype=bool)
        other[(written != now).nonzero()[0]] = True
        places, given = np.flatnonzero(other[self.row] & (self.weight == 1)), self.given.copy()
        given[places] = values_at(written, self.row[places], self.column[places]) > 0
        return replace(self, given=given)


@dataclass(frozen=True)
class Rate:
    """A rate read off at one end of the evidence: `likely`, the level that most steps agree with, and `least`, what the steps come to at
    the very end; how far the first is believed and not the second, `sure`, 0 to 1: the share of the steps that agree, or how near both are.

    Where there is a level, both are the same. Where the rate moves from the first step on there may be none, and all that is known is
    that it lies between: tags that cannot be seen look like forgotten ones, and like wrong ones.
    """

    likely: float
    least: float
    sure: float


@dataclass(frozen=True)
class Learned:
    """What a fit learned of T tags, by which further cells are judged as those were: the regression `beta` on the evidence (`_Design`),
    each tag's own `lines` (T, 2), the `bend` of all, the rates and each tag's own `floor` and `often` (T,), in units of these, and
    how often those of its namespace (`spaces` (T,)) are forgotten, `of_space` (namespaces,), told by those written `by_hand` (T,).
    """

    design: _Design
    beta: np.ndarray
    lines: np.ndarray
    bend: np.ndarray
    forgotten: Rate
    wrongly: Rate
    floor: np.ndarray
    often: np.ndarray
    spaces: np.ndarray
    of_space: np.ndarray
    by_hand: np.ndarray


@dataclass(frozen=True)
class Verdict:
    """What the model says of each cell, all (m,): `belongs` is pi, `miss` and `wrong` the rates m and a,
    `error` the probability that the cell is as it should not be: missing where it is not written, incorrect where it is.
    `forgotten` and `wrongly` (kappa, in units of a tag's frequency) are the library's rates, `shows` (T,) the share
    of its uses, 0 to 1, that the evidence expects.
    """

    belongs: np.ndarray
    miss: np.ndarray
    wrong: np.ndarray
    error: np.ndarray
    forgotten: Rate
    wrongly: Rate
    shows: np.ndarray
    learned: Learned | None = None


def collect(
    found: Evidence,
    rng: np.random.Generator,
    memory: int = 4 * 2**30,
    background: int = 100_000,
    share: Share = here,
    rows: np.ndarray | None = None,
    cut: float | None = None,
) -> Cells:
    """The cells worth looking at: of the unwritten ones `UNWRITTEN` for each written tag, `LEAST_LOOKED_AT` at least.

    `memory` is about what the cells and all that is made of them later take, in bytes. Where that is too little for all, those that
    likely do not belong are looked at, but not held: some stand for them (`_Sieve`). Each block of pictures is a part for `share`.
    Of some `rows` of pictures alone where these are given; then by the `cut` of all.
    """
    n, tags = found.given.shape
    room = memory // CELL_BYTES - found.given.nnz
    most, held = (max(LEAST_LOOKED_AT, some) for some in (UNWRITTEN * found.given.nnz, room))
    size = int(np.clip(memory // (BLOCK_BYTES * tags), 64, 4096))
    keep = min(1.0, background / max(n * tags - found.given.nnz, 1))
    blocks, sieve = found.blocks(size, rows), None
    cut = _cut(found, rng, most) if cut is None else cut
    seed = int(rng.integers(2**62))
    if rows is None and most > held:
        sieve = _Sieve.of(found, _CellsOf(found, [_some_rows(found, rng)], cut, background / CUT_CELLS, seed), held)
    return _joined(found, cut, share(partial(_CellsOf, found, blocks, cut, keep, seed, sieve), range(len(blocks))))


def _joined(found: Evidence, cut: float, made: Iterator[tuple[tuple[np.ndarray, ...], tuple[int, int]]]) -> Cells:
    """The cells of all blocks, as `_CellsOf` gave them, sorted by picture. Each part goes when it has been taken over."""
    parts, of_row = [], np.zeros(found.given.shape[0], dtype=np.int64)
    stood_for, kinds = np.zeros(2), np.zeros(3)
    for part, more in made:
        parts.append(part)
        stood_for += more
        kinds += np.bincount(part[-1], minlength=3)
        of_row += np.bincount(part[0], minlength=len(of_row))
    weight = np.append(1, stood_for / np.maximum(kinds[1:], 1)).astype(np.float32)
    start, count = np.cumsum(of_row) - of_row, int(of_row.sum())
    row, column, features, given, kind = (np.empty((count, *one.shape[1:]), one.dtype) for one in parts[0])
    while parts:
        part = parts.pop()
        place = start[part[0]] + np.arange(len(part[0])) - np.searchsorted(part[0], part[0])
        for whole, own in zip((row, column, features, given, kind), part):
            whole[place] = own
    machine.give_back()
    return Cells(row, column, features, given, weight[kind], found.names, cut)


@dataclass(frozen=True)
class _Sieve:
    """Tells the unwritten cells that likely do not belong, by a first fit to the cells of some pictures: those less likely than `least`,
    of which the share `keep` stands for all.
    """

    first: _First
    frequency: np.ndarray
    least: float
    keep: float

    @classmethod
    def of(cls, found: Evidence, sample: _CellsOf, most: int) -> _Sieve:
        """By the `sample` of cells, those of some pictures; about `most` of all unwritten cells are to be left."""
        cells = _joined(found, sample.cut, iter([sample(0)]))
        first, *_, belongs = _at_first(cells, found.frequency, np.ones(len(found.frequency), dtype=bool))
        belongs = belongs[~cells.given & (cells.weight == 1)]
        stands_for = found.given.shape[0] / len(sample.blocks[0])
        share = min(1.0, most / max(len(belongs) * stands_for, 1))
        least = max(OUT, float(np.quantile(belongs, 1 - share)))
        unlikely = np.count_nonzero(belongs < least) * stands_for
        return cls(first, found.frequency, least, min(1.0, FEW / max(unlikely, 1)))

    def __call__(self, features: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Whether each cell is unlikely, (m,) bool."""
        written = expit(self.first.design.linear(self.first.beta, features))
        return np.asarray(self.first.belongs(written, self.frequency[column]) < self.least)


@dataclass(frozen=True)
class _CellsOf:
    """Called for a block: (row, column, features, given, kind) of its cells, and how many cells are of the kinds `BACKGROUND` and
    `OTHERS` in all.
    """

    found: Evidence
    blocks: list[np.ndarray]
    cut: float
    keep: float
    seed: int
    sieve: _Sieve | None = None

    def __call__(self, place: int) -> tuple[tuple[np.ndarray, ...], tuple[int, int]]:
        block, rng = Block(self.found, self.blocks[place]), np.random.default_rng([self.seed, place])
        promising = block.strongest() >= self.cut
        promising[block.given.nonzero()] = True
        rest = promising.size - int(np.count_nonzero(promising))
        drawn = np.unique(rng.integers(0, promising.size, rng.binomial(promising.size, self.keep)))
        drawn = drawn[~promising.ravel()[drawn]]
        promising.ravel()[drawn] = True
        i, t = np.nonzero(promising)
        given, features = values_at(block.given, i, t) > 0, block.at(i, t)
        kind = np.where(np.isin(i * promising.shape[1] + t, drawn), BACKGROUND, ALONE).astype(np.int8)
        cells = block.rows[i].astype(np.int32), t.astype(np.int32), features, given, kind
        if self.sieve is None:
            return cells, (rest, 0)
        unlikely = ~given & (kind == ALONE) & self.sieve(features, t)
        kind[unlikely] = OTHERS
        kept = ~unlikely | (rng.random(len(i)) < self.sieve.keep)
        row, column, features, *rest_of = (one[kept] for one in cells)
        return (row, column, features.astype(np.float16), *rest_of), (rest, int(np.count_nonzero(unlikely)))


def _cut(found: Evidence, rng: np.random.Generator, most: int) -> float:
    """The strength above which about `most` unwritten cells lie, told from a sample of pictures."""
    n, tags = found.given.shape
    if most >= n * tags:
        return -np.inf
    block = Block(found, _some_rows(found, rng))
    strength = block.strongest()
    strength[block.given.nonzero()] = -np.inf
    return float(np.quantile(strength, 1 - most / n / tags, method="lower"))


def _some_rows(found: Evidence, rng: np.random.Generator) -> np.ndarray:
    """A sample of pictures of about `CUT_CELLS` cells, sorted."""
    n, tags = found.given.shape
    return np.sort(rng.choice(n, min(n, max(64, min(2048, CUT_CELLS // tags))), replace=False))


def learn(cells: Cells, frequency: np.ndarray, spaces: np.ndarray, by_hand: np.ndarray) -> Learned:
    """The model of this module, fitted to the cells.

    `frequency` (T,) is the share of pictures that have each tag, `spaces` (T,) numbers the tags'
    namespaces: whole namespaces are often forgotten or confused more than the rest. How often tags are forgotten is told by those that
    are written `by_hand` (T,) bool, by all if none is: what comes with another tag comes back with it.
    """
    by_hand = by_hand if by_hand.any() else ~by_hand
    first, of_sample, sample, weight, belongs = _at_first(cells, frequency, by_hand)
    design, beta, m, usual = first.design, first.beta, first.forgotten, first.wrongly
    miss_rate, kappa = m.likely, usual
    taught, sample, some = _teaching(cells, belongs, sample)
    belongs, y, hand = belongs[taught], some.given, by_hand[some.column]
    lines = np.tile([0.0, 1.0], (len(frequency), 1))
    floor, often = np.full(len(frequency), kappa), np.ones(len(frequency))
    truth, of_space = belongs, np.ones(int(spaces.max()) + 1)
    for turn in range(1, ROUNDS + 1):
        miss = _miss_rates(belongs, truth, some, miss_rate, often, spaces, of_space, by_hand)
        del truth  # here and below: a column of a million pictures is 200 MB
        truth, shown = _truth(belongs, miss, some, floor * frequency, kappa * frequency)
        del belongs
        beta = _regressed(of_sample, shown[sample], weight, start=beta)
        linear = design.linear(beta, cells.features, taught)
        lines = _tag_lines(lines, linear, shown, some, len(frequency))
        own = _along(lines, linear[sample], some.column[sample])
        bend = _bend(own, shown[sample], weight, y[sample])
        belongs = _on_lines(lines, linear, some, bend)
        del linear
        of_space = _space_rates(belongs, some, spaces, miss_rate, by_hand)
        floor, often = _tag_rates(belongs, truth, shown, miss, often, kappa * frequency, some, spaces, of_space)
        del miss
        if turn % RATES_EVERY == 0:
            m, wrongly = _plateau(belongs[hand], y[hand]), _wrong_rate(belongs, shown, some, frequency, usual)
            miss_rate, kappa = m.likely, wrongly.likely
        del shown
        floor = kappa * floor
    return Learned(design, beta, lines, bend, m, wrongly, floor, often, spaces, of_space, by_hand)


@dataclass(frozen=True)
class _First:
    """What is known before the rounds of a fit: the regression `beta` of what is written, and the rates of forgetting and of wrong tags."""

    design: _Design
    beta: np.ndarray
    forgotten: Rate
    wrongly: float

    def belongs(self, written: np.ndarray, share: np.ndarray) -> np.ndarray:
        """How probably each cell's tag belongs, (m,), by the probability that it is `written` and its tag's `share` of pictures, (m,)."""
        wrong = self.wrongly * share
        return np.asarray(np.clip((written - wrong) / (1 - self.forgotten.likely - wrong), 1e-6, 1 - 1e-6))


def _at_first(
    cells: Cells, frequency: np.ndarray, by_hand: np.ndarray
) -> tuple[_First, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(where the rounds of a fit begin, the columns of a sample of cells, the places and weights of that, how probably each cell's tag
    belongs, (m,)).
    """
    sample, weight = _sample(cells)
    design, of_sample = _Design.of(cells.names, cells.features[sample])
    beta = _regressed(of_sample, cells.given[sample].astype(np.float64), weight)
    written, share = expit(design.linear(beta, cells.features)), frequency[cells.column]
    hand = by_hand[cells.column]
    rates = _plateau(written[hand], cells.given[hand]), _floor(written, cells.given, cells.weight, share)
    first = _First(design, beta, *rates)
    return first, of_sample, sample, weight, by_parts(first.belongs, written, share)


def judged(learned: Learned, cells: Cells, frequency: np.ndarray) -> Verdict:
    """The verdict on cells by what was `learned`, of these or of others."""
    kappa, rate = learned.wrongly.likely, learned.forgotten.likely
    own = rate, learned.often, learned.spaces, learned.of_space, learned.by_hand
    rates = learned.floor * frequency, kappa * frequency
    linear = learned.design.linear(learned.beta, cells.features)
    belongs = _on_lines(learned.lines, linear, cells, learned.bend)
    del linear
    truth = belongs
    for _ in range(2):
        miss = _miss_rates(belongs, truth, cells, *own)
        truth, _ = _truth(belongs, miss, cells, *rates)
    wrong = np.minimum(learned.floor, kappa) * frequency
    shows = _shows(belongs, truth, cells, len(frequency))
    error, miss = np.where(cells.given, 1 - truth, truth), miss.astype(np.float32)
    of_cell = wrong.astype(np.float32)[cells.column]
    return Verdict(belongs, miss, of_cell, error, learned.forgotten, learned.wrongly, shows, learned)


def as_far_as_known(error: np.ndarray, given: np.ndarray, verdict: Verdict) -> np.ndarray:
    """`error` (m,) as far as the rates of forgetting and of wrong tags are known: the mean of its values at the likely and at the least
    one, by how sure the likely one is. The order stays.

    The least rate of forgetting has to explain what is written as well as the likely one, so tags belong less often at it.
    """
    odds = error / np.maximum(1 - error, SMALLEST)
    m, kappa = verdict.forgotten, verdict.wrongly
    belongs = odds / (m.likely + odds) * (1 - m.likely) / (1 - m.least)
    missing = belongs * m.least / (belongs * m.least + 1 - belongs)
    wrong = odds * kappa.least / (kappa.likely + odds * kappa.least)
    sure = np.where(given, kappa.sure, m.sure)
    return np.asarray(sure * error + (1 - sure) * np.where(given, wrong, missing))


def _on_lines(lines: np.ndarray, linear: np.ndarray, cells: Cells, bend: np.ndarray) -> np.ndarray:
    """How probably each cell's tag belongs, (m,), on its tag's own line and with the `bend` of all."""
    place, slope, more, bias = bend

    def belongs(linear: np.ndarray, column: np.ndarray) -> np.ndarray:
        own = _along(lines, linear, column)
        own = slope * own + more * np.maximum(own - place, 0) + bias
        return np.asarray(np.clip(expit(own), SMALLEST, 1 - SMALLEST))

    return by_parts(belongs, linear, cells.column)


def by_parts(function: Callable[..., np.ndarray], *columns: np.ndarray) -> np.ndarray:
    """`function` of columns (m,), of which each place depends on no other, worked out `PART` places at a time: (m,) float64."""
    out = np.empty(len(columns[0]))
    for part in blocks(len(out), PART):
        out[part] = function(*(one[part] for one in columns))
    return out


def _along(lines: np.ndarray, linear: np.ndarray, column: np.ndarray) -> np.ndarray:
    """`linear` (m,) on the own line of each tag of `column` (m,)."""
    intercept, slope = np.ascontiguousarray(lines.T)  # single columns are quick to look up
    return np.asarray(intercept[column] + slope[column] * linear)


def _bend(linear: np.ndarray, target: np.ndarray, weight: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(place, slope below it, how much more above, intercept) of a bend in `linear` (s,) by which its chances come true at both ends.

    The evidence is bent kind by kind; where several kinds say no at once, their sum says it less than is so. The place is told by
    the cells that are not `given` (s,) bool, so that it is the same in a small library, whose fit has few that are.
    """
    place = np.quantile(linear if given.all() else linear[~given], SUM_BEND)
    columns = np.column_stack([linear, np.maximum(linear - place, 0), np.ones(len(linear))])
    return np.asarray(np.r_[place, _regressed(columns, target, weight, BEND_RIDGE, np.array([1.0, 0, 0]))])


def _space_rates(belongs: np.ndarray, cells: Cells, spaces: np.ndarray, rate: float, by_hand: np.ndarray) -> np.ndarray:
    """How much more often than all tags those of each namespace are forgotten, by the namespace's own plateau.

    Uses that cannot be seen raise a plateau, so it is believed as far as the evidence expects the namespace's uses.
    """
    out = np.ones(int(spaces.max()) + 1)
    y = cells.given
    uses = np.bincount(spaces[cells.column[y]], minlength=len(out))
    least, prior = SPACE_USES
    for space in np.flatnonzero(uses >= least).tolist():
        here = ((spaces == space) & by_hand)[cells.column]
        ratio = np.clip(_plateau(belongs[here], y[here]).likely / rate, *SPACE_BOUNDS)
        out[space] = ratio ** (float(y[here] @ belongs[here]) / (uses[space] + prior))
    return out


def _shows(belongs: np.ndarray, truth: np.ndarray, cells: Cells, tags: int) -> np.ndarray:
    """The share (T,) of each tag's right uses that the evidence expects, drawn by `SHOWN_PRIOR` uses to that of the tags with about as
    many uses (up to twice as many), and that to the share of all: what a few pictures teach is seen less well. Of u uses one may look like
    none of the others, of which all is learned (the rule of succession), and would not be told from a wrong one.
    """
    written = cells.column[cells.given]
    right, expected = (np.bincount(written, values[cells.given], tags) for values in (truth, belongs))
    number = np.maximum(np.bincount(written, minlength=tags), 2)
    octave = np.log2(number).astype(np.int64)
    share = np.full(tags, expected.sum() / max(right.sum(), SMALLEST))
    for alike in (octave, np.arange(tags)):
        expects, uses = (np.bincount(alike, values)[alike] for values in (expected, right))
        share = (expects + SHOWN_PRIOR * share) / (uses + SHOWN_PRIOR)
    return np.asarray(np.minimum(share, 1.0) * (1 - 1 / number))


def _truth(
    belongs: np.ndarray, miss: np.ndarray, cells: Cells, floor: np.ndarray, wrong: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(P(z = 1 | y, e), P(z = 1 and it shows | y, e)).

    A tag that is written without evidence for it may be wrong, or right where it cannot be seen.
    Wrong ones of each tag come at the rate `wrong` (T,); what its own `floor` (T,) has beyond that is taken for the latter.
    """
    floor, wrong = np.minimum(floor, 0.3), np.minimum(wrong, 0.3)
    unseen = np.maximum(1 - TOLERANCE * wrong / floor, 0)

    def shown(belongs: np.ndarray, miss: np.ndarray, y: np.ndarray, column: np.ndarray) -> np.ndarray:
        shows = belongs * np.where(y, 1 - miss, miss)
        rest = (1 - belongs) * np.where(y, floor[column], 1 - floor[column])
        return np.asarray(shows / (shows + rest))

    def truth(shown: np.ndarray, y: np.ndarray, column: np.ndarray) -> np.ndarray:
        return np.asarray(shown + (1 - shown) * np.where(y, unseen[column], 0))

    seen = by_parts(shown, belongs, miss, cells.given, cells.column)
    return by_parts(truth, seen, cells.given, cells.column), seen


def _tag_lines(lines: np.ndarray, linear: np.ndarray, target: np.ndarray, cells: Cells, tags: int) -> np.ndarray:
    """One Newton step for each tag's own intercept and slope, (T, 2), on top of the pooled regression.

    They are drawn to 0 and 1 by a normal prior (`TAG_SPREAD`), so that a tag of few uses keeps the pooled line.
    """
    sums, prior = np.zeros((5, tags)), 1 / np.square(TAG_SPREAD)
    for part in blocks(len(cells), PART):
        column, weight, along = cells.column[part], cells.weight[part], linear[part]
        p = expit(_along(lines, along, column))
        off, curve = weight * (target[part] - p), weight * p * (1 - p)
        sums += [np.bincount(column, v, tags) for v in (off, off * along, curve, curve * along, curve * along * along)]
    g0, g1 = sums[0] - prior[0] * lines[:, 0], sums[1] - prior[1] * (lines[:, 1] - 1)
    h00, h01, h11 = sums[2] + prior[0], sums[3], sums[4] + prior[1]
    scale = h00 * h11 - h01 * h01
    step = np.stack([(h11 * g0 - h01 * g1) / scale, (h00 * g1 - h01 * g0) / scale], axis=1)
    moved = lines + np.clip(step, -1, 1)
    return np.column_stack([np.clip(moved[:, 0], -3, 3), np.clip(moved[:, 1], 0.3, 3)])


def _tag_rates(
    belongs: np.ndarray,
    truth: np.ndarray,
    shown: np.ndarray,
    miss: np.ndarray,
    often: np.ndarray,
    wrong: np.ndarray,
    cells: Cells,
    spaces: np.ndarray,
    forgotten: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(floor, forgetting) of each tag, (T,) each, in units of the library's own rates: `wrong` (T,), and `miss` (m,) without what was
    taken for `often` (T,) before.

    Each is events over expected events, drawn to that of the tag's namespace by `RATE_PRIOR` events, and that by `SPACE_PRIOR`
    events to 1 for floors, to `forgotten` (namespaces,) for forgetting. Only cells about which the evidence is sure count for forgetting. A floor
    below the library's is not believed: the regression would only have explained its wrong tags away.
    """
    tags, out = len(spaces), []
    sums = np.zeros((4, tags))
    for part in blocks(len(cells), PART):
        y, column, weight = cells.given[part], cells.column[part], cells.weight[part]
        sure = truth[part] * belongs[part] * (weight == 1)
        written = np.where(y, 1 - shown[part], 0), weight * (1 - belongs[part]) * wrong[column]
        absent = np.where(y, 0, sure), sure * (miss[part] / often[column])
        sums += [np.bincount(column, values, tags) for values in (*written, *absent)]
    for (events, expected), usual in zip((sums[:2], sums[2:]), (np.ones(len(forgotten)), forgotten)):
        of_space = (np.bincount(spaces, events) + SPACE_PRIOR * usual) / (np.bincount(spaces, expected) + SPACE_PRIOR)
        out.append(np.clip((events + RATE_PRIOR * of_space[spaces]) / (expected + RATE_PRIOR), 0.1, 10))
    return np.maximum(out[0], 1.0), out[1]


def _miss_rates(
    belongs: np.ndarray,
    truth: np.ndarray,
    cells: Cells,
    rate: float,
    often: np.ndarray,
    spaces: np.ndarray,
    of_space: np.ndarray,
    by_hand: np.ndarray,
) -> np.ndarray:
    """The rate at which each cell's tag is forgotten: that of its picture, told from the picture's other cells, times
    the tag's own `often`. `rate` is the library's, `of_space` (namespaces,) in its units that of a namespace; 1 has none of its own.

    Cells count as far as the evidence alone (`belongs`) is sure: many vague ones would add up to forgetting.
    Pictures differ (a beta distribution of rates). How much they do is read off the spread of what
    is missing, by the method of moments for the beta-binomial distribution (Kleinman 1973).
    """
    parts, pictures = list(blocks(len(cells), PART)), int(cells.row.max(initial=0)) + 1
    total, missing = np.zeros((2, pictures))

    def sure(part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        weight = truth[part] * belongs[part] * (cells.weight[part] == 1)
        return cells.row[part], cells.column[part], weight, weight * ~cells.given[part]

    for part in parts:
        row, _, weight, lost = sure(part)
        total += np.bincount(row, weight, pictures)
        missing += np.bincount(row, lost, pictures)
    spread = np.sum((missing - total * rate) ** 2 - total * rate * (1 - rate))
    pairs = np.sum(np.maximum(total * (total - 1), 0)) * rate * (1 - rate)
    alike = np.clip(spread / max(pairs, 1e-9), 1e-6, 1)
    prior = np.clip(1 / alike - 1, *EVENNESS)
    # On the whole they stay at the rate of their namespace, or the library's: else no forgetting at all and a weaker word of
    # the strongest evidence would explain the same tags as well, and the rounds of the fit would drift there.
    alone = np.where(of_space == 1, len(of_space), np.arange(len(of_space)))[spaces]
    found, by_tag = np.empty(len(cells)), np.zeros((2, len(spaces)))
    for part in parts:
        row, column, weight, lost = sure(part)
        of_picture = (missing[row] - lost + prior * rate) / (total[row] - weight + prior)
        found[part] = of_picture * often[column]
        weight *= by_hand[column]
        by_tag += [np.bincount(column, values, len(spaces)) for values in (weight, found[part] * weight)]
    sums = [np.bincount(alone, values, len(of_space) + 1) for values in by_tag]
    scale = (rate * np.append(of_space, 1) * sums[0] / np.maximum(sums[1], SMALLEST))[alone]
    return by_parts(lambda found, column: np.clip(found * scale[column], 0.002, 0.95), found, cells.column)


def _read_off(
    events: np.ndarray, size: np.ndarray, low: float, high: float, usual: tuple[float, float], level: float = LEVEL
) -> Rate:
    """The rate of `events` among `size` in steps (k,), the first one at the very end; kept within `low` and `high`, and drawn to what
    is `usual` by so many events: the evidence of a small library tells less, so that more tags look forgotten there, and more wrong.

    Steps agree whose events differ by no more than `level` and chance; the first of two levels wins a tie. The very first step alone
    may be special, such as pictures whose copies were tagged with care. What the rate comes to at the very end is told by a line through
    the steps near it, which rises by no more than is beyond chance.
    """
    events, size = events + 0.5, size + 1.0
    rate, place = events / size, np.arange(NEAR_END) + 0.5
    expected = rate[:, None] * size  # by the rate of one step, in each step
    near = np.abs(events - expected) <= level * expected + BY_CHANCE * np.sqrt(expected)
    near &= (rate < high) | np.eye(len(rate), dtype=bool)
    agreeing = near[int(np.argmax(near.sum(axis=1)))]

    def drawn(seen: float, among: float) -> float:
        usually, by = usual
        return float(np.clip((seen + by) / (among + by / usually), low, high))

    first, total = size[:NEAR_END], float(size[:NEAR_END].sum())
    mean, middle = events[:NEAR_END].sum() / total, first @ place / total
    spread = first @ np.square(place - middle)
    rise = (first * (place - middle)) @ rate[:NEAR_END] / spread - BY_CHANCE * np.sqrt(mean / spread)
    likely = drawn(events[agreeing].sum(), size[agreeing].sum())
    least = min(drawn(total * max(mean - max(rise, 0) * middle, 0), total), likely)
    return Rate(likely, least, max(float(agreeing.mean()), least / likely))


def _plateau(written: np.ndarray, y: np.ndarray) -> Rate:
    """The share of tags not written where the evidence is strong, m, in steps of 5 % of the written ones."""
    strongest = written[y > 0]
    uses, last = len(strongest), max(len(strongest) - 2 - int(0.6 * len(strongest)), 0)
    if uses:  # what is below the last step is not asked for
        strongest.partition(last)
        strong = written >= strongest[last]
        written, y = written[strong], y[strong]
    del strongest
    order = np.argsort(-written, kind="stable")
    stops = np.searchsorted(np.cumsum(y[order]), np.arange(0, 0.61, 0.05) * uses)
    lost = np.array([np.sum(1 - y[order[start:stop]]) for start, stop in itertools.pairwise(stops)])
    return _read_off(lost, np.diff(stops).astype(np.float64), 0.005, 0.6, USUALLY_FORGOTTEN)


def _floor(written: np.ndarray, y: np.ndarray, weight: np.ndarray, share: np.ndarray) -> float:
    """Wrong tags in units of the tag's frequency, where a tag is expected least, kappa, in steps of 5 % of what chance gives."""
    order = np.argsort(written / share)
    chance = (weight * share)[order]
    reached = np.cumsum(chance)
    stops = list(itertools.pairwise(np.searchsorted(reached, np.arange(0, 0.41, 0.05) * reached[-1])))
    wrong, size = (np.array([values[start:stop].sum() for start, stop in stops]) for values in (y[order], chance))
    return float(np.mean([_read_off(wrong, size, 0.001, 0.5, USUALLY_WRONG, level).likely for level in FLOOR_LEVELS]))


def _wrong_rate(belongs: np.ndarray, shown: np.ndarray, cells: Cells, frequency: np.ndarray, usual: float) -> Rate:
    """Wrong tags in units of what chance gives, kappa, in the `LOWEST` cells of each tag: those that are not `shown` to be right.

    They are drawn by `RATE_PRIOR` events to the `usual` rate, the floor: tags of which the evidence sees little are written there too.
    So there may be fewer wrong ones: the least rate is drawn to what is `USUALLY_WRONG`, where that is below the floor.
    Each tag counts by its own lowest cells: a rare tag that is wrong on one picture is seen less well on all, so the lowest cells
    of all tags together are those of tags without errors.
    """
    low = _lowest(belongs, cells.column, cells.weight)
    chance = cells.weight[low] * frequency[cells.column[low]]
    wrong, size = cells.given[low] @ (1 - shown[low]), chance @ (1 - belongs[low])
    drawn_to = np.array([usual, min(usual, USUALLY_WRONG[0])])
    likely, least = np.clip((wrong + RATE_PRIOR) / (size + RATE_PRIOR / drawn_to), 0.001, 0.5).tolist()
    return Rate(likely, least, 0.0)


def _lowest(belongs: np.ndarray, column: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The places of the `LOWEST` cells of each tag, by `weight` (m,), where it is expected least."""
    order = np.argsort(column + belongs / 2)  # by tag, then by what is believed
    reached = np.cumsum(weight[order], dtype=np.float64)
    start = np.append(0, np.cumsum(np.bincount(column)))
    before = np.append(0, reached)[start]
    stop = np.searchsorted(reached, before[:-1] + LOWEST * np.diff(before), side="right")
    return np.concatenate([order[one:other] for one, other in zip(start.tolist(), stop.tolist())])


def _sample(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """(places, weights) of about `FIT_CELLS` written and as many unwritten cells, standing for all; the same ones every time.

    The more a cell may be an error by its strongest evidence, the likelier it is taken, and every so many along that strength
    (systematic sampling with unequal probabilities; Madow 1949).
    """
    speaks = [place for place, name in enumerate(cells.names) if name.rpartition("/")[2] in RATIOS]
    strength = cells.features[:, speaks[0]].astype(np.float32)
    for place in speaks[1:]:
        np.maximum(strength, cells.features[:, place], out=strength)
    strength += cells.features[:, cells.names.index("prior")]
    places, weights = [], []
    for kind, side in ((np.flatnonzero(cells.given), -1), (np.flatnonzero(~cells.given), 1)):
        kind = kind[np.argsort(strength[kind], kind="stable")]
        size = cells.weight[kind] * np.sqrt(expit(side * strength[kind].astype(np.float64)))
        share = np.full(len(kind), min(1.0, FIT_CELLS / max(len(kind), 1)))
        for _ in range(ROUNDS if len(kind) > FIT_CELLS else 0):  # a share above 1 is left to the others
            rest = share < 1
            share[rest] = size[rest] * (FIT_CELLS - np.count_nonzero(~rest)) / size[rest].sum()
            if share.max() <= 1:
                break
            np.minimum(share, 1.0, out=share)
        reached = np.cumsum(share) + 0.5
        del size
        drawn = np.floor(reached) > np.floor(reached - share)
        places.append(kind[drawn])
        weights.append(cells.weight[kind[drawn]] / share[drawn])
    weight = np.concatenate(weights)
    return np.concatenate(places), weight / weight.mean()


def _teaching(cells: Cells, belongs: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray, Cells]:
    """(places of the cells that the rounds of a fit look at, those of the `sample` among these, and they themselves without their
    evidence, which is not held twice): all but most of the unwritten ones that hardly belong, of which some have the weight of all.
    """
    taught = cells.given | (cells.weight != 1) | (belongs >= UNLIKELY)
    taught[sample] = True
    unlikely, weight = np.flatnonzero(~taught), cells.weight.copy()
    few = unlikely[:: max(1, len(unlikely) // FEW)]
    weight[few] *= len(unlikely) / max(len(few), 1)
    taught[few] = True
    bare = replace(cells, weight=weight, features=cells.features[:, :0])
    places = np.flatnonzero(taught).astype(np.int32)
    return places, np.searchsorted(places, sample), bare.some(places)


@dataclass(frozen=True)
class _Design:
    """The columns of the logistic regression: the kinds of evidence `names`, bent at a few places, standardised by `mean` and `width`."""

    names: tuple[str, ...]
    mean: np.ndarray
    width: np.ndarray

    @classmethod
    def of(cls, names: tuple[str, ...], features: np.ndarray) -> tuple[_Design, np.ndarray]:
        """(the design by the evidence (s, len(names)) of a sample, its columns with one of ones)."""
        raw = np.ascontiguousarray(_bent(names, features).T)
        made = cls(names, raw.mean(axis=0), raw.std(axis=0) + 1e-6)
        return made, np.column_stack([(raw - made.mean) / made.width, np.ones(len(raw))])

    def linear(self, coefficients: np.ndarray, features: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
        """The linear predictor of cells, (m,), by their `features`, or of those at some `places`."""
        scaled, out = coefficients[:-1] / self.width, np.empty(len(features if places is None else places))
        for rows in blocks(len(out), CHUNK):
            some = features[rows if places is None else places[rows]]
            out[rows] = scaled.astype(np.float32) @ _bent(self.names, some)
        out += float(coefficients[-1] - self.mean @ scaled)
        return out


def _bent(names: tuple[str, ...], features: np.ndarray) -> np.ndarray:
    """The evidence (m, len(names)) as columns, and then what of each kind is beyond its bends: (k, m) float32."""
    bends = [(at, bend) for at, name in enumerate(names) for bend in HINGES.get(name.rpartition("/")[2], ())]
    kinds, places = np.array(bends, dtype=np.float32).reshape(-1, 2).T
    out = np.empty((len(names) + len(bends), len(features)), dtype=np.float32)
    out[: len(names)] = features.T
    beyond = np.subtract(out[kinds.astype(np.int64)], places[:, None], out=out[len(names) :])
    np.maximum(beyond, 0, out=beyond)
    return out


def _regressed(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray, ridge: float = RIDGE, start: np.ndarray | None = None
) -> np.ndarray:
    return logistic(x, target, weight, ridge, start, 30, 1e-3)
