"""A training run, from recipe to weights: one loop, to be read from top to bottom.

A run is an iterable of `Progress`; who iterates draws the bars. Whatever is random follows from (seed, step), so
that a run resumed from its checkpoint goes on as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from crispen.errors import RecipeError, TrainingError, UsageError
from crispen.networks.generators import AnyGenerator
from crispen.networks.weights import save_generator, save_tensors
from crispen.training import building, memory
from crispen.training.averaging import RunningAverage, decay_at
from crispen.training.cache import Watch, in_silence, remove_unused
from crispen.training.checkpoint import (
    FOLDER,
    STAGES,
    Checkpoint,
    Position,
    has_checkpoint,
    save_checkpoint,
    state_to_save,
)
from crispen.training.data import Batch
from crispen.training.environment import Given, changed_pictures, changed_start, write_run_info
from crispen.training.equivariance import RENEWED_EVERY
from crispen.training.health import HealthMonitor
from crispen.training.machine import leave, loss_scaler, make_fabric, precision_of, warn_of_emulation
from crispen.training.pictures import Pictures, open_pictures
from crispen.training.prefetch import prefetched
from crispen.training.previews import write_previews
from crispen.training.progress import Progress, Scalars
from crispen.training.recipe import Recipe, span_in_steps
from crispen.training.recipe_file import load_recipe, parts_contradictions, warmup_contradictions
from crispen.training.resuming import (
    alone_in,
    check_steps,
    find_checkpoint,
    notes_on_resuming,
    recipe_as_done,
)
from crispen.training.run_log import RunLog, writing
from crispen.training.schedule import learning_rate_at
from crispen.training.sharding import gathered, state_of
from crispen.training.sources import check_existence
from crispen.training.stages import Networks, Stage, chosen_stages, make_networks, make_stage
from crispen.training.starting import GENERATOR_FILE, Start, find_start
from crispen.training.validation import validate, validate_classifier

MOST_SKIPPED_TOLD = 20
"""Pictures that were left out and are named; of more, the number is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What all stages of a run share."""

    recipe: Recipe
    run_dir: Path
    fabric: Fabric
    pictures: Pictures
    generator: AnyGenerator
    average: RunningAverage
    """Of the generator's weights: what is validated and kept, and what the next stage begins with."""
    should_stop: Callable[[], bool]
    given: Given
    waiting: Mapping[str, nn.Module]
    """A discriminator that began with given weights, by that name: it is in checkpoints even before its stage comes."""
    log: RunLog | None = None
    """None in all processes but the first, which alone writes files."""
    passed_over: tuple[Path, ...] = ()
    """Checkpoints that are damaged."""
    untold: list[str] = field(default_factory=list[str])
    """Notes for the next `Progress`."""

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which as many crops are seen as there are pictures, each with its reductions being one."""
        return self.pictures.train.num_pictures / self.recipe.data.batch_size

    def in_steps(self, span: int | str) -> int:
        """A recipe's span of time as a number of steps."""
        return span_in_steps(span, steps_per_epoch=self.steps_per_epoch)


