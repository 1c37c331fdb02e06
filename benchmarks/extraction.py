"""How fast and how exact stage 2 is, as ratios against named peers, interleaved in one run.

    python benchmarks/extraction.py
    python benchmarks/extraction.py forward --upstream ~/joytag --threads 1 --rounds 5
    python benchmarks/extraction.py stage --pictures 200

Reads   joytag/config.json (random weights of the published size; a trained network is not needed to be timed)
Writes  nothing that stays

forward        the network: JoyTag's own code (--upstream, a clone of github.com/fpgaminer/joytag with einops and
               transformers installed), `joytag.Models` in float32 and under autocast, and `joytag.fast`, with PyTorch's
               attention and with ours where there is one
stage          all of advanced_joytag_processing.py on JPEGs of --size, against its network alone on the same pictures
cluster        the whole stage by --workers of a Ray cluster of this machine

Times are seconds of this process's own processor time where one thread computes (--threads 1), which a busy
machine disturbs least, else of the clock. The best of the rounds counts.
"""

import argparse
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import PROJECT, taking_turns
from PIL import Image, ImageDraw, ImageFilter
from safetensors.torch import save_file

from joytag.fast import FastViT, attend
from joytag.Models import ViT, normalise
from tagcheck import data_folder, script
from tagcheck.data_folder import DATASET, MAPPING, DataFolder
from tagcheck.embedding import joytag_network, tagger
from tagcheck.pictures import preparation

PARTS = ("forward", "stage", "cluster")
GFLOP = 162.0  # one picture through the published network
PRODUCT = "a square product in bfloat16"  # what a device can do at most
DRAWINGS = 32  # different pictures that are drawn, which takes longer than anything else


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.plain_parser(__doc__)
    script.add_option(parser, "part", "what to measure", PARTS[0], nargs="?", choices=PARTS)
    clone = "a clone of github.com/fpgaminer/joytag, to be timed beside (default: none)"
    parser.add_argument("--upstream", type=Path, metavar="DIR", help=clone)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    script.add_option(parser, "--device", "where the network runs, cpu or cuda", device)
    script.add_whole(parser, "--threads", "threads of the network", torch.get_num_threads())
    script.add_whole(
        parser, "--batch-size", "pictures at once (default: in forward 4, on a GPU 128; else what the stage takes)"
    )
    script.add_whole(parser, "--rounds", "times each peer runs, taking turns", 3)
    script.add_whole(parser, "--pictures", "files of stage and cluster", 60)
    size = "width and height of stage's pictures, in pixels (default: 2048 1536)"
    parser.add_argument("--size", nargs=2, type=int, default=(2048, 1536), metavar=("W", "H"), help=size)
    script.add_whole(parser, "--workers", "of cluster", 2)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    {"forward": forward, "stage": stage, "cluster": by_workers}[args.part](args)
    return 0


def table(seconds: dict[str, list[float]], per: float, unit: str, notes: dict[str, str] | None = None) -> None:
    """One line a peer: the best of its rounds, and how many times faster that is than the first peer's."""
    first = min(next(iter(seconds.values())))
    for name, taken in seconds.items():
        best, middle = min(taken), statistics.median(taken)
        note = (notes or {}).get(name, "")
        print(
            f"{name:34} {1e3 * best / per:9.2f} ms a {unit} (median {1e3 * middle / per:9.2f})  {first / best:6.2f}x  {note}"
        )


def forward(args: argparse.Namespace) -> None:
    """The network of the published size with random weights, on drawn pictures; and the device's own rate beside it."""
    device = torch.device(args.device)
    network = ViT.from_config(json.loads((PROJECT / "joytag" / "config.json").read_text())).eval().to(device)
    count = args.batch_size or (128 if device.type == "cuda" else 4)
    frames = [preparation.prepare(drawing(600, 500, seed), 448) for seed in range(count)]
    pixels = torch.from_numpy(preparation.batch(frames)).to(device)
    peers = {name: finished(features) for name, features in networks(args, network, pixels).items()}
    peers[PRODUCT], operations = product(device, 0.1 * len(pixels) if device.type == "cpu" else 0.1)
    clock = time.thread_time if args.threads == 1 and device.type == "cpu" else time.perf_counter
    *_, (found, (seconds,)) = taking_turns(peers, args.rounds, (clock,), warm_up=True)
    limit = operations / min(seconds.pop(PRODUCT)) / 1e12
    exact = found["joytag.Models float32"]
    head = network.head.cpu()
    notes = {name: exactness(rows, exact, head) for name, rows in found.items() if name != PRODUCT}
    table(seconds, len(pixels), "picture", notes)
    best = min(min(taken) for taken in seconds.values()) / len(pixels)
    rate = GFLOP / best / 1e3
    print(
        f"{args.threads} threads on {device}; the fastest computes {1 / best:.2f} pictures/s, {rate:.2f} TFLOP/s, "
        f"{rate / limit:.0%} of the {limit:.2f} that {PRODUCT} makes"
    )


