"""What can go wrong, as a tree. Each message is one sentence that says what, and what to do.

::

    CrispenError                exit code 1
    ├── UsageError              exit code 2: an argument that cannot be right, whatever the files hold
    ├── PictureError            a picture that cannot be read, written or enlarged
    ├── ModelError              an unknown model, damaged weights, a file that is none
    ├── DataError               training data or a benchmark that is not what it should be
    ├── RecipeError             a recipe with an unknown key or a value out of range
    ├── TrainingError           a run that cannot start, go on or be resumed
    └── MissingExtra            an optional part of crispen that is not installed
"""

from __future__ import annotations

import importlib
from types import ModuleType

EXTRA_OF = {
    "torch": "train",
    "lightning_fabric": "train",
    "pydantic": "train",
    "onnx": "train",
    "matplotlib": "train",
    "fsspec": "train",
    "timm": "timm",
    "tensorboard": "tensorboard",
    "av": "video",
}


class CrispenError(Exception):
    """Whatever crispen refuses to do, said in one sentence."""

    exit_code = 1


class UsageError(CrispenError):
    """An argument that cannot be right, whatever the files hold."""

    exit_code = 2


class PictureError(CrispenError):
    """A picture that cannot be read, written or enlarged."""


class ModelError(CrispenError):
    """An unknown model, damaged weights, or a file that is not a model."""


class DataError(CrispenError):
    """Training data or a benchmark that is not what it should be."""


class RecipeError(CrispenError):
    """A recipe with an unknown key or a value out of range."""


class TrainingError(CrispenError):
    """A training run that cannot start, go on or be resumed."""


class MissingExtra(CrispenError):
    """An optional part of crispen that is not installed."""


def require(module: str, *, purpose: str) -> ModuleType:
    """Import an optional dependency where it is used.

    Raises `MissingExtra`, naming the extra that brings ``module``, where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        extra = EXTRA_OF[module.partition(".")[0]]
        raise MissingExtra(
            f"{purpose} needs {module}, which is not installed: pip install 'crispen[{extra}]'"
        ) from error
