"""The joint probability of tags that bear on each other: which of a picture's series are right, if one, two or none.

The model. For one picture let Z be the set of tags that truly belong, of those that bear on each other
(`tagcheck.tag_errors.relations`), and W the written ones. The error model gives for each tag alone the odds o from the
evidence, and the factor w for the fact that it is written, or that it is not. Then

    log P(Z | e)    = sum of o over Z + sum of c over pairs in Z                     up to a constant
    log P(Z | e, W) = the same + sum of w over Z + log(1 + sum of swaps)

where c is how much more often than by chance two tags of a namespace occur together, learned for the namespace and for
each pair (shrunk to the namespace's). So "both belong" has a prior of its own: almost 0 for two series that never cross,
almost 1 for a series and a part of it. A swap is a tag of Z that is not written while another, not in Z, is written in
its place; how often that happens, and for which tags, is learned too.

A parent is certain where one of its children belongs. A parent that was written together with the child is no further
evidence. How often it belongs without any of its children is learned for each parent, as c is. Of two written tags that
exclude each other at most one is right.

Every set of up to `MOST` tags is weighed, so the sums are exact; the learning is expectation maximisation, in which the
expected meetings under P(Z | e) are moved to those under P(Z | e, W) (iterative scaling; Darroch and Ratcliff 1972).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.special import expit, softmax

from tagcheck.learning.linear_probes import logit
from tagcheck.tag_errors.error_model import SMALLEST, Cells, Verdict, as_far_as_known, by_parts
from tagcheck.tag_errors.relations import Relations

MOST = 8  # tags of a picture weighed together
LEAST = 0.003  # an unwritten tag less likely than this is left to itself
TEMPER = 0.92  # what is kept of the evidence for a tag where it competes with others: their errors are not independent
MEETING, RAREST_MEETING = 0.05, 1e-3  # meetings of two tags of a namespace, in units of chance: first, least
SINGLE = 1e-3  # the same where a namespace is declared to have one value
SPREAD, PAIR_BOUNDS = 1.5, (-5.0, 7.0)  # how much pairs differ from their namespace, in logs
EXCLUDED = 0.02  # how often tags that exclude each other meet, in units of chance
BROUGHT = 0.05  # a parent without its children is at least this share of what it is expected to be
CHILDLESS_WEIGHT, CHILDLESS_BOUNDS = 2.0, (-6.0, 2.0)  # events that its log-odds are drawn to that by, and their bounds
SWAPPED, SWAPPED_WEIGHT, MOST_SWAPPED = 0.02, 20.0, 0.3  # share of tags that stand in the place of another
HABIT_WEIGHT = 4.0  # swaps: what a tag's own are weighed against
DRAWN = (
    0.2  # how far what is believed of two tags of a namespace is drawn to what is believed of all that stand together
)
UNEXPLAINED = 0.12  # the chance that a written tag of which the evidence sees nothing is wrong
HIDDEN = 4.0  # the power of the share of a tag's uses that the evidence does not see: so much of that chance holds for the tag
DIFFER = 0.05  # how likely two near-duplicates are that do not show the same things
POWER = 2.0  # of the share of uses that the evidence expects: so much is kept of what it says
ROUNDS = 8
LEAST_SHARED = 0.05  # less of a tag's evidence than this is not taken for that of others
MATCHINGS = 4  # rounds in which the chances of a set's tags are brought to those of each alone
ROWS = 4096  # sets of tags weighed at a time
LARGEST_STEP = 1.5
IN_SPACE, EXCLUSIVE, CHILD = 0, 1, 2


@dataclass(frozen=True)
class Pairs:
    """Cells (places `one`, `other`) of one picture that bear on each other: `kind`, and `place` in the relations of that kind.

    For `CHILD` the first is the child.
    """

    one: np.ndarray
    other: np.ndarray
    kind: np.ndarray
    place: np.ndarray


@dataclass(frozen=True)
class Habits:
    """What was learned: by namespace, how often two of its tags meet in units of chance, and the share of swapped tags."""

    meeting: dict[str, float]
    swapped: dict[str, float]


def settle(cells: Cells, verdict: Verdict, relations: Relations, frequency: np.ndarray) -> tuple[Verdict, Habits]:
    """The verdict with tags that bear on each other weighed together, and what was learned on the way.

    `verdict` from `error_model.judged`; `frequency` (T,).
    """
    truth = np.where(cells.given, 1 - verdict.error, verdict.error)
    bears = np.zeros(len(frequency), dtype=bool)
    bears[relations.space >= 0] = True
    bears[np.concatenate([relations.apart.ravel(), relations.child, relations.parent])] = True
    likely = (verdict.belongs >= LEAST) & (cells.weight == 1)
    relevant = np.flatnonzero(bears[cells.column] & (cells.given | likely))
    written, column = cells.given[relevant], cells.column[relevant].astype(np.int64)
    pairs = _linked(cells.row[relevant], column, written, relations)
    model = _Model(relations, frequency, pairs, column, written, verdict, relevant, truth[relevant])
    if len(pairs.one):
        for _ in range(ROUNDS):
            model.round()
        truth[relevant] = model.belief
    truth = _drawn_to_all(truth, cells, relations)
    error = np.where(cells.given, 1 - truth, truth)
    error = by_parts(lambda error, given: as_far_as_known(error, given, verdict), error, cells.given)
    error = _as_far_as_it_shows(error, cells, verdict.shows, relations, model.theta)
    error = _or_unexplained(error, cells, verdict.shows)
    return replace(verdict, error=error), model.habits()


def of_one_mind(cells: Cells, verdict: Verdict, twins: sparse.csr_matrix) -> Verdict:
    """The verdict, in which a tag is not both missing on a picture and wrong on its near-duplicate; `twins` (n, n) says which are.

    Where each of the two is likelier than not, they show the same, and what is believed of the tag is the mean of both
    (of the log-odds); but not where two beliefs so sure are less likely on one picture than that they are two (`DIFFER`).
    """
    likely = (verdict.error >= 0.5) & (cells.weight == 1) & (np.diff(twins.indptr) > 0)[cells.row]
    at = {(int(cells.row[place]), int(cells.column[place])): place for place in np.flatnonzero(likely & ~cells.given)}
    error = verdict.error.copy()
    for wrong in np.flatnonzero(likely & cells.given):
        row, column = cells.row[wrong], int(cells.column[wrong])
        for other in twins.indices[twins.indptr[row] : twins.indptr[row + 1]].tolist():
            missing = at.get((other, column))
            if missing is None:
                continue
            here, there = 1 - error[wrong], error[missing]
            if (1 - DIFFER) * (here * there + (1 - here) * (1 - there)) > DIFFER:
                belongs = expit((logit(here, SMALLEST) + logit(there, SMALLEST)) / 2)
                error[wrong], error[missing] = 1 - belongs, belongs
    return replace(verdict, error=error)


def _as_far_as_it_shows(
    error: np.ndarray, cells: Cells, shows: np.ndarray, relations: Relations, meeting: np.ndarray
) -> np.ndarray:
    """`error` (m,), its log-odds where above 0 times a power of the share of the tag's uses that the evidence expects, `shows` (T,).

    Where the evidence misses many uses of a tag, it is less sure about the tag than the regression estimates: the tags alone
    do not show whether such a tag is forgotten or cannot be seen. Beside another tag of its namespace that is likely right,
    that one is evidence too, and the more so the less often two of the namespace occur together (`meeting` (spaces,), in
    logs of units of chance): there the power is lower. A tag that stands alone has no such evidence.
    """
    space = relations.space[cells.column]
    of_space = np.flatnonzero((space >= 0) & cells.given)
    key = cells.row[of_space].astype(np.int64) * len(relations.spaces) + space[of_space]
    pictures, at, count = np.unique(key, return_inverse=True, return_counts=True)
    best = np.zeros(len(pictures))
    np.maximum.at(best, at, 1 - error[of_space])
    # The likeliest tag itself looks more right than wrong, so its own share does not come into play here.
    beside = np.maximum(shows[cells.column[of_space]], best[at])
    power = np.where(count[at] > 1, 1 + (POWER - 1) * np.minimum(np.exp(meeting[space[of_space]]), 1), POWER)

    def said(error: np.ndarray, share: np.ndarray) -> np.ndarray:
        odds = logit(error, SMALLEST)
        return np.asarray(expit(np.where(odds > 0, share * odds, odds)))

    out = by_parts(lambda error, column: said(error, shows[column] ** POWER), error, cells.column)
    out[of_space] = said(error[of_space], beside**power)
    return out


def _or_unexplained(error: np.ndarray, cells: Cells, shows: np.ndarray) -> np.ndarray:
    """`error` (m,), for written tags with a small chance that what nothing explains is wrong rather than out of sight.

    Where the evidence shows little of a tag (`shows`), its uses without evidence count as invisible, and all look equally
    right. The picture's own regression then gives the order: an unlikely tag is wrong more often.
    """
    place, chance = cells.names.index("probe_share"), UNEXPLAINED * (1 - shows) ** HIDDEN

    def out(error: np.ndarray, said: np.ndarray, column: np.ndarray, given: np.ndarray) -> np.ndarray:
        alone = 1 - np.clip(said, 0, 1)
        return np.asarray(error + chance[column] * alone * given * (1 - error))

    return by_parts(out, error, cells.features[:, place], cells.column, cells.given)


def _drawn_to_all(truth: np.ndarray, cells: Cells, relations: Relations) -> np.ndarray:
    """`truth` (m,), where a picture has two tags or more of a namespace drawn to what is believed of all such pictures.

    How two series look on one picture is seldom seen, so the evidence says less there than it seems to: where most
    that stand together are right, one that looks wrong is so less surely.
    """
    space = relations.space[cells.column]
    inside = np.flatnonzero(cells.given & (space >= 0))
    key = cells.row[inside].astype(np.int64) * len(relations.spaces) + space[inside]
    _, at, count = np.unique(key, return_inverse=True, return_counts=True)
    several = inside[count[at] > 1]
    if not len(several):
        return truth
    of = space[several]
    usual = np.bincount(of, truth[several]) / np.maximum(np.bincount(of), 1)
    out = truth.copy()
    out[several] = (1 - DRAWN) * truth[several] + DRAWN * usual[of]
    return out


def _linked(row: np.ndarray, column: np.ndarray, written: np.ndarray, relations: Relations) -> Pairs:
    """All pairs of cells of one picture that bear on each other; of exclusive tags those that are both written."""
    tags = len(relations.space)
    keys = np.concatenate([relations.child * tags + relations.parent, relations.apart @ np.array([tags, 1])])
    kinds = np.repeat([CHILD, EXCLUSIVE], [len(relations.child), len(relations.apart)])
    places = np.concatenate([np.arange(len(relations.child)), np.arange(len(relations.apart))])
    keys, first = np.unique(keys, return_index=True)
    kinds, places = kinds[first], places[first]
    found = [Pairs(*np.empty((4, 0), dtype=np.int64))]
    longest = int(np.bincount(row).max()) if len(row) else 0
    for offset in range(1, longest):
        one = np.flatnonzero(row[:-offset] == row[offset:])
        other = one + offset
        same = (relations.space[column[one]] >= 0) & (relations.space[column[one]] == relations.space[column[other]])
        nothing = np.zeros(int(same.sum()), dtype=np.int64)
        found.append(Pairs(one[same], other[same], nothing + IN_SPACE, nothing))
        for a, b in ((one, other), (other, one)) if len(keys) else ():
            key = column[a] * tags + column[b]
            at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            hit = (keys[at] == key) & ((kinds[at] == CHILD) | (written[a] & written[b]))
            found.append(Pairs(a[hit], b[hit], kinds[at[hit]], places[at[hit]]))
    fields = ("one", "other", "kind", "place")
    return Pairs(*(np.concatenate([getattr(part, name) for part in found]) for name in fields))


class _Model:
    """The cells (r,) that bear on each other, what is known of each, and what is learned of all."""

    def __init__(
        self,
        relations: Relations,
        frequency: np.ndarray,
        pairs: Pairs,
        column: np.ndarray,
        written: np.ndarray,
        verdict: Verdict,
        relevant: np.ndarray,
        alone: np.ndarray,
    ) -> None:
        self.relations, self.pairs, self.tags = relations, pairs, len(frequency)
        prior, base = logit(verdict.belongs[relevant], SMALLEST), logit(frequency[column])
        self.says = (1 - _by_stroke(pairs, written, relations)) * (logit(alone, SMALLEST) - prior)
        tempered = np.where(relations.space[column] >= 0, base + TEMPER * (prior - base), prior)
        self.odds = _without_children(pairs, tempered)
        self.belief = alone
        self.blocks = list(_blocks(pairs, written, verdict.belongs[relevant]))
        self.space = relations.space[column]
        self.theta = np.log(np.where(relations.single, SINGLE, MEETING))
        self.column, self.childless = column, np.zeros(self.tags)
        inside = pairs.kind == IN_SPACE
        low, high = (
            np.minimum(column[pairs.one], column[pairs.other]),
            np.maximum(column[pairs.one], column[pairs.other]),
        )
        keys = np.where(inside, low * self.tags + high, -1)
        self.keys, self.key = np.unique(keys, return_inverse=True)
        self.shared = _shared(pairs, frequency[column])
        self.delta, self.own = np.zeros(len(self.keys)), np.zeros(len(keys))
        self._prepare_swaps(frequency, column, written, verdict, relevant)
        self.sure, self.inside = verdict.belongs[relevant], self.space >= 0

    def _prepare_swaps(
        self, frequency: np.ndarray, column: np.ndarray, written: np.ndarray, verdict: Verdict, relevant: np.ndarray
    ) -> None:
        """Which cells may have been swapped (the true one, the written one), and how likely each is by chance."""
        one, other = (side[self.pairs.kind == IN_SPACE] for side in (self.pairs.one, self.pairs.other))
        first, second = ~written[one] & written[other], written[one] & ~written[other]
        self.true, self.instead = np.r_[one[first], other[second]], np.r_[other[first], one[second]]
        names, self.swap = np.unique(column[self.true] * self.tags + column[self.instead], return_inverse=True)
        self.swapped_tag = names // self.tags
        total = np.bincount(np.maximum(self.relations.space, 0), frequency * (self.relations.space >= 0))
        share = frequency / np.maximum(total[np.maximum(self.relations.space, 0)], 1e-12)
        # At most as often as by chance among the pictures that have a tag of the namespace: else a wrong tag beside the right one
        # would look like a second right one, the more so the oftener such are believed, up to all of them.
        self.most = -np.log(np.clip(total, 1e-3, 1))
        self.chance = share[names % self.tags] / np.maximum(1 - share[self.swapped_tag], 1e-12)
        self.habit = self.chance
        self.rho = np.full(len(self.relations.spaces), SWAPPED)
        wrong = np.clip(verdict.wrong[relevant], 1e-6, 0.3)
        self.by_chance = verdict.miss[relevant][self.true] * wrong[self.instead]

    def round(self) -> None:
        """Weigh all sets of tags, then learn from what came out."""
        pairs, size = self.pairs, len(self.odds)
        rate = self.rho[self.space[self.true]] * np.maximum(self.habit[self.swap], 1e-12)
        swap = np.minimum(rate / self.by_chance, 1e12)
        expected, believed = np.zeros(len(pairs.one)), np.zeros(len(pairs.one))
        swapped, belief = np.zeros(len(swap)), self.belief.copy()
        odds, childless = self.odds + self.childless[self.column], np.zeros((2, size))
        coupling = self._coupling()
        for cells in self.blocks:
            block, slot = np.full(size, -1), np.zeros(size, dtype=np.int64)
            block[cells], slot[cells] = np.arange(len(cells))[:, None], np.arange(cells.shape[1])
            here = np.flatnonzero((block[pairs.one] >= 0) & (block[pairs.one] == block[pairs.other]))
            at = block[pairs.one[here]], slot[pairs.one[here]], slot[pairs.other[here]]
            there = np.flatnonzero((block[self.true] >= 0) & (block[self.true] == block[self.instead]))
            of = block[self.true[there]], slot[self.true[there]], slot[self.instead[there]]
            shape = (len(cells), cells.shape[1], cells.shape[1])
            child = pairs.kind[here] == CHILD
            met = _filled(shape, at, np.where(child, 0.0, coupling[here]))
            exception = np.log(self.relations.exception[np.where(child, pairs.place[here], 0)]) if child.any() else 0.0
            brings = _filled(shape, at, np.where(child, exception, 0.0))
            both, both_believed, by_swap = np.zeros(shape), np.zeros(shape), np.zeros(shape)
            swaps = _filled(shape, of, swap[there])
            for start in range(0, len(cells), ROWS):
                rows = slice(start, start + ROWS)
                some = cells[rows]
                inputs = odds[some], self.says[some], met[rows], brings[rows], swaps[rows], self.shared[some]
                belief[some], both[rows], both_believed[rows], by_swap[rows], alone = _weigh(*inputs)
                childless[:, some] = alone
            expected[here], believed[here], swapped[there] = both[at], both_believed[at], by_swap[of]
        self.belief = belief
        self._learn(expected, believed, swapped)
        thought, seen = (np.bincount(self.column, values, self.tags) for values in childless)
        self.childless = np.clip(self.childless + _step(thought, seen, CHILDLESS_WEIGHT), *CHILDLESS_BOUNDS)

    def _coupling(self) -> np.ndarray:
        """The log c of each pair of cells."""
        space = self.space[self.pairs.one]
        inside = self.pairs.kind == IN_SPACE
        out = np.full(len(inside), np.log(EXCLUDED))
        # What a picture itself adds to how often its pair meets is left out, or it would believe its own error.
        out[inside] = self.theta[space[inside]] + np.clip(self.delta[self.key] - self.own, *PAIR_BOUNDS)[inside]
        return out

    def _learn(self, expected: np.ndarray, believed: np.ndarray, swapped: np.ndarray) -> None:
        """Move the meetings and the swaps to what is believed now."""
        inside = self.pairs.kind == IN_SPACE
        spaces, free = len(self.theta), ~self.relations.single
        space = self.space[self.pairs.one[inside]]
        seen, thought = (np.bincount(space, values[inside], spaces) for values in (believed, expected))
        self.theta = np.clip(self.theta + _step(thought, seen, 0.5) * free, np.log(RAREST_MEETING), self.most)
        seen, thought = (np.bincount(self.key[inside], v[inside], len(self.delta)) for v in (believed, expected))
        curve = np.maximum(seen, thought) + 1 / SPREAD**2
        step = np.clip((seen - thought - self.delta / SPREAD**2) / curve, -LARGEST_STEP, LARGEST_STEP)
        self.delta = np.clip(self.delta + step, *PAIR_BOUNDS)
        self.own = (believed - expected) / (thought + 1 / SPREAD**2)[self.key]
        if self.relations.single.any():
            bound = np.zeros(len(self.delta), dtype=bool)
            bound[self.key[inside]] = self.relations.single[space]
            self.delta[bound], self.own[bound[self.key]] = 0.0, 0.0
        # Only where the evidence is sure of the tag: where it confuses two, each looks swapped for the other.
        total = np.bincount(self.space[self.true], swapped * self.sure[self.true], spaces)
        carried = np.bincount(self.space[self.inside], (self.belief * self.sure)[self.inside], spaces)
        rho = (total + SWAPPED * SWAPPED_WEIGHT) / (carried + SWAPPED_WEIGHT)
        self.rho = np.clip(rho, 1e-4, MOST_SWAPPED)
        swaps = np.bincount(self.swap, swapped, len(self.chance))
        of_tag = np.bincount(self.swapped_tag, swaps, self.tags)[self.swapped_tag]
        self.habit = (swaps + HABIT_WEIGHT * self.chance) / (of_tag + HABIT_WEIGHT)

    def habits(self) -> Habits:
        names = self.relations.spaces
        return Habits(dict(zip(names, np.exp(self.theta).tolist())), dict(zip(names, self.rho.tolist())))


def _step(expected: np.ndarray, believed: np.ndarray, weight: float) -> np.ndarray:
    """How far a log weight moves so that what is `expected` comes to what is `believed`; both are drawn together by `weight` events."""
    return np.asarray(np.clip(np.log(believed + weight) - np.log(expected + weight), -LARGEST_STEP, LARGEST_STEP))


def _by_stroke(pairs: Pairs, written: np.ndarray, relations: Relations) -> np.ndarray:
    """The probability (r,) that a written tag stands there only since one that brings it does."""
    out = np.zeros(len(written))
    here = (pairs.kind == CHILD) & written[pairs.one] & written[pairs.other]
    np.maximum.at(out, pairs.other[here], relations.stroke[pairs.place[here]])
    return out


def _without_children(pairs: Pairs, odds: np.ndarray) -> np.ndarray:
    """The log-odds (r,) of each tag where none of its children belongs: what is expected of it less what they bring."""
    child = pairs.kind == CHILD
    if not child.any():
        return odds
    p = expit(odds)
    none = np.bincount(pairs.other[child], np.log1p(-np.minimum(p[pairs.one[child]], 1 - 1e-9)), len(odds))
    brought = 1 - np.exp(none)
    left = np.maximum((p - brought) / np.maximum(1 - brought, 1e-9), BROUGHT * p)
    return np.where(none < 0, logit(left, SMALLEST), odds)


def _shared(pairs: Pairs, frequency: np.ndarray) -> np.ndarray:
    """How much of the evidence for each cell is that of the others of its namespace that are weighed with it, (r,), 0 to 1, by the
    `frequency` (r,) of its tag: the share of pictures without the tag that have one of those. Of two values that nearly all
    pictures have one of, what speaks for one is what speaks against the other. 0 where a parent and its child are weighed.
    """
    one, other = (side[pairs.kind == IN_SPACE] for side in (pairs.one, pairs.other))
    others = np.bincount(np.r_[one, other], frequency[np.r_[other, one]], len(frequency))
    child = pairs.kind == CHILD
    others[pairs.one[child]] = others[pairs.other[child]] = 0
    share = np.minimum(others / np.maximum(1 - frequency, SMALLEST), 1.0)
    return np.where(share >= LEAST_SHARED, share, 0.0)


def _counted_once(
    energy: np.ndarray, sets: np.ndarray, odds: np.ndarray, shared: np.ndarray, met: np.ndarray
) -> np.ndarray:
    """The `energy` (m, h) of all sets, in which a tag that the others of its namespace make less probable than its own `odds` (m, k) is
    brought back to these, as far as its evidence is `shared`: what is for one tag and against another counts once.

    Where the own probabilities of tags that stand beside each other add up to more than 1, each is scaled down to its share.
    """
    own, beside = expit(odds), (met + met.transpose(0, 2, 1)) != 0
    own = logit(own / np.maximum(own + np.einsum("mst,mt->ms", beside, own), 1), SMALLEST)
    more, matched = np.zeros(odds.shape), energy
    for _ in range(MATCHINGS):
        lower = own - logit(softmax(matched, axis=1) @ sets, SMALLEST)
        more += np.clip(lower, 0, LARGEST_STEP) * (shared > 0)
        matched = energy + more @ sets.T
    return np.asarray(energy + (shared * more) @ sets.T)


def _blocks(pairs: Pairs, written: np.ndarray, belongs: np.ndarray) -> Iterator[np.ndarray]:
    """Places (sets, k) of the cells that hang together, for each size k; of more than `MOST` those that matter most."""
    size = len(written)
    edges = sparse.csr_matrix((np.ones(len(pairs.one), np.int8), (pairs.one, pairs.other)), shape=(size, size))
    parts = csgraph.connected_components(edges, directed=False)[1]
    order = np.lexsort((-np.where(written, 2.0, belongs), parts))
    start = np.flatnonzero(np.diff(parts[order], prepend=-1))
    sizes = np.diff(np.r_[start, size])
    for k in range(2, MOST + 1):
        which = start[np.minimum(sizes, MOST) == k]
        if len(which):
            yield order[which[:, None] + np.arange(k)]


def _filled(shape: tuple[int, int, int], at: tuple[np.ndarray, ...], values: np.ndarray) -> np.ndarray:
    out = np.zeros(shape)
    np.add.at(out, at, values)
    return out


def _weigh(
    odds: np.ndarray, says: np.ndarray, met: np.ndarray, brings: np.ndarray, swaps: np.ndarray, shared: np.ndarray
) -> tuple[np.ndarray, ...]:
    """(belief (m, k), both expected, both believed, swapped (m, k, k), expected and believed without a child (2, m, k)) by the sum
    over all sets of k tags.

    `odds`, `says` (m, k) are o and w; `met` (m, k, k) the c of pairs, `brings` the log share of exceptions from child to
    parent (0 for no such pair), `swaps` how many times likelier a swap is than the two errors it looks like; `shared` (m, k) as
    `_shared` gives it.
    """
    k = odds.shape[1]
    sets = ((np.arange(2**k)[:, None] >> np.arange(k)) & 1).astype(np.float64)
    pairs_in = np.einsum("hs,ht->hst", sets, sets).reshape(len(sets), -1)
    one_in = np.einsum("hs,ht->hst", sets, 1 - sets).reshape(len(sets), -1)
    energy = odds @ sets.T + met.reshape(-1, k * k) @ pairs_in.T
    childless: np.ndarray | None = None  # the parents of each set of which no child is in it
    if brings.any():
        # Where a child belongs its parent does: at no cost of its own, and hardly ever not.
        forced = np.einsum("hs,pst->pht", sets, (brings < 0).astype(np.float64)) > 0
        energy += np.einsum("pht,pht->ph", forced, np.logaddexp(0, odds)[:, None] - sets * odds[:, None])
        energy += brings.reshape(-1, k * k) @ one_in.T
        childless = sets * ~forced * np.any(brings < 0, axis=1, keepdims=True).reshape(-1, 1, k)
    if np.any(shared):
        energy = _counted_once(energy, sets, odds, shared, met)
    extra = swaps.reshape(-1, k * k) @ one_in.T
    expected, believed = (softmax(one, axis=1) for one in (energy, energy + says @ sets.T + np.log1p(extra)))
    by_swap = ((believed / (1 + extra)) @ one_in).reshape(-1, k, k) * swaps
    alone = np.zeros((2, *odds.shape))
    if childless is not None:
        alone = np.stack([np.einsum("ph,pht->pt", p, childless) for p in (expected, believed)])
    both = [(p @ pairs_in).reshape(-1, k, k) for p in (expected, believed)]
    return believed @ sets, both[0], both[1], by_swap, alone
