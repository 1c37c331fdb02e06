"""What this machine has: memory that is free, for stages that work in blocks of a size to fit, and what its processor can do."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

GIB = 2**30
UNKNOWN = 4 * GIB  # where the system does not say
# Linux's two kinds of control groups: where they are, their limit, what is used, and what of that are files that were read, which are
# given up for whoever needs the memory ("total_": with those of the groups inside).
GROUPS = (
    ("", "/sys/fs/cgroup", "memory.max", "memory.current", ""),
    ("memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)


def free() -> int:
    """Bytes that programs can still have: by the system's word, or by that of a container that allows less."""
    if sys.platform == "win32":
        status = (ctypes.c_ulonglong * 8)()  # MEMORYSTATUSEX: its length and the load share the first number
        ctypes.memmove(status, ctypes.byref(ctypes.c_ulong(64)), 4)
        return int(status[2]) if ctypes.windll.kernel32.GlobalMemoryStatusEx(status) else UNKNOWN
    told = [line.split() for line in _text("/proc/meminfo").splitlines() if line.startswith("MemAvailable:")]
    if told:
        system = int(told[0][1]) * 1024
    elif "SC_PHYS_PAGES" in os.sysconf_names:  # macOS tells what there is, not what is free
        system = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    else:
        system = UNKNOWN
    return max(0, min([system, *_allowed()]))


def _allowed() -> Iterator[int]:
    """What the control groups around this process allow it still: its own, and each that this one is in."""
    lines = [line.split(":", 2) for line in _text("/proc/self/cgroup").splitlines()]
    for kind, root, limit, usage, total in GROUPS:
        own = next((line[2] for line in lines if kind in line[1].split(",")), "/")
        for group in (PurePosixPath(own), *PurePosixPath(own).parents):
            places = (PurePosixPath(f"{root}{group}", name) for name in (limit, usage, "memory.stat"))
            allowed, used, told = (_text(str(place)).split() for place in places)
            if allowed and used and allowed[0].isdigit():
                held = dict(zip(told[::2], told[1::2]))
                files = sum(int(held.get(f"{total}{name}_file", 0)) for name in ("active", "inactive"))
                yield int(allowed[0]) - int(used[0]) + files


def give_back() -> None:
    """Let the system have what was freed in many pieces, which glibc keeps: where blocks were made one by one and joined, as much as they."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def multiplies_bfloat16(cpu: Any) -> bool:
    """Whether the processor multiplies bfloat16 by itself, and so quicker than float32; `cpu` is `torch.cpu`, which knows."""
    if hasattr(cpu, "get_capabilities"):
        capable = cpu.get_capabilities()
        return bool(capable.get("amx_bf16") or capable.get("avx512_bf16"))
    # Before PyTorch 2.10.
    return any(getattr(cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))


@contextmanager
def uncollected() -> Iterator[None]:
    """Within it the garbage collector rests: where much is made that stays, it would look at all of it again and again. What was
    made is left out of its later rounds, too; it goes when nothing refers to it.
    """
    rests = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if rests:
            gc.freeze()
            gc.enable()


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
