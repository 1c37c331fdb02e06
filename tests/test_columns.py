"""Values come back from their columns, and what is no such column is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcheck.columns import columns, values

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
WORDS = st.sampled_from(["3 of 10 have it.", "10 of 10 have it.", "none", "007", "1\x00", "", "\u0663 of 4"])
VALUES = st.recursive(SCALARS | WORDS, lambda one: st.lists(one) | st.dictionaries(st.text(max_size=2), one))
ALIKE = st.fixed_dictionaries(
    {"tag": WORDS}, optional={"near": st.lists(st.integers()), "weighed": st.dictionaries(WORDS, SCALARS)}
)


@given(st.lists(VALUES) | st.lists(ALIKE) | st.lists(WORDS))
def test_all_values_come_back(some):
    assert values(json.loads(json.dumps(columns(some))), len(some)) == some


def test_texts_that_differ_in_numbers_are_one_text_and_numbers():
    said = [f"{a} of {a + 7} have it" for a in range(9)]
    column = columns(said)
    assert column["texts"] == ["\x00 of \x00 have it"] and column["numbers"][:4] == ["0", "7", "1", "8"]
    assert values(column, 9) == said


@pytest.mark.parametrize(
    "column, count",
    [
        ([1], 2),
        ([], -1),
        ({"keys": {}, "some": {}}, 2**40),
        ({"keys": {"a": [1]}, "some": {"a": [1, 0, 0]}}, 2),
        ({"keys": {"a": [1]}, "some": {}}, 2),
        ({"lengths": [2**40], "of": {"keys": {}, "some": {}}}, 1),
        ({"lengths": [1], "of": []}, 1),
        ({"lengths": [-1, 1], "of": []}, 2),
        ({"texts": ["a"], "which": [1], "numbers": []}, 1),
        ({"texts": ["\x00"], "which": [0], "numbers": []}, 1),
        ({"texts": ["a" * 2**20], "which": [0] * 65, "numbers": []}, 65),
        ({"texts": [3], "which": [0], "numbers": []}, 1),
        ({"lengths": 3, "of": []}, 1),
        (None, 1),
        (7, 1),
    ],
)
def test_what_is_no_column_of_so_many_is_refused(column, count):
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        values(column, count)
