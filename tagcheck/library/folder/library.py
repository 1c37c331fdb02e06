"""A folder of pictures with sidecar tags, as a library: sub-folders are pages, SHA-256 of the bytes is the hash.

A picture's tags stand in `picture.jpg.txt`, in `picture.txt`, or in both (then all of them count).
The same bytes in several places are one picture on several pages, and a fix goes to each place.
A sidecar is replaced whole or not at all, only while it still is what was read, and every version
that was replaced is kept in the store, so that taking a fix back gives the very same bytes again.
What is decided here and why: docs/decisions/sidecars.md.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock

from tagcheck import tags
from tagcheck.changes import TagChange
from tagcheck.errors import FileUnavailable, LibraryRefused, LibraryUnreachable, MissingInput, WritesRefused
from tagcheck.files import sync_folder
from tagcheck.library.folder import sidecar_text
from tagcheck.library.folder.known_hashes import FolderStore
from tagcheck.library.folder.scan import MIME, Place, each_folder, extension, hash_of, shown, stand_in, unchanged
from tagcheck.library.folder.sidecar_files import Edit, bytes_of, check_writable, only_writer, replace_file, sweep
from tagcheck.library.folder.sidecar_text import CannotEdit, Habit, NotASidecar, Sidecar
from tagcheck.library.protocol import (
    ABSENT,
    CURRENT,
    PARTLY,
    UNKNOWN,
    FileInfo,
    NoWrite,
    Page,
    TagService,
    TagWrite,
    Walk,
    unique,
)

SERVICE = TagService("sidecar", "sidecar files", "sidecar")
HABIT_SAMPLE = 24  # sidecars looked at to learn how the owner writes them
RESCAN_AFTER = 30.0  # seconds before an unknown hash is worth another look through the whole folder
SETTLED = 2_000_000_000  # ns: a file younger than this may still change without its time stamp showing it
UNREADABLE = "cannot be read"


@dataclass
class _Index:
    """What one look through the folder found. `problems` maps a stand-in hash to why that file has no real one."""

    pages: list[tuple[tuple[str, ...], list[str]]] = field(default_factory=list)
    places: dict[str, list[Place]] = field(default_factory=dict)
    by_folder: dict[str, list[Place]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    folders: list[tuple[str, ...]] = field(default_factory=list)
    habits: dict[str, Habit] = field(default_factory=dict)
    looked: float = 0.0


class FolderLibrary:
    """The pictures under `root`, with their sidecars.

    `store` is a file outside `root` that keeps hashes between runs and every replaced version of a
    sidecar; without it both last as long as this object. `progress(done, total)` is told while
    files are hashed. Raises `MissingInput` when `root` is not a folder.
    """

    kind = "folder"

    def __init__(
        self, root: str | Path, store: Path | None = None, progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.root = Path(root).expanduser().resolve()
        if not self.root.is_dir():
            raise MissingInput(f"no folder {root}: name a folder of pictures with --library, or 'hydrus'")
        self._store = FolderStore(store)
        self._progress = progress
        self._lock = RLock()
        self._found: _Index | None = None

    def describe(self) -> dict:
        """`{"type": "folder", "path": ...}`."""
        return {"type": self.kind, "path": shown(str(self.root))}

    def walk(self, names: Sequence[str]) -> Walk:
        """The pages in the sub-folder `names` and below ([]: the whole folder), each path beginning with the folder's own name."""
        index = self._index(fresh=True)
        under = self._folder_named(index, tuple(names))
        pages = tuple(
            Page((shown(self.root.name), *map(shown, path)), shown("/".join(path)), tuple(hashes))
            for path, hashes in index.pages
            if path[: len(under)] == under
        )
        on_pages = unique(hash for page in pages for hash in page.hashes)
        problems = tuple(hash for hash in on_pages if hash in index.problems)
        return Walk((shown(self.root.name), *map(shown, under)), pages, {UNREADABLE: problems} if problems else {})

    def files(self, hashes: Sequence[str]) -> Iterator[FileInfo]:
        """Metadata and tags, read anew from the sidecars. A picture whose sidecar cannot be read is an "unreadable" row,
        since a picture of unknown tags must not pass for an untagged one.
        """
        for hash in unique(hashes):
            index = self._index(wanted=hash)
            if hash in index.problems:
                yield FileInfo(hash, "unreadable", index.problems[hash])
            elif places := self._standing(index, hash):
                yield self._info(hash, places)
            else:
                yield FileInfo(hash, "missing", f"is not in {shown(str(self.root))} (any more)")

    def read(self, hash: str) -> bytes:
        """The file's bytes, which are those that were asked for: a file that was changed since is not returned."""
        index = self._index(wanted=hash)
        if hash in index.problems:
            raise FileUnavailable(index.problems[hash], "unreadable")
        reason = f"no picture {hash[:16]}... in {shown(str(self.root))} (any more)"
        for place in index.places.get(hash, []):
            try:
                data = Path(place.path).read_bytes()
            except OSError as error:
                reason = f"{shown(place.path)}: {error.strerror}"
                continue
            if hashlib.sha256(data).hexdigest() == hash:
                return data
            reason = f"{shown(place.path)} was changed since it was looked at: map the folder again"
        raise FileUnavailable(reason)

    def render(self, hash: str) -> bytes | None:
        """None: a folder makes no pictures."""
        return None

    def thumbnail(self, hash: str) -> tuple[bytes, str] | None:
        """None: a folder keeps no thumbnails."""
        return None

    def services(self) -> list[TagService]:
        """The sidecars."""
        return [SERVICE]

    def plan(self, changes: Sequence[TagChange], service: str | None = None) -> list[TagWrite | NoWrite]:
        """The exact difference. Where copies of one picture disagree, each copy that has to change is a write of its own,
        on the service `sidecar:<path of the picture>`.
        """
        if service not in (None, SERVICE.key):
            raise LibraryRefused(f"no tag service {service!r} here: a folder has {SERVICE.key!r} alone")
        index = self._index(fresh=True)
        return [step for change in changes for step in self._planned(index, change)]

    def states(self, places: Sequence[tuple[str, str, str]]) -> list[str]:
        """The state of each (hash, tag, service key) now, read from the sidecars."""
        return [self._state(*place) for place in places]

    def write(self, writes: Sequence[TagWrite], reason: str = "") -> None:
        """Carry out the writes whose `before` still holds, a sidecar at a time. What could not be written
        raises `WritesRefused` after all the rest is done.
        """
        try:
            with only_writer(str(self.root)):
                reasons = self._written(self._wanted(writes))
        except OSError as error:  # the folder itself, not a sidecar: what is written reads back, the rest waits
            raise LibraryUnreachable(f"{shown(str(self.root))}: {error.strerror}") from error
        if reasons:
            raise WritesRefused(reasons)

    def lost(self, write: TagWrite) -> bool:
        """Whether a sidecar that `write` changed has the very bytes of before (a backup was restored), rather than an edit
        by its owner's hand.
        """
        paths = [path for place in self._places(write.hash, write.service) for path in place.sidecars]
        try:
            return any(self._store.was_replaced(real, bytes_of(real)) for real in map(os.path.realpath, paths))
        except NotASidecar:
            return False

    # --- looking through the folder ------------------------------------------------------------------

    def _index(self, fresh: bool = False, wanted: str | None = None) -> _Index:
        """The index, made anew when asked to, or when it does not know `wanted` and is not brand-new."""
        with self._lock:
            index = self._found
            if index is not None and wanted is not None:
                lost = wanted not in index.problems and not any(map(unchanged, index.places.get(wanted, [])))
                fresh = fresh or (lost and time.monotonic() - index.looked > RESCAN_AFTER)
            if index is None or fresh:
                self._found = index = self._look()
            return index

    def _look(self) -> _Index:
        if not self.root.is_dir():
            raise LibraryUnreachable(f"no folder {shown(str(self.root))} (any more): is its drive connected?")
        index = _Index()
        folders = list(each_folder(str(self.root)))
        hashes, problems = self._hashes([place for _, places, _ in folders for place in places])
        for path, places, problem in folders:
            index.folders.append(path)
            on_page = [hashes[place.path] for place in places]
            if problem:
                on_page = [stand_in(os.path.join(self.root, *path))]
                index.problems[on_page[0]] = problem
            if on_page:
                index.pages.append((path, on_page))
        for place in (place for _, places, _ in folders for place in places):
            hash = hashes[place.path]
            if place.path in problems:
                index.problems[hash] = problems[place.path]
            else:
                index.places.setdefault(hash, []).append(place)
                index.by_folder.setdefault(os.path.dirname(place.path), []).append(place)
        index.looked = time.monotonic()
        return index

    def _hashes(self, places: list[Place]) -> tuple[dict[str, str], dict[str, str]]:
        """The hash of each path, and why for those that only get a stand-in."""
        root = str(self.root)
        known = self._store.hashes(root)
        hashes: dict[str, str] = {}
        problems: dict[str, str] = {}
        new = []
        for place in places:
            size, mtime_ns, hash = known.get(place.path, (None, None, ""))
            if (size, mtime_ns) == (place.size, place.mtime_ns):
                hashes[place.path] = hash
            else:
                new.append(place)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for start in range(0, len(new), 500):
                part = new[start : start + 500]
                for place, (hash, problem) in zip(part, pool.map(hash_of, part)):
                    hashes[place.path] = hash
                    if problem:
                        problems[place.path] = problem
                youngest = time.time_ns() - SETTLED
                self._store.keep_hashes(
                    root,
                    [
                        (place.path, place.size, place.mtime_ns, hashes[place.path])
                        for place in part
                        if place.path not in problems and place.mtime_ns < youngest
                    ],
                )
                if self._progress:
                    self._progress(start + len(part), len(new))
        self._store.forget_hashes(root, set(known) - {place.path for place in places})
        return hashes, problems

    def _folder_named(self, index: _Index, names: tuple[str, ...]) -> tuple[str, ...]:
        """The sub-folder that `names` means, without regard to case; the folder's own name may stand in front."""
        for wanted in (names, names[1:] if names[:1] and names[0].casefold() == self.root.name.casefold() else None):
            if wanted is None:
                continue
            exact = [path for path in index.folders if path == wanted]
            alike = [
                path
                for path in index.folders
                if [part.casefold() for part in path] == [part.casefold() for part in wanted]
            ]
            if exact or alike:
                return (exact or alike)[0]
        there = sorted(shown("/".join(path)) for path in index.folders if path)
        listed = ", ".join(map(repr, there[:30])) + (f" and {len(there) - 30} more" if len(there) > 30 else "")
        raise LibraryRefused(
            f"no folder {'/'.join(names)!r} in {shown(str(self.root))}: there is {listed or 'no sub-folder'}"
        )

    def _standing(self, index: _Index, hash: str) -> list[Place]:
        """The places of this hash that still look as they did when they were hashed.

        `LibraryUnreachable` when no picture at all is where it was: a drive that is not connected
        must not look like a library whose pictures were removed.
        """
        standing = [place for place in index.places.get(hash, []) if unchanged(place)]
        if not standing and not any(unchanged(place) for places in index.places.values() for place in places):
            raise LibraryUnreachable(f"no pictures in {shown(str(self.root))}: is its drive connected?")
        return standing

    def _info(self, hash: str, places: list[Place]) -> FileInfo:
        first, names, problem = places[0], [], None
        for place in places:
            try:
                names += self._names(place)
            except NotASidecar as error:
                problem = str(error)
        info = FileInfo(
            hash,
            tags=tuple(unique(names)),
            mime=MIME.get(extension(first.path)),
            size=first.size,
            time_imported=first.mtime_ns / 1e9,
            file_path=shown(first.path),
        )
        return (
            info
            if problem is None
            else replace(info, status="unreadable", reason=f"its tags cannot be read: {problem}", tags=())
        )

    # --- tags in sidecars ----------------------------------------------------------------------------

    def _sidecars(self, place: Place) -> list[tuple[str, Sidecar]]:
        """The sidecars there are for one picture. Raises `NotASidecar` naming the one that cannot be read."""
        found = []
        for path in place.sidecars:
            data = bytes_of(path)
            if data is not None:
                try:
                    found.append((path, sidecar_text.decode(data)))
                except NotASidecar as error:
                    raise NotASidecar(f"{shown(path)} {error}") from None
        return found

    def _names(self, place: Place) -> list[str]:
        return unique(one for _, sidecar in self._sidecars(place) for one in sidecar.names)

    def _places(self, hash: str, service: str) -> list[Place]:
        """The copies that one service key means: all of them, or the one it names."""
        places = self._standing(self._index(wanted=hash), hash)
        return places if service == SERVICE.key else [place for place in places if self._key(place) == service]

    def _key(self, place: Place) -> str:
        return f"{SERVICE.key}:{shown(os.path.relpath(place.path, self.root))}"

    def _state(self, hash: str, tag: str, service: str) -> str:
        try:
            having = [sidecar_text.name(tag) in self._names(place) for place in self._places(hash, service)]
        except NotASidecar:
            return UNKNOWN
        if not having:
            return UNKNOWN
        return CURRENT if all(having) else PARTLY if any(having) else ABSENT

    def _planned(self, index: _Index, change: TagChange) -> list[TagWrite | NoWrite]:
        if change.hash in index.problems:
            return [NoWrite(change, index.problems[change.hash], settled=False)]
        places = self._standing(index, change.hash)
        wanted, tag = change.action == "add", tags.clean(change.tag)
        if not places:
            return [NoWrite(change, "the picture is not in the folder (any more)", settled=False)]
        if not tag:
            return [NoWrite(change, "the tag is empty", settled=False)]
        try:
            differing = [place for place in places if (sidecar_text.name(tag) in self._names(place)) != wanted]
            for place in differing:
                self._edits(place, [tag] if wanted else [], [] if wanted else [tag])
        except (NotASidecar, CannotEdit) as error:
            return [NoWrite(change, str(error), settled=False)]
        if not differing:
            return [NoWrite(change, "has the tag already" if wanted else "does not have the tag", settled=True)]
        services = [SERVICE.key] if len(differing) == len(places) else [self._key(place) for place in differing]
        before, after = (ABSENT, CURRENT) if wanted else (CURRENT, ABSENT)
        return [TagWrite(change.hash, tag, service, before, after, change) for service in services]

    # --- writing -------------------------------------------------------------------------------------

    def _written(self, wanted: list[tuple[str, Place, list[str], list[str]]]) -> dict[str, str]:
        """Change the sidecars of these pictures. Returns why some could not be changed, by hash."""
        reasons: dict[str, str] = {}
        edits: dict[str, tuple[str, Edit]] = {}
        for hash, place, add, remove in wanted:
            try:
                edits.update((edit.path, (hash, edit)) for edit in self._edits(place, add, remove))
            except (CannotEdit, NotASidecar) as error:
                reasons[hash] = str(error)
        problems = self._carry_out([edit for _, edit in edits.values()])
        return reasons | {edits[path][0]: problem for path, problem in problems.items()}

    def _wanted(self, writes: Sequence[TagWrite]) -> list[tuple[str, Place, list[str], list[str]]]:
        """(hash, picture file, tags to put in, tags to take out): what does not hold yet of the writes."""
        wanted: dict[str, tuple[str, Place, list[str], list[str]]] = {}
        for write in writes:
            for place in self._places(write.hash, write.service):
                with suppress(NotASidecar):  # its state reads back as unknown, and that is the answer
                    if (sidecar_text.name(write.tag) in self._names(place)) != (write.after == CURRENT):
                        _, _, add, remove = wanted.setdefault(place.path, (write.hash, place, [], []))
                        (add if write.after == CURRENT else remove).append(write.tag)
        return list(wanted.values())

    def _edits(self, place: Place, add: list[str], remove: list[str]) -> list[Edit]:
        """What has to happen to the sidecars of one picture. Raises `CannotEdit` or `NotASidecar` naming the file."""
        there = self._sidecars(place)
        unwanted = {sidecar_text.name(tag) for tag in remove}
        own = [path for path, _ in there if path == place.full_sidecar or place.stem == "own"]
        habit = self._habit(place)
        edits = []
        for path, sidecar in there:
            here = unwanted.intersection(sidecar.names)
            if here and path not in own:
                raise CannotEdit(
                    f"{shown(path)} belongs to several pictures, and {min(here)!r} in it would go from all of them: "
                    f"give each its own sidecar, like {shown(os.path.basename(place.full_sidecar))}"
                )
            adding = add if own and path == own[0] else []
            if here or adding:
                edits.append(self._edit(path, adding, here, habit))
        if add and not own:
            path = place.full_sidecar if habit.full_name or place.stem != "own" else place.stem_sidecar
            edits.append(self._edit(path, add, set(), habit))
        for edit in edits:
            check_writable(edit)
        return edits

    def _edit(self, path: str, add: list[str], remove: set[str], habit: Habit) -> Edit:
        """One sidecar's next content: an earlier version of it where one has just these tags, else an edit of what is there."""
        real = os.path.realpath(path)
        if os.path.basename(real) != os.path.basename(path):
            raise CannotEdit(
                f"{shown(path)} is a link to {shown(real)}, which may belong to another picture: make it a file of its own"
            )
        old = bytes_of(real)
        try:
            names = set(sidecar_text.decode(old or b"").names) - remove | {sidecar_text.name(tag) for tag in add}
            for version in self._store.versions(real, old):
                if set(sidecar_text.decode(version or b"").names) == names:
                    return Edit(real, old, version)
            return Edit(
                real, old, sidecar_text.edited(old, add, remove, habit, lambda name: self._remembered(real, name))
            )
        except (CannotEdit, NotASidecar) as error:
            raise type(error)(f"{shown(path)} {error}") from None

    def _remembered(self, path: str, name: str) -> sidecar_text.Memory | None:
        """How this sidecar last spelled a tag, and where it stood."""
        found = (sidecar_text.memory(sidecar_text.decode(content), name) for content in self._store.replaced(path))
        return next(filter(None, found), None)

    def _habit(self, place: Place) -> Habit:
        """How the owner writes sidecars, by those in the same folder, or else in the whole library."""
        with self._lock:
            index = self._index()
            folder = os.path.dirname(place.path)
            if folder not in index.habits:
                here = self._habit_of(index.by_folder.get(folder, []))
                if here is None and "" not in index.habits:
                    everywhere = [one for places in index.by_folder.values() for one in places]
                    index.habits[""] = self._habit_of(everywhere) or Habit()
                index.habits[folder] = here or index.habits[""]
            return index.habits[folder]

    def _habit_of(self, places: list[Place]) -> Habit | None:
        """The habit that up to `HABIT_SAMPLE` of these pictures' sidecars show, spread evenly; None where there is no sidecar."""
        seen: list[Sidecar] = []
        full: Counter[bool] = Counter()
        for place in places[:: max(1, len(places) // HABIT_SAMPLE)]:
            with suppress(NotASidecar):
                for path, sidecar in self._sidecars(place):
                    seen.append(sidecar)
                    full[path == place.full_sidecar] += 1
        if not seen:
            return None
        usual = Habit(joint="\n" if full[True] >= full[False] else ", ", full_name=full[True] >= full[False])
        return sidecar_text.habit_of(seen, usual)

    def _carry_out(self, edits: list[Edit]) -> dict[str, str]:
        """Replace the sidecars, after every version to be replaced is safe in the store. Returns what went wrong, by path."""
        problems: dict[str, str] = {}
        folders = {os.path.dirname(edit.path) for edit in edits}
        if edits:
            self._store.keep_versions([(edit.path, edit.old, edit.new) for edit in edits])
        for folder in folders:
            sweep(folder)
        for edit in edits:
            try:
                replace_file(edit)
            except (CannotEdit, NotASidecar) as error:
                problems[edit.path] = str(error)
            except OSError as error:
                problems[edit.path] = f"{shown(edit.path)} could not be written: {error.strerror}"
        for folder in folders:
            sync_folder(Path(folder))
        return problems
