"""Commands about the models themselves: models, export."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crispen.cli.root import app
from crispen.cli.screen import show
from crispen.errors import ModelError, UsageError, require

if TYPE_CHECKING:
    from crispen.export import Check, Pixels
    from crispen.zoo import Model

Format = Literal["folder", "onnx", "openvino", "torchscript"]

FORMAT_OF: dict[str, Format] = {".onnx": "onnx", ".xml": "openvino", ".pt": "torchscript"}
"""By what a file's name ends in."""


BENCHMARKS = ("Set5", "Set14", "BSD100")
"""Whose figures are listed."""


@app.command()
def models() -> None:
    """List the bundled models, with what they measure: PSNR on clean reductions, in dB."""
    from rich.table import Table

    from crispen import DEFAULT_MODEL, zoo

    table = Table("name", "scale", "purpose", "size", "licence", *BENCHMARKS)
    for card in zoo.models():
        psnr = {entry.benchmark: f"{entry.psnr:.2f}" for entry in card.measured}
        table.add_row(
            f"{card.name} (default)" if card.name == DEFAULT_MODEL else card.name, f"x{card.scale}", card.purpose,
            _size(zoo.BUNDLED / card.name), card.licence, *(psnr.get(name, "") for name in BENCHMARKS),
        )  # fmt: skip
    show(table)


def _size(folder: Path) -> str:
    """How much a model takes on the disk."""
    return f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.1f} MB"


