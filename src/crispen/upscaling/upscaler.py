"""A model that is loaded once and enlarges whatever it is called with."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from crispen import images, runtimes, tiling, zoo
from crispen.errors import UsageError
from crispen.images import Picture
from crispen.runtimes import Blend, Choice, Device, Precision, Runtime, RuntimeName
from crispen.upscaling import memory
from crispen.upscaling.consistent import REACH, ConsistentRuntime
from crispen.upscaling.enlargement import Enlargement, enlarged
from crispen.upscaling.rows import BledRows, PictureRows, Readable, Rows, SourceRows
from crispen.zoo import Model

if TYPE_CHECKING:
    from PIL import Image

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
        strength: how much detail a GAN may add: 1 is the model itself, 0 the faithful one that its card names,
            and between them lie weights between theirs.
        consistent: whether the result, reduced again, must be the picture; see `crispen.upscaling.consistent`.

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
        strength: float = 1.0,
        consistent: bool = False,
    ) -> None:
        _check_tile(tile)
        self.model = model
        self._choice = runtimes.choose(model, runtime=runtime, device=device, precision=precision)
        self._exact_when_deep = precision == "auto"
        self._blend = _blend(model, strength)
        self._consistent = consistent
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
        """Prepare the enlargement of a picture in memory, to be done tile by tile.

        Raises:
            PictureError: for a result that is too large for the memory.
            ModelError: for damaged files of the model.
        """
        binary_alpha = picture.alpha is not None and images.is_binary(picture.alpha)
        return self._enlargement(PictureRows(picture), whole=True, binary_alpha=binary_alpha)

    def enlarge_source(self, source: Readable, *, binary_alpha: bool = False) -> Enlargement:
        """Prepare the enlargement of a picture that is read downwards; neither it nor the result is ever held whole.

        Args:
            source: see `crispen.images.open`.
            binary_alpha: whether its alpha channel, if any, is 0 or full everywhere; see `crispen.images.is_binary`.

        Raises:
            ModelError: for damaged files of the model.
        """
        return self._enlargement(SourceRows(source), whole=False, binary_alpha=binary_alpha)

    def _enlargement(self, small: Rows, *, whole: bool, binary_alpha: bool) -> Enlargement:
        if small.header.has_alpha:
            small = BledRows(small)
        choice = self._choice_for(small.header.bit_depth)
        runtime = self._opened(choice)
        large = enlarged(small.header, scale=self.scale)
        left = memory.left_beside(large) if whole else runtimes.free_memory("cpu")
        context = max(self.model.context, _BICUBIC_REACH) + (REACH if self._consistent else 0)
        tile = self._tile or memory.square_tile(
            left if choice.device == "cpu" else runtimes.free_memory(choice.device),
            context=context,
            cost=memory.cost_of(choice, scale=self.scale, has_features=self.model.tail_context is not None),
        )
        tiles = tiling.plan(
            small.header.height,
            small.header.width,
            tile=tile,
            tile_height=tile if whole else memory.band_height(large, scale=self.scale, tile=tile),
            context=context,
        )
        return Enlargement(small, runtime=runtime, tiles=tiles, whole=whole, binary_alpha=binary_alpha)

    def _enlarge_file(self, path: Path, *, output: str | os.PathLike[str] | None, force: bool) -> Path:
        from crispen.upscaling import files  # which needs upscalers

        target = default_output(path, self.scale)
        if output is not None:
            target = Path(output, target.name) if names_folder(output) else Path(output)
        files.enlarge_file(path, target, self, force=force)
        return target

    def _choice_for(self, bit_depth: int) -> Choice:
        exact = self._exact_when_deep and bit_depth > 8
        return self._choice._replace(precision="fp32") if exact else self._choice

    def _opened(self, choice: Choice) -> Runtime:
        with self._opening:
            if choice not in self._open:
                runtime = runtimes.open_runtime(self.model, **choice._asdict(), blend=self._blend)
                self._open[choice] = ConsistentRuntime(runtime) if self._consistent else runtime
            return self._open[choice]


def _blend(model: Model, strength: float) -> Blend | None:
    """Find the model from which ``strength`` leads to another.

    Raises:
        UsageError: for a strength beyond [0, 1], or a model whose card names no such model.
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"strength must be from 0 to 1, not {strength:g}")
    if strength == 1:
        return None
    if model.card is None or not model.card.faithful:
        raise UsageError(
            f"strength must be 1 for {model.name}, as it has no faithful model from which to go to it"
        )
    return Blend(zoo.find(model.card.faithful), strength)


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
