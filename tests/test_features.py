"""Feature networks: what they compute, where their weights come from, and what is said when there are none."""

import sys
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]  # half typed
from torch import Tensor, hub, nn

from crispen.errors import MissingExtra, ModelError, UsageError
from crispen.networks.features import (
    FEATURE_NETWORKS,
    VGG_BLOCKS,
    SqueezeNetFeatures,
    TimmFeatures,
    VggFeatures,
    find_feature_weights,
    load_features,
)
from crispen.networks.features import timm as timm_features
from crispen.networks.features import weights as feature_weights

CAFFE_MEAN_RGB = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)
IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without a network, and with an empty cache, which is returned."""

    def refuse(*arguments: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hub" / "checkpoints"


def torchvision_squeezenet() -> dict[str, Tensor]:
    """SqueezeNet 1.1 as torchvision has it, random, up to fire3 and a part of the classifier."""
    convs = {
        "features.0": nn.Conv2d(3, 64, 3),
        "features.3.squeeze": nn.Conv2d(64, 16, 1),
        "features.3.expand1x1": nn.Conv2d(16, 64, 1),
        "features.3.expand3x3": nn.Conv2d(16, 64, 3),
        "features.12.squeeze": nn.Conv2d(512, 64, 1),
        "classifier.1": nn.Conv2d(512, 10, 1),
    }
    return {f"{name}.{part}": t for name, conv in convs.items() for part, t in conv.state_dict().items()}


def save_timm(model: nn.Module, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("variant", VGG_BLOCKS)
def test_vgg_layers_have_their_sizes(variant: str) -> None:
    found = VggFeatures(variant=variant, layers=["relu2_2", "conv5_1"])(torch.rand(1, 3, 32, 32))
    assert found["relu2_2"].shape == (1, 128, 16, 16)
    assert found["conv5_1"].shape == (1, 512, 2, 2)
    assert found["relu2_2"].min() == 0
    assert found["conv5_1"].min() < 0


def test_normalised_vgg_pads_by_reflection() -> None:
    """A constant picture has constant features to the border then, and only then."""
    flat = torch.full((1, 3, 16, 16), 0.5)
    for variant, constant in (("vgg19-normalised", True), ("vgg19", False)):
        layer = VggFeatures(variant=variant, layers=["relu1_2"])(flat)["relu1_2"]
        spread = (layer.amax((2, 3)) - layer.amin((2, 3))).max()
        assert (spread < 1e-5) == constant


def test_squeezenet_sees_what_caffe_showed_it() -> None:
    network = SqueezeNetFeatures(layers=["conv1", "fire9"])
    picture = torch.rand(2, 3, 64, 48)
    bgr = (255 * picture - CAFFE_MEAN_RGB).flip(1)
    found = network(picture)
    torch.testing.assert_close(found["conv1"], network.conv1(bgr).relu(), rtol=1e-4, atol=1e-4)
    assert found["fire9"].shape == (2, 512, 3, 2)


def test_torchvisions_squeezenet_has_its_weights_and_its_preprocessing(tmp_path: Path) -> None:
    tensors = torchvision_squeezenet()
    path = tmp_path / "squeezenet1_1-b8a52dc0.pth"
    torch.save(tensors, path)
    network = load_features("squeezenet-torchvision", layers=["conv1", "fire2"], source=tmp_path)
    flat = IMAGENET_MEAN.expand(1, 3, 32, 32)
    bias = tensors["features.0.bias"].view(1, 64, 1, 1).relu()
    torch.testing.assert_close(network(flat)["conv1"], bias.expand(1, 64, 15, 15))
    squeezed = bias.expand(1, 64, 1, 1).flatten(1) @ tensors["features.3.squeeze.weight"].flatten(1).T
    squeezed = (squeezed + tensors["features.3.squeeze.bias"]).relu()
    expanded = squeezed @ tensors["features.3.expand1x1.weight"].flatten(1).T
    expanded = (expanded + tensors["features.3.expand1x1.bias"]).relu()
    torch.testing.assert_close(network(flat)["fire2"][:, :64, 3, 3], expanded)


def test_only_what_is_needed_is_computed() -> None:
    assert len(VggFeatures(variant="vgg16", layers=["relu1_2", "conv2_1"]).features) == 6
    assert not any(name.startswith("fire4") for name in SqueezeNetFeatures(layers=["fire3"]).state_dict())


def test_loaded_features_are_frozen_but_let_gradients_through(tmp_path: Path) -> None:
    save_file(VggFeatures(variant="vgg19", layers=["conv1_2"]).state_dict(), tmp_path / "vgg19-x.safetensors")
    network = load_features("vgg19", layers=["relu1_1"], source=tmp_path)
    assert not network.training
    picture = torch.rand(1, 3, 8, 8, requires_grad=True)
    network(picture)["relu1_1"].sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    save_file(VggFeatures(variant="vgg16", layers=["conv1_2"]).state_dict(), tmp_path / "vgg16-x.safetensors")
    before = torch.get_rng_state()
    load_features("vgg16", layers=["conv1_2"], source=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("network", "layer", "complaint"),
    [
        ("vgg91", "relu1_1", r"not 'vgg91' \(did you mean 'vgg19'\?\)"),
        ("resnet", "layer1", "or timm:MODEL, not 'resnet'$"),
        ("vgg19", "relu5_5", r"vgg19 has no layer 'relu5_5' \(did you mean 'relu5_"),
        ("squeezenet", "fire10", r"no layer 'fire10' \(did you mean 'fire"),
        ("squeezenet-torchvision", "", "no layer ''; it has conv1, fire2"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(network: str, layer: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        load_features(network, layers=[layer], source=Path("none"))


def test_no_layer_is_an_error() -> None:
    with pytest.raises(UsageError, match="no layer of vgg16 is asked for"):
        VggFeatures(variant="vgg16", layers=[])


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_weights_are_one_sentence(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = (tmp_path / "vgg16-397923af").with_suffix(suffix)
    with pytest.raises(ModelError, match=f"there is no file {path}"):
        load_features("vgg16", layers=["relu1_1"], source=path)
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a readable"):
        load_features("vgg16", layers=["relu1_1"], source=path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(torchvision_squeezenet(), path)
    with pytest.raises(ModelError, match=r"does not hold the weights of vgg19: features\.2\.weight is"):
        load_features("vgg19", layers=["relu1_2"], source=path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(ModelError, match="does not hold named tensors"):
        load_features("vgg19", layers=["relu1_1"], source=path)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harm"),)  # pyright: ignore[reportReturnType]  # of no importance what it says


def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Harmful()}, tmp_path / "vgg19-evil.pth")
    with pytest.raises(ModelError, match="not a readable file of weights: it is damaged, or holds more"):
        load_features("vgg19", layers=["relu1_1"], source=tmp_path)
    assert not (tmp_path / "harm").exists()


def test_a_folder_is_searched_for_the_networks_own_file(tmp_path: Path) -> None:
    names = {
        "vgg16": "vgg16-397923af.pth",
        "vgg19": "vgg19-dcbb9e9d.pth",
        "vgg19-normalised": "vgg19_normalised_relu3_1.safetensors",
        "squeezenet": "squeezenet1_1.safetensors",
        "squeezenet-torchvision": "squeezenet1_1-b8a52dc0.pth",
    }
    assert names.keys() == set(FEATURE_NETWORKS)
    for network in names:
        with pytest.raises(ModelError, match=f"there is no .* in {tmp_path}, .* features of {network} need"):
            find_feature_weights(network, tmp_path)
    for name in names.values():
        (tmp_path / name).touch()
    for network, name in names.items():
        assert find_feature_weights(network, tmp_path) == tmp_path / name


def test_without_a_network_one_sentence_says_what_to_get_and_where_to_put_it(offline: Path) -> None:
    for network in ("vgg16", "vgg19", "squeezenet-torchvision"):
        with pytest.raises(ModelError) as caught:
            load_features(network, layers=["conv1" if network.startswith("s") else "relu1_1"])
        url = feature_weights.ORIGINS[network].url
        assert url is not None
        for part in ("no route to host", url, str(offline), "--features"):
            assert part in str(caught.value)


@pytest.mark.parametrize(
    ("network", "instead"), [("squeezenet", "squeezenet-torchvision"), ("vgg19-normalised", "vgg19")]
)
def test_what_cannot_be_downloaded_is_said_with_what_can(network: str, instead: str) -> None:
    with pytest.raises(ModelError, match=f"with --features, or compare the features of {instead}$"):
        find_feature_weights(network, None)


def test_a_download_is_checked_and_used_again(monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    calls: list[tuple[str, str | None]] = []

    def download(url: str, path: str, hash_prefix: str | None = None) -> None:
        calls.append((url, hash_prefix))
        torch.save(torchvision_squeezenet(), path)

    monkeypatch.setattr(hub, "download_url_to_file", download)
    for _ in range(2):
        load_features("squeezenet-torchvision", layers=["fire2"])
    assert calls == [(feature_weights.ORIGINS["squeezenet-torchvision"].url, "b8a52dc0")]
    assert (offline / "squeezenet1_1-b8a52dc0.pth").is_file()


@pytest.mark.parametrize(
    ("model", "layers", "shapes"),
    [
        ("test_resnet", ["layer1", "layer3"], [4, 4]),
        ("test_convnext", ["stages.0", "stages.2"], [4, 4]),
        ("test_vit", ["blocks.1", "blocks.4"], [3, 3]),
    ],
)
def test_a_model_of_timm_gives_the_layers_that_are_asked_for(
    timm: ModuleType, tmp_path: Path, model: str, layers: list[str], shapes: list[int]
) -> None:
    path = save_timm(timm.create_model(model), tmp_path / f"{model}.safetensors")
    for source in (path, tmp_path):
        network = load_features(f"timm:{model}", layers=layers, source=source)
        picture = torch.rand(2, 3, 40, 50, requires_grad=True)
        found = network(picture)
        assert set(found) == set(layers)
        assert [found[layer].ndim for layer in layers] == shapes
        sum(value.square().mean() for value in found.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]  # sum begins with an int
        assert picture.grad is not None
        assert picture.grad.abs().sum() > 0


def test_timms_layers_are_what_the_model_computes_and_no_more(timm: ModuleType, tmp_path: Path) -> None:
    """Also of a layer that what comes next works on in place, and that batch norm would spoil in training."""
    model = timm.create_model("test_resnet").eval()
    network = load_features(
        "timm:test_resnet", layers=["bn1", "layer1"], source=save_timm(model, tmp_path / "w.safetensors")
    )
    picture = torch.rand(1, 3, 32, 32)
    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    stem = model.bn1(model.conv1((picture - mean) / std))
    found = network(picture)
    assert stem.min() < 0
    torch.testing.assert_close(found["bn1"], stem)
    torch.testing.assert_close(found["layer1"], model.layer1(model.maxpool(model.act1(stem))))
    network.get_submodule("model").layer2 = Unreachable()
    network(picture)


class Unreachable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("deeper than what is asked for")


def test_a_transformers_picture_is_extended_by_copies_of_its_border(timm: ModuleType, tmp_path: Path) -> None:
    path = save_timm(timm.create_model("test_vit"), tmp_path / "test_vit.safetensors")
    network = load_features("timm:test_vit", layers=["blocks.2"], source=path)
    assert isinstance(network, TimmFeatures)
    assert network.multiple == (16, 16)
    picture = torch.rand(1, 3, 30, 17)
    extended = torch.nn.functional.pad(picture, (0, 15, 0, 2), mode="replicate")
    assert network(picture)["blocks.2"].shape[1] == 1 + 2 * 2
    torch.testing.assert_close(network(picture), network(extended))


def test_a_model_for_one_size_has_pictures_resized(timm: ModuleType, tmp_path: Path) -> None:
    path = save_timm(timm.create_model("mixer_s32_224"), tmp_path / "mixer_s32_224.safetensors")
    network = load_features("timm:mixer_s32_224", layers=["stem"], source=path)
    assert network(torch.rand(1, 3, 40, 50))["stem"].shape == (1, (224 // 32) ** 2, 512)


@pytest.mark.parametrize(
    ("model", "layer", "complaint"),
    [
        ("test_resnt", "layer1", r"no model 'test_resnt' \(did you mean 'test_resnet'\?\)"),
        ("hf-hub:someone/model", "layer1", "timm has no model 'hf-hub:someone/model'"),
        ("test_resnet.nowhere", "layer1", "no weights 'test_resnet.nowhere'; it has test_resnet.r160_in1k"),
        (
            "test_resnet",
            "layr3",
            r"timm:test_resnet has no layer 'layr3' \(did you mean 'layer3'\?\); it has conv1",
        ),
    ],
)
def test_unknown_names_of_timm_are_answered_with_the_nearest(
    timm: ModuleType, tmp_path: Path, model: str, layer: str, complaint: str
) -> None:
    path = save_timm(timm.create_model("test_resnet"), tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match=complaint):
        load_features(f"timm:{model}", layers=[layer], source=path)


class Odd(nn.Module):
    """A model with a part that gives a list, and one that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        self.listing = Listing()
        self.unused = nn.Identity()

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.listing(x)


