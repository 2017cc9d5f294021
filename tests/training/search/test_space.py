"""What may be searched: read from TOML, checked against the recipe, conditions and grids."""

import itertools

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.training.recipe import Recipe
from labkit.training.search import space as spaces

RECIPE = Recipe(scenario="x")


def test_a_recipe_and_its_space_are_read_from_one_file(tmp_path):
    (tmp_path / "r.toml").write_text("""
scenario = "legal"
epochs = 2
[search]
learning_rate = {low = 1e-4, high = 1e-2, log = true}
layers = {low = 4, high = 12, step = 2}
schedule = ["cosine", "linear"]
method = ["lora", "full"]
rank = {choices = [8, 16], only_if = {method = "lora"}}
""")
    recipe, space = spaces.read(tmp_path / "r.toml")
    assert recipe == Recipe(scenario="legal", epochs=2)
    assert space.names == ["learning_rate", "layers", "schedule", "method", "rank"] and space.is_conditional
    assert space.default() == {"learning_rate": 2e-3, "layers": 8, "schedule": "cosine", "method": "lora", "rank": 32}
    assert space.dimensions[1].values() == [4, 6, 8, 10, 12]
    assert not space.holds(space.default())  # the recipe's rank, 32, is not among those searched


@pytest.mark.parametrize(("table", "says"), [
    ({"colour": [1, 2]}, "colour: not a setting"),
    ({"seed": [1, 2]}, "luck"),
    ({"fields": [["a"], ["b"]]}, "only numbers"),
    ({"rank": 3}, "must be a list"),
    ({"rank": [8]}, "at least two"),
    ({"rank": [8, 8]}, "twice"),
    ({"rank": [8, 16.0]}, "16.0 is not of the setting's type"),
    ({"rank": {"low": 1}}, "high is missing"),
    ({"rank": {"low": 8, "high": 4}}, "below high"),
    ({"rank": {"low": 1.5, "high": 4}}, "whole number"),
    ({"rank": {"low": 0, "high": 4}}, "search.rank: 0 cannot be"),
    ({"rank": {"low": 1, "high": 4, "step": 2}}, "multiple of step"),
    ({"rank": {"low": 1, "high": 4, "steps": 1}}, "unknown key steps"),
    ({"weight_decay": {"low": 0.0, "high": 1.0, "log": True}}, "above 0"),
    ({"weight_decay": {"low": 0.1, "high": 1.0, "log": True, "step": 0.1}}, "either log or step"),
    ({"dropout": {"low": 0.0, "high": 1.0}}, "1.0 cannot be"),
    ({"schedule": ["cosine", "magic"]}, "magic"),
    ({"schedule": {"low": 1, "high": 2}}, "no number"),
    ({"rank": {"choices": [8, 16], "only_if": {"method": "lora"}}}, "method is not searched"),
    ({"method": ["lora", "full"], "rank": {"choices": [8, 16], "only_if": {"method": "ia3"}}}, "can never be 'ia3'"),
    ({"rank": {"choices": [8, 16], "only_if": {"alpha": 1}}, "alpha": {"choices": [1, 2], "only_if": {"rank": 8}}}, "wait for each other"),
    ({}, "at least one"),
])
def test_what_cannot_be_searched_is_named_with_its_file_and_key(table, says):
    with pytest.raises(LabError, match="my.toml.*search") as error:
        spaces.of(RECIPE, table, "my.toml")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_file_without_a_search_table_says_what_to_write(tmp_path):
    (tmp_path / "r.toml").write_text('scenario = "x"\n')
    with pytest.raises(LabError, match=r"no table \[search\]"):
        spaces.read(tmp_path / "r.toml")


def test_a_condition_keeps_a_setting_at_the_recipes_value_where_it_does_not_hold():
    space = spaces.of(RECIPE, {"rank": {"choices": [8, 16], "only_if": {"method": ["lora", "dora"]}}, "method": ["lora", "full", "dora"]})
    assert space.names == ["method", "rank"]  # what is depended on comes first
    found = {method: space.suggest(optuna.trial.FixedTrial({"method": method, "rank": 8})) for method in ("lora", "full", "dora")}
    assert {method: each["rank"] for method, each in found.items()} == {"lora": 8, "full": 32, "dora": 8}
    assert space.active(found["full"]) == {"method": "full"}


def test_a_grid_has_every_combination_once_and_no_more_where_a_condition_does_not_hold():
    space = spaces.of(RECIPE, {"method": ["lora", "full"], "rank": {"choices": [8, 16], "only_if": {"method": "lora"}},
                               "layers": {"low": 4, "high": 8, "step": 4}})
    found = [(each["method"], each["rank"], each["layers"]) for each in space.grid()]
    assert sorted(found) == sorted([*itertools.product(["lora"], [8, 16], [4, 8]), *itertools.product(["full"], [32], [4, 8])])


def test_a_grid_over_an_endless_range_is_refused():
    with pytest.raises(LabError, match="step"):
        list(spaces.of(RECIPE, {"learning_rate": {"low": 0.1, "high": 0.2}}).grid())


@given(low=st.integers(1, 50), count=st.integers(1, 10), step=st.integers(1, 5), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_what_is_suggested_is_one_of_the_values_and_a_recipe(low, count, step, seed):
    space = spaces.of(RECIPE, {"rank": {"low": low, "high": low + count * step, "step": step}, "dropout": {"low": 0.0, "high": 0.5}})
    assert space.dimensions[0].values() == [low + place * step for place in range(count + 1)]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found = space.suggest(study.ask())
    assert space.holds(found)
    assert spaces.apply(RECIPE, found).rank == found["rank"]
