"""Carrying accepted changes into the library, and taking them back, so that a crash at any point loses nothing.

The exact writes are noted down before the library is touched; then, in chunks, the states are read, what still holds is
written, and the states are read again. docs/decisions/ledger.md has the order of steps and why it loses nothing; what to
do with a row is one table, `tagcheck.writing.steps`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from tagcheck.changes import TagChange, put_back
from tagcheck.data_folder import isoformat, utc_now
from tagcheck.errors import LibraryError, LibraryRefused, LibraryUnreachable, ToolError, UsageError, WritesRefused
from tagcheck.library import Library, NoWrite, TagWrite
from tagcheck.library.protocol import CURRENT, PENDING, UNKNOWN
from tagcheck.writing.ledger import APPLIED, BACK, FAILED, GO, OPEN, SETTLED, UNDONE, WRITTEN, Ledger, LedgerRow
from tagcheck.writing.steps import Do, Phase, Step

CHUNK = 256
CERTAIN_AFTER = 60.0  # seconds after which Hydrus, which saves every 30, has saved what it was told
WITHDRAWN = "withdrawn before it was written"
UNCERTAIN = {GO: "written, being confirmed", BACK: "taken back, being confirmed"}
LOST = "the library has lost this (it ended before it had saved, or an older copy of it was restored)"
THEIRS = "changed in the library since"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Preview:
    """The exact difference that applying would make now: `writes`, and the changes that need or get none."""

    writes: list[TagWrite]
    no_writes: list[NoWrite]


@dataclass(frozen=True)
class BatchResult:
    """What became of a batch, by number of rows.

    `applied` carried out, read back and kept for good (for an undo: taken back); `written` the same, but for that the
    library may not have saved them yet; `failed` not, `rows` say why (for an undo: left as they are); `settled`
    needed nothing; `open` wait for a library that is away, and `waiting` says for what. `batch` is None for
    an undo over several batches.
    """

    batch: int | None
    applied: int
    failed: int
    settled: int
    rows: list[LedgerRow]
    open: int = 0
    waiting: str = ""
    written: int = 0


@dataclass(frozen=True)
class Confirmed:
    """What reading again said of rows: `kept` are the library's for good, `lost` it does not have any more (their
    owner is asked), `written` are not certain yet; `rows` are those that changed.
    """

    kept: int
    lost: int
    written: int
    rows: list[LedgerRow]


def preview(library: Library, changes: Sequence[TagChange], service: str | None = None) -> Preview:
    """What `apply` would write, exactly; nothing is written. Raises what `apply` raises, and `LibraryUnreachable`."""
    steps = _planned(library, _distinct(changes), service)
    writes = [one for one in steps if isinstance(one, TagWrite)]
    return Preview(writes, [one for one in steps if isinstance(one, NoWrite)])


def apply(
    ledger: Ledger,
    library: Library,
    changes: Sequence[TagChange],
    service: str | None = None,
    reason: str = "",
    progress: Progress | None = None,
) -> BatchResult:
    """Carry out `changes` as one batch. A library that is away leaves its rows open, for `recover` to carry out.

    `reason` goes with petitions to a repository; `progress(done, total)` counts rows. Raises
    `UsageError` when one tag of one picture is to be added and removed, and what `Library.plan`
    raises other than `LibraryUnreachable`: nothing is noted down then.
    """
    changes = _distinct(changes)
    with ledger.exclusive():
        _recover(ledger, library)
        waiting = ""
        steps: Sequence[TagChange | TagWrite | NoWrite]
        try:
            steps = _planned(library, changes, service)
        except LibraryUnreachable as error:
            steps, waiting = changes, str(error)
        batch = ledger.open_batch(identity(library), service, reason, steps)
        if not waiting:
            rows = ledger.rows(batch, OPEN)
            waiting = _carry_out(ledger, library, rows, reason, progress, untouched={row.id for row in rows})
        return _result(batch, ledger.rows(batch), waiting)


def undo(
    ledger: Ledger,
    library: Library,
    batch: int | None = None,
    rows: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> BatchResult:
    """Take back a batch, or single rows by id, to the states before.

    A row whose tag is no longer as it was left (its owner changed it since) stays applied and says
    so in its reason; one that was taken back as far as the library can says what that left. What waits and was never written is withdrawn. Rows that failed, needed
    nothing or were taken back already are passed over. Raises `UsageError` for a batch or row that
    is not there, `LibraryRefused` when it was written to another library.
    """
    if (batch is None) == (rows is None):
        raise UsageError("an undo takes a batch or a list of rows")
    with ledger.exclusive():
        chosen = ledger.rows(batch) if batch is not None else ledger.pick(list(dict.fromkeys(rows or ())))
        batches = sorted({row.batch for row in chosen} | ({batch} if batch is not None else set()))
        for number, written in ((number, ledger.library_of(number)) for number in batches):
            # The same library, or a folder that was moved: every row still has to find its picture, with the tag as it was left.
            kind, _, path = written.partition(" ")
            if written != identity(library) and not (kind == "folder" == library.kind and not Path(path).is_dir()):
                raise LibraryRefused(f"batch {number} was written to {written}, this is {identity(library)}")
        # Last in, first out, so that a picture goes back through the states it came through.
        chosen = sorted(filter(can_undo, chosen), key=lambda row: -row.id)
        going = [
            replace(row, status=OPEN if row.write else UNDONE, goal=BACK, reason="" if row.write else WITHDRAWN)
            for row in chosen
        ]
        ledger.mark(going)
        untouched = {row.id for row in chosen if row.status != OPEN}
        waiting = _carry_out(ledger, library, [row for row in going if row.write], "", progress, untouched)
        return _result(batches[0] if len(batches) == 1 else None, ledger.pick([row.id for row in chosen]), waiting)


def can_undo(row: LedgerRow) -> bool:
    """Whether a row can be taken back: it is written or may be, and is not being taken back already."""
    return row.status in (APPLIED, WRITTEN, OPEN) and (row.status, row.goal) != (WRITTEN, BACK)


def leftovers(library: Library, writes: Iterable[TagWrite]) -> list[str]:
    """What taking these writes back would leave behind, each sentence once; nothing where all becomes as it was."""
    return list(dict.fromkeys(filter(None, map(library.undo_leaves, writes))))


def recover(ledger: Ledger, library: Library) -> list[BatchResult]:
    """Finish what a crash or an absent library left open in this library; a result a batch, of these rows."""
    with ledger.exclusive():
        return _recover(ledger, library)


def confirm(ledger: Ledger, library: Library, everything: bool = False, seconds: float = Ledger.PATIENCE) -> Confirmed:
    """Read again what was written and is not certain yet; with `everything` also what was applied or undone before,
    since a library may have been restored from an older copy.

    What was written `CERTAIN_AFTER` seconds ago and is there still is kept for good; where the clock was set back since, these
    seconds begin anew. What reads as before its write was lost: it is not written again, but marked, for its owner to decide. Reading holds nobody up: the ledger is held only
    while a chunk is marked, and a row that was written meanwhile is passed over. Raises `LibraryError` where the library
    cannot be asked, `UsageError` where another process holds the ledger for `seconds`; what was marked before is returned.
    """
    whose, statuses = identity(library), (WRITTEN, APPLIED, UNDONE) if everything else (WRITTEN,)
    now, certain = (isoformat(utc_now() - timedelta(seconds=seconds)) for seconds in (0, CERTAIN_AFTER))
    # The write behind such a row found its tag as the row had left it.
    over = [replace(row, status=APPLIED if row.goal == GO else UNDONE, reason="") for row in ledger.overtaken(whose)]
    if over:
        with ledger.exclusive(seconds):
            ledger.mark(over)
    kept, seen, last, marked = 0, 0, 0, [row.id for row in over]
    while rows := ledger.last_words(whose, statuses, last, CHUNK):
        try:
            read = dict(_read(library, rows))
            with ledger.exclusive(seconds):
                same = [row for row in ledger.last_words(whose, statuses, last, CHUNK) if row in read]
                after = [_judged(library, row, read[row], row.changed <= certain) for row in same]
                # The clock was set back since such a row was written.
                ahead = {row.id for row in same if row.status == WRITTEN and row.changed > now}
                after = _by_hand(library, same, after)
                changed = [new for new, row in zip(after, same, strict=True) if new != row or row.id in ahead]
                ledger.mark(changed)
        except (LibraryError, UsageError):
            if not marked:
                raise
            break
        marked += [row.id for row in changed]
        kept += sum(new.status in (APPLIED, UNDONE) and not new.reason.startswith(LOST) for new in after)
        seen, last = seen + len(same), rows[-1].id
    found = ledger.pick(marked)
    lost = sum(row.reason.startswith(LOST) for row in found)
    return Confirmed(kept, lost, seen - kept - lost, found)


def _read(library: Library, rows: list[LedgerRow]) -> Iterator[tuple[LedgerRow, str]]:
    places = [(write.hash, write.tag, write.service) for write in (_step(library, row).write for row in rows)]
    return zip(rows, library.states(places), strict=True)


def _judged(library: Library, row: LedgerRow, now: str, old_enough: bool) -> LedgerRow:
    """A row that was read again, as it is to be marked."""
    step = _step(library, row)
    do = step.do(Phase.WRITTEN, now)
    if do is Do.LOST and row.status != WRITTEN and not library.lost(step.write):
        do = Do.THEIRS
    if do is Do.LOST:
        if row.goal == BACK:
            return replace(row, status=APPLIED, goal=GO, reason=f"{LOST}: the tag is {now} again; take it back again")
        return replace(row, status=FAILED, reason=f"{LOST}: the tag is {now} again; write it again, or reopen it")
    if row.status != WRITTEN:
        return row
    if do is Do.REFUSE:
        return _refused(row, _in_words(now))
    if not old_enough:
        return row
    reached = _reached(library, row, now)
    return reached if do is Do.DONE else replace(reached, reason=f"{THEIRS}: {now}")


def _by_hand(library: Library, rows: Sequence[LedgerRow], after: Sequence[LedgerRow]) -> list[LedgerRow]:
    """`rows` as they are to be marked `after` they were read again: an applied one that reads as before stays so where few of its batch
    do, since its owner took it back then (`tagcheck.review.taken_back`). In Hydrus they leave a record where they take a tag off.
    """
    pairs = list(zip(rows, after, strict=True))
    gone = {old for old, new in pairs if (old.status, new.status) == (APPLIED, FAILED)}
    of, lost = Counter(row.batch for row in rows), Counter(row.batch for row in gone)
    kept = {row for row in gone if not put_back(lost[row.batch], of[row.batch])}
    kept -= {row for row in kept if library.kind == "hydrus" and row.action == "add"}
    return [old if old in kept else new for old, new in pairs]


def identity(library: Library) -> str:
    """What a batch belongs to: "hydrus", or "folder" and its path. Asks nobody, so that it is known of a library that is away."""
    return library.kind if library.kind != "folder" else f"folder {library.describe()['path']}"


def _distinct(changes: Sequence[TagChange]) -> list[TagChange]:
    distinct = list(dict.fromkeys(changes))
    actions: dict[tuple[str, str], str] = {}
    for change in distinct:
        if change.action not in ("add", "remove"):
            raise UsageError(f"{change.action!r} is not a change: it is 'add' or 'remove'")
        if actions.setdefault((change.hash, change.tag), change.action) != change.action:
            both = f"{change.tag!r} is to be added to {change.hash[:16]}... and removed from it"
            raise UsageError(f"{both}: decide for one of them")
    return distinct


def _planned(library: Library, changes: Sequence[TagChange], service: str | None) -> list[TagWrite | NoWrite]:
    """The library's plan, each step with its change, and at least one step for each change."""
    steps = [
        replace(step, change=TagChange(step.hash, step.tag, "add" if step.after in (CURRENT, PENDING) else "remove"))
        if isinstance(step, TagWrite) and step.change is None
        else step
        for step in library.plan(changes, service)
    ]
    answered = {step.change for step in steps}
    silent = "the library has no answer to it"
    return steps + [NoWrite(change, silent, settled=False) for change in changes if change not in answered]


