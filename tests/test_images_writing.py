"""Writing: what is written is read back, whole or not at all, and nothing is overwritten unasked."""

import os
import re
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, IptcImagePlugin

from crispen.errors import PictureError, UsageError
from crispen.images import (
    SUFFIXES,
    Encoding,
    Picture,
    Pixels,
    check_destination,
    formats,
    from_array,
    read,
    to_depth,
    write,
    write_rows,
)
from crispen.images._publishing import published
from files import pipe

HEIGHT, WIDTH = 20, 28
HEIF_AND_JXL = [
    suffix
    for suffix in (".avif", ".heic", ".heif", ".jxl")
    if formats.missing_part(cast(formats.Format, formats.format_for(suffix, Encoding()))) is None
]  # libvips may lack those
PATTERNED = [
    suffix
    for suffix in SUFFIXES
    if suffix in HEIF_AND_JXL or suffix not in (".avif", ".heic", ".heif", ".jxl")
]
WITH_METADATA = [".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", *HEIF_AND_JXL]
WITH_ALPHA = [".png", ".webp", ".tif", ".tiff", ".gif", *HEIF_AND_JXL]
LOSSLESS = [".png", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".pfm"]
DEPTHS = (
    dict.fromkeys((".png", ".ppm", ".pgm", ".pnm", ".avif", ".heic", ".heif"), (8, 16))
    | dict.fromkeys((".tif", ".tiff", ".jxl"), (8, 16, 32))
    | {".pfm": (32,)}
)
TOLERANCE = {".jpg": 8, ".jpeg": 8, ".webp": 32, ".avif": 8, ".heic": 16, ".heif": 16, ".jxl": 30}
IN_COLOUR = (".webp", ".avif", ".heic", ".heif", ".ppm")  # those that hold no gray


