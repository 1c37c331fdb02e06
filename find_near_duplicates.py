"""Find every pair of nearly the same picture, and what their tags disagree about.

    python find_near_duplicates.py
    python find_near_duplicates.py --data-dir ~/tags --threshold 0.97
    python find_near_duplicates.py --calibrate

Reads   datasets/advanced_joytag_complete_<UTC>.json (the newest, or --dataset), advanced_embeddings/ (and what was
        measured of them, same_picture.json),
        review.sqlite3 (what was decided about pairs), tag_map.json and tag_map.csv where there are any
Writes  reports/near_duplicates_report_<UTC>.json

All pairs are compared. Where the extraction measured what copies look like to this tagger, the pairs that may be copies
are held against their pixels, and the copies are in the report; else, or with --threshold, every pair at or above the
threshold is. Of a group of many copies the pairs are counted, and those with its best copy listed. Left out are those that the owner has judged already. Each pair says which tags only one of the copies has and what
the pictures themselves say about these; each group names a best copy and why. --calibrate sets the
threshold by what is known of this library: the pairs that the owner judged and those of the very
same pixels, or a file that lists all copies.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

import config
from tagcheck import arrays, cluster, data_folder, dataset, json_files, script, tags
from tagcheck.belief import Believed, believed, load_tagger
from tagcheck.best_copy import best_copy
from tagcheck.data_folder import DataFolder
from tagcheck.dataset import Dataset, Record, pixels_of
from tagcheck.detectors import NEAR_DUPLICATES
from tagcheck.duplicates import kept_pairs, measuring, same_picture, tags_to_share
from tagcheck.duplicates.threshold import THRESHOLDS, calibrated_threshold, copy_chance, precision_by_threshold
from tagcheck.embedding import Embeddings, store
from tagcheck.errors import BadFile, MissingInput
from tagcheck.findings import INCORRECT, MISSING, finding_id
from tagcheck.learning.linear_probes import unit_rows
from tagcheck.library.protocol import DUPLICATES
from tagcheck.plural import plural
from tagcheck.refusals import Noes
from tagcheck.review import store as review_store
from tagcheck.script import run
from tagcheck.similar import Pairs
from tagcheck.similar import pairs as pair_search
from tagcheck.tag_columns import TagSets

THRESHOLD = 0.95
LOWEST = 0.01
LEAST = 0.01  # a suggestion that is less likely is none
PRECISION = 0.95  # what --calibrate asks of a threshold
FEWEST_KNOWN = 20  # pairs that it asks
DRAWN_PAIRS, AT_ONCE = 20_000, 512
TOO_MANY = 0.01  # share of random pairs at the threshold from which it says nothing about copies
MOST_PAIRS = 20_000_000
RAY = "ray"
PARTS = 64  # that a Ray cluster is given; what a lost worker costs at most
LISTED = 50  # pictures of a group up to which every pair of it is listed
NEAREST = 8  # pairs of a picture that are held against the pixels first


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_dataset(parser)
    script.add_memory(parser)
    threshold = (
        f"cosine of two embeddings from which a pair is reported, {LOWEST} to 1, whatever the pixels say (default: "
        f"what was measured for this tagger, and the pixels decide; {THRESHOLD} where nothing was)"
    )
    engine = (
        "how pairs are searched, all giving the same pairs: 'native' with the compiled kernel where the machine can have "
        "it, 'torch' without, 'auto' on a graphics card where there is one and many pictures, else as 'native'; 'ray' as 'auto', "
        "shared out to the workers of a Ray cluster (docs/scale.md)"
    )
    calibrate = (
        f"instead of --threshold, use the lowest one at which {100 * PRECISION:g} %% of the pairs are copies; told by the "
        "pairs that were judged and those of equal pixels, or by FILE, which lists all copies: "
        "{'near_duplicates': [[hash, hash], ...]} as JSON"
    )
    script.add_number(parser, "--threshold", threshold, low=LOWEST)
    script.add_option(parser, "--engine", engine, "auto", choices=(*pair_search.ENGINES, RAY))
    script.add_workers(parser)
    parser.add_argument("--calibrate", nargs="?", const=False, metavar="FILE", type=script.path, help=calibrate)
    return script.parsed(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = script.data_folder(args)
    data = dataset.load(folder, args.dataset, args.max_embeddings)
    records, found = embedded_records(folder, data)
    decided = judged_pairs(data) | review_store.pair_decisions(folder.review, data.pixels)
    given = args.threshold or args.calibrate is not None
    measured = None if given else same_picture.load(folder.embeddings, found.model)
    threshold = args.threshold or (measured.threshold if measured else THRESHOLD)
    table: list[dict[str, float]] = []
    if args.calibrate is not None:
        threshold, table = calibrate(found, known_pairs(args.calibrate or None, records, decided), bool(args.calibrate))
    if args.engine == RAY:
        alike, anew = compare_on_cluster(args, folder, found, threshold), len(records)
    else:
        alike, anew = compare(found, threshold, args.engine, folder)
    pairs, chance, blind = (alike, None, 0) if measured is None else told_by_pixels(folder, records, measured, alike)
    copied = without(pairs, records, decided, review_store.IGNORED)
    opened = without(copied, records, decided, review_store.ACCEPTED)
    groups = pair_search.groups(len(records), copied.i, copied.j)
    believes = believed(folder, data, config.INVISIBLE_NAMESPACES, script.memory_of(args))
    listed = spanning(records, opened, groups)
    tagging = weigh_tags(folder, data, records, found, pairs, listed, believes, chance)
    noes = Noes.of(
        data.spellings, review_store.decisions(folder.review, data.pixels, data), review_store.muted(folder.review)
    )
    summary = summarise(data, records, pairs, groups, opened, threshold)
    if measured is not None:
        summary |= {"pairs_ruled_out_by_pixels": len(alike) - len(pairs), "pairs_without_thumbnails": blind}
    if len(listed) < len(opened):
        summary["pairs_listed"] = len(listed)
    summary["pictures_compared_anew"] = anew
    how = {"calibrated": bool(table), "measured": measured is not None}
    document = {
        "dataset": data.path.name,
        "model": found.model,
        "settings": {"threshold": threshold, "engine": args.engine, **how},
        "summary": summary,
        "ordinary_cosines": ordinary_cosines(found.matrix, threshold, warn=measured is None),
        "calibration": table,
        "similar_pairs": SimilarPairs(records, listed, tagging, noes, chance) or [],
        "groups": [[records[row].hash for row in group] for group in groups],
        "group_details": [describe_group([records[row] for row in group]) for group in groups],
    }
    report = data_folder.save(folder, NEAR_DUPLICATES, document)
    print(outcome(summary, data.share(len(records))) + f" -> {report}")
    return 0


def embedded_records(folder: DataFolder, data: Dataset) -> tuple[list[Record], Embeddings]:
    """The pictures that can be compared, sorted by hash, and their embeddings in the same order."""
    usable = {record.hash: record for record in data.usable()}
    if not usable:
        raise MissingInput(
            f"no readable picture in {data.path}: run advanced_joytag_processing.py on pages that hold some"
        )
    found = store.load(folder.embeddings, sorted(usable), data.model)
    if len(found.hashes) < min(2, len(usable)):
        raise MissingInput(
            f"{len(found.hashes)} of the {len(usable)} readable pictures in {data.path} have an embedding in "
            f"{folder.embeddings}, so there is nothing to compare: run advanced_joytag_processing.py first"
        )
    return [usable[hash] for hash in found.hashes], found


def judged_pairs(data: Dataset) -> dict[tuple[str, str, str], str]:
    """What the owner judged in the library's own program, as decisions.

    Duplicates are copies, alternates and false positives are not.
    """
    return {
        (one, other, "near_duplicate"): review_store.ACCEPTED if kind == DUPLICATES else review_store.IGNORED
        for (one, other), kind in data.judged.items()
    }


def known_pairs(
    given: str | None, records: list[Record], decided: dict[tuple[str, str, str], str]
) -> dict[tuple[int, int], bool]:
    """Pairs of rows that are known to be copies (True) or no copies (False), from a file or from the owner's decisions."""
    row = {record.hash: place for place, record in enumerate(records)}
    if given:
        listed = [(one, other, True) for one, other in read_copies(Path(given))]
    else:
        first: dict[str, str] = {}  # of each picture and those after it that have its pixels
        pixels = [(record.hash, same) for record in records if (same := pixels_of(record.raw))]
        listed = [(first[same], hash, True) for hash, same in pixels if first.setdefault(same, hash) != hash]
        listed += [
            (one, other, state == review_store.ACCEPTED)
            for (one, other, _), state in decided.items()
            if state in (review_store.ACCEPTED, review_store.IGNORED)
        ]
    here = ((row[one], row[other], copy) for one, other, copy in listed if one in row and other in row)
    known = {(min(one, other), max(one, other)): copy for one, other, copy in here}
    if sum(known.values()) < FEWEST_KNOWN // 2 or (not given and (len(known) < FEWEST_KNOWN or all(known.values()))):
        raise MissingInput(
            f"{plural(len(known), 'pair is', 'pairs are')} known, {sum(known.values())} of them copies: --calibrate needs {FEWEST_KNOWN} judged pairs, "
            f"some of them no copies, or a file that lists {FEWEST_KNOWN // 2} copies of this library"
        )
    return known


