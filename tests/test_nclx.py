"""Colours that an AVIF states by numbers: they look the same afterwards, as those of a profile do."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from crispen import images
from crispen.films._scheduling import kept_scheduling  # pyright: ignore[reportPrivateUsage]  # SVT-AV1 would go real-time
from crispen.images._nclx import states_display_p3  # pyright: ignore[reportPrivateUsage]  # libvips writes no such file

P3, SRGB = (12, 13), (1, 13)


def box(name: bytes, content: bytes, *, size: int | None = None) -> bytes:
    return struct.pack(">I4s", 8 + len(content) if size is None else size, name) + content


def stated(primaries: int, transfer: int) -> bytes:
    return box(b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, 6, 128))


def heif(properties: bytes) -> bytes:
    inner = box(b"pitm", bytes(6)) + box(b"iprp", box(b"ipco", properties) + box(b"ipma", bytes(4)))
    return box(b"ftyp", b"avif" + bytes(4)) + box(b"meta", bytes(4) + inner) + box(b"mdat", bytes(20))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (heif(box(b"ispe", bytes(12)) + stated(*P3)), True),
        (heif(stated(*SRGB)), False),
        (heif(stated(12, 16)), False),
        (heif(stated(*SRGB) + stated(*P3)), False),
        (heif(box(b"colr", b"prof" + bytes(8)) + stated(*P3)), True),
        (heif(box(b"colr", b"nc")), False),
        (heif(box(b"free", b"", size=2)), False),
        (heif(box(b"free", b"", size=999)), False),
        (heif(b"")[:-60], False),
        (box(b"ftyp", b"avif"), False),
        (b"", False),
        (box(b"free", bytes(8)) * 20_000, False),
    ],
)
def test_display_p3_is_found_where_it_is_stated(tmp_path: Path, content: bytes, found: bool) -> None:
    path = tmp_path / "a.avif"
    path.write_bytes(content)
    assert states_display_p3(path) is found


def test_it_is_found_unless_what_says_so_is_cut_off_or_changed(tmp_path: Path) -> None:
    whole, path = heif(stated(*P3)), tmp_path / "a.avif"
    end_of_meta = len(whole) - 28
    numbers = whole.index(b"nclx")
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        assert states_display_p3(path) is (place >= end_of_meta), "a box that is cut short says nothing"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        if numbers <= place < numbers + 8:
            assert not states_display_p3(path)
        elif numbers + 8 <= place < numbers + 11 or place >= end_of_meta:
            assert states_display_p3(path), "the rest does not matter"


@pytest.mark.parametrize(("numbers", "has_profile"), [(P3, True), (SRGB, False)])
def test_a_picture_in_display_p3_gets_its_profile(
    tmp_path: Path, numbers: tuple[int, int], has_profile: bool
) -> None:
    av = pytest.importorskip("av")
    with kept_scheduling(), av.open(str(tmp_path / "a.avif"), "w") as file:
        stream = file.add_stream("libsvtav1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = *numbers, 6
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), (180, 80, 60), np.uint8), format="rgb24")
        file.mux(stream.encode(frame.reformat(format="yuv420p")))
        file.mux(stream.encode(None))
    picture = images.read(tmp_path / "a.avif")
    assert ("icc-profile-data" in picture.attachments) is has_profile
    images.write(picture, tmp_path / "b.png")
    images.write(picture, tmp_path / "b.ppm")  # which holds no profile, so that the colours are converted
    kept, converted = (images.read(tmp_path / name).pixels[32, 32].astype(int) for name in ("b.png", "b.ppm"))
    assert (int(np.abs(converted - kept).max()) > 5) == has_profile
