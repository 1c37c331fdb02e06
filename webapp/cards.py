"""A finding as its card shows it: what is suggested in rows, the pictures with their tags, the tags of copies side by side."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tagcheck import tags
from tagcheck.best_copy import ALL_ALIKE
from tagcheck.plural import plural
from tagcheck.review import Ask, Filter, Key, Review
from tagcheck.review.exporting import percent
from tagcheck.review.queries import Finding, Suggestion, best_of, measured_share, picture
from tagcheck.review.store import ADD, CHANGED, PAIR, REMOVE, UNDECIDED
from webapp import words

PAIR_CHOICES = {
    "left": "Copy left's tags to right",
    "right": "Copy right's tags to left",
    "both": "Copy both ways",
    "neither": "Copies, but leave their tags as they are",
}
LETTERS = "ABCDEF"  # of the copies that are shown large
DENSE_FROM = 5  # rows from which on they are drawn in one line each, to be on the screen together
FOLDED = 200  # other copies that are shown small


@dataclass(frozen=True)
class Row:
    """One question of a card: a tag, the swap of one for another, a wrong tag with what it brought, or that pictures are copies.

    `value` is what its form sends for all its suggestions together, `asked` whether it waits for an answer and stands in the
    open, `ticked` whether the card's buttons act on it at first. `sure` is how often the owner accepted such suggestions where that
    was measured, with where that comes from and what the detectors say in `estimate`; else what these say.
    """

    suggestions: tuple[Suggestion, ...]
    value: str
    number: int
    asked: bool
    ticked: bool
    sure: str
    estimate: str
    figures: list[str]
    facts: list[tuple[str, str]]
    pictures: list[tuple[str, list[str]]]
    then: str | None
    on: str = ""

    @property
    def first(self) -> Suggestion:
        """The suggestion that stands for the row."""
        return self.suggestions[0]

    @property
    def kind(self) -> str:
        """ "pair", "swap", "root" or the action of its one tag."""
        actions = {one.key.action for one in self.suggestions}
        if PAIR in actions:
            return PAIR
        if len(actions) == 2:
            return "swap"
        return "root" if len({one.key.tag for one in self.suggestions}) > 1 else self.first.key.action

    @property
    def words(self) -> str:
        return in_words(self.kind, [one.key for one in self.suggestions])

    @property
    def names(self) -> str:
        """What the page's script knows its suggestions by, a line each."""
        return "\n".join(f"{one.key.hash} {one.key.action} {one.key.tag}" for one in self.suggestions)


@dataclass(frozen=True)
class Tag:
    """One tag of a picture: `mark` is what a suggestion would do ("add", "remove", ""), `note` what else is known."""

    name: str
    mark: str = ""
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """One tag of one copy: whether it `has` it, what is `suggested` ("add", "remove" or ""), what was decided (`queue`), and what
    a form sends to change it. `refused`: the owner has said no to it there, so it is not to be added.
    """

    has: bool
    refused: bool
    suggested: str
    queue: str
    value: str


@dataclass(frozen=True)
class Difference:
    """One tag that not all copies have, with a cell a copy. `own` tags (file names, sources) belong to one copy."""

    tag: str
    cells: tuple[Cell, ...]
    own: bool

    @property
    def suspected(self) -> bool:
        return any(cell.suggested for cell in self.cells)


@dataclass(frozen=True)
class Picture:
    """One picture of a card: its hash, the dataset's record, its tags by namespace, and what it is called among copies."""

    hash: str
    record: dict[str, Any]
    groups: list[tuple[str, list[Tag]]]
    name: str = ""

    @property
    def facts(self) -> str:
        record = self.record
        pixels = f"{record['width']} × {record['height']}" if record.get("width") and record.get("height") else ""
        moving, kind = "animated" if record.get("duration") else "", (record.get("mime") or "").partition("/")[2]
        return ", ".join(filter(None, [pixels, moving, kind, words.size(record.get("size"))]))

    @property
    def path(self) -> str:
        """Where the file is; "" where the library does not say."""
        return str(self.record.get("file_path") or "")

    @property
    def file(self) -> str:
        return re.split(r"[/\\]", self.path)[-1]

    @property
    def pages(self) -> list[str]:
        """The library's pages or folders that it is in."""
        given = self.record.get("pages")
        return [" / ".join(map(str, page)) if isinstance(page, list) else str(page) for page in given or ()]

    @property
    def alt(self) -> str:
        """What stands for the picture where it is not seen."""
        shown = [tag.name for _, group in self.groups for tag in group if tag.mark != ADD]
        return f"Picture {self.hash[:8]}, " + (f"tagged {', '.join(shown[:12])}" if shown else "without tags")


