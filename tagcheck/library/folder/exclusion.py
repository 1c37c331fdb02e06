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
    for line in filter(None, map(str.strip, lines)):
        text = line.removeprefix("!").replace("\\", "/")
        if text.strip("/") and not line.startswith("#"):
            body = _expression(text.strip("/"))
            pattern = body if "/" in text.rstrip("/") else rf"(?:.*/)?{body}"
            found.append(Rule(base, re.compile(pattern), text.endswith("/"), line.startswith("!")))
    return found


def excluded(rules: Sequence[Rule], path: str, folder: bool) -> bool:
    """Whether the last rule that matches `path` (with slashes, from the library's root) leaves it out.

    >>> excluded(rules(["[pixiv-fanbox]/"]), "[pixiv-fanbox]", folder=True)
    True
    """
    for rule in reversed(rules):
        inside = path.startswith(rule.base) and (folder or not rule.folders_only)
        if inside and rule.pattern.fullmatch(path[len(rule.base) :]):
            return not rule.keep
    return False


def _expression(glob: str) -> str:
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    texts, marks = (re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)[start::2] for start in (0, 1))
    expressions = [known.get(mark) or _one_of(mark) for mark in marks]
    return "".join(re.escape(text) + mark for text, mark in zip(texts, [*expressions, ""]))


def _one_of(mark: str) -> str:
    """The expression of characters in brackets; of a name in brackets that cannot be meant so (`[pixiv-fanbox]`), that name."""
    characters = mark.replace("[!", "[^")
    try:
        re.compile(characters)
    except re.error:
        return re.escape(mark)
    return characters
