"""A training run, from recipe to weights: one flat loop, to be read from top to bottom.

A run is an iterable of `Progress`; who iterates draws the bars. Whatever is random follows from (seed, step), so
that a run resumed from its checkpoint goes on as if it had never stopped.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from crispen import zoo
from crispen.errors import TrainingError
from crispen.networks.discriminators import SRGANDiscriminator
from crispen.networks.features import find_feature_weights, load_features
from crispen.networks.generators import SRResNet
from crispen.networks.weights import load_weights_into, save_generator
from crispen.runtimes.torch import choose_device
from crispen.training import memory, run_log
from crispen.training.checkpoint import Position, read_position, restore_checkpoint, save_checkpoint
from crispen.training.data import Dataset, open_dataset
from crispen.training.recipe import GanTable, PretrainTable, Recipe, StageTable, load_recipe
from crispen.training.schedule import learning_rate_at
from crispen.training.steps import Arithmetic, Features, GanParts, Learner, Scalars, gan_step, pretrain_step
from crispen.training.validation import validate


@dataclass(frozen=True, slots=True)
class Progress:
    """What one step did: its place in the run, and its numbers."""

    stage: str
    step: int
    steps: int
    learning_rate: float
    scalars: Scalars
    validation: Scalars = field(default_factory=dict[str, float])


def train(
    recipe: str | Recipe,
    *,
    data: Sequence[Path],
    valid: Path | None = None,
    run_dir: Path,
    overrides: Sequence[str] = (),
    features: Path | None = None,
    init: str | None = None,
    resume: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Iterator[Progress]:
    """Run the stages of a recipe and leave ``weights.safetensors`` in ``run_dir``.

    Args:
        recipe: a bundled recipe's name, a path, or a `Recipe`.
        data: training pictures: folders, tar files, files.
        valid: pictures to validate on; none skips validation.
        run_dir: where checkpoint, log, recipe and weights go; must be new unless ``resume``.
        overrides: ``key.of.a.table=value`` over what the recipe says.
        features: a file with the weights of the recipe's feature network, or a folder of such files.
        init: weights for the generator to start from, over what the recipe says: a model's name or a path.
        resume: go on from the checkpoint in ``run_dir``.
        device: ``cpu`` or ``cuda``.

    Yields:
        A `Progress` after each step.

    Raises:
        RecipeError, UsageError, DataError, ModelError, TrainingError: each before the first step.
    """
    if isinstance(recipe, str):
        recipe = load_recipe(recipe, overrides=overrides)
    start = _find_start(run_dir, resume=resume)
    arithmetic = Arithmetic(torch.device(choose_device(device)), recipe.precision)
    sizes = {"scale": recipe.generator.scale, "patch_size": recipe.data.patch_size}
    dataset = open_dataset(data, cache=run_dir.parent / "cache", **sizes)
    valid_dataset = open_dataset([valid], cache=run_dir.parent / "cache", **sizes) if valid else None

    judges = _load_features(recipe, features, arithmetic)

    memory.keep_freed_memory()
    torch.manual_seed(recipe.seed)
    network = arithmetic.place(_make_generator(recipe, init))
    ema = copy.deepcopy(network).requires_grad_(False)

    run_dir.mkdir(parents=True, exist_ok=True)
    run_log.write_recipe(run_dir, recipe)
    log = run_log.RunLog(run_dir)

    for stage, table in (("pretrain", recipe.stage.pretrain), ("gan", recipe.stage.gan)):
        if table is None or (start and start.stage == "gan" and stage == "pretrain"):
            continue
        parts = _make_gan_parts(recipe, table, judges, arithmetic) if isinstance(table, GanTable) else None
        generator = _learner(network, table)
        networks, optimizers = _state(generator, ema, parts)
        first = 0
        if start and start.stage == stage:
            restore_checkpoint(run_dir, networks, optimizers)
            first = start.step
        last_checkpoint = time.monotonic()

        for step in range(first, table.steps):
            lr, hr = _batch(recipe, dataset, stage, step, arithmetic)
            rate = learning_rate_at(step, table)
            if isinstance(table, PretrainTable):
                scalars = pretrain_step(
                    generator, lr, hr, table=table, learning_rate=rate, arithmetic=arithmetic
                )
            else:
                assert parts is not None
                ready = step >= table.discriminator_warmup_steps
                scalars = gan_step(
                    generator, parts, lr, hr, table=table, learning_rate=rate, train_generator=ready,
                    arithmetic=arithmetic,
                )  # fmt: skip
            _average(ema, network, decay=_ema_decay(recipe.ema_decay, step))

            done = step + 1
            validation: Scalars = {}
            if valid_dataset and (done % recipe.validate_every == 0 or done == table.steps):
                validation = validate(ema, valid_dataset, features=judges, arithmetic=arithmetic)
            progress = Progress(stage, done, table.steps, rate, scalars, validation)
            log.write(progress)
            if done == table.steps or time.monotonic() - last_checkpoint > 60 * recipe.checkpoint_minutes:
                save_checkpoint(run_dir, Position(stage, done), networks, optimizers)
                last_checkpoint = time.monotonic()
            yield progress
        save_generator(ema, run_dir / f"{stage}.safetensors")

    save_generator(ema, run_dir / "weights.safetensors")


def _find_start(run_dir: Path, *, resume: bool) -> Position | None:
    position = read_position(run_dir)
    if position and not resume:
        raise TrainingError(
            f"{run_dir} holds a run already: add --resume to go on with it, or choose another --run-dir"
        )
    if resume and not position:
        raise TrainingError(f"there is no checkpoint in {run_dir} to resume from")
    return position


def _make_generator(recipe: Recipe, init: str | None) -> SRResNet:
    table = recipe.generator
    generator = SRResNet(
        scale=table.scale,
        num_blocks=table.num_blocks,
        num_features=table.num_features,
        batch_norm=table.batch_norm,
    )
    generator.damp_residuals(table.damp_residuals)
    source = init or table.init
    if source:
        model = zoo.find(source)
        if model.weights is None:
            raise TrainingError(f"{source} has no weights.safetensors to start from")
        load_weights_into(generator, model.weights)
    return generator


def _load_features(recipe: Recipe, source: Path | None, arithmetic: Arithmetic) -> list[Features]:
    """The feature networks of the recipe's gan stage; none without that stage."""
    loaded: list[Features] = []
    for table in recipe.stage.gan.features if recipe.stage.gan else ():
        path = find_feature_weights(table.network, source)
        extractor = load_features(table.network, layers=list(table.layers), path=path)
        loaded.append(Features(arithmetic.place(extractor), table))
    return loaded


