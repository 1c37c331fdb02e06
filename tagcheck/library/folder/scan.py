"""Looking through a folder of pictures: which files count, whose a sidecar is, and what a file's hash is."""

import errno
import hashlib
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tagcheck.library.folder import exclusion
from tagcheck.library.folder.exclusion import Rule
from tagcheck.library.folder.forms import ENDINGS, Target
from tagcheck.library.folder.inside import LEAVES, Inside, OpenFolder
from tagcheck.library.folder.tables import is_table

_SAME_NAME = "png apng gif webp bmp tiff avif heic heif jxl jp2 qoi jpeg"  # endings that their kind is called by
MIME = {ending: f"image/{ending}" for ending in _SAME_NAME.split()}
MIME |= dict.fromkeys(("jpg", "jpe", "jfif"), "image/jpeg") | {"dib": "image/bmp", "tif": "image/tiff"}
MIME |= {"svg": "image/svg+xml", "psd": "image/vnd.adobe.photoshop", "ico": "image/x-icon", "tga": "image/x-tga"}
MIME |= {"mp4": "video/mp4", "m4v": "video/mp4", "webm": "video/webm", "mpg": "video/mpeg", "mpeg": "video/mpeg"}
MIME |= {"mkv": "video/x-matroska", "mov": "video/quicktime", "flv": "video/x-flv"}
MIME |= {"avi": "video/x-msvideo", "wmv": "video/x-ms-wmv"}
OWN_FOLDERS = frozenset({"mappings", "datasets", "advanced_embeddings", "series_classifier", "reports", "cache"})
DATA_FOLDER_SIGNS = frozenset({"review.sqlite3", "folder.sqlite3", "advanced_embeddings", "mappings"})
FOREIGN_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "#recycle", "lost+found", "System Volume Information")
# Beside pictures, and never tags.
SIDE_DATA = frozenset(["npz", "npy", "pt", "safetensors", "bak", "tmp", "aae", "db", "lock", "part"])
OTHER_TABLES = frozenset([".csv", ".tsv", ".jsonl", ".parquet", ".arrow"])  # which may hold tags and are not read
# Which may hold pictures and their tags, and are not read.
ARCHIVES = frozenset([".tar", ".zip", ".7z", ".rar", ".tgz"])
FORBIDDEN = os.stat_result((0,) * 10)
OUTSIDE = os.stat_result(
    (0,) * 10
)  # another one: a link that leads out of the library, a path too long for Windows, a failing disk


@dataclass(frozen=True)
class Place:
    """One picture file: its path, its size, time and `file` (device and number) when it was looked at, and its sidecars.

    `stem` says whose a sidecar without the picture's ending (`picture.txt`) would be: "own", "shared" with another
    picture of that stem, or "other" when that name is a whole picture's own sidecar (`cat.jpg.txt` beside `cat.jpg.png`).
    """

    path: str
    size: int
    mtime_ns: int
    stem: str = "own"
    sidecars: tuple[Target, ...] = ()
    file: tuple[int, int] = (0, 0)
    link: bool = False
    home: str = ""  # of a link: the path of the picture whose sidecars it shares

    def new_sidecar(self, extension: str, full_name: bool) -> str:
        """Where a sidecar that has to be made would stand."""
        path = self.home or self.path
        return (path if full_name or self.stem != "own" else os.path.splitext(path)[0]) + extension


@dataclass
class Folder:
    """One folder: its pictures, or the `problem` why it cannot be looked into; the tables in it; and what was seen there
    and cannot be read: `unread` sidecars by the ending of their names, `unclaimed` ones that belong to no picture.
    """

    parts: tuple[str, ...]
    places: list[Place] = field(default_factory=list)
    problem: str | None = None
    tables: list[str] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    unclaimed: int = 0
    excluded: int = 0


def each_folder(inside: Inside, exclude: Sequence[str] = ()) -> Iterator[Folder]:
    """Each folder once: first the real tree, then what links lead to; a loop ends where it began."""
    seen: set[tuple[int, int]] = set()
    links: list[tuple[tuple[str, ...], str, list[Rule]]] = []
    stack: list[tuple[tuple[str, ...], str, list[Rule]]] = [((), inside.root, exclusion.rules(exclude))]
    while stack or links:
        if not stack:
            stack.append(links.pop(0))
        parts, path, rules = stack.pop()
        folder = Folder(parts)
        try:
            with inside.folder(path) as at:
                status = os.stat(at.path if at.handle is None else at.handle)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                below, rules = _look(inside, at, folder, rules)
        except OSError as error:
            folder.problem = f"the folder {shown(path)} cannot be looked into ({error.strerror})"
            below = []
        inner = [((*parts, entry.name), os.path.join(path, entry.name), rules) for entry in below]
        stack += [one for one, entry in zip(inner, below) if not entry.is_symlink()][::-1]
        links += [one for one, entry in zip(inner, below) if entry.is_symlink()]
        yield folder


def _look(
    inside: Inside, at: OpenFolder, folder: Folder, rules: list[Rule]
) -> tuple[list[os.DirEntry[str]], list[Rule]]:
    """Note down what one folder has. Returns the folders in it that are to be looked into, and the rules that hold there."""
    entries = at.entries()
    names = {entry.name for entry in entries}
    base = "".join(part + "/" for part in folder.parts)
    if exclusion.FILE in names:
        with suppress(OSError):
            own = inside.file(os.path.join(at.path, exclusion.FILE))
            with open(own, encoding="utf-8-sig", errors="replace") as lines:
                rules = rules + exclusion.rules(lines, base)
    kept = [one for one in entries if not (rules and exclusion.excluded(rules, base + one.name, _is_folder(one)))]
    folder.excluded = len(entries) - len(kept)
    _fill(inside, at, folder, kept)
    passed = {*FOREIGN_FOLDERS, *(() if DATA_FOLDER_SIGNS.isdisjoint(names) else OWN_FOLDERS)}
    below = [one for one in kept if not one.name.startswith(".") and one.name not in passed and _is_folder(one)]
    return below, rules


