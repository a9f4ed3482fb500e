"""Any model of timm (PyTorch Image Models, Wightman 2019) as a feature network. Needs the extra ``[timm]``.

Layers are the names of timm's modules, as ``layer3`` of a ResNet, ``stages.2`` of a ConvNeXt or ``blocks.8`` of
DINOv2 (Oquab et al., TMLR 2024). What transformers give are tokens (N, T, C), as good for a difference as maps.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from crispen.errors import ModelError, UsageError, require
from crispen.networks.features.layers import check_layers, nearest
from crispen.networks.features.weights import find_in, reason_of

_PROBE = (97, 83)  # pixels that nothing divides
_HALVINGS = (32, 32)  # of networks that join what they have halved up to five times


class TimmFeatures(nn.Module):
    """A model of timm up to the last of ``layers`` that it comes to.

    Args:
        model: what ``timm.create_model`` made.
        layers: names of its modules whose outputs are wanted; of one that is used several times, the first.
        name: the model's, for messages.
        multiple: what height and width are extended to a multiple of, by copies of the border.
        size: height and width that pictures are resized to, for a model that takes no others.

    Raises:
        UsageError: for an unknown layer.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layers: Sequence[str],
        name: str,
        multiple: tuple[int, int] = (1, 1),
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        known: list[str] = [module for module, _ in model.named_modules() if module]  # pyright: ignore[reportUnknownVariableType]  # torch's set of modules has no type
        parts = [part for part, _ in model.named_children()]
        check_layers(layers, known=known, network=name, shown=parts)
        self.model = model
        self.layers = frozenset(layers)
        self.name = name
        self.multiple = multiple
        self.size = size
        config: dict[str, Any] = cast(Any, model).pretrained_cfg
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, -1, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Features, (N, C, H', W') or as the layer has them, by layer name, of (N, 3, H, W) in [0, 1].

        Raises:
            UsageError: for a layer that gives no tensor, or that the model does not use.
        """
        found: dict[str, Tensor] = {}
        hooks = [
            self.model.get_submodule(layer).register_forward_hook(self._keep(layer, found))
            for layer in self.layers
        ]
        try:
            self.model(self._fit((picture - self.mean) / self.std))
        except _AllFound:
            return found
        finally:
            for hook in hooks:
                hook.remove()
        unused = ", ".join(sorted(self.layers - found.keys()))
        raise UsageError(f"{self.name} has {unused}, but does not use it for a picture")

    def _keep(self, layer: str, found: dict[str, Tensor]) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, inputs: object, output: object) -> Tensor | None:
            if layer in found:
                return None
            if not isinstance(output, Tensor):
                raise UsageError(
                    f"layer {layer!r} of {self.name} gives no tensor, but a {type(output).__name__}"
                )
            found[layer] = output
            if len(found) == len(self.layers):
                raise _AllFound
            return output.clone()  # what comes next may work in place

        return hook

    def _fit(self, x: Tensor) -> Tensor:
        if self.size is not None:
            return functional.interpolate(x, self.size, mode="bicubic", antialias=True)
        down, right = (-size % multiple for size, multiple in zip(x.shape[-2:], self.multiple, strict=True))
        return functional.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


class _AllFound(Exception):
    """Raised within a model that need not be computed further."""


def load_timm(model: str, *, layers: Sequence[str], source: Path | None) -> TimmFeatures:
    """Make a feature network of one of timm's models, with trained weights.

    Args:
        model: a name that ``timm.list_models(pretrained=True)`` has, with or without the tag of its weights.
        layers: see `TimmFeatures`.
        source: a file with the weights in any form that timm reads; or a folder with ``MODEL.safetensors`` or the
            like; None for timm's own download, which Hugging Face's cache keeps.

    Raises:
        UsageError: for an unknown model or layer.
        ModelError: for weights that are missing, cannot be downloaded, or do not fit.
        MissingExtra: where timm is not installed.
    """
    timm = _import()
    config = _configuration(timm, model)
    name = f"timm:{model}"
    file = _find(model, source, config)
    overlay = {} if file is None else {"file": str(file), "custom_load": file.suffix == ".npz"}
    try:
        network = _create(timm, model, overlay=overlay, fixed_size=bool(config.get("fixed_input_size")))
    except (OSError, EOFError, RuntimeError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        raise ModelError(_what_to_do(name, file, config, error)) from error
    return _fitting(network.eval(), layers=layers, name=name)


def _import() -> Any:
    try:
        return require("timm", purpose="a feature network of timm")
    except RuntimeError as error:  # torchvision's, which timm imports
        raise ModelError(
            f"timm cannot be imported ({error}): install the torchvision that belongs to torch {torch.__version__}"
        ) from error


def _configuration(timm: Any, model: str) -> dict[str, Any]:
    """Return what timm knows about a model's weights."""
    if not timm.is_model(model):
        hint = nearest(model, timm.list_models())
        raise UsageError(f"timm has no model {model!r}{hint}; timm.list_models() has all names")
    try:
        config = timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        tags = timm.list_models(f"{model.partition('.')[0]}.*", pretrained=True)
        raise UsageError(f"timm has no weights {model!r}; it has {', '.join(tags)}") from error
    return {} if config is None else config.to_dict()


