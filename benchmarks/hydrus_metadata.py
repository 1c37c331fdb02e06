"""How fast metadata comes out of a Hydrus client through `Hydrus.files`, beside the bare endpoint asked in the same chunks.

    HYDRUS_API_URL=http://localhost:45869 HYDRUS_API_KEY=... python benchmarks/hydrus_metadata.py
    HYDRUS_API_KEY=... python benchmarks/hydrus_metadata.py --search "system:archive" --rounds 9

Reads   the client that config.py names; nothing is changed there
Writes  nothing; prints files a second for both (medians of interleaved rounds), their ratio, and the memory that reading takes
        for some of the files and for all
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import config
from tagcheck.errors import MissingInput
from tagcheck.library.hydrus.client import CHUNK, Hydrus
from tagcheck.library.hydrus.connection import KEY_HEADER
from tagcheck.script import at_least, run


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--search",
        default="system:everything",
        help="the files to read, as a Hydrus search (default: system:everything)",
    )
    parser.add_argument("--rounds", type=at_least(1), default=7, help="how often each way is timed (default: 7)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    hydrus = Hydrus(config.API_URL, config.API_KEY)
    hashes = list(hydrus.search(args.search).pages[0].hashes)
    if len(hashes) < 2 * CHUNK:
        raise MissingInput(
            f"{args.search!r} finds {len(hashes)} files: at least {2 * CHUNK} are needed to time anything"
        )
    session = requests.Session()
    session.headers[KEY_HEADER] = config.API_KEY
    ways = {
        "bare endpoint": lambda: bare(session, hashes),
        "Hydrus.files": lambda: sum(1 for _ in hydrus.files(hashes)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.rounds + 1):
        for name, way in ways.items():
            taken = timed(way)
            if number:  # the first round fills the client's caches
                seconds[name].append(taken)
    rates = {name: len(hashes) / statistics.median(taken) for name, taken in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:14} {rate:8.0f} files/s   (of {len(hashes)} files, {CHUNK} a call, median of {args.rounds})")
    print(f"ratio          {rates['Hydrus.files'] / rates['bare endpoint']:8.3f}")
    for some in (hashes[: 2 * CHUNK], hashes):
        print(f"memory         {peak_megabytes(hydrus, some):8.1f} MB at most for {len(some)} files")
    return 0


def bare(session: requests.Session, hashes: Sequence[str]) -> int:
    """The rows of all hashes, asked for with nothing around the endpoint."""
    rows = 0
    for start in range(0, len(hashes), CHUNK):
        query = {"hashes": json.dumps(hashes[start : start + CHUNK]), "include_services_object": "false"}
        rows += len(
            session.get(f"{config.API_URL}/get_files/file_metadata", params=query, timeout=60).json()["metadata"]
        )
    return rows


def timed(way: Callable[[], int]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def peak_megabytes(hydrus: Hydrus, hashes: Sequence[str]) -> float:
    tracemalloc.start()
    for _ in hydrus.files(hashes):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


if __name__ == "__main__":
    run(main)
