"""The tagger's names as the owner spells them: own map, shared map, namespaces, siblings, and names that are mostly signs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagcheck import tags
from tagcheck.errors import BadFile
from tagcheck.tag_errors import tagger_vocabulary
from tagcheck.tag_errors.tagger_vocabulary import TagMap, owners_tags, spellings

SHARED = """name,category,count,aliases
hand_on_own_hip,0,900000,"hand_on_hip,hands_on_hip"
hatsune_miku,4,100000,"miku,初音ミク"
fire_emblem:_three_houses,3,20000,fe3h
:d,0,500000,":-d"
comic,5,700000,
some_artist,1,10,
"""


@pytest.fixture
def known(tmp_path: Path) -> TagMap:
    (tmp_path / "tag_map.csv").write_text(SHARED, encoding="utf-8")
    return tagger_vocabulary.load(tmp_path)


def test_underscores_become_spaces_and_faces_stay_whole() -> None:
    faces = [
        "^_^",
        "o_o",
        "|_|",
        ">_<",
        "@_@",
        "x_x",
        ">_o",
        ":d",
        ";d",
        ":>=",
        "3:",
        "d:",
        ">:)",
        "\\m/",
        "...",
        "!?",
        "^^^",
        "=3",
    ]
    assert owners_tags(faces, faces, TagMap()) == faces
    assert owners_tags(["long_hair", "yu-gi-oh!_gx"], ["long hair", "yu-gi-oh! gx"], TagMap()) == [
        "long hair",
        "yu-gi-oh! gx",
    ]


def test_a_renamed_tag_is_found_by_its_old_and_its_new_name(known: TagMap) -> None:
    assert owners_tags(["hand_on_hip"], ["hand on own hip"], known) == ["hand on own hip"]
    assert owners_tags(["hand_on_hip"], ["hand on hip"], known) == ["hand on hip"]
    assert owners_tags(["hand_on_own_hip"], ["hands on hip"], known) == ["hands on hip"]
    assert owners_tags(["hand_on_hip"], ["hand on own hip"], TagMap()) == [None]


def test_a_category_gives_the_namespace(known: TagMap) -> None:
    for name, tag in (
        ("hatsune_miku", "character:hatsune miku"),
        ("some_artist", "creator:some artist"),
        ("comic", "meta:comic"),
    ):
        assert owners_tags([name], [tag, f"other:{tag.partition(':')[2]}"], known) == [tag]
    assert owners_tags(["hatsune_miku"], ["character:miku"], known) == ["character:miku"]


@pytest.mark.parametrize(
    "tag", ["series:fire emblem: three houses", "series:fire emblem:three houses", "fire emblem:three houses"]
)
def test_a_colon_within_a_name_makes_no_namespace_behind_another(known: TagMap, tag: str) -> None:
    assert owners_tags(["fire_emblem:_three_houses"], [tag], known) == [tag]


def test_a_namespace_that_no_map_knows_is_found_where_only_one_tag_can_be_meant() -> None:
    assert owners_tags(["elf"], ["race:elf", "hat"], TagMap()) == ["race:elf"]
    assert owners_tags(["elf"], ["race:elf", "costume:elf"], TagMap()) == [None]
    assert owners_tags(["re:zero"], ["series:re:zero"], TagMap()) == ["series:re:zero"]


def test_a_name_is_the_tag_that_the_owner_sees(known: TagMap) -> None:
    seen = TagMap(
        known.own,
        known.current,
        known.aliases,
        known.namespaces,
        {"hatsune miku": "character:miku (vocaloid)", "hand on own hip": "pose:akimbo", ":d": "expression:open smile"},
    )
    there = ["character:miku (vocaloid)", "pose:akimbo", "expression:open smile", "hat"]
    assert owners_tags(["hatsune_miku", "hand_on_hip", ":d", "hat"], there, seen) == there
    # A sibling that no picture shows is no reason to leave out what is there.
    assert owners_tags(["hand_on_hip"], ["hand on hip"], seen) == ["hand on hip"]


def test_the_owners_own_map_comes_first_and_may_say_never(tmp_path: Path) -> None:
    (tmp_path / "tag_map.csv").write_text(SHARED, encoding="utf-8")
    (tmp_path / "tag_map.json").write_text(
        '{"hatsune_miku": "Singer:Miku", "solo": null, "elf": "elves"}', encoding="utf-8"
    )
    own = tagger_vocabulary.load(tmp_path, {"elves": "race:elves"})
    assert owners_tags(
        ["hatsune_miku", "solo", "elf"], ["singer:miku", "character:hatsune miku", "solo", "race:elves"], own
    ) == ["singer:miku", None, "race:elves"]
    assert spellings("solo", own) == [] and spellings("elf", own) == ["elves"]
    assert owners_tags(["hatsune_miku"], ["character:hatsune miku"], own) == [None]


def test_every_spelling_is_one_that_a_library_can_have(known: TagMap) -> None:
    for name in ("hatsune_miku", "fire_emblem:_three_houses", "hand_on_hip", ":d", "long_hair"):
        found = spellings(name, known)
        assert found and found == [tags.clean(tag) for tag in found] and len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("tag_map.json", "{", "is not JSON"),
        ("tag_map.json", '["a"]', "is not an object"),
        ("tag_map.json", '{"a": 1}', "is not an object"),
        ("tag_map.csv", "1girl\n", "line 1: name, category"),
        ("tag_map.csv", "a,0\n\nb\n", "line 2: name, category"),
    ],
)
def test_a_damaged_map_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(BadFile, match=f"{name}.*{says}"):
        tagger_vocabulary.load(tmp_path)
