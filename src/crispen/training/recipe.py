"""Recipes: everything that decides what a training run does, in a TOML file that is checked before it starts.

The classes below are the schema. Their docstrings say what each key means, and an unknown key is an error that
names the nearest known one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from crispen.errors import RecipeError

RECIPES = Path(__file__).parent / "recipes"


class Table(BaseModel):
    """A table of a recipe: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class GeneratorTable(Table):
    """``[generator]``: the network that enlarges (the paper's Figure 4, top)."""

    scale: Literal[2, 4, 8] = 4
    """The factor of enlargement."""
    num_blocks: PositiveInt = 16
    """Residual blocks in the body, B in the figure."""
    num_features: PositiveInt = 64
    """Channels of the convolutions in the body."""
    batch_norm: bool = True
    """Normalise after each convolution of the body, as the paper does."""
    damp_residuals: PositiveFloat = 1.0
    """Factor on the initial weights of each block's last convolution; 0.1 serves networks without batch norm."""
    init: str | None = None
    """Weights to start from: a bundled model's name or a path."""


class DiscriminatorTable(Table):
    """``[discriminator]``: the network that tells real from generated (Figure 4, bottom)."""

    num_features: PositiveInt = 64
    """Channels of the first convolution; the last has eight times as many."""
    batch_norm: bool = True
    """Normalise after each convolution but the first, as the paper does."""
    dense: bool = True
    """End in the paper's two dense layers, which fix the patch size; without, each position is judged by itself."""


class DataTable(Table):
    """``[data]``: what one step sees."""

    patch_size: PositiveInt = 96
    """Side of a high-resolution crop in pixels, a multiple of the scale."""
    batch_size: PositiveInt = 16
    """Crops in one step."""


class StageTable(Table):
    """What both stages have."""

    steps: PositiveInt
    """Generator updates in this stage."""
    learning_rate: PositiveFloat = 1e-4
    """Adam's learning rate (after the warm-up, before any decay)."""
    schedule: Literal["constant", "cosine", "halves"] = "constant"
    """How it falls: not at all, along half a cosine to zero, or to a tenth at half the steps (the paper's GAN)."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates of the first and second moment."""
    pixel_loss: Literal["l1", "mse"] = "mse"
    """Mean absolute or mean squared difference of the pixels."""


class PretrainTable(StageTable):
    """``[stage.pretrain]``: the generator alone, on the pixel loss."""


class FeaturesTable(Table):
    """``[[stage.gan.features]]``: a feature network whose layers are compared (the paper's equation 5)."""

    network: Literal["vgg16", "vgg19", "vgg19-normalised", "squeezenet"]
    """Which network; its weights come from ``--features``."""
    layers: dict[str, PositiveFloat]
    """Layers by name (``relu2_2``, ``conv5_4``, ``fire9``), each with its weight in the sum.

    The paper's rescaling of VGG's features by 1/12.75 is a weight of 0.00615 for squared differences."""
    loss: Literal["l1", "mse"] = "mse"
    """How features are compared; the paper has the squared difference."""


class GanTable(StageTable):
    """``[stage.gan]``: generator and discriminator in turn (the paper's equations 2 and 3)."""

    pixel_weight: float = Field(default=0.0, ge=0)
    """Weight of the pixel loss; the paper's SRGAN-VGG has none."""
    perceptual_weight: float = Field(default=1.0, ge=0)
    """Weight of the feature loss; 1 in the paper."""
    adversarial_weight: float = Field(default=1e-3, ge=0)
    """Weight of the adversarial loss; 1e-3 in the paper."""
    discriminator_learning_rate: PositiveFloat | None = None
    """The discriminator's own learning rate, where it is not the generator's."""
    discriminator_warmup_steps: int = Field(default=0, ge=0)
    """Steps at the start that train the discriminator alone, so that its first advice is worth something."""
    features: tuple[FeaturesTable, ...] = ()
    """Feature networks of the perceptual loss."""


class StagesTable(Table):
    """``[stage.…]``: one or both, in this order."""

    pretrain: PretrainTable | None = None
    """The generator alone."""
    gan: GanTable | None = None
    """Generator and discriminator."""


class Recipe(Table):
    """A whole recipe."""

    title: str
    """One line for ``crispen recipes``."""
    seed: int = Field(default=0, ge=0)
    """Decides the first weights and, with the step, every batch."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Arithmetic of the networks; weights and optimiser are fp32 always."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running average of the weights that is validated and shipped; 0 for none."""
    validate_every: PositiveInt = 1000
    """Steps between two validations."""
    checkpoint_minutes: PositiveFloat = 5.0
    """Time between two checkpoints."""
    generator: GeneratorTable = GeneratorTable()
    discriminator: DiscriminatorTable = DiscriminatorTable()
    data: DataTable = DataTable()
    stage: StagesTable


def recipes() -> list[tuple[str, str]]:
    """The bundled recipes: (name, one line) each."""
    return [(path.stem, load_recipe(path.stem).title) for path in sorted(RECIPES.glob("*.toml"))]


def load_recipe(name_or_path: str, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a bundled recipe by name, or any by path, and apply ``key.of.a.table=value`` overrides.

    Raises:
        RecipeError: in one sentence, for a recipe that is unknown, unreadable or wrong.
    """
    path = _find(name_or_path)
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not readable as TOML: {error}") from error
    for override in overrides:
        _override(values, override)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{path.name}: {_first_problem(error)}") from error
    _check_whole(recipe, path.name)
    return recipe


def _find(name_or_path: str) -> Path:
    bundled = RECIPES / f"{name_or_path}.toml"
    if bundled.is_file():
        return bundled
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = sorted(recipe.stem for recipe in RECIPES.glob("*.toml"))
    raise RecipeError(
        f"there is no recipe {name_or_path!r}{_suggestion(name_or_path, known)}; bundled are {', '.join(known)}"
    )


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"--set takes key=value, as in stage.gan.learning_rate=1e-4, not {override!r}")
    *tables, last = key.strip().split(".")
    for table in tables:
        inner: object = values.setdefault(table, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override}: {table} is not a table of the recipe")
        values = cast(dict[str, Any], inner)
    try:
        values[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = value.strip()


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where}{_suggestion(str(problem['loc'][-1]), _all_keys(Recipe))}"
    return f"{where}: {problem['msg']}, not {problem['input']!r}"


def _all_keys(table: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    tables = [table, *StageTable.__subclasses__(), *Table.__subclasses__()]
    for known in tables:
        keys |= set(known.model_fields)
    return keys


def _suggestion(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _check_whole(recipe: Recipe, name: str) -> None:
    stages = recipe.stage
    if stages.pretrain is None and stages.gan is None:
        raise RecipeError(f"{name}: a recipe needs [stage.pretrain], [stage.gan] or both")
    if recipe.data.patch_size % recipe.generator.scale:
        raise RecipeError(
            f"{name}: data.patch_size must be a multiple of the scale {recipe.generator.scale}, "
            f"not {recipe.data.patch_size}"
        )
    if stages.gan and stages.gan.perceptual_weight > 0 and not stages.gan.features:
        raise RecipeError(
            f"{name}: stage.gan.perceptual_weight is above 0, but no [[stage.gan.features]] is given"
        )
    if stages.gan and recipe.discriminator.dense and recipe.data.patch_size % 16:
        raise RecipeError(
            f"{name}: a discriminator with dense layers needs a data.patch_size that is a multiple of 16, "
            f"not {recipe.data.patch_size}"
        )
