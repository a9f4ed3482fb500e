"""The options of commands that enlarge or measure; each says in a line what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from crispen import Device, Precision, Runtime
from crispen.errors import UsageError

PictureFormat = Literal[
    "png", "jpeg", "webp", "tiff", "avif", "heic", "jxl", "gif", "ppm", "pgm", "pnm", "pfm"
]
"""`crispen.images.FORMATS`, which is not imported for a help text; a test holds the two together."""
Compression = Literal["deflate", "lzw", "none", "jpeg"]
FilmCodec = Literal["h264", "hevc", "av1", "vp9", "ffv1", "prores"]
"""`crispen.films.CODECS`."""


def _named(model: str) -> str:
    """Refuse the empty name, which as a path would mean the working folder."""
    if not model:
        raise UsageError(
            "--model must name a model: one that crispen models lists, or a model's folder or file"
        )
    return model


def _option(*names: str, **settings: Any) -> Any:
    """An option without a default that could be shown."""
    return typer.Option(*names, show_default=False, **settings)


# --- what computes

ModelOption = Annotated[
    str,
    typer.Option(
        callback=_named,
        help="A bundled model's name (see: crispen models), a model's folder, or its .onnx or .safetensors file.",
    ),
]
EvaluatedOption = Annotated[
    str, typer.Option(callback=_named, help="As for upscale; or bicubic, for MATLAB's interpolation.")
]
RuntimeOption = Annotated[Runtime, typer.Option(help="What runs the network; torch needs the extra train.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the network runs.")]
TileOption = Annotated[
    int | None,
    typer.Option(
        help="Side of the tiles in pixels of the input; smaller takes less memory.", show_default="by memory"
    ),
]
PrecisionOption = Annotated[
    Precision, typer.Option(help="Arithmetic; auto: bf16 for 8-bit pictures where the processor has it.")
]
StrengthOption = Annotated[
    float,
    typer.Option(
        help="How much detail to add: 1 is the model's, 0 the faithful one's, and all between can be had."
    ),
]
EnsembleOption = Annotated[
    bool,
    typer.Option(
        "--ensemble",
        help="The mean over all 8 turned and mirrored versions: nearer to the truth, 8 times the work. For models of"
        " your own: of those bundled all 8 are the same.",
    ),
]
ConsistentOption = Annotated[
    bool, typer.Option("--consistent", help="The result, reduced again, is the input: no colour shifts.")
]
WrapOption = Annotated[
    bool, typer.Option("--wrap", help="For seamless textures: what leaves on one side goes on at the other.")
]
GrainOption = Annotated[
    bool, typer.Option("--grain", help="Gives the result as much grain as the photo has.")
]

# --- how large

ScaleOption = Annotated[
    float | None, typer.Option(help="Times the input's size, as 2 or 3.5.", show_default="the model's")
]
WidthOption = Annotated[
    int | None, _option(help="Pixels; the height follows, unless it is given too; films: even.")
]
HeightOption = Annotated[
    int | None, _option(help="Pixels; the width follows, unless it is given too; films: even.")
]
FitOption = Annotated[
    str | None, _option(metavar="WxH", help="The largest that fits into so many pixels, as 3840x2160.")
]
PrintOption = Annotated[
    str | None,
    _option(
        "--print", metavar="SIZE@DPI", help="The largest that fits onto paper, as 30x20cm@300dpi (or mm, in)."
    ),
]
MegapixelsOption = Annotated[float | None, _option(help="So many millions of pixels.")]
DpiOption = Annotated[
    float | None,
    typer.Option(
        help="The resolution that the file states.", show_default="such that the size in print stays"
    ),
]

# --- how it is written

OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output", "-o",
        help="A file; or a folder, with a slash at its end or for several pictures; or - for the standard output.",
        show_default="NAME-x4.png beside each picture, for films with their own ending, .mp4 or .mkv",
    ),
]  # fmt: skip
NameOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEMPLATE",
        help="Names of the results: text with {stem}, {suffix} (the input's), {ext} (the result's), {width}, {height}, "
        "{scale}, {model}, and slashes.",
        show_default="{stem}-x{scale}.{ext}; {stem}-{width}x{height}.{ext} for sizes in pixels",
    ),
]
FormatOption = Annotated[
    PictureFormat | None,
    typer.Option(
        help="What to write.",
        show_default="what the name says, or png; what holds several pictures stays what it is",
    ),
]
QualityOption = Annotated[
    int | None,
    typer.Option(help="1 to 100, for JPEG, WebP, AVIF, HEIC and JPEG XL.", show_default="95; AVIF, HEIC: 85"),
]
LosslessOption = Annotated[
    bool, typer.Option("--lossless", help="Keep every pixel exactly in WebP, AVIF, HEIC and JPEG XL.")
]
CompressionOption = Annotated[
    Compression | None, typer.Option(help="TIFF: how it is compressed.", show_default="deflate")
]
PyramidOption = Annotated[
    bool, typer.Option("--pyramid", help="TIFF: in tiles, and again at 1/2, 1/4, ... of its size.")
]
NoTagOption = Annotated[
    bool, typer.Option("--no-tag", help="Do not say in the file's XMP that an AI model enlarged it.")
]
MaxMegapixelsOption = Annotated[
    float, typer.Option(help="Refuse larger inputs: they may be attacks.", show_default="1000")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]

# --- folders

RecursiveOption = Annotated[bool, typer.Option(help="Folders: with their subfolders, but for hidden ones.")]
IncludeOption = Annotated[
    list[str] | None,
    _option(
        metavar="GLOB",
        help="Folders: only files like this, as 'IMG_*' or 'raw/*'; '*.mp4' for films. May be repeated.",
    ),
]
ExcludeOption = Annotated[
    list[str] | None, _option(metavar="GLOB", help="Folders: no files or folders like this. May be repeated.")
]
SkipOption = Annotated[
    bool, typer.Option("--skip-existing", help="Leave what exists: a run that was stopped goes on.")
]
ReportOption = Annotated[
    Path | None,
    _option(
        readable=False, help="A JSON file for what was done, with sizes and hashes, and what failed and why."
    ),
]

# --- films

CodecOption = Annotated[
    FilmCodec | None,
    _option(help="Films: what to encode with. Default: h264, for more than 8 bits hevc; in WebM vp9 or av1."),
]
CrfOption = Annotated[
    float | None,
    _option(
        help="Films: the encoder's quality; lower is better and larger. Default: h264 17, hevc 19, av1 24, vp9 24."
    ),
]
PresetOption = Annotated[
    str | None,
    _option(help="Films: time for size: ultrafast to placebo (h264, hevc), 13 to 0 (av1), 8 to 0 (vp9)."),
]
FromOption = Annotated[
    str | None,
    _option("--from", metavar="TIME", help="Films: where to begin: seconds, m:ss or h:mm:ss."),
]
ToOption = Annotated[
    str | None, _option("--to", metavar="TIME", help="Films: where to end, by the film's own time.")
]
FrameOption = Annotated[
    str | None,
    _option(
        metavar="TIME",
        help="Films: enlarge only the frame that is shown then, and write it as a picture.",
    ),
]
SideBySideOption = Annotated[
    bool,
    typer.Option(
        "--side-by-side", help="Films: show bicubic enlargement on the left and the result on the right."
    ),
]
