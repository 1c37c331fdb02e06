"""Tagged libraries whose true tags are known, in three families that differ in how tags come about and go wrong.

`lookalikes`  a picture is a sum of its tags' directions: series that resemble each other, characters
              of a series, exclusive groups, implied tags, Zipf frequencies, tags that can hardly be
              seen, pictures tagged in haste, near-duplicates.
`regions`     tags are regions of a low-dimensional space seen through a random network, so nothing is
              linear; borderline pictures are mistagged more often; some tags were only in use for half
              of the library.
`digits`      real pictures with real labels: scikit-learn's handwritten digits, several on a canvas,
              seen through fixed random convolutions.

`lookalikes`, `regions` and `digits` can be made harder, as people's libraries are (`Harder`): pictures with two series,
tags that always bring their parents, a sub-series inside a series.

Every generator takes a seed and gives a `Library`. Errors are planted after the truth is drawn. A tag is written as an owner
would, namespaces included.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tagcheck.learning.linear_probes import RidgePath, moments


@dataclass
class Library:
    """n pictures and T tags. `truth` and `given` bool (n, T); `matrix` (n, d) float32 embeddings.

    `head` is a tagger's last layer (tag columns (V,), weight (V, d), bias (V,)), trained on other pictures of the same world.
    `implied` lists (child, parent) columns where whoever writes the child gets the parent with it, right or wrong.
    """

    tags: list[str]
    truth: np.ndarray
    given: np.ndarray
    matrix: np.ndarray
    head: tuple[np.ndarray, np.ndarray, np.ndarray]
    implied: list[tuple[int, int]]


@dataclass(frozen=True)
class Harder:
    """What people's libraries have and plain ones do not: a share of pictures with two series (`crossovers`, 0 to 1), tags
    that bring their `parents`, and a sub-series whose pictures nearly all carry the series too (`part`).
    """

    crossovers: float = 0.0
    parents: bool = False
    part: bool = False


PLAIN = Harder()
# How an owner errs: share of tags forgotten, of pictures tagged in haste, of their tags forgotten; wrong tags a picture; swapped series.
MISS, HASTE, HASTE_MISS, WRONG, SWAP = 0.06, 0.15, 0.5, 0.2, 0.05


def with_parents(given: np.ndarray, implied: list[tuple[int, int]]) -> np.ndarray:
    """`given` (n, T) with the parent written wherever its child is."""
    for child, parent in implied:
        given[:, parent] |= given[:, child]
    return given


def plant(
    truth: np.ndarray,
    series: list[int],
    exclusive: list[list[int]],
    rng: np.random.Generator,
    contradict: float,
    hardness: np.ndarray | None = None,
    lookalike: dict[int, int] | None = None,
) -> np.ndarray:
    """The truth (n, T) as an owner who errs writes it.

    Tags are forgotten at random, a share of pictures is tagged in haste, wrong tags come in proportion
    to their frequency, a series is swapped for a similar one, and a second tag of an exclusive group
    is added to a share `contradict` of the pictures. `hardness` (n, T), mean about 1, multiplies the rates of the first and third.
    """
    n, count = truth.shape
    hardness = np.ones((n, 1)) if hardness is None else hardness
    given = truth.copy()
    rate = np.where(rng.random(n) < HASTE, HASTE_MISS, MISS)
    given &= rng.random((n, count)) >= np.minimum(rate[:, None] * hardness, 0.95)
    frequency = truth.mean(axis=0)
    wrong = rng.random((n, count)) < WRONG * hardness * frequency / max(frequency.sum(), 1e-9)
    given |= wrong & ~truth
    for i in np.flatnonzero(truth[:, series].any(axis=1) & (rng.random(n) < SWAP)):
        old = int(rng.choice([c for c in series if truth[i, c]]))
        others = [c for c in series if not truth[i, c]]
        near = (lookalike or {}).get(old)
        new = near if near in others and rng.random() < 0.75 else int(rng.choice(others))
        given[i, old], given[i, new] = False, True
    for i in np.flatnonzero(rng.random(n) < contradict * len(exclusive)):
        columns = exclusive[int(rng.integers(len(exclusive)))]
        has = [c for c in columns if truth[i, c] and given[i, c]]
        if has:
            weights = frequency[columns] * ~truth[i, columns]
            if weights.sum() > 0:
                given[i, columns[int(rng.choice(len(columns), p=weights / weights.sum()))]] = True
    return given


def tagger_head(
    matrix: np.ndarray, truth: np.ndarray, known: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tagger trained on other pictures, (columns, weight, bias): logits scaled so that they are about calibrated."""
    seen = truth & (rng.random(truth.shape) > 0.2)
    folds = np.arange(len(matrix)) % 2
    model = RidgePath(moments(matrix, seen[:, known].astype(np.float32), folds), folds).models(0.05)
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


