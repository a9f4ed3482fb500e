"""The command line and scripts for tests: run here or as a process, and pictures to run them on."""

from __future__ import annotations

import contextlib
import io
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from crispen import images
from crispen.cli import app


def crispen_says(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    """Run a command here; a traceback would be an exception other than SystemExit."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def error_lines(result: Result) -> list[str]:
    lines = result.stderr.splitlines()
    assert all(line.startswith("crispen: error: ") for line in lines), result.stderr
    return [line.removeprefix("crispen: error: ") for line in lines]


def save(path: str | Path, height: int = 16, width: int = 20, channels: int = 3) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width, channels))
    images.write(images.from_array(pixels.astype(np.uint8)), path)
    return path


def pixels_of(path: str | Path) -> NDArray[Any]:
    return images.read(Path(path)).pixels


def names(folder: str | Path = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as its own process."""
    command = [sys.executable, "-m", "crispen", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def script_says(script: Path, *arguments: str | Path) -> tuple[int, str]:
    """Run a Python script here; return its exit code and what it wrote to stderr."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as stderr:
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as error:
            return cast(int, error.code), stderr.getvalue()
    return 0, stderr.getvalue()
