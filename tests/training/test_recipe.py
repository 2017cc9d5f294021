"""Recipes: TOML both ways, and clear refusals."""

import pytest

from labkit.errors import LabError
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe


def test_a_recipe_written_and_read_again_is_equal(tmp_path):
    recipe = Recipe(scenario="finance", learning_rate=3e-4, epochs=5, share_prefix=False)
    recipes.write(recipe, tmp_path / "r.toml")
    assert recipes.read(tmp_path / "r.toml") == recipe


@pytest.mark.parametrize(("changes", "says"), [
    ({"epochs": 0}, "epochs"), ({"epochs": 1.5}, "epochs"), ({"learning_rate": 0}, "learning_rate"), ({"method": "magic"}, "method"),
    ({"dropout": 1.0}, "dropout"), ({"precision": "int8"}, "precision"), ({"colour": 1}, "colour"), ({"rank": True}, "rank"),
])
def test_a_wrong_setting_is_named(changes, says):
    with pytest.raises(LabError, match=says):
        recipes.from_dict({"scenario": "x", **changes})


@pytest.mark.parametrize("changes", [
    {"label_smoothing": 0.1}, {"focal_gamma": 2.0}, {"class_weights": "balanced"}, {"task_weighting": "uncertainty"},
    {"contrastive_weight": 0.5}, {"task_sampling": "uniform"}, {"method": "full", "dropout": 0.1},
    {"task": "classify", "task_sampling": "uniform", "objective": "triplet"},
    {"task": "classify", "task_sampling": "uniform", "task_weighting": "gradient_norm"}], ids=str)
def test_a_setting_that_would_do_nothing_is_refused(changes):
    with pytest.raises(LabError, match="leave"):
        Recipe(scenario="x", **changes)
