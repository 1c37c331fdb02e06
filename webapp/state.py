"""What the page's views share: the settings, the store of this request, and the library, opened when first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Flask, current_app, g

from tagcheck import review_import
from tagcheck.artifacts import DataFolder
from tagcheck.library import Library, TagService
from tagcheck.review import Review


@dataclass(frozen=True)
class Settings:
    """Everything the page needs to be told.

    `open_library` opens the library or raises a `ToolError`; it is called at first use, so that the
    page can be read while the library is away. `host` is the address served on. `invisible` are the
    namespaces never copied across a pair by one key. `detectors` is the script that the page may run.
    """

    folder: DataFolder
    open_library: Callable[[], Library]
    library_name: str = ""
    host: str = "127.0.0.1"
    invisible: Sequence[str] = ()
    write_service: str | None = None
    thumbnail_cache_bytes: int = 512 * 2**20


class Shared:
    """One per application, shared by its threads: the opened library and the lock around reading new reports."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.syncing = threading.Lock()
        self._opening = threading.Lock()
        self._library: Library | None = None

    def opened(self) -> Library | None:
        """The library if it was opened already."""
        return self._library

    def library(self) -> Library:
        """The library. Raises what `Settings.open_library` raises; the next call then tries again."""
        with self._opening:
            if self._library is None:
                self._library = self.settings.open_library()
            return self._library


def install(app: Flask, settings: Settings) -> Shared:
    """Give an application its shared state."""
    shared = app.extensions["tagcheck"] = Shared(settings)
    app.teardown_appcontext(_close)
    return shared


def shared() -> Shared:
    """The shared state of the current application."""
    return current_app.extensions["tagcheck"]


def settings() -> Settings:
    """The settings of the current application."""
    return shared().settings


def review() -> Review:
    """The store, opened once a request."""
    if "review" not in g:
        g.review = Review(settings().folder.review)
    return g.review


def refresh() -> None:
    """Read newer reports into the store, unless another request is at it: this one then shows what was there before."""
    lock = shared().syncing
    if lock.acquire(blocking=False):
        try:
            review_import.sync(review(), settings().folder)
        finally:
            lock.release()


def write_service(services: Sequence[TagService], wanted: str | None = None) -> TagService | None:
    """The tag service to write to: the wanted one by key, else the configured one by key or name, else the library's first."""
    for name in (wanted, settings().write_service):
        for service in services:
            if name and name in (service.key, service.name):
                return service
    return services[0] if services else None


def _close(_: object) -> None:
    store = g.pop("review", None)
    if store is not None:
        store.close()
