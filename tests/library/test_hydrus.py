"""The Hydrus client, against a local server that answers as a real one did; its first part also against a real client.

The tests that take `bench` arrange everything over the API itself, so they run unchanged on a real client when HYDRUS_TEST_URL
and HYDRUS_TEST_KEY name one (docs/hydrus.md). Tags go to services of the tests' own alone (`OWN`), which its owner makes before and
removes afterwards, so that neither reads nor changes what is on others. The pictures are taken out again. Pages and judgements of
pairs cannot be taken back over the API, so tests that make some run there only with HYDRUS_TEST_TRACES=1.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from hydrus_server import AI_TAGS, ALL_LOCAL, KEY_HEADER, REPOSITORY, HydrusServer
from PIL import Image

from tagcheck.changes import TagChange
from tagcheck.errors import Cancelled, FileUnavailable, LibraryRefused, LibraryUnreachable, UsageError
from tagcheck.library.hydrus import popup as hydrus_popup
from tagcheck.library.hydrus.client import MY_TAGS, Hydrus
from tagcheck.library.hydrus.pages import says_failed
from tagcheck.library.protocol import (
    ABSENT,
    CURRENT,
    DELETED,
    PENDING,
    UNKNOWN,
    FileInfo,
    Judgement,
    Library,
    NoWrite,
    TagWrite,
)
from tagcheck.writing import apply
from tagcheck.writing.ledger import Ledger

# Of a real client: two local, a repository.
OWN = ("tagcheck tests", "tagcheck tests, second", "tagcheck tests, repository")
PROJECT = Path(__file__).resolve().parents[2]
UNKNOWN_HASH = hashlib.sha256(b"no such file").hexdigest()


def picture(size: tuple[int, int] = (40, 30)) -> bytes:
    """A PNG of noise, like no other: Hydrus itself pairs pictures that look alike."""
    coarse = Image.frombytes("RGB", (8, 8), secrets.token_bytes(192)).resize(size, Image.Resampling.NEAREST)
    out = io.BytesIO()
    coarse.save(out, "PNG")
    return out.getvalue()


@dataclass
class Bench:
    """A client under test, and its arranging over the bare API; on a real one, `own` are the keys of those of `OWN` it has."""

    url: str
    key: str
    server: HydrusServer | None = None
    own: dict[str, str] = field(default_factory=lambda: {"my tags": MY_TAGS})
    added: list[str] = field(default_factory=list)

    @property
    def hydrus(self) -> Hydrus:
        return self.open()

    def open(self, **options: Any) -> Hydrus:
        """The library; of a real client, only the tests' own services count and are written to."""
        own = {} if self.server else {"tag_services": list(self.own.values()), "write_service": self.service}
        return Hydrus(self.url, self.key, **{**own, **options})

    @property
    def service(self) -> str:
        """The key of the service that is written to."""
        return next(iter(self.own.values()))

    @property
    def name(self) -> str:
        """Its name."""
        return next(iter(self.own))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = requests.post(self.url + path, json=body, headers={KEY_HEADER: self.key}, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def add(self, *tags: str, data: bytes | None = None) -> str:
        data = picture() if data is None else data
        answer = requests.post(
            self.url + "/add_files/add_file",
            data=data,
            timeout=60,
            headers={KEY_HEADER: self.key, "Content-Type": "application/octet-stream"},
        )
        answer.raise_for_status()
        if answer.json()["status"] not in (1, 2):  # of the import itself, which HTTP's 200 says nothing about
            pytest.skip(f"this client does not import such a file: {answer.json()['note']}")
        hash = answer.json()["hash"]
        if answer.json()["status"] == 1:
            self.added.append(hash)
        if tags:
            self.tag(hash, *tags)
        return hash

    def tag(self, hash: str, *tags: str, action: str = "0", service: str | None = None) -> None:
        changes = {service or self.service: {action: list(tags)}}
        self.post("/add_tags/add_tags", {"hash": hash, "service_keys_to_actions_to_tags": changes})

    def page(self, name: str, hashes: list[str] | None = None, under: str | None = None, **more: Any) -> str:
        """A page of files (`hashes` or a search by `tags`), or with neither a page of pages; its key."""
        self.may_leave_traces()
        media = hashes is not None or "tags" in more
        body = {"page_type": 6 if media else 10, "page_name": name, "focus_page": False, **more}
        body |= {"hashes": hashes} if hashes else {}
        body |= {"page_of_pages_key": under} if under else {}
        return self.post("/manage_pages/new_page", body)["page_key"]

    def may_leave_traces(self) -> None:
        """Pages, and what was judged of pairs, stay in a real client, so they are made there only where that is allowed."""
        if self.server is None and not os.environ.get("HYDRUS_TEST_TRACES"):
            pytest.skip("pages and judgements cannot be taken back over the API: HYDRUS_TEST_TRACES=1 allows some")

    def clear(self) -> None:
        """Take the files that were added out again, from the trash and from what is remembered as deleted too."""
        if self.added:
            self.post("/manage_file_relationships/remove_potentials", {"hashes": self.added})
            self.post("/add_files/delete_files", {"hashes": self.added})
            self.post("/add_files/delete_files", {"hashes": self.added, "file_service_key": ALL_LOCAL})
            self.post("/add_files/clear_file_deletion_record", {"hashes": self.added})
        if OWN[2] in self.own:
            self.post("/manage_services/forget_pending", {"service_key": self.own[OWN[2]]})

    def off_the_disk(self, hash: str) -> None:
        """Wait until a file that was deleted is gone from a real client's disk, which takes it a while where many are deleted."""
        until = time.monotonic() + (0 if self.server else 90)
        while time.monotonic() < until:
            answer = self.hydrus.connection.request("GET", "/get_files/thumbnail", {"hash": hash})
            if f'filename="{hash}.thumbnail"' not in answer.headers.get("Content-Disposition", ""):
                break
            time.sleep(1)
        self.settle()

    def settle(self) -> None:
        """Give a real client the moment it takes until a file that was deleted is gone from its disk, or a message from its window."""
        if self.server is None:
            time.sleep(2)

    def state(self, hash: str, tag: str) -> str:
        return self.hydrus.states([(hash, tag, self.service)])[0]


REAL_URL, REAL_KEY = os.environ.get("HYDRUS_TEST_URL"), os.environ.get("HYDRUS_TEST_KEY")


@pytest.fixture(params=["local server", "real client"] if REAL_URL and REAL_KEY else ["local server"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "real client":
        there = {one.name: one.key for one in Hydrus(REAL_URL, REAL_KEY).services()}
        if OWN[0] not in there:
            pytest.fail(f"make a local tag service {OWN[0]!r} in this client, for the tests alone: docs/hydrus.md")
        real = Bench(REAL_URL, REAL_KEY, own={name: there[name] for name in OWN if name in there})
        yield real
        real.clear()
        return
    with HydrusServer({}, pages={}) as server:
        yield Bench(server.url, server.key, server)
        assert not server.alarms, "bytes of an unknown file id were asked for"
        assert not server.refreshed, "a page was refreshed"
        assert not server.committed, "pending tags were uploaded"
        assert not server.strays, "a question left a row for an unknown hash"


def unique_name(text: str = "tagcheck test") -> str:
    return f"{text} {secrets.token_hex(4)}"


def test_these_tests_ran_on_a_real_client_too() -> None:
    if not REAL_URL or not REAL_KEY:
        pytest.skip(
            "the tests with a bench ran on the local server only: HYDRUS_TEST_URL and HYDRUS_TEST_KEY name no real client"
        )
    assert Hydrus(REAL_URL, REAL_KEY).describe()["hydrus_version"] >= 580


# --- what it is ---------------------------------------------------------------------------------------


def test_it_is_a_library(bench: Bench) -> None:
    assert isinstance(bench.hydrus, Library)


def test_it_describes_itself_without_secrets(bench: Bench) -> None:
    told = Hydrus(bench.url, bench.key).describe()
    assert told["type"] == "hydrus" and told["api_version"] >= 95
    assert told["tag_services"] == [] and "my tags" in told["counted"]
    assert Hydrus(bench.url, bench.key, tag_services=["My Tags"]).describe()["tag_services"] == [MY_TAGS]
    assert bench.key not in str(told)


def test_my_tags_is_where_tags_are_added_by_default(bench: Bench) -> None:
    services = Hydrus(bench.url, bench.key).services()
    assert services[0].key == MY_TAGS
    assert "all known tags" not in [one.name for one in services]


# --- pages --------------------------------------------------------------------------------------------


def test_pages_are_found_by_name_whatever_its_case(bench: Bench) -> None:
    name, one = unique_name("Dataset"), bench.add()
    bench.page(name, [one])
    walk = bench.hydrus.walk([name.upper()])
    assert [(page.path, page.hashes) for page in walk.pages] == [((name,), (one,))]
    assert walk.root == (name,) and walk.not_local == {}


def test_all_pages_under_a_page_of_pages_are_walked_in_order(bench: Bench) -> None:
    name, hashes = unique_name(), [bench.add() for _ in range(3)]
    top = bench.page(name)
    bench.page("Elves", hashes[:1], under=top)
    deep = bench.page("Deep", under=top)
    bench.page('Ünï/çødé ☃ "q", <b>x</b>', hashes[1:], under=deep)
    walk = bench.hydrus.walk([name])
    assert [(page.path, page.hashes) for page in walk.pages] == [
        ((name, "Elves"), (hashes[0],)),
        ((name, "Deep", 'Ünï/çødé ☃ "q", <b>x</b>'), tuple(hashes[1:])),
    ]


def test_a_path_of_names_reaches_a_page_below(bench: Bench) -> None:
    name, one, other = unique_name(), bench.add(), bench.add()
    top = bench.page(name)
    bench.page("Elves", [one], under=top)
    bench.page("Orcs", [other], under=top)
    assert [page.hashes for page in bench.hydrus.walk([name, "elves"]).pages] == [(one,)]


def test_several_pages_of_one_name_are_all_walked(bench: Bench) -> None:
    name, one, other = unique_name(), bench.add(), bench.add()
    bench.page(name, [one])
    bench.page(name, [other], under=bench.page(unique_name("holder")))
    assert {page.hashes for page in bench.hydrus.walk([name]).pages} == {(one,), (other,)}


def test_a_page_of_the_same_name_inside_is_walked_once(bench: Bench) -> None:
    name, one = unique_name(), bench.add()
    bench.page(name, [one], under=bench.page(name))
    assert [page.path for page in bench.hydrus.walk([name]).pages] == [(name, name)]


def test_a_name_with_a_comma_is_found_whole_or_in_parts(bench: Bench) -> None:
    name, one = unique_name("cats, dogs,birds"), bench.add()
    bench.page(name, [one])
    for names in ([name], name.split(","), [part.strip() for part in name.split(",")]):
        assert [page.path for page in bench.hydrus.walk(names).pages] == [(name,)]


def test_an_unknown_page_is_refused_and_the_pages_are_named(bench: Bench) -> None:
    holder = unique_name("holder")
    bench.page("Elves", [bench.add()], under=bench.page(holder))
    with pytest.raises(LibraryRefused, match="no page 'no, such page'"):
        bench.hydrus.walk(["no", "such page"])
    if bench.server:
        with pytest.raises(LibraryRefused, match=f"it has '{holder}', '{holder}, Elves'"):
            bench.hydrus.walk(["nothing"])


def test_a_search_page_gives_what_its_search_finds(bench: Bench) -> None:
    name, tag = unique_name(), unique_name()
    hashes = {bench.add(tag) for _ in range(3)}
    bench.page(name, tags=[tag])
    assert set(bench.hydrus.walk([name]).pages[0].hashes) == hashes


def test_a_downloader_page_is_walked_too(bench: Bench) -> None:
    bench.may_leave_traces()
    name = unique_name()
    bench.post("/manage_pages/new_page", {"page_type": 7, "page_name": name, "focus_page": False})
    assert [page.path for page in bench.hydrus.walk([name]).pages] == [(name,)]


def test_the_whole_client_is_walked_by_no_name_or_its_roots(bench: Bench) -> None:
    name, one = unique_name(), bench.add()
    bench.page(name, [one])
    for names in ([], ["Top page notebook"]):
        assert ((name,), (one,)) in [(page.path, page.hashes) for page in bench.hydrus.walk(names).pages]


def test_an_empty_page_is_a_page_without_files(bench: Bench) -> None:
    name = unique_name()
    bench.page(name, [])
    assert [page.hashes for page in bench.hydrus.walk([name]).pages] == [()]


def test_ghosts_and_trashed_and_deleted_files_are_told_apart(bench: Bench) -> None:
    name, here, trashed, gone = unique_name(), bench.add(), bench.add(), bench.add()
    never = hashlib.sha256(name.encode()).hexdigest()
    bench.page(name, [here, trashed, gone, never], system_hash_locked=True)
    bench.post("/add_files/delete_files", {"hash": trashed})
    bench.post("/add_files/delete_files", {"hash": gone})
    bench.post("/add_files/delete_files", {"hash": gone, "file_service_key": ALL_LOCAL})
    walk = bench.hydrus.walk([name])
    on_page = set(walk.pages[0].hashes)
    assert {here, trashed, never} <= on_page  # a client takes a deleted file off its pages when it gets to it
    assert {reason: hashes for reason, hashes in walk.not_local.items() if reason != "deleted"} == {
        "trashed": (trashed,),
        "never imported": (never,),
    }
    rows = {row.hash: row for row in bench.hydrus.files([here, trashed, gone, never])}
    assert [(rows[hash].status, rows[hash].reason) for hash in (here, trashed, gone, never)] == [
        ("ok", None),
        ("ok", None),
        ("missing", "deleted"),
        ("missing", "never imported"),
    ]


def test_a_hydrus_search_takes_the_place_of_pages(bench: Bench) -> None:
    tag, other = unique_name("series:tagcheck"), unique_name()
    both, one, _ = bench.add(tag, other), bench.add(tag), bench.add(other)
    walk = bench.hydrus.search(f"{tag}, -{other}")
    assert [(page.path, page.hashes) for page in walk.pages] == [((f"{tag}, -{other}",), (one,))]
    assert set(bench.hydrus.search(f'[["{tag}", "{other} x"], "{other}"]').pages[0].hashes) == {both}


def test_a_search_that_hydrus_does_not_understand_is_refused_in_its_words(bench: Bench) -> None:
    with pytest.raises(LibraryRefused, match="Could not parse system predicate"):
        bench.hydrus.search("system:wibble")
    for term in ("-", "--", ":", "series:", "\u200b", '[["hat", "-"]]'):
        with pytest.raises(LibraryRefused, match="Could not understand the tag"):
            bench.hydrus.search(term)
    with pytest.raises(UsageError, match="begins like a JSON list"):
        bench.hydrus.search('["a"')


# --- files --------------------------------------------------------------------------------------------


def test_metadata_comes_in_the_order_asked_one_row_each(bench: Bench) -> None:
    one, other = bench.add("blue eyes"), bench.add()
    rows = list(bench.hydrus.files([other, one.upper(), UNKNOWN_HASH, "abcd", other, "zz" * 32]))
    assert [(row.hash, row.status, row.reason) for row in rows] == [
        (other, "ok", None),
        (one, "ok", None),
        (UNKNOWN_HASH, "missing", "never imported"),
        ("abcd", "missing", "never imported"),
        ("zz" * 32, "missing", "never imported"),
    ]


def test_a_row_says_what_the_file_is(bench: Bench) -> None:
    data = picture((40, 30))
    (row,) = bench.hydrus.files([bench.add("Blue  Eyes", "series:x", data=data)])
    assert (row.mime, row.width, row.height, row.size, row.duration) == ("image/png", 40, 30, len(data), None)
    assert row.tags == ("blue eyes", "series:x") and row.implied_tags == row.deleted_tags == ()
    assert row.time_imported > 1.7e9 and len(row.pixel_hash) == 64 and row.file_path is None


def test_sizes_are_those_of_the_upright_picture(bench: Bench) -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.open(io.BytesIO(picture((60, 40)))).save(out, "JPEG", exif=exif)
    (row,) = bench.hydrus.files([bench.add(data=out.getvalue())])
    assert (row.width, row.height) == (40, 60)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_an_animation_has_a_duration_whatever_its_mime(bench: Bench, form: str) -> None:
    frames = [Image.open(io.BytesIO(picture())) for _ in range(3)]
    out = io.BytesIO()
    frames[0].save(out, form, save_all=True, append_images=frames[1:], duration=200, loop=0)
    (row,) = bench.hydrus.files([bench.add(data=out.getvalue())])
    assert row.duration and row.pixel_hash is None
    assert bench.hydrus.render(row.hash) is None


def test_a_thousand_files_are_asked_for_in_chunks(bench: Bench) -> None:
    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(600)]
    hashes[300] = bench.add()
    rows = list(bench.hydrus.files(hashes))
    assert [row.hash for row in rows] == hashes
    assert [row.hash for row in rows if row.status == "ok"] == [hashes[300]]


def test_an_empty_question_is_not_sent(bench: Bench) -> None:
    assert list(bench.hydrus.files([])) == [] and bench.hydrus.states([]) == []
    bench.hydrus.write([])


def test_the_file_itself_is_read_byte_for_byte(bench: Bench) -> None:
    data = picture()
    assert bench.hydrus.read(bench.add(data=data)) == data


def test_a_file_that_is_not_there_costs_one_row(bench: Bench) -> None:
    for hash in (UNKNOWN_HASH, "abcd"):
        with pytest.raises(FileUnavailable, match="does not have|is not a SHA-256") as caught:
            bench.hydrus.read(hash)
        assert caught.value.status == "missing"


def test_a_thumbnail_is_the_files_own_or_none(bench: Bench) -> None:
    data, mime = bench.hydrus.thumbnail(bench.add(data=picture((300, 300))))
    assert Image.open(io.BytesIO(data)).size[0] <= 200 and mime in ("image/jpeg", "image/png")
    assert bench.hydrus.thumbnail(UNKNOWN_HASH) is None
    assert bench.hydrus.thumbnail("abcd") is None


def test_the_icon_that_stands_for_a_deleted_file_is_not_its_thumbnail(bench: Bench) -> None:
    gone, hydrus = bench.add(data=picture((300, 300))), bench.hydrus
    assert hydrus.thumbnail(gone) is not None
    bench.post("/add_files/delete_files", {"hash": gone})
    assert hydrus.thumbnail(gone) is not None  # trashed files still have theirs
    bench.post("/add_files/delete_files", {"hash": gone, "file_service_key": ALL_LOCAL})
    bench.off_the_disk(gone)
    answer = hydrus.connection.request("GET", "/get_files/thumbnail", {"hash": gone})
    assert answer.status_code == 200 and Image.open(io.BytesIO(answer.content)).size
    assert hydrus.thumbnail(gone) is None


def test_a_locked_database_is_said_to_be_so_and_waited_out(bench: Bench) -> None:
    hash, hydrus = bench.add("solo"), bench.hydrus
    hurried = bench.open(patience=0.5)
    bench.post("/manage_database/lock_on", {})
    try:
        for ask in (
            hurried.describe,
            hurried.permissions,
            lambda: hurried.walk([]),
            lambda: hurried.read(hash),
            lambda: list(hurried.files([hash])),
        ):
            with pytest.raises(LibraryUnreachable, match="is busy .its database is locked.*wait until it is free"):
                ask()
        threading.Timer(1.0, lambda: bench.post("/manage_database/lock_off", {})).start()
        carry_out(hydrus, TagChange(hash, "hat", "add"))
    finally:
        with suppress(requests.HTTPError):  # it is not locked any more
            bench.post("/manage_database/lock_off", {})


def test_asking_for_what_hydrus_never_had_leaves_no_row(bench: Bench) -> None:
    """A hash that bytes or relationships are asked for gets an id in the owner's database, for ever."""
    never, here, hydrus = secrets.token_hex(32), bench.add(), bench.hydrus
    assert hydrus.thumbnail(never) is None and hydrus.render(never) is None
    with pytest.raises(FileUnavailable):
        hydrus.read(never)
    hydrus.judged([(never, here), (here, never)])
    hydrus.set_relationship([(never, here)], "alternates")
    hydrus.search(f"system:hash = {never}")
    hydrus.states([(never, "solo", bench.service)])
    hydrus.plan([TagChange(never, "solo", "add")])
    (row,) = hydrus.connection.get("/get_files/file_metadata", hashes=[never])["metadata"]
    assert row["file_id"] is None


def test_a_render_has_the_pictures_pixels(bench: Bench) -> None:
    data = picture((50, 40))
    drawn = Image.open(io.BytesIO(bench.hydrus.render(bench.add(data=data))))
    assert drawn.convert("RGB").tobytes() == Image.open(io.BytesIO(data)).tobytes()
    assert bench.hydrus.render(UNKNOWN_HASH) is None


def test_a_picture_that_says_it_failed_to_render_is_recognised(bench: Bench) -> None:
    """Hydrus answers 200 with a drawn error message: here for a file that is gone."""
    gone = bench.add(data=picture((300, 200)))
    bench.post("/add_files/delete_files", {"hash": gone})
    bench.post("/add_files/delete_files", {"hash": gone, "file_service_key": ALL_LOCAL})
    bench.off_the_disk(gone)
    drawn = bench.hydrus.connection.request("GET", "/get_files/render", {"hash": gone}).content
    assert Image.open(io.BytesIO(drawn)).size == (300, 200) and says_failed(drawn)
    assert not says_failed(picture((300, 200)))
    assert bench.hydrus.render(gone) is None


# --- tags ---------------------------------------------------------------------------------------------


def carry_out(hydrus: Hydrus, change: TagChange) -> list[TagWrite]:
    writes = hydrus.plan([change])
    assert all(isinstance(write, TagWrite) for write in writes)
    hydrus.write(writes)
    assert hydrus.states([(one.hash, one.tag, one.service) for one in writes]) == [one.after for one in writes]
    return writes


def test_a_tag_is_added_and_taken_back(bench: Bench) -> None:
    hash, hydrus = bench.add("solo"), bench.hydrus
    (write,) = carry_out(hydrus, TagChange(hash, "blue eyes", "add"))
    assert write == TagWrite(hash, "blue eyes", bench.service, ABSENT, CURRENT)
    back = hydrus.undo_of(write)
    hydrus.write([back])
    # The API knows no way back to "never had it" on a local service, so the undo says "deleted" beforehand.
    assert back.after == DELETED == bench.state(hash, "blue eyes")
    assert bench.state(hash, "solo") == CURRENT


def test_a_tag_is_removed_and_put_back_exactly(bench: Bench) -> None:
    hash, hydrus = bench.add("solo", "red hair"), bench.hydrus
    (write,) = carry_out(hydrus, TagChange(hash, "red hair", "remove"))
    assert (write.before, write.after) == (CURRENT, DELETED)
    (row,) = hydrus.files([hash])
    assert row.tags == ("solo",) and row.deleted_tags == ("red hair",)
    hydrus.write([hydrus.undo_of(write)])
    (row,) = hydrus.files([hash])
    assert row.tags == ("red hair", "solo") and row.deleted_tags == ()


def test_a_tag_that_its_owner_deleted_is_not_suggested_and_not_written(bench: Bench) -> None:
    hash, hydrus = bench.add("solo"), bench.hydrus
    bench.tag(hash, "solo", action="1")
    (answer,) = hydrus.plan([TagChange(hash, "solo", "add")])
    assert isinstance(answer, NoWrite) and not answer.settled and "removed from this picture before" in answer.reason
    hydrus.write([TagWrite(hash, "solo", bench.service, ABSENT, CURRENT)])  # planned before the owner deleted it
    assert bench.state(hash, "solo") == DELETED


def test_a_removal_of_what_is_not_stored_leaves_no_record(bench: Bench) -> None:
    hash, hydrus = bench.add("solo"), bench.hydrus
    (answer,) = hydrus.plan([TagChange(hash, "hat", "remove")])
    assert isinstance(answer, NoWrite) and answer.settled
    hydrus.write([TagWrite(hash, "hat", bench.service, CURRENT, DELETED)])
    assert bench.state(hash, "hat") == ABSENT


def test_what_is_there_already_needs_no_write(bench: Bench) -> None:
    (answer,) = bench.hydrus.plan([TagChange(bench.add("solo"), "solo", "add")])
    assert isinstance(answer, NoWrite) and answer.settled and "already there" in answer.reason


def test_writing_twice_changes_nothing_more(bench: Bench) -> None:
    hash, hydrus = bench.add("solo"), bench.hydrus
    writes = hydrus.plan([TagChange(hash, "hat", "add"), TagChange(hash, "solo", "remove")])
    for _ in range(2):
        hydrus.write(writes)
        (row,) = hydrus.files([hash])
        assert (row.tags, row.deleted_tags) == (("hat",), ("solo",))


def test_many_changes_go_out_and_come_back_together(bench: Bench) -> None:
    hydrus, hashes = bench.hydrus, [bench.add("old") for _ in range(12)]
    changes = [TagChange(hash, f"tag {number % 3}", "add") for number, hash in enumerate(hashes)]
    changes += [TagChange(hash, "old", "remove") for hash in hashes[::2]]
    writes = hydrus.plan(changes)
    hydrus.write(writes)
    assert hydrus.states([(one.hash, one.tag, one.service) for one in writes]) == [one.after for one in writes]
    hydrus.write([hydrus.undo_of(one) for one in writes])
    assert [row.tags for row in hydrus.files(hashes)] == [("old",)] * 12


def test_the_emoticons_that_hydrus_spells_with_two_colons_keep_their_names(bench: Bench) -> None:
    hash, hydrus = bench.add(":d", ":o"), bench.hydrus
    (row,) = hydrus.files([hash])
    assert row.tags == (":d", ":o")
    carry_out(hydrus, TagChange(hash, ":p", "add"))
    (write,) = carry_out(hydrus, TagChange(hash, ":o", "remove"))
    (row,) = hydrus.files([hash])
    assert row.tags == (":d", ":p") and row.deleted_tags == (":o",)
    hydrus.write([hydrus.undo_of(write)])
    assert bench.state(hash, ":o") == CURRENT


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("-flower", "store it as 'flower'"),
        ("system:archive", "store it as 'archive'"),
        ("series:", "no such tag"),
        ("--", "no such tag"),
    ],
)
def test_a_tag_that_hydrus_would_store_differently_is_refused(bench: Bench, tag: str, reason: str) -> None:
    hash = bench.add()
    odd, fine = bench.hydrus.plan([TagChange(hash, tag, "add"), TagChange(hash, "series:re:zero", "add")])
    assert isinstance(odd, NoWrite) and not odd.settled and reason in odd.reason
    assert isinstance(fine, TagWrite)


