"""Reading a `.pt` file of plain tensors as what it is: a ZIP archive of one pickle and the tensors' bytes.

`torch.load(weights_only=True)` interprets the pickle in Python, which for a shard's 4,096 hashes takes
longer than everything else about loading it. Here Python's own unpickler does it, which is given
nothing to call but the few names that a file of tensors needs, so that a file can do no more than
under `weights_only`. The tensors come as NumPy's arrays, so that who asks for one picture's row loads no torch. Before anything is made, `check` looks at the archive's
directory and walks the pickle, so that a small file cannot ask for much memory or time. Whatever is checked and not
of this plain form is left to torch.
"""

import os
import pickle
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Container, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

STORAGES = {  # name and bytes of each kind of number
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "FloatStorage": ("float32", 4),
    "DoubleStorage": ("float64", 8),
    "IntStorage": ("int32", 4),
    "ByteStorage": ("uint8", 1),
    "LongStorage": ("int64", 8),
}
Taken = TypeVar("Taken")
LOCAL_HEADER = struct.Struct("<26xHH")  # of a ZIP entry: the lengths of its name and of what follows it


# Opcodes of a pickle that a file of tensors needs, with the number of bytes that follow each.
FOLLOW = {
    **dict.fromkeys(b"}])(N.tuaesRQb\x85\x86\x87\x88\x89\x93\x94", 0),
    **dict.fromkeys(b"\x80hKq", 1),
    ord("M"): 2,
    **dict.fromkeys(b"Jjr", 4),
    0x95: 8,
    ord("G"): 8,
}
LENGTH_FOLLOWS = {ord("X"): 4, 0x8C: 1, 0x8D: 8, 0x8A: 1}  # text of a length that stands before it; long whole numbers
LONG, FLOAT, GLOBAL, PUT = 0x8A, ord("G"), ord("c"), ord("r")
MOST_LONGS = 10_000  # numbers of which many can be made to have one hash
HASHES = re.compile(rb"(?:X@\x00\x00\x00[0-9a-f]{64}(?:q.|r..\x00\x00))+", re.DOTALL)


class Refused(Exception):
    """The file asks for more than a file of tensors may."""


@dataclass(frozen=True)
class Raw:
    """A tensor as bytes, uint8 (count * size of a number,), with the name of its kind of numbers and its shape."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray

    def array(self) -> np.ndarray:
        """The same as an array; bfloat16, which NumPy has not, as float32."""
        if self.dtype == "bfloat16":
            return (self.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(self.shape)
        return self.data.view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class _Storage:
    dtype: str
    size: int
    key: str


@dataclass(frozen=True)
class Later:
    """A tensor that is still in the file. It is read and not mapped: who reads from the map of a file that is cut off
    meanwhile is killed.
    """

    path: Path
    dtype: str
    size: int
    shape: tuple[int, ...]
    count: int
    header: int
    checksum: int

    def read(self, file: IO[bytes], row: int | None = None) -> Raw:
        """The whole of it, held against its checksum, or one row. Raises `Refused`."""
        file.seek(self.header)
        name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        count, shape = (self.count, self.shape) if row is None else (self.count // self.shape[0], self.shape[1:])
        file.seek(name + extra + (row or 0) * count * self.size, os.SEEK_CUR)
        data = np.empty(count * self.size, dtype=np.uint8)
        if file.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise _Odd("cut off")
        if row is None and zlib.crc32(data.data) != self.checksum:
            raise Refused("it holds other bytes than were written: a damaged disk?")
        return Raw(self.dtype, shape, data)

    def now(self) -> Raw:
        """The whole of it, out of the file as it is now. Raises `Refused` where that cannot be read any more."""
        try:
            with open(self.path, "rb") as file:
                return self.read(file)
        except (FileNotFoundError, PermissionError):
            raise
        except (_Odd, *CUT_OFF) as error:
            raise Refused(str(error)) from None


class _Odd(Exception):
    """The file is not of the plain form."""


CUT_OFF = (OSError, zipfile.BadZipFile, pickle.UnpicklingError, struct.error, EOFError, OverflowError, MemoryError)
DAMAGED = (_Odd, *CUT_OFF, RuntimeError, LookupError, ValueError, TypeError, AttributeError)


def read(path: Path, without: Container[str] = (), later: Container[str] = ()) -> Any:
    """What `torch.load(path, weights_only=True)` gives, each tensor as `Raw`, or None where torch has to look at the file itself.
    Of a dict, the tensors `without` are left out and not read, and those named in `later` are not read yet: they are `Later`.

    Raises `Refused` for a file that is beyond the bounds.
    """

    def whole(file: IO[bytes], document: Any) -> Any:
        if isinstance(document, Later):
            return document.read(file)
        if not isinstance(document, dict):
            return None
        return {
            name: one.read(file) if isinstance(one, Later) and name not in later else one
            for name, one in document.items()
            if name not in without
        }

    return _opened(path, [b""], whole)


def rows_of(path: Path, wanted: Collection[str]) -> dict[str, tuple[str, np.ndarray]] | None:
    """hash -> (model, embedding (d,) float32) of those of the `wanted` pictures that a shard has; None where torch has to look at the
    file itself.

    Raises `Refused` as `read` does.
    """

    def some(file: IO[bytes], document: Any) -> dict[str, tuple[str, np.ndarray]]:
        rows = document["embeddings"]
        if not isinstance(rows, Later) or len(rows.shape) != 2 or rows.shape[0] != len(document["hashes"]):
            raise _Odd("no rows")
        places = {hash: place for place, hash in enumerate(document["hashes"]) if hash in wanted}
        model = str(document.get("model", ""))
        return {hash: (model, rows.read(file, place).array().astype(np.float32)) for hash, place in places.items()}

    return _opened(path, [hash.encode() for hash in wanted], some)


def _opened(path: Path, mentioned: Iterable[bytes], take: Callable[[IO[bytes], Any], Taken]) -> Taken | None:
    """What `take` makes of a file and its pickle, whose tensors are `Later`; None where that is not of the plain form, or nothing
    `mentioned` is in it.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            entries = _entries(archive)
            if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
                return None
            data = archive.read(entries["data.pkl"])
            if not any(one in data for one in mentioned):
                return None
            _walk(data)
            return take(file, _Plain(path, data, entries).load())
    except (FileNotFoundError, PermissionError):
        raise
    except DAMAGED:
        return None  # or of another form or version: torch says what is wrong with it


