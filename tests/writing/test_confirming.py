"""A write is applied when the library has it for good: kills, restored copies and keys that may not ask to save."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from hydrus_server import MY_TAGS, HydrusServer

from tagcheck import data_folder
from tagcheck.changes import TagChange
from tagcheck.errors import LibraryUnreachable
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.writing import apply as applying
from tagcheck.writing import ledger as ledger_module
from tagcheck.writing.apply import LOST, THEIRS
from tagcheck.writing.ledger import APPLIED, FAILED, OPEN, UNDONE, WRITTEN, Ledger, outcomes

NO_DATABASE = {0, 1, 2, 3, 4, 8, 10}


class Scene:
    """Six files in a client, a key that may ask it to save or not, and a clock that can be put on."""

    def __init__(self, base: Path, server: HydrusServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.monkeypatch = server, monkeypatch
        self.files = [server.add_file(f"file {n}".encode(), ["1girl", "wrong"]) for n in range(6)]
        self.ledger = Ledger(base / "review.sqlite3")
        self.key = server.add_key("no database", NO_DATABASE)
        self.changes = [TagChange(hash, "hat", "add") for hash in self.files[:3]]
        self.changes += [TagChange(hash, "wrong", "remove") for hash in self.files[3:]]

    def library(self, key: str | None = None) -> Hydrus:
        return Hydrus(self.server.url, key or self.key, patience=0.2)

    def apply(self, key: str | None = None) -> applying.BatchResult:
        return applying.apply(self.ledger, self.library(key), self.changes)

    def undo(self, key: str | None = None) -> applying.BatchResult:
        return applying.undo(self.ledger, self.library(key), self.ledger.batches()[0].id)

    def confirm(self, everything: bool = False) -> applying.Confirmed:
        return applying.confirm(self.ledger, self.library(), everything)

    def later(self, seconds: float = 61) -> None:
        """Time passes, and the client saves."""
        self.server.save()
        now = data_folder.utc_now() + timedelta(seconds=seconds)
        for module in (applying, ledger_module):
            self.monkeypatch.setattr(module, "utc_now", lambda: now)

    def dies(self) -> None:
        """The client dies, and is started again."""
        self.server.kill()
        self.server.start()

    def statuses(self) -> set[str]:
        return {row.status for row in self.ledger.rows()}


@pytest.fixture
def scene(tmp_path, monkeypatch):
    with HydrusServer({}, pages={}) as server:
        made = Scene(tmp_path, server, monkeypatch)
        server.save()
        yield made


def test_a_key_that_may_ask_hydrus_to_save_has_its_changes_applied_at_once(scene):
    result = scene.apply(scene.server.key)
    assert (result.applied, result.written) == (6, 0) and scene.statuses() == {APPLIED}
    scene.dies()
    assert "hat" in scene.server.stored(scene.files[0])["0"] and scene.confirm(everything=True).lost == 0


def test_without_that_permission_changes_are_written_and_confirmed_a_minute_later(scene):
    result = scene.apply()
    assert (result.applied, result.written, result.failed) == (0, 6, 0)
    assert {(row.status, row.reason) for row in result.rows} == {(WRITTEN, "written, being confirmed")}
    early = scene.confirm()
    assert (early.kept, early.lost, early.written, early.rows) == (0, 0, 6, [])
    scene.later()
    late = scene.confirm()
    assert (late.kept, late.lost, late.written) == (6, 0, 0) and scene.statuses() == {APPLIED}
    assert {row.reason for row in scene.ledger.rows()} == {""} and scene.confirm().rows == []


def test_where_the_clock_was_set_back_since_the_minute_begins_anew(scene):
    scene.later(3600)
    scene.apply()
    scene.later(0)
    early = scene.confirm()
    assert (early.kept, early.lost, early.written) == (0, 0, 6) and scene.statuses() == {WRITTEN}
    scene.later(61)
    assert scene.confirm().kept == 6 and scene.statuses() == {APPLIED}


def test_what_a_client_that_died_had_not_saved_is_lost_and_said_and_not_written_again_unasked(scene):
    scene.apply()
    scene.dies()
    found = scene.confirm()
    assert (found.kept, found.lost) == (0, 6) and scene.statuses() == {FAILED}
    assert all(row.reason.startswith(LOST) for row in found.rows)
    assert {outcome for _, outcome, *_ in outcomes(found.rows)} == {"failed"}
    assert applying.recover(scene.ledger, scene.library()) == [] and "hat" not in str(scene.server.mappings)
    again = applying.apply(scene.ledger, scene.library(scene.server.key), scene.changes)
    assert again.applied == 6 and scene.server.stored(scene.files[3]) == {"0": ["1girl"], "2": ["wrong"]}


def test_an_undo_that_the_client_lost_is_said_and_can_be_taken_back_again(scene):
    scene.apply(scene.server.key)
    back = scene.undo()
    assert (back.applied, back.written) == (0, 6)
    assert {(row.status, row.reason) for row in back.rows} == {(WRITTEN, "taken back, being confirmed")}
    scene.dies()
    found = scene.confirm()
    assert found.lost == 6 and scene.statuses() == {APPLIED}
    assert scene.undo(scene.server.key).applied == 6 and scene.statuses() == {UNDONE}


def test_an_undo_is_done_a_minute_later(scene):
    scene.apply(scene.server.key)
    scene.undo()
    scene.later()
    assert scene.confirm().kept == 6 and scene.statuses() == {UNDONE}


def test_what_is_not_confirmed_can_be_undone(scene):
    scene.apply()
    back = scene.undo(scene.server.key)
    assert back.applied == 6 and scene.statuses() == {UNDONE}


def test_undo_of_what_the_library_lost_is_done(scene):
    """198 finished rows were once called "not taken back", since the tag was absent and not deleted."""
    scene.apply()
    scene.dies()
    back = scene.undo(scene.server.key)
    assert (back.applied, back.failed) == (6, 0) and scene.statuses() == {UNDONE}


@pytest.mark.parametrize("path", ["/add_tags/add_tags", "/manage_database/force_commit"])
def test_undo_in_whose_midst_the_client_died_ends_as_it_was_before(scene, path):
    scene.apply()
    calls = []

    def dies(call):
        if call.path == path and not calls:
            calls.append(call)
            scene.server.before_answer = lambda call: None
            if scene.server._unsaved:
                scene.server.mappings = scene.server._unsaved[1]
                scene.server._unsaved = None

    scene.server.before_answer = dies
    back = scene.undo(scene.server.key)
    assert calls and (back.applied, back.failed) == (6, 0) and scene.statuses() == {UNDONE}
    assert scene.server.stored(scene.files[0]) == {"0": ["1girl", "wrong"]}


def test_what_its_owner_changed_before_it_was_confirmed_is_theirs(scene):
    scene.apply()
    scene.server.mappings[MY_TAGS][scene.files[0]]["0"].discard("hat")
    scene.server.mappings[MY_TAGS][scene.files[0]]["2"].add("hat")
    scene.later()
    found = scene.confirm()
    assert (found.kept, found.lost) == (6, 0)
    assert scene.ledger.rows()[0].reason == f"{THEIRS}: deleted" and scene.ledger.rows()[1].reason == ""


def test_a_client_that_is_away_leaves_what_is_not_confirmed(scene):
    scene.apply()
    scene.server.stop()
    with pytest.raises(LibraryUnreachable):
        scene.confirm()
    assert scene.statuses() == {WRITTEN}


def test_a_restored_backup_of_the_client_is_noticed(scene):
    before = {
        key: {hash: {s: set(t) for s, t in by.items()} for hash, by in files.items()}
        for key, files in scene.server.mappings.items()
    }
    scene.apply(scene.server.key)
    assert scene.confirm(everything=True).rows == []
    for key, files in before.items():
        for hash, by in files.items():
            now = scene.server.mappings[key][hash]
            now.clear()
            now.update(by)
    assert scene.confirm().rows == []  # nothing is unconfirmed
    found = scene.confirm(everything=True)
    assert found.lost == 6 and scene.statuses() == {FAILED}


def test_only_the_last_word_on_a_tag_is_read_again(scene):
    scene.apply(scene.server.key)
    hash = scene.files[0]
    applying.apply(scene.ledger, scene.library(scene.server.key), [TagChange(hash, "hat", "remove")])
    assert scene.confirm(everything=True).rows == []


def test_reading_again_holds_up_no_apply_and_passes_over_what_that_writes(scene, monkeypatch):
    scene.apply()
    scene.later()
    library, states = scene.library(), scene.library().states

    def slow(places):
        """What is read is from before its owner takes the tag off again."""
        read = states(places)
        with scene.ledger.exclusive(0):
            pass
        applying.apply(scene.ledger, scene.library(), [TagChange(scene.files[0], "hat", "remove")])
        return read

    monkeypatch.setattr(library, "states", slow)
    found = applying.confirm(scene.ledger, library)
    assert (found.kept, found.lost) == (5, 0) and scene.ledger.rows()[0].status == WRITTEN


def test_a_write_that_was_overtaken_is_not_being_confirmed_for_ever(scene):
    scene.apply()
    applying.apply(scene.ledger, scene.library(), [TagChange(scene.files[0], "hat", "remove")])
    scene.later()
    assert scene.confirm().kept == 6 and scene.statuses() == {APPLIED}


def test_what_was_read_again_before_the_client_went_away_is_kept(scene, monkeypatch):
    scene.apply()
    scene.later()
    monkeypatch.setattr(applying, "CHUNK", 4)
    library = scene.library()
    states, asked = library.states, []

    def once(places):
        asked.append(places)
        if len(asked) > 1:
            raise LibraryUnreachable("it ended")
        return states(places)

    monkeypatch.setattr(library, "states", once)
    found = applying.confirm(scene.ledger, library)
    assert (found.kept, found.written) == (4, 0) and [row.status for row in scene.ledger.rows()] == [APPLIED] * 4 + [
        WRITTEN
    ] * 2


def test_a_client_that_dies_while_it_is_asked_to_save_leaves_rows_open(scene):
    def dies(call):
        if call.path == "/manage_database/force_commit":
            scene.server.before_answer = lambda call: None
            scene.server.kill()

    scene.server.before_answer = dies
    result = scene.apply(scene.server.key)
    assert result.open == 6 and scene.statuses() == {OPEN}
    scene.server.start()
    (done,) = applying.recover(scene.ledger, scene.library(scene.server.key))
    assert done.applied == 6 and "hat" in scene.server.stored(hash := scene.files[0])["0"], hash


# --- a folder -------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for name in "abcd":
        (root / f"{name}.jpg").write_bytes(name.encode())
        (root / f"{name}.txt").write_text("1girl, solo\n")
    return root


def folder_library(root: Path) -> FolderLibrary:
    return FolderLibrary(root, root.parent / "folder.sqlite3")


def test_a_restored_backup_of_a_folder_is_noticed_and_an_edit_by_hand_is_not_called_one(home, tmp_path):
    ledger, library = Ledger(tmp_path / "review.sqlite3"), folder_library(home)
    hashes = [hash for page in library.walk([]).pages for hash in page.hashes]
    shutil.copytree(home, tmp_path / "backup")
    result = applying.apply(ledger, library, [TagChange(hash, "hat", "add") for hash in hashes])
    assert (result.applied, result.written) == (4, 0)
    assert applying.confirm(ledger, library, everything=True).rows == []
    for name in "abc":
        shutil.copy(tmp_path / "backup" / f"{name}.txt", home / f"{name}.txt")
    (home / "d.txt").write_text("1girl, solo, by hand\n")
    found = applying.confirm(ledger, folder_library(home), everything=True)
    assert [(row.status, row.reason.startswith(LOST)) for row in found.rows] == [(FAILED, True)] * 3
    assert sorted(row.status for row in ledger.rows()) == [APPLIED, FAILED, FAILED, FAILED]


def test_one_sidecar_made_as_before_by_hand_is_not_called_a_restored_backup(home, tmp_path):
    ledger, library = Ledger(tmp_path / "review.sqlite3"), folder_library(home)
    hashes = [hash for page in library.walk([]).pages for hash in page.hashes]
    before = (home / "a.txt").read_bytes()
    applying.apply(ledger, library, [TagChange(hash, "hat", "add") for hash in hashes])
    (home / "a.txt").write_bytes(before)
    assert applying.confirm(ledger, folder_library(home), everything=True).rows == []


def test_a_tag_put_back_by_hand_in_hydrus_is_not_called_lost(scene):
    scene.apply(scene.server.key)
    scene.server.tag(scene.files[3], ["wrong"])
    assert scene.confirm(everything=True).rows == [] and scene.statuses() == {APPLIED}
