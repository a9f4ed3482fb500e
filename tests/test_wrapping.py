"""A seamless texture stays seamless: what is shifted around its borders becomes the shifted result."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispen import images, zoo
from crispen.images import Overhang, Picture, Pixels, overhang_of
from crispen.tiling import Box
from crispen.upscaling import Upscaler, wrapping
from crispen.upscaling.files import Wishes, enlarge_file
from crispen.upscaling.rows import PictureRows
from crispen.upscaling.sizes import Size

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


SIZES = [
    Size(scale=3.5), Size(scale=2.3), Size(width=101), Size(width=99, height=150), Size(scale=0.6), Size(scale=7.3),
    Size(height=97),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=repr)
@pytest.mark.parametrize("channels", [1, 4])
def test_no_seam_shows_at_any_size(
    upscaler: Upscaler, tiny_model: Path, tmp_path: Path, size: Size, channels: int
) -> None:
    """Laid side by side, results meet with the gradient that is there in the midst of the texture laid nine times."""
    texture = (noise(12, 9, channels) * 65535).astype(np.uint16)
    images.write(images.from_array(texture), tmp_path / "a.tif")
    enlarge_file(tmp_path / "a.tif", tmp_path / "b.tif", upscaler, wishes=Wishes(size=size))
    width, height = size.of(9, 12, scale=SCALE)
    laid = np.tile(planes(images.read(tmp_path / "b.tif")), (2, 2, 1))
    assert laid.shape == (2 * height, 2 * width, channels)
    plain = Upscaler(zoo.find(tiny_model), precision="fp32")
    nine = images.from_array(np.tile(texture, (3, 3, 1)))
    endless = planes(plain(nine, size=Size(width=3 * width, height=3 * height)))
    middle = np.s_[height : 2 * height, width : 2 * width]
    for axis in (0, 1):  # the gradients' first places in the second piece are across the seam
        across, expected = (np.diff(one, axis=axis, prepend=0)[middle] for one in (laid, endless))
        np.testing.assert_allclose(across, expected, atol=2e-3)


def planes(picture: Picture) -> NDArray[np.float64]:
    """(H, W, channels and alpha) in [0, 1]."""
    alpha = [] if picture.alpha is None else [picture.alpha[..., np.newaxis]]
    return np.concatenate([picture.pixels, *alpha], axis=2) / 65535


@pytest.mark.parametrize(
    "size", [Size(scale=3.5), Size(scale=6.5), Size(scale=0.5), Size(width=84, height=50)]
)
def test_shifting_and_enlarging_commute_at_sizes_that_are_no_multiple(upscaler: Upscaler, size: Size) -> None:
    texture = noise(40, 24, 3)
    wanted = size.of(24, 40, scale=SCALE)
    down, right = 4, -2
    first = upscaler(np.roll(texture, (down, right), (0, 1)), size=size)
    shift = (down * wanted.height // 40, right * wanted.width // 24)
    np.testing.assert_allclose(first, np.roll(upscaler(texture, size=size), shift, (0, 1)), atol=2e-3)


@pytest.mark.parametrize("suffix", ["png", "ppm"])
@pytest.mark.parametrize("size", [Size(scale=3.5), Size(scale=0.5)])
def test_a_file_of_any_size_wraps_as_a_picture_in_memory(
    upscaler: Upscaler, tmp_path: Path, suffix: str, size: Size
) -> None:
    images.write(images.from_array((noise(33, 21, 3) * 255).astype(np.uint8)), tmp_path / "a.png")
    target = tmp_path / f"b.{suffix}"
    enlarge_file(tmp_path / "a.png", target, upscaler, wishes=Wishes(size=size))
    expected = upscaler(images.read(tmp_path / "a.png"), size=size)
    assert np.abs(images.read(target).pixels.astype(int) - expected.pixels).max() <= 1


@given(length=st.integers(1, 300), wanted=st.integers(1, 2000), scale=st.sampled_from([1, 2, 4]))
def test_what_lies_beyond_becomes_an_even_number_of_pixels(length: int, wanted: int, scale: int) -> None:
    beyond = overhang_of(length, wanted, scale=scale)
    if length * scale == wanted:
        assert beyond == 0
        return
    shrink = length * scale / wanted
    assert beyond * scale >= 3 * max(1, shrink)
    assert (round((length + 2 * beyond) * scale / shrink) - wanted) % 2 == 0


def test_what_lies_beyond_is_the_opposite_border() -> None:
    picture = Picture(pixels=noise(3, 4, 1))
    rows = wrapping.WrappedRows(PictureRows(picture), Overhang(across=5, down=1))
    assert (rows.header.width, rows.header.height) == (14, 5)
    strips = [strip.pixels for strip in wrapping.strips(rows, 2)]
    assert [len(strip) for strip in strips] == [2, 2, 1]
    assert np.array_equal(np.concatenate(strips), np.tile(picture.pixels, (3, 5, 1))[2:7, 3:17])


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
