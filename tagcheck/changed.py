"""What has changed since the last run of the detectors: pictures, tags, embeddings, decisions, settings."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from tagcheck import data_folder, dataset
from tagcheck.data_folder import DATASET, RUN_SUMMARY, DataFolder, Kind
from tagcheck.detectors import DETECTORS, Detector
from tagcheck.errors import BadFile, MissingInput
from tagcheck.files import remove, write_json
from tagcheck.plural import plural

KEEP_SECONDS = 300.0  # of a run that looks at pictures, at most, are lost by a kill
OWN_FILES = ("tag_rules.json", "tag_map.json", "tag_map.csv")


@dataclass(frozen=True)
class Last:
    """The last run of all detectors: when, on which dataset, what it `rests_on`, and the report of each script."""

    created: str
    dataset: str
    rests_on: Mapping[str, str]
    reports: Mapping[str, str]
    whole: bool


@dataclass(frozen=True)
class Changed:
    """How many pictures are new, have changed (their tags or state) or are gone since, and what else is other than it was."""

    new: int
    other: int
    gone: int
    beside: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.new or self.other or self.gone or self.beside)

    def __str__(self) -> str:
        new = plural(self.new, "picture is new", "pictures are new")
        counts = f"{new}, {plural(self.other, 'has', 'have')} changed, {plural(self.gone, 'is', 'are')} gone"
        return "; ".join([counts, *(f"{name} changed" for name in self.beside)])


def last_run(folder: DataFolder) -> Last | None:
    """The newest run, None where there is none or its summary cannot be read."""
    path = folder.newest(RUN_SUMMARY)
    if path is None:
        return None
    with suppress(BadFile, MissingInput, KeyError, TypeError, AttributeError):
        read = data_folder.load(path, RUN_SUMMARY)
        rows = read["detectors"]
        reports = {row["script"]: row["report"] for row in rows if row.get("report")}
        there = all((folder.root / "reports" / name).is_file() for name in reports.values())
        whole = there and all(row["exit_code"] == 0 for row in rows)
        return Last(read["created"], read["dataset"], dict(read.get("rests_on") or {}), reports, whole)
    return None


def rests_on(folder: DataFolder, decided: Iterable[Any], settings: Mapping[str, Any], program: Path) -> dict[str, str]:
    """A digest of each kind of thing, beside the dataset, that the detectors' reports rest on."""
    kept = (*folder.embeddings.rglob("*.pt"), folder.embeddings / "same_picture.json", *folder.classifier.glob("*"))
    return {
        "the embeddings or what was learned from them": _digest(_stamps(kept)),
        "your rules or your map of tags": _digest(_stamps(folder.root / name for name in OWN_FILES)),
        "your decisions": _digest(sorted(map(repr, decided))),
        "the program": program_as_of_now(program),
        "the settings": _digest(f"{name} {value!r}" for name, value in sorted(settings.items())),
    }


def program_as_of_now(root: Path) -> str:
    """A digest of the program's files and of the owner's own detectors: an update looks at everything again."""
    own = (Path(one.script) for one in DETECTORS)
    return _digest(_stamps((*root.glob("*.py"), *(root / "tagcheck").rglob("*.py"), *own)))


def method(wings: Iterable[str], files: Iterable[Path], *values: Any) -> str:
    """A digest of what makes void all that some `wings` of the program learned: themselves, `files` and `values`."""
    made, here = hashlib.sha256(), Path(__file__).resolve().parent
    for path in (*(one for wing in wings for one in sorted((here / wing).glob("*.py"))), *files):
        made.update(path.read_bytes() if path.is_file() else b"")
    made.update(repr([_in_order(one) for one in values]).encode())
    return made.hexdigest()


def _in_order(value: Any) -> Any:
    """Sets and mappings as sorted lists, so that equal ones read alike."""
    if isinstance(value, Mapping):
        return sorted((key, _in_order(one)) for key, one in value.items())
    return sorted(value) if isinstance(value, (set, frozenset)) else value


