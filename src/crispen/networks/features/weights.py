"""Where the feature networks' weights come from: a file, a folder of files, or torchvision's own download."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, hub

from crispen.errors import ModelError
from crispen.networks.weights import load_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a network's weights are."""

    pattern: str
    """What the file is called."""
    url: str | None = None
    """Where it is; the name ends in the first digits of its SHA-256. None where it is nowhere to be had."""
    instead: str | None = None
    """A like network that can be downloaded, where this one cannot."""


ORIGINS = {
    "vgg16": Origin(pattern="vgg16-*", url="https://download.pytorch.org/models/vgg16-397923af.pth"),
    "vgg19": Origin(pattern="vgg19-*", url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"),
    "vgg19-normalised": Origin(pattern="vgg19_normalised*", instead="vgg19"),
    "squeezenet": Origin(pattern="squeezenet1_1.*", instead="squeezenet-torchvision"),
    "squeezenet-torchvision": Origin(
        pattern="squeezenet1_1-*", url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    ),
}
"""By the network's name."""


def find_feature_weights(network: str, source: Path | None) -> Path:
    """The file with a network's weights.

    Args:
        network: a key of `ORIGINS`.
        source: the file itself; or a folder that has it; None for torchvision's, which is downloaded into torch's
            cache (``torch.hub.get_dir()``) unless it is there already.

    Raises:
        ModelError: where there is none, with what to do.
    """
    origin = ORIGINS[network]
    if source is not None:
        return find_in(source, origin.pattern, network=network, url=origin.url)
    if origin.url is None:
        raise ModelError(
            f"the weights of {network} ({origin.pattern}) are not to be downloaded: name the file, or its folder, "
            f"with --features, or compare the features of {origin.instead}"
        )
    return _downloaded(network, origin.url)


def find_in(source: Path, pattern: str, *, network: str, url: str | None) -> Path:
    """``source`` itself, or the file in the folder ``source`` whose name is like ``pattern``.

    Raises:
        ModelError: where the folder has none, with the URL that has.
    """
    if not source.is_dir():
        return source
    found = sorted(source.glob(pattern))
    if not found:
        hint = f": get {url}" if url else ""
        raise ModelError(
            f"there is no {pattern} in {source}, which the recipe's features of {network} need{hint}"
        )
    return found[0]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from safetensors or from torch's own format, of which nothing but tensors is unpickled.

    Raises:
        ModelError: for a file that is missing or damaged.
    """
    if path.suffix == ".safetensors":
        return load_tensors(path)[0]
    try:
        tensors: object = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {path}") from error
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path} is not a readable file of weights: {reason_of(error)}") from error
    if not isinstance(tensors, dict):
        raise ModelError(f"{path} does not hold named tensors")
    return cast(dict[str, Any], tensors)


def reason_of(error: BaseException) -> str:
    """Say in few words why weights could not be read or fetched."""
    if isinstance(error, (pickle.UnpicklingError, EOFError)):  # torch's own message advises to trust the file
        return "it is damaged, or holds more than tensors"
    return " ".join(str(error).split()).partition(". ")[0][:200]


def _downloaded(network: str, url: str) -> Path:
    path = Path(hub.get_dir()) / "checkpoints" / Path(url).name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"the weights of {network} cannot be downloaded ({reason_of(error)}): get {url} and put it into "
            f"{path.parent}, or name the file, or its folder, with --features"
        ) from error
    return path
