"""A model's card: what it is for, how it came about, what it measures and where it fails.

It is a TOML file, ``card.toml``, that mirrors the dataclasses below: `Card` at the top, a table for each of
`Architecture`, `Training` and `Files`, and ``[[measured]]`` for every `Measured`. All keys without a default are
required and no others are taken, so that a card cannot silently say less, or something else, than its reader
believes.
"""

from __future__ import annotations

import datetime
import difflib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from crispen.errors import ModelError

_Table = TypeVar("_Table")

GENERATORS = ("srresnet", "compact")
"""The networks that an architecture may name."""

Activation = Literal["prelu", "relu", "swish"]
"""What stands between a generator's convolutions."""

Output = Literal["linear", "symmetric", "tanh"]
"""What a generator's last convolution means: RGB in [0, 1]; in [-1, 1]; or in [-1, 1] through a tanh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What `crispen.networks.generators.build_generator` needs to make the network; ``[architecture]``."""

    generator: str
    """The network's name: "srresnet" or "compact"."""
    scale: int
    """Pixels of the output for each pixel of the input, along one side."""
    num_blocks: int
    """Residual blocks of the body."""
    num_features: int
    """Channels of the body's convolutions."""
    batch_norm: bool
    """Whether the body normalises."""
    activation: Activation = "prelu"
    """What stands between the convolutions."""
    output: Output = "linear"
    """What the last convolution means."""

    @property
    def context(self) -> int:
        """How far, in pixels of the input, an output pixel sees: the network's ``context``, without torch."""
        head, body, tail = 4, 2 * self.num_blocks + 1, self._reach_of_tail
        if self.generator == "compact":
            head = tail = 1
        return math.ceil(head + body + tail)

    @property
    def tail_context(self) -> int | None:
        """How far, in pixels of the input, an output pixel sees in the features that enter the upsampler.

        None for a network that cannot be cut there.
        """
        return None if self.generator == "compact" else math.ceil(self._reach_of_tail)

    @property
    def _reach_of_tail(self) -> float:
        upsampler = sum(0.5**doubling for doubling in range(int(math.log2(self.scale))))
        return upsampler + 4 / self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How the weights came about; ``[training]``."""

    recipe: str
    """The recipe's name or file."""
    steps: int
    """Updates of the generator, all stages together."""
    hours: float
    """How long it took."""
    hardware: str
    """What it took that long on."""
    date: datetime.date
    """The day it ended."""
    data: str
    """What it was trained on, and under which licence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A benchmark's mean over its pictures; ``[[measured]]``."""

    benchmark: str
    """The benchmark's name."""
    psnr: float
    """Peak signal-to-noise ratio in dB."""
    ssim: float
    """Structural similarity, at most 1."""
    protocol: str
    """What was compared how: colour space, crop_border, rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files' SHA-256 in hexadecimal, by which damage is noticed; ``[files]``."""

    weights: str
    """Of ``weights.safetensors``."""
    onnx: str
    """Of ``model.onnx``."""
    int8: str = ""
    """Of ``model-int8.onnx``; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """All that a model's ``card.toml`` says."""

    name: str
    """What the model is asked for by."""
    purpose: str
    """What it is for, in one line."""
    scale: int
    """Pixels of the output for each pixel of the input, along one side."""
    context: int
    """How far, in pixels of the input, an output pixel sees."""
    licence: str
    """The weights' licence: an SPDX identifier."""
    architecture: Architecture
    """The network."""
    training: Training
    """How the weights came about."""
    measured: tuple[Measured, ...]
    """What it achieves."""
    files: Files
    """The hashes of what lies beside the card."""
    known_failures: tuple[str, ...]
    """What it does badly, each in one sentence."""
    generative: bool = True
    """Whether it adds detail that was not in the picture, as a GAN does."""
    faithful: str = ""
    """The bundled model that does not, with weights of the same origin: ``--strength`` goes from that one to this."""
    equivariant: bool = False
    """Whether it enlarges a picture turned or mirrored to the same result, turned or mirrored, so that
    ``--ensemble`` has nothing to add."""


