"""The owner's rules about tags, made from a card: tags that are never suggested, tags that exclude each other.

They stand in `tag_rules.json` in the data folder, where the tag error detector reads them. Before a rule is made the page
says which open suggestions it takes away; they are ignored with it, in one step of the history, and come back when the rule goes.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Blueprint, abort, render_template, request
from werkzeug.wrappers import Response

import tagcheck
from tagcheck import json_files, tags
from tagcheck.files import write_atomically
from tagcheck.json_files import list_of, map_of, record, text
from tagcheck.plural import plural
from tagcheck.review import Ask, Filter, Key, queries
from tagcheck.review.store import ADD, IGNORED, OPEN, UNDECIDED
from webapp.answers import go
from webapp.cards import tags_of
from webapp.state import review, settings

FILE = "tag_rules.json"
FORM = record(optional={"never_suggest": list_of(text()), "excludes": map_of(list_of(text()))})
SHIPPED = Path(tagcheck.__file__).parent / "tag_errors" / FILE
blueprint = Blueprint("rules", __name__, url_prefix="/error-review")
SHOWN = 12


@dataclass(frozen=True)
class Rule:
    """`never` is a tag that is not suggested; `apart` two that no picture has together. One of them is given."""

    never: str = ""
    apart: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return f"never suggest {self.never}" if self.never else " and ".join(self.apart) + " exclude each other"

    @property
    def both_ways(self) -> list[tuple[str, str]]:
        """Each of two tags that exclude each other, with the other; none where the rule is of one tag."""
        return list(itertools.permutations(self.apart, 2))

    @property
    def key(self) -> str:
        """What the store knows the rule by."""
        return "rule " + json.dumps([self.never, *self.apart], ensure_ascii=False)


@blueprint.get("/rules")
def rules() -> str:
    """The owner's rules; with `never` or `apart` (and `other`), first what making that rule would take away."""
    wanted, unfinished = _wanted(request.args), tags.clean(request.args.get("apart", ""))
    gone = taken_away(wanted) if wanted else []
    return render_template(
        "rules.html",
        own=[(one, review().meta(one.key) not in ("", "0")) for one in own_rules(settings().folder.root)],
        wanted=wanted,
        unfinished="" if wanted else unfinished,
        gone=gone,
        pictures=list(dict.fromkeys(ask.key.hash for ask in gone))[:SHOWN],
        both=queries.pictures_with(review(), wanted.apart) if wanted and wanted.apart else 0,
    )


@blueprint.post("/rules")
def make() -> Response:
    """Make the rule that was shown, if it still takes away as much as was said; or take one of them back (`undo`)."""
    wanted = _wanted(request.form)
    if wanted is None:
        abort(400, "This form has no rule.")
    if "undo" in request.form:
        return _undo(wanted)
    gone = taken_away(wanted)
    if request.form.get("expect") != str(len(gone)):
        now = f"This rule would take {plural(len(gone), 'suggestion')} away now: look again. Nothing was done."
        asked = {"never": wanted.never} if wanted.never else dict(zip(("apart", "other"), wanted.apart))
        return go("rules.rules", now, **asked)
    _write(settings().folder.root, wanted, there=True)
    why = f"Ignored by a rule ({wanted.words}): {plural(len(gone), 'suggestion')}"
    outcome = review().decide(gone, IGNORED, why)
    review().set_meta(wanted.key, str(outcome.event or 0))
    ignored = f" {plural(len(outcome.changed), 'suggestion')} ignored with it." if outcome.changed else ""
    return go("rules.rules", f"From now on: {wanted.words}.{ignored}")


def _undo(rule: Rule) -> Response:
    """Take a rule out of the file, and reopen what was ignored with it and is still ignored."""
    _write(settings().folder.root, rule, there=False)
    event = review().meta(rule.key)
    asks = [Ask(key) for key in queries.ignored_in(review(), int(event or 0))]
    outcome = review().decide(asks, OPEN, f"Reopened, as a rule is gone ({rule.words})")
    review().set_meta(rule.key, "")
    reopened = f" {plural(len(outcome.changed), 'suggestion')} reopened." if outcome.changed else ""
    return go("rules.rules", f"No longer: {rule.words}.{reopened}")


def taken_away(rule: Rule) -> list[Ask]:
    """The undecided suggestions that a rule speaks against."""
    asked = [(rule.never, "")] if rule.never else rule.both_ways
    found: dict[Key, Ask] = {}
    for (tag, beside), state in itertools.product(asked, UNDECIDED):
        for ask in queries.asks(review(), Filter(state=state, tag=tag)):
            if ask.key.action == ADD and (not beside or beside in tags_of(review(), ask.key.hash)):
                found[ask.key] = ask
    return list(found.values())


def own_rules(folder: Path) -> list[Rule]:
    """The rules of the owner's file that such a card could have made, beyond those that the program comes with."""
    own, shipped = _read(folder / FILE), _read(SHIPPED)
    never = [Rule(tag) for tag in own.get("never_suggest", []) if tag not in shipped["never_suggest"]]
    apart = [
        Rule(apart=(one, other))
        for one, others in own.get("excludes", {}).items()
        for other in others
        if other not in shipped["excludes"].get(one, [])
    ]
    return never + apart


def _wanted(given: Any) -> Rule | None:
    never, one, other = (tags.clean(given.get(name, "")) for name in ("never", "apart", "other"))
    if never:
        return Rule(never)
    return Rule(apart=(one, other)) if one and other and one != other else None


def _write(folder: Path, rule: Rule, there: bool) -> None:
    """Put a rule into the owner's file, or take it out. A key of that file replaces the shipped one, so it begins with that."""
    own, shipped = _read(folder / FILE), _read(SHIPPED)
    if rule.never:
        never = [tag for tag in own.get("never_suggest", shipped["never_suggest"]) if tag != rule.never]
        own["never_suggest"] = [*never, rule.never] if there else never
    else:
        excludes = {tag: list(others) for tag, others in own.get("excludes", shipped["excludes"]).items()}
        for tag, beside in rule.both_ways:
            if beside in excludes.get(tag, []):
                excludes[tag].remove(beside)
        if there:
            excludes.setdefault(rule.apart[0], []).append(rule.apart[1])
        own["excludes"] = {tag: others for tag, others in excludes.items() if others}
    made = json.dumps(own, ensure_ascii=False, indent=1) + "\n"
    write_atomically(folder / FILE, lambda out: out.write(made.encode()))


def _read(path: Path) -> dict[str, Any]:
    given = json_files.read(path, FORM) if path.exists() else {}
    return {key: value for key, value in given.items() if value is not None}
