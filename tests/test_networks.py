"""The networks against the paper's Figure 4, and against properties that must hold whatever the weights are."""

import itertools
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crispen.errors import ModelError, UsageError
from crispen.networks.activations import ACTIVATIONS, PReLU
from crispen.networks.classifier import DigitClassifier
from crispen.networks.discriminators import (
    DISCRIMINATORS,
    DownBlock,
    Head,
    ResidualDiscriminator,
    SRGANDiscriminator,
)
from crispen.networks.generators import GENERATORS, OUTPUTS, Compact, SRResNet, build_generator
from crispen.networks.polyphase import conv_of_shuffled
from crispen.networks.weights import load_generator, save_generator
from crispen.zoo.card import Activation, Output


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def conv(size: int, channels: int, features: int) -> int:
    return size * size * channels * features + features


@pytest.mark.parametrize(("scale", "doublings"), [(2, 1), (4, 2), (8, 3)])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("blocks", "features"), [(16, 64), (3, 8)])
def test_generator_has_the_parameters_of_figure_4(
    scale: int, doublings: int, batch_norm: bool, blocks: int, features: int
) -> None:
    prelu, norm = 1, 2 * features * batch_norm
    head = conv(9, 3, features) + prelu
    block = 2 * (conv(3, features, features) + norm) + prelu
    body = blocks * block + conv(3, features, features) + norm
    upsampler = doublings * (conv(3, features, 4 * features) + prelu)
    tail = conv(9, features, 3)
    generator = SRResNet(scale=scale, num_blocks=blocks, num_features=features, batch_norm=batch_norm)
    assert count(generator) == head + body + upsampler + tail


def judge_parameters(head: Head, features: int, patch_size: int | None) -> int:
    """The parameters of a head behind 8 · ``features`` channels, by arithmetic."""
    positions = 1 if patch_size is None else (patch_size // 16) ** 2
    if head == "patch":
        return 8 * features + 1
    return (8 * features * positions + 1) * 16 * features + (16 * features + 1)


HEADS: list[tuple[Head, int | None]] = [("dense", 96), ("position", None), ("pooled", None), ("patch", None)]


@pytest.mark.parametrize(("head", "patch_size"), HEADS)
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("features", [64, 6])
def test_discriminator_has_the_parameters_of_figure_4(
    head: Head, patch_size: int | None, batch_norm: bool, features: int
) -> None:
    widths = [features * width for width in (1, 1, 2, 2, 4, 4, 8, 8)]
    convs = sum(conv(3, before, after) for before, after in itertools.pairwise([3, *widths]))
    norms = 2 * sum(widths[1:]) * batch_norm
    discriminator = SRGANDiscriminator(
        num_features=features, batch_norm=batch_norm, head=head, patch_size=patch_size
    )
    assert count(discriminator) == convs + norms + judge_parameters(head, features, patch_size)


@pytest.mark.parametrize(("head", "patch_size"), HEADS)
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("features", [64, 6])
def test_residual_discriminator_has_the_parameters_of_its_blocks(
    head: Head, patch_size: int | None, batch_norm: bool, features: int
) -> None:
    widths = [features * width for width in (1, 1, 2, 4, 8)]
    blocks = sum(
        conv(3, before, after) + conv(3, after, after) + conv(1, before, after) + 2 * 2 * after * batch_norm
        for before, after in itertools.pairwise(widths)
    )
    discriminator = DISCRIMINATORS["residual"](
        num_features=features, batch_norm=batch_norm, head=head, patch_size=patch_size
    )
    judge = judge_parameters(head, features, patch_size)
    assert count(discriminator) == conv(3, 3, features) + blocks + judge


@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_other_activations_have_nothing_to_learn(activation: Activation) -> None:
    one_slope_each = 1 + 16 + 2
    assert count(SRResNet(activation=activation)) == count(SRResNet()) - one_slope_each


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 3)])
def test_generator_enlarges_any_size(scale: int, size: tuple[int, int]) -> None:
    generator = SRResNet(scale=scale, num_blocks=1, num_features=4, batch_norm=False)
    height, width = size
    assert generator(torch.rand(2, 3, height, width)).shape == (2, 3, height * scale, width * scale)


def prelu(x: Tensor) -> Tensor:
    return x.clamp(min=0) + 0.25 * x.clamp(max=0)


def swish(x: Tensor) -> Tensor:
    return x * x.sigmoid()


