"""Find tags that are missing, incorrect, inconsistent or contradictory, with a confidence that can be trusted.

    python find_mistagged_images.py
    python find_mistagged_images.py --min-confidence 0.8 --data-dir ~/tagcheck-data

Reads   datasets/advanced_joytag_complete_*.json (the newest), advanced_embeddings/*.pt; where they are
        there: advanced_embeddings/tag_head.pt, review.sqlite3 (what you decided before), and your own
        tag_rules.json, tag_map.json and tag_map.csv in the data folder
Writes  reports/mistagged_images_report_<UTC>.json
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np

import config
from tagcheck import cluster, data_folder, dataset, folded, memory, script, tags
from tagcheck.belief import Pictures, Weighed, weigh
from tagcheck.dataset import Dataset
from tagcheck.detectors import MISTAGGED
from tagcheck.errors import MissingInput
from tagcheck.findings import MISSING
from tagcheck.plural import plural
from tagcheck.refusals import Noes
from tagcheck.review import store as review_store
from tagcheck.tag_columns import TagSets
from tagcheck.tag_errors import Examined, Rules, owner_feedback, suggestions
from tagcheck.tag_errors.entries import Entries
from tagcheck.tag_errors.explanation import explain
from tagcheck.tag_errors.look_alikes import FEW, nearest
from tagcheck.tag_errors.suggestions import ISSUES, Suggestions
from tagcheck.tag_errors.telling import with_evidence

# Why a suggestion is left out, as the report says it.
LEFT_OUT = {"muted": "muted", "deleted": "deleted_before", "ignored": "ignored_before", "implied": "implied_by_others"}
RAY = "ray"
LISTED = 0.5  # the least confidence that is listed, where none is named


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_dataset(parser)
    script.add_memory(parser)
    least = f"list suggestions that are right with this probability or more, 0 to 1 (default: {LISTED}, and some less sure ones to learn from where few are surer)"
    script.add_confidence(parser, least, None)
    engine = "'ray' shares the sums and the evidence out to the workers of a Ray cluster (docs/scale.md), with the same result"
    script.add_option(parser, "--engine", engine, "auto", choices=("auto", RAY))
    script.add_workers(parser)
    script.add_switch(parser, "--anew", "weigh all pictures, not only those that have changed since all were weighed")
    explain = "write no report: print all that was weighed about one tag of one picture"
    parser.add_argument("--explain", nargs=2, metavar=("HASH", "TAG"), help=explain)
    return script.parsed(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = script.data_folder(args)
    data = dataset.load(folder, args.dataset, args.max_embeddings)
    with cluster.shared(args.address, args.workers) if args.engine == RAY else nullcontext(cluster.here) as share:
        made = weigh(folder, data, config.INVISIBLE_NAMESPACES, script.memory_of(args), share, args.anew)
    if args.explain:
        print("\n".join(explained(made, *args.explain)))
        return 0
    pictures, seen, work = made.pictures, made.seen, made.work
    lowest = LISTED if args.min_confidence is None else args.min_confidence
    kept, dropped = respect(made.found, pictures, made.declared, made.noes, data.parents, lowest)
    which = kept.confidence >= lowest
    if args.min_confidence is None:
        which |= to_learn_from(kept, which, review_store.answers(folder.review, data), pictures.notes)
    sure = kept.where(which)
    below = len(kept) - len(sure)
    del made, kept  # of a million pictures .2 GB, and the cells, which the report needs no more, another
    seen = seen and seen.only(sure)
    report = make_report(data, pictures, seen, sure, below, dropped, lowest)
    report["summary"]["weighed"] = asdict(work)
    for note in pictures.notes:
        if "your decisions" in note:
            script.say(note)
    with memory.uncollected():
        path = data_folder.save(folder, MISTAGGED, report)
    print(summary_line(report["summary"], data.share(len(pictures.matrix)), path))
    return 0


def to_learn_from(
    found: Suggestions, sure: np.ndarray, answers: Iterable[tuple[str, str, str, float, bool]], notes: list[str]
) -> np.ndarray:
    """Which less sure suggestions (m,) are listed beside those that are `sure`, so that the owner's answers tell how often such are right
    (`owner_feedback.to_ask`), with a note.
    """
    decided = Counter(action for action, issue, _, _, _ in answers if issue in ISSUES)
    out = np.zeros(len(found), dtype=bool)
    for action in ("add", "remove"):
        mine = np.flatnonzero(found.adds == (action == "add"))
        some = mine[owner_feedback.to_ask(found.confidence[mine], sure[mine], decided[action])]
        out[some] = True
        if len(some):
            notes.append(
                f"{plural(len(some), 'less sure tag')} to {action} ({found.confidence[some].min():.2f} to {found.confidence[some].max():.2f}) "
                "listed too, since few are surer: your decisions on them correct the confidence of all others"
            )
    return out


def explained(made: Weighed, hash: str, tag: str) -> list[str]:
    """All that was weighed about one tag of one picture, a line each. Raises `MissingInput` where it was not looked at."""
    row = next((row for row, record in enumerate(made.pictures.records) if record.hash == hash.lower()), None)
    if row is None:
        raise MissingInput(f"no readable picture {hash} in the dataset")
    if made.seen is None or row >= len(made.pictures.matrix):
        raise MissingInput(f"picture {hash} was not looked at: {'; '.join(made.pictures.notes)}")
    clean = tags.clean(tag)
    at = [tag == clean for tag in made.found.names]
    mine = with_evidence(
        made.seen, made.found.where((made.found.row == row) & np.array(at, dtype=bool)[made.found.name])
    )
    return explain(made.seen, row, clean) + [f"reported with {one.confidence:.1%}: {one.why}" for one in mine]


def judged(pictures: Pictures, seen: Examined | None) -> dict[str, Any]:
    """How sure the run is of itself: the rates it inferred, and which of the written tags it could not judge and why."""
    n = 0 if seen is None else len(pictures.matrix)
    known = set() if seen is None else set(seen.tags)
    uses, unseen = TagSets.of(pictures.visible[:n]).uses(), TagSets.of(pictures.visible[n:]).uses().total()
    written = uses.total() + unseen
    rare = sum(count for tag, count in uses.items() if tag not in known)
    made: dict[str, Any] = {
        "tags_written": written,
        "tags_not_judged": {"picture_not_looked_at": unseen, "used_too_seldom": rare},
        "share_not_judged": round((unseen + rare) / max(written, 1), 4),
    }
    if seen is None:
        return made
    habits = {
        name: {"two_meet": round(seen.habits.meeting[name], 4), "swapped": round(seen.habits.swapped[name], 4)}
        for name in seen.relations.spaces
    }
    rates = {
        "forgotten": round(seen.verdict.forgotten.likely, 4),
        "wrong_in_units_of_frequency": round(seen.verdict.wrongly.likely, 4),
        "namespaces": habits,
        "tags_that_bring_another": len(np.unique(seen.relations.child)),
        "pairs_that_exclude_each_other": len(seen.relations.apart),
    }
    return made | {"rates": rates}


def respect(
    found: Suggestions,
    pictures: Pictures,
    declared: Rules,
    noes: Noes,
    parents: Mapping[str, frozenset[str]] | None = None,
    lowest: float = 0.0,
) -> tuple[Suggestions, Counter[str]]:
    """The suggestions without those that the owner has answered already or cannot use, and how many were left out and why.

    What a no covers (`tagcheck.refusals`) is not brought up again, be it a deletion or an ignored suggestion. A tag that follows from another by a sibling or parent cannot be removed
    by itself, and need not be added where that other is suggested (with a confidence of at least `lowest`), or where its words stand in a phrase of
    the caption (`freckles` in `freckles on nose`). Listed tags are never suggested.
    """
    parents, records, names = parents or {}, pictures.records, found.names
    dropped = Counter(deleted_before=0, ignored_before=0, implied_by_others=0, never_suggested=0, muted=0)
    kept = ~said_within(found, pictures)
    dropped["implied_by_others"] += int((~kept).sum())
    never = np.array([declared.never_suggested(tag) for tag in names], dtype=bool)[found.name] & found.adds
    muted = np.array([tag in noes.muted for tag in names], dtype=bool)[found.name]
    refused = np.array([noes.concerned(one, adding=True) for one in records], dtype=bool)[found.row]
    implied = np.array([noes.concerned(one, adding=False) for one in records], dtype=bool)[found.row]
    for place in np.flatnonzero(kept & (muted | never | np.where(found.adds, refused, implied))).tolist():
        one = found[place]
        reason = noes.why_not(records[one.row], one.tag, one.kind == MISSING)
        if reason or never[place]:
            kept[place] = False
            dropped[LEFT_OUT[reason] if reason else "never_suggested"] += 1
    child = np.array([tag in parents for tag in names], dtype=bool)[found.name]
    coming = [
        found[place] for place in np.flatnonzero(kept & found.adds & child & (found.confidence >= lowest)).tolist()
    ]
    follow = {(one.row, parent) for one in coming for parent in parents[one.tag]}
    rows = np.isin(found.row, [row for row, _ in follow])
    for place in np.flatnonzero(kept & found.adds & rows).tolist():
        if (int(found.row[place]), names[found.name[place]]) in follow:
            kept[place] = False
            dropped["implied_by_others"] += 1
    return found.where(kept), dropped


def said_within(found: Suggestions, pictures: Pictures) -> np.ndarray:
    """(m,) bool: which of the suggestions are to add a tag whose words stand in a phrase of the picture's caption."""
    said = (
        {row: pictures.phrases.intersection(one.written) for row, one in enumerate(pictures.records)}
        if pictures.phrases
        else {}
    )
    rows = [row for row, some in said.items() if some]
    out = np.zeros(len(found), dtype=bool)
    for place in np.flatnonzero(found.adds & np.isin(found.row, rows)).tolist():
        tag = f" {found.names[found.name[place]]} "
        out[place] = any(tag in f" {one} " for one in said[int(found.row[place])])
    return out


