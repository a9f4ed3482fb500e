"""The bundled models: what is in the wheel is whole, does what its card says, and agrees on every runtime."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import crispen
from crispen import images, runtimes, zoo
from crispen.upscaling import Upscaler

NAMES = sorted(path.parent.name for path in zoo.BUNDLED.glob("*/card.toml"))
GAINS = {"srresnet": 0.2, "compact": 0.2, "tiny": 0.2, "srgan": -1.5}
"""How much more PSNR than bicubic's there must be on a clean picture, in dB, by the kind of model."""
DOG = Path(__file__).parent.parent / "examples" / "dog.png"


@pytest.fixture(scope="module")
def dog() -> np.ndarray:
    """A part of a photograph, 96×96."""
    return images.read(DOG).pixels[100:196, 100:196]


def test_the_promised_models_are_there() -> None:
    assert {"srresnet-x4", "srgan-x4", "srresnet-x4-photo", "srgan-x4-photo", "compact-x4", "tiny-x4"} <= set(
        NAMES
    )
    assert crispen.DEFAULT_MODEL in NAMES
    assert [card.name for card in crispen.models()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_files_are_those_of_the_card(name: str) -> None:
    model = zoo.find(name)
    zoo.verify(model)
    assert model.card is not None
    assert model.card.name == name
    assert {"Set5", "Set14", "BSD100"} <= {measured.benchmark for measured in model.card.measured}


@pytest.mark.parametrize("name", NAMES)
def test_a_reduced_photograph_comes_back(name: str, dog: np.ndarray) -> None:
    """Close to the truth, and the same picture when it is reduced again: no colour shift, nothing moved."""
    scale = zoo.find(name).scale
    lr = crispen.resize(dog, 1 / scale)
    sr = crispen.load(name, precision="fp32")(lr)
    bicubic = crispen.psnr(crispen.resize(lr, scale), dog, crop_border=4)
    assert crispen.psnr(sr, dog, crop_border=4) > bicubic + GAINS.get(name.partition("-")[0], 0)
    assert crispen.psnr(crispen.resize(sr, 1 / scale), lr, channel="rgb") > 31
    shift = sr.reshape(-1, 3).mean(axis=0) - dog.reshape(-1, 3).mean(axis=0)
    assert np.abs(shift).max() < 1.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_stays_flat(name: str, level: int) -> None:
    """To the border, where the network pads with zeros, it may deviate a little; inside hardly at all."""
    sr = crispen.load(name)(np.full((48, 48), level, np.uint8)).astype(int)
    inside = sr[len(sr) // 3 : -len(sr) // 3, len(sr) // 3 : -len(sr) // 3]
    assert np.abs(inside - level).max() <= 4
    assert np.ptp(inside) <= 4


@pytest.mark.parametrize("name", NAMES)
def test_runtimes_agree(name: str, dog: np.ndarray) -> None:
    picture = dog[:32, :32]
    openvino = crispen.load(name, runtime="openvino", precision="fp32")(picture)
    torch = crispen.load(name, runtime="torch", precision="fp32")(picture)
    assert crispen.psnr(openvino, torch, channel="rgb") > 65


@pytest.mark.skipif(not runtimes.supports_bf16("cpu"), reason="the processor has no bf16")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_bf16_agrees_to_50_db(name: str, runtime: runtimes.RuntimeName, dog: np.ndarray) -> None:
    fp32, bf16 = (
        Upscaler(zoo.find(name), runtime=runtime, precision=precision)(dog) for precision in ("fp32", "bf16")
    )
    assert crispen.psnr(bf16, fp32, channel="rgb") > 50


def test_the_photographs_are_credited() -> None:
    with (zoo.BUNDLED / "credits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 427
    assert all(row["licence"] and row["photograph"] for row in rows)


@pytest.mark.parametrize("name", [name for name in NAMES if zoo.find(name).int8])
@pytest.mark.parametrize(("paper", "ink"), [("white", "black"), ("#d8e8f4", "#102040")])
def test_8_bits_add_less_than_45_db_to_small_print(name: str, paper: str, ink: str) -> None:
    """Letters on a page drive some channels further than any photograph does.

    What is not in 8 bits is in the machine's precision, whose error, if it is bf16, is not theirs.
    """
    page = Image.new("RGB", (384, 240), paper)
    words = "Every picture of 12,345 in all has LETTERS somewhere:\non signs & shirts - and so on, in PRINT (2026).\n"
    ImageDraw.Draw(page).text((8, 8), words * 5, fill=ink, font=ImageFont.load_default(18))
    lr = crispen.resize(np.array(page), 1 / zoo.find(name).scale)
    fp32, own, int8 = (crispen.load(name, precision=precision)(lr) for precision in ("fp32", "auto", "int8"))
    errors = {
        part: np.square(sr / 255.0 - fp32 / 255.0).mean() for part, sr in (("own", own), ("int8", int8))
    }
    assert errors["int8"] - errors["own"] < 10**-4.5
