"""Reading: what is in the file is in the picture, and what cannot be is said in one sentence."""

import base64
import io
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from crispen.errors import PictureError
from crispen.images import _tiff, open_pages, read
from crispen.images._metadata import upright
from crispen.images._tiff_pages import Document

HEIGHT, WIDTH = 20, 28
ORIENTATION, MAKE = 0x0112, 0x010F
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'

# 16x16 pixels of one colour, by libheif with x265.
HEIC = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABoAABAAAAAAAAACgAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA/GlwcnAAAADcaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNs"
    "eAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAEAAAAAEAAAAQAAAAAf///9AAAAAC////0AAAAAIAAAAQcGl4"
    "aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAAMG1kYXQAAAAkKAGvGSE5Eu9dpb/3iP+XpX83W3ymSqaXBNeImQsD"
    "gYCNkZ04"
)


def ramp(channels: int = 3) -> NDArray[np.uint8]:
    """A picture without symmetry, smooth enough for lossy formats: (H, W, C)."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [down * 12, across * 9, 255 - down * 6 - across * 4, 40 + down * 5]
    return np.stack(planes[:channels], axis=2).astype(np.uint8)


def pil(channels: int = 3) -> Image.Image:
    array = ramp(channels)
    return Image.fromarray(array[..., 0] if channels == 1 else array)


@cache  # it tells the time of its making
def profile() -> bytes:
    return ImageCms.ImageCmsProfile(cast(Any, ImageCms).createProfile("sRGB")).tobytes()


def save_vips(
    array: NDArray[np.generic], path: Path, *, sample: str, interpretation: str, **options: str
) -> None:
    height, width, bands = array.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(array).data, width, height, bands, sample)
    image.copy(interpretation=interpretation).tiffsave(path)


def png(width: int, height: int) -> bytes:
    """A PNG whose header says what it likes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def refusal(path: Path, *, max_megapixels: float = 1000) -> str:
    with pytest.raises(PictureError) as caught:
        read(path, max_megapixels=max_megapixels)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    return sentence.removeprefix(str(path)).strip()


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.png", {}, 0),
        ("a.tif", {}, 0),
        ("a.tiff", {"compression": "tiff_lzw"}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.webp", {"quality": 95}, 16),
        ("a.jpg", {"quality": 95, "subsampling": 0}, 6),
        ("a.jpg", {"quality": 95, "subsampling": 0, "progressive": True}, 6),
    ],
)
def test_colour(tmp_path: Path, name: str, options: dict[str, Any], tolerance: int) -> None:
    pil().save(tmp_path / name, **options)
    picture = read(tmp_path / name)
    assert (picture.height, picture.width, picture.bit_depth) == (HEIGHT, WIDTH, 8)
    assert np.abs(picture.pixels.astype(int) - ramp()).max() <= tolerance
    assert (picture.alpha, dict(picture.attachments), picture.resolution) == (None, {}, None)


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    pil().save(tmp_path / "a.jpg", format="PNG")
    assert np.array_equal(read(tmp_path / "a.jpg").pixels, ramp())
    assert np.array_equal(read(str(tmp_path / "a.jpg")).pixels, ramp())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_gray_stays_one_channel(tmp_path: Path, name: str) -> None:
    pil(1).save(tmp_path / name, quality=95)
    picture = read(tmp_path / name)
    assert picture.pixels.shape == (HEIGHT, WIDTH, 1)
    assert np.abs(picture.pixels.astype(int) - ramp(1)).max() <= (4 if name == "a.jpg" else 0)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_alpha_is_set_aside(tmp_path: Path, name: str, channels: int) -> None:
    pil(channels).save(tmp_path / name)
    picture = read(tmp_path / name)
    assert np.array_equal(picture.pixels, ramp(channels)[..., :-1])
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, ramp(channels)[..., -1])


