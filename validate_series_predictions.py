"""Hold what is believed of each picture's series against the tags as they are today.

    python validate_series_predictions.py
    python validate_series_predictions.py --namespace person --data-dir ~/tagging

What is predicted is what is believed by all evidence but the picture's own tags of the namespace, without it or a near-duplicate having
been learned from; where that is not judged, as of a series that is used once or twice, what the classifier says. Every (picture,
series) that is predicted or tagged is counted:
- correct: predicted and tagged;
- missing: tagged, but not predicted. The tag may be wrong: the suggestion is to remove it;
- incorrect: predicted, but not tagged. The tag may be forgotten: the suggestion is to add it.
Counted separately are pictures without a prediction, since no series is likely enough, and series whose pictures are all
near-duplicates of each other.
`confidence` is the probability that the suggestion is right, the same number as in the report of mistagged images.

Reads:  series_classifier/ (the card and the out-of-fold predictions), datasets/advanced_joytag_complete_<UTC>.json,
        advanced_embeddings/*.pt (for the most similar pictures), review.sqlite3 (what the owner ignored)
Writes: reports/series_validation_report_<UTC>.json, and .svg beside it: the reliability diagram
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
from collections import Counter, defaultdict
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

import config
from tagcheck import arrays, data_folder, dataset, files, memory, script, tags
from tagcheck import findings as of_tags
from tagcheck.belief import Believed, believed
from tagcheck.data_folder import DataFolder
from tagcheck.dataset import Dataset, Record
from tagcheck.detectors import SERIES_VALIDATION
from tagcheck.embedding import store
from tagcheck.errors import BadFile, MissingInput
from tagcheck.findings import finding_id
from tagcheck.intervals import wilson
from tagcheck.learning import expected_calibration_error
from tagcheck.plural import plural
from tagcheck.refusals import Noes
from tagcheck.review import store as review_store
from tagcheck.script import run
from tagcheck.series import classifier_files, probabilities
from tagcheck.series.said import Said
from tagcheck.svg import drawing, part
from tagcheck.tag_columns import TagSets, rows_or_nothing
from tagcheck.tag_errors import look_alikes

MISSING, INCORRECT = "missing_predictions", "incorrect_predictions"
NEIGHBOURS = 3  # similar pictures shown as evidence
CONFUSIONS = 100  # pairs of similar series listed
CALIBRATION_BINS = 10
MOST_SURE = 0.995  # no confidence goes beyond: the model of how tags go wrong is itself only a model
NOT_LISTED = ("deleted", "implied", "ignored", "retired", "muted")  # why a disagreement is counted and not listed


class Judged(NamedTuple):
    """One picture with a prediction: `own` its tags today, `known` those of them that could be judged.

    `probabilities` are out of fold, of the series that are worth listing; `unknown` that it is of none of the owner's. Of pictures
    of its kind and of known series the share `forgotten` has no tag. `named` is a series that only the tagger knows.
    """

    record: Record
    own: frozenset[str]
    known: frozenset[str]
    predicted: frozenset[str]
    probabilities: dict[str, float]
    unknown: float
    forgotten: float
    named: str | None

    @property
    def abstained(self) -> str | None:
        """Why nothing is predicted; None where something is."""
        if self.predicted:
            return None
        return "unknown_series" if self.unknown >= max(self.probabilities.values(), default=0.0) else "unsure"

    @property
    def unsure(self) -> bool:
        """There is no prediction for this picture, not even "none of the owner's series"."""
        return self.abstained == "unsure"

    def probability(self, name: str) -> float:
        """The out-of-fold probability of a series; of one that was not listed, nothing (it was below all that were)."""
        return float(self.probabilities.get(name, 0.0))


class Age(NamedTuple):
    """How the predictions differ from the dataset of today."""

    days: float
    same: bool
    retagged: int
    gone: int
    without_prediction: int


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    made = script.parser(__doc__)
    script.add_dataset(made)
    script.add_memory(made)
    script.add_option(made, "--namespace", "whose classifier to validate", config.SERIES_NAMESPACE, metavar="NAME")
    return made.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    namespace = script.namespace_of(args)
    folder = script.data_folder(args)
    data = dataset.load(folder, args.dataset, args.max_embeddings)
    if reason := classifier_files.nothing(folder, namespace):
        return nothing_to_validate(folder, data, namespace, reason)
    card, said = predictions(folder, data, namespace)
    believes = believed(folder, data, config.INVISIBLE_NAMESPACES, script.memory_of(args))
    judged, age = match(data, card, said, namespace, believes)
    if not age.same:
        script.say(
            f"the predictions are {age.days:.1f} days old, and since then {plural(age.retagged, 'picture')} got other {namespace} tags, "
            f"{plural(age.gone, 'is', 'are')} gone and {plural(age.without_prediction, 'has', 'have')} no prediction; tags are taken as they are today "
            f"(to renew: {classifier_files.MADE_BY})"
        )
    noes = Noes.of(
        data.spellings, review_store.decisions(folder.review, data.pixels, data), review_store.muted(folder.review)
    )
    found, suppressed = findings(judged, card, believes, noes)
    explain(found, judged, folder, card)
    table, error = calibration(judged, card["noise"]["swapped_share"])
    summary = summarise(judged, found, suppressed, age) | {"calibration_error": error} | data.sampled(len(judged))
    summary["predictions"] |= {"weighed": card["weighed"]} if "weighed" in card else {}
    head = {"dataset": data.path.name, "namespace": namespace, "predictions_created": card["created"]}
    head |= {"settings": card["settings"], "summary": summary, "calibration": table, "confusion": confusion(judged)}
    path = data_folder.save(folder, SERIES_VALIDATION, head | {"per_series": per_series(judged, card)} | found)
    files.write_atomically(path.with_suffix(".svg"), lambda out: out.write(reliability_diagram(table).encode("utf-8")))
    print(
        f"{data.share(len(judged))}: {plural(summary['total_predictions'], 'prediction')}, {summary['correct_predictions']:,} as tagged "
        f"({summary['accuracy']:.1%}), {plural(summary['missing_predictions_count'], 'tag')} not predicted, "
        f"{summary['incorrect_predictions_count']:,} predicted and not tagged, "
        f"{summary['images_abstained']:,} pictures abstained: {path}"
    )
    return 0


def nothing_to_validate(folder: DataFolder, data: Dataset, namespace: str, reason: str) -> int:
    """An empty report, of a library from whose series nothing could be learned."""
    age = Age(0.0, True, 0, 0, len(data.records))
    summary = summarise([], {MISSING: [], INCORRECT: []}, Counter(), age) | {"calibration_error": None}
    head = {"dataset": data.path.name, "namespace": namespace, "nothing_to_learn": reason, "summary": summary}
    path = data_folder.save(folder, SERIES_VALIDATION, head | {"per_series": [], MISSING: [], INCORRECT: []})
    print(f"0 predictions, since there was nothing to learn from ({reason}): {path}")
    return 0


def predictions(folder: DataFolder, data: Dataset, namespace: str) -> tuple[dict[str, Any], Said]:
    """(the card, what the classifier says). Raises `BadFile` where it was trained on embeddings of another model."""
    card = classifier_files.load_card(folder, namespace)
    model = card["embedding"]["model"]
    if data.model and model and data.model != model:
        raise BadFile(
            f"the {namespace} classifier was trained on embeddings of {model}, {data.path} is of {data.model}: "
            f"run {classifier_files.MADE_BY} again"
        )
    return card, classifier_files.said(folder, card)


@memory.uncollected()
def match(
    data: Dataset, card: dict[str, Any], said: Said, namespace: str, believes: Believed
) -> tuple[list[Judged], Age]:
    """The dataset's pictures that have a prediction, sorted by hash, with the tags of today.

    Changed tags are tolerable, since a picture's own tags are not used for its prediction; predictions of
    other pictures altogether are not (`MissingInput`).
    """
    of_namespace = tags.InNamespaces(namespace)
    series, foreign = [row["series"] for row in card["series"]], card.get("foreign_names", [])
    names = [*dict.fromkeys([*series, *foreign, *of_namespace(believes.names)])]
    records = sorted({record.hash: record for record in data.usable()}.values(), key=lambda record: record.hash)
    hashes = arrays.as_bytes([record.hash for record in records])
    at, of = arrays.places(hashes, said.hashes), arrays.places(hashes, arrays.as_bytes(believes.hashes))
    chance, unknown = chances(said, at, believes, of, names, foreign)
    sure, then = probabilities.sure(chance), rows_or_nothing(said.tags, at)
    told, predicted = (TagSets(names, one.indices, one.indptr) for one in (chance, sure))
    tagged = TagSets(series, then.indices, then.indptr)
    # A series whose pictures are all near-duplicates cannot be missed.
    learned = {*series, *believes.names} - {row["series"] for row in card["series"] if not row["learned_out_of_fold"]}
    judged, retagged = list[Judged](), 0
    for row in np.flatnonzero((at >= 0) | (of >= 0)).tolist():
        own, listed = frozenset(of_namespace(records[row].written)), told.listed(row)
        retagged += bool(at[row] >= 0 and own != tagged[row])
        listed_chances = dict(zip(listed, chance.data[chance.indptr[row] : chance.indptr[row + 1]].tolist()))
        named = int(said.foreign[at[row]]) if at[row] >= 0 else -1
        numbers = float(unknown[row]), float(said.forgotten[at[row]]), foreign[named] if named >= 0 else None
        judged.append(Judged(records[row], own, own & learned, predicted[row], listed_chances, *numbers))
    if not judged:
        raise MissingInput(
            f"no picture of {data.path} has a {namespace} prediction: run {classifier_files.MADE_BY} first"
        )
    days = (data_folder.utc_now() - data_folder.moment(card["created"])).total_seconds() / 86400
    gone, without = len(said.hashes) - int((at >= 0).sum()), len(records) - len(judged)
    same = not (retagged or gone or without > card["pictures"]["without_embedding"])
    return judged, Age(max(0.0, days), same, retagged, gone, without)


def chances(
    said: Said, at: np.ndarray, believes: Believed, of: np.ndarray, names: list[str], foreign: list[str]
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """(how probably each of `names` (N,) belongs to each picture by all but its own tags of the namespace, csr (n, N), that none does (n,)).

    It is what is believed; where that could not be judged, as of a series that is used once or twice or that only the tagger knows,
    what the classifier says. `at` and `of` (n,) are the places of the pictures in both, -1 for none.
    """
    place, rows = {name: at for at, name in enumerate(names)}, np.flatnonzero(said.foreign >= 0)
    columns = np.array([place[name] for name in foreign], dtype=np.int64)[said.foreign[rows]]
    shape = len(said.hashes), len(names)
    named = sparse.csr_matrix((said.foreign_probability[rows], (rows, columns)), shape)
    known = sparse.csr_matrix((said.chance.data, said.chance.indices, said.chance.indptr), shape)
    told, belongs = rows_or_nothing(known.maximum(named).tocsr(), at), believes.belongs(names)
    judged = belongs.getnnz(axis=0) > 0
    row = np.repeat(np.arange(len(at)), np.diff(told.indptr))
    told.data[judged[told.indices] & (of[row] >= 0)] = 0.0
    chance = (told + rows_or_nothing(belongs, of)).tocsr()
    chance.eliminate_zeros()
    row = np.repeat(np.arange(len(at)), np.diff(chance.indptr))
    none = np.exp(np.bincount(row, np.log1p(-np.minimum(chance.data, 1 - 1e-9)), len(at)))
    unknown = np.maximum(said.unknown - said.foreign_probability, 0.0)[at]
    return chance, np.where((of >= 0) & judged.any(), none, unknown)


def findings(
    judged: list[Judged], card: dict[str, Any], believes: Believed, noes: Noes
) -> tuple[dict[str, list[dict[str, Any]]], Counter[str]]:
    """All disagreements between predictions and tags as findings, the surest first, and how many are not listed.

    How sure is what is believed of the tag everywhere (`tagcheck.belief`); where that could not be judged, as of a series that
    is used once or twice, it is what the classifier says (`_lacks`, `_wrong`).

    Not listed: what a no of the owner covers (`tagcheck.refusals`: deleted or ignored before), a tag that a parent adds
    (it goes with its child), a series that no picture has any more.
    """
    swapped = card["noise"]["swapped_share"]
    support = Counter(name for one in judged for name in one.own)
    total = max(1, sum(support.values()))
    found: dict[str, list[dict[str, Any]]] = {MISSING: [], INCORRECT: []}
    cut = Counter[str]()
    for one in judged:
        apart = (MISSING, one.known - one.predicted), (INCORRECT, one.predicted - one.own)
        if one.unsure or not (apart[0][1] or apart[1][1]):
            continue
        wrong = {name: _wrong(one, name, support[name] / total, swapped) for name in one.own}
        for kind, names in apart:
            adding = kind == INCORRECT
            for name in sorted(names):
                reason = noes.why_not(one.record, name, adding)
                if adding and not reason and not support[name] and one.named != name:
                    reason = "retired"
                if reason:
                    cut[reason] += 1
                    continue
                sure = believes(one.record.hash, name, of_tags.MISSING if adding else of_tags.INCORRECT)
                if sure is None:
                    sure = _lacks(one, name, max(wrong.values(), default=1.0)) if adding else wrong[name]
                found[kind].append(_entry(kind, one, name, sure))
    for kind, sign in ((MISSING, 1), (INCORRECT, -1)):
        found[kind].sort(key=lambda row: (-row["confidence"], sign * row["probability"], row["hash"], row["series"]))
    return found, cut


def _wrong(one: Judged, name: str, frequency: float, swapped: float) -> float:
    """Probability that a tag of this picture is wrong, by Bayes: of all tags the share `swapped` is, drawn by `frequency`.

    A series that the model could not know looks like an unknown one when it is right.
    """
    fits, instead = (one.probability(name), one.unknown) if name in one.known else (one.unknown, 0.0)
    written = probabilities.tagged_probability(np.array(fits), np.array(instead), np.array(frequency), swapped)
    return min(swapped * frequency / max(float(written), 1e-12), MOST_SURE)


def _lacks(one: Judged, name: str, wrong: float) -> float:
    """Probability that this picture lacks the series `name`; `wrong` that the tag it has is wrong.

    That it has none is evidence, too: pictures of unknown series never have one, of known ones only the share forgotten.
    """
    p, unknown, forgotten = one.probability(name), one.unknown, one.forgotten
    if one.own:
        return p * wrong
    if one.named == name:  # not a learned series: the missing tag is no evidence
        return p
    return min(p * forgotten / max(max(1.0 - unknown, p) * forgotten + unknown, 1e-12), MOST_SURE)


def _entry(kind: str, one: Judged, name: str, confidence: float) -> dict[str, Any]:
    """One finding, its evidence and reason still to be filled in by `explain`. What hardly fits keeps its digits."""
    return {
        "id": finding_id(kind, [one.record.hash], [name]),
        "hash": one.record.hash,
        "series": name,
        "confidence": round(confidence, 4),
        "action": review_store.REMOVE if kind == MISSING else review_store.ADD,
        "probability": float(f"{one.probability(name):.3g}"),
        "evidence": {"tagged": sorted(one.own), "predicted": sorted(one.predicted), "unknown": round(one.unknown, 4)},
        "why": "",
    }


def explain(
    found: dict[str, list[dict[str, Any]]], judged: list[Judged], folder: DataFolder, card: dict[str, Any]
) -> None:
    """Give every finding its most similar pictures and a sentence why."""
    wanted = defaultdict(set)
    for entry in chain(*found.values()):
        for name in {entry["series"], *entry["evidence"]["predicted"], *entry["evidence"]["tagged"]}:
            wanted[name].add(entry["hash"])
    nearest = similar_pictures(wanted, judged, folder, card)
    for kind, entries in found.items():
        for entry in entries:
            mine = nearest.get((entry["hash"], entry["series"]), [])
            entry["evidence"]["neighbours"] = [{"hash": hash, "cosine": round(cosine, 4)} for hash, cosine in mine]
            entry["why"] = _sentence(kind, entry, nearest)


def _sentence(kind: str, entry: dict[str, Any], nearest: dict[tuple[str, str], list[tuple[str, float]]]) -> str:
    """Why, in words: what the classifier says, which picture is the most alike, what the tags say."""

    def alike(name: str) -> str:
        found = nearest.get((entry["hash"], name))
        return f" (most similar picture: cosine {found[0][1]:.2f})" if found else ""

    name, tagged, predicted = entry["series"], entry["evidence"]["tagged"], entry["evidence"]["predicted"]
    likely = f"{entry['probability']:.1%}" if entry["probability"] >= 0.0005 else "less than 0.1%"
    if kind == INCORRECT:
        has = f"it is tagged {', '.join(tagged)}" if tagged else "it has no such tag"
        return (
            f"What was learned from your other pictures takes this one for {name} at {likely}{alike(name)}, and {has}."
        )
    instead = [other for other in predicted if other not in tagged]
    if instead:
        rather = f"takes it for {instead[0]}{alike(instead[0])}"
    elif predicted:
        rather = f"sees only {', '.join(predicted)} in it"
    else:
        rather = "takes it for none of your series"
    return (
        f"Tagged {name}{alike(name)}, but what was learned from your other pictures gives that {likely} and {rather}."
    )


def similar_pictures(
    wanted: dict[str, set[str]], judged: list[Judged], folder: DataFolder, card: dict[str, Any]
) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """(hash, series) -> the most similar other pictures with that series, [(hash, cosine)], the nearest first.

    Of a series of very many an even sample is looked through. Without embeddings there is none, and the findings stand on probabilities alone.
    """
    asked = set().union(*wanted.values())
    tagged = [one for one in judged if one.own and one.own & wanted.keys()]
    of_them = {one.record.hash for one in tagged} | asked
    needed = [one.record.hash for one in judged if one.record.hash in of_them]
    try:
        embedded = store.load(folder.embeddings, needed, model=card["embedding"]["model"])
    except MissingInput:
        script.say(f"no embeddings in {folder.embeddings}: the findings name no similar pictures")
        return {}
    space, place = look_alikes.Space.of(embedded.matrix), {hash: row for row, hash in enumerate(embedded.hashes)}
    members = defaultdict(list)
    for one in tagged:
        for name in one.own & wanted.keys() if one.record.hash in place else ():
            members[name].append(place[one.record.hash])
    out = {}
    for name in script.progress(sorted(wanted), what="similar pictures", unit="series"):
        hashes = sorted(wanted[name] & place.keys())
        rows = np.array([place[hash] for hash in hashes], dtype=np.int64)
        for hash, near in zip(hashes, look_alikes.closest(space, rows, np.array(members[name]), NEIGHBOURS)):
            out[hash, name] = [(embedded.hashes[row], min(cosine, 1.0)) for row, cosine in near]
    return out


def summarise(
    judged: list[Judged], found: dict[str, list[dict[str, Any]]], cut: Counter[str], age: Age
) -> dict[str, Any]:
    """The report's counts: `total_predictions` = correct + missing + incorrect, over pictures with a prediction."""
    spoken = [one for one in judged if not one.unsure]
    correct = sum(len(one.predicted & one.own) for one in spoken)
    missing = sum(len(one.known - one.predicted) for one in spoken)
    incorrect = sum(len(one.predicted - one.own) for one in spoken)
    total = correct + missing + incorrect
    said = Counter(one.abstained for one in judged)
    return {
        "total_predictions": total,
        "correct_predictions": correct,
        "accuracy": round(correct / total, 4) if total else 0.0,
        "missing_predictions_count": missing,
        "incorrect_predictions_count": incorrect,
        "images_abstained": said["unknown_series"] + said["unsure"],
        "images_abstained_unknown_series": said["unknown_series"],
        "images_abstained_unsure": said["unsure"],
        "images_judged": len(judged),
        "images_without_prediction": age.without_prediction,
        "images_tagged": sum(bool(one.own) for one in judged),
        "tags_on_abstained_images": sum(len(one.known) for one in judged if one.unsure),
        "tags_not_judged": sum(len(one.own - one.known) for one in judged),
        "incorrect_predictions_on_untagged_images": sum(len(one.predicted) for one in spoken if not one.own),
        "not_listed": {reason: cut[reason] for reason in NOT_LISTED},
        "listed": {kind: len(rows) for kind, rows in found.items()},
        "predictions": {
            "age_days": round(age.days, 2),
            "same_data": age.same,
            "images_retagged_since": age.retagged,
            "images_gone_since": age.gone,
        },
    }


