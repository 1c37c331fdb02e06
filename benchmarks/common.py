"""What the benchmarks share: the project on the path, what work takes, peers that take turns, pictures to plant things in."""

import io
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, TypeVar

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

NETWORK = PROJECT / "sample" / "network"
MIRROR = "mirror"
T = TypeVar("T")


@dataclass
class Spent:
    """Seconds of the clock and of the processor, and bytes of memory at the most beyond those at the start (Linux)."""

    clock: float = 0.0
    processor: float = 0.0
    memory: int = 0


@contextmanager
def spent() -> Iterator[Spent]:
    """What the block takes; known at its end."""
    made = Spent()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    before, clock, processor = memory("VmRSS"), time.perf_counter(), time.process_time()
    yield made
    made.clock, made.processor = time.perf_counter() - clock, time.process_time() - processor
    made.memory = memory("VmHWM") - before


def memory(what: str = "VmHWM", process: int | str = "self") -> int:
    """Bytes of a process, as Linux tells them: "VmRSS" now, "VmHWM" at the most so far."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def alone(work: Callable[..., T], *args: Any) -> T:
    """What `work` returns, done in a process of its own, so that its memory is not counted with that of this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


def taking_turns(
    peers: dict[str, Callable[[], T]], rounds: int, clocks: tuple[Callable[[], float], ...], warm_up: bool = False
) -> Iterator[tuple[dict[str, T], list[dict[str, list[float]]]]]:
    """Run every peer in turn, so that a busy moment hits none of them alone. Yields after each of the `rounds` what each
    returned last and, for each clock, its seconds so far; with `warm_up`, one round goes before that counts nothing.
    """
    taken: list[dict[str, list[float]]] = [{name: [] for name in peers} for _ in clocks]
    found = {name: run() for name, run in peers.items()} if warm_up else {}
    for _ in range(rounds):
        for name, run in peers.items():
            start = [clock() for clock in clocks]
            found[name] = run()
            for own, clock, since in zip(taken, clocks, start):
                own[name].append(clock() - since)
        yield found, taken


def copy_of(rng: Random, original: bytes, how: str, *formats: str) -> bytes:
    """An encoded picture's copy: one of the sample's changes in one of the `formats`, or its mirror image."""
    from PIL import Image, ImageOps

    from sample.plant.copies import encode, retouch

    if how != MIRROR:
        return retouch(rng, original, how, rng.choice(formats))
    with Image.open(io.BytesIO(original)) as opened:
        return encode(ImageOps.mirror(opened.convert("RGB")), "jpg", rng.randint(82, 93))


def pictures_below(folder: Path, seed: int) -> list[Path]:
    """The pictures in a folder and what is below it, in an order drawn from the seed."""
    endings = (".png", ".jpg", ".jpeg", ".webp")
    paths = sorted(path for path in folder.expanduser().rglob("*") if path.suffix.lower() in endings)
    Random(seed).shuffle(paths)
    return paths


@contextmanager
def silent() -> Iterator[None]:
    """Nothing that the block says is shown."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def embedded(library: Path, data: Path, model: Path = NETWORK) -> tuple[Any, dict[str, str]]:
    """(the data folder, each file's name by its hash) once the first two stages have mapped and embedded a library."""
    import advanced_joytag_processing
    import dataset_hardcore_mapper
    from tagcheck import data_folder
    from tagcheck.data_folder import DATASET, DataFolder

    folder = DataFolder(data)
    with silent():
        dataset_hardcore_mapper.main(["--library", str(library), "--data-dir", str(data)])
        advanced_joytag_processing.main(["--model-dir", str(model), "--data-dir", str(data)])
    records = data_folder.load(folder.require(DATASET), DATASET)["results"]
    return folder, {one["hash"]: Path(one["file_path"]).name for one in records}
