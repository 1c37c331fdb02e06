"""What Hydrus' answers mean: metadata rows, tag states, siblings and parents, and the planning of a tag change.

Pure functions on the API's own JSON; nothing here sends anything. A row is one element of
`/get_files/file_metadata`'s `metadata`, or `{"hash": ..., "file_id": None}`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tagcheck.changes import TagChange
from tagcheck.errors import LibraryRefused
from tagcheck.library.protocol import (
    ABSENT,
    CURRENT,
    DELETED,
    PENDING,
    PETITIONED,
    UNKNOWN,
    FileInfo,
    NoWrite,
    TagService,
    TagWrite,
)
from tagcheck.refusals import Spellings
from tagcheck.tags import MARKS

ALL_MEDIA = "616c6c206c6f63616c206d65646961"  # "combined local file domains": when a file came into the collection

# The status keys of storage_tags and display_tags.
IS_CURRENT, IS_PENDING, IS_DELETED, IS_PETITIONED = "0", "1", "2", "3"
STATES = ((IS_PETITIONED, PETITIONED), (IS_PENDING, PENDING), (IS_CURRENT, CURRENT), (IS_DELETED, DELETED))

# Content actions of /add_tags/add_tags; local services take the first two, repositories the others.
ADD, DELETE, PEND, RESCIND_PEND, PETITION, RESCIND_PETITION = "0", "1", "2", "3", "4", "5"
_LOCAL_ACTIONS = {CURRENT: ADD, DELETED: DELETE, ABSENT: DELETE}
_REPOSITORY_ACTIONS = {
    (ABSENT, PENDING): PEND,
    (DELETED, PENDING): PEND,
    (PENDING, ABSENT): RESCIND_PEND,
    (PENDING, DELETED): RESCIND_PEND,
    (CURRENT, PETITIONED): PETITION,
    (PETITIONED, CURRENT): RESCIND_PETITION,
}


LONGEST = 1024  # characters of a tag
# Characters that Hydrus takes out of tags: control characters, marks of direction, private use, halves of surrogate pairs.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ue000-\uf8ff"
    "\U000f0000-\U000ffffd\U00100000-\U0010fffd]"
)
_HANGUL = re.compile("[\u1100-\u11ff\uac00-\ud7af]")
_FILLER = "\u3164"  # a blank of Korean script, taken out of other tags
_JOINERS = "\u200c\u200d"  # kept where a script needs them
_LATIN = re.compile(f"[ -~\xa0-\u024f{_JOINERS}]+")


@dataclass(frozen=True)
class Relation:
    """How one tag service shows a tag: as `ideal`, for any of `siblings`, and whenever one of `descendants` is shown."""

    ideal: str
    siblings: frozenset[str]
    ancestors: frozenset[str]
    descendants: frozenset[str]


def to_hydrus(tag: str) -> str:
    """The tag as Hydrus spells it: one that begins with its only colon (`:d`) gets a second one.

    >>> to_hydrus(":d"), to_hydrus("series:x")
    ('::d', 'series:x')
    """
    return f":{tag}" if tag.startswith(":") and ":" not in tag[1:] else tag


def from_hydrus(tag: str) -> str:
    """The tag without the colon that Hydrus puts before a tag that begins with its only one: `to_hydrus` the other way.

    >>> from_hydrus("::d"), from_hydrus("series:x"), from_hydrus("::a:b")
    (':d', 'series:x', '::a:b')
    """
    return tag[1:] if tag.startswith("::") and ":" not in tag[2:] else tag


def cleaned(tag: str) -> str:
    """What Hydrus (v682) makes of a tag as it is sent, "" where it leaves nothing. A call for the siblings of such a tag is refused
    as a whole; what is to be written is asked of Hydrus itself.

    >>> cleaned("-_-"), cleaned(":: -"), cleaned("- "), cleaned("System:"), cleaned("series:-x")
    ('_-', ':: -', '', '', 'series:x')
    """
    tag = to_hydrus(tag[:LONGEST].lower())
    if ":" not in tag:
        return _stripped(tag)
    first, colon, rest = _stripped(tag).partition(":")
    first, rest = map(_stripped, (first, rest) if colon else ("", first))
    return f"{first}:{rest}" if first or ":" in rest else rest


def _stripped(text: str) -> str:
    text = re.sub(r"\s+", " ", _INVISIBLE.sub("", text)).strip()
    text = re.sub("^(-|system:)+", "", text).strip()
    if not _HANGUL.search(text):
        text = text.replace(_FILLER, "")
    if _LATIN.fullmatch(text) or not text.strip(_JOINERS):
        text = re.sub(f"[{_JOINERS}]", "", text)
    return re.sub(r"\s+", " ", text).strip()


def relation(answer: Mapping[str, Any]) -> Relation:
    """One service's part of an answer of `/add_tags/get_siblings_and_parents`."""
    return Relation(
        from_hydrus(answer["ideal_tag"]),
        *(frozenset(map(from_hydrus, answer[name])) for name in ("siblings", "ancestors", "descendants")),
    )