def read_copies(path: Path) -> list[tuple[str, str]]:
    """The pairs of copies that a file lists."""
    entry = json_files.list_of(json_files.text())
    listed = json_files.read(path, json_files.record({"near_duplicates": json_files.list_of(entry)}))["near_duplicates"]
    if any(len(entry) < 2 for entry in listed):
        raise BadFile(f"{path} has no list 'near_duplicates' of [hash, hash]: correct it")
    return [(entry[0], entry[1]) for entry in listed]


def calibrate(
    found: Embeddings, known: dict[tuple[int, int], bool], complete: bool
) -> tuple[float, list[dict[str, float]]]:
    """The threshold that known pairs ask for, and what each threshold would report.

    With `complete`, `known` holds all copies there are, and every other pair is none. Else it is a
    sample, and says how likely pairs of each cosine are copies.
    """
    copy = np.array(list(known.values()))
    cosine = pair_search.pair_cosines(found.matrix, *np.array(list(known), dtype=np.int64).T)
    asked = THRESHOLDS
    reach = np.quantile(cosine[copy], 0.05) if complete else cosine.min()
    lowest = float(asked[max(0, np.searchsorted(asked, reach, side="right") - 1)])
    pairs = pair_search.near_pairs(found.matrix, lowest, limit=MOST_PAIRS)
    if complete:
        chance = np.array([(i, j) in known for i, j in zip(pairs.i.tolist(), pairs.j.tolist())], dtype=np.float64)
    else:
        chance = copy_chance(pairs.cosine, cosine, copy)
    table = precision_by_threshold(pairs.cosine, chance, float(copy.sum()) if complete else float(chance.sum()), lowest)
    threshold = calibrated_threshold(table, PRECISION)
    if threshold is None:
        raise MissingInput(
            f"at no threshold are {PRECISION:.0%} of the pairs copies, so this model cannot tell them apart: "
            "leave --calibrate out"
        )
    row = next(row for row in table if row["threshold"] == threshold)
    script.say(
        f"threshold {threshold:g}, set from {len(known)} known pairs: {row['precision']:.0%} of the pairs are copies, "
        f"{row['recall']:.0%} of the copies are found"
    )
    return threshold, table