@dataclass(frozen=True)
class Card:
    """Everything that the card's template shows. `rows` are those the view asks about, `folded` the others on this picture.
    `best` is the hash of the copy to keep ("" where it shows no copies), and why. Of a large group `pictures` are the best copy
    and those that disagree with it, `rest` the hashes of the others.
    """

    finding: Finding
    pictures: list[Picture]
    rows: list[Row]
    folded: list[Row]
    differences: list[Difference]
    best: tuple[str, str]
    rest: list[str]

    @property
    def rest_asked(self) -> int:
        """On how many of the rest something is suggested."""
        return len({one.key.hash for one in self.finding.suggestions if one.key.action != PAIR} & set(self.rest))

    @property
    def all_alike(self) -> bool:
        return not self.best[0] or self.best[1] == ALL_ALIKE

    @property
    def named(self) -> list[Row]:
        """The rows that the heading is about: those that wait for an answer, and in a view of what was answered, that view's own."""
        asked, ticked = [row for row in self.rows if row.asked], [row for row in self.rows if row.ticked]
        return (asked if any(row.ticked for row in asked) else ticked or asked) or self.rows

    @property
    def lead(self) -> Row | None:
        """The row that the heading names, with its number."""
        return next(iter(self.named), None)

    @property
    def heading(self) -> str:
        """What is asked, in a few words."""
        asked = self.named
        if self.finding.is_pair and any(row.kind == PAIR for row in asked):
            what = "Copies of one picture?" if len(self.pictures) > 2 else "Two copies of one picture?"
            return what + (f" And {plural(len(asked) - 1, 'tag')}" if len(asked) > 1 else "")
        if not asked:
            return "Nothing is asked here"
        first = asked[0].words
        return (first[0].upper() + first[1:]) + (f", and {len(asked) - 1} more" if len(asked) > 1 else "")


def make(review: Review, view: Filter, finding: Finding, invisible: Sequence[str]) -> Card:
    """The card of one finding in a view. `invisible` namespaces are those of tags that belong to one copy of a picture."""
    best = best_of(review, finding.members) if finding.is_pair else ("", "")
    hashes = list(finding.members)
    if len(hashes) > 2:
        hashes = _most_telling(review, finding, best[0])
    hashes, rest = hashes[: len(LETTERS)], hashes[len(LETTERS) :]
    names = ("Left", "Right") if len(hashes) == 2 else LETTERS
    pictures = [_picture(review, hash, finding, names[place]) for place, hash in enumerate(hashes)]
    differences = _differences(review, finding, pictures, invisible) if finding.is_pair else []
    rows, folded = _rows(review, view, finding, {one.hash: one.name for one in pictures})
    return Card(finding, pictures, rows, folded, differences, best, rest)


def _most_telling(review: Review, finding: Finding, best: str) -> list[str]:
    """The copies, the best first, then those on which something is suggested, then those whose tags are other than the best's."""
    asked = {one.key.hash for one in finding.suggestions if one.key.action != PAIR}
    if len(finding.members) <= len(LETTERS):
        return sorted(finding.members, key=lambda hash: hash != best)
    has = {hash: tags_of(review, hash) for hash in finding.members}
    return sorted(finding.members, key=lambda hash: (hash != best, hash not in asked, has[hash] == has.get(best)))


def in_words(kind: str, keys: Sequence[Key]) -> str:
    """Suggestions that are answered together, in words.

    >>> in_words("swap", [Key("ab", "series:x", "remove"), Key("ab", "series:y", "add")])
    'series: x → y'
    >>> in_words("root", [Key("ab", "character:x", "remove"), Key("ab", "series:y", "remove")])
    'remove character:x and with it series:y'
    """
    if kind == PAIR:
        return "these are the same pixels" if keys[0].tag == "pixel_duplicate" else "these are copies of one picture"
    if kind == "swap":
        gone, come = (next(key.tag for key in keys if key.action == action) for action in (REMOVE, ADD))
        space, bare = tags.split(come)
        if space and tags.namespace(gone) == space:
            return f"{space}: {tags.split(gone)[1]} → {bare}"
        return f"{gone} → {come}"
    first, *rest = dict.fromkeys(key.tag for key in keys)
    return f"{keys[0].action} {first}" + (f" and with it {', '.join(rest)}" if rest else "")


def encode(ask: Ask) -> str:
    """What a form sends for a suggestion: the version that was seen, and the suggestion.

    >>> encode(Ask(Key("ab", "series:x.y", "add"), 3))
    '3.add.ab..series:x.y'
    """
    return f"{ask.version}.{ask.key.action}.{ask.key.hash}.{ask.key.other}.{ask.key.tag}"


