"""The pages that are read: overview, list and grid, card, export, help."""

import hmac
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, session, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response

from tagcheck import detectors, tags
from tagcheck.data_folder import DATASET, RUN_SUMMARY
from tagcheck.dataset import HASH
from tagcheck.plural import plural
from tagcheck.review import Filter, by_picture, queries
from tagcheck.review.counts import BANDS
from tagcheck.review.queries import Finding, Overview
from tagcheck.review.report_import import LEFT_OUT
from tagcheck.review.store import APPLIED, IGNORED
from webapp import cards, charts, keys, state
from webapp.answers import back, go, place, table, view_as_file
from webapp.filters import ANY, ORDER_WORDS, from_query, groups, in_words, to_query
from webapp.pictures import address
from webapp.state import review, settings

PAGE = 50
GRID = 60
AHEAD = 12
SAMPLE = 20  # suggestions of many alike that are looked at one by one
SAMPLE_WORTH = 40  # of so many or more
OLD_DAYS = 14
EXPORTS = {"csv": "CSV", "json": "JSON", "fiftyone": "FiftyOne", "labelstudio": "Label Studio"}
SESSIONS = 20
PREVIEW = 6  # pictures of the next session
GRID_FROM = 0.9  # the share of right ones from which on a grid is offered
RUNS = 30  # of the trend
RUN_PAUSE = 6  # hours between two reports that are of two runs for certain
MOVED = (
    "your answers moved how sure the detector is of others like them. Where you disagree, reopen answers under Ignored and"
    " run it again."
)
ENDS = [f"{low * 100:.0f}" for low in BANDS[1:]]
BETWEEN = [f"{low} to {high} %" for low, high in itertools.pairwise(ENDS)]
BAND_NAMES = [f"below {ENDS[0]} %", *BETWEEN, f"{ENDS[-1]} % and more"]
HEALTH_COLUMNS = ("tag", "open", "expected", "a_minute", "decided", "right", "share")

blueprint = Blueprint("views", __name__)


@blueprint.get("/")
def start() -> Response:
    """The address people type."""
    return redirect(url_for("views.overview"))


@blueprint.get("/error-review")
def overview() -> Response | str:
    """How much there is to do, how old the reports are, what was decided. With filters, the list they ask for."""
    if request.args:
        return redirect(f"{url_for('views.findings')}?{request.query_string.decode()}")
    state.refresh()
    made = state.remembered("overview", queries.overview)
    return render_template(
        "error_review.html",
        detectors=detector_rows(made),
        dataset=made.sources.get(DATASET.name),
        made_by=DATASET.made_by,
        muted=review().muted(),
        total=made.queues["open"].findings,
        unlikely=made.queues["unlikely"].findings,
        stale=not_in_dataset(),
        **state.remembered("standing", lambda _: standing(made)),
    )


def standing(made: Overview) -> dict[str, Any]:
    """Of the overview, what stays as it is until something is decided or written."""
    upcoming, pace = next_session(), state.remembered("pace", queries.pace)
    rows = [(issue, made.by_issue[issue][1:]) for issue in detectors.issues() if issue in made.by_issue]
    named = [(detectors.issue_words()[issue], counts) for issue, counts in rows]
    below = render_template(
        "_standing.html",
        overview=made,
        rows=rows,
        bands=BAND_NAMES,
        bars=charts.bars(named, BAND_NAMES[1:], "Open suggestions by kind and confidence"),
        trend=trend(made),
        pace=pace,
        tags=queries.health(review(), pace, SESSIONS),
        series=queries.health(review(), pace, SESSIONS, settings().series_namespace),
        verdicts=queries.verdicts(review(), detectors.issues()),
        total=made.queues["open"].findings,
        grown=grown(),
    )
    return {
        "standing": Markup(below),
        "next_session": upcoming,
        "preview": queries.page(review(), upcoming["view"], limit=PREVIEW, brief=True) if upcoming else [],
        "waiting": review().waiting(),
        "fewer": fewer(made),
    }


@blueprint.get("/error-review/findings")
def findings() -> str:
    """The list of a view, or with `view=grid` its pictures to tick."""
    state.refresh()
    view = from_query(request.args)
    grid = request.args.get("view") == "grid"
    after, before = request.args.get("after"), request.args.get("before")
    counts = state.queues(view)
    return render_template(
        "findings.html",
        **about(view),
        place=place(),
        grid=grid,
        count=counts[view.state] if view.state else state.count(view),
        queues=counts,
        **state.remembered(("rows", view, grid, after, before), lambda _: rows_of(view, grid, after, before)),
        sample_size=SAMPLE,
        sample_worth=SAMPLE_WORTH,
        choices={what: queries.choices(review(), what) for what in ("namespaces", "pages", "series", "batches")},
        grown=0 if view.changed or view.state != IGNORED else grown(),
        orders=ORDER_WORDS,
        groups=groups(),
        any=ANY,
        can=state.shared().abilities(),
        exports=EXPORTS,
    )


