"""What a no covers: every spelling of the tag, whatever would bring it back, and nothing that is still seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tagcheck.refusals import Noes, Refusal, Spellings

SHOWS = Spellings(
    {"1girl": ["one girl"], "one_girl": ["1girl"], "wepon": ["weapon"], "round": ["circle"], "circle": ["round"]},
    {"sword": ["weapon"], "katana": ["sword", "weapon"], "tachi": ["katana"]},
)


@dataclass
class Picture:
    hash: str = "a" * 64
    tags: frozenset[str] = frozenset()
    deleted: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    implied_tags: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.refused = SHOWS.refused(self.deleted, self.tags)


@pytest.mark.parametrize(
    ("deleted", "shown", "tag", "refusal"),
    [
        (["1girl"], [], "1girl", Refusal("1girl", "1girl")),
        (["1girl"], [], "one girl", Refusal("one girl", "1girl")),
        (["one_girl"], [], "one girl", Refusal("one girl", "one_girl")),
        (["one_girl"], [], "1girl", Refusal("1girl", "one_girl")),
        (["one girl"], [], "one_girl", Refusal("one girl", "one girl")),
        (["1girl"], ["one girl"], "one girl", None),
        (["1girl"], [], "solo", None),
        (["weapon"], [], "katana", Refusal("weapon", "weapon")),
        (["wepon"], [], "katana", Refusal("weapon", "wepon")),
        (["wepon"], [], "tachi", Refusal("weapon", "wepon")),
        (["weapon"], ["weapon"], "katana", None),
        (["katana"], [], "sword", None),
        (["round"], [], "circle", Refusal("circle", "round")),
        ([], [], "1girl", None),
    ],
)
def test_what_a_deletion_covers(deleted, shown, tag, refusal):
    assert SHOWS.refusal(tag, SHOWS.refused(deleted, shown)) == refusal


def test_what_was_ignored_on_the_page_covers_the_same():
    picture = Picture()
    noes = Noes.of(
        SHOWS,
        {
            (picture.hash, "weapon", "add"): "ignored",
            (picture.hash, "hat", "remove"): "ignored",
            ("b" * 64, "x", "add"): "ignored",
        },
    )
    assert noes.ignored_before(picture, "katana") and noes.ignored_before(picture, "weapon")
    assert not noes.ignored_before(picture, "x") and not noes.deleted_before(picture, "katana")
    assert noes.removing(picture, "hat") and not noes.removing(picture, "weapon")
    seen = Picture(tags=frozenset(["weapon"]))  # its owner has added it since
    assert not noes.adding(seen, "katana")


def test_what_was_accepted_is_not_suggested_to_be_taken_back():
    picture = Picture(tags=frozenset(["hat"]))
    noes = Noes.of(SHOWS, {(picture.hash, "hat", "add"): "accepted", (picture.hash, "weapon", "remove"): "accepted"})
    assert noes.why_not(picture, "hat", adding=False) == "ignored"
    assert noes.why_not(picture, "katana", adding=True) == noes.why_not(picture, "weapon", adding=True) == "ignored"
    undone = Noes.of(SHOWS, {(picture.hash, "hat", "add"): "undone", (picture.hash, "weapon", "remove"): "undone"})
    assert undone.why_not(picture, "hat", adding=False) is undone.why_not(picture, "katana", adding=True) is None


@pytest.mark.parametrize("state", ["accepted", "skipped", "flagged", "undone"])
def test_only_an_ignored_addition_is_a_no(state):
    picture = Picture()
    assert not Noes.of(SHOWS, {(picture.hash, "hat", "add"): state}).adding(picture, "hat")
