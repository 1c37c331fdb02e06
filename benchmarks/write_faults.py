"""Kill an apply of many changes at random points with kill -9, recover, and check that nothing was lost or done twice.

    python benchmarks/write_faults.py
    python benchmarks/write_faults.py --library hydrus --runs 200 --seed 1
    HYDRUS_API_URL=http://localhost:45869 HYDRUS_API_KEY=... python benchmarks/write_faults.py --library client

Reads   nothing: the folder of pictures, or the local server that answers as Hydrus does, is made here; with
        --library client, the client that config.py names, which should be a throwaway
Writes  nothing that stays, but pictures in a client; one line per run on stderr, one line with the counts on stdout

Every second run is killed from outside after a random time; the others at a random line of the
package's code between the noting down and the end, counted in a run that is left alone. Of each
third run the recovery is killed too, and of every one the undo.
After recovery the ledger must say of every change that it was applied, or must not know the batch
(killed before it was noted down); the library must be exactly as after the run that was left alone
(a folder byte for byte), or as before; and undoing the batch must give what was before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any

import requests
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from hydrus_server import MY_TAGS, REPOSITORY, HydrusServer

import config
from tagcheck.changes import TagChange
from tagcheck.library import Library
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.library.hydrus.connection import KEY_HEADER, Connection
from tagcheck.library.protocol import ABSENT, DELETED
from tagcheck.script import at_least, run, say
from tagcheck.writing import Ledger
from tagcheck.writing import apply as applying
from tagcheck.writing.ledger import APPLIED, UNDONE

PACKAGE = str(Path(applying.__file__).parents[1])
FORMATS = [
    "1girl, long_hair, {}\n",
    "1girl\r\nLong Hair\r\n{}\r\n",
    "\ufeff{},1girl,solo,",
    "{}\n",
    "series:x\n{}\n1girl",
]
ADDED, REMOVED = "blue sky", "wrong tag"

Snapshot = dict[str, Any]


class Scene:
    """A library, the changes to make in it, and a ledger in the folder `base`."""

    changes: list[TagChange]

    def __init__(self, base: Path) -> None:
        self.base = base

    def library(self) -> Library:
        """The library, as a new process would open it."""
        raise NotImplementedError

    def state(self) -> Snapshot:
        """All that a write could change."""
        raise NotImplementedError

    def reset(self) -> None:
        """The library as at the beginning, and no ledger."""
        for path in self.base.glob("*.sqlite3*"):
            path.unlink()

    def restored(self, now: Snapshot, beginning: Snapshot) -> bool:
        """Whether an undo gave back what was there."""
        return now == beginning

    def sent_twice(self) -> int:
        """How many changes were sent again although they had been sent before; a folder shows that in its bytes."""
        return 0

    def ledger(self) -> Ledger:
        return Ledger(self.base / "review.sqlite3")

    def apply(self) -> None:
        applying.apply(self.ledger(), self.library(), self.changes)

    def recover(self) -> None:
        applying.recover(self.ledger(), self.library())

    def undo(self) -> None:
        applying.undo(self.ledger(), self.library(), self.ledger().batches()[0].id)


class FolderScene(Scene):
    """Pictures with sidecars of every format, some without one, some copies of one another."""

    def __init__(self, base: Path, changes: int) -> None:
        super().__init__(base)
        self.root = base / "pictures"
        for number in range(changes * 2 // 3 + 1):
            picture = self.root / f"page {number % 7}" / f"{number:04d}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(b"picture %d" % (number if number % 20 else 0))
            if number % 9:
                picture.with_suffix(".txt").write_text(
                    FORMATS[number % len(FORMATS)].format("wrong_tag"), encoding="utf-8", newline=""
                )
        shutil.copytree(self.root, base / "beginning")
        library = self.library()
        hashes = list(dict.fromkeys(hash for page in library.walk([]).pages for hash in page.hashes))
        wrong = [info.hash for info in library.files(hashes) if REMOVED in info.tags]
        self.changes = chosen(
            [TagChange(hash, ADDED, "add") for hash in hashes] + [TagChange(hash, REMOVED, "remove") for hash in wrong],
            changes,
        )
        self.reset()

    def library(self) -> FolderLibrary:
        return FolderLibrary(self.root, self.base / "folder.sqlite3")

    def state(self) -> Snapshot:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }

    def reset(self) -> None:
        super().reset()
        shutil.rmtree(self.root)
        shutil.copytree(self.base / "beginning", self.root)


class HydrusScene(Scene):
    """Files with tags on a local service and on a repository."""

    def __init__(self, base: Path, changes: int, server: HydrusServer) -> None:
        super().__init__(base)
        self.server = server
        self.hashes = [server.add_file(b"picture %d" % number) for number in range(changes * 2 // 3 + 1)]
        self.reset()
        self.changes = chosen(
            [
                TagChange(hash, tag, action)
                for hash in self.hashes
                for tag, action in ((ADDED, "add"), (REMOVED, "remove"))
            ],
            changes,
        )

    def library(self) -> Hydrus:
        return Hydrus(self.server.url, self.server.key)

    def state(self) -> Snapshot:
        return {
            f"{hash} {service}": self.server.stored(hash, service)
            for hash in self.hashes
            for service in (MY_TAGS, REPOSITORY)
        }

    def reset(self) -> None:
        super().reset()
        self.server.calls.clear()
        with self.server.guard:
            for number, hash in enumerate(self.hashes):
                for service in (MY_TAGS, REPOSITORY):
                    self.server.mappings[service].pop(hash, None)
                self.server.tag(hash, ["1girl", "series:x"])
                self.server.tag(hash, [REMOVED], REPOSITORY if number % 4 == 0 else MY_TAGS)

    def sent_twice(self) -> int:
        sent = Counter(
            (hash, json.dumps(actions))
            for call in self.server.calls
            if call.path == "/add_tags/add_tags"
            for hash in call.asked["hashes"]
            for actions in call.asked["service_keys_to_actions_to_tags"].items()
        )
        return sum(count - 1 for count in sent.values())

    def restored(self, now: Snapshot, beginning: Snapshot) -> bool:
        """The API cannot take a tag off a local service without a deletion record ("2"), so those do not count."""

        def owned(state: Snapshot) -> Snapshot:
            return {
                place: {status: tags for status, tags in stored.items() if status != "2"}
                for place, stored in state.items()
            }

        return owned(now) == owned(beginning)


class ClientScene(Scene):
    """Pictures in a real client. What is deleted there stays noted, so every run has pictures of its own."""

    def __init__(self, base: Path, changes: int) -> None:
        super().__init__(base)
        self.connection = Connection(config.API_URL, config.API_KEY)
        self.services = [one.key for one in self.library().services() if one.kind == "repository" or one.key == MY_TAGS]
        self.count = changes
        self.reset()

    def library(self) -> Hydrus:
        return Hydrus(config.API_URL, config.API_KEY)

    def state(self) -> Snapshot:
        names = [
            (number, tag, service)
            for number in range(len(self.hashes))
            for tag in (ADDED, REMOVED)
            for service in self.services
        ]
        now = self.library().states([(self.hashes[number], tag, service) for number, tag, service in names])
        return {f"{number} {tag} {service}": one for (number, tag, service), one in zip(names, now)}

    def reset(self) -> None:
        super().reset()
        self.hashes = [self._imported() for _ in range(self.count * 2 // 3 + 1)]
        pended = self.hashes[::4] if len(self.services) > 1 else []
        for service, action, hashes in (
            (MY_TAGS, "0", [one for one in self.hashes if one not in pended]),
            (self.services[-1], "2", pended),
        ):
            if hashes:
                self.connection.post(
                    "/add_tags/add_tags",
                    {"hashes": hashes, "service_keys_to_actions_to_tags": {service: {action: [REMOVED]}}},
                )
        self.changes = chosen(
            [
                TagChange(hash, tag, action)
                for hash in self.hashes
                for tag, action in ((ADDED, "add"), (REMOVED, "remove"))
            ],
            self.count,
        )

    def _imported(self) -> str:
        out = BytesIO()
        Image.frombytes("RGB", (16, 16), secrets.token_bytes(768)).save(out, "PNG")
        answer = requests.post(
            f"{config.API_URL}/add_files/add_file",
            data=out.getvalue(),
            timeout=60,
            headers={KEY_HEADER: config.API_KEY, "Content-Type": "application/octet-stream"},
        )
        answer.raise_for_status()
        return answer.json()["hash"]

    def restored(self, now: Snapshot, beginning: Snapshot) -> bool:
        """The API cannot take a tag off a local service without a deletion record, so "deleted" counts as gone."""

        def there(state: Snapshot) -> Snapshot:
            return {place: ABSENT if tag == DELETED else tag for place, tag in state.items()}

        return there(now) == there(beginning)


def chosen(every: list[TagChange], count: int) -> list[TagChange]:
    """`count` of the changes, in a random order that is always the same."""
    return random.Random(0).sample(every, min(count, len(every)))


def killed(
    work: Callable[[], None], after: float | None = None, at_line: int | None = None, once_noted: bool = False
) -> bool:
    """Do `work` in a child that is killed `after` seconds or at its line number `at_line`, counted from the noting down of its batch
    with `once_noted`. False when it was done before that.
    """
    child = os.fork()
    if child == 0:
        if at_line is not None:
            sys.settrace(_counter([0], once_noted, at_line))
        work()
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the child failed with exit code {os.WEXITSTATUS(status)}")
    return os.WIFSIGNALED(status)


def lines_of(work: Callable[[], None], once_noted: bool = False) -> int:
    """How many lines of the package `work` runs through, in all or since the ledger noted its batch down."""
    seen = [0]
    sys.settrace(_counter(seen, once_noted))
    try:
        work()
    finally:
        sys.settrace(None)
    return seen[0]


def _counter(seen: list[int], once_noted: bool, last: int | None = None) -> Callable[..., Any]:
    """A trace function that counts lines of the package, and kills its own process at line number `last`."""
    counting = [not once_noted]

    def line(frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and counting[0]:
            seen[0] += 1
            if seen[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is Ledger.open_batch.__code__:
            counting[0] = True
        return line if frame.f_code.co_filename.startswith(PACKAGE) else None

    return call


def check(scene: Scene, beginning: Snapshot, end: Snapshot) -> str:
    """After recovery: "applied" or "never noted down". Raises AssertionError when ledger and library do not agree."""
    batches, state = scene.ledger().batches(), scene.state()
    if not batches:
        assert state == beginning, "written, but not in the ledger"
        return "never noted down"
    assert len(batches) == 1, f"{len(batches)} batches"
    rows = scene.ledger().rows()
    assert {row.change for row in rows} == set(scene.changes), "the ledger lacks a change"
    assert {row.status for row in rows} == {APPLIED}, f"rows are {Counter(row.status for row in rows)}"
    assert state == end, (
        f"the library differs: {sorted(name for name in state.keys() | end.keys() if state.get(name) != end.get(name))[:5]}"
    )
    return "applied"


def check_undone(scene: Scene, beginning: Snapshot) -> None:
    """After an undo. Raises AssertionError when something of the batch is left."""
    assert {row.status for row in scene.ledger().rows()} == {UNDONE}, "not everything was taken back"
    assert scene.restored(scene.state(), beginning), "undo does not give what was before"


def faults(scene: Scene, runs: int, seed: int) -> Counter[str]:
    """`runs` kills at random points. Returns how the runs ended; raises AssertionError at the first that lost or doubled something."""
    rng = random.Random(seed)
    beginning = scene.state()
    lines = lines_of(scene.apply, once_noted=True)
    end = scene.state()
    undo_lines = lines_of(scene.undo)
    scene.reset()
    started = time.monotonic()
    scene.apply()
    seconds = time.monotonic() - started
    outcomes: Counter[str] = Counter()
    for number in range(runs):
        scene.reset()
        point = (
            {"at_line": rng.randint(1, lines), "once_noted": True}
            if number % 2
            else {"after": rng.uniform(0, seconds * 1.1)}
        )
        hit = killed(scene.apply, **point)
        if number % 3 == 0:
            killed(scene.recover, at_line=rng.randint(1, lines))
        scene.recover()
        outcomes["changes sent twice"] += scene.sent_twice()
        outcome = check(scene, beginning, end)
        outcomes[outcome] += 1
        if outcome == "applied":
            outcomes["undo killed"] += killed(scene.undo, at_line=rng.randint(1, undo_lines))
            scene.recover()
            scene.undo()
            check_undone(scene, beginning)
        outcomes["killed in its midst"] += hit
        say(f"run {number + 1}: {point} {'killed' if hit else 'was done before'}; after recovery: {outcome}")
    return outcomes


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.add_argument(
        "--library",
        choices=["folder", "hydrus", "client"],
        default="folder",
        help="what is written to: a folder, the local server, or the client that config.py names (default: folder)",
    )
    made.add_argument("--runs", type=at_least(1), default=50, metavar="N", help="kills (default: 50)")
    made.add_argument(
        "--changes", type=at_least(1), default=200, metavar="N", help="changes in each apply (default: 200)"
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="which random points (default: 0)")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as base, HydrusServer({}, pages={}) as server:
        scenes = {
            "folder": lambda: FolderScene(Path(base), args.changes),
            "hydrus": lambda: HydrusScene(Path(base), args.changes, server),
            "client": lambda: ClientScene(Path(base), args.changes),
        }
        scene = scenes[args.library]()
        outcomes = faults(scene, args.runs, args.seed)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    print(
        f"{args.library}: {args.runs} of {args.runs} runs agree after recovery ({counts}); "
        f"{args.changes} changes each, {time.monotonic() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    run(main)
