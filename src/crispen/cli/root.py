"""The command ``crispen`` itself: its version, and how every command ends."""

from __future__ import annotations

import io
import math
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from crispen import __version__
from crispen.cli.screen import say_error
from crispen.errors import CrispenError

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

_ENDING = ("SIGTERM", "SIGHUP")  # as timeout, systemd and batch systems, and a terminal that is closed
_AGAIN = 2.0  # seconds after which such a signal is not taken for the same one: timeout sends it twice


class _AskedToEnd(KeyboardInterrupt):
    """A signal wants what Ctrl-C wants."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class _Group(TyperGroup):
    """Ends every command the same way: what we or the file system refuse in one line, with its exit code."""

    def invoke(self, ctx: Any) -> object:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # for names that no terminal can show
        try:
            with _ending_like_ctrl_c():
                return super().invoke(ctx)
        except CrispenError as error:
            say_error(error)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:  # whoever read our output has gone: Typer ends quietly
            raise
        except OSError as error:  # a disk that is full, a name that is too long
            say_error(error if error.filename is None else f"{error.filename}: {error.strerror}")
            raise typer.Exit(CrispenError.exit_code) from error
        except KeyboardInterrupt as interrupt:
            with suppress(OSError):  # where the terminal has gone
                typer.echo("crispen: interrupted", err=True)
            code = interrupt.exit_code if isinstance(interrupt, _AskedToEnd) else INTERRUPTED
            raise typer.Exit(code) from interrupt


@contextmanager
def _ending_like_ctrl_c() -> Generator[None]:
    """Have the signals that end a program end this one in order, but for those that somebody has given a meaning.

    That may be nohup, which has one ignored.
    """
    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    asked = -math.inf

    def end(number: int, _: object) -> None:
        nonlocal asked
        before, asked = asked, time.monotonic()
        if asked - before > _AGAIN:
            raise _AskedToEnd(number)

    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


app = typer.Typer(
    name="crispen",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,  # importing Rich would double what --help takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"crispen {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Make small pictures large and sharp, and train and measure the networks that do it."""