def per_series(judged: list[Judged], card: dict[str, Any]) -> list[dict[str, Any]]:
    """Precision, recall and support of every series, with 95 % intervals (Wilson), the most frequent first.

    Of pictures that were judged. Recall is over the tagged ones, abstentions included, since to them nothing was said.
    """
    tagged, predicted, both, recalled, abstained, unjudged = [Counter[str]() for _ in range(6)]
    for one in judged:
        if not (one.own or one.predicted):
            continue  # as of most pictures
        tagged.update(one.known)
        unjudged.update(one.own - one.known)
        predicted.update(one.predicted)
        both.update(one.predicted & one.own)
        recalled.update(one.predicted & one.known)  # the tagger may name one that could not be judged
        if not one.predicted:
            abstained.update(one.known)
    described = {row["series"]: row for row in card["series"]}
    out = []
    for name in sorted(tagged | predicted | unjudged, key=lambda name: (-tagged[name] - unjudged[name], name)):
        right = both[name]
        row = {
            "series": name,
            "support": tagged[name],
            "predicted": predicted[name],
            "correct": right,
            "abstained": abstained[name],
            "precision": _share(right, predicted[name]),
            "precision_interval": _interval(right, predicted[name]),
            "recall": _share(recalled[name], tagged[name]),
            "recall_interval": _interval(recalled[name], tagged[name]),
            "not_judged": unjudged[name],
        }
        if name not in described:
            row["note"] = "new since the classifier was trained"
        elif not described[name]["learned_out_of_fold"]:
            row["note"] = "all its pictures are near-duplicates, or there is only one: it cannot be judged"
        out.append(row)
    return out


