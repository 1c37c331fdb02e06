"""Which tags of which pictures are likely wrong: the whole method, from embeddings and tags to suggestions.

`examine` weighs the evidence (`tagcheck.tag_errors.evidence`) into probabilities (`tagcheck.tag_errors.error_model`) and learns which
tags exclude each other (`tagcheck.tag_errors.tag_rules`). `suggestions` turns what it says into single proposals,
each under one of four issues, with the numbers it rests on and a sentence. docs/method.md
explains the method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, cast

import numpy as np
from scipy import sparse

from tagcheck.cluster import Share, here
from tagcheck.findings import BEFORE_VERDICTS, INCORRECT, MISSING
from tagcheck.learning import Tagger, linear_probes
from tagcheck.memory import uncollected
from tagcheck.plural import plural
from tagcheck.similar import Pairs
from tagcheck.single_picture import SinglePicture
from tagcheck.tag_columns import TagSets, having
from tagcheck.tag_errors import distilled, error_model, evidence, joint_belief, tag_rules
from tagcheck.tag_errors.error_model import Cells, Learned, Verdict
from tagcheck.tag_errors.evidence import Evidence, FurtherTagger, Surroundings, Told
from tagcheck.tag_errors.joint_belief import Habits
from tagcheck.tag_errors.relations import Parents, Relations, learn_relations
from tagcheck.tag_errors.tag_rules import Exclusion, Rules
from tagcheck.tags import in_namespace
from tagcheck.tags import namespace as tag_namespace

MISSING_TAGS, INCORRECT_TAGS = "missing_tags", "incorrect_tags"
INCONSISTENT_TAGS, CONTRADICTORY_TAGS = "inconsistent_tags", "contradictory_tags"
ISSUES = (MISSING_TAGS, INCORRECT_TAGS, INCONSISTENT_TAGS, CONTRADICTORY_TAGS)
FOLDS, SEED = 5, 0
DRAWS = 3  # of the folds at most: what a regression says depends on which pictures it saw, the more the fewer there are
DRAWN = 20_000_000  # pictures times tags (and 1,000 for what does not depend on their number) of all draws together
MEMORY = 4 * 2**30
FEWEST_PICTURES = 40  # with fewer, a fold teaches nothing
FEWEST_USES = 3  # of a tag, to learn it
LIKELY = 0.5  # from here on a tag and what it brought are one finding
FLOOR = 0.01  # suggestions below this confidence are never listed
BARE: dict[str, Any] = {}  # of a suggestion without evidence
SAID = "said"  # in the evidence of a cell that breaks a rule: the words that its sentence begins with
SIDES = ("neighbours", "neighbours_with", "twins", "twins_with")
AT_ONCE = 20_000  # suggestions of which the embeddings are looked at together: those of more take hundreds of MB
CLOSE = 10  # nearest pictures that are counted for the reader
SELDOM = 0.2  # meetings of two tags of a namespace, in units of chance, up to which two on a picture are called a contradiction
TRUSTED = 0.8  # a learned exclusion is believed from this confidence on
RULE_CONFIDENCE = 0.9  # of what follows from a declared rule, which the picture does not change


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One tag of one picture that should be added (`kind` "missing") or removed ("incorrect").

    `row` is the picture's row in what was examined, `issue` one of `ISSUES`, `confidence` the probability, 0 to 1, that the
    suggestion is right. `evidence` are the numbers that it rests on, by name, `why` is a sentence of them; both are empty until
    `tagcheck.tag_errors.telling` makes them.
    """

    row: int
    tag: str
    kind: str
    issue: str
    confidence: float
    evidence: dict[str, Any] = field(default_factory=dict)
    why: str = ""


COLUMNS = ("row", "name", "adds", "issue", "confidence", "before")