class Listing(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x]


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        ("listing", "'listing' of odd gives no tensor, but a list"),
        ("unused", "odd has unused, but does not use"),
    ],
)
def test_layers_that_give_nothing_are_errors_and_leave_no_hook(layer: str, complaint: str) -> None:
    model = Odd()
    network = TimmFeatures(model, layers=[layer], name="odd")
    with pytest.raises(UsageError, match=complaint):
        network(torch.rand(1, 3, 8, 8))
    assert len(model(torch.rand(1, 3, 8, 8))) == 1


def test_timm_does_not_run_code_in_a_file_of_weights_either(
    timm: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Harmful()}, tmp_path / "test_resnet.pth")
    with pytest.raises(ModelError, match=r"test_resnet\.pth does not hold the weights of timm:test_resnet"):
        load_features("timm:test_resnet", layers=["layer1"], source=tmp_path)
    assert not (tmp_path / "harm").exists()


def test_weights_that_do_not_fit_timms_model_are_refused(timm: ModuleType, tmp_path: Path) -> None:
    path = save_timm(nn.Conv2d(3, 3, 3), tmp_path / "test_resnet.safetensors")
    with pytest.raises(ModelError, match="does not hold the weights of timm:test_resnet: Error"):
        load_features("timm:test_resnet", layers=["layer1"], source=path)
    path.write_bytes(b"no weights")
    with pytest.raises(ModelError, match="does not hold the weights of timm:test_resnet"):
        load_features("timm:test_resnet", layers=["layer1"], source=path)
    path.unlink()
    with pytest.raises(ModelError, match="there is no file"):
        load_features("timm:test_resnet", layers=["layer1"], source=path)
    with pytest.raises(
        ModelError, match=r"no test_resnet\.\* in .*: get https://huggingface.co/timm/test_resnet"
    ):
        load_features("timm:test_resnet", layers=["layer1"], source=tmp_path)