def test_a_file_that_is_gone_is_not_written_to(bench: Bench) -> None:
    (answer,) = bench.hydrus.plan([TagChange(UNKNOWN_HASH, "solo", "add")])
    assert isinstance(answer, NoWrite) and not answer.settled and "never imported" in answer.reason
    assert bench.state(UNKNOWN_HASH, "solo") == UNKNOWN
    assert list(bench.hydrus.files([UNKNOWN_HASH])) == [FileInfo(UNKNOWN_HASH, "missing", "never imported")]


def test_marks_of_our_own_are_no_tags_whichever_service_they_are_on(bench: Bench) -> None:
    """An owner may have named the machine's service to the script that marks alone."""
    hash = bench.add("solo", "tagcheck:missing", "tagcheck:todo")
    (row,) = bench.hydrus.files([hash])
    assert row.tags == ("solo", "tagcheck:todo")
    carry_out(bench.hydrus, TagChange(hash, "tagcheck:missing", "remove"))
    (row,) = bench.hydrus.files([hash])
    assert row.tags == ("solo", "tagcheck:todo") and row.deleted_tags == ()


def test_an_unknown_service_is_refused(bench: Bench) -> None:
    hash = bench.add()
    with pytest.raises(UsageError, match=f"no tag service 'abcd' to write to; there are '{bench.name}'"):
        bench.hydrus.plan([TagChange(hash, "solo", "add")], service="abcd")
    with pytest.raises(LibraryRefused, match="is not in Hydrus any more"):
        bench.hydrus.write([TagWrite(hash, "solo", "abcd", ABSENT, CURRENT)])
    for hydrus in (
        Hydrus(bench.url, bench.key, tag_services=["nope"]),
        Hydrus(bench.url, bench.key, machine_services=["nope"]),
    ):
        with pytest.raises(UsageError, match="no tag service 'nope' in Hydrus; there are"):
            hydrus.describe()


