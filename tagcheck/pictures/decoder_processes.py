"""Files are read ahead and decoded beside the model, each decoder a process of its own.

A process, since a decoder may hang, crash or eat the memory over a damaged file: then that process
is ended and replaced, and the file becomes a row with its reason. The child (`python -m
tagcheck.pictures.decoder_processes`) knows Pillow and numpy and no torch; it gets a file's bytes on its standard
input and answers with pixels, or with a status and a reason, on its standard output.
"""

from __future__ import annotations

import json
import math
import os
import queue
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import numpy as np
from PIL import Image

from tagcheck import children
from tagcheck.children import OWN_GROUP, end_with_parent, environment, give_way, limit_memory
from tagcheck.errors import FileUnavailable, ToolError
from tagcheck.pictures import resampling
from tagcheck.pictures.file_formats import ImagePassing, ImageUnreadable, ImageUnsupported, Limits
from tagcheck.pictures.preparation import Decoded, Recipe, prepare_file, shown
from tagcheck.pictures.thumbnails import BYTES

ANSWERS = {b"p": ImagePassing, b"r": ImageUnreadable, b"s": ImageUnsupported}  # the first that fits
REQUEST = struct.Struct("<IQ")  # the side of a picture to show, 0 for the network's input; how many bytes follow
ANSWER = struct.Struct("<cQII")  # what it is, how many bytes follow, width, height
NOTE = struct.Struct("<I")  # before thumbnail and network's input: the length of what is noted of the file, as JSON
GRACE = 5.0  # seconds past the limit until a decoder that does not look at the clock is ended
MEMORY = 4 << 30  # bytes of address space for one decoder
# For glibc: a picture's memory is kept for the next one. Taking it from the system anew is a fifth to a third of decoding.
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
PIPE = 1 << 20  # bytes that a pipe to or from a decoder holds
AHEAD_BYTES = 1 << 30  # of files that are read and not yet taken
READY = b"+"


@dataclass(frozen=True)
class Prepared:
    """One file, ready for the model: `frames` uint8 (f, 3, S, S), or None with the `status` and `reason` of its record.

    `size` is its (width, height) upright, where that is known. `lasting`: the reason lies in the file's
    bytes and what can be decoded here, so that looking again would find the same. `damaged`: what is wrong with the
    file beside the pixels that were read. `pixels`: their digest (`preparation.pixel_digest`), where the file itself was read.
    `thumbnail`: that of its first frame, uint8 (`thumbnails.BYTES`,).
    """

    hash: str
    frames: np.ndarray | None
    status: str = "ok"
    reason: str | None = None
    size: tuple[int, int] | None = None
    lasting: bool = False
    damaged: str | None = None
    pixels: str | None = None
    thumbnail: np.ndarray | None = None


@dataclass
class Clocks:
    """Seconds spent so far: reading from the library, decoding (all decoders together), waited by who asks for the next."""

    reading: float = 0.0
    decoding: float = 0.0
    waiting: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __reduce__(self) -> tuple[type[Clocks], tuple[float, float, float]]:
        return Clocks, (self.reading, self.decoding, self.waiting)  # a lock does not go to another process

    def add(self, name: str, seconds: float) -> None:
        """Add to one of the three, from any thread."""
        with self._lock:
            setattr(self, name, getattr(self, name) + seconds)


