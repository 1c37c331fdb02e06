"""Pairs of unit rows on a graphics card: products in half precision a block at a time, what may stay looked at in float32.

A card makes half-precision products so fast that bounding first would not pay. Rounding moved each row by a length that
is measured, the sums are in float32, and the result is rounded once: so a half-precision product is within `margin` of
the float32 one, and what is above the threshold less that margin goes to the processor, which makes the product anew.
`device` may be the processor too, slowly: so everything here is tested without a card.
"""

from collections.abc import Iterator
from concurrent.futures import Executor

import torch

from tagcheck.similar.unit_rows import BLOCK, UNIT_ROUNDOFF, Candidates, UnitRows

FEWEST_ROWS = 20_000  # below, the processor is done before the card has begun
TILE = 8192  # rows and columns of a product: 128 MiB
ROOM = 0.6  # share of the card's free memory that rows and products may take
HALF_ROUNDOFF = 2.0**-11
SPARE = 2.0**-15


class DeviceSearch:
    """Pairs of unit rows with a product of at least `low`, tile by tile on `device`. `rows` fit its memory (`fits`)."""

    def __init__(self, rows: UnitRows, low: float, device: torch.device, pool: Executor) -> None:
        self.rows, self.low, self.size, self.step, self.prepared = rows, low, len(rows), TILE, 0.0
        self.dtype = torch.float16 if sums_in_float32(device) else torch.float32
        self.half = torch.empty(len(rows), rows.width, dtype=self.dtype, device=device)

        def fill(start: int) -> float:
            unit = torch.from_numpy(rows.take(slice(start, start + BLOCK)))
            rounded = unit.to(self.dtype)
            self.half[start : start + BLOCK] = rounded.to(device)
            return float((unit - rounded.float()).norm(dim=1).max())

        worst = max(pool.map(fill, range(0, len(rows), BLOCK)), default=0.0)
        # Two rows no longer than 1.01, each moved by at most `worst`; sums in float32 there and in the product that
        # `low` is about; the result, no larger than 1.03, rounded to half.
        self.margin = 2.03 * worst + 4 * (rows.width + 8) * UNIT_ROUNDOFF + 1.03 * HALF_ROUNDOFF + SPARE

    def strip(self, start: int) -> Iterator[Candidates | None]:
        """The pairs of the strip from `start` on, a tile at a time."""
        return (self._tile(start, other) for other in range(start, len(self.rows), TILE))

    def _tile(self, start: int, other: int) -> Candidates | None:
        product = self.half[start : start + TILE] @ self.half[other : other + TILE].T
        i, j = (place.cpu().numpy() for place in (product >= self.low - self.margin).nonzero(as_tuple=True))
        i, j = i + start, j + other
        i, j = i[i < j], j[i < j]
        return self.rows.pairs_above(self.low, i, j) if len(i) else None


def card() -> torch.device | None:
    """The graphics card, if torch can use one."""
    return torch.device("cuda") if torch.cuda.is_available() else None


def fits(rows: int, width: int, device: torch.device) -> bool:
    """Whether so many rows, and a tile's products for each thread, find room on `device`."""
    if device.type != "cuda":
        return True
    return 2 * rows * width + torch.get_num_threads() * 4 * TILE**2 < ROOM * torch.cuda.mem_get_info(device)[0]


def sums_in_float32(device: torch.device) -> bool:
    """Whether half-precision products are summed in float32 on `device`: in half precision 1 + 256 * 2^-11 would stay 1."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    left = torch.full((64, 257), HALF_ROUNDOFF, dtype=torch.float16, device=device)
    left[:, 0] = 1
    return bool((left @ torch.ones(64, 257, dtype=torch.float16, device=device).T == 1.125).all())
