"""Stage 2 embeds every readable picture once, brings tags up to date each time, and loses nothing to a bad file or a kill."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import warm
from conftest import PROJECT
from joytag_folder import make_tiny_model_folder
from PIL import Image

import advanced_joytag_processing as stage
from tagcheck import data_folder, dataset
from tagcheck.data_folder import DATASET, MAPPING, DataFolder
from tagcheck.embedding import store, tagger
from tagcheck.errors import BadFile, LibraryUnreachable, MissingInput, UsageError
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.lock import sole_run
from tagcheck.pictures import decoder_processes, file_formats, unreadable
from tagcheck.pictures.decoder_processes import Prepared
from tagcheck.pictures.preparation import Recipe, prepare, prepare_bytes
from tagcheck.review.store import IGNORED, Ask, Key, Review


def picture(seed: int, format: str = "PNG", **options: object) -> bytes:
    colours = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(colours).resize((60, 45), Image.Resampling.BICUBIC).save(out, format, **options)
    return out.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


QUICK = {"device": "cpu", "precision": "float32", "decoders": 1}


class Shelf:
    """A folder library of pictures with sidecar tags, the data folder that maps it, and a model folder."""

    def __init__(self, root: Path, data: DataFolder) -> None:
        self.root, self.data, self.model = root / "pictures", data, make_tiny_model_folder(root / "model")
        self.hashes: list[str] = []
        self.root.mkdir()

    def put(self, name: str, data: bytes, tags: str | None = None) -> str:
        (self.root / name).write_bytes(data)
        if tags is not None:
            (self.root / f"{name}.txt").write_text(tags)
        self.hashes.append(digest(data))
        return self.hashes[-1]

    def map(self) -> None:
        pages = [{"path": ["dataset", "a, b"], "page_key": "k", "hashes": self.hashes}]
        data_folder.save(
            self.data,
            MAPPING,
            {"library": {"type": "folder", "path": str(self.root)}, "root": ["dataset"], "pages": pages},
        )

    def arguments(self, *more: object) -> list[str]:
        given = {"data-dir": self.data.root, "model-dir": self.model, **QUICK}
        return [*(f"--{name}={value}" for name, value in given.items()), *map(str, more)]

    def run(self, *more: object) -> dataset.Dataset:
        self.map()
        assert stage.main(self.arguments(*more)) == 0
        return dataset.load(self.data)

    def rows(self) -> dict[str, np.ndarray]:
        found = store.load(self.data.embeddings)
        return dict(zip(found.hashes, found.matrix))


@pytest.fixture
def shelf(tmp_path: Path, folder: DataFolder) -> Shelf:
    return Shelf(tmp_path, folder)


def test_a_picture_becomes_a_record_and_the_embedding_that_the_network_gives(shelf, capsys):
    hash = shelf.put("a.png", picture(1), "Series:Elves, blue eyes, character:Ann, title:At Sea")
    data = shelf.run()
    (row,) = data_folder.load(data.path, DATASET)["results"]
    assert (row["hash"], row["status"], row["pages"]) == (hash, "ok", [["dataset", "a, b"]])
    assert row["existing_all_tags"] == ["blue eyes", "character:ann", "series:elves", "title:at sea"]
    assert row["existing_series_tags"] == ["series:elves"]
    assert row["extra_metadata"] == {"person_tags": ["character:ann"], "title_tags": ["title:at sea"]}
    assert (
        data.header["model"] | {"name": "JoyTag", "precision": "float32", "dim": 32, "tags": 12} == data.header["model"]
    )
    model = tagger.load(shelf.model, "cpu", "float32")
    expected = model.embed(prepare_bytes(picture(1), 64))[0]
    found = store.load(shelf.data.embeddings, model=data.model)
    assert (
        (found.model, found.preprocess)
        == (model.id, model.preprocess_id)
        == (data.model, data.header["model"]["preprocess"])
    )
    np.testing.assert_array_equal(found.matrix[0], expected.astype(np.float16).astype(np.float32))
    head = store.load_tag_head(shelf.data.embeddings, model=data.model)
    assert head.tags == model.tags
    said = capsys.readouterr()
    assert said.out.startswith("1 picture: 1 embedded, 0 reused; ") and str(data.path) in said.out
    assert "JoyTag" in said.err and "float32, batches of" in said.err


def test_one_unreadable_picture_costs_one_row_and_keeps_its_tags(shelf):
    good = [shelf.put(f"{n}.png", picture(n)) for n in range(5)]
    cut = shelf.put("cut.png", picture(9)[:500], "red hair")
    text = shelf.put("text.jpg", b"not a picture", "blue hair")
    gone = shelf.put("gone.png", picture(10))
    shelf.map()
    (shelf.root / "gone.png").unlink()
    data = shelf.run("--batch-size", 2)
    found = {record.hash: (record.status, record.raw.get("reason"), sorted(record.tags)) for record in data.records}
    assert [found[hash][0] for hash in good] == ["ok"] * 5
    assert found[cut][0] == "unreadable" and "truncated" in found[cut][1] and found[cut][2] == ["red hair"]
    assert found[text] == ("unsupported", "not a picture of a kind that can be read here", ["blue hair"])
    assert found[gone][0] == "missing" and found[gone][1]
    counts = {"mapped": 8, "ok": 5, "embedded": 5, "reused": 0, "unreadable": 1, "unsupported": 1, "missing": 1}
    assert data.header["summary"] | counts == data.header["summary"]
    assert "2" < data.header["tags_read"] <= data.header["created"]
    assert set(shelf.rows()) == set(good)


def test_a_second_run_reads_no_picture_and_every_tag(shelf):
    hash = shelf.put("a.png", picture(1), "old tag")
    shelf.run()
    before = sorted(shelf.data.embeddings.iterdir())
    (shelf.root / "a.png.txt").write_text("new tag")
    other = shelf.put("b.png", picture(2))
    data = shelf.run()
    assert {record.hash: sorted(record.tags) for record in data.records} == {hash: ["new tag"], other: []}
    assert (data.header["summary"]["embedded"], data.header["summary"]["reused"]) == (1, 1)
    assert len([path for path in shelf.data.embeddings.iterdir() if path not in before]) == 1


def reads(shelf, monkeypatch) -> list[str]:
    """The hashes that are read from the library from now on."""
    asked: list[str] = []
    read = FolderLibrary.read

    def noted(self, hash):
        asked.append(hash)
        return read(self, hash)

    monkeypatch.setattr(FolderLibrary, "read", noted)
    return asked


def test_a_file_that_no_decoder_here_reads_is_not_read_again_until_something_changed(shelf, monkeypatch):
    good = shelf.put("a.png", picture(1))
    cut, text = shelf.put("cut.png", picture(2)[:400], "red hair"), shelf.put("text.jpg", b"no picture")
    gone = shelf.put("gone.png", picture(3))
    shelf.map()
    (shelf.root / "gone.png").unlink()
    first = shelf.run()
    asked = reads(shelf, monkeypatch)
    (shelf.root / "cut.png.txt").write_text("blue hair")
    again = shelf.run()
    assert asked == []
    told = {record.hash: (record.status, record.raw.get("reason")) for record in first.records}
    assert {record.hash: (record.status, record.raw.get("reason")) for record in again.records} == told
    assert [told[hash][0] for hash in (good, cut, text, gone)] == ["ok", "unreadable", "unsupported", "missing"]
    assert {record.hash: sorted(record.tags) for record in again.records}[cut] == ["blue hair"]
    assert (first.header["summary"]["not_tried_again"], again.header["summary"]["not_tried_again"]) == (0, 2)
    shelf.run("--retry")
    assert asked == [cut, text]
    monkeypatch.setattr("tagcheck.pictures.file_formats.PIL.__version__", "99.0")
    del asked[:]
    shelf.run()
    assert asked == [cut, text]
    del asked[:]
    shelf.run()
    shelf.run("--max-pixels", 50)
    assert asked == [cut, text]


def test_a_file_that_was_given_up_for_the_machines_sake_is_tried_again(shelf, monkeypatch):
    shelf.put("a.png", picture(1))
    crashed = shelf.put("b.png", picture(2))
    prepare = decoder_processes.Decoder.prepare

    def crash(self, data):
        if data == picture(2):
            raise file_formats.ImagePassing("the decoder crashed on it")
        return prepare(self, data)

    with monkeypatch.context() as patched:
        patched.setattr(decoder_processes.Decoder, "prepare", crash)
        assert {record.hash: record.status for record in shelf.run().records}[crashed] == "unreadable"
    assert {record.hash: record.status for record in shelf.run().records}[crashed] == "ok"


def test_what_is_remembered_of_bad_files_is_held_against_its_kind(shelf):
    shelf.put("a.png", picture(1))
    shelf.put("b.png", b"words")
    shelf.run()
    path = shelf.data.embeddings / unreadable.UNREADABLE.name
    kept = json.loads(path.read_text())
    for changed in ("{", json.dumps(kept | {"kind": "other"}), json.dumps(kept | {"files": [{}]}), "[]"):
        path.write_text(changed)
        with pytest.raises(BadFile, match="unreadable.json.*remove it, and the files in it are tried again"):
            shelf.run()


def test_a_record_has_the_size_that_its_decoder_found_also_in_later_runs(shelf):
    exif = Image.Exif()
    exif[0x0112] = 6
    lying, upright = shelf.put("a.jpg", picture(1, "JPEG", exif=exif)), shelf.put("b.png", picture(2))
    shelf.put("c.png", b"words")
    for _ in range(2):
        found = {record.hash: (record.raw.get("width"), record.raw.get("height")) for record in shelf.run().records}
        assert (found[lying], found[upright]) == ((45, 60), (60, 45)) and (None, None) in found.values()


def test_a_gpu_gets_its_next_batch_before_the_last_is_waited_for(monkeypatch):
    """The order of things on a GPU, with a stand-in: two batches on their way at most, every row its own picture's."""
    order: list[str] = []

    class Pretended:
        ahead, batch_size, recipe = 1, 2, Recipe(4)

        def begin(self, frames):
            order.append(f"begin {len(frames)}")
            values = np.array([[frame[0, 0, 0], 1.0] for frame in frames], np.float32)
            return SimpleNamespace(rows=lambda: order.append("wait") or values)

    files = [Prepared(str(n), np.full((1 + n % 2, 3, 4, 4), n, np.uint8), size=(4, 4)) for n in range(5)]
    files.insert(2, Prepared("bad", None, "unreadable", "damaged"))
    work = stage.Work()
    rows = dict(stage.embedded_rows(files, Pretended(), work))
    assert {hash: row[0] for hash, row in rows.items()} == {str(n): n for n in range(5)}
    assert order == ["begin 2", "begin 2", "wait", "begin 2", "wait", "begin 1", "wait", "wait"]
    assert work.tried == {*map(str, range(5)), "bad"} and set(work.failures) == {"bad"}


