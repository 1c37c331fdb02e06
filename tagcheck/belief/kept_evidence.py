"""What a run learned of a large library, kept beside its data (`kept_evidence.bin`), so that the next run weighs anew only what has
changed (`tagcheck.tag_errors.renewal`). The file may be deleted: then all is weighed anew.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import mmap
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tagcheck import arrays
from tagcheck.data_folder import isoformat, utc_now
from tagcheck.files import remove, write_atomically
from tagcheck.tag_errors.evidence import FurtherTagger
from tagcheck.tag_errors.renewal import Known, TooMuch
from tagcheck.tag_errors.suggestions import Examined

FILE = "kept_evidence.bin"
FEWEST = 10_000  # pictures; fewer are weighed in full, which takes seconds
MOST_BYTES = 2**30
SUM = hashlib.sha256  # stands behind all else in the file; processors have instructions for it
ARRAYS = {
    ("numpy", "dtype"), ("numpy", "ndarray"), ("numpy._core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"), ("scipy.sparse._csr", "csr_matrix"),
}  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """A library as it was when it was weighed in full: when, what that `rests_on`, its pictures (32 bytes each) with a digest of
    their embeddings and which further taggers had seen them (taggers, n), and the tags that were learned.
    """

    made: str
    rests_on: str
    hashes: np.ndarray
    embedded: np.ndarray
    seen: np.ndarray
    tags: list[str]
    path: Path
    place: int

    def known(self, matrix: np.ndarray, further: Sequence[FurtherTagger]) -> Known:
        """What was learned, over the embeddings that are there now. Raises `TooMuch` where it cannot be read."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.place)
                return cast(Known, _Reader(file, [matrix, *(one.matrix for one in further)]).load())
        except arrays.DAMAGED:
            raise TooMuch(f"{FILE} cannot be read") from None

    def then(
        self, hashes: np.ndarray, embedded: np.ndarray, further: Sequence[FurtherTagger]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(the row that each picture had then or -1, whether one of its embeddings is new). Raises `TooMuch` for other taggers."""
        if len(self.seen) != len(further):
            raise TooMuch("another number of taggers was heard")
        before = arrays.places(hashes, self.hashes)
        fresh = (before < 0) | (self.embedded[before] != embedded)
        for then, now in zip(self.seen, further):
            fresh |= then[before] != now.there
        return before, fresh


def keep(root: Path, rests_on: str, hashes: np.ndarray, embedded: np.ndarray, seen: Examined) -> None:
    """Keep what was learned; nothing (and no file of before) where that is more than `MOST_BYTES`."""
    path, known = root / FILE, Known.of(seen)
    there = np.array([one.there for one in seen.further], dtype=bool).reshape(-1, len(hashes))
    header = (isoformat(utc_now()), rests_on, hashes, embedded, there, seen.tags)
    if known.gathered.found.learned_bytes > MOST_BYTES:
        remove(path)
        return

    def write(out: Any) -> None:
        summed = _Summed(out)
        pickle.dump(header, summed, protocol=5)
        _Writer(summed, [seen.matrix, *(one.matrix for one in seen.further)]).dump(known)
        out.write(summed.sum.digest())

    write_atomically(path, write)


def load(root: Path, rests_on: str) -> Kept | str:
    """What is kept, or why it cannot be used."""
    path = root / FILE
    try:
        with open(path, "rb") as file:
            _hold_against_its_sum(file)
            made, rested_on, hashes, embedded, seen, tags = _Reader(file, []).load()
            kept = Kept(made, rested_on, hashes, embedded, seen, tags, path, file.tell())
    except FileNotFoundError:
        return "no run is kept"
    except arrays.DAMAGED:
        return f"{FILE} cannot be read"
    return (
        kept
        if kept.rests_on == rests_on
        else "the program, its settings, the tagger or your own rules are other than they were"
    )


def _hold_against_its_sum(file: io.BufferedReader) -> None:
    """Raise ValueError where the last bytes of a file are not the digest of the others."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole, memoryview(whole) as data:
        end = max(len(data) - SUM().digest_size, 0)
        if SUM(data[:end]).digest() != data[end:]:
            raise ValueError


class _Summed:
    """A file that keeps the digest of what is written."""

    def __init__(self, out: Any) -> None:
        self._out, self.sum = out, SUM()

    def write(self, data: Any) -> int:
        self.sum.update(data)
        return int(self._out.write(data))


class _Writer(pickle.Pickler):
    """Leaves out the `outside` arrays."""

    def __init__(self, file: Any, outside: Sequence[np.ndarray]) -> None:
        super().__init__(file, protocol=5)
        self._places = {id(one): place for place, one in enumerate(outside)}

    def persistent_id(self, obj: Any) -> int | None:
        return self._places.get(id(obj))


class _Reader(pickle.Unpickler):
    """Puts the `outside` arrays back in, and makes nothing but arrays and the program's own records."""

    def __init__(self, file: io.BufferedReader, outside: Sequence[np.ndarray]) -> None:
        super().__init__(file)
        self._outside = outside

    def persistent_load(self, pid: Any) -> Any:
        return self._outside[pid]

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) in ARRAYS:
            return super().find_class(module_name, global_name)
        if module_name.startswith("tagcheck."):
            found = getattr(importlib.import_module(module_name), global_name)
            if isinstance(found, type) and (is_dataclass(found) or issubclass(found, tuple)):
                return found
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is no part of a file of this kind")
