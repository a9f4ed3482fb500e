"""What training pictures come from: folders, archives and files of records, here or at a URL.

===========================  ==================================================================================
a source                     what is taken
===========================  ==================================================================================
folder                       all of the below in it, at any depth
picture                      itself: PNG, JPEG, WebP, TIFF, GIF, AVIF, BMP, PPM or PFM
``.tar``, ``.tar.gz`` …      the pictures and CIFAR files in it, read from beginning to end
``.zip``                     the same
MNIST's IDX file             its pictures, with the labels of the file beside it; gzipped or not
CIFAR's ``….bin``            its pictures and labels (the binary version, of CIFAR-10 or CIFAR-100)
===========================  ==================================================================================

Inside a folder or an archive the names tell what is for training and what for validation: ``NAME_train_HR`` and
``NAME_valid_HR`` (DIV2K), ``train-…`` and ``t10k-…`` (MNIST), ``data_batch_…`` and ``test_batch`` (CIFAR). Only what
fits the purpose is taken, and nothing from ``NAME_train_LR_…``. What the user names directly is always taken. Hidden
files are passed over, as is an archive beside the folder that it was unpacked to.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, NamedTuple, cast

import numpy as np

from crispen import images
from crispen.errors import DataError, PictureError
from crispen.training.places import LocalPlace, Parts, Place, find_place
from crispen.training.records import Bytes, decode_cifar, decode_idx

Source = str | Path
Purpose = Literal["train", "valid"]
Kind = Literal["picture", "tar", "zip", "idx", "cifar", "pickled"]


class Sample(NamedTuple):
    """One picture."""

    name: str
    """Its file; for a part of one, ``FILE:PART``."""
    picture: Bytes
    """RGB (H, W, 3)."""
    label: int | None = None


class Unreadable(NamedTuple):
    """A file that is no picture, or a damaged one."""

    name: str
    reason: str
    """What goes on after the name to make a sentence."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that holds one picture or many."""

    place: Place
    labels: Place | None = None
    """The file beside it with the labels, for an IDX file."""

    def stamp(self) -> str:
        """A text that changes when the file does; see `Place.stamp`."""
        return self.place.stamp() + (f" {self.labels.stamp()}" if self.labels else "")


_ARCHIVE = r"\.(?:tar(?:\.(?:gz|bz2|xz))?|tgz|tbz2|txz|zip)"
_PATTERN_OF: dict[Kind, str] = {
    "pickled": r"cifar-100?-python(\.tar\.gz)?|cifar-10-batches-py|data_batch_\d+|test_batch",
    "zip": r".+\.zip",
    "tar": rf".+{_ARCHIVE}",
    "idx": r".*images[-.]idx3-ubyte(\.gz)?",
    "cifar": r"(data_batch_\d+|test_batch|train|test)\.bin",
}
_LOW = r"(.*[_-])?((train|valid|test)_LR(_.*)?|LR_(bicubic|unknown)(_.*)?)"
_TRAIN = r"(.*[_-])?train_HR|(.*[_-])?train-images[-.]idx3-ubyte(\.gz)?|(data_batch_\d+|train)\.bin"
_VALID = r"(.*[_-])?(valid|test)_HR|(.*[_-])?(t10k|test)-images[-.]idx3-ubyte(\.gz)?|(test_batch|test)\.bin"
_LEFT_OUT: dict[Purpose, str] = {"train": f"{_LOW}|{_VALID}", "valid": f"{_LOW}|{_TRAIN}"}
_UNPACKED = {"cifar-10-binary": "cifar-10-batches-bin"}  # a folder that is not called as its archive

_DAMAGE = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_ENCRYPTED = 0x1  # of a zip member's flags


def check_existence(sources: Iterable[Source]) -> None:
    """See to it that something is at each source, before anything that takes long (`DataError`)."""
    for source in sources:
        _check_existence(find_place(source))


def find_files(sources: Sequence[Source], *, purpose: Purpose) -> list[File]:
    """List the files to read, each once, by the first of its names; what is in an archive is found out on reading it.

    Raises:
        DataError: for a source that is missing or holds nothing for this purpose.
        MissingExtra: for a URL where fsspec is not installed.
    """
    places: dict[Hashable, Place] = {}
    for source in sources:
        for place in _places_in(find_place(source), purpose):
            places.setdefault(place.identity(), place)
    return [File(place, _labels_beside(place)) for place in places.values()]


