"""What the fuzzing tests share: files made from a good one by a seed, and the time and memory that one file may cost."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
import tried

SECONDS = 3.0  # of processor that reading one file may take
MEGABYTES = 300  # that it may add to what the process holds at most
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    -(2**80),
    1e308,
    float("nan"),
    float("-inf"),
    "",
    "\ud800",
    "\0",
    "a" * 70,
)
ODD += (
    "0" * 64,
    [],
    [[]],
    {},
    {"": None},
    [0] * 20,
    ["x", 1, None],
    0.5,
    "1",
    -0.0,
    "series:x",
    "=1",
    "../x",
    "/etc/passwd",
)


class TooMuch(AssertionError):
    """Reading one small file took too long, or too much memory."""


@contextmanager
def limited() -> Iterator[None]:
    """Time of this process's processor and peak of its memory, held for one file; the test is skipped where no system tells."""
    resource = pytest.importorskip("resource")

    def end(*_: object) -> None:
        raise TooMuch(f"more than {SECONDS} seconds")

    tried.count()
    before, old = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if grown > MEGABYTES:
        raise TooMuch(f"{grown:.0f} MB more than before")


def mutants(good: bytes, count: int, rng: Random) -> Iterator[bytes]:
    """`count` files: `good` itself, then what one to four changes make of it, half of them in its JSON where it is some."""
    yield good
    try:
        document = json.loads(good)
    except (ValueError, RecursionError):
        document = None
    for _ in range(count - 1):
        if isinstance(document, (dict, list)) and document and rng.random() < 0.7:
            yield as_bytes(odd(document, rng))
        else:
            yield changed(good, rng)


def as_bytes(document: Any) -> bytes:
    """A document as JSON, lone surrogates and all."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def changed(data: bytes, rng: Random) -> bytes:
    """The bytes with one to four changes: bits, a cut, a part twice, a part gone, other bytes, numbers as large as can be."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(made) + 1)
        some = min(len(made), at + rng.choice((1, 2, 4, 8, 16, 64)))
        what = rng.randrange(7)
        if what == 0 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            del made[at:]
        elif what == 2:
            made[at:at] = made[at:some]
        elif what == 3:
            del made[at:some]
        elif what == 4:
            made[at:some] = rng.randbytes(some - at)
        elif what == 5:
            made[at:some] = rng.choice((b"\xff", b"\0", b"\x7f", b"[", b'"', b"9", b"\xed\xa0\x80")) * (some - at)
        else:
            to = rng.randrange(len(made) + 1)
            made[at:some] = made[to : to + some - at]
    return bytes(made)


def odd(document: Any, rng: Random) -> Any:
    """A copy of a document with one to three changes: an odd value somewhere, a key or an entry gone, twice, or of another name."""
    made = json.loads(json.dumps(document))
    for _ in range(rng.randint(1, 3)):
        places = list(_places(made))
        if not places:
            break
        holder, key = rng.choice(places)
        _change(holder, key, rng)
    return made


def _change(holder: Any, key: Any, rng: Random) -> None:
    what, value = rng.randrange(6), holder[key]
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, list):
        holder.insert(key, value)
    elif what == 2 and isinstance(holder, dict):
        holder[rng.choice(("", "x", "\ud800", "0", key + "s", key.upper()))] = holder.pop(key)
    elif what == 3:
        holder[key] = [value] if rng.random() < 0.5 else {"x": value}
    elif what == 4 and isinstance(value, (int, float)):
        holder[key] = rng.choice((-value, value * 2**40, value + 0.5, str(value), value - 1))
    else:
        holder[key] = copy.deepcopy(rng.choice(ODD))


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = document if isinstance(document, dict) else range(len(document))
    for key in keys:
        yield document, key
        if isinstance(document[key], (dict, list)):
            yield from _places(document[key])