@dataclass(frozen=True, eq=False)
class Suggestions(Sequence[Suggestion]):
    """k suggestions in columns, sorted by picture and tag: of a million pictures there are seven million, which as objects take a GB.

    `row` (k,) int32 and `confidence` (k,) float64 as in `Suggestion`; `name` (k,) int32 the tag's place among the sorted `names`; `adds`
    (k,) bool whether the kind is "missing"; `issue` (k,) int8 the place in `ISSUES`; `told` the evidence and the sentence, by place, of
    those that have them; `before` (k,) float64 the confidence before the owner's decisions were heeded.
    """

    names: Sequence[str]
    row: np.ndarray
    name: np.ndarray
    adds: np.ndarray
    issue: np.ndarray
    confidence: np.ndarray
    before: np.ndarray
    told: Mapping[int, tuple[dict[str, Any], str]]

    @classmethod
    def of(cls, found: Sequence[Suggestion]) -> Suggestions:
        """The same suggestions, sorted."""
        names = sorted({one.tag for one in found})
        place = {tag: at for at, tag in enumerate(names)}
        found = sorted(found, key=lambda one: (one.row, one.tag))
        sure = np.array([one.confidence for one in found], dtype=np.float64)
        return cls(
            names,
            np.array([one.row for one in found], dtype=np.int32),
            np.array([place[one.tag] for one in found], dtype=np.int32),
            np.array([one.kind == MISSING for one in found], dtype=bool),
            np.array([ISSUES.index(one.issue) for one in found], dtype=np.int8),
            sure,
            sure,
            {at: (one.evidence, one.why) for at, one in enumerate(found) if one.evidence or one.why},
        )

    @classmethod
    def joined(cls, parts: Sequence[Suggestions]) -> Suggestions:
        """All suggestions of the parts, sorted."""
        spoken = {id(one.names): one.names for one in parts}
        names = sorted({tag for some in spoken.values() for tag in some})
        place = {tag: at for at, tag in enumerate(names)}
        now = {which: np.array([place[tag] for tag in some], dtype=np.int32) for which, some in spoken.items()}
        held = {column: np.concatenate([getattr(one, column) for one in parts]) for column in COLUMNS}
        held["name"] = np.concatenate([now[id(one.names)][one.name] for one in parts])
        order = np.lexsort((held["name"], held["row"]))
        at, told = np.argsort(order), dict[int, tuple[dict[str, Any], str]]()
        for one in parts:
            told |= {int(at[place]): mine for place, mine in one.told.items()}
            at = at[len(one) :]
        return cls(names=names, **{column: some[order] for column, some in held.items()}, told=told)

    def where(self, which: np.ndarray) -> Suggestions:
        """Those of which `which` (k,) is true."""
        return self.at(np.flatnonzero(which))

    def at(self, places: np.ndarray) -> Suggestions:
        """Those at the `places`, in their order."""
        told = {at: self.told[place] for at, place in enumerate(places.tolist()) if place in self.told}
        return replace(self, **{column: getattr(self, column)[places] for column in COLUMNS}, told=told)

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        proof, why = self.told.get(place, (BARE, ""))
        sure, before = float(self.confidence[place]), float(self.before[place])
        if sure != before:
            proof = proof | {BEFORE_VERDICTS: round(before, 4)}
        kind, issue = MISSING if self.adds[place] else INCORRECT, ISSUES[self.issue[place]]
        return Suggestion(int(self.row[place]), self.names[self.name[place]], kind, issue, sure, proof, why)


