"""Formats: those libvips does not know, pages and frames, what can be asked of each, and colours that stay."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image

from crispen import images
from crispen.errors import PictureError, UsageError
from crispen.images import Animation, Encoding, _vips, colour, formats

HEIGHT, WIDTH = 13, 21
HEIF_AND_JXL = [
    f".{name}" for name in ("avif", "heic", "jxl") if formats.missing_part(formats.FORMATS[name]) is None
]  # libvips may lack those
METADATA_SUFFIXES = [".png", ".jpg", ".webp", ".tif", *HEIF_AND_JXL]


def ramp(channels: int = 3) -> NDArray[np.uint8]:
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [down * 19, across * 12, 255 - down * 9 - across * 5, 40 + down * 5]
    return np.stack(planes[:channels], axis=2).astype(np.uint8)


def profile(name: str) -> bytes:
    return cast(bytes, cast(Any, pyvips).Operation.call("profile_load", name))


@pytest.mark.parametrize("mode", ["1", "P", "L", "RGB"])
def test_bmp_as_pil_reads_it(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(ramp()).convert(mode)
    image.save(tmp_path / "a.bmp", dpi=(300, 200))
    picture = images.read(tmp_path / "a.bmp")
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert picture.alpha is None
    assert picture.resolution == pytest.approx((300 / 25.4, 200 / 25.4), rel=1e-3)


def bmp(
    bits: int, compression: int, data: bytes, *, height: int = 2, masks: bytes = b"", colours: int = 0
) -> bytes:
    palette = b"".join(bytes([9 * index, 5 * index, index, 0]) for index in range(colours))
    start = 54 + len(masks) + len(palette)
    header = struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start)
    header += struct.pack("<IiiHHIIiiII", 40, 4, height, 1, bits, compression, len(data), 0, 0, colours, 0)
    return header + masks + palette + data


def test_bmp_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    colour = np.array([1, 5, 9])
    path.write_bytes(bmp(8, 1, bytes([4, 3, 0, 0, 0, 3, 1, 2, 3, 0, 1, 7, 0, 1]), colours=16))
    expected = np.array([[1, 2, 3, 7], [3, 3, 3, 3]])  # from the bottom up
    assert np.array_equal(images.read(path).pixels, expected[..., np.newaxis] * colour)
    path.write_bytes(bmp(4, 2, bytes([4, 0x35, 0, 0, 2, 0x11, 0, 2, 1, 0, 1, 0x40, 0, 1]), colours=16))
    expected = np.array([[1, 1, 0, 4], [3, 5, 3, 5]])
    assert np.array_equal(images.read(path).pixels, expected[..., np.newaxis] * colour)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    words = struct.pack("<8H", *[0xF800, 0x07E0, 0x001F, 0xFFFF, 0, 0, 0, 0x8410])
    path.write_bytes(bmp(16, 3, words, height=-2, masks=masks))  # from the top down
    found = images.read(path).pixels
    assert found[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    assert found[1, 3].tolist() == [132, 130, 132]


def test_bmp_with_alpha(tmp_path: Path) -> None:
    masks = struct.pack("<IIII", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    (tmp_path / "a.bmp").write_bytes(bmp(32, 6, pixels.tobytes(), height=-2, masks=masks))
    picture = images.read(tmp_path / "a.bmp")
    assert np.array_equal(picture.pixels, pixels[..., :3])
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, pixels[..., 3])
    (tmp_path / "a.bmp").write_bytes(bmp(32, 0, pixels.tobytes(), height=-2))
    assert images.read(tmp_path / "a.bmp").alpha is None  # the fourth byte means nothing there


def test_bmp_of_a_kind_that_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    for data in (bmp(24, 4, b""), bmp(7, 0, bytes(16)), bmp(24, 0, bytes(24))[:30], bmp(8, 3, bytes(8))):
        path.write_bytes(data)
        with pytest.raises(PictureError, match="damaged or unsupported header"):
            images.read(path)
    path.write_bytes(bmp(8, 0, b"\x09" * 8, colours=4))
    with pytest.raises(PictureError, match="a colour is not in its palette"):
        images.read(path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P1\n# a comment\n3 2\n010\n1 1 1\n", [[255, 0, 255], [0, 0, 0]]),
        (b"P2 3 2 100\n0 50 100 100 100 25\n", [[0, 128, 255], [255, 255, 64]]),
        (b"P4\n3 2\n\x40\xe0", [[255, 0, 255], [0, 0, 0]]),
        (b"P5\n3 2\n# white\n255\n\x01\x02\x03\x04\x05\x06", [[1, 2, 3], [4, 5, 6]]),
        (b"P5 3 1 1000\n\0\0\x03\xe8\x01\xf4", [[0, 65535, 32768]]),
        (b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", 0, 0.25, 0.5, 1), [[0.5, 1], [0, 0.25]]),
        (b"Pf\n2 2\n1.0\n" + struct.pack(">4f", 0, 0.25, 0.5, 1), [[0.5, 1], [0, 0.25]]),
    ],
)
def test_netpbm(tmp_path: Path, data: bytes, expected: list[list[float]]) -> None:
    (tmp_path / "a.pnm").write_bytes(data)
    assert images.read(tmp_path / "a.pnm").pixels[..., 0].tolist() == expected


@pytest.mark.parametrize(
    "data",
    [
        b"P5 3",
        b"P5 0 3 255\n",
        b"P5 3 2 0\n123456",
        b"P5 3 2 70000\n123456",
        b"Pf 1 1 nan\n1234",
        b"P6 a b c\n",
    ],
)
def test_netpbm_headers_that_make_no_sense(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.ppm").write_bytes(data)
    with pytest.raises(PictureError, match="damaged or unsupported header"):
        images.read(tmp_path / "a.ppm")


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_floats_that_no_picture_has(tmp_path: Path, value: float) -> None:
    (tmp_path / "a.pfm").write_bytes(b"Pf\n1 1\n-1.0\n" + struct.pack("<f", value))
    with pytest.raises(PictureError, match=r"must lie in \[0, 1\]"):
        images.read(tmp_path / "a.pfm")


@pytest.mark.parametrize("suffix", HEIF_AND_JXL)
@pytest.mark.parametrize("lossless", [True, False])
def test_deep_white_is_white(tmp_path: Path, suffix: str, lossless: bool) -> None:
    white = images.from_array(np.full((8, 8, 3), 65535, np.uint16))
    images.write(white, tmp_path / f"a{suffix}", encoding=Encoding(lossless=lossless))
    picture = images.read(tmp_path / f"a{suffix}")
    assert picture.bit_depth == 16
    assert picture.pixels.min() >= (65535 if lossless else 65300)


@pytest.mark.parametrize("suffix", HEIF_AND_JXL)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [16, 32])
def test_lossless_and_deep(tmp_path: Path, suffix: str, channels: int, depth: int) -> None:
    """JPEG XL keeps 16 bits and floats exactly; HEIF has 12 bits at most."""
    deep = np.random.default_rng(0).integers(0, 65536, (16, 16, channels), dtype=np.uint16)
    picture = images.from_array(cast(Any, images.to_depth(deep, depth)))
    images.write(picture, tmp_path / f"a{suffix}", encoding=Encoding(lossless=True))
    found = images.to_array(images.read(tmp_path / f"a{suffix}"))
    expected = images.to_depth(images.to_array(picture), 8 * found.dtype.itemsize)
    if found.shape[2] > channels:
        expected = np.concatenate([expected[..., :1].repeat(3, axis=2), expected[..., 1:]], axis=2)
    error = 0 if suffix == ".jxl" else 65535 / 4095
    assert np.abs(found - expected.astype(float)).max() <= error


@pytest.mark.parametrize("suffix", [".webp", ".png", ".tif", *HEIF_AND_JXL])
def test_lossless(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    images.write(images.from_array(noise), tmp_path / f"a{suffix}", encoding=Encoding(lossless=True))
    assert np.array_equal(images.read(tmp_path / f"a{suffix}").pixels, noise)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", *HEIF_AND_JXL])
def test_quality(tmp_path: Path, suffix: str) -> None:
    noise = images.from_array(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    for quality in (30, 90):
        images.write(noise, tmp_path / f"{quality}{suffix}", encoding=Encoding(quality=quality))
    assert (tmp_path / f"30{suffix}").stat().st_size < (tmp_path / f"90{suffix}").stat().st_size


def test_the_format_may_be_named(tmp_path: Path) -> None:
    images.write(images.from_array(ramp()), tmp_path / "picture", encoding=Encoding(format="png"))
    assert (tmp_path / "picture").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("asked", "name", "sentence"),
    [
        ({"format": "bmp"}, "a.png", "format must be one of png, jpeg"),
        ({"quality": 0}, "a.jpg", "quality must be from 1 to 100, not 0"),
        ({"quality": 80}, "a.png", "PNG takes no quality"),
        ({"lossless": True}, "a.jpg", "JPEG cannot be lossless"),
        ({"lossless": True, "quality": 5}, "a.webp", "no room for a quality"),
        ({"pyramid": True}, "a.png", "PNG has neither pyramids"),
        ({"compression": "zip"}, "a.tif", "compression must be one of deflate"),
    ],
)
def test_encodings_that_cannot_be(tmp_path: Path, asked: dict[str, Any], name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        images.write(images.from_array(ramp()), tmp_path / name, encoding=Encoding(**asked))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".heic", ".jxl"])
def test_what_libvips_lacks_is_said(tmp_path: Path, suffix: str) -> None:
    if suffix in HEIF_AND_JXL:
        pytest.skip("this libvips has it")
    with pytest.raises(PictureError, match=r"the installed libvips (was built without|has no encoder for)"):
        images.check_destination(tmp_path / f"a{suffix}")


def test_an_old_libvips_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyvips, "version", (8, 16, 1).__getitem__)
    with pytest.raises(
        PictureError, match=r"the installed libvips is 8\.16, but pictures need 8\.18 or newer"
    ):
        cast(Any, _vips.vips).__wrapped__()


@pytest.mark.parametrize("suffix", HEIF_AND_JXL)
def test_exif_turns_nothing_that_the_decoder_turns(tmp_path: Path, suffix: str) -> None:
    """HEIF and JPEG XL say themselves how they are turned; cameras leave EXIF's orientation beside that."""
    exif = Image.Exif()
    exif[0x0112] = 1
    picture = replace(images.from_array(ramp()), attachments={"exif-data": exif.tobytes()})
    path = tmp_path / f"a{suffix}"
    images.write(picture, path)
    with_its_tag, with_another = (struct.pack(">HHIHH", 0x0112, 3, 1, value, 0) for value in (1, 6))
    data = path.read_bytes()
    if suffix == ".jxl":  # what is written is compressed: another box, in front of it, is not
        block = bytes(4) + b"MM\0*" + struct.pack(">IH", 8, 1) + with_its_tag + bytes(4)
        data = data[:32] + struct.pack(">I4s", 8 + len(block), b"Exif") + block + data[32:]
    assert data.count(with_its_tag) == 1
    path.write_bytes(data.replace(with_its_tag, with_another))
    again = images.read(path)
    assert (again.height, again.width) == (HEIGHT, WIDTH)
    found = Image.Exif()
    found.load(again.attachments["exif-data"])
    assert found[0x0112] == 1


