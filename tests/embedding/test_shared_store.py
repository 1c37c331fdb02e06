"""Shards in a shared folder or an object store are those of the data folder, whole, and none is lost or written over."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from tagcheck.embedding import ShardWriter, shared_store, store
from tagcheck.embedding.shared_store import SharedStore
from tagcheck.errors import MissingInput, ToolError, UsageError


def put(folder, letter: str, maker: str) -> None:
    with ShardWriter(folder, "m", "p", maker=maker) as writer:
        writer.add([letter * 64], np.full((1, 3), ord(letter)))


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path) -> str:
    return f"memory://{tmp_path.name}" if request.param == "memory" else f"file://{tmp_path}/shared/shards"


def test_two_machines_that_share_a_store_end_with_the_same_rows(url, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    put(one, "a", "0000000a")
    put(two, "b", "0000000b")
    for folder in (one, two, one):
        SharedStore(url).exchange(folder)
    assert store.load(one).hashes == store.load(two).hashes == ["a" * 64, "b" * 64]
    names = {path.name for path in store.shard_paths(one)}
    assert names == {path.name for path in store.shard_paths(two)} == SharedStore(url).names() and len(names) == 2
    put(one, "a", "0000000a")  # embedded anew: the later name wins, everywhere
    assert store.shard_paths(one)[-1].name not in names


def test_what_is_half_written_is_no_shard_and_one_that_was_put_aside_stays_away(url, tmp_path, monkeypatch):
    put(tmp_path / "one", "a", "0000000a")
    shared = SharedStore(url)
    shared.exchange(tmp_path / "one")
    (name,) = shared.names()
    shared.system.pipe_file(f"{shared.folder}/.{name}.ab12cd34.tmp", b"half")
    two = tmp_path / "two"
    two.mkdir()
    (two / f"{name}.damaged").write_bytes(b"")
    shared.fetch(two)
    assert not store.shard_paths(two)
    shared.fetch(tmp_path / "three", after=name)
    assert not store.shard_paths(tmp_path / "three")
    shared.fetch(tmp_path / "three")
    assert [path.name for path in store.shard_paths(tmp_path / "three")] == [name]
    shared.exchange(tmp_path / "one")
    assert len(shared.system.ls(shared.folder)) == 2  # its worker may be at it still
    two_days_later = time.time() + shared_store.OLD + 1
    monkeypatch.setattr(shared_store.time, "time", lambda: two_days_later)
    shared.exchange(tmp_path / "one")
    assert len(shared.system.ls(shared.folder)) == 1 and shared.names() == {name}


def test_a_store_that_fails_is_told_of_in_words_whatever_its_errors_are(tmp_path, monkeypatch):
    shared = SharedStore("memory://failing")
    put(tmp_path, "a", "0000000a")
    for error in (
        RuntimeError("Unable to locate credentials"),
        FileNotFoundError("The specified bucket does not exist"),
    ):
        monkeypatch.setattr(type(shared.system), "put_file", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(ToolError, match=f"--store memory://failing cannot be used .*{error}"):
            shared.exchange(tmp_path)


def test_a_store_that_cannot_be_had_is_named(monkeypatch):
    with pytest.raises(UsageError, match="--store nowhere://x: Protocol not known"):
        SharedStore("nowhere://x")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingInput, match="--store s3://a needs a package more: .*fsspec"):
        SharedStore("s3://a")
