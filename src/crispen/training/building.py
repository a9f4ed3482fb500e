"""From a recipe's tables to networks: new or from given weights, on the device, with their optimisers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import (
    _FabricModule,  # pyright: ignore[reportPrivateUsage]  # what setup_module returns
)
from torch import Tensor, nn
from torch.optim import Adam

from crispen.networks.classifier import DigitClassifier
from crispen.networks.discriminators import DISCRIMINATORS
from crispen.networks.features import load_features
from crispen.networks.generators import GENERATORS, AnyGenerator, Generator, build_generator
from crispen.networks.weights import load_weights_into
from crispen.training.equivariance import Equivariance
from crispen.training.muon import Muon
from crispen.training.recipe import FeaturesTable, Recipe, StageTable
from crispen.training.starting import Start, start_from
from crispen.training.steps import Features, Learner

CLASSIFIER_FILE = "classifier.safetensors"
"""What a run leaves of its classifier."""


def make_generator(recipe: Recipe, start: Start | None, fabric: Fabric) -> AnyGenerator:
    """The generator of a recipe, its first weights following from the seed or taken from ``start``."""
    table = recipe.generator
    torch.manual_seed(recipe.seed)
    generator = GENERATORS[table.architecture](
        scale=table.scale,
        num_blocks=table.num_blocks,
        num_features=table.num_features,
        activation=table.activation,
        output=table.output,
        batch_norm=table.batch_norm,
        batch_norm_momentum=table.batch_norm_momentum,
    )
    generator.damp_residuals(table.damp_residuals)
    ties = Equivariance(generator) if table.equivariant else None
    if ties:
        ties.begin(generator)
    if start:
        start_from(start, generator)
        if ties:
            ties.check(generator, start.base)
    return cast(AnyGenerator, _place(generator, fabric))


def make_discriminator(recipe: Recipe, start: Start | None, fabric: Fabric) -> nn.Module:
    """The discriminator of a recipe; likewise."""
    table = recipe.discriminator
    torch.manual_seed(recipe.seed + 1)
    discriminator = DISCRIMINATORS[table.architecture](
        num_features=table.num_features,
        batch_norm=table.batch_norm,
        batch_norm_momentum=table.batch_norm_momentum,
        spectral_norm=table.spectral_norm,
        head=table.head,
        patch_size=recipe.data.patch_size,
    )
    if start and start.discriminator:
        load_weights_into(discriminator, start.discriminator)
    return _place(discriminator, fabric)


def make_classifier(recipe: Recipe, fabric: Fabric) -> nn.Module:
    """A new classifier."""
    torch.manual_seed(recipe.seed + 2)
    return _place(DigitClassifier(), fabric)


def load_classifier(run_dir: Path, fabric: Fabric) -> nn.Module:
    """The classifier that the first stage of a run has left, to judge with: frozen, in evaluation mode."""
    classifier = DigitClassifier()
    load_weights_into(classifier, run_dir / CLASSIFIER_FILE)
    return _place(classifier.eval().requires_grad_(False), fabric)


def make_copy(network: nn.Module, tensors: Mapping[str, Tensor], fabric: Fabric) -> nn.Module:
    """A generator or classifier of the same kind with these weights, whole on this process' device: to be looked at."""
    copy = build_generator(network.architecture) if isinstance(network, Generator) else DigitClassifier()
    copy.load_state_dict(tensors)
    return _place(copy, fabric)


def load_judging_features(
    tables: Sequence[FeaturesTable], source: Path | None, fabric: Fabric
) -> list[Features]:
    """The feature networks of a stage, frozen."""
    return [
        Features(
            _place(load_features(table.network, layers=list(table.layers), source=source), fabric), table
        )
        for table in tables
    ]


@dataclass(frozen=True, slots=True)
class Trainable:
    """A network twice: as what holds the weights, and as what computes."""

    module: nn.Module
    network: _FabricModule
    """``module`` in the recipe's precision, compiled if the recipe says so, averaging gradients over processes, and
    sharded over them (as then ``module`` is, too) if the recipe says so."""
    ties: Equivariance | None
    """What keeps a generator equivariant, if the recipe says so."""


def make_trainable(module: nn.Module, recipe: Recipe, fabric: Fabric) -> Trainable:
    """Prepare a network for training, once for all stages."""
    mode = None if recipe.compile == "default" else recipe.compile
    network = module if recipe.compile == "no" else cast(nn.Module, torch.compile(module, mode=mode))
    ties = Equivariance(module) if recipe.generator.equivariant and isinstance(module, Generator) else None
    return Trainable(module, fabric.setup_module(network, move_to_device=False), ties)


def make_learner(
    trainable: Trainable, table: StageTable, fabric: Fabric, *, optimizer: Literal["adam", "muon"] = "adam"
) -> Learner:
    """Give a network the optimiser of a stage."""
    weights = trainable.module.parameters()
    if optimizer == "muon":
        chosen = Muon(weights, table.learning_rate, table.betas)
    else:
        chosen = Adam(weights, table.learning_rate, table.betas, fused=True)
    optimiser = cast(Adam, fabric.setup_optimizers(chosen))
    return Learner(trainable.network, trainable.module, optimiser, trainable.ties)


def _place(network: nn.Module, fabric: Fabric) -> nn.Module:
    """Move a network to the device, channels last, which convolutions in half precision are fastest with."""
    return network.to(fabric.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue, reportUnknownVariableType]  # torch's overloads forget this one
