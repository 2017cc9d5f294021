"""A run that is ready to answer: the same numbers as at the end of its training, in any batch, and plain refusals."""

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from labkit import runs
from labkit.errors import LabError
from labkit.training import predictor, trainer
from tests.training.tasks import tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """A finished run of each kind of data, made once."""
    made = {}

    def of(kind):
        if kind not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LABKIT_RUNS", str(tmp_path_factory.mktemp("runs")))
                made[kind] = trainer.train_task(tiny.recipe(base, kind, epochs=3), tiny.data(kind))
        return made[kind]

    return of


INPUTS = {"classify": lambda row: row["text"], "pairs": lambda row: (row["text"], row["text_pair"]), "multi_label": lambda row: row["text"],
          "regress": lambda row: row["text"], "tag": lambda row: row["tokens"], "span": lambda row: row}


@pytest.mark.parametrize("kind", INPUTS)
def test_it_says_what_was_measured_at_the_end_of_the_training(trained, kind):
    from labkit.evaluation import task_metrics

    run, data = trained(kind), tiny.data(kind)
    rows = data.validation.to_list()
    (name,) = {head.name for head in predictor.load(run).heads}
    said = [each[name]["value"] for each in predictor.load(run).predict([INPUTS[kind](row) for row in rows])]
    label = lambda value: [data.labels[each] for each in value] if isinstance(value, list) else value  # noqa: E731
    if kind in ("classify", "pairs"):
        said = [data.labels.index(value) for value in said]
    truth = [row["answers"]["text"] if kind == "span" else label(row["tags"]) if kind == "tag" else label(row["label"]) for row in rows]
    found = task_metrics.score(tiny.TASKS[kind], truth, said, data.metrics)
    measured = run.metrics()[-1]["validation"]
    assert found == pytest.approx({key: measured[key] for key in found}, abs=1e-6) and found


@pytest.mark.parametrize("kind", INPUTS)
def test_a_batch_says_what_each_input_alone_says(trained, kind):
    ready = predictor.load(trained(kind))
    inputs = [INPUTS[kind](row) for row in tiny.data(kind).splits["test"]]
    for one, value in zip(ready.predict(inputs), inputs, strict=True):
        (alone,) = ready.predict([value])
        for name in one:
            wanted = alone[name]["value"]
            assert one[name]["value"] == (pytest.approx(wanted, abs=1e-5) if kind == "regress" else wanted)
            if "probability" in one[name]:
                assert one[name]["probability"] == pytest.approx(alone[name]["probability"], abs=1e-5)
    assert ready.predict([]) == []


def test_probabilities_add_up_and_the_likeliest_is_the_answer(trained):
    for each in predictor.load(trained("classify")).predict(["red stone", "apple"]):
        shares = each["label"]["probabilities"]
        assert sum(shares.values()) == pytest.approx(1) and max(shares, key=shares.get) == each["label"]["value"]
        assert each["label"]["probability"] == max(shares.values())
    for each in predictor.load(trained("multi_label")).predict(["wet", "dark"]):
        assert each["label"]["value"] == [name for name, share in each["label"]["probabilities"].items() if share >= 0.5]


def test_a_text_can_be_tagged_and_its_entities_are_where_they_say(trained):
    (said,) = predictor.load(trained("tag")).predict(["Ada went to Rome."])
    assert said["tags"]["words"] == ["Ada", "went", "to", "Rome", "."]
    assert len(said["tags"]["value"]) == 5 == len(said["tags"]["probability"])
    for entity in said["tags"]["entities"]:
        assert entity["text"] == " ".join(said["tags"]["words"][entity["first"] : entity["end"]])


def test_a_span_stands_where_it_says(trained):
    context = "red blue. Ada lives in Oslo. old warm."
    (said,) = predictor.load(trained("span")).predict([{"question": "Where does Ada live?", "context": context}])
    if said["answer"]["place"]:
        first, end = said["answer"]["place"]
        assert context[first:end] == said["answer"]["value"]
    else:
        assert said["answer"]["value"] == ""
    assert sum(share for _, share in said["answer"]["best"]) <= 1 + 1e-6


def test_embeddings_are_means_over_the_texts_tokens_by_transformers_itself(trained):
    import torch
    from transformers import AutoModel, AutoTokenizer

    run = trained("embed")
    ready = predictor.load(run)
    model, tokenizer = AutoModel.from_pretrained(run.folder / "model").eval(), AutoTokenizer.from_pretrained(run.folder / "model")
    texts = ["red", "a blue stone", "long " * 20]
    found = ready.embed(texts)
    assert found.shape == (3, 32) and found.dtype == np.float32
    for text, vector in zip(texts, found, strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        assert np.allclose(vector, states.mean(0).numpy(), atol=1e-5)
    assert ready.embed([]).shape == (0, 32)
    with pytest.raises(LabError, match="call embed"):
        ready.predict(["red"])


def test_a_text_that_loses_its_end_says_so(trained):
    said = predictor.load(trained("classify")).predict(["short", "word " * 600])
    assert [each["label"]["cut"] for each in said] == [False, True]


def test_inputs_of_another_kind_are_refused_by_their_number(trained):
    for kind, value, match in (("classify", 3, "input 1 must be a text or a pair"),
                               ("tag", [], "input 1 must be a text or a list of words"),
                               ("span", "text", "input 1 must have a question and a context")):
        with pytest.raises(LabError, match=match):
            predictor.load(trained(kind)).predict([value])


def test_a_run_that_was_altered_or_whose_base_is_another_is_not_loaded(base, tmp_path):
    other = tiny.save_tiny_bert(tmp_path / "other")
    run = trainer.train_task(tiny.recipe(other, "classify", method="lora", epochs=1), tiny.data("classify"))
    predictor.load(run)
    weights = tmp_path / "other" / "model.safetensors"
    changed = load_file(weights)
    changed["embeddings.LayerNorm.bias"] += 1
    save_file(changed, weights, metadata={"format": "pt"})
    with pytest.raises(LabError, match="is here now; train it anew"):
        predictor.load(run)
    path = run.folder / "heads.safetensors"
    heads = load_file(path)
    save_file({name: value + 1 for name, value in heads.items()}, path)
    with pytest.raises(LabError, match="is damaged"):
        predictor.load(run)


def test_a_scenarios_run_answers_its_records_as_the_metrics_take_it(base, small_scenario, small_records):
    from labkit import records
    from labkit.evaluation import metrics

    recipe = tiny.recipe(base, "classify", scenario="small", fields=("kind", "weight"))
    run = trainer.train(recipe, small_records, small_scenario)
    held_out = records.in_split(small_records, "validation")
    rows = predictor.load(run).answers(held_out)
    assert [row["id"] for row in rows] == held_out["id"][:] and all(set(row["answer"]) == {"kind", "weight"} for row in rows)
    found = metrics.score(held_out, rows, small_scenario, resamples=10)["overall"]["fields"]
    measured = run.metrics()[-1]["validation"]
    assert found["kind"]["accuracy"]["value"] == pytest.approx(measured["kind.accuracy"])
    assert found["weight"]["mean_absolute_error"]["value"] == pytest.approx(measured["weight.mean_absolute_error"], abs=1e-4)
    assert all(0.5 <= row["scores"]["kind"] <= 1 for row in rows)


def test_a_chat_models_run_is_refused(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    run = trainer.train_task(tiny.recipe(tiny_base, "chat", method="lora", layers=2, epochs=1), tiny.data("chat"))
    with pytest.raises(LabError, match="is a chat model's"):
        predictor.load(runs.Run(run.folder))