def absence(row: Mapping[str, Any]) -> str | None:
    """Why there is nothing to look at: "never imported", "deleted", "not on this machine"; None for a file that is here.

    A trashed file is here. A hash that Hydrus has only heard of (tagged by somebody, put on a
    page) has a full row and an id, but no size.
    """
    if row.get("file_id") is None:
        return "never imported"
    if row.get("is_local"):
        return None
    if row.get("is_deleted"):
        return "deleted"
    return "never imported" if row.get("size") is None else "not on this machine"


def file_info(row: Mapping[str, Any], counted: Iterable[str]) -> FileInfo:
    """A row as the library protocol has it, with the tags of the services in `counted` (keys)."""
    shown, stored, deleted = set[str](), set[str](), set[str]()
    for service in counted:
        if not (row.get("tags") or {}).get(service, {}).get("storage_tags"):
            continue  # most services know nothing of most files
        here = stored_tags(row, service)
        shown |= shown_tags(row, service).difference(MARKS)
        stored |= here[IS_CURRENT] | here[IS_PENDING]
        deleted |= (here[IS_DELETED] | here[IS_PETITIONED]).difference(MARKS)
    reason = absence(row)
    # When it came into the collection: the domain over all local ones says it, else the earliest of those there are.
    domains = (row.get("file_services") or {}).get("current") or {}
    times = {key: one["time_imported"] for key, one in domains.items() if one.get("time_imported") is not None}
    about: dict[str, Any] = {key: row.get(key) for key in ("mime", "width", "height", "size", "duration", "pixel_hash")}
    about |= {"mime": None} if row.get("size") is None else {}
    return FileInfo(
        row["hash"],
        "missing" if reason else "ok",
        reason,
        tuple(sorted(shown)),
        tuple(sorted(shown - stored)),
        tuple(sorted(deleted - shown)),
        time_imported=times.get(ALL_MEDIA, min(times.values(), default=None)),
        trashed=reason is None and bool(row.get("is_trashed")),
        **about,
    )


def stored_tags(row: Mapping[str, Any], service: str) -> defaultdict[str, frozenset[str]]:
    return _by_status(row, service, "storage_tags")


def shown_tags(row: Mapping[str, Any], service: str) -> frozenset[str]:
    """The tags that one service shows, siblings and parents applied: current or pending, unless their removal is asked for."""
    display = _by_status(row, service, "display_tags")
    return (display[IS_CURRENT] | display[IS_PENDING]) - display[IS_PETITIONED]


def _by_status(row: Mapping[str, Any], service: str, which: str) -> defaultdict[str, frozenset[str]]:
    found = (row.get("tags") or {}).get(service, {}).get(which) or {}
    return defaultdict(frozenset, {status: frozenset(map(from_hydrus, tags)) for status, tags in found.items()})


def state(row: Mapping[str, Any], service: str, tag: str) -> str:
    """The state of one tag of one file on one service, `UNKNOWN` where the file or the service is gone.

    What was asked for last comes first: a petitioned tag is current too.
    """
    if absence(row) or service not in (row.get("tags") or {}):
        return UNKNOWN
    here = stored_tags(row, service)
    return next((name for status, name in STATES if tag in here[status]), ABSENT)


def action(write: TagWrite, service: TagService) -> str:
    """The content action that takes a tag from `before` to `after`. A local service can only reach "absent" by a deletion."""
    if service.kind == "local":
        found = _LOCAL_ACTIONS.get(write.after)
    else:
        found = _REPOSITORY_ACTIONS.get((write.before, write.after))
    if found is None:
        step = f"go from {write.before} to {write.after}"
        raise LibraryRefused(f"Hydrus cannot make {write.tag!r} {step} on {service.name!r}")
    return found


def same_tags(tags_of: Mapping[str, Sequence[str]]) -> list[tuple[tuple[str, ...], list[str]]]:
    """Files by hash with their tags, as calls that each send some tags for some files: by file or by tag, whichever is fewer.

    >>> same_tags({"a": ["x"], "b": ["x"], "c": ["y"]})
    [(('x',), ['a', 'b']), (('y',), ['c'])]
    """
    by_set: dict[tuple[str, ...], list[str]] = defaultdict(list)
    by_tag: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for hash, tags in tags_of.items():
        by_set[tuple(sorted(set(tags)))].append(hash)
        for tag in set(tags):
            by_tag[(tag,)].append(hash)
    return sorted((by_tag if len(by_tag) < len(by_set) else by_set).items())


