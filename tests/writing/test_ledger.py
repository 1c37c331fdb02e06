"""The ledger: what is noted down stays, whoever else uses the file and whatever happens to the process."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import warm

from tagcheck.changes import TagChange
from tagcheck.data_folder import isoformat
from tagcheck.errors import BadFile, ToolError, UsageError
from tagcheck.library.protocol import ABSENT, CURRENT, NoWrite, TagWrite
from tagcheck.writing.ledger import APPLIED, FAILED, OPEN, SETTLED, UNDONE, Ledger, LedgerRow

PROJECT = Path(__file__).resolve().parents[2]
ADD = TagChange("a" * 64, "hat", "add")
REMOVE = TagChange("b" * 64, "solo", "remove")


def latest(ledger: Ledger, hash: str, tag: str) -> LedgerRow | None:
    return next((row for row in reversed(ledger.rows()) if (row.hash, row.tag) == (hash, tag)), None)


def write_of(change: TagChange, service: str = "s") -> TagWrite:
    before, after = (ABSENT, CURRENT) if change.action == "add" else (CURRENT, ABSENT)
    return TagWrite(change.hash, change.tag, service, before, after, change)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "review.sqlite3")


def test_a_ledger_that_was_never_written_is_empty_and_makes_no_file(ledger):
    assert (ledger.batches(), ledger.rows(), latest(ledger, "a" * 64, "hat")) == ([], [], None)
    assert not ledger.path.exists()


def test_a_batch_is_noted_down_with_every_step_and_its_reason(ledger):
    refused = NoWrite(TagChange("c" * 64, "x", "add"), "write-protected", settled=False)
    settled = NoWrite(TagChange("c" * 64, "y", "add"), "has the tag already", settled=True)
    batch = ledger.open_batch("folder /p", None, "tidy", [write_of(ADD), REMOVE, refused, settled])
    rows = ledger.rows(batch)
    assert [(row.tag, row.action, row.stored_tag, row.before, row.after, row.status, row.reason) for row in rows] == [
        ("hat", "add", "hat", ABSENT, CURRENT, OPEN, ""),
        ("solo", "remove", None, None, None, OPEN, ""),
        ("x", "add", None, None, None, FAILED, "write-protected"),
        ("y", "add", None, None, None, SETTLED, "has the tag already"),
    ]
    assert rows[0].write == write_of(ADD) and rows[0].write.change == ADD and rows[1].write is None
    (one,) = ledger.batches()
    assert (one.id, one.library, one.service, one.reason, one.counts) == (
        batch,
        "folder /p",
        None,
        "tidy",
        {OPEN: 2, FAILED: 1, SETTLED: 1},
    )
    assert one.created.endswith("Z") and rows[0].created == one.created


def test_rows_are_found_by_batch_status_and_id(ledger):
    first = ledger.open_batch("l", None, "", [write_of(ADD), write_of(REMOVE)])
    second = ledger.open_batch("l", None, "", [write_of(ADD)])
    ledger.mark([replace(ledger.rows(first)[0], status=APPLIED)])
    assert [row.id for row in ledger.rows()] == [1, 2, 3]
    assert [row.id for row in ledger.rows(second)] == [3]
    assert [row.id for row in ledger.rows(status=OPEN)] == [2, 3]
    assert [row.id for row in ledger.rows(first, APPLIED)] == [1]
    assert [row.id for row in ledger.pick([3, 1])] == [3, 1] and ledger.pick([]) == []
    assert [batch.id for batch in ledger.batches()] == [2, 1]
    with pytest.raises(UsageError, match="no row 9"):
        ledger.pick([1, 9])
    with pytest.raises(UsageError, match="no batch 9"):
        ledger.library_of(9)


def test_picking_more_rows_than_one_statement_takes(ledger):
    ledger.open_batch("l", None, "", [write_of(ADD, str(number)) for number in range(1234)])
    assert [row.service for row in ledger.pick(list(range(1, 1235)))] == [str(number) for number in range(1234)]


def test_a_dataset_knows_nothing_of_what_was_written_or_taken_back_after_it(ledger, monkeypatch):
    def at(minute: int) -> datetime:
        return datetime(2026, 11, 27, 8, minute, tzinfo=UTC)

    monkeypatch.setattr("tagcheck.writing.ledger.utc_now", lambda: at(1))
    ledger.open_batch("l", None, "", [write_of(ADD), write_of(REMOVE)])
    ledger.mark([replace(row, status=APPLIED) for row in ledger.rows()])
    monkeypatch.setattr("tagcheck.writing.ledger.utc_now", lambda: at(3))
    ledger.mark([replace(ledger.rows()[0], status=UNDONE, goal="undo")])
    assert [ledger.not_known(isoformat(at(minute))) for minute in (0, 2, 4)] == [1, 1, 0]


def test_marks_change_only_what_is_marked(ledger):
    batch = ledger.open_batch("l", None, "", [write_of(ADD), write_of(REMOVE)])
    first, _second = ledger.rows(batch)
    ledger.mark([replace(first, status=UNDONE, goal="undo", reason="why")])
    assert [(row.status, row.goal, row.reason) for row in ledger.rows(batch)] == [
        (UNDONE, "undo", "why"),
        (OPEN, "apply", ""),
    ]


def test_the_latest_row_of_a_tag_is_of_the_newest_batch_and_what_needs_attention_first(ledger):
    ledger.open_batch("l", None, "", [write_of(ADD, "one"), write_of(ADD, "two")])
    one, two = ledger.rows()
    ledger.mark([replace(one, status=APPLIED), replace(two, status=FAILED, reason="no")])
    assert latest(ledger, *ADD_KEY).status == FAILED
    ledger.mark([replace(two, status=APPLIED)])
    assert latest(ledger, *ADD_KEY).status == APPLIED
    ledger.open_batch("l", None, "", [ADD])
    assert (latest(ledger, *ADD_KEY).status, latest(ledger, *ADD_KEY).batch) == (OPEN, 2)
    assert latest(ledger, "a" * 64, "other") is None


ADD_KEY = (ADD.hash, ADD.tag)


def test_a_waiting_change_is_replaced_by_what_it_takes_in_one_step(ledger):
    batch = ledger.open_batch("l", None, "", [ADD, REMOVE])
    waiting = ledger.rows(batch)[0]
    ledger.plan_row(waiting, [write_of(ADD, "one"), write_of(ADD, "two")])
    assert [(row.tag, row.service, row.status, row.created) for row in ledger.rows(batch)] == [
        ("solo", None, OPEN, waiting.created),
        ("hat", "one", OPEN, waiting.created),
        ("hat", "two", OPEN, waiting.created),
    ]


def test_row_numbers_are_never_given_twice(ledger):
    """An undo by row number must not meet another change that took the number of a replaced one."""
    ledger.open_batch("l", None, "", [ADD])
    ledger.plan_row(ledger.rows()[0], [write_of(ADD)])
    assert [row.id for row in ledger.rows()] == [2]


def test_it_shares_the_file_with_the_pages_own_tables(ledger):
    with sqlite3.connect(ledger.path) as db:
        db.execute("CREATE TABLE decisions (id)")
        db.execute("INSERT INTO decisions VALUES (7)")
    db.close()
    ledger.open_batch("l", None, "", [write_of(ADD)])
    db = sqlite3.connect(ledger.path)
    tables = {
        name
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if not name.startswith("sqlite_")
    }
    assert tables == {"decisions", "guards", "ledger_meta", "ledger_batches", "ledger_rows"}
    assert db.execute("SELECT * FROM decisions").fetchall() == [(7,)] and db.execute(
        "PRAGMA journal_mode"
    ).fetchone() == ("wal",)
    db.close()


def test_a_file_that_is_no_database_is_named_and_left_alone(ledger):
    ledger.path.write_bytes(b"not a database, but something that its owner may want back" * 20)
    before = ledger.path.read_bytes()
    for use in (ledger.batches, lambda: ledger.open_batch("l", None, "", [ADD])):
        with pytest.raises(BadFile, match="review.sqlite3 is not a whole database"):
            use()
    assert ledger.path.read_bytes() == before


def test_a_ledger_of_a_newer_program_is_not_written(ledger):
    ledger.open_batch("l", None, "", [ADD])
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE ledger_meta SET value = '3'")
    db.close()
    with pytest.raises(BadFile, match="version 3 of ledger, this program reads up to 2: update the program"):
        ledger.open_batch("l", None, "", [ADD])
    assert len(ledger.batches()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no Linux")
def test_no_room_for_the_ledger_is_said_and_notes_nothing_down(ledger):
    program = f"""
