"""Draw the sample library: made-up pictures with sidecar tags, and a list of the errors planted in them.

    python sample/draw_library.py demo
    python sample/draw_library.py demo --seed 3 --pictures 200

Reads nothing.
Writes OUT/library/ (pictures in sub-folders, each with a sidecar of tags) and OUT/planted.json: the
true tags of every picture, every difference between them and the sidecars, and which pictures are
near-duplicates. The same seed gives the same files to the last bit on one machine, whatever the
number of processes. A library that is already there with this seed and size is left as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

# A script's own folder is on the path, the project's is not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sample.odd_files import ODD_FILES, odd_file  # noqa: E402
from sample.paint import paint  # noqa: E402
from sample.picture import Picture, imagine, true_tags, variant  # noqa: E402
from sample.planting import DISAGREEMENT, KINDS, RATES, Planted, plant  # noqa: E402
from sample.retouching import HOWS, encode, retouch  # noqa: E402
from tagcheck import cli  # noqa: E402
from tagcheck.artifacts import write_json  # noqa: E402
from tagcheck.errors import UsageError  # noqa: E402

PICTURES = 640
SMALLEST = 40
IN_GROUPS = 0.10      # part of the pictures that stand in near-duplicate groups
ALIKE = 0.04          # part of the pictures that look like another one and are not its copy
COMMA_SIDECARS = 0.2  # part of the sidecars named `picture.txt` with commas
FORMATS = (("jpg", 0.68), ("png", 0.18), ("webp", 0.14))


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


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    made.add_argument("out", metavar="OUT", type=Path, help="the folder to put library/ and planted.json in; made if it is not there")
    made.add_argument("--seed", type=int, default=1, help="what the pictures are made up from (default: 1)")
    made.add_argument("--pictures", type=cli.at_least(SMALLEST), default=PICTURES, help=f"how many files, odd ones included (default: {PICTURES})")
    return made.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Plan, draw, plant, write."""
    args = parse_args(argv)
    library, planted_file = args.out / "library", args.out / "planted.json"
    if already_drawn(library, planted_file, args.seed, args.pictures):
        print(f"the sample library is already in {library}")
        return 0
    drawing = args.out / ".library.drawing"
    shutil.rmtree(drawing, ignore_errors=True)
    plan = plan_library(args.seed, args.pictures)
    hashes = draw(plan, drawing)
    errors = plant_errors(random.Random(f"{args.seed}:errors"), plan)
    write_sidecars(plan, errors, drawing)
    write_json(planted_file, answers(args.seed, plan, hashes, errors), ("planted", "near_duplicates", "alike", "odd_files"))
    os.replace(drawing, library)
    print(f"{len(hashes)} pictures with {len(errors)} planted errors in {library}, the answers in {planted_file}")
    return 0


def already_drawn(library: Path, planted_file: Path, seed: int, pictures: int) -> bool:
    """Whether this very library is there. Raises `UsageError` when the place is taken by something else."""
    if not library.exists():
        return False
    if planted_file.is_file():
        answered = json.loads(planted_file.read_text(encoding="utf-8"))
        if (answered.get("seed"), answered.get("pictures")) == (seed, pictures):
            return True
    raise UsageError(f"{library} is there and is not the library of seed {seed} with {pictures} pictures: remove it or name another folder")


def plan_library(seed: int, pictures: int) -> Library:
    """Everything that is going to be drawn, without drawing it."""
    rng = random.Random(f"{seed}:plan")
    library, number = Library(), 0
    copies = _group_sizes(rng, round(pictures * IN_GROUPS))
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
        size = 1
        if copies and not wants_variant and len(library.groups) % 7 == 3 and copies[-1] <= left:
            size = copies.pop()
        items = []
        for member in range(size):
            items.append(_item(rng, number, picture, "" if member == 0 else rng.choice(HOWS)))
            number += 1
        library.groups.append(Group(group_seed, picture, tuple(items)))
        left -= size
    for place, what in enumerate(ODD_FILES):
        library.groups.append(_odd_group(f"{seed}:odd:{place}", what, number + place))
    return library


def draw(library: Library, root: Path) -> list[str]:
    """Draw every file under `root` and return their SHA-256 in the plan's order."""
    for folder in {Path(item.path).parent for group in library.groups for item in group.items}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    return [hash for found in cli.progress(_drawn(library.groups, root), len(library.groups), "drawing", "picture") for hash in found]


