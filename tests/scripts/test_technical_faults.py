"""Technical faults: one made picture for each, and sound pictures that are left alone."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import find_technical_faults
from tagcheck import data_folder, detectors
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.dataset import Record
from tagcheck.findings import TagFinding
from tagcheck.pictures.file_formats import Limits


def sound(size: int = 400) -> Image.Image:
    """A picture with colours and sharp edges."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (size // 20, size // 20, 3)).astype(np.uint8))
    return small.resize((size, size), Image.Resampling.NEAREST)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def faults_of(
    folder: DataFolder, root: Path, name: str, data: bytes, *more: str, tags: tuple[str, ...] = (), **about: object
) -> dict[str, dict]:
    """What the script finds in a library of this one file: tag -> its entry in the report."""
    root.mkdir()
    (root / name).write_bytes(data)
    hash = hashlib.sha256(data).hexdigest()
    (root / f"{name}.txt").write_text("\n".join(("solo", *tags)), encoding="utf-8")
    row = {"hash": hash, "existing_all_tags": ["solo", *tags], "file_path": str(root / name), **about}
    data_folder.save(folder, DATASET, {"results": [row]})
    assert find_technical_faults.main(["--data-dir", str(folder.root), "--library", str(root), *more]) == 0
    kind = detectors.own_report("find_technical_faults.py")
    report = data_folder.load(folder.newest(kind), kind)
    assert report["summary"] == {
        "total_images_analyzed": 1,
        "newly_looked_at": 1,
        "errors_found": len(report["errors"]),
    }
    return {row["tag"]: row for error in report["errors"] for row in error["tags"]}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_sound_picture_has_no_fault(folder, tmp_path, kind):
    name = {"PNG": "a.png", "JPEG": "a.jpg", "WEBP": "a.webp"}[kind]
    assert faults_of(folder, tmp_path / "library", name, encoded(sound(), kind), tags=("red hair",)) == {}


def test_a_plain_or_transparent_picture_is_neither_blurred_nor_dark(folder, tmp_path):
    assert faults_of(folder, tmp_path / "plain", "a.png", encoded(Image.new("RGB", (300, 300), "#4060a0"))) == {}
    assert faults_of(folder, tmp_path / "clear", "b.png", encoded(Image.new("RGBA", (300, 300), (0, 0, 0, 0)))) == {}


def test_what_extraction_found_damaged_is_told(folder, tmp_path):
    data = encoded(sound(), "JPEG")
    found = faults_of(folder, tmp_path / "library", "a.jpg", data[:-2], damaged="it lacks its end mark")
    assert list(found) == ["fault:damaged"] and "it lacks its end mark" in found["fault:damaged"]["why"]