def about(view: Filter) -> dict[str, Any]:
    return {"view": view, "query": to_query(view), "words": in_words(view)}


def rows_of(view: Filter, grid: bool, after: str | None, before: str | None) -> dict[str, Any]:
    """One page of a list or grid as HTML, and where the pages beside it begin."""
    size = GRID if grid else PAGE
    found = queries.page(review(), view, after, before, size + 1, brief=True)
    if not found and (after or before):
        return rows_of(view, grid, None, None)  # all of that page was decided
    more = len(found) > size
    found = found[-size:] if before else found[:size]
    earlier, later = (more if before else bool(after)), (True if before else more)
    return {
        "rows": Markup(render_template("_rows.html", findings=found, grid=grid, query=to_query(view))) if found else "",
        "earlier": found[0].id if found and earlier else None,
        "later": found[-1].id if found and later else None,
    }


@blueprint.get("/error-review/card")
def card() -> Response | str:
    """One finding of a view, large, with its buttons. `at` names it; without one, the first."""
    state.refresh()
    view = from_query(request.args)
    at = request.args.get("at")
    finding = next(iter(_named(at, view) or queries.page(review(), view, limit=1)), None)
    if finding is None:
        return done(view)
    if finding.id != at:
        return redirect(url_for("views.card", **to_query(view, at=finding.id)))
    return render_template("card.html", **card_values(view, finding))


@blueprint.get("/error-review/cards")
def card_parts() -> list[dict[str, Any]]:
    """The card `at`, or the next few after one, as parts for the page's script: `[{"id", "url", "html", "pictures"}]`."""
    view = from_query(request.args)
    if at := request.args.get("at"):
        found = queries.load(review(), [at], view)
    else:
        found = queries.page(review(), view, request.args.get("after"), request.args.get("before"), AHEAD)
        found = found[::-1] if request.args.get("before") else found
    return [part(view, finding) for finding in found]


@blueprint.get("/error-review/export.<kind>")
def export(kind: str) -> Response:
    """Every suggestion of a view as CSV or JSON, one a line, or as FiftyOne and Label Studio import it."""
    state.refresh(whole=True)
    return view_as_file(kind, settings().folder.review, from_query(request.args))


@blueprint.get("/error-review/tags.<kind>")
def export_tags(kind: str) -> Response:
    """How every tag with open suggestions stands, as CSV or JSON: the overview shows only the first."""
    state.refresh(whole=True)
    rows = []
    for one in queries.health(review(), state.remembered("pace", queries.pace)):
        right = one.measured_share.right if one.measured_share else None
        numbers = (round(one.expected, 2), round(one.a_minute, 2), one.decided, right, round(one.share, 4))
        rows.append((one.tag, one.open, *numbers))
    return table(kind, "tags", HEALTH_COLUMNS, rows)


@blueprint.get("/error-review/complete")
def complete() -> list[tuple[str, int]]:
    """The library's tags that hold what was typed (`q`), with how many pictures have them: `[["series:elves", 40]]`. Where `many` may be
    typed, the last of several is completed, with those before it.
    """
    asked = request.args.get("q", "")
    typed = tags.clean(asked)
    found = queries.complete(review(), typed) if typed else []
    before, comma, last = asked.rpartition(",")
    typed = tags.clean(last)
    if found or not comma or "many" not in request.args or not typed:
        return found
    return [(f"{before}, {tag}", count) for tag, count in queries.complete(review(), typed)]


@blueprint.get("/api/suggest")
def suggest() -> list[dict[str, Any]]:
    """What is suggested for each `hash` of the query, to a program on this machine that shows the token: `python suggest.py
    --token` prints it. It comes in the header `Authorization: Bearer TOKEN`, as programs keep addresses in logs.
    """
    given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    if not hmac.compare_digest(given.encode(), review().secret(by_picture.TOKEN).encode()):
        abort(403, "This needs the header 'Authorization: Bearer TOKEN'; python suggest.py --token prints the token.")
    hashes = [hash.lower() for hash in request.args.getlist("hash")]
    if not hashes or len(hashes) > by_picture.MOST or not all(map(HASH.fullmatch, hashes)):
        abort(400, f"One to {by_picture.MOST} hashes of 64 hex digits are expected as ?hash=...&hash=...")
    state.refresh(whole=True)
    return by_picture.suggested(review(), hashes, settings().folder)


