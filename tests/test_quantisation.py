"""The network in 8 bits: what is rounded, how finely, and what is better left as it is."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from crispen.errors import ModelError
from crispen.export import generated_pictures
from crispen.export.onnx import to_onnx
from crispen.export.parity import (
    Agreement,
    Computation,
    Pixels,
    agreement,
    check_agreement,
    eager,
    in_openvino,
)
from crispen.export.quantisation import Range, observe, quantised_kernel
from crispen.export.sensitivity import affordable, affordable_rows, work_of
from crispen.networks.generators import Compact, SRResNet

PICTURES = [np.random.default_rng(seed).random((1, 3, 20, 16), dtype=np.float32) for seed in range(2)]

numbers = st.integers(-(2**20), 2**20).map(lambda number: number / 1024)


def tiny(scale: int = 4) -> SRResNet:
    """A small generator with random weights."""
    torch.manual_seed(scale)  # pyright: ignore[reportUnknownMemberType]  # torch's stub leaves the seed's type out
    return SRResNet(scale=scale, num_blocks=2, num_features=8, batch_norm=False).eval()


def computed(generator: SRResNet, ranges: Mapping[nn.Conv2d, Range]) -> Computation:
    """As OpenVINO does, with these convolutions in 8 bits."""
    return in_openvino(to_onnx(generator, ranges=ranges).SerializeToString())


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5), st.floats(0, 1))
def test_what_was_seen_is_rounded_to_a_neighbour_and_nothing_to_zero(
    ends: list[tuple[float, float]], share: float
) -> None:
    low, high = (column(*(pick(0, *each) for each in ends)) for pick in (min, max))
    range_ = Range(low, high)
    inside = low + np.float32(share) * (high - low)
    zeros = range_.zeros.astype(np.float64)
    values = (
        np.clip(np.rint(inside / range_.steps.astype(np.float64)) + zeros, 0, 255) - zeros
    ) * range_.steps
    assert (np.abs(values - inside) <= 1.01 * range_.steps).all()
    assert (range_.steps > 0).all()


def test_each_channel_has_the_steps_that_it_needs() -> None:
    narrow_and_wide = Range(column(-1, 0, -2), column(0, 2, 254 * 2))
    assert narrow_and_wide.zeros.tolist() == [255, 0, 1]
    steps = narrow_and_wide.steps
    assert steps[2] == pytest.approx(2, rel=1e-3)
    assert 1 / 255 < steps[0] < steps[1] < 2 / 100, "narrow channels keep some room"


@pytest.mark.parametrize("scale", [2, 4])
def test_the_border_is_as_exact_as_the_middle(scale: int) -> None:
    generator, lr = tiny(scale), PICTURES[0]
    errors = np.square(computed(generator, observe(generator, [lr]))(lr) - eager(generator, lr)).mean((0, 1))
    middle = errors[4 * scale : -4 * scale, 4 * scale : -4 * scale].mean()
    assert middle > 0, "it is in 8 bits"
    for edge in (errors[0], errors[-1], errors[:, 0], errors[:, -1]):
        assert edge.mean() < 5 * middle


def test_kernels_are_rounded_by_output_channel() -> None:
    kernel = torch.randn(4, 3, 3, 3) * torch.tensor([1.0, 100.0, 0.01, 0.0]).reshape(-1, 1, 1, 1)
    integers, steps = quantised_kernel(kernel)
    assert np.abs(integers).max((1, 2, 3)).tolist() == [127, 127, 127, 0]
    difference = np.abs(integers * steps.reshape(-1, 1, 1, 1) - kernel.numpy())
    assert (difference <= 0.51 * steps.reshape(-1, 1, 1, 1)).all()


def test_work_is_counted_for_each_pixel_of_the_input() -> None:
    generator = tiny(scale=4)
    counted = work_of(generator)
    body, upsampler = (
        [counted[layer] for layer in part.modules() if isinstance(layer, nn.Conv2d)]
        for part in (generator.body, generator.upsampler)
    )
    square = 9 * 8 * 8
    assert body == 5 * [square]
    assert upsampler == [4 * square, 16 * square]
    assert counted[generator.tail] == 81 * 8 * 3 * 16, "all pixels of the result"
    assert len(counted) == 8, "the first is never in 8 bits"


def test_work_of_a_compact_generator_is_all_at_the_size_of_the_input() -> None:
    generator = Compact(scale=4, num_blocks=2, num_features=8, batch_norm=False).eval()
    counted = work_of(generator)
    assert list(counted.values()) == 5 * [9 * 8 * 8] + [9 * 8 * 48]
    assert list(counted)[-1] is generator.tail
    assert generator.skip not in counted, "it has three channels"


def test_rows_stay_until_the_worst_column_is_good_enough() -> None:
    errors = np.array([[1e-5, 3e-5], [2e-5, 1e-6], [1e-6, 1e-6]])
    work = np.array([1, 1, 1])
    assert affordable_rows(errors, work, target=40).tolist() == [True, True, True]
    assert affordable_rows(errors, work, target=45).tolist() == [False, True, True], (
        "the second column's largest"
    )
    assert affordable_rows(errors, work, target=50).tolist() == [False, False, True]
    assert affordable_rows(errors, work, target=70).tolist() == [False, False, False]
    assert affordable_rows(errors, np.array([100, 1, 1]), target=45.05).tolist() == [True, False, True], (
        "the largest takes off too little for its work"
    )


def test_of_two_that_suffice_the_one_with_less_work_goes() -> None:
    errors = np.array([[2e-5], [2e-5]])
    assert affordable_rows(errors, np.array([5, 1]), target=46).tolist() == [True, False]
    assert affordable_rows(errors, np.array([1, 5]), target=46).tolist() == [False, True]


def test_a_convolution_that_is_too_rough_is_left_as_it_is() -> None:
    generator = tiny()
    ranges = observe(generator, PICTURES)
    rough = list(ranges)[-2]
    low, high = ranges[rough]
    ranges[rough] = Range(low / np.float32(50), high / np.float32(50))
    assert check_agreement(generator, computed(generator, {}), PICTURES).worst > 80
    kept = affordable(generator, ranges, PICTURES, lambda chosen: computed(generator, chosen))
    assert rough not in kept
    assert kept


def test_a_network_that_bears_no_rounding_is_an_error() -> None:
    generator = tiny()
    ranges = {
        layer: Range(low / np.float32(1000), high / np.float32(1000))
        for layer, (low, high) in observe(generator, PICTURES).items()
    }
    for layer in (*generator.body.modules(), *generator.upsampler.modules(), generator.tail):
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.3)
    with pytest.raises(
        ModelError, match="no convolution of the network agrees in 8 bits with the original to 48 dB"
    ):
        affordable(generator, ranges, PICTURES, lambda chosen: computed(generator, chosen))


def test_every_picture_must_agree() -> None:
    generator = tiny()

    def wrong_on_one(lr: Pixels) -> Pixels:
        return eager(generator, lr) + np.float32(0.01) * (lr is PICTURES[1])

    with pytest.raises(ModelError, match=r"agrees with the original to 4[34]\.\d dB, which must be 45"):
        check_agreement(generator, wrong_on_one, [PICTURES[0], PICTURES[0], PICTURES[0], PICTURES[1]])
    assert str(Agreement(4, 48.12, 45.57)) == "int8: 48.1 dB agreement with fp32 on 4 pictures, at worst 45.6"


def test_generated_pictures_are_of_several_kinds_each_to_measure_on_and_to_check_with() -> None:
    pictures = generated_pictures()
    for measured, checked in zip(pictures[::2], pictures[1::2], strict=True):
        assert agreement([measured], [checked]) < 20, "they differ"
    saturation = [float(np.ptp(lr, axis=1).mean()) for lr in pictures[::2]]
    fine = [float(np.abs(np.diff(lr, axis=3)).mean()) for lr in pictures[::2]]
    assert saturation[0] < saturation[1] < saturation[2]
    assert fine[3] > max(fine[:3])