@pytest.mark.parametrize("status", ["unreadable", "ok"])
def test_a_file_that_was_cut_off_is_damaged_whether_or_not_the_dataset_knows(folder, tmp_path, status):
    about = {"status": status, "reason": "the file is damaged: image file is truncated"} if status != "ok" else {}
    data = encoded(sound(), "PNG")
    found = faults_of(folder, tmp_path / "library", "a.png", data[: len(data) // 2], **about)
    assert list(found) == ["fault:damaged"] and found["fault:damaged"]["confidence"] == 0.99
    assert found["fault:damaged"]["why"].count("damaged") == 1


@pytest.mark.parametrize(
    "reason", ["too large: 20000 x 9000 pixels, the limit is 100000000", "took longer than 60 s to decode"]
)
def test_what_is_beyond_the_limits_is_no_damage(folder, tmp_path, reason, monkeypatch):
    monkeypatch.setattr(find_technical_faults, "Limits", lambda frames: Limits(pixels=100, frames=frames))
    about = {"status": "unreadable", "reason": reason}
    assert faults_of(folder, tmp_path / "library", "a.png", encoded(sound()), **about) == {}


def test_a_tiny_picture(folder, tmp_path):
    found = faults_of(folder, tmp_path / "library", "a.png", encoded(sound(400).crop((0, 0, 300, 50))))
    assert list(found) == ["fault:tiny"] and found["fault:tiny"]["evidence"] == {"width": 300, "height": 50}


def test_a_wrong_extension(folder, tmp_path):
    found = faults_of(folder, tmp_path / "library", "a.png", encoded(sound(), "WEBP"))
    assert list(found) == ["fault:wrong extension"]
    assert found["fault:wrong extension"]["why"] == "Its name ends in .png and it is a WebP file."


def test_a_dark_picture(folder, tmp_path):
    found = faults_of(folder, tmp_path / "library", "a.png", encoded(sound().point(lambda value: value // 12)))
    assert list(found) == ["fault:dark"] and 0.5 < found["fault:dark"]["confidence"] <= 0.95


def test_a_blurred_picture_surer_the_more_it_is(folder, tmp_path):
    def blurred(radius: int) -> float:
        picture = sound().filter(ImageFilter.GaussianBlur(radius))
        found = faults_of(folder, tmp_path / str(radius), "a.png", encoded(picture))
        assert list(found) == ["fault:blurred"]
        return found["fault:blurred"]["confidence"]

    assert blurred(3) < blurred(6) <= 0.95


def test_grey_where_colours_are_tagged(folder, tmp_path):
    tags = ("red hair", "blue eyes", "black hair", "blue archive")
    found = faults_of(folder, tmp_path / "library", "a.jpg", encoded(sound().convert("L"), "JPEG"), tags=tags)
    assert set(found) == {"red hair", "blue eyes"} and {row["kind"] for row in found.values()} == {"incorrect"}


def test_a_fault_that_is_tagged_already_is_not_told_again(folder, tmp_path):
    data = encoded(sound().crop((0, 0, 50, 50)))
    assert faults_of(folder, tmp_path / "library", "a.png", data, tags=("fault:tiny",)) == {}


def test_findings_below_the_confidence_asked_for_are_left_out(folder, tmp_path):
    data = encoded(sound().filter(ImageFilter.GaussianBlur(3)))
    assert faults_of(folder, tmp_path / "library", "a.png", data, "--min-confidence", "0.96") == {}


def test_a_run_that_ends_early_keeps_what_it_has_found(folder, tmp_path, monkeypatch):
    data = encoded(sound().crop((0, 0, 50, 50)))
    assert faults_of(folder, tmp_path / "library", "a.png", data)
    kind = detectors.own_report("find_technical_faults.py")
    (row,) = data_folder.load(folder.newest(DATASET), DATASET)["results"]
    others = [row | {"hash": f"{place:064x}"} for place in range(3)]
    data_folder.save(folder, DATASET, {"results": [row, *others]})
    real, seen = find_technical_faults.faults, []

    def faults(library: object, record: Record, decoders: object) -> Iterator[TagFinding]:
        seen.append(record.hash)
        if record.hash == others[2]["hash"] and len(seen) == 3:
            raise KeyboardInterrupt
        yield from (
            real(library, record, decoders)
            if record.hash == row["hash"]
            else [find_technical_faults.fault("x", 0.9, "So.")]
        )

    monkeypatch.setattr(find_technical_faults, "faults", faults)
    monkeypatch.setattr(find_technical_faults.os, "cpu_count", lambda: 1)
    argv = ["--data-dir", str(folder.root), "--library", str(tmp_path / "library")]
    with pytest.raises(KeyboardInterrupt):
        find_technical_faults.main(argv)
    assert find_technical_faults.main(argv) == 0 and seen == [one["hash"] for one in (*others, others[2])]
    report = data_folder.load(folder.newest(kind), kind)
    assert report["summary"]["newly_looked_at"] == 1 and len(report["errors"]) == 4
    assert not list((folder.root / "reports").glob("*so_far*"))


def test_a_later_run_looks_at_what_is_new_or_has_changed_alone(folder, tmp_path, monkeypatch, capsys):
    data = encoded(sound().crop((0, 0, 50, 50)))
    assert faults_of(folder, tmp_path / "library", "a.png", data)
    kind = detectors.own_report("find_technical_faults.py")
    first = data_folder.load(folder.newest(kind), kind)["errors"]
    rows = data_folder.load(folder.newest(DATASET), DATASET)["results"]

    def looked(*more: str) -> tuple[int, list[dict]]:
        find_technical_faults.main(["--data-dir", str(folder.root), "--library", str(tmp_path / "library"), *more])
        report = data_folder.load(folder.newest(kind), kind)
        return report["summary"]["newly_looked_at"], report["errors"]

    assert looked() == (0, first)
    data_folder.save(folder, DATASET, {"results": rows})
    assert looked() == (0, first)
    assert looked("--min-confidence", "0.6") == (1, first)
    data_folder.save(folder, DATASET, {"results": [rows[0] | {"existing_all_tags": ["fault:tiny"]}]})
    assert looked("--min-confidence", "0.6") == (1, [])
    monkeypatch.setattr(find_technical_faults.changed, "program_as_of_now", lambda root: "updated")
    assert looked("--min-confidence", "0.6")[0] == 1
