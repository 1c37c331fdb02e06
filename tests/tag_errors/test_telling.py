"""The numbers and the sentence of a suggestion say the same, and are those that one would write for each by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from tagcheck.columns import values
from tagcheck.findings import INCORRECT
from tagcheck.learning import Tagger
from tagcheck.tag_errors import suggestions, telling
from tagcheck.tag_errors.evidence import FurtherTagger
from tagcheck.tag_errors.suggestions import Asked, Examined, Suggestions

N, TAGS = 300, 12


@pytest.fixture(scope="module", params=[0, 1])
def weighed(request) -> tuple[Examined, Suggestions]:
    """A library with copies and a tagger that knows some tags, beside as many further taggers; and all that is suggested."""
    rng = np.random.default_rng(0)
    has = rng.random((N, TAGS)) < 0.2
    has[:, 0], has[:, 1] = rng.random(N) < 0.5, False
    has[:, 1] = ~has[:, 0]  # two that exclude each other
    direction = rng.normal(size=(TAGS, 24))
    matrix = has @ direction + rng.normal(size=(N, 24)) * 0.5
    matrix[1:60:2] = matrix[:60:2] + rng.normal(size=(30, 24)) * 0.01
    has[1:60:2] = has[:60:2]
    given = (has & (rng.random(has.shape) > 0.1)) | (rng.random(has.shape) < 0.02)
    names = [f"tag {k}" for k in range(TAGS)]
    columns = np.arange(0, TAGS, 2)
    tagger = Tagger(columns, direction[columns].astype(np.float32), np.full(len(columns), -3, np.float32))
    there = rng.random(N) < 0.7
    other = FurtherTagger("another", matrix[:, :8].astype(np.float32) * there[:, None], there, None)
    asked = Asked(matrix.astype(np.float32), sparse.csr_matrix(given.astype(np.float32)), names, tagger)
    seen = suggestions.examine(replace(asked, further=[other] * request.param))
    sets = [frozenset(names[tag] for tag in np.flatnonzero(row)) for row in given]
    return seen, suggestions.suggestions(seen, sets)


def percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else "over 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def why(kind: str, numbers: dict, said: str) -> str:
    parts = [said] if said else []
    twins, having = numbers["twins"], numbers["twins_with"]
    if twins:
        parts.append(f"{having} of {twins} near-duplicates {'has' if having == 1 else 'have'} it")
    near, close = numbers["neighbours_with"], numbers["neighbours"]
    if close and (kind == INCORRECT or near >= 0.3 * close):
        parts.append(f"{near} of the {close} closest pictures {'has' if near == 1 else 'have'} it")
    parts.append(f"the picture and its other tags make it {percent(numbers['expected'])} likely")
    if "taggers" in numbers:
        parts += [
            f"{name} gives it {percent(one.get('own', one['learned']))}" for name, one in numbers["taggers"].items()
        ]
    elif "tagger" in numbers:
        parts.append(f"the tagger gives it {percent(numbers['tagger'])}")
    if numbers["uses"] < 20:
        parts.append(f"it is used only {numbers['uses']} times")
    sentence = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
    return sentence[0].upper() + sentence[1:] + "."


def test_each_sentence_is_that_of_its_numbers(weighed):
    seen, found = weighed
    made = telling.with_evidence(seen, found)
    assert len(made) == len(found) > 100
    rules = 0
    for place, one in enumerate(made):
        before, said = found.told.get(place, ({}, ""))
        if said:
            assert one.why == said and one.evidence == before
            continue
        rules += "rule" in before
        assert one.why == why(one.kind, one.evidence, before.get(suggestions.SAID, ""))
        assert (
            suggestions.SAID not in one.evidence
            and before.items() - {(suggestions.SAID, before.get(suggestions.SAID))} <= one.evidence.items()
        )
        cell = suggestions.Places(seen)[one.row, seen.tags.index(one.tag)]
        assert one.evidence["weighed"] == values(telling.weighed(seen.cells, np.array([cell])), 1)[0]
        assert one.evidence["expected"] == round(float(seen.verdict.belongs[cell]), 3)
        assert ("tagger" in one.evidence) == (seen.tags.index(one.tag) % 2 == 0)
        assert ("taggers" in one.evidence) == bool(seen.further)
    assert rules


def test_some_suggestions_are_told_by_their_own_cells_alone(weighed):
    seen, found = weighed
    some = found.at(np.arange(len(found))[::-7])
    assert telling.with_evidence(seen.only(some), some) == telling.with_evidence(seen, found)[::-7]
    assert len(seen.only(some).cells) < len(seen.cells) / 5
    with pytest.raises(KeyError):
        telling.told(seen.only(some), found)


class Compared(str):
    """A tag that counts how often one was held against another."""

    times = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)


def test_a_picture_of_very_many_rare_tags_takes_no_more_for_each(weighed):
    seen, _ = weighed
    twins = seen.around.twins
    row = int(np.flatnonzero(np.diff(twins.indptr))[0])
    many = frozenset(Compared(f"rare {number}") for number in range(300))
    found = suggestions._rare(seen, [many if one == row else frozenset() for one in range(N)])
    assert {one.tag for one in found if one.row == row} == many
    assert Compared.times < 30 * len(many)
