"""XMP sidecars: the keywords in them, and how one goes in or out of all lists with every other byte left as it is.

`dc:subject` holds plain keywords. digiKam, Lightroom and Windows also keep paths (`People/Alice`, `People|Alice`) in
lists of their own: the tag is the last part of a path.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from tagcheck.library.folder import sidecar_text
from tagcheck.library.folder.sidecar_json import NoTags
from tagcheck.library.folder.sidecar_text import AnySidecar, CannotEdit, Habit, Memory, NotASidecar
from tagcheck.library.folder.tag_names import name, seen

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
SUBJECT = f"{DC} subject"
KINDS = (f"{RDF} Bag", f"{RDF} Seq", f"{RDF} Alt")
LISTS = {  # property -> what stands between the parts of a path in it, "" for plain keywords
    SUBJECT: "",
    "http://www.digikam.org/ns/1.0/ TagsList": "/",
    "http://ns.adobe.com/lightroom/1.0/ hierarchicalSubject": "|",
    "http://ns.microsoft.com/photo/1.0/ LastKeywordXMP": "/",
    "http://ns.microsoft.com/photo/1.0/ LastKeywordIPTC": "/",
    "http://ns.iview-media.com/mediapro/1.0/ CatalogSets": "|",
}
NEW = (
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="{RDF}">\n  <rdf:Description rdf:about=""\n'
    f'    xmlns:dc="{DC}">\n   <dc:subject>\n    <rdf:Bag>\n    </rdf:Bag>\n   </dc:subject>\n  </rdf:Description>\n'
    " </rdf:RDF>\n</x:xmpmeta>\n"
).encode()


@dataclass
class Item:
    """One keyword: where its element begins and ends (bytes), and its text."""

    start: int
    end: int = 0
    text: str = ""


@dataclass
class Keywords:
    """One list of keywords: where the tag that opens it begins and ends, and where the one that closes it begins."""

    property: str
    start: int
    inner: int
    close: int = 0
    items: list[Item] = field(default_factory=list)

    def name(self, item: Item) -> str:
        """The tag that a keyword of this list means."""
        separator = LISTS[self.property]
        return name(item.text.split(separator)[-1] if separator else item.text)


class _Reader:
    """Follows the elements of a document and notes down the lists."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.path: list[str] = []
        self.lists: list[Keywords] = []
        self.open: list[Keywords] = []  # a keyword may hold a list itself
        self.description: tuple[int, int] | None = None
        self.parser: Any = expat.ParserCreate("UTF-8", " ")  # whatever it says that it is encoded in
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.StartDoctypeDeclHandler = self.refuse

    def read(self) -> _Reader:
        try:
            self.parser.Parse(self.data, True)
        except expat.ExpatError as error:
            raise NotASidecar(f"is not whole XML ({error})") from None
        return self

    def refuse(self, *_: object) -> None:
        raise NotASidecar("has a document type of its own, which no XMP has")

    def start(self, element: str, _: dict[str, str]) -> None:
        at = self.parser.CurrentByteIndex
        self.path.append(element)
        if element == f"{RDF} Description" and self.description is None:
            self.description = (at, self._tag_end(at))
        if self._opens_list():
            self.lists.append(Keywords(self.path[-2], at, self._tag_end(at)))
            self.open.append(self.lists[-1])
        elif self._in_item():
            self.open[-1].items.append(Item(at))

    def end(self, _: str) -> None:
        at = self.parser.CurrentByteIndex
        if self._opens_list():
            self.open.pop().close = at
        elif self._in_item():
            item = self.open[-1].items[-1]
            opened = self._tag_end(item.start)
            item.end = opened if self.data[:opened].endswith(b"/>") else self._tag_end(at)
        self.path.pop()

    def text(self, text: str) -> None:
        if self._in_item():
            self.open[-1].items[-1].text += text

    def _opens_list(self) -> bool:
        """Whether the element is the list of a property that holds keywords."""
        return len(self.path) > 1 and self.path[-1] in KINDS and self.path[-2] in LISTS

    def _in_item(self) -> bool:
        """Whether the element is an entry of such a list."""
        here = self.path[-3:]
        return len(here) == 3 and here[2] == f"{RDF} li" and here[1] in KINDS and here[0] in LISTS

    def _tag_end(self, at: int) -> int:
        """Behind the `>` of the tag at `at`; one within quotes does not count."""
        found = re.compile(rb"<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>").match(self.data, at)
        if found is None:
            raise NotASidecar("has a tag without an end")
        return found.end()


