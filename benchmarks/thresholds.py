"""Plant copies, or faults, among pictures, let the stages find them, and count: recall and precision, none tuned.

    python benchmarks/thresholds.py
    python benchmarks/thresholds.py --pictures ~/emoji --pictures ~/stamps --model-dir ~/taggers/efficientnet-lite0
    python benchmarks/thresholds.py --faults --pictures ~/emoji --count 300

Reads   the pictures below each folder (drawn ones without), model folders (sample/network, and each --model-dir)
Writes  nothing but temporary folders: figures on stdout

A fifth of the pictures get a copy: cropped, scaled, recompressed, recoloured or mirrored, by the sample's code and strengths,
not by those that the extraction measures with. Peers in the same run: the plain cosine of .95, and a 64-bit perceptual hash
(a cosine transform of 32 x 32) within 10 bits. Of pictures that are the same before anything is planted, or mirrored, one is taken.

With --faults half of the pictures get one instead: a tenth each is darkened, blurred, made tiny, cut off, or named as what it is
not. The rest, and a fault that is called by another's name, count against precision; a picture may have had a fault of its
own before. Peer: cleanvision by its defaults (pip install cleanvision), where it is installed.
"""

import argparse
import io
import random
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from common import MIRROR, NETWORK, alone, copy_of, embedded, pictures_below, silent
from PIL import Image, ImageFilter
from scipy.fft import dctn

import find_near_duplicates
import find_technical_faults
from sample.paint.picture import imagine, variant
from sample.paint.sheet import paint
from sample.plant.copies import HOWS, encode
from tagcheck import data_folder, detectors, script
from tagcheck.detectors import NEAR_DUPLICATES

KINDS = (*HOWS, MIRROR)
COPIED = 5  # one picture in so many gets a copy
BITS = 10
SAME = 4.0  # grey levels, in the root of the mean square, up to which two pictures of a folder are one
FAULTS = ("dark", "blurred", "tiny", "damaged", "wrong extension")
THEIRS = {"dark": "dark", "blurry": "blurred", "odd_size": "tiny", "light": "light", "low_information": "empty"}
LEAST = 96  # pixels of a picture that gets a fault
Pairs = set[tuple[str, str]]  # of file names, or of a file's name and its fault


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    pictures = "real pictures (default: drawn ones)"
    script.add_option(parser, "--pictures", pictures, type=Path, action="append", metavar="DIR")
    model = "another tagger beside the sample's"
    script.add_option(parser, "--model-dir", model, type=Path, action="append", metavar="DIR")
    script.add_whole(parser, "--count", "of each set", 700, low=50)
    script.add_option(parser, "--seed", "of the draw and the copies", 0, type=int)
    script.add_switch(parser, "--faults", "plant faults instead of copies")
    args = parser.parse_args(argv)
    sets = {path.name: taken(path, args) for path in args.pictures or ()}
    if not (args.faults and sets):
        sets["drawn"] = drawn(args.count, args.seed)
    for name, pictures in sets.items():
        with tempfile.TemporaryDirectory() as scratch:
            (faults if args.faults else copies)(name, pictures, Path(scratch), args)
    return 0


def copies(name: str, pictures: list[bytes], scratch: Path, args: argparse.Namespace) -> None:
    """Plant copies, and say what the hash and each network find of them."""
    library = scratch / "library"
    planted = plant(library, pictures, args.seed)
    print(f"{name}: {len(pictures)} pictures, {len(planted)} planted copies")
    tell("64-bit hash within 10", hashed_pairs(library), planted, KINDS)
    for folder in [NETWORK, *(args.model_dir or ())]:
        found, plain = run_stages(library, scratch / folder.name, folder)
        tell(f"{folder.name}, cosine .95", plain, planted, KINDS)
        tell(f"{folder.name}, measured", found, planted, KINDS)


