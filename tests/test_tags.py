"""What a tag is: cleaning as Hydrus cleans, namespaces, booru names."""

from __future__ import annotations

import random

import pytest

from tagcheck import tags


@pytest.mark.parametrize(
    "raw, cleaned",
    [
        ("Long Hair", "long hair"),
        ("  a \t b\n", "a b"),
        ("series: Some Thing ", "series:some thing"),
        ("a : b", "a:b"),
        ("", ""),
        ("   ", ""),
        (":d", ":d"),
        ("3:", "3:"),
        (">:)", ">:)"),
        ("re:zero", "re:zero"),
        ("series:re:zero", "series:re:zero"),
        ("long_hair", "long_hair"),
        ("ÉTÉ", "été"),
        ("猫　耳", "猫 耳"),
        (":", ":"),
        ("::x", "::x"),
        ("a:", "a:"),
        ("namespace: ", "namespace:"),
    ],
)
def test_cleaning(raw, cleaned):
    assert tags.clean(raw) == cleaned


def test_cleaning_twice_is_cleaning_once():
    """10,000 random strings of the characters that matter."""
    rng = random.Random(5)
    for _ in range(10_000):
        raw = "".join(rng.choices("aB: _\t^>()é\u3000İß\\", k=rng.randint(0, 9)))
        once = tags.clean(raw)
        assert tags.clean(once) == once, repr(raw)


def test_a_cleaned_tag_is_its_namespace_and_subtag_again():
    rng = random.Random(6)
    for _ in range(10_000):
        tag = tags.clean("".join(rng.choices("ab: _^>)", k=rng.randint(1, 9))))
        assert tags.join(*tags.split(tag)) == tag


@pytest.mark.parametrize(
    "tag, namespace, subtag",
    [
        ("series:x", "series", "x"),
        ("series:re:zero", "series", "re:zero"),
        ("blue eyes", "", "blue eyes"),
        (":d", "", ":d"),
        ("d:", "", "d:"),
        (">:(", "", ">:("),
        ("title: x", "title", "x"),
        ("", "", ""),
        (":", "", ":"),
    ],
)
def test_splitting(tag, namespace, subtag):
    assert tags.split(tag) == (namespace, subtag)
    assert tags.namespace(tag) == namespace


def test_tags_of_one_namespace_come_sorted():
    assert tags.in_namespace(["series:b", "series:a", "character:c", "series", ":series:x"], "series") == [
        "series:a",
        "series:b",
    ]
    assert tags.in_namespace(["b", "a:b", ":d"], "") == [":d", "b"]


@pytest.mark.parametrize(
    "name, tag",
    [
        ("long_hair", "long hair"),
        ("^_^", "^_^"),
        ("O_O", "o_o"),
        (">:)", ">:)"),
        ("hatsune_miku_(append)", "hatsune miku (append)"),
        (":d", ":d"),
        ("|_|", "|_|"),
        ("\\m/", "\\m/"),
        ("fate/stay_night", "fate/stay night"),
        ("_", ""),
    ],
)
def test_booru_names(name, tag):
    assert tags.from_booru(name) == tag