def test_a_transparent_colour_is_alpha(tmp_path: Path) -> None:
    pil(1).save(tmp_path / "a.png", transparency=12)
    picture = read(tmp_path / "a.png")
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, ramp(1)[..., 0] == 12)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_one_bit_is_black_and_white(tmp_path: Path, name: str) -> None:
    image = pil(1).convert("1")
    image.save(tmp_path / name)
    picture = read(tmp_path / name)
    assert picture.pixels.dtype == np.uint8
    assert np.array_equal(picture.pixels[..., 0], np.asarray(image) * 255)


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_palette_becomes_colour(tmp_path: Path, name: str) -> None:
    image = pil().quantize(16)
    image.save(tmp_path / name)
    picture = read(tmp_path / name)
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))


def test_palette_with_transparency_has_alpha(tmp_path: Path) -> None:
    pil().quantize(16).save(tmp_path / "a.png", transparency=3)
    picture = read(tmp_path / "a.png")
    assert picture.pixels.shape[2] == 3
    assert picture.alpha is not None
    assert set(np.unique(picture.alpha)) == {0, 255}


def test_the_first_frame(tmp_path: Path) -> None:
    first = pil().quantize(16)
    first.save(tmp_path / "a.gif", save_all=True, append_images=[first.rotate(180)] * 2)
    assert np.array_equal(read(tmp_path / "a.gif").pixels, np.asarray(first.convert("RGB")))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("peak", [200, 65535])  # a dark 16-bit picture is still a 16-bit picture
