"""The newest reports and the dataset records they speak of, read into the tables of the review store.

Where a file of any kind is newer, `sync` reads all of them again and updates the tables in one transaction, so that a
reader sees the old findings or the new ones. Files are read a record at a time where they are laid out as
`tagcheck.data_folder` writes them, so that memory does not grow with the number of findings. A second run changes nothing.
"""

import os
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tagcheck import dataset, detectors, sqlite, tags
from tagcheck.data_folder import DATASET, RUN_SUMMARY, DataFolder, Kind, head, isoformat, records, stamp_of
from tagcheck.detectors import NEAR_DUPLICATES
from tagcheck.errors import BadFile, MissingInput
from tagcheck.files import remove
from tagcheck.findings import BEFORE_VERDICTS
from tagcheck.json_files import Unusable, Wrong, is_text, plain_text
from tagcheck.review import by_picture, counts, following, grouping, numbers, store
from tagcheck.review.numbers import ACTIONS, TOGETHER, Numbers, hash_of, named_by
from tagcheck.review.report_rows import GROUP, Found, reader
from tagcheck.review.store import Review

BATCH = 2000
WAITING = 20_000  # pictures that wait for the detectors and have their records in the store
LEFT_OUT = "left_out"  # in a kept header: how many records could not be used, in words
# Of a file's keys beside its records.
KEPT = ("kind", "version", "created", "dataset", "model", "settings", "summary", "detectors", dataset.TAGS_READ)


def behind(review: Review, folder: DataFolder) -> bool:
    """Whether something is newer than the tables, so that `sync` has work to do."""
    return bool(_stale(_newest(folder), _known(review)))


def has_read(review: Review) -> bool:
    """Whether anything was ever read into the tables."""
    return review.db.execute("SELECT 1 FROM sources").fetchone() is not None


def sync(review: Review, folder: DataFolder) -> dict[str, str]:
    """Read what is newer than the tables. A damaged file loses only its own findings; problems by kind of file, in words.

    Files are read into tables of their own first, so that the owner can decide meanwhile; one transaction then replaces the
    store's.
    """
    wanted, known = _newest(folder), _known(review)
    stale = _stale(wanted, known)
    if not stale:
        return _problems(review)
    with _incoming(review) as db:
        taken = _take(db, wanted, stale != [RUN_SUMMARY], by_picture.examined(folder))
        with review.writing() as db:
            # Else another process has read them meanwhile, or a tag of the owner's own took a number.
            current = _known(review) == known and taken.numbers.hashes.untaken() and taken.numbers.words.untaken()
            if current:
                _put(db, taken, stale)
    if not current:
        return sync(review, folder)
    review.take_back()
    return _problems(review)


def require(review: Review, folder: DataFolder) -> None:
    """`sync`, for who needs something there. Raises `MissingInput` where nothing was ever read."""
    sync(review, folder)
    if not has_read(review):
        raise MissingInput(f"no reports in {folder.root}: run run_error_detection.py first")


@dataclass
class Taken:
    """What was read and is not put into the store's tables yet, beside the tables of `incoming`."""

    numbers: Numbers
    wanted: set[str] = field(default_factory=set)
    sources: list[tuple[Any, ...]] = field(default_factory=list)
    runs: list[tuple[Any, ...]] = field(default_factory=list)
    whole: bool = True


# `said` has a row each time that a report says something; `here` the pixels of every picture of the dataset, `waiting` the records
# of pictures that no detector has examined.
INCOMING = f"""
CREATE TABLE said (
    entry INTEGER NOT NULL, said_by INTEGER NOT NULL, kind INTEGER NOT NULL, picture INTEGER NOT NULL, partner INTEGER NOT NULL,
    word INTEGER NOT NULL, space INTEGER NOT NULL, act INTEGER NOT NULL, place INTEGER NOT NULL,
    sure INTEGER NOT NULL, alone REAL, said INTEGER NOT NULL, differs INTEGER NOT NULL
);
CREATE TABLE here (hash TEXT PRIMARY KEY, pixels TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE waiting (picture INTEGER PRIMARY KEY, imported REAL, record INTEGER NOT NULL);
CREATE TABLE new_packs (id INTEGER PRIMARY KEY, texts BLOB NOT NULL);
{store.PICTURES.replace("CREATE TABLE ", "CREATE TABLE new_")};
{store.OFFERED.replace("CREATE TABLE ", "CREATE TABLE new_")}
"""
OF_PICTURES = ("records", "picture_pages", "picture_series")


