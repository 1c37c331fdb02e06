"""Write down which pictures are in the dataset: the files on a library's pages, or those that a search finds.

    python dataset_hardcore_mapper.py --page "dataset, sub page"
    python dataset_hardcore_mapper.py --library ~/Pictures --data-dir ~/tags

Reads   the library: a running Hydrus client (settings in config.py) or a folder of pictures
Writes  mappings/dataset_mapping_<UTC>.json

In Hydrus nothing is changed: pages are read as they are shown, never refreshed. Pages that are
still loading or searching are waited for.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import config
from tagcheck import data_folder, script
from tagcheck.data_folder import MAPPING, DataFolder
from tagcheck.errors import BadFile, LibraryRefused, MissingInput, UsageError
from tagcheck.library import Library, LibrarySettings, choose
from tagcheck.library.choose import HYDRUS
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.library.protocol import Walk, unique
from tagcheck.plural import plural
from tagcheck.script import run, say

UNREAD = "seen and not read"  # how a note about sidecars begins that are of no known kind
READABLE = "trashed"  # of the reasons why a file is not (wholly) here, the one that leaves something to look at


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_library(parser, f"config.py's LIBRARY, now {config.LIBRARY!r}")
    which = parser.add_mutually_exclusive_group()
    page = (
        "the page to walk with everything under it, as a path of names with commas between, in any case "
        f"(default: in Hydrus {config.ROOT_PAGE!r}, of a folder the whole)"
    )
    search = (
        "instead of pages, the files that this Hydrus search finds, like 'system:archive, series:x'; a JSON list may hold lists (or). "
        "Tags are looked for on the one tag service that counts, or, where several do, on all of Hydrus' services"
    )
    service = (
        "count the tags of this Hydrus tag service only, by name or key; may be given again "
        "(default: config.py's TAG_SERVICES, else all but those that a machine fills)"
    )
    exclude = (
        "leave out what this pattern matches, like 'masks/' or '*-masklabel.png'; may be given again; a file "
        ".tagcheckignore in a folder of the library holds such patterns too, one a line (default: nothing)"
    )
    which.add_argument("--page", metavar='"NAME, NAME"', help=page)
    which.add_argument("--search", metavar='"TERM, TERM"', help=search)
    parser.add_argument("--tag-service", metavar="NAME", action="append", default=[], help=service)
    parser.add_argument("--exclude", metavar="PATTERN", action="append", default=[], help=exclude)
    script.add_services(parser, write=False)
    script.add_popup(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = script.data_folder(args, create=True)
    library = open_library(args, folder)
    with script.popup(library, args.popup, "tagcheck: mapping the dataset"):
        walk = found(library, args)
    summary = summarise(walk)
    if not summary["readable_files"]:
        for note in walk.notes:
            say(f"note: {note}")
        raise MissingInput(nothing_to_map(walk, summary, args.search, library.kind))
    document = {
        "library": library.describe(),
        "root": walk.root,
        "search": args.search,
        "summary": summary,
        "notes": walk.notes,
        "not_local": walk.not_local,
        "pages": [{"path": page.path, "page_key": page.key, "hashes": page.hashes} for page in walk.pages],
    }
    said = {key: value for key, value in document.items() if value or key not in ("search", "notes")}
    path = data_folder.save(folder, MAPPING, said)
    for note in walk.notes:
        say(f"note: {note}")
    print(f"{outcome(summary)} -> {path}")
    if walk.untagged and any(note.startswith(UNREAD) for note in walk.notes):
        unread = "no picture has a tag, and what may hold the tags is of a kind that is not read (the notes above)"
        raise BadFile(f"{path} was written, but {unread}: see docs/formats.md for the kinds that are")
    return 0


def open_library(args: argparse.Namespace, folder: DataFolder) -> Library:
    """The library to map: the one that is named, else config.py's. What an earlier mapping was made with plays no part."""
    settings = LibrarySettings.of(config, args)
    name = args.library or settings.name
    if name != HYDRUS and (args.search is not None or args.tag_service or args.machine_tag_service):
        options = "--search, --tag-service and --machine-tag-service"
        raise UsageError(f"{options} are for Hydrus: a folder has pages and sidecars only")
    if name == HYDRUS and args.exclude:
        raise UsageError("--exclude is for a folder of pictures: in Hydrus, name a page or a search")
    if args.tag_service:
        settings = replace(settings, tag_services=args.tag_service)
    return choose.open_library(name, folder, settings, follow_mapping=False, tell=say, exclude=args.exclude)


def found(library: Library, args: argparse.Namespace) -> Walk:
    """What the search finds, or the pages under the one that is named."""
    if args.search is not None and isinstance(library, Hydrus):
        return library.search(args.search)
    if args.page is None:
        return library.walk([config.ROOT_PAGE] if library.kind == HYDRUS else [])
    names = [name.strip() for name in args.page.split(",")]
    if not all(names):
        raise UsageError(f"--page {args.page!r} has an empty name")
    if len(names) > 1:
        try:
            return library.walk([args.page])  # a page whose own name holds the commas
        except LibraryRefused:
            return library.walk(names)
    return library.walk(names)


def summarise(walk: Walk) -> dict[str, Any]:
    """Pages, places on them, distinct files, those that can be read, and those that are not (wholly) here by reason."""
    hashes = unique(hash for page in walk.pages for hash in page.hashes)
    missing = {hash for reason, some in walk.not_local.items() if reason != READABLE for hash in some}
    return {
        "pages": len(walk.pages),
        "files": sum(len(page.hashes) for page in walk.pages),
        "unique_files": len(hashes),
        "readable_files": len(hashes) - len(missing),
        "not_local": {reason: len(some) for reason, some in sorted(walk.not_local.items())},
    }


def nothing_to_map(walk: Walk, summary: dict[str, Any], search: str | None, kind: str) -> str:
    """Why there is no dataset, and the way out."""
    where, number = ", ".join(walk.root) or "the library", summary["unique_files"]
    if search is not None and not number:
        return f"{search!r} is empty: no file in Hydrus matches this search, and nothing was written"
    if number:
        return f"none of the files of {where!r} is here ({absent(summary)}): nothing was written"
    another = "or name another with --page"
    if kind != HYDRUS:
        return f"there is no picture in the folder {where!r}: name another with --library or --page"
    if not walk.pages:
        return f"there is no page of files under {where!r}: put pictures on a page there, {another}"
    return f"{where!r} is empty ({plural(summary['pages'], 'page')} without files): put pictures there, {another}"


def outcome(summary: dict[str, Any]) -> str:
    gone = f", of which {absent(summary)}" if summary["not_local"] else ""
    on = f"{plural(summary['pages'], 'page')} ({plural(summary['files'], 'place')})"
    return f"{plural(summary['unique_files'], 'picture')} on {on}{gone}"


def absent(summary: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in summary["not_local"].items())


if __name__ == "__main__":
    run(main)
