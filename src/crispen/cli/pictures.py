"""Commands for people with pictures: upscale, evaluate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crispen import DEFAULT_MODEL, Device, Precision, Runtime, load
from crispen.cli.root import app
from crispen.cli.screen import follow, say_error, show
from crispen.errors import CrispenError, UsageError

if TYPE_CHECKING:
    from crispen.evaluation import Method, Report
    from crispen.jobs import Job
    from crispen.upscaling import Upscaler


def _named(model: str) -> str:
    """Refuse the empty name, which as a path would mean the working folder."""
    if not model:
        raise UsageError(
            "--model must name a model: one that crispen models lists, or a model's folder or file"
        )
    return model


ModelOption = Annotated[
    str,
    typer.Option(
        callback=_named,
        help="A bundled model's name (see: crispen models), a model's folder, or its .onnx or .safetensors file.",
    ),
]
RuntimeOption = Annotated[Runtime, typer.Option(help="What runs the network; torch needs the extra train.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the network runs.")]
TileOption = Annotated[
    int | None,
    typer.Option(
        help="Side of the tiles in pixels of the input; smaller takes less memory.", show_default="by memory"
    ),
]


@app.command()
def upscale(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures (PNG, JPEG, WebP, TIFF, GIF, AVIF), and folders, without their subfolders.",
            readable=False,  # not for Typer to check: it would refuse all for one
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o",
            help="A file (.png, .jpg, .webp, .tif); or a folder, with a slash at its end or for several pictures.",
            show_default="NAME-x4.png beside each picture",
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    tile: TileOption = None,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Arithmetic; auto: bf16 for 8-bit pictures where the processor has it.")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:  # fmt: skip
    """Enlarge pictures.

    One line is printed for each result. Where a picture fails the others are enlarged all the same.
    """
    from crispen import jobs, zoo
    from crispen.upscaling import Upscaler

    found = zoo.find(model)
    planned, errors = jobs.plan(inputs, output=output, scale=found.scale, force=force)
    with jobs.folders(planned) as (ready, unwritable):
        errors += unwritable
        for error in errors:
            say_error(error)
        if ready:
            upscaler = Upscaler(found, runtime=runtime, device=device, precision=precision, tile=tile)
            errors += _work_off(ready, upscaler, force=force)
    if errors:
        raise typer.Exit(1)


def _work_off(planned: Sequence[Job], upscaler: Upscaler, *, force: bool) -> list[CrispenError]:
    """Do all jobs, the others where one fails, and return the errors."""
    errors: list[CrispenError] = []
    for number, job in enumerate(planned, start=1):
        label = job.source.name if len(planned) == 1 else f"{number}/{len(planned)} {job.source.name}"
        try:
            typer.echo(_enlarge(job, upscaler, label=label, force=force))
        except CrispenError as error:
            say_error(error)
            errors.append(error)
    return errors


def _enlarge(job: Job, upscaler: Upscaler, *, label: str, force: bool) -> str:
    """Do one job and return what to say about it."""
    from crispen import images

    started = time.monotonic()
    picture = images.read(job.source)
    images.check_destination(job.target, force=force, picture=picture, scale=upscaler.scale)
    enlargement = upscaler.enlarge(picture)
    follow(enlargement, total=len(enlargement), label=label)
    large = enlargement.result
    images.write(large, job.target, force=force)
    sizes = f"{picture.width}x{picture.height} -> {job.target} {large.width}x{large.height}"
    return f"{job.source} {sizes} ({time.monotonic() - started:.1f} s)"


@app.command()
def evaluate(
    benchmark: Annotated[
        Path,
        typer.Option(help="The folder of the benchmark's ground truth.", show_default=False, readable=False),
    ],
    model: Annotated[
        str,
        typer.Option(callback=_named, help="As for upscale; or bicubic, for MATLAB's interpolation."),
    ] = DEFAULT_MODEL,
    lr: Annotated[
        Path | None,
        typer.Option(
            help="A folder of the pictures to enlarge.",
            show_default="made by MATLAB's bicubic imresize",
            readable=False,
        ),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            help="By how much to enlarge; a model has one scale, bicubic takes any.",
            show_default="the model's; bicubic: 4",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="A file for the report.", show_default=False, readable=False)
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="A folder for the enlarged pictures.", show_default=False, readable=False),
    ] = None,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    precision: Annotated[Precision, typer.Option(help="Arithmetic; published numbers are fp32.")] = "fp32",
    tile: TileOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite an existing report and pictures.")
    ] = False,
) -> None:
    """Measure a model's PSNR and SSIM on a benchmark.

    The numbers come with the protocol under which they were measured.
    """
    from crispen import evaluation

    method = _method(model, scale, runtime=runtime, device=device, precision=precision, tile=tile)
    pictures = evaluation.open_benchmark(
        benchmark, scale=method.scale if scale is None else scale, lr_folder=lr
    )
    if json is not None:
        evaluation.check_report_path(json, force=force)
    running = evaluation.evaluate(method, pictures, save=save, force=force)
    follow(running, total=len(running), label=f"{method.name} on {pictures.name}")
    report = running.result
    if json is not None:
        evaluation.write_report(report, json, force=force)
    _show_report(report)


def _method(
    model: str, scale: int | None, *, runtime: Runtime, device: Device, precision: Precision, tile: int | None
) -> Method:
    from crispen import evaluation

    if model == "bicubic":
        return evaluation.bicubic(4 if scale is None else scale)
    upscaler = load(model, runtime=runtime, device=device, precision=precision, tile=tile)
    return evaluation.learned(upscaler)


def _show_report(report: Report) -> None:
    show(report.to_table())
    typer.echo(f"protocol: {report.protocol.describe()}")
    typer.echo(f"computed by: {report.runtime}")
