"""What a run leaves to be read: the recipe as resolved, and one line of JSON for each step worth a line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crispen.training.loop import Progress
    from crispen.training.recipe import Recipe

EVERY = 50
"""Steps between two lines without validation."""


class RunLog:
    """Appends to ``log.jsonl`` in a run folder."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "log.jsonl"

    def write(self, progress: Progress) -> None:
        """Add a line for every `EVERY`-th step, each validation and the last step."""
        if progress.step % EVERY and not progress.validation and progress.step != progress.steps:
            return
        line = {
            "time": round(time.time(), 1),
            "stage": progress.stage,
            "step": progress.step,
            "learning_rate": progress.learning_rate,
            **progress.scalars,
            **progress.validation,
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def write_recipe(run_dir: Path, recipe: Recipe) -> None:
    """Keep the recipe as the run has it, overrides included, in ``recipe.json``."""
    (run_dir / "recipe.json").write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")
