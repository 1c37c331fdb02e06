"""Find tags that are missing, incorrect, inconsistent or contradictory, with a confidence that can be trusted.

    python find_mistagged_images.py
    python find_mistagged_images.py --min-confidence 0.8 --data-dir ~/tagcheck-data

Reads   datasets/advanced_joytag_complete_*.json (the newest), advanced_embeddings/*.pt; where they are
        there: advanced_embeddings/tag_head.pt, review.sqlite3 (what you decided before), and your own
        tag_rules.json, tag_map.json and tag_map.csv in the data folder
Writes  reports/mistagged_images_report_<UTC>.json
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from tqdm import tqdm

import config
from tagcheck import data_folder, dataset, findings, script, tags
from tagcheck.data_folder import DataFolder
from tagcheck.dataset import Dataset, Record
from tagcheck.detectors import MISTAGGED
from tagcheck.embedding import store
from tagcheck.errors import MissingInput
from tagcheck.findings import BEFORE_VERDICTS, INCORRECT, MISSING
from tagcheck.learning import Tagger
from tagcheck.refusals import Noes
from tagcheck.review import store as review_store
from tagcheck.tag_errors import Examined, Rules, Suggestion, owner_feedback, suggestions, tag_rules, tagger_vocabulary
from tagcheck.tag_errors.look_alikes import Examples, nearest
from tagcheck.tag_errors.owner_feedback import Answer
from tagcheck.tag_errors.suggestions import ISSUES


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_dataset(parser)
    parser.add_argument(
        "--min-confidence",
        type=script.between(0, 1),
        default=0.5,
        metavar="X",
        help="list suggestions that are right with this probability or more, 0 to 1 (default: 0.5)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = script.data_folder(args)
    data = dataset.load(folder, args.dataset)
    declared = tag_rules.load(folder.root)
    pictures = load_pictures(folder, data, config.INVISIBLE_NAMESPACES)
    decided = review_store.decisions(folder.review)
    noes = Noes.of(data.spellings, decided)
    seen = examine(folder, data, pictures, declared, decided, noes)
    found = heed(suggest(pictures, seen, declared), review_store.answers(folder.review), pictures.notes)
    kept, dropped = respect(found, pictures, declared, noes, data.parents, args.min_confidence)
    report = make_report(data, pictures, seen, kept, dropped, args.min_confidence)
    path = data_folder.save(folder, MISTAGGED, report)
    print(summary_line(report["summary"], path))
    return 0


@dataclass(frozen=True)
class Pictures:
    """The readable pictures, those with an embedding first: `matrix` row i belongs to `records[i]`.

    `visible` their tags without those of invisible namespaces; `notes` what could not be done and why.
    """

    records: list[Record]
    visible: list[frozenset[str]]
    matrix: np.ndarray
    model: str | None
    notes: list[str]


def load_pictures(folder: DataFolder, data: Dataset, invisible: Iterable[str]) -> Pictures:
    """The pictures of the dataset with their embeddings. Raises `MissingInput` when not one has an embedding."""
    usable = list({record.hash: record for record in data.usable()}.values())
    if not usable:
        raise MissingInput(
            f"{data.path} has no readable picture: run advanced_joytag_processing.py on a library that has some"
        )
    loaded = store.load(folder.embeddings, [record.hash for record in usable], model=data.model)
    if not loaded.hashes:
        raise MissingInput(
            f"none of the pictures of {data.path} has an embedding in {folder.embeddings}: run advanced_joytag_processing.py"
        )
    place = {hash: row for row, hash in enumerate(loaded.hashes)}
    records = sorted(usable, key=lambda record: place.get(record.hash, len(place)))
    notes = []
    if len(records) > len(place):
        notes.append(
            f"{len(records) - len(place)} pictures have no embedding: only declared rules were checked on them"
        )
    unseen = set(invisible)
    visible = [frozenset(tag for tag in record.tags if tags.namespace(tag) not in unseen) for record in records]
    return Pictures(records, visible, loaded.matrix, loaded.model, notes)


def examine(
    folder: DataFolder,
    data: Dataset,
    pictures: Pictures,
    declared: Rules,
    decided: Mapping[tuple[str, str, str], str],
    noes: Noes,
) -> Examined | None:
    """What the embeddings say about the tags, or None (with a note) where there is too little to learn from."""
    n = len(pictures.matrix)
    uses = Counter(tag for mine in pictures.visible[:n] for tag in mine)
    learnable = sorted(tag for tag, count in uses.items() if count >= suggestions.FEWEST_USES)
    if len(uses) > len(learnable):
        pictures.notes.append(
            f"{len(uses) - len(learnable)} tags are used fewer than {suggestions.FEWEST_USES} times: "
            "only near-duplicates and rules were asked about them"
        )
    if n < suggestions.FEWEST_PICTURES or not learnable:
        pictures.notes.append(
            f"{n} pictures and {len(learnable)} tags are too few to learn from: only declared rules were checked"
        )
        return None
    column = {tag: place for place, tag in enumerate(learnable)}
    cells = [(row, column[tag]) for row, mine in enumerate(pictures.visible[:n]) for tag in mine if tag in column]
    rows, columns = np.array(cells, dtype=np.int64).T
    given = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(n, len(learnable)))
    given.sort_indices()
    tagger = load_tagger(folder, data, pictures, column)
    answered = answered_cells(pictures.records[:n], column, decided, noes)
    with tqdm(total=100, desc="weighing the evidence", unit="%", disable=None) as bar:
        return suggestions.examine(
            pictures.matrix,
            given,
            learnable,
            tagger,
            declared,
            answered,
            data.parents,
            progress=lambda share: bar.update(int(100 * share) - bar.n),
        )


def answered_cells(
    records: Sequence[Record], column: dict[str, int], decided: Mapping[tuple[str, str, str], str], noes: Noes
) -> sparse.csr_matrix:
    """What the owner has said about single tags, (n, T): 1 where the tag belongs, -1 where it does not.

    Whatever a no covers does not belong; a suggestion to remove a tag that was ignored is a yes.
    """
    row = {record.hash: place for place, record in enumerate(records)}
    said = {(place, column[tag]): -1 for place, tag in noes.negatives(records, column)}
    for (hash, tag, action), state in decided.items():
        if hash in row and tag in column and state in ("accepted", "ignored"):
            said[row[hash], column[tag]] = 1 if (action == "add") == (state == "accepted") else -1
    rows, columns = zip(*said) if said else ((), ())
    return sparse.csr_matrix(
        (np.array(list(said.values()), dtype=np.int8), (rows, columns)), shape=(len(records), len(column))
    )


def load_tagger(folder: DataFolder, data: Dataset, pictures: Pictures, column: dict[str, int]) -> Tagger | None:
    """The tagger's last layer for those of its tags that the library uses, or None (with a note)."""
    head = store.load_tag_head(folder.embeddings, pictures.model)
    if head is None:
        pictures.notes.append("no advanced_embeddings/tag_head.pt: the tagger had no say, only the library's own tags")
        return None
    known = tagger_vocabulary.with_categories(
        tagger_vocabulary.load(folder.root, data.siblings), head.tags, head.namespaces
    )
    meant = tagger_vocabulary.owners_tags(head.tags, column, known)
    place: dict[int, int] = {}
    for slot, tag in enumerate(meant):
        if tag is not None:
            place.setdefault(column[tag], slot)
    pictures.notes.append(f"{len(place)} of the {len(column)} tags learned are known to the tagger")
    if not place:
        return None
    columns = np.array(sorted(place))
    slots = [place[one] for one in columns.tolist()]
    return Tagger(columns, head.weight[slots], head.prior_bias()[slots])


