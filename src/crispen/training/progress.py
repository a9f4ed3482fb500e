"""What a training run reports after each step; bars, logs, plots and the health monitor all read this."""

from __future__ import annotations

from dataclasses import dataclass, field

Scalars = dict[str, float]
"""Numbers by name, as ``pixel_loss`` or ``valid_psnr``."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What one step did: its place in the run, and its numbers."""

    stage: str
    """``classifier``, ``pretrain`` or ``gan``."""
    step: int
    """Updates of the stage that are done, from 1."""
    steps: int
    """Updates that the stage has in all."""
    epoch: float
    """Passes over the data that the stage has done: step · batch_size / pictures."""
    learning_rate: float
    """The generator's (in the stage ``classifier``, the classifier's) at this step."""
    scalars: Scalars
    """Losses and other numbers of this step."""
    validation: Scalars = field(default_factory=dict[str, float])
    """Numbers on the validation pictures; empty where this step was not followed by a validation."""
    notes: tuple[str, ...] = ()
    """Sentences for whoever watches: pictures left out, a damaged checkpoint, a run that looks unhealthy."""
