"""The log of a run: one line of JSON for each step worth a line, and the same for TensorBoard where asked.

``log.jsonl`` is the record that `crispen.training.plots` draws. A line holds the time (seconds since 1970), stage,
step, epoch, learning rate, seconds per step, and every number of the step and its validation by name. JSON has no
word for NaN and infinity, so those stand as the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from crispen.errors import DataError, TrainingError, UsageError, require
from crispen.files import published
from crispen.training.progress import Progress, Scalars

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

NAME = "log.jsonl"
TENSORBOARD = "tensorboard"
"""Folder of TensorBoard's files in a run folder; each stage is a run of its own in it, as steps begin anew."""

MOST_STEPS_PER_LINE = 50
LINES_PER_STAGE = 200
"""A stage too short to reach this many lines has a line more often than every 50 steps."""

_NOT_SCALARS = ("time", "stage", "step", "epoch", "learning_rate", "seconds_per_step", "notes")
_NAME_OF = {math.inf: "Infinity", -math.inf: "-Infinity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the log."""

    stage: str
    """``classifier``, ``pretrain`` or ``gan``."""
    step: int
    """Updates of the stage that were done, from 1."""
    time: float | None = None
    """When, in seconds since 1970."""
    epoch: float | None = None
    """Passes over the data that the stage had done; logs of crispen 0.1 do not say."""
    learning_rate: float | None = None
    """At this step."""
    seconds_per_step: float | None = None
    """Wall time per step since the line before, validation and checkpoints included; None after a (re)start."""
    scalars: Scalars = field(default_factory=dict[str, float])
    """Losses and other numbers of the step, and those of its validation (``valid_…``)."""
    notes: tuple[str, ...] = ()
    """What was said to whoever watched."""


class RunLog:
    """Appends to ``log.jsonl`` in a run folder.

    What a killed process has left is put right first: a half-written last line goes, and so do the lines after the
    checkpoint that the run goes on from, whose steps will be done again. So each step has one line.

    Args:
        run_dir: the run's folder; must exist.
        tensorboard: write for TensorBoard, too.
        resume_at: stage and step of the checkpoint that the run goes on from; None begins a new log.

    Raises:
        MissingExtra: where ``tensorboard`` is asked for and not installed.
        DataError: where there is a log to go on with and it is damaged.
        TrainingError: where it cannot be written.
    """

    def __init__(
        self, run_dir: Path, *, tensorboard: bool = False, resume_at: tuple[str, int] | None = None
    ) -> None:
        self.path = run_dir / NAME
        self._resume_at = resume_at
        self._board = run_dir / TENSORBOARD if tensorboard else None
        self._writers: dict[str, SummaryWriter] = {}
        self._last_line: float | None = None
        self._steps_since = 0
        if tensorboard:
            require("tensorboard", purpose="logging for TensorBoard")
        if self.path.exists():
            _cut(self.path, resume_at)

    def write(self, progress: Progress) -> None:
        """Add a line where the step is worth one; to be called after every step.

        Worth a line are every 50th step (of short stages, more), each with a validation or with notes, and the last.
        Raises `TrainingError` where the log cannot be written, as on a full disk.
        """
        self._steps_since += self._last_line is not None
        if self._last_line is None:
            self._last_line = time.monotonic()
        if not _is_worth_a_line(progress):
            return
        line = _to_line(progress, self._seconds_per_step())
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        if self._board:
            self._write_to_tensorboard(self._board, progress)

    def close(self) -> None:
        """Let TensorBoard's writers finish."""
        for writer in self._writers.values():
            writer.close()

    def _seconds_per_step(self) -> float | None:
        """Wall time per step since this was last asked; None where no step was made since."""
        assert self._last_line is not None, "the first step sets it"
        now, steps = time.monotonic(), self._steps_since
        seconds = (now - self._last_line) / steps if steps else None
        self._last_line, self._steps_since = now, 0
        return seconds

    def _write_to_tensorboard(self, board: Path, progress: Progress) -> None:
        if progress.stage not in self._writers:
            self._writers[progress.stage] = self._make_writer(board, progress.stage)
        writer = self._writers[progress.stage]
        numbers = progress.scalars | progress.validation | {"learning_rate": progress.learning_rate}
        for name, value in numbers.items():
            writer.add_scalar(name, value, progress.step)
        for note in progress.notes:
            writer.add_text("notes", note, progress.step)

    def _make_writer(self, board: Path, stage: str) -> SummaryWriter:
        """Open a stage's writer; what it wrote after the point that the run goes on from is hidden."""
        from torch.utils.tensorboard.writer import SummaryWriter

        done = self._resume_at[1] if self._resume_at and self._resume_at[0] == stage else 0
        return SummaryWriter(str(board / stage), purge_step=done + 1)


def read_log(run_dir: Path) -> list[Entry]:
    """Read the log of a run, also of one that is running or was killed: a half-written last line is left out.

    Raises:
        UsageError: where ``run_dir`` is no folder with a log.
        DataError: where a line before the last is not what a run writes.
    """
    path = run_dir / NAME
    if not path.is_file():
        raise UsageError(f"{run_dir} is not the folder of a training run: it has no {NAME}")
    return [_to_entry(line, f"line {number} of {path}") for number, line in enumerate(_lines(path), 1)]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that it is there whole or not at all.

    Its folder is made if need be. Raises `TrainingError` where that fails.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with published(path, error=TrainingError) as temporary:
        temporary.write_bytes(content)


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn the system's refusal to write a file into one sentence, a `TrainingError`."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror or error}") from error


def _is_worth_a_line(progress: Progress) -> bool:
    interval = min(MOST_STEPS_PER_LINE, max(1, progress.steps // LINES_PER_STAGE))
    last = progress.step == progress.steps
    return bool(progress.step % interval == 0 or progress.validation or progress.notes or last)


def _to_line(progress: Progress, seconds_per_step: float | None) -> str:
    line: dict[str, Any] = {
        "time": round(time.time(), 1),
        "stage": progress.stage,
        "step": progress.step,
        "epoch": round(progress.epoch, 4),
        "learning_rate": progress.learning_rate,
    }
    if seconds_per_step is not None:
        line["seconds_per_step"] = round(seconds_per_step, 4)
    for name, value in (progress.scalars | progress.validation).items():
        line[name] = value if math.isfinite(value) else _NAME_OF.get(value, "NaN")
    if progress.notes:
        line["notes"] = progress.notes
    return json.dumps(line, allow_nan=False) + "\n"


def _to_entry(line: str, place: str) -> Entry:
    try:
        values = cast("dict[str, Any]", json.loads(line))
        return Entry(
            stage=str(values["stage"]),
            step=int(values["step"]),
            time=values.get("time"),
            epoch=values.get("epoch"),
            learning_rate=values.get("learning_rate"),
            seconds_per_step=values.get("seconds_per_step"),
            scalars={name: float(value) for name, value in values.items() if name not in _NOT_SCALARS},
            notes=tuple(values.get("notes", ())),
        )
    except KeyError as error:
        raise DataError(f"{place} is not a line of a training log: it has no {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{place} is not a line of a training log: {error}") from error


def _lines(path: Path) -> list[str]:
    """The whole lines of a log; what a killed process has left of a last one is left out."""
    return path.read_bytes().rpartition(b"\n")[0].decode(errors="replace").splitlines()


def _cut(path: Path, resume_at: tuple[str, int] | None) -> None:
    """Leave only the whole lines up to the point that the run goes on from; none where it begins anew."""
    lines = _lines(path) if resume_at else []
    entries = [_to_entry(line, f"line {number} of {path}") for number, line in enumerate(lines, 1)]
    stages = list(dict.fromkeys(entry.stage for entry in entries))
    kept = [
        f"{line}\n"
        for line, entry in zip(lines, entries, strict=True)
        if resume_at and not _is_after(entry, resume_at, stages)
    ]
    write_whole(path, "".join(kept).encode())


def _is_after(entry: Entry, position: tuple[str, int], stages: list[str]) -> bool:
    """Whether a line's step comes after a position, given the stages of the log in their order."""
    stage, step = position
    if entry.stage == stage:
        return entry.step > step
    return stage in stages and stages.index(entry.stage) > stages.index(stage)
