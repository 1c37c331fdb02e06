"""What the benchmarks share: the project on the path, what work takes, and peers that take turns."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

NETWORK = PROJECT / "sample" / "network"
T = TypeVar("T")


@dataclass
class Spent:
    """Seconds of the clock and of the processor, and bytes of memory at the most beyond those at the start (Linux)."""

    clock: float = 0.0
    processor: float = 0.0
    memory: int = 0


@contextmanager
def spent() -> Iterator[Spent]:
    """What the block takes; known at its end."""
    made = Spent()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    before, clock, processor = memory("VmRSS"), time.perf_counter(), time.process_time()
    yield made
    made.clock, made.processor = time.perf_counter() - clock, time.process_time() - processor
    made.memory = memory("VmHWM") - before


def memory(what: str = "VmHWM", process: int | str = "self") -> int:
    """Bytes of a process, as Linux tells them: "VmRSS" now, "VmHWM" at the most so far."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def alone(work: Callable[..., T], *args: Any) -> T:
    """What `work` returns, done in a process of its own, so that its memory is not counted with that of this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


def taking_turns(
    peers: dict[str, Callable[[], T]], rounds: int, clocks: tuple[Callable[[], float], ...], warm_up: bool = False
) -> Iterator[tuple[dict[str, T], list[dict[str, list[float]]]]]:
    """Run every peer in turn, so that a busy moment hits none of them alone. Yields after each of the `rounds` what each
    returned last and, for each clock, its seconds so far; with `warm_up`, one round goes before that counts nothing.
    """
    taken: list[dict[str, list[float]]] = [{name: [] for name in peers} for _ in clocks]
    found = {name: run() for name, run in peers.items()} if warm_up else {}
    for _ in range(rounds):
        for name, run in peers.items():
            start = [clock() for clock in clocks]
            found[name] = run()
            for own, clock, since in zip(taken, clocks, start):
                own[name].append(clock() - since)
        yield found, taken