def read_samples(files: Iterable[File], *, purpose: Purpose) -> Iterator[Sample | Unreadable]:
    """Read every picture of the files, and name each that cannot be read.

    The pictures of an archive come in its order.

    Raises:
        DataError: for CIFAR's pickled version, and where a member of an archive cannot be unpacked for a moment.
    """
    with tempfile.TemporaryDirectory(prefix="crispen-") as scratch:
        for file in files:
            try:
                yield from _read(file, purpose, Path(scratch, "picture"))
            except PictureError as error:
                yield _unreadable(str(file.place), error)
            except _DAMAGE as error:
                yield Unreadable(str(file.place), f"is damaged or cannot be read ({error})")


def count_pictures(files: Iterable[File], *, purpose: Purpose) -> int | None:
    """Tell how many pictures `read_samples` will come to; None where only reading everything would tell."""
    counts = [_count(file.place, purpose) for file in files]
    return None if None in counts else sum(count or 0 for count in counts)


def _count(place: Place, purpose: Purpose) -> int | None:
    """Without decompressing: of archives only zips, and plain tars on this machine, have a table to look into."""
    kind = _kind(place.filename)
    if kind in ("picture", None):
        return 1
    try:
        if kind == "zip":
            with place.open() as stream, zipfile.ZipFile(stream) as archive:
                paths = archive.namelist()
        elif place.filename.endswith(".tar") and isinstance(place, LocalPlace):
            with tarfile.open(place.path, "r:") as tar:
                paths = [member.name for member in tar if member.isfile()]
        else:
            return None
    except _DAMAGE:
        return None
    wanted = [path for path in paths if _is_wanted(_parts(path), purpose=purpose, source=place.filename)]
    kinds = [_kind(PurePosixPath(path).name) for path in wanted]
    return None if "cifar" in kinds else kinds.count("picture")


def _parts(path: str) -> Parts:
    """Of a path in an archive, where it may begin with ``./``."""
    return PurePosixPath(path).parts


def _check_existence(place: Place) -> None:
    if not place.exists():
        raise DataError(f"there is no training data at {place}")


def _places_in(place: Place, purpose: Purpose) -> list[Place]:
    kind = _kind(place.filename)
    if kind not in (None, "pickled") or not place.is_folder():
        _check_existence(place)
        if kind == "pickled":
            _refuse_pickled(str(place))
        return [place]
    listing = place.files()
    chosen = _choose(listing, purpose=purpose, source=place.filename)
    if not chosen:
        if "pickled" in {kind, *(_kind(part) for parts, _ in listing for part in parts)}:
            _refuse_pickled(str(place))
        raise DataError(f"there is no readable picture in {place}{_but(listing, purpose)}")
    return chosen


def _choose(listing: list[tuple[Parts, Place]], *, purpose: Purpose, source: str) -> list[Place]:
    files = {parts for parts, _ in listing}
    folders = {parts[:depth] for parts in files for depth in range(1, len(parts))}
    return [
        place
        for parts, place in listing
        if _kind(parts[-1]) not in (None, "pickled")
        and _is_wanted(parts, purpose=purpose, source=source)
        and not _is_unpacked(parts, files, folders)
    ]


def _kind(filename: str) -> Kind | None:
    if PurePosixPath(filename).suffix.lower() in images.READ_SUFFIXES:
        return "picture"
    return next((kind for kind, pattern in _PATTERN_OF.items() if _matches(pattern, filename)), None)


def _is_wanted(parts: Parts, *, purpose: Purpose, source: str) -> bool:
    """Whether a file is for this purpose, by its path below a source of that name."""
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    names = {_without_suffix(part) for part in parts} - {_without_suffix(source)}
    return not any(_matches(_LEFT_OUT[purpose], name) for name in names)


def _is_unpacked(parts: Parts, files: set[Parts], folders: set[Parts]) -> bool:
    """Whether the same stands beside this file, unpacked."""
    *above, filename = parts
    name = _without_suffix(filename)
    if name != filename:
        return any((*above, folder) in folders for folder in (name, _UNPACKED.get(name, name)))
    return filename.endswith(".gz") and (*above, filename.removesuffix(".gz")) in files


