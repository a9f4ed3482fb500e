"""The command ``crispen`` itself: its version, and how every command ends."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from crispen import __version__
from crispen.cli.screen import say_error
from crispen.errors import CrispenError

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


class _Group(TyperGroup):
    """Ends every command the same way: what we or the file system refuse in one line, with its exit code."""

    def invoke(self, ctx: Any) -> object:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # for names that no terminal can show
        try:
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
            typer.echo("crispen: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from interrupt


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
