"""Long work in the background, one piece at a time, with its progress and a way to stop it: the detectors, or a batch of writes.

Where changes were written that the newest dataset does not know of, its tags are read again before the detectors run.
"""

from __future__ import annotations

import itertools
import logging
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from flask import Blueprint, Flask, current_app, render_template, request
from werkzeug.wrappers import Response

from tagcheck import children
from tagcheck.data_folder import EXTRACTION_LOCK, DataFolder
from tagcheck.errors import ToolError
from tagcheck.library import refresh_tags
from tagcheck.lock import sole_run
from tagcheck.review import Review, report_import
from webapp import state
from webapp.answers import go
from webapp.views import not_in_dataset

PROJECT = Path(__file__).resolve().parent.parent
SCRIPT = "run_error_detection.py"
GRACE_SECONDS = 20
STAGE = re.compile(r"\[(\d+)/(\d+)\] ")  # a detector begins
BAR = re.compile(r"(.*?)(\d{1,3})%\|")  # a progress bar as the scripts draw it

blueprint = Blueprint("running", __name__, url_prefix="/error-review")
log = logging.getLogger(__name__)


@dataclass
class Job:
    """Work: `done` of `total` (0: not known), `state` "running", "stopping", "done", "failed" or "cancelled"."""

    kind: str
    words: str
    state: str = "running"
    done: int = 0
    total: int = 0
    line: str = ""
    error: str = ""
    result: Any = None
    lead: Callable[[Job], Response] | None = None  # to where its owner is told what came of it
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    cancel: Callable[[], None] | None = None
    finished: threading.Event = field(default_factory=threading.Event)
    number: int = 0  # of the jobs since the page's start
    told: bool = False  # whether its owner was told what came of it

    @property
    def busy(self) -> bool:
        """Whether there is more to come: what the page and its script go by alike."""
        return self.state in ("running", "stopping")

    def progress(self, done: int, total: int) -> None:
        self.done, self.total, self.line = done, total, ""

    def public(self) -> dict[str, Any]:
        """What a page may know of it."""
        seconds = (datetime.now(UTC) - self.started).total_seconds()
        told = {name: getattr(self, name) for name in ("kind", "words", "state", "done", "total", "line", "error")}
        return told | {"seconds": round(seconds), "cancel": self.cancel is not None}


class Jobs:
    """The one job that runs, or the last one that ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = itertools.count(1)
        self.current: Job | None = None

    def start(self, job: Job, work: Callable[[Job], Any]) -> bool:
        """Run `work(job)` in a thread, unless another job is still running; what it raises becomes `job.error`."""
        with self._lock:
            if self.running() is not None:
                return False
            self.current, job.number = job, next(self._count)
        threading.Thread(target=_run, args=(job, work), name=f"job-{job.kind}", daemon=True).start()
        return True

    def hear(self, line: str) -> None:
        """The library is waited for, and the job that runs says so, until it goes on."""
        if job := self.running():
            job.line = line

    def running(self) -> Job | None:
        job = self.current
        return job if job is not None and job.busy else None


def install(app: Flask) -> None:
    made = app.extensions["tagcheck_jobs"] = Jobs()
    app.extensions["tagcheck"].hear = made.hear
    app.context_processor(lambda: {"job": jobs().running()})
    app.register_blueprint(blueprint)


def jobs() -> Jobs:
    return cast(Jobs, current_app.extensions["tagcheck_jobs"])


@blueprint.get("/run")
def job() -> Response | str:
    """The job that runs, or the last one, unless its owner was told of it; and the button that starts the detectors.

    `job`: the number of the one that was followed, whose end is told once more, since another tab may have been told of it.
    """
    current = jobs().current
    if current is not None and current.lead is not None and not current.busy:
        if not current.told or request.args.get("job", type=int) == current.number:
            return current.lead(current)
        current = None
    return render_template("run.html", current=current, stale=not_in_dataset())


@blueprint.get("/run/status")
def status() -> dict[str, Any]:
    """The job as the page's script asks for it."""
    current = jobs().current
    return current.public() if current else {"state": "none"}


