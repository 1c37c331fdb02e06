"""C sources made into libraries by the system's compiler when they are first wanted.

A library is kept in the user's cache under a name that tells the source and the machine, so that it is
compiled once and never taken for another.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC")
COMPILING_SECONDS = 60


def library(source: Path, name: str) -> Path | None:
    """The path of the compiled `source`, called `name` and a digest; None where it cannot be compiled."""
    content = source.read_bytes()
    machine = "-".join((platform.system(), platform.machine(), *FLAGS))
    digest = hashlib.sha256(content + machine.encode()).hexdigest()[:16]
    try:
        path = _cache() / f"{name}-{digest}{'.dll' if os.name == 'nt' else '.so'}"
        if path.exists():
            return path
        compiler = _compiler()
        if not compiler:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=path.suffix, dir=path.parent)
    except (OSError, RuntimeError, ValueError):  # no right to the cache, or no home; a quote that is not closed
        return None
    os.close(handle)
    try:
        command = [*compiler, *FLAGS, "-o", temporary, str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILING_SECONDS)
        os.replace(temporary, path)
    except (subprocess.SubprocessError, OSError):
        return path if path.exists() else None  # Windows replaces none that another process has loaded meanwhile
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _compiler() -> list[str]:
    """What a command begins with: CC, which may hold options, else the first compiler that is here; [] for none."""
    given = os.environ.get("CC")
    if given and shutil.which(given) is None:
        return shlex.split(given)
    found = given or next(filter(None, map(shutil.which, COMPILERS)), None)
    return [found] if found else []


def loaded(source: Path, name: str, load: Callable[[Path], T]) -> T | None:
    """What `load` makes of the library of `source`, or None. One that it cannot load (OSError, AttributeError) goes."""
    path = library(source, name)
    if path is None:
        return None
    try:
        return load(path)
    except (OSError, AttributeError):
        with suppress(OSError):
            path.unlink()
        return None


def _cache() -> Path:
    if os.name == "nt":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "tagcheck"
