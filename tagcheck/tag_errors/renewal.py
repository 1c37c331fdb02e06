"""The evidence of a library brought up to date: only pictures that are new, or have changed, are weighed anew.

What the regressions, the ratios and the error model learned of the library stays as it was, and so does the evidence of every
picture that has not changed and of which no copy has. New pictures are compared with all, and take their places among
the neighbours of old ones. What the owner says, the rates of each picture and tags that bear on each other are weighed as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from tagcheck.cluster import Share, here
from tagcheck.learning.linear_probes import logit, numbered_folds, unit_rows
from tagcheck.plural import plural
from tagcheck.similar import Pairs
from tagcheck.single_picture import SinglePicture
from tagcheck.tag_errors import error_model, evidence
from tagcheck.tag_errors.error_model import PART, Cells, Learned
from tagcheck.tag_errors.evidence import FurtherTagger, Surroundings, Told, blocks
from tagcheck.tag_errors.suggestions import MEMORY, Examined, Gathered
from tagcheck.tag_errors.tag_rules import Exclusion

MOST = 0.05  # share of the pictures, and of the uses of tags, that may have changed
FAR = 0.2, 10  # a tag is used far more or less than it was from this share of its uses on, and as many more
LEAST = 3e-4  # an unwritten tag less likely than this is not kept: all of them together move nothing
FIRST, BLOCK = 64, 2048  # pictures that are held at once, at first and then
AT_ONCE = 20_000_000  # cosines of them and new ones


class TooMuch(Exception):
    """So much has changed that all has to be weighed anew; says what."""


@dataclass(frozen=True)
class Known:
    """What is kept of a library that was examined."""

    gathered: Gathered
    learned: Learned
    single: SinglePicture
    exclusions: list[Exclusion]

    @classmethod
    def of(cls, seen: Examined) -> Known:
        """What to keep: the cells that are written or of any likelihood."""
        assert seen.gathered is not None and seen.verdict.learned is not None
        cells = seen.cells
        places = np.flatnonzero(cells.given | ((seen.verdict.belongs >= LEAST) & (cells.weight == 1)))
        features = np.empty((len(places), cells.features.shape[1]), dtype=np.float16)
        for some in blocks(len(places), PART):
            features[some] = cells.features[places[some]]
        kept = replace(replace(cells, features=cells.features[:, :0]).some(places), features=features)
        return cls(replace(seen.gathered, cells=kept), seen.verdict.learned, seen.single, seen.exclusions)


@dataclass(frozen=True)
class Now:
    """The library as it is: `before` (n,) the row that each picture had then, -1 where it is new; `fresh` (n,) bool where its
    embeddings are new; `numbers` (n,) drawn from it, which spread new pictures over the folds. `given` (n, T) of the tags of then.
    """

    before: np.ndarray
    fresh: np.ndarray
    numbers: np.ndarray
    matrix: np.ndarray
    given: sparse.csr_matrix
    copies: Pairs | None = None
    told: Sequence[Told] = ()
    further: Sequence[FurtherTagger] = ()


def renewed(known: Known, now: Now, memory: int = MEMORY, share: Share = here) -> tuple[Gathered, np.ndarray]:
    """(the evidence brought up to date, the rows that were weighed anew); `memory` and `share` as for `suggestions.gather`. Raises `TooMuch`."""
    then, found = known.gathered, known.gathered.found
    new, gone = int(now.fresh.sum()), found.given.shape[0] - int((now.before >= 0).sum())
    if new + gone > MOST * len(now.before):
        raise TooMuch(f"{new:,} of {len(now.before):,} pictures are new or embedded anew, and {gone:,} are gone")
    _hold_tags_still(found.given, now.given)
    now_of = np.full(found.given.shape[0], -1, dtype=np.int64)
    now_of[now.before[now.before >= 0]] = np.flatnonzero(now.before >= 0)
    around = _around(found.around, now, now_of)
    rows = _touched(found, around, now, now_of)
    if len(rows) > MOST * len(now.before):
        raise TooMuch(f"{len(rows):,} of {len(now.before):,} pictures are new or have changed")
    folds = _folds(then.folds, around.labels, now)
    moved = found.over(now.given, around, folds, now.told, now.further)
    cells = _cells(then.cells, moved, rows, now_of, memory, share)
    return replace(then, found=moved, cells=cells, folds=folds, learned=known.learned), rows


def _hold_tags_still(then: sparse.csr_matrix, now: sparse.csr_matrix) -> None:
    """Raise `TooMuch` where the tags that are used far more or less than they were make up much of all."""
    before, uses = (np.asarray(one.sum(axis=0)).ravel() for one in (then, now))
    far = np.abs(uses - before) > FAR[0] * before + FAR[1]
    if np.maximum(uses, before)[far].sum() > MOST * uses.sum():
        raise TooMuch(f"{plural(int(far.sum()), 'tag is', 'tags are')} used far more or less than they were")


def _around(then: Surroundings, now: Now, now_of: np.ndarray) -> Surroundings:
    """Who stands near whom: as it was, with the fresh pictures compared with all."""
    n, k = len(now.before), then.indices.shape[1]
    indices, cosine = np.arange(n, dtype=np.int32)[:, None].repeat(k, axis=1), np.full((n, k), -1, dtype=np.float32)
    same, fresh = np.flatnonzero(~now.fresh), np.flatnonzero(now.fresh)
    place = now_of[then.indices[now.before[same]]]
    there = (place >= 0) & ~now.fresh[place]
    indices[same] = np.where(there, place, same[:, None])  # who is gone counts as the picture itself: for nothing
    cosine[same] = np.where(there, then.cosine[now.before[same]], -1)
    mean = now.matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    theirs = unit_rows(now.matrix[fresh] - mean)
    start, step = 0, FIRST  # few at first: as long as a fresh picture has no neighbours, all are offered to it
    while len(fresh) and start < n:
        rows = np.arange(start, min(start + step, n))
        near = unit_rows(now.matrix[rows[0] : rows[-1] + 1] - mean) @ theirs.T
        own = np.flatnonzero(now.fresh[rows])
        near[own, np.searchsorted(fresh, rows[own])] = -np.inf
        one, other = _where(near > cosine[rows].min(axis=1)[:, None])
        _offer(indices, cosine, rows[one], fresh[other], near[one, other])
        near[own] = -np.inf
        one, other = _where(near > cosine[fresh].min(axis=1))
        _offer(indices, cosine, fresh[other], rows[one], near[one, other])
        start, step = start + step, max(FIRST, min(2 * step, BLOCK, AT_ONCE // len(fresh)))
    return evidence.with_twins(indices, cosine, then.recall, now.copies, then.threshold)


def _where(which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The (rows, columns) where `which` (m, k) bool is true: several times as quick as NumPy's own, where that is seldom."""
    return np.divmod(np.flatnonzero(which), which.shape[1])


