"""What a run folder says about where its numbers come from: ``recipe.json`` and ``environment.json``."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import crispen
from crispen.errors import DataError
from crispen.training.run_log import write_whole

RECIPE, ENVIRONMENT = "recipe.json", "environment.json"

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a run is started with besides its recipe."""

    data: tuple[str, ...]
    """Where the training pictures are."""
    valid: str | None = None
    """Where those to validate on are."""
    init: str | None = None
    """The weights to start from, over what the recipe says."""
    command: tuple[str, ...] = ()
    """The command line; empty where the run was started from Python."""


def write_run_info(run_dir: Path, recipe_json: str, given: Given, *, seed: int, precision: str) -> None:
    """Keep the recipe as the run has it, overrides included, and add this start to ``environment.json``.

    That file is a list with one entry per start, the first start first: versions, machine, git commit of the working
    directory, seed, precision, what was given, time (UTC), and the SHA-256 of the recipe, which shows where a resumed
    run has another one than before.

    Args:
        run_dir: the run's folder; made if need be.
        recipe_json: the recipe with every default filled in.
        given: what else the run is started with.
        seed: what all randomness of the run follows from.
        precision: what the networks compute in on this machine.

    Raises:
        DataError: where there is an ``environment.json`` that was not written by this function.
        TrainingError: where a file cannot be written.
    """
    starts = _read_starts(run_dir / ENVIRONMENT)
    recipe = recipe_json.rstrip("\n") + "\n"
    start = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(given.command),
        "working_directory": str(Path.cwd()),
        "data": list(given.data),
        "valid": given.valid,
        "init": given.init,
        "seed": seed,
        "precision": precision,
        "recipe_sha256": hashlib.sha256(recipe.encode()).hexdigest(),
        "git": describe_git(Path.cwd()),
        "versions": describe_versions(),
        "machine": describe_machine(),
    }
    write_whole(run_dir / RECIPE, recipe.encode())
    write_whole(run_dir / ENVIRONMENT, (json.dumps([*starts, start], indent=2) + "\n").encode())


def recorded_recipe(run_dir: Path) -> dict[str, Any]:
    """The recipe that a run's folder has on record; empty where there is none that can be read."""
    try:
        recipe = json.loads((run_dir / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        recipe = None
    return cast("dict[str, Any]", recipe) if isinstance(recipe, dict) else {}


def changed_keys(recorded: dict[str, Any], recipe: dict[str, Any]) -> dict[str, str]:
    """What a recipe says otherwise than the record of a run: by its key, ``stage.gan.steps is 5, was 3``."""
    before, now = _flattened(recorded), _flattened(recipe)
    changed = [key for key in {**before, **now} if before and before.get(key) != now.get(key)]
    return {key: f"{key} is {json.dumps(now.get(key))}, was {json.dumps(before.get(key))}" for key in changed}


def changed_pictures(run_dir: Path, given: Given) -> list[str]:
    """A sentence for each of ``--data`` and ``--valid`` that is another than at the last start of a run."""
    starts = _read_starts(run_dir / ENVIRONMENT)
    last = cast("dict[str, Any]", starts[-1] if starts and isinstance(starts[-1], dict) else {})
    notes: list[str] = []
    for option, now in (("data", given.data), ("valid", (given.valid,) if given.valid else ())):
        if option not in last:  # as in early records
            continue
        recorded = [last[option]] if isinstance(last[option], str) else last[option] or []
        before, present = _places(recorded, Path(last["working_directory"])), _places(now, Path.cwd())
        if before != present:
            what = f"--{option} is {' '.join(present) or 'nothing'}, was {' '.join(before) or 'nothing'}"
            notes.append(f"the run goes on with other pictures than before: {what}")
    return notes


def changed_start(run_dir: Path, given: Given) -> list[str]:
    """A sentence where ``--init`` is given, and is another than the last that a run was given."""
    dicts = [
        cast("dict[str, Any]", start)
        for start in _read_starts(run_dir / ENVIRONMENT)
        if isinstance(start, dict)
    ]
    starts = [start for start in dicts if "init" in start]  # early records have none
    if given.init is None or not starts:
        return []
    last = next((start for start in reversed(starts) if start["init"]), starts[-1])
    before, folder = last["init"] or "nothing", Path(last["working_directory"])
    if _terms(given.init, Path.cwd()) == _terms(before, folder):
        return []
    what = f"--init is {given.init}, was {before}, too late for weights that come from the checkpoint"
    return [f"the run goes on with another start than before: {what}"]


def _terms(init: str, folder: Path) -> list[str]:
    """The words of a start, those that are seen from a folder as they lie on this machine."""
    return [str((folder / word).resolve()) if (folder / word).exists() else word for word in init.split()]


def _places(sources: Iterable[str], folder: Path) -> list[str]:
    """Paths as they lie on this machine, seen from a folder, and URLs as they are; in order, each once."""
    return sorted({source if "://" in source else str((folder / source).resolve()) for source in sources})


def _flattened(table: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """A table of tables as one, with keys such as ``stage.gan.steps``."""
    flat: dict[str, object] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flattened(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def describe_versions() -> dict[str, str]:
    """The versions that numbers may depend on, by name."""
    return {
        "crispen": crispen.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def describe_machine() -> dict[str, str | int | list[str]]:
    """Operating system, processor, its cores, torch's threads, and the names of the GPUs."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def describe_git(folder: Path) -> dict[str, str | bool] | None:
    """The commit that ``folder`` is at, and whether tracked files differ from it; None outside of a repository."""
    commit = _git("rev-parse", "HEAD", folder=folder)
    changes = _git("status", "--porcelain", "--untracked-files=no", folder=folder)
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(*arguments: str, folder: Path) -> str | None:
    """What git says; None where it is not installed, or has nothing to say about the folder."""
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _cpu_model() -> str:
    """The processor's name; on Linux the one in ``/proc/cpuinfo``, as `platform.processor` knows none there."""
    lines = _CPUINFO.read_text(errors="replace").splitlines() if _CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _read_starts(path: Path) -> list[Any]:
    if not path.exists():
        return []
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        starts = None
    if not isinstance(starts, list):
        raise DataError(f"{path} is not the list of starts that crispen keeps there: move it away to go on")
    return cast("list[Any]", starts)