def draw_group(group: Group, root: Path) -> list[str]:
    """Draw one picture and its copies; their SHA-256."""
    rng = random.Random(group.seed + ":files")
    hashes, first = [], b""
    for item in group.items:
        suffix = item.path.rpartition(".")[2]
        if item.odd:
            data = odd_file(item.odd, group.picture)
        elif item.how:
            data = retouch(rng, first, item.how, suffix)
        else:
            data = first = encode(paint(group.picture), suffix, rng.randint(86, 95))
        (root / item.path).write_bytes(data)
        hashes.append(hashlib.sha256(data).hexdigest())
    return hashes


def plant_errors(rng: random.Random, library: Library) -> dict[str, Planted]:
    """Which error is planted on which file, by its path. Odd files keep their true tags."""
    counts = Counter(tag for group in library.groups for item in group.items for tag in item.truth)
    vocabulary = [tag for tag, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]
    errors: dict[str, Planted] = {}
    for group in library.groups:
        for item in group.items:
            kind = DISAGREEMENT if item.how and rng.random() < 0.55 else rng.choices([*RATES, ""], [*RATES.values(), 1 - sum(RATES.values())])[0]
            planted = plant(rng, kind, item.truth, vocabulary) if kind and not item.odd else None
            if planted:
                errors[item.path] = planted
    return errors


def write_sidecars(library: Library, errors: dict[str, Planted], root: Path) -> None:
    """The tags as the owner wrote them, beside each picture."""
    for group in library.groups:
        for item in group.items:
            tags = errors[item.path].written(item.truth) if item.path in errors else item.truth
            text = ", ".join(tags) if item.sidecar.endswith(Path(item.path).stem + ".txt") else "\n".join(tags) + "\n"
            (root / item.sidecar).write_text(text, encoding="utf-8")


def answers(seed: int, library: Library, hashes: list[str], errors: dict[str, Planted]) -> dict:
    """The document for planted.json."""
    items = [item for group in library.groups for item in group.items]
    by_path = dict(zip((item.path for item in items), hashes))
    groups = [[by_path[item.path] for item in group.items] for group in library.groups]
    near = []
    for group, members in zip(library.groups, groups):
        for (one, a), (other, b) in combinations(zip(group.items, members), 2):
            near.append([*sorted((a, b)), " and ".join(sorted({how for how in (one.how, other.how) if how}))])
    planted = []
    for item in items:
        if item.path in errors:
            error = errors[item.path]
            planted.append({"hash": by_path[item.path], "kind": error.kind, "missing": list(error.missing), "incorrect": list(error.incorrect), **error.details})
    return {
        "kind": "planted_errors", "version": 1, "seed": seed, "pictures": len(items),
        "summary": {kind: sum(one["kind"] == kind for one in planted) for kind in KINDS},
        "truth": {by_path[item.path]: list(item.truth) for item in items},
        "planted": planted, "near_duplicates": sorted(near),
        "alike": sorted(sorted((groups[one][0], groups[other][0])) for one, other in library.alike),
        "odd_files": [[by_path[item.path], item.odd] for item in items if item.odd],
    }


def _group_sizes(rng: random.Random, pictures: int) -> list[int]:
    sizes: list[int] = []
    while sum(sizes) < pictures:
        sizes.append(rng.choices((2, 3, 4), (0.55, 0.3, 0.15))[0])
    return sizes


def _item(rng: random.Random, number: int, picture: Picture, how: str) -> Item:
    suffix = "jpg" if how == "recompression" else rng.choices([name for name, _ in FORMATS], [part for _, part in FORMATS])[0]
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
        return {"portrait": "Characters/Portraits", "upper body": "Characters/Half figures"}.get(picture.framing, "Characters/Full figures")
    if picture.things:
        return "Things & animals"
    return "Places/Indoors" if picture.place in ("room", "classroom") else "Places/Outdoors"


def _odd_group(seed: str, what: str, number: int) -> Group:
    picture, tags = ODD_FILES[what].imagine(random.Random(seed))
    path = f"Odd files/{number:04d} {what}.{ODD_FILES[what].suffix}"
    return Group(seed, picture, (Item(path, tuple(sorted(tags)), f"{path}.txt", odd=what),))


def _drawn(groups: list[Group], root: Path) -> Iterator[list[str]]:
    """The hashes of each group in order, drawn by as many processes as there are processors where that pays."""
    workers = min(os.cpu_count() or 1, len(groups) // 60)
    if workers < 2:
        yield from (draw_group(group, root) for group in groups)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(draw_group, groups, [root] * len(groups), chunksize=8)


if __name__ == "__main__":
    cli.run(main)
