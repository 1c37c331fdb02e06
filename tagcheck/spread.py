"""An order of pictures of which every beginning is a sample of all: spread over pages, series and time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np


@dataclass(frozen=True)
class Placed:
    """Where one picture stands: its pages and series by name, when it was imported (seconds), and its hash."""

    hash: str
    pages: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    time: float = 0.0


def spread_order(pictures: Sequence[Placed]) -> list[int]:
    """The places of `pictures` in an order of which every beginning is spread; the same whatever order they come in.

    By turns one picture that brings a page or a series not seen yet, while there is one, and one of an even sample:
    pictures sorted by page, series and time are taken at places as far apart as possible (van der Corput's sequence).

    >>> spread_order([Placed("a", ("p",)), Placed("b", ("p",)), Placed("c", ("p",)), Placed("d", ("q",))])
    [0, 3, 2, 1]
    """
    along = [(one.pages[:1], one.series[:1], one.time, one.hash) for one in pictures]
    ranked = sorted(range(len(pictures)), key=along.__getitem__)
    even = [ranked[place] for place in _far_apart(len(pictures)).tolist()]
    taken = zip_longest(_newcomers(pictures, even), even)
    return list(dict.fromkeys(place for both in taken for place in both if place is not None))


def _newcomers(pictures: Sequence[Placed], order: Sequence[int]) -> Iterator[int]:
    """Those of `order` that are on a page or of a series that none before them was."""
    seen: set[tuple[str, str]] = set()
    for place in order:
        of = {("page", name) for name in pictures[place].pages} | {("series", name) for name in pictures[place].series}
        if not of <= seen:
            seen |= of
            yield place


def _far_apart(n: int) -> np.ndarray:
    """0 to n - 1 by their bits read backwards: every beginning lies evenly over all.

    >>> _far_apart(8).tolist()
    [0, 4, 2, 6, 1, 5, 3, 7]
    """
    bits = max(1, (n - 1).bit_length())
    place = np.arange(1 << bits)
    turned = np.zeros_like(place)
    for _ in range(bits):
        turned = turned << 1 | place & 1
        place >>= 1
    return turned[turned < n]
