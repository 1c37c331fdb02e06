"""Tags of odd letters: what Hydrus keeps of each is what is said of it, and one that is written reads back as itself."""

from __future__ import annotations

import random

import pytest
from hydrus_server import HydrusServer, clean_tag

from tagcheck import tags
from tagcheck.changes import TagChange
from tagcheck.library.hydrus import tag_answers
from tagcheck.library.hydrus.client import MY_TAGS, Hydrus
from tagcheck.library.protocol import CURRENT, NoWrite

# As Hydrus' own code (v682) answers.
KEPT = {
    ": -": ":: -",
    ":-": "::-",
    ":": "",
    "::": "::",
    ":::x": ":::x",
    "::x:y": "::x:y",
    ":x:y": ":x:y",
    ":D": "::d",
    "-": "",
    "- -x": "-x",
    "-:x": "x",
    "- :x": "x",
    "a:- b": "a:b",
    "a: -": "",
    "a:": "",
    " : d ": "d",
    "system:": "",
    "system: -x": "x",
    "system:a:b": "a:b",
    "system:\u200d- -": "-",
    "\u3164": "",
    "가\u3164": "가\u3164",
    "\u200c": "",
    "a\u200db": "ab",
    "ا\u200cب": "ا\u200cب",
    "x:\u200b": "",
    "a\u2066b": "ab",
    "x\ud800": "x",
    "A\tB": "ab",
    "a\u2003b": "a b",
    "x" * 1030: "x" * 1024,
}
PARTS = [":", ":", "::", " ", "-", "system:", "name:", "a", "b", "é", "가", "ا", "ﬁ", "İ", "\U0001f600", "x" * 1020]
PARTS += [*"\u200b\u200c\u200d\u200e\u202e\u2066\ufeff\ue000\x00\t\n\x85\xa0\u2003\u3000\u3164\u0301\ud800"]


def odd_tags(count: int, seed: int = 1) -> list[str]:
    draw = random.Random(seed)
    return sorted({tags.clean("".join(draw.choices(PARTS, k=draw.randint(1, 6)))) for _ in range(count)} - {""})


@pytest.mark.parametrize("tag", KEPT, ids=ascii)
def test_the_tests_own_server_keeps_of_a_tag_what_hydrus_keeps(tag):
    assert clean_tag(tag) == KEPT[tag]


def test_what_hydrus_makes_of_a_tag_is_known_and_no_two_stored_tags_read_as_one():
    read: dict[str, str] = {}
    for tag in odd_tags(20_000):
        wire = tag_answers.to_hydrus(tag)
        stored = clean_tag(wire)
        made = tag_answers.cleaned(wire)
        _, colon, rest = made.partition(":")
        assert stored == (made if rest or not colon else "")  # a namespace alone is none
        if stored:
            shown = tag_answers.from_hydrus(stored)
            assert tag_answers.to_hydrus(shown) == stored == read.setdefault(shown, stored)


@pytest.fixture
def server(tmp_path):
    with HydrusServer(tmp_path) as started:
        yield started


def test_a_tag_is_refused_just_where_hydrus_would_keep_another_and_else_reads_back_as_itself(server):
    hash, hydrus = server.add_file(b"a picture"), Hydrus(server.url, server.key)
    asked = odd_tags(1000, seed=2)
    steps = hydrus.plan([TagChange(hash, tag, "add") for tag in asked])
    refused = {step.change.tag for step in steps if isinstance(step, NoWrite)}
    stored = {tag: tag_answers.from_hydrus(clean_tag(tag_answers.to_hydrus(tag))) for tag in asked}
    assert refused == {tag for tag, kept in stored.items() if kept != tag}
    writes = [step for step in steps if not isinstance(step, NoWrite)]
    hydrus.write(writes)
    assert len(writes) > 100 and set(hydrus.states([(hash, one.tag, MY_TAGS) for one in writes])) == {CURRENT}
    assert {one.tag for one in writes} == set(next(hydrus.files([hash])).tags)
    hydrus.write([hydrus.undo_of(one) for one in writes])
    assert next(hydrus.files([hash])).tags == ()