def _find(model: str, source: Path | None, config: dict[str, Any]) -> Path | None:
    """Return the file with a model's weights; None where timm has yet to download it."""
    if source is not None:
        path = find_in(source, f"{model}.*", network=f"timm:{model}", url=_address(config))
        if not path.is_file():
            raise ModelError(f"there is no file {path}")
        return path
    repository, _, revision = str(config.get("hf_hub_id") or "").partition("@")
    if not repository or config.get("custom_load") == "hf":
        return None
    cache = require("huggingface_hub", purpose="a feature network of timm")
    file = config.get("hf_hub_filename") or "model.safetensors"
    cached: object = cache.try_to_load_from_cache(repository, file, revision=revision or None)
    return Path(cached) if isinstance(cached, str) else None  # else timm would ask the network about it first


def _create(timm: Any, model: str, *, overlay: dict[str, Any], fixed_size: bool) -> nn.Module:
    """Make a model with trained weights that takes pictures of any size, where timm has a way to say so."""
    ways: list[dict[str, bool]] = (
        [{"dynamic_img_size": True}, {"strict_img_size": False}] if fixed_size else []
    )
    for way in ways:
        try:
            return timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay, **way)
        except TypeError as error:
            if not any(option in str(error) for option in way):
                raise
    return timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay)


def _address(config: dict[str, Any]) -> str | None:
    if config.get("hf_hub_id"):
        return f"https://huggingface.co/{config['hf_hub_id']}"
    return config.get("url")


def _what_to_do(name: str, file: Path | None, config: dict[str, Any], error: Exception) -> str:
    reason = reason_of(error.__cause__ or error)
    if file is not None:
        return f"{file} does not hold the weights of {name}: {reason}"
    address = _address(config)
    if address is None:
        return f"timm has no weights of {name} ({reason}): name a file with --features"
    return (
        f"the weights of {name} cannot be downloaded ({reason}): get them from {address} and name the file with "
        "--features"
    )


@torch.no_grad()
def _fitting(network: nn.Module, *, layers: Sequence[str], name: str) -> TimmFeatures:
    """Find out by a blank picture what has to be done to pictures, so that a training run need not."""
    patch: int | tuple[int, int] = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    multiple = (patch, patch) if isinstance(patch, int) else patch
    _, height, width = cast(Any, network).pretrained_cfg["input_size"]
    ways = (
        TimmFeatures(network, layers=layers, name=name, multiple=multiple),
        TimmFeatures(network, layers=layers, name=name, multiple=_HALVINGS),
        TimmFeatures(network, layers=layers, name=name, size=(height, width)),
    )
    reason = ""
    for features in ways:
        try:
            features(torch.zeros(1, 3, *_PROBE))
            return features
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = reason_of(error)
    raise UsageError(f"{name} cannot be computed for a picture: {reason}")
