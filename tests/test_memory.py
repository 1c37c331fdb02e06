"""What is said to be free is less than there is, and a container's limit counts."""

from __future__ import annotations

import os

import pytest

from tagcheck import memory


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="no sysconf to compare with")
def test_less_is_free_than_there_is():
    assert 2**20 < memory.free() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_container_that_allows_less_counts(monkeypatch):
    files = {"/proc/meminfo": "MemFree: 1 kB\nMemAvailable:   8000000 kB\n"}
    monkeypatch.setattr(memory, "_text", lambda path: files.get(path, ""))
    assert memory.free() == 8_000_000 * 1024
    files |= {"/sys/fs/cgroup/memory.max": "3000000\n", "/sys/fs/cgroup/memory.current": "1000000\n"}
    assert memory.free() == 2_000_000
    files["/sys/fs/cgroup/memory.stat"] = (
        "anon 200000\nfile 800000\nshmem 100000\ninactive_file 600000\nactive_file 100000\n"
    )
    assert memory.free() == 2_700_000  # what was read from files is given up
    files["/sys/fs/cgroup/memory.current"] = "9000000\n"
    assert memory.free() == 0
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert memory.free() == 8_000_000 * 1024
