"""Weights tied so that a network enlarges a turned or mirrored picture to its enlargement, turned or mirrored alike.

A picture upside down is a picture. A network that has to learn so sees every pattern in eight versions and keeps eight
answers to it; one whose layers are equivariant to the symmetries of the square knows it before its first step (Cohen
and Welling, "Group Equivariant Convolutional Networks", ICML 2016, p4m). Each crop teaches it as much as its eight
versions would, in one pass, and the mean of eight answers (`crispen.upscaling.ensemble`) is each of them.

The features come in eight groups. The first has what it finds in the picture as it is, the others what it would find
there in the picture turned and mirrored. So a convolution's weights follow from those of one group, and eight of them
at a time, an orbit, are always equal. The network stays an ordinary one, in its files and when it computes: orbits are
equal in the beginning, and stay so as every step is given the mean of their gradients. (With Muon, too: the nearest
orthonormal matrix to an equivariant one is equivariant.) What rounding drives apart is brought together now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from crispen.errors import TrainingError
from crispen.networks.generators import Generator
from crispen.training.sharding import copy_into, whole

SYMMETRIES = range(8)
"""Of the square, by `_moved`: s % 4 quarter turns, after mirroring left and right from 4 on."""

RENEWED_EVERY = 100
"""Steps. Without it, the errors of Muon's products had grown to 3e-4 of the largest weight in 10,000 steps, and turned
results differed by a third of a grey level."""

_NEARLY = 1e-3
"""How far weights that are begun with may be from their mean over orbits, as a share of their length: training leaves
rounding errors."""


@dataclass(frozen=True, slots=True)
class Channels:
    """What the channels on one side of a convolution are to the symmetries."""

    count: int
    """How many, before shuffling."""
    grouped: bool
    """Whether they are features, in eight groups that change places, or colours, which stay."""
    shuffle: int = 1
    """Side of the square of pixels that each becomes, so that there are ``shuffle``² channels in its place."""

    def destinations(self, symmetry: int) -> Tensor:
        """Where each channel goes, as integers (count · shuffle²,)."""
        channels = torch.arange(self.count)
        if self.grouped:
            size = self.count // len(SYMMETRIES)
            channels = torch.tensor(_PRODUCTS[symmetry])[channels // size] * size + channels % size
        pixels = torch.arange(self.shuffle**2)
        to = torch.empty_like(pixels)
        to[_moved(pixels.reshape(self.shuffle, self.shuffle), symmetry).flatten()] = pixels
        return (channels[:, None] * self.shuffle**2 + to).flatten()


@dataclass(frozen=True, slots=True)
class Orbits:
    """Those places in a tensor that symmetries lead to from each other, as places in it when it is flat."""

    members: Tensor
    """(orbits, 8), some perhaps more than once."""
    of: Tensor
    """The orbit of each place, (numbers,)."""

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of each orbit in all of its places."""
        return tensor.reshape(-1).take(self.members).mean(1).take(self.of).reshape(tensor.shape)

    def first(self, tensor: Tensor) -> Tensor:
        """The first of each orbit in all of its places."""
        return tensor.reshape(-1).take(self.members[:, 0]).take(self.of).reshape(tensor.shape)


