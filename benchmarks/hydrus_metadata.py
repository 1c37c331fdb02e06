"""How fast metadata comes out of a Hydrus client through `Hydrus.files`, beside the bare endpoint asked in the same chunks.

    HYDRUS_API_URL=http://localhost:45869 HYDRUS_API_KEY=... python benchmarks/hydrus_metadata.py
    HYDRUS_API_KEY=... python benchmarks/hydrus_metadata.py --search "system:archive" --rounds 9

Reads   the client that config.py names; nothing is changed there
Writes  nothing; prints files a second for both (medians of interleaved rounds), their ratio, and the memory that reading takes
        for some of the files and for all
"""

import json
import statistics
import time
import tracemalloc
from collections.abc import Sequence

import requests
from common import taking_turns

import config
from tagcheck.errors import MissingInput
from tagcheck.library.hydrus.client import CHUNK, Hydrus
from tagcheck.library.hydrus.connection import KEY_HEADER
from tagcheck.script import add_option, add_whole, plain_parser, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = plain_parser(__doc__)
    add_option(parser, "--search", "the files to read, as a Hydrus search", "system:everything")
    add_whole(parser, "--rounds", "how often each way is timed", 7)
    args = parser.parse_args(argv)
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
    # one round before those that count fills the client's caches
    *_, (_, (seconds,)) = taking_turns(ways, args.rounds, (time.perf_counter,), warm_up=True)
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


def peak_megabytes(hydrus: Hydrus, hashes: Sequence[str]) -> float:
    tracemalloc.start()
    for _ in hydrus.files(hashes):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


if __name__ == "__main__":
    run(main)
