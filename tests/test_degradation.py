"""Degradation: repeatable, in its place, and as strong as the recipe says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]  # half typed
from torch import Tensor
from torch.nn import functional

from crispen import images, resize
from crispen.networks.features.squeezenet import SqueezeNetFeatures
from crispen.networks.features.vgg import VggFeatures
from crispen.networks.weights import load_tensors
from crispen.training import Recipe, data, load_recipe, train
from crispen.training import degradation as degradations
from crispen.training.data import Batch, Dataset, open_dataset
from crispen.training.degradation import degrade, sharpen
from crispen.training.recipe import DegradationTable
from crispen.training.records import Bytes

PHOTO_RECIPES = ["srresnet-x4-photo", "srgan-x4-photo"]

NOTHING: dict[str, Any] = {"blur_share": 0.0, "noise_share": 0.0, "save_share": 0.0}
"""A round in which nothing happens."""


def table(**changes: Any) -> DegradationTable:
    """One that only reduces, by bicubic, but for the changes."""
    values: dict[str, Any] = {
        "clean_share": 0.0,
        "first": NOTHING,
        "second": NOTHING,
        "resizings": {"keep": 1.0},
        "interpolations": {"bicubic": 1.0},
        "aliased_share": 0.0,
    }
    return DegradationTable.model_validate(values | changes)


def degraded(hr: Bytes, seed: int = 0, *, scale: int = 4, **changes: Any) -> Bytes:
    return degrade(hr, scale=scale, table=table(**changes), random=np.random.default_rng(seed))


def smooth(seed: int, height: int = 48, width: int = 64) -> Bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return resize(coarse, 8)


def apart(one: Bytes, other: Bytes) -> float:
    return float(np.abs(one.astype(float) - other).mean())


# Whole


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([2, 4]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_any_picture_gives_a_small_one(seed: int, scale: int, height: int, width: int) -> None:
    hr = np.random.default_rng(seed).integers(0, 256, (height * scale, width * scale, 3)).astype(np.uint8)
    lr, again = (
        degrade(hr, scale=scale, table=DegradationTable(), random=np.random.default_rng(seed))
        for _ in range(2)
    )
    assert (lr.shape, lr.dtype) == ((height, width, 3), np.uint8)
    np.testing.assert_array_equal(lr, again)


def test_severities_and_draws_differ() -> None:
    hr = resize(smooth(0), 2)
    changes = [apart(degraded(hr), degrade_by_default(hr, seed)) for seed in range(24)]
    assert len(set(changes)) == 24
    assert min(changes) < 3, "some are nearly clean"
    assert max(changes) > 8, "and some are not"


def degrade_by_default(hr: Bytes, seed: int) -> Bytes:
    return degrade(hr, scale=4, table=DegradationTable(), random=np.random.default_rng(seed))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_nothing_is_shifted(seed: int) -> None:
    """Blurred and resized in any way, a picture that is its own half-turn remains that."""
    half = smooth(seed).astype(int)
    hr = ((half + half[::-1, ::-1]) // 2).astype(np.uint8)
    blurring = NOTHING | {"blur_share": 1.0}
    changes: dict[str, Any] = {
        "first": blurring,
        "second": blurring,
        "resizings": {"down": 1.0, "up": 1.0, "keep": 1.0},
        "interpolations": {"area": 1.0, "bilinear": 1.0, "bicubic": 1.0},
        "aliased_share": 0.5,
    }
    lr = degraded(hr, seed, **changes)
    assert np.abs(lr.astype(int) - lr[::-1, ::-1]).max() <= 1


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), colour=st.tuples(*[st.integers(0, 255)] * 3))
def test_a_colour_stays_as_it_is_without_noise(seed: int, colour: tuple[int, int, int]) -> None:
    hr = np.full((24, 32, 3), colour, np.uint8)
    quiet = {"noise_share": 0.0, "jpeg_quality": (95, 80), "webp_quality": (95, 80)}
    changes: dict[str, Any] = {"first": quiet, "second": quiet, "resizings": {"down": 1.0, "up": 1.0}}
    lr = degraded(hr, seed, **changes).astype(int)
    assert np.abs(lr - colour).max() <= 10, "rounding to YCbCr, twice"
    assert np.ptp(lr, axis=(0, 1)).max() <= 3


def test_a_table_of_nothing_is_matlabs_bicubic() -> None:
    hr = smooth(0)
    inner = np.s_[3:-3, 3:-3]  # borders go on otherwise there
    difference = degraded(hr)[inner].astype(int) - resize(hr, 1 / 4)[inner]
    assert np.abs(difference).max() <= 1, "MATLAB rounds between the two passes"


def test_the_second_saving_is_last_where_it_is_to_be() -> None:
    """A picture that was saved last is one that saving again, at the same quality, hardly changes."""
    hr = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    second = NOTHING | {"save_share": 1.0, "webp_share": 0.0, "jpeg_quality": (40, 40), "noise_share": 1.0}
    changed = {1.0: 0.0, 0.0: 0.0}  # the most of several, by how many were saved last
    for share in changed:
        for seed in range(6):
            lr = degraded(hr, seed, second=second, saved_last_share=share)
            planes = torch.from_numpy(lr).permute(2, 0, 1) / 255
            saved = degradations._saved(planes, ".jpg", Q=40)  # pyright: ignore[reportPrivateUsage]  # the unit
            changed[share] = max(changed[share], float((saved - planes).abs().mean()))
    assert changed[1.0] < 0.3 * changed[0.0]


# Parts

SHAPES = ["gaussian", "generalised", "plateau"]


def bell(shape: str, along: float, across: float, angle: float, beta: float) -> Tensor:
    return degradations._bell(  # pyright: ignore[reportPrivateUsage]  # the unit
        shape, sigmas=(along, across), angle=angle, beta=beta
    )


def moments(kernel: Tensor) -> tuple[float, float, float]:
    """Variance along x and y, and covariance."""
    line = torch.arange(len(kernel), dtype=torch.float32) - len(kernel) // 2
    x, y = line[None], line[:, None]
    return float((kernel * x * x).sum()), float((kernel * y * y).sum()), float((kernel * x * y).sum())


@given(
    shape=st.sampled_from(SHAPES),
    along=st.floats(0.05, 8),
    across=st.floats(0.05, 8),
    angle=st.floats(0, math.pi),
    beta=st.floats(0.5, 4),
)
def test_kernels_keep_light_and_place(
    shape: str, along: float, across: float, angle: float, beta: float
) -> None:
    kernel = bell(shape, along, across, angle, beta)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    assert kernel.shape[0] == kernel.shape[1] <= 41
    torch.testing.assert_close(kernel, kernel.flip(0, 1))


def test_kernels_have_their_width_and_direction() -> None:
    x, y, both = moments(bell("gaussian", 2.0, 2.0, 0.0, 1.0))
    assert (x, y, both) == pytest.approx((4, 4, 0), rel=0.05, abs=1e-4)
    x, y, both = moments(bell("gaussian", 3.0, 1.0, 0.0, 1.0))
    assert (x, y, both) == pytest.approx((9, 1, 0), rel=0.05, abs=1e-4)
    x, y, both = moments(bell("gaussian", 3.0, 1.0, math.pi / 4, 1.0))
    assert (x, y, both) == pytest.approx((5, 5, 4), rel=0.06)
    torch.testing.assert_close(bell("generalised", 2, 3, 1, 1), bell("gaussian", 2, 3, 1, 1))
    plateau, gaussian = bell("plateau", 2, 2, 0, 2), bell("gaussian", 2, 2, 0, 1)
    middle = len(gaussian) // 2
    assert plateau[middle, middle + 1] / plateau[middle, middle] > 0.93
    assert gaussian[middle, middle + 1] / gaussian[middle, middle] < 0.89


@pytest.mark.parametrize("cutoff", [0.8, 1.5, 2.5])
def test_the_ringing_kernel_passes_low_frequencies_alone(cutoff: float) -> None:
    kernel = degradations._sinc(cutoff)  # pyright: ignore[reportPrivateUsage]  # the unit
    line = torch.arange(len(kernel)) - len(kernel) // 2
    passed = [float((kernel * torch.cos(share * cutoff * line)).sum()) for share in (0, 0.6, 1.4)]
    assert passed == pytest.approx([1, 1, 0], abs=0.15)
    assert float(kernel.min()) < 0, "it rings"


def test_filtering_is_convolution_with_borders_that_go_on() -> None:
    torch.manual_seed(0)
    planes, kernel = torch.rand(3, 13, 45), torch.rand(7, 7)
    padded = functional.pad(planes[:, None], (3, 3, 3, 3), mode="replicate")
    expected = functional.conv2d(padded, kernel.flip(0, 1)[None, None])[:, 0]
    filtered = degradations._filtered(planes, kernel)  # pyright: ignore[reportPrivateUsage]  # the unit
    torch.testing.assert_close(filtered, expected, rtol=1e-4, atol=1e-4)


def weights(length: int, new_length: int, kind: str, *, aliased: bool = False) -> Tensor:
    return degradations._resampling(  # pyright: ignore[reportPrivateUsage]  # the unit
        length, new_length, kind=kind, aliased=aliased
    )


@given(
    length=st.integers(1, 40),
    new_length=st.integers(1, 40),
    kind=st.sampled_from(["area", "bilinear", "bicubic"]),
    aliased=st.booleans(),
)
def test_resizing_keeps_colours_and_both_ends(length: int, new_length: int, kind: str, aliased: bool) -> None:
    matrix = weights(length, new_length, kind, aliased=aliased)
    torch.testing.assert_close(matrix.sum(1), torch.ones(new_length))
    torch.testing.assert_close(matrix, matrix.flip(0, 1), atol=1e-4, rtol=1e-3)
    if length == new_length:
        torch.testing.assert_close(matrix, torch.eye(length), atol=1e-5, rtol=0)


def test_each_interpolation_is_what_it_is_called() -> None:
    means = torch.eye(3).repeat_interleave(4, dim=1) / 4
    torch.testing.assert_close(weights(12, 3, "area"), means)
    torch.testing.assert_close(weights(3, 6, "area"), torch.eye(3).repeat_interleave(2, dim=0))
    torch.testing.assert_close(weights(4, 8, "bilinear")[3], torch.tensor([0.0, 0.75, 0.25, 0.0]))
    assert (weights(40, 10, "bicubic", aliased=True) != 0).sum(1).max() <= 4
    assert (weights(40, 10, "bicubic") != 0).sum(1).max() >= 14
    assert float(weights(40, 10, "bicubic").min()) < 0


def noise_of(level: int, **changes: Any) -> NDArray[np.int16]:
    """What a picture of one gray, as large as it was, has beyond it."""
    second = NOTHING | {"noise_share": 1.0, "poisson_share": 0.0, "gray_noise_share": 0.0} | changes
    noisy = degraded(np.full((128, 128, 3), level, np.uint8), scale=1, second=second)
    return noisy.astype(np.int16) - level


def test_noise_is_as_strong_as_it_is_to_be() -> None:
    assert noise_of(128, noise_sigma=(10, 10)).std() == pytest.approx(10, rel=0.05)
    gray = noise_of(128, noise_sigma=(10, 10), gray_noise_share=1.0)
    assert np.ptp(gray, axis=2).max() == 0
    assert np.ptp(noise_of(128, noise_sigma=(10, 10)), axis=2).max() > 5
    dark, light = (noise_of(level, poisson_share=1.0, poisson_gain=(1, 1)).std() for level in (50, 200))
    assert (dark, light) == pytest.approx((50**0.5, 200**0.5), rel=0.05)


@pytest.mark.parametrize("webp_share", [0.0, 1.0])
def test_lower_quality_costs_more(webp_share: float) -> None:
    hr = resize(smooth(1, 64, 64), 2)
    lost: list[float] = []
    for quality in (95, 60, 10):
        saving = {"save_share": 1.0, "webp_share": webp_share} | dict.fromkeys(
            ("jpeg_quality", "webp_quality"), (quality, quality)
        )
        lost.append(apart(degraded(hr, second=NOTHING | saving), degraded(hr)))
    assert lost == sorted(lost)
    assert lost[2] > 2 * lost[0]


def test_sharpened_targets_have_stronger_edges_alone() -> None:
    hr = np.full((16, 24, 3), 60, np.uint8)
    np.testing.assert_array_equal(sharpen(hr, weight=1.0), hr)
    hr[:, 12:] = 180
    sharp = sharpen(hr, weight=0.5).astype(int)
    assert sharp.min() < 60
    assert sharp.max() > 180
    np.testing.assert_array_equal(sharp[:, :4], 60)
    np.testing.assert_array_equal(sharpen(hr, weight=0.0), hr)


# Batches

_SHARED: dict[str, Dataset] = {}


@pytest.fixture(autouse=True, scope="module")
def shared_dataset(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One for all: nothing changes it. The second picture has no room for a margin."""
    folder = tmp_path_factory.mktemp("shared")
    for name, picture in (("a", smooth(0, 96, 112)), ("b", smooth(1, 32, 40))):
        images.write(images.from_array(picture), folder / f"{name}.png")
    _SHARED["dataset"] = open_dataset([folder], scale=4, patch_size=32, cache=folder / "cache")


