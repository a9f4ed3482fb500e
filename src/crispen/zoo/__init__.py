"""The models: those bundled with crispen, and others in folders and files.

A model is a folder with ``weights.safetensors``, ``model.onnx`` (for OpenVINO; the weights that it has in common with
the former stand only there), perhaps ``model-int8.onnx`` (the same in 8 bits), and ``card.toml``. The bundled ones
stand beside this file. A folder that `crispen.export` has made of a training run has no card yet; it can be used as
well, and so can each file by itself, and OpenVINO's own pair of an ``.xml`` and a ``.bin`` file.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from crispen.errors import ModelError, UsageError
from crispen.zoo import metadata
from crispen.zoo.card import Architecture, Card, Files, Measured, Training, parse_architecture, read_card

__all__ = [
    "BUNDLED", "CARD", "INT8", "ONNX", "WEIGHTS",
    "Architecture", "Card", "Files", "Measured", "Model", "Training",
    "find", "is_bundled", "models", "sha256", "verify",
]  # fmt: skip

BUNDLED = Path(__file__).parent
"""Where the bundled models' folders are."""

CARD, WEIGHTS, ONNX, INT8 = "card.toml", "weights.safetensors", "model.onnx", "model-int8.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that was found, and what is known of it. Nothing is loaded yet."""

    name: str
    """The card's name, or the folder's or file's."""
    scale: int
    """Pixels of the output for each pixel of the input, along one side."""
    context: int
    """How far, in pixels of the input, an output pixel sees."""
    generator: str | None = None
    """What kind of network it is, as in `Architecture`; None for a file that does not say."""
    tail_context: int | None = None
    """How far it sees in the tensor ``features`` of the ONNX file; None for a file that names no such tensor."""
    card: Card | None = None
    """What it says about itself; None for a model without a card."""
    weights: Path | None = None
    """The safetensors file, which the torch runtime needs."""
    onnx: Path | None = None
    """The ONNX file, or OpenVINO's ``.xml``, which the OpenVINO runtime needs."""
    int8: Path | None = None
    """The ONNX file of the same network in 8 bits, for ``--precision int8``."""

    @property
    def is_equivariant(self) -> bool:
        """Whether all answers of an ensemble are known to be one."""
        return self.card is not None and self.card.equivariant

    @property
    def weights_sha256(self) -> str:
        """What identifies the model in a report: the hash of the weights file, or else of what OpenVINO reads.

        With a card it is what that says: whatever is computed is compared with the card before (`verify`).
        """
        if self.card is not None:
            return self.card.files.weights.lower()
        path = self.weights or self.onnx
        assert path is not None
        return _remembered_sha256(path.with_suffix(".bin") if path.suffix == ".xml" else path)


def models() -> list[Card]:
    """Return the cards of the bundled models, by name.

    Raises:
        ModelError: for a card that is not what it should be.
    """
    return sorted((read_card(path) for path in BUNDLED.glob(f"*/{CARD}")), key=lambda card: card.name)


def is_bundled(name: str) -> bool:
    """Whether a bundled model is called so. Such a name means it wherever a folder could be meant, too."""
    return name in _names()


def _names() -> list[str]:
    return [card.parent.name for card in sorted(BUNDLED.glob(f"*/{CARD}"))]