class Decoder:
    """A decoder process. `prepare` is `preparation.prepare_file`, and nothing that a file holds can hurt its caller."""

    def __init__(self, recipe: Recipe | int, limits: Limits) -> None:
        self.recipe, self.limits = Recipe.of(recipe), limits
        self._process: subprocess.Popen[bytes] | None = None
        self._due = math.inf  # when the file in hand has taken too long, by `time.monotonic`
        self._closed = threading.Event()

    def prepare(self, data: bytes) -> Decoded:
        """A file's bytes, decoded.

        Raises `ImageUnreadable` or `ImageUnsupported`; `ToolError` when no process starts.
        """
        body, size = self._ask(data, 0)
        (length,) = NOTE.unpack_from(body)
        damaged, pixels = json.loads(body[NOTE.size : NOTE.size + length])
        side = self.recipe.size
        small, frames = np.split(np.frombuffer(body, np.uint8, offset=NOTE.size + length), [BYTES])
        return Decoded(frames.reshape(-1, side, side, 3).transpose(0, 3, 1, 2), size, damaged, pixels, small)

    def show(self, data: bytes, side: int) -> tuple[bytes, tuple[int, int]]:
        """As `preparation.shown`: a WebP picture of at most `side` pixels, and the file's (width, height). Raises as `prepare`."""
        return self._ask(data, side)

    def _ask(self, data: bytes, side: int) -> tuple[bytes, tuple[int, int]]:
        if len(data) > self.limits.bytes:
            raise ImagePassing(f"too large: {len(data):,} bytes, the limit is {self.limits.bytes:,}")
        process = self._process if self._process and self._process.poll() is None else self._start()
        self._due = due = time.monotonic() + self.limits.seconds + GRACE
        try:
            into, out = _pipes(process)
            into.write(REQUEST.pack(side, len(data)))
            into.write(data)
            into.flush()
            code, count, width, height = ANSWER.unpack(_receive(out, ANSWER.size))
            body = _receive(out, count)
        except (EOFError, OSError):  # of the pipes: Windows calls a broken one an invalid argument
            self.close()
            if time.monotonic() >= due:
                raise ImagePassing(f"took longer than {self.limits.seconds:g} s to decode") from None
            raise ImagePassing("the decoder crashed on it") from None
        finally:
            self._due = math.inf
        if code in ANSWERS:
            raise ANSWERS[code](body.decode())
        return body, (width, height)

    def _watch(self, process: subprocess.Popen[bytes], closed: threading.Event) -> None:
        """End a process over a file that is overdue. A file that begins while this waits is not overdue any sooner."""
        patience = self.limits.seconds + GRACE
        left = patience
        while left > 0:
            if closed.wait(left):
                return
            left = min(self._due - time.monotonic(), patience)
        process.kill()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._closed.set()
            self._process.kill()
            self._process.wait()
            for pipe in _pipes(self._process):
                with suppress(OSError):  # what it was not sent any more
                    pipe.close()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        wanted = {"recipe": asdict(self.recipe), "limits": asdict(self.limits)}
        self._process = subprocess.Popen(
            [children.PYTHON, "-m", "tagcheck.pictures.decoder_processes", json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(**KEPT),
            **OWN_GROUP,  # Ctrl-C is the parent's to handle
        )
        try:
            _receive(_pipes(self._process)[1], len(READY))  # what starting takes is no file's fault
        except EOFError:
            self.close()
            raise ToolError(
                f"no decoding process can be started: {children.PYTHON} -m tagcheck.pictures.decoder_processes ends at once"
            ) from None
        for pipe in _pipes(self._process):
            _widen(pipe)
        self._closed = threading.Event()
        threading.Thread(target=self._watch, args=(self._process, self._closed), daemon=True).start()
        return self._process


class Decoders:
    """Decoder processes that threads share: a file waits until one is free, at most `patience` seconds."""

    def __init__(self, count: int, recipe: Recipe | int, limits: Limits, patience: float | None = None) -> None:
        self._all, self._patience = [Decoder(recipe, limits) for _ in range(count)], patience
        self._free: queue.LifoQueue[Decoder] = queue.LifoQueue()
        for one in self._all:
            self._free.put(one)

    def show(self, data: bytes, side: int) -> tuple[bytes, tuple[int, int]]:
        """As `Decoder.show`, by one that is free."""
        try:
            decoder = self._free.get(timeout=self._patience)
        except queue.Empty:
            raise ImagePassing("other pictures are being opened: look again later") from None
        try:
            return decoder.show(data, side)
        finally:
            self._free.put(decoder)

    def close(self) -> None:
        """End the processes."""
        for one in self._all:
            one.close()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """What it reads from and what it writes to."""
    if process.stdin is None or process.stdout is None:
        raise BrokenPipeError
    return process.stdin, process.stdout


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold a picture at once, where the system can and allows it: less waiting of its ends for each other."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)


def prepared(
    hashes: Sequence[str],
    read: Callable[[str], bytes],
    render: Callable[[str], bytes | None],
    decoders: Sequence[Decoder],
    ahead: int,
    clocks: Clocks,
    keep: bool = False,
) -> Generator[Prepared, None, None]:
    """Every file of `hashes` in that order, decoded ahead of the caller by at most `ahead` files.

    The decoders are ended with it, unless they are to be kept and have done all files.

    `read` and `render` (what a library makes of a file that no decoder knows) are called from one
    thread at a time. What `read` raises beside `FileUnavailable` is raised here, after the files before it.
    """
    work, left = _Work(read, render, clocks, ahead), len(hashes)
    threads = [threading.Thread(target=work.read_all, args=(hashes,), daemon=True)]
    threads += [threading.Thread(target=work.decode_all, args=(decoder,), daemon=True) for decoder in decoders]
    for thread in threads:
        thread.start()
    try:
        while left:
            start = time.monotonic()
            one = work.next()
            clocks.add("waiting", time.monotonic() - start)
            left -= 1
            yield one
    finally:
        work.stop()
        if left or not keep:
            for decoder in decoders:
                decoder.close()


def frames_of(library: Any, hashes: Sequence[str], size: int) -> Callable[[Sequence[int]], Iterator[np.ndarray | None]]:
    """What decodes rows of a library's pictures ahead to squares of `size` pixels: their frames, None of the unreadable.

    It is asked again and again, so its two decoders run as long as this process does.
    """
    made = [Decoder(size, Limits()) for _ in range(2)]
    return lambda rows: (
        file.frames
        for file in prepared([hashes[row] for row in rows], library.read, library.render, made, 64, Clocks(), keep=True)
    )


class _Job:
    """One file on its way: `done` is set once `result` or `error` is there."""

    def __init__(self, hash: str) -> None:
        self.hash, self.data, self.held = hash, b"", 0
        self.result: Prepared | None = None
        self.error: BaseException | None = None
        self.done = threading.Event()

    def finish(self, result: Prepared | None = None, error: BaseException | None = None) -> None:
        self.result, self.error, self.data = result, error, b""
        self.done.set()


class _Work:
    """The queues between the reading thread, the decoding threads and the caller."""

    def __init__(
        self, read: Callable[[str], bytes], render: Callable[[str], bytes | None], clocks: Clocks, ahead: int
    ) -> None:
        self.read, self.render, self.clocks = read, render, clocks
        self.library = threading.Lock()
        self.room = threading.Condition()
        self.ahead, self.files, self.bytes = ahead, 0, 0
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.order: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self.stopped = False

    def read_all(self, hashes: Sequence[str]) -> None:
        """The reading thread: one file after the other, as far ahead as there is room for."""
        for hash in hashes:
            with self.room:
                self.room.wait_for(lambda: self.stopped or (self.files < self.ahead and self.bytes < AHEAD_BYTES))
                if self.stopped:
                    break
                self.files += 1
            job = self._read(hash)
            with self.room:
                self.bytes += job.held
            self.order.put(job)
            if not job.done.is_set():
                self.jobs.put(job)
            elif job.error is not None:
                break

    def _read(self, hash: str) -> _Job:
        start, job = time.monotonic(), _Job(hash)
        try:
            with self.library:
                job.data = self.read(hash)
            job.held = len(job.data)
        except FileUnavailable as error:
            job.finish(Prepared(hash, None, error.status, str(error)))
        except BaseException as error:  # carried over to the caller's thread and raised there
            job.finish(error=error)
        self.clocks.add("reading", time.monotonic() - start)
        return job

    def decode_all(self, decoder: Decoder) -> None:
        """A decoding thread: files as they come, until None."""
        while (job := self.jobs.get()) is not None and not self.stopped:
            start = time.monotonic()
            try:
                job.finish(self._decode(decoder, job))
            except BaseException as error:  # carried over to the caller's thread and raised there
                job.finish(error=error)
            self.clocks.add("decoding", time.monotonic() - start)
        self.jobs.put(None)

    def _decode(self, decoder: Decoder, job: _Job) -> Prepared:
        try:
            return Prepared(job.hash, **decoder.prepare(job.data)._asdict())
        except ImageUnreadable as error:
            return Prepared(job.hash, None, error.status, str(error), lasting=error.lasting)
        except ImageUnsupported as error:
            unsupported = Prepared(job.hash, None, error.status, str(error), lasting=error.lasting)
        with self.library:
            still = self.render(job.hash)
        if still is None:
            return unsupported
        try:
            drawn = decoder.prepare(still)  # in another size maybe
            return Prepared(job.hash, drawn.frames, thumbnail=drawn.thumbnail)
        except (ImageUnreadable, ImageUnsupported):
            return unsupported

    def next(self) -> Prepared:
        """The next file in order, waited for."""
        job = self.order.get()
        job.done.wait()
        with self.room:
            self.files -= 1
            self.bytes -= job.held
            self.room.notify()
        if job.result is None:
            raise job.error or EOFError(f"nothing came of {job.hash}")
        return job.result

    def stop(self) -> None:
        """Let the threads end."""
        with self.room:
            self.stopped = True
            self.room.notify_all()
        self.jobs.put(None)


def _receive(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def serve(recipe: Recipe, limits: Limits, requests: IO[bytes], answers: IO[bytes]) -> None:
    """The child's loop: bytes in, pixels or a reason out, until there is no more."""
    answers.write(READY)
    answers.flush()
    while header := requests.read(REQUEST.size):
        side, count = REQUEST.unpack(header)
        data = _receive(requests, count)
        width = height = 0
        try:
            code = b"o"
            if side:
                body, (width, height) = shown(data, side, limits)
            else:
                frames, (width, height), *told, small = prepare_file(data, recipe, limits)
                note, rows = json.dumps(told).encode(), np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
                body = b"".join([NOTE.pack(len(note)), note, small.data, rows.data])
        except (ImageUnreadable, ImageUnsupported) as error:
            code = next(code for code, kind in ANSWERS.items() if isinstance(error, kind))
            body = str(error).encode()
        answers.write(ANSWER.pack(code, len(body), width, height))
        answers.write(body)
        answers.flush()


def main(argv: Sequence[str]) -> None:
    """An object with the `recipe` and the `limits`, from `Decoder`."""
    wanted = json.loads(argv[0])
    recipe = Recipe(**wanted["recipe"] | {"background": tuple(wanted["recipe"]["background"])})
    limits = Limits(**wanted["limits"])
    give_way()  # to the model's threads, which wait for each other
    limit_memory(MEMORY)
    end_with_parent()
    # Of the file; the limit is on what is decoded, a JPEG at 1/8 x 1/8 maybe.
    Image.MAX_IMAGE_PIXELS = 64 * limits.pixels
    resampling.kernel()  # is compiled here, which is no file's time
    warnings.simplefilter("ignore")  # what Pillow says about a damaged file ends up in its record
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not mix with the answers
    serve(recipe, limits, sys.stdin.buffer, answers)


if __name__ == "__main__":
    main(sys.argv[1:])
