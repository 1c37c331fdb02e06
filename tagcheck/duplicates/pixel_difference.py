"""Whether two pictures show the same pixels, cropped, mirrored or recoloured maybe: told by their thumbnails (`pictures/thumbnails.py`).

Two of these are laid over each other (Lucas and Kanade 1981, with a scale and a shift for each axis, and a gain and an
offset of brightness), the second also mirrored, and what then still differs is measured. Numbers only, no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np

from tagcheck.pictures.thumbnails import COARSE, SIDE

BLOCK = 256  # pairs compared at a time, as many as a processor's cache holds
STARTED = 8192  # pairs of which starts are looked for at a time
UNLIKE = 0.6  # of a picture's variation, left at the best start: of 2,735 changed pictures none was beyond .4
APART = np.array([1, 255, 255, 1], np.float32)  # two pictures that are not laid over each other
ROUGH, FINE = ((16, 0.5, 3),), ((32, 0.5, 3), (32, 0.0, 2))  # side, blur in its pixels, steps made at it
# How far one picture may be of the other's: scale and shift of x and of y, gain and offset.
LEAST = np.array([0.8, -0.2, 0.8, -0.2, 0.6, -60], np.float32)
MOST = np.array([1.25, 0.2, 1.25, 0.2, 1.6, 60], np.float32)
SCALES = (1.0, 0.92, 1.08, 0.85, 1.17)  # what a fit may set out from
LOOK = (16, 0.7)  # the side and the blur with which the best of these is looked for
FAINTEST = 0.5  # of its contrast that a picture keeps, however its tone was changed
SOFT, FINE_SOFT = 2.0, 0.5  # grey levels that any two encodings differ by, and that their contrast does


def differences(thumbnails: np.ndarray, i: np.ndarray, j: np.ndarray, unlike: float = UNLIKE) -> np.ndarray:
    """How rows i and j of uint8 (n, BYTES) differ once laid over each other, whichever is named first, float32 (m, 4).

    The columns, each 0 for the same picture: what of the brightness's variation is left (0 to 1), the largest difference
    of a patch, that of a colour patch (both in grey levels), and how much of the frame is not shared (0 to 1).

    Pictures of the same thumbnail are compared once for all of them. Of two of which more than `unlike` of the variation is left
    wherever a fit could set out from, nothing else is looked at: they are `APART`.
    """
    whole = np.ascontiguousarray(thumbnails).view(np.dtype((np.void, thumbnails.shape[1])))[:, 0]
    _, first_of, picture = np.unique(whole, return_index=True, return_inverse=True)
    numbers, pair = np.unique(picture[i] * len(first_of) + picture[j], return_inverse=True)
    i, j = (first_of[side] for side in np.divmod(numbers, max(len(first_of), 1)))
    found = np.tile(APART, (len(numbers), 1))
    for first in range(0, len(numbers), STARTED):
        some = slice(first, first + STARTED)
        at, left = _best_starts(thumbnails, i[some], j[some])
        tried = np.flatnonzero((left <= unlike).any(axis=0))
        for start in range(0, len(tried), BLOCK):
            places = tried[start : start + BLOCK]
            one, other = (thumbnails[rows[some][places]] for rows in (i, j))
            found[first + places] = _compared(one, other, at[:, places], left[:, places] <= unlike)
    return found[pair]


def _compared(one: np.ndarray, other: np.ndarray, at: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """`differences` of pairs of thumbnails (m, BYTES), from the places and tones `at` (2, m, 6) of the second and of the second
    mirrored, of those of the two that are `tried` (2, m).
    """
    luma, colour = _parts(one)
    luma_b, colour_b = _parts(other)
    left = np.full(tried.shape, np.inf)
    for side, second in enumerate((luma_b, luma_b[..., ::-1])):
        if len(some := np.flatnonzero(tried[side])):
            fit = _Fit(luma[some], second[some], at[side, some])
            left[side, some] = fit.improve(ROUGH)
            at[side, some] = fit.at
    mirrored = left[1] < left[0]
    luma_b = np.where(mirrored[:, None, None], luma_b[..., ::-1], luma_b)
    colour_b = np.where(mirrored[:, None, None, None], colour_b[..., ::-1], colour_b)
    best = np.where(mirrored[:, None], at[1], at[0])
    # Which of two pictures is named first says nothing: the one that shows more is laid under the other.
    swapped = best[:, 0] * best[:, 2] < 1
    luma, luma_b = _swapped(luma, luma_b, swapped)
    colour, colour_b = _swapped(colour, colour_b, swapped)
    scale, shift = best[:, ::2], best[:, 1::2]
    turned = np.clip(np.stack([1 / scale, -shift / scale], axis=2).reshape(best.shape), LEAST, MOST)
    fit = _Fit(luma, luma_b, np.where(swapped[:, None], turned, best))
    fit.improve(FINE)
    return _left(colour, colour_b, fit)


def _swapped(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    where = where.reshape(-1, *[1] * (one.ndim - 1))
    return np.where(where, other, one), np.where(where, one, other)


def _parts(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brightness (m, S, S) and colour differences (m, 2, C, C) as float32."""
    luma = rows[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE).astype(np.float32)
    return luma, rows[:, SIDE * SIDE :].reshape(-1, 2, COARSE, COARSE).astype(np.float32) - 128


