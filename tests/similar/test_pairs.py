"""Every pair, exactly: the blocked search against a loop that a reader can check."""

from __future__ import annotations

import threading
import time
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tagcheck import c_library
from tagcheck.similar import bounded_search, bounds_in_c, gpu_search, unit_rows
from tagcheck.similar import pairs as pair_search
from tagcheck.similar.nearest import top_k
from tagcheck.similar.pairs import TooManyPairs, group_labels, groups, near_pairs


def brute_force(matrix: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    """The obvious twin: each pair's cosine in float64, one after the other."""
    rows = [row.astype(np.float64) / max(np.abs(row.astype(np.float64)).max(), 1e-300) for row in matrix]
    found = set()
    for i, left in enumerate(rows):
        for j in range(i + 1, len(rows)):
            length = np.sqrt(left @ left) * np.sqrt(rows[j] @ rows[j])
            if length > 0 and np.float32(left @ rows[j] / length) >= np.float32(threshold):
                found.add((i, j))
    return found


def clustered(n: int, d: int, seed: int, spread: float = 0.3) -> np.ndarray:
    """Rows in small clusters around a common mean direction, as embeddings of pictures are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(n // 3, 1), d)) + 1.5
    rows = centres[rng.integers(len(centres), size=n)] + rng.normal(size=(n, d)) * spread * rng.random((n, 1))
    return rows.astype(np.float32)


def alike(n: int) -> np.ndarray:
    """Rows whose cosines all lie around .9996, no further apart than float32 may round."""
    rng = np.random.default_rng(5)
    return (rng.standard_normal(768) + 0.02 * rng.standard_normal((n, 768))).astype(np.float16)


def tied(threshold: float) -> np.ndarray:
    """Rows in the plane whose neighbours are apart by the threshold's angle, to the last bits of float64."""
    angle = np.arccos(threshold)
    nudges = np.array([0, 0, 1e-16, -1e-16, 1e-12, -1e-12, 1e-8, -1e-8, 1e-7, -1e-7, 1e-6, -1e-6])
    angles = np.cumsum(angle + nudges)
    rows = np.zeros((len(angles), 7))
    rows[:, 2], rows[:, 5] = np.cos(angles), np.sin(angles)
    return rows


ADVERSARIAL = {
    "clusters": (clustered(130, 48, seed=1), 0.95),
    "a low threshold": (clustered(80, 16, seed=2), 0.2),
    "a threshold of one": (np.repeat(clustered(40, 24, seed=3), 3, axis=0), 1.0),
    "almost one": (clustered(90, 24, seed=4, spread=1e-4), 0.9999999),
    "zero rows": (np.concatenate([np.zeros((5, 8)), clustered(20, 8, seed=5), np.zeros((5, 8))]), 0.9),
    "all rows equal": (np.full((60, 12), 0.3, dtype=np.float32), 0.95),
    "rows that differ in length alone": (np.outer(np.logspace(-30, 30, 40), np.arange(1, 10)), 1.0),
    "huge numbers": (clustered(60, 20, seed=6) * np.float32(1e37), 0.9),
    "half precision": (clustered(100, 32, seed=7).astype(np.float16), 0.95),
    "ties at the threshold": (tied(0.95), 0.95),
    "all within rounding of the threshold": (alike(120), 0.9996),
    "ties at a half": (tied(0.5), 0.5),
    "opposite rows": (np.array([[1.0, 2.0], [-1.0, -2.0], [1.0, 2.0]]), 0.5),
    "one row": (np.ones((1, 4)), 0.5),
    "no rows": (np.empty((0, 4)), 0.5),
    "one column": (np.array([[1.0], [2.0], [-1.0], [0.0]]), 0.9),
}


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles and blocks so small that a few hundred rows have many of them, with odd ends."""
    for module, name, value in (
        (unit_rows, "TILE", 17),
        (bounded_search, "TILE", 17),
        (unit_rows, "BLOCK", 7),
        (pair_search, "BLOCK", 5),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def always_pruned(monkeypatch):
    """Bound first whatever the size and however little it rules out; returns how many searches did."""
    done = []
    monkeypatch.setattr(bounded_search, "WIDTHS", (2, 3, 6))
    monkeypatch.setattr(bounded_search, "FEWEST_ROWS", 2)
    monkeypatch.setattr(bounded_search, "HOPELESS", 2.0)
    full = bounded_search.PrunedSearch._full
    monkeypatch.setattr(
        bounded_search.PrunedSearch, "_full", lambda self, i, j: done.append(len(i)) or full(self, i, j)
    )
    return done


@cache
def true_pairs(case: str) -> list[tuple[int, int]]:
    """The brute force's pairs of an adversarial case."""
    return sorted(brute_force(*ADVERSARIAL[case]))


def assert_every_pair_and_no_other(
    matrix: np.ndarray, threshold: float, true: list[tuple[int, int]], engine: str = "torch"
) -> None:
    pairs = near_pairs(matrix, threshold, engine=engine)
    assert list(zip(pairs.i.tolist(), pairs.j.tolist())) == true
    assert (pairs.i.dtype, pairs.j.dtype, pairs.cosine.dtype) == (np.int64, np.int64, np.float32)
    left, right = unit_rows.normalised(matrix[pairs.i]), unit_rows.normalised(matrix[pairs.j])
    assert np.abs(pairs.cosine - (left * right).sum(1)).max(initial=0) < 1e-6


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("case", ADVERSARIAL)
def test_every_pair_is_found_and_no_other(case, engine):
    assert_every_pair_and_no_other(*ADVERSARIAL[case], true_pairs(case), engine)


@pytest.mark.parametrize("case", ADVERSARIAL)
def test_pairs_across_many_tiles_are_found(case, small_tiles):
    assert_every_pair_and_no_other(*ADVERSARIAL[case], true_pairs(case))


@pytest.mark.parametrize("parts", [3, 50])
@pytest.mark.parametrize("case", ADVERSARIAL)
def test_parts_that_others_work_out_are_the_same_pairs_each_once(case, parts, small_tiles):
    matrix, threshold = ADVERSARIAL[case]
    part = pair_search.in_parts(matrix, threshold)
    together, whole = (
        pair_search.joined(part(place, parts) for place in reversed(range(parts))),
        near_pairs(matrix, threshold),
    )
    assert all((getattr(together, name) == getattr(whole, name)).all() for name in ("i", "j", "cosine"))


@pytest.mark.parametrize("width", [2, 6])
@pytest.mark.parametrize("case", ADVERSARIAL)
def test_bounding_first_loses_no_pair(case, width, small_tiles, always_pruned, monkeypatch):
    monkeypatch.setattr(bounded_search, "choose_width", lambda heads, widths, *_: min(width, widths[-1]))
    assert_every_pair_and_no_other(*ADVERSARIAL[case], true_pairs(case), "torch")
    assert always_pruned or ADVERSARIAL[case][0].shape[1] < 4 or not true_pairs(case)


@pytest.fixture
def compiled():
    """The kernel as this machine has it; where it can have none, the search goes on in torch, as other tests check."""
    if bounds_in_c.kernel() is None:
        pytest.skip("no C compiler, or a processor that the kernel does not know")
    return bounds_in_c.kernel()


@pytest.mark.parametrize("level", bounds_in_c.LEVELS)
@pytest.mark.parametrize("width", [3, 8])
@pytest.mark.parametrize("case", ADVERSARIAL)
def test_the_compiled_kernel_loses_no_pair(case, width, level, compiled, always_pruned, monkeypatch):
    if level > compiled.level:
        pytest.skip("this processor has no AVX-512")
    small = (
        (unit_rows, "BLOCK", 11),
        (bounds_in_c, "BLOCK", 7),
        (bounded_search, "PART", 9),
        (bounds_in_c, "ROOM", 12 * bounds_in_c.LANES),
        (bounded_search, "CLUSTER_ROWS", 8),
    )
    for module, name, value in (*small, (bounded_search, "WIDTHS", (3, 4, 8))):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(bounded_search, "choose_width", lambda heads, widths, *_: min(width, widths[-1]))
    monkeypatch.setattr(compiled, "level", level)
    assert_every_pair_and_no_other(*ADVERSARIAL[case], true_pairs(case), "native")
    assert always_pruned or ADVERSARIAL[case][0].shape[1] < 8 or not true_pairs(case)


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("case", ADVERSARIAL)
def test_products_on_a_device_lose_no_pair(case, summed, monkeypatch):
    monkeypatch.setattr(gpu_search, "TILE", 19)
    monkeypatch.setattr(gpu_search, "BLOCK", 7)
    if not summed:
        monkeypatch.setattr(gpu_search, "sums_in_float32", lambda device: False)
    matrix, threshold = ADVERSARIAL[case]
    monkeypatch.setattr(gpu_search, "card", lambda: torch.device("cpu"))
    monkeypatch.setattr(gpu_search, "FEWEST_ROWS", 0)
    pairs = near_pairs(matrix, threshold)
    assert list(zip(pairs.i.tolist(), pairs.j.tolist())) == true_pairs(case)


def test_a_product_on_a_device_is_off_by_less_than_its_margin():
    matrix = clustered(300, 64, seed=15)
    with unit_rows.workers() as pool:
        rows = unit_rows.UnitRows.of(matrix, pool)
        search = gpu_search.DeviceSearch(rows, 0.4, torch.device("cpu"), pool)
    unit = torch.from_numpy(rows.take(slice(None))).double()
    off = (search.half @ search.half.T).double() - unit @ unit.T
    assert float(off.abs().max()) < search.margin < 0.003


def test_a_card_is_taken_for_many_rows_and_only_when_nothing_else_was_asked_for(monkeypatch):
    taken = []
    search = gpu_search.DeviceSearch
    monkeypatch.setattr(gpu_search, "DeviceSearch", lambda *values: taken.append(len(values[0])) or search(*values))
    monkeypatch.setattr(gpu_search, "card", lambda: torch.device("cpu"))
    monkeypatch.setattr(gpu_search, "FEWEST_ROWS", 100)
    for n, engine in ((99, "auto"), (100, "auto"), (101, "torch"), (102, "native")):
        near_pairs(clustered(n, 8, seed=16), 0.9, engine)
    assert taken == [100]


def test_without_a_compiler_the_pairs_are_the_same(monkeypatch, tmp_path, always_pruned):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    bounds_in_c.kernel.cache_clear()
    try:
        assert bounds_in_c.kernel() is None
        assert_every_pair_and_no_other(*ADVERSARIAL["clusters"], true_pairs("clusters"), "native")
        assert always_pruned and list((tmp_path / "tagcheck").iterdir()) == []
    finally:
        bounds_in_c.kernel.cache_clear()


def test_a_damaged_library_in_the_cache_is_made_anew_by_the_next_run(monkeypatch, tmp_path, compiled):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(c_library, "FLAGS", ("-O0", *c_library.FLAGS[1:]))  # compiled in a fifth of the time
    bounds_in_c.kernel.cache_clear()
    try:
        library = c_library.library(bounds_in_c.SOURCE, bounds_in_c.NAME)
        library.write_bytes(b"not a library")
        assert bounds_in_c.kernel() is None
        bounds_in_c.kernel.cache_clear()
        assert bounds_in_c.kernel() is not None
    finally:
        bounds_in_c.kernel.cache_clear()


def test_a_kernel_that_is_wrong_is_found_out(compiled, monkeypatch):
    strip = compiled.strip
    monkeypatch.setattr(compiled, "strip", lambda *values: (part[::2] for part in strip(*values)))
    assert not bounds_in_c._is_right(compiled)
    monkeypatch.setattr(bounds_in_c, "_is_right", lambda loaded: loaded.level < compiled.level)
    assert bounds_in_c.Kernel(c_library.library(bounds_in_c.SOURCE, bounds_in_c.NAME)).level == compiled.level - 1


def test_the_kernels_bounds_are_never_below_the_cosine(compiled, always_pruned, monkeypatch):
    monkeypatch.setattr(bounds_in_c, "MIDDLE", 16)
    monkeypatch.setattr(bounded_search, "WIDTHS", (8, 20))
    matrix = clustered(200, 40, seed=11)
    matrix[7] = 0
    with unit_rows.workers() as pool:
        search = bounded_search.PrunedSearch(unit_rows.UnitRows.of(matrix, pool), 0.9, pool)
    made = SimpleNamespace(**search.bounds.fields)
    unit = unit_rows.normalised(matrix)[search.order.numpy()]
    over = unit @ unit.T - 0.9
    left, right = made.left.astype(np.int64), made.right.astype(np.int64)
    row, column = made.left_starts.astype(np.int64), made.right_starts.astype(np.int64)
    main, rest, others = (
        range(2 * made.early),
        [2 * made.early, 2 * made.early + 1],
        range(2 * made.early + 2, 2 * made.pairs),
    )
    for places, bounds in (([*main, *rest], 1), ([*main, *others], 2)):
        bound = left[:, places] @ right[:, places].T + row[:, None, :bounds].sum(2) + column[None, :, :bounds].sum(2)
        bound = bound.astype(np.int16)
        assert bound[over >= 0].min() >= 0 and 0 < (bound < 0).mean() < 1
    long = made.longs.astype(np.int64)
    for bound in (long[:, :16], np.delete(long, 15, axis=1)):
        assert (bound @ bound.T)[over >= 0].min() >= made.low and ((bound @ bound.T) < made.low).any()


def test_rows_of_a_pair_are_within_reach_of_each_other_on_every_line(compiled, always_pruned, monkeypatch):
    monkeypatch.setattr(bounded_search, "WIDTHS", (8, 20))
    matrix = clustered(200, 40, seed=18, spread=1.0)
    with unit_rows.workers() as pool:
        search = bounded_search.PrunedSearch(unit_rows.UnitRows.of(matrix, pool), 0.9, pool)
    unit = unit_rows.normalised(matrix)[search.order.numpy()]
    points = SimpleNamespace(**search.bounds.fields)
    assert points.firsts.tolist() == sorted(points.firsts) and points.firsts[-1] == 200 and len(points.centres) > 1
    slots = np.concatenate(
        [32 * points.groups[part] + np.arange(size) for part, size in enumerate(np.diff(points.firsts))]
    )
    steps = points.points.transpose(0, 2, 1, 3).reshape(-1, 2 * points.points.shape[1])[slots].astype(float)
    apart = np.linalg.norm(steps[:, None] - steps[None], axis=2)
    assert apart[unit @ unit.T >= 0.9].max() <= points.reach < apart.max()
    assert np.linalg.norm(steps, axis=1).max() * (points.length + points.points.shape[1] ** 0.5) < 2**15


def test_the_kernel_finds_no_more_than_there_is_room_for(compiled, monkeypatch):
    """Rows of two parts along one line, whose bounds would all stay: what a group of columns gives ends anywhere in the room."""
    places, n = torch.cat([torch.linspace(0, 1, 61), torch.linspace(0, 1, 256)])[:, None], 317
    made = bounds_in_c._points(places, torch.arange(n), np.array([0, 61, n]), 1 - 0.1**2 / 2, 0.0, None)
    steps, numbers = np.zeros((n, 2 * bounds_in_c.PACKED), np.int8), np.zeros((n, 2), np.int16)
    made |= {"left": steps.astype(np.uint8), "right": steps, "left_starts": numbers, "right_starts": numbers}
    made |= {"early": 1, "pairs": 3, "stride": bounds_in_c.PACKED, "low": 0, "parts": 2}
    made |= {"longs": np.zeros((n, 16), np.int16), "middle": 16, "width": 16}
    wanted = []
    for room in (2**16, *range(2_200, 2_300, 9)):
        monkeypatch.setattr(bounds_in_c, "ROOM", room)
        found = sorted(np.concatenate([some @ [n, 1] for some in compiled.strip(made, 0)]).tolist())
        wanted = wanted or found
        assert found == wanted


def test_the_kernel_leaves_out_rows_that_are_out_of_reach(compiled):
    """Two groups of rows, apart along the line between them, whose bounds would all stay."""
    n = 80
    points = torch.zeros(n, 4)
    points[:, 0] = torch.cat([torch.linspace(0, 0.4, n // 2), torch.linspace(0.6, 1, n // 2)])
    # 0.3 apart at most.
    made = bounds_in_c._points(points, torch.arange(n), np.array([0, n // 2, n]), 1 - 0.3**2 / 2, 0.0, None)
    steps, numbers = np.zeros((n, 2 * bounds_in_c.PACKED), np.int8), np.zeros((n, 2), np.int16)
    made |= {"left": steps.astype(np.uint8), "right": steps, "left_starts": numbers, "right_starts": numbers}
    made |= {"early": 1, "pairs": 3, "stride": bounds_in_c.PACKED, "low": 0}
    made |= {"longs": np.zeros((n, 16), np.int16), "middle": 16, "width": 16}
    found = np.zeros((n, n), dtype=bool)
    for i, j in np.concatenate([part.copy() for part in compiled.strip(made, 0)]):
        found[i, j] = True
    apart = (points[:, 0][None, :] - points[:, 0][:, None]).numpy()
    within = np.triu(np.ones((n // 2, n // 2), dtype=bool), 1)
    assert np.array_equal(found[: n // 2, : n // 2], within)  # a part has no line to itself: all of them
    across = found[: n // 2, n // 2 :]
    assert across[apart[: n // 2, n // 2 :] <= 0.3].all()
    assert not across[:4].any() and not across[:, -4:].any() and across.mean() < 0.5


@pytest.mark.parametrize("seed", range(8))
def test_bounding_first_loses_no_pair_at_a_threshold_drawn_among_the_cosines(seed, small_tiles, always_pruned):
    rng = np.random.default_rng(seed)
    matrix = clustered(70, int(rng.integers(8, 60)), seed=seed) * rng.lognormal(size=(70, 1)) + rng.normal() * 3
    unit = unit_rows.normalised(matrix)
    cosines = (unit @ unit.T)[np.triu_indices(70, 1)]
    threshold = float(np.quantile(cosines[cosines > 0], rng.choice([0.5, 0.9, 0.99])))
    assert_every_pair_and_no_other(matrix, threshold, sorted(brute_force(matrix, threshold)))
    assert always_pruned


def test_a_bound_is_never_below_the_cosine(always_pruned):
    matrix = clustered(200, 40, seed=11)
    with unit_rows.workers() as pool:
        search = bounded_search.PrunedSearch(unit_rows.UnitRows.of(matrix, pool), 0.4, pool, compiled=False)
    unit = unit_rows.normalised(matrix)[search.order.numpy()]
    for one in (search.bounds.short, search.bounds.long):
        rows = one.rows.astype(np.float64)
        assert (rows @ rows.T - one.low - (unit @ unit.T - 0.4)).min() > 0


def test_bounding_first_is_what_real_sizes_get(monkeypatch):
    searched = []
    full = bounded_search.PrunedSearch._full
    monkeypatch.setattr(
        bounded_search.PrunedSearch, "_full", lambda self, i, j: searched.append(len(i)) or full(self, i, j)
    )
    matrix = clustered(bounded_search.FEWEST_ROWS, 80, seed=12)
    bounded = [near_pairs(matrix, 0.99, engine) for engine in ("native", "torch")]
    assert len(searched) > 0
    monkeypatch.setattr(bounded_search, "FEWEST_ROWS", len(matrix) + 1)
    plain = near_pairs(matrix, 0.99)
    assert len(plain) > 0
    for pairs in bounded:
        assert np.array_equal(pairs.i, plain.i) and np.array_equal(pairs.j, plain.j)


def test_the_number_of_torch_threads_is_left_as_it_was():
    before = torch.get_num_threads()
    near_pairs(clustered(50, 8, seed=13), 0.9)
    with pytest.raises(TooManyPairs):
        near_pairs(np.ones((50, 8)), 0.9, limit=1)
    assert torch.get_num_threads() == before


def test_the_nearest_points_are_ordered_next_to_each_other():
    rng = np.random.default_rng(14)
    points = torch.from_numpy(
        (np.repeat(np.eye(4) * 50, 300, axis=0) + rng.normal(size=(1200, 4)))[rng.permutation(1200)]
    ).float()
    with unit_rows.workers() as pool:
        order, firsts = bounded_search.cluster_order(points, torch.Generator().manual_seed(0), pool)
    assert sorted(order.tolist()) == list(range(1200))
    assert firsts[0] == 0 and firsts[-1] == 1200 and (np.diff(firsts) > 0).all() and len(firsts) > 4
    assert int((points[order].argmax(1).diff() != 0).sum()) == 3


def test_a_row_that_is_not_finite_is_named():
    matrix = np.ones((9, 3))
    matrix[6, 1] = np.nan
    with pytest.raises(ValueError, match="^row 6 holds numbers that are not finite$"):
        near_pairs(matrix, 0.9)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_cannot_be_meant_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        near_pairs(np.ones((2, 2)), threshold)


def test_an_answer_beyond_the_limit_is_refused_rather_than_cut():
    with pytest.raises(TooManyPairs, match="more than 9 pairs"):
        near_pairs(np.ones((5, 2)), 0.9, limit=9)
    assert len(near_pairs(np.ones((5, 2)), 0.9, limit=10)) == 10


def test_progress_rises_to_the_whole(always_pruned):
    for n in (300, 2):
        shares: list[float] = []
        near_pairs(clustered(n, 8, seed=8), 0.9, progress=shares.append)
        assert shares == sorted(shares) and shares[-1] == 1
    assert always_pruned


@pytest.mark.parametrize("engine, done", [("torch", 0), ("native", 0), ("torch", 0.739), ("native", 0.909)])
def test_an_interrupted_search_ends_its_threads_and_starts_no_more_work(engine, done, always_pruned):
    """While rows are projected, and as the search begins."""

    def interrupt(share: float) -> None:
        if share > done:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        near_pairs(clustered(6_000, 16, seed=17), 0.9, engine, progress=interrupt)
    assert threading.active_count() == before and len(always_pruned) <= 2 * torch.get_num_threads()


def test_an_interrupt_while_the_search_is_prepared_waits_for_no_work_that_has_not_begun():
    begun, waiting = [], []

    def work(place: int) -> None:
        begun.append(place)
        end = time.monotonic() + 10
        while time.monotonic() < end and not (waiting and waiting[-1].cancelled()):
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt), unit_rows.workers() as pool:
        waiting += [pool.submit(work, place) for place in range(100)]
        raise KeyboardInterrupt
    assert len(begun) < 100 and waiting[-1].cancelled()


def test_pairs_that_share_a_member_are_one_group():
    i, j = np.array([0, 2, 5]), np.array([4, 4, 6])
    assert groups(8, i, j) == [[0, 2, 4], [5, 6]]
    assert group_labels(8, i, j).tolist() == [0, 1, 0, 2, 0, 3, 3, 4]


def test_without_pairs_there_are_no_groups():
    none = np.empty(0, np.int64)
    assert groups(3, none, none) == [] and groups(0, none, none) == []
    assert group_labels(3, none, none).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "n", [100, 325, 2_100]
)  # few that no groups are made of, more, a whole number of groups and some more
@pytest.mark.parametrize("at_once", [64, 30_000, 1 << 22])
def test_the_nearest_are_those_of_the_whole_matrix(n, at_once):
    matrix = clustered(n, 12, seed=9)
    unit = matrix.astype(np.float64) / np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    indices, nearest = top_k(matrix, 10, at_once)
    assert np.allclose(nearest, -np.sort(-cosine, axis=1)[:, :10], atol=1e-6)
    assert np.allclose(np.take_along_axis(cosine, indices, axis=1), nearest, atol=1e-6)
    assert all(len(set(row)) == 10 and place not in row for place, row in enumerate(indices.tolist()))


def test_asking_for_more_neighbours_than_there_are_gives_all_of_them():
    indices, nearest = top_k(np.eye(3), 5)
    assert indices.shape == nearest.shape == (3, 2)
    assert top_k(np.ones((1, 3)), 5)[0].shape == (1, 0)
