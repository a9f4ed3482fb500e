"""Tiles cover the picture, each pixel once, and every kept pixel has its context or the picture's border."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispen.errors import UsageError
from crispen.tiling import ANY_WIDTH, Box, plan

sides, tiles, contexts = st.integers(1, 60), st.integers(1, 30), st.integers(0, 20)


@given(height=sides, width=sides, tile=tiles, context=contexts)
def test_cores_cover_each_pixel_once(height: int, width: int, tile: int, context: int) -> None:
    times_covered = np.zeros((height, width), int)
    for step in plan(height, width, tile=tile, context=context):
        times_covered[step.core.slices] += 1
    assert np.all(times_covered == 1)


@given(height=sides, width=sides, tile=tiles, context=contexts)
def test_windows_lie_in_the_picture_and_hold_the_cores_context(
    height: int, width: int, tile: int, context: int
) -> None:
    for step in plan(height, width, tile=tile, context=context):
        window, core = step.window, step.core
        assert 0 <= window.top <= max(0, core.top - context)
        assert 0 <= window.left <= max(0, core.left - context)
        assert min(height, core.bottom + context) <= window.bottom <= height
        assert min(width, core.right + context) <= window.right <= width


@given(height=sides, width=sides, tile=tiles, context=contexts)
def test_windows_have_one_size_within_the_bound(height: int, width: int, tile: int, context: int) -> None:
    (size,) = {
        (step.window.height, step.window.width) for step in plan(height, width, tile=tile, context=context)
    }
    assert max(size) <= tile + 2 * context


@given(length=st.integers(1, 300), tile=tiles, context=contexts)
def test_no_smaller_window_and_no_fewer_tiles_would_do(length: int, tile: int, context: int) -> None:
    steps = plan(length, 1, tile=tile, context=context)

    def reach(count: int, window: int) -> int:
        return count * window - 2 * context * (count - 1)

    assert reach(len(steps), steps[0].window.height) >= length
    assert reach(len(steps), steps[0].window.height - 1) < length
    assert len(steps) == 1 or reach(len(steps) - 1, tile + 2 * context) < length


@given(length=st.integers(1, 300), tile=tiles, context=contexts)
def test_inner_cores_are_alike(length: int, tile: int, context: int) -> None:
    inner = [step.core.height for step in plan(length, 1, tile=tile, context=context)[1:-1]]
    assert not inner or max(inner) - min(inner) <= 1


@given(width=st.integers(1, 3000), context=st.integers(0, 60), tile=st.integers(200, 1100))
def test_widths_that_a_processor_is_slow_at_are_avoided(width: int, context: int, tile: int) -> None:
    plain = plan(1, width, tile=tile, context=context)
    steps = plan(1, width, tile=tile, context=context, multiple=16)
    (size,) = {step.window.width for step in steps}
    assert size <= ANY_WIDTH or size % 16 == 0
    assert size <= tile + 2 * context
    assert len(plain) <= len(steps) <= len(plain) + 1
    for step in steps:
        assert 0 <= step.window.left <= max(0, step.core.left - context)
        assert min(width, step.core.right + context) <= step.window.right <= width
    assert [step.core.left for step in steps] == [0, *(step.core.right for step in steps[:-1])]
    assert steps[-1].core.right == width


@pytest.mark.parametrize(
    ("width", "windows"), [(256, [256]), (480, [480]), (483, [288, 288]), (257, [169] * 2)]
)
def test_a_picture_of_a_slow_width_is_cut_in_two(width: int, windows: list[int]) -> None:
    steps = plan(300, width, tile=1024, context=40, multiple=16)
    assert [step.window.width for step in steps] == windows


def test_heights_are_chosen_as_widths_are() -> None:
    steps = plan(483, 300, tile=1024, context=40, multiple=1, height_multiple=16)
    assert [(step.window.height, step.window.width) for step in steps] == [(288, 300)] * 2


def test_where_no_good_width_is_allowed_the_plan_is_as_ever() -> None:
    arguments = {"tile": 3, "context": 129}  # windows of 261 at most
    assert plan(9, 900, **arguments, multiple=16) == plan(9, 900, **arguments)


def test_a_picture_within_one_window_is_one_tile() -> None:
    (step,) = plan(84, 50, tile=64, context=10)
    assert step.window == step.core == Box(0, 0, 84, 50)


@pytest.mark.parametrize("tile", [0, -3])
def test_a_tile_without_pixels_is_refused(tile: int) -> None:
    with pytest.raises(UsageError, match=f"tile must be at least 1 pixel, not {tile}"):
        plan(8, 8, tile=tile, context=2)


def test_boxes_select_and_move() -> None:
    picture = np.arange(48).reshape(6, 8)
    outer, inner = Box(1, 2, 5, 8), Box(2, 3, 4, 7)
    assert np.array_equal(picture[inner.slices], picture[outer.slices][inner.within(outer).slices])
    assert (inner.height, inner.width) == picture[inner.slices].shape
    assert inner.scaled(3) == Box(6, 9, 12, 21)