@pytest.mark.parametrize(("activation", "act"), [("prelu", prelu), ("relu", torch.relu), ("swish", swish)])
@pytest.mark.parametrize("output", get_args(Output))
def test_generator_is_the_figure_taken_literally(activation: Activation, act: Any, output: Output) -> None:
    """Shuffle, activation, 9×9 convolution at full size, as the paper draws it: the same numbers."""
    generator = SRResNet(scale=4, num_blocks=2, num_features=4, activation=activation, output=output).double()
    lr = torch.rand(2, 3, 6, 5, dtype=torch.double)
    first, _, shuffle, second, _ = generator.upsampler
    x = act(generator.head[0](lr))
    deep = x
    for block in list(generator.body)[:2]:
        conv_1, norm_1, _, conv_2, norm_2 = block.get_submodule("residual").children()
        deep = deep + norm_2(conv_2(act(norm_1(conv_1(deep)))))
    x = x + generator.body[3](generator.body[2](deep))
    y = generator.tail(act(shuffle(second(act(shuffle(first(x)))))))
    rgb = {"linear": y, "symmetric": (y + 1) / 2, "tanh": (torch.tanh(y) + 1) / 2}[output]
    torch.testing.assert_close(generator(lr), rgb)


def test_a_tanh_keeps_pictures_in_their_range() -> None:
    generator = SRResNet(scale=2, num_blocks=1, num_features=4, output="tanh")
    nn.init.normal_(generator.tail.weight, std=10)
    sr = generator(torch.rand(1, 3, 8, 8))
    assert sr.min() >= 0
    assert sr.max() <= 1
    assert sr.max() - sr.min() > 0.9


