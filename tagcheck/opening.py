"""Which library a run works on, and opening it.

The name is "hydrus" or the path of a folder. Where the owner gives none, the mapping that the
first stage wrote says which library it walked, so that the later stages and the page follow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagcheck import artifacts
from tagcheck.artifacts import MAPPING, DataFolder
from tagcheck.errors import BadFile, MissingInput
from tagcheck.folder import FolderLibrary
from tagcheck.hydrus import Hydrus
from tagcheck.library import Library

HYDRUS = "hydrus"


@dataclass(frozen=True)
class LibrarySettings:
    """What config.py says about libraries, handed on by a script."""

    name: str
    url: str
    key: str
    tag_services: Sequence[str] = ()
    machine_services: Sequence[str] = ()
    write_service: str | None = None


def library_name(given: str | None, folder: DataFolder, settings: LibrarySettings) -> str:
    """`given`, else the library of the newest mapping in the data folder, else the configured one."""
    if given:
        return given
    path = folder.newest(MAPPING)
    if path is None:
        return settings.name
    return _mapped_library(path, artifacts.load(path, MAPPING).get("library"))


def open_library(name: str, folder: DataFolder, settings: LibrarySettings) -> Library:
    """The library called `name`. A folder must exist (`MissingInput`); a Hydrus client is first asked when it is first used."""
    if name == HYDRUS:
        return Hydrus(
            settings.url, settings.key, tag_services=settings.tag_services,
            machine_services=settings.machine_services, write_service=settings.write_service,
        )
    root = Path(name).expanduser()
    if not root.is_dir():
        raise MissingInput(f"no folder {root}: --library takes 'hydrus' or a folder of pictures")
    return FolderLibrary(root.resolve(), store=folder.root / "folder.sqlite3")


def _mapped_library(path: Path, library: object) -> str:
    if isinstance(library, Mapping) and library.get("type") == HYDRUS:
        return HYDRUS
    if isinstance(library, Mapping) and library.get("type") == "folder" and isinstance(library.get("path"), str):
        return library["path"]
    raise BadFile(f"{path}: 'library' says neither hydrus nor a folder with its path: name one with --library")
