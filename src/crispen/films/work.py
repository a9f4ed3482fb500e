"""The hidden folder beside a film that is being written: its finished segments, and what they were made from.

A killed run leaves it; the same command goes on with it, and a run that ends well removes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crispen.errors import PictureError
from crispen.files import flush, held_elsewhere
from crispen.films.encoding import Segment

_MANIFEST, _LOCK = "manifest.json", "lock"
_SAMPLES, _SAMPLE = 64, 1 << 16
_LONGEST = 255  # bytes of a name, in nearly all file systems


class Work:
    """The segments that are finished, kept on disk as they come."""

    segments: list[Segment]
    """In order."""

    def __init__(self, folder: Path, *, identity: str) -> None:
        self.folder = folder
        self._identity = identity
        self.segments = _finished(folder, identity)

    @property
    def frames(self) -> int:
        """How many frames are finished."""
        return sum(segment.frames for segment in self.segments)

    @property
    def unfinished(self) -> Path:
        """Where to write the next segment."""
        return self.folder / "unfinished"

    @property
    def following(self) -> str:
        """What the next segment's file is called once it is finished."""
        return f"{len(self.segments):06}"

    def add(self, segment: Segment) -> None:
        """Take `unfinished`, which is finished now, as the next segment."""
        flush(self.unfinished)
        self.unfinished.replace(self.folder / segment.file)
        self.segments.append(segment)
        content = {"identity": self._identity, "segments": [asdict(segment) for segment in self.segments]}
        temporary = self.folder / f"{_MANIFEST}.new"
        temporary.write_text(json.dumps(content), encoding="utf-8")
        flush(temporary)
        temporary.replace(self.folder / _MANIFEST)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder)


@contextmanager
def begun(output: Path, *, identity: str) -> Generator[Work]:
    """Make or find the folder for ``output``, for this process alone.

    Segments that were made with another ``identity`` are removed, and so is a folder that holds none in the end.

    Raises:
        PictureError: where another process writes the same film.
        OSError: where the folder cannot be made or written to.
    """
    folder = folder_of(output)
    folder.mkdir(exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        if held_elsewhere(lock.fileno()):
            raise PictureError(f"{output} is being written by another process")
        started = Work(folder, identity=identity)
        try:
            yield started
        finally:
            if not started.segments:
                started.remove()


def folder_of(output: Path) -> Path:
    """Return the hidden folder for a film: beside it, or beside the file that a link stands for.

    Where the film's name is too long to be part of the folder's, its beginning and a hash of all of it are.
    """
    target = Path(os.path.realpath(output)) if output.is_symlink() else output
    folder = target.with_name(f".{target.name}.crispen")
    whole = os.fsencode(target.name)
    excess = len(os.fsencode(folder.name)) - _LONGEST
    if excess <= 0:
        return folder
    digest = hashlib.sha256(whole).hexdigest()[:16]
    beginning = whole[: len(whole) - excess - len(digest) - 1].decode(errors="ignore")
    return target.with_name(f".{beginning}-{digest}.crispen")


def identity_of(source: Path, settings: Mapping[str, Any]) -> str:
    """Return a hash of everything that an enlarged film depends on.

    Of a long film 64 pieces are read, with its size: two films that agree in all of these are one, and a film of
    50 GB would take minutes to read.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    size = source.stat().st_size
    digest.update(size.to_bytes(8, "big"))
    with source.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE) * number // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _finished(folder: Path, identity: str) -> list[Segment]:
    """The segments that can be taken over; everything else in the folder is removed."""
    segments: list[Segment] = []
    try:
        content = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if content["identity"] == identity:
            segments = [Segment(**segment) for segment in content["segments"]]
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or not ours
        segments = []
    if not all((folder / segment.file).is_file() for segment in segments):
        segments = []
    kept = {_LOCK, _MANIFEST, *(segment.file for segment in segments)} if segments else {_LOCK}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()
    return segments
