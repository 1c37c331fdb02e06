"""Draw the sample library: made-up pictures with sidecar tags, and a list of the errors planted in them.

    python sample/draw_library.py demo
    python sample/draw_library.py demo --seed 3 --pictures 200

Reads nothing.
Writes OUT/library/ (pictures in sub-folders, each with a sidecar of tags) and OUT/planted.json: the
true tags of every picture, every difference between them and the sidecars, and which pictures are
near-duplicates. The same seed gives the same files to the last bit on one machine, whatever the
number of processes. A library that is already there with this seed and size is left as it is.
"""

import json
import random
import shutil
import sys
from collections import Counter
from contextlib import suppress
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script has only its own folder on the path

from sample.plant.errors import DISAGREEMENT, KINDS, RATES, Planted, plant
from sample.plant.library import SMALLEST, Library, draw, plan_library
from tagcheck import script
from tagcheck.errors import UsageError
from tagcheck.files import replace_over, write_json

PICTURES = 640


def main(argv: list[str] | None = None) -> int:
    made = script.plain_parser(__doc__)
    out = "the folder to put library/ and planted.json in; made if it is not there"
    made.add_argument("out", metavar="OUT", type=script.place, help=out)
    script.add_option(made, "--seed", "what the pictures are made up from", 1, type=int)
    script.add_whole(made, "--pictures", "how many files, odd ones included", PICTURES, low=SMALLEST)
    args = made.parse_args(argv)
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
    document = answers(args.seed, plan, hashes, errors)
    write_json(planted_file, document, ("planted", "near_duplicates", "alike", "odd_files"))
    replace_over(drawing, library)
    print(f"{len(hashes)} pictures with {len(errors)} planted errors in {library}, the answers in {planted_file}")
    return 0


def already_drawn(library: Path, planted_file: Path, seed: int, pictures: int) -> bool:
    """Whether this very library is there. Raises `UsageError` when the place is taken by something else."""
    if not library.exists():
        return False
    with suppress(FileNotFoundError, ValueError):  # no such file, or none of ours: the place is taken
        answered = json.loads(planted_file.read_text(encoding="utf-8"))
        if isinstance(answered, dict) and (answered.get("seed"), answered.get("pictures")) == (seed, pictures):
            return True
    wanted = f"the library of seed {seed} with {pictures} pictures"
    raise UsageError(f"{library} is there and is not {wanted}: remove it or name another folder")


def plant_errors(rng: random.Random, library: Library) -> dict[str, Planted]:
    """Which error is planted on which file, by its path. Odd files keep their true tags."""
    counts = Counter(tag for item in library.items() for tag in item.truth)
    vocabulary = [tag for tag, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]
    errors: dict[str, Planted] = {}
    for item in library.items():
        kind = DISAGREEMENT
        if not (item.how and rng.random() < 0.55):
            kind = rng.choices([*RATES, ""], [*RATES.values(), 1 - sum(RATES.values())])[0]
        planted = plant(rng, kind, item.truth, vocabulary) if kind and not item.odd else None
        if planted:
            errors[item.path] = planted
    return errors


def write_sidecars(library: Library, errors: dict[str, Planted], root: Path) -> None:
    """The tags as the owner wrote them, beside each picture."""
    for item in library.items():
        tags = errors[item.path].written(item.truth) if item.path in errors else item.truth
        text = ", ".join(tags) if item.sidecar.endswith(Path(item.path).stem + ".txt") else "\n".join(tags) + "\n"
        (root / item.sidecar).write_text(text, encoding="utf-8")


def answers(seed: int, library: Library, hashes: list[str], errors: dict[str, Planted]) -> dict:
    items = library.items()
    by_path = dict(zip((item.path for item in items), hashes))
    groups = [[by_path[item.path] for item in group.items] for group in library.groups]
    near = []
    for group, members in zip(library.groups, groups):
        for (one, a), (other, b) in combinations(zip(group.items, members), 2):
            near.append([*sorted((a, b)), " and ".join(sorted({how for how in (one.how, other.how) if how}))])
    planted = []
    for item in items:
        if error := errors.get(item.path):
            differences = {"missing": list(error.missing), "incorrect": list(error.incorrect)}
            planted.append({"hash": by_path[item.path], "kind": error.kind, **differences, **error.details})
    return {
        "kind": "planted_errors",
        "version": 1,
        "seed": seed,
        "pictures": len(items),
        "summary": {kind: sum(one["kind"] == kind for one in planted) for kind in KINDS},
        "truth": {by_path[item.path]: list(item.truth) for item in items},
        "planted": planted,
        "near_duplicates": sorted(near),
        "alike": sorted(sorted((groups[one][0], groups[other][0])) for one, other in library.alike),
        "odd_files": [[by_path[item.path], item.odd] for item in items if item.odd],
    }


if __name__ == "__main__":
    script.run(main)
