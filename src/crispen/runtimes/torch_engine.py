"""The engine of the torch runtime: batches of windows through a network, on the CPU or on a GPU.

On a GPU three things happen at once, each on a stream of its own: the next batch goes up, one is computed, the last
one comes down. Nothing but these batches is ever on the device. What comes up from pageable memory would make the
host wait, so both ways lead through page-locked memory; results are handed out as they lie there, not copied again.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispen.runtimes.hardware import free_memory
from crispen.runtimes.pieces import Piece
from crispen.runtimes.torch_network import ReadyCompact, ReadyGenerator

Network = Callable[[Tensor], Tensor]
"""From (N, 3, H, W) to (N, 3, H·scale, W·scale), float32."""

# Reckoned, and not measured yet: enough to fill the largest GPU several times over, and few enough that the
# body's features, 128 bytes a pixel in half precision, stay in its second-level cache from layer to layer.
_PIXELS_AT_ONCE = 1 << 17
_SHARE_OF_MEMORY = 0.5
_GPU = "cuda"
_KEPT_RECORDINGS, _KEPT_SIZES = 4, 64

_TURN = threading.Lock()  # torch's settings are the process'; and a recording has one place for its input


class Lanes(Protocol):
    """The ways to, on and from a device."""

    def host_tensor(self, *shape: int) -> Tensor:
        """Memory of the host, float32, for what goes up or comes down."""
        ...

    def up(self, host: Tensor) -> Tensor:
        """Bring a tensor to the device."""
        ...

    def computing(self) -> AbstractContextManager[Any]:
        """Within it, what is done to tensors of the device follows what was done before."""
        ...

    def down(self, device: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """Bring a tensor back: where it will lie in the host's memory, and what returns when it does."""
        ...


