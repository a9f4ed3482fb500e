"""OpenVINO on the CPU: the default runtime, and the reason that crispen does not need torch.

Measured on one core of an AMD Zen 5 with the 16-block, 64-feature generator, from 480×320 to 1920×1280
pixels: 1.7 s in bf16 and 3.4 s in fp32, after 0.3 s for import and compilation. The model is compiled once,
for any size: compiling it for each size makes it no faster, and costs 0.1 s every time. Bundled models
are kept compiled in the user's cache folder, which makes the next start 0.06 s shorter; OpenVINO compiles anew
where what it finds there is damaged, or not of its own version and this processor.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from crispen import tiling
from crispen.runtimes import openvino_graph
from crispen.runtimes.pieces import Piece
from crispen.tiling import Box

_TELEMETRY, _CONVERTER = "openvino_telemetry", "openvino.tools.ovc"
TAIL_TILE = 256
"""Side, in pixels of the input, of the tiles in which the part after the features is computed. (Measured with windows
of 848 pixels on a Zen 5: tiles of 192 and 256 take 8.6 s, of 128 and 384 9, of 64 9.4; 256 take 0.2 GB.)"""
TAIL_TILE_OF_AMX = 122
"""The same where there are matrix units, which wait for memory, and are slow where twice the width is beyond 256."""


class OpenVINORuntime:
    """Computes an ONNX file. Threads may share it: it works for one at a time, with all processors.

    A network that names its ``features``, as those that crispen exports do, is computed in two parts. The
    features have the size of the picture and need a wide context; what makes the large picture of them
    takes most of the memory, but needs next to no context, and is therefore computed in small tiles of its
    own, and only where its result is asked for. The numbers are the same, to the bit.

    Args:
        onnx_path: the file, as `crispen.export` writes it; OpenVINO's own ``.xml`` does as well.
        scale: the model's.
        tail_context: how far, in pixels of the input, an output pixel sees in the features; None for a
            network without ``features``, which is computed in one.
        precision: ``bf16`` is twice as fast where the processor has units for it, and no good elsewhere.
        threads: how many processors to use; None takes the environment's ``OMP_NUM_THREADS``, as torch does
            and Ray sets it, or else leaves it to OpenVINO, which takes all.
        start: another file of the same architecture, and how far to go from its weights (0) to those of
            ``onnx_path`` (1).
        tail_tile: side, in pixels of the input, of the tiles in which what follows the features is computed.
        name: of the precision, where the file has one of its own and ``precision`` is only for what is left.
        cached: whether to keep what is compiled in the user's cache folder, for the next start.

    Raises:
        ModelError: where the file is missing or is not ONNX.
    """

    def __init__(
        self,
        onnx_path: Path,
        *,
        scale: int,
        tail_context: int | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        threads: int | None = None,
        start: tuple[Path, float] | None = None,
        tail_tile: int = TAIL_TILE,
        name: str | None = None,
        cached: bool = False,
    ) -> None:
        openvino = load_openvino()
        self._core = openvino.Core()
        self._model = openvino_graph.read(onnx_path, self._core)
        if start is not None:
            openvino_graph.go_from(openvino_graph.read(start[0], self._core), self._model, start[1], openvino)
        openvino_graph.shuffle_in_blocks(self._model, openvino)
        openvino_graph.split_convolutions(self._model, openvino)
        openvino_graph.keep_output_in_fp32(self._model, openvino)
        self._options = _options(precision, threads, _cache_folder() if cached else None)
        self._openvino = openvino
        self._precision = precision
        self._tail_context = tail_context
        self._tail_tile = tail_tile
        self._lock = threading.Lock()
        self.scale = scale
        self.description = (
            f"OpenVINO {openvino.__version__.partition('-')[0]} on the CPU in {name or precision}"
        )

    def __call__(self, batch: NDArray[np.float32], *, core: Box | None = None) -> NDArray[np.float32]:
        """Enlarge (N, 3, H, W), RGB float32 in [0, 1], to (N, 3, H·scale, W·scale), not clamped.

        With ``core``, a part of the input, only that part of the result is computed and returned.
        """
        window = Box(0, 0, *batch.shape[2:])
        core = core or window
        small = core == window and max(batch.shape[2:]) <= self._tail_tile
        with self._lock:
            if small or self._tail_context is None:
                self._whole.infer([batch], share_inputs=True, share_outputs=True)
                sr = self._whole.get_output_tensor().data[:, :, *core.scaled(self.scale).slices]
                return cast(NDArray[np.float32], sr.copy())
            return self._compute_in_parts(batch, core, context=self._tail_context)

    def map(self, pieces: Iterable[Piece]) -> Generator[NDArray[np.float32]]:
        """Enlarge one piece after the other; see `crispen.runtimes.Runtime`."""
        return (self(piece.window[np.newaxis], core=piece.core)[0] for piece in pieces)

    @functools.cached_property
    def _whole(self) -> Any:
        """The network, compiled when it is first needed: one part is enough for pictures no larger than a tile."""
        return self._compiled(self._model)

    @functools.cached_property
    def _parts(self) -> tuple[Any, Any]:
        """What makes the features, and what makes the large picture of them."""
        body, tail = openvino_graph.cut(self._model.clone(), self._precision, self._openvino)
        return self._compiled(body), self._compiled(tail)

    def _compiled(self, model: Any) -> Any:
        return self._core.compile_model(model, "CPU", self._options).create_infer_request()

    def _compute_in_parts(
        self, batch: NDArray[np.float32], core: Box, *, context: int
    ) -> NDArray[np.float32]:
        body, tail = self._parts
        body.infer([batch], share_inputs=True, share_outputs=True)
        features = body.get_output_tensor()  # (N, H, W, num_features)
        sr = np.empty((len(batch), 3, core.height * self.scale, core.width * self.scale), np.float32)
        seen = core.grown(context, inside=Box(0, 0, *batch.shape[2:]))
        for tile in tiling.plan(seen.height, seen.width, tile=self._tail_tile, context=context):
            window, kept = tile.window.moved(seen.top, seen.left), tile.core.moved(seen.top, seen.left) & core
            tail.set_input_tensor(self._region(features, window))
            tail.infer(share_outputs=True)
            part = tail.get_output_tensor().data[:, :, *kept.within(window).scaled(self.scale).slices]
            sr[:, :, *kept.within(core).scaled(self.scale).slices] = part
        return sr

    def _region(self, features: Any, box: Box) -> Any:
        """Copy a part of a tensor (N, H, W, C).

        A view would be taken as well, but OpenVINO 2026.4 crashes where a larger one follows a smaller.
        """
        count, _, _, channels = features.shape
        corner, end = [0, box.top, box.left, 0], [count, box.bottom, box.right, channels]
        openvino = self._openvino
        view = openvino.Tensor(features, openvino.Coordinate(corner), openvino.Coordinate(end))
        region = openvino.Tensor(features.element_type, view.shape)
        view.copy_to(region)
        return region


def load_openvino() -> Any:
    """Import openvino without its telemetry, and without its converter until somebody calls that.

    Where the package openvino_telemetry can be imported, importing openvino reports to Google Analytics and
    leaves files in the home folder. Where it cannot be, openvino does neither and misses nothing. The converter of
    other frameworks' models, openvino.tools.ovc, takes as long to import as all the rest, and is not for us.
    """
    with _unimportable(_TELEMETRY, _CONVERTER):
        openvino = importlib.import_module("openvino")
    if not hasattr(openvino, "convert_model"):
        openvino.__dict__["convert_model"] = _convert_model
    return openvino


@contextmanager
def _unimportable(*names: str) -> Generator[None]:
    """Make the import of modules fail, for as long as the context lasts."""
    imported = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    for name in names:
        sys.modules[name] = cast(Any, None)
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(imported)


def _convert_model(*args: Any, **options: Any) -> Any:
    """openvino.convert_model, for whoever shares the process with us: it is imported when it is called."""
    with _unimportable(_TELEMETRY):
        converter = importlib.import_module(_CONVERTER)
    return converter.convert_model(*args, **options)


def _options(precision: str, threads: int | None, cache: Path | None) -> dict[str, str | int]:
    options: dict[str, str | int] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
    }
    if cache is not None:
        options["CACHE_DIR"] = str(cache)
    threads = threads or _threads_of_environment()
    return options | ({"INFERENCE_NUM_THREADS": threads} if threads else {})


def _cache_folder() -> Path | None:
    """Where compiled models may be kept, by the customs of the system; None where nothing can be written."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
        folder = Path(home, "crispen", "openvino")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):  # no home at all
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _threads_of_environment() -> int | None:
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # of one number for each level of nesting
    return int(first) if first.isdecimal() else None
