"""Metadata that is larger than a format has room for: the largest parts go, and the rest and the statement stay."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import crispen_says
from crispen import images
from crispen.images import Encoding, _iptc, _tiff_exif, _xmp, formats
from crispen.images.provenance import STATED, Statement, statement_of, tagged
from damage import damaged

MAKE, MAKER_NOTE, ISO, EXIF_DIRECTORY = 0x010F, 0x927C, 0x8827, 0x8769
SUFFIXES = [".png", ".jpg", ".webp", ".tif"] + [
    f".{name}" for name in ("avif", "heic", "jxl") if formats.missing_part(formats.FORMATS[name]) is None
]
STATEMENT = Statement(model="tiny", weights_sha256="ab" * 32, version="1", scale=4, width=80, height=64)
START = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_xmp.RDF}" xmlns:o="urn:o:">'
END = "</rdf:RDF></x:xmpmeta>"


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def xmp(inside: str, attributes: str = "") -> bytes:
    return f'{START}<rdf:Description rdf:about="" {attributes}>{inside}</rdf:Description>{END}'.encode()


def exif(note_bytes: int) -> bytes:
    made = Image.Exif()
    made[MAKE] = "Pentax"
    made.get_ifd(EXIF_DIRECTORY)[ISO] = 400
    made.get_ifd(EXIF_DIRECTORY)[MAKER_NOTE] = b"\1" * note_bytes
    return made.tobytes()


def iptc(*, keyword_bytes: int, path_bytes: int) -> bytes:
    """IPTC as a JPEG has it, with another of Photoshop's resources behind it: a path to clip along."""
    records = b"\x1c\x02\x19" + struct.pack(">H", keyword_bytes) + b"k" * keyword_bytes
    resource = b"8BIM" + struct.pack(">HHI", 2000, 0, path_bytes) + bytes(path_bytes)
    wrapped = _iptc.iptc_for_jpeg(records)
    assert wrapped is not None
    return wrapped + resource


def written(name: str, **attachments: bytes) -> dict[str, bytes]:
    """Write a picture with metadata, and return what is read of them."""
    given = {f"{kind}-data": data for kind, data in attachments.items()}
    picture = replace(images.from_array(np.full((16, 20, 3), 99, np.uint8)), attachments=given)
    images.write(picture, name)
    return dict(images.read(name).attachments)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("note_bytes", [64_800, 70_000, 9_000_000])
def test_the_rest_of_exif_stays(suffix: str, note_bytes: int) -> None:
    found = Image.Exif()
    found.load(written(f"a{suffix}", exif=exif(note_bytes))["exif-data"])
    assert (found[MAKE], found.get_ifd(EXIF_DIRECTORY)[ISO]) == ("Pentax", 400)
    room = 1_000_000 if suffix == ".tif" else 65_000
    assert (MAKER_NOTE in found.get_ifd(EXIF_DIRECTORY)) == (note_bytes < room)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("largest", [1_000, 60_000, 120_000])
def test_the_statement_stays(suffix: str, largest: int) -> None:
    inside = f"<o:small>kept</o:small><o:large>{'x' * largest}</o:large>"
    found = written(f"a{suffix}", xmp=tagged(xmp(inside), STATEMENT))["xmp-data"]
    assert statement_of(found) == STATEMENT
    assert b"compositeWithTrainedAlgorithmicMedia" in found
    assert b"kept" in found
    assert (b"xxx" in found) == (suffix != ".jpg" or largest == 1_000)


def test_the_statement_stays_before_all_that_is_smaller() -> None:
    many = xmp("".join(f"<o:p{number}>{number}</o:p{number}>" for number in range(4_000)))
    assert statement_of(written("a.jpg", xmp=tagged(many, STATEMENT))["xmp-data"]) == STATEMENT


@pytest.mark.parametrize("attributes", ["", f'o:large="{"x" * 70_000}"'])
def test_properties_may_be_attributes(attributes: str) -> None:
    packet = tagged(xmp("<o:small>kept</o:small>", attributes), STATEMENT)
    within = _xmp.within(packet, 60_000, kept=STATED)
    assert within is not None
    assert len(within) < 5_000
    assert b"kept" in within
    assert _xmp.within(packet, 100, kept=STATED) in (None, packet)


def test_xmp_of_which_nothing_can_go_goes_as_a_whole() -> None:
    comment = b"<!--" + b"x" * 70_000 + b"-->"
    for name, packet in (
        ("a.jpg", b"<no" * 30_000),
        ("b.jpg", xmp("").replace(b"<rdf:D", comment + b"<rdf:D")),
    ):
        assert "xmp-data" not in written(name, xmp=packet)


def test_iptc_stays_without_what_stands_beside_it() -> None:
    data = iptc(keyword_bytes=30_000, path_bytes=70_000)
    found = written("a.jpg", iptc=data)["iptc-data"]
    assert b"kkk" in found
    assert len(found) < 35_000
    assert _iptc.iptc_within(data, 10) is None


@pytest.mark.parametrize("room", [0, 20, 40, 60, 100])
def test_damaged_exif_never_raises(room: int) -> None:
    chance = random.Random(room)
    for _ in range(100):
        found = _tiff_exif.exif_within(damaged(exif(50), chance), room)
        assert found is None or len(found) <= room


# --- and is said


def shortened(suffix: str, **attachments: bytes) -> tuple[str, ...]:
    given = {f"{kind}-data": data for kind, data in attachments.items()}
    picture = replace(images.from_array(np.zeros((16, 20, 3), np.uint8)), attachments=given)
    return images.shortened(f"a{suffix}", picture.header, Encoding())


def test_what_goes_is_named() -> None:
    large = {"exif": exif(70_000), "xmp": xmp(f"<o:a>{'x' * 70_000}</o:a>")}
    large["iptc"] = iptc(keyword_bytes=9, path_bytes=70_000)
    small = {"exif": exif(9), "xmp": xmp("<o:a>x</o:a>"), "iptc": iptc(keyword_bytes=9, path_bytes=9)}
    assert shortened(".jpg", **large) == ("EXIF", "XMP", "IPTC")
    assert shortened(".png", **large) == ("EXIF",)
    assert shortened(".tif", **large) == ()
    assert shortened(".ppm", **large) == ()
    assert shortened(".jpg", **small) == ()


def test_blanks_are_no_loss() -> None:
    padded = xmp("<o:a>kept</o:a>").replace(b"</x:xmpmeta>", b"</x:xmpmeta>" + b" " * 70_000 + b"<?end?>")
    assert shortened(".jpg", xmp=padded) == ()
    assert b"kept" in written("a.jpg", xmp=padded)["xmp-data"]


def test_a_note_says_what_is_left_behind(tiny_model: Path) -> None:
    written("a.png", xmp=xmp(f"<o:a>{'x' * 120_000}</o:a>"))
    result = crispen_says("upscale", "a.png", "--format", "jpeg", "--model", tiny_model)
    assert result.exit_code == 0
    assert result.stderr == (
        "crispen: note: a-x4.jpg is without the largest parts of the XMP of a.png,"
        " for which its format has no room\n"
    )
    said = statement_of(images.read("a-x4.jpg").attachments["xmp-data"])
    assert said is not None
    assert said.model == "tiny"