def _recover(ledger: Ledger, library: Library) -> list[BatchResult]:
    results = []
    for batch in reversed(ledger.batches()):
        if OPEN not in batch.counts or batch.library != identity(library):
            continue
        finished = {row.id for row in ledger.rows(batch.id) if row.status != OPEN}
        waiting = _plan_waiting(ledger, library, ledger.rows(batch.id, OPEN), batch.service)
        planned = [row for row in ledger.rows(batch.id, OPEN) if row.write]
        waiting = _carry_out(ledger, library, planned, batch.reason, None, untouched=set()) or waiting
        results.append(_result(batch.id, [row for row in ledger.rows(batch.id) if row.id not in finished], waiting))
    return results


def _plan_waiting(ledger: Ledger, library: Library, rows: Sequence[LedgerRow], service: str | None) -> str:
    """Plan the rows that were noted down while the library was away. Returns why that cannot be done yet, or ""."""
    waiting = [row for row in rows if row.write is None]
    if not waiting:
        return ""
    try:
        steps = _planned(library, [row.change for row in waiting], service)
    except (
        ToolError
    ) as error:  # away still, a wrong key, a service that is gone: the owner fixes it or withdraws the batch
        return str(error)
    for row in waiting:
        ledger.plan_row(row, [step for step in steps if step.change == row.change])
    return ""