def carried_over(
    folder: DataFolder, report: Kind, now: Path, settings: Mapping[str, Any]
) -> tuple[set[str], list[dict[str, Any]]]:
    """(the pictures of the dataset `now` that the newest report of this kind, or a later run that was interrupted, looked at with
    these settings and that are as they were then, the entries about them): what is told of a picture by itself need not be looked
    for again.
    """
    for path in filter(None, (_so_far(folder, report), folder.newest(report))):
        with suppress(BadFile, MissingInput, KeyError, TypeError):
            if (read := data_folder.load(path, report))["settings"] == settings:
                old, new = _pictures(folder, folder.root / DATASET.folder / read["dataset"]), _pictures(folder, now)
                looked_at = set(read.get("looked_at", old))
                same = {hash for hash, digest in new.items() if hash in looked_at and hash and old.get(hash) == digest}
                return same, [one for one in read.get("errors", []) if one["hash"] in same]
    return set(), []


@contextmanager
def kept_so_far(
    folder: DataFolder, report: Kind, document: Mapping[str, Any], known: Iterable[str], errors: list[dict[str, Any]]
) -> Iterator[Callable[[str, dict[str, Any] | None], None]]:
    """While a report is made: what is yielded takes the hash of each picture that was looked at and what was found on it, which
    goes to `errors`. Every few minutes, and however the block ends early, all of it is kept for `carried_over`.
    """
    looked_at, path, kept = [*known], _so_far(folder, report), time.monotonic()

    def keep() -> None:
        nonlocal kept
        head = {"kind": report.name, "version": report.version, "created": data_folder.isoformat(data_folder.utc_now())}
        write_json(path, {**head, **document, "looked_at": looked_at, "errors": errors}, report.records)
        kept = time.monotonic()

    def take(hash: str, found: dict[str, Any] | None) -> None:
        looked_at.append(hash)
        errors.extend([found] if found else [])
        if time.monotonic() - kept > KEEP_SECONDS:
            keep()

    try:
        yield take
    except BaseException:
        keep()
        raise
    remove(path)


def _so_far(folder: DataFolder, report: Kind) -> Path:
    return folder.root / report.folder / f"{report.prefix}_so_far.json"


def since(folder: DataFolder, last: Last, now: Path, rests: Mapping[str, str]) -> Changed | None:
    """What has changed since that run; None where its dataset cannot be read any more, so that nothing can be told."""
    before = folder.root / DATASET.folder / last.dataset
    try:
        old, new = _pictures(folder, before), _pictures(folder, now)
    except (BadFile, MissingInput):
        return None
    other = sum(old[hash] != digest for hash, digest in new.items() if hash in old and hash)
    beside = [name for name in rests if rests[name] != last.rests_on.get(name)]
    beside += ["what the library says of its tags"] if old.get("") != new.get("") else []
    return Changed(len(new.keys() - old.keys()), other, len(old.keys() - new.keys()), tuple(beside))


def new_findings(folder: DataFolder, detector: Detector, before: str | None, report: str) -> int:
    """How many of a report's findings were not in the one `before`."""
    old = set(_finding_ids(folder.root / "reports" / before, detector)) if before and before != report else set()
    return sum(id not in old for id in _finding_ids(folder.root / "reports" / report, detector))


def _finding_ids(path: Path, detector: Detector) -> Iterator[str]:
    with suppress(BadFile, MissingInput):
        for _, record in data_folder.records(path, detector.report, {}):
            if isinstance(record, dict) and isinstance(record.get("id"), str):
                yield record["id"]


def _pictures(folder: DataFolder, path: Path) -> dict[str, str]:
    """A digest of what is known of each picture, by its hash; "" stands for the dataset's header."""
    read = dataset.load(folder, path, tell=lambda line: None)
    found = {}
    for one in read.records:
        about = (one.status, repr(one.raw.get("reason")), repr(one.raw.get("damaged")))
        tags = (*sorted(one.tags), "-", *sorted(one.deleted_tags), "-", *sorted(one.implied_tags))
        found[one.hash] = _digest([*about, PurePath(str(one.raw.get("file_path") or "")).suffix, *tags])
    judged = repr(sorted(read.judged.items()))
    return found | {"": _digest([repr(read.model), repr(read.header.get("tag_relations")), judged])}


def _stamps(paths: Iterable[Path]) -> Iterator[str]:
    for path in sorted(paths):
        with suppress(FileNotFoundError):
            about = path.stat()
            yield f"{path.parent.name}/{path.name} {about.st_size} {about.st_mtime_ns}"


def _digest(lines: Iterable[str]) -> str:
    made = hashlib.sha256()
    for line in lines:
        made.update(f"{line}\n".encode())
    return made.hexdigest()[:16]
