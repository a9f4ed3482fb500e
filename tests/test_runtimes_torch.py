"""The torch runtime: the network made ready, batches in order, and what happens when memory runs out.

All of it runs on the CPU; a stand-in plays the part of the device where only a GPU would have one.
"""

import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crispen import runtimes, zoo
from crispen.errors import PictureError, UsageError
from crispen.networks.generators import Compact, SRResNet
from crispen.runtimes import Piece, TorchRuntime, torch_engine, torch_pipeline
from crispen.runtimes.torch_engine import CpuLanes, Recordings, TorchEngine, batch_size
from crispen.runtimes.torch_network import ReadyGenerator, ready_network
from crispen.runtimes.torch_pipeline import TileTooLarge
from crispen.tiling import Box
from crispen.zoo.card import Activation, Output

Array = NDArray[np.float32]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def psnr(one: Any, other: Any) -> float:
    difference = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    return float(-10 * np.log10(np.mean(np.square(difference))))


def generator(**arguments: Any) -> SRResNet:
    """A small one in whose batch norm there is something to fold, and whose slopes differ from zero and one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SRResNet(num_blocks=2, num_features=8, **arguments).eval()
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    assert module.running_mean is not None
                    assert module.running_var is not None
                    module.running_mean.normal_(0, 0.3)
                    module.running_var.uniform_(0.5, 2)
                    module.weight.uniform_(0.5, 2)
                    module.bias.normal_(0, 0.3)
    return network


# The network made ready


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "options",
    [
        *({"scale": scale, "output": output} for scale in (2, 4, 8) for output in get_args(Output)),
        *({"activation": activation, "batch_norm": False} for activation in get_args(Activation)),
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_ready_network_computes_the_same(options: dict[str, Any], precision: Any) -> None:
    lr = torch.from_numpy(noise(2, 3, 7, 5))
    with torch.inference_mode():
        expected = generator(**options)(lr)
        sr = ReadyGenerator(generator(**options), precision=precision)(lr)
    assert sr.dtype == torch.float32
    peak = float(expected.abs().max())
    assert psnr(sr / peak, expected / peak) > {"fp32": 110, "bf16": 35}[precision]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("output", get_args(Output))
def test_a_ready_compact_network_computes_the_same(output: Output, precision: Any) -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]  # torch's stub leaves the seed's type out
    compact = Compact(scale=4, num_blocks=2, num_features=8, batch_norm=False, output=output).eval()
    lr = torch.from_numpy(noise(2, 3, 7, 5))
    with torch.inference_mode():
        expected = compact(lr)
        sr = ready_network(copy.deepcopy(compact), precision=precision)(lr)
    assert sr.dtype == torch.float32
    torch.testing.assert_close(sr, expected, atol={"fp32": 1e-5, "bf16": 2e-2}[precision], rtol=0)


def test_weights_are_converted_once_and_batch_norm_is_gone() -> None:
    ready = ReadyGenerator(generator(), precision="bf16")
    assert {parameter.dtype for parameter in ready.parameters()} == {torch.bfloat16}
    assert not [module for module in ready.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    weights = [parameter for parameter in ready.parameters() if parameter.ndim == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    before = [weight.data_ptr() for weight in weights]
    with torch.inference_mode():
        ready(torch.from_numpy(noise(1, 3, 8, 8)))
    assert [weight.data_ptr() for weight in weights] == before


def near_identity() -> SRResNet:
    """A network that repeats each pixel and adds 0.003: its features are red, green and blue, handed through."""
    network: Any = generator(batch_norm=False, activation="relu")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for channel in range(3):
            network.head[0].weight[channel, channel, 4, 4] = 1
            for index in (0, 3):
                network.upsampler[index].weight[4 * channel : 4 * channel + 4, channel, 1, 1] = 1
            network.tail.weight[channel, channel, 4, 4] = 1
        network.tail.bias.fill_(0.003)
    return network


def test_the_result_is_not_rounded_to_bf16() -> None:
    """What the last convolution adds to the picture arrives, though it is less than bf16's steps."""
    lr = torch.full((1, 3, 16, 16), 0.75)
    with torch.inference_mode():
        sr = ReadyGenerator(near_identity(), precision="bf16")(lr)
    torch.testing.assert_close(sr, torch.full_like(sr, 0.753), atol=2e-5, rtol=0)
    assert abs(float(torch.tensor(0.753).bfloat16()) - 0.753) > 5e-4


