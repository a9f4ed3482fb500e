"""Which files are meant by the inputs."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from crispen import images
from crispen.errors import CrispenError, PictureError
from crispen.files import kind_of

FILM_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm",
    ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".vob", ".ogv", ".mxf", ".y4m",
)  # fmt: skip
"""By these names a file is taken for a film, in small letters.

The first are `crispen.films.SUFFIXES`, which is not imported where only pictures are enlarged; a test holds the two
together.
"""

_RESULT = re.compile(r"(.+)-(?:x\d+(?:\.\d+)?|\d+x\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What counts in folders; the inputs themselves are taken as they are.

    A pattern is a name with ``*``, ``?`` and ``[...]``, capitals or not, for files in any folder; or, with a slash in
    it, a path from the input on, in which ``*`` stands for slashes too.
    """

    recursive: bool = True
    """Whether subfolders count, but for hidden ones and links."""
    include: tuple[str, ...] = ()
    """Only files that match one of these. Films, which may take days, only where one ends like them, as ``*.mp4``."""
    exclude: tuple[str, ...] = ()
    """No file and no folder that matches one of these."""


class Failure(NamedTuple):
    """What cannot be enlarged, and why."""

    source: Path
    error: CrispenError


class Found(NamedTuple):
    """A file to enlarge."""

    path: Path
    real: str
    """The same for all links to the file."""
    below: PurePath
    """Its folder, seen from the input through which it was found."""
    named: bool
    """Whether it is an input itself."""


class LeftOut(NamedTuple):
    """A file in a folder that by its name is a result of another."""

    path: Path


def is_film(path: Path, target: Path | None = None) -> bool:
    """Tell by its name whether a file is a film; so is an animated GIF whose result is to be one."""
    decisive = target if target is not None and path.suffix.lower() == ".gif" else path
    return decisive.suffix.lower() in FILM_SUFFIXES


def find(inputs: Iterable[Path], search: Search, *, output: Path | None) -> list[Found | LeftOut | Failure]:
    """Find the files, each once, in the order of the inputs; those of a folder by name, before its subfolders'.

    In a folder, hidden files are passed over, and so is the folder ``output`` if it lies inside. Where the results go
    beside the pictures, those of earlier runs (NAME-x4.png beside a NAME) are left out. Of a file and links to it the
    file is taken, unless a link is an input itself.
    """
    found = [each for path in inputs for each in _in(path, search, output=output)]
    chosen: dict[str, Found] = {}
    for each in found:
        if isinstance(each, Found):
            chosen[each.real] = min(chosen.get(each.real, each), each, key=_rank)
    return [each for each in found if _counts(each, chosen)]


def _rank(found: Found) -> tuple[bool, bool]:
    """The less, the rather is this one taken of several that are the same file."""
    return not found.named, found.path.is_symlink()


def _counts(each: Found | LeftOut | Failure, chosen: Mapping[str, Found]) -> bool:
    """Whether nothing else that was found, which is in ``chosen`` by its real path, stands for this one."""
    if isinstance(each, Found):
        return chosen[each.real] is each
    return isinstance(each, Failure) or os.path.realpath(each.path) not in chosen


def _in(path: Path, search: Search, *, output: Path | None) -> Iterator[Found | LeftOut | Failure]:
    try:
        if path.is_dir():
            yield from _in_folder(path, search, output=output)
            return
        kind = kind_of(path)
        if kind is not None:
            said = f"{path} is {kind}, no file: give - instead, and send the picture to the standard input"
            yield Failure(path, PictureError(said))
            return
        path.resolve(strict=True)
    except FileNotFoundError:
        yield Failure(path, PictureError(f"{path} does not exist"))
    except (OSError, RuntimeError) as error:  # RuntimeError: Python 3.11 and 3.12 call a loop of links so
        yield Failure(path, _unreadable(path, error))
    else:
        yield Found(path, os.path.realpath(path), PurePath(), True)


def _in_folder(root: Path, search: Search, *, output: Path | None) -> Iterator[Found | LeftOut | Failure]:
    kept = None if output is None else os.path.realpath(output)
    beside = kept in (None, os.path.realpath(root))
    pending, nothing = [root], True
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
            files = [entry for entry in entries if entry.is_file()]
            subfolders = [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
        except OSError as error:
            nothing = False
            yield Failure(folder, _unreadable(folder, error))
            continue
        pictures = _pictures(files, search)
        stems = {path.stem for path in pictures}
        for path in pictures:
            if not _is_wanted(path, root, search):
                continue
            if beside and _is_result(path, stems):
                yield LeftOut(path)
                continue
            nothing = False
            yield Found(path, os.path.realpath(path), folder.relative_to(root), False)
        if search.recursive:
            wanted = [path for path in subfolders if not _matches(search.exclude, path.relative_to(root))]
            pending += [path for path in reversed(wanted) if os.path.realpath(path) != kept]
    if nothing:
        said = (
            f"({images.KINDS})"
            if not (search.include or search.exclude)
            else "that --include and --exclude allow"
        )
        yield Failure(root, PictureError(f"{root} holds no pictures {said}"))


def _pictures(files: Iterable[Path], search: Search) -> list[Path]:
    """The pictures among the files of a folder, and the films where those are asked for."""
    films_too = any(is_film(Path(pattern)) for pattern in search.include)
    known = (*images.READ_SUFFIXES, *(FILM_SUFFIXES if films_too else ()))
    return [path for path in files if path.suffix.lower() in known]


def _is_wanted(path: Path, root: Path, search: Search) -> bool:
    relative = path.relative_to(root)
    included = not search.include or _matches(search.include, relative)
    return included and not _matches(search.exclude, relative)


def _matches(patterns: Iterable[str], relative: PurePath) -> bool:
    for pattern in patterns:
        pattern = pattern.removesuffix("/").lower()
        subject = relative.as_posix() if "/" in pattern else relative.name
        if fnmatch.fnmatchcase(subject.lower(), pattern):
            return True
    return False


def _is_result(path: Path, stems: set[str]) -> bool:
    """Whether this is what an earlier run made of a picture beside it."""
    match = _RESULT.fullmatch(path.stem)
    return match is not None and match[1] in stems


def _unreadable(path: Path, error: OSError | RuntimeError) -> PictureError:
    reason = error.strerror if isinstance(error, OSError) else "it is a link to itself"
    return PictureError(f"{path} cannot be read: {reason}")