def test_timms_own_download_is_used_again_and_its_failure_is_one_sentence(
    timm: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hugging = pytest.importorskip("huggingface_hub")
    builder = pytest.importorskip("timm.models._builder")
    model = timm.create_model("test_resnet")
    nn.init.uniform_(model.bn1.weight)

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("look at the cause") from ConnectionError("no route to host")

    def look(*arguments: object, **options: object) -> str | None:
        return str(cached) if cached.is_file() else None

    cached = tmp_path / "model.safetensors"
    monkeypatch.setattr(builder, "load_state_dict_from_hf", refuse)
    monkeypatch.setattr(hugging, "try_to_load_from_cache", look)
    with pytest.raises(ModelError) as caught:
        load_features("timm:test_resnet", layers=["layer1"])
    for part in ("no route to host", "https://huggingface.co/timm/test_resnet.r160_in1k", "--features"):
        assert part in str(caught.value)

    save_timm(model, cached)
    loaded = load_features("timm:test_resnet", layers=["layer1"])
    assert torch.equal(loaded.get_parameter("model.bn1.weight"), model.bn1.weight)


def test_without_timm_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        MissingExtra, match=r"needs timm, which is not installed: pip install 'crispen\[timm\]'"
    ):
        load_features("timm:resnet18", layers=["layer1"])


def test_a_torchvision_that_does_not_fit_torch_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: str, *, purpose: str) -> ModuleType:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(timm_features, "require", fail)
    with pytest.raises(ModelError, match="install the torchvision that belongs to torch"):
        load_features("timm:resnet18", layers=["layer1"])
