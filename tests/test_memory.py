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
    files["/proc/self/cgroup"] = "0::/machine/box/job\n"
    files |= {"/sys/fs/cgroup/machine/memory.max": "5000000\n", "/sys/fs/cgroup/machine/memory.current": "1000000\n"}
    assert memory.free() == 4_000_000
    files |= {"/sys/fs/cgroup/machine/box/memory.max": "700\n", "/sys/fs/cgroup/machine/box/memory.current": "200\n"}
    assert memory.free() == 500


def test_a_limit_of_the_older_kind_counts_too(monkeypatch):
    files = {
        "/proc/meminfo": "MemAvailable: 8000000 kB\n",
        "/proc/self/cgroup": "9:cpu,cpuacct:/x\n4:memory:/box/job\n",
    }
    monkeypatch.setattr(memory, "_text", lambda path: files.get(path, ""))
    root = "/sys/fs/cgroup/memory"
    files |= {f"{root}/memory.limit_in_bytes": "9223372036854771712\n", f"{root}/memory.usage_in_bytes": "500\n"}
    assert memory.free() == 8_000_000 * 1024
    files |= {f"{root}/box/memory.limit_in_bytes": "900\n", f"{root}/box/memory.usage_in_bytes": "500\n"}
    files[f"{root}/box/memory.stat"] = "active_file 1\ntotal_active_file 30\ntotal_inactive_file 20\n"
    assert memory.free() == 450
