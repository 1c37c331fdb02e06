"""What parts tags in a library's text sidecars, told from all of them together. Pure text.

A comma or a line end in a file is clear. Where most files have neither, but a full-width comma, a semicolon,
or blanks between words that are joined by underscores, that is the habit of the whole library.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from tagcheck import tags
from tagcheck.library.folder.sidecar_text import LINE_END, PARAMETERS, Reading, mixtures
from tagcheck.plural import plural
from tagcheck.tags import is_sentence

COMMAS = frozenset(",，、､،")  # one file may hold several kinds of them
MARKS = "，、､،；;\t|"
NAMES = {
    "，": "full-width commas",
    "、": "ideographic commas",
    "､": "half-width ideographic commas",
    "،": "Arabic commas",
}
NAMES |= {"；": "full-width semicolons", ";": "semicolons", "\t": "tabs", "|": "upright strokes"}
BLANKS_SHARE = 0.9  # of the files with several tags, before blanks part them
TAGS_SHARE = 1 / 3  # of what stands between commas, before captions with sentences count as tags: more than one has it
FEW_CAPTIONS, MOST_CAPTIONS = 10, 10_000  # too few to tell what more than one has, and as many as are looked at for it
_PARTS = re.compile(r"[,;\n，、]")


@dataclass
class Votes:
    """What the sidecars of one kind (one extension) show, file by file."""

    kinds: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    underscored: int = 0
    captions: int = 0  # files of nothing but sentences, or of one line with one: a long title among lines is a tag
    long: int = 0
    files: int = 0
    mixed: int = 0
    parts: Counter[str] = field(default_factory=Counter)  # of captions: what stands between commas and is no sentence
    all_parts: int = 0

    def count(self, text: str) -> None:
        self.mixed += bool(mixtures(text))
        if PARAMETERS.search(text):
            return
        lines = [line.strip() for line in LINE_END.split(text) if line.strip()]
        if not lines:
            return
        self.files += 1
        if all(map(is_sentence, lines)):
            self._count_parts(text)
            self.captions += 1
        kind = _kind(lines)
        self.kinds[kind] += 1
        self.marks.update(COMMAS.intersection(text) if kind in COMMAS else {kind} & set(MARKS))
        words = [word for line in lines for word in line.split()]
        underscored = any("_" in word.strip("_") and not tags.is_face(word) for word in words)
        self.long += kind == "blanks" and (len(words) > 3 or underscored)
        self.underscored += underscored

    def _count_parts(self, text: str) -> None:
        parts = {part.strip(" .").lower() for part in _PARTS.split(text)} - {""}
        if self.captions < MOST_CAPTIONS:
            self.all_parts += len(parts)
            self.parts.update(part for part in parts if not is_sentence(part))

    @property
    def reading(self) -> Reading:
        """How these files are to be taken apart."""
        several, blanks = self.kinds.total() - self.kinds["one"], self.kinds["blanks"]
        underscored = 10 * self.underscored >= max(blanks, 10)
        if blanks and blanks >= BLANKS_SHARE * several and underscored and not self.prose:
            return Reading(blanks=True)
        return Reading("," + "".join(one for one in MARKS if 2 * self.marks[one] > several - blanks))

    @property
    def of_strings(self) -> Reading:
        """The same of strings within JSON, which boorus part by blanks: so it is where commas are not the rule."""
        several = self.kinds.total() - self.kinds["one"]
        return Reading(self.reading.marks, blanks=several == 0 or 2 * self.kinds[","] < several)

    @property
    def prose(self) -> bool:
        """Whether most of these files hold sentences, and few tags beside them."""
        often = 1 if self.captions < FEW_CAPTIONS else 2
        shared = sum(count for count in self.parts.values() if count >= often)
        return 2 * self.captions > self.files and shared < TAGS_SHARE * self.all_parts

    def said(self) -> list[str]:
        """What of this is no matter of course, in words."""
        reading, files, found = self.reading, f"of {plural(self.files, 'file')}", list[str]()
        if reading.blanks:
            found.append(f"tags are parted by blanks, as in {self.kinds['blanks']:,} {files}")
        for mark in reading.marks[1:]:
            found.append(f"tags are parted by {NAMES[mark]} ({mark}), as in {self.marks[mark]:,} {files}")
        for mark in (one for one in MARKS if self.kinds[one] and one not in reading.marks):
            held = f"{self.kinds[mark]:,} {files} hold {NAMES[mark]} ({mark}) and no comma"
            found.append(f"{held}; each was read as one tag, since other files part tags otherwise")
        if self.long and not reading.blanks and not self.prose:
            held = f"{self.long:,} {files} hold several words with blanks alone between them"
            found.append(f"{held}; each was read as one tag")
        if 10 * self.captions > self.files:
            found.append(
                f"{self.captions:,} {files} hold sentences; what stands between two commas was read as one tag"
            )
        if self.mixed:
            held = (
                f"{plural(self.mixed, 'file holds', 'files hold')} prompts that change or mix things ([a:b:0.5], [a|b])"
            )
            found.append(f"{held}; such an item is no tag and stays as it is")
        return found


def _kind(lines: list[str]) -> str:
    text = "\n".join(lines)
    if "," in text:
        return ","
    words = re.split(r"[ \n]+|\|{3}|;;;", text)
    faceless = " ".join(word for word in words if not tags.is_face(word.strip(",;")) and not tags.is_face(word))
    for mark in MARKS:
        if mark in faceless:
            return mark if len(lines) == 1 or 2 * sum(mark in line for line in lines) > len(lines) else "lines"
    if len(lines) > 1:
        return "lines"
    return "blanks" if len(lines[0].split()) > 1 else "one"