@dataclass(frozen=True)
class Examined:
    """What `examine` found out about n pictures and T learnable tags.

    `cells` (pictures and tags that were weighed) and `verdict` (how likely each is wrong) as in `tagcheck.tag_errors.error_model`;
    `tags` (T,) names; `given` (n, T) sparse 0/1 as in `Asked`; `around` the nearest pictures and the copies of each; `frequency`
    (T,) the share of pictures, 0 to 1, that have each tag. `relations` and `habits` say which tags bear on each other and how
    often they meet; `exclusions` are learned ones. `matrix` (n, d) and `tagger` are the first tagger's, which is called `name`,
    `further` those beside it. `single` is what one embedding says by itself; `gathered` all that this rests on.
    """

    tags: list[str]
    given: sparse.csr_matrix
    around: Surroundings
    cells: Cells
    verdict: Verdict
    frequency: np.ndarray
    relations: Relations
    habits: Habits
    exclusions: list[Exclusion]
    tagger: Tagger | None
    matrix: np.ndarray
    single: SinglePicture
    further: Sequence[FurtherTagger] = ()
    name: str = "the tagger"
    gathered: Gathered | None = None

    @property
    def single_valued(self) -> dict[str, np.ndarray]:
        """The namespaces of which a picture hardly ever has two tags, with their columns."""
        spaces = enumerate(self.relations.spaces)
        return {
            name: np.flatnonzero(self.relations.space == place)
            for place, name in spaces
            if self.habits.meeting[name] <= SELDOM
        }

    def places_of(self, found: Suggestions) -> np.ndarray:
        """Where the cell of each suggestion (k,) stands among all cells, -1 for those without one."""
        column = {tag: place for place, tag in enumerate(self.tags)}
        columns = np.array([column.get(tag, -1) for tag in found.names], dtype=np.int64)[found.name]
        return np.where(columns < 0, -1, Places(self).find(found.row, columns))

    def only(self, found: Suggestions) -> Examined:
        """The same without the cells of which nothing is suggested: these, and what is said of each, take most of the memory."""
        places = np.unique(self.places_of(found))
        places = places[places >= 0]
        each = {name: getattr(self.verdict, name)[places] for name in ("belongs", "miss", "wrong", "error")}
        return replace(self, cells=self.cells.some(places), verdict=replace(self.verdict, **each))


@dataclass(frozen=True)
class Asked:
    """What is known of a library of n pictures and the T tags that are asked about, before the evidence is weighed.

    `matrix` (n, d) float32 embeddings; `given` (n, T) sparse 0/1 float32, which pictures have which of the `names` (T); each
    tag with `FEWEST_USES` uses or more, n at least `FEWEST_PICTURES`. `tagger` is the last layer of the tagger called `name`,
    where it has one. `written` (n, T) is `given` as it was before what the owner accepted was applied (None: the same). `parents` maps a tag
    to those that the library adds with it, `told` is what classifiers say out of fold, `copies` are the near-duplicates (None: they are looked for), `further` are other taggers' views.
    """

    matrix: np.ndarray
    given: sparse.csr_matrix
    names: Sequence[str]
    tagger: Tagger | None = None
    written: sparse.csr_matrix | None = None
    parents: Parents | None = None
    told: Sequence[Told] = ()
    copies: Pairs | None = None
    further: Sequence[FurtherTagger] = ()
    name: str = "the tagger"


