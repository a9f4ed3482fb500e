"""Curves of training runs, from their logs to one PNG: a panel for each quantity, a colour for each run.

Runs are laid over each other, since what one wants to see is which is better, and by how much. The stages of a run
stand one after another. Losses are noisy from step to step, so a moving average is drawn over the faint points
themselves; validation is drawn as it is.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from crispen.errors import TrainingError, UsageError, require
from crispen.training.run_log import Entry, read_log, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

By = Literal["step", "epoch", "hours"]
Values = NDArray[np.float64]

NAME = "training.png"
"""Of a run's own plot, in its folder."""

COLUMNS = 3
RUNS_PER_LINE = 6
"""In the legend."""
WIDTH, PANEL_HEIGHT, LEGEND_LINE, FOOT = 16.0, 3.0, 0.3, 0.55
"""Inches."""
DPI = 100
TEXT, SMALL = 11, 10
"""Points."""

X_LABEL: dict[By, str] = {"step": "steps", "epoch": "epochs", "hours": "hours of training"}

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Colours that the colour-blind tell apart: M. Okabe and K. Ito, "Color Universal Design", 2008."""

SMOOTHING = 0.08
"""Part of a stage's points that the moving average takes in."""

LOGARITHMIC_FROM = 3.0
"""Least ratio of the largest to the smallest value for which a loss gets a logarithmic scale."""


@dataclass(frozen=True, slots=True)
class Panel:
    """What one small plot shows."""

    title: str
    unit: str
    names: tuple[str, ...]
    """The log's numbers that are drawn in it: the first solid, the second dashed."""
    logarithmic: bool = False
    decades: float = 6.0
    """How far down from the largest value a logarithmic scale goes at most."""
    limits: tuple[float, float] | None = None
    """Of the y axis, where they are known beforehand."""
    labels: tuple[str, ...] = ()
    """What the lines are, where there is more than one."""


PANELS = (
    Panel("Pixel loss", "mean over pixels; psnr: dB", ("pixel_loss",), logarithmic=True),
    Panel("Perceptual loss", "distance of features", ("perceptual_loss",), logarithmic=True),
    Panel("Grid loss", "variance between places", ("grid_loss",), logarithmic=True),
    Panel("Texture loss", "difference of amplitudes", ("texture_loss",), logarithmic=True),
    Panel("Total variation loss", "loss", ("total_variation_loss",), logarithmic=True),
    Panel("Adversarial loss", "loss", ("adversarial_loss",), logarithmic=True),
    Panel("Feature matching loss", "distance of features", ("feature_matching_loss",), logarithmic=True),
    Panel("Classifier loss", "cross-entropy, nats", ("classifier_loss",), logarithmic=True),
    Panel("Generator loss, weighted sum", "loss", ("generator_loss",), logarithmic=True),
    Panel("Generator's gradient", "norm", ("generator_gradient_norm",), logarithmic=True),
    Panel("Discriminator loss", "loss", ("discriminator_loss",), logarithmic=True),
    Panel(
        "D(real) and D(fake)",
        "probability of being real",
        ("real_probability", "fake_probability"),
        limits=(0, 1),
        labels=("D(real)", "D(fake)"),
    ),
    Panel("Classifier accuracy, training", "fraction right", ("classifier_accuracy",)),
    Panel("PSNR, validation", "dB", ("valid_psnr",)),
    Panel("PSNR, validation, spoilt", "dB", ("valid_degraded_psnr",)),
    Panel("Perceptual loss, validation", "distance of features", ("valid_perceptual_loss",)),
    Panel("Perceptual loss, validation, spoilt", "distance of features", ("valid_degraded_perceptual_loss",)),
    Panel("Checkerboard pattern, validation", "dB over neighbours", ("valid_checkerboard",)),
    Panel("Checkerboard pattern, validation, spoilt", "dB over neighbours", ("valid_degraded_checkerboard",)),
    Panel("Classifier accuracy, validation", "fraction right", ("valid_accuracy",)),
    Panel("Learning rate", "", ("learning_rate",), logarithmic=True, decades=3.0),
    Panel("Speed", "seconds per step", ("seconds_per_step",), logarithmic=True),
)
"""The panels, those that no run has numbers for left out; numbers without a panel here get one of their own."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A number over one stage of a run."""

    x: Values
    y: Values


@dataclass(frozen=True, slots=True)
class RunCurves:
    """A run as it is drawn."""

    label: str
    colour: Any
    curves: dict[str, list[Curve]]
    """By the number's name, for each stage that has it."""
    boundaries: dict[str, float] = field(default_factory=dict[str, float])
    """Where on the x axis each stage after the first begins."""


