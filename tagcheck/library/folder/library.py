"""A folder of pictures with sidecar tags, as a library: sub-folders are pages, SHA-256 of the bytes is the hash.

A picture's tags are in `picture.jpg.txt`, in `picture.txt`, or in both (then all of them count). The same bytes in
several places are one picture on several pages, and a fix goes to each place. A sidecar is replaced whole or not at all,
and only while it still is what was read. The store keeps every version that was replaced, so that an undo gives the same
bytes again. The reasons are in docs/decisions/sidecars.md.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

from tagcheck import tags
from tagcheck.changes import TagChange
from tagcheck.errors import FileUnavailable, LibraryRefused, LibraryUnreachable, MissingInput, WritesRefused
from tagcheck.library import protocol
from tagcheck.library.folder import forms, sidecar_text, tables, tag_names
from tagcheck.library.folder.forms import ENDINGS, FAMILY, RECORD, Target
from tagcheck.library.folder.index import SETTLED, Index, Progress, look
from tagcheck.library.folder.inside import Inside
from tagcheck.library.folder.known_hashes import FolderStore, relative
from tagcheck.library.folder.scan import MIME, Place, extension, same_name, shown, unchanged
from tagcheck.library.folder.sidecar_files import Edit, bytes_of, check_writable, only_writer, replace_file, sweep
from tagcheck.library.folder.sidecar_json import NoTags
from tagcheck.library.folder.sidecar_text import AnySidecar, CannotEdit, Habit, NotASidecar
from tagcheck.library.folder.survey import Survey, notes, survey
from tagcheck.library.folder.tables import Table
from tagcheck.library.protocol import FileInfo, Library, NoWrite, Page, TagService, TagWrite, Walk, unique
from tagcheck.plural import plural

SERVICE = TagService("sidecar", "sidecar files", "sidecar")
HABIT_SAMPLE = 24  # sidecars looked at to learn how the owner writes them
RESCAN_AFTER = 30.0  # seconds before an unknown hash is worth another look through the whole folder
UNREADABLE = "cannot be read"


class FolderLibrary(Library):
    """The pictures under `root`, with their sidecars.

    `store` is a file outside `root` that keeps hashes between runs and every replaced version of a
    sidecar; without it both last as long as this object. `progress(done, total)` is told while
    files are hashed. `exclude`: patterns of what is left out, as in a `.tagcheckignore`. Raises `MissingInput` when `root` is not a folder.
    """

    kind = "folder"

    def __init__(
        self, root: str | Path, store: Path | None = None, progress: Progress | None = None, exclude: Sequence[str] = ()
    ) -> None:
        self.root = Path(root).expanduser().resolve()
        if not self.root.is_dir():
            raise MissingInput(f"no folder {root}: name a folder of pictures with --library, or 'hydrus'")
        self.exclude = tuple(exclude)
        self._inside = Inside(str(self.root))
        self._store = FolderStore(store, str(self.root))
        self._progress = progress
        self._lock = RLock()
        self._found: Index | None = None
        self._surveyed: Survey | None = None
        self._tables: dict[str, tuple[tuple[int, int], Table]] = {}

    def describe(self) -> dict[str, Any]:
        """`{"type": "folder", "path": ...}`, with `exclude` where patterns leave something out."""
        left_out = {"exclude": list(self.exclude)} if self.exclude else {}
        return {"type": self.kind, "path": shown(str(self.root)), **left_out}

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
        seen = self._survey(fresh=True)
        said = notes(seen, index.folders, sum(len(folder.tables) for folder in index.folders) - len(index.bad_tables))
        if index.unclaimed:
            one, many = (
                "record of a table that belongs to no picture by its",
                "records of tables that belong to no picture by their",
            )
            said.append(f"seen and not read: {plural(index.unclaimed, one, many)} name")
        if index.damaged:
            many = plural(index.damaged, "line of a table that is", "lines of tables that are")
            said.append(f'seen and not read: {many} no JSON with a "file_name"')
        said += [f"seen and not read: {shown(path)} {why}" for path, why in sorted(index.bad_tables.items())]
        return Walk(
            (shown(self.root.name), *map(shown, under)),
            pages,
            {UNREADABLE: problems} if problems else {},
            notes=tuple(said),
            untagged=bool(seen.pictures) and not seen.tagged,
        )

    def files(self, hashes: Sequence[str]) -> Iterator[FileInfo]:
        """Metadata and tags, read from the sidecars now; "unreadable" where a sidecar is, since tags may be missing."""
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
                with open(self._inside.file(place.path), "rb") as file:
                    data = file.read()
            except OSError as error:
                reason = f"{shown(place.path)}: {error.strerror}"
                continue
            if hashlib.sha256(data).hexdigest() == hash:
                return data
            self._store.forget_hashes([place.path])  # same size and time, other bytes: hash it again
            reason = f"{shown(place.path)} was changed since it was looked at: map the folder again"
        raise FileUnavailable(reason)

    def services(self) -> list[TagService]:
        return [SERVICE]

    def plan(self, changes: Sequence[TagChange], service: str | None = None) -> list[TagWrite | NoWrite]:
        """The exact difference. Where copies of a picture disagree, the service is `sidecar:<path of the copy>`."""
        if service not in (None, SERVICE.key):
            raise LibraryRefused(f"no tag service {service!r} here: a folder has {SERVICE.key!r} alone")
        index = self._index(fresh=True)
        return [step for change in changes for step in self._planned(index, change)]

    def states(self, places: Sequence[tuple[str, str, str]]) -> list[str]:
        return [self._state(*place) for place in places]

    def write(self, writes: Sequence[TagWrite], reason: str = "") -> None:
        """Carry out the writes whose `before` holds. Raises `WritesRefused` at the end for what could not be."""
        try:
            with only_writer(str(self.root)):
                reasons = self._written(self._wanted(writes))
        except OSError as error:  # the folder itself, not a sidecar: what is written reads back, the rest waits
            raise LibraryUnreachable(f"{shown(str(self.root))}: {error.strerror}") from error
        if reasons:
            raise WritesRefused(reasons)

    def lost(self, write: TagWrite) -> bool:
        """Whether a sidecar that `write` changed has the very bytes of before, as from a restored backup."""
        places = self._places(write.hash, write.service)
        here = [target for place in places for target in self._targets(place)]
        ends = [(end, full) for end in ENDINGS for full in (True, False)]
        here += [Target(place.new_sidecar(end, full), end) for place in places for end, full in ends]
        with suppress(NotASidecar):
            real = [replace(target, path=os.path.realpath(target.path)) for target in dict.fromkeys(here)]
            return any(self._store.was_replaced(self._store.key(one.path, one.key), self._bytes(one)) for one in real)
        return False

    # --- looking through the folder ------------------------------------------------------------------

    def _index(self, fresh: bool = False, wanted: str | None = None) -> Index:
        """The index, made anew when asked to, or when it does not know `wanted` and is not brand-new."""
        with self._lock:
            index = self._found
            if index is not None and wanted is not None:
                lost = wanted not in index.problems and not any(map(unchanged, index.places.get(wanted, [])))
                fresh = fresh or (lost and time.monotonic() - index.looked > RESCAN_AFTER)
            if index is None or fresh:
                self._found = index = self._look()
            return index

    def _look(self) -> Index:
        if not self.root.is_dir():
            raise LibraryUnreachable(f"no folder {shown(str(self.root))} (any more): is its drive connected?")
        return look(self._inside, self._store, self.exclude, self._progress)

    def _survey(self, fresh: bool = False) -> Survey:
        """How the sidecars are read and spelled: as the last walk found it, kept in the store between runs."""
        with self._lock:
            if fresh or self._surveyed is None:
                kept = None if fresh else self._store.survey()
                if kept is None:
                    places = [place.sidecars for places in self._index().places.values() for place in places]
                    kept = survey(places, self._bytes)
                    self._store.keep_survey(kept)
                self._surveyed = kept
            return self._surveyed

    def _folder_named(self, index: Index, names: tuple[str, ...]) -> tuple[str, ...]:
        """The sub-folder that `names` means, without regard to case; the folder's own name may stand in front."""
        paths = [folder.parts for folder in index.folders]
        below = names[1:] if names[:1] and names[0].casefold() == self.root.name.casefold() else names
        for wanted in (names, below):
            folded = [part.casefold() for part in wanted]
            alike = [path for path in paths if [part.casefold() for part in path] == folded]
            if alike:
                return wanted if wanted in alike else alike[0]
        there = sorted(shown("/".join(path)) for path in paths if path)
        listed = ", ".join(map(repr, there[:30])) + (f" and {len(there) - 30} more" if len(there) > 30 else "")
        raise LibraryRefused(
            f"no folder {'/'.join(names)!r} in {shown(str(self.root))}: there is {listed or 'no sub-folder'}"
        )

    def _standing(self, index: Index, hash: str) -> list[Place]:
        """The unchanged places of this hash. `LibraryUnreachable` where no picture stands: the drive is not there."""
        standing = [place for place in index.places.get(hash, []) if unchanged(place)]
        if not standing and not any(unchanged(place) for places in index.places.values() for place in places):
            raise LibraryUnreachable(f"no pictures in {shown(str(self.root))}: is its drive connected?")
        return standing

    def _info(self, hash: str, places: list[Place]) -> FileInfo:
        first = places[0]
        mime, imported, path = MIME.get(extension(first.path)), first.mtime_ns / 1e9, shown(first.path)
        info = FileInfo(hash, mime=mime, size=first.size, time_imported=imported, file_path=path)
        try:
            return replace(info, tags=tuple(unique(name for place in places for name in self._names(place))))
        except NotASidecar as error:
            return replace(info, status="unreadable", reason=f"its tags cannot be read: {error}")

    # --- tags in sidecars ----------------------------------------------------------------------------

    def _bytes(self, target: Target) -> bytes | None:
        """What stands at a target now, None for nothing. Raises `NotASidecar`."""
        if target.key is None:
            return bytes_of(self._inside, target.path, forms.largest(target.form))
        return self._table(target.path).record(target.key)

    def _table(self, path: str) -> Table:
        """A table as it is now, read again only when its size or time says so."""
        with self._lock:
            try:
                status = os.stat(self._inside.real(path))
            except OSError as error:
                raise NotASidecar(f"{shown(path)} cannot be read: {error.strerror}") from None
            look = (status.st_size, status.st_mtime_ns)
            if path not in self._tables or self._tables[path][0] != look or time.time_ns() - look[1] < SETTLED:
                self._tables[path] = (look, tables.read(path, bytes_of(self._inside, path, tables.LARGEST) or b""))
            return self._tables[path][1]

    def _decode(self, target: Target, data: bytes, empty: bool = False) -> AnySidecar:
        return forms.decode(target.form, data, self._survey().readings, empty)

    def _sidecars(self, place: Place) -> list[tuple[Target, AnySidecar]]:
        """The sidecars there are for one picture. Raises `NotASidecar` naming the one that cannot be read."""
        found = []
        for target in self._targets(place):
            try:
                data = self._bytes(target)
                if data is not None:
                    found.append((target, self._decode(target, data)))
            except NoTags:
                continue
            except NotASidecar as error:
                path = shown(target.path)
                raise NotASidecar(str(error) if str(error).startswith(path) else f"{path} {error}") from None
        return found

    def _targets(self, place: Place) -> list[Target]:
        """Where the picture's tags stand: what the look through the folder found, and what was made since."""
        found, picture = list(place.sidecars), place.home or place.path
        known = {same_name(target.path) for target in found}
        names = (picture,) if place.stem == "other" else (picture, os.path.splitext(picture)[0])
        own = {name: name == picture or place.stem == "own" for name in names}
        made = [Target(name + ending, ending, own[name]) for name in names for ending in ENDINGS]
        new = (one for one in made if same_name(one.path) not in known)
        found += [one for one in new if os.path.lexists(one.path) and not os.path.isdir(one.path)]

        def order(target: Target) -> tuple[int, bool]:  # files before records of tables, a picture's whole name first
            form = ENDINGS.index(target.form) if target.form in ENDINGS else len(ENDINGS)
            return form, os.path.splitext(target.path)[0].casefold() != picture.casefold()

        return sorted(found, key=order)

    def _names(self, place: Place) -> list[str]:
        return unique(one for _, sidecar in self._sidecars(place) for one in sidecar.names)

    def _places(self, hash: str, service: str) -> list[Place]:
        """The copies that one service key means: all of them, or the one it names."""
        places = self._standing(self._index(wanted=hash), hash)
        if service == SERVICE.key:
            return places
        wanted = {service, service.replace("\\", "/")}  # as older versions wrote it on Windows
        return [place for place in places if self._key(place) in wanted]

    def _key(self, place: Place) -> str:
        return f"{SERVICE.key}:{shown(relative(place.path, str(self.root)))}"

    def _state(self, hash: str, tag: str, service: str) -> str:
        try:
            having = [tag_names.name(tag) in self._names(place) for place in self._places(hash, service)]
        except NotASidecar:
            return protocol.UNKNOWN
        if not having:
            return protocol.UNKNOWN
        return protocol.CURRENT if all(having) else protocol.PARTLY if any(having) else protocol.ABSENT

    def _planned(self, index: Index, change: TagChange) -> list[TagWrite | NoWrite]:
        if change.hash in index.problems:
            return [NoWrite(change, index.problems[change.hash], settled=False)]
        places = self._standing(index, change.hash)
        wanted, tag = change.action == "add", tags.clean(change.tag)
        if not places:
            return [NoWrite(change, "the picture is not in the folder (any more)", settled=False)]
        if not tag:
            return [NoWrite(change, "the tag is empty", settled=False)]
        try:
            differing = [place for place in places if (tag_names.name(tag) in self._names(place)) != wanted]
            for place in differing:
                self._changes(place, [tag] if wanted else [], [] if wanted else [tag])
        except (NotASidecar, CannotEdit) as error:
            return [NoWrite(change, str(error), settled=False)]
        if not differing:
            return [NoWrite(change, "has the tag already" if wanted else "does not have the tag", settled=True)]
        services = [SERVICE.key] if len(differing) == len(places) else [self._key(place) for place in differing]
        before, after = (protocol.ABSENT, protocol.CURRENT) if wanted else (protocol.CURRENT, protocol.ABSENT)
        return [TagWrite(change.hash, tag, service, before, after, change) for service in services]

    # --- writing -------------------------------------------------------------------------------------

    def _written(self, wanted: list[tuple[str, Place, list[str], list[str]]]) -> dict[str, str]:
        """Change the sidecars of these pictures; of one that has several, all or none. Returns why some could not be changed, by hash."""
        reasons: dict[str, str] = {}
        changes: dict[tuple[str, str | None], tuple[str, Edit]] = {}
        for hash, place, add, remove in wanted:
            try:
                for change in self._changes(place, add, remove):
                    changes[change.path, change.key] = (hash, change)
            except (CannotEdit, NotASidecar) as error:
                reasons[hash] = str(error)
        going = [(hash, change) for hash, change in changes.values() if hash not in reasons]
        problems = self._carry_out([change for _, change in going])
        reasons |= {hash: problems[change.path] for hash, change in going if change.path in problems}
        done = [change for hash, change in going if hash in reasons and change.path not in problems]
        self._carry_out([replace(change, old=change.new, new=change.old) for change in done])
        return reasons

    def _wanted(self, writes: Sequence[TagWrite]) -> list[tuple[str, Place, list[str], list[str]]]:
        """(hash, picture file, tags to put in, tags to take out): what does not hold yet of the writes."""
        wanted: dict[str, tuple[str, Place, list[str], list[str]]] = {}
        for write in writes:
            for place in self._places(write.hash, write.service):
                with suppress(NotASidecar):  # its state reads back as unknown, and that is the answer
                    if (tag_names.name(write.tag) in self._names(place)) != (write.after == protocol.CURRENT):
                        _, _, add, remove = wanted.setdefault(place.path, (write.hash, place, [], []))
                        (add if write.after == protocol.CURRENT else remove).append(write.tag)
        return list(wanted.values())

    def _changes(self, place: Place, add: list[str], remove: list[str]) -> list[Edit]:
        """What has to happen to the sidecars of one picture. Raises `CannotEdit` or `NotASidecar` naming the file."""
        there = self._sidecars(place)
        unwanted = {tag_names.name(tag) for tag in remove}
        habit = self._habit(place)
        owned = [(target, set(sidecar.names) - unwanted) for target, sidecar in there if target.own]
        coming_back = {target: self._coming_back(target, names, add) for target, names in owned}
        new = [tag for tag in add if not any(tag in tags for tags in coming_back.values())]
        changes = []
        same = next((sidecar.names for target, sidecar in there if target.own and sidecar.names), None)
        for target, sidecar in there:
            here = unwanted.intersection(sidecar.names)
            if here and not target.own:
                whole = os.path.basename(place.new_sidecar(".txt", True))
                raise CannotEdit(
                    f"{shown(target.path)} belongs to several pictures, and {min(here)!r} in it would go from all of them: "
                    f"give each its own sidecar, like {shown(whole)}"
                )
            first = owned[0][0] if owned else None
            # A trainer makes one table of another, and a table of sidecars.
            both = first is not None and target.own and (target.form == first.form == RECORD or sidecar.names == same)
            adding = coming_back.get(target, []) + (new if target == first or both else [])
            if here or adding:
                changes.append(self._change(target, adding, here, habit))
        if add and not owned:
            path = place.new_sidecar(habit.extension, habit.full_name)
            changes.append(self._change(Target(path, habit.extension), add, set(), habit))
        for change in changes:
            check_writable(self._inside, change)
        return changes

    def _coming_back(self, target: Target, names: set[str], add: Sequence[str]) -> list[str]:
        """Those of the tags to put in that our own writes took out of this very sidecar."""
        wanted = {tag_names.name(tag): tag for tag in add}
        best: set[str] = set()
        real = os.path.realpath(target.path)
        if wanted and os.path.basename(real) == os.path.basename(target.path):
            for version in self._store.versions(self._store.key(real, target.key), self._bytes(target)):
                had = set(self._decode(target, version or b"", empty=True).names)
                if names <= had <= names | wanted.keys() and len(had - names) > len(best):
                    best = had - names
        return [tag for name, tag in wanted.items() if name in best]

    def _change(self, target: Target, add: list[str], remove: set[str], habit: Habit) -> Edit:
        """One sidecar's next content: an earlier version of it where one has just these tags, else an edit of what is there."""
        try:
            real = self._inside.real(target.path)
        except OSError as error:
            raise CannotEdit(f"{shown(target.path)} cannot be written: {error.strerror}") from None
        if os.path.basename(real) != os.path.basename(target.path):
            raise CannotEdit(
                f"{shown(target.path)} is a link to {shown(real)}, which may belong to another picture: make it a file of its own"
            )
        target = replace(target, path=real)
        old, key = self._bytes(target), self._store.key(real, target.key)

        def decode(data: bytes) -> AnySidecar:
            return self._decode(target, data, empty=True)

        def remembered(name: str) -> sidecar_text.Memory | None:
            return next(filter(None, (decode(content).memory(name) for content in self._store.replaced(key))), None)

        try:
            names = set(decode(old or b"").names) - remove | {tag_names.name(tag) for tag in add}
            for version in self._store.versions(key, old):
                if set(decode(version or b"").names) == names:
                    return Edit(real, old, version, target.key)
            family, counted = FAMILY[target.form], self._survey()
            alike = {manner: counted.summed(family, manner) for manner in (True, False)}
            habit = replace(habit, spellings=counted.summed(family), alike=alike)
            new = sidecar_text.edited(old, add, remove, habit, remembered, decode)
            return Edit(real, old, new, target.key)
        except (CannotEdit, NotASidecar) as error:
            raise type(error)(f"{shown(target.path)} {error}") from None

    def _habit(self, place: Place) -> Habit:
        """How the owner writes sidecars, by those in the same folder, or else in the whole library."""
        with self._lock:
            index = self._index()
            folder = os.path.dirname(place.home or place.path)
            if folder not in index.habits:
                here = self._habit_of(index.by_folder.get(folder, []))
                if here is None and "" not in index.habits:
                    everywhere = [one for places in index.by_folder.values() for one in places]
                    index.habits[""] = self._habit_of(everywhere) or Habit()
                index.habits[folder] = here or index.habits[""]
            return index.habits[folder]

    def _habit_of(self, places: list[Place]) -> Habit | None:
        """The habit that up to `HABIT_SAMPLE` of these pictures' sidecars show, spread evenly; None where there is no sidecar."""
        seen: list[AnySidecar] = []
        full: Counter[bool] = Counter()
        endings: Counter[str] = Counter()
        template = b""
        for place in places[:: max(1, len(places) // HABIT_SAMPLE)]:
            with suppress(NotASidecar):
                for target, sidecar in self._sidecars(place):
                    seen.append(sidecar)
                    if target.form == RECORD:
                        continue
                    endings[target.form] += 1
                    name = os.path.splitext(os.path.basename(target.path))[0]
                    full[name.casefold() == os.path.basename(place.home or place.path).casefold()] += 1
                    if target.form == ".json":
                        listed = sidecar.encode().lstrip(sidecar_text.BOM).lstrip()[:1] == b"["
                        template = b"[]" if listed else b'{"tags": []}'
        if not seen:
            return None
        ending = endings.most_common(1)[0][0] if endings else ".txt"
        whole, template = full[True] >= full[False], template if ending == ".json" else b""
        usual = Habit("\n" if whole else ", ", full_name=whole, extension=ending, template=template)
        return replace(sidecar_text.habit_of(seen, usual), capitals=sidecar_text.capitals_of(seen))

    def _carry_out(self, changes: list[Edit]) -> dict[str, str]:
        """Replace the sidecars, after every version to be replaced is safe in the store. Returns what went wrong, by path."""
        problems: dict[str, str] = {}
        if changes:
            key = self._store.key
            self._store.keep_versions([(key(change.path, change.key), change.old, change.new) for change in changes])
        folders = {os.path.dirname(change.path) for change in changes}
        for folder in folders:
            with suppress(OSError), self._inside.folder(folder) as at:
                sweep(at)
        for edit in self._files(changes, problems):
            try:
                replace_file(self._inside, edit)
            except (CannotEdit, NotASidecar) as error:
                problems[edit.path] = str(error)
            except OSError as error:
                problems[edit.path] = f"{shown(edit.path)} could not be written: {error.strerror}"
        for folder in folders:
            with self._inside.folder(folder) as at:
                at.sync()
        return problems

    def _files(self, changes: list[Edit], problems: dict[str, str]) -> Iterator[Edit]:
        """The files to replace: a table once, with all its changed records."""
        records: dict[str, dict[str, Edit]] = {}
        for change in changes:
            if change.key is None:
                yield change
            else:
                records.setdefault(change.path, {})[change.key] = change
        for path, by_key in records.items():
            try:
                old = bytes_of(self._inside, path, tables.LARGEST)
                table = tables.read(path, old or b"")
                if any(table.record(key) != change.old for key, change in by_key.items()):
                    raise CannotEdit(f"{shown(path)} was changed by another program just now: try again")
                yield Edit(path, old, table.changed({key: change.new or b"" for key, change in by_key.items()}))
            except (CannotEdit, NotASidecar) as error:
                problems[path] = str(error)