@contextmanager
def _incoming(review: Review) -> Iterator[sqlite3.Connection]:
    """The store's connection with the tables of `INCOMING`, in a file beside the store that is gone afterwards."""
    path = review.path.with_name(f".{review.path.name}.{secrets.token_hex(4)}.tmp")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, sqlite.OURS))
        review.db.execute("ATTACH ? AS incoming", (str(path),))
        try:
            for pragma in ("journal_mode = MEMORY", "synchronous = OFF"):
                review.db.execute(f"PRAGMA incoming.{pragma}")
            sqlite.run(review.db, INCOMING.replace("CREATE TABLE ", "CREATE TABLE incoming."))
            yield review.db
        finally:
            review.db.execute("DETACH incoming")
    finally:
        remove(path)


def _take(db: sqlite3.Connection, wanted: dict[Kind, Path | None], whole: bool, examined: bytes | None) -> Taken:
    """Read the reports and the dataset, or only a run's summary where not the `whole` is asked for."""
    taken = Taken(Numbers(db), whole=whole)
    with sqlite.within(db, write=False):
        for kind, path in wanted.items():  # the dataset is the last
            stamp = _stamp(path)
            if path is None or stamp is None or not (whole or kind == RUN_SUMMARY):
                continue
            with _reading(db, kind, stamp, taken) as source:
                if kind == DATASET:
                    _take_pictures(db, path, source, examined, taken)
                    continue
                source.count = _insert_all(db, path, source, taken)
                if kind == NEAR_DUPLICATES:
                    _insert_copies(db, source.header.get("group_details"))
                if detectors.of(kind):
                    taken.runs += _runs(db, kind, path, source.header)
        taken.numbers.texts.close()
    return taken


def _put(db: sqlite3.Connection, taken: Taken, stale: list[Kind]) -> None:
    for kind in stale:
        db.execute("DELETE FROM sources WHERE kind = ?", (kind.name,))
    db.executemany("INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?, ?, ?, ?, ?)", taken.sources)
    db.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", taken.runs)
    if not taken.whole:
        return
    store.drop_indexes(db)
    counts.drop(db)
    taken.numbers.hashes.keep()
    taken.numbers.words.keep()
    db.execute("INSERT INTO packs SELECT * FROM new_packs")
    for name in ("copies", "batches"):
        db.execute(f"DELETE FROM {name}")
        db.execute(f"INSERT INTO {name} SELECT * FROM new_{name}")
    if any(detectors.of(kind) for kind in stale):
        # "Skip for now" holds until the detectors have run again.
        db.execute("UPDATE decisions SET state = 'open', version = version + 1 WHERE state = ?", (store.SKIPPED,))
    grouping.regroup(db)
    store.make_indexes(db, store.LOOKUPS)
    if following.follow(db, _put_pictures(db, taken)):
        grouping.regroup(db)
    _note_grown(db)
    grouping.rank(db)
    store.make_indexes(db, store.WALKS)
    counts.make(db)
    _note_choices(db)
    used = f"SELECT said / {TOGETHER} FROM suggested UNION SELECT record / {TOGETHER} FROM records"
    db.execute(f"DELETE FROM packs WHERE id > 0 AND id NOT IN ({used})")
    db.execute("ANALYZE main")


