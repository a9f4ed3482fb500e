"""PyAV, where it is installed."""

from __future__ import annotations

from typing import Any

from crispen.errors import PictureError, require


def av() -> Any:
    """Return the package PyAV, or raise `MissingExtra`."""
    return require("av", purpose="enlarging films")


def reason(error: Exception) -> str:
    """Return what FFmpeg says of an error, without its number and the file's name."""
    return str(getattr(error, "strerror", None) or error)


def unwritable(path: object, error: Exception) -> PictureError:
    """The error for a file that FFmpeg could not write."""
    return PictureError(f"{path} cannot be written: {reason(error)}")
