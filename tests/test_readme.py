"""What the README shows works as it stands there."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import crispen
from crispen import images
from crispen.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    (?:.*&& )?crispen (.*?)(?:  +#.*)?$", README, re.MULTILINE)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README speaks of."""
    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    for name in ("photo.jpg", "scan.tif", "holiday/one.png", "examples/dog.png", "Set5/baby.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture = crispen.resize(small, 4) if "Set5" in name else small
        images.write(images.from_array(picture), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_block_runs(desk: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    array = np.zeros((8, 8, 3), np.uint8)
    names: dict[str, Any] = {
        "array": array,
        "pictures": [array] * 2,
        "truth": np.zeros((32, 32, 3), np.uint8),
    }
    exec(block, names)
    assert (desk / "photo-x4.png").exists()
    assert names["large"].shape == (32, 32, 3)
    assert [picture.shape for picture in names["pictures"]] == [(32, 32, 3)] * 2


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(("upscale", "evaluate"))])
def test_the_commands_run(desk: Path, command: str) -> None:
    if "clip.mp4" in command:
        pytest.importorskip("av")
        from clips import clip, pictures

        clip(desk / "clip.mp4", pictures(2, height=16, width=16))
    result = CliRunner().invoke(app, shlex.split(command))
    assert result.exit_code == 0, result.output


def test_the_training_commands_are_understood(desk: Path) -> None:
    """They need data; that they parse, name bundled recipes, and get as far as looking for it, is checked."""
    training = [command for command in COMMANDS if command.startswith("train")]
    assert training
    for command in training:
        result = CliRunner().invoke(app, [*shlex.split(command), "--run-dir", "nowhere/run"])
        assert result.exit_code == 1
        assert "there is no training data at" in result.stderr
        assert not (desk / "nowhere").exists()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_what_detail_costs_is_as_the_plot_has_it() -> None:
    models = (ROOT / "docs" / "models.md").read_text()
    plotted = json.loads((ROOT / "docs" / "experiments" / "perception-distortion.json").read_text())["points"]
    points = {(point["name"], point["strength"]): point for point in plotted}
    faithful, between, full = points["compact-x4", 0], points["srgan-x4", 0.75], points["srgan-x4", 1]
    shares = [
        round(100 * (between[what] - faithful[what]) / (full[what] - faithful[what]))
        for what in ("texture", "psnr")
    ]
    said = re.search(r"0\.75 has (\d+)% of `srgan-x4`'s detail at (\d+)% of what it costs", models)
    assert said
    assert [int(share) for share in said.groups()] == shares
