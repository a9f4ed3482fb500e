"""Training with a tiny network on generated pictures: it learns, both stages run, and stopping changes nothing."""

import errno
import json
import shutil
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]  # half typed

from crispen import images, zoo
from crispen.errors import DataError, ModelError, RecipeError, TrainingError
from crispen.networks.features.squeezenet import SqueezeNetFeatures
from crispen.networks.features.vgg import VggFeatures
from crispen.networks.generators import SRResNet
from crispen.networks.weights import load_generator, load_tensors, save_generator
from crispen.training import Progress, Recipe, train
from crispen.training.data import open_dataset
from crispen.training.recipe_file import RECIPES, load_recipe
from crispen.training.starting import find_start


@pytest.fixture
def feature_weights(tmp_path: Path) -> Path:
    """Random weights for both kinds of feature network, under the names they are looked for."""
    folder = tmp_path / "features"
    folder.mkdir()
    torch.manual_seed(0)
    vgg = VggFeatures(variant="vgg19-normalised", layers=["relu1_2"])
    save_file(vgg.state_dict(), folder / "vgg19_normalised_test.safetensors")
    save_file(SqueezeNetFeatures(layers=["fire2"]).state_dict(), folder / "squeezenet1_1.safetensors")
    return folder


def recipe(*, pretrain: int = 0, gan: int = 0, **more: object) -> Recipe:
    stages: dict[str, object] = {}
    if pretrain:
        stages["pretrain"] = {"steps": pretrain, "learning_rate": 3e-3, "pixel_loss": "l1"}
    if gan:
        stages["gan"] = {
            "steps": gan,
            "pixel_weight": 1.0,
            "discriminator_warmup_steps": min(1, gan - 1),
            "features": [
                {"network": "vgg19-normalised", "layers": {"relu1_1": 0.5, "relu1_2": 1.0}},
                {"network": "squeezenet", "layers": {"fire2": 1.0}, "loss": "l1"},
            ],
        }
    values: dict[str, object] = {
        "title": "tiny",
        "precision": "fp32",
        "validate_every": 2,
        "generator": {
            "scale": 2,
            "num_blocks": 1,
            "num_features": 8,
            "batch_norm": False,
            "damp_residuals": 0.1,
        },
        "discriminator": {"num_features": 2, "head": "patch"},
        "data": {"patch_size": 32, "batch_size": 2},
        "stage": stages,
    }
    return Recipe.model_validate(values | more)


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_tensors(run_dir / "weights.safetensors")[0]


def take(steps: Iterator[Progress], count: int) -> None:
    for _ in range(count):
        next(steps)


def test_the_generator_learns(photos: Path, tmp_path: Path) -> None:
    progress = list(train(recipe(pretrain=80), data=[photos], valid=photos, run_dir=tmp_path / "run"))
    losses = [step.scalars["pixel_loss"] for step in progress]
    assert np.mean(losses[-5:]) < 0.4 * np.mean(losses[:5])
    assert [step.step for step in progress if step.validation] == list(range(2, 81, 2))
    assert progress[-1].validation["valid_psnr"] > progress[1].validation["valid_psnr"] + 3


def test_both_stages_run_and_leave_their_files(photos: Path, feature_weights: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    steps = list(
        train(
            recipe(pretrain=2, gan=3), data=[photos], valid=photos, run_dir=run_dir, features=feature_weights
        )
    )
    assert [(step.stage, step.step) for step in steps] == [
        ("pretrain", 1), ("pretrain", 2), ("gan", 1), ("gan", 2), ("gan", 3),
    ]  # fmt: skip
    assert "perceptual_loss" not in steps[2].scalars, "the discriminator warms up alone"
    assert {"perceptual_loss", "adversarial_loss", "discriminator_loss"} <= set(steps[3].scalars)
    assert "valid_perceptual_loss" in steps[-1].validation
    assert all(np.isfinite(list(step.scalars.values())).all() for step in steps)
    assert load_generator(run_dir / "weights.safetensors").scale == 2
    assert json.loads((run_dir / "recipe.json").read_text())["title"] == "tiny"
    logged = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in logged] == [(step.stage, step.step) for step in steps]
    assert {path.name for path in (run_dir / "previews").iterdir()} == {
        "pretrain-00000002.png", "gan-00000002.png", "gan-00000003.png",
    }  # fmt: skip
    assert json.loads((run_dir / "environment.json").read_text())[0]["data"] == [str(photos)]
    assert not list(run_dir.glob(".*")), "no temporary file is left"


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_stopping_and_resuming_changes_nothing(
    photos: Path, feature_weights: Path, tmp_path: Path, stop_after: int
) -> None:
    chosen = recipe(pretrain=2, gan=3, checkpoint_minutes=1e-9)
    for name, interrupted in (("whole", False), ("resumed", True)):
        run_dir = tmp_path / name
        if interrupted:
            take(train(chosen, data=[photos], run_dir=run_dir, features=feature_weights), stop_after)
        list(train(chosen, data=[photos], run_dir=run_dir, features=feature_weights, resume=interrupted))
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert whole.keys() == resumed.keys()
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name


def test_a_stage_begins_with_the_weights_that_the_one_before_has_left(
    photos: Path, feature_weights: Path, tmp_path: Path
) -> None:
    """So one run of two stages equals two runs of one, to the bit."""
    norms = {"scale": 2, "num_blocks": 1, "num_features": 8}
    for name, pretrain, gan, init in (
        ("both", 4, 3, None),
        ("a", 4, 0, None),
        ("b", 0, 3, str(tmp_path / "a")),
    ):
        chosen = recipe(pretrain=pretrain, gan=gan, generator=norms)
        run = train(chosen, data=[photos], run_dir=tmp_path / name, features=feature_weights, init=init)
        list(run)
    both, two = weights(tmp_path / "both"), weights(tmp_path / "b")
    assert all(torch.equal(both[name], two[name]) for name in both)


