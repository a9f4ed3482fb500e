"""From torch to files that others compute: ONNX, OpenVINO, TorchScript, and in 8 bits. Needs the extra ``[train]``.

::

    export_model(Path("runs/mine/weights.safetensors"), Path("mine"))   # a model's folder, for crispen upscale
    export_onnx(generator, Path("mine.onnx"))
    export_onnx(generator, Path("mine-int8.onnx"), calibration=pictures)
    export_openvino(generator, Path("mine.xml"))
    export_torchscript(generator, Path("mine.pt"))

Each writes files whole or not at all, replaces those of an earlier export, and compares what it has written with the
generator before it lets it stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from crispen.errors import ModelError, UsageError, require
from crispen.export.calibration import flat_colours, generated_pictures, read_pictures, small_print
from crispen.export.folding import at_rest, folded
from crispen.export.onnx import OPSET, OPSETS, describe, to_onnx
from crispen.export.openvino import write_openvino
from crispen.export.parity import (
    SIZES,
    TOLERANCE,
    Agreement,
    Computation,
    Parity,
    Pixels,
    check_agreement,
    check_parity,
    in_openvino,
)
from crispen.export.quantisation import Range, observe
from crispen.export.sensitivity import affordable
from crispen.export.sharing import refer_to
from crispen.export.torchscript import in_torchscript, write_torchscript
from crispen.files import published
from crispen.networks.generators import AnyGenerator
from crispen.networks.weights import load_generator, save_generator
from crispen.zoo import CARD, INT8, ONNX, WEIGHTS, Card, Files, sha256
from crispen.zoo.card import as_toml, read_card

__all__ = [
    "OPSET", "OPSETS", "TOLERANCE", "Agreement", "Check", "Parity", "Pixels",
    "export_model", "export_onnx", "export_openvino", "export_torchscript",
    "generated_pictures", "read_pictures",
]  # fmt: skip

Check = Parity | Agreement
"""What came out when a written file was compared with the generator; as a string, a line for the terminal."""


def export_model(
    weights_path: Path,
    folder: Path,
    *,
    calibration: Sequence[Pixels] | None = None,
    card: Card | None = None,
) -> list[Check]:
    """Make a model's folder, with ``weights.safetensors`` and ``model.onnx``, in which crispen finds them.

    The two belong together: the ONNX file takes what it can from the other, so that nothing is stored twice. For a
    file that stands alone there is `export_onnx`.

    The folder is made where there is none. With ``calibration``, as `export_onnx` takes it, it holds the same
    network in 8 bits as well, as ``model-int8.onnx``. ``card`` is what the model says of itself, if it does: the
    folder's says the same, with the hashes of its own files.

    Raises:
        ModelError: where the weights are not a generator's, `export_onnx` fails, or the folder has the card of another
            model, and none is given in its place.
    """
    if card is None:
        _refuse_foreign_card(folder / CARD, weights_path)
    generator = load_generator(weights_path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{folder} cannot be made a folder: {error.strerror}") from error
    if not (folder / WEIGHTS).exists() or not (folder / WEIGHTS).samefile(weights_path):
        save_generator(generator, folder / WEIGHTS)
    checks = export_onnx(generator, folder / ONNX, weights=folder / WEIGHTS)
    if calibration is not None:
        checks += export_onnx(generator, folder / INT8, calibration=calibration, weights=folder / WEIGHTS)
    if card is not None:
        _write_card(card, folder)
    return checks


def _refuse_foreign_card(path: Path, weights_path: Path) -> None:
    if path.is_file() and read_card(path).files.weights.lower() != sha256(weights_path):
        raise ModelError(f"{path} is the card of another model: remove it, or export to another folder")


def _write_card(card: Card, folder: Path) -> None:
    """Write a card for the files that are in a folder."""
    weights, onnx, int8 = (folder / name for name in (WEIGHTS, ONNX, INT8))
    files = Files(weights=sha256(weights), onnx=sha256(onnx), int8=sha256(int8) if int8.is_file() else "")
    with published(folder / CARD, error=ModelError) as temporary:
        temporary.write_text(as_toml(replace(card, files=files)), encoding="utf-8")


def export_onnx(
    generator: AnyGenerator,
    path: Path,
    *,
    opset: int = OPSET,
    size: tuple[int, int] | None = None,
    calibration: Sequence[Pixels] | None = None,
    weights: Path | None = None,
) -> list[Check]:
    """Write a generator as ONNX and make sure that OpenVINO computes the same from it.

    Args:
        generator: it stays as it is.
        path: the file to write, whose name ends in ``.onnx``.
        opset: the version of the operators, one of `OPSETS`.
        size: width and height of the only pictures that it will take; by default it takes all, in any number.
        calibration: pictures (N, 3, H, W) in [0, 1]; given, the file computes in 8 bits, over ranges found on
            every other one of them (and on flat colours and small print), and is compared on the rest.
        weights: the generator's weights in the same folder, which the file then refers to for those that it takes
            as they are; by default it stands alone.

    Raises:
        UsageError: for an opset that is none of these, and for no pictures to calibrate on.
        ModelError: where the results differ too much, or the file cannot be written.
        MissingExtra: where onnx is not installed.
    """
    shipped = folded(generator)
    with published(path, error=ModelError) as temporary:
        temporary.write_bytes(_onnx_bytes(shipped, opset, size, calibration, weights))
        return _check(generator, in_openvino(temporary), size, calibration)


def export_openvino(
    generator: AnyGenerator,
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    calibration: Sequence[Pixels] | None = None,
) -> list[Check]:
    """Write a generator as an ``.xml`` and, beside it, a ``.bin`` file. The rest is as for `export_onnx`."""
    shipped = folded(generator)
    onnx = _onnx_bytes(shipped, OPSET, size, calibration)
    entries = describe(shipped, size=size, int8=calibration is not None)
    with (
        published(path, error=ModelError) as xml,
        published(path.with_suffix(".bin"), error=ModelError) as weights,
    ):
        write_openvino(onnx, xml, weights, entries=entries)
        return _check(generator, in_openvino(xml, weights), size, calibration)


def export_torchscript(generator: AnyGenerator, path: Path) -> list[Check]:
    """Write a generator as TorchScript, for pictures of any size, and compare what torch computes from it.

    Raises:
        ModelError: where the results differ too much, or the file cannot be written.
    """
    shipped = folded(generator)
    with published(path, error=ModelError) as temporary:
        write_torchscript(shipped, temporary, entries=describe(shipped))
        return [*check_parity(at_rest(generator), in_torchscript(temporary))]


def _onnx_bytes(
    shipped: AnyGenerator,
    opset: int,
    size: tuple[int, int] | None,
    calibration: Sequence[Pixels] | None,
    weights: Path | None = None,
) -> bytes:
    helper = require("onnx", purpose="export").helper
    if opset not in OPSETS:
        raise UsageError(f"opset must be from {OPSETS[0]} to {OPSETS[-1]}, not {opset}")
    if calibration is not None and not calibration:
        raise UsageError("calibration needs at least one picture")
    ranges = None if calibration is None else _ranges(shipped, calibration)
    proto = to_onnx(shipped, opset=opset, size=size, ranges=ranges)
    entries = describe(shipped, size=size, int8=ranges is not None)
    if weights is not None:
        refer_to(proto, weights)
        entries["weights"] = weights.name
    helper.set_model_props(proto, entries)
    return proto.SerializeToString(deterministic=True)


def _ranges(shipped: AnyGenerator, calibration: Sequence[Pixels]) -> dict[nn.Conv2d, Range]:
    seen = [*calibration[::2], flat_colours(), *small_print()]

    def compute(ranges: Mapping[nn.Conv2d, Range]) -> Computation:
        return in_openvino(to_onnx(shipped, ranges=ranges).SerializeToString())

    return affordable(shipped, observe(shipped, seen), seen, compute)


def _check(
    generator: AnyGenerator,
    computation: Computation,
    size: tuple[int, int] | None,
    calibration: Sequence[Pixels] | None,
) -> list[Check]:
    original = at_rest(generator)
    if calibration is None:
        return [*check_parity(original, computation, sizes=SIZES if size is None else [size])]
    pictures = calibration[1::2] or calibration
    fitting = pictures if size is None else [_fitted(lr, *size) for lr in pictures]
    return [check_agreement(original, computation, fitting)]


def _fitted(lr: Pixels, width: int, height: int) -> Pixels:
    """Bring (N, 3, H, W) to a size: cut what is too much, mirror what is too little."""
    missing = [(0, max(side - have, 0)) for side, have in zip((height, width), lr.shape[2:], strict=True)]
    return np.pad(lr, [(0, 0), (0, 0), *missing], "symmetric")[:1, :, :height, :width]