class Scenes:
    """The world of `lookalikes`: what is drawn together, and the direction of each tag among d = 768."""

    series, characters, general, d = 16, 48, 90, 768

    def __init__(self, rng: np.random.Generator, harder: Harder) -> None:
        series, characters, general, d = self.series, self.characters, self.general, self.d
        self.rng, self.harder = rng, harder
        self.tags = [f"series:series {k}" for k in range(series)]
        self.tags += [f"character:character {k}" for k in range(characters)]
        self.exclusive: list[list[int]] = []
        for name, size in {"hair": 8, "eyes": 6, "count": 4, "time": 2, "place": 3}.items():
            self.exclusive.append(list(range(len(self.tags), len(self.tags) + size)))
            self.tags += [f"{name} {k}" for k in range(size)]
        self.first = len(self.tags)
        self.tags += [f"tag {k}" for k in range(general)]
        if harder.part:
            self.tags += ["series:series 0, part 2", "series:series 3, part 2"]
        children = rng.choice(np.arange(general // 3, general), general // 5, replace=False)
        self.parents = {self.first + int(child): self.first + int(child) // 4 for child in children}
        hidden = rng.choice(np.arange(general // 6, general), max(general // 8, 1), replace=False) + self.first
        self.topics = rng.dirichlet(np.full(8, 0.4), general)
        self.popular = zipf(series, 1, 0.8) / zipf(series, 1, 0.8).sum()
        self.of_series = rng.choice(series, characters, p=self.popular)
        self.habit = rng.integers(0, [[8], [6]], (2, characters))
        self.power = 0.7 * rng.lognormal(0, 0.5, len(self.tags))
        self.power[hidden] *= 0.12
        self.direction = rng.normal(size=(len(self.tags), d)) / np.sqrt(d)
        for k in range(0, series, 2):
            shared = rng.normal(size=d) / np.sqrt(d)
            self.direction[k : k + 2] = np.sqrt(0.65) * shared + np.sqrt(0.35) * self.direction[k : k + 2]
        self.mean = rng.normal(size=d) / np.sqrt(d) * 8
        spectrum = 1 / np.sqrt(1 + np.arange(d) / 40)
        self.spectrum = spectrum / np.sqrt((spectrum**2).mean())
        self.rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]

    def draw(self, count: int) -> np.ndarray:
        """The true tags, bool (count, T)."""
        rng, series, rows = self.rng, self.series, np.arange(count)
        truth = np.zeros((count, len(self.tags)), dtype=bool)
        which = rng.choice(series, count, p=self.popular)
        has = rng.random(count) < 0.85
        partner = _partners(which, self.popular, has, self.harder.crossovers, rng)
        truth[rows[has], which[has]] = truth[rows[has], partner[has]] = True
        if self.harder.part:
            for column, whole, odds in ((-2, 0, 0.5), (-1, 3, 0.3)):
                truth[:, column] = truth[:, whole] & (rng.random(count) < odds)
        for k, home in enumerate(self.of_series):
            odds = 0.75 / (1 + np.count_nonzero(self.of_series[:k] == home)) ** 0.7
            truth[:, series + k] = has & ((which == home) | (partner == home)) & (rng.random(count) < odds * 0.6)
        for index, columns in enumerate(self.exclusive):
            share = zipf(len(columns), 1, 0.7)
            chosen = rng.choice(len(columns), count, p=share / share.sum())
            if index < 2:
                for k in range(self.characters):
                    chosen[truth[:, series + k] & (rng.random(count) < 0.9)] = self.habit[index, k]
            there = rng.random(count) < 0.8
            truth[rows[there], np.array(columns)[chosen[there]]] = True
        mood = rng.dirichlet(np.full(8, 0.5), count) * 8
        rate = np.minimum(zipf(self.general, 0.35, 0.75) * (mood @ self.topics.T), 0.9)
        truth[:, self.first : self.first + self.general] = rng.random((count, self.general)) < rate
        return with_parents(truth, list(self.parents.items()))

    def embed(self, truth: np.ndarray, twins: np.ndarray) -> np.ndarray:
        """What a network would see of them, float32 (n, d)."""
        rng, d = self.rng, self.d
        signal = (truth * rng.lognormal(0, 0.25, truth.shape) * self.power) @ self.direction
        noise = share_truth((rng.normal(size=(len(truth), d)) * self.spectrum) @ self.rotation / np.sqrt(d) * 5, twins)
        own = (rng.normal(size=(len(truth), d)) * self.spectrum) @ self.rotation / np.sqrt(d)
        size = np.where(np.bincount(twins)[twins] > 1, rng.uniform(0.3, 1.5, len(truth)), 0.0)
        return (self.mean + share_truth(signal, twins) + noise + own * size[:, None]).astype(np.float32)


def lookalikes(seed: int, n: int = 4000, harder: Harder = PLAIN) -> Library:
    """Pictures as sums of directions; see the module. About 200 tags, 14 a picture."""
    rng = np.random.default_rng([1, seed])
    world = Scenes(rng, harder)
    twins = with_twins(n, 0.15, rng)
    truth = share_truth(world.draw(n), twins)
    matrix = world.embed(truth, twins)
    odds = np.where(np.arange(len(world.tags)) >= world.first - 23, 0.75, 0.4)
    known = np.flatnonzero(rng.random(len(odds)) < odds)
    others = world.draw(3 * n)
    made = tagger_head(world.embed(others, np.arange(3 * n)), others, known, rng)
    series = list(range(world.series))
    alike = {k: k ^ 1 for k in series}
    given = plant(truth, series, world.exclusive, rng, 0.02, lookalike=alike)
    characters = [(world.series + k, int(world.of_series[k])) for k in range(world.characters // 2)]
    implied = [*sorted(world.parents.items()), *characters] if harder.parents else []
    return Library(world.tags, truth, with_parents(given, implied), matrix, made, implied)


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


class Regions:
    """The world of `regions`: `count` things and 14 sagas in a space of 24 numbers, seen as d = 512."""

    d, count, latent, hidden, sagas = 512, 140, 24, 400, 14

    def __init__(self, rng: np.random.Generator, harder: Harder) -> None:
        count, latent, hidden = self.count, self.latent, self.hidden
        self.rng, self.harder = rng, harder
        self.franchise = rng.normal(size=(self.sagas, latent)) * 1.1
        self.network = [
            rng.normal(size=(latent, hidden)) / np.sqrt(latent),
            rng.normal(size=(hidden, self.d)) / np.sqrt(hidden),
        ]
        self.shift = rng.normal(size=hidden)
        self.things = slice(self.sagas, self.sagas + count)
        self.kinds = [list(range(14 + k, 14 + count, 20)) for k in range(8)] if harder.parents else []
        self.tags = [f"series:saga {k}" for k in range(self.sagas)] + [f"thing {k}" for k in range(count)]
        self.tags += [f"kind {k}" for k in range(len(self.kinds))] + (["series:saga 1, part 2"] if harder.part else [])
        self.implied = [(child, 14 + count + k) for k, members in enumerate(self.kinds) for child in members]
        self.slope = rng.normal(size=(count, latent)) * (rng.random((count, latent)) < 0.35)
        self.bend = rng.normal(size=(count, latent)) * (rng.random((count, latent)) < 0.15)
        self.share = np.maximum(zipf(count, 0.4, 0.8), 0.006)
        self.blur = rng.gamma(2, 0.08, count) * np.where(rng.random(count) < 0.1, 12, 1)

    def draw(self, twins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(the true tags, bool (n, T); the embeddings, float32 (n, d); how far each thing is from its border, (n, count))."""
        rng, rows = self.rng, len(twins)
        spot = share_truth(rng.normal(size=(rows, self.latent)), twins)
        home = share_truth(rng.integers(0, 20, rows), twins)
        inside, also = home < 14, home
        if self.harder.crossovers:
            both = share_truth(rng.random(rows), twins) < self.harder.crossovers
            also = np.where(both & inside, share_truth((home + rng.choice([1, 3, 4], rows)) % 14, twins), home)
        crossing = (also != home)[:, None]
        where = self.franchise[np.minimum(home, 13)] + np.where(crossing, 1.0, 0.0) * self.franchise[also % 14]
        spot[inside] = 0.75 * spot[inside] + where[inside] / np.where(crossing, 1.2, 1.0)[inside]
        margin = spot @ self.slope.T + (spot**2 - 1) @ self.bend.T * 0.7
        margin /= margin.std(axis=0) + 1e-9
        margin += share_truth(rng.normal(size=(rows, self.count)), twins) * self.blur
        margin -= [np.quantile(margin[:, t], 1 - share) for t, share in enumerate(self.share)]
        truth = np.zeros((rows, len(self.tags)), dtype=bool)
        truth[np.flatnonzero(inside), home[inside]] = truth[np.flatnonzero(inside), also[inside]] = True
        truth[:, self.things] = margin > 0
        if self.harder.part:
            truth[:, -1] = truth[:, 1] & (spot[:, 0] > self.franchise[1, 0])
        seen = np.maximum(spot @ self.network[0] + self.shift, 0) @ self.network[1]
        seen = seen + share_truth(rng.normal(size=(rows, self.d)), twins) * 0.55
        seen = seen + rng.normal(size=(rows, self.d)) * 0.06
        return with_parents(truth, self.implied), seen.astype(np.float32), margin


def regions(seed: int, n: int = 4000, harder: Harder = PLAIN) -> Library:
    """Tags as regions of a 24-dimensional space behind a random two-layer network; errors gather at the borders."""
    rng = np.random.default_rng([2, seed])
    world = Regions(rng, harder)
    twins = with_twins(n, 0.12, rng)
    truth, matrix, margin = world.draw(twins)
    known = np.flatnonzero(rng.random(len(world.tags)) < 0.5)
    other_truth, other_matrix, _ = world.draw(np.arange(3 * n))
    made = tagger_head(other_matrix, other_truth, known, rng)
    hardness = np.ones(truth.shape)
    hardness[:, world.things] = 0.6 + 1.8 * np.exp(-np.abs(margin) / 0.25)
    series = list(range(world.sagas))
    given = plant(truth, series, [], rng, 0.0, hardness)
    late = 14 + rng.choice(world.count, world.count // 20, replace=False)
    before = np.arange(n) < n // 2
    given[np.ix_(before, late)] &= rng.random((before.sum(), len(late))) < 0.3
    return Library(world.tags, truth, with_parents(given, world.implied), matrix, made, world.implied)


NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COUNTS = ("one digit", "two digits", "three digits", "four digits")
LOOKS = {"inverted": 0.2, "framed": 0.15, "faint": 0.12, "dotted": 0.08, "slanted line": 0.04}
KINDS = {"prime": (2, 3, 5, 7), "even": (0, 2, 4, 6, 8)}


class Digits:
    """The world of `digits`: what can be said of a canvas, and fixed convolutions to see it through."""

    def __init__(self, rng: np.random.Generator, harder: Harder) -> None:
        from sklearn.datasets import load_digits

        self.rng, self.harder = rng, harder
        pictures, self.labels = load_digits(return_X_y=True)
        self.pictures = pictures.reshape(-1, 8, 8) / 16.0
        self.tags = [f"series:{name}" for name in NAMES] + [f"has {name}" for name in NAMES]
        self.tags += [
            "even",
            "prime",
            "round shapes",
            *COUNTS[1:],
            COUNTS[0],
            *LOOKS,
            "repeated digit",
            "left half empty",
        ]
        self.tags += ["bottom half empty", "sum over ten", "written by a left hand"]
        self.tags += ["series:nine, inverted"] if harder.part else []
        self.at = {tag: place for place, tag in enumerate(self.tags)}
        self.filters = rng.normal(size=(128, 5, 5))
        self.filters -= self.filters.mean(axis=(1, 2), keepdims=True)

    def draw(self, rows: int, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the true tags, bool (rows, T); canvases (rows, 20, 20), 0 to 1) of digits in the `pool`."""
        rng = self.rng
        truth, canvas = np.zeros((rows, len(self.tags)), dtype=bool), np.zeros((rows, 20, 20))
        for i in range(rows):
            number = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1]))
            spots = rng.permutation(4)[:number] if number > 1 or rng.random() < 0.4 else np.array([0])
            chosen = rng.choice(pool, number)
            for spot, one in zip(sorted(spots), chosen):
                y, x = 1 + 10 * (spot // 2) + rng.integers(0, 2), 1 + 10 * (spot % 2) + rng.integers(0, 2)
                canvas[i, y : y + 8, x : x + 8] = np.maximum(canvas[i, y : y + 8, x : x + 8], self.pictures[one])
            on = self.said(self.labels[chosen], spots)
            for look, odds in LOOKS.items():
                if rng.random() < odds:
                    on.append(look)
                    canvas[i] = _look(canvas[i], look, rng)
            if self.harder.part and {"series:nine", "inverted"} <= set(on):
                on.append("series:nine, inverted")
            truth[i, [self.at[tag] for tag in on]] = True
        return truth, canvas

    def said(self, values: np.ndarray, spots: np.ndarray) -> list[str]:
        """The tags of digits of these values at these places."""
        rng, number = self.rng, len(values)
        on = [f"series:{NAMES[values[0]]}", *(f"has {NAMES[v]}" for v in values), COUNTS[number - 1]]
        if self.harder.crossovers and number > 1 and rng.random() < self.harder.crossovers / 0.65:
            on.append(f"series:{NAMES[values[1]]}")
        true = {
            "even": np.isin(values, KINDS["even"]).any(),
            "prime": np.isin(values, KINDS["prime"]).any(),
            "round shapes": np.isin(values, [0, 6, 8, 9]).any(),
            "repeated digit": len(set(values)) < number,
            "sum over ten": values.sum() > 10,
            "left half empty": not (spots % 2 == 0).any(),
            "bottom half empty": not (spots > 1).any(),
            "written by a left hand": rng.random() < 0.1,
        }
        return on + [tag for tag, yes in true.items() if yes]

    def embed(self, canvas: np.ndarray) -> np.ndarray:
        """The convolutions of the canvases, rectified and pooled, float32 (n, 512)."""
        padded = np.pad(canvas, ((0, 0), (2, 2), (2, 2)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
        out = []
        for start in range(0, len(canvas), 500):
            seen = np.einsum("nyxab,kab->nkyx", windows[start : start + 500], self.filters, optimize=True)
            part = np.maximum(seen - 0.5, 0).reshape(len(seen), len(self.filters), 2, 10, 2, 10)
            out.append(part.mean(axis=(3, 5)).reshape(len(part), -1))
        return np.concatenate(out).astype(np.float32)


def digits(seed: int, n: int = 4000, harder: Harder = PLAIN) -> Library:
    """Handwritten digits of many hands, up to four on a canvas of 24 x 24 pixels.

    `series:` names the first digit, and the other tags are which digits are there, what follows from
    them (even, prime, many), how the canvas looks (inverted, framed, faint, dotted) and where things
    stand. Embeddings are random 5 x 5 convolutions, rectified and pooled, then centred; Coates and Ng
    2011 found such features good enough to tell digits apart.
    """
    rng = np.random.default_rng([3, seed])
    world = Digits(rng, harder)
    twins = with_twins(n, 0.12, rng)
    order = rng.permutation(len(world.pictures))
    truth, canvas = (share_truth(values, twins) for values in world.draw(n, order[:1200]))
    canvas = np.clip(canvas + rng.normal(size=canvas.shape) * 0.03, 0, 1)
    other_truth, other_canvas = world.draw(n, order[1200:])
    known = np.flatnonzero(rng.random(len(world.tags)) < 0.5)
    made = tagger_head(world.embed(other_canvas), other_truth, known, rng)
    series, count = list(range(10)), [world.at[tag] for tag in COUNTS]
    alike = {3: 8, 8: 3, 1: 7, 7: 1, 4: 9, 9: 4, 5: 6, 6: 5}
    given = plant(truth, series, [count], rng, 0.03, lookalike=alike)
    implied = [(world.at[f"has {NAMES[v]}"], world.at[kind]) for kind, values in KINDS.items() for v in values]
    implied = implied if harder.parents else []
    return Library(world.tags, truth, with_parents(given, implied), world.embed(canvas), made, implied)


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


FAMILIES: dict[str, Callable[..., Library]] = {"lookalikes": lookalikes, "regions": regions, "digits": digits}