def _carry_out(
    ledger: Ledger,
    library: Library,
    rows: Sequence[LedgerRow],
    reason: str,
    progress: Progress | None,
    untouched: Collection[int],
) -> str:
    """Bring open rows to their goal, in chunks; why some wait, or "". `untouched`: ids of rows not begun yet."""
    done = 0
    for chunk in _chunks(rows):
        try:
            _carry_chunk(ledger, library, chunk, reason, untouched)
        except LibraryError as error:
            return str(error)
        done += len(chunk)
        if progress:
            progress(done, len(rows))
    return ""


def _chunks(rows: Sequence[LedgerRow]) -> Iterator[list[LedgerRow]]:
    """Rows in order, at most `CHUNK` at a time and no tag of a picture twice at a time."""
    chunk: list[LedgerRow] = []
    places: set[tuple[str, str | None]] = set()
    for row in rows:
        if len(chunk) == CHUNK or (row.hash, row.stored_tag) in places:
            yield chunk
            chunk, places = [], set()
        chunk.append(row)
        places.add((row.hash, row.stored_tag))
    if chunk:
        yield chunk


def _carry_chunk(
    ledger: Ledger, library: Library, rows: list[LedgerRow], reason: str, untouched: Collection[int]
) -> None:
    """Look, mark what needs no write, write, look again, mark the rest. A `LibraryError` leaves unmarked rows open."""
    begun: list[LedgerRow] = []
    ready: list[LedgerRow] = []
    decided = []
    for row, now in _read(library, rows):
        do = _step(library, row).do(Phase.FRESH if row.id in untouched else Phase.BEGUN, now)
        if do is Do.WRITE:
            ready.append(row)
        elif do is Do.DONE:
            begun.append(row)
        elif do is Do.SKIP:
            decided.append(replace(row, status=SETTLED, reason="it was so already"))
        else:
            was = f"it is {now} now, and was {_step(library, row).write.before} before"
            decided.append(_refused(row, _in_words(now) if now == UNKNOWN else was))
    if decided:
        ledger.mark(decided)
    if ready or begun:
        refusals = _sent(library, [_step(library, row).write for row in ready], reason)
        certain = library.commit()
        ledger.mark([_read_back(library, row, now, certain, refusals) for row, now in _read(library, begun + ready)])


