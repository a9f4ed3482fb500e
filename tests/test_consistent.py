"""What is enlarged consistently becomes, reduced again, the picture that it was; by tiles as at once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispen import images, runtimes, zoo
from crispen.tiling import Box
from crispen.upscaling.consistent import REACH, ConsistentRuntime, project


def soft(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Noise without extremes: some picture in [0, 1] becomes it when it is reduced."""
    return (0.3 + 0.4 * np.random.default_rng(seed).random(shape)).astype(np.float32)


def reduced(sr: NDArray[np.float32], scale: int) -> NDArray[np.float64]:
    return images.resize(sr.transpose(1, 2, 0).astype(np.float64), 1 / scale).transpose(2, 0, 1)


@settings(max_examples=20)
@given(height=st.integers(1, 30), width=st.integers(1, 30), scale=st.sampled_from([2, 4, 8]))
def test_a_projected_picture_becomes_what_it_was_when_it_is_reduced(
    height: int, width: int, scale: int
) -> None:
    lr, sr = soft(3, height, width), soft(3, height * scale, width * scale, seed=1)
    assert np.abs(reduced(project(sr, lr), scale) - lr).max() < 2e-3


def test_the_projection_is_the_nearest_such_picture() -> None:
    lr, sr = soft(1, 8, 8), soft(1, 32, 32, seed=1)
    nearest = project(sr, lr)
    other = project(soft(1, 32, 32, seed=2), lr)  # reduces to lr as well
    along = nearest + 0.1 * (other - nearest)
    assert np.square(nearest - sr).sum() < np.square(along - sr).sum()
    np.testing.assert_allclose(project(nearest, lr), nearest, atol=3e-3)


def test_values_stay_between_black_and_white() -> None:
    lr = np.random.default_rng(0).integers(0, 2, (3, 16, 16)).astype(np.float32)
    result = project(soft(3, 64, 64), lr)
    assert 0 <= result.min() <= result.max() <= 1
    assert np.abs(reduced(result, 4) - lr).mean() < np.abs(reduced(soft(3, 64, 64), 4) - lr).mean() / 2


def test_by_tiles_as_at_once(tiny_model: Path) -> None:
    runtime = ConsistentRuntime(runtimes.open_runtime(zoo.find(tiny_model), precision="fp32"))
    lr = soft(1, 3, 90, 80)
    whole = runtime(lr)
    core, context = Box(40, 40, 50, 50), zoo.find(tiny_model).context + REACH
    assert context < 40
    window = core.grown(context, inside=Box(0, 0, 90, 80))
    part = runtime(lr[:, :, *window.slices], core=core.within(window))
    np.testing.assert_allclose(part, whole[:, :, *core.scaled(4).slices], atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (20, 2)])
def test_thin_pictures_are_no_exception(tiny_model: Path, shape: tuple[int, int]) -> None:
    runtime = ConsistentRuntime(runtimes.open_runtime(zoo.find(tiny_model), precision="fp32"))
    lr = soft(1, 3, *shape)
    assert np.abs(reduced(runtime(lr)[0], 4) - lr[0]).max() < 2e-2