def examine(
    asked: Asked,
    declared: Rules = Rules(),
    memory: int = MEMORY,
    share: Share = here,
    numbers: np.ndarray | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Examined:
    """Weigh the evidence for every tag of every picture; all but `asked` as for `gather`."""
    made = gather(asked, declared, memory, share, numbers, progress)
    progress(1.0)
    return concluded(made, asked)


def concluded(
    made: Gathered, asked: Asked, single: SinglePicture | None = None, apart: list[Exclusion] | None = None
) -> Examined:
    """What the gathered evidence comes to; `single` and `apart` (the tags that exclude each other) where they are known already."""
    found, cells = made.found, made.cells
    verdict, habits = made.believe(asked.written)
    apart = _exclusions(cells, verdict, found.given.shape) if apart is None else apart
    single = distilled.learn(found, cells, verdict.error) if single is None else single
    told_of = list(asked.names), found.given, found.around, cells, verdict, found.frequency, made.related, habits, apart
    return Examined(
        *told_of, found.tagger, found.matrix, single, [one.further for one in found.heard], asked.name, made
    )


@dataclass(frozen=True)
class Gathered:
    """The evidence of a library, before it is asked which tags are wrong.

    `found` is the evidence, learned without the picture that it speaks of: by the fold of each, `folds` (n,) int64. `cells` are the
    pictures and tags that it is weighed for, `related` the tags that bear on each other, `spaces` (T,) int64 the namespace of each
    tag as a number. What an earlier run `learned` of the cells is not learned again. Where the features of the
    cells are the mean of several draws of the folds, those `of_one_draw` are what is learned from.
    """

    found: Evidence
    cells: Cells
    related: Relations
    folds: np.ndarray
    spaces: np.ndarray
    learned: Learned | None = None
    of_one_draw: np.ndarray | None = None

    def believe(self, written: sparse.csr_matrix | None = None) -> tuple[Verdict, Habits]:
        """How likely each cell is wrong, and what was learned of tags that bear on each other, by what was `written` (n, T) before the
        owner's decisions were applied (None: the same).

        What was accepted is what the evidence is sure of. After it was applied nothing that is sure would look forgotten any more.
        """
        frequency, learned = self.found.frequency, self.learned
        cells = self.cells if written is None else self.cells.as_written(written, self.found.given)
        if learned is None:
            by_hand = ~self.related.mostly_brought(self.found.given if written is None else written)
            taught = cells if self.of_one_draw is None else replace(cells, features=self.of_one_draw)
            learned = error_model.learn(taught, frequency, self.spaces, by_hand)
        verdict = error_model.judged(learned, cells, frequency)
        verdict, habits = joint_belief.settle(cells, verdict, self.related, frequency)
        if written is not None:
            error = np.where(cells.given != self.cells.given, 1 - verdict.error, verdict.error)
            verdict = replace(verdict, error=error)
        return joint_belief.of_one_mind(self.cells, verdict, self.found.around.twins), habits


def gather(
    asked: Asked,
    declared: Rules = Rules(),
    memory: int = MEMORY,
    share: Share = here,
    numbers: np.ndarray | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Gathered:
    """The evidence of a library, the same for the same input; of a small one the mean of several draws of the folds.

    Of the rules that are `declared` the namespaces count here that have one tag a picture. About `memory` bytes are used beside
    the embeddings and the sums of the regressions: with less, tags that nobody wrote and that are unlikely are looked at, but not held. `share` does the
    sums by fold and the evidence by blocks of pictures (`tagcheck.cluster`), with the same result. By `numbers` (n,) uint64 drawn from
    each picture the folds stay the same when others come. `progress` is told the share of the work that is done, 0 to 1.
    """
    around = evidence.surroundings(asked.matrix, copies=asked.copies)
    progress(0.2)
    labels, count = around.labels, len(np.unique(around.labels))
    if count == 1:  # all are copies of each other: no fold is without them
        labels, count = np.arange(len(labels)), FOLDS
    if numbers is None or min(count, len(np.unique(numbers))) < FOLDS:
        folds = linear_probes.grouped_folds(labels, min(FOLDS, count), SEED)
    else:
        folds = linear_probes.numbered_folds(labels, numbers, FOLDS)
    written = asked.given if asked.written is None else asked.written
    related = learn_relations(written, asked.names, asked.parents, declared.namespaces)
    n, tags = asked.given.shape
    draws = int(np.clip(DRAWN // (n * (tags + 1000)), 1, DRAWS))
    each = 0.6 / draws

    def learned(folds: np.ndarray, done: float) -> Evidence:
        of = asked.matrix, asked.given, around, folds, related, asked.tagger, asked.told
        return evidence.gather(*of, lambda more: progress(done + each * more), asked.further, share)

    found = learned(folds, 0.2)
    cells = error_model.collect(found, np.random.default_rng(SEED), memory, share=share)
    spaces = np.unique([tag_namespace(tag) for tag in asked.names], return_inverse=True)[1]
    made = Gathered(found, cells, related, folds, spaces)
    if draws == 1:
        return made
    mean = cells.features / draws
    for draw in range(1, draws):
        others = linear_probes.grouped_folds(labels, min(FOLDS, count), SEED + draw)
        mean += learned(others, 0.2 + draw * each).at(cells.row, cells.column) / draws
    return replace(made, cells=replace(cells, features=mean), of_one_draw=cells.features)


def _exclusions(cells: Cells, verdict: Verdict, shape: tuple[int, int]) -> list[Exclusion]:
    """Which of the T tags exclude each other, the surest first, by the written tags, each as far as it is right; `shape` (n, T)."""
    written = cells.given
    values, places = 1 - verdict.error[written], (cells.row[written], cells.column[written])
    return tag_rules.learn_exclusions(sparse.csr_matrix((values, places), shape=shape))


@uncollected()
def suggestions(seen: Examined, tag_sets: Sequence[frozenset[str]], declared: Rules = Rules()) -> Suggestions:
    """Every suggestion with a confidence (0 to 1) of at least `FLOOR`, sorted by picture and tag; each (picture, tag) once.

    `tag_sets` (n,) are all visible tags of the pictures of `seen`, rare ones included. The issue is the one that says most:
    contradictory where a rule is broken, inconsistent where near-duplicates or nearly all close pictures disagree, else missing
    or incorrect. Most come without their evidence and a sentence, which `tagcheck.tag_errors.telling` makes of their cells.
    """
    error, broken, apart = _contradictions(seen, tag_sets, declared)
    places = np.flatnonzero((error >= FLOOR) & (seen.cells.weight == 1))
    if apart:
        column = {tag: at for at, tag in enumerate(seen.tags)}
        taken = [row * len(seen.tags) + column[tag] for row, tag in apart if tag in column]
        cells = seen.cells.row[places].astype(np.int64) * len(seen.tags) + seen.cells.column[places]
        places = places[~np.isin(cells, taken)]
    parts = [_of_cells(seen, places[some], error, broken) for some in evidence.blocks(len(places), AT_ONCE)]
    others = ({(one.row, one.tag): one for one in _rare(seen, tag_sets)} | apart).values()
    found = Suggestions.joined([*parts, Suggestions.of([one for one in others if one.confidence >= FLOOR])])
    return _with_consequences(found, seen)


def _with_consequences(found: Suggestions, seen: Examined) -> Suggestions:
    """The same, where a picture is to lose a tag and others that came with it: the evidence of the first then names these as `brings`,
    theirs names it as `follows_from`. Only removals from a confidence of `LIKELY` on are taken together.
    """
    brings: dict[str, set[str]] = {}
    for child, parent in zip(seen.relations.child.tolist(), seen.relations.parent.tolist()):
        brings.setdefault(seen.tags[child], set()).add(seen.tags[parent])
    removed: dict[int, dict[str, int]] = {}
    for place in np.flatnonzero(~found.adds & (found.confidence >= LIKELY)).tolist():
        removed.setdefault(int(found.row[place]), {})[found.names[found.name[place]]] = place
    told = dict(found.told)
    for beside in removed.values():
        for tag, place in beside.items() if len(beside) > 1 else ():
            with_it = sorted(brings.get(tag, set()) & beside.keys())
            roots = sorted(root for root in beside if tag in brings.get(root, ()))
            also = ({"brings": with_it} if with_it else {}) | ({"follows_from": roots[0]} if roots else {})
            if also:
                proof, why = told.get(place, (BARE, ""))
                told[place] = proof | also, why
    return replace(found, told=told)


def rule_suggestions(tag_sets: Sequence[frozenset[str]], declared: Rules) -> list[Suggestion]:
    """What declared rules alone say about pictures that could not be looked at, sorted by picture and tag; `row` counts `tag_sets`.

    Of two tags that exclude each other neither is more suspect, so both get a confidence of 0.5.
    """
    out: dict[tuple[int, str], Suggestion] = {}
    for row, one, other in exclusions_broken(tag_sets, declared):
        said = f"'{one}' and '{other}' exclude each other (declared rule); without the picture neither is more suspect."
        for tag, against in ((one, other), (other, one)):
            proof = {"rule": "declared exclusion", "against": against}
            out.setdefault((row, tag), Suggestion(row, tag, INCORRECT, CONTRADICTORY_TAGS, 0.5, proof, said))
    for row, tag, follow in implications_broken(tag_sets, declared):
        proof = {"rule": "implication", "from": tag}
        why = f"'{tag}' implies '{follow}' (declared rule)."
        out.setdefault((row, follow), Suggestion(row, follow, MISSING, CONTRADICTORY_TAGS, RULE_CONFIDENCE, proof, why))
    return [out[key] for key in sorted(out)]


def exclusions_broken(tag_sets: Sequence[frozenset[str]], declared: Rules) -> Iterator[tuple[int, str, str]]:
    """(row, tag, tag) wherever a picture has two tags that a declared rule says exclude each other, the first before the second."""
    sets = TagSets.of(tag_sets)
    inside = {tag for name in declared.namespaces for tag in in_namespace(sets.names, name)}
    for row in sets.rows_with(inside | declared.excludes.keys()).tolist():
        mine = sets[row]
        pairs = {
            (tag, other) for tag in mine for other in declared.excludes.get(tag, frozenset()) & mine if tag < other
        }
        for name in declared.namespaces:  # which may say of a pair what another rule has said
            pairs.update(combinations(in_namespace(mine, name), 2))
        yield from ((row, one, other) for one, other in sorted(pairs))


def implications_broken(tag_sets: Sequence[frozenset[str]], declared: Rules) -> Iterator[tuple[int, str, str]]:
    """(row, tag, what follows) wherever a declared implication is not kept."""
    sets = TagSets.of(tag_sets)
    for row in sets.rows_with(declared.implies.keys()).tolist():
        mine = sets[row]
        for tag in sorted(mine & declared.implies.keys()):
            yield from ((row, tag, follow) for follow in sorted(declared.implies[tag] - mine))


@dataclass(frozen=True)
class _Broken:
    """A rule that a written tag breaks: the tag `against` it on the same picture, the kind of `rule`, and both as part of a sentence."""

    against: str
    rule: str
    said: str


def _contradictions(
    seen: Examined, tag_sets: Sequence[frozenset[str]], declared: Rules
) -> tuple[np.ndarray, dict[int, _Broken], dict[tuple[int, str], Suggestion]]:
    """(the error of each cell (m,), 0 to 1, with declared rules taken into account; the broken rule of each place among the cells whose
    tag is the likelier wrong one of two; suggestions of tags that are too rare to be a cell, or that follow from others, by row and tag:
    the surest where several rules say so).
    """
    error = seen.verdict.error.copy()
    broken: dict[int, _Broken] = {}
    apart: dict[tuple[int, str], Suggestion] = {}
    at = {tag: column for column, tag in enumerate(seen.tags)}
    place = Places(seen)
    for row, first, second, (rule, words) in _learned_broken(seen):
        a, b = place[row, first], place[row, second]
        worse, better = (a, b) if error[a] >= error[b] else (b, a)
        broken.setdefault(worse, _Broken(seen.tags[int(seen.cells.column[better])], rule, words))
    for row, one, other in exclusions_broken(tag_sets, declared):
        said = f"'{one}' and '{other}' exclude each other (declared rule)"
        if one not in at or other not in at:
            for tag, against in ((one, other), (other, one)):
                if tag not in at:
                    proof = {"rule": "declared exclusion", "against": against}
                    one_sided = Suggestion(row, tag, INCORRECT, CONTRADICTORY_TAGS, 0.5, proof, said + ".")
                    apart.setdefault((row, tag), one_sided)
            continue
        a, b = place[row, at[one]], place[row, at[other]]
        # They cannot both be right: what is possible is shared out by how wrong each looks by itself.
        either = max(1 - (1 - error[a]) * (1 - error[b]), 1e-9)
        error[a], error[b] = error[a] / either, error[b] / either
        worse, better = (a, b) if error[a] >= error[b] else (b, a)
        broken[worse] = _Broken(seen.tags[int(seen.cells.column[better])], "declared exclusion", said)
    for row, tag, follow in implications_broken(tag_sets, declared):
        sure = 1 - error[place[row, at[tag]]] if tag in at else RULE_CONFIDENCE
        cell = place.get(row, at[follow]) if follow in at else None
        if cell is not None:
            sure = max(float(error[cell]), float(sure))
        proof = {"rule": "implication", "from": tag}
        why = f"'{tag}' implies '{follow}' (declared rule), and '{tag}' looks right with {_percent(sure)}."
        if (row, follow) not in apart or apart[row, follow].confidence < sure:
            apart[row, follow] = Suggestion(row, follow, MISSING, CONTRADICTORY_TAGS, float(sure), proof, why)
    return error, broken, apart


class Places:
    """Where the cell of a (row, column) stands among all cells. KeyError for one that was not looked at."""

    def __init__(self, seen: Examined) -> None:
        self._keys = seen.cells.row.astype(np.int64) * len(seen.tags) + seen.cells.column
        self._tags = len(seen.tags)

    def find(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The places (k,) of the cells `rows` and `columns` (k,), -1 for those that were not looked at."""
        keys = rows.astype(np.int64) * self._tags + columns
        places = np.searchsorted(self._keys, keys)
        there = np.append(self._keys, -1)[places] == keys
        return np.where(there, places, -1)

    def get(self, row: int, column: int) -> int | None:
        """The place, or None for a cell that was not looked at."""
        key = row * self._tags + column
        place = int(np.searchsorted(self._keys, key))
        return place if place < len(self._keys) and self._keys[place] == key else None

    def __getitem__(self, cell: tuple[int, int]) -> int:
        place = self.get(*cell)
        if place is None:
            raise KeyError(cell)
        return place


def _learned_broken(seen: Examined) -> Iterator[tuple[int, int, int, tuple[str, str]]]:
    """(row, column, column, (kind of rule, the same in words)) wherever two written tags exclude each other by what the library shows."""
    columns = seen.given.tocsc()
    columns.sort_indices()
    for name, members in sorted(seen.single_valued.items()):
        said = ("single-valued namespace", f"pictures of this library seldom have two tags of '{name}:'")
        mine = seen.given[:, members]
        one, other = sparse.triu(mine.T @ mine, 1).tocsr().nonzero()
        for a, b in zip(members[one].tolist(), members[other].tolist()):
            yield from ((row, a, b, said) for row in _together(columns, a, b))
    pairs = np.array([(pair.one, pair.other) for pair in seen.exclusions], dtype=np.int64).reshape(-1, 2)
    met = tag_rules.meetings_of(seen.given, *pairs.T)
    for pair, meet in zip(seen.exclusions, met.tolist()):
        space = {seen.relations.space[pair.one], seen.relations.space[pair.other]}
        done = len(space) == 1 and min(space) >= 0 and seen.habits.meeting[seen.relations.spaces[min(space)]] <= SELDOM
        if pair.confidence >= TRUSTED and not done and meet:
            one, other = seen.tags[pair.one], seen.tags[pair.other]
            chance = f"by chance they would meet {plural(round(pair.by_chance), 'time')}"
            words = f"'{one}' and '{other}' exclude each other in this library ({chance})"
            said = ("learned exclusion", words)
            yield from ((row, pair.one, pair.other, said) for row in _together(columns, pair.one, pair.other))


def _together(columns: sparse.csc_matrix, one: int, other: int) -> list[int]:
    """The rows that have both columns; the indices of `columns` are sorted."""
    mine, theirs = (columns.indices[columns.indptr[tag] : columns.indptr[tag + 1]] for tag in (one, other))
    return cast("list[int]", np.intersect1d(mine, theirs, assume_unique=True).tolist())


def sides_of(seen: Examined, places: np.ndarray) -> np.ndarray:
    """By the names of `SIDES`, (k, 4), for the cells at `places` (k,): how many of the `CLOSE` nearest pictures are no copies, how many
    of these have the tag, how many copies there are, and how many of these have it.
    """
    rows, columns = seen.cells.row[places].astype(np.int64), seen.cells.column[places].astype(np.int64)
    around = seen.around
    close = around.indices[rows][:, :CLOSE]
    no_copy = around.labels[close] != around.labels[rows][:, None]
    has = having(seen.given, close, columns)
    twins = np.diff(around.twins.indptr)[rows]
    share = seen.cells.features[places, evidence.NAMES.index("twin_share")]
    with_it = np.rint(share.astype(np.float64) * twins).astype(np.int64)
    return np.column_stack([no_copy.sum(axis=1), (has & no_copy).sum(axis=1), twins, with_it])


def _of_cells(seen: Examined, places: np.ndarray, error: np.ndarray, broken: dict[int, _Broken]) -> Suggestions:
    """The suggestions for the cells at `places` (k,), by the `error` (m,) of all cells; told is the rule that one breaks."""
    written = seen.cells.given[places]
    against = written & np.isin(places, [*broken])
    differs = _disagrees(written, sides_of(seen, places))
    issue = np.where(against, 3, np.where(differs, 2, written))  # their places in `ISSUES`
    rules = [(at, broken[places[at]]) for at in np.flatnonzero(against).tolist()]
    told = {at: ({"rule": rule.rule, "against": rule.against, SAID: rule.said}, "") for at, rule in rules}
    row, column = (one[places].astype(np.int32) for one in (seen.cells.row, seen.cells.column))
    sure = error[places].astype(np.float64)
    return Suggestions(seen.tags, row, column, ~written, issue.astype(np.int8), sure, sure, told)


def _disagrees(written: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Whether most near-duplicates, or nearly all close pictures, disagree with what is `written` (k,); `sides` (k, 4)."""
    near, near_with, twins, having = sides.T
    by_twins = np.where(written, 2 * having < twins, 2 * having > twins)
    return np.asarray(np.where(twins > 0, by_twins, ~written & (near >= 5) & (near_with >= 0.8 * near)))


def _percent(share: float) -> str:
    """`97 %`; the ends never round to certainty."""
    if share < 0.01:
        return "under 1 %"
    return "over 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def _rare(seen: Examined, tag_sets: Sequence[frozenset[str]]) -> list[Suggestion]:
    """Suggestions for tags that are too rare to learn, where near-duplicates disagree about them.

    Their confidence is how often such a disagreement is an error among the tags that could be learned, .5 where these are few.
    """
    at, cells = set(seen.tags), seen.cells
    share = cells.features[:, evidence.NAMES.index("twin_share")]
    having = share >= 0.5
    alone = cells.features[:, evidence.NAMES.index("twins_without")] > 0
    forgotten, added = ~cells.given & having, cells.given & alone
    missing = float(seen.verdict.error[forgotten].mean()) if forgotten.sum() >= 20 else 0.5
    incorrect = float(seen.verdict.error[added].mean()) if added.sum() >= 20 else 0.5
    out = []
    rare, twins = TagSets.of(tag_sets).without(at), seen.around.twins
    has = (rare.counts > 0).astype(np.float32)
    for row in np.flatnonzero((np.diff(twins.indptr) > 0) & ((has > 0) | (twins @ has > 0))).tolist():
        mine, others = rare[row], [rare[other] for other in twins.indices[twins.indptr[row] : twins.indptr[row + 1]]]
        for tag in sorted(frozenset().union(*others, mine)):
            with_it = sum(tag in other for other in others)
            proof = {"twins": len(others), "twins_with": with_it}
            have = "has" if with_it == 1 else "have"
            said = f"{with_it} of {len(others)} near-duplicates {have} it, and it is too rare to tell more."
            if tag in mine and not with_it:
                out.append(Suggestion(row, tag, INCORRECT, INCONSISTENT_TAGS, incorrect, proof, said))
            elif tag not in mine and 2 * with_it >= len(others):
                out.append(Suggestion(row, tag, MISSING, INCONSISTENT_TAGS, missing, proof, said))
    return out
