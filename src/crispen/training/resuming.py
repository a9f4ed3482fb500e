"""Whether a run may begin or go on in its folder: nobody else is there, and what was done fits the recipe."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from crispen.errors import TrainingError
from crispen.files import held_elsewhere
from crispen.training.checkpoint import STAGES, Checkpoint, has_checkpoint, newest_checkpoint
from crispen.training.environment import changed_keys, recorded_recipe
from crispen.training.recipe import Recipe
from crispen.training.starting import GENERATOR_FILE

LOCK = ".lock"
"""In a run's folder while a process trains there."""


@contextmanager
def alone_in(run_dir: Path) -> Generator[None]:
    """Hold a run's folder, which is made with those above if need be, and goes again if nothing was put into it.

    Raises:
        TrainingError: where another process holds it, or it cannot be made.
    """
    new = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = (run_dir / LOCK).open("ab")
    except OSError as error:
        raise TrainingError(f"{run_dir} cannot be written to: {error.strerror or error}") from error
    with lock:
        if held_elsewhere(lock) or not _is_at(run_dir / LOCK, lock):
            raise TrainingError(
                f"another process is training in {run_dir}: wait for its end, or choose another --run-dir"
            )
        try:
            yield
        finally:
            with suppress(OSError):  # not every system removes an open file, and the folder may have files
                (run_dir / LOCK).unlink()
                for folder in new:
                    folder.rmdir()


def find_checkpoint(run_dir: Path, stages: Collection[str], *, resume: bool) -> Checkpoint | None:
    """The checkpoint that a run goes on from; None for a run that begins.

    Raises:
        TrainingError: where there is none to resume, or one that would be overwritten; and where it is of a stage that
            is not among ``stages``, the recipe's.
    """
    if not resume and (has_checkpoint(run_dir) or (run_dir / GENERATOR_FILE).exists()):
        raise TrainingError(
            f"{run_dir} holds a run already: add --resume to go on with it, or choose another --run-dir"
        )
    checkpoint = newest_checkpoint(run_dir) if resume else None
    if resume and not checkpoint:
        raise TrainingError(f"there is no checkpoint in {run_dir} to resume from")
    if checkpoint and checkpoint.position.stage not in stages:
        stage = checkpoint.position.stage
        raise TrainingError(
            f"the run in {run_dir} has come to stage {stage}, and the recipe has no [stage.{stage}]:"
            " resume it with its own recipe"
        )
    return checkpoint


def check_steps(checkpoint: Checkpoint, *, steps: int) -> None:
    """Raise `TrainingError` where a checkpoint lies beyond the ``steps`` that the recipe has for its stage."""
    stage, done = checkpoint.position.stage, checkpoint.position.step
    if done > steps:
        raise TrainingError(
            f"{checkpoint.path} has {done} steps done, but the recipe ends the stage {stage} after {steps}: "
            f"set stage.{stage}.steps to as many or more, or start another run from this one with --init"
        )


def notes_on_resuming(run_dir: Path, recipe: Recipe, checkpoint: Checkpoint, *, steps: int) -> list[str]:
    """What is not as it was when the run was left: newer checkpoints that are damaged, and what its recipe says."""
    notes = [f"{path.name} is damaged: going on from {checkpoint.path.name}" for path in checkpoint.damaged]
    recorded = _as_of_today(recorded_recipe(run_dir))
    for key, change in changed_keys(recorded, recipe.model_dump(mode="json")).items():
        late = _late_for(key, checkpoint, steps)
        too_late = f", too late for {late}" if late else ""
        notes.append(f"the run goes on with another recipe than before: {change}{too_late}")
    return notes


def _as_of_today(recorded: dict[str, Any]) -> dict[str, Any]:
    """A recipe on record, with the defaults of keys that came later than it."""
    try:
        return Recipe.model_validate(recorded).model_dump(mode="json") if recorded else recorded
    except ValidationError:
        return recorded


def recipe_as_done(run_dir: Path, recipe: Recipe, checkpoint: Checkpoint, *, steps: int) -> str:
    """A recipe as JSON for the record of a run that goes on: its start and finished stages stand in it as they were."""
    now, recorded = recipe.model_dump(mode="json"), recorded_recipe(run_dir)
    now["generator"]["init"] = recorded.get("generator", now["generator"]).get("init")
    before = recorded.get("stage", {})
    for stage in STAGES[: STAGES.index(checkpoint.position.stage)]:
        now["stage"][stage] = before.get(stage, now["stage"][stage])
    stage = checkpoint.position.stage
    if checkpoint.position.step == steps and before.get(stage):
        now["stage"][stage] = before[stage] | {"steps": now["stage"][stage]["steps"]}
    return json.dumps(now, indent=2)


def _late_for(key: str, checkpoint: Checkpoint, steps: int) -> str:
    """What a key of the recipe comes too late for; nothing where it does not."""
    if key == "generator.init":
        return "weights that come from the checkpoint"
    return "a stage that is finished" if _is_of_finished_stage(key, checkpoint, steps) else ""


def _is_of_finished_stage(key: str, checkpoint: Checkpoint, steps: int) -> bool:
    """Whether a key of the recipe is of a stage in which nothing is left to do."""
    own, done = checkpoint.position.stage, checkpoint.position.step
    table, _, rest = key.partition(".")
    stage = rest.partition(".")[0]
    if table != "stage":
        return False
    if stage == own:
        return done == steps and key != f"stage.{own}.steps"
    return STAGES.index(stage) < STAGES.index(own)


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether an open file still has its name, which another process takes away when it ends."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False
