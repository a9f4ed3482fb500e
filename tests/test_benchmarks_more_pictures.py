"""Pictures made of training pictures: a script that bundled models were made with."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
SCRIPT = Path(__file__).parent.parent / "benchmarks" / "more_pictures.py"
if not SCRIPT.is_file():
    pytest.skip("the benchmarks are not part of what is installed", allow_module_level=True)


@pytest.fixture(scope="module")
def script() -> Any:
    specification = importlib.util.spec_from_file_location("more_pictures", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def photo(side: int, *, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Noise that is nowhere dark, so that a black border would show."""
    return np.random.default_rng(seed).integers(100, 256, (side, side, 3)).astype(np.uint8)


def test_a_turned_photo_shows_none_of_its_border(script: Any) -> None:
    for seed in range(4):
        picture = script.turned(photo(480), np.random.default_rng(seed))
        assert picture.shape[0] == picture.shape[1] >= script.LEAST_SIDE
        assert picture.shape[0] % 4 == 0
        assert picture.min() > 60


def test_of_a_small_photo_too_little_is_left(script: Any) -> None:
    assert script.turned(photo(160), np.random.default_rng(0)) is None


def test_of_photos_laid_over_each_other_both_show_with_the_contrast_of_one(script: Any) -> None:
    red, blue = np.full((2, 64, 80, 3), 100, np.uint8)
    red[::2, ..., 0] = 200
    blue[..., ::2, 2] = 200
    pictures = [script.laid_over([red, blue], np.random.default_rng(seed)) for seed in range(20)]
    assert all(64 in picture.shape for picture in pictures)
    spreads = np.array([picture.std((0, 1)) for picture in pictures])
    assert (spreads[:, [0, 2]].min(1) > 10).sum() >= 5, "of two photos a half of the pairs differ"
    assert (spreads[:, 1] < 1).all()
    assert all(picture.std() == pytest.approx(red.std(), rel=0.02) for picture in pictures)


def test_shapes_are_repeatable_and_all_differ(script: Any) -> None:
    photos = [photo(60), photo(50, seed=1)]
    one, again, other = (script.shapes(photos, np.random.default_rng(seed), side=48) for seed in (1, 1, 2))
    assert one.shape == (48, 48, 3)
    assert one.dtype == np.uint8
    assert (one == again).all()
    assert (one != other).any()


def test_shapes_have_the_colours_of_photos(script: Any) -> None:
    """All that they are filled with is made of a photograph's colours, here of one alone, but for letters' edges."""
    plain = np.full((60, 60, 3), (200, 30, 60), np.uint8)
    picture = script.shapes([plain], np.random.default_rng(3), side=48)
    assert np.abs(picture.astype(int) - (200, 30, 60)).max() <= 1
