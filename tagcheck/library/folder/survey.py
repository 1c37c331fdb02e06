"""One look at all sidecars of a folder: how they are read, how their owner spells each tag, and what is to be said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from tagcheck.library.folder import forms, sidecar_json
from tagcheck.library.folder.forms import FAMILY, TEXT, Readings, Target
from tagcheck.library.folder.readings import Votes
from tagcheck.library.folder.scan import ARCHIVES, Folder
from tagcheck.library.folder.sidecar_json import NoTags
from tagcheck.library.folder.sidecar_text import NotASidecar, Reading, text_of
from tagcheck.library.folder.tag_names import Spellings, underscored
from tagcheck.plural import plural

KEPT_BYTES = 1 << 28  # of text sidecars held between the two looks at them; what is more is read twice

MANNERS = {"_": True, " ": False}  # how a family's name ends: of files with underscores in tags, with blanks
VOTING: dict[str, Callable[[bytes], list[str]]] = dict.fromkeys(TEXT, lambda data: [text_of(data)[0]])
VOTING |= {".json": sidecar_json.strings, forms.RECORD: sidecar_json.captions}
EMPTY = dict.fromkeys(TEXT, "sentences and no tags") | dict.fromkeys((".json", forms.RECORD), "no tags")
EMPTY |= {".xmp": "no keywords"}


@dataclass
class Survey:
    """What all sidecars say: files by form with tags and without, `pictures` looked at, those `tagged`."""

    readings: Readings = field(default_factory=lambda: Readings({}))
    spellings: dict[str, Spellings] = field(default_factory=dict)  # by family and manner
    votes: dict[str, Votes] = field(default_factory=dict)
    without_tags: Counter[str] = field(default_factory=Counter)
    with_tags: Counter[str] = field(default_factory=Counter)
    damaged: int = 0
    pictures: int = 0
    tagged: int = 0
    _summed: dict[tuple[str, bool | None], list[Spellings]] = field(default_factory=dict)

    def summed(self, family: str, manner: bool | None = None) -> list[Spellings]:
        """How often each tag is spelled how: in sidecars of this family, and then in the others; with a manner, less the files of
        the other one.
        """
        if (family, manner) not in self._summed:
            sums: dict[str, Spellings] = {}
            for kind, counted in sorted(self.spellings.items(), key=lambda one: one[0].rstrip("_ ") != family):
                if manner is None or MANNERS.get(kind[-1:], manner) == manner:
                    sums.setdefault(kind.rstrip("_ "), Spellings()).add(counted)
            self._summed[family, manner] = [*sums.values()]
        return self._summed[family, manner]

    def dumps(self) -> str:
        """What later runs need of it, as JSON."""
        readings = {form: [reading.marks, reading.blanks] for form, reading in self.readings.by_form.items()}
        spellings = {family: counted.tags for family, counted in self.spellings.items()}
        return json.dumps({"readings": readings, "prose": sorted(self.readings.prose), "spellings": spellings})

    @classmethod
    def loads(cls, text: str) -> Survey:
        document = json.loads(text)
        readings = {form: Reading(marks, blanks) for form, (marks, blanks) in document["readings"].items()}
        found = cls(Readings(readings, frozenset(document["prose"])))
        for family, tags in document["spellings"].items():
            counted = found.spellings.setdefault(family, Spellings())
            for name, spellings in tags.items():
                for raw, count in spellings.items():
                    counted.count(name, raw, count)
        return found


def survey(pictures: Iterable[tuple[Target, ...]], read: Callable[[Target], bytes | None]) -> Survey:
    """Look at the sidecars of all pictures: first what parts tags in them, then the tags."""
    pictures = list(pictures)
    found = Survey(pictures=len(pictures))
    kept, held = {}, 0
    targets = list(dict.fromkeys(target for targets in pictures for target in targets))
    for target in (one for one in targets if one.form in VOTING):
        votes = found.votes.setdefault(target.form, Votes())
        with suppress(NotASidecar):
            data = read(target) or b""
            if (held := held + len(data)) < KEPT_BYTES:
                kept[target] = data
            for text in VOTING[target.form](data):
                votes.count(text)
    prose = frozenset(form for form, votes in found.votes.items() if form != ".json" and votes.prose)
    by_form = {
        form: votes.reading if form in TEXT else votes.of_strings
        for form, votes in found.votes.items()
        if form != forms.RECORD
    }
    found.readings = Readings(by_form, prose)
    tagged = {target for target in targets if _count(found, target, lambda one: kept.get(one) or read(one))}
    found.tagged = sum(any(target in tagged for target in targets) for targets in pictures)
    return found


def _count(found: Survey, target: Target, read: Callable[[Target], bytes | None]) -> bool:
    """Take one sidecar's tags into account; whether it has any."""
    try:
        data = read(target)
    except NotASidecar:
        data = None
    if data is None:
        return False
    try:
        spellings = forms.decode(target.form, data, found.readings).spellings
    except NoTags:
        found.without_tags[target.form] += 1
        return False
    except NotASidecar:
        found.damaged += 1
        return False
    found.with_tags[target.form] += bool(spellings)
    manner = underscored(raw for _, raw in spellings)
    kind = FAMILY[target.form] + next((mark for mark, one in MANNERS.items() if one == manner), "")
    counts = found.spellings.setdefault(kind, Spellings())
    for name, raw in spellings:
        counts.count(name, raw)
    return bool(spellings)


