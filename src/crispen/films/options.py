"""What a film's enlargement may be asked for, and what the codecs and containers hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crispen.errors import UsageError

Codec = Literal["h264", "hevc", "av1", "vp9", "ffv1", "prores"]

_X26 = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip
# Measured on noise of 6.2 levels of 255 with the rate factors below: by itself x264 leaves 5.1 of it and x265 3.5, and
# 4.8 in each key frame, which flickers; so tuned, 6.0 and 5.1. VP9 leaves 5.8 in key frames and 1 to 2.5 in others, AV1
# 3 and 1.7, and neither has an option that helps.
_GRAIN = (("tune", "grain"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """What FFmpeg has for a codec. Of the formats only those that this package writes are listed."""

    name: str
    """FFmpeg's name."""
    depths: tuple[int, ...] = (8,)
    """Bits per sample, ascending."""
    chromas: tuple[str, ...] = ("420", "422", "444")
    """Subsamplings, the coarsest first."""
    presets: tuple[str, ...] = ()
    """From fast to thorough or, as numbers, as the encoder counts them; empty where there are none."""
    preset_option: str = "preset"
    best_crf: int = 0
    worst_crf: int | None = None
    """The largest rate factor; None for codecs that take none."""
    segments: str = "nut"
    """The container to keep segments in: one that holds the codec, and any time exactly."""
    crf: float = 0
    """The rate factor by default: hardly to be told from the frames themselves."""
    fixed: tuple[tuple[str, str], ...] = ()
    """Options that are always set."""
    grain: tuple[tuple[str, str], ...] | None = None
    """Options that are set where grain is to stay; None where no option makes it stay."""


CODECS: Mapping[Codec, Encoder] = {
    "h264": Encoder(name="libx264", depths=(8, 10), presets=_X26, worst_crf=51, crf=17, grain=_GRAIN),
    "hevc": Encoder(
        name="libx265", depths=(8, 10, 12), presets=_X26, worst_crf=51, crf=19,
        fixed=(("x265-params", "log-level=error"),), grain=_GRAIN,
    ),
    "av1": Encoder(
        name="libsvtav1", depths=(8, 10), chromas=("420",), presets=tuple(str(speed) for speed in range(14)),
        best_crf=1, worst_crf=63, crf=24,
    ),
    # A rate factor counts for libvpx only where the bit rate is 0.
    "vp9": Encoder(
        name="libvpx-vp9", presets=tuple(str(speed) for speed in range(9)), preset_option="cpu-used",
        worst_crf=63, crf=24, fixed=(("b", "0"), ("row-mt", "1")),
    ),
    "ffv1": Encoder(name="ffv1", depths=(8, 10, 12, 16), fixed=(("level", "3"), ("slicecrc", "1")), grain=()),
    "prores": Encoder(name="prores_ks", depths=(10,), chromas=("422", "444"), segments="mov", grain=()),
}  # fmt: skip
"""The codecs that films are written in."""

