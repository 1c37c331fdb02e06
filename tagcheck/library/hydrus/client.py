"""A Hydrus client as a library of tagged pictures, over its Client API.

docs/decisions/hydrus.md says why pages are never refreshed, why hashes are asked for and no file ids, which tags *count*,
how tags are written, and which one of these writes cannot be undone exactly.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from http import HTTPStatus
from re import compile as pattern
from typing import Any, TypeVar

from tagcheck.changes import TagChange
from tagcheck.errors import Cancelled, FileUnavailable, LibraryRefused, LibraryUnreachable, UsageError
from tagcheck.library import protocol
from tagcheck.library.hydrus import connection, pages, tag_answers
from tagcheck.library.hydrus.connection import Answer, Connection, HydrusSaysNo, tolerating
from tagcheck.library.hydrus.pair_answers import KINDS, judgement, judgements
from tagcheck.library.hydrus.popup import Popup
from tagcheck.library.hydrus.tag_answers import Planner, Relation, file_info
from tagcheck.library.protocol import (
    FileInfo,
    Judgement,
    Library,
    NoWrite,
    Page,
    TagRelations,
    TagService,
    TagWrite,
    Walk,
    unique,
)
from tagcheck.refusals import Spellings

T = TypeVar("T")
CHUNK = 256  # hashes a call: over 90 % of the best rate, and an address of 17 kB
SHA256 = pattern(r"[0-9a-f]{64}")
ALL_LOCAL_FILES = "616c6c206c6f63616c2066696c6573"  # the domain of everything on this machine, trash included
MY_TAGS = "6c6f63616c2074616773"  # the key of the local tag service that every client starts with
OLDEST_TO_WRITE = 580  # the version in which add_tags learned to respect what the owner has deleted
# Pixels: Hydrus needs seconds and gigabytes for more, and sends them uncompressed to Pillow.
LARGEST_RENDER = 64_000_000

LARGEST_PICTURE = 5 * LARGEST_RENDER  # bytes of what Hydrus draws or keeps as a thumbnail

# page_state of /manage_pages, while there is something to wait for; 0 is ready
STATE_WORDS = {1: "loading", 2: "searching"}
CANCELLED = 3
SEARCH_PAGE = 6  # page_type of an ordinary page of files

REASON = "wrong for this picture"  # what a petition says when nobody gave a reason


def chunks(items: Sequence[T]) -> Iterator[list[T]]:
    return (list(items[start : start + CHUNK]) for start in range(0, len(items), CHUNK))


class Hydrus(Library):
    """The client at `url`, asked with the access key `key`. Nothing is sent before the first call.

    `tag_services` (names or keys) says whose tags count: empty means all local ones and repositories but
    `machine_services`. `write_service` is where tags are added by default: one of them, else "my tags", else the first
    local one. `page_wait` is how many seconds a page may take to load, `patience` how many a client that restarts or is
    locked. `tell` gets a line now and then about what is being waited for.
    """

    kind = "hydrus"
    left_behind = (
        "Hydrus remembers a tag that was added and taken off again as deleted there, and its API cannot make it forget: so the tag is not "
        "suggested for that picture again. Hydrus itself can: manage tags > cog > migrate tags for these files > deleted > clear deletion record."
    )

    def __init__(
        self,
        url: str,
        key: str,
        *,
        tag_services: Sequence[str] = (),
        machine_services: Sequence[str] = (),
        write_service: str | None = None,
        page_wait: float = 300.0,
        patience: float = 60.0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.connection = Connection(url, key, patience, tell)
        self._tell = self.connection.tell
        self._chosen = tuple(tag_services)
        self._machine = tuple(machine_services)
        self._write_service = write_service
        self._page_wait = page_wait
        self._popup: Popup | None = None
        self._may_commit = True  # until Hydrus says that this key may not
        self._heard_of: set[str] = set()  # hashes that Hydrus has a row for, as far as it was asked

    def hurried(self) -> Hydrus:
        other = copy(self)
        other.connection = self.connection.hurried()
        return other

    def tell_to(self, tell: Callable[[str], None]) -> None:
        self._tell = self.connection.tell = tell

    # --- what this library is ---------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """`{"type": "hydrus", "url", "api_version", "hydrus_version", "tag_services", "counted"}`.

        `tag_services` holds the keys of those that count where any were chosen or left out ([] for all), so
        that a later stage can count the same; `counted` the names of those that count, for people.
        """
        version = self.connection.get("/api_version")
        counted = self._counted()
        return {
            "type": self.kind,
            "url": self.connection.url,
            "api_version": version["version"],
            "hydrus_version": version.get("hydrus_version"),
            "tag_services": list(counted) if self._chosen or self._machine else [],
            "counted": [one.name for one in counted.values()],
        }

    def permissions(self) -> tuple[str, set[int]]:
        """The name of the access key and the numbers of the permissions it has."""
        answer = self.connection.get("/verify_access_key")
        return str(answer.get("name", "")), set(answer.get("basic_permissions") or ())

    def key_filter(self) -> str:
        """What the key may search for, in Hydrus' words, where that is less than all; else ""."""
        said = str(self.connection.get("/verify_access_key").get("human_description") or "")
        _, found, what = said.rpartition("Can search: ")
        return what if found and what != "allowing all tags" else ""

    def why_no_service(self) -> str:
        lacks = f'the API key {self.permissions()[0]!r} lacks the permission "{connection.PERMISSIONS[connection.EDIT_TAGS]}"'
        return f"{lacks}: {connection.WHERE_KEYS_ARE}"

    def services(self) -> list[TagService]:
        """The services that count and can be written to, the default first. Empty when the key may not edit tags."""
        if connection.EDIT_TAGS not in self.permissions()[1]:
            return []
        return self._writable()

    def _writable(self) -> list[TagService]:
        everything = self._tag_services()
        counted = self._counted(everything)
        default = counted.get(MY_TAGS)
        if self._write_service is not None:
            default = pages.service_named(self._write_service, everything, "WRITE_TAG_SERVICE")
            counted = {default.key: default} | counted
        return sorted(counted.values(), key=lambda one: (one != default, one.kind != "local"))

    def _tag_services(self) -> dict[str, TagService]:
        """Every real tag service by its key: local ones first, then repositories."""
        answer = self.connection.get("/get_services")
        kinds = (("local_tags", "local"), ("tag_repositories", "repository"))
        found = [
            TagService(one["service_key"], one["name"], kind) for key, kind in kinds for one in answer.get(key) or ()
        ]
        return {one.key: one for one in found}

    def _counted(self, everything: Mapping[str, TagService] | None = None) -> dict[str, TagService]:
        everything = self._tag_services() if everything is None else everything
        if self._chosen:
            chosen = [pages.service_named(name, everything, "tag services to count") for name in self._chosen]
            return {one.key: one for one in chosen}
        machine = {pages.service_named(name, everything, "MACHINE_TAG_SERVICES").key for name in self._machine}
        return {key: one for key, one in everything.items() if key not in machine}

    # --- pages ------------------------------------------------------------------------------------

    def walk(self, names: Sequence[str]) -> Walk:
        """The media pages at and under every page that the path `names` leads to, wherever it begins.

        Names are compared without case; one that holds a comma is found too when it comes in
        parts. Pages that load or search are waited for. A walk in whose midst Hydrus restarted or
        a page was closed starts again. `LibraryRefused` names the pages there are.
        """
        for _ in range(5):
            boot, found = self._boot_id(), None
            with tolerating(HTTPStatus.NOT_FOUND):
                found = self._walk_once(names)
            if found and self._boot_id() == boot:
                return Walk(found[0], tuple(found[1]), self._not_local(found[1]))
            self._tell("Hydrus was restarted or a page was closed meanwhile: walking its pages again")
        changing = "the pages of Hydrus kept changing while they were walked"
        raise LibraryUnreachable(f"{changing}: run this again when it has settled")

    def search(self, query: str) -> Walk:
        """The files that a Hydrus search finds, as one page. `query`: search terms as Hydrus writes them, commas between,
        or a JSON list (which may hold lists: "or").

        Hydrus looks for tags on one service or on all of them. So where one service counts, the search is limited to it;
        else terms may be found on a service that does not count, which is told.
        """
        terms = pages.search_terms(query)
        counted = self._counted()
        where = {"tag_service_key": next(iter(counted))} if len(counted) == 1 else {}
        if len(counted) > 1 and len(counted) < len(self._tag_services()) and pages.names_a_tag(terms):
            self._tell(f"--search {query!r} looks for tags on every service, also on those whose tags do not count")
        found = (Page((query,), "", tuple(self._found(terms, **where))),)
        return Walk((query,), found, self._not_local(found))

    def _found(self, terms: Sequence[Any], **where: str) -> list[str]:
        asked = {"return_hashes": True, "return_file_ids": False, **where}
        return list(self.connection.get("/get_files/search_files", tags=terms, **asked)["hashes"])

    def machine_service(self, name: str) -> TagService:
        """The local tag service of that name or key that a machine fills. Raises `UsageError` for any other."""
        everything = self._tag_services()
        found = pages.service_named(name, everything, "SERVICE")
        machine = {pages.service_named(one, everything, "MACHINE_TAG_SERVICES").key for one in self._machine}
        if found.key not in machine or found.kind != "local" or found.key == MY_TAGS or found in self._writable():
            raise UsageError(
                f"{found.name!r} is not written to: name a local tag service of Hydrus that nobody else fills in "
                "MACHINE_TAG_SERVICES of config.py, so that its tags do not count as yours"
            )
        return found

    def tagged(self, tag: str, service: TagService) -> list[str]:
        """The files on this machine, those in the trash too, that have `tag` on this service."""
        return self._found([tag], tag_service_key=service.key, file_service_key=ALL_LOCAL_FILES)

    def _boot_id(self) -> str | None:
        """What changes when the client is started anew; None where the client is too old to say."""
        with tolerating(HTTPStatus.NOT_FOUND):
            return self.connection.get("/client_info").get("boot_id")
        return None

    def _walk_once(self, names: Sequence[str]) -> tuple[tuple[str, ...], list[Page]]:
        """The path of the page found, in the client's spelling (of several: as it was asked for), and the pages of files."""
        tree = self.connection.get("/manage_pages/get_pages")["pages"]
        found = pages.pages_named(tree, names)
        if not found:
            raise LibraryRefused(f"no page {', '.join(names)!r} in Hydrus; it has {pages.page_list(tree)}")
        above, first = found[0]
        root = (*above, first["name"]) if len(found) == 1 else tuple(names)
        nodes = [
            (path, node["page_key"])
            for start, under in found
            for path, node in pages.pages_at(under, start)
            if node.get("is_media_page")
        ]
        walked = []
        for number, (path, key) in enumerate(nodes):
            self._progress(number, len(nodes), f"page {' / '.join(path)}")
            walked.append(self._page(path, key))
        return root, walked

    def _page(self, path: tuple[str, ...], key: str) -> Page:
        """One media page once it is ready. While a page loads it says 200, no files."""
        until, told = time.monotonic() + self._page_wait, False
        while True:
            page = self.connection.get("/manage_pages/get_page_info", page_key=key, simple=False)["page_info"]
            now = page.get("page_state", 0)
            if now not in STATE_WORDS:
                break
            name = " / ".join(path)
            if time.monotonic() > until:
                still = f"page {name!r} is still {STATE_WORDS[now]} after {self._page_wait:.0f} s"
                raise LibraryUnreachable(f"{still}: run this again when Hydrus shows its files")
            if not told:
                self._tell(f"page {name!r} is {STATE_WORDS[now]}: waiting up to {self._page_wait:.0f} s")
                told = True
            self._progress(0, 1, f"page {name} is {STATE_WORDS[now]}")
            time.sleep(0.25)
        if now == CANCELLED:
            self._tell(f"the search of page {' / '.join(path)!r} was cancelled: taking the files it shows")
        return Page(path, key, tuple(unique((page.get("media") or {}).get("hashes") or ())))

    def _not_local(self, walked: Iterable[Page]) -> dict[str, tuple[str, ...]]:
        hashes = unique(hash for page in walked for hash in page.hashes)
        found: dict[str, list[str]] = defaultdict(list)
        for row in self._rows(hashes, report="looked up"):
            reason = tag_answers.absence(row) or ("trashed" if row.get("is_trashed") else None)
            if reason:
                found[reason].append(row["hash"])
        return {reason: tuple(some) for reason, some in found.items()}

    # --- files ------------------------------------------------------------------------------------

    def files(self, hashes: Sequence[str]) -> Iterator[FileInfo]:
        """Metadata of each distinct hash, in the order given; what Hydrus does not have is a "missing" row with its reason."""
        counted = self._counted()
        for row in self._rows(hashes):
            yield file_info(row, counted)

    def _rows(self, hashes: Iterable[str], report: str = "") -> Iterator[dict[str, Any]]:
        """A metadata row per distinct hash, in order; `{"hash", "file_id": None}` for unknown or malformed ones."""
        # No copy of what is lower case already.
        wanted = unique(hash if hash == (lower := hash.lower()) else lower for hash in hashes)
        last = time.monotonic()
        for number, (chunk, known) in enumerate(self._chunks([*chunks(wanted)]), 1):
            self._heard_of.update(hash for hash in chunk if hash in known and known[hash]["file_id"] is not None)
            for hash in chunk:
                yield known.get(hash, {"hash": hash, "file_id": None})
            done = min(number * CHUNK, len(wanted))
            if report:
                self._progress(done, len(wanted), f"files {report}")
            if report and time.monotonic() - last > 5:
                last = time.monotonic()
                self._tell(f"{report} {done:,} of {len(wanted):,} files")

    def _chunks(self, chunks: list[list[str]]) -> Iterator[tuple[list[str], dict[str, dict[str, Any]]]]:
        """Each chunk of hashes with its rows. While one is worked on, Hydrus gathers the next."""
        if len(chunks) < 2:
            yield from ((chunk, self._metadata(chunk)) for chunk in chunks)
            return
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._metadata, chunks[0])
            for chunk, following in zip(chunks, [*chunks[1:], []]):
                rows = coming.result()
                coming = ahead.submit(self._metadata, following)
                yield chunk, rows

    def _metadata(self, hashes: list[str]) -> dict[str, dict[str, Any]]:
        """Rows by hash, of those that Hydrus can be asked for."""
        sent = list(filter(SHA256.fullmatch, hashes))
        answers = self._answers("/get_files/file_metadata", "hashes", sent, include_services_object=False)
        return {row["hash"]: row for answer in answers for row in answer["metadata"]}

    def _answers(self, path: str, name: str, items: Sequence[str], **more: Any) -> Iterator[dict[str, Any]]:
        """The answers about many hashes or tags, `CHUNK` at a time; fewer where a proxy takes no address that long."""
        for chunk in chunks(items):
            with tolerating(*(connection.TOO_LONG if len(chunk) > 1 else ())):
                yield self.connection.get(path, **{name: chunk}, **more)
                continue
            for half in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
                yield from self._answers(path, name, half, **more)

    def read(self, hash: str) -> bytes:
        """The original file, held against its hash. `FileUnavailable` for what Hydrus does not have, cannot read itself, or
        sends damaged: the library's disk may be failing, or what is in between.
        """
        if not self._is_heard_of(hash):
            raise FileUnavailable(f"Hydrus does not have the file {hash}: never imported")
        try:
            most = connection.LARGEST_FILE
            data = self.connection.request("GET", "/get_files/file", {"hash": hash}, most=most).content
        except HydrusSaysNo as error:
            if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                raise FileUnavailable(f"Hydrus cannot read the file {hash}: {error.says}") from None
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise FileUnavailable(f"Hydrus does not have the file {hash}: {error.says}") from None
        if hashlib.sha256(data).hexdigest() != hash.lower():
            damaged = f"what Hydrus sends as the file {hash} is not that file, so its disk or the way here damaged it"
            raise FileUnavailable(
                f"{damaged}: try again, then check the file in Hydrus (database > file maintenance)", "unreadable"
            )
        return data

    def render(self, hash: str) -> bytes | None:
        """A PNG drawn by Hydrus; None where it cannot draw, which its picture of an error message says by its frame."""
        row = next(self._rows([hash]))
        if tag_answers.absence(row) or (row.get("width") or 0) * (row.get("height") or 0) > LARGEST_RENDER:
            return None
        answer = self._picture("/get_files/render", hash)
        return None if answer is None or pages.says_failed(answer.content) else answer.content

    def thumbnail(self, hash: str) -> tuple[bytes, str] | None:
        """(bytes, mime), or None. For what it does not have Hydrus sends an icon of its own, under another file name."""
        answer = self._picture("/get_files/thumbnail", hash) if self._is_heard_of(hash) else None
        if answer is None or f'filename="{hash}.thumbnail"' not in answer.headers.get("Content-Disposition", ""):
            return None
        return answer.content, answer.headers.get("Content-Type", "image/jpeg")

    def _picture(self, path: str, hash: str) -> Answer | None:
        with tolerating(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR):
            return self.connection.request("GET", path, {"hash": hash}, most=LARGEST_PICTURE)
        return None

    def _is_heard_of(self, hash: str) -> bool:
        """Whether Hydrus has a row for this hash. Where it has none, a question for bytes or relationships would make one."""
        return hash in self._heard_of or next(self._rows([hash]))["file_id"] is not None

    # --- tags -------------------------------------------------------------------------------------

    def relations(self, tags: Iterable[str]) -> dict[str, dict[str, Relation]]:
        """Siblings and parents of each tag, by tag service: `relations(["elf"])["elf"][service].ideal`."""
        found: dict[str, dict[str, Relation]] = {tag: {} for tag in tags}
        spelled = {
            wire: tag
            for tag in found
            if tag_answers.cleaned(wire := tag_answers.to_hydrus(tag)) and tag_answers.from_hydrus(wire) == tag
        }
        for answer in self._answers("/add_tags/get_siblings_and_parents", "tags", list(spelled)):
            for wire, services in answer["tags"].items():
                if wire in spelled:
                    found[spelled[wire]] = {service: tag_answers.relation(one) for service, one in services.items()}
        return found

    def tag_relations(self, tags: Iterable[str]) -> TagRelations | None:
        """Siblings and parents of `tags` and what is shown for them, by counted services; None if it may not ask."""
        cost = "your siblings and parents are not known"
        if not self._may(connection.EDIT_TAGS, cost):
            return None
        known: dict[str, dict[str, Relation]] | None = None
        with self._new_enough(cost):
            known = self.relations(sorted(set(tags)))
        if known is None:
            return None
        counted = [one.key for one in self._writable()]
        found = TagRelations()
        for tag, here in self._followed(known, counted, parents=False):
            ideals = unique(one.ideal for one in here if one.ideal != tag)
            above = sorted(frozenset().union(*(one.ancestors for one in here)) - {tag})
            found.siblings.update({tag: ideals[0]} if ideals else {})
            found.other_siblings.update({tag: tuple(ideals[1:])} if ideals[1:] else {})
            found.parents.update({tag: tuple(above)} if above else {})
        return found

    def _followed(
        self, known: Mapping[str, Mapping[str, Relation]], counted: Collection[str], parents: bool
    ) -> Iterator[tuple[str, list[Relation]]]:
        """What the counted services say of each tag of `known`, and of all tags that these lead to: siblings, and `parents` too."""
        asked: set[str] = set()
        while known:
            asked |= known.keys()
            onward: set[str] = set()
            for tag, by_service in known.items():
                here = [by_service[key] for key in counted if key in by_service]
                yield tag, here
                for one in here:
                    onward |= {one.ideal, *(one.ancestors if parents else ())}
            known = self.relations(sorted(onward - asked)) if onward - asked else {}

    def _spellings(self, known: Mapping[str, Mapping[str, Relation]], counted: Collection[str]) -> Spellings:
        """Every spelling that any counted service shows as one of the tags of `known`, or as a tag that comes with them."""
        siblings: dict[str, set[str]] = defaultdict(set)
        parents: dict[str, set[str]] = defaultdict(set)
        for tag, here in self._followed(known, counted, parents=True):
            for one in here:
                for spelling in one.siblings - {one.ideal}:
                    siblings[spelling].add(one.ideal)
                parents[tag] |= one.ancestors
        return Spellings(siblings, parents)

    def _may(self, permission: int, cost: str) -> bool:
        """Whether the key has a permission; where it has not, says once what that costs."""
        name, numbers = self.permissions()
        if permission not in numbers:
            lacks = f'the API key {name!r} lacks the permission "{connection.PERMISSIONS[permission]}"'
            self._tell(f"{lacks}, so {cost}: {connection.WHERE_KEYS_ARE}")
        return permission in numbers

    @contextmanager
    def _new_enough(self, cost: str) -> Iterator[None]:
        """Leave the block where this Hydrus has no such call yet, and say what that costs."""
        try:
            yield
        except HydrusSaysNo as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            version = self.connection.get("/api_version").get("hydrus_version", 0)
            self._tell(f"Hydrus v{version} cannot be asked, so {cost}: update it to v{OLDEST_TO_WRITE} or newer")

    def plan(self, changes: Sequence[TagChange], service: str | None = None) -> list[TagWrite | NoWrite]:
        """Per change, in order: the writes it takes, or why there is none. Reads only.

        Adding: nothing where the tag already shows, through whichever service, sibling or parent;
        refused where the owner has deleted it. Removing: wherever it, or a sibling that shows as
        it, is stored; refused where a parent relation would keep showing it.
        """
        writable = {one.key: one for one in self.services()}
        if not writable:
            raise LibraryRefused(self.why_no_service())
        version = self.connection.get("/api_version").get("hydrus_version", 0)
        if version < OLDEST_TO_WRITE:
            cannot = f"Hydrus v{version} cannot yet respect tags that its owner has deleted"
            raise LibraryRefused(f"{cannot}: update it to v{OLDEST_TO_WRITE} or newer to write tags")
        target = next(iter(writable)) if service is None else service
        if target not in writable:
            there = pages.service_names(writable.values())
            raise UsageError(f"no tag service {service!r} to write to; there are {there}")
        counted = self._counted() | writable
        known = self.relations(unique(change.tag for change in changes))
        unstorable = self._refused_tags({one.tag for one in changes if one.action == "add"})
        spellings = self._spellings(known, counted)
        planner = Planner(counted, writable, writable[target], known, spellings, unstorable)
        rows = self._with_rows(changes, lambda change: change.hash)
        return [step for change, row in rows for step in planner.plan(change, row)]

    def _with_rows(self, items: Sequence[T], hash_of: Callable[[T], str]) -> Iterator[tuple[T, dict[str, Any]]]:
        """Each of the items with the metadata row of its hash."""
        for some in chunks(items):
            rows = {row["hash"]: row for row in self._rows(map(hash_of, some))}
            yield from ((one, rows[hash_of(one).lower()]) for one in some)

    def _refused_tags(self, tags: Iterable[str]) -> dict[str, str]:
        """Tags that Hydrus would store in another spelling ("" for not at all), or read back as another tag ("::")."""
        wanted, refused = {tag: tag_answers.to_hydrus(tag) for tag in sorted(tags)}, {}
        kept = self._cleaned(list(wanted.values()))
        for tag, wire in wanted.items():
            alone = wire in kept and wire == tag_answers.cleaned(wire)  # else another of them may have become this one
            stored = wire if alone else next(iter(self._cleaned([wire])), "")
            if tag_answers.from_hydrus(stored) != tag:
                refused[tag] = tag_answers.from_hydrus(stored)
        return refused

    def _cleaned(self, tags: Sequence[str]) -> set[str]:
        """What Hydrus makes of these. Its answer is sorted and without empty tags: nothing says which came from which."""
        return {tag for answer in self._answers("/add_tags/clean_tags", "tags", tags) for tag in answer["tags"]}

    def states(self, places: Sequence[tuple[str, str, str]]) -> list[str]:
        rows = self._with_rows(places, lambda place: place[0])
        return [tag_answers.state(row, service, tag) for (_, tag, service), row in rows]

    def write(self, writes: Sequence[TagWrite], reason: str = "") -> None:
        """Carry out `writes`, in as few calls as their tags allow. Hydrus skips those whose `before` no longer holds:

        an add over a deletion is sent only where `before` says "deleted" (the undo of a removal),
        and a removal makes no record where nothing is stored.
        """
        if not writes:
            return
        services = self._tag_services()
        batches: dict[tuple[str, str, bool], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for write in writes:
            if write.service not in services:
                gone = f"the tag service {write.service!r} is not in Hydrus any more"
                raise LibraryRefused(f"{gone}; there are {pages.service_names(services.values())}")
            step = tag_answers.action(write, services[write.service])
            batches[write.service, step, write.before == protocol.DELETED][write.hash].append(write.tag)
        for (service, step, over_deletion), tags_of in batches.items():
            how = {"override_previously_deleted_mappings": over_deletion, "create_new_deleted_mappings": False}
            for tags, hashes in tag_answers.same_tags(tags_of):
                spelled = [*map(tag_answers.to_hydrus, tags)]
                wire = [[tag, reason or REASON] for tag in spelled] if step == tag_answers.PETITION else spelled
                what = {"service_keys_to_actions_to_tags": {service: {step: wire}}, **how}
                for some in chunks(hashes):
                    self.connection.post("/add_tags/add_tags", {"hashes": some, **what})

    def commit(self) -> bool:
        """Have Hydrus save now what it would save within 30 seconds; False where the key may not ask for that."""
        with tolerating(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            if self._may_commit:
                self.connection.post("/manage_database/force_commit", {})
            return self._may_commit
        self._may_commit = False
        return False

    def undo_of(self, write: TagWrite) -> TagWrite:
        """`write.reversed()`; but Hydrus remembers an added tag that is taken off a local service as "deleted"."""
        back = write.reversed()
        if (back.before, back.after) == (protocol.CURRENT, protocol.ABSENT):
            return replace(back, after=protocol.DELETED)
        return back

    # --- in the client itself -----------------------------------------------------------------------

    def open_page(self, hashes: Sequence[str], name: str) -> list[str]:
        """Show these files in a new page of the client, without taking the focus; those that are on it.

        The page is locked: it keeps its files when its owner refreshes it. Files that are not here
        are left out, since Hydrus would make empty entries for them. Needs the permission "manage pages".
        """
        here = [row["hash"] for row in self._rows(hashes) if tag_answers.absence(row) is None]
        if not here:
            raise LibraryRefused("none of these files is in Hydrus: no page was opened")
        body = {"page_type": SEARCH_PAGE, "page_name": name, "hashes": here}
        shown = {"system_hash_locked": True, "focus_page": False}
        self.connection.post("/manage_pages/new_page", body | shown, repeat=False)
        return here

    def judged(self, pairs: Sequence[tuple[str, str]]) -> list[str | None]:
        """What Hydrus has on each pair, in order: a value of `JUDGEMENTS` or None. Needs "edit file relationships"."""
        rows = self._rows(unique(hash for pair in pairs for hash in pair))
        known = self._relationships([row["hash"] for row in rows if row["file_id"] is not None])
        return [judgement(one, other, known) for one, other in pairs]

    def judgements(self, hashes: Sequence[str]) -> list[Judgement] | None:
        """All that is judged among these files; None, told once, where the key may not ask."""
        cost = "what was judged in Hydrus about near-duplicates is not known"
        if not self._may(connection.RELATIONSHIPS, cost):
            return None
        terms = [
            f"system:num file relationships > 0 {kind}"
            for kind in (protocol.DUPLICATES, protocol.ALTERNATES, protocol.FALSE_POSITIVES)
        ]
        related = set(self._found([terms], file_service_key=ALL_LOCAL_FILES))
        with self._new_enough(cost):
            return judgements(self._relationships([hash for hash in unique(hashes) if hash in related]), hashes)
        return None

    def _relationships(self, hashes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Hydrus' answer about each of these, trashed files counted as here. Of a hash that it never heard of, the question would leave a row."""
        path = "/manage_file_relationships/get_file_relationships"
        answers = self._answers(path, "hashes", hashes, file_service_key=ALL_LOCAL_FILES)
        return {hash: row for answer in answers for hash, row in answer["file_relationships"].items()}

    def set_relationship(self, pairs: Sequence[tuple[str, str]], kind: str) -> list[tuple[str, str]]:
        """Tell Hydrus what these pairs are; the pairs that it was told and that read back so.

        `kind`: a key of `KINDS`; of "better", the first of each pair. Pairs that are judged
        there already are left alone, as are files that are not here. Tags are not merged and
        nothing is deleted. Needs the permission "edit file relationships".
        """
        if kind not in KINDS:
            raise UsageError(f"no relationship {kind!r}: there are {', '.join(KINDS)}")
        rows = self._rows(unique(hash for pair in pairs for hash in pair))
        here = {row["hash"] for row in rows if tag_answers.absence(row) is None}
        open_to_us = {None} if kind == protocol.POTENTIAL_DUPLICATES else {None, protocol.POTENTIAL_DUPLICATES}
        judged = zip(pairs, self.judged(pairs), strict=True)
        unjudged = [pair for pair, judgement in judged if judgement in open_to_us and pair[0] != pair[1]]
        told = [pair for pair in unjudged if here.issuperset(pair)]
        how = {"relationship": KINDS[kind], "do_default_content_merge": False}
        for some in chunks(told):
            body = {"relationships": [{"hash_a": one, "hash_b": other, **how} for one, other in some]}
            self.connection.post("/manage_file_relationships/set_file_relationships", body)
        meant = protocol.DUPLICATES if kind == "better" else kind
        return [pair for pair, found in zip(told, self.judged(told), strict=True) if found == meant]

    @contextmanager
    def popup(self, title: str) -> Iterator[Popup]:
        """A message with progress and a cancel button in the client's corner, gone when the block is left.

        What this library itself does meanwhile (walking pages, looking files up) shows in it, and raises `Cancelled` when its owner
        cancels. Needs the permission "manage popups".
        """
        shown = Popup(self.connection.impatient(), title, self._boot_id)
        self._popup = shown
        try:
            yield shown
        finally:
            self._popup = None
            shown.close()

    def _progress(self, done: int, total: int, text: str) -> None:
        if self._popup is not None:
            self._popup.update(done, total, text)
            if self._popup.cancelled:
                raise Cancelled()