def told_by_pixels(
    folder: DataFolder, records: list[Record], measured: same_picture.Measured, alike: Pairs
) -> tuple[Pairs, dict[tuple[int, int], float], int]:
    """Those of the pairs that are copies, by what was measured and their pixels, the chance of each, and how many pairs
    were told by the cosine alone, since a picture has no thumbnail.

    Of each picture the `NEAREST` pairs are asked first. Where these make a group of more than `LISTED` copies, its other pairs
    are copies, too, and are not asked: a thousand copies of one picture are half a million pairs.
    """
    hashes = [record.hash for record in records]
    copy = equal_pixels(records, alike)
    chance = copy.astype(np.float64)
    asked = nearest(alike, NEAREST) & ~copy
    seen = np.ones(len(alike), dtype=bool)
    copy[asked], chance[asked], seen[asked] = measuring.copies(folder.embeddings, hashes, measured, alike.part(asked))
    labels = pair_search.group_labels(len(records), alike.i[copy], alike.j[copy])
    large = np.bincount(labels)[labels] > LISTED
    within = large[alike.i] & (labels[alike.i] == labels[alike.j])
    left = ~(asked | copy | within)
    _, chance[left], seen[left] = measuring.copies(folder.embeddings, hashes, measured, alike.part(left))
    copy[left] = chance[left] >= same_picture.copy_from(chance[asked])
    implied = within & ~(asked | copy)
    copy[implied], chance[implied] = True, float(chance[asked & copy].min(initial=1.0))
    kept = alike.part(copy)
    rows = zip(kept.i.tolist(), kept.j.tolist())
    blind = int((~seen).sum())
    if blind:
        script.say(
            f"{plural(blind, 'pair was', 'pairs were')} judged by the cosine alone: an earlier version embedded their pictures without a "
            f"thumbnail; move {folder.embeddings}/*.pt away and run advanced_joytag_processing.py to have them"
        )
    return kept, {pair: round(sure, 4) for pair, sure in zip(rows, chance[copy].tolist())}, blind


