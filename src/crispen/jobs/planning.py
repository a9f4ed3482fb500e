"""What becomes of which file, decided before any work begins."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from crispen import images
from crispen.errors import CrispenError, PictureError, UsageError
from crispen.files import irreplaceable
from crispen.images import Encoding
from crispen.jobs.finding import FILM_SUFFIXES, Failure, Found, LeftOut, Search, find, is_film
from crispen.upscaling import names_folder
from crispen.upscaling.files import MAX_MEGAPIXELS
from crispen.upscaling.naming import Naming, Subject, picture, picture_ext
from crispen.upscaling.sizes import Dimensions

_ALL, _ANY = Search(), Encoding()


@dataclass(frozen=True, slots=True)
class Job:
    """One file to enlarge."""

    source: Path
    target: Path
    """Where the result goes; never a source of any job."""

    @property
    def is_film(self) -> bool:
        """Whether the source is taken for a film, not for pictures."""
        return is_film(self.source, self.target)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    jobs: list[Job]
    """In the order of the inputs."""
    skipped: list[Job]
    """What has been done already."""
    left_out: list[Path]
    """What in folders is taken for results of earlier runs by its name, beside those of these jobs."""
    failures: list[Failure]
    """What cannot become a job."""


def plan(
    inputs: Sequence[Path],
    *,
    output: str | None,
    naming: Naming,
    search: Search = _ALL,
    encoding: Encoding = _ANY,
    max_megapixels: float = MAX_MEGAPIXELS,
    frame: float | None = None,
    force: bool = False,
    skip_existing: bool = False,
) -> Plan:
    """Decide on the jobs, and say for each input that cannot become one what is wrong with it.

    Args:
        inputs: pictures and films, and folders, whose structure is kept below ``output``; see `find`.
        output: None for a place beside each picture. Otherwise a folder, if it is one, ends with a slash
            or there is more than one picture to write, and else a file.
        naming: what results are called, where ``output`` is not the file itself.
        search: what counts in folders.
        encoding: how pictures are to be written.
        max_megapixels: the largest picture or film that is read.
        frame: of films only the frame that is shown after so many seconds is enlarged, as a picture.
        force: whether results that exist already may be overwritten.
        skip_existing: whether what exists already has been done.

    Raises:
        UsageError: where ``output`` is no place for these inputs, and where nothing else keeps all of them from
            becoming jobs.
    """
    folder = _folder(output, inputs, encoding, frame)
    settings = _Settings(output, folder, naming, encoding, max_megapixels, frame)
    jobs, left_out, failures = _assigned(find(inputs, search, output=folder), settings)
    if not jobs and all(isinstance(failure.error, UsageError) for failure in failures):
        raise failures[0].error
    faults = _collisions(jobs) | {job: fault for job in jobs if (fault := irreplaceable(job.target))}
    standing = [job for job in jobs if job not in faults and os.access(job.target, os.F_OK)]
    if not (force or skip_existing):
        faults |= {job: f"{job.target} exists already; with --force it is replaced" for job in standing}
    skipped = standing if skip_existing else []
    gone = {*faults, *skipped}
    return Plan(
        jobs=[job for job in jobs if job not in gone],
        skipped=skipped,
        left_out=left_out,
        failures=[*failures, *(Failure(job.source, PictureError(fault)) for job, fault in faults.items())],
    )


@contextmanager
def folders(jobs: Sequence[Job]) -> Generator[tuple[list[Job], list[Failure]]]:
    """Make the folders that the results go to, for as long as the work takes: what stays empty goes again.

    What killed runs have left in them goes too.

    Yields:
        The jobs whose folder is there and may be written to; and a failure for each other, alike for each folder.
    """
    made: list[Path] = []
    faults = {folder: _make(folder, made) for folder in dict.fromkeys(job.target.parent for job in jobs)}
    for folder, fault in faults.items():
        if fault is None:
            images.remove_leftovers(folder)
    try:
        said = [(job, faults[job.target.parent]) for job in jobs]
        failures = [Failure(job.source, PictureError(fault)) for job, fault in said if fault]
        yield [job for job, fault in said if fault is None], failures
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


class _Settings(NamedTuple):
    """What decides on the targets."""

    output: str | None
    folder: Path | None
    """``output`` where that is a folder."""
    naming: Naming
    encoding: Encoding
    max_megapixels: float
    frame: float | None

    def target(self, found: Found) -> Path:
        """Say where the result goes; raises what is wrong with that."""
        if self.output is not None and self.folder is None:
            target = Path(self.output)
        else:
            place = found.path.parent if self.folder is None else self.folder / found.below
            target = place / self.naming(self._subject(found.path))
        if self.frame is None and is_film(found.path, target):
            from crispen.films.options import check_suffix  # films are imported where there are any

            check_suffix(target)
        else:
            images.check_format(target, self.encoding)
        return target

    def _subject(self, source: Path) -> Subject:
        if not is_film(source):
            return picture(source, format=self.encoding.format, max_megapixels=self.max_megapixels)
        if self.frame is None:
            size = partial(_film_size, source, max_megapixels=self.max_megapixels)
            return Subject(source, source.stem, partial(_film_ext, source), size, even=True)
        ext = picture_ext(self.encoding.format)
        size = partial(_frame_size, source, max_megapixels=self.max_megapixels)
        return Subject(source, f"{source.stem}-{self.frame:g}s", lambda: ext, size)


def _film_ext(source: Path) -> str:
    from crispen import films

    return films.usual_suffix(source).removeprefix(".")


def _film_size(source: Path, *, max_megapixels: float) -> Dimensions:
    from crispen import films

    film = films.probe(source, max_megapixels=max_megapixels)
    return Dimensions(film.width, film.height)


def _frame_size(source: Path, *, max_megapixels: float) -> Dimensions:
    from crispen import films

    return Dimensions(*films.probe(source, max_megapixels=max_megapixels).in_square_pixels)


def _assigned(
    found: Iterable[Found | LeftOut | Failure], settings: _Settings
) -> tuple[list[Job], list[Path], list[Failure]]:
    """Give each file its target, but for those that another one's result is, or may be of an earlier run."""
    failures: list[Failure] = []
    left_out: list[Path] = []
    jobs: list[tuple[Job, bool]] = []
    for each in found:
        if isinstance(each, Failure):
            failures.append(each)
            continue
        if isinstance(each, LeftOut):
            left_out.append(each.path)
            continue
        try:
            jobs.append((Job(each.path, settings.target(each)), each.named))
        except CrispenError as error:
            failures.append(Failure(each.path, error))
    results = {key(job.target) for job, _ in jobs if job.target.stem != job.source.stem}
    kept = [job for job, named in jobs if named or key(job.source) not in results]
    return kept, [path for path in left_out if key(path) not in results], failures


