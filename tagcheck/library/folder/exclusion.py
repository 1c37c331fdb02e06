"""Which files and folders of a library are left out: patterns as in a `.gitignore`, for masks and the like."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FILE = ".tagcheckignore"


@dataclass(frozen=True)
class Rule:
    """One pattern, for what lies below the folder `base` ("" or "a/b/"). `keep`: what it matches is taken in again."""

    base: str
    pattern: re.Pattern[str]
    folders_only: bool
    keep: bool


def rules(lines: Iterable[str], base: str = "") -> list[Rule]:
    """The rules that lines state. A pattern without a slash matches names at any depth, one with a slash paths from
    `base`; `**` any folders; a slash at its end folders alone; `!` in front takes in again; `#` begins a comment.
    """
    found = []
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        keep = text.startswith("!")
        text = text.removeprefix("!").replace("\\", "/")
        folders_only = text.endswith("/")
        text = text.rstrip("/")
        anchored = "/" in text
        if text.strip("/"):
            body = _expression(text.lstrip("/"))
            found.append(Rule(base, re.compile(body if anchored else rf"(?:.*/)?{body}"), folders_only, keep))
    return found


def excluded(rules: Sequence[Rule], path: str, folder: bool) -> bool:
    """Whether the last rule that matches `path` (with slashes, from the library's root) leaves it out."""
    for rule in reversed(rules):
        if (
            path.startswith(rule.base)
            and (folder or not rule.folders_only)
            and rule.pattern.fullmatch(path[len(rule.base) :])
        ):
            return not rule.keep
    return False


def _expression(glob: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        known.get(part)
        or (part.replace("[!", "[^") if part.startswith("[") and part.endswith("]") else re.escape(part))
        for part in parts
    )
