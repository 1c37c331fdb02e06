"""Applying accepted changes and taking them back: exact, once, and safe against kills, absences and the owner's own hand."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import warm
from hydrus_server import MY_TAGS, REPOSITORY, HydrusServer

from tagcheck.changes import TagChange
from tagcheck.errors import LibraryRefused, LibraryUnreachable, UsageError
from tagcheck.library.folder import library as folder_module
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.library.protocol import ABSENT, CURRENT, NoWrite, TagWrite
from tagcheck.writing import apply as applying
from tagcheck.writing.ledger import APPLIED, FAILED, OPEN, SETTLED, UNDONE, Ledger

PROJECT = Path(__file__).resolve().parents[2]


class Home:
    """A folder library with three pictures, and a ledger beside it."""

    def __init__(self, base: Path) -> None:
        self.base, self.root = base, base / "pictures"
        self.root.mkdir()
        self.a, self.b, self.c = (
            self.picture(name, text)
            for name, text in (
                ("a", "1girl, long_hair\n"),
                ("b", "1girl, wrong_tag, solo\n"),
                ("c", "1girl, wrong_tag\n"),
            )
        )
        self.ledger = Ledger(base / "data" / "review.sqlite3")
        self.library = self.opened()

    def picture(self, name: str, text: str) -> str:
        (self.root / f"{name}.jpg").write_bytes(name.encode())
        (self.root / f"{name}.txt").write_text(text)
        return hashlib.sha256(name.encode()).hexdigest()

    def opened(self) -> FolderLibrary:
        return FolderLibrary(self.root, self.base / "data" / "folder.sqlite3")

    def texts(self) -> dict[str, str]:
        return {path.stem: path.read_text() for path in sorted(self.root.glob("*.txt"))}

    def apply(self, *changes: TagChange, **options) -> applying.BatchResult:
        return applying.apply(self.ledger, self.library, changes, **options)

    def undo(self, *args, **options) -> applying.BatchResult:
        return applying.undo(self.ledger, self.library, *args, **options)

    def statuses(self, batch: int | None = None) -> list[str]:
        return [row.status for row in self.ledger.rows(batch)]

    def away(self) -> Path:
        """The drive is unplugged."""
        return self.root.rename(self.base / "unplugged")

    def back(self) -> None:
        (self.base / "unplugged").rename(self.root)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def counts(result: applying.BatchResult) -> tuple[int, int, int, int]:
    return result.applied, result.failed, result.settled, result.open


# --- preview and apply -------------------------------------------------------------------------------


def test_a_preview_is_the_exact_difference_and_leaves_no_trace(home):
    before = home.texts()
    shown = applying.preview(
        home.library,
        [
            TagChange(home.a, "hat", "add"),
            TagChange(home.b, "wrong tag", "remove"),
            TagChange(home.c, "1girl", "add"),
            TagChange(home.a, "hat", "add"),
        ],
    )
    assert shown.writes == [
        TagWrite(home.a, "hat", "sidecar", ABSENT, CURRENT),
        TagWrite(home.b, "wrong tag", "sidecar", CURRENT, ABSENT),
    ]
    assert shown.no_writes == [NoWrite(TagChange(home.c, "1girl", "add"), "has the tag already", True)]
    assert home.texts() == before and not home.ledger.path.exists()


def test_what_is_applied_is_what_was_previewed_and_the_ledger_says_so(home):
    changes = [
        TagChange(home.a, "hat", "add"),
        TagChange(home.b, "wrong tag", "remove"),
        TagChange(home.c, "1girl", "add"),
        TagChange("f" * 64, "hat", "add"),
    ]
    shown = applying.preview(home.library, changes)
    told = []
    result = home.apply(*changes, progress=lambda done, total: told.append((done, total)), reason="because")
    assert counts(result) == (2, 1, 1, 0) and told == [(2, 2)] and not result.waiting
    assert home.texts() == {"a": "1girl, long_hair, hat\n", "b": "1girl, solo\n", "c": "1girl, wrong_tag\n"}
    rows = home.ledger.rows(result.batch)
    assert result.rows == rows and [row.write for row in rows if row.status == APPLIED] == shown.writes
    assert [(row.status, row.reason) for row in rows[2:]] == [
        (SETTLED, "has the tag already"),
        (FAILED, "the picture is not in the folder (any more)"),
    ]
    assert home.ledger.batches()[0].reason == "because"


def test_applying_twice_writes_once(home):
    change = TagChange(home.a, "hat", "add")
    home.apply(change)
    text = home.texts()
    assert counts(home.apply(change, change)) == (0, 0, 1, 0) and home.texts() == text


def test_a_tag_that_is_to_come_and_to_go_is_refused_before_anything_happens(home):
    with pytest.raises(UsageError, match="'hat' is to be added to .* and removed from it"):
        home.apply(TagChange(home.a, "hat", "add"), TagChange(home.a, "hat", "remove"))
    with pytest.raises(UsageError, match="'set' is not a change"):
        home.apply(TagChange(home.a, "hat", "set"))
    assert not home.ledger.batches()


def test_nothing_to_apply_is_a_batch_without_rows(home):
    assert counts(home.apply()) == (0, 0, 0, 0)


def test_the_write_is_on_the_disk_of_the_ledger_before_the_library_is_touched(home, monkeypatch):
    seen = []
    real = home.library.write
    monkeypatch.setattr(
        home.library,
        "write",
        lambda writes, reason="": (seen.append((home.statuses(), home.texts()["a"])), real(writes, reason)),
    )
    home.apply(TagChange(home.a, "hat", "add"))
    assert seen == [([OPEN], "1girl, long_hair\n")]


def test_a_write_that_did_not_take_is_failed_with_its_reason_and_can_be_tried_again(home):
    (home.root / "b.txt").chmod(0o444)
    changes = [TagChange(home.a, "hat", "add"), TagChange(home.b, "hat", "add")]
    result = home.apply(*changes)
    assert counts(result) == (1, 1, 0, 0) and "b.txt is write-protected" in result.rows[1].reason
    (home.root / "b.txt").chmod(0o644)
    assert counts(home.apply(*changes)) == (1, 0, 1, 0)


def test_each_picture_that_could_not_be_written_says_its_own_reason(home, monkeypatch):
    real = folder_module.replace_file

    def full_disk(inside, edit):
        if not edit.path.endswith("c.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(inside, edit)

    monkeypatch.setattr(folder_module, "replace_file", full_disk)
    result = home.apply(*(TagChange(hash, "hat", "add") for hash in (home.a, home.b, home.c)))
    assert [(row.status, row.reason.rpartition("/")[2]) for row in result.rows] == [
        (FAILED, "a.txt could not be written: No space left on device"),
        (FAILED, "b.txt could not be written: No space left on device"),
        (APPLIED, ""),
    ]


@pytest.mark.parametrize("unwritable", ["a.txt", "copy/a.txt"])
def test_a_picture_that_lies_in_two_places_is_changed_in_both_or_in_none(home, monkeypatch, unwritable):
    real, places = folder_module.replace_file, [home.root / "a.txt", home.root / "copy" / "a.txt"]
    (home.root / "copy").mkdir()
    for ending in (".jpg", ".txt"):
        places[1].with_suffix(ending).write_bytes(places[0].with_suffix(ending).read_bytes())
    before = [place.read_bytes() for place in places]

    def full_disk(inside, edit):
        if edit.path == str(home.root / unwritable):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(inside, edit)

    monkeypatch.setattr(folder_module, "replace_file", full_disk)
    result = home.apply(TagChange(home.a, "hat", "add"))
    assert counts(result) == (0, 1, 0, 0) and "No space left" in result.rows[0].reason
    assert [place.read_bytes() for place in places] == before
    monkeypatch.setattr(folder_module, "replace_file", real)
    result = home.apply(TagChange(home.a, "hat", "add"))
    assert counts(result) == (1, 0, 0, 0) and all(b"hat" in place.read_bytes() for place in places)
    home.undo(result.batch)
    assert [place.read_bytes() for place in places] == before


def test_what_changed_between_plan_and_write_is_not_written_over(home, monkeypatch):
    """The owner puts the tag in by hand in that moment: it is theirs, and undo will not take it."""
    real = home.library.plan

    def plan(changes, service=None):
        steps = real(changes, service)
        (home.root / "a.txt").write_text("1girl, hat, by hand\n")
        (home.root / "b.txt").unlink()
        (home.root / "b.jpg").unlink()
        return steps

    monkeypatch.setattr(home.library, "plan", plan)
    result = home.apply(TagChange(home.a, "hat", "add"), TagChange(home.b, "wrong tag", "remove"))
    assert counts(result) == (0, 1, 1, 0) and home.texts()["a"] == "1girl, hat, by hand\n"
    assert "not in the library (any more)" in result.rows[1].reason
    assert counts(home.undo(result.batch)) == (0, 0, 0, 0) and home.texts()["a"] == "1girl, hat, by hand\n"


def test_a_library_that_answers_nothing_to_a_change_loses_no_change(home, monkeypatch):
    monkeypatch.setattr(home.library, "plan", lambda changes, service=None: [])
    result = home.apply(TagChange(home.a, "hat", "add"))
    assert [(row.status, row.reason) for row in result.rows] == [(FAILED, "the library has no answer to it")]


def test_large_batches_go_in_chunks(home, monkeypatch):
    monkeypatch.setattr(applying, "CHUNK", 2)
    told = []
    result = home.apply(
        *(TagChange(home.a, f"tag {number}", "add") for number in range(5)), progress=lambda *step: told.append(step)
    )
    assert result.applied == 5 and told == [(2, 5), (4, 5), (5, 5)]
    assert home.texts()["a"] == "1girl, long_hair, " + ", ".join(f"tag_{number}" for number in range(5)) + "\n"


# --- undo --------------------------------------------------------------------------------------------


def test_undo_of_a_batch_gives_the_very_bytes_back(home):
    before = home.texts()
    result = home.apply(
        *(TagChange(hash, "hat", "add") for hash in (home.a, home.b, home.c)),
        TagChange(home.b, "wrong tag", "remove"),
        TagChange(home.c, "1girl", "remove"),
        TagChange(home.c, "wrong tag", "remove"),
    )
    back = home.undo(result.batch)
    assert counts(back) == (6, 0, 0, 0) and home.texts() == before
    assert {row.status for row in back.rows} == {UNDONE}
    assert counts(home.undo(result.batch)) == (0, 0, 0, 0) and home.texts() == before


def test_undo_of_single_rows_leaves_the_others(home):
    result = home.apply(*(TagChange(hash, "hat", "add") for hash in (home.a, home.b, home.c)))
    back = home.undo(rows=[result.rows[1].id])
    assert counts(back) == (1, 0, 0, 0) and back.batch == result.batch
    assert home.statuses() == [APPLIED, UNDONE, APPLIED] and home.texts()["b"] == "1girl, wrong_tag, solo\n"
    assert "hat" in home.texts()["a"]


def test_undo_over_several_batches_goes_back_in_their_order(home):
    before = home.texts()
    first = home.apply(TagChange(home.a, "hat", "add"))
    second = home.apply(TagChange(home.a, "hat", "remove"))
    third = home.apply(TagChange(home.a, "hat", "add"), TagChange(home.a, "long hair", "remove"))
    ids = [row.id for result in (first, second, third) for row in result.rows]
    back = home.undo(rows=ids)
    assert counts(back) == (4, 0, 0, 0) and back.batch is None and home.texts() == before


def test_undo_refuses_what_the_owner_changed_since_and_says_so(home):
    result = home.apply(TagChange(home.b, "wrong tag", "remove"), TagChange(home.c, "wrong tag", "remove"))
    (home.root / "c.jpg").unlink()
    back = home.undo(result.batch)
    assert counts(back) == (1, 1, 0, 0)
    assert [(row.status, row.goal) for row in home.ledger.rows(result.batch)] == [(UNDONE, "undo"), (APPLIED, "apply")]
    assert home.ledger.rows(result.batch)[1].reason == (
        "not taken back: the picture is not in the library (any more), or its tags cannot be read"
    )


def test_what_the_owner_took_back_by_hand_counts_as_taken_back(home):
    result = home.apply(TagChange(home.a, "hat", "add"))
    (home.root / "a.txt").write_text("all, new\n")
    assert counts(home.undo(result.batch)) == (1, 0, 0, 0) and home.texts()["a"] == "all, new\n"


def test_undo_of_a_copy_that_the_owner_changed_is_refused(home):
    """The same file in two places: one of them lost the tag by hand, so there is no telling what its owner wants."""
    (home.root / "d.jpg").write_bytes(b"a")
    result = home.apply(TagChange(home.a, "hat", "add"))
    (home.root / "d.jpg.txt").unlink(missing_ok=True)
    (home.root / "d.txt").unlink(missing_ok=True)
    back = home.undo(result.batch)
    assert counts(back) == (0, 1, 0, 0) and "it is partly now, and was current before" in back.rows[0].reason
    assert home.texts()["a"] == "1girl, long_hair, hat\n"


def test_undo_asks_for_a_batch_or_rows_that_are_there_in_this_library(home, tmp_path):
    result = home.apply(TagChange(home.a, "hat", "add"))
    for wrong in ({}, {"batch": 1, "rows": [1]}, {"batch": 9}, {"rows": [9]}):
        with pytest.raises(UsageError):
            home.undo(**wrong)
    (tmp_path / "other").mkdir()
    with pytest.raises(LibraryRefused, match="batch 1 was written to folder .*pictures, this is folder .*other"):
        applying.undo(home.ledger, FolderLibrary(tmp_path / "other"), result.batch)
    assert home.undo(rows=[]).rows == []


def test_undo_finds_the_pictures_of_a_folder_that_was_moved(home):
    result = home.apply(TagChange(home.a, "hat", "add"), TagChange(home.b, "wrong tag", "remove"))
    moved = FolderLibrary(home.away(), home.base / "data" / "folder.sqlite3")
    assert counts(applying.undo(home.ledger, moved, result.batch)) == (2, 0, 0, 0)
    home.back()
    texts = home.texts()
    assert texts["a"] == "1girl, long_hair\n" and set(texts["b"].strip().split(", ")) == {"1girl", "solo", "wrong_tag"}


@pytest.mark.parametrize("seed", range(4))
def test_any_story_of_applies_undos_and_edits_by_hand_ends_as_a_plain_set_of_tags_would(tmp_path, seed):
    """The slow twin: pictures as sets of tags, changed by the same steps. No tag that nobody named ever changes."""
    rng = random.Random(seed)
    home = Home(tmp_path)
    files = {home.a: "a", home.b: "b", home.c: "c"}
    tags = ["hat", "long hair", "solo", "wrong tag", "series:re:zero", "^_^"]
    expected = {info.hash: set(info.tags) for info in home.library.files(list(files))}
    batches: list[tuple[int, list[TagChange]]] = []
    for _ in range(12):
        step = rng.choice(["apply", "apply", "undo", "edit"])
        if step == "apply":
            wanted = {
                (rng.choice(list(files)), rng.choice(tags)): rng.choice(["add", "remove"])
                for _ in range(rng.randint(1, 5))
            }
            changes = [TagChange(hash, tag, action) for (hash, tag), action in wanted.items()]
            done = [change for change in changes if (change.tag in expected[change.hash]) != (change.action == "add")]
            for change in done:
                (set.add if change.action == "add" else set.discard)(expected[change.hash], change.tag)
            result = home.apply(*changes)
            assert counts(result) == (len(done), 0, len(changes) - len(done), 0)
            batches.append((result.batch, done))
        elif step == "undo" and batches:
            batch, done = batches.pop(rng.randrange(len(batches)))
            for change in done:
                (set.discard if change.action == "add" else set.add)(expected[change.hash], change.tag)
            assert counts(home.undo(batch)) == (len(done), 0, 0, 0)
        elif step == "edit":
            hash = rng.choice(list(files))
            expected[hash] ^= {rng.choice(tags), f"by hand {rng.randint(0, 9)}"}
            joint = rng.choice([", ", "\n"])
            (home.root / f"{files[hash]}.txt").write_text(
                joint.join(rng.sample(sorted(expected[hash]), len(expected[hash]))) + "\n"
            )
        assert {info.hash: set(info.tags) for info in home.opened().files(list(files))} == expected
    assert OPEN not in home.statuses()


# --- a library that is away --------------------------------------------------------------------------


def test_a_library_that_is_away_leaves_the_changes_waiting_and_they_are_applied_when_it_is_back(home):
    changes = [
        TagChange(home.a, "hat", "add"),
        TagChange(home.b, "wrong tag", "remove"),
        TagChange(home.c, "1girl", "add"),
    ]
    home.away()
    result = home.apply(*changes)
    assert counts(result) == (0, 0, 0, 3) and "is its drive connected" in result.waiting
    (waiting,) = applying.recover(home.ledger, home.library)
    assert counts(waiting) == (0, 0, 0, 3) and waiting.waiting
    home.back()
    (done,) = applying.recover(home.ledger, home.library)
    assert counts(done) == (2, 0, 1, 0) and home.texts() == {
        "a": "1girl, long_hair, hat\n",
        "b": "1girl, solo\n",
        "c": "1girl, wrong_tag\n",
    }
    assert applying.recover(home.ledger, home.library) == []


def test_the_next_apply_carries_out_what_waited_first(home):
    home.away()
    home.apply(TagChange(home.a, "hat", "add"))
    home.back()
    result = home.apply(TagChange(home.a, "hat", "remove"))
    assert counts(result) == (1, 0, 0, 0) and home.statuses() == [APPLIED, APPLIED]
    assert home.texts()["a"] == "1girl, long_hair\n"


def test_what_waits_can_be_withdrawn(home):
    before = home.texts()
    home.away()
    result = home.apply(TagChange(home.a, "hat", "add"))
    back = home.undo(result.batch)
    assert counts(back) == (1, 0, 0, 0) and back.rows[0].reason == applying.WITHDRAWN
    home.back()
    assert applying.recover(home.ledger, home.library) == [] and home.texts() == before


class Leaving:
    """A folder library whose drive is unplugged when its nth call of `write` or `states` begins."""

    def __init__(self, home: Home, name: str, nth: int) -> None:
        self.home, self.name, self.left = home, name, nth
        self.kind = "folder"

    def __getattr__(self, name: str) -> Callable:
        real = getattr(self.home.library, name)
        if name != self.name:
            return real

        def call(*args, **options):
            self.left -= 1
            if self.left == 0:
                self.home.away()
                raise LibraryUnreachable("the drive is gone")
            return real(*args, **options)

        return call


@pytest.mark.parametrize(
    "name, nth", [("states", 1), ("write", 1), ("states", 2), ("states", 3), ("write", 2), ("states", 4)]
)
def test_a_drive_that_goes_in_the_middle_costs_nothing(home, monkeypatch, name, nth):
    monkeypatch.setattr(applying, "CHUNK", 2)
    changes = [TagChange(hash, "hat", "add") for hash in (home.a, home.b, home.c)]
    result = applying.apply(home.ledger, Leaving(home, name, nth), changes)
    assert result.waiting == "the drive is gone" and result.open > 0 and result.applied + result.open == 3
    assert result.failed == 0
    home.back()
    applying.recover(home.ledger, home.library)
    assert home.statuses() == [APPLIED] * 3
    assert all(text.count("hat") == 1 for text in home.texts().values())


def test_an_undo_that_the_library_left_in_the_middle_is_finished_later(home):
    before = home.texts()
    result = home.apply(*(TagChange(hash, "hat", "add") for hash in (home.a, home.b, home.c)))
    back = applying.undo(home.ledger, Leaving(home, "write", 1), result.batch)
    assert counts(back) == (0, 0, 0, 3) and back.waiting
    home.back()
    (done,) = applying.recover(home.ledger, home.library)
    assert counts(done) == (3, 0, 0, 0) and home.statuses() == [UNDONE] * 3 and home.texts() == before


def test_ctrl_c_in_the_middle_of_a_write_is_finished_later(home, monkeypatch):
    real = folder_module.replace_file
    written = []

    def interrupted(inside, edit):
        if written:
            raise KeyboardInterrupt
        written.append(edit.path)
        real(inside, edit)

    monkeypatch.setattr(folder_module, "replace_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        home.apply(*(TagChange(hash, "hat", "add") for hash in (home.a, home.b, home.c)))
    monkeypatch.setattr(folder_module, "replace_file", real)
    assert home.statuses() == [OPEN] * 3 and sum("hat" in text for text in home.texts().values()) == 1
    (done,) = applying.recover(home.ledger, home.opened())
    assert counts(done) == (3, 0, 0, 0) and all(text.count("hat") == 1 for text in home.texts().values())


def test_rows_of_another_library_are_left_alone(home, tmp_path):
    home.away()
    home.apply(TagChange(home.a, "hat", "add"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.jpg").write_bytes(b"a")
    assert applying.recover(home.ledger, FolderLibrary(other)) == []
    assert home.statuses() == [OPEN] and sorted(path.name for path in other.iterdir()) == ["a.jpg"]


# --- several at once, and kills ------------------------------------------------------------------------


def test_two_processes_that_apply_the_same_changes_write_each_once(home):
    hashes = [home.picture(f"p{number}", "1girl, solo\n") for number in range(30)]
    program = """
