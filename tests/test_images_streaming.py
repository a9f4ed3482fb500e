"""Strip by strip: what is read and written is what the whole picture would be, and never all of it in memory."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from crispen import images
from crispen.errors import PictureError, UsageError
from crispen.images import _decoding, formats
from crispen.images.picture import Header, Picture, Pixels

HEIGHT, WIDTH = 45, 33
HEIF_AND_JXL = [
    f".{name}" for name in ("avif", "heic", "jxl") if formats.missing_part(formats.FORMATS[name]) is None
]  # libvips may lack those
SUFFIXES = [".png", ".jpg", ".webp", ".tif", ".gif", ".ppm", ".pfm", ".bmp", *HEIF_AND_JXL]


def noise(*shape: int, dtype: type[np.generic] = np.uint8) -> Pixels:
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    return images.to_depth(values, 8 * np.dtype(dtype).itemsize)


def parts(picture: Picture, *heights: int) -> Iterator[Picture]:
    top = 0
    for height in heights:
        rows = slice(top, top + height)
        alpha = None if picture.alpha is None else picture.alpha[rows]
        yield Picture(pixels=picture.pixels[rows], alpha=alpha)
        top += height


def saved(folder: Path, suffix: str) -> Path:
    path = folder / f"a{suffix}"
    if suffix == ".bmp":
        Image.fromarray(np.asarray(noise(HEIGHT, WIDTH, 3))).save(path)
    else:
        images.write(images.from_array(noise(HEIGHT, WIDTH, 3)), path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("height", [1, 7, 64])
def test_strips_are_the_picture(tmp_path: Path, suffix: str, height: int) -> None:
    path = saved(tmp_path, suffix)
    whole = images.read(path)
    with images.open(path) as source:
        assert (source.header.height, source.header.width) == (HEIGHT, WIDTH)
        strips = list(source.strips(height))
        assert source.rows_left == 0
        with pytest.raises(UsageError, match="no row"):
            source.rows(1)
    assert [strip.height for strip in strips[:-1]] == [height] * (len(strips) - 1)
    assert np.array_equal(np.concatenate([strip.pixels for strip in strips]), whole.pixels)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_any_division_into_strips_writes_the_same(heights: list[int]) -> None:
    import tempfile

    alpha = noise(sum(heights), 5, dtype=np.uint16)
    picture = Picture(pixels=noise(sum(heights), 5, 3, dtype=np.uint16), alpha=alpha)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.png")
        images.write_rows(picture.header, parts(picture, *heights), path)
        again = images.read(path)
    assert np.array_equal(again.pixels, picture.pixels)
    assert again.alpha is not None
    assert np.array_equal(again.alpha, alpha)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm", ".pfm"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_written_in_strips(tmp_path: Path, suffix: str, dtype: type[np.generic]) -> None:
    picture = images.from_array(noise(HEIGHT, WIDTH, 3, dtype=dtype))
    images.write(picture, tmp_path / f"whole{suffix}")
    images.write_rows(picture.header, parts(picture, 1, 40, 4), tmp_path / f"strips{suffix}")
    assert (tmp_path / f"strips{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_a_file_can_be_rewritten_while_it_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, ".png")
    with images.open(path) as source:
        images.write_rows(source.header, source.strips(4), path, force=True)
    assert np.array_equal(images.read(path).pixels, noise(HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("in_memory", [0, 1 << 20])
def test_a_turned_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int, in_memory: int
) -> None:
    monkeypatch.setattr(_decoding, "_TURNED_IN_MEMORY", in_memory)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.asarray(noise(HEIGHT, WIDTH, 3))).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    with images.open(tmp_path / "a.png") as source:
        assert (source.header.height, source.header.width) == expected.shape[:2]
        assert np.array_equal(np.concatenate([strip.pixels for strip in source.strips(7)]), expected)


def test_strips_may_be_read_in_another_thread(tmp_path: Path) -> None:
    found: list[Picture] = []
    with images.open(saved(tmp_path, ".png")) as source:
        found.append(source.rows(10))
        thread = threading.Thread(target=lambda: found.extend(source.strips(10)))
        thread.start()
        thread.join()
    assert np.array_equal(np.concatenate([strip.pixels for strip in found]), noise(HEIGHT, WIDTH, 3))


def test_the_header_is_known_before_anything_is_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path, ".png")
    path.write_bytes(path.read_bytes()[:-2000])
    with images.open(path) as source:
        assert source.header.width == WIDTH
        with pytest.raises(PictureError, match="damaged or cut short"):
            list(source.strips(5))


def test_strips_that_do_not_fit(tmp_path: Path) -> None:
    picture = images.from_array(noise(HEIGHT, WIDTH, 3))
    narrow = images.from_array(noise(HEIGHT, WIDTH - 1, 3))
    for strips in (
        parts(picture, 10),
        iter([picture, picture]),
        iter([narrow]),
        iter([images.from_array(noise(HEIGHT, WIDTH, 4))]),
        iter(()),
    ):
        with pytest.raises(UsageError, match="strip"):
            images.write_rows(picture.header, strips, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_stops_the_strips(tmp_path: Path) -> None:
    """Whoever computes for hours hears of it at once."""
    code = (
        "import resource, sys, numpy as np\n"
        "from crispen import images\n"
        "from crispen.errors import PictureError\n"
        "noise = np.random.default_rng(0).integers(0, 256, (64, 512, 3), dtype=np.uint8)\n"
        "drawn = 0\n"
        "def strips():\n"
        "    global drawn\n"
        "    for drawn in range(1000): yield images.from_array(noise)\n"
        "header = images.Header(height=64_000, width=512, channels=3, bit_depth=8)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
        "try: images.write_rows(header, strips(), sys.argv[1])\n"
        "except PictureError as error: print(drawn < 100, error)\n"
    )
    path = tmp_path / "a.png"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"True {path} cannot be written (")
    assert not list(tmp_path.iterdir())


# The first write loads the encoders; what is measured is what 30 megapixels more take: 90 MB, if they were held.
MEMORY = """
import resource, sys, numpy as np
from crispen import images
from crispen.images import Encoding, Header
strip = images.from_array(np.add.outer(np.arange(100), np.arange(500)).astype(np.uint8)[..., None].repeat(3, 2))
def copy(height):
    header = Header(height=height, width=500, channels=3, bit_depth=8)
    first, second = sys.argv[1:3]
    images.write_rows(header, (strip for _ in range(height // 100)), first, force=True)
    with images.open(first) as source:
        images.write_rows(header, source.strips(100), second, force=True, encoding=Encoding(pyramid="pyr" in second))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(copy(1000), copy(60_000))
"""


@pytest.mark.parametrize(("first", "second"), [("a.png", "pyr.tif"), ("a.tif", "b.jpg"), ("a.ppm", "b.png")])
def test_memory_does_not_grow_with_the_picture(tmp_path: Path, first: str, second: str) -> None:
    command = [sys.executable, "-c", MEMORY, tmp_path / first, tmp_path / second]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    small, large = map(int, done.stdout.split())
    assert large - small < 40


def test_a_header_is_the_pictures() -> None:
    picture = replace(
        images.from_array(noise(4, 5, 2)), attachments={"xmp-data": b"<x/>"}, resolution=(3.0, 4.0)
    )
    assert picture.header == Header(
        height=4,
        width=5,
        channels=1,
        bit_depth=8,
        has_alpha=True,
        attachments={"xmp-data": b"<x/>"},
        resolution=(3.0, 4.0),
    )
