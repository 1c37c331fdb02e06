"""Long work in the background, one piece at a time, with progress that a page can ask for."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from flask import Flask, current_app

from tagcheck.errors import ToolError

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
    note: str = ""  # to be said with the result
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    cancel: Callable[[], None] | None = None
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def busy(self) -> bool:
        """Whether there is more to come: what the page and its script go by alike."""
        return self.state in ("running", "stopping")

    def progress(self, done: int, total: int) -> None:
        self.done, self.total = done, total

    def public(self) -> dict[str, Any]:
        """What a page may know of it."""
        seconds = (datetime.now(UTC) - self.started).total_seconds()
        told = {name: getattr(self, name) for name in ("kind", "words", "state", "done", "total", "line", "error")}
        return told | {"seconds": round(seconds), "cancel": self.cancel is not None}


class Jobs:
    """The one job that runs, and the last one that ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.current: Job | None = None

    def start(self, kind: str, words: str, work: Callable[[Job], Any], note: str = "") -> Job | None:
        """Run `work(job)` in a thread. None when another job is still running; what it raises becomes `job.error`."""
        with self._lock:
            if self.running() is not None:
                return None
            job = self.current = Job(kind, words, note=note)
        threading.Thread(target=_run, args=(job, work), name=f"job-{kind}", daemon=True).start()
        return job

    def tell(self, job: Job) -> None:
        """Its owner has been told what came of it: it is the current one no longer."""
        with self._lock:
            if self.current is job:
                self.current = None

    def running(self) -> Job | None:
        job = self.current
        return job if job is not None and job.busy else None


def install(app: Flask) -> None:
    """Give an application its jobs."""
    app.extensions["tagcheck_jobs"] = Jobs()
    app.context_processor(lambda: {"job": jobs().running()})


def jobs() -> Jobs:
    """The jobs of the current application."""
    return cast(Jobs, current_app.extensions["tagcheck_jobs"])


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
