"""What a classifier says of the pictures of a library, as it stands in its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from tagcheck import arrays
from tagcheck.series.probabilities import Predictions

MATRICES = ("chance", "tags")


@dataclass(frozen=True)
class Said(Predictions):
    """Predictions for the pictures `hashes` (n,), 32 bytes each, by models that saw neither the picture nor a copy of it: that of their
    fold `folds` (n,) or, of a picture that came after the training (-1), that of all. `tags` csr (n, S): what they were tagged with.
    """

    hashes: np.ndarray
    folds: np.ndarray
    tags: sparse.csr_matrix

    @classmethod
    def of(cls, told: Predictions, hashes: Sequence[str], folds: np.ndarray, tags: sparse.csr_matrix) -> Said:
        """The predictions for pictures in any order."""
        return cls(**vars(told), hashes=arrays.as_bytes(hashes), folds=folds.astype(np.int16), tags=tags.astype(bool))

    def in_order(self) -> Said:
        """The same in the order of the hashes."""
        return self.rows(np.argsort(self.hashes.view("S32"), kind="stable"))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, as numbers."""
        named = {name: one for name, one in vars(self).items() if name not in MATRICES}
        named["hashes"] = self.hashes.view(np.uint8).reshape(-1, 32)
        for name in MATRICES:
            one = getattr(self, name)
            named |= {f"{name}.{part}": getattr(one, part) for part in ("data", "indices", "indptr")}
        return named

    @classmethod
    def read(cls, named: Mapping[str, np.ndarray], series: int) -> Said:
        """What `arrays` gave of so many series. Raises KeyError, TypeError or ValueError where it is not."""
        plain: dict[str, Any] = {name: one for name, one in named.items() if "." not in name}
        shape = len(plain["hashes"]), series
        for name in MATRICES:
            parts = tuple(named[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
            made = sparse.csr_matrix(parts, shape=shape)
            made.check_format()
            plain[name] = made
        if any(len(one) != shape[0] for name, one in plain.items() if name not in MATRICES):
            raise ValueError("its columns have other lengths")
        return cls(**plain | {"hashes": np.ascontiguousarray(plain["hashes"]).view("V32").ravel()})
