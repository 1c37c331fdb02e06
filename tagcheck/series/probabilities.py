"""From scores of series to probabilities: how much each counts, what "none of yours" looks like, how often tags go wrong.

`fit_mixing` learns it from out-of-fold candidates (`tagcheck.series.scoring`, whose docstring tells the whole way); `predictions`
applies it; `agreement` and `gain` say how far predictions agree with the owner's tags.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import optimize, sparse
from scipy.special import expit, softmax

from tagcheck.learning import expected_calibration_error, linear_probes
from tagcheck.learning.logistic import logistic
from tagcheck.series.labels import Labels
from tagcheck.series.out_of_fold import Folded
from tagcheck.series.scoring import COMPANIONS, MIXING_ROWS, NEARNESS, Candidates
from tagcheck.series.tagger_says import BLOCK

# The first series; F1 is highest when cut at half the F1 there is to reach (Lipton et al., ECML 2014).
PREDICT_FROM = 0.4
ALSO_FROM = 0.5  # any further series: both can only be there together, not one or the other
LISTED = 8  # series listed a picture
LISTED_FROM = 0.005  # and from which probability
# What is taken for likely where embeddings tell too little to find it out: shares, and what they weigh, in pictures a picture.
SWAPPED, SWAPPED_WEIGHT, MOST_SWAPPED = 0.04, 0.04, 0.2
UNKNOWN_OF_UNTAGGED, UNKNOWN_WEIGHT, SHARE_WEIGHT = 0.7, 0.1, 0.02
SMALLEST_UNKNOWN = 0.02  # of all pictures: a picture to come may always be of an unknown series
FEW_TO_COMPARE = 20  # pictures below which two kinds of them are not held against each other
# Of the correction of the likeliest series: what its start weighs, and its bounds.
FIRST_WEIGHT, FIRST_SLOPE = (4.0, (1.0, 4.0))
# Slope and offset of the tagger's logit where nothing is known, and its weight.
FOREIGN_START, FOREIGN_WEIGHT = ((1.0, 1.0), 10.0)
RESTARTS = 8  # of the search for the highest likelihood, at most
RESAMPLES, SURE_GAIN = 400, 0.9  # bootstrap of near-duplicate groups, and in how many of them a gain has to show
START_WEIGHTS = np.array([0.3, 0.2, 0.5, 4.0, 4.0, 0.3, 0.5, 0.5])
# A cosine spans little, so its weight may be large.
PULL_TO_START = np.array([1.0, 1.0, 1.0, 0.05, 0.05, 1.0, 1.0, 1.0])
START_NONE = np.array([1.0, 0.0, 0.0, 0.0])
AGREEMENT = (-10.0, 0.0)  # bounds of what the candidates' agreement may say against "none of yours"


@dataclass(frozen=True)
class Ratio:
    """The log of a ratio of two densities, rising with x: `offset` + `slope` x, and `bend` times what x lies above `knot`.

    >>> Ratio(1.0, 0.0, 2.0, 3.0)(np.array([1.0, 4.0])).tolist()
    [1.0, 6.0]
    """

    slope: float = 1.0
    offset: float = 0.0
    bend: float = 0.0
    knot: float = 0.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(m,) -> (m,)."""
        return self.offset + self.slope * x + self.bend * np.maximum(x - self.knot, 0.0)


def log_odds(p: np.ndarray, against: np.ndarray) -> np.ndarray:
    """Log of the ratio of two probabilities, (m,), each at least 1e-12."""
    return np.asarray(np.log(np.maximum(p, 1e-12)) - np.log(np.maximum(against, 1e-12)))


@dataclass(frozen=True)
class Absence:
    """What it means that pictures of one kind have no tag: they are of unknown series, or it is forgotten.

    Of `pictures`, tagged or not, `unknown_share` are of unknown series; of those of known series `forgotten_share` have no
    tag. `strange` turns the log-odds of "none of yours", `Mixing.agreement` times `_agreed` added, into the log of the ratio
    of densities of unknown and known pictures.
    """

    pictures: int
    unknown_share: float
    forgotten_share: float
    strange: Ratio = Ratio()


