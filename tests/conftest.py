"""What several test files share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import settings

from crispen import images, resize

# A test's threads that wait for work do not spin: other tests run beside it. Read when torch is first loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Shells have what runs in the background ignore Ctrl-C, and so would the programs that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy otherwise is no reason to fail, and the same code passes or fails alike every time.
settings.register_profile("patient", deadline=None, derandomize=True)
settings.load_profile("patient")

CARD = """
name = "tiny"
purpose = "for tests: random weights"
scale = 4
context = {context}
licence = "CC0-1.0"
known_failures = ["It has learnt nothing."]

[architecture]
generator = "srresnet"
scale = 4
num_blocks = 2
num_features = 8
batch_norm = false

[training]
recipe = "none"
steps = 0
hours = 0.0
hardware = "none"
date = 2026-01-01
data = "none"

[[measured]]
benchmark = "Set5"
psnr = 12.34
ssim = 0.5
protocol = "none"

[files]
weights = "{weights}"
onnx = "{onnx}"
"""


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the tests' own, in place of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder, as if bundled: scale 4, 2 blocks of 8 features, random weights that never change."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from crispen import zoo
    from crispen.export import export_model
    from crispen.networks.generators import SRResNet
    from crispen.networks.weights import save_generator

    folder = tmp_path_factory.mktemp("models") / "tiny"
    weights = folder.with_suffix(".safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = SRResNet(scale=4, num_blocks=2, num_features=8, batch_norm=False).eval()
    save_generator(generator, weights)
    export_model(weights, folder)
    hashes = {"weights": zoo.sha256(folder / zoo.WEIGHTS), "onnx": zoo.sha256(folder / zoo.ONNX)}
    (folder / zoo.CARD).write_text(CARD.format(context=generator.context, **hashes), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def timm() -> Iterator[ModuleType]:
    """The package timm, or a skip.

    It imports torchvision, which PyPI has for CUDA alone: beside a torch for the CPU its compiled half does not
    load, and its import fails for want of two operators. No feature network needs them, so empty ones will do, for
    as long as ``library`` lives.
    """
    torch = pytest.importorskip("torch")
    if find_spec("timm") is None or find_spec("torchvision") is None:
        pytest.skip("timm is not installed")
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield pytest.importorskip("timm")
    del library


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of smooth coloured pictures, large enough for crops of 32."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(3):
        coarse = random.integers(0, 256, (7, 6 + index, 3)).astype(np.uint8)
        images.write(images.from_array(resize(coarse, 8)), folder / f"{index}.png")
    return folder
