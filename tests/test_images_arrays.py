"""Arrays and PIL images: taken for what their type says, and given back as the same kind."""

import io
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image, ImageCms

from crispen.errors import MissingExtra, PictureError, UsageError
from crispen.images import Picture, from_array, from_pil, is_pil, read, to_array, to_pil, write

DTYPES = ["uint8", "uint16", "float16", "float32", "float64"]
SHAPES = [(6, 9), (6, 9, 1), (6, 9, 2), (6, 9, 3), (6, 9, 4), (1, 1), (1, 1, 3)]


def sample(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    values = np.random.default_rng(0).random(shape)
    return (values * np.iinfo(dtype).max).astype(dtype) if dtype.startswith("u") else values.astype(dtype)


def pil(mode: str) -> Image.Image:
    """An image of any mode."""
    if mode in ("I;16", "I", "F"):
        scale = {"I;16": 65535, "I": 65535, "F": 1}[mode]
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        return Image.fromarray((np.linspace(0, scale, 12 * 8).reshape(8, 12)).astype(dtype))
    colours = sample((8, 12, 4), "uint8")
    through = {"La": "LA", "RGBa": "RGBA", "PA": "LA"}.get(mode, "RGBA" if mode in ("LA", "RGBA") else "RGB")
    return Image.fromarray(colours).convert(through).convert(mode)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_come_back_as_they_were(shape: tuple[int, ...], dtype: str) -> None:
    array = sample(shape, dtype)
    picture = from_array(array)
    assert picture.pixels.shape == (*shape[:2], 3 if shape[2:] in ((3,), (4,)) else 1)
    assert (picture.alpha is not None) == (shape[2:] in ((2,), (4,)))
    again = to_array(picture, like=array)
    assert (again.shape, again.dtype) == (array.shape, array.dtype)
    assert np.array_equal(again, array if dtype != "float64" else array.astype(np.float32))


@settings(deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    )
)
def test_any_integers(array: NDArray[Any]) -> None:
    assert np.array_equal(to_array(from_array(array)), array)


def test_memory_is_shared() -> None:
    array = sample((6, 9, 3), "uint8")
    assert np.shares_memory(from_array(array).pixels, array)
    assert np.shares_memory(to_array(from_array(array), like=array), array)


def test_byte_order_does_not_matter() -> None:
    array = sample((6, 9), "uint16")
    foreign = array.astype(array.dtype.newbyteorder(">"))
    assert np.array_equal(from_array(foreign).pixels[..., 0], array)
    assert np.array_equal(to_array(from_array(foreign), like=foreign), foreign)


def test_dark_values_do_not_change_the_depth() -> None:
    assert from_array(np.ones((4, 4), np.uint16)).bit_depth == 16
    assert from_array(np.ones((4, 4), np.float32)).bit_depth == 32


@pytest.mark.parametrize(
    "shape", [(), (4,), (4, 4, 5), (4, 4, 0), (0, 4), (4, 0, 3), (3, 48, 48), (1, 4, 4, 3)]
)
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"\(H, W, C\) with C from 1 to 4, not \("):
        from_array(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "int32", "int64", "uint32", "complex64", "object"]
)
def test_other_types_are_refused(dtype: str) -> None:
    with pytest.raises(UsageError, match=f"must be an array of uint8, .* not {dtype}"):
        from_array(np.zeros((4, 4), dtype))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0, 255.0, -0.5])
def test_floats_that_mean_something_else_are_refused(dtype: str, bad: float) -> None:
    array = np.zeros((4, 4), dtype)
    array[1, 2] = bad
    with pytest.raises(UsageError, match=r"must lie in \[0, 1\] \(8-bit values: divide by 255\)"):
        from_array(array)


def test_floats_that_ring_are_clipped() -> None:
    array = np.array([[-0.1, 0.5], [1.0, 1.2]])
    assert from_array(array).pixels[..., 0].tolist() == [[0, 0.5], [1, 1]]


