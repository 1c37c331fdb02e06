"""Find where wrong tags come from: a page, an hour of import, a site, when far more of its tags look wrong than elsewhere.

    python find_bad_sources.py --data-dir ~/tags
    python find_bad_sources.py --data-dir ~/tags --report reports/mistagged_images_report_20261123T170500Z.json

Reads   reports/mistagged_images_report_<UTC>.json (the newest, or --report) and datasets/ (the newest, or --dataset)
Writes  reports/bad_sources_report_<UTC>.json

Each source is held against the rest of the library: how many of its tags are believed wrong, of how many. The findings of a
bad source are one batch, to be looked at and decided together, and several sources as well. It joins the chain and the page
where config.py names it in OWN_DETECTORS: docs/detectors.md.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import fsum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scipy.special import pdtrc

from tagcheck import data_folder, dataset, detectors, findings, json_files, script, tags
from tagcheck.dataset import Record
from tagcheck.detectors import MISTAGGED
from tagcheck.findings import INCORRECT, TagFinding
from tagcheck.json_files import list_of, number, text
from tagcheck.plural import plural
from tagcheck.script import run

FEWEST_TAGS, FEWEST_WRONG, TIMES = 30, 5, 3.0  # TIMES the share of wrong tags in the rest of the library
ROW = json_files.record({"tag": text(), "kind": text()}, {"confidence": number(0, 1)})
ENTRY = json_files.record({"hash": text(64, 64), "tags": list_of(ROW)})
BY_CHANCE = 1e-4  # how likely so many would be there


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_dataset(parser)
    which = "the tag errors to go by (default: the newest report)"
    parser.add_argument("--report", metavar="FILE", type=script.path, help=which)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = script.data_folder(args)
    data = dataset.load(folder, args.dataset)
    wrong = wrong_tags(folder.require(MISTAGGED, args.report))
    bad = list(bad_sources(data.usable(), wrong))
    errors = list(batches(bad, [one.pop("members") for one in bad], wrong))
    summary = {"total_images_analyzed": len(data.usable()), "errors_found": len(errors), "sources": len(bad)}
    document = {"dataset": data.path.name, "summary": summary, "sources": bad, "errors": errors}
    path = data_folder.save(folder, detectors.own_report("find_bad_sources.py"), document)
    for one in bad:
        look = f"{one['share_wrong']:.0%} look wrong ({one['elsewhere']:.0%} elsewhere)"
        print(f"{one['source']}: {plural(one['tags'], 'tag')}, {look}")
    print(f"{plural(len(bad), 'bad source')}, {plural(len(errors), 'finding')} -> {path}")
    return 0


def wrong_tags(path: Path) -> dict[tuple[str, str], float]:
    """What a report calls wrong, (hash, tag) -> confidence. An entry that is not of its form is left out, and named."""
    unusable = json_files.Unusable()
    found: dict[tuple[str, str], float] = {}
    for place, entry in enumerate(data_folder.load(path, MISTAGGED, unusable).get("errors") or (), 1):
        try:
            ENTRY(entry)
        except json_files.Wrong as error:
            unusable.note(f"{path} in record {place} of 'errors' ({error})")
            continue
        found |= {
            (entry["hash"], row["tag"]): row.get("confidence") or 0.0
            for row in entry["tags"]
            if row["kind"] == INCORRECT
        }
    if unusable:
        script.say(f"warning: {unusable}")
    return found


def sources(record: Record) -> Iterator[str]:
    """Where a picture and its tags came from, as far as the dataset tells."""
    when = record.raw.get("time_imported")
    if when is not None and when >= 0:
        yield f"imported {datetime.fromtimestamp(when, UTC):%Y-%m-%d %H}:00 UTC"
    for page in record.raw.get("pages") or ():
        yield "page " + (" / ".join(page) if isinstance(page, list) else page)
    for tag in record.tags:
        space, name = tags.split(tag)
        if space in ("source", "url"):
            site = None
            with suppress(ValueError):  # what is no address is its own site
                site = urlsplit(name if "//" in name else f"//{name}").hostname
            yield f"site {site or name}"


def bad_sources(records: Sequence[Record], wrong: dict[tuple[str, str], float]) -> Iterator[dict[str, Any]]:
    """Each source with far more wrong tags than the rest, the worst first, with its pictures (`members`)."""
    members: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        for source in sources(record):
            members[source][record.hash] = record
    weigh = {one.hash: (len(one.tags), sum(wrong.get((one.hash, tag), 0.0) for tag in one.tags)) for one in records}
    found, known = dict[str, dict[str, Any]](), -1
    while len(found) > known:
        # A source that was found counts no longer as "elsewhere", where it would hide a lesser one.
        known, others = len(found), weigh.keys() - {hash for one in found.values() for hash in one["members"]}
        all_tags, all_wrong = total(weigh, others)
        for source, mine in members.items():
            (count, bad), (tags_here, wrong_here) = total(weigh, mine), total(weigh, mine.keys() & others)
            rest = (all_wrong - wrong_here + 1) / (all_tags - tags_here + 1)
            by_chance = float(pdtrc(bad - 1, count * rest))  # so many or more, of Poisson's
            if count >= FEWEST_TAGS and bad >= FEWEST_WRONG and bad / count >= TIMES * rest and by_chance < BY_CHANCE:
                about = {"tags": int(count), "share_wrong": round(bad / count, 4), "elsewhere": round(rest, 4)}
                found.setdefault(source, {"source": source, **about, "members": mine})
    yield from sorted(found.values(), key=lambda one: (-one["share_wrong"], one["source"]))


def total(weigh: dict[str, tuple[int, float]], some: Collection[str]) -> tuple[float, float]:
    """The tags of some pictures, and how many of them are believed wrong."""
    return sum(weigh[hash][0] for hash in some), fsum(weigh[hash][1] for hash in some)  # the same in any order


def batches(
    bad: Sequence[dict[str, Any]], members: Sequence[dict[str, Record]], wrong: dict[tuple[str, str], float]
) -> Iterator[dict[str, Any]]:
    """The tags of bad sources that look wrong, each once, with what is known of its worst source and the names of all."""
    every = {hash: record for mine in members for hash, record in mine.items()}
    for hash, record in sorted(every.items()):
        of = [about for about, mine in zip(bad, members) if hash in mine]
        why = f"{plural(of[0]['tags'], 'tag')} came from {of[0]['source']} and {of[0]['share_wrong']:.0%} of them look wrong."
        proof = of[0] | {"batches": [one["source"] for one in of]}
        has = [tag for tag in sorted(record.tags) if (hash, tag) in wrong]
        rows = [TagFinding(tag, INCORRECT, wrong[hash, tag], proof, why) for tag in has]
        if rows:
            yield findings.error(hash, "bad_sources", rows)


if __name__ == "__main__":
    run(main)