def _many(count: int, form: str) -> str:
    if form == forms.RECORD:
        return plural(count, "record of a table", "records of tables")
    return plural(count, f"{form} file")


def notes(found: Survey, folders: Iterable[Folder], tables: int) -> list[str]:
    """What an owner should know about the sidecars, in words, the most important first."""
    folders = list(folders)
    unread = sum((folder.unread for folder in folders), Counter[str]())
    unclaimed, excluded = sum(one.unclaimed for one in folders), sum(one.excluded for one in folders)
    said = []
    if found.pictures and not found.tagged:
        said.append(f"no picture has a tag: none of {found.pictures:,} has a sidecar with tags in it")
    elif found.pictures:
        read = ", ".join(_many(count, form) for form, count in sorted(found.with_tags.items()))
        said.append(f"{found.tagged:,} of {found.pictures:,} pictures have tags (read: {read})")
    for form, count in sorted(found.without_tags.items()):
        what = EMPTY[".txt"] if form in found.readings.prose else EMPTY[form]
        said.append(f"seen and not read: {_many(count, form)} {'holds' if count == 1 else 'hold'} {what}")
    for what, some in (("files beside pictures whose kind is not known here", False), ("archives: unpack them", True)):
        if listed := ", ".join(
            f"{count:,} {one}" for one, count in sorted(unread.items()) if (one in ARCHIVES) == some
        ):
            said.append(f"seen and not read: {what} ({listed})")
    if unclaimed:
        many = plural(
            unclaimed, "sidecar that belongs to no picture by its", "sidecars that belong to no picture by their"
        )
        said.append(f"seen and not read: {many} name")
    if found.damaged:
        one = "sidecar cannot be read; its picture is a row that says why"
        said.append(plural(found.damaged, one, "sidecars cannot be read; their pictures are rows that say why"))
    for form, votes in sorted(found.votes.items()):
        if form not in found.readings.prose:
            records = form == forms.RECORD
            said += [
                f"tables: {one.replace(' file', ' record')}" if records else f"{form}: {one}" for one in votes.said()
            ]
    if tables:
        many = plural(tables, "table")
        said.append(f"{many} of captions (metadata.jsonl, meta_*.json) {'is' if tables == 1 else 'are'} read")
    if excluded:
        said.append(
            f"{plural(excluded, 'file or folder is', 'files and folders are')} left out by --exclude or .tagcheckignore"
        )
    return said