def _make_gan_parts(
    recipe: Recipe, table: GanTable, features: list[Features], arithmetic: Arithmetic
) -> GanParts:
    torch.manual_seed(recipe.seed + 1)
    discriminator = SRGANDiscriminator(
        num_features=recipe.discriminator.num_features,
        batch_norm=recipe.discriminator.batch_norm,
        patch_size=recipe.data.patch_size if recipe.discriminator.dense else None,
    )
    return GanParts(discriminator=_learner(arithmetic.place(discriminator), table), features=features)


def _learner(network: nn.Module, table: StageTable) -> Learner:
    return Learner(network, Adam(network.parameters(), table.learning_rate, table.betas, fused=True))


def _state(
    generator: Learner, ema: nn.Module, parts: GanParts | None
) -> tuple[dict[str, nn.Module], dict[str, Adam]]:
    """The networks and optimisers of a stage by the names that a checkpoint has for them."""
    networks = {"generator": generator.network, "ema": ema}
    optimizers = {"generator": generator.optimizer}
    if parts:
        networks["discriminator"] = parts.discriminator.network
        optimizers["discriminator"] = parts.discriminator.optimizer
    return networks, optimizers


def _batch(
    recipe: Recipe, dataset: Dataset, stage: str, step: int, arithmetic: Arithmetic
) -> tuple[Tensor, Tensor]:
    seed = recipe.seed + (stage == "gan")
    sizes = {"patch_size": recipe.data.patch_size, "batch_size": recipe.data.batch_size}
    lr, hr = dataset.batch(seed=seed, step=step, **sizes)
    return lr.to(arithmetic.device), hr.to(arithmetic.device)


def _ema_decay(decay: float, step: int) -> float:
    """Shorter memory at the start, where the first weights are best forgotten."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def _average(ema: nn.Module, network: nn.Module, *, decay: float) -> None:
    """Move the running average towards the weights; buffers (batch norm's statistics) are copied."""
    for average, weight in zip(ema.parameters(), network.parameters(), strict=True):
        average.lerp_(weight, 1 - decay)
    for kept, buffer in zip(ema.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)
