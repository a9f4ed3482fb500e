"""Metadata as bytes: EXIF, XMP, IPTC, the statement of provenance, and signed content credentials."""

from __future__ import annotations

import dataclasses
import io
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, IptcImagePlugin, JpegImagePlugin, TiffImagePlugin

from crispen.images import _credentials, _exif, _iptc, _tiff_exif, _xmp, provenance
from crispen.images.provenance import Statement, statement_of, tagged

REAL = Path(os.environ.get("CRISPEN_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "real"
ORDERS = ["<", ">"]
MM_PER_INCH = 25.4

MAKE, ORIENTATION, X_RESOLUTION, Y_RESOLUTION, UNIT = 0x010F, 0x0112, 0x011A, 0x011B, 0x0128
EXIF_DIRECTORY, MAKER_NOTE, PIXEL_X, PIXEL_Y = 0x8769, 0x927C, 0xA002, 0xA003
THUMBNAIL = b"\xff\xd8" + bytes(range(100)) + b"\xff\xd9"
NOTE = b"Nikon, as it were" * 3

# --- EXIF


def photo_exif(
    order: str = "<", *, prefix: bytes = _exif.PREFIX, unit: int = 2, shared: bool = False
) -> bytes:
    """What a camera writes: lying on its side, 300 x 150 dots a unit, a MakerNote, GPS, a thumbnail at the end.

    ``shared``: both resolutions, 300, stand in the same bytes.
    """
    data = bytearray({"<": b"II*\0", ">": b"MM\0*"}[order] + bytes(4))

    def add(payload: bytes) -> int:
        data.extend(payload)
        return len(data) - len(payload)

    def directory(*entries: tuple[int, int, int, int | bytes]) -> int:
        body = struct.pack(f"{order}H", len(entries))
        for tag, kind, count, value in entries:
            packed = value.ljust(4, b"\0") if isinstance(value, bytes) else struct.pack(f"{order}I", value)
            body += struct.pack(f"{order}HHI", tag, kind, count) + packed
        return add(body + bytes(4))

    def short(value: int) -> bytes:
        return struct.pack(f"{order}H", value)

    across = add(struct.pack(f"{order}II", 300, 1))
    down = across if shared else add(struct.pack(f"{order}II", 1500, 10))
    make = add(b"Crispen\0")
    note = add(NOTE + b"\0")
    gps = directory((1, 2, 2, b"N\0"))
    exif = directory((MAKER_NOTE, 7, len(NOTE), note), (PIXEL_X, 3, 1, short(40)), (PIXEL_Y, 4, 1, 20))
    main = directory(
        (0x0100, 3, 1, short(40)),
        (0x0101, 3, 1, short(20)),
        (MAKE, 2, 8, make),
        (ORIENTATION, 3, 1, short(6)),
        (X_RESOLUTION, 5, 1, across),
        (Y_RESOLUTION, 5, 1, down),
        (UNIT, 3, 1, short(unit)),
        (EXIF_DIRECTORY, 4, 1, exif),
        (0x8825, 4, 1, gps),
    )
    link = len(data) - 4
    thumbnail = len(data) + 2 + 3 * 12 + 4
    second = directory((0x0103, 3, 1, short(6)), (0x0201, 4, 1, thumbnail), (0x0202, 4, 1, len(THUMBNAIL)))
    add(THUMBNAIL)
    struct.pack_into(f"{order}I", data, 4, main)
    struct.pack_into(f"{order}I", data, link, second)
    return prefix + bytes(data)


def opened(exif: bytes | None) -> tuple[dict[int, Any], dict[int, Any]]:
    """Read the main and the Exif directory with PIL."""
    assert exif is not None
    found = Image.Exif()
    found.load(exif)
    return dict(found), dict(found.get_ifd(EXIF_DIRECTORY))


@pytest.mark.parametrize("prefix", [b"", _exif.PREFIX])
@pytest.mark.parametrize("order", ORDERS)
def test_enlarged_exif_tells_the_truth(order: str, prefix: bytes) -> None:
    exif = photo_exif(order, prefix=prefix)
    resolution = (1200 / MM_PER_INCH, 600 / MM_PER_INCH)
    result = _exif.enlarged(exif, width=80, height=160, resolution=resolution, upright=True)
    assert result is not None
    assert result.startswith(prefix)
    main, inner = opened(result)
    assert (main[ORIENTATION], main[MAKE], main[0x0100], main[0x0101]) == (1, "Crispen", 80, 160)
    assert (main[X_RESOLUTION], main[Y_RESOLUTION], main[UNIT]) == (1200, 600, 2)
    assert (inner[PIXEL_X], inner[PIXEL_Y], inner[MAKER_NOTE]) == (80, 160, NOTE)


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_in_exif_moves(order: str) -> None:
    exif = photo_exif(order)
    result = _exif.enlarged(exif, width=80, height=160, resolution=(9.0, 9.0), upright=True)
    assert result is not None
    for what in (NOTE, b"Crispen\0", b"N\0"):
        assert result.index(what) == exif.index(what)
    differing = [at for at, (old, new) in enumerate(zip(exif, result, strict=False)) if old != new]
    without_thumbnail = len(exif) - len(THUMBNAIL)
    assert sum(at < without_thumbnail for at in differing) < 40  # some values of 2 to 8 bytes


@pytest.mark.parametrize("prefix", [b"", _exif.PREFIX])
def test_the_thumbnail_is_cut_off(prefix: bytes) -> None:
    exif = photo_exif(prefix=prefix)
    for result in (_exif.upright(exif), _exif.enlarged(exif, width=1, height=1)):
        assert result is not None
        assert len(result) == len(exif) - len(THUMBNAIL)
        assert THUMBNAIL[:9] not in result


def test_a_thumbnail_that_something_follows_stays_but_is_not_linked() -> None:
    exif = photo_exif() + b"what the maker's note refers to"
    result = _exif.upright(exif)
    assert result is not None
    assert len(result) == len(exif)
    main = struct.unpack_from("<I", result, 6 + 4)[0]
    assert struct.unpack_from("<I", result, 6 + main + 2 + 9 * 12)[0] == 0


def test_a_thumbnail_that_overlaps_the_rest_is_not_cut_out() -> None:
    exif = bytearray(photo_exif(prefix=b""))
    at = exif.index(struct.pack("<HHI", 0x0201, 4, 1))
    struct.pack_into("<I", exif, at + 8, 8)
    struct.pack_into("<I", exif, at + 12 + 8, len(exif) - 8)
    result = _exif.upright(bytes(exif))
    assert result is not None
    assert len(result) == len(exif)


@pytest.mark.parametrize("order", ORDERS)
def test_turned_exif_exchanges_its_sides(order: str) -> None:
    main, inner = opened(_exif.upright(photo_exif(order)))
    assert (main[ORIENTATION], main[X_RESOLUTION], main[Y_RESOLUTION]) == (1, 150, 300)
    assert (inner[PIXEL_X], inner[PIXEL_Y], main[0x0100], main[0x0101]) == (20, 40, 20, 40)
    assert _exif.upright(once := _exif.upright(photo_exif(order)) or b"") == once


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
def test_exif_of_a_picture_that_keeps_its_sides(orientation: int) -> None:
    exif = photo_exif().replace(
        struct.pack("<HHIH", ORIENTATION, 3, 1, 6), struct.pack("<HHIH", ORIENTATION, 3, 1, orientation)
    )
    main, inner = opened(_exif.upright(exif))
    assert (main[ORIENTATION], main[X_RESOLUTION], inner[PIXEL_X]) == (1, 300, 40)


def test_resolution_in_centimetres_stays_so() -> None:
    main, _ = opened(_exif.enlarged(photo_exif(unit=3), width=1, height=1, resolution=(40.0, 20.0)))
    assert (main[X_RESOLUTION], main[Y_RESOLUTION], main[UNIT]) == (400, 200, 3)


def test_resolutions_that_share_their_bytes_come_apart() -> None:
    result = _exif.enlarged(
        photo_exif(shared=True), width=1, height=1, resolution=(100 / MM_PER_INCH, 50 / MM_PER_INCH)
    )
    main, _ = opened(result)
    assert (main[X_RESOLUTION], main[Y_RESOLUTION]) == (100, 50)


def tags_of(exif: bytes | None) -> list[int]:
    """Return the tags of the main directory, in their order."""
    tiff = (exif or b"").removeprefix(_exif.PREFIX)
    order = {b"II": "<", b"MM": ">"}[tiff[:2]]
    (main,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, main)
    return [struct.unpack_from(f"{order}H", tiff, main + 2 + 12 * entry)[0] for entry in range(count)]


@pytest.mark.parametrize("order", ORDERS)
def test_a_missing_resolution_is_added(order: str) -> None:
    exif = photo_exif(order)
    for tag in (X_RESOLUTION, Y_RESOLUTION, UNIT):  # now they are tags that nobody knows
        name = struct.pack(f"{order}H", tag)
        start = exif.index(name + struct.pack(f"{order}H", 3 if tag == UNIT else 5))
        exif = exif[:start] + struct.pack(f"{order}H", tag - 8) + exif[start + 2 :]
    result = _exif.enlarged(exif, width=70, height=9, resolution=(300 / MM_PER_INCH, 200.5 / MM_PER_INCH))
    main, inner = opened(result)
    assert (main[MAKE], main[X_RESOLUTION], main[UNIT]) == ("Crispen", 300, 2)
    assert main[Y_RESOLUTION] == Fraction(401, 2)
    assert (inner[PIXEL_X], inner[MAKER_NOTE]) == (70, NOTE)
    assert tags_of(result) == sorted(tags_of(result))


def test_sizes_above_16_bit_become_numbers_of_32() -> None:
    _, inner = opened(_exif.enlarged(photo_exif(), width=80_000, height=70_000))
    assert (inner[PIXEL_X], inner[PIXEL_Y]) == (80_000, 70_000)


def test_without_a_resolution_the_stated_one_stays() -> None:
    main, _ = opened(_exif.enlarged(photo_exif(), width=1, height=1))
    assert (main[X_RESOLUTION], main[ORIENTATION]) == (300, 6)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"what?",
        b"II*\0\0\0\0\0",
    ],
)
def test_broken_exif_is_dropped(exif: bytes) -> None:
    assert _exif.upright(exif) is None
    assert _exif.enlarged(exif, width=1, height=1, resolution=(1.0, 1.0)) is None


