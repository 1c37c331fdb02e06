"""Copies of one picture: which is the best, and what to make of a tag that only one of two copies has.

A tag on one of two copies means that an owner forgot it on the other, or wrote it wrongly on this
one. Both are weighed here: how often this owner forgets, by the library's own pairs, against what
the picture itself says about the tag, by its neighbours and by the tagger. Numbers only, no files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from scipy import sparse
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from tagcheck.dataset import Record
from tagcheck.learning.last_layer import Tagger
from tagcheck.similar.unit_rows import UnitRows, workers

NEIGHBOURS = 24
REFERENCE = 20_000  # pictures among which neighbours are looked for
FEWEST_TO_LEARN = 200  # pictures, and as many cells with the tag, from which evidence is weighed
CELLS_TO_LEARN = 400_000
WRONG_SHARE = 0.03  # of the tags that an owner writes, how many are wrong: only its order of magnitude matters
FORGETTING = (0.01, 0.5)
SMOOTHING = 2.0
BLOCK = 2048
LOSSLESS = ("image/png", "image/apng", "image/bmp", "image/tiff", "image/x-icon", "image/vnd.adobe.photoshop")


def best_copy(copies: Sequence[Record]) -> tuple[int, list[str]]:
    """The place of the copy to keep, and the reasons in words, the decisive ones in the order they were asked.

    More pixels, then a lossless format, then the larger file, then more tags, then the earlier
    import. Between copies of the very same pixels format and size say nothing, so tags and time
    decide, and at last the smaller file. A question to which some copy has no answer is passed over.
    Ties go to the first.
    """
    same_pixels = len({copy.raw.get("pixel_hash") for copy in copies}) == 1 and bool(copies[0].raw.get("pixel_hash"))
    left, reasons = list(range(len(copies))), []
    for value, reason in SAME_PIXELS if same_pixels else ANY_PIXELS:
        values = {place: value(copies[place]) for place in left}
        if None in values.values():
            continue
        best = max(values.values())
        stay = [place for place in left if values[place] == best]
        if len(stay) < len(left):
            reasons.append(reason(copies[stay[0]]))
            left = stay
    return left[0], reasons or ["no copy is better by pixels, format, size, tags or time of import"]


def _pixels(copy: Record) -> int | None:
    width, height = copy.raw.get("width"), copy.raw.get("height")
    return width * height if width and height else None


def _lossless(copy: Record) -> bool | None:
    mime = copy.raw.get("mime")
    return mime in LOSSLESS if mime else None


def _earliness(copy: Record) -> float | None:
    time = copy.raw.get("time_imported")
    return -time if isinstance(time, (int, float)) else None


def _smallness(copy: Record) -> int | None:
    size = copy.raw.get("size")
    return -size if size else None


def _imported(copy: Record) -> str:
    when = datetime.fromtimestamp(copy.raw["time_imported"], UTC)
    return f"imported first ({when:%Y-%m-%d})"


Question = tuple[Callable[[Record], float | None], Callable[[Record], str]]
MOST_TAGS: Question = (lambda copy: len(copy.tags), lambda copy: f"most tags ({len(copy.tags)})")
FIRST: Question = (_earliness, _imported)
ANY_PIXELS: tuple[Question, ...] = (
    (_pixels, lambda copy: f"most pixels ({copy.raw['width']} x {copy.raw['height']})"),
    (_lossless, lambda copy: f"a lossless format ({copy.raw['mime']})"),
    (lambda copy: copy.raw.get("size"), lambda copy: f"the largest file ({copy.raw['size']:,} bytes)"),
    MOST_TAGS,
    FIRST,
)
SAME_PIXELS: tuple[Question, ...] = (
    MOST_TAGS,
    FIRST,
    (_smallness, lambda copy: f"the smallest file of the same pixels ({copy.raw['size']:,} bytes)"),
)


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


@dataclass(frozen=True)
class Support:
    """What pictures say about tags, cell by cell, each array (cells,).

    `logit` of the owner giving the picture the tag, learned from the whole library; 0, and `learned`
    False, where the library is too small to learn from. `tagger` its probability, NaN
    where the tagger does not know the tag. `having` of `asked` neighbours, none of them a copy of
    the picture, have the tag.
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
    seed: int = 0,
) -> Support:
    """What the pictures `rows` say about the tags `columns`, both (cells,).

    `matrix` (n, d) embeddings, `owned` (n, T) 0/1, `labels` (n,) groups of near-duplicates: a
    picture's own group is never asked. The weight of each kind of evidence comes from a logistic
    regression of the owner's tags on it over pictures drawn from the library.
    """
    if not len(rows):
        return Support(False, np.empty(0), np.empty(0), np.empty(0), np.empty(0))
    rng = np.random.default_rng(seed)
    n = len(matrix)
    rate = np.clip(np.asarray(owned.mean(axis=0)).ravel(), 0.5 / n, 1 - 0.5 / n)
    drawn, names = _cells_to_learn(n, np.unique(columns), rng)
    every = (np.concatenate([rows, drawn]), np.concatenate([columns, names]))
    having, asked = _votes(matrix, owned, labels, *every, rng)
    logits = _tagger_logits(matrix, tagger, *every, owned.shape[1])
    features = _features(rate[every[1]], having, asked, logits)
    given = np.asarray(owned[drawn, names]).ravel() > 0
    learned = n >= FEWEST_TO_LEARN and min(given.sum(), (~given).sum()) >= FEWEST_TO_LEARN
    cells = slice(0, len(rows))
    logit = np.zeros(len(rows))
    if learned:
        model = LogisticRegression(C=1.0, max_iter=500).fit(features[len(rows) :], given)
        logit = model.decision_function(features[cells])
    with np.errstate(over="ignore"):
        probability = 1 / (1 + np.exp(-logits[cells]))
    return Support(learned, logit, probability, having[cells], asked[cells])