def test_16_bit_gray(tmp_path: Path, name: str, peak: int) -> None:
    array = np.linspace(0, peak, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    Image.fromarray(array).save(tmp_path / name)
    picture = read(tmp_path / name)
    assert picture.bit_depth == 16
    assert np.array_equal(picture.pixels[..., 0], array)


@pytest.mark.parametrize("bands", [3, 4])
def test_16_bit_colour(tmp_path: Path, bands: int) -> None:
    array = ramp(bands).astype(np.uint16) * 3
    image = pyvips.Image.new_from_memory(array.data, WIDTH, HEIGHT, bands, "ushort").copy(
        interpretation="rgb16"
    )
    image.pngsave(tmp_path / "a.png")
    image.tiffsave(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        picture = read(tmp_path / name)
        assert picture.pixels.dtype == np.uint16
        assert np.array_equal(picture.pixels, array[..., :3])
        assert (picture.alpha is None) == (bands == 3)
        if picture.alpha is not None:
            assert np.array_equal(picture.alpha, array[..., 3])


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_float_tiff(tmp_path: Path, bands: int) -> None:
    array = ramp(bands).astype(np.float32) / 255
    save_vips(array, tmp_path / "a.tif", sample="float", interpretation="b-w" if bands == 1 else "scrgb")
    picture = read(tmp_path / "a.tif")
    assert picture.bit_depth == 32
    assert np.array_equal(picture.pixels, array[..., :3])
    assert (picture.alpha is None) == (bands != 4)


def test_floats_that_ring_are_clipped(tmp_path: Path) -> None:
    array = np.linspace(-0.1, 1.2, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    Image.fromarray(array).save(tmp_path / "a.tif")
    assert np.array_equal(read(tmp_path / "a.tif").pixels[..., 0], array.clip(0, 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 255.0, -1.0])
def test_other_floats_are_refused(tmp_path: Path, bad: float) -> None:
    array = np.zeros((HEIGHT, WIDTH), np.float32)
    array[3, 4] = bad
    Image.fromarray(array).save(tmp_path / "a.tif")
    assert "must lie in [0, 1]" in refusal(tmp_path / "a.tif")


def test_one_pixel(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.tif", "a.webp"):
        Image.new("RGB", (1, 1), (200, 200, 200)).save(tmp_path / name)
        assert np.abs(read(tmp_path / name).pixels.astype(int) - 200).max() <= 2


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_becomes_srgb(tmp_path: Path, name: str) -> None:
    paper = Image.new("CMYK", (WIDTH, HEIGHT), (0, 0, 0, 0))
    paper.paste((0, 255, 255, 0), (0, 0, WIDTH // 2, HEIGHT))
    paper.paste((0, 0, 0, 255), (0, HEIGHT - 8, WIDTH, HEIGHT))
    paper.save(tmp_path / name, quality=100)
    picture = read(tmp_path / name)
    red, white = picture.pixels[5, 2], picture.pixels[5, -2]
    assert picture.pixels.shape == (HEIGHT, WIDTH, 3)
    assert (white > 250).all()
    assert (picture.pixels[-2, 5] < 30).all()  # not the dark gray that it is on paper
    assert red[0] > 180
    assert red[1] < 80
    assert "icc-profile-data" not in picture.attachments


def ycbcr_tiff(
    picture: Image.Image,
    *,
    bits: int = 8,
    coefficients: bytes = b"",
    levels: bytes = b"",
    reduced: bool = False,
) -> bytes:
    """An uncompressed TIFF by hand; ``reduced`` leaves unsaid how, and has one colour for 2x2 pixels."""
    values = np.asarray(picture.convert("YCbCr"))
    height, width = values.shape[:2]
    if reduced:
        blocks = values.reshape(height // 2, 2, width // 2, 2, 3).swapaxes(1, 2).reshape(-1, 4, 3)
        values = np.concatenate([blocks[..., 0], blocks[..., 1:].mean(axis=1)], axis=1).astype(np.uint8)
    pixels = (values.astype(np.uint16) * 257 if bits == 16 else values).tobytes()
    tags: list[tuple[int, int, int, bytes]] = [
        *((256, 3, 1, struct.pack("<H", width)), (257, 3, 1, struct.pack("<H", height))),
        *((258, 3, 3, struct.pack("<3H", bits, bits, bits)), (259, 3, 1, b"\1"), (262, 3, 1, b"\6")),
        *((273, 4, 1, struct.pack("<I", 8)), (277, 3, 1, b"\3"), (278, 3, 1, struct.pack("<H", height))),
        (279, 4, 1, struct.pack("<I", len(pixels))),
        *([(529, 5, 3, coefficients)] if coefficients else []),
        *([] if reduced else [(530, 3, 2, struct.pack("<HH", 1, 1))]),
        *([(532, 5, 6, levels)] if levels else []),
    ]
    behind = 8 + len(pixels) + 2 + 12 * len(tags) + 4
    directory, tail = struct.pack("<H", len(tags)), b""
    for tag, kind, count, value in tags:
        offset = struct.pack("<I", behind + len(tail))
        directory += struct.pack("<HHI4s", tag, kind, count, value if len(value) <= 4 else offset)
        tail += value if len(value) > 4 else b""
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + directory + bytes(4) + tail


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "jpeg"])
def test_ycbcr_becomes_rgb(tmp_path: Path, compression: str | None) -> None:
    picture = Image.fromarray(ramp(3)).convert("YCbCr")
    picture.save(tmp_path / "a.tif", compression=compression)
    again = read(tmp_path / "a.tif")
    assert again.alpha is None
    expected = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(again.pixels - expected).max() <= (12 if compression == "jpeg" else 1)


@pytest.mark.parametrize("reduced", [False, True])
def test_ycbcr_whose_kind_is_unsaid(tmp_path: Path, reduced: bool) -> None:
    picture = Image.fromarray(ramp(3))
    (tmp_path / "a.tif").write_bytes(ycbcr_tiff(picture, reduced=reduced))
    again = read(tmp_path / "a.tif")
    assert again.alpha is None
    assert np.abs(again.pixels.astype(int) - ramp(3)).max() <= (12 if reduced else 3)


def test_ycbcr_as_films_have_it(tmp_path: Path) -> None:
    """BT.709, and black is 16: white is 235, and full red is at 63, 102, 240."""
    coefficients = struct.pack("<6I", 2126, 10_000, 7152, 10_000, 722, 10_000)
    levels = struct.pack("<12I", 16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
    values = np.array([[[16, 128, 128], [235, 128, 128], [63, 102, 240], [126, 128, 128]]], np.uint8)
    picture = Image.fromarray(values, "YCbCr")
    (tmp_path / "a.tif").write_bytes(ycbcr_tiff(picture, coefficients=coefficients, levels=levels))
    expected = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [128, 128, 128]]])
    assert np.abs(read(tmp_path / "a.tif").pixels - expected).max() <= 2


@pytest.mark.parametrize(
    "unusual",
    [
        {"bits": 16},
        {"coefficients": struct.pack("<6I", 1, 0, 1, 2, 0, 1)},
        {"levels": struct.pack("<12I", *[9, 1] * 6)},
    ],
)
def test_ycbcr_of_other_kinds_is_refused(tmp_path: Path, unusual: dict[str, Any]) -> None:
    (tmp_path / "a.tif").write_bytes(ycbcr_tiff(Image.fromarray(ramp(3)), **unusual))
    with pytest.raises(PictureError, match=r"a\.tif is YCbCr of an unsupported kind: convert it to RGB"):
        read(tmp_path / "a.tif")


def test_16_bit_cmyk_and_lab_keep_their_depth(tmp_path: Path) -> None:
    ink = np.full((HEIGHT, WIDTH, 4), 20000, np.uint16)
    save_vips(ink, tmp_path / "ink.tif", sample="ushort", interpretation="cmyk")
    assert read(tmp_path / "ink.tif").bit_depth == 16
    gray = pyvips.Image.new_from_memory(
        np.full((HEIGHT, WIDTH, 3), 100, np.uint8).data, WIDTH, HEIGHT, 3, "uchar"
    )
    gray.copy(interpretation="srgb").colourspace("labs").tiffsave(tmp_path / "lab.tif")
    picture = read(tmp_path / "lab.tif")
    assert picture.bit_depth == 16
    assert np.abs(picture.pixels / 257 - 100).max() < 0.1


@pytest.mark.parametrize("form", ["labs", "lab"])
def test_16_bit_and_float_lab_have_the_white_of_icc(tmp_path: Path, form: str) -> None:
    colours = np.array([[(200, 30, 60), (20, 60, 220), (128, 128, 128), (250, 240, 90)]], np.uint8)
    image = pyvips.Image.new_from_memory(colours.tobytes(), 4, 1, 3, "uchar").copy(interpretation="srgb")
    lab = image.icc_import(input_profile="srgb", pcs="lab", intent="relative").colourspace(form)
    lab.tiffsave(tmp_path / "a.tif")
    picture = read(tmp_path / "a.tif")
    assert picture.bit_depth == 16
    assert np.abs(picture.pixels / 257 - colours).max() < 1


def lab_tiff(path: Path, values: NDArray[np.uint8], *, extra: int | None = None, **options: Any) -> Path:
    """A TIFF of L*, a* and b* as 8 bit: libvips writes them as RGB, and the file then says otherwise."""
    height, width, bands = values.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(values).data, width, height, bands, "uchar")
    image.copy(interpretation="srgb").tiffsave(path, **options)
    with path.open("r+b") as file:
        form = _tiff.form_of(file)
        said = _tiff.numbers_of(file, form, _tiff.first_directory(file, form), (262, 338))
        for tag, value in ((262, 8), (338, extra)):
            if value is not None:
                file.seek(said[tag].at)
                file.write(struct.pack(said[tag].form, value))
    return path


def lab_values() -> NDArray[np.uint8]:
    """Colours that sRGB has."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    values = np.stack([110 + 4 * down, across - 14, down - across // 2], axis=2)
    return values.astype(np.int16).astype(np.uint8)


def lab_seen(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same colours as sRGB, by way of floats."""
    lab = np.dstack(
        [values[..., 0] * np.float32(100 / 255), values[..., 1:].view(np.int8).astype(np.float32)]
    )
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(lab).data, WIDTH, HEIGHT, 3, "float")
    srgb = image.copy(interpretation="lab").icc_export(output_profile="srgb", pcs="lab", intent="relative")
    return np.frombuffer(srgb.write_to_memory(), np.uint8).reshape(values.shape)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw", "predictor": "horizontal"},
        {"compression": "deflate", "tile": True, "tile_width": 16, "tile_height": 16},
        {"bigtiff": True},
    ],
)
def test_8_bit_lab_becomes_srgb(tmp_path: Path, options: dict[str, Any]) -> None:
    values = lab_values()
    picture = read(lab_tiff(tmp_path / "a.tif", values, **options))
    assert picture.pixels.dtype == np.uint8
    assert picture.alpha is None
    assert np.array_equal(picture.pixels, lab_seen(values))