def test_a_batch_goes_out_and_comes_back_through_the_ledger(bench: Bench, tmp_path: Path) -> None:
    hydrus, ledger = bench.hydrus, Ledger(tmp_path / "review.sqlite3")
    hashes = [bench.add("old", "solo") for _ in range(3)]
    changes = [
        TagChange(hash, tag, action)
        for hash in hashes
        for tag, action in (("hat", "add"), ("old", "remove"), ("solo", "add"))
    ]
    done = apply.apply(ledger, hydrus, changes)
    assert (done.applied, done.settled, done.failed, done.open) == (6, 3, 0, 0)
    assert [row.tags for row in hydrus.files(hashes)] == [("hat", "solo")] * 3
    bench.tag(hashes[0], "hat", action="1")  # meanwhile its owner takes one back
    back = apply.undo(ledger, hydrus, done.batch)
    assert back.failed == 0 and [row.tags for row in hydrus.files(hashes)] == [("old", "solo")] * 3
    assert [bench.state(hash, "hat") for hash in hashes] == [DELETED] * 3
    assert [bench.state(hash, "old") for hash in hashes] == [CURRENT] * 3
    for row in back.rows:
        if row.tag == "hat":
            assert row.reason.startswith("it is deleted now, and was absent before: Hydrus remembers")
            assert "clear deletion record" in row.reason
        else:
            assert row.reason == ""


