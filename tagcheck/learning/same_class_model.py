"""Probabilistic linear discriminant analysis: which class is a vector of, or is it of none that is known?

The model. A class has a mean drawn from N(mu, B); a picture of that class is drawn from N(class mean, W). With W = P^-T
P^-1 and B diagonal in the same basis, everything factorises over the r columns of P. A class of which n pictures are
known has a mean that is known up to a variance b / (n b + 1) in each direction, and so predicts N(m, 1 + b / (n b +
1)); a class that is not known at all predicts N(0, 1 + b). The log of the ratio of the two is the score: it needs no
training beyond sums, is honest about classes of one or two pictures, and says by itself when a vector looks like no
known class. Ioffe, "Probabilistic Linear Discriminant Analysis", ECCV 2006; the shrinkage of covariances is OAS: Chen,
Wiesel, Eldar and Hero, IEEE Trans. Signal Processing 58, 2010.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg

SMALLEST_BETWEEN = 1e-3  # of the variance within a class: a direction that separates nothing
SATURATION = 20.0  # pictures after which a class's mean counts (nearly) in full for mu and B
MAX_DIRECTIONS = 384  # those with the largest b; what is left out separates least


@dataclass(frozen=True)
class Plda:
    """A fitted model of C classes in d dimensions, r of them kept.

    `centre` (d,) and `basis` (d, r) take an embedding x to z = (x - centre) @ basis, where the variance within a class
    is 1. `between` (r,) is b, falling. `means` (C, r) and `variances` (C, r) are each class's predictive Gaussian,
    float32. `counts` (C,) how many pictures it stands on; a class of count 0 is not known and scores -inf.
    """

    centre: np.ndarray
    basis: np.ndarray
    between: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    counts: np.ndarray

    def project(self, matrix: np.ndarray) -> np.ndarray:
        """z (m, r) float32 of embeddings (m, d)."""
        return np.asarray((np.asarray(matrix, dtype=np.float32) - self.centre) @ self.basis)

    def scores(self, z: np.ndarray) -> np.ndarray:
        """log p(z | class) - log p(z | a class that is not known), (m, C) float32; higher means more like it.

        -inf for classes of count 0.
        """
        precision = 1.0 / self.variances
        constant = (self.means**2 * precision + np.log(self.variances)).sum(axis=1)
        unknown = 1.0 / (1.0 + self.between)
        out = z @ (self.means * precision).T
        out -= 0.5 * ((z * z) @ precision.T + constant)
        out += 0.5 * ((z * z) @ unknown + np.log1p(self.between).sum())[:, None]
        out[:, self.counts <= 0] = -np.inf
        return out

    def typicality(self, z: np.ndarray) -> np.ndarray:
        """Squared length of z under the spread of all classes, per direction: (m,), near 1 for an ordinary picture."""
        return np.asarray((z * z) @ (1.0 / (1.0 + self.between)) / max(1, z.shape[1]))


def fit_plda(
    mean: np.ndarray, gram: np.ndarray, class_sums: np.ndarray, counts: np.ndarray, rounding: float = 0.0
) -> Plda:
    """The model of n vectors in C classes from their sums.

    `mean` (d,) of all vectors; `gram` (d, d) their centred Gram matrix; `class_sums` (C, d) sums of
    centred vectors by class; `counts` (C,) vectors in each class (shares are allowed where a vector
    belongs to several). A variance that `gram` gives is right to `rounding`. Raises ValueError with fewer than two classes.
    """
    counts = np.asarray(counts, dtype=np.float64)
    known = counts > 0
    if known.sum() < 2:
        raise ValueError("fewer than two classes")
    means = class_sums[known] / counts[known, None]
    freedom = max(1.0, counts.sum() - known.sum())
    within = (gram - (means.T * counts[known]) @ means) / freedom
    within = _shrunk(within, freedom, np.trace(gram) / len(gram) / counts.sum(), rounding)
    # Any square root of the inverse will do, since the rotation follows: the triangular one is the cheapest.
    root = linalg.cholesky(within, lower=True, check_finite=False)
    whitening = linalg.solve_triangular(root, np.eye(len(root)), lower=True, trans="T", check_finite=False)

    # mu and B from the class means: a mean of few pictures carries its own sampling noise 1/n.
    weight = counts[known] / (counts[known] + SATURATION)
    weight /= weight.sum()
    white = means @ whitening
    mu = weight @ white
    spread = (white - mu).T * weight @ (white - mu)
    spread[np.diag_indices_from(spread)] -= (weight / counts[known]).sum()
    between, rotation = np.linalg.eigh(_shrunk(spread, int(known.sum())))
    order = np.argsort(-between, kind="stable")[:MAX_DIRECTIONS]
    between = np.maximum(between[order], SMALLEST_BETWEEN)
    basis = whitening @ rotation[:, order]

    drawn = counts[:, None] * between
    centre = mean + root @ mu
    projected = np.zeros((len(counts), len(between)))
    projected[known] = (means + mean - centre) @ basis
    return Plda(
        centre.astype(np.float32),
        basis.astype(np.float32),
        between.astype(np.float32),
        (projected * drawn / (drawn + 1.0)).astype(np.float32),
        (1.0 + between / (drawn + 1.0)).astype(np.float32),
        counts,
    )


def _shrunk(covariance: np.ndarray, samples: float, floor: float = 0.0, least: float = 0.0) -> np.ndarray:
    """A covariance (d, d) of `samples` vectors drawn toward a multiple of the identity by the OAS rule.

    The multiple is at least `floor`, and what is added at least `least`, so that what has no spread at all still can be inverted.
    """
    size = len(covariance)
    trace, square = np.trace(covariance), (covariance * covariance).sum()
    over = (1.0 - 2.0 / size) * square + trace * trace
    under = (samples + 1.0 - 2.0 / size) * (square - trace * trace / size)
    rate = 1.0 if under <= 0 else float(np.clip(over / under, 0.0, 1.0))
    level = max(trace / size, floor, np.finfo(np.float32).tiny)
    out = (1.0 - rate) * covariance
    out[np.diag_indices(size)] += max(max(rate, 1e-4) * level, least)
    return out
