"""The exported network is the network: for every kind of generator, at any size."""

import json
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from crispen import export
from crispen.errors import ModelError
from crispen.export import export_model, export_onnx
from crispen.networks.generators import SRResNet
from crispen.networks.polyphase import polyphase_kernel
from crispen.networks.weights import load_generator, save_generator
from crispen.runtimes import OpenVINORuntime
from crispen.zoo.card import Activation, Output


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


@pytest.mark.parametrize("output", get_args(Output))
def test_the_file_is_valid_and_describes_itself(tmp_path: Path, output: Output) -> None:
    generator = tiny(scale=2, batch_norm=True, activation="swish", output=output)
    export_onnx(generator, tmp_path / "model.onnx")
    proto = cast(Any, onnx).load_model(tmp_path / "model.onnx")  # onnx' types are incomplete
    cast(Any, onnx).checker.check_model(proto, full_check=True)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata.pop("scale") == "2"
    assert metadata.pop("context") == str(generator.context)
    assert json.loads(metadata.pop("architecture")) == generator.architecture
    assert not metadata


def test_the_same_weights_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        export_onnx(tiny(), tmp_path / name)
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

    monkeypatch.setattr(export, "polyphase_kernel", slightly_wrong)
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
    made = export_model(tmp_path / "generator.safetensors", tmp_path / "models" / "mine")
    assert made == tmp_path / "models" / "mine" / "model.onnx"
    assert sorted(path.name for path in made.parent.iterdir()) == ["model.onnx", "weights.safetensors"]
    again = load_generator(made.parent / "weights.safetensors")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in tiny().state_dict().items())


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
