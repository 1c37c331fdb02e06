"""What is believed of every tag of every picture of a library: loaded, weighed once, and kept for whoever asks.

The mistagged report, the series report and the report of near-duplicates are three views of one belief. Whichever runs
first weighs it; the others read it back (`belief.npz` in the data folder) as long as nothing that it rests on has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from tagcheck import arrays, changed, data_folder, script, single_picture, tags
from tagcheck.belief import kept_evidence
from tagcheck.cluster import Share, here
from tagcheck.data_folder import DataFolder
from tagcheck.dataset import Dataset, Record
from tagcheck.duplicates import kept_pairs, measuring
from tagcheck.embedding import Embeddings, store
from tagcheck.errors import BadFile, MissingInput
from tagcheck.files import listed, remove
from tagcheck.findings import INCORRECT, MISSING
from tagcheck.learning import Tagger
from tagcheck.plural import plural
from tagcheck.refusals import Noes
from tagcheck.review import store as review_store
from tagcheck.series import classifier_files
from tagcheck.series.probabilities import LISTED_FROM
from tagcheck.tag_columns import TagSets, rows_or_nothing, tag_columns, values_at
from tagcheck.tag_errors import Examined, Rules, owner_feedback, renewal, suggestions, tag_rules, tagger_vocabulary
from tagcheck.tag_errors.error_model import Verdict
from tagcheck.tag_errors.evidence import FurtherTagger, Surroundings, Told
from tagcheck.tag_errors.owner_feedback import Answer
from tagcheck.tag_errors.suggestions import ISSUES, Asked, Suggestions

FILE, VERSION = "belief.npz", 4
FORM = dict.fromkeys(("hashes", "names", "version", "rests_on"), arrays.TEXTS)
FORM |= {"cells": "i1", "confidence": "f1", "near": "i2"}
BELONGS = "belongs"
KINDS = (MISSING, INCORRECT, BELONGS)
FEW = "there are few"
NOBODY = np.empty((0, 0), np.int32)
Decided = Mapping[tuple[str, str, str], str]  # as `review.store.decisions` gives it


@dataclass(frozen=True)
class Believed:
    """The probability that a tag is missing or wrong, for each picture and tag that could be judged; and, for tags of namespaces of
    few values, that it belongs, by all evidence but whether it is written there.

    `hashes`, `names` what could be judged; `cells` sorted numbers (see `_number`) with a `confidence` each; of what is
    not listed, less than `suggestions.FLOOR` is believed, or `LISTED_FROM`. `near` (pictures, k) the places in `hashes` of the
    pictures most like each, near-duplicates among them.
    """

    hashes: list[str]
    names: list[str]
    cells: np.ndarray
    confidence: np.ndarray
    near: np.ndarray

    @cached_property
    def _places(self) -> tuple[dict[str, int], dict[str, int]]:
        return {one: row for row, one in enumerate(self.hashes)}, {one: column for column, one in enumerate(self.names)}

    def __call__(self, hash: str, tag: str, kind: str) -> float | None:
        """0 to 1 that `tag` is "missing" from or "incorrect" on the picture; None where that could not be judged."""
        rows, columns = self._places
        if hash not in rows or tag not in columns:
            return None
        number = _number(rows[hash], columns[tag], len(self.names), KINDS.index(kind))
        place = int(np.searchsorted(self.cells, number))
        found = place < len(self.cells) and self.cells[place] == number
        return float(self.confidence[place]) if found else 0.0

    def belongs(self, names: Sequence[str]) -> sparse.csr_matrix:
        """How probably each of some tags belongs to each picture, csr (pictures, names) float32."""
        row, rest = np.divmod(self.cells, len(self.names) * len(KINDS) or 1)
        column, kind = np.divmod(rest, len(KINDS))
        place = {name: at for at, name in enumerate(names)}
        of_name = np.array([place.get(name, -1) for name in self.names], dtype=np.int64)
        here = np.flatnonzero(kind == KINDS.index(BELONGS))
        here = here[of_name[column[here]] >= 0]
        shape = len(self.hashes), len(names)
        return sparse.csr_matrix((self.confidence[here], (row[here], of_name[column[here]])), shape, np.float32)


@dataclass(frozen=True)
class Weighed:
    """A library weighed: its pictures, what was found out about them (None: too few), and every suggestion."""

    pictures: Pictures
    seen: Examined | None
    found: Suggestions
    declared: Rules
    noes: Noes
    work: Work


@dataclass(frozen=True)
class Work:
    """How many of the pictures were weighed `anew`: all of them `why`, or those that have changed `since` a run in full. Tags that are
    used often enough only since then, `new_tags` in all, are not judged before the next such run.
    """

    anew: int
    pictures: int
    why: str = FEW
    since: str = ""
    new_tags: int = 0

    def __str__(self) -> str:
        if self.since:
            rest = "the rest rests on what was learned then"
            if self.new_tags:
                rest += f"; {plural(self.new_tags, 'tag that is', 'tags that are')} new since then will be judged by a run with --anew"
            return f"{self.anew:,} of {self.pictures:,} pictures were weighed anew, since they or their copies have changed since {self.since}; {rest}"
        return f"all of the {self.pictures:,} pictures were weighed anew: {self.why}"


def weigh(
    folder: DataFolder,
    data: Dataset,
    invisible: Collection[str],
    memory: int = suggestions.MEMORY,
    share: Share = here,
    anew: bool = False,
) -> Weighed:
    """Weigh every tag of every picture in about `memory` bytes beside the embeddings, and keep what is believed for `believed`."""
    declared = tag_rules.load(folder.root)
    pictures = load_pictures(folder, data, invisible)
    decided = review_store.decisions(folder.review, data.pixels, data)
    noes = Noes.of(data.spellings, decided, review_store.muted(folder.review))
    seen, work = examine(folder, data, pictures, declared, decided, memory, share, anew)
    if work.why != FEW:
        pictures.notes.append(str(work))
    found, verdict = suggest(pictures, seen, declared), None if seen is None else seen.verdict
    found = heed(found, review_store.answers(folder.review, data), pictures.notes, verdict)
    rests_on = {"version": [str(VERSION)], "rests_on": [_rests_on(folder, data, invisible)]}
    arrays.save(folder.root / FILE, rests_on | vars(_believed(pictures, seen, found)))
    _keep_single(folder, pictures, seen, declared)
    return Weighed(pictures, seen, found, declared, noes, work)


def believed(
    folder: DataFolder, data: Dataset, invisible: Collection[str], memory: int = suggestions.MEMORY
) -> Believed:
    """What is believed of the library's tags: as kept, where nothing has changed since, else weighed now."""
    kept = _kept(folder, data, invisible)
    if kept is not None:
        return kept
    try:
        made = weigh(folder, data, invisible, memory)
    except MissingInput:  # no picture or no embedding: nothing can be judged
        return Believed([], [], np.empty(0, np.int64), np.empty(0, np.float32), NOBODY)
    return _believed(made.pictures, made.seen, made.found)


