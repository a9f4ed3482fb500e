"""What commands show: bars for long jobs, tables, and errors of one line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.table import Table

PIPED_WIDTH = 160
"""Columns of a table that is not shown on a terminal."""


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads along; None is what Python has for a stream that is closed from the start."""
    return stream is not None and stream.isatty()


def follow(steps: Iterable[object], *, total: int | None, label: str) -> None:
    """Take all steps of a long job, with a bar where there is a terminal; ``total`` is None where nobody knows it."""
    with bars() as drawn:
        for _ in drawn.track(steps, total=total, description=label):
            pass


def bars(*, speed: bool = False) -> Bars:
    """Bars on stderr, gone when done; none where stderr is no terminal. ``speed`` adds steps per second."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20 if speed else 40),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    if speed:
        columns.append(TextColumn("{task.speed:.2g} steps/s"))
    return Bars(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not is_terminal(sys.stderr),
        redirect_stdout=is_terminal(sys.stdout),  # a piped stdout must go on getting its lines
        redirect_stderr=False,
    )


def show(table: Table) -> None:
    """Print a table as wide as the terminal, or as `PIPED_WIDTH`."""
    from rich.console import Console

    Console(width=None if is_terminal(sys.stdout) else PIPED_WIDTH).print(table)


def say_error(error: Exception | str) -> None:
    """Say in one line on stderr what went wrong."""
    _say("error", str(error))


def say_note(note: str) -> None:
    """Say in one line on stderr what should be known."""
    _say("note", note)


def say_that_all_answers_are_one(model: str) -> None:
    """Say why there is no ``--ensemble``."""
    say_note(
        f"{model} enlarges a turned picture to the same, turned: --ensemble would gain nothing and is left out"
    )


def _say(kind: str, sentence: str) -> None:
    line = " ".join(sentence.splitlines())
    # Named, as a bar may have put itself in its place; and where there is none, nothing goes to the standard output.
    typer.echo(f"crispen: {kind}: {line}", file=sys.stderr, err=True)
