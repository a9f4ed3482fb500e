"""Training: recipe, data, losses, steps, loop, checkpoint and run log. Needs the extra ``[train]``."""

from crispen.training.loop import train
from crispen.training.progress import Progress
from crispen.training.recipe import Recipe
from crispen.training.recipe_file import load_recipe, recipes

__all__ = ["Progress", "Recipe", "load_recipe", "recipes", "train"]