def _believed(pictures: Pictures, seen: Examined | None, found: Suggestions) -> Believed:
    n = 0 if seen is None else len(pictures.matrix)
    names = [] if seen is None else seen.tags
    place = {tag: at for at, tag in enumerate(names)}
    column = np.array([place.get(tag, -1) for tag in found.names], dtype=np.int64)[found.name]
    judged = (found.row < n) & (column >= 0)
    cells = _number(found.row.astype(np.int64), column, len(names), (~found.adds).astype(np.int64))[judged]
    sure, near = found.confidence[judged].astype(np.float32), NOBODY
    if seen is not None:
        all, belongs, near = seen.cells, seen.verdict.belongs, _nearest(seen.around)
        told = (seen.relations.space[all.column] >= 0) & (all.weight == 1) & (all.given | (belongs >= LISTED_FROM))
        row, column = (one[told].astype(np.int64) for one in (all.row, all.column))
        cells = np.append(cells, _number(row, column, len(names), KINDS.index(BELONGS)))
        sure = np.append(sure, belongs[told].astype(np.float32))
    order = np.argsort(cells, kind="stable")
    return Believed([record.hash for record in pictures.records[:n]], list(names), cells[order], sure[order], near)


def _nearest(around: Surroundings) -> np.ndarray:
    """The nearest pictures of each (n, k) int32; itself where there are fewer."""
    own = np.arange(len(around.indices), dtype=np.int32)[:, None]
    return np.where(around.cosine > -1, around.indices, own)


def _number(row: Any, column: Any, names: int, kind: Any) -> Any:
    """One number for a picture, one of `names` tags and the place in `KINDS`; each an int, or arrays (k,) int64."""
    return (row * names + column) * len(KINDS) + kind


