"""Tagged libraries whose true tags are known, in four families that differ in how tags come about and go wrong.

`lookalikes`  a picture is a sum of its tags' directions: series that resemble each other, characters
              of a series, exclusive groups, implied tags, Zipf frequencies, tags that can hardly be
              seen, lazily tagged pictures, near-duplicates.
`regions`     tags are regions of a low-dimensional space seen through a random network, so nothing is
              linear; borderline pictures are mistagged more often; some tags were only in use for half
              of the library.
`digits`      real pictures with real labels: scikit-learn's handwritten digits, several on a canvas,
              seen through fixed random convolutions.
`albums`      pictures come in albums that look alike, and a careless owner tags a whole album wrong, so
              that errors are not independent of each other.

`lookalikes`, `regions` and `digits` can be made harder, as people's libraries are (`Harder`): pictures with two series,
tags that always bring their parents, a sub-series inside a series.

Every generator takes a seed and gives a `Library`. Errors are planted after the truth is drawn and are
listed by kind in `planted`. A tag is written as an owner would, namespaces included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tagcheck.learning.linear_probes import fit_ridge


@dataclass
class Library:
    """n pictures and T tags. `truth` and `given` bool (n, T); `matrix` (n, d) float32 embeddings.

    `planted` maps a kind of error to its cells, rows of (picture, tag). `head` is a tagger's last layer
    (tag columns (V,), weight (V, d), bias (V,)), trained on other pictures of the same world, or None.
    `exclusive` lists groups of columns of which a picture has at most one in truth. `twins` (n,) names
    each picture's group of near-duplicates. `implied` lists (child, parent) columns where whoever writes the
    child gets the parent with it, right or wrong.
    """

    tags: list[str]
    truth: np.ndarray
    given: np.ndarray
    matrix: np.ndarray
    twins: np.ndarray
    planted: dict[str, np.ndarray]
    exclusive: list[list[int]] = field(default_factory=list)
    head: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    implied: list[tuple[int, int]] = field(default_factory=list)

    def errors(self, kind: str) -> np.ndarray:
        """The cells, bool (n, T), where a tag is "missing" or "incorrect"."""
        return self.truth & ~self.given if kind == "missing" else self.given & ~self.truth


@dataclass(frozen=True)
class Harder:
    """What people's libraries have and plain ones do not: a share of pictures with two series (`crossovers`, 0 to 1), tags
    that bring their `parents`, and a sub-series whose pictures nearly all carry the series too (`part`).
    """

    crossovers: float = 0.0
    parents: bool = False
    part: bool = False


def with_parents(given: np.ndarray, implied: list[tuple[int, int]]) -> np.ndarray:
    """`given` (n, T) with the parent written wherever its child is."""
    for child, parent in implied:
        given[:, parent] |= given[:, child]
    return given


@dataclass(frozen=True)
class Errors:
    """How an owner errs: shares of pictures or of tags, 0 to 1; `wrong` the mean number of wrong tags a picture."""

    miss: float = 0.06
    lazy: float = 0.15
    lazy_miss: float = 0.5
    wrong: float = 0.2
    swap: float = 0.05
    contradict: float = 0.02


def plant(
    truth: np.ndarray,
    series: list[list[int]],
    exclusive: list[list[int]],
    rng: np.random.Generator,
    errors: Errors,
    hardness: np.ndarray | None = None,
    lookalike: dict[int, int] | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(given, planted): the truth as an owner who errs writes it.

    Tags are forgotten at random, a share of pictures is tagged lazily, wrong tags come in proportion
    to their frequency, a series is swapped for its look-alike, and a second tag of an exclusive group
    is added. `hardness` (n, T), mean about 1, multiplies the rates of the first and third.
    """
    n, count = truth.shape
    hardness = np.ones((n, 1)) if hardness is None else hardness
    given = truth.copy()
    planted: dict[str, list[tuple[int, int]]] = {"swap_missing": [], "swap_incorrect": [], "contradiction": []}
    rate = np.where(rng.random(n) < errors.lazy, errors.lazy_miss, errors.miss)
    given &= rng.random((n, count)) >= np.minimum(rate[:, None] * hardness, 0.95)
    frequency = truth.mean(axis=0)
    wrong = rng.random((n, count)) < errors.wrong * hardness * frequency / max(frequency.sum(), 1e-9)
    given |= wrong & ~truth
    for columns in series:
        for i in np.flatnonzero(truth[:, columns].any(axis=1) & (rng.random(n) < errors.swap)):
            old = int(rng.choice([c for c in columns if truth[i, c]]))
            others = [c for c in columns if not truth[i, c]]
            near = (lookalike or {}).get(old)
            new = near if near in others and rng.random() < 0.75 else int(rng.choice(others))
            given[i, old], given[i, new] = False, True
            planted["swap_missing"].append((i, old))
            planted["swap_incorrect"].append((i, new))
    for i in np.flatnonzero(rng.random(n) < errors.contradict * len(exclusive)):
        columns = exclusive[int(rng.integers(len(exclusive)))]
        has = [c for c in columns if truth[i, c] and given[i, c]]
        if has:
            weights = frequency[columns] * ~truth[i, columns]
            if weights.sum() > 0:
                new = columns[int(rng.choice(len(columns), p=weights / weights.sum()))]
                given[i, new] = True
                planted["contradiction"].append((i, new))
    cells = {kind: np.array(sorted(set(found)), dtype=np.int64).reshape(-1, 2) for kind, found in planted.items()}
    wrong_state = truth != given
    return given, {kind: found[wrong_state[found[:, 0], found[:, 1]]] for kind, found in cells.items()}


