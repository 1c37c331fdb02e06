"""Every beginning of the order is a sample: each page and series early, time evenly, and the same however pictures come in."""

from __future__ import annotations

import random

import numpy as np

from tagcheck.spread import Placed, spread_order


def library(n: int = 4000, seed: int = 0) -> list[Placed]:
    """Pictures on one large page and thirty small ones, of forty series of very different sizes."""
    rng = random.Random(seed)
    return [
        Placed(
            f"{row:064x}",
            ("large",) if rng.random() < 0.9 else (f"small {rng.randrange(30)}",),
            () if rng.random() < 0.5 else (f"series:{int(40 * rng.random() ** 4)}",),
            float(row),
        )
        for row in range(n)
    ]


def test_every_page_and_every_series_is_in_a_small_beginning():
    pictures = library()
    first = [pictures[place] for place in spread_order(pictures)[:160]]
    assert {page for one in first for page in one.pages} == {page for one in pictures for page in one.pages}
    assert {name for one in first for name in one.series} == {name for one in pictures for name in one.series}


def test_a_beginning_has_the_shares_of_the_whole():
    pictures = library()
    first = [pictures[place] for place in spread_order(pictures)[:800]]
    for share in (lambda one: one.pages == ("large",), lambda one: not one.series, lambda one: one.time < 1000):
        assert abs(np.mean([share(one) for one in first]) - np.mean([share(one) for one in pictures])) < 0.06


def test_the_order_holds_all_once_and_is_the_same_however_pictures_come_in():
    pictures = library(700)
    order = [pictures[place] for place in spread_order(pictures)]
    shuffled = random.Random(1).sample(pictures, len(pictures))
    assert len(set(order)) == len(pictures) == len(order)
    assert [shuffled[place] for place in spread_order(shuffled)] == order


def test_no_pictures_have_an_order_too():
    assert spread_order([]) == [] and spread_order([Placed("a")]) == [0]