def _newest(folder: DataFolder) -> dict[Kind, Path | None]:
    return {kind: folder.newest(kind) for kind in (*(one.report for one in detectors.DETECTORS), RUN_SUMMARY, DATASET)}


def _known(review: Review) -> dict[str, tuple[str, int, int]]:
    """By kind the file that is in the tables: its name, size and time."""
    rows = review.db.execute("SELECT kind, name, size, mtime_ns FROM sources")
    return {kind: (name, size, mtime_ns) for kind, name, size, mtime_ns in rows}


def _stale(wanted: dict[Kind, Path | None], known: dict[str, tuple[str, int, int]]) -> list[Kind]:
    """The kinds whose newest file is another than the one in the tables."""
    return [kind for kind, path in wanted.items() if known.get(kind.name) != _stamp(path)]


def _stamp(path: Path | None) -> tuple[str, int, int] | None:
    if path is None:
        return None
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return path.name, stat.st_size, stat.st_mtime_ns


def _problems(review: Review) -> dict[str, str]:
    said = f"coalesce(error, json_extract(header, '$.{LEFT_OUT}'))"
    query = f"SELECT kind, {said} FROM sources WHERE {said} IS NOT NULL"
    return dict(review.db.execute(query).fetchall())


@dataclass
class Source:
    """A file while it is read: its keys beside the records, how many those are, and what cannot be read or used of it."""

    kind: Kind
    stamp: tuple[str, int, int]
    header: dict[str, Any] = field(default_factory=dict)
    unusable: Unusable = field(default_factory=Unusable)
    count: int = 0
    problem: str | None = None

    def row(self) -> tuple[Any, ...]:
        kept = {key: self.header[key] for key in KEPT if key in self.header}
        if self.unusable and self.problem is None:
            kept[LEFT_OUT] = f"{self.stamp[0]}: {self.unusable}"
        created = _created(self.header, self.stamp[0])
        return (self.kind.name, *self.stamp, created, self.count, plain_text(kept), self.problem)


@contextmanager
def _reading(db: sqlite3.Connection, kind: Kind, stamp: tuple[str, int, int], taken: Taken) -> Iterator[Source]:
    """Read a file within it; of a damaged one nothing is kept but what is wrong with it."""
    source = Source(kind, stamp)
    db.execute("SAVEPOINT reading")
    try:
        yield source
    except (BadFile, MissingInput) as error:
        db.execute("ROLLBACK TO reading")
        source.problem = str(error)
    db.execute("RELEASE reading")
    taken.sources.append(source.row())


def _created(header: dict[str, Any], name: str) -> str:
    """When a file was made, in UTC: as it says itself, else by the time in its name."""
    when = stamp_of(Path(name))
    with suppress(KeyError, TypeError, ValueError, OverflowError):  # another program's words
        said = datetime.fromisoformat(header["created"])
        when = said.astimezone(UTC) if said.tzinfo else said
    return isoformat(when) if when else ""


def _insert_all(db: sqlite3.Connection, path: Path, source: Source, taken: Taken) -> int:
    """Insert the findings of one file in batches, and count them. Records that cannot be used are noted."""
    make, header, count = reader(source.kind), source.header, 0
    batch: list[Found] = []
    kept: list[Any] = []
    places: Counter[str] = Counter()
    taken.numbers.listed = []
    for name, record in records(path, source.kind, header, source.unusable):
        places[name] += 1
        if make is None:
            kept.append(record)  # the run summary: a handful of detectors
        elif name == numbers.LIST:
            taken.numbers.listed.append(record)
        elif name == "group_details":
            header.setdefault(name, []).append(record)  # whether the report has them as records or as one key
        else:
            try:
                batch += filter(None, [make(name, record)])
            except Wrong as error:
                source.unusable.note(f"record {places[name]} of {name!r}: {error}")
        if len(batch) >= BATCH:
            count += _insert(db, source.kind, batch, taken)
            batch.clear()
    count += _insert(db, source.kind, batch, taken)
    if make is None:
        header["detectors"] = kept
    return count


