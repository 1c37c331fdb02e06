"""Copies of one picture: what their tags differ in, and what the pictures say about a tag that only one of them has.

How likely such a tag is missing from one copy, or wrong on the other, is believed as everywhere (`tagcheck.belief`). Here is what
is told beside that, by the pictures' neighbours and the tagger, and what this owner's habits say where a tag is too rare to be
believed. Numbers only, no files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit, logit

from tagcheck.learning import Tagger
from tagcheck.learning.linear_probes import unit_rows
from tagcheck.tag_columns import having

WRONG_SHARE = 0.03  # of the tags that an owner writes, how many are wrong: only its order of magnitude matters
FORGETTING = (0.01, 0.5)
BLOCK = 2048
FEW_ALIKE = 500  # pictures of which the nearest that is no copy is looked at
COPIES_SHARE = 0.85  # of the tags that at least one of two copies has, those that both have
COPIES_ODDS, TAGS_WEIGHT = 1.0, 0.5


def differences(owned: sparse.csr_matrix, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which tags only one of each pair has: (pair, column, side), sorted; `side` 0 where `i` has it, 1 where `j` has.

    `owned` (n, T) 0/1.
    """
    pairs, columns, sides = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(i), BLOCK):
        block = slice(start, start + BLOCK)
        apart = (owned[i[block]].astype(np.int8) - owned[j[block]].astype(np.int8)).tocoo()
        kept = apart.data != 0
        pairs.append(apart.row[kept].astype(np.int64) + start)
        columns.append(apart.col[kept].astype(np.int64))
        sides.append((apart.data[kept] < 0).astype(np.int64))
    pair, column, side = (np.concatenate(part) for part in (pairs, columns, sides))
    order = np.lexsort((column, pair))
    return pair[order], column[order], side[order]


def forgetting(owned: sparse.csr_matrix, i: np.ndarray, j: np.ndarray, apart: int) -> float:
    """How often an owner leaves out a tag that belongs, 0 to 1, told by the pairs (i, j).

    `apart` of their tags are on one copy only. Were every difference a tag forgotten with probability
    m, a share 2m / (1 + m) of the tags that at least one copy has would be on one copy only.
    """
    counts = np.asarray(owned.sum(axis=1)).ravel()
    either = (float(counts[i].sum() + counts[j].sum()) + apart) / 2
    share = apart / either if either else 0.0
    return float(np.clip(share / (2 - share), *FORGETTING))


def belongs_on_both(rate: np.ndarray, forgets: float) -> np.ndarray:
    """The probability (cells,), 0 to 1, that a tag on one of two copies belongs on both, against being wrong where it is, told by
    the share `rate` (cells,) of all pictures that have the tag and how often the owner `forgets` one.

    By Bayes: one copy has it and one does not, which happens to a tag that belongs with 2f(1 - f), to one that does not with
    2e(1 - e), where e is how often the tag is written wrongly.
    """
    rate = np.clip(rate, 1e-6, 0.9)
    wrong = WRONG_SHARE * rate
    return np.asarray(expit(logit(rate) + np.log(forgets * (1 - forgets)) - np.log(wrong * (1 - wrong))))


def copy_chance_by_tags(
    owned: sparse.csr_matrix, i: np.ndarray, j: np.ndarray, matrix: np.ndarray, near: np.ndarray
) -> np.ndarray:
    """The chance (m,), 0 to 1, that the pairs (i, j) show one picture each and not two that are only alike, told by their tags.

    Copies share the tags that their owner did not forget; pictures that are merely alike share as many as the nearest pictures
    of the library do that are no copies, by `near` as in `support`. Bayes, from log-odds of `COPIES_ODDS` at a cosine from which pairs are reported; the
    tags of a picture are not independent evidence, so only `TAGS_WEIGHT` of what they say counts.
    """
    rows = np.random.default_rng(0).permutation(len(matrix))[:FEW_ALIKE]
    rows = rows[(near[rows] >= 0).any(axis=1)]
    mean = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    nearest = np.empty(len(rows), dtype=np.int64)
    for place, row in enumerate(rows.tolist()):
        some = near[row][near[row] >= 0]
        nearest[place] = some[(unit_rows(matrix[some] - mean) @ (matrix[row] - mean)).argmax()]
    common, either = _common(owned, rows, nearest)
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
    """What pictures say about tags, cell by cell, each array (cells,): the `tagger`'s probability, NaN where it does not know the
    tag; `having` of `asked` neighbours, none of them a copy of the picture, have it.
    """

    tagger: np.ndarray
    having: np.ndarray
    asked: np.ndarray


def support(
    matrix: np.ndarray,
    owned: sparse.csr_matrix,
    near: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    tagger: Tagger | None,
) -> Support:
    """What the pictures `rows` say about the tags `columns`, both (cells,).

    `matrix` (n, d) embeddings, `owned` (n, T) 0/1, `near` (n, k) the rows of the pictures most like each, -1 for one that is
    not asked, as copies are not.
    """
    with_it, says = np.zeros(len(rows)), np.full(len(rows), np.nan)
    for start in range(0, len(rows), BLOCK):
        cells = slice(start, start + BLOCK)
        of = near[rows[cells]]
        with_it[cells] = (having(owned, np.maximum(of, 0), columns[cells]) & (of >= 0)).sum(axis=1)
    if tagger is not None and len(tagger.columns):
        line = np.full(owned.shape[1], -1)
        line[tagger.columns] = np.arange(len(tagger.columns))
        known = np.flatnonzero(line[columns] >= 0)
        for start in range(0, len(known), BLOCK):
            some = known[start : start + BLOCK]
            lines, embeddings = line[columns[some]], matrix[rows[some]].astype(np.float32)
            says[some] = np.einsum("nd,nd->n", embeddings, tagger.weight[lines]) + tagger.bias[lines]
    return Support(expit(says), with_it, (near[rows] >= 0).sum(axis=1).astype(np.float64))
