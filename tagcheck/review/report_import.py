"""The newest reports and the dataset records they speak of, read into the tables of the review store.

`sync` looks whether a newer file of any kind appeared and, if so, brings the tables up to date in one
transaction: a reader sees the old findings or the new ones, never half of each. Files are read a
record at a time where they are laid out as `tagcheck.data_folder` writes them, so that a million
findings need no more memory than a few. Running it twice changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tagcheck import dataset, detectors, tags
from tagcheck.data_folder import DATASET, RUN_SUMMARY, DataFolder, Kind, head, isoformat, records, stamp_of
from tagcheck.dataset import HASH
from tagcheck.detectors import NEAR_DUPLICATES
from tagcheck.errors import BadFile, MissingInput
from tagcheck.findings import BEFORE_VERDICTS
from tagcheck.json_files import Unusable, is_text
from tagcheck.review import counts, following, grouping, near
from tagcheck.review.report_rows import Found, plain_text, reader
from tagcheck.review.store import (
    CHANGED,
    IGNORED,
    PAIR,
    SKIPPED,
    Review,
    drop_lookups,
    drop_walks,
    make_lookups,
    make_walks,
)

BATCH = 2000
OFFERED_TAGS = 300
LEFT_OUT = "left_out"  # in a kept header: how many records could not be used, in words
KEPT = (
    "kind",
    "version",
    "created",
    "dataset",
    "model",
    "settings",
    "summary",
    "detectors",
)  # of a file's keys beside its records


@dataclass
class Sync:
    """What `sync` did: whether tables changed, and the problems by kind of file, in words."""

    changed: bool = False
    problems: dict[str, str] = field(default_factory=dict)


def behind(review: Review, folder: DataFolder) -> bool:
    """Whether something is newer than the tables, so that `sync` has work to do."""
    return bool(_stale(review, _newest(folder)))


def has_read(review: Review) -> bool:
    """Whether anything was ever read into the tables."""
    return review.db.execute("SELECT 1 FROM sources").fetchone() is not None


def sync(review: Review, folder: DataFolder) -> Sync:
    """Read what is newer than the tables. A damaged file costs its own findings, not the others', and is named in `problems`."""
    wanted = _newest(folder)
    stale = _stale(review, wanted)
    if not stale:
        return Sync(problems=_problems(review))
    with review.writing() as db:
        stale = _stale(review, wanted)  # another process may have done it meanwhile
        if stale:
            drop_walks(db)
            drop_lookups(db)
            counts.drop(db)
            for kind in stale:
                if kind != DATASET:
                    _replace(db, kind, wanted[kind])
            make_lookups(db)
            if any(detectors.of(kind) for kind in stale):
                _forget_skips(db)
                grouping.regroup(db)
                _note_grown(db)
            if following.follow(db, _read_pictures(db, wanted[DATASET])):
                grouping.regroup(db)
                _note_grown(db)
            grouping.rank(db)
            make_walks(db)
            counts.make(db)
            _note_choices(db)
            db.execute("ANALYZE")
    return Sync(bool(stale), _problems(review))


def _newest(folder: DataFolder) -> dict[Kind, Path | None]:
    return {kind: folder.newest(kind) for kind in (*(one.report for one in detectors.DETECTORS), RUN_SUMMARY, DATASET)}


def _stale(review: Review, wanted: dict[Kind, Path | None]) -> list[Kind]:
    """The kinds whose newest file is another than the one in the tables."""
    rows = {
        row["kind"]: (row["name"], row["size"], row["mtime_ns"]) for row in review.db.execute("SELECT * FROM sources")
    }
    return [kind for kind, path in wanted.items() if rows.get(kind.name) != _stamp(path)]


def _stamp(path: Path | None) -> tuple[str, int, int] | None:
    if path is None:
        return None
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return path.name, stat.st_size, stat.st_mtime_ns


def _problems(review: Review) -> dict[str, str]:
    return dict(
        review.db.execute(
            f"SELECT kind, said FROM (SELECT kind, coalesce(error, json_extract(header, '$.{LEFT_OUT}')) AS said FROM sources)"
            " WHERE said IS NOT NULL"
        ).fetchall()
    )


def _replace(db: sqlite3.Connection, kind: Kind, path: Path | None) -> None:
    """Put what one report says in the place of what its predecessor said."""
    db.execute("DELETE FROM said WHERE source = ?", (kind.name,))
    stamp = _stamp(path)
    if path is None or stamp is None:
        db.execute("DELETE FROM sources WHERE kind = ?", (kind.name,))
        return
    header: dict[str, Any] = {}
    count, problem, unusable = 0, None, Unusable()
    db.execute("SAVEPOINT report")
    try:
        for _ in _insert_all(db, kind, path, header, unusable):
            pass
        if detectors.of(kind):
            _remember_run(db, kind, path, header)
        if kind == NEAR_DUPLICATES:
            _insert_copies(db, header.get("group_details"))
    except (BadFile, MissingInput) as error:
        db.execute("ROLLBACK TO report")
        problem, count = str(error), 0
    db.execute("RELEASE report")
    _note_source(db, kind, stamp, header, count, problem, unusable)