# --- siblings, parents, several services ----------------------------------------------------------------

SIBLINGS = {"series:elf": "series:elves", "broadsword": "sword"}
CHAINED = SIBLINGS | {"elvish": "elfish", "elfish": "series:elf", "wepon": "weapon"}
ELVES = ("elvish", "elfish", "series:elf", "series:elves")  # one tag, in the spellings of a chain
PARENTS = {"series:elves": {"series:wesnoth"}, "sword": {"weapon"}}


@pytest.fixture
def related(bench: Bench) -> Bench:
    """A bench whose service has these siblings and parents; the API cannot set them on a real client."""
    if bench.server:
        bench.server.siblings[MY_TAGS].update(CHAINED)
        bench.server.parents[MY_TAGS].update(PARENTS)
        return bench
    ideals = {tag: "series:elves" if tag in ELVES else CHAINED.get(tag, tag) for tag in (*CHAINED, *PARENTS)}
    known = {tag: found[bench.service] for tag, found in bench.hydrus.relations(ideals).items()}
    if any(
        known[tag].ideal != ideal or known[tag].ancestors != PARENTS.get(ideal, set()) for tag, ideal in ideals.items()
    ):
        pytest.skip(f"the service {bench.name!r} of the real client has not {CHAINED} and {PARENTS}")
    return bench


