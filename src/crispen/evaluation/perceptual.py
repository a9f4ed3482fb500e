"""How far a result looks from the truth to a network that knows objects: a distance between features.

It is the distance of Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", CVPR 2018, equation 1, with all weights w = 1: what the paper calls the network's own features,
before anything was learnt from people's judgements. So it is not LPIPS, whose weights were, and its numbers must not
be compared with LPIPS; nor with each other where networks or their weights differ.

Only `FeatureDistance` needs torch, so that the rest of the room can do without.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crispen.errors import UsageError, require
from crispen.evaluation.metrics import Comparable, as_array

if TYPE_CHECKING:
    from torch import Tensor

SQUEEZENET_LAYERS = ("conv1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9")
"""The seven that the paper takes of SqueezeNet."""

_LEAST_NORM = 1e-10  # as the paper's code has it: features that are zero everywhere stay so


class FeatureDistance:
    """Measures pairs of pictures with one network, loaded once.

    ::

        distance = FeatureDistance()
        distance(sr, hr)

    Args:
        source: the file with the network's weights, or its folder; None for torchvision's download. See
            `crispen.networks.features.load_features`.
        network: one of `crispen.networks.features.FEATURE_NETWORKS`, or ``timm:MODEL``.
        layers: whose features are compared.

    Raises:
        MissingExtra: where torch is not installed.
        UsageError: for an unknown network or layer.
        ModelError: for weights that are missing, cannot be downloaded, or do not fit.
    """

    def __init__(
        self,
        source: str | Path | None = None,
        *,
        network: str = "squeezenet-torchvision",
        layers: Sequence[str] = SQUEEZENET_LAYERS,
    ) -> None:
        require("torch", purpose="a distance between features")
        from crispen.networks.features import load_features

        self._extractor = load_features(
            network, layers=layers, source=None if source is None else Path(source)
        )
        self._network, self._layers = network, tuple(layers)
        self.description = f"unweighted feature distance of {network} ({', '.join(layers)})"
        """What was measured, in words, for a table's caption."""

    def __call__(self, sr: Comparable, hr: Comparable) -> float:
        """Sum over the layers of the mean over all places of the squared difference of unit features.

        Args:
            sr: (H, W, 3) of uint8, or a PIL image.
            hr: what ``sr`` is measured against, of the same shape.

        Returns:
            0 for equal pictures; at most 2 for each layer, as features after a ReLU are not negative.

        Raises:
            UsageError: for pictures that cannot be compared so.
        """
        import torch

        from crispen.networks.features.weights import reason_of

        sr, hr = as_array(sr), as_array(hr)
        if sr.shape != hr.shape or hr.shape[2:] != (3,) or not (sr.dtype == hr.dtype == np.uint8):
            raise UsageError(
                "sr and hr must both have one shape (H, W, 3) and be uint8, "
                f"not {sr.shape} {sr.dtype} and {hr.shape} {hr.dtype}"
            )
        with torch.inference_mode():
            try:
                sr_features, hr_features = self._extractor(_batch(sr)), self._extractor(_batch(hr))
            except (RuntimeError, ValueError, AssertionError) as error:  # where a deep layer has nothing left
                size = f"{hr.shape[1]}×{hr.shape[0]}"
                raise UsageError(
                    f"{self._network} cannot compare pictures of {size} pixels: {reason_of(error)}"
                ) from error
            return sum(_difference(sr_features[layer], hr_features[layer]) for layer in self._layers)


def _batch(picture: NDArray[np.uint8]) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    import torch

    return torch.tensor(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255


def _difference(sr: Tensor, hr: Tensor) -> float:
    """One layer of equation 1, for features (1, C, H, W), or tokens (1, T, C)."""
    from torch.nn.functional import normalize

    channels = 1 if hr.ndim == 4 else -1
    unit_sr, unit_hr = (normalize(features, dim=channels, eps=_LEAST_NORM) for features in (sr, hr))
    return float((unit_sr - unit_hr).square().sum(channels).mean())
