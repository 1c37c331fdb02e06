"""What a library of tagged pictures can do, whichever program keeps it.

Two real libraries stand behind this protocol: a Hydrus client (`tagcheck.library.hydrus`) and a folder of
pictures with sidecar text files (`tagcheck.library.folder`). Scripts and the page know only this protocol.

How a tag is changed. A picture's tag on one tag service has exactly one *state*. `Library.plan` compares a change with
the states and gives writes with `before` and `after`. `Library.write` carries them out, `Library.states` reads the states
again. An undo is the reverse write (`Library.undo_of`). The caller of `write` has seen that the state still is `before`, so
a second call changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from tagcheck.changes import TagChange

ABSENT = "absent"  # no mapping and no deletion record
CURRENT = "current"  # the picture has the tag
PENDING = "pending"  # a repository: waiting to be uploaded
DELETED = "deleted"  # the owner took it away, and the library remembers that
PETITIONED = "petitioned"  # a repository: has it, and a removal is asked for

# What `Library.states` may answer besides: nothing can be planned from these.
PARTLY = "partly"  # the same file lies in several places, and only some of them have the tag
UNKNOWN = "unknown"  # the picture is not in the library (any more), or its tags cannot be read

# What an owner can have judged about two pictures in the library's own program.
DUPLICATES, ALTERNATES = "duplicates", "alternates"
FALSE_POSITIVES, POTENTIAL_DUPLICATES = "false positives", "potential duplicates"


@dataclass(frozen=True)
class Page:
    """One page of pictures, in the library's own order. `path` is a list since names hold any character."""

    path: tuple[str, ...]
    key: str
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Walk:
    """What `Library.walk` found: the pages, and the files on them that are not (wholly) here.

    `not_local` maps a reason ("never imported", "deleted", "trashed") to its hashes. Trashed files can still be read,
    the others cannot. `notes` are sentences for the owner about what was seen and not read; `untagged`: no picture has a tag.
    """

    root: tuple[str, ...]
    pages: tuple[Page, ...]
    not_local: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    untagged: bool = False


@dataclass(frozen=True)
class FileInfo:
    """One picture's metadata and tags. Tags are as the owner sees them (siblings, parents applied).

    `tags` current tags displayed; `implied_tags` those of them that are not stored themselves;
    `deleted_tags` what the owner once took away and has not put back. `status` is "ok", or
    "missing" or "unreadable" (the file, or its tags) with a `reason`. Sizes in pixels after rotation, `size` in bytes, `duration` in
    milliseconds or None for a still picture, `time_imported` in seconds since 1970, UTC.
    """

    hash: str
    status: str = "ok"
    reason: str | None = None
    tags: tuple[str, ...] = ()
    implied_tags: tuple[str, ...] = ()
    deleted_tags: tuple[str, ...] = ()
    mime: str | None = None
    width: int | None = None
    height: int | None = None
    size: int | None = None
    duration: int | None = None
    pixel_hash: str | None = None
    time_imported: float | None = None
    file_path: str | None = None
    trashed: bool = False


@dataclass(frozen=True)
class TagService:
    """A place tags are written to. `key` identifies it, `name` is for people, `kind` "local" | "repository" | "sidecar"."""

    key: str
    name: str
    kind: str


@dataclass(frozen=True)
class TagWrite:
    """One exact step on one tag service: the state of (hash, tag) goes from `before` to `after`.

    `change` is what it was planned for, where the tag written is not the tag asked for (a stored
    sibling); it does not count when writes are compared.
    """

    hash: str
    tag: str
    service: str
    before: str
    after: str
    change: TagChange | None = field(default=None, compare=False, repr=False)

    def reversed(self) -> TagWrite:
        """The write that takes this one back."""
        return replace(self, before=self.after, after=self.before)


@dataclass(frozen=True)
class NoWrite:
    """A change that needs no write, or must not be written, and the reason in words.

    `settled` is True where the library already is as the owner wants it, False where it refuses.
    """

    change: TagChange
    reason: str
    settled: bool


