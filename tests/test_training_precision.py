"""What networks compute in: bf16 where there are units for it; and fp16 with scaled losses.

fp16 learns, steps whose gradients are infinite are left out, and resuming keeps the scale. Users get it on GPUs only;
torch computes it, slowly, on a processor, too, and so the whole of it is tried here.
"""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from crispen.errors import UsageError
from crispen.networks.weights import load_tensors
from crispen.training import Recipe, train
from crispen.training.checkpoint import newest_checkpoint
from crispen.training.machine import make_arithmetic, make_fabric, precision_of

FIRST_SCALE = 65536.0
"""The scale that torch's scaler begins with; infinite gradients halve it."""


@pytest.fixture
def fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each run have a processor that computes in fp16, with a scaler of its own."""

    def make(**_: object) -> Fabric:
        return Fabric(accelerator="cpu", devices=1, plugins=[make_arithmetic("fp16", "cpu")])

    monkeypatch.setattr("crispen.training.loop.make_fabric", make)


def recipe(*, pretrain: int, gan: int, pixel_weight: float = 1.0) -> Recipe:
    adversarial = {"steps": gan, "perceptual_weight": 0.0, "pixel_weight": 1.0, "r1_weight": 0.1}
    return Recipe.model_validate(
        {
            "title": "tiny",
            "precision": "fp16",
            "checkpoint_minutes": 1e-9,
            "generator": {"scale": 2, "num_blocks": 1, "num_features": 4},
            "discriminator": {"num_features": 2, "head": "patch"},
            "data": {"patch_size": 16, "batch_size": 2},
            "stage": {
                "pretrain": {"steps": pretrain, "learning_rate": 3e-3, "pixel_weight": pixel_weight},
                "gan": adversarial,
            },
        }
    )


def weights(run_dir: Path) -> dict[str, Tensor]:
    return load_tensors(run_dir / "weights.safetensors")[0]


@pytest.mark.usefixtures("fp16")
def test_fp16_learns_in_both_stages(photos: Path, tmp_path: Path) -> None:
    steps = list(train(recipe(pretrain=40, gan=4), data=[photos], run_dir=tmp_path / "run"))
    losses = [step.scalars["pixel_loss"] for step in steps if step.stage == "pretrain"]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    norms = [step.scalars["generator_gradient_norm"] for step in steps]
    assert max(norms) < 100, "norms are of gradients without the scale"
    assert all(np.isfinite(list(step.scalars.values())).all() for step in steps[-4:])


@pytest.mark.usefixtures("fp16")
def test_a_step_with_infinite_gradients_is_left_out_and_halves_the_scale(
    photos: Path, tmp_path: Path
) -> None:
    """A loss of 1e35 has the scaled gradient overflow even in fp32."""
    run = train(recipe(pretrain=3, gan=1, pixel_weight=1e35), data=[photos], run_dir=tmp_path / "run")
    states: list[dict[str, Tensor]] = []
    scales: list[float] = []
    for _ in range(2):
        progress = next(run)
        assert not np.isfinite(progress.scalars["generator_gradient_norm"])
        checkpoint = newest_checkpoint(tmp_path / "run")
        assert checkpoint is not None
        assert checkpoint.scaler is not None
        states.append(dict(checkpoint.tensors))
        scales.append(checkpoint.scaler["scale"])
    assert scales == [FIRST_SCALE / 2, FIRST_SCALE / 4]
    learnt = [
        name for name in states[0] if name.endswith((".weight", ".bias")) and name.startswith("generator/")
    ]
    assert learnt
    assert all(torch.equal(states[0][name], states[1][name]) for name in learnt)
    assert all(value.count_nonzero() == 0 for name, value in states[1].items() if ".adam/" in name)


@pytest.mark.usefixtures("fp16")
@pytest.mark.parametrize("stop_after", [2, 5])
def test_a_resumed_run_goes_on_with_the_scaler_that_it_had(
    photos: Path, tmp_path: Path, stop_after: int
) -> None:
    chosen = recipe(pretrain=4, gan=3)
    list(train(chosen, data=[photos], run_dir=tmp_path / "whole"))
    run = train(chosen, data=[photos], run_dir=tmp_path / "stopped")
    for _ in range(stop_after):
        next(run)
    del run
    list(train(chosen, data=[photos], run_dir=tmp_path / "stopped", resume=True))
    whole, stopped = (newest_checkpoint(tmp_path / name) for name in ("whole", "stopped"))
    assert whole is not None
    assert stopped is not None
    assert whole.scaler == stopped.scaler
    assert whole.scaler is not None
    assert whole.scaler["scale"] < FIRST_SCALE, "it is not that of a scaler that has just begun"
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_fp16_is_refused_on_a_processor(strategy: Literal["ddp", "fsdp"]) -> None:
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        make_fabric(device="cpu", precision="fp16", strategy=strategy)


def test_fp16_is_refused_where_networks_are_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    def gpu(_: str) -> str:
        return "cuda"

    monkeypatch.setattr("crispen.training.machine.choose_device", gpu)
    with pytest.raises(UsageError, match="fsdp has no scaling of losses"):
        make_fabric(device="auto", precision="fp16", strategy="fsdp")


def pretend(monkeypatch: pytest.MonkeyPatch, *, units_for_bf16: bool) -> None:
    monkeypatch.setattr("crispen.training.machine.supports_bf16", lambda _device: units_for_bf16)  # pyright: ignore


@pytest.mark.parametrize(("units_for_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_where_there_are_units_for_it(
    monkeypatch: pytest.MonkeyPatch, units_for_bf16: bool, expected: str
) -> None:
    pretend(monkeypatch, units_for_bf16=units_for_bf16)
    assert precision_of(make_fabric(device="cpu", precision="auto")) == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_recipe_demands_is_done(
    monkeypatch: pytest.MonkeyPatch, precision: Literal["fp32", "bf16"]
) -> None:
    for units_for_bf16 in (True, False):
        pretend(monkeypatch, units_for_bf16=units_for_bf16)
        assert precision_of(make_fabric(device="cpu", precision=precision)) == precision


@pytest.mark.parametrize(
    ("precision", "units_for_bf16", "told"),
    [("bf16", False, True), ("bf16", True, False), ("auto", False, False), ("fp32", False, False)],
)
def test_who_demands_bf16_where_it_is_emulated_is_told(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    units_for_bf16: bool,
    told: bool,
) -> None:
    pretend(monkeypatch, units_for_bf16=units_for_bf16)
    short = recipe(pretrain=1, gan=1).model_copy(update={"precision": precision})
    notes = [note for step in train(short, data=[photos], run_dir=tmp_path / "run") for note in step.notes]
    assert any("emulates it" in note for note in notes) == told
    (start,) = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert start["precision"] == ("bf16" if precision == "bf16" else "fp32")
