"""A task's own data as what a learner learns from: names, fingerprints, what is refused, what is said before training."""

import dataclasses

import pytest

from labkit import models, runs
from labkit.errors import LabError
from labkit.training import presets, trainer
from labkit.training.tasks import formats, of_data, texts
from tests.training.tasks import tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.mark.parametrize("name", [entry.name for entry in formats.catalogue()])
def test_every_data_sets_name_becomes_a_folders(name):
    assert runs.folder_for(of_data.group(name), "default").parent.name == of_data.group(name)
    assert of_data.group(of_data.group(name)) == of_data.group(name)
    assert of_data.group("glue/sst2") == "glue-sst2"


def test_the_fingerprint_sees_rows_splits_labels_and_their_order():
    data = tiny.data("classify")
    change = lambda **changes: of_data.fingerprint(dataclasses.replace(data, **changes))  # noqa: E731
    first = of_data.fingerprint(data)
    assert first == change(name="another name", source="elsewhere") and len(first) == 64
    train = data.splits["train"]
    others = [change(labels=("apple", "stone")), change(splits={**data.splits, "train": train.select(range(7))}),
              change(splits={**data.splits, "train": train.select([1, 0, *range(2, 8)])}), change(splits={"train": train})]
    assert len({first, *others}) == 5


def test_a_recipe_for_another_task_or_with_a_scenarios_fields_is_refused(base):
    for changes, match in (({"task": "regress"}, "is for 'classify'"), ({"fields": ("label",)}, "leave fields empty"),
                           ({"task": "embed", "objective": "info_nce"}, "does not fit this data")):
        with pytest.raises(LabError, match=match):
            of_data.check(tiny.recipe(base, "classify", **changes), tiny.data("classify"))
    with pytest.raises(LabError, match="must be the same"):
        of_data.check(tiny.recipe(base, "pairs", task="embed"), tiny.data("pairs"))  # pairs with labels are no similarities


def test_a_label_that_does_not_exist_is_refused_with_its_row(base):
    data = tiny.data("classify")
    wrong = dataclasses.replace(data, labels=("stone",))
    with pytest.raises(LabError, match="row train-2: label 1 is none of 1"):
        of_data.learner(tiny.recipe(base, "classify"), wrong, models.resolve(base))


def test_a_split_without_answers_is_not_measured_on(base):
    data = tiny.data("classify")
    bare = dataclasses.replace(data, splits={**data.splits, "validation": data.splits["validation"].remove_columns("label")})
    recipe = tiny.recipe(base, "classify")
    learner, _ = of_data.learner(recipe, bare, models.resolve(base))
    assert learner.data.held_out == [] and learner.measure() == {} and learner.answers() == []
    tokenizer = texts.tokenizer_of(models.resolve(base))
    with pytest.raises(LabError, match="published without answers"):
        of_data.part(recipe, bare, "validation", tokenizer, learner.data.heads)
    with pytest.raises(LabError, match="has no split 'other', only train, validation, test"):
        of_data.part(recipe, bare, "other", tokenizer, learner.data.heads)


@pytest.mark.parametrize("kind", ["classify", "pairs", "multi_label", "regress", "embed"])
def test_what_is_cut_off_is_counted_before_training(base, kind):
    """A limit of 8 tokens: how many texts are longer is counted by the tokenizer alone."""
    recipe = tiny.recipe(base, kind, max_tokens=8)
    tokenizer = texts.tokenizer_of(models.resolve(base))
    learner, described = of_data.learner(recipe, tiny.data(kind), models.resolve(base))
    columns = ["anchor", "positive", "negative"] if kind == "embed" else ["text", "text_pair"]
    long = set()
    for split in ("train", "validation"):
        rows = tiny.data(kind).splits[split]
        for number, row in enumerate(rows, 1):
            said = [[row[name] for name in columns if name in row]] if kind != "embed" else [[row[name]] for name in columns]
            if any(len(tokenizer(*each)["input_ids"]) > 8 for each in said):
                long.add(f"{split}-{number}")
    found = {name for name in learner.data.cut if not name.endswith("to be found")}
    assert found <= long and (kind == "embed" or found == long) and long
    assert described["cut_off"] == learner.data.cut
    lines = of_data.warnings(learner)
    assert lines and all("longer than 8 tokens" in line and "raise max_tokens" in line for line in lines)
    assert all(len(example.tokens) <= 8 for example in learner.data.train + learner.data.held_out)


def test_nothing_is_warned_of_where_nothing_is_cut(base):
    for kind in ("classify", "tag", "span", "embed"):
        assert of_data.warnings(of_data.learner(tiny.recipe(base, kind), tiny.data(kind), models.resolve(base))[0]) == []


def test_a_number_is_learned_by_the_training_splits_mean_and_deviation(base):
    (head,) = of_data.heads(tiny.recipe(base, "regress"), tiny.data("regress"))
    values = [n % 6 for n in range(8)]  # as tiny makes them
    mean = sum(values) / 8
    assert head.centre == pytest.approx(mean)
    assert head.scale == pytest.approx((sum((value - mean) ** 2 for value in values) / 8) ** 0.5)


def test_the_tokenizers_limit_is_that_of_the_models_positions(tmp_path):
    small = tiny.save_tiny_bert(tmp_path / "small", max_position_embeddings=24)
    assert texts.limit_of(texts.tokenizer_of(models.resolve(small))) == 24
    data = tiny.data("pairs")
    learner, _ = of_data.learner(tiny.recipe(small, "pairs"), data, models.resolve(small))
    assert max(len(example.tokens) for example in learner.data.train) <= 24


def test_a_run_on_a_tasks_own_data_knows_where_it_came_from(base):
    run = trainer.train_task(tiny.recipe(base, "pairs", epochs=1), tiny.data("pairs"))
    described = run.manifest()["data"]
    assert described["name"] == "pairs" and described["licenses"] == ["CC0-1.0"] and described["sources"] == ["test"]
    assert (described["train"], described["validation"], described["test"]) == (8, 6, 6)
    assert described["fingerprint"] == of_data.fingerprint(tiny.data("pairs"))
    last = run.metrics()[-1]
    assert set(last["validation"]) == {"f1", "accuracy", "macro_f1"}  # the data's own metrics, and what tells most of any classifier
    assert last["answers"][0]["prompt"] == "\n".join(tiny.data("pairs").validation[0][key] for key in ("text", "text_pair"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "metric", "margin"), [("samples/sentiment", "accuracy", 0.2), ("samples/names", "entity_f1", 0.4)])
def test_the_embedded_encoder_learns_a_sample_far_beyond_guessing(name, metric, margin):
    """Beyond the most frequent label, or beyond finding nothing."""
    data = formats.load(name)
    labels = data.validation["label"][:] if metric == "accuracy" else []
    guessed = max(labels.count(label) for label in labels) / len(labels) if labels else 0.0
    run = trainer.train_task(presets.of_data(data, epochs=5, max_tokens=128, checkpoint_steps=1000), data)
    assert run.metrics()[-1]["validation"][metric] > guessed + margin
