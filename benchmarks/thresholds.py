"""Plant copies among pictures, let the stages find them with each network, and count: recall and precision, none tuned.

    python benchmarks/thresholds.py
    python benchmarks/thresholds.py --pictures ~/emoji --pictures ~/stamps --model-dir ~/taggers/efficientnet-lite0

Reads   the pictures below each folder (drawn ones without), model folders (sample/network, and each --model-dir)
Writes  nothing but temporary folders: figures on stdout

A fifth of the pictures get a copy: cropped, scaled, recompressed, recoloured or mirrored, by the sample's code and strengths,
not by those that the extraction measures with. Peers in the same run: the plain cosine of .95, and a 64-bit perceptual hash
(a cosine transform of 32 x 32) within 10 bits. Of pictures that are the same before anything is planted, or mirrored, one is taken.
"""

import io
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import MIRROR, NETWORK, copy_of, embedded, pictures_below, silent
from PIL import Image
from scipy.fft import dctn

import find_near_duplicates
from sample.paint.picture import imagine, variant
from sample.paint.sheet import paint
from sample.plant.copies import HOWS, encode
from tagcheck import data_folder, script
from tagcheck.detectors import NEAR_DUPLICATES

KINDS = (*HOWS, MIRROR)
COPIED = 5  # one picture in so many gets a copy
BITS = 10
SAME = 4.0  # grey levels, in the root of the mean square, up to which two pictures of a folder are one


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    pictures = "real pictures (default: drawn ones)"
    script.add_option(parser, "--pictures", pictures, type=Path, action="append", metavar="DIR")
    model = "another tagger beside the sample's"
    script.add_option(parser, "--model-dir", model, type=Path, action="append", metavar="DIR")
    script.add_whole(parser, "--count", "of each set", 700, low=50)
    script.add_option(parser, "--seed", "of the draw and the copies", 0, type=int)
    args = parser.parse_args(argv)
    sets = {path.name: taken(path, args.count, args.seed) for path in args.pictures or ()}
    sets["drawn"] = drawn(args.count, args.seed)
    for name, pictures in sets.items():
        with tempfile.TemporaryDirectory() as scratch:
            library = Path(scratch) / "library"
            planted = plant(library, pictures, args.seed)
            print(f"{name}: {len(pictures)} pictures, {len(planted)} planted copies")
            tell("64-bit hash within 10", hashed_pairs(library), planted)
            for folder in [NETWORK, *(args.model_dir or ())]:
                found, plain = run_stages(library, Path(scratch) / folder.name, folder)
                tell(f"{folder.name}, cosine .95", plain, planted)
                tell(f"{folder.name}, measured", found, planted)
    return 0


def taken(folder: Path, count: int, seed: int) -> list[bytes]:
    """Pictures of a folder and what is below it."""
    found: list[bytes] = []
    small = np.empty((0, 32, 32))
    for data in (path.read_bytes() for path in pictures_below(folder, seed)):
        with Image.open(io.BytesIO(data)) as opened:
            grey = np.asarray(opened.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
        apart = [np.sqrt(np.mean((small - one) ** 2, axis=(1, 2))) for one in (grey, grey[:, ::-1])]
        if len(found) < count and np.concatenate(apart).min(initial=SAME + 1) > SAME:
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


def run_stages(library: Path, data: Path, model: Path) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
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


def hashed_pairs(library: Path) -> set[tuple[str, str]]:
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


def tell(who: str, found: set[tuple[str, str]], planted: dict[tuple[str, str], str]) -> None:
    """One line: recall, precision, and recall by what was done."""
    right = found & planted.keys()
    by_kind = [f"{how} {np.mean([pair in right for pair, did in planted.items() if did == how]):.2f}" for how in KINDS]
    precision = len(right) / len(found) if found else 0.0
    print(
        f"  {who:32s} recall {len(right) / len(planted):.3f}  precision {precision:.3f}  ({len(found)} pairs; "
        f"{', '.join(by_kind)})",
        flush=True,
    )


if __name__ == "__main__":
    script.run(main)
