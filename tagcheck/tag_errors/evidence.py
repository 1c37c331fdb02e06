"""What speaks for and against each tag of each picture, without looking at whether the tag is written there.

Every kind of evidence is a log-likelihood ratio or close to one, (n, T): above 0 speaks for the
tag, below 0 against it, and 0 says nothing. All of it is out of fold: what is learned about a
picture comes from pictures that are neither itself nor its near-duplicates.

    probe       ridge regression of the tag on the embedding
    kernel      the same on random waves over its main directions, for what is no straight line
    context     ridge regression of the tag on the embedding and all other tags of the picture,
                except tags that bear on this one (`tagcheck.tag_errors.relations`)
    neighbours  share of the nearest pictures that have the tag
    twins       share of the near-duplicates that have it
    tagger      the tagger's own logit, where it knows the tag
    classifier  what a classifier of series (or of another namespace) says, where one was trained

`probe_share` and `kernel_share` are those regressions' own values: no ratios, but estimates of the share of such
pictures that have the tag, which hold where a ratio's normal curves do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from tagcheck.learning import Tagger, linear_probes
from tagcheck.learning.last_layer import tagger_logits
from tagcheck.learning.linear_probes import BLOCK, FoldedLinear, logit
from tagcheck.similar import pairs
from tagcheck.similar.nearest import nearest

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
ALPHAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
NEIGHBOURS = 24
REDUCED = 128  # dimensions in which neighbours are looked for
WAVES, WAVED = 1024, 32  # random waves, and how many main directions they run over
CHOOSING_ROWS = 12000  # rows on which the penalty of each tag is chosen
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

    def ratios(self, rows: slice, prior: np.ndarray) -> np.ndarray:
        """Log-likelihood ratios (m, K) of some rows, 0 where nothing is said; `prior` (K,) log-odds of each tag."""
        chance = np.maximum(self.chance[rows].toarray(), LEAST_TOLD)
        return np.where(self.judged[rows, None], logit(chance, LEAST_TOLD) - prior, 0.0)


@dataclass(frozen=True)
class Surroundings:
    """Who stands near whom. `indices`, `cosine` (n, k) nearest pictures, twins among them; `twins` a symmetric 0/1
    sparse matrix (n, n) of near-duplicates; `labels` (n,) their groups; `threshold` the cosine they were told by; `recall`
    the share of the true nearest that are among `indices`, 1 where all were compared.
    """

    indices: np.ndarray
    cosine: np.ndarray
    twins: sparse.csr_matrix
    labels: np.ndarray
    threshold: float
    recall: float = 1.0


def surroundings(matrix: np.ndarray, k: int = NEIGHBOURS, copies: pairs.Pairs | None = None) -> Surroundings:
    """The nearest pictures of each, and which of them are near-duplicates, from embeddings (n, d).

    Rows are centred first: what all pictures have in common says nothing about two of them.
    Neighbours are looked for in the first `REDUCED` principal directions, of very many pictures within clusters
    (`tagcheck.similar.nearest`); their cosines are exact. `copies` are the near-duplicates where these were told by more
    than the embeddings.
    """
    n, d = matrix.shape
    centred = matrix - matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    reduced = centred
    if d > REDUCED:
        sample = centred[:: max(1, n // 20000)]
        _, vectors = linalg.eigh(sample.T @ sample, subset_by_index=(d - REDUCED, d - 1))
        reduced = centred @ vectors[:, ::-1].astype(np.float32)  # the main ones first, as `nearest` wants them
    found_near = nearest(reduced, k)
    indices, cosine = found_near.indices, found_near.cosine
    length = np.maximum(np.linalg.norm(centred, axis=1), 1e-12)
    for start in range(0, n, BLOCK // 4):
        rows = slice(start, start + BLOCK // 4)
        near = np.einsum("nd,nkd->nk", centred[rows], centred[indices[rows]], optimize=True)
        cosine[rows] = near / (length[rows, None] * length[indices[rows]])
    if copies is not None:
        twins = sparse.csr_matrix((np.ones(len(copies), dtype=np.float32), (copies.i, copies.j)), shape=(n, n))
        least = float(copies.cosine.min()) if len(copies) else 1.0
        return Surroundings(
            indices, cosine, twins + twins.T, pairs.group_labels(n, copies.i, copies.j), least, found_near.recall
        )
    threshold = twin_threshold(cosine.max(axis=1)) if cosine.size else 1.0
    while True:
        i, place = np.nonzero(cosine >= threshold)
        labels = pairs.group_labels(n, i, indices[i, place])
        if np.bincount(labels).max() <= max(0.02 * n, 20) or threshold >= 1 - 1e-6:
            break
        threshold = 1 - (1 - threshold) / 2  # a chain of look-alikes, not a group of twins
    found = sparse.csr_matrix((np.ones(len(i), dtype=np.float32), (i, indices[i, place])), shape=(n, n))
    return Surroundings(indices, cosine, found.maximum(found.T).tocsr(), labels, float(threshold), found_near.recall)


def twin_threshold(nearest: np.ndarray) -> float:
    """The cosine that parts near-duplicates from merely similar pictures: the valley in the histogram of `nearest`.

    `nearest` (n,) is each picture's highest cosine to another. On the scale log(1 - cosine) ordinary
    pictures form one hill, near-duplicates another left of it. Where there is no second hill, only
    what lies far outside the first counts as a twin.

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

    `middle` where both are equally likely, `slope` ratio per unit of score, shrunken by how well the
    difference of the means is known; `separation` the squared distance of the means in widths.
    """

    middle: np.ndarray
    slope: np.ndarray
    separation: np.ndarray

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Ratios of scores (m, T), kept within `LIMIT` of 0."""
        return np.clip((score - self.middle) * self.slope, -LIMIT, LIMIT)


