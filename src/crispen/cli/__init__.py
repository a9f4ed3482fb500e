"""The command ``crispen``: it parses, calls, shows progress, and says in one line what went wrong.

Whatever is slow to import is imported inside the commands, so that ``--help`` comes at once.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from crispen import DEFAULT_MODEL, Device, Precision, Runtime, __version__, load
from crispen.errors import CrispenError, require

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.table import Table

    from crispen.evaluation import Method, Report
    from crispen.jobs import Job
    from crispen.training import Progress
    from crispen.upscaling import Upscaler

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

PIPED_WIDTH = 160
"""Columns of a table that is not shown on a terminal."""


class _Group(TyperGroup):
    """Ends every command the same way: what we or the file system refuse in one line, with its exit code."""

    def invoke(self, ctx: Any) -> object:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # for names that no terminal can show
        try:
            return super().invoke(ctx)
        except CrispenError as error:
            _say_error(error)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:  # whoever read our output has gone: Typer ends quietly
            raise
        except OSError as error:  # a disk that is full, a name that is too long
            _say_error(error if error.filename is None else f"{error.filename}: {error.strerror}")
            raise typer.Exit(CrispenError.exit_code) from error
        except KeyboardInterrupt as interrupt:
            typer.echo("crispen: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from interrupt


app = typer.Typer(
    name="crispen",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelOption = Annotated[
    str, typer.Option(help="A bundled model's name (see: crispen models), or a model's folder.")
]
RuntimeOption = Annotated[Runtime, typer.Option(help="What runs the network; torch needs the extra train.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the network runs.")]
TileOption = Annotated[
    int | None,
    typer.Option(
        help="Side of the tiles in pixels of the input; smaller takes less memory.", show_default="by memory"
    ),
]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"crispen {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Make small pictures large and sharp, and train and measure the networks that do it."""


@app.command()
def upscale(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures and folders of pictures.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o",
            help="A file; or a folder, with a slash at its end or for several pictures.",
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
    for error in errors:
        _say_error(error)
    if planned:
        jobs.make_folders(planned)
        upscaler = Upscaler(found, runtime=runtime, device=device, precision=precision, tile=tile)
        errors += _work_off(planned, upscaler, force=force)
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
            _say_error(error)
            errors.append(error)
    return errors


def _enlarge(job: Job, upscaler: Upscaler, *, label: str, force: bool) -> str:
    """Do one job and return what to say about it."""
    from crispen import images

    started = time.monotonic()
    picture = images.read(job.source)
    images.check_destination(job.target, force=force, picture=picture, scale=upscaler.scale)
    enlargement = upscaler.enlarge(picture)
    _follow(enlargement, total=len(enlargement), label=label)
    large = enlargement.result
    images.write(large, job.target, force=force)
    sizes = f"{picture.width}x{picture.height} -> {job.target} {large.width}x{large.height}"
    return f"{job.source} {sizes} ({time.monotonic() - started:.1f} s)"


@app.command()
def evaluate(
    benchmark: Annotated[
        Path, typer.Option(help="The folder of the benchmark's ground truth.", show_default=False)
    ],
    model: Annotated[
        str, typer.Option(help="A bundled model's name (see: crispen models), a model's folder, or bicubic.")
    ] = DEFAULT_MODEL,
    lr: Annotated[
        Path | None,
        typer.Option(
            help="A folder of the pictures to enlarge.", show_default="made by MATLAB's bicubic imresize"
        ),
    ] = None,
    scale: Annotated[
        int | None, typer.Option(help="By how much.", show_default="the model's; bicubic: 4")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="A file for the report.", show_default=False)] = None,
    save: Annotated[
        Path | None, typer.Option(help="A folder for the enlarged pictures.", show_default=False)
    ] = None,
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    precision: Annotated[Precision, typer.Option(help="Arithmetic; published numbers are fp32.")] = "fp32",
    tile: TileOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite an existing report and pictures.")
    ] = False,
) -> None:
    """Measure a model's PSNR and SSIM on a benchmark, under a protocol that is stated with the numbers."""
    from crispen import evaluation

    method = _method(model, scale, runtime=runtime, device=device, precision=precision, tile=tile)
    pictures = evaluation.open_benchmark(
        benchmark, scale=method.scale if scale is None else scale, lr_folder=lr
    )
    running = evaluation.evaluate(method, pictures, save=save, force=force)
    if json is not None:
        evaluation.check_report_path(json, force=force)
    _follow(running, total=len(running), label=f"{method.name} on {pictures.name}")
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
    _show(report.to_table())
    typer.echo(f"protocol: {report.protocol.describe()}")
    typer.echo(f"computed by: {report.runtime}")


