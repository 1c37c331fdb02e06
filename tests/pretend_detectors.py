"""Stands in for run_error_detection.py where a test needs a run that fails, or one that lasts: it says what a real one says."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from review_data import missing, save_mistagged

from tagcheck.data_folder import DataFolder


def main(data_dir: str) -> int:
    print("[2/3] near-duplicates: find_near_duplicates.py", file=sys.stderr, flush=True)
    for percent in range(0, 51, 10):
        print(
            f"looking: {percent:3}%|{'#' * (percent // 10):10}| {percent}/100 [00:01<00:01]",
            end="\r",
            file=sys.stderr,
            flush=True,
        )
    time.sleep(float(os.environ.get("PRETEND_SECONDS", 0)))
    save_mistagged(DataFolder(Path(data_dir)), missing("f" * 64, "x"))
    print("near-duplicates: FAILED (exit code 3): no embeddings")
    print("1 of 3 detectors ran", flush=True)
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[2]))