def test_while_the_discriminator_warms_up_the_average_stays(photos: Path, tmp_path: Path) -> None:
    """Batch norm's statistics and all."""
    table = {"steps": 9, "perceptual_weight": 0.0, "discriminator_warmup_steps": 2}
    stages = {"pretrain": {"steps": 3, "learning_rate": 1e-2}, "gan": table}
    chosen = recipe(
        stage=stages, generator={"scale": 2, "num_blocks": 1, "num_features": 8}, snapshot_every=1
    )
    take(train(chosen, data=[photos], run_dir=tmp_path / "run"), 6)
    pretrained, warm, on = (
        load_tensors(tmp_path / "run" / "snapshots" / f"{name}.safetensors")[0]
        for name in ("pretrain-00000003", "gan-00000002", "gan-00000003")
    )
    assert all(torch.equal(pretrained[name], warm[name]) for name in warm)
    assert not torch.equal(warm["head.0.weight"], on["head.0.weight"])


@pytest.mark.parametrize("pixel_loss", ["l1", "mse"])
def test_a_share_of_the_pixel_loss_compares_brightness(photos: Path, tmp_path: Path, pixel_loss: str) -> None:
    def first_loss(share: float) -> float:
        table = {"steps": 1, "pixel_loss": pixel_loss, "luma_share": share}
        chosen = recipe(stage={"pretrain": table})
        (step,) = train(chosen, data=[photos], run_dir=tmp_path / f"{share}")
        return step.scalars["pixel_loss"]

    channels, half, luma = (first_loss(share) for share in (0, 0.5, 1))
    assert half == pytest.approx((channels + luma) / 2, rel=1e-5)
    assert luma != pytest.approx(channels, rel=1e-3), "untrained, all channels err alike, but not the same"


@pytest.mark.parametrize(("pixel_loss", "times"), [("l1", 2), ("mse", 4), ("charbonnier", 2), ("psnr", 1)])
def test_the_range_of_pixels_is_a_factor_of_the_pixel_loss(
    photos: Path, tmp_path: Path, pixel_loss: str, times: int
) -> None:
    """So Charbonnier's tip and PSNR's ceiling are where they are in [0, 1]."""

    def first_loss(pixel_range: str) -> float:
        table = {"steps": 1, "pixel_loss": pixel_loss, "pixel_range": pixel_range, "luma_share": 0.5}
        (step,) = train(recipe(stage={"pretrain": table}), data=[photos], run_dir=tmp_path / pixel_range)
        return step.scalars["pixel_loss"]

    assert first_loss("symmetric") == pytest.approx(times * first_loss("unit"), rel=1e-7)


