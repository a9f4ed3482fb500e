"""Training with a tiny network on generated pictures: it learns, both stages run, and stopping changes nothing."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]  # half typed
from torch import nn

from crispen import images, resize
from crispen.errors import DataError, ModelError, TrainingError
from crispen.networks.features import VGG_BLOCKS, SqueezeNetFeatures, VggFeatures, load_features
from crispen.networks.generators import SRResNet
from crispen.networks.weights import load_generator, load_tensors, save_generator
from crispen.training import Progress, Recipe, train
from crispen.training.data import Dataset, open_dataset
from crispen.training.losses import adversarial_loss, discriminator_loss, perceptual_loss


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of smooth coloured pictures, large enough for crops of 32."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(3):
        coarse = random.integers(0, 256, (7, 6 + index, 3)).astype(np.uint8)
        images.write(images.from_array(resize(coarse, 8)), folder / f"{index}.png")
    return folder


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
            "discriminator_warmup_steps": 1,
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
        "discriminator": {"num_features": 2, "dense": False},
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
    assert [(line["stage"], line["step"]) for line in logged] == [("pretrain", 2), ("gan", 2), ("gan", 3)]
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
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="cannot be resumed"):
        list(train(recipe(pretrain=2), data=[photos], run_dir=tmp_path / "run", resume=True))


def test_missing_feature_weights_are_asked_for(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--features"):
        next(train(recipe(gan=1), data=[photos], run_dir=tmp_path / "a"))
    with pytest.raises(ModelError, match="there is no vgg19_normalised"):
        next(train(recipe(gan=1), data=[photos], run_dir=tmp_path / "b", features=photos))


def open_at_scale(paths: list[Path], tmp_path: Path, *, scale: int = 2, patch_size: int = 16) -> Dataset:
    return open_dataset(paths, scale=scale, patch_size=patch_size, cache=tmp_path / "cache")


def test_lr_is_matlabs_bicubic_of_the_whole_picture(photos: Path, tmp_path: Path) -> None:
    dataset = open_at_scale([photos], tmp_path)
    for index in range(len(dataset)):
        assert (dataset.lr(index) == resize(dataset.hr(index), 1 / 2)).all()


def test_batches_depend_on_seed_and_step_alone(photos: Path, tmp_path: Path) -> None:
    dataset = open_at_scale([photos], tmp_path)
    batch = [dataset.batch(seed=1, step=step, patch_size=16, batch_size=4) for step in (5, 5, 6)]
    assert torch.equal(batch[0][0], batch[1][0])
    assert not torch.equal(batch[0][0], batch[2][0])
    assert batch[0][0].shape == (4, 3, 8, 8)
    assert batch[0][1].shape == (4, 3, 16, 16)


def test_lr_and_hr_of_a_crop_belong_together(photos: Path, tmp_path: Path) -> None:
    lr, hr = open_at_scale([photos], tmp_path).batch(seed=0, step=0, patch_size=32, batch_size=8)
    pooled = nn.functional.avg_pool2d(hr, 2)
    assert (pooled - lr).abs().mean() < 0.02
    assert (pooled - lr.roll(1, dims=0)).abs().mean() > 0.05


def test_a_tar_holds_the_same_pictures_as_its_folder(photos: Path, tmp_path: Path) -> None:
    shard = tmp_path / "photos.tar"
    with tarfile.open(shard, "w") as tar:
        for file in sorted(photos.iterdir(), reverse=True):
            tar.add(file, file.name)
        note = tarfile.TarInfo("note.txt")
        note.size = 2
        tar.addfile(note, io.BytesIO(b"hi"))
    from_tar, from_folder = open_at_scale([shard], tmp_path), open_at_scale([photos], tmp_path)
    assert len(from_tar) == len(from_folder) == 3
    assert all((from_tar.hr(i) == from_folder.hr(i)).all() for i in range(3))


def test_unreadable_pictures_are_skipped_and_named(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    dataset = open_at_scale([photos], tmp_path)
    assert len(dataset) == 3
    skipped = next((tmp_path / "cache").rglob("skipped.txt")).read_text()
    assert "broken.png" in skipped
    assert skipped.count("\n") == 1


def test_data_that_is_of_no_use_is_an_error(photos: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no readable picture in"):
        open_at_scale([empty], tmp_path)
    with pytest.raises(DataError, match="there is no training data at"):
        open_at_scale([tmp_path / "nowhere"], tmp_path)
    with pytest.raises(DataError, match="no picture of at least 512x512"):
        open_at_scale([photos], tmp_path, patch_size=512)


def test_a_changed_picture_is_decoded_again(photos: Path, tmp_path: Path) -> None:
    before = open_at_scale([photos], tmp_path).hr(0).copy()
    images.write(images.from_array(255 - before), photos / "0.png", force=True)
    assert (open_at_scale([photos], tmp_path).hr(0) == 255 - before).all()


@pytest.mark.parametrize("variant", VGG_BLOCKS)
def test_vgg_layers_have_their_sizes(variant: str) -> None:
    torch.manual_seed(0)
    found = VggFeatures(variant=variant, layers=["relu2_2", "conv5_1"])(torch.rand(1, 3, 32, 32))
    assert found["relu2_2"].shape == (1, 128, 16, 16)
    assert found["conv5_1"].shape == (1, 512, 2, 2)
    assert found["relu2_2"].min() == 0
    assert found["conv5_1"].min() < 0


def test_normalised_vgg_pads_by_reflection() -> None:
    """A constant picture has constant features to the border then, and only then."""
    torch.manual_seed(0)
    flat = torch.full((1, 3, 16, 16), 0.5)
    for variant, constant in (("vgg19-normalised", True), ("vgg19", False)):
        features = VggFeatures(variant=variant, layers=["relu1_2"])(flat)["relu1_2"]
        spread = (features.amax((2, 3)) - features.amin((2, 3))).max()
        assert (spread < 1e-5) == constant


def test_feature_weights_that_do_not_fit_are_refused(feature_weights: Path) -> None:
    path = feature_weights / "squeezenet1_1.safetensors"
    with pytest.raises(ModelError, match="does not hold the weights of vgg19"):
        load_features("vgg19", layers=["relu1_1"], path=path)
    assert not any(
        p.requires_grad for p in load_features("squeezenet", layers=["fire2"], path=path).parameters()
    )


def test_losses_by_hand() -> None:
    fakes, reals = torch.tensor([0.0, 2.0]), torch.tensor([1.0, -1.0])
    sigmoid = torch.sigmoid
    assert adversarial_loss(fakes) == pytest.approx(float(-torch.log(sigmoid(fakes)).mean()))
    expected = -torch.log(sigmoid(reals)).mean() - torch.log(1 - sigmoid(fakes)).mean()
    assert discriminator_loss(reals, fakes) == pytest.approx(float(expected))
    sr, hr = {"a": torch.tensor([1.0, 3.0])}, {"a": torch.tensor([0.0, 1.0])}
    loss = perceptual_loss(sr, hr, layers={"a": 2.0}, difference=nn.functional.mse_loss)
    assert loss == pytest.approx(2 * (1.0 + 4.0) / 2)
