"""The check of training data finds what is wrong, and finds nothing where nothing is."""

from __future__ import annotations

import json
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crispen import resize
from crispen.errors import DataError
from crispen.training.data_check import DataReport, check_data
from crispen.training.sources import count_pictures, find_files, read_samples
from files import write

Bytes = NDArray[np.uint8]
SHARED = Path(os.environ.get("CRISPEN_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def scene(seed: int, height: int = 160, width: int = 192) -> Bytes:
    """Smooth ground and many rectangles of all sizes and colours: as much to see at any size as in a photograph."""
    random = np.random.default_rng(seed)
    picture = resize(random.integers(0, 256, (4, 5, 3)).astype(np.uint8), 48)[:height, :width].copy()
    for _ in range(150):
        h, w = (int(side) for side in np.exp(random.uniform(1, 3.5, 2)))
        y, x = (int(place) for place in random.integers((height - h, width - w)))
        picture[y : y + h, x : x + w] = random.integers(0, 256, 3)
    return picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four that have nothing to do with one another."""
    for seed in range(4):
        write(tmp_path / "photos" / f"{seed}.png", scene(seed))
    return tmp_path / "photos"


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    for seed in (10, 11, 12):
        write(tmp_path / "benchmark" / f"{seed}.png", scene(seed))
    return tmp_path / "benchmark"


def report_on(*sources: Path, benchmarks: tuple[Path, ...] = ()) -> DataReport:
    return check_data(sources, benchmarks=benchmarks).result


def test_clean_data_is_clean(photos: Path, benchmark: Path) -> None:
    report = report_on(photos, benchmarks=(benchmark,))
    assert report.is_clean
    assert report.to_lines()[-1] == "nothing is wrong"
    assert f"no overlap with the 3 pictures of {benchmark}" in report.to_lines()


def test_pictures_are_counted_and_measured(photos: Path) -> None:
    write(photos / "wide.png", scene(5, 40, 190))
    write(photos / "large.png", resize(scene(6), 2))
    report = report_on(photos)
    assert report.pictures == 6
    assert report.labelled == 0
    assert (report.smallest, report.median, report.largest) == ((190, 40), (192, 160), (384, 320))
    assert report.megapixels == pytest.approx((4 * 192 * 160 + 190 * 40 + 384 * 320) / 1e6)
    assert report.to_lines()[:2] == ["6 pictures, 0.3 megapixels", "190x40 to 384x320 pixels, median 192x160"]


def test_unreadable_files_are_named_with_the_reason(photos: Path) -> None:
    path = write(photos / "broken.png", b"\x89PNG\r\n\x1a\n broken")
    report = report_on(photos)
    assert report.pictures == 4
    ((name, reason),) = report.unreadable
    assert name == str(path)
    assert "damaged" in reason
    assert not report.is_clean
    assert report.to_lines()[-2:] == ["cannot be read: 1", f"  {path} {reason}"]


def test_equal_pictures_are_found_whatever_their_format(photos: Path) -> None:
    for name in ("again.tif", "once more.png"):
        write(photos / name, scene(2))
    report = report_on(photos)
    ((*names,),) = report.duplicates
    assert sorted(Path(name).name for name in names) == ["2.png", "again.tif", "once more.png"]
    assert not report.copies


@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 1.7])
def test_re_encoded_and_resized_copies_are_found(photos: Path, scale: float) -> None:
    write(photos / "copy.jpg", resize(scene(2), scale))
    report = report_on(photos)
    (copies,) = report.copies
    assert {Path(name).name for name in (copies.first, copies.second)} == {"2.png", "copy.jpg"}
    assert 0.95 < copies.correlation <= 1.0001
    assert not report.duplicates


def test_brightness_and_contrast_do_not_hide_a_copy(photos: Path) -> None:
    write(photos / "pale.png", (100 + scene(2) // 2).astype(np.uint8))
    assert len(report_on(photos).copies) == 1


def test_plain_pictures_are_no_copies_of_one_another(photos: Path) -> None:
    """Nor are gradients, which have the same coarse structure and no other."""
    ramp = np.linspace(0, 255, 160).astype(np.uint8)[:, np.newaxis, np.newaxis]
    write(photos / "sky.png", np.broadcast_to(ramp, (160, 192, 3)).copy())
    write(photos / "sea.png", np.broadcast_to(ramp // 2 + 9, (160, 192, 3)).copy())
    for level in (0, 90):
        write(photos / f"plain{level}.png", np.full((160, 192, 3), level, np.uint8))
    assert not report_on(photos).copies


def test_digits_are_told_apart_by_their_pixels_only(tmp_path: Path) -> None:
    digits = np.zeros((3, 28, 28), np.uint8)
    digits[:, 4:24, 12:15] = 255
    digits[2, 4, 12] = 200
    header = struct.pack(">IIII", 0x803, *digits.shape)
    path = write(tmp_path / "train-images-idx3-ubyte", header + digits.tobytes())
    write(tmp_path / "train-labels-idx1-ubyte", struct.pack(">II", 0x801, 3) + b"\1\1\1")
    report = report_on(path)
    assert report.labelled == 3
    assert len(report.duplicates) == 1
    assert not report.copies
    assert report.to_lines()[0] == "3 pictures, 3 with labels, 0.0 megapixels"


WHOLE = np.s_[:, :]
CROP = np.s_[30:130, 50:180]


@pytest.mark.parametrize(
    ("part", "scale", "share"),
    [
        (WHOLE, 1, 1),
        (WHOLE, 0.4, 1),
        (WHOLE, 0.75, 1),
        (WHOLE, 1.6, 1),
        (CROP, 1, 100 * 130 / (160 * 192)),
        (CROP, 0.8, 100 * 130 / (160 * 192)),
        (CROP, 1.5, 100 * 130 / (160 * 192)),
    ],
)
def test_pictures_that_are_measured_on_are_found(
    photos: Path, benchmark: Path, part: tuple[slice, slice], scale: float, share: float
) -> None:
    path = write(photos / "leak.jpg", resize(scene(11)[part], scale))
    (leak,) = report_on(photos, benchmarks=(benchmark,)).leaks
    assert (leak.name, leak.benchmark) == (str(path), str(benchmark / "11.png"))
    assert leak.share == pytest.approx(share, abs=0.05)
    assert 0.85 < leak.correlation <= 1.0001


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.4])
def test_a_benchmark_that_is_a_part_of_a_picture_is_found(
    photos: Path, benchmark: Path, scale: float
) -> None:
    large = np.concatenate(
        [np.concatenate([scene(20), scene(21)]), np.concatenate([scene(11), scene(22)])], axis=1
    )
    write(photos / "large.png", resize(large, scale))
    (leak,) = report_on(photos, benchmarks=(benchmark,)).leaks
    assert Path(leak.benchmark).name == "11.png"
    assert leak.share == pytest.approx(1, abs=0.05)


def test_a_copy_without_corners_is_found_by_its_whole(photos: Path, benchmark: Path) -> None:
    """Too small for keypoints."""
    write(photos / "tiny.png", resize(scene(12), 0.21))
    (leak,) = report_on(photos, benchmarks=(benchmark,)).leaks
    assert Path(leak.benchmark).name == "12.png"


def test_the_report_as_json(photos: Path, benchmark: Path) -> None:
    write(photos / "broken.png", b"\x89PNG\r\n\x1a\n broken")
    write(photos / "leak.png", scene(11))
    content = json.loads(report_on(photos, benchmarks=(benchmark,)).to_json())
    assert content["pictures"] == 5
    assert content["largest"] == [192, 160]
    assert content["unreadable"][0]["name"].endswith("broken.png")
    assert content["leaks"][0]["benchmark"].endswith("11.png")


def test_a_long_list_is_shortened_for_people(photos: Path) -> None:
    for index in range(25):
        write(photos / f"broken{index}.png", b"\x89PNG\r\n\x1a\n broken")
    lines = report_on(photos).to_lines()
    assert "cannot be read: 25" in lines
    assert lines[-1] == "  and 5 more"


def test_a_benchmark_may_be_named_by_a_text(photos: Path, benchmark: Path) -> None:
    assert check_data([str(photos)], benchmarks=[str(benchmark)]).result.benchmark_pictures == 3


def test_a_check_tells_how_far_it_is(photos: Path) -> None:
    check = check_data([photos])
    assert check.total == 4
    assert [Path(name).name for name in check] == ["0.png", "1.png", "2.png", "3.png"]
    assert check.result.pictures == 4


def test_archives_are_counted_without_reading_them(photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, tarfile.open(tmp_path / "a.tar", "w") as tar:
        for path in photos.iterdir():
            archive.write(path, f"inner/{path.name}")
            tar.add(path, f"./{path.name}")
        archive.writestr("note.txt", "hi")
    (tmp_path / "a.tar.gz").write_bytes(b"who knows")
    for name, expected in (("a.zip", 4), ("a.tar", 4), ("a.tar.gz", None), ("photos", 4)):
        files = find_files([tmp_path / name], purpose="train")
        assert count_pictures(files, purpose="train") == expected
        if expected:
            assert len(list(read_samples(files, purpose="train"))) == expected


def test_what_cannot_be_checked_is_an_error(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no training data at"):
        check_data([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="there is no benchmark at"):
        check_data([photos], benchmarks=[tmp_path / "nowhere"])
    broken = write(tmp_path / "broken" / "a.png", b"\x89PNG\r\n\x1a\n broken").parent
    with pytest.raises(DataError, match=r"no readable picture in .*: .*a\.png has a damaged"):
        report_on(broken)
    with pytest.raises(DataError, match=r"a\.png has a damaged"):
        report_on(photos, benchmarks=(broken,))


@pytest.mark.skipif(not (SHARED / "benchmarks").is_dir(), reason="the benchmarks are not at hand")
def test_set5_has_a_crop_of_a_picture_of_set14() -> None:
    """The butterfly is the monarch's middle, and the head is in both; nothing else is."""
    report = report_on(SHARED / "benchmarks" / "Set5", benchmarks=(SHARED / "benchmarks" / "Set14",))
    assert len(report.leaks) == 2