def faults(name: str, pictures: list[bytes], scratch: Path, args: argparse.Namespace) -> None:
    """Plant faults, and say what the detector and its peer find of them."""
    library = scratch / "library"
    library.mkdir()
    rng, planted = random.Random(f"planted faults:{args.seed}"), dict[tuple[str, str], str]()
    for number, data in enumerate(pictures):
        fault = FAULTS[number // 2 % len(FAULTS)] if number % 2 else ""
        path = library / f"{number:05d}.{'png' if fault == 'wrong extension' else 'jpg'}"
        path.write_bytes(with_fault(data, fault, rng))
        planted |= {(path.name, fault): fault} if fault else {}
    print(f"{name}: {len(pictures)} pictures, {len(planted)} with a fault")
    for who, find in [("tagcheck", ours), *([("cleanvision", theirs)] if find_spec("cleanvision") else [])]:
        start = time.perf_counter()
        found = alone(find, library)
        tell(f"{who}, {time.perf_counter() - start:.1f} s", found, planted, FAULTS)


def taken(folder: Path, args: argparse.Namespace) -> list[bytes]:
    """Pictures of a folder and what is below it, none twice; with faults, none smaller than `LEAST`."""
    found: list[bytes] = []
    small = np.empty((0, 32, 32))
    for data in (path.read_bytes() for path in pictures_below(folder, args.seed)):
        with Image.open(io.BytesIO(data)) as opened:
            if args.faults and min(opened.size) < LEAST:
                continue
            grey = np.asarray(opened.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
        apart = [np.sqrt(np.mean((small - one) ** 2, axis=(1, 2))) for one in (grey, grey[:, ::-1])]
        if len(found) < args.count and np.concatenate(apart).min(initial=SAME + 1) > SAME:
            found.append(data)
            small = np.concatenate([small, grey[None]])
    return found


def drawn(count: int, seed: int) -> list[bytes]:
    """Drawn scenes, each third with a similar one: the same people in another pose or place."""
    made: list[bytes] = []
    while len(made) < count:
        rng = random.Random(f"thresholds:{seed}:{len(made)}")
        scene = imagine(rng)
        made.append(encode(paint(scene), "jpg", 90))
        if len(made) % 4 == 1 and scene.figures:
            made.append(encode(paint(variant(rng, scene)), "jpg", 90))
    return made[:count]


def plant(library: Path, pictures: list[bytes], seed: int) -> dict[tuple[str, str], str]:
    """Fill the folder; each planted pair of file names with what was done."""
    library.mkdir(parents=True)
    for place, data in enumerate(pictures):
        (library / f"{place:05d}").with_suffix(suffix(data)).write_bytes(data)
    names = sorted(path.name for path in library.iterdir())
    rng = random.Random(f"planted:{seed}")
    planted: dict[tuple[str, str], str] = {}
    for number, place in enumerate(rng.sample(range(len(pictures)), len(pictures) // COPIED)):
        how = KINDS[number % len(KINDS)]
        data = copy_of(rng, pictures[place], how, "jpg", "webp")
        name = f"copy-{place:05d}{suffix(data)}"
        (library / name).write_bytes(data)
        planted[names[place], name] = how
    return planted


def suffix(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as opened:
        return {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}[str(opened.format)]


def run_stages(library: Path, data: Path, model: Path) -> tuple[Pairs, Pairs]:
    """The pairs of file names that the report has as measured, and at a plain cosine of .95."""
    folder, names = embedded(library, data, model)
    found = []
    for options in ([], ["--threshold", "0.95"]):
        with silent():
            find_near_duplicates.main([*options, "--data-dir", str(data)])
        pairs = data_folder.load(folder.require(NEAR_DUPLICATES), NEAR_DUPLICATES)["similar_pairs"]
        found.append({ordered(names[pair["hash1"]], names[pair["hash2"]]) for pair in pairs})
    return found[0], found[1]


def ordered(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def hashed_pairs(library: Path) -> Pairs:
    """Pairs whose perceptual hashes differ in `BITS` bits or fewer."""
    names = sorted(path.name for path in library.iterdir())
    codes = []
    for name in names:
        with Image.open(library / name) as opened:
            small = np.asarray(opened.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
        low = dctn(small)[:8, :8].reshape(-1)
        codes.append(low > np.median(low[1:]))
    bits = np.array(codes, np.int32)
    apart = bits @ (1 - bits).T + (1 - bits) @ bits.T
    i, j = np.nonzero(np.triu(apart <= BITS, 1))
    return {ordered(names[a], names[b]) for a, b in zip(i.tolist(), j.tolist())}


def with_fault(original: bytes, fault: str, rng: random.Random) -> bytes:
    """A JPEG of the picture, on white, with the fault."""
    with Image.open(io.BytesIO(original)) as opened:
        clear = opened.convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    if fault == "dark":
        share = rng.uniform(0.05, 0.15)
        picture = picture.point(lambda value: int(value * share))
    elif fault == "blurred":
        picture = picture.filter(ImageFilter.GaussianBlur(max(picture.size) * rng.uniform(0.006, 0.012)))
    elif fault == "tiny":
        picture.thumbnail((rng.randint(16, 48),) * 2)
    data = encode(picture, "jpg", 90)
    return data[: int(len(data) * rng.uniform(0.2, 0.8))] if fault == "damaged" else data


def ours(library: Path) -> Pairs:
    """What the detector's report says of each file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, names = embedded(library, Path(scratch))
        with silent():
            find_technical_faults.main(["--data-dir", scratch, "--library", str(library)])
        kind = detectors.own_report("find_technical_faults.py")
        errors = data_folder.load(folder.require(kind), kind)["errors"]
    return {(names[one["hash"]], tag["tag"].removeprefix("fault:")) for one in errors for tag in one["tags"]}


def theirs(library: Path) -> Pairs:
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


def tell(who: str, found: Pairs, planted: dict[tuple[str, str], str], kinds: Sequence[str]) -> None:
    """One line: recall, precision, and recall by what was done."""
    right = found & planted.keys()
    by_kind = [f"{how} {np.mean([one in right for one, did in planted.items() if did == how]):.2f}" for how in kinds]
    share = f"recall {len(right) / len(planted):.3f}  precision {len(right) / max(len(found), 1):.3f}"
    print(f"  {who:32s} {share}  ({len(found)} said; {', '.join(by_kind)})", flush=True)


if __name__ == "__main__":
    script.run(main)