def _but(listing: list[tuple[Parts, Place]], purpose: Purpose) -> str:
    """For the message about a folder without pictures: a part that was left out, if any."""
    left_out = {
        part for parts, _ in listing for part in parts if _matches(_LEFT_OUT[purpose], _without_suffix(part))
    }
    return f" for the purpose {purpose!r}, only {min(left_out)}" if left_out else ""


def _without_suffix(filename: str) -> str:
    return re.sub(rf"{_ARCHIVE}$", "", filename, flags=re.IGNORECASE)


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(pattern, name, re.IGNORECASE) is not None


def _refuse_pickled(name: str) -> None:
    raise DataError(
        f"{name} is CIFAR's pickled version, which is not read as unpickling could run anything: "
        "get cifar-10-binary.tar.gz (or cifar-100-binary.tar.gz) from https://www.cs.toronto.edu/~kriz/cifar.html"
    )


def _labels_beside(place: Place) -> Place | None:
    if _kind(place.filename) != "idx":
        return None
    plain = place.filename.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    return next((beside for name in (plain, f"{plain}.gz") if (beside := place.beside(name)).exists()), None)


def _read(file: File, purpose: Purpose, scratch: Path) -> Iterator[Sample | Unreadable]:
    """``scratch`` is where a picture without a local file of its own is put to be decoded."""
    place, name = file.place, str(file.place)
    kind = _kind(place.filename)
    if kind in ("tar", "zip"):
        members = _tar_members if kind == "tar" else _zip_members
        with place.open() as stream:
            for path, read in members(stream):
                if _is_wanted(_parts(path), purpose=purpose, source=place.filename):
                    yield from _read_member(f"{name}:{path}", read, scratch)
    elif kind == "idx":
        labels = file.labels.read() if file.labels else None
        yield from _numbered(name, decode_idx(place.read(), labels, name=name))
    elif kind != "cifar" and isinstance(place, LocalPlace):
        yield _decode(place.path, name)
    else:
        yield from _read_content(name, place.read(), scratch)


def _tar_members(stream: BinaryIO) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield path and reader of each file in a tar, in one pass; it must be read before the next."""
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            if member.isfile():
                content = tar.extractfile(member)
                assert content is not None, "a regular file has content"
                yield member.name, content.read


def _zip_members(stream: BinaryIO) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, lambda member=member: _unzip(archive, member)


def _unzip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.flag_bits & _ENCRYPTED:
        raise zipfile.BadZipFile("it is encrypted")
    try:
        return archive.read(member)
    except NotImplementedError as error:
        raise zipfile.BadZipFile(str(error)) from error


def _read_member(name: str, read: Callable[[], bytes], scratch: Path) -> Iterator[Sample | Unreadable]:
    kind = _kind(PurePosixPath(name).name)
    if kind == "pickled":
        _refuse_pickled(name)
    if kind not in ("picture", "cifar"):
        return
    try:
        yield from _read_content(name, read(), scratch)
    except PictureError as error:
        yield _unreadable(name, error)
    except _DAMAGE as error:
        yield Unreadable(name, f"cannot be unpacked ({error})")


def _read_content(name: str, content: bytes, scratch: Path) -> Iterator[Sample | Unreadable]:
    """Decode a picture, or a file of CIFAR's."""
    filename = PurePosixPath(name).name
    if _kind(filename) == "cifar":
        label_bytes = 2 if filename in ("train.bin", "test.bin") else 1
        yield from _numbered(name, decode_cifar(content, label_bytes=label_bytes, name=name))
        return
    try:
        scratch.write_bytes(content)
    except OSError as error:
        raise DataError(f"{name} cannot be unpacked to {scratch.parent}: {error.strerror}") from error
    yield _decode(scratch, name)


def _decode(path: Path, name: str) -> Sample | Unreadable:
    try:
        pixels = cast(Bytes, images.to_depth(images.read(path).pixels, 8))
    except PictureError as error:
        return Unreadable(name, str(error).removeprefix(f"{path} "))
    return Sample(name, np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)


def _numbered(name: str, records: Iterable[tuple[Bytes, int | None]]) -> Iterator[Sample]:
    for index, (picture, label) in enumerate(records):
        yield Sample(f"{name}:{index:06d}", picture, label)


def _unreadable(name: str, error: PictureError) -> Unreadable:
    return Unreadable(name, str(error).removeprefix(f"{name} "))