def _offer(indices: np.ndarray, cosine: np.ndarray, mine: np.ndarray, others: np.ndarray, near: np.ndarray) -> None:
    """Let `others` (p,) take the places of farther neighbours of the rows `mine` (p,), to which they are as `near` (p,) as that."""
    rows, k = np.unique(mine), cosine.shape[1]
    of = np.concatenate([np.repeat(rows, k), mine])
    all_near, all_rows = np.append(cosine[rows], near), np.append(indices[rows], others)
    order = np.lexsort((-all_near, of))
    nearest = order[np.searchsorted(of[order], rows)[:, None] + np.arange(k)]
    indices[rows], cosine[rows] = all_rows[nearest], all_near[nearest]


def _touched(found: evidence.Evidence, around: Surroundings, now: Now, now_of: np.ndarray) -> np.ndarray:
    """The rows whose own evidence has changed: fresh ones, those with other tags, and those with other copies or whose copies are such."""
    touched, n = now.fresh.copy(), len(now.before)
    old = np.flatnonzero(now.before >= 0)
    touched[old[np.unique((now.given[old] != found.given[now.before[old]]).nonzero()[0])]] = True
    touched |= (around.twins @ touched.astype(np.float32)) > 0
    twins = found.around.twins.tocoo()
    one, other = now_of[twins.row], now_of[twins.col]
    there = (one >= 0) & (other >= 0)
    then = sparse.csr_matrix((twins.data[there], (one[there], other[there])), shape=(n, n))
    touched[np.unique((around.twins != then).nonzero()[0])] = True
    lost = np.bincount(one[(one >= 0) & (other < 0)], minlength=n) > 0
    return np.flatnonzero(touched | lost)


def _folds(then: np.ndarray, labels: np.ndarray, now: Now) -> np.ndarray:
    """The fold of each picture: the one it had, that of its copies, or one by its number."""
    old = now.before >= 0
    of_group = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    of_group[labels] = numbered_folds(labels, now.numbers, int(then.max()) + 1)
    of_group[labels[old]] = then[now.before[old]]
    folds: np.ndarray = of_group[labels]
    folds[old] = then[now.before[old]]
    return folds


def _cells(
    then: Cells, found: evidence.Evidence, rows: np.ndarray, now_of: np.ndarray, memory: int, share: Share
) -> Cells:
    """The cells of then where nothing has changed, with what classifiers say now, and the cells of `rows` made anew."""
    place = now_of[then.row]
    same = np.ones(found.given.shape[0], dtype=bool)
    same[rows] = False
    kept = np.flatnonzero((place >= 0) & same[place])
    made = then.some(kept[:0])
    if len(rows):
        rng = np.random.default_rng(0)
        made = error_model.collect(found, rng, memory, background=0, share=share, rows=rows, cut=then.cut)
    row = np.concatenate([place[kept].astype(np.int32), made.row])
    order = np.argsort(row, kind="stable")
    arrays: dict[str, Any] = {"row": row[order]}
    for name in error_model.CELL_ARRAYS[1:]:
        arrays[name] = _joined(getattr(then, name), kept, getattr(made, name), order)
    old = order < len(kept)
    said = evidence.classifiers_say(found.told, arrays["row"][old], arrays["column"][old], logit(found.frequency))
    for name, values in zip(("classifier", "classifier_knows"), said):
        arrays["features"][old, then.names.index(name)] = values
    return replace(then, **arrays)


def _joined(then: np.ndarray, kept: np.ndarray, made: np.ndarray, order: np.ndarray) -> np.ndarray:
    """`then[kept]` and behind it `made`, put in `order`, in the precision of `then`; nothing beside it is held but a part of it."""
    joined = np.empty((len(order), *then.shape[1:]), then.dtype)
    for start in range(0, len(order), PART):
        of = order[start : start + PART]
        old, part = of < len(kept), joined[start : start + PART]
        part[old] = then[kept[of[old]]]
        part[~old] = made[of[~old] - len(kept)]
    return joined
