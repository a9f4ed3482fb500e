"""A seamless texture stays seamless: what is shifted around its borders becomes the shifted result."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispen import images, zoo
from crispen.images import Picture, Pixels
from crispen.tiling import Box
from crispen.upscaling import Upscaler, wrapping
from crispen.upscaling.rows import PictureRows

SCALE = 4


@pytest.fixture(scope="module")
def upscaler(tiny_model: Path) -> Upscaler:
    return Upscaler(zoo.find(tiny_model), precision="fp32", tile=13, wrap=True)


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def shifted(picture: Picture, down: int, right: int) -> Picture:
    def roll(pixels: Pixels) -> Pixels:
        return np.roll(pixels, (down, right), (0, 1))

    return Picture(pixels=roll(picture.pixels), alpha=None if picture.alpha is None else roll(picture.alpha))


@pytest.mark.parametrize("shape", [(16, 24), (40, 17), (1, 5), (3, 1)])
@pytest.mark.parametrize("shift", [(1, 0), (0, 7), (-5, 3)])
def test_shifting_and_enlarging_commute(
    upscaler: Upscaler, shape: tuple[int, int], shift: tuple[int, int]
) -> None:
    down, right = shift
    alpha = (noise(*shape, seed=1) * 3).clip(1, 2).astype(np.float32) - 1  # much of it 0, or full
    texture = Picture(pixels=noise(*shape, 3), alpha=alpha)
    first = upscaler(shifted(texture, down, right))
    second = shifted(upscaler(texture), down * SCALE, right * SCALE)
    np.testing.assert_allclose(first.pixels, second.pixels, atol=1e-5)
    assert first.alpha is not None
    assert second.alpha is not None
    np.testing.assert_allclose(first.alpha, second.alpha, atol=1e-5)


def test_without_wrapping_they_do_not(tiny_model: Path) -> None:
    plain = Upscaler(zoo.find(tiny_model), precision="fp32")
    texture = Picture(pixels=noise(16, 24, 3))
    first, second = plain(shifted(texture, 5, 3)), shifted(plain(texture), 20, 12)
    assert np.abs(first.pixels - second.pixels).max() > 1e-3


def test_it_is_the_middle_of_the_texture_laid_nine_times(upscaler: Upscaler, tiny_model: Path) -> None:
    pixels = noise(20, 30, 3)
    laid = Upscaler(zoo.find(tiny_model), precision="fp32")(np.tile(pixels, (3, 3, 1)))
    np.testing.assert_allclose(upscaler(pixels), laid[80:160, 120:240], atol=1e-5)


def test_consistent_results_wrap_as_well(tiny_model: Path) -> None:
    upscaler = Upscaler(zoo.find(tiny_model), precision="fp32", wrap=True, consistent=True)
    texture = Picture(pixels=noise(20, 30, 3).clip(0.25, 0.75))
    first, second = upscaler(shifted(texture, 9, 4)), shifted(upscaler(texture), 36, 16)
    np.testing.assert_allclose(first.pixels, second.pixels, atol=2e-4)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_file_wraps_as_a_picture_in_memory(upscaler: Upscaler, tmp_path: Path, channels: int) -> None:
    images.write(images.from_array((noise(33, 20, channels) * 255).astype(np.uint8)), tmp_path / "a.png")
    written = images.read(upscaler(tmp_path / "a.png"))
    expected = upscaler(images.read(tmp_path / "a.png"))
    assert np.array_equal(written.pixels, expected.pixels)
    assert np.array_equal(cast(Any, written.alpha), cast(Any, expected.alpha))


@settings(max_examples=200)
@given(
    height=st.integers(1, 60), width=st.integers(1, 60), tile=st.integers(1, 70), context=st.integers(0, 30)
)
def test_cores_cover_the_picture_and_windows_hold_their_context(
    height: int, width: int, tile: int, context: int
) -> None:
    covered = np.zeros((height, width), int)
    tiles = wrapping.plan(height, width, tile=tile, context=context)
    for one in tiles:
        assert min(one.core.height, one.core.width) >= 1
        assert min(one.core.top, one.core.left) >= 0
        covered[one.core.slices] += 1
        around = one.core.grown(context, inside=Box(-99, -99, 199, 199))
        assert around & one.window == around
        assert max(one.window.height, one.window.width) <= tile + 2 * context
    assert np.all(covered == 1)
    assert len({(one.window.height, one.window.width) for one in tiles}) == 1


def test_rows_repeat_without_end() -> None:
    picture = Picture(pixels=noise(3, 4, 1))
    cut = wrapping.WrappedRows(PictureRows(picture)).cut(Box(-4, -9, 8, 7)).pixels
    assert np.array_equal(cut, np.tile(picture.pixels, (6, 6, 1))[2:14, 3:19])
