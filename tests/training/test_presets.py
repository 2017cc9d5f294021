"""Every task has settings that make a recipe, and the data's own recipe can be trained."""

import pytest

from labkit import models
from labkit.errors import LabError
from labkit.training import presets
from labkit.training.recipe import Recipe
from labkit.training.tasks import formats, of_data
from tests.training.tasks import tiny


@pytest.mark.parametrize("task", presets.TASKS)
@pytest.mark.parametrize("method", ["", "full", "lora", "ia3"])
def test_every_task_has_a_recipe_with_every_method(task, method):
    recipe = presets.recipe(task, "anything", **({"method": method} if method else {}))
    assert recipe.task == task and (not method or recipe.method == method)


def test_a_chat_on_a_scenarios_records_has_the_recipes_own_defaults():
    assert presets.recipe("chat", "medical") == Recipe("medical")


def test_changes_win_over_the_presets():
    recipe = presets.recipe("classify", "medical", learning_rate=0.5, base="minilm-l6", epochs=1)
    assert (recipe.learning_rate, recipe.epochs) == (0.5, 1)


def test_a_recipe_file_for_a_tasks_own_data_need_say_only_what_differs_from_the_preset(tmp_path):
    """On the command line: the file over the preset, what is typed over the file; the scenario is the data's."""
    from labkit import cli_train

    (tmp_path / "mine.toml").write_text('name = "mine"\nscenario = "legal"\nbatch_size = 4\nmethod = "lora"\n')
    data = formats.load("samples/sentiment")
    chosen, *_ = cli_train._chosen(None, tmp_path / "mine.toml", None, ["batch_size=8", "epochs=5"], None, None, "samples/sentiment", None)
    assert chosen == presets.of_data(data, name="mine", method="lora", batch_size=8, epochs=5)
    chosen, *_ = cli_train._chosen(None, None, None, None, None, None, "samples/sentiment", "embed")
    assert chosen == presets.of_data(data, task="embed")


def test_a_setting_that_there_is_not_is_named_with_its_file(tmp_path):
    for raw, match in (({"colour": 1}, "mine.toml: colour is not a setting"), ({"search": {}}, r"mine.toml has a \[search\] table"),
                       ({"epochs": "two"}, "epochs must be a int"), ({"task": "guess"}, "there is no task 'guess'")):
        with pytest.raises(LabError, match=match):
            presets.from_dict(raw, tiny.data("classify"), "mine.toml")


def test_another_task_is_refused_with_those_there_are():
    with pytest.raises(LabError, match="choose one of chat, classify"):
        presets.for_task("guess")


@pytest.mark.parametrize("kind", tiny.TASKS)
def test_the_recipe_of_some_data_fits_it(kind):
    data = tiny.data(kind)
    recipe = presets.of_data(data)
    assert recipe.scenario == of_data.group(data.name)
    of_data.check(recipe, data)


def test_embeddings_learn_by_what_the_data_offers():
    assert presets.of_data(tiny.data("classify"), task="embed").objective == "supervised_contrastive"
    assert presets.of_data(tiny.data("similarity"), task="embed").objective == "cosine_pairs"
    assert presets.of_data(tiny.data("embed")).objective == "info_nce"


def test_every_sample_has_a_recipe_that_fits_it():
    for entry in formats.catalogue():
        if entry.name.startswith("samples/"):
            data = formats.load(entry.name)
            of_data.check(presets.of_data(data), data)


def test_a_large_encoder_takes_berts_small_steps():
    assert presets.for_task("classify", "bert-base-uncased")["learning_rate"] == 3e-5 < presets.for_task("classify")["learning_rate"]
    assert presets.for_task("chat")["base"] == models.DEFAULT
