"""JSON that others wrote: bounded, held against a shape, and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tagcheck import json_files
from tagcheck.errors import BadFile, MissingInput
from tagcheck.json_files import Unusable, Wrong, elements, members, parse


@pytest.mark.parametrize(
    "text, says",
    [
        ("[" * 65 + "]" * 65, "nested more than 64 deep"),
        ("[" * 3000 + "]" * 3000, "nested more than 64 deep"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested more than 64 deep"),
        ("[" * 3000, "nested more than 64 deep"),
        (str(2**63), "a whole number of 19 digits"),
        (str(-(2**63) - 1), "a whole number of"),
        ("9" * 5000, "a whole number of 5000 digits"),
        ("1e999", "too large a number"),
        ("1" * 400 + ".0", "too large a number"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("", "Expecting value"),
        ("1 2", "Extra data"),
        ('"\t"', "control character"),
    ],
)
def test_what_is_beyond_the_bounds_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text)


def test_what_is_within_the_bounds_is_read() -> None:
    for value in (
        2**63 - 1,
        -(2**63),
        1.5e308,
        "[" * 100,
        "\ud800",
        ["NaN"],
        "9" * 5000,
        json.loads("[" * 64 + "]" * 64),
    ):
        assert parse(json.dumps(value)) == value


def test_the_parts_of_an_object_are_told_apart_whatever_is_in_them() -> None:
    text = ' { "a" : [1, {"]": "}"}, "\\"["] , "b":NaN,"c":"x" , "d" : [ ] } '
    assert {key: text[start:end] for key, (start, end) in members(text).items()} == {
        "a": '[1, {"]": "}"}, "\\"["]',
        "b": "NaN",
        "c": '"x"',
        "d": "[ ]",
    }
    start, _ = members(text)["a"]
    assert [text[begin:end] for begin, end in elements(text, start)] == ["1", '{"]": "}"}', '"\\"["']
    assert elements("[]", 0) == []


@pytest.mark.parametrize(
    "text", ["{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":"', '{"a":[', '{"a" 1}', "{}x", "{1:2}", '{"a":}']
)
def test_an_object_that_is_none_is_said_to_be_so(text: str) -> None:
    with pytest.raises(ValueError):
        members(text)


def test_an_open_string_full_of_escapes_takes_no_longer_than_another() -> None:
    with pytest.raises(ValueError, match="cut off"):
        members('{"a": "' + '\\"' * 1_000_000)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"\xff", "is not UTF-8 text"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "x.json: a list is not an object: correct it or remove it"),
        (b'{"a": [1]}', "x.json: 'a': entry 1: 1 is no text"),
        (b'{"a": ["\\ud800"]}', "is no text"),
        (b'{"a": ["' + b"x" * 50 + b'"]}', "has 50 characters, 0 to 9 can be"),
    ],
)
def test_a_small_file_that_is_wrong_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=says) as caught:
        json_files.read(path, json_files.map_of(json_files.list_of(json_files.text(9))))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_too_large_or_no_file_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInput):
        json_files.read(tmp_path / "none.json")
    with pytest.raises(BadFile, match="cannot be read"):
        json_files.read(tmp_path)
    (tmp_path / "x.json").write_text("[1, 2]")
    with pytest.raises(BadFile, match="more than 3 bytes"):
        json_files.read(tmp_path / "x.json", most=3)
    assert json_files.read(tmp_path / "x.json") == [1, 2]


def test_shapes_say_what_is_wrong_and_where() -> None:
    shape = json_files.record(
        {"n": json_files.whole(0, 9), "x": json_files.number(0, 1)},
        {
            "kind": json_files.one_of("a", 1),
            "on": json_files.flag,
            "v": json_files.either(json_files.null, json_files.text()),
        },
    )
    shape({"n": 3, "x": 0.5, "kind": 1, "on": True, "v": None, "else": []})
    for value, says in (
        ({"x": 1}, "no 'n'"),
        ({"n": True, "x": 1}, "'n': True is not a whole number from 0 to 9"),
        ({"n": 10, "x": 1}, "'n': 10 is not a whole number"),
        ({"n": 1, "x": "1"}, "'x': '1' is not a number from 0 to 1"),
        ({"n": 1, "x": 1, "kind": True}, "'kind': True is not one of a, 1"),
        ({"n": 1, "x": 1, "on": 1}, "neither true nor false"),
        ({"n": 1, "x": 1, "v": 2}, "'v': 2 is not null and 2 is no text"),
    ):
        with pytest.raises(Wrong, match=says):
            shape(value)


def test_records_that_are_left_out_are_counted_and_the_first_are_named() -> None:
    unusable = Unusable()
    assert not unusable and str(unusable) == ""
    unusable.note("record 1")
    assert str(unusable) == "1 record cannot be used and is left out: record 1"
    for number in range(2, 6):
        unusable.note(f"record {number}")
    assert str(unusable) == "5 records cannot be used and are left out: record 1; record 2; record 3 and 2 more"