@app.command()
def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A training run's weights.safetensors or folder, a model's folder, or a bundled model's name.",
            show_default=False,
        ),
    ],
    target: Annotated[
        str | None,
        typer.Argument(
            help="What to make: a model's folder, or a file; for a file also, with a slash at its end, its folder.",
            show_default="the model's name, here",
        ),
    ] = None,
    to: Annotated[
        Format | None,
        typer.Option(
            help="A model's folder for crispen; or an .onnx file; OpenVINO's .xml and .bin; torch's .pt.",
            show_default="what TARGET ends in, or else folder",
        ),
    ] = None,
    opset: Annotated[
        int | None, typer.Option(help="ONNX: the version of its operators, 13 to 23.", show_default="17")
    ] = None,
    dynamic: Annotated[
        bool | None,
        typer.Option(
            "--dynamic/--no-dynamic",
            help="ONNX, OpenVINO: for pictures of any size, or of --size alone.",
            show_default="dynamic",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT", help="With --no-dynamic: the pictures' size.", show_default=False
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Compute in 8 bits; in a model's folder beside the other, as model-int8.onnx."
        ),
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="With --int8: a folder of a dozen or more pictures such as will be enlarged.",
            show_default="generated pictures, which are less exact",
            readable=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:  # fmt: skip
    """Make a model's folder, or a file for other programs, from trained weights.

    Every file is compared with the original before it is kept, on three sizes; one in 8 bits on pictures. The
    folder, the .onnx and the .xml enlarge pictures without torch: crispen upscale --model FILE. It takes none of one
    --size, which are for other programs. What a model's card says goes into the folder, too.
    """
    require("torch", purpose="export")
    from crispen import zoo

    found = zoo.find(model)
    to = _format(to, target)
    fixed = _fixed_size(dynamic, size)
    _refuse_contradictions(to, opset=opset, fixed=fixed, int8=int8, calibrate=calibrate)
    path = _target(found, target, to=to, int8=int8)
    _refuse_to_overwrite(_files(found, path, to=to, int8=int8), force=force)
    checks = _export(found, path, to=to, opset=opset, size=fixed, calibration=_pictures(calibrate, int8=int8))
    for check in checks:
        typer.echo(str(check))
    typer.echo(f"{model} -> {path}")


def _format(to: Format | None, target: str | None) -> Format:
    """Return the format that is asked for, by name or by the suffix of the file."""
    suffix = Path(target or "").suffix
    implied = FORMAT_OF.get(suffix)
    if to is None:
        return implied or "folder"
    if implied not in (None, to):
        raise UsageError(f"--to {to} does not fit {target}, which by its name is for --to {implied}")
    return to


def _fixed_size(dynamic: bool | None, size: str | None) -> tuple[int, int] | None:
    """Return width and height where they are to be fixed."""
    if size is None:
        if dynamic is False:
            raise UsageError("--no-dynamic needs --size, the width and height of all pictures, as in 256x256")
        return None
    if dynamic:
        raise UsageError(
            "--size fixes the size of all pictures, which --dynamic leaves open: give one of them"
        )
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
    if match is None:
        raise UsageError(f"--size must be a width and a height in pixels, as in 256x256, not {size!r}")
    return int(match[1]), int(match[2])


def _refuse_contradictions(
    to: Format, *, opset: int | None, fixed: tuple[int, int] | None, int8: bool, calibrate: Path | None
) -> None:
    if opset is not None and to != "onnx":
        raise UsageError(f"--opset is for --to onnx, not for --to {to}")
    if fixed is not None and to not in ("onnx", "openvino"):
        raise UsageError(f"--size is for --to onnx and --to openvino, not for --to {to}")
    if int8 and to == "torchscript":
        raise UsageError("--int8 is for --to folder, onnx and openvino, not for --to torchscript")
    if calibrate is not None and not int8:
        raise UsageError("--calibrate is for --int8")


def _target(model: Model, target: str | None, *, to: Format, int8: bool) -> Path:
    """Return the file or the model's folder to make: ``target``, or what lies in it under the model's name."""
    if target is not None and to == "folder":
        return Path(target)
    name = model.name
    if model.card is None and model.weights is not None and name == model.weights.stem:
        name = model.weights.resolve().parent.name  # for all runs' weights are called weights
    if to != "folder":
        suffix = next(suffix for suffix, kind in FORMAT_OF.items() if kind == to)
        name += ("-int8" if int8 else "") + suffix
    if target is None:
        return Path(name)
    inside = Path(target).is_dir() or target.endswith(("/", os.sep))
    return Path(target, name) if inside else Path(target)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{folder} cannot be made a folder: {error.strerror}") from error


def _files(model: Model, path: Path, *, to: Format, int8: bool) -> list[Path]:
    """Return the files that will be written."""
    from crispen.zoo import CARD, INT8, ONNX, WEIGHTS

    if to == "folder":
        weights = path / WEIGHTS
        kept = model.weights is not None and weights.exists() and weights.samefile(model.weights)
        named = {WEIGHTS: not kept, INT8: int8, CARD: model.card is not None}
        return [path / ONNX, *(path / name for name, written in named.items() if written)]
    return [path, path.with_suffix(".bin")] if to == "openvino" else [path]


def _refuse_to_overwrite(files: Sequence[Path], *, force: bool) -> None:
    existing = [file for file in files if file.exists()]
    if existing and not force:
        raise ModelError(f"{existing[0]} exists already; with --force it is replaced")


def _pictures(calibrate: Path | None, *, int8: bool) -> list[Pixels] | None:
    """Return what to calibrate on, if anything."""
    from crispen.export import generated_pictures, read_pictures

    if not int8:
        return None
    return generated_pictures() if calibrate is None else read_pictures(calibrate)


def _export(
    model: Model,
    path: Path,
    *,
    to: Format,
    opset: int | None,
    size: tuple[int, int] | None,
    calibration: Sequence[Pixels] | None,
) -> Sequence[Check]:
    """Do what the command has found to be asked for."""
    from crispen import export, zoo
    from crispen.networks.weights import load_generator

    if model.weights is None:
        raise ModelError(f"the model {model.name} has no {zoo.WEIGHTS}, from which all exports are made")
    zoo.verify(model)
    if to == "folder":
        return export.export_model(model.weights, path, calibration=calibration, card=model.card)
    generator = load_generator(model.weights)
    _make_folder(path.parent)
    match to:
        case "onnx":
            opset = export.OPSET if opset is None else opset
            return export.export_onnx(generator, path, opset=opset, size=size, calibration=calibration)
        case "openvino":
            return export.export_openvino(generator, path, size=size, calibration=calibration)
        case "torchscript":
            return export.export_torchscript(generator, path)
