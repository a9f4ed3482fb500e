"""Recipes as files: bundled or one's own TOML, overrides from the command line, and mistakes in one sentence."""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from crispen.errors import RecipeError
from crispen.training.recipe import GanTable, GeneratorStageTable, Recipe, StageTable

RECIPES = Path(__file__).parent / "recipes"
SCHEMA = RECIPES / "recipe.schema.json"
"""The JSON schema of a recipe, which editors complete and check with (``#:schema`` in a recipe's first line)."""


def recipes() -> list[tuple[str, Recipe]]:
    """The bundled recipes by name."""
    return [(path.stem, load_recipe(path.stem)) for path in sorted(RECIPES.glob("*.toml"))]


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a bundled recipe or of one's own; `RecipeError` where there is none."""
    bundled = RECIPES / f"{name_or_path}.toml"
    if bundled.is_file():
        return bundled
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = sorted(recipe.stem for recipe in RECIPES.glob("*.toml"))
    hint = _suggestion(str(name_or_path), known) or f"; bundled are {', '.join(known)}"
    raise RecipeError(f"there is no recipe {str(name_or_path)!r}{hint}")


def load_recipe(source: str | Path | Recipe, *, overrides: Sequence[str] = ()) -> Recipe:
    """Take a recipe by name if it is bundled, or any by path or as it is; apply ``key.of.a.table=value`` overrides.

    Raises:
        RecipeError: in one sentence, for a recipe that is unknown, unreadable or wrong.
    """
    if isinstance(source, Recipe):
        name, values = f"recipe {source.title!r}", source.model_dump(exclude_unset=True, warnings=False)
    else:
        path = find_recipe(source)
        name, values = path.name, _read(path)
    for override in overrides:
        _override(values, override)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{name}: {_first_problem(error, values)}") from error
    for problem in _contradictions(recipe):
        raise RecipeError(f"{name}: {problem}")
    return recipe


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not readable as TOML: {error}") from error


def recipe_schema() -> str:
    """The JSON schema as text, as it stands in `SCHEMA`."""
    return json.dumps(Recipe.model_json_schema(), indent=2) + "\n"


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"--set takes key=value, as in stage.gan.learning_rate=1e-4, not {override!r}")
    *tables, last = key.strip().split(".")
    for table in tables:
        if values.get(table) is None:
            values[table] = {}
        inner: object = values[table]
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override}: {table} is not a table of the recipe")
        values = cast(dict[str, Any], inner)
    try:
        values[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = value.strip()


def _first_problem(error: ValidationError, values: Mapping[str, Any]) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("constrained"))
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where}{_suggested_keys(problem['loc'], values)}"
    if problem["type"] == "missing":
        return f"the key {where} is missing"
    return f"{where}: {problem['msg']}, not {problem['input']!r}"


def _suggested_keys(unknown: Sequence[str | int], values: Mapping[str, Any]) -> str:
    """The known keys that are most like an unknown one, in its own table or else in those that the recipe has."""
    *table, word = [part for part in unknown if isinstance(part, str)]
    known = list(_keys(Recipe))
    near = difflib.get_close_matches(word, {key[-1] for key in known}, n=1)
    alike = [key for key in known if near and key[-1] == near[0]]
    chosen = [key for key in alike if key[:-1] == tuple(table)]
    chosen = chosen or [key for key in alike if _has_table(values, key[:-1])] or alike
    return f" (did you mean {' or '.join('.'.join(key) for key in chosen)}?)" if chosen else ""


def _has_table(values: Mapping[str, Any], table: Sequence[str]) -> bool:
    """Whether a recipe has a table, or an array of such."""
    inner: object = values
    for name in table:
        inner = cast("Mapping[str, object]", inner).get(name) if isinstance(inner, Mapping) else None
    return bool(inner)


def _keys(table: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys of a table and of all tables in it, each with those that lead to it."""
    for name, field in table.model_fields.items():
        yield (*above, name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _keys(kind, (*above, name))


def _suggestion(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _contradictions(recipe: Recipe) -> Iterator[str]:
    """What a recipe says that cannot be done together."""
    stages, patch_size = recipe.stage, recipe.data.patch_size
    if stages.pretrain is None and stages.gan is None:
        yield "a recipe needs [stage.pretrain], [stage.gan] or both"
    if patch_size % recipe.generator.scale:
        yield f"data.patch_size must be a multiple of the scale {recipe.generator.scale}, not {patch_size}"
    if recipe.generator.equivariant and recipe.generator.batch_norm:
        yield "generator.equivariant needs generator.batch_norm = false"
    if recipe.generator.equivariant and recipe.generator.num_features % 8:
        yield (
            "generator.equivariant needs a generator.num_features that is a multiple of 8, not"
            f" {recipe.generator.num_features}"
        )
    if stages.gan and recipe.discriminator.head == "dense" and patch_size % 16:
        yield f"a discriminator with a dense head needs a data.patch_size that is a multiple of 16, not {patch_size}"
    yield from parts_contradictions(recipe, parts=recipe.accumulate, called="accumulate")
    if recipe.data.on_device and recipe.data.degradation:
        yield "data.on_device cannot be true with data.degradation, which is done on the processor"
    for name, table in (("pretrain", stages.pretrain), ("gan", stages.gan)):
        if table:
            yield from _stage_contradictions(name, table, has_classifier=stages.classifier is not None)


def parts_contradictions(recipe: Recipe, *, parts: int, called: str) -> Iterator[str]:
    """What is wrong with batches that are taken in so many parts, which may be known only once the processes are.

    The parts must be equal, or their means would not be the mean of the whole; and batch norm needs two values of each
    channel, where a discriminator sees a picture at a sixteenth of its size in the end.
    """
    data, scale = recipe.data, recipe.generator.scale
    if data.batch_size % parts:
        yield f"data.batch_size must be a multiple of {called}, {parts}, not {data.batch_size}"
        return
    sides = {
        "generator": data.patch_size // scale if recipe.generator.batch_norm else None,
        "discriminator": math.ceil(data.patch_size / 16)
        if recipe.stage.gan and recipe.discriminator.batch_norm
        else None,
    }
    for network, side in sides.items():
        if side == 1 and data.batch_size == parts:
            yield (
                f"{network}.batch_norm needs more than one value of each channel, but a data.patch_size of"
                f" {data.patch_size} leaves it one pixel of a picture, and a data.batch_size of {data.batch_size} in as"
                " many parts one picture: take larger patches or more pictures"
            )


def _stage_contradictions(name: str, table: GeneratorStageTable, *, has_classifier: bool) -> Iterator[str]:
    if table.perceptual_weight > 0 and not table.features:
        yield f"stage.{name}.perceptual_weight is above 0, but no [[stage.{name}.features]] is given"
    uses_classifier = table.classifier_weight > 0 or (
        isinstance(table, GanTable) and table.classifier_discriminator_weight > 0
    )
    if uses_classifier and not has_classifier:
        yield f"stage.{name} has a weight for a classifier, but there is no [stage.classifier] that trains one"
    if isinstance(table.steps, int):
        yield from warmup_contradictions(table, steps=table.steps)


def warmup_contradictions(table: StageTable, *, steps: int) -> Iterator[str]:
    """What is wrong with the warm-up in a stage of so many steps, which may be known only once the pictures are."""
    if isinstance(table, GanTable) and table.discriminator_warmup_steps >= steps:
        yield (
            f"stage.gan.discriminator_warmup_steps must be fewer than its {steps} steps, or the generator never "
            f"learns, not {table.discriminator_warmup_steps}"
        )
