"""Between a film's frames, in YUV, and pictures in RGB, with the film's own matrix and range.

The equations are those of ITU-R BT.601, BT.709 and BT.2020 (non-constant luminance) with the code values of
ITU-T H.273, section 8.3. libswscale takes a frame to be BT.601 if it is not told otherwise, so that it is told
each time. With 8 bits it converts to within one level. With more it does not: between 10 bits of limited range
and 16-bit RGB it is off by up to 4 levels of 1023, and white is not white; and of full range it cuts chroma
off where it should round, so that RGB comes back with 0.8 levels of 255 too little red and blue (measured with FFmpeg
8.1). There it only resamples chroma, which it does exactly, and the matrix is applied here.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from crispen.errors import PictureError
from crispen.films._av import av

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

RGB = NDArray[Any]
"""(H, W, 3): uint8, or uint16 for frames of more than 8 bits."""

# H.273's codes. What is not stated is taken to be what players take it for, by the size of the picture.
_UNSTATED = 2
_BT709, _PAL, _NTSC = 1, 5, 6
_MATRICES = {
    1: ("ITU709", 0.2126, 0.0722),
    4: ("FCC", 0.30, 0.11),
    5: ("ITU601", 0.299, 0.114),
    6: ("ITU601", 0.299, 0.114),
    7: ("SMPTE240M", 0.212, 0.087),
    9: ("BT2020", 0.2627, 0.0593),
}
# Those that a screen for sRGB shows as they are meant, or nearly, and what others that are known are called.
_LIKE_SRGBS = (1, 5, 6, 7)
_PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_LIKE_BT709S = (1, 4, 5, 6, 7, 11, 12, 13, 14, 15)
_TRANSFERS = {8: "linear light", 16: "PQ", 18: "HLG"}
_LIMITED, _FULL = 1, 2
_HIGH_DEFINITION = 720  # lines; below, films that do not say so are BT.601


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """What a film's numbers mean, in the codes of ITU-T H.273. Nothing is left unstated.

    An enlarged film needs that more than the film did: players guess by the size, which has changed.
    """

    matrix: int
    primaries: int
    transfer: int
    full_range: bool

    @property
    def luma(self) -> tuple[float, float, float]:
        """How much red, green and blue count for luma."""
        _, red, blue = _MATRICES[self.matrix]
        return red, 1 - red - blue, blue

    @property
    def unlike_srgb(self) -> str:
        """What the colours are called where they look wrong if taken for sRGB; empty where they do not."""
        words: list[str] = []
        if self.primaries not in _LIKE_SRGBS:
            words.append(_PRIMARIES.get(self.primaries, f"primaries {self.primaries} of ITU-T H.273"))
        if self.transfer not in _LIKE_BT709S:
            words.append(_TRANSFERS.get(self.transfer, f"transfer {self.transfer} of ITU-T H.273"))
        return " with ".join(words)

    @property
    def range(self) -> int:
        """FFmpeg's code of the range."""
        return _FULL if self.full_range else _LIMITED


class LeftSited:
    """Tags frames: their subsampled chroma lies at the left of its two pixels, as in all of MPEG but MPEG-1.

    libswscale takes it to be in the middle where a frame says nothing. Enlarged four times that would move colours
    by a pixel and a half against the luma, as an encoder's output that says nothing is left-sited again. PyAV shows
    the tag nowhere; a filter sets it, without copying.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: tuple[int, int, str] | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Return the frame with the tag."""
        kind = (frame.width, frame.height, frame.format.name)
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = _tagging(*kind), kind
        self._graph.vpush(frame)
        return self._graph.vpull()


