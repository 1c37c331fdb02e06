"""The forms a sidecar can have, by the ending of its name, and the one way to take any of them apart."""

from collections.abc import Mapping
from dataclasses import dataclass

from tagcheck.library.folder import sidecar_json, sidecar_text, sidecar_xmp
from tagcheck.library.folder.sidecar_json import NoTags
from tagcheck.library.folder.sidecar_text import AnySidecar, Reading

TEXT = (".txt", ".caption")
ENDINGS = (*TEXT, ".json", ".xmp")  # in the order in which a new tag goes to the first that is there
RECORD = "record"  # of a table that holds the captions of many pictures
FAMILY = {".txt": "text", ".caption": "text", ".json": "json", ".xmp": "xmp", RECORD: "text"}


@dataclass(frozen=True)
class Target:
    """Where a picture's tags are: a file, or record `key` of a table; `own` when no other picture has it too."""

    path: str
    form: str
    own: bool = True
    key: str | None = None


@dataclass(frozen=True)
class Readings:
    """How the text forms of one library are read, and which of them hold sentences and are left alone."""

    by_form: Mapping[str, Reading]
    prose: frozenset[str] = frozenset()

    def of(self, form: str) -> Reading:
        """How one form is read; with commas and lines where nothing is known."""
        return self.by_form.get(form, Reading())


def decode(form: str, data: bytes, readings: Readings, empty: bool = False) -> AnySidecar:
    """Take a sidecar apart. Raises `NotASidecar` for what is damaged, `NoTags` for what holds something else than tags;
    with `empty`, what could hold tags and has none is taken too.
    """
    if form == ".json":
        return sidecar_json.decode(data, reading=readings.by_form.get(form, sidecar_json.BLANKS))
    if form == RECORD:
        return sidecar_json.decode(data, table=True, captions=form not in readings.prose or empty)
    if form == ".xmp":
        return sidecar_xmp.decode(data, empty)
    if form in readings.prose and not empty:
        raise NoTags("holds sentences")
    return sidecar_text.decode(data, readings.of(form))


def largest(form: str) -> int:
    return sidecar_json.LARGEST if form in (".json", RECORD) else sidecar_text.LARGEST