def nearest(pairs: Pairs, count: int) -> np.ndarray:
    """Which pairs (m,) are among the `count` most alike of one of their pictures."""
    ends, places = np.concatenate([pairs.i, pairs.j]), np.tile(np.arange(len(pairs)), 2)
    order = np.lexsort((places, -np.tile(pairs.cosine, 2), ends))
    ordered = ends[order]
    rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    found = np.zeros(len(pairs), dtype=bool)
    found[places[order[rank < count]]] = True
    return found


def equal_pixels(records: list[Record], pairs: Pairs) -> np.ndarray:
    """Which pairs (m,) show the very same pixels, as the library or the decoder says."""
    rows = zip(pairs.i.tolist(), pairs.j.tolist())
    same = [(one := pixels_of(records[i].raw)) != "" and one == pixels_of(records[j].raw) for i, j in rows]
    return np.array(same, dtype=bool)


def ordinary_cosines(matrix: np.ndarray, threshold: float, warn: bool = True) -> dict[str, float]:
    """What the threshold means for this model: the cosines of pictures drawn at random from the library."""
    rng = np.random.default_rng(0)
    i, j = rng.integers(len(matrix), size=(2, DRAWN_PAIRS))
    i, j = i[i != j], j[i != j]
    cosine = np.empty(len(i), dtype=np.float32)
    for start in range(0, len(i), AT_ONCE):
        ends = (unit_rows(matrix[one[start : start + AT_ONCE]]) for one in (i, j))
        cosine[start : start + AT_ONCE] = np.einsum("nd,nd->n", *ends)
    reached = float((cosine >= threshold).mean()) if len(cosine) else 0.0
    if warn and reached > TOO_MANY:
        script.say(
            f"careful: {reached:.1%} of pictures drawn at random are as alike as {threshold:g}, "
            "so most pairs will be no copies: use a higher --threshold, or --calibrate"
        )
    median, high, highest = np.quantile(cosine, [0.5, 0.99, 0.999]) if len(cosine) else (0.0, 0.0, 0.0)
    return {
        "median": round(float(median), 4),
        "99_percent_below": round(float(high), 4),
        "99.9_percent_below": round(float(highest), 4),
        "at_or_above_threshold": round(reached, 6),
    }


def compare(found: Embeddings, threshold: float, engine: str, folder: DataFolder) -> tuple[Pairs, int]:
    """All pairs at or above `threshold`, with a progress bar, and how many pictures had to be compared with all others: those
    that are new or embedded anew since pairs were kept.
    """
    with script.shown_share("comparing all pairs") as progress:
        made = kept_pairs.near_pairs(folder.embeddings, found, threshold, engine, progress, MOST_PAIRS)
    return made.pairs, made.anew


def compare_on_cluster(args: argparse.Namespace, folder: DataFolder, found: Embeddings, threshold: float) -> Pairs:
    """`compare` by the workers of a Ray cluster, each of which reads the embeddings from the shared data folder."""
    make = partial(cluster_worker, folder, found.hashes, found.model, threshold)
    parts = cluster.over_parts(make, range(PARTS), args.address, args.workers)
    pairs = pair_search.joined(script.progress(parts, PARTS, "comparing all pairs", "part"))
    pair_search.hold(len(pairs), MOST_PAIRS, threshold)
    return pairs


def cluster_worker(
    folder: DataFolder, hashes: Sequence[str], model: str | None, threshold: float
) -> Callable[[int, int], Pairs]:
    """Read the embeddings once, in a worker; returns what finds the pairs of a part."""
    matrix = store.load(folder.embeddings, hashes, model).matrix
    part = pair_search.in_parts(matrix, threshold, limit=MOST_PAIRS)
    return lambda place, begun: part(place, PARTS)


