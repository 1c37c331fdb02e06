"""What the tagger and the owner's character tags say about a picture's series."""

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from tagcheck import tags
from tagcheck.learning import linear_probes
from tagcheck.series.labels import Labels

COMPANION_PRIOR = 0.5  # pictures by which the share of a character's series is drawn to what chance gives
BLOCK = 4096
FIRES_FROM = 0.4  # the tagger's published threshold
# Tagged pictures on which a tag of the tagger fires, and the share of one class among them.
RULE_PICTURES, RULE_SHARE = (3, 0.8)


@dataclass(frozen=True)
class Prior:
    """The tagger's tags that are evidence for a class: logit of row r = weight[r] @ embedding + bias[r], for class `of_class[r]`.

    `weight` (R, d), `bias` (R,) float32, `of_class` (R,) int64 ascending. R may be 0. The rows of
    `foreign_weight` (Q, d), `foreign_bias` (Q,) name series without pictures: `foreign_names` (Q,) int64.
    """

    weight: np.ndarray
    bias: np.ndarray
    of_class: np.ndarray
    foreign_weight: np.ndarray
    foreign_bias: np.ndarray
    foreign_names: np.ndarray

    @classmethod
    def nothing(cls, width: int) -> "Prior":
        """Of a tagger that knows no tag; `width` numbers an embedding."""
        none = np.zeros((0, width), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        return cls(*none, *none)

    def foreign(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the series without pictures that is named loudest (m,), -1 without any; its logit (m,) float32)."""
        if not len(self.foreign_names):
            return np.full(len(matrix), -1, dtype=np.int64), np.full(len(matrix), -20.0, dtype=np.float32)
        logit = matrix @ self.foreign_weight.T + self.foreign_bias
        best = logit.argmax(axis=1)
        return self.foreign_names[best], logit[np.arange(len(logit)), best].astype(np.float32)

    def evidence(self, matrix: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """How loudly the loudest of a class's tags fires, (m, K) float32: its logit + 3, cut to 0 .. 6; 0 for no tag."""
        out = np.zeros(classes.shape, dtype=np.float32)
        if not len(self.of_class) or not len(matrix):
            return out
        heard, first = np.unique(self.of_class, return_index=True)
        loud = np.maximum.reduceat(np.clip(matrix @ self.weight.T + self.bias + 3.0, 0.0, 6.0), first, axis=1)
        place = np.minimum(np.searchsorted(heard, classes), len(heard) - 1)
        return np.where(heard[place] == classes, np.take_along_axis(loud, place, axis=1), out).astype(np.float32)


@dataclass(frozen=True)
class Tagger:
    """What the tagger says of n pictures: its head `weight` (V, d), `bias` (V,); `fires` csr (n, V) 0/1 the tags it gives.

    `named` (V,) is the class that a tag is called after, -1 for none; `names` (V,) places in `foreign_names`,
    tags of series as the owner would write them, for tags that are a series, else -1; `characters` (V,) the
    column of `beside` csr (n, T), the character tags that the owner gave, that a tag means, -1 for none.
    """

    weight: np.ndarray
    bias: np.ndarray
    fires: sparse.csr_matrix
    named: np.ndarray
    names: np.ndarray
    foreign_names: tuple[str, ...] = ()
    characters: np.ndarray | None = None
    beside: sparse.csr_matrix | None = None

    def by_name(self) -> Prior:
        """Every series that it knows by name, as if the owner had pictures of none."""
        of_series, nothing = np.flatnonzero(self.names >= 0), Prior.nothing(self.weight.shape[1])
        return replace(
            nothing,
            foreign_weight=self.weight[of_series],
            foreign_bias=self.bias[of_series],
            foreign_names=self.names[of_series],
        )

    def prior(self, labels: Labels, rows: np.ndarray) -> Prior:
        """What its tags say about the classes, learned from the tags of some of the pictures alone.

        A tag is evidence for the class that has its name, or else for the one that nearly all pictures are of that the
        owner gives this character, or at last for the one that `RULE_SHARE` of the pictures are of on which it fires,
        where that is far from what chance gives. A series that none of the pictures is of is foreign.
        """
        there = np.asarray(labels.membership[rows].sum(axis=0)).ravel() > 0
        named = np.where((self.named >= 0) & there[np.maximum(self.named, 0)], self.named, -1)
        if self.characters is not None and self.beside is not None and self.beside.shape[1]:
            of_owner = (self.beside[rows].T @ labels.membership[rows]).tocsr()
            most, among = np.asarray(of_owner.argmax(axis=1)).ravel(), np.asarray(of_owner.sum(axis=1)).ravel()
            pure = of_owner.max(axis=1).toarray().ravel() >= RULE_SHARE * np.maximum(among, 1e-9)
            implied = np.where((among >= 1.0) & pure, most, -1)
            means = np.where(self.characters >= 0, implied[np.maximum(self.characters, 0)], -1)
            named = np.where((named < 0) & (self.names < 0), means, named)
        counts = (self.fires[rows].T @ labels.membership[rows]).tocsr()
        total = np.asarray(counts.sum(axis=1)).ravel()
        best = np.asarray(counts.argmax(axis=1)).ravel()
        share = np.asarray(counts.max(axis=1).toarray()).ravel() / np.maximum(total, 1e-9)
        base = np.asarray(labels.membership[rows].sum(axis=0)).ravel()
        base = base / max(base.sum(), 1e-9)
        rule = (total >= RULE_PICTURES) & (share >= RULE_SHARE) & (share - base[best] >= 0.7 * (1.0 - base[best]))
        foreign = np.flatnonzero((self.names >= 0) & (named < 0))
        of_class = np.where(named >= 0, named, np.where(rule & (self.names < 0), best, -1))
        picked = np.flatnonzero(of_class >= 0)
        picked = picked[np.argsort(of_class[picked], kind="stable")]
        return Prior(
            self.weight[picked],
            self.bias[picked],
            of_class[picked].astype(np.int64),
            self.weight[foreign],
            self.bias[foreign],
            self.names[foreign],
        )


def listen(
    matrix: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    names: Sequence[str],
    labels: Labels,
    owners: Sequence[str | None] | None = None,
    series_tags: Sequence[str | None] | None = None,
    beside: tuple[sparse.csr_matrix, Sequence[str]] | None = None,
) -> Tagger:
    """What a tagger of `names` (V,), `weight` (V, d) and `bias` (V,) says of embeddings (n, d), at a probability of `FIRES_FROM`.

    `owners` (V,) the owner's tag that each name means (`vocabulary.owners_tags`); where there is none,
    names are compared without case, spaces, punctuation and a "(series)" at the end. `series_tags` (V,)
    the tag that each name that is a series would have, whether the owner has it or not. `beside`: the
    character tags that the owner gave, csr (n, T), and what they are called.
    """
    own = {_bare(tags.split(name)[1]): place for place, name in enumerate(labels.series)}
    exactly = {name: place for place, name in enumerate(labels.series)}
    owners = [None] * len(names) if owners is None else owners
    series_tags = [None] * len(names) if series_tags is None else series_tags
    named = np.array(
        [exactly.get(tag or "", own.get(_bare(tags.from_booru(name)), -1)) for tag, name in zip(owners, names)],
        dtype=np.int64,
    )
    written = [labels.series[place] if place >= 0 and tag else tag for place, tag in zip(named.tolist(), series_tags)]
    foreign = tuple(sorted({tag for tag in written if tag}))
    at = {tag: place for place, tag in enumerate(foreign)}
    column = {tag: place for place, tag in enumerate(beside[1])} if beside else {}
    from_logit = float(linear_probes.logit(np.array(FIRES_FROM)))
    parts = [
        sparse.csr_matrix(matrix[start : start + BLOCK] @ weight.T + bias >= from_logit, dtype=np.float32)
        for start in range(0, len(matrix), BLOCK)
    ]
    return Tagger(
        weight,
        bias,
        sparse.vstack(parts, format="csr"),
        named,
        np.array([at[tag] if tag else -1 for tag in written], dtype=np.int64),
        foreign,
        np.array([column.get(tag or "", -1) for tag in owners], dtype=np.int64),
        beside[0] if beside else None,
    )


def tag_columns(tag_sets: Iterable[Collection[str]], names: Sequence[str]) -> sparse.csr_matrix:
    """csr (n, T) float32 of 0 and 1: which of the tags `names` (T,) each picture has."""
    column = {name: place for place, name in enumerate(names)}
    columns, ends = array("i"), array("q", [0])
    for mine in tag_sets:
        columns.extend(sorted(column[tag] for tag in mine if tag in column))
        ends.append(len(columns))
    shape = len(ends) - 1, len(names)
    return sparse.csr_matrix((np.ones(len(columns), dtype=np.float32), columns, ends), shape=shape)


def companion_ratios(beside: sparse.csr_matrix, labels: Labels, rows: np.ndarray) -> sparse.csr_matrix:
    """How much likelier a class is where a character tag stands, csr (T, C): log-ratios above 0, from the pictures `rows` alone.

    Shares of few pictures are drawn toward the class's own by `COMPANION_PRIOR` pictures.
    """
    together = (beside[rows].T @ labels.membership[rows]).tocoo()
    total = np.asarray(beside[rows].T @ labels.membership[rows].sum(axis=1)).ravel()
    base = np.asarray(labels.membership[rows].sum(axis=0)).ravel()
    base = base / max(base.sum(), 1e-9)
    share = (together.data + COMPANION_PRIOR * base[together.col]) / (total[together.row] + COMPANION_PRIOR)
    value = np.maximum(np.log(share / np.maximum(base[together.col], 1e-9)), 0.0)
    return sparse.csr_matrix((value.astype(np.float32), (together.row, together.col)), shape=together.shape)


def _bare(name: str) -> str:
    """A name as it is compared: `Fate (series)` and `fate` are one."""
    bare = "".join(one for one in name.lower().removesuffix("(series)") if one.isalnum())
    return bare or name
