"""From accepted to written: the exact difference, one confirmation, progress, what failed, and the way back."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request
from werkzeug.wrappers import Response

from tagcheck.changes import TagChange
from tagcheck.errors import ToolError
from tagcheck.library import Library, TagService
from tagcheck.library.protocol import TagWrite
from tagcheck.plural import plural
from tagcheck.review import Ask, Key, Review, queries
from tagcheck.review.store import ACCEPTED, FAILED, OPEN
from tagcheck.review.taken_back import WHY
from tagcheck.writing import BatchResult, Confirmed, Ledger, LedgerRow, Preview, ledger
from tagcheck.writing import apply as applying
from tagcheck.writing.ledger import outcomes
from webapp import confirming, state
from webapp.answers import back, go, table, tell
from webapp.running import Job, jobs
from webapp.state import review, settings

ROWS = 200
MOMENT = 1.5  # seconds that a form waits for a quick job, so that it answers with the result
GONE = ("absent", "deleted", "petitioned")  # states of a tag that is not on its picture, or is to go
SIDECAR_WORDS = {"absent": "without it", "current": "with it"}  # a sidecar file knows no more than that
DIFFERENCE_COLUMNS = ("hash", "action", "tag", "service", "before", "after", "reason")
BATCH_COLUMNS = ("row", "hash", "action", "tag", "written", "service", "before", "after", "status", "reason")
Results = list[BatchResult | Confirmed]
STATUS_WORDS = {ledger.OPEN: "left open", ledger.WRITTEN: "written, being confirmed", ledger.SETTLED: "needed nothing"}
BACK_WORDS = {ledger.OPEN: "undo left open", ledger.WRITTEN: "taken back, being confirmed"}

blueprint = Blueprint("applying", __name__, url_prefix="/error-review")


@blueprint.get("/apply")
def preview() -> str:
    """What applying would write, exactly."""
    keys = review().accepted()
    try:
        library = state.shared().library()
        services, service, made = _previewed(library, keys)
        problem = "" if service else f"Nothing can be written: {library.why_no_service()}."
    except ToolError as error:
        problem = str(error)
    if problem:
        return render_template("apply.html", problem=problem, waiting=len(keys), made=None)
    names = {one.key: one.name for one in services}
    by = request.args.get("by", "tag")
    picture = by == "picture"
    writes = sorted(made.writes, key=lambda one: (one.hash * picture, one.tag, one.after, one.hash, one.service))
    return render_template(
        "apply.html",
        targets=_targets(made, names, service),
        by=by,
        sizes=Counter(one.hash if picture else one.tag for one in writes),
        row_value=_value,
        takes=Counter(map(_value, made.writes)),
        state_words=_state_words(service),
        waiting=len(keys),
        copies=review().copies(),
        made=made,
        services=services,
        service=service,
        names=names,
        **_shown(writes),
        digest=digest(made),
        gone=GONE,
        left_out=state.shared().left_out,
        last=next((one.id for one in state.shared().ledger.batches()), 0),
        leftovers=applying.leftovers(library, made.writes),
    )


@blueprint.get("/apply.<kind>")
def export_preview(kind: str) -> Response:
    """The exact difference as CSV or JSON, what cannot be written and what needs no write with the reason."""
    services, _, made = _previewed(state.shared().library(), review().accepted())
    names = {one.key: one.name for one in services}
    rows = []
    for one in made.writes:
        action, service = "remove" if one.after in GONE else "add", names.get(one.service, one.service)
        rows.append((one.hash, action, one.tag, service, one.before, one.after, ""))
    rows += [(one.change.hash, one.change.action, one.change.tag, "", "", "", one.reason) for one in made.no_writes]
    return table(kind, "difference", DIFFERENCE_COLUMNS, rows)


@blueprint.post("/apply")
def apply() -> Response:
    """Write what was confirmed, if it still is what was shown."""
    keys = review().accepted()
    if not keys:
        return go("applying.preview", "Nothing is accepted, so there is nothing to apply.")
    shared = state.shared()
    # A change may take several rows, a tag service each: one unticked row leaves all of it out.
    shared.left_out = set(Counter(request.form.getlist("shown")) - Counter(request.form.getlist("write")))
    library = shared.library()
    _, service, made = _previewed(library, keys)
    if service is None:
        abort(409, f"Nothing can be written: {library.why_no_service()}.")
    if digest(made) != request.form.get("digest"):
        other = "Since you looked, something else was decided or the library changed. Nothing was written: here is the difference as it is now"
        kept = "what you unticked is unticked still" if shared.left_out else "every row ticked"
        return go("applying.preview", f"{other}, {kept}.", service=service.key)
    going = [key for key in keys if _value(key) not in shared.left_out]
    wanted = changes(going)
    if not wanted:
        return go("applying.preview", "Every row is unticked, so nothing was written.", service=service.key)
    many = plural(len(keys) - len(going), "change")
    also = f"{many} left out: still accepted, and here again the next time." if len(going) < len(keys) else ""

    def work(job: Job) -> Results:
        with Review(shared.ledger.path) as store, store.held(going):
            done = applying.apply(shared.ledger, shared.writer(), wanted, service.key, progress=job.progress)
            shared.left_out = set()
            return _noted(shared, [done])

    return _start("apply", f"Writing {plural(len(wanted), 'change')} to {service.name}", work, also)


@blueprint.get("/applied")
def batches() -> str:
    state.shared().lost = ""
    return render_template("batches.html", batches=state.shared().ledger.batches())


@blueprint.get("/applied/<int:number>")
def batch(number: int) -> str:
    shared = state.shared()
    found = next((one for one in shared.ledger.batches() if one.id == number), None)
    if found is None:
        abort(404, f"There is no batch {number}.")
    rows = shared.ledger.rows(number)
    shared.lost = ""
    order, services, library = {ledger.FAILED: 0, ledger.OPEN: 1}, shared.services(), shared.there()
    gone = queries.taken_back(review())

    def stands(row: LedgerRow) -> str:
        taken = row.status == ledger.APPLIED and (row.hash, row.tag, row.action) in gone
        return WHY if taken else _standing(row)

    undoable = [row for row in rows if applying.can_undo(row) and stands(row) != WHY]
    rows.sort(key=lambda row: (order.get(row.status, 2), row.id))
    return render_template(
        "batch.html",
        batch=found,
        samples=queries.samples_behind(review(), number),
        **_shown(rows),
        services=services,
        state_words=_state_words(next(iter(services.values()), None)),
        can_undo=len(undoable),
        leftovers=applying.leftovers(library, [row.write for row in undoable if row.write]) if library else [],
        standings=Counter(map(stands, rows)),
        row_standing=stands,
        taken_back=WHY,
    )


@blueprint.get("/applied/<int:number>.<kind>")
def export_batch(number: int, kind: str) -> Response:
    """One batch as CSV or JSON: every change with the tag's state before and after, and what became of it."""
    services, rows = state.shared().services(), []
    for row in state.shared().ledger.rows(number):
        known = services.get(row.service or "")
        service = known.name if known else row.service
        changed = (row.id, row.hash, row.action, row.tag, row.stored_tag, service)
        rows.append((*changed, row.before, row.after, row.status, row.reason))
    if not rows:
        abort(404, f"There is no batch {number}, or nothing in it.")
    return table(kind, f"batch_{number}", BATCH_COLUMNS, rows)


