"""Recipes are checked before anything runs, and what is wrong is said in one sentence."""

from pathlib import Path

import pytest

from crispen.errors import RecipeError
from crispen.training.recipe import RECIPES, StageTable, load_recipe, recipes
from crispen.training.schedule import learning_rate_at

MINIMAL = 'title = "t"\n[stage.pretrain]\nsteps = 10\n'


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_bundled_recipe_is_valid(name: str) -> None:
    assert load_recipe(name).title
    assert name in dict(recipes())


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, MINIMAL))
    assert (recipe.generator.num_blocks, recipe.generator.num_features, recipe.generator.batch_norm) == (
        16,
        64,
        True,
    )
    assert (recipe.data.patch_size, recipe.data.batch_size) == (96, 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MINIMAL + "learning_rat = 1",
            r"unknown key stage.pretrain.learning_rat \(did you mean learning_rate\?\)",
        ),
        ("generatr = 1\n" + MINIMAL, r"unknown key generatr \(did you mean generator\?\)"),
        (
            MINIMAL + "schedule = 'sine'",
            "stage.pretrain.schedule: Input should be 'constant', 'cosine' or 'halves'",
        ),
        ("title = 't'\n[stage]\n", "needs .stage.pretrain., .stage.gan. or both"),
        (MINIMAL + "[data]\npatch_size = 30", "multiple of the scale 4, not 30"),
        ("title = 't'\n[stage.gan]\nsteps = 1", "no ..stage.gan.features.. is given"),
        ("title = ", "not readable as TOML"),
        (MINIMAL.replace("10", "-1"), "stage.pretrain.steps: .* not -1"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'srresnet-x5' \(did you mean srresnet-x4\?\)"):
        load_recipe("srresnet-x5")


def test_overrides_reach_into_tables(tmp_path: Path) -> None:
    overrides = ["stage.pretrain.learning_rate=2e-3", "title=another", "generator.batch_norm=false"]
    recipe = load_recipe(written(tmp_path, MINIMAL), overrides=overrides)
    assert recipe.stage.pretrain is not None
    assert recipe.stage.pretrain.learning_rate == 2e-3
    assert (recipe.title, recipe.generator.batch_norm) == ("another", False)


@pytest.mark.parametrize("override", ["steps", "title.x=1", "stage.pretrain.stepz=3"])
def test_bad_overrides_are_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe(written(tmp_path, MINIMAL), overrides=[override])


def test_schedules() -> None:
    def rates(schedule: str, **more: int) -> list[float]:
        table = StageTable.model_validate({"steps": 100, "learning_rate": 1.0, "schedule": schedule, **more})
        return [learning_rate_at(step, table) for step in range(100)]

    assert set(rates("constant")) == {1.0}
    assert rates("halves")[49:51] == [1.0, 0.1]
    cosine = rates("cosine")
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[0] == 1.0
    assert cosine[50] == pytest.approx(0.5)
    assert cosine[-1] < 1e-3
    warm = rates("constant", warmup_steps=9)
    assert warm[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert set(warm[10:]) == {1.0}
