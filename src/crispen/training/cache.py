"""Training pictures decoded once: RGB bytes and their small versions in two files that can be memory-mapped.

A cache is a folder of four files: ``hr.bin`` and ``lr.bin`` hold pixels and nothing else, ``index.json`` where each
picture stands in them, and ``skipped.txt`` a line for each file that could not be read. It is made under another name
and appears whole, so that a process that is killed, or another one that makes the same, does no harm.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from crispen import images
from crispen.errors import DataError
from crispen.training.sources import (
    File,
    Purpose,
    Sample,
    Source,
    Unreadable,
    find_files,
    read_samples,
)

FORMAT = 2
"""Goes into a cache's name, to be raised whenever the files below would be read otherwise than they were written."""

INDEX, LR, HR, SKIPPED = "index.json", "lr.bin", "hr.bin", "skipped.txt"

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


def find_cache(sources: Sequence[Source], *, scale: int, cache: Path, purpose: Purpose) -> Path:
    """Return the folder with these pictures decoded, which is made on the first use.

    Args:
        sources: see `crispen.training.sources`.
        scale: high-resolution pixels per low-resolution pixel.
        cache: where such folders are kept.
        purpose: what the pictures are for; decides what is taken of a source that has a part for each.

    Raises:
        DataError: where a source is missing, no picture of use is found, or the cache cannot be written.
    """
    files = find_files(sources, purpose=purpose)
    folder = cache / _fingerprint(files, scale=scale, purpose=purpose)
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(cache)
        _build(files, scale=scale, purpose=purpose, folder=folder)
    except OSError as error:
        raise DataError(
            f"the decoded pictures cannot be kept in {cache}: {error.strerror or error}"
        ) from error
    return folder


def read_index(folder: Path) -> tuple[list[Pair], list[str]]:
    """Return the pictures of a cache in the order of their names, and what was skipped, a sentence each."""
    pairs = [Pair(**entry) for entry in json.loads((folder / INDEX).read_text(encoding="utf-8"))]
    return pairs, (folder / SKIPPED).read_text(encoding="utf-8").split("\n")[:-1]


def _fingerprint(files: Iterable[File], *, scale: int, purpose: Purpose) -> str:
    """Changes whenever a file does (by name, size or time), and with all else that decides what is kept."""
    text = "\n".join([f"format {FORMAT}, scale {scale}, {purpose}", *sorted(file.stamp() for file in files)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _build(files: Sequence[File], *, scale: int, purpose: Purpose, folder: Path) -> None:
    building = folder.with_name(f"{_BUILDING}{secrets.token_hex(8)}")
    building.mkdir()
    try:
        _fill(building, files, scale=scale, purpose=purpose)
        _publish(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _fill(building: Path, files: Sequence[File], *, scale: int, purpose: Purpose) -> None:
    """Write the four files of a cache."""
    pairs: list[Pair] = []
    skipped: list[str] = []
    usable = _usable(read_samples(files, purpose=purpose), scale=scale, skipped=skipped)
    with (building / LR).open("wb") as lr_file, (building / HR).open("wb") as hr_file:
        for run in _runs(usable):
            pairs += _append(run, scale=scale, lr_file=lr_file, hr_file=hr_file)
        for file in (lr_file, hr_file):
            file.flush()
            os.fsync(file.fileno())
    if not pairs:
        first = f": {skipped[0]}" if skipped else ""
        raise DataError(f"there is no readable picture in {_names(files)}{first}")
    index = [asdict(pair) for pair in sorted(pairs, key=lambda pair: pair.name)]
    (building / INDEX).write_text(json.dumps(index), encoding="utf-8")
    lines = (line.replace("\n", " ") + "\n" for line in skipped)
    (building / SKIPPED).write_text("".join(lines), encoding="utf-8")


def _usable(found: Iterable[Sample | Unreadable], *, scale: int, skipped: list[str]) -> Iterator[Sample]:
    """Yield the pictures with sides that are multiples of the scale; add a sentence to ``skipped`` for the others."""
    for sample in found:
        if isinstance(sample, Unreadable):
            skipped.append(f"{sample.name} {sample.reason}")
            continue
        height, width = (side // scale * scale for side in sample.picture.shape[:2])
        if height and width:
            yield sample._replace(picture=sample.picture[:height, :width])
        else:
            skipped.append(
                f"{sample.name} is smaller than {scale}x{scale} pixels, which make one at scale {scale}"
            )


def _runs(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Gather neighbours of one size, as far as they are small: digits are shrunk twenty times as fast so."""
    run: list[Sample] = []
    for sample in samples:
        size = sample.picture.size
        if run and (run[0].picture.shape != sample.picture.shape or (len(run) + 1) * size > _RUN_BYTES):
            yield run
            run = []
        run.append(sample)
    if run:
        yield run


def _append(run: Sequence[Sample], *, scale: int, lr_file: BinaryIO, hr_file: BinaryIO) -> list[Pair]:
    """Shrink pictures of one size, as if they were channels of a single one, and write both versions."""
    stacked = np.concatenate([sample.picture for sample in run], axis=2)  # (H, W, 3·N)
    small = np.split(images.resize(stacked, 1 / scale), len(run), axis=2)
    pairs: list[Pair] = []
    for sample, lr in zip(run, small, strict=True):
        height, width = lr.shape[:2]
        pairs.append(Pair(sample.name, height, width, lr_file.tell(), hr_file.tell(), sample.label))
        lr_file.write(lr.tobytes())
        hr_file.write(sample.picture.tobytes())
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