def colours_of(frame: VideoFrame, path: Path) -> Colours:
    """Return what a frame of the film ``path`` says of its colours, completed where it says nothing.

    Raises:
        PictureError: for a matrix that is none of BT.601, BT.709, BT.2020 (non-constant luminance), FCC and
            SMPTE 240M.
    """
    high = frame.height >= _HIGH_DEFINITION or frame.width >= 1280
    guess = _BT709 if high else (_PAL if frame.height in (288, 576) else _NTSC)
    rgb = frame.format.is_rgb
    matrix = _BT709 if rgb else _stated(frame.colorspace, guess)
    if matrix not in _MATRICES:
        raise PictureError(
            f"{path} cannot be enlarged: its colour matrix, {matrix} of ITU-T H.273, is none of BT.601, BT.709, BT.2020"
        )
    return Colours(
        matrix=matrix,
        primaries=_stated(frame.color_primaries, _BT709 if rgb else guess),
        transfer=_stated(frame.color_trc, _BT709 if high or rgb else _NTSC),
        full_range=not rgb and (frame.color_range == _FULL or frame.format.name.startswith("yuvj")),
    )


def to_rgb(frame: VideoFrame, colours: Colours, *, width: int, height: int) -> RGB:
    """Return a frame as RGB, (height, width, 3): uint8, or uint16 for frames of more than 8 bits.

    Frames of another size, to which a film may change, are brought to ``width`` and ``height``.
    """
    depth = depth_of(frame)
    size: dict[str, Any] = {"width": width, "height": height}
    if frame.format.is_rgb or depth == 8:
        kind = "rgb24" if depth == 8 else "rgb48le"
        return _pixels(_converted(frame, kind, source=colours, **size))
    planes = _converted(frame, "yuv444p16le", source=colours, target=colours, **size)
    return _rgb_of(_pixels(planes), colours, depth=depth)


def from_rgb(pixels: RGB, colours: Colours, *, pixel_format: str, depth: int, tag: LeftSited) -> VideoFrame:
    """Return a frame of RGB pixels, (H, W, 3), in a YUV format of ``depth`` bits, with matrix and range tagged.

    Subsampled chroma lies where ``tag`` says.
    """
    if depth == 8 and not colours.full_range:
        kind = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
        return _converted(tag(_frame(pixels, kind)), pixel_format, target=colours)
    deep = pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint16) * np.uint16(257)
    codes = _yuv_of(deep, colours, depth=depth)
    if depth == 8 or pixel_format.startswith("yuv444p"):
        frame = _planar(codes >> np.uint16(16 - depth), colours, depth=depth)
    else:
        frame = _frame(codes, "yuv444p16le")
    return _converted(tag(frame), pixel_format, source=colours, target=colours)


def interpolated(pixels: RGB, *, width: int, height: int) -> RGB:
    """Resize RGB pixels, (H, W, 3), by bicubic interpolation."""
    kind = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
    return _pixels(_converted(_frame(pixels, kind), kind, width=width, height=height))


def depth_of(frame: VideoFrame) -> int:
    """Return the bits per sample of a frame, at least 8."""
    return max(8, *(component.bits for component in frame.format.components))


def chroma_of(frame: VideoFrame) -> str:
    """Return how finely a frame holds colour: ``420``, ``422`` or ``444``; RGB counts as the coarsest.

    Frames in RGB are mostly animations and screens, to be shown by whatever plays films, and few play 4:4:4.
    """
    if frame.format.is_rgb or len(frame.format.components) < 3:
        return "420"
    components = frame.format.components
    across = components[0].width > components[1].width
    down = components[0].height > components[1].height
    return "444" if not (across or down) else "420" if down else "422"


def _tagging(width: int, height: int, kind: str) -> Graph:
    """A filter graph that sets the place of chroma and passes everything else on."""
    graph = cast("Graph", av().filter.Graph())
    layout = av().VideoFormat(kind)
    source = graph.add_buffer(width=width, height=height, format=layout, time_base=Fraction(1))
    graph.link_nodes(source, graph.add("setparams", "chroma_location=left"), graph.add("buffersink"))
    graph.configure()
    return graph


def _stated(code: int, guess: int) -> int:
    return guess if code in (0, _UNSTATED, 3) else code


def _converted(
    frame: VideoFrame,
    kind: str,
    *,
    source: Colours | None = None,
    target: Colours | None = None,
    width: int | None = None,
    height: int | None = None,
) -> VideoFrame:
    """Have libswscale convert, as exactly as it can; where no colours are given they are RGB's."""
    flag = av().video.reformatter.Interpolation
    return frame.reformat(
        width=width,
        height=height,
        format=kind,
        src_colorspace=_matrix(source or target),
        dst_colorspace=_matrix(target or source),
        src_color_range=source.range if source else _FULL,
        dst_color_range=target.range if target else _FULL,
        interpolation=flag.BICUBIC | flag.ACCURATE_RND | flag.FULL_CHR_H_INT | flag.FULL_CHR_H_INP,
    )


