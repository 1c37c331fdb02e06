"""The entries of the report of tag errors, one a picture and issue: made as columns and put together when somebody reads or writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from tagcheck.columns import put, values
from tagcheck.findings import own_id, whole
from tagcheck.folded import TOGETHER, by_entry
from tagcheck.tag_errors.suggestions import ISSUES, Examined, Suggestions
from tagcheck.tag_errors.telling import told


class Entries:
    """The entries (`tagcheck.folded.Columned`) of the suggestions `found`, the surest first, in each the surest tag first.

    `hashes` are those of the pictures by row; `seen` has the cells of what is `found`; `beside` are further lists of the evidence by name:
    of each suggestion whole numbers (k, c), -1 for none.
    """

    def __init__(
        self, hashes: Sequence[str], seen: Examined | None, found: Suggestions, beside: Mapping[str, np.ndarray]
    ) -> None:
        self._hashes, self._seen, self._found, self._beside = hashes, seen, found, beside
        together: dict[tuple[int, int], list[int]] = {}
        for place, key in enumerate(zip(found.row.tolist(), found.issue.tolist())):
            together.setdefault(key, []).append(place)
        sure, name = found.confidence.tolist(), found.name.tolist()
        for mine in together.values():
            mine.sort(key=lambda place: (-sure[place], name[place]))
        entries = [(-round(sure[mine[0]], 4), hashes[row], ISSUES[of], mine) for (row, of), mine in together.items()]
        entries.sort(key=lambda entry: entry[:3])
        self._places = np.array([place for *_, mine in entries for place in mine], dtype=np.int64)
        self._ends = np.cumsum([0, *(len(mine) for *_, mine in entries)]).tolist()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        plain = self.plain()
        for start in range(0, len(self), TOGETHER):
            some = plain[start : start + TOGETHER]
            tags = by_entry(some, partial(values, self.further(start, start + len(some))))
            yield from (whole({"id": own_id(one), **one, "tags": mine}) for one, mine in zip(some, tags))

    def plain(self) -> list[dict[str, Any]]:
        found, names = self._found, self._found.names
        kind, sure = (one[self._places].tolist() for one in (found.adds, found.confidence))
        row, issue, name = (one[self._places].tolist() for one in (found.row, found.issue, found.name))
        out = []
        for start, end in pairwise(self._ends):
            entry: dict[str, Any] = {"hash": self._hashes[row[start]], "issue": ISSUES[issue[start]]}
            for key, adds in (("missing_tags", True), ("incorrect_tags", False)):
                if mine := [names[name[at]] for at in range(start, end) if kind[at] == adds]:
                    entry[key] = mine
            out.append(entry | {"confidence": round(sure[start], 4)})
        return out

    def further(self, start: int, stop: int) -> Any:
        places, counts = self._places[self._ends[start] : self._ends[stop]], np.diff(self._ends[start : stop + 1])
        adds, begin = self._found.adds[places], np.cumsum(counts) - counts
        added = np.add.reduceat(adds.astype(np.int64), begin)
        mixed = np.repeat((added > 0) & (added < counts), counts)  # of the others tag and kind follow
        first = np.isin(np.arange(len(places)), begin)
        # an entry names its missing tags before its incorrect ones
        listed = places[np.lexsort((~adds, np.repeat(begin, counts)))]
        order = np.argsort(self._found.name[listed], kind="stable")
        places, mixed, further = places[order], mixed[order], ~first[order]
        found = self._found.at(places)
        proof, why = told(self._seen, found)
        for name, some in self._beside.items():
            there = some[places] >= 0
            lengths = there.sum(axis=1)
            put(proof, name, {"lengths": lengths[lengths > 0], "of": some[places][there]}, lengths > 0)
        sure = np.array([round(one, 4) for one in found.confidence.tolist()])
        tags: dict[str, Any] = {"keys": {"evidence": proof, "why": why}, "some": {}}
        put(tags, "confidence", sure[further], further)
        of_mixed = [found[place] for place in np.flatnonzero(mixed).tolist()]
        put(tags, "tag", [one.tag for one in of_mixed], mixed)
        put(tags, "kind", [one.kind for one in of_mixed], mixed)
        return tags
