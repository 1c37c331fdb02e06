"""Looking through a folder of pictures: which files count, whose a sidecar is, and what a file's hash is."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

MIME = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "jpe": "image/jpeg",
    "jfif": "image/jpeg",
    "png": "image/png",
    "apng": "image/apng",
    "gif": "image/gif",
    "webp": "image/webp",
    "bmp": "image/bmp",
    "dib": "image/bmp",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "avif": "image/avif",
    "heic": "image/heic",
    "heif": "image/heif",
    "jxl": "image/jxl",
    "jp2": "image/jp2",
    "svg": "image/svg+xml",
    "psd": "image/vnd.adobe.photoshop",
    "ico": "image/x-icon",
    "tga": "image/x-tga",
    "qoi": "image/qoi",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "avi": "video/x-msvideo",
    "wmv": "video/x-ms-wmv",
    "flv": "video/x-flv",
    "mpg": "video/mpeg",
    "mpeg": "video/mpeg",
}
OWN_FOLDERS = frozenset({"mappings", "datasets", "advanced_embeddings", "series_classifier", "reports", "cache"})
DATA_FOLDER_SIGNS = frozenset({"review.sqlite3", "folder.sqlite3", "advanced_embeddings", "mappings"})
FOREIGN_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "#recycle", "lost+found", "System Volume Information"}
)


@dataclass(frozen=True)
class Place:
    """One picture file: its path, its size and time when it was hashed, and where its sidecars are or would be.

    `stem` says whose `stem_sidecar` is: "own", "shared" with another picture of that stem, or
    "other" when that name is a whole picture's own sidecar (`cat.jpg.txt` beside `cat.jpg.png`).
    """

    path: str
    size: int
    mtime_ns: int
    full_sidecar: str  # picture.jpg.txt
    stem_sidecar: str  # picture.txt
    stem: str = "own"

    @property
    def sidecars(self) -> tuple[str, ...]:
        """The paths where its tags may stand."""
        return (self.full_sidecar,) if self.stem == "other" else (self.full_sidecar, self.stem_sidecar)


def each_folder(root: str) -> Iterator[tuple[tuple[str, ...], list[Place], str | None]]:
    """Each folder once, with its pictures, or why it cannot be looked into: first the real tree, then what links
    lead to; a loop ends where it began.
    """
    seen: set[tuple[int, int]] = set()
    links: list[tuple[tuple[str, ...], str]] = []
    stack: list[tuple[tuple[str, ...], str]] = [((), root)]
    while stack or links:
        if not stack:
            stack.append(links.pop(0))
        parts, path = stack.pop()
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            yield parts, [], f"the folder {shown(path)} cannot be looked into ({error.strerror})"
            continue
        names = {entry.name for entry in entries}
        data_folder = not DATA_FOLDER_SIGNS.isdisjoint(names)
        below = [
            entry
            for entry in entries
            if not entry.name.startswith(".")
            and entry.name not in FOREIGN_FOLDERS
            and _is_folder(entry)
            and not (data_folder and entry.name in OWN_FOLDERS)
        ]
        stack += [((*parts, entry.name), entry.path) for entry in reversed(below) if not entry.is_symlink()]
        links += [((*parts, entry.name), entry.path) for entry in below if entry.is_symlink()]
        yield parts, _pictures(entries, names), None


def _same_name(name: str) -> str:
    """What two names have in common that are one file: on Windows and macOS `A.txt` and `a.txt` are."""
    return name.casefold() if sys.platform in ("win32", "darwin") else name


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle by itself
        return False


def _pictures(entries: list[os.DirEntry], names: set[str]) -> list[Place]:
    """The pictures among one folder's entries. A link that leads nowhere is none."""
    pictures = [entry for entry in entries if not entry.name.startswith(".") and extension(entry.name) in MIME]
    owners = Counter(_same_name(os.path.splitext(entry.name)[0]) for entry in pictures)
    whole = {_same_name(entry.name) for entry in pictures}
    found = []
    for entry in pictures:
        try:
            if not entry.is_file():
                continue
            status = entry.stat()
        except OSError:
            continue
        stem = os.path.splitext(entry.name)[0]
        folder = os.path.dirname(entry.path)
        full_sidecar, stem_sidecar = (
            os.path.join(folder, name + (".TXT" if name + ".TXT" in names and name + ".txt" not in names else ".txt"))
            for name in (entry.name, stem)
        )
        whose = "other" if _same_name(stem) in whole else "shared" if owners[_same_name(stem)] > 1 else "own"
        found.append(Place(entry.path, status.st_size, status.st_mtime_ns, full_sidecar, stem_sidecar, whose))
    return found


def hash_of(place: Place) -> tuple[str, str | None]:
    """(SHA-256 of the file, None), or a stand-in made from the path and why the file cannot be read."""
    try:
        with open(place.path, "rb") as file:
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