@app.command()
def models() -> None:
    """List the bundled models."""
    from rich.table import Table

    from crispen import zoo

    table = Table("name", "scale", "purpose", "licence", "Set5 PSNR")
    for card in zoo.models():
        set5 = next((f"{entry.psnr:.2f} dB" for entry in card.measured if entry.benchmark == "Set5"), "")
        table.add_row(card.name, f"x{card.scale}", card.purpose, card.licence, set5)
    _show(table)


@app.command()
def export(
    weights: Annotated[
        Path, typer.Argument(help="weights.safetensors of a training run.", show_default=False)
    ],
    folder: Annotated[Path, typer.Argument(help="The model's folder, to be made.", show_default=False)],
) -> None:
    """Make a model's folder, for upscaling without torch, from trained weights."""
    require("torch", purpose="export")
    from crispen.export import export_model

    export_model(weights, folder)
    typer.echo(f"{weights} -> {folder}")


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name (see: crispen recipes) or file.", show_default=False)
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            metavar="PATH...", help="Training pictures: folders, tar files, pictures.", show_default=False
        ),
    ],
    more_data: Annotated[list[Path] | None, typer.Argument(hidden=True, help="More of --data.")] = None,
    valid: Annotated[
        Path | None, typer.Option(help="Pictures to validate on.", show_default="no validation")
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="The run's folder: log, checkpoints, weights.", show_default="runs/RECIPE"),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Overrides the recipe, as stage.gan.steps=1000; may be repeated.",
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Weights of the perceptual loss's network: a file, or a folder of files.", show_default=False
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="A model's name or folder to start from.", show_default="what the recipe says"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --run-dir.")] = False,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to train.")] = "cpu",
) -> None:
    """Train a model."""
    _require_training()
    from crispen.training import train as run

    run_dir = run_dir or Path("runs") / Path(recipe).stem
    typer.echo(f"run folder: {run_dir}")
    _follow_training(
        run(
            recipe, data=[*data, *(more_data or [])], valid=valid, run_dir=run_dir, overrides=overrides or [],
            features=features, init=init, resume=resume, device=device,
        )
    )  # fmt: skip
    typer.echo(f"weights: {run_dir / 'weights.safetensors'}")


@app.command()
def recipes() -> None:
    """List the bundled recipes."""
    from rich.table import Table

    _require_training()
    from crispen.training import recipes as bundled

    table = Table("name", "what it does")
    for name, title in bundled():
        table.add_row(name, title)
    _show(table)


def _require_training() -> None:
    for module in ("torch", "pydantic"):
        require(module, purpose="training")


def _follow(steps: Iterable[object], *, total: int, label: str) -> None:
    """Take all steps of a long job, with a bar where there is a terminal."""
    with _bars() as bars:
        for _ in bars.track(steps, total=total, description=label):
            pass


def _follow_training(run: Iterable[Progress]) -> None:
    """Take all steps of a training run, with a bar for each stage and a line for each validation."""
    tasks: dict[str, TaskID] = {}
    with _bars() as bars:
        for progress in run:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, total=progress.steps)
            description = f"{progress.stage} {_shown(progress.scalars)}"
            bars.update(tasks[progress.stage], completed=progress.step, description=description)
            if progress.validation:
                line = f"{progress.stage} {progress.step}/{progress.steps} {_shown(progress.validation)}"
                typer.echo(line, file=sys.stdout)  # named, as the bar has put itself in its place


def _shown(scalars: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in scalars.items())


def _bars() -> Bars:
    """Bars on stderr, gone when done; none where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Bars(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),  # a piped stdout must go on getting its lines
        redirect_stderr=False,
    )


def _show(table: Table) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def _say_error(error: Exception | str) -> None:
    sentence = " ".join(str(error).splitlines())
    typer.echo(f"crispen: error: {sentence}", err=True)


def main() -> None:
    """Run the command line; the entry point of ``crispen`` and ``python -m crispen``."""
    app()
