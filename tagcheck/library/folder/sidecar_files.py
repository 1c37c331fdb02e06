"""Replacing a sidecar: whole or not at all, by one process at a time, and only while it still is what was read."""

import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from filelock import FileLock

from tagcheck.library.folder.inside import Inside, OpenFolder
from tagcheck.library.folder.scan import shown
from tagcheck.library.folder.sidecar_text import LARGEST, CannotEdit, NotASidecar

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]  # Windows

TEMPORARY = (".tagcheck-", ".tmp")


@dataclass(frozen=True)
class Edit:
    """A sidecar, or record `key` of a table, that gets new content. No `old`: it is to be made, no `new`: to go."""

    path: str
    old: bytes | None
    new: bytes | None
    key: str | None = None


def bytes_of(inside: Inside, path: str, largest: int = LARGEST, at: OpenFolder | None = None) -> bytes | None:
    """A sidecar's bytes, None without one; `at` is its open folder. Raises `NotASidecar` where it cannot be read."""
    try:
        with open(at.file(os.path.basename(path)) if at else inside.file(path), "rb") as file:
            return file.read(largest + 1)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return None
        raise NotASidecar(f"{shown(path)} cannot be read: {error.strerror}") from None


def check_writable(inside: Inside, edit: Edit) -> None:
    """Raises `CannotEdit` for what the owner has protected, and for a name that no file can have."""
    folder, name = os.path.split(edit.path)
    if len(os.fsencode(name)) > 255:
        raise CannotEdit(f"{shown(edit.path)} would be too long a name for a file: shorten the picture's name")
    try:
        with inside.folder(folder) as at:
            if edit.old is not None and not os.stat(at.place(name), dir_fd=at.handle).st_mode & 0o222:
                raise CannotEdit(f"{shown(edit.path)} is write-protected")
            if not at.writable():
                raise CannotEdit(f"nothing may be written in {shown(folder)}")
    except OSError as error:
        raise CannotEdit(f"{shown(edit.path)} cannot be written: {error.strerror}") from None


@contextmanager
def only_writer(root: str) -> Iterator[None]:
    """Waits until no other process of ours writes in this folder. The lock is on the folder itself and dies with the
    process; where a folder cannot be locked (Windows), on a file of the folder's name among the temporary files.
    """
    if fcntl is None:
        name = hashlib.sha256(os.path.normcase(os.path.realpath(root)).encode("utf-8", "replace")).hexdigest()[:16]
        with FileLock(os.path.join(tempfile.gettempdir(), f"tagcheck-{name}.lock")):
            yield
        return
    handle = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network drive without locks: the check before each replacement remains
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sweep(at: OpenFolder) -> None:
    """Remove what a killed process left half-written. Only called by the only writer."""
    for entry in at.entries():
        if entry.name.startswith(TEMPORARY[0]) and entry.name.endswith(TEMPORARY[1]):
            with suppress(OSError):
                at.remove(entry.name)


def replace_file(inside: Inside, edit: Edit) -> None:
    """Put the new content in place, whole or not at all, keeping mode and owner. Raises `CannotEdit` when it was changed meanwhile."""
    check_writable(inside, edit)
    folder, name = os.path.split(edit.path)
    temporary = secrets.token_hex(6).join(TEMPORARY)
    with inside.folder(folder) as at:
        try:
            if edit.new is not None:
                with open(at.new(temporary), "wb") as out:
                    out.write(edit.new)
                    if edit.old is not None:
                        _copy_rights(os.stat(at.place(name), dir_fd=at.handle), out.fileno())
                    out.flush()
                    os.fsync(out.fileno())
            if bytes_of(inside, edit.path, max(LARGEST, len(edit.old or b"")), at) != edit.old:
                raise CannotEdit(f"{shown(edit.path)} was changed by another program just now: try again")
            if edit.new is None:
                at.remove(name)
            else:
                at.replace(name, temporary)
        except BaseException:
            at.remove(temporary)
            raise


def _copy_rights(status: os.stat_result, handle: int) -> None:
    if fcntl is not None:  # Windows has no such rights
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            with suppress(PermissionError):  # only root may give a file away
                os.fchown(handle, status.st_uid, status.st_gid)
        os.fchmod(handle, stat.S_IMODE(status.st_mode))