@dataclass(frozen=True)
class XmpSidecar(AnySidecar):
    """An XMP sidecar taken apart. `data` is UTF-8 without a byte-order mark; `bom` is the file's own."""

    data: bytes
    bom: bytes = b""

    @cached_property
    def _read(self) -> _Reader:
        return _Reader(self.data).read()

    @property
    def lists(self) -> list[Keywords]:
        """Its lists of keywords, in the file's order."""
        return self._read.lists

    @property
    def names(self) -> list[str]:
        ordered = sorted(self.lists, key=lambda one: LISTS[one.property])
        found = [one.name(item) for one in ordered for item in one.items]
        return [tag for tag in dict.fromkeys(found) if tag]

    @property
    def spellings(self) -> list[tuple[str, str]]:
        # a path is the spelling of a name with its separator before it
        found = [(LISTS[one.property], one.name(item), item.text) for one in self.lists for item in one.items]
        return [(separator + name, seen(text).strip()) for separator, name, text in found if name]

    def without(self, names: Collection[str], keep_marks: bool = False) -> XmpSidecar:
        data = self.data
        for one in reversed(self.lists):
            for place in reversed(range(len(one.items))):
                item = one.items[place]
                if one.name(item) in names:
                    start = one.items[place - 1].end if place else one.inner
                    data = data[:start] + data[item.end :]
        return replace(self, data=data)

    def with_tag(self, tag: str, habit: Habit, memory: Memory | None) -> XmpSidecar:
        data = self._with_subject()
        for number in reversed(range(len(_Reader(data).read().lists))):
            one = _Reader(data).read().lists[number]
            separator = LISTS[one.property]
            if separator and separator in tag:
                continue
            usual = next(filter(None, (some.of(separator + name(tag)) for some in habit.spellings)), None)
            raw = usual or (memory.raw if memory and not separator else sidecar_text.spelled(tag, habit))
            data = _with_item(data, one, raw, memory)
        return replace(self, data=data)

    def _with_subject(self) -> bytes:
        """The document with a `dc:subject`, where it has none."""
        if any(one.property == SUBJECT for one in self.lists):
            return self.data
        if self._read.description is None:
            raise CannotEdit("has no rdf:Description that keywords could stand in")
        start, end = self._read.description
        opened = self.data[start:end]
        prefix = opened[1:].split(b":")[0]
        bag = b"<%b:Bag>\n    </%b:Bag>" % (prefix, prefix)
        new = b'\n   <dc:subject xmlns:dc="%b">\n    %b\n   </dc:subject>' % (DC.encode(), bag)
        if opened.endswith(b"/>"):
            whole = opened[1:-2].split()[0]
            return self.data[: end - 2] + b">" + new + b"\n  </" + whole + b">" + self.data[end:]
        return self.data[:end] + new + self.data[end:]

    def memory(self, tag: str) -> Memory | None:
        for one in sorted(self.lists, key=lambda one: LISTS[one.property]):
            names = [one.name(item) for item in one.items]
            if tag in names:
                place = names.index(tag)
                raw = one.items[place].text.strip()
                last = raw.split(LISTS[one.property])[-1] if LISTS[one.property] else raw
                return Memory(last, tuple(reversed(names[:place])))
        return None

    def encode(self) -> bytes:
        return sidecar_text.encoded(self.data.decode("utf-8"), self.bom)


def decode(data: bytes, empty: bool = False) -> XmpSidecar:
    """Take an XMP sidecar apart. Raises `NotASidecar` for a damaged one, `NoTags` without keywords, unless `empty`."""
    text, bom = sidecar_text.text_of(data)
    sidecar = XmpSidecar(text.encode() if text.strip() else NEW, bom)
    if not sidecar.lists and not empty:
        raise NoTags("holds no keywords")
    return sidecar


def _with_item(data: bytes, one: Keywords, raw: str, memory: Memory | None) -> bytes:
    opened = data[one.start : one.inner]
    prefix = re.match(rb"<(?:([^:\s>]+):)?", opened)
    li = (prefix[1] + b":" if prefix and prefix[1] else b"") + b"li"
    new = b"<" + li + b">" + escape(raw).encode() + b"</" + li + b">"
    if opened.endswith(b"/>"):
        whole = opened[1:-2].split()[0]
        return data[: one.inner - 2] + b">" + new + b"</" + whole + b">" + data[one.inner :]
    if not one.items:
        indent = re.match(rb"\s*", data[one.inner : one.close])
        lead = indent[0] + b" " if indent and b"\n" in indent[0] else b""
        return data[: one.inner] + lead + new + data[one.inner :]
    lead = data[one.inner : one.items[0].start]
    last = {one.name(item): item.end for item in one.items}
    anchor = next((last[name] for name in memory.before if name in last), 0) if memory else one.items[-1].end
    at = anchor or one.inner
    return data[:at] + lead + new + data[at:]
