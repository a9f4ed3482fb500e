"""The pictures of a folder that is a set: a benchmark's, or those to calibrate on."""

from __future__ import annotations

from pathlib import Path

from crispen.errors import DataError
from crispen.images.reading import KINDS, READ_SUFFIXES


def in_folder(folder: Path) -> tuple[Path, ...]:
    """Return the files in a folder, but not below it, that have a picture's name, in the order of their names.

    Hidden ones are passed over, as the ``._photo.jpg`` that macOS puts beside a photo on foreign disks.

    Raises:
        DataError: where there are none, and where the folder cannot be read or is none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder of pictures")
    try:
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in READ_SUFFIXES and not path.name.startswith(".")
        )
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error
    if not paths:
        raise DataError(f"{folder} holds no pictures ({KINDS})")
    return tuple(paths)
