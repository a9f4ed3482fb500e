"""Validation on spoilt pictures: the same each time, beside the clean ones, in a run and in an evaluation alike."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from commands import crispen_says, error_lines
from crispen import images, resize
from crispen.errors import TrainingError, UsageError
from crispen.evaluation import Method, bicubic, evaluate, open_benchmark
from crispen.networks.generators import AnyGenerator, SRResNet
from crispen.networks.weights import load_generator, save_generator
from crispen.training import Progress, Recipe, train
from crispen.training.data import open_dataset
from crispen.training.degradation import degrade_repeatably, reduction_of
from crispen.training.health import HealthMonitor
from crispen.training.machine import make_fabric
from crispen.training.plots import PANELS
from crispen.training.recipe import DegradationTable
from crispen.training.records import Bytes
from crispen.training.steps import Judges
from crispen.training.validation import validate

HARSH = DegradationTable.model_validate(
    {"clean_share": 0.9, "second": {"noise_share": 1.0, "noise_sigma": [20.0, 30.0]}}
)
"""Noise on every picture, and crops that are nearly always clean."""


def photo(seed: int, height: int = 48, width: int = 56) -> Bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return resize(coarse, 8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        images.write(images.from_array(photo(index)), folder / f"{index}.png")
    return folder


def recipe(degradation: DegradationTable | None = HARSH, *, seed: int = 0, steps: int = 4) -> Recipe:
    """One whose generator stays as the seed makes it, apart from rounding."""
    return Recipe.model_validate(
        {
            "title": "tiny",
            "seed": seed,
            "precision": "fp32",
            "validate_every": 2,
            "generator": {"architecture": "compact", "num_blocks": 1, "num_features": 4, "batch_norm": False},
            "data": {"patch_size": 32, "batch_size": 2, "degradation": degradation},
            "stage": {"pretrain": {"steps": steps, "learning_rate": 1e-20}},
        }
    )


def validations(progress: list[Progress]) -> list[dict[str, float]]:
    return [step.validation for step in progress if step.validation]


# The small pictures


def test_a_picture_is_always_spoilt_in_the_same_way_and_in_its_own() -> None:
    one = degrade_repeatably(photo(0), scale=4, table=HARSH)
    np.testing.assert_array_equal(one, degrade_repeatably(photo(0).copy(), scale=4, table=HARSH))
    assert (one != degrade_repeatably(photo(0), scale=4, table=HARSH, seed=1)).any()
    nearly = photo(0)
    nearly[0, 0, 0] ^= 1
    changed = (one != degrade_repeatably(nearly, scale=4, table=HARSH)).mean()
    assert changed > 0.5, "another picture has noise of its own"


@pytest.mark.parametrize("seed", range(5))
def test_no_picture_is_left_clean(seed: int) -> None:
    clean = HARSH.model_copy(update={"clean_share": 1.0})
    spoilt = degrade_repeatably(photo(seed), scale=4, table=clean).astype(float)
    assert np.abs(spoilt - resize(photo(seed), 1 / 4)).mean() > 2


def test_a_dataset_spoils_small_pictures_alone(photos: Path, tmp_path: Path) -> None:
    dataset = open_dataset([photos], scale=4, patch_size=4, cache=tmp_path / "cache")
    degraded = dataset.degraded(HARSH)
    for index in range(len(dataset)):
        np.testing.assert_array_equal(degraded.hr(index), dataset.hr(index))
        expected = degrade_repeatably(dataset.hr(index), scale=4, table=HARSH)
        np.testing.assert_array_equal(degraded.lr(index), expected)
        assert (dataset.lr(index) != expected).any(), "and the dataset itself stays clean"
        np.testing.assert_array_equal((255 * degraded.whole(index)[0][0]).permute(1, 2, 0).round(), expected)
    (last,) = [dataset.subset(1).degraded(HARSH), degraded.subset(1)][1:]
    np.testing.assert_array_equal(last.lr(0), degrade_repeatably(last.hr(0), scale=4, table=HARSH))


# In a run


def test_a_run_with_a_degradation_validates_on_both(photos: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    found = validations(list(train(recipe(), data=[photos], valid=photos, run_dir=run_dir)))
    assert len(found) == 2
    for numbers in found:
        assert {"valid_psnr", "valid_degraded_psnr", "valid_degraded_checkerboard"} <= numbers.keys()
        assert numbers["valid_degraded_psnr"] < numbers["valid_psnr"]
    assert found[0] == pytest.approx(found[1], rel=1e-6), "nothing was learnt and nothing else may differ"
    logged = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    assert logged[-1]["valid_degraded_psnr"] == found[-1]["valid_degraded_psnr"]
    assert sorted(path.name for path in (run_dir / "previews").iterdir()) == [
        f"pretrain-0000000{step}{suffix}.png" for step in (2, 4) for suffix in ("-degraded", "")
    ]
    clean, spoilt = (
        images.read(run_dir / "previews" / f"pretrain-00000004{suffix}.png").pixels
        for suffix in ("", "-degraded")
    )
    assert clean.shape == spoilt.shape
    assert (clean != spoilt).any()


def test_spoilt_pictures_are_those_of_every_other_run(photos: Path, tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    found = validations(list(train(recipe(seed=1), data=[photos], valid=photos, run_dir=first)))
    again = train(recipe(seed=2), data=[photos], valid=photos, run_dir=other, init=str(first))
    assert validations(list(again))[-1] == pytest.approx(found[-1], rel=1e-6)


def test_a_run_without_a_degradation_has_clean_pictures_only(photos: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    found = validations(list(train(recipe(None), data=[photos], valid=photos, run_dir=run_dir)))
    assert not [name for name in found[-1] if "degraded" in name]
    assert not list((run_dir / "previews").glob("*degraded*"))


def test_without_validation_pictures_previews_are_spoilt_all_the_same(photos: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert not validations(list(train(recipe(steps=2), data=[photos], run_dir=run_dir)))
    assert len(list((run_dir / "previews").iterdir())) == 2


def test_every_number_has_a_panel(photos: Path, tmp_path: Path) -> None:
    steps = list(train(recipe(steps=2), data=[photos], valid=photos, run_dir=tmp_path / "run"))
    drawn = {name for panel in PANELS for name in panel.names}
    assert validations(steps)[-1].keys() <= drawn


def test_equal_pictures_are_no_trouble() -> None:
    perfect = {"valid_psnr": math.inf, "valid_degraded_psnr": math.inf}
    assert not HealthMonitor().check(Progress("pretrain", 1, 9, 0.0, 1e-4, {}, perfect))
    broken = {"valid_degraded_psnr": math.nan}
    assert HealthMonitor().check(Progress("pretrain", 1, 9, 0.0, 1e-4, {}, broken))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_network_that_makes_no_numbers_has_no_psnr(photos: Path, tmp_path: Path, value: float) -> None:
    dataset = open_dataset([photos], scale=4, patch_size=12, cache=tmp_path / "cache")

    class Broken(torch.nn.Module):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            sr = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
            sr[0, 1, 5, 5] = value
            return sr

    numbers = validate(Broken(), dataset, judges=Judges(), fabric=make_fabric(device="cpu", precision="fp32"))
    assert math.isnan(numbers["valid_psnr"])


@pytest.mark.parametrize("clean", [True, False])
def test_nan_in_validation_ends_a_run(photos: Path, tmp_path: Path, clean: bool) -> None:
    """As of a network whose batch norm is sound in training, where it has statistics of its own, and not after it."""
    broken = SRResNet(scale=4, num_blocks=1, num_features=4, batch_norm=True)
    broken.load_state_dict(
        {
            name: tensor - 9 if name.endswith("running_var") else tensor
            for name, tensor in broken.state_dict().items()
        }
    )
    save_generator(broken, tmp_path / "broken.safetensors")
    values = recipe(None if clean else HARSH, steps=2).model_dump()
    values["generator"] = {"num_blocks": 1, "num_features": 4}
    run = train(
        Recipe.model_validate(values), data=[photos], valid=photos, run_dir=tmp_path / "run",
        init=str(tmp_path / "broken.safetensors"),
    )  # fmt: skip
    with pytest.raises(TrainingError, match=r"pretrain step 2: valid_psnr is nan"):
        list(run)


# In an evaluation


def method_of(generator: AnyGenerator) -> Method:
    def enlarge(lr: Bytes) -> Bytes:
        with torch.inference_mode():
            sr = generator(torch.from_numpy(lr).permute(2, 0, 1)[None] / 255).clamp(0, 1)
        return (255 * sr[0]).round().byte().permute(1, 2, 0).numpy()

    return Method(name="tiny", scale=4, enlarge=enlarge, runtime="torch")


def test_an_evaluation_has_the_numbers_of_the_run(photos: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    found = validations(list(train(recipe(), data=[photos], valid=photos, run_dir=run_dir)))
    generator = load_generator(run_dir / "weights.safetensors")
    pictures = open_benchmark(photos, scale=4, reduction=reduction_of(recipe()))
    report = evaluate(method_of(generator), pictures, beside=bicubic(4)).result
    assert report.psnr == pytest.approx(found[-1]["valid_degraded_psnr"], abs=1e-3)
    assert report.beside is not None
    assert report.beside == evaluate(bicubic(4), pictures).result
    assert "seed 0" in report.protocol.describe()


def test_the_protocol_tells_degradations_apart() -> None:
    gentle = recipe(DegradationTable())
    reductions = [reduction_of(recipe()), reduction_of(recipe(), seed=1), reduction_of(gentle)]
    assert len({reduction.description for reduction in reductions}) == 3
    with pytest.raises(UsageError, match=r"'tiny' has no table \[data.degradation\]"):
        reduction_of(recipe(None))


def test_given_and_made_exclude_each_other(photos: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        open_benchmark(photos, scale=4, lr_folder=photos, reduction=reduction_of(recipe()))


def test_both_methods_have_the_benchmarks_scale(photos: Path) -> None:
    with pytest.raises(UsageError, match="scale must be 2, as bicubic enlarges by it, not 4"):
        evaluate(bicubic(4), open_benchmark(photos, scale=4), beside=bicubic(2))


def test_the_command_measures_bicubic_beside_the_model(
    photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    json_path = tmp_path / "report.json"
    options = ["--benchmark", photos, "--degrade", "srgan-x4-photo"]
    result = crispen_says("evaluate", *options, "--model", tiny_model, "--json", json_path)
    assert (result.stderr, result.exit_code) == ("", 0)
    report = json.loads(json_path.read_text())
    assert report["beside"]["model"] == "bicubic"
    assert [entry["name"] for entry in report["beside"]["pictures"]] == ["0", "1", "2"]
    for mean in (report["mean"], report["beside"]["mean"]):
        assert f"{mean['psnr']:.2f}" in result.stdout
    assert "spoilt by [data.degradation]" in " ".join(result.stdout.split())
    clean = crispen_says(
        "evaluate", "--benchmark", photos, "--model", tiny_model, "--json", json_path, "--force"
    )
    assert clean.exit_code == 0
    assert "beside" not in json.loads(json_path.read_text())


def test_another_seed_spoils_in_another_way(photos: Path, tmp_path: Path) -> None:
    means: list[float] = []
    for seed in ("0", "1", "1"):
        options = ["--benchmark", photos, "--degrade", "srgan-x4-photo", "--seed", seed, "--force"]
        result = crispen_says("evaluate", "--model", "bicubic", *options, "--json", tmp_path / "report.json")
        assert result.exit_code == 0
        means.append(json.loads((tmp_path / "report.json").read_text())["mean"]["psnr"])
    assert means[0] != means[1] == means[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--degrade", "srgan-x4"], "has no table [data.degradation]"),
        (["--degrade", "srgan-x4-foto"], "did you mean srgan-x4-photo?"),
        (["--degrade", "srgan-x4-photo", "--lr", "."], "--lr and --degrade exclude each other"),
        (["--seed", "1"], "--seed is for --degrade"),
    ],
)
def test_mistakes_are_one_line(photos: Path, options: list[str], message: str) -> None:
    result = crispen_says("evaluate", "--benchmark", photos, "--model", "bicubic", *options)
    assert result.exit_code != 0
    (line,) = error_lines(result)
    assert message in line