@blueprint.post("/applied/undo")
def undo() -> Response:
    """Take back a batch (`batch`), or single rows of one (`row`)."""
    shared = state.shared()
    shared.library()
    rows = request.form.getlist("row", int)
    number = request.form.get("batch", type=int)
    if not rows and number is None:
        abort(400, "This form names neither a batch nor a row.")
    chosen: dict[str, Any] = {"rows": rows} if rows else {"batch": number}

    def work(job: Job) -> Results:
        return _noted(shared, [applying.undo(shared.ledger, shared.writer(), progress=job.progress, **chosen)])

    said = f"Taking back {plural(len(rows), 'change')}" if rows else f"Taking back batch {number}"
    return _start("undo", said, work)


@blueprint.post("/applied/retry", defaults={"how": "retry"})
@blueprint.post("/applied/reopen", defaults={"how": "reopen"})
def put_back(how: str) -> Response:
    """Put what failed, or what the library has lost, back to accepted, and show the difference again; or to open, to be decided anew."""
    batch = request.form.get("batch", type=int)
    asks = [Ask(key) for key in _failed(batch)]
    many = plural(len(asks), "change")
    if how == "retry":
        review().decide(asks, ACCEPTED, f"Try again: {many}")
        return go("applying.preview")
    review().decide(asks, OPEN, f"Reopened: {many}")
    return go("applying.batch", f"{many} reopened.", number=batch)


@blueprint.post("/applied/recover")
def recover() -> Response:
    """Finish what a crash, or a library that was away, left open, and read again what is not confirmed yet."""
    shared = state.shared()
    shared.library()

    def work(job: Job) -> Results:
        return recovered(shared, shared.writer())

    return _start("recover", "Finishing what was left open", work)


def recovered(shared: state.Shared, library: Library) -> Results:
    """What was left open finished and what was written read again, with the outcomes noted beside the decisions."""
    results: Results = [*applying.recover(shared.ledger, library)]
    if shared.ledger.rows(status=ledger.WRITTEN):
        results.append(applying.confirm(shared.ledger, library))
    return _noted(shared, results)


def _failed(batch: int | None) -> list[Key]:
    """The changes of a batch that stand in the queue "failed" still."""
    rows = state.shared().ledger.rows(batch, ledger.FAILED)
    keys = {Key(row.hash, row.tag, row.action) for row in rows}
    return [key for key in sorted(keys, key=lambda key: (key.hash, key.tag)) if review().decision(key).queue == FAILED]


def _previewed(library: Library, keys: Sequence[Key]) -> tuple[list[TagService], TagService | None, Preview]:
    """(the library's tag services, the one to write to, the exact difference)."""
    services = library.services()
    service = state.write_service(services, request.values.get("service"), settings().write_service)
    made = applying.preview(library, changes(keys), service.key) if keys and service else Preview([], [])
    return services, service, made


