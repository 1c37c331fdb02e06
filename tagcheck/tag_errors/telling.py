"""What a suggestion rests on, as its reader gets to see it: numbers by name, and a sentence that says them.

Both are made as columns (`tagcheck.columns`), since there may be hundreds of thousands, which are hardly ever looked at one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from tagcheck.columns import BLANK, columns, put, values
from tagcheck.findings import BEFORE_VERDICTS
from tagcheck.learning import Tagger
from tagcheck.learning.linear_probes import logit
from tagcheck.tag_errors.error_model import RATIOS, Cells
from tagcheck.tag_errors.evidence import FurtherTagger
from tagcheck.tag_errors.suggestions import BARE, SAID, SIDES, Examined, Suggestion, Suggestions, sides_of

SPEAKS = {"twins": "twin_share", "tagger": "tagger_knows", "classifier": "classifier_knows"}
SELDOM_USED = 20  # uses of a tag; fewer are said


def with_evidence(seen: Examined, found: Suggestions) -> list[Suggestion]:
    """The suggestions, each with its evidence and a sentence. Raises as `told`."""
    proof, why = (values(column, len(found)) for column in told(seen, found))
    return [replace(one, evidence=mine, why=said) for one, mine, said in zip(found, proof, why)]


def told(seen: Examined | None, found: Suggestions) -> tuple[Any, Any]:
    """(the evidence, a sentence) of each suggestion, as two columns of k values. KeyError for one without a sentence that `seen` has no
    cell of.
    """
    count = len(found)
    own = [found.told.get(place, (BARE, "")) for place in range(count)]
    bare = np.array([not why for _, why in own], dtype=bool)
    proof: dict[str, Any] = {"keys": {}, "some": {}}
    texts: dict[str, int] = {}
    which, numbers = np.zeros(count, dtype=np.int64), np.empty(0, dtype=np.int64)
    if seen is not None and bare.any():
        places = seen.places_of(found)[bare]
        if (places < 0).any():
            raise KeyError("nothing is known of a suggestion")
        first = [mine.get(SAID, "") for (mine, why) in own if not why]
        made, said = _numbers_and_sentences(seen, places, found.adds[bare], first)
        for name, column in made["keys"].items():
            there = bare.copy()
            there[bare] = made["some"].get(name, 1)
            put(proof, name, column, there)
        texts, numbers = {text: place for place, text in enumerate(said["texts"])}, said["numbers"]
        which[bare] = said["which"]
    for place in np.flatnonzero(~bare).tolist():
        which[place] = texts.setdefault(own[place][1].replace(BLANK, ""), len(texts))
    beside: dict[str, dict[int, Any]] = {}
    for place, (mine, _) in sorted(found.told.items()):
        for name, value in mine.items():
            if name != SAID:
                beside.setdefault(name, {})[place] = value
    changed = np.flatnonzero(found.confidence != found.before).tolist()
    beside |= {BEFORE_VERDICTS: {place: round(float(found.before[place]), 4) for place in changed}}
    for name, by_place in beside.items():
        there = np.zeros(count, dtype=bool)
        there[list(by_place)] = True
        put(proof, name, columns(list(by_place.values())), there)
    return proof, {"texts": list(texts), "which": which, "numbers": numbers}


def _numbers_and_sentences(
    seen: Examined, places: np.ndarray, adds: np.ndarray, first: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the numbers by name, the sentences) for the cells at `places` (k,), as columns: `expected` and `forgotten_here`, probabilities
    that the tag belongs and that its owner forgets it; the `SIDES`; how many pictures have the tag (`uses`); `weighed`; what the
    tagger says, 0 to 1, and what each of several says (`taggers_say`). A sentence begins with the words `first` (k,), if any.
    """
    rows, of = seen.cells.row[places].astype(np.int64), seen.cells.column[places].astype(np.int64)
    near, near_with, twins, having = sides = sides_of(seen, places).T
    uses = np.asarray(seen.given.sum(axis=0)).ravel()[of].astype(np.int64)
    expected, forgotten = (
        np.round(one[places].astype(np.float64), 3) for one in (seen.verdict.belongs, seen.verdict.miss)
    )
    numbers: dict[str, Any] = {"keys": {"expected": expected, **dict(zip(SIDES, sides)), "uses": uses}, "some": {}}
    numbers["keys"] |= {"forgotten_here": forgotten, "weighed": weighed(seen.cells, places)}
    own = np.round(_own_chance(seen.tagger, seen.matrix, rows, of), 3)
    known = ~np.isnan(own)
    put(numbers, "tagger", own[known], known)
    likely = {"the tagger": own}
    if seen.further:
        said = taggers_say(seen, places)
        put(numbers, "taggers", columns(said), np.ones(len(places), dtype=bool))
        names = dict.fromkeys(name for one in said for name in one)
        likely = {name: np.array([_chance(one.get(name)) for one in said]) for name in names}
    closest = (near > 0) & (~adds | (near_with >= 0.3 * near))
    begin = list(dict.fromkeys(first))
    parts = [
        _Part(begin, np.array([begin.index(words) if words else -1 for words in first]), []),
        _Part(*_count("near-duplicates", twins > 0, having), [having, twins]),
        _Part(*_count("closest pictures", closest, near_with, "the "), [near_with, near]),
        _share("the picture and its other tags make it ", expected, " likely"),
        *(_share(f"{name} gives it ".replace(BLANK, ""), chance) for name, chance in likely.items()),
        _Part([f"it is used only {BLANK} times"], np.where(uses < SELDOM_USED, 0, -1), [uses]),
    ]
    return numbers, _sentences(parts)


