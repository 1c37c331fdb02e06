"""Shards of embeddings: what was written is found again, of one model only, and damage is named."""

from __future__ import annotations

import os
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from tagcheck.embedding import store
from tagcheck.embedding.store import (
    ShardWriter,
    TagHead,
    embedded,
    found_model,
    load,
    load_tag_head,
    save_tag_head,
    shard_paths,
)
from tagcheck.errors import BadFile, MissingInput

try:
    import resource
except ImportError:  # Windows
    resource = None

A, B, C, D = (letter * 64 for letter in "abcd")


def write(folder: Path, rows: dict[str, list[float]], model: str = "m", preprocess: str = "p", **options) -> None:
    with ShardWriter(folder, model, preprocess, **options) as writer:
        writer.add(list(rows), np.array(list(rows.values())))


def shard(path: Path, **changes) -> Path:
    """A shard as another program might write it."""
    document = {
        "kind": "embeddings",
        "version": 1,
        "model": "m",
        "preprocess": "p",
        "hashes": [A, B],
        "embeddings": torch.ones(2, 3),
    }
    torch.save(document | changes, path)
    return path


def as_dict(found: store.Embeddings) -> dict[str, list[float]]:
    return dict(zip(found.hashes, found.matrix.tolist()))


# --- writing and finding again -------------------------------------------------------------------------


def test_what_was_written_is_found_again_by_hash(tmp_path):
    write(tmp_path, {B: [1, 2, 3], A: [4, 5, 6]})
    found = load(tmp_path)
    assert (found.hashes, found.matrix.tolist(), found.matrix.dtype) == ([A, B], [[4, 5, 6], [1, 2, 3]], np.float32)
    assert (found.model, found.preprocess) == ("m", "p") == found_model(tmp_path) and set(
        embedded(tmp_path, "m", "p")
    ) == {A, B}


def test_asked_for_by_hash_only_those_come_in_the_order_asked(tmp_path):
    write(tmp_path, {A: [1, 1], B: [2, 2], C: [3, 3]})
    found = load(tmp_path, [C, D, A, C])
    assert (found.hashes, found.matrix.tolist()) == ([C, A], [[3, 3], [1, 1]])
    none = load(tmp_path, [D])
    assert (none.hashes, none.matrix.shape) == ([], (0, 2))


