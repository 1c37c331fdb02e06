"""What the page's views share: the settings, the store of this request, and the library, opened when first needed."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar, cast

from flask import Flask, current_app

from tagcheck.data_folder import DataFolder
from tagcheck.errors import ToolError
from tagcheck.library import Library, TagService
from tagcheck.library.protocol import ALTERNATES, DUPLICATES, FALSE_POSITIVES, POTENTIAL_DUPLICATES
from tagcheck.review import Filter, Review, queries, report_import
from tagcheck.review.queries import SURE, Count, Counted
from tagcheck.review.store import OPEN
from tagcheck.writing import Ledger

T = TypeVar("T")
log = logging.getLogger(__name__)
# As what a pair can be handed over to the library: the first is a question, the others are judgements.
RELATIONS = (POTENTIAL_DUPLICATES, DUPLICATES, ALTERNATES, FALSE_POSITIVES)
SERVICES = "tag services"  # the store's note of those that the library was seen with
REMEMBERED = 300
MOMENT = 1.0  # seconds that a request waits for newer reports
FIRST = 1.0  # likewise where none were read before: then the page says that they are being read
PATIENCE = 0.3  # seconds that a card waits for the library to say where tags are written to
TARGET_HOLDS = 60.0  # seconds that the name of the tag service written to is believed
AGAIN = 10.0  # seconds before reports that could not be read are tried again


@dataclass(frozen=True)
class Settings:
    """Everything the page needs to be told.

    `open_library` opens the library or raises a `ToolError`; it is called at first use, so that the
    page can be read while the library is away. `host` is the address served on. `invisible` are the
    namespaces never copied across a pair by one key, `series_namespace` is that of franchises.
    """

    folder: DataFolder
    open_library: Callable[[], Library]
    library_name: str = ""
    host: str = "127.0.0.1"
    invisible: Sequence[str] = ()
    write_service: str | None = None
    series_namespace: str = "series"
    thumbnail_cache_bytes: int = 512 * 2**20


class Shared:
    """One per application, shared by its threads: the opened library and the one thread that reads new reports."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.memory = Memory()
        self._stores = threading.local()
        self.ledger = Ledger(settings.folder.review)
        self._starting = threading.Lock()
        self._reader: Reader | None = None
        self._opening = threading.Lock()
        self._library: Library | None = None
        self._hurried: Library | None = None
        self.hear: Callable[[str], Any] = log.info  # a line about what the library is waited for
        self.lost = ""  # what the library was found to have lost, until somebody looks at the applied changes
        self.left_out: set[str] = set()  # the rows of the difference that were unticked when nothing came of an apply
        self.confirming: threading.Timer | None = None  # which will read again what the library may not have saved yet
        self._target, self._asked = "", -math.inf  # the tag service written to, and when it was asked for

    def store(self) -> Review:
        """The store as this thread has it open, since opening one takes longer than most questions to it; of the file that is there
        now: another may have been put in its place.
        """
        store: Review | None = getattr(self._stores, "store", None)
        if store is None or not store.is_current():
            self._stores.store = store = Review(self.settings.folder.review)
        return store

    def library(self) -> Library:
        """The library to read from, which says soon when it is away. Raises what opening it raises."""
        library = self.writer()
        with self._opening:
            if self._hurried is None:
                self._hurried = library and library.hurried()
            return self._hurried

    def writer(self) -> Library:
        """The library to write to, which waits out a client that restarts or is busy. Raises as `library`."""
        with self._opening:
            if self._library is None:
                self._library = self.settings.open_library()
                if self._library is not None:  # a page may be without a library
                    self._library.tell_to(lambda line: self.hear(line))
            return self._library

    def target(self) -> str:
        """The name of the tag service that accepted changes go to, "" while that is not known: it is asked beside the requests."""
        if time.monotonic() - self._asked >= TARGET_HOLDS:
            self._asked = time.monotonic()
            asker = threading.Thread(target=self._ask_target, name="target", daemon=True)
            asker.start()
            asker.join(PATIENCE)
        return self._target

    def _ask_target(self) -> None:
        try:
            service = write_service(self.library().services(), self.settings.write_service)
            self._target = service.name if service else ""
        except ToolError:
            self._target, self._asked = "", -math.inf  # it may be back the next time

    def there(self) -> Library | None:
        """The library to read from, None while it cannot be opened."""
        with suppress(ToolError):
            return self.library()
        return None

    def services(self) -> dict[str, TagService]:
        """The tag services by key: the library's own, then those that it had before; while it is away, all that were seen."""
        store = self.store()
        known = {one["key"]: TagService(**one) for one in json.loads(store.meta(SERVICES, "[]"))}
        with suppress(ToolError):
            there = {one.key: one for one in self.library().services()}
            now = there | {key: one for key, one in known.items() if key not in there}
            if list(now.items()) != list(known.items()):
                store.set_meta(SERVICES, json.dumps([asdict(one) for one in now.values()]))
            return now
        return known

    def abilities(self) -> dict[str, Any]:
        """What the library offers beyond tags: whether it can `open` pictures, and as what pairs can be handed over (`relate`)."""
        library = self.there()
        return {
            "open": hasattr(library, "open_page"),
            "relate": RELATIONS if hasattr(library, "set_relationship") else (),
        }

    def reader(self) -> Reader:
        """The one that reads newer reports now. One is started where there is none, unless the last has just failed."""
        with self._starting:
            last = self._reader
            # Trying again what has just failed would only keep the machine busy.
            lately = last is not None and last.trouble and time.monotonic() - last.ended < AGAIN
            if last is None or not (last.is_alive() or lately):
                self._reader = last = Reader(self.settings.folder)
                last.start()
            return last

    def up_to_date(self) -> None:
        """The tables have what is newest: what went wrong before is past."""
        with self._starting:
            if self._reader is not None and not self._reader.is_alive():
                self._reader = None

    def reading(self) -> dict[str, Any]:
        """For pages: whether reports are being read, why they could not be (`trouble`), what the library has `lost`."""
        last = self._reader
        going = last is not None and last.is_alive()
        trouble = last.trouble if last is not None and not going else ""
        return {"reading": going, "trouble": trouble, "lost": self.lost}