class _Fit:
    """Where and in what tone `second` lies over `first`, (m, S, S) each.

    `at` (m, 6) are the scale and the shift of x, then of y, the frame being -1 to 1, then gain and offset.
    """

    def __init__(self, first: np.ndarray, second: np.ndarray, at: np.ndarray) -> None:
        self.first, self.second, self.at = first, second, at

    def improve(self, stages: Sequence[tuple[int, float, int]]) -> np.ndarray:
        """Make the steps of Gauss and Newton that the stages say; one that makes it worse is halved. The mean square (m,) of what is
        left of the part that both have, at the last side.
        """
        for side, blur, steps in stages:
            first, second = (_averaged(one, side, blur) for one in (self.first, self.second))
            across, down = np.gradient(second, 2 / side, axis=2), np.gradient(second, 2 / side, axis=1)
            tried, least = self.at, np.full(len(first), np.inf, np.float32)
            for _ in range(steps + 1):
                rest, change = _step(first, second, across, down, tried)
                better = rest < least
                least = np.where(better, rest, least)
                self.at = np.where(better[:, None], tried, self.at)
                tried = np.where(better[:, None], np.clip(tried + change, LEAST, MOST), (tried + self.at) / 2)
        return least

    def toned(self, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(what is left of `first` once its tone is a curve of the second's and its colours (m, 2, S, S), which places both have,
        the second as it lies over the first), (m, S, S) each.

        Stronger colours and more light are cut off at white, which a gain alone does not say.
        """
        rows, columns, seen = _laid(self.at, SIDE)
        over = _warped(self.second, rows, columns)
        warped = over / 128 - 1
        parts = np.stack([np.ones_like(warped), warped, warped**2, colour[:, 0] / 128, colour[:, 1] / 128], axis=1)
        flat = (parts * seen[:, None]).reshape(len(parts), 5, -1)
        wanted = (self.first / 128 - 1) * seen
        normal = flat @ flat.transpose(0, 2, 1) + np.diag(np.array([0.1, 0.1, 4, 4, 4], np.float32))
        start = np.zeros((len(parts), 5, 1), np.float32)
        start[:, 1] = 1
        rest = wanted.reshape(len(parts), -1, 1) - flat.transpose(0, 2, 1) @ start
        weights = start + np.linalg.solve(normal, flat @ rest)
        left = wanted.reshape(len(parts), -1, 1) - flat.transpose(0, 2, 1) @ weights
        return 128 * left.reshape(self.first.shape), seen, over


def _best_starts(thumbnails: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(places and tones (2, m, 6) at which j lies best over i, itself and mirrored; the share (2, m) of i's variation that is left
    there), of a few scales and shifts: from the same size alone a crop is led to another place.
    """
    used, place = np.unique(np.concatenate([i, j]), return_inverse=True)
    i, j = place.reshape(2, -1)
    small = _averaged(_parts(thumbnails[used])[0], *LOOK)
    both_ways = [one.reshape(len(used), -1) for one in (small, small[..., ::-1])]
    at = np.tile(np.array([1, 0, 1, 0, 1, 0], np.float32), (2, len(i), 1))
    least, left = np.full((2, 2, len(i)), np.inf, np.float32)
    for start, weights, seen in _starts():
        first = both_ways[0][:, seen]
        first -= first.mean(axis=1, keepdims=True)
        own = np.einsum("np,np->n", first, first)[i]
        for side, second in enumerate(both_ways):
            other = second @ weights
            its, both = np.einsum("np,np->n", other, other)[j], np.einsum("mp,mp->m", first[i], other[j])
            rest = (own - np.maximum(both, 0) ** 2 / np.maximum(its, 1e-3)) / seen.sum()
            better = rest < least[side]
            least[side][better], at[side][better, :4] = rest[better], start
            left[side][better] = (rest / (own / seen.sum() + SOFT**2))[better]
    return at, left


@cache
def _starts() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What `_best_starts` looks at: places (4,), what a picture (256,) is multiplied by to lie there, less its mean (256, k), and which
    places both have (256,).
    """
    found = []
    for scale in SCALES:
        room = abs(1 - scale) / 2
        for x, y in product((0, -room, room), repeat=2) if room else ((0, 0),):
            place = np.array([scale, x, scale, y], np.float32)
            rows, columns, seen = _laid(place[None], LOOK[0])
            there = seen[0].ravel() > 0
            weights = np.kron(rows[0], columns[0])[there]
            found.append((place, np.ascontiguousarray((weights - weights.mean(axis=0)).T), there))
    return found


def _variance(picture: np.ndarray, seen: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The variance (m,) of pictures (m, S, S) over the places that are `seen`, `count` (m,) of them."""
    mean = (picture * seen).sum(axis=(1, 2)) / count
    return np.asarray((((picture - mean[:, None, None]) * seen) ** 2).sum(axis=(1, 2)) / count)


def _grid(side: int) -> np.ndarray:
    return (np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1


@cache
def _reading(side: int, width: float, of: int) -> np.ndarray:
    """(side, of): rows that average `of` places to `side` ones, each over a Gaussian of `width` of these."""
    at, places = (np.arange(of) + 0.5) * side / of, np.arange(side) + 0.5
    apart = np.abs(places[:, None] - at)
    rows = (apart < 0.5).astype(np.float64) if not width else np.exp(-0.5 * (apart / width) ** 2)
    return np.asarray((rows / rows.sum(axis=1, keepdims=True)).astype(np.float32))


def _averaged(pictures: np.ndarray, side: int, width: float) -> np.ndarray:
    """Pictures (..., S, S) at `side` places a side, each averaged over a Gaussian of `width` of these."""
    kernel = _reading(side, width, pictures.shape[-1])
    return np.asarray(kernel @ pictures @ kernel.T)


def _sampling(scale: np.ndarray, shift: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (m, side, side) that read each place of one axis out of the other picture, and which places it has (m, side)."""
    at = ((scale[:, None] * _grid(side) + shift[:, None]) + 1) * side / 2 - 0.5
    weights = np.maximum(0, 1 - np.abs(np.clip(at, 0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32)))
    # What lies beyond the edge is no picture: one row of it, taken for seen, leads a crop with a frame astray.
    return weights, (at > -0.25) & (at < side - 0.75)


def _laid(at: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights of rows and of columns (m, side, side) by which the second lies over the first, and which places both have, 0/1."""
    columns, there_x = _sampling(at[:, 0], at[:, 1], side)
    rows, there_y = _sampling(at[:, 2], at[:, 3], side)
    return rows, columns, (there_y[:, :, None] & there_x[:, None, :]).astype(np.float32)


def _warped(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.asarray(rows @ picture @ columns.transpose(0, 2, 1))


def _step(
    first: np.ndarray, second: np.ndarray, across: np.ndarray, down: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(the mean square of what is left at this place and tone (m,), the step towards where `second` is most like `first` (m, 6))."""
    m, side = first.shape[:2]
    rows, columns, seen = _laid(at, side)
    warped, slope_x, slope_y = (_warped(one, rows, columns) * seen for one in (second, across, down))
    gain = at[:, 4, None, None]
    x, y = _grid(side)[None, None, :], _grid(side)[None, :, None]
    slopes = np.empty((m, 6, side, side), np.float32)
    slopes[:, 1], slopes[:, 3], slopes[:, 4], slopes[:, 5] = gain * slope_x, gain * slope_y, warped, seen
    slopes[:, 0], slopes[:, 2] = slopes[:, 1] * x, slopes[:, 3] * y
    rest = first * seen - gain * warped - at[:, 5, None, None] * seen
    flat = slopes.reshape(m, 6, -1)
    normal = flat @ flat.transpose(0, 2, 1)
    scale = np.einsum("mkk->mk", normal)
    damping = 0.01 * scale + 1e-3 * scale.max(axis=1, keepdims=True) + 1e-3
    change = np.linalg.solve(normal + np.eye(6, dtype=np.float32) * damping[:, None], flat @ rest.reshape(m, -1, 1))
    return (rest**2).sum(axis=(1, 2)) / np.maximum(seen.sum(axis=(1, 2)), 1), change[:, :, 0]


def _left(colour: np.ndarray, colour_b: np.ndarray, fit: _Fit) -> np.ndarray:
    """The four differences that are left, of pictures blurred a little, since no two grids of pixels fall the same."""
    fit.first, fit.second = (_averaged(one, SIDE, 0.5) for one in (fit.first, fit.second))
    colour, colour_b = (_averaged(one, COARSE, 0.7) for one in (colour, colour_b))
    rows, columns, _ = _laid(fit.at, COARSE)
    other = rows[:, None] @ colour_b @ columns.transpose(0, 2, 1)[:, None]
    rest, seen, over = fit.toned(np.repeat(np.repeat(other, SIDE // COARSE, axis=2), SIDE // COARSE, axis=3))
    count = np.maximum(seen.sum(axis=(1, 2)), 1)
    spread, its = (_variance(one, seen, count) for one in (fit.first, over))
    left = np.sqrt((rest**2).sum(axis=(1, 2)) / count / (spread + SOFT**2))
    # A flat picture is a tone of any other: what contrast it has lost beyond what a change of tone takes is left, too.
    lost = FAINTEST * np.sqrt(its) - np.sqrt(spread) - FINE_SOFT
    left = np.maximum(left, lost / (FAINTEST * np.sqrt(its) + FINE_SOFT))
    patches = rest.reshape(len(rest), SIDE // 4, 4, SIDE // 4, 4).mean(axis=(2, 4))
    strength = (other * colour).sum(axis=(1, 2, 3)) / ((other**2).sum(axis=(1, 2, 3)) + 64)
    tint = np.sqrt(((colour - np.clip(strength, 0.5, 1.6)[:, None, None, None] * other) ** 2).mean(axis=(1, 2, 3)))
    found = [np.minimum(left, 1), np.abs(patches).max(axis=(1, 2)), tint, 1 - count / SIDE**2]
    return np.stack(found, axis=1).astype(np.float32)
