"""A library's edges through every stage: one picture, one tag, none that differ, very many tags, very many copies."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from PIL import Image

import advanced_joytag_processing
import dataset_hardcore_mapper
import find_mistagged_images
import find_near_duplicates
import train_series_classifier_images
import validate_series_predictions
from tagcheck.data_folder import RUN_SUMMARY, DataFolder
from tagcheck.detectors import MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION
from tagcheck.review import report_import
from tagcheck.review.store import IGNORED, PAIR, Ask, Key, Review

Said = dict[str, dict[str, Any]]


def drawn(seed: int, quality: int = 95, shift: int = 0) -> bytes:
    """A picture of its own for each seed; `quality` and `shift` make copies of it with other bytes."""
    colours = np.random.default_rng(seed).integers(0, 240, (5, 5, 3), dtype=np.uint8) + np.uint8(shift)
    out = io.BytesIO()
    Image.fromarray(colours).resize((70, 70), Image.Resampling.BICUBIC).save(out, "JPEG", quality=quality)
    return out.getvalue()


@pytest.fixture
def chain(tmp_path: Path, folder: DataFolder) -> Callable[..., Said]:
    """Map, embed, train and detect a folder of these (picture, tags); the reports that were written."""

    def run(*pictures: tuple[bytes, str], detectors: bool = True) -> Said:
        root = tmp_path / "library"
        root.mkdir(exist_ok=True)
        for number, (data, tags) in enumerate(pictures):
            (root / f"{number}.jpg").write_bytes(data)
            (root / f"{number}.txt").write_text(tags)
        where = ["--data-dir", str(folder.root)]
        assert dataset_hardcore_mapper.main([*where, "--library", str(root)]) == 0
        given = {"model-dir": PROJECT / "sample" / "network", "device": "cpu", "precision": "float32", "decoders": 1}
        options = [f"--{name}={value}" for name, value in given.items()]
        assert advanced_joytag_processing.main([*where, *options]) == 0
        for script in (train_series_classifier_images,) + DETECTORS * detectors:
            assert not script.main(where)
        return {kind.name: json.loads(folder.newest(kind).read_text()) for kind in REPORTS} if detectors else {}

    return run


DETECTORS = (find_mistagged_images, find_near_duplicates, validate_series_predictions)
REPORTS = (MISTAGGED, NEAR_DUPLICATES, SERIES_VALIDATION)
VARIED = ["1girl, solo, hat", "1girl, smile", "1boy, solo", "landscape, tree", "cat, hat", "1girl, hat, smile"]


@pytest.mark.parametrize(
    "tags",
    [
        ["1girl, series:x"],
        ["1girl, series:x", "1boy, series:y"],
        ["1girl, series:x"] * 12,
        ["1girl"] * 12,
        ["1girl", ""] * 6,
        ["series:x"] * 6 + [""] * 6,
        [*VARIED, *VARIED],
        [", ".join(f"tag {number}" for number in range(5000)), *VARIED],
    ],
    ids=["one", "two", "alike", "one tag", "one tag on half", "one series", "no series", "5,000 tags"],
)
def test_a_small_or_odd_library_passes_every_stage(chain, tags):
    said = chain(*((drawn(number), tag) for number, tag in enumerate(tags)))
    assert said[MISTAGGED.name]["summary"]["total_images_analyzed"] == len(tags)
    assert said[NEAR_DUPLICATES.name]["summary"]["images_compared"] == len(tags)
    assert said[NEAR_DUPLICATES.name]["summary"]["groups"] == 0
    if len(set(tags)) == 1:
        assert said[MISTAGGED.name]["errors"] == [], "where all are tagged alike nothing tells one from another"


def test_without_a_series_the_run_of_all_detectors_ends_well(chain, folder, script, capsys):
    chain(*((drawn(number), tag) for number, tag in enumerate(VARIED * 2)), detectors=False)
    done = script("run_error_detection.py", "--data-dir", folder.root)
    assert done.returncode == 0, done.stderr
    rows = json.loads(folder.newest(RUN_SUMMARY).read_text())["detectors"]
    assert [row["exit_code"] for row in rows] == [0, 0, 0] and "nothing to learn from" in capsys.readouterr().out


def test_many_copies_of_one_picture_are_one_group_whose_pairs_are_counted(chain):
    copies = [(drawn(0, 80 + number % 20, number // 20), "1girl, solo") for number in range(60)]
    others = [(drawn(1 + number), tag) for number, tag in enumerate(VARIED * 2)]
    report = chain(*copies, *others)[NEAR_DUPLICATES.name]
    (group,) = report["groups"]
    assert len(group) == 60 and report["summary"]["groups"] == 1
    assert report["summary"]["total_pairs_found"] == 60 * 59 // 2 and len(report["similar_pairs"]) == 59


def commented(jpeg: bytes, text: bytes = b"edited") -> bytes:
    """The same picture with a comment in its file."""
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


def suggested(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["hash"], one["tag"]) for pair in report["similar_pairs"] for one in pair["suggestions"]}


@pytest.mark.parametrize("decided", ["tag", "pair"])
def test_decisions_stay_when_a_files_metadata_is_rewritten(chain, folder, decided):
    pictures = [(drawn(0), "1girl, solo, hat"), (drawn(0, 60), "1girl, solo")]
    pictures += [(drawn(1 + number), tag) for number, tag in enumerate(VARIED * 2)]
    report = chain(*pictures)[NEAR_DUPLICATES.name]
    lacking, (pair,) = hashlib.sha256(pictures[1][0]).hexdigest(), report["similar_pairs"]
    assert (lacking, "hat") in suggested(report)
    both = Key(pair["hash1"], pair["relation"], PAIR, pair["hash2"])
    with Review(folder.review) as review:
        report_import.sync(review, folder)
        review.decide([Ask(both if decided == "pair" else Key(lacking, "hat", "add"))], IGNORED)
    again = chain(*((commented(data), tags) for data, tags in pictures))[NEAR_DUPLICATES.name]
    now = hashlib.sha256(commented(pictures[1][0])).hexdigest()
    assert now not in {pair["hash1"], pair["hash2"]} and (now, "hat") not in suggested(again)
    assert len(again["similar_pairs"]) == (0 if decided == "pair" else 1)