def test_what_a_worker_of_a_cluster_did_is_all_taken_over():
    one, all_ = (
        stage.Work({"a"}, {"b": Prepared("b", None)}, {"a": (3, 4)}, {}, {"a": "no end"}, {"a": "00"}),
        stage.Work(),
    )
    all_.add(one)
    assert vars(all_) | {"clocks": None} == vars(one) | {"clocks": None}


def test_an_animation_gets_the_mean_of_its_frames(shelf):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    hash = shelf.put("a.gif", out.getvalue())
    shelf.put("b.png", picture(3))
    shelf.run("--frames", 3, "--batch-size", 2)
    model = tagger.load(shelf.model, "cpu", "float32")
    expected = model.embed([prepare(frame, 64) for frame in frames]).mean(axis=0)
    np.testing.assert_allclose(shelf.rows()[hash], expected, atol=2e-3)


def test_a_limit_leaves_the_rest_out_and_says_how_many(shelf):
    for n in range(5):
        shelf.put(f"{n}.png", picture(n))
    data = shelf.run("--limit", 2)
    assert len(data.records) == 2 and data.header["summary"]["not_yet_embedded"] == 3
    data = shelf.run("--limit", 2)
    assert len(data.records) == 4 and data.header["summary"]["reused"] == 2
    place = f"memory://{shelf.data.root}"
    assert len(shelf.run("--store", place).records) == 5
    rows = shelf.rows()
    shelf.data = DataFolder(shelf.data.root.with_name("of_another_machine"))
    shelf.data.root.mkdir()
    summary = shelf.run("--store", place, "--limit", 0).header["summary"]
    assert summary["reused"] == 5, "what stands in the store is not made again"
    assert all((shelf.rows()[hash] == row).all() for hash, row in rows.items())


