"""The stages of a run: which networks each updates, and with which step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lightning_fabric import Fabric
from torch import nn
from torch.optim import Adam

from crispen.training import building
from crispen.training.building import Trainable
from crispen.training.checkpoint import STAGES
from crispen.training.data import Batch
from crispen.training.progress import Scalars
from crispen.training.recipe import (
    ClassifierTable,
    GanTable,
    GeneratorStageTable,
    PretrainTable,
    Recipe,
    StageTable,
)
from crispen.training.starting import Start
from crispen.training.steps import Features, Judges, Learner, classifier_step, gan_step, pretrain_step

Update = Callable[[int, Batch, float], Scalars]
"""What a stage does in a step: (updates done before, batch, learning rate) to numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage, ready to be stepped through."""

    name: str
    table: StageTable
    learners: Mapping[str, Learner]
    update: Update
    judges: Judges
    done: int = 0
    """Steps that were done before, by a run that goes on from a checkpoint."""

    def trains_generator(self, step: int) -> bool:
        """Whether the generator learns in the update after ``step``."""
        if isinstance(self.table, GanTable):
            return step >= self.table.discriminator_warmup_steps
        return "generator" in self.learners

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks that learn, by the names that a checkpoint has for them."""
        return {name: learner.module for name, learner in self.learners.items()}

    @property
    def optimizers(self) -> dict[str, Adam]:
        """Their optimisers, likewise."""
        return {name: learner.optimizer for name, learner in self.learners.items()}

    def renew_ties(self) -> None:
        """Take rounding errors out of weights that are tied."""
        for learner in self.learners.values():
            if learner.ties:
                learner.ties.renew(learner.module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """All networks of a run but the running average; None where no stage of the recipe has them."""

    generator: Trainable
    discriminator: Trainable | None
    classifier: Trainable | None
    features: Mapping[str, Sequence[Features]]
    """The feature networks of each stage."""


def chosen_stages(recipe: Recipe) -> dict[str, StageTable]:
    """The stages of a recipe, in order."""
    tables = {name: cast(StageTable | None, getattr(recipe.stage, name)) for name in STAGES}
    return {name: table for name, table in tables.items() if table is not None}


def make_networks(recipe: Recipe, *, start: Start | None, features: Path | None, fabric: Fabric) -> Networks:
    """Make the networks of a recipe, new or from given weights.

    Raises:
        ModelError, TrainingError: where weights are missing or do not fit.
    """
    judging = {
        name: building.load_judging_features(table.features, features, fabric)
        for name, table in chosen_stages(recipe).items()
        if isinstance(table, GeneratorStageTable) and table.perceptual_weight
    }
    generator = building.make_generator(recipe, start, fabric)
    discriminator = building.make_discriminator(recipe, start, fabric) if recipe.stage.gan else None
    classifier = building.make_classifier(recipe, fabric) if recipe.stage.classifier else None
    return Networks(
        generator=building.make_trainable(generator, recipe, fabric),
        discriminator=building.make_trainable(discriminator, recipe, fabric) if discriminator else None,
        classifier=building.make_trainable(classifier, recipe, fabric) if classifier else None,
        features=judging,
    )


def make_stage(name: str, recipe: Recipe, networks: Networks, *, run_dir: Path, fabric: Fabric) -> Stage:
    """Bring the networks, optimisers and step of a stage together.

    A classifier judges in the form in which the stage ``classifier`` has left it in ``run_dir``.
    """
    match chosen_stages(recipe)[name]:
        case ClassifierTable() as table:
            return _classifier_stage(table, networks, fabric)
        case PretrainTable() as table:
            return _pretrain_stage(
                table, recipe, networks, _judges(name, recipe, networks, run_dir, fabric), fabric
            )
        case GanTable() as table:
            return _gan_stage(
                table, recipe, networks, _judges(name, recipe, networks, run_dir, fabric), fabric
            )
        case table:
            raise AssertionError(f"a stage of an unknown kind: {table!r}")


def _judges(name: str, recipe: Recipe, networks: Networks, run_dir: Path, fabric: Fabric) -> Judges:
    return Judges(
        features=networks.features.get(name, ()),
        classifier=building.load_classifier(run_dir, fabric) if recipe.stage.classifier else None,
    )


def _classifier_stage(table: ClassifierTable, networks: Networks, fabric: Fabric) -> Stage:
    assert networks.classifier is not None, "made wherever the recipe has this stage"
    learner = building.make_learner(networks.classifier, table, fabric)

    def update(_: int, batch: Batch, learning_rate: float) -> Scalars:
        return classifier_step(learner, batch, learning_rate=learning_rate, fabric=fabric)

    return Stage(
        name="classifier", table=table, learners={"classifier": learner}, update=update, judges=Judges()
    )


def _pretrain_stage(
    table: PretrainTable, recipe: Recipe, networks: Networks, judges: Judges, fabric: Fabric
) -> Stage:
    learner = building.make_learner(networks.generator, table, fabric, optimizer=table.optimizer)

    def update(_: int, batch: Batch, learning_rate: float) -> Scalars:
        return pretrain_step(
            learner, judges, batch, table=table, learning_rate=learning_rate, fabric=fabric,
            accumulate=recipe.accumulate,
        )  # fmt: skip

    return Stage(name="pretrain", table=table, learners={"generator": learner}, update=update, judges=judges)


def _gan_stage(table: GanTable, recipe: Recipe, networks: Networks, judges: Judges, fabric: Fabric) -> Stage:
    assert networks.discriminator is not None, "made wherever the recipe has this stage"
    generator = building.make_learner(networks.generator, table, fabric, optimizer=table.optimizer)
    discriminator = building.make_learner(networks.discriminator, table, fabric)

    def update(step: int, batch: Batch, learning_rate: float) -> Scalars:
        return gan_step(
            generator, discriminator, judges, batch, table=table, learning_rate=learning_rate, fabric=fabric,
            train_generator=step >= table.discriminator_warmup_steps, accumulate=recipe.accumulate,
        )  # fmt: skip

    learners = {"generator": generator, "discriminator": discriminator}
    return Stage(name="gan", table=table, learners=learners, update=update, judges=judges)
