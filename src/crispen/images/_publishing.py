"""A file appears under its name when it is finished, and not before."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from crispen.errors import PictureError
from crispen.files import check_replaceable, give_name, locked
from crispen.images._paths import shown
from crispen.images._vips import because, vips

_TOKEN_BYTES = 12  # what else this package writes, with 8, is not locked
_TEMPORARY = re.compile(rf"\.crispen-[0-9a-f]{{{2 * _TOKEN_BYTES}}}(\.\w+)?")


def exists(path: Path) -> PictureError:
    """Return the error for a file that may not be replaced."""
    return PictureError(f"{shown(path)} exists already; it is replaced only with force")


@contextmanager
def said_of_writing(path: Path) -> Generator[None]:
    """Turn what the system or libvips refuse into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        raise PictureError(f"{shown(path)} cannot be written: {error.strerror}") from error
    except vips().Error as error:
        raise PictureError(f"{shown(path)} cannot be written{because(error)}") from error


@contextmanager
def published(path: Path, *, force: bool) -> Generator[Path]:
    """Yield a temporary file beside ``path``, which becomes it at the end, and is gone after any failure.

    What the body raises goes through as it is. Raises `PictureError` where the system refuses, and where
    ``path`` exists without ``force``, or is no file.
    """
    check_replaceable(path, error=PictureError)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".crispen-{secrets.token_hex(_TOKEN_BYTES)}{target.suffix}")
    vips().vips_lib.vips_error_clear()
    with said_of_writing(path), _said_to_exist(path):
        held = temporary.open("xb")  # "x": it is ours alone, were another process to draw the same name
    try:
        with held:
            locked(held)
            yield temporary
            with said_of_writing(path):
                os.fsync(held.fileno())
            if os.name == "nt":
                held.close()  # Windows gives no new name to a file that is open
            check_replaceable(path, error=PictureError)
            with said_of_writing(path), _said_to_exist(path):
                give_name(temporary, target, force=force)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def set_aside(temporary: Path, *, path: Path) -> Generator[Path]:
    """Yield a file beside the one that `published` has yielded for ``path``: for a part of it, and gone at the end."""
    part = temporary.with_name(f".crispen-{secrets.token_hex(_TOKEN_BYTES)}{temporary.suffix}")
    with said_of_writing(path):
        held = part.open("xb")
    try:
        with held:
            locked(held)
            yield part
    finally:
        part.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder; what is being written stays."""
    for path in folder.glob(".crispen-*"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError), path.open("rb+") as file:  # gone by now, or not ours to touch
                if locked(file):
                    path.unlink()


@contextmanager
def _said_to_exist(path: Path) -> Generator[None]:
    try:
        yield
    except FileExistsError:
        raise exists(path) from None
