"""The command evaluate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crispen import DEFAULT_MODEL, Device, Precision, Runtime, load
from crispen.cli.options import DeviceOption, EnsembleOption, EvaluatedOption, RuntimeOption, TileOption
from crispen.cli.root import app
from crispen.cli.screen import follow, say_that_all_answers_are_one, show
from crispen.errors import UsageError, require

if TYPE_CHECKING:
    from crispen.evaluation import Method, Reduction, Report


@app.command()
def evaluate(
    benchmark: Annotated[
        Path,
        typer.Option(help="The folder of the benchmark's ground truth.", show_default=False, readable=False),
    ],
    model: EvaluatedOption = DEFAULT_MODEL,
    ensemble: EnsembleOption = False,
    lr: Annotated[
        Path | None,
        typer.Option(
            help="A folder of the pictures to enlarge.",
            show_default="made by MATLAB's bicubic imresize",
            readable=False,
        ),
    ] = None,
    degrade: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="Spoil the pictures to enlarge as this recipe's training does; bicubic is measured beside the model.",
            show_default="clean pictures",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of --degrade; 0 spoils as the validation of a training run does.")
    ] = 0,
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
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="A picture for crops at full size, side by side: input, bicubic, the model, truth.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="The sheet shows this model too. May be repeated.", show_default=False
        ),
    ] = None,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    precision: Annotated[Precision, typer.Option(help="Arithmetic; published numbers are fp32.")] = "fp32",
    tile: TileOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite an existing report, sheet and pictures.")
    ] = False,
) -> None:
    """Measure a model's PSNR and SSIM on a benchmark.

    The numbers come with the protocol under which they were measured.
    """
    from crispen import evaluation, images

    if against and sheet is None:
        raise UsageError("--against is for the sheet: say with --sheet where to write it")
    if lr is not None and degrade is not None:
        raise UsageError("--lr and --degrade exclude each other: pictures to enlarge are given or made")
    if ensemble and model == "bicubic":
        raise UsageError("--ensemble is for models: bicubic is the same however a picture is turned")
    if seed and degrade is None:
        raise UsageError("--seed is for --degrade, which says how pictures are spoilt")
    reduction = None if degrade is None else _degradation(degrade, seed=seed)
    make = partial(_method, ensemble=ensemble, runtime=runtime, device=device, precision=precision, tile=tile)
    method = make(model, scale)
    others = [make(name, method.scale) for name in against or []]
    pictures = evaluation.open_benchmark(
        benchmark, scale=method.scale if scale is None else scale, lr_folder=lr, reduction=reduction
    )
    beside = evaluation.bicubic(method.scale) if reduction and model != "bicubic" else None
    if json is not None:
        evaluation.check_report_path(json, force=force)
    if sheet is not None:
        images.check_destination(sheet, force=force)
    pictures.check_apart(*filter(None, (json, sheet)))
    running = evaluation.evaluate(method, pictures, save=save, force=force, beside=beside)
    crops = evaluation.Sheet([method, *others], pictures)
    follow(running, total=len(running), label=f"{method.name} on {pictures.name}")
    report = running.result
    if json is not None:
        evaluation.write_report(report, json, force=force)
    if sheet is not None:
        follow(crops, total=len(crops), label=str(sheet))
        images.write(images.from_array(crops.result), sheet, force=force)
    _show_report(report)


def _degradation(recipe: str, *, seed: int) -> Reduction:
    for module in ("torch", "pydantic", "lightning_fabric"):
        require(module, purpose="--degrade")
    from crispen.training.degradation import reduction_of
    from crispen.training.recipe_file import load_recipe

    return reduction_of(load_recipe(recipe), seed=seed)


def _method(
    model: str,
    scale: int | None,
    *,
    ensemble: bool,
    runtime: Runtime,
    device: Device,
    precision: Precision,
    tile: int | None,
) -> Method:
    from crispen import evaluation

    if model == "bicubic":
        return evaluation.bicubic(4 if scale is None else scale)
    upscaler = load(model, ensemble=ensemble, runtime=runtime, device=device, precision=precision, tile=tile)
    if ensemble and not upscaler.ensemble:
        say_that_all_answers_are_one(model)
    return evaluation.learned(upscaler)


def _show_report(report: Report) -> None:
    show(report.to_table())
    typer.echo(f"protocol: {report.protocol.describe()}")
    typer.echo(f"computed by: {report.runtime}")