def train(
    recipe: str | Path | Recipe,
    *,
    data: str | Path | Sequence[str | Path],
    valid: str | Path | None = None,
    run_dir: str | Path,
    overrides: Sequence[str] = (),
    features: str | Path | None = None,
    init: str | None = None,
    resume: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    minutes: float = math.inf,
    should_stop: Callable[[], bool] = lambda: False,
    watch_decoding: Watch = in_silence,
    command: Sequence[str] = (),
) -> Iterator[Progress]:
    """Run the stages of a recipe and leave ``weights.safetensors`` in ``run_dir``, of as far as it came.

    Args:
        recipe: a bundled recipe's name, a path, or a `Recipe`.
        data: training pictures: folders, shards, URLs, files (see `crispen.training.sources`), one or several.
        valid: pictures to validate on; none skips validation.
        run_dir: where checkpoints, log, previews and weights go; must hold no run unless ``resume``.
        overrides: ``key.of.a.table=value`` over what the recipe says.
        features: a file with the weights of the recipe's feature network, or a folder of such files.
        init: weights to start from, over what the recipe says: a model's name, a model's or run's folder, a file. A run
            that goes on has its weights in its checkpoint.
        resume: go on from the newest checkpoint in ``run_dir``.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        minutes: how long to train; then it ends as with ``should_stop``.
        should_stop: asked after each step; once it says yes, a checkpoint and the weights so far are written and the
            iteration ends.
        watch_decoding: where pictures are used for the first time, takes the iterable that decodes them one by one, and
            their number if it is known: the place to draw a bar. Must take them all.
        command: the command line, for the run's records.

    Yields:
        A `Progress` after each step; and one without numbers where there is something to note, but no step left.

    Raises:
        RecipeError, UsageError, DataError, ModelError: each before the first step.
        TrainingError: likewise; where a loss is no longer a number, or a file cannot be written; and where the recipe
            stops a run that is in trouble, once its checkpoint and weights are written.
    """
    data = [data] if isinstance(data, str | Path) else data
    run_dir, features = Path(run_dir), None if features is None else Path(features)
    if math.isnan(minutes):
        raise UsageError("minutes must be a number, not nan")
    recipe = load_recipe(recipe, overrides=overrides)
    fabric = make_fabric(device=device, precision=recipe.precision, strategy=recipe.strategy)
    _check_parts(recipe, fabric)
    with contextlib.ExitStack() as held:
        if fabric.is_global_zero:
            held.enter_context(alone_in(run_dir))
        checkpoint = find_checkpoint(run_dir, chosen_stages(recipe), resume=resume)
        check_existence([*data, valid] if valid else data)
        source = None if checkpoint else init or recipe.generator.init  # all is in the checkpoint
        start = find_start(source) if source else None
        networks = make_networks(recipe, start=start, features=features, fabric=fabric)
        with fabric.rank_zero_first():  # which decodes the pictures for all
            cache = run_dir.parent / "cache"
            pictures = open_pictures(
                recipe, data, valid, features=networks.features, cache=cache, device=fabric.device,
                watch=watch_decoding,
            )  # fmt: skip
        memory.keep_freed_memory()
        generator = cast(AnyGenerator, networks.generator.module)
        end = time.monotonic() + 60 * minutes
        run = Run(
            recipe=recipe, run_dir=run_dir, fabric=fabric, pictures=pictures, generator=generator,
            average=RunningAverage(generator), should_stop=lambda: should_stop() or time.monotonic() > end,
            passed_over=checkpoint.damaged if checkpoint else (), waiting=_waiting(networks, start, checkpoint),
            given=Given(
                data=tuple(map(str, data)), valid=None if valid is None else str(valid), init=init,
                command=tuple(command),
            ),
        )  # fmt: skip

        _check_warmups(run)
        stages = _stages(run, networks, checkpoint)
        stage = next(stages, None)
        run.untold.extend(warn_of_emulation(fabric) + _opening_notes(run, checkpoint))
        if fabric.is_global_zero:
            run.untold.extend(remove_unused(cache))
            log = _open_run_dir(run, resume_at=checkpoint)
            held.callback(log.close)
            run = replace(run, log=log)
        trouble = ""
        while stage:
            stopped, trouble = yield from _train_stage(run, stage)
            _save_networks(run, stage, run_dir)
            if stopped and stage.name == "classifier":
                break  # the generator has learnt nothing yet
            stage = None if stopped else next(stages, None)
        else:
            _save_generator(run, run_dir / GENERATOR_FILE)
    leave(fabric)
    if trouble:
        raise TrainingError(f"{trouble}; {_what_stands(run)}, and the weights so far are in {run_dir}")


def _check_warmups(run: Run) -> None:
    """Refuse a warm-up that leaves nothing of its stage, which in epochs shows only once the pictures are known."""
    for table in chosen_stages(run.recipe).values():
        for problem in warmup_contradictions(table, steps=run.in_steps(table.steps)):
            raise RecipeError(problem)


def _waiting(networks: Networks, start: Start | None, checkpoint: Checkpoint | None) -> dict[str, nn.Module]:
    """The discriminator, if it began with given weights: a new one follows from the seed."""
    given = checkpoint.holds("discriminator") if checkpoint else bool(start and start.discriminator)
    return {"discriminator": networks.discriminator.module} if networks.discriminator and given else {}