@blueprint.get("/error-review/help")
def help() -> str:
    """The keys, the way to change them, and what the queues mean."""
    actions, problem = keys.load(settings().folder.root)
    return render_template("help.html", actions=actions, problem=problem, wanted=None)


@blueprint.post("/error-review/help")
def change_keys() -> Response | tuple[str, int]:
    """Keep the owner's keys, or go back to those that the page comes with. A map that cannot be is shown again with the reason."""
    folder = settings().folder.root
    if request.form.get("do") == "restore":
        keys.save(folder, keys.ACTIONS)
        return go("views.help", "The keys are again as the page comes with them.")
    wanted = {one.name: request.form[one.name] for one in keys.ACTIONS if one.name in request.form}
    try:
        made = keys.changed({name: map(keys.parse, text.split()) for name, text in wanted.items()})
    except keys.Refused as refused:
        values = {"actions": keys.load(folder)[0], "problem": "", "wanted": wanted, "refused": refused}
        return render_template("help.html", **values), 409
    keys.save(folder, made)
    return go("views.help", "These keys are kept.")


@blueprint.post("/error-review/looks")
def looks() -> Response:
    """Keep this browser's theme, and whether pictures are hidden."""
    if (theme := request.form.get("theme")) in ("light", "dark", "system"):
        session["theme"] = theme
    if "pictures" in request.form:
        session["hide_pictures"] = request.form["pictures"] == "hide"
    session.permanent = True
    return redirect(back(), 303)


def reported(id: str) -> Finding:
    """The finding that a form is about."""
    gone = "This finding is not in the newest reports any longer. Go back to the list."
    return next(iter(_named(id)), None) or abort(404, gone)


def _named(id: str | None, view: Filter | None = None) -> list[Finding]:
    """The finding with this id, or with this id of a report's entry."""
    if not id:
        return []
    return queries.load(review(), [id], view) or queries.load(review(), [queries.found_as(review(), id) or ""], view)


def done(view: Filter) -> str:
    """The page at the end of a view: what was done, what a sample says, what is next."""
    sample = queries.sample(review(), view.sample) if view.sample else None
    return render_template(
        "done.html",
        **about(view),
        queues=state.queues(view),
        sample=sample,
        others=len(queries.asks(review(), sample.view)) if sample else 0,
        sample_view=url_for("views.card", **to_query(sample.view)) if sample else "",
        session_done=queries.session(review()),
        next_session=next_session(),
        waiting=review().waiting(),
    )


def next_session() -> dict[str, Any] | None:
    """The session that is offered: the tag with most to fix in a minute, else all cards, else what is below 50 %."""

    pace = state.remembered("pace", queries.pace)

    def session(view: Filter, said: str, number: int, expected: int | None, url: str = "") -> dict[str, Any]:
        minutes = max(round(number / pace.a_minute), 1)
        url = url or url_for("views.card", **to_query(view))
        return {"url": url, "words": said, "minutes": minutes, "expected": expected, "view": view}

    for best in queries.health(review(), pace, 1):
        grid = url_for("views.findings", tag=best.tag, view="grid") if best.share >= GRID_FROM else ""
        said = f"{best.tag}, {plural(best.open, 'suggestion')}"
        return session(Filter(tag=best.tag), said, best.open, round(best.expected), grid)
    for name, below in (("open", ""), ("unlikely", " below 50 %")):
        if (found := state.count(Filter(state=name))).findings:
            said = plural(found.findings, "finding") + below
            return session(Filter(state=name), said, found.suggestions, None)
    return None


def card_values(view: Filter, finding: Finding) -> dict[str, Any]:
    query = to_query(view)
    before, after = (queries.step(review(), view, finding.id, back) for back in (True, False))
    return {
        "card": cards.make(review(), view, finding, settings().invisible),
        **about(view),
        "previous": url_for("views.card", **query, at=before) if before else None,
        "next": url_for("views.card", **query, at=after) if after else None,
        "left": state.count(view).findings,
        "choices": cards.PAIR_CHOICES,
        "most_folded": cards.FOLDED,
        "dense_from": cards.DENSE_FROM,
        "can": state.shared().abilities(),
        "target": state.shared().target(),
    }