def drawn(degradation: Any, *, batch_size: int = 8, step: int = 3, **more: Any) -> Batch:
    return _SHARED["dataset"].batch(
        seed=2, step=step, patch_size=32, batch_size=batch_size, degradation=degradation, **more
    )


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.lr, other.lr) and torch.equal(one.hr, other.hr)


def test_batches_depend_on_seed_and_step_alone() -> None:
    assert same(drawn(DegradationTable()), drawn(DegradationTable()))
    assert not same(drawn(DegradationTable()), drawn(DegradationTable(), step=4))


def test_what_is_done_to_a_crop_depends_on_its_place_alone() -> None:
    """Neither the others in its batch nor who makes it matter."""
    random = [degradations_at(place).random() for place in range(100)]
    assert len(set(random)) == 100
    assert np.random.default_rng([2, 3]).random() not in random, "the step's own draws"
    assert random[5] == degradations_at(5).random()


def degradations_at(place: int) -> np.random.Generator:
    return data._generator(2, 3, place=place)  # pyright: ignore[reportPrivateUsage]  # the unit


@settings(max_examples=40)
@given(parts=st.integers(1, 9))
def test_the_parts_make_up_the_whole(parts: int) -> None:
    whole = drawn(DegradationTable(), flat_share=0.2)
    pieces = [drawn(DegradationTable(), flat_share=0.2, part=(rank, parts)) for rank in range(parts)]
    assert torch.equal(torch.cat([piece.lr for piece in pieces]), whole.lr)
    assert torch.equal(torch.cat([piece.hr for piece in pieces]), whole.hr)


