"""`crispen.resize` against MATLAB's: by its own pictures where they are at hand, by properties everywhere."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crispen
from crispen.errors import PictureError, UsageError


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1 / 8, 1 / 4, 1 / 3, 1 / 2, 2, 3, 4, 1.7]))
def test_size_is_the_ceiling(height: int, width: int, scale: float) -> None:
    resized = crispen.resize(np.zeros((height, width, 3), np.uint8), scale)
    assert resized.shape == (int(np.ceil(height * scale - 1e-9)), int(np.ceil(width * scale - 1e-9)), 3)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 255), st.sampled_from([1 / 4, 1 / 2, 2, 4]))
def test_a_constant_stays_constant_to_the_border(height: int, width: int, value: int, scale: float) -> None:
    resized = crispen.resize(np.full((height, width), value, np.uint8), scale)
    assert (resized == value).all()


def test_scale_one_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 65536, (7, 5, 4)).astype(np.uint16)
    assert (crispen.resize(picture, 1) == picture).all()


def test_values_worked_out_by_hand() -> None:
    """Keys' kernel at 1/4, 3/4, 5/4 and 7/4 is 0.867, 0.227, -0.070 and -0.023; borders are mirrored."""
    assert crispen.resize(np.array([[0, 255]], np.uint8), 2)[0].tolist() == [0, 52, 203, 255]


def test_mirror_and_transpose_commute() -> None:
    picture = np.random.default_rng(1).random((12, 8))
    for scale in (0.25, 0.5, 4):
        resized = crispen.resize(picture, scale)
        np.testing.assert_allclose(crispen.resize(picture[::-1], scale)[::-1], resized, atol=1e-12)
        np.testing.assert_allclose(crispen.resize(picture.T, scale).T, resized, atol=1e-12)


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile([0.0, 1.0], (16, 16))
    assert np.ptp(crispen.resize(stripes, 1 / 4)[:, 2:-2]) < 0.01


def test_integers_are_rounded_and_clipped_floats_are_not() -> None:
    step = np.zeros((1, 8), np.uint8)
    step[:, 4:] = 255
    assert crispen.resize(step, 4).max() == 255
    assert crispen.resize(step / 255.0, 4).max() > 1


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), 1e12, 2**2000, "3", None])
def test_bad_scales_are_refused(scale: Any) -> None:
    with pytest.raises(UsageError, match="scale must be a positive number"):
        crispen.resize(np.zeros((4, 4), np.uint8), scale)


@pytest.mark.parametrize("scale", [1e9, 1e6, 1e-13])
def test_what_the_memory_cannot_hold_is_refused(scale: float) -> None:
    with pytest.raises(PictureError, match=r"^there is too little memory to resize a picture of 2000x1000 "):
        crispen.resize(np.zeros((1000, 2000), np.uint8), scale)


@pytest.mark.parametrize(
    "array",
    [np.zeros(4), np.zeros((0, 4)), np.zeros((4, 4), np.int64), np.zeros((1, 2, 3, 4)), [[0.5]], None],
)
def test_other_arrays_are_refused(array: Any) -> None:
    with pytest.raises(UsageError, match="a picture to resize"):
        crispen.resize(array, 2)
