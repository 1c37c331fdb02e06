"""Arrays and lists of texts kept in one `.npz` file that may be deleted: written whole, and read only where they are of the form
that was written.
"""

import hashlib
import pickle
import tokenize
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tagcheck.files import write_atomically

TEXTS = "texts"
AT_ONCE = 256  # rows, as many as the processor's cache holds
# What is raised for a damaged file of arrays or of a pickle. The header of an array is read as Python's literals.
DAMAGED = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, pickle.UnpicklingError, tokenize.TokenError),
)


def digests(rows: Iterable[bytes]) -> np.ndarray:
    """A number of each row of bytes (n,) uint64."""
    return np.frombuffer(b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows), dtype=np.uint64)


def row_digests(matrix: np.ndarray) -> np.ndarray:
    """A number of each row of `matrix` (n, d) as float32, (n,) uint64: the sum of its words, each times a number drawn once for all,
    modulo 2 to the 64th. Rows that differ by chance and not by design have the same in one case of 2 to the 33rd.

    >>> row_digests(np.eye(2)[[0, 1, 0]])[[0, 1]].tolist() == row_digests(np.eye(2)).tolist()
    True
    """
    words = np.ascontiguousarray(matrix, dtype=np.float32).view(np.uint32)
    factors = np.frombuffer(hashlib.shake_128(b"rows").digest(8 * words.shape[1]), dtype="<u8")
    made = np.empty(len(words), dtype=np.uint64)
    for start in range(0, len(words), AT_ONCE):
        made[start : start + AT_ONCE] = words[start : start + AT_ONCE].astype(np.uint64) @ factors
    return made


def as_bytes(hashes: Sequence[str]) -> np.ndarray:
    """Hashes as 32 bytes each (n,)."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype="V32")


def places(names: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each of `names` (n,) stands `among` others, int64 (n,), -1 where it does not; both of `as_bytes`.

    >>> places(as_bytes(["ab" * 32, "cd" * 32]), as_bytes(["cd" * 32])).tolist()
    [-1, 0]
    """
    if not len(among):
        return np.full(len(names), -1, dtype=np.int64)
    known, first = np.unique(among.view("S32"), return_index=True)
    at = np.minimum(np.searchsorted(known, names.view("S32")), len(known) - 1)
    return np.where(known[at] == names.view("S32"), first[at], -1)


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write the file. A list of texts, none of which holds a line's end, is kept as its UTF-8."""
    stored: dict[str, Any] = {
        name: np.frombuffer("\n".join(one).encode(), np.uint8) if isinstance(one, list) else one
        for name, one in arrays.items()
    }
    write_atomically(path, lambda out: np.savez(out, **stored))


def load(path: Path, form: Mapping[str, str]) -> dict[str, Any] | None:
    """The arrays that `form` names, each with the letters of its kinds and its number of axes ("iu1", "f2") or `TEXTS`.

    None where there is no such file, or a damaged one, or one of another form; numbers that are not finite are no numbers.
    """
    found: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:  # a compressed entry may ask for any amount of memory
            if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
                return None
        with np.load(path, allow_pickle=False) as held:
            for name, wanted in form.items():
                one = held[name]
                kinds, axes = ("u", 1) if wanted == TEXTS else (wanted[:-1], int(wanted[-1]))
                if (
                    not isinstance(one, np.ndarray)  # bytes, where it does not begin as an array does
                    or one.dtype.kind not in kinds
                    or one.ndim != axes
                    or (one.dtype.kind == "f" and not np.isfinite(one).all())
                ):
                    return None
                found[name] = bytes(one).decode().split("\n") if wanted == TEXTS else one
    except (*DAMAGED, MemoryError):  # which a damaged header may ask for
        return None
    return found
