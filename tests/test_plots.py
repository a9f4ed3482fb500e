"""Plots of runs: what is in them is looked at in the figure; the file is a PNG of the promised width."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from crispen import images
from crispen.errors import MissingExtra, TrainingError, UsageError
from crispen.training import plots
from crispen.training.plots import By, plot_runs

Line = dict[str, Any]


def make_run(folder: Path, lines: Sequence[Line]) -> Path:
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def two_stages(*, epochs: bool = True, factor: float = 1.0) -> list[Line]:
    """20 steps of pretraining and 40 against a discriminator, a line for each second."""
    lines: list[Line] = []
    for stage, steps in (("pretrain", 20), ("gan", 40)):
        for step in range(2, steps + 1, 2):
            line: Line = {
                "time": 1000.0 + 2 * len(lines),
                "stage": stage,
                "step": step,
                "learning_rate": 1e-4,
            }
            line |= {"epoch": step / 10} if epochs else {}
            line["pixel_loss"] = factor * math.exp(-step / 10)
            if stage == "gan":
                line |= {"real_probability": 0.7, "fake_probability": 0.3, "discriminator_loss": 1.0}
            if step % 10 == 0:
                line["valid_psnr"] = 20 + step / 10
            lines.append(line)
    return lines


def draw(run_dirs: Sequence[Path], by: By = "step") -> dict[str, Any]:
    """The panels by title."""
    figure = plots._draw(plots._load_runs(run_dirs, by), by)  # pyright: ignore[reportPrivateUsage]  # a PNG cannot be asked what it shows
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.axison}


def solid(axes: Any) -> list[Any]:
    """The curves of a panel, without faint points and the marks of stages."""
    return [line for line in axes.lines if line.get_linestyle() in ("-", "--")]


def test_a_png_of_1600_pixels(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", two_stages())
    output = tmp_path / "plots" / "run.png"
    assert plot_runs([run], output) == output
    picture = images.read(output)
    assert picture.width == 1600
    assert np.unique(picture.pixels.reshape(-1, picture.pixels.shape[2]), axis=0).shape[0] > 10
    assert [file.name for file in output.parent.iterdir()] == ["run.png"], "no temporary file is left"


def test_a_panel_for_each_quantity_that_is_logged(tmp_path: Path) -> None:
    lines = [line | {"something_new": 1.0} for line in two_stages()]
    panels = draw([make_run(tmp_path / "run", lines)])
    assert list(panels) == [
        "Pixel loss", "Discriminator loss", "D(real) and D(fake)", "PSNR, validation", "Learning rate",
        "something new",
    ]  # fmt: skip


def test_every_loss_of_a_run_has_a_title_and_says_what_it_counts(tmp_path: Path) -> None:
    """The pixel loss may be one of several, so that its unit is said for each."""
    losses = "pixel", "perceptual", "grid", "texture", "total_variation", "adversarial", "feature_matching"
    line: Line = {"stage": "gan", "step": 1, "learning_rate": 1.0} | {f"{loss}_loss": 1.0 for loss in losses}
    panels = draw([make_run(tmp_path / "run", [line])])
    assert list(panels) == [
        "Pixel loss", "Perceptual loss", "Grid loss", "Texture loss", "Total variation loss", "Adversarial loss",
        "Feature matching loss", "Learning rate",
    ]  # fmt: skip
    assert panels["Pixel loss"].get_ylabel() == "mean over pixels; psnr: dB"
    assert all(axes.get_ylabel() for title, axes in panels.items() if title != "Learning rate")


def test_an_older_file_is_replaced_with_force_only_but_for_the_runs_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", two_stages())
    output = tmp_path / "a.png"
    output.write_bytes(b"mine")
    with pytest.raises(TrainingError, match=r"a\.png exists already; it is replaced only with force$"):
        plot_runs([run], output)
    assert output.read_bytes() == b"mine"
    assert plot_runs([str(run)], str(output), force=True) == output
    for _ in range(2):
        plot_runs([run], run / "training.png")


def test_stages_stand_one_after_another(tmp_path: Path) -> None:
    panels = draw([make_run(tmp_path / "run", two_stages())])
    pretrain, gan = solid(panels["Pixel loss"])
    assert (pretrain.get_xdata()[0], pretrain.get_xdata()[-1]) == (2, 20)
    assert (gan.get_xdata()[0], gan.get_xdata()[-1]) == (22, 60)
    (mark,) = [line for line in panels["Pixel loss"].lines if line.get_linestyle() == ":"]
    assert mark.get_xdata()[0] == 20
    assert [text.get_text().strip() for text in panels["Pixel loss"].texts] == ["gan"]


def test_by_epoch_and_by_hours(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", two_stages())
    assert solid(draw([run], "epoch")["PSNR, validation"])[1].get_xdata()[-1] == pytest.approx(6)
    assert solid(draw([run], "hours")["Learning rate"])[1].get_xdata()[-1] == pytest.approx(2 * 29 / 3600)


def test_a_pause_is_no_training(tmp_path: Path) -> None:
    """Two steps a second; after the first line of each start the speed is not known."""
    speeds = [None, 0.5, 0.5, None, 0.5]
    lines: list[Line] = [
        {"time": time, "stage": "gan", "step": 2 * index + 2, "learning_rate": 1.0}
        | ({} if speed is None else {"seconds_per_step": speed})
        for index, (time, speed) in enumerate(zip([0, 1, 2, 86400, 86401], speeds, strict=True))
    ]
    (curve,) = solid(draw([make_run(tmp_path / "run", lines)], "hours")["Learning rate"])
    np.testing.assert_allclose(3600 * curve.get_xdata(), [0, 1, 2, 3, 4])


def test_several_runs_share_the_panels(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, two_stages(factor=factor)) for name, factor in (("a", 1.0), ("b", 2.0))]
    curves = solid(draw(runs)["PSNR, validation"])
    assert len(curves) == 4, "two runs of two stages"
    assert len({curve.get_color() for curve in curves}) == 2


def test_real_and_fake_are_told_apart(tmp_path: Path) -> None:
    axes = draw([make_run(tmp_path / "run", two_stages())])["D(real) and D(fake)"]
    assert {line.get_linestyle(): line.get_ydata()[0] for line in solid(axes)} == {"-": 0.7, "--": 0.3}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["D(real)", "D(fake)"]
    assert axes.get_ylim() == (0, 1)


def test_losses_are_logarithmic_unless_they_are_negative(tmp_path: Path) -> None:
    assert draw([make_run(tmp_path / "a", two_stages())])["Pixel loss"].get_yscale() == "log"
    lines = [line | {"pixel_loss": line["pixel_loss"] - 0.5} for line in two_stages()]
    assert draw([make_run(tmp_path / "b", lines)])["Pixel loss"].get_yscale() == "linear"


def test_the_curve_is_smoother_than_the_points_and_keeps_their_mean(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines: list[Line] = [
        {"time": 0.0, "stage": "gan", "step": step, "learning_rate": 1.0, "pixel_loss": float(loss)}
        for step, loss in enumerate(random.uniform(1, 2, 300), 1)
    ]
    axes = draw([make_run(tmp_path / "run", lines)])["Pixel loss"]
    (points,) = [line for line in axes.lines if line.get_marker() == "."]
    (curve,) = [line for line in axes.lines if line.get_marker() != "."]
    assert curve.get_ydata().std() < points.get_ydata().std() / 3
    assert curve.get_ydata().mean() == pytest.approx(points.get_ydata().mean(), abs=0.01)


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    lines = two_stages()
    lines[3]["pixel_loss"], lines[4]["pixel_loss"] = "NaN", "Infinity"
    for line in lines:
        line["adversarial_loss"] = "NaN"
    run = make_run(tmp_path / "run", lines)
    panels = draw([run])
    assert len(solid(panels["Pixel loss"])[0].get_xdata()) == 8
    assert "Adversarial loss" not in panels
    plot_runs([run], tmp_path / "run.png")


@pytest.mark.parametrize("count", [1, 8])
def test_a_single_line_and_many_runs_are_drawn(tmp_path: Path, count: int) -> None:
    line: Line = {"stage": "gan", "step": 1, "learning_rate": 0.0, "discriminator_loss": 0.0}
    runs = [make_run(tmp_path / str(index), [line]) for index in range(count)]
    plot_runs(runs, tmp_path / "all.png")
    curves = solid(draw(runs)["Learning rate"])
    assert len({str(curve.get_color()) for curve in curves}) == count
    assert all(curve.get_marker() == "o" for curve in curves), "a line of one point cannot be seen"


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / parent / "srgan", two_stages()) for parent in ("a", "b")]
    labels = [run.label for run in plots._load_runs(runs, "step")]  # pyright: ignore[reportPrivateUsage]  # as above
    assert labels == [str(run) for run in runs]


@pytest.mark.parametrize("by", ["step", "hours"])
def test_logs_of_the_first_version_are_drawn_but_not_by_epoch(tmp_path: Path, by: By) -> None:
    run = make_run(tmp_path / "old", two_stages(epochs=False))
    plot_runs([run], tmp_path / "old.png", by=by)
    with pytest.raises(UsageError, match="does not count epochs: plot it by step or hours"):
        plot_runs([run], tmp_path / "epochs.png", by="epoch")


def test_what_cannot_be_plotted_is_said_in_a_sentence(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", two_stages())
    empty = make_run(tmp_path / "empty", [])
    with pytest.raises(UsageError, match="at least one run"):
        plot_runs([], tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"called ….png, not a\.pdf"):
        plot_runs([run], tmp_path / "a.pdf")
    with pytest.raises(UsageError, match="is not the folder of a training run"):
        plot_runs([run, tmp_path], tmp_path / "a.png")
    with pytest.raises(UsageError, match="its log is empty"):
        plot_runs([empty], tmp_path / "a.png")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", two_stages())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"plotting needs matplotlib, .*crispen\[train\]"):
        plot_runs([run], tmp_path / "a.png")


def test_pyplot_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps every figure alive and may look for a screen."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert plot_runs([make_run(tmp_path / "run", two_stages())], tmp_path / "a.png").is_file()
