"""The standard input and output in place of files: pictures are binary, and have to be read more than once."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crispen.cli.screen import is_terminal
from crispen.errors import UsageError

PIPE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Files in the place of pipes, where there are any."""

    inputs: Sequence[Path]
    output: str | None
    to_stdout: bool = False
    """Whether the result goes to the standard output, where nothing else may be said then."""
    folder: Path | None = None
    """Where these files are."""

    @property
    def any(self) -> bool:
        """Whether anything is a pipe."""
        return self.folder is not None

    def said(self, sentence: object) -> str:
        """Return a sentence without the names of these files."""
        return (
            str(sentence) if self.folder is None else str(sentence).replace(f"{self.folder}{os.sep}", "the ")
        )


@contextmanager
def piped(inputs: Sequence[str], output: str | None, *, format: str | None, frame: bool) -> Generator[Ends]:
    """Have the standard input in a file, and a file that is sent to the standard output if nothing is raised.

    Raises `UsageError` where that cannot be. ``inputs`` are as they were typed, as ``./-`` is a file; ``format`` is one
    of `crispen.images.FORMATS`, and ``frame`` says that a picture is made of a film.
    """
    from_stdin = list(inputs) == [PIPE]
    to_stdout = output == PIPE
    if PIPE in inputs and not from_stdin:
        raise UsageError("- must be the only input: the standard input holds one picture")
    paths = [Path(each) for each in inputs]
    if not (from_stdin or to_stdout):
        yield Ends(inputs=paths, output=output)
        return
    if from_stdin and output is None:
        raise UsageError(
            "-o must say where the result of - goes: a file, a folder, or - for the standard output"
        )
    if to_stdout:
        _check_stdout(paths, frame=frame)
    with tempfile.TemporaryDirectory(prefix="crispen-") as name:
        folder = Path(name)
        yield (ends := _ends(paths, output, folder, from_stdin=from_stdin, format=format))
        if to_stdout and ends.output is not None:
            with Path(ends.output).open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _ends(
    inputs: Sequence[Path], output: str | None, folder: Path, *, from_stdin: bool, format: str | None
) -> Ends:
    from crispen.upscaling.naming import picture_ext

    if from_stdin:
        if sys.stdin is None:
            raise UsageError("- is the standard input, which is closed: name a file, or send a picture to it")
        inputs = [folder / "standard input"]
        with inputs[0].open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    to_stdout = output == PIPE
    if to_stdout:
        output = str(folder / f"standard output.{picture_ext(format)}")
    return Ends(inputs=inputs, output=output, to_stdout=to_stdout, folder=folder)


def _check_stdout(inputs: Sequence[Path], *, frame: bool) -> None:
    from crispen.jobs import is_film

    if len(inputs) > 1 or os.path.isdir(inputs[0]):  # noqa: PTH112  # Path's raises where none may look
        raise UsageError("-o - must be for one picture: the standard output holds no more")
    if is_film(inputs[0]) and not frame:
        raise UsageError("-o - is for pictures: a film must be written to a file")
    if sys.stdout is None:
        raise UsageError("-o - is the standard output, which is closed: name a file, or open it")
    if is_terminal(sys.stdout):
        raise UsageError("-o - would fill the terminal with a picture: send it to a program, or name a file")