def _matrix(colours: Colours | None) -> int | None:
    """What PyAV calls a matrix."""
    if colours is None:
        return None
    return int(av().video.reformatter.Colorspace[_MATRICES[colours.matrix][0]])


def _frame(pixels: NDArray[Any], kind: str) -> VideoFrame:
    frame = av().VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=kind, channel_last=True)
    return cast("VideoFrame", frame)


def _planar(codes: NDArray[np.uint16], colours: Colours, *, depth: int) -> VideoFrame:
    """A 4:4:4 frame of codes of ``depth`` bits, (H, W, 3), as they are: libswscale would cut off even these."""
    height, width, _ = codes.shape
    kind = np.uint8 if depth == 8 else np.uint16
    frame = av().VideoFrame(width, height, "yuv444p" if depth == 8 else f"yuv444p{depth}le")
    for plane, values in zip(frame.planes, np.moveaxis(codes, 2, 0), strict=True):
        rows = np.zeros((height, plane.line_size // kind().itemsize), kind)
        rows[:, :width] = values
        plane.update(rows)
    frame.colorspace, frame.color_range = colours.matrix, colours.range
    return cast("VideoFrame", frame)


def _pixels(frame: VideoFrame) -> RGB:
    return frame.to_ndarray(channel_last=True)


def _scales(colours: Colours, *, depth: int) -> tuple[float, float, float, float]:
    """Black, the span of luma, the centre and the span of chroma, in codes that are shifted up to 16 bits."""
    if colours.full_range:
        span = float((2**depth - 1) << (16 - depth))
        return 0.0, span, 32768.0, span
    return 4096.0, 219 * 256.0, 32768.0, 224 * 256.0


def _rgb_of(yuv: NDArray[Any], colours: Colours, *, depth: int) -> RGB:
    """Y'CbCr to R'G'B': the inverse of `_yuv_of`."""
    black, luma, centre, chroma = _scales(colours, depth=depth)
    columns = np.linalg.inv(_equations(colours)) * 65535 / [luma, chroma, chroma]
    offset = 0.5 - columns @ [black, centre, centre]
    return _mapped(yuv, columns, offset, most=65535)


def _yuv_of(rgb: NDArray[Any], colours: Colours, *, depth: int) -> NDArray[np.uint16]:
    """R'G'B' to Y'CbCr, both of 16 bits; the codes of ``depth`` bits are shifted up.

    They are rounded here: libswscale cuts off what a format cannot hold.
    """
    black, luma, centre, chroma = _scales(colours, depth=depth)
    step = 1 << (16 - depth)
    rows = _equations(colours) * np.array([[luma], [chroma], [chroma]]) / (65535 * step)
    offset = np.array([black, centre, centre]) / step + 0.5
    codes = _mapped(rgb, rows, offset, most=2**depth - 1)
    codes <<= np.uint16(16 - depth)
    return codes


def _mapped(
    pixels: NDArray[Any], matrix: NDArray[Any], offset: NDArray[Any], *, most: int
) -> NDArray[np.uint16]:
    """Map each pixel of (H, W, 3) linearly, and cut it off below 0 and above ``most``."""
    mapped = pixels.astype(np.float32) @ matrix.T.astype(np.float32)
    mapped += offset.astype(np.float32)
    np.clip(mapped, 0, most, out=mapped)
    return mapped.astype(np.uint16)


def _equations(colours: Colours) -> NDArray[np.float64]:
    """Y' = kr R' + kg G' + kb B', Cb = (B' - Y') / 2(1 - kb), Cr = (R' - Y') / 2(1 - kr), as rows."""
    _, kr, kb = _MATRICES[colours.matrix]
    luma = np.array([kr, 1 - kr - kb, kb])
    red, _, blue = np.eye(3)
    return np.stack([luma, (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))])