def test_an_avif_that_says_itself_how_it_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ramp()).save(tmp_path / "a.avif", exif=exif, quality=100)
    found = images.read(tmp_path / "a.avif").pixels.astype(int)
    assert np.abs(found - np.rot90(ramp(), -1)).mean() < 15  # its colours have half the resolution
    assert np.abs(found - np.rot90(ramp(), 1)).mean() > 50


def test_jpeg_xl_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a" + bytes(30))
    with pytest.raises(PictureError, match=r"is JPEG XL, which cannot be read|damaged"):
        images.read(tmp_path / "a.jxl")


def test_pgm_has_no_colours(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="PGM has no colours"):
        images.write(images.from_array(ramp()), tmp_path / "a.pgm")


def test_a_pyramid_is_one_picture(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(600), np.arange(700)).astype(np.uint8)
    images.write(images.from_array(smooth), tmp_path / "a.tif", encoding=Encoding(pyramid=True))
    with Image.open(tmp_path / "a.tif") as image:
        assert cast(Any, image).n_frames > 1
    with images.open_pages(tmp_path / "a.tif") as pages:
        assert len(pages) == 1
    assert np.array_equal(images.read(tmp_path / "a.tif").pixels[..., 0], smooth)


@pytest.mark.parametrize("pyramid", [False, True])
@pytest.mark.parametrize("depth", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg_in_a_tiff_looks_the_same(tmp_path: Path, pyramid: bool, depth: int, channels: int) -> None:
    """It has 8 bits and no alpha; what is opaque can do without."""
    encoding = Encoding(compression="jpeg", pyramid=pyramid, quality=100)
    array = ramp(channels)
    array[..., channels - (channels % 2 == 0) :] = 255
    picture = images.from_array(cast(Any, images.to_depth(array, depth)))
    images.write(picture, tmp_path / "a.tif", encoding=encoding)
    again = images.read(tmp_path / "a.tif")
    assert (again.bit_depth, again.alpha) == (8, None)
    assert np.abs(again.pixels.astype(int) - images.to_depth(picture.pixels, 8)).max() <= 8


@pytest.mark.parametrize("pyramid", [False, True])
def test_jpeg_in_a_tiff_has_no_alpha(tmp_path: Path, pyramid: bool) -> None:
    encoding = Encoding(compression="jpeg", pyramid=pyramid)
    with pytest.raises(
        PictureError, match="TIFF with JPEG compression has no transparency, and the picture has"
    ):
        images.write(images.from_array(ramp(4)), tmp_path / "a.tif", encoding=encoding)
    assert not list(tmp_path.iterdir())


def test_jpeg_in_a_tiff_may_be_wider_than_a_jpeg(tmp_path: Path) -> None:
    wide = images.from_array(np.full((4, 66_000, 1), 99, np.uint8))
    images.write(wide, tmp_path / "a.tif", encoding=Encoding(compression="jpeg"))
    assert np.array_equal(images.read(tmp_path / "a.tif").pixels, wide.pixels)


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    first, second = Image.fromarray(ramp()), Image.fromarray(ramp()[:5, :4, 0])
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    with images.open_pages(tmp_path / "a.tif") as pages:
        found = list(pages)
        assert (len(pages), pages.animation) == (2, None)
    assert np.array_equal(found[0].pixels, ramp())
    assert np.array_equal(found[1].pixels[..., 0], ramp()[:5, :4, 0])
    assert np.array_equal(images.read(tmp_path / "a.tif", page=1).pixels, found[1].pixels)
    with pytest.raises(PictureError, match="has 2 pages, so there is no page 2"):
        images.read(tmp_path / "a.tif", page=2)


@pytest.mark.parametrize(("suffix", "lossless"), [(".gif", False), (".webp", True)])
def test_an_animation(tmp_path: Path, suffix: str, lossless: bool) -> None:
    frames = [images.from_array(np.full((8, 9, 3), value, np.uint8)) for value in (250, 120, 10)]
    animation = Animation(delays=(100, 250, 50), loop=3)
    path = tmp_path / f"a{suffix}"
    encoding = Encoding(lossless=lossless)
    images.write_pages([frames[0].header] * 3, frames, path, animation=animation, encoding=encoding)
    with images.open_pages(path) as pages:
        assert (len(pages), pages.animation) == (3, animation)
        for frame, expected in zip(pages, frames, strict=True):
            assert np.abs(frame.pixels.astype(int) - expected.pixels).max() <= 2
    assert np.abs(images.read(path, page=1).pixels.astype(int) - 120).max() <= 2


def test_several_pictures_need_a_format_for_them(tmp_path: Path) -> None:
    page = images.from_array(ramp())
    images.write_pages([page.header] * 2, [page, page], tmp_path / "a.tif")
    with images.open_pages(tmp_path / "a.tif") as pages:
        assert [np.array_equal(found.pixels, page.pixels) for found in pages] == [True, True]
    with pytest.raises(UsageError, match="PNG holds a single picture"):
        images.write_pages([page.header] * 2, [page, page], tmp_path / "a.png")


@pytest.mark.parametrize("suffix", METADATA_SUFFIXES)
def test_display_p3_stays_as_it_is(tmp_path: Path, suffix: str) -> None:
    attachments = {"icc-profile-data": profile("p3")}
    images.write(replace(images.from_array(ramp()), attachments=attachments), tmp_path / f"a{suffix}")
    again = images.read(tmp_path / f"a{suffix}")
    kept = again.attachments["icc-profile-data"]
    if suffix == ".jxl":  # it may say the same in other bytes
        in_srgb = [colour.in_srgb(images.from_array(ramp()).pixels, data) for data in (kept, profile("p3"))]
        assert np.abs(in_srgb[0].astype(int) - in_srgb[1]).max() <= 2
    else:
        assert kept == profile("p3")
    assert np.abs(again.pixels.astype(int) - ramp()).max() <= 60


@pytest.mark.parametrize("suffix", [".ppm", ".gif", ".pfm"])
def test_display_p3_becomes_srgb_where_there_is_no_profile(tmp_path: Path, suffix: str) -> None:
    """Colours as lcms sees them, through PIL: strong in P3, they are beyond sRGB; these are within it."""
    from io import BytesIO

    from PIL import ImageCms

    mild = np.full((8, 8, 3), (180, 120, 90), np.uint8)
    given = replace(images.from_array(mild), attachments={"icc-profile-data": profile("p3")})
    images.write(given, tmp_path / f"a{suffix}")
    found = images.to_depth(images.read(tmp_path / f"a{suffix}").pixels, 8)
    p3 = ImageCms.ImageCmsProfile(BytesIO(profile("p3")))
    srgb = cast(Any, ImageCms).createProfile("sRGB")
    expected = np.asarray(ImageCms.profileToProfile(Image.fromarray(mild), p3, srgb))
    assert np.abs(expected.astype(int) - mild).max() > 5
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_gray_with_a_gray_profile_as_webp(tmp_path: Path) -> None:
    gray = replace(images.from_array(ramp(1)), attachments={"icc-profile-data": profile("sgrey")})
    images.write(gray, tmp_path / "a.webp", encoding=Encoding(lossless=True))
    again = images.read(tmp_path / "a.webp")
    assert "icc-profile-data" not in again.attachments
    assert np.abs(again.pixels.astype(int) - ramp(1)).max() <= 2
