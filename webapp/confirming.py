"""Reading written changes again until the library surely has them: after a minute, and all of them when the page starts."""

import logging
import threading

from tagcheck.errors import ToolError
from tagcheck.plural import plural
from tagcheck.review import Review
from tagcheck.writing import Confirmed
from tagcheck.writing import apply as applying
from tagcheck.writing.ledger import WRITTEN, outcomes
from webapp import state

log = logging.getLogger(__name__)
PAUSE = applying.CERTAIN_AFTER + 1.0  # seconds until what was written is read again
LOCK_SECONDS = 0.5  # that another run may hold the ledger; the next look comes anyway


def wake(shared: state.Shared) -> None:
    """Have what is not confirmed yet read again in a minute, if there is any and nobody waits for it already."""
    if shared.confirming is None and shared.ledger.rows(status=WRITTEN):
        shared.confirming = threading.Timer(PAUSE, _again, [shared])
        shared.confirming.daemon = True
        shared.confirming.start()


def begin(shared: state.Shared) -> None:
    """Read everything again, beside the requests: the library may have been restored from an older copy since."""
    threading.Thread(target=look, args=(shared, True), name="confirming", daemon=True).start()


def look(shared: state.Shared, everything: bool = False) -> Confirmed | None:
    """Read again now, and note what came of it; None where the library, or the ledger, is not available."""
    try:
        found = applying.confirm(shared.ledger, shared.library(), everything, LOCK_SECONDS)
        with Review(shared.ledger.path) as store:
            store.note_outcomes(outcomes(found.rows))
    except ToolError as error:
        log.info("written changes could not be read again: %s", error)
        return None
    if found.lost:
        shared.lost = in_words(found)
    return found


def in_words(found: Confirmed) -> str:
    """What reading again has shown, in a line."""
    said = [f"{plural(found.kept, 'change')} confirmed"] if found.kept or not found.lost else []
    if found.written:
        said.append(f"{found.written:,} still being confirmed")
    if found.lost:
        lost = f"{plural(found.lost, 'change')} lost by the library"
        why = "it ended before it had saved, or an older copy of it was restored"
        way_out = "Nothing was written again: write them again, or reopen them, under Applied changes"
        said.append(f"{lost}: {why}. {way_out}")
    return ", ".join(said) + "."


def _again(shared: state.Shared) -> None:
    shared.confirming = None
    try:
        look(shared)
    finally:
        wake(shared)
