"""Generators: from a small picture to a large one.

`SRResNet` is the generator of Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative
Adversarial Network", CVPR 2017, Figure 4 (top). The same network is called SRResNet where it was trained on
pixels alone and SRGAN's generator where it was trained against a discriminator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from crispen.errors import UsageError
from crispen.networks.activations import ACTIVATIONS
from crispen.networks.polyphase import conv_of_shuffled
from crispen.zoo.card import Activation, Output, parse_architecture


class Arguments(TypedDict, total=False):
    """What a `Generator` takes, where its meaning stands."""

    scale: int
    num_blocks: int
    num_features: int
    batch_norm: bool
    activation: Activation
    output: Output
    batch_norm_momentum: float


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a skip (He et al. 2016, in the form of Gross and Wilber, as the paper takes it).

    (N, num_features, H, W) to the same.
    """

    def __init__(self, *, num_features: int, activation: Activation, momentum: float | None) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv_norm(num_features, momentum=momentum),
            ACTIVATIONS[activation](),
            *_conv_norm(num_features, momentum=momentum),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual: (N, num_features, H, W) to the same."""
        return x + self.residual(x)


class Generator(nn.Module):
    """What all generators have: a head, a body of residual blocks around which its input skips, and a tail.

    Maps (N, 3, H, W) to (N, 3, H·scale, W·scale), RGB in [0, 1] on both sides; the output is not clamped.

    Args:
        scale: 2, 4 or 8.
        num_blocks: residual blocks of the body.
        num_features: channels of every convolution in the body.
        batch_norm: the paper's normalisation; without it training is faster and needs `damp_residuals`.
        activation: the paper's PReLU, or ReLU, or Swish, x · sigmoid(x) (Ramachandran et al. 2017).
        output: what the last convolution y means. ``linear``: RGB in [0, 1] as it is; ``symmetric``: in [-1, 1],
            as the paper's targets are, so that the picture is (y + 1) / 2; ``tanh``: (tanh y + 1) / 2.
        batch_norm_momentum: the weight of a new batch in the running statistics, in torch's sense; what Keras
            calls a momentum of 0.8 is 0.2 here. A matter of training alone, and so no part of `architecture`.

    Raises:
        UsageError: for an argument that is none of these.
    """

    name: str
    head: nn.Sequential
    body: nn.Sequential
    tail: nn.Conv2d

    def __init__(
        self,
        *,
        scale: int = 4,
        num_blocks: int = 16,
        num_features: int = 64,
        batch_norm: bool = True,
        activation: Activation = "prelu",
        output: Output = "linear",
        batch_norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        _check_arguments(scale, num_blocks, num_features, activation, output)
        self.scale = scale
        self.num_blocks = num_blocks
        self.num_features = num_features
        self.batch_norm = batch_norm
        self.activation: Activation = activation
        self.output: Output = output
        self._momentum = batch_norm_momentum if batch_norm else None

    def _make_body(self) -> nn.Sequential:
        blocks = [
            ResidualBlock(num_features=self.num_features, activation=self.activation, momentum=self._momentum)
            for _ in range(self.num_blocks)
        ]
        return nn.Sequential(*blocks, *_conv_norm(self.num_features, momentum=self._momentum))

    @property
    def architecture(self) -> dict[str, str | int | bool]:
        """What `build_generator` needs to make this network again."""
        return {
            "generator": self.name,
            "scale": self.scale,
            "num_blocks": self.num_blocks,
            "num_features": self.num_features,
            "batch_norm": self.batch_norm,
            "activation": self.activation,
            "output": self.output,
        }

    @property
    def context(self) -> int:
        """How far, in pixels of the input, an output pixel sees: the radius of the receptive field, rounded up."""
        return parse_architecture(self.architecture, source="this generator").context

    def damp_residuals(self, factor: float = 0.1) -> None:
        """Scale the last convolution of every block, so that without batch norm the network starts near identity.

        (In the manner of Zhang, Dauphin and Ma, "Fixup Initialization", ICLR 2019.)
        """
        with torch.no_grad():
            for block in self.body:
                if isinstance(block, ResidualBlock):
                    last = [layer for layer in block.residual if isinstance(layer, nn.Conv2d)][-1]
                    last.weight.mul_(factor)


class SRResNet(Generator):
    """The generator of the paper's Figure 4: one sub-pixel upsampler of 2× for each doubling, 9×9 at both ends.

    The arguments are those of `Generator`; the paper has 16 blocks of 64 features.
    """

    name = "srresnet"

    def __init__(self, **arguments: Unpack[Arguments]) -> None:
        super().__init__(**arguments)
        features, activation = self.num_features, self.activation
        doublings = int(math.log2(self.scale))
        self.head = nn.Sequential(nn.Conv2d(3, features, 9, padding=4), ACTIVATIONS[activation]())
        self.body = self._make_body()
        self.upsampler = nn.Sequential(*_doublings(features, activation=activation, times=doublings))
        self.tail = nn.Conv2d(features, 3, 9, padding=4)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W) to (N, 3, H·scale, W·scale)."""
        shallow = self.head(lr)
        deep = shallow + self.body(shallow)
        return OUTPUTS[self.output](conv_of_shuffled(self.upsampler(deep), self.tail))