@pytest.mark.parametrize("network", [SRResNet, *DISCRIMINATORS.values()])
def test_batch_norm_momentum_is_the_weight_of_a_new_batch(network: Any) -> None:
    made = network(num_features=4, batch_norm_momentum=0.2)
    norms = [layer for layer in made.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert {norm.momentum for norm in norms} == {0.2}
    assert "batch_norm_momentum" not in getattr(made, "architecture", {})


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("blocks", [1, 3])
def test_context_is_the_radius_of_the_receptive_field(scale: int, blocks: int) -> None:
    generator = SRResNet(scale=scale, num_blocks=blocks, num_features=2, batch_norm=False).double()
    for parameter in generator.parameters():
        nn.init.constant_(parameter, 0.05)
    side = 2 * generator.context + 3
    lr = torch.ones(1, 3, 1, side, dtype=torch.double, requires_grad=True)
    middle = side // 2
    reach = 0
    for phase in range(scale):
        generator(lr)[0, 0, 0, middle * scale + phase].backward()
        assert lr.grad is not None
        seen = lr.grad[0, 0, 0].nonzero().flatten()
        reach = max(reach, int((seen - middle).abs().max()))
        lr.grad = None
    assert reach == generator.context


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_convolution_before_the_shuffle_equals_the_one_after(size: int) -> None:
    after = nn.Conv2d(3, 2, size, padding=size // 2).double()
    phases = torch.rand(2, 12, 4, 6, dtype=torch.double)
    torch.testing.assert_close(conv_of_shuffled(phases, after), after(functional.pixel_shuffle(phases, 2)))


def test_prelu_has_torchs_values_and_gradients() -> None:
    ours, theirs = PReLU().double(), nn.PReLU().double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.double)
    gradients: list[list[Tensor]] = []
    for activation in (ours, theirs):
        leaf = x.clone().requires_grad_()
        activation(leaf).square().sum().backward()
        assert leaf.grad is not None
        assert activation.weight.grad is not None
        gradients.append([leaf.grad, activation.weight.grad])
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


def test_generator_treats_each_picture_of_a_batch_by_itself() -> None:
    generator = SRResNet(scale=2, num_blocks=1, num_features=4).eval()
    batch = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(generator(batch)[[2, 0, 1]], generator(batch[[2, 0, 1]]))


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize(("head", "positions"), [("position", True), ("pooled", False), ("patch", True)])
@pytest.mark.parametrize(("size", "judged"), [((48, 32), (3, 2)), ((28, 28), (2, 2)), ((17, 90), (2, 6))])
def test_discriminators_without_dense_layers_take_any_size(
    name: str, head: Head, positions: bool, size: tuple[int, int], judged: tuple[int, int]
) -> None:
    discriminator = DISCRIMINATORS[name](num_features=2, head=head, patch_size=None)
    assert discriminator(torch.rand(2, 3, *size)).shape == ((2, 1, *judged) if positions else (2, 1))


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_with_dense_layers_give_one_logit(name: str) -> None:
    discriminator = DISCRIMINATORS[name](num_features=2, head="dense", patch_size=32)
    assert discriminator(torch.rand(4, 3, 32, 32)).shape == (4, 1)


def test_two_layers_at_each_position_are_the_dense_ones_of_the_smallest_picture() -> None:
    """Of 16×16 pixels one position is left, and there the heads are one."""
    dense, position = (
        SRGANDiscriminator(num_features=2, head=head, patch_size=16).eval() for head in ("dense", "position")
    )
    weights = list(dense.state_dict().values())
    names = list(position.state_dict())
    shapes = [tensor.shape for tensor in position.state_dict().values()]
    position.load_state_dict(
        {name: tensor.reshape(shape) for name, shape, tensor in zip(names, shapes, weights, strict=True)}
    )
    picture = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(position(picture).flatten(1), dense(picture))


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_shows_what_it_saw_on_the_way(name: str) -> None:
    discriminator = DISCRIMINATORS[name](num_features=2, head="patch").eval()
    picture = torch.rand(2, 3, 32, 32)
    features, logits = discriminator.forward_features(picture)
    torch.testing.assert_close(logits, discriminator(picture), rtol=0, atol=0)
    torch.testing.assert_close(logits, discriminator.judge(features[-1]))
    shapes = [tuple(feature.shape[1:]) for feature in features]
    assert (
        shapes
        == {
            "srgan": [
                (2, 32, 32),
                (2, 16, 16),
                (4, 16, 16),
                (4, 8, 8),
                (8, 8, 8),
                (8, 4, 4),
                (16, 4, 4),
                (16, 2, 2),
            ],
            "residual": [(2, 32, 32), (2, 16, 16), (4, 8, 8), (8, 4, 4), (16, 2, 2)],
        }[name]
    )
    if name == "srgan":
        first = functional.leaky_relu(discriminator.body[0](2 * picture - 1), 0.2)
        torch.testing.assert_close(features[0], first)


def test_a_block_that_has_nothing_to_add_passes_its_skip_on() -> None:
    block = next(
        layer for layer in ResidualDiscriminator(num_features=2).body if isinstance(layer, DownBlock)
    )
    x = torch.rand(2, 2, 7, 8).to(memory_format=torch.channels_last)
    weight, bias = block.skip.get_parameter("weight"), block.skip.get_parameter("bias")
    skipped = functional.conv2d(x, weight, bias, stride=2)
    assert not torch.allclose(block(x), skipped)
    norm = list(block.residual.children())[-1]
    nn.init.zeros_(norm.get_parameter("weight"))
    torch.testing.assert_close(block(x), skipped)
    block(x).square().sum().backward()
    assert weight.grad is not None
    expected = torch.einsum("nohw,nchw->oc", 2 * skipped, x[..., ::2, ::2])
    torch.testing.assert_close(weight.grad[..., 0, 0], expected)


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize(("head", "patch_size"), HEADS)
def test_spectral_norm_keeps_every_weights_largest_singular_value_at_one(
    name: str, head: Head, patch_size: int | None
) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"num_features": 2, "batch_norm": False, "head": head, "patch_size": patch_size}
    discriminator = DISCRIMINATORS[name](**options, spectral_norm=True)
    plain = DISCRIMINATORS[name](**options)
    assert count(discriminator) == count(plain)
    side = patch_size or 32
    for _ in range(100):  # of the power iteration, one each
        discriminator(torch.rand(1, 3, side, side))
    layers = [layer for layer in discriminator.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(layers) == sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in plain.modules())
    for layer in layers:
        largest = cast(Tensor, torch.linalg.svdvals(layer.weight.flatten(1))).max()
        torch.testing.assert_close(largest, torch.tensor(1.0), rtol=0.02, atol=0)


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize("patch_size", [0, 24, -16, None])
def test_discriminators_refuse_a_patch_size_they_cannot_halve(name: str, patch_size: int | None) -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        DISCRIMINATORS[name](head="dense", patch_size=patch_size)


def test_discriminators_refuse_other_heads() -> None:
    with pytest.raises(UsageError, match="head is one of dense, position, pooled, patch, not 'tail'"):
        SRGANDiscriminator(head="tail")  # pyright: ignore[reportArgumentType]  # that is the point


@pytest.mark.parametrize("scale", [0, 1, 3, 16])
def test_generator_refuses_other_scales(scale: int) -> None:
    with pytest.raises(UsageError, match="scale must be 2, 4 or 8"):
        SRResNet(scale=scale)


@pytest.mark.parametrize("option", ["activation", "output"])
def test_generator_refuses_other_activations_and_outputs(option: str) -> None:
    with pytest.raises(UsageError, match=f"{option} must be .* or .*, not 'softmax'"):
        SRResNet(**{option: "softmax"})  # pyright: ignore[reportArgumentType]  # that is the point


