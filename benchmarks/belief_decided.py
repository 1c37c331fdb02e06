"""What decisions do to the belief: an owner decides the first cards truthfully, what is right is applied, and all is weighed again.

`benchmarks/belief.py --decided N` judges by it what was not decided.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy import sparse

from benchmarks.belief_judges import Judge
from tagcheck.belief import of_library
from tagcheck.tag_errors import owner_feedback, suggestions
from tagcheck.tag_errors.error_model import Cells, Verdict
from tagcheck.tag_errors.suggestions import Gathered, Suggestions

LISTED = 0.5  # the least confidence that a report lists
Gather = Callable[
    [Judge, np.ndarray | None], tuple[np.ndarray, Gathered]
]  # a library, and its tags as they were before
Answers = list[tuple[str, str, str, float, bool]]  # as `review.store.answers` gives them


def evening(judge: Judge, gather: Gather, cards: int) -> Iterator[tuple[str, Judge, np.ndarray]]:
    """(what was done, the library with what was not decided to be judged, how likely each of its cells is wrong (n, T)): before any
    decision, after so many `cards` were decided, and after what was accepted was applied. `gather` (columns, evidence) of a library.
    """
    columns, seen = gather(judge, None)
    verdict, column = seen.believe()[0], columns[seen.cells.column]
    decided = first_cards(seen.cells, verdict.error, judge.judged[seen.cells.row, column], cards)
    row, column = seen.cells.row[decided], column[decided]
    right = (judge.truth != judge.given)[row, column]
    kinds = np.where(seen.cells.given[decided], "remove", "add").tolist()
    said = zip(kinds, column.tolist(), verdict.error[decided].tolist(), right.tolist())
    answers = [(kind, suggestions.MISSING_TAGS, judge.tags[at], sure, yes) for kind, at, sure, yes in said]
    rest = judge.judged.copy()
    rest[row, column] = False
    left = replace(judge, judged=rest)
    yield f"{cards} cards, before", left, _cells(left, columns, seen.cells, verdict.error)
    yield (
        f"{cards} cards decided",
        left,
        _cells(left, columns, seen.cells, heeded(left, columns, seen, verdict, answers)),
    )
    given = judge.given.copy()
    given[row[right], column[right]] ^= True
    after = replace(left, given=given)
    columns, seen = gather(after, judge.given)
    verdict = seen.believe(sparse.csr_matrix(judge.given[:, columns].astype(np.float32)))[0]
    yield "and applied", after, _cells(after, columns, seen.cells, heeded(after, columns, seen, verdict, answers))


def first_cards(cells: Cells, error: np.ndarray, known: np.ndarray, cards: int) -> np.ndarray:
    """The places of what is listed and `known` (m,) bool of so many pictures, those with the surest suggestion: as the page shows them."""
    single = np.flatnonzero((cells.weight == 1) & known)
    sure, kinds = error[single] >= LISTED, [np.flatnonzero(cells.given[single] == kind) for kind in (False, True)]
    asked = [mine[owner_feedback.to_ask(error[single[mine]], sure[mine], 0)] for mine in kinds]
    listed = single[np.sort(np.concatenate([np.flatnonzero(sure), *asked]))]
    surest = np.zeros(int(cells.row.max()) + 1)
    np.maximum.at(surest, cells.row[listed], error[listed])
    pictures = np.argsort(-surest, kind="stable")[:cards]
    return listed[np.isin(cells.row[listed], pictures)]


def heeded(judge: Judge, columns: np.ndarray, seen: Gathered, verdict: Verdict, answers: Answers) -> np.ndarray:
    """The error of each cell (m,) with the answers heeded, as a report lists it."""
    places = np.flatnonzero(verdict.error >= suggestions.FLOOR)
    cells, said = seen.cells.some(places), verdict.error[places]
    issue, names = np.zeros(len(places), dtype=np.int8), [judge.tags[at] for at in columns]
    found = Suggestions(names, cells.row, cells.column, ~cells.given, issue, said, said, {})
    out = verdict.error.copy()
    out[places] = of_library.heed(found, answers, [], verdict).confidence
    return out


def _cells(judge: Judge, columns: np.ndarray, cells: Cells, error: np.ndarray) -> np.ndarray:
    out = np.zeros(judge.given.shape)
    out[cells.row, columns[cells.column]] = error
    return out
