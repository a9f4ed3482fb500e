"""Fuzz the parsers that are written here, guided by what they cover: for what is in a picture beside its pixels.

`benchmarks/fuzz_reading.py` damages whole files at random and reads them, libvips' decoders included; this one goes
deep into a single parser of ours, which atheris (https://github.com/google/atheris, Apache 2.0) instruments. Each
takes any bytes, and may refuse them in its own way; whatever else it raises ends the run, with the bytes kept in a
file whose name is printed, and so do five seconds without an answer. What follows "--" is for libFuzzer.

    pip install atheris
    python benchmarks/fuzz_atheris.py exif -- -max_total_time=120
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

atheris: Any = import_module("atheris")  # it has no types

with atheris.instrument_imports(include=["crispen.images"]):
    from crispen.errors import PictureError
    from crispen.images import _bmp, _credentials, _exif, _iptc, _netpbm, _tiff_exif, _xmp, provenance
    from crispen.images._opened import Opened

SIZE: dict[str, Any] = {"width": 80, "height": 160, "resolution": (3.0, 4.0)}
MAX_PIXELS = 1 << 16
STATEMENT = provenance.Statement(
    model="srgan-x4", weights_sha256="0" * 64, version="1", scale=4, width=160, height=80
)
EMPTY_TIFF = b"II*\0\x08\0\0\0" + bytes(6)
FILE = Path(tempfile.mkdtemp()) / "file"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parser", choices=TARGETS)
    parser.add_argument(
        "libfuzzer", nargs="*", help="options for libFuzzer, and folders of files to begin with"
    )
    arguments = parser.parse_args()
    atheris.Setup([sys.argv[0], "-timeout=5", *arguments.libfuzzer], TARGETS[arguments.parser])
    atheris.Fuzz()


def exif(data: bytes) -> None:
    """What is once put right stays so."""
    _exif.upright(data)
    once = _exif.enlarged(data, **SIZE, upright=True)
    assert once is None or _exif.enlarged(once, **SIZE, upright=True) is not None


def xmp(data: bytes) -> None:
    once = _xmp.enlarged(data, **SIZE, upright=True)
    assert _xmp.enlarged(once, **SIZE, upright=True) == once
    assert provenance.statement_of(provenance.tagged(once, STATEMENT)) == STATEMENT


def iptc(data: bytes) -> None:
    bare = _iptc.iptc_for_tiff(data)
    assert bare is None or _iptc.iptc_for_jpeg(bare)
    _iptc.iptc_for_jpeg(data)


def tiff_exif(data: bytes) -> None:
    """What is collected can be written into another TIFF, and collected there."""
    found = _tiff_exif.exif_of_tiff(io.BytesIO(data))
    if found is not None:
        file = io.BytesIO(EMPTY_TIFF)
        assert _tiff_exif.add_exif_to_tiff(file, found)
        assert _tiff_exif.exif_of_tiff(file) is not None
    _tiff_exif.add_exif_to_tiff(io.BytesIO(EMPTY_TIFF), data)


def credentials(data: bytes) -> None:
    _credentials.carries_credentials(io.BytesIO(data))


def bmp(data: bytes) -> None:
    read_all(_bmp.open_bmp, data)


def netpbm(data: bytes) -> None:
    if data.startswith(_netpbm.MAGICS):
        read_all(_netpbm.open_netpbm, data)


def read_all(opened: Callable[[Path], Opened], data: bytes) -> None:
    """Read a file's rows as `crispen.images.open` does, in two strips."""
    FILE.write_bytes(data)
    try:
        picture = opened(FILE)
        header = picture.header
        if header.height * header.width <= MAX_PIXELS:
            half = header.height // 2
            for top, count in ((0, half), (half, header.height - half)):
                if count:
                    rows = picture.fetch(top, count)
                    assert rows.shape == (count, header.width, header.channels + header.has_alpha)
    except PictureError as error:
        if "\n" in str(error):
            raise


TARGETS: dict[str, Callable[[bytes], None]] = {
    "exif": exif,
    "xmp": xmp,
    "iptc": iptc,
    "tiff_exif": tiff_exif,
    "credentials": credentials,
    "bmp": bmp,
    "netpbm": netpbm,
}


if __name__ == "__main__":
    main()
