"""Pictures to train the small network on, drawn from seeds of their own: squares of `SIDE` pixels with white edges."""

import io
import json
import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sample.paint.picture import Picture, imagine, true_tags, variant
from sample.paint.sheet import paint
from sample.paint.world import BY_SERIES, PLACE_TAGS
from sample.plant.copies import encode
from sample.plant.errors import visible
from tagcheck import script
from tagcheck.files import write_json

SIDE = 208
LONGEST = (400, 760)  # pixels of the longer side that training pictures are painted at
VARIANTS = 0.12  # part of the pictures that are a `variant` of the one before
RAREST = 0.004  # a tag needs to be true of this part of the pictures to be learnt
# An owner's series are mostly unknown to a tagger: these two and their people are all that the network hears of.
KNOWN_SERIES = ("scarlet meridian", "star harbor academy")


@dataclass(frozen=True)
class Training:
    """`pixels` uint8 (n, SIDE, SIDE, 3) mapped from the disk, `boxes` float32 (n, 2) width and height of the picture in it
    (0 to 1), `targets` bool (n, V) by `tags` in booru spelling, `kinds` (n,) of place and number of characters.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    targets: np.ndarray
    tags: list[str]
    kinds: np.ndarray


def imagined(number: int) -> Picture:
    """The training picture of this number; no seed of a library leads to it."""
    rng = random.Random(f"training:{number}")
    picture = imagine(rng)
    if number and rng.random() < VARIANTS:
        before = imagine(random.Random(f"training:{number - 1}"))
        picture = variant(rng, before) if before.figures else picture
    return picture


def load(folder: Path, count: int) -> Training:
    """`count` training pictures in `folder`, drawn there first where they are not yet."""
    pixels, record = folder / f"pictures_{count}.npy", folder / f"pictures_{count}.json"
    if not record.is_file():
        _draw(pixels, record, count)
    known = json.loads(record.read_text(encoding="utf-8"))
    tags = vocabulary(known["tags"])
    column = {tag: place for place, tag in enumerate(tags)}
    targets = np.zeros((count, len(tags)), bool)
    for row, written in enumerate(known["tags"]):
        targets[row, [column[name] for name in map(booru_name, written) if name in column]] = True
    kinds = np.array([kind(written) for written in known["tags"]])
    return Training(np.load(pixels, mmap_mode="r"), np.asarray(known["boxes"], np.float32), targets, tags, kinds)


def vocabulary(written: Sequence[Sequence[str]]) -> list[str]:
    """The tags to learn, in booru spelling, the common first: what can be seen, without the series it must not know."""
    counts = Counter(tag for tags in written for tag in visible(tags))
    people = (person for name in KNOWN_SERIES for person in BY_SERIES[name].people)
    known = {f"series:{name}" for name in KNOWN_SERIES} | {f"character:{person.name}" for person in people}
    kept = [tag for tag, times in counts.items() if times >= RAREST * len(written) and (":" not in tag or tag in known)]
    return [booru_name(tag) for tag in sorted(kept, key=lambda tag: (-counts[tag], tag))]


def kind(written: Sequence[str]) -> int:
    """A number that pictures of the same place with as many characters have in common."""
    shown = [place for place, tags in enumerate(PLACE_TAGS.values()) if set(tags) <= set(written)]
    return 3 * (shown[-1] + 1 if shown else 0) + (0 if "no humans" in written else 1 if "solo" in written else 2)


def booru_name(tag: str) -> str:
    """An owner's tag as a booru writes it.

    >>> booru_name("series:scarlet meridian"), booru_name("red hair")
    ('scarlet_meridian', 'red_hair')
    """
    namespace, colon, rest = tag.partition(":")
    return (rest if colon and namespace in ("series", "character", "person") else tag).replace(" ", "_")


def square(image: Image.Image, side: int = SIDE) -> tuple[Image.Image, tuple[float, float]]:
    """`image` centred on a white square of `side` pixels, and the part of it that its width and height take."""
    longer = max(image.size)
    sheet = Image.new("RGB", (longer, longer), (255, 255, 255))
    sheet.paste(image, ((longer - image.width) // 2, (longer - image.height) // 2))
    return sheet.resize((side, side), Image.Resampling.BICUBIC), (image.width / longer, image.height / longer)


def painted(number: int) -> tuple[np.ndarray, tuple[float, float], list[str]]:
    """One training picture: uint8 (SIDE, SIDE, 3), its box, its true tags. It went through a JPEG, as most pictures have."""
    picture = imagined(number)
    rng = random.Random(f"training file:{number}")
    image = paint(picture, min(max(picture.width, picture.height), rng.randint(*LONGEST)))
    sheet, box = square(Image.open(io.BytesIO(encode(image, "jpg", rng.randint(60, 95)))))
    return np.asarray(sheet), box, true_tags(picture)


def _draw(pixels: Path, record: Path, count: int) -> None:
    pixels.parent.mkdir(parents=True, exist_ok=True)
    array = np.lib.format.open_memmap(pixels, "w+", np.uint8, (count, SIDE, SIDE, 3))
    known: dict[str, list[Any]] = {"tags": [None] * count, "boxes": [None] * count}
    # Processes that start afresh: torch has threads by now, which a fork would not survive.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        found = pool.imap(painted, range(count), chunksize=16)
        for row, (sheet, box, written) in enumerate(script.progress(found, count, "drawing", "picture")):
            array[row], known["boxes"][row], known["tags"][row] = sheet, box, written
    array.flush()
    write_json(record, known)
