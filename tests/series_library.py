"""A made-up library of embeddings whose true series are known, with planted errors, for the tests of the series stages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tagcheck import data_folder
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.embedding import store
from tagcheck.series import classifier_files
from tagcheck.tag_columns import TagSets

MODEL = "test-model"


@dataclass
class Drawn:
    """n pictures: `matrix` (n, d), true series (n,) (from `series` on: unknown), tagged series (n,) (-1: none), groups (n,)."""

    matrix: np.ndarray
    truth: np.ndarray
    tagged: np.ndarray
    groups: np.ndarray
    series: int
    extra: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def hashes(self) -> list[str]:
        return [picture_hash(row) for row in range(len(self.truth))]

    def tag_sets(self) -> list[frozenset[str]]:
        return [frozenset({f"series:s{tag}"} if tag >= 0 else ()) for tag in self.tagged]


def picture_hash(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def draw(
    series: int = 8,
    pictures: int = 400,
    unknown: float = 0.2,
    forgotten: float = 0.08,
    swapped: float = 0.04,
    width: int = 32,
    noise: float = 0.4,
    duplicates: float = 0.1,
    seed: int = 0,
) -> Drawn:
    """Series with Zipf frequencies, strong nuisance directions, near-duplicates, unknown series, planted errors."""
    rng = np.random.default_rng(seed)
    others = max(3, series // 2)
    means = rng.normal(size=(series + others, width))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    share = 1 / np.arange(1, series + 1)
    truth = rng.choice(series, pictures, p=share / share.sum())
    strange = rng.random(pictures) < unknown
    truth[strange] = series + rng.integers(0, others, int(strange.sum()))
    nuisance = rng.normal(size=(4, width))
    groups = np.arange(pictures)
    matrix = means[truth] + rng.normal(size=(pictures, 4)) @ nuisance * 0.3
    matrix += rng.normal(size=(pictures, width)) * noise / np.sqrt(width) * 2
    for copy in rng.choice(np.arange(pictures // 2, pictures), int(pictures * duplicates), replace=False):
        source = int(rng.integers(0, pictures // 2))
        matrix[copy], truth[copy], groups[copy] = matrix[source] + rng.normal(size=width) * 0.001, truth[source], source
    tagged = np.where(truth < series, truth, -1)
    chance = rng.random(pictures)
    tagged[(chance < forgotten) & (tagged >= 0)] = -1
    wrong = (chance > 1 - swapped) & (tagged >= 0)
    tagged[wrong] = (tagged[wrong] + rng.integers(1, series, int(wrong.sum()))) % series
    return Drawn(matrix.astype(np.float32), truth, tagged, groups, series)


def write(folder: DataFolder, drawn: Drawn, model: str = MODEL, with_embeddings: bool = True) -> None:
    """The data folder as the stages before would leave it."""
    if with_embeddings:
        with store.ShardWriter(folder.embeddings, model, "test") as shard:
            shard.add(drawn.hashes, drawn.matrix)
    rows = [
        {"hash": hash, "existing_all_tags": sorted({*names, "1girl"})} | drawn.extra.get(row, {})
        for row, (hash, names) in enumerate(zip(drawn.hashes, drawn.tag_sets()))
    ]
    data_folder.save(folder, DATASET, {"mapping": None, "model": {"id": model}, "summary": {}, "results": rows})


def predicted(folder: DataFolder, namespace: str = "series") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the card, one record a picture) of a classifier's out-of-fold predictions."""
    card = classifier_files.load_card(folder, namespace)
    said, rows = classifier_files.said(folder, card), []
    series, foreign = [one["series"] for one in card["series"]], card["foreign_names"]
    told, tags, sure = (TagSets(series, one.indices, one.indptr) for one in (said.chance, said.tags, said.predicted))
    for row, hash in enumerate(said.hashes.tolist()):
        chance = said.chance.data[said.chance.indptr[row] : said.chance.indptr[row + 1]].tolist()
        made = {"hash": hash.hex(), "fold": int(said.folds[row]), "tags": tags.listed(row), "predicted": sure[row]}
        made |= {"probabilities": dict(zip(told.listed(row), chance)), "unknown": float(said.unknown[row])}
        rows.append(made | {"named_by_tagger": foreign[said.foreign[row]] if said.foreign[row] >= 0 else None})
    return card, rows
