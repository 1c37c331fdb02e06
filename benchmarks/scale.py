"""Time and memory of every stage after extraction, by the number of pictures and of tags, and how they grow.

    python benchmarks/scale.py
    python benchmarks/scale.py --pictures 10000 100000 --tags 2000
    python benchmarks/scale.py --pictures 20000 --tags 2000 10000 --stages mistagged
    python benchmarks/scale.py --peers --pictures 50000
    python benchmarks/scale.py --changed --pictures 20000 --stages mistagged pairs
    python benchmarks/scale.py --changed --pictures 20000 --stages series detectors

Reads   nothing: libraries are drawn (metadata and embeddings alone, no picture is made)
Writes  nothing that stays, unless --keep DIR

A drawn library: pictures in walks (each near the one before, as in comics and albums) through clusters, copies of 6 %, tags with
Zipf frequencies that belong to clusters, more from everywhere, so that each has some five uses, 5 % of them forgotten and 1 %
wrong, series of very different sizes, a tagger that knows every other tag.

Each stage runs as a process of its own, as an owner starts it: mapping (a folder of as many files), dataset (read whole), series, mistagged, validation, pairs,
import (reports into the review store), page (seconds until the first answer), detectors (mistagged, pairs and validation by run_error_detection.py). Printed are seconds of the clock and of the processor, the most memory
held, the sizes of reports and store, and between two sizes the exponent by which each grows.
"""

import argparse
import hashlib
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from common import PROJECT, Spent, alone, spent

from tagcheck import data_folder, script
from tagcheck.data_folder import DATASET, DataFolder

WIDTH = 768
MODEL, PREPROCESS = "drawn", "drawn"
CHUNK = 20_000
LATER = "later.json"
STAGES = ("mapping", "dataset", "series", "mistagged", "validation", "pairs", "import", "page", "detectors")


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    script.add_whole(parser, "--pictures", "in the libraries", [2_000, 8_000], low=500)
    script.add_whole(parser, "--tags", "in use", [500], low=50, metavar="T")
    default = list(STAGES[:-1])
    script.add_option(parser, "--stages", "what to run (default: all but detectors)", default, choices=STAGES)
    script.add_confidence(parser, "of the mistagged report")
    script.add_memory(parser)
    peers = (
        "neighbours beside faiss and usearch, reading a dataset beside orjson and pyarrow, tag errors beside cleanlab"
    )
    script.add_switch(parser, "--peers", f"instead, {peers}")
    again = "run each stage again after one picture in a hundred is new and one in two hundred has another tag"
    script.add_switch(parser, "--changed", again)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the drawn libraries here (default: nowhere)")
    args = parser.parse_args(argv)
    if args.peers:
        for n in args.pictures:
            neighbours(n)
            beside_peers(n, args.tags[0])
        return 0
    measured: dict[tuple[int, int], dict[str, Spent]] = {}
    for tags in args.tags:
        for n in args.pictures:
            root = args.keep or Path(tempfile.mkdtemp(prefix="tagcheck-scale-"))
            try:
                if args.changed:
                    changed(root / f"{n}x{tags}", n, tags, args)
                else:
                    measured[n, tags] = measure(root / f"{n}x{tags}", n, tags, args)
            finally:
                if args.keep is None:
                    shutil.rmtree(root)
    grown(measured)
    return 0


