"""What Hydrus' answers say about pairs of files: which are judged as duplicates, alternates or false positives.

Hydrus judges groups, not pairs. Duplicates form a group with a king; alternates hold between such
groups, and false positives between groups of alternates. Of the other groups an answer of
`/manage_file_relationships/get_file_relationships` names one file each, its king: whoever asks about two
files that are no kings has to look at the whole group of one of them. Pure functions on that JSON.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tagcheck.library.protocol import ALTERNATES, DUPLICATES, FALSE_POSITIVES, POTENTIAL_DUPLICATES, Judgement

# relationship of set_file_relationships, and the keys under which get_file_relationships lists the others of a file
KINDS = {POTENTIAL_DUPLICATES: 0, FALSE_POSITIVES: 1, DUPLICATES: 2, ALTERNATES: 3, "better": 4}
JUDGEMENTS = {"8": DUPLICATES, "3": ALTERNATES, "1": FALSE_POSITIVES, "0": POTENTIAL_DUPLICATES}
IS_DUPLICATE, IS_ALTERNATE, IS_FALSE_POSITIVE = "8", "3", "1"

Known = Mapping[str, Mapping[str, Any]]


def judgement(one: str, other: str, known: Known) -> str | None:
    """What Hydrus has on this pair: a value of `JUDGEMENTS`, or None. `known`: its answer by hash, about both."""
    group = {other, *known.get(other, {}).get(IS_DUPLICATE, ())}
    return next((word for key, word in JUDGEMENTS.items() if group.intersection(known.get(one, {}).get(key, ()))), None)


def judgements(known: Known, wanted: Iterable[str]) -> list[Judgement]:
    """All that is judged among the files of `wanted`, sorted. `known`: Hydrus' answer about each of them that is in any group."""
    group = _groups(known)
    alternates_of = {name: name for name in group.values()}  # a group -> one that stands for all its alternates

    def leader(name: str) -> str:
        while alternates_of.setdefault(name, name) != name:
            name = alternates_of[name]
        return name

    for hash, row in known.items():
        for other in row[IS_ALTERNATE]:
            one, two = sorted((leader(group[hash]), leader(group.get(other, other))))
            alternates_of[two] = one
    duplicates: dict[str, list[str]] = defaultdict(list)
    alternates: dict[str, list[str]] = defaultdict(list)
    for hash in sorted(set(wanted) & known.keys()):
        duplicates[group[hash]].append(hash)
        alternates[leader(group[hash])].append(hash)
    apart = {
        tuple(sorted((leader(group[hash]), leader(group.get(other, other)))))
        for hash, row in known.items()
        for other in row[IS_FALSE_POSITIVE]
    }
    found = [Judgement(DUPLICATES, tuple(some)) for some in duplicates.values() if len(some) > 1]
    several = [some for some in alternates.values() if len({group[hash] for hash in some}) > 1]
    found += [Judgement(ALTERNATES, tuple(some)) for some in several]
    both = [(alternates.get(one), alternates.get(other)) for one, other in apart]
    found += [Judgement(FALSE_POSITIVES, tuple(one), tuple(other)) for one, other in both if one and other]
    return sorted(found, key=lambda one: (one.kind, one.hashes, one.others))


def _groups(known: Known) -> dict[str, str]:
    """The first hash of its group of duplicates, for each file that is named in one."""
    found: dict[str, str] = {}
    for hash, row in known.items():
        members = {hash, *row[IS_DUPLICATE]}
        found |= dict.fromkeys(members, min(members))
    return found