def test_precision_auto_keeps_that_of_the_embeddings_that_are_there(shelf):
    shelf.put("a.png", picture(1))
    first = shelf.run("--precision", "bfloat16")
    shelf.put("b.png", picture(2))
    assert shelf.run("--precision", "auto").model == first.model
    with pytest.raises(BadFile, match="holds embeddings of joytag-.*-bfloat16 .*this run would make joytag-.*-float32"):
        shelf.run("--precision", "float32")


def test_nothing_embedded_is_an_error_and_no_dataset(shelf):
    shelf.put("a.png", picture(1)[:300])
    with pytest.raises(MissingInput, match="none of the pictures .* could be embedded .1 unreadable.*truncated"):
        shelf.run()
    shelf.hashes = []
    shelf.put("b.png", picture(1))
    with pytest.raises(MissingInput, match="has an embedding yet: run without --limit"):
        shelf.run("--limit", 0)
    assert shelf.data.newest(DATASET) is None


def test_a_mapping_that_is_empty_or_odd_is_refused_by_name(shelf):
    with pytest.raises(MissingInput, match="no dataset_mapping_.* run dataset_hardcore_mapper.py first"):
        stage.main(shelf.arguments())
    with pytest.raises(MissingInput, match="dataset_mapping_.*json holds no pictures"):
        shelf.run()
    shelf.hashes = ["ABC"]
    with pytest.raises(BadFile, match="'ABC' is not a hash"):
        shelf.run()


