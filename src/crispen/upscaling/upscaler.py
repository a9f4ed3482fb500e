"""From a picture to a larger one: tiles through a runtime, and everything beside the colours kept.

::

    upscaler = Upscaler(zoo.find("srresnet-x4"))
    upscaler("photo.jpg")                          # a path, a PIL image, an array, a Picture
    enlargement = upscaler.enlarge(picture)        # or tile by tile
    for tile in enlargement:
        show(tile, of=len(enlargement))
    large = enlargement.result
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from crispen import images, runtimes, tiling
from crispen.errors import PictureError, UsageError
from crispen.images import Picture, Pixels
from crispen.runtimes import Choice, Device, Precision, Runtime, RuntimeName
from crispen.tiling import Tile
from crispen.zoo import Model

if TYPE_CHECKING:
    from PIL import Image

# Measured with the 16-block, 64-feature generator of scale 4, for windows of 160 to 512 pixels a side.
_PEAK_BYTES_PER_PIXEL = {
    ("openvino", "bf16"): 3900,
    ("openvino", "fp32"): 6700,
    ("torch", "bf16"): 5400,
    ("torch", "fp32"): 11200,
}
_SHARE_OF_MEMORY = 0.25  # the rest is for other programs, and for the next picture
_ASSUMED_MEMORY = 4 << 30  # where the system does not say
# A window takes the same time per pixel at any size, so only the context counts: with its 40 pixels, tiles of
# 64 take 4 times as long as the whole picture would, of 256 1.7 times, of 512 1.3 times, of 1024 1.2 times.
_SMALLEST_TILE, _LARGEST_TILE = 32, 512
# The networks have never seen padding from both ends at once: without these pixels a constant picture of 1x1 is off
# by up to 151 levels of 255, 1x60 by 47, 2x2 by 8, 3x3 by 2.5; with them, all are by about 1, as larger ones are.
_THIN, _REPEATED = 4, 2
_BICUBIC_REACH = 2  # how far, in pixels of the small picture, interpolated alpha sees


class Upscaler:
    """Enlarges pictures with one model, loaded once. Threads may share it.

    Args:
        model: what to compute; see `crispen.zoo.find`.
        runtime: ``openvino``, ``torch``, or ``auto``; see `crispen.runtimes.choose`.
        device: ``cpu``, ``cuda``, or ``auto``.
        precision: ``bf16``, ``fp32``, or ``auto``: bf16 for 8-bit pictures where the device has units for it,
            fp32 for 16-bit and float pictures, in which its rounding could be seen.
        tile: bound on the side, in input pixels, of the pieces that are computed at once; see
            `crispen.tiling.plan`. By default it follows from the free memory. It does not change the result.

    Raises:
        UsageError: for arguments that cannot be.
        ModelError: for a model without the file that the runtime needs.
        MissingExtra: for the torch runtime where torch is not installed.
    """

    def __init__(
        self,
        model: Model,
        *,
        runtime: RuntimeName = "auto",
        device: Device = "auto",
        precision: Precision = "auto",
        tile: int | None = None,
    ) -> None:
        _check_tile(tile)
        self.model = model
        self._choice = runtimes.choose(model, runtime=runtime, device=device, precision=precision)
        self._exact_when_deep = precision == "auto"
        self._tile = tile
        self._open: dict[Choice, Runtime] = {}
        self._opening = threading.Lock()

    @property
    def scale(self) -> int:
        """Pixels of the result for each pixel of the picture, along one side."""
        return self.model.scale

    @property
    def description(self) -> str:
        """What computes 8-bit pictures: runtime, device and precision, for reports."""
        return self._opened(self._choice).description

    @overload
    def __call__(
        self,
        picture: str | os.PathLike[str],
        *,
        output: str | os.PathLike[str] | None = None,
        force: bool = False,
    ) -> Path: ...

    @overload
    def __call__(self, picture: Picture) -> Picture: ...

    @overload
    def __call__(self, picture: NDArray[Any]) -> NDArray[Any]: ...

    @overload
    def __call__(self, picture: Image.Image) -> Image.Image: ...

    def __call__(
        self,
        picture: object,
        *,
        output: str | os.PathLike[str] | None = None,
        force: bool = False,
    ) -> object:
        """Enlarge a picture of any kind and return the same kind.

        Args:
            picture: a path; a PIL image; an array that `crispen.images.from_array` takes; a `Picture`.
            output: for a path: where to write, a file or a folder that exists; by default `default_output`.
            force: for a path: whether to overwrite what is there.

        Returns:
            The enlarged picture; for a path, the path that was written.

        Raises:
            UsageError: for anything else, and for an output of an unknown format.
            PictureError: for a file that cannot be read or written, and a result too large for the memory.
            ModelError: for damaged files of the model.
        """
        if isinstance(picture, str | os.PathLike):
            return self._enlarge_file(Path(cast(str, picture)), output=output, force=force)
        if output is not None or force:
            raise UsageError("output and force are for paths: other pictures are returned, not written")
        if isinstance(picture, Picture):
            return self.enlarge(picture).result
        if isinstance(picture, np.ndarray):
            array = cast(NDArray[Any], picture)
            return images.to_array(self.enlarge(images.from_array(array)).result, like=array)
        if images.is_pil(picture):
            image = cast("Image.Image", picture)
            return images.to_pil(self.enlarge(images.from_pil(image)).result, like=image)
        raise UsageError(f"a picture must be a path, a PIL image or an array, not a {type(picture).__name__}")

    def enlarge(self, picture: Picture) -> Enlargement:
        """Prepare the enlargement of a picture, to be done tile by tile.

        Raises:
            PictureError: for a result that is too large for the memory.
            ModelError: for damaged files of the model.
        """
        choice = self._choice_for(picture.bit_depth)
        runtime = self._opened(choice)
        left = _memory_left_beside_result(picture, scale=self.scale)
        context = max(self.model.context, _BICUBIC_REACH)
        tile = self._tile or _tile_for(
            left if choice.device == "cpu" else runtimes.free_memory(choice.device),
            context=context,
            bytes_per_pixel=_PEAK_BYTES_PER_PIXEL[choice.runtime, choice.precision] * self.scale**2 / 16,
        )
        tiles = tiling.plan(picture.height, picture.width, tile=tile, context=context)
        return Enlargement(picture, runtime=runtime, tiles=tiles)

    def _enlarge_file(self, path: Path, *, output: str | os.PathLike[str] | None, force: bool) -> Path:
        target = default_output(path, self.scale)
        if output is not None:
            target = Path(output, target.name) if names_folder(output) else Path(output)
        images.check_destination(target, force=force)
        picture = images.read(path)
        images.check_destination(target, force=force, picture=picture, scale=self.scale)
        images.write(self.enlarge(picture).result, target, force=force)
        return target

    def _choice_for(self, bit_depth: int) -> Choice:
        exact = self._exact_when_deep and bit_depth > 8
        return self._choice._replace(precision="fp32") if exact else self._choice

    def _opened(self, choice: Choice) -> Runtime:
        with self._opening:
            if choice not in self._open:
                self._open[choice] = runtimes.open_runtime(self.model, **choice._asdict())
            return self._open[choice]


class Enlargement:
    """One picture being enlarged: each iteration computes a tile and yields it; `len` is how many there are.

    The result is held in the picture's own dtype and filled in place, so that a large picture takes no more
    than it must. An interrupted iteration can be taken up by another.
    """

    def __init__(self, picture: Picture, *, runtime: Runtime, tiles: Sequence[Tile]) -> None:
        self._picture = picture
        self._runtime = runtime
        self._count = len(tiles)
        self._pending = deque(tiles)
        size = (picture.height * runtime.scale, picture.width * runtime.scale)
        self._pixels = np.empty((*size, picture.pixels.shape[2]), picture.pixels.dtype)
        self._alpha = None if picture.alpha is None else np.empty(size, picture.alpha.dtype)

    def __len__(self) -> int:
        """How many tiles there are, done or not."""
        return self._count

    def __iter__(self) -> Iterator[Tile]:
        """Compute the tiles that are left, and yield each when it is in its place."""
        while self._pending:
            self._compute(self._pending[0])
            yield self._pending.popleft()

    @property
    def result(self) -> Picture:
        """The enlarged picture. Tiles that are left are computed first.

        Profile and metadata are the picture's; the resolution grows, so that the size in print stays.
        """
        for _ in self:
            pass
        picture, scale = self._picture, self._runtime.scale
        resolution = picture.resolution and (picture.resolution[0] * scale, picture.resolution[1] * scale)
        return replace(
            picture,
            pixels=cast(Pixels, self._pixels),
            alpha=cast(Pixels | None, self._alpha),
            resolution=resolution,
        )

    def _compute(self, tile: Tile) -> None:
        scale = self._runtime.scale
        kept, place = tile.core.within(tile.window).scaled(scale).slices, tile.core.scaled(scale).slices
        sr = _run(self._runtime, _to_batch(self._picture.pixels[tile.window.slices]))[0]  # (3, height, width)
        _paste(sr[:, *kept], cast(Pixels, self._pixels[place]))
        if self._picture.alpha is not None and self._alpha is not None:
            enlarged = images.resize(self._picture.alpha[tile.window.slices], scale)
            self._alpha[place] = enlarged[kept].clip(0, _white(enlarged))


def default_output(path: str | os.PathLike[str], scale: int) -> Path:
    """Return where the enlargement of ``path`` goes if nothing else is said: ``NAME-x4.png`` beside it."""
    path = Path(path)
    return path.with_name(f"{path.stem}-x{scale}.png")


def names_folder(output: str | os.PathLike[str]) -> bool:
    """Tell whether an output is meant as a folder: it is one, or ends with a slash."""
    return Path(output).is_dir() or os.fspath(output).endswith(("/", os.sep))


def _check_tile(tile: object) -> None:
    if tile is not None and not (isinstance(tile, int | np.integer) and tile >= 1):
        raise UsageError(f"tile must be a whole number of pixels, at least 1, not {tile!r}")


def _run(runtime: Runtime, lr: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarge a batch; its thin sides, which a window has only where the picture has, with their edges repeated."""
    down, across = (_REPEATED if side < _THIN else 0 for side in lr.shape[2:])
    if not (down or across):
        return runtime(lr)
    sr = runtime(np.pad(lr, ((0, 0), (0, 0), (down, down), (across, across)), "edge"))
    top, left = down * runtime.scale, across * runtime.scale
    return sr[..., top : sr.shape[2] - top, left : sr.shape[3] - left]


