"""Runs on a task's own data are measured with intervals: every measure equals task_metrics' own, and the files say what was measured."""

import json

import numpy as np
import pytest

from labkit.errors import LabError
from labkit.evaluation import task_metrics, task_report
from labkit.training import trainer
from labkit.training.tasks.task import Judged
from tests.training.tasks import tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


def judged(measure, truth, predicted, **changes):
    ids = [str(row) for row in range(len(truth))]
    return Judged(**{"measure": measure, "ids": ids, "truth": truth, "predicted": predicted, "clusters": ids, **changes})


DRAW = np.random.default_rng(0)
CASES = {
    "classify": (DRAW.integers(0, 2, 40).tolist(), DRAW.integers(0, 2, 40).tolist(),
                 ("accuracy", "macro_f1", "matthews", "f1", "weighted_f1", "macro_recall", "precision")),
    "multi_label": ([["a"], ["a", "b"], [], ["b"]] * 5, [["a"], ["b"], [], ["a", "b"]] * 5,
                    ("exact_match", "micro_f1", "macro_f1", "weighted_f1")),
    "regress": (DRAW.normal(size=30).tolist(), DRAW.normal(size=30).tolist(),
                ("pearson", "spearman", "mean_absolute_error", "mean_squared_error")),
    "tag": ([["B-A", "I-A", "O"], ["O", "B-B"], ["B-A"]] * 4, [["B-A", "O", "O"], ["O", "B-B"], ["B-B"]] * 4,
            ("entity_f1", "entity_precision", "entity_recall", "accuracy")),
    "span": ([["Rome"], [], ["the old town", "town"], ["Oslo"]] * 4, ["Rome", "", "old", "Lima"] * 4,
             ("f1", "exact_match", "has_answer_f1", "no_answer_accuracy")),
    "chat": (["a red stone", "a blue bird", "warm rain"] * 4, ["a red bird", "a blue bird", "rain"] * 4,
             ("exact_match", "f1", "rouge_l", "bleu", "chrf", "meteor")),
}


@pytest.mark.parametrize("task", CASES)
def test_each_measure_is_that_of_task_metrics_and_lies_in_its_interval(task):
    truth, predicted, names = CASES[task]
    found = task_report.intervals(judged(task, truth, predicted), names, resamples=100)
    assert {name: each["value"] for name, each in found.items()} == pytest.approx(task_metrics.score(task, truth, predicted, names))
    assert all(each["low"] <= each["value"] + 1e-9 and each["value"] <= each["high"] + 1e-9 for each in found.values())
    assert set(found) == set(names)


def test_an_accuracys_interval_is_about_that_of_the_normal_distribution():
    """0.7 over 400 rows: a standard error of sqrt(0.7 x 0.3 / 400) = 0.0229."""
    found = task_report.intervals(judged("classify", [1] * 400, [1] * 280 + [0] * 120), ("accuracy",))["accuracy"]
    assert found["low"] == pytest.approx(0.7 - 1.96 * 0.0229, abs=0.01) and found["high"] == pytest.approx(0.7 + 1.96 * 0.0229, abs=0.01)


def test_rows_of_a_cluster_are_drawn_together():
    """All rows in one cluster: every draw is the same, and the interval has no width."""
    found = task_report.intervals(judged("classify", [1, 0, 1], [1, 1, 1], clusters=["a"] * 3), ("accuracy",))["accuracy"]
    assert found["low"] == found["high"] == pytest.approx(2 / 3)


def test_ranks_give_recall_and_reciprocal_rank():
    found = task_report.intervals(judged("ranks", [1] * 4, [1, 2, 4, 20]), ("recall_at_1", "recall_at_10", "mean_reciprocal_rank"))
    assert found["recall_at_1"]["value"] == 0.25 and found["recall_at_10"]["value"] == 0.75
    assert found["mean_reciprocal_rank"]["value"] == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 20) / 4)


@pytest.mark.parametrize("kind", [kind for kind in tiny.TASKS if kind != "chat"])
def test_a_run_is_measured_on_its_test_split_and_the_files_say_so(base, kind):
    data = tiny.data(kind)
    run = trainer.train_task(tiny.recipe(base, kind, epochs=1), data)
    on_validation, _ = task_report.measure(run, data, "validation")
    last = run.metrics()[-1]["validation"]
    assert {name: each["value"] for name, each in on_validation["metrics"].items()} == pytest.approx(
        {name: last[name] for name in on_validation["metrics"]}, abs=1e-6)
    found = task_report.evaluate(run, data)
    assert json.loads((run.folder / "evaluation.json").read_text()) == found and run.evaluation() == found
    rows = [json.loads(line) for line in (run.folder / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == found["data"]["measured"] and found["data"]["split"] == "test" and found["data"]["same_as_trained_on"]
    card = (run.folder / "README.md").read_text()
    assert f"# {run.key}" in card and "95%" in card and "自助法" in card and run.manifest()["base"]["sha256"] in card
    if kind == "classify":
        assert found["beside"]["what"] == "most_frequent"
        assert found["beside"]["metrics"]["accuracy"] == pytest.approx(sum(label == 1 for label in data.splits["test"]["label"][:]) / 6)


@pytest.mark.parametrize(("kind", "objective", "measured"), [("classify", "supervised_contrastive", "recall_at_1"),
                                                             ("similarity", "cosine_pairs", "spearman")])
def test_embeddings_of_data_for_another_task_are_measured_as_embeddings_beside_the_bases(base, kind, objective, measured):
    run = trainer.train_task(tiny.recipe(base, kind, task="embed", objective=objective, epochs=1), tiny.data(kind))
    found = task_report.evaluate(run, tiny.data(kind))
    assert measured in found["metrics"] and found["beside"]["what"] == "base" and set(found["beside"]["metrics"]) == set(found["metrics"])
    last = run.metrics()[-1]["validation"]
    again, _ = task_report.measure(run, tiny.data(kind), "validation")
    assert again["metrics"][measured]["value"] == pytest.approx(last[measured], abs=1e-6)


def test_a_chat_run_is_measured_beside_its_base(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    run = trainer.train_task(tiny.recipe(tiny_base, "chat", method="lora", layers=2, epochs=1), tiny.data("chat"))
    found = task_report.evaluate(run, tiny.data("chat"))
    assert found["beside"]["what"] == "base" and set(found["metrics"]) == {"exact_match"}


def test_a_run_on_other_data_is_refused(base):
    run = trainer.train_task(tiny.recipe(base, "pairs", epochs=1), tiny.data("pairs"))
    with pytest.raises(LabError, match="was trained on pairs, not on classify"):
        task_report.evaluate(run, tiny.data("classify"))
    with pytest.raises(LabError, match="has no split 'other'"):
        task_report.evaluate(run, tiny.data("pairs"), "other")