def without(pairs: Pairs, records: list[Record], decided: dict[tuple[str, str, str], str], state: str) -> Pairs:
    """The pairs that the owner has not given `state`: judged as no copies (ignored), or as copies (accepted)."""
    judged = {(hash1, hash2) for (hash1, hash2, _), given in decided.items() if given == state}
    if not judged:
        return pairs
    places = zip(pairs.i.tolist(), pairs.j.tolist())
    return pairs.part(np.array([(records[i].hash, records[j].hash) not in judged for i, j in places], dtype=bool))


def spanning(records: list[Record], pairs: Pairs, groups: list[list[int]]) -> Pairs:
    """The pairs that are listed: all of groups of up to `LISTED` pictures; of a larger one those that hold it together, one
    fewer than its pictures: with the best copy where that is one of the pair, else the most alike.
    """
    of, best = np.full(len(records), -1), np.zeros(len(records), dtype=bool)
    for place, group in enumerate(groups):
        if len(group) > LISTED:
            of[group] = place
            best[group[best_copy([records[row] for row in group])[0]]] = True
    large = np.flatnonzero((of[pairs.i] >= 0) & (of[pairs.i] == of[pairs.j]))
    if not len(large):
        return pairs
    i, j, cosine = pairs.i[large], pairs.j[large], pairs.cosine[large]
    cost = np.where(best[i] | best[j], 1.0, 4.0) + (1 - cosine)
    tree = csgraph.minimum_spanning_tree(sparse.csr_matrix((cost, (i, j)), shape=(len(records),) * 2)).tocoo()
    kept = np.ones(len(pairs), dtype=bool)
    kept[large] = np.isin(i * len(records) + j, tree.row.astype(np.int64) * len(records) + tree.col)
    return pairs.part(kept)


@dataclass(frozen=True)
class Tagging:
    """What to make of the tags on one copy only. Cell c: `column[c]` of `names`, of pair `pair[c]` (sorted), on its
    first (0) or second copy (`side[c]`), is missing from the other with probability `shared[c, 0]` and wrong where it is with
    `shared[c, 1]`: what is believed of these pictures' tags everywhere (`tagcheck.belief`).

    `copies` (pairs,) is the chance that a pair shows one picture, and not two that are alike. Of each cell's tag, `tagger` is its
    mean probability on the two copies, `neighbours` the share of the pictures most like them that have it; NaN where nobody says.
    """

    names: list[str]
    pair: np.ndarray
    column: np.ndarray
    side: np.ndarray
    shared: np.ndarray
    copies: np.ndarray
    tagger: np.ndarray
    neighbours: np.ndarray


def weigh_tags(
    folder: DataFolder,
    data: Dataset,
    records: list[Record],
    found: Embeddings,
    pairs: Pairs,
    opened: Pairs,
    believes: Believed,
    measured: Mapping[tuple[int, int], float] | None = None,
) -> Tagging:
    """Ask the pictures about every tag that only one copy of a pair has."""
    tag_sets = TagSets.of(record.written for record in records)
    names = sorted(visible(tag_sets.names) - tags.of_prose(tag_sets.uses()))
    place = {tag: column for column, tag in enumerate(names)}
    owned = tag_sets.columns(names or [""])
    pair, column, side = tags_to_share.differences(owned, opened.i, opened.j)
    forgets = tags_to_share.forgetting(owned, opened.i, opened.j, len(pair))
    labels = pair_search.group_labels(len(records), pairs.i, pairs.j)
    cells = np.concatenate([opened.i[pair], opened.j[pair]])
    tagger = load_tagger(folder, data, found.model, found.matrix.shape[1], [], place)
    near = most_like(found.hashes, believes, labels)
    said = tags_to_share.support(found.matrix, owned, near, cells, np.concatenate([column, column]), tagger)
    having, asked = (both.reshape(2, -1).sum(axis=0) for both in (said.having, said.asked))
    neighbours = np.divide(having, asked, out=np.full(len(pair), np.nan), where=asked > 0)
    rate = np.asarray(owned.mean(axis=0)).ravel()[column]
    copies = tags_to_share.copy_chance_by_tags(owned, opened.i, opened.j, found.matrix, near)
    rows = list(zip(opened.i.tolist(), opened.j.tolist()))
    copies[equal_pixels(records, opened)] = 1.0
    for at, (i, j) in enumerate(rows):
        if copies[at] < 1 and measured is not None and (i, j) in measured:
            copies[at] = measured[i, j]
    ends = [(records[i].hash, records[j].hash) for i, j in rows]
    by_rate = tags_to_share.belongs_on_both(rate, forgets)
    shared = np.empty((len(pair), 2))
    for cell, (at, name, on) in enumerate(zip(pair.tolist(), column.tolist(), side.tolist())):
        missing = believes(ends[at][1 - on], names[name], MISSING)
        wrong = believes(ends[at][on], names[name], INCORRECT)
        if missing is None or wrong is None:  # too rare a tag, or too few pictures: the copy's word alone
            missing, wrong = copies[at] * by_rate[cell], copies[at] * (1 - by_rate[cell])
        shared[cell] = missing, wrong
    return Tagging(names, pair, column, side, shared, copies, said.tagger.reshape(2, -1).mean(axis=0), neighbours)