def test_large_crops_are_those_without_degradation() -> None:
    assert torch.equal(drawn(DegradationTable(), batch_size=64).hr, drawn(None, batch_size=64).hr)
    assert not torch.equal(drawn(DegradationTable()).lr, drawn(None).lr)


def test_small_crops_lie_where_the_large_ones_do() -> None:
    """Turned and cut out of their margin, wherever in a picture they come from."""
    difference = drawn(table(), batch_size=300).lr - drawn(None, batch_size=300).lr
    assert float(difference.abs().mean()) < 0.5 / 255
    assert float(difference.abs().max()) < 8 / 255, "borders go on otherwise there"


def test_clean_crops_are_those_without_degradation() -> None:
    assert same(drawn(table(clean_share=1.0)), drawn(None))
    some, none = drawn(DegradationTable(clean_share=0.5), batch_size=200), drawn(None, batch_size=200)
    clean = [torch.equal(one, other) for one, other in zip(some.lr, none.lr, strict=True)]
    assert 70 < sum(clean) < 130


def test_flat_crops_stay_flat() -> None:
    batch = drawn(DegradationTable(), flat_share=1.0)
    assert torch.equal(batch.lr, batch.hr[:, :, ::4, ::4])
    assert float(batch.lr.std((2, 3)).max()) < 1e-6


