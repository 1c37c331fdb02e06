"""From which cosine on two pictures count as copies, told by pairs that the owner has judged."""

import numpy as np

THRESHOLDS = np.r_[0.01:0.9:0.01, 0.9:0.99:0.005, 0.99:1.0001:0.001].round(4)


def copy_chance(cosine: np.ndarray, known_cosine: np.ndarray, known_copy: np.ndarray) -> np.ndarray:
    """The chance (m,), 0 to 1, that pairs of a `cosine` are copies of one picture, told by judged pairs.

    It never falls with the cosine. `known_cosine`, `known_copy` (k,) are the judged pairs. They need
    not be drawn evenly over the cosines, but at one cosine they have to be like the others there.
    """
    from scipy import optimize  # here, since loading it takes a quarter of a second and only --calibrate needs it

    at, place, count = np.unique(known_cosine, return_inverse=True, return_counts=True)
    share = np.bincount(place, known_copy) / count
    return np.asarray(np.interp(cosine, at, optimize.isotonic_regression(share, weights=count).x))


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