class _RatioSums:
    """What a `Ratio` is made from, gathered a block at a time."""

    def __init__(self, tags: int) -> None:
        self.count, self.with_tag = 0, np.zeros(tags)
        self.score, self.score_with, self.square = np.zeros(tags), np.zeros(tags), np.zeros(tags)

    def add(self, score: np.ndarray, given: np.ndarray) -> None:
        self.count += len(score)
        self.with_tag += given.sum(axis=0)
        self.score += score.sum(axis=0, dtype=np.float64)
        self.score_with += np.einsum("nt,nt->t", score, given, dtype=np.float64)
        self.square += np.einsum("nt,nt->t", score, score, dtype=np.float64)

    def ratio(self) -> Ratio:
        with_tag = np.maximum(self.with_tag, 1)
        without = np.maximum(self.count - self.with_tag, 1)
        mean1, mean0 = self.score_with / with_tag, (self.score - self.score_with) / without
        within = (self.square - with_tag * mean1**2 - without * mean0**2) / max(self.count, 1)
        within = np.maximum(within, 1e-9 + 1e-6 * (mean1 - mean0) ** 2)
        separation = (mean1 - mean0) ** 2 / within
        known = np.maximum(1 - (1 / with_tag + 1 / without) / np.maximum(separation, 1e-9), 0)
        known[(self.with_tag < 2) | (self.with_tag > self.count - 2)] = 0
        slope = np.maximum(mean1 - mean0, 0) / within * known
        return Ratio((mean1 + mean0) / 2, slope, separation * known * (mean1 > mean0))


@dataclass(frozen=True)
class Scored:
    """What a regression says of every cell, out of fold: its `values` (n, T) float16, and how they read as ratios."""

    values: np.ndarray
    ratio: Ratio

    def ratios(self, rows: slice) -> np.ndarray:
        """The ratios of some rows, (m, T) float32."""
        return self.ratio(self.values[rows].astype(np.float32))