def test_targets_are_sharpened_where_a_recipe_says_so() -> None:
    """And small crops are made of what was there before."""
    plain, sharp = drawn(table()), drawn(table(sharpen_targets=0.5))
    assert torch.equal(plain.lr, sharp.lr)
    assert float(sharp.hr.diff(dim=3).abs().mean()) > 1.05 * float(plain.hr.diff(dim=3).abs().mean())


@pytest.mark.parametrize("clean_share", [0.0, 1.0])
def test_targets_are_cut_out_of_a_sharpened_picture(clean_share: float) -> None:
    """Their borders know what is beside them."""
    wanted = table(sharpen_targets=1.0, clean_share=clean_share)
    batches = drawn(None, batch_size=64), drawn(wanted, batch_size=64)
    plain, sharp = ((255 * batch.hr).permute(0, 2, 3, 1).round().numpy() for batch in batches)
    sharp_crop_of: dict[bytes, Bytes] = {}
    for index in range(2):
        hr = _SHARED["dataset"].hr(index)
        both = np.stack([hr, sharpen(hr.copy(), weight=1.0)])
        for y, x in np.ndindex((hr.shape[0] - 32) // 4 + 1, (hr.shape[1] - 32) // 4 + 1):
            crops = both[:, 4 * y : 4 * y + 32, 4 * x : 4 * x + 32]
            for turned in (np.rot90(crops, turns, (1, 2)) for turns in range(4)):
                for one, other in (turned, turned[:, :, ::-1]):
                    sharp_crop_of[one.tobytes()] = other
    for one, other in zip(plain, sharp, strict=True):
        expected = sharp_crop_of[one.astype(np.uint8).tobytes()]
        np.testing.assert_allclose(other, expected, rtol=0, atol=1)  # the FFT's rounding


def test_blocks_begin_anywhere_in_a_crop(tmp_path: Path) -> None:
    """A network could learn where they are, otherwise."""
    images.write(images.from_array(smooth(0, 400, 400)), tmp_path / "large.png")
    dataset = open_dataset([tmp_path], scale=4, patch_size=64, cache=tmp_path / "cache")
    saving = NOTHING | {"save_share": 1.0, "webp_share": 0.0, "jpeg_quality": (5, 5)}
    spoilt = table(second=saving, saved_last_share=1.0)
    lr = dataset.batch(seed=0, step=0, patch_size=64, batch_size=200, degradation=spoilt).lr
    steps = lr.diff(dim=3).abs().mean((0, 1, 2))  # between neighbouring columns, in all crops
    assert float(steps.max()) < 1.5 * float(steps.mean())


# Recipes


@pytest.mark.parametrize("name", PHOTO_RECIPES)
def test_the_recipes_degrade_alike(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.data.degradation == DegradationTable()
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernels": {}},
        {"kernels": {"gaussian": 0.0}},
        {"kernels": {"box": 1.0}},
        {"jpeg_quality": (95, 0)},
        {"blur_sigma": (0.0, 1.0)},
        {"noise_share": 1.1},
        {"nois_share": 0.1},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        table(second=wrong)


@pytest.fixture(scope="module")
def feature_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for both feature networks of the recipe, under the names they are looked for."""
    folder = tmp_path_factory.mktemp("features")
    torch.manual_seed(0)
    vgg = VggFeatures(variant="vgg19-normalised", layers=["relu3_1"])
    save_file(vgg.state_dict(), folder / "vgg19_normalised_test.safetensors")
    save_file(SqueezeNetFeatures(layers=["fire9"]).state_dict(), folder / "squeezenet1_1.safetensors")
    return folder


def tiny(name: str, *, steps: int) -> Recipe:
    """The recipe with a network for tests, on small crops."""
    overrides = ["generator.num_blocks=1", "generator.num_features=8", "discriminator.num_features=2"]
    overrides += ["data.patch_size=32", "data.batch_size=2", "precision=fp32", "checkpoint_minutes=1e-9"]
    stage = "pretrain" if "srresnet" in name else "gan"
    overrides += [f"stage.{stage}.steps={steps}"]
    if stage == "gan":
        overrides += ["stage.gan.discriminator_warmup_steps=2"]
    values = load_recipe(name, overrides=overrides).model_dump(mode="json")
    values["generator"]["init"] = None
    return Recipe.model_validate(values)


@pytest.mark.parametrize("name", PHOTO_RECIPES)
def test_the_recipes_run_and_resume(name: str, tmp_path: Path, feature_weights: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate((smooth(0, 96, 112), smooth(1, 48, 48))):
        images.write(images.from_array(picture), tmp_path / "photos" / f"{number}.png")
    options: dict[str, Any] = {"data": [tmp_path / "photos"], "features": feature_weights}
    chosen = tiny(name, steps=20)
    done = list(train(chosen, run_dir=tmp_path / "whole", **options))
    assert len(done) == 20
    assert all(np.isfinite(list(progress.scalars.values())).all() for progress in done)
    stopped = train(chosen, run_dir=tmp_path / "stopped", **options)
    for _ in range(7):
        next(stopped)
    stopped.close()  # pyright: ignore[reportAttributeAccessIssue]  # a generator, typed as what callers need of it
    list(train(chosen, run_dir=tmp_path / "stopped", resume=True, **options))
    whole, resumed = (
        load_tensors(tmp_path / name / "weights.safetensors")[0] for name in ("whole", "stopped")
    )
    for key, tensor in whole.items():
        assert torch.equal(tensor, resumed[key]), key
