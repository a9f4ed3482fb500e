"""Which pictures to enlarge and what to call the results, decided before any work begins."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crispen import images
from crispen.errors import CrispenError, PictureError, UsageError
from crispen.upscaling import default_output

PICTURE_SUFFIXES = (*images.SUFFIXES, ".gif", ".heic", ".heif", ".avif")
"""What counts as a picture in a folder: all that is written, and all that is only read."""


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to enlarge."""

    source: Path
    target: Path
    """Where the result goes; never a source of any job."""


def plan(
    inputs: Sequence[Path], *, output: str | None, scale: int, force: bool
) -> tuple[list[Job], list[CrispenError]]:
    """Decide on the jobs, and say for each input that cannot become one what is wrong with it.

    Args:
        inputs: pictures, and folders of which all pictures are meant, but for earlier results (NAME-x4.png)
            that stand beside their source.
        output: None for NAME-x4.png beside each picture. Otherwise a folder, if it is one, ends with a slash
            or there is more than one picture to write, and else a file.
        scale: what to write into the names.
        force: whether results that exist already may be overwritten.

    Returns:
        The jobs in the order of the inputs, those of a folder in the order of their names; and the errors.

    Raises:
        UsageError: where ``output`` is no place for these inputs, two results would become one file, or a
            result would overwrite a source.
    """
    sources, errors = _sources(inputs)
    folder = _folder(output, inputs)
    jobs = [Job(source, _target(source, output=output, folder=folder, scale=scale)) for source in sources]
    _refuse_collisions(jobs)
    standing = [job for job in jobs if job.target.exists() and not force]
    errors += [PictureError(f"{job.target} exists already; with --force it is replaced") for job in standing]
    return [job for job in jobs if job not in standing], errors


def make_folders(jobs: Iterable[Job]) -> None:
    """Make the folders that the results go to; `UsageError` for one that cannot be made or written to."""
    for folder in {job.target.parent for job in jobs}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder} cannot be made a folder: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise UsageError(f"{folder} may not be written to")


def _sources(inputs: Iterable[Path]) -> tuple[list[Path], list[CrispenError]]:
    """The pictures, each once, and what is wrong with other inputs."""
    sources: dict[Path, Path] = {}
    errors: list[CrispenError] = []
    for path in inputs:
        try:
            found = _pictures_in(path) if path.is_dir() else [path]
            for source in found:
                sources.setdefault(source.resolve(strict=True), source)
        except FileNotFoundError:
            errors.append(PictureError(f"{path} does not exist"))
        except OSError as error:
            errors.append(PictureError(f"{path} cannot be read: {error.strerror}"))
        except PictureError as error:
            errors.append(error)
    return list(sources.values()), errors


def _pictures_in(folder: Path) -> list[Path]:
    pictures = [
        path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
    ]
    stems = {path.stem for path in pictures}
    fresh = [path for path in pictures if not _is_result(path, stems) and not path.name.startswith(".")]
    if not fresh:
        raise PictureError(f"{folder} holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
    return sorted(fresh)


def _is_result(path: Path, stems: set[str]) -> bool:
    """Whether this is what an earlier run made of a picture beside it."""
    match = re.fullmatch(r"(.+)-x\d+", path.stem)
    return path.suffix == ".png" and match is not None and match[1] in stems


def _folder(output: str | None, inputs: Sequence[Path]) -> Path | None:
    """``output`` where it is a folder, None where it is a file."""
    if output is None:
        return None
    path = Path(output)
    one_picture = len(inputs) == 1 and not inputs[0].is_dir()
    if path.is_dir() or output.endswith(("/", os.sep)):
        return path
    if path.exists() and not one_picture:
        raise UsageError(f"-o must be a folder for more than one picture, but {path} is a file")
    if path.suffix.lower() in images.SUFFIXES:
        if not one_picture:
            raise UsageError(
                f"-o must be a folder for more than one picture: {path}/ with a slash would be one"
            )
        return None
    if one_picture:
        raise UsageError(
            f"-o must be a folder (with a slash at its end: {path}/), or a file that ends in one of "
            f"{', '.join(images.SUFFIXES)}, not {path}"
        )
    return path


def _target(source: Path, *, output: str | None, folder: Path | None, scale: int) -> Path:
    beside = default_output(source, scale)
    if output is None:
        return beside
    return folder / beside.name if folder else Path(output)


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    sources = {_key(job.source) for job in jobs}
    first: dict[str, Path] = {}
    for job in jobs:
        key = _key(job.target)
        if key in sources:
            raise UsageError(f"the result of {job.source} would overwrite the picture {job.target}")
        if first.setdefault(key, job.source) != job.source:
            raise UsageError(f"{first[key]} and {job.source} would both become {job.target}")


def _key(path: Path) -> str:
    """The same for paths to the same file, also where the file system does not tell A from a."""
    return os.path.normcase(path.resolve())
