"""The cache of decoded pictures: watched while it is made, and removed when nobody has used it for long."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from crispen.training import Recipe, train
from crispen.training.cache import UNUSED_DAYS, find_cache, remove_unused
from crispen.training.data import open_dataset
from files import write


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures and a file that is none."""
    random = np.random.default_rng(0)
    for name in "ab":
        write(tmp_path / "photos" / f"{name}.png", random.integers(0, 256, (32, 32, 3)).astype(np.uint8))
    write(tmp_path / "photos" / "c.png", b"\x89PNG\r\n\x1a\n broken")
    return tmp_path / "photos"


class Watcher:
    """Takes what is decoded, and counts."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int | None]] = []

    def __call__(self, pictures: Iterable[object], total: int | None) -> None:
        self.seen.append((sum(1 for _ in pictures), total))


def age(folder: Path, *, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(folder, (then, then))


def a_cache(photos: Path, cache: Path, *, scale: int = 2) -> Path:
    return find_cache([photos], scale=scale, cache=cache, purpose="train")


def test_decoding_can_be_watched_and_happens_once(photos: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    for _ in range(2):
        dataset = open_dataset([photos], scale=2, patch_size=16, cache=tmp_path / "cache", watch=watcher)
        assert len(dataset) == 2
    assert watcher.seen == [(2, 3)], "two of three can be decoded, and the second time all is there"


def test_a_run_lets_decoding_be_watched(photos: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {
            "title": "tiny",
            "generator": {"scale": 2, "num_blocks": 1, "num_features": 4},
            "data": {"patch_size": 16, "batch_size": 2},
            "stage": {"pretrain": {"steps": 1}},
        }
    )
    watcher = Watcher()
    list(train(recipe, data=[photos], valid=photos, run_dir=tmp_path / "run", watch_decoding=watcher))
    assert watcher.seen == [(2, 3)] * 2, "training and validation pictures"


def test_a_cache_that_nobody_has_used_for_long_is_removed(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    old, recent = (a_cache(photos, cache, scale=scale) for scale in (2, 4))
    age(old, days=UNUSED_DAYS + 1)
    age(recent, days=UNUSED_DAYS - 1)
    (sentence,) = remove_unused(cache)
    assert f"no run had used for {UNUSED_DAYS} days" in sentence
    assert list(cache.iterdir()) == [recent]
    assert remove_unused(cache) == []
    assert a_cache(photos, cache) == old, "it is made again where it is needed"


def test_a_cache_in_use_is_kept(photos: Path, tmp_path: Path) -> None:
    folder = a_cache(photos, tmp_path / "cache")
    age(folder, days=99)
    a_cache(photos, tmp_path / "cache")
    assert remove_unused(tmp_path / "cache") == []
    dataset = open_dataset([photos], scale=2, patch_size=16, cache=tmp_path / "cache")
    age(folder, days=99)
    dataset.mark_used()
    assert remove_unused(tmp_path / "cache") == []


def test_nothing_but_caches_is_removed(photos: Path, tmp_path: Path) -> None:
    assert remove_unused(tmp_path / "missing") == []
    lookalikes = [tmp_path / "0123456789abcdef", tmp_path / "photos" / "0123456789abcdef.d"]
    for folder in lookalikes:
        folder.mkdir()
        age(folder, days=99)
    write(tmp_path / "notes" / "index.json", b"[]")
    age(tmp_path / "notes", days=99)
    assert remove_unused(tmp_path) == remove_unused(photos) == []
    assert all(folder.is_dir() for folder in (*lookalikes, tmp_path / "notes"))


def test_a_run_says_what_it_removed(photos: Path, tmp_path: Path) -> None:
    old = a_cache(photos, tmp_path / "cache", scale=4)
    age(old, days=99)
    recipe = Recipe.model_validate(
        {
            "title": "tiny",
            "generator": {"scale": 2, "num_blocks": 1, "num_features": 4},
            "data": {"patch_size": 16, "batch_size": 2},
            "stage": {"pretrain": {"steps": 1}},
        }
    )
    (progress,) = train(recipe, data=[photos], run_dir=tmp_path / "run")
    assert any("removed decoded pictures" in note for note in progress.notes)
    assert not old.exists()