def _note_source(
    db: sqlite3.Connection,
    kind: Kind,
    stamp: tuple[str, int, int],
    header: dict[str, Any],
    count: int,
    problem: str | None,
    unusable: Unusable,
) -> None:
    kept = {key: header[key] for key in KEPT if key in header}
    if unusable and problem is None:
        kept[LEFT_OUT] = f"{stamp[0]}: {unusable}"
    db.execute(
        "INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (kind.name, *stamp, _created(header, stamp[0]), count, plain_text(kept), problem),
    )


def _created(header: dict[str, Any], name: str) -> str:
    """When a file was made: as it says itself, else by the time in its name."""
    if is_text(header.get("created")):
        return str(header["created"])[:40]
    when = stamp_of(Path(name))
    return isoformat(when) if when else ""


def _insert_all(
    db: sqlite3.Connection, kind: Kind, path: Path, header: dict[str, Any], unusable: Unusable
) -> Iterator[int]:
    """Insert the findings of one file in batches, giving the number of findings so far. Records that cannot be used are noted."""
    make = reader(kind)
    batch: list[Found] = []
    count = 0
    kept: list[Any] = []
    places: Counter[str] = Counter()
    numbers = near.Numbers(db)
    for name, record in records(path, kind, header, unusable):
        places[name] += 1
        if make is None:
            kept.append(record)  # the run summary: a handful of detectors
        elif name == near.LIST:
            numbers.listed.append(record)
        elif name == "group_details":
            header.setdefault(name, []).append(record)  # whether the report has them as records or as one key
        else:
            try:
                finding = make(path, name, places[name], record)
            except BadFile as error:
                unusable.note(str(error).removeprefix(f"{path}: "))
                continue
            if finding is not None:
                batch.append(finding)
                count += 1
        if len(batch) >= BATCH:
            _insert(db, kind, batch, numbers)
            batch.clear()
            yield count
    _insert(db, kind, batch, numbers)
    if make is None:
        header["detectors"] = kept
    yield count


def _insert(db: sqlite3.Connection, kind: Kind, batch: list[Found], numbers: near.Numbers) -> None:
    db.executemany(
        "INSERT INTO said VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                one.id,
                kind.name,
                one.issue,
                row.hash,
                row.other,
                row.tag,
                "" if row.action == PAIR else tags.namespace(row.tag),
                row.action,
                place,
                row.confidence,
                row.why,
                plain_text(numbers.packed(row.evidence)),
                one.differs,
            )
            for one in batch
            for place, row in enumerate(one.rows)
        ],
    )


def _insert_copies(db: sqlite3.Connection, details: Any) -> None:
    """Keep which copy of each group the report calls the best, and why, for every picture of the group."""
    db.execute("DELETE FROM copies")
    for group in details if isinstance(details, list) else ():
        if (
            isinstance(group, dict)
            and isinstance(group.get("hashes"), list)
            and all(isinstance(one, str) and HASH.fullmatch(one) for one in [group.get("best_copy"), *group["hashes"]])
        ):
            given = group.get("reasons")
            reasons = "; ".join(one for one in given if is_text(one) and one) if isinstance(given, list) else ""
            db.executemany(
                "INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?)",
                [(hash, group["best_copy"], reasons, len(group["hashes"])) for hash in group["hashes"]],
            )


def _forget_skips(db: sqlite3.Connection) -> None:
    """ "Skip for now" holds until the detectors have run again."""
    db.execute("UPDATE decisions SET state = 'open', version = version + 1 WHERE state = ?", (SKIPPED,))


def _note_grown(db: sqlite3.Connection) -> None:
    """Mark what was ignored and has become surer since by `CHANGED` or more: it stays ignored, and says so."""
    db.execute(
        f"UPDATE suggestions SET changed = current AND coalesce(json_extract(evidence, '$.{BEFORE_VERDICTS}'), confidence) >= {CHANGED}"
        " + (SELECT d.confidence FROM decisions d WHERE d.hash = suggestions.hash AND d.tag = suggestions.tag"
        " AND d.action = suggestions.action AND d.other = suggestions.other)"
        " WHERE state = ? AND EXISTS (SELECT 1 FROM decisions d WHERE d.hash = suggestions.hash AND d.tag = suggestions.tag"
        " AND d.action = suggestions.action AND d.other = suggestions.other AND d.confidence IS NOT NULL)",
        (IGNORED,),
    )


