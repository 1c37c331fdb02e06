"""SQLite files that are damaged, foreign, read-only or on a full disk cost one clear line, and nothing is lost in silence."""

from __future__ import annotations

import importlib.util
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tagcheck import sqlite
from tagcheck.data_folder import DataFolder
from tagcheck.errors import BadFile, ToolError
from tagcheck.review import Ask, Key, Review, start
from tagcheck.review.store import ACCEPTED, IGNORED, MIGRATIONS, decisions
from tagcheck.writing import Ledger

PROJECT = Path(__file__).resolve().parent.parent
KEYS = [Key(f"{number:064x}", f"tag {number}", "add") for number in range(28)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with 28 decisions."""
    path = tmp_path / "review.sqlite3"
    with Review(path) as review:
        review.decide([Ask(key, 0) for key in KEYS], ACCEPTED)
    return path


def raw(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def test_what_is_committed_outlives_a_power_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_it_is = importlib.util.spec_from_file_location("as_it_is", sqlite.__file__)
    module = importlib.util.module_from_spec(as_it_is)
    monkeypatch.setitem(sys.modules, "as_it_is", module)
    as_it_is.loader.exec_module(module)
    monkeypatch.setattr(sqlite, "SYNCHRONOUS", module.SYNCHRONOUS)  # the tests' own processes wait for no disk
    with Review(path) as review:
        assert review.db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        assert review.db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_only_its_owner_may_read_it(path: Path) -> None:
    start(path)
    for one in (path, *sqlite.backups(path)):
        assert one.stat().st_mode & 0o777 == 0o600


def test_a_backup_is_made_at_each_start_and_ten_stay(path: Path) -> None:
    start(path)
    own = path.parent / "backups" / "review_2020.sqlite3"
    own.touch()
    for _ in range(11):
        start(path)
    found = sqlite.backups(path)
    assert len(found) == 10 and len(list((path.parent / "backups").iterdir())) == 11 and own.exists()
    assert len(decisions(found[-1])) == 28
    found[-1].replace(path)
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    start(path)
    with Review(path) as review:
        assert len(review.accepted()) == 28 and review.undo().changed


def test_a_backup_in_the_making_is_nobodys_orphan(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(copy: sqlite3.Connection, remade: tuple[str, ...]) -> None:
        fill(copy, remade)
        monkeypatch.setattr("tagcheck.files.SETTLED_SECONDS", 0)
        DataFolder(path.parent).sweep()  # as another script does when it starts

    fill = sqlite._copy
    monkeypatch.setattr(sqlite, "_copy", slowly)
    start(path)
    assert len(decisions(sqlite.backups(path)[-1])) == 28


def test_a_backup_is_made_before_a_migration(path: Path) -> None:
    raw(path, "UPDATE review_meta SET value = '3' WHERE key = 'schema'")
    with Review(path) as review:
        assert int(review.meta("schema")) > 3
    assert len(sqlite.backups(path)) == 1


@pytest.mark.parametrize(
    "loss",
    [
        "DELETE FROM decisions WHERE tag > 'tag 19'",
        "UPDATE decisions SET state = 'ignored' WHERE tag = 'tag 7'",
        "UPDATE decisions SET tag = 'other' WHERE tag = 'tag 7'",
    ],
)
def test_decisions_that_were_lost_or_changed_in_silence_are_noticed(path: Path, loss: str) -> None:
    start(path)
    raw(path, loss)
    for use in (lambda: start(path), lambda: decisions(path)):
        with pytest.raises(BadFile, match="'decisions'.*put the newest backup, .*backups.review_.*, in its place"):
            use()


def test_what_the_program_itself_does_is_counted(path: Path) -> None:
    with Review(path) as review:
        review.decide([Ask(key) for key in KEYS[:9]], IGNORED)
        review.undo()
        review.redo()
        review.note_outcomes([(KEYS[20], "applied", "", 1)])
    start(path)
    assert sorted(decisions(path).values()).count(IGNORED) == 9


def test_a_corrupted_page_is_one_line_or_does_no_harm(path: Path) -> None:
    """Bytes of the file are changed at random: what can still be read is all there, or one error names file and way out."""
    start(path)
    raw(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    whole, chance = path.read_bytes(), random.Random(5)
    expected, refused = decisions(path), 0
    for _ in range(60):
        damaged = bytearray(whole)
        place = chance.randrange(len(whole) - 64)
        damaged[place : place + 16] = chance.randbytes(16)
        path.write_bytes(damaged)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        try:
            start(path)
            assert decisions(path) == expected
        except ToolError as error:
            refused += 1
            assert "review.sqlite3" in str(error) and "\n" not in str(error)
    assert refused


@pytest.mark.parametrize("read", [lambda cursor: cursor.fetchall(), list], ids=["at once", "row by row"])
def test_a_file_whose_rows_cannot_be_read_is_let_go_while_the_error_is_known(path: Path, read) -> None:
    db = sqlite.connect(path, MIGRATIONS)
    with pytest.raises(BadFile) as caught:
        read(db.execute("SELECT tag FROM decisions UNION ALL SELECT CAST(x'ff' AS TEXT)"))
    db.close()
    if Path("/proc/self/fd").exists():
        opened = [os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()]
        assert not [one for one in opened if one.startswith(str(path.resolve()))]
    path.rename(path.with_name("aside"))  # which Windows refuses where it is open
    assert caught.value.__traceback__


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE decisions (id)"],
        ["CREATE TABLE review_meta (key, value)", "INSERT INTO review_meta VALUES ('schema', 'new')"],
        ["CREATE TABLE review_meta (key, value)", "INSERT INTO review_meta VALUES ('schema', '4')"],
        ["CREATE TABLE review_meta (other)"],
    ],
)
def test_a_foreign_schema_is_one_line(tmp_path: Path, statements: list[str]) -> None:
    path = tmp_path / "review.sqlite3"
    raw(path, *statements)
    with pytest.raises(BadFile, match="review.sqlite3 has not the tables of this program"):
        Review(path)


def test_a_newer_schema_asks_for_a_newer_program(path: Path) -> None:
    raw(path, "UPDATE review_meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(BadFile, match="schema 99 of review, this program reads up to .*: update the program"):
        Review(path)


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
def test_decisions_are_read_without_a_right_to_write(path: Path) -> None:
    """Also where a write-ahead log is left in the folder, as after a kill."""
    kept = sqlite3.connect(path, isolation_level=None)  # keeps the log from being folded in
    kept.execute("SELECT 1 FROM sqlite_master").fetchone()
    with Review(path) as review:
        review.decide([Ask(KEYS[3])], IGNORED)
    for ending in ("", "-wal"):
        path.with_name(path.name + ending).chmod(0o444)
    kept_log = path.with_name(path.name + "-wal").read_bytes()
    assert kept_log
    path.with_name(path.name + "-shm").unlink()
    closed = [folder for folder in path.parents if not folder.stat().st_mode & 0o001]  # pytest's own, for root alone
    for folder in {path.parent, *closed}:
        folder.chmod(0o555)
    program = f"""
import os, random, sys
from pathlib import Path
from tagcheck.errors import ToolError
from tagcheck.review.store import decisions, Review
if getattr(os, "geteuid", lambda: 1)() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
path = Path({str(path)!r})
assert not os.access(path.parent, os.W_OK)
found = decisions(path)
print(len(found), sorted(found.values()).count("ignored"))
try:
    Review(path)
except ToolError as error:
    print(error)
"""
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT, timeout=60)
    finally:
        for folder in {path.parent, *closed}:
            folder.chmod(0o700)
        kept.close()
    assert not done.stderr
    first, second = done.stdout.splitlines()
    assert first == "28 1"
    assert "review.sqlite3 cannot be used (" in second and "write-protected" in second


def test_two_parts_of_one_file_have_versions_and_guards_of_their_own(path: Path) -> None:
    ledger = Ledger(path)
    ledger.open_batch("folder", None, "", [])
    start(path)
    raw(path, "DELETE FROM ledger_batches")
    with pytest.raises(BadFile, match="'ledger_batches'"):
        start(path)
