"""Which files and folders of a library are left out: patterns as in a `.gitignore`, for masks and the like."""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FILE = ".tagcheckignore"
Part = re.Pattern[str] | None  # of a pattern: what one name has to match, None for any folders


@dataclass(frozen=True)
class Rule:
    """One pattern, for what lies below the folder `base` ("" or "a/b/"). `keep`: what it matches is taken in again."""

    base: str
    parts: Sequence[Part]
    folders_only: bool
    keep: bool

    def matches(self, names: Sequence[str]) -> bool:
        """Whether the names of a path fit. The places in it that are reached part by part are kept, so no pattern takes long."""
        places = {0}
        for part in self.parts:
            if part is None:
                places = set(range(min(places), len(names)))
            else:
                places = {place + 1 for place in places if place < len(names) and part.match(names[place])}
            if not places:
                return False
        return len(names) in places


def rules(lines: Iterable[str], base: str = "") -> list[Rule]:
    """The rules that lines state. A pattern without a slash matches names at any depth, one with a slash paths from
    `base`; `**` any folders; a slash at its end folders alone; `!` in front takes in again; `#` begins a comment.
    """
    found = []
    for line in filter(None, map(str.strip, lines)):
        text = line.removeprefix("!").replace("\\", "/")
        if text.strip("/") and not line.startswith("#"):
            names = text.strip("/").split("/")
            anywhere = [] if "/" in text.rstrip("/") else ["**"]
            last = ["*"] if names[-1] == "**" else []  # what lies in a folder, and not the folder
            found.append(
                Rule(base, [*map(_part, (*anywhere, *names, *last))], text.endswith("/"), line.startswith("!"))
            )
    return found


def excluded(rules: Sequence[Rule], path: str, folder: bool) -> bool:
    """Whether the last rule that matches `path` (with slashes, from the library's root) leaves it out.

    >>> excluded(rules(["[pixiv-fanbox]/"]), "[pixiv-fanbox]", folder=True)
    True
    """
    for rule in reversed(rules):
        inside = path.startswith(rule.base) and (folder or not rule.folders_only)
        if inside and rule.matches(path[len(rule.base) :].split("/")):
            return not rule.keep
    return False


def _part(name: str) -> Part:
    return None if name == "**" else re.compile(fnmatch.translate(re.sub(r"\[[^\]]+\]", _meant, name)))


def _meant(brackets: re.Match[str]) -> str:
    """Characters in brackets; a name in brackets that cannot be meant so (`[pixiv-fanbox]`) such that it means that name."""
    try:
        re.compile(brackets[0].replace("[!", "[^"))
    except re.error:
        return "[[]" + brackets[0][1:]
    return brackets[0]
