"""PyAV, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crispen.errors import PictureError, require


def av() -> Any:
    """Return the package PyAV, or raise `MissingExtra`."""
    return require("av", purpose="enlarging films")


def url_of(path: Path) -> str:
    """Return a file's path as FFmpeg takes it: by itself, what is before a colon in it would be a protocol."""
    return f"file:{path}"


def reason(error: Exception) -> str:
    """Return what FFmpeg says of an error, without its number and the file's name."""
    return str(getattr(error, "strerror", None) or error)


def unwritable(path: object, error: Exception) -> PictureError:
    """The error for a file that FFmpeg could not write."""
    return PictureError(f"{path} cannot be written: {reason(error)}")