def plot_runs(
    run_dirs: Sequence[str | Path], output: str | Path, *, by: By = "step", force: bool = False
) -> Path:
    """Draw losses, D(real) and D(fake), validation and learning rate of one or more runs.

    Args:
        run_dirs: folders of runs, also of running ones.
        output: the PNG to write, 1600 pixels wide.
        by: what runs along the x axis: steps, epochs, or hours of training (pauses left out), over all stages.
        force: whether a file that is there already may be replaced; ``training.png`` in a run's folder always may.

    Returns:
        ``output``.

    Raises:
        UsageError: for no folder, one without a log or with an empty one, an output that is not called .png, or epochs
            where a log has none.
        DataError: for a damaged log.
        TrainingError: where the output exists already or cannot be written.
        MissingExtra: where matplotlib is not installed.
    """
    run_dirs, output = [Path(run_dir) for run_dir in run_dirs], Path(output)
    if output.suffix.lower() != ".png":
        raise UsageError(f"plots are written as PNG, so the output must be called ….png, not {output.name}")
    own = [(run_dir / NAME).resolve() for run_dir in run_dirs]
    if output.exists() and not force and output.resolve() not in own:
        raise TrainingError(f"{output} exists already; it is replaced only with force")
    require("matplotlib", purpose="plotting")
    figure = _draw(_load_runs(run_dirs, by), by)
    write_whole(output, _to_png(figure))
    return output


def _load_runs(run_dirs: Sequence[Path], by: By) -> list[RunCurves]:
    if not run_dirs:
        raise UsageError("name at least one run's folder to plot")
    labels = _labels(run_dirs)
    colours = _colours(len(run_dirs))
    return [
        _make_run(run_dir, label, colour, by)
        for run_dir, label, colour in zip(run_dirs, labels, colours, strict=True)
    ]


def _labels(run_dirs: Sequence[Path]) -> list[str]:
    """The folders' names; whole paths where two have the same."""
    names = [run_dir.resolve().name for run_dir in run_dirs]
    return names if len(set(names)) == len(names) else [str(run_dir) for run_dir in run_dirs]


def _colours(count: int) -> list[Any]:
    if count <= len(OKABE_ITO):
        return list(OKABE_ITO[:count])
    from matplotlib import colormaps

    return [colormaps["cividis"](index / (count - 1)) for index in range(count)]


def _make_run(run_dir: Path, label: str, colour: Any, by: By) -> RunCurves:
    entries = read_log(run_dir)
    if not entries:
        raise UsageError(f"there is nothing to plot in {run_dir} yet: its log is empty")
    stages = _stages(entries)
    x = _hours(entries) if by == "hours" else _added_up(_counts(entries, by, run_dir), stages)
    curves: dict[str, list[Curve]] = {}
    for lines in stages.values():
        for name, curve in _curves([entries[index] for index in lines], x[lines]).items():
            curves.setdefault(name, []).append(curve)
    boundaries = {
        stage: float(x[before].max())
        for before, stage in zip(stages.values(), list(stages)[1:], strict=False)
    }
    return RunCurves(label, colour, curves, boundaries)


def _stages(entries: Sequence[Entry]) -> dict[str, list[int]]:
    """The stages in their order, and the numbers of each one's lines."""
    stages: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        stages.setdefault(entry.stage, []).append(index)
    return stages


def _curves(entries: Sequence[Entry], x: Values) -> dict[str, Curve]:
    """Every number of some lines over ``x``, where it is finite."""
    rows = [_numbers(entry) for entry in entries]
    curves: dict[str, Curve] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        y = np.array([row.get(name, math.nan) for row in rows], np.float64)
        finite = np.isfinite(y)
        if finite.any():
            curves[name] = Curve(x[finite], y[finite])
    return curves


def _numbers(entry: Entry) -> dict[str, float]:
    more = {"learning_rate": entry.learning_rate, "seconds_per_step": entry.seconds_per_step}
    return entry.scalars | {name: value for name, value in more.items() if value is not None}


def _counts(entries: Sequence[Entry], by: By, run_dir: Path) -> Values:
    """Steps or epochs at each line, counted from the start of its stage."""
    counts = [float(entry.step) if by == "step" else entry.epoch for entry in entries]
    if None in counts:
        raise UsageError(f"the log of {run_dir} does not count epochs: plot it by step or hours")
    return np.array(counts, np.float64)


def _added_up(counts: Values, stages: Mapping[str, Sequence[int]]) -> Values:
    """Counts that begin anew in each stage, counted from the start of the run."""
    total, offset = counts.copy(), 0.0
    for lines in stages.values():
        total[lines] += offset
        offset = total[lines].max()
    return total


def _hours(entries: Sequence[Entry]) -> Values:
    """Hours of training up to each line: a pause between stopping and resuming does not count."""
    seconds = [0.0]
    for before, entry in pairwise(entries):
        seconds.append(seconds[-1] + _seconds_between(before, entry))
    return np.array(seconds) / 3600


def _seconds_between(before: Entry, entry: Entry) -> float:
    """By speed where the log has it; older logs have the time alone, pauses included."""
    steps = entry.step - before.step if entry.stage == before.stage else entry.step
    if entry.seconds_per_step is not None:
        return entry.seconds_per_step * steps
    if before.seconds_per_step is not None:
        return before.seconds_per_step * steps  # the first line after a restart
    return max(0.0, (entry.time or 0.0) - (before.time or 0.0))


