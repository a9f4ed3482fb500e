"""Training data: the cache stands whatever happens, batches are repeatable, and come from prefetching in order."""

from __future__ import annotations

import errno
import io
import os
import struct
import threading
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from crispen import images
from crispen.errors import DataError, TrainingError
from crispen.training import cache as caches
from crispen.training.data import Batch, Dataset, open_dataset
from crispen.training.prefetch import prefetched
from crispen.training.recolouring import Recolouring, make_gray
from files import write

Bytes = NDArray[np.uint8]


def picture(seed: int, height: int = 24, width: int = 28) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def opened(*sources: str | Path, cache: Path, scale: int = 2, patch_size: int = 16, **more: Any) -> Dataset:
    return open_dataset(sources, scale=scale, patch_size=patch_size, cache=cache, **more)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Three pictures of 12x8 with the labels 5, 0 and 4."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, 12, 8)).astype(np.uint8)
    write(tmp_path / "digits" / "train-labels-idx1-ubyte", struct.pack(">II", 0x801, 3) + bytes([5, 0, 4]))
    header = struct.pack(">IIII", 0x803, *pictures.shape)
    return write(tmp_path / "digits" / "train-images-idx3-ubyte", header + pictures.tobytes())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a", "b", "c")):
        write(tmp_path / "photos" / f"{name}.png", picture(seed, 24 + 5 * seed, 31))
    return tmp_path / "photos"


@pytest.fixture
def dataset(photos: Path, tmp_path: Path) -> Dataset:
    return opened(photos, cache=tmp_path / "cache")


def test_lr_is_matlabs_bicubic_of_the_whole_picture(dataset: Dataset, digits: Path, tmp_path: Path) -> None:
    for data in (dataset, opened(digits, cache=tmp_path / "cache", patch_size=8)):
        for index in range(len(data)):
            np.testing.assert_array_equal(data.lr(index), images.resize(data.hr(index), 1 / 2))