def _keep_single(folder: DataFolder, pictures: Pictures, seen: Examined | None, declared: Rules) -> None:
    """Keep what answers for pictures that come later; what an earlier run kept goes where nothing was learned."""
    if seen is None:
        remove(folder.root / data_folder.SINGLE_PICTURE)
        return
    never = np.array([declared.never_suggested(tag) for tag in seen.tags], dtype=bool)
    kept = single_picture.Kept(seen.single, seen.tags, pictures.model or "", never)
    single_picture.save(folder.root, kept, [record.hash for record in pictures.records[: len(pictures.matrix)]])


def _kept(folder: DataFolder, data: Dataset, invisible: Collection[str]) -> Believed | None:
    """What was kept, if it still holds; None for no file, an older one, one of other inputs or a damaged one."""
    held = arrays.load(folder.root / FILE, FORM)
    if held is None or held["version"] != [str(VERSION)] or held["rests_on"] != [_rests_on(folder, data, invisible)]:
        return None
    hashes, names = ([one for one in held[name] if one] for name in ("hashes", "names"))
    near = held["near"]
    if len(near) != len(hashes) or (near.size and not 0 <= near.min() <= near.max() < len(near)):
        return None
    return Believed(hashes, names, held["cells"], held["confidence"], near)


def _rests_on(folder: DataFolder, data: Dataset, invisible: Collection[str]) -> str:
    """A fingerprint of all that the belief rests on: dataset, embeddings, decisions, the owner's own files and settings."""
    with open(data.path, "rb") as file:
        made = hashlib.file_digest(file, "sha256")
    made.update(f"{data.most} {sorted(invisible)}\n".encode())  # a sample is weighed by itself
    for path in (
        *sorted(folder.embeddings.rglob("*")),
        *listed(folder.classifier, "*.json"),
        *(folder.root / name for name in changed.OWN_FILES),
    ):
        if path.is_file() and path.name != kept_pairs.FILE:  # which follows from the others
            about = path.stat()
            made.update(f"{path.name} {about.st_size} {about.st_mtime_ns}\n".encode())
    made.update(repr(sorted(review_store.decisions(folder.review, data.pixels, data).items())).encode())
    made.update(repr(sorted(review_store.answers(folder.review, data))).encode())
    return made.hexdigest()


@dataclass(frozen=True)
class Pictures:
    """The readable pictures, those with an embedding first: `matrix` row i belongs to `records[i]`.

    `visible` their tags without those of the namespaces `hidden` and without pieces of sentences; `phrases` are tags that may hold
    others (`tags.phrases`); `notes` what could not be done and why.
    """

    records: list[Record]
    visible: Sequence[frozenset[str]]
    matrix: np.ndarray
    model: str | None
    notes: list[str]
    hidden: frozenset[str] = frozenset()
    phrases: frozenset[str] = frozenset()


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
            f"No embeddings found: none of the pictures of {data.path} has an embedding in {folder.embeddings}: run advanced_joytag_processing.py"
        )
    place = {hash: row for row, hash in enumerate(loaded.hashes)}
    records = sorted(usable, key=lambda record: place.get(record.hash, len(place)))
    notes = []
    if len(records) > len(place):
        notes.append(
            f"{plural(len(records) - len(place), 'picture has', 'pictures have')} no embedding: only declared rules were checked on them"
        )
    visible, hidden = TagSets.of(record.written for record in records), frozenset(invisible)
    visible = visible.without({tag for tag in visible.names if tags.namespace(tag) in hidden})
    uses = visible.uses()
    visible = visible.without(tags.of_prose(uses))
    return Pictures(records, visible, loaded.matrix, loaded.model, notes, hidden, tags.phrases(uses))


