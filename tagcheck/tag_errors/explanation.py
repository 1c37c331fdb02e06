"""All that was weighed about one tag of one picture, in words and numbers."""

import numpy as np

from tagcheck.columns import values
from tagcheck.tag_errors.suggestions import Examined, Places
from tagcheck.tag_errors.telling import weighed

# What each kind of evidence is, in the order of the lines. Log-likelihood ratios: above 0 supports the tag.
WORDS = {
    "probe": "the picture, by a straight regression",
    "kernel": "the picture, by a curved regression",
    "context": "the picture and its other tags",
    "neighbours": "the nearest pictures",
    "twins": "its near-duplicates",
    "tagger": "the tagger",
    "classifier": "the trained classifier",
}


def explain(seen: Examined, row: int, tag: str) -> list[str]:
    """Lines about a tag of the picture `row`: the evidence, the probability, and the tags that bear on it."""
    if tag not in seen.tags:
        return [f"'{tag}' is used too seldom to be learned: only near-duplicates and rules were asked about it"]
    column = seen.tags.index(tag)
    place = Places(seen).get(row, column)
    if place is None:
        return [f"'{tag}' is not written there, and there is no evidence for it: it was not weighed further"]
    cells, verdict = seen.cells, seen.verdict
    written = bool(cells.given[place])
    lines = [
        f"'{tag}' is {'written' if written else 'not written'} there. The evidence for it (+) and against it (-), in logits:"
    ]
    for name, value in values(weighed(cells, np.array([place])), 1)[0].items():
        of, _, kind = name.rpartition("/")
        words = WORDS.get(kind, f"how frequent it is ({seen.frequency[column]:.2%} of the pictures)")
        lines.append(f"  {value:+5.1f}  {name:11} {words}{f', as {of} sees it' if of else ''}")
    lines += [
        f"together it belongs with {_percent(verdict.belongs[place])}, before it is asked whether it is written",
        f"it would be forgotten here with {verdict.miss[place]:.1%}, and written wrongly with {verdict.wrong[place]:.2%}",
        *_related(seen, row, column),
        f"so it is {'wrong' if written else 'missing'} with {_percent(verdict.error[place])}",
    ]
    return lines


def _related(seen: Examined, row: int, column: int) -> list[str]:
    """What bears on the tag, of the picture's other tags and of the tag's parents."""
    mine = set(seen.given[row].indices.tolist()) - {column}
    relations, lines = seen.relations, []
    space = relations.space[column]
    if space >= 0:
        name = relations.spaces[space]
        others = [seen.tags[other] for other in sorted(mine) if relations.space[other] == space]
        lines.append(
            f"weighed together with the other tags of '{name}:' ({', '.join(others) or 'none is written'}): two of them meet "
            f"{seen.habits.meeting[name]:.3f} times as often as by chance, and {seen.habits.swapped[name]:.1%} stand in another's place"
        )
    for child, parent, stroke in zip(relations.child.tolist(), relations.parent.tolist(), relations.stroke.tolist()):
        if child == column:
            lines.append(f"it brings '{seen.tags[parent]}' (added together with {stroke:.0%})")
        elif parent == column and child in mine:
            lines.append(f"'{seen.tags[child]}' brings it (added together with {stroke:.0%})")
    pairs = relations.apart[(relations.apart == column).any(axis=1)]
    against = [seen.tags[other] for other in np.setdiff1d(pairs, [column]).tolist() if other in mine]
    return lines + [f"'{other}' excludes it in this library" for other in against]


def _percent(share: float) -> str:
    """`97.1%`; the ends never round to certainty."""
    return f"{min(max(float(share), 0.001), 0.999):.1%}"
