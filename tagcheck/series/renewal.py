"""A series classifier over a library that has changed a little: the models stay, and only pictures that are new are judged, by the
model of all those that were learned from. A copy of one of these is left to the next training, since the model has seen it, and so
is a series that only new pictures have. What is said of all other pictures stays: their own tags have no say in it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tagcheck import arrays
from tagcheck.embedding import Embeddings
from tagcheck.series.classifier_files import Classifier
from tagcheck.series.said import Said
from tagcheck.tag_columns import tag_columns

FEWEST = 10_000  # pictures; of fewer all is learned anew, which takes seconds
MOST = 0.05  # share of the pictures that may have changed
MOST_TUNED = 0.5  # where a network was fine-tuned, which takes hours
NEW = 2  # pictures of a series that was not there from which on it has to be learned, where no network would be lost


class TooMuch(Exception):
    """So much has changed that all has to be learned anew; says what."""


@dataclass(frozen=True)
class Pictures:
    """The usable pictures of a library that have an embedding, n rows: `written` are all their tags, `tag_sets` those of the namespace."""

    embedded: Embeddings
    written: Sequence[Collection[str]]
    tag_sets: Sequence[Collection[str]]


def renewed(
    made: Classifier, then: Said, now: Pictures, groups: np.ndarray, network: Callable[[list[str]], np.ndarray | None]
) -> tuple[Said, dict[str, Any]]:
    """(what is said now, how much of it is new, for the card).

    `groups` (n,) are copies; `network` gives what the fine-tuned network says of pictures. Raises `TooMuch`.
    """
    embedded, number, before = now.embedded, len(now.tag_sets), made.card.get("weighed", {})
    at, given = arrays.places(arrays.as_bytes(embedded.hashes), then.hashes), tag_columns(now.tag_sets, made.series)
    old = np.flatnonzero(at >= 0)
    kept = then.rows(at[old])
    learned_from, trained = int((kept.folds >= 0).sum()), before.get("trained", len(then.hashes))
    retagged = before.get("retagged", 0) + int((np.diff((given[old] != kept.tags).indptr) > 0).sum())
    other, gone = number - learned_from + retagged, trained - learned_from
    if other + gone > (MOST_TUNED if made.network else MOST) * number:
        raise TooMuch(f"{other:,} of {number:,} pictures are new or have changed, and {gone:,} are gone")
    known = frozenset(made.series)
    unknown = Counter(tag for mine in now.tag_sets for tag in mine if tag not in known)
    if unknown and unknown.most_common(1)[0][1] >= NEW and not made.network:
        raise TooMuch(f"{unknown.most_common(1)[0][0]} was not learned")
    said = replace(kept, tags=given[old])
    rows = np.flatnonzero((at < 0) & ~np.isin(groups, groups[old]))
    if len(rows):
        some = replace(embedded, hashes=[embedded.hashes[row] for row in rows], matrix=embedded.matrix[rows])
        told = made.predict(some, network(some.hashes), [now.written[row] for row in rows.tolist()])
        new = Said.of(told, some.hashes, np.full(len(rows), -1, np.int16), given[rows])
        said = Said.joined([said, new])
    since = before.get("since") or made.card["created"]
    weighed = {"anew": len(rows), "pictures": number, "why": "", "since": since, "retagged": retagged}
    return said.in_order(), weighed | {"trained": trained}
