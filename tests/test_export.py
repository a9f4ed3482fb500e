"""The exported network is the network: for every kind of generator, at any size."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import crispen.export.onnx
from crispen import images, zoo
from crispen.errors import DataError, ModelError, UsageError
from crispen.export import (
    OPSETS,
    Agreement,
    Parity,
    Pixels,
    export_model,
    export_onnx,
    export_openvino,
    export_torchscript,
    generated_pictures,
    read_pictures,
)
from crispen.export.quantisation import Range
from crispen.export.torchscript import METADATA, in_torchscript
from crispen.networks.generators import Compact, SRResNet
from crispen.networks.polyphase import polyphase_kernel
from crispen.networks.weights import load_generator, save_generator
from crispen.runtimes import OpenVINORuntime
from crispen.zoo.card import Activation, Output

PICTURES = [np.random.default_rng(seed).random((1, 3, 24, 20), dtype=np.float32) for seed in range(4)]
"""To calibrate on."""


def tiny(
    *, scale: int = 4, batch_norm: bool = False, activation: Activation = "prelu", output: Output = "linear"
) -> SRResNet:
    """A small generator with random weights, and random statistics where it has any."""
    torch.manual_seed(scale)  # pyright: ignore[reportUnknownMemberType]  # torch's stub leaves the seed's type out
    generator = SRResNet(
        scale=scale, num_blocks=2, num_features=8, batch_norm=batch_norm, activation=activation, output=output
    )
    for layer in generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            layer.running_mean = torch.randn(8)
            layer.running_var = torch.rand(8) + 0.5
        if isinstance(layer, nn.PReLU):
            nn.init.constant_(layer.weight, 0.3)
    return generator.eval()


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_openvino_computes_what_torch_does(tmp_path: Path, scale: int, batch_norm: bool) -> None:
    generator = tiny(scale=scale, batch_norm=batch_norm)
    export_onnx(generator, tmp_path / "model.onnx")
    lr = np.random.default_rng(0).random((2, 3, 19, 6), dtype=np.float32)
    sr = OpenVINORuntime(tmp_path / "model.onnx", scale=scale)(lr)
    with torch.inference_mode():
        expected = generator(torch.tensor(lr)).numpy()
    assert sr.shape == (2, 3, 19 * scale, 6 * scale)
    np.testing.assert_allclose(sr, expected, atol=1e-5)


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("output", get_args(Output))
def test_every_activation_and_output_is_exported(
    tmp_path: Path, activation: Activation, output: Output
) -> None:
    generator = tiny(scale=2, activation=activation, output=output)
    nn.init.normal_(generator.tail.weight)
    export_onnx(generator, tmp_path / "model.onnx")
    lr = np.random.default_rng(0).random((1, 3, 9, 11), dtype=np.float32)
    with torch.inference_mode():
        expected = generator(torch.tensor(lr)).numpy()
    assert (expected.min() < 0) == (output != "tanh")
    np.testing.assert_allclose(OpenVINORuntime(tmp_path / "model.onnx", scale=2)(lr), expected, atol=1e-5)


def small(*, scale: int, output: Output = "linear") -> Compact:
    """A small compact generator, with random weights."""
    torch.manual_seed(scale)  # pyright: ignore[reportUnknownMemberType]  # torch's stub leaves the seed's type out
    return Compact(scale=scale, num_blocks=1, num_features=8, batch_norm=False, output=output).eval()


@pytest.mark.parametrize("output", get_args(Output))
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_compact_generators_are_exported_everywhere(tmp_path: Path, scale: int, output: Output) -> None:
    generator = small(scale=scale, output=output)
    export_torchscript(generator, tmp_path / "model.pt")
    export_openvino(generator, tmp_path / "model.xml")
    export_onnx(generator, tmp_path / "model.onnx")
    found = zoo.find(tmp_path / "model.onnx")
    assert (found.scale, found.context, found.tail_context) == (scale, generator.context, None)
    assert found.generator == zoo.find(tmp_path / "model.xml").generator == "compact"
    lr = np.random.default_rng(0).random((1, 3, 9, 11), dtype=np.float32)
    with torch.inference_mode():
        expected = generator(torch.tensor(lr)).numpy()
    np.testing.assert_allclose(OpenVINORuntime(tmp_path / "model.onnx", scale=scale)(lr), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 4])
def test_compact_generators_are_exported_in_8_bits(tmp_path: Path, scale: int) -> None:
    generator = small(scale=scale)
    (check,) = export_onnx(generator, tmp_path / "model.onnx", calibration=PICTURES)
    assert isinstance(check, Agreement)
    assert 45 < check.worst < 90, "it is near enough, and in 8 bits"
    proto = cast(Any, onnx).load_model(tmp_path / "model.onnx")
    rounded = sum(node.op_type == "QuantizeLinear" for node in proto.graph.node)
    assert 1 <= rounded <= 4, "two convolutions of the block, the body's last, the tail"


@pytest.mark.parametrize("output", get_args(Output))
def test_the_file_is_valid_and_describes_itself(tmp_path: Path, output: Output) -> None:
    generator = tiny(scale=2, batch_norm=True, activation="swish", output=output)
    export_onnx(generator, tmp_path / "model.onnx")
    proto = cast(Any, onnx).load_model(tmp_path / "model.onnx")  # onnx' types are incomplete
    cast(Any, onnx).checker.check_model(proto, full_check=True)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata.pop("scale") == "2"
    assert metadata.pop("context") == str(generator.context)
    assert metadata.pop("tail_context") == "3"
    assert json.loads(metadata.pop("architecture")) == generator.architecture
    assert not metadata


@pytest.mark.parametrize("calibration", [None, PICTURES[:2]], ids=["fp32", "int8"])
def test_the_same_weights_make_the_same_bytes(tmp_path: Path, calibration: list[Pixels] | None) -> None:
    for name in ("one.onnx", "two.onnx"):
        export_onnx(tiny(), tmp_path / name, calibration=calibration)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_exporting_leaves_the_generator_in_training(tmp_path: Path) -> None:
    generator = tiny(batch_norm=True).train()
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    export_onnx(generator, tmp_path / "model.onnx")
    assert generator.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


def test_a_difference_is_an_error_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def slightly_wrong(kernel: Tensor) -> Tensor:
        return 1.01 * polyphase_kernel(kernel)

    monkeypatch.setattr(crispen.export.onnx, "polyphase_kernel", slightly_wrong)
    with pytest.raises(ModelError, match=r"differs from the original by .* at 1x1"):
        export_onnx(tiny(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"old"


def test_an_unknown_layer_is_an_error(tmp_path: Path) -> None:
    generator = tiny()
    generator.head.append(nn.Tanh())
    with pytest.raises(ModelError, match="a layer of type Tanh cannot be exported"):
        export_onnx(generator, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing/model\.onnx cannot be written: No such file"):
        export_onnx(tiny(), tmp_path / "missing" / "model.onnx")


def test_a_models_folder_is_made(tmp_path: Path) -> None:
    save_generator(tiny(), tmp_path / "generator.safetensors")
    made = tmp_path / "models" / "mine"
    export_model(tmp_path / "generator.safetensors", made)
    assert sorted(path.name for path in made.iterdir()) == ["model.onnx", "weights.safetensors"]
    again = load_generator(made / "weights.safetensors")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in tiny().state_dict().items())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_models_folder_holds_nothing_twice(tmp_path: Path, batch_norm: bool) -> None:
    """What the ONNX file takes from the weights beside it is the same to the bit; folded weights are its own."""
    generator = tiny(batch_norm=batch_norm)
    save_generator(generator, tmp_path / "mine.safetensors")
    export_model(tmp_path / "mine.safetensors", tmp_path / "model")
    export_onnx(generator, tmp_path / "alone.onnx")
    together, alone = tmp_path / "model" / zoo.ONNX, tmp_path / "alone.onnx"
    stripped = onnx.load(str(together), load_external_data=False)
    shared = [constant for constant in stripped.graph.initializer if constant.external_data]
    kernels = [constant for constant in shared if len(constant.dims) == 4]
    assert len(kernels) == (3 if batch_norm else 8), (
        "not the tail's, put together of phases, nor what was folded"
    )
    assert together.stat().st_size + sum(
        4 * math.prod(constant.dims) for constant in shared
    ) == pytest.approx(alone.stat().st_size, rel=0.05)
    numbers, expected = (
        [constant.raw_data for constant in onnx.load(str(path)).graph.initializer]
        for path in (together, alone)
    )
    assert numbers == expected


def test_a_card_goes_along_with_the_hashes_of_the_files(tmp_path: Path) -> None:
    bundled = zoo.find("tiny-x4")
    assert bundled.weights is not None
    assert bundled.card is not None
    export_model(bundled.weights, tmp_path / "mine", card=bundled.card)
    model = zoo.find(tmp_path / "mine")
    zoo.verify(model)
    assert model.card is not None
    assert replace(model.card, files=bundled.card.files) == bundled.card
    assert (model.card.files.onnx, model.int8) == (zoo.sha256(tmp_path / "mine" / zoo.ONNX), None)


def test_a_card_of_another_model_is_not_left_beside_it(tmp_path: Path, tiny_model: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    export_model(tiny_model / zoo.WEIGHTS, folder)  # its own
    before = (folder / zoo.WEIGHTS).read_bytes()
    save_generator(tiny(scale=2), tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"card\.toml is the card of another model: remove it, or export to"):
        export_model(tmp_path / "other.safetensors", folder)
    assert (folder / zoo.WEIGHTS).read_bytes() == before


def test_a_models_folder_is_completed_in_place(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_generator(tiny(), weights)
    written = weights.stat().st_mtime_ns
    export_model(weights, tmp_path)
    assert (tmp_path / "model.onnx").is_file()
    assert weights.stat().st_mtime_ns == written


def test_a_file_in_the_folders_place_is_an_error(tmp_path: Path) -> None:
    save_generator(tiny(), tmp_path / "generator.safetensors")
    with pytest.raises(ModelError, match=r"generator\.safetensors cannot be made a folder"):
        export_model(tmp_path / "generator.safetensors", tmp_path / "generator.safetensors")


def files_of(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def eager(generator: SRResNet, lr: Pixels) -> Pixels:
    with torch.inference_mode():
        return generator(torch.tensor(lr)).numpy()


def metadata_of(path: Path) -> dict[str, str]:
    proto = cast(Any, onnx).load_model(path)
    return {entry.key: entry.value for entry in proto.metadata_props}


def test_three_odd_sizes_are_compared(tmp_path: Path) -> None:
    checks = export_onnx(tiny(), tmp_path / "model.onnx")
    assert [(check.width % 2, check.height % 2) for check in checks if isinstance(check, Parity)] == [
        (1, 1)
    ] * 3
    assert all(check.psnr > 80 for check in checks)
    assert str(Parity(33, 21, 2.14e-6, 107.8)) == "parity 33x21: max difference 2.1e-06, 108 dB"


def test_the_features_are_where_the_upsampler_begins(tmp_path: Path) -> None:
    export_onnx(tiny(batch_norm=True), tmp_path / "model.onnx")
    proto = cast(Any, onnx).load_model(tmp_path / "model.onnx")
    (made,) = [node.op_type for node in proto.graph.node if "features" in node.output]
    (taken,) = [node.op_type for node in proto.graph.node if "features" in node.input]
    assert (made, taken) == ("Add", "Conv")
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}, "they are folded"


@pytest.mark.parametrize("calibration", [None, PICTURES[:1]], ids=["fp32", "int8"])
@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
def test_the_opset_can_be_chosen(tmp_path: Path, opset: int, calibration: list[Pixels] | None) -> None:
    export_onnx(tiny(scale=2), tmp_path / "model.onnx", opset=opset, calibration=calibration)
    proto = cast(Any, onnx).load_model(tmp_path / "model.onnx")
    cast(Any, onnx).checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == opset
    with pytest.raises(UsageError, match="opset must be from 13 to 23, not 12"):
        export_onnx(tiny(scale=2), tmp_path / "model.onnx", opset=12)


def test_the_size_can_be_fixed(tmp_path: Path) -> None:
    (check,) = export_onnx(tiny(scale=2), tmp_path / "model.onnx", size=(9, 5))
    assert str(check).startswith("parity 9x5: ")
    export_onnx(tiny(scale=2), tmp_path / "small.onnx", size=(20, 10), calibration=PICTURES[:2])
    proto = cast(Any, onnx).load_model(tmp_path / "model.onnx")
    (sr,) = proto.graph.output
    assert [each.dim_value for each in sr.type.tensor_type.shape.dim] == [1, 3, 10, 18]
    assert metadata_of(tmp_path / "model.onnx")["size"] == "9x5"


@pytest.mark.parametrize("calibration", [None, PICTURES[:2]], ids=["fp32", "int8"])
def test_openvino_files_are_a_model(tmp_path: Path, calibration: list[Pixels] | None) -> None:
    generator = tiny(batch_norm=True)
    export_openvino(generator, tmp_path / "mine.xml", calibration=calibration)
    assert files_of(tmp_path) == ["mine.bin", "mine.xml"]
    model = zoo.find(tmp_path / "mine.xml")
    assert (model.name, model.scale, model.context) == ("mine", 4, generator.context)
    assert (model.onnx, model.generator, model.tail_context) == (tmp_path / "mine.xml", "srresnet", 3)
    assert model.weights_sha256 == zoo.sha256(tmp_path / "mine.bin")
    if calibration is None:
        lr = np.random.default_rng(0).random((1, 3, 6, 9), dtype=np.float32)
        sr = OpenVINORuntime(tmp_path / "mine.xml", scale=4)(lr)
        np.testing.assert_allclose(sr, eager(generator, lr), atol=1e-5)


@pytest.mark.parametrize("output", get_args(Output))
def test_torchscript_computes_what_torch_does(tmp_path: Path, output: Output) -> None:
    generator = tiny(scale=2, batch_norm=True, output=output)
    assert len(export_torchscript(generator, tmp_path / "mine.pt")) == 3
    lr = np.random.default_rng(0).random((2, 3, 6, 9), dtype=np.float32)
    np.testing.assert_allclose(in_torchscript(tmp_path / "mine.pt")(lr), eager(generator, lr), atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_describes_itself_and_changes_its_type(tmp_path: Path) -> None:
    generator = tiny(scale=2)
    export_torchscript(generator, tmp_path / "mine.pt")
    extra = {METADATA: ""}
    script = cast(Any, torch.jit).load(tmp_path / "mine.pt", _extra_files=extra)
    assert json.loads(extra[METADATA])["scale"] == "2"
    half = script.to(torch.bfloat16)(torch.zeros(1, 3, 4, 5, dtype=torch.bfloat16))
    assert (half.dtype, half.shape) == (torch.bfloat16, (1, 3, 8, 10))


@pytest.mark.parametrize("activation", get_args(Activation))
def test_eight_bits_are_near_the_original(tmp_path: Path, activation: Activation) -> None:
    generator = tiny(batch_norm=True, activation=activation)
    (check,) = export_onnx(generator, tmp_path / "model.onnx", calibration=PICTURES[:4])
    assert 45 <= check.psnr < 80, "it is not the original itself"
    assert metadata_of(tmp_path / "model.onnx")["precision"] == "int8"
    operations = [node.op_type for node in cast(Any, onnx).load_model(tmp_path / "model.onnx").graph.node]
    assert 1 <= operations.count("QuantizeLinear") < operations.count("Conv"), "never the first"


def test_eight_bits_that_are_too_far_away_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(_: SRResNet, ranges: dict[nn.Conv2d, Range], *__: Any) -> dict[nn.Conv2d, Range]:
        return {
            layer: Range(low / np.float32(4), high / np.float32(4)) for layer, (low, high) in ranges.items()
        }

    monkeypatch.setattr(crispen.export, "affordable", cut_off)
    with pytest.raises(ModelError, match=r"agrees with the original to .* dB, which must be 45: calibrate"):
        export_onnx(tiny(), tmp_path / "model.onnx", calibration=PICTURES[:2])
    assert not list(tmp_path.iterdir())


def test_a_models_folder_can_hold_both(tmp_path: Path) -> None:
    save_generator(tiny(), tmp_path / "generator.safetensors")
    export_model(tmp_path / "generator.safetensors", tmp_path / "mine", calibration=PICTURES[:2])
    assert zoo.find(tmp_path / "mine").int8 == tmp_path / "mine" / "model-int8.onnx"
    assert files_of(tmp_path / "mine") == ["model-int8.onnx", "model.onnx", "weights.safetensors"]


def test_no_picture_to_calibrate_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="calibration needs at least one picture"):
        export_onnx(tiny(), tmp_path / "model.onnx", calibration=[])
    with pytest.raises(DataError, match="holds no pictures"):
        read_pictures(tmp_path)
    with pytest.raises(DataError, match="missing is not a folder"):
        read_pictures(tmp_path / "missing")


def test_the_middle_of_pictures_is_calibrated_on(tmp_path: Path) -> None:
    wide = np.zeros((20, 200, 3), np.uint8)
    wide[:, 52:148] = 255
    images.write(images.from_array(wide), tmp_path / "a.png")
    images.write(images.from_array(np.full((8, 9), 51, np.uint8)), tmp_path / "b.png")
    (middle, gray) = read_pictures(tmp_path)
    assert (middle.shape, middle.min()) == ((1, 3, 20, 96), 1)
    np.testing.assert_allclose(gray, np.full((1, 3, 8, 9), 0.2, np.float32))


def test_generated_pictures_are_always_the_same_and_reach_black_and_white() -> None:
    for one, other in zip(generated_pictures(), generated_pictures(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one.dtype, one.min(), one.max()) == (np.float32, 0, 1)
