"""The monitor says what is wrong, once, and nothing of a run that is well; checkerboards are told from photographs."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crispen import images, resize
from crispen.training.health import HealthMonitor, Trouble, checkerboard_energy
from crispen.training.progress import Progress, Scalars

EXAMPLES = Path(__file__).parents[1] / "examples"
WINDOW = 10

Bytes = NDArray[np.uint8]


def healthy(step: int) -> Scalars:
    """Numbers of a gan step as they should be, with some noise."""
    noise = math.sin(17 * step)
    return {
        "pixel_loss": 0.03 + 0.01 * noise,
        "generator_loss": 0.1 + 0.05 * noise,
        "generator_gradient_norm": 0.2 + 0.15 * noise,
        "discriminator_loss": 1.1 + 0.2 * noise,
        "real_probability": 0.6 + 0.1 * noise,
        "fake_probability": 0.4 + 0.1 * noise,
    }


def follow(
    monitor: HealthMonitor, numbers: Iterable[Scalars], *, first: int = 1, stage: str = "gan"
) -> list[Trouble]:
    """All troubles of some steps with these numbers."""
    return [
        trouble
        for step, scalars in enumerate(numbers, first)
        for trouble in monitor.check(Progress(stage, step, 10_000, 0.0, 1e-4, scalars))
    ]


def steps(count: int, different: Scalars | None = None, *, first: int = 1) -> list[Scalars]:
    return [healthy(step) | (different or {}) for step in range(first, first + count)]


def monitor(*, gradients_may_overflow: bool = False) -> HealthMonitor:
    return HealthMonitor(window=WINDOW, settling_steps=20, gradients_may_overflow=gradients_may_overflow)


def kinds(troubles: list[Trouble]) -> list[str]:
    return [trouble.kind for trouble in troubles]


def test_a_healthy_run_is_left_in_peace() -> None:
    assert follow(monitor(), steps(200)) == []


def test_a_pretrain_stage_is_left_in_peace() -> None:
    numbers = [{"pixel_loss": 0.2 / step, "generator_loss": 0.2 / step} for step in range(1, 200)]
    assert follow(monitor(), numbers, stage="pretrain") == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_fatal_and_named(value: float) -> None:
    watching = monitor()
    follow(watching, steps(6))
    (trouble,) = follow(watching, steps(1, {"perceptual_loss": value}, first=7), first=7)
    assert trouble.fatal
    assert trouble.kind == "not a number"
    assert trouble.message.startswith(f"gan step 7: perceptual_loss is {value}")


def test_the_last_good_value_and_the_broken_gradient_before_are_told() -> None:
    watching = monitor(gradients_may_overflow=True)
    follow(watching, steps(5, {"pixel_loss": 0.25}))
    assert (
        follow(watching, steps(1, {"pixel_loss": 0.5, "generator_gradient_norm": math.inf}, first=6), first=6)
        == []
    )
    (trouble,) = follow(watching, steps(1, {"pixel_loss": math.nan}, first=7), first=7)
    assert "pixel_loss is nan, after 0.5 at step 6" in trouble.message
    assert "gradient was not finite at step 6" in trouble.message
    (at_once,) = follow(monitor(), steps(1, {"generator_gradient_norm": math.inf}))
    assert at_once.fatal, "without fp16's scaler it has reached the weights"


def test_a_validation_that_is_no_number_is_fatal_and_a_perfect_psnr_is_not() -> None:
    perfect = Progress("gan", 1, 9, 0.0, 1e-4, healthy(1), {"valid_psnr": math.inf})
    assert monitor().check(perfect) == []
    broken = Progress("gan", 1, 9, 0.0, 1e-4, healthy(1), {"valid_psnr": math.nan})
    (trouble,) = monitor().check(broken)
    assert trouble.fatal
    assert "valid_psnr is nan" in trouble.message


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("discriminator has won", {"real_probability": 0.99, "fake_probability": 0.01}),
        ("discriminator has won", {"discriminator_loss": 0.001}),
        ("discriminator has lost", {"real_probability": 0.501, "fake_probability": 0.499}),
        ("discriminator has lost", {"real_probability": 0.2, "fake_probability": 0.3}),
        ("vanishing gradients", {"generator_gradient_norm": 1e-8}),
    ],
)
def test_what_lasts_for_a_window_is_said_once(kind: str, numbers: dict[str, float]) -> None:
    watching = monitor()
    assert follow(watching, steps(30)) == []
    assert follow(watching, steps(WINDOW // 2, numbers, first=31), first=31) == [], "that may pass"
    (trouble,) = follow(watching, steps(60, numbers, first=36), first=36)
    assert trouble.kind == kind
    assert not trouble.fatal
    assert trouble.message.startswith("gan step ")
    assert "usually help" in trouble.message


@pytest.mark.parametrize("kind", ["exploding gradients", "exploding loss"])
def test_what_explodes_is_said_with_both_numbers(kind: str) -> None:
    name = {"exploding gradients": "generator_gradient_norm", "exploding loss": "generator_loss"}[kind]
    watching = monitor()
    follow(watching, steps(30, {name: 0.5}))
    assert follow(watching, steps(1, {name: 50.0}, first=31), first=31) == [], "one wild batch is none"
    (trouble,) = follow(watching, steps(3, {name: 50.0}, first=32), first=32)
    assert trouble.kind == kind
    assert f"{name} has grown to 50, from 0.5" in trouble.message


def test_trouble_that_comes_back_is_said_again() -> None:
    watching = monitor()
    won = {"real_probability": 0.99, "fake_probability": 0.01}
    said = [
        follow(watching, steps(30, numbers, first=first), first=first)
        for first, numbers in ((1, won), (31, {}), (61, won))
    ]
    assert [kinds(troubles) for troubles in said] == [
        ["discriminator has won"],
        [],
        ["discriminator has won"],
    ]


def test_trouble_at_the_threshold_is_not_said_over_and_over() -> None:
    watching = HealthMonitor(window=3, won=0.97)  # the mean over three steps goes up and down around it
    numbers = [
        {"real_probability": 0.97 + 0.01 * (-1) ** step, "fake_probability": 0.0} for step in range(40)
    ]
    assert len(follow(watching, numbers)) == 1


def test_a_discriminator_that_has_just_begun_may_know_nothing() -> None:
    undecided = {"real_probability": 0.5, "fake_probability": 0.5}
    assert follow(monitor(), steps(19, undecided)) == []
    assert kinds(follow(monitor(), steps(20, undecided))) == ["discriminator has lost"]


def test_a_new_stage_is_judged_by_itself() -> None:
    watching = monitor()
    follow(watching, steps(30, {"generator_loss": 1e-3}), stage="pretrain")
    assert follow(watching, steps(30, {"generator_loss": 1.0}), stage="gan") == []


def test_steps_without_the_generators_terms_are_fine() -> None:
    watching = monitor()
    warming_up: list[Scalars] = [
        {"discriminator_loss": 1.2, "real_probability": 0.6, "fake_probability": 0.4} for _ in range(15)
    ]
    assert follow(watching, warming_up) == []
    assert follow(watching, steps(30, first=16), first=16) == []


def test_a_checkerboard_is_said_until_a_validation_without_it() -> None:
    watching = monitor()
    said: list[list[str]] = []
    for step in range(1, 401):
        energy = {100: 15.0, 200: 16.0, 300: 2.0, 400: 15.0}.get(step)
        validation = {} if energy is None else {"valid_checkerboard": energy}
        troubles = watching.check(Progress("gan", step, 400, 0.0, 1e-4, healthy(step), validation))
        if energy is not None:
            said.append(kinds(troubles))
        else:
            assert not troubles
    assert said == [["checkerboard"], [], [], ["checkerboard"]]


def photograph(seed: int = 0, *, side: int = 192) -> Bytes:
    """Something with a photograph's spectrum: noise whose amplitude falls with the frequency."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    spectrum = np.fft.rfft2(random.standard_normal((side, side))) / np.maximum(frequency, 1 / side) ** 1.2
    luma = np.fft.irfft2(spectrum, (side, side))
    gray = np.clip(128 + 45 * luma / luma.std(), 0, 255).round().astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def pattern(side: int, *, period: int, kind: str) -> NDArray[np.int64]:
    """0 or 1, changing every half period."""
    y, x = (axis // (period // 2) for axis in np.mgrid[:side, :side])
    wave = {"checkers": x + y, "columns": x, "rows": y}[kind] % 2
    return wave[..., None]


def add(picture: Bytes, levels: NDArray[np.int64]) -> Bytes:
    return np.clip(picture + levels, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_photographs_and_bicubic_enlargements_have_no_checkerboard(scale: int) -> None:
    picture = photograph()
    enlarged = resize(resize(picture, 1 / scale), scale)
    assert checkerboard_energy(picture, scale=scale) < 5
    assert checkerboard_energy(enlarged, scale=scale) < 5


@pytest.mark.parametrize("kind", ["checkers", "columns", "rows"])
@pytest.mark.parametrize("period", [2, 4])
def test_a_pattern_of_two_levels_is_found(kind: str, period: int) -> None:
    enlarged = resize(resize(photograph(), 1 / 4), 4)
    patterned = add(enlarged, 2 * pattern(192, period=period, kind=kind))
    assert checkerboard_energy(patterned, scale=4) > 12


def test_more_pattern_has_more_energy() -> None:
    wave = pattern(192, period=4, kind="checkers")
    energies = [checkerboard_energy(add(photograph(), levels * wave), scale=4) for levels in (0, 2, 4, 8)]
    assert energies == sorted(energies)
    assert energies[3] == pytest.approx(energies[2] + 6, abs=1.5), "twice the amplitude is 6 dB"


def test_a_period_that_upsampling_does_not_leave_is_no_checkerboard() -> None:
    wave = 6 * np.sin(2 * np.pi * np.arange(192, dtype=np.float64) / 7)
    stripes = np.tile(np.round(wave).astype(np.int64), (192, 1))[..., np.newaxis]
    assert checkerboard_energy(add(photograph(), stripes), scale=4) < 5


def test_turning_a_picture_changes_nothing() -> None:
    patterned = add(photograph(), 3 * pattern(192, period=4, kind="columns"))
    turned = np.ascontiguousarray(np.rot90(patterned))
    energy = checkerboard_energy(patterned, scale=4)
    assert checkerboard_energy(turned, scale=4) == pytest.approx(energy, abs=0.5)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_flat_and_tiny_pictures_have_none(scale: int) -> None:
    assert checkerboard_energy(np.full((64, 64, 3), 77, np.uint8), scale=scale) == pytest.approx(0, abs=0.01)
    assert checkerboard_energy(np.zeros((6 * scale - 1, 99, 3), np.uint8), scale=scale) == 0


def test_wide_and_high_pictures_are_taken_whole() -> None:
    picture = photograph()[:48]
    patterned = picture.copy()
    patterned[:, 96:] = add(picture, 6 * pattern(192, period=2, kind="checkers")[:48])[:, 96:]
    assert checkerboard_energy(patterned, scale=2) > checkerboard_energy(picture, scale=2) + 8


@pytest.mark.parametrize("name", ["city", "dog", "flowers", "sumac"])
def test_the_threshold_parts_real_photographs_from_patterned_ones(name: str) -> None:
    path = EXAMPLES / f"{name}.png"
    if not path.exists():
        pytest.skip("the examples are not here")
    picture = images.to_depth(images.read(path).pixels, 8).astype(np.uint8)
    threshold = HealthMonitor().checkerboard
    assert checkerboard_energy(picture, scale=4) < threshold / 2
    enlarged = resize(resize(picture, 1 / 4), 4)
    assert checkerboard_energy(enlarged, scale=4) < threshold / 2
    for period in (2, 4):
        wave = pattern(picture.shape[0], period=period, kind="checkers")[:, : picture.shape[1]]
        assert checkerboard_energy(add(enlarged, 2 * wave), scale=4) > threshold + 4
