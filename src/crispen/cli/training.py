"""Commands for people who train: train, recipes, plot, data."""

from __future__ import annotations

import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from crispen.cli.options import ForceOption
from crispen.cli.root import INTERRUPTED, app
from crispen.cli.screen import bars, follow, show
from crispen.errors import require

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from crispen.training import Progress


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name (see: crispen recipes) or file.", show_default=False)
    ],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="PATH...",
            help="Training pictures: folders, tar and zip files, URLs, IDX and CIFAR files; each counts once.",
            show_default=False,
        ),
    ],
    more_data: Annotated[list[str] | None, typer.Argument(hidden=True, help="More of --data.")] = None,
    valid: Annotated[
        str | None, typer.Option(help="Pictures to validate on.", show_default="no validation")
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder: log, checkpoints, previews, weights.", show_default="runs/RECIPE"
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Overrides the recipe, as stage.gan.learning_rate=1e-4; may be repeated.",
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Weights of the perceptual loss's network: a file, or a folder of files.",
            show_default="torchvision's or timm's own, downloaded once",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a model's name, a model's or run's folder, a file, or a sum: A + B - C.",
            show_default="what the recipe says",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --run-dir.")] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Stop in time: write a checkpoint and weights after so long.",
            show_default="no end",
        ),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
) -> None:
    """Train a model.

    Ctrl-C writes a checkpoint and the weights so far, and says how to go on. Started by torchrun, training shares each
    batch between processes.
    """
    _require_training()
    from crispen.training import train as run

    run_dir = run_dir or Path("runs") / Path(recipe).stem
    _tell(f"run folder: {run_dir}")
    with _stop_signals() as should_stop, bars(speed=True) as drawn:
        last = _follow_training(
            run(
                recipe, data=[*data, *(more_data or [])], valid=valid, run_dir=run_dir, overrides=overrides or [],
                features=features, init=init, resume=resume, device=device,
                minutes=math.inf if minutes is None else minutes, should_stop=should_stop,
                command=sys.argv, watch_decoding=partial(_follow_decoding, drawn),
            ),
            drawn,
        )  # fmt: skip
    stopped = last is not None and last.step < last.steps
    if last and stopped:
        _tell(f"stopped after {last.stage} {last.step}/{last.steps}; to go on: {_resuming_command()}")
    weights = run_dir / "weights.safetensors"
    if weights.exists():  # a run that was stopped while its classifier learnt has none
        _tell(f"weights: {weights}")
    if _is_first_process():
        _plot_run(run_dir)
    code = INTERRUPTED if stopped and should_stop() else 0
    if _is_one_of_several():
        _end_at_once(code)
    raise typer.Exit(code)