def _note_choices(db: sqlite3.Connection) -> None:
    """Note what the filters offer: the commonest tags, the namespaces, the library's pages."""
    choices = {
        "tags": f"SELECT tag FROM suggestions WHERE action != '{PAIR}' GROUP BY tag"
        f" ORDER BY count(*) DESC, tag LIMIT {OFFERED_TAGS}",
        "namespaces": "SELECT DISTINCT namespace FROM suggestions WHERE namespace != '' ORDER BY namespace",
        "pages": "SELECT DISTINCT page FROM picture_pages ORDER BY page",
        "series": "SELECT DISTINCT series FROM picture_series ORDER BY series",
    }
    for name, query in choices.items():
        db.execute(
            "INSERT OR REPLACE INTO review_meta VALUES (?, ?)",
            (f"choices_{name}", plain_text([row[0] for row in db.execute(query)])),
        )


def _remember_run(db: sqlite3.Connection, kind: Kind, path: Path, header: dict[str, Any]) -> None:
    """Keep this report's summary, and those of the older ones still there, for the trend over runs."""
    known = {row[0] for row in db.execute("SELECT name FROM runs WHERE kind = ?", (kind.name,))}
    older = [
        other
        for other in path.parent.glob(f"{kind.prefix}_*.json")
        if stamp_of(other) and other.name not in known | {path.name}
    ]
    for other in older:
        try:
            _note_run(db, kind, other.name, head(other, kind))
        except (BadFile, MissingInput):
            continue  # an old report that cannot be read has no point in the trend
    _note_run(db, kind, path.name, header)


def _note_run(db: sqlite3.Connection, kind: Kind, name: str, header: dict[str, Any]) -> None:
    summary = header.get("summary")
    if isinstance(summary, dict):
        db.execute(
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)",
            (kind.name, name, _created(header, name), plain_text(summary)),
        )


def _read_pictures(db: sqlite3.Connection, path: Path | None) -> dict[str, list[str]]:
    """Keep the dataset's records of every picture that a finding is about, and the pages and series those are of.

    Gives the pictures that were decided on and are gone, each with those of the same pixels.
    """
    pixels = following.note_pixels(db)
    db.execute("DELETE FROM pictures")
    db.execute("DELETE FROM library_tags")
    db.execute("DELETE FROM picture_pages")
    db.execute("DELETE FROM picture_series")
    stamp = _stamp(path)
    if path is None or stamp is None:
        db.execute("DELETE FROM sources WHERE kind = ?", (DATASET.name,))
        return {}
    decided, here = frozenset(pixels.values()), dict[str, str]()
    wanted = {
        row[0]
        for row in db.execute("SELECT hash FROM suggestions UNION SELECT other FROM suggestions WHERE other != ''")
    }
    header: dict[str, Any] = {}
    count, problem, unusable = 0, None, Unusable()
    used: Counter[str] = Counter()
    db.execute("SAVEPOINT dataset")
    try:
        for name, record in records(path, DATASET, header, unusable):
            if name != "results":
                continue
            count += 1
            hash = record.get("hash") if isinstance(record, dict) else None
            if not isinstance(hash, str) or not HASH.fullmatch(hash):
                unusable.note(f"record {count} of 'results' has no hash of 64 lower-case hex digits")
                continue
            has = record.get("existing_all_tags")
            used.update(tag for tag in has if is_text(tag)) if isinstance(has, list) else None
            same = dataset.pixels_of(record)
            if same in decided or (hash in pixels and record.get("status", "ok") == "ok"):
                here[hash] = same
            if hash in wanted or same in decided:
                _insert_picture(db, record)
        db.executemany("INSERT INTO library_tags VALUES (?, ?)", used.items())
    except (BadFile, MissingInput) as error:
        db.execute("ROLLBACK TO dataset")
        problem, here = str(error), dict(pixels)
    db.execute("RELEASE dataset")
    _note_source(db, DATASET, stamp, header, count, problem, unusable)
    return following.heirs(pixels, here)


def _insert_picture(db: sqlite3.Connection, record: dict[str, Any]) -> None:
    imported = record.get("time_imported")
    db.execute(
        "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?)",
        (record["hash"], imported if isinstance(imported, (int, float)) else None, plain_text(record)),
    )
    names = {_page_name(page) for page in _listed(record, "pages")}
    db.executemany("INSERT OR IGNORE INTO picture_pages VALUES (?, ?)", [(name, record["hash"]) for name in names])
    series = filter(is_text, _listed(record, "existing_series_tags"))
    db.executemany("INSERT OR IGNORE INTO picture_series VALUES (?, ?)", [(name, record["hash"]) for name in series])


def _listed(record: dict[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    return value if isinstance(value, list) else []


def _page_name(page: Any) -> str:
    """A page's path in one line; a name that is not UTF-8 with question marks in it."""
    name = " / ".join(map(str, page)) if isinstance(page, list) else str(page)
    return name.encode("utf-8", "replace").decode()