def part(view: Filter, finding: Finding) -> dict[str, Any]:
    values = card_values(view, finding)
    return {
        "id": finding.id,
        "url": url_for("views.card", **to_query(view), at=finding.id),
        "html": render_template("_card.html", **values),
        "pictures": [address(size, one.hash) for one in values["card"].pictures for size in ("thumbnail", "full")],
    }


def detector_rows(made: Overview) -> list[dict[str, Any]]:
    """Each detector's standing: its report's age and size, and in `problem` why it says nothing, if so."""
    run = made.sources.get(RUN_SUMMARY.name, {})
    last = {row.get("script"): row for row in run.get("header", {}).get("detectors", []) if isinstance(row, dict)}
    dataset = made.sources.get(DATASET.name, {}).get("created") or ""
    rows = []
    for one in detectors.DETECTORS:
        source, ran = made.sources.get(one.report.name), last.get(one.script, {})
        header = (source or {}).get("header", {})
        summary = header.get("summary")
        summary, problem, notes = summary if isinstance(summary, dict) else {}, None, []
        notes += [header[LEFT_OUT]] if LEFT_OUT in header else []
        if source is None:
            problem = f"has not run: run_error_detection.py, or {one.script}"
        elif source["error"]:
            problem = f"its report cannot be read: {source['error']}"
        if ran.get("exit_code") and run["created"] >= (source["created"] if source else ""):
            problem = f"failed in the last run (exit code {ran['exit_code']}): {ran.get('message') or 'no message'}"
        if source and source["created"] < dataset:
            notes.append("older than the dataset")
        if source and (days := (datetime.now(UTC) - datetime.fromisoformat(source["created"])).days) > OLD_DAYS:
            notes.append(f"{days} days old")
        told = summary.get("notes")
        notes += [note for note in told if "your decisions" in str(note)] if isinstance(told, list) else []
        row = {"source": source, "problem": problem, "notes": notes, "summary": summary}
        rows.append({"name": one.title, "script": one.script, **row})
    return rows


def grown() -> int:
    """How many findings were ignored and have become surer since."""
    return state.count(Filter(state=IGNORED, changed=True)).findings


def trend(made: Overview) -> dict[str, Any] | None:
    """Findings over the runs, as a chart and a table; None below two runs."""
    together = runs_together(made.runs)[-RUNS:]
    if len(together) < 2:
        return None
    series = []
    for one in detectors.DETECTORS:
        summaries = [run.get(one.report.name, {}).get("summary") for run in together]
        values = [None if summary is None else one.findings(summary) for summary in summaries]
        if any(value is not None for value in values):
            series.append((one.title, values))
    times = [min(row["created"] for row in run.values()) for run in together]
    if fixed := state.shared().ledger.batches():
        by_then: list[int | None] = [
            sum(one.counts.get(APPLIED, 0) for one in fixed if one.created <= time) for time in times
        ]
        series.append(("Fixed so far", by_then))
    labels = [time[:16].replace("T", " ") for time in times]
    return {"chart": charts.trend(labels, series, "Found and fixed, over the runs"), "labels": labels, "series": series}


def not_in_dataset() -> int:
    """How many changes were written to the library, or taken back, since the dataset was made: detectors do not know of them."""
    made = review().value("SELECT created FROM sources WHERE kind = ?", DATASET.name)
    return 0 if made is None else state.shared().ledger.not_known(made)


def fewer(made: Overview) -> list[str]:
    """What to say of detectors that find less than half of what they found in the run before, beyond what was decided since."""
    notes = []
    for one in detectors.DETECTORS:
        runs = [row for row in made.runs if row["kind"] == one.report.name][-2:]
        if len(runs) < 2:
            continue
        before, now = (one.findings(row["summary"]) for row in runs)
        decided = queries.decided_between(review(), runs[0]["created"], runs[1]["created"])
        if decided and now < before / 2 and before - now > 2 * decided:
            found = (
                f"{one.title}: {now:,} found, after {before:,} in the run before. You decided {decided:,} in between"
            )
            notes.append(f"{found}, and {MOVED}")
    return notes


def runs_together(rows: Sequence[dict[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    """Reports by run, the oldest first: kind -> report. A kind that is there, or `RUN_PAUSE` hours, begins the next."""
    made: list[dict[str, dict[str, Any]]] = []
    last: datetime | None = None
    for row in sorted(rows, key=lambda row: row["created"]):
        now = datetime.fromisoformat(row["created"])
        if last is None or row["kind"] in made[-1] or (now - last).total_seconds() > RUN_PAUSE * 3600:
            made.append({})
        made[-1][row["kind"]] = row
        last = now
    return made
