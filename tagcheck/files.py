"""Files written whole or not at all, and the layout of the JSON that stages share."""

import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cache
from operator import length_hint
from pathlib import Path
from typing import IO, Any

from tagcheck.errors import BadFile, MissingInput, ToolError, UsageError

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

REPLACE_SECONDS = 10.0
MANY = 5_000  # records of a list from which on nothing stands between their keys and values
SETTLED_SECONDS = 0.5  # a temporary file younger than this may not be locked yet
ORPHAN = re.compile(r"\.(?:.+\.)?[0-9a-f]{8}\.tmp")  # what `write_atomically` and a backup call theirs


class NotAllowed(ToolError):
    """A file or folder is there and may not be read."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} may not be read: grant the right to it, then run the same command again")


@contextmanager
def reading(path: Path, again: str | None = None) -> Iterator[None]:
    """What reading a file raises, in our words: `MissingInput`, `NotAllowed`, and with `again`, the way out, else `BadFile`."""
    try:
        yield
    except FileNotFoundError:
        raise MissingInput(f"no file {path}") from None
    except PermissionError:
        raise NotAllowed(path) from None
    except OSError as error:
        if again is None:
            raise
        raise BadFile(f"{path} cannot be read ({error.strerror}): {again}") from None


def listed(folder: Path, pattern: str) -> list[Path]:
    """The paths in `folder` whose names fit, sorted; none where there is no such folder. Raises `NotAllowed` where it may
    not be listed, which `Path.glob` takes for empty.
    """
    try:
        return sorted(folder / name for name in os.listdir(folder) if fnmatchcase(name, pattern))
    except PermissionError:
        raise NotAllowed(folder) from None
    except (FileNotFoundError, NotADirectoryError):
        return []


def there(path: Path) -> bool:
    """Whether something stands at `path`. Raises `NotAllowed` where the folder that it is in may not be entered."""
    try:
        return path.exists()
    except PermissionError:
        raise NotAllowed(path.parent) from None


def named(path: str, option: str) -> Path:
    """The path that an option names, its `~` resolved. Raises `UsageError` where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{option} {path}: there is no such user") from None


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], replace: bool = True) -> None:
    """Make `path` appear whole or not at all: temporary name in the same folder, fsync, rename.

    `write` gets a binary file. On any error, and on Ctrl-C, the temporary file is removed and
    what stood at `path` stays; an `OSError` names `path`. With `replace` False, a file that stands there already is
    `FileExistsError`, also when it appears in this very moment.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as out:
            claim(out.fileno())
            write(out)
            out.flush()
            os.fsync(out.fileno())
        if replace:
            replace_over(temporary, path)
        else:
            _move_to_free_name(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # none was made: there is no such folder, or it may not be written
            os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise
    sync_folder(path.parent)


def claim(handle: int) -> bool:
    """Lock an open file as long as it is open, so that nobody takes it for an orphan. False where another process has it."""
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network drive without locks
        return True
    return True


def sweep(folder: Path) -> None:
    """Remove the temporary files in `folder` whose process was killed."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if ORPHAN.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError), open(entry.path, "rb") as file:
                    old = time.time() - os.fstat(file.fileno()).st_mtime >= SETTLED_SECONDS
                    if old and claim(file.fileno()):
                        if fcntl is None:
                            file.close()
                        os.unlink(entry.path)


def replace_over(temporary: str | Path, path: str | Path, folder: int | None = None) -> None:
    """`os.replace`, in the open `folder` if given, as `_patiently` does it."""
    _patiently(lambda: os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder))


def remove(path: str | Path, folder: int | None = None) -> None:
    """Remove a file that may be gone already, in the open `folder` if given, as `_patiently` does it."""
    with suppress(FileNotFoundError):
        _patiently(lambda: os.unlink(path, dir_fd=folder))


def _patiently(act: Callable[[], object]) -> None:
    """Call `act`; as long as Windows refuses it, for a while again, since a virus scanner or a search index may hold the file for a moment."""
    until = time.monotonic() + (REPLACE_SECONDS if os.name == "nt" else 0)
    while True:
        try:
            act()
        except PermissionError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.1)
        else:
            return


def _move_to_free_name(temporary: Path, path: Path) -> None:
    """Rename where nothing stands yet. A link is made and refused in one step, which a look before a rename is not."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links (exFAT, some network drives)
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        replace_over(temporary, path)
    else:
        remove(temporary)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable, where the system can (Windows cannot open folders, some drives cannot sync them)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            sync_handle(handle)
        finally:
            os.close(handle)


def sync_handle(handle: int) -> None:
    """The same of an open folder."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def write_json(path: Path, document: dict[str, Any], records: tuple[str, ...] = (), replace: bool = True) -> None:
    """Write any JSON document atomically (`write_atomically`), in the layout of the files between stages: one key a line, in the given
    order; the lists in `records` one element a line, where bytes are JSON already.
    """

    def write(out: IO[bytes]) -> None:
        out.write(b"{")
        for place, (key, value) in enumerate(document.items()):
            out.write(b",\n" if place else b"\n")
            out.write(_line(key) + b": ")
            if key in records and value:
                out.write(b"[")
                separators = (",", ":") if length_hint(value, MANY) >= MANY else None
                for row, record in enumerate(value):
                    line = record if isinstance(record, bytes) else _line(record, separators)
                    out.write((b",\n" if row else b"\n") + line)
                out.write(b"\n]")
            else:
                out.write(_line(value))
        out.write(b"\n}\n")

    write_atomically(path, write, replace)


def _line(value: Any, separators: tuple[str, str] | None = None) -> bytes:
    # Half of a surrogate pair (from file names that are not UTF-8) has no bytes in UTF-8, but an escape in JSON.
    return _encoder(separators).encode(value).encode("utf-8", errors="backslashreplace")


@cache
def _encoder(separators: tuple[str, str] | None) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=separators)
