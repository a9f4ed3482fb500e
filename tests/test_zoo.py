"""Models are found by what one would call them, and what is wrong with one is said in a sentence."""

import itertools
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crispen import zoo
from crispen.errors import ModelError, UsageError
from crispen.export import export_onnx
from crispen.networks.generators import SRResNet
from crispen.networks.polyphase import conv_of_shuffled
from crispen.networks.weights import load_generator
from crispen.zoo import Architecture, metadata
from crispen.zoo.card import as_toml, read_card


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(tiny_model, tmp_path / "tiny"))


@pytest.fixture
def bundled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model as the only bundled one."""
    monkeypatch.setattr(zoo, "BUNDLED", folder.parent)
    return folder


def edit(folder: Path, old: str, new: str) -> Path:
    """Change the card and return its path."""
    path = folder / zoo.CARD
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_a_card_says_what_its_file_does(folder: Path) -> None:
    card = read_card(folder / zoo.CARD)
    assert (card.name, card.scale, card.architecture.num_blocks) == ("tiny", 4, 2)
    assert (card.training.date.year, card.training.hours) == (2026, 0.0)
    assert [(entry.benchmark, entry.psnr) for entry in card.measured] == [("Set5", 12.34)]
    assert card.known_failures == ("It has learnt nothing.",)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("purpose =", "porpose =", "unknown key 'porpose': did you mean 'purpose'?"),
        (
            "num_blocks = 2",
            "num_blocks = 2\ndropout = 1",
            "unknown key 'architecture.dropout': known are gen",
        ),
        ("num_blocks = 2", "", "lacks the key 'architecture.num_blocks'"),
        ("psnr = 12.34", "", "lacks the key 'measured.psnr'"),
        ("psnr = 12.34", 'psnr = "high"', "has 'high' for 'measured.psnr', which must be a number"),
        ("psnr = 12.34", "psnr = true", "has True for 'measured.psnr', which must be a number"),
        ("scale = 4", "scale = 4.0", "has 4.0 for 'scale', which must be a whole number"),
        ("batch_norm = false", "batch_norm = 0", "which must be true or false"),
        ("2026-01-01", '"2026-01-01"', "which must be a date"),
        ("2026-01-01", "2026-01-01T00:00:00", "which must be a date"),
        ('["It has learnt nothing."]', '"It has"', "for 'known_failures', which must be a list of texts"),
        ("[training]", "[[training]]", "for 'training', which must be a table"),
        ("[[measured]]", "[measured]", "for 'measured', which must be a list of tables"),
        (
            "num_blocks = 2",
            'num_blocks = 2\nactivation = "gelu"',
            "has 'gelu' for 'architecture.activation', which must be prelu or relu or swish",
        ),
        (
            "num_blocks = 2",
            "num_blocks = 2\noutput = 1",
            "has 1 for 'architecture.output', which must be linear or symmetric or tanh",
        ),
        ('"srresnet"', '"edsr"', "has a generator 'edsr', but known are srresnet"),
        ("scale = 4\nnum", "scale = 3\nnum", "has a scale of 3, which must be 2, 4 or 8"),
        ("scale = 4\nnum", "scale = 2\nnum", r"states scale and context \(4, 12\), but .* has \(2, 12\)"),
        ("context = 12", "context = 11", r"states scale and context \(4, 11\), but .* has \(4, 12\)"),
        ("name =", "name", "is not a readable card"),
    ],
)
def test_a_wrong_card_is_refused(folder: Path, old: str, new: str, complaint: str) -> None:
    path = edit(folder, old, new)
    with pytest.raises(ModelError, match=re.escape(str(path)) + " .*" + complaint.replace("?", r"\?")):
        read_card(path)


def test_an_architecture_may_say_its_activation_and_output(folder: Path) -> None:
    before = read_card(folder / zoo.CARD).architecture
    assert (before.activation, before.output) == ("prelu", "linear")
    path = edit(folder, "num_blocks = 2", 'num_blocks = 2\nactivation = "swish"\noutput = "tanh"')
    assert read_card(path).architecture == replace(before, activation="swish", output="tanh")


def test_a_card_is_written_as_it_is_read(folder: Path) -> None:
    read = read_card(folder / zoo.CARD)
    strange = replace(read, purpose='"quoted"\n\\ \x7f ümläut', measured=(), known_failures=())
    for card in (*zoo.models(), read, strange):
        (folder / zoo.CARD).write_text(as_toml(card), encoding="utf-8")
        assert read_card(folder / zoo.CARD) == card


def test_a_missing_card_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a readable card"):
        read_card(tmp_path / zoo.CARD)


@pytest.mark.parametrize(
    ("scale", "num_blocks", "batch_norm"), list(itertools.product([2, 4, 8], [1, 2, 16], [True, False]))
)
def test_the_context_is_known_without_the_network(scale: int, num_blocks: int, batch_norm: bool) -> None:
    network = SRResNet(scale=scale, num_blocks=num_blocks, num_features=4, batch_norm=batch_norm)
    architecture = Architecture(
        generator="srresnet", scale=scale, num_blocks=num_blocks, num_features=4, batch_norm=batch_norm
    )
    assert architecture.context == network.context


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_tails_context_is_the_radius_of_what_it_sees_in_the_features(scale: int) -> None:
    network = SRResNet(scale=scale, num_blocks=1, num_features=2, batch_norm=False).double()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.05)
    features = torch.ones(1, 2, 1, 15, dtype=torch.double, requires_grad=True)
    reach = 0
    for phase in range(scale):
        sr = conv_of_shuffled(network.upsampler(features), network.tail)
        (gradient,) = torch.autograd.grad(sr[0, 0, 0, 7 * scale + phase], features)
        reach = max(reach, int((gradient[0, 0, 0].nonzero().flatten() - 7).abs().max()))
    architecture = Architecture(
        generator="srresnet", scale=scale, num_blocks=1, num_features=2, batch_norm=False
    )
    assert reach == architecture.tail_context


def test_a_file_of_a_fixed_size_is_refused(tmp_path: Path) -> None:
    from crispen.export import export_onnx

    generator = SRResNet(scale=2, num_blocks=1, num_features=4, batch_norm=False)
    export_onnx(generator, tmp_path / "fixed.onnx", size=(8, 6))
    with pytest.raises(
        ModelError, match=r"fixed\.onnx takes pictures of 8x6 alone: export it without --size"
    ):
        zoo.find(tmp_path / "fixed.onnx")


def test_an_eight_bit_file_is_part_of_a_model(folder: Path) -> None:
    shutil.copy(folder / zoo.ONNX, folder / zoo.INT8)
    assert zoo.find(folder).int8 is None, "the card does not tell of it"
    edit(folder, "[files]", f'[files]\nint8 = "{zoo.sha256(folder / zoo.INT8)}"')
    model = zoo.find(folder)
    assert model.int8 == folder / zoo.INT8
    zoo.verify(model)
    (folder / zoo.INT8).write_bytes(b"")
    with pytest.raises(ModelError, match=r"model-int8\.onnx is damaged"):
        zoo.verify(model)
    (folder / zoo.CARD).unlink()
    assert zoo.find(folder).int8 == folder / zoo.INT8


def test_a_bundled_model_is_found_by_name(bundled: Path) -> None:
    model = zoo.find("tiny")
    assert (model.name, model.scale, model.context) == ("tiny", 4, 12)
    assert (model.weights, model.onnx) == (bundled / zoo.WEIGHTS, bundled / zoo.ONNX)
    assert (model.tail_context, model.int8) == (3, None)
    assert [model.card] == zoo.models()


def test_a_bundled_model_is_found_by_its_card(bundled: Path) -> None:
    (card,) = zoo.models()
    assert zoo.find(card) == zoo.find("tiny")


@pytest.mark.parametrize("name", [None, 4, b"tiny", ["tiny"]])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match=r"^a model must be a name, a path or a card, not ") as raised:
        zoo.find(name)
    assert str(raised.value).endswith(f"not {name!r}")


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^x{300} cannot be read: File name too long$"):
        zoo.find("x" * 300)


def test_a_folder_is_found_by_its_path(folder: Path) -> None:
    assert zoo.find(folder) == zoo.find(str(folder))
    assert zoo.find(folder).card == read_card(folder / zoo.CARD)


def test_an_exported_folder_needs_no_card(folder: Path) -> None:
    (folder / zoo.CARD).unlink()
    model = zoo.find(folder)
    assert (model.name, model.scale, model.context, model.card) == ("tiny", 4, 12, None)
    assert (model.weights, model.onnx) == (folder / zoo.WEIGHTS, folder / zoo.ONNX)
    (folder / zoo.ONNX).unlink()
    assert zoo.find(folder).onnx is None


def test_a_file_is_a_model_by_itself(folder: Path) -> None:
    for file in (zoo.WEIGHTS, zoo.ONNX):
        model = zoo.find(folder / file)
        assert (model.name, model.scale, model.context, model.card) == (Path(file).stem, 4, 12, None)
        assert getattr(model, "onnx" if file == zoo.ONNX else "weights") == folder / file
        assert model.weights == folder / zoo.WEIGHTS, "to which the ONNX file refers"
        assert model.weights_sha256 == zoo.sha256(folder / zoo.WEIGHTS)


def test_a_file_is_a_model_without_its_folder(folder: Path, tmp_path: Path) -> None:
    export_onnx(load_generator(folder / zoo.WEIGHTS), tmp_path / "alone.onnx")
    model = zoo.find(tmp_path / "alone.onnx")
    assert (model.weights, model.weights_sha256) == (None, zoo.sha256(tmp_path / "alone.onnx"))


def test_an_onnx_file_is_verified_with_the_weights_it_refers_to(folder: Path) -> None:
    model = zoo.find(folder)
    zoo.verify(model, only=model.onnx)
    with (folder / zoo.WEIGHTS).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    with pytest.raises(ModelError, match=r"weights\.safetensors is damaged"):
        zoo.verify(model, only=model.onnx)


def test_a_file_that_was_replaced_is_another(folder: Path) -> None:
    model = zoo.find(folder / zoo.WEIGHTS)
    before = model.weights_sha256
    with (folder / zoo.WEIGHTS).open("ab") as file:
        file.write(b"more")
    assert model.weights_sha256 == zoo.sha256(folder / zoo.WEIGHTS) != before
    (folder / zoo.WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors cannot be read"):
        _ = model.weights_sha256


def test_a_card_says_the_hash_of_the_weights(folder: Path) -> None:
    assert zoo.find(folder).weights_sha256 == zoo.sha256(folder / zoo.WEIGHTS)


def test_an_unknown_name_is_answered_with_the_nearest(bundled: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no model 'tinny' \(did you mean 'tiny'\?\): it may be tiny, a fold"
    ):
        zoo.find("tinny")


def test_other_files_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model's folder"):
        zoo.find(tmp_path)
    (tmp_path / "weights.pth").touch()
    with pytest.raises(ModelError, match=r"ends in \.safetensors, \.onnx or \.xml"):
        zoo.find(tmp_path / "weights.pth")
    (tmp_path / "weights.pt").touch()
    with pytest.raises(ModelError, match=r"weights\.pt is a program, which crispen does not run"):
        zoo.find(tmp_path / "weights.pt")


@pytest.mark.parametrize("content", [b"", b"no model", b"\xff" * 40])
@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".xml"])
def test_damaged_files_are_no_models(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = (tmp_path / "model").with_suffix(suffix)
    path.write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(str(path))):
        zoo.find(path)


@pytest.mark.parametrize("architecture", [None, "{", "[]", '{"generator": "srresnet"}'])
def test_safetensors_of_others_are_no_models(tmp_path: Path, architecture: str | None) -> None:
    stated = {} if architecture is None else {"__metadata__": {"architecture": architecture}}
    header = json.dumps(stated).encode()
    path = tmp_path / "others.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelError, match=r"others\.safetensors .*architecture"):
        zoo.find(path)


@given(data=st.data())
def test_no_cut_or_change_of_an_onnx_file_escapes_as_another_error(
    tiny_model: Path, data: st.DataObject
) -> None:
    whole = bytearray((tiny_model / zoo.ONNX).read_bytes())
    position = data.draw(st.one_of(st.integers(0, 40), st.integers(len(whole) - 400, len(whole) - 1)))
    whole[position] = data.draw(st.integers(0, 255))
    damaged = tiny_model.parent / "damaged.onnx"
    damaged.write_bytes(whole[: data.draw(st.sampled_from([position, len(whole)]))])
    try:
        found = metadata.of_onnx(damaged)
    except ModelError:
        return
    assert all(type(text) is str for item in found.items() for text in item)


def test_a_whole_model_passes(folder: Path) -> None:
    model = zoo.find(folder)
    assert model.card is not None, "there is something to compare with"
    zoo.verify(model)


@pytest.mark.parametrize("file", [zoo.WEIGHTS, zoo.ONNX])
def test_damage_is_noticed(folder: Path, file: str) -> None:
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(file) + " is damaged"):
        zoo.verify(zoo.find(folder))
    (folder / file).unlink()
    with pytest.raises(ModelError, match=re.escape(file) + " cannot be read: No such file"):
        zoo.verify(zoo.find(folder))


def test_the_bundled_models_are_whole_and_named_as_their_folders() -> None:
    for card in zoo.models():
        model = zoo.find(card.name)
        assert model.card == card
        zoo.verify(model)