def test_the_seed_decides(photos: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        list(train(recipe(pretrain=2, seed=seed), data=[photos], run_dir=tmp_path / name))
    a, b, c = (weights(tmp_path / name)["head.0.weight"] for name in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_training_starts_from_given_weights(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    start = SRResNet(scale=2, num_blocks=1, num_features=8, batch_norm=False)
    save_generator(start, path)
    slow = recipe(pretrain=1, stage={"pretrain": {"steps": 1, "learning_rate": 1e-12}})
    list(train(slow, data=[photos], run_dir=tmp_path / "run", init=str(path)))
    torch.testing.assert_close(
        weights(tmp_path / "run")["head.0.weight"], start.state_dict()["head.0.weight"]
    )


def test_a_run_is_not_started_over_another(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        next(train(recipe(pretrain=1), data=[photos], run_dir=tmp_path / "run", resume=True))
    list(train(recipe(pretrain=1), data=[photos], run_dir=tmp_path / "run"))
    with pytest.raises(TrainingError, match="add --resume"):
        next(train(recipe(pretrain=1), data=[photos], run_dir=tmp_path / "run"))


def test_a_checkpoint_of_another_network_is_refused(photos: Path, tmp_path: Path) -> None:
    list(train(recipe(pretrain=1), data=[photos], run_dir=tmp_path / "run"))
    other = recipe(pretrain=2, generator={"scale": 2, "num_blocks": 2, "num_features": 8})
    with pytest.raises(TrainingError, match="belongs to another recipe"):
        list(train(other, data=[photos], run_dir=tmp_path / "run", resume=True))
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="cannot be resumed"):
        list(train(recipe(pretrain=2), data=[photos], run_dir=tmp_path / "run", resume=True))


def test_missing_feature_weights_are_asked_for(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--features"):
        next(train(recipe(gan=1), data=[photos], run_dir=tmp_path / "a"))
    with pytest.raises(DataError, match="there is no training data at"):
        next(train(recipe(gan=1), data=[photos], valid=tmp_path / "nowhere", run_dir=tmp_path / "a"))
    with pytest.raises(ModelError, match="there is no vgg19_normalised"):
        next(train(recipe(gan=1), data=[photos], run_dir=tmp_path / "b", features=photos))


def test_a_request_to_stop_leaves_a_checkpoint_of_that_step(photos: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    chosen = recipe(pretrain=9)
    for progress in train(
        chosen, data=[photos], run_dir=tmp_path / "run", should_stop=lambda: len(seen) == 3
    ):
        seen.append(progress)
    assert [progress.step for progress in seen] == [1, 2, 3, 4]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [
        "pretrain-00000004.safetensors"
    ]
    so_far = weights(tmp_path / "run")
    average, _ = load_tensors(tmp_path / "run" / "checkpoints" / "pretrain-00000004.safetensors")
    assert all(torch.equal(so_far[name], average[f"ema/{name}"]) for name in so_far)
    list(train(chosen, data=[photos], run_dir=tmp_path / "run", resume=True))
    list(train(chosen, data=[photos], run_dir=tmp_path / "whole"))
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_ends_in_time_with_weights(photos: Path, tmp_path: Path) -> None:
    def steps(*, minutes: float, resume: bool = True) -> list[int]:
        run = train(
            recipe(pretrain=5), data=[photos], run_dir=tmp_path / "run", minutes=minutes, resume=resume
        )
        return [progress.step for progress in run]

    assert steps(minutes=0, resume=False) == [1]
    assert weights(tmp_path / "run")
    assert steps(minutes=0) == [2]
    assert steps(minutes=9) == [3, 4, 5]


def test_pictures_on_the_device_change_nothing_but_where_batches_are_made(
    photos: Path, tmp_path: Path
) -> None:
    values = recipe(pretrain=3).model_dump()
    values["data"] |= {"on_device": True, "candidates": 2}
    there = Recipe.model_validate(values)
    values["data"]["on_device"] = False
    for name, chosen in (("there", there), ("here", Recipe.model_validate(values))):
        list(train(chosen, data=[photos], run_dir=tmp_path / name))
    here, resident = weights(tmp_path / "here"), weights(tmp_path / "there")
    assert all(torch.equal(here[name], resident[name]) for name in here)


def test_a_batch_in_parts_gives_the_update_of_the_whole(
    photos: Path, feature_weights: Path, tmp_path: Path
) -> None:
    for name, accumulate in (("whole", 1), ("parts", 2)):
        chosen = recipe(
            pretrain=2, gan=2, accumulate=accumulate,
            discriminator={"num_features": 2, "head": "patch", "batch_norm": False},
        )  # fmt: skip
        list(train(chosen, data=[photos], run_dir=tmp_path / name, features=feature_weights))
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-4, atol=1e-5)


def test_a_run_that_explodes_is_stopped_and_says_where(photos: Path, tmp_path: Path) -> None:
    steep = {"pretrain": {"steps": 30, "learning_rate": 1e30}}
    chosen = recipe(stage=steep, checkpoint_minutes=1e-9, snapshot_every=1)
    with pytest.raises(TrainingError, match=r"pretrain step \d+.*the newest checkpoint is in") as caught:
        list(train(chosen, data=[photos], run_dir=tmp_path / "run"))
    step = int(str(caught.value).partition("pretrain step ")[2].partition(":")[0])
    snapshots = sorted(path.name for path in (tmp_path / "run" / "snapshots").iterdir())
    assert snapshots == [f"pretrain-{before:08d}.safetensors" for before in range(1, step)]


def test_snapshots_are_kept_and_a_run_can_start_from_a_run(
    photos: Path, feature_weights: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    list(train(recipe(gan=4, snapshot_every=2), data=[photos], run_dir=first, features=feature_weights))
    assert {path.name for path in (first / "snapshots").iterdir()} == {
        f"{name}-0000000{step}.safetensors" for name in ("gan", "discriminator") for step in (2, 4)
    }
    still = recipe(stage={"gan": {"steps": 1, "learning_rate": 1e-20, "perceptual_weight": 0.0}})
    list(train(still, data=[photos], run_dir=tmp_path / "second", init=str(first)))
    for name in ("weights", "discriminator"):
        before, after = (
            load_tensors(tmp_path / run / f"{name}.safetensors")[0] for run in ("first", "second")
        )
        learnt = [key for key in before if key.endswith("weight")]
        assert all(torch.allclose(before[key], after[key]) for key in learnt)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_what_a_run_started_from_is_not_needed_to_go_on(
    photos: Path, feature_weights: Path, tmp_path: Path, stop_after: int
) -> None:
    """Neither the generator nor the discriminator, not even before its stage."""
    first = recipe(gan=2, generator={"scale": 2, "num_blocks": 1, "num_features": 8, "init": None})
    list(train(first, data=[photos], run_dir=tmp_path / "first", features=feature_weights))
    chosen = recipe(
        pretrain=2, gan=2, checkpoint_minutes=1e-9,
        generator={"scale": 2, "num_blocks": 1, "num_features": 8, "init": str(tmp_path / "first")},
    )  # fmt: skip
    list(train(chosen, data=[photos], run_dir=tmp_path / "whole", features=feature_weights))
    run_dir = tmp_path / "stopped"
    take(train(chosen, data=[photos], run_dir=run_dir, features=feature_weights), stop_after)
    (tmp_path / "first").rename(tmp_path / "gone")
    list(train(chosen, data=[photos], run_dir=run_dir, features=feature_weights, resume=True))
    for name in ("weights", "discriminator"):
        whole, stopped = (
            load_tensors(tmp_path / run / f"{name}.safetensors")[0] for run in ("whole", "stopped")
        )
        assert all(torch.equal(whole[key], stopped[key]) for key in whole)


def test_a_start_is_not_needed_to_go_on_with_a_classifier(digits: Path, tmp_path: Path) -> None:
    """The generator has learnt nothing by then, but its weights are given ones."""
    chosen = tiny("srgan-mnist-classifier", ["checkpoint_minutes=1e-9"])
    start, seeded = tmp_path / "start", tiny("srgan-mnist-classifier", ["seed=3"])
    list(train(seeded, data=[digits], run_dir=start))
    list(train(chosen, data=[digits], run_dir=tmp_path / "whole", init=str(start)))
    take(train(chosen, data=[digits], run_dir=tmp_path / "stopped", init=str(start)), 1)
    start.rename(tmp_path / "gone")
    list(train(chosen, data=[digits], run_dir=tmp_path / "stopped", init=str(start), resume=True))
    whole, stopped = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_another_start_comes_too_late_for_a_run_that_goes_on(photos: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    table = {"scale": 2, "num_blocks": 1, "num_features": 8, "batch_norm": False}
    list(train(recipe(pretrain=1, generator=table), data=[photos], run_dir=run_dir))
    other = recipe(pretrain=2, generator=table | {"init": "a"})
    (step,) = train(other, data=[photos], run_dir=run_dir, init="b", resume=True)
    late = "too late for weights that come from the checkpoint"
    assert {
        f'the run goes on with another recipe than before: generator.init is "a", was null, {late}',
        f"the run goes on with another start than before: --init is b, was nothing, {late}",
    } <= set(step.notes)
    assert json.loads((run_dir / "recipe.json").read_text())["generator"]["init"] is None


@pytest.mark.parametrize(
    ("architecture", "new"),
    [
        ("srresnet", {"upsampler.3.bias", "upsampler.3.weight", "upsampler.4.weight"}),
        ("compact", {"skip", "tail"}),
    ],
)
def test_a_generator_can_start_from_one_of_another_scale(
    photos: Path, tmp_path: Path, architecture: str, new: set[str]
) -> None:
    """What belongs to a scale begins anew, and all else goes on."""
    table = {"architecture": architecture, "num_blocks": 1, "num_features": 8, "batch_norm": False}
    still = {"pretrain": {"steps": 1, "learning_rate": 1e-20}}
    for scale, init in ((2, None), (4, str(tmp_path / "2"))):
        chosen = recipe(generator=table | {"scale": scale}, stage=still, seed=scale)
        list(train(chosen, data=[photos], run_dir=tmp_path / str(scale), init=init))
    before, after = weights(tmp_path / "2"), weights(tmp_path / "4")
    kept = {name for name in after if name in before and torch.equal(before[name], after[name])}
    assert {name for name in after if name not in kept} == {
        name for name in after if name in new or name.split(".")[0] in new
    }


def test_a_generator_can_start_from_a_sum(photos: Path, feature_weights: Path, tmp_path: Path) -> None:
    """What a second run has changed in the weights of a first is added to those of a third."""
    for name, seed, gan in (("first", 1, 0), ("second", 2, 1), ("third", 3, 0)):
        chosen = recipe(pretrain=1, gan=gan, seed=seed)
        list(train(chosen, data=[photos], run_dir=tmp_path / name, features=feature_weights))
    still = recipe(stage={"gan": {"steps": 1, "learning_rate": 1e-20, "perceptual_weight": 0.0}})
    init = f"{tmp_path / 'third'} + {tmp_path / 'second'}  - {tmp_path / 'first'}"
    list(train(still, data=[photos], run_dir=tmp_path / "sum", init=init))
    first, second, third, sums = (weights(tmp_path / name) for name in ("first", "second", "third", "sum"))
    for name, tensor in sums.items():
        torch.testing.assert_close(tensor, third[name] + second[name] - first[name])
    discriminator, started = (
        load_tensors(tmp_path / name / "discriminator.safetensors")[0] for name in ("second", "sum")
    )
    learnt = [key for key in started if key.endswith("weight")]
    assert all(torch.allclose(discriminator[key], started[key], atol=1e-3) for key in learnt)


def test_a_bundled_name_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny-x4").mkdir()
    Path("tiny-x4", "weights.safetensors").touch()
    assert find_start("tiny-x4").base == zoo.find("tiny-x4").weights
    assert find_start("./tiny-x4").base == Path("tiny-x4", "weights.safetensors")


def test_a_sum_whose_variances_are_none_is_no_start(photos: Path, tmp_path: Path) -> None:
    for name, variance in (("small", 0.5), ("large", 2.0)):
        generator = SRResNet(scale=2, num_blocks=1, num_features=8)
        state = generator.state_dict()
        changed = {key: torch.full_like(state[key], variance) for key in state if key.endswith("running_var")}
        generator.load_state_dict(state | changed)
        save_generator(generator, tmp_path / f"{name}.safetensors")
    small, large = (str(tmp_path / f"{name}.safetensors") for name in ("small", "large"))
    chosen = recipe(pretrain=1, generator={"scale": 2, "num_blocks": 1, "num_features": 8})
    with pytest.raises(TrainingError, match=r"the sum is no network: .*running_var, .* comes down to -1;"):
        next(train(chosen, data=[photos], run_dir=tmp_path / "run", init=f"{small} + {small} - {large}"))
    list(train(chosen, data=[photos], run_dir=tmp_path / "run", init=f"{large} + {small} - {small}"))


def test_a_generator_cannot_start_from_one_of_another_width(photos: Path, tmp_path: Path) -> None:
    list(train(recipe(pretrain=1), data=[photos], run_dir=tmp_path / "narrow"))
    wide = recipe(
        pretrain=1, generator={"scale": 4, "num_blocks": 1, "num_features": 12, "batch_norm": False}
    )
    with pytest.raises(TrainingError, match=r"num_features 8 and not 12$"):
        list(train(wide, data=[photos], run_dir=tmp_path / "wide", init=str(tmp_path / "narrow")))


def test_spans_in_epochs_follow_the_number_of_pictures(photos: Path, tmp_path: Path) -> None:
    """Three pictures in batches of two: an epoch is a step and a half."""
    chosen = recipe(stage={"pretrain": {"steps": "4 epochs"}}, validate_every="2 epochs")
    progress = list(train(chosen, data=[photos], valid=photos, run_dir=tmp_path / "run"))
    assert len(progress) == 6
    assert progress[-1].epoch == 4
    assert [step.step for step in progress if step.validation] == [3, 6]


def test_a_picture_and_its_reductions_are_one_in_an_epoch(photos: Path, tmp_path: Path) -> None:
    table = {"patch_size": 16, "batch_size": 2, "reductions": (1, 2)}
    chosen = recipe(stage={"pretrain": {"steps": "4 epochs"}}, data=table)
    progress = list(train(chosen, data=[photos], run_dir=tmp_path / "run"))
    assert len(progress) == 6
    assert progress[-1].epoch == 4


def test_the_same_pictures_give_the_same_batches_however_their_paths_are_spelt(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x/a", "z"):
        shutil.copytree(photos, tmp_path / name)
    monkeypatch.chdir(tmp_path / "x")
    given = {"relative": ["../z", "a"], "absolute": [tmp_path / "z", tmp_path / "x" / "a"]}
    for name, data in given.items():  # each with a cache of its own
        list(train(recipe(pretrain=3), data=data, run_dir=tmp_path / name / "run"))
    relative, absolute = (weights(tmp_path / name / "run") for name in given)
    assert all(torch.equal(weight, absolute[name]) for name, weight in relative.items())


def test_a_warm_up_that_leaves_the_generator_no_step_is_refused(photos: Path, tmp_path: Path) -> None:
    """Four epochs are six steps."""

    def steps(warmup: int) -> list[Progress]:
        table = {"steps": "4 epochs", "perceptual_weight": 0.0, "discriminator_warmup_steps": warmup}
        return list(train(recipe(stage={"gan": table}), data=[photos], run_dir=tmp_path / f"{warmup}"))

    assert "generator_loss" in steps(5)[-1].scalars
    with pytest.raises(
        RecipeError, match="must be fewer than its 6 steps, or the generator never learns, not 6"
    ):
        steps(6)
    assert not (tmp_path / "6").exists()


def test_a_warm_up_of_the_learning_rate_beyond_the_end_is_told(photos: Path, tmp_path: Path) -> None:
    def notes(warmup: int) -> tuple[str, ...]:
        chosen = recipe(stage={"pretrain": {"steps": 2, "warmup_steps": warmup}})
        first, _ = train(chosen, data=[photos], run_dir=tmp_path / f"{warmup}")
        return first.notes

    assert notes(1) == ()
    told = "the 2 steps of stage.pretrain end in the warm-up of the learning rate: warmup_steps is 2"
    assert notes(2) == (told,)


def write_digits(folder: Path, name: str, *, count: int) -> None:
    """IDX files of blots whose place tells their label."""
    random = np.random.default_rng(count)
    labels = np.arange(count, dtype=np.uint8) % 10
    pictures = random.integers(0, 30, (count, 28, 28)).astype(np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        y, x = 2 + 12 * (label // 5), 1 + 5 * (label % 5)
        picture[y : y + 8, x : x + 5] = 255
    (folder / f"{name}-images-idx3-ubyte").write_bytes(
        struct.pack(">IIII", 2051, count, 28, 28) + pictures.tobytes()
    )
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    folder = tmp_path / "digits"
    folder.mkdir()
    write_digits(folder, "train", count=60)
    write_digits(folder, "t10k", count=20)
    return folder


def tiny(name: str, more: Sequence[str] = ()) -> Recipe:
    """A bundled recipe with the smallest networks, and a step of each stage."""
    whole = load_recipe(name)
    overrides = ["generator.num_blocks=1", "generator.num_features=8", "discriminator.num_features=2"]
    overrides += [f"stage.{stage}.steps=2" for stage in whole.stage.model_fields_set]
    if whole.stage.gan:
        overrides.append("stage.gan.discriminator_warmup_steps=0")
    overrides += [f"{span}=1" for span in ("validate_every", "snapshot_every") if getattr(whole, span)]
    if whole.data.patch_size != 28:
        overrides += ["data.patch_size=32", "data.batch_size=2"]
    if whole.generator.init:
        overrides.append("generator.init=")
    return load_recipe(name, overrides=[*overrides, *more])


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_bundled_recipe_runs(
    name: str, photos: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def random_features(network: str, *, layers: Sequence[str], source: Path | None) -> torch.nn.Module:
        if network == "squeezenet":
            return SqueezeNetFeatures(layers=layers).eval().requires_grad_(False)
        return VggFeatures(variant=network, layers=layers).eval().requires_grad_(False)

    monkeypatch.setattr("crispen.training.building.load_features", random_features)
    data = digits if "mnist" in name else photos
    chosen = tiny(name)
    steps = list(train(chosen, data=[data], valid=data, run_dir=tmp_path / "run"))
    stages = [name for name in ("classifier", "pretrain", "gan") if getattr(chosen.stage, name)]
    assert [step.stage for step in steps] == [name for name in stages for _ in range(2)]
    assert all("generator_loss" in step.scalars for step in steps if step.stage != "classifier")
    assert all(np.isfinite(list(step.scalars.values())).all() for step in steps)
    assert load_generator(tmp_path / "run" / "weights.safetensors").scale == chosen.generator.scale


@pytest.mark.parametrize(
    "more", ["generator.scale=2", "generator.scale=8", "discriminator.architecture=residual"]
)
def test_recipes_take_other_factors_and_discriminators(photos: Path, tmp_path: Path, more: str) -> None:
    chosen = tiny("srgan-vgg16", [more, "stage.gan.perceptual_weight=0", "stage.gan.features=[]"])
    list(train(chosen, data=[photos], run_dir=tmp_path / "run"))
    assert load_generator(tmp_path / "run" / "weights.safetensors").scale == chosen.generator.scale


def test_a_classifier_is_trained_first_and_judges(digits: Path, tmp_path: Path) -> None:
    chosen = tiny("srgan-mnist-classifier", ["stage.classifier.steps=25", "data.batch_size=20"])
    steps = list(train(chosen, data=[digits], valid=digits, run_dir=tmp_path / "run"))
    assert steps[24].validation["valid_accuracy"] == 1, "the blots tell their labels"
    assert steps[-1].scalars["classifier_loss"] > 0
    assert 0 <= steps[-1].validation["valid_accuracy"] <= 1


def test_a_classifier_is_resumed_to_the_bit_dropout_and_all(digits: Path, tmp_path: Path) -> None:
    chosen = tiny("srgan-mnist-classifier", ["stage.classifier.steps=4", "checkpoint_minutes=1e-9"])
    list(train(chosen, data=[digits], run_dir=tmp_path / "whole"))
    take(train(chosen, data=[digits], run_dir=tmp_path / "stopped"), 2)
    list(train(chosen, data=[digits], run_dir=tmp_path / "stopped", resume=True))
    whole, stopped = (
        load_tensors(tmp_path / run / "classifier.safetensors")[0] for run in ("whole", "stopped")
    )
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_a_classifier_needs_labels(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have labels"):
        next(train(tiny("srgan-mnist-classifier"), data=[photos], run_dir=tmp_path / "run"))


def test_unreadable_pictures_are_named_at_the_first_step(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    progress = list(train(recipe(pretrain=2), data=[photos], run_dir=tmp_path / "run"))
    assert len(progress[0].notes) == 1
    assert "broken.png" in progress[0].notes[0]
    assert not progress[1].notes


def test_a_damaged_checkpoint_is_named_and_passed_over(photos: Path, tmp_path: Path) -> None:
    chosen = recipe(pretrain=5, checkpoint_minutes=1e-9)
    take(train(chosen, data=[photos], run_dir=tmp_path / "run"), 3)
    (tmp_path / "run" / "checkpoints" / "pretrain-00000003.safetensors").write_bytes(b"damaged")
    progress = list(train(chosen, data=[photos], run_dir=tmp_path / "run", resume=True))
    assert [step.step for step in progress] == [3, 4, 5]
    assert progress[0].notes == (
        "pretrain-00000003.safetensors is damaged: going on from pretrain-00000002.safetensors",
    )


def test_a_finished_run_is_not_overwritten_without_its_checkpoints(photos: Path, tmp_path: Path) -> None:
    list(train(recipe(pretrain=1), data=[photos], run_dir=tmp_path / "run"))
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(TrainingError, match="holds a run already"):
        next(train(recipe(pretrain=1), data=[photos], run_dir=tmp_path / "run"))


def test_a_run_that_goes_on_with_another_recipe_is_told(photos: Path, tmp_path: Path) -> None:
    take(train(recipe(pretrain=3, checkpoint_minutes=1e-9), data=[photos], run_dir=tmp_path / "run"), 2)
    progress = list(train(recipe(pretrain=4, seed=7), data=[photos], run_dir=tmp_path / "run", resume=True))
    told = "the run goes on with another recipe than before: "
    assert {f"{told}seed is 7, was 0", f"{told}stage.pretrain.steps is 4, was 3"} <= set(progress[0].notes)


def test_a_key_that_an_early_record_lacks_is_no_other_recipe(photos: Path, tmp_path: Path) -> None:
    run_dir, chosen = tmp_path / "run", recipe(pretrain=3, checkpoint_minutes=1e-9)
    take(train(chosen, data=[photos], run_dir=run_dir), 2)
    recorded = json.loads((run_dir / "recipe.json").read_text())
    del recorded["stage"]["pretrain"]["grid_weight"], recorded["accumulate"]
    (run_dir / "recipe.json").write_text(json.dumps(recorded))
    progress = list(train(chosen, data=[photos], run_dir=run_dir, resume=True))
    assert not progress[0].notes


def kept(run_dir: Path) -> dict[str, bytes]:
    """What a run's folder holds, file by file."""
    return {path.name: path.read_bytes() for path in run_dir.iterdir() if path.is_file()}


@contextmanager
def refused(run_dir: Path, match: str) -> Generator[None]:
    """What is tried is an error that says ``match``, and leaves the run's folder as it was."""
    before = kept(run_dir)
    with pytest.raises(TrainingError, match=match):
        yield
    assert kept(run_dir) == before


def test_a_run_is_not_resumed_with_a_recipe_that_lacks_its_stage(photos: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    stages = {"pretrain": {"steps": 2}, "gan": {"steps": 2, "perceptual_weight": 0.0}}
    list(train(recipe(stage=stages), data=[photos], run_dir=run_dir))
    with refused(run_dir, r"has come to stage gan, and the recipe has no \[stage\.gan\]"):
        next(train(recipe(pretrain=2), data=[photos], run_dir=run_dir, resume=True))


def test_a_run_is_not_resumed_with_fewer_steps_than_are_done(photos: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    list(train(recipe(pretrain=3), data=[photos], run_dir=run_dir))
    with refused(run_dir, "has 3 steps done, but the recipe ends the stage pretrain after 2"):
        next(train(recipe(pretrain=2), data=[photos], run_dir=run_dir, resume=True))


def test_a_recipe_that_the_checkpoint_does_not_fit_changes_nothing(photos: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    list(train(recipe(pretrain=2), data=[photos], run_dir=run_dir))
    other = recipe(pretrain=3, generator={"scale": 2, "num_blocks": 2, "num_features": 8})
    with refused(run_dir, "belongs to another recipe"):
        next(train(other, data=[photos], run_dir=run_dir, resume=True))


def test_what_is_noted_is_told_even_where_no_step_is_left(photos: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    list(train(recipe(pretrain=3, checkpoint_minutes=1e-9), data=[photos], run_dir=run_dir))
    assert (
        list(train(recipe(pretrain=3, checkpoint_minutes=1e-9), data=[photos], run_dir=run_dir, resume=True))
        == []
    )
    logged, made = (run_dir / "log.jsonl").read_bytes(), weights(run_dir)
    table = {"steps": 3, "learning_rate": 0.5, "pixel_loss": "l1"}
    other = recipe(stage={"pretrain": table}, checkpoint_minutes=1e-9, seed=8)
    (standing,) = train(other, data=[photos], run_dir=run_dir, resume=True)
    assert (standing.stage, standing.step, standing.steps, standing.scalars) == ("pretrain", 3, 3, {})
    told = "the run goes on with another recipe than before: "
    assert set(standing.notes) == {
        f"{told}seed is 8, was 0",
        f"{told}stage.pretrain.learning_rate is 0.5, was 0.003, too late for a stage that is finished",
    }
    record = json.loads((run_dir / "recipe.json").read_text())
    assert (record["seed"], record["stage"]["pretrain"]["learning_rate"]) == (8, 0.003)
    assert (run_dir / "log.jsonl").read_bytes() == logged
    assert all(torch.equal(weight, made[name]) for name, weight in weights(run_dir).items())


def test_a_stage_that_is_finished_stands_on_record_as_it_was_done(photos: Path, tmp_path: Path) -> None:
    def stages(pretrain: int | None, gan: int) -> Recipe:
        table = {"steps": gan, "perceptual_weight": 0.0, "pixel_weight": 1.0}
        before = {"pretrain": {"steps": pretrain}} if pretrain else {}
        return recipe(stage=before | {"gan": table}, checkpoint_minutes=1e-9)

    run_dir = tmp_path / "run"
    take(train(stages(2, 5), data=[photos], run_dir=run_dir), 4)
    (first, *_) = train(stages(4, 3), data=[photos], run_dir=run_dir, resume=True)
    told = "the run goes on with another recipe than before: "
    assert set(first.notes) == {
        f"{told}stage.pretrain.steps is 4, was 2, too late for a stage that is finished",
        f"{told}stage.gan.steps is 3, was 5",
    }
    record = json.loads((run_dir / "recipe.json").read_text())["stage"]
    assert (record["pretrain"]["steps"], record["gan"]["steps"]) == (2, 3)
    (standing,) = train(stages(None, 3), data=[photos], run_dir=run_dir, resume=True)
    assert all("too late" in note for note in standing.notes)
    assert json.loads((run_dir / "recipe.json").read_text())["stage"]["pretrain"]["steps"] == 2
    (run_dir / "recipe.json").unlink()
    assert list(train(stages(4, 3), data=[photos], run_dir=run_dir, resume=True)) == []
    assert json.loads((run_dir / "recipe.json").read_text())["stage"]["pretrain"]["steps"] == 4, (
        "all that is known"
    )


def test_overrides_go_over_a_recipe_that_is_given_as_it_is(photos: Path, tmp_path: Path) -> None:
    run = train(
        recipe(pretrain=5), data=[photos], run_dir=tmp_path / "run", overrides=["stage.pretrain.steps=2"]
    )
    assert [step.steps for step in run] == [2, 2]
    with pytest.raises(RecipeError, match=r"needs \[stage\.pretrain\], \[stage\.gan\] or both"):
        next(train(recipe(), data=[photos], run_dir=tmp_path / "none"))


def test_places_are_texts_or_paths_and_data_one_or_several(
    photos: Path, feature_weights: Path, tmp_path: Path
) -> None:
    for form in (str, Path):
        run = train(
            recipe(gan=2), data=form(photos), valid=form(photos), run_dir=form(tmp_path / form.__name__),
            features=form(feature_weights),
        )  # fmt: skip
        assert len(list(run)) == 2
    texts, paths = weights(tmp_path / "str"), weights(tmp_path / "Path")
    assert all(torch.equal(texts[name], paths[name]) for name in texts)


def test_pictures_that_are_named_twice_count_once_and_that_is_told(photos: Path, tmp_path: Path) -> None:
    once, twice = (
        list(train(recipe(pretrain=2), data=[photos] * times, run_dir=tmp_path / str(times)))
        for times in (1, 2)
    )
    assert once[0].notes == ()
    assert twice[0].notes == (f"{photos} is named 2 times and counts once",)
    assert [step.scalars for step in twice] == [step.scalars for step in once]


def test_a_run_that_goes_on_with_other_pictures_is_told(photos: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    start = tmp_path / "start.safetensors"
    save_generator(SRResNet(scale=2, num_blocks=1, num_features=8, batch_norm=False), start)
    list(train(recipe(pretrain=1), data=[photos], run_dir=run_dir, init=str(start)))
    (step,) = train(recipe(pretrain=2), data=[photos], valid=photos, run_dir=run_dir, resume=True)
    assert f"the run goes on with other pictures than before: --valid is {photos}, was nothing" in step.notes
    starts = json.loads((run_dir / "environment.json").read_text())
    assert [(each["valid"], each["init"]) for each in starts] == [(None, str(start)), (str(photos), None)]


def test_weights_for_which_there_is_no_room_are_one_sentence(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crispen.training.loop.save_generator", full)
    chosen = recipe(pretrain=2, snapshot_every=1, checkpoint_minutes=1e-9)
    with pytest.raises(
        TrainingError, match=r"pretrain-00000001\.safetensors cannot be written: No space left"
    ):
        list(train(chosen, data=[photos], run_dir=tmp_path / "run"))


def test_two_runs_in_one_folder_are_refused(photos: Path, tmp_path: Path) -> None:
    chosen = recipe(pretrain=3, checkpoint_minutes=1e-9)
    first = train(chosen, data=[photos], run_dir=tmp_path / "run")
    next(first)
    before = kept(tmp_path / "run")
    for resume in (False, True):
        with pytest.raises(TrainingError, match=r"^another process is training in .*run: wait for its end"):
            next(train(chosen, data=[photos], run_dir=tmp_path / "run", resume=resume))
    assert kept(tmp_path / "run") == before
    assert [step.step for step in first] == [2, 3]
    assert list(train(chosen, data=[photos], run_dir=tmp_path / "run", resume=True)) == []
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_file_system_without_locks_is_no_hindrance(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    assert len(list(train(recipe(pretrain=2), data=[photos], run_dir=tmp_path / "run"))) == 2


def test_a_run_that_does_not_begin_leaves_no_folder(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no training data at"):
        next(train(recipe(pretrain=1), data=[tmp_path / "nowhere"], run_dir=tmp_path / "runs" / "run"))
    assert not (tmp_path / "runs").exists()
    with pytest.raises(TrainingError, match=r"0\.png cannot be written to"):
        next(train(recipe(pretrain=1), data=[photos], run_dir=photos / "0.png"))


@pytest.mark.parametrize("optimizers", [("adam", "muon"), ("muon", "adam")])
def test_a_run_is_not_resumed_with_another_optimizer(
    photos: Path, tmp_path: Path, optimizers: tuple[str, str]
) -> None:
    def chosen(optimizer: str, steps: int) -> Recipe:
        wide = {"scale": 2, "num_blocks": 1, "num_features": 16}
        return recipe(stage={"pretrain": {"steps": steps, "optimizer": optimizer}}, generator=wide)

    before, after = optimizers
    list(train(chosen(before, 1), data=[photos], run_dir=tmp_path / "run"))
    with pytest.raises(TrainingError, match="it holds the moments of another optimizer"):
        next(train(chosen(after, 2), data=[photos], run_dir=tmp_path / "run", resume=True))
    assert [
        step.step for step in train(chosen(before, 2), data=[photos], run_dir=tmp_path / "run", resume=True)
    ] == [2]


def test_a_run_that_passes_over_a_damaged_checkpoint_keeps_its_own(photos: Path, tmp_path: Path) -> None:
    """Even where a single one is kept and those that are damaged are of later steps."""
    run_dir, checkpoints = tmp_path / "run", tmp_path / "run" / "checkpoints"
    chosen = recipe(pretrain=4, checkpoint_minutes=1e-9, keep_checkpoints=1)
    take(train(chosen, data=[photos], run_dir=run_dir), 2)
    for step in (3, 9):
        (checkpoints / f"pretrain-0000000{step}.safetensors").write_bytes(b"damaged")
    for step in (3, 4):
        take(train(chosen, data=[photos], run_dir=run_dir, resume=True), 1)
        assert [path.name for path in checkpoints.iterdir()] == [f"pretrain-0000000{step}.safetensors"]


def test_weights_of_another_kind_of_generator_are_no_start(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    generator = SRResNet(scale=2, num_blocks=1, num_features=8, batch_norm=False, output="symmetric")
    save_generator(generator, path)
    with pytest.raises(TrainingError, match="it has output 'symmetric' and not 'linear'"):
        next(train(recipe(pretrain=1), data=[photos], run_dir=tmp_path / "run", init=str(path)))


def test_validation_pictures_smaller_than_a_patch_are_used_and_broken_ones_named(
    photos: Path, tmp_path: Path
) -> None:
    valid = tmp_path / "valid"
    valid.mkdir()
    for name, side in (("a", 20), ("b", 24)):
        images.write(images.from_array(np.full((side, side, 3), 9, np.uint8)), valid / f"{name}.png")
    (valid / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (progress,) = train(recipe(pretrain=1), data=[photos], valid=valid, run_dir=tmp_path / "run")
    assert "broken.png" in progress.notes[0]
    assert progress.validation["valid_psnr"] > 0


def fill(folder: Path, **sides: int) -> Path:
    """A folder of gray squares, by name and side."""
    folder.mkdir()
    for name, side in sides.items():
        images.write(images.from_array(np.full((side, side, 3), 9, np.uint8)), folder / f"{name}.png")
    return folder


def test_validation_pictures_that_nothing_can_be_measured_on_are_named_and_left_out(
    photos: Path, tmp_path: Path
) -> None:
    """At scale 2, a border of 2 is cropped on all sides."""
    valid = fill(tmp_path / "valid", large=6, small=5)
    (progress,) = train(recipe(pretrain=1), data=[photos], valid=valid, run_dir=tmp_path / "run")
    assert progress.notes == (f"left out {valid / 'small.png'} has 4x4 pixels, but validation needs 6x6",)
    assert progress.validation["valid_psnr"] > 0
    (valid / "large.png").unlink()
    with pytest.raises(DataError, match="no picture of at least 6x6 pixels in"):
        next(train(recipe(pretrain=1), data=[photos], valid=valid, run_dir=tmp_path / "other"))


def test_features_need_some_pixels_of_patches_and_of_validation_pictures(
    photos: Path, tmp_path: Path
) -> None:
    """Fire9 of SqueezeNet has something from 17 pixels on."""
    weights_of_features = tmp_path / "squeezenet1_1.safetensors"
    save_file(SqueezeNetFeatures(layers=["fire9"]).state_dict(), weights_of_features)
    features = [{"network": "squeezenet", "layers": {"fire9": 1.0}}]
    valid = fill(tmp_path / "valid", large=18, small=16)

    def steps(patch_size: int) -> list[Progress]:
        chosen = recipe(
            data={"patch_size": patch_size, "batch_size": 2},
            stage={"gan": {"steps": 1, "features": features}},
        )
        run_dir = tmp_path / f"{patch_size}"
        return list(train(chosen, data=[photos], valid=valid, run_dir=run_dir, features=weights_of_features))

    (progress,) = steps(32)
    assert progress.notes[0] == f"left out {valid / 'small.png'} has 16x16 pixels, but validation needs 18x18"
    assert progress.validation["valid_perceptual_loss"] >= 0
    with pytest.raises(
        TrainingError, match=r"nothing of 16x16 pixels, .* squeezenet in stage\.gan\.features \(fire9\)"
    ):
        steps(16)
    assert not (tmp_path / "16").exists()


def test_some_of_the_pictures_evenly_chosen(digits: Path, tmp_path: Path) -> None:
    whole = open_dataset([digits], scale=4, patch_size=28, cache=tmp_path / "cache")
    some = whole.subset(20)
    assert [some.label(index) for index in range(20)] == [whole.label(3 * index) for index in range(20)]
    batch = some.batch(seed=0, step=0, patch_size=28, batch_size=200, augment=False)
    assert batch.labels is not None
    assert {int(label) for label in batch.labels} == {some.label(index) for index in range(20)}
    assert whole.subset(None) is whole


def test_labels_beyond_the_classifiers_are_refused(digits: Path, tmp_path: Path) -> None:
    labels = digits / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[-1] = 20
    labels.write_bytes(bytes(content))
    with pytest.raises(DataError, match="a label 20, but the classifier tells 10 classes apart"):
        next(train(tiny("srgan-mnist-classifier"), data=[digits], run_dir=tmp_path / "run"))


def test_an_unhealthy_run_stops_where_the_recipe_says_so(photos: Path, tmp_path: Path) -> None:
    still = {"steps": 60, "learning_rate": 1e-12, "pixel_weight": 1e-9}
    for on_trouble in ("warn", "stop"):
        run = train(
            recipe(stage={"pretrain": still}, on_trouble=on_trouble),
            data=[photos],
            run_dir=tmp_path / on_trouble,
        )
        if on_trouble == "warn":
            assert any("gradient" in note for step in run for note in step.notes)
        else:
            told = r"pretrain step 50: .* gradients .*; the newest checkpoint is in .*, and the weights so far are in"
            with pytest.raises(TrainingError, match=told):
                list(run)


def test_a_pattern_after_a_few_steps_is_told_but_stops_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patterned(picture: object, *, scale: int) -> float:
        return 30.0

    monkeypatch.setattr("crispen.training.validation.checkerboard_energy", patterned)
    chosen = recipe(pretrain=2, on_trouble="stop")
    *_, last = train(chosen, data=[photos], valid=photos, run_dir=tmp_path / "run")
    assert last.step == 2
    assert any("a regular pattern of 30.0 dB" in note for note in last.notes)


def test_a_run_that_is_stopped_for_its_trouble_can_go_on(photos: Path, tmp_path: Path) -> None:
    still = {"steps": 52, "learning_rate": 1e-3, "pixel_weight": 1e-9}
    stopping, whole = (
        recipe(stage={"pretrain": still}, on_trouble=on_trouble, checkpoint_minutes=60)
        for on_trouble in ("stop", "warn")
    )
    run_dir = tmp_path / "run"
    with pytest.raises(TrainingError, match="hardly learns"):
        list(train(stopping, data=[photos], run_dir=run_dir))
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["pretrain-00000050.safetensors"]
    average, _ = load_tensors(run_dir / "checkpoints" / "pretrain-00000050.safetensors")
    assert all(torch.equal(weight, average[f"ema/{name}"]) for name, weight in weights(run_dir).items())
    assert [step.step for step in train(stopping, data=[photos], run_dir=run_dir, resume=True)] == [51, 52]
    list(train(whole, data=[photos], run_dir=tmp_path / "whole"))
    never_stopped = weights(tmp_path / "whole")
    assert all(torch.equal(weight, never_stopped[name]) for name, weight in weights(run_dir).items())