def test_a_second_run_at_once_is_told_who_is_there(shelf):
    shelf.put("a.png", picture(1))
    with (
        sole_run(shelf.data.embeddings / stage.EXTRACTION_LOCK),
        pytest.raises(UsageError, match=rf"another run \(process {os.getpid()}, started 20\d\d-.*Z\) is at work in"),
    ):
        shelf.run()
    assert len(shelf.run().records) == 1


def test_a_network_that_gives_no_numbers_costs_rows_not_the_run(shelf, monkeypatch):
    for n in range(3):
        shelf.put(f"{n}.png", picture(n))
    rows = tagger.Begun.rows

    def broken(self):
        found = rows(self)
        found[0] = np.nan
        return found

    monkeypatch.setattr(tagger.Begun, "rows", broken)
    data = shelf.run("--batch-size", 8)
    assert [record.status for record in data.records] == ["unreadable", "ok", "ok"]
    assert data.records[0].raw["reason"] == "the network gives no finite numbers for it"


def test_without_hydrus_nothing_is_written_and_nobody_is_blamed_but_hydrus(shelf, monkeypatch):
    shelf.put("a.png", picture(1))
    monkeypatch.setattr(stage.config, "API_URL", "http://127.0.0.1:9")
    with pytest.raises(LibraryUnreachable, match="127.0.0.1:9"):
        shelf.run("--library", "hydrus")
    assert shelf.data.newest(DATASET) is None and not store.shard_paths(shelf.data.embeddings)


# Each batch takes a while, so that a run is not over before it is killed.
SHORT_SHARDS = """
import time
import advanced_joytag_processing as stage
from tagcheck.embedding.tagger import Begun
rows = Begun.rows
Begun.rows = lambda self: time.sleep(0.1) or rows(self)
stage.FLUSH_SECONDS, stage.AHEAD_BATCHES = 0.0, 1
stage.run(stage.main)
"""


def holder(shelf: Shelf) -> int:
    """The process that the lock of the stage names."""
    return json.loads((shelf.data.embeddings / stage.EXTRACTION_LOCK).read_text())["pid"]