def ramp(channels: int, dtype: type[np.generic] = np.uint8) -> Pixels:
    """(H, W, C), smooth enough for lossy formats."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [down * 12, across * 9 + 3, 255 - down * 6 - across * 4, 40 + down * 5]
    array = np.stack(planes[:channels], axis=2)
    return to_depth(array.astype(np.uint8), 8 * np.dtype(dtype).itemsize)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(cast(Any, ImageCms).createProfile("sRGB")).tobytes()


def exif(**tags: float | str) -> bytes:
    numbers = {"orientation": 0x0112, "make": 0x010F, "across": 0x011A, "down": 0x011B}
    made = Image.Exif()
    for name, value in tags.items():
        made[numbers[name]] = value
    made.get_ifd(0x8769)[0xA002] = 5555  # PixelXDimension, of some other picture
    return made.tobytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(picture: Picture, path: Path, *, force: bool = False) -> str:
    with pytest.raises(PictureError) as caught:
        write(picture, path, force=force)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path)).strip()


def assert_like_gif(again: Picture, expected: NDArray[np.floating[Any]]) -> None:
    """256 colours, dithered, and of alpha one bit; what is transparent has no colour."""
    visible = np.ones(again.pixels.shape[:2], bool) if again.alpha is None else again.alpha == 255
    assert visible.any()
    assert np.abs(again.pixels.astype(float) - expected)[visible].max() <= 40
    assert again.alpha is None or set(np.unique(again.alpha)) <= {0, 255}


@pytest.mark.parametrize("suffix", PATTERNED)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_round_trip(tmp_path: Path, suffix: str, channels: int, dtype: type[np.generic]) -> None:
    if (channels in (2, 4) and suffix not in WITH_ALPHA) or (channels > 1 and suffix == ".pgm"):
        pytest.skip("there is no such file")
    picture = from_array(ramp(channels, dtype))
    write(picture, tmp_path / f"a{suffix}")
    again = read(tmp_path / f"a{suffix}")
    depths = DEPTHS.get(suffix, (8,))
    depth = next((depth for depth in depths if depth >= picture.bit_depth), max(depths))
    assert again.bit_depth == depth
    expected = to_depth(picture.pixels, depth).astype(float)
    if suffix == ".gif":
        assert_like_gif(again, expected)
        return
    tolerance = TOLERANCE.get(suffix, 0) * {8: 1, 16: 257, 32: 1 / 255}[depth]
    assert np.abs(again.pixels - expected).max() <= tolerance
    in_colour = suffix in IN_COLOUR or (suffix, depth) == (".jxl", 32)
    assert again.pixels.shape[2] == (3 if in_colour else picture.pixels.shape[2])
    assert (again.alpha is None) == (picture.alpha is None)
    if picture.alpha is not None and again.alpha is not None:
        alpha = to_depth(picture.alpha, depth).astype(float)
        assert np.abs(again.alpha - alpha).max() <= (tolerance if suffix in IN_COLOUR else 0)


@pytest.mark.parametrize("name", ["a.PNG", "a.Jpg", "a[n=2].png", "ümläut b.tif", os.fsdecode(b"\xff.png")])
def test_names(tmp_path: Path, name: str) -> None:
    write(from_array(ramp(3)), str(tmp_path / name))
    assert names(tmp_path) == [name]
    assert read(tmp_path / name).width == WIDTH


def test_one_pixel(tmp_path: Path) -> None:
    for suffix in set(PATTERNED) - {".pgm"}:
        write(from_array(np.full((1, 1, 3), 200, np.uint8)), tmp_path / f"a{suffix}")
        again = read(tmp_path / f"a{suffix}")
        assert np.abs(to_depth(again.pixels, 8).astype(int) - 200).max() <= 2


def test_jpeg_keeps_the_resolution_of_colour(tmp_path: Path) -> None:
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    stripes[:, 1::2, 2] = 255
    write(from_array(stripes), tmp_path / "a.jpg")
    assert np.abs(read(tmp_path / "a.jpg").pixels.astype(int) - stripes).max() < 30


def test_a_view_is_written_as_it_looks(tmp_path: Path) -> None:
    array = ramp(4)
    write(from_array(array[::-1, ::2]), tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), array[::-1, ::2])


@settings(deadline=None)
@given(st.integers(0, 65535))
def test_16_bit_rounds_to_the_nearest_of_8(value: int) -> None:
    (rounded,) = to_depth(np.array([value], np.uint16), 8)
    assert abs(int(rounded) - value / 257) <= 0.5


@settings(deadline=None)
@given(st.floats(0, 1, width=32), st.sampled_from([8, 16]))
def test_floats_round_to_the_nearest(value: float, depth: int) -> None:
    white = 2**depth - 1
    (rounded,) = to_depth(np.array([value], np.float32), depth)
    assert abs(int(rounded) - value * white) <= 0.5 + white * 2**-23  # what float32 can tell apart


@settings(deadline=None)
@given(st.sampled_from([8, 16]), st.integers(0, 255))
def test_more_bits_and_back_changes_nothing(depth: int, value: int) -> None:
    pixels = to_depth(np.array([value], np.uint8), depth)
    assert to_depth(to_depth(pixels, 32), depth) == pixels
    assert to_depth(to_depth(pixels, 16), 8) == value


def test_large_pictures_are_converted_row_by_row() -> None:
    pixels = np.arange(600 * 2 * 3, dtype=np.uint16).reshape(600, 2, 3) * 18
    assert np.array_equal(to_depth(pixels, 8), np.rint(pixels / 257))


def test_jpeg_refuses_alpha(tmp_path: Path) -> None:
    sentence = refusal(from_array(ramp(4)), tmp_path / "a.jpg")
    assert "JPEG has no transparency" in sentence
    assert "PNG, WebP and TIFF keep it" in sentence
    assert not names(tmp_path)


def test_jpeg_takes_an_alpha_that_is_opaque(tmp_path: Path) -> None:
    pixels = ramp(3, np.uint16)
    opaque = np.full((HEIGHT, WIDTH), 65535, np.uint16)
    write(Picture(pixels=pixels, alpha=opaque), tmp_path / "a.jpg")
    assert read(tmp_path / "a.jpg").alpha is None


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 16_384), (".jpg", 65_501)])
def test_too_many_pixels_a_side(tmp_path: Path, suffix: str, side: int) -> None:
    sentence = refusal(from_array(np.zeros((1, side), np.uint8)), tmp_path / f"a{suffix}")
    assert f"{side}x1; PNG and TIFF hold more" in sentence
    write(from_array(np.zeros((1, side), np.uint8)), tmp_path / "a.png")


@pytest.mark.parametrize("suffix", WITH_METADATA)
def test_metadata(tmp_path: Path, suffix: str) -> None:
    attachments = {
        "icc-profile-data": srgb_profile(),
        "exif-data": exif(across=72.0, down=72.0, make="Crispen"),
        "xmp-data": b"<x/>",
    }
    picture = replace(from_array(ramp(3)), attachments=attachments, resolution=(12.0, 6.0))
    write(picture, tmp_path / f"a{suffix}")
    again = read(tmp_path / f"a{suffix}")
    kept = again.attachments["icc-profile-data"]
    assert kept == attachments["icc-profile-data"] or suffix == ".jxl"  # it may say the same in other bytes
    assert again.attachments["xmp-data"] == attachments["xmp-data"]
    assert b"Crispen" in again.attachments["exif-data"]
    assert again.resolution == pytest.approx((12, 6), rel=1e-3)


@pytest.mark.parametrize("suffix", WITH_METADATA)
def test_a_resolution_needs_no_exif(tmp_path: Path, suffix: str) -> None:
    write(replace(from_array(ramp(3)), resolution=(12.0, 6.0)), tmp_path / f"a{suffix}")
    assert read(tmp_path / f"a{suffix}").resolution == pytest.approx((12, 6), rel=1e-3)


def exif_in(path: Path) -> Image.Exif:
    """EXIF as PIL finds it in the file or, of formats that PIL does not read, as libvips does."""
    found = Image.Exif()
    if path.suffix in (".heic", ".heif", ".jxl"):
        found.load(read(path).attachments["exif-data"])
        return found
    with Image.open(path) as image:
        assert image.size == (WIDTH, HEIGHT)
        found = image.getexif()
        found.get_ifd(0x8769)  # read while the file is open
    return found


@pytest.mark.parametrize("suffix", WITH_METADATA)
def test_exif_tells_the_truth(tmp_path: Path, suffix: str) -> None:
    attachments = {"exif-data": exif(orientation=6, make="Crispen")}
    write(replace(from_array(ramp(3)), attachments=attachments), tmp_path / f"a{suffix}")
    found = exif_in(tmp_path / f"a{suffix}")
    assert found.get(0x0112, 1) == 1
    assert found[0x010F] == "Crispen"
    assert found.get_ifd(0x8769)[0xA002] == WIDTH


@pytest.mark.parametrize("suffix", WITH_METADATA)
def test_a_maker_note_of_unknown_kind_is_kept_byte_for_byte(tmp_path: Path, suffix: str) -> None:
    note = (
        struct.pack("<HHHIII", 1, 7, 2, 12, 56 + 18, 0) + b"version 1.0\0"
    )  # it refers to itself, at byte 56
    main = struct.pack("<HHHI4sHHIII", 2, 0x010F, 2, 4, b"abc\0", 0x8769, 4, 1, 38, 0)
    inner = struct.pack("<HHHIII", 1, 0x927C, 7, len(note), 56, 0)
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + main + inner + note
    write(replace(from_array(ramp(3)), attachments={"exif-data": block}), tmp_path / f"a{suffix}")
    assert exif_in(tmp_path / f"a{suffix}").get_ifd(0x8769)[0x927C] == note


@pytest.mark.parametrize("suffix", PATTERNED)
def test_nothing_is_made_up(tmp_path: Path, suffix: str) -> None:
    write(from_array(ramp(1 if suffix == ".pgm" else 3)), tmp_path / f"a{suffix}")
    again = read(tmp_path / f"a{suffix}")
    made_up = {name for name in again.attachments if (suffix, name) != (".jxl", "icc-profile-data")}
    assert (made_up, again.resolution) == (set(), None)  # a JPEG XL always says what its colours are


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp", ".avif"])
def test_iptc_goes_where_it_can(tmp_path: Path, suffix: str) -> None:
    bare = b"\x1c\x02\x05\x00\x03abc\x1c\x02\x19\x00\x09crispened"
    wrapped = (
        b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(bare)) + bare + bytes(len(bare) % 2)
    )
    for data in (wrapped, bare):
        attachments = {"iptc-data": data}
        write(replace(from_array(ramp(3)), attachments=attachments), tmp_path / f"a{suffix}", force=True)
        kept = read(tmp_path / f"a{suffix}").attachments.get("iptc-data")
        with Image.open(tmp_path / f"a{suffix}") as image:
            told = IptcImagePlugin.getiptcinfo(image) if suffix in (".jpg", ".tif") else None
        if suffix == ".jpg":
            assert kept == wrapped
        elif suffix == ".tif":
            assert kept is not None
            assert kept.rstrip(b"\0") == bare
        else:
            assert kept is None
        assert told == ({(2, 5): b"abc", (2, 25): b"crispened"} if kept else None)


def test_a_profile_for_gray_stays_with_gray(tmp_path: Path) -> None:
    profile = cast(Any, pyvips).Operation.call("profile_load", "sgrey")
    write(replace(from_array(ramp(1)), attachments={"icc-profile-data": profile}), tmp_path / "a.png")
    assert read(tmp_path / "a.png").attachments["icc-profile-data"] == profile


@pytest.mark.parametrize("suffix", WITH_METADATA)
@pytest.mark.parametrize("name", ["icc-profile-data", "exif-data", "xmp-data", "iptc-data"])
def test_damaged_metadata_does_not_matter(tmp_path: Path, suffix: str, name: str) -> None:
    write(replace(from_array(ramp(3)), attachments={name: b"what is this"}), tmp_path / f"a{suffix}")
    assert read(tmp_path / f"a{suffix}").width == WIDTH


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    write(from_array(ramp(3)), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    assert (
        refusal(from_array(ramp(1)), tmp_path / "a.png") == "exists already; it is replaced only with force"
    )
    assert (tmp_path / "a.png").read_bytes() == before
    write(from_array(ramp(1)), tmp_path / "a.png", force=True)
    assert read(tmp_path / "a.png").pixels.shape[2] == 1
    assert names(tmp_path) == ["a.png"]


def interrupt(action: Callable[[], object]) -> Iterator[Picture]:
    """The rows of a picture; ``action`` is done when half of them have been handed over."""
    picture = from_array(ramp(3))
    yield Picture(pixels=picture.pixels[: HEIGHT // 2])
    action()
    yield Picture(pixels=picture.pixels[HEIGHT // 2 :])


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(self: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    strips = interrupt(lambda: (tmp_path / "a.png").write_text("mine"))
    with pytest.raises(PictureError, match="exists already"):
        write_rows(from_array(ramp(3)).header, strips, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_text() == "mine"
    assert names(tmp_path) == ["a.png"]


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(self: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    write(from_array(ramp(3)), tmp_path / "a.png")
    assert names(tmp_path) == ["a.png"]
    assert np.array_equal(read(tmp_path / "a.png").pixels, ramp(3))


@pytest.mark.parametrize("suffix", PATTERNED)
@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_an_interruption_leaves_nothing(
    tmp_path: Path, suffix: str, force: bool, error: type[BaseException]
) -> None:
    path = tmp_path / f"a{suffix}"

    def press_ctrl_c() -> None:
        assert len(names(tmp_path)) == 1 + force  # the temporary file is there
        raise error("it was pressed")

    if force:
        path.write_text("before")
    header = from_array(ramp(3)).header
    if suffix == ".pgm":
        header = replace(header, channels=1)
    with pytest.raises((error, UsageError) if suffix == ".pgm" else error):
        write_rows(header, interrupt(press_ctrl_c), path, force=force)
    assert names(tmp_path) == ([path.name] if force else [])
    assert not force or path.read_text() == "before"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    """Under a limit of 20 kB a file, as if the disk were full then."""
    code = (
        "import resource, sys, numpy as np\n"
        "from crispen import images\n"
        "from crispen.errors import PictureError\n"
        "noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: images.write(images.from_array(noise), sys.argv[1])\n"
        "except PictureError as error: print(error)\n"
    )
    path = tmp_path / f"a{suffix}"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert re.fullmatch(re.escape(f"{path} cannot be written") + r" \([^\n]+\)\n", done.stdout)
    assert done.stderr == ""
    assert not names(tmp_path)


def test_permissions_follow_the_umask_and_survive_replacing(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write(from_array(ramp(3)), tmp_path / "a.png")
        assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640
        (tmp_path / "a.png").chmod(0o600)
        write(from_array(ramp(3)), tmp_path / "a.png", force=True)
        assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o600
    finally:
        os.umask(previous)


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "there" / "a.png")
    write(from_array(ramp(3)), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert read(tmp_path / "there" / "a.png").width == WIDTH


def test_unknown_suffixes(tmp_path: Path) -> None:
    for name, found in (("a.bmp", "ends in '.bmp'"), ("a", "has no suffix"), ("a.png.", "ends in")):
        with pytest.raises(UsageError) as caught:
            write(from_array(ramp(3)), tmp_path / name)
        if name != "a.png.":  # which Python 3.14 and older take differently
            assert found in str(caught.value)
        assert all(suffix in str(caught.value) for suffix in SUFFIXES)


def test_nowhere_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = from_array(ramp(3))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    assert refusal(picture, tmp_path / "folder.png") == "is a folder, so no picture can be written there"
    assert refusal(picture, tmp_path / "folder.png", force=True).startswith("is a folder")
    assert "there is no folder" in refusal(picture, tmp_path / "none" / "a.png")
    assert "there is no folder" in refusal(picture, tmp_path / "file" / "a.png")

    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(picture, tmp_path / "a.png") == "cannot be written: Permission denied"


@pytest.mark.parametrize("force", [False, True])
def test_a_pipe_is_never_replaced(tmp_path: Path, force: bool) -> None:
    path = pipe(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(path)
    for name in ("a.png", "link.png"):
        said = "is a pipe, and only files are replaced"
        assert refusal(from_array(ramp(3)), tmp_path / name, force=force) == said
        with pytest.raises(PictureError, match=said):
            check_destination(tmp_path / name, force=force)
    assert path.is_fifo()
    assert names(tmp_path) == ["a.png", "link.png"]


def test_a_pipe_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(PictureError, match="is a pipe"), published(path, force=True):
        pipe(path)
    assert path.is_fifo()
    assert names(tmp_path) == ["a.png"]


def test_the_destination_can_be_checked_beforehand(tmp_path: Path) -> None:
    check_destination(tmp_path / "a.png", picture=from_array(ramp(4)), scale=4)
    with pytest.raises(PictureError, match="no transparency"):
        check_destination(tmp_path / "a.jpg", picture=from_array(ramp(4)))
    with pytest.raises(PictureError, match="the picture is 20000x4"):
        check_destination(tmp_path / "a.webp", picture=from_array(np.zeros((1, 5000), np.uint8)), scale=4)
    with pytest.raises(UsageError):
        check_destination(tmp_path / "a.txt")
    with pytest.raises(PictureError, match="cannot be written: File name too long"):
        check_destination(tmp_path / ("n" * 300 + ".png"))
    assert not names(tmp_path)


def test_two_processes_never_share_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def same(size: int) -> str:
        return "same"

    (tmp_path / ".crispen-same.png").write_text("another's")
    monkeypatch.setattr("secrets.token_hex", same)
    with pytest.raises(PictureError):
        write(from_array(ramp(3)), tmp_path / "a.png")
    assert (tmp_path / ".crispen-same.png").read_text() == "another's"