def networks(args: argparse.Namespace, network: ViT, pixels: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """What computes the embeddings of `pixels`, by name: upstream's code where it is at hand, the plain network, and the fast ones."""
    device = pixels.device

    def autocast() -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return network.features(normalise(pixels))

    found: dict[str, Callable[[], torch.Tensor]] = {}
    if args.upstream:
        theirs = upstream(args.upstream, network).to(device)
        found["upstream float32"] = lambda: embedding_of(theirs, normalise(pixels))
    found["joytag.Models float32"] = lambda: network.features(normalise(pixels))
    found["joytag.Models, bfloat16 autocast"] = autocast
    lanes = ThreadPoolExecutor(args.threads, "lane", torch.set_num_threads, (1,))
    parts = pixels.split(-(-len(pixels) // args.threads)) if device.type == "cpu" else (pixels,)
    each = lanes.map if len(parts) > 1 else map
    for precision, dtype in joytag_network.PRECISIONS.items():
        plain, chosen = FastViT(network, dtype, device), joytag_network.fast_network(network, device, precision)
        fast = {f"joytag.fast {precision}": plain}
        if chosen.through != chosen.by_blocks or (chosen.blocks and chosen.blocks[0].attention is not attend):
            fast["the same by our kernels"] = chosen
        for name, one in fast.items():
            found[name] = lambda one=one: torch.cat(list(each(one, parts)))
    return found


def finished(features: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """`features`, waited for and brought to the processor."""

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return features().float().cpu()

    return run


def product(device: torch.device, about: float) -> tuple[Callable[[], torch.Tensor], float]:
    """(products of two square matrices that take `about` so many seconds where a rate is usual, their operations)."""
    side, usual = (8192, 700e12) if device.type == "cuda" else (2048, 1e12)
    times = max(1, round(about * usual / (2 * side**3)))
    a, b, out = (torch.randn(side, side, device=device).bfloat16() for _ in range(3))

    def run() -> torch.Tensor:
        with torch.inference_mode():
            for _ in range(times):
                torch.mm(a, b.T, out=out)
        return out[0].float().cpu()

    return run, times * 2.0 * side**3


def exactness(rows: torch.Tensor, exact: torch.Tensor, head: torch.nn.Linear) -> str:
    """Against the plain network in float32, over the pictures of the batch."""
    with torch.inference_mode():
        off = (head(rows).sigmoid() - head(exact).sigmoid()).abs().max()
    centred = torch.nn.functional.cosine_similarity(rows - rows.mean(0), exact - exact.mean(0)).min()
    return f"centred cosine {centred:.6f}, probabilities within {off:.5f}"


def upstream(clone: Path, network: ViT) -> torch.nn.Module:
    """JoyTag's own code with the same weights."""
    sys.path.insert(0, str(clone))
    import importlib.util

    spec = importlib.util.spec_from_file_location("upstream_models", clone / "Models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs = module.VisionModel.from_config(json.loads((PROJECT / "joytag" / "config.json").read_text()))
    theirs.load_state_dict(network.state_dict())
    return theirs.eval()


def embedding_of(theirs: torch.nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """What upstream's head is given: the embedding, taken on its way."""
    kept: list[torch.Tensor] = []
    hook = theirs.head.register_forward_pre_hook(lambda module, given: kept.append(given[0]))
    theirs({"image": pictures})
    hook.remove()
    return kept[0]


def drawing(width: int, height: int, seed: int) -> Image.Image:
    """A picture with edges, gradients, and some noise, as photographs have it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / rng.uniform(20, 200) + y / rng.uniform(20, 200)) for _ in range(3)]
    image = Image.fromarray(np.uint8(np.stack(waves, axis=2) * 100 + 128))
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        left, top = rng.integers(0, width), rng.integers(0, height)
        box = [int(left), int(top), int(left + rng.integers(4, width // 3)), int(top + rng.integers(4, height // 3))]
        draw.ellipse(box, fill=tuple(int(one) for one in rng.integers(0, 256, 3)), outline="black", width=3)
    noise = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return Image.blend(image, noise.filter(ImageFilter.GaussianBlur(1)), 0.08)


def stage(args: argparse.Namespace) -> None:
    """A whole run with a network of the published size, and its network alone, in turns.

    Seconds of a run are those of its own summary, from the first picture to the last: what it takes to start is apart.
    """
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        hashes = draw_pictures(root / "pictures", args.pictures, *args.size)
        model = seeded_folder(root / "model")
        alone = tagger.load(model, args.device, batch_size=args.batch_size)
        files = sorted((root / "pictures").iterdir())
        prepared = [preparation.prepare_bytes(path.read_bytes(), 448)[0] for path in files[:DRAWINGS]]
        pixels = preparation.batch([prepared[place % DRAWINGS] for place in range(len(files))])
        times: dict[str, list[float]] = {"the network alone": [], "the whole stage": []}
        processor: dict[str, list[float]] = {name: [] for name in times}
        for number in range(args.rounds):
            start, used = time.perf_counter(), time.process_time()
            alone.embed(pixels)
            times["the network alone"].append(time.perf_counter() - start)
            processor["the network alone"].append(time.process_time() - used)
            data = mapped(root / f"data{number}", root / "pictures", hashes)
            used = children_seconds()
            size = ["--batch-size", str(args.batch_size)] if args.batch_size else []
            summary = extracted(data, model, "--device", args.device, *size)
            processor["the whole stage"].append(children_seconds() - used)
            spent = summary["seconds"]
            assert summary["embedded"] == len(hashes)
            times["the whole stage"].append(spent["waiting"] + spent["computing"] + spent["writing"])
            parts = ", ".join(f"{name} {took} s" for name, took in spent.items())
            print(f"the network alone {times['the network alone'][-1]:.2f} s; the stage: {parts}", flush=True)
        table(times, len(hashes), "picture")
        print("-- processor seconds, of a stage with what starting takes and its decoders")
        table(processor, len(hashes), "picture")


def by_workers(args: argparse.Namespace) -> None:
    """A whole run by the workers of a cluster that is started for it: seconds of the clock, and those without any picture."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        model = seeded_folder(root / "model")
        taken = []
        for count in (1, args.pictures):
            pictures = root / f"pictures{count}"
            data = mapped(root / f"data{count}", pictures, draw_pictures(pictures, count, 448, 448))
            start = time.perf_counter()
            summary = extracted(data, model, "--engine", "ray", "--workers", str(args.workers))
            taken.append(time.perf_counter() - start)
            assert summary["embedded"] == count
        starting, whole = taken
        rate = (args.pictures - 1) / (whole - starting)
        print(f"-- cluster: {args.workers} workers, {args.pictures} pictures")
        print(f"{whole:.1f} s, of which starting takes {starting:.1f}; {rate:.2f} pictures a second")


def extracted(data: DataFolder, model: Path, *options: str) -> dict[str, Any]:
    """The summary of a whole run on what is mapped, as a process of its own."""
    given = ["--data-dir", str(data.root), "--model-dir", str(model), *options]
    command = [sys.executable, "advanced_joytag_processing.py", *given]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    return data_folder.load(data.newest(DATASET), DATASET)["summary"]


def seeded_folder(folder: Path) -> Path:
    """`folder`, with a network of the published size and random weights."""
    config = json.loads((PROJECT / "joytag" / "config.json").read_text())
    folder.mkdir()
    weights = {name: tensor.half() for name, tensor in ViT.from_config(config).state_dict().items()}
    save_file(weights, folder / joytag_network.WEIGHTS)
    (folder / joytag_network.CONFIG).write_text(json.dumps(config))
    (folder / joytag_network.VOCABULARY).write_text("".join(f"tag_{number}\n" for number in range(config["n_tags"])))
    return folder


def children_seconds() -> float:
    """Processor seconds of all processes that were started here and have ended."""
    used = os.times()
    return used.children_user + used.children_system


def draw_pictures(folder: Path, count: int, width: int, height: int) -> list[str]:
    """Put `count` JPEGs into a new folder; their hashes. From `DRAWINGS` on they repeat, with other bytes after the end."""
    folder.mkdir()
    drawn, hashes = [], []
    for seed in range(count):
        if seed < DRAWINGS:
            out = io.BytesIO()
            drawing(width, height, seed).save(out, "JPEG", quality=90)
            drawn.append(out.getvalue())
        data = drawn[seed % DRAWINGS] + (b"%08d" % seed if seed >= DRAWINGS else b"")
        (folder / f"{seed:05}.jpg").write_bytes(data)
        hashes.append(hashlib.sha256(data).hexdigest())
    return hashes


def mapped(root: Path, pictures: Path, hashes: list[str]) -> DataFolder:
    """A new data folder in which a folder of pictures is mapped."""
    root.mkdir()
    data = DataFolder(root)
    pages = [{"path": ["dataset"], "page_key": "k", "hashes": hashes}]
    library = {"type": "folder", "path": str(pictures)}
    data_folder.save(data, MAPPING, {"library": library, "root": ["dataset"], "pages": pages})
    return data


if __name__ == "__main__":
    raise SystemExit(main())