class Reader(threading.Thread):
    """Reads newer reports into the store, once. When it has ended, `trouble` says why they could not be read, if so."""

    def __init__(self, folder: DataFolder) -> None:
        super().__init__(name="reader", daemon=True)
        self.folder = folder
        self.problems: dict[str, str] = {}  # of what was read, by kind of file
        self.trouble = "reading them broke off, and the terminal of this page says why"  # until known better
        self.ended = 0.0

    def run(self) -> None:
        """Read. What nobody expects is left to the thread's own hook, which prints it."""
        try:
            with Review(self.folder.review) as store:
                self.problems = report_import.sync(store, self.folder)
            self.trouble = ""
        except (ToolError, OSError, sqlite3.Error) as error:
            self.trouble = str(error)
        finally:
            self.ended = time.monotonic()


class Memory:
    """Answers of the index, kept while nothing in the store changes; counts of views are kept up with what changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revision = -1
        self._answers: dict[Hashable, Any] = {}
        self._asking: dict[Hashable, threading.Lock] = {}
        self._counts: dict[Filter, Counted] = {}

    def get(self, question: Hashable, store: Review, ask: Callable[[], T]) -> T:
        """The answer for the store as it is now: the remembered one, else `ask()`. Who asks the same meanwhile waits for it."""
        with self._lock:
            asking = self._asking.setdefault(question, threading.Lock())
        with asking:
            revision = store.revision()
            with self._lock:
                if revision != self._revision or len(self._answers) >= REMEMBERED:
                    self._revision, self._answers, self._asking = revision, {}, {question: asking}
                if question in self._answers:
                    return cast(T, self._answers[question])
            answer = ask()
            with self._lock:
                if self._revision == revision == store.revision():
                    self._answers[question] = answer
        return answer

    def counts(self, view: Filter, store: Review) -> Counted:
        """A view's counts: from those counted before, what moved since."""
        view = replace(view, state=OPEN if view.state else "", order=SURE)
        made = queries.counted(store, view, self._counts.get(view))
        with self._lock:
            if len(self._counts) >= REMEMBERED:
                self._counts.clear()
            self._counts[view] = made
        return made


def install(app: Flask, settings: Settings) -> Shared:
    shared = app.extensions["tagcheck"] = Shared(settings)
    app.context_processor(shared.reading)
    return shared


def shared() -> Shared:
    return cast(Shared, current_app.extensions["tagcheck"])


def settings() -> Settings:
    return shared().settings


def review() -> Review:
    return shared().store()


class StillReading(Exception):
    """The first reports are being read, and nothing was read before: there is nothing to show yet, and nothing is known."""


def refresh(whole: bool = False) -> None:
    """Have newer reports read into the store, in the background: few are there at once; for the end of many no page waits,
    but shows what was there before. Raises `StillReading` where nothing was, but for who needs the `whole`: that waits.
    Every page says why reports cannot be read.
    """
    if not report_import.behind(review(), settings().folder):
        shared().up_to_date()
        return
    before = report_import.has_read(review())
    reader = shared().reader()
    reader.join(MOMENT if before else None if whole else FIRST)
    if reader.is_alive() and not before:
        raise StillReading


def remembered(name: Hashable, ask: Callable[[Review], T]) -> T:
    """What `ask` says about the store, asked once for each state of it."""
    return shared().memory.get(name, review(), lambda: ask(review()))


def count(view: Filter) -> Count:
    """How many findings and suggestions a view holds."""
    return shared().memory.counts(view, review()).of(view.state)


def queues(view: Filter) -> dict[str, Count]:
    """How many findings and suggestions of a view stand in each queue."""
    return shared().memory.counts(replace(view, state=OPEN), review()).queues()


def write_service(services: Sequence[TagService], *wanted: str | None) -> TagService | None:
    """The tag service to write to: the first of those wanted, by key or name, that is there, else the library's first."""
    for name in wanted:
        for service in services:
            if name and name in (service.key, service.name):
                return service
    return services[0] if services else None