def test_like_can_change_the_depth_but_not_the_channels() -> None:
    picture = from_array(np.full((4, 4, 3), 200, np.uint8))
    assert to_array(picture, like=np.zeros((1, 1, 3), np.uint16))[0, 0].tolist() == [51400] * 3
    assert to_array(picture, like=np.zeros((1, 1, 3)))[0, 0] == pytest.approx(200 / 255)
    with pytest.raises(UsageError, match="3 channels cannot be like an array of 1"):
        to_array(picture, like=np.zeros((4, 4), np.uint8))


def test_pictures_that_cannot_be() -> None:
    good = np.zeros((4, 5, 3), np.uint8)
    for pixels, alpha in (
        (good[..., 0], None),
        (good[..., :2], None),
        (good[:0], None),
        (good.astype(np.float64), None),
        (good, good),
        (good, np.zeros((5, 4), np.uint8)),
        (good, np.zeros((4, 5), np.uint16)),
    ):
        with pytest.raises(UsageError, match="a picture's"):
            Picture(pixels=pixels, alpha=alpha)  # pyright: ignore[reportArgumentType]  # that is the point


MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "La",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBX": "RGBX",
    "RGBa": "RGBa",
    "CMYK": "RGB",
    "YCbCr": "YCbCr",
    "HSV": "HSV",
    "I;16": "I;16",
    "I": "I",
    "F": "F",
}


@pytest.mark.parametrize(("mode", "returned"), MODES.items())
def test_every_mode_comes_back_where_it_can(mode: str, returned: str) -> None:
    image = pil(mode)
    picture = from_pil(image)
    assert (picture.height, picture.width) == (8, 12)
    assert (picture.alpha is not None) == (mode in ("LA", "La", "PA", "RGBA", "RGBa"))
    again = to_pil(picture, like=image)
    assert (again.mode, again.size) == (returned, (12, 8))
    if mode in ("1", "P", "L", "LA", "RGB", "RGBA", "RGBX", "I;16", "I", "F"):
        assert np.array_equal(np.asarray(again), np.asarray(image.convert(returned)))


@pytest.mark.parametrize(("mode", "depth"), [("L", 8), ("RGB", 8), ("I;16", 16), ("I", 16), ("F", 32)])
def test_depth_follows_the_mode(mode: str, depth: int) -> None:
    assert from_pil(pil(mode)).bit_depth == depth


def test_pil_has_no_mode_for_deep_colour() -> None:
    for channels, mode in ((2, "LA"), (3, "RGB"), (4, "RGBA")):
        image = to_pil(from_array(np.full((4, 4, channels), 51400, np.uint16)))
        assert image.mode == mode
        assert (np.asarray(image) == 200).all()


@pytest.mark.parametrize(
    ("mode", "key", "returned"), [("L", 7, "LA"), ("RGB", (1, 2, 3), "RGBA"), ("P", 3, "RGBA")]
)
def test_a_transparent_colour_becomes_alpha(mode: str, key: object, returned: str) -> None:
    image = pil(mode)
    image.info["transparency"] = key
    assert to_pil(from_pil(image), like=image).mode == returned


def test_cmyk_as_reading_does(tmp_path: Path) -> None:
    pil("CMYK").save(tmp_path / "a.tif", icc_profile=None)
    with Image.open(tmp_path / "a.tif") as image:
        picture = from_pil(image)
    assert np.array_equal(picture.pixels, read(tmp_path / "a.tif").pixels)


def test_the_profile_of_ink_is_dropped() -> None:
    image = pil("CMYK")
    image.info["icc_profile"] = b"no profile at all"  # then libvips' own
    assert "icc-profile-data" not in from_pil(image).attachments


def test_other_modes_are_refused() -> None:
    with pytest.raises(UsageError, match="mode LAB cannot be enlarged"):
        from_pil(Image.new("LAB", (4, 4)))
    with pytest.raises(UsageError, match="from 0 to 65535"):
        from_pil(Image.new("I", (4, 4), 70000))
    with pytest.raises(UsageError, match="divide by 255"):
        from_pil(Image.new("F", (4, 4), 255))


def test_a_damaged_file_that_pil_opened() -> None:
    buffer = io.BytesIO()
    Image.fromarray(sample((48, 48, 3), "uint8")).save(buffer, "PNG")
    with pytest.raises(PictureError, match="cannot be decoded"):
        from_pil(Image.open(io.BytesIO(buffer.getvalue()[:2000])))