def suggest(pictures: Pictures, seen: Examined | None, declared: Rules) -> list[Suggestion]:
    """All suggestions: from the embeddings where there are enough, from declared rules on the other pictures."""
    n = len(pictures.matrix) if seen is not None else 0
    found = suggestions.suggestions(seen, pictures.visible[:n], declared) if seen is not None else []
    rest = suggestions.rule_suggestions(pictures.visible[n:], declared)
    return found + [
        Suggestion(one.row + n, one.tag, one.kind, one.issue, one.confidence, one.evidence, one.why) for one in rest
    ]


def heed(
    found: list[Suggestion], answers: Iterable[tuple[str, str, str, float, bool]], notes: list[str]
) -> list[Suggestion]:
    """The suggestions with the confidence that the owner's decisions so far teach (`tagcheck.tag_errors.owner_feedback`), and a note of them."""
    kinds = {"add": MISSING, "remove": INCORRECT}
    learned = owner_feedback.learn(
        [
            Answer(kinds[action], issue, tag, confidence, right)
            for action, issue, tag, confidence, right in answers
            if issue in ISSUES
        ]
    )
    for kind in sorted(learned.offsets):
        right, of = learned.counts[kind]
        notes.append(f"the confidence of {kind} tags heeds {of:,} of your decisions ({right:,} agreed)")
    out = []
    for one in found:
        after = learned(one.kind, one.issue, one.tag, one.confidence)
        proof = one.evidence if after == one.confidence else one.evidence | {BEFORE_VERDICTS: round(one.confidence, 4)}
        out.append(replace(one, confidence=after, evidence=proof))
    return out


