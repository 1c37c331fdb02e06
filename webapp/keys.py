"""The one table of keys. The help page shows it, the page's script is handed it, and nothing else maps a key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """Something a key does. `keys` are browser key names, upper case meaning the letter, with modifiers as in `Ctrl+z`; `where`
    it works.
    """

    name: str
    words: str
    keys: tuple[str, ...]
    where: str = "card"


ACTIONS = (
    Action("accept", "accept what is ticked", ("a", "y", "F7")),
    Action("ignore", "ignore what is ticked, for good", ("x", "n", "Delete")),
    Action("skip", "skip until the detectors run again", (" ", "s")),
    Action("flag", "flag, to look at later", ("f",)),
    Action("tick", "tick or untick the nth tag", tuple("123456789")),
    Action("accept_next", "accept what is ticked and go on", ("Enter",)),
    Action("previous", "previous finding", ("ArrowLeft", "k")),
    Action("next", "next finding", ("ArrowRight", "j")),
    Action("undo", "undo the last decision", ("Backspace", "u", "Ctrl+z"), "everywhere"),
    Action("redo", "do it again", ("Ctrl+Shift+z", "Ctrl+y"), "everywhere"),
    Action("both", "pair: copy tags both ways", ("b",), "pair"),
    Action("neither", "pair: leave both as they are", ("n",), "pair"),
    Action("left", "pair: copy the left one's tags to the right", ("l",), "pair"),
    Action("right", "pair: copy the right one's tags to the left", ("r",), "pair"),
    Action("flicker", "pair: show one over the other, in turn", ("v",), "pair"),
    Action("difference", "pair: show where they differ", ("d",), "pair"),
    Action("zoom", "zoom in or out", ("z",)),
    Action("zoom_in", "zoom in", ("+", "=")),
    Action("zoom_out", "zoom out", ("-",)),
    Action("zoom_reset", "whole picture", ("0",)),
    Action("grid", "grid or card", ("g",), "everywhere"),
    Action("filter", "go to the filters", ("/",), "everywhere"),
    Action("open", "open in Hydrus", ("o",)),
    Action("select_all", "tick all that are shown", ("Ctrl+a",), "grid"),
    Action("help", "these keys", ("?",), "everywhere"),
    Action("close", "close", ("Escape",), "everywhere"),
)
