"""Small files of every kind that is read, and ways to damage them; `benchmarks/fuzz_reading.py` does so at length."""

import io
import random
import struct
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispen import images
from crispen.images import formats

EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def samples() -> dict[str, bytes]:
    """Small files of every kind that is read, by the name of the kind."""
    down, across = np.mgrid[0:12, 0:16]
    colours = np.stack([down * 20, across * 15, 255 - down * 9], axis=2).astype(np.uint8)
    image = Image.fromarray(colours)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "fuzz"
    made: dict[str, bytes] = {}

    def save(kind: str, picture: Image.Image, form: str, **options: Any) -> None:
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        made[kind] = buffer.getvalue()

    save("png", image, "PNG", exif=exif, dpi=(300, 300))
    save("png palette", image.quantize(8), "PNG", transparency=2)
    save("png 1 bit", image.convert("1"), "PNG")
    save("jpeg", image, "JPEG", exif=exif)
    save("jpeg progressive", image, "JPEG", progressive=True)
    save("jpeg cmyk", image.convert("CMYK"), "JPEG")
    save("webp", image, "WEBP", exif=exif.tobytes())
    save("webp lossless", image.convert("RGBA"), "WEBP", lossless=True)
    save("webp animation", image, "WEBP", save_all=True, append_images=[image.rotate(180)])
    save("gif", image.quantize(8), "GIF")
    save(
        "gif animation",
        image.quantize(8),
        "GIF",
        save_all=True,
        append_images=[image.rotate(180).quantize(8)],
    )
    save("avif", image, "AVIF")
    save("tiff", image, "TIFF", exif=exif)
    save("tiff deflate", image, "TIFF", compression="tiff_deflate")
    save("tiff lzw", image, "TIFF", compression="tiff_lzw")
    save("tiff jpeg", image, "TIFF", compression="jpeg")
    save("tiff float", image.convert("F").point(lambda value: value / 255), "TIFF")
    save("tiff pages", image, "TIFF", save_all=True, append_images=[image.convert("L")])
    save("bmp", image, "BMP", dpi=(300, 300))
    save("bmp palette", image.quantize(8), "BMP")
    save("bmp alpha", image.convert("RGBA"), "BMP")
    save("ppm", image, "PPM")
    save("pfm", image.convert("F").point(lambda value: value / 255), "PPM")
    made["ppm text"] = b"P3\n4 3\n255\n" + b" ".join(b"%d" % value for value in range(36))
    made["bmp runs"] = bmp_of_runs()
    return made | what_libvips_alone_writes(colours, exif)


def what_libvips_alone_writes(colours: NDArray[np.uint8], exif: Image.Exif) -> dict[str, bytes]:
    """HEIC and JPEG XL, where the installed libvips has them."""
    made: dict[str, bytes] = {}
    picture = replace(images.from_array(colours), attachments={"exif-data": exif.tobytes()})
    deep = images.from_array(cast(Any, images.to_depth(np.dstack([colours, colours[..., :1]]), 16)))
    for name in ("heic", "jxl"):
        if formats.missing_part(formats.FORMATS[name]) is None:
            for kind, given in ((name, picture), (f"{name} deep", deep)):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / f"a.{name}"
                    images.write(given, path)
                    made[kind] = path.read_bytes()
    return made


def bmp_of_runs() -> bytes:
    """A BMP of 8x3 pixels, compressed with RLE8."""
    palette = bytes(range(256)) * 4
    runs = bytes([8, 5, 0, 0, 3, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 4, 9, 0, 2, 2, 0, 2, 7, 0, 1])
    start = 54 + len(palette)
    header = struct.pack("<2sIHHI", b"BM", start + len(runs), 0, 0, start)
    return header + struct.pack("<IiiHHIIiiII", 40, 8, 3, 1, 8, 1, len(runs), 0, 0, 256, 0) + palette + runs


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Damage a file in one to four places."""
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at, length = chance.randrange(len(found) + 1), chance.choice([1, 1, 2, 4, 8, 32])
        match chance.randrange(7):
            case 0:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                found[at : at + length] = b""
            case 2:
                found[at:at] = chance.randbytes(length)
            case 3:
                found[at:at] = found[at : at + length]
            case 4:
                del found[at:]
            case 5 if at < len(found):
                found[at] ^= 1 << chance.randrange(8)
            case _:
                number = struct.pack(chance.choice("<>") + "I", chance.choice(EXTREMES))
                number = number[:2] if chance.random() < 0.5 else number
                found[at : at + len(number)] = number
        if not found:
            break
    return bytes(found)
