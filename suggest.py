"""Say which tags to add to a picture and which to take off, with probability and reason, from what the detectors found.

    python suggest.py 3f0c...e1 --data-dir ~/tags
    python suggest.py 3f0c...e1 77ab...02 --json
    python suggest.py --token --data-dir ~/tags

Reads   review.sqlite3, and the newest reports where they are newer than it; for a picture that no detector has examined yet,
        its stored embedding and single_picture.npz
Writes  review.sqlite3 (newer reports; the token, when first asked for)

For programs that call one, as Hydrus' executable manager will: no picture is opened and no network loaded. The page answers
the same at /api/suggest?hash=...&hash=... to a request that carries the token: docs/detectors.md.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import config
from tagcheck import detectors, script
from tagcheck.dataset import HASH
from tagcheck.errors import UsageError
from tagcheck.review import Filter, Review, by_picture, report_import
from tagcheck.review.exporting import KINDS, percent
from tagcheck.script import run


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    what = "SHA-256 of a file, 64 hex digits; several for a selection"
    parser.add_argument("hashes", nargs="*", metavar="HASH", help=what)
    script.add_switch(parser, "--json", "answer as JSON (default: a line a suggestion)")
    script.add_option(parser, "--export", "print all that is open as a file for another program", choices=tuple(KINDS))
    script.add_number(parser, "--min-confidence", "with --export: leave out what is less likely", 0.5, 0.5, 1)
    script.add_switch(parser, "--token", "print the token that /api/suggest asks for, and end")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    detectors.register(config.OWN_DETECTORS, script.PROJECT)
    folder = script.data_folder(args)
    hashes = [hash.lower() for hash in args.hashes]
    wrong = [hash for hash in hashes if not HASH.fullmatch(hash)]
    if wrong:
        raise UsageError(f"{wrong[0]!r} is not a SHA-256 of 64 hex digits")
    if bool(hashes) + bool(args.export) + args.token != 1:
        raise UsageError("name at least one HASH, or --export, or --token, and one of these alone")
    if args.export or args.json:
        script.print_for_programs()
    with Review(folder.review) as review:
        if args.token:
            print(review.secret(by_picture.TOKEN))
            return 0
        report_import.require(review, folder)
        if args.export:
            _, text = KINDS[args.export]
            sys.stdout.writelines(text(review, Filter(least=args.min_confidence)))
            return 0
        found = by_picture.suggested(review, hashes, folder)
    if args.json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        print("\n".join(line for picture in found for line in lines(picture)))
    return 0


def lines(picture: dict[str, Any]) -> list[str]:
    """A picture's answer for people."""
    told = [f"  + {one['tag']}  {percent(one['probability'])}  {one['why']}" for one in picture["add"]]
    told += [f"  - {one['tag']}  {percent(one['probability'])}  {one['why']}" for one in picture["remove"]]
    told += [f"  = {one['hash']}  {one['why']}" for one in picture["copies"]]
    nothing = "  nothing to suggest" if picture["by"] else "  nothing is known of it: it has no embedding"
    return [f"{picture['hash']}:", *(told or [nothing])]


if __name__ == "__main__":
    run(main)
