"""Training pictures decoded once: RGB bytes and their small versions in two files that can be memory-mapped.

A cache is a folder of four files: ``hr.bin`` and ``lr.bin`` hold pixels and nothing else, ``index.json`` where each
picture stands in them, and ``skipped.txt`` a line for each file that could not be read. It is made under another name
and appears whole, so that a process that is killed, or another one that makes the same, does no harm. A cache that no
run has used for a month can go: it is made again where it is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from crispen import images
from crispen.errors import DataError
from crispen.training.sources import (
    File,
    Purpose,
    Sample,
    Source,
    Unreadable,
    count_pictures,
    find_files,
    read_samples,
)
from crispen.training.teacher import Teacher

FORMAT = 3
"""Goes into a cache's name, to be raised whenever the files below would be read otherwise than they were written."""

INDEX, LR, HR, SKIPPED = "index.json", "lr.bin", "hr.bin", "skipped.txt"

UNUSED_DAYS = 30
"""How long a cache is kept after its last use."""

Watch = Callable[[Iterable[object], int | None], None]
"""Takes all items of a long job; is told how many there are, or None where nobody knows."""

_NAME = re.compile(r"[0-9a-f]{16}")
_RUN_BYTES = 1 << 18
_BUILDING = ".building-"
_ABANDONED_SECONDS = 3600  # no picture takes as long, so whoever was writing is no more


@dataclass(frozen=True, slots=True)
class Pair:
    """Where one picture stands in the cache: sides in pixels of the low-resolution version, offsets in bytes."""

    name: str
    height: int
    width: int
    lr_offset: int
    hr_offset: int
    label: int | None = None
    reduction: int = 1
    """By how much the picture was reduced before."""

    @property
    def picture(self) -> str:
        """The name of the picture that it was made of, as others may have been by another reduction."""
        return self.name if self.reduction == 1 else self.name.removesuffix(_reduced_by(self.reduction))


def in_silence(items: Iterable[object], _: int | None = None) -> None:
    """A `Watch` that shows nothing."""
    deque(items, maxlen=0)


def find_cache(
    sources: Sequence[Source],
    *,
    scale: int,
    cache: Path,
    purpose: Purpose,
    reductions: Sequence[int] = (1,),
    teacher: Teacher | None = None,
    watch: Watch = in_silence,
) -> Path:
    """Return the folder with these pictures decoded, which is made on the first use.

    Args:
        sources: see `crispen.training.sources`.
        scale: high-resolution pixels per low-resolution pixel.
        cache: where such folders are kept.
        purpose: what the pictures are for; decides what is taken of a source that has a part for each.
        reductions: factors by which each picture is reduced before, each making a picture of its own; 1 keeps it.
        teacher: what has a part in the large pictures.
        watch: on the first use, takes the pictures one by one as they are decoded: the place to draw a bar.

    Raises:
        DataError: where a source is missing, no picture of use is found, or the cache cannot be written.
    """
    files = find_files(sources, purpose=purpose)
    contents = _Contents(files, scale, purpose, tuple(reductions), teacher)
    folder = cache / contents.fingerprint()
    if folder.is_dir():
        mark_used(folder)
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(cache)
        count = count_pictures(files, purpose=purpose)
        watch(_build(contents, folder), None if count is None else count * len(reductions))
    except OSError as error:
        raise DataError(
            f"the decoded pictures cannot be kept in {cache}: {error.strerror or error}"
        ) from error
    return folder


def mark_used(folder: Path) -> None:
    """Note that a cache is in use, as far as one may, so that `remove_unused` leaves it alone."""
    with suppress(OSError):  # it is somebody else's
        os.utime(folder)


def remove_unused(cache: Path, *, days: int = UNUSED_DAYS) -> list[str]:
    """Remove the caches that nobody has used for so many days; return a sentence that says so, if there were any."""
    freed = [size for folder in _caches(cache) if (size := _remove_if_unused(folder, days=days)) is not None]
    if not freed:
        return []
    return [
        f"removed decoded pictures from {cache} that no run had used for {days} days:"
        f" {sum(freed) / 1e6:.1f} MB; they are decoded again if need be"
    ]


