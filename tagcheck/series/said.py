"""The out-of-fold predictions of a classifier as columns, read from its file once for all who ask in a run."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagcheck.tag_columns import Maker, TagSets

LISTS = ("tags", "predicted", "not_learned")
ABSTAINED = (None, "unknown_series", "unsure")


@dataclass(frozen=True)
class Said:
    """What is said of n pictures, as docs/formats.md describes it: `hashes` (n,) as 32 bytes, `listed` the series that have one of the
    `chances` (sum,), one behind the other, `lists` of tags by name, `numbers` (n, 2) "unknown" and "forgotten_share".
    `abstained` (n,) are places in `ABSTAINED`, `named` the series that only the tagger knows, by row.
    """

    hashes: np.ndarray
    listed: TagSets
    chances: np.ndarray
    lists: dict[str, TagSets]
    numbers: np.ndarray
    abstained: np.ndarray
    named: dict[int, str]

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]]) -> Said:
        """The columns of rows as they stand in the file."""
        hashes, chances, numbers, abstained = bytearray(), array("d"), array("d"), bytearray()
        lists, listed, named = {name: Maker() for name in LISTS}, Maker(), dict[int, str]()
        for place, row in enumerate(rows):
            hashes += bytes.fromhex(row["hash"])
            listed.add(row["probabilities"])
            chances.extend(row["probabilities"].values())
            numbers.extend((row["unknown"], row["forgotten_share"]))
            abstained.append(ABSTAINED.index(row.get("abstained")))
            for name, made in lists.items():
                made.add(row.get(name) or ())
            if named_by := row.get("named_by_tagger"):
                named[place] = named_by
        return cls(
            np.frombuffer(bytes(hashes), dtype="V32"),
            listed.made(),
            np.frombuffer(chances),
            {name: made.made() for name, made in lists.items()},
            np.frombuffer(numbers).reshape(-1, 2),
            np.frombuffer(bytes(abstained), dtype=np.uint8),
            named,
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """One record a picture, with the keys that a reader asks for."""
        chances = iter(self.chances.tolist())
        for place, (hash, (unknown, forgotten)) in enumerate(zip(self.hashes.tolist(), self.numbers.tolist())):
            yield {name: some.listed(place) for name, some in self.lists.items()} | {
                "hash": hash.hex(),
                "abstained": ABSTAINED[self.abstained[place]],
                "probabilities": dict(zip(self.listed.listed(place), chances)),
                "unknown": unknown,
                "forgotten_share": forgotten,
                "named_by_tagger": self.named.get(place),
            }
