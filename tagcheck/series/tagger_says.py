"""What the tagger and the owner's character tags say about a picture's series."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit

from tagcheck import tags
from tagcheck.learning import linear_probes
from tagcheck.learning.logistic import logistic
from tagcheck.series.labels import Labels
from tagcheck.tag_columns import values_at

COMPANION_PRIOR = 0.5  # pictures by which the share of a character's series is drawn to what chance gives
BLOCK = 4096
FIRES_FROM = 0.4  # the tagger's published threshold
# Tagged pictures on which a tag of the tagger fires, and the share of one class among them.
RULE_PICTURES, RULE_SHARE = (3, 0.8)
# Slope and offset of the tagger's logit where nothing is known, and their weight in pictures.
TRUST_START, TRUST_WEIGHT = ((1.0, 1.0), 10.0)


@dataclass(frozen=True)
class Prior:
    """The tagger's tags that say something: logit of row r = `weight[r]` @ embedding + `bias[r]`, for what it `means[r]`.

    `weight` (R, d), `bias` (R,) float32, R may be 0. `means` (R,) int64 ascending: a class, or -1 - f for number f of the
    series that the tagger knows, where the owner has no pictures of it.
    """

    weight: np.ndarray
    bias: np.ndarray
    means: np.ndarray

    @classmethod
    def nothing(cls, width: int) -> "Prior":
        """Of a tagger that knows no tag; `width` numbers an embedding."""
        return cls(np.zeros((0, width), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def foreign(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the series without pictures that is named loudest (m,), -1 without any; its logit (m,) float32)."""
        away = int(np.searchsorted(self.means, 0))
        if not away:
            return np.full(len(matrix), -1, dtype=np.int64), np.full(len(matrix), -20.0, dtype=np.float32)
        logit = matrix @ self.weight[:away].T + self.bias[:away]
        return -1 - self.means[logit.argmax(axis=1)], logit.max(axis=1).astype(np.float32)

    def evidence(self, matrix: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """How loudly the loudest of a class's tags fires, (m, K) float32: its logit + 3, cut to 0 .. 6; 0 for no tag."""
        out, away = np.zeros(classes.shape, dtype=np.float32), int(np.searchsorted(self.means, 0))
        if away == len(self.means) or not len(matrix):
            return out
        heard, first = np.unique(self.means[away:], return_index=True)
        loud = np.clip(matrix @ self.weight[away:].T + self.bias[away:] + 3.0, 0.0, 6.0)
        loud = np.maximum.reduceat(loud, first, axis=1)
        place = np.minimum(np.searchsorted(heard, classes), len(heard) - 1)
        return np.where(heard[place] == classes, np.take_along_axis(loud, place, axis=1), out).astype(np.float32)


@dataclass(frozen=True)
class Tagger:
    """What the tagger says of n pictures: its head `weight` (V, d), `bias` (V,); `fires` csr (n, V) 0/1 the tags it gives.

    `named` (V,) is the class that a tag is called after, -1 for none; `names` (V,) places in `foreign_names`,
    tags of series as the owner would write them, for tags that are a series, else -1.
    """

    weight: np.ndarray
    bias: np.ndarray
    fires: sparse.csr_matrix
    named: np.ndarray
    names: np.ndarray
    foreign_names: tuple[str, ...]

    def prior(self, labels: Labels, rows: np.ndarray) -> Prior:
        """What its tags say about the classes, learned from the tags of some of the pictures alone.

        A tag is evidence for the class that has its name, or else for the one that `RULE_SHARE` of the pictures are of on which it
        fires, where that is far from what chance gives. A series that none of the pictures is of is foreign.
        """
        membership, silent = labels.membership[rows], len(labels.classes)
        base = np.asarray(membership.sum(axis=0)).ravel()
        named = np.where((self.named >= 0) & (base[self.named] > 0), self.named, silent)
        counts = (self.fires[rows].T @ membership).tocsr()
        best, total = np.asarray(counts.argmax(axis=1)).ravel(), np.asarray(counts.sum(axis=1)).ravel()
        share = counts.max(axis=1).toarray().ravel() / np.maximum(total, 1e-9)
        chance = base[best] / max(base.sum(), 1e-9)
        ruled = (total >= RULE_PICTURES) & (share >= RULE_SHARE) & (share - chance >= 0.7 * (1.0 - chance))
        means = np.where(self.names >= 0, -1 - self.names, np.where(ruled, best, silent))
        means = np.where(named < silent, named, means)
        order = np.argsort(means, kind="stable")[: int((means < silent).sum())]
        return Prior(self.weight[order], self.bias[order], means[order].astype(np.int64))

    def trust(self, matrix: np.ndarray, labels: Labels) -> tuple[float, float]:
        """(slope, offset) of the log-odds that it is right where it names a series, by its logit.

        Known of the tagged pictures of `matrix` (n, d), whose series it names as it does those without pictures. (Platt
        1999, drawn to `TRUST_START` by `TRUST_WEIGHT` pictures made up of that.)
        """
        if not self.foreign_names:
            return TRUST_START
        own, series = {name: place for place, name in enumerate(labels.series)}, np.flatnonzero(self.names >= 0)
        series = series[np.argsort(-self.names[series], kind="stable")]
        named, logits = Prior(self.weight[series], self.bias[series], -1 - self.names[series]).foreign(matrix)
        rows = np.flatnonzero(labels.tagged & (named >= 0))
        place = np.array([own.get(name, -1) for name in self.foreign_names], dtype=np.int64)[named[rows]]
        right = values_at(labels.tags, rows, np.maximum(place, 0)) & (place >= 0)
        made_up = np.linspace(-4.0, 4.0, 9)
        logits = np.concatenate([logits[rows], made_up])
        right = np.concatenate([right, expit(TRUST_START[0] * made_up + TRUST_START[1])])
        weight = np.repeat([1.0, TRUST_WEIGHT / len(made_up)], [len(rows), len(made_up)])
        slope, offset = logistic(np.column_stack([logits, np.ones(len(logits))]), right, weight, ridge=1e-6)
        return max(float(slope), 0.0), float(offset)


def listen(
    matrix: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    names: Sequence[str],
    labels: Labels,
    owners: Sequence[str | None] | None = None,
    series_tags: Sequence[str | None] | None = None,
) -> Tagger:
    """What a tagger of `names` (V,), `weight` (V, d) and `bias` (V,) says of embeddings (n, d), at a probability of `FIRES_FROM`.

    `owners` (V,) the owner's tag that each name means (`vocabulary.owners_tags`); where there is none,
    names are compared without case, spaces, punctuation and a "(series)" at the end. `series_tags` (V,)
    the tag that each name that is a series would have, whether the owner has it or not.
    """
    nobody: list[str | None] = [None] * len(names)
    owners, series_tags = owners or nobody, series_tags or nobody
    exactly = {name: place for place, name in enumerate(labels.series)}
    bare = {_bare(tags.split(name)[1]): place for name, place in exactly.items()}
    meant = ((tag or "", bare.get(_bare(tags.from_booru(name)), -1)) for tag, name in zip(owners, names))
    named = [exactly.get(tag, alike) for tag, alike in meant]
    written = [labels.series[place] if place >= 0 and tag else tag for place, tag in zip(named, series_tags)]
    foreign = tuple(sorted({tag for tag in written if tag}))
    from_logit = float(linear_probes.logit(np.array(FIRES_FROM)))
    parts = [
        sparse.csr_matrix(matrix[start : start + BLOCK] @ weight.T + bias >= from_logit, dtype=np.float32)
        for start in range(0, len(matrix), BLOCK)
    ]
    fires = sparse.vstack(parts, format="csr")
    place: dict[str | None, int] = {name: at for at, name in enumerate(foreign)}
    places = np.array([place.get(name, -1) for name in written], dtype=np.int64)
    return Tagger(weight, bias, fires, np.array(named, dtype=np.int64), places, foreign)


def companion_ratios(beside: sparse.csr_matrix, labels: Labels, rows: np.ndarray) -> sparse.csr_matrix:
    """How much likelier a class is where a character tag stands, csr (T, C): log-ratios above 0, from the pictures `rows` alone.

    Shares of few pictures are drawn toward the class's own by `COMPANION_PRIOR` pictures.
    """
    membership = labels.membership[rows]
    together = (beside[rows].T @ membership).tocoo()
    total = np.asarray(together.sum(axis=1)).ravel()
    base = np.asarray(membership.sum(axis=0)).ravel()
    base = np.maximum(base / max(base.sum(), 1e-9), 1e-9)
    share = together.data + COMPANION_PRIOR * base[together.col]
    share /= total[together.row] + COMPANION_PRIOR
    value = np.maximum(np.log(share / base[together.col]), 0.0)
    return sparse.csr_matrix((value.astype(np.float32), (together.row, together.col)), shape=together.shape)


def _bare(name: str) -> str:
    """A name as it is compared: `Fate (series)` and `fate` are one."""
    bare = "".join(one for one in name.lower().removesuffix("(series)") if one.isalnum())
    return bare or name