_MP4: tuple[Codec, ...] = ("h264", "hevc", "av1", "vp9")
SUFFIXES: Mapping[str, tuple[Codec, ...]] = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": ("h264", "hevc", "prores"),
    ".mkv": ("h264", "hevc", "av1", "vp9", "ffv1", "prores"),
    ".webm": ("vp9", "av1"),
}
"""The containers that films are written to, by their names' endings, and the codecs that each holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to enlarge a film; what cannot be is a `UsageError` as soon as it is said."""

    codec: Codec | None = None
    """By default h264, for more than 8 bits hevc; in WebM vp9, for more than 8 bits av1."""
    crf: float | None = None
    """The encoder's constant rate factor: lower is better and larger; None for `Encoder.crf`."""
    preset: str | None = None
    """The encoder's own name or number for how much time it takes; None for its default."""
    start: float | None = None
    """Seconds from the film's beginning; frames before are left out."""
    end: float | None = None
    """Seconds from the film's beginning; frames from there on are left out."""
    size: tuple[int, int] | None = None
    """Width and height of the result, which is enlarged by the network and then reduced; None is what the network
    makes of it."""
    side_by_side: bool = False
    """Whether to show the film twice: on the left enlarged by bicubic interpolation, on the right the result."""
    comment: str | None = None
    """What to write into the container as its comment; None keeps the film's."""
    segment_frames: int = 48
    """Frames between two points at which a killed run can go on; each begins with a key frame."""

    def __post_init__(self) -> None:
        _check_time("start", self.start)
        _check_time("end", self.end)
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError(
                f"end must be after {self.start or 0:g} s, where the part begins, not {self.end:g}"
            )
        if self.segment_frames < 1:
            raise UsageError(f"segment_frames must be at least 1, not {self.segment_frames}")
        if self.codec is not None and self.codec not in CODECS:
            raise UsageError(f"codec must be one of {', '.join(CODECS)}, not {self.codec!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """A codec with everything that was decided about it."""

    codec: Codec
    depth: int
    """Bits per sample."""
    chroma: str
    """``420``, ``422`` or ``444``."""
    options: tuple[tuple[str, str], ...]
    """For the encoder, as FFmpeg names them."""

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return CODECS[self.codec].name

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of how samples are laid out."""
        return f"yuv{self.chroma}p" + ("" if self.depth == 8 else f"{self.depth}le")


def choose(
    options: Options, output: Path, *, depth: int, chroma: str, even: bool, grain: bool = False
) -> Coding:
    """Decide how to encode.

    Args:
        options: what was asked for.
        output: the file to write, whose ending names the container.
        depth: bits per sample of the film.
        chroma: the film's subsampling, ``420``, ``422`` or ``444``.
        even: whether both sides of the result are even; others cannot be subsampled.
        grain: whether the frames have grain that is to stay.

    Raises:
        UsageError: for an ending that is none of `SUFFIXES`, and a codec, ``crf`` or ``preset`` that cannot be.
    """
    codec = _codec(options.codec, check_suffix(output), depth=depth)
    encoder = CODECS[codec]
    fitting = [known for known in encoder.depths if known >= depth] or [encoder.depths[-1]]
    wanted = chroma if even else "444"
    return Coding(
        codec=codec,
        depth=fitting[0],
        chroma=next((known for known in encoder.chromas if known >= wanted), encoder.chromas[-1]),
        options=(
            *encoder.fixed,
            *((grain and encoder.grain) or ()),
            *_crf(codec, options.crf),
            *_preset(codec, options.preset),
        ),
    )


def check_suffix(output: Path) -> str:
    """Return the ending of a film's name in small letters; raise `UsageError` where it is none of `SUFFIXES`."""
    suffix = output.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{output} cannot be written: a film's name ends in one of {', '.join(SUFFIXES)}")
    return suffix


def parse_time(text: str) -> float:
    """Return the seconds that ``12.5``, ``1:02.5`` or ``1:02:03.5`` mean.

    Raises:
        UsageError: for anything else.
    """
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", text.strip())
    if match is None:
        raise UsageError(f"a time must be seconds, or minutes:seconds, or h:mm:ss, not {text!r}")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def _check_time(name: str, seconds: float | None) -> None:
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise UsageError(f"{name} must be a number of seconds, at least 0, not {seconds}")


def _codec(asked: Codec | None, suffix: str, *, depth: int) -> Codec:
    held = SUFFIXES[suffix]
    if asked is None:
        able: list[Codec] = [codec for codec in held if depth <= CODECS[codec].depths[-1]]
        if depth > 8 and "h264" in able:
            able.remove("h264")  # which hardly anything plays with more
        return able[0] if able else held[-1]
    if asked in held:
        return asked
    raise UsageError(f"codec must be one of {', '.join(held)} for {suffix}, not {asked!r}")


def _crf(codec: Codec, asked: float | None) -> tuple[tuple[str, str], ...]:
    encoder = CODECS[codec]
    if encoder.worst_crf is None:
        if asked is not None:
            raise UsageError(f"crf cannot be chosen for {codec}, which has none")
        return ()
    crf = encoder.crf if asked is None else asked
    if not encoder.best_crf <= crf <= encoder.worst_crf:
        raise UsageError(f"crf must lie in {encoder.best_crf}..{encoder.worst_crf} for {codec}, not {crf:g}")
    return (("crf", f"{crf:g}"),)


def _preset(codec: Codec, asked: str | None) -> tuple[tuple[str, str], ...]:
    encoder = CODECS[codec]
    if asked is None:
        return ()
    if asked not in encoder.presets:
        known = f"one of {', '.join(encoder.presets)}" if encoder.presets else "left out"
        raise UsageError(f"preset must be {known} for {codec}, not {asked!r}")
    return ((encoder.preset_option, asked),)
