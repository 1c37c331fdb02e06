"""Find every pair of nearly the same picture, and what their tags disagree about.

    python find_near_duplicates.py
    python find_near_duplicates.py --data-dir ~/tags --threshold 0.97

Reads   datasets/advanced_joytag_complete_<UTC>.json (the newest, or --dataset), advanced_embeddings/
Writes  reports/near_duplicates_report_<UTC>.json

All pairs are compared and every pair at or above the threshold is in the report.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import config
from tagcheck import artifacts, cli, dataset, embeddings, neighbors, tags
from tagcheck.artifacts import NEAR_DUPLICATES, DataFolder
from tagcheck.cli import run
from tagcheck.dataset import Dataset, Record
from tagcheck.embeddings import Embeddings
from tagcheck.errors import BadFile, MissingInput
from tagcheck.findings import finding_id
from tagcheck.neighbors import NotFinite, Pairs

THRESHOLD = 0.95
MOST_PAIRS = 20_000_000


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    cli.add_dataset(parser)
    parser.add_argument("--threshold", type=cli.between(0.01, 1), default=THRESHOLD, metavar="X",
                        help=f"cosine of two embeddings from which a pair is reported, 0.01 to 1 (default: {THRESHOLD})")
    parser.add_argument("--engine", choices=neighbors.ENGINES, default="auto",
                        help="how pairs are searched; all give the same pairs, 'native' asks for the compiled kernel (default: auto)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = cli.data_folder(args)
    data = dataset.load(folder, args.dataset)
    records, found = embedded_records(folder, data)
    pairs = compare(found, args.threshold, args.engine)
    groups = neighbors.groups(len(records), pairs.i, pairs.j)
    summary = {
        "total_pairs_found": len(pairs), "similarity_threshold": args.threshold, "groups": len(groups), "images_compared": len(records),
        "images_without_embedding": len({record.hash for record in data.usable()}) - len(records),
        "images_unusable": len(data.records) - len(data.usable()),
        "pixel_duplicates": sum(same_pixels(records[i], records[j]) for i, j in zip(pairs.i.tolist(), pairs.j.tolist())),
    }
    report = artifacts.save(folder, NEAR_DUPLICATES, {
        "dataset": data.path.name, "model": found.model, "settings": {"threshold": args.threshold, "engine": args.engine},
        "summary": summary, "similar_pairs": SimilarPairs(records, pairs) or [],
        "groups": [[records[row].hash for row in group] for group in groups],
    })
    print(outcome(summary) + f" -> {report}")
    return 0


def embedded_records(folder: DataFolder, data: Dataset) -> tuple[list[Record], Embeddings]:
    """The pictures that can be compared, sorted by hash, and their embeddings in the same order."""
    usable = {record.hash: record for record in data.usable()}
    if not usable:
        raise MissingInput(f"no readable picture in {data.path}: run advanced_joytag_processing.py on pages that hold some")
    found = embeddings.load(folder.embeddings, sorted(usable), data.model)
    if len(found.hashes) < 2:
        raise MissingInput(
            f"{len(found.hashes)} of the {len(usable)} readable pictures in {data.path} have an embedding in {folder.embeddings}, "
            "so there is nothing to compare: run advanced_joytag_processing.py first"
        )
    return [usable[hash] for hash in found.hashes], found


def compare(found: Embeddings, threshold: float, engine: str) -> Pairs:
    """All pairs at or above `threshold`, with a progress bar."""
    with cli.progress((), total=100, what="comparing all pairs", unit="%") as bar:
        try:
            return neighbors.near_pairs(
                found.matrix, threshold, engine, progress=lambda share: bar.update(round(100 * share, 1) - bar.n), limit=MOST_PAIRS
            )
        except NotFinite as error:
            raise BadFile(
                f"the embedding of {found.hashes[error.row]} holds numbers that are not finite: "
                "remove its file in advanced_embeddings/ and run advanced_joytag_processing.py again"
            ) from None


@dataclass(frozen=True)
class SimilarPairs:
    """The report's `similar_pairs`, the most similar first, made one at a time as they are written."""

    records: list[Record]
    pairs: Pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        order = (-self.pairs.cosine).argsort(kind="stable").tolist()
        for place in order:
            yield describe_pair(
                self.records[self.pairs.i[place]], self.records[self.pairs.j[place]], round(float(self.pairs.cosine[place]), 6)
            )


def describe_pair(one: Record, other: Record, similarity: float) -> dict[str, Any]:
    """One entry of `similar_pairs`. Tags that belong to a copy and cannot be seen (its source, its file name) are left out."""
    tags1, tags2 = visible(one.tags), visible(other.tags)
    return {
        "id": finding_id("near_duplicate", [one.hash, other.hash], []), "hash1": one.hash, "hash2": other.hash, "similarity": similarity,
        "relation": "pixel_duplicate" if same_pixels(one, other) else "near_duplicate",
        "analysis": {
            "series_tags_diff": difference(tags1, tags2, (config.SERIES_NAMESPACE,)),
            "person_tags_diff": difference(tags1, tags2, tags.PERSON_NAMESPACES),
            "all_tags_diff": difference(tags1, tags2),
            "tags_common": sorted(tags1 & tags2),
        },
    }


def visible(owned: Iterable[str]) -> frozenset[str]:
    """Those of `owned` that say something about the picture rather than about this copy of it."""
    return frozenset(tag for tag in owned if tags.namespace(tag) not in config.INVISIBLE_NAMESPACES)


def difference(tags1: frozenset[str], tags2: frozenset[str], namespaces: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Which tags only one of two pictures has, in all or some namespaces."""
    def only(here: frozenset[str], there: frozenset[str]) -> list[str]:
        return sorted(tag for tag in here - there if namespaces is None or tags.namespace(tag) in namespaces)

    return {"only_in_1": only(tags1, tags2), "only_in_2": only(tags2, tags1)}


def same_pixels(one: Record, other: Record) -> bool:
    """Whether the library says that two files show the very same pixels."""
    first = one.raw.get("pixel_hash")
    return bool(first) and first == other.raw.get("pixel_hash")


def outcome(summary: dict[str, Any]) -> str:
    """The summary line."""
    line = (
        f"{summary['total_pairs_found']:,} pairs ({summary['pixel_duplicates']:,} of the same pixels) in {summary['groups']:,} groups "
        f"at or above {summary['similarity_threshold']:g} among {summary['images_compared']:,} pictures"
    )
    left_out = summary["images_without_embedding"] + summary["images_unusable"]
    return line + (f"; {left_out:,} not compared (no embedding or not readable)" if left_out else "")


if __name__ == "__main__":
    run(main)