def calibration(judged: list[Judged], swapped: float) -> tuple[list[dict[str, Any]], float | None]:
    """How often the most probable series was tagged, by how often it should be; and the expected calibration error.

    Of pictures that have a tag. "Should": `probabilities.tagged_probability`, which allows for the share
    of tags that are wrong.
    """
    rows = [
        (one, *max(one.probabilities.items(), key=lambda pair: (pair[1], pair[0])))
        for one in judged
        if one.known and one.probabilities
    ]
    if not rows:
        return [], None
    support = Counter(name for one in judged for name in one.own)
    probability, unknown, share = (
        np.array(part, dtype=float)
        for part in zip(*((p, one.unknown, support[name] / max(1, support.total())) for one, name, p in rows))
    )
    right = np.array([name in one.own for one, name, _ in rows], dtype=float)
    expected = probabilities.tagged_probability(probability, unknown, share, swapped)
    place = np.minimum((expected * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    table = []
    for at in range(CALIBRATION_BINS):
        here = place == at
        count, hits = int(here.sum()), int(right[here].sum())
        table.append(
            {
                "from": at / CALIBRATION_BINS,
                "to": (at + 1) / CALIBRATION_BINS,
                "count": count,
                "mean_probability": round(float(expected[here].mean()), 4) if count else None,
                "share_right": _share(hits, count),
                "interval": _interval(hits, count),
            }
        )
    return table, round(expected_calibration_error(expected, right, CALIBRATION_BINS), 4)


def reliability_diagram(table: list[dict[str, Any]]) -> str:
    """The calibration table as an SVG: what was said across, what was tagged upward, with 95 % intervals and the diagonal."""
    marks = []
    for row in table:
        if row["count"]:
            x, y = 40 + 300 * row["mean_probability"], 320 - 300 * row["share_right"]
            low, high = (320 - 300 * edge for edge in row["interval"])
            says = f"{plural(row['count'], 'picture')}: said {row['mean_probability']:.0%}, tagged {row['share_right']:.0%}"
            marks.append(part("line", x1=x, y1=low, x2=x, y2=high, stroke="#888"))
            marks.append(part("circle", part("title", text=says), cx=x, cy=y, r=4, fill="#15c"))
    upward = {"x": 16, "y": 170, "text_anchor": "middle", "transform": "rotate(-90 16 170)"}
    parts = [
        part("rect", width=360, height=360, fill="#fff"),
        part("rect", x=40, y=20, width=300, height=300, fill="none", stroke="#444"),
        part("line", x1=40, y1=320, x2=340, y2=20, stroke="#bbb", stroke_dasharray=4),
        *marks,
        part("text", text="probability said (0 to 1)", x=190, y=350, text_anchor="middle"),
        part("text", text="share tagged (0 to 1)", **upward),
    ]
    return drawing(parts, 360, 360, width=540, height=540, font_family="sans-serif", font_size=12)


def confusion(judged: list[Judged]) -> list[dict[str, Any]]:
    """Which series are taken for which: [{"series", "predicted", "count", "share"}], the most frequent first.

    `share` is of the judged pictures tagged with the first.
    """
    taken, tagged = Counter[tuple[str, str]](), Counter[str]()
    for one in judged:
        if not one.known:
            continue
        tagged.update(one.known)
        taken.update((own, said) for own in one.known - one.predicted for said in one.predicted - one.own)
    return [
        {"series": own, "predicted": said, "count": count, "share": round(count / tagged[own], 4)}
        for (own, said), count in sorted(taken.items(), key=lambda pair: (-pair[1], pair[0]))[:CONFUSIONS]
    ]


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _interval(successes: int, trials: int) -> list[float]:
    return [round(edge, 4) for edge in wilson(successes, trials)]


if __name__ == "__main__":
    run(main)