def _own(bench: Bench, number: int, local: str) -> str:
    """The key of the service `OWN[number]` of a real client; of the local server, `local`."""
    if bench.server is None and OWN[number] not in bench.own:
        pytest.skip(f"the real client has no service {OWN[number]!r}")
    return local if bench.server else bench.own[OWN[number]]


@pytest.fixture
def repository(bench: Bench) -> str:
    """The key of a tag repository."""
    return _own(bench, 2, REPOSITORY)


@pytest.fixture
def ai_tags(bench: Bench) -> str:
    """The key of a second local tag service."""
    return _own(bench, 1, AI_TAGS)


def test_tags_are_seen_as_their_owner_sees_them(related: Bench) -> None:
    (row,) = related.hydrus.files([related.add("series:elf", "weapon", "broadsword")])
    assert row.tags == ("series:elves", "series:wesnoth", "sword", "weapon")
    assert row.implied_tags == ("series:elves", "series:wesnoth", "sword")


def test_siblings_and_parents_can_be_asked_for(related: Bench) -> None:
    found = related.hydrus.relations(["series:elf", "weapon", "no such tag", ":d", "-", "system:", " \u200b"])
    elf, weapon = found["series:elf"][related.service], found["weapon"][related.service]
    assert (elf.ideal, elf.siblings, elf.ancestors) == ("series:elves", set(ELVES), {"series:wesnoth"})
    assert weapon.descendants == {"sword"}
    assert found["-"] == found["system:"] == found[" \u200b"] == {}  # Hydrus refuses a call with such a tag
    assert found["no such tag"][related.service].ideal == "no such tag" and found[":d"][related.service].ideal == ":d"


