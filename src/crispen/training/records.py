"""Pictures in files of fixed records: MNIST's IDX files and CIFAR's binary version, both with labels.

The formats: http://yann.lecun.com/exdb/mnist and https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from crispen.errors import PictureError

Bytes = NDArray[np.uint8]

_IDX_PICTURES, _IDX_LABELS = 0x803, 0x801  # unsigned bytes, in three dimensions and in one
_GZIP = b"\x1f\x8b"
_CIFAR_SIDE = 32


def decode_idx(pictures: bytes, labels: bytes | None, *, name: str) -> Iterator[tuple[Bytes, int | None]]:
    """Yield the pictures of an IDX file as gray RGB (H, W, 3), each with its label.

    Args:
        pictures: the file's content, gzipped or not.
        labels: that of the file with the labels; None where there is none.
        name: what the file is called in an error.

    Raises:
        PictureError: for a file that is no such IDX file, or labels that are not as many as the pictures.
    """
    pictures = _gunzip(pictures, name)
    magic, count, height, width = struct.unpack(">IIII", pictures[:16].ljust(16, b"\0"))
    if magic != _IDX_PICTURES or not (height and width):
        raise PictureError(f"{name} is not an IDX file of pictures")
    if len(pictures) != 16 + count * height * width:
        raise PictureError(
            f"{name} does not hold the {count} pictures of {width}x{height} pixels that it says"
        )
    gray = np.frombuffer(pictures, np.uint8, offset=16).reshape(count, height, width, 1)
    numbers = [None] * count if labels is None else _idx_labels(_gunzip(labels, name), count, name)
    yield from zip(np.broadcast_to(gray, (count, height, width, 3)), numbers, strict=True)


def decode_cifar(content: bytes, *, label_bytes: int, name: str) -> Iterator[tuple[Bytes, int]]:
    """Yield the pictures of one of CIFAR's binary files as RGB (32, 32, 3), each with its label.

    Args:
        content: the file's content.
        label_bytes: 1 in CIFAR-10; 2 in CIFAR-100, where the last is the finer label.
        name: what the file is called in an error.

    Raises:
        PictureError: where the length is not that of whole records.
    """
    size = label_bytes + 3 * _CIFAR_SIDE**2
    if not content or len(content) % size:
        raise PictureError(f"{name} is not a number of CIFAR's records of {size} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    planes = records[:, label_bytes:].reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE)
    yield from zip(planes.transpose(0, 2, 3, 1), records[:, label_bytes - 1].tolist(), strict=True)


def _idx_labels(labels: bytes, count: int, name: str) -> list[int]:
    magic, length = struct.unpack(">II", labels[:8].ljust(8, b"\0"))
    if magic != _IDX_LABELS or len(labels) != 8 + length:
        raise PictureError(f"{name} has a file of labels beside it that is no IDX file of labels")
    if length != count:
        raise PictureError(f"{name} holds {count} pictures, but the file of labels beside it {length}")
    return list(labels[8:])


def _gunzip(content: bytes, name: str) -> bytes:
    if not content.startswith(_GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise PictureError(f"{name} is damaged ({error})") from error
