"""Plant faults in pictures, and count what find_technical_faults.py and cleanvision find of them, in one run.

    pip install cleanvision
    python benchmarks/technical_faults.py --pictures ~/emoji --pictures ~/stamps

Reads   the pictures below each folder (drawn scenes without)
Writes  nothing but temporary folders: figures on stdout

Half of the pictures get a fault: a tenth each is darkened, blurred, made tiny, cut off, or named as what it is not. The rest,
and a fault that is called by another's name, count against precision; a picture may have had a fault of its own before.
"""

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from common import alone, embedded, pictures_below, silent
from PIL import Image, ImageFilter

import find_technical_faults
from sample.paint.picture import imagine
from sample.paint.sheet import paint
from sample.plant.copies import encode
from tagcheck import data_folder, detectors, script

Found = set[tuple[str, str]]  # (name of a file, fault)
PLANTED = ("dark", "blurred", "tiny", "damaged", "wrong extension")
THEIRS = {"dark": "dark", "blurry": "blurred", "odd_size": "tiny", "light": "light", "low_information": "empty"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    script.add_option(parser, "--pictures", "real pictures (default: drawn ones)", [], action="append", metavar="DIR")
    script.add_whole(parser, "--count", "of each set", 300, low=50)
    script.add_whole(parser, "--seed", "of the draw and the faults", 0, low=0)
    args = parser.parse_args(argv)
    for named in args.pictures or [""]:
        with TemporaryDirectory() as scratch:
            library = Path(scratch) / "library"
            planted = plant(library, pictures(named, args.count, args.seed), args.seed)
            print(f"{Path(named).name or 'drawn'}: {args.count} pictures, {len(planted)} with a fault")
            peers = [("cleanvision", theirs)] if find_spec("cleanvision") else []
            for who, find in [("tagcheck", ours), *peers]:
                start = time.perf_counter()
                found = alone(find, library)
                tell(who, time.perf_counter() - start, found, planted)
    return 0


def pictures(named: str, count: int, seed: int) -> list[Image.Image]:
    """Pictures of a folder and what is below it, or drawn ones; none smaller than 96 pixels."""
    if not named:
        return [paint(imagine(Random(f"faults:{seed}:{number}"))).convert("RGB") for number in range(count)]
    kept: list[Image.Image] = []
    for path in pictures_below(Path(named), seed):
        with Image.open(path) as opened:
            if min(opened.size) >= 96 and len(kept) < count:
                clear = opened.convert("RGBA")
                kept.append(Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB"))
    return kept


def plant(library: Path, sound: list[Image.Image], seed: int) -> Found:
    """Write the pictures, half of them with a fault; which."""
    library.mkdir(parents=True)
    rng, planted = Random(f"planted faults:{seed}"), set()
    for number, picture in enumerate(sound):
        fault = PLANTED[number // 2 % len(PLANTED)] if number % 2 else ""
        name = f"{number:05d}.jpg" if fault != "wrong extension" else f"{number:05d}.png"
        (library / name).write_bytes(with_fault(picture, fault, rng))
        if fault:
            planted.add((name, fault))
    return planted


def with_fault(picture: Image.Image, fault: str, rng: Random) -> bytes:
    """A JPEG of the picture with the fault."""
    if fault == "dark":
        share = rng.uniform(0.05, 0.15)
        picture = picture.point(lambda value: int(value * share))
    elif fault == "blurred":
        picture = picture.filter(ImageFilter.GaussianBlur(max(picture.size) * rng.uniform(0.006, 0.012)))
    elif fault == "tiny":
        picture.thumbnail((rng.randint(16, 48),) * 2)
    data = encode(picture, "jpg", 90)
    return data[: int(len(data) * rng.uniform(0.2, 0.8))] if fault == "damaged" else data


def ours(library: Path) -> Found:
    """What the detector's report says of each file."""
    with TemporaryDirectory() as scratch:
        folder, names = embedded(library, Path(scratch))
        with silent():
            find_technical_faults.main(["--data-dir", scratch, "--library", str(library)])
        kind = detectors.own_report("find_technical_faults.py")
        errors = data_folder.load(folder.require(kind), kind)["errors"]
    return {(names[one["hash"]], tag["tag"].removeprefix("fault:")) for one in errors for tag in one["tags"]}


def theirs(library: Path) -> Found:
    """What cleanvision says of each file by its defaults, of those that are not cut off."""
    from cleanvision import Imagelab

    with silent():
        lab = Imagelab(filepaths=[str(path) for path in sorted(library.iterdir()) if whole(path)])
        lab.find_issues({name: {} for name in THEIRS}, n_jobs=1)
    table = lab.issues
    return {
        (Path(path).name, fault) for name, fault in THEIRS.items() for path in table.index[table[f"is_{name}_issue"]]
    }


def whole(path: Path) -> bool:
    """Whether Pillow opens the file: cleanvision ends at the first that it cannot."""
    try:
        with Image.open(path) as opened:
            opened.load()
    except OSError:
        return False
    return True


def tell(who: str, seconds: float, found: Found, planted: Found) -> None:
    """One line: recall of each fault, and precision."""
    right = found & planted
    by_kind = (f"{fault} {share(right, planted, lambda one, fault=fault: one[1] == fault):.2f}" for fault in PLANTED)
    print(
        f"  {who:12} {seconds:6.1f} s  recall {', '.join(by_kind)}; precision {len(right) / max(len(found), 1):.2f} of {len(found)}"
    )


def share(right: Found, planted: Found, which: Callable[[tuple[str, str]], bool]) -> float:
    return sum(map(which, right)) / max(sum(map(which, planted)), 1)


if __name__ == "__main__":
    script.run(main)