def duplicate_disagreements(library: Library) -> np.ndarray:
    """The wrong cells, rows of (picture, tag), of pictures whose near-duplicates mostly have it right."""
    found = []
    wrong = library.truth != library.given
    for label in np.flatnonzero(np.bincount(library.twins) > 1):
        members = np.flatnonzero(library.twins == label)
        right_elsewhere = (~wrong[members]).sum(axis=0)
        for i in members:
            found += [(i, t) for t in np.flatnonzero(wrong[i] & (right_elsewhere > len(members) / 2))]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def tagger_head(
    matrix: np.ndarray, truth: np.ndarray, known: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tagger trained on other pictures, (columns, weight, bias): logits scaled so that they are about calibrated."""
    seen = truth & (rng.random(truth.shape) > 0.2)
    folds = np.arange(len(matrix)) % 2
    model = fit_ridge(matrix, seen[:, known].astype(np.float32), folds, alpha=0.05)
    weight, bias = model.weights.mean(axis=0).T.astype(np.float64), model.bias.mean(axis=0).astype(np.float64)
    score = matrix @ weight.T + bias
    on = seen[:, known]
    mean1 = (score * on).sum(axis=0) / np.maximum(on.sum(axis=0), 1)
    mean0 = (score * ~on).sum(axis=0) / np.maximum((~on).sum(axis=0), 1)
    var = (((score - np.where(on, mean1, mean0)) ** 2).mean(axis=0)) + 1e-9
    slope = (mean1 - mean0) / var
    middle = (mean1 + mean0) / 2
    prior = np.log((on.mean(axis=0) + 1e-4) / (1 - on.mean(axis=0)))
    return known, (weight * slope[:, None]).astype(np.float32), ((bias - middle) * slope + prior).astype(np.float32)


def zipf(count: int, top: float, power: float) -> np.ndarray:
    """Frequencies `top` / rank^`power`, (count,)."""
    return top / np.arange(1, count + 1) ** power


def with_twins(n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """The group of each of n pictures, int64 (n,): `share` of them stand in groups of 2 to 5."""
    labels, place, label = np.arange(n), 0, n
    while place < share * n:
        size = int(rng.integers(2, 6))
        labels[place : place + size] = label
        place, label = place + size, label + 1
    labels = np.unique(labels[:n], return_inverse=True)[1]
    return labels[rng.permutation(n)]


def share_truth(values: np.ndarray, twins: np.ndarray) -> np.ndarray:
    """`values` (n, ...) with every row replaced by that of its group's first member."""
    first = np.unique(twins, return_index=True)[1]
    return values[first[twins]]


def lookalikes(
    seed: int,
    n: int = 4000,
    d: int = 768,
    general: int = 90,
    strength: float = 0.7,
    errors: Errors = Errors(),
    head: bool = True,
    harder: Harder = Harder(),
) -> Library:
    """Pictures as sums of directions; see the module. About 200 tags at the default, 14 a picture."""
    rng = np.random.default_rng([1, seed])
    tags, series, characters = [], 16, 48
    tags += [f"series:series {k}" for k in range(series)]
    tags += [f"character:character {k}" for k in range(characters)]
    groups = {"hair": 8, "eyes": 6, "count": 4, "time": 2, "place": 3}
    exclusive, place = [], len(tags)
    for name, size in groups.items():
        exclusive.append(list(range(place, place + size)))
        tags += [f"{name} {k}" for k in range(size)]
        place += size
    first_general = place
    tags += [f"tag {k}" for k in range(general)]
    if harder.part:
        tags += ["series:series 0, part 2", "series:series 3, part 2"]
    children = rng.choice(np.arange(general // 3, general), general // 5, replace=False)
    parents = {first_general + int(child): first_general + int(child) // 4 for child in children}
    hidden = rng.choice(np.arange(general // 6, general), max(general // 8, 1), replace=False) + first_general
    topics = rng.dirichlet(np.full(8, 0.4), general)
    of_series = rng.choice(series, characters, p=zipf(series, 1, 0.8) / zipf(series, 1, 0.8).sum())
    habit = rng.integers(0, [[8], [6]], (2, characters))
    lift = rng.lognormal(0, 0.5, len(tags))

    def draw(count: int) -> np.ndarray:
        truth = np.zeros((count, len(tags)), dtype=bool)
        rows = np.arange(count)
        weight = zipf(series, 1, 0.8)
        which = rng.choice(series, count, p=weight / weight.sum())
        has = rng.random(count) < 0.85
        truth[rows[has], which[has]] = True
        partner = _partners(which, weight / weight.sum(), has, harder.crossovers, rng)
        truth[rows[has], partner[has]] = True
        if harder.part:
            for column, whole, odds in ((-2, 0, 0.5), (-1, 3, 0.3)):
                truth[:, column] = truth[:, whole] & (rng.random(count) < odds)
        for k in range(characters):
            odds = 0.75 / (1 + np.flatnonzero(of_series == of_series[k]).tolist().index(k)) ** 0.7
            here = (which == of_series[k]) | (partner == of_series[k])
            truth[:, series + k] = has & here & (rng.random(count) < odds * 0.6)
        for index, columns in enumerate(exclusive):
            share = zipf(len(columns), 1, 0.7)
            chosen = rng.choice(len(columns), count, p=share / share.sum())
            if index < 2:
                for k in range(characters):
                    owned = truth[:, series + k] & (rng.random(count) < 0.9)
                    chosen[owned] = habit[index, k]
            there = rng.random(count) < 0.8
            truth[rows[there], np.array(columns)[chosen[there]]] = True
        mood = rng.dirichlet(np.full(8, 0.5), count) * 8
        rate = np.minimum(zipf(general, 0.35, 0.75) * (mood @ topics.T), 0.9)
        truth[:, first_general : first_general + general] = rng.random((count, general)) < rate
        for child, parent in parents.items():
            truth[:, parent] |= truth[:, child]
        return truth

    direction = rng.normal(size=(len(tags), d)) / np.sqrt(d)
    alike = {}
    for k in range(0, series, 2):
        shared = rng.normal(size=d) / np.sqrt(d)
        for one in (k, k + 1):
            direction[one] = np.sqrt(0.65) * shared + np.sqrt(0.35) * direction[one]
        alike |= {k: k + 1, k + 1: k}
    power = strength * lift
    power[hidden] *= 0.12
    mean = rng.normal(size=d) / np.sqrt(d) * 8
    spectrum = 1 / np.sqrt(1 + np.arange(d) / 40)
    spectrum /= np.sqrt((spectrum**2).mean())
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]

    def embed(truth: np.ndarray, twins: np.ndarray) -> np.ndarray:
        scale = rng.lognormal(0, 0.25, truth.shape)
        signal = (truth * scale * power) @ direction
        noise = share_truth((rng.normal(size=(len(truth), d)) * spectrum) @ rotation / np.sqrt(d) * 5, twins)
        own = (rng.normal(size=(len(truth), d)) * spectrum) @ rotation / np.sqrt(d)
        size = np.where(np.bincount(twins)[twins] > 1, rng.uniform(0.3, 1.5, len(truth)), 0.0)
        return (mean + share_truth(signal, twins) + noise + own * size[:, None]).astype(np.float32)

    twins = with_twins(n, 0.15, rng)
    truth = share_truth(draw(n), twins)
    matrix = embed(truth, twins)
    known = np.array([c for c in range(len(tags)) if rng.random() < (0.75 if c >= first_general - 23 else 0.4)])
    made = None
    if head:
        others = draw(3 * n)
        made = tagger_head(embed(others, np.arange(3 * n)), others, known, rng)
    given, planted = plant(truth, [list(range(series))], exclusive, rng, errors, lookalike=alike)
    implied = sorted(parents.items()) + [(series + k, int(of_series[k])) for k in range(characters // 2)]
    implied = implied if harder.parents else []
    apart = exclusive if harder.crossovers else [*exclusive, list(range(series))]
    return Library(tags, truth, with_parents(given, implied), matrix, twins, planted, apart, made, implied)


def _partners(
    which: np.ndarray, share: np.ndarray, has: np.ndarray, crossovers: float, rng: np.random.Generator
) -> np.ndarray:
    """The second series (n,) of each picture, mostly its own again; half of the crossovers are with one fixed other."""
    if not crossovers:
        return which
    both = has & (rng.random(len(which)) < crossovers)
    often = rng.random(len(which)) < 0.5
    partner = np.where(often, (which + 5) % len(share), rng.choice(len(share), len(which), p=share))
    return np.where(both, partner, which)


def regions(
    seed: int,
    n: int = 4000,
    d: int = 512,
    count: int = 140,
    errors: Errors = Errors(contradict=0.0),
    head: bool = True,
    harder: Harder = Harder(),
) -> Library:
    """Tags as regions of a 24-dimensional space behind a random two-layer network; errors gather at the borders."""
    rng = np.random.default_rng([2, seed])
    latent, hidden = 24, 400
    franchise = rng.normal(size=(14, latent)) * 1.1
    first = rng.normal(size=(latent, hidden)) / np.sqrt(latent)
    second = rng.normal(size=(hidden, d)) / np.sqrt(hidden)
    shift = rng.normal(size=hidden)
    tags = [f"series:saga {k}" for k in range(14)] + [f"thing {k}" for k in range(count)]
    kinds = [list(range(14 + k, 14 + count, 20)) for k in range(8)] if harder.parents else []
    tags += [f"kind {k}" for k in range(len(kinds))] + (["series:saga 1, part 2"] if harder.part else [])
    slope = rng.normal(size=(count, latent)) * (rng.random((count, latent)) < 0.35)
    bend = rng.normal(size=(count, latent)) * (rng.random((count, latent)) < 0.15)
    share = np.maximum(zipf(count, 0.4, 0.8), 0.006)
    blur = rng.gamma(2, 0.08, count) * np.where(rng.random(count) < 0.1, 12, 1)

    def draw(rows: int, twins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        spot = share_truth(rng.normal(size=(rows, latent)), twins)
        home = share_truth(rng.integers(0, 20, rows), twins)
        inside = home < 14
        also = home
        if harder.crossovers:
            both = share_truth(rng.random(rows), twins) < harder.crossovers
            also = np.where(both & inside, share_truth((home + rng.choice([1, 3, 4], rows)) % 14, twins), home)
        where = franchise[np.minimum(home, 13)] + np.where(also != home, 1.0, 0.0)[:, None] * franchise[also % 14]
        spot[inside] = 0.75 * spot[inside] + where[inside] / np.where(also != home, 1.2, 1.0)[inside, None]
        margin = spot @ slope.T + (spot**2 - 1) @ bend.T * 0.7
        margin /= margin.std(axis=0) + 1e-9
        margin += share_truth(rng.normal(size=(rows, count)), twins) * blur
        cut = np.array([np.quantile(margin[:, t], 1 - share[t]) for t in range(count)])
        truth = np.zeros((rows, len(tags)), dtype=bool)
        truth[np.flatnonzero(inside), home[inside]] = True
        truth[np.flatnonzero(inside), also[inside]] = True
        truth[:, 14 : 14 + count] = margin > cut
        for k, members in enumerate(kinds):
            truth[:, 14 + count + k] = truth[:, members].any(axis=1)
        if harder.part:
            truth[:, -1] = truth[:, 1] & (spot[:, 0] > franchise[1, 0])
        seen = np.maximum(spot @ first + shift, 0) @ second
        seen = seen + share_truth(rng.normal(size=(rows, d)), twins) * 0.55 + rng.normal(size=(rows, d)) * 0.06
        return truth, seen.astype(np.float32), margin - cut

    twins = with_twins(n, 0.12, rng)
    truth, matrix, margin = draw(n, twins)
    known = np.flatnonzero(rng.random(len(tags)) < 0.5)
    other_truth, other_matrix, _ = draw(3 * n, np.arange(3 * n))
    made = tagger_head(other_matrix, other_truth, known, rng) if head else None
    hardness = np.ones(truth.shape)
    hardness[:, 14 : 14 + count] = 0.6 + 1.8 * np.exp(-np.abs(margin) / 0.25)
    given, planted = plant(truth, [list(range(14))], [], rng, errors, hardness)
    late = 14 + rng.choice(count, count // 20, replace=False)
    before = np.arange(n) < n // 2
    given[np.ix_(before, late)] &= rng.random((before.sum(), len(late))) < 0.3
    implied = [(child, 14 + count + k) for k, members in enumerate(kinds) for child in members]
    apart = [] if harder.crossovers else [list(range(14))]
    return Library(tags, truth, with_parents(given, implied), matrix, twins, planted, apart, made, implied)


def digits(
    seed: int,
    n: int = 4000,
    d: int = 512,
    errors: Errors = Errors(contradict=0.03),
    head: bool = True,
    harder: Harder = Harder(),
) -> Library:
    """Handwritten digits of many hands, up to four on a canvas of 24 x 24 pixels.

    `series:` names the first digit, and the other tags are which digits are there, what follows from
    them (even, prime, many), how the canvas looks (inverted, framed, faint, dotted) and where things
    stand. Embeddings are random 5 x 5 convolutions, rectified and pooled, then centred; Coates and Ng
    2011 found such features good enough to tell digits apart.
    """
    from sklearn.datasets import load_digits

    rng = np.random.default_rng([3, seed])
    pictures, labels = load_digits(return_X_y=True)
    pictures = pictures.reshape(-1, 8, 8) / 16.0
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    tags = [f"series:{name}" for name in names] + [f"has {name}" for name in names]
    looks = ["inverted", "framed", "faint", "dotted", "slanted line"]
    tags += [
        "even",
        "prime",
        "round shapes",
        "two digits",
        "three digits",
        "four digits",
        "one digit",
        *looks,
        "repeated digit",
    ]
    tags += ["left half empty", "bottom half empty", "sum over ten", "written by a left hand"]
    tags += ["series:nine, inverted"] if harder.part else []
    at = {tag: place for place, tag in enumerate(tags)}
    filters = rng.normal(size=(d // 4, 5, 5))
    filters -= filters.mean(axis=(1, 2), keepdims=True)

    def draw(rows: int, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        truth = np.zeros((rows, len(tags)), dtype=bool)
        canvas = np.zeros((rows, 20, 20))
        for i in range(rows):
            number = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1]))
            spots = rng.permutation(4)[:number] if number > 1 or rng.random() < 0.4 else np.array([0])
            chosen = rng.choice(pool, number)
            for spot, one in zip(sorted(spots), chosen):
                y, x = 1 + 10 * (spot // 2) + rng.integers(0, 2), 1 + 10 * (spot % 2) + rng.integers(0, 2)
                canvas[i, y : y + 8, x : x + 8] = np.maximum(canvas[i, y : y + 8, x : x + 8], pictures[one])
            values = labels[chosen]
            on = [at[f"series:{names[values[0]]}"], *(at[f"has {names[v]}"] for v in values)]
            if harder.crossovers and number > 1 and rng.random() < harder.crossovers / 0.65:
                on.append(at[f"series:{names[values[1]]}"])
            on += [
                at[t]
                for t, yes in (
                    ("even", (values % 2 == 0).any()),
                    ("prime", np.isin(values, [2, 3, 5, 7]).any()),
                    ("round shapes", np.isin(values, [0, 6, 8, 9]).any()),
                    ("repeated digit", len(set(values)) < number),
                    ("sum over ten", values.sum() > 10),
                    ("left half empty", not (spots % 2 == 0).any()),
                    ("bottom half empty", not (spots > 1).any()),
                    ("written by a left hand", rng.random() < 0.1),
                    (["one digit", "two digits", "three digits", "four digits"][number - 1], True),
                )
                if yes
            ]
            for look, odds in zip(looks, (0.2, 0.15, 0.12, 0.08, 0.04)):
                if rng.random() < odds:
                    on.append(at[look])
                    canvas[i] = _look(canvas[i], look, rng)
            if harder.part and {at["series:nine"], at["inverted"]} <= set(on):
                on.append(at["series:nine, inverted"])
            truth[i, on] = True
        return truth, canvas

    def embed(canvas: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(canvas, ((0, 0), (2, 2), (2, 2))), (5, 5), axis=(1, 2)
        )
        out = []
        for start in range(0, len(canvas), 500):
            part = np.maximum(
                np.einsum("nyxab,kab->nkyx", windows[start : start + 500], filters, optimize=True) - 0.5, 0
            )
            out.append(part.reshape(len(part), len(filters), 2, 10, 2, 10).mean(axis=(3, 5)).reshape(len(part), -1))
        return np.concatenate(out).astype(np.float32)

    twins = with_twins(n, 0.12, rng)
    order = rng.permutation(len(pictures))
    truth, canvas = draw(n, order[:1200])
    truth, canvas = share_truth(truth, twins), share_truth(canvas, twins)
    canvas = np.clip(canvas + rng.normal(size=canvas.shape) * 0.03, 0, 1)
    other_truth, other_canvas = draw(n, order[1200:])
    known = np.flatnonzero(rng.random(len(tags)) < 0.5)
    made = tagger_head(embed(other_canvas), other_truth, known, rng) if head else None
    count = [at[t] for t in ("one digit", "two digits", "three digits", "four digits")]
    alike = {3: 8, 8: 3, 1: 7, 7: 1, 4: 9, 9: 4, 5: 6, 6: 5}
    given, planted = plant(truth, [list(range(10))], [count], rng, errors, lookalike=alike)
    implied = [
        (at[f"has {names[v]}"], at[kind])
        for kind, of in (("prime", (2, 3, 5, 7)), ("even", (0, 2, 4, 6, 8)))
        for v in of
    ]
    implied = implied if harder.parents else []
    apart = [count] if harder.crossovers else [list(range(10)), count]
    return Library(tags, truth, with_parents(given, implied), embed(canvas), twins, planted, apart, made, implied)


def _look(canvas: np.ndarray, look: str, rng: np.random.Generator) -> np.ndarray:
    canvas = canvas.copy()
    if look == "inverted":
        return 1 - canvas
    if look == "framed":
        canvas[[0, -1], :] = canvas[:, [0, -1]] = 1 - canvas[0, 0].round()
    elif look == "faint":
        canvas = 0.5 + (canvas - 0.5) * 0.5
    elif look == "dotted":
        canvas[rng.integers(0, 20, 12), rng.integers(0, 20, 12)] = 0.7
    else:
        start = int(rng.integers(0, 10))
        canvas[np.arange(10), start + np.arange(10)] = 0.9
    return canvas


def albums(
    seed: int,
    n: int = 4000,
    d: int = 384,
    count: int = 160,
    errors: Errors = Errors(wrong=0.1, contradict=0.0),
    head: bool = False,
) -> Library:
    """Albums of 3 to 30 pictures that share a look and most tags; a third of the errors befall whole albums at once."""
    rng = np.random.default_rng([4, seed])
    sizes = rng.integers(3, 31, n)
    album = np.repeat(np.arange(n), sizes)[:n]
    number = int(album.max()) + 1
    tags = [f"person:person {k}" for k in range(30)] + [f"subject {k}" for k in range(count)]
    share = np.concatenate([zipf(30, 0.15, 0.8), zipf(count, 0.4, 0.8)])
    core = rng.random((number, len(tags))) < share
    keep = rng.uniform(0.5, 1.0, len(tags))
    truth = (core[album] & (rng.random((n, len(tags))) < keep)) | (rng.random((n, len(tags))) < share * 0.25)
    direction = rng.normal(size=(len(tags), d)) / np.sqrt(d) * rng.lognormal(0.3, 0.6, len(tags))[:, None]
    look = rng.normal(size=(number, d)) / np.sqrt(d) * 3
    signal = truth.astype(np.float64) @ direction
    matrix = signal + look[album] + rng.normal(size=(n, d)) / np.sqrt(d) * 2.5 + rng.normal(size=d) / np.sqrt(d) * 6
    given, planted = plant(truth, [], [], rng, errors)
    for which in np.flatnonzero(rng.random(number) < 0.25):
        members = np.flatnonzero(album == which)
        present = np.flatnonzero(truth[members].mean(axis=0) > 0.5)
        if len(present):
            given[members, int(rng.choice(present))] = False
        if rng.random() < 0.4:
            given[members, int(rng.choice(len(tags), p=share / share.sum()))] = True
    return Library(tags, truth, given, matrix.astype(np.float32), np.arange(n), planted)


FAMILIES: dict[str, Callable[..., Library]] = {
    "lookalikes": lookalikes,
    "regions": regions,
    "digits": digits,
    "albums": albums,
}