def test_fp16_agrees_better_than_bf16(tiny_model: Path) -> None:
    lr = noise(1, 3, 8, 8)

    def computed(precision: Any) -> Array:
        return TorchRuntime(tiny_model / zoo.WEIGHTS, device="cpu", precision=precision)(lr)

    exact = computed("fp32")
    assert psnr(computed("fp16"), exact) > psnr(computed("bf16"), exact) + 6


# Batches


@pytest.fixture
def runtime(tiny_model: Path) -> TorchRuntime:
    return TorchRuntime(tiny_model / zoo.WEIGHTS, device="cpu")


def pieces_of(*sizes: tuple[int, int]) -> list[Piece]:
    """Windows of noise, with a different core in each."""
    return [
        Piece(noise(3, height, width, seed=index), Box(index % 2, 1, height, width - index % 3))
        for index, (height, width) in enumerate(sizes)
    ]


def expected_of(runtime: TorchRuntime, pieces: Sequence[Piece]) -> list[Array]:
    whole = [runtime(piece.window[np.newaxis])[0] for piece in pieces]
    return [sr[:, *piece.core.scaled(runtime.scale).slices] for sr, piece in zip(whole, pieces, strict=True)]


def assert_same(results: Sequence[Array], expected: Sequence[Array]) -> None:
    assert [result.shape for result in results] == [other.shape for other in expected]
    for result, other in zip(results, expected, strict=True):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, other, atol=1e-6)


def test_a_core_is_part_of_the_whole(runtime: TorchRuntime) -> None:
    batch, core = noise(2, 3, 9, 7), Box(2, 1, 8, 6)
    whole = runtime(batch)
    np.testing.assert_allclose(runtime(batch, core=core), whole[:, :, 8:32, 4:24], atol=1e-6)


@pytest.mark.parametrize("batch", [None, 1, 2, 3, 100])
def test_pieces_come_out_in_order_whatever_the_batch(tiny_model: Path, batch: int | None) -> None:
    """Ragged last batches and changes of size included."""
    pieces = pieces_of(*[(8, 9)] * 5, (7, 9), *[(8, 9)] * 2, (5, 5))
    runtime = TorchRuntime(tiny_model / zoo.WEIGHTS, device="cpu", batch=batch)
    assert_same(list(runtime.map(pieces)), expected_of(runtime, pieces))


def test_threads_may_share_a_runtime(tiny_model: Path) -> None:
    runtime = TorchRuntime(tiny_model / zoo.WEIGHTS, device="cpu", batch=2)
    works = [pieces_of(*[(5, 4 + index)] * 3) for index in range(4)]

    def compute(pieces: list[Piece]) -> list[Array]:
        return list(runtime.map(pieces))

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(compute, works))
    for results, pieces in zip(done, works, strict=True):
        assert_same(results, expected_of(runtime, pieces))


def test_no_pieces_have_no_results(runtime: TorchRuntime) -> None:
    assert list(runtime.map([])) == []


def test_on_the_cpu_no_piece_is_read_before_its_turn(runtime: TorchRuntime) -> None:
    read: list[int] = []

    def reading() -> Iterator[Piece]:
        for index, piece in enumerate(pieces_of(*[(6, 6)] * 3)):
            read.append(index)
            yield piece

    results = runtime.map(reading())
    assert read == []
    next(results)
    assert read == [0]


def test_results_keep_their_numbers_when_others_follow(tiny_model: Path) -> None:
    pieces = pieces_of(*[(8, 8)] * 4)
    runtime = TorchRuntime(tiny_model / zoo.WEIGHTS, device="cpu", batch=2)
    results = runtime.map(pieces)
    first = next(results)
    kept = first.copy()
    list(results)
    assert np.array_equal(first, kept)


def test_a_batch_below_one_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="batch must be at least 1 window, not 0"):
        TorchRuntime(tiny_model / zoo.WEIGHTS, device="cpu", batch=0)


