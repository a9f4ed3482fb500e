"""Looking through training data before a run is spent on it.

::

    check = check_data(["photos"], benchmarks=[Path("Set5")])
    for name in check:
        show(name, of=check.total)
    for line in check.result.to_lines():
        print(line)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crispen.errors import DataError
from crispen.training.matching import SAME, Gallery, same_aspect, thumbnail, to_gray
from crispen.training.places import LocalPlace
from crispen.training.records import Bytes
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

LEAST_SIDE = 32
"""Copies are told and benchmarks looked for only in pictures of at least so many pixels a side: digits look alike."""

_SHOWN = 20  # lines of a kind, of which a report for people has no more
_ROWS = 1024  # thumbnails to compare at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Two pictures that show the same, though not with the same pixels."""

    first: str
    second: str
    correlation: float
    """Of their fine structure; 1 if it is equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A training picture that shows what is measured on."""

    name: str
    benchmark: str
    """The benchmark's picture."""
    share: float
    """How much of the benchmark's picture it shows, at most 1."""
    correlation: float
    """Of the fine structure of what both show; 1 if it is equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What training data holds, and what is wrong with it. Sizes are (width, height) in pixels."""

    sources: tuple[str, ...]
    pictures: int
    """Those that can be read."""
    labelled: int
    """Those of them that have a label."""
    megapixels: float
    """All together."""
    smallest: tuple[int, int]
    """By area."""
    median: tuple[int, int]
    largest: tuple[int, int]
    unreadable: tuple[Unreadable, ...]
    duplicates: tuple[tuple[str, ...], ...]
    """Groups of pictures that are equal pixel by pixel."""
    copies: tuple[Copies, ...]
    """Re-encoded or resized ones; of pictures that are equal, one stands for all."""
    benchmarks: tuple[str, ...]
    """The folders compared with."""
    benchmark_pictures: int
    leaks: tuple[Leak, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.unreadable or self.duplicates or self.copies or self.leaks)

    def to_json(self) -> str:
        """The report as JSON, indented."""
        content = asdict(self) | {"unreadable": [entry._asdict() for entry in self.unreadable]}
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_lines(self) -> list[str]:
        """The report for people: a line for what there is, then a paragraph for all that is wrong."""
        labelled = f", {self.labelled} with labels" if self.labelled else ""
        sizes = " to ".join(dict.fromkeys(f"{size[0]}x{size[1]}" for size in (self.smallest, self.largest)))
        lines = [
            f"{_count(self.pictures, 'picture')}{labelled}, {self.megapixels:.1f} megapixels",
            f"{sizes} pixels, median {self.median[0]}x{self.median[1]}",
        ]
        lines += _paragraph("cannot be read", [f"{name} {reason}" for name, reason in self.unreadable])
        lines += _paragraph("equal to another", [" = ".join(group) for group in self.duplicates])
        lines += _paragraph("re-encoded or resized", [_line_on_copies(copies) for copies in self.copies])
        lines += _paragraph("overlapping a benchmark", [_line_on_leak(leak) for leak in self.leaks])
        if self.benchmarks and not self.leaks:
            lines.append(
                f"no overlap with the {_count(self.benchmark_pictures, 'picture')} of {_join(self.benchmarks)}"
            )
        return lines if not self.is_clean else [*lines, "nothing is wrong"]