class Equivariance:
    """What ties the weights of a generator without batch norm, by their names.

    Args:
        generator: has a number of features that 8 divides.
    """

    def __init__(self, generator: Generator) -> None:
        known: dict[tuple[Channels, Channels, torch.Size], tuple[Orbits, Orbits]] = {}
        self.orbits: dict[str, Orbits] = {}
        device = next(generator.parameters()).device
        for name, conv in cast(Iterable[tuple[str, nn.Module]], generator.named_modules()):
            if isinstance(conv, nn.Conv2d):
                into, out = _sides(name, conv, generator)
                shape = conv.weight.shape
                if (into, out, shape) not in known:
                    known[into, out, shape] = (
                        _orbits(shape, _mover(out, into), device),
                        _orbits(shape[:1], _mover(out), device),
                    )
                self.orbits[f"{name}.weight"], self.orbits[f"{name}.bias"] = known[into, out, shape]

    def begin(self, generator: Generator) -> None:
        """Make new weights equivariant: each of an orbit becomes its first, so that all are as large as before."""
        self._replace(generator, Orbits.first)

    def check(self, generator: Generator, source: object) -> None:
        """See to it that weights begun with are equivariant, and make them so to the last bit.

        Raises:
            TrainingError: if they are not.
        """
        if name := self.untied(generator):
            raise TrainingError(
                f"{source} is not equivariant (its {name} is not): generator.equivariant can only begin anew or"
                " with weights that were trained with it"
            )
        self._replace(generator, Orbits.mean)

    def untied(self, generator: Generator) -> str | None:
        """The name of the first weights that are not equivariant; None where all are, but for rounding errors."""
        for name, weight in self._weights(generator):
            distance = (self.orbits[name].mean(weight) - weight).square().sum()
            if distance > _NEARLY**2 * weight.square().sum():
                return name
        return None

    @torch.no_grad()
    def tie_gradients(self, generator: nn.Module) -> None:
        """Give every weight the mean gradient of its orbit, on all processes that share the generator."""
        for name, weight in self._weights(generator):
            if weight.grad is not None:
                copy_into(weight.grad, self.orbits[name].mean(whole(weight.grad)))

    def renew(self, generator: nn.Module) -> None:
        """Make weights equal again that rounding has driven apart, on all processes that share the generator."""
        self._replace(generator, Orbits.mean)

    @torch.no_grad()
    def _replace(self, generator: nn.Module, value: Callable[[Orbits, Tensor], Tensor]) -> None:
        for name, weight in self._weights(generator):
            copy_into(weight, value(self.orbits[name], whole(weight)))

    def _weights(self, generator: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
        return ((name, weight) for name, weight in generator.named_parameters() if name in self.orbits)


def _sides(name: str, conv: nn.Conv2d, generator: Generator) -> tuple[Channels, Channels]:
    """What goes into a convolution of a generator and what comes out."""
    colours, features = Channels(3, grouped=False), Channels(generator.num_features, grouped=True)
    into = colours if conv.in_channels == colours.count else features
    kind = features if name.startswith(("head", "body", "upsampler")) else colours
    shuffle = round((conv.out_channels / kind.count) ** 0.5)
    return into, Channels(kind.count, grouped=kind.grouped, shuffle=shuffle)


def _mover(*sides: Channels) -> Callable[[Tensor, int], Tensor]:
    """What a symmetry does to the first dimensions of a tensor, of which each is one side's."""

    def move(places: Tensor, symmetry: int) -> Tensor:
        for dimension, side in enumerate(sides):
            places = places.index_select(dimension, side.destinations(symmetry))
        return places if places.ndim < 4 else _moved(places, _INVERSES[symmetry])

    return move


def _orbits(shape: torch.Size, move: Callable[[Tensor, int], Tensor], device: torch.device) -> Orbits:
    places = torch.arange(shape.numel()).reshape(shape)
    equal = torch.stack([move(places, symmetry).flatten() for symmetry in SYMMETRIES], dim=1)
    firsts, of = cast(tuple[Tensor, Tensor], equal.min(1).values.unique(return_inverse=True))
    return Orbits(equal[firsts].to(device), of.to(device))


def _moved(square: Tensor, symmetry: int) -> Tensor:
    """Mirror and turn the last two dimensions, of equal length."""
    mirrored = square.flip(-1) if symmetry >= 4 else square
    return mirrored.rot90(symmetry % 4, (-2, -1))


_CORNERS = torch.arange(4).reshape(2, 2)
_AS_CORNERS = [_moved(_CORNERS, symmetry) for symmetry in SYMMETRIES]
_PRODUCTS = [
    [
        next(both for both in SYMMETRIES if _AS_CORNERS[both].equal(_moved(corners, last)))
        for corners in _AS_CORNERS
    ]
    for last in SYMMETRIES
]
"""The symmetry that one after another is: ``_PRODUCTS[last][first]``."""
_INVERSES = [products.index(0) for products in _PRODUCTS]