class CpuLanes:
    """The CPU: there is no way to go."""

    def host_tensor(self, *shape: int) -> Tensor:
        """Memory of the host, float32."""
        return torch.empty(shape)

    def up(self, host: Tensor) -> Tensor:
        """Return the tensor itself."""
        return host

    def computing(self) -> AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return nullcontext()

    def down(self, device: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """Return the tensor itself, and nothing to wait for."""
        return device, lambda: None


class CudaLanes:
    """The current GPU: a stream for each direction, and one to compute on."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()
        self._up, self._down = torch.cuda.Stream(), torch.cuda.Stream()

    def host_tensor(self, *shape: int) -> Tensor:
        """Page-locked memory of the host, float32."""
        return torch.empty(shape, pin_memory=True)

    def up(self, host: Tensor) -> Tensor:
        """Start the copy; what is computed from now on waits for it."""
        with torch.cuda.stream(self._up):
            device = host.to(_GPU, non_blocking=True)
        self.stream.wait_stream(self._up)
        return device

    def computing(self) -> AbstractContextManager[Any]:
        """Return the context of the computing stream, with the caller's settings of cuDNN, but without TF32."""
        cudnn = torch.backends.cudnn
        stack = ExitStack()
        stack.enter_context(torch.cuda.stream(self.stream))
        stack.enter_context(
            cudnn.flags(
                enabled=True,
                benchmark=cudnn.benchmark,
                deterministic=cudnn.deterministic,
                allow_tf32=False,
            )
        )
        return stack

    def down(self, device: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """Start the copy when all is computed that has been asked for so far."""
        host = self.host_tensor(*device.shape)
        self._down.wait_stream(self.stream)
        with torch.cuda.stream(self._down):
            host.copy_(device, non_blocking=True)
            done = torch.cuda.Event(blocking=True)
            done.record()
        return host, done.synchronize


class Recordings:
    """A network, recorded as a CUDA graph for each shape that comes again: then one call launches all its kernels.

    The first call with a shape computes as usual, which also lets cuDNN choose its kernels; the second records.

    Args:
        network: what to compute.
        record: makes a recording of the network for tensors like this one.
    """

    def __init__(self, network: Network, *, record: Callable[[Network, Tensor], Network]) -> None:
        self._network = network
        self._record = record
        self._recorded: OrderedDict[torch.Size, Network | None] = OrderedDict()
        self._can_record = True

    def __call__(self, lr: Tensor) -> Tensor:
        """Compute, by a recording if there is one. Its result lasts until the next call."""
        if lr.shape in self._recorded and self._recorded[lr.shape] is None and self._can_record:
            self._recorded[lr.shape] = self._try_to_record(lr)
        network = self._recorded.setdefault(lr.shape, None) or self._network
        self._recorded.move_to_end(lr.shape)
        if len(self._recorded) > _KEPT_RECORDINGS:
            self._recorded.popitem(last=False)
        return network(lr)

    def forget(self) -> None:
        """Drop all recordings, and with them the memory that they hold."""
        self._recorded.clear()

    def _try_to_record(self, lr: Tensor) -> Network | None:
        """Record, or never try again: a recording saves time and is never needed, and holds memory of its own."""
        try:
            return self._record(self._network, lr)
        except RuntimeError:  # all that CUDA reports, lack of memory included
            self._can_record = False
            return None


class CudaRecorder:
    """Records CUDA graphs.

    They share one pool of memory, as they run one after the other on one stream.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, network: Network, lr: Tensor) -> Network:
        """Record ``network`` for tensors like ``lr``."""
        graph, its_lr = torch.cuda.CUDAGraph(), lr.clone()
        # "thread_local": what other threads do with the GPU in the meantime is no part of it, and no error.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            its_sr = network(its_lr)

        def replay(lr: Tensor) -> Tensor:
            its_lr.copy_(lr)
            graph.replay()
            return its_sr

        return replay


@dataclass(frozen=True, slots=True)
class _Batch:
    """What `TorchEngine.start` started."""

    packed: Tensor
    shapes: list[tuple[int, int, int]]
    done: Callable[[], None]
    held: tuple[Tensor, ...]
    """Tensors that several streams use: freed earlier, the first might overwrite what the second still reads."""

    def wait(self) -> None:
        """Return when the device has done."""
        self.done()

    def results(self) -> list[NDArray[np.float32]]:
        """Wait, and return the enlarged cores."""
        self.wait()
        parts = np.split(self.packed.numpy(), list(accumulate(map(math.prod, self.shapes)))[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]


class TorchEngine:
    """An engine as `crispen.runtimes.torch_pipeline` takes it.

    Args:
        network: what to compute, on the device of the lanes.
        lanes: how to get there.
        scale: the network's.
        depth: batches under way at once.
        most: how many windows of a height and width to take at once.
        make_room: gives back what the device keeps only for later.
    """

    def __init__(
        self,
        network: Network,
        *,
        lanes: Lanes,
        scale: int,
        depth: int,
        most: Callable[[int, int], int],
        make_room: Callable[[], None],
    ) -> None:
        self.depth = depth
        self._network = network
        self._lanes = lanes
        self._scale = scale
        self._choose_most = most
        self._make_room = make_room
        self._most: dict[tuple[int, int], int] = {}

    def most(self, height: int, width: int) -> int:
        """How many windows of that size to take at once: decided once, so that batches have one shape."""
        if (height, width) not in self._most:
            if len(self._most) >= _KEPT_SIZES:
                self._most.clear()
            self._most[height, width] = self._choose_most(height, width)
        return self._most[height, width]

    def start(self, pieces: Sequence[Piece]) -> _Batch | None:
        """Start on pieces; None where the device has too little memory."""
        try:
            with _TURN, torch.inference_mode():
                return self._start(pieces)
        except torch.OutOfMemoryError:
            return None  # and nothing more here, where the exception still holds all that the failed call had

    def make_room(self, height: int, width: int, *, most: int) -> None:
        """Give back what is kept for later, and take smaller batches."""
        self._most[height, width] = most
        with _TURN:
            self._make_room()

    def _start(self, pieces: Sequence[Piece]) -> _Batch:
        cores = [piece.core.scaled(self._scale) for piece in pieces]
        shapes = [(3, core.height, core.width) for core in cores]
        lr = self._lanes.up(self._stacked(pieces))
        with self._lanes.computing():
            sr = self._network(lr)
            packed = torch.empty(sum(map(math.prod, shapes)), device=sr.device)
            ends = accumulate(map(math.prod, shapes))
            for enlarged, core, shape, end in zip(sr, cores, shapes, ends, strict=True):
                packed[end - math.prod(shape) : end].view(shape).copy_(enlarged[:, *core.slices])
        host, done = self._lanes.down(packed)
        return _Batch(packed=host, shapes=shapes, done=done, held=(lr, packed))

    def _stacked(self, pieces: Sequence[Piece]) -> Tensor:
        """(N, 3, H, W) in the host's memory."""
        stacked = self._lanes.host_tensor(len(pieces), *pieces[0].window.shape)
        np.stack([piece.window for piece in pieces], out=stacked.numpy())
        return stacked


def cpu_engine(network: ReadyGenerator | ReadyCompact, *, batch: int | None) -> TorchEngine:
    """An engine for the CPU, which gains nothing from batches: it takes ``batch`` windows at once, or one."""
    return TorchEngine(
        network,
        lanes=CpuLanes(),
        scale=network.scale,
        depth=1,
        most=lambda _height, _width: batch or 1,
        make_room=lambda: None,
    )


def cuda_engine(network: ReadyGenerator | ReadyCompact, *, batch: int | None) -> TorchEngine:
    """An engine for the current GPU: it takes ``batch`` windows at once, or what its memory and size suggest."""
    lanes = CudaLanes()
    recordings = Recordings(cast(Network, network.to(_GPU)), record=CudaRecorder(lanes.stream))
    bytes_per_pixel = network.bytes_per_pixel

    def most(height: int, width: int) -> int:
        return batch or batch_size(height, width, free_memory("cuda"), bytes_per_pixel=bytes_per_pixel)

    def make_room() -> None:
        torch.cuda.synchronize()
        recordings.forget()
        torch.cuda.empty_cache()

    return TorchEngine(recordings, lanes=lanes, scale=network.scale, depth=3, most=most, make_room=make_room)


def batch_size(height: int, width: int, memory: int | None, *, bytes_per_pixel: int) -> int:
    """Choose how many windows of a size to compute at once: at least one, whatever the memory."""
    affordable = _PIXELS_AT_ONCE if memory is None else int(_SHARE_OF_MEMORY * memory) // bytes_per_pixel
    return max(1, min(_PIXELS_AT_ONCE, affordable) // (height * width))