def learned_exclusions(seen: Examined) -> list[dict[str, Any]]:
    """The tags that were found to exclude each other."""
    return [
        {
            "tags": [seen.tags[pair.one], seen.tags[pair.other]],
            "confidence": round(pair.confidence, 4),
            "expected_by_chance": round(pair.by_chance, 1),
            "meetings": round(pair.meetings, 1),
        }
        for pair in seen.exclusions
    ]


@memory.uncollected()
def make_report(
    data: Dataset,
    pictures: Pictures,
    seen: Examined | None,
    listed: Suggestions,
    below: int,
    dropped: Counter[str],
    lowest: float,
) -> dict[str, Any]:
    """The report's document: one entry a picture and issue, the surest first. `below` suggestions have less than the `lowest` confidence."""
    shown, beside = look_alikes(pictures, seen, listed)
    hashes = [record.hash for record in pictures.records]
    errors = Entries(hashes, seen, listed, beside)
    by_issue = dict(zip(ISSUES, np.bincount(listed.issue, minlength=len(ISSUES)).tolist()))
    summary = {
        "total_images_analyzed": len(pictures.records),
        **data.sampled(len(pictures.matrix)),
        "errors_found": len(errors),
        **by_issue,
        "suggestions": len(listed),
        "suggestions_to_add": int(listed.adds.sum()),
        "suggestions_to_remove": int((~listed.adds).sum()),
        "below_min_confidence": below,
        "left_out": dict(dropped),
        "judged": judged(pictures, seen),
        "notes": pictures.notes,
    }
    return {
        "dataset": data.path.name,
        "settings": settings(seen, lowest),
        "summary": summary,
        "learned_exclusions": [] if seen is None else learned_exclusions(seen),
        "near_pictures": [hashes[row] for row in shown],
        "errors": errors or [],  # which is written as it is
    }


