"""The errors that a person can do something about, each with the exit code it ends a script with.

A message says what, where, and the way out, in one line: ``No embeddings found: none in advanced_embeddings/: run
advanced_joytag_processing.py first``. They are raised where most is known and caught once, in `tagcheck.script.run`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tagcheck.plural import plural


class ToolError(Exception):
    """Something stopped a script and a person can fix it. The base of the family; exit code 1."""

    exit_code = 1

    def __str__(self) -> str:
        """The message in one line, whatever a file's names and texts put into it."""
        return " ".join(super().__str__().splitlines())


class UsageError(ToolError):
    """An option has a value that cannot be meant."""

    exit_code = 2


class MissingInput(ToolError):
    """What an earlier stage, or the owner, has to provide is not there."""

    exit_code = 3


class BadFile(ToolError):
    """A file is there and is not what it says: damaged, of another kind, of another model."""

    exit_code = 4


def short(error: BaseException, most: int = 160) -> str:
    """What a library's error says, in one line of `most` characters; its kind where it says nothing. Of the system's, the words.

    >>> short(ValueError("no   such\\nthing")), short(ValueError()), short(OSError(5, "Input/output error", "a.mp4"))
    ('no such thing', 'ValueError', 'Input/output error')
    """
    said = getattr(error, "strerror", None) or error
    return " ".join(str(said).split())[:most] or type(error).__name__


@contextmanager
def told_as(words: str) -> Iterator[None]:
    """Begin messages about missing or wrong files with these words, for people who search for them."""
    try:
        yield
    except (MissingInput, BadFile) as error:
        raise type(error)(f"{words}: {error}") from None


class Cancelled(ToolError):
    """The owner pressed cancel somewhere else than at the keyboard that started this."""

    exit_code = 130

    def __init__(
        self, message: str = "cancelled in Hydrus; what was finished is kept, run the same command again to continue"
    ) -> None:
        super().__init__(message)


class LibraryError(ToolError):
    """The library could not do what was asked of it."""

    exit_code = 5


class LibraryUnreachable(LibraryError):
    """Nobody answers at the library's address, or no longer. Worth another try later."""


class LibraryRefused(LibraryError):
    """The library answered, and said no: a wrong key, a missing permission, an unknown page."""


class WritesRefused(LibraryRefused):
    """Some writes could not be carried out, the others were. `reasons` says why, by the picture's hash."""

    def __init__(self, reasons: dict[str, str]) -> None:
        first = next(iter(reasons.values()))
        super().__init__(first if len(reasons) == 1 else f"{first} (and {plural(len(reasons) - 1, 'more picture')})")
        self.reasons = reasons


class FileUnavailable(LibraryError):
    """One file's bytes cannot be read: a row of `status` "missing" or "unreadable", and not the end of a run."""

    def __init__(self, message: str, status: str = "missing") -> None:
        super().__init__(message)
        self.status = status