def decode(text: str) -> Ask:
    """The other way. Raises ValueError.

    >>> decode('3.add.ab..series:x.y').key.tag
    'series:x.y'
    """
    version, action, hash, other, tag = text.split(".", 4)
    if action not in (ADD, REMOVE, PAIR) or not tag or not hash:
        raise ValueError(f"not a suggestion: {text!r}")
    return Ask(Key(hash, tag, action, other), int(version))


def pair_asks(review: Review, finding: Finding, choice: str, invisible: Sequence[str]) -> list[Ask]:
    """The tags to add for one of `PAIR_CHOICES`; nothing for "neither"."""
    ways = {"left": [(finding.hash, finding.other)], "right": [(finding.other, finding.hash)]}
    ways["both"] = ways["left"] + ways["right"]
    refused, known = refused_tags(finding), {one.key: one for one in finding.suggestions}
    asked = []
    for giver, taker in ways.get(choice, ()):
        missing = tags_of(review, giver) - tags_of(review, taker) - refused[taker]
        keys = [Key(taker, tag, ADD) for tag in sorted(missing) if tags.namespace(tag) not in invisible]
        asked += [known[key].ask() if key in known else Ask(key, None, finding.issue) for key in keys]
    return asked


def tags_of(review: Review, hash: str) -> set[str]:
    """The tags of a picture by the dataset, with what was applied since; none where it does not know the picture."""
    return set((picture(review, hash) or {}).get("existing_all_tags") or ())


def refused_tags(finding: Finding) -> dict[str, set[str]]:
    """The tags that the owner has said no to on each copy, as the report says."""
    refused: dict[str, set[str]] = {hash: set() for hash in finding.members}
    for one in finding.suggestions:
        if one.key.action == PAIR:
            refused[one.key.hash] |= set(one.evidence.get("refused_in_1") or ())
            refused[one.key.other] |= set(one.evidence.get("refused_in_2") or ())
    return refused


def gathered(finding: Finding) -> list[tuple[Suggestion, ...]]:
    """A finding's suggestions as asked: swaps, a wrong tag with those it brought, a tag on several copies, pairs."""
    rest = [one for one in finding.suggestions if one.key.action != PAIR]
    pairs: dict[str, list[Suggestion]] = {}  # by queue: what was answered already is not asked with the rest
    for one in finding.suggestions:
        if one.key.action == PAIR:
            pairs.setdefault(one.state, []).append(one)
    made, taken = [*map(tuple, pairs.values())], set[Key]()
    for one in rest:
        if one.key not in taken:
            same = (one.key.tag, one.key.action, one.state)  # on every copy that it is suggested for
            everywhere = [other for other in rest if (other.key.tag, other.key.action, other.state) == same]
            found = _brought(one, rest) or _swapped(one, rest) or everywhere
            made.append(tuple(other for other in found if other.key not in taken))
            taken |= {other.key for other in found}
    return made


def _beside(one: Suggestion, rest: Sequence[Suggestion]) -> list[Suggestion]:
    return [other for other in rest if other.key.hash == one.key.hash and other.state == one.state and other is not one]


def _brought(one: Suggestion, rest: Sequence[Suggestion]) -> list[Suggestion]:
    """A wrong tag, and the wrong tags that came with it; for any of them, the same row."""
    root_tag = one.evidence.get("follows_from", one.key.tag)
    family = [other for other in (one, *_beside(one, rest)) if other.key.action == REMOVE]
    root = [other for other in family if other.key.tag == root_tag]
    follow = [other for other in family if other.evidence.get("follows_from") == root_tag]
    return root + follow if root and follow and one in root + follow else []


def _swapped(one: Suggestion, rest: Sequence[Suggestion]) -> list[Suggestion]:
    """A wrong tag with the one that belongs in its place: the only ones of their namespace, or named as excluding each other."""
    beside, space = _beside(one, rest), tags.namespace(one.key.tag)
    against = [
        other
        for other in beside
        if other.key.action != one.key.action
        and (other.key.tag == one.evidence.get("against") or one.key.tag == other.evidence.get("against"))
    ]
    family = [other for other in (one, *beside) if space and tags.namespace(other.key.tag) == space]
    if len(family) == 2 and {other.key.action for other in family} == {ADD, REMOVE}:
        against = [other for other in family if other is not one]
    if len(against) != 1:
        return []
    return sorted((one, against[0]), key=lambda other: other.key.action == ADD)


def _rows(review: Review, view: Filter, finding: Finding, names: dict[str, str]) -> tuple[list[Row], list[Row]]:
    """(what the view asks about, what else is on this picture). A view of one thing folds everything else."""
    narrow = bool(view.tag or view.namespace or view.issues or view.sample)
    # A view of nothing in particular asks for pictures, with all on them.
    whole = not narrow and view.least <= 0 and view.most >= 1 and not view.changed
    found = [(row, any(one.in_view for one in row)) for row in gathered(finding)]
    asked = [(row, inside) for row, inside in found if inside or not narrow]
    asked.sort(key=lambda one: (finding.is_pair and one[0][0].key.action != PAIR, not one[1]))
    rows = [row for row, _ in asked] + [row for row, inside in found if narrow and not inside]
    made = [
        _row(review, finding, row, number, names, number <= len(asked), view.state if whole else "")
        for number, row in enumerate(rows, 1)
    ]
    return made[: len(asked)], made[len(asked) :]