def measure(root: Path, n: int, tags: int, args: argparse.Namespace, later: int = 0) -> dict[str, Spent]:
    """Draw one library, `later` pictures of it still left out, and run the stages on it, a line each."""
    root.mkdir(parents=True, exist_ok=True)
    folder = DataFolder(root)
    if "mapping" in args.stages and not (root / "library").exists():
        files(root / "library", n)
    if folder.newest(DATASET) is None and args.stages != ["mapping"]:
        alone(draw, folder, n, tags, later)  # a child's peak counts from its parent's size
    sizes = f"dataset {megabytes(folder.newest(DATASET))}, embeddings {megabytes(folder.embeddings)}"
    print(f"\n{n:,} pictures, {tags:,} tags: {sizes}")
    most = [] if args.memory is None else [f"--memory={args.memory}"]
    where, mapped = ["--data-dir", str(root)], ["--data-dir", str(root / "mapped")]
    commands: dict[str, list[str]] = {
        "mapping": ["dataset_hardcore_mapper.py", "--library", str(root / "library"), *mapped],
        "dataset": ["-c", DATA.format(root=str(root)) + "from tagcheck import dataset; dataset.load(folder)"],
        "mistagged": ["find_mistagged_images.py", *where, f"--min-confidence={args.min_confidence}", *most],
        "series": ["train_series_classifier_images.py", *where],
        "validation": ["validate_series_predictions.py", *where, *most],
        "pairs": ["find_near_duplicates.py", *where, *most],
        "detectors": ["run_error_detection.py", *where, f"--min-confidence={args.min_confidence}", *most],
        "import": ["-c", (DATA + READ).format(root=str(root))],
        "page": ["-c", (DATA + PAGE).format(root=str(root))],
    }
    took = {}
    for stage in args.stages:
        took[stage], said = timed(commands[stage])
        tell(stage, took[stage], said)
    print(f"  reports {megabytes(root / 'reports')}, store {megabytes(folder.review)}", flush=True)
    return took


def tell(name: str, took: Spent, said: str) -> None:
    """One line: what a stage, or a peer, took and said."""
    seconds = f"{took.clock:8.1f} s {took.processor:8.1f} s of processor"
    print(f"  {name:16} {seconds} {took.memory / 2**30:6.2f} GiB  {said}", flush=True)


DATA = """
from pathlib import Path
from tagcheck.data_folder import DataFolder
folder = DataFolder(Path({root!r}))
"""
READ = """
from tagcheck.review.report_import import sync
from tagcheck.review.store import Review
with Review(folder.review) as review:
    found = sync(review, folder)
    print(review.db.execute("SELECT count(*) FROM suggestions").fetchone()[0], "suggestions", found or "")
"""
PAGE = """
import time
from webapp.app import create_app
from webapp.state import Settings
start = time.perf_counter()
app = create_app(Settings(folder, lambda: None))
answer = app.test_client().get("/error-review", base_url="http://127.0.0.1:5000")
print(answer.status_code, "after", round(time.perf_counter() - start, 2), "s")
"""