def test_a_missing_link_to_the_thumbnail_is_none() -> None:
    exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", ORIENTATION, 3, 1, 3, 0)
    assert _exif.upright(exif) == exif.replace(b"\x03\0\0\0", b"\x01\0\0\0")


@pytest.mark.parametrize("tag", [EXIF_DIRECTORY, 0x8825])
def test_directories_in_circles_come_to_an_end(tag: int) -> None:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, 8) for _ in range(5000))
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entries + struct.pack("<I", 8)
    result = _exif.enlarged(exif, width=1, height=1, resolution=(1.0, 1.0), upright=True)
    assert result is not None


@given(cut=st.integers(0, 600), order=st.sampled_from(ORDERS))
def test_exif_cut_short_anywhere(cut: int, order: str) -> None:
    result = _exif.enlarged(photo_exif(order)[:cut], width=8, height=9, resolution=(3.0, 4.0), upright=True)
    assert result is None or result.startswith(_exif.PREFIX)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Some bytes of ``whole`` replaced, some cut off."""
    data = bytearray(whole)
    for at, value in draw(
        st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=12)
    ):
        data[at] = value
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@given(
    exif=st.one_of(
        damaged(photo_exif("<")), damaged(photo_exif(">")), st.binary(max_size=80).map(b"II*\0".__add__)
    )
)
def test_damaged_exif_never_raises_and_is_stable(exif: bytes) -> None:
    result = _exif.enlarged(exif, width=80, height=160, resolution=(3.0, 4.0), upright=True)
    if result is not None:
        assert len(result) <= 2 * len(exif) + 100
        assert _exif.upright(result) is not None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_libvips_takes_the_edited_exif(suffix: str) -> None:
    exif = _exif.enlarged(photo_exif(), width=30, height=20, resolution=(10.0, 10.0), upright=True)
    image = pyvips.Image.black(30, 20, bands=3).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.blob_type, "exif-data", exif)  # pyright: ignore[reportArgumentType] # its stub leaves out bytes
    written = Image.open(io.BytesIO(image.write_to_buffer(suffix))).getexif()
    assert (written[MAKE], written[ORIENTATION]) == ("Crispen", 1)
    assert written.get_ifd(EXIF_DIRECTORY)[PIXEL_X] == 30


# --- EXIF in TIFF


def tiff(order: str = "<", *, big: bool = False, **options: Any) -> io.BytesIO:
    """A TIFF of two pages, as libvips writes it, or with the larger numbers first, as PIL does."""
    if order == ">":
        file = io.BytesIO()
        writer = TiffImagePlugin.ImageFileDirectory_v2(b"MM\0*" + bytes(4))
        Image.linear_gradient("L").save(file, "TIFF", tiffinfo=writer)
        return file
    image = pyvips.Image.black(30, 40, bands=3).copy(interpretation="srgb") + 7
    pages = image.cast("uchar").copy()
    pages.set_type(pyvips.GValue.gint_type, "page-height", 20)
    return io.BytesIO(pages.write_to_buffer(".tif", bigtiff=big, **options))


@pytest.mark.parametrize("given_order", ORDERS)
@pytest.mark.parametrize(("order", "big"), [("<", False), ("<", True), (">", False)])
def test_exif_goes_into_a_tiff_and_comes_back(given_order: str, order: str, big: bool) -> None:
    file = tiff(order, big=big)
    before = file.getvalue()
    assert _tiff_exif.exif_of_tiff(file) is None
    assert _tiff_exif.add_exif_to_tiff(file, photo_exif(given_order))
    after = file.getvalue()
    assert after[16 : len(before)] == before[16:]
    assert (
        pyvips.Image.new_from_buffer(after, "", n=-1).avg()
        == pyvips.Image.new_from_buffer(before, "", n=-1).avg()
    )
    with Image.open(io.BytesIO(after)) as image:
        assert image.getexif()[MAKE] == "Crispen"
        assert image.getexif().get_ifd(0x8825) == {1: "N"}
        inner = image.getexif().get_ifd(EXIF_DIRECTORY)
        assert (inner[PIXEL_X], inner[PIXEL_Y], inner[MAKER_NOTE]) == (40, 20, NOTE)
        assert image.getexif().get(ORIENTATION, 1) == 1  # what the TIFF says of its own pixels stays
        with Image.open(io.BytesIO(before)) as old:
            assert getattr(image, "n_frames", 1) == getattr(old, "n_frames", 1)
    main, inner = opened(_tiff_exif.exif_of_tiff(file))
    assert (main[MAKE], inner[PIXEL_X], inner[MAKER_NOTE]) == ("Crispen", 40, NOTE)


def test_exif_in_a_pyramid() -> None:
    file = tiff(pyramid=True, tile=True, tile_width=16, tile_height=16, subifd=True)
    before = pyvips.Image.new_from_buffer(file.getvalue(), "", subifd=0)
    assert _tiff_exif.add_exif_to_tiff(file, photo_exif())
    after = pyvips.Image.new_from_buffer(file.getvalue(), "", subifd=0)
    assert (after.width, after.avg()) == (before.width, before.avg())


def test_exif_is_read_from_a_tiff_of_others() -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[MAKE] = "Crispen"
    directory[ORIENTATION] = 6
    directory[EXIF_DIRECTORY] = {0x829A: TiffImagePlugin.IFDRational(1, 50), 0xA005: {1: "R98"}}
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, "TIFF", tiffinfo=directory, dpi=(300, 300))
    main, inner = opened(_tiff_exif.exif_of_tiff(file))
    assert (main[MAKE], main[ORIENTATION], main[X_RESOLUTION]) == ("Crispen", 6, 300)
    assert inner[0x829A] == Fraction(1, 50)
    assert 0x0111 not in main  # where the pixels are


def test_exif_that_cannot_be_followed_leaves_a_tiff_as_it_is() -> None:
    file = tiff()
    before = file.getvalue()
    for exif in (b"", b"II*\0", photo_exif()[:20]):
        assert not _tiff_exif.add_exif_to_tiff(file, exif)
        assert file.getvalue() == before
    assert not _tiff_exif.add_exif_to_tiff(io.BytesIO(b"no TIFF"), photo_exif())


@given(data=damaged(photo_exif("<", prefix=b"")) | damaged(photo_exif(">", prefix=b"")))
def test_damaged_tiffs_never_raise(data: bytes) -> None:
    result = _tiff_exif.exif_of_tiff(io.BytesIO(data))
    assert result is None or _exif.upright(result) is not None
    file = tiff()
    if _tiff_exif.add_exif_to_tiff(file, data):
        assert pyvips.Image.new_from_buffer(file.getvalue(), "").width == 30


# --- XMP

PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Someone's &amp; Co."><!-- kept -->
 <r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <r:Description r:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:odd="urn:odd:"
    xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xap="http://ns.adobe.com/xap/1.0/"
    xmlns:dcterms="http://purl.org/dc/terms/" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"
    tiff:Orientation="6" odd:one="&lt;ä&gt;" dcterms:provenance="https://example.org/a.c2pa" tiff:ResolutionUnit="2"
    xmpNote:HasExtendedXMP="00112233445566778899AABBCCDDEEFF">
   <tiff:ImageWidth>40</tiff:ImageWidth><tiff:ImageLength>20</tiff:ImageLength>
   <tiff:XResolution>300/1</tiff:XResolution><tiff:YResolution>150/1</tiff:YResolution>
   <exif:PixelXDimension>40</exif:PixelXDimension><exif:PixelYDimension>20</exif:PixelYDimension>
   <xap:Thumbnails><r:Alt><r:li r:parseType="Resource"><odd:image>/9j/4AAQ</odd:image></r:li></r:Alt></xap:Thumbnails>
   <odd:inner><r:Description tiff:Orientation="6" tiff:ImageWidth="40"/></odd:inner>
  </r:Description>
 </r:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def stated(xmp: bytes, namespace: str, name: str) -> str | None:
    document = _xmp.parsed(xmp)
    assert document is not None
    return _xmp.simple(document, namespace, name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_enlarged_xmp_tells_the_truth(encoding: str) -> None:
    xmp = _xmp.enlarged(PACKET.encode(encoding), width=80, height=160, resolution=(20.0, 10.0), upright=True)
    text = xmp.decode()
    assert stated(xmp, _xmp.TIFF, "Orientation") == "1"
    assert (stated(xmp, _xmp.TIFF, "ImageWidth"), stated(xmp, _xmp.TIFF, "ImageLength")) == ("80", "160")
    assert (stated(xmp, _xmp.EXIF, "PixelXDimension"), stated(xmp, _xmp.EXIF, "PixelYDimension")) == (
        "80",
        "160",
    )
    assert (stated(xmp, _xmp.TIFF, "XResolution"), stated(xmp, _xmp.TIFF, "YResolution")) == (
        "508/1",
        "254/1",
    )
    assert "Thumbnails" not in text
    assert "example.org" not in text
    assert "HasExtendedXMP" not in text.replace("xmlns:xmpNote", "")


def test_the_rest_of_xmp_stays() -> None:
    text = _xmp.enlarged(PACKET.encode(), width=80, height=160, upright=True).decode()
    for kept in (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>',
        '<?xpacket end="w"?>',
        "<!-- kept -->",
        'odd:one="&lt;ä&gt;"',
        '<odd:inner><r:Description tiff:Orientation="6" tiff:ImageWidth="40"/></odd:inner>',
        'xmlns:xap="http://ns.adobe.com/xap/1.0/"',
        "<tiff:YResolution>300/1<",
    ):
        assert kept in text


def test_turned_xmp_exchanges_its_sides() -> None:
    xmp = _xmp.upright(PACKET.encode())
    assert (stated(xmp, _xmp.TIFF, "ImageWidth"), stated(xmp, _xmp.TIFF, "XResolution")) == ("20", "150/1")
    assert stated(xmp, _xmp.EXIF, "PixelYDimension") == "40"
    assert "example.org" in xmp.decode()
    assert _xmp.upright(xmp) == xmp


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('g:Version="1.0"', ("HDR gain map",)),
        ('c:MotionPhoto="1" g:Version="1.0"', ("HDR gain map", "motion photo's film")),
        ('c:MicroVideo="1"', ("motion photo's film",)),
        ('c:MotionPhoto="0"', ()),
        ("", ()),
    ],
)
def test_what_is_behind_the_picture_is_named(said: str, expected: tuple[str, ...]) -> None:
    spaces = (
        'xmlns:c="http://ns.google.com/photos/1.0/camera/" xmlns:g="http://ns.adobe.com/hdr-gain-map/1.0/"'
    )
    xmp = PACKET.replace('odd:one="', f'{spaces} {said} odd:one="').encode()
    assert _xmp.behind(xmp) == expected
    assert _xmp.behind(_xmp.enlarged(xmp, width=80, height=160)) == ()
    assert _xmp.behind(xmp[: len(xmp) // 2]) == ()


def test_xmp_in_centimetres() -> None:
    packet = PACKET.replace('ResolutionUnit="2"', 'ResolutionUnit="3"')
    xmp = _xmp.enlarged(packet.encode(), width=1, height=1, resolution=(2.0, 1.05))
    assert (stated(xmp, _xmp.TIFF, "XResolution"), stated(xmp, _xmp.TIFF, "YResolution")) == ("20/1", "21/2")


def test_xmp_that_says_nothing_untrue_is_returned_as_it_is() -> None:
    for xmp in (b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", tagged(None, STATEMENT), b"", b"no XML"):
        assert _xmp.enlarged(xmp, width=1, height=1, resolution=(1.0, 1.0), upright=True) == xmp


BOMB = (
    '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "'
    + "&a;" * 100
    + '"><!ENTITY c "'
    + "&b;" * 100
    + '">]>'
    + PACKET[56:]
).replace("&amp;", "&c;")


@pytest.mark.parametrize(
    "xmp",
    [
        BOMB.encode(),
        PACKET.replace("<x:xmpmeta", "<!DOCTYPE x:xmpmeta><x:xmpmeta").encode(),
        BOMB.encode("utf-16"),
        b"<a>" * 100_000,
        b"<a>" * 100_000 + b"</a>" * 100_000,
        PACKET.encode()[:-60],
        PACKET.encode().replace(b"xmlns:odd", b"xmlns:od"),
        PACKET.encode().replace(b"urn:odd:", b"urn: odd"),
        PACKET.encode() * 2,
        b"\xff" + PACKET.encode(),
        PACKET.encode() + b" " * (8 << 20),
        PACKET.replace("<tiff:ImageWidth>", "<odd:a/>" * 60_000 + "<tiff:ImageWidth>").encode(),
    ],
    ids=[
        "bomb",
        "document type",
        "bomb16",
        "open",
        "deep",
        "cut",
        "unbound",
        "blank",
        "twice",
        "not UTF-8",
        "large",
        "many",
    ],
)
def test_xmp_that_is_not_to_be_trusted_is_not_read(xmp: bytes) -> None:
    assert _xmp.parsed(xmp) is None
    assert _xmp.enlarged(xmp, width=80, height=160) == xmp
    assert len(_xmp.enlarged(xmp, width=80, height=160, upright=True)) == len(xmp)
    assert statement_of(xmp) is None
    assert statement_of(tagged(xmp, STATEMENT)) == STATEMENT


def test_the_orientation_of_unreadable_xmp_is_put_right() -> None:
    for before, after in ((b'"6"', b'"1"'), (b"'8'", b"'1'")):
        xmp = b"<rdf:Description tiff:Orientation=" + before + b">"
        assert _xmp.upright(xmp) == xmp.replace(before, after)
    assert _xmp.upright(b"<tiff:Orientation>6</tiff:Orient") == b"<tiff:Orientation>1</tiff:Orient"


@given(xmp=damaged(PACKET.encode()))
def test_damaged_xmp_never_raises(xmp: bytes) -> None:
    result = _xmp.enlarged(xmp, width=80, height=160, resolution=(3.0, 4.0), upright=True)
    assert _xmp.enlarged(result, width=80, height=160, resolution=(3.0, 4.0), upright=True) == result
    assert statement_of(tagged(result, STATEMENT)) == STATEMENT


# --- provenance

STATEMENT = Statement(
    model="srgan-x4", weights_sha256="0123456789abcdef" * 4, version="0.1.0", scale=4, width=160, height=80
)
IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"


def events(xmp: bytes) -> list[dict[str, str]]:
    document = _xmp.parsed(xmp)
    assert document is not None
    namespace = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
    actions = document.getElementsByTagNameNS(namespace, "action")
    return [
        {child.localName: _xmp.text_of(child) for child in action.parentNode.childNodes}  # pyright: ignore # minidom's stubs
        for action in actions
    ]


def source_type(xmp: bytes) -> str:
    return (stated(xmp, IPTC_EXTENSION, "DigitalSourceType") or "").removeprefix(provenance.SOURCE_TYPES)


@pytest.mark.parametrize(
    "xmp", [None, b"", PACKET.encode(), PACKET.encode("utf-16")], ids=["none", "empty", "8", "16"]
)
def test_a_statement_is_made_and_read_back(xmp: bytes | None) -> None:
    result = tagged(xmp, STATEMENT)
    assert statement_of(result) == STATEMENT
    assert tagged(result, STATEMENT) == result
    assert source_type(result) == "compositeWithTrainedAlgorithmicMedia"
    assert stated(result, _xmp.XMP, "CreatorTool") == "crispen 0.1.0"
    (event,) = events(result)
    assert event == {
        "action": "resized",
        "softwareAgent": "crispen 0.1.0",
        "parameters": "enlarged 4 times by the AI model srgan-x4",
    }
    assert ("odd:one" in result.decode()) == bool(xmp)


def test_another_enlargement_is_added() -> None:
    again = dataclasses.replace(STATEMENT, model="other", width=640, height=320, when="2026-01-02T03:04:05Z")
    xmp = tagged(tagged(PACKET.encode(), STATEMENT), again)
    assert statement_of(xmp) == again
    assert [event.get("when") for event in events(xmp)] == [None, again.when]
    assert xmp.count(b"<xmpMM:History") == xmp.count(b"<crispen:Enlargements") == 1
    assert tagged(xmp, again) == xmp
    assert len(events(tagged(xmp, STATEMENT))) == 3


def test_a_history_of_others_is_continued() -> None:
    history = (
        '<m:History xmlns:m="http://ns.adobe.com/xap/1.0/mm/" xmlns:e="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#">'
        '<r:Seq><r:li r:parseType="Resource"><e:action>saved</e:action></r:li></r:Seq></m:History>'
    )
    xmp = tagged(PACKET.replace("<xap:Thumb", history + "<xap:Thumb").encode(), STATEMENT)
    assert [event["action"] for event in events(xmp)] == ["saved", "resized"]
    assert b"<xmpMM:History" not in xmp


@pytest.mark.parametrize(
    ("before", "generative", "after"),
    [
        ("digitalCapture", True, "compositeWithTrainedAlgorithmicMedia"),
        ("digitalCapture", False, "algorithmicallyEnhanced"),
        ("trainedAlgorithmicMedia", True, "trainedAlgorithmicMedia"),
        ("compositeWithTrainedAlgorithmicMedia", False, "compositeWithTrainedAlgorithmicMedia"),
    ],
)
@pytest.mark.parametrize(
    "form", ['<i:{0} xmlns:i="{1}">{2}</i:{0}>', '<i:{0} xmlns:i="{1}" r:resource="{2}"/>']
)
def test_the_source_type_never_says_less_than_before(
    form: str, before: str, generative: bool, after: str
) -> None:
    element = form.format("DigitalSourceType", IPTC_EXTENSION, provenance.SOURCE_TYPES + before)
    packet = PACKET.replace("<xap:Thumb", element + "<xap:Thumb").encode()
    xmp = tagged(packet, dataclasses.replace(STATEMENT, generative=generative))
    assert source_type(xmp) == after
    assert xmp.count(b"DigitalSourceType") in (1, 2)  # as an empty element, or with an end


def test_the_first_tool_stays() -> None:
    xmp = tagged(PACKET.replace('odd:one="', 'xap:CreatorTool="Camera 1.0" odd:one="').encode(), STATEMENT)
    assert stated(xmp, _xmp.XMP, "CreatorTool") == "Camera 1.0"


def test_all_descriptions_are_about_the_same() -> None:
    xmp = tagged(PACKET.replace('r:about=""', 'r:about="uuid:&quot;1&quot;"').encode(), STATEMENT)
    document = _xmp.parsed(xmp)
    assert document is not None
    assert [element.getAttributeNS(_xmp.RDF, "about") for element in _xmp.descriptions(document)] == [
        'uuid:"1"'
    ] * 2


@given(
    model=st.text(max_size=20).map(str.strip),
    scale=st.floats(0.01, 100),
    sides=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
    generative=st.booleans(),
)
def test_any_statement_can_be_made(
    model: str, scale: float, sides: tuple[int, int], generative: bool
) -> None:
    statement = Statement(
        model=model,
        weights_sha256="",
        version="1",
        scale=scale,
        width=sides[0],
        height=sides[1],
        generative=generative,
    )
    xmp = tagged(PACKET.encode(), statement)
    found = statement_of(xmp)
    assert found is not None
    assert dataclasses.replace(found, model=model) == statement
    if model.isprintable():
        assert found == statement
    assert tagged(xmp, statement) == xmp


@pytest.mark.parametrize(
    "damage", [(b">160<", b">much<"), (b"crispen:model", b"crispen:mode"), (b">4<", b">x4<")]
)
def test_a_statement_that_makes_no_sense_is_none(damage: tuple[bytes, bytes]) -> None:
    assert statement_of(tagged(None, STATEMENT).replace(*damage)) is None


def test_xmp_without_a_statement() -> None:
    assert statement_of(PACKET.encode()) is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_the_statement_survives_in_files(suffix: str) -> None:
    image = pyvips.Image.black(30, 20, bands=3).copy(interpretation="srgb")
    if suffix == ".avif" and not pyvips.type_find("VipsOperation", "heifsave_buffer"):
        pytest.skip("this libvips writes no AVIF")
    image.set_type(pyvips.GValue.blob_type, "xmp-data", tagged(None, STATEMENT))  # pyright: ignore[reportArgumentType]
    read = pyvips.Image.new_from_buffer(image.write_to_buffer(suffix), "")
    assert statement_of(read.get("xmp-data")) == STATEMENT  # pyright: ignore[reportArgumentType]


# --- IPTC

RECORDS = b"\x1c\x02\x00\x00\x02\x00\x04" + b"\x1c\x02\x78\x00\x0bhello world" + b"\x1c\x02\x05\x00\x02a\0"


@pytest.mark.parametrize(
    "records", [RECORDS, RECORDS[:7], RECORDS[:23], b"\x1c\x02\x78\x80\x04\0\0\x90\0" + b"x" * 0x9000]
)
def test_iptc_there_and_back(records: bytes) -> None:
    wrapped = _iptc.iptc_for_jpeg(records)
    assert wrapped is not None
    assert wrapped.startswith(b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(records)))
    assert len(wrapped) % 2 == len(_iptc.PHOTOSHOP) % 2
    bare = _iptc.iptc_for_tiff(wrapped)
    assert bare is not None
    assert len(bare) % 4 == 0
    assert bare.rstrip(b"\0") == records.rstrip(b"\0")
    assert _iptc.iptc_for_jpeg(bare) == wrapped
    assert _iptc.iptc_for_tiff(bare) == bare
    assert _iptc.iptc_for_jpeg(wrapped) == wrapped


def test_iptc_is_found_among_other_resources() -> None:
    wrapped = _iptc.iptc_for_jpeg(RECORDS)
    assert wrapped is not None
    before = b"8BIM\x04\x25\x03abc" + struct.pack(">I", 3) + b"odd\0"  # a name of 3 letters, 3 bytes
    data = _iptc.PHOTOSHOP + before + wrapped.removeprefix(_iptc.PHOTOSHOP)
    assert (_iptc.iptc_for_tiff(data) or b"").startswith(RECORDS)
    assert _iptc.iptc_for_tiff(_iptc.PHOTOSHOP + before) is None


def test_pil_reads_wrapped_iptc() -> None:
    wrapped = _iptc.iptc_for_jpeg(RECORDS)
    assert wrapped is not None
    image = pyvips.Image.black(30, 20, bands=3).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.blob_type, "iptc-data", wrapped)  # pyright: ignore[reportArgumentType]
    opened_image = Image.open(io.BytesIO(image.write_to_buffer(".jpg")))
    assert isinstance(opened_image, JpegImagePlugin.JpegImageFile)
    assert (IptcImagePlugin.getiptcinfo(opened_image) or {})[(2, 120)] == b"hello world"


@given(data=damaged(_iptc.iptc_for_jpeg(RECORDS) or b""))
def test_damaged_iptc_never_raises(data: bytes) -> None:
    bare = _iptc.iptc_for_tiff(data)
    assert bare is None or _iptc.iptc_for_jpeg(bare)


@given(data=damaged(RECORDS * 2))
def test_damaged_records_are_kept(data: bytes) -> None:
    wrapped = _iptc.iptc_for_jpeg(data)
    assert (wrapped is None) == (not data.startswith(b"\x1c"))
    assert wrapped is None or (_iptc.iptc_for_tiff(wrapped) or b"").rstrip(b"\0") == data.rstrip(b"\0")


# --- content credentials

JUMBF = (
    struct.pack(">I", 60) + b"jumb" + struct.pack(">I", 30) + b"jumdc2pa" + bytes.fromhex("00110010800000aa00389b71")
    + b"\x03c2pa\0" + b"the signed manifest..."
)  # fmt: skip
C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def encoded(suffix: str) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((32, 24)).save(file, suffix)
    return file.getvalue()


def signed(kind: str) -> bytes:
    """A file with a manifest where C2PA has it for that format."""
    data = encoded(kind)
    if kind == "JPEG":
        segment = b"JP\x02\x11\0\0\0\x01" + JUMBF
        return data[:20] + b"\xff\xeb" + struct.pack(">H", len(segment) + 2) + segment + data[20:]
    if kind == "PNG":
        return data[:33] + struct.pack(">I", len(JUMBF)) + b"caBX" + JUMBF + b"\0\0\0\0" + data[33:]
    if kind == "WEBP":
        body = data[12:] + b"C2PA" + struct.pack("<I", len(JUMBF)) + JUMBF + bytes(len(JUMBF) % 2)
        return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    if kind == "GIF":
        blocks = bytes([len(JUMBF)]) + JUMBF + b"\0"
        table = 13 + (3 << (data[10] & 7) + 1)
        return data[:table] + b"\x21\xff\x0bC2PA_GIF\x01\0\0" + blocks + data[table:]
    if kind == "AVIF":
        length = struct.unpack_from(">I", data)[0]
        box = struct.pack(">I", 24 + len(JUMBF)) + b"uuid" + C2PA_UUID + JUMBF
        return data[:length] + data[length:] + box
    assert kind == "TIFF"
    file = io.BytesIO()
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory.tagtype[0xCD41] = 7
    directory[0xCD41] = JUMBF
    Image.open(io.BytesIO(data)).save(file, "TIFF", tiffinfo=directory)
    return file.getvalue()


KINDS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"]


@pytest.mark.parametrize("kind", KINDS)
def test_credentials_are_found(tmp_path: Path, kind: str) -> None:
    (tmp_path / "with").write_bytes(signed(kind))
    (tmp_path / "without").write_bytes(encoded(kind))
    assert _credentials.has_content_credentials(tmp_path / "with")
    assert not _credentials.has_content_credentials(tmp_path / "without")


def test_credentials_of_formats_that_pil_does_not_write() -> None:
    def found(data: bytes) -> bool:
        return _credentials.carries_credentials(io.BytesIO(data))

    jxl = struct.pack(">I", 12) + b"JXL \r\n\x87\n" + struct.pack(">I", 20) + b"ftypjxl \0\0\0\0jxl "
    assert found(jxl + JUMBF)
    assert found(jxl + struct.pack(">I", 1) + b"jumb" + struct.pack(">Q", 68) + JUMBF[8:])
    assert not found(jxl + JUMBF.replace(b"jumdc2pa", b"jumdjson"))
    entry = struct.pack(">HHQQ", 0xCD41, 7, 9, 99)
    big = b"MM\0+\0\x08\0\0" + struct.pack(">QQ", 16, 1) + entry + bytes(8)
    assert found(big)
    assert not found(big.replace(entry, struct.pack(">HHQQ", 0x0100, 4, 1, 9)))
    second = struct.pack(">QQ", 16, 0) + struct.pack(">Q", 32) + struct.pack(">Q", 1) + entry + bytes(8)
    assert found(b"MM\0+\0\x08\0\0" + second)  # on the second page
    assert found(b"RIFF\0\0\0\0WEBP" + b"odd \x03\0\0\0abc\0" + b"C2PA\x04\0\0\0jumb")
    other = b"JP\x02\x11\0\0\0\x01" + JUMBF.replace(b"jumdc2pa", b"jumdjson")
    assert not found(b"\xff\xd8\xff\xeb" + struct.pack(">H", len(other) + 2) + other + b"\xff\xd9")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif", ".gif"])
def test_libvips_passes_no_credentials_on(kind: str, suffix: str) -> None:
    if suffix == ".avif" and not pyvips.type_find("VipsOperation", "heifsave_buffer"):
        pytest.skip("this libvips writes no AVIF")
    try:
        image = pyvips.Image.new_from_buffer(signed(kind), "")
        written = image.write_to_buffer(suffix)
    except pyvips.Error as error:
        pytest.skip(str(error))
    assert not _credentials.carries_credentials(io.BytesIO(written))
    assert b"c2pa" not in written.lower()


def fuzzed() -> Iterator[st.SearchStrategy[bytes]]:
    return (damaged(signed(kind)[:400]) for kind in KINDS)


@given(data=st.one_of(*fuzzed(), st.binary(max_size=60)))
def test_damaged_files_never_raise(data: bytes) -> None:
    assert _credentials.carries_credentials(io.BytesIO(data)) in (True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"II*\0\x08\0\0\0\0\0\x08\0\0\0",  # a page that is followed by itself
        b"II+\0\x08\0\0\0" + b"\xff" * 8,
        b"II+\0\x08\0\0\0\x10" + bytes(7) + b"\xff" * 16,
        b"\xff\xd8" + b"\xff\xe0\0\0" * 1000,
        b"\0\0\0\x08ftyp" + b"\0\0\0\x01ftyp" + b"\0" * 8,
        b"\0\0\0\0ftyp" + bytes(8),
        b"GIF89a" + bytes(7) + b"\x21\xff" + b"\x01a" * 1000,
        b"",
    ],
)
def test_circles_and_bounds_in_containers(data: bytes) -> None:
    assert not _credentials.carries_credentials(io.BytesIO(data))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _credentials.has_content_credentials(tmp_path / "none.jpg")


# --- photographs as people have them


@pytest.mark.skipif(not REAL.is_dir(), reason="the project's photographs are not here")
def test_real_photographs() -> None:
    for path in sorted(REAL.iterdir()):
        assert not _credentials.has_content_credentials(path)
        image = pyvips.Image.new_from_file(str(path))
        if "exif-data" in image.get_fields():
            exif: Any = image.get("exif-data")
            result = _exif.enlarged(
                exif, width=4 * image.width, height=4 * image.height, resolution=(10.0, 10.0)
            )
            main, _ = opened(result)
            assert main[X_RESOLUTION] == 254
        if "xmp-data" in image.get_fields():
            xmp: Any = image.get("xmp-data")
            assert statement_of(tagged(xmp, STATEMENT)) == STATEMENT