def test_the_batch_follows_from_size_and_memory() -> None:
    gib = 1 << 30
    assert batch_size(128, 128, 64 * gib, bytes_per_pixel=8192) == 8  # enough to keep a GPU busy
    assert batch_size(512, 512, 64 * gib, bytes_per_pixel=8192) == 1
    assert batch_size(128, 128, gib // 2, bytes_per_pixel=8192) == 2  # what the memory allows
    assert batch_size(4096, 4096, 1, bytes_per_pixel=8192) == 1
    assert batch_size(128, 128, None, bytes_per_pixel=8192) == 8


# Several batches under way, and a device whose memory ends


class Device:
    """A stand-in for a GPU: three batches under way, room for ``room`` windows at once, and a diary."""

    def __init__(self, *, room: int, batch: int) -> None:
        self.room, self.freed, self.started, self.waited = room, 0, list[int](), 0

        def most(_height: int, _width: int) -> int:
            return batch

        lanes = CpuLanes()
        lanes.down = self._down
        self.engine = TorchEngine(
            self._enlarge, lanes=lanes, scale=2, depth=3, most=most, make_room=self._free
        )

    @property
    def under_way(self) -> int:
        return len(self.started) - self.waited

    def _enlarge(self, lr: Any) -> Any:
        if len(lr) > self.room:
            raise torch.OutOfMemoryError
        self.started.append(len(lr))
        return torch.nn.functional.interpolate(lr, scale_factor=2)

    def _down(self, device: Any) -> tuple[Any, Callable[[], None]]:
        def wait() -> None:
            self.waited += 1

        return device, wait

    def _free(self) -> None:
        assert self.under_way == 0
        self.freed += 1

    def map(self, pieces: Iterator[Piece] | Sequence[Piece]) -> Iterator[Array]:
        return torch_pipeline.enlarge(pieces, self.engine)


def repeated(pieces: Sequence[Piece]) -> list[Array]:
    return [piece.window.repeat(2, 1).repeat(2, 2)[:, *piece.core.scaled(2).slices] for piece in pieces]


def test_three_batches_are_under_way_at_once() -> None:
    device, pieces = Device(room=9, batch=2), pieces_of(*[(4, 5)] * 11)
    seen: list[int] = []
    results: list[Array] = []
    for result in device.map(pieces):
        seen.append(device.under_way)
        results.append(result)
    assert_same(results, repeated(pieces))
    assert device.started == [2, 2, 2, 2, 2, 1]
    assert seen == [2] * 8 + [1] * 2 + [0]  # the batch that is handed out has come down


def test_where_memory_runs_out_batches_get_smaller_and_nothing_is_lost() -> None:
    device, pieces = Device(room=3, batch=8), pieces_of(*[(4, 5)] * 19)
    assert_same(list(device.map(pieces)), repeated(pieces))
    assert max(device.started) <= 3
    assert device.started == [2] * 9 + [1]
    assert device.freed == 2  # eight were too many, and four


def test_memory_that_runs_out_on_the_way_is_found_when_the_others_are_done() -> None:
    device, pieces = Device(room=1, batch=1), pieces_of(*[(4, 5)] * 4)

    def shrinking() -> Iterator[Piece]:
        for index, piece in enumerate(pieces):
            device.room = 0 if index == 2 else 1
            yield piece

    free = device.engine.make_room

    def make_room(height: int, width: int, *, most: int) -> None:
        free(height, width, most=most)
        device.room = 1

    device.engine.make_room = make_room
    assert_same(list(device.map(shrinking())), repeated(pieces))
    assert device.freed == 1


def test_a_window_that_does_not_fit_alone_is_an_error_after_the_results_before_it() -> None:
    device, pieces = Device(room=1, batch=2), pieces_of((4, 5), (4, 5), (4, 6))

    def shrinking() -> Iterator[Piece]:
        yield from pieces[:2]
        device.room = 0
        yield pieces[2]

    results: list[Array] = []
    with pytest.raises(TileTooLarge, match=r"too little memory for 6x4 pixels at once: use a smaller tile"):
        results.extend(device.map(shrinking()))
    assert issubclass(TileTooLarge, PictureError)
    assert_same(results, repeated(pieces[:2]))
    assert device.under_way == 0


def test_what_is_kept_for_later_is_given_back_before_giving_up() -> None:
    device, pieces = Device(room=0, batch=1), pieces_of((4, 5))
    free = device.engine.make_room

    def make_room(height: int, width: int, *, most: int) -> None:
        free(height, width, most=most)
        device.room = 1

    device.engine.make_room = make_room
    assert_same(list(device.map(pieces)), repeated(pieces))


def test_after_an_error_smaller_windows_go_through() -> None:
    device = Device(room=0, batch=2)
    with pytest.raises(TileTooLarge):
        list(device.map(pieces_of((8, 8))))
    device.room = 2
    assert_same(list(device.map(pieces_of((4, 4), (4, 4)))), repeated(pieces_of((4, 4), (4, 4))))


def test_an_error_while_reading_passes_and_what_is_under_way_is_awaited() -> None:
    device = Device(room=9, batch=1)

    def breaking() -> Iterator[Piece]:
        yield from pieces_of((4, 4), (4, 4))
        raise PictureError("the file is cut short")

    with pytest.raises(PictureError, match="cut short"):
        list(device.map(breaking()))
    assert device.started == [1, 1]
    assert device.under_way == 0


def test_who_stops_early_leaves_nothing_under_way() -> None:
    device = Device(room=9, batch=1)
    results: Any = device.map(pieces_of(*[(4, 4)] * 8))
    next(results)
    assert device.under_way == 2
    results.close()
    assert device.under_way == 0
    assert len(device.started) == 3


def test_an_error_of_the_network_passes(runtime: TorchRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an illegal address")

    monkeypatch.setattr(ReadyGenerator, "forward", fail)
    with pytest.raises(RuntimeError, match="an illegal address"):
        runtime(noise(1, 3, 4, 4))


def test_a_call_that_does_not_fit_is_an_error(runtime: TorchRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(ReadyGenerator, "forward", fail)
    with pytest.raises(TileTooLarge, match="9x4 pixels"):
        runtime(noise(1, 3, 4, 9))


def test_sizes_that_were_seen_are_not_kept_for_ever() -> None:
    asked: list[int] = []

    def most(_height: int, width: int) -> int:
        asked.append(width)
        return width

    engine = TorchEngine(lambda lr: lr, lanes=CpuLanes(), scale=1, depth=1, most=most, make_room=lambda: None)
    assert [engine.most(4, 5), engine.most(4, 5)] == [5, 5]
    assert asked == [5]
    assert all(engine.most(4, width) == width for width in range(1, 500))
    assert engine.most(4, 5) == 5
    assert asked.count(5) == 2


# Recordings


class Recorder:
    """Stands for CUDA graphs: says what it recorded and what was computed without."""

    def __init__(self, *, fails: bool = False) -> None:
        self.recorded, self.attempts, self.eager, self.replayed = list[int](), 0, 0, 0
        self._fails = fails
        self.recordings = Recordings(self._network, record=self._record)

    def _network(self, lr: Any) -> Any:
        self.eager += 1
        return lr + 1

    def _record(self, network: Callable[[Any], Any], lr: Any) -> Callable[[Any], Any]:
        self.attempts += 1
        if self._fails:
            raise torch.OutOfMemoryError
        self.recorded.append(lr.shape[-1])

        def replay(lr: Any) -> Any:
            self.replayed += 1
            return lr + 1

        return replay

    def __call__(self, width: int) -> None:
        lr = torch.zeros(1, 3, 2, width)
        assert torch.equal(self.recordings(lr), lr + 1)


def test_a_shape_is_recorded_when_it_comes_again() -> None:
    record = Recorder()
    for width in (4, 4, 4, 5, 4):
        record(width)
    assert (record.recorded, record.eager, record.replayed) == ([4], 2, 3)


def test_few_recordings_are_kept() -> None:
    record = Recorder()
    for width in (
        1,
        1,
        2,
        2,
        3,
        3,
        1,
        4,
        4,
        5,
        5,
    ):  # the fifth shape pushes out 2, which was not used the longest
        record(width)
    eager = record.eager
    record(1)
    assert record.eager == eager
    record(2)
    assert record.eager == eager + 1


def test_where_recording_fails_it_is_not_tried_again() -> None:
    record = Recorder(fails=True)
    for width in (4, 4, 4, 5, 5):
        record(width)
    assert (record.attempts, record.eager, record.replayed) == (1, 5, 0)


def test_forgotten_recordings_are_made_anew() -> None:
    record = Recorder()
    record(4)
    record(4)
    record.recordings.forget()
    record(4)
    record(4)
    assert record.recorded == [4, 4]


# The GPU's part, played on the CPU


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets the CPU pass for a GPU, and writes down what the GPU would have been told, in order."""
    journal: list[str] = []
    names = iter(["compute", "up", "down"])
    current: list[str] = []

    class Stream:
        def __init__(self) -> None:
            self.name = next(names)

        def wait_stream(self, other: "Stream") -> None:
            journal.append(f"{self.name} waits for {other.name}")

    class Event:
        def __init__(self, *, blocking: bool) -> None:
            assert blocking

        def record(self) -> None:
            journal.append(f"event in {current[-1]}")

        def synchronize(self) -> None:
            journal.append("host waits")

    @contextmanager
    def stream(stream: Stream) -> Generator[None]:
        current.append(stream.name)
        journal.append(f"in {stream.name}")
        yield
        current.pop()

    @contextmanager
    def graph(_graph: object, **_options: object) -> Generator[None]:
        journal.append("recording")
        yield

    class Graph:
        def replay(self) -> None:
            journal.append("replay")

    def host_tensor(_lanes: object, *shape: int) -> Any:
        return torch.empty(shape)

    monkeypatch.setattr(torch_engine, "_GPU", "cpu")
    monkeypatch.setattr(torch_engine.CudaLanes, "host_tensor", host_tensor)
    monkeypatch.setattr(torch_engine, "free_memory", {"cuda": 1 << 30}.get)
    for name, stand_in in {
        "Stream": Stream, "Event": Event, "stream": stream, "graph": graph, "CUDAGraph": Graph,
        "graph_pool_handle": lambda: (0, 1), "is_available": lambda: True,
        "synchronize": lambda: journal.append("synchronise"), "empty_cache": lambda: journal.append("empty"),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return journal


def test_copies_and_computing_wait_for_each_other_and_the_host_last(
    journal: list[str], tiny_model: Path, runtime: TorchRuntime
) -> None:
    pieces = pieces_of((8, 9))
    results = list(TorchRuntime(tiny_model / zoo.WEIGHTS, device="cuda").map(pieces))
    assert_same(results, expected_of(runtime, pieces))
    up, computing = ["in up", "compute waits for up"], ["in compute"]
    down = ["down waits for compute", "in down", "event in down", "host waits"]
    assert journal == [*up, *computing, *down]


def test_the_host_waits_only_when_three_batches_are_under_way(journal: list[str], tiny_model: Path) -> None:
    results = TorchRuntime(tiny_model / zoo.WEIGHTS, device="cuda", batch=1).map(
        pieces_of((4, 4), (4, 5), (4, 6), (4, 7))
    )
    next(results)
    assert journal.count("event in down") == 3
    assert journal.count("host waits") == 1


def test_a_recording_computes_what_it_is_given(journal: list[str]) -> None:
    lanes = torch_engine.CudaLanes()

    def handed_through(lr: Any) -> Any:  # so that the result of a replay is the recording's own input
        return lr

    replay = torch_engine.CudaRecorder(lanes.stream)(handed_through, torch.zeros(2, 3))
    given = torch.ones(2, 3)
    assert torch.equal(replay(given), given)
    given += 1
    assert torch.equal(replay(given), given)
    assert journal == ["recording", "replay", "replay"]


def test_recordings_give_way_where_memory_runs_out(
    journal: list[str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = TorchRuntime(tiny_model / zoo.WEIGHTS, device="cuda", batch=4)
    forward = ReadyGenerator.forward

    def fail_beyond_one(network: ReadyGenerator, lr: Any) -> Any:
        if len(lr) > 1:
            raise torch.OutOfMemoryError
        return forward(network, lr)

    def forget(_: Recordings) -> None:
        journal.append("forget")

    monkeypatch.setattr(ReadyGenerator, "forward", fail_beyond_one)
    monkeypatch.setattr(Recordings, "forget", forget)
    pieces = pieces_of(*[(5, 5)] * 4)
    assert len(list(runtime.map(pieces))) == 4
    assert [entry for entry in journal if entry in {"synchronise", "forget", "empty"}] == [
        "synchronise",
        "forget",
        "empty",
    ] * 2  # four were too many, and two
    assert journal.count("recording") == 1


# What only a GPU can tell


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_agrees_with_the_cpu(tiny_model: Path, precision: Any) -> None:
    """Three batches of one shape: computed, recorded, replayed; then a ragged one."""
    pieces = pieces_of(*[(24, 20)] * 10)
    on_gpu = TorchRuntime(tiny_model / zoo.WEIGHTS, device="cuda", precision=precision, batch=3)
    exact = list(TorchRuntime(tiny_model / zoo.WEIGHTS, device="cpu").map(pieces))
    results = list(on_gpu.map(pieces))
    assert [result.shape for result in results] == [result.shape for result in exact]
    for result, other in zip(results, exact, strict=True):
        assert psnr(result, other) > {"fp32": 90, "bf16": 45, "fp16": 60}[precision]


@needs_gpu
def test_free_memory_of_a_gpu_is_some() -> None:
    assert 0 < (runtimes.free_memory("cuda") or 0) < 1 << 50