class Compact(Generator):
    """A generator of half the work: all is computed at the size of the picture, and shuffled to full size at once.

    One convolution makes all phases of the result (Shi et al., "Real-Time Single Image and Video Super-Resolution
    Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016); another, straight from the picture, is an
    interpolation that is learnt, beginning with the nearest neighbour, and leaves the body the rest to do (as does
    the skip of Kim et al., "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016).

    The arguments are those of `Generator`.
    """

    name = "compact"

    def __init__(self, **arguments: Unpack[Arguments]) -> None:
        super().__init__(**arguments)
        phases = 3 * self.scale**2
        self.head = nn.Sequential(
            nn.Conv2d(3, self.num_features, 3, padding=1), ACTIVATIONS[self.activation]()
        )
        self.body = self._make_body()
        self.tail = nn.Conv2d(self.num_features, phases, 3, padding=1)
        self.skip = nn.Conv2d(3, phases, 3, padding=1)
        _start_as_nearest(self.skip, self.scale, self.output)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W) to (N, 3, H·scale, W·scale)."""
        shallow = self.head(lr)
        deep = shallow + self.body(shallow)
        return OUTPUTS[self.output](pixel_shuffle(self.tail(deep) + self.skip(lr), self.scale))


def _start_as_nearest(skip: nn.Conv2d, scale: int, output: Output) -> None:
    """Let every phase of a colour begin as that colour, which ``tanh`` makes a little paler at both ends."""
    assert skip.bias is not None
    slope, offset = (1, 0) if output == "linear" else (2, -1)
    with torch.no_grad():
        skip.weight.zero_()
        skip.bias.fill_(offset)
        for phase in range(len(skip.weight)):
            skip.weight[phase, phase // scale**2, 1, 1] = slope


def _check_arguments(scale: int, num_blocks: int, num_features: int, activation: str, output: str) -> None:
    if scale not in (2, 4, 8):
        raise UsageError(f"scale must be 2, 4 or 8, not {scale}")
    if num_blocks < 1 or num_features < 1:
        raise UsageError(f"num_blocks and num_features must be at least 1, not {num_blocks}, {num_features}")
    if activation not in ACTIVATIONS:
        raise UsageError(f"activation must be {' or '.join(ACTIVATIONS)}, not {activation!r}")
    if output not in OUTPUTS:
        raise UsageError(f"output must be {' or '.join(OUTPUTS)}, not {output!r}")


def _conv_norm(num_features: int, *, momentum: float | None) -> list[nn.Module]:
    """A convolution, and where there is a momentum its batch norm."""
    conv = nn.Conv2d(num_features, num_features, 3, padding=1)
    return [conv] if momentum is None else [conv, nn.BatchNorm2d(num_features, momentum=momentum)]


def _doublings(num_features: int, *, activation: Activation, times: int) -> list[nn.Module]:
    """Sub-pixel convolutions (Shi et al. 2016), the last one's shuffle left to the tail.

    The figure has the activation after the shuffle; as the same is done to every number, the order makes no
    difference.
    """
    steps: list[nn.Module] = []
    for _ in range(times):
        conv = nn.Conv2d(num_features, 4 * num_features, 3, padding=1)
        steps += [conv, ACTIVATIONS[activation](), nn.PixelShuffle(2)]
    return steps[:-1]


def _linear(y: Tensor) -> Tensor:
    return y


def _symmetric(y: Tensor) -> Tensor:
    return (y + 1) / 2


def _tanh(y: Tensor) -> Tensor:
    return (y.tanh() + 1) / 2


OUTPUTS: dict[Output, Callable[[Tensor], Tensor]] = {
    "linear": _linear,
    "symmetric": _symmetric,
    "tanh": _tanh,
}
"""From the last convolution's numbers to RGB in [0, 1]."""

AnyGenerator = SRResNet | Compact

GENERATORS: dict[str, type[SRResNet] | type[Compact]] = {"srresnet": SRResNet, "compact": Compact}


def build_generator(architecture: dict[str, str | int | bool]) -> AnyGenerator:
    """Make a generator from what its ``architecture`` says, as stored beside its weights.

    Raises:
        UsageError: for an unknown generator or an argument that it does not take.
    """
    arguments = dict(architecture)
    name = arguments.pop("generator", None)
    if name not in GENERATORS:
        raise UsageError(f"generator must be one of {', '.join(GENERATORS)}, not {name!r}")
    try:
        return GENERATORS[name](**arguments)  # pyright: ignore[reportArgumentType]  # checked by the constructor
    except TypeError as error:
        raise UsageError(f"generator {name!r} cannot be built from {arguments}: {error}") from error
