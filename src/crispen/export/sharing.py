"""ONNX files that do not hold what stands in a safetensors file beside them: ONNX calls it external data."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where in a file the numbers of a tensor are, in bytes."""

    offset: int
    length: int


def refer_to(proto: Any, weights: Path) -> None:
    """Let the constants of an onnx.ModelProto that equal a tensor of ``weights``, to the bit, refer to it there.

    Whoever reads the ONNX file finds ``weights`` by its name in the same folder.

    Args:
        proto: is changed.
        weights: a safetensors file, whose tensors lie as ONNX has them: little-endian, the last axis fastest.
    """
    found = _tensors(weights)
    for constant in proto.graph.initializer:
        place = found.get(constant.raw_data)
        if place is None or constant.data_type != constant.FLOAT:
            continue
        constant.ClearField("raw_data")
        constant.data_location = constant.EXTERNAL
        for key, value in (("location", weights.name), *place._asdict().items()):
            constant.external_data.add(key=key, value=str(value))


def _tensors(path: Path) -> dict[bytes, Place]:
    """The places of all float32 tensors of a safetensors file, by their bytes.

    (The format: 8 bytes with the length of a JSON header, the header, the numbers.)
    """
    data = path.read_bytes()
    (header_length,) = struct.unpack_from("<Q", data)
    start = 8 + header_length
    header = json.loads(data[8:start])
    spans = [entry["data_offsets"] for entry in header.values() if entry.get("dtype") == "F32"]
    return {data[start + begin : start + end]: Place(start + begin, end - begin) for begin, end in spans}