@blueprint.post("/run")
def start() -> Response:
    folder = state.settings().folder
    fresh = bool(not_in_dataset()) and request.form.get("tags") != "before"
    shared = state.shared()

    def work(made: Job) -> int:
        if fresh:
            refresh(made, shared)
        return detect(made, folder)

    started = jobs().start(Job("detect", "Running the detectors"), work)
    return go("running.job", "" if started else "Something is still running. Nothing was started.")


@blueprint.post("/run/cancel")
def cancel() -> Response:
    """Stop the run, as Ctrl-C would."""
    current = jobs().running()
    if current is None or current.cancel is None:
        return go("running.job", "Nothing is running that could be stopped.")
    current.cancel()
    current.finished.wait(GRACE_SECONDS)
    return go("running.job")


def refresh(job: Job, shared: state.Shared) -> None:
    """Read the tags of the dataset's pictures again. Raises `ToolError` where the library is away or an extraction runs."""
    folder, series = shared.settings.folder, shared.settings.series_namespace
    job.line = "Reading the tags of all pictures, since changes were written"

    def progress(done: int) -> None:
        job.line = f"Reading the tags of all pictures, since changes were written: {done:,}"

    with sole_run(folder.embeddings / EXTRACTION_LOCK):
        refresh_tags(folder, shared.writer(), series, progress)


def detect(job: Job, folder: DataFolder) -> int:
    """Run the detectors as a process of their own, then read their reports. Its exit code; raises `ToolError` when it failed."""
    command = [sys.executable, str(PROJECT / SCRIPT), "--data-dir", str(folder.root)]
    ends: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = children.environment(TAGCHECK_PROGRESS="live")
    process: subprocess.Popen[bytes] = subprocess.Popen(command, env=environment, **ends, **children.OWN_GROUP)

    def stop() -> None:
        job.state, job.cancel = "stopping", None
        children.end(process)

    job.cancel = stop
    tail = _follow(job, process)
    code = process.wait()
    stopped, job.cancel = job.state == "stopping", None
    with Review(folder.review) as store:
        report_import.sync(store, folder)
    if stopped:
        job.state, job.line = "cancelled", "Stopped. Reports of detectors that had finished are kept."
    elif code:
        failures = [line for line in tail if "FAILED" in line or line.startswith("error: ")]
        raise ToolError(failures[-1] if failures else f"exit code {code}")
    return code


def _follow(job: Job, process: subprocess.Popen[bytes]) -> deque[str]:
    """Read what the process says; a progress bar's line replaces the one before, a detector is a part of the whole."""
    tail: deque[str] = deque(maxlen=200)
    rest, stage, stages = b"", 0, 1
    assert isinstance(process.stdout, BufferedReader)  # nosec B101
    with process.stdout as said:
        while chunk := said.read1(4096):
            *lines, rest = re.split(rb"[\r\n]", rest + chunk)
            for text in (line.decode("utf-8", "replace").strip() for line in lines):
                if begins := STAGE.match(text):
                    stage, stages = int(begins[1]) - 1, int(begins[2])
                    job.progress(100 * stage, 100 * stages)
                if bar := BAR.match(text):
                    job.progress(100 * stage + int(bar[2]), 100 * stages)
                    job.line = f"{bar[1].strip()} {bar[2]} %"
                elif text:
                    tail.append(text)
                    job.line = text
    return tail


def _run(job: Job, work: Callable[[Job], Any]) -> None:
    try:
        job.result = work(job)
        job.state = "done" if job.state == "running" else job.state
    except ToolError as error:
        job.error, job.state = str(error), "failed"
    except Exception as error:  # a thread has no caller: the page says it, the log has the traceback
        log.exception("%s failed", job.words)
        job.error, job.state = f"{type(error).__name__}: {error}", "failed"
    finally:
        job.finished.set()
