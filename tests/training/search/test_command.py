"""A search over real trainings of the tiny model, from the recipe's file to the report."""

import dataclasses
import subprocess
import sys

import optuna
import pytest

from labkit import places, runs
from labkit.errors import LabError
from labkit.training import presets, trainer
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe
from labkit.training.search import command, space, trials
from tests.training.tasks import tiny

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


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    return tiny.save_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture()
def task_file(tiny_bert, tmp_path):
    """Nothing but what differs from the task's preset, and what is searched."""
    path = tmp_path / "task.toml"
    path.write_text(f'name = "mine"\nbase = "{tiny_bert}"\nepochs = 2\nprecision = "fp32"\nlearning_rate = 1e-3\n'
                    "[search]\nlearning_rate = {low = 1e-5, high = 1e-1, log = true}\n")
    return path


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_tasks_own_data_is_searched_on_by_its_own_metric_and_the_search_goes_on(task_file, tiny_bert, workers):
    data = tiny.data("classify", 16)
    options = {"seeds": 2 if workers == 1 else 0, "pruner": "none", "workers": workers, "say": lambda line: None}
    run = lambda trials: command.run(task_file, data, trials=trials, **options)  # noqa: E731
    done = run(3)
    report = done.report
    assert done.folder == places.runs_folder() / "searches" / "classify" / "mine" and runs.catalogue() == []
    assert (report["scenario"], report["monitor"], report["direction"]) == ("classify", "accuracy", "maximise")
    own = presets.of_data(data, name="mine", base=tiny_bert, epochs=2, precision="fp32", learning_rate=1e-3, monitor="accuracy")
    assert report["recipe"] == recipes.plain(own)
    measured = [row["validation"]["accuracy"] for row in trainer.train_task(own, data).metrics() if "validation" in row]
    (first,) = [row for row in report["trials"] if row["settings"] == {"learning_rate": 1e-3}]
    assert [value for _, value in first["reports"]] == measured and first["value"] == measured[-1]
    assert report["best"]["value"] == max(row["value"] for row in report["trials"])
    assert report["noise"] is None or len(report["noise"]["best"]) == 2
    assert recipes.read(done.paths["best.toml"]).scenario == "classify" and not list((done.folder / "trials").glob("*/*"))
    again = run(4)
    assert again.report["trials"][:3] == report["trials"] and again.report["counts"]["complete"] == 4
    with pytest.raises(LabError, match="other data"):
        command.run(task_file, dataclasses.replace(data, labels=("rock", "apple")), trials=3, folder=done.folder, say=lambda line: None)


@pytest.mark.parametrize(("kind", "task"), [*((kind, tiny.TASKS[kind]) for kind in tiny.METRICS), ("classify", "embed"),
                                            ("similarity", "embed")])
def test_what_trials_are_compared_by_is_measured_for_every_task(kind, task, tiny_bert, tiny_base):
    base = tiny_base if task == "chat" else tiny_bert
    data = tiny.data(kind)
    recipe = presets.from_dict({"task": task, "base": base, "epochs": 1, "monitor": presets.monitor(task, data)}, data)
    rows = trainer.train_task(recipe, data).metrics()
    assert trials.measured(rows[-1], recipe.monitor) is not None


def test_a_monitor_that_the_file_names_stays(task_file):
    task_file.write_text('monitor = "validation_loss"\n' + task_file.read_text())
    assert space.read(task_file, tiny.data("classify"))[0].monitor == "validation_loss"


def test_a_search_on_data_that_does_not_fit_is_refused_before_anything_is_trained(task_file):
    data = tiny.data("classify")
    splits = {"train": data.splits["train"], "validation": data.splits["validation"].remove_columns("label")}
    with pytest.raises(LabError, match="classify has no validation split with answers"):
        command.run(task_file, dataclasses.replace(data, splits=splits))
    task_file.write_text('task = "regress"\n' + task_file.read_text())
    with pytest.raises(LabError, match="task is 'regress', but classify is for 'classify'"):
        command.run(task_file, data)
    assert not places.runs_folder().exists()


@pytest.mark.slow
def test_the_command_searches_on_a_tasks_own_data(task_file):
    done = subprocess.run([sys.executable, "-c", "from labkit.cli import main; main()", "search", str(task_file), "--data",
                           "samples/sentiment", "--trials", "2", "--seeds", "0"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "with accuracy = " in done.stdout
    assert (places.runs_folder() / "searches" / "samples-sentiment" / "mine" / "report.html").exists()
