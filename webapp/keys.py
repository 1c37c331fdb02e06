"""The one table of keys. Every page's script is handed it, the Keys page shows it, and nothing else maps a key.

An owner changes it on the Keys page, which keeps what differs from the table below in `review_keys.json` in the
data folder: `{"accept": ["a", "y"], "flag": []}`. A map in which one key would mean two things at one place is
refused in words.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from tagcheck import json_files
from tagcheck.errors import BadFile, MissingInput
from tagcheck.files import remove, write_atomically
from tagcheck.json_files import list_of, map_of, text

FILE = "review_keys.json"
CARD, PAIR, GRID, LIST = "card", "pair", "grid", "list"
EVERYWHERE = (CARD, PAIR, GRID, LIST)
TICKS = "tick"
MODIFIED = re.compile(r"(ctrl\+(?:shift\+)?)?(.*)", re.IGNORECASE | re.DOTALL)

# Names of keys as browsers say them -> as people read and write them; the first of each is shown.
WORDS = {
    " ": ("Space",),
    "ArrowLeft": ("←", "Left"),
    "ArrowRight": ("→", "Right"),
    "ArrowUp": ("↑", "Up"),
    "ArrowDown": ("↓", "Down"),
    "Escape": ("Esc",),
    "Delete": ("Del",),
    "Backspace": ("Backspace", "Back"),
    "Enter": ("Enter",),
    "Home": ("Home",),
    "End": ("End",),
    "PageUp": ("PageUp", "PgUp"),
    "PageDown": ("PageDown", "PgDn"),
    "Insert": ("Insert", "Ins"),
    **{f"F{number}": (f"F{number}",) for number in (1, 2, 3, 4, 6, 7, 8, 9, 10)},
}
KEY_OF = {name.lower(): key for key, names in WORDS.items() for name in (*names, key)}
# What browsers keep for themselves, or people who use no mouse need.
KEPT = {
    "Tab": "it moves from field to field",
    "F5": "it reloads the page",
    "F11": "it fills the screen",
    "F12": "it is the browser's",
}
KEPT |= dict.fromkeys((f"Ctrl+{one}" for one in "wtnrl"), "it is the browser's")
KEPT |= dict.fromkeys((f"Ctrl+Shift+{one}" for one in "tnwr"), "it is the browser's")


@dataclass(frozen=True)
class Action:
    """Something a key does. `keys` are browser key names, a letter in lower case, with modifiers as in `Ctrl+z`; `places` where
    it works. On a pair its own keys win over those of every card.
    """

    name: str
    words: str
    keys: tuple[str, ...]
    places: tuple[str, ...] = (CARD,)

    @property
    def where(self) -> str:
        return "everywhere" if self.places == EVERYWHERE else " and ".join(self.places)


ACTIONS = (
    Action("accept", "accept what is ticked", ("a", "y", "F7"), (CARD, GRID)),
    Action("ignore", "ignore what is ticked, for good", ("x", "n", "Delete"), (CARD, GRID)),
    Action("skip", "skip until the detectors run again", (" ", "s"), (CARD, GRID)),
    Action("flag", "flag, to look at later", ("f",), (CARD, GRID)),
    Action(TICKS, "tick or untick the first tag, the second, and so on", tuple("123456789")),
    Action("settle", "accept what is ticked and ignore the rest", ("Enter",)),
    Action("previous", "previous finding", ("ArrowLeft", "k")),
    Action("next", "next finding", ("ArrowRight", "j")),
    Action("undo", "undo the last decision", ("Backspace", "u", "Ctrl+z"), EVERYWHERE),
    Action("redo", "do it again", ("Ctrl+Shift+z", "Ctrl+y"), EVERYWHERE),
    Action("type", "type tags of your own, commas between them (one that holds a comma: in double quotes)", ("t",)),
    Action("both", "pair: copy tags both ways", ("b",), (PAIR,)),
    Action("neither", "pair: copies, and their tags stay as they are", ("c",), (PAIR,)),
    Action("left", "pair: copy the left one's tags to the right", ("l",), (PAIR,)),
    Action("right", "pair: copy the right one's tags to the left", ("r",), (PAIR,)),
    Action("flicker", "pair: show one over the other, in turn", ("v",), (PAIR,)),
    Action("difference", "pair: show where they differ", ("d",), (PAIR,)),
    Action("zoom", "zoom in or out", ("z",)),
    Action("zoom_in", "zoom in", ("+", "=")),
    Action("zoom_out", "zoom out", ("-",)),
    Action("zoom_reset", "whole picture", ("0",)),
    Action("grid", "grid or card", ("g",), EVERYWHERE),
    Action("filter", "go to the filters", ("/",), EVERYWHERE),
    Action("open", "open in Hydrus", ("o",)),
    Action("relate potential duplicates", "copies: tell Hydrus they may be duplicates", ("p",), (PAIR,)),
    Action("relate duplicates", "copies: tell Hydrus they are duplicates", ("e",), (PAIR,)),
    Action("relate alternates", "copies: tell Hydrus they are alternates", (",",), (PAIR,)),
    Action("relate false positives", "copies: tell Hydrus they are no duplicates", (";",), (PAIR,)),
    Action("select_all", "tick all that are shown; again: take all that match", ("Ctrl+a",), (GRID,)),
    Action("invert", "tick all but the ticked", ("i",), (GRID,)),
    Action("help", "these keys", ("?",), EVERYWHERE),
    Action("close", "close, or untick all", ("Escape",), EVERYWHERE),
)


NEW = ("type", "invert", *(one.name for one in ACTIONS if one.name.startswith("relate ")))


class Refused(ValueError):
    """A map of keys that cannot be used, in words."""


def load(folder: Path) -> tuple[tuple[Action, ...], str]:
    """(the table as the owner has it, "") or (the table as it comes, what is wrong with the owner's file)."""
    path = folder / FILE
    try:
        given = json_files.read(path, map_of(list_of(text(40), 40)))
        own = {name: [*map(parse, keys)] for name, keys in given.items()}
        # Actions that came later leave the keys alone that the owner has given to others.
        taken = {key for keys in own.values() for key in keys}
        later = {one.name: one.keys for one in ACTIONS if one.name in NEW and one.name not in own}
        clash = {name: [key for key in keys if key not in taken] for name, keys in later.items() if taken & set(keys)}
        return changed(own | clash), ""
    except MissingInput:
        return ACTIONS, ""
    except (BadFile, Refused) as error:
        said = str(error).removeprefix(f"{path}: ").replace(f"{path} ", "it ", 1)
        return ACTIONS, f"{path} is not used: {said}"


def save(folder: Path, actions: Sequence[Action]) -> None:
    """Keep what differs from the table as it comes; nothing differing, no file."""
    changed = [one for one, default in zip(actions, ACTIONS) if one.keys != default.keys]
    own = {one.name: [*map(word, one.keys)] for one in changed}
    if not own:
        remove(folder / FILE)
        return
    text = json.dumps(own, ensure_ascii=False, indent=1) + "\n"
    write_atomically(folder / FILE, lambda out: out.write(text.encode()))


def changed(own: Mapping[str, Iterable[str]]) -> tuple[Action, ...]:
    """The table with some actions' keys replaced. Raises `Refused` where that cannot be."""
    for name in own.keys() - {one.name for one in ACTIONS}:
        raise Refused(f"there is no action {name!r}")
    made = tuple(replace(one, keys=tuple(dict.fromkeys(own[one.name]))) if one.name in own else one for one in ACTIONS)
    taken: dict[tuple[str, str], Action] = {}
    for one in made:
        for key, place in itertools.product(one.keys, one.places):
            if (other := taken.setdefault((place, key), one)) is not one:
                both = f"“{other.words}” and “{one.words}”"
                raise Refused(f"{word(key)} would mean two things on the {place}: {both}")
    if len(next(one for one in made if one.name == TICKS).keys) > 9:
        raise Refused("the keys that tick tags are nine at the most")
    return made


def parse(text: str) -> str:
    """A key as browsers name it, from what a person wrote. Raises `Refused`.

    >>> parse("A"), parse("space"), parse("ctrl+Z"), parse("Left"), parse("+"), parse("Ctrl++")
    ('a', ' ', 'Ctrl+z', 'ArrowLeft', '+', 'Ctrl++')
    """
    before, rest = cast("re.Match[str]", MODIFIED.fullmatch(text if text == " " else text.strip())).groups()
    key = KEY_OF.get(rest.lower()) or (rest.lower() if len(rest) == 1 else None)
    if key is None and rest.upper() not in KEPT and rest not in KEPT:
        raise Refused(f"{text!r} is no key, or has more before it than Ctrl or Ctrl+Shift")
    name = (before or "").title() + (key or rest)
    if reason := KEPT.get(name) or KEPT.get(name.upper()):
        raise Refused(f"{text} cannot be used: {reason}")
    return name


def word(key: str) -> str:
    """A key as people read it, and as `parse` takes it.

    >>> word(" "), word("Ctrl+Shift+z"), word("ArrowLeft"), word("a")
    ('Space', 'Ctrl+Shift+Z', '←', 'A')
    """
    *before, last = key.split("+") if len(key) > 1 and not key.endswith("+") else [*key[:-1].split("+")[:-1], key[-1]]
    return "".join(f"{one}+" for one in before) + (WORDS[last][0] if last in WORDS else last.upper())


def shown(action: Action) -> str:
    """The key to show on a button: a letter where there is one, else the shortest. Empty where the owner wants none."""
    letters = [key for key in action.keys if len(key) == 1 and key.isalnum()]
    return word(letters[0] if letters else min(action.keys, key=len)) if action.keys else ""
