"""The README says what is there: every file of code has its line on the map, every command its script, every link its target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
MAP = re.search(r"## The tree\n.*?```text\n(.*?)```", README, re.S)[1]
CODE = sorted(
    path.relative_to(PROJECT).as_posix()
    for pattern in (
        "*.py",
        "joytag/*.py",
        "tagcheck/*.py",
        "tagcheck/*.c",
        "webapp/*.py",
        "sample/*.py",
        "benchmarks/*.py",
    )
    for path in PROJECT.glob(pattern)
    if path.name != "__init__.py"
)


def mapped() -> list[str]:
    """The paths on the map: a line that begins with a path, those below a folder's line indented."""
    paths, folder = [], ""
    for line in MAP.splitlines():
        name = line.split()[0] if line.strip() else ""
        if name.endswith("/"):
            folder = name
        elif name:
            paths.append((folder if line.startswith(" ") else "") + name)
    return paths


@pytest.mark.parametrize("path", CODE)
def test_every_file_of_code_is_on_the_map(path):
    assert path in mapped()


def test_nothing_is_on_the_map_that_is_not_there():
    assert [path for path in mapped() if not (PROJECT / path).exists()] == []


def test_the_commands_name_scripts_and_options_that_exist():
    commands = re.findall(r"^\s*python ([\w/]+\.py)([^#\n]*)", README, re.M)
    assert commands
    for script, options in commands:
        text = (PROJECT / script).read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z-]+", options):
            shared = (PROJECT / "tagcheck" / "cli.py").read_text(encoding="utf-8")
            assert f'"{option}"' in text + shared, f"{script} has no {option}"


def test_links_to_files_lead_somewhere():
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert links and [link for link in links if not (PROJECT / link).exists()] == []
