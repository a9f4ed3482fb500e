"""The networks against the paper's Figure 4, and against properties that must hold whatever the weights are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crispen.errors import ModelError, UsageError
from crispen.networks.activations import PReLU
from crispen.networks.discriminators import SRGANDiscriminator
from crispen.networks.generators import GENERATORS, SRResNet, build_generator
from crispen.networks.polyphase import conv_of_shuffled
from crispen.networks.weights import load_generator, save_generator


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


def test_discriminator_has_the_parameters_of_figure_4() -> None:
    widths = [64, 64, 128, 128, 256, 256, 512, 512]
    convs = sum(conv(3, before, after) for before, after in zip([3, *widths], widths, strict=False))
    norms = 2 * sum(widths[1:])
    dense = (512 * 6 * 6 + 1) * 1024 + (1024 + 1)
    assert count(SRGANDiscriminator(patch_size=96)) == convs + norms + dense
    assert count(SRGANDiscriminator(patch_size=None)) == convs + norms + 512 + 1


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 3)])
def test_generator_enlarges_any_size(scale: int, size: tuple[int, int]) -> None:
    generator = SRResNet(scale=scale, num_blocks=1, num_features=4, batch_norm=False)
    height, width = size
    assert generator(torch.rand(2, 3, height, width)).shape == (2, 3, height * scale, width * scale)


def test_generator_is_the_figure_taken_literally() -> None:
    """Shuffle, PReLU, 9×9 convolution at full size, as the paper draws it: the same numbers."""
    generator = SRResNet(scale=4, num_blocks=2, num_features=4).double()
    lr = torch.rand(2, 3, 6, 5, dtype=torch.double)
    first, prelu_1, shuffle, second, prelu_2 = generator.upsampler
    x = generator.head(lr)
    x = x + generator.body(x)
    x = prelu_1(shuffle(first(x)))
    x = prelu_2(shuffle(second(x)))
    torch.testing.assert_close(generator(lr), generator.tail(x))


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


def test_discriminator_without_dense_layers_takes_any_size() -> None:
    judge = SRGANDiscriminator(num_features=2, patch_size=None)
    assert judge(torch.rand(2, 3, 48, 32)).shape == (2, 1, 3, 2)


def test_discriminator_with_dense_layers_gives_one_logit() -> None:
    assert SRGANDiscriminator(num_features=2, patch_size=32)(torch.rand(4, 3, 32, 32)).shape == (4, 1)


@pytest.mark.parametrize("patch_size", [0, 24, -16])
def test_discriminator_refuses_a_patch_size_it_cannot_halve(patch_size: int) -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        SRGANDiscriminator(patch_size=patch_size)


@pytest.mark.parametrize("scale", [0, 1, 3, 16])
def test_generator_refuses_other_scales(scale: int) -> None:
    with pytest.raises(UsageError, match="scale must be 2, 4 or 8"):
        SRResNet(scale=scale)


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
    generator = GENERATORS[name](scale=2, num_blocks=2, num_features=4)
    save_generator(generator, tmp_path / "weights.safetensors")
    again = load_generator(tmp_path / "weights.safetensors")
    assert again.architecture == generator.architecture
    lr = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(again(lr), generator.eval()(lr), rtol=0, atol=0)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


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
