"""Measure what a cosine says about two pictures: copies of one scene, changed in several ways, against look-alikes.

    python benchmarks/look_alikes.py
    python benchmarks/look_alikes.py --scenes 400 --seed 7
    python benchmarks/look_alikes.py --model-dir ~/joytag

Reads   a model folder (sample/network, or --model-dir)
Writes  nothing: figures on stdout

Scenes are drawn that no library and no training holds. Each is there once as it is and once for every change:
recompressed, scaled, cropped, recoloured, mirrored. Each third has a look-alike, the same people in another pose or
place. Precision counts every pair of the set, so it is that of a library in which every picture has five copies; the
false pairs in a hundred thousand say what to expect where copies are rare.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import MIRROR, NETWORK, copy_of

from sample.paint.picture import Picture, imagine, variant
from sample.paint.sheet import paint
from sample.plant.copies import HOWS, encode
from tagcheck import script
from tagcheck.embedding import tagger
from tagcheck.pictures import preparation
from tagcheck.similar import pairs

THRESHOLDS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)
KINDS = (*HOWS, MIRROR)


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    script.add_whole(parser, "--scenes", "how many are drawn", 180, low=6)
    script.add_option(parser, "--seed", "of the scenes", 0, type=int)
    script.add_option(parser, "--model-dir", "the model (default: sample/network)", NETWORK, type=Path, metavar="DIR")
    args = parser.parse_args(argv)
    model = tagger.load(args.model_dir)
    pixels, scene, how, series, alike = [], [], [], [], []
    for number in script.progress(range(args.scenes), args.scenes, "drawing", "scene"):
        drawn = scenes_of(random.Random(f"look-alikes:{args.seed}:{number}"), number)
        for place, picture in enumerate(drawn):
            for kind, data in copies_of(
                random.Random(f"copies:{args.seed}:{number}:{place}"), picture, changed=place == 0
            ):
                pixels.append(preparation.prepare_bytes(data, model.image_size)[0])
                scene.append(2 * number + place)
                how.append(kind)
                series.append(picture.series)
                alike.append(number)
    embeddings = model.embed(np.stack(pixels))
    report(embeddings, np.array(scene), np.array(how), np.array(series), np.array(alike))
    return 0


def scenes_of(rng: random.Random, number: int) -> list[Picture]:
    """A scene, and each third time a look-alike of it."""
    picture = imagine(rng)
    while number % 3 == 0 and not picture.figures:
        picture = imagine(rng)
    return [picture, variant(rng, picture)] if number % 3 == 0 else [picture]


def copies_of(rng: random.Random, picture: Picture, changed: bool) -> list[tuple[str, bytes]]:
    """The scene as it is, and with `changed` once for every change; each with the name of the change."""
    original = encode(paint(picture), "jpg", rng.randint(86, 95))
    made = [("", original)]
    if changed:
        made += [(kind, copy_of(rng, original, kind, "jpg", "webp")) for kind in KINDS]
    return made


def report(embeddings: np.ndarray, scene: np.ndarray, how: np.ndarray, series: np.ndarray, alike: np.ndarray) -> None:
    """Print by threshold how many copies of each kind are found, and which other pairs with them."""
    i, j = np.triu_indices(len(scene), 1)
    cosine = pairs.pair_cosines(embeddings, i, j)
    same = scene[i] == scene[j]
    from_original = same & (how[i] == "")  # the first of a scene is the original
    others = {
        "look-alikes": ~same & (alike[i] == alike[j]),
        "same series": (series[i] == series[j]) & (series[i] != "") & (alike[i] != alike[j]),
    }
    others["the rest"] = ~same & ~others["look-alikes"] & ~others["same series"]
    print(
        f"{len(scene)} pictures of {len(np.unique(scene))} scenes, {same.sum():,} pairs of copies, {(~same).sum():,} others"
    )
    print(
        "cosine   precision  " + "".join(f"{kind:>14s}" for kind in KINDS) + "".join(f"{kind:>14s}" for kind in others)
    )
    for threshold in THRESHOLDS:
        above = cosine >= np.float32(threshold)
        found = [f"{above[from_original & (how[j] == kind)].mean():.1%} found" for kind in KINDS]
        false = [f"{1e5 * above[kind].mean():,.0f} in 1e5" for kind in others.values()]
        precision = (above & same).sum() / max(1, above.sum())
        print(f"{threshold:<9g}{precision:<11.4f}" + "".join(f"{cell:>14s}" for cell in (*found, *false)))


if __name__ == "__main__":
    script.run(main)
