"""What model files say about themselves, read without the packages that wrote them.

All kinds of file carry pairs of strings beside the numbers: crispen's exports state their ``architecture`` as JSON in
each, and ONNX and OpenVINO files also their ``scale``, ``context`` and ``tail_context``, so that a runtime needs
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from crispen.errors import ModelError

RT_INFO = ("rt_info", "crispen")
"""Where in an OpenVINO file the pairs are: the names of the elements around them."""

_VARINT, _BYTES = 0, 2  # the wire types of protocol buffers that an ONNX file has at its top level
_METADATA_PROPS = 14  # the field of onnx.ModelProto
_KEY, _VALUE = 1, 2  # the fields of onnx.StringStringEntryProto


def of_safetensors(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file.

    Raises:
        ModelError: where the file is missing or none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with cast(Any, safe_open(path, framework="np")) as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file: {error}") from error


def of_onnx(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file.

    Raises:
        ModelError: where the file is missing or none.
    """
    try:
        entries = [
            value for number, value in _fields(memoryview(path.read_bytes())) if number == _METADATA_PROPS
        ]
        pairs = [dict(_fields(entry)) for entry in entries]
        return {str(pair[_KEY], "utf-8"): str(pair[_VALUE], "utf-8") for pair in pairs}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ModelError(f"{path} is not a readable ONNX file: {error}") from error


def of_openvino(path: Path) -> dict[str, str]:
    """Return the metadata of an OpenVINO model's .xml file.

    Raises:
        ModelError: where the file is missing or none.
    """
    from xml.etree import ElementTree  # for these files only, as the package above is for its own

    try:
        entries = ElementTree.parse(path).getroot().iterfind("/".join((".", *RT_INFO, "*")))
    except (OSError, ElementTree.ParseError) as error:
        raise ModelError(f"{path} is not a readable OpenVINO file: {error}") from error
    return {entry.tag: entry.get("value", "") for entry in entries}


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and contents of each field that holds bytes, and skip those that hold a number."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind not in (_VARINT, _BYTES):
            raise ValueError(f"unexpected wire type {kind}")
        length, position = _varint(message, position)
        if kind == _VARINT:
            continue
        if position + length > len(message):
            raise ValueError("the file is cut short")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, low bits first, and return it with the position behind it."""
    number = shift = 0
    while message[position] & 0x80:
        number |= (message[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
    return number | message[position] << shift, position + 1
