"""Shards in a shared folder or an object store, beside those of the data folder: any place that fsspec knows.

A shard is a file that is written once, so that both sides hold the same when each has got what it lacks. One that arrives
is written whole beside its name and then moved there; what a killed run left beside it is removed two days later.
fsspec is imported only when such a place is named (`pip install fsspec s3fs`, or the package of another store).
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath

from tagcheck.embedding.store import shard_paths
from tagcheck.errors import MissingInput, ToolError, UsageError, short
from tagcheck.files import ORPHAN, write_atomically

OLD = 2 * 86400.0  # seconds after which nobody writes a shard any longer, whatever the clocks of two machines say


class SharedStore:
    """The place that a URL names (s3://bucket/folder, file:///mnt/shards), made where it is not there yet.

    >>> SharedStore("memory://shards").names()
    set()
    """

    def __init__(self, url: str) -> None:
        """Raises `MissingInput` without the package that it needs, `UsageError` for a URL of no store that is known."""
        try:
            import fsspec

            self.system, self.folder = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MissingInput(f"--store {url} needs a package more: {error}") from None
        except ValueError as error:
            raise UsageError(f"--store {url}: {error}") from None
        self.url = url
        with self._told():
            self.system.makedirs(self.folder, exist_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong there as a `ToolError`: each kind of store has errors of its own."""
        try:
            yield
        except Exception as error:
            if isinstance(error, ToolError) or getattr(error, "errno", None) is not None:
                raise
            raise ToolError(f"--store {self.url} cannot be used ({type(error).__name__}: {short(error)})") from None

    def names(self) -> set[str]:
        """The shards that are there."""
        return {name for name in self._files() if name.endswith(".pt") and not name.startswith(".")}

    def _files(self) -> list[str]:
        with self._told():
            self.system.invalidate_cache()
            return [PurePosixPath(one).name for one in self.system.find(self.folder, maxdepth=1)]

    def exchange(self, folder: Path) -> None:
        """Bring what `folder` lacks, and take over what is only there. Old files that were only half sent are removed."""
        for name in filter(ORPHAN.fullmatch, self._files()):
            path = f"{self.folder}/{name}"
            with self._told(), suppress(FileNotFoundError, NotImplementedError):  # another run's removal; no times kept
                if time.time() - self.system.modified(path).timestamp() > OLD:
                    self.system.rm_file(path)
        self.fetch(folder)
        there = self.names()
        self.send(path for path in shard_paths(folder) if path.name not in there)

    def fetch(self, folder: Path, after: str = "") -> None:
        """Bring the shards that `folder` lacks, of those with a name after `after`. One that was put aside there stays away."""
        kept = {path.name for path in folder.glob("*.pt*")}
        for name in sorted(name for name in self.names() if name > after and not kept & {name, f"{name}.damaged"}):
            with self._told(), self.system.open(f"{self.folder}/{name}", "rb") as source:
                write_atomically(folder / name, partial(shutil.copyfileobj, source))

    def send(self, shards: Iterable[Path]) -> None:
        """Take over shards, whose names nobody else gives."""
        for path in shards:
            beside = f"{self.folder}/.{path.name}.{secrets.token_hex(4)}.tmp"
            with self._told():
                self.system.put_file(str(path), beside)
                self.system.mv(beside, f"{self.folder}/{path.name}")