def test_a_shard_is_written_whenever_it_is_full_and_at_the_end(tmp_path):
    with ShardWriter(tmp_path, "m", "p", rows=2) as writer:
        for number in range(5):
            writer.add([f"{number:064x}"], np.full((1, 2), number))
            assert len(shard_paths(tmp_path)) == (number + 1) // 2
    assert len(shard_paths(tmp_path)) == 3 and writer.written == 5
    assert load(tmp_path).matrix[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_an_interrupted_run_keeps_what_it_had(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, "m", "p", rows=2) as writer:
        writer.add([A, B, C], np.ones((3, 2)))
        raise KeyboardInterrupt
    assert load(tmp_path).hashes == [A, B, C]


def test_the_later_of_two_shards_wins_also_when_the_clock_was_set_back(tmp_path, monkeypatch):
    clock = datetime(2026, 11, 23, tzinfo=UTC)
    for step, value in ((0, 1.0), (0, 2.0), (-3600, 3.0)):
        monkeypatch.setattr(store, "utc_now", lambda step=step: clock + timedelta(seconds=step))
        write(tmp_path, {A: [value]})
    assert [path.name for path in shard_paths(tmp_path)] == [
        f"embeddings_20261123T000000Z_00000{number}.pt" for number in range(3)
    ]
    assert as_dict(load(tmp_path)) == {A: [3.0]}


def test_numbers_are_kept_to_half_precision_and_larger_ones_than_that_holds_in_full(tmp_path):
    write(tmp_path, {A: [0.1, 1000.5]})
    write(tmp_path, {B: [1e6, 0.1]})
    write(tmp_path, {C: [1e-6, 3e-8]})
    found = as_dict(load(tmp_path))
    assert found[A] == pytest.approx([0.1, 1000.5], rel=1e-3) and found[B] == [1e6, np.float32(0.1)]
    assert found[C] == [np.float32(1e-6), np.float32(3e-8)]


def test_rows_that_are_no_numbers_or_too_few_are_refused_before_anything_is_written(tmp_path):
    with ShardWriter(tmp_path, "m", "p") as writer:
        for value in (np.nan, np.inf, 1e13, 1e300):
            with pytest.raises(ValueError, match="not finite numbers, or beyond 1e.12"):
                writer.add([A], np.array([[value]]))
        with pytest.raises(ValueError, match="2 hashes for 1 rows"):
            writer.add([A, B], np.ones((1, 2)))
    assert shard_paths(tmp_path) == []


def test_a_shard_whose_name_another_process_takes_in_that_moment_gets_the_next(tmp_path, monkeypatch):
    real, asked = store._next_name, []

    def next_name(folder, ending):
        asked.append(real(folder, ending))
        if len(asked) == 1:
            write(folder, {B: [2, 2]})  # the other process is quicker
        return asked[0] if len(asked) == 1 else asked[-1]

    monkeypatch.setattr(store, "_next_name", next_name)
    write(tmp_path, {A: [1, 1]})
    assert as_dict(load(tmp_path)) == {A: [1, 1], B: [2, 2]} and len(shard_paths(tmp_path)) == 2


def test_files_of_other_names_do_not_disturb(tmp_path):
    """A shard that another program or the owner named, a hidden file of a file manager, and what a kill left."""
    shard(tmp_path / "embeddings_backup.pt", hashes=[A, B])
    (tmp_path / "._embeddings_backup.pt").write_bytes(b"\0\5\26\7")
    (tmp_path / ".embeddings_20261123T000000Z_000000.pt.ab12cd34.tmp").write_bytes(b"half")
    (tmp_path / "README.md").write_text("words")
    write(tmp_path, {C: [1, 1, 1]})
    write(tmp_path, {D: [1, 1, 1]})
    assert load(tmp_path).hashes == [A, B, C, D]


def test_a_full_disk_is_an_error_of_the_system_with_the_shards_name_and_leaves_no_shard(tmp_path):
    """A limit on file sizes stands in for the full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large: .*/embeddings_2"):
            write(tmp_path, {f"{number:064x}": [1.0] * 768 for number in range(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


# --- the older layout ----------------------------------------------------------------------------------


def test_one_tensor_a_picture_is_read_too_and_loses_against_a_shard(tmp_path):
    torch.save(torch.tensor([1.0, 2.0]), tmp_path / f"{A}.pt")
    torch.save(torch.tensor([[3.0, 4.0]], dtype=torch.float64), tmp_path / f"{B}.pt")
    torch.save(torch.nn.Parameter(torch.tensor([5.0, 6.0])), tmp_path / f"{D}.pt")
    found = load(tmp_path)
    assert as_dict(found) == {A: [1, 2], B: [3, 4], D: [5, 6]} and (found.model, found.preprocess) == (None, None)
    write(tmp_path, {B: [7, 8]})
    assert as_dict(load(tmp_path, [D, B])) == {D: [5, 6], B: [7, 8]} and load(tmp_path).model == "m"


def test_the_older_layout_does_not_use_up_the_systems_mappings(tmp_path):
    for number in range(100):
        torch.save(torch.ones(3), tmp_path / f"{number:064x}.pt")
    before = len(Path("/proc/self/maps").read_text().splitlines())
    parts = [store._load_single(path) for path in sorted(tmp_path.glob("*.pt"))]
    assert len(Path("/proc/self/maps").read_text().splitlines()) - before < 50 and len(parts) == 100


@pytest.mark.parametrize(
    "value", [torch.tensor([1, 2]), torch.tensor([]), [1.0, 2.0], {"a": 1}, torch.eye(2).to_sparse()]
)
def test_what_is_no_embedding_in_the_older_layout_is_named(tmp_path, value):
    torch.save(value, tmp_path / f"{A}.pt")
    with pytest.raises(BadFile, match=f"{A}.pt is not one tensor of floating-point numbers"):
        load(tmp_path)


def test_an_older_file_of_another_length_is_named(tmp_path):
    torch.save(torch.ones(2), tmp_path / f"{A}.pt")
    torch.save(torch.ones(3), tmp_path / f"{B}.pt")
    with pytest.raises(BadFile, match=f"{B}.pt has 3 numbers, the others have 2"):
        load(tmp_path)


# --- damage --------------------------------------------------------------------------------------------


def test_none_at_all_says_what_to_run(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(MissingInput, match="no embeddings in .*: run advanced_joytag_processing.py first"):
            load(folder)
        assert found_model(folder) is None and embedded(folder, "m", "p") == {} and load_tag_head(folder) is None


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 500, -1, -30, -200])
def test_a_shard_that_was_cut_off_anywhere_is_named(tmp_path, keep):
    path = shard(tmp_path / "x.pt")
    path.write_bytes(path.read_bytes()[:keep])
    for use in (lambda: load(tmp_path), lambda: embedded(tmp_path, "m", "p"), lambda: found_model(tmp_path)):
        with pytest.raises(
            BadFile, match=r"x.pt cannot be read \(.+\): remove it and run advanced_joytag_processing.py again"
        ):
            use()


def test_random_damage_is_named_or_changes_numbers_only(tmp_path):
    """Flipped bytes anywhere: a BadFile that names the file, or rows of the right shape; never another error."""
    path = shard(tmp_path / "x.pt")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), size=3):
            damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            found = load(tmp_path)
        except BadFile as error:
            assert "x.pt" in str(error)
            named += 1
        else:
            assert found.matrix.shape == (len(found.hashes), 3)
    assert named > 20


@pytest.mark.parametrize(
    "content", [b"PK\3\4 not a zip after all", b"\x80\x04\x95 no pickle", b"<html>404</html>", b"\0" * 5000]
)
def test_what_is_no_pt_file_is_named(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(BadFile, match="x.pt cannot be read"):
        load(tmp_path)


def test_a_pickle_that_would_run_code_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"kind": "embeddings", "hashes": [A], "embeddings": Bomb()}, tmp_path / "x.pt")
    with pytest.raises(BadFile, match="x.pt cannot be read"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"kind": "tag_head"}, "is not of kind 'embeddings'"),
        ({"version": 2}, "has version 2, this program reads up to 1"),
        ({"hashes": [A]}, "hashes and embeddings do not belong together"),
        ({"hashes": None}, "hashes and embeddings do not belong together"),
        ({"hashes": [A, 7]}, "a hash is not text"),
        ({"embeddings": torch.ones(2)}, "do not belong together"),
        ({"embeddings": torch.ones(2, 3, 4)}, "do not belong together"),
        ({"embeddings": None}, "do not belong together"),
        ({"embeddings": torch.ones(2, 3, dtype=torch.int32)}, "are torch.int32"),
        ({"embeddings": torch.ones(2, 3, dtype=torch.complex64)}, "are torch.complex64"),
        ({"embeddings": torch.eye(2).to_sparse()}, "torch.sparse_coo"),
        (
            {"embeddings": torch.tensor([[1.0, 2.0], [1.0, torch.nan]])},
            f"the embedding of {B} holds numbers that are not finite",
        ),
        (
            {"embeddings": torch.tensor([[torch.inf, 2.0], [1.0, 1.0]], dtype=torch.float16)},
            f"the embedding of {A} holds",
        ),
        ({"embeddings": torch.tensor([[1.0, 2.0], [-1e20, 1.0]])}, f"the embedding of {B} holds numbers beyond 1e.12"),
        ({"embeddings": torch.ones(2, 0)}, "do not belong together"),
    ],
)
def test_a_shard_that_is_not_what_it_says_is_named(tmp_path, changes, says):
    shard(tmp_path / "x.pt", **changes)
    with pytest.raises(BadFile, match=says) as caught:
        load(tmp_path)
    assert str(tmp_path / "x.pt") in str(caught.value)


def test_a_shard_that_is_a_list_is_named(tmp_path):
    torch.save([A, torch.ones(1, 3)], tmp_path / "x.pt")
    with pytest.raises(BadFile, match="x.pt is not of kind 'embeddings'"):
        load(tmp_path)


def test_damage_in_a_row_that_nobody_asks_for_stops_nobody(tmp_path):
    shard(tmp_path / "x.pt", embeddings=torch.tensor([[1.0, 2.0], [1.0, torch.nan]]))
    assert as_dict(load(tmp_path, [A])) == {A: [1, 2]}


def test_two_models_never_mix(tmp_path):
    write(tmp_path, {A: [1, 1]})
    write(tmp_path, {B: [1, 1]}, model="other")
    with pytest.raises(
        BadFile, match=r"is of model other \(p\), others are of m \(p\): move the shards of one of them away"
    ):
        load(tmp_path)
    with pytest.raises(BadFile, match=r"holds embeddings of other \(p\), this run would make m \(p\)"):
        embedded(tmp_path, "m", "p")


def test_another_preprocessing_or_width_never_mixes_either(tmp_path):
    shard(tmp_path / "a.pt")
    shard(tmp_path / "b.pt", preprocess="q")
    with pytest.raises(BadFile, match=r"b.pt is of model m \(q\)"):
        load(tmp_path)
    shard(tmp_path / "b.pt", embeddings=torch.ones(2, 4))
    with pytest.raises(BadFile, match="b.pt has rows of 4 numbers, others have 3"):
        load(tmp_path)


def test_embeddings_of_another_model_than_the_datasets_are_refused(tmp_path):
    write(tmp_path, {A: [1, 1]})
    with pytest.raises(BadFile, match="is of model m, the dataset is of other"):
        load(tmp_path, model="other")
    assert load(tmp_path, model="m").hashes == [A]


def test_a_shard_without_model_of_another_program_is_read(tmp_path):
    torch.save(
        {"kind": "embeddings", "hashes": [A], "embeddings": torch.ones(1, 3, requires_grad=True)}, tmp_path / "x.pt"
    )
    assert as_dict(load(tmp_path)) == {A: [1, 1, 1]}


# --- the tag head --------------------------------------------------------------------------------------


def test_the_tag_head_is_kept_in_full_precision(tmp_path):
    head = TagHead(["1girl", "long_hair"], np.array([[0.1, 0.2, 0.3], [1, 2, 3]]), np.array([0.5, -0.5]), "m")
    save_tag_head(tmp_path, head)
    found = load_tag_head(tmp_path, "m")
    assert (found.tags, found.model, found.weight.dtype) == (head.tags, "m", np.float32)
    np.testing.assert_array_equal(found.weight, head.weight.astype(np.float32))
    np.testing.assert_array_equal(found.bias, head.bias.astype(np.float32))
    with pytest.raises(MissingInput, match="no embeddings"):
        load(tmp_path)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"kind": "embeddings"}, "is not of kind 'tag_head'"),
        ({"version": 9}, "version 9"),
        ({"bias": torch.ones(3)}, "do not belong together"),
        ({"weight": torch.ones(3, 3)}, "do not belong together"),
        ({"weight": None}, "do not belong together"),
        ({"tags": "ab"}, "do not belong together"),
        ({"tags": ["a", 1]}, "do not belong together"),
        ({"model": "other"}, "is of model other, the embeddings are of m"),
        ({"weight": torch.ones(2, 5)}, "is for embeddings of 5 numbers, these have 3"),
        ({"weight": torch.full((2, 3), torch.nan)}, "holds numbers that are not finite"),
        ({"bias": torch.tensor([1e300, 1.0], dtype=torch.float64)}, "holds numbers that are not finite"),
        ({"weight": torch.ones(2, 3).to(torch.float8_e4m3fn)}, "do not belong together"),
    ],
)
def test_a_tag_head_that_is_not_what_it_says_is_named(tmp_path, changes, says):
    document = {
        "kind": "tag_head",
        "version": 1,
        "model": "m",
        "tags": ["a", "b"],
        "weight": torch.ones(2, 3),
        "bias": torch.ones(2),
    }
    torch.save(document | changes, tmp_path / "tag_head.pt")
    with pytest.raises(BadFile, match=says):
        load_tag_head(tmp_path, "m", 3)


# --- speed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 10, 256])
def test_rows_from_many_shards_are_gathered_as_one_by_one(at_once, tmp_path, monkeypatch):
    """The slow twin: each row looked up by itself."""
    monkeypatch.setattr(store, "GATHERED", at_once)
    rng = np.random.default_rng(3)
    rows = {f"{number:064x}": rng.standard_normal(5).astype(np.float16).tolist() for number in rng.permutation(500)}
    with ShardWriter(tmp_path, "m", "p", rows=37) as writer:
        for hash, row in rows.items():
            writer.add([hash], np.array([row]))
    wanted = [f"{number:064x}" for number in rng.permutation(600)[:400]]
    found = load(tmp_path, wanted)
    assert found.hashes == [hash for hash in wanted if hash in rows]
    assert found.matrix.tolist() == [rows[hash] for hash in found.hashes]


def test_every_number_of_half_precision_becomes_that_of_numpy():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    for some in (halves[np.isfinite(halves)], halves):  # with and without infinities
        found, wanted = store._as_float32(some), some.astype(np.float32)
        assert np.array_equal(found, wanted, equal_nan=True) and np.array_equal(np.signbit(found), np.signbit(wanted))


def test_twenty_thousand_rows_load_in_well_under_a_second_of_work(tmp_path):
    rows = np.random.default_rng(0).standard_normal((20_000, 768), dtype=np.float32)
    with ShardWriter(tmp_path, "m", "p") as writer:
        writer.add([f"{number * 7919 % 20011:064x}" for number in range(20_000)], rows)
    start = time.process_time()
    assert load(tmp_path).matrix.shape == (20_000, 768)
    assert time.process_time() - start < 1.5


# --- bits that fell over, and small files that ask for much ------------------------------------------------


@pytest.mark.parametrize("view", [False, True])
def test_no_bit_falls_over_unnoticed(tmp_path, view):
    """Each of 400 single flipped bits is an error that names the shard, or changes nothing."""
    rows = np.random.default_rng(3).normal(size=(60, 64)).astype(np.float32)
    write(tmp_path, {f"{place:064x}": list(row) for place, row in enumerate(rows)})
    (path,) = shard_paths(tmp_path)
    if view:  # another program may store more than the rows
        document = torch.load(path, weights_only=True)
        document["embeddings"] = torch.cat([document["embeddings"], document["embeddings"]])[:60]
        torch.save(document, path)
    whole, expected = path.read_bytes(), load(tmp_path).matrix
    rng = np.random.default_rng(4)
    noticed = 0
    for place in rng.integers(0, 8 * len(whole), 400):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert (load(tmp_path).matrix == expected).all()
        except BadFile as error:
            noticed += 1
            assert path.name in str(error)
    assert noticed > 200


def hostile(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED, size: int = 16) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in (("data.pkl", pickled), ("byteorder", b"little"), ("data/0", bytes(size)), ("version", b"3")):
            archive.writestr(f"archive/{name}", data)
    return path


PUSH = b"\x80\x02}q\x00("
BIG = 2**61 - 1


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02Nr\x00\x00\x00\x10.",  # a place of 2 to the 28th in the unpickler's memory
        b"\x80\x02Nr\xff\xff\xff\xff.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        PUSH
        + b"".join(b"\x8a\x0c" + (place * BIG).to_bytes(12, "little") + b"N" for place in range(1, 50_000))
        + b"u.",
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
        b"\x80\x02(((((" * 10_000,
        b"",
    ],
)
def test_a_small_pickle_cannot_ask_for_much(tmp_path, pickled):
    path = hostile(tmp_path / "a.pt", pickled)
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadFile, match=r"a\.pt"):
        load(tmp_path)
    path.rename(tmp_path / store.TAG_HEAD)
    with pytest.raises(BadFile, match=store.TAG_HEAD):
        load_tag_head(tmp_path)
    assert time.process_time() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_compressed_entries_are_refused(tmp_path):
    write(tmp_path, {A: [1.0, 2.0]})
    (path,) = shard_paths(tmp_path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(BadFile, match="is compressed"):
        load(tmp_path)


def test_rows_that_the_file_has_no_bytes_for_are_refused(tmp_path):
    document = {"kind": "embeddings", "model": "m", "preprocess": "p", "hashes": [A, B]}
    torch.save(document | {"embeddings": torch.zeros(1, 1).expand(2, 2**30)}, tmp_path / "a.pt")
    with pytest.raises(BadFile, match="more embeddings than the file has bytes for"):
        load(tmp_path)


def test_digests_of_pixels_stand_beside_the_rows_the_newest_told_counts_and_a_flipped_bit_is_noticed(tmp_path):
    def write_digests(rows: dict[str, str | None]) -> None:
        with ShardWriter(tmp_path, "m", "p") as writer:
            writer.add(list(rows), np.ones((len(rows), 2)), pixels=list(rows.values()))

    write_digests({A: "1f" * 32, B: None, C: "2e" * 32})
    write(tmp_path, {C: [1.0, 1.0], D: [1.0, 1.0]})  # which says nothing of pixels
    found: dict[str, str] = {}
    assert set(embedded(tmp_path, "m", "p", pixels=found)) == {A, B, C, D}
    assert found == {A: "1f" * 32, B: "", C: "2e" * 32}
    path = shard_paths(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[data.index(bytes.fromhex("1f" * 32))] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadFile, match="holds other bytes than were written"):
        embedded(tmp_path, "m", "p")


def test_a_damaged_shard_is_put_aside_and_named_where_it_can_be_made_again(tmp_path):
    write(tmp_path, {A: [1.0, 2.0]})
    write(tmp_path, {B: [3.0, 4.0]})
    path = shard_paths(tmp_path)[1]
    data = bytearray(path.read_bytes())
    data[data.index(np.float16([3.0, 4.0]).tobytes())] ^= 1
    path.write_bytes(data)
    assert store.found_model(tmp_path) == ("m", "p")
    with pytest.raises(BadFile, match="holds other bytes than were written"):
        embedded(tmp_path, "m", "p")
    said = []
    assert set(embedded(tmp_path, "m", "p", said.append)) == {A}
    assert len(said) == 1 and path.name in said[0] and (tmp_path / f"{path.name}.damaged").exists()
    assert load(tmp_path).hashes == [A]


def test_what_is_held_is_not_read_again_until_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_HELD", {})
    write(tmp_path, {A: [1, 2], B: [3, 4], D: [5, 6]})
    store.hold(tmp_path, [B, A, C], "m")
    read = store._load_shard
    monkeypatch.setattr(store, "_load_shard", None)
    assert as_dict(load(tmp_path, [C, B, A], "m")) == {B: [3, 4], A: [1, 2]}
    found = load(tmp_path, [A, B])
    assert (found.hashes, found.matrix.tolist(), found.model) == ([A, B], [[1, 2], [3, 4]], "m")
    monkeypatch.setattr(store, "_load_shard", read)
    assert as_dict(load(tmp_path, [A, D])) == {A: [1, 2], D: [5, 6]}  # of D nobody asked then
    with pytest.raises(BadFile, match="is of model m"):
        load(tmp_path, [A], "other")
    write(tmp_path, {A: [7, 8]})
    assert as_dict(load(tmp_path, [A, B])) == {A: [7, 8], B: [3, 4]}
    monkeypatch.setattr(store, "MOST_HELD", 1)
    store.hold(tmp_path, [A, B], "m")
    assert not store._HELD
