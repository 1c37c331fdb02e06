"""Run the tests that docs/reliability.md names, and write into its table what each tried and how much of it failed.

    python tests/reliability_table.py
    FAULTS=all FUZZ_EXAMPLES=5000 python tests/reliability_table.py -n 2 tests/faults tests/fuzz

Options are pytest's. With folders or files, only the rows of their tests are run and written; the others keep their numbers.
A case is what a test counts (a point of a write, a hostile file, an attack), else one run of it. Ends with 1 if anything failed.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs/reliability.md"
ROW = re.compile(r"^\| (?P<what>.+?) \| `(?P<test>tests/[\w/]+\.py::\w+)` \|.*$", re.MULTILINE)


class Counts:
    """A plugin: cases tried and failed, by test without its parameters."""

    def __init__(self) -> None:
        self.tried, self.failed = Counter[str](), Counter[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one test's end, or that it could not begin."""
        name = report.nodeid.partition("[")[0]
        if report.when == "call" and not report.skipped:
            self.tried[name] += dict(report.user_properties).get("tried", 1)
        self.failed[name] += report.failed


def written(page: str, tried: Counter[str], failed: Counter[str], today: str) -> str:
    """The page with the numbers of the rows whose tests ran."""

    def row(found: re.Match[str]) -> str:
        test = found["test"]
        if not tried[test] and not failed[test]:
            return found[0]
        return f"| {found['what']} | `{test}` | {tried[test]:,} | {failed[test]} | {today} |"

    return ROW.sub(row, page)


def main(argv: list[str]) -> int:
    asked = [one for one in argv if (PROJECT / one).exists()]
    named = [found["test"] for found in ROW.finditer(PAGE.read_text(encoding="utf-8"))]
    tests = [one for one in named if not asked or one.startswith(tuple(asked))]
    counts = Counts()
    code = pytest.main(
        [*(one for one in argv if one not in asked), "--rootdir", str(PROJECT), *(str(PROJECT / one) for one in tests)],
        plugins=[counts],
    )
    page = written(PAGE.read_text(encoding="utf-8"), counts.tried, counts.failed, f"{datetime.now(UTC):%Y-%m-%d}")
    PAGE.write_text(page, encoding="utf-8", newline="\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
