"""Which library a run works on, and opening it.

The name is "hydrus" or the path of a folder. Where the owner gives none, the mapping that the
first stage wrote says which library it walked, so that the later stages and the page follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagcheck import data_folder, files, script
from tagcheck.data_folder import MAPPING, DataFolder
from tagcheck.errors import BadFile, MissingInput
from tagcheck.library.protocol import Library

HYDRUS = "hydrus"


@dataclass(frozen=True)
class LibrarySettings:
    """What the settings say about libraries: see config.py for each."""

    name: str
    url: str
    key: str
    tag_services: Sequence[str] = ()
    machine_services: Sequence[str] = ()
    write_service: str | None = None

    @classmethod
    def of(cls, config: Any, args: Any) -> LibrarySettings:
        """From a module, or anything else, with config.py's names on it, and what the options of a script choose (`script.add_services`)."""
        machine = getattr(args, "machine_tag_service", None) or config.MACHINE_TAG_SERVICES
        write = getattr(args, "write_tag_service", None) or config.WRITE_TAG_SERVICE
        return cls(config.LIBRARY, config.API_URL, config.API_KEY, config.TAG_SERVICES, machine, write)


def library_name(given: str | None, folder: DataFolder, settings: LibrarySettings) -> str:
    """`given`, else the library of the newest mapping in the data folder, else the configured one."""
    path, library = (None, {}) if given else _mapping(folder)
    if given or path is None:
        return given or settings.name
    if library.get("type") == HYDRUS:
        return HYDRUS
    if library.get("type") == "folder" and isinstance(library.get("path"), str):
        return str(library["path"])
    raise BadFile(f"{path}: 'library' says neither hydrus nor a folder with its path: name one with --library")


def open_library(
    name: str,
    folder: DataFolder,
    settings: LibrarySettings,
    follow_mapping: bool = True,
    tell: Callable[[str], None] | None = None,
    exclude: Sequence[str] = (),
) -> Library:
    """The library called `name`. A folder must exist (`MissingInput`); a Hydrus client is first asked when it is first used.

    With `follow_mapping`, the tag services that the first stage was told to count hold here too,
    unless the settings name some, and so do the patterns of what it left out of a folder (`exclude`). `tell` gets a line now and then about what is waited for.
    """
    # Each is loaded here, since a run that opens no library would wait a third of a second for both.
    if name == HYDRUS:
        from tagcheck.library.hydrus.client import Hydrus

        chosen = settings.tag_services or (_mapped(folder, "tag_services", HYDRUS) if follow_mapping else ())
        writing, machine = settings.write_service, settings.machine_services
        services: dict[str, Any] = {"tag_services": chosen, "machine_services": machine, "write_service": writing}
        return Hydrus(settings.url, settings.key, **services, tell=tell)
    from tagcheck.library.folder import known_hashes
    from tagcheck.library.folder.library import FolderLibrary

    root = files.named(name, "--library")
    if not root.is_dir():
        raise MissingInput(f"no folder {root}: --library takes 'hydrus' or a folder of pictures")
    progress = (lambda done, total: tell(f"hashed {done:,} of {total:,} new files")) if tell else None
    left_out = exclude or (_mapped(folder, "exclude", "folder") if follow_mapping else ())
    store = folder.root / "folder.sqlite3"
    known_hashes.start(store, tell or script.say)
    return FolderLibrary(root.resolve(), store=store, progress=progress, exclude=left_out)


def mapped_library(folder: DataFolder, config: Any, args: Any, tell: Callable[[str], None] | None) -> Library:
    """The library that the options `args` name (--library), else the one that was mapped, with the settings of `config`."""
    settings = LibrarySettings.of(config, args)
    name = library_name(getattr(args, "library", None), folder, settings)
    return open_library(name, folder, settings, tell=tell)


def _mapping(folder: DataFolder) -> tuple[Path | None, Mapping[str, Any]]:
    """The newest mapping, and what it says of its library."""
    path = folder.newest(MAPPING)
    library = data_folder.load(path, MAPPING).get("library") if path else None
    return path, library if isinstance(library, Mapping) else {}


def _mapped(folder: DataFolder, key: str, kind: str) -> Sequence[str]:
    """What the newest mapping of this kind of library was told under `key`, () where it was told nothing."""
    path, library = _mapping(folder)
    told = library.get(key, ()) if library.get("type") == kind else ()
    if not isinstance(told, (list, tuple)) or not all(isinstance(one, str) for one in told):
        raise BadFile(f"{path}: {key!r} of 'library' is not a list of texts: run {MAPPING.made_by} again")
    return told
