"""Time the search for all near-duplicate pairs against its peers, and check every pair.

    python benchmarks/near_duplicates.py
    python benchmarks/near_duplicates.py --rows 100000 --repeats 3
    python benchmarks/near_duplicates.py --rows 1000000 --repeats 0 --ours-alone --check 2000
    python benchmarks/near_duplicates.py --pixels 4500

Reads   nothing: rows are drawn from --seed
Writes  nothing: figures on stdout

Peers: faiss' exact index (pip install faiss-cpu; left out, and said so, where it is not installed), and float32 products in
torch a block at a time. All run in turn in every repetition, so that a busy moment hits none of them alone; ratios are of
medians, of seconds and of processor seconds, which a busy machine distorts less. Each one's pairs are compared with the
products in float32; those within 1e-6 of the threshold may fall on either side. Where all products
would take hours, --check holds the pairs of some rows drawn at random against theirs with all rows.

--pixels times what comes after the search where a network holds most pictures for alike: the comparison of the pixels of 20
pairs of each picture, beside the same without a limit (each pair laid over each other, whatever it looks like).
"""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from common import memory, spent, taking_turns
from numpy.typing import NDArray

from tagcheck import script
from tagcheck.duplicates import pixel_difference
from tagcheck.pictures.thumbnails import BYTES, SIDE
from tagcheck.similar import near_pairs

try:
    import faiss
except ImportError:
    faiss = None

