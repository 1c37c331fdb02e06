"""What a view shows, as CSV for spreadsheets and as JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flask import Response, abort

# A cell that starts like a formula is one to a spreadsheet, and tags are anybody's words. Spreadsheets pass over blanks,
# control characters and invisible ones, and take the full-width forms for the others.
FORMULA = re.compile(
    r"[\x00-\x20\x7f-\xa0\xad\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]|[\t\r\n]"
)
PIECE = 60_000  # characters sent at a time
KINDS = ("csv", "json")


def answer(kind: str, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Response:
    """The rows as a file to keep, named after what it holds and the time. JSON rows keep what they hold beyond `columns`."""
    if kind not in KINDS:
        abort(404, "There is an export as CSV and one as JSON.")
    lines = as_csv(columns, rows) if kind == "csv" else as_json(rows)
    response = Response(lines, mimetype="text/csv; charset=utf-8" if kind == "csv" else "application/json")
    response.headers["Content-Disposition"] = f"attachment; filename={name}_{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{kind}"
    return response


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A line of names and a line a row.

    >>> "".join(as_csv(["tag", "open"], [{"tag": "=1+1", "open": -3}, {"tag": "a,b", "open": None}])).splitlines()
    ['tag,open', "'=1+1,-3", '"a,b",']
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
        if out.tell() > PIECE:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def as_json(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A list, a row a line."""
    yield "["
    for place, row in enumerate(rows):
        yield (",\n" if place else "\n") + json.dumps(row, ensure_ascii=False)
    yield "\n]\n"


def _cell(value: Any) -> Any:
    """A cell as it is; with a quote before what some spreadsheet takes for a formula, also behind blanks and control characters."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value