@dataclass(frozen=True)
class Mixing:
    """How scores become probabilities.

    `weights` (F,) of the features, `none` (G,) of what makes "none of yours"; `swapped` the share of tags that name another
    series than the picture's. `absence` of all pictures, and `by_company`, where both are many enough, that of those whose
    character tags say nothing and of those whose do: who forgets the series mostly forgets the characters, too. `first`
    corrects the log-odds of the likeliest series. `foreign` (slope, offset) turns the logit of a series that the tagger
    names into the log-odds that it is this, if none of the known.
    """

    weights: np.ndarray
    none: np.ndarray
    swapped: float
    absence: Absence
    by_company: tuple[Absence, Absence] | None = None
    first: Ratio = Ratio()
    foreign: tuple[float, float] = FOREIGN_START
    agreement: float = 0.0

    def probabilities(self, found: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """(probability of each candidate class (n, K), of none of the owner's series (n,)); each row sums to 1."""
        among, odds = self._looks(found)
        odds, strange = odds + self.agreement * _agreed(among), np.zeros(len(among))
        for absence, here in self._kinds(found):
            share = absence.unknown_share
            strange[here] = absence.strange(odds[here]) + np.log(share) - np.log1p(-share)
        unknown = np.where(found.present.any(axis=1), expit(strange), 1.0)
        return _first_corrected(among, self.first) * (1.0 - unknown)[:, None], unknown

    def forgotten(self, found: Candidates) -> np.ndarray:
        """Of pictures of its kind and of known series, the share without a tag: (n,), 0 to 1."""
        out = np.zeros(len(found.classes))
        for absence, here in self._kinds(found):
            out[here] = absence.forgotten_share
        return out

    def _kinds(self, found: Candidates) -> list[tuple[Absence, np.ndarray]]:
        if self.by_company is None:
            return [(self.absence, np.ones(len(found.classes), dtype=bool))]
        heard = _with_characters(found)
        return [(self.by_company[0], ~heard), (self.by_company[1], heard)]

    def _looks(self, found: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """(probability of each candidate class if it is any (n, K), log-odds of "none of yours" before `strange` (n,))."""
        p = softmax(_logits(found, _none_features(found), self.weights, self.none), axis=1)
        known = np.maximum(p[:, :-1].sum(axis=1), 1e-12)
        return p[:, :-1] / known[:, None], log_odds(p[:, -1], known)


def _with_characters(found: Candidates) -> np.ndarray:
    """(n,) bool: which pictures have a character tag that is evidence for one of their candidates."""
    return np.asarray((found.features[..., COMPANIONS] > 0).any(axis=1))


def _first_corrected(among: np.ndarray, first: Ratio) -> np.ndarray:
    """Probabilities (n, K) with the log-odds of the highest of each row corrected; the others share what is left as before."""
    if first == Ratio() or not among.size:
        return among
    rows, at, left = _first_of(among)
    sure = np.where(left > 0, expit(first(log_odds(among[rows, at], left))), among[rows, at])
    out = among * ((1.0 - sure) / np.maximum(left, 1e-300))[:, None]
    out[rows, at] = sure
    return np.asarray(out)


def _first_of(among: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(0 .. n - 1, the column of the highest of each row, what the others of the row come to)."""
    rows, at = np.arange(len(among)), among.argmax(axis=1)
    others = among.copy()
    others[rows, at] = 0.0
    return rows, at, others.sum(axis=1)


def _logits(found: Candidates, against: np.ndarray, weights: np.ndarray, none: np.ndarray) -> np.ndarray:
    """(n, K + 1): the candidates', -inf where there is none, and last that of "none of yours" from `against` (n, G)."""
    classes = np.where(found.present, found.features @ weights, -np.inf)
    return np.concatenate([classes, (against @ none)[:, None]], axis=1)


def _agreed(among: np.ndarray) -> np.ndarray:
    """Log of the share that the likeliest of the candidates has, from their probabilities (n, K): at most 0, and 0 is one alone."""
    return np.asarray(np.log(np.maximum(among.max(axis=1, initial=0.0), 1e-12)))


def _none_features(found: Candidates) -> np.ndarray:
    """(n, G): 1, the log of how unusual the picture is, and how near the nearest candidate's pictures are."""
    near = np.where(found.present[..., None], found.features[..., NEARNESS], -1.0).max(axis=1, initial=-1.0)
    return np.concatenate([found.unusual, near], axis=1)


def fit_mixing(folded: Folded, labels: Labels, seed: int = 0, among: np.ndarray | None = None) -> Mixing:
    """The mixing weights from out-of-fold candidates; see step 3 of `tagcheck.series.scoring`.

    Pictures of one class that their fold's model knows count as they are, and again as unknown ones, in
    equal parts. With `among` (n,) bool the weights are learned from those alone.
    """
    found, own, unknown = folded.candidates, labels.single, folded.unknown
    learnable = (own >= 0) & (folded.known[folded.folds, np.maximum(own, 0)] > 0)
    if among is not None:
        learnable, unknown = learnable & among, unknown.rows(among[folded.unknown_rows])
    rows = np.flatnonzero(learnable)
    if len(rows) > MIXING_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MIXING_ROWS, replace=False))
    picked = found.rows(rows)
    frequency = np.asarray(labels.membership.sum(axis=0)).ravel()
    frequency = frequency / frequency.sum()
    target = (picked.classes == own[rows][:, None]).argmax(axis=1)
    weights, none, swapped = _maximise(picked, target, frequency[own[rows]], unknown)
    made = Mixing(weights, none, swapped, Absence(0, 0.0, 0.0), foreign=_trust(folded, labels, among))
    made = _with_absence_as_seen(made, found, labels, rows, among)
    return replace(made, first=_first(made, picked, own[rows], frequency[own[rows]]))


def _with_absence_as_seen(
    made: Mixing, found: Candidates, labels: Labels, rows: np.ndarray, among: np.ndarray | None
) -> Mixing:
    """`made` with "none of yours" held against what is seen: tagged pictures are of known series, the untagged are a mixture.

    What no known picture looks like is of an unknown series; what known pictures mostly look like is, where it has no
    tag, forgotten (Elkan and Noto 2008). Pictures of unknown series teach the evidence for "none"; here it is weighed.
    """
    counted = np.ones(len(labels.tagged), dtype=bool) if among is None else among
    untagged, tagged = np.flatnonzero(~labels.tagged & counted)[:MIXING_ROWS], int((labels.tagged & counted).sum())
    parts = [found.rows(which) for which in (untagged, rows)]
    looks = [made._looks(part) for part in parts]
    odds, agreed = [odds for _, odds in looks], [_agreed(among) for among, _ in looks]
    enough = min(map(len, odds)) >= FEW_TO_COMPARE
    agreement = _agreement(odds, agreed) if enough else 0.0
    scores = [one + agreement * other for one, other in zip(odds, agreed)]
    without = int((~labels.tagged & counted).sum())
    absence = _absence(odds[0], scores[0], scores[1], without, tagged)
    heard, by_company = [_with_characters(part) for part in parts], None
    kinds = [[~one for one in heard], heard]
    if min(kinds[0][0].sum(), kinds[0][1].sum(), kinds[1][1].sum()) >= FEW_TO_COMPARE:
        alone, accompanied = (
            _absence(
                odds[0][mixed],
                scores[0][mixed],
                scores[1][pure],
                round(without * mixed.mean()),
                round(tagged * pure.mean()),
                SHARE_WEIGHT,
                absence.strange,
            )
            for mixed, pure in kinds
        )
        by_company = alone, accompanied
    return replace(made, agreement=agreement, absence=absence, by_company=by_company)


def _absence(
    odds: np.ndarray,
    mixed: np.ndarray,
    pure: np.ndarray,
    without: int,
    tagged: int,
    weight: float = UNKNOWN_WEIGHT,
    strange: Ratio = Ratio(),
) -> Absence:
    """From the log-odds of "none of yours" (m,) of pictures without a tag, the same with the agreement (m,), and that of
    tagged ones (p,), which stand for `without` and `tagged` pictures. The start of the share weighs `weight` a picture;
    where there are too few to compare, `strange` stays as it is.
    """
    total, share = without + tagged, _unknown_share(odds) if without else 0.0
    if min(len(mixed), len(pure)) >= FEW_TO_COMPARE:
        floor, strange = density_ratio(mixed, pure, float(np.clip(1.0 - share, 0.02, 0.9)), weight)
        share = 1.0 - floor
    unknown = share * without
    of_all = float(np.clip(unknown / total, SMALLEST_UNKNOWN, 1.0 - SMALLEST_UNKNOWN)) if total else UNKNOWN_OF_UNTAGGED
    return Absence(total, of_all, (without - unknown + 0.5) / (total - unknown + 1.0), strange)


def _first(made: Mixing, found: Candidates, own: np.ndarray, frequency: np.ndarray) -> Ratio:
    """How to correct the log-odds of the likeliest class, from pictures tagged with the class `own` (m,), of which
    `made.swapped` are swapped for one drawn by `frequency` (m,). (Platt 1999, never flatter: doubt about tags is for `swapped`.)
    """
    among, _ = made._looks(found)
    rows, at, left = _first_of(among)
    x, hit = log_odds(among[rows, at], left), found.classes[rows, at] == own
    other = np.where(found.classes == own[:, None], among, 0.0).sum(axis=1) / np.maximum(left, 1e-12)
    start = np.array([1.0, 0.0])

    def loss(where: np.ndarray) -> float:
        p = expit(where[0] * x + where[1])
        likelihood = (1.0 - made.swapped) * np.where(hit, p, other * (1.0 - p)) + made.swapped * frequency
        return float(-np.log(np.maximum(likelihood, 1e-12)).sum() + 0.5 * FIRST_WEIGHT * ((where - start) ** 2).sum())

    slope, offset = _lowest(loss, start, [FIRST_SLOPE, (-3.0, 3.0)])
    return Ratio(float(slope), float(offset))


def _agreement(odds: Sequence[np.ndarray], agreed: Sequence[np.ndarray]) -> float:
    """How much `agreed` says beside `odds` about whether a picture is untagged (first of each pair) or tagged (second):
    the ratio of their weights in a logistic regression. What is known looks like one thing; candidates that share a picture
    among them are often all wrong.
    """
    inputs = np.column_stack([np.concatenate(odds), np.concatenate(agreed)])
    untagged = np.repeat([1, 0], [len(one) for one in odds])
    if not np.ptp(inputs, axis=0).all():
        return 0.0
    scaled = np.column_stack([(inputs - inputs.mean(axis=0)) / inputs.std(axis=0), np.ones(len(inputs))])
    balanced = len(untagged) / 2 / np.bincount(untagged)[untagged]
    slope, beside = logistic(scaled, untagged, balanced)[:-1] / inputs.std(axis=0)
    return float(np.clip(beside / slope, *AGREEMENT)) if slope > 0 else 0.0


def _trust(folded: Folded, labels: Labels, among: np.ndarray | None) -> tuple[float, float]:
    """(slope, offset) of how far the tagger is right where it names a series that the model has no pictures of.

    Pictures of unknown series are just such pictures, and their series is known. (Platt 1999, drawn to `FOREIGN_START`.)
    """
    rows, found = folded.unknown_rows, folded.unknown
    kept = (found.foreign >= 0) & (True if among is None else among[rows])
    if folded.foreign_class is None or not kept.any():
        return FOREIGN_START
    own = labels.contains()[labels.single[rows[kept]]]
    meant = folded.foreign_class[found.foreign[kept]]
    right = (meant >= 0) & own[np.arange(len(own)), np.maximum(meant, 0)]
    logit, start = found.foreign_logit[kept].astype(float), np.array(FOREIGN_START)

    def loss(at: np.ndarray) -> float:
        score = at[0] * logit + at[1]
        away = 0.5 * FOREIGN_WEIGHT * ((at - start) ** 2).sum()
        return float(np.logaddexp(0.0, np.where(right, -score, score)).sum() + away)

    slope, offset = _lowest(loss, start, [(0.05, 5.0), (-10.0, 10.0)])
    return float(slope), float(offset)


def density_ratio(mixed: np.ndarray, pure: np.ndarray, share: float, weight: float) -> tuple[float, Ratio]:
    """(share, ratio) from two samples of a score: of `mixed` (m,) a share is what `pure` (p,) is made of, the rest lies higher.

    `ratio` is that of the rest's density over the pure one's. The density of `mixed` over that of `pure`
    is share + (1 - share) exp(ratio(x)), and it is found by telling the two samples apart (logistic
    regression; Qin, Biometrika 85, 1998), `share` being the floor it comes down to. The share given is
    what it is taken for where the samples tell too little; it weighs `weight` a row of `mixed`.

    >>> random = np.random.default_rng(0)
    >>> made = np.concatenate([random.normal(0, 1, 2000), random.normal(3, 1, 8000)])
    >>> share, ratio = density_ratio(made, random.normal(0, 1, 10000), 0.5, 0.0)
    >>> round(share, 1), bool(abs(ratio(np.array(1.5))) < 0.3)
    (0.2, True)
    """
    middle, knot = float(np.median(pure)), float((np.median(pure) + np.quantile(mixed, 0.5 + 0.5 * share)) / 2)
    start = np.array([linear_probes.logit(np.array(share)), 0.0, 0.0, 0.0])
    log_size = np.log(len(mixed) / len(pure))
    penalty = np.array([(2.0 + weight * len(mixed)) * share * (1.0 - share), 4.0, 0.0, 1.0])

    def loss(at: np.ndarray) -> float:
        total = 0.5 * (penalty * (at - start) ** 2).sum()
        for x, sign in ((mixed, 1.0), (pure, -1.0)):
            above = at[2] + (1.0 + at[1]) * (x - middle) + at[3] * np.maximum(x - knot, 0.0)
            score = np.log(expit(at[0]) + np.exp(np.clip(above, -60.0, 60.0))) + log_size
            total += np.logaddexp(0.0, -sign * score).sum()
        return float(total)

    bounds = [(-7.0, 3.0), (-0.9, 5.0), (None, None), (-0.9, 5.0)]
    share, slope, offset, bend = _lowest(loss, start, bounds)
    share, slope = float(expit(share)), 1.0 + float(slope)
    offset = float(offset - slope * middle - np.log1p(-share))
    return share, Ratio(slope, offset, max(float(bend), 0.05 - slope), knot)


def _maximise(
    full: Candidates, target: np.ndarray, frequency: np.ndarray, unknown: Candidates
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights, none-weights and share of swapped tags of the highest penalised likelihood (L-BFGS)."""
    split = len(START_WEIGHTS)
    last = np.full(len(unknown.classes), unknown.classes.shape[1])
    each = len(target) / max(1, len(last))  # unknown count as much as all others
    start = np.concatenate([START_WEIGHTS, START_NONE, [linear_probes.logit(np.array(SWAPPED))]])
    normal, strange = _none_features(full), _none_features(unknown)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        swapped = float(expit(at[-1]))
        total, slope = 0.0, np.zeros_like(at)
        for found, against, wanted, other in ((full, normal, target, frequency), (unknown, strange, last, None)):
            p = softmax(_logits(found, against, at[:split], at[split:-1]), axis=1)
            here = p[np.arange(len(p)), wanted]
            other = 1.0 - here if other is None else other
            likelihood = np.maximum((1.0 - swapped) * here + swapped * other, 1e-12)
            share = (1.0 - swapped) * here / likelihood
            weight = each if found is unknown else 1.0
            if found is unknown:  # a swapped tag: the true series is still among the candidates
                share = share - swapped * here / likelihood
            pull = -p * (weight * share[:, None])
            pull[np.arange(len(p)), wanted] += weight * share
            total -= weight * np.log(likelihood).sum()
            slope[:split] -= np.tensordot(pull[:, :-1], found.features, axes=2)  # no candidate, no pull
            slope[split:-1] -= pull[:, -1] @ against
            slope[-1] -= weight * ((other - here) / likelihood).sum() * swapped * (1.0 - swapped)
        away = at - start
        penalty = np.concatenate([PULL_TO_START, np.full(len(START_NONE), 0.1), [2.0 + SWAPPED_WEIGHT * len(target)]])
        return total + 0.5 * (penalty * away**2).sum(), slope + penalty * away

    bounds = (
        [(0.0, None)] * split
        + [(None, None)] * len(START_NONE)
        + [(-7.0, float(linear_probes.logit(np.array(MOST_SWAPPED))))]
    )
    best = _lowest(loss, start, bounds, jac=True)
    return best[:split], best[split:-1], float(expit(best[-1]))


def _lowest(loss: Callable[[np.ndarray], Any], start: np.ndarray, bounds: list[Any], jac: bool = False) -> np.ndarray:
    """Where `loss` is lowest; with `jac` it gives its slope, too. Features of very different size make L-BFGS stop half way at a
    small step: then it begins anew.
    """
    at, last = start, np.inf
    for _ in range(RESTARTS):
        options = {"ftol": 1e-10, "maxiter": 400}
        found = optimize.minimize(loss, at, jac=jac or None, method="L-BFGS-B", bounds=bounds, options=options)
        at = found.x
        if last - found.fun < 1e-5 * abs(found.fun):
            break
        last = found.fun
    return at


def _unknown_share(log_odds: np.ndarray) -> float:
    """The share of unknown series among untagged pictures of these log-odds (m,) of "none of yours" at equal shares, by EM."""
    odds = np.exp(np.clip(log_odds, -20.0, 20.0))
    share, weight = UNKNOWN_OF_UNTAGGED, UNKNOWN_WEIGHT
    for _ in range(200):
        seen = (share * odds / (share * odds + 1.0 - share)).mean()
        after = float(seen + weight * UNKNOWN_OF_UNTAGGED) / (1.0 + weight)
        if abs(after - share) < 1e-6:
            break
        share = float(np.clip(after, 1e-4, 1 - 1e-4))
    return share


@dataclass(frozen=True)
class Predictions:
    """What is said about n pictures, of S series.

    `ranked` (n, k) int32: the most probable series, the surest first, -1 where there are fewer worth listing;
    `probability` (n, k) float32 of each, 0 to 1: that the picture is of this series (several may hold at once).
    `unknown` (n,): probability that it is of none of the owner's series that could be learned. `own` csr (n, S): the
    probability of the series that the picture is tagged with. `foreign` (n,): a series that could not be learned and
    that the tagger names, -1 for none, and `foreign_probability` (n,) of that one, part of `unknown`. `forgotten` (n,):
    of pictures of its kind and of known series, the share without a tag.
    """

    ranked: np.ndarray
    probability: np.ndarray
    unknown: np.ndarray
    own: sparse.csr_matrix
    foreign: np.ndarray
    foreign_probability: np.ndarray
    forgotten: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """(n, k) bool: the series said to be there: the first from `PREDICT_FROM`, further ones from `ALSO_FROM`."""
        cut = np.full(self.ranked.shape[1], ALSO_FROM)
        cut[:1] = PREDICT_FROM
        return (self.ranked >= 0) & (self.probability >= cut)


def predictions(
    found: Candidates, mixing: Mixing, contains: np.ndarray, tags: sparse.csr_matrix | None = None
) -> Predictions:
    """Probabilities of series from candidate classes.

    `contains` (C, S) says which series a class stands for: a series is as probable as its classes
    together. `tags` (n, S): whose probabilities to note in `own`.
    """
    total, series = len(found.classes), contains.shape[1]
    listed = min(LISTED, series)
    ranked, probability = np.full((total, listed), -1, dtype=np.int32), np.zeros((total, listed), dtype=np.float32)
    unknown = np.zeros(total, dtype=np.float32)
    tags = sparse.csr_matrix((total, series), dtype=bool) if tags is None else tags
    own = tags.astype(np.float32)
    stands_for = sparse.csr_matrix(contains.astype(np.float32))
    for start in range(0, total, BLOCK):
        rows = slice(start, min(start + BLOCK, total))
        part = found.rows(rows)
        p, unknown[rows] = mixing.probabilities(part)
        row, column = np.nonzero(part.present)
        places = row, part.classes[row, column]
        of_class = sparse.csr_matrix((p[row, column], places), shape=(len(p), contains.shape[0]))
        of_series = np.minimum((of_class @ stands_for).toarray(), 1.0)
        order = np.argsort(-of_series, axis=1, kind="stable")[:, :listed]
        value = np.take_along_axis(of_series, order, axis=1)
        ranked[rows], probability[rows] = (
            np.where(value >= LISTED_FROM, order, -1),
            np.where(value >= LISTED_FROM, value, 0.0),
        )
        which = np.repeat(np.arange(len(p)), np.diff(own.indptr[start : rows.stop + 1]))
        own.data[own.indptr[start] : own.indptr[rows.stop]] = of_series[
            which, own.indices[own.indptr[start] : own.indptr[rows.stop]]
        ]
    trust = expit(mixing.foreign[0] * found.foreign_logit + mixing.foreign[1])
    foreign_probability = np.where(found.foreign >= 0, unknown * trust, 0.0)
    return Predictions(ranked, probability, unknown, own, found.foreign, foreign_probability, mixing.forgotten(found))


def tagged_probability(
    probability: np.ndarray, unknown: np.ndarray, frequency: np.ndarray, swapped: float
) -> np.ndarray:
    """Probability that a picture which *has* a tag is tagged with this series: (m,), 0 to 1. To be held against tags.

    A tagged picture is of one of the owner's series, unless its tag is wrong: `unknown` (m,) drops
    out, and of all tags the share `swapped` names any series by its `frequency` (m,).
    """
    fits = np.minimum(probability / np.maximum(1.0 - unknown, 1e-6), 1.0)
    return (1.0 - swapped) * fits + swapped * frequency


def agreement(
    said: Predictions, labels: Labels, learned: sparse.csr_matrix, swapped: float
) -> dict[str, float | int | None]:
    """How far out-of-fold predictions agree with the owner's tags, on the pictures that have any.

    Tags that no model could learn out of fold (`Folded.learned`) are left out. `micro_f1` over all
    (picture, series), `macro_f1` the mean over series, `coverage` the share of pictures with a
    prediction, `calibration_error` of `tagged_probability` of the first series (Naeini et al. 2015).
    """
    rows = np.flatnonzero(labels.tagged)
    once = np.ones((1, len(rows)))
    (micro,), (macro,) = _f1(said, learned, rows, once)
    first = np.maximum(said.ranked[rows, 0], 0)
    right = np.asarray(labels.tags[rows, first]).ravel() & (said.ranked[rows, 0] >= 0)
    frequency = np.asarray(labels.tags.sum(axis=0)).ravel() / labels.tags.sum()
    expected = tagged_probability(said.probability[rows, 0], said.unknown[rows], frequency[first], swapped)
    judged = np.asarray(learned[rows].sum(axis=1)).ravel() > 0
    error = expected_calibration_error(expected[judged], right[judged]) if judged.any() else None
    return {
        "micro_f1": round(float(micro), 4),
        "macro_f1": round(float(macro), 4),
        "series_judged": int((once @ learned[rows] > 0).sum()),
        "coverage": round(float(said.predicted[rows].any(axis=1).mean()), 4),
        "calibration_error": None if error is None else round(error, 4),
    }


def _f1(
    said: Predictions, learned: sparse.csr_matrix, rows: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(micro, macro) F1 against the tags, both (k,), with each of `rows` (m,) counted `times` (k, m); macro over series that occur."""
    row, place = np.nonzero(said.predicted[rows])
    tags = learned[rows]
    predicted = sparse.csr_matrix((np.ones(len(row)), (row, said.ranked[rows][row, place])), shape=tags.shape)
    both, has = times @ predicted.multiply(tags).tocsr(), times @ tags
    total, occurs = times @ predicted + has, has > 0
    macro = (2 * both / np.maximum(total, 1e-9) * occurs).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return 2 * both.sum(axis=1) / np.maximum(total.sum(axis=1), 1e-9), macro


def cross_fitted(folded: Folded, labels: Labels, seed: int = 0) -> Predictions:
    """Predictions of which not even the mixing weights have seen the picture: they come from the other half of the folds."""
    half = folded.folds % 2 == 0
    parts = [
        predictions(
            folded.candidates.rows(here), fit_mixing(folded, labels, seed, ~here), labels.contains(), labels.tags[here]
        )
        for here in (half, ~half)
    ]
    back = np.argsort(np.concatenate([np.flatnonzero(half), np.flatnonzero(~half)]))
    names = [name for name in vars(parts[0]) if name != "own"]
    whole = {name: np.concatenate([getattr(part, name) for part in parts])[back] for name in names}
    return Predictions(own=sparse.vstack([part.own for part in parts], format="csr")[back], **whole)


@dataclass(frozen=True)
class Gain:
    """What one set of predictions has over another: micro- and macro-F1 against the tags of both, and how sure the gain is.

    `gain` is that of the mean of the two scores; `sure` the share of resampled libraries (whole
    near-duplicate groups, with replacement: Efron 1979) in which it is above 0.
    """

    before: tuple[float, float]
    after: tuple[float, float]
    gain: float
    sure: float

    @property
    def real(self) -> bool:
        """Whether to go by it."""
        return self.gain > 0 and self.sure >= SURE_GAIN


def gain(
    before: Predictions,
    after: Predictions,
    labels: Labels,
    learned: sparse.csr_matrix,
    groups: np.ndarray,
    seed: int = 0,
) -> Gain:
    """How much nearer to the owner's tags `after` is than `before`, over the tagged pictures; `groups` (n,) near-duplicates."""
    rows = np.flatnonzero(labels.tagged)
    names, group = np.unique(groups[rows], return_inverse=True)
    number = len(names)
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    times = np.concatenate([np.ones((1, number)), drawn])[:, group]
    was, now = (np.stack(_f1(said, learned, rows, times)) for said in (before, after))  # (2, 1 + RESAMPLES)
    apart = (now - was).mean(axis=0)
    (micro, macro), (with_micro, with_macro) = (score[:, 0].round(4).tolist() for score in (was, now))
    sure = round(float((apart[1:] > 0).mean()), 4)
    return Gain((micro, macro), (with_micro, with_macro), round(float(apart[0]), 4), sure)
