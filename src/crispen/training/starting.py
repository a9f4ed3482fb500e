"""The weights that a training starts from: those of a model or a run, or sums of several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from crispen import zoo
from crispen.errors import TrainingError
from crispen.networks.generators import AnyGenerator
from crispen.networks.weights import load_generator

GENERATOR_FILE, DISCRIMINATOR_FILE = "weights.safetensors", "discriminator.safetensors"
"""What a run leaves of its networks."""

_SIGN = re.compile(r"\s+([+-])\s+")


@dataclass(frozen=True, slots=True)
class Term:
    """One summand: a file of a generator's weights, to be added or taken away."""

    sign: int
    weights: Path


@dataclass(frozen=True, slots=True)
class Start:
    """Weights to start from."""

    base: Path
    """Of the generator."""
    changes: tuple[Term, ...] = ()
    """What is added to it."""
    discriminator: Path | None = None


def find_start(source: str) -> Start:
    """The weights that a text names: a model's name, a model's or a run's folder, or a file, or a sum of such.

    A bundled model's name means that model, as everywhere; a folder of that name is ``./srresnet-x4``.

    In a sum, ``RUN + srgan-x4 - compact-x4``, the signs stand between blanks: what training against a discriminator
    has changed is added to the weights of another run (Ilharco et al., "Editing Models with Task Arithmetic", ICLR
    2023). The discriminator is the first that one of them has.

    Raises:
        ModelError, TrainingError: where there are none.
    """
    first, *rest = _SIGN.split(source.strip())
    found = [_find(name) for name in (first, *rest[1::2])]
    terms = [
        Term(1 if sign == "+" else -1, path) for sign, (path, _) in zip(rest[::2], found[1:], strict=True)
    ]
    discriminators = (discriminator for _, discriminator in found if discriminator)
    return Start(found[0][0], tuple(terms), next(discriminators, None))


def _find(name: str) -> tuple[Path, Path | None]:
    """The files of a generator and, where there is one beside it, of a discriminator."""
    path = Path(name)
    if not zoo.is_bundled(name):
        if (path / GENERATOR_FILE).is_file():
            discriminator = path / DISCRIMINATOR_FILE
            return path / GENERATOR_FILE, discriminator if discriminator.is_file() else None
        if path.is_file() and path.suffix == ".safetensors":
            return path, None
    model = zoo.find(name)
    if model.weights is None:
        raise TrainingError(f"{name} has no {GENERATOR_FILE} to start from")
    return model.weights, None


def start_from(start: Start, generator: AnyGenerator) -> None:
    """Give a generator the weights of its start.

    They are of the same kind of generator, its activation and the meaning of its output included. Only the scale may
    be another: then what has another shape there, or is missing, stays as it is.

    Raises:
        TrainingError: if they are of another kind, or a sum of them is no network.
    """
    base = _weights(generator) | _fitting(start.base, generator)
    weights = dict(base)
    for term in start.changes:
        for name, tensor in _fitting(term.weights, generator).items():
            weights[name] = weights[name] + term.sign * tensor
    check_variances(weights, base)
    generator.load_state_dict(weights)


def check_variances(weights: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
    """See to it that batch norm's variances are some, in a sum of weights that began with ``base``.

    Where more is taken away than there is, no mean of the terms would say what the network's are: it has to be trained.

    Raises:
        TrainingError: for one that is not above 0, and is so in ``base``.
    """
    for name, variances in weights.items():
        if not name.endswith("running_var"):
            continue
        least = variances[base[name] > 0].min() if (base[name] > 0).any() else variances.new_ones(())
        if least <= 0:
            raise TrainingError(
                f"the sum is no network: {name}, variances of batch norm, comes down to {least.item():.3g};"
                " take smaller differences, or networks without batch norm"
            )


def _fitting(path: Path, generator: AnyGenerator) -> dict[str, Tensor]:
    """Those weights of a file that have a place in the generator, by name and shape."""
    source = load_generator(path)
    differences = [
        f"{name} {source.architecture[name]!r} and not {value!r}"
        for name, value in generator.architecture.items()
        if name != "scale" and source.architecture[name] != value
    ]
    if differences:
        raise TrainingError(
            f"the generator in {path} is another than the recipe's: it has {', '.join(differences)}"
        )
    places = _weights(generator)
    return {
        name: tensor
        for name, tensor in _weights(source).items()
        if name in places and places[name].shape == tensor.shape
    }


def _weights(generator: AnyGenerator) -> dict[str, Tensor]:
    return dict(generator.state_dict())
