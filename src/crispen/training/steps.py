"""One step of each stage: forward, loss, backward, update. No I/O; what comes back is detached numbers."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import (
    _FabricModule,  # pyright: ignore[reportPrivateUsage]  # what setup_module returns and no_backward_sync wants
)
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from crispen.networks.features import FeatureExtractor
from crispen.training.data import Batch
from crispen.training.equivariance import Equivariance
from crispen.training.losses import (
    ADVERSARIAL_FORMS,
    PIXEL_LOSSES,
    RANGE_POWERS,
    feature_matching_loss,
    gradient_penalty,
    grid_loss,
    luma,
    perceptual_loss,
    texture_loss,
    total_variation_loss,
)
from crispen.training.machine import loss_scaler
from crispen.training.progress import Scalars
from crispen.training.recipe import FeaturesTable, GanTable, GeneratorStageTable
from crispen.training.sharding import differentiable_twice, whole

Terms = dict[str, Tensor]
"""Losses by name, each a scalar tensor, before they are weighted."""


@dataclass(frozen=True, slots=True)
class Learner:
    """A network and the optimiser of its weights.

    ``network`` is what computes (cast, and averaging gradients over processes); ``module`` is the network itself, which
    holds the weights.
    """

    network: _FabricModule
    module: nn.Module
    optimizer: Adam
    ties: Equivariance | None = None
    """What keeps a generator equivariant."""

    def update(self, *, learning_rate: float) -> None:
        """Let the gathered gradients move the weights, and forget them."""
        if self.ties:
            self.ties.tie_gradients(self.module)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


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

    @torch.inference_mode()
    def can_see(self, side: int) -> bool:
        """Whether something of a square picture is left in the deepest layer, after all that halves it on the way."""
        device = next(self.extractor.parameters()).device
        try:
            self.extractor(torch.zeros(1, 3, side, side, device=device))
        except (RuntimeError, ValueError, AssertionError):  # whatever the network at hand makes of it
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Judges:
    """Fixed networks that the content of a generated picture is judged by."""

    features: Sequence[Features] = field(default_factory=list[Features])
    """Feature networks of the perceptual loss."""
    classifier: nn.Module | None = None
    """A classifier of labelled pictures."""

    def cross_entropy(self, sr: Tensor, labels: Tensor | None) -> Tensor:
        """How surprised the classifier is by the true labels of generated pictures."""
        assert self.classifier is not None, "a recipe that weighs a classifier has one"
        assert labels is not None, "and its data has labels"
        return functional.cross_entropy(self.classifier(sr).float(), labels)


class Discriminator(Protocol):
    """A network that can give its activations away, too."""

    def forward_features(self, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        """Activations and logits."""
        ...


def classifier_step(classifier: Learner, batch: Batch, *, learning_rate: float, fabric: Fabric) -> Scalars:
    """Teach the classifier the labels of true pictures."""
    assert batch.labels is not None, "labelled data was checked for"
    logits = classifier.network(batch.hr)
    loss = functional.cross_entropy(logits.float(), batch.labels)
    fabric.backward(loss)
    classifier.update(learning_rate=learning_rate)
    accuracy = (logits.argmax(1) == batch.labels).float().mean()
    return _numbers(fabric, {"classifier_loss": loss, "classifier_accuracy": accuracy})


def pretrain_step(
    generator: Learner,
    judges: Judges,
    batch: Batch,
    *,
    table: GeneratorStageTable,
    learning_rate: float,
    fabric: Fabric,
    accumulate: int = 1,
) -> Scalars:
    """Move the generator towards the content of ``hr`` (the paper's section 3.2, SRResNet).

    Args:
        generator: the network to train.
        judges: fixed networks of the loss on content.
        batch: ``lr`` (N, 3, H, W) and ``hr`` (N, 3, H·scale, W·scale) in [0, 1].
        table: the recipe's ``[stage.pretrain]``.
        learning_rate: at this step.
        fabric: device, precision and processes.
        accumulate: parts in which the batch is computed.
    """
    found: list[Terms] = []
    for last, part in _parts(batch, accumulate):
        with fabric.no_backward_sync(generator.network, enabled=not last):
            terms = _content(generator.network(part.lr), part, judges, table, fabric)
            loss = _weighted_content(terms, table)
            fabric.backward(loss / accumulate)
        found.append({**terms, "generator_loss": loss})
    norm = _gradient_norm(generator, fabric)
    generator.update(learning_rate=learning_rate)
    return _numbers(fabric, {**_mean(found), "generator_gradient_norm": norm})


def gan_step(
    generator: Learner,
    discriminator: Learner,
    judges: Judges,
    batch: Batch,
    *,
    table: GanTable,
    learning_rate: float,
    fabric: Fabric,
    train_generator: bool = True,
    accumulate: int = 1,
) -> Scalars:
    """Train the discriminator, then the generator against it (the paper's equations 2 and 3).

    Args:
        generator: the network that enlarges.
        discriminator: the network that it is to deceive.
        judges: fixed networks of the loss on content.
        batch: ``lr`` (N, 3, H, W) and ``hr`` (N, 3, H·scale, W·scale) in [0, 1].
        table: the recipe's ``[stage.gan]``.
        learning_rate: the generator's at this step.
        fabric: device, precision and processes.
        train_generator: False while the discriminator warms up.
        accumulate: parts in which the batch is computed; above 1 the generator computes each part twice.
    """
    ratio = (table.discriminator_learning_rate or table.learning_rate) / table.learning_rate
    judged: list[Terms] = []
    enlarged: list[
        Tensor
    ] = []  # with its gradient, where there is but one part: memory for more is what is saved
    keeps = train_generator and accumulate == 1
    for last, part in _parts(batch, accumulate):
        with torch.set_grad_enabled(keeps):
            sr = cast(Tensor, generator.network(part.lr))
        if keeps:
            enlarged.append(sr)
        with fabric.no_backward_sync(discriminator.network, enabled=not last):
            terms = _discriminator_terms(discriminator, judges, sr.detach(), part, table)
            fabric.backward(terms["discriminator_loss"] / accumulate)
        judged.append(terms)
    discriminator.update(learning_rate=learning_rate * ratio)
    if not train_generator:
        return _numbers(fabric, _mean(judged))

    found: list[Terms] = []
    for last, part in _parts(batch, accumulate):
        with (
            fabric.no_backward_sync(generator.network, enabled=not last),
            _read_only(discriminator.module),
        ):
            sr = enlarged.pop() if enlarged else cast(Tensor, generator.network(part.lr))
            terms = _content(sr, part, judges, table, fabric)
            terms |= _adversarial(sr, part.hr, cast(Discriminator, discriminator.module), table, fabric)
            loss = (
                _weighted_content(terms, table)
                + table.adversarial_weight * terms["adversarial_loss"]
                + table.feature_matching_weight * terms.get("feature_matching_loss", 0)
            )
            fabric.backward(loss / accumulate)
        found.append({**terms, "generator_loss": loss})
    norm = _gradient_norm(generator, fabric)
    generator.update(learning_rate=learning_rate)
    return _numbers(fabric, {**_mean(found), **_mean(judged), "generator_gradient_norm": norm})


def _content(
    sr: Tensor,
    batch: Batch,
    judges: Judges,
    table: GeneratorStageTable,
    fabric: Fabric,
) -> Terms:
    """How far a generated picture is from the true one: the terms that the recipe gives a weight."""
    sr, hr = sr.float(), batch.hr
    spread = 2 if table.pixel_range == "symmetric" else 1
    terms = {"pixel_loss": spread ** RANGE_POWERS[table.pixel_loss] * _pixel_loss(sr, hr, table)}
    with fabric.autocast():
        if table.perceptual_weight:
            distances = [features.distance(sr, hr) for features in judges.features]
            terms["perceptual_loss"] = torch.stack(distances).sum()
        if table.classifier_weight:
            terms["classifier_loss"] = judges.cross_entropy(sr, batch.labels)
    scale = hr.shape[-1] // batch.lr.shape[-1]
    if table.grid_weight:
        terms["grid_loss"] = grid_loss(spread * sr, spread * hr, scale=scale)
    if table.texture_weight:
        terms["texture_loss"] = texture_loss(sr, hr, scale=scale, power=table.texture_power)
    if table.total_variation_weight:
        terms["total_variation_loss"] = total_variation_loss(spread * sr)
    return terms


def _pixel_loss(sr: Tensor, hr: Tensor, table: GeneratorStageTable) -> Tensor:
    difference, share = PIXEL_LOSSES[table.pixel_loss], table.luma_share
    if not share:
        return difference(sr, hr)
    return (1 - share) * difference(sr, hr) + share * difference(luma(sr), luma(hr))


def _weighted_content(terms: Terms, table: GeneratorStageTable) -> Tensor:
    return (
        table.pixel_weight * terms["pixel_loss"]
        + table.perceptual_weight * terms.get("perceptual_loss", 0)
        + table.grid_weight * terms.get("grid_loss", 0)
        + table.texture_weight * terms.get("texture_loss", 0)
        + table.total_variation_weight * terms.get("total_variation_loss", 0)
        + table.classifier_weight * terms.get("classifier_loss", 0)
    )


def _discriminator_terms(
    discriminator: Learner, judges: Judges, sr: Tensor, batch: Batch, table: GanTable
) -> Terms:
    real = discriminator.network(batch.hr).float()
    fake = discriminator.network(sr.float()).float()
    loss = ADVERSARIAL_FORMS[table.adversarial].discriminator_loss(real, fake)
    if table.r1_weight:
        with differentiable_twice(discriminator.module):
            loss = loss + table.r1_weight * gradient_penalty(discriminator.module, batch.hr)
    if table.classifier_discriminator_weight:
        with torch.no_grad():
            cross_entropy = judges.cross_entropy(sr, batch.labels)
        loss = loss + table.classifier_discriminator_weight * cross_entropy
    if (
        table.adversarial == "relativistic-average"
    ):  # whose logits mean something only beside the other kind's
        real, fake = real - fake.mean(), fake - real.mean()
    return {
        "discriminator_loss": loss,
        "real_probability": torch.sigmoid(real).mean(),
        "fake_probability": torch.sigmoid(fake).mean(),
    }


def _adversarial(
    sr: Tensor, hr: Tensor, discriminator: Discriminator, table: GanTable, fabric: Fabric
) -> Terms:
    """What the discriminator says of the generated pictures."""
    form = ADVERSARIAL_FORMS[table.adversarial]
    with fabric.autocast():
        fake_features, fake = discriminator.forward_features(sr.float())
        real_features, real = [], fake
        if form.generator_sees_real or table.feature_matching_weight:
            with torch.no_grad():
                real_features, real = discriminator.forward_features(hr)
    terms = {"adversarial_loss": form.generator_loss(real.float(), fake.float())}
    if table.feature_matching_weight:
        terms["feature_matching_loss"] = feature_matching_loss(fake_features, real_features)
    return terms


@contextmanager
def _read_only(network: nn.Module) -> Generator[None]:
    """Let gradients pass through a network, forwards and backwards within, without gathering at its weights."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _parts(batch: Batch, count: int) -> Iterator[tuple[bool, Batch]]:
    """The batch in equal parts, each with whether it is the last."""
    lrs, hrs = batch.lr.chunk(count), batch.hr.chunk(count)
    labels = batch.labels.chunk(count) if batch.labels is not None else [None] * count
    for index, (lr, hr, label) in enumerate(zip(lrs, hrs, labels, strict=True), start=1):
        yield index == count, Batch(lr, hr, label)


def _gradient_norm(learner: Learner, fabric: Fabric) -> Tensor:
    """Euclidean norm of the gathered gradient."""
    gradients = [weight.grad for weight in learner.module.parameters() if weight.grad is not None]
    norm = whole(nn.utils.get_total_norm(gradients))
    scaler = loss_scaler(fabric)
    return norm / scaler.get_scale() if scaler else norm


def _mean(found: Sequence[Terms]) -> Terms:
    """The terms of all parts of a batch in one."""
    return {name: torch.stack([terms[name].detach() for terms in found]).mean() for name in found[0]}


def _numbers(fabric: Fabric, terms: Mapping[str, Tensor]) -> Scalars:
    """Means over all processes, brought over from the device in one go."""
    stacked = torch.stack([term.detach().float() for term in terms.values()])
    means = cast(Tensor, fabric.all_reduce(stacked, reduce_op="mean"))
    return dict(zip(terms, cast(list[float], means.tolist()), strict=True))
