"""Training as a process: killed and resumed to the bit, interrupted politely, and shared between two processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crispen import images, resize
from crispen.networks.weights import load_tensors

RECIPE = """
title = "tiny"
precision = "{precision}"
strategy = "{strategy}"
checkpoint_minutes = 1e-9
[generator]
scale = 2
num_blocks = 1
num_features = {features}
batch_norm = {batch_norm}
equivariant = {equivariant}
[discriminator]
num_features = 2
head = "patch"
spectral_norm = {spectral}
batch_norm = {batch_norm}
[data]
patch_size = 16
batch_size = 4
[stage.pretrain]
optimizer = "{optimizer}"
steps = {pretrain}
learning_rate = 1e-3
[stage.gan]
optimizer = "{optimizer}"
steps = {gan}
perceptual_weight = 0.0
pixel_weight = 1.0
feature_matching_weight = 0.1
r1_weight = 1.0
adversarial_weight = 0.1
adversarial = "{adversarial}"
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for index in range(2):
        coarse = random.integers(0, 256, (5, 6, 3)).astype(np.uint8)
        images.write(images.from_array(resize(coarse, 8)), folder / f"{index}.png")
    return folder


def written(folder: Path, **values: object) -> Path:
    defaults = {
        "precision": "bf16",
        "strategy": "ddp",
        "batch_norm": "true",
        "spectral": "true",
        "equivariant": "false",
        "optimizer": "adam",
        "features": 4,
        "pretrain": 10,
        "gan": 15,
        "adversarial": "relativistic-average",
    }
    path = folder / "tiny.toml"
    path.write_text(RECIPE.format(**(defaults | values)))
    return path


def command(recipe: Path, photos: Path, run_dir: Path, *more: str) -> list[str]:
    arguments = ["train", str(recipe), "--data", str(photos), "--run-dir", str(run_dir), *more]
    return [sys.executable, "-m", "crispen", *arguments]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def finish(arguments: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment(**more))
    assert result.returncode == 0, result.stderr
    return result