def test_every_activation_and_output_that_a_card_may_name_is_there() -> None:
    assert (tuple(ACTIVATIONS), tuple(OUTPUTS)) == (get_args(Activation), get_args(Output))


def test_damped_residuals_start_near_identity() -> None:
    torch.manual_seed(0)
    generator = SRResNet(num_blocks=4, num_features=8, batch_norm=False)
    x = torch.randn(1, 8, 8, 8)
    before = (generator.body[0](x) - x).abs().mean()
    generator.damp_residuals(0.1)
    after = (generator.body[0](x) - x).abs().mean()
    assert after < 0.6 * before


@pytest.mark.parametrize("name", GENERATORS)
def test_weights_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    generator = GENERATORS[name](scale=2, num_blocks=2, num_features=4, activation="swish", output="tanh")
    save_generator(generator, tmp_path / "weights.safetensors")
    again = load_generator(tmp_path / "weights.safetensors")
    assert again.architecture == generator.architecture
    lr = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(again(lr), generator.eval()(lr), rtol=0, atol=0)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


def test_an_architecture_of_before_there_were_choices_is_still_built() -> None:
    old = {"generator": "srresnet", "scale": 2, "num_blocks": 1, "num_features": 4, "batch_norm": False}
    assert build_generator(old).architecture == {**old, "activation": "prelu", "output": "linear"}


def test_damaged_weights_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_generator(SRResNet(scale=2, num_blocks=1, num_features=2), path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"not safetensors at all"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not a readable safetensors file"):
            load_generator(path)
    with pytest.raises(ModelError, match="there is no file"):
        load_generator(tmp_path / "none.safetensors")


@pytest.mark.parametrize("architecture", [{}, {"generator": "unet"}, {"generator": "srresnet", "depth": 3}])
def test_unknown_architectures_are_refused(architecture: dict[str, str | int | bool]) -> None:
    with pytest.raises(UsageError, match="generator"):
        build_generator(architecture)


@pytest.mark.parametrize("size", [(28, 28), (56, 56), (33, 47)])
def test_classifier_judges_digits_of_any_size(size: tuple[int, int]) -> None:
    picture = torch.rand(3, 3, *size, requires_grad=True)
    logits = DigitClassifier()(picture)
    assert logits.shape == (3, 10)
    logits.square().sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0


def test_classifier_sees_brightness_and_the_digit_alone() -> None:
    classifier = DigitClassifier().eval()
    digit = torch.rand(2, 1, 7, 7).repeat_interleave(4, 2).repeat_interleave(4, 3)
    reds = torch.cat([3 * digit, torch.zeros(2, 2, 28, 28)], dim=1)
    torch.testing.assert_close(classifier(reds), classifier(digit.expand(-1, 3, -1, -1)))


def test_classifier_has_the_parameters_that_it_says() -> None:
    convs = 5 * 5 * 1 * 16 + 3 * 3 * (16 * 32 + 32 * 32 + 32 * 64)
    assert count(DigitClassifier()) == convs + 2 * (16 + 32 + 32 + 64) + (64 * 7 * 7 + 1) * 10 == 64_314


@pytest.mark.parametrize(
    ("scale", "output", "tolerance"),
    [
        (2, "linear", 1e-5),
        (4, "linear", 1e-5),
        (8, "linear", 1e-5),
        (4, "symmetric", 1e-5),
        (4, "tanh", 0.12),
    ],
)
def test_a_compact_generator_begins_as_nearest_neighbour(
    scale: int, output: Output, tolerance: float
) -> None:
    generator = Compact(scale=scale, num_blocks=1, num_features=4, batch_norm=False, output=output)
    with torch.no_grad():
        generator.tail.weight.zero_()
        assert generator.tail.bias is not None
        generator.tail.bias.zero_()
        lr = torch.rand(2, 3, 5, 6)
        expected = lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        torch.testing.assert_close(generator(lr), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_the_context_of_a_compact_generator_is_its_receptive_field(num_blocks: int) -> None:
    generator = Compact(scale=4, num_blocks=num_blocks, num_features=4, batch_norm=False).double().eval()
    side = 2 * generator.context + 9
    lr = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    middle = 4 * (side // 2)
    generator(lr)[0, :, middle : middle + 4, middle : middle + 4].sum().backward()
    assert lr.grad is not None
    rows = torch.nonzero(lr.grad.abs().sum((0, 1, 3))).flatten()
    assert rows.max() - side // 2 == side // 2 - rows.min() == generator.context
