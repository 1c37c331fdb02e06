"""Find files with technical faults: damaged, tiny, dark, blurred, with a wrong extension, or grey where colours are tagged.

    python find_technical_faults.py --data-dir ~/tags

Reads   datasets/advanced_joytag_complete_<UTC>.json (the newest, or --dataset), and every picture in it that is new since
        the newest report, or has changed
Writes  reports/technical_faults_report_<UTC>.json

A fault is suggested as a tag, `fault:blurred`, which the library can search for; a colour that a grey picture cannot show is
to be removed. What the dataset says of a file is certain; of what is measured, 50 % at the limit, 95 % at a quarter of it.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
import io
import os
import re
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
from PIL import Image

import config
from tagcheck import changed, data_folder, dataset, detectors, findings, script
from tagcheck.dataset import Record
from tagcheck.errors import FileUnavailable
from tagcheck.findings import INCORRECT, MISSING, TagFinding
from tagcheck.library import Library, choose
from tagcheck.pictures import file_formats, measuring
from tagcheck.pictures.decoder_processes import Decoders
from tagcheck.pictures.file_formats import BEYOND_LIMITS, ImagePassing, ImageUnreadable, ImageUnsupported, Limits
from tagcheck.pictures.preparation import to_rgb
from tagcheck.plural import plural
from tagcheck.script import run

AHEAD = 64  # files for each decoder
SIDE = 512  # pixels of the longer side at which a picture is measured
CERTAIN = 0.99
TINY = 64  # pixels of the shorter side
DARK = 48.0  # brightness, 0 to 255, that 99 % of the pixels stay below
BLURRED = 0.008  # variance of the Laplacian for one of the brightness itself
GREY = 12.0  # difference of a pixel's strongest and weakest colour that 99 % of the pixels stay below
COLOURED = re.compile(
    r"(red|orange|yellow|green|blue|purple|pink|brown|blonde|aqua|teal)[ _]"
    r"(hair|eyes|skin|lips|background|theme|sky|dress|skirt|shirt|jacket|ribbon|bow|flower|rose|fur|gloves|footwear)"
)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_dataset(parser)
    script.add_library(parser, "the one that was mapped")
    script.add_confidence(parser, "leave out findings below this confidence, 0 to 1")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = script.data_folder(args)
    data = dataset.load(folder, args.dataset, args.max_embeddings)
    library = choose.mapped_library(folder, config, args, script.say)
    kind = detectors.own_report("find_technical_faults.py")
    program = {"decoders": file_formats.decoders(), "program": changed.program_as_of_now(script.PROJECT)}
    given = {"min_confidence": args.min_confidence, "max_embeddings": args.max_embeddings} | program
    known, errors = changed.carried_over(folder, kind, data.path, given)
    new = [record for record in data.records if record.hash not in known]
    document = {"dataset": data.path.name, "settings": given}
    with changed.kept_so_far(folder, kind, document, known, errors) as keep:
        with closing(examined(library, new, args.min_confidence)) as looked:
            for record, found in script.progress(looked, len(new), "looking at"):
                keep(record.hash, findings.error(record.hash, "technical_faults", found) if found else None)
        errors.sort(key=lambda one: (-one["confidence"], one["hash"]))
        summary = {"total_images_analyzed": len(data.records), "newly_looked_at": len(new), "errors_found": len(errors)}
        report = data_folder.save(folder, kind, {**document, "summary": summary, "errors": errors})
    print(f"{plural(len(errors), 'picture')} with technical faults, among {len(data.records):,} -> {report}")
    return 0


def examined(
    library: Library, records: Sequence[Record], least: float
) -> Generator[tuple[Record, list[TagFinding]], None, None]:
    """Each record with the faults of its file, at `least` so sure; the files are decoded by a process a core."""
    cores = os.cpu_count() or 1
    step = AHEAD * cores  # files that wait take memory, and all of them are looked at before Ctrl-C ends anything

    def look(record: Record) -> list[TagFinding]:
        found, written = faults(library, record, decoders), record.tags
        return [one for one in found if one.confidence >= least and (one.kind == INCORRECT) == (one.tag in written)]

    with closing(Decoders(cores, 1, Limits(frames=1))) as decoders, ThreadPoolExecutor(cores) as pool:
        for some in (records[start : start + step] for start in range(0, len(records), step)):
            yield from zip(some, pool.map(look, some), strict=True)


def faults(library: Library, record: Record, decoders: Decoders) -> Iterator[TagFinding]:
    """The faults of one file. A file that is away, beyond the limits, or of a kind that cannot be read here, has none."""
    reason = record.raw.get("reason" if record.status == "unreadable" else "damaged") or ""
    if reason and not reason.startswith(BEYOND_LIMITS):
        yield fault("damaged", CERTAIN, f"The file is damaged: {reason.removeprefix('the file is damaged: ')}.")
    try:
        data = library.read(record.hash)
        if named := measuring.misnamed(str(record.raw.get("file_path") or ""), data):
            yield fault("wrong extension", CERTAIN, named)
        shown, (width, height) = decoders.show(data, SIDE)
    except (FileUnavailable, ImagePassing, ImageUnsupported):
        return
    except ImageUnreadable as error:
        if not reason and not str(error).startswith(BEYOND_LIMITS):
            yield fault("damaged", CERTAIN, f"The file cannot be read: {error}.")
        return
    if min(width, height) < TINY:
        yield fault("tiny", CERTAIN, f"It has {width} x {height} pixels.", width=width, height=height)
    with Image.open(io.BytesIO(shown)) as picture:
        yield from measured(to_rgb(picture), record)


def measured(picture: Image.Image, record: Record) -> Iterator[TagFinding]:
    """What a picture's pixels say: dark, blurred, grey where colours are tagged."""
    light, sharp, colour = measuring.brightness(picture), measuring.sharpness(picture), measuring.colour(picture)
    if light < DARK:
        yield fault("dark", sure(light, DARK), f"99 % of it is darker than {light:.0f} of 255.", brightness=light)
    if sharp is not None and sharp < BLURRED:
        yield fault("blurred", sure(sharp, BLURRED), "It has no sharp edge.", sharpness=sharp)
    if colour < GREY:
        for tag in sorted(filter(COLOURED.fullmatch, record.tags)):
            why = f"The picture is grey: no '{tag}' in it."
            yield TagFinding(tag, INCORRECT, sure(colour, GREY), {"colour": round(colour, 2)}, why)


def sure(value: float, limit: float) -> float:
    """How sure a measured fault is: .5 at the limit, .95 at a quarter of it and below."""
    return min(0.95, 0.5 + 0.225 * float(np.log2(limit / max(value, 1e-9))))


def fault(name: str, confidence: float, why: str, **evidence: float) -> TagFinding:
    return TagFinding(f"fault:{name}", MISSING, confidence, {key: round(evidence[key], 5) for key in evidence}, why)


if __name__ == "__main__":
    run(main)