def test_8_bit_lab_by_another_program(tmp_path: Path) -> None:
    muted = ramp(3) // 3 + np.uint8(80)
    Image.fromarray(muted).convert("LAB").save(tmp_path / "a.tif", icc_profile=profile())
    picture = read(tmp_path / "a.tif")
    assert "icc-profile-data" not in picture.attachments
    assert np.abs(picture.pixels.astype(int) - muted).max() < 8  # of 255: Lab of 8 bit is coarse


def test_pages_of_8_bit_lab(tmp_path: Path) -> None:
    first = lab_tiff(tmp_path / "a.tif", lab_values()[::-1])
    joined = Document(first)
    Image.fromarray(ramp(3)).save(tmp_path / "b.tif")
    joined.append(tmp_path / "b.tif")
    joined.append(lab_tiff(tmp_path / "c.tif", lab_values()))
    expected = [lab_seen(lab_values()[::-1]), ramp(3), lab_seen(lab_values())]
    with open_pages(first) as pages:
        assert len(pages.headers()) == 3
        for found, page in zip(pages, expected, strict=True):
            assert np.array_equal(found.pixels, page)
    assert np.array_equal(read(first, page=2).pixels, expected[2])


def test_8_bit_lab_with_alpha(tmp_path: Path) -> None:
    values = np.dstack([lab_values(), ramp(1)])
    picture = read(lab_tiff(tmp_path / "a.tif", values))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, ramp(1)[..., 0])
    assert np.array_equal(picture.pixels, lab_seen(lab_values()))
    sentence = refusal(lab_tiff(tmp_path / "b.tif", values, extra=1))
    assert sentence == "is Lab whose colours are multiplied by its alpha: convert it to RGB"


