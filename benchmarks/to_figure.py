"""From a compact network with tied weights to one of the paper's figure: its body, with what it has learnt.

    python benchmarks/to_figure.py --data SHARD... --work FOLDER --output OUT.safetensors compact-x4/weights.safetensors

`transplant.py` goes the other way. `Compact` hands the colours past its body by an interpolation of the picture that it
has learnt; the figure's network has no such way, and the body that is taken over does not know how bright a pixel is.
So three kinds of features (of eight each, see `crispen.training.equivariance`) are made to carry a colour each:

- the head adds the colour to what they were, and so much more that PReLU leaves them as they are;
- the body does not see the mean of the eight, which is where the colour is, nor write to it.

From there all phases of the result are fitted by least squares to the truth, over the training pictures reduced by
MATLAB's bicubic; the two upsamplers are given weights that make them in two steps. What the fit does not need of them
stays random and is not looked at, until training does. What comes out is where training begins
(``crispen train … --init OUT.safetensors``), not a model.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from crispen.networks.generators import Compact, ResidualBlock, SRResNet, build_generator
from crispen.networks.weights import load_generator, save_generator
from crispen.training.data import open_dataset
from crispen.training.equivariance import SYMMETRIES, Channels, Equivariance
from transplant import conv, fitting_parser, least_squares, samples

EDGE = 6
"""What convolutions at the border of a picture see is not natural: so many pixels are left out of the fit."""
SHARE = 0.5
"""Of a colour, what is added to its features."""
LIFT = 1.0
"""Added to what is to pass PReLU unchanged, which takes numbers above zero as they are."""
COLOURS = 3
GROUPS = len(SYMMETRIES)


def main() -> None:
    parser = fitting_parser(__doc__, every=16)
    parser.add_argument(
        "--kinds", type=int, nargs=COLOURS, default=(1, 4, 5), help="of features, that shall carry a colour"
    )
    arguments = parser.parse_args()
    old = load_generator(arguments.weights).eval()
    if not isinstance(old, Compact) or old.scale != 4 or old.num_features % GROUPS or old.batch_norm:
        parser.error(
            f"{arguments.weights} is not a compact network for four times the size with tied weights"
        )
    kinds = old.num_features // GROUPS
    if kinds < COLOURS or len(set(arguments.kinds)) < COLOURS or max(arguments.kinds) >= kinds:
        parser.error(f"the kinds must be three of 0 to {kinds - 1}")
    dataset = open_dataset(
        arguments.data, scale=old.scale, patch_size=4 * EDGE * old.scale, cache=arguments.work / "cache"
    )
    pictures = (dataset.whole(index) for index in range(3, len(dataset), arguments.every))
    save_generator(to_figure(old, pictures, kinds=arguments.kinds), arguments.output)


@torch.no_grad()
def to_figure(old: Compact, pictures: Iterable[tuple[Tensor, Tensor]], *, kinds: Iterable[int]) -> SRResNet:
    """A network of the figure with the body of ``old``, fitted on pairs of (1, 3, h, w) and (1, 3, 4·h, 4·w)."""
    torch.manual_seed(0)
    new = build_generator(old.architecture | {"generator": SRResNet.name}).eval()
    assert isinstance(new, SRResNet)
    new.body.load_state_dict(old.body.state_dict())
    new.head[1].load_state_dict(old.head[1].state_dict())
    _embed(conv(old.head[0]), conv(new.head[0]))
    for colour, kind in enumerate(kinds):
        _carry(new, colour, _channels(new, kind))
    weight, bias = _phases(new, pictures)
    Equivariance(new).begin(new)  # what is random, too
    ties = Equivariance(old).orbits
    _upsample(new, ties["tail.weight"].mean(weight), ties["tail.bias"].mean(bias))
    return new


def _channels(network: SRResNet, kind: int) -> list[int]:
    """The eight features of a kind, one in each group."""
    return [group * network.num_features // GROUPS + kind for group in range(GROUPS)]


def _embed(small: nn.Conv2d, large: nn.Conv2d) -> None:
    """Give a convolution the answers of one with smaller kernels."""
    assert small.bias is not None
    assert large.bias is not None
    edge = (large.kernel_size[0] - small.kernel_size[0]) // 2
    large.weight.zero_()
    large.weight[..., edge:-edge, edge:-edge] = small.weight
    large.bias.copy_(small.bias)


def _carry(network: SRResNet, colour: int, channels: list[int]) -> None:
    """Let features carry a colour from the head past the body."""
    head = conv(network.head[0])
    centre = head.kernel_size[0] // 2
    head.weight[channels, colour, centre, centre] += SHARE
    assert head.bias is not None
    head.bias[channels] += LIFT
    blocks = [block.residual for block in network.body if isinstance(block, ResidualBlock)]
    last = conv(network.body[-1])
    for reader in [*(conv(residual[0]) for residual in blocks), last]:
        reader.weight[:, channels] -= reader.weight[:, channels].mean(1, keepdim=True)
    for writer in [*(conv(residual[2]) for residual in blocks), last]:
        assert writer.bias is not None
        writer.weight[channels] -= writer.weight[channels].mean(0, keepdim=True)
        writer.bias[channels] -= writer.bias[channels].mean()


def _phases(network: SRResNet, pictures: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The 3×3 convolution of the body's answers that is nearest to the phases of the truth: weights and bias."""
    pairs = (samples(_deep(network, lr), pixel_unshuffle(hr, network.scale), EDGE) for lr, hr in pictures)
    fitted = least_squares(pairs, ridge=1e-8)
    return fitted[:, :-1].view(-1, network.num_features, 3, 3), fitted[:, -1]


def _deep(network: SRResNet, lr: Tensor) -> Tensor:
    shallow = network.head(lr)
    return shallow + network.body(shallow)


def _upsample(network: SRResNet, weight: Tensor, bias: Tensor) -> None:
    """Give the upsamplers and the tail weights that answer like a convolution of all phases, (3·4², features, 3, 3).

    The first three kinds of features are the colours. After the first doubling a pixel has four phases left, of which a
    group has the one to which its symmetry moves the first; so each is there twice.
    """
    first, second = (layer for layer in network.upsampler if isinstance(layer, nn.Conv2d))
    assert first.bias is not None
    assert second.bias is not None
    assert network.tail.bias is not None
    phase_of = [
        int(Channels(1, grouped=False, shuffle=2).destinations(symmetry)[0]) for symmetry in SYMMETRIES
    ]
    network.tail.weight.zero_()
    network.tail.bias.fill_(-LIFT)
    centre = network.tail.kernel_size[0] // 2
    for colour in range(COLOURS):
        channels = _channels(network, colour)
        network.tail.weight[colour, channels, centre, centre] = 1 / GROUPS
        for channel, later in zip(channels, phase_of, strict=True):
            for phase in range(4):
                row, column = 2 * (phase // 2) + later // 2, 2 * (phase % 2) + later % 2
                answer = colour * network.scale**2 + row * network.scale + column
                first.weight[4 * channel + phase] = weight[answer]
                first.bias[4 * channel + phase] = bias[answer] + LIFT
                second.weight[4 * channel + phase] = 0
                second.bias[4 * channel + phase] = 0
                sources = [source for source, has in zip(channels, phase_of, strict=True) if has == phase]
                second.weight[4 * channel + phase, sources, 1, 1] = 1 / len(sources)


if __name__ == "__main__":
    main()
