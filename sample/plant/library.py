"""A sample library before and while it is drawn: which pictures, which copies of them, which odd files, where they stand."""

import hashlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

from sample.paint.picture import Picture, imagine, true_tags, variant
from sample.paint.sheet import paint
from sample.plant.copies import HOWS, encode, retouch
from sample.plant.odd_files import ODD_FILES
from tagcheck import script

SMALLEST = 40
IN_GROUPS = 0.10  # part of the pictures that stand in near-duplicate groups
ALIKE = 0.04  # part of the pictures that look like another one and are not its copy
COMMA_SIDECARS = 0.2  # part of the sidecars named `picture.txt` with commas
FORMATS = {"jpg": 0.68, "png": 0.18, "webp": 0.14}


@dataclass(frozen=True)
class Item:
    """One file of the library. `how` says what was done to the picture before it in its group, "" for the picture itself."""

    path: str
    truth: tuple[str, ...]
    sidecar: str
    how: str = ""
    odd: str = ""


@dataclass(frozen=True)
class Group:
    """A picture and its retouched copies, drawn together since the copies are made from the first file."""

    seed: str
    picture: Picture
    items: tuple[Item, ...]


@dataclass
class Library:
    """What is to be drawn: groups in order, the indices of the groups that are `variant`s of another."""

    groups: list[Group] = field(default_factory=list)
    alike: list[tuple[int, int]] = field(default_factory=list)

    def items(self) -> list[Item]:
        return [item for group in self.groups for item in group.items]


def plan_library(seed: int, pictures: int) -> Library:
    """Everything that is going to be drawn, without drawing it."""
    rng = random.Random(f"{seed}:plan")
    library, number = Library(), 0
    copies: list[int] = []
    while sum(copies) < round(pictures * IN_GROUPS):
        copies.append(rng.choices((2, 3, 4), (0.55, 0.3, 0.15))[0])
    alike = round(pictures * ALIKE / 2)
    left = pictures - len(ODD_FILES)
    while left > 0:
        group_seed = f"{seed}:{len(library.groups)}"
        wants_variant = alike > 0 and len(library.groups) % 5 == 4 and library.groups[-1].picture.figures
        picture = imagine(random.Random(group_seed))
        if wants_variant:
            picture = variant(random.Random(group_seed), library.groups[-1].picture)
            library.alike.append((len(library.groups) - 1, len(library.groups)))
            alike -= 1
        several = copies and not wants_variant and len(library.groups) % 7 == 3 and copies[-1] <= left
        size = copies.pop() if several else 1
        items = [_item(rng, number + member, picture, rng.choice(HOWS) if member else "") for member in range(size)]
        library.groups.append(Group(group_seed, picture, tuple(items)))
        number, left = number + size, left - size
    for place, (what, odd) in enumerate(ODD_FILES.items()):
        group_seed = f"{seed}:odd:{place}"
        picture, tags = odd.imagine(random.Random(group_seed))
        path = f"Odd files/{number + place:04d} {what}.{odd.suffix}"
        item = Item(path, tuple(sorted(tags)), f"{path}.txt", odd=what)
        library.groups.append(Group(group_seed, picture, (item,)))
    return library


def draw(library: Library, root: Path) -> list[str]:
    """Draw every file under `root` and return their SHA-256 in the plan's order."""
    for folder in {Path(item.path).parent for item in library.items()}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    drawn = script.progress(_drawn(library.groups, root), len(library.groups), "drawing", "picture")
    return [hash for found in drawn for hash in found]


def draw_group(group: Group, root: Path) -> list[str]:
    """Draw one picture and its copies; their SHA-256."""
    rng = random.Random(group.seed + ":files")
    hashes, first = [], b""
    for item in group.items:
        suffix = item.path.rpartition(".")[2]
        if item.odd:
            data = ODD_FILES[item.odd].encode(group.picture)
        elif item.how:
            data = retouch(rng, first, item.how, suffix)
        else:
            data = first = encode(paint(group.picture), suffix, rng.randint(86, 95))
        (root / item.path).write_bytes(data)
        hashes.append(hashlib.sha256(data).hexdigest())
    return hashes


def _item(rng: random.Random, number: int, picture: Picture, how: str) -> Item:
    suffix = "jpg" if how == "recompression" else rng.choices(tuple(FORMATS), FORMATS.values())[0]
    stem = rng.choices((f"img_{number:04d}", f"IMG {number:04d}", f"{number:04d} (été)"), (0.8, 0.15, 0.05))[0]
    folder = "Inbox" if how and rng.random() < 0.5 else _page(picture)
    path = f"{folder}/{stem}.{suffix}"
    sidecar = f"{folder}/{stem}.txt" if rng.random() < COMMA_SIDECARS else f"{path}.txt"
    return Item(path, tuple(true_tags(picture)), sidecar, how)


def _page(picture: Picture) -> str:
    """The folder an owner would sort the picture into."""
    if len(picture.figures) == 2:
        return "Characters/Two together"
    if picture.figures:
        named = {"portrait": "Portraits", "upper body": "Half figures", "full body": "Full figures"}
        return f"Characters/{named[picture.framing]}"
    if picture.things:
        return "Things & animals"
    return "Places/Indoors" if picture.place in ("room", "classroom") else "Places/Outdoors"


def _drawn(groups: list[Group], root: Path) -> Iterator[list[str]]:
    """The hashes of each group in order, drawn by as many processes as there are processors where that pays."""
    workers = min(os.cpu_count() or 1, len(groups) // 60)
    if workers < 2:
        yield from map(draw_group, groups, repeat(root))
    else:
        with ProcessPoolExecutor(workers) as pool:
            yield from pool.map(draw_group, groups, repeat(root), chunksize=8)
