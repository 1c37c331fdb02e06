"""Copies of one picture: which is the best, and what to make of a tag that only one of two copies has.

A tag on one of two copies means that an owner forgot it on the other, or wrote it wrongly on this
one. Both are weighed here: how often this owner forgets, by the library's own pairs, against what
the picture itself says about the tag, by its neighbours and by the tagger. Numbers only, no files.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.special import expit

from tagcheck.learning import Tagger
from tagcheck.learning.linear_probes import unit_rows
from tagcheck.learning.logistic import logistic
from tagcheck.similar.unit_rows import UnitRows, workers

NEIGHBOURS = 24
REFERENCE = 20_000  # pictures among which neighbours are looked for
FEWEST_TO_LEARN = 200  # pictures, and as many cells with the tag, from which evidence is weighed
CELLS_TO_LEARN = 400_000
WRONG_SHARE = 0.03  # of the tags that an owner writes, how many are wrong: only its order of magnitude matters
FORGETTING = (0.01, 0.5)
SMOOTHING = 2.0
BLOCK = 2048
FEW_ALIKE = 500  # pictures of which the nearest that is no copy is looked at
COPIES_SHARE = 0.85  # of the tags that at least one of two copies has, those that both have
COPIES_ODDS, TAGS_WEIGHT = 1.0, 0.5


def forgetting(owned: sparse.csr_matrix, i: np.ndarray, j: np.ndarray, apart: int) -> float:
    """How often an owner leaves out a tag that belongs, 0 to 1, told by the pairs (i, j).

    `apart` of their tags are on one copy only. Were every difference a tag forgotten with probability
    m, a share 2m / (1 + m) of the tags that at least one copy has would be on one copy only.
    """
    counts = np.asarray(owned.sum(axis=1)).ravel()
    either = (float(counts[i].sum() + counts[j].sum()) + apart) / 2
    share = apart / either if either else 0.0
    return float(np.clip(share / (2 - share), *FORGETTING))


def copy_chance_by_tags(
    owned: sparse.csr_matrix, i: np.ndarray, j: np.ndarray, matrix: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """The chance (m,), 0 to 1, that the pairs (i, j) show one picture each and not two that are only alike, told by their tags.

    Copies share the tags that their owner did not forget; pictures that are merely alike share as many as the nearest pictures
    of the library do that are of no common group (`labels`). Bayes, from log-odds of `COPIES_ODDS` at a cosine from which pairs are reported; the
    tags of a picture are not independent evidence, so only `TAGS_WEIGHT` of what they say counts.
    """
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(matrix))[:FEW_ALIKE]
    unit = unit_rows(matrix - matrix.mean(axis=0, dtype=np.float64).astype(np.float32))
    cosine = unit[rows] @ unit.T
    cosine[labels[rows][:, None] == labels[None, :]] = -2.0
    near = cosine.argmax(axis=1)
    apart = cosine.max(axis=1) > -2
    common, either = _common(owned, rows[apart], near[apart])
    alike = float(np.clip((common.sum() + 1) / (either.sum() + 2), 0.02, COPIES_SHARE - 0.05))
    common, either = _common(owned, i, j)
    odds = common * np.log(COPIES_SHARE / alike) + (either - common) * np.log((1 - COPIES_SHARE) / (1 - alike))
    return np.asarray(expit(np.clip(COPIES_ODDS + TAGS_WEIGHT * odds, -30, 30)))


def _common(owned: sparse.csr_matrix, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many tags both pictures of each pair have, and how many at least one has."""
    both = np.empty(len(i))
    for start in range(0, len(i), BLOCK):
        block = slice(start, start + BLOCK)
        both[block] = np.asarray(owned[i[block]].multiply(owned[j[block]]).sum(axis=1)).ravel()
    counts = np.asarray(owned.sum(axis=1)).ravel()
    return both, counts[i] + counts[j] - both


@dataclass(frozen=True)
class Support:
    """What pictures say about tags, cell by cell, each array (cells,).

    `logit` of the owner giving the picture the tag, learned from the whole library; 0, and `learned` False, where the
    library is too small to learn from. `tagger` its probability, NaN where the tagger does not know the tag. `having`
    of `asked` neighbours, none of them a copy of the picture, have the tag.
    """

    learned: bool
    logit: np.ndarray
    tagger: np.ndarray
    having: np.ndarray
    asked: np.ndarray

    def part(self, cells: slice) -> Support:
        """The same for some of the cells."""
        return Support(self.learned, self.logit[cells], self.tagger[cells], self.having[cells], self.asked[cells])


