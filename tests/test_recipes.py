"""Recipes are checked before anything runs, and what is wrong is said in one sentence."""

from pathlib import Path

import pytest

from crispen.errors import RecipeError
from crispen.training.recipe import StageTable, span_in_steps
from crispen.training.recipe_file import RECIPES, SCHEMA, load_recipe, recipe_schema, recipes
from crispen.training.schedule import learning_rate_at

MINIMAL = 'title = "t"\n[stage.pretrain]\nsteps = 10\n'


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_bundled_recipe_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.title
    assert recipe.cost
    assert dict(recipes())[name] == recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_bundled_recipe_says_what_to_expect(path: Path) -> None:
    """Editors find the schema, readers find what comes out."""
    schema, *head = path.read_text().split("\ntitle = ")[0].splitlines()
    assert schema == f"#:schema ./{SCHEMA.name}"
    assert all(line.startswith("# ") for line in head)
    assert "Expected:" in "".join(head)
    assert "easured" in "".join(head), "what was measured here, or that nothing was"


def test_the_shipped_schema_is_that_of_the_code() -> None:
    assert SCHEMA.read_text() == recipe_schema()


def test_spans_of_time() -> None:
    assert span_in_steps(7, steps_per_epoch=100) == 7
    assert span_in_steps("2 epochs", steps_per_epoch=50.5) == 101
    assert span_in_steps("0.5 epochs", steps_per_epoch=50) == 25
    assert span_in_steps("1 epoch", steps_per_epoch=0.01) == 1


def test_the_papers_schedule() -> None:
    """Section 3.2: 10⁶ steps at 1e-4, then 10⁵ at 1e-4 and 10⁵ at 1e-5."""
    recipe = load_recipe("srgan-vgg54")
    pretrain, gan = recipe.stage.pretrain, recipe.stage.gan
    assert pretrain is not None
    assert gan is not None
    assert (pretrain.steps, gan.steps, gan.adversarial_weight) == (10**6, 2 * 10**5, 1e-3)
    rates = [learning_rate_at(step, gan, steps=2 * 10**5) for step in (0, 10**5 - 1, 10**5, 2 * 10**5 - 1)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])
    (features,) = gan.features
    assert features.layers == {"relu5_4": pytest.approx(1 / 12.75**2, rel=1e-3)}


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
            r"unknown key stage.pretrain.learning_rat \(did you mean stage.pretrain.learning_rate\?\)",
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
        (MINIMAL.replace("10", "'3 weeks'"), "stage.pretrain.steps: .* not '3 weeks'"),
        (MINIMAL.replace("10", "'0.0 epochs'"), "stage.pretrain.steps: .* greater than 0, not '0.0 epochs'"),
        ("snapshot_every = '0 epochs'\n" + MINIMAL, "snapshot_every: .* greater than 0, not '0 epochs'"),
        (MINIMAL.replace("steps = 10", ""), "the key stage.pretrain.steps is missing"),
        (MINIMAL + "classifier_weight = 1", "no .stage.classifier. that trains one"),
        (
            MINIMAL + "[data]\non_device = true\n[data.degradation]\n",
            "data.on_device cannot be true with data.degradation, which is done on the processor",
        ),
        (
            MINIMAL + "[stage.gan]\nsteps = 5\nperceptual_weight = 0\ndiscriminator_warmup_steps = 5",
            "stage.gan.discriminator_warmup_steps must be fewer than its 5 steps, .* not 5",
        ),
        (
            "generator.equivariant = true\n" + MINIMAL,
            "generator.equivariant needs generator.batch_norm = false",
        ),
        (
            "generator = { equivariant = true, batch_norm = false, num_features = 20 }\n" + MINIMAL,
            "generator.equivariant needs a generator.num_features that is a multiple of 8, not 20",
        ),
        ("accumulate = 3\n" + MINIMAL, "data.batch_size must be a multiple of accumulate, 3, not 16"),
        (
            "accumulate = 16\n"
            + MINIMAL
            + "[data]\npatch_size = 16\n[stage.gan]\nsteps = 500\nperceptual_weight = 0",
            "discriminator.batch_norm needs more than one value .* of 16 leaves .*batch_size of 16 in as many parts",
        ),
        (
            "generator.batch_norm = true\n" + MINIMAL + "[data]\npatch_size = 4\nbatch_size = 1",
            "generator.batch_norm needs more than one value .* of 4 leaves .*batch_size of 1 in as many parts",
        ),
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


@pytest.mark.parametrize(
    ("override", "suggested"),
    [
        ("learning_rate=1e-4", "stage.pretrain.learning_rate or stage.gan.learning_rate"),
        ("data.steps=3", "stage.pretrain.steps or stage.gan.steps"),
        ("patchsize=48", "data.patch_size"),
        ("stage.gan.clean_share=0.5", "data.degradation.clean_share"),
        ("stage.gan.features=[{ network='vgg16', layers={ pool5=1 }, los='l1' }]", "stage.gan.features.loss"),
        ("generator.num_feature=3", "generator.num_features"),
    ],
)
def test_the_nearest_key_is_suggested_with_its_table(tmp_path: Path, override: str, suggested: str) -> None:
    recipe = written(tmp_path, MINIMAL + "[stage.gan]\nsteps = 1\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides=[override])
    assert str(caught.value).endswith(f"(did you mean {suggested}?)")


def test_a_recipe_is_its_name_its_path_or_itself(tmp_path: Path) -> None:
    named = load_recipe("srgan-x4-photo")
    assert load_recipe(RECIPES / "srgan-x4-photo.toml") == load_recipe(named) == named
    path = written(tmp_path, MINIMAL)
    changed = load_recipe(load_recipe(path), overrides=["stage.gan.steps=3", "stage.gan.perceptual_weight=0"])
    assert changed.stage.gan is not None
    assert (changed.stage.gan.steps, changed.title) == (3, "t")
    spoilt = load_recipe(changed, overrides=["data.degradation.clean_share=0.5"])
    assert spoilt.data.degradation is not None
    with pytest.raises(RecipeError, match=r"^recipe 't': unknown key generator\.blocks"):
        load_recipe(named.model_copy(update={"title": "t"}), overrides=["generator.blocks=1"])
    table = changed.data.model_copy(update={"patch_size": 30})
    with pytest.raises(RecipeError, match=r"^recipe 't': data\.patch_size must be a multiple of the scale 4"):
        load_recipe(changed.model_copy(update={"data": table}))


@pytest.mark.parametrize("override", ["steps", "title.x=1", "stage.pretrain.stepz=3"])
def test_bad_overrides_are_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe(written(tmp_path, MINIMAL), overrides=[override])


def test_a_second_round_that_is_changed_in_one_point_stays_gentle_in_the_others() -> None:
    chosen = load_recipe("srgan-x4-photo", overrides=["data.degradation.second.jpeg_quality=[90, 10]"])
    plain = load_recipe("srgan-x4-photo")
    assert chosen.data.degradation is not None
    assert plain.data.degradation is not None
    expected = plain.data.degradation.second.model_copy(update={"jpeg_quality": (90, 10)})
    assert chosen.data.degradation.second == expected
    assert expected.noise_sigma[1] < plain.data.degradation.first.noise_sigma[1]


def test_schedules() -> None:
    def rates(schedule: str, **more: int) -> list[float]:
        table = StageTable.model_validate({"steps": 100, "learning_rate": 1.0, "schedule": schedule, **more})
        return [learning_rate_at(step, table, steps=100) for step in range(100)]

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