import sys
from pathlib import Path
from tagcheck.writing import apply as applying
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.writing.ledger import Ledger
from tagcheck.library.protocol import TagChange
root, data, *hashes = sys.argv[1:]
library = FolderLibrary(root, Path(data) / "folder.sqlite3")
print(applying.apply(Ledger(Path(data) / "review.sqlite3"), library, [TagChange(hash, "hat", "add") for hash in hashes]).applied)
"""
    running = [
        subprocess.Popen(
            [warm.python(), "-c", program, home.root, home.base / "data", *hashes],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    done = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sorted(done) == [0, 0, 30]
    assert [(home.root / f"p{number}.txt").read_text() for number in range(30)] == ["1girl, solo, hat\n"] * 30
    assert sorted(home.statuses()) == [APPLIED] * 30 + [SETTLED] * 60


@pytest.fixture
def server():
    with HydrusServer({}, pages={}) as running:
        yield running


def hydrus(server: HydrusServer) -> Hydrus:
    return Hydrus(server.url, server.key, patience=0.2)


def test_a_batch_goes_to_hydrus_and_back(server, tmp_path):
    ledger = Ledger(tmp_path / "review.sqlite3")
    one, two = server.add_file(b"one", ["1girl", "wrong tag"]), server.add_file(b"two", ["1girl"])
    server.tag(two, ["wrong tag"], REPOSITORY)
    changes = [
        TagChange(one, "wrong tag", "remove"),
        TagChange(two, "wrong tag", "remove"),
        TagChange(two, "hat", "add"),
    ]
    result = applying.apply(ledger, hydrus(server), changes, reason="not in the picture")
    assert counts(result) == (3, 0, 0, 0)
    assert server.stored(one) == {"0": ["1girl"], "2": ["wrong tag"]} and server.stored(two) == {"0": ["1girl", "hat"]}
    assert server.stored(two, REPOSITORY)["3"] == ["wrong tag"]
    assert counts(applying.undo(ledger, hydrus(server), result.batch)) == (3, 0, 0, 0)
    assert server.stored(one) == {"0": ["1girl", "wrong tag"]} and server.stored(two, REPOSITORY) == {
        "0": ["wrong tag"]
    }
    assert server.stored(two) == {"0": ["1girl"], "2": ["hat"]}, "the API cannot delete a local tag without a record"


def test_undo_in_hydrus_refuses_where_the_owner_changed_the_tag_since(server, tmp_path):
    ledger = Ledger(tmp_path / "review.sqlite3")
    one = server.add_file(b"one", ["1girl", "wrong tag"])
    result = applying.apply(ledger, hydrus(server), [TagChange(one, "wrong tag", "remove")])
    server.mappings[MY_TAGS][one]["2"].clear()  # the owner cleared the deletion record
    back = applying.undo(ledger, hydrus(server), result.batch)
    assert counts(back) == (0, 1, 0, 0)
    assert back.rows[0].reason == "not taken back: it is absent now, and was deleted before"
    assert server.stored(one) == {"0": ["1girl"]}


def test_a_closed_hydrus_gets_its_changes_when_it_is_open_again(server, tmp_path):
    ledger = Ledger(tmp_path / "review.sqlite3")
    one = server.add_file(b"one", ["1girl"])
    server.stop()
    result = applying.apply(ledger, hydrus(server), [TagChange(one, "hat", "add")])
    assert counts(result) == (0, 0, 0, 1) and result.waiting
    server.start()
    (done,) = applying.recover(ledger, hydrus(server))
    assert counts(done) == (1, 0, 0, 0) and server.stored(one) == {"0": ["1girl", "hat"]}


def test_a_batch_that_waits_for_hydrus_can_be_withdrawn_after_it_was_planned(server, tmp_path):
    ledger = Ledger(tmp_path / "review.sqlite3")
    one = server.add_file(b"one", ["1girl"])
    server.before_answer = lambda call: setattr(server, "locked", call.path == "/add_tags/add_tags" or server.locked)
    result = applying.apply(ledger, hydrus(server), [TagChange(one, "hat", "add")])
    assert counts(result) == (0, 0, 0, 1) and result.rows[0].write is not None
    server.before_answer, server.locked = (lambda call: None), False
    assert counts(applying.undo(ledger, hydrus(server), result.batch)) == (1, 0, 0, 0)
    assert server.stored(one)["0"] == ["1girl"] and applying.recover(ledger, hydrus(server)) == []
