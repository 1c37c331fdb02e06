"""Errors put into true tags on purpose, each written down, as an owner makes them in real life."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sample.paint import world
from sample.paint.world import weighted

MISSING, INCORRECT, CONTRADICTORY = "missing", "incorrect", "contradictory"
FORGOTTEN, SWAPPED, DISAGREEMENT = "series_forgotten", "series_swapped", "duplicate_disagreement"
KINDS = (MISSING, INCORRECT, CONTRADICTORY, FORGOTTEN, SWAPPED, DISAGREEMENT)
# Part of the pictures that each kind is planted on, where it can be.
RATES = {MISSING: 0.15, INCORRECT: 0.07, CONTRADICTORY: 0.05, FORGOTTEN: 0.06, SWAPPED: 0.06}
INVISIBLE = ("source:", "title:")
NOT_VISIBLE_EITHER = frozenset({"favourite", "wallpaper"})
# Of each set only one can be true of a picture; of the second list only while a single character is shown.
OF_ANY = "solo, 2girls|1girl, 2girls|day, night, sunset|indoors, outdoors|portrait, upper body, full body"
OF_ONE = "standing, sitting, jumping|long hair, short hair|open mouth, closed mouth"
COLOURS = tuple(
    frozenset(f"{colour} {part}" for colour in colours)
    for part, colours in (("hair", world.HAIR_COLOURS), ("eyes", world.EYE_COLOURS))
)
ANY_SETS, ONE_SETS = (tuple(frozenset(one.split(", ")) for one in text.split("|")) for text in (OF_ANY, OF_ONE))
EXCLUSIVE = (*ANY_SETS, *ONE_SETS, *COLOURS)


@dataclass(frozen=True)
class Planted:
    """One planted error: `missing` are true tags that are not written, `incorrect` are written and not true."""

    kind: str
    missing: tuple[str, ...] = ()
    incorrect: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def written(self, truth: Sequence[str]) -> list[str]:
        return sorted((set(truth) - set(self.missing)) | set(self.incorrect))


def plant(rng: random.Random, kind: str, truth: Sequence[str], vocabulary: Sequence[str]) -> Planted | None:
    """An error of this kind in a picture with these true tags, or None where it cannot be made there.

    `vocabulary`: the tags that occur in the library, from the common to the rare, for wrong ones.
    """
    ways = (_missing, _incorrect, _contradictory, _forgotten, _swapped, _disagreement)
    return ways[KINDS.index(kind)](rng, truth, vocabulary)


def visible(tags: Sequence[str]) -> list[str]:
    """Those of `tags` that the picture shows."""
    return [tag for tag in tags if not tag.startswith(INVISIBLE) and tag not in NOT_VISIBLE_EITHER]


def _missing(rng: random.Random, truth: Sequence[str], vocabulary: Sequence[str]) -> Planted | None:
    """One to three tags left out; of every sixth such picture half of the tags."""
    choice = [tag for tag in visible(truth) if not tag.startswith("series:")]
    if len(choice) < 4:
        return None
    count = len(choice) // 2 if rng.random() < 1 / 6 else rng.choice((1, 1, 2, 3))
    return Planted(MISSING, tuple(sorted(rng.sample(choice, count))))


def _incorrect(rng: random.Random, truth: Sequence[str], vocabulary: Sequence[str]) -> Planted | None:
    """One or two tags that are not true, or a colour written as another colour."""
    coloured = [(tag, group) for group in COLOURS for tag in truth if tag in group]
    if coloured and rng.random() < 0.35:
        tag, group = rng.choice(coloured)
        wrong = rng.choice(sorted(group - set(truth)))
        return Planted(INCORRECT, (tag,), (wrong,))
    blocked = set(truth).union(*EXCLUSIVE)
    choice = [tag for tag in visible(vocabulary) if tag not in blocked and not tag.startswith("series:")]
    if not choice:
        return None
    wrong = {weighted(rng, choice, 0.5) for _ in range(rng.choice((1, 1, 2)))}
    return Planted(INCORRECT, (), tuple(sorted(wrong)))


def _contradictory(rng: random.Random, truth: Sequence[str], vocabulary: Sequence[str]) -> Planted | None:
    """Beside a true tag another one that cannot be true with it."""
    possible = EXCLUSIVE if "solo" in truth else ANY_SETS
    groups = [group for group in possible if group & set(truth) and group - set(truth)]
    if not groups:
        return None
    group = rng.choice(groups)
    kept = sorted(group & set(truth))[0]
    wrong = rng.choice(sorted(group - set(truth)))
    return Planted(CONTRADICTORY, (), (wrong,), {"pair": sorted((kept, wrong))})


def _forgotten(rng: random.Random, truth: Sequence[str], vocabulary: Sequence[str]) -> Planted | None:
    """The series is not written, and every other time neither are its characters."""
    series = [tag for tag in truth if tag.startswith("series:")]
    if not series:
        return None
    people = [tag for tag in truth if tag.startswith("character:")] if rng.random() < 0.5 else []
    return Planted(FORGOTTEN, tuple(sorted(series + people)), (), {"series": series[0]})


def _swapped(rng: random.Random, truth: Sequence[str], vocabulary: Sequence[str]) -> Planted | None:
    """Another series is written: the similar one where there is one, every other time."""
    series = [tag for tag in truth if tag.startswith("series:")]
    if not series:
        return None
    name = series[0].partition(":")[2]
    alike = [other for pair in world.LOOK_ALIKES if name in pair for other in pair if other != name]
    others = [other.name for other in world.SERIES if other.name != name]
    wrong = f"series:{alike[0] if alike and rng.random() < 0.5 else weighted(rng, others)}"
    return Planted(SWAPPED, (series[0],), (wrong,), {"series": series[0]})


def _disagreement(rng: random.Random, truth: Sequence[str], vocabulary: Sequence[str]) -> Planted | None:
    """One to three tags that its copies have are not on this one."""
    choice = visible(truth)
    return Planted(DISAGREEMENT, tuple(sorted(rng.sample(choice, rng.choice((1, 2, 3)))))) if len(choice) >= 3 else None
