"""Pages of a TIFF that differ: each keeps its own size, kind and metadata."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageSequence

from commands import crispen_says, names
from crispen import images
from crispen.errors import PictureError, UsageError
from crispen.images import Encoding, Header, Picture, _tiff, writing
from crispen.images._altered import altered
from crispen.images._tiff_pages import Document, as_only_page, page_directories


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(height: int, width: int, channels: int, dtype: type[np.generic] = np.uint8) -> Picture:
    """Noise, the same for the same arguments; channels 2 and 4 have alpha."""
    noise = np.random.default_rng(height * width + channels).integers(0, 256, (height, width, channels))
    return images.from_array(cast(Any, images.to_depth(noise.astype(np.uint8), 8 * np.dtype(dtype).itemsize)))


def profile(name: str) -> bytes:
    return cast(bytes, cast(Any, pyvips).Operation.call("profile_load", name))


def exif(maker: str) -> bytes:
    made = Image.Exif()
    made[0x010F] = maker
    made.get_ifd(0x8769)[0x8827] = 400  # ISO
    return made.tobytes()


def unlike() -> list[Picture]:
    """A portrait, a landscape of half its size, gray, 16 bit with alpha, floats."""
    return [
        replace(picture(60, 40, 3), resolution=(10.0, 10.0), attachments={"icc-profile-data": profile("p3")}),
        replace(picture(20, 30, 3), resolution=(20.0, 20.0), attachments={"exif-data": exif("Pentax")}),
        replace(picture(25, 31, 1), attachments={"exif-data": exif("Leica"), "xmp-data": b"<x/>"}),
        picture(700, 7, 4, np.uint16),
        picture(5, 9, 1, np.float32),
    ]


def headers(pages: Sequence[Picture]) -> list[Header]:
    return [page.header for page in pages]


def alike(one: Picture, other: Picture) -> bool:
    return np.array_equal(images.to_array(one), images.to_array(other))


@pytest.mark.parametrize("compression", ["deflate", "lzw", "none"])
@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("pyramid", [False, True])
def test_each_page_is_as_it_would_be_alone(
    monkeypatch: pytest.MonkeyPatch, compression: str, is_big: bool, pyramid: bool
) -> None:
    def needs_big_tiff(_headers: object, _encoding: object) -> bool:
        return is_big

    monkeypatch.setattr(writing, "needs_big_tiff", needs_big_tiff)
    pages = unlike()
    encoding = Encoding(compression=compression, pyramid=pyramid)
    images.write_pages(headers(pages), pages, "a.tif", encoding=encoding)
    assert names() == ["a.tif"]
    assert Path("a.tif").read_bytes()[2] == (43 if is_big else 42)
    with images.open_pages("a.tif") as opened:
        assert len(opened) == len(pages)
        found = list(opened)
    for number, (page, again) in enumerate(zip(pages, found, strict=True)):
        images.write(page, f"{number}.tif", encoding=encoding)
        alone = images.read(f"{number}.tif")
        assert alike(again, page)
        assert (again.attachments, again.resolution) == (alone.attachments, alone.resolution)
    assert b"Leica" in found[2].attachments["exif-data"]
    if not pyramid:  # PIL can do without what libvips must have
        with Image.open("a.tif") as image:
            sizes = [page.size for page in ImageSequence.Iterator(image)]
        assert sizes == [(page.width, page.height) for page in pages]


def test_an_error_in_a_later_page_leaves_nothing() -> None:
    pages = unlike()

    def failing() -> Iterator[Picture]:
        yield pages[0]
        yield pages[1]
        raise PictureError("the third is damaged")

    with pytest.raises(PictureError, match="the third is damaged"):
        images.write_pages(headers(pages), failing(), "a.tif")
    assert names() == []


@pytest.mark.parametrize("count", [1, 3])
def test_there_must_be_as_many_pages_as_announced(count: int) -> None:
    page = picture(8, 8, 3)
    with pytest.raises(UsageError, match=rf"there are {count} pages or more, but 2 headers"):
        images.write_pages([page.header] * 2, [page] * count, "a.tif")
    assert names() == []


def test_a_page_of_half_the_size_is_a_page() -> None:
    first, second = (Image.fromarray(picture(side, 2 * side, 3).pixels) for side in (40, 20))
    first.save("a.tif", save_all=True, append_images=[second])
    with images.open_pages("a.tif") as pages:
        assert [page.width for page in pages] == [80, 40]


def test_levels_between_pages_are_no_pages() -> None:
    for number, side in enumerate((40, 20, 10)):
        page = Image.fromarray(picture(side, side, 3).pixels)
        page.save(f"{number}.tif", tiffinfo={254: 1} if number == 1 else {})
    joined = Document(Path("0.tif"))
    for number in (1, 2):
        joined.append(Path(f"{number}.tif"))
    with images.open_pages("0.tif") as pages:
        assert [page.width for page in pages] == [40, 10]
    assert images.read("0.tif", page=1).width == 10


def test_no_page_takes_longer_to_find_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[int] = []
    raw_entries = _tiff.raw_entries

    def counted(file: BinaryIO, form: _tiff.Form, at: int) -> tuple[list[bytes], int]:
        walked.append(at)
        return raw_entries(file, form, at)

    monkeypatch.setattr(_tiff, "raw_entries", counted)
    counts: list[int] = []
    for count in (6, 12, 18):
        pages = [picture(8, 8, 4)] * count
        images.write_pages(headers(pages), pages, f"{count}.tif")
        walked.clear()
        with images.open_pages(f"{count}.tif") as opened:
            assert [page.width for page in opened.headers()] == [8] * count
            assert all(np.array_equal(page.pixels, pages[0].pixels) for page in opened)
        counts.append(len(walked))
    assert counts[2] - counts[1] == counts[1] - counts[0]


@pytest.mark.parametrize("is_big", [False, True])
def test_libvips_is_shown_one_page_of_many(monkeypatch: pytest.MonkeyPatch, is_big: bool) -> None:
    def needs_big_tiff(_headers: object, _encoding: object) -> bool:
        return is_big

    monkeypatch.setattr(writing, "needs_big_tiff", needs_big_tiff)
    pages = [picture(8, side, 3) for side in (8, 9, 10)]
    images.write_pages(headers(pages), pages, "a.tif")
    with Path("a.tif").open("rb") as file:
        places = page_directories(file)
    for page, place in zip(pages, places, strict=True):
        source = altered(Path("a.tif"), as_only_page(Path("a.tif"), place))
        image = pyvips.Image.new_from_source(source, "")
        assert (image.width, image.get("n-pages")) == (page.width, 1)


@pytest.mark.parametrize("following", [8, 2, 99])
def test_a_damaged_directory_ends_the_pages(following: int) -> None:
    start = b"II*\0" + struct.pack("<I", 8)
    directory = struct.pack("<HHHIII", 1, 254, 4, 1, 0, following)
    assert page_directories(io.BytesIO(start + directory)) == [(0, 8)]


# --- enlarged


def document(*pages: Image.Image) -> str:
    pages[0].save("a.tif", save_all=True, append_images=pages[1:])
    return "a.tif"


def plain(width: int, height: int, mode: str) -> Image.Image:
    return Image.effect_noise((width, height), 60).convert(mode)


def sizes_of(path: str) -> list[tuple[int, int]]:
    with images.open_pages(path) as pages:
        return [(header.width, header.height) for header in pages.headers()]


def test_pages_are_enlarged_each_to_its_own_size(tiny_model: Path) -> None:
    document(plain(30, 60, "RGB"), plain(60, 30, "RGB"), plain(30, 15, "RGB"))
    result = crispen_says("upscale", "a.tif", "--model", tiny_model)
    assert (result.stderr, result.exit_code) == ("", 0)
    assert sizes_of("a-x4.tif") == [(120, 240), (240, 120), (120, 60)]
    result = crispen_says("upscale", "a.tif", "--fit", "90x90", "-o", "b.tif", "--model", tiny_model)
    assert result.exit_code == 0
    assert sizes_of("b.tif") == [(45, 90), (90, 45), (90, 45)]


def test_pages_of_other_kinds_stay_what_they_are(tiny_model: Path) -> None:
    document(plain(20, 16, "L"), plain(20, 16, "RGB"), plain(20, 16, "RGBA"), plain(20, 16, "1"))
    result = crispen_says("upscale", "a.tif", "--model", tiny_model)
    assert (result.stderr, result.exit_code) == ("", 0)
    with images.open_pages("a-x4.tif") as pages:
        kinds = [(header.channels, header.has_alpha) for header in pages.headers()]
    assert kinds == [(1, False), (3, False), (3, True), (1, False)]


def test_frames_get_what_one_of_them_needs(tiny_model: Path) -> None:
    seen_through = plain(20, 16, "RGBA")
    seen_through.putalpha(Image.new("L", (20, 16), 0))
    document(plain(20, 16, "L"), seen_through, plain(20, 16, "RGB"))
    result = crispen_says("upscale", "a.tif", "-o", "a.webp", "--model", tiny_model)
    assert (result.stderr, result.exit_code) == ("", 0)
    opaque = [images.read("a.webp", page=page).alpha for page in range(3)]
    assert [alpha is None or alpha.min() == 255 for alpha in opaque] == [True, False, True]


def test_the_profile_of_each_frame_counts() -> None:
    page = picture(16, 16, 3)
    pages = [replace(page, attachments={"icc-profile-data": profile("p3")}), page]
    images.write_pages(headers(pages), pages, "a.webp", encoding=Encoding(lossless=True))
    assert "icc-profile-data" not in images.read("a.webp").attachments
    assert not np.array_equal(images.read("a.webp").pixels, page.pixels)
    assert np.array_equal(images.read("a.webp", page=1).pixels, page.pixels)


def test_frames_of_several_sizes_are_refused_at_once(tiny_model: Path) -> None:
    document(plain(30, 60, "RGB"), plain(60, 30, "RGB"))
    result = crispen_says("upscale", "a.tif", "-o", "a.gif", "--model", tiny_model)
    assert result.stderr == (
        "crispen: error: a.gif cannot be written: all frames of a GIF have one size, and here are some of 120x240"
        " and some of 240x120 pixels; a TIFF has pages of any size\n"
    )
    assert names() == ["a.tif"]


@pytest.fixture
def nothing_is_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_pages(*_: object, **__: object) -> None:
        pytest.fail("it was found too late")

    monkeypatch.setattr(images, "write_pages", write_pages)


@pytest.mark.usefixtures("nothing_is_enlarged")
def test_transparency_that_cannot_be_kept_is_found_before_the_first_is_enlarged(
    tiny_model: Path,
) -> None:
    seen_through = plain(20, 16, "RGBA")
    seen_through.putalpha(9)
    document(plain(20, 16, "RGBA"), seen_through)
    result = crispen_says("upscale", "a.tif", "-o", "b.tif", "--compression", "jpeg", "--model", tiny_model)
    assert result.stderr.startswith(
        "crispen: error: b.tif cannot be written: TIFF with JPEG compression has no"
    )


@pytest.mark.usefixtures("nothing_is_enlarged")
def test_what_is_wrong_with_the_last_page_is_said_before_the_first_is_enlarged(
    tiny_model: Path,
) -> None:
    document(plain(20, 16, "RGB"), plain(400, 16, "RGB"))
    result = crispen_says("upscale", "a.tif", "--max-megapixels", "0.001", "--model", tiny_model)
    assert result.stderr.startswith("crispen: error: a.tif says that it is 400x16 pixels, above the limit")