def _to_batch(window: Pixels) -> NDArray[np.float32]:
    """(H, W, C) to (1, 3, H, W) in [0, 1]; gray becomes three equal channels."""
    height, width, _ = window.shape
    batch = np.empty((1, 3, height, width), np.float32)
    np.divide(window.transpose(2, 0, 1), _white(window), out=batch[0], dtype=np.float32)
    return batch


def _paste(sr: NDArray[np.float32], target: Pixels) -> None:
    """Put (3, H, W) into its place in the result, (H, W, C): clamped, and rounded half up. ``sr`` is used up."""
    channels = sr if target.shape[2] == 3 else sr.mean(axis=0, keepdims=True)
    np.clip(channels, 0, 1, out=channels)
    if target.dtype != np.float32:
        channels *= _white(target)
        channels += np.float32(0.5)
    np.copyto(target, channels.transpose(1, 2, 0), casting="unsafe")


def _white(pixels: Pixels) -> np.float32:
    """The value that stands for 1."""
    return np.float32({"uint8": 255, "uint16": 65535, "float32": 1}[pixels.dtype.name])


def _memory_left_beside_result(picture: Picture, *, scale: int) -> int | None:
    """How many bytes are left when the result is held; None where the system does not say.

    Raises:
        PictureError: where the result does not fit.
    """
    free = runtimes.free_memory("cpu")
    if free is None:
        return None
    needed = (picture.pixels.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)) * scale**2
    if needed > free:
        size = f"{picture.width * scale}x{picture.height * scale}"
        gib = f"{needed / 2**30:.1f} GiB of memory, of which {free / 2**30:.1f} are free"
        raise PictureError(f"a result of {size} pixels takes {gib}")
    return free - needed


def _tile_for(memory: int | None, *, context: int, bytes_per_pixel: float) -> int:
    """Choose the tile that makes good use of ``memory``: the larger it is, the less is computed twice."""
    share = _SHARE_OF_MEMORY * (_ASSUMED_MEMORY if memory is None else memory)
    window = math.isqrt(int(share / bytes_per_pixel))
    return min(max(window - 2 * context, _SMALLEST_TILE), _LARGEST_TILE)
