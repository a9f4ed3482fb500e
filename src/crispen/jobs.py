"""Which pictures to enlarge and what to call the results, decided before any work begins."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from crispen import images
from crispen.errors import CrispenError, PictureError, UsageError
from crispen.upscaling import default_output, names_folder

PICTURE_SUFFIXES = (*images.SUFFIXES, ".gif", ".avif", ".heic", ".heif")
"""What counts as a picture in a folder: all that is written, all that is only read, and HEIC, which few can
decode: better refused by its name than passed over."""


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
        UsageError: where ``output`` is no place for these inputs.
    """
    sources, errors = _sources(inputs)
    folder = _folder(output, inputs)
    jobs = [Job(source, _target(source, output=output, folder=folder, scale=scale)) for source in sources]
    faults = ({} if force else _standing(jobs)) | _collisions(jobs)
    errors += [PictureError(fault) for fault in faults.values()]
    return [job for job in jobs if job not in faults], errors


@contextmanager
def folders(jobs: Sequence[Job]) -> Generator[tuple[list[Job], list[CrispenError]]]:
    """Make the folders that the results go to, for as long as the work takes: what stays empty goes again.

    Yields:
        The jobs whose folder is there and may be written to; and an error for each other folder.
    """
    made: list[Path] = []
    faults = {folder: _make(folder, made) for folder in dict.fromkeys(job.target.parent for job in jobs)}
    try:
        errors: list[CrispenError] = [PictureError(fault) for fault in faults.values() if fault]
        yield [job for job in jobs if not faults[job.target.parent]], errors
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # it holds results
                folder.rmdir()


def _make(folder: Path, made: list[Path]) -> str | None:
    """Make a folder, add to ``made`` what was missing, the outer first, and return what is wrong, if anything."""
    try:
        made += [path for path in (*reversed(folder.parents), folder) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be made a folder: {error.strerror}"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"{folder} may not be written to"


def _sources(inputs: Iterable[Path]) -> tuple[list[Path], list[CrispenError]]:
    """The pictures, each once, and what is wrong with other inputs."""
    sources: dict[str, Path] = {}
    errors: list[CrispenError] = []
    for path in inputs:
        try:
            found = _pictures_in(path) if path.is_dir() else [path]
            for source in found:
                sources.setdefault(os.path.realpath(source, strict=True), source)
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
        raise PictureError(f"{folder} holds no pictures ({images.KINDS})")
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
    if names_folder(output):
        return path
    if len(inputs) == 1 and not inputs[0].is_dir():
        _check_suffix(path)
        return None
    if path.exists():
        raise UsageError(f"-o must be a folder for more than one picture, but {path} is a file")
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise UsageError(f"-o must be a folder for more than one picture: {path}/ with a slash would be one")
    return path


def _check_suffix(path: Path) -> None:
    """Refuse the name of a file that cannot be written."""
    written = ", ".join(images.SUFFIXES)
    if not path.suffix:
        raise UsageError(
            f"-o must be a folder (with a slash at its end: {path}/), or a file that ends in one of {written}"
        )
    if path.suffix.lower() not in images.SUFFIXES:
        raise UsageError(f"-o {path} cannot be: no {path.suffix} is written, but {written} are")


def _target(source: Path, *, output: str | None, folder: Path | None, scale: int) -> Path:
    beside = default_output(source, scale)
    if output is None:
        return beside
    return folder / beside.name if folder else Path(output)


def _collisions(jobs: Sequence[Job]) -> dict[Job, str]:
    """What is wrong with each job whose result would overwrite a source, or the result of an earlier job."""
    sources = {_key(job.source) for job in jobs}
    first: dict[str, Path] = {}
    faults: dict[Job, str] = {}
    for job in jobs:
        key = _key(job.target)
        if key in sources:
            faults[job] = f"the result of {job.source} would overwrite the picture {job.target}"
        elif first.setdefault(key, job.source) != job.source:
            faults[job] = f"{job.source} would become {job.target}, as {first[key]} does"
    return {job: f"{fault}: enlarge it by itself, with -o and another name" for job, fault in faults.items()}


def _standing(jobs: Sequence[Job]) -> dict[Job, str]:
    """What is wrong with each job whose result exists."""
    found = [job for job in jobs if os.access(job.target, os.F_OK)]  # exists() raises for names too long
    return {job: f"{job.target} exists already; with --force it is replaced" for job in found}


def _key(path: Path) -> str:
    """The same for paths to the same file, also where the file system does not tell A from a."""
    return os.path.normcase(path.resolve())
