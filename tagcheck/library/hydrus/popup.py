"""A message with progress and a cancel button in the Hydrus client's corner, for long runs.

The run is what matters: where Hydrus is away or busy, nothing is shown until it is back, and after a restart the
message is put up again. Pressing cancel there, or closing the message, means cancel. Each message says which process on which
machine put it up, so that the next run takes away those of runs that were killed.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from tagcheck import children
from tagcheck.errors import LibraryError, LibraryRefused
from tagcheck.library.hydrus.connection import Connection, tolerating

APPEARS = 5.0  # seconds until a message that Hydrus was asked to show must be there
EVERY = 1.0  # seconds between two updates
SILENCE = 30.0  # seconds without further tries when Hydrus does not answer


class Popup:
    """One message. Raises what the first request raises: a missing permission shows before the work begins, later troubles
    are only told. `cancelled` turns True, at an `update`, once its owner has cancelled.
    """

    def __init__(self, connection: Connection, title: str, boot: Callable[[], str | None]) -> None:
        self.cancelled = False
        self._connection = connection
        self._title = title
        self._boot_id = boot
        self._next = 0.0
        self._clear_away()
        self._open()

    def _clear_away(self) -> None:
        """Take away the messages of runs on this machine that ended without doing so."""
        for shown in self._connection.get("/manage_popups/get_popups")["job_statuses"]:
            made = shown.get("api_data")
            mine = isinstance(made, dict) and made.get("tagcheck") == platform.node()
            if mine and isinstance(made.get("process"), int) and not children.is_running(made["process"]):
                self.key, self._seen = shown["key"], True
                self._post("finish_and_dismiss_popup", {})

    def _open(self) -> None:
        self._boot = self._boot_id()
        made_by = {"tagcheck": platform.node(), "process": os.getpid()}
        body = {"status_title": self._title, "is_cancellable": True, "api_data": made_by}
        answer = self._connection.post("/manage_popups/add_popup", body, repeat=False)
        if answer is None:
            raise LibraryRefused("Hydrus did not say under which key its message is shown")
        self.key = answer["job_status"]["key"]
        self._seen = False

    def update(self, done: int, total: int, text: str) -> None:
        """Show `done` of `total` and a line of text; at most once a second, and without waiting for a Hydrus that is away."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        try:
            if not self._show(done, total, text) and not self.cancelled:
                self._open()
                self._show(done, total, text)
        except LibraryError as error:
            self._connection.tell(f"no progress is shown in Hydrus for now: {error}")
            self._next = time.monotonic() + SILENCE

    def _show(self, done: int, total: int, text: str) -> bool:
        """Whether the message is there. Where it is gone though the client was not started anew, its owner has closed it."""
        answer = self._post("update_popup", {"popup_gauge_1": [done, total], "status_text_1": text})
        if answer is not None:
            self.cancelled = bool(answer["job_status"].get("is_cancelled"))
        else:
            self.cancelled = self._boot_id() == self._boot
        return answer is not None

    def close(self) -> None:
        try:
            self._post("finish_and_dismiss_popup", {})
        except LibraryError as error:
            self._connection.tell(f"the message in Hydrus could not be taken away: {error}")

    def _post(self, what: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer, or None when the message is gone. A new message takes Hydrus' GUI a moment, in which it is not known yet."""
        until = time.monotonic() + APPEARS
        while True:
            with tolerating(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
                answer = self._connection.post(f"/manage_popups/{what}", {"job_status_key": self.key, **body})
                self._seen = True
                return answer or {}
            if self._seen or time.monotonic() > until:
                return None
            time.sleep(0.05)
