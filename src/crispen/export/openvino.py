"""The network in OpenVINO's own format: an .xml file that describes it, and a .bin file beside it with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crispen.runtimes.openvino import load_openvino
from crispen.zoo.metadata import RT_INFO


def write_openvino(onnx: bytes, xml: Path, weights: Path, *, entries: Mapping[str, str]) -> None:
    """Write an ONNX file, given as its bytes, as an .xml and a .bin file, with ``entries`` in the former's rt_info."""
    openvino = load_openvino()
    model = openvino.Core().read_model(onnx)
    for name, value in entries.items():
        model.set_rt_info(value, [*RT_INFO[1:], name])
    openvino.serialize(model, xml, weights)
