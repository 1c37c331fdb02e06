"""What it costs to hold every shard against the sum that was written with it, as part of loading 100,000 embeddings.

    python benchmarks/digest.py
    python benchmarks/digest.py --rows 20000 --rounds 3

Reads   nothing: embeddings are drawn from a seed into a temporary folder
Writes  nothing; one line: seconds of the processor to load all, and the share that the sums take
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import common  # noqa: F401  (the project on the path)
import numpy as np

from tagcheck import script
from tagcheck.embedding import store

LENGTH = 768  # numbers of a JoyTag embedding


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_option(parser, "--rows", "embeddings", 100_000, type=script.at_least(1), metavar="N")
    script.add_option(parser, "--rounds", "times that all is loaded", 9, type=script.at_least(1), metavar="N")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    with tempfile.TemporaryDirectory() as made:
        folder, rng = Path(made), np.random.default_rng(0)
        with store.ShardWriter(folder, "m", "p") as writer:
            for start in range(0, args.rows, 5_000):
                hashes = [f"{row:064x}" for row in range(start, min(start + 5_000, args.rows))]
                writer.add(hashes, rng.standard_normal((len(hashes), LENGTH), dtype=np.float32))

        shares, took = [], []
        for _ in range(args.rounds):
            spent, began = [0.0], time.process_time()

            def timed(*given: Any) -> None:
                since = time.process_time()
                check(*given)
                spent[0] += time.process_time() - since

            check = store._check_bytes
            with patch.object(store, "_check_bytes", timed):
                store.load(folder)
            took.append(time.process_time() - began)
            shares.append(spent[0] / took[-1])
    print(
        f"{args.rows:,} rows: {median(took):.3f} s, {median(shares):.1%} of it for the sums (median of {args.rounds} rounds)"
    )
    return 0


if __name__ == "__main__":
    script.run(main)