def _targets(made: Preview, names: Mapping[str, str], service: TagService | None) -> str:
    """Where the writes go, with the number of each where there are several services: "my tags: 3, repository: 1"."""
    # Of a single copy of a picture in a folder the name is that of the folder's service.
    called = (names.get(one.service) or names.get(one.service.partition(":")[0]) or one.service for one in made.writes)
    counts = Counter(called)
    if len(counts) > 1:
        return ", ".join(f"{name}: {count:,}" for name, count in counts.most_common())
    return next(iter(counts), service.name if service else "")


def _value(one: TagChange | TagWrite | Key) -> str:
    """What the form calls a row: the accepted change that it is, or comes from."""
    if isinstance(one, TagWrite):
        one = one.change or TagChange(one.hash, one.tag, "remove" if one.after in GONE else "add")
    return f"{one.hash} {one.action} {one.tag}"


def changes(keys: Iterable[Key]) -> list[TagChange]:
    """Accepted suggestions as the library takes them."""
    return [TagChange(key.hash, key.tag, key.action) for key in keys]


def digest(made: Preview) -> str:
    """A short name for exactly this difference."""
    lines = sorted(f"{one.hash} {one.service} {one.before} {one.after} {one.tag}" for one in made.writes)
    lines += sorted(f"{one.change.hash} {one.change.action} {one.settled} {one.change.tag}" for one in made.no_writes)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def catch_up(store: Review) -> int:
    """Note outcomes that a crash kept from being noted, rows of the ledger that are newer than the decision they belong to; let go of
    what it was to write and had not noted down.
    """

    def newer(row: LedgerRow) -> bool:
        now = store.decision(Key(row.hash, row.tag, row.action))
        return row.changed > now.decided_at or (row.changed == now.decided_at and row.status != ledger.UNDONE)

    noted = store.note_outcomes(outcomes(row for row in Ledger(store.path).rows() if newer(row)))
    store.let_go()
    return noted


def _noted(shared: state.Shared, results: Results) -> Results:
    """The results of writes, noted beside the decisions; what is not certain yet is read again in a minute."""
    with Review(shared.ledger.path) as store:
        for result in results:
            store.note_outcomes(outcomes(result.rows))
    confirming.wake(shared)
    return results


def _start(kind: str, said: str, work: Callable[[Job], Any], also: str = "") -> Response:
    came = back()
    job = Job(kind, said, lead=lambda job: _finish(job, came, also))
    if not jobs().start(job, work):
        tell("Something else is still running: wait for it, then try again. Nothing was done.")
        return redirect(came, 303)
    return _finish(job, came, also) if job.finished.wait(MOMENT) else go("running.job")


def _finish(job: Job, came: str, also: str) -> Response:
    """Where a finished job leads, with what came of it, said once: one that failed, to where its owner `came` from."""
    job.told = True
    if job.state == "failed":
        tell(f"{job.words}: {job.error}")
        return redirect(came, 303)
    results: Results = job.result
    said = [in_words(job.kind, result) for result in results] or ["Nothing was left open."]
    tell(*said, also)
    number = results[0].batch if len(results) == 1 and isinstance(results[0], BatchResult) else None
    return go("applying.batch", number=number) if number else go("applying.batches")


def in_words(kind: str, result: BatchResult | Confirmed) -> str:
    """A batch's result, or what reading again has shown, in a line."""
    if isinstance(result, Confirmed):
        return confirming.in_words(result)
    verb = {"apply": "applied", "undo": "taken back", "recover": "finished"}[kind]
    said = [f"{plural(result.applied, 'change')} {verb}"]
    if result.written:
        said = said if result.applied else []
        back = kind == "undo" or {row.goal for row in result.rows} == {ledger.BACK}
        done = "taken back" if back else "written"
        many = plural(result.written, "change")
        said.append(f"{many} {done}, being confirmed until the library has surely saved")
    if result.failed:
        said.append(f"{result.failed:,} failed" if kind != "undo" else f"{result.failed:,} left as they are")
    if result.settled:
        said.append(f"{result.settled:,} needed nothing")
    if result.open:
        said.append(f"{result.open:,} wait: {result.waiting}")
    return ", ".join(said) + "."


def _standing(row: LedgerRow) -> str:
    """Where a row stands, in words."""
    back = BACK_WORDS.get(row.status) if row.goal == ledger.BACK else None
    return back or STATUS_WORDS.get(row.status, row.status)


def _shown(rows: Sequence[Any]) -> dict[str, Any]:
    """Of many rows those that the address asks for, for a template with links to the others."""
    start = max(request.args.get("from", 0, int), 0)
    return {"rows": rows[start : start + ROWS], "start": start, "step": ROWS, "total": len(rows)}


def _state_words(service: TagService | None) -> dict[str, str]:
    """What a tag's states are called on a service, where that is another word."""
    return SIDECAR_WORDS if service and service.kind == "sidecar" else {}
