"""Both runtimes keep the one contract, and the right one is chosen."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from crispen import images, runtimes, zoo
from crispen.errors import CrispenError, MissingExtra, ModelError, UsageError
from crispen.runtimes import Blend, OpenVINORuntime, Piece, Runtime, TorchRuntime, hardware
from crispen.runtimes import openvino as openvino_runtime
from crispen.tiling import Box
from crispen.zoo import Model

Open = Callable[..., Runtime]


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return zoo.find(tiny_model)


@pytest.fixture(params=["openvino", "torch"])
def open_runtime(request: pytest.FixtureRequest, tiny_model: Path) -> Open:
    """What opens the tiny model on the CPU with one of the runtimes; takes ``precision``."""

    def open_openvino(**options: Any) -> Runtime:
        return OpenVINORuntime(tiny_model / zoo.ONNX, scale=4, **options)

    def open_torch(**options: Any) -> Runtime:
        return TorchRuntime(tiny_model / zoo.WEIGHTS, device="cpu", **options)

    return {"openvino": open_openvino, "torch": open_torch}[request.param]


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def psnr(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(-10 * np.log10(np.mean(np.square(one - other, dtype=np.float64))))


def test_the_contract_is_kept_at_every_size(open_runtime: Open) -> None:
    runtime = open_runtime()
    assert runtime.scale == 4
    for size in ((1, 3, 9, 14), (3, 3, 5, 7), (1, 3, 1, 1), (1, 3, 9, 14)):
        sr = runtime(noise(*size))
        assert sr.shape == (size[0], 3, 4 * size[2], 4 * size[3])
        assert sr.dtype == np.float32


def test_pictures_of_a_batch_do_not_mix(open_runtime: Open) -> None:
    runtime, batch = open_runtime(), noise(3, 3, 8, 6)
    np.testing.assert_allclose(runtime(batch)[[2, 0, 1]], runtime(batch[[2, 0, 1]]), atol=1e-6)
    np.testing.assert_allclose(runtime(batch)[1:2], runtime(batch[1:2]), atol=1e-6)


def test_a_result_outlives_the_next_call(open_runtime: Open) -> None:
    runtime, batch = open_runtime(), noise(1, 3, 8, 6)
    first = runtime(batch)
    kept = first.copy()
    runtime(1 - batch)
    assert np.array_equal(first, kept)


def test_views_are_taken_as_they_are(open_runtime: Open) -> None:
    runtime, wide = open_runtime(), noise(1, 3, 6, 16)
    view = wide[..., ::-2]
    view.flags.writeable = False
    assert np.array_equal(runtime(view), runtime(view.copy()))


def test_only_the_core_is_returned_where_one_is_named(open_runtime: Open) -> None:
    runtime, batch = open_runtime(), noise(2, 3, 30, 41)
    whole = runtime(batch)
    for core in (Box(0, 0, 30, 41), Box(9, 0, 10, 1), Box(3, 5, 20, 36), Box(29, 40, 30, 41)):
        part = runtime(batch, core=core)
        np.testing.assert_allclose(part, whole[:, :, *core.scaled(4).slices], atol=1e-6)


def test_pieces_come_back_in_their_order(open_runtime: Open) -> None:
    runtime, core = open_runtime(), Box(1, 2, 6, 9)
    windows = [noise(5, 3, 9, 12)[i] for i in range(5)] + [noise(3, 8, 11)]
    results = runtime.map(Piece(window, core) for window in windows)
    for window, result in zip(windows, results, strict=True):
        np.testing.assert_allclose(result, runtime(window[np.newaxis], core=core)[0], atol=1e-6)


def test_a_network_cut_at_its_features_computes_the_same_to_the_bit(tiny_model: Path) -> None:
    model = zoo.find(tiny_model)
    assert model.onnx is not None
    assert model.tail_context is not None
    precisions: tuple[Literal["fp32", "bf16"], ...] = (
        ("fp32", "bf16") if runtimes.supports_bf16("cpu") else ("fp32",)
    )
    for precision in precisions:
        whole = OpenVINORuntime(model.onnx, scale=4, precision=precision)
        cut = OpenVINORuntime(
            model.onnx, scale=4, precision=precision, tail_context=model.tail_context, tail_tile=8
        )
        for size in ((2, 3, 27, 40), (1, 3, 1, 1), (1, 3, 5, 70)):
            np.testing.assert_allclose(cut(noise(*size)), whole(noise(*size)), atol=2e-6)


def test_with_less_context_the_cut_would_show(tiny_model: Path) -> None:
    model, batch = zoo.find(tiny_model), noise(1, 3, 30, 30)
    assert model.onnx is not None
    assert model.tail_context is not None
    cut = OpenVINORuntime(model.onnx, scale=4, tail_context=model.tail_context - 2, tail_tile=8)
    assert np.abs(cut(batch) - OpenVINORuntime(model.onnx, scale=4)(batch)).max() > 1e-4


def test_the_runtimes_agree(tiny_model: Path) -> None:
    batch = noise(2, 3, 11, 17)
    by_openvino = OpenVINORuntime(tiny_model / zoo.ONNX, scale=4)(batch)
    by_torch = TorchRuntime(tiny_model / zoo.WEIGHTS, device="cpu")(batch)
    np.testing.assert_allclose(by_openvino, by_torch, atol=1e-5)


def test_bf16_agrees_with_fp32(open_runtime: Open) -> None:
    if not runtimes.supports_bf16("cpu"):
        pytest.skip("this processor has no units for bf16")
    batch = noise(1, 3, 24, 24)
    exact, fast = open_runtime()(batch), open_runtime(precision="bf16")(batch)
    assert 50 < psnr(exact, fast) < 100


def test_openvinos_result_is_not_rounded_to_bf16(tiny_model: Path) -> None:
    if not runtimes.supports_bf16("cpu"):
        pytest.skip("this processor has no units for bf16")
    sr = OpenVINORuntime(tiny_model / zoo.ONNX, scale=4, precision="bf16")(noise(1, 3, 16, 16))
    low_bits = np.ascontiguousarray(sr).view(np.uint32) & 0xFFFF
    assert np.mean(low_bits != 0) > 0.99


def test_8_bits_agree_with_fp32() -> None:
    model, batch = zoo.find("srresnet-x4"), images.resize(noise(12, 12, 3), 4).transpose(2, 0, 1)[np.newaxis]
    exact = runtimes.open_runtime(model, precision="fp32")(np.ascontiguousarray(batch))
    rough = runtimes.open_runtime(model, precision="int8")
    assert 35 < psnr(exact, rough(np.ascontiguousarray(batch))) < 60
    assert "in int8" in rough.description


def test_precisions_that_cannot_be_are_refused(model: Model) -> None:
    with pytest.raises(UsageError, match="precision fp16 needs device cuda"):
        runtimes.choose(model, precision="fp16")
    with pytest.raises(UsageError, match="precision int8 needs runtime openvino"):
        runtimes.choose(model, runtime="torch", device="cpu", precision="int8")
    with pytest.raises(ModelError, match="the model tiny has no file in 8 bits"):
        runtimes.choose(model, precision="int8")


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_a_blend_lies_between_its_models(runtime: Literal["openvino", "torch"]) -> None:
    model, faithful, batch = zoo.find("srgan-x4"), zoo.find("compact-x4"), noise(1, 3, 12, 12)

    def enlarged(model: Model, blend: Blend | None = None) -> NDArray[np.float32]:
        return runtimes.open_runtime(model, runtime=runtime, device="cpu", precision="fp32", blend=blend)(
            batch
        )

    ends = enlarged(faithful), enlarged(model)
    for strength, end in zip((0.0, 1.0), ends, strict=True):
        np.testing.assert_allclose(enlarged(model, Blend(faithful, strength)), end, atol=1e-5)
    between = enlarged(model, Blend(faithful, 0.5))
    assert max(psnr(between, end) for end in ends) < 60
    assert min(psnr(between, end) for end in ends) > psnr(*ends)


def test_what_is_compiled_is_kept_and_compiled_anew_where_it_is_damaged(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = runtimes.open_runtime(model, precision="fp32")(noise(1, 3, 9, 9))
    kept = list((tmp_path / "crispen" / "openvino").rglob("*.blob"))
    assert kept
    for blob in kept:
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes()[: blob.stat().st_size // 2])
    again = runtimes.open_runtime(model, precision="fp32")(noise(1, 3, 9, 9))
    np.testing.assert_allclose(again, expected, atol=1e-6)


def test_without_a_home_nothing_is_kept(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert runtimes.open_runtime(model, precision="fp32")(noise(1, 3, 9, 9)).shape == (1, 3, 36, 36)


def test_descriptions_say_what_computes(open_runtime: Open) -> None:
    assert "in fp32" in open_runtime().description


def test_threads_are_as_asked_or_as_the_environment_says(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def threads(**options: Any) -> int:
        runtime = OpenVINORuntime(tiny_model / zoo.ONNX, scale=4, **options)
        request: Any = runtime._whole  # pyright: ignore[reportPrivateUsage]  # nothing else can tell
        return int(request.get_compiled_model().get_property("INFERENCE_NUM_THREADS"))

    monkeypatch.setenv("OMP_NUM_THREADS", "1,2")
    assert threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert threads(threads=1) == 1
    assert threads() >= 1


@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_what_is_no_onnx_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx is missing or not a readable ONNX file"):
        OpenVINORuntime(path, scale=4)


def without(model: Model, file: str) -> Model:
    """The model, but for one of its files, and so without a card."""
    return replace(model, card=None, **{file: None})


def test_auto_is_openvino_on_the_cpu(model: Model) -> None:
    expected = "bf16" if runtimes.supports_bf16("cpu") else "fp32"
    assert runtimes.choose(model) == ("openvino", "cpu", expected)
    assert runtimes.choose(model, precision="fp32") == ("openvino", "cpu", "fp32")
    assert isinstance(runtimes.open_runtime(model), OpenVINORuntime)


def test_auto_is_torch_where_there_is_no_onnx(model: Model) -> None:
    assert runtimes.choose(without(model, "onnx"), device="cpu").runtime == "torch"
    assert isinstance(runtimes.open_runtime(without(model, "onnx"), device="cpu"), TorchRuntime)


def test_torch_takes_a_gpu_where_there_is_one(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for available, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert runtimes.choose(model, runtime="torch", precision="fp32").device == device
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtimes.choose(model, device="cuda", precision="fp32") == ("torch", "cuda", "fp32")


def test_only_matrix_units_have_widths_that_they_are_slow_at(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = [
        runtimes.Choice("openvino", "cpu", "bf16"),
        runtimes.Choice("openvino", "cpu", "int8"),
        runtimes.Choice("openvino", "cpu", "fp32"),
        runtimes.Choice("torch", "cuda", "bf16"),
    ]
    for amx, multiples in ((True, [16, 16, 1, 1]), (False, [1, 1, 1, 1])):
        monkeypatch.setattr(runtimes, "has_amx", lambda amx=amx: amx)
        assert [runtimes.width_multiple(choice) for choice in choices] == multiples


def test_matrix_units_are_found_among_the_flags_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
    find = hardware.has_amx.__wrapped__
    assert not find()
    for flags, found in (("avx512_bf16", False), ("avx512_bf16 amx_bf16 amx_tile", True)):
        (tmp_path / "cpuinfo").write_text(f"flags\t: fpu {flags}\n")
        assert find() is found


def test_bf16_is_refused_where_it_would_be_emulated(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def supports_bf16(_device: str) -> bool:
        return False

    monkeypatch.setattr(runtimes, "supports_bf16", supports_bf16)
    assert runtimes.choose(model).precision == "fp32"
    with pytest.raises(UsageError, match="precision must be fp32 or auto"):
        runtimes.choose(model, precision="bf16")


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"runtime": "onnx"}, UsageError, "runtime must be one of auto, openvino, torch, not 'onnx'"),
        ({"device": "gpu"}, UsageError, "device must be one of auto, cpu, cuda, not 'gpu'"),
        (
            {"precision": "half"},
            UsageError,
            "precision must be one of auto, fp32, bf16, fp16, int8, not 'half'",
        ),
        ({"runtime": "openvino", "device": "cuda"}, UsageError, "device cuda needs runtime torch"),
    ],
)
def test_what_cannot_be_is_refused(
    model: Model, options: dict[str, Any], error: type[CrispenError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        runtimes.choose(model, **options)


def test_a_gpu_that_is_not_there_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch finds no GPU here"):
        runtimes.choose(model, device="cuda")


def test_a_runtime_without_its_file_is_refused(model: Model) -> None:
    with pytest.raises(ModelError, match="the model tiny has no ONNX file"):
        runtimes.choose(without(model, "onnx"), runtime="openvino")
    with pytest.raises(ModelError, match=r"the model tiny has no weights\.safetensors"):
        runtimes.choose(without(model, "weights"), runtime="torch")


def test_torch_that_is_not_installed_is_named(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert runtimes.choose(model).runtime == "openvino"
    with pytest.raises(MissingExtra, match=r"the torch runtime needs torch.*crispen\[train\]"):
        runtimes.choose(model, runtime="torch")


CORE_ALONE = """
import sys
reported = []
network = ("socket.", "urllib.")
sys.addaudithook(lambda event, _: reported.append(event) if event.startswith(network) else None)
for module in ("torch", "PIL", "pydantic", "onnx"):
    sys.modules[module] = None
