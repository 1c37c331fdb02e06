"""Mark in Hydrus what was found, on a tag service that a machine fills: tagcheck:missing, tagcheck:wrong, tagcheck:copy.

    python mark_in_hydrus.py "tagcheck marks"
    python mark_in_hydrus.py "tagcheck marks" --min-confidence 0.8
    python mark_in_hydrus.py "tagcheck marks" --undo

Reads   review.sqlite3 and the newest reports; the Hydrus client (config.py)
Writes  these three tags, and nothing else, on that service in Hydrus: a run also removes the marks that are no longer true

So that findings can be searched for in Hydrus itself. Make the service there (services -> manage services -> add -> local
tag service) and name it in MACHINE_TAG_SERVICES of config.py: its tags then never count as yours. Any other service is
refused. tagcheck:copy is on all of a group of copies but the best one.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
from collections import Counter
from collections.abc import Sequence

import config
from tagcheck import detectors, script, tags
from tagcheck.data_folder import DataFolder
from tagcheck.errors import UsageError
from tagcheck.library import TagWrite, choose
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.library.protocol import CURRENT
from tagcheck.review import Review, by_picture, report_import
from tagcheck.writing import Ledger


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    service = "the tag service to mark on, by name or key: one of MACHINE_TAG_SERVICES"
    parser.add_argument("service", metavar="SERVICE", help=service)
    script.add_number(parser, "--min-confidence", "mark what is at least so likely", 0.5, 0.5, 1)
    script.add_switch(parser, "--undo", "take all marks off again")
    script.add_services(parser, write=False)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    detectors.register(config.OWN_DETECTORS, script.PROJECT)
    folder = script.data_folder(args)
    library = opened(folder, args)
    service = library.machine_service(args.service)
    wanted = set() if args.undo else found(folder, args.min_confidence)
    with Ledger(folder.review).exclusive():
        there = {(hash, tag) for tag in tags.MARKS for hash in library.tagged(tag, service)}
        added, gone = sorted(wanted - there), sorted(there - wanted)
        places = [(hash, tag, service.key) for hash, tag in (*added, *gone)]
        before = library.states(places)
        writes = [TagWrite(*place, state, CURRENT) for place, state in zip(places[: len(added)], before)]
        marks = [TagWrite(*place, "absent", CURRENT) for place in places[len(added) :]]
        library.write([*writes, *(library.undo_of(mark) for mark in marks)])
        after = library.states(places)
    done = [(state == CURRENT) == (number < len(added)) for number, state in enumerate(after)]
    print(outcome(added, gone, done, service.name))
    if not all(done):
        raise UsageError(f"{done.count(False):,} of {len(done):,} marks were not set by Hydrus: run this again")
    return 0


def opened(folder: DataFolder, args: argparse.Namespace) -> Hydrus:
    """The Hydrus library of the data folder. Raises `UsageError` where it is a folder of pictures."""
    library = choose.mapped_library(folder, config, args, script.say)
    if not isinstance(library, Hydrus):
        raise UsageError("marks are for Hydrus: this data folder is of a folder of pictures; see suggest.py --export")
    return library


def found(folder: DataFolder, least: float) -> set[tuple[str, str]]:
    """(hash, mark) of all that is open and at least so likely."""
    with Review(folder.review) as review:
        report_import.require(review, folder)
        return by_picture.marks(review, least)


def outcome(added: list[tuple[str, str]], gone: list[tuple[str, str]], done: list[bool], service: str) -> str:
    """What the owner reads at the end."""
    marked = Counter(tag for (_, tag), right in zip(added, done) if right)
    taken = sum(done[len(added) :])
    counts = ", ".join(f"{marked[tag]:,} {tag}" for tag in tags.MARKS)
    return f"{counts} added, {taken:,} of {len(gone):,} marks taken off on the service {service!r}"


if __name__ == "__main__":
    script.run(main)
