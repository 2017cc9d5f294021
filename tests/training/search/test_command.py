"""A search over real trainings of the tiny model, from the recipe's file to the report."""

import dataclasses

import optuna
import pytest

from labkit import places, runs
from labkit.errors import LabError
from labkit.training import recipe as recipes
from labkit.training import trainer
from labkit.training.recipe import Recipe
from labkit.training.search import command, trials

SEARCH = "\n[search]\nlearning_rate = {low = 1e-3, high = 1e-1, log = true}\nlayers = [1, 2]\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch, tiny_base):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture()
def recipe(tiny_base):
    return Recipe(scenario="small", base=tiny_base, rank=4, layers=2, learning_rate=1e-3, epochs=2, batch_size=4, precision="fp32")


@pytest.fixture()
def recipe_file(recipe, tmp_path):
    recipes.write(recipe, tmp_path / "recipe.toml")
    with (tmp_path / "recipe.toml").open("a") as file:
        file.write(SEARCH)
    return tmp_path / "recipe.toml"


def test_three_trials_from_the_recipes_file_to_the_report(recipe, recipe_file, small_records, small_scenario):
    said, told = [], []
    done = command.run(recipe_file, small_records, small_scenario, trials=3, seeds=2, pruner="none", on_trial=told.append, say=said.append)
    report = done.report
    assert done.folder == places.runs_folder() / "searches" / "small" / "default" and runs.catalogue() == []
    assert [row["state"] for row in report["trials"]] == ["complete"] * 3 and len(told) == 3
    assert report["trials"][0]["settings"] == {"learning_rate": recipe.learning_rate, "layers": 2}  # the recipe's own come first
    own = trainer.train(recipe, small_records, small_scenario).metrics()
    assert report["trials"][0]["reports"] == [[1, own[1]["validation_loss"]], [2, own[3]["validation_loss"]]]
    assert report["trials"][0]["value"] == own[3]["validation_loss"]
    assert report["best"]["value"] == min(row["value"] for row in report["trials"])
    tuned = recipes.read(done.paths["best.toml"])
    assert tuned == dataclasses.replace(recipe, **report["best"]["settings"], name="default-tuned")
    again = trainer.train(dataclasses.replace(tuned, seed=1), small_records, small_scenario).metrics()
    assert report["noise"]["seeds"] == [1, 2] and report["noise"]["best"][0] == again[-1]["validation_loss"]
    assert not list((done.folder / "trials").glob("*/*"))  # no run is left
    owners = [manifest.read_text() for manifest in (places.cache_folder() / "frozen").glob("*/manifest.json")]
    assert not any("trial-" in owner for owner in owners)  # nor what was kept for one
    again = command.run(recipe_file, small_records, small_scenario, trials=3, seeds=2, pruner="none", say=said.append)
    assert again.report["trials"] == report["trials"]  # nothing is trained a second time


def test_a_pruned_training_leaves_neither_run_nor_lock(recipe, small_records, small_scenario, tmp_path):
    trial = trials.trial_of(recipe, small_records, small_scenario, tmp_path / "trials")

    def prune(step, value):
        raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        trial({"layers": 1}, prune)
    assert not list((tmp_path / "trials" / "small").iterdir())


def test_a_trial_is_not_pruned_once_it_is_trained(recipe, small_records, small_scenario, tmp_path):
    def prune(step, value):
        if step == 2:
            raise optuna.TrialPruned

    assert trials.trial_of(recipe, small_records, small_scenario, tmp_path / "trials")({}, prune) > 0


def test_a_training_that_was_cut_off_goes_on_and_reports_all(recipe, small_records, small_scenario, tmp_path):
    recipe = dataclasses.replace(recipe, checkpoint_steps=1)
    trial = trials.trial_of(recipe, small_records, small_scenario, tmp_path / "trials")
    whole = []
    value = trial({}, lambda step, value: whole.append((step, value)))

    def interrupt(step, value):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trial({}, interrupt)
    assert len(list((tmp_path / "trials" / "small").iterdir())) == 1
    reported = []
    assert trial({}, lambda step, value: reported.append((step, value))) == value and reported == whole


def test_records_without_a_validation_split_cannot_be_searched_on(recipe, small_records, small_scenario, tmp_path):
    train_only = small_records.filter(lambda split: split == "train", input_columns=["split"])
    with pytest.raises(LabError, match="validation"):
        trials.trial_of(recipe, train_only, small_scenario, tmp_path / "trials")({}, lambda step, value: None)


def test_a_recipe_of_another_scenario_and_a_single_seed_are_refused(recipe_file, small_records, small_scenario):
    with pytest.raises(LabError, match="the recipe is for small"):
        command.run(recipe_file, small_records, dataclasses.replace(small_scenario, name="other"))
    with pytest.raises(LabError, match="at least 2"):
        command.run(recipe_file, small_records, small_scenario, seeds=1)