def examine(
    folder: DataFolder,
    data: Dataset,
    pictures: Pictures,
    declared: Rules,
    decided: Decided,
    memory: int,
    share: Share = here,
    anew: bool = False,
) -> tuple[Examined | None, Work]:
    """What the embeddings say about the tags, or None (with a note) where there is too little to learn from, and how much work that was.

    Of a large library what was learned is kept, and the next run weighs what has changed; all of it where `anew` is asked for.
    """
    n = len(pictures.matrix)
    uses = TagSets.of(pictures.visible[:n]).uses()
    learnable = sorted(tag for tag, count in uses.items() if count >= suggestions.FEWEST_USES)
    if len(uses) > len(learnable):
        pictures.notes.append(
            f"{plural(len(uses) - len(learnable), 'tag is', 'tags are')} used fewer than {suggestions.FEWEST_USES} times: "
            "only near-duplicates and rules were asked about them"
        )
    if n < suggestions.FEWEST_PICTURES or not learnable:
        pictures.notes.append(
            f"{plural(n, 'picture')} and {plural(len(learnable), 'tag')} are too few to learn from: only declared rules were checked"
        )
        return None, Work(0, n)
    if n < kept_evidence.FEWEST or data.most is not None:
        seen = _in_full(_asked(folder, data, pictures, learnable, decided), declared, memory, share)
        return replace(seen, gathered=None), Work(n, n)
    names = arrays.as_bytes([record.hash for record in pictures.records[:n]]), arrays.row_digests(pictures.matrix)
    rests = _void_without(folder, data, pictures)
    held = "it was asked for" if anew else kept_evidence.load(folder.root, rests)
    if isinstance(held, kept_evidence.Kept):
        notes = list(pictures.notes)
        try:
            asked = _asked(folder, data, pictures, held.tags, decided)
            return _again(asked, held, names, memory, share, len(set(learnable) - set(held.tags)))
        except renewal.TooMuch as error:
            held = str(error)
        pictures.notes[:] = notes
    seen = _in_full(_asked(folder, data, pictures, learnable, decided), declared, memory, share, names[1])
    kept_evidence.keep(folder.root, rests, *names, seen)
    return replace(seen, gathered=None), Work(n, n, held)


def _void_without(folder: DataFolder, data: Dataset, pictures: Pictures) -> str:
    """A digest of all but pictures and tags that the evidence kept of a library rests on."""
    heads = (one.embeddings / store.TAG_HEAD for one in (folder, *folder.further()))
    own = (folder.root / name for name in changed.OWN_FILES)
    declared = data.parents, data.siblings, [one.named for one in folder.further()]
    about = pictures.model, pictures.hidden, *declared
    return changed.method(("tag_errors", "learning", "similar"), [*heads, *own], *about)


def _asked(folder: DataFolder, data: Dataset, pictures: Pictures, names: list[str], decided: Decided) -> Asked:
    """What is known of the library and of the tags `names`."""
    column, n = {tag: place for place, tag in enumerate(names)}, len(pictures.matrix)
    records = pictures.records[:n]
    hashes = [record.hash for record in records]
    given = tag_columns(pictures.visible[:n], names)
    return Asked(
        pictures.matrix,
        given,
        names,
        load_tagger(folder, data, pictures.model, pictures.matrix.shape[1], pictures.notes, column),
        written_before(given, records, column, decided, data.parents),
        data.parents,
        told(folder, pictures, column),
        measuring.known_copies(folder.embeddings, Embeddings(hashes, pictures.matrix, pictures.model, None)),
        further_taggers(folder, data, pictures, column),
        data.tagger_name,
    )


def _in_full(asked: Asked, declared: Rules, memory: int, share: Share, numbers: np.ndarray | None = None) -> Examined:
    with script.shown_share("weighing the evidence") as progress:
        return suggestions.examine(asked, declared, memory, share, numbers, progress)


def _again(
    asked: Asked,
    held: kept_evidence.Kept,
    names: tuple[np.ndarray, np.ndarray],
    memory: int,
    share: Share,
    new_tags: int,
) -> tuple[Examined, Work]:
    """The library examined by what is kept of it, which lacks `new_tags`. Raises `renewal.TooMuch`."""
    known, (before, fresh) = held.known(asked.matrix, asked.further), held.then(*names, asked.further)
    now = renewal.Now(before, fresh, names[1], asked.matrix, asked.given, asked.copies, asked.told, asked.further)
    single, exclusions = known.single, known.exclusions
    gathered, rows = renewal.renewed(known, now, memory, share)
    del known  # its cells take as much as those of now
    seen = suggestions.concluded(gathered, asked, single, exclusions)
    return replace(seen, gathered=None), Work(len(rows), len(before), "", held.made, new_tags)


