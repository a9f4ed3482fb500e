"""Checkpoints: whole or not at all, the newest few kept, and a damaged one is passed over."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.optim import Adam

from crispen.errors import TrainingError
from crispen.networks.weights import load_tensors, save_tensors
from crispen.training.checkpoint import (
    FOLDER,
    Position,
    has_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    state_to_save,
)


@pytest.fixture
def learner() -> tuple[nn.Module, Adam]:
    """A network in channels-last memory that has taken a step."""
    torch.manual_seed(0)
    network = cast(Any, nn.Conv2d(3, 4, 3)).to(memory_format=torch.channels_last)
    optimizer = Adam(network.parameters(), 1e-2, fused=True)
    network(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return network, optimizer


def save(run_dir: Path, learner: tuple[nn.Module, Adam], stage: str, step: int, *, keep: int = 2) -> Path:
    state = state_to_save({"g": learner[0].state_dict()}, {"g": learner[1]})
    return save_checkpoint(run_dir, Position(stage, step), state, keep=keep)


def test_a_checkpoint_restores_weights_and_moments_bit_for_bit(
    tmp_path: Path, learner: tuple[nn.Module, Adam]
) -> None:
    network, optimizer = learner
    save(tmp_path, learner, "pretrain", 1)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    moments = optimizer.state_dict()["state"][0]["exp_avg"].clone()
    network(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.position == Position("pretrain", 1)
    checkpoint.restore({"g": network.state_dict()}, {"g": optimizer})
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    restored = optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(restored, moments)
    assert restored.stride() == network.state_dict()["weight"].stride(), "fused Adam needs like layouts"


def test_the_newest_few_are_kept_and_later_stages_are_newer(
    tmp_path: Path, learner: tuple[nn.Module, Adam]
) -> None:
    for stage, step in (("classifier", 900), ("pretrain", 5), ("pretrain", 40), ("gan", 3)):
        save(tmp_path, learner, stage, step)
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} == {
        "pretrain-00000040.safetensors",
        "gan-00000003.safetensors",
    }
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.position == Position("gan", 3)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, learner: tuple[nn.Module, Adam], damage: str
) -> None:
    save(tmp_path, learner, "pretrain", 1)
    newest = save(tmp_path, learner, "pretrain", 2)
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes({"truncated": bytes(content[:-9]), "flipped": bytes(content), "empty": b""}[damage])
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.position == Position("pretrain", 1)
    assert checkpoint.damaged == (newest,)


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path, learner: tuple[nn.Module, Adam]) -> None:
    assert newest_checkpoint(tmp_path) is None
    assert not has_checkpoint(tmp_path)
    save(tmp_path, learner, "pretrain", 1).write_bytes(b"damaged")
    assert has_checkpoint(tmp_path)
    with pytest.raises(TrainingError, match=r"pretrain-00000001\.safetensors and all before it are damaged"):
        newest_checkpoint(tmp_path)


def test_a_checkpoint_of_other_networks_is_refused(tmp_path: Path, learner: tuple[nn.Module, Adam]) -> None:
    save(tmp_path, learner, "pretrain", 1)
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None
    with pytest.raises(
        TrainingError, match=r"belongs to another recipe: weight has shape \(4, 3, 3, 3\) there"
    ):
        checkpoint.restore({"g": nn.Conv2d(3, 5, 3).state_dict()}, {})
    with pytest.raises(TrainingError, match="belongs to another recipe: bias is only in it"):
        checkpoint.restore({"g": nn.Conv2d(3, 4, 3, bias=False).state_dict()}, {})


def test_a_checkpoint_that_cannot_be_written_leaves_the_ones_before(
    tmp_path: Path, learner: tuple[nn.Module, Adam], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = save(tmp_path, learner, "pretrain", 1, keep=1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crispen.training.checkpoint.save_tensors", full)
    with pytest.raises(TrainingError, match=r"cannot be written: .*No space left on device"):
        save(tmp_path, learner, "pretrain", 2, keep=1)
    assert list((tmp_path / FOLDER).iterdir()) == [before]


def test_weights_can_be_read_by_others(tmp_path: Path) -> None:
    save_tensors({"a": torch.zeros(2)}, tmp_path / "weights.safetensors", metadata={"for": "all"})
    (tmp_path / "plain").touch()
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert load_tensors(tmp_path / "weights.safetensors")[1] == {"for": "all"}
