"""Reading a `.pt` file of plain tensors as what it is: a ZIP archive of one pickle and the tensors' bytes.

`torch.load(weights_only=True)` interprets the pickle in Python, which for a shard's 4,096 hashes takes
longer than everything else about loading it. Here Python's own unpickler does it, which is given
nothing to call but the few names that a file of tensors needs, so that a file can do no more than
under `weights_only`. The tensors are mapped, not read. Whatever is not of this plain form is left to torch.
"""

from __future__ import annotations

import mmap
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "LongStorage": torch.int64,
}
LOCAL_HEADER = struct.Struct("<26xHH")  # of a ZIP entry: the lengths of its name and of what follows it


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str


class _Odd(Exception):
    """The file is not of the plain form."""


def read(path: Path) -> Any:
    """What `torch.load(path, weights_only=True, mmap=True)` gives, or None where torch has to look at the file itself."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            entries = {name.partition("/")[2]: entry for entry in archive.infolist() for name in [entry.filename]}
            if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
                return None
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # torch wants memory that can be written to
            return _Plain(archive.read(entries["data.pkl"]), mapped, entries).load()
    except FileNotFoundError:
        raise
    except (
        _Odd,
        OSError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        NotImplementedError,
        RuntimeError,
        KeyError,
        IndexError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        struct.error,
        OverflowError,
        MemoryError,
    ):
        return None  # damaged, of another form or version: torch says what is wrong with it


class _Plain(pickle.Unpickler):
    """Unpickles dicts, lists, text, numbers and tensors; the bytes of these lie in `mapped`."""

    def __init__(self, data: bytes, mapped: mmap.mmap, entries: dict[str, zipfile.ZipInfo]) -> None:
        super().__init__(BytesIO(data))
        self._mapped, self._entries = mapped, entries

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise _Odd(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, _ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise _Odd("a storage")
        return _Storage(dtype, key)

    def _tensor(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> torch.Tensor:
        """A tensor over the mapped bytes."""
        entry = self._entries[f"data/{storage.key}"]
        step, count = 1, 1
        for length, wanted in zip(reversed(shape), reversed(stride)):
            if length < 1 or (wanted != step and length > 1):
                raise _Odd("not contiguous")
            step, count = step * length, count * length
        size = storage.dtype.itemsize
        name, extra = LOCAL_HEADER.unpack_from(self._mapped, entry.header_offset)
        start = entry.header_offset + LOCAL_HEADER.size + name + extra
        if entry.compress_type != zipfile.ZIP_STORED or offset < 0 or (offset + count) * size > entry.file_size:
            raise _Odd("compressed, or too short")
        flat = torch.frombuffer(self._mapped, dtype=storage.dtype, count=count, offset=start + offset * size)
        return flat.view(tuple(shape))
