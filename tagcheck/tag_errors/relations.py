"""Which tags bear on each other: tags of one namespace, tags that always bring another, tags that never meet.

One tag of such a pair is no independent evidence about the other. The parent is written with the child, right or wrong
(Hydrus adds parents, boorus have implications), and "no finding" is written without any finding. So these pairs are left
out of the context evidence both ways, and `tagcheck.tag_errors.joint_belief` weighs them together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import bdtr, expit

from tagcheck import tags as tag_names
from tagcheck.tag_errors.tag_rules import learn_exclusions, together

FOLLOWS = 0.85  # the share of a tag's pictures that have the other one, from which it may follow
BY_CHANCE = 0.01  # how probably the other one is missing as seldom by chance, up to which it may
FEW_VALUES = 3.0  # tags of a namespace on a picture that has any, and
SELDOM_MEET = 0.75  # how often two meet in units of chance: up to here they are weighed together
ONE_STROKE = 0.5  # that two tags are written by one stroke counts from this probability on
BY_STROKE = 0.003  # how often the tag that follows is not there, although one stroke writes both
# By hand it is forgotten: the start and the weight (in uses), and the bounds. Likewise the share of pairs of one stroke.
BY_HAND, HAND_WEIGHT, HAND_BOUNDS = 0.05, 100.0, (0.02, 0.2)
STROKES, STROKE_WEIGHT, STROKE_BOUNDS = 0.2, 10.0, (0.02, 0.9)
DECLARED_EXCEPTIONS = 0.01
Parents = Mapping[str, Iterable[str]]


@dataclass(frozen=True)
class Relations:
    """Columns that bear on each other.

    `space` (T,) the place in `spaces` of each column's namespace, -1 where its tags are not weighed together; `single`
    (spaces,) bool: declared to have one value a picture. `apart` (e, 2) columns that exclude each other. `parent` (i,)
    follows from `child` (i,): by one stroke with probability `stroke` (i,), and `exception` (i,) is how often the
    child truly stands alone.
    """

    spaces: tuple[str, ...]
    space: np.ndarray
    single: np.ndarray
    apart: np.ndarray
    child: np.ndarray
    parent: np.ndarray
    stroke: np.ndarray
    exception: np.ndarray

    def bearing(self, rows: slice) -> np.ndarray:
        """Which columns bear on those of `rows`, and so are no independent evidence about them: bool (m, T)."""
        same = (self.space[rows, None] == self.space) & (self.space[rows, None] >= 0)
        one, other = np.concatenate([self.apart, np.column_stack([self.child, self.parent])]).T
        for place, beside in ((one, other), (other, one)):
            here = np.flatnonzero(np.isin(place, np.arange(len(self.space))[rows]))
            same[place[here] - rows.start, beside[here]] = True
        return np.asarray(same)

    def mostly_brought(self, given: sparse.csr_matrix) -> np.ndarray:
        """Which of the T tags, bool (T,), stand beside one that brings them on more than half of their pictures; `given` (n, T)."""
        tags = len(self.space)
        brings = sparse.csr_matrix((np.ones(len(self.child)), (self.child, self.parent)), shape=(tags, tags))
        beside = (given @ brings).multiply(given).tocsc()
        return np.asarray(2 * beside.getnnz(axis=0) > np.asarray(given.sum(axis=0)).ravel())


def learn_relations(
    given: sparse.csr_matrix, names: Sequence[str], parents: Parents | None = None, single: frozenset[str] = frozenset()
) -> Relations:
    """The relations of T tags by what n pictures have, `given` (n, T) 0/1, and by declared `parents`, tag -> those it brings.

    `single` names namespaces that are declared to have one value a picture.
    """
    given = given.astype(np.float32, copy=False).tocsr()
    spaces, space = _spaces(given, names, single)
    found = _implications(given)
    child, parent, stroke, exception = _with_declared(found, names, parents or {})
    apart = [
        (pair.one, pair.other) for pair in learn_exclusions(given) if not (space[pair.one] == space[pair.other] >= 0)
    ]
    alone = np.array([name in single for name in spaces], dtype=bool)
    pairs = np.array(apart, dtype=np.int64).reshape(-1, 2)
    return Relations(spaces, space, alone, pairs, child, parent, stroke, exception)


def _spaces(
    given: sparse.csr_matrix, names: Sequence[str], single: frozenset[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """The namespaces in which pictures mostly have few tags, and which of them each column is in."""
    columns: dict[str, list[int]] = {}
    for column, tag in enumerate(names):
        columns.setdefault(tag_names.namespace(tag), []).append(column)
    spaces: list[str] = []
    space = np.full(len(names), -1, dtype=np.int64)
    for name, members in sorted(columns.items()):
        if not name or len(members) < 2:
            continue
        if name in single or _few_values(given[:, members]):
            space[members] = len(spaces)
            spaces.append(name)
    return tuple(spaces), space


def _few_values(given: sparse.csr_matrix) -> bool:
    """Whether pictures have few tags of a namespace, `given` (n, tags of it), and two meet less than by chance.

    Where they meet more, as topics do, each is evidence for the other, and belongs to the context evidence.
    """
    uses, each = (np.asarray(given.sum(axis=axis)).ravel() for axis in (0, 1))
    met, by_chance = float(each @ (each - 1)), float(uses.sum() ** 2 - uses @ uses) / given.shape[0]
    return bool(each.sum() <= FEW_VALUES * (each > 0).sum() and met <= SELDOM_MEET * by_chance)


def _implications(given: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(child, parent, by one stroke, exception) of pairs of which the second is hardly ever missing where the first is."""
    n, uses = given.shape[0], np.asarray(given.sum(axis=0)).ravel()
    found = []
    for tags, some in together(given):
        met = some.tocoo()
        one, other = met.row.astype(np.int64) + tags.start, met.col.astype(np.int64)
        share, back, missed = met.data / uses[one], met.data / uses[other], uses[one] - met.data
        rare = uses[one] < uses[other]
        rarer = rare | ((uses[one] == uses[other]) & (one < other))
        follows = (one != other) & (share >= FOLLOWS) & (1 - share <= 0.3 * (1 - uses[other] / n))
        follows &= rarer | (back < FOLLOWS)  # of two tags that follow from each other the rarer one is the child
        times = uses[one[follows]].astype(np.int64)
        follows[follows] = bdtr(missed[follows], times, 1 - uses[other[follows]] / n) <= BY_CHANCE
        found.append((one[follows], other[follows], missed[follows]))
    child, parent, missed = (np.concatenate(part) for part in zip(*found))
    stroke = _by_one_stroke(uses[child], missed)
    kept = stroke >= ONE_STROKE
    exception = (missed + 1) / (uses[child] + 2)
    return child[kept], parent[kept], stroke[kept], exception[kept]


