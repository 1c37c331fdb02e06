"""The table that says what happens to a row of the ledger, row by row."""

from __future__ import annotations

import itertools

import pytest

from tagcheck.library.protocol import ABSENT, CURRENT, DELETED, PARTLY, PENDING, PETITIONED, UNKNOWN, TagWrite
from tagcheck.writing.ledger import BACK, GO
from tagcheck.writing.steps import TABLE, Do, Phase, Stand, Step

ADD = Step(TagWrite("h", "t", "s", ABSENT, CURRENT), GO, ABSENT)
REMOVE = Step(TagWrite("h", "t", "s", CURRENT, DELETED), GO, CURRENT)
UNDO_ADD = Step(TagWrite("h", "t", "s", CURRENT, DELETED), BACK, ABSENT)  # as exactly as a local service can
UNDO_REMOVE = Step(TagWrite("h", "t", "s", DELETED, CURRENT), BACK, CURRENT)
PEND = Step(TagWrite("h", "t", "s", ABSENT, PENDING), GO, ABSENT)
WRITE, DONE, SKIP, REFUSE, LOST, THEIRS = Do.WRITE, Do.DONE, Do.SKIP, Do.REFUSE, Do.LOST, Do.THEIRS


@pytest.mark.parametrize(
    ("step", "now", "fresh", "begun", "sent", "written"),
    [
        (ADD, ABSENT, WRITE, WRITE, REFUSE, LOST),
        (ADD, CURRENT, SKIP, DONE, DONE, DONE),
        (ADD, DELETED, REFUSE, REFUSE, REFUSE, THEIRS),
        (ADD, PARTLY, REFUSE, WRITE, REFUSE, LOST),
        (ADD, UNKNOWN, REFUSE, REFUSE, REFUSE, REFUSE),
        (REMOVE, CURRENT, WRITE, WRITE, REFUSE, LOST),
        (REMOVE, DELETED, SKIP, DONE, DONE, DONE),
        (REMOVE, ABSENT, REFUSE, REFUSE, REFUSE, THEIRS),
        (UNDO_ADD, CURRENT, WRITE, WRITE, REFUSE, LOST),
        (UNDO_ADD, DELETED, DONE, DONE, DONE, DONE),
        (UNDO_ADD, ABSENT, DONE, DONE, DONE, DONE),
        (UNDO_ADD, PENDING, REFUSE, REFUSE, REFUSE, THEIRS),
        (UNDO_ADD, UNKNOWN, REFUSE, REFUSE, REFUSE, REFUSE),
        (UNDO_REMOVE, DELETED, WRITE, WRITE, REFUSE, LOST),
        (UNDO_REMOVE, CURRENT, DONE, DONE, DONE, DONE),
        (UNDO_REMOVE, ABSENT, REFUSE, REFUSE, REFUSE, THEIRS),
        (UNDO_REMOVE, PARTLY, REFUSE, WRITE, REFUSE, LOST),
        (PEND, PENDING, SKIP, DONE, DONE, DONE),
        (PEND, CURRENT, REFUSE, REFUSE, REFUSE, THEIRS),
        (PEND, PETITIONED, REFUSE, REFUSE, REFUSE, THEIRS),
    ],
)
def test_a_row_of_the_table(step, now, fresh, begun, sent, written):
    assert [step.do(phase, now) for phase in (Phase.FRESH, Phase.BEGUN, Phase.SENT, Phase.WRITTEN)] == [
        fresh,
        begun,
        sent,
        written,
    ]


def test_the_table_has_an_answer_to_everything():
    assert {(phase, goal, stand) for (phase, goal), row in TABLE.items() for stand in row} == set(
        itertools.product(Phase, (GO, BACK), Stand)
    )


def test_nothing_is_written_but_from_the_state_that_the_step_was_planned_from():
    """PARTLY is the rest of a write that a run has begun."""
    may = {(phase, stand) for (phase, _), row in TABLE.items() for stand, do in row.items() if do is Do.WRITE}
    assert may == {(Phase.FRESH, Stand.BEFORE), (Phase.BEGUN, Stand.BEFORE), (Phase.BEGUN, Stand.PARTLY)}