def _stages(run: Run, networks: Networks, checkpoint: Checkpoint | None) -> Iterator[Stage]:
    """Make each stage of a run when its turn comes, the first in the state of the checkpoint.

    A stage begins with what the one before it has left, which is the running average.
    """
    for name, table in chosen_stages(run.recipe).items():
        if checkpoint and STAGES.index(name) < STAGES.index(checkpoint.position.stage):
            continue
        stage = make_stage(name, run.recipe, networks, run_dir=run.run_dir, fabric=run.fabric)
        if checkpoint:
            check_steps(checkpoint, steps=run.in_steps(table.steps))
            checkpoint.restore(_learnt(run, stage), stage.optimizers, loss_scaler(run.fabric))
            stage = replace(stage, done=checkpoint.position.step)
        checkpoint = None
        yield stage
        run.average.give_to(run.generator)


def _train_stage(run: Run, stage: Stage) -> Generator[Progress, None, tuple[bool, str]]:
    """Do the steps of a stage that are left; return whether it was stopped, and the trouble that it was stopped for."""
    recipe, fabric = run.recipe, run.fabric
    first, steps = stage.done, run.in_steps(stage.table.steps)
    health = HealthMonitor(gradients_may_overflow=loss_scaler(fabric) is not None)
    last_checkpoint = time.monotonic()
    if first == steps and run.untold:
        yield _standing(run, stage)

    with contextlib.closing(prefetched(_batches(run, stage), range(first, steps))) as batches:
        for step, batch in enumerate(batches, first):
            _seed_torch(run, stage, step)
            learning_rate = learning_rate_at(step, stage.table, steps=steps)
            scalars = stage.update(step, _on(fabric, batch), learning_rate)
            if (step + 1) % RENEWED_EVERY == 0:
                stage.renew_ties()
            if stage.trains_generator(step):
                run.average.update(run.generator, decay=decay_at(step, decay=recipe.ema_decay))

            done = step + 1
            epoch = done / run.steps_per_epoch
            validation = _look(run, stage, done, steps)
            progress = Progress(stage.name, done, steps, epoch, learning_rate, scalars, validation)
            troubles = health.check(progress)
            progress = replace(progress, notes=(*_told(run), *(trouble.message for trouble in troubles)))
            if run.log:
                run.log.write(progress)
            for trouble in troubles:
                if trouble.fatal:
                    raise TrainingError(f"{trouble.message}; {_what_stands(run)}")
            _keep_snapshot(run, stage, done)

            minutes = (time.monotonic() - last_checkpoint) / 60
            serious = [trouble.message for trouble in troubles if not trouble.early]
            in_trouble = bool(serious) and recipe.on_trouble == "stop"
            flags = [done < steps and run.should_stop(), minutes > recipe.checkpoint_minutes, in_trouble]
            stopping, is_time, in_trouble = _set_anywhere(flags, fabric)
            if stopping or is_time or in_trouble or done == steps:
                _save_checkpoint(run, stage, done)
                last_checkpoint = time.monotonic()
            if in_trouble:
                return True, "; ".join(serious) or "the run is in trouble, as its first process says"
            yield progress
            if stopping:
                return True, ""
    return False, ""


def _check_parts(recipe: Recipe, fabric: Fabric) -> None:
    """Raise `UsageError` where a batch cannot be taken in as many parts as there are processes, times accumulate."""
    parts = fabric.world_size * recipe.accumulate
    for contradiction in parts_contradictions(recipe, parts=parts, called="processes times accumulate"):
        raise UsageError(contradiction)


def _open_run_dir(run: Run, *, resume_at: Checkpoint | None) -> RunLog:
    """Write down what this run is, and open its log where the checkpoint left it."""
    recipe_json = run.recipe.model_dump_json(indent=2)
    if resume_at:
        steps = _steps_at(run, resume_at)
        recipe_json = recipe_as_done(run.run_dir, run.recipe, resume_at, steps=steps)
    write_run_info(
        run.run_dir, recipe_json, run.given, seed=run.recipe.seed, precision=precision_of(run.fabric)
    )
    position = (resume_at.position.stage, resume_at.position.step) if resume_at else None
    return RunLog(run.run_dir, tensorboard=run.recipe.tensorboard, resume_at=position)