def test_a_reason_is_never_that_of_a_file_in_another_thread(tmp_path: Path) -> None:
    """libvips has one text for the errors of all threads."""
    pil().save(tmp_path / "a.jpg")
    pil().save(tmp_path / "b.png")
    said: dict[str, set[str]] = {}
    for path in (tmp_path / "a.jpg", tmp_path / "b.png"):
        path.write_bytes(path.read_bytes()[:-40])
        said[path.name] = {refusal(path).partition(" (")[0], refusal(path)}

    def attempt(path: Path) -> set[str]:
        return {refusal(path) for _ in range(200)}

    with ThreadPoolExecutor() as pool:
        paths = [tmp_path / name for name in said for _ in range(2)]
        for path, found in zip(paths, pool.map(attempt, paths), strict=True):
            assert found <= said[path.name]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pil().save(tmp_path / name, exif=exif)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read(tmp_path / name).pixels, expected)


def test_no_tag_turns_the_picture_again(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = 6, "Crispen"
    pil().save(tmp_path / "a.jpg", exif=exif, xmp=XMP, dpi=(300, 200))
    picture = read(tmp_path / "a.jpg")
    kept = Image.Exif()
    kept.load(picture.attachments["exif-data"])
    assert (kept[ORIENTATION], kept[MAKE]) == (1, "Crispen")
    assert picture.attachments["xmp-data"] == XMP.replace(b'"6"', b'"1"')
    assert picture.resolution == pytest.approx((200 / 25.4, 300 / 25.4))


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_thumbnail_of_a_turned_picture_is_cut_off(tmp_path: Path, order: str) -> None:
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    entry = struct.pack(f"{order}HHHIHH", 1, ORIENTATION, 3, 1, 3, 0)  # one entry: one number of 2 bytes, a 3
    thumbnail = struct.pack(f"{order}HHHIHHI", 1, 0x0103, 3, 1, 6, 0, 0)
    offset = struct.pack(f"{order}I", len(header + entry) + 4)
    pil().save(tmp_path / "a.png", exif=b"Exif\0\0" + header + entry + offset + thumbnail)
    kept = read(tmp_path / "a.png").attachments["exif-data"].removeprefix(b"Exif\0\0")
    turned = struct.pack(f"{order}HHHIHH", 1, ORIENTATION, 3, 1, 1, 0)
    assert kept == header + turned + bytes(4) + thumbnail


def test_exif_that_cannot_be_parsed_is_left_out_of_a_turned_picture() -> None:
    for exif in (
        b"",
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"what?",
    ):
        assert upright({"exif-data": exif, "iptc-data": b"kept"}) == {"iptc-data": b"kept"}


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])  # TIFF's: with the writing
def test_metadata_is_kept(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[MAKE] = "Crispen"
    options: dict[str, Any] = {} if name == "a.png" else {"xmp": XMP}
    pil().save(tmp_path / name, icc_profile=profile(), exif=exif, dpi=(300, 300), **options)
    picture = read(tmp_path / name)
    assert picture.attachments["icc-profile-data"] == profile()
    assert picture.attachments.get("xmp-data") == options.get("xmp")
    assert b"Crispen" in picture.attachments["exif-data"]
    if name != "a.webp":
        assert picture.resolution == pytest.approx((300 / 25.4, 300 / 25.4), rel=1e-3)


def test_a_rewritten_file_is_read_anew(tmp_path: Path) -> None:
    for level in (10, 20):
        Image.new("L", (WIDTH, HEIGHT), level).save(tmp_path / "a.png")
        assert (read(tmp_path / "a.png").pixels == level).all()


def test_libvips_keeps_nothing_of_a_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    pil().save(tmp_path / "a.png", exif=exif)
    read(tmp_path / "a.png")
    assert pyvips.cache_get_size() == 0


def test_pixels_may_be_written_to(tmp_path: Path) -> None:
    pil().save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png")
    picture.pixels[0, 0] = 7
    assert (picture.pixels[0, 0] == 7).all()


def test_strange_names(tmp_path: Path) -> None:
    for name in ("a[n=2].png", "ümläut b.png", os.fsdecode(b"\xff.png")):
        pil().save(tmp_path / name)
        assert np.array_equal(read(tmp_path / name).pixels, ramp())


def test_missing_folder_empty_and_no_picture(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("2 2\n1 2\n3 4\n")  # libvips would take it for a matrix
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (tmp_path / "short").write_bytes(b"\x89")
    assert refusal(tmp_path / "nothing.png") == "does not exist"
    assert refusal(tmp_path) == "is a folder, not a picture"
    assert refusal(tmp_path / "empty.png") == "is empty"
    for name in ("text.png", "drawing.svg", "short"):
        assert refusal(tmp_path / name).startswith("is not a picture of a known kind (PNG, JPEG")
    assert refusal(tmp_path / "text.png" / "a.png") == "cannot be read: Not a directory"


def test_heic_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(base64.b64decode(HEIC))
    try:
        assert read(tmp_path / "a.heic").width == 16
    except PictureError:
        sentence = "is HEIC, which cannot be read: convert it to JPEG or PNG"
        assert refusal(tmp_path / "a.heic") == sentence


@pytest.mark.parametrize(
    "start",
    [
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        b"\0\0\0\x14ftypqt  \0\0\2\0qt  ",
        b"\0\0\0\x1cftypM4V \0\0\0\1isom",
        b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81",
        b"RIFF\0\0\0\0AVI LIST",
    ],
)
def test_a_film_is_said_to_be_one(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "f.mp4").write_bytes(start + bytes(40))
    assert refusal(tmp_path / "f.mp4") == (
        "is a film, not a picture: films are for crispen.films.enlarge, and for crispen upscale on the command line"
        " where their names end as films' do"
    )


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(tmp_path / "a.png") == "cannot be read: Permission denied"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.jpg", {"quality": 95}),
        ("a.jpg", {"quality": 95, "progressive": True}),
        ("a.webp", {"quality": 95}),
        ("a.webp", {"lossless": True}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_deflate"}),
        ("a.gif", {}),
    ],
)
def test_cut_short(tmp_path: Path, name: str, options: dict[str, Any], share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, Image.registered_extensions()[Path(name).suffix], **options)
    (tmp_path / name).write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
    assert refusal(tmp_path / name).startswith(
        ("is damaged or cut short", "has a damaged or unsupported header", "is not a picture of a known kind")
    )


def test_the_reason_is_that_of_this_file(tmp_path: Path) -> None:
    pil().save(tmp_path / "a.jpg")
    (tmp_path / "jpeg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    (tmp_path / "png").write_bytes(png(0, 5))
    assert "premature end of JPEG" in refusal(tmp_path / "jpeg")
    pil().save(tmp_path / "good.avif")
    read(tmp_path / "good.avif")  # leaves "bad seek" behind, though nothing is wrong
    assert refusal(tmp_path / "png") == "has a damaged or unsupported header"


def test_the_size_is_checked_before_anything_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(png(100_000, 100_000))
    sentence = refusal(tmp_path / "huge.png")
    assert sentence == "says that it is 100000x100000 pixels, above the limit of 1000 megapixels"
    (tmp_path / "larger.png").write_bytes(png(2**31 - 1, 2**31 - 1))
    assert refusal(tmp_path / "larger.png") == "has a damaged or unsupported header"


def test_the_limit_can_be_set(tmp_path: Path) -> None:
    pil().save(tmp_path / "a.png")
    exactly = HEIGHT * WIDTH / 1e6
    assert read(tmp_path / "a.png", max_megapixels=exactly).width == WIDTH
    assert "above the limit" in refusal(tmp_path / "a.png", max_megapixels=exactly * 0.99)


def test_channels_and_samples_that_no_picture_has(tmp_path: Path) -> None:
    save_vips(np.zeros((9, 9, 6), np.uint8), tmp_path / "six.tif", sample="uchar", interpretation="srgb")
    assert refusal(tmp_path / "six.tif").startswith("has 6 channels, but must be")
    save_vips(np.zeros((9, 9, 1), np.int32), tmp_path / "int.tif", sample="int", interpretation="b-w")
    assert refusal(tmp_path / "int.tif").startswith("holds samples of type int, but must hold")


def test_nothing_is_said_on_stderr(tmp_path: Path) -> None:
    pil().save(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:900])
    code = (
        "import sys; from crispen.images import read; from crispen.errors import PictureError\n"
        "try: read(sys.argv[1])\n"
        "except PictureError: sys.exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.tif"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


def test_real_pictures() -> None:
    shared = Path(os.environ.get("CRISPEN_SHARED", Path(__file__).parents[2] / "shared"))
    paths = sorted((shared / "data" / "real").glob("*.*"))
    if not paths:
        pytest.skip("the real pictures are not here")
    for path in paths:
        with Image.open(path) as image:
            picture = read(path)
            assert (picture.width, picture.height) == image.size
            assert (picture.alpha is not None) == ("A" in image.mode)
            assert (picture.pixels.shape[2] == 1) == image.mode.startswith("L")


def test_many_at_once(tmp_path: Path) -> None:
    """libvips keeps one error buffer for all threads; no good file may suffer from a bad one."""
    pil().save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])

    def attempt(index: int) -> bool:
        if index % 2:
            refusal(tmp_path / "bad.png")
            return True
        return np.array_equal(read(tmp_path / "good.png").pixels, ramp())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(attempt, range(60)))