@dataclass(frozen=True)
class Evidence:
    """All evidence of n pictures for T tags, given out a block of rows at a time. See the module for what each kind is."""

    given: sparse.csr_matrix
    frequency: np.ndarray
    probe: Scored
    kernel: Scored
    context: Scored
    votes: sparse.csr_matrix
    vote_weight: np.ndarray
    around: Surroundings
    tagger: Tagger | None
    tagger_ratio: Ratio | None
    told: Sequence[Told]
    matrix: np.ndarray

    def block(self, rows: slice) -> dict[str, np.ndarray]:
        """The evidence of some rows: name to (m, T) float32, in the order of `NAMES`."""
        prior = logit(self.frequency).astype(np.float32)
        given = self.given
        twins = self.around.twins[rows]
        number = np.asarray(twins.sum(axis=1)).reshape(-1, 1)
        having = (twins @ given).toarray()
        some = number > 0
        votes = (self.votes[rows] @ given).toarray()
        weight = self.vote_weight[rows, None]
        made = {
            "probe": self.probe.ratios(rows),
            "kernel": self.kernel.ratios(rows),
            "context": self.context.ratios(rows),
            "probe_share": self.probe.values[rows],
            "kernel_share": self.kernel.values[rows],
            "neighbours": logit((votes + 4 * self.frequency) / (weight + 4), 1e-4) - prior,
            "twins": np.where(some, logit((having + 0.5 * self.frequency) / (number + 0.5), 1e-4) - prior, 0),
            "twin_share": np.where(some, having / np.maximum(number, 1), 0),
            "twins_without": np.where(some & (having == 0), 1.0, 0.0),
        }
        made["tagger"], made["tagger_knows"] = np.zeros_like(made["probe"]), np.zeros_like(made["probe"])
        if self.tagger is not None:
            made["tagger"][:, self.tagger.columns] = self.tagger_ratio(tagger_logits(self.tagger, self.matrix[rows]))
            made["tagger_knows"][:, self.tagger.columns] = 1
        made["classifier"], made["classifier_knows"] = np.zeros_like(made["probe"]), np.zeros_like(made["probe"])
        for one in self.told:
            made["classifier"][:, one.columns] = one.ratios(rows, prior[one.columns])
            made["classifier_knows"][:, one.columns] = one.judged[rows, None]
        made["prior"] = np.broadcast_to(prior, made["probe"].shape)
        return {name: made[name].astype(np.float32) for name in NAMES}