def test_hr_is_the_picture_cropped_to_a_multiple(dataset: Dataset) -> None:
    for index in range(3):
        whole = picture(index, 24 + 5 * index, 31)
        np.testing.assert_array_equal(dataset.hr(index), whole[: len(whole) // 2 * 2, :30])


def test_pictures_are_in_the_order_of_their_names(photos: Path, tmp_path: Path) -> None:
    backwards = tmp_path / "photos.zip"
    with zipfile.ZipFile(backwards, "w") as archive:
        for path in sorted(photos.iterdir(), reverse=True):
            archive.write(path, path.name)
    zipped, loose = (opened(source, cache=tmp_path / "cache") for source in (backwards, photos))
    assert [pair.name[-5:] for pair in zipped.pairs] == ["a.png", "b.png", "c.png"]
    for index in range(3):
        np.testing.assert_array_equal(zipped.hr(index), loose.hr(index))


def test_labels_come_with_their_pictures(digits: Path, photos: Path, tmp_path: Path) -> None:
    labelled = opened(digits, cache=tmp_path / "cache", patch_size=8)
    assert labelled.labelled
    assert [labelled.label(index) for index in range(3)] == [5, 0, 4]
    batch = labelled.batch(seed=0, step=0, patch_size=8, batch_size=32, augment=False)
    assert batch.labels is not None
    assert batch.labels.dtype == torch.int64
    for hr, label in zip(batch.hr, batch.labels, strict=True):
        crops = [
            labelled.whole(i)[1][0, :, y : y + 8]
            for i in range(3)
            if labelled.label(i) == label
            for y in (0, 2, 4)
        ]
        assert any(torch.equal(hr, crop) for crop in crops)
    mixed = opened(digits, photos, cache=tmp_path / "cache", patch_size=8)
    assert not mixed.labelled
    assert mixed.batch(seed=0, step=0, patch_size=8, batch_size=2).labels is None


def test_reduced_pictures_come_beside_the_others_and_have_the_same_share(tmp_path: Path) -> None:
    whole = picture(0, 128, 128)
    write(tmp_path / "photos" / "a.png", whole)
    write(tmp_path / "photos" / "small.png", picture(1, 20, 20))
    both = opened(tmp_path / "photos", cache=tmp_path / "cache", reductions=(1, 2), patch_size=16)
    assert [pair.reduction for pair in both.pairs] == [1, 2, 1], "the smallest are left out once reduced"
    np.testing.assert_array_equal(both.hr(1), images.resize(whole, 1 / 2))
    np.testing.assert_array_equal(both.lr(1), images.resize(images.resize(whole, 1 / 2), 1 / 2))
    assert both.skipped == ["1 of 2 pictures reduced by 2: they are smaller than a patch of 16x16 then"]
    assert len(opened(tmp_path / "photos", cache=tmp_path / "cache")) == 2, "a cache of its own"

    large = opened(tmp_path / "photos", cache=tmp_path / "cache", reductions=(1, 4), patch_size=4)
    reduced = images.resize(whole, 1 / 4)
    known = {reduced[y : y + 4, x : x + 4].tobytes() for y in range(29) for x in range(29)}
    batch = large.batch(seed=0, step=0, patch_size=4, batch_size=500, augment=False)
    crops = (255 * batch.hr.permute(0, 2, 3, 1)).round().byte().numpy()
    share = np.mean([crop.tobytes() in known for crop in crops])
    assert 0.4 < share < 0.6


@pytest.mark.parametrize("reductions", [(1, 2), (1, 2, 3), (3, 1), (2,)])
@pytest.mark.parametrize("patch_size", [16, 48])
def test_each_reduction_has_the_same_share_of_the_crops(
    tmp_path: Path, reductions: tuple[int, ...], patch_size: int
) -> None:
    """However many pixels it leaves around a patch, and whether or not all pictures are large enough for it."""
    for seed, (height, width) in enumerate([(160, 240), (150, 160), (60, 300)]):
        write(tmp_path / "photos" / f"{seed}.png", picture(seed, height, width))
    data = opened(tmp_path / "photos", cache=tmp_path / "cache", reductions=reductions, patch_size=patch_size)
    reduction_of = {
        row[x : x + 4].tobytes(): pair.reduction
        for index, pair in enumerate(data.pairs)
        for row in data.hr(index)
        for x in range(len(row) - 3)
    }
    wanted: dict[str, Any] = {"patch_size": patch_size, "batch_size": 2000, "augment": False}
    for each in (data, data.resident(torch.device("cpu"))):
        crops = 255 * each.batch(seed=0, step=0, **wanted).hr[:, :, 0, :4].mT
        drawn = Counter(reduction_of[crop.tobytes()] for crop in crops.round().byte().numpy())
        assert drawn.keys() == set(reductions)
        assert all(abs(count / 2000 - 1 / len(reductions)) < 0.04 for count in drawn.values())


def test_a_reduction_that_no_picture_is_large_enough_for_gets_nothing(photos: Path, tmp_path: Path) -> None:
    data = opened(photos, cache=tmp_path / "cache", reductions=(1, 2), patch_size=20)
    plain = opened(photos, cache=tmp_path / "cache", patch_size=20)
    assert data.skipped == ["3 of 3 pictures reduced by 2: they are smaller than a patch of 20x20 then"]
    both = [each.batch(seed=0, step=0, patch_size=20, batch_size=9).hr for each in (data, plain)]
    assert torch.equal(*both)


def test_pictures_that_are_too_small_once_reduced_are_said_to_be(photos: Path, tmp_path: Path) -> None:
    write(photos / "dot.png", picture(0, 1, 9))
    with pytest.raises(DataError, match=r"^no picture in .*photos has 16x16 pixels once it is reduced by 4$"):
        opened(photos, cache=tmp_path / "cache", reductions=(4,))
    left = opened(photos, cache=tmp_path / "cache", reductions=(2,))
    assert [pair.name for pair in left.pairs] == [f"{photos / 'c.png'} (reduced by 2)"]
    assert left.skipped == [
        f"{photos / 'dot.png'} (reduced by 2) is smaller than 2x2 pixels, which make one at scale 2",
        f"{photos / 'a.png'} (reduced by 2) has 16x12 pixels, but a patch 16x16",
        f"{photos / 'b.png'} (reduced by 2) has 16x14 pixels, but a patch 16x16",
    ]


def test_some_of_the_pictures_come_in_all_their_reductions(tmp_path: Path) -> None:
    for seed, name in enumerate("abcdef"):
        write(tmp_path / "photos" / f"{name}.png", picture(seed, 40 if name == "e" else 80, 80))
    data = opened(tmp_path / "photos", cache=tmp_path / "cache", reductions=(1, 3), patch_size=16)
    some = data.subset(3)
    assert [(Path(pair.picture).stem, pair.reduction) for pair in some.pairs] == [
        ("a", 1), ("a", 3), ("c", 1), ("c", 3), ("e", 1),
    ]  # fmt: skip
    assert some.batch(seed=0, step=0, patch_size=16, batch_size=2).hr.shape == (2, 3, 16, 16)
    assert data.subset(6) is data


def test_what_is_left_out_is_said(photos: Path, tmp_path: Path) -> None:
    write(photos / "broken.png", b"\x89PNG\r\n\x1a\n broken")
    write(photos / "dot.png", picture(0, 1, 9))
    write(photos / "small.png", picture(0, 12, 40))
    dataset = opened(photos, cache=tmp_path / "cache")
    assert len(dataset) == 3
    assert len(dataset.skipped) == 3
    broken, dot, small = dataset.skipped
    assert broken.startswith(f"{photos / 'broken.png'} has a damaged")
    assert "smaller than 2x2" in dot
    assert small == f"{photos / 'small.png'} has 40x12 pixels, but a patch 16x16"
    assert "broken.png" in next((tmp_path / "cache").rglob("skipped.txt")).read_text()


def test_data_of_no_use_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (tmp_path / "empty").mkdir()
    broken = write(tmp_path / "broken" / "a.png", b"\x89PNG\r\n\x1a\n broken").parent
    with pytest.raises(DataError, match=r"no readable picture in .*empty"):
        opened(tmp_path / "empty", cache=cache)
    with pytest.raises(DataError, match=r"no readable picture in .*: .*a\.png has a damaged"):
        opened(broken, cache=cache)
    with pytest.raises(DataError, match="there is no training data at"):
        opened(tmp_path / "nowhere", cache=cache)
    assert not any(cache.iterdir())


def test_pictures_are_decoded_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(photos, cache=tmp_path / "cache")
    monkeypatch.setattr(images, "read", None)
    assert len(opened(photos, cache=tmp_path / "cache")) == 3


def test_a_cache_is_for_its_files_scale_purpose_and_format(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> int:
        return len(list((tmp_path / "cache").iterdir()))

    opened(photos, cache=tmp_path / "cache")
    write(photos / "note.txt", b"does not matter")
    opened(photos, cache=tmp_path / "cache")
    assert count() == 1
    opened(photos, cache=tmp_path / "cache", scale=4)
    opened(photos, cache=tmp_path / "cache", purpose="valid")
    os.utime(photos / "a.png", ns=(0, 0))
    opened(photos, cache=tmp_path / "cache")
    monkeypatch.setattr(caches, "FORMAT", caches.FORMAT + 1)
    opened(photos, cache=tmp_path / "cache")
    assert count() == 5


class Full(io.BytesIO):
    """A file on a disk that is full."""

    def write(self, _: Any) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  # always raises
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Path.open

    def open_on_full_disk(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        return Full() if path.name == caches.HR and mode == "wb" else really(path, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    with pytest.raises(DataError, match=r"cannot be kept in .*cache: No space left on device$"):
        opened(photos, cache=tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir())
    monkeypatch.undo()
    assert len(opened(photos, cache=tmp_path / "cache")) == 3


def test_a_cache_that_is_a_file_is_an_error(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be kept in"):
        opened(photos, cache=write(tmp_path / "cache", b""))


def test_two_may_build_at_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both_at_work = threading.Barrier(2)
    publish = caches._publish  # pyright: ignore[reportPrivateUsage]  # where two processes meet

    def publish_together(*folders: Path) -> None:
        both_at_work.wait(30)
        publish(*folders)

    monkeypatch.setattr(caches, "_publish", publish_together)
    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(opened, photos, cache=tmp_path / "cache") for _ in range(2)]
    assert [len(future.result()) for future in futures] == [3, 3]
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("killed", [False, True])
def test_an_interrupted_cache_is_never_taken_for_a_whole_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def leave(*_: Any, **__: Any) -> None:
        """What a killed process does instead of clearing up."""

    cache = tmp_path / "cache"
    monkeypatch.setattr(caches, "_append", interrupt)
    if killed:
        monkeypatch.setattr(caches.shutil, "rmtree", leave)
    with pytest.raises(KeyboardInterrupt):
        opened(photos, cache=cache)
    monkeypatch.undo()
    left = list(cache.iterdir())
    assert len(left) == killed
    assert len(opened(photos, cache=cache)) == 3
    assert all(path.exists() for path in left), "it could belong to a process that is alive"
    long_ago = time.time() - 7200
    for path in (*cache.glob(".building-*/*"), *left):
        os.utime(path, (long_ago, long_ago))
    opened(photos, cache=cache, scale=4)
    assert len(list(cache.iterdir())) == 2


# Batches


def test_batches_depend_on_seed_and_step_alone(dataset: Dataset) -> None:
    def batch(seed: int, step: int) -> Tensor:
        return dataset.batch(seed=seed, step=step, patch_size=16, batch_size=4).hr

    assert torch.equal(batch(1, 5), batch(1, 5))
    assert not torch.equal(batch(1, 5), batch(1, 6))
    assert not torch.equal(batch(1, 5), batch(2, 5))


def test_a_batch_is_as_the_generator_takes_it(dataset: Dataset) -> None:
    batch = dataset.batch(seed=0, step=0, patch_size=16, batch_size=5)
    assert batch.lr.shape == (5, 3, 8, 8)
    assert batch.hr.shape == (5, 3, 16, 16)
    assert batch.labels is None
    for pictures in (batch.lr, batch.hr):
        assert pictures.dtype == torch.float32
        assert pictures.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= batch.hr.min() < 0.1
    assert 0.9 < batch.hr.max() <= 1
    lr, hr = dataset.whole(1)
    assert (lr.shape, hr.shape) == ((1, 3, 14, 15), (1, 3, 28, 30))
    np.testing.assert_array_equal((hr[0].permute(1, 2, 0) * 255).round().numpy(), dataset.hr(1))


def eight_ways(crop: Tensor) -> list[Tensor]:
    return [
        turned
        for turns in range(4)
        for turned in (crop.rot90(turns, (1, 2)), crop.rot90(turns, (1, 2)).flip(2))
    ]


def crops_of(dataset: Dataset) -> list[tuple[Tensor, Tensor]]:
    """Every crop of 16 there is, small and large, in the order in which they are drawn."""
    return [
        (lr[0, :, y : y + 8, x : x + 8], hr[0, :, 2 * y : 2 * y + 16, 2 * x : 2 * x + 16])
        for lr, hr in (dataset.whole(index) for index in range(len(dataset)))
        for y in range(lr.shape[2] - 7)
        for x in range(lr.shape[3] - 7)
    ]


def test_all_crops_are_drawn_evenly_and_all_eight_ways(dataset: Dataset) -> None:
    """The small crop and the large one come from one place and are turned alike."""
    batch = dataset.batch(seed=0, step=0, patch_size=16, batch_size=6000)
    place_of: dict[bytes, int] = {}
    for place, (lr, hr) in enumerate(crops_of(dataset)):
        for way, pair in enumerate(zip(eight_ways(lr), eight_ways(hr), strict=True)):
            place_of[b"".join(side.contiguous().numpy().tobytes() for side in pair)] = 8 * place + way
    drawn = [
        place_of[lr.contiguous().numpy().tobytes() + hr.contiguous().numpy().tobytes()]
        for lr, hr in zip(batch.lr, batch.hr, strict=True)
    ]
    places, ways = np.divmod(drawn, 8)
    expected = 6000 / len(crops_of(dataset))
    assert expected > 20
    assert np.abs(np.bincount(places, minlength=len(crops_of(dataset))) - expected).max() < 5 * expected**0.5
    assert np.abs(np.bincount(ways, minlength=8) - 750).max() < 5 * 750**0.5


def test_without_augmentation_crops_are_upright(dataset: Dataset) -> None:
    upright = {hr.contiguous().numpy().tobytes() for _, hr in crops_of(dataset)}
    batch = dataset.batch(seed=0, step=0, patch_size=16, batch_size=32, augment=False)
    assert all(hr.contiguous().numpy().tobytes() in upright for hr in batch.hr)
    turned = dataset.batch(seed=0, step=0, patch_size=16, batch_size=32).hr
    for hr, other in zip(batch.hr, turned, strict=True):
        assert any(torch.equal(hr, way) for way in eight_ways(other)), "the crops are the same"


@given(
    batch_size=st.integers(1, 9),
    parts=st.integers(1, 10),
    candidates=st.integers(1, 3),
    augment=st.booleans(),
)
def test_the_parts_make_up_the_whole(batch_size: int, parts: int, candidates: int, augment: bool) -> None:
    data = _SHARED["dataset"]
    common: dict[str, Any] = {"batch_size": batch_size, "candidates": candidates, "augment": augment}
    whole = data.batch(seed=3, step=4, patch_size=16, **common)
    pieces = [
        data.batch(seed=3, step=4, patch_size=16, part=(rank, parts), **common) for rank in range(parts)
    ]
    assert torch.equal(torch.cat([piece.lr for piece in pieces]), whole.lr)
    assert torch.equal(torch.cat([piece.hr for piece in pieces]), whole.hr)
    assert max(len(piece.lr) for piece in pieces) - min(len(piece.lr) for piece in pieces) <= 1


@given(
    seed=st.integers(0, 99),
    candidates=st.integers(1, 3),
    augment=st.booleans(),
    flat_share=st.sampled_from([0, 0.5, 1]),
    recoloured_share=st.sampled_from([0, 0.5]),
    gray_share=st.sampled_from([0, 0.5]),
    part=st.sampled_from([(0, 1), (1, 3)]),
)
def test_batches_made_on_the_device_are_the_same_to_the_bit(
    seed: int,
    candidates: int,
    augment: bool,
    flat_share: float,
    recoloured_share: float,
    gray_share: float,
    part: tuple[int, int],
) -> None:
    data = _SHARED["dataset"]
    there = data.resident(torch.device("cpu"))
    wanted: dict[str, Any] = {
        "seed": seed, "step": 1, "patch_size": 16, "batch_size": 7, "candidates": candidates, "augment": augment,
        "flat_share": flat_share, "recoloured_share": recoloured_share, "gray_share": gray_share,
        "part": part,
    }  # fmt: skip
    here, resident = data.batch(**wanted), there.batch(**wanted)
    assert torch.equal(here.lr, resident.lr)
    assert torch.equal(here.hr, resident.hr)
    assert resident.lr.stride() == here.lr.stride(), "as the networks take it"


def test_labels_come_along_on_the_device(digits: Path, tmp_path: Path) -> None:
    data = opened(digits, cache=tmp_path / "cache", patch_size=8)
    here, there = (
        each.batch(seed=0, step=0, patch_size=8, batch_size=9)
        for each in (data, data.resident(torch.device("cpu")))
    )
    assert here.labels is not None
    assert there.labels is not None
    assert torch.equal(here.labels, there.labels)


def test_a_device_with_too_little_memory_is_one_sentence(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Tensor, "to", full)
    with pytest.raises(TrainingError, match="which the device has not"):
        dataset.resident(torch.device("cpu"))


_SHARED: dict[str, Dataset] = {}


@pytest.fixture(autouse=True, scope="module")
def shared_dataset(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One for the properties: hypothesis does not go with fixtures of a function."""
    folder = tmp_path_factory.mktemp("shared")
    write(folder / "photos" / "a.png", picture(0))
    write(folder / "photos" / "b.png", picture(1))
    _SHARED["dataset"] = opened(folder / "photos", cache=folder / "cache")


def test_of_several_candidates_the_most_detailed_is_taken(tmp_path: Path) -> None:
    half_flat = picture(0, 64, 64)
    half_flat[:, :32] = 128
    data = opened(write(tmp_path / "a.png", half_flat), cache=tmp_path / "cache")
    spread = [
        float(
            data.batch(seed=0, step=0, patch_size=16, batch_size=32, candidates=count)
            .hr.std((1, 2, 3))
            .mean()
        )
        for count in (1, 8)
    ]
    assert spread[1] > 1.2 * spread[0]


# Prefetching


def test_prefetched_items_come_in_order() -> None:
    assert list(prefetched(lambda step: step * step, range(3, 9))) == [9, 16, 25, 36, 49, 64]
    assert list(prefetched(lambda step: step, range(0))) == []


def test_the_next_item_is_made_while_the_present_one_is_used() -> None:
    made = [threading.Event() for _ in range(4)]

    def make(step: int) -> int:
        made[step].set()
        return step

    items = prefetched(make, range(4))
    assert next(items) == 0
    assert made[1].wait(5)
    time.sleep(0.05)
    assert not made[2].is_set(), "one ahead, not more"
    assert list(items) == [1, 2, 3]


def test_torch_computes_alone_in_the_background_and_elsewhere_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert list(prefetched(lambda _: torch.get_num_threads(), range(2))) == [1, 1]
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(max_workers=1) as later:
            assert later.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


def test_an_error_surfaces_in_its_place() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise DataError("no third")
        return step

    items = prefetched(make, range(5))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(DataError, match="no third"):
        next(items)
    assert threads() == 0


def threads() -> int:
    return sum(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.parametrize("closed", [False, True])
def test_the_thread_ends_with_the_iterator(closed: bool) -> None:
    items = prefetched(str, range(5))
    next(items)
    assert threads() == 1
    if closed:
        items.close()
    else:
        assert list(items) == ["1", "2", "3", "4"]
    assert threads() == 0


def test_some_crops_can_be_flat(photos: Path, tmp_path: Path) -> None:
    dataset = open_dataset([photos], scale=2, patch_size=16, cache=tmp_path / "cache")

    def batch(flat_share: float, part: tuple[int, int] = (0, 1)) -> Batch:
        return dataset.batch(seed=0, step=0, patch_size=16, batch_size=64, flat_share=flat_share, part=part)

    whole, mixed = batch(0), batch(0.25)
    spread = mixed.hr.amax((2, 3)) - mixed.hr.amin((2, 3))
    flat = (spread == 0).all(1)
    assert 5 < flat.sum() < 30
    assert torch.equal(mixed.hr[~flat], whole.hr[~flat]), "the others stay as they are"
    assert torch.equal(mixed.lr[flat, :, 0, 0], mixed.hr[flat, :, 0, 0])
    grays = (mixed.hr[flat, :, 0, 0].amax(1) == mixed.hr[flat, :, 0, 0].amin(1)).sum()
    assert 0 < grays < flat.sum()
    parts = [batch(0.25, (rank, 2)).hr for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), mixed.hr)


# Other colours


def test_crops_in_other_colours_are_still_reductions_of_each_other(dataset: Dataset) -> None:
    """Channels change places and blend with a colour alike in both, and no crop is another."""

    def batch(share: float, part: tuple[int, int] = (0, 1)) -> Batch:
        return dataset.batch(seed=5, step=2, patch_size=16, batch_size=64, recoloured_share=share, part=part)

    plain, other, all_of_them = batch(0), batch(0.5), batch(1)
    for pictures, before in ((other.lr, plain.lr), (other.hr, plain.hr)):
        assert pictures.stride() == before.stride()
        assert 0 <= pictures.min() < pictures.max() <= 1
        same = (pictures == before).flatten(1).all(1)
        assert 0.1 < same.double().mean() < 0.5
    means = [each.flatten(2).mean(2) for each in (other.lr, other.hr)]
    clean = [each.flatten(2).mean(2) for each in (plain.lr, plain.hr)]
    offsets = (means[0] - means[1]).abs().max(), (clean[0] - clean[1]).abs().max()
    assert offsets[0] <= offsets[1] + 1e-6
    contrast = all_of_them.hr.flatten(1).std(1)
    assert ((all_of_them.hr != plain.hr).flatten(1).any(1)).all()
    assert not torch.equal(contrast, plain.hr.flatten(1).std(1))
    halves = [batch(0.5, part=(rank, 2)) for rank in range(2)]
    assert torch.equal(torch.cat([half.hr for half in halves]), other.hr)


def test_a_recolouring_is_what_it_says() -> None:
    pixels = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    recolour = Recolouring(
        np.array([[2, 0, 1], [0, 1, 2]]),
        np.array([[1], [0.75]], np.float32),
        np.array([[0, 0, 0], [1, 0, 0.5]], np.float32),
    )
    swapped, blended = recolour(pixels)
    assert torch.equal(swapped, pixels[0][[2, 0, 1]])
    expected = 0.75 * pixels[1] + 0.25 * torch.tensor([1, 0, 0.5])[:, None, None]
    torch.testing.assert_close(blended, expected)


def test_some_crops_are_gray_in_both_sizes_and_the_others_as_before(dataset: Dataset) -> None:
    def batch(share: float, part: tuple[int, int] = (0, 1)) -> Batch:
        return dataset.batch(seed=5, step=2, patch_size=16, batch_size=64, gray_share=share, part=part)

    plain, some, all_of_them = batch(0), batch(0.5), batch(1)
    small, large = (_is_gray(pictures) for pictures in (some.lr, some.hr))
    assert torch.equal(small, large)
    assert 0.25 < large.double().mean() < 0.75
    assert torch.equal(some.hr[~large], plain.hr[~large])
    assert _is_gray(all_of_them.hr).all()
    assert some.hr.stride() == plain.hr.stride()
    halves = [batch(0.5, part=(rank, 2)) for rank in range(2)]
    assert torch.equal(torch.cat([half.hr for half in halves]), some.hr)


def test_gray_is_the_luma_of_bt_601() -> None:
    pixels = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    gray, kept = make_gray(pixels, np.array([True, False]))
    red, green, blue = pixels[0]
    torch.testing.assert_close(gray, (0.299 * red + 0.587 * green + 0.114 * blue).expand(3, -1, -1))
    assert torch.equal(kept, pixels[1])


def _is_gray(pictures: Tensor) -> Tensor:
    return (pictures == pictures[:, :1]).flatten(1).all(1)
