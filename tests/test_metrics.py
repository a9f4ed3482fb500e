"""PSNR and SSIM against their definitions, written out slowly, and against their properties."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from crispen.errors import UsageError
from crispen.evaluation import psnr, ssim, texture_energy

Picture = NDArray[Any]
CHANNELS: tuple[Literal["luma", "rgb"], ...] = ("luma", "rgb")


def noisy_pair(seed: int, *, height: int = 17, width: int = 19, channels: int = 3) -> tuple[Picture, Picture]:
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.arange(height), 2 * np.arange(width))[:, :, np.newaxis] * 3 + rng.integers(60)
    hr = np.clip(smooth + rng.normal(0, 20, (height, width, channels)), 0, 255)
    sr = np.clip(hr + rng.normal(0, rng.uniform(1, 40), hr.shape), 0, 255)
    return sr.round().astype(np.uint8), hr.round().astype(np.uint8)


def slow_luma(picture: Picture) -> Picture:
    """MATLAB's rgb2ycbcr for doubles, pixel by pixel."""
    luma = np.empty(picture.shape[:2])
    for row, column in np.ndindex(luma.shape):
        red, green, blue = (float(value) / 255 for value in picture[row, column])
        luma[row, column] = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    return luma


def slow_ssim(x: Picture, y: Picture) -> float:
    """Wang et al. 2004, equations 14 to 16 and 13 as they stand, with a window of two dimensions."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values: list[float] = []
    for row, column in np.ndindex(x.shape[0] - 10, x.shape[1] - 10):
        part_x, part_y = (plane[row : row + 11, column : column + 11] for plane in (x, y))
        mean_x, mean_y = (window * part_x).sum(), (window * part_y).sum()
        var_x, var_y = (window * (part_x - mean_x) ** 2).sum(), (window * (part_y - mean_y) ** 2).sum()
        covariance = (window * (part_x - mean_x) * (part_y - mean_y)).sum()
        c1, c2 = 2.55**2, 7.65**2
        values.append(
            ((2 * mean_x * mean_y + c1) * (2 * covariance + c2))
            / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
        )
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(3))
def test_luma_metrics_equal_their_definitions(seed: int) -> None:
    sr, hr = noisy_pair(seed)
    x, y = slow_luma(sr), slow_luma(hr)
    assert psnr(sr, hr) == pytest.approx(20 * math.log10(255 / math.sqrt(((x - y) ** 2).mean())), abs=1e-9)
    assert ssim(sr, hr) == pytest.approx(slow_ssim(x, y), abs=1e-12)


def test_rgb_metrics_equal_their_definitions() -> None:
    sr, hr = (picture.astype(float) for picture in noisy_pair(7))
    expected = np.mean([slow_ssim(sr[..., channel], hr[..., channel]) for channel in range(3)])
    sr, hr = sr.astype(np.uint8), hr.astype(np.uint8)
    assert ssim(sr, hr, channel="rgb") == pytest.approx(expected, abs=1e-12)
    error = np.mean((sr.astype(float) - hr) ** 2)
    assert psnr(sr, hr, channel="rgb") == pytest.approx(10 * math.log10(255**2 / error), abs=1e-9)


def test_psnr_of_a_known_difference() -> None:
    hr = np.full((12, 12, 3), 100, np.uint8)
    assert psnr(hr + np.uint8(5), hr, channel="rgb") == pytest.approx(20 * math.log10(255 / 5))
    assert psnr(hr + np.uint8(5), hr) == pytest.approx(20 * math.log10(255 / (5 * 219 / 255)))


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_pictures(channel: Literal["luma", "rgb"], channels: int) -> None:
    _, hr = noisy_pair(1, channels=channels)
    assert psnr(hr, hr, channel=channel) == math.inf
    assert ssim(hr, hr, channel=channel) == 1.0


@given(seed=st.integers(0, 10_000), channel=st.sampled_from(CHANNELS))
def test_both_are_symmetric_and_bounded(seed: int, channel: Literal["luma", "rgb"]) -> None:
    sr, hr = noisy_pair(seed)
    assert psnr(sr, hr, channel=channel) == psnr(hr, sr, channel=channel) > 0
    assert ssim(sr, hr, channel=channel) == pytest.approx(ssim(hr, sr, channel=channel), abs=1e-12)
    assert -1 <= ssim(sr, hr, channel=channel) < 1


@given(seed=st.integers(0, 10_000), crop_border=st.integers(0, 3))
def test_cropping_equals_measuring_the_inside(seed: int, crop_border: int) -> None:
    sr, hr = noisy_pair(seed)
    inside = np.s_[crop_border : 17 - crop_border, crop_border : 19 - crop_border]
    assert psnr(sr, hr, crop_border=crop_border) == psnr(sr[inside], hr[inside])
    assert ssim(sr, hr, crop_border=crop_border) == ssim(sr[inside], hr[inside])


def test_a_damaged_border_does_not_count() -> None:
    sr, hr = noisy_pair(3)
    damaged = sr.copy()
    damaged[:2] = damaged[-2:] = damaged[:, :2] = damaged[:, -2:] = 0
    assert psnr(damaged, hr, crop_border=2) == psnr(sr, hr, crop_border=2)
    assert psnr(damaged, hr, crop_border=1) < psnr(sr, hr, crop_border=1)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("channel", CHANNELS)
def test_depth_makes_no_difference(metric: Any, channel: Literal["luma", "rgb"]) -> None:
    sr, hr = noisy_pair(4)
    expected = metric(sr, hr, channel=channel)
    sixteen = metric(sr.astype(np.uint16) * 257, hr.astype(np.uint16) * 257, channel=channel)
    floating = metric(sr / np.float64(255), hr / np.float64(255), channel=channel)
    assert sixteen == pytest.approx(expected, abs=1e-9)
    assert floating == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("channel", CHANNELS)
def test_gray_is_three_equal_channels(metric: Any, channel: Literal["luma", "rgb"]) -> None:
    sr, hr = noisy_pair(5, channels=1)
    expected = metric(np.repeat(sr, 3, axis=2), np.repeat(hr, 3, axis=2), channel=channel)
    assert metric(sr, hr, channel=channel) == pytest.approx(expected, abs=1e-9)
    assert metric(sr[..., 0], hr[..., 0], channel=channel) == metric(sr, hr, channel=channel)


def test_inputs_are_left_alone() -> None:
    sr, hr = noisy_pair(6)
    copies = sr.copy(), hr.copy()
    psnr(sr, hr)
    ssim(sr, hr)
    np.testing.assert_array_equal(sr, copies[0])
    np.testing.assert_array_equal(hr, copies[1])


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("sr", "hr", "options", "message"),
    [
        (np.zeros((16, 16), np.uint8), np.zeros((16, 17), np.uint8), {}, "one shape and type"),
        (np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint16), {}, "one shape and type"),
        (np.zeros((16, 16, 4), np.uint8), np.zeros((16, 16, 4), np.uint8), {}, "must have shape"),
        (np.zeros(16, np.uint8), np.zeros(16, np.uint8), {}, "must have shape"),
        (np.zeros((16, 16), np.int64), np.zeros((16, 16), np.int64), {}, "must be uint8, uint16 or floating"),
        (np.full((16, 16), 9.0), np.full((16, 16), 9.0), {}, r"must lie in \[0, 1\]"),
        (np.full((16, 16), np.nan), np.full((16, 16), np.nan), {}, r"must lie in \[0, 1\]"),
        (np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8), {"crop_border": -1}, "crop_border"),
        (np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8), {"crop_border": 8}, "crop_border"),
        (np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8), {"crop_border": 1.5}, "a whole number"),
        (np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8), {"channel": "hue"}, "'luma' or 'rgb'"),
        ("sr.png", "hr.png", {}, "must be arrays or PIL images, not str"),
        ([[0]], [[0]], {}, "must be arrays or PIL images, not list"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    metric: Any, sr: Any, hr: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        metric(sr, hr, **options)


@pytest.mark.parametrize("metric", [psnr, ssim, texture_energy])
@pytest.mark.parametrize("channels", [1, 3])
def test_pil_images_are_taken_for_the_arrays_that_they_are(metric: Any, channels: int) -> None:
    sr, hr = (picture.squeeze() for picture in noisy_pair(9, channels=channels))
    assert metric(Image.fromarray(sr), Image.fromarray(hr)) == metric(sr, hr)
    assert metric(Image.fromarray(sr), hr) == metric(sr, hr)


def test_ssim_needs_room_for_its_window() -> None:
    sr, hr = noisy_pair(8)
    assert ssim(sr, hr, crop_border=3) < 1
    with pytest.raises(UsageError, match="11×11 pixels after cropping, not 11×9"):
        ssim(sr, hr, crop_border=4)
