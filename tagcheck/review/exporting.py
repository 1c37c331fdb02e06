"""Suggestions as files for other programs: CSV, JSON, and what FiftyOne and Label Studio import.

Both of these want one entry a picture, and name a picture by its path. A Hydrus library does not tell paths; there a
picture is named as it lies in the client's `client_files`.
"""

import csv
import io
import json
import mimetypes
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from tagcheck.review import numbers, queries
from tagcheck.review.store import ADD, LIKELY_FROM, PAIR, REMOVE, Review

COLUMNS = ("finding", "issue", "state", "hash", "other", "action", "tag", "confidence", "percent", "why")
# A cell that starts like a formula is one to a spreadsheet, and tags are anybody's words. Spreadsheets pass over blanks,
# control characters and invisible ones, and take the full-width forms for the others.
FORMULA = re.compile(
    r"[\x00-\x20\x7f-\xa0\xad\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]|[\t\r\n]"
)
PIECE = 60_000  # characters sent at a time
Rows = Iterable[Mapping[str, Any]]


def rows(review: Review, view: queries.Filter, by_picture: bool = False) -> Iterator[dict[str, Any]]:
    """The suggestions of a view, those of a picture together where it is asked for."""
    for row in queries.suggestions(review, view, by_picture):
        made = {name: row[name] for name in COLUMNS if name != "percent"}
        yield made | {"percent": percent(row["confidence"]), "evidence": numbers.named(review.db, [row["evidence"]])[0]}


def percent(share: float) -> str:
    """A share in whole percent. Nothing here is ever certain: at most 99 %, and what is possible is not 0 %.

    >>> percent(0.83), percent(0.972), percent(0.9999), percent(1.0), percent(0.001), percent(0.0)
    ('83 %', '97 %', '99 %', '99 %', 'under 1 %', '0 %')
    """
    return "under 1 %" if 0 < share < 0.01 else f"{min(round(share * 100), 99)} %"


def as_csv(columns: Sequence[str], found: Rows) -> Iterator[str]:
    """A line of names and a line a row.

    >>> "".join(as_csv(["tag", "open"], [{"tag": "=1+1", "open": -3}, {"tag": "a,b", "open": None}])).splitlines()
    ['tag,open', "'=1+1,-3", '"a,b",']
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in found:
        # A quote goes before what some spreadsheet takes for a formula, also behind blanks and control characters.
        cells = (row[name] for name in columns)
        writer.writerow([f"'{one}" if isinstance(one, str) and FORMULA.match(one) else one for one in cells])
        if out.tell() > PIECE:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def as_json(found: Rows) -> Iterator[str]:
    """A list, a row a line.

    >>> "".join(as_json([{"tag": "hat"}]))
    '[\\n{"tag": "hat"}\\n]\\n'
    """
    yield "["
    for place, row in enumerate(found):
        yield (",\n" if place else "\n") + json.dumps(row, ensure_ascii=False)
    yield "\n]\n"


def as_fiftyone(review: Review, found: Rows) -> Iterator[str]:
    """`labels.json` of a `FiftyOneImageClassificationDataset`: classifications with confidence for each picture."""
    yield '{"classes": null, "labels": {'
    for place, (hash, some) in enumerate(groupby(found, key=lambda row: row["hash"])):
        path, kept = _path(review, hash)
        labels = []
        for row in some:
            about = {"action": row["action"], "issue": row["issue"], "why": row["why"], "state": row["state"]}
            if row["other"]:
                about["other"] = row["other"]
            label = row["tag"] or row["issue"]
            labels.append({"label": label, "confidence": row["confidence"], "attributes": about})
        name = path or kept.rpartition(".")[0]
        between = ",\n" if place else "\n"
        yield f"{between}{json.dumps(name, ensure_ascii=False)}: {json.dumps(labels, ensure_ascii=False)}"
    yield "\n}}\n"


def label_studio_tasks(review: Review, found: Rows) -> Iterator[dict[str, Any]]:
    """Tasks with predictions: for each picture the tags to add and to remove as choices, the likely ones ticked."""
    about_tags = (row for row in found if row["action"] != PAIR)
    for hash, some in groupby(about_tags, key=lambda row: row["hash"]):
        mine = list(some)
        path, kept = _path(review, hash)
        image = "/data/local-files/?d=" + quote(PurePath(path).as_posix().lstrip("/") if path else kept)
        data: dict[str, Any] = {"image": image, "hash": hash}
        result = []
        for action in (ADD, REMOVE):
            asked = [row for row in mine if row["action"] == action]
            data[action] = [
                {"value": row["tag"], "html": _escaped(f"{row['tag']} ({row['percent']}): {row['why']}")}
                for row in asked
            ]
            ticked = [row for row in asked if row["confidence"] >= LIKELY_FROM]
            if ticked:
                choices = {"choices": [row["tag"] for row in ticked]}
                about = {"from_name": action, "to_name": "image", "type": "choices", "value": choices}
                result.append({"id": f"{hash[:10]}-{action}", "score": _sure(ticked), **about})
        predictions = [{"model_version": "tagcheck", "score": _sure(mine), "result": result}]
        yield {"data": data, "predictions": predictions}


def _sure(some: Sequence[Mapping[str, Any]]) -> float:
    return max(float(row["confidence"]) for row in some)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _path(review: Review, hash: str) -> tuple[str, str]:
    """(the picture's path, "" where the library does not tell it; its name in a client's `client_files`)."""
    record = queries.picture(review, hash) or {}
    ending = mimetypes.guess_extension(str(record.get("mime") or "")) or ".jpg"
    return str(record.get("file_path") or ""), f"f{hash[:2]}/{hash}{ending}"


# Each kind: what its files' names end with, and the text of a view, in pieces.
KINDS: dict[str, tuple[str, Callable[[Review, queries.Filter], Iterator[str]]]] = {
    "csv": ("csv", lambda review, view: as_csv(COLUMNS, rows(review, view))),
    "json": ("json", lambda review, view: as_json(rows(review, view))),
    "fiftyone": ("fiftyone.json", lambda review, view: as_fiftyone(review, rows(review, view, True))),
    "labelstudio": (
        "labelstudio.json",
        lambda review, view: as_json(label_studio_tasks(review, rows(review, view, True))),
    ),
}