def _row(
    review: Review,
    finding: Finding,
    row: Sequence[Suggestion],
    number: int,
    names: dict[str, str],
    asked: bool,
    queue: str,
) -> Row:
    least = min(row, key=lambda one: one.confidence)  # a row is as sure as the least sure of its parts
    facts, shown = words.evidence(least.evidence, leave_out=finding.members)
    waits = all(one.state in UNDECIDED for one in row)
    pair = least.key.action == PAIR
    measured = None if pair else measured_share(review, least.issue, least.detectors)
    said = percent(least.confidence)
    return Row(
        tuple(row),
        "\n".join(encode(one.ask()) for one in row),
        number,
        asked and waits,
        asked and any(one.in_view or one.state == queue for one in row),
        f"{percent(least.confidence)} alike" if pair else f"{percent(measured.share)} right" if measured else said,
        f"of 100 like this {words.measured_words(measured)}; the detectors say {said}" if measured else "",
        words.figures(least.evidence),
        facts,
        shown,
        _then(least),
        _on(row, names) if len(finding.members) > 1 and not pair else "",
    )


def _on(row: Sequence[Suggestion], names: dict[str, str]) -> str:
    hashes = {one.key.hash for one in row}
    named = sorted(names[hash] for hash in hashes if hash in names)
    said = [name.lower() if len(names) == 2 else name for name in named]
    if others := len(hashes) - len(named):
        said.append(plural(others, "more copy" if said else "copy", "more copies" if said else "copies"))
    return "on " + " and ".join(said)


def _then(one: Suggestion) -> str | None:
    """What changed since it was decided, where the detectors are of another mind now."""
    if one.confidence_then is None or not one.current or abs(one.confidence_then - one.detectors) < CHANGED:
        return None
    then = f"It was {percent(one.confidence_then)} when you decided, and is {percent(one.detectors)} now."
    changes = words.changes(one.evidence_then, one.evidence) if one.evidence_then else []
    return then + (f" What changed: {'; '.join(changes)}." if changes else "")


def _picture(review: Review, hash: str, finding: Finding, name: str) -> Picture:
    record = picture(review, hash) or {"hash": hash}
    implied, deleted = set(record.get("implied_tags") or ()), set(record.get("deleted_tags") or ())
    keys = [one.key for one in finding.suggestions if one.key.hash == hash and one.key.action != PAIR]
    changes = {key.tag: key.action for key in keys}
    names = set(record.get("existing_all_tags") or ()) | {tag for tag, action in changes.items() if action == ADD}
    notes = dict.fromkeys(deleted, "you once removed it")
    notes |= dict.fromkeys(implied, "added by your siblings and parents")

    def tag(name: str) -> Tag:
        return Tag(name, changes.get(name, ""), notes.get(name, ""))

    groups = [(space, [*map(tag, group)]) for space, group in words.by_namespace(names)]
    return Picture(hash, record, groups, name)


def _differences(
    review: Review, finding: Finding, pictures: Sequence[Picture], invisible: Sequence[str]
) -> list[Difference]:
    """The tags that copies do not share, those that are suspected first."""
    has = {one.hash: set(one.record.get("existing_all_tags") or ()) for one in pictures}
    if not any(has.values()):  # a report without its dataset still says what differs
        for one in finding.suggestions:
            for hash, only in ((one.key.hash, "only_in_1"), (one.key.other, "only_in_2")):
                if hash in has:  # of many copies a few are shown
                    has[hash].update(one.evidence.get(only) or ())
    suggested = {one.key: one for one in finding.suggestions if one.key.action != PAIR}
    differ = set().union(*has.values()) - set.intersection(*has.values()) | {key.tag for key in suggested}
    rows, refused = [], refused_tags(finding)
    for tag in differ:
        cells = []
        for hash in has:
            key = Key(hash, tag, REMOVE if tag in has[hash] else ADD)
            now = review.decision(key)
            no = tag in refused[hash]
            value = encode(Ask(key, now.version))
            cells.append(Cell(tag in has[hash], no, key.action if key in suggested else "", now.queue, value))
        rows.append(Difference(tag, tuple(cells), tags.namespace(tag) in invisible))
    return sorted(rows, key=lambda row: (not row.suspected, tags.namespace(row.tag) == "", row.tag))
