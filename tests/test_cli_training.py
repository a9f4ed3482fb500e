"""The commands for training, as a user types them."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from crispen import images, resize
from crispen.cli import app
from crispen.cli.training import (
    _resuming_command as resuming_command,  # pyright: ignore[reportPrivateUsage]  # without a torchrun
)
from crispen.training import data_check

RECIPE = """
title = "tiny"
precision = "fp32"
[generator]
scale = 2
num_blocks = 1
num_features = 4
[data]
patch_size = 16
batch_size = 2
[stage.pretrain]
steps = 3
"""


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    Path("photos").mkdir()
    for index in range(2):
        coarse = random.integers(0, 256, (5, 6, 3)).astype(np.uint8)
        images.write(images.from_array(resize(coarse, 8)), Path("photos") / f"{index}.png")
    Path("tiny.toml").write_text(RECIPE)
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_recipes_are_listed_with_their_cost() -> None:
    listed = run("recipes")
    for name in (
        "srresnet-mse",
        "srgan-vgg54",
        "srgan-vgg16",
        "srgan-keras",
        "srgan-mnist-classifier",
        "srgan-fast",
    ):
        assert name in listed
    assert "2 CPU cores" in listed


def test_a_recipe_is_shown_whole_and_can_be_saved() -> None:
    text = run("recipes", "show", "srgan-keras")
    assert tomllib.loads(text)["stage"]["gan"]["adversarial"] == "least-squares-sigmoid"
    assert text.startswith("#:schema")
    assert "did you mean srgan-keras?" in run("recipes", "show", "srgan-kera", code=1)


def test_the_schema_is_printed_with_descriptions() -> None:
    schema = json.loads(run("recipes", "schema"))
    assert schema["$defs"]["DataTable"]["properties"]["patch_size"]["description"].startswith("Side of")


def test_a_run_is_trained_plotted_and_resumable() -> None:
    out = run("train", "tiny.toml", "--data", "photos", "--valid", "photos")
    assert "pretrain 3/3 valid_psnr" in out
    assert Path("runs/tiny/weights.safetensors").is_file()
    assert Path("runs/tiny/training.png").is_file()
    assert json.loads(Path("runs/tiny/environment.json").read_text())[0]["seed"] == 0
    assert "add --resume" in run("train", "tiny.toml", "--data", "photos", code=1)
    assert "weights:" in run("train", "tiny.toml", "--data", "photos", "--resume")


def test_under_torchrun_the_command_that_goes_on_is_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/bin/crispen", "train", "tiny.toml", "--data", "photos"])
    out = run("train", "tiny.toml", "--data", "photos", "--minutes", "0")
    assert "to go on: crispen train tiny.toml --data photos --resume" in out
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert (
        resuming_command() == "torchrun --nproc-per-node 2 -m crispen train tiny.toml --data photos --resume"
    )


def test_a_run_is_not_given_a_time_that_never_ends() -> None:
    out = run("train", "tiny.toml", "--data", "photos", "--minutes", "nan", code=2)
    assert out.splitlines()[-1] == "crispen: error: minutes must be a number, not nan"
    assert not Path("runs").exists()


def test_runs_are_drawn_together() -> None:
    for name in ("a", "b"):
        run("train", "tiny.toml", "--data", "photos", "--run-dir", name)
    run("plot", "a", "b", "-o", "both.png", "--by", "epoch")
    assert images.read(Path("both.png")).width >= 1000
    assert "not the folder of a training run" in run("plot", "photos", code=2)


def test_a_plot_replaces_nothing_but_the_runs_own_without_force() -> None:
    run("train", "tiny.toml", "--data", "photos", "--run-dir", "a")
    before = Path("photos/0.png").read_bytes()
    out = run("plot", "a", "-o", "photos/0.png", code=1)
    assert "photos/0.png exists already; it is replaced only with force" in out
    assert Path("photos/0.png").read_bytes() == before
    run("plot", "a", "-o", "photos/0.png", "--force")
    assert Path("photos/0.png").read_bytes() != before
    own = Path("a/training.png")
    own.write_bytes(b"an older one")
    assert run("plot", "a").strip() == str(own)
    assert images.read(own).width == 1600
    assert run("plot", "a", "a").strip() == "training.png"
    assert "exists already" in run("plot", "a", "a", code=1)


def test_a_typo_in_a_recipe_is_one_sentence() -> None:
    Path("typo.toml").write_text(RECIPE + "learning_rat = 1")
    out = run("train", "typo.toml", "--data", "photos", code=1)
    assert out.splitlines()[-1] == (
        "crispen: error: typo.toml: unknown key stage.pretrain.learning_rat"
        " (did you mean stage.pretrain.learning_rate?)"
    )


def test_a_broken_picture_is_named_and_left_out() -> None:
    Path("photos/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    out = run("train", "tiny.toml", "--data", "photos")
    assert "note: left out photos/broken.png" in out
    assert "weights:" in out


def test_data_is_checked() -> None:
    assert "nothing is wrong" in run("data", "check", "photos")
    Path("benchmark").mkdir()
    Path("benchmark/bird.png").write_bytes(Path("photos/1.png").read_bytes())
    Path("photos/copy.png").write_bytes(Path("photos/0.png").read_bytes())
    Path("photos/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    out = run("data", "check", "photos", "--benchmark", "benchmark", "--json", "report.json", code=1)
    assert "photos/copy.png" in out
    assert "photos/broken.png" in out
    report = json.loads(Path("report.json").read_text())
    assert report["pictures"] == 3
    assert [leak["name"] for leak in report["leaks"]] == ["photos/1.png"]


def test_a_report_on_data_replaces_nothing_without_force_and_never_what_it_is_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And says so before any picture is looked at."""
    monkeypatch.setattr(data_check, "read_samples", lambda *_, **__: pytest.fail("all is read first"))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    Path("mine.txt").write_text("mine")
    Path("benchmark").mkdir()
    Path("benchmark/bird.png").write_bytes(Path("photos/1.png").read_bytes())
    Path("link.json").symlink_to("photos/1.png")
    check = "data", "check", "photos", "--benchmark", "benchmark", "--json"
    for path in ("mine.txt", "photos/0.png"):
        assert f"{path} exists already; it is replaced only with force" in run(*check, path, code=1)
    for path in ("photos/0.png", "link.json", "benchmark/bird.png"):
        out = run(*check, path, "--force", code=1)
        assert f"{path} cannot be written: it is one of the files to check" in out
    assert images.read(Path("photos/1.png")).width == 48
    assert "there is no folder" in run(*check, "nowhere/report.json", code=1)
    assert Path("mine.txt").read_text() == "mine"


def test_a_report_on_data_is_replaced_with_force() -> None:
    Path("report.json").write_text("mine")
    run("data", "check", "photos", "--json", "report.json", "--force")
    assert json.loads(Path("report.json").read_text())["pictures"] == 2