def read_card(path: Path) -> Card:
    """Read a ``card.toml``.

    Raises:
        ModelError: where the file is missing or not TOML; where a key is missing, unknown or of the wrong
            type; and where scale or context contradict the architecture.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not a readable card: {error}") from error
    card = _parse(Card, table, source=str(path))
    _check(card.architecture, source=str(path))
    stated, implied = (card.scale, card.context), (card.architecture.scale, card.architecture.context)
    if stated != implied:
        raise ModelError(f"{path} states scale and context {stated}, but its architecture has {implied}")
    return card


def as_toml(card: Card) -> str:
    """Return the text of a ``card.toml`` that `read_card` reads as this card."""
    return "\n".join(_lines(card)) + "\n"


def _lines(table: Any) -> Iterator[str]:
    """Yield a table's values, and then the tables in it: TOML knows no way back."""
    tables: list[tuple[str, object]] = []
    for field in fields(table):
        value = cast(object, getattr(table, field.name))
        if is_dataclass(value):
            tables.append((f"[{field.name}]", value))
        elif isinstance(value, tuple) and any(map(is_dataclass, cast("tuple[object, ...]", value))):
            tables += [(f"[[{field.name}]]", each) for each in cast("tuple[object, ...]", value)]
        else:
            yield f"{field.name} = {_literal(cast(object, value))}"
    for head, inner in tables:
        yield from ("", head, *_lines(inner))


def _literal(value: object) -> str:
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(map(_literal, cast('tuple[object, ...]', value)))}]"
        case _:
            return str(value)


def parse_architecture(table: object, *, source: str) -> Architecture:
    """Make an `Architecture` of a table read from ``source``.

    Raises:
        ModelError: where it is no table, has wrong keys, or describes no network that crispen knows.
    """
    if not isinstance(table, dict):
        raise ModelError(f"{source} has an architecture that is not a table")
    architecture = _parse(Architecture, cast(dict[str, Any], table), source=source, prefix="architecture.")
    _check(architecture, source=source)
    return architecture


def _check(architecture: Architecture, *, source: str) -> None:
    if architecture.generator not in GENERATORS:
        known = ", ".join(GENERATORS)
        raise ModelError(f"{source} has a generator {architecture.generator!r}, but known are {known}")
    if architecture.scale not in (2, 4, 8):
        raise ModelError(f"{source} has a scale of {architecture.scale}, which must be 2, 4 or 8")


def _parse(kind: type[_Table], table: Mapping[str, Any], *, source: str, prefix: str = "") -> _Table:
    """Make a dataclass of a table with its fields and no others, in exactly their types.

    ``prefix`` is what stands before a key's name in the message of an error.
    """
    hints = get_type_hints(kind)
    names = [field.name for field in fields(cast(Any, kind))]
    required = [field.name for field in fields(cast(Any, kind)) if field.default is MISSING]
    for key in table.keys() - set(names):
        close = difflib.get_close_matches(key, names, n=1)
        hint = f": did you mean {close[0]!r}?" if close else f": known are {', '.join(names)}"
        raise ModelError(f"{source} has an unknown key {prefix + key!r}{hint}")
    for name in required:
        if name not in table:
            raise ModelError(f"{source} lacks the key {prefix + name!r}")
    return kind(
        **{
            name: _convert(value, hints[name], source=source, key=prefix + name)
            for name, value in table.items()
        }
    )


def _convert(value: object, kind: Any, *, source: str, key: str) -> object:
    match value:
        case dict() if is_dataclass(kind):
            return _parse(
                cast(type[object], kind), cast(dict[str, Any], value), source=source, prefix=f"{key}."
            )
        case list() if get_args(kind):
            item = get_args(kind)[0]
            return tuple(_convert(entry, item, source=source, key=key) for entry in cast(list[Any], value))
        case int() if kind is float and type(value) is int:
            return float(value)
        case str() if get_origin(kind) is Literal and value in get_args(kind):
            return value
        case _ if type(value) is kind:  # exactly: a bool is no number, a point in time no date
            return value
        case _:
            raise ModelError(f"{source} has {value!r} for {key!r}, which must be {_in_words(kind)}")


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return _KINDS.get(kind, "a table")


_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    datetime.date: "a date",
    tuple[str, ...]: "a list of texts",
    tuple[Measured, ...]: "a list of tables",
}
