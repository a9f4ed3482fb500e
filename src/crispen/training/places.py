"""Files and folders on this machine or at a URL, as far as training data needs them.

A URL is anything with ``://`` in it, read through fsspec: ``s3://bucket/shards``, ``https://host/photos.tar``. Only
what is read is fetched, and an archive is never held in memory as a whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import SplitResult, urlsplit

from crispen.errors import DataError, require

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # pyright: ignore[reportMissingTypeStubs]  # fsspec is untyped

Parts = tuple[str, ...]


class Place(ABC):
    """A file or a folder. Its string is what the user calls it."""

    @property
    def filename(self) -> str:
        """The last part of its path."""
        return str(self).rstrip("/" + os.sep).rpartition("/")[2]

    @abstractmethod
    def identity(self) -> Hashable:
        """What is the same by whatever name one comes to it."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is a file or a folder."""

    @abstractmethod
    def is_folder(self) -> bool:
        """Whether there is a folder."""

    @abstractmethod
    def files(self) -> list[tuple[Parts, Place]]:
        """Every file below this folder with its path from here, in the order of these; none for a file."""

    @abstractmethod
    def beside(self, filename: str) -> Place:
        """The place of another name in the same folder."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """Open this file for reading; it can seek, if need be by asking the server for another part.

        Raises:
            OSError: where it cannot be read.
        """

    @abstractmethod
    def read(self) -> bytes:
        """This file's content; `OSError` where it cannot be read."""

    @abstractmethod
    def stamp(self) -> str:
        """A text that changes when the file does, as far as can be told without reading it."""


@dataclass(frozen=True, slots=True)
class LocalPlace(Place):
    """A path on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def filename(self) -> str:
        """The last part of its path, also where that is ``.``."""
        return self.path.name or self.path.resolve().name

    def identity(self) -> Path:
        """Its whole path, with links followed."""
        return self.path.resolve()

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        return self.path.exists()

    def is_folder(self) -> bool:
        """Whether there is a folder."""
        return self.path.is_dir()

    def files(self) -> list[tuple[Parts, Place]]:
        """Every file below, through symbolic links, too, but in no folder twice."""
        found: list[tuple[Parts, Place]] = []
        seen: set[Path] = set()
        for folder, subfolders, names in os.walk(self.path, followlinks=True):
            if Path(folder).resolve() in seen:
                subfolders.clear()
                continue
            seen.add(Path(folder).resolve())
            paths = [Path(folder, name) for name in names]
            found += [
                (path.relative_to(self.path).parts, LocalPlace(path)) for path in paths if path.is_file()
            ]
        return sorted(found, key=lambda entry: entry[0])

    def beside(self, filename: str) -> Place:
        """The place of another name in the same folder."""
        return LocalPlace(self.path.with_name(filename))

    def open(self) -> BinaryIO:
        """Open this file for reading; `OSError` where it cannot be."""
        return self.path.open("rb")

    def read(self) -> bytes:
        """This file's content."""
        return self.path.read_bytes()

    def stamp(self) -> str:
        """Where it is, its size, and when it was last written to."""
        status = self.path.stat()
        return f"{self.path.resolve()} {status.st_size} {status.st_mtime_ns}"


@dataclass(frozen=True, slots=True)
class RemotePlace(Place):
    """A path in a file system of fsspec's."""

    system: AbstractFileSystem
    path: str
    """As the file system has it: without the scheme, for most."""
    url: str
    known: str | None = None
    """What a listing has told about the file, to save asking again."""

    def __str__(self) -> str:
        return self.url

    @property
    def filename(self) -> str:
        """The last part of its path; on the web, without what is asked of the server with it."""
        return _on_the_web(self.url).path.rstrip("/").rpartition("/")[2]

    def identity(self) -> tuple[AbstractFileSystem, str]:
        """The file system, which is one for all URLs of a server, and the path in it."""
        return self.system, self.path

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        return self.system.exists(self.path)

    def is_folder(self) -> bool:
        """Whether there is a folder."""
        return cast(bool, self.system.isdir(self.path))

    def files(self) -> list[tuple[Parts, Place]]:
        """Every file below."""
        root = self.path.rstrip("/") + "/"
        listing = cast("dict[str, dict[str, Any]]", self.system.find(self.path, detail=True))
        return [
            (tuple(path.removeprefix(root).split("/")), self._at(path, known=str(listing[path])))
            for path in sorted(listing)
            if path.startswith(root)  # a file lists itself
        ]

    def beside(self, filename: str) -> Place:
        """The place of another name in the same folder."""
        parts = _on_the_web(self.path)
        return self._at(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{filename}").geturl())

    def open(self) -> BinaryIO:
        """Open this file; from a server that sends no parts of it, it is fetched to the disk first."""
        if self._comes_in_parts():
            return cast(BinaryIO, self.system.open(self.path, "rb"))
        copy = tempfile.TemporaryFile()  # noqa: SIM115  # it is gone when the caller closes it
        with cast(BinaryIO, self.system.open(self.path, "rb", block_size=0)) as stream:
            shutil.copyfileobj(stream, copy)
        copy.seek(0)
        return cast(BinaryIO, copy)

    def read(self) -> bytes:
        """This file's content."""
        return cast(bytes, self.system.cat_file(self.path))

    def _comes_in_parts(self) -> bool:
        """Whether the server sends a part that is asked for, as all but some plain web servers do."""
        if not self.url.startswith("http"):
            return True
        try:
            with cast(BinaryIO, self.system.open(self.path, "rb", block_size=1, cache_type="none")) as probe:
                probe.seek(1)
                probe.read(1)
        except ValueError:
            return False
        return True

    def stamp(self) -> str:
        """What the server tells of the file: size, time and tag, where it does."""
        return f"{self.url} {self.known or self.system.info(self.path)}"

    def _at(self, path: str, *, known: str | None = None) -> RemotePlace:
        return RemotePlace(self.system, path, self.system.unstrip_protocol(path), known)


def _on_the_web(url: str) -> SplitResult:
    """The parts of a URL, with query and fragment where a web server has them; elsewhere they may be part of a name."""
    if url.startswith(("http://", "https://")):
        return urlsplit(url)
    return SplitResult("", "", url, "", "")


def find_place(source: str | Path) -> Place:
    """Turn a path or a URL into a place, which need not exist.

    Raises:
        DataError: for a URL of a kind that fsspec does not know, or needs another package for.
        MissingExtra: for a URL where fsspec is not installed.
    """
    if "://" not in str(source):
        return LocalPlace(Path(source).expanduser())
    fsspec = require("fsspec", purpose=f"training data at a URL ({source})")
    try:
        system, path = fsspec.url_to_fs(str(source))
    except (ValueError, ImportError) as error:
        raise DataError(f"{source} cannot be read: {error}") from error
    return RemotePlace(system, path, str(source))