TIE = 1e-6
THRESHOLD = 0.95  # cosine
COLUMNS, DECAY = 768, 0.6  # numbers in a row; power of their number by which the widths of the principal axes fall
BLOCK = 4096
DRAW = 10_000
KINDS, PAIRS, SLOWLY = 25, 20, 4_000  # of look-alikes, pairs of each, and pairs that are compared without a limit
BRUTE = "torch float32 blocks"
Found = tuple[NDArray[np.int64], NDArray[np.float32]]  # i * n + j sorted, and the cosines


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    script.add_whole(parser, "--rows", "how many rows, several for several runs", [10_000, 40_000], low=2)
    script.add_whole(parser, "--repeats", "repetitions; 0 for the one run in which memory is measured", 3, low=0)
    script.add_option(parser, "--seed", "of the rows", 0, type=int)
    script.add_whole(parser, "--check", "rows of the first run to check against products with all rows", 0, low=0)
    script.add_switch(parser, "--ours-alone", "leave the peers out: for sizes at which they would take hours")
    script.add_whole(parser, "--pixels", "pictures of which pixels are compared instead", 0, low=0)
    args = parser.parse_args(argv)
    if args.pixels:
        compare_pixels(args.pixels, args.seed)
        return 0
    for n in args.rows:
        rows = draw(n, COLUMNS, DECAY, args.seed)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # faiss needs unit rows; ours takes any
        print(f"{n:,} rows of {COLUMNS}, cosine {THRESHOLD:g}, decay {DECAY:g}, {torch.get_num_threads()} threads")
        pairs = first_run(rows)
        if args.check:
            some = np.sort(np.random.default_rng(args.seed).permutation(n)[: args.check])
            true = blocks(rows, some)
            own = np.isin(pairs[0] // n, some) | np.isin(pairs[0] % n, some)
            verdict = agreement((pairs[0][own], pairs[1][own]), true)
            print(
                f"  of {len(some):,} rows drawn, {len(true[0]):,} pairs in float32 with all rows: {verdict}", flush=True
            )
        compare(contestants(rows, args.ours_alone), args.repeats)
    return 0


def contestants(rows: np.ndarray, ours_alone: bool) -> dict[str, Callable[[], Found]]:
    """Ours and the peers by name, each starting from the rows."""
    found: dict[str, Callable[[], Found]] = {
        "ours": lambda: ours(rows, "auto"),
        "ours, plain products": lambda: ours(rows, "torch"),
    }
    if ours_alone:
        return found
    found[BRUTE] = lambda: blocks(rows, np.arange(len(rows)))
    if faiss is None:
        print("  faiss is not installed (pip install faiss-cpu): compared with plain products")
        return found
    return found | {"faiss flat": lambda: by_faiss(rows)}


def compare(peers: dict[str, Callable[[], Found]], repeats: int) -> None:
    """Run all in turn, check every pair, print medians and ratios to ours after each repetition, since one can take long."""
    rounds = taking_turns(peers, repeats, (time.perf_counter, time.process_time))
    for repeat, (found, taken) in enumerate(rounds):
        median, work = ({name: statistics.median(times) for name, times in own.items()} for own in taken)
        print(f"  after {repeat + 1} of {repeats} repetitions")
        for name in peers:
            verdict = ", " + agreement(found[name], found[BRUTE]) if BRUTE in found else ""
            print(
                f"  {name:24s}{median[name]:9.2f} s{median[name] / median['ours']:7.1f} x ours{work[name]:10.2f} processor s"
                f"{work[name] / work['ours']:7.1f} x ours, {len(found[name][0]):,} pairs{verdict}",
                flush=True,
            )


def agreement(found: Found, true: Found) -> str:
    """How a result differs from the brute force, ties aside."""
    missed = ~np.isin(true[0], found[0]) & (true[1] > THRESHOLD + TIE)
    extra = ~np.isin(found[0], true[0]) & (found[1] > THRESHOLD + TIE)
    if not missed.any() and not extra.any():
        return "all of them"
    return f"recall {1 - missed.sum() / max(1, len(true[0])):.5f}, {missed.sum():,} missed, {extra.sum():,} too many"


def ours(rows: np.ndarray, engine: str) -> Found:
    """`tagcheck.similar.pairs.near_pairs`."""
    pairs = near_pairs(rows, THRESHOLD, engine)
    return pairs.i * len(rows) + pairs.j, pairs.cosine


def first_run(rows: np.ndarray) -> Found:
    """A run of ours; printed is how long it takes and how far it raises this process' peak memory, as a share of the rows' own."""
    near_pairs(rows[:2_000], THRESHOLD)  # so that libraries are loaded
    with spent() as took:
        pairs = ours(rows, "auto")
    print(
        f"  ours, once: {took.clock:.1f} s, {took.processor:.1f} processor s, {len(pairs[0]):,} pairs, "
        f"peak memory beside the input {took.memory / rows.nbytes:.2f} of it, {memory() / 1e9:.1f} GB in all",
        flush=True,
    )
    return pairs


def blocks(rows: np.ndarray, some: np.ndarray) -> Found:
    """The pairs of the rows `some` with all rows by float32 products in torch, a block at a time."""
    unit, keys, cosines = torch.from_numpy(rows), [], []
    whole = len(some) == len(rows)  # then each block meets only those behind it
    for start in range(0, len(some), BLOCK):
        asked = torch.from_numpy(some[start : start + BLOCK])
        own = unit[asked]
        for other in range(start if whole else 0, len(rows), BLOCK):
            product = own @ unit[other : other + BLOCK].T
            row, column = (product >= THRESHOLD).nonzero(as_tuple=True)
            i, j = asked[row], column + other
            keys.append((torch.minimum(i, j) * len(rows) + torch.maximum(i, j))[i != j].numpy())
            cosines.append(product[row, column][i != j].numpy())
    return in_order(np.concatenate(keys), np.concatenate(cosines))


def by_faiss(rows: np.ndarray) -> Found:
    """The pairs that faiss' exact index finds, a block of questions at a time."""
    faiss.omp_set_num_threads(torch.get_num_threads())
    index, keys, cosines = faiss.IndexFlatIP(rows.shape[1]), [], []
    index.add(rows)
    above = float(np.nextafter(np.float32(THRESHOLD), np.float32(0)))
    for start in range(0, len(rows), BLOCK):
        limits, cosine, column = index.range_search(rows[start : start + BLOCK], above)
        row = np.repeat(np.arange(start, start + len(limits) - 1), np.diff(limits).astype(np.int64))
        once = row < column
        keys.append(row[once] * len(rows) + column[once])
        cosines.append(cosine[once])
    return in_order(np.concatenate(keys), np.concatenate(cosines))


def in_order(keys: np.ndarray, cosines: np.ndarray) -> Found:
    """Both, each pair once, sorted by key."""
    key, first = np.unique(keys, return_index=True)
    return key, cosines[first]


def compare_pixels(count: int, seed: int) -> None:
    """Time the comparison of `count` look-alike pictures, of some also without a limit, and say where the two differ."""
    rng = np.random.default_rng(seed)
    thumbnails = look_alikes(count, rng)
    i = np.arange(count).repeat(PAIRS)
    j = (i + np.tile(KINDS * np.arange(1, PAIRS + 1), count)) % count
    some = rng.permutation(len(i))[:SLOWLY]
    with spent() as all_pairs:
        found = pixel_difference.differences(thumbnails, i, j)
    with spent() as few_pairs:
        whole = pixel_difference.differences(thumbnails, i[some], j[some], np.inf)
    apart = (found == pixel_difference.APART).all(axis=1)
    one, other = all_pairs.processor / len(i), few_pairs.processor / len(some)
    far, near = whole[apart[some]], np.abs(whole - found[some])[~apart[some]]
    print(
        f"{count:,} look-alike pictures, {len(i):,} pairs: {all_pairs.processor:.1f} processor s, {1e3 * one:.3f} ms a pair; "
        f"without a limit {1e3 * other:.3f} ms ({other / one:.1f} x)\n  {apart.mean():.1%} are left apart, of which at least "
        f"{far[:, 0].min(initial=1):.2f} of the variation would be left; the others differ by at most {near.max(initial=0):.4f}"
    )


def look_alikes(count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Thumbnails (count, BYTES) in `KINDS` kinds, picture k of kind k % KINDS; one in ten is a copy of the one of its kind before it,
    in another tone.
    """
    kinds, own = rng.normal(size=(KINDS, 8, 8)), rng.normal(size=(count, 8, 8))
    scenes = 0.7 * kinds[np.arange(count) % KINDS] + 0.7 * own
    copied = np.flatnonzero(rng.random(count) < 0.1)
    copied = copied[copied >= KINDS]
    scenes[copied] = scenes[copied - KINDS]
    tone = np.where(np.isin(np.arange(count), copied), rng.uniform(0.8, 1.2, count), 1.0)
    light = 128 + 40 * tone[:, None, None] * scenes.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)
    colours = np.full((count, BYTES - SIDE * SIDE), 128.0)
    return np.concatenate([light.reshape(count, -1), colours], axis=1).clip(0, 255).astype(np.uint8)


def draw(n: int, d: int, decay: float, seed: int) -> np.ndarray:
    """Rows (n, d) float32 like embeddings of pictures: a common mean direction, topics of about 200, widths of the
    principal axes falling as k^-decay, and three in ten rows a copy of another, some scenes copied very often.
    """
    random = torch.Generator().manual_seed(seed)
    widths = (1 + torch.arange(d)).float() ** -decay
    turn = torch.linalg.qr(torch.randn(d, d, generator=random))[0]
    mean = torch.nn.functional.normalize(torch.randn(d, generator=random), dim=0)

    def directions(count: int, power: float = 1.0) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(count, d, generator=random) * widths**power, dim=1)

    topics = directions(max(1, n // 200))
    scenes = n * 7 // 10 + 1
    topic = torch.randint(len(topics), (scenes,), generator=random)
    copied = (scenes * torch.rand(n - scenes, generator=random) ** 2).long()
    scene = torch.cat([torch.arange(scenes), copied])
    change = torch.cat([torch.zeros(scenes), 0.02 + 0.5 * torch.rand(n - scenes, generator=random)])
    place = torch.randperm(n, generator=random)
    own = torch.empty(scenes, d, dtype=torch.float16)
    for start in range(0, scenes, DRAW):
        part = topic[start : start + DRAW]
        scene_rows = 0.65 * topics[part] + 0.76 * directions(len(part))
        own[start : start + DRAW] = torch.nn.functional.normalize(scene_rows, dim=1)
    rows = torch.empty(n, d)
    for start in range(0, n, DRAW):
        part = slice(start, start + DRAW)
        copy = own[scene[part]].float() + change[part, None] * directions(len(scene[part]), 0.5)
        rows[place[part]] = (0.76 * torch.nn.functional.normalize(copy, dim=1) + 0.65 * mean) @ turn
    return rows.numpy()


if __name__ == "__main__":
    script.run(main)