def test_the_tags_that_an_owner_sees_instead_and_besides_can_be_asked_for(related: Bench, ai_tags: str) -> None:
    asked = ["series:elf", "series:elves", "broadsword", "weapon", ":d", "no such tag"]
    found = related.hydrus.tag_relations(asked)
    assert found.siblings == {"series:elf": "series:elves", "broadsword": "sword"}
    both = {"series:elf": ("series:wesnoth",), "broadsword": ("weapon",)}
    assert found.parents == both | {"series:elves": ("series:wesnoth",), "sword": ("weapon",)}
    elsewhere = related.open(tag_services=[ai_tags], write_service=ai_tags).tag_relations(asked)
    assert (elsewhere.siblings, elsewhere.parents) == ({}, {})


def test_a_tag_shown_through_a_sibling_is_removed_where_it_is_stored(related: Bench) -> None:
    hash, hydrus = related.add("series:elf", "series:elves", "solo"), related.hydrus
    writes = carry_out(hydrus, TagChange(hash, "series:elves", "remove"))
    assert [(write.tag, write.change.tag) for write in writes] == [
        ("series:elf", "series:elves"),
        ("series:elves", "series:elves"),
    ]
    (row,) = hydrus.files([hash])
    assert row.tags == ("solo",) and row.deleted_tags == ("series:elf", "series:elves")
    hydrus.write([hydrus.undo_of(write) for write in writes])
    (row,) = hydrus.files([hash])
    assert row.tags == ("series:elves", "series:wesnoth", "solo") and row.deleted_tags == ()


def test_a_tag_that_a_parent_relation_keeps_there_is_refused_and_explained(related: Bench) -> None:
    hash = related.add("broadsword", "weapon")
    (answer,) = related.hydrus.plan([TagChange(hash, "weapon", "remove")])
    assert isinstance(answer, NoWrite) and not answer.settled
    assert f"it comes with 'sword', whose parent it is ({related.name}): remove 'sword'" in answer.reason


def test_a_sibling_or_a_parent_that_shows_already_is_not_added(related: Bench) -> None:
    hash = related.add("broadsword")
    sibling, parent = related.hydrus.plan([TagChange(hash, "sword", "add"), TagChange(hash, "weapon", "add")])
    assert sibling.settled and parent.settled
    (other,) = related.hydrus.plan([TagChange(related.add("sword"), "broadsword", "add")])
    assert other.settled and other.reason == f"already there as 'sword' ({related.name})"


def test_a_deleted_tag_is_a_no_in_every_spelling(related: Bench, ai_tags: str) -> None:
    """Hydrus deletes the spelling that is stored: the owner who takes "series:elves" off has "series:elf" deleted."""
    hydrus = related.hydrus
    for deleted in ELVES:
        hash = related.add(deleted)
        related.tag(hash, deleted, action="1")
        steps = hydrus.plan([TagChange(hash, tag, "add") for tag in (*ELVES, "hat")])
        assert [isinstance(step, NoWrite) and not step.settled for step in steps] == [True] * 4 + [False]
        for tag, step in zip(ELVES, steps):
            spelled = "" if tag == deleted else f" as {deleted!r}"
            assert step.reason.startswith(f"it was removed from this picture before{spelled} ({related.name})")
    elsewhere = related.add("solo")
    related.tag(elsewhere, "series:elf", service=ai_tags)
    related.tag(elsewhere, "series:elf", service=ai_tags, action="1")
    (step,) = hydrus.plan([TagChange(elsewhere, "series:elves", "add")])
    assert isinstance(step, NoWrite) and "as 'series:elf' (" in step.reason and f"({related.name})" not in step.reason


