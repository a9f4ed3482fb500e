"""From a network of the paper's figure to a compact one: its body as it is, both ends fitted to it.

    python benchmarks/transplant.py --data SHARD... --work FOLDER --output OUT.safetensors WEIGHTS.safetensors

`Compact` has the body of `SRResNet`, but 3×3 convolutions in place of the 9×9 one before it and of the upsampler and
the 9×9 one behind it. The new head is the one that answers most like the old; the new tail, with the learnt
interpolation beside it, the one whose picture is nearest to the old network's, or with ``--truth`` to the truth: both
by least squares over the training pictures, reduced by MATLAB's bicubic. What comes out is where training begins
(``crispen train … --init OUT.safetensors``), not a model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle, unfold

from crispen.networks.generators import Compact, SRResNet, build_generator
from crispen.networks.weights import load_generator, save_generator
from crispen.training.data import open_dataset

EDGE = 4
"""What a convolution at the border of a picture sees is not natural: so many pixels are left out."""


def main() -> None:
    parser = fitting_parser(__doc__, every=4)
    parser.add_argument("--truth", action="store_true", help="fit to the truth, not to the old network")
    arguments = parser.parse_args()
    old = load_generator(arguments.weights)
    if not isinstance(old, SRResNet):
        parser.error(f"{arguments.weights} is not a network of the figure")
    dataset = open_dataset(
        arguments.data, scale=old.scale, patch_size=4 * EDGE * old.scale, cache=arguments.work / "cache"
    )
    pictures = [dataset.whole(index) for index in range(0, len(dataset), arguments.every)]
    save_generator(transplant(old, pictures, truth=arguments.truth), arguments.output)


def fitting_parser(description: str | None, *, every: int) -> argparse.ArgumentParser:
    """The options of a script that fits a network made from another's weights on training pictures."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="training pictures")
    parser.add_argument("--work", type=Path, required=True, help="a folder to decode them into")
    parser.add_argument("--every", type=int, default=every, help="of the pictures, every so many")
    parser.add_argument("--output", type=Path, required=True)
    return parser


@torch.no_grad()
def transplant(old: SRResNet, pictures: list[tuple[Tensor, Tensor]], *, truth: bool) -> Compact:
    """A compact network with the body of ``old``, fitted on pairs of (1, 3, h, w) and (1, 3, h·scale, w·scale)."""
    new = build_generator(old.architecture | {"generator": Compact.name}).eval()
    assert isinstance(new, Compact)
    new.body.load_state_dict(old.body.state_dict())
    new.head[1].load_state_dict(old.head[1].state_dict())
    heads = (samples(lr, old.head[0](lr)) for lr, _ in pictures)
    _put(least_squares(heads), [conv(new.head[0])])
    tails = (
        samples(torch.cat((_deep(new, lr), lr), dim=1), pixel_unshuffle(hr if truth else old(lr), old.scale))
        for lr, hr in pictures
    )
    _put(least_squares(tails), [new.tail, new.skip])
    assert new.skip.bias is not None
    new.skip.bias.zero_()
    return new


def _deep(network: Compact, lr: Tensor) -> Tensor:
    shallow = network.head(lr)
    return shallow + network.body(shallow)


def samples(inputs: Tensor, outputs: Tensor, edge: int = EDGE) -> tuple[Tensor, Tensor]:
    """What a 3×3 convolution sees at every place, a one added for its bias, and what it shall answer."""
    height, width = inputs.shape[2:]
    seen = unfold(inputs, 3, padding=1).view(1, -1, height, width)
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    seen, wanted = seen[inside].flatten(2)[0], outputs[inside].flatten(2)[0]
    return torch.cat((seen, torch.ones(1, seen.shape[1]))), wanted


def least_squares(pairs: Iterator[tuple[Tensor, Tensor]], ridge: float = 1e-5) -> Tensor:
    """(outputs, inputs + 1): the weights with the least squared error."""
    gram, cross = torch.zeros(()).double(), torch.zeros(()).double()
    for seen, wanted in pairs:
        gram = gram + (seen @ seen.T).double()
        cross = cross + (seen @ wanted.T).double()
    gram = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram))
    return cast(Tensor, torch.linalg.solve(gram, cross)).T.float()


def _put(fitted: Tensor, convolutions: list[nn.Conv2d]) -> None:
    """Share the weights out among convolutions that add up; the first has the bias."""
    sizes = [conv.weight[0].numel() for conv in convolutions]
    for conv, weight in zip(convolutions, torch.split(fitted[:, :-1], sizes, dim=1), strict=True):
        conv.weight.copy_(weight.view_as(conv.weight))
    bias = convolutions[0].bias
    assert bias is not None
    bias.copy_(fitted[:, -1])


def conv(layer: nn.Module) -> nn.Conv2d:
    assert isinstance(layer, nn.Conv2d)
    return layer


if __name__ == "__main__":
    main()