def _caches(cache: Path) -> list[Path]:
    """The finished caches in a folder, and nothing else that may be there."""
    found = cache.iterdir() if cache.is_dir() else ()
    return sorted(path for path in found if _NAME.fullmatch(path.name) and (path / INDEX).is_file())


def _remove_if_unused(folder: Path, *, days: int) -> int | None:
    """Remove a cache that is old enough and return its size in bytes; None for one that stays."""
    try:
        if time.time() - folder.stat().st_mtime < days * 86400:
            return None
        size = sum(path.stat().st_size for path in folder.iterdir())
        going = folder.rename(folder.with_name(f"{_BUILDING}{secrets.token_hex(8)}"))
    except OSError:  # another process was faster, or has it open where that forbids removal
        return None
    shutil.rmtree(going, ignore_errors=True)
    return size


def read_index(folder: Path) -> tuple[list[Pair], list[str]]:
    """Return the pictures of a cache in the order of their files and names, and what was skipped, a sentence each."""
    pairs = [Pair(**entry) for entry in json.loads((folder / INDEX).read_text(encoding="utf-8"))]
    return pairs, (folder / SKIPPED).read_text(encoding="utf-8").split("\n")[:-1]


class _Contents(NamedTuple):
    """All that decides what is in a cache."""

    files: Sequence[File]
    scale: int
    purpose: Purpose
    reductions: tuple[int, ...]
    teacher: Teacher | None

    def fingerprint(self) -> str:
        """Changes whenever a file does (by name, size or time), and with all the rest."""
        kind = f"format {FORMAT}, scale {self.scale}, {self.purpose}"
        if self.reductions != (1,):
            kind += f", reduced by {self.reductions}"
        if self.teacher is not None:
            kind += f", taught by {self.teacher.identity}"
        text = "\n".join([kind, *sorted(file.stamp() for file in self.files)])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _build(contents: _Contents, folder: Path) -> Generator[None]:
    """Make a cache, one picture for each item that is taken."""
    building = folder.with_name(f"{_BUILDING}{secrets.token_hex(8)}")
    building.mkdir()
    try:
        yield from _fill(building, contents)
        _publish(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _fill(building: Path, contents: _Contents) -> Generator[None]:
    """Write the four files of a cache, a picture at a time."""
    pairs: list[Pair] = []
    skipped: list[str] = []
    files, scale, purpose, reductions, teacher = contents
    read = _reduced(read_samples(files, purpose=purpose), reductions)
    usable = _usable(read, scale=scale, least_reduction=min(reductions), skipped=skipped)
    with (building / LR).open("wb") as lr_file, (building / HR).open("wb") as hr_file:
        for run in _runs(usable):
            pairs += _append(run, scale=scale, teacher=teacher, lr_file=lr_file, hr_file=hr_file)
            yield from [None] * len(run)
        for file in (lr_file, hr_file):
            file.flush()
            os.fsync(file.fileno())
    if not pairs:
        first = f": {skipped[0]}" if skipped else ""
        raise DataError(f"there is no readable picture in {_names(files)}{first}")
    index = [asdict(pair) for pair in _in_order(pairs, files)]
    (building / INDEX).write_text(json.dumps(index), encoding="utf-8")
    lines = (line.replace("\n", " ") + "\n" for line in skipped)
    (building / SKIPPED).write_text("".join(lines), encoding="utf-8")


def _in_order(pairs: Iterable[Pair], files: Sequence[File]) -> list[Pair]:
    """Sort pictures by where their files are, and not by how those were called: batches follow from the order."""
    rank = {str(file.place): place for place, file in enumerate(sorted(files, key=File.stamp))}

    def file_of(name: str) -> str:
        while name not in rank:  # FILE:PART, both of which may have colons
            name = name.rpartition(":")[0]
        return name

    return sorted(pairs, key=lambda pair: (rank[file_of(pair.picture)], pair.name))


def _reduced(
    found: Iterable[Sample | Unreadable], reductions: Sequence[int]
) -> Iterator[tuple[Sample | Unreadable, int]]:
    """Yield each picture once for each factor, reduced by it as far as it has pixels, with the factor."""
    for sample in found:
        if isinstance(sample, Unreadable):
            yield sample, 1
            continue
        for factor in reductions:
            if factor == 1:
                yield sample, factor
                continue
            is_enough = min(sample.picture.shape[:2]) >= factor
            reduced = images.resize(sample.picture, 1 / factor) if is_enough else sample.picture[:0, :0]
            yield sample._replace(name=f"{sample.name}{_reduced_by(factor)}", picture=reduced), factor


def _reduced_by(factor: int) -> str:
    """What the name of a picture ends with once it is reduced."""
    return f" (reduced by {factor})"


def _usable(
    found: Iterable[tuple[Sample | Unreadable, int]],
    *,
    scale: int,
    least_reduction: int,
    skipped: list[str],
) -> Iterator[tuple[Sample, int]]:
    """Yield the pictures with sides that are multiples of the scale.

    Add a sentence to ``skipped`` for those that cannot be read, or are too small even where they are reduced least.
    """
    for sample, reduction in found:
        if isinstance(sample, Unreadable):
            skipped.append(f"{sample.name} {sample.reason}")
            continue
        height, width = (side // scale * scale for side in sample.picture.shape[:2])
        if height and width:
            yield sample._replace(picture=sample.picture[:height, :width]), reduction
        elif reduction == least_reduction:
            skipped.append(
                f"{sample.name} is smaller than {scale}x{scale} pixels, which make one at scale {scale}"
            )


def _runs(samples: Iterable[tuple[Sample, int]]) -> Iterator[list[tuple[Sample, int]]]:
    """Gather neighbours of one size, as far as they are small: digits are shrunk twenty times as fast so."""
    run: list[tuple[Sample, int]] = []
    for sample, reduction in samples:
        size = sample.picture.size
        if run and (run[0][0].picture.shape != sample.picture.shape or (len(run) + 1) * size > _RUN_BYTES):
            yield run
            run = []
        run.append((sample, reduction))
    if run:
        yield run


def _append(
    run: Sequence[tuple[Sample, int]],
    *,
    scale: int,
    teacher: Teacher | None,
    lr_file: BinaryIO,
    hr_file: BinaryIO,
) -> list[Pair]:
    """Shrink pictures of one size, as if they were channels of a single one, and write both versions."""
    stacked = np.concatenate([sample.picture for sample, _ in run], axis=2)  # (H, W, 3·N)
    small = np.split(images.resize(stacked, 1 / scale), len(run), axis=2)
    pairs: list[Pair] = []
    for (sample, reduction), lr in zip(run, small, strict=True):
        height, width = lr.shape[:2]
        pairs.append(
            Pair(sample.name, height, width, lr_file.tell(), hr_file.tell(), sample.label, reduction)
        )
        lr_file.write(lr.tobytes())
        hr = sample.picture if teacher is None else teacher.taught(lr, sample.picture)
        hr_file.write(hr.tobytes())
    return pairs


def _publish(building: Path, folder: Path) -> None:
    """Give the finished cache its name, unless another process did with one of its own."""
    try:
        building.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _remove_abandoned(cache: Path) -> None:
    """Remove what killed processes left half-built."""
    for building in cache.glob(f"{_BUILDING}*"):
        with suppress(FileNotFoundError):  # where another process is done with it just now
            times = [path.stat().st_mtime for path in (building, *building.glob("*.bin"))]
            if time.time() - max(times) > _ABANDONED_SECONDS:
                shutil.rmtree(building, ignore_errors=True)


def _names(files: Sequence[File]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(str(file.place) for file in files[:3]) + more
