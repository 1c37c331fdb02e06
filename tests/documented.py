"""The commands and JSON samples of a page of the documentation, to be run and read as a newcomer would."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import warm

PROJECT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """What stands in a page's fenced blocks of one language, in order."""
    return [body for said, body in FENCE.findall((PROJECT / page).read_text(encoding="utf-8")) if said == language]


def commands(page: str) -> list[str]:
    """The page's commands that run the project, a line each."""
    lines = [line for body in blocks(page, "bash") for line in body.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("python ")]


def samples(page: str) -> list[Any]:
    """The page's JSON samples. Raises ValueError for one that is no JSON."""
    return [json.loads(body) for body in blocks(page, "json")]


def run(command: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A command as it stands, in the project's root, with another home for its `~`."""
    path = f"{Path(warm.python()).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=PROJECT,
        env={**os.environ, "HOME": str(home), "PATH": path, **env},
    )
