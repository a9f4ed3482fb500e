"""The mean over all symmetries: it has them all itself, by tiles as at once, and costs eight times the work."""

from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import crispen
from commands import crispen_says
from crispen import images, runtimes, zoo
from crispen.runtimes import Piece
from crispen.tiling import Box
from crispen.upscaling.ensemble import SYMMETRIES, EnsembleRuntime, turned_back, turned_piece


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape).astype(np.float32)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@given(data=st.data())
def test_a_piece_and_its_core_are_turned_alike_and_back(symmetry: int, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    core = Box(top, left, data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width)))
    window = noise(3, height, width)
    turned = turned_piece(Piece(window, core), symmetry)
    np.testing.assert_array_equal(turned_back(turned.window, symmetry), window)
    kept = turned_back(turned.window[:, *turned.core.slices], symmetry)
    np.testing.assert_array_equal(kept, window[:, *core.slices])


def test_all_symmetries_differ() -> None:
    window = noise(3, 4, 4)
    turned = {
        turned_piece(Piece(window, Box(0, 0, 4, 4)), symmetry).window.tobytes() for symmetry in SYMMETRIES
    }
    assert len(turned) == 8


def test_a_turned_picture_has_the_turned_result(tiny_model: Path) -> None:
    runtime = EnsembleRuntime(runtimes.open_runtime(zoo.find(tiny_model), precision="fp32"))
    lr = noise(1, 3, 12, 17)
    result = runtime(lr)
    assert result.shape == (1, 3, 48, 68)
    alone = runtimes.open_runtime(zoo.find(tiny_model), precision="fp32")
    assert np.abs(result - alone(lr)).max() > 1e-4, "one answer is not the mean of eight"
    for symmetry in SYMMETRIES:
        turned = turned_piece(Piece(lr[0], Box(0, 0, 12, 17)), symmetry).window
        np.testing.assert_allclose(
            turned_back(runtime(turned[np.newaxis])[0], symmetry), result[0], atol=1e-5
        )


def test_by_tiles_as_at_once(tiny_model: Path) -> None:
    picture = (255 * noise(70, 60, 3)).astype(np.uint8)
    whole, tiled = (
        crispen.load(tiny_model, ensemble=True, precision="fp32", tile=tile)(picture) for tile in (None, 16)
    )
    assert np.abs(whole.astype(int) - tiled).max() <= 1


class Counting:
    """Enlarges by repeating pixels, and counts what it is given."""

    scale = 2
    description = "counting"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, batch: NDArray[np.float32], *, core: Box | None = None) -> NDArray[np.float32]:
        core = core or Box(0, 0, *batch.shape[2:])
        self.shapes.append(batch.shape[1:])
        return batch[:, :, *core.slices].repeat(2, axis=2).repeat(2, axis=3)

    def map(self, pieces: Iterable[Piece]) -> Generator[NDArray[np.float32]]:
        return (self(piece.window[np.newaxis], core=piece.core)[0] for piece in pieces)


def test_it_is_eight_times_the_work_and_pieces_of_one_shape_follow_one_another() -> None:
    runtime = Counting()
    pieces = [Piece(noise(3, 4, 6), Box(1, 0, 3, 5)), Piece(noise(3, 4, 6), Box(0, 0, 4, 6))]
    results = list(EnsembleRuntime(runtime).map(pieces))
    assert runtime.shapes == 2 * (4 * [(3, 4, 6)] + 4 * [(3, 6, 4)])
    for piece, result in zip(pieces, results, strict=True):
        repeated = piece.window[:, *piece.core.slices].repeat(2, axis=1).repeat(2, axis=2)
        np.testing.assert_allclose(result, repeated, atol=1e-6)


def test_on_the_command_line(tmp_path: Path, tiny_model: Path) -> None:
    picture = tmp_path / "a.png"
    images.write(images.from_array((255 * noise(9, 7, 3)).astype(np.uint8)), picture)
    assert crispen_says("upscale", picture, "--model", tiny_model, "--ensemble").exit_code == 0
    expected = crispen.upscale(images.to_array(images.read(picture)), tiny_model, ensemble=True)
    np.testing.assert_array_equal(images.to_array(images.read(tmp_path / "a-x4.png")), expected)


def test_left_out_where_all_answers_are_one() -> None:
    assert not crispen.load("srgan-x4", ensemble=True).ensemble
    assert not crispen.load("srgan-x4", ensemble=True, strength=0.5).ensemble


def test_not_left_out_halfway_to_a_model_whose_answers_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    find = zoo.find

    def found(name: str) -> zoo.Model:
        model = find(name)
        assert model.card
        return replace(model, card=replace(model.card, equivariant=name == "srgan-x4"))

    monkeypatch.setattr(zoo, "find", found)
    assert not crispen.load("srgan-x4", ensemble=True).ensemble
    assert crispen.load("srgan-x4", ensemble=True, strength=0.5).ensemble
    assert not crispen.load("srgan-x4", strength=0.5).ensemble


def test_that_it_is_left_out_is_said_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        images.write(images.from_array((255 * noise(24, 24, 3)).astype(np.uint8)), tmp_path / f"{name}.png")
    note = (
        "crispen: note: tiny-x4 enlarges a turned picture to the same, turned: --ensemble would gain nothing and is"
        " left out"
    )
    for command in (("upscale", tmp_path, "-o", tmp_path / "large"), ("evaluate", "--benchmark", tmp_path)):
        result = crispen_says(*command, "--model", "tiny-x4", "--ensemble")
        assert result.exit_code == 0, result.output
        assert result.stderr.splitlines().count(note) == 1
        assert "symmetries" not in result.output


def test_reports_say_so_and_bicubic_has_none(tmp_path: Path, tiny_model: Path) -> None:
    images.write(images.from_array((255 * noise(48, 48, 3)).astype(np.uint8)), tmp_path / "a.png")
    result = crispen_says("evaluate", "--benchmark", tmp_path, "--model", tiny_model, "--ensemble")
    assert "mean of 8 symmetries" in result.output
    refused = crispen_says("evaluate", "--benchmark", tmp_path, "--model", "bicubic", "--ensemble")
    assert refused.exit_code == 2
    assert "--ensemble is for models" in refused.output
