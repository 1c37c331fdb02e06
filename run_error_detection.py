"""Run every detector on one dataset and say what was found, what failed and why.

    python run_error_detection.py
    python run_error_detection.py --data-dir ~/tags --min-confidence 0.8 --threshold 0.97
    python run_error_detection.py --since last

Reads   datasets/advanced_joytag_complete_<UTC>.json (the newest, or --dataset), and what each detector reads
Writes  reports/ (one report a detector) and, last, reports/error_detection_summary_<UTC>.json

If a detector fails, only its own report is missing. The exit code is 0 when all of them ran, else that of the first one
that failed. Only --popup needs the library. With --since last the detectors run only where something has changed since
the last run, and the output says what.
"""

from __future__ import annotations

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
import codecs
import gc
import importlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import config
from tagcheck import changed, children, data_folder, detectors, forked, script
from tagcheck import dataset as datasets
from tagcheck.data_folder import DATASET, RUN_SUMMARY, DataFolder
from tagcheck.detectors import Detector
from tagcheck.errors import Cancelled, ToolError
from tagcheck.library import choose
from tagcheck.plural import plural
from tagcheck.review import store
from tagcheck.script import run

TAIL_CHARACTERS = 4096
SHARED = ("tagcheck.belief", "tagcheck.duplicates", "tagcheck.series", "tqdm")  # what our own detectors import