def same_name(name: str) -> str:
    """What two names have in common that mean one file to people, and to the systems that do not tell case apart."""
    return unicodedata.normalize("NFC", name).casefold()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle by itself
        return False


def _fill(inside: Inside, at: OpenFolder, folder: Folder, entries: list[os.DirEntry[str]]) -> None:
    """Note down the pictures among one folder's entries, each with its sidecars, and what else stands beside them.

    A sidecar belongs to the pictures that it is called after to the letter; where there is none, to those whose name
    differs in case or Unicode form alone. A link that leads nowhere is no picture.
    """
    pictures = [entry for entry in entries if not entry.name.startswith(".") and extension(entry.name) in MIME]
    paths = {entry.name: os.path.join(at.path, entry.name) for entry in entries}
    looked = ((entry.name, _status(inside, entry, paths[entry.name])) for entry in pictures)
    stats = {name: status for name, status in looked if status is not None}
    if stats and all(status is FORBIDDEN for status in stats.values()):
        folder.problem = f"the folder {shown(at.path)} can be listed and not entered"
        return
    names = list(stats)
    owners = _Owners(names)
    mine: dict[str, list[tuple[int, bool, Target]]] = {name: [] for name in names}
    for entry in entries:
        name, ending = os.path.splitext(entry.name)
        if entry.name in stats or entry.name.startswith(".") or extension(entry.name) in MIME or _is_folder(entry):
            continue
        claimed, full = owners.of(name)
        if ending.lower() in ENDINGS and claimed:
            for owner in claimed:
                target = Target(paths[entry.name], ending.lower(), own=full or len(claimed) == 1)
                mine[owner].append((ENDINGS.index(ending.lower()), not full, target))
        elif is_table(entry.name):
            folder.tables.append(paths[entry.name])
        elif ending.lower() in ENDINGS:
            folder.unclaimed += 1
        elif ending.lower() in OTHER_TABLES | ARCHIVES or (claimed and ending and ending[1:].lower() not in SIDE_DATA):
            folder.unread[ending.lower()] += 1
    for entry in pictures:
        if entry.name in stats:
            targets = tuple(target for _, _, target in sorted(mine[entry.name], key=lambda one: one[:2]))
            status = stats[entry.name]
            looks = (status.st_size, status.st_mtime_ns)
            if status is FORBIDDEN or status is OUTSIDE:
                looks = (1, 0)  # a size that is not 0, so that it is opened and says why not
            file = (status.st_dev, status.st_ino)
            whose = owners.stem(entry.name)
            folder.places.append(Place(paths[entry.name], *looks, whose, targets, file, entry.is_symlink()))


def _status(inside: Inside, entry: os.DirEntry[str], path: str) -> os.stat_result | None:
    """What the system says of a file, `FORBIDDEN` or `OUTSIDE` where the system does not say, None for what is not a file."""
    try:
        status = inside.status(entry, path)
    except PermissionError:
        return FORBIDDEN
    except OSError as error:
        nothing = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) and error.strerror != LEAVES
        return None if nothing else OUTSIDE
    return status if stat.S_ISREG(status.st_mode) else None


class _Owners:
    """Which of a folder's pictures a sidecar of some name belongs to."""

    def __init__(self, names: list[str]) -> None:
        self.names = set(names)
        self.stems: dict[str, list[str]] = {}
        self.like: dict[str, list[str]] = {}
        self.stems_like: dict[str, list[str]] = {}
        for name in names:
            stem = os.path.splitext(name)[0]
            self.stems.setdefault(stem, []).append(name)
            self.like.setdefault(same_name(name), []).append(name)
            self.stems_like.setdefault(same_name(stem), []).append(name)

    def of(self, name: str) -> tuple[list[str], bool]:
        """The pictures that a sidecar called `name` and an ending belongs to, and whether it has a picture's whole name."""
        if name in self.names:
            return [name], True
        if name in self.stems:
            return self.stems[name], False
        like = same_name(name)
        if like in self.like:
            return self.like[like], len(self.like[like]) == 1
        return self.stems_like.get(like, []), False

    def stem(self, name: str) -> str:
        """Whose the sidecar without the picture's ending is, see `Place`."""
        stem = os.path.splitext(name)[0]
        if same_name(stem) in self.like:
            return "other"
        return "shared" if len(self.stems_like[same_name(stem)]) > 1 else "own"


def hash_of(inside: Inside, place: Place) -> tuple[str, str | None]:
    """(SHA-256 of the file, None), or a stand-in made from the path and why the file cannot be read."""
    try:
        with open(inside.file(place.path), "rb") as file:
            if place.size:
                return hashlib.file_digest(file, "sha256").hexdigest(), None
        problem = "is empty (0 bytes)"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    return stand_in(place.path), f"{shown(place.path)} {problem}"


def stand_in(path: str) -> str:
    """What stands for the hash of something that cannot be read, so that it still is a row that says so."""
    return hashlib.sha256(b"cannot be read: " + os.fsencode(path)).hexdigest()


def unchanged(place: Place) -> bool:
    try:
        status = os.stat(place.path)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (place.size, place.mtime_ns)


def extension(name: str) -> str:
    return os.path.splitext(name)[1][1:].lower()


def shown(path: str) -> str:
    """A path as text that any file may hold: bytes that are not UTF-8 are written `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
