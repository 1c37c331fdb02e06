"""Values come back from their columns, and what is no such column is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcheck.columns import columns, packed, unpacked, values

DECIMALS = st.integers(-(10**6), 10**6).map(lambda one: one / 10**4)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | DECIMALS | st.text()
)
WORDS = st.sampled_from(["3 of 10 have it.", "10 of 10 have it.", "none", "007", "1\x00", "", "\u0663 of 4"])
VALUES = st.recursive(SCALARS | WORDS, lambda one: st.lists(one) | st.dictionaries(st.text(max_size=2), one))
ALIKE = st.fixed_dictionaries(
    {"tag": WORDS}, optional={"near": st.lists(st.integers()), "weighed": st.dictionaries(WORDS, SCALARS)}
)


HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
ONE_KIND = [st.lists(one) for one in (ALIKE, WORDS, DECIMALS, HASHES, st.integers(), st.integers(-70_000, 70_000))]


@given(st.one_of(st.lists(VALUES), *ONE_KIND))
def test_all_values_come_back(some):
    back = unpacked(packed(columns(some)), len(some))
    assert back == some and as_text(back) == as_text(some)


def as_text(some):
    """What tells 1 from 1.0 and from true."""
    return json.dumps(some, sort_keys=True).replace("-0.0", "0.0")


def test_numbers_and_hashes_stand_behind_the_text():
    assert packed(columns([3, 258, 3])).endswith(b'{"at":0,"bytes":1,"low":3}\n\0\xff\0')
    assert packed(columns([np.pi])) == b"[3.141592653589793]\n"
    assert packed(columns([-0.25, 655.11])) == b'{"at":0,"bytes":4,"low":-25,"places":2}\n' + bytes(4) + (
        65536
    ).to_bytes(4, "little")
    assert packed(columns([0.5, 2.0**60])) == b"[0.5,1.152921504606847e+18]\n"
    assert packed(columns(["ab" * 32])) == b'{"at":0,"bytes":32}\n' + b"\xab" * 32


def test_texts_that_differ_in_numbers_are_one_text_and_numbers():
    said = [f"{a} of {a + 7} have it" for a in range(9)]
    column = columns(said)
    assert column["texts"] == ["\x00 of \x00 have it"] and column["numbers"].tolist()[:4] == [0, 7, 1, 8]
    assert unpacked(packed(columns(said)), 9) == said
    before = column | {"which": [0] * 9, "numbers": list(map(str, column["numbers"]))}  # as older files have it
    assert values(before, 9) == said


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
        ({"at": 0, "bytes": 1, "low": 0}, 5),
        ({"at": 3, "bytes": 2, "low": 0}, 1),
        ({"at": 0, "bytes": 3, "low": 0}, 1),
        ({"at": 0, "bytes": 1, "low": 0, "places": 400}, 1),
        ({"at": 0, "bytes": 1, "low": "0"}, 1),
        ({"at": 0, "bytes": 32}, 1),
        ({"at": 0.5, "bytes": 1, "low": 0}, 1),
        ({"bytes": 1, "low": 0}, 1),
        ({"lengths": {"at": 0, "bytes": 4, "low": 2**62}, "of": []}, 1),
        ({"texts": ["\x00"], "which": [0], "numbers": {"at": 4, "bytes": 1, "low": 0}}, 1),
    ],
)
def test_what_is_no_column_of_so_many_is_refused(column, count):
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        values(column, count, b"\1\2\3\4")