def _sent(library: Library, writes: list[TagWrite], reason: str) -> dict[str, str]:
    """Send the writes. Returns why the library refused some, by picture, or all of them, by ""."""
    try:
        if writes:
            library.write(writes, reason)
    except WritesRefused as error:
        return error.reasons
    except LibraryRefused as error:
        return {"": str(error)}
    return {}


def _read_back(library: Library, row: LedgerRow, now: str, certain: bool, refusals: Mapping[str, str]) -> LedgerRow:
    """A row that was sent, or found as it is wanted, as the states that were read afterwards have it."""
    if _step(library, row).do(Phase.SENT, now) is Do.REFUSE:
        why = refusals.get(row.hash) or refusals.get("") or f"it was written, but {_in_words(now)}"
        return _refused(row, why)
    return _reached(library, row, now) if certain else replace(row, status=WRITTEN, reason=UNCERTAIN[row.goal])


def _step(library: Library, row: LedgerRow) -> Step:
    """The step that brings a planned row to its goal."""
    if row.write is None:
        raise ValueError(f"row {row.id} of the ledger is not planned yet")
    write = row.write if row.goal == GO else library.undo_of(row.write)
    return Step(write, row.goal, row.write.before)


def _reached(library: Library, row: LedgerRow, now: str) -> LedgerRow:
    if row.goal == GO:
        return replace(row, status=APPLIED, reason="")
    why = ""
    if row.write is not None and now != row.before:
        why = f"it is {now} now, and was {row.before} before: {library.undo_leaves(row.write)}"
    return replace(row, status=UNDONE, reason=why)


def _refused(row: LedgerRow, why: str) -> LedgerRow:
    if row.goal == GO:
        return replace(row, status=FAILED, reason=why)
    return replace(row, status=APPLIED, goal=GO, reason=f"not taken back: {why}")


def _in_words(state: str) -> str:
    gone = "the picture is not in the library (any more), or its tags cannot be read"
    return gone if state == UNKNOWN else f"it reads back as {state}"


def _result(batch: int | None, rows: list[LedgerRow], waiting: str) -> BatchResult:
    """Counts by whether a row reached its goal; one that was not taken back is applied still, and has a reason."""
    counts = Counter(row.status for row in rows)
    kept = sum(row.status == APPLIED and bool(row.reason) for row in rows)
    applied, failed = counts[APPLIED] - kept + counts[UNDONE], counts[FAILED] + kept
    return BatchResult(batch, applied, failed, counts[SETTLED], rows, counts[OPEN], waiting, counts[WRITTEN])