def look_alikes(
    pictures: Pictures, seen: Examined | None, listed: Suggestions
) -> tuple[list[int], dict[str, np.ndarray]]:
    """(the rows of the pictures that are shown beside suggestions, by name the places among these of the nearest pictures that have the
    tag of each suggestion and of those that lack it, (k, FEW), -1 for none).

    Where there are many suggestions, all of their own pictures come first: then their hashes need not stand in the report twice.
    """
    if seen is None:
        return [], {}
    n = len(pictures.matrix)
    judged = listed.row < n
    asked = [(int(listed.row[place]), listed.names[listed.name[place]]) for place in np.flatnonzero(judged)]
    both = np.full((len(listed), 2 * FEW), -1)
    near = pictures.matrix, seen.around.indices, seen.around.cosine
    both[judged] = np.hstack(nearest(*near, asked, pictures.visible[:n]))
    entries = np.unique(listed.row.astype(np.int64) * len(ISSUES) + listed.issue)
    own = np.unique(listed.row).tolist() if len(entries) >= folded.LARGE else []
    rows, first = np.unique(both[both >= 0], return_index=True)
    others = rows[np.argsort(first)]
    shown = [*sorted(own, key=lambda row: pictures.records[row].hash), *others[~np.isin(others, own)].tolist()]
    place = np.full(len(pictures.records) + 1, -1)
    place[shown] = np.arange(len(shown))
    return shown, {"near_with": place[both[:, :FEW]], "near_without": place[both[:, FEW:]]}


def settings(seen: Examined | None, lowest: float) -> dict[str, Any]:
    """What the run used and what it estimated about how this library is tagged."""
    made: dict[str, Any] = {"min_confidence": lowest, "listed_from": suggestions.FLOOR}
    if seen is None:
        return made
    return made | {
        "tags_learned": len(seen.tags),
        "tagger_tags": 0 if seen.tagger is None else len(seen.tagger.columns),
        **({"further_taggers": further(seen)} if seen.further else {}),
        "twin_threshold": round(seen.around.threshold, 6),
        "neighbour_recall": round(seen.around.recall, 4),
        "forgotten_share": round(seen.verdict.forgotten.likely, 4),
        "wrong_share_of_frequency": round(seen.verdict.wrongly.likely, 4),
        "single_valued_namespaces": sorted(seen.single_valued),
    }


def further(seen: Examined) -> dict[str, dict[str, int]]:
    """The taggers beside the first: how many pictures each has seen, and how many of the tags it knows itself."""
    return {
        one.name: {"pictures": int(one.there.sum()), "tags": 0 if one.tagger is None else len(one.tagger.columns)}
        for one in seen.further
    }


def summary_line(summary: dict[str, Any], share: str, path: Any) -> str:
    """What the owner reads at the end."""
    counts = ", ".join(f"{summary[issue]:,} {issue.removesuffix('_tags')}" for issue in ISSUES)
    return (
        f"{share}: {counts} tags in {plural(summary['errors_found'], 'entry', 'entries')} "
        f"({summary['below_min_confidence']:,} more below the minimum confidence): {path}"
    )


if __name__ == "__main__":
    script.run(main)
