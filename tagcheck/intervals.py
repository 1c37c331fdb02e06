"""Intervals of a share that was measured on a few: Wilson's to show, Clopper and Pearson's bound to state what holds at least."""

import math


def wilson(right: int, of: int) -> tuple[float, float]:
    """The interval (0 to 1) that holds a share with a confidence of 95 %, given `right` of `of`; (0, 1) without any. Wilson 1927.

    >>> tuple(round(edge, 2) for edge in wilson(8, 10)), wilson(0, 0)
    ((0.49, 0.94), (0.0, 1.0))
    """
    if not of:
        return 0.0, 1.0
    share, z = right / of, 1.96
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def at_least(right: int, of: int, certainty: float = 0.95) -> float:
    """The share (0 to 1) that the truth is not below, with this certainty, given `right` of `of` drawn at random. Clopper and
    Pearson 1934, one-sided: the share at which so many right ones or more would come with a chance of 1 - certainty.

    >>> round(at_least(20, 20), 3), round(at_least(19, 20), 3), at_least(0, 20)
    (0.861, 0.784, 0.0)
    """
    if right <= 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        chance = sum(math.comb(of, k) * middle**k * (1 - middle) ** (of - k) for k in range(right, of + 1))
        low, high = (middle, high) if chance < 1 - certainty else (low, middle)
    return low
