"""Is everything ready? One line a thing: fine, a warning with what it costs, or a problem with the way out.

    python config.py --check
    python config.py --check --data-dir ~/tags --library ~/Pictures

It looks and never changes anything: no page is refreshed, nothing is fetched, nothing is written.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tagcheck import files, script
from tagcheck.data_folder import DATASET, MAPPING, DataFolder
from tagcheck.embedding import download, joytag_network, tagger
from tagcheck.errors import LibraryError, LibraryRefused, MissingInput, ToolError
from tagcheck.library import LibrarySettings, open_library
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.library.hydrus.client import OLDEST_TO_WRITE, Hydrus
from tagcheck.library.hydrus.connection import (
    DATABASE,
    EDIT_TAGS,
    PAGES,
    PERMISSIONS,
    POPUPS,
    RELATIONSHIPS,
    SEARCH,
    WHERE_KEYS_ARE,
)
from tagcheck.plural import plural

OK, WARNING, PROBLEM = "ok", "warning", "problem"
LITTLE_SPACE = 2 * 10**9  # bytes: a million pictures' embeddings are 1.5 GB

NEEDED_TO_READ = (SEARCH, PAGES)
COST = {
    SEARCH: "no picture and no tag can be read",
    PAGES: "no page can be mapped (a search can, with --search)",
    EDIT_TAGS: "accepted changes cannot be written, and your siblings and parents are not known",
    DATABASE: "Hydrus cannot be asked to save at once, and a change is confirmed a minute after it was written",
    RELATIONSHIPS: "near-duplicates cannot be handed to Hydrus, and what was judged there is not known",
    POPUPS: "no progress is shown inside Hydrus",
}


@dataclass(frozen=True)
class Check:
    """One thing looked at: `level` "ok", "warning" or "problem"; `says` in words; `exit_code` of a problem."""

    level: str
    what: str
    says: str
    exit_code: int = 0

    def line(self) -> str:
        return f"{self.level:8} {self.what}: {self.says}"


def main(config: Any, argv: Sequence[str] | None = None) -> int:
    """Print every check; 0 when there is no problem, else the exit code that a stage would end with."""
    parser = script.parser(__doc__)
    script.add_library(parser, "LIBRARY in config.py")
    what = "look whether everything is ready, and say what is not"
    parser.add_argument("--check", action="store_true", required=True, help=what)
    script.add_services(parser)
    args = parser.parse_args(argv)
    settings = LibrarySettings.of(config, args)
    settings = replace(settings, name=args.library or settings.name)
    found = []
    for check in checks(script.data_folder(args, look=True), settings, config.ROOT_PAGE, config.MODEL_DIR):
        print(check.line(), flush=True)
        found.append(check)
    return next((check.exit_code for check in found if check.level == PROBLEM), 0)


def checks(folder: DataFolder, settings: LibrarySettings, root_page: str, model_dir: str | None) -> Iterator[Check]:
    """Everything that a run needs, in the order in which it will be needed."""
    yield from data_folder(folder)
    yield from library(folder, settings, root_page)
    yield from model_files(model_dir)
    yield from machine()


def data_folder(folder: DataFolder) -> Iterator[Check]:
    """The shared folder: is it there, can it be written, is there room, what is in it."""
    what, another = "data folder", "another with --data-dir or DATASET_DIR"
    if not folder.root.is_dir():
        says = f"no data folder {folder.root}: {MAPPING.made_by} makes it, or name {another}"
        yield Check(PROBLEM, what, says, MissingInput.exit_code)
        return
    if not os.access(folder.root, os.W_OK):
        yield Check(PROBLEM, what, f"{folder.root} cannot be written to: choose {another}", 1)
        return
    free = shutil.disk_usage(folder.root).free
    low = ": a million embeddings take 1.5 GB, free some space" if free < LITTLE_SPACE else ""
    yield Check(WARNING if low else OK, what, f"{folder.root}, {free / 1e9:.1f} GB free{low}")
    for kind in (MAPPING, DATASET):
        newest = folder.newest(kind)
        yield Check(OK, kind.name.replace("_", " "), newest.name if newest else f"none yet: {kind.made_by} makes it")


def library(folder: DataFolder, settings: LibrarySettings, root_page: str) -> Iterator[Check]:
    """The library that the settings name."""
    try:
        opened = open_library(settings.name, folder, settings)
        if isinstance(opened, Hydrus):
            yield from hydrus(opened, root_page)
        elif isinstance(opened, FolderLibrary):
            yield from pictures(opened)
    except ToolError as error:
        yield Check(PROBLEM, "library", str(error), error.exit_code)


def pictures(opened: FolderLibrary) -> Iterator[Check]:
    """A folder of pictures: how many there are."""
    walk = opened.walk([])
    hashes = {hash for page in walk.pages for hash in page.hashes}
    path = opened.describe()["path"]
    if hashes:
        yield Check(OK, "library", f"{path}, {plural(len(hashes), 'picture')} in {plural(len(walk.pages), 'folder')}")
    else:
        yield Check(PROBLEM, "library", f"no pictures in {path}: name another folder", MissingInput.exit_code)


def hydrus(opened: Hydrus, root_page: str) -> Iterator[Check]:
    """A Hydrus client: its version, what the key may do, the tag services, the page to map."""
    about = opened.describe()
    yield Check(OK, "library", f"Hydrus v{about['hydrus_version']}, API {about['api_version']}, at {about['url']}")
    if (about["hydrus_version"] or 0) < OLDEST_TO_WRITE:
        yield Check(WARNING, "library", f"it is read, not written to: update it to v{OLDEST_TO_WRITE} or newer")
    name, numbers = opened.permissions()
    for number, words in PERMISSIONS.items():
        if number in numbers:
            yield Check(OK, "permission", words)
            continue
        level = PROBLEM if number in NEEDED_TO_READ else WARNING
        says = f"{words}: missing from the key {name!r}, so {COST[number]}; {WHERE_KEYS_ARE}"
        yield Check(level, "permission", says, LibraryRefused.exit_code if level == PROBLEM else 0)
    if some := opened.key_filter():
        says = f"the key {name!r} sees some files only ({some}), so that most questions are refused: give it a search"
        says += f" permission without a tag filter, {WHERE_KEYS_ARE}"
        yield Check(PROBLEM, "permission", says, LibraryRefused.exit_code)
    yield Check(OK, "tags that count", ", ".join(about["counted"]) or "none")
    if writable := opened.services():
        yield Check(OK, "tags are written to", f"{writable[0].name} ({writable[0].kind})")
    if PAGES in numbers:
        yield from _page(opened, root_page)


def _page(opened: Hydrus, root_page: str) -> Iterator[Check]:
    try:
        walk = opened.walk([root_page])
    except LibraryError as error:
        yield Check(PROBLEM, "page", str(error), error.exit_code)
        return
    count = len({hash for page in walk.pages for hash in page.hashes})
    says = f"{root_page!r}: {plural(count, 'file')} on {plural(len(walk.pages), 'page')}"
    yield Check(OK, "page", says) if count else Check(WARNING, "page", f"{says}, so there is nothing to map")


def model_files(model_dir: str | None) -> Iterator[Check]:
    """The tagger's files: there and whole, or what will happen."""
    where = files.named(str(model_dir), "--model-dir") if model_dir else download.FOLDER
    if model_dir is None and not all((where / name).is_file() for name in download.FILES):
        says = f"not here yet: the first extraction fetches it from the hub (370 MB); {download.WAY_OUT}"
        yield Check(WARNING, "model", says)
        return
    try:
        network = tagger.load(where, "cpu").network
        yield Check(OK, "model", f"{where}, {network.name} {network.sha256[:12]}, whole")
    except ToolError as error:
        yield Check(PROBLEM, "model", str(error), error.exit_code)


def machine() -> Iterator[Check]:
    """The device, the precision and the batch size that extraction will choose."""
    device = tagger.choose_device("auto")
    name = tagger.device_name(device) or f"the processor ({plural(torch.get_num_threads(), 'thread')})"
    precision = joytag_network.fast_precision(device)
    slow = device.type == "cpu" and precision == "float32"
    batch = tagger.default_batch_size(device, torch.get_num_threads())
    says = f"{name}, {precision}, batches of {batch}, PyTorch {torch.__version__}"
    cost = ": no bfloat16 here, so extraction takes twice as long or more" if slow else ""
    yield Check(WARNING if slow else OK, "device", says + cost)
    if overlooked := tagger.overlooked_gpu():
        yield Check(WARNING, "device", f"the GPU is not used: {overlooked}")