def _by_one_stroke(uses: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """The probability (i,) that a tag and the one that follows are written by one stroke, where that is `missed` of `uses` times.

    Pairs are a mixture: of some the second is hardly ever missing, of others it is forgotten as often as any tag. The
    share of the first and the rate of the second are found by expectation maximisation.
    """
    rate, share = BY_HAND, STROKES
    stroke = np.zeros(len(uses))
    for _ in range(30):
        odds = missed * (np.log(BY_STROKE) - np.log(rate)) + np.log(share) - np.log1p(-share)
        odds += (uses - missed) * (np.log1p(-BY_STROKE) - np.log1p(-rate))
        stroke = expit(odds)
        share = float(np.clip((stroke.sum() + STROKES * STROKE_WEIGHT) / (len(uses) + STROKE_WEIGHT), *STROKE_BOUNDS))
        hand = 1 - stroke
        rate = (hand @ missed + BY_HAND * HAND_WEIGHT) / (hand @ uses + HAND_WEIGHT)
        rate = float(np.clip(rate, *HAND_BOUNDS))
    return stroke


def _with_declared(
    found: tuple[np.ndarray, ...], names: Sequence[str], parents: Parents
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The learned implications with those that the owner has declared: these are written by one stroke."""
    at = {name: column for column, name in enumerate(names)}
    pairs = {(int(c), int(p)): (float(s), float(e)) for c, p, s, e in zip(*found)}
    for name, brought in parents.items():
        for parent in brought:
            if name in at and parent in at and name != parent:
                pairs.pop((at[parent], at[name]), None)
                pairs[at[name], at[parent]] = 1.0, DECLARED_EXCEPTIONS
    ordered = sorted(pairs)
    columns = np.array(ordered, dtype=np.int64).reshape(-1, 2)
    rates = np.array([pairs[key] for key in ordered], dtype=np.float64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1], rates[:, 0], rates[:, 1]