class _Part(NamedTuple):
    """A part of k sentences: the words that may be said, with a blank in the place of each number, which of them is (k,) or -1, and the
    `numbers`, each (k,).
    """

    words: Sequence[str]
    which: np.ndarray
    numbers: Sequence[np.ndarray]


def _count(what: str, said: np.ndarray, having: np.ndarray, the: str = "") -> tuple[list[str], np.ndarray]:
    """That so many of so many have the tag, where it is `said` (k,)."""
    words = [f"{BLANK} of {the}{BLANK} {what} {have} it" for have in ("have", "has")]
    return words, np.where(said, having == 1, -1)


def _share(begin: str, share: np.ndarray, end: str = "") -> _Part:
    """A share (k,) 0 to 1, NaN where nothing is said; the ends never round to certainty."""
    which = np.where(np.isnan(share), -1, np.where(share < 0.01, 0, np.where(share > 0.99, 1, 2)))
    words = [f"{begin}{some} %{end}" for some in ("under 1", "over 99", BLANK)]
    return _Part(words, which, [np.rint(100 * share)])


def _chance(said: dict[str, float] | None) -> float:
    return float("nan") if said is None else said.get("own", said["learned"])


def _sentences(parts: Sequence[_Part]) -> dict[str, Any]:
    """The sentences of these parts, as a column."""
    number = np.zeros(len(parts[0].which), dtype=np.int64)
    for one in parts:
        number = number * (len(one.words) + 1) + one.which + 1
    _, first, which = np.unique(number, return_index=True, return_inverse=True)
    texts = [_sentence([one.words[one.which[at]] for one in parts if one.which[at] >= 0]) for at in first.tolist()]
    blank = [np.array([*(BLANK in words for words in one.words), False])[one.which] for one in parts]
    numbers = np.column_stack([mine for one in parts for mine in one.numbers])
    meant = np.column_stack([here for one, here in zip(parts, blank) for _ in one.numbers])
    return {"texts": texts, "which": which, "numbers": numbers[meant].astype(np.int64)}


def _sentence(parts: Sequence[str]) -> str:
    sentence = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
    return sentence[0].upper() + sentence[1:] + "."


def weighed(cells: Cells, places: np.ndarray) -> dict[str, Any]:
    """What each kind of evidence says about the cells at `places` (k,), where it says anything, as a column: natural log-likelihood ratios,
    above 0 for the tag belonging to the picture, and as "prior" the tag's log-odds before any evidence.
    """
    names, own, also = _told_by(cells.names)
    features = cells.features[places].astype(np.float64)
    said = (features[:, own] != 0) | (features[:, also] != 0) | (np.array(own) == also)
    made: dict[str, Any] = {"keys": {}, "some": {}}
    for name, value, there in zip(names, np.round(features[:, own], 1).T, said.T):
        put(made, name, value[there], there)
    return made


@cache
def _told_by(names: tuple[str, ...]) -> tuple[list[str], list[int], list[int]]:
    """(kinds of evidence, the place of each, the place of what says whether it has a say) of `names`."""
    found = []
    for place, name in enumerate(names):
        of, kind = name[: name.rfind("/") + 1], name[name.rfind("/") + 1 :]
        if kind in (*RATIOS, "prior"):
            found.append((name, place, names.index(of + SPEAKS.get(kind, "there" if of else kind))))
    kinds, own, also = (list(some) for some in zip(*found))
    return kinds, own, also


def taggers_say(seen: Examined, places: np.ndarray) -> list[dict[str, dict[str, float]]]:
    """What each tagger says of the cells at `places` (k,), by its name: the probability, 0 to 1, `learned` from the owner's tags by what
    it sees, and its `own`, where it knows the tag. An empty list where there is but one tagger.
    """
    if not seen.further:
        return []
    rows, columns = seen.cells.row[places].astype(np.int64), seen.cells.column[places].astype(np.int64)
    out: list[dict[str, dict[str, float]]] = [{} for _ in places]
    prior = logit(seen.frequency[columns])
    every = np.ones(len(seen.matrix), dtype=bool)
    for one in (FurtherTagger(seen.name, seen.matrix, every, seen.tagger), *seen.further):
        kind = "probe" if one.matrix is seen.matrix else f"{one.name}/probe"
        learned = expit(prior + seen.cells.features[places, seen.cells.names.index(kind)])
        own = _own_chance(one.tagger, one.matrix, rows, columns)
        for k in np.flatnonzero(one.there[rows]).tolist():
            out[k][one.name] = {"learned": round(float(learned[k]), 3)}
            if not np.isnan(own[k]):
                out[k][one.name]["own"] = round(float(own[k]), 3)
    return out


def _own_chance(tagger: Tagger | None, matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The probability (k,), 0 to 1, that a tagger itself gives each (row, column), by its embeddings `matrix` (n, d); NaN where it does
    not know the tag.
    """
    chance = np.full(len(rows), np.nan)
    if tagger is not None:
        order = np.argsort(tagger.columns)
        slot = order[np.minimum(np.searchsorted(tagger.columns, columns, sorter=order), len(order) - 1)]
        known = np.flatnonzero(tagger.columns[slot] == columns)
        logits = np.einsum("nd,nd->n", matrix[rows[known]], tagger.weight[slot[known]]) + tagger.bias[slot[known]]
        chance[known] = expit(logits)
    return chance