def most_like(hashes: Sequence[str], believes: Believed, labels: np.ndarray) -> np.ndarray:
    """The rows of the pictures most like each of `hashes`, (n, k) int32, as they were found when tags were weighed (where there were
    enough for that); -1 for those of its group by `labels` (n,).
    """
    now = arrays.places(*map(arrays.as_bytes, (believes.hashes, hashes))).astype(np.int32)
    near = np.full((len(hashes), believes.near.shape[1]), -1, dtype=np.int32)
    near[now[now >= 0]] = now[believes.near[now >= 0]]
    near[labels[near] == labels[:, None]] = -1
    return near


def summarise(
    data: Dataset, records: list[Record], pairs: Pairs, groups: list[list[int]], opened: Pairs, threshold: float
) -> dict[str, Any]:
    """The report's counts."""
    return {
        "total_pairs_found": len(opened),
        "similarity_threshold": threshold,
        "groups": len(groups),
        "images_compared": len(records),
        **data.sampled(len(records)),
        "pixel_duplicates": int(equal_pixels(records, opened).sum()),
        "pairs_already_judged": len(pairs) - len(opened),
        "images_without_embedding": len({record.hash for record in data.usable()}) - len(records),
        "images_unusable": len(data.records) - len(data.usable()),
    }


@dataclass(frozen=True)
class SimilarPairs:
    """The report's `similar_pairs`, the most similar first, made one at a time as they are written."""

    records: list[Record]
    pairs: Pairs
    tagging: Tagging
    noes: Noes
    chance: Mapping[tuple[int, int], float] | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        bounds = np.searchsorted(self.tagging.pair, np.arange(len(self.pairs) + 1)).tolist()
        for place in (-self.pairs.cosine).argsort(kind="stable").tolist():
            one, other = self.records[self.pairs.i[place]], self.records[self.pairs.j[place]]
            cells = range(bounds[place], bounds[place + 1])
            found = [suggestion for cell in cells if (suggestion := suggest(one, other, self.tagging, cell, self.noes))]
            rows = (int(self.pairs.i[place]), int(self.pairs.j[place]))
            entry = describe_pair(one, other, round(float(self.pairs.cosine[place]), 6), self.noes)
            if self.chance is not None:
                entry["copy_chance"] = self.chance[rows]
            entry["copy_probability"] = round(float(self.tagging.copies[place]), 4)
            yield entry | {"suggestions": sorted(found, key=lambda entry: (-entry["confidence"], entry["tag"]))}


def describe_pair(one: Record, other: Record, similarity: float, noes: Noes) -> dict[str, Any]:
    """What an entry of `similar_pairs` says about the pictures and their tags."""
    tags1, tags2, pixels = visible(one.tags), visible(other.tags), pixels_of(one.raw)
    refused = {
        "in_1": sorted(tag for tag in other.tags - one.tags if noes.adding(one, tag)),
        "in_2": sorted(tag for tag in one.tags - other.tags if noes.adding(other, tag)),
    }
    return ({"refused_tags": refused} if any(refused.values()) else {}) | {
        "id": finding_id("near_duplicate", [one.hash, other.hash], []),
        "hash1": one.hash,
        "hash2": other.hash,
        "similarity": similarity,
        "relation": "pixel_duplicate" if pixels and pixels == pixels_of(other.raw) else "near_duplicate",
        "analysis": {
            "series_tags_diff": difference(tags1, tags2, (config.SERIES_NAMESPACE,)),
            "person_tags_diff": difference(tags1, tags2, tags.PERSON_NAMESPACES),
            "all_tags_diff": difference(tags1, tags2),
            "tags_common": sorted(tags1 & tags2),
        },
    }