def test_after_kills_every_picture_is_embedded_once_and_bit_equal(shelf, tmp_path):
    for n in range(36):
        shelf.put(f"{n:03}.png", picture(n))
    shelf.put("cut.png", picture(99)[:400])
    shelf.map()
    rng = random.Random(5)
    kills = 0
    for _ in range(2):
        process = subprocess.Popen(
            [warm.python(), "-c", SHORT_SHARDS, *shelf.arguments("--batch-size", 3)],
            cwd=PROJECT,
            stderr=subprocess.DEVNULL,
        )
        have = len(store.shard_paths(shelf.data.embeddings))
        while process.poll() is None and len(store.shard_paths(shelf.data.embeddings)) < have + 3:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.05)
        os.kill(holder(shelf), signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 2 and 0 < len(shelf.rows()) < 36
    (shelf.data.embeddings / ".embeddings_20260101T000000Z_000000.pt.x.tmp").write_bytes(
        b"what a kill leaves in the middle of a shard"
    )
    assert shelf.run().header["summary"]["ok"] == 36
    shards = [torch.load(path, weights_only=True) for path in store.shard_paths(shelf.data.embeddings)]
    assert sorted(hash for shard in shards for hash in shard["hashes"]) == sorted(shelf.hashes[:-1])
    assert not list(shelf.data.embeddings.glob(".*.tmp"))
    killed = shelf.rows()
    whole = DataFolder(tmp_path / "whole")
    whole.root.mkdir()
    shelf.data = whole
    shelf.run("--batch-size", 8)
    assert {hash: row.tobytes() for hash, row in shelf.rows().items()} == {
        hash: row.tobytes() for hash, row in killed.items()
    }


@pytest.mark.parametrize("others", [False, True])
def test_a_shard_with_a_flipped_bit_is_named_and_embedded_again(shelf, capfd, others):
    shelf.put("a.png", picture(1))
    shelf.run()
    path = store.shard_paths(shelf.data.embeddings)[0]
    if others:
        shelf.put("b.png", picture(2))
        shelf.run()
    before, data = shelf.rows(), bytearray(path.read_bytes())
    data[data.index(store.load(shelf.data.embeddings).matrix.astype(np.float16).tobytes()[:64])] ^= 4
    path.write_bytes(data)
    capfd.readouterr()
    shelf.run()
    assert f"{path.name} cannot be read (it holds other bytes than were written" in capfd.readouterr().err
    after = shelf.rows()
    assert after.keys() == before.keys() and all((after[hash] == before[hash]).all() for hash in before)


def test_ctrl_c_keeps_what_was_finished(shelf):
    for n in range(100):
        shelf.put(f"{n:03}.png", picture(n))
    shelf.map()
    process = subprocess.Popen(
        [warm.python(), "-c", SHORT_SHARDS, *shelf.arguments("--batch-size", 2)],
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not store.shard_paths(shelf.data.embeddings):
        time.sleep(0.01)
    os.kill(holder(shelf), signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130 and "run the same command again" in said
    assert shelf.rows() and shelf.data.newest(DATASET) is None


def test_a_first_look_is_spread_and_the_next_run_goes_on_with_the_rest(shelf, capsys):
    for seed in range(24):
        shelf.put(f"{seed}.png", picture(seed), f"series:{seed % 4}")
    data = shelf.run("--first", 8)
    assert {tag for one in data.records for tag in one.raw["existing_series_tags"]} == {f"series:{n}" for n in range(4)}
    assert (len(data.records), data.mapped, data.share(8)) == (8, 24, "8 of 24 pictures")
    seen = {one.hash for one in data.records}
    assert len(shelf.run("--max-embeddings", 8).records) == 8, "eight are there already"
    data = shelf.run("--first", 12)
    assert seen < {one.hash for one in data.records} and len(data.records) == 12
    data = shelf.run()
    assert (len(data.records), data.header["summary"]["reused"], data.share(24)) == (24, 12, "24 pictures")


class Ticking:
    """A clock of which each look takes a second."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1
        return self.now


def test_a_first_look_may_be_a_time_in_which_what_copies_look_like_is_measured_too(shelf, monkeypatch):
    for seed in range(40):
        shelf.put(f"{seed}.png", picture(seed), f"series:{seed % 4}")
    embedded, measured = [], []
    monkeypatch.setattr(stage, "CHECKED_EVERY", 0)
    monkeypatch.setattr(stage, "measure_copies", lambda job, infos, records: measured.append(len(records)))
    for changed in (0, 4, 500):
        monkeypatch.setattr(stage, "time", Ticking())
        monkeypatch.setattr(stage.measuring, "changes", lambda folder, model, pictures, of=changed: of)
        summary = shelf.run("--first", "1min").header["summary"]
        embedded.append(summary["embedded"])
        assert changed == 500 or 40 < summary["seconds"]["total"] + 1.5 * changed < 61
    assert 40 > embedded[0] > embedded[1] > 4
    assert measured == [sum(embedded[:2])], "none to measure, some, and too many for a minute"
    monkeypatch.undo()
    assert len(shelf.run("--first", "1h").records) == 40


@pytest.mark.parametrize("wrong", ["0", "-3", "0min", "1.5h", "ten", "10 m", "\u0663"])
def test_a_first_look_is_a_number_of_pictures_or_a_time(shelf, capsys, wrong):
    with pytest.raises(SystemExit):
        shelf.run(f"--first={wrong}")
    assert "neither a number of pictures nor a time such as 10min" in capsys.readouterr().err
