"""Texture energy, and the distance between features."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from crispen import resize
from crispen.errors import MissingExtra, ModelError, UsageError
from crispen.evaluation import FeatureDistance, texture_energy
from crispen.evaluation.texture import LEAST_SIDE

Bytes = NDArray[np.uint8]


def wave(frequency: float, amplitude: float, *, side: int = 48) -> Bytes:
    """A gray wave across, of so many cycles per pixel, on a slow slope downwards."""
    across = amplitude * np.cos(2 * np.pi * frequency * np.arange(side))
    plane = 128 + across[np.newaxis, :] + np.linspace(-30, 30, side)[:, np.newaxis]
    return np.round(np.repeat(plane[:, :, np.newaxis], 3, axis=2)).astype(np.uint8)


def noise(seed: int, *, strength: float = 20, side: int = 40) -> Bytes:
    rng = np.random.default_rng(seed)
    return np.clip(128 + rng.normal(0, strength, (side, side, 3)), 0, 255).astype(np.uint8)


# --- texture


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16))
def test_the_truth_has_its_own_texture_and_exchange_changes_the_sign(seed: int) -> None:
    first, second = noise(seed), noise(seed + 1, strength=35)
    assert texture_energy(first, first) == 0
    assert texture_energy(first, second) == pytest.approx(-texture_energy(second, first))


def test_twice_the_amplitude_is_six_decibels() -> None:
    assert texture_energy(wave(0.4, 60), wave(0.4, 30)) == pytest.approx(6.02, abs=0.05)


@pytest.mark.parametrize(("frequency", "counts"), [(0.1, False), (0.2, False), (0.3, True), (0.45, True)])
def test_only_detail_above_half_of_nyquist_counts(frequency: float, counts: bool) -> None:
    plain = noise(0, strength=3, side=48)
    patterned = np.clip(plain.astype(float) + wave(frequency, 40) - wave(frequency, 0), 0, 255).astype(
        np.uint8
    )
    assert (texture_energy(patterned, plain) > 10) == counts
    assert (abs(texture_energy(patterned, plain)) < 1) != counts


def test_bicubic_lies_far_below_the_truth() -> None:
    truth = noise(3)
    assert texture_energy(resize(resize(truth, 1 / 4), 4), truth) < -20


def test_brightness_is_no_texture() -> None:
    picture = noise(4, strength=10)
    assert texture_energy(picture + 20, picture) == pytest.approx(0, abs=1e-6)


def test_flat_pictures_have_a_finite_result() -> None:
    flat, brighter = np.full((2, 16, 16, 3), [[[[60]]], [[[200]]]], np.uint8)
    assert texture_energy(flat, brighter) == pytest.approx(0)
    assert 10 < texture_energy(noise(5, side=16), flat) < 200


def test_gray_is_three_equal_channels() -> None:
    gray = [noise(seed)[:, :, 0] for seed in (6, 7)]
    coloured = [np.repeat(plane[:, :, np.newaxis], 3, axis=2) for plane in gray]
    expected = pytest.approx(texture_energy(coloured[0], coloured[1]))
    assert texture_energy(gray[0], gray[1]) == expected
    assert texture_energy(gray[0][:, :, np.newaxis], gray[1][:, :, np.newaxis]) == expected


def test_pictures_must_be_alike() -> None:
    picture = noise(0)
    for other in (picture[:-1], picture.astype(np.float32)):
        with pytest.raises(UsageError, match="one shape and be uint8"):
            texture_energy(other, picture)
        with pytest.raises(UsageError, match="one shape and be uint8"):
            texture_energy(picture, other)


@pytest.mark.parametrize("shape", [(16, 16, 2), (16,), (2, 16, 16, 3), (LEAST_SIDE - 1, 16, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"must have shape|texture needs pictures of 8×8 pixels, not 16×7"):
        texture_energy(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))


# --- features


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SqueezeNet with random weights, up to fire3."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]  # half typed

    from crispen.networks.features import SqueezeNetFeatures

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SqueezeNetFeatures(layers=["fire3"])
    path = tmp_path_factory.mktemp("features") / "squeezenet1_1.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def distance(weights: Path) -> FeatureDistance:
    return FeatureDistance(weights, network="squeezenet", layers=["conv1", "fire3"])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16))
def test_the_distance_is_zero_for_equals_symmetric_and_bounded(distance: FeatureDistance, seed: int) -> None:
    first, second = noise(seed), noise(seed + 1)
    assert distance(first, first) == 0
    assert 0 < distance(first, second) <= 4
    assert distance(first, second) == pytest.approx(distance(second, first))


def test_it_grows_with_the_damage(distance: FeatureDistance) -> None:
    truth = wave(0.1, 50)
    damage = noise(8, strength=1, side=48).astype(int) - 128
    distances = [distance((truth + factor * damage).astype(np.uint8), truth) for factor in (1, 4, 16)]
    assert distances == sorted(distances)


def test_it_compares_directions_and_sums_layers(distance: FeatureDistance, weights: Path) -> None:
    """A squared difference of unit vectors is twice what the cosine between them lacks."""
    torch = pytest.importorskip("torch")
    from crispen.networks.features import load_features

    extractor = load_features("squeezenet", layers=["conv1", "fire3"], source=weights)
    pictures = noise(9), noise(10)
    found = [extractor(torch.from_numpy(p).permute(2, 0, 1)[None] / 255) for p in pictures]
    expected = sum(
        float((2 - 2 * torch.cosine_similarity(found[0][layer], found[1][layer])).mean())
        for layer in ("conv1", "fire3")
    )
    assert distance(*pictures) == pytest.approx(expected, rel=1e-4)


def test_it_says_what_was_measured(distance: FeatureDistance) -> None:
    assert distance.description == "unweighted feature distance of squeezenet (conv1, fire3)"


def test_other_pictures_are_refused(distance: FeatureDistance) -> None:
    picture = noise(0)
    gray = picture[:, :, 0]
    for sr, hr in ((picture[:-1], picture), (picture.astype(np.float32), picture), (gray, gray)):
        with pytest.raises(UsageError, match=r"one shape \(H, W, 3\) and be uint8"):
            distance(sr, hr)


def test_pictures_too_small_for_the_network_are_refused(distance: FeatureDistance) -> None:
    picture = noise(0)[:4, :5]
    with pytest.raises(UsageError, match=r"^squeezenet cannot compare pictures of 5×4 pixels: "):
        distance(picture, picture)


def test_weights_and_pictures_come_in_other_forms_too(distance: FeatureDistance, weights: Path) -> None:
    """The path as a text, the pictures as PIL's."""
    again = FeatureDistance(str(weights), network="squeezenet", layers=["conv1", "fire3"])
    sr, hr = noise(1), noise(2)
    assert again(Image.fromarray(sr), Image.fromarray(hr)) == distance(sr, hr)
    with pytest.raises(UsageError, match="must be arrays or PIL images, not str"):
        distance("sr.png", "hr.png")  # pyright: ignore[reportArgumentType]  # what is refused


def test_missing_weights_and_torch_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    with pytest.raises(ModelError, match=r"missing\.safetensors"):
        FeatureDistance(tmp_path / "missing.safetensors", network="squeezenet")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"a distance between features needs torch.*crispen\[train\]"):
        FeatureDistance()