def entries(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


def logged(run_dir: Path) -> list[tuple[str, int]]:
    return [(entry["stage"], entry["step"]) for entry in entries(run_dir)]


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_tensors(run_dir / "weights.safetensors")[0]


def wait_for_checkpoint(run_dir: Path, name: str, process: subprocess.Popen[str]) -> None:
    """Wait until a checkpoint of the stage is there."""
    while not list((run_dir / "checkpoints").glob(f"{name}-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def test_killed_and_resumed_equals_never_stopped_to_the_bit(photos: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path)
    finish(command(recipe, photos, tmp_path / "whole"))
    run_dir = tmp_path / "killed"
    for name in ("pretrain", "gan"):
        resume = ["--resume"] if name == "gan" else []
        with subprocess.Popen(
            command(recipe, photos, run_dir, *resume), env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            wait_for_checkpoint(run_dir, name, process)
            process.send_signal(signal.SIGKILL)
            process.communicate()
    assert not (run_dir / "weights.safetensors").exists(), "it was killed before its end"
    finish(command(recipe, photos, run_dir, "--resume"))
    whole, resumed = weights(tmp_path / "whole"), weights(run_dir)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert logged(tmp_path / "whole") == logged(run_dir)


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(photos: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path, pretrain=100_000)
    run_dir = tmp_path / "run"
    with subprocess.Popen(
        command(recipe, photos, run_dir), env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        wait_for_checkpoint(run_dir, "pretrain", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "stopped after pretrain" in out
    assert f"--run-dir {run_dir} --resume" in out
    step = int(out.partition("stopped after pretrain ")[2].partition("/")[0])
    assert (run_dir / "checkpoints" / f"pretrain-{step:08d}.safetensors").is_file()
    assert (run_dir / "training.png").is_file() == (run_dir / "log.jsonl").is_file()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def shared(arguments: list[str]) -> list[str]:
    """The same command in two processes."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    return [arguments[0], *launcher, *arguments[1:]]


def die_together(arguments: list[str]) -> list[int | None]:
    """Run a command that kills itself in two processes, and return how they ended.

    torchrun would do, but where its children are killed it was seen not to end itself.
    """
    port = str(free_port())
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    torchruns = {"TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": "0", "TORCHELASTIC_MAX_RESTARTS": "0"}
    processes = [
        subprocess.Popen(
            arguments,
            env=environment() | common | torchruns | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    while all(process.poll() is None for process in processes):
        time.sleep(0.01)
    for process in processes:
        process.kill()
    return [process.wait() for process in processes]


def written_to_be_shared(
    folder: Path,
    strategy: str,
    *,
    precision: str,
    optimizer: str = "adam",
    features: int = 4,
    equivariant: str = "false",
) -> Path:
    """A recipe whose steps do not depend on how a batch is shared, as those with batch norm do."""
    return written(
        folder,
        precision=precision,
        strategy=strategy,
        optimizer=optimizer,
        features=features,
        equivariant=equivariant,
        batch_norm="false",
        pretrain=3,
        gan=8,
        adversarial="hinge",
    )


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_do_what_one_does(photos: Path, tmp_path: Path, strategy: str) -> None:
    """Half a batch in each of two processes has the gradient of the whole batch in one."""
    recipe = written_to_be_shared(tmp_path, strategy, precision="fp32")
    more = ["--valid", str(photos)]
    finish(command(recipe, photos, tmp_path / "one", *more))
    result = finish(shared(command(recipe, photos, tmp_path / "two", *more)))
    assert result.stdout.count("weights:") == 1, "one process talks"
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], rtol=1e-4, atol=2e-6)
    assert logged(tmp_path / "one") == logged(tmp_path / "two")
    compared = {"generator_gradient_norm", "generator_loss", "discriminator_loss", "valid_psnr"}
    for alone, together in zip(entries(tmp_path / "one"), entries(tmp_path / "two"), strict=True):
        for name in compared & set(alone):
            assert alone[name] == pytest.approx(together[name], rel=1e-4), (name, alone["step"])
    assert "valid_psnr" in entries(tmp_path / "two")[-1]
    assert len(list((tmp_path / "two" / "previews").iterdir())) == 2


def test_nothing_at_the_end_of_a_process_can_end_the_others(photos: Path, tmp_path: Path) -> None:
    """As gloo's threads were seen to do, the second process would be aborted by Python's own ending."""
    begin = 'import atexit, os\nif os.environ.get("RANK") == "1":\n    atexit.register(os.abort)\n'
    (tmp_path / "sitecustomize.py").write_text(begin)
    recipe = written(tmp_path, pretrain=2, gan=2)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    finish(shared(command(recipe, photos, tmp_path / "run")), PYTHONPATH=path)
    assert (tmp_path / "run" / "training.png").exists()


@pytest.mark.parametrize("equivariant", ["false", "true"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_make_muons_steps_together(
    photos: Path, tmp_path: Path, strategy: str, equivariant: str
) -> None:
    """Directions that hardly have a gradient are chance, and as large as the others: so the weights are not so near."""
    recipe = written_to_be_shared(
        tmp_path, strategy, precision="fp32", optimizer="muon", features=16, equivariant=equivariant
    )
    finish(command(recipe, photos, tmp_path / "one"))
    finish(shared(command(recipe, photos, tmp_path / "two")))
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], rtol=1e-3, atol=2e-4)
    for alone, together in zip(entries(tmp_path / "one"), entries(tmp_path / "two"), strict=True):
        assert alone["generator_loss"] == pytest.approx(together["generator_loss"], rel=1e-3), alone["step"]


KILLED = """
import os, signal
from pathlib import Path
from crispen.training import load_recipe, train
for taken, _ in enumerate(train(load_recipe({recipe!r}), data=[{photos!r}], run_dir=Path({run_dir!r})), 1):
    if taken == {steps}:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_sharded_run_is_resumed_to_the_bit_and_by_one_process_alone(photos: Path, tmp_path: Path) -> None:
    recipe = written_to_be_shared(tmp_path, "fsdp", precision="bf16")
    finish(shared(command(recipe, photos, tmp_path / "whole")))
    run_dir, script = tmp_path / "killed", tmp_path / "killed.py"
    script.write_text(KILLED.format(recipe=str(recipe), photos=str(photos), run_dir=str(run_dir), steps=6))
    assert set(die_together([sys.executable, str(script)])) == {-signal.SIGKILL}
    assert list((run_dir / "checkpoints").glob("gan-*"))
    assert not (run_dir / "weights.safetensors").exists(), "it was killed before its end"
    shutil.copytree(run_dir, tmp_path / "alone")
    finish(shared(command(recipe, photos, run_dir, "--resume")))
    finish(command(recipe, photos, tmp_path / "alone", "--resume"))
    whole, resumed, alone = (weights(tmp_path / name) for name in ("whole", "killed", "alone"))
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name
        torch.testing.assert_close(whole[name], alone[name], rtol=2e-2, atol=4e-4)