def _opening_notes(run: Run, checkpoint: Checkpoint | None) -> list[str]:
    """What whoever watches should know before the first step."""
    parts = (run.pictures.train, run.pictures.valid)
    skipped = [line for part in parts if part for line in part.skipped]
    notes = [f"left out {line}" for line in skipped[:MOST_SKIPPED_TOLD]]
    if len(skipped) > MOST_SKIPPED_TOLD:
        notes.append(f"left out {len(skipped) - MOST_SKIPPED_TOLD} more pictures")
    if not checkpoint:
        notes += _notes_on_warmups(run)
    named = Counter(run.given.data)
    notes += [
        f"{source} is named {times} times and counts once" for source, times in named.items() if times > 1
    ]
    if checkpoint:
        steps = _steps_at(run, checkpoint)
        notes += notes_on_resuming(run.run_dir, run.recipe, checkpoint, steps=steps)
        notes += changed_pictures(run.run_dir, run.given) + changed_start(run.run_dir, run.given)
    return notes


def _notes_on_warmups(run: Run) -> Iterator[str]:
    """A sentence for each stage that is too short for its learning rate to get to where it is to go."""
    for name, table in chosen_stages(run.recipe).items():
        steps = run.in_steps(table.steps)
        if table.warmup_steps >= steps:
            yield (
                f"the {steps} steps of stage.{name} end in the warm-up of the learning rate: "
                f"warmup_steps is {table.warmup_steps}"
            )


def _steps_at(run: Run, checkpoint: Checkpoint) -> int:
    """The steps of the stage in which a checkpoint was written."""
    return run.in_steps(chosen_stages(run.recipe)[checkpoint.position.stage].steps)


def _standing(run: Run, stage: Stage) -> Progress:
    """Where a run stands that has no step left in a stage: what has been noted is told with it."""
    learning_rate = learning_rate_at(stage.done - 1, stage.table, steps=stage.done)
    epoch = stage.done / run.steps_per_epoch
    return Progress(stage.name, stage.done, stage.done, epoch, learning_rate, {}, notes=tuple(_told(run)))


def _what_stands(run: Run) -> str:
    """What a run that ends early has left."""
    if has_checkpoint(run.run_dir):
        return f"the newest checkpoint is in {run.run_dir / FOLDER}"
    return "there is no checkpoint yet"


def _told(run: Run) -> list[str]:
    """Take the notes that nobody has been told yet."""
    notes = list(run.untold)
    run.untold.clear()
    return notes


def _batches(run: Run, stage: Stage) -> Callable[[int], Batch]:
    """This process' part of the batch of each step."""
    seed = len(STAGES) * run.recipe.seed + STAGES.index(stage.name)  # no two stages of any two seeds alike
    part = (run.fabric.global_rank, run.fabric.world_size)
    arguments = run.recipe.data.of_batches()
    return lambda step: run.pictures.train.batch(seed=seed, step=step, part=part, **arguments)


def _seed_torch(run: Run, stage: Stage, step: int) -> None:
    """Make what torch draws by itself, dropout's masks, follow from (seed, step), too."""
    origin = [run.recipe.seed, STAGES.index(stage.name), step, run.fabric.global_rank]
    torch.manual_seed(int(np.random.SeedSequence(origin).generate_state(1)[0]))


def _on(fabric: Fabric, batch: Batch) -> Batch:
    """The batch on the device."""
    labels = None if batch.labels is None else batch.labels.to(fabric.device)
    return Batch(batch.lr.to(fabric.device), batch.hr.to(fabric.device), labels)


def _look(run: Run, stage: Stage, done: int, steps: int) -> Scalars:
    """Preview and validate where it is time to; return what was measured."""
    if done % run.in_steps(run.recipe.validate_every) and done != steps:
        return {}
    is_classifier = stage.name == "classifier"
    learner = stage.modules["classifier" if is_classifier else "generator"]
    tensors = state_of(learner) if is_classifier else run.average.tensors
    tensors = gathered(tensors, keep=run.fabric.is_global_zero)  # from all processes, and seen by the first
    if not run.fabric.is_global_zero:
        return {}
    network = building.make_copy(learner, tensors, run.fabric)
    if not is_classifier:
        _preview(run, network, f"{stage.name}-{done:08d}")
    valid, degraded = run.pictures.valid, run.pictures.degraded
    if valid is None:
        return {}
    if is_classifier:
        return validate_classifier(network, valid, fabric=run.fabric)
    return validate(network, valid, degraded=degraded, judges=stage.judges, fabric=run.fabric)