def respect(
    found: list[Suggestion],
    pictures: Pictures,
    declared: Rules,
    noes: Noes,
    parents: Mapping[str, frozenset[str]] | None = None,
    lowest: float = 0.0,
) -> tuple[list[Suggestion], Counter]:
    """The suggestions without those that the owner has answered already or cannot use, and how many were left out and why.

    What a no covers (`tagcheck.refusals`) is not brought up again, be it a deletion or an ignored suggestion. A tag that follows from another by a sibling or parent cannot be removed
    by itself, and need not be added where that other is suggested (with a confidence of at least `lowest`). Listed tags
    are never suggested.
    """
    parents = parents or {}
    kept, dropped = [], Counter(deleted_before=0, ignored_before=0, implied_by_others=0, never_suggested=0)
    for one in found:
        record = pictures.records[one.row]
        adding = one.kind == MISSING
        if adding and noes.deleted_before(record, one.tag):
            dropped["deleted_before"] += 1
        elif noes.ignored_before(record, one.tag) if adding else noes.removing(record, one.tag):
            dropped["ignored_before"] += 1
        elif not adding and one.tag in record.implied_tags:
            dropped["implied_by_others"] += 1
        elif adding and declared.never_suggested(one.tag):
            dropped["never_suggested"] += 1
        else:
            kept.append(one)
    coming = {
        (one.row, parent)
        for one in kept
        if one.kind == MISSING and one.confidence >= lowest
        for parent in parents.get(one.tag, ())
    }
    alone = [one for one in kept if one.kind != MISSING or (one.row, one.tag) not in coming]
    dropped["implied_by_others"] += len(kept) - len(alone)
    return alone, dropped


def make_report(
    data: Dataset, pictures: Pictures, seen: Examined | None, found: list[Suggestion], dropped: Counter, lowest: float
) -> dict[str, Any]:
    """The report's document: one entry a picture and issue, the surest first."""
    listed = [one for one in found if one.confidence >= lowest]
    together: dict[tuple[int, str], list[findings.TagFinding]] = {}
    for one, beside in zip(listed, look_alikes(pictures, seen, listed)):
        finding = findings.TagFinding(one.tag, one.kind, one.confidence, one.evidence | beside, one.why)
        together.setdefault((one.row, one.issue), []).append(finding)
    errors = [
        findings.error(pictures.records[row].hash, issue, tags_found) for (row, issue), tags_found in together.items()
    ]
    errors.sort(key=lambda entry: (-entry["confidence"], entry["hash"], entry["issue"]))
    by_issue, by_kind = Counter(one.issue for one in listed), Counter(one.kind for one in listed)
    summary = {
        "total_images_analyzed": len(pictures.records),
        "errors_found": len(errors),
        **{issue: by_issue[issue] for issue in ISSUES},
        "suggestions": len(listed),
        "suggestions_to_add": by_kind["missing"],
        "suggestions_to_remove": by_kind["incorrect"],
        "below_min_confidence": len(found) - len(listed),
        "left_out": dict(dropped),
        "notes": pictures.notes,
    }
    return {
        "dataset": data.path.name,
        "settings": settings(seen, lowest),
        "summary": summary,
        "learned_exclusions": []
        if seen is None
        else [
            {
                "tags": [seen.tags[pair.one], seen.tags[pair.other]],
                "confidence": round(pair.confidence, 4),
                "expected_by_chance": round(pair.by_chance, 1),
                "meetings": round(pair.meetings, 1),
            }
            for pair in seen.exclusions
        ],
        "errors": errors,
    }


def look_alikes(pictures: Pictures, seen: Examined | None, listed: Sequence[Suggestion]) -> list[dict[str, list[str]]]:
    """For each suggestion the hashes of the nearest pictures that have the tag and of those that lack it, for the page to show."""
    if seen is None:
        return [{} for _ in listed]
    n = len(pictures.matrix)
    asked = [(one.row, one.tag) for one in listed if one.row < n]
    made = iter(nearest(pictures.matrix, seen.around.indices, seen.around.cosine, asked, pictures.visible[:n]))
    out = []
    for one in listed:
        found = next(made) if one.row < n else Examples([], [])
        named = {"near_with": found.having, "near_without": found.lacking}
        out.append({name: [pictures.records[row].hash for row in rows] for name, rows in named.items() if rows})
    return out


def settings(seen: Examined | None, lowest: float) -> dict[str, Any]:
    """What the run used and what it estimated about how this library is tagged."""
    made: dict[str, Any] = {"min_confidence": lowest, "listed_from": suggestions.FLOOR}
    if seen is None:
        return made
    return made | {
        "tags_learned": len(seen.tags),
        "tagger_tags": 0 if seen.tagger is None else len(seen.tagger.columns),
        "twin_threshold": round(seen.around.threshold, 6),
        "forgotten_share": round(seen.verdict.miss_rate, 4),
        "wrong_share_of_frequency": round(seen.verdict.wrong_rate, 4),
        "single_valued_namespaces": sorted(seen.single_valued),
    }


def summary_line(summary: dict[str, Any], path: Any) -> str:
    """What the owner reads at the end."""
    counts = ", ".join(f"{summary[issue]:,} {issue.removesuffix('_tags')}" for issue in ISSUES)
    return (
        f"{summary['total_images_analyzed']:,} pictures: {counts} tags in {summary['errors_found']:,} entries "
        f"({summary['below_min_confidence']:,} more below the minimum confidence): {path}"
    )


if __name__ == "__main__":
    script.run(main)
