"""A small library in a folder, reports about it in a data folder, and the page on them: what the review tests share."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from PIL import Image, ImageDraw

from tagcheck import data_folder
from tagcheck.data_folder import DATASET, RUN_SUMMARY, DataFolder
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION
from tagcheck.findings import TagFinding, error, finding_id
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.pictures.decoder_processes import Decoders
from tagcheck.review.store import Review
from webapp import pictures
from webapp.app import create_app
from webapp.state import Settings

COLOURS = ("tomato", "gold", "seagreen", "steelblue", "orchid", "sienna", "black", "silver")


@cache
def drawn(number: int) -> bytes:
    """A small picture of its own for each number."""
    picture, out = Image.new("RGB", (120 + number % 7, 90), COLOURS[number % len(COLOURS)]), io.BytesIO()
    ImageDraw.Draw(picture).text((8, 8), str(number), fill="white")
    picture.save(out, "PNG")
    return out.getvalue()


def draw_library(root: Path, tags: list[list[str]]) -> list[str]:
    """One picture for each list of tags, with its sidecar; the hashes in that order."""
    root.mkdir(parents=True)
    hashes = []
    for number, names in enumerate(tags):
        path = root / f"picture {number:03}.png"
        path.write_bytes(drawn(number))
        path.with_name(path.name + ".txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        hashes.append(hashlib.sha256(drawn(number)).hexdigest())
    return hashes


def sidecar(root: Path, number: int) -> list[str]:
    """The tags that stand in a picture's sidecar now."""
    return (root / f"picture {number:03}.png.txt").read_text(encoding="utf-8").split("\n")[:-1]


def hashes(count: int) -> list[str]:
    """Made-up hashes, in order."""
    return [f"{number:064x}" for number in range(1, count + 1)]


def missing(
    hash: str, *tags: str, confidence: float = 0.9, why: str = "Its neighbours have it.", **evidence: Any
) -> dict:
    """A report entry: these tags are missing."""
    return error(hash, "missing_tags", [TagFinding(tag, "missing", confidence, evidence, why) for tag in tags])


def wrong(hash: str, *tags: str, confidence: float = 0.8) -> dict:
    """A report entry: these tags are wrong."""
    return error(
        hash, "incorrect_tags", [TagFinding(tag, "incorrect", confidence, {}, "No neighbour has it.") for tag in tags]
    )


def pair(
    one: str, two: str, similarity: float = 0.98, only_in_1: tuple[str, ...] = (), only_in_2: tuple[str, ...] = ()
) -> dict:
    """A near-duplicate pair."""
    one, two = sorted((one, two))
    difference = {"only_in_1": list(only_in_1), "only_in_2": list(only_in_2)}
    return {
        "id": finding_id("near_duplicate", [one, two], []),
        "hash1": one,
        "hash2": two,
        "similarity": similarity,
        "relation": "near_duplicate",
        "analysis": {"all_tags_diff": difference},
    }


def save_dataset(folder: DataFolder, tags: dict[str, list[str]], **more: Any) -> Path:
    """A dataset of these pictures."""
    return data_folder.save(
        folder,
        DATASET,
        {
            "summary": {},
            "results": [
                {
                    "hash": hash,
                    "existing_all_tags": names,
                    "existing_series_tags": [name for name in names if name.startswith("series:")],
                    "pages": [["Dataset", "All"]],
                    **more,
                }
                for hash, names in tags.items()
            ],
        },
    )


def save_mistagged(folder: DataFolder, *errors: dict) -> Path:
    """A mistagged report of these entries."""
    summary = {"total_images_analyzed": 100, "errors_found": len(errors)}
    return data_folder.save(
        folder, MISTAGGED, {"summary": summary, "errors": sorted(errors, key=lambda one: -one["confidence"])}
    )


def save_pairs(folder: DataFolder, *pairs: dict) -> Path:
    """A near-duplicates report of these pairs."""
    return data_folder.save(
        folder,
        NEAR_DUPLICATES,
        {"summary": {"total_pairs_found": len(pairs)}, "similar_pairs": list(pairs), "groups": []},
    )


def save_series(folder: DataFolder, missing: Sequence[dict] = (), incorrect: Sequence[dict] = ()) -> Path:
    """A series validation report."""
    return data_folder.save(
        folder,
        SERIES_VALIDATION,
        {
            "summary": {
                "accuracy": 0.9,
                "missing_predictions_count": len(missing),
                "incorrect_predictions_count": len(incorrect),
            },
            "per_series": [],
            "missing_predictions": list(missing),
            "incorrect_predictions": list(incorrect),
        },
    )


def save_run(folder: DataFolder, *detectors: dict) -> Path:
    """A run summary."""
    return data_folder.save(folder, RUN_SUMMARY, {"detectors": list(detectors)})


class Compiled(BytecodeCache):
    """Templates that an application of an earlier test has compiled."""

    held: ClassVar[dict[str, bytes]] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self.held:
            bucket.bytecode_from_string(self.held[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.held[bucket.key] = bucket.bytecode_to_string()


@cache
def opener() -> Decoders:
    """The decoder processes of all applications: starting one costs more than opening a small picture."""
    return pictures.opener()


@cache
def empty_store() -> bytes:
    """A review store in which nothing stands, for which no table need be made."""
    with tempfile.TemporaryDirectory() as place:
        with Review(Path(place) / "review.sqlite3"):
            pass
        return (Path(place) / "review.sqlite3").read_bytes()


def page_on(folder: DataFolder, root: Path | None = None, **settings: Any):
    """The application on a data folder and a folder library."""
    with pytest.MonkeyPatch.context() as patched:
        if not folder.review.exists():
            folder.review.write_bytes(empty_store())
            folder.review.chmod(0o600)
            patched.setattr("webapp.app.start", lambda path: None)  # which would check it and keep a copy
        app = create_app(
            Settings(
                folder,
                lambda: FolderLibrary(root or folder.root),
                str(root),
                invisible=("source", "filename"),
                **settings,
            )
        )
    app.jinja_env.bytecode_cache = Compiled()
    app.extensions["tagcheck_opener"] = opener()
    return app
