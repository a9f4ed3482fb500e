"""One step of each stage: forward, loss, backward, update. No I/O; what comes back is detached numbers."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from crispen.networks.features import FeatureExtractor
from crispen.training.losses import PIXEL_LOSSES, adversarial_loss, discriminator_loss, perceptual_loss
from crispen.training.recipe import FeaturesTable, GanTable, PretrainTable

Scalars = dict[str, float]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Learner:
    """A network and the optimiser of its weights."""

    network: nn.Module
    optimizer: Adam

    def descend(self, loss: Tensor, *, learning_rate: float) -> None:
        """One update of the weights down the gradient of ``loss``."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


@dataclass(frozen=True, slots=True)
class Features:
    """A feature network and how the recipe wants its layers compared."""

    extractor: FeatureExtractor
    table: FeaturesTable

    def distance(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The perceptual loss between two batches (N, 3, H, W) in [0, 1]."""
        with torch.no_grad():
            hr_features = self.extractor(hr)
        return perceptual_loss(
            self.extractor(sr),
            hr_features,
            layers=self.table.layers,
            difference=PIXEL_LOSSES[self.table.loss],
        )


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Where the networks run and in what precision."""

    device: torch.device
    precision: Literal["fp32", "bf16"]

    def place(self, network: Network) -> Network:
        """Move a network to the device, channels last, which bf16 convolutions are fastest with."""
        return network.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue, reportUnknownVariableType]  # torch's overloads forget this one

    @contextmanager
    def autocast(self) -> Generator[None]:
        """Run what is inside in the chosen precision, weights staying fp32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            yield


@dataclass(frozen=True, slots=True, kw_only=True)
class GanParts:
    """What the gan stage has besides the generator."""

    discriminator: Learner
    features: list[Features] = field(default_factory=list[Features])


def pretrain_step(
    generator: Learner,
    lr: Tensor,
    hr: Tensor,
    *,
    table: PretrainTable,
    learning_rate: float,
    arithmetic: Arithmetic,
) -> Scalars:
    """Move the generator towards the pixels of ``hr`` (the paper's section 3.2, SRResNet).

    Args:
        generator: the network to train.
        lr: (N, 3, H, W) in [0, 1].
        hr: (N, 3, H·scale, W·scale) in [0, 1].
        table: the recipe's ``[stage.pretrain]``.
        learning_rate: at this step.
        arithmetic: device and precision.
    """
    with arithmetic.autocast():
        sr = generator.network(lr)
    loss = PIXEL_LOSSES[table.pixel_loss](sr.float(), hr)
    generator.descend(loss, learning_rate=learning_rate)
    return {"pixel_loss": loss.item()}


def gan_step(
    generator: Learner,
    parts: GanParts,
    lr: Tensor,
    hr: Tensor,
    *,
    table: GanTable,
    learning_rate: float,
    train_generator: bool = True,
    arithmetic: Arithmetic,
) -> Scalars:
    """Train the discriminator, then the generator against it (the paper's equations 2 and 3).

    Args:
        generator: the network that enlarges.
        parts: discriminator and feature networks.
        lr: (N, 3, H, W) in [0, 1].
        hr: (N, 3, H·scale, W·scale) in [0, 1].
        table: the recipe's ``[stage.gan]``.
        learning_rate: the generator's at this step.
        train_generator: False while the discriminator warms up.
        arithmetic: device and precision.
    """
    ratio = (table.discriminator_learning_rate or table.learning_rate) / table.learning_rate
    with arithmetic.autocast(), torch.set_grad_enabled(train_generator):
        sr = generator.network(lr)
    scalars = _discriminator_update(parts.discriminator, sr.detach(), hr, learning_rate * ratio, arithmetic)
    if train_generator:
        scalars |= _generator_update(generator, parts, sr.float(), hr, table, learning_rate, arithmetic)
    return scalars


def _discriminator_update(
    discriminator: Learner, sr: Tensor, hr: Tensor, learning_rate: float, arithmetic: Arithmetic
) -> Scalars:
    with arithmetic.autocast():
        real_logits = discriminator.network(hr)
        fake_logits = discriminator.network(sr.float())
    loss = discriminator_loss(real_logits, fake_logits)
    discriminator.descend(loss, learning_rate=learning_rate)
    return {
        "discriminator_loss": loss.item(),
        "real_probability": torch.sigmoid(real_logits.float()).mean().item(),
        "fake_probability": torch.sigmoid(fake_logits.float()).mean().item(),
    }


def _generator_update(
    generator: Learner,
    parts: GanParts,
    sr: Tensor,
    hr: Tensor,
    table: GanTable,
    learning_rate: float,
    arithmetic: Arithmetic,
) -> Scalars:
    pixel = PIXEL_LOSSES[table.pixel_loss](sr, hr)
    with arithmetic.autocast():
        perceptual = torch.stack([sr.new_zeros(()), *(f.distance(sr, hr) for f in parts.features)]).sum()
        with _read_only(parts.discriminator.network):
            fake_logits = parts.discriminator.network(sr)
    adversarial = adversarial_loss(fake_logits)
    loss = (
        table.pixel_weight * pixel
        + table.perceptual_weight * perceptual
        + table.adversarial_weight * adversarial
    )
    generator.descend(loss, learning_rate=learning_rate)
    return {
        "pixel_loss": pixel.item(),
        "perceptual_loss": perceptual.item(),
        "adversarial_loss": adversarial.item(),
    }


@contextmanager
def _read_only(network: nn.Module) -> Generator[None]:
    """Let gradients pass through a network without gathering at its weights."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