def timed(command: list[str]) -> tuple[Spent, str]:
    """Run one stage as a process; (what it took, the last line that it said). A stage that fails says so."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        given = {"cwd": PROJECT, "env": os.environ | {"PYTHONPATH": str(PROJECT)}}
        process = subprocess.Popen([sys.executable, *command], stdout=out, stderr=subprocess.STDOUT, **given)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = out.read().decode(errors="replace").replace("\r", "\n").strip().split("\n")
    said = lines[-1][-160:] if lines else ""
    if process.returncode:
        said = f"FAILED ({process.returncode}): {said}"
    return Spent(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024), said


def grown(measured: dict[tuple[int, int], dict[str, Spent]]) -> None:
    """The exponents between neighbouring sizes, in pictures and in tags."""
    sizes = sorted(measured)
    for (axis, name), one in itertools.product(enumerate(("pictures", "tags")), sizes):
        larger = [other for other in sizes if other[1 - axis] == one[1 - axis] and other[axis] > one[axis]]
        for other in larger[:1]:
            more, ratio = measured[other], math.log(other[axis] / one[axis])
            grew = {stage: math.log(more[stage].processor / took.processor) for stage, took in measured[one].items()}
            powers = ", ".join(f"{stage} {power / ratio:.2f}" for stage, power in grew.items())
            between = f"from {one[axis]:,} to {other[axis]:,} {name}"
            print(f"{between}, processor time grows with the power of: {powers}")


def megabytes(path: Path | None) -> str:
    """The size of a file, or of all in a folder."""
    if path is None or not path.exists():
        return "none"
    size = sum(one.stat().st_size for one in (path, *path.rglob("*")) if one.is_file())
    return f"{size / 1e6:,.1f} MB"


def draw(folder: DataFolder, n: int, tags: int, later: int = 0, seed: int = 0) -> None:
    """A library of `n` pictures and `tags` tags into `folder`, some at a time; `later` pictures more are no part of it yet."""
    from tagcheck.embedding import ShardWriter
    from tagcheck.embedding.store import TagHead, save_tag_head

    rng = np.random.default_rng(seed)
    clusters = max(10, n // 300)
    names = [f"series:{k}" for k in range(max(3, tags // 50))]
    names += [f"character:{k}" for k in range(tags // 5)]
    names += [f"tag {k}" for k in range(tags - len(names))]
    popularity = 1 / np.arange(1, len(names) + 1) ** 0.9
    popularity = rng.permutation(popularity / popularity.sum())
    drawn = max(6, -(-8 * tags // n))  # further tags of each picture, from all: so that each tag has some five uses
    even = min(0.8, 5 * tags / (n * drawn))
    anywhere = popularity * (1 - even) + even / len(names)
    own = [rng.choice(len(names), size=24, replace=False, p=popularity) for _ in range(clusters)]
    decay = (1 / np.sqrt(1 + np.arange(WIDTH))).astype(np.float32)
    centres = rng.normal(size=(clusters, WIDTH)).astype(np.float32)
    mean = np.zeros(WIDTH, dtype=np.float32)
    mean[0] = 2.0
    directions = rng.normal(size=(len(names), WIDTH)).astype(np.float32) * 0.25
    records = []
    with ShardWriter(folder.embeddings, MODEL, PREPROCESS) as writer:
        for start in range(0, n + later, CHUNK):
            count = min(CHUNK, n + later - start)
            walk = rng.integers(clusters, size=-(-count // 20)).repeat(20)[:count]
            rows = centres[walk] + walked(rng, count)
            has = [np.unique(own[cluster][rng.random(24) < 0.5]) for cluster in walk]
            further = rng.choice(len(names), (count, drawn), p=anywhere)
            has = [np.union1d(mine, more) for mine, more in zip(has, further)]
            for row, mine in enumerate(has):
                rows[row] += directions[mine].sum(axis=0)
            rows = rows * decay + mean
            copies = np.flatnonzero(rng.random(count)[1:] < 0.06) + 1
            rows[copies] = rows[copies - 1] + rng.normal(size=(len(copies), WIDTH)).astype(np.float32) * 0.01
            for row in copies:
                has[row] = has[row - 1]
            hashes = [hashlib.sha256(f"{start + row} of {seed}".encode()).hexdigest() for row in range(count)]
            writer.add(hashes, rows)
            for row, mine in enumerate(has):
                written = {names[tag] for tag in mine if rng.random() > 0.05}
                if rng.random() < 0.2:
                    written.add(names[rng.choice(len(names), p=popularity)])
                records.append(record(hashes[row], start + row, written))
    weight = (directions / decay * 0.12)[::2]  # a tagger that knows every other tag
    head = TagHead(names[::2], weight, (-3 - weight @ mean).astype(np.float32), MODEL)
    save_tag_head(folder.embeddings, head)
    header = {"model": {"id": MODEL}, "summary": {"mapped": n}}
    data_folder.save(folder, DATASET, header | {"results": records[:n]})
    (folder.root / LATER).write_text(json.dumps(records[n:]))


def files(root: Path, n: int) -> None:
    """A folder of `n` pictures of a few bytes, each with tags beside it."""
    for place in range(n):
        page = root / f"page {place // 5000}"
        page.mkdir(parents=True, exist_ok=True)
        (page / f"{place}.png").write_bytes(b"\x89PNG\r\n\x1a\n%d" % place)
        (page / f"{place}.txt").write_text(f"tag {place % 97}, tag {place % 89}")


def walked(rng: np.random.Generator, count: int) -> np.ndarray:
    """Steps (count, WIDTH) in walks of 20 pictures, each near the one before."""
    steps = rng.normal(size=(count, WIDTH)).astype(np.float32) * 0.8
    for place in range(1, 20):
        rows = np.arange(place, count, 20)
        steps[rows] = 0.7 * steps[rows - 1] + 0.7 * steps[rows]
    return steps


def record(hash: str, place: int, written: set[str]) -> dict[str, object]:
    """The dataset's record of a drawn picture."""
    series = sorted(tag for tag in written if tag.startswith("series:"))
    tags = {"existing_all_tags": sorted(written), "existing_series_tags": series}
    where = {"pages": [["drawn", f"page {place // 5000}"]], "time_imported": 1.6e9 + place}
    return {"hash": hash, "status": "ok", **tags, **where}