def _draw(runs: Sequence[RunCurves], by: By) -> Figure:
    from matplotlib.figure import Figure

    panels = _panels(runs)
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    head = LEGEND_LINE * (1 + math.ceil(len(runs) / RUNS_PER_LINE))
    height = head + rows * PANEL_HEIGHT + FOOT
    figure = Figure((WIDTH, height), DPI)
    margins = {"left": 0.055, "right": 0.985, "top": 1 - head / height, "bottom": FOOT / height}
    grid = figure.subplots(
        rows, columns, squeeze=False, sharex=True, gridspec_kw={**margins, "wspace": 0.22, "hspace": 0.3}
    )
    for index, axes in enumerate(grid.flat):
        if index < len(panels):
            _draw_panel(axes, panels[index], runs, by)
        else:
            axes.set_axis_off()
    figure.supxlabel(X_LABEL[by], fontsize=TEXT, y=0.1 / height)
    _draw_legend(figure, runs)
    return figure


def _panels(runs: Sequence[RunCurves]) -> list[Panel]:
    """Those of `PANELS` that some run has numbers for, and one for each number that they do not know."""
    logged = dict.fromkeys(name for run in runs for name in run.curves)
    known = {name for panel in PANELS for name in panel.names}
    others = [Panel(name.replace("_", " "), "", (name,)) for name in logged if name not in known]
    return [panel for panel in (*PANELS, *others) if logged.keys() & set(panel.names)]


def _draw_panel(axes: Axes, panel: Panel, runs: Sequence[RunCurves], by: By) -> None:
    for run in runs:
        for name, style in zip(panel.names, ("-", "--"), strict=False):
            for curve in run.curves.get(name, []):
                _draw_curve(axes, name, curve, run.colour, style)
        for stage, x in run.boundaries.items():
            _draw_boundary(axes, x, stage if len(runs) == 1 else "", run.colour)
    if panel.logarithmic:
        _make_logarithmic(axes, panel, runs)
    if panel.limits:
        axes.set_ylim(panel.limits)
    if panel.labels:
        _explain_styles(axes, panel.labels)
    axes.set_title(panel.title, fontsize=TEXT, loc="left")
    axes.set_ylabel(panel.unit, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL, labelbottom=True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if by == "step":
        axes.xaxis.set_major_formatter(_thousands)


def _draw_curve(axes: Axes, name: str, curve: Curve, colour: Any, style: str) -> None:
    """Validation with a mark at each; schedules as they are; all else as a moving average over faint points."""
    measured, scheduled = name.startswith("valid_"), name == "learning_rate"
    marker = "o" if measured or len(curve.x) == 1 else ""
    y = curve.y if measured or scheduled else _smooth(curve.y)
    if not (measured or scheduled):
        axes.plot(curve.x, curve.y, ".", color=colour, alpha=0.3, markersize=4, markeredgewidth=0)
    axes.plot(curve.x, y, style, color=colour, linewidth=1.6, marker=marker, markersize=4)


def _smooth(values: Values) -> Values:
    """Centred moving average, over what there is of its reach at the ends."""
    reach = round(len(values) * SMOOTHING / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, end = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    return (sums[end] - sums[first]) / (end - first)


def _draw_boundary(axes: Axes, x: float, stage: str, colour: Any) -> None:
    axes.axvline(x, color=colour, alpha=0.4, linewidth=1, linestyle=":")
    place = axes.get_xaxis_transform()  # x in data, y from the bottom (0) to the top (1) of the panel
    axes.text(x, 1.0, f" {stage}", transform=place, fontsize=SMALL, color="0.4", ha="left", va="top")


def _make_logarithmic(axes: Axes, panel: Panel, runs: Sequence[RunCurves]) -> None:
    """Give the y axis a logarithmic scale, unless values are negative or too close together to need one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = [curve.y for run in runs for name in panel.names for curve in run.curves.get(name, [])]
    low, high = min(y.min() for y in values), max(y.max() for y in values)
    if low < 0 or high < LOGARITHMIC_FROM * low or high == 0:
        return
    axes.set_yscale("log")
    floor = high / 10**panel.decades
    if low < floor:
        axes.set_ylim(bottom=floor)
    few = math.log10(high / max(low, floor)) < 2
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if few else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _explain_styles(axes: Axes, labels: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color="0.3", linestyle=style) for _, style in zip(labels, ("-", "--"), strict=False)
    ]
    axes.legend(lines, labels, fontsize=SMALL, loc="best", framealpha=0.8)


def _draw_legend(figure: Figure, runs: Sequence[RunCurves]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=run.colour, linewidth=2.5) for run in runs]
    labels = [run.label for run in runs]
    figure.legend(lines, labels, loc="upper left", ncols=RUNS_PER_LINE, fontsize=TEXT, frameon=False)


def _thousands(value: float, _: float) -> str:
    """Steps as 500, 2k or 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _plain(value: float, _: float) -> str:
    """A loss as 0.02, where a logarithmic scale has 2·10⁻² by itself."""
    return f"{value:g}"


def _to_png(figure: Figure) -> bytes:
    """Render without pyplot, whose figures are global."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
