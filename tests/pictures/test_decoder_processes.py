"""Files come decoded, in order, ahead of who asks; what a decoder does over a bad one costs that one alone."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tagcheck import children
from tagcheck.errors import FileUnavailable, LibraryUnreachable, ToolError
from tagcheck.pictures.decoder_processes import Clocks, Decoder, prepared
from tagcheck.pictures.preparation import ImageUnreadable, ImageUnsupported, Limits, prepare_bytes
from tagcheck.pictures.thumbnails import thumbnail


@pytest.fixture(autouse=True)
def the_real_interpreter(monkeypatch):
    """Not a fork of one (`warm`)."""
    monkeypatch.setattr(children, "PYTHON", sys.executable)


def png(colour: int, side: int = 20) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), (colour, 0, 0)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def decoder():
    made = Decoder(16, Limits())
    yield made
    made.close()


def read_all(files: dict[str, object], render=lambda hash: None, decoders: int = 2, ahead: int = 4):
    def read(hash: str) -> bytes:
        if isinstance(files[hash], Exception):
            raise files[hash]
        return files[hash]

    return prepared(list(files), read, render, [Decoder(16, Limits()) for _ in range(decoders)], ahead, Clocks())


def test_a_decoder_gives_what_the_function_gives(decoder):
    for colour in (1, 2):
        found = decoder.prepare(png(colour))
        assert np.array_equal(found.frames, prepare_bytes(png(colour), 16)) and found.size == (20, 20)
        assert np.array_equal(found.thumbnail, thumbnail(found.frames[0]))
    with pytest.raises(ImageUnreadable, match="the file is empty"):
        decoder.prepare(b"")
    with pytest.raises(ImageUnsupported, match="not a picture"):
        decoder.prepare(b"words")
    assert decoder.prepare(png(3))[0][0, 0, 0, 0] == 3


def test_a_decoder_that_crashed_is_replaced(decoder):
    decoder.prepare(png(1))
    os.kill(decoder._process.pid, signal.SIGSTOP)  # so that it surely is at work when it dies
    threading.Timer(0.1, os.kill, (decoder._process.pid, signal.SIGKILL)).start()
    with pytest.raises(ImageUnreadable, match="the decoder crashed on it"):
        decoder.prepare(png(1))
    assert decoder.prepare(png(2))[0][0, 0, 0, 0] == 2


def test_a_decoder_that_ends_before_a_file_is_sent_costs_that_file_alone(decoder, monkeypatch):
    decoder.prepare(png(1))
    process = decoder._process
    process.kill()
    process.wait()
    monkeypatch.setattr(process, "poll", lambda: None)  # it was seen alive in the moment before
    with pytest.raises(ImageUnreadable, match="the decoder crashed on it"):
        decoder.prepare(png(1) + bytes(3 << 20))
    assert decoder.prepare(png(2))[0][0, 0, 0, 0] == 2


def test_a_decoder_that_hangs_is_ended(decoder, monkeypatch):
    monkeypatch.setattr("tagcheck.pictures.decoder_processes.GRACE", -59.7)  # 0.3 s
    os.kill(decoder._start().pid, signal.SIGSTOP)
    with pytest.raises(ImageUnreadable, match="took longer than 60 s"):
        decoder.prepare(png(1))


def test_files_come_in_order_and_a_bad_one_costs_itself():
    files: dict[str, object] = {str(number): png(number, 10 + 90 * (number % 2)) for number in range(30)}
    files["7"], files["11"], files["13"] = b"", b"words", FileUnavailable("it was moved")
    found = list(read_all(files))
    assert [one.hash for one in found] == list(files)
    assert {one.hash: (one.status, one.reason) for one in found if one.frames is None} == {
        "7": ("unreadable", "the file is empty"),
        "11": ("unsupported", "not a picture of a kind that can be read here"),
        "13": ("missing", "it was moved"),
    }
    assert [int(one.frames[0, 0, 5, 5]) for one in found if one.frames is not None] == [
        n for n in range(30) if n not in (7, 11, 13)
    ]


def test_what_no_decoder_knows_is_taken_from_the_library_s_own_rendering():
    drawn = {"a": png(9), "b": None, "c": b"not a picture either"}
    found = list(read_all(dict.fromkeys(drawn, b"a sketch in an odd format"), drawn.get))
    assert [one.status for one in found] == ["ok", "unsupported", "unsupported"]
    assert found[0].frames[0, 0, 0, 0] == 9


def test_a_library_that_goes_away_is_said_after_the_files_before_it():
    files: dict[str, object] = {"a": png(1), "b": png(2), "c": LibraryUnreachable("nobody answers"), "d": png(4)}
    found = []
    with pytest.raises(LibraryUnreachable, match="nobody answers"):
        for one in read_all(files):
            found.append(one.hash)
    assert found == ["a", "b"]


def test_no_more_files_are_read_ahead_than_there_is_room_for():
    read, before = [], threading.active_count()
    files = prepared(
        [str(n) for n in range(50)],
        lambda hash: read.append(hash) or png(1),
        lambda hash: None,
        [Decoder(16, Limits())],
        5,
        Clocks(),
    )
    next(files)
    time.sleep(0.3)
    assert 5 <= len(read) <= 6
    files.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(read) <= 7 and threading.active_count() <= before


def test_seconds_are_counted_where_they_are_spent():
    clocks = Clocks()
    list(
        prepared(
            ["a", "b"], lambda hash: time.sleep(0.05) or png(1), lambda hash: None, [Decoder(16, Limits())], 2, clocks
        )
    )
    assert 0.1 <= clocks.reading < 1 and clocks.decoding > 0.05 and clocks.waiting > 0.1


def test_a_decoder_that_cannot_start_is_an_error_not_a_bad_picture(decoder, monkeypatch):
    monkeypatch.setattr("tagcheck.children.PYTHON", "/bin/false")
    with pytest.raises(ToolError, match="no decoding process can be started"):
        decoder.prepare(png(1))


def test_decoders_that_are_kept_serve_again_but_not_those_that_may_be_at_work():
    decoders = [Decoder(16, Limits()) for _ in range(2)]

    def files(hashes: str):
        return prepared(list(hashes), lambda hash: png(int(hash)), lambda hash: None, decoders, 8, Clocks(), keep=True)

    def running() -> set[int]:
        return {one._process.pid for one in decoders if one._process}

    some = files("1234")
    assert [next(some).hash for _ in range(4)] == list("1234")
    some.close()
    first = running()
    assert first and [one.hash for one in files("56")] == ["5", "6"] and first <= running()
    some = files("123456789")
    next(some)
    some.close()
    assert not first & running()
    for one in decoders:
        one.close()