def _end_at_once(code: int) -> NoReturn:
    """End one of several processes without Python's own ending.

    In that, threads of gloo's that have something of Python's left to let go were seen to abort it ("terminate called
    without an active exception"; pytorch/pytorch#179291), upon which torchrun ends the others, whatever they write.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


recipes_app = typer.Typer(
    invoke_without_command=True, help="List the bundled recipes; with a command, show one or the schema."
)
app.add_typer(recipes_app, name="recipes")


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """List the bundled recipes, or show one."""
    if context.invoked_subcommand:
        return
    from rich.table import Table

    _require_training()
    from crispen.training import recipes as bundled

    table = Table("name", "what it does", "cost")
    for name, recipe in bundled():
        table.add_row(name, recipe.title, recipe.cost)
    show(table)


@recipes_app.command("show")
def show_recipe(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or file.", show_default=False)],
) -> None:
    """Print a recipe, to be read or saved and changed."""
    _require_training()
    from crispen.training.recipe_file import find_recipe

    typer.echo(find_recipe(recipe).read_text(encoding="utf-8"), nl=False)


@recipes_app.command("schema")
def show_schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    _require_training()
    from crispen.training.recipe_file import recipe_schema

    typer.echo(recipe_schema(), nl=False)


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The PNG file to write.",
            show_default="training.png, in the run's folder; of several runs, here",
        ),
    ] = None,
    by: Annotated[Literal["step", "epoch", "hours"], typer.Option(help="What runs along the axis.")] = "step",
    force: ForceOption = False,
) -> None:
    """Draw the curves of training runs.

    Losses, D(real) and D(fake), PSNR, learning rate and speed of one run, or of several over each other.
    """
    require("matplotlib", purpose="plotting")
    from crispen.training.plots import NAME, plot_runs

    folder = runs[0] if len(runs) == 1 else Path()
    typer.echo(str(plot_runs(runs, output or folder / NAME, by=by, force=force)))


data_app = typer.Typer(no_args_is_help=True, help="Look after training data.")
app.add_typer(data_app, name="data")


@data_app.callback()
def data() -> None:
    """Look after training data."""


@data_app.command("check")
def check(
    paths: Annotated[
        list[str],
        typer.Argument(help="Folders, tar and zip files, URLs, IDX and CIFAR files.", show_default=False),
    ],
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder of a benchmark's pictures, which training must not see; may be repeated."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="A file for the report.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing report.")] = False,
) -> None:
    """Report sizes, unreadable files, duplicates, and pictures that overlap a benchmark.

    The exit code is 1 where anything is wrong.
    """
    _require_training("checking training data")
    from crispen.evaluation import check_report_path
    from crispen.training.data_check import check_data
    from crispen.training.run_log import write_whole

    checking = check_data(paths, benchmarks=benchmark or [])
    if json is not None:
        check_report_path(json, force=force)
        checking.check_apart(json)
    follow(checking, total=checking.total, label="checking")
    for line in checking.result.to_lines():
        typer.echo(line)
    if json is not None:
        write_whole(json, checking.result.to_json().encode())
    if not checking.result.is_clean:
        raise typer.Exit(1)


def _require_training(purpose: str = "training") -> None:
    for module in ("torch", "pydantic", "lightning_fabric"):
        require(module, purpose=purpose)


def _is_first_process() -> bool:
    """Whether this is the one process of several, as torchrun starts them, that talks."""
    return os.environ.get("RANK", "0") == "0"


def _is_one_of_several() -> bool:
    """Whether torchrun has started more processes than this."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _tell(line: str) -> None:
    if _is_first_process():
        typer.echo(line, file=sys.stdout)  # named, as a bar may have put itself in its place


@contextmanager
def _stop_signals() -> Generator[Callable[[], bool]]:
    """Turn the first Ctrl-C, or a request to terminate, into a flag; a second one ends the program as usual."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: object) -> None:
        asked.append(number)
        typer.echo("crispen: stopping after this step; once more to stop at once", err=True)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _resuming_command() -> str:
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return shlex.join([*_launcher(), *arguments, "--resume"])


def _launcher() -> list[str]:
    """What this program was started as: by itself, or by torchrun as one of several on this machine."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ["crispen"]
    return ["torchrun", "--nproc-per-node", os.environ["LOCAL_WORLD_SIZE"], "-m", "crispen"]


def _plot_run(run_dir: Path) -> None:
    from crispen.training import run_log
    from crispen.training.plots import NAME, plot_runs

    log = run_dir / run_log.NAME
    if log.is_file() and log.stat().st_size:  # a run that was stopped early may have no line yet
        plot_runs([run_dir], run_dir / NAME)


def _follow_decoding(drawn: Bars, pictures: Iterable[object], total: int | None) -> None:
    """Take all pictures that are being decoded, with a bar."""
    for _ in drawn.track(pictures, total=total, description="decoding"):
        pass


def _follow_training(run: Iterable[Progress], drawn: Bars) -> Progress | None:
    """Take all steps of a training run, with a bar for each stage and a line for each validation; return the last."""
    tasks: dict[str, TaskID] = {}
    progress = None
    for progress in run:
        if progress.stage not in tasks:
            tasks[progress.stage] = drawn.add_task(
                progress.stage, total=progress.steps, completed=progress.step - 1
            )
        description = f"{progress.stage} {_shown(_losses(progress.scalars))}"
        drawn.update(tasks[progress.stage], completed=progress.step, description=description)
        for note in progress.notes if _is_first_process() else ():
            typer.echo(f"crispen: note: {note}", file=sys.stderr, err=True)
        if progress.validation:
            _tell(f"{progress.stage} {progress.step}/{progress.steps} {_shown(progress.validation)}")
    return progress


def _losses(scalars: Mapping[str, float]) -> dict[str, float]:
    return {name.removesuffix("_loss"): value for name, value in scalars.items() if name.endswith("_loss")}


def _shown(scalars: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in scalars.items())
