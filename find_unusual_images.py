"""Find pictures that are unlike the others of their series, character or any other named tag.

    python find_unusual_images.py --data-dir ~/tags
    python find_unusual_images.py --data-dir ~/tags --min-confidence 0.8

Reads   datasets/advanced_joytag_complete_<UTC>.json (the newest, or --dataset), advanced_embeddings/
Writes  reports/unusual_images_report_<UTC>.json

A picture's likeness to a tag is its mean cosine to the nearest pictures that have it. How the tag's own pictures and
pictures without it lie on that scale gives, by Bayes, the chance that the tag is wrong on a picture. It joins the chain and
the page where config.py names it in OWN_DETECTORS: docs/detectors.md.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

import config
from tagcheck import data_folder, dataset, detectors, findings, script, tags
from tagcheck.data_folder import DATASET
from tagcheck.dataset import Record
from tagcheck.embedding import store
from tagcheck.errors import MissingInput
from tagcheck.findings import INCORRECT, TagFinding
from tagcheck.learning.linear_probes import unit_rows
from tagcheck.plural import plural
from tagcheck.script import run

FEWEST = 12  # pictures of a tag from which it is judged
NEAREST = 3
OTHERS = 400  # pictures without the tag that it is held against
MOST = 5000  # of a tag's pictures that one is held against, drawn from all of them
BLOCK = 1024  # pictures whose cosines are held at once
WRONG = 0.03  # of the tags that an owner writes, how many are wrong: only its order of magnitude matters
BROADEST = 0.5  # share of the library from which a tag says too little about a picture


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_dataset(parser)
    script.add_confidence(parser, "leave out findings below this confidence, 0 to 1")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = script.data_folder(args)
    data = dataset.load(folder, args.dataset)
    usable = {record.hash: record for record in data.usable()}
    found = store.load(folder.embeddings, sorted(usable), data.model)
    if not found.hashes:
        raise MissingInput(f"No embeddings found: of none of the pictures of {data.path}; run {DATASET.made_by} again")
    records = [usable[hash] for hash in found.hashes]
    rows = unit_rows(found.matrix - found.matrix.mean(axis=0))  # without what all have in common
    judged = [one for tag, members in named_tags(records) for one in unlike(tag, members, rows)]
    errors = [
        findings.error(records[row].hash, "unusual_images", [finding])
        for row, finding in judged
        if finding.confidence >= args.min_confidence
    ]
    errors.sort(key=lambda one: (-one["confidence"], one["hash"]))
    summary = {"total_images_analyzed": len(records), "errors_found": len(errors)}
    kind = detectors.own_report("find_unusual_images.py")
    report = data_folder.save(folder, kind, {"dataset": data.path.name, "summary": summary, "errors": errors})
    print(f"{plural(len(errors), 'picture')} unlike a tag of theirs, among {len(records):,} -> {report}")
    return 0


def named_tags(records: Sequence[Record]) -> Iterator[tuple[str, np.ndarray]]:
    """Each tag with a namespace that is seen in pictures, and the rows that have it."""
    members: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        for tag in record.tags - record.implied_tags:
            space = tags.namespace(tag)
            if space and space not in config.INVISIBLE_NAMESPACES:
                members.setdefault(tag, []).append(row)
    for tag, rows in sorted(members.items()):
        if FEWEST <= len(rows) <= BROADEST * len(records):
            yield tag, np.array(rows)


def unlike(tag: str, members: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, TagFinding]]:
    """The tag's pictures that are more like other pictures than like those with the tag, with the chance that the tag is wrong there."""
    rng = np.random.default_rng(len(members))
    drawn = rng.choice(len(rows), min(OTHERS + len(members), len(rows)), replace=False)
    others = np.setdiff1d(drawn, members)[:OTHERS]
    against = members if len(members) <= MOST else np.sort(rng.choice(members, MOST, replace=False))
    inside, outside = (likeness(rows, some, against) for some in (members, others))
    wrong = density(inside, outside) * WRONG
    right = density(inside, inside) * (1 - WRONG)
    chance = wrong / (wrong + right + 1e-12)
    for place in np.flatnonzero((chance > 0.05) & (inside < np.median(inside))).tolist():
        evidence = {"likeness": round(float(inside[place]), 4), "usual": round(float(np.median(inside)), 4)}
        why = f"It is unlike the other {len(members) - 1:,} pictures with '{tag}' ({inside[place]:.2f}, usually {evidence['usual']:.2f})."
        yield int(members[place]), TagFinding(tag, INCORRECT, float(chance[place]), evidence, why)


def likeness(rows: np.ndarray, some: np.ndarray, against: np.ndarray) -> np.ndarray:
    """The mean cosine of each of `some` rows to the `NEAREST` of those it is held `against`, itself left out."""
    means = np.empty(len(some), np.float32)
    for start in range(0, len(some), BLOCK):
        block = some[start : start + BLOCK]
        cosine = rows[block] @ rows[against].T
        cosine[block[:, None] == against] = -2
        means[start : start + BLOCK] = np.partition(cosine, -NEAREST, axis=1)[:, -NEAREST:].mean(axis=1)
    return means


def density(at: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """The normal density at each place that fits the middle of a sample: a few that do not belong move it little."""
    middle = np.median(sample)
    spread = max(1.4826 * float(np.median(np.abs(sample - middle))), 0.02)
    found: np.ndarray = np.exp(-0.5 * np.minimum(((at - middle) / spread) ** 2, 80)) / spread
    return found


if __name__ == "__main__":
    run(main)