Process = subprocess.Popen[bytes] | forked.Fork


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_dataset(parser)
    script.add_memory(parser)
    own = "(default: the detector's own)"
    script.add_confidence(parser, f"leave out mistagged findings below this confidence, 0 to 1 {own}", None)
    cosine = f"cosine from which a pair counts as near-duplicate, 0.01 to 1 {own}"
    script.add_number(parser, "--threshold", cosine, low=0.01)
    engine = f"how near-duplicates are searched {own}"
    parser.add_argument("--engine", choices=("auto", "torch", "native"), help=engine)
    since = "run no detector where pictures, tags, embeddings, decisions, settings are as they were; say what is new"
    script.add_option(parser, "--since", since, choices=("last",))
    script.add_popup(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    detectors.register(config.OWN_DETECTORS, script.PROJECT)
    folder = script.data_folder(args)
    dataset = folder.require(DATASET, args.dataset)
    rests, last = rests_on(folder, args), changed.last_run(folder)
    found = changed.since(folder, last, dataset, rests) if args.since and last else None
    if args.since:
        script.say(told(last, found))
    if last is not None and last.whole and found is not None and not found:
        print(f"nothing has changed since {last.created}: no detector was run")
        return 0
    load_for_all(folder, dataset, args.max_embeddings)
    with popup(folder, args.popup) as message:
        rows = [
            detect(detector, number, folder, dataset, args, message)
            for number, detector in enumerate(detectors.DETECTORS, 1)
        ]
    document: dict[str, Any] = {"dataset": dataset.name, "rests_on": rests}
    if args.since and last:
        document["since"] = {"last": last.created} | (asdict(found) if found is not None else {})
        for detector, row in zip(detectors.DETECTORS, rows):
            if row["report"]:
                before = last.reports.get(row["script"])
                row["new_findings"] = changed.new_findings(folder, detector, before, row["report"])
    summary = data_folder.save(folder, RUN_SUMMARY, document | {"detectors": rows})
    print_outcome(rows, summary)
    return next((row["exit_code"] for row in rows if row["exit_code"]), 0)


def rests_on(folder: DataFolder, args: argparse.Namespace) -> dict[str, str]:
    """What the reports rest on beside the dataset: `changed.rests_on`."""
    decided = (*store.decisions(folder.review).items(), *store.pair_decisions(folder.review).items())
    given = {name: getattr(args, name) for one in detectors.DETECTORS for name in one.options}
    return changed.rests_on(folder, (*decided, *sorted(store.muted(folder.review))), given, script.PROJECT)


def forks(detector: Detector) -> bool:
    """Whether a detector is a fork of this process: one of our own, where processes can fork."""
    return forked.CAN_FORK and not Path(detector.script).is_absolute()


def load_for_all(folder: DataFolder, dataset: Path, most: int | None) -> None:
    """Load what all detectors that are forks of this process need, once for all of them."""
    if any(map(forks, detectors.DETECTORS)):
        for name in SHARED:
            importlib.import_module(name)
        with suppress(ToolError):  # each of them says what is wrong with it
            datasets.hold(folder, dataset, most)
            data = datasets.load(folder, dataset, most, lambda told: None)
            hold = importlib.import_module("tagcheck.embedding.store").hold
            hold(folder.embeddings, (record.hash for record in data.usable()), data.model)
        gc.freeze()  # what a collection never looks at stays shared


def told(last: changed.Last | None, found: changed.Changed | None) -> str:
    """What --since last compares with, in a line."""
    if last is None:
        return "no run before this one: everything is looked at"
    if found is None:
        return f"the dataset of the run of {last.created} is gone: everything is looked at"
    whole = "" if last.whole else "; that run was not whole"
    return f"since {last.created}: {found or 'nothing has changed'}{whole}"


def popup(folder: DataFolder, wanted: bool) -> AbstractContextManager[script.Shown | None]:
    """The message in Hydrus that --popup asks for; without it no library is needed, and none is opened."""
    if not wanted:
        return nullcontext()
    library = choose.mapped_library(folder, config, None, script.say)
    return script.popup(library, True, "tagcheck: looking for errors")


def detect(
    detector: Detector,
    number: int,
    folder: DataFolder,
    dataset: Path,
    args: argparse.Namespace,
    message: script.Shown | None,
) -> dict[str, Any]:
    """Run one detector as a process, its progress passed on to stderr, and describe how it went. One of our own is a fork."""
    total = len(detectors.DETECTORS)
    script.say(f"[{number}/{total}] {detector.name}: {detector.script}")
    command = [str(script.PROJECT / detector.script)]
    command += ["--data-dir", str(folder.root), "--dataset", str(dataset)]
    for option in detector.options:
        if (value := getattr(args, option)) is not None:
            command += [f"--{option.replace('_', '-')}={value}"]
    before, start = folder.newest(detector.report), time.monotonic()
    exit_code, said = _run_passing_on(command, forks(detector), Watch(message, number - 1, total, detector.name))
    report = folder.newest(detector.report)
    row = {
        "name": detector.name,
        "script": detector.script,
        "exit_code": exit_code,
        "seconds": round(time.monotonic() - start, 2),
        "report": None,
        "findings": None,
        "message": said,
    }
    if exit_code == 0 and report is not None and report != before:
        summary = data_folder.head(report, detector.report).get("summary")
        if summary is None:  # it stands behind the findings
            summary = data_folder.load(report, detector.report).get("summary", {})
        row |= {"report": report.name, "findings": detector.findings(summary)}
    elif exit_code == 0:
        row |= {"exit_code": 1, "message": f"{detector.script} ended without an error and without a report"}
    return row


def print_outcome(rows: list[dict[str, Any]], summary: Path) -> None:
    """What was found and what failed, a line a detector, on stdout."""
    for row in rows:
        if row["exit_code"] == 0:
            new = f", {row['new_findings']} of them new," if "new_findings" in row else ""
            print(
                f"{row['name']}: {plural(row['findings'], 'finding')}{new} in {row['seconds']:.1f} s -> {row['report']}"
            )
        else:
            print(f"{row['name']}: FAILED (exit code {row['exit_code']}): {row['message']}")
    failed = sum(row["exit_code"] != 0 for row in rows)
    found = sum(row["findings"] or 0 for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} detectors ran, {plural(found, 'finding')} -> {summary}")


class Watch(threading.Thread):
    """Keeps a message in the library's program up to date while a detector runs, and ends the detector when it is cancelled there."""

    def __init__(self, message: script.Shown | None, done: int, total: int, text: str) -> None:
        super().__init__(daemon=True)
        self.cancelled = False
        self._message, self._place, self._text = message, (done, total), text
        self._over = threading.Event()
        self._process: Process | None = None

    def over(self, process: Process) -> Watch:
        """Watch over this process until `stop`; nothing without a message."""
        self._process = process
        if self._message is not None:
            self.start()
        return self

    def run(self) -> None:
        assert self._message is not None and self._process is not None  # else `over` starts no thread
        while not self.cancelled and not self._over.is_set():
            self._message.update(*self._place, self._text)
            self.cancelled = self._message.cancelled
            self._over.wait(0.2)
        if self.cancelled:
            self._process.terminate()

    def stop(self) -> None:
        """Wait until nothing is shown any more. Raises `Cancelled`."""
        self._over.set()
        if self.is_alive():
            self.join()
        if self.cancelled:
            raise Cancelled()


def _run_passing_on(command: list[str], fork: bool, watch: Watch) -> tuple[int, str]:
    """(exit code, last line said) of a script whose stdout and stderr go to this process's stderr as they come.
    Raises `Cancelled`.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    with _started(command, fork) as process:
        tail = ""
        watch.over(process)
        try:
            while chunk := os.read(process.stdout.fileno(), 65536) if process.stdout else b"":
                text = decoder.decode(chunk)
                sys.stderr.write(text)
                sys.stderr.flush()
                tail = (tail + text)[-TAIL_CHARACTERS:]
        except BaseException:
            _end(process)
            raise
    watch.stop()
    lines = [line.strip() for line in tail.replace("\r", "\n").split("\n") if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
    code = process.returncode or 0
    return code if code >= 0 else 128 - code, said.removeprefix("error: ")  # signals as a shell counts them


def _started(command: list[str], fork: bool) -> Process:
    environment = children.environment(**({"TAGCHECK_PROGRESS": "live"} if sys.stderr.isatty() else {}))
    if fork:
        return forked.Fork(command, environment)
    none, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *command], stdin=none, stdout=pipe, stderr=subprocess.STDOUT, env=environment
    )


def _end(process: Process) -> None:
    """End a detector. Ctrl-C in a terminal has reached it already, so it gets a moment before it is told again."""
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        process.terminate()


if __name__ == "__main__":
    run(main)