def suggest(one: Record, other: Record, tagging: Tagging, cell: int, noes: Noes) -> dict[str, Any] | None:
    """Copy a tag to the copy that lacks it, or take it off the one that has it; None where that cannot be meant.

    It cannot where there is hardly any evidence for either, where a no of the owner covers it, or where the tag that should go is there by a sibling or parent alone.
    """
    tag, (missing, wrong) = tagging.names[tagging.column[cell]], tagging.shared[cell].tolist()
    having, lacking = (one, other) if tagging.side[cell] == 0 else (other, one)
    kind = MISSING if missing >= wrong else INCORRECT
    target = lacking if kind == MISSING else having
    if max(missing, wrong) < LEAST or noes.why_not(target, tag, kind == MISSING):
        return None
    said = {"tagger_probability": tagging.tagger[cell], "neighbours_with_tag": tagging.neighbours[cell]}
    shares = {name: round(float(share), 4) for name, share in said.items() if not np.isnan(share)}
    evidence = {"other_copy": (having if kind == MISSING else lacking).hash} | shares
    return {
        "id": finding_id("copy_tag", [one.hash, other.hash], [f"{kind}:{tag}"]),
        "hash": target.hash,
        "tag": tag,
        "kind": kind,
        "confidence": round(max(missing, wrong), 4),
        "evidence": evidence,
        "why": reason(tag, kind, evidence),
    }


def reason(tag: str, kind: str, evidence: dict[str, Any]) -> str:
    """One sentence for the owner."""
    said = []
    if "tagger_probability" in evidence:
        said.append(f"the tagger gives it {evidence['tagger_probability']:.0%}")
    if "neighbours_with_tag" in evidence:
        said.append(f"{evidence['neighbours_with_tag']:.0%} of the pictures most like them have it")
    has, lacks = ("The other copy", "this one") if kind == MISSING else ("This copy", "the other one")
    start = f"{has} has '{tag}' and {lacks} does not"
    return start + ("; " + " and ".join(said) if said else "") + "."


def describe_group(members: list[Record]) -> dict[str, Any]:
    """One entry of `group_details`: the best copy and why, and which tags only some of the copies have."""
    best, reasons = best_copy(members)
    having = Counter(tag for member in members for tag in visible(member.tags))
    return {
        "id": finding_id("near_duplicate_group", [member.hash for member in members], []),
        "best_copy": members[best].hash,
        "reasons": reasons,
        "hashes": [member.hash for member in members],
        "tags_on_some": {tag: count for tag, count in sorted(having.items()) if count < len(members)},
    }


def visible(owned: Iterable[str]) -> frozenset[str]:
    """Those of `owned` that say something about the picture rather than about this copy of it."""
    return frozenset(tag for tag in owned if tags.namespace(tag) not in config.INVISIBLE_NAMESPACES)


def difference(
    tags1: frozenset[str], tags2: frozenset[str], namespaces: Sequence[str] | None = None
) -> dict[str, list[str]]:
    """Which tags only one of two pictures has, in all or some namespaces."""
    apart = sorted(tag for tag in tags1 ^ tags2 if namespaces is None or tags.namespace(tag) in namespaces)
    return {f"only_in_{side}": [tag for tag in apart if tag in has] for side, has in ((1, tags1), (2, tags2))}


def outcome(summary: dict[str, Any], share: str) -> str:
    """The summary line."""
    before = summary["pairs_already_judged"]
    judged = f" ({before:,} more were judged before)" if before else ""
    line = (
        f"{plural(summary['total_pairs_found'], 'pair')} ({summary['pixel_duplicates']:,} of the same pixels) "
        f"in {plural(summary['groups'], 'group')} at or above {summary['similarity_threshold']:g} "
        f"among {share}{judged}"
    )
    left_out = summary["images_without_embedding"] + summary["images_unusable"]
    return line + (f"; {left_out:,} not compared (no embedding or not readable)" if left_out else "")


if __name__ == "__main__":
    run(main)