def test_info_is_kept_and_the_orientation_applied(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(cast(Any, ImageCms).createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Crispen"
    pil("RGB").save(tmp_path / "a.jpg", exif=exif, icc_profile=profile, dpi=(300, 300), xmp=b"<x/>")
    with Image.open(tmp_path / "a.jpg") as image:
        picture = from_pil(image)
    assert (picture.height, picture.width) == (12, 8)
    assert picture.resolution == pytest.approx((300 / 25.4, 300 / 25.4))
    large = to_pil(picture)
    assert (large.info["icc_profile"], large.info["xmp"]) == (profile, b"<x/>")
    assert large.info["dpi"] == pytest.approx((300, 300))
    assert (large.getexif().get(0x0112, 1), large.getexif()[0x010F]) == (1, "Crispen")
    write(picture, tmp_path / "b.png")
    assert read(tmp_path / "b.png").attachments["icc-profile-data"] == profile


def test_metadata_tells_the_truth_of_an_enlarged_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x011B] = 6, "Crispen", 300, 300
    exif.get_ifd(0x8769).update({0xA002: 24, 0xA003: 16})
    xmp = b'<x xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:RDF><r:Description'
    xmp += b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:ImageWidth="24"/></r:RDF></x>'
    Image.new("RGB", (24, 16)).save(tmp_path / "a.jpg", exif=exif, dpi=(300, 300), xmp=xmp)
    with Image.open(tmp_path / "a.jpg") as image:
        small = from_pil(image)
    resolution = (1200 / 25.4, 1200 / 25.4)
    large = to_pil(
        replace(small, pixels=small.pixels.repeat(4, axis=0).repeat(4, axis=1), resolution=resolution)
    )
    assert large.size == (64, 96)
    found = large.getexif()
    assert (found.get(0x0112, 1), found[0x010F], found[0x011A], found[0x011B]) == (1, "Crispen", 1200, 1200)
    assert found.get_ifd(0x8769) == {0xA002: 64, 0xA003: 96}
    assert b'"64"' in large.info["xmp"]


@pytest.mark.parametrize(
    ("dpi", "known"),
    [
        (300, (300, 300)),
        ([300, 150], (300, 150)),
        ((math.nan, math.nan), None),
        ((math.inf, 300), None),
        ((300, -300), None),
        ((1e9, 1e9), None),
        ((300, 300, 300), None),
        (None, None),
        ("fine", None),
        pytest.param(10**400, None, id="huge"),
    ],
)
def test_a_resolution_that_anybody_may_have_set(dpi: object, known: tuple[float, float] | None) -> None:
    image = Image.new("RGB", (4, 4))
    image.info["dpi"] = dpi
    expected = known and pytest.approx([side / 25.4 for side in known])
    assert from_pil(image).resolution == expected


def test_no_info_stays_none() -> None:
    picture = from_pil(pil("RGB"))
    assert (dict(picture.attachments), picture.resolution) == ({}, None)
    assert to_pil(picture).info == {}


def test_the_image_given_is_not_changed() -> None:
    image = pil("P")
    before = (image.mode, image.tobytes())
    to_pil(from_pil(image), like=image).putpixel((0, 0), (1, 2, 3))
    assert (image.mode, image.tobytes()) == before


def test_is_pil() -> None:
    assert is_pil(pil("RGB"))
    assert not is_pil(np.zeros((4, 4)))


def test_without_pil(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "import numpy as np; from crispen import images\n"
        "from crispen.errors import MissingExtra\n"
        "array = np.zeros((4, 4, 3), np.uint8)\n"
        "assert not images.is_pil(array)\n"
        "images.write(images.from_array(array), sys.argv[1]); images.read(sys.argv[1])\n"
        "try: images.to_pil(images.from_array(array))\n"
        "except MissingExtra as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "a.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{MissingExtra('to_pil needs PIL, which is not installed: pip install pillow')}\n"


def test_pil_is_not_imported() -> None:
    code = "import sys, crispen.images; sys.exit('PIL' in sys.modules or 'pyvips' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