def gather(
    matrix: np.ndarray,
    given: sparse.csr_matrix,
    around: Surroundings,
    folds: np.ndarray,
    tagger: Tagger | None = None,
    apart: Sequence[np.ndarray] = (),
    told: Sequence[Told] = (),
    progress: Progress = lambda share: None,
) -> Evidence:
    """Learn everything that `Evidence` gives out.

    `matrix` (n, d) float32, `given` (n, T) 0/1 sparse, `folds` (n,) with no group of twins split.
    `apart` lists for each column those that are no evidence about it (`Relations.no_evidence`): a wrong series would
    hide the right one, a wrong child would be vouched for by the parent that it brought. Memory: three (n, T) arrays of float16, one
    (n, `WAVES`) of float32.
    """
    n, tags = given.shape
    given = given.astype(np.float32).tocsr()
    sums = linear_probes.moments(matrix, given, folds)
    progress(0.2)
    probe, alpha = _best_probes(sums, folds, matrix, given)
    progress(0.4)
    waves = random_waves(matrix, min(WAVES, max(n // 2, 16)))
    kernel, _ = _best_probes(linear_probes.moments(waves, given, folds), folds, waves, given)
    progress(0.6)
    context_x, context_y = _context_models(sums, folds, given, alpha, apart)
    progress(0.7)
    regressions = [[(probe, matrix)], [(kernel, waves)], [(context_x, matrix), (context_y, given)]]
    values = [np.empty((n, tags), dtype=np.float16) for _ in regressions]
    score_sums = [_RatioSums(tags) for _ in regressions]
    tagger_sums = _RatioSums(0 if tagger is None else len(tagger.columns))
    for rows in blocks(n):
        dense = given[rows].toarray()
        for parts, kept, gathered in zip(regressions, values, score_sums):
            score = sum(model.scores(inputs[rows], rows) for model, inputs in parts)
            kept[rows] = score
            gathered.add(score, dense)
        if tagger is not None:
            tagger_sums.add(tagger_logits(tagger, matrix[rows]), dense[:, tagger.columns])
        progress(0.7 + 0.3 * min(rows.stop, n) / n)
    votes, weight = _votes(around, n)
    frequency = (np.asarray(given.sum(axis=0)).ravel() + 0.5) / (n + 1)
    scored = [Scored(kept, gathered.ratio()) for kept, gathered in zip(values, score_sums)]
    return Evidence(
        given,
        frequency,
        *scored,
        votes,
        weight,
        around,
        tagger,
        None if tagger is None else tagger_sums.ratio(),
        told,
        matrix,
    )


def random_waves(matrix: np.ndarray, count: int = WAVES, directions: int = WAVED, seed: int = 0) -> np.ndarray:
    """cos(w'x + b) of `count` random w and b, (n, `count`) float32, centred, for x the main directions of embeddings (n, d).

    A linear regression on these is a smooth one of any shape on x, near to that with a Gaussian kernel as wide as
    the median distance of two pictures (Rahimi and Recht, "Random Features for Large-Scale Kernel Machines", 2007).
    """
    n, d = matrix.shape
    rng = np.random.default_rng(seed)
    mean = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample = matrix[:: max(1, n // 20000)] - mean
    _, vectors = linalg.eigh(sample.T @ sample, subset_by_index=(max(d - directions, 0), d - 1))
    main = (matrix - mean) @ vectors.astype(np.float32)
    one, other = rng.integers(0, n, (2, 2000))
    width = max(float(np.median(np.linalg.norm(main[one] - main[other], axis=1))), 1e-12)
    frequency = (rng.normal(size=(main.shape[1], count)) / width).astype(np.float32)
    waves = main @ frequency
    waves += rng.uniform(0, 2 * np.pi, count).astype(np.float32)
    np.cos(waves, out=waves)
    waves -= waves.mean(axis=0)
    return waves


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover 0 to n."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _best_probes(
    sums: linear_probes.FoldedMoments, folds: np.ndarray, matrix: np.ndarray, given: sparse.csr_matrix
) -> tuple[FoldedLinear, float]:
    """Probes with the penalty that parts each tag best out of fold, and the penalty that is best for most.

    The choice of a rare tag leans on what is good for all tags, since its own few pictures choose at random.
    """
    n, tags = given.shape
    rows = np.arange(0, n, max(1, n // CHOOSING_ROWS))
    x, y = matrix[rows], given[rows].toarray()
    path = linear_probes.RidgePath(sums, folds)
    separation = []
    for alpha in ALPHAS:
        model = path.models(alpha)
        gathered = _RatioSums(tags)
        gathered.add(FoldedLinear(model.weights, model.bias, folds[rows]).scores(x), y)
        separation.append(gathered.ratio().separation)
    gain = np.log(np.array(separation) + 0.05)
    uses = y.sum(axis=0)
    own = uses / (uses + 100)
    pick = (own * gain + (1 - own) * gain.mean(axis=1, keepdims=True)).argmax(axis=0)
    return path.models(np.array(ALPHAS)[pick]), ALPHAS[int(np.bincount(pick).argmax())]


def _context_models(
    sums: linear_probes.FoldedMoments,
    folds: np.ndarray,
    given: sparse.csr_matrix,
    alpha: float,
    apart: Sequence[np.ndarray],
) -> tuple[FoldedLinear, FoldedLinear]:
    """Regression of each tag on the embedding and all other tags, as two models whose scores add up.

    All regressions come from one inverse P of the penalised covariance of embedding and tags
    together: the weights for tag t are -P[:, t] / P[t, t] (the same identity as in the graphical
    lasso; Meinshausen and Buehlmann 2006). Tags that are no evidence about t (`apart`) are taken out by conditioning P.
    """
    number, d, tags = sums.cross.shape
    of_x, of_y = np.empty((number, d, tags), np.float32), np.empty((number, tags, tags), np.float32)
    bias = np.empty((number, tags), np.float32)
    related = _sets_apart(apart)
    met = np.stack([(part.T @ part).toarray() for part in (given[folds == fold] for fold in range(number))]).astype(
        np.float64
    )
    for fold in range(number):
        mean_x, mean_y, gram, cross = sums.training(fold)
        count = sums.count.sum() - sums.count[fold]
        both = np.empty((d + tags, d + tags))
        both[:d, :d], both[:d, d:], both[d:, :d] = gram, cross, cross.T
        both[d:, d:] = met.sum(axis=0) - met[fold] - count * np.outer(mean_y, mean_y)
        penalty = np.full(d + tags, max(alpha * np.trace(gram) / d, 1e-6))
        penalty[d:] = 5.0 + 0.02 * np.trace(both[d:, d:]) / tags
        both[np.diag_indices(d + tags)] += penalty
        inverse = linalg.inv(both, overwrite_a=True, check_finite=False)
        weights = -inverse[:, d:] / np.diag(inverse)[d:]
        weights[np.arange(d, d + tags), np.arange(tags)] = 0
        for members, targets in related:
            _take_apart(weights, inverse, members, targets, d)
        of_x[fold], of_y[fold] = weights[:d], weights[d:]
        bias[fold] = mean_y - (mean_x + sums.centre) @ weights[:d] - mean_y @ weights[d:]
    return FoldedLinear(of_x, bias, folds), FoldedLinear(of_y, np.zeros_like(bias), folds)


def _sets_apart(apart: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(columns, targets): each target is to be told without the other columns; targets with the same columns come together."""
    found: dict[tuple[int, ...], list[int]] = {}
    for target, others in enumerate(apart):
        if len(others):
            found.setdefault(tuple(sorted({*others.tolist(), target})), []).append(target)
    return [(np.array(members), np.array(targets)) for members, targets in found.items()]


def _take_apart(weights: np.ndarray, inverse: np.ndarray, members: np.ndarray, targets: np.ndarray, d: int) -> None:
    """Replace the weights of the `targets` by those of regressions without any of the `members`.

    With S the members and R all else, the weights are -P[R, S] P[S, S]^-1: one solution serves all of them.
    """
    some = np.searchsorted(members, targets)
    own = inverse[np.ix_(d + members, d + members)]
    made = -inverse[:, d + members] @ np.linalg.solve(own, np.eye(len(members)))[:, some]
    made[d + members] = 0
    weights[:, targets] = made


def _votes(around: Surroundings, n: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """The neighbours' votes (n, n; sparse, twins left out, nearer ones count more) and their total weight (n,)."""
    indices, cosine = around.indices, around.cosine.astype(np.float64)
    stranger = around.labels[indices] != around.labels[:, None]
    if not stranger.any():
        return sparse.csr_matrix((n, n), dtype=np.float32), np.zeros(n, dtype=np.float32)
    middle, spread = np.quantile(cosine[stranger], 0.9), cosine[stranger].std() + 1e-6
    weight = np.where(stranger, np.minimum(np.exp((cosine - middle) / spread), 3.0), 0).astype(np.float32)
    rows = np.repeat(np.arange(n), indices.shape[1])
    made = sparse.csr_matrix((weight.ravel(), (rows, indices.ravel())), shape=(n, n))
    made.eliminate_zeros()
    return made, weight.sum(axis=1)