def _insert(db: sqlite3.Connection, kind: Kind, batch: list[Found], taken: Taken) -> int:
    word, picture, texts = taken.numbers.words.number, taken.numbers.picture, taken.numbers.texts
    rows = []
    for one in batch:
        for place, row in enumerate(one.rows):
            about = picture(row.hash), picture(row.other), word(row.tag)
            space = word("" if row.action == store.PAIR else tags.namespace(row.tag))
            sure = int(row.confidence * counts.SCALE + 1e-3)  # cut, so that none rises above a bound
            # what the detector alone said, where the owner's decisions moved it
            alone = float(said) if isinstance(said := row.evidence.get(BEFORE_VERDICTS), (int, float)) else None
            text = texts.number(row.why, plain_text(taken.numbers.evidence(row.evidence)))
            named = store.entry_number(one.id), word(kind.name), word(one.issue)
            rows.append((*named, *about, space, ACTIONS.index(row.action), place, sure, alone, text, one.differs))
            taken.wanted.update(filter(None, (row.hash, row.other)))
            if isinstance(offered := row.evidence.get("batches"), list):
                names = [(name, row.hash, row.tag, row.action) for name in offered if is_text(name)]
                db.executemany("INSERT OR IGNORE INTO new_batches VALUES (?, ?, ?, ?)", names)
    db.executemany("INSERT INTO said VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return len(batch)


def _insert_copies(db: sqlite3.Connection, details: Any) -> None:
    """Keep which copy of each group the report calls the best, and why, for every picture of the group."""
    for group in details if isinstance(details, list) else ():
        with suppress(Wrong):
            GROUP(group)
            said = group.get("reasons")
            reasons = "; ".join(one for one in said if is_text(one) and one) if isinstance(said, list) else ""
            rows = [(hash, group["best_copy"], reasons, len(group["hashes"])) for hash in group["hashes"]]
            db.executemany("INSERT OR REPLACE INTO new_copies VALUES (?, ?, ?, ?)", rows)


def _note_grown(db: sqlite3.Connection) -> None:
    """Mark what was ignored and has become surer since by `CHANGED` or more: it stays ignored, and says so."""
    then = f"decisions d JOIN suggested s ON {named_by('d', 's')} WHERE d.state = '{store.IGNORED}' AND d.confidence NOTNULL"
    grown = f"s.current AND coalesce(s.alone, s.sure / {counts.SCALE}) >= {store.CHANGED} + d.confidence"
    found = f"SELECT s.id, {grown} AS grown FROM {then}"
    db.execute(f"UPDATE suggested SET changed = f.grown FROM ({found}) f WHERE f.id = suggested.id")


def _note_choices(db: sqlite3.Connection) -> None:
    """Note what the filters offer: the namespaces, the library's pages and series, the batches."""
    choices = {
        "namespaces": "SELECT name FROM words WHERE name != '' AND id IN (SELECT space FROM suggested) ORDER BY name",
        "pages": "SELECT name FROM words WHERE id IN (SELECT page FROM picture_pages) ORDER BY name",
        "series": "SELECT name FROM words WHERE id IN (SELECT series FROM picture_series) ORDER BY name",
        "batches": "SELECT name FROM batches GROUP BY name ORDER BY count(*) DESC, name",
    }
    for name, query in choices.items():
        row = (f"choices_{name}", plain_text([row[0] for row in db.execute(query)]))
        db.execute("INSERT OR REPLACE INTO review_meta VALUES (?, ?)", row)


def _runs(db: sqlite3.Connection, kind: Kind, path: Path, header: dict[str, Any]) -> list[tuple[Any, ...]]:
    """This report's summary, and those of the older ones still there, for the trend over runs."""
    known = {row[0] for row in db.execute("SELECT name FROM runs WHERE kind = ?", (kind.name,))}
    found = [(path.name, header)]
    for other in path.parent.glob(f"{kind.prefix}_*.json"):
        if stamp_of(other) and other.name not in known | {path.name}:
            with suppress(BadFile, MissingInput):  # an old report that cannot be read has no point in the trend
                found.append((other.name, head(other, kind)))
    return [
        (kind.name, name, _created(one, name), plain_text(one["summary"]))
        for name, one in found
        if isinstance(one.get("summary"), dict)
    ]


def _take_pictures(db: sqlite3.Connection, path: Path, source: Source, examined: bytes | None, taken: Taken) -> None:
    """Read the records of pictures that findings are about or that wait, their pages, series and pixels."""
    numbered = "SELECT picture FROM suggested UNION SELECT partner FROM suggested"
    known = db.execute(f"SELECT {hash_of('s.picture')} FROM ({numbered}) s")
    wanted = taken.wanted | {row[0] for row in known}
    decided = frozenset(row[0] for row in db.execute(following.pixels_decided(db)))
    done = {examined[at : at + 32] for at in range(0, len(examined), 32)} if examined else set()
    used, waiting = Counter[str](), 0
    for place, record in dataset.rows(path, source.header, source.unusable):
        if not place:
            continue
        hash, source.count = record["hash"], place
        used.update(record["existing_all_tags"])
        same = dataset.pixels_of(record)
        if same or record.get("status", "ok") == "ok":
            db.execute("INSERT OR REPLACE INTO here VALUES (?, ?)", (hash, same))
        if hash in wanted or same in decided:
            _insert_picture(db, record, taken.numbers)
        elif examined is not None and waiting < WAITING and bytes.fromhex(hash) not in done:
            waiting += 1
            kept = taken.numbers.text(record)
            db.execute("INSERT OR REPLACE INTO waiting VALUES (?, NULL, ?)", (taken.numbers.picture(hash), kept))
    db.executemany("INSERT INTO new_library_tags VALUES (?, ?)", used.items())


def _put_pictures(db: sqlite3.Connection, taken: Taken) -> dict[str, list[str]]:
    """Put new records in the place of the old; gives pictures decided on and gone, with those of the same pixels."""
    pixels = following.note_pixels(db)
    about = (
        "picture IN (SELECT picture FROM suggested UNION SELECT partner FROM suggested)"
        f" OR {hash_of('picture')} IN (SELECT hash FROM here WHERE pixels IN (SELECT pixels FROM pixels))"
    )
    for name in OF_PICTURES:
        db.execute(f"DELETE FROM {name}")
        db.execute(f"INSERT INTO {name} SELECT * FROM new_{name} WHERE {about}")
    db.execute("INSERT OR IGNORE INTO records SELECT * FROM waiting")
    db.execute("DELETE FROM library_tags")
    db.execute("INSERT INTO library_tags SELECT * FROM new_library_tags")
    if not any((name, problem) == (DATASET.name, None) for name, *_, problem in taken.sources):
        return {}  # there is no dataset that can be read
    known = "hash IN (SELECT hash FROM pixels) OR pixels IN (SELECT pixels FROM pixels)"
    return following.heirs(pixels, dict(db.execute(f"SELECT hash, pixels FROM here WHERE {known}").fetchall()))


def _insert_picture(db: sqlite3.Connection, record: dict[str, Any], numbers: Numbers) -> None:
    picture, number = numbers.picture(record["hash"]), numbers.words.number
    row = (picture, record.get("time_imported"), numbers.text(record))
    db.execute("INSERT OR REPLACE INTO new_records VALUES (?, ?, ?)", row)
    paths = (" / ".join(page) if isinstance(page, list) else page for page in record.get("pages") or ())
    pages = {path.encode("utf-8", "replace").decode() for path in paths}  # of what is not UTF-8 with question marks
    for table, names in (("pages", pages), ("series", record.get("existing_series_tags") or ())):
        rows = [(number(name), picture) for name in names]
        db.executemany(f"INSERT OR IGNORE INTO new_picture_{table} VALUES (?, ?)", rows)
