"""Transparency: no fringe where colours were hidden, and crisp edges stay crisp."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispen import images
from crispen.images import BLEED_REACH, Pixels, bleed, enlarge_alpha, is_binary, resize, to_depth

RED = np.array([220, 30, 20])


def disc(side: int = 48, dtype: type[np.generic] = np.uint8, *, soft: bool = True) -> tuple[Pixels, Pixels]:
    """A red disc on transparent black: pixels (H, W, 3) and alpha (H, W)."""
    down, across = np.mgrid[0:side, 0:side] - (side - 1) / 2
    cover = np.clip(side / 3 - np.hypot(down, across) + 0.5, 0, 1)
    cover = cover if soft else np.rint(cover)
    alpha = np.rint(cover * 255).astype(np.uint8)
    pixels = (alpha[..., np.newaxis] > 0) * RED.astype(np.uint8)
    depth = 8 * np.dtype(dtype).itemsize
    return to_depth(pixels, depth), to_depth(alpha, depth)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("soft", [True, False])
def test_an_enlarged_disc_has_no_fringe(dtype: type[np.generic], soft: bool) -> None:
    pixels, alpha = disc(dtype=dtype, soft=soft)
    shown = enlarge_alpha(alpha, 4) > 0
    fringed = to_depth(resize(pixels, 4), 8)[shown].astype(int)
    clean = to_depth(resize(bleed(pixels, alpha), 4), 8)[shown].astype(int)
    assert np.abs(fringed - RED).max() > 60  # that is what bleeding is for
    assert np.abs(clean - RED).max() <= 1


def test_what_is_visible_stays() -> None:
    pixels, alpha = disc()
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape).astype(np.uint8)
    assert np.array_equal(bleed(noise, alpha)[alpha > 0], noise[alpha > 0])


def test_nothing_to_do() -> None:
    pixels, alpha = disc()
    assert bleed(pixels, np.full_like(alpha, 255)) is pixels
    assert bleed(pixels, np.zeros_like(alpha)) is pixels


def test_the_reach() -> None:
    pixels, alpha = np.zeros((1, 90, 1), np.uint8), np.zeros((1, 90), np.uint8)
    pixels[:, 0], alpha[:, 0] = 200, 255
    assert np.flatnonzero(bleed(pixels, alpha)).tolist() == list(range(BLEED_REACH + 1))


@given(st.integers(0, 60), st.integers(1, 30), st.sampled_from([np.uint8, np.uint16, np.float32]))
def test_strips_bleed_as_the_whole_does(top: int, height: int, dtype: type[np.generic]) -> None:
    chance = np.random.default_rng(0)
    pixels = to_depth(chance.integers(0, 256, (120, 20, 3)).astype(np.uint8), 8 * np.dtype(dtype).itemsize)
    alpha = to_depth(
        (chance.random((120, 20)) > 0.99).astype(np.uint8) * np.uint8(255), 8 * pixels.dtype.itemsize
    )
    start = max(0, top - BLEED_REACH)
    window = slice(start, top + height + BLEED_REACH)
    part = bleed(pixels[window], alpha[window])[top - start :][:height]
    assert np.array_equal(part, bleed(pixels, alpha)[top : top + height])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_binary_alpha_stays_binary(dtype: type[np.generic]) -> None:
    _, alpha = disc(dtype=dtype, soft=False)
    large = enlarge_alpha(alpha, 4)
    assert is_binary(large)
    assert (large.shape, large.dtype) == ((192, 192), alpha.dtype)
    assert large.astype(float).mean() == pytest.approx(alpha.astype(float).mean(), rel=0.01)
    assert not is_binary(enlarge_alpha(alpha, 4, binary=False))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("side", [36, 31, 140])
def test_binary_alpha_stays_binary_at_any_size(dtype: type[np.generic], side: int) -> None:
    pixels, alpha = disc(dtype=dtype, soft=False)
    picture = images.resized(images.Picture(pixels=pixels, alpha=alpha), width=side, height=side)
    assert picture.alpha is not None
    assert is_binary(picture.alpha)
    assert picture.alpha.astype(float).mean() == pytest.approx(alpha.astype(float).mean(), rel=0.05)
    shown = to_depth(picture.pixels, 8)[picture.alpha > 0].astype(int)
    assert np.abs(shown - RED).max() <= 1


def test_soft_alpha_stays_soft() -> None:
    _, alpha = disc()
    assert not is_binary(alpha)
    assert np.array_equal(enlarge_alpha(alpha, 2.5), images.resize(alpha, 2.5))
    ringing = np.zeros((8, 8), np.float32)
    ringing[:, 4:] = 1
    ringing[0, 0] = 0.5
    assert enlarge_alpha(ringing, 4).min() == 0
    assert enlarge_alpha(ringing, 4).max() == 1


def test_soft_alpha_is_soft_at_any_size() -> None:
    pixels, alpha = disc()
    picture = images.resized(images.Picture(pixels=pixels, alpha=alpha), width=36, height=36)
    assert picture.alpha is not None
    assert not is_binary(picture.alpha)