def support(
    matrix: np.ndarray,
    owned: sparse.csr_matrix,
    labels: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    tagger: Tagger | None,
) -> Support:
    """What the pictures `rows` say about the tags `columns`, both (cells,).

    `matrix` (n, d) embeddings, `owned` (n, T) 0/1, `labels` (n,) groups of near-duplicates: a
    picture's own group is never asked. The weight of each kind of evidence comes from a logistic
    regression of the owner's tags on it over pictures drawn from the library.
    """
    if not len(rows):
        return Support(False, np.empty(0), np.empty(0), np.empty(0), np.empty(0))
    rng = np.random.default_rng(0)
    n = len(matrix)
    rate = np.clip(np.asarray(owned.mean(axis=0)).ravel(), 0.5 / n, 1 - 0.5 / n)
    asked = np.unique(columns)  # all cells of these, and of as many drawn pictures as keep their number in bounds
    pictures = rng.permutation(n)[: max(1, CELLS_TO_LEARN // max(1, len(asked)))]
    drawn, names = np.repeat(pictures, len(asked)), np.tile(asked, len(pictures))
    every = (np.concatenate([rows, drawn]), np.concatenate([columns, names]))
    having, voters = _votes(matrix, owned, labels, *every, rng)
    logits = _tagger_logits(matrix, tagger, *every, owned.shape[1])
    features = _features(rate[every[1]], having, voters, logits)
    given = np.asarray(owned[drawn, names]).ravel() > 0
    learned = n >= FEWEST_TO_LEARN and min(given.sum(), (~given).sum()) >= FEWEST_TO_LEARN
    cells = slice(0, len(rows))
    logit = np.zeros(len(rows))
    if learned:
        features = np.column_stack([features, np.ones(len(features))])
        logit = features[cells] @ logistic(features[len(rows) :], given)
    return Support(learned, logit, expit(logits[cells]), having[cells], voters[cells])


def shared(one: Support, other: Support, rate: np.ndarray, forgets: float) -> np.ndarray:
    """The probability, 0 to 1, that a tag on one of two copies belongs on both, against being wrong where it is.

    `one` and `other` are what the two pictures say, cell by cell; `rate` (cells,) the share of all pictures that have
    the tag; `forgets` how often the owner leaves a tag out. By Bayes: one copy has it and one does not, which happens
    to a tag that belongs with 2f(1 - f), to one that does not with 2e(1 - e), where e is how often the tag is written
    wrongly. Where nothing could be learned from the library, the tag's share of pictures is all that the pictures say.
    """
    rate = np.clip(rate, 1e-6, 0.9)
    says = (one.logit + other.logit) / 2 if one.learned else np.log(rate) - np.log1p(-rate)
    wrong = WRONG_SHARE * rate
    odds = np.log(forgets * (1 - forgets)) - np.log(wrong * (1 - wrong))
    return np.asarray(expit(np.clip(says + odds, -30, 30)))


def _votes(
    matrix: np.ndarray,
    owned: sparse.csr_matrix,
    labels: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """(having, asked) for each cell: how many of the picture's nearest have the tag.

    These are drawn from the library and not of its group.
    """
    reference = np.sort(rng.permutation(len(matrix))[:REFERENCE])
    pictures, place = np.unique(rows, return_inverse=True)
    nearest = np.empty((len(pictures), min(NEIGHBOURS, len(reference))), dtype=np.int64)
    with workers() as pool:
        # What all pictures have in common says nothing about two of them, so they are compared from their mean.
        centred = UnitRows.of(matrix - matrix.mean(axis=0, dtype=np.float64).astype(np.float32), pool)
        there = centred.take(torch.from_numpy(reference))

        def fill(start: int) -> None:
            here = pictures[start : start + BLOCK]
            cosine = centred.take(torch.from_numpy(here)) @ there.T
            cosine.masked_fill_(torch.from_numpy(labels[here][:, None] == labels[reference][None, :]), -2.0)
            best, found = cosine.topk(nearest.shape[1], dim=1)
            nearest[start : start + BLOCK] = np.where(best.numpy() > -2, reference[found.numpy()], -1)

        for _ in pool.map(fill, range(0, len(pictures), BLOCK)):
            pass
    asked = (nearest >= 0).sum(axis=1)
    source = np.repeat(np.arange(len(pictures)), nearest.shape[1])[nearest.ravel() >= 0]
    edges = (np.ones(len(source), np.float32), (source, nearest[nearest >= 0]))
    graph = sparse.csr_matrix(edges, shape=(len(pictures), len(matrix)))
    having = np.zeros(len(rows))
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(0, len(pictures) + BLOCK, BLOCK))
    for start, (low, high) in zip(range(0, len(pictures), BLOCK), itertools.pairwise(bounds)):
        cells = order[low:high]
        votes = (graph[start : start + BLOCK] @ owned).tocsr()
        having[cells] = np.asarray(votes[place[cells] - start, columns[cells]]).ravel()
    return having, asked[place].astype(np.float64)


def _tagger_logits(
    matrix: np.ndarray, tagger: Tagger | None, rows: np.ndarray, columns: np.ndarray, tags: int
) -> np.ndarray:
    """The tagger's logit for each cell, NaN where it does not know the tag."""
    logits = np.full(len(rows), np.nan)
    if tagger is None or not len(tagger.columns):
        return logits
    line = np.full(tags, -1)
    line[tagger.columns] = np.arange(len(tagger.columns))
    known = np.flatnonzero(line[columns] >= 0)
    for start in range(0, len(known), 8 * BLOCK):
        cells = known[start : start + 8 * BLOCK]
        lines = line[columns[cells]]
        embeddings = matrix[rows[cells]].astype(np.float32)
        logits[cells] = np.einsum("nd,nd->n", embeddings, tagger.weight[lines]) + tagger.bias[lines]
    return logits


def _features(rate: np.ndarray, having: np.ndarray, asked: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(cells, 4): how common the tag is, what the neighbours add to that, the tagger's logit, and whether it knows the tag."""
    common = np.log(rate) - np.log1p(-rate)
    share = (having + SMOOTHING * rate) / (asked + SMOOTHING)
    around = np.log(share) - np.log1p(-np.minimum(share, 1 - 1e-6)) - common
    knows = ~np.isnan(logits)
    return np.column_stack([common, around, np.where(knows, np.clip(logits, -12, 12), 0.0), knows])