def test_a_spelling_that_was_cleared_away_is_no_no(related: Bench) -> None:
    hash, hydrus = related.add("series:elf", "series:elves"), related.hydrus
    related.tag(hash, "series:elf", action="1")  # "series:elves" is stored and seen still
    (there,) = hydrus.plan([TagChange(hash, "series:elf", "add")])
    assert there.settled and there.reason == f"already there as 'series:elves' ({related.name})"


def test_a_parent_deleted_in_another_spelling_is_not_brought_back(related: Bench) -> None:
    hash, hydrus = related.add("series:elf"), related.hydrus
    related.tag(hash, "series:elf", action="1")
    related.tag(hash, "wepon")
    related.tag(hash, "wepon", action="1")
    (step,) = hydrus.plan([TagChange(hash, "broadsword", "add")])
    assert isinstance(step, NoWrite) and not step.settled
    assert (
        step.reason
        == f"it would bring back 'weapon', which was removed from this picture before (as 'wepon') ({related.name})"
    )


def test_a_tag_that_would_bring_back_a_deleted_parent_is_refused(related: Bench) -> None:
    hash, hydrus = related.add("weapon"), related.hydrus
    related.tag(hash, "weapon", action="1")
    steps = hydrus.plan([TagChange(hash, tag, "add") for tag in ("sword", "broadsword", "hat")])
    assert [isinstance(step, NoWrite) for step in steps] == [True, True, False]
    assert (
        not steps[0].settled
        and steps[0].reason
        == f"it would bring back 'weapon', which was removed from this picture before ({related.name})"
    )
    related.tag(hash, "weapon")  # its owner changes their mind
    assert all(isinstance(step, TagWrite) for step in hydrus.plan([TagChange(hash, "sword", "add")]))


def test_a_repository_gets_a_pending_tag_that_is_taken_back_without_a_trace(bench: Bench, repository: str) -> None:
    hash, hydrus = bench.add(), bench.hydrus
    (write,) = hydrus.plan([TagChange(hash, "hat", "add")], service=repository)
    assert (write.before, write.after) == (ABSENT, PENDING)
    hydrus.write([write])
    assert hydrus.states([(hash, "hat", repository)]) == [PENDING]
    assert next(hydrus.files([hash])).tags == ("hat",)
    (again,) = hydrus.plan([TagChange(hash, "hat", "add")], service=repository)
    assert again.settled
    (removal,) = hydrus.plan([TagChange(hash, "hat", "remove")])
    assert removal == hydrus.undo_of(write) and removal.after == ABSENT
    hydrus.write([removal])
    assert hydrus.states([(hash, "hat", repository)]) == [ABSENT]


def test_tags_of_every_service_count_once(bench: Bench, ai_tags: str, repository: str) -> None:
    hash = bench.add("solo", "hat")
    bench.tag(hash, "hat", "forest", service=ai_tags)
    bench.tag(hash, "pending", service=repository, action="2")
    assert next(bench.hydrus.files([hash])).tags == ("forest", "hat", "pending", "solo")


def test_a_machines_tags_do_not_count_and_are_not_written(bench: Bench, ai_tags: str) -> None:
    hash = bench.add("solo", "old")
    bench.tag(hash, "forest", "old", "gone", service=ai_tags)
    bench.tag(hash, "gone", service=ai_tags, action="1")
    everything = [one.key for one in Hydrus(bench.url, bench.key).services()]
    machines = ["AI Suggestions"] if bench.server else [key for key in everything if key != bench.service]
    hydrus = Hydrus(bench.url, bench.key, machine_services=machines)
    assert ai_tags not in [one.key for one in hydrus.services()]
    row = next(hydrus.files([hash]))
    assert (row.tags, row.deleted_tags) == (("old", "solo"), ())
    steps = hydrus.plan(
        [
            TagChange(hash, tag, action)
            for tag, action in (("forest", "remove"), ("forest", "add"), ("gone", "add"), ("old", "remove"))
        ]
    )
    assert [isinstance(step, NoWrite) for step in steps] == [True, False, False, False] and steps[0].settled
    assert {step.service for step in steps[1:]} == {bench.service}


def test_a_removal_happens_on_every_service_that_has_the_tag(bench: Bench, ai_tags: str, repository: str) -> None:
    hash, hydrus = bench.add("hat"), bench.hydrus
    bench.tag(hash, "hat", service=ai_tags)
    bench.tag(hash, "hat", service=repository, action="2")
    writes = carry_out(hydrus, TagChange(hash, "hat", "remove"))
    assert {(write.service, write.after) for write in writes} == {
        (bench.service, DELETED),
        (ai_tags, DELETED),
        (repository, ABSENT),
    }
    assert next(hydrus.files([hash])).tags == ()
    hydrus.write([hydrus.undo_of(write) for write in writes])
    assert hydrus.states([(write.hash, write.tag, write.service) for write in writes]) == [
        write.before for write in writes
    ]


def test_the_service_to_write_to_can_be_chosen(bench: Bench, ai_tags: str) -> None:
    hash = bench.add()
    hydrus = bench.open(write_service="ai suggestions" if bench.server else OWN[1])
    assert hydrus.services()[0].key == ai_tags
    carry_out(hydrus, TagChange(hash, "hat", "add"))
    assert bench.hydrus.states([(hash, "hat", ai_tags), (hash, "hat", bench.service)]) == [CURRENT, ABSENT]


def test_one_chosen_service_is_all_that_counts(bench: Bench, ai_tags: str) -> None:
    hash = bench.add("solo")
    bench.tag(hash, "forest", service=ai_tags)
    hydrus = bench.open(tag_services=[ai_tags], write_service=ai_tags)
    assert next(hydrus.files([hash])).tags == ("forest",)
    assert [one.key for one in hydrus.services()] == [ai_tags]
    assert hydrus.search("solo").pages[0].hashes == ()


# --- staying home -------------------------------------------------------------------------------------


def test_findings_open_as_a_locked_page_without_ghosts(bench: Bench) -> None:
    bench.may_leave_traces()
    name, hashes = unique_name("to review"), [bench.add(), bench.add()]
    bench.hydrus.open_page([hashes[0], UNKNOWN_HASH, hashes[1]], name)
    assert [page.hashes for page in bench.hydrus.walk([name]).pages] == [tuple(hashes)]
    with pytest.raises(LibraryRefused, match="none of these files is in Hydrus"):
        bench.hydrus.open_page([UNKNOWN_HASH], name)
    if bench.server:
        assert bench.server.page(name).kind == "locked"
        assert [call.asked["focus_page"] for call in bench.server.calls if call.path.endswith("/new_page")] == [False]


