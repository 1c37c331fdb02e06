"""Opening what is in a folder library, and nothing outside it: docs/decisions/sidecars.md, "Links"."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tagcheck.files import remove, replace_over, sync_handle

BY_HANDLE = os.open in os.supports_dir_fd and os.scandir in os.supports_fd and hasattr(os, "O_NOFOLLOW")
LEAVES = "it is a link that leads out of the library"
LONGEST = 259  # characters of a path on Windows, where its owner has not turned on long paths
TOO_LONG = f"its path has more than {LONGEST} characters: shorten it, or turn on long paths in Windows"
DANGLES = "it is a link that leads nowhere"
_CLOSED = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
_ITSELF = getattr(os, "O_NOFOLLOW", 0) | _CLOSED
_FOLDER = getattr(os, "O_DIRECTORY", 0) | _ITSELF
_PASSED = _FOLDER | getattr(os, "O_PATH", 0)  # of a folder on the way, which need not be listed


@dataclass(frozen=True)
class OpenFolder:
    """A folder of the library that stays the same one while it is open. `handle` is None where the system has none."""

    path: str
    handle: int | None

    def place(self, name: str) -> str:
        """What to call a file in it, together with `handle` as `dir_fd`."""
        return name if self.handle is not None else os.path.join(self.path, name)

    def entries(self) -> list[os.DirEntry[str]]:
        """What is in it, by name. Their `path` means something only where there is no handle."""
        with os.scandir(self.path if self.handle is None else self.handle) as found:
            return sorted(found, key=lambda entry: entry.name)

    def file(self, name: str) -> int:
        return os.open(self.place(name), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _ITSELF, dir_fd=self.handle)

    def new(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _ITSELF
        return os.open(self.place(name), flags, 0o666, dir_fd=self.handle)

    def remove(self, name: str) -> None:
        remove(self.place(name), self.handle)

    def replace(self, name: str, by: str) -> None:
        """Let the file `by` take the place of `name`."""
        replace_over(self.place(by), self.place(name), self.handle)

    def writable(self) -> bool:
        """Whether files may be made and replaced in it."""
        return os.access(self.path if self.handle is None else ".", os.W_OK, dir_fd=self.handle)

    def sync(self) -> None:
        """Make renames in it durable, where the system can."""
        if self.handle is not None:
            sync_handle(self.handle)


class Inside:
    """The library whose real path is `root`. All that is opened here raises `OSError`, with `LEAVES` for what leads out."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._start = root.rstrip(os.sep) + os.sep

    def real(self, path: str) -> str:
        """Where a path leads by all its links."""
        found = os.path.realpath(path)
        if found != self.root and not found.startswith(self._start):
            raise OSError(errno.ELOOP, LEAVES, path)
        return found

    @contextmanager
    def folder(self, path: str) -> Iterator[OpenFolder]:
        if not BY_HANDLE:
            yield OpenFolder(self.real(path), None)
            return
        handle = self._open(path, os.O_RDONLY | _FOLDER)
        try:
            yield OpenFolder(path, handle)
        finally:
            os.close(handle)

    def file(self, path: str) -> int:
        """A handle of a file, for reading; what is no file, a pipe for example, is refused and not waited for."""
        if BY_HANDLE:
            handle = self._open(path, os.O_RDONLY | os.O_NONBLOCK | _ITSELF)
        else:
            handle = os.open(_reachable(self.real(path)), os.O_RDONLY | _CLOSED)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "it is not a file", path)
        return handle

    def status(self, entry: os.DirEntry[Any], path: str) -> os.stat_result:
        """What the system says of an entry of an open folder whose path is `path`, or of what it leads to."""
        if entry.is_symlink() or not BY_HANDLE:
            return os.stat(_reachable(self.real(path)))
        return entry.stat(follow_symlinks=False)

    def _open(self, path: str, flags: int) -> int:
        try:
            return self._by_parts(path, flags)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                raise
        real = self.real(path)
        if not os.path.lexists(real):
            raise OSError(errno.ELOOP, DANGLES, path)
        return self._by_parts(real, flags)

    def _by_parts(self, path: str, flags: int) -> int:
        if path != self.root and not path.startswith(self._start):
            raise OSError(errno.ELOOP, LEAVES, path)
        *folders, last = [part for part in path[len(self._start) :].split(os.sep) if part not in ("", ".")] or ["."]
        if ".." in (*folders, last):
            raise OSError(errno.ELOOP, LEAVES, path)
        handle = os.open(self.root, _PASSED)
        for part in folders:
            above, handle = handle, -1
            try:
                handle = os.open(part, _PASSED, dir_fd=above)
            finally:
                os.close(above)
        try:
            return os.open(last, flags, dir_fd=handle)
        finally:
            os.close(handle)


def _reachable(path: str) -> str:
    """The path of something that was listed. Windows says of one that is too long for it that there is nothing."""
    if os.name == "nt" and len(path) > LONGEST and not os.path.lexists(path):
        raise OSError(errno.EINVAL, TOO_LONG, path)
    return path
