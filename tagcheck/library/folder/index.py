"""What one look through a folder finds: its pages, where each picture lies, and where its tags stand."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from tagcheck.library.folder import scan, tables
from tagcheck.library.folder.forms import RECORD, Target
from tagcheck.library.folder.inside import Inside
from tagcheck.library.folder.known_hashes import FolderStore
from tagcheck.library.folder.scan import Folder, Place, stand_in
from tagcheck.library.folder.sidecar_files import bytes_of
from tagcheck.library.folder.sidecar_text import Habit, NotASidecar

Progress = Callable[[int, int], None]  # told (done, total) while files are hashed
SETTLED = 2_000_000_000  # ns: a file younger than this may still change without its time stamp showing it


@dataclass
class Index:
    """What one look through the folder found. `problems` maps a stand-in hash to why that file has no real one."""

    pages: list[tuple[tuple[str, ...], list[str]]] = field(default_factory=list)
    places: dict[str, list[Place]] = field(default_factory=dict)
    by_folder: dict[str, list[Place]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    folders: list[Folder] = field(default_factory=list)
    habits: dict[str, Habit] = field(default_factory=dict)
    bad_tables: dict[str, str] = field(default_factory=dict)
    unclaimed: int = 0  # records of tables that are of no picture here
    damaged: int = 0  # lines of tables that are no records
    looked: float = 0.0


def look(inside: Inside, store: FolderStore, exclude: Sequence[str], progress: Progress | None) -> Index:
    """Look through the folder; files that did not change keep the hash that the store knows."""
    index = Index(folders=list(scan.each_folder(inside, exclude)))
    linked(index.folders)
    _with_records(inside, index)
    places = [place for folder in index.folders for place in folder.places]
    hashes, problems = _hashes(inside, store, places, progress)
    for folder in index.folders:
        on_page = [hashes[place.path] for place in folder.places]
        if folder.problem:
            on_page = [stand_in(os.path.join(inside.root, *folder.parts))]
            index.problems[on_page[0]] = folder.problem
        if on_page:
            index.pages.append((folder.parts, on_page))
    for place in places:
        hash = hashes[place.path]
        if place.path in problems:
            index.problems[hash] = problems[place.path]
        else:
            index.places.setdefault(hash, []).append(place)
            index.by_folder.setdefault(os.path.dirname(place.path), []).append(place)
    index.looked = time.monotonic()
    return index


def linked(folders: Sequence[Folder]) -> None:
    """Let a linked picture (symbolic or hard) share the sidecars of the file that it is, unless it has some that are no links to these."""
    homes: dict[tuple[int, int], Place] = {}
    every = [place for folder in folders for place in folder.places if place.file != (0, 0)]
    for place in sorted(every, key=lambda place: (not place.sidecars, place.link)):
        homes.setdefault(place.file, place)
    for folder in folders:
        for number, place in enumerate(folder.places):
            home = homes.get(place.file, place)
            theirs = {target.path for target in home.sidecars}
            if home.path != place.path and all(os.path.realpath(one.path) in theirs for one in place.sidecars):
                shared = replace(place, sidecars=home.sidecars, home=home.home or home.path, stem=home.stem)
                folder.places[number] = shared


def _with_records(inside: Inside, index: Index) -> None:
    """Give each picture the records of tables that are about it."""
    paths = [path for folder in index.folders for path in folder.tables]
    if not paths:
        return
    finder = tables.Finder([place.path for folder in index.folders for place in folder.places])
    found: dict[str, list[Target]] = {}
    for path in paths:
        try:
            table = tables.read(path, bytes_of(inside, path, tables.LARGEST) or b"")
        except NotASidecar as error:
            index.bad_tables[path] = str(error)
            continue
        index.damaged += table.damaged
        for key in table.records:
            pictures = finder.find(os.path.dirname(path), key)
            index.unclaimed += not pictures
            for picture in pictures:
                found.setdefault(picture, []).append(Target(path, RECORD, len(pictures) == 1, key))
    for folder in index.folders:
        folder.places[:] = [
            replace(place, sidecars=(*place.sidecars, *found[place.path])) if place.path in found else place
            for place in folder.places
        ]


def _hashes(
    inside: Inside, store: FolderStore, places: list[Place], progress: Progress | None
) -> tuple[dict[str, str], dict[str, str]]:
    """The hash of each path, and why for those that only get a stand-in."""
    known = store.hashes()
    same = [one for one in places if known.get(one.path, (None,))[:2] == (one.size, one.mtime_ns)]
    hashes, problems = {place.path: known[place.path][2] for place in same}, dict[str, str]()
    new = [place for place in places if place.path not in hashes]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(new), 500):
            part = new[start : start + 500]
            for place, (hash, problem) in zip(part, pool.map(partial(scan.hash_of, inside), part)):
                hashes[place.path] = hash
                if problem:
                    problems[place.path] = problem
            youngest = time.time_ns() - SETTLED
            settled = [place for place in part if place.path not in problems and place.mtime_ns < youngest]
            rows = [(place.path, place.size, place.mtime_ns, hashes[place.path]) for place in settled]
            store.keep_hashes(rows)
            if progress:
                progress(start + len(part), len(new))
    store.forget_hashes(set(known) - {place.path for place in places})
    return hashes, problems