class DataCheck:
    """A running check; made by `check_data`. Iterating looks at one picture after the other and yields its name.

    It can be walked through once.
    """

    def __init__(
        self, sources: Sequence[Source], *, benchmarks: Sequence[str | Path], purpose: Purpose
    ) -> None:
        self._sources, self._benchmarks = sources, [Path(path) for path in benchmarks]
        self._purpose: Purpose = purpose
        self._files = find_files(sources, purpose=purpose)
        self.total = count_pictures(self._files, purpose=purpose)
        """How many pictures there are to look at; None where only reading everything would tell."""
        self._benchmark_files = _find_benchmarks(self._benchmarks)
        self._benchmark_pictures = 0
        self._seen = _Seen()
        self._remaining = self._look()

    def __iter__(self) -> Iterator[str]:
        return self._remaining

    def check_apart(self, path: Path) -> None:
        """Raise `DataError` for a report that would replace one of the files that are looked at."""
        files = (*self._files, *self._benchmark_files)
        places = [place for file in files for place in (file.place, file.labels) if place]
        if LocalPlace(path).identity() in {place.identity() for place in places}:
            raise DataError(f"{path} cannot be written: it is one of the files to check")

    @property
    def result(self) -> DataReport:
        """The report. Pictures that were not iterated over yet are looked at first.

        Raises:
            DataError: where no picture can be read.
        """
        for _ in self._remaining:
            pass
        seen = self._seen
        if not seen.sizes:
            first = "".join(f": {name} {reason}" for name, reason in seen.unreadable[:1])
            raise DataError(f"there is no readable picture in {_join(self._sources)}{first}")
        by_area = sorted(seen.sizes, key=lambda size: size[0] * size[1])
        return DataReport(
            sources=tuple(map(str, self._sources)),
            pictures=len(seen.sizes),
            labelled=seen.labelled,
            megapixels=sum(width * height for width, height in seen.sizes) / 1e6,
            smallest=by_area[0],
            median=by_area[len(by_area) // 2],
            largest=by_area[-1],
            unreadable=tuple(seen.unreadable),
            duplicates=tuple(tuple(names) for names in seen.names_of.values() if len(names) > 1),
            copies=tuple(seen.find_copies()),
            benchmarks=tuple(map(str, self._benchmarks)),
            benchmark_pictures=self._benchmark_pictures,
            leaks=tuple(seen.leaks),
        )

    def _look(self) -> Iterator[str]:
        gallery = _read_gallery(self._benchmark_files) if self._benchmark_files else None
        self._benchmark_pictures = len(gallery) if gallery else 0
        for found in read_samples(self._files, purpose=self._purpose):
            if isinstance(found, Unreadable):
                self._seen.unreadable.append(found)
            else:
                self._seen.add(found, gallery)
            yield found.name


def check_data(
    sources: Sequence[Source], *, benchmarks: Sequence[str | Path] = (), purpose: Purpose = "train"
) -> DataCheck:
    """Look for what is wrong with training data: unreadable files, duplicates, pictures that are measured on.

    Args:
        sources: paths or URLs of what `crispen.training.sources` lists.
        benchmarks: folders whose pictures must not be trained on. Copies of them are found, crops, copies of crops, and
            pictures that they are a part of; what is mirrored or turned, or shows less than 100 pixels of them, need
            not be.
        purpose: which part to take of a source that has one for training and one for validation.

    Returns:
        An iterable of the pictures' names, whose ``result`` is the `DataReport`.

    Raises:
        DataError: for a source or a benchmark that is missing or has no pictures. Iterating raises it for a picture of
            a benchmark that cannot be read.
        MissingExtra: for a URL where fsspec is not installed.
    """
    return DataCheck(sources, benchmarks=benchmarks, purpose=purpose)


class _Seen:
    """What is kept of the pictures looked at: some 4 kB of each, never the pixels."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.labelled = 0
        self.unreadable: list[Unreadable] = []
        self.names_of: dict[bytes, list[str]] = {}
        self.leaks: list[Leak] = []
        self._thumbnails: list[NDArray[np.float32]] = []
        self._owners: list[tuple[str, tuple[int, int]]] = []

    def add(self, sample: Sample, gallery: Gallery | None) -> None:
        """Look at a picture."""
        height, width = sample.picture.shape[:2]
        self.sizes.append((width, height))
        self.labelled += sample.label is not None
        names = self.names_of.setdefault(_digest(sample.picture), [])
        names.append(sample.name)
        if min(width, height) < LEAST_SIDE:
            return
        if len(names) == 1:
            self._thumbnails.append(thumbnail(to_gray(sample.picture)))
            self._owners.append((sample.name, (height, width)))
        for overlap in gallery.find(sample.picture) if gallery else ():
            self.leaks.append(
                Leak(
                    name=sample.name,
                    benchmark=overlap.other,
                    share=overlap.share,
                    correlation=overlap.correlation,
                )
            )

    def find_copies(self) -> Iterator[Copies]:
        """Compare all pictures with all."""
        if not self._thumbnails:
            return
        thumbnails = np.stack(self._thumbnails)
        for start in range(0, len(thumbnails), _ROWS):
            correlations = thumbnails[start : start + _ROWS] @ thumbnails.T
            for row, second in np.argwhere(correlations > SAME).tolist():
                (name, size), (other, other_size) = self._owners[start + row], self._owners[second]
                if start + row < second and same_aspect(size, other_size):
                    yield Copies(first=name, second=other, correlation=float(correlations[row, second]))


def _find_benchmarks(benchmarks: Sequence[Path]) -> list[File]:
    for path in benchmarks:
        if not path.exists():
            raise DataError(f"there is no benchmark at {path}")
    return find_files(benchmarks, purpose="valid")


def _read_gallery(files: Sequence[File]) -> Gallery:
    pictures: list[tuple[str, Bytes]] = []
    for found in read_samples(files, purpose="valid"):
        if isinstance(found, Unreadable):
            raise DataError(f"{found.name} {found.reason}, so what is trained on cannot be compared with it")
        pictures.append((found.name, found.picture))
    return Gallery(pictures)


def _digest(picture: Bytes) -> bytes:
    """The same for equal pixels in pictures of equal size."""
    return hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).digest()


def _paragraph(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    more = [f"  and {len(entries) - _SHOWN} more"] if len(entries) > _SHOWN else []
    return [f"{title}: {len(entries)}", *(f"  {entry}" for entry in entries[:_SHOWN]), *more]


def _line_on_copies(copies: Copies) -> str:
    return f"{copies.first} ~ {copies.second} (correlation {copies.correlation:.2f})"


def _line_on_leak(leak: Leak) -> str:
    return f"{leak.name} shows {leak.share:.0%} of {leak.benchmark} (correlation {leak.correlation:.2f})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _join(names: Sequence[Source]) -> str:
    return ", ".join(map(str, names))