def further_taggers(
    folder: DataFolder, data: Dataset, pictures: Pictures, column: dict[str, int]
) -> list[FurtherTagger]:
    """What further taggers see in the pictures; one whose files are damaged or that has seen too few is not used (with a note)."""
    hashes = [record.hash for record in pictures.records[: len(pictures.matrix)]]
    row = {hash: place for place, hash in enumerate(hashes)}
    out: list[FurtherTagger] = []
    for one in folder.further():
        notes: list[str] = []
        try:
            found = store.load(one.embeddings, hashes)
            tagger = load_tagger(one, data, found.model, found.matrix.shape[1], notes, column)
        except (BadFile, MissingInput) as error:
            pictures.notes.append(f"{one.named} was not used: {error}")
            continue
        if found.model == pictures.model or len(found.hashes) < suggestions.FEWEST_PICTURES:
            why = (
                "it is the first tagger again"
                if found.model == pictures.model
                else f"it has seen {plural(len(found.hashes), 'picture')}"
            )
            pictures.notes.append(f"{one.named} was not used: {why}")
            continue
        places = [row[hash] for hash in found.hashes]
        matrix = np.zeros((len(hashes), found.matrix.shape[1]), dtype=np.float32)
        there = np.zeros(len(hashes), dtype=bool)
        matrix[places], there[places] = found.matrix, True
        pictures.notes.extend([f"{one.named} was asked about {len(places):,} of the {len(hashes):,} pictures", *notes])
        out.append(FurtherTagger(str(one.named), matrix, there, tagger))
    return out


def written_before(
    given: sparse.csr_matrix,
    records: Sequence[Record],
    column: Mapping[str, int],
    decided: Decided,
    parents: Mapping[str, Collection[str]],
) -> sparse.csr_matrix | None:
    """The tags `given` (n, T) as they were before what the owner accepted was applied, with the `parents` that came or went with it;
    None where nothing was.
    """
    row = {record.hash: place for place, record in enumerate(records)}
    accepted: dict[int, list[tuple[str, bool]]] = {}
    for (hash, tag, action), state in decided.items():
        if state == "accepted" and hash in row:
            accepted.setdefault(row[hash], []).append((tag, action == "remove"))
    cells = [
        (place, column[tag], there)
        for place, decisions in accepted.items()
        for tag, there in _then(records[place], decisions, parents).items()
        if tag in column
    ]
    if not cells:
        return None
    rows, columns, there = (np.array(one) for one in zip(*cells))
    change = (there.astype(given.dtype) - (values_at(given, rows, columns) > 0)).astype(given.dtype)
    if not change.any():
        return None
    before: sparse.csr_matrix = (given + sparse.csr_matrix((change, (rows, columns)), shape=given.shape)).tocsr()
    before.eliminate_zeros()
    return before


def _then(
    record: Record, accepted: Iterable[tuple[str, bool]], parents: Mapping[str, Collection[str]]
) -> dict[str, bool]:
    """Of each tag that came or went with what was `accepted` of a picture and is applied, whether it was there before."""
    tags = record.tags
    then = {tag: there for tag, there in accepted if (tag in tags) != there}
    implied = record.implied_tags
    others = (tags - implied - then.keys()) | {tag for tag, there in then.items() if there}
    with_others = {parent for tag in others for parent in parents.get(tag, ())}
    gone = {parent for tag in then.keys() - others for parent in parents.get(tag, ())} & implied
    came = dict.fromkeys(gone - with_others, False)
    went = {parent: True for tag in then.keys() & others for parent in parents.get(tag, ())}
    return came | went | then


def load_tagger(
    folder: DataFolder, data: Dataset, model: str | None, width: int, notes: list[str], column: dict[str, int]
) -> Tagger | None:
    """The last layer of the tagger whose embeddings have `width` numbers, for those of its tags that the library uses, or None (with a
    note).
    """
    head = store.load_tag_head(folder.embeddings, model, width)
    place_of_head = "/".join(filter(None, ("advanced_embeddings", folder.named, store.TAG_HEAD)))
    if head is None:
        notes.append(f"no {place_of_head}: the tagger was not used, only the library's own tags")
        return None
    own = tagger_vocabulary.load(folder.root, data.siblings)
    known = tagger_vocabulary.with_categories(own, head.tags, head.namespaces)
    meant = tagger_vocabulary.owners_tags(head.tags, column, known)
    place: dict[int, int] = {}
    for slot, tag in enumerate(meant):
        if tag is not None:
            place.setdefault(column[tag], slot)
    notes.append(f"{len(place)} of the {len(column)} tags learned are known to {folder.named or 'the tagger'}")
    if not place:
        return None
    columns = np.array(sorted(place))
    slots = [place[one] for one in columns.tolist()]
    return Tagger(columns, head.weight[slots], head.prior_bias()[slots])


