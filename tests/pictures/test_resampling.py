"""The compiled kernel resizes to the very pixels of Pillow, and nothing hangs on whether it can be had."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from tagcheck import c_library
from tagcheck.pictures import preparation, resampling
from tagcheck.pictures.preparation import Recipe, prepare, prepare_file
from tagcheck.pictures.resampling import FILTERS, Axis, Resize


@pytest.fixture
def compiled() -> Resize:
    made = resampling.kernel()
    if made is None:
        pytest.skip("no C compiler")
    return made


def resized(by: Resize, picture: np.ndarray, axes: tuple[Axis, Axis], *rest: object) -> np.ndarray:
    out = np.full((axes[1].count, axes[0].count, 3), 77, np.uint8)
    by(picture, axes, *rest, out)
    return out


def drawn_axis(rng: np.random.Generator, length: int) -> Axis:
    before, after = (int(one) for one in rng.integers(0, 30, 2) * rng.integers(0, 2))
    whole = before + length + after
    low, high = sorted(rng.random(2) * whole) if rng.integers(2) else (0.0, float(whole))
    return Axis(length, before, after, float(low), float(max(high, low + 0.05)), int(rng.integers(1, 90)))


@pytest.mark.parametrize("filter", FILTERS)
def test_any_picture_in_any_background_is_resized_to_pillow_s_pixels(filter, compiled):
    rng = np.random.default_rng(filter)
    for _ in range(150):
        width, height = (int(one) for one in rng.integers(1, 200, 2))
        picture = rng.integers(0, 256, (height, width, 3), np.uint8)
        picture = np.where(picture > 127, 255, 0).astype(np.uint8) if rng.integers(2) else picture
        axes = drawn_axis(rng, width), drawn_axis(rng, height)
        background = tuple(int(one) for one in rng.integers(0, 256, 3))
        ours, theirs = (resized(by, picture, axes, background, filter) for by in (compiled, resampling.by_pillow))
        assert np.array_equal(ours, theirs), (axes, background)


def test_a_picture_without_a_background_is_what_pillow_alone_makes_of_it(compiled):
    picture = np.random.default_rng(1).integers(0, 256, (768, 1024, 3), np.uint8)
    axes = Axis(1024, 0, 0, 0, 1024, 448), Axis(768, 0, 0, 0, 768, 336)
    ours = resized(compiled, picture, axes, (255, 255, 255), Image.Resampling.BICUBIC)
    assert np.array_equal(ours, Image.fromarray(picture).resize((448, 336), Image.Resampling.BICUBIC))


def test_rows_that_lie_apart_are_filled_and_what_is_between_them_is_left(compiled):
    picture = np.random.default_rng(2).integers(0, 256, (30, 40, 3), np.uint8)
    axes = Axis(40, 0, 0, 0, 40, 7), Axis(30, 0, 0, 0, 30, 5)
    square = np.full((9, 11, 3), 200, np.uint8)
    compiled(picture, axes, (0, 0, 0), Image.Resampling.BICUBIC, square[2:7, 3:10])
    expected = np.full_like(square, 200)
    expected[2:7, 3:10] = resized(resampling.by_pillow, picture, axes, (0, 0, 0), Image.Resampling.BICUBIC)
    assert np.array_equal(square, expected)


RECIPES = (Recipe(64), Recipe(48, background=(128, 0, 64)), Recipe(50, "stretch", filter="lanczos"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.id)
def test_without_a_compiler_every_file_is_prepared_to_the_same_bits(recipe, compiled, monkeypatch):
    files = []
    for number, (width, height) in enumerate([(300, 200), (33, 470), (64, 64), (20, 9), (700, 520), (1, 80)]):
        out, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = number + 1
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(out, "JPEG" if number % 2 else "PNG", exif=exif)
        files.append(out.getvalue())
    ours = [prepare_file(data, recipe) for data in files]
    monkeypatch.setattr(resampling, "kernel", lambda: None)
    for one, data in zip(ours, files):
        other = prepare_file(data, recipe)
        assert np.array_equal(one.frames, other.frames) and one.pixels == other.pixels
        assert np.array_equal(one.thumbnail, other.thumbnail)


def test_a_kernel_that_is_wrong_is_found_out_and_not_used(compiled, monkeypatch):
    def wrong(*given: object) -> None:
        compiled(*given)
        given[-1][0, 0, 0] ^= 1

    assert resampling._is_right(compiled) and not resampling._is_right(wrong)
    monkeypatch.setattr(resampling, "_loaded", lambda path: wrong)
    resampling.kernel.cache_clear()
    try:
        assert resampling.kernel() is None
    finally:
        resampling.kernel.cache_clear()


def test_a_machine_without_a_compiler_prepares_all_the_same(monkeypatch):
    monkeypatch.setattr(c_library, "library", lambda source, name: None)
    resampling.kernel.cache_clear()
    try:
        assert resampling.kernel() is None
        assert prepare(Image.new("RGB", (40, 20)), 4).shape == (3, 4, 4)
    finally:
        resampling.kernel.cache_clear()


def test_who_has_no_home_compiles_nothing(monkeypatch):
    for variable in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert c_library.library(resampling.SOURCE, "resampling") is None


def test_who_may_not_use_the_cache_compiles_nothing(monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.exists", refused)
    assert c_library.library(resampling.SOURCE, "resampling") is None


def test_a_compiler_may_be_named_with_options(monkeypatch):
    monkeypatch.setenv("CC", "ccache 'my gcc' -m64")
    assert c_library._compiler() == ["ccache", "my gcc", "-m64"]
    monkeypatch.setenv("CC", sys.executable)
    assert c_library._compiler() == [sys.executable]
