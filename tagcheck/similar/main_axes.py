"""The directions along which unit rows differ most, the rows' first coordinates along these, and what bounds the rest."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from tagcheck.similar.unit_rows import BLOCK, UNIT_ROUNDOFF, Progress, Short, UnitRows

SHORT, SHORT_SAMPLE = 64, 2_000  # axes of `short_form`, and the rows that they are told by
AT_ONCE = 4
SPARE = 2.0**-15  # for what the margins' own numbers are rounded by


@dataclass(frozen=True)
class Heads:
    """The first coordinates of n unit rows along some axes, and what bounds the rest. NumPy's arrays, or PyTorch's.

    `heads` (n, k) float32, the coordinate along the rows' mean direction first; `order` (n,) in which the rows are searched;
    `nonzero` (n,) which rows have a direction; `defect` how far the axes are from orthonormal and the coordinates from exact.
    """

    heads: Any
    order: Any
    nonzero: Any
    defect: float

    def rests(self, heads: Any) -> Any:
        """Upper bounds (m,) of how long what `heads` (m, k) leave out of their unit rows can be.

        The rest after a cut at computed coordinates h has a squared length of at most
        1 - |h|^2 + 2 * (error of h) + (defect of the axes' orthonormality); both are within `defect`.
        """
        return (1 - (heads * heads).sum(1) + 3 * self.defect).clip(0) ** 0.5 * (1 + 1e-6)


def short_form(rows: UnitRows, low: float, pool: Executor) -> Short:
    """The rows cut after `SHORT` axes, each with what bounds the rest, for products of at least `low`."""
    random = np.random.default_rng(0)
    axes = principal_axes(rows, some_of(len(rows), SHORT_SAMPLE, random), SHORT, random, pool)
    cut = Heads(project(rows, axes, pool), np.arange(len(rows)), rows.scale > 0, defects(rows, axes))
    return shortened(cut, axes.shape[1], low)


def shortened(cut: Heads, width: int, low: float) -> Short:
    """The first `width` coordinates of the rows, each with what bounds the rest, for products of at least `low`. NumPy's arrays alone.

    A product is rounded by sums in float32 of terms of at most 3 in all; the axes' defect counts twice.
    """
    heads = cut.heads[:, :width]
    margin = 6 * (width + 6) * UNIT_ROUNDOFF + 4 * cut.defect + SPARE
    return Short(np.column_stack([heads, cut.rests(heads) * cut.nonzero]).astype(np.float32, copy=False), low - margin)


def principal_axes(
    rows: UnitRows, places: np.ndarray, count: int, random: np.random.Generator, pool: Executor
) -> np.ndarray:
    """Orthonormal columns (d, 1 + count) float32: the mean direction of the rows at `places`, then about their top principal axes.

    By subspace iteration (Halko, Martinsson and Tropp 2011). They need not be exact: any
    orthonormal axes give a valid bound, good ones give a tight one.
    """

    def moments(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        taken = rows.take(some)
        return taken.sum(axis=0), taken.T @ taken

    blocks = [places[start : start + BLOCK] for start in range(0, len(places), BLOCK)]
    total, scatter = np.zeros(rows.width, np.float32), np.zeros((rows.width, rows.width), np.float32)
    for start in range(0, len(blocks), AT_ONCE):  # so that the results of all blocks are never held
        for one, two in pool.map(moments, blocks[start : start + AT_ONCE]):
            total += one
            scatter += two
    mean = (total / max(float(np.linalg.norm(total)), 1e-12))[:, None]
    scatter -= mean @ (mean.T @ scatter)  # what is left of each row without its part along the mean
    scatter -= (scatter @ mean) @ mean.T
    basis = random.standard_normal((rows.width, min(count + 16, rows.width)), dtype=np.float32)
    for _ in range(3):
        basis = np.linalg.qr(scatter @ basis)[0]
    turn = np.linalg.eigh(basis.T @ scatter @ basis)[1][:, ::-1]
    axes = np.column_stack([mean, (basis @ turn)[:, :count]])
    return np.linalg.qr(axes.astype(np.float64))[0].astype(np.float32)


def project(rows: UnitRows, axes: np.ndarray, pool: Executor, progress: Progress = lambda share: None) -> np.ndarray:
    """The coordinates (n, k) of all rows along the columns of `axes` (d, k), in float32."""
    heads = np.empty((len(rows), axes.shape[1]), dtype=np.float32)
    starts = range(0, len(rows), BLOCK)

    def fill(start: int) -> None:
        np.matmul(rows.take(slice(start, start + BLOCK)), axes, out=heads[start : start + BLOCK])

    for start, _ in zip(starts, pool.map(fill, starts)):
        progress(min(1.0, (start + BLOCK) / len(rows)))
    return heads


def defects(rows: UnitRows, axes: np.ndarray) -> float:
    """How far the columns of `axes` are from orthonormal (the Frobenius norm of axes.T @ axes - 1), and the coordinates from exact."""
    wide = axes.astype(np.float64)
    defect = float(np.linalg.norm(wide.T @ wide - np.eye(wide.shape[1])))
    return defect + (rows.width + 8) * UNIT_ROUNDOFF * sqrt(axes.shape[1])


def some_of(n: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Up to `count` different places among `n`, drawn."""
    return random.permutation(n)[:count]
