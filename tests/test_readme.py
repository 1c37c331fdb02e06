"""The README says what is there: every folder of code is on the map, every command its script, every link its target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
MAP = re.search(r"## Core Components\n.*?```text\n(.*?)```", README, re.S)[1]
FOLDERS = sorted({path.relative_to(PROJECT).parts[0] for path in PROJECT.glob("*/*.py")} - {"demo"})
ARCHITECTURE = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")


def mapped() -> list[str]:
    """The files and folders on the map."""
    return [line.split()[0] for line in MAP.splitlines() if line.strip()]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_of_code_is_on_the_map(folder):
    assert f"{folder}/" in mapped()


def test_nothing_is_on_the_map_that_is_not_there():
    assert [name for name in mapped() if not list(PROJECT.glob(name.rstrip("/")))] == []


def test_every_wing_has_its_row_in_the_architecture():
    wings = {path.parent.name for path in PROJECT.glob("tagcheck/*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", ARCHITECTURE, re.M)) == wings


def test_the_commands_name_scripts_and_options_that_exist():
    commands = re.findall(r"^\s*python ([\w/]+\.py)([^#\n]*)", README, re.M)
    assert commands
    for script, options in commands:
        text = (PROJECT / script).read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z-]+", options):
            shared = (PROJECT / "tagcheck" / "script.py").read_text(encoding="utf-8")
            assert f'"{option}"' in text + shared, f"{script} has no {option}"


def test_links_to_files_lead_somewhere():
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert links and [link for link in links if not (PROJECT / link).exists()] == []
