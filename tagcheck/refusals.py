"""What an owner's "no" to a tag covers: the one place that decides it, for libraries, detectors and the page.

An owner says no by taking a tag off a picture in the library's own program, by ignoring the suggestion to add it, or by
accepting the one to remove it. Programs delete the spelling that is stored, which need not be the one that is seen: a picture that shows
"one girl" because "1girl" is stored has "1girl" deleted afterwards. So a no covers every spelling that is seen
as the same tag, and for every tag that would bring it back as its parent. Where the same tag is still seen on the
picture, its owner has only removed a spelling, which is not a no.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

NONE: frozenset[Any] = frozenset()
# Answers that say that a tag does not belong to the picture, and that it does.
NOT_THERE, THERE = {("add", "ignored"), ("remove", "accepted")}, {("remove", "ignored"), ("add", "accepted")}


class Refusal(NamedTuple):
    """Why a tag is a no: the tag that must not come back, and the spelling that the owner deleted or ignored."""

    refused: str
    deleted: str


@dataclass(frozen=True)
class Spellings:
    """How a library shows tags: `siblings` a tag -> the tags seen in its place, on any tag service; `parents` a tag -> all
    that are seen with it.

    >>> shows = Spellings({"1girl": ["one girl"]}, {"sword": ["weapon"]})
    >>> sorted(shows.refused(["1girl", "weapon"], shown=["solo"])), shows.refused(["1girl"], shown=["one girl"])
    (['1girl', 'one girl', 'weapon'], {})
    >>> shows.refusal("sword", shows.refused(["weapon"], shown=[]))
    Refusal(refused='weapon', deleted='weapon')
    """

    siblings: Mapping[str, Collection[str]] = field(default_factory=dict)
    parents: Mapping[str, Collection[str]] = field(default_factory=dict)

    @cached_property
    def _brought(self) -> dict[str, frozenset[str]]:
        return {}

    def same(self, tag: str) -> frozenset[str]:
        """The tag and every tag that is seen in its place, to the ends of all sibling chains."""
        found, following = {tag}, [tag]
        while following:
            further = set(self.siblings.get(following.pop(), NONE)) - found
            found |= further
            following += further
        return frozenset(found)

    def brings(self, tag: str) -> frozenset[str]:
        """Everything that adding `tag` would make seen: itself, what is seen in its place, and their parents, and theirs."""
        if tag not in self._brought:
            found = set(self.same(tag))
            following = list(found)
            while following:
                above = self.parents.get(following.pop(), NONE)
                further = NONE.union(*map(self.same, above)) - found
                found |= further
                following += further
            self._brought[tag] = frozenset(found)
        return self._brought[tag]

    def refused(self, deleted: Iterable[str], shown: Collection[str]) -> dict[str, str]:
        """Each tag that is a no on a picture whose owner deleted `deleted` and sees `shown` -> the spelling deleted."""
        found: dict[str, str] = {}
        for spelling in sorted(deleted):
            same = self.same(spelling)
            if same.isdisjoint(shown):
                found |= {tag: spelling for tag in same if tag not in found or tag == spelling}
        return found

    def refusal(self, tag: str, refused: Mapping[str, str]) -> Refusal | None:
        """Why adding `tag` is a no, given what `refused` says of the picture; None where it is not."""
        if not refused:
            return None
        direct = [one for one in (tag, *sorted(self.same(tag))) if one in refused]
        back = direct or sorted(self.brings(tag) & refused.keys())
        return Refusal(back[0], refused[back[0]]) if back else None


class Picture(Protocol):
    """What is asked of a picture: its tags as they are seen, and `Spellings.refused` of what was deleted from it."""

    @property
    def hash(self) -> str: ...
    @property
    def tags(self) -> Collection[str]: ...
    @property
    def refused(self) -> Mapping[str, str]: ...


class Tagged(Picture, Protocol):
    """A picture of which is also known which of its tags are there by a sibling or parent alone."""

    @property
    def implied_tags(self) -> Collection[str]: ...


@dataclass(frozen=True)
class Noes:
    """What an owner has refused on their pictures, in the library (`Picture.refused`) and on the page.

    `ignored` are the tags whose addition they ignored or whose removal they accepted, by hash; `kept` the (hash, tag) whose removal
    they ignored or whose addition they accepted; `muted` the tags that they do not want to be asked about, which says nothing of these or other tags.
    """

    spellings: Spellings
    ignored: Mapping[str, Collection[str]] = field(default_factory=dict)
    kept: Collection[tuple[str, str]] = NONE
    muted: Collection[str] = NONE

    @classmethod
    def of(
        cls, spellings: Spellings, decided: Mapping[tuple[str, str, str], str], muted: Collection[str] = NONE
    ) -> Noes:
        """From the page's decisions, (hash, tag, "add" | "remove") -> state."""
        refused: dict[str, set[str]] = {}
        kept: set[tuple[str, str]] = set()
        for (hash, tag, action), state in decided.items():
            if (action, state) in NOT_THERE:
                refused.setdefault(hash, set()).add(tag)
            elif (action, state) in THERE:
                kept.add((hash, tag))
        return cls(spellings, refused, kept, muted)

    def deleted_before(self, picture: Picture, tag: str) -> bool:
        """Whether adding `tag` would bring back what was deleted in the library."""
        return self.spellings.refusal(tag, picture.refused) is not None

    def ignored_before(self, picture: Picture, tag: str) -> bool:
        """Whether adding `tag` would bring in what was ignored on the page."""
        return self.spellings.refusal(tag, self._ignored(picture)) is not None

    def adding(self, picture: Picture, tag: str) -> bool:
        return self.deleted_before(picture, tag) or self.ignored_before(picture, tag)

    def removing(self, picture: Picture, tag: str) -> bool:
        return (picture.hash, tag) in self.kept

    def why_not(self, picture: Tagged, tag: str, adding: bool) -> str | None:
        """Why adding or removing `tag` is not suggested: "muted", "deleted", "ignored" or "implied"; None where it may be."""
        if tag in self.muted:
            return "muted"
        if adding:
            if self.deleted_before(picture, tag):
                return "deleted"
            return "ignored" if self.ignored_before(picture, tag) else None
        if self.removing(picture, tag):
            return "ignored"
        return "implied" if tag in picture.implied_tags else None

    def concerned(self, picture: Tagged, adding: bool) -> bool:
        """Whether `why_not` may give another reason than "muted" for a tag of the picture."""
        if adding:
            return bool(picture.refused) or picture.hash in self.ignored
        return bool(picture.implied_tags) or picture.hash in self._kept_on

    @cached_property
    def _kept_on(self) -> frozenset[str]:
        return frozenset(hash for hash, _ in self.kept)

    def _ignored(self, picture: Picture) -> dict[str, str]:
        ignored = self.ignored.get(picture.hash)
        return self.spellings.refused(ignored, picture.tags) if ignored else {}