import resource, signal
from pathlib import Path
from tagcheck.errors import ToolError
from tagcheck.writing.ledger import Ledger
from tagcheck.library.protocol import TagChange
ledger = Ledger(Path({str(ledger.path)!r}))
ledger.open_batch("l", None, "", [TagChange("a" * 64, "hat", "add")])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    ledger.open_batch("l", None, "", [TagChange("a" * 64, "x" * 100 + str(number), "add") for number in range(5000)])
except ToolError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT, timeout=60)
    assert "review.sqlite3 cannot be used (" in done.stdout and "is the disk full" in done.stdout, done.stderr
    assert len(ledger.rows()) == 1 and len(ledger.batches()) == 1


def test_one_at_a_time_holds_the_ledger_and_a_killed_holder_lets_go(ledger):
    ledger.path.parent.mkdir(exist_ok=True)
    program = f"""
import time
from pathlib import Path
from tagcheck.writing.ledger import Ledger
with Ledger(Path({str(ledger.path)!r})).exclusive():
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=f"another run .process {holder.pid}"), ledger.exclusive(seconds=0.2):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    start = time.monotonic()
    with ledger.exclusive(seconds=10):
        assert time.monotonic() - start < 5


def test_two_processes_that_note_down_at_once_lose_nothing(ledger):
    program = f"""
from pathlib import Path
from tagcheck.writing.ledger import Ledger
from tagcheck.library.protocol import TagChange
for number in range(20):
    Ledger(Path({str(ledger.path)!r})).open_batch("l", None, "", [TagChange("a" * 64, str(number), "add")] * 3)
"""
    running = [subprocess.Popen([warm.python(), "-c", program], cwd=PROJECT) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    assert [batch.counts for batch in ledger.batches()] == [{OPEN: 3}] * 40


def test_an_error_in_a_transaction_takes_all_of_it_back(ledger):
    batch = ledger.open_batch("l", None, "", [write_of(ADD), write_of(REMOVE)])

    def broken():
        yield replace(ledger.rows(batch)[0], status=APPLIED)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.mark(broken())
    assert {row.status for row in ledger.rows(batch)} == {OPEN}


def test_a_folder_in_the_ledgers_place_is_said(tmp_path):
    (tmp_path / "review.sqlite3").mkdir()
    with pytest.raises(ToolError, match="cannot be used"):
        Ledger(tmp_path / "review.sqlite3").batches()


def test_a_ledger_of_the_version_before_is_taken_over(ledger):
    ledger.open_batch("l", None, "", [ADD])
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE ledger_meta SET value = '1'")
    db.close()
    assert [row.status for row in ledger.rows()] == [OPEN]
    ledger.open_batch("l", None, "", [ADD])
    with sqlite3.connect(ledger.path) as db:
        assert db.execute("SELECT value FROM ledger_meta").fetchone() == ("2",)
    db.close()