@dataclass(frozen=True)
class Planner:
    """Plans changes against metadata rows.

    `counted` services whose tags the owner counts, `writable` those of them that may be written,
    by key; `target` where tags are added; `relations` by tag and service, `spellings` of all services together;
    `unstorable` tags that Hydrus would store in another spelling, with that spelling ("" for not at all).
    """

    counted: Mapping[str, TagService]
    writable: Mapping[str, TagService]
    target: TagService
    relations: Mapping[str, Mapping[str, Relation]]
    spellings: Spellings
    unstorable: Mapping[str, str]

    def plan(self, change: TagChange, row: Mapping[str, Any]) -> list[TagWrite | NoWrite]:
        """The writes that `change` takes on the file of `row`, or one `NoWrite`."""
        gone = absence(row)
        if gone:
            return [NoWrite(change, f"Hydrus does not have the file ({gone})", False)]
        return [self._add(change, row)] if change.action == "add" else self._remove(change, row)

    def _relation(self, tag: str, service: str) -> Relation:
        return self.relations.get(tag, {}).get(service) or Relation(tag, frozenset([tag]), frozenset(), frozenset())

    def _add(self, change: TagChange, row: Mapping[str, Any]) -> TagWrite | NoWrite:
        tag = change.tag
        if (other := self.unstorable.get(tag)) is not None:
            why = f"Hydrus would store it as {other!r}" if other else "Hydrus can store no such tag"
            return NoWrite(change, why, False)
        for key, service in self.counted.items():
            ideal = self._relation(tag, key).ideal
            if ideal in shown_tags(row, key):
                spelled = "" if ideal == tag else f" as {ideal!r}"
                return NoWrite(change, f"already there{spelled} ({service.name})", True)
        if why := self._refusal(tag, row):
            return NoWrite(change, why, False)
        after = CURRENT if self.target.kind == "local" else PENDING
        return TagWrite(row["hash"], tag, self.target.key, ABSENT, after, change)

    def _refusal(self, tag: str, row: Mapping[str, Any]) -> str:
        """Why the owner's own deletions, on any service that counts, forbid to add the tag to the file of `row`; "" if they do not."""
        shown = frozenset().union(*(shown_tags(row, key) for key in self.counted))
        for key, service in self.counted.items():
            here = stored_tags(row, key)
            for status in (IS_DELETED, IS_PETITIONED):
                found = self.spellings.refusal(tag, self.spellings.refused(here[status], shown))
                if found is None:
                    continue
                spelled = "" if found.deleted == found.refused else f" (as {found.deleted!r})"
                if found.refused not in self.spellings.same(tag):
                    gone = "was removed from this picture before" if status == IS_DELETED else "is asked to be removed"
                    return f"it would bring back {found.refused!r}, which {gone}{spelled} ({service.name})"
                spelled = "" if found.deleted == tag else f" as {found.deleted!r}"
                if status == IS_PETITIONED:
                    return f"its removal is asked for{spelled} ({service.name})"
                removed = f"it was removed from this picture before{spelled} ({service.name})"
                return f"{removed}; adding it there again is left to you"
        return ""

    def _remove(self, change: TagChange, row: Mapping[str, Any]) -> list[TagWrite | NoWrite]:
        for key, service in self.counted.items():
            children = sorted(self._relation(change.tag, key).descendants & shown_tags(row, key))
            if children:
                why = f"it comes with {children[0]!r}, whose parent it is ({service.name})"
                return [NoWrite(change, f"{why}: remove {children[0]!r}, or that relation in Hydrus", False)]
        writes = [write for service in self.writable.values() for write in self._removals(change, row, service)]
        if writes:
            return list(writes)
        elsewhere = [service.name for key, service in self.counted.items() if change.tag in shown_tags(row, key)]
        if elsewhere:
            return [NoWrite(change, f"it is stored on {', '.join(elsewhere)} only, which cannot be written", False)]
        return [NoWrite(change, "not there (any more)", True)]

    def _removals(self, change: TagChange, row: Mapping[str, Any], service: TagService) -> list[TagWrite]:
        """Writes for the stored tags that make one service show the tag: itself and the siblings shown as it."""
        how = self._relation(change.tag, service.key)
        causes = how.siblings | {change.tag} if how.ideal == change.tag else {change.tag}
        here = stored_tags(row, service.key)
        gone = {CURRENT: DELETED if service.kind == "local" else PETITIONED, PENDING: ABSENT}
        return [
            TagWrite(row["hash"], cause, service.key, now, gone[now], change)
            for cause in sorted(causes & (here[IS_CURRENT] | here[IS_PENDING]))
            if (now := state(row, service.key, cause)) in gone
        ]