def neighbours(n: int, k: int = 24) -> None:
    """Ours, exact and by clusters, beside faiss (IVF) and usearch (HNSW), where they are installed: seconds and recall."""
    from tagcheck.similar import top_k
    from tagcheck.similar.nearest import nearest

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(n // 200, 10), 128))
    rows = (centres[rng.integers(len(centres), size=n)] + 1.2 * rng.normal(size=(n, 128))) / np.sqrt(1 + np.arange(128))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    asked = rng.choice(n, size=500, replace=False)
    product = rows[asked] @ rows.T
    product[np.arange(500), asked] = -np.inf
    truth = np.argpartition(-product, k, axis=1)[:, :k]

    ways: dict[str, Callable[[], np.ndarray]] = {
        "ours, by clusters": lambda: nearest(rows, k, exact_below=0).indices,
        "faiss IVF, nprobe 12": lambda: faiss_ivf(rows, k),
        "usearch HNSW": lambda: usearch_hnsw(rows, k),
    }
    if n <= 100_000:
        ways = {"ours, exact": lambda: top_k(rows, k)[0]} | ways
    print(f"\n{k} nearest of {n:,} rows of 128")
    for name, find in ways.items():
        try:
            with spent() as took:
                found = find()
        except ImportError:
            print(f"  {name:22} not installed")
            continue
        recall = np.mean([len(np.intersect1d(found[row], truth[place])) / k for place, row in enumerate(asked)])
        print(f"  {name:22} {took.clock:7.1f} s {took.processor:7.1f} s of processor, recall {recall:.4f}", flush=True)


def beside_peers(n: int, tags: int) -> None:
    """Reading a dataset and finding tag errors, ours and those of peers that are installed, on one drawn library."""
    with tempfile.TemporaryDirectory(prefix="tagcheck-scale-") as root:
        folder = DataFolder(Path(root))
        alone(draw, folder, n, tags)
        path = folder.require(DATASET)
        print(f"\nreading a dataset of {n:,} pictures, and tag errors of {tags:,} tags")
        for way in (ours_read, json_read, orjson_read, pyarrow_read, cleanlab_errors):
            try:
                took, found = alone(taken, way, folder, path)
                tell(way.__name__, took, f"{found:,}")
            except ImportError:
                print(f"  {way.__name__:16} not installed")
        tell("ours_errors", *timed(["find_mistagged_images.py", "--data-dir", root]))


def taken(way: Callable[[DataFolder, Path], int], folder: DataFolder, path: Path) -> tuple[Spent, int]:
    with spent() as took:
        found = way(folder, path)
    return took, found


def ours_read(folder: DataFolder, path: Path) -> int:
    """Read, checked, the tags cleaned and as sets."""
    from tagcheck import dataset

    return len(dataset.load(folder, path).records)


def json_read(folder: DataFolder, path: Path) -> int:
    """Only parsed."""
    return len(json.loads(path.read_bytes())["results"])


def orjson_read(folder: DataFolder, path: Path) -> int:
    import orjson

    return len(orjson.loads(path.read_bytes())["results"])


def pyarrow_read(folder: DataFolder, path: Path) -> int:
    import io

    from pyarrow import json as arrow

    lines = [line.rstrip(b",\n") for line in path.read_bytes().splitlines() if line.startswith(b'{"hash"')]
    return int(arrow.read_json(io.BytesIO(b"\n".join(lines))).num_rows)


def cleanlab_errors(folder: DataFolder, path: Path) -> int:
    """Ridge regressions out of fold for all tags at once, and cleanlab's scores of the labels."""
    from cleanlab.multilabel_classification import get_label_quality_scores
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import cross_val_predict

    from tagcheck.embedding import store

    results = json.loads(path.read_bytes())["results"]
    found = store.load(folder.embeddings, sorted(one["hash"] for one in results), MODEL)
    tags = {one["hash"]: one["existing_all_tags"] for one in results}
    place = {tag: column for column, tag in enumerate(sorted(set().union(*tags.values())))}
    labels = [sorted(place[tag] for tag in tags[hash]) for hash in found.hashes]
    given = np.zeros((len(labels), len(place)), dtype=np.float32)
    for row, mine in enumerate(labels):
        given[row, mine] = 1
    said = cross_val_predict(Ridge(100.0), found.matrix.astype(np.float32), given, cv=5)
    return int((get_label_quality_scores(labels, np.clip(said, 1e-4, 1 - 1e-4)) < 0.5).sum())


def changed(root: Path, n: int, tags: int, args: argparse.Namespace) -> None:
    """Each stage from nothing, and again after one picture in a hundred is new and one in two hundred has another tag."""
    more = max(n // 100, 1)
    before = measure(root, n, tags, args, more)
    alone(change, DataFolder(root), n)
    print(f"  {more:,} pictures more, and another tag in {n // 200:,}")
    after = measure(root, n, tags, args)
    for stage, took in before.items():
        print(f"  {stage:10} {took.processor / max(after[stage].processor, 1e-9):6.1f} times faster than from nothing")
    whole, again = (sum(one.processor for one in some.values()) for some in (before, after))
    print(f"  all        {whole / again:6.1f}")


def change(folder: DataFolder, n: int) -> None:
    """Let the drawn pictures that were left out come in, and change a tag of every 200th."""
    document = data_folder.load(folder.require(DATASET), DATASET)
    document["results"] += json.loads((folder.root / LATER).read_text())
    names = sorted({tag for record in document["results"] for tag in record["existing_all_tags"]})
    rng = np.random.default_rng(1)
    for record in document["results"][:n:200]:
        mine = set(record["existing_all_tags"])
        mine ^= {names[rng.integers(len(names))] if rng.random() < 0.5 or not mine else min(mine)}
        record["existing_all_tags"] = sorted(mine)
        record["existing_series_tags"] = [tag for tag in sorted(mine) if tag.startswith("series:")]
    data_folder.save(folder, DATASET, {key: document[key] for key in ("model", "summary", "results")})


def faiss_ivf(rows: np.ndarray, k: int) -> np.ndarray:
    """The nearest of each row and itself, by faiss' inverted lists."""
    import faiss

    clusters = int(len(rows) ** 0.5)
    index = faiss.index_factory(rows.shape[1], f"IVF{clusters},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(rows[:: max(1, len(rows) // (40 * clusters))])
    index.add(rows)
    index.nprobe = 12
    return index.search(rows, k + 1)[1]


def usearch_hnsw(rows: np.ndarray, k: int) -> np.ndarray:
    """Likewise by usearch's graph."""
    from usearch.index import Index

    index = Index(ndim=rows.shape[1], metric="ip", dtype="f32")
    index.add(np.arange(len(rows)), rows)
    return index.search(rows, k + 1).keys


if __name__ == "__main__":
    script.run(main)
