"""Rules about tags: which exclude each other, which imply another, which are never suggested.

Declared rules come from JSON: the file shipped with the program and, in the data folder, the
owner's `tag_rules.json`, whose keys replace the shipped ones. Learned exclusions are pairs of tags
that the library's pictures hardly ever have together, though they would by chance.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from tagcheck import json_files, tags
from tagcheck.files import there
from tagcheck.json_files import list_of, map_of, record, text
from tagcheck.tag_columns import values_at

SHIPPED = Path(__file__).with_name("tag_rules.json")
OWN = "tag_rules.json"
NEVER = (0.003, 0.01, 0.03)  # meetings of tags that exclude each other, as shares of chance: errors that nobody noticed
TAGS_AT_ONCE = 1024  # tags whose meetings with all others are held: those of 10,000 with each other take a GB
MOST_PAIRS = 500_000  # pairs of tags that are looked at, those used most
BY_CHANCE = 3.0  # meetings by chance from which on a pair is looked at,
LOWEST = 0.5  # and the confidence from which it counts
KEYS = ("exclusive_groups", "excludes", "exclusive_namespaces", "implications", "never_suggest")
TAGS = list_of(text(1_000), 10_000)
SHAPE = record(
    optional={
        "exclusive_groups": list_of(list_of(text(1_000), 1_000), 10_000),  # each pair of a group is a rule
        "excludes": map_of(TAGS),
        "exclusive_namespaces": TAGS,
        "implications": map_of(TAGS),
        "never_suggest": TAGS,
    }
)


@dataclass(frozen=True)
class Rules:
    """Declared rules, tags in the owner's spelling.

    `excludes` maps a tag to those it excludes (both ways round), `namespaces` are those of which a
    picture has at most one tag, `implies` maps a tag to what follows from it, `never` are patterns
    (`*` stands for anything) of tags that are never suggested.
    """

    excludes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    namespaces: frozenset[str] = frozenset()
    implies: Mapping[str, frozenset[str]] = field(default_factory=dict)
    never: tuple[str, ...] = ()

    def never_suggested(self, tag: str) -> bool:
        """Whether this tag, or its subtag, is on the list of those never suggested."""
        return any(map(self._never.fullmatch, (tag, tags.split(tag)[1])))

    @cached_property
    def _never(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(one).replace(r"\*", ".*") for one in self.never))


def load(folder: Path | None = None) -> Rules:
    """The shipped rules, each key replaced by the owner's where `folder` has a `tag_rules.json`. Raises `BadFile`."""
    document = _read(SHIPPED)
    if folder is not None and there(folder / OWN):
        document |= _read(folder / OWN)
    pairs = [(one, other) for one, others in document["excludes"].items() for other in others]
    pairs += [pair for group in document["exclusive_groups"] for pair in combinations(group, 2)]
    excludes: dict[str, set[str]] = {}
    for pair in pairs:
        for one, other in permutations(map(tags.clean, pair)):
            excludes.setdefault(one, set()).add(other)
    implies = {
        tags.clean(tag): frozenset(map(tags.clean, follows)) for tag, follows in document["implications"].items()
    }
    return Rules(
        {tag: frozenset(others) for tag, others in excludes.items()},
        frozenset(name.strip().rstrip(":").lower() for name in document["exclusive_namespaces"]),
        implies,
        tuple(map(tags.clean, document["never_suggest"])),
    )


def _read(path: Path) -> dict[str, Any]:
    document = json_files.read(path, SHAPE)
    return {key: document[key] for key in KEYS if document.get(key) is not None}


@dataclass(frozen=True)
class Exclusion:
    """Two tag columns that seem to exclude each other: `confidence` 0 to 1 that they never truly meet; how often
    they would `meet` by chance, and how often they are written together (each meeting counted as far as both are right).
    """

    one: int
    other: int
    confidence: float
    by_chance: float
    meetings: float


def learn_exclusions(right: sparse.csr_matrix) -> list[Exclusion]:
    """Pairs of tags that would meet `BY_CHANCE` times or more by chance and hardly do, the surest first, down to `LOWEST`.

    `right` (n, T) holds, for each written tag, the probability that it is right: a meeting counts
    only as far as both are, or the very errors that are looked for would hide the rule. Meetings
    are taken as Poisson with a mean of r times chance, where r is one of `NEVER` for tags that exclude
    each other and anything on a logarithmic scale from 0.1 to 8 for others; how common each r is
    among all pairs is estimated from them (the nonparametric maximum likelihood of empirical Bayes; Efron 2010).
    """
    n, _count = right.shape
    sums = np.asarray(right.sum(axis=0)).ravel()
    one, other = _often_expected(sums, BY_CHANCE * n)
    if not len(one):
        return []
    meetings, mean = meetings_of(right, one, other), sums[one] * sums[other] / n
    ratios = np.r_[NEVER, np.exp(np.linspace(np.log(0.1), np.log(8.0), 24))]
    likelihood = np.log(ratios)[:, None] * meetings - ratios[:, None] * mean  # but for what is the same for all ratios
    likelihood = np.exp(likelihood - likelihood.max(axis=0))
    share = np.full(len(ratios), 1 / len(ratios))
    for _ in range(60):
        each = share @ likelihood
        share = share * (likelihood @ (1 / each)) / len(each)
    sure = share[: len(NEVER)] @ likelihood[: len(NEVER)] / (share @ likelihood)
    kept = np.flatnonzero(sure >= LOWEST)
    kept = kept[np.lexsort((other[kept], one[kept], -sure[kept]))]
    return [Exclusion(int(one[k]), int(other[k]), float(sure[k]), float(mean[k]), float(meetings[k])) for k in kept]


def together(given: sparse.csr_matrix) -> Iterator[tuple[slice, sparse.csr_matrix]]:
    """How often tags meet, `TAGS_AT_ONCE` at a time: (some of the T tags, csr (some, T)), by `given` (n, T)."""
    across = given.T.tocsr()
    for start in range(0, given.shape[1], TAGS_AT_ONCE):
        some = slice(start, min(start + TAGS_AT_ONCE, given.shape[1]))
        yield some, (across[some] @ given).tocsr()


def meetings_of(given: sparse.csr_matrix, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How often the tags `one` and `other` (k,) of each pair meet, (k,), by `given` (n, T)."""
    out, order = np.zeros(len(one)), np.argsort(one, kind="stable")
    for some, met in together(given) if len(one) else ():
        mine = order[slice(*np.searchsorted(one[order], (some.start, some.stop)))]
        out[mine] = values_at(met, one[mine] - some.start, other[mine])
    return out


def _often_expected(sums: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (smaller, larger) whose `sums` (T,) multiply to `least` or more; of the tags used most where there are too many."""
    order = np.argsort(-sums, kind="stable")
    falling = sums[order]
    partners = np.searchsorted(-falling, -least / np.maximum(falling, 1e-12), side="right")
    partners = np.maximum(partners - np.arange(len(sums)) - 1, 0)  # each pair once, the one used more first
    fits = int(np.searchsorted(np.cumsum(partners), MOST_PAIRS, side="right"))
    partners = partners[:fits]
    first = np.repeat(np.arange(fits), partners)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(partners) - partners, partners)
    pairs = np.sort(np.column_stack([order[first], order[second]]), axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs[:, 0], pairs[:, 1]