def test_pairs_are_told_to_hydrus_once_and_judged_pairs_are_left_alone(bench: Bench) -> None:
    bench.may_leave_traces()
    a, b, c, d = (bench.add() for _ in range(4))
    hydrus = bench.hydrus
    assert hydrus.judged([(a, b), (a, UNKNOWN_HASH)]) == [None, None]
    assert hydrus.set_relationship([(a, b), (a, a), (a, UNKNOWN_HASH)], "potential duplicates") == [(a, b)]
    assert hydrus.set_relationship([(b, a)], "potential duplicates") == []
    assert hydrus.set_relationship([(a, b), (c, d)], "false positives") == [(a, b), (c, d)]
    assert hydrus.judged([(b, a), (c, d), (a, d)]) == ["false positives", "false positives", None]
    assert hydrus.set_relationship([(d, c)], "alternates") == []
    with pytest.raises(UsageError, match="no relationship 'twins'"):
        hydrus.set_relationship([(a, b)], "twins")


def test_what_was_judged_of_one_copy_holds_for_all_copies(bench: Bench) -> None:
    """Hydrus judges groups of duplicates, and names one file of each other group."""
    bench.may_leave_traces()
    hydrus = bench.hydrus
    a, a2, b, b2, c, c2 = group = [bench.add() for _ in range(6)]
    alone, maybe = bench.add(), bench.add()
    hydrus.set_relationship([(a, a2), (b, b2)], "duplicates")
    hydrus.set_relationship([(c, c2)], "better")
    hydrus.set_relationship([(a2, b2)], "alternates")
    hydrus.set_relationship([(b2, c2)], "false positives")
    hydrus.set_relationship([(c2, maybe)], "potential duplicates")
    pairs = [(a, a2), (c2, c), (a, b), (a, b2), (a2, c2), (b, c), (c, maybe), (a, alone)]
    assert hydrus.judged(pairs) == [
        "duplicates",
        "duplicates",
        "alternates",
        "alternates",
        "false positives",
        "false positives",
        "potential duplicates",
        None,
    ]
    assert hydrus.set_relationship([(a, b2), (a2, c2), (c, maybe)], "duplicates") == [(c, maybe)]
    found = hydrus.judgements([*group, alone, UNKNOWN_HASH])
    assert found == [
        Judgement("alternates", tuple(sorted([a, a2, b, b2]))),
        *sorted(
            (Judgement("duplicates", tuple(sorted(pair))) for pair in ((a, a2), (b, b2), (c, c2))),
            key=lambda one: one.hashes,
        ),
        *[one for one in found if one.kind == "false positives"],
    ]
    (apart,) = [one for one in found if one.kind == "false positives"]
    assert {frozenset(apart.hashes), frozenset(apart.others)} == {frozenset([a, a2, b, b2]), frozenset([c, c2])}
    assert hydrus.judgements([a2, b]) == [Judgement("alternates", tuple(sorted([a2, b])))]
    assert hydrus.judgements([alone, UNKNOWN_HASH]) == []


def test_what_was_judged_of_a_trashed_file_still_holds(bench: Bench) -> None:
    bench.may_leave_traces()
    kept, thrown = bench.add(), bench.add()
    bench.hydrus.set_relationship([(kept, thrown)], "duplicates")
    bench.post("/add_files/delete_files", {"hash": thrown})
    assert bench.hydrus.judged([(kept, thrown)]) == ["duplicates"]
    assert bench.hydrus.judgements([kept, thrown]) == [Judgement("duplicates", tuple(sorted([kept, thrown])))]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Popups show every update, not one a second."""
    monkeypatch.setattr(hydrus_popup, "EVERY", 0.0)


def test_a_popup_shows_progress_and_goes_away(bench: Bench, at_once: None) -> None:
    with bench.hydrus.popup("tagcheck test") as popup:
        popup.update(1, 3, "looking")
        assert not popup.cancelled
        shown = bench.hydrus.connection.get("/manage_popups/get_popups")["job_statuses"]
        (mine,) = [one for one in shown if one["key"] == popup.key]
        assert (mine["status_title"], mine["status_text_1"], mine["popup_gauge_1"]) == (
            "tagcheck test",
            "looking",
            [1, 3],
        )
        bench.post("/manage_popups/cancel_popup", {"job_status_key": popup.key})
        popup.update(2, 3, "looking")
        assert popup.cancelled
    bench.settle()
    assert popup.key not in [
        one["key"] for one in bench.hydrus.connection.get("/manage_popups/get_popups")["job_statuses"]
    ]


def test_the_message_of_a_run_that_was_killed_goes_when_the_next_begins(bench: Bench, at_once: None) -> None:
    title = unique_name("killed")
    run = (
        "import os, sys; from tagcheck.library.hydrus.client import Hydrus\n"
        "with Hydrus(*sys.argv[1:3]).popup(sys.argv[3]) as popup: popup.update(1, 3, 'at work'); os._exit(9)"
    )
    ended = subprocess.run([sys.executable, "-c", run, bench.url, bench.key, title], cwd=PROJECT, timeout=60)

    def titles() -> list[str]:
        shown = bench.hydrus.connection.get("/manage_popups/get_popups")["job_statuses"]
        return [one.get("status_title") for one in shown]

    assert ended.returncode == 9 and title in titles()
    with bench.hydrus.popup("the next"):
        bench.settle()
        assert title not in titles()


def test_a_walk_shows_in_a_popup_and_ends_when_it_is_cancelled(bench: Bench, at_once: None) -> None:
    name, hydrus = unique_name(), bench.hydrus
    bench.page(name, [bench.add()])
    with hydrus.popup("tagcheck test") as popup:
        assert len(hydrus.walk([name]).pages) == 1
        bench.post("/manage_popups/cancel_popup", {"job_status_key": popup.key})
        with pytest.raises(Cancelled, match="cancelled in Hydrus; what was finished is kept"):
            hydrus.walk([name])
    assert len(hydrus.walk([name]).pages) == 1
