"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from crispen.training.recipe import StageTable


def learning_rate_at(step: int, table: StageTable, *, steps: int) -> float:
    """The optimiser's learning rate for the update after ``step`` of a stage's ``steps`` updates."""
    warmup = min(1.0, (step + 1) / (table.warmup_steps + 1))
    progress = step / steps
    match table.schedule:
        case "constant":
            decay = 1.0
        case "cosine":
            decay = 0.5 * (1 + math.cos(math.pi * progress))
        case "halves":
            decay = 1.0 if progress < 0.5 else 0.1
    return table.learning_rate * warmup * decay