@dataclass(frozen=True)
class TagRelations:
    """How the owner's library shows tags: `siblings` maps a tag to the one that is seen in its place, `parents` a tag to all
    that are seen with it; `other_siblings` a tag to those that further tag services show in its place.
    """

    siblings: dict[str, str] = field(default_factory=dict)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    other_siblings: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """What the owner has judged about pictures: any two of `hashes` are `kind` ("duplicates", "alternates", "false positives")
    of each other; with `others`, each of `hashes` with each of those.
    """

    kind: str
    hashes: tuple[str, ...]
    others: tuple[str, ...] = ()


@runtime_checkable
class Library(Protocol):
    """Everything a stage or the page may ask of a library.

    Every method raises `LibraryUnreachable` or `LibraryRefused` where the library is away or says
    no. Methods taking hashes accept any number of them and send chunks themselves.
    """

    kind: str  # "hydrus" | "folder"
    left_behind: str = "It does not become quite as it was before."  # what an undo says where it is not exact

    def describe(self) -> dict[str, Any]:
        """What identifies this library, for the mapping's `library` key: `{"type": kind, ...}`; no secrets."""

    def walk(self, names: Sequence[str]) -> Walk:
        """The pages under the page path `names`, compared without case. `LibraryRefused` names the pages there are."""

    def files(self, hashes: Sequence[str]) -> Iterator[FileInfo]:
        """Metadata of each distinct hash, in the order given; what is not here is a "missing" row."""

    def read(self, hash: str) -> bytes:
        """The original file. `FileUnavailable` when it cannot be read."""

    def render(self, hash: str) -> bytes | None:
        """A still PNG or JPEG made by the library for what Pillow cannot open, or None when it has none."""
        return None

    def thumbnail(self, hash: str) -> tuple[bytes, str] | None:
        """(bytes, mime) of a small picture of this file, or None when the library has no real one."""
        return None

    def services(self) -> list[TagService]:
        """The tag services that can be written to, the default first. Empty when nothing may be written."""

    def plan(self, changes: Sequence[TagChange], service: str | None = None) -> list[TagWrite | NoWrite]:
        """The exact difference, per change: a write (or several) or why there is none. Reads, writes nothing.

        `service` is the key of the service to add on (default: the first of `services`); removals
        happen wherever the tag is stored among the writable services.
        """

    def states(self, places: Sequence[tuple[str, str, str]]) -> list[str]:
        """The state now of each (hash, tag, service key), in the order given; `UNKNOWN` or `PARTLY` where none holds."""

    def write(self, writes: Sequence[TagWrite], reason: str = "") -> None:
        """Carry out writes whose `before` holds. Says nothing about success: read `states` afterwards.

        `reason` goes with petitions to a repository.
        """

    # --- where a library has something of its own; else these hold ---------------------------------

    def undo_of(self, write: TagWrite) -> TagWrite:
        """The write that takes `write` back as exactly as this library can; its `after` is what `states` will say then."""
        return write.reversed()

    def undo_leaves(self, write: TagWrite) -> str:
        """What taking `write` back leaves behind, in a sentence for its owner; "" where everything is as it was before."""
        return "" if self.undo_of(write).after == write.before else self.left_behind

    def why_no_service(self) -> str:
        """Why `services` is empty, in a sentence for the owner."""
        return "this library takes no tags"

    def hurried(self) -> Library:
        """The same library for what a person waits for: where it is away or slow, it says so within a few seconds."""
        return self

    def tell_to(self, tell: Callable[[str], None]) -> None:
        """Have lines about what is waited for go to `tell` from now on."""
        return

    def commit(self) -> bool:
        """Keep for good what was written; whether that is certain now. Hydrus saves every 30 seconds, a folder at once."""
        return True

    def lost(self, write: TagWrite) -> bool:
        """Whether a tag that reads as before `write` does so because the library lost the write, not by its owner's hand."""
        return True

    def tag_relations(self, tags: Iterable[str]) -> TagRelations | None:
        """Siblings and parents of `tags`, and of what they lead to; None where there is no such thing, or it is not told."""
        return None

    def judgements(self, hashes: Sequence[str]) -> list[Judgement] | None:
        """What the owner has judged about pairs of these pictures; None where there is no such thing, or it is not told."""
        return None


def unique(hashes: Iterable[str]) -> list[str]:
    """`hashes` without repeats, first places kept.

    >>> unique(["b", "a", "b"])
    ['b', 'a']
    """
    return list(dict.fromkeys(hashes))
