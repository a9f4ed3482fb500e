"""The log and the records of a run: each step once, whatever was killed, and nothing lost that was said."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from crispen import __version__
from crispen.errors import DataError, MissingExtra, TrainingError, UsageError
from crispen.training.environment import Given, changed_pictures, changed_start, describe_git, write_run_info
from crispen.training.progress import Progress, Scalars
from crispen.training.run_log import RunLog, read_log


def progress(
    stage: str = "gan",
    step: int = 1,
    *,
    steps: int = 10,
    scalars: Scalars | None = None,
    validation: Scalars | None = None,
    notes: tuple[str, ...] = (),
) -> Progress:
    return Progress(
        stage, step, steps, step / 4, 1e-4, scalars or {"pixel_loss": 0.5}, validation or {}, notes
    )


def places(run_dir: Path) -> list[tuple[str, int]]:
    return [(entry.stage, entry.step) for entry in read_log(run_dir)]


def write(run_dir: Path, stage: str, steps: range, *, resume_at: tuple[str, int] | None = None) -> None:
    log = RunLog(run_dir, resume_at=resume_at)
    for step in steps:
        log.write(progress(stage, step))
    log.close()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    before = time.time()
    log.write(progress(step=3, validation={"valid_psnr": 30.5}, notes=("left out a.png",)))
    log.close()
    (entry,) = read_log(tmp_path)
    assert (entry.stage, entry.step, entry.epoch, entry.learning_rate) == ("gan", 3, 0.75, 1e-4)
    assert entry.scalars == {"pixel_loss": 0.5, "valid_psnr": 30.5}
    assert entry.notes == ("left out a.png",)
    assert entry.time == pytest.approx(before, abs=5)


def test_numbers_that_are_none_are_kept_in_strict_json(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write(progress(scalars={"a": math.nan, "b": math.inf, "c": -math.inf}))
    line = (tmp_path / "log.jsonl").read_text()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (entry,) = read_log(tmp_path)
    assert math.isnan(entry.scalars["a"])
    assert (entry.scalars["b"], entry.scalars["c"]) == (math.inf, -math.inf)


def test_a_long_stage_has_a_line_every_50_steps_and_for_what_matters(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for step in range(1, 121):
        log.write(progress(step=step, steps=20_000, validation={"valid_psnr": 30.0} if step == 7 else {}))
    log.write(progress(step=121, steps=20_000, notes=("the discriminator has won",)))
    log.write(progress(step=20_000, steps=20_000))
    assert [step for _, step in places(tmp_path)] == [7, 50, 100, 121, 20_000]


def test_a_short_stage_has_a_line_for_every_step(tmp_path: Path) -> None:
    write(tmp_path, "gan", range(1, 11))
    assert [step for _, step in places(tmp_path)] == list(range(1, 11))


def test_seconds_per_step_are_measured_since_the_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    log = RunLog(tmp_path)
    for step in range(1, 101):
        now += 0.25 if step <= 50 else 0.5
        log.write(progress(step=step, steps=20_000))
    assert [entry.seconds_per_step for entry in read_log(tmp_path)] == [0.25, 0.5]


def test_the_first_line_has_no_speed(tmp_path: Path) -> None:
    write(tmp_path, "gan", range(1, 3))
    speeds = [entry.seconds_per_step for entry in read_log(tmp_path)]
    assert speeds[0] is None
    assert speeds[1] is not None


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    write(tmp_path, "gan", range(1, 9))
    write(tmp_path, "gan", range(6, 11), resume_at=("gan", 5))
    assert places(tmp_path) == [("gan", step) for step in range(1, 11)]
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"], "no temporary file is left"


def test_resuming_in_an_earlier_stage_drops_the_later_one(tmp_path: Path) -> None:
    write(tmp_path, "pretrain", range(1, 4))
    log = RunLog(tmp_path, resume_at=("pretrain", 3))
    log.write(progress("gan", 1))
    write(tmp_path, "pretrain", range(3, 4), resume_at=("pretrain", 2))
    assert places(tmp_path) == [("pretrain", 1), ("pretrain", 2), ("pretrain", 3)]


def test_resuming_in_a_stage_without_a_line_keeps_those_before(tmp_path: Path) -> None:
    write(tmp_path, "pretrain", range(1, 3))
    RunLog(tmp_path, resume_at=("gan", 40))
    assert places(tmp_path) == [("pretrain", 1), ("pretrain", 2)]


def test_a_run_from_the_beginning_has_a_log_from_the_beginning(tmp_path: Path) -> None:
    write(tmp_path, "gan", range(1, 4))
    write(tmp_path, "gan", range(1, 3))
    assert places(tmp_path) == [("gan", 1), ("gan", 2)]


def test_a_half_written_line_is_not_read_and_then_repaired(tmp_path: Path) -> None:
    write(tmp_path, "gan", range(1, 4))
    path = tmp_path / "log.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert places(tmp_path) == [("gan", 1), ("gan", 2)]
    write(tmp_path, "gan", range(3, 5), resume_at=("gan", 3))
    assert places(tmp_path) == [("gan", step) for step in (1, 2, 3, 4)]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_logs_of_the_first_version_are_read(tmp_path: Path) -> None:
    line = {"time": 1.5, "stage": "gan", "step": 50, "learning_rate": 1e-4, "pixel_loss": 0.1}
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    (entry,) = read_log(tmp_path)
    assert (entry.step, entry.epoch, entry.seconds_per_step) == (50, None, None)
    assert entry.scalars == {"pixel_loss": 0.1}


def test_a_folder_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not the folder of a training run: it has no log\.jsonl"):
        read_log(tmp_path)


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"stage": "gan"}', '{"stage": "g", "step": 1, "a": "b"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text('{"stage": "gan", "step": 1}\n' + line + "\n")
    with pytest.raises(DataError, match=r"line 2 of .*log\.jsonl is not a line of a training log"):
        read_log(tmp_path)


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(TrainingError, match=r"log\.jsonl cannot be written: Is a directory"):
        log.write(progress())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match="No space left"):
        log.write(progress())


def test_tensorboard_has_the_same_numbers_and_each_step_once(tmp_path: Path) -> None:
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for resume_at, steps in ((None, range(1, 9)), (("gan", 5), range(6, 11))):
        log = RunLog(tmp_path, tensorboard=True, resume_at=resume_at)
        for step in steps:
            log.write(
                progress(step=step, scalars={"pixel_loss": float(step)}, validation={"valid_psnr": 30.0})
            )
        log.close()
    events: Any = module.EventAccumulator(str(tmp_path / "tensorboard" / "gan"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"pixel_loss", "valid_psnr", "learning_rate"}
    assert [(event.step, event.value) for event in events.Scalars("pixel_loss")] == [
        (step, step) for step in range(1, 11)
    ]


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"TensorBoard needs tensorboard, .*crispen\[tensorboard\]"):
        RunLog(tmp_path, tensorboard=True)


def test_a_run_says_where_its_numbers_come_from(tmp_path: Path) -> None:
    recipe = '{"title": "tiny"}'
    command = ["crispen", "train", "tiny"]
    given = Given(data=("photos",), valid="others", init="runs/1", command=tuple(command))
    write_run_info(tmp_path, recipe, given, seed=3, precision="fp32")
    assert (tmp_path / "recipe.json").read_text() == recipe + "\n"
    (start,) = json.loads((tmp_path / "environment.json").read_text())
    assert (start["seed"], start["data"]) == (3, ["photos"])
    assert (start["valid"], start["init"]) == ("others", "runs/1")
    assert (start["command"], start["precision"]) == (command, "fp32")
    assert start["versions"]["crispen"] == __version__
    assert start["versions"]["torch"] == torch.__version__
    assert start["machine"]["threads"] == torch.get_num_threads()
    assert start["machine"]["cpu"]


def test_a_resumed_run_keeps_the_first_start(tmp_path: Path) -> None:
    for number, recipe in enumerate(("{}", "{}", '{"seed": 1}')):
        write_run_info(tmp_path, recipe, Given(data=()), seed=number, precision="bf16")
    starts = json.loads((tmp_path / "environment.json").read_text())
    assert [start["seed"] for start in starts] == [0, 1, 2]
    hashes = [start["recipe_sha256"] for start in starts]
    assert hashes[0] == hashes[1] != hashes[2]


def test_other_pictures_are_told_wherever_they_are_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*data: str, valid: str | None = None) -> list[str]:
        return changed_pictures(tmp_path, Given(data=data, valid=valid))

    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path)
    assert changed("anything") == []
    given = Given(data=("a", "s3://b/c"), valid="v")
    write_run_info(tmp_path, "{}", given, seed=0, precision="fp32")
    assert changed("s3://b/c", "./a", valid=str(tmp_path / "v")) == []
    monkeypatch.chdir(tmp_path / "inner")
    assert changed("../a", "s3://b/c", valid="../v") == []
    told = "the run goes on with other pictures than before: "
    assert changed("a", "s3://b/c") == [
        f"{told}--data is {tmp_path / 'inner' / 'a'} s3://b/c, was {tmp_path / 'a'} s3://b/c",
        f"{told}--valid is nothing, was {tmp_path / 'v'}",
    ]
    early = json.loads((tmp_path / "environment.json").read_text())
    del early[0]["valid"]
    (tmp_path / "environment.json").write_text(json.dumps(early))
    assert changed("../a", "s3://b/c", valid="w") == []


def test_another_start_is_told_wherever_it_is_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(init: str | None) -> list[str]:
        return changed_start(tmp_path, Given(data=(), init=init))

    def start(init: str | None) -> None:
        write_run_info(tmp_path, "{}", Given(data=(), init=init), seed=0, precision="fp32")

    (tmp_path / "inner").mkdir()
    (tmp_path / "a").touch()
    monkeypatch.chdir(tmp_path)
    assert changed("anything") == []
    start(None)
    late = "too late for weights that come from the checkpoint"
    told = "the run goes on with another start than before: --init is"
    assert changed("a") == [f"{told} a, was nothing, {late}"]
    start("a + model - gone/b")
    start(None)
    assert changed(None) == []
    assert changed(f"{tmp_path / 'a'}  + model - gone/b") == []
    monkeypatch.chdir(tmp_path / "inner")
    assert changed("../a + model - gone/b") == []
    assert changed("../a") == [f"{told} ../a, was a + model - gone/b, {late}"]
    early = json.loads((tmp_path / "environment.json").read_text())
    (tmp_path / "environment.json").write_text(
        json.dumps([{key: each[key] for key in each if key != "init"} for each in early])
    )
    assert changed("c") == []


@pytest.mark.parametrize("content", ["{}", "[", "null"])
def test_another_file_is_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "environment.json").write_text(content)
    with pytest.raises(DataError, match=r"environment\.json is not the list of starts"):
        write_run_info(tmp_path, "{}", Given(data=()), seed=0, precision="bf16")
    assert (tmp_path / "environment.json").read_text() == content


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    result = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert describe_git(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "a").write_text("2")
    assert describe_git(tmp_path) == {"commit": commit, "dirty": True}


def test_without_repository_or_git_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_git(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_git(tmp_path) is None