def _folder(
    output: str | None, inputs: Sequence[Path], encoding: Encoding, frame: float | None
) -> Path | None:
    """``output`` where it is a folder, None where it is a file."""
    if output is None:
        return None
    path = Path(output)
    if names_folder(output):
        return path
    if len(inputs) == 1 and not os.path.isdir(inputs[0]):  # noqa: PTH112  # Path's raises where none may look
        if frame is not None or not is_film(inputs[0], path):
            _check_suffix(path, encoding, frame)
        return None
    if path.exists():
        raise UsageError(f"-o must be a folder for more than one picture, but {path} is a file")
    if path.suffix.lower() in (*images.READ_SUFFIXES, *FILM_SUFFIXES):
        raise UsageError(f"-o must be a folder for more than one picture: {path}/ with a slash would be one")
    return path


def _check_suffix(path: Path, encoding: Encoding, frame: float | None) -> None:
    """Refuse the name of a file that cannot be written."""
    written = ", ".join(images.SUFFIXES)
    if encoding.format is not None:
        return
    if not path.suffix:
        raise UsageError(
            f"-o must be a folder (with a slash at its end: {path}/), or a file that ends in one of {written}"
        )
    if path.suffix.lower() not in images.SUFFIXES:
        said = f"-o {path} cannot be: no {path.suffix} is written, but {written} are"
        if frame is None and is_film(path):
            said += "; films are made of films and GIFs, in files and not from the standard input"
        raise UsageError(said)


def _collisions(jobs: Sequence[Job]) -> dict[Job, str]:
    """What is wrong with each job whose result would overwrite a source, or the result of an earlier job."""
    sources = {key(job.source) for job in jobs}
    first: dict[str, Path] = {}
    faults: dict[Job, str] = {}
    alone = "enlarge it by itself, with -o and another name"
    for job in jobs:
        place = key(job.target)
        if place in sources:
            faults[job] = f"the result of {job.source} would overwrite the picture {job.target}: {alone}"
        elif first.setdefault(place, job.source) != job.source:
            told_apart = job.source.suffix != first[place].suffix
            advice = f"tell them apart with {{suffix}} in --name, or {alone}" if told_apart else alone
            faults[job] = f"{job.source} would become {job.target}, as {first[place]} does: {advice}"
    return faults


def key(path: Path) -> str:
    """The same for paths to the same file, also where the file system does not tell A from a."""
    return os.path.normcase(os.path.realpath(path))