def told(folder: DataFolder, pictures: Pictures, column: dict[str, int]) -> list[Told]:
    """What the classifiers of the data folder say of the pictures, out of fold; a damaged one is not used (with a note)."""
    hashes, out = arrays.as_bytes([record.hash for record in pictures.records[: len(pictures.matrix)]]), []
    for path in listed(folder.classifier, "*_classifier.json"):
        try:
            namespace = data_folder.load(path, classifier_files.CARD).get("namespace", "")
            card = classifier_files.load_card(folder, namespace)
            said = classifier_files.said(folder, card)
        except (BadFile, MissingInput) as error:
            pictures.notes.append(f"a classifier was not used: {error}")
            continue
        if card["embedding"]["model"] != pictures.model:
            pictures.notes.append(f"the {namespace} classifier was not used: it was trained on other embeddings")
            continue
        known = sorted((column[one["series"]], at) for at, one in enumerate(card["series"]) if one["series"] in column)
        columns, of_series = np.array(known, dtype=np.int64).reshape(-1, 2).T
        at = arrays.places(hashes, said.hashes)
        chance = rows_or_nothing(said.chance, at)[:, of_series].sorted_indices()
        out.append(Told(columns, chance, at >= 0))
    return out


def suggest(pictures: Pictures, seen: Examined | None, declared: Rules) -> Suggestions:
    """All suggestions: from the embeddings where there are enough, from declared rules on the other pictures. Most come without their
    evidence (`tagcheck.tag_errors.telling`).
    """
    n = len(pictures.matrix) if seen is not None else 0
    used = TagSets.of(pictures.visible).uses().keys()
    implies = {tag: follow & used for tag, follow in declared.implies.items()}  # what the library uses at all
    declared = replace(declared, implies=implies)
    rest = Suggestions.of(suggestions.rule_suggestions(pictures.visible[n:], declared))
    if seen is None:
        return rest
    found = suggestions.suggestions(seen, pictures.visible[:n], declared)
    return Suggestions.joined([found, replace(rest, row=rest.row + n)]) if len(rest) else found


EFFECT_AT = (0.5, 0.9)  # the confidences at which the effect of decisions is told


def heed(
    found: Suggestions,
    answers: Iterable[tuple[str, str, str, float, bool]],
    notes: list[str],
    verdict: Verdict | None = None,
) -> Suggestions:
    """The suggestions with the confidence that the owner's decisions so far teach (`tagcheck.tag_errors.owner_feedback`), and a note of
    them; the rates of the `verdict` say how far they may move together.
    """
    kinds = {"add": MISSING, "remove": INCORRECT}
    rates = {} if verdict is None else {MISSING: verdict.forgotten, INCORRECT: verdict.wrongly}
    learned = owner_feedback.learn(
        [
            Answer(kinds[action], tag, confidence, right)
            for action, issue, tag, confidence, right in answers
            if issue in ISSUES
        ],
        {kind: float(np.log(rate.likely / rate.least)) for kind, rate in rates.items()},
    )
    if not learned.tags:
        return found
    for kind in sorted({kind for kind, _ in learned.tags}):
        right, of = learned.counts[kind]
        notes.append(f"the confidence of {kind} tags takes into account {of:,} of your decisions ({right:,} agreed)")
    after = found.confidence.copy()
    of_tag = found.name.astype(np.int64) * len(KINDS) + ~found.adds
    order = np.argsort(of_tag, kind="stable")
    for alike in np.split(order, np.flatnonzero(np.diff(of_tag[order])) + 1) if len(order) else ():
        one = found[alike[0]]
        after[alike] = learned(one.kind, one.tag, after[alike])
    said = (f"{(some >= low).sum():,}" for low in EFFECT_AT for some in (found.confidence, after))
    notes.append(
        f"by your decisions the suggestions of {EFFECT_AT[0]} or more went from {next(said)} to {next(said)}, those of {EFFECT_AT[1]} or more from {next(said)} to {next(said)}"
    )
    return replace(found, confidence=after)