def _preview(run: Run, generator: nn.Module, name: str) -> None:
    """Write a sheet of clean pictures and, where the recipe has a degradation, one of the same pictures spoilt."""
    folder, forward = run.run_dir / "previews", _enlarging(generator, run.fabric)
    write_previews(generator, run.pictures.shown, folder, name=name, forward=forward)
    if run.pictures.degraded is not None:
        write_previews(generator, run.pictures.degraded, folder, name=f"{name}-degraded", forward=forward)


def _keep_snapshot(run: Run, stage: Stage, done: int) -> None:
    """Keep the networks where it is time to."""
    every = run.recipe.snapshot_every
    if every is not None and done % run.in_steps(every) == 0:
        _save_networks(run, stage, run.run_dir / "snapshots", at=done)


def _enlarging(generator: nn.Module, fabric: Fabric) -> Callable[[Tensor], Tensor]:
    """A generator as a function, in the run's precision."""

    def enlarge(lr: Tensor) -> Tensor:
        with fabric.autocast():
            return cast(Tensor, generator(lr.to(fabric.device))).float()

    return enlarge


def _learnt(run: Run, stage: Stage) -> dict[str, dict[str, Tensor]]:
    """What a run has learnt but for optimisers: networks and the running average, tensors by name."""
    networks = {name: state_of(module) for name, module in {**run.waiting, **stage.modules}.items()}
    return {**networks, "ema": run.average.tensors}


def _save_checkpoint(run: Run, stage: Stage, done: int) -> None:
    """Gather what all processes have, and let the first write it."""
    state = state_to_save(_learnt(run, stage), stage.optimizers)
    tensors = gathered(state, keep=run.fabric.is_global_zero)
    if run.fabric.is_global_zero:
        position, scaler = Position(stage.name, done), loss_scaler(run.fabric)
        save_checkpoint(
            run.run_dir,
            position,
            tensors,
            scaler=scaler,
            keep=run.recipe.keep_checkpoints,
            damaged=run.passed_over,
        )
        for dataset in (run.pictures.train, run.pictures.valid):
            if dataset is not None:
                dataset.mark_used()


def _save_networks(run: Run, stage: Stage, folder: Path, *, at: int | None = None) -> None:
    """Keep what a stage has made: its generator (the running average) or classifier, and its discriminator."""
    if run.fabric.is_global_zero:
        with writing(folder):
            folder.mkdir(exist_ok=True)
    suffix = ".safetensors" if at is None else f"-{at:08d}.safetensors"
    for name, module in stage.modules.items():
        if name == "generator":
            _save_generator(run, folder / f"{stage.name}{suffix}")
            continue
        tensors = gathered(state_of(module), keep=run.fabric.is_global_zero)
        if run.fabric.is_global_zero:
            path = folder / f"{name}{suffix}"
            with writing(path):
                save_tensors(tensors, path, metadata={})
    run.fabric.barrier()


def _save_generator(run: Run, path: Path) -> None:
    """Write the running average as the generator that it is."""
    tensors = gathered(run.average.tensors, keep=run.fabric.is_global_zero)
    if run.fabric.is_global_zero:
        generator = building.make_copy(run.generator, tensors, run.fabric)
        with writing(path):
            save_generator(cast(AnyGenerator, generator), path)


def _set_anywhere(flags: Sequence[bool], fabric: Fabric) -> list[bool]:
    """Which of the flags are set in any process, so that all processes do the same."""
    if fabric.world_size == 1:
        return list(flags)
    own = torch.tensor(flags, dtype=torch.float32, device=fabric.device)
    return [bool(count > 0) for count in cast(Tensor, fabric.all_reduce(own, reduce_op="sum"))]
