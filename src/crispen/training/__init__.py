"""Training: recipe, data, losses, steps, loop, checkpoint and run log. Needs the extra ``[train]``."""

from crispen.training.loop import Progress, train
from crispen.training.recipe import Recipe, load_recipe, recipes

__all__ = ["Progress", "Recipe", "load_recipe", "recipes", "train"]