def check(path: Path) -> None:
    """Raise `Refused` for a file that is no archive of plainly stored entries, whose pickle is beyond the bounds, or in which the bytes
    of an entry are not those that were written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _walk(archive.read(_entries(archive)["data.pkl"]))
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, KeyError, ValueError, struct.error) as error:
        raise Refused(f"it is not a whole ZIP archive: {error}") from None
    if damaged is not None:
        raise Refused(f"{damaged} in it is not as it was written")


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries of an archive by their names without the first folder."""
    entries = {one.filename.partition("/")[2]: one for one in archive.infolist()}
    for name, one in entries.items():
        if one.compress_type != zipfile.ZIP_STORED or one.compress_size != one.file_size:
            raise Refused(f"{name!r} in it is compressed, which no tagger writes")
    return entries


def _walk(data: bytes) -> None:
    """Go through the opcodes of a pickle without doing any."""
    at, longs = 0, 0
    while at < len(data):
        if (run := HASHES.match(data, at)) is not None:
            at = run.end()
            continue
        code = data[at]
        at += 1
        if code in FOLLOW:
            if code == PUT and int.from_bytes(data[at : at + 4], "little") > len(data):
                raise Refused("its pickle asks for more places than it has values")
            at += FOLLOW[code]
        elif code in LENGTH_FOLLOWS:
            size = LENGTH_FOLLOWS[code]
            length = int.from_bytes(data[at : at + size], "little")
            if length > (9 if code == LONG else len(data)):
                raise Refused("its pickle asks for more bytes than it has")
            at += size + length
        elif code == GLOBAL:
            at = data.index(b"\n", data.index(b"\n", at) + 1) + 1
        else:
            raise Refused(f"its pickle has an opcode {code:#04x}, which no file of tensors needs")
        longs += code in (LONG, FLOAT)
        if longs > MOST_LONGS:
            raise Refused("its pickle holds too many long numbers")


class _Plain(pickle.Unpickler):
    """Unpickles dicts, lists, text and numbers; tensors are read later."""

    def __init__(self, path: Path, data: bytes, entries: dict[str, zipfile.ZipInfo]) -> None:
        super().__init__(BytesIO(data))
        self._path, self._entries = path, entries

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise _Odd(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, (dtype, size), key, _, _ = pid
        if kind != "storage" or not isinstance(dtype, str) or not isinstance(size, int) or not isinstance(key, str):
            raise _Odd("a storage")
        return _Storage(dtype, size, key)

    def _tensor(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> Later:
        entry = self._entries[f"data/{storage.key}"]
        step, count = 1, 1
        for length, wanted in zip(reversed(shape), reversed(stride), strict=True):
            if type(length) is not int or length < 1 or (wanted != step and length > 1):
                raise _Odd("not contiguous")
            step, count = step * length, count * length
        size = storage.size
        if entry.compress_type != zipfile.ZIP_STORED or offset or count * size != entry.file_size:
            raise _Odd("compressed, or a part of what is stored")
        return Later(self._path, storage.dtype, size, tuple(shape), count, entry.header_offset, entry.CRC)