def shared(one: Support, other: Support, rate: np.ndarray, forgets: float) -> np.ndarray:
    """The probability, 0 to 1, that a tag on one of two copies belongs on both, against being wrong where it is.

    `one` and `other` are what the two pictures say, cell by cell; `rate` (cells,) the share of all
    pictures that have the tag; `forgets` how often the owner leaves a tag out. By Bayes: one copy
    has it and one does not, which happens to a tag that belongs with 2f(1 - f), to one that does
    not with 2e(1 - e), where e is how often the tag is written wrongly. Where nothing could be
    learned from the library, the tag's share of pictures is all that the pictures say.
    """
    rate = np.clip(rate, 1e-6, 0.9)
    says = (one.logit + other.logit) / 2 if one.learned else np.log(rate) - np.log1p(-rate)
    wrong = WRONG_SHARE * rate
    odds = np.log(forgets * (1 - forgets)) - np.log(wrong * (1 - wrong))
    return 1 / (1 + np.exp(-np.clip(says + odds, -30, 30)))


THRESHOLDS = np.round(
    np.concatenate([np.arange(0.01, 0.9, 0.01), np.arange(0.9, 0.99, 0.005), np.arange(0.99, 1.0001, 0.001)]), 4
)


def copy_chance(cosine: np.ndarray, known_cosine: np.ndarray, known_copy: np.ndarray) -> np.ndarray:
    """The chance (m,), 0 to 1, that pairs of a `cosine` are copies of one picture, told by judged pairs.

    It never falls with the cosine. `known_cosine`, `known_copy` (k,) are the judged pairs. They need
    not be drawn evenly over the cosines, but at one cosine they have to be like the others there.
    """
    told = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    told.fit(known_cosine.astype(np.float64), known_copy.astype(np.float64))
    return told.predict(cosine.astype(np.float64))


def precision_by_threshold(
    cosine: np.ndarray, chance: np.ndarray, copies: float, lowest: float
) -> list[dict[str, float]]:
    """What each threshold would report, lowest first: how many `pairs`, their `precision` and their `recall`, 0 to 1.

    `cosine` (m,) float32 and `chance` (m,) of all pairs of the library from `lowest` on, `chance` that they are
    copies; `copies` how many copies there are in all.

    >>> precision_by_threshold(np.array([0.95, 0.99]), np.array([0.0, 1.0]), 2, 0.95)[0]
    {'threshold': 0.95, 'pairs': 2, 'precision': 0.5, 'recall': 0.5}
    """
    table = []
    for threshold in THRESHOLDS[lowest <= THRESHOLDS].tolist():
        above = cosine >= np.float32(threshold)
        if above.any():
            right = float(chance[above].sum())
            table.append(
                {
                    "threshold": threshold,
                    "pairs": int(above.sum()),
                    "precision": round(right / int(above.sum()), 4),
                    "recall": round(right / max(copies, 1e-9), 4),
                }
            )
    return table


def calibrated_threshold(table: list[dict[str, float]], precision: float) -> float | None:
    """The lowest threshold of `precision_by_threshold` with at least `precision`; None when no threshold has it."""
    return next((row["threshold"] for row in table if row["precision"] >= precision), None)


def _cells_to_learn(n: int, columns: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All cells of `columns` and as many drawn pictures as keep their number in bounds."""
    pictures = rng.permutation(n)[: max(1, CELLS_TO_LEARN // max(1, len(columns)))]
    return np.repeat(pictures, len(columns)), np.tile(columns, len(pictures))


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
    for start, (low, high) in zip(range(0, len(pictures), BLOCK), zip(bounds, bounds[1:])):
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
        logits[cells] = (
            np.einsum("nd,nd->n", matrix[rows[cells]].astype(np.float32), tagger.weight[lines]) + tagger.bias[lines]
        )
    return logits


def _features(rate: np.ndarray, having: np.ndarray, asked: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(cells, 4): how common the tag is, what the neighbours add to that, the tagger's logit, and whether it knows the tag."""
    common = np.log(rate) - np.log1p(-rate)
    share = (having + SMOOTHING * rate) / (asked + SMOOTHING)
    around = np.log(share) - np.log1p(-np.minimum(share, 1 - 1e-6)) - common
    knows = ~np.isnan(logits)
    return np.column_stack([common, around, np.where(knows, np.clip(logits, -12, 12), 0.0), knows])