def find(name_or_path: str | os.PathLike[str] | Card) -> Model:
    """Find a model.

    Args:
        name_or_path: a bundled model's name or card; a folder with a card, or such as `crispen.export.export_model`
            makes; a ``.safetensors``, ``.onnx`` or ``.xml`` file that crispen wrote.

    Raises:
        UsageError: for what is none of these.
        ModelError: for an unknown name, with the nearest known one; and for files that are no model.
    """
    if isinstance(name_or_path, Card):
        name_or_path = name_or_path.name
    try:
        path = Path(name_or_path)
    except TypeError:
        raise UsageError(f"a model must be a name, a path or a card, not {name_or_path!r}") from None
    known = _names()
    if str(name_or_path) in known:
        return _from_folder(BUNDLED / path)
    with _reading(path):
        if path.is_dir():
            return _from_folder(path)
        if path.is_file():
            return _from_file(path)
    close = difflib.get_close_matches(str(name_or_path), known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    choices = ", ".join([*known, "a folder or a file"])
    raise ModelError(f"there is no model {str(name_or_path)!r}{hint}: it may be {choices}")


def verify(model: Model, *, only: Path | None = None) -> None:
    """Compare the files of a model that has a card with the hashes on it.

    Args:
        model: any; without a card there is nothing to compare with.
        only: the file that is needed: it and what it refers to are compared, and not the others.

    Raises:
        ModelError: for a file that is missing or not the one that the card was written for.
    """
    if model.card is None:
        return
    files = model.card.files
    expected = {model.weights: files.weights, model.onnx: files.onnx, model.int8: files.int8}
    needed = (only,) if only == model.weights else (only, model.weights)
    for path, digest in expected.items():
        if path is not None and (only is None or path in needed) and sha256(path) != digest.lower():
            raise ModelError(
                f"{path} is damaged, or not the file that its card was written for: install it again"
            )


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Raises:
        ModelError: where it cannot be read.
    """
    with _reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remembered_sha256(path: Path) -> str:
    """`sha256`, computed once for as long as the file's size and time stay."""
    with _reading(path):
        found = path.stat()
    return _sha256_of(path.absolute(), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256_of(path: Path, size: int, modified: int) -> str:
    """`sha256`; ``size`` and ``modified`` only tell the file from what was at its place before."""
    return sha256(path)


@contextmanager
def _reading(path: Path) -> Generator[None]:
    """Raise `ModelError` where the system refuses to read a file."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def _from_folder(folder: Path) -> Model:
    if (folder / CARD).is_file():
        return _from_card(read_card(folder / CARD), folder)
    weights, onnx, int8 = folder / WEIGHTS, folder / ONNX, folder / INT8
    found = [path for path in (onnx, weights) if path.is_file()]
    if not found:
        raise ModelError(f"{folder} is not a model's folder: it has neither {CARD}, {ONNX} nor {WEIGHTS}")
    return replace(
        _from_file(found[0]),
        name=folder.resolve().name,
        weights=weights if weights in found else None,
        int8=int8 if int8.is_file() else None,
    )


def _from_card(card: Card, folder: Path) -> Model:
    return Model(
        name=card.name,
        scale=card.scale,
        context=card.context,
        generator=card.architecture.generator,
        tail_context=card.architecture.tail_context,
        card=card,
        weights=folder / WEIGHTS,
        onnx=folder / ONNX,
        int8=folder / INT8 if card.files.int8 else None,
    )


def _from_file(path: Path) -> Model:
    match path.suffix:
        case ".safetensors":
            architecture = _architecture(metadata.of_safetensors(path), path)
            return Model(
                name=path.stem,
                scale=architecture.scale,
                context=architecture.context,
                generator=architecture.generator,
                weights=path,
            )
        case ".onnx":
            return _from_entries(metadata.of_onnx(path), path)
        case ".xml":
            return _from_entries(metadata.of_openvino(path), path)
        case ".pt":
            raise ModelError(
                f"{path} is a program, which crispen does not run: a model's file ends in .safetensors, .onnx or .xml"
            )
        case _:
            raise ModelError(f"{path} is not a model: a model's file ends in .safetensors, .onnx or .xml")


def _from_entries(entries: dict[str, str], path: Path) -> Model:
    """Return the model that an exported file says it is."""
    if "size" in entries:
        raise ModelError(f"{path} takes pictures of {entries['size']} alone: export it without --size")
    try:
        scale, context = int(entries["scale"]), int(entries["context"])
        tail = int(entries["tail_context"]) if "tail_context" in entries else None
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{path} does not state its scale and context: export it with crispen, or give it a {CARD}"
        ) from error
    return Model(
        name=path.stem,
        scale=scale,
        context=context,
        generator=_architecture(entries, path).generator if "architecture" in entries else None,
        tail_context=tail,
        onnx=path,
        weights=path.parent / Path(entries["weights"]).name if "weights" in entries else None,
    )


def _architecture(entries: dict[str, str], path: Path) -> Architecture:
    try:
        table = json.loads(entries["architecture"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path} does not state its architecture, so crispen did not write it") from error
    return parse_architecture(table, source=str(path))
