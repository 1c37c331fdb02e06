"""What to do with one row of the ledger, by where its tag stands in the library: one table, for writing and taking back."""

from dataclasses import dataclass
from enum import Enum

from tagcheck.library.protocol import PARTLY, UNKNOWN, TagWrite
from tagcheck.writing.ledger import BACK, GO


class Stand(Enum):
    """Where a tag stands, seen from the step that its row wants."""

    AFTER = "as the step leaves it"
    ORIGIN = "as it was before the row was written, where the step is an undo that cannot lead there exactly"
    BEFORE = "as the step finds it"
    PARTLY = "some copies of the picture have it"
    UNKNOWN = "the picture is not there, or its tags cannot be read"
    OTHER = "in a state that neither the step nor the row knows"


class Phase(Enum):
    """What has happened to the row so far."""

    FRESH = "nobody has begun to carry it out"
    BEGUN = "a run that ended in its midst may have carried it out"
    SENT = "the write was sent just now"
    WRITTEN = "it was read back once, and the library may not keep it yet"


class Do(Enum):
    """What to do with the row."""

    WRITE = "carry the step out"
    DONE = "the step is taken"
    SKIP = "nothing was to be done"
    REFUSE = "leave the library as it is, and say why"
    LOST = "the library has lost it: ask its owner"
    THEIRS = "its owner has changed it since: theirs stays"


_SENT = dict.fromkeys(Stand, Do.REFUSE) | {Stand.AFTER: Do.DONE, Stand.ORIGIN: Do.DONE}
_START = _SENT | {Stand.BEFORE: Do.WRITE, Stand.PARTLY: Do.WRITE}
_WRITTEN = _SENT | {Stand.BEFORE: Do.LOST, Stand.PARTLY: Do.LOST, Stand.OTHER: Do.THEIRS}
_SAME_BOTH_WAYS = {Phase.BEGUN: _START, Phase.SENT: _SENT, Phase.WRITTEN: _WRITTEN}
TABLE: dict[tuple[Phase, str], dict[Stand, Do]] = {
    (Phase.FRESH, GO): _START | {Stand.AFTER: Do.SKIP, Stand.PARTLY: Do.REFUSE},
    (Phase.FRESH, BACK): _START | {Stand.PARTLY: Do.REFUSE},
    **{(phase, goal): row for phase, row in _SAME_BOTH_WAYS.items() for goal in (GO, BACK)},
}


@dataclass(frozen=True)
class Step:
    """The write that brings a row to its goal, and `origin`, the state before the row was ever written."""

    write: TagWrite
    goal: str
    origin: str

    def stand(self, now: str) -> Stand:
        """Where the tag stands when the library says `now`."""
        if now == self.write.after:
            return Stand.AFTER
        if self.goal == BACK and now == self.origin:
            return Stand.ORIGIN
        if now == self.write.before:
            return Stand.BEFORE
        return {PARTLY: Stand.PARTLY, UNKNOWN: Stand.UNKNOWN}.get(now, Stand.OTHER)

    def do(self, phase: Phase, now: str) -> Do:
        return TABLE[phase, self.goal][self.stand(now)]