import numpy
from crispen import zoo
from crispen.upscaling import Upscaler
Upscaler(zoo.find(sys.argv[1]))(numpy.zeros((4, 4, 3), numpy.uint8))
assert not reported, reported
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""


def test_the_core_needs_no_extra_and_tells_nobody(tiny_model: Path, tmp_path: Path) -> None:
    """OpenVINO alone would report its import to Google Analytics and write to the home folder."""
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", CORE_ALONE, str(tiny_model)]
    done = subprocess.run(command, env=os.environ | home, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_free_memory_is_some_of_the_machines() -> None:
    free = runtimes.free_memory("cpu")
    assert free is None or 0 < free <= 1 << 50


def control_group(folder: Path, **files: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for Linux' files: 8 GB available, no control groups."""
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable:  8000000 kB\n")
    monkeypatch.setattr(hardware, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(hardware, "OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path / "groups")
    return tmp_path


def test_without_limits_what_is_available_counts(proc: Path) -> None:
    assert runtimes.free_memory("cpu") == 8_000_000 * 1024


def test_the_tightest_control_group_counts(proc: Path) -> None:
    (proc / "cgroup").write_text("0::/pod/box\n")
    control_group(proc / "groups/pod/box", memory__max="max", memory__current=1, memory__stat="anon 1")
    control_group(
        proc / "groups/pod", memory__max=1000, memory__current=900, memory__stat="anon 500\ninactive_file 300"
    )
    assert runtimes.free_memory("cpu") == 1000 - 900 + 300


def test_control_groups_of_version_1_count(proc: Path) -> None:
    (proc / "cgroup").write_text("4:memory:/\n")
    control_group(
        proc / "groups/memory",
        memory__limit_in_bytes=500,
        memory__usage_in_bytes=100,
        memory__stat="inactive_file 0",
    )
    assert runtimes.free_memory("cpu") == 400


def test_elsewhere_it_is_half_of_the_memory_or_unknown(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (proc / "meminfo").unlink()
    monkeypatch.setattr(os, "sysconf_names", {"SC_PHYS_PAGES": 1}, raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}.get, raising=False)
    assert runtimes.free_memory("cpu") == 50 * 4096
    monkeypatch.setattr(os, "sysconf_names", {})
    assert runtimes.free_memory("cpu") is None


CONVERTING = """
import sys
from crispen.runtimes.openvino import load_openvino
openvino = load_openvino()
assert "openvino.tools.ovc" not in sys.modules
assert openvino.convert_model(sys.argv[1]).inputs[0].partial_shape[1] == 3
import openvino.tools.ovc
assert load_openvino().convert_model is openvino.convert_model
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""


def test_whoever_shares_the_process_can_convert_models(tiny_model: Path) -> None:
    command = [sys.executable, "-c", CONVERTING, str(tiny_model / zoo.ONNX)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_modules_that_were_hidden_are_back(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("openvino_telemetry")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", module)
    openvino_runtime.load_openvino()
    assert sys.modules["openvino_telemetry"] is module
